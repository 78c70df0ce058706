//! Deployments, ReplicaSets, PodDisruptionBudgets and PriorityClasses.

use std::sync::Arc;

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::policy::v1 as policy;
use k8s_openapi::api::scheduling::v1 as scheduling;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::DecodeContext;
use super::affinity::{label_selector, selector};
use super::meta::{count, instant, list, meta, text};
use super::pod::template;
use super::pod_status::truth;
use crate::api::int_or_percent::IntOrPercent;
use crate::api::policy::PdbStatus;
use crate::api::selector::LabelSelector;
use crate::api::workload::{DeploymentStatus, ReplicaSetStatus, Strategy, WorkloadCondition};
use crate::api::{Deployment, Meta, PodDisruptionBudget, PriorityClass, ReplicaSet, Text};

/// The spec as defaulted JSON.
pub(super) fn spec_json(json: &Value) -> Arc<Value> {
    Arc::new(json.get("spec").cloned().unwrap_or_default())
}

/// A count or percentage; other text counts as 0 percent, as validation let it through.
pub(super) fn int_or_percent(source: &IntOrString) -> IntOrPercent {
    match source {
        IntOrString::Int(n) => IntOrPercent::Int(*n),
        IntOrString::String(text) => {
            let percent = text.strip_suffix('%').unwrap_or_default().parse();
            IntOrPercent::Percent(percent.unwrap_or(0))
        }
    }
}

pub(super) fn deployment(
    source: &apps::Deployment,
    json: &Value,
    cx: &DecodeContext,
) -> Deployment {
    let meta = meta(&source.metadata, cx);
    let status = source.status.as_ref();
    let status = status.map(|s| deployment_status(s, cx)).unwrap_or_default();
    let Some(spec) = &source.spec else {
        return Deployment {
            meta,
            status,
            ..Deployment::default()
        };
    };
    Deployment {
        meta,
        replicas: spec.replicas.unwrap_or(1),
        selector: label_selector(&spec.selector),
        template: Arc::new(template(&spec.template, json.pointer("/spec/template"))),
        strategy: strategy(spec.strategy.as_ref()),
        min_ready_s: spec.min_ready_seconds.unwrap_or(0),
        history_limit: spec.revision_history_limit.unwrap_or(10),
        paused: spec.paused.unwrap_or(false),
        progress_deadline_s: spec.progress_deadline_seconds.unwrap_or(600),
        source: spec_json(json),
        status,
    }
}

fn strategy(source: Option<&apps::DeploymentStrategy>) -> Strategy {
    if source.and_then(|s| s.type_.as_deref()) == Some("Recreate") {
        return Strategy::Recreate;
    }
    let rolling = source.and_then(|s| s.rolling_update.as_ref());
    let quarter = IntOrPercent::Percent(25);
    let of = |value: Option<&IntOrString>| value.map_or(quarter, int_or_percent);
    Strategy::RollingUpdate {
        max_surge: of(rolling.and_then(|r| r.max_surge.as_ref())),
        max_unavailable: of(rolling.and_then(|r| r.max_unavailable.as_ref())),
    }
}

fn deployment_status(source: &apps::DeploymentStatus, cx: &DecodeContext) -> DeploymentStatus {
    DeploymentStatus {
        observed_generation: count(source.observed_generation.unwrap_or(0)),
        replicas: source.replicas.unwrap_or(0),
        updated: source.updated_replicas.unwrap_or(0),
        ready: source.ready_replicas.unwrap_or(0),
        available: source.available_replicas.unwrap_or(0),
        unavailable: source.unavailable_replicas.unwrap_or(0),
        terminating: source.terminating_replicas,
        collisions: source.collision_count,
        conditions: list(&source.conditions)
            .iter()
            .map(|c| WorkloadCondition {
                kind: c.type_.as_str().into(),
                status: truth(&c.status),
                reason: text(&c.reason),
                message: text(&c.message),
                updated: instant(&c.last_update_time, cx),
                since: instant(&c.last_transition_time, cx),
            })
            .collect(),
    }
}

