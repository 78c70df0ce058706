//! The whole network of a run, as the cell holds it: one value that takes commands and tells what
//! happened.
//!
//! Commands come from the main process, which knows Services, faults and Traffics; pods come from
//! the cell itself. Everything that would wait is in a child, so that [`Network::obey`] and
//! [`Network::hear`] return at once.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use super::dns::{Entry, Resolver};
use super::fabric::{Fabric, NodeSpec};
use super::fault::{Ledger, Trouble};
use super::nft::layout::{NodeRules, ServicePort};
use super::nft::program::Programmers;
use super::nft::ruleset::Ruleset;
use super::route::Cidr;
use super::sys::{NetError, Result, Step};
use super::traffic::{Plan, Told, Users};
use crate::net::topology::Latencies;

/// Children that wait for the kernel's filters.
const PROGRAMMERS: usize = 4;

/// The name of the edge's namespace.
pub const EDGE: &str = "edge";

/// What the main process asks of the network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    /// A node's network; `rules` is what is special about its filters. One that is there already is
    /// replaced.
    Node(NodeSpec, NodeRules),
    /// The edge, with users behind it.
    Edge(NodeSpec, NodeRules, Cidr),
    /// A node has lost power or is gone.
    NodeGone(String),
    /// The one-way latency between two zones, in nanoseconds.
    Zones(String, String, u64),
    /// Ports of Services as a node's proxy sees them; answered by [`Report::Programmed`].
    Services {
        /// The node.
        node: String,
        /// New or changed ones.
        put: Vec<ServicePort>,
        /// Names of those that are gone.
        gone: Vec<String>,
    },
    /// What the name of a Service stands for: namespace, name.
    Name(String, String, Option<Entry>),
    /// A trouble begins, under a number.
    Trouble(u32, Trouble),
    /// It ends.
    Calm(u32),
    /// A Traffic begins, from a node or from beyond the edge.
    Traffic(Box<Plan>, Option<String>),
    /// Where a Traffic goes from now on.
    Target(u32, Vec<(u32, u16)>),
}

/// What happened in the network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Report {
    /// A node's filters are as was asked, or could not be changed.
    Programmed {
        /// The node.
        node: String,
    },
    /// What became of requests.
    Told(Vec<Told>),
    /// Something did not work: what is lost.
    Problem(String),
}

#[derive(Debug)]
struct Rules {
    ruleset: Ruleset,
    /// A transaction is in flight.
    busy: bool,
    /// Something changed since it was made.
    dirty: bool,
}

/// The network.
#[derive(Debug)]
pub struct Network {
    fabric: Fabric,
    programmers: Programmers,
    resolver: Resolver,
    users: Users,
    rules: BTreeMap<String, Rules>,
    /// Transactions in flight, and whose Services they are about.
    jobs: BTreeMap<u64, String>,
    next_job: u64,
    ledger: Ledger,
    /// The namespace beyond the edge.
    client: Option<OwnedFd>,
    /// What is to be told at the next hearing.
    told: Vec<(u64, Report)>,
}

impl Network {
    /// A network without nodes.
    pub fn new(seed: u64, latencies: &Latencies) -> Result<Network> {
        Ok(Network {
            fabric: Fabric::new(seed, latencies)?,
            programmers: Programmers::new(PROGRAMMERS)?,
            resolver: Resolver::new()?,
            users: Users::new()?,
            rules: BTreeMap::new(),
            jobs: BTreeMap::new(),
            next_job: 0,
            ledger: Ledger::default(),
            client: None,
            told: Vec::new(),
        })
    }

    /// Does what is asked. What does not work is told at the next hearing.
    pub fn obey(&mut self, command: Command) {
        if let Err(error) = self.try_to(command) {
            let at = super::sys::monotonic_ns();
            self.told.push((at, Report::Problem(error.to_string())));
        }
    }

