//! PodDisruptionBudgets and PriorityClasses.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::json;

use super::field::{At, Errors};
use super::meta::label_selector;
use super::workload::{at_most_all, int_or_percent, shown_selector};

/// Above this only the system's own classes may go (`scheduling.HighestUserDefinablePriority`).
const HIGHEST_USER_PRIORITY: i32 = 1_000_000_000;

/// `ValidatePodDisruptionBudgetSpec`.
pub fn disruption_budget(object: &PodDisruptionBudget, at: &At<'_>, errors: &mut Errors) {
    let spec = object.spec.clone().unwrap_or_default();
    let at = at.field("spec");
    if spec.min_available.is_some() && spec.max_unavailable.is_some() {
        let shown = json!({
            "MinAvailable": spec.min_available,
            "Selector": spec.selector.as_ref().map(shown_selector),
            "MaxUnavailable": spec.max_unavailable,
            "UnhealthyPodEvictionPolicy": spec.unhealthy_pod_eviction_policy,
        });
        errors.invalid(
            &at,
            &shown,
            "minAvailable and maxUnavailable cannot be both set",
        );
    }
    for (field, value) in [
        ("minAvailable", &spec.min_available),
        ("maxUnavailable", &spec.max_unavailable),
    ] {
        if let Some(value) = value {
            int_or_percent(value, &at.field(field), errors);
            at_most_all(value, &at.field(field), errors);
        }
    }
    if let Some(selector) = &spec.selector {
        label_selector(selector, &at.field("selector"), errors);
    }
    if let Some(policy) = &spec.unhealthy_pod_eviction_policy
        && !matches!(policy.as_str(), "AlwaysAllow" | "IfHealthyBudget")
    {
        let all = ["AlwaysAllow", "IfHealthyBudget"];
        errors.not_supported(&at.field("unhealthyPodEvictionPolicy"), policy, &all);
    }
}

/// `ValidatePriorityClass`, without the metadata.
pub fn priority_class(object: &PriorityClass, at: &At<'_>, errors: &mut Errors) {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let value = object.value.unwrap_or(0);
    if name.starts_with("system-") {
        let known = matches!(
            (name, value),
            ("system-node-critical", 2_000_001_000) | ("system-cluster-critical", 2_000_000_000)
        );
        if !known {
            let metadata = at.field("metadata");
            let detail = format!(
                "priority class names with 'system-' prefix are reserved for system use only. \
                 error: {name} is not a known system priority class"
            );
            errors.forbidden(&metadata.field("name"), &detail);
        }
    } else if value > HIGHEST_USER_PRIORITY {
        let detail =
            format!("maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}");
        errors.forbidden(&at.field("value"), &detail);
    }
    match object.preemption_policy.as_deref() {
        None | Some("PreemptLowerPriority" | "Never") => {}
        Some("") => errors.required(&at.field("preemptionPolicy"), ""),
        Some(other) => {
            let all = ["PreemptLowerPriority", "Never"];
            errors.not_supported(&at.field("preemptionPolicy"), other, &all);
        }
    }
}
