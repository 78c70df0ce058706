//! Recreate: all old pods go, and only when the last is gone the new ones come; `recreate.go`.

use super::progress::complete;
use super::sync::Sync;

impl Sync<'_> {
    /// `rolloutRecreate`.
    pub(super) fn rollout_recreate(&mut self) {
        let mut new = self.newest(false);
        let mut scaled_down = false;
        for old in self.active(&self.old(new)) {
            scaled_down |= self.scale_set(old, 0, false);
        }
        if scaled_down || self.old_pods_running(new) {
            self.sync_rollout_status(&self.all(new), new);
            return;
        }
        if new.is_none() {
            new = self.newest(true);
        }
        if let Some(at) = new {
            self.scale_set(at, self.deployment.replicas, false);
        }
        if complete(&self.deployment, &self.deployment.status) {
            self.clean_up(new);
        }
        self.sync_rollout_status(&self.all(new), new);
    }

    /// `oldPodsRunning`: by what the old ReplicaSets report, and by the pods themselves, since those
    /// that are being deleted are reported no more.
    fn old_pods_running(&self, new: Option<usize>) -> bool {
        self.old(new).into_iter().any(|i| {
            let set = &self.sets[i].row;
            let mut pods = self.view.pods().owned_by(set.meta.uid);
            set.status.replicas > 0 || pods.any(|(_, pod)| !pod.status.phase.terminal())
        })
    }
}
