//! Controllers: each reads a view and returns a plan.

pub mod endpoint_slice;

pub mod node_lifecycle;
