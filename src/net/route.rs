//! From a name to an endpoint: what happens when somebody opens a connection.
//!
//! Inside the cluster a name is resolved by the DNS server (from its own, slightly late, view). A
//! Service with a cluster address is then translated by the kube-proxy of the node where the caller
//! runs, with the rules programmed there at that moment; a headless one gives the pods' addresses
//! themselves. From the edge no name is looked up, and the edge's own proxy translates.
//!
//! An endpoint is chosen for each connection, uniformly (`--mode random` of iptables, `numgen
//! random` of nftables), unless the Service has ClientIP affinity. Whether anybody still answers
//! there is not known here.

use std::time::Duration;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::dns::{self, PortRef};
use super::endpoints::{Endpoint, categorize};
use super::link::{End, Links, Members, RuleId, Verdict};
use super::proxy::{Proxies, ProxyConfig};
use super::services::{PortEndpoints, ServiceId, Services, Version};
use super::topology::{Latencies, Place, Topology};
use crate::api::{Kind, Row, Text};
use crate::engine::Time;
use crate::engine::draws::Draws;
use crate::store::{Change, Op};

/// Parameters of the network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetConfig {
    /// Latencies without faults.
    pub latencies: Latencies,
    /// kube-proxy.
    pub proxy: ProxyConfig,
}

/// A name that is connected to, interned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target(pub u32);

#[derive(Clone, Debug)]
enum Address {
    /// A name of the cluster with its possible readings.
    Name {
        name: Text,
        /// In which it is looked up.
        namespace: Text,
        readings: SmallVec<[(Text, ServiceId); 2]>,
        port: PortRef,
    },
    /// A node port, on a named node or on any.
    NodePort { node: Option<Text>, port: u16 },
    /// The cluster address of a Service, dialled without looking a name up.
    Cluster { service: ServiceId, port: u16 },
}

/// Where a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The Service through which it was found.
    pub service: ServiceId,
    /// The node that forwards (node ports).
    pub via: Option<Place>,
    /// Whether a name had to be looked up.
    pub looked_up: bool,
}

/// Why a connection goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoRoute {
    /// No such name, or the lookup failed.
    Dns,
    /// The lookup led to an address that is nobody's: dropped.
    Astray,
    /// The Service has no usable endpoint: refused at once.
    NoEndpoints,
    /// A `Local` traffic policy and no endpoint on this node: dropped.
    NoLocalEndpoints,
    /// This node's proxy has no rules for the Service (yet): dropped.
    NotProgrammed,
}

/// A failure of name resolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsFault {
    /// Whose lookups fail.
    pub from: Members,
    /// For which full names, with `*` and `?`; empty is all.
    pub patterns: Vec<Text>,
    /// They lead to an address that is nobody's, instead of failing.
    pub astray: bool,
}

impl DnsFault {
    /// Whether a question for a full name goes wrong.
    pub fn spoils(&self, name: &str) -> bool {
        self.patterns.is_empty() || self.patterns.iter().any(|p| dns::matches(p, name))
    }
}

/// What a name was found to be: a Service, or a pod of one.
type Found = Option<(ServiceId, Option<Endpoint>)>;

#[derive(Clone, Copy, Debug)]
struct Sticky {
    pod: u32,
    ip: u32,
    used: Time,
}

/// The network: places, links, Services, proxies.
#[derive(Debug)]
pub struct Net {
    /// Places and distances.
    pub topology: Topology,
    links: Links,
    services: Services,
    proxies: Proxies,
    dns_faults: Vec<(RuleId, DnsFault)>,
    next_dns_fault: u32,
    addresses: Vec<Address>,
    affinity: FxHashMap<(Place, ServiceId, u16, u64), Sticky>,
    /// Proxies that do not run: nodes without power, stopped processes.
    stopped: FxHashMap<Place, ()>,
    /// Proxies whose watch of the API server is broken for want of a server.
    deaf: FxHashMap<Place, ()>,
}

impl Net {
    /// The network of a cluster without nodes.
    pub fn new(config: NetConfig, draws: Draws) -> Self {
        let topology = Topology::new(config.latencies);
        let mut proxies = Proxies::new(config.proxy, draws);
        proxies.add(Place::EDGE, "edge");
        Net {
            topology,
            links: Links::default(),
            services: Services::default(),
            proxies,
            dns_faults: Vec::new(),
            next_dns_fault: 0,
            addresses: Vec::new(),
            affinity: FxHashMap::default(),
            stopped: FxHashMap::default(),
            deaf: FxHashMap::default(),
        }
    }

