//! One sync of a Job: what has ended, whether the Job is over, and what is left to do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::back_off::{BackOff, finished};
use super::intervals::Intervals;
use super::{Key, completion_index, held, policy};
use crate::api::batch::FailureAction;
use crate::api::meta::recorded;
use crate::api::pod::RestartPolicy;
use crate::api::pod_status::{Phase, Truth};
use crate::api::workload::WorkloadCondition;
use crate::api::{Job, Pod, Text, Uid};
use crate::client::{Expectations, Plan, Step};
use crate::control::pods;
use crate::engine::Time;
use crate::store::{Id, Patch, Propagation, Write};

/// A pod as the view shows it.
pub type Row = (Id<Pod>, Arc<Pod>);

/// What a sync waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Pods are created or deleted.
    #[default]
    Managing,
    /// The uids of ended pods are written into the status.
    Flushing,
    /// Finalizers are removed.
    Removing,
    /// Counts are written into the status.
    Counting,
    /// Counts and the end of the Job are written into the status.
    Enacting,
}

/// Creations or deletions that were asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// Creations, else deletions.
    pub creates: bool,
    /// How many.
    pub total: usize,
    /// How many replies have come, and how many of them were good.
    pub answered: usize,
    /// See `answered`.
    pub done: usize,
    /// How many of the pods to delete were ready.
    pub ready: i32,
    /// Whether the expectations count them.
    pub expected: bool,
}

/// A sync under way (`syncJobCtx`).
#[derive(Debug, Default)]
pub struct Sync {
    /// The Job with the status that is to be written.
    pub job: Job,
    /// Its pods, ended ones among them.
    pub pods: Vec<Row>,
    /// Those that have not ended and are not being deleted.
    pub active: Vec<Row>,
    /// Steps of the plan that claim pods.
    pub claims: usize,
    /// Whether all that was expected before has been seen.
    pub satisfied: bool,
    /// Why the Job is over, if it is.
    pub finished: Option<WorkloadCondition>,
    /// All pods, or indexes, that have succeeded.
    pub succeeded: i32,
    /// All pods that have failed and count.
    pub failed: i32,
    /// Indexes that the status says have succeeded.
    pub completed_before: Intervals,
    /// Those and the new ones.
    pub completed: Intervals,
    /// Indexes that have failed for good, where limits are per index.
    pub failed_indexes: Option<Intervals>,
    /// The last failed pod of each index that awaits another.
    pub delayed: BTreeMap<i32, Row>,
    /// Failures since the last success.
    pub back_off: BackOff,
    /// Pods whose finalizer was removed already, though the view does not show it.
    pub removing: BTreeSet<Uid>,
    /// Pods that are being deleted and have not ended.
    pub terminating: i32,
    /// Ready pods.
    pub ready: i32,
    /// Whether pods were managed at all.
    pub managed: bool,
    /// Whether creating pods waits for a back-off.
    pub waits: bool,
    /// What was asked for.
    pub asked: Asked,
    /// What the sync waits for.
    pub stage: Stage,
    /// A write after the first stage failed.
    pub failed_write: bool,
    /// Pods with the finalizer.
    pub held: BTreeSet<Uid>,
    /// Pods whose finalizer goes.
    pub removed: Vec<Row>,
    /// Whether the status has to be written.
    pub flush: bool,
    /// `MaxUncountedPods` was reached: the rest comes with the next sync.
    pub full: bool,
}

/// A condition of now that is true.
pub fn condition(kind: &str, reason: &str, message: &str, now: Time) -> WorkloadCondition {
    WorkloadCondition {
        kind: kind.into(),
        status: Truth::True,
        reason: reason.into(),
        message: message.into(),
        updated: now,
        since: now,
    }
}

fn len<T>(items: &[T]) -> i32 {
    i32::try_from(items.len()).unwrap_or(i32::MAX)
}

