//! Which kinds a server of the reference version has in its own groups, as its discovery lists
//! them, and what is said of a kind that is none of them.

use super::Problem;
use crate::api::yaml::{Node, closest};

/// The versions that are served by default, and the kinds of each.
const SERVED: &[(&str, &[&str])] = &[
    (
        "admissionregistration.k8s.io/v1",
        &[
            "MutatingAdmissionPolicy",
            "MutatingAdmissionPolicyBinding",
            "MutatingWebhookConfiguration",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
            "ValidatingWebhookConfiguration",
        ],
    ),
    ("apiextensions.k8s.io/v1", &["CustomResourceDefinition"]),
    ("apiregistration.k8s.io/v1", &["APIService"]),
    (
        "apps/v1",
        &[
            "ControllerRevision",
            "DaemonSet",
            "Deployment",
            "ReplicaSet",
            "StatefulSet",
        ],
    ),
    (
        "authentication.k8s.io/v1",
        &["SelfSubjectReview", "TokenReview"],
    ),
    (
        "authorization.k8s.io/v1",
        &[
            "LocalSubjectAccessReview",
            "SelfSubjectAccessReview",
            "SelfSubjectRulesReview",
            "SubjectAccessReview",
        ],
    ),
    ("autoscaling/v1", &["HorizontalPodAutoscaler"]),
    ("autoscaling/v2", &["HorizontalPodAutoscaler"]),
    ("batch/v1", &["CronJob", "Job"]),
    ("certificates.k8s.io/v1", &["CertificateSigningRequest"]),
    ("coordination.k8s.io/v1", &["Lease"]),
    ("discovery.k8s.io/v1", &["EndpointSlice"]),
    ("events.k8s.io/v1", &["Event"]),
    (
        "flowcontrol.apiserver.k8s.io/v1",
        &["FlowSchema", "PriorityLevelConfiguration"],
    ),
    (
        "networking.k8s.io/v1",
        &[
            "IPAddress",
            "Ingress",
            "IngressClass",
            "NetworkPolicy",
            "ServiceCIDR",
        ],
    ),
    ("node.k8s.io/v1", &["RuntimeClass"]),
    ("policy/v1", &["Eviction", "PodDisruptionBudget"]),
    (
        "rbac.authorization.k8s.io/v1",
        &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"],
    ),
    (
        "resource.k8s.io/v1",
        &[
            "DeviceClass",
            "ResourceClaim",
            "ResourceClaimTemplate",
            "ResourceSlice",
        ],
    ),
    ("scheduling.k8s.io/v1", &["PriorityClass"]),
    (
        "storage.k8s.io/v1",
        &[
            "CSIDriver",
            "CSINode",
            "CSIStorageCapacity",
            "StorageClass",
            "VolumeAttachment",
            "VolumeAttributesClass",
        ],
    ),
    (
        "v1",
        &[
            "Binding",
            "ComponentStatus",
            "ConfigMap",
            "Endpoints",
            "Event",
            "LimitRange",
            "Namespace",
            "Node",
            "PersistentVolume",
            "PersistentVolumeClaim",
            "Pod",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
            "Secret",
            "Service",
            "ServiceAccount",
        ],
    ),
];

fn group(version: &str) -> &str {
    version.split_once('/').map_or("", |(group, _)| group)
}

/// What is wrong with a kind that Kubernetes' own groups do not have in this version.
pub(super) struct Unknown {
    pub(super) problem: Problem,
    /// Whether nothing can be made of it. Versions that came before or may come are let pass: files
    /// of other clusters have them.
    pub(super) refused: bool,
}

/// `meta :: NoKindMatchError`: a kind that is nearly one of Kubernetes' own, or one in the wrong
/// version; nothing for the kinds of other groups.
pub(super) fn unknown_kind(node: &Node, version: &str, kind: &str) -> Option<Unknown> {
    let ours = SERVED.iter().any(|(v, _)| group(v) == group(version));
    let served = SERVED
        .iter()
        .any(|(v, kinds)| *v == version && kinds.contains(&kind));
    if !ours || served || kind.ends_with("List") {
        return None;
    }
    let homes = SERVED.iter().filter(|(_, kinds)| kinds.contains(&kind));
    let home = homes.rev().min_by_key(|(v, _)| group(v) != group(version));
    let kinds = || SERVED.iter().flat_map(|(_, kinds)| kinds.iter().copied());
    let hint = match home {
        Some((v, _)) => format!(" (did you mean apiVersion \"{v}\"?)"),
        None => closest(kind, kinds())
            .map_or(String::new(), |near| format!(" (did you mean \"{near}\"?)")),
    };
    let experimental = version.contains("alpha") || version.contains("beta");
    Some(Unknown {
        problem: Problem {
            path: "kind".to_owned(),
            span: node.get("kind").map(|n| n.span).filter(|s| s.is_known()),
            reason: "UnknownKind".to_owned(),
            message: format!("no matches for kind \"{kind}\" in version \"{version}\"{hint}"),
        },
        refused: !experimental,
    })
}
