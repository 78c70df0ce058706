//! LimitRanges and ResourceQuotas.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    LimitRange, LimitRangeItem, ResourceQuota, ResourceQuotaSpec, ScopedResourceSelectorRequirement,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;
use serde_json::json;

use super::field::{At, Errors};
use super::names::label_key;
use super::resources::{
    amount, container_resource_name, overcommit, quantity_value, resource_name, standard_quota,
};
use crate::api::quantity::Quantity;

/// `ValidateLimitRange`, without the metadata.
pub fn limit_range(object: &LimitRange, at: &At<'_>, errors: &mut Errors) {
    let Some(spec) = &object.spec else {
        return;
    };
    let spec_at = at.field("spec");
    let at = spec_at.field("limits");
    let mut kinds = BTreeSet::new();
    for (i, item) in spec.limits.iter().enumerate() {
        let at = at.item(i);
        limit_type(&item.type_, &at.field("type"), errors);
        if !kinds.insert(&item.type_) {
            errors.duplicate(&at.field("type"), &item.type_);
        }
        limit_item(item, &at, errors);
    }
}

fn limit_type(kind: &str, at: &At<'_>, errors: &mut Errors) {
    let messages = label_key(kind);
    let standard = ["Pod", "Container", "PersistentVolumeClaim"];
    if messages.is_empty() && !kind.contains('/') && !standard.contains(&kind) {
        errors.invalid(at, kind, "must be a standard limit type or fully qualified");
    }
    errors.invalid_each(at, kind, messages);
}

type Amounts = Option<BTreeMap<String, Written>>;

fn limit_item(item: &LimitRangeItem, at: &At<'_>, errors: &mut Errors) {
    let pod = item.type_ == "Pod";
    let mut names = BTreeSet::new();
    let groups: [(&str, &Amounts); 5] = [
        ("max", &item.max),
        ("min", &item.min),
        ("default", &item.default),
        ("defaultRequest", &item.default_request),
        ("maxLimitRequestRatio", &item.max_limit_request_ratio),
    ];
    for (field, amounts) in groups {
        let at = at.field(field);
        let defaults = field.starts_with("default");
        if pod && defaults {
            if amounts.as_ref().is_some_and(|amounts| !amounts.is_empty()) {
                errors.forbidden(&at, "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for name in amounts.iter().flatten().map(|(name, _)| name) {
            match item.type_.as_str() {
                "Pod" | "Container" => container_resource_name(name, &at.key(name), errors),
                _ => {
                    resource_name(name, &at.key(name), errors);
                }
            }
            names.insert(name.as_str());
        }
    }
    let has = |amounts: &Amounts| amounts.as_ref().is_some_and(|a| a.contains_key("storage"));
    if item.type_ == "PersistentVolumeClaim" && !has(&item.min) && !has(&item.max) {
        let detail =
            "either minimum or maximum storage value is required, but neither was provided";
        errors.required(&at.field("limits"), detail);
    }
    for name in names {
        limit_order(item, pod, name, at, errors);
    }
}

/// The order that the amounts of one resource must have.
fn limit_order(item: &LimitRangeItem, pod: bool, name: &str, at: &At<'_>, errors: &mut Errors) {
    fn of<'a>(amounts: &'a Amounts, name: &str) -> Option<&'a Written> {
        amounts.as_ref()?.get(name)
    }
    let (min, max) = (of(&item.min, name), of(&item.max, name));
    let default = of(&item.default, name).filter(|_| !pod);
    let request = of(&item.default_request, name).filter(|_| !pod);
    let ratio = of(&item.max_limit_request_ratio, name);
    // The greater side, its words, the smaller side, its words; where it is said, and of which.
    let rules = [
        (min, "min value", max, "max value", "min", min),
        (
            min,
            "min value",
            request,
            "default request value",
            "defaultRequest",
            request,
        ),
        (
            request,
            "default request value",
            max,
            "max value",
            "defaultRequest",
            request,
        ),
        (
            request,
            "default request value",
            default,
            "default limit value",
            "defaultRequest",
            request,
        ),
        (min, "min value", default, "default value", "default", min),
        (default, "default value", max, "max value", "default", max),
    ];
    for (low, low_words, high, high_words, field, shown) in rules {
        if let (Some(low), Some(high), Some(shown)) = (low, high, shown)
            && amount(low) > amount(high)
        {
            let detail = format!(
                "{low_words} {} is greater than {high_words} {}",
                low.0, high.0
            );
            let group = at.field(field);
            errors.invalid(&group.key(name), &shown.0, &detail);
        }
    }
    if let Some(ratio) = ratio {
        let group = at.field("maxLimitRequestRatio");
        limit_ratio(ratio, min, max, &group.key(name), errors);
    }
    if let (Some(default), Some(request)) = (default, request)
        && !overcommit(name)
        && amount(default) != amount(request)
    {
        let detail = format!(
            "default value {} must equal to defaultRequest value {} in {name}",
            default.0, request.0
        );
        let group = at.field("defaultRequest");
        errors.invalid(&group.key(name), &request.0, &detail);
    }
}

