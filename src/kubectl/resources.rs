//! The words that kubectl takes for kinds: singular, plural, short, with a group or without.
//!
//! The kinds that the model acts on are typed; the other kinds of Kubernetes are in a table here;
//! custom resources are known by the objects themselves and by their CustomResourceDefinitions.
//! The table is that of the API discovery of the reference version.

use std::ops::Range;

use serde_json::Value;

use super::verb::{ParseError, ResourceKind};
use crate::api::{Inert, Kind, Row, Text};
use crate::store::View;

/// Short names of typed kinds.
const SHORT: &[(&str, Kind)] = &[
    ("po", Kind::Pod),
    ("no", Kind::Node),
    ("ns", Kind::Namespace),
    ("deploy", Kind::Deployment),
    ("rs", Kind::ReplicaSet),
    ("sts", Kind::StatefulSet),
    ("ds", Kind::DaemonSet),
    ("pv", Kind::PersistentVolume),
    ("pvc", Kind::PersistentVolumeClaim),
    ("sc", Kind::StorageClass),
    ("svc", Kind::Service),
    ("cm", Kind::ConfigMap),
    ("pdb", Kind::PodDisruptionBudget),
    ("pc", Kind::PriorityClass),
    ("cj", Kind::CronJob),
    ("quota", Kind::ResourceQuota),
    ("limits", Kind::LimitRange),
    ("hpa", Kind::HorizontalPodAutoscaler),
];

/// Kinds of Kubernetes that the model does not act on: kind, group, short names.
const OTHERS: &[(&str, &str, &[&str])] = &[
    ("ServiceAccount", "", &["sa"]),
    ("Endpoints", "", &["ep"]),
    ("ReplicationController", "", &["rc"]),
    ("PodTemplate", "", &[]),
    ("Ingress", "networking.k8s.io", &["ing"]),
    ("IngressClass", "networking.k8s.io", &[]),
    ("NetworkPolicy", "networking.k8s.io", &["netpol"]),
    ("IPAddress", "networking.k8s.io", &["ip"]),
    ("ServiceCIDR", "networking.k8s.io", &[]),
    ("Role", "rbac.authorization.k8s.io", &[]),
    ("RoleBinding", "rbac.authorization.k8s.io", &[]),
    ("ClusterRole", "rbac.authorization.k8s.io", &[]),
    ("ClusterRoleBinding", "rbac.authorization.k8s.io", &[]),
    (
        "CustomResourceDefinition",
        "apiextensions.k8s.io",
        &["crd", "crds"],
    ),
    ("APIService", "apiregistration.k8s.io", &[]),
    (
        "MutatingWebhookConfiguration",
        "admissionregistration.k8s.io",
        &[],
    ),
    (
        "ValidatingWebhookConfiguration",
        "admissionregistration.k8s.io",
        &[],
    ),
    (
        "ValidatingAdmissionPolicy",
        "admissionregistration.k8s.io",
        &[],
    ),
    (
        "ValidatingAdmissionPolicyBinding",
        "admissionregistration.k8s.io",
        &[],
    ),
    (
        "MutatingAdmissionPolicy",
        "admissionregistration.k8s.io",
        &[],
    ),
    (
        "MutatingAdmissionPolicyBinding",
        "admissionregistration.k8s.io",
        &[],
    ),
    ("CertificateSigningRequest", "certificates.k8s.io", &["csr"]),
    ("RuntimeClass", "node.k8s.io", &[]),
    ("FlowSchema", "flowcontrol.apiserver.k8s.io", &[]),
    (
        "PriorityLevelConfiguration",
        "flowcontrol.apiserver.k8s.io",
        &[],
    ),
    ("VolumeAttributesClass", "storage.k8s.io", &["vac"]),
    ("DeviceClass", "resource.k8s.io", &[]),
    ("ResourceClaim", "resource.k8s.io", &[]),
    ("ResourceClaimTemplate", "resource.k8s.io", &[]),
    ("ResourceSlice", "resource.k8s.io", &[]),
];

/// `apimachinery/pkg/api/meta :: UnsafeGuessKindToResource`, which is right for the kinds of
/// Kubernetes.
fn plural(kind: &str) -> String {
    let kind = kind.to_ascii_lowercase();
    if kind == "endpoints" {
        return kind;
    }
    match kind.strip_suffix('y') {
        Some(start) => format!("{start}ies"),
        None if kind.ends_with('s') => format!("{kind}es"),
        None => format!("{kind}s"),
    }
}

/// The word without its group, in small letters, and the group (with a version or not).
fn parts(word: &str) -> (String, &str) {
    let (plain, group) = word.split_once('.').unwrap_or((word, ""));
    (plain.to_ascii_lowercase(), group)
}

/// Whether `apps` or `v1.apps` names this group.
fn is_group(written: &str, group: &str) -> bool {
    let version = || written.strip_suffix(group)?.strip_suffix('.');
    written.is_empty() || written == group || version().is_some_and(|v| !v.contains('.'))
}

