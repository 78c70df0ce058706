//! StatefulSets, DaemonSets and ControllerRevisions.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::DecodeContext;
use super::affinity::label_selector;
use super::meta::{count, list, meta, text};
use super::pod::template;
use super::volume;
use super::workload::{int_or_percent, spec_json};
use crate::api::int_or_percent::IntOrPercent;
use crate::api::stateful::{
    ClaimRetention, DaemonSetStatus, DaemonStrategy, StatefulRolling, StatefulSetStatus,
    StatefulStrategy,
};
use crate::api::yaml::{Node, NodeValue};
use crate::api::{ControllerRevision, DaemonSet, StatefulSet};

pub(super) fn stateful_set(
    source: &apps::StatefulSet,
    json: &Value,
    cx: &DecodeContext,
) -> StatefulSet {
    let meta = meta(&source.metadata, cx);
    let status = source.status.as_ref();
    let status = status.map(stateful_status).unwrap_or_default();
    let Some(spec) = &source.spec else {
        return StatefulSet {
            meta,
            status,
            ..StatefulSet::default()
        };
    };
    let retention = spec.persistent_volume_claim_retention_policy.as_ref();
    let deletes = |policy: Option<&String>| policy.is_some_and(|policy| policy == "Delete");
    let claims = list(&spec.volume_claim_templates).iter().enumerate();
    let claims = claims.map(|(i, claim)| {
        let at = format!("/spec/volumeClaimTemplates/{i}");
        let json = json.pointer(&at).cloned().unwrap_or_default();
        Arc::new(volume::claim(claim, &json, cx))
    });
    StatefulSet {
        meta,
        replicas: spec.replicas.unwrap_or(1),
        selector: label_selector(&spec.selector),
        template: Arc::new(template(&spec.template, json.pointer("/spec/template"))),
        service_name: text(&spec.service_name),
        parallel: spec.pod_management_policy.as_deref() == Some("Parallel"),
        strategy: stateful_strategy(spec.update_strategy.as_ref()),
        min_ready_s: spec.min_ready_seconds.unwrap_or(0),
        history_limit: spec.revision_history_limit.unwrap_or(10),
        start: spec.ordinals.as_ref().and_then(|o| o.start).unwrap_or(0),
        claims: claims.collect(),
        retention: ClaimRetention {
            delete_when_deleted: deletes(retention.and_then(|r| r.when_deleted.as_ref())),
            delete_when_scaled: deletes(retention.and_then(|r| r.when_scaled.as_ref())),
        },
        source: spec_json(json),
        status,
    }
}

fn stateful_strategy(source: Option<&apps::StatefulSetUpdateStrategy>) -> StatefulStrategy {
    if source.and_then(|s| s.type_.as_deref()) == Some("OnDelete") {
        return StatefulStrategy::OnDelete;
    }
    let rolling = source.and_then(|s| s.rolling_update.as_ref());
    StatefulStrategy::RollingUpdate(rolling.map(|rolling| StatefulRolling {
        partition: rolling.partition.unwrap_or(0),
        max_unavailable: rolling.max_unavailable.as_ref().map(int_or_percent),
    }))
}

fn stateful_status(source: &apps::StatefulSetStatus) -> StatefulSetStatus {
    StatefulSetStatus {
        observed_generation: count(source.observed_generation.unwrap_or(0)),
        replicas: source.replicas,
        ready: source.ready_replicas.unwrap_or(0),
        current: source.current_replicas.unwrap_or(0),
        updated: source.updated_replicas.unwrap_or(0),
        available: source.available_replicas.unwrap_or(0),
        current_revision: text(&source.current_revision),
        update_revision: text(&source.update_revision),
        collisions: source.collision_count,
    }
}

