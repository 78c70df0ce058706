//! The real backend: containers are processes, the network is the kernel's.
//!
//! The only part of the crate that reads the wall clock, starts processes and uses `unsafe`. What
//! it touches lives in namespaces that it made itself and holds by file descriptors, so that
//! nothing is left behind when it ends, however it ends.
//!
//! The main process has the [`backend`]: it plans what pods consist of ([`plan`]) and tells the
//! [`cell`], the one process in which everything lives ([`spawn`] starts it, [`protocol`] is what is
//! said; probes it asks by itself, as [`prober`]). In the cell containers are processes in namespaces and cgroups ([`cgroup`], [`layout`])
//! and run programs, or the built-in server ([`workload`]) where an image is not there.
//!
//! Read first: [`backend`], [`protocol`], [`cell`]; for the network [`net`].

#![allow(
    unsafe_code,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the one place where the machine itself is spoken to"
)]

pub mod allocator;
pub mod attempts;
pub mod backend;
pub mod calls;
pub mod cell;
pub mod cgroup;
pub mod clock;
pub mod fitting;
pub mod host;
pub mod image;
pub mod layout;
pub mod mounts;
pub mod net;
pub mod options;
pub mod plan;
pub mod precedence;
pub mod prober;
pub mod protocol;
pub mod spawn;
pub mod sys;
pub mod timings;
pub mod users;
pub mod workload;

pub use backend::Linux;
pub use cell::be_one_if_asked;
pub use options::LinuxOptions;
pub use timings::Lag;