    fn try_to(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Node(spec, rules) => self.add_node(spec, rules),
            Command::Edge(spec, rules, users) => {
                self.add_node(spec, rules)?;
                self.client = Some(self.fabric.add_client(EDGE, users)?);
                Ok(())
            }
            Command::NodeGone(node) => {
                self.rules.remove(&node);
                self.fabric.remove_node(&node)
            }
            Command::Zones(a, b, one_way_ns) => {
                let one_way = std::time::Duration::from_nanos(one_way_ns);
                self.fabric.wire().zones(&a, &b, one_way)
            }
            Command::Services { node, put, gone } => {
                let Some(rules) = self.rules.get_mut(&node) else {
                    return Ok(());
                };
                for port in put {
                    rules.ruleset.put(port);
                }
                for name in gone {
                    rules.ruleset.remove(&name);
                }
                rules.dirty = true;
                self.program(&node)
            }
            Command::Name(namespace, name, entry) => self.resolver.put(&namespace, &name, entry),
            Command::Trouble(id, trouble) => {
                let (fabric, resolver) = (&mut self.fabric, &self.resolver);
                self.ledger.apply(id, trouble, fabric, resolver)
            }
            Command::Calm(id) => self.ledger.revert(id, &mut self.fabric, &self.resolver),
            Command::Traffic(plan, from) => self.begin(*plan, from.as_deref()),
            Command::Target(number, to) => self.users.target(number, to),
        }
    }

    fn add_node(&mut self, spec: NodeSpec, rules: NodeRules) -> Result<()> {
        let (name, place) = (spec.name.clone(), spec.place);
        self.fabric.add_node(spec)?;
        let rules = Rules {
            ruleset: Ruleset::new(rules),
            busy: false,
            dirty: true,
        };
        // Answers to transactions of an earlier namespace of this name are not about this one.
        self.jobs.retain(|_, node| *node != name);
        self.rules.insert(name.clone(), rules);
        if let Some(node) = self.fabric.node(&name) {
            self.resolver.add_node(place, node)?;
        }
        self.ledger.again(&name, &mut self.fabric)
    }

    fn begin(&mut self, mut plan: Plan, from: Option<&str>) -> Result<()> {
        let node = from.unwrap_or(EDGE);
        let step = || format!("send traffic {} from {node}", plan.traffic.name);
        let none = || io::Error::from(io::ErrorKind::NotFound);
        let found = self.fabric.node(node).ok_or_else(none).step(step)?;
        let netns = match (from, &self.client) {
            (None, Some(client)) => client.as_fd(),
            (None, None) => return Err(none()).step(step),
            (Some(_), _) => {
                plan.users = None;
                found.netns()
            }
        };
        self.users.begin(plan, netns, found)
    }

    /// Hands a node's changes to a child, if none is at work for it.
    fn program(&mut self, node: &str) -> Result<()> {
        let (Some(rules), Some(found)) = (self.rules.get_mut(node), self.fabric.node(node)) else {
            return Ok(());
        };
        if rules.busy || !std::mem::take(&mut rules.dirty) {
            return Ok(());
        }
        let Some(batch) = rules.ruleset.sync() else {
            let at = super::sys::monotonic_ns();
            let node = node.to_owned();
            self.told.push((at, Report::Programmed { node }));
            return Ok(());
        };
        rules.busy = true;
        self.next_job += 1;
        self.jobs.insert(self.next_job, node.to_owned());
        let filter = found.filter().as_fd();
        self.programmers.submit(self.next_job, filter, &batch)
    }

    /// What happened, with the instants of the monotonic clock.
    pub fn hear(&mut self) -> Result<Vec<(u64, Report)>> {
        while let Some(done) = self.programmers.hear()? {
            let node = self.jobs.remove(&done.token);
            if let (Some((number, error)), Some(node)) = (done.failed, &node) {
                let error = io::Error::from_raw_os_error(error);
                let text = format!("node {node}: filters, request {number}: {error}");
                self.told.push((done.at_ns, Report::Problem(text)));
            }
            let Some(node) = node else {
                continue;
            };
            if let Some(rules) = self.rules.get_mut(&node) {
                rules.busy = false;
                if done.failed.is_some() {
                    // Once more, from nothing, with the next change.
                    rules.ruleset.lost();
                }
            }
            let report = Report::Programmed { node: node.clone() };
            self.told.push((done.at_ns, report));
            self.program(&node)?;
        }
        while let Some(told) = self.users.hear()? {
            let at = super::sys::monotonic_ns();
            self.told.push((at, Report::Told(told)));
        }
        Ok(std::mem::take(&mut self.told))
    }

    /// Readable when there may be something to hear; the same for the network's whole life.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.programmers.fds().chain([self.users.fd()]).collect()
    }

    /// Makes a pod's network and returns its namespace.
    pub fn add_pod(&mut self, node: &str, ip: u32, number: u32) -> Result<OwnedFd> {
        let netns = self.fabric.add_pod(node, ip, number)?;
        let step = || "hold a pod's namespace".to_owned();
        netns.try_clone_to_owned().step(step)
    }

    /// Drops a pod's network.
    pub fn remove_pod(&mut self, node: &str, ip: u32) -> Result<()> {
        self.fabric.remove_pod(node, ip)
    }

    /// Ends the wire, before everything else ends: while the kernel takes namespaces down, whoever has
    /// a link to close must wait.
    pub fn end(&mut self) {
        self.fabric.wire().end();
    }

    /// From where a pod is probed while a trouble is about its packets to or from everybody: from beyond
    /// the edge, so that the packets take the wire, as those between it and its node do not.
    pub fn probed_from(&self, node: &str, ip: u32) -> Option<BorrowedFd<'_>> {
        let meant = self.ledger.is_about_everybody(node, ip);
        self.client.as_ref().filter(|_| meant).map(AsFd::as_fd)
    }

    /// The namespace of a node.
    pub fn node(&self, name: &str) -> Result<OwnedFd> {
        let found = self.fabric.node(name).ok_or_else(|| NetError {
            step: format!("find the network of node {name}"),
            source: io::ErrorKind::NotFound.into(),
        })?;
        let step = || "hold a node's namespace".to_owned();
        found.netns().try_clone_to_owned().step(step)
    }
}

#[cfg(test)]
mod tests;
