//! What came of requests, in constant memory.
//!
//! A [`Tally`] counts for each second and over all, keeps a latency sketch, and groups failures by
//! what the client saw ([`Cause`]), why it was so ([`Class`]), and the pod and node that it had
//! been sent to, so that a story can be told: `100% went to web-4 (dead endpoint still
//! programmed)`. Latency is that of the whole request, retries included, and includes failed
//! requests, as k6's `http_req_duration` does.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::engine::Time;

/// What a client saw instead of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// The connection was refused.
    Refused,
    /// The connection was closed before the answer.
    Reset,
    /// No answer in time.
    Timeout,
    /// The Service had no endpoints (refused by the proxy).
    NoEndpoints,
    /// 503: the server's queue was full.
    Unavailable,
    /// 500: the application failed.
    Error,
    /// The name could not be resolved.
    Dns,
    /// 502 or 504: a call that the request needed failed.
    Downstream,
}

impl Cause {
    /// Every cause, in the order of its number.
    pub const ALL: [Cause; 8] = [
        Cause::Refused,
        Cause::Reset,
        Cause::Timeout,
        Cause::NoEndpoints,
        Cause::Unavailable,
        Cause::Error,
        Cause::Dns,
        Cause::Downstream,
    ];

    /// Whether a client takes it for an answer: the application did its work and failed (500, and
    /// 502 or 504 for a call that it needed), and would do the same again. What never reached the
    /// application, was turned away by it (503), broke off or took too long is tried again, while
    /// the client's `retries` and budget last. Simulated and real clients ask here.
    pub fn is_final(self) -> bool {
        matches!(self, Cause::Error | Cause::Downstream)
    }

    /// As in `failed_by`.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Refused => "refused",
            Cause::Reset => "reset",
            Cause::Timeout => "timeout",
            Cause::NoEndpoints => "no endpoints",
            Cause::Unavailable => "503",
            Cause::Error => "500",
            Cause::Dns => "dns",
            Cause::Downstream => "downstream",
        }
    }
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Class {
    /// The endpoint's process or node is gone, and the rules still name it.
    DeadEndpoint,
    /// The endpoint is terminating, and the rules still name it.
    SigtermRace,
    /// The process runs and does not listen yet.
    NotListening,
    /// Nothing in the pod listens on that port.
    WrongPort,
    /// The Service has no usable endpoints.
    NoEndpoints,
    /// A `Local` traffic policy and no endpoint on the node.
    NoLocalEndpoints,
    /// The node's proxy has no rules for the Service.
    NotProgrammed,
    /// The server's queue was full.
    QueueFull,
    /// The application's own error rate.
    AppError,
    /// A call that it needed failed.
    Downstream,
    /// The name could not be resolved.
    Dns,
    /// A fault of the network dropped its packets.
    Network,
    /// The server was working on it or had it in its queue.
    Slow,
    /// The process was frozen.
    Frozen,
    /// The process ended while it served the request.
    Killed,
}

impl Class {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Class::DeadEndpoint => "dead endpoint still programmed",
            Class::SigtermRace => "terminating endpoint: SIGTERM race",
            Class::NotListening => "not listening yet",
            Class::WrongPort => "nothing listens on that port",
            Class::NoEndpoints => "no endpoints",
            Class::NoLocalEndpoints => "no endpoints on this node",
            Class::NotProgrammed => "Service not programmed on this node",
            Class::QueueFull => "queue full",
            Class::AppError => "the application's own errors",
            Class::Downstream => "downstream",
            Class::Dns => "name resolution",
            Class::Network => "network fault",
            Class::Slow => "slower than the timeout",
            Class::Frozen => "frozen process",
            Class::Killed => "process ended meanwhile",
        }
    }
}

/// A failure as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Failure {
    /// What the client saw.
    pub cause: Cause,
    /// Why.
    pub class: Class,
    /// Number of the pod it had been sent to, `u32::MAX` when none.
    pub pod: u32,
    /// Number of the place it had been sent to, `u32::MAX` when none.
    pub place: u32,
}

/// Failures of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// How many.
    pub count: u64,
    /// When the first and the last one happened.
    pub first: Time,
    /// See `first`.
    pub last: Time,
    /// The most endpoints of the Service that were dead and still programmed, and how many were
    /// programmed then.
    pub dead: (u32, u32),
}

