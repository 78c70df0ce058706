//! The real backend: containers are processes, the network is the kernel's.
//!
//! The only part of the crate that reads the wall clock, starts processes and uses `unsafe`. What
//! it touches lives in namespaces that it made itself and holds by file descriptors, so that
//! nothing is left behind when it ends, however it ends.
//!
//! Read first: [`net`].

#![allow(
    unsafe_code,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the one place where the machine itself is spoken to"
)]

pub mod net;
