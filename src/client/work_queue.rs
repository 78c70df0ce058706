//! The queue of keys that wait for a sync.
//!
//! A key is in the queue at most once, and never while it is being synced: when something happens
//! to it meanwhile, it is queued again as soon as the sync is done. Keys can be added for later,
//! and failed ones come back with exponential back-off. Order is that of adding.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::budget::Budget;
use crate::engine::Time;

/// First back-off of a key; `workqueue.DefaultTypedControllerRateLimiter`.
pub const BASE_DELAY: Duration = Duration::from_millis(5);
/// Longest back-off of a key.
pub const MAX_DELAY: Duration = Duration::from_secs(1000);

/// `staging/src/k8s.io/client-go/util/workqueue`: queue, delaying queue and rate limiting queue.
#[derive(Clone, Debug)]
pub struct WorkQueue<K> {
    queue: VecDeque<K>,
    /// Needs a sync; those of them that are not being synced are in `queue`.
    dirty: BTreeSet<K>,
    /// No more than there are workers.
    processing: Vec<K>,
    /// Due times of keys added for later, with the order of adding as the tie-break.
    waiting: BTreeMap<K, (Time, u64)>,
    by_time: BTreeSet<(Time, u64, K)>,
    added: u64,
    failures: BTreeMap<K, u32>,
    overall: Budget,
    base_delay: Duration,
    max_delay: Duration,
}

impl<K: Copy + Ord> Default for WorkQueue<K> {
    fn default() -> Self {
        WorkQueue::with_back_off(BASE_DELAY, MAX_DELAY)
    }
}

impl<K: Copy + Ord> WorkQueue<K> {
    /// A queue whose failed keys wait `base`, then twice that and so on up to `max`; all retries
    /// together are limited to 10 a second after the first 100.
    pub fn with_back_off(base: Duration, max: Duration) -> WorkQueue<K> {
        WorkQueue {
            queue: VecDeque::new(),
            dirty: BTreeSet::new(),
            processing: Vec::new(),
            waiting: BTreeMap::new(),
            by_time: BTreeSet::new(),
            added: 0,
            failures: BTreeMap::new(),
            overall: Budget::per_second(10, 100),
            base_delay: base,
            max_delay: max,
        }
    }

    /// Marks `key` as needing a sync. Returns whether that is news.
    pub fn add(&mut self, key: K) -> bool {
        if !self.dirty.insert(key) {
            return false;
        }
        if !self.processing.contains(&key) {
            self.queue.push_back(key);
        }
        true
    }

    /// Adds `key` when `after` has passed; of several such wishes the earliest counts.
    pub fn add_after(&mut self, key: K, now: Time, after: Duration) {
        if after.is_zero() {
            self.add(key);
            return;
        }
        let due = now + after;
        if let Some(&(earlier, seq)) = self.waiting.get(&key) {
            if earlier <= due {
                return;
            }
            self.by_time.remove(&(earlier, seq, key));
        }
        let seq = self.added;
        self.added += 1;
        self.waiting.insert(key, (due, seq));
        self.by_time.insert((due, seq, key));
    }

    /// Adds `key` after its back-off, which doubles every time, or later when too many keys fail.
    pub fn add_rate_limited(&mut self, key: K, now: Time) {
        let failures = self.failures.entry(key).or_insert(0);
        let factor = 1u32.checked_shl(*failures).unwrap_or(u32::MAX);
        *failures += 1;
        let own = self.base_delay.saturating_mul(factor).min(self.max_delay);
        let overall = self.overall.take(now) - now;
        self.add_after(key, now, own.max(overall));
    }

    /// Ends the back-off of `key`.
    pub fn forget(&mut self, key: K) {
        self.failures.remove(&key);
    }

    /// How often `key` was added with back-off since it was last forgotten.
    pub fn requeues(&self, key: K) -> u32 {
        self.failures.get(&key).copied().unwrap_or(0)
    }

    /// Takes the next key to sync; [`WorkQueue::done`] must follow.
    pub fn get(&mut self) -> Option<K> {
        let key = self.queue.pop_front()?;
        self.processing.push(key);
        self.dirty.remove(&key);
        Some(key)
    }

    /// The sync of `key` ended; it is queued again if something happened to it meanwhile.
    pub fn done(&mut self, key: K) {
        self.processing.retain(|other| *other != key);
        if self.dirty.contains(&key) {
            self.queue.push_back(key);
        }
    }

