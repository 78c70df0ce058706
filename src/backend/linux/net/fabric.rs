//! Nodes and pods as network namespaces.
//!
//! A node is a namespace with an uplink to the wire, a default route over it, and a pair of virtual
//! cables to every pod. Pods are routed one by one: a pod has its address with no neighbours and a
//! gateway at the other end of its cable; the node has a route to that one address. There is no
//! bridge, so that packets between pods of one node meet the node's rules as any others do, and
//! every pod has counters of its own.
//!
//! Nothing is ever deleted link by link (that waits for the kernel, 36 ms each): dropping a node or
//! pod closes its namespace, and the kernel takes everything down in the background. An address can
//! be given again at once, its new route replaces the old one.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::detour::{Detours, Pair, Site, cable_name};
use super::netlink::{Messages, Socket};
use super::route::{self, Cidr, LOOPBACK, Way};
use super::spares::{Spare, Spares};
use super::sys::{self, NetError, Result, Step};
use super::wire::Wire;
use crate::net::topology::Latencies;

/// The gateway that every pod sees at the other end of its cable.
pub const GATEWAY: u32 = 0xa9fe_0101;
/// The number of a node's uplink. Low numbers are avoided: some kernels put links of their own into
/// every new namespace.
pub const UPLINK: u32 = 100;
/// The number of a pod's own end of its cable.
const POD_LINK: u32 = 100;

/// What a node is made from.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NodeSpec {
    /// Its name.
    pub name: String,
    /// The number of its place: 1 for the edge, from 2 on for nodes in the order of joining.
    pub place: u32,
    /// Its zone.
    pub zone: String,
    /// Its address.
    pub ip: u32,
    /// The addresses of its pods.
    pub pods: Cidr,
}

/// A node's network.
#[derive(Debug)]
pub struct Node {
    spec: NodeSpec,
    netns: OwnedFd,
    socket: Socket,
    filter: Socket,
    /// The number of the next cable.
    next_link: u32,
    pods: BTreeMap<u32, Pod>,
    detours: Detours,
}

/// A pod's network.
#[derive(Debug)]
pub struct Pod {
    netns: OwnedFd,
    /// The number of the node's end of its cable.
    link: u32,
}

/// All nodes, and the wire between them.
#[derive(Debug)]
pub struct Fabric {
    wire: Wire,
    /// The namespace of whoever made this.
    home: OwnedFd,
    /// Namespaces that pods will get.
    spares: Spares,
    /// The kernel has IPv6.
    ipv6: bool,
    nodes: BTreeMap<String, Node>,
}

fn failed(what: &str, (number, source): (u32, io::Error)) -> NetError {
    NetError {
        step: format!("{what} (request {number})"),
        source,
    }
}

impl Fabric {
    /// A network without nodes, with these distances between zones. `seed` decides losses and
    /// jitter.
    pub fn new(seed: u64, latencies: &Latencies) -> Result<Fabric> {
        Ok(Fabric {
            wire: Wire::new(seed, latencies)?,
            home: sys::current_netns().step(|| "hold this namespace".to_owned())?,
            spares: Spares::start().step(|| "start the maker of namespaces".to_owned())?,
            ipv6: std::path::Path::new("/proc/net/if_inet6").exists(),
            nodes: BTreeMap::new(),
        })
    }

    /// The wire between the nodes.
    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Makes a node's network and plugs it in. A node of this name that is there already is
    /// replaced, as a machine that was switched off and on.
    pub fn add_node(&mut self, spec: NodeSpec) -> Result<()> {
        let step = |what: &str| format!("node {}: {what}", spec.name);
        self.nodes.remove(&spec.name);
        let made = sys::new_netns(|| {
            let uplink = sys::tun("uplink", UPLINK)?;
            Ok((uplink, Socket::route()?, Socket::netfilter()?))
        });
        let (netns, (uplink, socket, filter)) =
            made.step(|| step("make its namespace and uplink"))?;
        let mut m = Messages::default();
        route::up(&mut m, LOOPBACK, false);
        route::address(&mut m, UPLINK, spec.ip);
        route::up(&mut m, UPLINK, true);
        route::route(&mut m, Cidr { ip: 0, bits: 0 }, Way::Link(UPLINK), None);
        // A pod that is gone must not be looked for on the wire, which would send it back here.
        route::route(&mut m, spec.pods, Way::Nowhere, None);
        socket
            .request(&m)
            .map_err(|e| failed(&step("configure its uplink"), e))?;
        let networks = [Cidr::host(spec.ip), spec.pods];
        self.wire
            .plug(spec.place, &spec.name, &spec.zone, &networks, &uplink)?;
        let node = Node {
            netns,
            socket,
            filter,
            next_link: UPLINK + 1,
            pods: BTreeMap::new(),
            detours: Detours::default(),
            spec,
        };
        self.nodes.insert(node.spec.name.clone(), node);
        Ok(())
    }

