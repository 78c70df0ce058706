//! Requests on their way: the glue between `net`, `load` and the containers that run.
//!
//! [`net`](crate::net) knows where a connection goes and how long a packet takes,
//! [`load`](crate::load) knows what clients want and what serving costs; neither knows the other.
//! Here a request is moved from one to the other: a client sends it ([`client`]), the proxy's
//! choice is dialled, the process there accepts or refuses ([`serve`]), works on it, calls others,
//! answers. Containers come and go by [`units`]; [`traffic`] is where requests of users begin.
//!
//! What it does not know: the kubelet's decisions, the API server, time beyond what its own events
//! say. Everything is in slabs: memory follows what is in flight, not what was ever sent.
//!
//! Read first: [`DataPlane`] and [`Event`], then [`exchange`], [`client`], [`serve`].
//!
//! Approximations, all of the order of one network latency: the handshake of a connection and the
//! request that opens it are one event at the time when the request would arrive; the answer to a
//! user is counted, and its connection used again, when the server has sent it (its latency is
//! exact); idle connections of a process that ended are known to be closed at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::api::{Kind, Node, Row, Text};
use crate::engine::Time;
use crate::engine::draws::Draws;
use crate::kubelet::RuntimeEvent;
use crate::load::cpu::{Cpu, Wake};
use crate::load::tally::Cause;
use crate::load::{AppModel, Key, Slab, Tally};
use crate::net::link::{Links, Rule, RuleId};
use crate::net::route::DnsFault;
use crate::net::{Net, NetConfig, Place};
use crate::store::{Change, Op};

pub mod exchange;

pub mod client;

pub mod serve;

pub mod units;

pub mod power;

pub mod shortage;

pub mod strain;

pub mod probes;

pub mod traffic;

pub mod told;

pub mod webhooks;

pub mod http;

use exchange::Exchange;
use traffic::Sender;
use units::{Pod, Unit};

/// What happens in the data plane. Numbers are places in its slabs; `generation` tells whether what
/// was there then is there still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Event {
    /// The next request of a sender is due.
    Arrive(u32),
    /// A user of a closed executor sends the next request.
    User {
        /// Which sender.
        sender: u32,
        /// Which of its users.
        user: u32,
    },
    /// A request reaches its server.
    Deliver(Key),
    /// A packet was lost: it is sent again.
    Resend(Key),
    /// The non-CPU part of serving a request is over.
    Waited(Key),
    /// An answer reaches a caller inside the cluster.
    Answer(Key),
    /// The pause before a retry is over.
    Retry(Key),
    /// The oldest attempt of a sender may have run out of time.
    Expire(u32),
    /// A cgroup's CPU time is due.
    Cpu {
        /// Its place.
        slot: u32,
        /// Number of the wake.
        number: u32,
    },
    /// Something is due in a process's life.
    Life(Key),
    /// A probe or hook that needs no place among the requests is done.
    Done(Key),
    /// The threads of a load begin to compute, or pause.
    Strain(u32),
}

const _: () = assert!(size_of::<Event>() <= 12, "events are copied by the million");

/// What a call into the data plane leads to; emptied by the caller.
#[derive(Clone, Debug, Default)]
pub struct Out {
    /// Events for the data plane with their due times.
    pub timers: Vec<(Time, Event)>,
    /// What the containers' runtimes have to tell their kubelets, now.
    pub runtime: Vec<RuntimeEvent>,
    /// What came of the API server's questions to webhooks: the question, and why it failed.
    pub webhooks: Vec<(Key, Result<(), Cause>)>,
}

impl Out {
    /// Whether nothing is wanted.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.timers.is_empty() && self.runtime.is_empty() && self.webhooks.is_empty()
    }

    /// Asks for `event` at `at`.
    #[inline]
    fn at(&mut self, at: Time, event: Event) {
        self.timers.push((at, event));
    }
}

