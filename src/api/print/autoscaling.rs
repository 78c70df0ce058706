//! HorizontalPodAutoscalers as JSON.

use serde_json::{Map, Value, json};

use super::object::{Clock, put};
use super::status::workload_condition;
use crate::api::HorizontalPodAutoscaler;
use crate::api::autoscaling::MetricStatus;

pub(super) fn autoscaler(
    autoscaler: &HorizontalPodAutoscaler,
    clock: Clock,
    set: &mut impl FnMut(&str, Value),
) {
    set("spec", Value::clone(&autoscaler.source));
    let status = &autoscaler.status;
    let mut map = Map::new();
    if let Some(at) = status.last_scale {
        map.insert("lastScaleTime".to_owned(), clock.print(at));
    }
    put(&mut map, "currentReplicas", json!(status.current));
    map.insert("desiredReplicas".to_owned(), json!(status.desired));
    // Not optional: without metrics it is `null`.
    let metrics: Option<Value> =
        (!status.metrics.is_empty()).then(|| status.metrics.iter().map(metric).collect());
    map.insert("currentMetrics".to_owned(), json!(metrics));
    let conditions = status.conditions.iter();
    let conditions = conditions.map(|c| workload_condition(c, clock, false));
    put(&mut map, "conditions", conditions.collect());
    set("status", map.into());
}

/// A metric that could not be had has an empty type.
fn metric(status: &MetricStatus) -> Value {
    let Some(resource) = &status.resource else {
        return json!({"type": ""});
    };
    let mut current = json!({"averageValue": status.value.to_string()});
    if let Some(percent) = status.utilization {
        current["averageUtilization"] = json!(percent);
    }
    let mut of = json!({"name": resource.as_str(), "current": current});
    match &status.container {
        None => json!({"type": "Resource", "resource": of}),
        Some(container) => {
            of["container"] = json!(container.as_str());
            json!({"type": "ContainerResource", "containerResource": of})
        }
    }
}
