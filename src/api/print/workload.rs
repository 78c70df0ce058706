//! Specs and statuses of StatefulSets, DaemonSets and ControllerRevisions as JSON.

use serde_json::{Map, Value, json};

use super::object::put;
use crate::api::{ControllerRevision, DaemonSet, PodTemplate, StatefulSet};

/// The spec as it came, under the typed template.
fn spec(source: &Value, template: &PodTemplate) -> Map<String, Value> {
    let mut spec = source.as_object().cloned().unwrap_or_default();
    put(&mut spec, "template", Value::clone(&template.source));
    spec
}

pub(super) fn stateful_set(set: &StatefulSet, put_in: &mut impl FnMut(&str, Value)) {
    let mut spec = spec(&set.source, &set.template);
    spec.insert("replicas".to_owned(), json!(set.replicas));
    put_in("spec", spec.into());
    let status = &set.status;
    let mut map = Map::new();
    put(
        &mut map,
        "observedGeneration",
        json!(status.observed_generation),
    );
    map.insert("replicas".to_owned(), json!(status.replicas));
    put(&mut map, "readyReplicas", json!(status.ready));
    put(&mut map, "currentReplicas", json!(status.current));
    put(&mut map, "updatedReplicas", json!(status.updated));
    let current = json!(status.current_revision.as_str());
    put(&mut map, "currentRevision", current);
    let update = json!(status.update_revision.as_str());
    put(&mut map, "updateRevision", update);
    if let Some(collisions) = status.collisions {
        map.insert("collisionCount".to_owned(), json!(collisions));
    }
    map.insert("availableReplicas".to_owned(), json!(status.available));
    put_in("status", map.into());
}

pub(super) fn daemon_set(set: &DaemonSet, put_in: &mut impl FnMut(&str, Value)) {
    put_in("spec", spec(&set.source, &set.template).into());
    let status = &set.status;
    let mut map = Map::new();
    let mut always = |key: &str, count: i32| {
        map.insert(key.to_owned(), json!(count));
    };
    always("currentNumberScheduled", status.current);
    always("numberMisscheduled", status.misscheduled);
    always("desiredNumberScheduled", status.desired);
    always("numberReady", status.ready);
    put(
        &mut map,
        "observedGeneration",
        json!(status.observed_generation),
    );
    put(&mut map, "updatedNumberScheduled", json!(status.updated));
    put(&mut map, "numberAvailable", json!(status.available));
    put(&mut map, "numberUnavailable", json!(status.unavailable));
    if let Some(collisions) = status.collisions {
        map.insert("collisionCount".to_owned(), json!(collisions));
    }
    put_in("status", map.into());
}

/// `getPatch`: the patch that restores the template.
pub(super) fn revision(revision: &ControllerRevision, put_in: &mut impl FnMut(&str, Value)) {
    let data = if revision.data.is_null() {
        let mut template = Value::clone(&revision.template.source);
        if let Some(template) = template.as_object_mut() {
            template.insert("$patch".to_owned(), json!("replace"));
        }
        json!({"spec": {"template": template}})
    } else {
        Value::clone(&revision.data)
    };
    put_in("data", data);
    put_in("revision", json!(revision.revision));
}