    /// Takes in a change of the cluster, when it is committed; the lag of whoever watches is added
    /// here.
    pub fn on_change(&mut self, change: &Change, now: Time) {
        if change.kind() == Kind::Node {
            if let (Some(Row::Node(node)), true) = (&change.new, change.op != Op::Delete) {
                let place = self.topology.node(&node.meta.name, node.zone());
                self.proxies.add(place, &node.meta.name);
            }
            return;
        }
        if let Some(service) = self.services.on_change(change) {
            self.proxies.changed(change.revision, now);
            if self.services.wants_prune(service) {
                let stuck = self.proxies.stuck(now);
                let horizon = self.proxies.horizon(now);
                self.services.prune(service, horizon, &stuck);
            }
        }
    }

    /// The place of a node; nodes get one when they are created.
    pub fn place(&self, node: &str) -> Option<Place> {
        self.topology.find(node)
    }

    /// What becomes of one packet.
    #[inline]
    pub fn path(&self, from: impl Into<End>, to: impl Into<End>, draw: u64) -> Verdict {
        self.links
            .path(&self.topology, from.into(), to.into(), draw)
    }

    /// How much later bytes arrive that are sent now, for the rates on their way.
    pub fn queue(&mut self, from: End, to: End, bytes: u64, now: Time) -> Duration {
        self.links.pass(from, to, bytes, now)
    }

    /// The rules of the links.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// Changes the links, and lets each proxy know whether it can hear the API server now.
    pub fn change_links<T>(&mut self, now: Time, change: impl FnOnce(&mut Links) -> T) -> T {
        let result = change(&mut self.links);
        for place in self.topology.places() {
            self.hear_or_not(place, now, false);
        }
        result
    }

    /// Stops the proxy of a node (its rules stay), or starts it again; after a `reboot` the rules
    /// are gone until its first sync.
    pub fn run_proxy(&mut self, place: Place, running: bool, reboot: bool, now: Time) {
        match running {
            true => drop(self.stopped.remove(&place)),
            false => drop(self.stopped.insert(place, ())),
        }
        self.hear_or_not(place, now, reboot);
    }

    /// The watch of a place's proxy breaks because nobody serves it, or is there again.
    pub fn hear(&mut self, place: Place, hears: bool, now: Time) {
        match hears {
            true => drop(self.deaf.remove(&place)),
            false => drop(self.deaf.insert(place, ())),
        }
        self.hear_or_not(place, now, false);
    }

    fn hear_or_not(&mut self, place: Place, now: Time, rebooted: bool) {
        let server = Place::CONTROL_PLANE.into();
        let cut = self.stopped.contains_key(&place)
            || self.deaf.contains_key(&place)
            || self.links.cut(server, place.into())
            || self.links.cut(place.into(), server);
        match cut {
            true => self.proxies.cut(place, now),
            false => self.proxies.heal(place, now, rebooted),
        }
    }

    /// The proxy of a place that somebody else runs has programmed everything up to a revision.
    pub fn told_programmed(&mut self, place: Place, at: Time, revision: u64) {
        self.proxies.told(place, at, revision);
    }

    /// What proxies had programmed by `end`: where, since when, up to which revision. In large
    /// clusters the first nodes only.
    pub fn syncs(&mut self, end: Time) -> Vec<(Place, Time, u64)> {
        self.proxies.syncs(end)
    }

    /// Makes lookups fail.
    pub fn add_dns_fault(&mut self, fault: DnsFault) -> RuleId {
        let id = RuleId(self.next_dns_fault);
        self.next_dns_fault += 1;
        self.dns_faults.push((id, fault));
        id
    }

    /// Ends what [`Net::add_dns_fault`] began.
    pub fn remove_dns_fault(&mut self, id: RuleId) {
        self.dns_faults.retain(|(fault, _)| *fault != id);
    }

    /// Interns what somebody in `namespace` connects to: `[service/][namespace/]name[:port]`, a DNS
    /// name of the cluster, or `nodePort/[NODE]:PORT`.
    pub fn target(&mut self, text: &str, namespace: &str) -> Target {
        let address = match text.strip_prefix("nodePort/") {
            Some(rest) => {
                let (node, port) = rest.rsplit_once(':').unwrap_or(("", rest));
                Address::NodePort {
                    node: (!node.is_empty()).then(|| Text::from(node)),
                    port: port.parse().unwrap_or(0),
                }
            }
            None => {
                let (namespace, name, port) = dns::split(text, namespace);
                let readings = dns::readings(name, namespace)
                    .into_iter()
                    .map(|r| (r.pod, self.services.id(&r.namespace, &r.service)))
                    .collect();
                Address::Name {
                    name: Text::from(name),
                    namespace: Text::from(namespace),
                    readings,
                    port,
                }
            }
        };
        let target = Target(u32::try_from(self.addresses.len()).unwrap_or(u32::MAX));
        self.addresses.push(address);
        target
    }

