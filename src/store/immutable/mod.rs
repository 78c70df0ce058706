//! Fields that an update may not change.
//!
//! The update validations of `pkg/apis/*/validation`, kind by kind: the same paths and words. A
//! value that upstream prints as a Go struct is printed as JSON here, and where upstream appends a
//! dump of differences the differing fields are listed. Specs are compared as the API server prints
//! them, and only when something about them changed: most updates of a run touch the status alone.
//!
//! Read first: [`check`]. Pods are in [`pod`], claims and volumes in [`volume`], Jobs in [`job`]
//! and [`job_status`].

mod job;
mod job_status;
mod pod;
mod volume;

use std::sync::Arc;

use serde_json::Value;

use super::write::ApiError;
use crate::api::{Inert, Meta, Row};

/// Refuses an update in the API server's words.
pub(super) fn check(old: &Row, new: &Row) -> Result<(), ApiError> {
    let causes = causes(old, new);
    match causes.is_empty() {
        true => Ok(()),
        false => Err(ApiError::invalid(old, causes)),
    }
}

/// Refuses a status that may not follow the old one.
pub(super) fn check_status(old: &Row, new: &Row) -> Result<(), ApiError> {
    let causes = match (old, new) {
        (Row::Job(old), Row::Job(new)) => job_status::check(old, new),
        _ => Vec::new(),
    };
    match causes.is_empty() {
        true => Ok(()),
        false => Err(ApiError::invalid(old, causes)),
    }
}

/// What an update changes that may not change.
pub(super) fn causes(old: &Row, new: &Row) -> Vec<String> {
    let mut causes = Vec::new();
    finalizers(old.meta(), new.meta(), &mut causes);
    spec(old, new, &mut causes);
    causes
}

/// `ValidateImmutableField`.
fn immutable(field: &str, value: &Value) -> String {
    format!("{field}: Invalid value: {value}: field is immutable")
}

/// `ValidateNoNewFinalizers`.
fn finalizers(old: &Meta, new: &Meta, causes: &mut Vec<String>) {
    if !old.deleting() || old.finalizers == new.finalizers {
        return;
    }
    let more = new
        .finalizers
        .iter()
        .filter(|f| !old.finalizers.contains(*f));
    let mut more: Vec<String> = more.map(|f| format!("\"{f}\"")).collect();
    more.sort_unstable();
    if !more.is_empty() {
        causes.push(format!(
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being \
             deleted, found new finalizers []string{{{}}}",
            more.join(", ")
        ));
    }
}

fn spec(old: &Row, new: &Row, causes: &mut Vec<String>) {
    let mut selector = |same: bool, source: &Value| {
        if !same {
            causes.push(immutable("spec.selector", &source["selector"]));
        }
    };
    match (old, new) {
        (Row::Deployment(a), Row::Deployment(b)) => selector(a.selector == b.selector, &b.source),
        (Row::ReplicaSet(a), Row::ReplicaSet(b)) => selector(a.selector == b.selector, &b.source),
        (Row::DaemonSet(a), Row::DaemonSet(b)) => selector(a.selector == b.selector, &b.source),
        (Row::StatefulSet(a), Row::StatefulSet(b)) => stateful_set(&a.source, &b.source, causes),
        (Row::ControllerRevision(a), Row::ControllerRevision(b)) => {
            if a.template != b.template || a.data != b.data {
                causes.push(immutable("data", &b.data));
            }
        }
        (Row::Job(a), Row::Job(b)) => job::check(a, b, causes),
        (Row::Service(a), Row::Service(b)) => super::service::update::check(a, b, causes),
        (Row::Pod(a), Row::Pod(b)) => pod::check(a, b, causes),
        (Row::PersistentVolumeClaim(a), Row::PersistentVolumeClaim(b)) => {
            volume::claim(a, b, causes);
        }
        (Row::PersistentVolume(a), Row::PersistentVolume(b)) => volume::volume(a, b, causes),
        (Row::StorageClass(a), Row::StorageClass(b)) => {
            let fields = [
                "parameters",
                "provisioner",
                "reclaimPolicy",
                "volumeBindingMode",
            ];
            fixed(&a.source, &b.source, &fields, causes);
        }
        (Row::CSIDriver(a), Row::CSIDriver(b)) => {
            let (old, new) = (&a.source["spec"], &b.source["spec"]);
            if old["attachRequired"] != new["attachRequired"] {
                // The path is upstream's.
                causes.push(immutable("spec.attachedRequired", &new["attachRequired"]));
            }
            fixed(&a.source, &b.source, &["spec.volumeLifecycleModes"], causes);
        }
        (Row::CSIStorageCapacity(a), Row::CSIStorageCapacity(b)) => {
            let fields = ["nodeTopology", "storageClassName"];
            fixed(&a.source, &b.source, &fields, causes);
        }
        (Row::Inert(a), Row::Inert(b)) => inert(a, b, causes),
        _ => flat(old, new, causes),
    }
}

