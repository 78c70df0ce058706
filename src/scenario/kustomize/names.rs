//! Labels, annotations, namespaces, prefixes and suffixes.
//!
//! Which fields they touch is read from tables that follow kustomize's
//! (`api/internal/konfig/builtinpluginconsts`). An object remembers its earlier names and namespaces
//! in annotations of kustomize's own, as long as the build goes on: patches, `replicas` and
//! references find it by any of them ([`super::references`]).

use crate::api::yaml::Node;
use crate::scenario::fields::{Fields, Problems, Value};

/// Earlier names, oldest first, separated by commas.
const PREVIOUS_NAMES: &str = "internal.config.kubernetes.io/previousNames";
/// Earlier namespaces, one for each earlier name.
const PREVIOUS_NAMESPACES: &str = "internal.config.kubernetes.io/previousNamespaces";

/// Kinds without a namespace.
const CLUSTER_SCOPED: [&str; 23] = [
    "APIService",
    "CSIDriver",
    "CSINode",
    "CertificateSigningRequest",
    "ClusterRole",
    "ClusterRoleBinding",
    "ComponentStatus",
    "CustomResourceDefinition",
    "DeviceClass",
    "FlowSchema",
    "IngressClass",
    "MutatingWebhookConfiguration",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PriorityClass",
    "PriorityLevelConfiguration",
    "ResourceSlice",
    "RuntimeClass",
    "StorageClass",
    "ValidatingAdmissionPolicy",
    "ValidatingWebhookConfiguration",
    "VolumeAttachment",
];

