//! HorizontalPodAutoscalers: replicas follow a metric.
//!
//! A port of `pkg/controller/podautoscaler/horizontal.go`. Every autoscaler is synced once in
//! `--horizontal-pod-autoscaler-sync-period`: the scale of its target is read, each metric proposes
//! a number of replicas ([`calculator`]), the largest one is held against what was recommended and
//! done lately ([`normalize`]), and the scale is written when it differs.
//!
//! What it does not know: how metrics come about. It reads what the resource metrics API answers;
//! there are no custom and external metrics APIs here, so that metrics of the types `Pods`,
//! `Object` and `External` fail as they do in a cluster without an adapter. The alpha feature
//! `HPAScaleToZero` is off.
//!
//! Read first: [`PodAutoscaler::reconcile`].

pub mod calculator;
mod metrics;
pub mod normalize;
pub mod scale;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use self::normalize::{Memory, Wish};
use self::scale::Scale;
use crate::api::autoscaling::{AutoscalerStatus, MetricStatus};
use crate::api::pod_status::Truth;
use crate::api::selector::LabelSelector;
use crate::api::workload::WorkloadCondition;
use crate::api::{HorizontalPodAutoscaler, Kind, KubeEvent, Pod, Row};
use crate::client::{Controller, Keys, Outcome, Plan, Reply, SyncContext, Watches};
use crate::engine::Time;
use crate::store::{ApiError, Change, Id, Op, Patch, View, Write};

/// The name under which KubeEvents are reported.
const SOURCE: &str = "horizontal-pod-autoscaler";

type Key = Id<HorizontalPodAutoscaler>;

/// kube-controller-manager's `--horizontal-pod-autoscaler-*`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flags {
    /// `sync-period` (15 s).
    pub sync_period: Duration,
    /// `downscale-stabilization` (5 min).
    pub downscale_stabilization: Duration,
    /// `cpu-initialization-period` (5 min).
    pub cpu_initialization_period: Duration,
    /// `initial-readiness-delay` (30 s).
    pub initial_readiness_delay: Duration,
    /// `tolerance` (0.1).
    pub tolerance: f64,
}

impl Default for Flags {
    fn default() -> Self {
        Flags {
            sync_period: Duration::from_secs(15),
            downscale_stabilization: Duration::from_secs(300),
            cpu_initialization_period: Duration::from_secs(300),
            initial_readiness_delay: Duration::from_secs(30),
            tolerance: 0.1,
        }
    }
}

/// The horizontal pod autoscaler controller.
#[derive(Debug, Default)]
pub struct PodAutoscaler {
    flags: Flags,
    memories: BTreeMap<Key, Memory>,
    /// Scales that are being written.
    rescales: BTreeMap<Key, (Sync, Rescale)>,
}

/// A sync: the autoscaler as it was, and its status as it will be.
#[derive(Debug)]
struct Sync {
    autoscaler: Arc<HorizontalPodAutoscaler>,
    status: AutoscalerStatus,
    now: Time,
}

/// A change of scale.
#[derive(Debug)]
struct Rescale {
    current: i32,
    desired: i32,
    reason: String,
    metrics: Vec<MetricStatus>,
    refused: Option<String>,
}

/// What a sync comes to.
enum Verdict {
    /// The status is all there is to write.
    Noted,
    /// As `Noted`, and a metric or all of them could not be had.
    Failed(String),
    /// Another number of replicas.
    Rescale(Scale, Rescale),
}

impl PodAutoscaler {
    /// With these flags.
    pub fn new(flags: Flags) -> Self {
        PodAutoscaler {
            flags,
            ..PodAutoscaler::default()
        }
    }

