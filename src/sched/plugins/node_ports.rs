//! Host ports must be free.

use crate::sched::events::{ADD, ClusterEvent, DELETE, Involved, Resource, event};
use crate::sched::node_info::NodeInfo;
use crate::sched::plugin::{
    Cx, CycleState, Plugin, PluginName, PodEntry, Points, PreFilter, Status,
};
use crate::sched::template::{HostPort, host_ports};

/// The plugin.
#[derive(Debug)]
pub struct NodePorts;

fn fits(wanted: &[HostPort], used: &[HostPort]) -> bool {
    !wanted.iter().any(|w| used.iter().any(|u| w.conflicts(u)))
}

impl Plugin for NodePorts {
    fn name(&self) -> PluginName {
        PluginName::NodePorts
    }

    fn by_node(&self, _pod: &PodEntry) -> bool {
        true
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER.and(Points::FILTER)
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const EVENTS: &[ClusterEvent] = &[event(Resource::Pod, DELETE), event(Resource::Node, ADD)];
        EVENTS
    }

    /// `isSchedulableAfterPodDeleted`: the deleted pod held a port that this one wants.
    fn hint(&self, _cx: &Cx<'_>, pod: &PodEntry, involved: &Involved<'_>) -> bool {
        let Involved::Pod(Some(deleted), _) = involved else {
            return true;
        };
        let placed = deleted.node_name.is_some() || deleted.status.nominated_node.is_some();
        placed && !fits(&pod.template.ports, &host_ports(&deleted.spec))
    }

    fn pre_filter(&self, _cx: &Cx<'_>, _state: &mut CycleState, pod: &PodEntry) -> PreFilter {
        if pod.template.ports.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::All
    }

    fn filter(
        &self,
        _cx: &Cx<'_>,
        _state: &CycleState,
        pod: &PodEntry,
        node: &NodeInfo,
    ) -> Result<(), Status> {
        if !fits(&pod.template.ports, &node.ports) {
            return Err(Status::unschedulable(
                "node(s) didn't have free ports for the requested pod ports",
            ));
        }
        Ok(())
    }
}
