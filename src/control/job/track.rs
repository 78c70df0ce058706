//! Booking what has ended, so that nothing is counted twice or forgotten.
//!
//! A port of `trackJobStatusAndRemoveFinalizers` of `pkg/controller/job/job_controller.go` and of
//! what it calls. Upstream's one function waits for three groups of requests; here each is a
//! [`Stage`], and [`Sync::go_on`] is what happens between them.

use std::collections::BTreeSet;

use super::sync::{Row, Stage, Sync, condition, release_of};
use super::{Key, completion_index, event, held, policy};
use crate::api::pod_status::{Phase, Truth};
use crate::api::workload::WorkloadCondition;
use crate::api::{Pod, Uid};
use crate::client::{Plan, Step};
use crate::engine::Time;
use crate::store::Write;

/// `MaxUncountedPods`: uids that the status holds at most.
pub const MAX_UNCOUNTED: usize = 500;

impl Sync {
    /// Plans the next stage; `plan.more` when there is one after it.
    pub fn go_on(&mut self, key: Key, plan: &mut Plan, now: Time) {
        match self.stage {
            Stage::Managing => {
                self.settle(plan, now);
                self.book(now);
                self.stage = Stage::Flushing;
                if self.flush {
                    self.write_status(key, "book what has ended", plan);
                }
                plan.more = true;
            }
            Stage::Flushing if self.failed_write => {}
            Stage::Flushing => {
                self.flush = false;
                self.stage = Stage::Removing;
                if !self.removed.is_empty() {
                    plan.steps.push(Step::Parallel {
                        writes: self.removed.iter().map(release_of).collect(),
                        rule: "its end is booked",
                    });
                }
                plan.more = true;
            }
            Stage::Removing => {
                self.flush |= self.count_released();
                self.stage = Stage::Counting;
                if !self.failed_write && !self.full && self.enact(now) {
                    self.flush = true;
                    self.stage = Stage::Enacting;
                }
                if self.flush {
                    self.write_status(key, "count what has ended", plan);
                }
                plan.more = self.stage == Stage::Enacting;
            }
            Stage::Enacting if !self.failed_write => self.tell_end(plan),
            Stage::Counting | Stage::Enacting => {}
        }
    }

    fn write_status(&self, key: Key, rule: &'static str, plan: &mut Plan) {
        let row = self.job.clone().into();
        plan.write(Write::UpdateStatus(key.into(), row), rule);
    }

    /// The end of `syncJob` between managing pods and tracking: counts, completion, suspension.
    fn settle(&mut self, plan: &mut Plan, now: Time) {
        let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let before = count(self.active.len());
        let mut active = before;
        if self.waits {
            // As upstream has it: while creations wait, nothing counts as active.
            active = 0;
        } else if self.asked.creates {
            active += count(self.asked.done);
        } else {
            active -= count(self.asked.done);
            self.terminating += count(self.asked.done);
            self.ready -= self.asked.ready;
        }
        let mut changed = false;
        if self.finished.is_some() {
            if active != 0 || !self.satisfied {
                // Pods may be left that nobody has seen yet.
                self.finished = None;
            }
        } else {
            let complete = match self.job.spec.completions {
                None => self.succeeded > 0 && active == 0,
                Some(completions) => self.succeeded >= completions && active == 0,
            };
            if complete {
                let message = "Reached expected number of succeeded pods";
                let met = condition("SuccessCriteriaMet", "CompletionsReached", message, now);
                self.finished = Some(met);
            } else if self.managed {
                changed = self.suspension(plan, now);
            }
        }
        let status = &mut self.job.status;
        let counts = (active, Some(self.ready), Some(self.terminating));
        self.flush = changed || counts != (status.active, status.ready, status.terminating);
        (status.active, status.ready, status.terminating) = counts;
    }

    /// The `Suspended` condition; returns whether it changed.
    fn suspension(&mut self, plan: &mut Plan, now: Time) -> bool {
        let suspend = self.job.spec.suspend;
        let (reason, message) = match suspend {
            true => ("JobSuspended", "Job suspended"),
            false => ("JobResumed", "Job resumed"),
        };
        let mut wanted = condition("Suspended", reason, message, now);
        wanted.status = Truth::from(suspend);
        let changed = self.ensure(wanted);
        if changed {
            plan.event(event(&self.job, &reason[3..], message, false));
            // The deadline counts from the resumption.
            self.job.status.start = (!suspend).then_some(now);
        }
        changed
    }

    /// `ensureJobConditionStatus`: sets a condition; nothing becomes of False where there is none.
    fn ensure(&mut self, new: WorkloadCondition) -> bool {
        let conditions = &mut self.job.status.conditions;
        match conditions.iter_mut().find(|c| c.kind == new.kind) {
            Some(old) => {
                let same = (old.status, &old.reason, &old.message)
                    == (new.status, &new.reason, &new.message);
                if !same {
                    *old = new;
                }
                !same
            }
            None if new.status == Truth::False => false,
            None => {
                conditions.push(new);
                true
            }
        }
    }

