//! Ranges of addresses and ports, and what of them is taken.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::{checked, has_ports, health};
use crate::api::{Meta, Service};
use crate::engine::draws::{Draws, Purpose, entity_key};

const ADDRESS: Purpose = Purpose::new("store/cluster-ip");
const PORT: Purpose = Purpose::new("store/node-port");

/// `--service-node-port-range`.
const PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// The addresses and node ports of a cluster.
#[derive(Debug)]
pub struct Pools {
    /// The network as written: `10.96.0.0/12`.
    network: String,
    /// The first and the last address of the range that can be given.
    first: u32,
    last: u32,
    /// Where the addresses begin that are drawn; those before are for manifests that name one.
    dynamic: u32,
    addresses: BTreeSet<u32>,
    ports: BTreeSet<u16>,
}

/// What a request has reserved so far.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    ports: BTreeSet<u16>,
}

impl Default for Pools {
    /// 10.96.0.0/12, as kubeadm sets it.
    fn default() -> Self {
        Pools::new("10.96.0.0/12").expect("a network")
    }
}

/// `calculateRangeOffset`: `min(max(least, size/step), most)`, 0 for small ranges.
fn offset(size: u32, step: u32, most: u32) -> u32 {
    const LEAST: u32 = 16;
    match size {
        ..=LEAST => 0,
        size => (size / step).max(LEAST).min(most),
    }
}

impl Pools {
    /// Pools over a network of IPv4 addresses, `10.96.0.0/12`; the first of two separated by a
    /// comma.
    ///
    /// # Errors
    /// When it is no such network, or one too small or too large for the API server.
    pub fn new(range: &str) -> Result<Pools, String> {
        let network = range.split(',').next().unwrap_or_default().trim();
        let read = network.split_once('/').and_then(|(address, bits)| {
            let address: Ipv4Addr = address.parse().ok()?;
            let bits: u32 = bits.parse().ok()?;
            (bits <= 32).then_some((u32::from(address), bits))
        });
        let Some((address, bits)) = read else {
            return Err(format!(
                "{network} is no network of IPv4 addresses (10.96.0.0/12)"
            ));
        };
        // `validateServiceNodePort` and its kin: at most 20 bits, at least 8 addresses.
        if !(12..=29).contains(&bits) {
            return Err(format!(
                "{network} must have between 12 and 29 bits of prefix"
            ));
        }
        let size = 1u32 << (32 - bits);
        let base = address & !(size - 1);
        let first = base + 1;
        let mut pools = Pools {
            network: format!("{}/{bits}", Ipv4Addr::from(base)),
            first,
            last: base + size - 2,
            dynamic: first + offset(size, 16, 256),
            addresses: BTreeSet::new(),
            ports: BTreeSet::new(),
        };
        // That of default/kubernetes.
        pools.addresses.insert(first);
        Ok(pools)
    }

    /// Whether a manifest can have this address. `imported` ones may lie anywhere.
    pub(super) fn reserve(&self, ip: u32, imported: bool) -> Result<(), String> {
        if imported {
            return Ok(());
        }
        if !(self.first..=self.last).contains(&ip) {
            let (ip, network) = (Ipv4Addr::from(ip), &self.network);
            return Err(format!(
                "the provided IP ({ip}) is not in the valid range. The range of valid IPs is \
                 {network}"
            ));
        }
        match self.addresses.contains(&ip) {
            true => Err("provided IP is already allocated".to_owned()),
            false => Ok(()),
        }
    }

    /// `allocateNextService`: from a drawn place onwards, in the upper part and then in the lower.
    pub(super) fn draw(&self, draws: &Draws, meta: &Meta) -> Option<u32> {
        let entity = entity_key(&[&meta.namespace, &meta.name]);
        let mut parts = [(self.dynamic, self.last), (self.first, self.dynamic - 1)].into_iter();
        parts.find_map(|(first, last)| {
            let size = u64::from(last.checked_sub(first)? + 1);
            let start = first + (draws.u64(ADDRESS, entity, u64::from(first)) % size) as u32;
            let free = |ip: &u32| !self.addresses.contains(ip);
            (start..=last).chain(first..start).find(free)
        })
    }

    /// Whether a manifest can have this node port.
    pub(super) fn reserve_port(&self, port: u16, wanted: &mut Wanted) -> Result<(), String> {
        if !PORTS.contains(&port) {
            return Err(format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                PORTS.start(),
                PORTS.end()
            ));
        }
        if self.ports.contains(&port) || !wanted.ports.insert(port) {
            return Err("provided port is already allocated".to_owned());
        }
        Ok(())
    }

    /// A port that nobody has.
    pub(super) fn draw_port(&self, draws: &Draws, meta: &Meta, wanted: &mut Wanted) -> Option<u16> {
        let entity = entity_key(&[&meta.namespace, &meta.name]);
        let count = u32::from(PORTS.end() - PORTS.start()) + 1;
        let dynamic = PORTS.start() + offset(count, 32, 128) as u16;
        let nth = wanted.ports.len() as u64;
        let parts = [(dynamic, *PORTS.end()), (*PORTS.start(), dynamic - 1)];
        let port = parts.into_iter().find_map(|(first, last)| {
            let size = u64::from(last - first) + 1;
            let start =
                first + (draws.u64(PORT, entity, nth << 16 | u64::from(first)) % size) as u16;
            let free = |port: &u16| !self.ports.contains(port) && !wanted.ports.contains(port);
            (start..=last).chain(first..start).find(free)
        })?;
        wanted.ports.insert(port);
        Some(port)
    }

    /// Keeps count of a Service that is new, changed or gone.
    pub(in crate::store) fn follow(&mut self, old: Option<&Service>, new: Option<&Service>) {
        if let Some(old) = old {
            if let Some(ip) = old.cluster_ip {
                self.addresses.remove(&ip);
            }
            for port in held(old) {
                self.ports.remove(&port);
            }
        }
        if let Some(new) = new {
            self.addresses.extend(new.cluster_ip);
            self.ports.extend(held(new));
        }
    }
}

/// The node ports of a Service.
fn held(service: &Service) -> impl Iterator<Item = u16> {
    let ports = service.ports.iter().map(|port| port.node_port);
    let ports = ports.filter(|port| *port != 0 && has_ports(service));
    let health = checked(service).then(|| health(service));
    ports.chain(health.filter(|port| *port != 0))
}
