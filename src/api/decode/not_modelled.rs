//! Which fields the model stores without acting on them.
//!
//! The list is honest rather than long: a field is named when its author would expect it to change
//! what happens in a run.

use serde_json::Value;

use super::NotModelled;
use crate::api::Kind;

/// Fields of a pod's spec.
const POD: &[&str] = &[
    "runtimeClassName",
    "dnsConfig",
    "hostAliases",
    "resourceClaims",
    "ephemeralContainers",
    "schedulingGroup",
    "setHostnameAsFQDN",
];

/// Fields of a Service's spec.
const SERVICE: &[&str] = &[
    "externalIPs",
    "loadBalancerSourceRanges",
    "ipFamilyPolicy",
    "trafficDistribution",
    "healthCheckNodePort",
];

/// Fields of a Job's spec: a Job with `managedBy` waits for a controller that is not here.
const JOB: &[&str] = &["managedBy"];

/// What of this object the model does not act on.
pub(super) fn not_modelled(kind: Kind, json: &Value) -> Vec<NotModelled> {
    let spec = |path: &str, fields: &[&str], name: &str| -> Vec<NotModelled> {
        let Some(spec) = json.pointer(path) else {
            return Vec::new();
        };
        let path = path[1..].replace('/', ".");
        let found = fields.iter().filter(|field| spec.get(field).is_some());
        found
            .map(|field| NotModelled {
                what: format!("{name}.{field}"),
                path: format!("{path}.{field}"),
            })
            .collect()
    };
    match kind {
        Kind::Pod => spec("/spec", POD, "Pod"),
        Kind::Job => [
            spec("/spec", JOB, "Job"),
            spec("/spec/template/spec", POD, "Pod"),
        ]
        .concat(),
        Kind::CronJob => [
            spec("/spec/jobTemplate/spec", JOB, "Job"),
            spec("/spec/jobTemplate/spec/template/spec", POD, "Pod"),
        ]
        .concat(),
        Kind::Deployment | Kind::ReplicaSet | Kind::StatefulSet | Kind::DaemonSet => {
            spec("/spec/template/spec", POD, "Pod")
        }
        Kind::Service => spec("/spec", SERVICE, "Service"),
        Kind::Inert => {
            let kind = json.get("kind").and_then(Value::as_str).unwrap_or_default();
            vec![NotModelled {
                what: kind.to_owned(),
                path: String::new(),
            }]
        }
        _ => Vec::new(),
    }
}