fn limit_ratio(
    ratio: &Written,
    min: Option<&Written>,
    max: Option<&Written>,
    at: &At<'_>,
    errors: &mut Errors,
) {
    if amount(ratio) < Quantity::from_units(1) {
        errors.invalid(at, &ratio.0, &format!("ratio {} is less than 1", ratio.0));
    }
    let (Some(min), Some(max)) = (min, max) else {
        return;
    };
    let most = i64::MAX / 1000;
    let values = [amount(ratio), amount(min), amount(max)];
    let (asked, low, high) = if values.iter().all(|q| q.value() < most) {
        let [ratio, min, max] = values.map(Quantity::milli_value);
        (ratio as f64 / 1000.0, min, max)
    } else {
        let [ratio, min, max] = values.map(Quantity::value);
        (ratio as f64, min, max)
    };
    let limit = high as f64 / low as f64;
    if asked > limit {
        let detail = format!("ratio {} is greater than max/min = {limit:.6}", ratio.0);
        errors.invalid(at, &ratio.0, &detail);
    }
}

/// `ValidateResourceQuota`, without the metadata.
pub fn resource_quota(object: &ResourceQuota, at: &At<'_>, errors: &mut Errors) {
    let spec = object.spec.clone().unwrap_or_default();
    let spec_at = at.field("spec");
    quota_amounts(&spec.hard, &spec_at.field("hard"), errors);
    scopes(&spec, &spec_at, errors);
    scope_selector(&spec, &spec_at, errors);
    if let Some(status) = &object.status {
        let at = at.field("status");
        quota_amounts(&status.hard, &at.field("hard"), errors);
        quota_amounts(&status.used, &at.field("used"), errors);
    }
}

fn quota_amounts(amounts: &Amounts, at: &At<'_>, errors: &mut Errors) {
    for (name, written) in amounts.iter().flatten() {
        let at = at.key(name);
        resource_name(name, &at, errors);
        if !name.contains('/') && !standard_quota(name) {
            errors.invalid(&at, name, "must be a standard resource for quota");
        }
        quantity_value(name, written, &at, errors);
    }
}

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "VolumeAttributesClass",
    "CrossNamespacePodAffinity",
];

/// `IsResourceQuotaScopeValidForResource`.
fn scope_fits(scope: &str, name: &str) -> bool {
    const COMPUTE: [&str; 6] = [
        "cpu",
        "memory",
        "limits.cpu",
        "limits.memory",
        "requests.cpu",
        "requests.memory",
    ];
    match scope {
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => name == "pods" || COMPUTE.contains(&name),
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => matches!(name, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

const CONFLICTING: [[&str; 2]; 2] = [
    ["BestEffort", "NotBestEffort"],
    ["Terminating", "NotTerminating"],
];

/// `validateResourceQuotaScopes`.
fn scopes(spec: &ResourceQuotaSpec, at: &At<'_>, errors: &mut Errors) {
    let scopes = spec.scopes.as_deref().unwrap_or_default();
    let at = at.field("scopes");
    let shown = json!(scopes);
    let names: Vec<&String> = spec.hard.iter().flatten().map(|(name, _)| name).collect();
    for scope in scopes {
        if !SCOPES.contains(&scope.as_str()) {
            errors.invalid(&at, &shown, "unsupported scope");
        }
        for name in &names {
            if standard_quota(name) && !scope_fits(scope, name) {
                errors.invalid(&at, &shown, "unsupported scope applied to resource");
            }
        }
    }
    for pair in CONFLICTING {
        if pair.iter().all(|scope| scopes.iter().any(|s| s == scope)) {
            errors.invalid(&at, &shown, "conflicting scopes");
        }
    }
}

/// A scope selector as upstream's internal type prints, whose fields have no JSON names.
fn internal(requirements: &[ScopedResourceSelectorRequirement]) -> serde_json::Value {
    let each = requirements.iter().map(|requirement| {
        json!({
            "ScopeName": requirement.scope_name,
            "Operator": requirement.operator,
            "Values": requirement.values,
        })
    });
    json!({"MatchExpressions": each.collect::<Vec<_>>()})
}

/// `validateScopedResourceSelectorRequirement`.
fn scope_selector(spec: &ResourceQuotaSpec, at: &At<'_>, errors: &mut Errors) {
    let Some(selector) = &spec.scope_selector else {
        return;
    };
    let parent = at.field("scopeSelector");
    let at = parent.field("matchExpressions");
    let requirements = selector.match_expressions.as_deref().unwrap_or_default();
    for requirement in requirements {
        let scope = requirement.scope_name.as_str();
        if !SCOPES.contains(&scope) {
            errors.invalid(&at.field("scopeName"), scope, "unsupported scope");
        }
        for name in spec.hard.iter().flatten().map(|(name, _)| name) {
            if standard_quota(name) && !scope_fits(scope, name) {
                let detail = "unsupported scope applied to resource";
                errors.invalid(&at, &internal(requirements), detail);
            }
        }
        let exists = ["PriorityClass", "VolumeAttributesClass"];
        let operator = requirement.operator.as_str();
        if SCOPES.contains(&scope) && !exists.contains(&scope) && operator != "Exists" {
            errors.invalid(
                &at.field("operator"),
                operator,
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                 ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                 ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
            );
        }
        let values = requirement.values.as_deref().unwrap_or_default();
        let values_at = at.field("values");
        match operator {
            "In" | "NotIn" if values.is_empty() => errors.required(
                &values_at,
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.invalid(
                &values_at,
                &json!(values),
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(
                &at.field("operator"),
                other,
                "not a valid selector operator",
            ),
        }
    }
    for pair in CONFLICTING {
        if pair
            .iter()
            .all(|scope| requirements.iter().any(|r| r.scope_name == *scope))
        {
            errors.invalid(&at, &json!(spec.scopes), "conflicting scopes");
        }
    }
}