    /// The node loses its network at once: power off, or gone for good.
    pub fn remove_node(&mut self, name: &str) -> Result<()> {
        let Some(node) = self.nodes.remove(name) else {
            return Ok(());
        };
        self.wire.unplug(node.spec.place)
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// All nodes by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(name, node)| (name.as_str(), node))
    }

    fn node_mut(&mut self, name: &str) -> Result<&mut Node> {
        let none = io::Error::from(io::ErrorKind::NotFound);
        self.nodes.get_mut(name).ok_or(NetError {
            step: format!("find the network of node {name}"),
            source: none,
        })
    }

    /// Makes a pod's network; `number` is the pod's in rules that name pods. Returns its namespace.
    pub fn add_pod(&mut self, node: &str, ip: u32, number: u32) -> Result<BorrowedFd<'_>> {
        self.node_mut(node)?;
        let spare = self.spares.take(self.home.as_fd());
        let step = || {
            format!(
                "pod {} on node {node}: make its namespace",
                Ipv4Addr::from(ip)
            )
        };
        let spare = spare.step(step)?;
        let ipv6 = self.ipv6;
        self.node_mut(node)?.add_pod(ip, spare, ipv6)?;
        self.wire.pod(ip, Some(number))?;
        self.sync_detours(node)?;
        let node = self.node_mut(node)?;
        Ok(node.pods[&ip].netns.as_fd())
    }

    /// Drops a pod's network. Processes that still live in it keep it, cut off or not, until they
    /// end.
    pub fn remove_pod(&mut self, node: &str, ip: u32) -> Result<()> {
        let Ok(node) = self.node_mut(node) else {
            return Ok(());
        };
        if let Some(pod) = node.pods.remove(&ip) {
            // Whoever still sends to the address is refused at once, even while the namespace is
            // being taken down.
            let mut m = Messages::default();
            route::remove_route(&mut m, Cidr::host(ip), Way::Link(pod.link));
            let _ = node.socket.request(m.quiet());
            let name = node.spec.name.clone();
            self.wire.pod(ip, None)?;
            self.sync_detours(&name)?;
        }
        Ok(())
    }

    /// From now on packets of these pairs of a node's pods take the wire as those to other nodes
    /// do, and no others.
    pub fn detour(&mut self, node: &str, pairs: Vec<Pair>) -> Result<()> {
        self.node_mut(node)?.detours.want(pairs);
        self.sync_detours(node)
    }

    fn sync_detours(&mut self, node: &str) -> Result<()> {
        let ipv6 = self.ipv6;
        let found = self.node_mut(node)?;
        if found.detours.is_idle() {
            return Ok(());
        }
        let step = || format!("lead packets between pods of node {node} over the wire");
        let pods: Vec<_> = found.pods.iter().map(|(ip, pod)| (*ip, pod.link)).collect();
        let site = Site {
            netns: found.netns.as_fd(),
            socket: &found.socket,
            pods: found.spec.pods,
            gateway: GATEWAY,
            ipv6,
        };
        let (link, place) = (found.detours.link(site).step(step)?, found.spec.place);
        let synced = found.detours.sync(&pods, site).step(step);
        if let Some(link) = link {
            self.wire.detour(place, &link)?;
        }
        synced
    }

    /// Makes a namespace beside a node from which users send: every address of `network` is its
    /// own, so that each user can have one.
    pub fn add_client(&mut self, node: &str, network: Cidr) -> Result<OwnedFd> {
        let spare =
            Spare::make(self.home.as_fd()).step(|| "make the users' namespace".to_owned())?;
        let ipv6 = self.ipv6;
        let node = self.node_mut(node)?;
        node.cable(
            (network.ip, network.ip.wrapping_add(1)),
            network,
            &spare,
            ipv6,
        )?;
        Ok(spare.netns)
    }
}

