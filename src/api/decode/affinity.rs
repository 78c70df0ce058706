//! Selectors, affinity, tolerations, taints and topology spread.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;

use super::DecodeContext;
use super::meta::{list, text, texts};
use crate::api::affinity::{
    Affinity, InclusionPolicy, NodeSelectorTerm, PodAffinityTerm, Taint, TaintEffect, Toleration,
    TolerationOperator, TopologySpread, WhenUnsatisfiable,
};
use crate::api::selector::{LabelSelector, Operator, Requirement};

/// A label selector; none selects nothing.
pub(super) fn selector(source: &Option<metav1::LabelSelector>) -> LabelSelector {
    source
        .as_ref()
        .map_or_else(LabelSelector::nothing, label_selector)
}

/// A label selector that is there: `metav1.LabelSelectorAsSelector`.
pub(crate) fn label_selector(source: &metav1::LabelSelector) -> LabelSelector {
    let equal = source.match_labels.iter().flatten().map(|(key, value)| {
        let values = vec![value.as_str().into()];
        Requirement {
            key: key.as_str().into(),
            operator: Operator::In,
            values,
        }
    });
    let expressions = list(&source.match_expressions)
        .iter()
        .map(|r| requirement(&r.key, &r.operator, &r.values));
    LabelSelector {
        requirements: equal.chain(expressions).collect(),
        nothing: false,
    }
}

fn requirement(key: &str, operator: &str, values: &Option<Vec<String>>) -> Requirement {
    let mut values = texts(values);
    values.sort();
    let operator = match operator {
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::Gt,
        "Lt" => Operator::Lt,
        _ => Operator::In,
    };
    Requirement {
        key: key.into(),
        operator,
        values,
    }
}

pub(super) fn node_selector_term(source: &core::NodeSelectorTerm) -> NodeSelectorTerm {
    let all = |list: &Option<Vec<core::NodeSelectorRequirement>>| {
        self::list(list)
            .iter()
            .map(|r| requirement(&r.key, &r.operator, &r.values))
            .collect()
    };
    NodeSelectorTerm {
        expressions: all(&source.match_expressions),
        fields: all(&source.match_fields),
    }
}

fn pod_term(source: &core::PodAffinityTerm) -> PodAffinityTerm {
    PodAffinityTerm {
        selector: selector(&source.label_selector),
        namespaces: texts(&source.namespaces),
        namespace_selector: source.namespace_selector.as_ref().map(label_selector),
        topology_key: source.topology_key.as_str().into(),
        match_label_keys: texts(&source.match_label_keys),
        mismatch_label_keys: texts(&source.mismatch_label_keys),
    }
}

fn weighted(source: &Option<Vec<core::WeightedPodAffinityTerm>>) -> Vec<(i32, PodAffinityTerm)> {
    list(source)
        .iter()
        .map(|term| (term.weight, pod_term(&term.pod_affinity_term)))
        .collect()
}

/// `spec.affinity`, none when it says nothing.
pub(super) fn affinity(source: &core::Affinity) -> Option<Affinity> {
    let mut affinity = Affinity::default();
    if let Some(node) = &source.node_affinity {
        let required = &node.required_during_scheduling_ignored_during_execution;
        affinity.node_required = required.as_ref().map(|selector| {
            let terms = &selector.node_selector_terms;
            terms.iter().map(node_selector_term).collect()
        });
        affinity.node_preferred = list(&node.preferred_during_scheduling_ignored_during_execution)
            .iter()
            .map(|term| (term.weight, node_selector_term(&term.preference)))
            .collect();
    }
    if let Some(pod) = &source.pod_affinity {
        affinity.pod_required = list(&pod.required_during_scheduling_ignored_during_execution)
            .iter()
            .map(pod_term)
            .collect();
        affinity.pod_preferred =
            weighted(&pod.preferred_during_scheduling_ignored_during_execution);
    }
    if let Some(anti) = &source.pod_anti_affinity {
        affinity.anti_required = list(&anti.required_during_scheduling_ignored_during_execution)
            .iter()
            .map(pod_term)
            .collect();
        affinity.anti_preferred =
            weighted(&anti.preferred_during_scheduling_ignored_during_execution);
    }
    (affinity != Affinity::default()).then_some(affinity)
}

pub(super) fn topology_spread(source: &core::TopologySpreadConstraint) -> TopologySpread {
    let policy = |policy: &Option<String>, default| match policy.as_deref() {
        Some("Honor") => InclusionPolicy::Honor,
        Some("Ignore") => InclusionPolicy::Ignore,
        _ => default,
    };
    TopologySpread {
        max_skew: source.max_skew,
        topology_key: source.topology_key.as_str().into(),
        when_unsatisfiable: match source.when_unsatisfiable.as_str() {
            "ScheduleAnyway" => WhenUnsatisfiable::ScheduleAnyway,
            _ => WhenUnsatisfiable::DoNotSchedule,
        },
        selector: selector(&source.label_selector),
        min_domains: source.min_domains,
        node_affinity_policy: policy(&source.node_affinity_policy, InclusionPolicy::Honor),
        node_taints_policy: policy(&source.node_taints_policy, InclusionPolicy::Ignore),
        match_label_keys: texts(&source.match_label_keys),
    }
}

fn effect(text: &str) -> Option<TaintEffect> {
    match text {
        "NoSchedule" => Some(TaintEffect::NoSchedule),
        "PreferNoSchedule" => Some(TaintEffect::PreferNoSchedule),
        "NoExecute" => Some(TaintEffect::NoExecute),
        _ => None,
    }
}

pub(super) fn toleration(source: &core::Toleration) -> Toleration {
    Toleration {
        key: text(&source.key),
        operator: match source.operator.as_deref() {
            Some("Exists") => TolerationOperator::Exists,
            Some("Lt") => TolerationOperator::Lt,
            Some("Gt") => TolerationOperator::Gt,
            _ => TolerationOperator::Equal,
        },
        value: text(&source.value),
        effect: source.effect.as_deref().and_then(effect),
        seconds: source.toleration_seconds,
    }
}

pub(super) fn taint(source: &core::Taint, cx: &DecodeContext) -> Taint {
    Taint {
        key: source.key.as_str().into(),
        value: text(&source.value),
        effect: effect(&source.effect).unwrap_or(TaintEffect::NoSchedule),
        added: source.time_added.as_ref().map(|at| cx.time(at.0)),
    }
}
