//! Trouble with the network, and its end.
//!
//! What takes a trouble back is written into the [`Ledger`] before the trouble is applied, so that
//! whatever happens in between it can be ended; and if nobody is left to end it, the namespaces go
//! and the trouble with them. Ending what never began is no error.
//!
//! What goes wrong with packets is the wire's business. Those between pods of one node take it only
//! while a trouble is about them (see [`super::detour`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::detour::Pair;
use super::dns::{Lie, Resolver};
use super::fabric::{Fabric, UPLINK};
use super::netlink::Messages;
use super::route;
use super::sys::{NetError, Result};
use super::wire::{Rule, RuleId};

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    /// With packets on the wire.
    Wire(Rule),
    /// Some packets between pods of one node are on the wire, too.
    Within {
        /// The node.
        node: String,
        /// Which.
        pairs: Vec<Pair>,
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

/// Troubles in force, with their ends.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<u32, Vec<Undo>>,
    /// By node and by number.
    within: BTreeMap<String, BTreeMap<u32, Vec<Pair>>>,
}

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
    ) -> Result<()> {
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
            (Trouble::Within { node, pairs }, _) => {
                self.within
                    .entry(node.clone())
                    .or_default()
                    .insert(id, pairs);
                self.detour(&node, fabric)?;
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
        Ok(())
    }

    /// Ends a trouble.
    pub fn revert(&mut self, id: u32, fabric: &mut Fabric, resolver: &Resolver) -> Result<()> {
        for undo in self.entries.remove(&id).into_iter().flatten().rev() {
            match undo {
                Undo::Rule(number) => fabric.wire().remove(number)?,
                Undo::Truth => resolver.lie(id, None)?,
                Undo::Plug(place) => fabric.wire().carrier(place, true)?,
                Undo::Within(node) => {
                    if let Some(within) = self.within.get_mut(&node) {
                        within.remove(&id);
                    }
                    if fabric.node(&node).is_some() {
                        self.detour(&node, fabric)?;
                    }
                }
                Undo::Unshape(node) => {
                    let mut m = Messages::default();
                    route::unshape(&mut m, UPLINK);
                    // A node that went and came back has nothing to take away.
                    let _ = send(fabric, &node, &m);
                }
            }
        }
        Ok(())
    }

    /// A node's namespace is new: troubles in force are so there as well.
    pub fn again(&self, node: &str, fabric: &mut Fabric) -> Result<()> {
        self.detour(node, fabric)
    }

    /// Whether a trouble is about packets between a pod of a node and everybody.
    pub fn is_about_everybody(&self, node: &str, ip: u32) -> bool {
        let pairs = self.within.get(node).into_iter().flat_map(BTreeMap::values);
        let mut pairs = pairs.flatten();
        pairs.any(|pair| *pair == (Some(ip), None) || *pair == (None, Some(ip)))
    }

    /// Packets of all pairs that a trouble is about take the wire in this node.
    fn detour(&self, node: &str, fabric: &mut Fabric) -> Result<()> {
        let pairs = self.within.get(node).into_iter().flat_map(BTreeMap::values);
        fabric.detour(node, pairs.flatten().copied().collect())
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
