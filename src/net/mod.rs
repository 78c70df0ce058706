//! The network between nodes: topology, faults of links, service proxies, names.
//!
//! What it is: a function from (who sends, to whom, when, a draw) to what becomes of the packet,
//! and from (who connects, to which Service, when, a draw) to the endpoint that kube-proxy on that
//! node would have chosen with the rules that it had programmed by then. [`link::Links`] answers
//! the first, [`route::Net`] the second.
//!
//! What it does not know: sockets, requests, containers (that is `load`), or whether anybody
//! listens at the endpoint that was chosen. A proxy is not a process here: its rules at an instant
//! are computed when somebody connects, from the log of changes and the times at which it could
//! hear them ([`proxy`]), so that 5,000 idle proxies cost nothing.
//!
//! Read first: [`topology`] (places and latency), [`link`] (partitions, delay, loss), [`endpoints`]
//! (which endpoints of a Service are usable), [`services`] (their versions), [`proxy`], [`route`].

pub mod topology;

pub mod link;

pub mod endpoints;

pub mod services;

pub mod proxy;

pub mod dns;

pub mod route;

pub use link::{Effect, End, Links, Members, Rule, RuleId, Verdict};
pub use route::{Choice, Net, NetConfig, NoRoute, Target};
pub use topology::{Latencies, Place, Topology};
