//! Which chains, sets and elements the Services of a node need, as data.
//!
//! A port of `pkg/proxy/nftables/proxier.go :: syncProxyRules`, with one difference: there a
//! Service without session affinity has one rule that maps a number to an address; here every
//! endpoint has a chain, as it has there with affinity, so that every endpoint has a counter.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::batch::Verdict;
use crate::backend::linux::net::route::Cidr;

/// An address and port behind a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Backend {
    /// Address.
    pub ip: u32,
    /// Port.
    pub port: u16,
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", Ipv4Addr::from(self.ip), self.port)
    }
}

/// One port of one Service as one node sees it, its endpoints sorted out
/// (`pkg/proxy/topology.go :: CategorizeEndpoints`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// `namespace/name/protocol/port`.
    pub name: String,
    /// Protocol number: TCP 6, UDP 17, SCTP 132.
    pub protocol: u8,
    /// The Service's address.
    pub cluster_ip: u32,
    /// Its port.
    pub port: u16,
    /// The port on every node, 0 when none.
    pub node_port: u16,
    /// How long a client stays with an endpoint, with `sessionAffinity: ClientIP`.
    pub affinity_s: Option<u32>,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// Endpoints under policy `Cluster`; empty where nothing uses it.
    pub cluster: Vec<Backend>,
    /// Endpoints under policy `Local`; empty where nothing uses it.
    pub local: Vec<Backend>,
    /// Whether any endpoint is usable from anywhere.
    pub any: bool,
}

/// A rule of a Service's chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Line {
    /// The source is to be replaced.
    Mark,
    /// As [`Line::Mark`], for packets of the node itself.
    MarkOwn,
    /// Packets of the node itself go there.
    OwnGo(String),
    /// Packets from this network go there.
    FromGo(Cidr, String),
    /// Everything goes there.
    Go(String),
    /// Clients that this set remembers go there.
    RememberedGo(String, String),
    /// One of these chains.
    Choose(Vec<String>),
    /// The client is remembered.
    Remember(String),
    /// Counted, then sent there.
    Redirect(u8, Backend),
}

/// A map or set of all Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shared {
    /// Address . protocol . port of Services: where to go.
    ServiceIps,
    /// Protocol . port of node ports: where to go.
    ServiceNodePorts,
    /// Services without endpoints: refused or dropped.
    NoEndpointServices,
    /// Node ports without endpoints: refused or dropped.
    NoEndpointNodePorts,
    /// Addresses of Services.
    ClusterIps,
    /// Connections of endpoints to themselves.
    Hairpin,
}

impl Shared {
    /// All of them.
    pub const ALL: [Shared; 6] = [
        Shared::ServiceIps,
        Shared::ServiceNodePorts,
        Shared::NoEndpointServices,
        Shared::NoEndpointNodePorts,
        Shared::ClusterIps,
        Shared::Hairpin,
    ];

    /// Its name in the kernel, kube-proxy's own.
    pub fn name(self) -> &'static str {
        match self {
            Shared::ServiceIps => "service-ips",
            Shared::ServiceNodePorts => "service-nodeports",
            Shared::NoEndpointServices => "no-endpoint-services",
            Shared::NoEndpointNodePorts => "no-endpoint-nodeports",
            Shared::ClusterIps => "cluster-ips",
            Shared::Hairpin => "hairpin-connections",
        }
    }
}

/// The chain that refuses.
pub const REJECT: &str = "reject-chain";

/// Everything that belongs to Services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Chains with their rules.
    pub chains: BTreeMap<String, Vec<Line>>,
    /// Sets that remember clients, with their timeouts in seconds.
    pub memories: BTreeMap<String, u32>,
    /// Elements of the shared sets and maps by key.
    pub elements: BTreeMap<(Shared, Vec<u8>), Option<Verdict>>,
}

/// What is special about a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRules {
    /// The address at which node ports answer.
    pub ip: u32,
    /// Networks whose packets count as the cluster's own: their source stays.
    pub own: Vec<Cidr>,
    /// Endpoints on this node have addresses in here.
    pub pods: Option<Cidr>,
    /// Endpoints are taken in turn instead of at random.
    pub in_turn: bool,
}

/// A key of several fields: each takes four bytes.
fn key(fields: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::with_capacity(fields.len() * 4);
    for field in fields {
        key.extend_from_slice(field);
        key.resize(key.len().next_multiple_of(4), 0);
    }
    key
}

