//! Labels, annotations, namespaces, prefixes and suffixes; and the references that follow a name.

use std::collections::BTreeMap;

use crate::api::yaml::{Node, NodeValue};
use crate::scenario::fields::{Fields, Problems};

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

/// A kind and a name, as references have them.
pub type Renamed = BTreeMap<(String, String), String>;

/// `namePrefix`, `nameSuffix`, `namespace`, `labels`, `commonLabels`, `commonAnnotations`.
pub fn transform(fields: &Fields<'_>, objects: &mut [Node], problems: &mut Problems) {
    let prefix = fields.text("namePrefix", problems).unwrap_or_default();
    let suffix = fields.text("nameSuffix", problems).unwrap_or_default();
    if !prefix.is_empty() || !suffix.is_empty() {
        let mut renamed = Renamed::new();
        for object in objects.iter_mut() {
            let kind = kind(object).to_owned();
            if matches!(
                kind.as_str(),
                "Namespace" | "CustomResourceDefinition" | "APIService"
            ) {
                continue;
            }
            let Some(name) = object
                .at("metadata.name")
                .and_then(Node::as_str)
                .map(str::to_owned)
            else {
                continue;
            };
            let new = format!("{prefix}{name}{suffix}");
            set_name(object, &new);
            renamed.insert((kind, name), new);
        }
        follow(objects, &renamed);
    }
    if let Some(namespace) = fields.get("namespace")
        && let Some(name) = namespace.name(problems)
    {
        for object in objects.iter_mut() {
            set_namespace(object, &name);
        }
    }
    if let Some(value) = fields.get("commonLabels") {
        let pairs = pairs(value.node);
        objects
            .iter_mut()
            .for_each(|object| label(object, &pairs, true, true));
    }
    for item in fields.list("labels", problems) {
        let Some(item) = item.fields(problems) else {
            continue;
        };
        let pairs = item
            .require("pairs", problems)
            .map(|v| pairs(v.node))
            .unwrap_or_default();
        let selectors = item.flag("includeSelectors", problems).unwrap_or(false);
        let templates = item.flag("includeTemplates", problems).unwrap_or(false);
        item.finish(problems);
        for object in objects.iter_mut() {
            label(object, &pairs, selectors || templates, selectors);
        }
    }
    if let Some(value) = fields.get("commonAnnotations") {
        let pairs = pairs(value.node);
        for object in objects.iter_mut() {
            merge(object, "metadata.annotations", &pairs);
            for template in templates(object) {
                merge(object, &format!("{template}.metadata.annotations"), &pairs);
            }
        }
    }
}

fn kind(object: &Node) -> &str {
    object
        .get("kind")
        .and_then(Node::as_str)
        .unwrap_or_default()
}

/// Gives an object another name.
pub fn set_name(object: &mut Node, name: &str) {
    if let Some(metadata) = object.get_mut("metadata") {
        let span = metadata.get("name").map_or(metadata.span, |name| name.span);
        metadata.set("name", Node::text(name, span));
    }
}

fn set_namespace(object: &mut Node, namespace: &str) {
    let kind = kind(object).to_owned();
    if kind == "Namespace" {
        set_name(object, namespace);
        return;
    }
    for subject in object
        .get_mut("subjects")
        .and_then(Node::as_list_mut)
        .into_iter()
        .flatten()
    {
        if self::kind(subject) == "ServiceAccount" {
            let span = subject.span;
            subject.set("namespace", Node::text(namespace, span));
        }
    }
    if CLUSTER_SCOPED.contains(&kind.as_str()) {
        return;
    }
    if let Some(metadata) = object.get_mut("metadata") {
        let span = metadata.span;
        metadata.set("namespace", Node::text(namespace, span));
    }
}

/// The paths of pod templates in an object.
fn templates(object: &Node) -> Vec<&'static str> {
    let paths = ["spec.template", "spec.jobTemplate.spec.template"];
    paths
        .into_iter()
        .filter(|path| object.at(path).is_some())
        .collect()
}

fn pairs(node: &Node) -> Vec<(String, Node)> {
    let map = node.as_map().into_iter().flatten();
    map.map(|(key, entry)| (key.to_string(), entry.node.clone()))
        .collect()
}

