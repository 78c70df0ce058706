//! Rolling updates: new pods first as far as the surge allows, then old ones go as far as enough
//! pods stay available; `rolling.go`.

use super::scale::max_unavailable;
use super::sync::Sync;
use crate::api::Deployment;
use crate::api::workload::Strategy;

/// `NewRSNewReplicas`: the size of the new ReplicaSet, when all ReplicaSets together have `total`
/// pods and it has `size` of them.
pub(super) fn new_size(deployment: &Deployment, total: i32, size: i32) -> i32 {
    let Strategy::RollingUpdate { max_surge, .. } = deployment.strategy else {
        return deployment.replicas;
    };
    let surge = max_surge.scaled(deployment.replicas, true);
    let max_total = deployment.replicas.saturating_add(surge);
    if total >= max_total {
        return size;
    }
    size + (max_total - total).min(deployment.replicas - size)
}

impl Sync<'_> {
    /// `rolloutRolling`.
    pub(super) fn rollout_rolling(&mut self) {
        let new = self.newest(true);
        let Some(at) = new else { return };
        let moved = self.reconcile_new(at) || self.reconcile_old(at);
        if !moved && super::progress::complete(&self.deployment, &self.deployment.status) {
            self.clean_up(new);
        }
        self.sync_rollout_status(&self.all(new), new);
    }

    /// `reconcileNewReplicaSet`.
    fn reconcile_new(&mut self, new: usize) -> bool {
        let (size, wanted) = (self.sets[new].row.replicas, self.deployment.replicas);
        if size == wanted {
            return false;
        }
        if size > wanted {
            return self.scale_set(new, wanted, false);
        }
        let total = self.size(&self.all(Some(new)));
        self.scale_set(new, new_size(&self.deployment, total, size), false)
    }

    /// `reconcileOldReplicaSets`: unhealthy pods first, they are not missed; then healthy ones, as
    /// many as more than enough are available.
    fn reconcile_old(&mut self, new: usize) -> bool {
        let old = self.active(&self.old(Some(new)));
        if self.size(&old) == 0 {
            return false;
        }
        let min_available = self.deployment.replicas - max_unavailable(&self.deployment);
        let set = &self.sets[new].row;
        let new_unavailable = set.replicas - set.status.available;
        let all = self.size(&self.all(Some(new)));
        let may_go = all - min_available - new_unavailable;
        if may_go <= 0 {
            return false;
        }
        let Some(unhealthy) = self.remove_unhealthy(&old, may_go) else {
            return false;
        };
        let healthy = self.remove_old(&old, new, min_available);
        unhealthy + healthy > 0
    }

    /// `cleanupUnhealthyReplicas`; returns how many pods go, `None` when more are available than
    /// were asked for: then upstream gives up until the ReplicaSet reports again.
    fn remove_unhealthy(&mut self, old: &[usize], may_go: i32) -> Option<i32> {
        let mut gone = 0;
        for i in old {
            if gone >= may_go {
                break;
            }
            let set = &self.sets[*i].row;
            let unhealthy = set.replicas - set.status.available;
            if set.replicas == 0 || unhealthy == 0 {
                continue;
            }
            let fewer = unhealthy.min(may_go - gone);
            if fewer < 0 {
                return None;
            }
            self.scale_set(*i, self.sets[*i].row.replicas - fewer, false);
            gone += fewer;
        }
        Some(gone)
    }

    /// `scaleDownOldReplicaSetsForRollingUpdate`; returns how many pods go.
    fn remove_old(&mut self, old: &[usize], new: usize, min_available: i32) -> i32 {
        let mut all = old.to_vec();
        all.push(new);
        let may_go = self.available(&all) - min_available;
        let mut gone = 0;
        for i in old {
            if gone >= may_go {
                break;
            }
            let size = self.sets[*i].row.replicas;
            if size == 0 {
                continue;
            }
            let fewer = size.min(may_go - gone);
            self.scale_set(*i, size - fewer, false);
            gone += fewer;
        }
        gone
    }
}