/// One second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Second {
    /// Which, counted from the run's beginning.
    pub second: u32,
    /// Requests sent in it.
    pub sent: u32,
    /// Requests that ended in it, well.
    pub ok: u32,
    /// Requests that ended in it, by cause.
    pub failed: [u32; Cause::ALL.len()],
    /// Latencies in microseconds of the requests that ended in it.
    pub p50_us: u32,
    /// See `p50_us`.
    pub p90_us: u32,
    /// See `p50_us`.
    pub p99_us: u32,
    /// See `p50_us`.
    pub max_us: u32,
}

/// A second that is not over: what may still be added.
#[derive(Clone, Debug, Default)]
struct Open {
    row: Second,
    latencies: Vec<u32>,
}

/// Everything that came of the requests of one client kind.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Requests sent.
    pub sent: u64,
    /// Attempts, retries included.
    pub attempts: u64,
    /// Requests answered well.
    pub ok: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Requests whose client ended before them.
    pub abandoned: u64,
    /// Failed requests by cause.
    pub failed_by: [u64; Cause::ALL.len()],
    groups: BTreeMap<Failure, Group>,
    /// Requests answered well by each pod.
    answered_by: FxHashMap<u32, u64>,
    latency: Histogram<u32>,
    ok_latency: Histogram<u32>,
    rows: Vec<Second>,
    /// The second that is now, and those after it that early answers belong to.
    open: Vec<Open>,
}

/// An hour in microseconds: longer latencies count as this.
const LONGEST_US: u64 = 3_600_000_000;

fn sketch() -> Histogram<u32> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).expect("bounds that a histogram can have")
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            sent: 0,
            attempts: 0,
            ok: 0,
            failed: 0,
            abandoned: 0,
            failed_by: [0; Cause::ALL.len()],
            groups: BTreeMap::new(),
            answered_by: FxHashMap::default(),
            latency: sketch(),
            ok_latency: sketch(),
            rows: Vec::new(),
            open: Vec::new(),
        }
    }
}

impl Tally {
    /// Counts a request that is sent now.
    #[inline]
    pub fn send(&mut self, now: Time) {
        self.sent += 1;
        self.open(now).row.sent += 1;
        self.close_before(now);
    }

    /// Counts an answer of pod number `pod` that arrives at `at`, now or a little later.
    #[inline]
    pub fn ok(&mut self, sent: Time, at: Time, pod: u32) {
        self.ok += 1;
        *self.answered_by.entry(pod).or_default() += 1;
        let us = micros(at.since(sent));
        let open = self.open(at);
        open.row.ok += 1;
        open.latencies.push(us);
        let _ = self.ok_latency.record(u64::from(us));
    }

    /// Counts a failure at `at`. `census` is asked now and then how many of the endpoints that are
    /// programmed are dead.
    pub fn fail(
        &mut self,
        sent: Time,
        at: Time,
        failure: Failure,
        census: impl FnOnce() -> (u32, u32),
    ) {
        self.failed += 1;
        self.failed_by[failure.cause as usize] += 1;
        let us = micros(at.since(sent));
        let open = self.open(at);
        open.row.failed[failure.cause as usize] += 1;
        open.latencies.push(us);
        let group = self.groups.entry(failure).or_insert(Group {
            count: 0,
            first: at,
            last: Time::ZERO,
            dead: (0, 0),
        });
        group.count += 1;
        // The dead are counted once a second for each group.
        if second_of(group.last) != second_of(at) || group.count == 1 {
            group.dead = group.dead.max(census());
        }
        group.last = group.last.max(at);
    }

    /// The client of a request is gone: nobody will learn how it went.
    pub fn abandon(&mut self) {
        self.abandoned += 1;
    }

    /// Requests sent and not ended.
    pub fn in_flight(&self) -> u64 {
        self.sent - self.ok - self.failed - self.abandoned
    }

