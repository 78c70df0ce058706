//! A node that runs short of something: when it looks, and which pod goes.
//!
//! `pkg/kubelet/eviction/eviction_manager.go :: synchronize` from the thresholds that call for
//! action on ([`eviction`](super::eviction) finds them). One pod is killed at a time.
//!
//! Upstream looks every ten seconds for ever. Here the runtime says when a node may run short at all
//! ([`RuntimeEvent::Tight`](super::RuntimeEvent)); looks that cannot find anything are left out.
//! Inodes and processes are not counted: their thresholds are read and never met.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use super::admission::critical;
use super::agent::{Event, Kubelet};
use super::eviction::{self, Memory, Observation, Observations, Pressure, Signal};
use super::host::{Cx, Host};
use super::images::with_tag;
use super::pod_worker::{End, Ending, PodWorker, Work};
use super::runtime::Call;
use crate::api::Text;
use crate::engine::Time;
use crate::store::Id;

/// `kubelet.go :: evictionMonitoringPeriod`.
const PERIOD: Duration = Duration::from_secs(10);
/// `podCleanupPollFreq` and `podCleanupTimeout`.
const POLL: Duration = Duration::from_secs(1);
const CLEANUP: Duration = Duration::from_secs(30);
/// `immediateEvictionGracePeriodSeconds`.
const GRACE_S: u32 = 1;

/// What is known of a node's shortages.
#[derive(Debug)]
pub(super) struct Shortage {
    due: Time,
    /// The runtime said that the node may run short, and has not been asked since.
    tight: bool,
    /// The pod that was evicted last, and when, until it is gone.
    leaving: Option<(Id<crate::api::Pod>, Time)>,
    memory: Option<Box<Memory>>,
}

impl Default for Shortage {
    fn default() -> Self {
        Shortage {
            due: Time::MAX,
            tight: false,
            leaving: None,
            memory: None,
        }
    }
}

impl Shortage {
    /// The conditions that the node reports.
    pub(super) fn pressures(&self) -> impl Iterator<Item = Pressure> {
        let memory = self.memory.as_deref();
        memory.into_iter().flat_map(|m| m.pressures.iter().copied())
    }

    fn at_rest(&self) -> bool {
        self.memory.as_ref().is_none_or(|memory| memory.at_rest())
    }
}

impl Host {
    /// Has the runtime tell when the node may run short.
    pub(super) fn start_watching(&mut self, cx: &mut Cx<'_>) {
        if self.config.stats {
            let capacity = self.row.status.capacity.memory;
            let floor = self.config.eviction.floor(capacity).max(0);
            let floor_kib = u32::try_from(floor >> 10).unwrap_or(u32::MAX);
            self.ask(cx, Call::WatchMemory { floor_kib });
        }
    }

    /// The node may run short: looks begin.
    pub(super) fn on_tight(&mut self, cx: &mut Cx<'_>) {
        self.shortage.tight = true;
        self.watch_shortage(cx);
    }

    /// Images may have filled the disk.
    pub(super) fn watch_disk(&mut self, cx: &mut Cx<'_>) {
        if self.config.stats && self.row.status.capacity.ephemeral > 0 {
            self.watch_shortage(cx);
        }
    }

    fn watch_shortage(&mut self, cx: &mut Cx<'_>) {
        if self.config.stats && self.shortage.due == Time::MAX {
            // The loop began with the process, as the status manager's did.
            self.look_at(cx, self.batches.after(cx.now));
        }
    }

    fn look_at(&mut self, cx: &mut Cx<'_>, due: Time) {
        self.shortage.due = due;
        cx.out.at(due, Event::Memory);
    }

    /// The node was measured: what is to be done.
    fn look(&mut self, cx: &mut Cx<'_>, seen: &Observations) -> Vec<usize> {
        let config = self.config.clone();
        let memory = self.shortage.memory.get_or_insert_default();
        let before = memory.pressures.clone();
        let due = memory.look(&config.eviction, seen, cx.now);
        if memory.pressures != before {
            self.wake_node_status(cx);
        }
        if self.shortage.at_rest() {
            self.shortage.memory = None;
            if !self.shortage.tight {
                self.shortage.due = Time::MAX;
            }
        }
        due
    }

