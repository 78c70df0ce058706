//! Jobs: pods that are meant to end, until enough of them have ended well.
//!
//! A port of `pkg/controller/job/job_controller.go`. A sync claims pods, counts what has ended
//! since the last one, decides whether the Job is over ([`sync`]), creates or deletes pods
//! ([`manage`]), and then books the ends ([`track`]): first their uids are written into the status,
//! then the finalizers that hold the pods are removed, and what was removed is counted. A crash at
//! any point counts no pod twice and forgets none.
//!
//! What it does not know: why a pod ended; that is the kubelet's business. CronJobs are
//! [`super::cron_job`]'s, finished Jobs with a time to live [`super::ttl_after_finished`]'s.
//!
//! Read first: [`sync`], then [`track`].

pub mod back_off;

pub mod intervals;

pub mod manage;

pub mod orphans;

pub mod policy;

pub mod sync;

pub mod track;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::owner::{self, Claims};
use crate::api::batch::{COMPLETION_INDEX, TRACKING_FINALIZER};
use crate::api::meta::recorded;
use crate::api::{Job, Kind, KubeEvent, Pod, Uid};
use crate::client::{Controller, Expectations, Keys, Outcome, Plan, Reply, SyncContext, Watches};
use crate::engine::Time;
use crate::store::{ApiError, Change, Id, Op, View, Write};
use back_off::BackOff;
use sync::{Row, Stage, Sync};

/// `SyncJobBatchPeriod`: changes of pods and of the status wait so long, so that one sync sees many.
pub const BATCH_PERIOD: Duration = Duration::from_secs(1);

type Key = Id<Job>;

/// The Job controller.
#[derive(Debug, Default)]
pub struct JobController {
    expectations: Expectations<Key>,
    /// Pods whose finalizer was removed by a request that the view does not show yet.
    removing: BTreeMap<Key, BTreeSet<Uid>>,
    back_off: BTreeMap<Key, BackOff>,
    /// Jobs whose end was written but is not seen yet.
    finished: BTreeSet<Uid>,
    /// `ConsistencyStore`: the newest revision written for a key.
    written: BTreeMap<Key, u64>,
    syncs: BTreeMap<Key, Sync>,
}

impl Controller for JobController {
    type Key = Key;
    const NAME: &'static str = "job-controller";
    /// `DefaultJobApiBackOff`, `MaxJobApiBackOff`.
    const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
    const WATCHES: Watches = Watches::kind(Kind::Job).and(Watches::PODS_OF_JOBS);

    fn keys(&mut self, change: &Change, view: &View, now: Time, keys: &mut Keys<Key>) {
        if let Some(id) = change.object.and_then(|o| o.typed::<Job>()) {
            match change.rows::<Job>() {
                Some((Some(old), Some(new))) if change.op == Op::Update => {
                    job_updated(id, old, new, now, keys);
                }
                Some((_, Some(job))) if change.op == Op::Delete => {
                    self.written.remove(&id);
                    self.finished.remove(&job.meta.uid);
                    self.back_off.remove(&id);
                    keys.add(id);
                }
                _ => keys.add(id),
            }
        } else if let Some((old, Some(pod))) = change.rows::<Pod>() {
            if change.op == Op::Delete || pod.meta.deleting() {
                self.pod_deleted(pod, change.op == Op::Delete, view, keys);
            } else if let Some(old) = old {
                self.pod_updated(old, pod, view, keys);
            } else {
                self.pod_added(pod, view, keys);
            }
        }
    }

    fn sync(&mut self, key: Key, cx: &SyncContext<'_>) -> Plan {
        let mut plan = Plan::none();
        let written = self.written.get(&key);
        if written.is_some_and(|revision| *revision > cx.view.revision) {
            plan.error = Some("the view is older than what was written".into());
            return plan;
        }
        let Some(job) = cx.view.of::<Job>().get(key) else {
            self.forget(key);
            return plan;
        };
        if job.spec.managed_by.is_some() {
            return plan;
        }
        if job.status.finished().is_some() {
            self.back_off.remove(&key);
            self.written.remove(&key);
            self.finished.remove(&job.meta.uid);
            return plan;
        }
        if self.finished.contains(&job.meta.uid) {
            return plan;
        }
        let satisfied = self.expectations.satisfied(key, cx.now);
        let pods = claimed(job, cx.view, &mut plan);
        let claims = plan.steps.len();
        let removing = self.removing.get(&key).cloned().unwrap_or_default();
        let back_off = self.back_off.get(&key).copied().unwrap_or_default();
        let mut sync = Sync::new(job, pods, removing, back_off, cx.now);
        (sync.claims, sync.satisfied) = (claims, satisfied);
        if let Some(wait) = sync.evaluate(cx.now) {
            plan.requeue_anyway(wait);
        }
        if sync.finished.is_some() {
            let doomed = sync.active.clone();
            sync.delete(&doomed, false, &mut plan);
        } else if satisfied && !job.meta.deleting() {
            manage::manage(&mut sync, &mut plan, cx.now);
            sync.expect(key, &mut self.expectations, cx.now);
        }
        self.syncs.insert(key, sync);
        plan
    }

