//! Nodes (`pkg/apis/core/validation :: ValidateNode`).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use super::affinity::taint_effect;
use super::field::{At, Errors};
use super::ip;
use super::meta::label_name;
use super::names::label_value;
use super::resources::quantity_value;

/// `ValidateNode`, without the metadata. Upstream reports taints under `metadata`; so it is here.
pub fn node(object: &Node, at: &At<'_>, errors: &mut Errors) {
    let spec = object.spec.clone().unwrap_or_default();
    let metadata = at.field("metadata");
    let taints = metadata.field("taints");
    let mut seen = BTreeSet::new();
    for (i, taint) in spec.taints.iter().flatten().enumerate() {
        let at = taints.item(i);
        label_name(&taint.key, &at.field("key"), errors);
        let value = taint.value.as_deref().unwrap_or_default();
        let messages = label_value(value);
        if !messages.is_empty() {
            errors.invalid(&at.field("value"), value, &messages.join(";"));
        }
        if taint.effect.is_empty() {
            errors.required(&at.field("effect"), "");
        } else {
            taint_effect(&taint.effect, &at.field("effect"), errors);
        }
        if !seen.insert((&taint.effect, &taint.key)) {
            let shown = json!({
                "Key": taint.key, "Value": value, "Effect": taint.effect, "TimeAdded": null,
            });
            errors.duplicate_because(&at, &shown, "taints must be unique by key and effect pair");
        }
    }
    let status = object.status.clone().unwrap_or_default();
    for (field, amounts) in [
        ("status.capacity", &status.capacity),
        ("status.allocatable", &status.allocatable),
    ] {
        let at = at.field(field);
        for (name, written) in amounts.iter().flatten() {
            quantity_value(name, written, &at.field(name), errors);
        }
    }
    let networks = at.field("spec.podCIDRs");
    for (i, network) in spec.pod_cidrs.iter().flatten().enumerate() {
        ip::network(network, &networks.item(i), errors);
    }
}
