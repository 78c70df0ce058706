//! The composition root: one event enum, one dispatch, no policy.

pub mod dataplane;
