//! Sizes: what a rollout may add and remove, and what happens when the Deployment itself is
//! resized; the second half of `sync.go`.
//!
//! A resize in the middle of a rollout keeps the proportion of old and new pods, so that it neither
//! hastens the rollout nor reverts it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::event;
use super::revision::{DESIRED_REPLICAS, MAX_REPLICAS, count, revision, with_sizes};
use super::sync::{Sync, age_key};
use crate::api::workload::Strategy;
use crate::api::{Deployment, ReplicaSet};
use crate::store::{Propagation, Write};

/// `ResolveFenceposts`: surge and unavailability in pods; at least one of them is not zero.
fn fenceposts(deployment: &Deployment) -> Option<(i32, i32)> {
    let Strategy::RollingUpdate {
        max_surge,
        max_unavailable,
    } = deployment.strategy
    else {
        return None;
    };
    let surge = max_surge.scaled(deployment.replicas, true);
    let unavailable = max_unavailable.scaled(deployment.replicas, false);
    Some(if surge == 0 && unavailable == 0 {
        (0, 1)
    } else {
        (surge, unavailable)
    })
}

/// How many pods a rollout may have beyond the Deployment's size (`MaxSurge`).
pub fn max_surge(deployment: &Deployment) -> i32 {
    fenceposts(deployment).map_or(0, |(surge, _)| surge)
}

/// How many pods may be missing during a rollout (`MaxUnavailable`).
pub fn max_unavailable(deployment: &Deployment) -> i32 {
    if deployment.replicas == 0 {
        return 0;
    }
    fenceposts(deployment).map_or(0, |(_, missing)| missing.min(deployment.replicas))
}

/// `integer.RoundToInt32`: halves away from zero.
fn round(x: f64) -> i32 {
    (if x < 0.0 { x - 0.5 } else { x + 0.5 }) as i32
}

/// By how much a ReplicaSet should grow to keep its share (`getReplicaSetFraction`).
fn fraction(set: &ReplicaSet, deployment: &Deployment) -> i32 {
    if deployment.replicas == 0 {
        return -set.replicas;
    }
    let max_now = i64::from(deployment.replicas) + i64::from(max_surge(deployment));
    let max_before = count(&set.meta.annotations, MAX_REPLICAS).filter(|max| *max != 0);
    let max_before = max_before.unwrap_or(deployment.status.replicas);
    if max_before == 0 {
        return 0;
    }
    let size = (i64::from(set.replicas) * max_now) as f64 / f64::from(max_before);
    round(size) - set.replicas
}

/// `GetReplicaSetProportion`: the share, within what is left to distribute.
fn proportion(set: &ReplicaSet, deployment: &Deployment, to_add: i32, added: i32) -> i32 {
    if set.replicas == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let (share, left) = (fraction(set, deployment), to_add - added);
    if to_add > 0 {
        share.min(left)
    } else {
        share.max(left)
    }
}