    /// The kinds of failures, most frequent first.
    pub fn groups(&self) -> Vec<(Failure, Group)> {
        let mut groups: Vec<_> = self.groups.iter().map(|(f, g)| (*f, *g)).collect();
        groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.count));
        groups
    }

    /// Requests answered well by each pod, by its number.
    pub fn answered_by(&self) -> BTreeMap<u32, u64> {
        self.answered_by.iter().map(|(pod, n)| (*pod, *n)).collect()
    }

    /// The latency that a share of the requests did not exceed, failed ones included.
    pub fn latency(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_quantile(quantile))
    }

    /// As [`Tally::latency`], of requests that were answered well.
    pub fn ok_latency(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.ok_latency.value_at_quantile(quantile))
    }

    /// The longest latency.
    pub fn max_latency(&self) -> Duration {
        match self.latency.is_empty() {
            true => Duration::ZERO,
            false => Duration::from_micros(self.latency.max()),
        }
    }

    /// Closes all seconds: the run is over.
    pub fn finish(&mut self) {
        self.close_before(Time::MAX);
    }

    /// The seconds that are over, in order; those without any request are left out.
    pub fn rows(&self) -> &[Second] {
        &self.rows
    }

    /// Takes the seconds that are over.
    pub fn take_rows(&mut self) -> Vec<Second> {
        std::mem::take(&mut self.rows)
    }

    #[inline]
    fn open(&mut self, at: Time) -> &mut Open {
        let second = second_of(at);
        let place = self.open.iter().position(|o| o.row.second >= second);
        let place = place.unwrap_or(self.open.len());
        if self.open.get(place).is_none_or(|o| o.row.second != second) {
            let mut open = Open::default();
            open.row.second = second;
            self.open.insert(place, open);
        }
        &mut self.open[place]
    }

    /// Closes the seconds before that of `now`.
    #[inline]
    fn close_before(&mut self, now: Time) {
        let second = second_of(now);
        while self.open.first().is_some_and(|o| o.row.second < second) {
            let mut open = self.open.remove(0);
            for us in &open.latencies {
                let _ = self.latency.record(u64::from(*us));
            }
            open.close();
            self.rows.push(open.row);
        }
    }
}

impl Open {
    fn close(&mut self) {
        let count = self.latencies.len();
        if count == 0 {
            return;
        }
        // The smallest latency that is not exceeded by the share.
        let mut quantile = |permille: usize| {
            let rank = (count * permille).div_ceil(1000).max(1) - 1;
            *self.latencies.select_nth_unstable(rank).1
        };
        self.row.p50_us = quantile(500);
        self.row.p90_us = quantile(900);
        self.row.p99_us = quantile(990);
        self.row.max_us = quantile(1000);
    }
}

fn second_of(at: Time) -> u32 {
    u32::try_from(at.as_nanos() / 1_000_000_000).unwrap_or(u32::MAX)
}

/// Rounded up, at least one.
fn micros(span: Duration) -> u32 {
    let us = span
        .as_nanos()
        .div_ceil(1000)
        .clamp(1, u128::from(LONGEST_US));
    u32::try_from(us).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILURE: Failure = Failure {
        cause: Cause::Timeout,
        class: Class::DeadEndpoint,
        pod: 4,
        place: 2,
    };

    #[test]
    fn seconds_are_closed_in_order_and_keep_exact_quantiles() {
        let mut tally = Tally::default();
        for n in 0..100u64 {
            let at = Time::from_millis(10 * n);
            tally.send(at);
            tally.ok(at, at + Duration::from_millis(n + 1), n as u32 % 2);
        }
        // the last answers, 991 + 100 …, belong to the next second
        tally.send(Time::from_millis(2_500));
        tally.fail(
            Time::from_millis(2_500),
            Time::from_millis(4_500),
            FAILURE,
            || (2, 7),
        );
        assert_eq!(tally.in_flight(), 0);
        tally.finish();
        let shown: Vec<_> = tally
            .rows()
            .iter()
            .map(|r| {
                let failed: u32 = r.failed.iter().sum();
                format!(
                    "{}: {} {} {failed} p50 {}",
                    r.second, r.sent, r.ok, r.p50_us
                )
            })
            .collect();
        // 10 n + n + 1 < 1000 for n <= 90: 91 answers, the 46th is 46 ms
        let expected = [
            "0: 100 91 0 p50 46000",
            "1: 0 9 0 p50 96000",
            "2: 1 0 0 p50 0",
        ];
        assert_eq!(shown[..3], expected);
        assert_eq!(shown[3], "4: 0 0 1 p50 2000000");
        let (failure, group) = tally.groups()[0];
        assert_eq!((failure, group.count, group.dead), (FAILURE, 1, (2, 7)));
        assert_eq!(tally.max_latency().as_secs(), 2);
        assert!(tally.ok_latency(1.0) < Duration::from_millis(101));
    }
}