    fn on_reply(
        &mut self,
        key: Key,
        write: &Write,
        reply: &Reply,
        _cx: &SyncContext<'_>,
        events: &mut Vec<KubeEvent>,
    ) {
        if let (Ok(receipt), false) = (reply, matches!(write, Write::Delete { .. })) {
            let written = self.written.entry(key).or_default();
            *written = receipt.revision.max(*written);
        }
        let Some(sync) = self.syncs.get_mut(&key) else {
            return;
        };
        match write {
            Write::Create(_) => {
                let counts = sync.created(reply, events);
                if counts {
                    self.expectations.creation_observed(key);
                }
            }
            Write::Delete { .. } => {
                sync.asked.answered += 1;
                match reply {
                    Ok(_) => sync.asked.done += 1,
                    Err(error) => {
                        sync.asked.done += usize::from(gone(error));
                        if sync.asked.expected {
                            self.expectations.deletion_observed(key);
                        }
                    }
                }
                if reply.as_ref().err().is_none_or(|error| !gone(error)) {
                    let told = told(
                        &sync.job,
                        reply,
                        "SuccessfulDelete",
                        "Deleted pod",
                        "deleting",
                    );
                    events.push(told);
                }
            }
            Write::UpdateStatus(..) => sync.failed_write |= reply.is_err(),
            Write::Patch { uid: Some(uid), .. } if sync.stage == Stage::Removing => {
                let removed = reply.as_ref().err().is_none_or(gone);
                if removed {
                    sync.held.remove(uid);
                }
                if reply.is_err()
                    && let Some(removing) = self.removing.get_mut(&key)
                {
                    removing.remove(uid);
                }
                sync.failed_write |= !removed;
            }
            _ => {}
        }
    }

    fn forgives(&self, write: &Write, error: &ApiError) -> bool {
        match write {
            Write::Create(_) => error.namespace_terminating(),
            Write::Delete { .. } | Write::Patch { .. } => gone(error),
            _ => false,
        }
    }

    fn finish(&mut self, key: Key, outcome: &Outcome, cx: &SyncContext<'_>) -> Plan {
        let Some(mut sync) = self.syncs.remove(&key) else {
            return Plan::none();
        };
        let mut plan = Plan::none();
        if sync.stage == Stage::Managing {
            // Nobody will see what was never asked for.
            for _ in sync.asked.answered..sync.asked.total {
                match sync.asked.creates {
                    true => self.expectations.creation_observed(key),
                    false if sync.asked.expected => self.expectations.deletion_observed(key),
                    false => {}
                }
            }
            if outcome.failed_step.is_some_and(|step| step < sync.claims) {
                return plan;
            }
        }
        if sync.stage == Stage::Flushing && sync.flush && !sync.failed_write {
            self.back_off.insert(key, sync.back_off);
        }
        if sync.stage == Stage::Enacting && !sync.failed_write {
            self.finished.insert(sync.job.meta.uid);
        }
        sync.go_on(key, &mut plan, cx.now);
        if sync.stage == Stage::Removing {
            let uids = sync.removed.iter().map(|(_, pod)| pod.meta.uid);
            self.removing.entry(key).or_default().extend(uids);
        }
        if plan.more {
            self.syncs.insert(key, sync);
        }
        plan
    }

    fn resync(&mut self, view: &View, _now: Time, keys: &mut Keys<Key>) {
        for (id, _) in view.of::<Job>().iter() {
            keys.add(id);
        }
    }

    fn restart(&mut self) {
        *self = JobController::default();
    }
}

impl JobController {
    fn forget(&mut self, key: Key) {
        self.expectations.delete(key);
        self.removing.remove(&key);
        self.written.remove(&key);
        self.back_off.remove(&key);
    }

    /// `addPod`.
    fn pod_added(&mut self, pod: &Pod, view: &View, keys: &mut Keys<Key>) {
        let concerned = owner::added(&pod.meta, view);
        if let Some(id) = concerned.owner {
            self.expectations.creation_observed(id);
        }
        batched(concerned, keys);
    }

