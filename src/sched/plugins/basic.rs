//! Plugins that look at no node: gates, the order of the queue, binding, and the name under which
//! preemption runs (its work is in `preempt`).

use crate::api::Pod;
use crate::sched::events::{
    ClusterEvent, DELETE, Involved, Resource, UPDATE_POD_GATES_ELIMINATED, event,
};
use crate::sched::plugin::{Cx, Plugin, PluginName, PodEntry, Points, Status};

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
