//! Controllers: each reads a view and returns a plan.
//!
//! What it is: ports of the controller manager's controllers. A sync decides in upstream's order and
//! returns the writes that upstream would make; [`crate::client::Runner`] makes them.
//!
//! What it does not know: clocks, latencies, other controllers. They meet through objects only.
//!
//! Read first: [`replica_set`] (the simplest whole one), then [`deployment`].

pub mod owner;

pub mod pods;

pub mod history;

pub mod replica_set;

pub mod deployment;

pub mod stateful_set;

pub mod daemon_set;

pub mod job;

pub mod cron_job;

pub mod ttl_after_finished;

pub mod volume_binder;

pub mod volume_provisioner;

pub mod volume_protection;

pub mod ephemeral_volume;

pub mod attach_detach;

pub mod endpoint_slice;

pub mod node_lifecycle;

pub mod taint_eviction;

pub mod pod_gc;

pub mod disruption;

pub mod garbage_collector;

pub mod namespace;

pub mod resource_quota;

pub mod pod_autoscaler;

#[cfg(test)]
mod desk;
