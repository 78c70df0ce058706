//! Nodes and leases.

use k8s_openapi::api::coordination::v1 as coordination;
use k8s_openapi::api::core::v1 as core;

use super::DecodeContext;
use super::affinity::taint;
use super::container::resources;
use super::meta::{count32, instant, list, meta, text, texts};
use super::pod_status::truth;
use crate::api::node::{NodeCondition, NodeConditionKind, NodeStatus};
use crate::api::{Lease, Node};
use crate::engine::Time;

pub(super) fn node(source: &core::Node, cx: &DecodeContext) -> Node {
    let spec = source.spec.as_ref();
    let status = source.status.as_ref();
    Node {
        meta: meta(&source.metadata, cx),
        unschedulable: spec.and_then(|s| s.unschedulable).unwrap_or(false),
        taints: spec
            .map(|s| list(&s.taints).iter().map(|t| taint(t, cx)).collect())
            .unwrap_or_default(),
        provider_id: spec.map(|s| text(&s.provider_id)).unwrap_or_default(),
        status: status.map(|s| node_status(s, cx)).unwrap_or_default(),
    }
}

fn node_status(source: &core::NodeStatus, cx: &DecodeContext) -> NodeStatus {
    NodeStatus {
        capacity: resources(&source.capacity),
        allocatable: resources(&source.allocatable),
        conditions: list(&source.conditions)
            .iter()
            .map(|condition| node_condition(condition, cx))
            .collect(),
        images: list(&source.images)
            .iter()
            .map(|image| (texts(&image.names), image.size_bytes.unwrap_or(0)))
            .collect::<Vec<_>>()
            .into(),
        volumes_in_use: list(&source.volumes_in_use)
            .iter()
            .map(|volume| volume.rsplit(['/', '^']).next().unwrap_or_default().into())
            .collect(),
        declared_features: texts(&source.declared_features).into(),
    }
}

fn node_condition(source: &core::NodeCondition, cx: &DecodeContext) -> NodeCondition {
    use NodeConditionKind::{DiskPressure, MemoryPressure, NetworkUnavailable, PidPressure, Ready};
    let known = [
        Ready,
        MemoryPressure,
        DiskPressure,
        PidPressure,
        NetworkUnavailable,
    ];
    let kind = known.into_iter().find(|kind| kind.name() == source.type_);
    NodeCondition {
        kind: kind.unwrap_or_else(|| NodeConditionKind::Other(source.type_.as_str().into())),
        status: truth(&source.status),
        heartbeat: instant(&source.last_heartbeat_time, cx),
        since: instant(&source.last_transition_time, cx),
        reason: text(&source.reason),
        message: text(&source.message),
    }
}

pub(super) fn lease(source: &coordination::Lease, cx: &DecodeContext) -> Lease {
    let spec = source.spec.as_ref();
    let renewed = spec.and_then(|s| s.renew_time.as_ref());
    Lease {
        meta: meta(&source.metadata, cx),
        holder: spec.map(|s| text(&s.holder_identity)).unwrap_or_default(),
        duration_s: count32(spec.and_then(|s| s.lease_duration_seconds)),
        renewed: renewed.map_or(Time::ZERO, |at| cx.time(at.0)),
    }
}
