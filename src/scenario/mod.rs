//! Scenario input: parsed, validated, every value located.
//!
//! What it is: everything between files and a description of a run. What it does not know: time,
//! chance, or how anything runs. Read first: [`types`].

pub mod types;

pub use types::*;