impl Sync<'_> {
    /// `isScalingEvent`: the Deployment's size is not the one its ReplicaSets were scaled for.
    pub(super) fn resized(&mut self) -> bool {
        let new = self.newest(false);
        let replicas = self.deployment.replicas;
        self.active(&self.all(new)).iter().any(|i| {
            let desired = count(&self.sets[*i].row.meta.annotations, DESIRED_REPLICAS);
            desired.is_some_and(|desired| desired != replicas)
        })
    }

    /// `sync`: resized or paused.
    pub(super) fn sync_size(&mut self) {
        let new = self.newest(false);
        self.scale(new);
        if self.deployment.paused {
            self.clean_up(new);
        }
        self.sync_status(&self.all(new), new);
    }

    /// The sum of the sizes asked for (`GetReplicaCountForReplicaSets`).
    pub(super) fn size(&self, sets: &[usize]) -> i32 {
        sets.iter().map(|i| self.sets[*i].row.replicas).sum()
    }

    /// The sum of available pods (`GetAvailableReplicaCountForReplicaSets`).
    pub(super) fn available(&self, sets: &[usize]) -> i32 {
        let available = |i: &usize| self.sets[*i].row.status.available;
        sets.iter().map(available).sum()
    }

    /// `scale`.
    fn scale(&mut self, new: Option<usize>) {
        let replicas = self.deployment.replicas;
        if let Some(only) = self.active_or_latest(new) {
            self.scale_set(only, replicas, false);
            return;
        }
        if self.saturated(new) {
            for old in self.active(&self.old(new)) {
                self.scale_set(old, 0, false);
            }
            return;
        }
        if self.deployment.strategy != Strategy::Recreate {
            self.scale_in_proportion(new);
        }
    }

    /// The only active ReplicaSet, or the latest when none is (`FindActiveOrLatest`).
    fn active_or_latest(&self, new: Option<usize>) -> Option<usize> {
        match self.active(&self.all(new)).as_slice() {
            [] => new.or(self.old(new).last().copied()),
            [only] => Some(*only),
            _ => None,
        }
    }

    /// `IsSaturated`: all the pods that the Deployment wants are of the new version and available.
    fn saturated(&self, new: Option<usize>) -> bool {
        let Some(set) = new.map(|i| &self.sets[i].row) else {
            return false;
        };
        let desired = set.meta.annotations.get(DESIRED_REPLICAS);
        let desired: Option<i32> = desired.and_then(|d| d.parse().ok());
        let replicas = self.deployment.replicas;
        set.replicas == replicas && desired == Some(replicas) && set.status.available == replicas
    }

    fn scale_in_proportion(&mut self, new: Option<usize>) {
        let deployment = &self.deployment;
        let mut sets = self.active(&self.all(new));
        let allowed = if deployment.replicas > 0 {
            deployment.replicas.saturating_add(max_surge(deployment))
        } else {
            0
        };
        let to_add = allowed - self.size(&sets);
        let largest = |i: usize| Reverse(self.sets[i].row.replicas);
        let age = |i: usize| age_key(&self.sets[i].row);
        // The largest first; of equal ones the newest grows and the oldest shrinks first.
        if to_add > 0 {
            sets.sort_by_cached_key(|i| (largest(*i), Reverse(age(*i))));
        } else if to_add < 0 {
            sets.sort_by_cached_key(|i| (largest(*i), age(*i)));
        }
        let mut added = 0;
        let mut sizes = BTreeMap::new();
        for i in &sets {
            let set = &self.sets[*i].row;
            let more = proportion(set, deployment, to_add, added);
            sizes.insert(*i, set.replicas + more);
            added += more;
        }
        // What rounding left over goes to the largest.
        if let Some(first) = sets.first()
            && let Some(size) = sizes.get_mut(first)
        {
            *size = (*size + to_add - added).max(0);
        }
        for i in sets {
            self.scale_set(i, sizes[&i], true);
        }
    }

    /// `scaleReplicaSet`: whether the size changes. A forced update also refreshes the annotations
    /// of a ReplicaSet that keeps its size.
    pub(super) fn scale_set(&mut self, at: usize, size: i32, force: bool) -> bool {
        let set = &mut self.sets[at].row;
        let before = set.replicas;
        let resized = before != size;
        let annotations = with_sizes(&set.meta.annotations, &self.deployment);
        if !resized && (!force || annotations == set.meta.annotations) {
            return false;
        }
        set.replicas = size;
        set.meta.annotations = annotations;
        let direction = if before < size { "up" } else { "down" };
        let name = &set.meta.name;
        let message = format!("Scaled {direction} replica set {name} from {before} to {size}");
        self.write_set(at, "scale a version");
        if resized {
            let told = event(&self.deployment, "ScalingReplicaSet", message, false);
            self.plan.event(told);
        }
        resized
    }

    /// `cleanupDeployment`: old versions beyond the history limit go, oldest revision first.
    pub(super) fn clean_up(&mut self, new: Option<usize>) {
        let limit = self.deployment.history_limit;
        if limit == i32::MAX {
            return;
        }
        let mut old = self.old(new);
        old.retain(|i| !self.sets[*i].row.meta.deleting());
        let limit = usize::try_from(limit).unwrap_or(0);
        let excess = old.len().saturating_sub(limit);
        // Upstream compares by age when either revision is not a number.
        old.sort_by(|a, b| {
            let [a, b] = [a, b].map(|i| &self.sets[*i].row);
            let revisions = [a, b].map(|set| revision(&set.meta.annotations));
            let by_revision = match revisions {
                [Some(a), Some(b)] => a.cmp(&b),
                _ => std::cmp::Ordering::Equal,
            };
            by_revision.then_with(|| age_key(a).cmp(&age_key(b)))
        });
        for i in old.into_iter().take(excess) {
            let set = &self.sets[i];
            let status = &set.row.status;
            let unused = status.replicas == 0
                && set.row.replicas == 0
                && set.row.meta.generation <= status.observed_generation;
            if let (true, Some(id)) = (unused, set.id) {
                let write = Write::Delete {
                    object: id.into(),
                    uid: None,
                    grace_s: None,
                    propagation: Propagation::Background,
                };
                self.plan.write(write, "beyond revisionHistoryLimit");
            }
        }
    }
}
