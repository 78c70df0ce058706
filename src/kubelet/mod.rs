//! The kubelet: what one node's agent decides about the pods that are bound to it.
//!
//! What it is: a port of the decisions of the kubelet of Kubernetes 1.36, one [`Kubelet`] value for
//! each node: admission, pod workers, images, starts and back-off, probes, termination, statuses,
//! the lease. What it does not know: other nodes, the cluster's store, how long anything takes, and
//! which backend answers its requests.
//!
//! Read first: [`runtime`], the boundary to whoever runs containers, and [`agent`], the kubelet's
//! own API. Then, along the life of a pod: `admission`, `pod_worker` (how syncs follow each other),
//! `sync` (what each does), `actions` (what is to be started and killed), `start`, `images`,
//! `probes`, `kill`, and `pod_status`, `conditions`, `status` for what the API server is told, and
//! `answers` for what it says.
//! `lease`, `node_status`, `eviction`, `pressure` and `shutdown` are about the node.

pub mod runtime;

pub mod agent;

mod answers;

pub mod config;

mod host;

mod addresses;

mod admission;

mod pod_worker;

mod record;

mod rounds;

mod sync;

mod actions;

mod start;

mod images;

mod image_name;

mod probes;

mod kill;

mod pod_map;

mod pod_status;

mod conditions;

mod status;

mod lease;

mod node_status;

mod health;

pub mod eviction;

mod usage;

mod pressure;

mod preemption;

pub mod shutdown;

mod telling;

pub mod qos;

pub use agent::{Boot, Event, Kubelet, PodChange};
pub use config::KubeletConfig;
pub use host::{Cx, Found, Lookup};
pub use lease::Renew;
pub use node_status::initial_conditions;
pub use qos::QosClass;
pub use runtime::{
    About, Call, ContainerId, Hook, ProbeKind, ProbeOutcome, PullOutcome, RuntimeEvent,
    RuntimeRequest, Signal, StartOutcome,
};

#[cfg(test)]
mod tests;
