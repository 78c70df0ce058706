//! Packets between pods of one node that take the wire all the same, while a fault is about them.
//!
//! Otherwise a node passes them on by itself, and no delay of the wire's could reach them. For a
//! pod whose packets are meant there is a table of routes that is looked into before the main one:
//! its receivers lie behind a TAP link of the node, whose other end the wire holds. The wire gives
//! packets back by the same link when their time has come; from there the main table leads them to
//! their pod.
//!
//! Two things need care. A packet leaves with the addresses that Services have given it (an answer
//! comes from the Service already), so that its source does not say who sent it: the hardware
//! address that it is sent to does, for every sender has a gateway of its own ([`hardware`]). And
//! it comes by twice, the second time as what it has become: connection tracking does not look at
//! what arrives by this link (a rule of every node, see `nft`).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::netlink::{Messages, Socket};
use super::route::{self, Cidr, NEAR};
use super::sys;

/// The number of the link.
pub const DETOUR: u32 = 99;
/// Tables of pods begin here; the number of the pod's cable is added.
const TABLES: u32 = 1_000;

/// Requests that are sent at once: a socket has room for some thousands.
const AT_ONCE: u32 = 500;

/// A sender and a receiver by address; none is any pod of the node.
pub type Pair = (Option<u32>, Option<u32>);

/// The hardware address of a sender's gateway on the link.
pub const fn hardware(sender: u32) -> [u8; 6] {
    let [a, b, c, d] = sender.to_be_bytes();
    [2, 1, a, b, c, d]
}

/// Whose gateway has this hardware address.
pub fn sender(hardware: &[u8]) -> Option<u32> {
    match hardware {
        [2, 1, a, b, c, d] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

/// The detours of a node.
#[derive(Debug, Default)]
pub struct Detours {
    /// The link is there.
    linked: bool,
    wanted: Vec<Pair>,
    /// What the kernel was asked for: by cable, the sender and its receivers.
    ways: BTreeMap<u32, (u32, BTreeSet<Cidr>)>,
}

/// What it takes to make the link.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// The node's namespace.
    pub netns: BorrowedFd<'a>,
    /// A socket there.
    pub socket: &'a Socket,
    /// Addresses of its pods.
    pub pods: Cidr,
    /// The gateway that pods see.
    pub gateway: u32,
    /// The kernel has IPv6.
    pub ipv6: bool,
}

impl Detours {
    /// From now on packets of these pairs are meant.
    pub fn want(&mut self, pairs: Vec<Pair>) {
        self.wanted = pairs;
    }

    /// Whether nothing is wanted and nothing is there.
    pub fn is_idle(&self) -> bool {
        self.wanted.is_empty() && self.ways.is_empty()
    }

    /// Makes the link if it is needed and not there; its other end.
    pub fn link(&mut self, site: Site<'_>) -> io::Result<Option<OwnedFd>> {
        if self.linked || self.wanted.is_empty() {
            return Ok(None);
        }
        let link = sys::within(site.netns, || sys::tap("detour", DETOUR))?;
        let mut m = Messages::default();
        if site.ipv6 {
            route::no_address_of_its_own(&mut m, DETOUR);
        }
        route::open_to_all(&mut m, DETOUR, NEAR);
        route::up(&mut m, DETOUR, true);
        // Sources are replaced by it here as on cables.
        route::address(&mut m, DETOUR, site.gateway);
        let asked = site.socket.request(&m);
        asked.map_err(|(number, error)| {
            io::Error::other(format!("configure its link (request {number}): {error}"))
        })?;
        self.linked = true;
        Ok(Some(link))
    }

    /// Asks the kernel for what is wanted for these pods (address and cable) and is not there, and
    /// to forget the rest.
    pub fn sync(&mut self, pods: &[(u32, u32)], site: Site<'_>) -> io::Result<()> {
        let mut m = Messages::default();
        let mut forgotten = Messages::default();
        let mut old = std::mem::take(&mut self.ways);
        for &(ip, cable) in pods {
            let meant = self
                .wanted
                .iter()
                .filter(|(from, _)| from.is_none_or(|from| from == ip));
            let to: BTreeSet<Cidr> = meant
                .map(|(_, to)| to.map_or(site.pods, Cidr::host))
                .collect();
            if to.is_empty() {
                continue;
            }
            let table = TABLES + cable;
            let before = old.remove(&cable).map(|(_, to)| to);
            if before.is_none() {
                route::neighbour(&mut m, DETOUR, ip, hardware(ip));
            }
            for way in to.difference(before.as_ref().unwrap_or(&BTreeSet::new())) {
                route::table_route(&mut m, table, *way, (DETOUR, ip), true);
            }
            for way in before.iter().flatten().filter(|way| !to.contains(way)) {
                route::table_route(&mut forgotten, table, *way, (DETOUR, ip), false);
            }
            if before.is_none() {
                route::look_up(&mut m, &cable_name(cable), table, true);
            }
            self.ways.insert(cable, (ip, to));
            if m.len() > AT_ONCE {
                send(site.socket, &mut m)?;
            }
        }
        for (cable, (ip, to)) in old {
            route::look_up(&mut forgotten, &cable_name(cable), TABLES + cable, false);
            for way in to {
                route::table_route(&mut forgotten, TABLES + cable, way, (DETOUR, ip), false);
            }
            if forgotten.len() > AT_ONCE {
                let _ = send(site.socket, &mut forgotten);
            }
        }
        // What is taken away may be gone with its cable.
        let _ = send(site.socket, &mut forgotten);
        send(site.socket, &mut m)
    }
}

/// Sends what has been gathered.
fn send(socket: &Socket, m: &mut Messages) -> io::Result<()> {
    let mut m = std::mem::take(m);
    if m.is_empty() {
        return Ok(());
    }
    let asked = socket.request(m.quiet());
    asked.map_err(|(number, error)| io::Error::other(format!("request {number}: {error}")))
}

/// What a cable is called on the node's side.
pub fn cable_name(cable: u32) -> String {
    format!("v{cable}")
}
