//! Faults as data: what, where, from when until when.
//!
//! A [`Fault`] says what goes wrong, whom it may hit, and for how long. [`Fault::select`] chooses
//! its targets in a view; every choice is a draw keyed by the fault's name and the candidate's, so
//! that another fault or an unrelated pod does not change it. [`Fault::effects`] turns targets into
//! [`Effect`]s, plain data that the composition root carries out; what does not end by itself has
//! an inverse ([`Effect::inverse`]), so that healing is known before the harm is done.
//!
//! It does not know how a machine loses power or a link drops packets, and nothing here asks
//! whether it is a test. Read first: [`model`], then [`effect`].

pub mod model;

pub mod effect;

pub mod control_plane;

pub mod http;

pub mod plan;

mod select;

pub use control_plane::{BadAnswer, Component, ControlAction, Requests};
pub use effect::{
    ControlTrouble, DnsRule, Effect, Ends, LinkEffect, LinkRule, PodKey, Strain, Strained, Targets,
};
pub use http::{HttpFault, HttpRule};
pub use model::{
    Action, CpuStressor, External, ExternalEnd, Fault, MemoryStressor, Mode, Peers, Place,
    Selector, Stressors, WorkloadRef, WrongAnswer,
};

pub use plan::{FaultPlan, PlanNode};

#[cfg(test)]
mod tests;
