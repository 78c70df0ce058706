//! Pods: images, a deadline that gets nearer, more tolerations, fewer scheduling gates; for a pod
//! that is gated also a narrower choice of nodes.

use std::sync::Arc;

use serde_json::Value;

use super::with_differences;
use crate::api::print::to_json;
use crate::api::{Pod, Row};

/// `pkg/apis/core/validation :: ValidatePodUpdate`.
pub(super) fn check(old: &Arc<Pod>, new: &Arc<Pod>, causes: &mut Vec<String>) {
    annotations(old, new, causes);
    if Arc::ptr_eq(&old.spec, &new.spec) && old.node_name == new.node_name {
        return;
    }
    let print = |pod: &Arc<Pod>| to_json(&Row::Pod(pod.clone()))["spec"].take();
    let (a, b) = (print(old), print(new));
    if a == b {
        return;
    }
    for list in ["containers", "initContainers"] {
        let count = |spec: &Value| spec[list].as_array().map_or(0, Vec::len);
        if count(&a) != count(&b) {
            let why = "pod updates may not add or remove containers";
            causes.push(format!("spec.{list}: Forbidden: {why}"));
            return;
        }
    }
    if !deadline(&a, &b, causes) {
        return;
    }
    tolerations(&a, &b, causes);
    gates(&a, &b, causes);
    let mut munged = munged(&a, b);
    if a["schedulingGates"]
        .as_array()
        .is_some_and(|gates| !gates.is_empty())
    {
        gated(&a, &mut munged, causes);
    }
    if a != munged {
        let sentence = "spec: Forbidden: pod updates may not change fields other than \
                        `spec.containers[*].image`,`spec.initContainers[*].image`,\
                        `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
                        existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to \
                        be set to 1 if it was previously negative)";
        causes.push(with_differences(sentence, &a, &munged));
    }
}

/// `ValidatePodSpecificAnnotationUpdates`.
fn annotations(old: &Pod, new: &Pod, causes: &mut Vec<String>) {
    const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
    const MIRROR: &str = "kubernetes.io/config.mirror";
    let (a, b) = (&old.meta.annotations, &new.meta.annotations);
    if a == b {
        return;
    }
    let mut say = |key: &str, verb: &str| {
        let what = match key {
            MIRROR => "mirror pod annotation",
            key if key.starts_with(APP_ARMOR) => "AppArmor annotations",
            _ => return,
        };
        causes.push(format!(
            "metadata.annotations[{key}]: Forbidden: may not {verb} {what}"
        ));
    };
    for (key, _) in a.iter().filter(|(key, value)| b.get(key) != Some(value)) {
        say(key, "remove or update");
    }
    for (key, _) in b.iter().filter(|(key, _)| !a.contains(key)) {
        say(key, "add");
    }
}

/// The deadline may appear, and come nearer. `false` when nothing else is looked at.
fn deadline(old: &Value, new: &Value, causes: &mut Vec<String>) -> bool {
    let at = |spec: &Value| spec.get("activeDeadlineSeconds").and_then(Value::as_i64);
    let path = "spec.activeDeadlineSeconds: Invalid value";
    match (at(old), at(new)) {
        (Some(before), Some(after)) if before < after => {
            let why = "must be less than or equal to previous value";
            causes.push(format!("{path}: {after}: {why}"));
            false
        }
        (Some(_), None) => {
            let why = "must not update from a positive integer to nil value";
            causes.push(format!("{path}: null: {why}"));
            true
        }
        _ => true,
    }
}

/// `validateOnlyAddedTolerations`: all old ones are still there, but for their seconds.
fn tolerations(old: &Value, new: &Value, causes: &mut Vec<String>) {
    let bare = |toleration: &Value| {
        let mut bare = toleration.clone();
        let map = bare.as_object_mut();
        map.and_then(|map| map.shift_remove("tolerationSeconds"));
        bare
    };
    let list = |spec: &Value| -> Vec<Value> {
        let all = spec["tolerations"].as_array();
        all.into_iter().flatten().map(bare).collect()
    };
    let after = list(new);
    if list(old).iter().any(|before| !after.contains(before)) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        causes.push(format!("spec.tolerations: Forbidden: {why}"));
    }
}

/// `validateOnlyDeletedSchedulingGates`.
fn gates(old: &Value, new: &Value, causes: &mut Vec<String>) {
    let list = |spec: &Value| -> Vec<Value> {
        let gates = spec["schedulingGates"].as_array();
        gates
            .into_iter()
            .flatten()
            .map(|gate| gate["name"].clone())
            .collect()
    };
    let before = list(old);
    for (index, gate) in list(new).iter().enumerate() {
        if !before.contains(gate) {
            let name = gate.as_str().unwrap_or_default();
            causes.push(format!(
                "spec.schedulingGates[{index}].name: Forbidden: only deletion is allowed, but \
                 found new scheduling gate '{name}'"
            ));
        }
    }
}

