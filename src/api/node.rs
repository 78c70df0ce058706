//! Nodes and their leases.

use smallvec::SmallVec;

use super::affinity::Taint;
use super::pod_status::Truth;
use super::quantity::Resources;
use super::{Meta, Shared, Text};
use crate::engine::Time;

/// Label of a node's own name.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// Label of a node's zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// Label of a node's region.
pub const REGION: &str = "topology.kubernetes.io/region";
/// [`ZONE`] before it was stable.
pub const BETA_ZONE: &str = "failure-domain.beta.kubernetes.io/zone";
/// [`REGION`] before it was stable.
pub const BETA_REGION: &str = "failure-domain.beta.kubernetes.io/region";

/// A Node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Metadata.
    pub meta: Meta,
    /// `spec.unschedulable` (cordon).
    pub unschedulable: bool,
    /// `spec.taints`.
    pub taints: Vec<Taint>,
    /// `spec.providerID`, empty when none.
    pub provider_id: Text,
    /// Status.
    pub status: NodeStatus,
}

/// `status` of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeStatus {
    /// Capacity.
    pub capacity: Resources,
    /// Allocatable.
    pub allocatable: Resources,
    /// Conditions.
    pub conditions: SmallVec<[NodeCondition; 4]>,
    /// Images on the node with their sizes in bytes (`names[0]`, size).
    pub images: Shared<Vec<(Vec<Text>, i64)>>,
    /// `volumesInUse`: PersistentVolumes that are, or are about to be, mounted; by name, sorted.
    pub volumes_in_use: Vec<Text>,
    /// `declaredFeatures`: what its kubelet can do of what not every kubelet can; sorted.
    pub declared_features: Shared<Vec<Text>>,
}

/// Type of a node condition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeConditionKind {
    /// Ready.
    Ready,
    /// MemoryPressure.
    MemoryPressure,
    /// DiskPressure.
    DiskPressure,
    /// PIDPressure.
    PidPressure,
    /// NetworkUnavailable.
    NetworkUnavailable,
    /// Any other.
    Other(Text),
}

impl NodeConditionKind {
    /// As in manifests.
    pub fn name(&self) -> &str {
        match self {
            NodeConditionKind::Ready => "Ready",
            NodeConditionKind::MemoryPressure => "MemoryPressure",
            NodeConditionKind::DiskPressure => "DiskPressure",
            NodeConditionKind::PidPressure => "PIDPressure",
            NodeConditionKind::NetworkUnavailable => "NetworkUnavailable",
            NodeConditionKind::Other(name) => name,
        }
    }
}

/// A node condition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeCondition {
    /// Type.
    pub kind: NodeConditionKind,
    /// Status.
    pub status: Truth,
    /// `lastHeartbeatTime`.
    pub heartbeat: Time,
    /// `lastTransitionTime`.
    pub since: Time,
    /// `reason`.
    pub reason: Text,
    /// `message`.
    pub message: Text,
}

impl Node {
    /// The condition of this kind.
    pub fn condition(&self, kind: &NodeConditionKind) -> Option<&NodeCondition> {
        self.status.conditions.iter().find(|c| c.kind == *kind)
    }

    /// Whether the Ready condition is True.
    pub fn ready(&self) -> bool {
        self.condition(&NodeConditionKind::Ready)
            .is_some_and(|c| c.status == Truth::True)
    }

    /// The value of `topology.kubernetes.io/zone`, empty when none.
    pub fn zone(&self) -> &str {
        self.meta.labels.get(ZONE).map_or("", |z| z.as_str())
    }

    /// Whether another row of a node has the same zone; mostly it has the same labels.
    pub fn same_zone(&self, other: &Node) -> bool {
        self.meta.labels.same(&other.meta.labels) || self.zone() == other.zone()
    }

    /// The value of `topology.kubernetes.io/region`, empty when none.
    pub fn region(&self) -> &str {
        self.meta.labels.get(REGION).map_or("", |z| z.as_str())
    }
}

/// Namespace of the nodes' leases.
pub const LEASES: &str = "kube-node-lease";

/// A Lease (of a node, in [`LEASES`]).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lease {
    /// Metadata.
    pub meta: Meta,
    /// `spec.holderIdentity`.
    pub holder: Text,
    /// `spec.leaseDurationSeconds`, in seconds.
    pub duration_s: u32,
    /// `spec.renewTime`.
    pub renewed: Time,
}
