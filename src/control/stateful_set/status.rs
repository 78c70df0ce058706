//! What a StatefulSet reports.

use std::sync::Arc;

use super::identity::{Revisions, revision_of, running_and_ready};
use crate::api::stateful::{StatefulSetStatus, StatefulStrategy};
use crate::api::{Pod, StatefulSet};
use crate::control::pods;
use crate::engine::Time;

/// `updateStatus`: the counts of these pods.
pub fn count<'a>(
    set: &StatefulSet,
    revisions: &Revisions,
    collisions: i32,
    all: impl Iterator<Item = &'a Pod>,
    now: Time,
) -> StatefulSetStatus {
    let (current, update) = (revisions.current.name(), revisions.update.name());
    let mut status = StatefulSetStatus {
        observed_generation: set.meta.generation,
        current_revision: current.clone(),
        update_revision: update.clone(),
        collisions: Some(collisions),
        ..StatefulSetStatus::default()
    };
    for pod in all {
        status.replicas += 1;
        if running_and_ready(pod) {
            status.ready += 1;
            status.available += i32::from(pods::available(pod, set.min_ready_s, now));
        }
        if !pod.meta.deleting() {
            let revision = revision_of(pod);
            status.current += i32::from(revision == current.as_str());
            status.updated += i32::from(revision == update.as_str());
        }
    }
    status
}

/// `updateStatefulSetStatus`: the set with its new status, if that says anything new.
pub fn updated(set: &Arc<StatefulSet>, mut status: StatefulSetStatus) -> Option<StatefulSet> {
    // completeRollingUpdate
    let rolling = matches!(set.strategy, StatefulStrategy::RollingUpdate(_));
    let all = |count: i32| count == set.replicas;
    if rolling && all(status.updated) && all(status.ready) && all(status.replicas) {
        status.current = status.updated;
        status.current_revision = status.update_revision.clone();
    }
    // inconsistentStatus
    let old = &set.status;
    let same = status.observed_generation <= old.observed_generation
        && status.replicas == old.replicas
        && status.current == old.current
        && status.ready == old.ready
        && status.updated == old.updated
        && status.current_revision == old.current_revision
        && status.available == old.available
        && status.update_revision == old.update_revision;
    if same {
        return None;
    }
    let mut new = StatefulSet::clone(set);
    new.status = status;
    Some(new)
}
