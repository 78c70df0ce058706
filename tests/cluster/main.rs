//! Whole runs through the library: stories with their numbers, flags, expectations, invariants,
//! manifests of others, and determinism.
//!
//! One test binary for all of it: linking is most of what a small test file costs.

mod control_plane;
mod determinism;
mod expectations;
mod flags;
mod foreign;
mod gallery;
mod invariants;
mod journal;
mod kubectl;
mod kubelets;
mod manifests;
mod settling;
mod volumes;
mod watches;
mod workloads;
