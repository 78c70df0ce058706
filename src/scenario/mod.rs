//! Scenario input: parsed, validated, every value located.
//!
//! What it is: everything between files and the description of a run. [`load`] reads scenarios with
//! all that they name: manifests in files, folders, lists and kustomizations, faults, AppModels,
//! Traffic; it edits, decodes and checks them, and returns plain data ([`types`]), or every problem
//! that it found, each with file, line and column. What it does not know: time, chance, or how
//! anything runs.
//!
//! Where to look first: [`types`] (what comes out), `load` (the order in which things are read),
//! `spec` (the fields of a Scenario), [`diagnostic`] (messages). Our own kinds are read strictly by
//! `fields`; Kubernetes objects go through [`crate::api::decode`].

pub mod types;

pub mod diagnostic;

mod fields;

mod files;

mod load;

mod reader;

mod steps;

mod digest;

mod spec;

mod cluster;

mod flags;

pub mod kubelet_flags;

mod timeline;

mod linux;

mod latency;

mod expect;

pub mod expression;

mod app_model;

mod traffic;

mod chaos;

mod chaos_mesh;

mod kustomize;

mod objects;

mod reference;

mod made;

mod checks;

mod snapshot;

mod validate;

mod experiment;

pub mod schema;

pub mod minimal;

pub mod trace;

pub use cluster::has_dynamic_resources;
pub use diagnostic::{Diagnostic, Severity, render};
pub use experiment::{
    Arrivals, Experiment, ExperimentOptions, Generator, Plan, Ties, TracePlan, Variant,
    load_experiment,
};
pub use files::kustomization_of;
pub use linux::matches as image_matches;
pub use load::{LoadOptions, Loaded, Rejected, load, load_beside, load_bytes};
pub use snapshot::{Snapshot, load_snapshot};
pub use spec::{VARY, vary};
pub use types::*;
pub use validate::{Validated, ValidatedObject, validate_files};

#[cfg(test)]
mod tests;
