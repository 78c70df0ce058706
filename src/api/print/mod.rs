//! Rows and typed objects as the JSON that the API server prints.
//!
//! [`prune`] takes out what Go's `omitempty` leaves out; [`keeps_zero`] is the list of fields that
//! are pointers upstream, so that their zero is a value of its own. [`to_json`] prints a row:
//! metadata, the defaulted spec it came from with the typed fields that change in a run laid over,
//! and the status.

pub mod admit;
mod autoscaling;
mod batch;
mod go;
mod object;
mod status;
mod workload;

pub use go::go_value;
pub use object::{to_json, to_json_at};

use serde_json::Value;

use super::yaml::{Node, NodeValue};

/// Optional scalars whose zero is printed: pointers upstream.
const POINTERS: &[&str] = &[
    "activeDeadlineSeconds",
    "adminAccess",
    "allocateLoadBalancerNodePorts",
    "allowPrivilegeEscalation",
    "allowVolumeExpansion",
    "allNodes",
    "appProtocol",
    "attachRequired",
    "automountServiceAccountToken",
    "averageUtilization",
    "averageValue",
    "backoffLimit",
    "backoffLimitPerIndex",
    "blockOwnerDeletion",
    "borrowingLimitPercent",
    "cachingMode",
    "collisionCount",
    "completionMode",
    "completions",
    "currentCPUUtilizationPercentage",
    "defaultMode",
    "deletionGracePeriodSeconds",
    "enableServiceLinks",
    "endpointsNamespace",
    "endPort",
    "errorCode",
    "expirationSeconds",
    "failedIndexes",
    "failedJobsHistoryLimit",
    "failurePolicy",
    "fsGroup",
    "fsGroupChangePolicy",
    "fsGroupPolicy",
    "gmsaCredentialSpec",
    "gmsaCredentialSpecName",
    "holderIdentity",
    "hostProcess",
    "hostUsers",
    "hostnameOverride",
    "immutable",
    "ingressClassName",
    "initiatorName",
    "internalTrafficPolicy",
    "ipFamilyPolicy",
    "ipMode",
    "leaseDurationSeconds",
    "leaseTransitions",
    "lendablePercent",
    "limitBytes",
    "loadBalancerClass",
    "localhostProfile",
    "lun",
    "managedBy",
    "manualSelector",
    "matchPolicy",
    "maxExpirationSeconds",
    "maxFailedIndexes",
    "maxSurge",
    "maxUnavailable",
    "minAvailable",
    "minDomains",
    "minReplicas",
    "mode",
    "mountPropagation",
    "nodeAffinityPolicy",
    "nodeTaintsPolicy",
    "nominalConcurrencyShares",
    "optional",
    "parallelism",
    "pathType",
    "persistentVolumeName",
    "podGroupName",
    "podInfoOnMount",
    "podReplacementPolicy",
    "port",
    "preemptionPolicy",
    "priority",
    "privileged",
    "procMount",
    "progressDeadlineSeconds",
    "readOnlyRootFilesystem",
    "ready",
    "reclaimPolicy",
    "recursiveReadOnly",
    "requiresRepublish",
    "resourceClaimName",
    "resourceClaimTemplateName",
    "revisionHistoryLimit",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "runAsUserName",
    "runtimeClassName",
    "scope",
    "seLinuxChangePolicy",
    "seLinuxMount",
    "secretNamespace",
    "selectPolicy",
    "serving",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "sizeLimit",
    "stabilizationWindowSeconds",
    "started",
    "startingDeadlineSeconds",
    "stopSignal",
    "storageCapacity",
    "succeededCount",
    "succeededIndexes",
    "successfulJobsHistoryLimit",
    "supplementalGroupsPolicy",
    "suspend",
    "targetCPUUtilizationPercentage",
    "terminating",
    "terminatingReplicas",
    "terminationGracePeriodSeconds",
    "timeZone",
    "timeoutSeconds",
    "tolerance",
    "tolerationSeconds",
    "trafficDistribution",
    "ttlSecondsAfterFinished",
    "unhealthyPodEvictionPolicy",
    "url",
    "volumeAttributesClassName",
    "volumeBindingMode",
    "volumeMode",
    "zone",
];

