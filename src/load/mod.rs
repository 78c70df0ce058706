//! What applications do and what users ask of them.
//!
//! What it is: how requests arrive ([`arrivals`]), what a client does with them (connections,
//! timeouts, retries: [`client`]), what serving one costs a container and how long that takes under
//! CPU quotas and contention ([`cpu`], [`instance`]), and what came of it ([`tally`]); and pods that
//! come in a stream and end ([`batch`]); and where a container listens ([`ports`]).
//!
//! What it does not know: where anything is, how a packet travels, which endpoint is chosen, which
//! pods exist. It hands out and takes numbers; the composition root routes between it and `net`.
//!
//! Read first: [`model`] (the words of AppModel and Traffic, with every default), then [`cpu`].

pub mod model;

pub mod arrivals;

pub mod slab;

pub mod cpu;

pub mod instance;

pub mod client;

pub mod tally;

pub mod batch;

pub mod ports;

pub use model::{AppModel, Traffic};
pub use ports::Ports;
pub use slab::{Key, Slab};
pub use tally::{Cause, Class, Tally};
