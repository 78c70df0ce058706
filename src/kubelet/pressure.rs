//! Memory pressure: when it is, and which pod goes.
//!
//! `pkg/kubelet/eviction/eviction_manager.go :: synchronize`, for the hard threshold of
//! `memory.available`. One pod is killed at a time; the node reports pressure until the threshold
//! has not been met for five minutes. Disk, inodes, process numbers and soft thresholds are left
//! out.

use std::cmp::Reverse;
use std::time::Duration;

use super::admission::critical;
use super::agent::Event;
use super::host::{Cx, Host};
use super::pod_worker::{End, PodWorker};
use super::runtime::Call;
use crate::api::Pod;
use crate::engine::Time;
use crate::store::Id;

/// `kubelet.go :: evictionMonitoringPeriod`.
const PERIOD: Duration = Duration::from_secs(10);
/// `podCleanupPollFreq` and `podCleanupTimeout`.
const POLL: Duration = Duration::from_secs(1);
const CLEANUP: Duration = Duration::from_secs(30);
/// `immediateEvictionGracePeriodSeconds`.
const GRACE_S: u32 = 1;

/// What is known of the node's memory.
#[derive(Debug)]
pub(super) struct Pressure {
    /// The condition, as the node reports it.
    pub(super) memory: bool,
    observed: Option<Time>,
    due: Time,
    /// The pod that was evicted last, and when, until it is gone.
    pub(super) leaving: Option<(Id<Pod>, Time)>,
}

impl Default for Pressure {
    fn default() -> Self {
        Pressure {
            memory: false,
            observed: None,
            due: Time::MAX,
            leaving: None,
        }
    }
}

impl Host {
    /// Begins to watch the memory, when that is wanted and there is a pod.
    pub(super) fn watch_memory(&mut self, cx: &mut Cx<'_>) {
        if self.config.stats && self.pressure.due == Time::MAX {
            self.memory_due(cx, PERIOD);
        }
    }

    fn memory_due(&mut self, cx: &mut Cx<'_>, wait: Duration) {
        self.pressure.due = cx.now + wait;
        cx.out.at(self.pressure.due, Event::Memory);
    }

    /// It is time to measure; `gone` says whether the pod that was evicted last is cleaned up.
    pub(super) fn on_memory_due(&mut self, cx: &mut Cx<'_>, gone: bool, pods: bool) {
        if self.pressure.due != cx.now {
            return;
        }
        if let Some((_, since)) = self.pressure.leaving
            && !gone
            && cx.now.since(since) < CLEANUP
        {
            self.memory_due(cx, POLL);
            return;
        }
        self.pressure.leaving = None;
        if !pods && !self.pressure.memory {
            self.pressure.due = Time::MAX;
            return;
        }
        self.memory_due(cx, PERIOD);
        self.ask(cx, Call::Stats);
    }

    /// The node's memory was measured. Returns whether a pod must go.
    pub(super) fn on_memory(&mut self, cx: &mut Cx<'_>, available: i64) -> bool {
        let met = available < self.config.eviction_memory;
        if met {
            self.pressure.observed = Some(cx.now);
        }
        let before = self.pressure.memory;
        self.pressure.memory = self
            .pressure
            .observed
            .is_some_and(|at| cx.now.since(at) < self.config.pressure_transition);
        if self.pressure.memory != before {
            self.wake_node_status(cx);
        }
        met
    }

    /// A pod was chosen: wait for it to be gone.
    pub(super) fn evicting(&mut self, cx: &mut Cx<'_>, pod: Id<Pod>) {
        self.pressure.leaving = Some((pod, cx.now));
        self.memory_due(cx, POLL);
    }
}

/// `rankMemoryPressure`: pods that use more than they request first, then by priority, then by how
/// much more they use. A pod whose usage is unknown goes before all others.
pub(super) fn rank(pods: &mut [&PodWorker]) {
    pods.sort_by_key(|pod| {
        let request = pod.row.spec.requests.memory;
        let over = pod.memory_bytes.map(|used| used - request);
        (
            over.is_some_and(|over| over <= 0),
            if over.is_none() {
                i32::MIN
            } else {
                pod.row.spec.priority
            },
            Reverse(over.unwrap_or(i64::MAX)),
        )
    });
}

impl PodWorker {
    /// `evictPod`. Returns whether the pod may be evicted at all.
    pub(super) fn evict(&mut self, host: &mut Host, cx: &mut Cx<'_>, available: i64) -> bool {
        if critical(&self.row) {
            return false;
        }
        let mut message = format!(
            "The node was low on resource: memory. Threshold quantity: {}, available: {}Ki. ",
            binary(host.config.eviction_memory),
            available >> 10
        );
        if let (Some(used), [only]) = (self.memory_bytes, self.row.spec.containers.as_slice())
            && used > only.requests.memory
        {
            message += &format!(
                "Container {} was using {}Ki, request is {}, has larger consumption of memory. ",
                only.name,
                used >> 10,
                binary(only.requests.memory)
            );
        }
        self.tell(host, cx, true, "Evicted", message.clone());
        let end = End {
            grace_s: Some(GRACE_S),
            evicted: Some(("Evicted", message)),
        };
        self.update(host, cx, Some(end));
        true
    }
}

/// A number of bytes in the largest binary unit that divides it.
fn binary(bytes: i64) -> String {
    for (unit, shift) in [("Gi", 30), ("Mi", 20), ("Ki", 10)] {
        if bytes != 0 && bytes % (1 << shift) == 0 {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}
