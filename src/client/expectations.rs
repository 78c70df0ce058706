//! What a controller expects to see before it trusts its view again.
//!
//! A view lags behind the writes. A controller that counted its pods right after creating some
//! would create them twice; so it remembers how many creations and deletions it asked for, counts
//! those that its view shows, and does not act on the key before they match (or before five
//! minutes have passed, in case something was lost).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::api::Uid;
use crate::engine::Time;

/// `pkg/controller/controller_utils.go :: ExpectationsTimeout`.
pub const EXPECTATIONS_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// What is still to be seen for one key; negative counts mean that more was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Expected {
    adds: i64,
    dels: i64,
    since: Time,
}

/// `pkg/controller/controller_utils.go :: ControllerExpectations`.
#[derive(Clone, Debug)]
pub struct Expectations<K>(BTreeMap<K, Expected>);

impl<K> Default for Expectations<K> {
    fn default() -> Self {
        Expectations(BTreeMap::new())
    }
}

impl<K: Copy + Ord> Expectations<K> {
    /// Whether all that was expected for `key` was seen, or nothing was expected, or it took too
    /// long (`SatisfiedExpectations`).
    pub fn satisfied(&self, key: K, now: Time) -> bool {
        self.0.get(&key).is_none_or(|e| {
            (e.adds <= 0 && e.dels <= 0) || now.since(e.since) > EXPECTATIONS_TIMEOUT
        })
    }

    /// Expects so many creations and deletions, instead of what was expected before.
    pub fn set(&mut self, key: K, adds: usize, dels: usize, now: Time) {
        let count = |n| i64::try_from(n).unwrap_or(i64::MAX);
        let expected = Expected {
            adds: count(adds),
            dels: count(dels),
            since: now,
        };
        self.0.insert(key, expected);
    }

    /// Expects creations (`ExpectCreations`).
    pub fn expect_creations(&mut self, key: K, adds: usize, now: Time) {
        self.set(key, adds, 0, now);
    }

    /// Expects deletions (`ExpectDeletions`).
    pub fn expect_deletions(&mut self, key: K, dels: usize, now: Time) {
        self.set(key, 0, dels, now);
    }

    /// Expects more (`RaiseExpectations`).
    pub fn raise(&mut self, key: K, adds: i64, dels: i64) {
        if let Some(e) = self.0.get_mut(&key) {
            e.adds += adds;
            e.dels += dels;
        }
    }

    /// Expects less (`LowerExpectations`).
    pub fn lower(&mut self, key: K, adds: i64, dels: i64) {
        self.raise(key, -adds, -dels);
    }

    /// A creation was seen, or failed.
    pub fn creation_observed(&mut self, key: K) {
        self.lower(key, 1, 0);
    }

    /// A deletion was seen, or failed.
    pub fn deletion_observed(&mut self, key: K) {
        self.lower(key, 0, 1);
    }

    /// Creations and deletions still to be seen for `key`.
    pub fn pending(&self, key: K) -> Option<(i64, i64)> {
        self.0.get(&key).map(|e| (e.adds, e.dels))
    }

    /// Forgets `key` (`DeleteExpectations`).
    pub fn delete(&mut self, key: K) {
        self.0.remove(&key);
    }
}

/// `pkg/controller/controller_utils.go :: UIDTrackingControllerExpectations`: knows which deletions
/// it waits for, since a graceful deletion is seen twice (as a mark, and as a removal).
#[derive(Clone, Debug)]
pub struct UidExpectations<K> {
    counts: Expectations<K>,
    uids: BTreeMap<K, BTreeSet<Uid>>,
}

impl<K> Default for UidExpectations<K> {
    fn default() -> Self {
        UidExpectations {
            counts: Expectations::default(),
            uids: BTreeMap::new(),
        }
    }
}

impl<K: Copy + Ord> UidExpectations<K> {
    /// As [`Expectations::satisfied`].
    pub fn satisfied(&self, key: K, now: Time) -> bool {
        self.counts.satisfied(key, now)
    }

    /// As [`Expectations::expect_creations`].
    pub fn expect_creations(&mut self, key: K, adds: usize, now: Time) {
        self.counts.expect_creations(key, adds, now);
    }

    /// Expects the deletion of these objects.
    pub fn expect_deletions(&mut self, key: K, uids: impl IntoIterator<Item = Uid>, now: Time) {
        let uids: BTreeSet<Uid> = uids.into_iter().collect();
        self.counts.expect_deletions(key, uids.len(), now);
        self.uids.insert(key, uids);
    }

    /// As [`Expectations::creation_observed`].
    pub fn creation_observed(&mut self, key: K) {
        self.counts.creation_observed(key);
    }

    /// The deletion of `uid` was seen or failed; counts once, and only if it was expected.
    pub fn deletion_observed(&mut self, key: K, uid: Uid) {
        if self.uids.get_mut(&key).is_some_and(|u| u.remove(&uid)) {
            self.counts.deletion_observed(key);
        }
    }

    /// As [`Expectations::pending`].
    pub fn pending(&self, key: K) -> Option<(i64, i64)> {
        self.counts.pending(key)
    }

    /// As [`Expectations::delete`].
    pub fn delete(&mut self, key: K) {
        self.counts.delete(key);
        self.uids.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_waits_until_everything_expected_was_seen() {
        let mut e = Expectations::<u8>::default();
        assert!(e.satisfied(1, Time::ZERO), "nothing was expected");
        e.expect_creations(1, 2, Time::ZERO);
        e.creation_observed(1);
        assert_eq!(
            (e.satisfied(1, Time::ZERO), e.pending(1)),
            (false, Some((1, 0)))
        );
        e.creation_observed(1);
        e.creation_observed(1);
        assert_eq!(
            (e.satisfied(1, Time::ZERO), e.pending(1)),
            (true, Some((-1, 0)))
        );
        e.creation_observed(2);
        assert_eq!(e.pending(2), None, "sightings for unknown keys are nothing");
    }

    #[test]
    fn a_new_expectation_replaces_the_old_one() {
        let mut e = Expectations::<u8>::default();
        e.expect_creations(1, 5, Time::ZERO);
        e.expect_deletions(1, 1, Time::ZERO);
        assert_eq!(e.pending(1), Some((0, 1)));
        e.raise(1, 1, 1);
        assert_eq!(e.pending(1), Some((1, 2)));
        e.delete(1);
        assert!(e.satisfied(1, Time::ZERO));
    }

    #[test]
    fn after_five_minutes_the_view_is_trusted_again() {
        let mut e = Expectations::<u8>::default();
        e.expect_creations(1, 1, Time::from_secs(10));
        assert!(!e.satisfied(1, Time::from_secs(310)));
        assert!(e.satisfied(1, Time::from_nanos(310_000_000_001)));
    }

    #[test]
    fn a_graceful_deletion_counts_once() {
        let mut e = UidExpectations::<u8>::default();
        e.expect_deletions(1, [Uid(7), Uid(8)], Time::ZERO);
        e.deletion_observed(1, Uid(7));
        e.deletion_observed(1, Uid(7));
        e.deletion_observed(1, Uid(9));
        assert_eq!(e.pending(1), Some((0, 1)));
        e.deletion_observed(1, Uid(8));
        assert!(e.satisfied(1, Time::ZERO));
    }
}
