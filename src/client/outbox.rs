//! What a component wants to happen: timers for itself and writes for the API server.

use crate::engine::Time;
use crate::store::{ApiError, Cause, Receipt, Write};

/// A write on its way to the API server.
#[derive(Clone, Debug)]
pub struct Send {
    /// Not before this time (the client's qps budget); latency comes on top.
    pub at: Time,
    /// The request.
    pub write: Write,
    /// Why it is made.
    pub cause: Cause,
    /// Returned with the reply, so that the sender knows which of its writes this was.
    pub token: u64,
}

/// The answer to a [`Send`].
pub type Reply = Result<Receipt, ApiError>;

/// Filled by a component during one dispatch, emptied by the cluster afterwards.
#[derive(Debug)]
pub struct Outbox<E> {
    /// Events for the component itself, with their due times.
    pub timers: Vec<(Time, E)>,
    /// Writes for the API server.
    pub sends: Vec<Send>,
}

impl<E> Default for Outbox<E> {
    fn default() -> Self {
        Outbox {
            timers: Vec::new(),
            sends: Vec::new(),
        }
    }
}

impl<E> Outbox<E> {
    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.timers.is_empty() && self.sends.is_empty()
    }

    /// Asks for `event` at `at`.
    pub fn at(&mut self, at: Time, event: E) {
        self.timers.push((at, event));
    }

    /// Asks for a write; the answer comes back with `token`.
    pub fn send(&mut self, at: Time, write: Write, cause: Cause, token: u64) {
        self.sends.push(Send {
            at,
            write,
            cause,
            token,
        });
    }
}
