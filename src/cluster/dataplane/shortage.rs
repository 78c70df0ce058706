//! Memory, disk and processes of nodes: what is used, whether it may run short, and whom the kernel ends when
//! all memory is used up.
//!
//! A kubelet looks at its node's memory every ten seconds. Thousands of nodes would look all day at
//! pods that cannot use more than there is, so each kubelet says once how much it wants to be left
//! ([`Call::WatchMemory`](crate::kubelet::runtime::Call)), and is told when what runs on its node
//! could come to use more, by limits, places for requests and leaks.
//!
//! What the node's own daemons use is nothing. A node's memory is looked at when its kubelet looks,
//! so that the kernel ends somebody up to ten seconds late.

use std::collections::BTreeMap;

use super::units::{OUT_OF_MEMORY, Unit};
use super::{DataPlane, Out};
use crate::api::{Node, Pod};
use crate::engine::Time;
use crate::kubelet::runtime::container_of;
use crate::kubelet::{QosClass, RuntimeEvent};
use crate::load::{Key, instance};
use crate::net::Place;
use crate::store::Id;

use crate::cluster::metrics_server::Point;

/// What a kubelet wants to be told of its node.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// So many bytes are to be left.
    floor: u64,
    /// The most that everything on it may come to use.
    most: u128,
    /// Containers that write to its disk.
    writers: u32,
    /// So many processes are not worth a look, where they are counted at all.
    enough: Option<u32>,
    /// The most processes that there may come to be.
    most_processes: u128,
}

/// What is known of the memory of nodes.
#[derive(Debug, Default)]
pub struct Nodes {
    /// By place: number and memory in bytes.
    sizes: Vec<Option<(u32, u64)>>,
    watched: Vec<Option<Watched>>,
}

impl Nodes {
    /// A node was added, or has become larger or smaller. A machine keeps the number that it
    /// registered under first.
    pub(super) fn set(&mut self, place: Place, number: u32, memory: u64) {
        let number = self.size(place).map_or(number, |(first, _)| first);
        *entry(&mut self.sizes, place) = Some((number, memory));
    }

    /// Number and memory of a node.
    fn size(&self, place: Place) -> Option<(u32, u64)> {
        *self.sizes.get(place.index())?
    }

    fn watched(&self, place: Place) -> Option<&Watched> {
        self.watched.get(place.index())?.as_ref()
    }

    fn watched_mut(&mut self, place: Place) -> Option<&mut Watched> {
        self.watched.get_mut(place.index())?.as_mut()
    }
}

fn entry<T>(all: &mut Vec<Option<T>>, place: Place) -> &mut Option<T> {
    if all.len() <= place.index() {
        all.resize_with(place.index() + 1, || None);
    }
    &mut all[place.index()]
}

/// Stands for "as much as there is".
const BOUNDLESS: u128 = u64::MAX as u128;

impl DataPlane {
    /// A kubelet says when it wants to look at its node's memory.
    pub(super) fn watch_memory(
        &mut self,
        node: &str,
        (floor_kib, most_processes): (u32, Option<u32>),
        out: &mut Out,
    ) {
        let Some(place) = self.net.place(node) else {
            return;
        };
        let mut watched = Watched {
            floor: u64::from(floor_kib) << 10,
            enough: most_processes,
            ..Watched::default()
        };
        for key in self.at.get(place.index()).into_iter().flatten() {
            watched.count(&self.units[*key], true);
        }
        *entry(&mut self.nodes.watched, place) = Some(watched);
        self.tell_tight(place, out);
    }

    /// A process begins or ends on its node.
    pub(super) fn expect_use(&mut self, unit: &Unit, begins: bool, out: &mut Out) {
        if let Some(watched) = self.nodes.watched_mut(unit.place) {
            watched.count(unit, begins);
            if begins {
                self.tell_tight(unit.place, out);
            }
        }
    }

    /// Others use this much memory in a process's cgroup.
    pub(super) fn set_ballast(&mut self, key: Key, bytes: u64, out: &mut Out) {
        let unit = &mut self.units[key];
        let place = unit.place;
        let watched = self.nodes.watched_mut(place);
        match watched {
            Some(watched) => {
                watched.count(unit, false);
                unit.instance.ballast = bytes;
                watched.count(unit, true);
            }
            None => unit.instance.ballast = bytes,
        }
        self.tell_tight(place, out);
    }