    /// Interns the cluster address of a Service. The control plane has no proxy of its own here; the
    /// edge's translates for it.
    pub fn cluster_target(&mut self, namespace: &Text, name: &Text, port: u16) -> Target {
        let service = self.services.id(namespace, name);
        let target = Target(u32::try_from(self.addresses.len()).unwrap_or(u32::MAX));
        self.addresses.push(Address::Cluster { service, port });
        target
    }

    /// Namespace and name of a Service.
    pub fn service_name(&self, id: ServiceId) -> (&Text, &Text) {
        self.services.name(id)
    }

    /// Opens a connection from `from` to `target`. `client` is the caller's address for affinity,
    /// `draw` decides among the endpoints.
    pub fn connect(
        &mut self,
        from: End,
        target: Target,
        client: u64,
        draw: u64,
        now: Time,
    ) -> Result<Choice, NoRoute> {
        match &self.addresses[target.0 as usize] {
            Address::NodePort { node, port } => {
                let (node, port) = (node.clone(), *port);
                self.by_node_port(node.as_ref(), port, client, draw, now)
            }
            Address::Name { .. } => self.by_name(from, target, client, draw, now),
            Address::Cluster { service, port } => {
                let (service, port) = (*service, PortRef::Number(*port));
                let rules = self.proxies.revision(Place::EDGE, now);
                let endpoint =
                    self.pick(service, &port, rules, from.place, client, draw, now, false)?;
                Ok(Choice {
                    endpoint,
                    service,
                    via: None,
                    looked_up: false,
                })
            }
        }
    }

    fn by_name(
        &mut self,
        from: End,
        target: Target,
        client: u64,
        draw: u64,
        now: Time,
    ) -> Result<Choice, NoRoute> {
        let inside = from.place != Place::EDGE;
        let seen = match inside {
            true => self.proxies.dns_revision(now),
            false => self.proxies.revision(Place::EDGE, now),
        };
        let Address::Name { readings, port, .. } = &self.addresses[target.0 as usize] else {
            return Err(NoRoute::Dns);
        };
        let found = match inside && self.dns_faults.iter().any(|(_, f)| f.from.contains(from)) {
            true => self.misled(from, &self.addresses[target.0 as usize], seen)?,
            false => readings.iter().find_map(|(pod, service)| {
                self.reading(pod, *service, seen).map(|f| (*service, f))
            }),
        };
        let (service, endpoint) = found.ok_or(NoRoute::Dns)?;
        if let Some(endpoint) = endpoint {
            let direct = Choice {
                endpoint,
                service,
                via: None,
                looked_up: inside,
            };
            return Ok(direct);
        }
        let port = port.clone();
        let headless = self
            .services
            .at(service, seen)
            .is_some_and(|v| v.service.as_ref().is_some_and(|s| s.headless));
        let rules = match headless || !inside {
            true => seen,
            false => self.proxies.revision(from.place, now),
        };
        let endpoint = self.pick(
            service, &port, rules, from.place, client, draw, now, !inside,
        )?;
        Ok(Choice {
            endpoint,
            service,
            via: None,
            looked_up: inside,
        })
    }

    /// A lookup of somebody whose lookups may go wrong: the names of the search path in turn, each
    /// answered as it should be, or not.
    fn misled(&self, from: End, address: &Address, seen: u64) -> Result<Found, NoRoute> {
        let Address::Name {
            name,
            namespace,
            readings,
            ..
        } = address
        else {
            return Ok(None);
        };
        let meant = dns::readings(name, namespace);
        for candidate in dns::candidates(name, namespace) {
            let mut faults = self.dns_faults.iter().map(|(_, fault)| fault);
            match faults.find(|f| f.from.contains(from) && f.spoils(&candidate)) {
                Some(fault) if fault.astray => return Err(NoRoute::Astray),
                Some(_) => continue,
                None => {}
            }
            let known = meant.iter().position(|r| r.full_name() == candidate);
            if let Some((pod, service)) = known.map(|at| &readings[at])
                && let Some(found) = self.reading(pod, *service, seen)
            {
                return Ok(Some((*service, found)));
            }
        }
        Ok(None)
    }

    /// What one reading of a name resolves to: nothing, a pod, or (an inner `None`) the Service.
    fn reading(&self, pod: &Text, service: ServiceId, seen: u64) -> Option<Option<Endpoint>> {
        let version = self.services.at(service, seen)?;
        version.service.as_ref()?;
        if pod.is_empty() {
            return Some(None);
        }
        let pods = self.services.pod_numbers();
        let endpoint = version.pod_named(pod, &self.topology, pods)?;
        (endpoint.ready || endpoint.serving).then_some(Some(*endpoint))
    }