/// The group of an `apiVersion`.
fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// The kind that a word of a command line means. A word that is nearly a kind of Kubernetes is a
/// mistake; any other that is no kind of Kubernetes may be a custom resource.
///
/// # Errors
/// In kubectl's words.
pub(super) fn resource(word: &str, at: &Range<usize>) -> Result<ResourceKind, ParseError> {
    let (plain, group) = parts(word);
    let short = SHORT.iter().find(|(short, _)| *short == plain);
    let typed = short.map(|(_, kind)| *kind).or_else(|| {
        let fits = |kind: &&Kind| {
            **kind != Kind::Inert
                && (kind.name().to_ascii_lowercase() == plain || kind.plural() == plain)
        };
        Kind::ALL.iter().find(fits).copied()
    });
    if let Some(kind) = typed.filter(|kind| is_group(group, group_of(kind.api_version()))) {
        return Ok(ResourceKind::Typed(kind));
    }
    if built_in(word).is_some() || !group.is_empty() {
        return Ok(ResourceKind::Other(word.to_ascii_lowercase().into()));
    }
    let words = words();
    match crate::api::yaml::closest(&plain, words.iter().map(String::as_str)) {
        Some(near) => {
            let mut error = ParseError::new(no_such_type(word), at.clone());
            error.hint = Some(format!("did you mean {near}?"));
            Err(error)
        }
        None => Ok(ResourceKind::Other(plain.into())),
    }
}

/// What kubectl says of a word that is no kind.
pub fn no_such_type(word: &str) -> String {
    format!("error: the server doesn't have a resource type \"{word}\"")
}

/// Singular and plural words of all kinds of Kubernetes.
pub fn words() -> Vec<String> {
    let typed = Kind::ALL.iter().filter(|kind| **kind != Kind::Inert);
    let typed = typed.map(|kind| kind.name());
    let kinds = typed.chain(OTHERS.iter().map(|(kind, ..)| *kind));
    kinds
        .flat_map(|kind| [kind.to_ascii_lowercase(), plural(kind)])
        .collect()
}

/// The kind of Kubernetes, of those that the model does not act on, that a word means.
pub fn built_in(word: &str) -> Option<&'static str> {
    let (plain, written) = parts(word);
    let fits = |(kind, group, short): &&(&'static str, &str, &[&str])| {
        let named = kind.to_ascii_lowercase() == plain
            || plural(kind) == plain
            || short.contains(&plain.as_str());
        named && is_group(written, group)
    };
    OTHERS.iter().find(fits).map(|(kind, ..)| *kind)
}

/// Whether a word means the kind of this object.
pub fn means(word: &str, object: &Inert, view: &View) -> bool {
    if means_by_kind(word, object) {
        return true;
    }
    let definitions = view.rows(Kind::Inert);
    let mut definitions = definitions.iter().filter_map(|(_, row)| match row {
        Row::Inert(inert) if inert.kind == "CustomResourceDefinition" => Some(inert),
        _ => None,
    });
    definitions.any(|definition| defines(word, definition, object))
}

/// As [`means`], by the name of its kind alone.
pub fn means_by_kind(word: &str, object: &Inert) -> bool {
    let (plain, written) = parts(word);
    if let Some(kind) = built_in(word)
        && object.kind == kind
    {
        return true;
    }
    let kind = object.kind.to_ascii_lowercase();
    (kind == plain || plural(&kind) == plain) && is_group(written, group_of(&object.api_version))
}

/// Whether a CustomResourceDefinition gives this word to the kind of the object.
pub fn defines(word: &str, definition: &Inert, object: &Inert) -> bool {
    let (plain, written) = parts(word);
    let spec = &definition.body["spec"];
    let group = spec["group"].as_str().unwrap_or_default();
    let names = &spec["names"];
    let is = |value: &Value| value.as_str() == Some(plain.as_str());
    let short = names["shortNames"].as_array().into_iter().flatten();
    names["kind"] == object.kind.as_str()
        && group == group_of(&object.api_version)
        && is_group(written, group)
        && (is(&names["plural"]) || is(&names["singular"]) || short.into_iter().any(is))
}

/// `ingresses.networking.k8s.io`, as errors name a resource; the word itself where nothing is
/// known of it.
pub(super) fn printed(kind: &ResourceKind) -> Text {
    let with_group = |plural: String, group: &str| match group {
        "" => Text::from(plural),
        group => Text::from(format!("{plural}.{group}")),
    };
    match kind {
        ResourceKind::Typed(kind) => {
            with_group(kind.plural().to_owned(), group_of(kind.api_version()))
        }
        ResourceKind::Other(word) => {
            let found = built_in(word).and_then(|name| OTHERS.iter().find(|(k, ..)| *k == name));
            match found {
                Some((kind, group, _)) => with_group(plural(kind), group),
                None => word.clone(),
            }
        }
    }
}