impl Node {
    /// What it was made from.
    pub fn spec(&self) -> &NodeSpec {
        &self.spec
    }

    /// Its namespace.
    pub fn netns(&self) -> BorrowedFd<'_> {
        self.netns.as_fd()
    }

    /// A netlink socket in its namespace.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// A socket for packet filters and connection tracking in its namespace.
    pub fn filter(&self) -> &Socket {
        &self.filter
    }

    /// The namespace of the pod at an address.
    pub fn pod(&self, ip: u32) -> Option<BorrowedFd<'_>> {
        self.pods.get(&ip).map(|pod| pod.netns.as_fd())
    }

    /// Addresses of its pods.
    pub fn pods(&self) -> impl Iterator<Item = u32> {
        self.pods.keys().copied()
    }

    /// The number of its end of the cable to a pod.
    pub fn link_of(&self, ip: u32) -> Option<u32> {
        self.pods.get(&ip).map(|pod| pod.link)
    }

    fn add_pod(&mut self, ip: u32, spare: Spare, ipv6: bool) -> Result<()> {
        let link = self.cable((ip, ip), Cidr::host(ip), &spare, ipv6)?;
        let netns = spare.netns;
        self.pods.insert(ip, Pod { netns, link });
        Ok(())
    }

    /// Lays a cable from a namespace to this one; its number. `network` is routed to it, its own
    /// address there is `source`.
    fn cable(
        &mut self,
        (ip, source): (u32, u32),
        network: Cidr,
        to: &Spare,
        ipv6: bool,
    ) -> Result<u32> {
        let address = Ipv4Addr::from(ip);
        let step = |what: &str| format!("pod {address} on node {}: {what}", self.spec.name);
        let Spare { netns, inside } = to;
        let link = self.next_link;
        self.next_link += 1;
        let mut m = Messages::default();
        route::veth(
            &mut m,
            &cable_name(link),
            link,
            "eth0",
            POD_LINK,
            netns.as_raw_fd(),
        );
        if ipv6 {
            route::no_address_of_its_own(&mut m, link);
        }
        route::address(&mut m, link, GATEWAY);
        route::up(&mut m, link, true);
        route::neighbour(&mut m, link, source, route::FAR);
        self.socket
            .request(m.quiet())
            .map_err(|e| failed(&step("join it to the node"), e))?;
        let mut m = Messages::default();
        if ipv6 {
            route::no_address_of_its_own(&mut m, POD_LINK);
        }
        route::address(&mut m, POD_LINK, source);
        route::up(&mut m, POD_LINK, false);
        route::neighbour(&mut m, POD_LINK, GATEWAY, route::NEAR);
        route::route(&mut m, Cidr::host(GATEWAY), Way::Link(POD_LINK), None);
        let everywhere = Cidr { ip: 0, bits: 0 };
        let way = Way::Via(POD_LINK, GATEWAY);
        route::route(&mut m, everywhere, way, Some(source));
        if network.bits < 32 {
            route::route(&mut m, network, Way::Local, None);
        }
        inside
            .request(m.quiet())
            .map_err(|e| failed(&step("configure its link"), e))?;
        // Last, when it can answer.
        let mut m = Messages::default();
        route::settle(&mut m, link);
        route::route(&mut m, Cidr::host(source), Way::Link(link), None);
        if network.bits < 32 {
            // Through its one address: thousands of users are one neighbour.
            route::route(&mut m, network, Way::Via(link, source), None);
        }
        self.socket
            .request(m.quiet())
            .map_err(|e| failed(&step("route to it"), e))?;
        Ok(link)
    }
}

#[cfg(test)]
mod tests;
