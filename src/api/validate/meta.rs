//! Metadata, labels and label selectors (`staging/src/k8s.io/apimachinery/pkg/api/validation`,
//! `…/apis/meta/v1/validation`).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference,
};
use serde_json::{Value, json};

use super::NameRule;
use super::field::{At, Errors};
use super::names::{dns_label, label_key, label_value, mask_trailing_dash};

/// Bytes that all annotations of an object may have together.
const ANNOTATIONS_MAX: usize = 256 << 10;

/// `ValidateObjectMeta`. A name that is to be generated is judged by its prefix.
pub fn object_meta(
    meta: &ObjectMeta,
    namespaced: bool,
    rule: NameRule,
    at: &At<'_>,
    errors: &mut Errors,
) {
    let name = meta.name.as_deref().unwrap_or_default();
    let prefix = meta.generate_name.as_deref().unwrap_or_default();
    if !prefix.is_empty() {
        let masked = mask_trailing_dash(prefix);
        // More follows: the two names that are no path segments are good beginnings.
        let messages = rule(&masked).into_iter();
        let messages = messages.filter(|m| !m.starts_with("may not be '"));
        errors.invalid_each(&at.field("generateName"), prefix, messages);
    }
    if !name.is_empty() {
        errors.invalid_each(&at.field("name"), name, rule(name));
    } else if !prefix.is_empty() {
        // The prefix can be fine, by the look of it, and the name that is drawn for it not.
        let name = generated(prefix);
        errors.invalid_each(&at.field("name"), &name, rule(&name));
    } else if prefix.is_empty() {
        errors.required(&at.field("name"), "name or generateName is required");
    }
    if namespaced {
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let at = at.field("namespace");
        if namespace.is_empty() {
            errors.required(&at, "");
        } else {
            errors.invalid_each(&at, namespace, dns_label(namespace));
        }
    }
    errors.non_negative(&at.field("generation"), meta.generation.unwrap_or(0));
    labels(&meta.labels, &at.field("labels"), errors);
    annotations(&meta.annotations, &at.field("annotations"), errors);
    owners(&meta.owner_references, &at.field("ownerReferences"), errors);
    finalizers(&meta.finalizers, &at.field("finalizers"), errors);
}

/// `names.SimpleNameGenerator`: what is drawn are five letters and digits, after at most 58 of the
/// prefix.
fn generated(prefix: &str) -> String {
    let end = prefix.floor_char_boundary(58);
    format!("{}xxxxx", &prefix[..end])
}

/// `ValidateLabels`.
pub fn labels(labels: &Option<BTreeMap<String, String>>, at: &At<'_>, errors: &mut Errors) {
    for (key, value) in labels.iter().flatten() {
        errors.invalid_each(at, key, label_key(key));
        errors.invalid_each(at, value, label_value(value));
    }
}

/// `ValidateAnnotations`.
pub fn annotations(pairs: &Option<BTreeMap<String, String>>, at: &At<'_>, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in pairs.iter().flatten() {
        // Case does not matter in the keys of annotations.
        errors.invalid_each(at, key, label_key(&key.to_lowercase()));
        size += key.len() + value.len();
    }
    if size > ANNOTATIONS_MAX {
        errors.too_long(at, ANNOTATIONS_MAX);
    }
}

fn owners(owners: &Option<Vec<OwnerReference>>, at: &At<'_>, errors: &mut Errors) {
    let mut controller: Option<String> = None;
    for owner in owners.iter().flatten() {
        // `schema.ParseGroupVersion`: more than one slash is no version at all.
        let version = match owner.api_version.split_once('/') {
            None => owner.api_version.as_str(),
            Some((_, version)) if version.contains('/') => "",
            Some((_, version)) => version,
        };
        for (field, value, empty, message) in [
            (
                "apiVersion",
                &owner.api_version,
                version.is_empty(),
                "version must not be empty",
            ),
            (
                "kind",
                &owner.kind,
                owner.kind.is_empty(),
                "must not be empty",
            ),
            (
                "name",
                &owner.name,
                owner.name.is_empty(),
                "must not be empty",
            ),
            ("uid", &owner.uid, owner.uid.is_empty(), "must not be empty"),
        ] {
            if empty {
                errors.invalid(&at.field(field), value, message);
            }
        }
        if (owner.api_version.as_str(), owner.kind.as_str()) == ("v1", "Event") {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.invalid(at, &shown_owner(owner), detail);
        }
        if owner.controller == Some(true) {
            let name = format!("{}/{}", owner.kind, owner.name);
            match &controller {
                Some(first) => errors.invalid(
                    at,
                    &owners.iter().flatten().map(shown_owner).collect::<Value>(),
                    &format!(
                        "Only one reference can have Controller set to true. Found \"true\" in \
                         references for {first} and {name}"
                    ),
                ),
                None => controller = Some(name),
            }
        }
    }
}

