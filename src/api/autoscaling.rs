//! HorizontalPodAutoscalers, and what the resource metrics API tells about pods.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::quantity::Quantity;
use super::quota::Amount;
use super::workload::WorkloadCondition;
use super::{Meta, Text};
use crate::engine::Time;

/// A HorizontalPodAutoscaler (`autoscaling/v2`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HorizontalPodAutoscaler {
    /// Metadata.
    pub meta: Meta,
    /// `spec.scaleTargetRef`.
    pub target: ScaleTarget,
    /// `spec.minReplicas`, default 1.
    pub min_replicas: i32,
    /// `spec.maxReplicas`.
    pub max_replicas: i32,
    /// `spec.metrics`, by default 80 % of the CPU requests.
    pub metrics: Vec<MetricSpec>,
    /// `spec.behavior`, with the defaults of both directions when it is there.
    pub behavior: Option<Behavior>,
    /// The spec as defaulted JSON.
    pub source: Arc<Value>,
    /// Status.
    pub status: AutoscalerStatus,
}

/// `spec.scaleTargetRef`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScaleTarget {
    /// `apiVersion`; only its group counts.
    pub api_version: Text,
    /// `kind`.
    pub kind: Text,
    /// `name`, in the autoscaler's namespace.
    pub name: Text,
}

/// One of `spec.metrics`.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSpec {
    /// Where the metric comes from.
    pub source: MetricSource,
    /// `target.averageUtilization`, in percent of the requests.
    pub utilization: Option<i32>,
    /// `target.averageValue`, in thousandths.
    pub average_milli: Option<i64>,
    /// Whether `target.type` is `Value` and `target.value` is there.
    pub value: bool,
}

/// Where a metric comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricSource {
    /// A resource of whole pods.
    Resource(Text),
    /// A resource of one container of each pod.
    Container {
        /// The resource.
        name: Text,
        /// The container.
        container: Text,
    },
    /// A metric of each pod, from the custom metrics API.
    Pods(Text),
    /// A metric of another object, from the custom metrics API.
    Object {
        /// The metric.
        name: Text,
        /// Kind of the object.
        kind: Text,
        /// Name of the object.
        object: Text,
    },
    /// A metric of no object, from the external metrics API.
    External {
        /// The metric.
        name: Text,
        /// Its selector as Go prints it, `nil` without one.
        selector: Text,
    },
}

/// `spec.behavior`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behavior {
    /// `scaleUp`.
    pub up: ScalingRules,
    /// `scaleDown`.
    pub down: ScalingRules,
}

/// The rules of one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalingRules {
    /// `stabilizationWindowSeconds`; none is the controller's own (scaling down only).
    pub window_s: Option<i32>,
    /// `selectPolicy`.
    pub select: SelectPolicy,
    /// `policies`.
    pub policies: Vec<ScalingPolicy>,
    /// `tolerance`; none is the controller's own.
    pub tolerance: Option<Quantity>,
}

/// Which of several policies counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectPolicy {
    /// The one that allows the most.
    Max,
    /// The one that allows the least.
    Min,
    /// None: this direction is switched off.
    Disabled,
}

/// How much may change in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScalingPolicy {
    /// Whether `value` is a percentage of the replicas, else a number of pods.
    pub percent: bool,
    /// `value`.
    pub value: i32,
    /// `periodSeconds`.
    pub period_s: i32,
}

/// `status` of a HorizontalPodAutoscaler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AutoscalerStatus {
    /// `currentReplicas`.
    pub current: i32,
    /// `desiredReplicas`.
    pub desired: i32,
    /// `lastScaleTime`.
    pub last_scale: Option<Time>,
    /// `currentMetrics`, one for each of `spec.metrics`.
    pub metrics: Vec<MetricStatus>,
    /// `AbleToScale`, `ScalingActive`, `ScalingLimited`.
    pub conditions: Vec<WorkloadCondition>,
}

/// One of `status.currentMetrics`; without a resource when the metric could not be had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MetricStatus {
    /// The resource.
    pub resource: Option<Text>,
    /// The container, of a metric of containers.
    pub container: Option<Text>,
    /// `averageUtilization`, in percent.
    pub utilization: Option<i32>,
    /// `averageValue`.
    pub value: Amount,
}

/// What the resource metrics API (`metrics.k8s.io/v1beta1`) tells of pods, by namespace and name.
pub type PodMetricsList = BTreeMap<(Text, Text), PodMetrics>;

/// `PodMetrics` of the resource metrics API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodMetrics {
    /// When the window ended.
    pub timestamp: Time,
    /// What the CPU usage is the mean of.
    pub window: Duration,
    /// Usage of each container that runs.
    pub containers: Vec<ContainerMetrics>,
}

/// Usage of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerMetrics {
    /// Its name.
    pub name: Text,
    /// CPU in billionths of a core.
    pub cpu_nanos: u64,
    /// The memory working set in bytes.
    pub memory: u64,
}