/// Optional scalars that are pointers in one parent only.
const POINTERS_IN: &[(&str, &str)] = &[
    ("addresses", "nodeName"),
    ("allocatable", "count"),
    ("clusterTrustBundle", "name"),
    ("clusterTrustBundle", "signerName"),
    ("containers", "restartPolicy"),
    ("dataSource", "apiGroup"),
    ("dataSourceRef", "apiGroup"),
    ("dataSourceRef", "namespace"),
    ("endpoints", "hostname"),
    ("endpoints", "nodeName"),
    ("ephemeralContainers", "restartPolicy"),
    ("hostPath", "type"),
    ("initContainers", "restartPolicy"),
    ("notReadyAddresses", "nodeName"),
    ("parameters", "apiGroup"),
    ("parameters", "namespace"),
    ("resource", "apiGroup"),
    ("rollingUpdate", "partition"),
    ("spec", "nodeAllocatableUpdatePeriodSeconds"),
    ("spec", "preferredHolder"),
    ("spec", "replicas"),
    ("spec", "serviceAccountTokenInSecrets"),
    ("spec", "storageClassName"),
    ("azureDisk", "readOnly"),
    ("azureDisk", "fsType"),
    ("azureDisk", "kind"),
    ("local", "fsType"),
    ("options", "value"),
    ("onExitCodes", "containerName"),
    ("service", "path"),
    ("target", "value"),
];

/// Whether a zero under `key` of `parent`, itself in `grandparent`, is a value of its own.
pub fn keeps_zero(grandparent: &str, parent: &str, key: &str, node: &Node) -> bool {
    match key {
        // Ports of EndpointSlices.
        "name" | "protocol" if parent == "ports" && grandparent.is_empty() => true,
        "protocol" => parent == "ports" && matches!(grandparent, "ingress" | "egress"),
        // A pointer in the volumes of pods, plain text in PersistentVolumes.
        "fsType" | "readOnly" if parent == "csi" => grandparent == "volumes",
        // A number in owner references is `controller: false`, elsewhere it is text.
        "controller" => matches!(node.value, NodeValue::Bool(_)),
        _ => POINTERS.contains(&key) || POINTERS_IN.contains(&(parent, key)),
    }
}

/// Optional fields that are maps upstream: an empty one is not printed.
const MAPS: &[&str] = &[
    "allocatable",
    "allocatedResources",
    "annotations",
    "binaryData",
    "capacity",
    "data",
    "default",
    "defaultRequest",
    "hard",
    "labels",
    "limits",
    "matchLabels",
    "max",
    "maxLimitRequestRatio",
    "min",
    "nodeSelector",
    "options",
    "overhead",
    "parameters",
    "requests",
    "stringData",
    "used",
    "volumeAttributes",
];

/// Lists that upstream prints as `null` when they are empty, because they are not optional.
const REQUIRED_LISTS: &[&str] = &[
    "addresses",
    "containers",
    "drivers",
    "endpoints",
    "limits",
    "monitors",
    "nodeSelectorTerms",
    "paths",
    "verbs",
];

/// Those of them that are `null` even where an empty list was written.
const NEVER_EMPTY: &[&str] = &["drivers", "endpoints", "limits"];

