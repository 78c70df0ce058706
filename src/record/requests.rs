//! Outcomes of requests, as plain rows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api::Text;
use crate::engine::Time;

/// What came of one Traffic (or of the calls of one service to another).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrafficRecord {
    /// Name.
    pub name: String,
    /// Where the requests went, `service/frontend:80`.
    pub to: String,
    /// Whether these are calls between services rather than a Traffic.
    pub internal: bool,
    /// Requests sent.
    pub sent: u64,
    /// Answered well.
    pub ok: u64,
    /// Failed.
    pub failed: u64,
    /// Not over at the end.
    pub in_flight: u64,
    /// Failed by what the client saw.
    pub failed_by: BTreeMap<String, u64>,
    /// Latency of all requests that ended, in microseconds.
    pub p50_us: u64,
    /// See `p50_us`.
    pub p90_us: u64,
    /// See `p50_us`.
    pub p99_us: u64,
    /// See `p50_us`.
    pub max_us: u64,
    /// Latency of the requests that ended well, in microseconds.
    pub ok_p50_us: u64,
    /// See `ok_p50_us`.
    pub ok_p90_us: u64,
    /// See `ok_p50_us`.
    pub ok_p99_us: u64,
    /// Connections that its client keeps, each with the endpoint that it was made to; 0 when every
    /// request opens its own.
    pub kept: u32,
    /// Requests answered well by each pod, `namespace/name`.
    pub answered_by: BTreeMap<String, u64>,
    /// Latency by quantile for a plot: (quantile, microseconds).
    pub quantiles: Vec<(f64, u64)>,
    /// One row a second in which something happened.
    pub seconds: Vec<TrafficSecond>,
    /// Failures by cause, class, pod and node.
    pub groups: Vec<FailureGroup>,
}

/// One second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficSecond {
    /// Which, as in [`Time`]: from before the cluster came up.
    pub second: u32,
    /// Sent in it.
    pub sent: u32,
    /// Ended in it, well.
    pub ok: u32,
    /// Ended in it, by what the client saw.
    pub failed: Vec<(String, u32)>,
    /// Latencies of what ended in it, in microseconds.
    pub p50_us: u32,
    /// See `p50_us`.
    pub p90_us: u32,
    /// See `p50_us`.
    pub p99_us: u32,
    /// See `p50_us`.
    pub max_us: u32,
}

impl TrafficSecond {
    /// When it began.
    pub fn at(&self) -> Time {
        Time::from_secs(self.second.into())
    }

    /// Failures that ended in it.
    pub fn failures(&self) -> u64 {
        self.failed.iter().map(|(_, n)| u64::from(*n)).sum()
    }
}

/// Failures of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureGroup {
    /// What the client saw: `timeout`.
    pub cause: String,
    /// Why: `dead endpoint still programmed`.
    pub class: String,
    /// The pod it was sent to, `namespace/name`; empty when none.
    pub pod: Text,
    /// The node of that pod; empty when none.
    pub node: Text,
    /// How many.
    pub count: u64,
    /// When the first one happened.
    pub first: Time,
    /// When the last one happened.
    pub last: Time,
    /// The most endpoints that were dead and still programmed, and how many were programmed then.
    pub dead: (u32, u32),
}
