//! Trouble with the network, and its end.
//!
//! What takes a trouble back is written into the [`Ledger`] before the trouble is applied, so that
//! whatever happens in between it can be ended; and if nobody is left to end it, the namespaces go
//! and the trouble with them. Ending what never began is no error.
//!
//! Packets between nodes are the wire's business. Packets between pods of one node never reach it;
//! cuts and losses among them are rules in that node, delay among them is not possible here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::dns::{Lie, Resolver};
use super::fabric::{Fabric, UPLINK};
use super::netlink::Messages;
use super::nft::batch::{Batch, Hook, Verdict, hooks};
use super::nft::expr::Field;
use super::route::{self, Cidr};
use super::sys::{NetError, Result};
use super::wire::{Rule, RuleId};

/// The table of rules between pods of one node.
const TABLE: &str = "rehearsal-faults";

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    /// With packets between nodes.
    Wire(Rule),
    /// With packets between pods of one node.
    Within {
        /// The node.
        node: String,
        /// Sender and receiver by address; none is any pod of the node.
        pairs: Vec<(Option<u32>, Option<u32>)>,
        /// How many of a million are lost.
        per_million: u32,
    },
    /// A node's cable is pulled out.
    Cable {
        /// The node.
        node: String,
    },
    /// With lookups of names.
    Names(Lie),
    /// A node sends no faster than this (the kernel's token bucket).
    Uplink {
        /// The node.
        node: String,
        /// Bytes in a second.
        bytes_per_s: u64,
        /// Bytes that may be sent at once.
        burst: u32,
        /// Bytes that may wait.
        limit: u32,
    },
}

/// What takes a trouble back.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Undo {
    Rule(RuleId),
    Within(String),
    Plug(u32),
    Truth,
    Unshape(String),
}

/// One node's losses between its own pods, by the number of the trouble.
type Losses = BTreeMap<u32, (Vec<(Option<u32>, Option<u32>)>, u32)>;

/// Troubles in force, with their ends.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<u32, Vec<Undo>>,
    within: BTreeMap<String, Losses>,
}

/// A transaction for a node's filters that is still to be sent.
pub type Pending = Option<(String, Vec<u8>)>;

impl Ledger {
    /// Troubles in force.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Begins a trouble under a number of the caller's.
    pub fn apply(
        &mut self,
        id: u32,
        trouble: Trouble,
        fabric: &mut Fabric,
        resolver: &Resolver,
    ) -> Result<Pending> {
        let undo = match &trouble {
            Trouble::Wire(_) => Undo::Rule(fabric.wire().reserve()),
            Trouble::Within { node, .. } => Undo::Within(node.clone()),
            Trouble::Cable { node } => Undo::Plug(place(fabric, node)?),
            Trouble::Names(_) => Undo::Truth,
            Trouble::Uplink { node, .. } => Undo::Unshape(node.clone()),
        };
        self.entries.entry(id).or_default().push(undo.clone());
        match (trouble, undo) {
            (Trouble::Names(lie), _) => resolver.lie(id, Some(lie))?,
            (Trouble::Wire(rule), Undo::Rule(number)) => fabric.wire().add(number, rule)?,
            (Trouble::Cable { .. }, Undo::Plug(place)) => fabric.wire().carrier(place, false)?,
            (
                Trouble::Within {
                    node,
                    pairs,
                    per_million,
                },
                _,
            ) => {
                let losses = self.within.entry(node.clone()).or_default();
                losses.insert(id, (pairs, per_million));
                return Ok(self.filters(&node, fabric));
            }
            (
                Trouble::Uplink {
                    node,
                    bytes_per_s,
                    burst,
                    limit,
                },
                _,
            ) => {
                let mut m = Messages::default();
                route::shape(&mut m, UPLINK, bytes_per_s, burst, limit);
                send(fabric, &node, &m)?;
            }
            _ => {}
        }
        Ok(None)
    }

    /// Ends a trouble.
    pub fn revert(&mut self, id: u32, fabric: &mut Fabric, resolver: &Resolver) -> Result<Pending> {
        let mut pending = None;
        for undo in self.entries.remove(&id).into_iter().flatten().rev() {
            match undo {
                Undo::Rule(number) => fabric.wire().remove(number)?,
                Undo::Truth => resolver.lie(id, None)?,
                Undo::Plug(place) => fabric.wire().carrier(place, true)?,
                Undo::Within(node) => {
                    if let Some(losses) = self.within.get_mut(&node) {
                        losses.remove(&id);
                    }
                    pending = self.filters(&node, fabric);
                }
                Undo::Unshape(node) => {
                    let mut m = Messages::default();
                    route::unshape(&mut m, UPLINK);
                    // A node that went and came back has nothing to take away.
                    let _ = send(fabric, &node, &m);
                }
            }
        }
        Ok(pending)
    }

    /// A node's namespace is new: what must be programmed there for troubles in force.
    pub fn again(&self, node: &str, fabric: &Fabric) -> Pending {
        let losses = self.within.get(node)?;
        (!losses.is_empty()).then(|| self.filters(node, fabric))?
    }

    /// The transaction for the losses of a node; none when the node is not there.
    fn filters(&self, node: &str, fabric: &Fabric) -> Pending {
        let pods = fabric.node(node)?.spec().pods;
        let mut batch = Batch::default();
        batch.fresh_table(TABLE);
        let hook = Hook {
            kind: "filter",
            at: hooks::FORWARD,
            priority: -200,
        };
        batch.chain(TABLE, "forward", Some(hook));
        for (pairs, per_million) in self.within.get(node).into_iter().flat_map(BTreeMap::values) {
            for (from, to) in pairs {
                batch.rule(TABLE, "forward", |rule| {
                    let network = |ip: &Option<u32>| ip.map_or(pods, Cidr::host);
                    rule.within(Field::Source, network(from), true);
                    rule.within(Field::Destination, network(to), true);
                    if *per_million < 1_000_000 {
                        rule.share(*per_million);
                    }
                    rule.go(&Verdict::Drop);
                });
            }
        }
        Some((node.to_owned(), batch.finish()))
    }
}

fn missing(node: &str) -> NetError {
    NetError {
        step: format!("find the network of node {node}"),
        source: std::io::ErrorKind::NotFound.into(),
    }
}

fn place(fabric: &Fabric, node: &str) -> Result<u32> {
    let found = fabric.node(node).ok_or_else(|| missing(node))?;
    Ok(found.spec().place)
}

fn send(fabric: &Fabric, node: &str, m: &Messages) -> Result<()> {
    let found = fabric.node(node).ok_or_else(|| missing(node))?;
    found.socket().request(m).map_err(|(_, source)| NetError {
        step: format!("shape the uplink of node {node}"),
        source,
    })
}
