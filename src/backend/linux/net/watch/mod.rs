//! What the main process tells the network: Services as each node's proxy sees them, names,
//! trouble, Traffics.
//!
//! A proxy hears of a change after its watch's lag, and programs everything heard so far in one
//! sync; between the end of one sync and the next at least `minSyncPeriod` passes
//! (`pkg/proxy/runner :: BoundedFrequencyRunner`). Lag and period are those of the simulated
//! proxies, under the same draws; how long a sync takes is up to the kernel. A proxy that cannot
//! reach the API server keeps the rules that it has.
//!
//! What it does not know: descriptors, processes, the wall clock. It takes in what happened and
//! gives out [`Command`]s.
//!
//! Read first: [`Watch`], then [`proxy`] (one node's proxy) and [`heading`] (where a Traffic goes).

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use super::dns::{Entry, Lie};
use super::fabric::NodeSpec;
use super::fault::Trouble;
use super::network::{Command, EDGE, Report};
use super::nft::layout::NodeRules;
use super::route::Cidr;
use super::traffic::{Plan, Told};
use super::wire::{Effect, Rule};
use crate::api::service::{Service, ServiceKind};
use crate::api::{Kind, Pod, Row};
use crate::cluster::Event;
use crate::cluster::dataplane::told::UserEvent;
use crate::engine::draws::{Purpose, entity_key};
use crate::engine::{Draws, Time};
use crate::fault::{DnsRule, Ends, LinkEffect, LinkRule, PodKey, WrongAnswer};
use crate::kubelet::KubeletConfig;
use crate::load::Traffic;
use crate::net::link::{self, Links, Members, RuleId};
use crate::net::proxy::ProxyConfig;
use crate::net::services::{ServiceId, Services};
use crate::net::topology::{Latencies, Place, Topology};
use crate::store::{Change, Op};

pub mod heading;

pub mod proxy;

use heading::Heading;
use proxy::Proxy;

/// The simulated proxies' purpose: both hear with the same lag.
const WATCH_LAG: Purpose = Purpose::new("net/proxy-watch-lag");

/// Addresses of users beyond the edge.
pub const USERS: Cidr = Cidr {
    ip: 0x0afa_0000,
    bits: 16,
};
/// Addresses of Services that ask for none: 10.96.1.0 and on.
const FIRST_VIP: u32 = 0x0a60_0100;
/// The edge's own address, the last but one of the nodes' network.
const EDGE_OFFSET: u32 = 0xfffe;

/// A pod that has a network.
#[derive(Clone, Debug)]
struct Sandbox {
    number: u32,
    ip: u32,
    node: String,
}

/// Everything that the network is told.
#[derive(Debug)]
pub struct Watch {
    seed: u64,
    draws: Draws,
    config: ProxyConfig,
    kubelet: KubeletConfig,
    topology: Topology,
    services: Services,
    /// By node; the edge among them.
    proxies: BTreeMap<String, Proxy>,
    sandboxes: BTreeMap<PodKey, Sandbox>,
    /// The newest revision of anything.
    newest: u64,
    headings: Vec<Heading>,
    links: Links,
    troubles: Vec<(LinkRule, RuleId, Vec<u32>)>,
    /// Lookups that go wrong, with the numbers of their troubles.
    misled: Vec<(DnsRule, u32)>,
    next_trouble: u32,
    /// What this network does not have, in sentences.
    lost: BTreeSet<String>,
}

/// The address of a Service: its own, or one by its number; none for headless ones and aliases.
fn address(service: &Service, id: ServiceId) -> Option<u32> {
    let none = service.headless || service.kind == ServiceKind::ExternalName;
    (!none).then(|| service.cluster_ip.unwrap_or(FIRST_VIP + id.0))
}

