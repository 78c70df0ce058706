//! What one look at all nodes wants to write.

use std::collections::BTreeMap;

use super::NodeLifecycleController;
use super::zones::{Seen, ZoneKey};
use crate::api::pod_status::{PodCondition, PodConditionKind, Truth};
use crate::api::{Kind, KubeEvent, Node, Pod};
use crate::client::{Controller, Plan, Step, SyncContext};
use crate::engine::Time;
use crate::store::{Id, Patch, Write};

/// The writes of one monitor pass, in the order in which they are sent.
#[derive(Default)]
pub(super) struct Pass {
    pub(super) zones: BTreeMap<ZoneKey, Seen>,
    pub(super) nodes: Vec<Write>,
    pub(super) taints: Vec<Write>,
    /// Node by node.
    pods: Vec<Vec<Write>>,
    pub(super) events: Vec<KubeEvent>,
}

impl Pass {
    /// Counts nodes in their zone.
    pub(super) fn count(&mut self, zone: &ZoneKey, ready: Option<Truth>, nodes: usize) {
        if nodes == 0 {
            return;
        }
        if !self.zones.contains_key(zone) {
            self.zones.insert(zone.clone(), Seen::default());
        }
        if let Some(seen) = self.zones.get_mut(zone) {
            seen.nodes += nodes;
            if ready == Some(Truth::True) {
                seen.ready += nodes;
            }
        }
    }

    /// `MarkPodsNotReady` of `pkg/controller/util/node/controller_utils.go`.
    pub(super) fn mark_pods_not_ready(&mut self, node: &Node, cx: &SyncContext<'_>) {
        self.pods.push(Vec::new());
        for (id, pod) in cx.view.pods().on_node(&node.meta.name) {
            self.mark_pod(id, pod, cx.now);
        }
    }

    /// One pod of the node that was begun last.
    pub(super) fn mark_pod(&mut self, id: Id<Pod>, pod: &Pod, now: Time) {
        let Some(ready) = pod.status.condition(&PodConditionKind::Ready) else {
            return;
        };
        if ready.status == Truth::False {
            return;
        }
        let condition = PodCondition {
            status: Truth::False,
            since: now,
            ..ready.clone()
        };
        let write = Write::Patch {
            object: id.into(),
            uid: Some(pod.meta.uid),
            patch: Patch::PodConditions {
                conditions: vec![condition],
                phase: None,
                reason: None,
            },
        };
        match self.pods.last_mut() {
            Some(node) => node.push(write),
            None => self.pods.push(vec![write]),
        }
        self.events.push(KubeEvent {
            kind: Kind::Pod,
            namespace: pod.meta.namespace.clone(),
            name: pod.meta.name.clone(),
            uid: pod.meta.uid,
            reason: "NodeNotReady".into(),
            message: "Node is not ready".into(),
            warning: true,
            source: "node-controller".into(),
        });
    }

    /// Upstream's eight workers take a node each and mark its pods one after the other, so that
    /// other requests of this client (taints) come in between.
    pub(super) fn into_plan(self, plan: &mut Plan) {
        for event in self.events {
            plan.event(event);
        }
        let groups = [
            (self.nodes, "no lease renewal within the grace period"),
            (self.taints, "the node's Ready condition changed"),
        ];
        for (writes, rule) in groups {
            if !writes.is_empty() {
                plan.steps.push(Step::Parallel { writes, rule });
            }
        }
        for nodes in self.pods.chunks(NodeLifecycleController::WORKERS) {
            let longest = nodes.iter().map(Vec::len).max().unwrap_or(0);
            for nth in 0..longest {
                let writes = nodes.iter().filter_map(|pods| pods.get(nth).cloned());
                plan.steps.push(Step::Parallel {
                    writes: writes.collect(),
                    rule: "their node is not ready",
                });
            }
        }
    }
}
