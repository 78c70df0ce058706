//! The process that carries packets from uplink to uplink.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::model::{Fate, Model};
use super::{Census, Command};
use crate::backend::linux::net::child::Channel;
use crate::backend::linux::net::sys::{self, Poll, Ready};
use crate::net::topology::Place;

/// Bytes that may be on their way; more are lost, as in any network.
const MOST_BYTES: usize = 256 << 20;
/// Packets read from one uplink before the others get their turn.
const BURST: usize = 64;
const CONTROL: u64 = u64::MAX;

/// A packet on its way: due time, number (for order among equals), receiver, bytes.
type Flying = Reverse<(u64, u64, u32, Vec<u8>)>;

struct Carrier {
    model: Model,
    poll: Poll,
    /// By place.
    uplinks: Vec<Option<OwnedFd>>,
    /// Places whose cable is out.
    pulled: BTreeSet<u32>,
    flying: BinaryHeap<Flying>,
    flying_bytes: usize,
    /// Buffers to use again.
    spare: Vec<Vec<u8>>,
    numbers: u64,
    census: Census,
}

/// Carries packets until the cell closes the channel.
pub fn carry(channel: &Channel, model: Model) -> io::Result<()> {
    sys::punctual();
    let mut carrier = Carrier {
        model,
        poll: Poll::new()?,
        uplinks: Vec::new(),
        pulled: BTreeSet::new(),
        flying: BinaryHeap::new(),
        flying_bytes: 0,
        spare: Vec::new(),
        numbers: 0,
        census: Census::default(),
    };
    carrier.poll.add(channel, false, CONTROL)?;
    let (mut ready, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let limit = carrier.flying.peek().map(|Reverse((due, ..))| {
            Duration::from_nanos(due.saturating_sub(sys::monotonic_ns()))
        });
        carrier.poll.wait(limit, &mut ready)?;
        for Ready { token, .. } in &ready {
            match *token {
                CONTROL => match carrier.obey(channel) {
                    Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                    other => other?,
                },
                place => carrier.read(place as u32, &mut buffer),
            }
        }
        carrier.land();
    }
}

impl Carrier {
    fn obey(&mut self, channel: &Channel) -> io::Result<()> {
        while let Some((command, fds)) = channel.receive::<Command>()? {
            match command {
                Command::Port {
                    place,
                    name,
                    zone,
                    networks,
                } => {
                    let fd = fds.into_iter().next();
                    if self.model.node(place, &name, &zone, &networks) {
                        self.plug(place, fd)?;
                    }
                }
                Command::Unplug { place } => self.plug(place, None)?,
                Command::Carrier { place, up } => {
                    // The device's own carrier is left alone: the kernel acts on it only within
                    // about a second, in both directions.
                    match up {
                        true => self.pulled.remove(&place),
                        false => self.pulled.insert(place),
                    };
                }
                Command::Pod { ip, pod } => self.model.pod(ip, Some(pod)),
                Command::NoPod { ip } => self.model.pod(ip, None),
                Command::Zones { a, b, one_way_ns } => {
                    self.model.zones(&a, &b, Duration::from_nanos(one_way_ns));
                }
                Command::Add { id, rule } => self.model.add(id, rule),
                Command::Remove { id } => self.model.remove(id),
                Command::Census => {
                    channel.send(&self.census, &[])?;
                }
            }
        }
        Ok(())
    }

    fn plug(&mut self, place: u32, fd: Option<OwnedFd>) -> io::Result<()> {
        let at = place as usize;
        if self.uplinks.len() <= at {
            self.uplinks.resize_with(at + 1, || None);
        }
        if let Some(fd) = &fd {
            self.poll.add(fd, false, place.into())?;
        }
        // Closing the old descriptor takes it out of the epoll set.
        self.uplinks[at] = fd;
        Ok(())
    }

    /// Takes what a node sends.
    fn read(&mut self, place: u32, buffer: &mut [u8]) {
        for _ in 0..BURST {
            let Some(Some(uplink)) = self.uplinks.get(place as usize) else {
                return;
            };
            match sys::read(uplink, buffer) {
                Ok(Some(length)) if length > 0 => self.take(place, &buffer[..length]),
                Ok(_) => return,
                // The node's namespace is gone, and the link with it.
                Err(_) => {
                    self.uplinks[place as usize] = None;
                    return;
                }
            }
        }
    }

    fn take(&mut self, place: u32, packet: &[u8]) {
        // Neighbour discovery of IPv6 and the like: not part of this network.
        if packet[0] >> 4 != 4 {
            return;
        }
        let now = sys::monotonic_ns();
        match self.model.packet(Place(place), packet, now) {
            Fate::Lost => self.census.lost += 1,
            Fate::Unroutable => self.census.unroutable += 1,
            Fate::Arrive { to, .. }
                if self.pulled.contains(&place) || self.pulled.contains(&to.0) =>
            {
                self.census.unroutable += 1;
            }
            Fate::Arrive { to, at, flip } => {
                for due in at {
                    if self.flying_bytes + packet.len() > MOST_BYTES {
                        self.census.overflowed += 1;
                        continue;
                    }
                    let mut bytes = self.spare.pop().unwrap_or_default();
                    bytes.clear();
                    bytes.extend_from_slice(packet);
                    if let Some(word) = flip {
                        let bit = word % (packet.len() as u64 * 8);
                        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
                    }
                    self.flying_bytes += bytes.len();
                    self.numbers += 1;
                    self.flying.push(Reverse((due, self.numbers, to.0, bytes)));
                }
            }
        }
    }

    /// Hands over every packet whose time has come.
    fn land(&mut self) {
        const SPARE: usize = 4_096;
        let now = sys::monotonic_ns();
        while let Some(Reverse((due, ..))) = self.flying.peek()
            && *due <= now
        {
            let Some(Reverse((due, _, to, bytes))) = self.flying.pop() else {
                break;
            };
            self.flying_bytes -= bytes.len();
            let uplink = self.uplinks.get(to as usize).and_then(Option::as_ref);
            match uplink.map(|fd| sys::write(fd, &bytes)) {
                Some(Ok(Some(_))) => {
                    self.census.passed += 1;
                    self.census.bytes += bytes.len() as u64;
                    self.census.latest_ns = self.census.latest_ns.max(now - due);
                }
                Some(Ok(None)) => self.census.overflowed += 1,
                Some(Err(_)) | None => self.census.unroutable += 1,
            }
            if self.spare.len() < SPARE {
                self.spare.push(bytes);
            }
        }
    }
}