/// What the wire does for an effect.
fn effects_of(effect: LinkEffect) -> Vec<Effect> {
    match effect {
        LinkEffect::Cut => vec![Effect::Link(link::Effect::Cut)],
        LinkEffect::Delay {
            latency,
            jitter,
            early_per_million,
            ..
        } => {
            let delay = link::Effect::Delay {
                by: latency,
                jitter,
                early_per_million: 0,
            };
            let mut effects = vec![Effect::Link(delay)];
            if early_per_million > 0 {
                let per_million = early_per_million;
                effects.push(Effect::Reorder { per_million });
            }
            effects
        }
        LinkEffect::Loss { per_million, .. } => {
            vec![Effect::Link(link::Effect::Loss { per_million })]
        }
        LinkEffect::Corrupt { per_million } => vec![Effect::Corrupt { per_million }],
        LinkEffect::Duplicate { per_million } => vec![Effect::Duplicate { per_million }],
        LinkEffect::Rate {
            bytes_per_s,
            burst,
            queue,
        } => vec![Effect::Rate {
            bytes_per_s,
            burst,
            queue,
        }],
    }
}

fn event_of(told: Told) -> (Time, Event) {
    let small = |traffic: u32| u16::try_from(traffic).unwrap_or(u16::MAX);
    let (at, event) = match told {
        Told::Sent { traffic, at } => {
            let traffic = small(traffic);
            (at, UserEvent::Sent { traffic })
        }
        Told::Ended {
            traffic,
            sent,
            at,
            cause,
            endpoint,
            ..
        } => {
            let event = UserEvent::Ended {
                traffic: small(traffic),
                cause,
                latency_us: u32::try_from(at.saturating_sub(sent) / 1_000).unwrap_or(u32::MAX),
                endpoint,
            };
            (at, event)
        }
    };
    (Time::from_nanos(at), Event::Users(event))
}

impl Watch {
    /// No objects yet. Returns what the network is told first.
    pub fn new(seed: u64, config: ProxyConfig, latencies: Latencies) -> (Watch, Vec<Command>) {
        let draws = Draws::new(seed);
        let mut watch = Watch {
            seed,
            draws,
            config,
            kubelet: KubeletConfig::default(),
            topology: Topology::new(latencies),
            services: Services::default(),
            proxies: BTreeMap::new(),
            sandboxes: BTreeMap::new(),
            newest: 0,
            headings: Vec::new(),
            links: Links::default(),
            troubles: Vec::new(),
            misled: Vec::new(),
            next_trouble: 0,
            lost: BTreeSet::new(),
        };
        let spec = NodeSpec {
            name: EDGE.to_owned(),
            place: Place::EDGE.0,
            zone: watch.topology.zone_of(Place::EDGE).to_string(),
            ip: watch.kubelet.node_network + EDGE_OFFSET,
            pods: USERS,
        };
        let rules = watch.rules(&spec);
        watch.add_proxy(EDGE, Place::EDGE);
        (watch, vec![Command::Edge(spec, rules, USERS)])
    }

    /// What this network does not have that the run asked for.
    pub fn lost(&self) -> impl Iterator<Item = &str> {
        self.lost.iter().map(String::as_str)
    }

    fn rules(&self, spec: &NodeSpec) -> NodeRules {
        // All pods' addresses lie below the Services'.
        let pods = Cidr {
            ip: self.kubelet.pod_network,
            bits: 10,
        };
        let nodes = Cidr {
            ip: self.kubelet.node_network,
            bits: 16,
        };
        NodeRules {
            ip: spec.ip,
            own: vec![pods, nodes, USERS],
            pods: (spec.name != EDGE).then_some(spec.pods),
            in_turn: false,
        }
    }

    fn add_proxy(&mut self, name: &str, place: Place) {
        let unit = self.draws.unit(WATCH_LAG, entity_key(&[name]), 0);
        let lag = self.config.watch_lag.sample(unit);
        let mut proxy = Proxy::new(place, lag);
        // It begins with a list of everything there is.
        proxy.know_all(self.services_known());
        self.proxies.insert(name.to_owned(), proxy);
    }

    fn services_known(&self) -> impl Iterator<Item = ServiceId> + use<> {
        (0..self.services.count()).map(ServiceId)
    }

    fn node_spec(&self, name: &str, zone: &str, number: u32, place: Place) -> NodeSpec {
        let bits = self.kubelet.pod_bits;
        NodeSpec {
            name: name.to_owned(),
            place: place.0,
            zone: zone.to_owned(),
            ip: self.kubelet.node_network + number + 1,
            pods: Cidr {
                ip: self.kubelet.pod_network + (number << bits),
                bits: u8::try_from(32 - bits).unwrap_or(32),
            },
        }
    }

