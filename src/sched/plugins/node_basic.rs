//! Filters that compare the pod with the node alone: cordons, `nodeName`, taints.

use crate::api::Node;
use crate::api::affinity::{Taint, TaintEffect, Toleration};
use crate::sched::cache::NodeIx;
use crate::sched::events::{
    ADD, ClusterEvent, Involved, Resource, UPDATE_NODE_TAINT, UPDATE_POD_TOLERATION, event,
};
use crate::sched::node_info::NodeInfo;
use crate::sched::plugin::{
    Cx, CycleState, Plugin, PluginName, PodEntry, Points, Status, default_normalize,
};

/// Taint and pod-toleration events, which cordons and taints have in common.
const TAINT_EVENTS: &[ClusterEvent] = &[
    event(Resource::Node, ADD | UPDATE_NODE_TAINT),
    event(Resource::Pod, UPDATE_POD_TOLERATION),
];

/// `TolerationsTolerateTaint`.
fn tolerated(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|t| t.tolerates(taint))
}

/// `FindMatchingUntoleratedTaint` with `DoNotScheduleTaintsFilterFunc`: whether the node has a
/// NoSchedule or NoExecute taint that is not tolerated.
pub fn has_untolerated(taints: &[Taint], tolerations: &[Toleration]) -> bool {
    let mut hard = taints
        .iter()
        .filter(|t| t.effect != TaintEffect::PreferNoSchedule);
    hard.any(|t| !tolerated(tolerations, t))
}

/// Rejects cordoned nodes.
#[derive(Debug)]
pub struct NodeUnschedulable;

fn tolerates_cordon(tolerations: &[Toleration]) -> bool {
    let cordon = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        value: Default::default(),
        effect: TaintEffect::NoSchedule,
        added: None,
    };
    tolerated(tolerations, &cordon)
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> PluginName {
        PluginName::NodeUnschedulable
    }

    fn by_node(&self, _pod: &PodEntry) -> bool {
        true
    }

    fn by_row(&self, _pod: &PodEntry) -> bool {
        true
    }

    fn points(&self) -> Points {
        Points::FILTER
    }

    fn events(&self) -> &'static [ClusterEvent] {
        TAINT_EVENTS
    }

    fn hint(&self, _cx: &Cx<'_>, pod: &PodEntry, involved: &Involved<'_>) -> bool {
        match involved {
            Involved::Pod(_, Some(new)) => {
                new.meta.uid == pod.pod.meta.uid && tolerates_cordon(&new.spec.tolerations)
            }
            Involved::Node(old, Some(new)) => {
                old.is_none_or(|old| old.unschedulable) && !new.unschedulable
            }
            _ => true,
        }
    }

    fn filter(
        &self,
        _cx: &Cx<'_>,
        _state: &CycleState,
        pod: &PodEntry,
        node: &NodeInfo,
    ) -> Result<(), Status> {
        if node.unschedulable && !tolerates_cordon(&pod.template.spec.tolerations) {
            return Err(Status::unresolvable("node(s) were unschedulable"));
        }
        Ok(())
    }
}

/// Rejects all nodes but the one that the pod names.
#[derive(Debug)]
pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> PluginName {
        PluginName::NodeName
    }

    fn by_node(&self, pod: &PodEntry) -> bool {
        pod.pod.node_name.is_none()
    }

    fn by_row(&self, pod: &PodEntry) -> bool {
        self.by_node(pod)
    }

    fn points(&self) -> Points {
        Points::FILTER
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const EVENTS: &[ClusterEvent] = &[event(Resource::Node, ADD)];
        EVENTS
    }

    fn filter(
        &self,
        _cx: &Cx<'_>,
        _state: &CycleState,
        pod: &PodEntry,
        node: &NodeInfo,
    ) -> Result<(), Status> {
        match &pod.pod.node_name {
            Some(name) if *name != node.name => Err(Status::unresolvable(
                "node(s) didn't match the requested node name",
            )),
            _ => Ok(()),
        }
    }
}

/// Rejects nodes with taints that the pod does not tolerate; prefers nodes with fewer
/// PreferNoSchedule taints.
#[derive(Debug)]
pub struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> PluginName {
        PluginName::TaintToleration
    }

    fn by_node(&self, _pod: &PodEntry) -> bool {
        true
    }

    fn by_row(&self, _pod: &PodEntry) -> bool {
        true
    }

    fn points(&self) -> Points {
        Points::FILTER.and(Points::PRE_SCORE).and(Points::SCORE)
    }

    fn events(&self) -> &'static [ClusterEvent] {
        TAINT_EVENTS
    }

    fn hint(&self, _cx: &Cx<'_>, pod: &PodEntry, involved: &Involved<'_>) -> bool {
        let untolerated = |n: &Node| has_untolerated(&n.taints, &pod.pod.spec.tolerations);
        match involved {
            Involved::Pod(_, Some(new)) => new.meta.uid == pod.pod.meta.uid,
            Involved::Node(old, Some(new)) => old.is_none_or(untolerated) && !untolerated(new),
            _ => true,
        }
    }

    fn filter(
        &self,
        _cx: &Cx<'_>,
        _state: &CycleState,
        pod: &PodEntry,
        node: &NodeInfo,
    ) -> Result<(), Status> {
        let tolerations = &pod.template.spec.tolerations;
        if node.tainted && has_untolerated(&node.row().taints, tolerations) {
            return Err(Status::unresolvable("node(s) had untolerated taint(s)"));
        }
        Ok(())
    }

    /// `countIntolerableTaintsPreferNoSchedule`: only tolerations of that effect, or of all, count;
    /// others could not tolerate such a taint anyway.
    fn score(&self, _cx: &Cx<'_>, _state: &CycleState, pod: &PodEntry, node: &NodeInfo) -> i64 {
        if !node.tainted {
            return 0;
        }
        let taints = node.row().taints.iter();
        let soft = taints.filter(|t| t.effect == TaintEffect::PreferNoSchedule);
        let tolerations = &pod.template.spec.tolerations;
        let count = soft.filter(|t| !tolerated(tolerations, t)).count();
        i64::try_from(count).unwrap_or(i64::MAX)
    }

    fn normalize(&self, _cx: &Cx<'_>, _state: &CycleState, _nodes: &[NodeIx], scores: &mut [i64]) {
        default_normalize(true, scores);
    }
}