    /// `reconcileAutoscaler`, up to the writing of the scale.
    fn reconcile(
        &mut self,
        key: Key,
        sync: &mut Sync,
        cx: &SyncContext<'_>,
        plan: &mut Plan,
    ) -> Verdict {
        let autoscaler = sync.autoscaler.clone();
        let namespace = &autoscaler.meta.namespace;
        let scale = match scale::get(cx.view, namespace, &autoscaler.target) {
            Ok(scale) => scale,
            Err(why) => {
                plan.event(sync.event("FailedGetScale", why.clone(), true));
                let message = format!(
                    "the HPA controller was unable to get the target's current scale: {why}"
                );
                sync.set("AbleToScale", false, "FailedGetScale", message);
                return Verdict::Noted;
            }
        };
        let message = "the HPA controller was able to get the target's current scale";
        sync.set("AbleToScale", true, "SucceededGetScale", message);
        let current = scale.replicas;
        let memory = self.memories.entry(key).or_default();
        memory.record_initial(current, cx.now);
        let (least, most) = (autoscaler.min_replicas, autoscaler.max_replicas);
        let bound = |desired: i32, reason: &str| Rescale {
            current,
            desired,
            reason: reason.to_owned(),
            metrics: Vec::new(),
            refused: None,
        };
        if current == 0 {
            let message = "scaling is disabled since the replica count of the target is zero";
            sync.set("ScalingActive", false, "ScalingDisabled", message);
            sync.count(current, current, Vec::new());
            return Verdict::Noted;
        } else if current > most {
            let reason = "Current number of replicas above Spec.MaxReplicas";
            return Verdict::Rescale(scale, bound(most, reason));
        } else if current < least {
            let reason = "Current number of replicas below Spec.MinReplicas";
            return Verdict::Rescale(scale, bound(least, reason));
        }
        self.follow_metrics(key, sync, scale, cx, plan)
    }

    /// The part of `reconcileAutoscaler` that computes metrics.
    fn follow_metrics(
        &mut self,
        key: Key,
        sync: &mut Sync,
        scale: Scale,
        cx: &SyncContext<'_>,
        plan: &mut Plan,
    ) -> Verdict {
        let autoscaler = sync.autoscaler.clone();
        let current = scale.replicas;
        let desired_before = sync.status.desired;
        if let Err(why) = self.check_selector(key, sync, &scale.selector, cx.view, plan) {
            sync.count(current, desired_before, Vec::new());
            return Verdict::Failed(why);
        }
        let computed = metrics::compute(sync, &scale, &self.flags, cx, plan);
        let (proposed, name, metrics) = match computed {
            Ok(computed) => computed,
            Err((why, metrics)) => {
                sync.count(current, desired_before, metrics);
                return Verdict::Failed(why);
            }
        };
        let mut reason = String::new();
        if proposed > current {
            reason = format!("{name} above target");
        }
        if proposed < current {
            "All metrics below target".clone_into(&mut reason);
        }
        let wish = Wish {
            current,
            proposed,
            least: autoscaler.min_replicas,
            most: autoscaler.max_replicas,
        };
        let memory = self.memories.entry(key).or_default();
        let window = self.flags.downscale_stabilization;
        let normalized = match &autoscaler.behavior {
            None => memory.normalize(wish, window, cx.now),
            Some(behavior) => memory.normalize_with(wish, behavior, window, cx.now),
        };
        let (reason_able, message) = normalized.able;
        sync.set("AbleToScale", true, reason_able, message);
        let (reason_limited, message) = normalized.limited;
        let limited = normalized.desired != normalized.stabilized;
        sync.set("ScalingLimited", limited, reason_limited, message);
        let desired = normalized.desired;
        if desired == current {
            sync.count(current, current, metrics);
            return Verdict::Noted;
        }
        let rescale = Rescale {
            current,
            desired,
            reason,
            metrics,
            refused: None,
        };
        Verdict::Rescale(scale, rescale)
    }