pub(super) fn daemon_set(source: &apps::DaemonSet, json: &Value, cx: &DecodeContext) -> DaemonSet {
    let meta = meta(&source.metadata, cx);
    let status = source.status.as_ref();
    let status = status.map(daemon_status).unwrap_or_default();
    let Some(spec) = &source.spec else {
        return DaemonSet {
            meta,
            status,
            ..DaemonSet::default()
        };
    };
    DaemonSet {
        meta,
        selector: label_selector(&spec.selector),
        template: Arc::new(template(&spec.template, json.pointer("/spec/template"))),
        strategy: daemon_strategy(spec.update_strategy.as_ref()),
        min_ready_s: spec.min_ready_seconds.unwrap_or(0),
        history_limit: spec.revision_history_limit.unwrap_or(10),
        source: spec_json(json),
        status,
    }
}

fn daemon_strategy(source: Option<&apps::DaemonSetUpdateStrategy>) -> DaemonStrategy {
    if source.and_then(|s| s.type_.as_deref()) == Some("OnDelete") {
        return DaemonStrategy::OnDelete;
    }
    let rolling = source.and_then(|s| s.rolling_update.as_ref());
    let of = |value: Option<&IntOrString>, default| {
        value.map_or(IntOrPercent::Int(default), int_or_percent)
    };
    DaemonStrategy::RollingUpdate {
        max_surge: of(rolling.and_then(|r| r.max_surge.as_ref()), 0),
        max_unavailable: of(rolling.and_then(|r| r.max_unavailable.as_ref()), 1),
    }
}

fn daemon_status(source: &apps::DaemonSetStatus) -> DaemonSetStatus {
    DaemonSetStatus {
        observed_generation: count(source.observed_generation.unwrap_or(0)),
        desired: source.desired_number_scheduled,
        current: source.current_number_scheduled,
        misscheduled: source.number_misscheduled,
        ready: source.number_ready,
        updated: source.updated_number_scheduled.unwrap_or(0),
        available: source.number_available.unwrap_or(0),
        unavailable: source.number_unavailable.unwrap_or(0),
        collisions: source.collision_count,
    }
}

/// Data that is not a template restores none, as it does upstream.
pub(super) fn revision(
    source: &apps::ControllerRevision,
    json: &Value,
    cx: &DecodeContext,
) -> ControllerRevision {
    let mut written = json.pointer("/data/spec/template").cloned();
    if let Some(Value::Object(template)) = &mut written {
        template.shift_remove("$patch");
    }
    let read = written.clone().unwrap_or_default();
    let read = serde_json::from_value::<core::PodTemplateSpec>(read).ok();
    ControllerRevision {
        meta: meta(&source.metadata, cx),
        revision: source.revision,
        template: Arc::new(read.map_or_else(Default::default, |r| template(&r, written.as_ref()))),
        data: Arc::new(json.get("data").cloned().unwrap_or_default()),
    }
}

/// A StatefulSet whose templates of claims are what they must be: upstream reads no kind there and
/// writes the right one over whatever was given.
pub(super) fn untyped_claims(node: &Node) -> Cow<'_, Node> {
    const CLAIM: [(&str, &str); 2] = [("apiVersion", "v1"), ("kind", "PersistentVolumeClaim")];
    let other = |claim: &Node| {
        CLAIM.iter().any(|(field, expected)| {
            let given = claim.get(field).and_then(Node::as_str);
            given.is_some_and(|given| given != *expected)
        })
    };
    let spec = node.get("spec");
    let claims = spec.and_then(|spec| spec.get("volumeClaimTemplates")?.as_list());
    if !claims.is_some_and(|claims| claims.iter().any(other)) {
        return Cow::Borrowed(node);
    }
    let mut node = node.clone();
    let spec = node.get_mut("spec");
    let claims = spec.and_then(|spec| spec.get_mut("volumeClaimTemplates")?.as_list_mut());
    for claim in claims.into_iter().flatten() {
        for (field, expected) in CLAIM {
            if let Some(given) = claim.get_mut(field)
                && given.as_str().is_some()
            {
                given.value = NodeValue::Str(expected.into());
            }
        }
    }
    Cow::Owned(node)
}
