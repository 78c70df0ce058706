//! What a Deployment reports: counts, and whether its rollout gets on.
//!
//! Progress is any sign of movement in the counts. When there is none for
//! `progressDeadlineSeconds`, the rollout is reported as stuck; nothing else follows from that.

use std::time::Duration;

use super::scale::max_unavailable;
use super::sync::Sync;
use crate::api::Deployment;
use crate::api::ReplicaSet;
use crate::api::meta::recorded;
use crate::api::pod_status::Truth;
use crate::api::workload::{DeploymentStatus, WorkloadCondition};
use crate::control::pods::seconds;
use crate::control::replica_set::status::REPLICA_FAILURE;
use crate::engine::Time;

/// The condition that tells whether the rollout gets on.
pub const PROGRESSING: &str = "Progressing";
/// The condition that tells whether enough pods are available.
pub const AVAILABLE: &str = "Available";
/// `TimedOutReason`.
pub const TIMED_OUT: &str = "ProgressDeadlineExceeded";
/// `NewRSAvailableReason`.
pub const NEW_AVAILABLE: &str = "NewReplicaSetAvailable";
/// `PausedDeployReason`.
pub const PAUSED: &str = "DeploymentPaused";
/// `ResumedDeployReason`.
pub const RESUMED: &str = "DeploymentResumed";

/// `HasProgressDeadline`.
pub fn has_deadline(deployment: &Deployment) -> bool {
    deployment.progress_deadline_s != i32::MAX
}

/// A condition as of now (`NewDeploymentCondition`).
pub(super) fn condition(
    kind: &str,
    status: Truth,
    reason: &str,
    message: String,
    now: Time,
) -> WorkloadCondition {
    WorkloadCondition {
        kind: kind.into(),
        status,
        reason: reason.into(),
        message: message.into(),
        updated: recorded(now),
        since: recorded(now),
    }
}

/// The condition of this kind (`GetDeploymentCondition`).
pub(super) fn find<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a WorkloadCondition> {
    status.conditions.iter().find(|c| &*c.kind == kind)
}

/// `SetDeploymentCondition`: a condition of equal status and reason stays as it is.
pub(super) fn set_condition(status: &mut DeploymentStatus, mut new: WorkloadCondition) {
    if let Some(old) = find(status, &new.kind) {
        if old.status == new.status && old.reason == new.reason {
            return;
        }
        if old.status == new.status {
            new.since = old.since;
        }
    }
    remove_condition(status, &new.kind);
    status.conditions.push(new);
}

fn remove_condition(status: &mut DeploymentStatus, kind: &str) {
    status.conditions.retain(|c| &*c.kind != kind);
}

/// `DeploymentComplete`: all pods are of the current version and available.
pub fn complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    status.updated == deployment.replicas
        && status.replicas == deployment.replicas
        && status.available == deployment.replicas
        && status.observed_generation >= deployment.meta.generation
}

/// `DeploymentProgressing`: more new pods, fewer old ones, more ready or available ones.
fn progressing(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    new.updated > old.updated
        || new.replicas - new.updated < old.replicas - old.updated
        || new.ready > old.ready
        || new.available > old.available
}

/// `DeploymentTimedOut`.
fn timed_out(deployment: &Deployment, status: &DeploymentStatus, now: Time) -> bool {
    let Some(condition) = find(status, PROGRESSING) else {
        return false;
    };
    match &*condition.reason {
        NEW_AVAILABLE => false,
        TIMED_OUT => true,
        _ => condition.updated + seconds(deployment.progress_deadline_s) < now,
    }
}