    /// `validateAndParseSelector`.
    fn check_selector(
        &mut self,
        key: Key,
        sync: &mut Sync,
        selector: &LabelSelector,
        view: &View,
        plan: &mut Plan,
    ) -> Result<(), String> {
        if selector.is_empty() {
            let message = "selector is required";
            plan.event(sync.event("SelectorRequired", message.to_owned(), true));
            let missing = "the HPA target's scale is missing a selector";
            sync.set("ScalingActive", false, "InvalidSelector", missing);
            return Err(message.to_owned());
        }
        let memory = self.memories.entry(key).or_default();
        memory.selector = selector.clone();
        let namespace = &sync.autoscaler.meta.namespace;
        let ours = view.pods().in_namespace(namespace);
        let ours: Vec<&Arc<Pod>> = ours
            .map(|(_, pod)| pod)
            .filter(|pod| selector.matches(&pod.meta.labels))
            .collect();
        let selects = |memory: &Memory| {
            let mut pods = ours.iter();
            pods.any(|pod| memory.selector.matches(&pod.meta.labels))
        };
        let autoscalers = view.of::<HorizontalPodAutoscaler>();
        let selecting = self.memories.iter().filter_map(|(key, memory)| {
            let autoscaler = autoscalers.get(*key)?;
            let here = autoscaler.meta.namespace == *namespace;
            (here && selects(memory)).then(|| autoscaler.meta.full_name())
        });
        let selecting: Vec<String> = selecting.collect();
        if selecting.len() > 1 {
            let message = format!(
                "pods by selector {selector} are controlled by multiple HPAs: [{}]",
                selecting.join(" ")
            );
            plan.event(sync.event("AmbiguousSelector", message.clone(), true));
            sync.set("ScalingActive", false, "AmbiguousSelector", message.clone());
            return Err(message);
        }
        Ok(())
    }
}

impl Controller for PodAutoscaler {
    type Key = Key;
    const NAME: &'static str = "horizontal-pod-autoscaler-controller";
    const WATCHES: Watches = Watches::kind(Kind::HorizontalPodAutoscaler);

    fn keys(&mut self, change: &Change, _view: &View, _now: Time, keys: &mut Keys<Key>) {
        let object = change
            .object
            .and_then(|object| object.typed::<HorizontalPodAutoscaler>());
        let Some(key) = object else { return };
        if change.op == Op::Delete {
            self.memories.remove(&key);
            self.rescales.remove(&key);
        } else {
            // `enqueueHPA`: never at once; of several wishes the earliest counts.
            self.memories.entry(key).or_default();
            keys.add_after(key, self.flags.sync_period);
        }
    }

    fn sync(&mut self, key: Key, cx: &SyncContext<'_>) -> Plan {
        let mut plan = Plan::none();
        let Some(autoscaler) = cx.view.of::<HorizontalPodAutoscaler>().get(key) else {
            return plan;
        };
        plan.requeue(self.flags.sync_period);
        let mut sync = Sync {
            autoscaler: autoscaler.clone(),
            status: autoscaler.status.clone(),
            now: cx.now,
        };
        match self.reconcile(key, &mut sync, cx, &mut plan) {
            Verdict::Noted => sync.write(key, &mut plan),
            Verdict::Failed(why) => {
                sync.write(key, &mut plan);
                plan.event(sync.event("FailedComputeMetricsReplicas", why, true));
            }
            Verdict::Rescale(scale, rescale) => {
                let write = Write::Patch {
                    object: scale.object,
                    uid: None,
                    patch: Patch::Replicas(rescale.desired),
                };
                plan.attempt(write, rescale.rule());
                self.rescales.insert(key, (sync, rescale));
            }
        }
        plan
    }

    fn on_reply(
        &mut self,
        key: Key,
        write: &Write,
        reply: &Reply,
        cx: &SyncContext<'_>,
        events: &mut Vec<KubeEvent>,
    ) {
        let Err(error) = reply else { return };
        match write {
            Write::UpdateStatus(..) => {
                if let Some(autoscaler) = cx.view.of::<HorizontalPodAutoscaler>().get(key) {
                    let why = error.to_string();
                    events.push(event(autoscaler, "FailedUpdateStatus", why, true));
                }
            }
            _ => {
                if let Some((_, rescale)) = self.rescales.get_mut(&key) {
                    rescale.refused = Some(error.to_string());
                }
            }
        }
    }

    /// Errors are told, and everything is looked at again in the next period: the queue's rate
    /// limiter has no other delay (`FixedItemIntervalRateLimiter`).
    fn forgives(&self, _write: &Write, _error: &ApiError) -> bool {
        true
    }

