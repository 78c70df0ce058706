//! Writes that wait for the budget of their client.
//!
//! A plan may ask for tens of thousands of writes at once, as the pod garbage collector does after a
//! bad hour, and at 20 a second its client is busy with them for a long time. Each takes its token
//! when it is asked for, so that the order of requests is that of asking; but it is a request on its
//! way, with everything that takes, only when its time comes near.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::Time;

/// A write is handed over when it is due within this time; then so are all that are due within
/// twice that, so that not each of them needs an alarm.
const NEAR: Duration = Duration::from_secs(5);

/// A write by plan and place in it, and when its token allows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) due: Time,
    pub(super) plan: u32,
    pub(super) at: usize,
}

/// The writes of a client that wait, in the order of their tokens.
#[derive(Debug, Default)]
pub(super) struct Held {
    waiting: VecDeque<Waiting>,
}

impl Held {
    /// Keeps a write whose time is far away; says whether it did. Tokens come in order: once one is
    /// kept, so are those after it.
    pub(super) fn keep(&mut self, write: Waiting, now: Time) -> bool {
        let far = write.due > now + NEAR || !self.waiting.is_empty();
        if far {
            self.waiting.push_back(write);
        }
        far
    }

    /// Whether some are near enough to be handed over.
    pub(super) fn any_near(&self, now: Time) -> bool {
        self.waiting.front().is_some_and(|w| w.due <= now + NEAR)
    }

    /// The next one to be handed over while some are.
    pub(super) fn next(&mut self, now: Time) -> Option<Waiting> {
        let near = self.waiting.front()?.due <= now + NEAR * 2;
        near.then(|| self.waiting.pop_front()).flatten()
    }

    /// When the next ones are to be handed over.
    pub(super) fn alarm(&self) -> Option<Time> {
        let front = self.waiting.front()?;
        Some(Time::from_nanos(
            front.due.as_nanos().saturating_sub(NEAR.as_nanos() as u64),
        ))
    }
}