    pub(super) fn tell_tight(&self, place: Place, out: &mut Out) {
        let (Some(watched), Some((node, capacity))) =
            (self.nodes.watched(place), self.nodes.size(place))
        else {
            return;
        };
        let beside = u128::from(self.strains.beside(place));
        let most = watched.most + u128::from(watched.floor) + beside;
        let many = |enough: u32| watched.most_processes > u128::from(enough);
        let crowded = watched.enough.is_some_and(many);
        if most > u128::from(capacity) || watched.writers > 0 || crowded {
            let node = Id::<Node>::new(node);
            out.runtime.push(RuntimeEvent::Tight { node });
        }
    }

    /// `pkg/kubelet/qos/policy.go :: GetContainerOOMScoreAdjust`.
    pub(super) fn oom_adjust(&self, row: &Pod, index: u16, place: Place) -> i64 {
        /// `scheduling.SystemCriticalPriority + 1000`: of `system-node-critical`.
        const NODE_CRITICAL: i32 = 2_000_001_000;
        if row.spec.priority >= NODE_CRITICAL {
            return -997;
        }
        match QosClass::of(&row.spec) {
            QosClass::Guaranteed => -997,
            QosClass::BestEffort => 1000,
            QosClass::Burstable => {
                let capacity = self.nodes.size(place).map_or(0, |node| node.1).max(1);
                let request = container_of(&row.spec, index).map_or(0, |c| c.requests.memory);
                let share = i128::from(request) * 1000 / i128::from(capacity);
                i64::try_from(1000 - share).unwrap_or(0).clamp(3, 999)
            }
        }
    }

    /// What a node's pods use, then what is left of its memory.
    pub(super) fn stats(&mut self, node: &str, now: Time, out: &mut Out) {
        let Some(place) = self.net.place(node) else {
            return;
        };
        let capacity = self.nodes.size(place).map_or(0, |node| node.1);
        while let Some(victim) = self.used_up(place, capacity, now) {
            match victim {
                Victim::Unit(key) => self.end_unit(key, OUT_OF_MEMORY, now, out),
                Victim::Beside(number) => self.strains.end_memory(number),
            }
        }
        self.tell_tight(place, out);
        let mut pods: BTreeMap<Id<Pod>, Used> = BTreeMap::new();
        for unit in self.running_at(place).map(|key| &self.units[key]) {
            pods.entry(unit.id.pod).or_default().add(unit, now);
        }
        let count = (self.nodes.watched(place)).is_some_and(|watched| watched.enough.is_some());
        for (&pod, used) in &pods {
            used.tell(pod, count, out);
        }
        if let Some((node, capacity)) = self.nodes.size(place) {
            let used: u64 = pods.values().map(|used| used.memory).sum();
            let used = used.saturating_add(self.strains.beside(place));
            out.runtime.push(RuntimeEvent::NodeMemory {
                node: Id::new(node),
                available_kib: narrow(capacity.saturating_sub(used) >> 10),
            });
        }
    }

    /// Counters of the containers of a pod that run, each with its index in the pod.
    pub fn samples(&mut self, pod: Id<Pod>, now: Time) -> Vec<(u16, Point)> {
        let keys = match self.pods.get(pod.index()) {
            Some(Some(found)) => found.units.clone(),
            _ => return Vec::new(),
        };
        let mut all = Vec::new();
        for key in keys {
            let Some(unit) = self.units.get(key) else {
                continue;
            };
            let instance = &unit.instance;
            if instance.stage == instance::Stage::Vanished {
                continue;
            }
            let point = Point {
                started: instance.started,
                at: now,
                cpu: self.cpu.usage(instance.group, now).cpu,
                memory: instance.memory(now),
            };
            all.push((unit.id.index, point));
        }
        all
    }

    fn running_at(&self, place: Place) -> impl Iterator<Item = Key> {
        let all = self.at.get(place.index()).into_iter().flatten().copied();
        all.filter(|key| self.units[*key].instance.stage != instance::Stage::Vanished)
    }

