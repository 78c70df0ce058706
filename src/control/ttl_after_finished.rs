//! Finished Jobs are deleted when their time to live is over.
//!
//! A port of `pkg/controller/ttlafterfinished/ttlafterfinished_controller.go`.

use std::time::Duration;

use crate::api::Job;
use crate::api::meta::recorded;
use crate::client::{Controller, Keys, Plan, SyncContext};
use crate::engine::Time;
use crate::store::{ApiError, Change, Id, Op, Propagation, View, Write};

/// The controller.
#[derive(Debug, Default)]
pub struct TtlAfterFinishedController;

/// When the Job is to be deleted: for finished ones with `ttlSecondsAfterFinished`.
fn expires(job: &Job) -> Option<Time> {
    let finished = job.status.finished()?;
    let ttl = u64::try_from(job.spec.ttl_s?).unwrap_or(0);
    let expires = recorded(finished.since) + Duration::from_secs(ttl);
    (!job.meta.deleting()).then_some(expires)
}

impl Controller for TtlAfterFinishedController {
    type Key = Id<Job>;
    const NAME: &'static str = "ttl-after-finished-controller";

    fn keys(&mut self, change: &Change, _view: &View, _now: Time, keys: &mut Keys<Id<Job>>) {
        if change.op != Op::Delete
            && let Some((_, Some(job))) = change.rows::<Job>()
            && expires(job).is_some()
            && let Some(id) = change.object.and_then(|o| o.typed::<Job>())
        {
            keys.add(id);
        }
    }

    fn sync(&mut self, key: Id<Job>, cx: &SyncContext<'_>) -> Plan {
        let mut plan = Plan::none();
        let job = cx.view.of::<Job>().get(key);
        let Some((job, expires)) = job.and_then(|job| Some((job, expires(job)?))) else {
            return plan;
        };
        if expires > cx.now {
            plan.requeue(expires.since(cx.now));
            return plan;
        }
        let write = Write::Delete {
            object: key.into(),
            uid: Some(job.meta.uid),
            grace_s: None,
            propagation: Propagation::Foreground,
        };
        plan.write(write, "its time to live is over");
        plan
    }

    fn forgives(&self, _write: &Write, error: &ApiError) -> bool {
        matches!(error, ApiError::NotFound(_))
    }

    fn resync(&mut self, view: &View, _now: Time, keys: &mut Keys<Id<Job>>) {
        for (id, job) in view.of::<Job>().iter() {
            if expires(job).is_some() {
                keys.add(id);
            }
        }
    }

    fn restart(&mut self) {}
}
