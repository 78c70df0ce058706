//! Finalizers of pods that no unfinished Job looks after any more.
//!
//! A port of the orphan queue of `pkg/controller/job/job_controller.go`: a pod that lost its Job,
//! or whose Job is over, must not wait for it.

use std::sync::Arc;
use std::time::Duration;

use super::sync::release_of;
use super::{gone, held};
use crate::api::{Job, Kind, Pod};
use crate::client::{Controller, Keys, Plan, SyncContext};
use crate::control::owner::resolve;
use crate::engine::Time;
use crate::store::{ApiError, Change, Id, Op, View, Write};

/// The part of the Job controller that frees orphaned pods.
#[derive(Debug, Default)]
pub struct JobOrphanController;

impl Controller for JobOrphanController {
    type Key = Id<Pod>;
    const NAME: &'static str = super::JobController::NAME;
    const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

    fn keys(&mut self, change: &Change, view: &View, _now: Time, keys: &mut Keys<Id<Pod>>) {
        if let Some((_, Some(job))) = change.rows::<Job>() {
            // `enqueueLabelSelector`
            if change.op == Op::Delete || job.status.finished().is_some() {
                let rows = view.pods().owned_by(job.meta.uid);
                let rows = rows.chain(view.pods().orphans(&job.meta.namespace));
                let held = rows.filter(|(_, pod)| held(pod));
                let selected = held.filter(|(_, p)| job.spec.selector.matches(&p.meta.labels));
                keys.now.extend(selected.map(|(id, _)| id));
            }
        } else if let Some((_, Some(pod))) = change.rows::<Pod>()
            && let Some(id) = change.object.and_then(|o| o.typed::<Pod>())
            && held(pod)
            && (pod.meta.deleting() || pod.meta.controller().is_none())
            && free(pod, view)
        {
            keys.add(id);
        }
    }

    /// `handleSingleOrphanPod`.
    fn sync(&mut self, key: Id<Pod>, cx: &SyncContext<'_>) -> Plan {
        let mut plan = Plan::none();
        if let Some(pod) = cx.view.pods().get(key)
            && held(pod)
            && free(pod, cx.view)
        {
            let write = release_of(&(key, Arc::clone(pod)));
            plan.write(write, "its job is over");
        }
        plan
    }

    fn forgives(&self, _write: &Write, error: &ApiError) -> bool {
        gone(error)
    }

    fn restart(&mut self) {}
}

/// Whether no Job that is still going owns the pod.
fn free(pod: &Pod, view: &View) -> bool {
    let Some(owner) = pod.meta.controller() else {
        return true;
    };
    if owner.kind != Kind::Job {
        return false;
    }
    let job = resolve::<Job>(view, &pod.meta.namespace, owner);
    let job = job.and_then(|id| view.of::<Job>().get(id));
    job.is_none_or(|job| job.spec.managed_by.is_none() && job.status.finished().is_some())
}
