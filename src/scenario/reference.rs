//! References between objects, `kind/[namespace/]name`, and what they can refer to.

use std::collections::BTreeSet;

use super::diagnostic::Diagnostic;
use super::fields::{Problems, Value};
use super::made::Claims;
use crate::api::yaml::Span;
use crate::api::{Row, Text};

/// A reference to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Kind as in manifests.
    pub kind: String,
    /// Namespace; means nothing for cluster-scoped kinds.
    pub namespace: Text,
    /// Name.
    pub name: Text,
    /// Where it was written.
    pub span: Span,
    /// The field that it was written in.
    pub path: String,
}

/// Kinds by the words that kubectl knows for them: plural, singular, short.
const WORDS: [(&str, &[&str]); 24] = [
    ("Pod", &["pods", "pod", "po"]),
    ("Deployment", &["deployments", "deployment", "deploy"]),
    ("ReplicaSet", &["replicasets", "replicaset", "rs"]),
    ("StatefulSet", &["statefulsets", "statefulset", "sts"]),
    ("DaemonSet", &["daemonsets", "daemonset", "ds"]),
    ("Job", &["jobs", "job"]),
    ("CronJob", &["cronjobs", "cronjob", "cj"]),
    (
        "ReplicationController",
        &["replicationcontrollers", "replicationcontroller", "rc"],
    ),
    ("Service", &["services", "service", "svc"]),
    ("Endpoints", &["endpoints", "ep"]),
    ("EndpointSlice", &["endpointslices", "endpointslice"]),
    ("Node", &["nodes", "node", "no"]),
    ("Namespace", &["namespaces", "namespace", "ns"]),
    ("ConfigMap", &["configmaps", "configmap", "cm"]),
    ("Secret", &["secrets", "secret"]),
    (
        "PersistentVolume",
        &["persistentvolumes", "persistentvolume", "pv"],
    ),
    (
        "PersistentVolumeClaim",
        &["persistentvolumeclaims", "persistentvolumeclaim", "pvc"],
    ),
    (
        "PodDisruptionBudget",
        &["poddisruptionbudgets", "poddisruptionbudget", "pdb"],
    ),
    (
        "HorizontalPodAutoscaler",
        &["horizontalpodautoscalers", "horizontalpodautoscaler", "hpa"],
    ),
    ("Ingress", &["ingresses", "ingress", "ing"]),
    (
        "NetworkPolicy",
        &["networkpolicies", "networkpolicy", "netpol"],
    ),
    ("StorageClass", &["storageclasses", "storageclass", "sc"]),
    ("PriorityClass", &["priorityclasses", "priorityclass", "pc"]),
    (
        "ServiceAccount",
        &["serviceaccounts", "serviceaccount", "sa"],
    ),
];

/// The kind that a word of kubectl's means, group suffixes (`deployments.apps`) included.
pub fn kind_of(word: &str) -> Option<&'static str> {
    let plain = word.split('.').next().unwrap_or_default().to_lowercase();
    (WORDS.iter())
        .find(|(_, words)| words.contains(&plain.as_str()))
        .map(|(kind, _)| *kind)
}

/// All words for kinds.
pub fn kind_words() -> impl Iterator<Item = &'static str> {
    WORDS.iter().flat_map(|(_, words)| words.iter().copied())
}

/// Reads `kind/[namespace/]name`.
pub fn parse(text: &str, namespace: &Text) -> Result<(String, Text, Text), String> {
    let parts: Vec<&str> = text.split('/').collect();
    let (kind, namespace, name) = match parts.as_slice() {
        [kind, name] => (kind, namespace.clone(), name),
        [kind, namespace, name] => (kind, Text::from(*namespace), name),
        _ => return Err("must be kind/name or kind/namespace/name".to_owned()),
    };
    if name.is_empty() || namespace.is_empty() {
        return Err("must be kind/name or kind/namespace/name".to_owned());
    }
    let Some(kind) = kind_of(kind) else {
        return Err(format!("{kind:?} is no kind that is known here"));
    };
    Ok((kind.to_owned(), namespace, Text::from(*name)))
}

/// A reference to something that has pods.
pub fn workload(value: &Value<'_>, namespace: &Text, problems: &mut Problems) -> Option<Reference> {
    let reference = object(value, namespace, problems)?;
    let has_pods = [
        "Pod",
        "Deployment",
        "ReplicaSet",
        "StatefulSet",
        "DaemonSet",
        "Job",
        "CronJob",
        "ReplicationController",
        "Service",
    ];
    if !has_pods.contains(&reference.kind.as_str()) {
        problems.push(value.invalid(format!("a {} has no pods", reference.kind)));
        return None;
    }
    Some(reference)
}

