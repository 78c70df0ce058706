//! Deployments and ReplicaSets.

use std::sync::Arc;

use serde_json::Value;

use super::int_or_percent::IntOrPercent;
use super::pod_status::Truth;
use super::selector::LabelSelector;
use super::{Meta, PodTemplate, Text};
use crate::engine::Time;

/// A Deployment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deployment {
    /// Metadata.
    pub meta: Meta,
    /// `spec.replicas`, default 1.
    pub replicas: i32,
    /// `spec.selector`.
    pub selector: LabelSelector,
    /// `spec.template`.
    pub template: Arc<PodTemplate>,
    /// `spec.strategy`.
    pub strategy: Strategy,
    /// `spec.minReadySeconds`, in seconds.
    pub min_ready_s: i32,
    /// `spec.revisionHistoryLimit`, default 10.
    pub history_limit: i32,
    /// `spec.paused`.
    pub paused: bool,
    /// `spec.progressDeadlineSeconds`, default 600; `i32::MAX` means none.
    pub progress_deadline_s: i32,
    /// The spec as defaulted JSON, for patches and printing; typed fields win over it.
    pub source: Arc<Value>,
    /// Status.
    pub status: DeploymentStatus,
}

/// `spec.strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Replace gradually.
    RollingUpdate {
        /// Rounded up.
        max_surge: IntOrPercent,
        /// Rounded down.
        max_unavailable: IntOrPercent,
    },
    /// Delete all, then create.
    Recreate,
}

impl Default for Strategy {
    fn default() -> Self {
        Strategy::RollingUpdate {
            max_surge: IntOrPercent::Percent(25),
            max_unavailable: IntOrPercent::Percent(25),
        }
    }
}

/// `status` of a Deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DeploymentStatus {
    /// `observedGeneration`.
    pub observed_generation: u32,
    /// `replicas`.
    pub replicas: i32,
    /// `updatedReplicas`.
    pub updated: i32,
    /// `readyReplicas`.
    pub ready: i32,
    /// `availableReplicas`.
    pub available: i32,
    /// `unavailableReplicas`.
    pub unavailable: i32,
    /// `terminatingReplicas`, when the feature is on.
    pub terminating: Option<i32>,
    /// `collisionCount`.
    pub collisions: Option<i32>,
    /// Conditions.
    pub conditions: Vec<WorkloadCondition>,
}

/// A condition of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkloadCondition {
    /// `Available`, `Progressing`, `ReplicaFailure` …
    pub kind: Text,
    /// Status.
    pub status: Truth,
    /// `reason`.
    pub reason: Text,
    /// `message`.
    pub message: Text,
    /// `lastUpdateTime`.
    pub updated: Time,
    /// `lastTransitionTime`.
    pub since: Time,
}

/// A ReplicaSet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplicaSet {
    /// Metadata.
    pub meta: Meta,
    /// `spec.replicas`, default 1.
    pub replicas: i32,
    /// `spec.minReadySeconds`, in seconds.
    pub min_ready_s: i32,
    /// `spec.selector`.
    pub selector: LabelSelector,
    /// `spec.template`.
    pub template: Arc<PodTemplate>,
    /// The spec as defaulted JSON; typed fields win over it.
    pub source: Arc<Value>,
    /// Status.
    pub status: ReplicaSetStatus,
}

/// `status` of a ReplicaSet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReplicaSetStatus {
    /// `observedGeneration`.
    pub observed_generation: u32,
    /// `replicas`.
    pub replicas: i32,
    /// `fullyLabeledReplicas`.
    pub fully_labeled: i32,
    /// `readyReplicas`.
    pub ready: i32,
    /// `availableReplicas`.
    pub available: i32,
    /// `terminatingReplicas`, when the feature is on.
    pub terminating: Option<i32>,
    /// Conditions.
    pub conditions: Vec<WorkloadCondition>,
}
