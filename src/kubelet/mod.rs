//! The kubelet: what one node's agent decides about the pods that are bound to it.
//!
//! What it is: a port of the decisions of the kubelet of Kubernetes 1.36, one value for each node.
//! What it does not know: other nodes, the cluster's store, how long anything takes, and which
//! backend answers its requests.
//!
//! Read first: [`runtime`], the boundary to whoever runs containers.

pub mod runtime;

pub use runtime::{
    About, Call, ContainerId, Hook, ProbeKind, ProbeOutcome, PullOutcome, RuntimeEvent,
    RuntimeRequest, Signal, StartOutcome,
};