    fn finish(&mut self, key: Key, _outcome: &Outcome, cx: &SyncContext<'_>) -> Plan {
        let mut plan = Plan::none();
        let Some((mut sync, rescale)) = self.rescales.remove(&key) else {
            return plan;
        };
        sync.now = cx.now;
        let Rescale {
            current, desired, ..
        } = rescale;
        let what = format!("New size: {desired}; reason: {}", rescale.reason);
        if let Some(why) = &rescale.refused {
            plan.event(sync.event("FailedRescale", format!("{what}; error: {why}"), true));
            let message =
                format!("the HPA controller was unable to update the target scale: {why}");
            sync.set("AbleToScale", false, "FailedUpdateScale", message);
            sync.count(current, sync.status.desired, rescale.metrics);
        } else {
            let message =
                format!("the HPA controller was able to update the target scale to {desired}");
            sync.set("AbleToScale", true, "SucceededRescale", message);
            plan.event(sync.event("SuccessfulRescale", what, false));
            if let Some(behavior) = &sync.autoscaler.behavior {
                let memory = self.memories.entry(key).or_default();
                memory.record_scaling(current, desired, behavior, cx.now);
            }
            sync.count(current, desired, rescale.metrics);
            sync.status.last_scale = Some(cx.now);
        }
        sync.write(key, &mut plan);
        plan
    }

    fn resync(&mut self, view: &View, _now: Time, keys: &mut Keys<Key>) {
        for (key, _) in view.of::<HorizontalPodAutoscaler>().iter() {
            self.memories.entry(key).or_default();
            keys.add_after(key, self.flags.sync_period);
        }
    }

    fn restart(&mut self) {
        *self = PodAutoscaler::new(self.flags);
    }
}

impl Rescale {
    fn rule(&self) -> &'static str {
        match self.reason.as_str() {
            "All metrics below target" => "all metrics are below their targets",
            reason if reason.ends_with("Spec.MaxReplicas") => "more replicas than maxReplicas",
            reason if reason.ends_with("Spec.MinReplicas") => "fewer replicas than minReplicas",
            _ => "a metric is above its target",
        }
    }
}

impl Sync {
    fn event(&self, reason: &str, message: String, warning: bool) -> KubeEvent {
        event(&self.autoscaler, reason, message, warning)
    }

    /// `setCondition`.
    fn set(&mut self, kind: &str, status: bool, reason: &str, message: impl AsRef<str>) {
        let (status, conditions) = (Truth::from(status), &mut self.status.conditions);
        let at = conditions
            .iter()
            .position(|condition| condition.kind == kind);
        let at = at.unwrap_or_else(|| {
            conditions.push(WorkloadCondition {
                kind: kind.into(),
                status: Truth::Unknown,
                reason: "".into(),
                message: "".into(),
                updated: self.now,
                since: self.now,
            });
            conditions.len() - 1
        });
        let condition = &mut conditions[at];
        if condition.status != status {
            (condition.since, condition.updated) = (self.now, self.now);
        }
        condition.status = status;
        condition.reason = reason.into();
        condition.message = message.as_ref().into();
    }

    /// `setStatus`, without the time of scaling.
    fn count(&mut self, current: i32, desired: i32, metrics: Vec<MetricStatus>) {
        (self.status.current, self.status.desired) = (current, desired);
        self.status.metrics = metrics;
    }

    /// `updateStatusIfNeeded`.
    fn write(&self, key: Key, plan: &mut Plan) {
        if self.status == self.autoscaler.status {
            return;
        }
        let mut new = HorizontalPodAutoscaler::clone(&self.autoscaler);
        new.status = self.status.clone();
        let row = Row::HorizontalPodAutoscaler(Arc::new(new));
        plan.write(Write::UpdateStatus(key.into(), row), "note what it found");
    }
}

fn event(
    autoscaler: &HorizontalPodAutoscaler,
    reason: &str,
    message: String,
    warning: bool,
) -> KubeEvent {
    KubeEvent {
        kind: Kind::HorizontalPodAutoscaler,
        namespace: autoscaler.meta.namespace.clone(),
        name: autoscaler.meta.name.clone(),
        uid: autoscaler.meta.uid,
        reason: reason.into(),
        message: message.into(),
        warning,
        source: SOURCE.into(),
    }
}

#[cfg(test)]
mod tests;