/// A field: kinds (separated by `|`, none for all), the group where it matters, the path, and
/// whether it is made when it is missing.
type Spec = (&'static str, &'static str, &'static str, bool);

/// `metadatalabels.go`.
const LABELS: [Spec; 5] = [
    ("", "", "metadata/labels", true),
    (
        "ReplicationController|Deployment|ReplicaSet|DaemonSet",
        "",
        "spec/template/metadata/labels",
        true,
    ),
    ("StatefulSet", "apps", "spec/template/metadata/labels", true),
    ("Job", "batch", "spec/template/metadata/labels", true),
    ("CronJob", "batch", "spec/jobTemplate/metadata/labels", true),
];
/// The last of `metadatalabels.go`.
const CRON_PODS: Spec = (
    "CronJob",
    "batch",
    "spec/jobTemplate/spec/template/metadata/labels",
    true,
);

/// `commonlabels.go`, without the labels themselves.
const SELECTORS: [Spec; 13] = [
    ("Service", "", "spec/selector", true),
    ("ReplicationController", "", "spec/selector", true),
    (
        "Deployment|ReplicaSet|DaemonSet",
        "",
        "spec/selector/matchLabels",
        true,
    ),
    ("StatefulSet", "apps", "spec/selector/matchLabels", true),
    ("Deployment|StatefulSet", "apps", PREFERRED_NEAR, false),
    ("Deployment|StatefulSet", "apps", REQUIRED_NEAR, false),
    ("Deployment|StatefulSet", "apps", PREFERRED_FAR, false),
    ("Deployment|StatefulSet", "apps", REQUIRED_FAR, false),
    ("Deployment|StatefulSet", "apps", SPREAD, false),
    ("Job", "batch", "spec/selector/matchLabels", false),
    (
        "CronJob",
        "batch",
        "spec/jobTemplate/spec/selector/matchLabels",
        false,
    ),
    (
        "PodDisruptionBudget",
        "policy",
        "spec/selector/matchLabels",
        false,
    ),
    (
        "NetworkPolicy",
        "networking.k8s.io",
        "spec/podSelector/matchLabels",
        false,
    ),
];
/// `volumeclaimmetadatalabels.go`.
const CLAIMS: Spec = (
    "StatefulSet",
    "apps",
    "spec/volumeClaimTemplates[]/metadata/labels",
    true,
);
/// More of `commonlabels.go`.
const POLICY_PEERS: [Spec; 2] = [
    (
        "NetworkPolicy",
        "networking.k8s.io",
        "spec/ingress/from/podSelector/matchLabels",
        false,
    ),
    (
        "NetworkPolicy",
        "networking.k8s.io",
        "spec/egress/to/podSelector/matchLabels",
        false,
    ),
];
const PREFERRED_NEAR: &str = "spec/template/spec/affinity/podAffinity/\
    preferredDuringSchedulingIgnoredDuringExecution/podAffinityTerm/labelSelector/matchLabels";
const REQUIRED_NEAR: &str = "spec/template/spec/affinity/podAffinity/\
    requiredDuringSchedulingIgnoredDuringExecution/labelSelector/matchLabels";
const PREFERRED_FAR: &str = "spec/template/spec/affinity/podAntiAffinity/\
    preferredDuringSchedulingIgnoredDuringExecution/podAffinityTerm/labelSelector/matchLabels";
const REQUIRED_FAR: &str = "spec/template/spec/affinity/podAntiAffinity/\
    requiredDuringSchedulingIgnoredDuringExecution/labelSelector/matchLabels";
const SPREAD: &str = "spec/template/spec/topologySpreadConstraints/labelSelector/matchLabels";

/// `commonannotations.go`.
const ANNOTATIONS: [Spec; 5] = [
    ("", "", "metadata/annotations", true),
    (
        "ReplicationController|Deployment|ReplicaSet|DaemonSet|StatefulSet",
        "",
        "spec/template/metadata/annotations",
        true,
    ),
    ("Job", "batch", "spec/template/metadata/annotations", true),
    (
        "CronJob",
        "batch",
        "spec/jobTemplate/metadata/annotations",
        true,
    ),
    (
        "CronJob",
        "batch",
        "spec/jobTemplate/spec/template/metadata/annotations",
        true,
    ),
];

/// `namespace`, `namePrefix`, `nameSuffix`, `labels`, `commonLabels`, `commonAnnotations`, in this
/// order.
pub fn transform(fields: &Fields<'_>, objects: &mut [Node], problems: &mut Problems) {
    if let Some(namespace) = fields.get("namespace")
        && let Some(name) = namespace.name(problems)
    {
        for object in objects.iter_mut() {
            set_namespace(object, &name);
        }
    }
    let prefix = fields.text("namePrefix", problems).unwrap_or_default();
    let suffix = fields.text("nameSuffix", problems).unwrap_or_default();
    if !prefix.is_empty() || !suffix.is_empty() {
        for object in objects.iter_mut() {
            let fixed = ["Namespace", "CustomResourceDefinition", "APIService"];
            let name = object.at("metadata.name").and_then(Node::as_str);
            let Some(name) = name.filter(|_| !fixed.contains(&kind(object))) else {
                continue;
            };
            let new = format!("{prefix}{name}{suffix}");
            set_name(object, &new);
        }
    }
    labels(fields, objects, problems);
    if let Some(value) = fields.get("commonAnnotations") {
        let pairs = pairs(value.node);
        for object in objects.iter_mut() {
            mark(object, &ANNOTATIONS, &pairs);
        }
    }
}

fn labels(fields: &Fields<'_>, objects: &mut [Node], problems: &mut Problems) {
    let templates = |object: &mut Node, pairs: &[(String, Node)]| {
        mark(object, &LABELS, pairs);
        mark(object, &[CRON_PODS], pairs);
    };
    let everywhere = |object: &mut Node, pairs: &[(String, Node)]| {
        mark(object, &SELECTORS, pairs);
        mark(object, &POLICY_PEERS, pairs);
        mark(object, &[CLAIMS], pairs);
        templates(object, pairs);
    };
    for item in fields.list("labels", problems) {
        let Some(item) = item.fields(problems) else {
            continue;
        };
        let found = item.require("pairs", problems);
        let pairs = found.map(|v| pairs(v.node)).unwrap_or_default();
        let selectors = item.flag("includeSelectors", problems).unwrap_or(false);
        let in_templates = item.flag("includeTemplates", problems).unwrap_or(false);
        let in_claims = item.flag("includeVolumeClaimTemplates", problems);
        let in_claims = in_claims.unwrap_or(false);
        let more = item.list("fields", problems);
        let more: Vec<Own> = more.iter().filter_map(|v| Own::read(v, problems)).collect();
        item.finish(problems);
        for object in objects.iter_mut() {
            match (selectors, in_templates) {
                (true, _) => everywhere(object, &pairs),
                (false, true) => templates(object, &pairs),
                (false, false) => mark(object, &LABELS[..1], &pairs),
            }
            if in_claims {
                mark(object, &[CLAIMS], &pairs);
            }
            for own in &more {
                if own.takes(object) {
                    put(object, &own.path, own.create, &pairs);
                }
            }
        }
    }
    if let Some(value) = fields.get("commonLabels") {
        let pairs = pairs(value.node);
        objects
            .iter_mut()
            .for_each(|object| everywhere(object, &pairs));
    }
}

/// A field that a kustomization names itself (`fields` of `labels`).
struct Own {
    group: Option<String>,
    version: Option<String>,
    kind: Option<String>,
    path: String,
    create: bool,
}

impl Own {
    fn read(value: &Value<'_>, problems: &mut Problems) -> Option<Own> {
        let fields = value.fields(problems)?;
        let text = |key: &'static str, problems: &mut Problems| {
            fields.text(key, problems).map(|text| text.to_string())
        };
        let group = text("group", problems);
        let version = text("version", problems);
        let kind = text("kind", problems);
        let path = fields.require("path", problems);
        let path = path.and_then(|value| value.name(problems));
        let create = fields.flag("create", problems).unwrap_or(false);
        fields.finish(problems);
        Some(Own {
            group,
            version,
            kind,
            path: path?.to_string(),
            create,
        })
    }

    fn takes(&self, object: &Node) -> bool {
        let (group, version) = super::target::group_version(object);
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        is(&self.group, group) && is(&self.version, version) && is(&self.kind, kind(object))
    }
}

