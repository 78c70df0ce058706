//! The kernel of a run: simulated time, the queue of what is due, randomness by name, and the loop
//! that lets the outside join in.
//!
//! The engine knows no Kubernetes word and does no I/O. It is generic over one closed `Copy` enum
//! of events, which the composition root defines; it never looks inside an event. Nothing here
//! reads a clock: [`Time`] moves only because an event is due or because a [`Backend`] says that it
//! passed.
//!
//! Reading order: [`time`] (nanoseconds), [`queue`] (exact order of time, then of pushing),
//! [`world`] (what is driven, and the outside's side of it), [`drive`](mod@drive) (the loop),
//! [`draws`] and [`dist`] (randomness that does not shift when something unrelated is added),
//! [`journal`] and [`digest`] (how a run is repeated, and how two runs are compared).

pub mod digest;
pub mod dist;
pub mod draws;
pub mod drive;
pub mod journal;
pub mod line;
pub mod queue;
pub mod time;
pub mod world;

pub use digest::Digest;
pub use dist::{Dist, Often, Sampler};
pub use draws::{Draws, Purpose, Stream, entity_key};
pub use drive::{Ended, Limits, Progress, Tape, drive};
pub use journal::{Closing, Header, Journal, JournalError, Outside, Playback};
pub use line::Line;
pub use queue::Queue;
pub use time::{Time, nanos};
pub use world::{Backend, Dispatched, Observer, Silent, Turn, World};
