//! What the API server refuses, in its own words.
//!
//! Ports of `pkg/apis/*/validation/validation.go` on the generated types, after defaulting: the
//! same order of checks, the same field paths, reasons and sentences. Every function adds to an
//! [`field::Errors`]; none of them stops at the first error unless upstream does. Checks that
//! compare an update with the old object are not here: the store does not see them.

mod affinity;
pub mod autoscaling;
pub mod batch;
pub mod config;
mod container;
mod disks;
pub mod endpoints;
mod env;
mod ephemeral;
pub mod field;
mod ip;
mod job_selector;
pub mod meta;
pub mod names;
pub mod networking;
pub mod node;
pub mod pod;
pub mod policy;
mod probe;
pub mod quota;
pub mod rare;
pub mod rbac;
mod resources;
mod security;
pub mod service;
pub mod service_alloc;
pub mod stateful_set;
pub mod storage;
mod sysctls;
mod volumes;
pub mod webhook;
mod windows;
pub mod workload;

pub(crate) use resources::sum_of_requests;

/// The rule for an object's name: a message per rule that the name breaks.
pub type NameRule = fn(&str) -> Vec<String>;

#[cfg(test)]
mod tests;
