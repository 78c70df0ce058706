//! Events of the cluster as the scheduling queue sees them: which kind of object changed, and which
//! property of it (`pkg/scheduler/framework/events.go`).

use std::sync::Arc;

use crate::api::pod_status::PodConditionKind;
use crate::api::quantity::Resources;
use crate::api::{
    CSIDriver, CSINode, CSIStorageCapacity, Node, PersistentVolume, PersistentVolumeClaim, Pod,
    StorageClass, VolumeAttachment,
};

/// What kind of object an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Any pod (registrations only).
    Pod,
    /// A pod on a node.
    AssignedPod,
    /// A pod that waits.
    UnschedulablePod,
    /// A node.
    Node,
    /// A PersistentVolume.
    PersistentVolume,
    /// A PersistentVolumeClaim.
    PersistentVolumeClaim,
    /// A StorageClass.
    StorageClass,
    /// A CSINode.
    CsiNode,
    /// A CSIDriver.
    CsiDriver,
    /// A CSIStorageCapacity.
    CsiStorageCapacity,
    /// A VolumeAttachment.
    VolumeAttachment,
    /// Anything.
    WildCard,
}

/// What happened to it: bits as in upstream's `ActionType`, whose order matters for matching.
pub type Action = u32;

/// Created.
pub const ADD: Action = 1;
/// Deleted.
pub const DELETE: Action = 1 << 1;
/// A node's allocatable changed.
pub const UPDATE_NODE_ALLOCATABLE: Action = 1 << 2;
/// A node's labels changed.
pub const UPDATE_NODE_LABEL: Action = 1 << 3;
/// A node's taints changed, or it was uncordoned.
pub const UPDATE_NODE_TAINT: Action = 1 << 4;
/// A node's conditions changed.
pub const UPDATE_NODE_CONDITION: Action = 1 << 5;
/// A node's annotations changed.
pub const UPDATE_NODE_ANNOTATION: Action = 1 << 6;
/// A node declares other features.
pub const UPDATE_NODE_DECLARED_FEATURE: Action = 1 << 7;
/// A pod's labels changed.
pub const UPDATE_POD_LABEL: Action = 1 << 8;
/// A pod's requests were lowered.
pub const UPDATE_POD_SCALE_DOWN: Action = 1 << 9;
/// A pod's tolerations changed.
pub const UPDATE_POD_TOLERATION: Action = 1 << 10;
/// A pod's last scheduling gate went away.
pub const UPDATE_POD_GATES_ELIMINATED: Action = 1 << 11;
/// Any update.
pub const UPDATE: Action = ((1 << 13) - 1) & !(ADD | DELETE);
/// Everything.
pub const ALL: Action = (1 << 13) - 1;

/// One kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClusterEvent {
    /// About what.
    pub resource: Resource,
    /// What happened.
    pub action: Action,
}

/// An event of this kind.
pub const fn event(resource: Resource, action: Action) -> ClusterEvent {
    ClusterEvent { resource, action }
}

/// A pod appeared on a node.
pub const ASSIGNED_POD_ADD: ClusterEvent = event(Resource::AssignedPod, ADD);
/// A pod left its node.
pub const ASSIGNED_POD_DELETE: ClusterEvent = event(Resource::AssignedPod, DELETE);
/// A pod waited for too long.
pub const UNSCHEDULABLE_TIMEOUT: ClusterEvent = event(Resource::WildCard, ALL);

impl ClusterEvent {
    /// Whether this is the event that means everything.
    pub fn wild(self) -> bool {
        self.resource == Resource::WildCard && self.action == ALL
    }

    /// Whether `incoming` is one of the events that this registration covers
    /// (`framework.MatchClusterEvents`).
    pub fn covers(self, incoming: ClusterEvent) -> bool {
        let pods = matches!(
            incoming.resource,
            Resource::AssignedPod | Resource::UnschedulablePod
        );
        let resource = self.resource == Resource::WildCard
            || self.resource == incoming.resource
            || (self.resource == Resource::Pod && pods);
        self.wild()
            || (resource && self.action & incoming.action != 0 && incoming.action <= self.action)
    }
}

/// The objects of an event, before and after.
#[derive(Clone, Copy, Debug)]
pub enum Involved<'a> {
    /// A pod.
    Pod(Option<&'a Pod>, Option<&'a Pod>),
    /// A node.
    Node(Option<&'a Node>, Option<&'a Node>),
    /// A claim.
    Claim(
        Option<&'a PersistentVolumeClaim>,
        Option<&'a PersistentVolumeClaim>,
    ),
    /// A volume.
    Volume(Option<&'a PersistentVolume>, Option<&'a PersistentVolume>),
    /// A storage class.
    StorageClass(Option<&'a StorageClass>, Option<&'a StorageClass>),
    /// A CSINode.
    CsiNode(Option<&'a CSINode>, Option<&'a CSINode>),
    /// A CSIDriver.
    CsiDriver(Option<&'a CSIDriver>, Option<&'a CSIDriver>),
    /// A CSIStorageCapacity.
    CsiStorageCapacity(
        Option<&'a CSIStorageCapacity>,
        Option<&'a CSIStorageCapacity>,
    ),
    /// A volume that is attached to a node.
    Attachment(Option<&'a VolumeAttachment>, Option<&'a VolumeAttachment>),
    /// Nothing in particular.
    Nothing,
}

