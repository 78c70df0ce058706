//! A node that runs short of something: when it looks, and which pod goes.
//!
//! `pkg/kubelet/eviction/eviction_manager.go :: synchronize` from the thresholds that call for
//! action on ([`eviction`](super::eviction) finds them). One pod is killed at a time.
//!
//! Upstream looks every ten seconds for ever. Here the runtime says when a node may run short at all
//! ([`RuntimeEvent::Tight`](super::RuntimeEvent)); looks that cannot find anything are left out.
//! There is one filesystem for all. A node has an inode for each 16 KiB of it, as `mkfs.ext4` makes
//! them, of which an image takes one for each 24 KiB, as images of common distributions do. It has a
//! process number for each 128 KiB of memory, as the kernel's `threads-max`, at most 4,194,304; each
//! sandbox takes one. What the node's own daemons use of anything is nothing.
//!
//! Upstream waits for the end of each pod that is past a limit of its own before it looks at the
//! next; here they end at the same time.

use std::collections::BTreeSet;
use std::time::Duration;

use super::admission::critical;
use super::agent::{Event, Kubelet};
use super::eviction::{Memory, Observation, Observations, Pressure, Signal};
use super::host::{Cx, Host};
use super::image_name::with_tag;
use super::pod_worker::{End, Ending, PodWorker, Work};
use super::record::Sandbox;
use super::runtime::Call;
use super::usage::{Scarce, rank};
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
/// Bytes of a filesystem for each inode (`inode_ratio` of `mke2fs.conf`).
const BYTES_PER_INODE: i64 = 16 << 10;
/// Bytes of an image for each of its files.
const BYTES_PER_IMAGE_FILE: i64 = 24 << 10;
/// Bytes of memory for each process (`kernel/fork.c :: set_max_threads`: stacks of 16 KiB may take
/// an eighth of it).
const BYTES_PER_PROCESS: i64 = 128 << 10;
/// `kernel.pid_max` of a machine with 64 bits.
const PID_MAX: i64 = 4 << 20;

/// How many processes a node with so much memory can have.
fn most_processes(memory: i64) -> i64 {
    (memory / BYTES_PER_PROCESS).min(PID_MAX)
}

/// What is known of a node's shortages.
#[derive(Debug)]
pub(super) struct Shortage {
    due: Time,
    /// The runtime said that the node may run short, and has not been asked since.
    tight: bool,
    /// The pods that were evicted last, and when, until they are gone.
    leaving: Vec<(Id<crate::api::Pod>, Time)>,
    memory: Option<Box<Memory>>,
}

impl Default for Shortage {
    fn default() -> Self {
        Shortage {
            due: Time::MAX,
            tight: false,
            leaving: Vec::new(),
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
            let rules = &self.config.eviction;
            let floor = rules.floor(Pressure::Memory, capacity).unwrap_or(0).max(0);
            let numbers = most_processes(capacity);
            let spare = rules.floor(Pressure::Pid, numbers);
            let narrow = |amount: i64| u32::try_from(amount.max(0)).unwrap_or(u32::MAX);
            let what = Call::WatchMemory {
                floor_kib: narrow(floor >> 10),
                most_processes: spare.map(|spare| narrow(numbers - spare)),
            };
            self.ask(cx, what);
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
            .iter()
            .map(|(_, mib)| i64::from(*mib) << 20)
            .sum()
    }

    /// `deleteUnusedImages`.
    fn remove_images(&mut self, used: &BTreeSet<Text>, cx: &mut Cx<'_>) {
        if self.images.present.keep(used) {
            self.reporting.images_changed = true;
            self.wake_node_status(cx);
        }
    }
}

/// What is said of a pod that is evicted, and the seconds that it has.
struct Ousted {
    message: String,
    /// The message of its condition `DisruptionTarget`.
    disruption: Option<String>,
    grace_s: u32,
}

impl Kubelet {
    /// It is time to look.
    pub(super) fn shortage_due(&mut self, cx: &mut Cx<'_>) {
        let shortage = &mut self.host.shortage;
        if shortage.due != cx.now {
            return;
        }
        let gone = |pod: &PodWorker| pod.work >= Work::Terminated;
        let waits = shortage.leaving.iter().any(|(pod, since)| {
            let cleaned = self.pods.get(pod).is_none_or(gone);
            !cleaned && cx.now.since(*since) < CLEANUP
        });
        if waits {
            self.host.look_at(cx, cx.now + POLL);
            return;
        }
        shortage.leaving.clear();
        shortage.tight = false;
        for pod in self.pods.values_mut() {
            pod.usage = None;
        }
        self.host.look_at(cx, cx.now + PERIOD);
        self.host.ask(cx, Call::Stats);
    }

