//! Claims and volumes: what they were made from stays; a claim may grow once it is bound.

use serde_json::{Map, Value};

use super::{immutable, with_differences};
use crate::api::node::{BETA_REGION, BETA_ZONE, REGION, ZONE};
use crate::api::print::to_json;
use crate::api::storage::BETA_CLASS;
use crate::api::volume::ClaimPhase;
use crate::api::{PersistentVolume, PersistentVolumeClaim, Row};

/// `pkg/apis/core/validation :: ValidatePersistentVolumeClaimUpdate`.
pub(super) fn claim(
    old: &PersistentVolumeClaim,
    new: &PersistentVolumeClaim,
    causes: &mut Vec<String>,
) {
    let same = old.source == new.source
        && old.volume_name == new.volume_name
        && old.storage_class == new.storage_class
        && old.meta.annotations == new.meta.annotations;
    if same {
        return;
    }
    let print = |claim: &PersistentVolumeClaim| to_json(&Row::from(claim.clone()))["spec"].take();
    let (mut a, mut b) = (print(old), print(new));
    if old.volume_name.is_empty() {
        take_over(&mut a, &b, "volumeName");
    }
    let beta = |claim: &PersistentVolumeClaim| claim.meta.annotations.get(BETA_CLASS).cloned();
    let (was, is) = (beta(old), beta(new));
    let upgraded = was.is_some()
        && old.storage_class.is_none()
        && new.storage_class == was
        && (is.is_none() || is == was);
    if upgraded {
        remove(&mut b, "storageClassName");
    } else {
        if was != is {
            let value = Value::from(is.as_deref().unwrap_or_default());
            causes.push(immutable(
                &format!("metadata.annotations.{BETA_CLASS}"),
                &value,
            ));
        }
        let from_nil = new.storage_class.is_some()
            && old.storage_class.is_none()
            && (was.is_none() || new.storage_class == was);
        if from_nil {
            take_over(&mut b, &a, "storageClassName");
        }
    }
    if new.status.phase == ClaimPhase::Bound {
        if b["resources"]["requests"].is_object() {
            b["resources"]["requests"]["storage"] = a["resources"]["requests"]["storage"].clone();
        }
        take_over(&mut b, &a, "volumeAttributesClassName");
    }
    if a != b {
        let sentence = "spec: Forbidden: spec is immutable after creation except \
                        resources.requests and volumeAttributesClassName for bound claims";
        causes.push(with_differences(sentence, &a, &b));
    }
    let (before, after) = (old.request.unwrap_or(0), new.request.unwrap_or(0));
    if after < before && after <= old.status.capacity {
        let why = "field can not be less than status.capacity";
        causes.push(format!("spec.resources.requests.storage: Forbidden: {why}"));
    }
    mode((&old.source, old.block), (&new.source, new.block), causes);
}

/// The mode stays, also where the new one is none that there is.
fn mode(old: (&Value, bool), new: (&Value, bool), causes: &mut Vec<String>) {
    let of = |(spec, block): (&Value, bool)| {
        let known = ["Filesystem", "Block"][usize::from(block)];
        spec["volumeMode"].as_str().unwrap_or(known).to_owned()
    };
    if of(old) != of(new) {
        causes.push(immutable("volumeMode", &Value::from(of(new))));
    }
}

/// Gives `spec` the field that `from` has, or takes it away.
fn take_over(spec: &mut Value, from: &Value, field: &str) {
    match from.get(field) {
        Some(value) => spec[field] = value.clone(),
        None => remove(spec, field),
    }
}

fn remove(spec: &mut Value, field: &str) {
    spec.as_object_mut().and_then(|map| map.shift_remove(field));
}

/// Fields of a PersistentVolume's spec that are no source.
const NO_SOURCE: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

/// `pkg/apis/core/validation :: ValidatePersistentVolumeUpdate`.
pub(super) fn volume(old: &PersistentVolume, new: &PersistentVolume, causes: &mut Vec<String>) {
    if std::sync::Arc::ptr_eq(&old.source, &new.source) {
        return;
    }
    let source = |spec: &Value| {
        let map = spec.as_object().into_iter().flatten();
        let fields = map.filter(|(key, _)| !NO_SOURCE.contains(&key.as_str()));
        Value::Object(
            fields
                .map(|(key, v)| (key.clone(), v.clone()))
                .collect::<Map<_, _>>(),
        )
    };
    let (a, mut b) = (source(&old.source), source(&new.source));
    // One that had no secret for expansion may get one.
    let secret = "controllerExpandSecretRef";
    if a["csi"].is_object() && a["csi"].get(secret).is_none() && b["csi"].is_object() {
        remove(&mut b["csi"], secret);
    }
    if a != b {
        let sentence = "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is \
                        immutable after creation";
        causes.push(with_differences(sentence, &a, &b));
    }
    mode((&old.source, old.block), (&new.source, new.block), causes);
    let affinity = |source: &Value| source.get("nodeAffinity").cloned();
    if let Some(before) = affinity(&old.source) {
        let after = affinity(&new.source).unwrap_or_default();
        if !same_nodes(&before, &after) {
            causes.push(format!(
                "nodeAffinity: Invalid value: {after}: field is immutable, except for updating \
                 from beta label to GA"
            ));
        }
    }
    let class = |source: &Value| source.get("volumeAttributesClassName").cloned();
    if class(&old.source).is_some() && class(&new.source).is_none() {
        let why = "update from non-nil value to nil is forbidden";
        causes.push(format!("spec.volumeAttributesClassName: Forbidden: {why}"));
    }
}

/// Labels that have another name since they are generally available.
const RENAMED: [(&str, &str); 5] = [
    (BETA_ZONE, ZONE),
    (BETA_REGION, REGION),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    (
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
    ),
];

/// `getMaskNodeSelectorLabelChangeEqualities`: equal but for labels that were renamed.
fn same_nodes(old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, a)| {
                    let b = b.get(key);
                    let renamed = key == "key"
                        && RENAMED
                            .iter()
                            .any(|(from, to)| a == from && b.and_then(Value::as_str) == Some(to));
                    renamed || b.is_some_and(|b| same_nodes(a, b))
                })
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_nodes(a, b))
        }
        (a, b) => a == b,
    }
}
