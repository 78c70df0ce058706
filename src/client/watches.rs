//! Which changes a controller has handlers for.
//!
//! A process delivers every change of its watches once, and two dozen controllers share it. Most
//! changes are of pods and concern two or three of them: a pod that a ReplicaSet owns is nothing to
//! the Job controller, and a pod's new phase is nothing to whoever evicts from tainted nodes. So each
//! controller declares what it looks at ([`Controller::WATCHES`](super::Controller::WATCHES)), and
//! what a change is about is found out once ([`Watches::of`]). Where the two have nothing in common
//! the controller is not asked.
//!
//! A declaration may be too wide, which costs time; it must never be too narrow: what a handler would
//! have queued or noted must not depend on it. `tests/cluster/watches.rs` runs clusters both ways.

use crate::api::pod_status::PodConditionKind;
use crate::api::{
    DaemonSet, Job, Kind, Meta, PersistentVolume, PersistentVolumeClaim, Pod, PodDisruptionBudget,
    ReplicaSet, ResourceQuota, Service, StatefulSet,
};
use crate::store::{Change, Op, View};

/// A set of things that a change can be about: its kind, and more of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watches(u128);

/// Bits below are kinds.
const FIRST: u32 = 96;
const _: () = assert!(Kind::ALL.len() < FIRST as usize, "every kind has a bit");

const fn aspect(number: u32) -> Watches {
    Watches(1 << (FIRST + number))
}

impl Watches {
    /// All changes of everything.
    pub const EVERYTHING: Watches = Watches(u128::MAX);
    /// Pods that are new or gone, have come to a node or got other tolerations.
    pub const MOVED_PODS: Watches = aspect(0);
    /// Pods with finalizers.
    pub const HELD_PODS: Watches = aspect(1);
    /// Pods with a condition that says that they are to be disrupted.
    pub const DISRUPTED_PODS: Watches = aspect(2);
    /// New pods with volumes.
    pub const NEW_PODS_WITH_VOLUMES: Watches = aspect(3);
    /// Pods of ReplicaSets, and those of nobody while there are ReplicaSets.
    pub const PODS_OF_REPLICA_SETS: Watches = aspect(4);
    /// Pods of StatefulSets, and those of nobody while there are StatefulSets.
    pub const PODS_OF_STATEFUL_SETS: Watches = aspect(5);
    /// Pods of DaemonSets, and those of nobody while there are DaemonSets.
    pub const PODS_OF_DAEMON_SETS: Watches = aspect(6);
    /// Pods of Jobs, and those of nobody while there are Jobs.
    pub const PODS_OF_JOBS: Watches = aspect(7);
    /// Pods while there are Services.
    pub const PODS_WITH_SERVICES: Watches = aspect(8);
    /// Pods while there are PodDisruptionBudgets.
    pub const PODS_WITH_BUDGETS: Watches = aspect(9);
    /// Pods while there are PersistentVolumeClaims.
    pub const PODS_WITH_CLAIMS: Watches = aspect(10);
    /// Pods while there are PersistentVolumes.
    pub const PODS_WITH_VOLUMES: Watches = aspect(11);
    /// Everything while there are ResourceQuotas.
    pub const EVERYTHING_WITH_QUOTAS: Watches = aspect(12);
    /// Pods that have ended, are to go or are gone, and that were so before.
    pub const ENDING_PODS: Watches = aspect(13);

    /// All changes of this kind.
    pub const fn kind(kind: Kind) -> Watches {
        Watches(1 << kind as u32)
    }

    /// These and those.
    #[must_use]
    pub const fn and(self, others: Watches) -> Watches {
        Watches(self.0 | others.0)
    }

    /// What a change is about; the view has it already.
    pub fn of(change: &Change, view: &View) -> Watches {
        let mut about = Watches::kind(change.kind());
        about.also(Self::EVERYTHING_WITH_QUOTAS, || {
            !view.of::<ResourceQuota>().is_empty()
        });
        match change.rows::<Pod>() {
            None => about,
            Some((old, Some(pod))) => {
                about.pod(change.op, old, pod, view);
                about
            }
            Some((_, None)) => Watches::EVERYTHING,
        }
    }

    #[inline]
    fn also(&mut self, watches: Watches, holds: impl FnOnce() -> bool) {
        if holds() {
            self.0 |= watches.0;
        }
    }