/// Network, load, and everything in flight between them.
#[derive(Debug)]
pub struct DataPlane {
    net: Net,
    draws: Draws,
    models: Vec<Arc<AppModel>>,
    /// Senders of each model's calls, made when its first container starts.
    calls: Vec<Option<Arc<[u32]>>>,
    /// Kinds of clients: each Traffic, and each call of each model.
    senders: Vec<Sender>,
    traffics: Vec<u32>,
    exchanges: Slab<Exchange>,
    units: Slab<Unit>,
    /// By the number of the pod.
    pods: Vec<Option<Pod>>,
    /// The names of those that went while somebody could have met them.
    gone: FxHashMap<u32, (Text, Text)>,
    /// How many pods have got an address.
    addressed: u32,
    /// The newest pod that had an address; none before somebody asks.
    by_ip: Option<FxHashMap<u32, u32>>,
    /// Pods whose containers only sleep.
    idle: std::collections::BTreeSet<u32>,
    /// Processes by place, in the order of starting.
    at: Vec<SmallVec<[Key; 3]>>,
    /// Places without power.
    dark: BTreeSet<Place>,
    /// Memory of the nodes by place, and what their kubelets want to be told about it.
    nodes: shortage::Nodes,
    /// Loads that faults put on containers and nodes.
    strains: strain::Strains,
    cpu: Cpu,
    wakes: Vec<Wake>,
    finished: Vec<u32>,
    /// What HTTPChaos does.
    http: http::Proxies,
    default_model: Arc<AppModel>,
    default_batch: Arc<AppModel>,
    default_init: Arc<AppModel>,
}

impl DataPlane {
    /// A data plane without nodes, containers or traffic.
    pub fn new(config: NetConfig, draws: Draws) -> Self {
        let [default_model, default_batch, default_init] = units::default_models();
        DataPlane {
            net: Net::new(config, draws),
            draws,
            models: Vec::new(),
            calls: Vec::new(),
            senders: Vec::new(),
            traffics: Vec::new(),
            exchanges: Slab::default(),
            units: Slab::default(),
            pods: Vec::new(),
            gone: FxHashMap::default(),
            addressed: 0,
            by_ip: None,
            idle: std::collections::BTreeSet::new(),
            at: Vec::new(),
            dark: BTreeSet::new(),
            nodes: shortage::Nodes::default(),
            strains: strain::Strains::default(),
            cpu: Cpu::default(),
            wakes: Vec::new(),
            finished: Vec::new(),
            http: http::Proxies::default(),
            default_model,
            default_batch,
            default_init,
        }
    }

    /// The network, for asking what becomes of API traffic.
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// Adds an AppModel; the first one whose selector matches a pod applies to it. It concerns
    /// containers that are started later.
    pub fn add_model(&mut self, model: AppModel) {
        self.models.push(Arc::new(model));
    }

    /// Takes in a committed change of the cluster. Proxies hear of it with their own lag.
    pub fn on_change(&mut self, change: &Change, now: Time) {
        if only_reports(change) {
            return;
        }
        self.net.on_change(change, now);
        match (change.kind(), &change.new) {
            (Kind::Pod, Some(Row::Pod(pod))) => {
                let Some(object) = change.object else { return };
                self.pod_changed(object.index, pod, change.op == Op::Delete);
            }
            (Kind::Node, Some(Row::Node(node))) if change.op != Op::Delete => {
                if let (Some(place), Some(object)) =
                    (self.net.place(&node.meta.name), change.object)
                {
                    let memory = u64::try_from(node.status.capacity.memory).unwrap_or(0);
                    self.nodes.set(place, object.index, memory);
                    let milli = u64::try_from(node.status.capacity.cpu_milli).unwrap_or(0);
                    if milli > 0 {
                        self.cpu.set_cores(place.0, milli);
                    }
                }
            }
            _ => {}
        }
    }

    /// Lets one of its events happen.
    pub fn on_event(&mut self, event: Event, now: Time, out: &mut Out) {
        match event {
            Event::Arrive(sender) => self.arrive(sender, now, out),
            Event::User { sender, user } => self.user(sender, user, now, out),
            Event::Deliver(key) => self.deliver(key, now, out),
            Event::Resend(key) => self.resend(key, now, out),
            Event::Waited(key) => self.waited(key, now, out),
            Event::Answer(key) => self.answered(key, now, out),
            Event::Retry(key) => self.retry(key, now, out),
            Event::Expire(sender) => self.expire(sender, now, out),
            Event::Cpu { slot, number } => self.cpu_due(slot, number, now, out),
            Event::Life(key) => self.life(key, now, out),
            Event::Done(key) => self.probe_done(key, now, out),
            Event::Strain(number) => self.strain_turns(number, now, out),
        }
    }

