//! What client-go is to the real components: the only road from logic to a store write.
//!
//! A component never touches the store. It reads a lagging [`View`](crate::store::View) and returns
//! the writes it wants; this layer paces them (qps and burst), retries keys with back-off, keeps
//! expectations, and hands each write on as a [`Send`] that the cluster turns into a request with
//! latency. The same code serves controllers, scheduler, kubelets and kubectl.
//!
//! Read first: [`plan`] (what a sync returns), [`controller`] (what a controller is), then
//! [`runner`] (how it is run).

pub mod outbox;

pub mod plan;

pub mod controller;

pub mod watches;

pub mod back_off;

pub mod election;

pub mod reflector;

pub mod written;

pub mod budget;

pub mod work_queue;

pub mod expectations;

pub mod recorder;

pub mod runner;

pub use budget::Budget;
pub use controller::{Controller, Keys, Outcome, SyncContext};
pub use expectations::{Expectations, UidExpectations};
pub use outbox::{Outbox, Reply, Send};
pub use plan::{Link, Plan, Step};
pub use recorder::Recorder;
pub use runner::{Driven, Event, Runner};
pub use watches::{Audience, Watches};
pub use work_queue::WorkQueue;
pub use written::Written;
