//! Replacing pods of an old revision, within the bounds of surge and unavailability.
//!
//! `pkg/controller/daemon/update.go :: rollingUpdate`. Without surge old pods are deleted and
//! `manage` makes new ones; with surge new pods are made beside the old ones, which go when the new
//! ones are available.

use std::sync::Arc;

use super::nodes::ByNode;
use super::round::{Round, Wanted};
use crate::api::stateful::DaemonStrategy;
use crate::api::{Pod, Text};
use crate::control::pods;
use crate::store::Id;

type Found<'a> = (Id<Pod>, &'a Arc<Pod>);

impl<'a> Round<'a> {
    /// `rollingUpdate`.
    ///
    /// # Errors
    /// When old pods are on a node that is gone, which is not known to need none.
    pub(super) fn rolling_update(&mut self, mut by_node: ByNode<'a>) -> Result<Wanted<'a>, String> {
        let (surge, unavailable, desired) = self.bounds(&mut by_node);
        if surge == 0 {
            Ok(self.replace(&by_node, unavailable))
        } else {
            self.surge(&by_node, surge, desired)
        }
    }

    /// `updatedDesiredNodeCounts`: surge, unavailable, and the nodes that should have a pod. Nodes
    /// that should and do not are added to the map.
    fn bounds(&self, by_node: &mut ByNode<'a>) -> (usize, usize, usize) {
        let mut desired = 0;
        for node in &self.nodes {
            if self.judge.should_run(node).0 {
                desired += 1;
                by_node.entry(&node.meta.name).or_default();
            }
        }
        let DaemonStrategy::RollingUpdate {
            max_surge,
            max_unavailable,
        } = self.set.strategy
        else {
            return (0, 0, desired);
        };
        let of = |bound: crate::api::int_or_percent::IntOrPercent| {
            let total = i32::try_from(desired).unwrap_or(i32::MAX);
            usize::try_from(bound.scaled(total, true)).unwrap_or(0)
        };
        let (surge, mut unavailable) = (of(max_surge), of(max_unavailable));
        if desired > 0 && surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        (surge, unavailable, desired)
    }

    fn available(&self, pod: &Pod) -> bool {
        pods::available(pod, self.set.min_ready_s, self.now)
    }

    /// `findUpdatedPodsOnNode`: the new and the old pod of a node; `None` when there are several of
    /// one sort.
    fn new_and_old(&self, pods: &[Found<'a>]) -> Option<(Option<Found<'a>>, Option<Found<'a>>)> {
        let (mut new, mut old) = (None, None);
        for pod in pods.iter().filter(|(_, pod)| !pod.meta.deleting()) {
            let place = if self.updated(pod.1) {
                &mut new
            } else {
                &mut old
            };
            if place.replace(*pod).is_some() {
                return None;
            }
        }
        Some((new, old))
    }

    fn replace(&self, by_node: &ByNode<'a>, max_unavailable: usize) -> Wanted<'a> {
        let mut unavailable = 0;
        let (mut replaced, mut candidates) = (Vec::new(), Vec::new());
        for pods in by_node.values() {
            match self.new_and_old(pods) {
                Some((Some(new), None)) => {
                    unavailable += usize::from(!self.available(new.1));
                }
                Some((None, Some(old))) => {
                    if !self.available(old.1) {
                        replaced.push(old);
                        unavailable += 1;
                    } else if unavailable < max_unavailable {
                        candidates.push(old);
                    }
                }
                _ => unavailable += 1,
            }
        }
        candidates.truncate(max_unavailable.saturating_sub(unavailable));
        replaced.extend(candidates);
        Wanted {
            deletions: replaced,
            creations: Vec::new(),
        }
    }

    fn surge(
        &self,
        by_node: &ByNode<'a>,
        max_surge: usize,
        desired: usize,
    ) -> Result<Wanted<'a>, String> {
        let mut wanted = Wanted::default();
        let (mut misplaced, mut candidates): (Vec<Found<'a>>, Vec<&'a Text>) = Default::default();
        let (mut surging, mut available) = (0, 0);
        for (name, pods) in by_node {
            let Some((new, old)) = self.new_and_old(pods) else {
                surging += 1;
                continue;
            };
            let serves = old.or(new).is_some_and(|pod| self.available(pod.1));
            available += usize::from(serves);
            let Some(old) = old else { continue };
            if let Some(new) = new {
                match self.available(new.1) {
                    true => wanted.deletions.push(old),
                    false => surging += 1,
                }
                continue;
            }
            // The rollout waits until the pod of a node that is gone is gone, too.
            let node = self.view.nodes().named(&Text::default(), name);
            let (_, node) = node.ok_or_else(|| {
                format!("couldn't get node for nodeName \"{name}\": node \"{name}\" not found")
            })?;
            let runs = self.judge.should_run(node).0;
            match (self.available(old.1), runs) {
                (false, false) => wanted.deletions.push(old),
                (false, true) => wanted.creations.push(name),
                (true, false) => misplaced.push(old),
                (true, true) if surging < max_surge => candidates.push(name),
                (true, true) => {}
            }
        }
        // Where pods should no longer be they stay until there are enough elsewhere.
        misplaced.truncate(available.saturating_sub(desired));
        wanted.deletions.extend(misplaced);
        candidates.truncate(max_surge.saturating_sub(surging));
        wanted.creations.extend(candidates);
        Ok(wanted)
    }
}
