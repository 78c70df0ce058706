//! Where pods may run: node selectors, affinity, tolerations, topology spread.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Affinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, Toleration,
    TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::field::{At, Errors};
use super::meta::{label_name, label_selector};
use super::names::{dns_label, dns_subdomain, label_value};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// `validateAffinity`.
pub(super) fn affinity(source: &Affinity, at: &At<'_>, errors: &mut Errors) {
    if let Some(node) = &source.node_affinity {
        let at = at.field("nodeAffinity");
        if let Some(required) = &node.required_during_scheduling_ignored_during_execution {
            node_selector(required, &at.field(REQUIRED), errors);
        }
        let preferred = &node.preferred_during_scheduling_ignored_during_execution;
        let at = at.field(PREFERRED);
        for (i, term) in preferred.iter().flatten().enumerate() {
            let at = at.item(i);
            weight(term.weight, &at, errors);
            // Label values of preferences are not looked at.
            node_selector_term(&term.preference, false, &at.field("preference"), errors);
        }
    }
    if let Some(pod) = &source.pod_affinity {
        pod_terms(
            &pod.required_during_scheduling_ignored_during_execution,
            &pod.preferred_during_scheduling_ignored_during_execution,
            &at.field("podAffinity"),
            errors,
        );
    }
    if let Some(pod) = &source.pod_anti_affinity {
        pod_terms(
            &pod.required_during_scheduling_ignored_during_execution,
            &pod.preferred_during_scheduling_ignored_during_execution,
            &at.field("podAntiAffinity"),
            errors,
        );
    }
}

fn weight(weight: i32, at: &At<'_>, errors: &mut Errors) {
    if !(1..=100).contains(&weight) {
        errors.invalid(&at.field("weight"), &weight, "must be in the range 1-100");
    }
}

/// `ValidateNodeSelector`.
pub(super) fn node_selector(selector: &NodeSelector, at: &At<'_>, errors: &mut Errors) {
    let at = at.field("nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        errors.required(&at, "must have at least one node selector term");
    }
    for (i, term) in selector.node_selector_terms.iter().enumerate() {
        node_selector_term(term, true, &at.item(i), errors);
    }
}

/// `ValidateNodeSelectorTerm`.
fn node_selector_term(term: &NodeSelectorTerm, values: bool, at: &At<'_>, errors: &mut Errors) {
    let expressions = at.field("matchExpressions");
    for (i, requirement) in term.match_expressions.iter().flatten().enumerate() {
        node_requirement(requirement, values, &expressions.item(i), errors);
    }
    let fields = at.field("matchFields");
    for (i, requirement) in term.match_fields.iter().flatten().enumerate() {
        field_requirement(requirement, &fields.item(i), errors);
    }
}

/// `ValidateNodeSelectorRequirement`.
fn node_requirement(
    requirement: &NodeSelectorRequirement,
    check_values: bool,
    at: &At<'_>,
    errors: &mut Errors,
) {
    let values = requirement.values.as_deref().unwrap_or_default();
    let values_at = at.field("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(
                &values_at,
                "must be specified when `operator` is 'In' or 'NotIn'",
            );
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.forbidden(
            &values_at,
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        ),
        "Gt" | "Lt" if values.len() != 1 => errors.required(
            &values_at,
            "must be specified single value when `operator` is 'Lt' or 'Gt'",
        ),
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.invalid(
            &at.field("operator"),
            other,
            "not a valid selector operator",
        ),
    }
    label_name(&requirement.key, &at.field("key"), errors);
    if check_values {
        for (i, value) in values.iter().enumerate() {
            errors.invalid_each(&values_at.item(i), value, label_value(value));
        }
    }
}

/// `ValidateNodeFieldSelectorRequirement`: only `metadata.name` can be asked for.
fn field_requirement(requirement: &NodeSelectorRequirement, at: &At<'_>, errors: &mut Errors) {
    let values = requirement.values.as_deref().unwrap_or_default();
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.len() != 1 => errors.required(
            &at.field("values"),
            "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
        ),
        "In" | "NotIn" => {}
        other => errors.invalid(
            &at.field("operator"),
            other,
            "not a valid selector operator",
        ),
    }
    if requirement.key == "metadata.name" {
        let at = at.field("values");
        for (i, value) in values.iter().enumerate() {
            errors.invalid_each(&at.item(i), value, dns_subdomain(value));
        }
    } else {
        errors.invalid(
            &at.field("key"),
            &requirement.key,
            "not a valid field selector key",
        );
    }
}

fn pod_terms(
    required: &Option<Vec<PodAffinityTerm>>,
    preferred: &Option<Vec<WeightedPodAffinityTerm>>,
    at: &At<'_>,
    errors: &mut Errors,
) {
    let required_at = at.field(REQUIRED);
    for (i, term) in required.iter().flatten().enumerate() {
        pod_term(term, &required_at.item(i), errors);
    }
    let preferred_at = at.field(PREFERRED);
    for (i, term) in preferred.iter().flatten().enumerate() {
        let at = preferred_at.item(i);
        weight(term.weight, &at, errors);
        pod_term(
            &term.pod_affinity_term,
            &at.field("podAffinityTerm"),
            errors,
        );
    }
}

