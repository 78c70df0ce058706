//! PodDisruptionBudgets and PriorityClasses.

use std::sync::Arc;

use serde_json::Value;

use super::int_or_percent::IntOrPercent;
use super::selector::LabelSelector;
use super::workload::WorkloadCondition;
use super::{Meta, Text};
use crate::engine::Time;

/// A PodDisruptionBudget.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodDisruptionBudget {
    /// Metadata.
    pub meta: Meta,
    /// `spec.minAvailable`.
    pub min_available: Option<IntOrPercent>,
    /// `spec.maxUnavailable`.
    pub max_unavailable: Option<IntOrPercent>,
    /// `spec.selector`.
    pub selector: LabelSelector,
    /// `spec.unhealthyPodEvictionPolicy: AlwaysAllow`.
    pub evict_unhealthy_always: bool,
    /// The spec as defaulted JSON.
    pub source: Arc<Value>,
    /// Status.
    pub status: PdbStatus,
}

/// `status` of a PodDisruptionBudget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PdbStatus {
    /// `observedGeneration`.
    pub observed_generation: u32,
    /// `disruptionsAllowed`.
    pub disruptions_allowed: i32,
    /// `currentHealthy`.
    pub current_healthy: i32,
    /// `desiredHealthy`.
    pub desired_healthy: i32,
    /// `expectedPods`.
    pub expected_pods: i32,
    /// `disruptedPods`: pod name and when its eviction was granted.
    pub disrupted: Vec<(Text, Time)>,
    /// Conditions.
    pub conditions: Vec<WorkloadCondition>,
}

/// A PriorityClass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PriorityClass {
    /// Metadata.
    pub meta: Meta,
    /// `value`.
    pub value: i32,
    /// `globalDefault`.
    pub global_default: bool,
    /// `preemptionPolicy: Never`.
    pub preempt_never: bool,
    /// `description`.
    pub description: Text,
}