/// What an update of a pod changed (`framework.PodSchedulingPropertiesChange`).
pub fn pod_changes(old: &Pod, new: &Pod) -> Vec<ClusterEvent> {
    let resource = if new.node_name.is_none() {
        Resource::UnschedulablePod
    } else {
        Resource::AssignedPod
    };
    let mut actions = Vec::new();
    if old.meta.labels != new.meta.labels {
        actions.push(UPDATE_POD_LABEL);
    }
    if !Arc::ptr_eq(&old.spec, &new.spec) {
        let requests = |pod: &Pod| super::template::pod_requests(&pod.spec);
        if lowered(&requests(old), &requests(new)) {
            actions.push(UPDATE_POD_SCALE_DOWN);
        }
        if new.spec.scheduling_gates.is_empty() && !old.spec.scheduling_gates.is_empty() {
            actions.push(UPDATE_POD_GATES_ELIMINATED);
        }
        if old.spec.tolerations.len() != new.spec.tolerations.len() {
            actions.push(UPDATE_POD_TOLERATION);
        }
    }
    if actions.is_empty() {
        actions.push(UPDATE);
    }
    actions.into_iter().map(|a| event(resource, a)).collect()
}

/// Whether an update of a pod means anything to the scheduler; of a pod on a node most do not, since
/// they are of its status.
///
/// A waiting pod always does. Of a pod on a node the cache, the plugins and preemption read, by the
/// row that they were last told: its node, its spec (by address), labels, whether it is being
/// deleted, its generation, when it started, and whether it is to be disrupted; and what never
/// changes, as name, namespace and uid. An update is also what gives a pod back host ports that were
/// marked as free (`NodeInfo::hold_ports`). No plugin registers for updates of a pod on a node in
/// which none of [`pod_changes`]' own actions is named. Everything else that is read of such a pod
/// (`check/placement`, the status that a victim's condition is put into) is read from the view at the
/// time of use. A pod that has ended is none for the scheduler, whatever happens to it afterwards.
///
/// To be told of other changes costs time and changes nothing. One who is not told of them keeps the
/// row of the last one he was told of alive.
pub fn concerns(old: &Pod, new: &Pod) -> bool {
    let ended = |pod: &Pod| pod.status.phase.terminal();
    if ended(old) || ended(new) {
        return ended(old) != ended(new);
    }
    const DISRUPTED: PodConditionKind = PodConditionKind::DisruptionTarget;
    old.node_name.is_none()
        || old.node_name != new.node_name
        || !Arc::ptr_eq(&old.spec, &new.spec)
        || old.meta.deleting() != new.meta.deleting()
        || old.meta.generation != new.meta.generation
        || old.meta.labels != new.meta.labels
        || old.status.start_time != new.status.start_time
        || old.status.condition(&DISRUPTED) != new.status.condition(&DISRUPTED)
        || super::template::holds_ports(&new.spec)
}

fn lowered(old: &Resources, new: &Resources) -> bool {
    old.cpu_milli > new.cpu_milli
        || old.memory > new.memory
        || old.ephemeral > new.ephemeral
        || old.extended.iter().any(|(n, v)| *v > new.extended(n))
}

/// What an update of a node changed (`framework.NodeSchedulingPropertiesChange`).
pub fn node_changes(old: &Node, new: &Node) -> Vec<ClusterEvent> {
    let mut actions = Vec::new();
    if old.unschedulable && !new.unschedulable {
        actions.push(UPDATE_NODE_TAINT);
    }
    if old.status.allocatable != new.status.allocatable {
        actions.push(UPDATE_NODE_ALLOCATABLE);
    }
    if old.meta.labels != new.meta.labels {
        actions.push(UPDATE_NODE_LABEL);
    }
    if old.taints != new.taints {
        actions.push(UPDATE_NODE_TAINT);
    }
    let conditions = |node: &Node| -> Vec<_> {
        let all = node.status.conditions.iter();
        let mut all: Vec<_> = all.map(|c| (c.kind.clone(), c.status)).collect();
        all.sort();
        all
    };
    if conditions(old) != conditions(new) {
        actions.push(UPDATE_NODE_CONDITION);
    }
    if old.meta.annotations != new.meta.annotations {
        actions.push(UPDATE_NODE_ANNOTATION);
    }
    if old.status.declared_features != new.status.declared_features {
        actions.push(UPDATE_NODE_DECLARED_FEATURE);
    }
    let events = actions.into_iter();
    events.map(|a| event(Resource::Node, a)).collect()
}
