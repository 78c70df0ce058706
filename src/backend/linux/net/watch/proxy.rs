//! One node's proxy: what it has heard, and when it syncs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::api::container::Protocol;
use crate::backend::linux::net::fabric::NodeSpec;
use crate::backend::linux::net::nft::layout::{Backend, ServicePort};
use crate::engine::Time;
use crate::net::endpoints::{Endpoint, categorize};
use crate::net::services::{ServiceId, Services, Version};
use crate::net::topology::{Place, Topology};

/// A proxy.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Where it runs.
    pub place: Place,
    /// The node's network; none for the edge, which never goes away.
    pub spec: Option<NodeSpec>,
    lag: Duration,
    /// Changes on their way to it.
    coming: VecDeque<(Time, u64, ServiceId)>,
    /// Services that it has heard of since its last sync.
    dirty: BTreeSet<ServiceId>,
    /// The newest revision that it has heard of.
    revision: u64,
    /// No sync before this.
    next: Time,
    /// A sync up to this revision is in the kernel.
    busy: Option<u64>,
    running: bool,
    reaches: bool,
    /// Ports that it has programmed, by Service.
    programmed: BTreeMap<ServiceId, BTreeSet<String>>,
}

impl Proxy {
    /// A proxy that has heard of nothing; changes reach it after `lag`.
    pub fn new(place: Place, lag: Duration) -> Proxy {
        Proxy {
            place,
            spec: None,
            lag,
            coming: VecDeque::new(),
            dirty: BTreeSet::new(),
            revision: 0,
            next: Time::ZERO,
            busy: None,
            running: true,
            reaches: true,
            programmed: BTreeMap::new(),
        }
    }

    /// It has listed everything: these Services, as they are now.
    pub fn know_all(&mut self, services: impl Iterator<Item = ServiceId>) {
        self.dirty.extend(services);
        self.coming.clear();
        self.revision = u64::MAX;
    }

    /// A change is on its way to it.
    pub fn hear(&mut self, now: Time, revision: u64, service: ServiceId) {
        if self.running && self.reaches {
            self.coming.push_back((now + self.lag, revision, service));
        } else {
            // It will be listed when the proxy is back.
            self.dirty.insert(service);
        }
    }

    /// When it syncs next, if nothing else happens.
    pub fn due(&self) -> Option<Time> {
        if self.busy.is_some() || !self.running || !self.reaches {
            return None;
        }
        match (self.dirty.is_empty(), self.coming.front()) {
            (false, _) => Some(self.next),
            (true, Some((due, ..))) => Some(self.next.max(*due)),
            (true, None) => None,
        }
    }

    /// Syncs, if it is due: the ports that it programs, and the names of those that are gone.
    /// `newest` is the newest revision of anything.
    pub fn sync(
        &mut self,
        now: Time,
        newest: u64,
        (services, topology, pods): (&Services, &Topology, &FxHashMap<u64, u32>),
    ) -> Option<(Vec<ServicePort>, Vec<String>)> {
        if self.due().is_none_or(|due| due > now) {
            return None;
        }
        while let Some((due, revision, service)) = self.coming.front()
            && *due <= now
        {
            // After a list the newest of everything is known until the next change is heard.
            self.revision = *revision;
            self.dirty.insert(*service);
            self.coming.pop_front();
        }
        let (mut put, mut gone) = (Vec::new(), Vec::new());
        for id in std::mem::take(&mut self.dirty) {
            let version = services.at(id, self.revision);
            let ports = version.map_or_else(Vec::new, |version| {
                ports_of(id, version, services, self.place, topology, pods)
            });
            let names: BTreeSet<_> = ports.iter().map(|port| port.name.clone()).collect();
            let before = self.programmed.remove(&id).unwrap_or_default();
            gone.extend(before.difference(&names).cloned());
            if !names.is_empty() {
                self.programmed.insert(id, names);
            }
            put.extend(ports);
        }
        self.busy = Some(self.revision.min(newest));
        Some((put, gone))
    }

    /// Its sync is in force since `at`; returns the revision that its rules are of.
    pub fn synced(&mut self, at: Time, min_sync: Duration) -> Option<u64> {
        let revision = self.busy.take()?;
        self.next = at + min_sync;
        Some(revision)
    }

    /// Its machine has lost power.
    pub fn stop(&mut self) {
        self.running = false;
        self.busy = None;
        self.coming.clear();
        self.programmed.clear();
    }

    /// Its machine is up again; the kernel knows nothing.
    pub fn start(&mut self) {
        self.running = true;
        self.programmed.clear();
    }

    /// Whether it reaches the API server now; when it does again, it lists after a while.
    pub fn reach(&mut self, reaches: bool, now: Time, reconnect: Duration) {
        if reaches == self.reaches {
            return;
        }
        self.reaches = reaches;
        if reaches {
            self.next = self.next.max(now + reconnect);
            self.revision = u64::MAX;
        } else {
            // What is on its way now is lost, and listed later.
            self.dirty.extend(self.coming.drain(..).map(|c| c.2));
        }
    }
}

fn backends(endpoints: &[Endpoint]) -> Vec<Backend> {
    let each = endpoints.iter().map(|e| Backend {
        ip: e.ip,
        port: e.port,
    });
    each.collect()
}

/// The ports of a Service as the proxy at `place` programs them; none for a headless one.
fn ports_of(
    id: ServiceId,
    version: &Version,
    services: &Services,
    place: Place,
    topology: &Topology,
    pods: &FxHashMap<u64, u32>,
) -> Vec<ServicePort> {
    let Some(service) = &version.service else {
        return Vec::new();
    };
    let Some(cluster_ip) = super::address(service, id) else {
        return Vec::new();
    };
    let (namespace, name) = services.name(id);
    let policy = version.policy();
    let endpoints = version.ports(topology, pods);
    let mut ports = Vec::new();
    for (port, known) in service.ports.iter().zip(endpoints) {
        let sorted = categorize(&known.all, &known.hints, policy, place, topology);
        let (number, word) = match port.protocol {
            Protocol::Tcp => (6, "tcp"),
            Protocol::Udp => (17, "udp"),
            Protocol::Sctp => (132, "sctp"),
        };
        ports.push(ServicePort {
            name: format!("{namespace}/{name}/{word}/{}", port.name),
            protocol: number,
            cluster_ip,
            port: port.port,
            node_port: port.node_port,
            affinity_s: service.client_ip_affinity_s,
            internal_local: service.internal_local,
            external_local: service.external_local,
            cluster: backends(&sorted.cluster),
            local: backends(&sorted.local),
            any: sorted.any,
        });
    }
    ports
}