    /// `makeSignalObservations`.
    fn observe(&self, available: i64) -> Observations {
        let status = &self.host.row.status;
        let used = |scarce| -> i64 {
            let pods = self.pods.values();
            pods.filter_map(|pod| pod.used(scarce)).sum()
        };
        let capacity = status.capacity.memory;
        // The pods' cgroup has the threshold on top of what the node shows as allocatable.
        let rules = &self.host.config.eviction;
        let floor = rules.floor(Pressure::Memory, capacity).unwrap_or(0);
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
            (
                Signal::AllocatableMemory,
                seen(of_pods, of_pods - used(Scarce::Memory)),
            ),
        ]);
        let disk = status.capacity.ephemeral;
        if disk > 0 {
            let images = self.host.disk_used_by_images();
            let left = (disk - images - used(Scarce::Disk)).max(0);
            let inodes = disk / BYTES_PER_INODE;
            let files = images / BYTES_PER_IMAGE_FILE + used(Scarce::Inodes);
            let free = (inodes - files).max(0);
            for signal in [Signal::NodeFs, Signal::ImageFs] {
                all.insert(signal, seen(disk, left));
            }
            for signal in [Signal::NodeFsInodes, Signal::ImageFsInodes] {
                all.insert(signal, seen(inodes, free));
            }
        }
        if rules.floor(Pressure::Pid, 0).is_some() {
            let numbers = most_processes(capacity);
            let pods = self.pods.values();
            let sandboxes = pods.filter(|pod| pod.record.sandbox == Sandbox::Ready);
            let sandboxes = sandboxes.count();
            let sandboxes = i64::try_from(sandboxes).unwrap_or(i64::MAX);
            let left = numbers - used(Scarce::Processes) - sandboxes;
            all.insert(Signal::Pid, seen(numbers, left));
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
        if disk && self.reclaim_images(available, cx) {
            return;
        }
        let scarce = threshold.signal.scarce();
        let mut ranked: Vec<&PodWorker> = self.active().collect();
        rank(&mut ranked, scarce);
        let ranked: Vec<Id<crate::api::Pod>> = ranked.iter().map(|pod| pod.id).collect();
        let quantities = rules.quantities(&due, resource, &seen);
        let low = format!("The node was low on resource: {resource}. {quantities}");
        for pod in ranked {
            let soft = (!threshold.hard()).then_some(rules.max_grace_s);
            if self.evict(pod, cx, |pod| {
                let usage = pod.usage.as_deref();
                let more = usage.map(|usage| usage.consumption(&pod.row.spec, scarce));
                let message = format!("{low}{}", more.unwrap_or_default());
                Ousted {
                    grace_s: soft.map_or(GRACE_S, |most| most.min(pod.row.spec.grace_s)),
                    disruption: Some(message.clone()),
                    message,
                }
            }) {
                return;
            }
        }
    }

    /// `reclaimNodeLevelResources`: images that nobody uses go; whether that is enough.
    fn reclaim_images(&mut self, available: i64, cx: &mut Cx<'_>) -> bool {
        let known = self.pods.values().filter(|pod| pod.work < Work::Finished);
        let all = known.flat_map(|pod| {
            let spec = &pod.row.spec;
            spec.init_containers.iter().chain(&spec.containers)
        });
        let used: BTreeSet<Text> = all.map(|c| with_tag(&c.image)).collect();
        self.host.remove_images(&used, cx);
        let seen = self.observe(available);
        Memory::relieved(&self.host.config.eviction, &seen)
    }

    /// `localStorageEviction`: pods that use more disk than limits of their own allow. They are
    /// not disrupted: it is their own doing.
    fn evict_over_limit(&mut self, cx: &mut Cx<'_>) -> bool {
        let over = self.active().filter_map(|pod| {
            let message = pod.usage.as_ref()?.over_limit(&pod.row.spec)?;
            Some((pod.id, message))
        });
        let over: Vec<_> = over.collect();
        let mut any = false;
        for (pod, message) in over {
            any |= self.evict(pod, cx, |_| Ousted {
                message,
                disruption: None,
                grace_s: GRACE_S,
            });
        }
        any
    }

    /// `evictPod`. Returns whether the pod may be evicted at all.
    fn evict(
        &mut self,
        pod: Id<crate::api::Pod>,
        cx: &mut Cx<'_>,
        say: impl FnOnce(&PodWorker) -> Ousted,
    ) -> bool {
        let mut done = false;
        self.with(pod, cx, |pod, host, cx| {
            if critical(&pod.row) {
                return;
            }
            let why = say(pod);
            pod.tell(host, cx, true, "Evicted", why.message.clone());
            let ending = Ending {
                reason: "Evicted",
                disruption: why.disruption,
                message: why.message,
                keeps_success: false,
            };
            let end = End {
                grace_s: Some(why.grace_s),
                ending: Some(ending),
            };
            pod.update(host, cx, Some(end));
            done = true;
        });
        if done {
            self.host.shortage.leaving.push((pod, cx.now));
            self.host.look_at(cx, cx.now + POLL);
        }
        done
    }
}
