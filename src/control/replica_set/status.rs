//! What a ReplicaSet reports; `pkg/controller/replicaset/replica_set_utils.go`.

use crate::api::meta::recorded;
use crate::api::pod_status::Truth;
use crate::api::workload::{ReplicaSetStatus, WorkloadCondition};
use crate::api::{Labels, Pod, ReplicaSet};
use crate::control::pods;
use crate::engine::Time;

/// The condition that reports a pod that could not be created or deleted.
pub const REPLICA_FAILURE: &str = "ReplicaFailure";

/// `calculateStatus`, from the active pods as they were before this sync changed any.
pub fn calculate<'a>(
    set: &ReplicaSet,
    active: impl Iterator<Item = &'a Pod>,
    terminating: usize,
    error: Option<&str>,
    now: Time,
) -> ReplicaSetStatus {
    let mut status = ReplicaSetStatus {
        replicas: 0,
        fully_labeled: 0,
        ready: 0,
        available: 0,
        terminating: Some(i32::try_from(terminating).unwrap_or(i32::MAX)),
        ..set.status.clone()
    };
    for pod in active {
        status.replicas += 1;
        status.fully_labeled += i32::from(has_all(&pod.meta.labels, &set.template.labels));
        status.ready += i32::from(pod.status.ready());
        status.available += i32::from(pods::available(pod, set.min_ready_s, now));
    }
    let failure = status
        .conditions
        .iter()
        .position(|c| &*c.kind == REPLICA_FAILURE);
    match (error, failure) {
        (Some(error), None) => {
            let reason = match status.replicas.cmp(&set.replicas) {
                std::cmp::Ordering::Less => "FailedCreate",
                std::cmp::Ordering::Greater => "FailedDelete",
                std::cmp::Ordering::Equal => "",
            };
            status.conditions.push(WorkloadCondition {
                kind: REPLICA_FAILURE.into(),
                status: Truth::True,
                reason: reason.into(),
                message: error.into(),
                updated: recorded(now),
                since: recorded(now),
            });
        }
        (None, Some(at)) => drop(status.conditions.remove(at)),
        _ => {}
    }
    status
}

fn has_all(labels: &Labels, wanted: &Labels) -> bool {
    labels.same(wanted) || wanted.iter().all(|(k, v)| labels.get(k) == Some(v))
}

/// `updateReplicaSetStatus`: the row with its new status, unless there is nothing new.
pub fn updated(set: &ReplicaSet, mut status: ReplicaSetStatus) -> Option<ReplicaSet> {
    let seen = set.status.observed_generation == set.meta.generation;
    status.observed_generation = set.meta.generation;
    if seen && status == set.status {
        return None;
    }
    let mut row = set.clone();
    row.status = status;
    Some(row)
}
