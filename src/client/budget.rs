//! The request budget of one client: a token bucket on simulated time.
//!
//! Every real client has one (`--kube-api-qps`, `--kube-api-burst`); it is why a large rollout
//! takes minutes even when nothing else is slow. Each controller of the controller manager has a
//! client, hence a bucket, of its own. Requests are served in the order in which they ask.

use crate::engine::Time;

/// A token bucket; `staging/src/k8s.io/client-go/util/flowcontrol/throttle.go` with
/// `golang.org/x/time/rate :: Limiter` behind it.
///
/// Held as the instant at which all tokens ever handed out would have trickled in, so that the
/// arithmetic is exact in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Nanoseconds between two tokens; 0 means without limit.
    interval_ns: u64,
    burst: u32,
    spent_until: Time,
}

impl Budget {
    /// A full bucket of `burst` tokens that gains one every `interval_ns` nanoseconds. An interval
    /// of 0 never makes anybody wait.
    pub fn new(interval_ns: u64, burst: u32) -> Budget {
        assert!(burst > 0, "a bucket of no tokens lets nothing through");
        Budget {
            interval_ns,
            burst,
            spent_until: Time::ZERO,
        }
    }

    /// A bucket of which [`Budget::spent_until`] was kept.
    pub fn resumed(interval_ns: u64, burst: u32, spent_until: Time) -> Budget {
        Budget {
            spent_until,
            ..Budget::new(interval_ns, burst)
        }
    }

    /// The instant at which all tokens ever handed out would have trickled in.
    pub fn spent_until(&self) -> Time {
        self.spent_until
    }

    /// A full bucket that gains `qps` tokens a second, 0 meaning without limit.
    pub fn per_second(qps: u32, burst: u32) -> Budget {
        let interval = 1_000_000_000u64.checked_div(u64::from(qps)).unwrap_or(0);
        Budget::new(interval, burst)
    }

    /// Each controller's client: `--kube-api-qps=20`, `--kube-api-burst=30` of the controller
    /// manager.
    pub fn controller() -> Budget {
        Budget::per_second(20, 30)
    }

    /// The scheduler's client: `clientConnection` 50 and 100.
    pub fn scheduler() -> Budget {
        Budget::per_second(50, 100)
    }

    /// The kubelet's client: `kubeAPIQPS` 50, `kubeAPIBurst` 100; its events have the same again.
    pub fn kubelet() -> Budget {
        Budget::per_second(50, 100)
    }

    /// The bucket's depth in nanoseconds of refilling.
    fn depth_ns(&self) -> u64 {
        self.interval_ns.saturating_mul(u64::from(self.burst))
    }

    /// [`Budget::spent_until`] once one more token was taken at `now`.
    fn next(&self, now: Time) -> Time {
        self.spent_until.max(now).plus_nanos(self.interval_ns)
    }

    /// When a request that takes the next token may go, were it asked for at `now`.
    fn ready(&self, now: Time) -> Time {
        let free = now.plus_nanos(self.depth_ns()).as_nanos();
        now.plus_nanos(self.next(now).as_nanos().saturating_sub(free))
    }

    /// Takes a token, if need be one of the future: returns when the request may go, `now` or later
    /// (`Limiter.Reserve`).
    pub fn take(&mut self, now: Time) -> Time {
        let ready = self.ready(now);
        self.spent_until = self.next(now);
        ready
    }

    /// Takes a token if one is there now (`TryAccept`).
    pub fn try_take(&mut self, now: Time) -> bool {
        let there = self.ready(now) == now;
        if there {
            self.take(now);
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a token at each of these milliseconds; prints when each request may go.
    fn check(mut budget: Budget, at_ms: &[u64], expected_ms: &[u64]) {
        let got: Vec<u64> = at_ms
            .iter()
            .map(|ms| budget.take(Time::from_millis(*ms)).as_nanos() / 1_000_000)
            .collect();
        assert_eq!(got, expected_ms);
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        // 20 a second: one every 50 ms once the three are gone
        check(
            Budget::per_second(20, 3),
            &[0, 0, 0, 0, 0],
            &[0, 0, 0, 50, 100],
        );
    }

    #[test]
    fn tokens_come_back_up_to_the_burst() {
        // after 120 ms two tokens (100 ms) are back and 20 ms of a third: it is whole at 150
        check(
            Budget::per_second(20, 3),
            &[0, 0, 0, 120, 120, 120],
            &[0, 0, 0, 120, 120, 150],
        );
        // after an hour there are three tokens, not 72,000
        check(
            Budget::per_second(20, 3),
            &[0, 3_600_000, 3_600_000, 3_600_000, 3_600_000],
            &[0, 3_600_000, 3_600_000, 3_600_000, 3_600_050],
        );
    }

    #[test]
    fn a_rate_of_less_than_one_a_second_is_an_interval() {
        // the node controller's 0.1 a second, burst 1
        check(
            Budget::new(10_000_000_000, 1),
            &[0, 0, 5_000],
            &[0, 10_000, 20_000],
        );
    }

    #[test]
    fn no_rate_means_no_waiting() {
        check(Budget::per_second(0, 1), &[0, 0, 0], &[0, 0, 0]);
    }

    #[test]
    fn a_refused_try_costs_nothing() {
        let mut budget = Budget::per_second(20, 1);
        let tries = [0, 0, 49, 50, 50]
            .map(|ms| budget.try_take(Time::from_millis(ms)))
            .to_vec();
        assert_eq!(tries, [true, false, false, true, false]);
    }
}
