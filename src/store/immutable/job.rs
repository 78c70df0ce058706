//! Jobs: almost nothing of a Job changes; the template of one that is suspended may, in part.

use std::sync::Arc;

use serde_json::Value;

use super::immutable;
use crate::api::Job;

/// `pkg/apis/batch/validation :: ValidateJobSpecUpdate`.
pub(super) fn check(old: &Job, new: &Job, causes: &mut Vec<String>) {
    if Arc::ptr_eq(&old.spec.source, &new.spec.source) {
        return;
    }
    let (a, b) = (&*old.spec.source, &*new.spec.source);
    completions(a, b, causes);
    let mut fixed = |field: &str| {
        if a.get(field) != b.get(field) {
            let value = b.get(field).unwrap_or(&Value::Null);
            causes.push(immutable(&format!("spec.{field}"), value));
        }
    };
    fixed("selector");
    template(old, a, b, causes);
    let mut fixed = |field: &str| {
        if a.get(field) != b.get(field) {
            let value = b.get(field).unwrap_or(&Value::Null);
            causes.push(immutable(&format!("spec.{field}"), value));
        }
    };
    fixed("completionMode");
    fixed("podFailurePolicy");
    fixed("backoffLimitPerIndex");
    fixed("managedBy");
    fixed("successPolicy");
}

/// `validateCompletions`: those of an indexed Job may change together with its parallelism.
fn completions(old: &Value, new: &Value, causes: &mut Vec<String>) {
    let (before, after) = (old.get("completions"), new.get("completions"));
    if before == after {
        return;
    }
    let shown = after.unwrap_or(&Value::Null);
    if new["completionMode"] != "Indexed" {
        causes.push(immutable("spec.completions", shown));
    } else if after.is_some() && after != new.get("parallelism") {
        causes.push(format!(
            "spec.completions: Invalid value: {shown}: can only be modified in tandem with \
             spec.parallelism"
        ));
    }
}

/// `validatePodTemplateUpdate`, with the gates `MutablePodResourcesForSuspendedJobs` and
/// `MutableSchedulingDirectivesForSuspendedJobs` as 1.36 has them: both on.
fn template(job: &Job, old: &Value, new: &Value, causes: &mut Vec<String>) {
    let (mut old, new) = (old["template"].clone(), &new["template"]);
    // `shouldAllowMutablePodTemplate`.
    let status = &job.status;
    let waits = |c: &crate::api::pod_status::Truth| *c == crate::api::pod_status::Truth::True;
    let suspended = status
        .condition("Suspended")
        .is_some_and(|c| waits(&c.status));
    let mutable = job.spec.suspend && (status.start.is_none() || suspended) && status.active == 0;
    if mutable {
        directives(&mut old, new);
    }
    if !mutable {
        if old != *new {
            causes.push(immutable("spec.template", new));
        }
        return;
    }
    resources(&mut old["spec"], &new["spec"]);
    if old["spec"] != new["spec"] {
        causes.push(immutable("spec.template.spec", &new["spec"]));
    }
}

/// Takes over what says where the pods go.
fn directives(old: &mut Value, new: &Value) {
    let take = |old: &mut Value, new: &Value, field: &str| match new.get(field) {
        Some(value) => old[field] = value.clone(),
        None => drop(old.as_object_mut().and_then(|map| map.shift_remove(field))),
    };
    let none = Value::Null;
    let meta = new.get("metadata").unwrap_or(&none);
    for field in ["annotations", "labels"] {
        take(&mut old["metadata"], meta, field);
    }
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        take(&mut old["spec"], &new["spec"], field);
    }
    let affinity = new["spec"].get("affinity").cloned().unwrap_or_default();
    let mut merged = old["spec"].get("affinity").cloned().unwrap_or_default();
    match affinity.get("nodeAffinity") {
        Some(terms) => merged["nodeAffinity"] = terms.clone(),
        None => drop(
            merged
                .as_object_mut()
                .and_then(|map| map.shift_remove("nodeAffinity")),
        ),
    }
    let empty = merged.as_object().is_none_or(serde_json::Map::is_empty);
    if let Some(spec) = old["spec"].as_object_mut() {
        match empty && affinity.is_null() {
            true => drop(spec.shift_remove("affinity")),
            false => drop(spec.insert("affinity".to_owned(), merged)),
        }
    }
}

/// Takes over the resources of containers that keep their name and place.
fn resources(old: &mut Value, new: &Value) {
    for list in ["containers", "initContainers"] {
        let (Some(before), Some(after)) = (
            old.get_mut(list).and_then(Value::as_array_mut),
            new.get(list).and_then(Value::as_array),
        ) else {
            continue;
        };
        if before.len() != after.len() {
            continue;
        }
        for (before, after) in before.iter_mut().zip(after) {
            if before["name"] == after["name"] {
                match after.get("resources") {
                    Some(resources) => before["resources"] = resources.clone(),
                    None => {
                        let map = before.as_object_mut();
                        map.and_then(|map| map.shift_remove("resources"));
                    }
                }
            }
        }
    }
}
