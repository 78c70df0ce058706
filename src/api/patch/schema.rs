//! Which lists of the built-in kinds are merged, and by which key.
//!
//! Read off the `patchStrategy` and `patchMergeKey` tags of `k8s.io/api/…/types.go` and of
//! `apimachinery/…/meta/v1/types.go`. Only fields that lead to a tag are listed: any other list is
//! replaced as a whole (tolerations and taints among them), any other map is merged key by key.

/// How a field is patched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Field {
    /// The type of the field, or of the items of a list; empty when nothing in it has a tag.
    pub(super) of: &'static str,
    /// Whether a list is merged.
    pub(super) merge: bool,
    /// The key that names the items of a merged list; empty for lists of scalars.
    pub(super) key: &'static str,
    /// Whether a map is replaced.
    pub(super) replace: bool,
    /// Whether a difference names all keys that the map, or the item, may have (`retainKeys`).
    pub(super) retain: bool,
}

/// The API groups whose kinds a strategic merge patch knows. Others are custom resources.
const GROUPS: [&str; 22] = [
    "",
    "admissionregistration.k8s.io",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "extensions",
    "flowcontrol.apiserver.k8s.io",
    "imagepolicy.k8s.io",
    "internal.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
];

/// Whether the API version belongs to a built-in group.
pub(crate) fn is_built_in(api_version: &str) -> bool {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    GROUPS.contains(&group)
}

const fn object(of: &'static str) -> Field {
    Field {
        of,
        merge: false,
        key: "",
        replace: false,
        retain: false,
    }
}

const fn list(of: &'static str, key: &'static str) -> Field {
    Field {
        of,
        merge: true,
        key,
        replace: false,
        retain: false,
    }
}

/// The same field, with the strategy `retainKeys` beside its own.
const fn retaining(field: Field) -> Field {
    Field {
        retain: true,
        ..field
    }
}

/// The field of a type; a kind is the type of the whole object.
pub(super) fn field(of: &str, name: &str) -> Field {
    // Every kind has metadata, and types that are no kinds have no field of that name, except the
    // templates, whose metadata is of the same type.
    if name == "metadata" && !of.is_empty() {
        return object("ObjectMeta");
    }
    match of {
        "ObjectMeta" => match name {
            "finalizers" => list("", ""),
            "ownerReferences" => list("", "uid"),
            _ => Field::default(),
        },
        "Pod" | "PodTemplateSpec" => match name {
            "spec" => object("PodSpec"),
            "status" => object("PodStatus"),
            _ => Field::default(),
        },
        "PodSpec" => pod_spec(name),
        "Container" => container(name),
        "PodStatus" => match name {
            "hostIPs" | "podIPs" => list("", "ip"),
            "resourceClaimStatuses" => retaining(list("", "name")),
            _ => conditions(name),
        },
        _ => workload(of, name),
    }
}

fn pod_spec(name: &str) -> Field {
    match name {
        "containers" | "initContainers" | "ephemeralContainers" => list("Container", "name"),
        "volumes" => retaining(list("Volume", "name")),
        "imagePullSecrets" | "schedulingGates" => list("", "name"),
        "resourceClaims" => retaining(list("", "name")),
        "hostAliases" => list("", "ip"),
        "topologySpreadConstraints" => list("", "topologyKey"),
        _ => Field::default(),
    }
}

fn container(name: &str) -> Field {
    match name {
        "ports" => list("", "containerPort"),
        "env" => list("", "name"),
        "volumeMounts" => list("", "mountPath"),
        "volumeDevices" => list("", "devicePath"),
        _ => Field::default(),
    }
}

fn conditions(name: &str) -> Field {
    match name {
        "conditions" => list("", "type"),
        _ => Field::default(),
    }
}

/// Kinds other than pods, and the types of their fields.
fn workload(of: &str, name: &str) -> Field {
    match (of, name) {
        ("Deployment", "spec") => object("DeploymentSpec"),
        ("DeploymentSpec", "strategy") => retaining(object("")),
        ("DeploymentSpec", "template") => object("PodTemplateSpec"),
        ("ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job", "spec")
        | ("ReplicationController" | "JobTemplateSpec", "spec") => object("WorkloadSpec"),
        ("WorkloadSpec", "template") | ("PodTemplate", "template") => object("PodTemplateSpec"),
        ("CronJob", "spec") => object("CronJobSpec"),
        ("CronJobSpec", "jobTemplate") => object("JobTemplateSpec"),
        ("Service", "spec") => object("ServiceSpec"),
        ("ServiceSpec", "ports") => list("", "port"),
        ("ServiceAccount", "secrets") => list("", "name"),
        ("Node", "spec") => object("NodeSpec"),
        ("NodeSpec", "podCIDRs") => list("", ""),
        ("Node", "status") => object("NodeStatus"),
        ("NodeStatus", "addresses") => list("", "type"),
        ("PodDisruptionBudget", "spec") => object("PodDisruptionBudgetSpec"),
        ("PodDisruptionBudgetSpec", "selector") => Field {
            replace: true,
            ..object("")
        },
        ("CSINode", "spec") => object("CSINodeSpec"),
        ("CSINodeSpec", "drivers") => list("", "name"),
        ("Volume", "ephemeral") => object("EphemeralVolumeSource"),
        ("EphemeralVolumeSource", "volumeClaimTemplate") => object("PersistentVolumeClaimTemplate"),
        ("ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration", "webhooks") => {
            list("Webhook", "name")
        }
        ("ValidatingAdmissionPolicy", "spec") => object("ValidatingAdmissionPolicySpec"),
        ("MutatingAdmissionPolicy", "spec") => object("MutatingAdmissionPolicySpec"),
        ("ValidatingAdmissionPolicySpec", "variables")
        | ("ValidatingAdmissionPolicySpec" | "MutatingAdmissionPolicySpec", "matchConditions")
        | ("Webhook", "matchConditions") => list("", "name"),
        ("ResourceClaim", "status") => object("ResourceClaimStatus"),
        ("ResourceClaimStatus", "reservedFor") => list("", "uid"),
        ("ComponentStatus", _) => conditions(name),
        ("NodeStatus" | "Status", _) => conditions(name),
        (kind, "status") if HAVE_CONDITIONS.contains(&kind) => object("Status"),
        _ => Field::default(),
    }
}

/// The kinds whose status has conditions that are merged by type.
const HAVE_CONDITIONS: [&str; 14] = [
    "DaemonSet",
    "Deployment",
    "FlowSchema",
    "HorizontalPodAutoscaler",
    "Job",
    "Namespace",
    "PersistentVolumeClaim",
    "PodDisruptionBudget",
    "PriorityLevelConfiguration",
    "ReplicaSet",
    "ReplicationController",
    "Service",
    "ServiceCIDR",
    "StatefulSet",
];
