//! Disruptions that were announced and did not happen.
//!
//! The second queue of `pkg/controller/disruption/disruption.go` (`syncStalePodDisruption`): a pod
//! that carries the condition `DisruptionTarget` and is not being deleted two minutes later was not
//! disrupted after all, and the condition becomes False. What the kubelet announced is its own.

use std::time::Duration;

use crate::api::Pod;
use crate::api::meta::recorded;
use crate::api::pod_status::{PodCondition, PodConditionKind, Truth};
use crate::client::{Controller, Keys, Plan, SyncContext, Watches};
use crate::engine::Time;
use crate::store::{Change, Id, ObjectId, Op, Patch, View, Write};

/// `stalePodDisruptionTimeout`.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The part of the disruption controller that takes conditions back.
#[derive(Debug, Default)]
pub struct StaleDisruptionController;

/// `nonTerminatingPodHasStaleDisruptionCondition`: how long the condition may stay.
fn stale_in(pod: &Pod, now: Time) -> Option<Duration> {
    let condition = pod.status.condition(&PodConditionKind::DisruptionTarget)?;
    let by_kubelet = condition.reason.as_deref() == Some("TerminationByKubelet");
    let stale = condition.status == Truth::True
        && !by_kubelet
        && !pod.meta.deleting()
        && !pod.status.phase.terminal();
    let until = recorded(condition.since) + TIMEOUT;
    stale.then(|| {
        if until > now {
            until.since(now)
        } else {
            Duration::ZERO
        }
    })
}

impl Controller for StaleDisruptionController {
    type Key = Id<Pod>;
    const NAME: &'static str = super::DisruptionController::NAME;
    const WORKERS: usize = 1;
    const WATCHES: Watches = Watches::DISRUPTED_PODS;

    fn keys(&mut self, change: &Change, _view: &View, now: Time, keys: &mut Keys<Id<Pod>>) {
        if let Some((_, Some(pod))) = change.rows::<Pod>()
            && change.op != Op::Delete
            && let Some(wait) = stale_in(pod, now)
            && let Some(id) = change.object.and_then(ObjectId::typed::<Pod>)
        {
            keys.add_after(id, wait);
        }
    }

    /// `syncStalePodDisruption`.
    fn sync(&mut self, key: Id<Pod>, cx: &SyncContext<'_>) -> Plan {
        let mut plan = Plan::none();
        let pod = cx.view.pods().get(key);
        let Some((pod, wait)) = pod.and_then(|pod| Some((pod, stale_in(pod, cx.now)?))) else {
            return plan;
        };
        if !wait.is_zero() {
            plan.requeue(wait);
            return plan;
        }
        let condition = PodCondition {
            kind: PodConditionKind::DisruptionTarget,
            status: Truth::False,
            since: cx.now,
            reason: None,
            message: None,
            observed_generation: pod.meta.generation,
        };
        let write = Write::Patch {
            object: key.into(),
            uid: Some(pod.meta.uid),
            patch: Patch::PodConditions {
                conditions: vec![condition],
                phase: None,
                reason: None,
            },
        };
        plan.write(write, "the announced disruption did not happen");
        plan
    }

    fn resync(&mut self, view: &View, now: Time, keys: &mut Keys<Id<Pod>>) {
        for (id, pod) in view.pods().iter() {
            if let Some(wait) = stale_in(pod, now) {
                keys.add_after(id, wait);
            }
        }
    }

    fn restart(&mut self) {}
}
