//! Rows and typed objects as the JSON that the API server prints.
//!
//! [`prune`] takes out what Go's `omitempty` leaves out; [`keeps_zero`] is the list of fields that
//! are pointers upstream, so that their zero is a value of its own. [`to_json`] prints a row:
//! metadata, the defaulted spec it came from with the typed fields that change in a run laid over,
//! and the status.

pub mod admit;
mod autoscaling;
mod batch;
mod object;
mod status;
mod workload;

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
    "endPort",
    "errorCode",
    "expirationSeconds",
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
    "persistentVolumeName",
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
    "selectPolicy",
    "serving",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "sizeLimit",
    "stabilizationWindowSeconds",
    "started",
    "startingDeadlineSeconds",
    "storageCapacity",
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
    ("hostPath", "type"),
    ("rollingUpdate", "partition"),
    ("spec", "replicas"),
    ("spec", "storageClassName"),
    ("azureDisk", "readOnly"),
    ("azureDisk", "fsType"),
    ("azureDisk", "kind"),
    ("csi", "fsType"),
    ("local", "fsType"),
    ("options", "value"),
    ("onExitCodes", "containerName"),
    ("service", "path"),
    ("target", "value"),
];

/// Whether a zero under `key` of `parent` is a value of its own.
pub fn keeps_zero(parent: &str, key: &str, node: &Node) -> bool {
    match key {
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

/// Takes out what upstream does not print: empty optional lists and maps.
pub fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, value| match value {
                Value::Array(items) if items.is_empty() => {
                    if REQUIRED_LISTS.contains(&key.as_str()) {
                        *value = Value::Null;
                        return true;
                    }
                    false
                }
                Value::Object(inner) if inner.is_empty() => !MAPS.contains(&key.as_str()),
                value => {
                    prune(value);
                    true
                }
            });
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}
