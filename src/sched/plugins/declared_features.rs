//! Nodes have to declare the features that a pod requires
//! (`pkg/scheduler/framework/plugins/nodedeclaredfeatures`).

use crate::api::declared::{missing, required};
use crate::sched::events::{
    ADD, ClusterEvent, Involved, Resource, UPDATE, UPDATE_NODE_DECLARED_FEATURE, event,
};
use crate::sched::node_info::NodeInfo;
use crate::sched::plugin::{
    Cx, CycleState, Plugin, PluginName, PodEntry, Points, PreFilter, Status,
};

/// NodeDeclaredFeatures.
#[derive(Debug)]
pub struct NodeDeclaredFeatures;

impl Plugin for NodeDeclaredFeatures {
    fn name(&self) -> PluginName {
        PluginName::NodeDeclaredFeatures
    }

    fn by_node(&self, _pod: &PodEntry) -> bool {
        true
    }

    fn by_row(&self, _pod: &PodEntry) -> bool {
        true
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER.and(Points::FILTER)
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const EVENTS: &[ClusterEvent] = &[
            event(Resource::Node, ADD | UPDATE_NODE_DECLARED_FEATURE),
            event(Resource::Pod, UPDATE),
        ];
        EVENTS
    }

    fn hint(&self, _cx: &Cx<'_>, pod: &PodEntry, involved: &Involved<'_>) -> bool {
        match involved {
            Involved::Pod(Some(old), Some(new)) => {
                new.meta.uid == pod.pod.meta.uid && required(&old.spec) != required(&new.spec)
            }
            Involved::Node(Some(old), Some(new)) => {
                old.status.declared_features != new.status.declared_features
            }
            _ => true,
        }
    }

    fn pre_filter(&self, _cx: &Cx<'_>, _state: &mut CycleState, pod: &PodEntry) -> PreFilter {
        match pod.template.features.is_empty() {
            true => PreFilter::Skip,
            false => PreFilter::All,
        }
    }

    fn filter(
        &self,
        _cx: &Cx<'_>,
        _state: &CycleState,
        pod: &PodEntry,
        node: &NodeInfo,
    ) -> Result<(), Status> {
        match missing(&pod.template.features, node.row()).next() {
            None => Ok(()),
            Some(_) => Err(Status::unresolvable(
                "node(s) didn't match Pod's required features",
            )),
        }
    }
}