impl Layout {
    /// The layout for these ports.
    pub fn of<'a>(ports: impl IntoIterator<Item = &'a ServicePort>, node: &NodeRules) -> Layout {
        let mut layout = Layout::default();
        for port in ports {
            layout.port(port, node);
        }
        layout
    }

    fn port(&mut self, port: &ServicePort, node: &NodeRules) {
        let name = &port.name;
        let cluster_chain = format!("service-{name}");
        let local_chain = format!("local-{name}");
        let external_chain = format!("external-{name}");
        let (internal_chain, has_internal) = match port.internal_local {
            true => (&local_chain, port.any && !port.local.is_empty()),
            false => (&cluster_chain, port.any),
        };
        let (policy_chain, has_external) = match port.external_local {
            true => (&local_chain, port.any && !port.local.is_empty()),
            false => (&cluster_chain, port.any),
        };
        self.policy(port, &cluster_chain, &port.cluster);
        self.policy(port, &local_chain, &port.local);
        let mut all: Vec<_> = port.cluster.iter().chain(&port.local).copied().collect();
        all.sort_unstable();
        all.dedup();
        self.endpoints(port, &all, node);
        let refused = match port.any {
            false => Verdict::Goto(REJECT.to_owned()),
            true => Verdict::Drop,
        };
        let (ip, number) = (port.cluster_ip.to_be_bytes(), port.port.to_be_bytes());
        let mut put = |shared, key, verdict| self.elements.insert((shared, key), verdict);
        put(Shared::ClusterIps, key(&[&ip]), None);
        let service = key(&[&ip, &[port.protocol], &number]);
        match has_internal {
            true => put(
                Shared::ServiceIps,
                service,
                Some(Verdict::Goto(internal_chain.clone())),
            ),
            false => put(Shared::NoEndpointServices, service, Some(refused.clone())),
        };
        if port.node_port == 0 {
            return;
        }
        let node_port = key(&[&[port.protocol], &port.node_port.to_be_bytes()]);
        if port.any {
            let verdict = Some(Verdict::Goto(external_chain.clone()));
            put(Shared::ServiceNodePorts, node_port.clone(), verdict);
        }
        if !has_external {
            put(Shared::NoEndpointNodePorts, node_port, Some(refused));
        }
        if port.any {
            let target = has_external.then_some(policy_chain);
            let lines = external(port, target, &cluster_chain, node);
            self.chains.insert(external_chain, lines);
        }
    }

    /// The chain of a traffic policy: known clients first, then a draw.
    fn policy(&mut self, port: &ServicePort, chain: &str, endpoints: &[Backend]) {
        if endpoints.is_empty() {
            return;
        }
        let mut lines = Vec::new();
        if let Some(seconds) = port.affinity_s {
            for endpoint in endpoints {
                let memory = memory(&port.name, *endpoint, seconds);
                lines.push(Line::RememberedGo(memory, chain_of(&port.name, *endpoint)));
            }
        }
        let chains = endpoints.iter().map(|e| chain_of(&port.name, *e));
        lines.push(Line::Choose(chains.collect()));
        self.chains.insert(chain.to_owned(), lines);
    }

    fn endpoints(&mut self, port: &ServicePort, endpoints: &[Backend], node: &NodeRules) {
        for endpoint in endpoints {
            let mut lines = Vec::new();
            if let Some(seconds) = port.affinity_s {
                let memory = memory(&port.name, *endpoint, seconds);
                lines.push(Line::Remember(memory.clone()));
                self.memories.insert(memory, seconds);
            }
            lines.push(Line::Redirect(port.protocol, *endpoint));
            self.chains.insert(chain_of(&port.name, *endpoint), lines);
            if node.pods.is_some_and(|pods| pods.contains(endpoint.ip)) {
                let (ip, number) = (endpoint.ip.to_be_bytes(), endpoint.port.to_be_bytes());
                let pair = key(&[&ip, &ip, &[port.protocol], &number]);
                self.elements.insert((Shared::Hairpin, pair), None);
            }
        }
    }
}

/// The chain of traffic from outside.
fn external(port: &ServicePort, to: Option<&String>, all: &str, node: &NodeRules) -> Vec<Line> {
    let mut lines = Vec::new();
    if port.external_local {
        // Pods and the node itself are not outside: they reach every endpoint.
        let own = node.own.iter();
        lines.extend(own.map(|network| Line::FromGo(*network, all.to_owned())));
        lines.push(Line::MarkOwn);
        lines.push(Line::OwnGo(all.to_owned()));
    } else {
        lines.push(Line::Mark);
    }
    lines.extend(to.map(|chain| Line::Go(chain.clone())));
    lines
}

/// The chain of an endpoint.
pub fn chain_of(port: &str, endpoint: Backend) -> String {
    let ip = Ipv4Addr::from(endpoint.ip);
    format!("endpoint-{port}__{ip}/{}", endpoint.port)
}

fn memory(port: &str, endpoint: Backend, seconds: u32) -> String {
    let ip = Ipv4Addr::from(endpoint.ip);
    format!("affinity-{port}__{ip}/{}-{seconds}", endpoint.port)
}