    fn by_node_port(
        &mut self,
        node: Option<&Text>,
        port: u16,
        client: u64,
        draw: u64,
        now: Time,
    ) -> Result<Choice, NoRoute> {
        let service = self.services.by_node_port(port);
        let service = service.ok_or(NoRoute::NoEndpoints)?;
        let via = match node {
            Some(name) => self.topology.find(name).ok_or(NoRoute::Dns)?,
            None => {
                // Any node: places from the third on are nodes.
                let nodes = self.topology.places().count().saturating_sub(2) as u64;
                let pick = (u128::from(draw.rotate_left(32)) * u128::from(nodes)) >> 64;
                Place(2 + u32::try_from(pick).unwrap_or(0))
            }
        };
        let rules = self.proxies.revision(via, now);
        let version = self
            .services
            .at(service, rules)
            .ok_or(NoRoute::NotProgrammed)?;
        let pods = self.services.pod_numbers();
        let ports = version.ports(&self.topology, pods);
        let number = ports.iter().find(|p| p.node_port == port).map(|p| p.port);
        let number = PortRef::Number(number.ok_or(NoRoute::NotProgrammed)?);
        let endpoint = self.pick(service, &number, rules, via, client, draw, now, true)?;
        Ok(Choice {
            endpoint,
            service,
            via: Some(via),
            looked_up: false,
        })
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one packet has this many properties"
    )]
    fn pick(
        &mut self,
        service: ServiceId,
        port: &PortRef,
        rules: u64,
        node: Place,
        client: u64,
        draw: u64,
        now: Time,
        external: bool,
    ) -> Result<Endpoint, NoRoute> {
        let version = self
            .services
            .at(service, rules)
            .filter(|v| v.service.is_some())
            .ok_or(NoRoute::NotProgrammed)?;
        let ports = version.ports(&self.topology, self.services.pod_numbers());
        let port = port_of(ports, port).ok_or(NoRoute::NotProgrammed)?;
        let policy = version.policy();
        let local = match external {
            true => policy.external_local && policy.external && node != Place::EDGE,
            false => policy.internal_local,
        };
        let headless = version.service.as_ref().is_some_and(|s| s.headless);
        let found;
        let near;
        let usable = if local {
            found = categorize(&port.all, &[], policy, node, &self.topology);
            if found.local.is_empty() && found.any {
                return Err(NoRoute::NoLocalEndpoints);
            }
            &found.local[..]
        } else if port.hints.is_empty() || headless {
            &port.cluster[..]
        } else {
            near = port.near(node, &self.topology);
            &near[..]
        };
        if usable.is_empty() {
            return Err(NoRoute::NoEndpoints);
        }
        let random = usable[((u128::from(draw) * usable.len() as u128) >> 64) as usize];
        let Some(timeout) = affinity_of(version) else {
            return Ok(random);
        };
        let key = (node, service, port.port, client);
        let stuck = self
            .affinity
            .get(&key)
            .filter(|s| now.since(s.used) <= timeout);
        let kept = stuck.and_then(|s| usable.iter().find(|e| e.pod == s.pod && e.ip == s.ip));
        let endpoint = kept.copied().unwrap_or(random);
        let sticky = Sticky {
            pod: endpoint.pod,
            ip: endpoint.ip,
            used: now,
        };
        self.affinity.insert(key, sticky);
        Ok(endpoint)
    }

    /// How many of the endpoints that `from` would choose among now fulfil `what`, and how many
    /// there are.
    pub fn census(
        &mut self,
        from: Place,
        service: ServiceId,
        now: Time,
        what: impl Fn(&Endpoint) -> bool,
    ) -> (usize, usize) {
        let rules = self.proxies.revision(from, now);
        let Some(version) = self.services.at(service, rules) else {
            return (0, 0);
        };
        let ports = version.ports(&self.topology, self.services.pod_numbers());
        let near;
        let usable = match ports.first() {
            None => &[][..],
            Some(port) if port.hints.is_empty() => &port.cluster[..],
            Some(port) => {
                near = port.near(from, &self.topology);
                &near[..]
            }
        };
        (usable.iter().filter(|e| what(e)).count(), usable.len())
    }

    /// The revision that the rules of a node are of.
    pub fn programmed(&mut self, place: Place, now: Time) -> u64 {
        self.proxies.revision(place, now)
    }
}

fn port_of<'a>(ports: &'a [PortEndpoints], port: &PortRef) -> Option<&'a PortEndpoints> {
    match port {
        PortRef::First => ports.first(),
        PortRef::Number(number) => ports
            .iter()
            .find(|p| p.port == *number)
            .or_else(|| ports.first().filter(|p| p.port == 0)),
        PortRef::Name(name) => ports.iter().find(|p| p.name == *name),
    }
}

fn affinity_of(version: &Version) -> Option<Duration> {
    let seconds = version.service.as_ref()?.client_ip_affinity_s?;
    Some(Duration::from_secs(u64::from(seconds)))
}

#[cfg(test)]
mod tests;