/// Takes out what upstream does not print: empty optional lists and maps. `written` is the tree
/// that was read: a list that is not optional prints as it was written, `[]` or nothing.
pub fn prune(value: &mut Value, written: Option<&Node>) {
    match value {
        Value::Object(map) => {
            map.retain(|key, value| match value {
                Value::Array(items) if items.is_empty() => {
                    let as_list = written.and_then(|node| node.get(key));
                    let as_list = as_list.is_some_and(|n| matches!(n.value, NodeValue::List(_)));
                    if !REQUIRED_LISTS.contains(&key.as_str()) {
                        return false;
                    }
                    if !as_list || NEVER_EMPTY.contains(&key.as_str()) {
                        *value = Value::Null;
                    }
                    true
                }
                Value::Object(inner) if inner.is_empty() && list_inside(key).is_none() => {
                    !MAPS.contains(&key.as_str())
                }
                value => {
                    prune(value, written.and_then(|node| node.get(key)));
                    match key.as_str() {
                        "imagePullSecrets" => unnamed(value),
                        "dataSource" | "dataSourceRef" | "resource" => with_group(value),
                        _ => with_list(key, value),
                    }
                    true
                }
            });
        }
        Value::Array(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                let written = written.map(|node| &node.value);
                let written = match written {
                    Some(NodeValue::List(nodes)) => nodes.get(i),
                    _ => None,
                };
                prune(item, written);
            }
        }
        _ => {}
    }
}

/// Adds what upstream prints of an object even when it is not there.
pub fn complete(object: &mut Value) {
    let missing: &[(&str, Value)] = match object["kind"].as_str() {
        Some("Role" | "ClusterRole") => &[("rules", Value::Null)],
        Some("EndpointSlice") => &[("endpoints", Value::Null), ("ports", Value::Null)],
        Some("PersistentVolume") => {
            without_omission(&mut object["spec"]);
            &[]
        }
        Some("ControllerRevision") => &[("data", Value::Object(serde_json::Map::new()))],
        _ => &[],
    };
    for (field, value) in missing {
        if let Some(map) = object.as_object_mut() {
            map.entry(*field).or_insert_with(|| value.clone());
        }
    }
    let lists = match object["kind"].as_str() {
        Some("EndpointSlice") => object["endpoints"].as_array_mut(),
        Some("CSINode") => object["spec"]["drivers"].as_array_mut(),
        Some("Lease") => {
            if object.get("spec").is_none() {
                object["spec"] = Value::Object(serde_json::Map::new());
            }
            None
        }
        _ => None,
    };
    for item in lists.into_iter().flatten().filter_map(Value::as_object_mut) {
        match item.contains_key("nodeID") {
            true => item.entry("topologyKeys").or_insert(Value::Null),
            false => item
                .entry("conditions")
                .or_insert_with(|| Value::Object(serde_json::Map::new())),
        };
    }
}

/// The list that is not optional in objects under this key.
fn list_inside(key: &str) -> Option<&'static str> {
    match key {
        "podFailurePolicy" | "successPolicy" => Some("rules"),
        "projected" => Some("sources"),
        _ => None,
    }
}

fn with_list(key: &str, value: &mut Value) {
    if let (Some(list), Some(map)) = (list_inside(key), value.as_object_mut()) {
        map.entry(list).or_insert(Value::Null);
    }
}

/// Sources of volumes with a field that is printed even when it is not set.
fn without_omission(spec: &mut Value) {
    for (source, field) in [("azureFile", "secretNamespace"), ("scaleIO", "secretRef")] {
        if let Some(source) = spec.get_mut(source).and_then(Value::as_object_mut) {
            source.entry(field).or_insert(Value::Null);
        }
    }
}

/// The group of a reference to any kind is printed even when there is none.
fn with_group(reference: &mut Value) {
    if let Some(map) = reference.as_object_mut()
        && map.contains_key("kind")
        && !map.contains_key("apiGroup")
    {
        map.shift_insert(0, "apiGroup".to_owned(), Value::Null);
    }
}

/// An empty name of a reference is not printed.
fn unnamed(references: &mut Value) {
    for reference in references.as_array_mut().into_iter().flatten() {
        if let Some(map) = reference.as_object_mut()
            && map.get("name").and_then(Value::as_str) == Some("")
        {
            map.shift_remove("name");
        }
    }
}
