//! What happens to a whole node: its power and its proxy; and what its pods use.

use super::DataPlane;
use super::exchange::{Origin, Stage};
use crate::api::Pod;
use crate::engine::Time;
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
        if !on {
            self.end_strains_beside(place, now);
        }
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

    /// The proxy of a place loses its watch of the API server for want of a server, or has it again.
    pub fn hear(&mut self, place: Place, hears: bool, now: Time) {
        self.net.hear(place, hears, now);
    }

    fn units_at(&self, place: Place) -> Vec<Key> {
        let units = self.at.get(place.index()).into_iter().flatten();
        units.copied().collect()
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
}