    fn disk_used_by_images(&self) -> i64 {
        self.images
            .present
            .values()
            .map(|mib| i64::from(*mib) << 20)
            .sum()
    }

    /// `deleteUnusedImages`.
    fn remove_images(&mut self, used: &BTreeSet<Text>) {
        let before = self.images.present.len();
        self.images.present.retain(|name, _| used.contains(name));
        self.reporting.images_changed |= self.images.present.len() != before;
    }
}

impl Kubelet {
    /// It is time to look.
    pub(super) fn shortage_due(&mut self, cx: &mut Cx<'_>) {
        let shortage = &mut self.host.shortage;
        if shortage.due != cx.now {
            return;
        }
        if let Some((pod, since)) = shortage.leaving {
            let gone = |pod: &PodWorker| pod.work >= Work::Terminated;
            let cleaned = self.pods.get(&pod).is_none_or(|pod| gone(pod));
            if !cleaned && cx.now.since(since) < CLEANUP {
                self.host.look_at(cx, cx.now + POLL);
                return;
            }
        }
        shortage.leaving = None;
        shortage.tight = false;
        for pod in self.pods.values_mut() {
            (pod.memory_kib, pod.disk_mib) = (None, None);
        }
        self.host.look_at(cx, cx.now + PERIOD);
        self.host.ask(cx, Call::Stats);
    }

    /// `makeSignalObservations`.
    fn observe(&self, available: i64) -> Observations {
        let status = &self.host.row.status;
        let used: i64 = self
            .pods
            .values()
            .filter_map(|pod| pod.memory_bytes())
            .sum();
        let capacity = status.capacity.memory;
        // The pods' cgroup has the threshold on top of what the node shows as allocatable.
        let floor = self.host.config.eviction.floor(capacity);
        let of_pods = status
            .allocatable
            .memory
            .saturating_add(floor)
            .min(capacity);
        let seen = |capacity: i64, available: i64| Observation {
            capacity,
            available,
        };
        let mut all = Observations::from([
            (Signal::Memory, seen(capacity, available)),
            (Signal::AllocatableMemory, seen(of_pods, of_pods - used)),
        ]);
        let disk = status.capacity.ephemeral;
        if disk > 0 {
            let pods: i64 = self.pods.values().filter_map(|pod| pod.disk_bytes()).sum();
            let left = (disk - self.host.disk_used_by_images() - pods).max(0);
            for signal in [Signal::NodeFs, Signal::ImageFs] {
                all.insert(signal, seen(disk, left));
            }
        }
        all
    }

    /// `synchronize`: the node's memory was measured.
    pub(super) fn measured(&mut self, available: i64, cx: &mut Cx<'_>) {
        let seen = self.observe(available);
        let due = self.host.look(cx, &seen);
        if self.evict_over_limit(cx) {
            return;
        }
        let config = self.host.config.clone();
        let rules = &config.eviction;
        let Some(threshold) = due.first().map(|at| &rules.thresholds[*at]) else {
            return;
        };
        let resource = threshold.signal.resource();
        let message = format!("Attempting to reclaim {resource}");
        self.host
            .tell_node(cx, true, "EvictionThresholdMet", message);
        let disk = threshold.signal.pressure() == Pressure::Disk;
        if disk && self.reclaim_images(available) {
            return;
        }
        let mut ranked: Vec<&PodWorker> = self.active().collect();
        rank(&mut ranked, |pod| match disk {
            true => pod.disk_over_request(),
            false => pod.memory_over_request(),
        });
        let ranked: Vec<Id<crate::api::Pod>> = ranked.iter().map(|pod| pod.id).collect();
        let quantities = rules.quantities(&due, resource, &seen);
        let low = format!("The node was low on resource: {resource}. {quantities}");
        for pod in ranked {
            let soft = (!threshold.hard()).then_some(rules.max_grace_s);
            if self.evict(pod, cx, |pod| {
                let grace = soft.map_or(GRACE_S, |most| most.min(pod.row.spec.grace_s));
                (format!("{low}{}", pod.consumption(disk)), grace)
            }) {
                return;
            }
        }
    }