    fn pod(&mut self, op: Op, old: Option<&Pod>, pod: &Pod, view: &View) {
        self.also(Self::MOVED_PODS, || {
            op == Op::Delete || old.is_none_or(|old| moved(old, pod))
        });
        self.also(Self::HELD_PODS, || !pod.meta.finalizers.is_empty());
        self.also(Self::DISRUPTED_PODS, || {
            let target = PodConditionKind::DisruptionTarget;
            pod.status.condition(&target).is_some()
        });
        self.also(Self::NEW_PODS_WITH_VOLUMES, || {
            op == Op::Create && !pod.spec.volumes.is_empty()
        });
        self.also(Self::ENDING_PODS, || {
            op == Op::Delete || ending(pod) || old.is_some_and(ending)
        });
        self.owned(&pod.meta, view);
        if let Some(old) = old
            && old.meta.owners != pod.meta.owners
        {
            self.owned(&old.meta, view);
        }
        self.also(Self::PODS_WITH_SERVICES, || {
            !view.of::<Service>().is_empty()
        });
        self.also(Self::PODS_WITH_BUDGETS, || {
            !view.of::<PodDisruptionBudget>().is_empty()
        });
        self.also(Self::PODS_WITH_CLAIMS, || {
            !view.of::<PersistentVolumeClaim>().is_empty()
        });
        self.also(Self::PODS_WITH_VOLUMES, || {
            !view.of::<PersistentVolume>().is_empty()
        });
    }

    /// Whose it is, or who might adopt it.
    fn owned(&mut self, pod: &Meta, view: &View) {
        let owner = pod.controller().map(|owner| owner.kind);
        let mut concerns = |watches, kind, none: bool| {
            let hit = owner.map_or(!none, |owner| owner == kind);
            self.also(watches, || hit);
        };
        let none = view.of::<ReplicaSet>().is_empty();
        concerns(Self::PODS_OF_REPLICA_SETS, Kind::ReplicaSet, none);
        let none = view.of::<StatefulSet>().is_empty();
        concerns(Self::PODS_OF_STATEFUL_SETS, Kind::StatefulSet, none);
        let none = view.of::<DaemonSet>().is_empty();
        concerns(Self::PODS_OF_DAEMON_SETS, Kind::DaemonSet, none);
        let none = view.of::<Job>().is_empty();
        concerns(Self::PODS_OF_JOBS, Kind::Job, none);
    }
}

/// Which controllers look at what.
#[derive(Clone, Debug)]
pub struct Audience {
    /// By the number of a bit of [`Watches`]: the controllers, by their place in the list.
    by_bit: Vec<u64>,
}

impl Audience {
    /// The audience of controllers that look at these, in this order. There are at most 64.
    pub fn new(watches: impl Iterator<Item = Watches>) -> Audience {
        let mut by_bit = vec![0; u128::BITS as usize];
        for (which, watches) in (0u32..).zip(watches) {
            assert!(which < u64::BITS, "more controllers than a word has bits");
            for (bit, whom) in by_bit.iter_mut().enumerate() {
                *whom |= u64::from(watches.0 >> bit & 1 == 1) << which;
            }
        }
        Audience { by_bit }
    }

    /// Whom a change about this concerns, in their order.
    pub fn of(&self, about: Watches) -> impl Iterator<Item = u8> + use<> {
        let (mut bits, mut whom) = (about.0, 0);
        while bits != 0 {
            whom |= self.by_bit[bits.trailing_zeros() as usize];
            bits &= bits - 1;
        }
        std::iter::from_fn(move || {
            let which = whom.trailing_zeros();
            whom &= whom.wrapping_sub(1);
            (which < u64::BITS).then_some(which as u8)
        })
    }
}

fn moved(old: &Pod, new: &Pod) -> bool {
    let alike = std::sync::Arc::ptr_eq(&old.spec, &new.spec)
        || old.spec.tolerations == new.spec.tolerations;
    !alike || old.node_name != new.node_name
}

fn ending(pod: &Pod) -> bool {
    pod.status.phase.terminal() || pod.meta.deleting()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Draws, Purpose};

    #[test]
    fn an_audience_is_whoever_looks_at_something_that_a_change_is_about() {
        const TEST: Purpose = Purpose::new("test/watches");
        let stream = &mut Draws::new(1).stream(TEST, 0);
        // Few bits of many, so that some have nothing in common.
        let mut some = |of: u64| {
            let bits = (0..of).map(|_| 1u128 << stream.below(u64::from(u128::BITS)));
            Watches(bits.fold(0, |all, bit| all | bit))
        };
        let watches: Vec<Watches> = (0..25).map(|n| some(n % 9)).collect();
        let audience = Audience::new(watches.iter().copied());
        let (mut alone, mut met) = (0, 0);
        for n in 0..500 {
            let about = match n % 50 {
                0 => Watches::EVERYTHING,
                n => some(n % 7),
            };
            let meets = |which: &u8| watches[usize::from(*which)].0 & about.0 != 0;
            let expected: Vec<u8> = (0..25).filter(meets).collect();
            let found: Vec<u8> = audience.of(about).collect();
            assert_eq!(found, expected, "{about:?}");
            alone += usize::from(found.is_empty());
            met += found.len();
        }
        assert!(alone > 50 && met > 500, "{alone} {met}");
    }
}