    /// `updatePod`.
    fn pod_updated(&mut self, old: &Pod, pod: &Pod, view: &View, keys: &mut Keys<Key>) {
        let concerned = owner::updated(&old.meta, &pod.meta, view);
        for id in concerned.before.iter().chain(&concerned.owner) {
            self.note_finalizer(*id, pod, false);
        }
        batched(concerned, keys);
    }

    /// `deletePod`: the mark counts, not only the removal.
    fn pod_deleted(&mut self, pod: &Pod, last: bool, view: &View, keys: &mut Keys<Key>) {
        let Some(id) = owner::of::<Job>(&pod.meta, view) else {
            return;
        };
        let over = |job: &Arc<Job>| job.status.finished().is_some();
        if view.of().get(id).is_some_and(over) {
            return;
        }
        self.expectations.deletion_observed(id);
        self.note_finalizer(id, pod, last);
        keys.add_after(id, BATCH_PERIOD);
    }

    /// `finalizerRemovalObserved`.
    fn note_finalizer(&mut self, id: Key, pod: &Pod, last: bool) {
        if (last || !held(pod))
            && let Some(removing) = self.removing.get_mut(&id)
        {
            removing.remove(&pod.meta.uid);
        }
    }
}

/// `updateJob`.
fn job_updated(id: Key, old: &Job, job: &Job, now: Time, keys: &mut Keys<Key>) {
    if job.status.finished().is_some() {
        return;
    }
    if job.meta.generation == old.meta.generation {
        keys.add_after(id, BATCH_PERIOD);
    } else {
        keys.add(id);
    }
    let deadline = job.spec.active_deadline_s;
    if let (Some(start), Some(seconds)) = (job.status.start, deadline)
        && old.spec.active_deadline_s != deadline
    {
        let due = recorded(start) + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        keys.add_after(id, due.since(now));
    }
}

/// `enqueueSyncJobBatched`.
fn batched(concerned: owner::Concerned<Job>, keys: &mut Keys<Key>) {
    for id in concerned.all() {
        keys.add_after(id, BATCH_PERIOD);
    }
}

/// `getPodsForJob`: an adopted pod gets the finalizer in the same request.
fn claimed(job: &Arc<Job>, view: &View, plan: &mut Plan) -> Vec<Row> {
    let table = view.pods();
    let rows = table.owned_by(job.meta.uid);
    let rows = rows.chain(table.orphans(&job.meta.namespace));
    let claims = Claims::of(&**job).holding(TRACKING_FINALIZER);
    claims.claim(rows, plan)
}

/// `hasJobTrackingFinalizer`.
pub fn held(pod: &Pod) -> bool {
    pod.meta.finalizers.iter().any(|f| f == TRACKING_FINALIZER)
}

/// `getCompletionIndex`.
pub fn completion_index(pod: &Pod) -> Option<i32> {
    let index = pod.meta.annotations.get(COMPLETION_INDEX)?.parse().ok()?;
    (index >= 0).then_some(index)
}

fn gone(error: &ApiError) -> bool {
    matches!(error, ApiError::NotFound(_))
}

/// An event about `job`.
fn event(job: &Job, reason: &str, message: &str, warning: bool) -> KubeEvent {
    KubeEvent {
        kind: Kind::Job,
        namespace: job.meta.namespace.clone(),
        name: job.meta.name.clone(),
        uid: job.meta.uid,
        reason: reason.into(),
        message: message.into(),
        warning,
        source: JobController::NAME.into(),
    }
}

impl Sync {
    /// The answer to a creation; whether the pod will not be seen.
    fn created(&mut self, reply: &Reply, events: &mut Vec<KubeEvent>) -> bool {
        self.asked.answered += 1;
        let refused = reply.as_ref().err();
        // In a namespace that goes away upstream counts it as made and tells nobody.
        let quiet = refused.is_some_and(ApiError::namespace_terminating);
        self.asked.done += usize::from(refused.is_none() || quiet);
        if !quiet {
            let reason = "SuccessfulCreate";
            events.push(told(&self.job, reply, reason, "Created pod", "creating"));
        }
        refused.is_some() && !quiet
    }
}

/// `RealPodControl` after a request.
fn told(job: &Job, reply: &Reply, reason: &str, done: &str, doing: &str) -> KubeEvent {
    match reply {
        Ok(receipt) => {
            let name = receipt.row.as_ref().map(|row| row.meta().name.clone());
            let message = format!("{done}: {}", name.unwrap_or_default());
            event(job, reason, &message, false)
        }
        Err(error) => {
            let reason = reason.replace("Successful", "Failed");
            event(job, &reason, &format!("Error {doing}: {error}"), true)
        }
    }
}

#[cfg(test)]
mod tests;