    /// `reclaimNodeLevelResources`: images that nobody uses go; whether that is enough.
    fn reclaim_images(&mut self, available: i64) -> bool {
        let known = self.pods.values().filter(|pod| pod.work < Work::Finished);
        let all = known.flat_map(|pod| {
            let spec = &pod.row.spec;
            spec.init_containers.iter().chain(&spec.containers)
        });
        let used: BTreeSet<Text> = all.map(|c| with_tag(&c.image)).collect();
        self.host.remove_images(&used);
        let seen = self.observe(available);
        Memory::relieved(&self.host.config.eviction, &seen)
    }

    /// `localStorageEviction`: pods that use more disk than their containers' limits.
    fn evict_over_limit(&mut self, cx: &mut Cx<'_>) -> bool {
        let over = self.active().filter_map(|pod| {
            let limit: i64 = pod
                .row
                .spec
                .containers
                .iter()
                .map(|c| c.limits.ephemeral)
                .sum();
            (limit > 0 && pod.disk_bytes()? > limit).then_some((pod.id, limit))
        });
        let over: Vec<_> = over.collect();
        let mut any = false;
        for (pod, limit) in over {
            any |= self.evict(pod, cx, |_| {
                let limit = eviction::bytes(limit);
                let message = format!(
                    "Pod ephemeral local storage usage exceeds the total limit of containers \
                     {limit}. "
                );
                (message, GRACE_S)
            });
        }
        any
    }

    /// `evictPod`. Returns whether the pod may be evicted at all.
    fn evict(
        &mut self,
        pod: Id<crate::api::Pod>,
        cx: &mut Cx<'_>,
        say: impl FnOnce(&PodWorker) -> (String, u32),
    ) -> bool {
        let mut done = false;
        self.with(pod, cx, |pod, host, cx| {
            if critical(&pod.row) {
                return;
            }
            let (message, grace_s) = say(pod);
            pod.tell(host, cx, true, "Evicted", message.clone());
            let ending = Ending {
                reason: "Evicted",
                disruption: message.clone(),
                message,
                keeps_success: false,
            };
            let end = End {
                grace_s: Some(grace_s),
                ending: Some(ending),
            };
            pod.update(host, cx, Some(end));
            done = true;
        });
        if done {
            self.host.shortage.leaving = Some((pod, cx.now));
            self.host.look_at(cx, cx.now + POLL);
        }
        done
    }
}

/// `rankMemoryPressure` and `rankDiskPressureFunc`: pods that use more than they request first, then
/// by priority, then by how much more they use. A pod whose usage is unknown goes before all others.
fn rank(pods: &mut [&PodWorker], over: impl Fn(&PodWorker) -> Option<i64>) {
    pods.sort_by_key(|pod| {
        let over = over(pod);
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
    fn memory_bytes(&self) -> Option<i64> {
        Some(i64::from(self.memory_kib?) << 10)
    }

    fn disk_bytes(&self) -> Option<i64> {
        Some(i64::from(self.disk_mib?) << 20)
    }

    fn memory_over_request(&self) -> Option<i64> {
        Some(self.memory_bytes()? - self.row.spec.requests.memory)
    }

    fn disk_over_request(&self) -> Option<i64> {
        // A pod that runs and was not told about uses no disk.
        let used = self.disk_bytes().or(self.memory_bytes().map(|_| 0))?;
        Some(used - self.row.spec.requests.ephemeral)
    }

    /// The end of `evictionMessage`, where one container is all that was measured.
    fn consumption(&self, disk: bool) -> String {
        let [only] = self.row.spec.containers.as_slice() else {
            return String::new();
        };
        let (used, request, resource) = match disk {
            true => (
                self.disk_bytes(),
                only.requests.ephemeral,
                "ephemeral-storage",
            ),
            false => (self.memory_bytes(), only.requests.memory, "memory"),
        };
        match used {
            Some(used) if used > request => format!(
                "Container {} was using {}, request is {}, has larger consumption of {resource}. ",
                only.name,
                eviction::bytes(used),
                eviction::bytes(request)
            ),
            _ => String::new(),
        }
    }
}
