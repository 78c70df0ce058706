//! What admission and the storage strategies add to an object before `kubectl` sees it again.
//!
//! The store does the same to rows when they are created; here it is done to the JSON that
//! `--dry-run=server` would print.

use serde_json::{Map, Value, json};

fn object<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Map<String, Value>> {
    value.get_mut(key)?.as_object_mut()
}

/// `plugin/pkg/admission/defaulttolerationseconds` and `…/priority`, with the PriorityClasses that
/// every cluster has.
pub fn pod(pod: &mut Value) {
    let Some(spec) = object(pod, "spec") else {
        return;
    };
    for key in [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ] {
        let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
        let Some(tolerations) = tolerations.as_array_mut() else {
            return;
        };
        let text = |t: &Value, field: &str| {
            t.get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let has = tolerations.iter().any(|t| {
            (text(t, "key") == key || text(t, "key").is_empty())
                && (text(t, "effect") == "NoExecute" || text(t, "effect").is_empty())
        });
        if !has {
            tolerations.push(json!({
                "effect": "NoExecute", "key": key, "operator": "Exists", "tolerationSeconds": 300
            }));
        }
    }
    let class = spec.get("priorityClassName").and_then(Value::as_str);
    let priority = match class {
        None => Some(0),
        Some("system-cluster-critical") => Some(2_000_000_000),
        Some("system-node-critical") => Some(2_000_001_000),
        Some(_) => None,
    };
    if let Some(priority) = priority {
        spec.entry("priority").or_insert(json!(priority));
        spec.entry("preemptionPolicy")
            .or_insert(json!("PreemptLowerPriority"));
    }
}

/// `pkg/registry/core/namespace :: PrepareForCreate`.
pub fn namespace(namespace: &mut Value) {
    if let Some(top) = namespace.as_object_mut() {
        let spec = top.entry("spec").or_insert_with(|| json!({}));
        if let Some(spec) = spec.as_object_mut() {
            let finalizers = spec.entry("finalizers").or_insert_with(|| json!([]));
            if let Some(list) = finalizers.as_array_mut()
                && !list.contains(&json!("kubernetes"))
            {
                list.push(json!("kubernetes"));
            }
        }
    }
}

/// `plugin/pkg/admission/storage/storageobjectinuseprotection`.
pub fn finalizer(volume: &mut Value, name: &str) {
    if let Some(metadata) = object(volume, "metadata") {
        let finalizers = metadata.entry("finalizers").or_insert_with(|| json!([]));
        if let Some(list) = finalizers.as_array_mut()
            && !list.contains(&json!(name))
        {
            list.push(json!(name));
        }
    }
}

/// The generation of the template, kept as an annotation since `apps/v1` dropped its field.
pub fn daemon_set(set: &mut Value) {
    if let Some(metadata) = object(set, "metadata") {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        annotations["deprecated.daemonset.template.generation"] = json!("1");
    }
}

/// `dropStatefulSetDisabledFields`: `MaxUnavailableStatefulSet` is off in the reference version.
pub fn stateful_set(json: &mut Value) {
    let rolling = json.pointer_mut("/spec/updateStrategy/rollingUpdate");
    if let Some(rolling) = rolling.and_then(Value::as_object_mut) {
        rolling.shift_remove("maxUnavailable");
    }
}