/// Kinds of which only single fields stay.
fn flat(old: &Row, new: &Row, causes: &mut Vec<String>) {
    match (old, new) {
        (Row::ConfigMap(a), Row::ConfigMap(b)) if a.immutable => {
            let data = [
                ("data", a.data == b.data),
                ("binaryData", a.binary == b.binary),
            ];
            declared(b.immutable, &data, causes);
        }
        (Row::Secret(a), Row::Secret(b)) => {
            if a.kind != b.kind {
                causes.push(immutable("type", &Value::from(b.kind.as_str())));
            }
            if a.immutable {
                declared(b.immutable, &[("data", a.data == b.data)], causes);
            }
        }
        (Row::PriorityClass(a), Row::PriorityClass(b)) => {
            if a.value != b.value {
                causes.push("value: Forbidden: may not be changed in an update.".to_owned());
            }
            if a.preempt_never != b.preempt_never {
                let policy = ["PreemptLowerPriority", "Never"][usize::from(b.preempt_never)];
                causes.push(immutable("preemptionPolicy", &policy.into()));
            }
        }
        (Row::ResourceQuota(a), Row::ResourceQuota(b))
            if set_of(&a.source["scopes"]) != set_of(&b.source["scopes"]) =>
        {
            causes.push(immutable("spec.scopes", &b.source["scopes"]));
        }
        (Row::Node(a), Row::Node(b))
            if !a.provider_id.is_empty() && a.provider_id != b.provider_id =>
        {
            let why = "node updates may not change providerID except from \"\" to valid";
            causes.push(format!("spec.providerID: Forbidden: {why}"));
        }
        (Row::VolumeAttachment(a), Row::VolumeAttachment(b)) => {
            let of = |a: &crate::api::VolumeAttachment| {
                (a.attacher.clone(), a.node.clone(), a.volume.clone())
            };
            if of(a) != of(b) {
                let spec = crate::api::print::to_json(new)["spec"].take();
                causes.push(immutable("spec", &spec));
            }
        }
        _ => {}
    }
}

/// The strings of a list, as a set.
fn set_of(list: &Value) -> std::collections::BTreeSet<&str> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).collect()
}

/// Fields at the top of an object (or, with dots, further down) that never change.
fn fixed(old: &Value, new: &Value, fields: &[&str], causes: &mut Vec<String>) {
    for field in fields {
        let pointer = format!("/{}", field.replace('.', "/"));
        if old.pointer(&pointer) != new.pointer(&pointer) {
            let none = match old.pointer(&pointer) {
                Some(Value::String(_)) => Value::String(String::new()),
                _ => Value::Null,
            };
            causes.push(immutable(field, new.pointer(&pointer).unwrap_or(&none)));
        }
    }
}

/// `ValidateStatefulSetUpdate`.
fn stateful_set(old: &Arc<Value>, new: &Arc<Value>, causes: &mut Vec<String>) {
    const MAY: [&str; 7] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    if Arc::ptr_eq(old, new) {
        return;
    }
    let rest = |spec: &Value| {
        let map = spec.as_object().into_iter().flatten();
        let fixed = map.filter(|(key, _)| !MAY.contains(&key.as_str()));
        fixed
            .map(|(key, v)| (key.clone(), v.clone()))
            .collect::<serde_json::Map<_, _>>()
    };
    if rest(old) != rest(new) {
        causes.push(
            "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', \
             'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', \
             'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
                .to_owned(),
        );
    }
}

/// `ValidateConfigMapUpdate`, `ValidateSecretUpdate`, of an object that was declared immutable.
fn declared(still: bool, data: &[(&str, bool)], causes: &mut Vec<String>) {
    let when = "field is immutable when `immutable` is set";
    if !still {
        causes.push(format!("immutable: Forbidden: {when}"));
    }
    for (field, _) in data.iter().filter(|(_, same)| !same) {
        causes.push(format!("{field}: Forbidden: {when}"));
    }
}

/// Kinds that the model does not act on.
fn inert(old: &Inert, new: &Inert, causes: &mut Vec<String>) {
    let (old, new, kind) = (&*old.body, &*new.body, new.kind.as_str());
    let group = new["apiVersion"].as_str().unwrap_or_default();
    let group = group.split_once('/').map_or("", |(group, _)| group);
    match (group, kind) {
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding")
            if old["roleRef"] != new["roleRef"] =>
        {
            let value = &new["roleRef"];
            let why = "cannot change roleRef";
            causes.push(format!("roleRef: Invalid value: {value}: {why}"));
        }
        ("networking.k8s.io", "IngressClass") => fixed(old, new, &["spec.controller"], causes),
        ("node.k8s.io", "RuntimeClass") => fixed(old, new, &["handler"], causes),
        ("storage.k8s.io", "VolumeAttributesClass") => {
            for field in ["driverName", "parameters"] {
                if old[field] != new[field] {
                    causes.push(format!(
                        "{field}: Forbidden: updates to {field} are forbidden."
                    ));
                }
            }
        }
        _ => {}
    }
}

/// How many differing fields are listed.
const LISTED: usize = 8;

/// The fields in which two specs differ, a line each before and after, under a sentence.
fn with_differences(sentence: &str, old: &Value, new: &Value) -> String {
    let mut lines = Vec::new();
    differences("", old, new, &mut lines);
    let more = lines.len().saturating_sub(LISTED);
    lines.truncate(LISTED);
    if more > 0 {
        lines.push(format!("  ({more} more)"));
    }
    format!("{sentence}\n{}", lines.join("\n"))
}

fn differences(path: &str, old: &Value, new: &Value, lines: &mut Vec<String>) {
    match (old, new) {
        (a, b) if a == b => {}
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let dot = if path.is_empty() { "" } else { "." };
                let null = Value::Null;
                let (a, b) = (a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null));
                differences(&format!("{path}{dot}{key}"), a, b, lines);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}[{index}]"), a, b, lines);
            }
        }
        (a, b) => {
            for (sign, value) in [('-', a), ('+', b)] {
                if !value.is_null() {
                    lines.push(format!("{sign} {path}: {value}"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
