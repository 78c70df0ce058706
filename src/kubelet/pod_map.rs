//! The pods of one node, by number: few, in order, and mostly added at the end.

use super::pod_worker::PodWorker;
use crate::api::Pod;
use crate::store::Id;

/// So many of the newest pods are looked at one by one.
const RECENT: usize = 4;

/// A sorted list with the face of an ordered map.
#[derive(Debug, Default)]
pub(super) struct PodMap(Vec<(Id<Pod>, Box<PodWorker>)>);

impl PodMap {
    fn find(&self, id: &Id<Pod>) -> Result<usize, usize> {
        // Pods that run are mostly newer than those that have ended, so it is one of the last.
        let (old, new) = self.0.split_at(self.0.len().saturating_sub(RECENT));
        match new.iter().rposition(|(known, _)| known <= id) {
            Some(at) if new[at].0 == *id => Ok(old.len() + at),
            Some(at) => Err(old.len() + at + 1),
            None => old.binary_search_by_key(id, |(id, _)| *id),
        }
    }

    /// The worker of a pod.
    pub(super) fn get(&self, id: &Id<Pod>) -> Option<&PodWorker> {
        self.find(id).ok().map(|at| &*self.0[at].1)
    }

    /// The workers of these pods, which are in order.
    pub(super) fn some(
        &self,
        pods: impl Iterator<Item = Id<Pod>>,
    ) -> impl Iterator<Item = &PodWorker> {
        let mut rest = self.0.iter();
        pods.filter_map(move |id| {
            // Mostly it comes right after the one before.
            let all = rest.as_slice();
            let next = all.first().is_some_and(|(first, _)| *first == id);
            let at = if next {
                0
            } else {
                all.partition_point(|(known, _)| *known < id)
            };
            rest = all[at..].iter();
            rest.as_slice().first().filter(|(known, _)| *known == id)?;
            rest.next().map(|(_, worker)| &**worker)
        })
    }

    /// The worker of a pod, to change.
    pub(super) fn get_mut(&mut self, id: &Id<Pod>) -> Option<&mut PodWorker> {
        let at = self.find(id).ok()?;
        Some(&mut self.0[at].1)
    }

    /// Adds a worker in place of one that the pod may have had.
    pub(super) fn insert(&mut self, id: Id<Pod>, worker: Box<PodWorker>) {
        match self.find(&id) {
            Ok(at) => self.0[at].1 = worker,
            Err(at) => self.0.insert(at, (id, worker)),
        }
    }

    /// Takes a worker out.
    pub(super) fn remove(&mut self, id: &Id<Pod>) -> Option<Box<PodWorker>> {
        let at = self.find(id).ok()?;
        Some(self.0.remove(at).1)
    }

    /// All workers in the order of their pods' numbers.
    pub(super) fn values(&self) -> impl Iterator<Item = &PodWorker> {
        self.0.iter().map(|(_, worker)| &**worker)
    }

    /// All workers, to change.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut PodWorker> {
        self.0.iter_mut().map(|(_, worker)| &mut **worker)
    }

    /// Keeps the workers that `keep` wants.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&PodWorker) -> bool) {
        self.0.retain(|(_, worker)| keep(worker));
    }
}
