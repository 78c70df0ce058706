//! What happens to a whole node: its power, its proxy, its memory.

use std::collections::BTreeMap;

use super::exchange::{Origin, Stage};
use super::{DataPlane, Out};
use crate::api::Pod;
use crate::engine::Time;
use crate::kubelet::RuntimeEvent;
use crate::load::Key;
use crate::load::cpu::Usage;
use crate::load::instance;
use crate::load::tally::Class;
use crate::net::Place;
use crate::store::Id;

impl DataPlane {
    /// A node's power goes off: its processes are gone and nobody is told; or comes on again, with
    /// nothing running and no rules programmed.
    pub fn node_power(&mut self, node: &str, on: bool, now: Time) {
        let Some(place) = self.net.place(node) else {
            return;
        };
        let changed = match on {
            true => self.dark.remove(&place),
            false => self.dark.insert(place),
        };
        if !changed {
            return;
        }
        self.net.run_proxy(place, on, on, now);
        for key in self.units_at(place) {
            match on {
                false => self.vanish(key, now),
                true => self.forget_unit(key),
            }
        }
    }

    /// Stops a node's kube-proxy (its rules stay), or starts it again.
    pub fn run_proxy(&mut self, node: &str, running: bool, now: Time) {
        if let Some(place) = self.net.place(node) {
            self.net.run_proxy(place, running, false, now);
        }
    }

    fn units_at(&self, place: Place) -> Vec<Key> {
        self.at.get(place.index()).cloned().unwrap_or_default()
    }

    fn vanish(&mut self, key: Key, now: Time) {
        for held in self.held_by(key) {
            self.abandon_child(held);
            let exchange = &mut self.exchanges[held];
            exchange.held = false;
            match exchange.origin {
                Origin::Probe(..) | Origin::Hook(_) => exchange.awaited = false,
                _ => exchange.stage = Stage::Lost(Class::DeadEndpoint),
            }
            self.free(held);
        }
        let unit = &mut self.units[key];
        (unit.first, unit.last) = (Key::NONE, Key::NONE);
        unit.vanished_at = now;
        unit.instance.stage = instance::Stage::Vanished;
        unit.instance.active = 0;
        unit.instance.queue.clear();
        let group = unit.instance.group;
        let mut wakes = Vec::new();
        self.cpu.remove(group, now, &mut wakes);
        // Neighbours that ran slower because of it are on the same node, which is off.
    }

    /// CPU used so far and memory in use of a pod's running containers, by
    /// [`ContainerId::index`](crate::kubelet::ContainerId::index).
    pub fn usage(&mut self, pod: Id<Pod>, now: Time) -> Vec<(u16, Usage, u64)> {
        let Some(Some(found)) = self.pods.get(pod.index()) else {
            return Vec::new();
        };
        let mut usages = Vec::new();
        for key in &found.units {
            if let Some(unit) = self.units.get(*key) {
                let used = self.cpu.usage(unit.instance.group, now);
                usages.push((unit.id.index, used, unit.instance.memory(now)));
            }
        }
        usages
    }

    /// The memory of a node's pods, then of the node.
    pub(super) fn stats(&mut self, node: &str, now: Time, out: &mut Out) {
        let Some(place) = self.net.place(node) else {
            return;
        };
        let mut pods = BTreeMap::new();
        for key in self.at.get(place.index()).into_iter().flatten() {
            let unit = &self.units[*key];
            if unit.instance.stage != instance::Stage::Vanished {
                *pods.entry(unit.id.pod).or_insert(0u64) += unit.instance.memory(now);
            }
        }
        let kib = |bytes: u64| u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        for (pod, bytes) in &pods {
            out.runtime.push(RuntimeEvent::PodMemory {
                pod: *pod,
                kib: kib(*bytes),
            });
        }
        if let Some((id, capacity)) = self.nodes.get(&place) {
            let used: u64 = pods.values().sum();
            out.runtime.push(RuntimeEvent::NodeMemory {
                node: Id::new(*id),
                available_kib: kib(capacity.saturating_sub(used)),
            });
        }
    }
}
