//! The composition root: one event enum, one dispatch, no policy.
//!
//! [`Cluster`] owns the API server, the controller manager, the scheduler, a [`Machine`] per node
//! with its kubelet, the data plane and kubectl, and carries what they say to each other: writes
//! become requests with latency, changes become deliveries with lag, runtime requests go to the data
//! plane or to the backend, admission webhooks are asked through it, faults switch machines and links. Whenever a decision is needed here, it
//! belongs to one of them.
//!
//! Read first: [`event`] (everything that can happen), [`dispatch`] (who handles it), then
//! [`effects`] (what faults do) and [`build`] (a scenario becomes a cluster).

pub mod event;

pub mod api_server;
mod renewals;

pub mod control_plane;

pub mod machine;

pub mod dataplane;

pub mod process;

mod deliveries;
pub mod dispatch;

pub mod effects;

pub mod feed;

pub mod metrics_server;

pub mod timeline;

pub mod build;

pub mod settling;

mod storage;

pub mod webhooks;

pub mod runtime;

pub use api_server::{ApiLatency, ApiServer, Sender};
pub use dataplane::strain::Load;
pub use dispatch::Cluster;
pub use event::Event;
pub use machine::Machine;
pub use runtime::{Asked, Containers, MachineCall, Request, StrainTarget};
pub use timeline::{Note, Timeline};

#[cfg(test)]
mod tests;
