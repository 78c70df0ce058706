//! CronJobs: a Job at every time that a schedule names.
//!
//! A port of `pkg/controller/cronjob/cronjob_controllerv2.go`. A sync first deletes finished Jobs
//! beyond the history limits, then looks whether a start is due ([`due`]) and whether the
//! concurrency policy lets it happen, creates the Job, and notes it in the status. The wall clock is
//! the run's time counted from its epoch.
//!
//! What it does not know: the crontab grammar, which is [`crate::api::cron`]'s.

pub mod due;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::owner::{controller_ref, resolve};
use super::pods;
use crate::api::batch::Concurrency;
use crate::api::cron::civil::{rfc1123, rfc3339};
use crate::api::cron::zone;
use crate::api::{CronJob, Job, Kind, KubeEvent, Meta, Row};
use crate::client::{Controller, Keys, Outcome, Plan, Reply, Step, SyncContext, Watches};
use crate::engine::Time;
use crate::store::{ApiError, Change, Id, Op, Propagation, View, Write};

/// `batchv1.CronJobScheduledTimestampAnnotation`.
const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// More missed starts than this are worth a warning.
const MANY_MISSED: i64 = 100;

type Key = Id<CronJob>;
type JobRow = (Id<Job>, Arc<Job>);

/// The CronJob controller.
#[derive(Debug, Default)]
pub struct CronJobController {
    /// Seconds from the Unix epoch to the beginning of the run.
    epoch_s: i64,
    syncs: BTreeMap<Key, Sync>,
    /// The revision of the last status written.
    written: BTreeMap<Key, u64>,
}

/// What a sync waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Old Jobs are deleted.
    Cleaning,
    /// A Job that still runs is deleted.
    Replacing,
    /// The Job is created.
    Creating,
}

/// A sync under way.
#[derive(Debug)]
struct Sync {
    cron: CronJob,
    jobs: Vec<JobRow>,
    stage: Stage,
    /// Whether the status has to be written.
    update: bool,
    /// The start that is made, in seconds since the Unix epoch.
    start_s: i64,
    /// The Job as created.
    created: Option<Arc<Job>>,
    exists: bool,
}

impl CronJobController {
    /// For a run that begins so many seconds after the Unix epoch.
    pub fn new(epoch_s: i64) -> Self {
        CronJobController {
            epoch_s,
            ..CronJobController::default()
        }
    }
}

impl Controller for CronJobController {
    type Key = Key;
    const NAME: &'static str = "cronjob-controller";
    const WATCHES: Watches = Watches::kind(Kind::Job).and(Watches::kind(Kind::CronJob));

    fn keys(&mut self, change: &Change, view: &View, now: Time, keys: &mut Keys<Key>) {
        if let Some((old, Some(job))) = change.rows::<Job>() {
            let owners = [
                old.and_then(|job| job.meta.controller()),
                job.meta.controller(),
            ];
            for owner in owners.into_iter().flatten() {
                if let Some(id) = resolve(view, &job.meta.namespace, owner) {
                    keys.add(id);
                }
            }
        } else if let Some(id) = change.object.and_then(|o| o.typed::<CronJob>())
            && let Some((old, Some(cron))) = change.rows::<CronJob>()
        {
            let clock = |cron: &CronJob| (cron.schedule.clone(), cron.time_zone.clone());
            let moved = old.is_some_and(|old| clock(old) != clock(cron));
            match due::schedule(cron) {
                Ok(schedule) if moved && change.op == Op::Update => {
                    let now = due::unix(now, self.epoch_s);
                    keys.add_after(id, due::until_next(cron, now, self.epoch_s, &schedule));
                }
                Err(_) if moved => {
                    let message = format!("unparseable schedule for cronjob: {}", cron.schedule);
                    let reason = "UnParseableCronJobSchedule";
                    keys.events
                        .push(pods::event(cron, Self::NAME, reason, message, true));
                }
                _ => keys.add(id),
            }
            if change.op == Op::Delete {
                self.written.remove(&id);
            }
        }
    }