fn label(object: &mut Node, pairs: &[(String, Node)], in_templates: bool, in_selectors: bool) {
    merge(object, "metadata.labels", pairs);
    if in_templates {
        for template in templates(object) {
            merge(object, &format!("{template}.metadata.labels"), pairs);
        }
    }
    if !in_selectors {
        return;
    }
    let selector = match kind(object) {
        "Service" | "ReplicationController" => "spec.selector",
        "NetworkPolicy" => "spec.podSelector.matchLabels",
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "PodDisruptionBudget" => {
            "spec.selector.matchLabels"
        }
        _ => return,
    };
    // A Service without a selector has endpoints of its own and stays so.
    let spec = object
        .at("spec.selector")
        .is_some_and(|selector| !selector.is_null());
    if spec || kind(object) != "Service" {
        merge(object, selector, pairs);
    }
}

/// Sets keys of the map at a dotted path, which is made when it is missing.
fn merge(object: &mut Node, path: &str, pairs: &[(String, Node)]) {
    let mut node = object;
    for key in path.split('.') {
        let span = node.span;
        if node.get(key).is_none_or(Node::is_null) {
            node.set(key, Node::empty_map(span));
        }
        match node.get_mut(key) {
            Some(next) => node = next,
            None => return,
        }
    }
    for (key, value) in pairs {
        node.set(key, value.clone());
    }
}

/// Fields that hold the name of another object: (field, kind of what it names). A field whose value
/// is a map is followed to its `name`.
const REFERENCES: [(&str, &str); 18] = [
    ("configMapRef", "ConfigMap"),
    ("configMapKeyRef", "ConfigMap"),
    ("configMap", "ConfigMap"),
    ("secretRef", "Secret"),
    ("secretKeyRef", "Secret"),
    ("imagePullSecrets", "Secret"),
    ("secretName", "Secret"),
    ("secret", "Secret"),
    ("serviceAccountName", "ServiceAccount"),
    ("serviceAccount", "ServiceAccount"),
    ("claimName", "PersistentVolumeClaim"),
    ("serviceName", "Service"),
    ("priorityClassName", "PriorityClass"),
    ("storageClassName", "StorageClass"),
    ("scaleTargetRef", ""),
    ("roleRef", ""),
    ("subjects", ""),
    ("service", "Service"),
];

/// Lets every reference follow the new names.
pub fn follow(objects: &mut [Node], renamed: &Renamed) {
    for object in objects {
        walk(object, renamed);
    }
}

fn walk(node: &mut Node, renamed: &Renamed) {
    match &mut node.value {
        NodeValue::List(items) => items.iter_mut().for_each(|item| walk(item, renamed)),
        NodeValue::Map(map) => {
            for (key, entry) in map.iter_mut() {
                if let Some((_, kind)) = REFERENCES.iter().find(|(field, _)| *field == &**key) {
                    rename(&mut entry.node, kind, renamed);
                }
                walk(&mut entry.node, renamed);
            }
        }
        _ => {}
    }
}

fn rename(node: &mut Node, kind: &str, renamed: &Renamed) {
    let own = self::kind(node).to_owned();
    let kind = if kind.is_empty() { own.as_str() } else { kind };
    let span = node.span;
    let new = |name: &str| renamed.get(&(kind.to_owned(), name.to_owned()));
    match &mut node.value {
        NodeValue::Str(name) => {
            if let Some(new) = new(name) {
                *node = Node::text(new, span);
            }
        }
        NodeValue::List(items) => {
            for item in items {
                rename(item, kind_or_empty(kind, item), renamed);
            }
        }
        NodeValue::Map(_) => {
            for key in ["name", "secretName"] {
                let text = node.get(key).and_then(Node::as_str);
                if let Some(new) = text.and_then(new).cloned() {
                    node.set(key, Node::text(&new, span));
                }
            }
        }
        _ => {}
    }
}

fn kind_or_empty<'k>(kind: &'k str, item: &Node) -> &'k str {
    match item.get("kind") {
        Some(_) => "",
        None => kind,
    }
}