pub(super) fn replica_set(
    source: &apps::ReplicaSet,
    json: &Value,
    cx: &DecodeContext,
) -> ReplicaSet {
    let spec = source.spec.as_ref();
    let written = spec.and_then(|s| s.template.as_ref());
    let template = written.map(|t| template(t, json.pointer("/spec/template")));
    ReplicaSet {
        meta: meta(&source.metadata, cx),
        replicas: spec.and_then(|s| s.replicas).unwrap_or(1),
        min_ready_s: spec.and_then(|s| s.min_ready_seconds).unwrap_or(0),
        selector: spec
            .map(|s| label_selector(&s.selector))
            .unwrap_or_default(),
        template: Arc::new(template.unwrap_or_default()),
        source: spec_json(json),
        status: source
            .status
            .as_ref()
            .map(|status| replica_set_status(status, cx))
            .unwrap_or_default(),
    }
}

fn replica_set_status(source: &apps::ReplicaSetStatus, cx: &DecodeContext) -> ReplicaSetStatus {
    ReplicaSetStatus {
        observed_generation: count(source.observed_generation.unwrap_or(0)),
        replicas: source.replicas,
        fully_labeled: source.fully_labeled_replicas.unwrap_or(0),
        ready: source.ready_replicas.unwrap_or(0),
        available: source.available_replicas.unwrap_or(0),
        terminating: source.terminating_replicas,
        conditions: list(&source.conditions)
            .iter()
            .map(|c| WorkloadCondition {
                kind: c.type_.as_str().into(),
                status: truth(&c.status),
                reason: text(&c.reason),
                message: text(&c.message),
                updated: instant(&c.last_transition_time, cx),
                since: instant(&c.last_transition_time, cx),
            })
            .collect(),
    }
}

pub(super) fn disruption_budget(
    source: &policy::PodDisruptionBudget,
    json: &Value,
    cx: &DecodeContext,
) -> PodDisruptionBudget {
    let meta = meta(&source.metadata, cx);
    let spec = source.spec.as_ref();
    PodDisruptionBudget {
        min_available: spec
            .and_then(|s| s.min_available.as_ref())
            .map(int_or_percent),
        max_unavailable: spec
            .and_then(|s| s.max_unavailable.as_ref())
            .map(int_or_percent),
        selector: spec.map_or_else(LabelSelector::nothing, |s| selector(&s.selector)),
        evict_unhealthy_always: spec.and_then(|s| s.unhealthy_pod_eviction_policy.as_deref())
            == Some("AlwaysAllow"),
        source: spec_json(json),
        status: source
            .status
            .as_ref()
            .map(|status| budget_status(status, cx))
            .unwrap_or_default(),
        meta,
    }
}

fn budget_status(source: &policy::PodDisruptionBudgetStatus, cx: &DecodeContext) -> PdbStatus {
    PdbStatus {
        observed_generation: count(source.observed_generation.unwrap_or(0)),
        disruptions_allowed: source.disruptions_allowed.unwrap_or(0),
        current_healthy: source.current_healthy.unwrap_or(0),
        desired_healthy: source.desired_healthy.unwrap_or(0),
        expected_pods: source.expected_pods.unwrap_or(0),
        disrupted: source
            .disrupted_pods
            .iter()
            .flatten()
            .map(|(name, at)| (Text::from(name), cx.time(at.0)))
            .collect(),
        conditions: list(&source.conditions)
            .iter()
            .map(|c| condition(c, cx))
            .collect(),
    }
}

fn condition(source: &metav1::Condition, cx: &DecodeContext) -> WorkloadCondition {
    let since = cx.time(source.last_transition_time.0);
    WorkloadCondition {
        kind: source.type_.as_str().into(),
        status: truth(&source.status),
        reason: source.reason.as_str().into(),
        message: source.message.as_str().into(),
        updated: since,
        since,
    }
}

pub(super) fn priority_class(source: &scheduling::PriorityClass, meta: Meta) -> PriorityClass {
    PriorityClass {
        description: text(&source.description),
        meta,
        value: source.value.unwrap_or(0),
        global_default: source.global_default.unwrap_or(false),
        preempt_never: source.preemption_policy.as_deref() == Some("Never"),
    }
}