impl Sync<'_> {
    /// `checkPausedConditions`: the time in pause does not count against the deadline.
    pub(super) fn check_paused(&mut self) {
        let reason = find(&self.deployment.status, PROGRESSING).map(|c| c.reason.clone());
        if !has_deadline(&self.deployment) || reason.as_deref() == Some(TIMED_OUT) {
            return;
        }
        let was_paused = reason.as_deref() == Some(PAUSED);
        let (reason, message) = match (self.deployment.paused, was_paused) {
            (true, false) => (PAUSED, "Deployment is paused"),
            (false, true) => (RESUMED, "Deployment is resumed"),
            _ => return,
        };
        let new = condition(
            PROGRESSING,
            Truth::Unknown,
            reason,
            message.into(),
            self.now,
        );
        set_condition(&mut self.deployment.status, new);
        self.write_status(message);
    }

    /// `calculateStatus`.
    fn calculate(&self, all: &[usize], new: Option<usize>) -> DeploymentStatus {
        let deployment = &self.deployment;
        let sum = |of: fn(&ReplicaSet) -> i32| all.iter().map(|i| of(&self.sets[*i].row)).sum();
        let available: i32 = sum(|set| set.status.available);
        let wanted: i32 = sum(|set| set.replicas);
        let mut status = DeploymentStatus {
            observed_generation: deployment.meta.generation,
            replicas: sum(|set| set.status.replicas),
            updated: new.map_or(0, |i| self.sets[i].row.status.replicas),
            ready: sum(|set| set.status.ready),
            available,
            unavailable: (wanted - available).max(0),
            terminating: self.terminating(all),
            collisions: deployment.status.collisions,
            conditions: deployment.status.conditions.clone(),
        };
        let enough = available >= deployment.replicas - max_unavailable(deployment);
        let (reason, message) = if enough {
            (
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.",
            )
        } else {
            (
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            )
        };
        let new = condition(AVAILABLE, enough.into(), reason, message.into(), self.now);
        set_condition(&mut status, new);
        status
    }

    /// `GetTerminatingReplicaCountForReplicaSets`.
    fn terminating(&self, all: &[usize]) -> Option<i32> {
        let mut total = 0;
        for i in all {
            let status = &self.sets[*i].row.status;
            match status.terminating {
                Some(count) => total += count,
                None if status.observed_generation == 0 => {}
                None => return None,
            }
        }
        Some(total)
    }

    /// `syncDeploymentStatus`: counts, but no judgement on progress.
    pub(super) fn sync_status(&mut self, all: &[usize], new: Option<usize>) {
        let status = self.calculate(all, new);
        if status != self.deployment.status {
            self.deployment.status = status;
            self.write_status("report what was counted");
        }
    }

    /// `syncRolloutStatus`.
    pub(super) fn sync_rollout_status(&mut self, all: &[usize], new: Option<usize>) {
        let mut status = self.calculate(all, new);
        if has_deadline(&self.deployment) {
            self.judge(&mut status, new);
        } else {
            remove_condition(&mut status, PROGRESSING);
        }
        match self.replica_failure(all, new) {
            Some(failure) => set_condition(&mut status, failure),
            None => remove_condition(&mut status, REPLICA_FAILURE),
        }
        if status == self.deployment.status {
            self.requeue_stuck(&status);
            return;
        }
        self.deployment.status = status;
        self.write_status("report on the rollout");
    }

    /// The Progressing condition, unless the last rollout has completed.
    fn judge(&self, status: &mut DeploymentStatus, new: Option<usize>) {
        let old = &self.deployment.status;
        let current = find(old, PROGRESSING).cloned();
        let done = current
            .as_ref()
            .is_some_and(|c| &*c.reason == NEW_AVAILABLE);
        if done && status.replicas == status.updated {
            return;
        }
        let subject = match new {
            Some(i) => format!("ReplicaSet \"{}\"", self.sets[i].row.meta.name),
            None => format!("Deployment \"{}\"", self.deployment.meta.name),
        };
        let told = |truth, reason, what: &str| {
            let message = format!("{subject} {what}.");
            condition(PROGRESSING, truth, reason, message, self.now)
        };
        if complete(&self.deployment, status) {
            let what = "has successfully progressed";
            set_condition(status, told(Truth::True, NEW_AVAILABLE, what));
        } else if progressing(old, status) {
            let mut new = told(Truth::True, "ReplicaSetUpdated", "is progressing");
            // Every sign of progress moves `lastUpdateTime`, even for the same reason.
            if let Some(current) = current {
                if current.status == Truth::True {
                    new.since = current.since;
                }
                remove_condition(status, PROGRESSING);
            }
            set_condition(status, new);
        } else if timed_out(&self.deployment, status, self.now) {
            let what = "has timed out progressing";
            set_condition(status, told(Truth::False, TIMED_OUT, what));
        }
    }

    /// `getReplicaFailures`: the first failure, that of the new ReplicaSet before all others.
    fn replica_failure(&self, all: &[usize], new: Option<usize>) -> Option<WorkloadCondition> {
        let mut sets = new.iter().chain(all);
        sets.find_map(|i| {
            let conditions = &self.sets[*i].row.status.conditions;
            let failure = conditions.iter().find(|c| &*c.kind == REPLICA_FAILURE)?;
            Some(WorkloadCondition {
                updated: failure.since,
                ..failure.clone()
            })
        })
    }

    /// `requeueStuckDeployment`: nothing may change until the deadline.
    fn requeue_stuck(&mut self, status: &DeploymentStatus) {
        let Some(current) = find(&self.deployment.status, PROGRESSING) else {
            return;
        };
        if !has_deadline(&self.deployment)
            || complete(&self.deployment, status)
            || &*current.reason == TIMED_OUT
        {
            return;
        }
        let deadline = current.updated + seconds(self.deployment.progress_deadline_s);
        let after = deadline.since(self.now);
        // Upstream's queue adds it with back-off, of which this is the first step. A sync that the
        // timer below brings a second before the deadline is never on the dot there: less is left.
        let soon = Duration::from_millis(5);
        let second = Duration::from_secs(1);
        self.plan.requeue(if after <= second {
            soon
        } else {
            after + second
        });
    }
}