/// A reference in Go's order of fields.
fn shown_owner(owner: &OwnerReference) -> Value {
    let mut shown = json!({
        "apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid,
    });
    for (field, value) in [
        ("controller", owner.controller),
        ("blockOwnerDeletion", owner.block_owner_deletion),
    ] {
        if let Some(value) = value {
            shown[field] = value.into();
        }
    }
    shown
}

/// `validateKubeFinalizerName`.
fn kube_finalizer(name: &str, at: &At<'_>, errors: &mut Errors) {
    if !name.contains('/') && !matches!(name, "kubernetes" | "orphan" | "foregroundDeletion") {
        let detail = "name is neither a standard finalizer name nor is it fully qualified";
        errors.invalid(at, name, detail);
    }
}

/// What `pkg/apis/core/validation :: ValidateObjectMeta` adds to the machinery's check.
pub fn kube_finalizers(meta: &ObjectMeta, at: &At<'_>, errors: &mut Errors) {
    let at = at.field("finalizers");
    for (i, name) in meta.finalizers.iter().flatten().enumerate() {
        kube_finalizer(name, &at.item(i), errors);
    }
}

/// `validateFinalizerName`, of namespaces.
pub(super) fn finalizer_name(name: &str, at: &At<'_>, errors: &mut Errors) {
    errors.invalid_each(at, name, label_key(name));
    kube_finalizer(name, at, errors);
}

fn finalizers(finalizers: &Option<Vec<String>>, at: &At<'_>, errors: &mut Errors) {
    let all = finalizers.as_deref().unwrap_or_default();
    for finalizer in all {
        errors.invalid_each(at, finalizer, label_key(finalizer));
    }
    let has = |name: &str| all.iter().any(|f| f == name);
    if has("orphan") && has("foregroundDeletion") {
        errors.invalid(
            at,
            &json!(all),
            "finalizer orphan and foregroundDeletion cannot be both set",
        );
    }
}

/// `ValidateLabelSelector`.
pub fn label_selector(selector: &LabelSelector, at: &At<'_>, errors: &mut Errors) {
    labels(&selector.match_labels, &at.field("matchLabels"), errors);
    let expressions = at.field("matchExpressions");
    for (i, requirement) in selector.match_expressions.iter().flatten().enumerate() {
        label_requirement(requirement, &expressions.item(i), errors);
    }
}

/// `ValidateLabelSelectorRequirement`.
fn label_requirement(requirement: &LabelSelectorRequirement, at: &At<'_>, errors: &mut Errors) {
    let values = requirement.values.as_deref().unwrap_or_default();
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => errors.required(
            &at.field("values"),
            "must be specified when `operator` is 'In' or 'NotIn'",
        ),
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.forbidden(
            &at.field("values"),
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        ),
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.invalid(
            &at.field("operator"),
            other,
            "not a valid selector operator",
        ),
    }
    let key = &requirement.key;
    errors.invalid_each(&at.field("key"), key, label_key(key));
    let at = at.field("values");
    for (i, value) in values.iter().enumerate() {
        errors.invalid_each(&at.item(i), value, label_value(value));
    }
}

/// `unversionedvalidation.ValidateLabelName`.
pub fn label_name(key: &str, at: &At<'_>, errors: &mut Errors) {
    errors.invalid_each(at, key, label_key(key));
}