/// `validatePodAffinityTerm`.
fn pod_term(term: &PodAffinityTerm, at: &At<'_>, errors: &mut Errors) {
    if let Some(selector) = &term.label_selector {
        label_selector(selector, &at.field("labelSelector"), errors);
    }
    if let Some(selector) = &term.namespace_selector {
        label_selector(selector, &at.field("namespaceSelector"), errors);
    }
    for name in term.namespaces.iter().flatten() {
        errors.invalid_each(&at.field("namespace"), name, dns_label(name));
    }
    let matched = term.match_label_keys.as_deref().unwrap_or_default();
    let mismatched = term.mismatch_label_keys.as_deref().unwrap_or_default();
    match_label_keys(matched, mismatched, &term.label_selector, at, errors);
    let key_at = at.field("topologyKey");
    if term.topology_key.is_empty() {
        errors.required(&key_at, "can not be empty");
    }
    label_name(&term.topology_key, &key_at, errors);
}

/// `ValidateMatchLabelKeysAndMismatchLabelKeys`.
fn match_label_keys(
    matched: &[String],
    mismatched: &[String],
    selector: &Option<LabelSelector>,
    at: &At<'_>,
    errors: &mut Errors,
) {
    for (field, keys) in [
        ("matchLabelKeys", matched),
        ("mismatchLabelKeys", mismatched),
    ] {
        let at = at.field(field);
        if !keys.is_empty() && selector.is_none() {
            errors.forbidden(&at, "must not be specified when labelSelector is not set");
        } else {
            for (i, key) in keys.iter().enumerate() {
                label_name(key, &at.item(i), errors);
            }
        }
    }
    if let Some(selector) = selector {
        let mut seen: BTreeSet<&String> = selector
            .match_labels
            .iter()
            .flatten()
            .map(|(k, _)| k)
            .collect();
        for requirement in selector.match_expressions.iter().flatten() {
            let key = &requirement.key;
            if let Some(i) = matched.iter().rposition(|k| k == key)
                && seen.contains(key)
            {
                let detail = "exists in both matchLabelKeys and labelSelector";
                errors.invalid(&at.item(i), key, detail);
            }
            seen.insert(key);
        }
    }
    let at = at.field("matchLabelKeys");
    for (i, key) in matched.iter().enumerate() {
        if mismatched.contains(key) {
            let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.invalid(&at.item(i), key, detail);
        }
    }
}

/// `ValidateTolerations`; the comparison operators are off in the reference version.
pub(super) fn tolerations(all: &[Toleration], at: &At<'_>, errors: &mut Errors) {
    for (i, toleration) in all.iter().enumerate() {
        let at = at.item(i);
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (key, operator) = (text(&toleration.key), text(&toleration.operator));
        let (value, effect) = (text(&toleration.value), text(&toleration.effect));
        let operator_at = at.field("operator");
        if !key.is_empty() {
            label_name(&key, &at.field("key"), errors);
        } else if operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all \
                          values and all keys\"";
            errors.invalid(&operator_at, &operator, detail);
        }
        if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&at.field("effect"), &effect, detail);
        }
        match operator.as_str() {
            "Equal" | "" => {
                let messages = label_value(&value);
                if !messages.is_empty() {
                    errors.invalid(&operator_at, &value, &messages.join(";"));
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    let detail = "value must be empty when `operator` is 'Exists'";
                    errors.invalid(&operator_at, &value, detail);
                }
            }
            "Lt" | "Gt" => {
                errors.not_supported(&operator_at, &operator, &["Equal", "Exists", "Lt", "Gt"]);
            }
            _ => errors.not_supported(&operator_at, &operator, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            taint_effect(&effect, &at.field("effect"), errors);
        }
    }
}

/// `validateTaintEffect`.
pub(super) fn taint_effect(effect: &str, at: &At<'_>, errors: &mut Errors) {
    let all = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    if !all.contains(&effect) {
        errors.not_supported(at, effect, &all);
    }
}

/// `validateTopologySpreadConstraints`.
pub(super) fn topology_spread(all: &[TopologySpreadConstraint], at: &At<'_>, errors: &mut Errors) {
    for (i, constraint) in all.iter().enumerate() {
        let at = at.item(i);
        if constraint.max_skew <= 0 {
            let detail = "must be greater than zero";
            errors.invalid(&at.field("maxSkew"), &constraint.max_skew, detail);
        }
        if constraint.topology_key.is_empty() {
            errors.required(&at.field("topologyKey"), "can not be empty");
        }
        let action = constraint.when_unsatisfiable.as_str();
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        if !actions.contains(&action) {
            errors.not_supported(&at.field("whenUnsatisfiable"), action, &actions);
        }
        let repeated = all[i + 1..].iter().any(|other| {
            other.topology_key == constraint.topology_key
                && other.when_unsatisfiable == constraint.when_unsatisfiable
        });
        if repeated {
            let value = format!("{{{}, {action}}}", constraint.topology_key);
            errors.duplicate(&at.field("{topologyKey, whenUnsatisfiable}"), &value);
        }
        if let Some(domains) = constraint.min_domains {
            let at = at.field("minDomains");
            if domains <= 0 {
                errors.invalid(&at, &domains, "must be greater than zero");
            }
            if action != "DoNotSchedule" {
                let detail = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                );
                errors.invalid(&at, &domains, &detail);
            }
        }
        for (field, policy) in [
            ("nodeAffinityPolicy", &constraint.node_affinity_policy),
            ("nodeTaintsPolicy", &constraint.node_taints_policy),
        ] {
            if let Some(policy) = policy
                && !matches!(policy.as_str(), "Honor" | "Ignore")
            {
                errors.not_supported(&at.field(field), policy, &["Honor", "Ignore"]);
            }
        }
        let keys = constraint.match_label_keys.as_deref().unwrap_or_default();
        match_label_keys(keys, &[], &constraint.label_selector, &at, errors);
        if let Some(selector) = &constraint.label_selector {
            label_selector(selector, &at.field("labelSelector"), errors);
        }
    }
}
