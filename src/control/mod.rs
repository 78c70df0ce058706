//! Controllers: each reads a view and returns a plan.