    fn sync(&mut self, key: Key, cx: &SyncContext<'_>) -> Plan {
        let mut plan = Plan::none();
        let Some(cron) = cx.view.of::<CronJob>().get(key) else {
            return plan;
        };
        // Upstream asks the server again when a Job is missing in the status it sees.
        let written = self.written.get(&key);
        if written.is_some_and(|revision| *revision > cx.view.revision) {
            plan.error = Some("the view is older than what was written".into());
            return plan;
        }
        let jobs = cx.view.of::<Job>().in_namespace(&cron.meta.namespace);
        let ours = |job: &Job| {
            let owner = job.meta.controller();
            owner.is_some_and(|owner| owner.name == cron.meta.name)
        };
        let jobs = jobs.filter(|(_, job)| ours(job));
        let sync = Sync {
            cron: CronJob::clone(cron),
            jobs: jobs.map(|(id, job)| (id, job.clone())).collect(),
            stage: Stage::Cleaning,
            update: false,
            start_s: 0,
            created: None,
            exists: false,
        };
        sync.clean_up(&mut plan);
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
        if let (Ok(receipt), Write::UpdateStatus(..)) = (reply, write) {
            self.written.insert(key, receipt.revision);
        }
        let Some(sync) = self.syncs.get_mut(&key) else {
            return;
        };
        match write {
            Write::Delete { object, .. } => {
                let found = sync.jobs.iter().find(|(id, _)| *object == (*id).into());
                let Some((_, job)) = found.cloned() else {
                    return;
                };
                match reply {
                    Ok(_) => {
                        let message = format!("Deleted job {}", job.meta.name);
                        sync.cron
                            .status
                            .active
                            .retain(|(_, uid)| *uid != job.meta.uid);
                        sync.update = true;
                        events.push(sync.event("SuccessfulDelete", &message, false));
                    }
                    Err(error) => {
                        let message = format!("Deleted job: {error}");
                        events.push(sync.event("FailedDelete", &message, true));
                    }
                }
            }
            Write::Create(_) => match reply {
                Ok(receipt) => {
                    if let Some(Row::Job(job)) = &receipt.row {
                        let message = format!("Created job {}", job.meta.name);
                        events.push(sync.event("SuccessfulCreate", &message, false));
                        sync.created = Some(job.clone());
                    }
                }
                Err(ApiError::AlreadyExists(_)) => sync.exists = true,
                Err(error) if error.namespace_terminating() => {}
                Err(error) => {
                    let message = format!("Error creating job: {error}");
                    events.push(sync.event("FailedCreate", &message, true));
                }
            },
            _ => {}
        }
    }

    fn forgives(&self, write: &Write, error: &ApiError) -> bool {
        matches!(write, Write::Create(_)) && matches!(error, ApiError::AlreadyExists(_))
    }

    fn finish(&mut self, key: Key, outcome: &Outcome, cx: &SyncContext<'_>) -> Plan {
        let mut plan = Plan::none();
        let Some(mut sync) = self.syncs.remove(&key) else {
            return plan;
        };
        match sync.stage {
            Stage::Cleaning => sync.decide(self.epoch_s, cx, &mut plan),
            Stage::Replacing if outcome.error.is_none() => sync.create(&mut plan),
            Stage::Replacing => {}
            Stage::Creating => sync.created(self.epoch_s, cx, &mut plan),
        }
        if plan.more {
            self.syncs.insert(key, sync);
        } else if sync.update {
            let row = Row::CronJob(Arc::new(sync.cron));
            plan.write(Write::UpdateStatus(key.into(), row), "note its jobs");
        }
        plan
    }

    fn resync(&mut self, view: &View, _now: Time, keys: &mut Keys<Key>) {
        for (id, _) in view.of::<CronJob>().iter() {
            keys.add(id);
        }
    }

    fn restart(&mut self) {
        *self = CronJobController::new(self.epoch_s);
    }
}

impl Sync {
    fn event(&self, reason: &str, message: &str, warning: bool) -> KubeEvent {
        let meta = &self.cron.meta;
        KubeEvent {
            kind: Kind::CronJob,
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid,
            reason: reason.into(),
            message: message.into(),
            warning,
            source: CronJobController::NAME.into(),
        }
    }

    fn warn(&self, reason: &str, message: &str, plan: &mut Plan) {
        plan.event(self.event(reason, message, true));
    }

    /// `cleanupFinishedJobs`.
    fn clean_up(&self, plan: &mut Plan) {
        let limits = [
            (self.cron.successful_limit, "Complete"),
            (self.cron.failed_limit, "Failed"),
        ];
        for (limit, end) in limits {
            let Some(limit) = limit else { continue };
            let ended = |row: &&JobRow| row.1.status.finished().is_some_and(|c| c.kind == end);
            let mut jobs: Vec<&JobRow> = self.jobs.iter().filter(ended).collect();
            // `byJobStartTime`: those that never started last.
            jobs.sort_by(|(_, a), (_, b)| {
                let start = |job: &Job| job.status.start.unwrap_or(Time::MAX);
                (start(a), &a.meta.name).cmp(&(start(b), &b.meta.name))
            });
            let keep = usize::try_from(limit).unwrap_or(0);
            for (id, _) in jobs.iter().take(jobs.len().saturating_sub(keep)) {
                plan.steps.push(Step::One {
                    write: delete(*id),
                    rule: "more finished jobs than the history holds",
                    optional: true,
                });
            }
        }
    }

