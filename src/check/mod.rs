//! Expectations, invariants, comparisons: reads, never steers.
//!
//! [`run()`] drives one scenario from beginning to end and returns what it left behind; whoever checks
//! something looks on as an observer. Nothing here changes what happens.

mod backing;

pub mod run;

pub mod agree;

pub mod audit;

pub mod expect;

pub mod invariants;

pub mod placement;

pub mod compare;

pub mod search;

pub mod calibrate;

pub use run::{Finished, On, RunOptions, Watcher, run, run_on, run_watched};
