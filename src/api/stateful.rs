//! StatefulSets, DaemonSets, and the revisions that both keep as their history.

use std::sync::Arc;

use serde_json::Value;

use super::int_or_percent::IntOrPercent;
use super::selector::LabelSelector;
use super::{Meta, PersistentVolumeClaim, PodTemplate, Text};

/// A StatefulSet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatefulSet {
    /// Metadata.
    pub meta: Meta,
    /// `spec.replicas`, default 1.
    pub replicas: i32,
    /// `spec.selector`.
    pub selector: LabelSelector,
    /// `spec.template`.
    pub template: Arc<PodTemplate>,
    /// `spec.serviceName`, empty when none.
    pub service_name: Text,
    /// `spec.podManagementPolicy: Parallel`.
    pub parallel: bool,
    /// `spec.updateStrategy`.
    pub strategy: StatefulStrategy,
    /// `spec.minReadySeconds`, in seconds.
    pub min_ready_s: i32,
    /// `spec.revisionHistoryLimit`, default 10.
    pub history_limit: i32,
    /// `spec.ordinals.start`.
    pub start: i32,
    /// `spec.volumeClaimTemplates`.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
    /// `spec.persistentVolumeClaimRetentionPolicy`.
    pub retention: ClaimRetention,
    /// The spec as defaulted JSON; typed fields win over it.
    pub source: Arc<Value>,
    /// Status.
    pub status: StatefulSetStatus,
}

/// `spec.updateStrategy` of a StatefulSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatefulStrategy {
    /// Replaced when somebody deletes them.
    OnDelete,
    /// Replaced from the last to the first; `None` without `rollingUpdate`, which is not the same
    /// as a partition of 0.
    RollingUpdate(Option<StatefulRolling>),
}

impl Default for StatefulStrategy {
    fn default() -> Self {
        StatefulStrategy::RollingUpdate(Some(StatefulRolling::default()))
    }
}

/// `spec.updateStrategy.rollingUpdate` of a StatefulSet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StatefulRolling {
    /// Pods of lower ordinals keep the old revision.
    pub partition: i32,
    /// How many may be unavailable (feature gate, off in the reference version).
    pub max_unavailable: Option<IntOrPercent>,
}

/// `spec.persistentVolumeClaimRetentionPolicy`; the default retains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClaimRetention {
    /// `whenDeleted: Delete`.
    pub delete_when_deleted: bool,
    /// `whenScaled: Delete`.
    pub delete_when_scaled: bool,
}

/// `status` of a StatefulSet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StatefulSetStatus {
    /// `observedGeneration`.
    pub observed_generation: u32,
    /// `replicas`.
    pub replicas: i32,
    /// `readyReplicas`.
    pub ready: i32,
    /// `currentReplicas`: pods of the current revision.
    pub current: i32,
    /// `updatedReplicas`: pods of the update revision.
    pub updated: i32,
    /// `availableReplicas`.
    pub available: i32,
    /// `currentRevision`: name of a ControllerRevision.
    pub current_revision: Text,
    /// `updateRevision`: name of a ControllerRevision.
    pub update_revision: Text,
    /// `collisionCount`.
    pub collisions: Option<i32>,
}

/// A DaemonSet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DaemonSet {
    /// Metadata.
    pub meta: Meta,
    /// `spec.selector`.
    pub selector: LabelSelector,
    /// `spec.template`.
    pub template: Arc<PodTemplate>,
    /// `spec.updateStrategy`.
    pub strategy: DaemonStrategy,
    /// `spec.minReadySeconds`, in seconds.
    pub min_ready_s: i32,
    /// `spec.revisionHistoryLimit`, default 10.
    pub history_limit: i32,
    /// The spec as defaulted JSON; typed fields win over it.
    pub source: Arc<Value>,
    /// Status.
    pub status: DaemonSetStatus,
}

/// `spec.updateStrategy` of a DaemonSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DaemonStrategy {
    /// Replaced when somebody deletes them.
    OnDelete,
    /// Replaced within these bounds; both are rounded up.
    RollingUpdate {
        /// Nodes that may have an old and a new pod.
        max_surge: IntOrPercent,
        /// Nodes that may be without an available pod.
        max_unavailable: IntOrPercent,
    },
}

impl Default for DaemonStrategy {
    fn default() -> Self {
        DaemonStrategy::RollingUpdate {
            max_surge: IntOrPercent::Int(0),
            max_unavailable: IntOrPercent::Int(1),
        }
    }
}

/// `status` of a DaemonSet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DaemonSetStatus {
    /// `observedGeneration`.
    pub observed_generation: u32,
    /// `desiredNumberScheduled`: nodes that should have a pod.
    pub desired: i32,
    /// `currentNumberScheduled`: those of them that have one.
    pub current: i32,
    /// `numberMisscheduled`: nodes that have one and should not.
    pub misscheduled: i32,
    /// `numberReady`.
    pub ready: i32,
    /// `updatedNumberScheduled`.
    pub updated: i32,
    /// `numberAvailable`.
    pub available: i32,
    /// `numberUnavailable`.
    pub unavailable: i32,
    /// `collisionCount`.
    pub collisions: Option<i32>,
}

/// A ControllerRevision: one version of a StatefulSet's or DaemonSet's template.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ControllerRevision {
    /// Metadata.
    pub meta: Meta,
    /// `revision`.
    pub revision: i64,
    /// The template that `data` restores.
    pub template: Arc<PodTemplate>,
    /// `data`, as it came; null in revisions that were made here (they are printed from the
    /// template).
    pub data: Arc<Value>,
}