impl Sync {
    /// Counts what has ended since the last sync.
    pub fn new(
        job: &Arc<Job>,
        pods: Vec<Row>,
        removing: BTreeSet<Uid>,
        back_off: BackOff,
        now: Time,
    ) -> Sync {
        let is_active = |row: &&Row| pods::active(&row.1);
        let active: Vec<Row> = pods.iter().filter(is_active).cloned().collect();
        let ready = active.iter().filter(|(_, pod)| pod.status.ready());
        let terminating = pods.iter().filter(|(_, pod)| pods::terminating(pod));
        let mut sync = Sync {
            ready: i32::try_from(ready.count()).unwrap_or(i32::MAX),
            terminating: i32::try_from(terminating.count()).unwrap_or(i32::MAX),
            job: Job::clone(job),
            active,
            removing,
            ..Sync::default()
        };
        sync.pods = pods;
        let status = &sync.job.status;
        let succeeded = sync.new_ends(&status.uncounted_succeeded, |pod| {
            pod.status.phase == Phase::Succeeded
        });
        let failed = sync.new_ends(&status.uncounted_failed, |pod| sync.pod_failed(pod));
        sync.back_off = back_off.after(
            succeeded.iter().map(|(_, pod)| &**pod),
            failed.iter().map(|(_, pod)| &**pod),
        );
        let counts = |row: &&Row| policy::judge(&sync.job.spec, &row.1).counts;
        let counted = failed.iter().filter(counts).count();
        sync.succeeded = status.succeeded + len(&succeeded) + len(&status.uncounted_succeeded);
        sync.failed = status.failed
            + i32::try_from(counted).unwrap_or(i32::MAX)
            + len(&status.uncounted_failed);
        if status.start.is_none() && !sync.job.spec.suspend {
            sync.job.status.start = Some(now);
        }
        sync
    }

    /// `getValidPodsWithFilter`: pods that still hold the finalizer, are not counted, and have a
    /// valid index where there are indexes.
    pub fn new_ends(&self, uncounted: &[Uid], ended: impl Fn(&Pod) -> bool) -> Vec<Row> {
        let uncounted: BTreeSet<Uid> = uncounted.iter().copied().collect();
        let valid = |row: &&Row| {
            let (pod, uid) = (&row.1, row.1.meta.uid);
            let known = uncounted.contains(&uid) || self.removing.contains(&uid);
            held(pod) && !known && (!self.job.spec.indexed || self.index(pod).is_some())
        };
        let valid = self.pods.iter().filter(valid);
        valid.filter(|(_, pod)| ended(pod)).cloned().collect()
    }

    /// The completion index of a pod, when it is one of the Job's.
    pub fn index(&self, pod: &Pod) -> Option<i32> {
        let completions = self.job.spec.completions.unwrap_or(0);
        completion_index(pod).filter(|index| *index < completions)
    }

    /// `isPodFailed`: unless only failed pods are replaced, one that is being deleted counts.
    pub fn pod_failed(&self, pod: &Pod) -> bool {
        match pod.status.phase {
            Phase::Failed => true,
            Phase::Succeeded => false,
            _ => !self.replaces_failed_only() && pod.meta.deleting(),
        }
    }

    /// `onlyReplaceFailedPods`.
    pub fn replaces_failed_only(&self) -> bool {
        self.job.spec.replace_failed_only || self.job.spec.failure_policy.is_some()
    }

    /// Decides whether the Job is over, in upstream's order; returns when to look again for
    /// `activeDeadlineSeconds`.
    pub fn evaluate(&mut self, now: Time) -> Option<Duration> {
        let mut again = None;
        let is_true = |c: &&WorkloadCondition| c.status == Truth::True;
        let status = &self.job.status;
        let met = status.condition("SuccessCriteriaMet").filter(is_true);
        let target = status.condition("FailureTarget").filter(is_true);
        self.finished = match (met, target) {
            (Some(met), _) => Some(met.clone()),
            (None, Some(target)) => Some(condition("Failed", &target.reason, &target.message, now)),
            (None, None) => self
                .policy_failure()
                .map(|message| condition("FailureTarget", "PodFailurePolicy", &message, now)),
        };
        let fail = |reason, message| Some(condition("FailureTarget", reason, message, now));
        if self.finished.is_none() {
            let deadline = self.deadline();
            if self.failed > self.job.spec.backoff_limit || self.too_many_restarts() {
                let message = "Job has reached the specified backoff limit";
                self.finished = fail("BackoffLimitExceeded", message);
            } else if deadline.is_some_and(|at| at <= now) {
                let message = "Job was active longer than specified deadline";
                self.finished = fail("DeadlineExceeded", message);
            } else {
                again = deadline.map(|at| at.since(now));
            }
        }
        if self.job.spec.indexed {
            self.evaluate_indexes(now);
        }
        again
    }