/// A reference to any object.
pub fn object(value: &Value<'_>, namespace: &Text, problems: &mut Problems) -> Option<Reference> {
    let text = value.name(problems)?;
    match parse(&text, namespace) {
        Ok((kind, namespace, name)) => Some(Reference {
            kind,
            namespace,
            name,
            span: value.span(),
            path: value.path.clone(),
        }),
        Err(why) => {
            let word = text.split('/').next().unwrap_or_default();
            let wrong = value.invalid(why);
            problems.push(match kind_of(word) {
                Some(_) => wrong,
                None => wrong.suggest(word, kind_words()),
            });
            None
        }
    }
}

/// What exists, or will.
#[derive(Debug, Default)]
pub struct Known {
    /// Kind, namespace, name.
    named: BTreeSet<(String, Text, Text)>,
    /// Claims that controllers may make besides.
    made: Claims,
}

const CLAIM: &str = "PersistentVolumeClaim";

impl Known {
    /// Adds an object.
    pub fn add(&mut self, row: &Row) {
        let meta = row.meta();
        for claim in self.made.add(row) {
            (self.named).insert((CLAIM.to_owned(), meta.namespace.clone(), claim));
        }
        self.named
            .insert((kind_name(row), meta.namespace.clone(), meta.name.clone()));
    }

    /// Adds a cluster-scoped object by name.
    pub fn add_plain(&mut self, kind: &str, name: &str) {
        self.named
            .insert((kind.to_owned(), Text::default(), Text::from(name)));
    }

    /// Whether an object is there; cluster-scoped kinds are found under any namespace.
    pub fn has(&self, kind: &str, namespace: &Text, name: &Text) -> bool {
        let in_namespace =
            |namespace: Text| (self.named).contains(&(kind.to_owned(), namespace, name.clone()));
        in_namespace(namespace.clone())
            || in_namespace(Text::default())
            || (kind == CLAIM && self.made.may_have(namespace, name))
    }

    /// The names of a kind in a namespace.
    pub fn names(&self, kind: &str, namespace: &Text) -> Vec<&str> {
        (self.named.iter())
            .filter(|(k, ns, _)| k == kind && (ns == namespace || ns.is_empty()))
            .map(|(.., name)| name.as_str())
            .collect()
    }

    /// Why `reference` leads nowhere, if it does.
    pub fn check(&self, reference: &Reference) -> Option<Diagnostic> {
        let Reference {
            kind,
            namespace,
            name,
            ..
        } = reference;
        if self.has(kind, namespace, name) {
            return None;
        }
        let own = self
            .named
            .iter()
            .any(|(k, ns, _)| k == kind && ns.is_empty());
        let message = match own || namespace.is_empty() {
            true => format!("there is no {kind} {name}"),
            false => format!("there is no {kind} {namespace}/{name}"),
        };
        let missing = Diagnostic::error("NotFound", message, reference.span);
        Some(self.nearest(missing.at(reference.path.as_str()), kind, namespace, name))
    }

    /// Adds the nearest name to a message: in the namespace, else the same name in another one.
    pub fn nearest(
        &self,
        missing: Diagnostic,
        kind: &str,
        namespace: &Text,
        name: &Text,
    ) -> Diagnostic {
        let elsewhere = (self.named.iter()).find(|(k, _, n)| k == kind && n == name);
        if let Some((_, namespace, name)) = elsewhere {
            let (namespace, name) = (namespace.as_str(), name.as_str());
            return missing.hint(format!("did you mean {namespace}/{name}?"));
        }
        let names = self.names(kind, namespace);
        if names.is_empty() {
            let cause = format!("no {kind} is in namespace {}", namespace.as_str());
            let missing = missing.cause(cause);
            let all: Vec<String> = (self.named.iter())
                .filter(|(k, ..)| k == kind)
                .map(|(_, namespace, name)| format!("{}/{}", namespace.as_str(), name.as_str()))
                .collect();
            return match all.is_empty() {
                true => missing,
                false => missing.suggest(name, all.iter().map(String::as_str)),
            };
        }
        missing.suggest(name, names)
    }
}

/// The kind of a row as in manifests.
pub fn kind_name(row: &Row) -> String {
    match row {
        Row::Inert(inert) => inert.kind.to_string(),
        row => row.kind().name().to_owned(),
    }
}
