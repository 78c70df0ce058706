//! The recorded objects as rows, and kubectl's patches on them.

use std::sync::Arc;

use rehearsal::api::container::Container;
use rehearsal::api::decode::{DecodeContext, decode_json, with_patched_json};
use rehearsal::api::int_or_percent::IntOrPercent;
use rehearsal::api::print::to_json;
use rehearsal::api::selector::LabelSelector;
use rehearsal::api::workload::Strategy;
use rehearsal::api::{Deployment, Labels, Meta, Pod, PodSpec, PodTemplate, ReplicaSet, Row, Text};
use serde_json::Value;

/// The namespace that the recordings were made in.
pub const NAMESPACE: &str = "ns";

/// A row of a recorded object.
pub fn row(object: &Value) -> Result<Row, String> {
    let spec = &object["spec"];
    let row = match object["kind"].as_str().unwrap_or_default() {
        "Deployment" => deployment(object).into(),
        "ReplicaSet" => ReplicaSet {
            meta: meta(&object["metadata"]),
            replicas: int(&spec["replicas"], 1),
            min_ready_s: int(&spec["minReadySeconds"], 0),
            selector: selector(&spec["selector"]),
            template: Arc::new(template(&spec["template"])),
            source: Arc::new(spec.clone()),
            ..ReplicaSet::default()
        }
        .into(),
        "Pod" => Pod {
            meta: meta(&object["metadata"]),
            spec: Arc::new(pod_spec(spec)),
            ..Pod::default()
        }
        .into(),
        "StatefulSet" | "DaemonSet" | "Job" | "CronJob" => {
            let context = DecodeContext {
                default_namespace: NAMESPACE.to_owned(),
                ..DecodeContext::default()
            };
            let decoded = decode_json(object, &context);
            decoded.map_err(|problems| format!("{problems:?}"))?.row
        }
        kind => return Err(format!("{kind} objects are not replayed")),
    };
    Ok(row)
}

/// The row with a patch of kubectl.
pub fn patched(row: &Row, patch: &Value) -> Result<Row, String> {
    let mut json = to_json(row);
    merge(&mut json, patch);
    with_patched_json(row, &json, &DecodeContext::default())
        .map_err(|problems| format!("{problems:?}"))
}

/// A Deployment of JSON.
pub fn deployment(object: &Value) -> Deployment {
    let spec = &object["spec"];
    Deployment {
        meta: meta(&object["metadata"]),
        replicas: int(&spec["replicas"], 1),
        selector: selector(&spec["selector"]),
        template: Arc::new(template(&spec["template"])),
        strategy: strategy(&spec["strategy"]),
        min_ready_s: int(&spec["minReadySeconds"], 0),
        history_limit: int(&spec["revisionHistoryLimit"], 10),
        paused: spec["paused"].as_bool().unwrap_or(false),
        progress_deadline_s: int(&spec["progressDeadlineSeconds"], 600),
        source: Arc::new(spec.clone()),
        ..Deployment::default()
    }
}

/// The row as JSON again, as far as patches reach.
pub fn deployment_json(row: &Deployment) -> Value {
    let mut spec = Value::clone(&row.source);
    spec["replicas"] = row.replicas.into();
    spec["paused"] = row.paused.into();
    serde_json::json!({ "metadata": {"name": row.meta.name}, "spec": spec })
}

/// A strategic merge patch: maps are merged, containers are merged by name.
pub fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(target), Value::Array(patch)) => {
            for item in patch {
                let named = |other: &&mut Value| other["name"] == item["name"];
                match target.iter_mut().find(named) {
                    Some(old) => merge(old, item),
                    None => target.push(item.clone()),
                }
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

fn meta(json: &Value) -> Meta {
    Meta {
        namespace: NAMESPACE.into(),
        name: text(&json["name"]),
        labels: labels(&json["labels"]),
        annotations: labels(&json["annotations"]),
        ..Meta::default()
    }
}

/// Labels or annotations of JSON.
pub fn labels(json: &Value) -> Labels {
    let pairs = json.as_object().into_iter().flatten();
    pairs.map(|(k, v)| (k.as_str(), text(v))).collect()
}

fn text(json: &Value) -> Text {
    Text::from(json.as_str().unwrap_or_default())
}

fn int(json: &Value, default: i32) -> i32 {
    let number = json.as_i64().and_then(|n| i32::try_from(n).ok());
    number.unwrap_or(default)
}

fn selector(json: &Value) -> LabelSelector {
    LabelSelector::equals(labels(&json["matchLabels"]).iter())
}

fn template(json: &Value) -> PodTemplate {
    PodTemplate {
        labels: labels(&json["metadata"]["labels"]),
        annotations: labels(&json["metadata"]["annotations"]),
        spec: Arc::new(pod_spec(&json["spec"])),
        source: Arc::new(json.clone()),
    }
}

fn pod_spec(json: &Value) -> PodSpec {
    let containers = json["containers"].as_array().into_iter().flatten();
    PodSpec {
        containers: containers
            .map(|c| Container {
                name: text(&c["name"]),
                image: text(&c["image"]),
                ..Container::default()
            })
            .collect(),
        grace_s: u32::try_from(int(&json["terminationGracePeriodSeconds"], 30)).unwrap_or(30),
        source: Arc::new(json.clone()),
        ..PodSpec::default()
    }
}

fn strategy(json: &Value) -> Strategy {
    if json["type"] == "Recreate" {
        return Strategy::Recreate;
    }
    let bound = |key: &str| match &json["rollingUpdate"][key] {
        Value::String(s) => IntOrPercent::Percent(s.trim_end_matches('%').parse().unwrap_or(0)),
        Value::Null => IntOrPercent::Percent(25),
        number => IntOrPercent::Int(int(number, 0)),
    };
    Strategy::RollingUpdate {
        max_surge: bound("maxSurge"),
        max_unavailable: bound("maxUnavailable"),
    }
}