    /// The first part of `trackJobStatusAndRemoveFinalizers`: notes the uids (or indexes) of pods
    /// that have ended, and which finalizers can go.
    fn book(&mut self, now: Time) {
        if self.job.spec.indexed {
            self.pods.sort_by_key(|(_, pod)| completion_index(pod));
        }
        let new = |row: &&Row| held(&row.1) && !self.removing.contains(&row.1.meta.uid);
        let rows: Vec<Row> = self.pods.iter().filter(new).cloned().collect();
        self.held = rows.iter().map(|(_, pod)| pod.meta.uid).collect();
        let uncounted: [BTreeSet<Uid>; 2] = {
            let status = &self.job.status;
            [&status.uncounted_succeeded, &status.uncounted_failed]
                .map(|uids| uids.iter().copied().collect())
        };
        self.flush |= self.count_released();
        let mut indexes = BTreeSet::new();
        for row in rows {
            if !self.can_release(&row.1) {
                continue;
            }
            self.book_one(&row.1, &uncounted, &mut indexes);
            self.removed.push(row);
            let status = &self.job.status;
            let noted = status.uncounted_succeeded.len() + status.uncounted_failed.len();
            if indexes.len() + noted >= MAX_UNCOUNTED {
                self.full = true;
                break;
            }
        }
        if self.job.spec.indexed {
            self.book_indexes(&indexes);
        }
        self.book_condition(now);
    }

    /// Notes the end of one pod.
    fn book_one(&mut self, pod: &Pod, uncounted: &[BTreeSet<Uid>; 2], indexes: &mut BTreeSet<i32>) {
        let uid = pod.meta.uid;
        let [succeeded, failed] = uncounted;
        let index = self.index(pod);
        if pod.status.phase == Phase::Succeeded && !failed.contains(&uid) {
            if self.job.spec.indexed {
                if let Some(index) = index.filter(|index| !self.completed_before.has(*index)) {
                    indexes.insert(index);
                    self.flush = true;
                }
            } else if !succeeded.contains(&uid) {
                self.job.status.uncounted_succeeded.push(uid);
                self.flush = true;
            }
            return;
        }
        let met = |c: &WorkloadCondition| c.kind == "SuccessCriteriaMet";
        let over = self.finished.as_ref().is_some_and(|c| !met(c));
        let valid = !self.job.spec.indexed || index.is_some();
        let fails = (self.pod_failed(pod) || over) && !failed.contains(&uid) && valid;
        if fails && policy::judge(&self.job.spec, pod).counts {
            self.job.status.uncounted_failed.push(uid);
            self.flush = true;
        }
    }

    fn book_indexes(&mut self, new: &BTreeSet<i32>) {
        self.completed = self.completed.with(new);
        let status = &mut self.job.status;
        let text = self.completed.to_string();
        let failed = self.failed_indexes.as_ref().map(|f| f.to_string().into());
        self.flush |= *status.completed_indexes != *text || status.failed_indexes != failed;
        status.succeeded = self.completed.total();
        status.completed_indexes = text.into();
        status.failed_indexes = failed;
    }

    /// Writes the interim condition and turns it into the final one.
    fn book_condition(&mut self, now: Time) {
        let Some(finished) = self.finished.clone() else {
            return;
        };
        let end = match &*finished.kind {
            "FailureTarget" => "Failed",
            "SuccessCriteriaMet" => "Complete",
            _ => return,
        };
        let status = &mut self.job.status;
        let known = status.condition(&finished.kind);
        if known.is_none_or(|c| c.status != Truth::True) {
            status.conditions.push(finished.clone());
            self.flush = true;
        }
        self.finished = Some(condition(end, &finished.reason, &finished.message, now));
    }

    /// `canRemoveFinalizer`.
    fn can_release(&self, pod: &Pod) -> bool {
        let over = self.job.meta.deleting() || self.finished.is_some();
        if over || pod.status.phase == Phase::Succeeded {
            return true;
        }
        let index = completion_index(pod);
        let waiting = index.and_then(|index| self.delayed.get(&index));
        let delayed = waiting.is_some_and(|(_, last)| last.meta.uid == pod.meta.uid);
        self.pod_failed(pod) && !delayed
    }

    /// `cleanUncountedPodsWithoutFinalizers`.
    fn count_released(&mut self) -> bool {
        let status = &mut self.job.status;
        let mut changed = false;
        for (uids, count) in [
            (&mut status.uncounted_succeeded, &mut status.succeeded),
            (&mut status.uncounted_failed, &mut status.failed),
        ] {
            let before = uids.len();
            uids.retain(|uid| self.held.contains(uid));
            *count += i32::try_from(before - uids.len()).unwrap_or(i32::MAX);
            changed |= uids.len() != before;
        }
        changed
    }

    /// `enactJobFinished`.
    fn enact(&mut self, now: Time) -> bool {
        let Some(finished) = self.finished.clone() else {
            return false;
        };
        let status = &self.job.status;
        let uncounted = status.uncounted_succeeded.len() + status.uncounted_failed.len();
        if uncounted > 0 || self.terminating > 0 {
            return false;
        }
        if finished.kind == "Complete" {
            self.job.status.completion = Some(finished.since);
        }
        self.ensure(WorkloadCondition {
            updated: now,
            since: now,
            ..finished
        });
        true
    }

    /// `recordJobFinished`.
    fn tell_end(&self, plan: &mut Plan) {
        let Some(finished) = &self.finished else {
            return;
        };
        let job = &self.job;
        if finished.kind != "Complete" {
            plan.event(event(job, &finished.reason, &finished.message, true));
            return;
        }
        let wanted = job.spec.completions;
        if wanted.is_some_and(|wanted| job.status.succeeded > wanted) {
            let message = "Too many succeeded pods running after completion count reached";
            plan.event(event(job, "TooManySucceededPods", message, true));
        }
        plan.event(event(job, "Completed", "Job completed", false));
    }
}
