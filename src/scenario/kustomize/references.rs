//! References follow the names of what they refer to.
//!
//! As kustomize does (`api/filters/nameref`), this happens once, when all names are final: a value
//! that is, or was, the name of an object of the kind that the field refers to becomes that
//! object's name now. Which fields refer to which kinds is a table
//! (`api/internal/konfig/builtinpluginconsts/namereference.go`).

use super::names::{cluster_scoped, is_kind, kind, previous, visit};
use crate::api::yaml::Node;
use crate::scenario::diagnostic::Diagnostic;
use crate::scenario::fields::Problems;

/// What is referred to, by which kinds, where.
type Reference = (&'static str, &'static str, &'static str);

/// Fields of pods (below `spec`): what is referred to, and whether ReplicaSets count, too.
const POD: [(&str, &str, bool); 16] = [
    ("ConfigMap", "volumes/configMap/name", true),
    (
        "ConfigMap",
        "containers/env/valueFrom/configMapKeyRef/name",
        true,
    ),
    (
        "ConfigMap",
        "initContainers/env/valueFrom/configMapKeyRef/name",
        true,
    ),
    ("ConfigMap", "containers/envFrom/configMapRef/name", true),
    (
        "ConfigMap",
        "initContainers/envFrom/configMapRef/name",
        true,
    ),
    (
        "ConfigMap",
        "volumes/projected/sources/configMap/name",
        true,
    ),
    ("Secret", "volumes/secret/secretName", true),
    ("Secret", "containers/env/valueFrom/secretKeyRef/name", true),
    (
        "Secret",
        "initContainers/env/valueFrom/secretKeyRef/name",
        true,
    ),
    ("Secret", "containers/envFrom/secretRef/name", true),
    ("Secret", "initContainers/envFrom/secretRef/name", true),
    ("Secret", "imagePullSecrets/name", true),
    ("Secret", "volumes/projected/sources/secret/name", true),
    ("ServiceAccount", "serviceAccountName", false),
    (
        "PersistentVolumeClaim",
        "volumes/persistentVolumeClaim/claimName",
        false,
    ),
    ("PriorityClass", "priorityClassName", false),
];

/// Where the kinds have their pods; ReplicaSets and ReplicationControllers each lack some fields.
const PODS_OF: [(&str, &str); 5] = [
    ("Pod", "spec/"),
    ("PodTemplate", "template/spec/"),
    (
        "Deployment|DaemonSet|StatefulSet|Job",
        "spec/template/spec/",
    ),
    ("CronJob", "spec/jobTemplate/spec/template/spec/"),
    ("ReplicaSet|ReplicationController", "spec/template/spec/"),
];

/// Fields of other objects.
const OTHERS: [Reference; 33] = [
    (
        "Deployment",
        "HorizontalPodAutoscaler",
        "spec/scaleTargetRef/name",
    ),
    (
        "ReplicationController",
        "HorizontalPodAutoscaler",
        "spec/scaleTargetRef/name",
    ),
    (
        "ReplicaSet",
        "HorizontalPodAutoscaler",
        "spec/scaleTargetRef/name",
    ),
    (
        "StatefulSet",
        "HorizontalPodAutoscaler",
        "spec/scaleTargetRef/name",
    ),
    ("ConfigMap", "Node", "spec/configSource/configMap"),
    ("ConfigMap", "Role|ClusterRole", "rules/resourceNames"),
    (
        "ConfigMap",
        "Ingress",
        "metadata/annotations/nginx.ingress.kubernetes.io\\fastcgi-params-configmap",
    ),
    ("Secret", "Ingress", "spec/tls/secretName"),
    (
        "Secret",
        "Ingress",
        "metadata/annotations/ingress.kubernetes.io\\auth-secret",
    ),
    (
        "Secret",
        "Ingress",
        "metadata/annotations/nginx.ingress.kubernetes.io\\auth-secret",
    ),
    (
        "Secret",
        "Ingress",
        "metadata/annotations/nginx.ingress.kubernetes.io\\auth-tls-secret",
    ),
    ("Secret", "ServiceAccount", "imagePullSecrets/name"),
    ("Secret", "StorageClass", "parameters/secretName"),
    ("Secret", "StorageClass", "parameters/adminSecretName"),
    ("Secret", "StorageClass", "parameters/userSecretName"),
    ("Secret", "StorageClass", "parameters/secretRef"),
    ("Secret", "Role|ClusterRole", "rules/resourceNames"),
    ("Secret", "PersistentVolume", "spec/azureFile/secretName"),
    ("Service", "StatefulSet", "spec/serviceName"),
    (
        "Service",
        "Ingress",
        "spec/rules/http/paths/backend/serviceName",
    ),
    ("Service", "Ingress", "spec/backend/serviceName"),
    (
        "Service",
        "Ingress",
        "spec/rules/http/paths/backend/service/name",
    ),
    ("Service", "Ingress", "spec/defaultBackend/service/name"),
    ("Service", "APIService", "spec/service/name"),
    (
        "Service",
        "ValidatingWebhookConfiguration|MutatingWebhookConfiguration",
        "webhooks/clientConfig/service",
    ),
    ("Role", "RoleBinding", "roleRef/name"),
    (
        "ClusterRole",
        "RoleBinding|ClusterRoleBinding",
        "roleRef/name",
    ),
    (
        "ServiceAccount",
        "RoleBinding|ClusterRoleBinding",
        "subjects",
    ),
    (
        "PersistentVolume",
        "PersistentVolumeClaim",
        "spec/volumeName",
    ),
    (
        "StorageClass",
        "PersistentVolume|PersistentVolumeClaim",
        "spec/storageClassName",
    ),
    (
        "StorageClass",
        "StatefulSet",
        "spec/volumeClaimTemplates/spec/storageClassName",
    ),
    ("IngressClass", "Ingress", "spec/ingressClassName"),
    (
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "spec/policyName",
    ),
];

/// An object whose name or namespace has changed.
struct Moved {
    kind: String,
    name: String,
    namespace: String,
    before: Vec<(String, String)>,
}

/// Lets every reference follow the new names.
pub fn fix(objects: &mut [Node], problems: &mut Problems) {
    let moved: Vec<Moved> = objects.iter().filter_map(Moved::of).collect();
    if moved.is_empty() {
        return;
    }
    for object in objects {
        let referrer = Referrer::of(object);
        let mut edit = |target: &str, path: &str, node: &mut Node| {
            if let Err(names) = referrer.rename(node, target, path, &moved) {
                let message = format!("{path}: {names} were all called so");
                let many = Diagnostic::error("BadRequest", message, node.span);
                problems.push(many.cause("found multiple possible referrals"));
            }
        };
        for (target, path, replica_sets) in POD {
            let of = |(kinds, prefix): &&(&str, &'static str)| {
                let kept = match kind(object) {
                    "ReplicaSet" => replica_sets,
                    "ReplicationController" => !replica_sets,
                    _ => true,
                };
                kept && !prefix.is_empty() && is_kind(object, kinds)
            };
            if let Some((_, prefix)) = PODS_OF.iter().find(of) {
                let path = format!("{prefix}{path}");
                at(object, &path, &mut |node| edit(target, &path, node));
            }
        }
        for (target, kinds, path) in OTHERS {
            if is_kind(object, kinds) {
                at(object, path, &mut |node| edit(target, path, node));
            }
        }
    }
}

/// Visits a path in which `\` stands for a slash within a key.
fn at(object: &mut Node, path: &str, edit: &mut dyn FnMut(&mut Node)) {
    let keys: Vec<String> = path.split('/').map(|key| key.replace('\\', "/")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    visit(object, &keys, false, edit);
}

impl Moved {
    fn of(object: &Node) -> Option<Moved> {
        let before = previous(object);
        let text = |path| object.at(path).and_then(Node::as_str).unwrap_or_default();
        (!before.is_empty()).then(|| Moved {
            kind: kind(object).to_owned(),
            name: text("metadata.name").to_owned(),
            namespace: text("metadata.namespace").to_owned(),
            before,
        })
    }
}

/// Who refers.
struct Referrer {
    kind: String,
    namespace: String,
    /// The kind in its `roleRef`.
    role: Option<String>,
}

impl Referrer {
    fn of(object: &Node) -> Referrer {
        let text = |path| object.at(path).and_then(Node::as_str).map(str::to_owned);
        Referrer {
            kind: kind(object).to_owned(),
            namespace: text("metadata.namespace").unwrap_or_default(),
            role: text("roleRef.kind"),
        }
    }

    /// `nameref.Filter.set`: a name, or a map that holds a name and a namespace.
    fn rename(
        &self,
        node: &mut Node,
        target: &str,
        path: &str,
        moved: &[Moved],
    ) -> Result<(), String> {
        let span = node.span;
        if let Some(name) = node.as_str() {
            if let Some(to) = self.select(name, None, target, path, moved)? {
                *node = Node::text(&to.name, span);
            }
            return Ok(());
        }
        let account = |node: &Node| node.get("kind").is_none() || kind(node) == target;
        if path == "subjects" && !account(node) {
            return Ok(());
        }
        let field = |key: &str| node.get(key).and_then(Node::as_str).map(str::to_owned);
        let (Some(name), namespace) = (field("name"), field("namespace")) else {
            return Ok(());
        };
        if let Some(to) = self.select(&name, namespace.as_deref(), target, path, moved)? {
            node.set("name", Node::text(&to.name, span));
            if !to.namespace.is_empty() {
                node.set("namespace", Node::text(&to.namespace, span));
            }
        }
        Ok(())
    }

    /// `selectReferral`.
    fn select<'m>(
        &self,
        name: &str,
        namespace: Option<&str>,
        target: &str,
        path: &str,
        moved: &'m [Moved],
    ) -> Result<Option<&'m Moved>, String> {
        let role = self.role.as_deref().filter(|_| path == "roleRef/name");
        let fits = |to: &&Moved| {
            to.kind == target
                && role.is_none_or(|kind| to.kind == kind)
                && to.before.iter().any(|(before, _)| before == name)
                && (cluster_scoped(&self.kind)
                    || cluster_scoped(&to.kind)
                    || to.kind == "ServiceAccount"
                    || to.namespace == self.namespace)
        };
        let mut found: Vec<&Moved> = moved.iter().filter(fits).collect();
        if let Some(namespace) = namespace {
            let first = |to: &Moved| to.before.first().is_some_and(|(_, ns)| ns == namespace);
            match found.iter().any(|to| first(to)) {
                true => found.retain(|to| first(to)),
                false => found.retain(|to| to.namespace == namespace),
            }
        }
        // One in the referrer's own namespace before others.
        if found.len() > 1 && found.iter().any(|to| to.namespace == self.namespace) {
            found.retain(|to| to.namespace == self.namespace);
        }
        match found.as_slice() {
            [] => Ok(None),
            [first, rest @ ..] if rest.iter().all(|to| to.name == first.name) => Ok(Some(*first)),
            many => {
                let names: Vec<&str> = many.iter().map(|to| to.name.as_str()).collect();
                Err(names.join(", "))
            }
        }
    }
}