    /// An object changed.
    pub fn on_change(&mut self, change: &Change, now: Time) -> Vec<Command> {
        let mut out = Vec::new();
        self.newest = self.newest.max(change.revision);
        if change.kind() == Kind::Node {
            self.node_changed(change, &mut out);
        } else if let Some(id) = self.services.on_change(change) {
            for proxy in self.proxies.values_mut() {
                proxy.hear(now, change.revision, id);
            }
            out.push(self.name(id));
            self.look_for_targets(&mut out);
            if self.services.wants_prune(id) {
                // Nobody reads a version older than the slowest proxy's lag.
                let horizon = now.as_nanos().saturating_sub(5_000_000_000);
                self.services.prune(id, Time::from_nanos(horizon), &[]);
            }
        }
        out
    }

    /// A change of a Service with the address that the Service has in this run.
    pub fn with_address(&mut self, mut change: Change) -> Change {
        if let Some(Row::Service(service)) = &change.new
            && service.cluster_ip.is_none()
        {
            let id = self
                .services
                .id(&service.meta.namespace, &service.meta.name);
            let mut service = Service::clone(service);
            service.cluster_ip = address(&service, id);
            change.new = Some(Row::Service(std::sync::Arc::new(service)));
        }
        change
    }

    fn node_changed(&mut self, change: &Change, out: &mut Vec<Command>) {
        let (Some(Row::Node(node)), Some(object)) = (&change.new, change.object) else {
            return;
        };
        let name = node.meta.name.as_str();
        match change.op {
            Op::Delete => {
                if self.proxies.remove(name).is_some() {
                    out.push(Command::NodeGone(name.to_owned()));
                }
            }
            _ if self.proxies.contains_key(name) => {}
            _ => {
                let place = self.topology.node(name, node.zone());
                let spec = self.node_spec(name, node.zone(), object.index, place);
                let rules = self.rules(&spec);
                self.add_proxy(name, place);
                out.push(Command::Node(spec.clone(), rules));
                if let Some(proxy) = self.proxies.get_mut(name) {
                    proxy.spec = Some(spec);
                }
            }
        }
    }

    /// What the name of a Service stands for now.
    fn name(&self, id: ServiceId) -> Command {
        let (namespace, name) = self.services.name(id);
        let entry = self.services.newest(id).and_then(|version| {
            let service = version.service.as_ref()?;
            let mut entry = Entry::default();
            if service.kind == ServiceKind::ExternalName {
                entry.alias = Some(service.external_name.to_string());
            } else if let Some(ip) = address(service, id) {
                entry.addresses.push(ip);
            } else {
                for endpoint in version.endpoints() {
                    if endpoint.ready || service.publish_not_ready {
                        entry.addresses.push(endpoint.ip);
                        entry.pods.insert(endpoint.pod.to_string(), endpoint.ip);
                    }
                }
                entry.addresses.sort_unstable();
                entry.addresses.dedup();
            }
            Some(entry)
        });
        Command::Name(namespace.to_string(), name.to_string(), entry)
    }

    /// When a proxy wants to sync next; none when all are at rest or at work.
    pub fn due(&self) -> Option<Time> {
        self.proxies.values().filter_map(Proxy::due).min()
    }

    /// Lets the proxies sync that are due.
    pub fn on_time(&mut self, now: Time) -> Vec<Command> {
        let mut out = Vec::new();
        let none = FxHashMap::default();
        for (node, proxy) in &mut self.proxies {
            let known = (&self.services, &self.topology, &none);
            if let Some((put, gone)) = proxy.sync(now, self.newest, known) {
                let node = node.clone();
                out.push(Command::Services { node, put, gone });
            }
        }
        out
    }

    /// The network said something: what the cluster hears of it.
    pub fn on_report(&mut self, report: &Report, at: Time) -> Vec<(Time, Event)> {
        match report {
            Report::Programmed { node } => {
                let Some(proxy) = self.proxies.get_mut(node) else {
                    return Vec::new();
                };
                let place = proxy.place.0;
                let revision = proxy.synced(at, self.config.min_sync);
                let event = revision.map(|revision| (at, Event::Programmed(place, revision)));
                event.into_iter().collect()
            }
            Report::Told(told) => told.iter().map(|one| event_of(*one)).collect(),
            Report::Problem(text) => {
                self.lost.insert(text.clone());
                Vec::new()
            }
        }
    }