/// Puts pairs into those of the fields that the object's kind has.
fn mark(object: &mut Node, specs: &[Spec], pairs: &[(String, Node)]) {
    for (kinds, group, path, create) in specs {
        if is_kind(object, kinds) && is_group(object, group) {
            put(object, path, *create, pairs);
        }
    }
}

fn put(object: &mut Node, path: &str, create: bool, pairs: &[(String, Node)]) {
    let path: Vec<&str> = path.split('/').collect();
    visit(object, &path, create, &mut |map| {
        for (key, value) in pairs {
            map.set(key, value.clone());
        }
    });
}

/// Whether the object is of one of these kinds, separated by `|`; none stands for all.
pub(super) fn is_kind(object: &Node, kinds: &str) -> bool {
    kinds.is_empty() || kinds.split('|').any(|wanted| wanted == kind(object))
}

fn is_group(object: &Node, group: &str) -> bool {
    group.is_empty() || super::target::group_version(object).0 == group
}

/// Calls `edit` at every place that a path leads to; lists are walked through, missing maps made
/// when `create` says so (but no lists).
pub(super) fn visit(node: &mut Node, path: &[&str], create: bool, edit: &mut dyn FnMut(&mut Node)) {
    if let Some(items) = node.as_list_mut() {
        // The last field itself may be a list of maps.
        for item in items {
            visit(item, path, create, edit);
        }
        return;
    }
    let Some((field, rest)) = path.split_first() else {
        edit(node);
        return;
    };
    let (key, list) = match field.strip_suffix("[]") {
        Some(key) => (key, true),
        None => (*field, false),
    };
    if node.get(key).is_none_or(Node::is_null) {
        if !create || list || node.as_map().is_none() {
            return;
        }
        let span = node.span;
        node.set(key, Node::empty_map(span));
    }
    if let Some(next) = node.get_mut(key) {
        visit(next, rest, create, edit);
    }
}

/// The kind of an object.
pub(super) fn kind(object: &Node) -> &str {
    let kind = object.get("kind").and_then(Node::as_str);
    kind.unwrap_or_default()
}

fn text<'n>(object: &'n Node, path: &str) -> &'n str {
    object.at(path).and_then(Node::as_str).unwrap_or_default()
}

/// Gives an object another name; the old one is remembered.
pub fn set_name(object: &mut Node, name: &str) {
    remember(object);
    if let Some(metadata) = object.get_mut("metadata") {
        let span = metadata.get("name").map_or(metadata.span, |name| name.span);
        metadata.set("name", Node::text(name, span));
    }
}