    /// The first part of `syncCronJob`: what has become of the Jobs.
    fn follow_jobs(&mut self, view: &View, plan: &mut Plan) {
        for (_, job) in self.jobs.clone() {
            let (uid, name) = (job.meta.uid, &job.meta.name);
            let known = self
                .cron
                .status
                .active
                .iter()
                .any(|(_, active)| *active == uid);
            let Some(end) = job.status.finished() else {
                if !known {
                    let message =
                        format!("Saw a job that the controller did not create or forgot: {name}");
                    self.warn("UnexpectedJob", &message, plan);
                }
                continue;
            };
            if known {
                let message = format!("Saw completed job: {name}, condition: {}", end.kind);
                self.cron.status.active.retain(|(_, active)| *active != uid);
                plan.event(self.event("SawCompletedJob", &message, false));
                self.update = true;
            }
            let last = self.cron.status.last_successful;
            if let Some(completion) = job.status.completion.filter(|_| job.status.complete())
                && last.is_none_or(|last| completion > last)
            {
                self.cron.status.last_successful = Some(completion);
                self.update = true;
            }
        }
        // Jobs that are gone. Upstream asks the server about each by its name, so that one that was
        // let go is not missing; the view shows all that were created before the status that names
        // them.
        let jobs = &self.jobs;
        let namespace = self.cron.meta.namespace.clone();
        let before = self.cron.status.active.len();
        let there = |uid| jobs.iter().any(|(_, job)| job.meta.uid == uid);
        let (gone, active): (Vec<_>, Vec<_>) =
            (self.cron.status.active.drain(..)).partition(|(name, uid)| {
                !there(*uid) && view.of::<Job>().find(&namespace, name).is_none()
            });
        self.cron.status.active = active;
        self.update |= before != self.cron.status.active.len();
        for (name, _) in gone {
            let message = format!("Active job went missing: {name}");
            plan.event(self.event("MissingJob", &message, false));
        }
    }

    /// `syncCronJob`, up to the creation.
    fn decide(&mut self, epoch_s: i64, cx: &SyncContext<'_>, plan: &mut Plan) {
        self.follow_jobs(cx.view, plan);
        if self.cron.meta.deleting() {
            return;
        }
        if let Some(name) = &self.cron.time_zone
            && let Err(error) = zone(name)
        {
            let message = format!("invalid timeZone: {name:?}: {error}");
            return self.warn("UnknownTimeZone", &message, plan);
        }
        if self.cron.suspend {
            return;
        }
        // `formatSchedule`
        if self.cron.schedule.contains("TZ") {
            let message = format!(
                "CRON_TZ or TZ used in schedule {:?} is not officially supported, see \
                 https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more \
                 details",
                self.cron.schedule
            );
            self.warn("UnsupportedSchedule", &message, plan);
        }
        let schedule = match due::schedule(&self.cron) {
            Ok(schedule) => schedule,
            Err(error) => {
                let text = &self.cron.schedule;
                let message = format!("unparseable schedule: {text:?} : {error}");
                return self.warn("UnparseableSchedule", &message, plan);
            }
        };
        let now = due::unix(cx.now, epoch_s);
        let recent = match due::most_recent(&self.cron, now, epoch_s, &schedule, true) {
            Ok(recent) => recent,
            Err(error) => {
                let message = format!("invalid schedule: {} : {error}", self.cron.schedule);
                return self.warn("InvalidSchedule", &message, plan);
            }
        };
        plan.requeue(due::until_next(&self.cron, now, epoch_s, &schedule));
        let Some(start_s) = recent.due_s else { return };
        if recent.missed > MANY_MISSED {
            let message = "too many missed start times. Set or decrease \
                           .spec.startingDeadlineSeconds or check clock skew";
            self.warn("TooManyMissedTimes", message, plan);
        }
        self.start_s = start_s;
        if self.may_start(now, epoch_s, plan) {
            plan.requeue_after = None;
            self.start(cx, plan);
        }
    }

