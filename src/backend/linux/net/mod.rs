//! The network of a real run: the kernel's, in namespaces of its own.
//!
//! Every node is a network namespace, every pod another one that a pair of virtual cables joins to
//! its node ([`fabric`]). Nodes reach each other over the wire ([`wire`]): a process that holds the
//! far end of every node's uplink and passes packets on after the latency, losses and cuts of the
//! same link model that simulated packets meet. Services are rules in each node's namespace
//! ([`nft`]), names are answered inside each node ([`dns`]), users send their requests from a
//! namespace beside the edge ([`traffic`]), and trouble is applied with its end written down first
//! ([`fault`]).
//!
//! What it does not know: pods as the API has them, kubelets, processes. It is told addresses,
//! endpoints and arrivals, and says what happened and when. Nothing listens or sends outside the
//! namespaces that it made; they have no way out.
//!
//! Read first: [`fabric`], then [`wire`] and [`nft`]. The lowest layer is [`netlink`] over [`sys`].

pub mod sys;

pub mod netlink;

pub mod route;

pub mod child;

pub mod wire;

pub mod fabric;

pub mod detour;

pub mod spares;

pub mod nft;

pub mod dns;

pub mod conntrack;

pub mod traffic;

pub mod fault;
pub mod line;

pub mod network;

pub mod watch;

#[cfg(test)]
mod testing;
