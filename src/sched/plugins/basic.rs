//! Plugins that look at no node: gates, the order of the queue, binding, and the names under which
//! PostFilter runs (its work is in `preempt`).

use crate::api::Pod;
use crate::sched::events::{
    ClusterEvent, DELETE, Involved, Resource, UPDATE_POD_GATES_ELIMINATED, event,
};
use crate::sched::plugin::{
    Cx, CycleState, Plugin, PluginName, PodEntry, Points, PreFilter, Status,
};

/// Keeps pods with scheduling gates out of the active queue.
#[derive(Debug)]
pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> PluginName {
        PluginName::SchedulingGates
    }

    fn points(&self) -> Points {
        Points::PRE_ENQUEUE
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const EVENTS: &[ClusterEvent] = &[event(Resource::Pod, UPDATE_POD_GATES_ELIMINATED)];
        EVENTS
    }

    fn pre_enqueue(&self, pod: &Pod) -> Result<(), Status> {
        let gates = &pod.spec.scheduling_gates;
        if gates.is_empty() {
            return Ok(());
        }
        let gates: Vec<&str> = gates.iter().map(|g| g.as_str()).collect();
        Err(Status::unresolvable(format!(
            "waiting for scheduling gates: [{}]",
            gates.join(" ")
        )))
    }

    fn hint(&self, _cx: &Cx<'_>, pod: &PodEntry, involved: &Involved<'_>) -> bool {
        matches!(involved, Involved::Pod(_, Some(new)) if new.meta.uid == pod.pod.meta.uid)
    }
}

/// Higher priority first, then first come, first served; the queue itself knows how.
#[derive(Debug)]
pub struct PrioritySort;

impl Plugin for PrioritySort {
    fn name(&self) -> PluginName {
        PluginName::PrioritySort
    }

    fn points(&self) -> Points {
        Points::QUEUE_SORT
    }
}

/// What a pod without resource claims gets to feel of dynamic resource allocation: words in the
/// message of a pod that fits nowhere, and no preemption for a pod that PreFilter refuses (see
/// `Preemptor::post_filter`). Claims themselves are not modelled. Upstream's plugin also scores
/// such a pod with 0 on every node; that is left out.
#[derive(Debug)]
pub struct DynamicResources;

impl Plugin for DynamicResources {
    fn name(&self) -> PluginName {
        PluginName::DynamicResources
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER.and(Points::POST_FILTER)
    }

    fn pre_filter(&self, _cx: &Cx<'_>, state: &mut CycleState, _pod: &PodEntry) -> PreFilter {
        state.claims_looked_at = true;
        PreFilter::Skip
    }
}

/// Preemption: makes room by deleting pods of lower priority.
#[derive(Debug)]
pub struct DefaultPreemption;

impl Plugin for DefaultPreemption {
    fn name(&self) -> PluginName {
        PluginName::DefaultPreemption
    }

    fn points(&self) -> Points {
        Points::POST_FILTER.and(Points::PRE_ENQUEUE)
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const EVENTS: &[ClusterEvent] = &[event(Resource::Pod, DELETE)];
        EVENTS
    }

    /// `isPodSchedulableAfterPodDeletion`: other plugins decide.
    fn hint(&self, _cx: &Cx<'_>, _pod: &PodEntry, _involved: &Involved<'_>) -> bool {
        false
    }
}

/// Binds through the API server.
#[derive(Debug)]
pub struct DefaultBinder;

impl Plugin for DefaultBinder {
    fn name(&self) -> PluginName {
        PluginName::DefaultBinder
    }

    fn points(&self) -> Points {
        Points::BIND
    }
}