    /// `getFailJobMessage`.
    fn policy_failure(&self) -> Option<String> {
        self.job.spec.failure_policy.as_ref()?;
        let mut failed = self.pods.iter().filter(|(_, pod)| self.pod_failed(pod));
        failed.find_map(|(_, pod)| policy::judge(&self.job.spec, pod).fail_job)
    }

    /// When `activeDeadlineSeconds` are over; a suspended Job has none.
    fn deadline(&self) -> Option<Time> {
        let seconds = self.job.spec.active_deadline_s?;
        let start = recorded(self.job.status.start?);
        let seconds = u64::try_from(seconds).unwrap_or(0);
        (!self.job.spec.suspend).then(|| start + Duration::from_secs(seconds))
    }

    /// `pastBackoffLimitOnFailure`: restarts within running pods.
    fn too_many_restarts(&self) -> bool {
        let spec = &self.job.spec;
        if spec.template.spec.restart_policy != RestartPolicy::OnFailure {
            return false;
        }
        let going = |row: &&Row| matches!(row.1.status.phase, Phase::Running | Phase::Pending);
        let restarts: u32 = (self.pods.iter().filter(going))
            .flat_map(|(_, pod)| {
                pod.status
                    .init_containers
                    .iter()
                    .chain(&pod.status.containers)
            })
            .map(|status| status.restarts)
            .sum();
        let restarts = i32::try_from(restarts).unwrap_or(i32::MAX);
        restarts >= spec.backoff_limit.max(1)
    }

    /// The part of the evaluation that Indexed Jobs have.
    fn evaluate_indexes(&mut self, now: Time) {
        let completions = self.job.spec.completions.unwrap_or(0);
        let status = &self.job.status;
        self.completed_before = Intervals::parse(&status.completed_indexes, completions);
        let succeeded = |row: &&Row| row.1.status.phase == Phase::Succeeded && held(&row.1);
        let new = self.pods.iter().filter(succeeded);
        let new = new.filter_map(|(_, pod)| self.index(pod)).collect();
        self.completed = self.completed_before.with(&new);
        self.succeeded = self.completed.total();
        if self.job.spec.backoff_limit_per_index.is_some() {
            let failed = self.all_failed_indexes(completions);
            let (count, most) = (failed.total(), self.job.spec.max_failed_indexes);
            let fail = |reason, message| Some(condition("FailureTarget", reason, message, now));
            if self.finished.is_some() {
            } else if most.is_some_and(|most| count > most) {
                self.finished = fail(
                    "MaxFailedIndexesExceeded",
                    "Job has exceeded the specified maximal number of failed indexes",
                );
            } else if count > 0 && count + self.completed.total() >= completions {
                self.finished = fail("FailedIndexes", "Job has failed indexes");
            }
            self.failed_indexes = Some(failed);
            self.delayed = self.delayed_removals();
        }
        if self.finished.is_none()
            && let Some(message) = policy::succeeded(&self.job.spec, &self.completed)
        {
            let reason = "SuccessPolicy";
            self.finished = Some(condition("SuccessCriteriaMet", reason, &message, now));
        }
    }

    /// `calculateFailedIndexes`.
    fn all_failed_indexes(&self, completions: i32) -> Intervals {
        let before = self.job.status.failed_indexes.as_deref();
        let before = Intervals::parse(before.unwrap_or_default(), completions);
        let limit = self.job.spec.backoff_limit_per_index.unwrap_or(i32::MAX);
        let failed = |row: &&Row| {
            let pod = &row.1;
            if !held(pod) || !self.pod_failed(pod) {
                return false;
            }
            let verdict = policy::judge(&self.job.spec, pod);
            verdict.action == Some(FailureAction::FailIndex)
                || (verdict.counts && failures_of_index(pod) >= limit)
        };
        let new = self.pods.iter().filter(failed);
        before.with(&new.filter_map(|(_, pod)| self.index(pod)).collect())
    }