    /// The process that the kernel ends when a node's memory is used up (`oom_badness`: the share
    /// that it uses in thousandths, and its adjustment).
    fn used_up(&self, place: Place, capacity: u64, now: Time) -> Option<Victim> {
        let memory = |key: &Key| self.units[*key].instance.memory(now);
        let used: u64 = self.running_at(place).map(|key| memory(&key)).sum();
        if used.saturating_add(self.strains.beside(place)) <= capacity {
            return None;
        }
        let badness = |memory: u64, adjust: i64| {
            let share = u128::from(memory) * 1000 / u128::from(capacity.max(1));
            i64::try_from(share)
                .unwrap_or(i64::MAX)
                .saturating_add(adjust)
        };
        let units = self.running_at(place).map(|key| {
            let badness = badness(memory(&key), self.units[key].oom_adjust);
            (badness, Victim::Unit(key))
        });
        let beside = self.strains.largest_beside(place);
        let beside = beside.map(|(number, bytes)| (badness(bytes, 0), Victim::Beside(number)));
        let all = units.chain(beside);
        all.max_by_key(|(badness, _)| *badness)
            .map(|(_, victim)| victim)
    }
}

/// Whom the kernel ends.
enum Victim {
    /// A container's process.
    Unit(Key),
    /// What keeps memory beside the pods, by its number.
    Beside(u32),
}

impl Watched {
    fn count(&mut self, unit: &Unit, begins: bool) {
        let most = unit.instance.most_memory();
        let most = most.map_or(BOUNDLESS, u128::from);
        let writes = u32::from(unit.instance.writes());
        // Its sandbox has a process too.
        let processes = unit.instance.most_processes();
        let processes = processes.map_or(BOUNDLESS, |most| u128::from(most) + 1);
        if begins {
            (self.most, self.writers) = (self.most + most, self.writers + writes);
            self.most_processes += processes;
        } else {
            self.most = self.most.saturating_sub(most);
            self.writers = self.writers.saturating_sub(writes);
            self.most_processes = self.most_processes.saturating_sub(processes);
        }
    }
}

/// What the containers of a pod use.
#[derive(Debug, Default)]
struct Used {
    memory: u64,
    disk: u64,
    files: u64,
    processes: u64,
    /// Of the disk, by container and by volume.
    layers: Vec<(u16, u64)>,
    volumes: BTreeMap<u16, u64>,
}

fn narrow(amount: u64) -> u32 {
    u32::try_from(amount).unwrap_or(u32::MAX)
}

impl Used {
    fn add(&mut self, unit: &Unit, now: Time) {
        let instance = &unit.instance;
        self.memory += instance.memory(now);
        self.files += instance.files(now);
        self.processes += instance.processes(now);
        let disk = instance.disk(now);
        if disk == 0 {
            return;
        }
        match unit.writes_to {
            Some((_, true)) => self.memory += disk,
            _ => self.disk += disk,
        }
        match unit.writes_to {
            Some((volume, _)) => *self.volumes.entry(volume).or_default() += disk,
            None => self.layers.push((unit.id.index, disk)),
        }
    }

    /// Tells of one pod; of what it does not use, nothing.
    fn tell(&self, pod: Id<Pod>, count: bool, out: &mut Out) {
        let kib = narrow(self.memory >> 10);
        out.runtime.push(RuntimeEvent::PodMemory { pod, kib });
        if self.disk > 0 {
            let mib = narrow(self.disk >> 20);
            out.runtime.push(RuntimeEvent::PodDisk { pod, mib });
        }
        for (index, bytes) in self.layers.iter().copied() {
            let kib = narrow(bytes >> 10);
            out.runtime
                .push(RuntimeEvent::ContainerDisk { pod, index, kib });
        }
        for (&volume, &bytes) in &self.volumes {
            let kib = narrow(bytes >> 10);
            out.runtime
                .push(RuntimeEvent::VolumeDisk { pod, volume, kib });
        }
        if self.files > 0 {
            let files = narrow(self.files);
            out.runtime.push(RuntimeEvent::PodFiles { pod, files });
        }
        if count {
            let processes = narrow(self.processes);
            out.runtime
                .push(RuntimeEvent::PodProcesses { pod, processes });
        }
    }
}
