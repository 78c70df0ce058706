//! The wire: what lies between the nodes.
//!
//! Every node's uplink is a TUN link whose other end is held by one child process. It reads each
//! packet, asks the link model what becomes of it ([`model`]), and writes it to the receiver's
//! uplink when its time has come ([`carry`]). Packets between pods of one node come here while a fault
//! is about them, by a second link of their node (see [`super::detour`]). So latency, jitter, loss, reordering and cuts are the
//! simulator's own, drawn from the scenario's seed, and need no module of the kernel.
//!
//! Measured with a delay of zero: 9 µs for a round trip, 2 Gbit/s. Packets are about 0.1 ms later
//! than the model asks for.
//!
//! What it does not know: which packets belong together, or what is in them beyond two addresses.

use std::os::fd::{AsFd, OwnedFd};

use serde::{Deserialize, Serialize};

use super::child::Child;
use super::route::Cidr;
use super::sys::{Result, Step};
use crate::engine::nanos;
use crate::net::link::{self, Members};
use crate::net::topology::Latencies;

pub mod model;

mod carry;

/// What is done to packets, in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Senders.
    pub from: Members,
    /// Receivers.
    pub to: Members,
    /// What happens.
    pub effect: Effect,
}

/// What happens to packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// What the simulator's link model knows as well: cuts, delay, loss.
    Link(link::Effect),
    /// Some arrive twice.
    Duplicate {
        /// How many of a million.
        per_million: u32,
    },
    /// Some overtake those that were sent before them: no delay of a rule holds them up.
    Reorder {
        /// How many of a million.
        per_million: u32,
    },
    /// One bit of some is turned over.
    Corrupt {
        /// How many of a million.
        per_million: u32,
    },
    /// All of them together pass a link of this rate; those that would have to wait for more than
    /// the queue holds are lost.
    Rate {
        /// Bytes in a second.
        bytes_per_s: u64,
        /// Bytes that pass at once after a pause.
        burst: u64,
        /// Bytes that may wait.
        queue: u64,
    },
}

/// What the cell tells the wire.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Command {
    /// A node's uplink, with its descriptor; it replaces an earlier one.
    Port {
        place: u32,
        name: String,
        zone: String,
        networks: Vec<Cidr>,
    },
    /// The link by which packets between a node's own pods take the wire, with its descriptor.
    Detour { place: u32 },
    /// A node is gone.
    Unplug { place: u32 },
    /// A cable is pulled out or put in again.
    Carrier { place: u32, up: bool },
    /// A pod has this address.
    Pod { ip: u32, pod: u32 },
    /// Nobody has this address any more.
    NoPod { ip: u32 },
    /// Zones are this far apart.
    Zones {
        a: String,
        b: String,
        one_way_ns: u64,
    },
    /// A rule is in force from now on.
    Add { id: u32, rule: Rule },
    /// A rule ends.
    Remove { id: u32 },
    /// How many packets have passed?
    Census,
}

/// Packets so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// Passed on.
    pub passed: u64,
    /// Lost because a rule says so.
    pub lost: u64,
    /// To an address that nobody has, or whose node is gone.
    pub unroutable: u64,
    /// Lost because too much was waiting.
    pub overflowed: u64,
    /// Bytes passed on.
    pub bytes: u64,
    /// The most by which a packet was later than it should have been, in nanoseconds.
    pub latest_ns: u64,
}

/// The cell's handle on the wire.
#[derive(Debug)]
pub struct Wire {
    child: Child,
    next_rule: u32,
}

/// A rule in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RuleId(pub u32);

impl Wire {
    /// Starts the process that carries packets. `seed` is the run's.
    pub fn new(seed: u64, latencies: &Latencies) -> Result<Wire> {
        let model = model::Model::new(seed, latencies.clone());
        let child = Child::start(move |channel| carry::carry(&channel, model));
        Ok(Wire {
            child: child.step(|| "start the wire".to_owned())?,
            next_rule: 0,
        })
    }

    fn tell(&self, command: &Command, fds: &[std::os::fd::BorrowedFd<'_>]) -> Result<()> {
        let sent = self.child.channel.send(command, fds);
        let name = || format!("tell the wire {command:?}");
        match sent.step(name)? {
            true => Ok(()),
            false => Err(std::io::Error::from(std::io::ErrorKind::TimedOut)).step(name),
        }
    }

    /// Plugs a node in: number and name of its place, its zone, the networks behind it, and the far
    /// end of its uplink.
    pub(super) fn plug(
        &self,
        place: u32,
        name: &str,
        zone: &str,
        networks: &[Cidr],
        uplink: &OwnedFd,
    ) -> Result<()> {
        let command = Command::Port {
            place,
            name: name.to_owned(),
            zone: zone.to_owned(),
            networks: networks.to_vec(),
        };
        self.tell(&command, &[uplink.as_fd()])
    }

    /// Packets that come by this link are of pods of one node to pods of the same, and go back by
    /// it.
    pub(super) fn detour(&self, place: u32, link: &OwnedFd) -> Result<()> {
        self.tell(&Command::Detour { place }, &[link.as_fd()])
    }

    /// A node is gone, with its uplink.
    pub fn unplug(&self, place: u32) -> Result<()> {
        self.tell(&Command::Unplug { place }, &[])
    }

    /// Ends it: nothing passes any more.
    pub fn end(&self) {
        self.child.end();
    }

    /// Pulls a node's cable out or puts it in again.
    pub fn carrier(&self, place: u32, up: bool) -> Result<()> {
        self.tell(&Command::Carrier { place, up }, &[])
    }

    /// Says which pod has an address, for rules that name pods.
    pub fn pod(&self, ip: u32, pod: Option<u32>) -> Result<()> {
        let command = match pod {
            Some(pod) => Command::Pod { ip, pod },
            None => Command::NoPod { ip },
        };
        self.tell(&command, &[])
    }

    /// Sets the one-way latency between two zones.
    pub fn zones(&self, a: &str, b: &str, one_way: std::time::Duration) -> Result<()> {
        let command = Command::Zones {
            a: a.to_owned(),
            b: b.to_owned(),
            one_way_ns: nanos(one_way),
        };
        self.tell(&command, &[])
    }

    /// Reserves the number of a rule, so that its end can be written down before its beginning.
    pub fn reserve(&mut self) -> RuleId {
        let id = self.next_rule;
        self.next_rule += 1;
        RuleId(id)
    }

    /// Puts a rule in force.
    pub fn add(&self, id: RuleId, rule: Rule) -> Result<()> {
        self.tell(&Command::Add { id: id.0, rule }, &[])
    }

    /// Ends a rule; one that was never in force is no error.
    pub fn remove(&self, id: RuleId) -> Result<()> {
        self.tell(&Command::Remove { id: id.0 }, &[])
    }

    /// Asks for the count of packets; [`Wire::hear`] tells the answer.
    pub fn ask(&self) -> Result<()> {
        self.tell(&Command::Census, &[])
    }

    /// What the wire has to say, if anything.
    pub fn hear(&self) -> Result<Option<Census>> {
        let got = self.child.channel.receive();
        Ok(got.step(|| "hear the wire".to_owned())?.map(|(c, _)| c))
    }

    /// Readable when there is something to hear.
    pub fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.child.channel.as_fd()
    }
}