    /// A machine lost its power, or has it again.
    pub fn on_power(&mut self, node: &str, on: bool) -> Vec<Command> {
        let known = self.services_known();
        let Some(proxy) = self.proxies.get_mut(node) else {
            return Vec::new();
        };
        let Some(spec) = proxy.spec.clone() else {
            return Vec::new();
        };
        if !on {
            proxy.stop();
            self.sandboxes.retain(|_, sandbox| sandbox.node != node);
            return vec![Command::NodeGone(node.to_owned())];
        }
        proxy.start();
        proxy.know_all(known);
        let rules = self.rules(&spec);
        vec![Command::Node(spec, rules)]
    }

    /// A pod gets its network: from now on rules can name it.
    pub fn on_sandbox(&mut self, node: &str, number: u32, row: &Pod, ip: u32) {
        let key = PodKey {
            namespace: row.meta.namespace.clone(),
            name: row.meta.name.clone(),
            uid: row.meta.uid,
        };
        let node = node.to_owned();
        self.sandboxes.insert(key, Sandbox { number, ip, node });
    }

    /// A pod is gone.
    pub fn on_removed(&mut self, number: u32) {
        self.sandboxes.retain(|_, sandbox| sandbox.number != number);
    }

    fn members(&self, ends: &Ends) -> Members {
        if ends.anybody {
            return Members::everything();
        }
        let mut members = Members::default();
        if ends.control_plane {
            members.places.insert(Place::CONTROL_PLANE);
        }
        if ends.edge {
            members.places.insert(Place::EDGE);
        }
        let nodes = ends
            .nodes
            .iter()
            .filter_map(|name| self.topology.find(name));
        members.places.extend(nodes);
        let pods = ends.pods.iter().filter_map(|key| self.sandboxes.get(key));
        members.pods.extend(pods.map(|sandbox| sandbox.number));
        members
    }

    /// A disturbance of links begins or ends.
    pub fn on_link(&mut self, rule: &LinkRule, on: bool, now: Time) -> Vec<Command> {
        let mut out = Vec::new();
        if on {
            self.begin_trouble(rule, &mut out);
        } else if let Some(at) = self.troubles.iter().position(|(r, ..)| r == rule) {
            let (_, id, numbers) = self.troubles.remove(at);
            self.links.remove(id);
            out.extend(numbers.into_iter().map(Command::Calm));
        }
        for proxy in self.proxies.values_mut() {
            let (server, node) = (Place::CONTROL_PLANE.into(), proxy.place.into());
            let cut = self.links.cut(server, node) || self.links.cut(node, server);
            proxy.reach(!cut, now, self.config.reconnect);
        }
        out
    }

    fn begin_trouble(&mut self, rule: &LinkRule, out: &mut Vec<Command>) {
        let (from, to) = (self.members(&rule.from), self.members(&rule.to));
        let mut troubles: Vec<Trouble> = effects_of(rule.effect)
            .into_iter()
            .map(|effect| {
                let (from, to) = (from.clone(), to.clone());
                Trouble::Wire(Rule { from, to, effect })
            })
            .collect();
        troubles.extend(self.within(rule));
        let net_rule = link::Rule {
            from,
            to,
            effect: match rule.effect {
                LinkEffect::Cut => link::Effect::Cut,
                _ => link::Effect::Loss { per_million: 0 },
            },
        };
        let mut numbers = Vec::new();
        for trouble in troubles {
            numbers.push(self.next_trouble);
            out.push(Command::Trouble(self.next_trouble, trouble));
            self.next_trouble += 1;
        }
        let id = self.links.add(net_rule);
        self.troubles.push((rule.clone(), id, numbers));
    }

