//! The process that carries packets from uplink to uplink.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::model::{Fate, Model};
use super::{Census, Command};
use crate::backend::linux::net::child::Channel;
use crate::backend::linux::net::detour::sender;
use crate::backend::linux::net::route::NEAR;
use crate::backend::linux::net::sys::{self, Poll, Ready};
use crate::net::topology::Place;

/// Bytes that may be on their way; more are lost, as in any network.
const MOST_BYTES: usize = 256 << 20;
/// Packets read from one uplink before the others get their turn.
const BURST: usize = 64;
const CONTROL: u64 = u64::MAX;

/// The length of an Ethernet header.
const ETHERNET: usize = 14;

/// A packet on its way: due time, number (for order among equals), receiver's link, bytes.
type Flying = Reverse<(u64, u64, usize, Vec<u8>)>;

/// Where a place's uplink is among the links.
fn uplink(place: u32) -> usize {
    2 * place as usize
}

/// Where the link of packets between a place's own pods is among them.
fn detour(place: u32) -> usize {
    2 * place as usize + 1
}

struct Carrier {
    model: Model,
    poll: Poll,
    /// By [`uplink`] and [`detour`] of a place.
    links: Vec<Option<OwnedFd>>,
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
        links: Vec::new(),
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
                link => carrier.read(link as usize, &mut buffer),
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
                        self.plug(uplink(place), fd)?;
                        self.plug(detour(place), None)?;
                    }
                }
                Command::Detour { place } => {
                    self.plug(detour(place), fds.into_iter().next())?;
                }
                Command::Unplug { place } => {
                    self.plug(uplink(place), None)?;
                    self.plug(detour(place), None)?;
                }
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

    fn plug(&mut self, at: usize, fd: Option<OwnedFd>) -> io::Result<()> {
        if self.links.len() <= at {
            self.links.resize_with(at + 1, || None);
        }
        if let Some(fd) = &fd {
            self.poll.add(fd, false, at as u64)?;
        }
        // Closing the old descriptor takes it out of the epoll set.
        self.links[at] = fd;
        Ok(())
    }

    /// Takes what a node sends.
    fn read(&mut self, at: usize, buffer: &mut [u8]) {
        for _ in 0..BURST {
            let Some(Some(link)) = self.links.get(at) else {
                return;
            };
            let place = Place((at / 2) as u32);
            match sys::read(link, buffer) {
                Ok(Some(length)) if length > 0 && at == uplink(place.0) => {
                    self.take(place, &buffer[..length]);
                }
                Ok(Some(length)) if length > ETHERNET => self.take_frame(place, &buffer[..length]),
                Ok(_) => return,
                // The node's namespace is gone, and the link with it.
                Err(_) => {
                    self.links[at] = None;
                    return;
                }
            }
        }
    }

    /// A packet to another node.
    fn take(&mut self, place: Place, packet: &[u8]) {
        // Neighbour discovery of IPv6 and the like: not part of this network.
        if packet[0] >> 4 != 4 {
            return;
        }
        let now = sys::monotonic_ns();
        let fate = self.model.packet(place, packet, now);
        if let Fate::Arrive { to, .. } = fate
            && (self.pulled.contains(&place.0) || self.pulled.contains(&to.0))
        {
            self.census.unroutable += 1;
            return;
        }
        self.fly(fate, uplink, &[], packet);
    }

    /// A packet between pods of one node, with the header of its link.
    fn take_frame(&mut self, place: Place, frame: &[u8]) {
        let (header, packet) = frame.split_at(ETHERNET);
        let Some(sender) = sender(&header[..6]) else {
            return;
        };
        let fate = self
            .model
            .within(place, sender, packet, sys::monotonic_ns());
        // Back to the node, from nobody in particular.
        let mut back = [0; ETHERNET];
        back[..6].copy_from_slice(&NEAR);
        back[6..12].copy_from_slice(&header[..6]);
        back[12..].copy_from_slice(&header[12..]);
        self.fly(fate, detour, &back, packet);
    }

    /// Lets a packet be on its way to a link of its receiver's place, under this header.
    fn fly(&mut self, fate: Fate, link: fn(u32) -> usize, header: &[u8], packet: &[u8]) {
        match fate {
            Fate::Lost => self.census.lost += 1,
            Fate::Unroutable => self.census.unroutable += 1,
            Fate::Arrive { to, at, flip } => {
                for due in at {
                    if self.flying_bytes + packet.len() > MOST_BYTES {
                        self.census.overflowed += 1;
                        continue;
                    }
                    let mut bytes = self.spare.pop().unwrap_or_default();
                    bytes.clear();
                    bytes.extend_from_slice(header);
                    bytes.extend_from_slice(packet);
                    if let Some(word) = flip {
                        let bit = word % (packet.len() as u64 * 8);
                        bytes[header.len() + (bit / 8) as usize] ^= 1 << (bit % 8);
                    }
                    self.flying_bytes += bytes.len();
                    self.numbers += 1;
                    let flying = (due, self.numbers, link(to.0), bytes);
                    self.flying.push(Reverse(flying));
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
            let link = self.links.get(to).and_then(Option::as_ref);
            match link.map(|fd| sys::write(fd, &bytes)) {
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