/// Notes the identity that an object has so far.
fn remember(object: &mut Node) {
    let (name, namespace) = (
        text(object, "metadata.name"),
        text(object, "metadata.namespace"),
    );
    if name.is_empty() {
        return;
    }
    let joined = |key: &str, last: &str| {
        let before = object.at("metadata.annotations");
        let before = before.and_then(|map| map.get(key)).and_then(Node::as_str);
        before.map_or_else(|| last.to_owned(), |before| format!("{before},{last}"))
    };
    let all = [
        (PREVIOUS_NAMES, joined(PREVIOUS_NAMES, name)),
        (PREVIOUS_NAMESPACES, joined(PREVIOUS_NAMESPACES, namespace)),
    ];
    let span = object.span;
    visit(object, &["metadata", "annotations"], true, &mut |map| {
        for (key, value) in &all {
            map.set(key, Node::text(value, span));
        }
    });
}

/// The names and namespaces that an object had before, oldest first.
pub(super) fn previous(object: &Node) -> Vec<(String, String)> {
    let list = |key: &str| -> Vec<String> {
        let found = object.at("metadata.annotations");
        let found = found.and_then(|map| map.get(key)).and_then(Node::as_str);
        let parts = found.into_iter().flat_map(|all| all.split(','));
        parts.map(str::to_owned).collect()
    };
    let (names, namespaces) = (list(PREVIOUS_NAMES), list(PREVIOUS_NAMESPACES));
    names.into_iter().zip(namespaces).collect()
}

/// What an object remembers, to be given back after an edit that may have lost it.
pub(super) fn memory(object: &Node) -> Vec<(String, Node)> {
    let map = object.at("metadata.annotations").and_then(Node::as_map);
    let ours = |key: &str| key.starts_with("internal.config.kubernetes.io/");
    let kept = map.into_iter().flatten().filter(|(key, _)| ours(key));
    kept.map(|(key, entry)| (key.to_string(), entry.node.clone()))
        .collect()
}

/// Gives an object its memory back.
pub(super) fn recall(object: &mut Node, memory: &[(String, Node)]) {
    if !memory.is_empty() {
        put(object, "metadata/annotations", true, memory);
    }
}

/// Lets all objects forget their earlier names: the build is over.
pub(super) fn forget(objects: &mut [Node]) {
    for metadata in objects.iter_mut().filter_map(|o| o.get_mut("metadata")) {
        let Some(annotations) = metadata.get_mut("annotations") else {
            continue;
        };
        let known = annotations.remove(PREVIOUS_NAMES).is_some();
        annotations.remove(PREVIOUS_NAMESPACES);
        if known && annotations.as_map().is_some_and(|map| map.is_empty()) {
            metadata.remove("annotations");
        }
    }
}

/// Whether objects of this kind live in no namespace.
pub(super) fn cluster_scoped(kind: &str) -> bool {
    CLUSTER_SCOPED.contains(&kind)
}

/// `api/filters/namespace`: the object itself, and what in it names a namespace.
fn set_namespace(object: &mut Node, namespace: &str) {
    let kind = kind(object).to_owned();
    let span = object.span;
    if kind == "Namespace" && text(object, "apiVersion") == "v1" {
        set_name(object, namespace);
        return;
    }
    let elsewhere = match kind.as_str() {
        "APIService" => Some((&["spec", "service", "namespace"][..], true)),
        "CustomResourceDefinition" => Some((CONVERSION, false)),
        _ => None,
    };
    if let Some((path, create)) = elsewhere {
        visit(object, path, create, &mut |node| {
            *node = Node::text(namespace, span)
        });
    }
    if kind == "RoleBinding" || kind == "ClusterRoleBinding" {
        visit(object, &["subjects"], false, &mut |subject| {
            if subject.get("name").and_then(Node::as_str) == Some("default") {
                subject.set("namespace", Node::text(namespace, span));
            }
        });
    }
    remember(object);
    if cluster_scoped(&kind) {
        return;
    }
    if let Some(metadata) = object.get_mut("metadata") {
        metadata.set("namespace", Node::text(namespace, span));
    }
}

/// Where a CustomResourceDefinition names the namespace of its conversion webhook.
const CONVERSION: &[&str] = &[
    "spec",
    "conversion",
    "webhook",
    "clientConfig",
    "service",
    "namespace",
];

fn pairs(node: &Node) -> Vec<(String, Node)> {
    let map = node.as_map().into_iter().flatten();
    map.map(|(key, entry)| (key.to_string(), entry.node.clone()))
        .collect()
}
