//! Finished Jobs are deleted when their time to live is over.
//!
//! A port of `pkg/controller/ttlafterfinished/ttlafterfinished_controller.go`.

use std::time::Duration;

use crate::api::meta::recorded;
use crate::api::{Job, Kind};
use crate::client::{Controller, Keys, Plan, SyncContext, Watches};
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
    const WATCHES: Watches = Watches::kind(Kind::Job);

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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::Kind;
    use crate::api::pod_status::Truth;
    use crate::api::workload::WorkloadCondition;
    use crate::control::desk::{Desk, PLAIN};

    fn finish(desk: &mut Desk<TtlAfterFinishedController>, kind: &str) {
        let object = desk.find(Kind::Job, "job");
        let (_, row) = desk.only::<Job>();
        let mut job = Job::clone(row);
        let interim = match kind {
            "Complete" => Some("SuccessCriteriaMet"),
            "Failed" => Some("FailureTarget"),
            _ => None,
        };
        let conditions = interim.into_iter().chain([kind]);
        let conditions = conditions.map(|kind| WorkloadCondition {
            kind: kind.into(),
            status: Truth::True,
            reason: "".into(),
            message: "".into(),
            updated: desk.now,
            since: desk.now,
        });
        job.status.conditions.extend(conditions);
        job.status.start.get_or_insert(desk.now);
        job.status.completion = (kind == "Complete").then_some(desk.now);
        desk.write(&Write::UpdateStatus(object, job.into()));
    }

    /// After `ttlafterfinished_controller_test.go :: TestTimeLeft` and `TestProcessJob…`: the time to
    /// live, how the Job ends, what is patched then, and after how many seconds it is deleted.
    #[test]
    fn a_finished_job_is_deleted_when_its_time_is_over() {
        let table = [
            (json!(0), "Complete", Value::Null, Some(0)),
            (json!(10), "Complete", Value::Null, Some(10)),
            (json!(10), "Failed", Value::Null, Some(10)),
            (Value::Null, "Complete", Value::Null, None),
            // an interim condition is no end
            (json!(10), "FailureTarget", Value::Null, None),
            // longer, never, sooner: as it is said last
            (json!(10), "Complete", json!(20), Some(20)),
            (json!(10), "Complete", json!("never"), None),
            (json!(100), "Failed", json!(4), Some(4)),
        ];
        for (ttl, end, then, expected) in table {
            let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"},
                "spec": {"ttlSecondsAfterFinished": ttl, "template": {"spec": {
                    "restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}}});
            let mut desk = Desk::new(TtlAfterFinishedController, PLAIN, &[job]);
            desk.pass(100.0);
            assert_eq!(desk.log(), "");
            finish(&mut desk, end);
            if !then.is_null() {
                let job = desk.find(Kind::Job, "job");
                let then = if then == "never" {
                    Value::Null
                } else {
                    then.clone()
                };
                desk.patch(job, json!({"spec": {"ttlSecondsAfterFinished": then}}));
            }
            let mut seconds = 0;
            let mut log = desk.log();
            while log.is_empty() && seconds < 200 {
                desk.pass(1.0);
                seconds += 1;
                log = desk.log();
            }
            let deleted = (log == "-job job").then_some(seconds);
            assert_eq!(deleted, expected, "{ttl} {end} {then}: {log}");
        }
    }
}