    /// Changes the links between places; proxies that can no longer hear the API server stop
    /// advancing.
    pub fn add_rule(&mut self, rule: Rule, now: Time) -> RuleId {
        self.net
            .change_links(now, |links: &mut Links| links.add(rule))
    }

    /// Ends what [`DataPlane::add_rule`] began.
    pub fn remove_rule(&mut self, id: RuleId, now: Time) {
        self.net.change_links(now, |links: &mut Links| {
            links.remove(id);
        });
    }

    /// Makes name lookups fail.
    pub fn add_dns_fault(&mut self, fault: DnsFault) -> RuleId {
        self.net.add_dns_fault(fault)
    }

    /// Ends what [`DataPlane::add_dns_fault`] began.
    pub fn remove_dns_fault(&mut self, id: RuleId) {
        self.net.remove_dns_fault(id);
    }

    /// Sets the distance between two zones.
    pub fn set_zone_latency(&mut self, a: &str, b: &str, one_way: std::time::Duration) {
        self.net.topology.set_zone_latency(a, b, one_way);
    }

    /// The Traffics in the order in which they were added, with their tallies.
    pub fn tallies(&self) -> impl Iterator<Item = (&Text, &Tally)> {
        self.traffics.iter().map(|sender| {
            let sender = &self.senders[*sender as usize];
            (&sender.name, &sender.tally)
        })
    }

    /// Calls between Services: the calling model, the Service that is called, and the tally.
    pub fn call_tallies(&self) -> impl Iterator<Item = (&Text, &Text, &Tally)> {
        self.senders
            .iter()
            .filter(|s| s.caller.is_some())
            .filter_map(|s| Some((s.caller.as_ref()?, &s.name, &s.tally)))
    }

    /// Takes the seconds that are over of the n-th Traffic.
    pub fn take_rows(&mut self, traffic: usize) -> Vec<crate::load::tally::Second> {
        match self.traffics.get(traffic) {
            Some(sender) => self.senders[*sender as usize].tally.take_rows(),
            None => Vec::new(),
        }
    }

    /// The run is over: closes the last seconds.
    pub fn finish(&mut self) {
        for sender in &mut self.senders {
            sender.tally.finish();
        }
    }

    /// Namespace and name of a pod that is not there any more, if anybody could have sent requests to it.
    pub fn name_of_gone(&self, pod: u32) -> Option<(&Text, &Text)> {
        let (namespace, name) = self.gone.get(&pod)?;
        Some((namespace, name))
    }

    /// What proxies had programmed by `end`: where, since when, up to which revision. In large
    /// clusters the first nodes only.
    pub fn syncs(&mut self, end: Time) -> Vec<(Place, Time, u64)> {
        self.net.syncs(end)
    }

    /// The name of a node (or of the edge) by the number of its place.
    pub fn place_name(&self, place: u32) -> Option<&Text> {
        let known = self.net.topology.places().count();
        ((place as usize) < known).then(|| self.net.topology.name(Place(place)))
    }

    /// How many requests, calls and probes are in flight, and how many the memory for them was ever
    /// made for.
    pub fn in_flight(&self) -> (usize, usize) {
        (self.exchanges.len(), self.exchanges.capacity())
    }

    /// Pushes what the CPU model asked for.
    #[inline]
    fn push_wakes(&mut self, out: &mut Out) {
        for wake in self.wakes.drain(..) {
            let (slot, number) = (wake.slot, wake.number);
            out.at(wake.at, Event::Cpu { slot, number });
        }
    }
}

/// Whether a change of a Node is one that nothing here looks at: most of them are reports that it is
/// as it was.
fn only_reports(change: &Change) -> bool {
    let (Op::Update, Some(Row::Node(old)), Some(Row::Node(new))) =
        (change.op, &change.old, &change.new)
    else {
        return false;
    };
    let room = |node: &Node| (node.status.capacity.memory, node.status.capacity.cpu_milli);
    room(old) == room(new) && old.meta.name == new.meta.name && old.same_zone(new)
}

#[cfg(test)]
mod tests;
