//! Watches that break because nobody serves them, and that are tried again.
//!
//! A watch of a server that is gone breaks at once; one of a server that is silent, when its
//! connection is given up. Each client then tries again by its own back-off
//! ([`crate::client::reflector`]) and goes on from where it was, or lists anew. A kubelet that starts
//! and cannot list its pods does nothing with them before it can: containers go on.

use super::super::dispatch::{Cluster, Consequences};
use super::super::event::Event;
use super::gate::Hearing;
use super::{ControlPlane, PING, Watcher, Which};
use crate::client::reflector::next_attempt;
use crate::engine::Time;
use crate::engine::draws::entity_key;
use crate::kubelet::Boot;
use crate::net::Place;

impl ControlPlane {
    /// Whether this client's watch stands.
    pub(super) fn watches(&self, watcher: Watcher) -> bool {
        !self.lost.contains_key(&watcher)
    }
}

impl Cluster {
    fn watchers(&self) -> Vec<Watcher> {
        let nodes = (0u32..).zip(&self.machines);
        let kubelets = nodes.filter(|(_, m)| m.is_some()).map(|(n, _)| n);
        let places = self.data.net().topology.places();
        let proxies = places.filter(|place| *place != Place::CONTROL_PLANE);
        [Watcher::Manager, Watcher::Scheduler]
            .into_iter()
            .chain(kubelets.map(Watcher::Kubelet))
            .chain(proxies.map(|place| Watcher::Proxy(place.0)))
            .collect()
    }

    /// The key of a client: that of its requests, where it sends any.
    fn key(&self, watcher: Watcher) -> u64 {
        match watcher {
            Watcher::Manager => entity_key(&["kube-controller-manager"]),
            Watcher::Scheduler => entity_key(&["kube-scheduler"]),
            Watcher::Kubelet(node) => {
                let name = self.machine(node).map(|machine| machine.name.as_str());
                entity_key(&["kubelet", name.unwrap_or_default()])
            }
            Watcher::Proxy(place) => {
                let name = self.data.place_name(place).map(|name| name.as_str());
                entity_key(&["kube-proxy", name.unwrap_or_default()])
            }
        }
    }

    /// Which watches stand now; those that broke and can be served again are tried.
    pub(in crate::cluster) fn look_at_watches(&mut self, turn: Consequences<'_, '_>) {
        let now = turn.now;
        for watcher in self.watchers() {
            let client = self.key(watcher);
            let lost = self.control.lost.get(&watcher).copied();
            let broken = match (self.control.hearing(client, now), lost) {
                (Hearing::Served, None) => continue,
                (Hearing::Served, Some(broken)) => {
                    if self.control.quorum() {
                        let at = match broken > now {
                            true => now,
                            false => next_attempt(broken, now, &self.draws, client),
                        };
                        turn.at(at, Event::Reconnect(watcher));
                    }
                    continue;
                }
                (Hearing::Refused, _) => now,
                (Hearing::Silent, _) => now + PING,
            };
            let broken = lost.map_or(broken, |lost| lost.min(broken));
            self.control.lost.insert(watcher, broken);
            if lost.is_none() {
                self.hears(watcher, false, now);
            }
        }
    }

    /// Somebody tries to watch again.
    pub(in crate::cluster) fn reconnect(&mut self, watcher: Watcher, turn: Consequences<'_, '_>) {
        let hearing = self.control.hearing(self.key(watcher), turn.now);
        if hearing != Hearing::Served || !self.control.quorum() {
            return;
        }
        if self.control.lost.remove(&watcher).is_none() {
            return;
        }
        self.hears(watcher, true, turn.now);
        let Watcher::Kubelet(node) = watcher else {
            return;
        };
        match self.control.starts.remove(&node) {
            Some(boot)
                if self
                    .machine(node)
                    .is_some_and(|m| m.powered && m.kubelet_up) =>
            {
                self.start_kubelet(node, boot, turn);
            }
            Some(_) => {}
            None => self.relist_kubelet(node, turn),
        }
    }

    fn hears(&mut self, watcher: Watcher, hears: bool, now: Time) {
        match watcher {
            Watcher::Manager => self.set_up(Which::Manager),
            Watcher::Scheduler => self.set_up(Which::Scheduler),
            Watcher::Kubelet(node) => {
                if let Some(machine) = self.machine_mut(node) {
                    machine.served = hears;
                    if !hears {
                        machine.cut();
                    }
                }
            }
            Watcher::Proxy(place) => self.data.hear(Place(place), hears, now),
        }
    }

    /// A kubelet starts: whether it must wait until it can list its pods.
    pub(in crate::cluster) fn must_wait(&mut self, node: u32, boot: Boot, now: Time) -> bool {
        if !self.control.touched {
            return false;
        }
        let client = self.key(Watcher::Kubelet(node));
        let served = self.control.hearing(client, now) == Hearing::Served;
        if served && self.control.quorum() {
            self.control.starts.remove(&node);
            return false;
        }
        self.control
            .lost
            .entry(Watcher::Kubelet(node))
            .or_insert(now);
        self.hears(Watcher::Kubelet(node), false, now);
        let starts = &mut self.control.starts;
        let before = starts.get(&node).copied();
        // A machine that booted has nothing running, whatever its kubelet did since.
        starts.insert(node, before.filter(|b| *b == Boot::Reboot).unwrap_or(boot));
        true
    }
}
