//! Which fields the model stores without acting on them.
//!
//! The list is honest rather than long: a field is named when its author would expect it to change
//! what happens in a run.

use serde_json::Value;

use super::NotModelled;
use crate::api::Kind;
use crate::api::webhook::{WebhookType, literal};

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

/// Fields of a container: resources never change in place.
const CONTAINER: &[&str] = &["resizePolicy"];

/// Fields of a Service's spec.
const SERVICE: &[&str] = &[
    "externalIPs",
    "loadBalancerSourceRanges",
    "ipFamilyPolicy",
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
    let pods = |path: &str| [spec(path, POD, "Pod"), containers(json, path)].concat();
    match kind {
        Kind::Pod => pods("/spec"),
        Kind::Job => [spec("/spec", JOB, "Job"), pods("/spec/template/spec")].concat(),
        Kind::CronJob => {
            let job = "/spec/jobTemplate/spec";
            [spec(job, JOB, "Job"), pods(&format!("{job}/template/spec"))].concat()
        }
        Kind::Deployment | Kind::ReplicaSet | Kind::StatefulSet | Kind::DaemonSet => {
            pods("/spec/template/spec")
        }
        Kind::Service => spec("/spec", SERVICE, "Service"),
        Kind::Inert => {
            let kind = json.get("kind").and_then(Value::as_str).unwrap_or_default();
            if let Some(this) = WebhookType::of_kind(kind) {
                return webhooks(this, json);
            }
            vec![NotModelled {
                what: kind.to_owned(),
                path: String::new(),
            }]
        }
        _ => Vec::new(),
    }
}

/// Of a webhook's configuration: what a webhook that answers says is not known, nor what is outside
/// the cluster, nor what an expression makes of a request.
fn webhooks(this: WebhookType, json: &Value) -> Vec<NotModelled> {
    let named = |what: &str, path: String| NotModelled {
        what: what.to_owned(),
        path,
    };
    let answers = match this {
        WebhookType::Mutating => "changes by webhooks",
        WebhookType::Validating => "denials by webhooks",
    };
    let mut found = vec![named(answers, "webhooks".to_owned())];
    let list = json.get("webhooks").and_then(Value::as_array);
    for (at, each) in list.into_iter().flatten().enumerate() {
        if each.pointer("/clientConfig/url").is_some() {
            let path = format!("webhooks[{at}].clientConfig.url");
            found.push(named("Webhook.clientConfig.url", path));
        }
        let conditions = each.get("matchConditions").and_then(Value::as_array);
        let expressions = conditions.into_iter().flatten().enumerate();
        for (n, condition) in expressions {
            let expression = condition.get("expression").and_then(Value::as_str);
            if expression.and_then(literal).is_none() {
                let path = format!("webhooks[{at}].matchConditions[{n}].expression");
                found.push(named("Webhook.matchConditions", path));
            }
        }
    }
    found
}

/// The fields of the containers of a pod's spec.
fn containers(json: &Value, path: &str) -> Vec<NotModelled> {
    let mut found = Vec::new();
    for list in ["initContainers", "containers"] {
        let items = json.pointer(path).and_then(|spec| spec.get(list));
        let items = items.and_then(Value::as_array).into_iter().flatten();
        for (at, item) in items.enumerate() {
            let fields = CONTAINER.iter().filter(|field| item.get(field).is_some());
            found.extend(fields.map(|field| NotModelled {
                what: format!("Container.{field}"),
                path: format!("{}.{list}[{at}].{field}", path[1..].replace('/', ".")),
            }));
        }
    }
    found
}
