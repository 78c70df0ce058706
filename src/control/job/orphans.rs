//! Finalizers of pods that no unfinished Job looks after any more.
//!
//! A port of the orphan queue of `pkg/controller/job/job_controller.go`: a pod that lost its Job,
//! or whose Job is over, must not wait for it.

use std::sync::Arc;
use std::time::Duration;

use super::sync::release_of;
use super::{gone, held};
use crate::api::{Job, Kind, Pod};
use crate::client::{Controller, Keys, Plan, SyncContext, Watches};
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
    const WATCHES: Watches = Watches::kind(Kind::Job).and(Watches::HELD_PODS);

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

    /// The first list: pods that lost their Job while nobody looked.
    fn resync(&mut self, view: &View, _now: Time, keys: &mut Keys<Id<Pod>>) {
        let lost = |pod: &Pod| {
            let orphan = pod.meta.deleting() || pod.meta.controller().is_none();
            held(pod) && orphan && free(pod, view)
        };
        let rows = view.pods().iter();
        keys.now
            .extend(rows.filter(|(_, pod)| lost(pod)).map(|(id, _)| id));
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::batch::TRACKING_FINALIZER;
    use crate::control::desk::{Desk, PLAIN};

    fn pod(owner: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "finalizers": [TRACKING_FINALIZER],
                "ownerReferences": owner},
            "spec": {"containers": [{"name": "c", "image": "x"}]}})
    }

    fn owner(kind: &str) -> Value {
        let version = if kind == "Job" { "batch/v1" } else { "apps/v1" };
        json!([{"apiVersion": version, "kind": kind, "name": "gone", "uid": "7",
            "controller": true}])
    }

    /// After `job_controller_test.go :: TestOrphanPodsFinalizersClearedWithGC` and
    /// `TestSyncOrphanPod`: who owns the pod, what happens, and whether it is freed.
    #[test]
    fn pods_that_nobody_counts_are_let_go() {
        let freed = "~pod p RemoveFinalizer";
        let table = [
            (json!([]), "", freed),
            // of a Job that is gone: when it is deleted
            (owner("Job"), "", ""),
            (owner("Job"), "terminating", freed),
            // somebody else's business
            (owner("ReplicaSet"), "terminating", ""),
        ];
        for (by, then, expected) in table {
            for crash in [false, true] {
                let mut desk = Desk::new(JobOrphanController, PLAIN, &[]);
                if crash {
                    desk.crash();
                }
                desk.create(&pod(by.clone()));
                if !then.is_empty() {
                    desk.pods(&format!("p running, p {then}"));
                }
                if crash {
                    assert_eq!(desk.log(), "");
                    desk.start();
                }
                assert_eq!(desk.log(), expected, "{by} {then:?} {crash}");
            }
        }
    }
}