/// The new spec with everything that may change as it was.
fn munged(old: &Value, mut new: Value) -> Value {
    for list in ["containers", "initContainers"] {
        let (Some(before), Some(after)) = (
            old.get(list).and_then(Value::as_array),
            new.get_mut(list).and_then(Value::as_array_mut),
        ) else {
            continue;
        };
        for (before, after) in before.iter().zip(after) {
            after["image"] = before["image"].clone();
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        take_back(old, &mut new, field);
    }
    // These follow from the class that the pod names.
    for field in ["priority", "preemptionPolicy"] {
        if old["priorityClassName"] == new["priorityClassName"] {
            take_back(old, &mut new, field);
        }
    }
    let grace = |spec: &Value| spec["terminationGracePeriodSeconds"].as_i64();
    if grace(old).is_some_and(|s| s < 0) && grace(&new) == Some(1) {
        take_back(old, &mut new, "terminationGracePeriodSeconds");
    }
    new
}

fn take_back(old: &Value, new: &mut Value, field: &str) {
    match old.get(field) {
        Some(value) => new[field] = value.clone(),
        None => drop(new.as_object_mut().and_then(|map| map.shift_remove(field))),
    }
}

/// A pod that waits at a gate may be given a narrower choice of nodes.
fn gated(old: &Value, munged: &mut Value, causes: &mut Vec<String>) {
    if old["nodeSelector"] != munged["nodeSelector"] {
        let empty = serde_json::Map::new();
        let before = old["nodeSelector"].as_object().unwrap_or(&empty);
        let after = munged["nodeSelector"].as_object().unwrap_or(&empty);
        if before
            .iter()
            .any(|(key, value)| after.get(key) != Some(value))
        {
            causes.push(format!(
                "spec.nodeSelector: Invalid value: {}: only additions to spec.nodeSelector are \
                 allowed (no mutations or deletions)",
                Value::Object(after.clone())
            ));
        }
        take_back(old, munged, "nodeSelector");
    }
    let affinity = |spec: &Value| spec["affinity"].get("nodeAffinity").cloned();
    let (before, after) = (affinity(old), affinity(munged));
    if before == after {
        return;
    }
    terms(before.as_ref(), after.as_ref(), causes);
    match before {
        Some(before) => munged["affinity"]["nodeAffinity"] = before,
        None => {
            let map = munged["affinity"].as_object_mut();
            map.and_then(|map| map.shift_remove("nodeAffinity"));
            let empty = munged["affinity"]
                .as_object()
                .is_none_or(serde_json::Map::is_empty);
            if empty && old.get("affinity").is_none() {
                let spec = munged.as_object_mut();
                spec.and_then(|spec| spec.shift_remove("affinity"));
            }
        }
    }
}

/// `validateNodeAffinityMutation`.
fn terms(old: Option<&Value>, new: Option<&Value>, causes: &mut Vec<String>) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let list = |affinity: Option<&Value>| -> Vec<Value> {
        let terms = affinity.and_then(|a| a[REQUIRED]["nodeSelectorTerms"].as_array());
        terms.cloned().unwrap_or_default()
    };
    let (before, after) = (list(old), list(new));
    let path = format!("spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms");
    if before.is_empty() {
        return;
    }
    if before.len() != after.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        causes.push(format!(
            "{path}: Invalid value: {}: {why}",
            Value::Array(after)
        ));
        return;
    }
    for (index, (before, after)) in before.iter().zip(&after).enumerate() {
        // `validateNodeSelectorTermHasOnlyAdditions`.
        let kept = ["matchExpressions", "matchFields"].iter().all(|field| {
            let list = |term: &Value| term[field].as_array().cloned().unwrap_or_default();
            let (before, after) = (list(before), list(after));
            before.len() <= after.len() && before.iter().zip(&after).all(|(a, b)| a == b)
        });
        // A term without requirements selects nothing; a requirement would make it select.
        let empty = |term: &Value| {
            let fields = ["matchExpressions", "matchFields"];
            fields
                .iter()
                .all(|f| term[*f].as_array().is_none_or(Vec::is_empty))
        };
        if !kept || (empty(before) && !empty(after)) {
            let why = "only additions are allowed (no mutations or deletions)";
            causes.push(format!("{path}[{index}]: Invalid value: {after}: {why}"));
        }
    }
}
