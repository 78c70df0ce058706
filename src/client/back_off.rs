//! Exponential back-off of one key.
//!
//! `staging/src/k8s.io/client-go/util/flowcontrol/backoff.go :: Backoff`, one entry of its map. The
//! kubelet has two kinds: one for each container that it restarts, one for each image of a pod. The
//! DaemonSet controller has one for each node whose pods fail.

use std::time::Duration;

use crate::engine::Time;

/// The bounds of a back-off, and when a quiet entry is forgotten.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The first wait.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
    /// An event later than this after the last step starts over (`HasExpiredFunc`).
    pub expires: Duration,
}

/// The state of one key; absent before the first step.
#[derive(Clone, Copy, Debug, Default)]
pub struct BackOff(Option<Entry>);

#[derive(Clone, Copy, Debug)]
struct Entry {
    wait: Duration,
    stepped: Time,
}

impl BackOff {
    fn live(&self, event: Time, limits: Limits) -> Option<Entry> {
        self.0
            .filter(|entry| event.since(entry.stepped) <= limits.expires)
    }

    /// The current wait (`Get`).
    pub fn wait(&self) -> Duration {
        self.0.map_or(Duration::ZERO, |entry| entry.wait)
    }

    /// Takes the next step (`Next`): the first wait, or twice the present one.
    pub fn step(&mut self, event: Time, now: Time, limits: Limits) {
        let wait = match self.live(event, limits) {
            Some(entry) => (entry.wait * 2).min(limits.longest),
            None => limits.first,
        };
        self.0 = Some(Entry { wait, stepped: now });
    }

    /// Whether less than the wait has passed since `event` (`IsInBackOffSince`).
    pub fn since_event(&self, event: Time, now: Time, limits: Limits) -> bool {
        self.live(event, limits)
            .is_some_and(|entry| now.since(event) < entry.wait)
    }

    /// Whether less than the wait has passed since the last step (`IsInBackOffSinceUpdate`).
    pub fn since_step(&self, now: Time, limits: Limits) -> bool {
        self.live(now, limits)
            .is_some_and(|entry| now.since(entry.stepped) < entry.wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_over_after_ten_quiet_minutes() {
        let limits = Limits {
            first: Duration::from_secs(10),
            longest: Duration::from_secs(300),
            expires: Duration::from_secs(600),
        };
        let mut back_off = BackOff::default();
        let mut now = Time::from_secs(1);
        assert!(!back_off.since_event(now, now, limits));
        let mut waits = Vec::new();
        for _ in 0..7 {
            back_off.step(now, now, limits);
            waits.push(back_off.wait().as_secs());
            let exited = now + Duration::from_secs(1);
            let early = exited + (back_off.wait() - Duration::from_nanos(1));
            assert!(back_off.since_event(exited, early, limits));
            now = exited + back_off.wait();
            assert!(!back_off.since_event(exited, now, limits));
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
        // It ran for 600 s and a little more after the last start: as if for the first time.
        let exited = now + Duration::from_secs(601);
        assert!(!back_off.since_event(exited, exited, limits));
        back_off.step(exited, exited, limits);
        assert_eq!(back_off.wait().as_secs(), 10);
    }
}