    /// Takes the next key whose time has come out of those waiting, without adding it.
    pub fn pop_due(&mut self, now: Time) -> Option<K> {
        let &(due, seq, key) = self.by_time.first()?;
        if due > now {
            return None;
        }
        self.by_time.remove(&(due, seq, key));
        self.waiting.remove(&key);
        Some(key)
    }

    /// When the next waiting key is due.
    pub fn next_due(&self) -> Option<Time> {
        self.by_time.first().map(|(due, _, _)| *due)
    }

    /// The number of keys that could be synced now.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no key could be synced now.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether `key` is being synced.
    pub fn processing(&self, key: K) -> bool {
        self.processing.contains(&key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a script of `verb key [ms]` words; `get` and `due` print what they return.
    fn check(script: &str, expected: &str) {
        let mut queue = WorkQueue::<char>::default();
        let mut now = Time::ZERO;
        let mut printed = Vec::new();
        for line in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let key = words.get(1).and_then(|w| w.chars().next()).unwrap_or('?');
            let ms = |at: usize| words.get(at).and_then(|w| w.parse().ok()).unwrap_or(0);
            match words[0] {
                "add" => drop(queue.add(key)),
                "after" => queue.add_after(key, now, Duration::from_millis(ms(2))),
                "fail" => queue.add_rate_limited(key, now),
                "forget" => queue.forget(key),
                "done" => queue.done(key),
                "get" => printed.push(queue.get().map_or("-".into(), |k| k.to_string())),
                "next" => printed.push(queue.next_due().map_or("never".into(), |t| t.to_string())),
                "at" => {
                    now = Time::from_millis(ms(1));
                    while let Some(key) = queue.pop_due(now) {
                        printed.push(format!("+{key}"));
                        queue.add(key);
                    }
                }
                verb => panic!("unknown verb {verb}"),
            }
        }
        assert_eq!(printed.join(" "), expected);
    }

    #[test]
    fn keys_come_out_once_in_order_of_adding() {
        check("add b\nadd a\nadd b\nget\nget\nget", "b a -");
    }

    #[test]
    fn a_key_added_during_its_sync_comes_after_it() {
        check(
            "add a\nget\nadd a\nadd a\nget\ndone a\nget\nget\ndone a\nget",
            "a - a - -",
        );
    }

    #[test]
    fn the_earliest_wish_for_later_counts() {
        check(
            "after a 50\nafter a 20\nafter a 70\nafter b 20\nnext\nat 19\nat 20\nnext",
            "00:00.020 +a +b never",
        );
    }

    #[test]
    fn a_key_for_later_may_also_be_added_now() {
        check(
            "after a 50\nadd a\nget\ndone a\nat 50\nget\nget",
            "a +a a -",
        );
    }

    #[test]
    fn back_off_doubles_from_5_ms_until_forgotten() {
        // 5, then 10 from 5, then 20 from 15; after forgetting 5 again from 35
        check(
            "fail a\nnext\nat 5\nfail a\nnext\nat 15\nfail a\nnext\nat 35\nforget a\nfail a\nnext",
            "00:00.005 +a 00:00.015 +a 00:00.035 +a 00:00.040",
        );
    }

    #[test]
    fn back_off_ends_at_1000_seconds() {
        let mut queue = WorkQueue::<u8>::default();
        let mut waited = Vec::new();
        for i in 0..40u64 {
            let now = Time::from_secs(2000 * i);
            queue.add_rate_limited(1, now);
            waited.push((queue.next_due().unwrap() - now).as_millis());
            assert_eq!(queue.pop_due(Time::MAX), Some(1));
        }
        // 5 ms × 2^17 is 655.36 s, the next would be 1310.72 s
        assert_eq!(&waited[16..20], [327_680, 655_360, 1_000_000, 1_000_000]);
        assert_eq!((waited[39], queue.requeues(1)), (1_000_000, 40));
    }

    #[test]
    fn many_failing_keys_are_retried_ten_times_a_second() {
        let mut queue = WorkQueue::<u32>::default();
        for key in 0..103 {
            queue.add_rate_limited(key, Time::ZERO);
        }
        let due = |k: u32| queue.waiting[&k].0.to_string();
        // the bucket holds 100; the 101st waits 100 ms, the 103rd 300 ms
        assert_eq!(
            [due(99), due(100), due(102)],
            ["00:00.005", "00:00.100", "00:00.300"]
        );
    }
}