    /// Whether the start is neither late nor made already nor forbidden.
    fn may_start(&self, now: due::UnixNs, epoch_s: i64, plan: &mut Plan) -> bool {
        let cron = &self.cron;
        let start_s = self.start_s;
        let late = |deadline: i64| (start_s + deadline).saturating_mul(1_000_000_000) < now;
        if cron.starting_deadline_s.is_some_and(late) {
            let when = rfc1123(start_s);
            let message = format!("Missed scheduled time to start a job: {when}");
            self.warn("MissSchedule", &message, plan);
            return false;
        }
        let name = self.job_name();
        let made = cron
            .status
            .active
            .iter()
            .any(|(active, _)| **active == *name);
        if made || cron.status.last_schedule == Some(instant(start_s, epoch_s)) {
            return false;
        }
        if cron.concurrency == Concurrency::Forbid && !cron.status.active.is_empty() {
            let message = "Not starting job because prior execution is running and concurrency \
                           policy is Forbid";
            plan.event(self.event("JobAlreadyActive", message, false));
            return false;
        }
        true
    }

    fn job_name(&self) -> String {
        format!("{}-{}", self.cron.meta.name, self.start_s.div_euclid(60))
    }

    /// Deletes what is to be replaced, or creates at once.
    fn start(&mut self, cx: &SyncContext<'_>, plan: &mut Plan) {
        let active = &self.cron.status.active;
        if self.cron.concurrency != Concurrency::Replace || active.is_empty() {
            return self.create(plan);
        }
        for (name, _) in active {
            let found = cx.view.of::<Job>().named(&self.cron.meta.namespace, name);
            let Some((id, _)) = found else {
                let message = format!("Get job: jobs.batch \"{name}\" not found");
                self.warn("FailedGet", &message, plan);
                plan.error = Some(message);
                return;
            };
            plan.write(delete(id), "the next start replaces it");
        }
        self.stage = Stage::Replacing;
        plan.more = true;
    }

    /// `getJobFromTemplate2`.
    fn create(&mut self, plan: &mut Plan) {
        let cron = &self.cron;
        let template = &cron.template;
        let zone = zone(cron.time_zone.as_deref().unwrap_or_default());
        let at = rfc3339(self.start_s, &zone.unwrap_or(jiff::tz::TimeZone::UTC));
        // An unlabelled Job takes the labels of its pods.
        let labels = match template.labels.is_empty() {
            true => template.spec.template.labels.clone(),
            false => template.labels.clone(),
        };
        let job = Job {
            meta: Meta {
                namespace: cron.meta.namespace.clone(),
                name: self.job_name().into(),
                labels,
                annotations: template.annotations.with(SCHEDULED_AT, at),
                owners: [controller_ref(cron)].into(),
                ..Meta::default()
            },
            spec: template.spec.clone(),
            ..Job::default()
        };
        plan.write(Write::Create(job.into()), "a start is due");
        self.stage = Stage::Creating;
        plan.more = true;
    }

    /// After the creation: notes the Job, also one that an earlier sync made and did not note.
    fn created(&mut self, epoch_s: i64, cx: &SyncContext<'_>, plan: &mut Plan) {
        let name = self.job_name();
        let found = cx.view.of::<Job>().find(&self.cron.meta.namespace, &name);
        let job = match self.created.take() {
            Some(job) => job,
            None => match found.filter(|_| self.exists) {
                Some((_, job)) => job.clone(),
                None => return,
            },
        };
        let owner = job.meta.controller();
        let active = &mut self.cron.status.active;
        if owner.is_none_or(|owner| owner.uid != self.cron.meta.uid)
            || active.iter().any(|(_, uid)| *uid == job.meta.uid)
        {
            return;
        }
        active.push((job.meta.name.clone(), job.meta.uid));
        self.cron.status.last_schedule = Some(instant(self.start_s, epoch_s));
        self.update = true;
        if let Ok(schedule) = due::schedule(&self.cron) {
            let now = due::unix(cx.now, epoch_s);
            plan.requeue(due::until_next(&self.cron, now, epoch_s, &schedule));
        }
    }
}

/// The instant of the run at this second of the Unix epoch.
fn instant(at_s: i64, epoch_s: i64) -> Time {
    Time::from_secs(u64::try_from(at_s - epoch_s).unwrap_or(0))
}

fn delete(id: Id<Job>) -> Write {
    Write::Delete {
        object: id.into(),
        uid: None,
        grace_s: None,
        propagation: Propagation::Background,
    }
}

#[cfg(test)]
mod tests;
