//! Nodes and Namespaces (`pkg/apis/core/validation`).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Namespace, Node};
use serde_json::json;

use super::affinity::taint_effect;
use super::field::{At, Errors};
use super::ip;
use super::meta::{finalizer_name, label_name};
use super::names::{label_value, too_long};
use super::resources::quantity_value;
use crate::api::quote::quote;

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
                "Key": taint.key, "Value": value, "Effect": taint.effect,
                "TimeAdded": taint.time_added,
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
    let features = status.declared_features.as_deref().unwrap_or_default();
    declared_features(features, &at.field("status.declaredFeatures"), errors);
    pod_networks(spec.pod_cidrs.as_deref().unwrap_or_default(), at, errors);
}

/// `validateNodeDeclaredFeatures`.
fn declared_features(features: &[String], at: &At<'_>, errors: &mut Errors) {
    for (i, feature) in features.iter().enumerate() {
        if let Some(what) = not_a_feature(feature) {
            let detail = format!("invalid feature name {}: {what}", quote(feature));
            errors.invalid(&at.item(i), feature, &detail);
        }
        let Some(next) = features.get(i + 1) else {
            continue;
        };
        match feature.cmp(next) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => errors.duplicate(&at.item(i + 1), next),
            std::cmp::Ordering::Greater => {
                let detail = "list must be sorted alphabetically";
                errors.invalid(&at.item(i + 1), next, detail);
            }
        }
    }
}

/// `validateNodeDeclaredFeatureName`: why it is none, if it is not words of letters and digits between
/// slashes, the first of which begins with a capital.
fn not_a_feature(name: &str) -> Option<String> {
    if name.len() > 253 {
        return Some(too_long(253));
    }
    let fits = name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.split('/').all(|word| {
            word.starts_with(|c: char| c.is_ascii_alphabetic())
                && word.chars().all(|c| c.is_ascii_alphanumeric())
        });
    let rule = "must start with an UpperCamelCase segment, with subsequent segments separated by '/' \
                (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric \
                characters and slashes";
    (!fits).then(|| rule.to_owned())
}

/// One network of pods, or one for each family.
fn pod_networks(networks: &[String], at: &At<'_>, errors: &mut Errors) {
    let at = at.field("spec.podCIDRs");
    for (i, network) in networks.iter().enumerate() {
        ip::network(network, &at.item(i), errors);
    }
    if networks.len() < 2 {
        return;
    }
    // As `netutils.IsDualStackCIDRStrings` judges them.
    let (mut four, mut six) = (false, false);
    for (i, network) in networks.iter().enumerate() {
        let Some((ip, _)) = ip::parse_network(network) else {
            let detail = format!(
                "invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR[{i}]: \
                 <nil> (invalid CIDR address: {network})"
            );
            errors.internal(&at, &detail);
            (four, six) = (false, false);
            break;
        };
        four |= ip.is_ipv4();
        six |= ip.is_ipv6();
    }
    if !(four && six) || networks.len() > 2 {
        let detail = "may specify no more than one CIDR for each IP family";
        errors.invalid(&at, &json!(networks), detail);
    }
}

/// `ValidateNamespace`, without the metadata.
pub fn namespace(object: &Namespace, at: &At<'_>, errors: &mut Errors) {
    let spec = object.spec.as_ref();
    let finalizers = spec.and_then(|spec| spec.finalizers.as_ref());
    for name in finalizers.into_iter().flatten() {
        finalizer_name(name, &at.field("spec.finalizers"), errors);
    }
}
