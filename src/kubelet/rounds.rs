//! What the kubelet does in rounds over its pods: the relist, the status batch, the clean-up.
//!
//! A node keeps pods that have ended for as long as the API server does, and there may be many more
//! of these than of those that run. A round visits only pods that it may find something to do for:
//! whoever acts on a pod notes it in [`Rounds`], and a round that finds nothing takes it out. What a
//! round asks is a function of the pod alone, so a pod that nobody acted on since would be found as
//! it was; a test build visits all pods and asserts that.

use smallvec::SmallVec;

use super::agent::Kubelet;
use super::host::Cx;
use super::pod_worker::{Copy, End, PodWorker, Work};
use crate::api::Pod;
use crate::engine::Time;
use crate::store::Id;

/// A few pods in the order of their numbers, which is that of creation.
#[derive(Debug, Default)]
pub(super) struct Few(SmallVec<[Id<Pod>; 4]>);

impl Few {
    /// Adds a pod or takes it out.
    fn set(&mut self, id: Id<Pod>, wanted: bool) {
        match (self.0.binary_search(&id), wanted) {
            (Err(at), true) => self.0.insert(at, id),
            (Ok(at), false) => drop(self.0.remove(at)),
            _ => {}
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Id<Pod>> {
        self.0.iter().copied()
    }
}

/// Which pods a round has to visit.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// Pods that a relist may find changed.
    relist: Few,
    /// Pods whose status a batch may have to send.
    batch: Few,
    /// Pods that have not ended.
    pub(super) alive: Few,
}

/// In which lists of [`Rounds`] a pod stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Noted {
    relist: bool,
    batch: bool,
    alive: bool,
}

/// What a relist acts on.
fn stirred(pod: &PodWorker) -> bool {
    pod.lag.is_some() || pod.pending
}

impl Rounds {
    /// Somebody acted on the pod.
    pub(super) fn note(&mut self, pod: &mut PodWorker) {
        let now = Noted {
            relist: stirred(pod),
            batch: pod.needs_update() || matches!(pod.status, Copy::Own(_)),
            alive: pod.work < Work::Terminated,
        };
        let before = std::mem::replace(&mut pod.noted, now);
        if before.relist != now.relist {
            self.relist.set(pod.id, now.relist);
        }
        if before.batch != now.batch {
            self.batch.set(pod.id, now.batch);
        }
        if before.alive != now.alive {
            self.alive.set(pod.id, now.alive);
        }
    }

    /// The pod is gone.
    pub(super) fn forget(&mut self, id: Id<Pod>) {
        for pods in [&mut self.relist, &mut self.batch, &mut self.alive] {
            pods.set(id, false);
        }
    }
}

impl Kubelet {
    /// All pods are to be visited again.
    pub(super) fn note_all(&mut self) {
        self.rounds = Rounds::default();
        for pod in self.pods.values_mut() {
            pod.noted = Noted::default();
            self.rounds.note(pod);
        }
    }

    /// `pkg/kubelet/pleg/generic.go :: Relist`.
    pub(super) fn relist(&mut self, cx: &mut Cx<'_>) {
        if self.host.relist_at != cx.now {
            return;
        }
        self.host.relist_at = Time::MAX;
        let pods: SmallVec<[Id<Pod>; 8]> = self.rounds.relist.iter().collect();
        debug_assert!(
            self.pods
                .values()
                .filter(|pod| stirred(pod))
                .map(|pod| pod.id)
                .eq(pods.iter().copied()),
            "a relist would have found others"
        );
        for pod in pods {
            self.with(pod, cx, PodWorker::on_relist);
        }
    }

    /// `status_manager.go :: syncBatch(all)`.
    pub(super) fn batch(&mut self, cx: &mut Cx<'_>) {
        if self.host.batch_at != cx.now {
            return;
        }
        self.host.batch_at = Time::MAX;
        debug_assert!(
            (self.pods.values())
                .filter(|pod| pod.needs_update() || pod.needs_reconcile())
                .all(|pod| self.rounds.batch.0.binary_search(&pod.id).is_ok()),
            "a batch would have found others"
        );
        let Kubelet {
            rounds, pods, host, ..
        } = self;
        rounds.batch.0.retain(|id| {
            let Some(pod) = pods.get_mut(id) else {
                return false;
            };
            if !pod.needs_update() && pod.needs_reconcile() {
                pod.sent = pod.version.wrapping_sub(1);
            }
            let unsettled = pod.needs_update();
            if unsettled {
                pod.queue_status(host);
            }
            pod.noted.batch = unsettled;
            unsettled
        });
    }

    /// `HandlePodCleanups`, as far as pods are concerned that the API server does not have.
    pub(super) fn housekeeping(&mut self, cx: &mut Cx<'_>) {
        let orphans: Vec<Id<Pod>> = self
            .pods
            .values()
            .filter(|pod| !pod.in_config && pod.work == Work::Sync)
            .map(|pod| pod.id)
            .collect();
        for pod in orphans {
            let end = End {
                grace_s: Some(1),
                ending: None,
            };
            self.with(pod, cx, |pod, host, cx| pod.update(host, cx, Some(end)));
        }
    }
}