    /// Lookups go wrong, or right again. A pod that gets another address later is not meant any
    /// more.
    pub fn on_names(&mut self, rule: &DnsRule, on: bool) -> Vec<Command> {
        if !on {
            let known = self.misled.iter().position(|(known, _)| known == rule);
            let number = known.map(|at| self.misled.remove(at).1);
            return number.map(Command::Calm).into_iter().collect();
        }
        let pods = rule.pods.iter().filter_map(|key| self.sandboxes.get(key));
        let lie = Lie {
            askers: pods.map(|sandbox| sandbox.ip).collect(),
            patterns: rule.patterns.iter().map(|p| p.to_string()).collect(),
            random: rule.answer == WrongAnswer::Random,
        };
        let number = self.next_trouble;
        self.next_trouble += 1;
        self.misled.push((rule.clone(), number));
        vec![Command::Trouble(number, Trouble::Names(lie))]
    }

    /// Which packets a rule is about that would never leave their node.
    fn within(&self, rule: &LinkRule) -> Vec<Trouble> {
        let on = |ends: &Ends, node: &str| -> Vec<Option<u32>> {
            if ends.anybody || ends.nodes.iter().any(|n| *n == node) {
                return vec![None];
            }
            let pods = ends.pods.iter().filter_map(|key| self.sandboxes.get(key));
            let here = pods.filter(|sandbox| sandbox.node == node);
            here.map(|sandbox| Some(sandbox.ip)).collect()
        };
        let mut troubles = Vec::new();
        for node in self.proxies.keys() {
            let (from, to) = (on(&rule.from, node), on(&rule.to, node));
            // Cut-off nodes reach themselves.
            let pairs: Vec<_> = from
                .iter()
                .flat_map(|from| to.iter().map(|to| (*from, *to)))
                .filter(|(from, to)| from.is_some() || to.is_some())
                .collect();
            if !pairs.is_empty() {
                let node = node.clone();
                troubles.push(Trouble::Within { node, pairs });
            }
        }
        troubles
    }

    /// Whether a rule is about packets between a pod and everybody, its own node among them.
    pub fn troubles_everybody(&self, pod: u32) -> bool {
        // Asked about every probe, and nearly always there are none.
        if self.troubles.is_empty() {
            return false;
        }
        let found = self.sandboxes.iter().find(|(_, s)| s.number == pod);
        let Some((key, sandbox)) = found else {
            return false;
        };
        let node = sandbox.node.as_str();
        let everybody = |ends: &Ends| ends.anybody || ends.nodes.iter().any(|n| *n == *node);
        self.troubles.iter().any(|(rule, ..)| {
            let pod = |ends: &Ends| ends.pods.contains(key);
            pod(&rule.from) && everybody(&rule.to) || everybody(&rule.from) && pod(&rule.to)
        })
    }

    /// A Traffic begins; `number` is its own, `zero_ns` the instant of the monotonic clock at which
    /// the run began.
    pub fn on_traffic(
        &mut self,
        number: u32,
        traffic: &Traffic,
        epoch: Time,
        zero_ns: u64,
    ) -> Vec<Command> {
        if traffic.client.multiplex {
            let name = &traffic.name;
            let text = format!("Traffic {name}: HTTP/1.1 connections are not shared by requests");
            self.lost.insert(text);
        }
        let mut heading = Heading::new(number, traffic, &mut self.services);
        let to = heading.look(&self.services, &self.node_addresses());
        let plan = Plan {
            number,
            traffic: traffic.clone(),
            seed: self.seed,
            epoch_ns: epoch.as_nanos(),
            zero_ns,
            users: traffic.from.is_none().then_some(USERS),
            host: heading.host.clone(),
            to: to.unwrap_or_default(),
        };
        self.headings.push(heading);
        let from = traffic.from.as_ref().map(|node| node.to_string());
        vec![Command::Traffic(Box::new(plan), from)]
    }

    fn node_addresses(&self) -> Vec<(String, u32)> {
        let specs = self
            .proxies
            .values()
            .filter_map(|proxy| proxy.spec.as_ref());
        specs.map(|spec| (spec.name.clone(), spec.ip)).collect()
    }

    /// Tells where Traffics go that go somewhere else now.
    fn look_for_targets(&mut self, out: &mut Vec<Command>) {
        let nodes = self.node_addresses();
        for heading in &mut self.headings {
            if let Some(to) = heading.look(&self.services, &nodes) {
                out.push(Command::Target(heading.number, to));
            }
        }
    }
}

#[cfg(test)]
mod tests;
