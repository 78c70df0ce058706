//! Renewals of leases on their way: at most one of each node.
//!
//! A large cluster does little else, and each is about another node than the one before: so what is
//! kept of a node's is one line of the processor's cache.

use std::time::Duration;

use super::api_server::there;
use crate::engine::Time;
use crate::kubelet::Renew;
use crate::load::Key;

/// A renewal of a lease on its way.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub struct Renewing {
    /// What the kubelet asked for.
    pub renew: Renew,
    /// When it was sent.
    pub sent: Time,
    /// From its arrival to the answer, in nanoseconds.
    pub(super) back_ns: u64,
    /// Key of the lease's draws.
    pub(super) about: u64,
}

const _: () = assert!(size_of::<Option<Renewing>>() == 64);

impl Renewing {
    /// From its arrival to the answer.
    pub fn back(&self) -> Duration {
        Duration::from_nanos(self.back_ns)
    }

    /// It is sent, and takes so long with its answer; returns when it arrives.
    pub(super) fn set_out(&mut self, sent: Time, latency_ns: u64) -> Time {
        self.sent = sent;
        (self.renew.tries, self.renew.late) = (0, false);
        self.back_ns = latency_ns / 4;
        sent.plus_nanos(there(latency_ns))
    }
}

/// By node.
#[derive(Debug, Default)]
pub(super) struct Renewals {
    under_way: Vec<Option<Renewing>>,
    /// How many series have begun.
    begun: u32,
}

impl Renewals {
    /// A series of a node begins, in place of the one before.
    pub(super) fn begin(&mut self, mut renewing: Renewing) -> Key {
        self.begun = self.begun.wrapping_add(1);
        renewing.renew.series = self.begun;
        let slot = renewing.renew.machine;
        let at = slot as usize;
        if self.under_way.len() <= at {
            self.under_way.resize(at + 1, None);
        }
        self.under_way[at] = Some(renewing);
        Key {
            slot,
            generation: self.begun,
        }
    }

    /// What has this key, if it was not ended.
    #[inline]
    pub(super) fn get(&self, key: Key) -> Option<&Renewing> {
        let renewing = self.of(key.slot)?;
        (renewing.renew.series == key.generation).then_some(renewing)
    }

    /// What has this key, to change.
    #[inline]
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Renewing> {
        let renewing = self.of_mut(key.slot)?;
        (renewing.renew.series == key.generation).then_some(renewing)
    }

    /// That of a node.
    #[inline]
    fn of(&self, node: u32) -> Option<&Renewing> {
        self.under_way.get(node as usize)?.as_ref()
    }

    /// That of a node, to change.
    #[inline]
    fn of_mut(&mut self, node: u32) -> Option<&mut Renewing> {
        self.under_way.get_mut(node as usize)?.as_mut()
    }

    /// Takes one out.
    pub(super) fn end(&mut self, key: Key) -> Option<Renewing> {
        self.get(key)?;
        self.under_way[key.slot as usize].take()
    }

    /// The kubelet of a node stops: what it sent up to `now` is under way still, and nothing follows.
    pub(super) fn stop(&mut self, node: u32, now: Time) {
        let Some(renewing) = self.of_mut(node) else {
            return;
        };
        renewing.renew.last = true;
        if renewing.sent > now {
            self.under_way[node as usize] = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_one_series_and_a_key_of_an_earlier_one_finds_nothing() {
        let mut renewals = Renewals::default();
        let mut begin = |machine, second| {
            renewals.begin(Renewing {
                renew: Renew::some(machine),
                sent: Time::from_secs(second),
                back_ns: 1,
                about: 2,
            })
        };
        let (first, other, second) = (begin(7, 1), begin(3, 1), begin(7, 2));
        assert!(renewals.get(first).is_none() && renewals.end(first).is_none());
        assert_eq!(
            renewals.get(second).map(|r| r.sent),
            Some(Time::from_secs(2))
        );
        assert_eq!(renewals.get(other).map(|r| r.renew.machine), Some(3));
        // One that is under way arrives, one that is still to be sent is not.
        renewals.stop(7, Time::from_secs(2));
        assert_eq!(renewals.get_mut(second).map(|r| r.renew.last), Some(true));
        renewals.stop(3, Time::ZERO);
        assert!(renewals.get(other).is_none());
        assert!(renewals.end(second).is_some() && renewals.get(second).is_none());
        renewals.stop(7, Time::ZERO);
        renewals.stop(99, Time::ZERO);
    }
}