    /// `getPodsWithDelayedDeletionPerIndex`: the failed pod that the next one of its index takes
    /// the number of failures from stays until then.
    fn delayed_removals(&self) -> BTreeMap<i32, Row> {
        let none = Intervals::default();
        let failed_for_good = self.failed_indexes.as_ref().unwrap_or(&none);
        let active: BTreeSet<i32> = (self.active.iter())
            .filter_map(|(_, pod)| completion_index(pod))
            .collect();
        let mut delayed: BTreeMap<i32, Row> = BTreeMap::new();
        for row in self.new_ends(&[], |pod| self.pod_failed(pod)) {
            let Some(index) = self.index(&row.1) else {
                continue;
            };
            let done = self.completed.has(index) || failed_for_good.has(index);
            if done || active.contains(&index) {
                continue;
            }
            let newer = delayed.get(&index).is_none_or(|(_, last)| {
                all_failures_of_index(last) <= all_failures_of_index(&row.1)
                    && finished(&row.1) >= finished(last)
            });
            if newer {
                delayed.insert(index, row);
            }
        }
        delayed
    }

    /// Deletes pods; `release` also takes their finalizers first (`deleteJobPods`), otherwise they
    /// stay until they were counted (`deleteActivePods`).
    pub fn delete(&mut self, doomed: &[Row], release: bool, plan: &mut Plan) {
        if doomed.is_empty() {
            return;
        }
        let ready = doomed.iter().filter(|(_, pod)| pod.status.ready()).count();
        self.asked = Asked {
            total: doomed.len(),
            ready: i32::try_from(ready).unwrap_or(i32::MAX),
            expected: release,
            ..Asked::default()
        };
        let rule = match release {
            true => "too many pods",
            false => "the job is over",
        };
        let delete = |row: &Row| Write::Delete {
            object: row.0.into(),
            uid: Some(row.1.meta.uid),
            grace_s: None,
            propagation: Propagation::Background,
        };
        let of_one = |row: &Row| {
            let freed = (release && held(&row.1)).then(|| (release_of(row), rule));
            freed.into_iter().chain([(delete(row), rule)]).collect()
        };
        let chains = doomed.iter().map(of_one).collect();
        plan.steps.push(Step::Chains(chains));
    }

    /// Tells the expectations what was asked for.
    pub fn expect(&self, key: Key, expectations: &mut Expectations<Key>, now: Time) {
        let asked = &self.asked;
        if asked.creates {
            expectations.expect_creations(key, asked.total, now);
        } else if asked.expected {
            expectations.expect_deletions(key, asked.total, now);
        }
    }
}

/// Removes the finalizer of a pod.
pub fn release_of(row: &Row) -> Write {
    Write::Patch {
        object: row.0.into(),
        uid: Some(row.1.meta.uid),
        patch: Patch::RemoveFinalizer(Text::from(crate::api::batch::TRACKING_FINALIZER)),
    }
}

/// Annotation: failures of the index before this pod that count.
pub const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// Annotation: failures of the index before this pod that a policy ignores.
pub const INDEX_IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

fn annotated(pod: &Pod, key: &str) -> i32 {
    let number = pod.meta.annotations.get(key).and_then(|n| n.parse().ok());
    number.filter(|n| *n >= 0).unwrap_or(0)
}

/// `getIndexFailureCount`.
pub fn failures_of_index(pod: &Pod) -> i32 {
    annotated(pod, INDEX_FAILURES)
}

/// Ignored failures of the index before this pod.
pub fn ignored_of_index(pod: &Pod) -> i32 {
    annotated(pod, INDEX_IGNORED)
}

/// `getIndexAbsoluteFailureCount`.
pub fn all_failures_of_index(pod: &Pod) -> i32 {
    failures_of_index(pod).saturating_add(ignored_of_index(pod))
}
