//! The queue of what is due: exact order of time, then of pushing.
//!
//! Two events due at the same instant come out in the order in which they were pushed, always.
//! There is no cancelling: whoever pushed an event remembers a generation number and ignores what
//! is stale.
//!
//! Pending events are in three places:
//!
//! - `same`: due now. A plain first-in-first-out list, so that chains of zero delay and crowds at
//!   one instant cost next to nothing.
//! - `front`: a few events that are due next, sorted. A queue of two dozen events is
//!   nothing else.
//! - `later`: everything due after the instant `last`, roughly sorted in the buckets
//!   of a radix heap. When the front is used up the next bucket moves into it; when it is full its
//!   later half moves to the buckets, and `last` with it.
//!
//! An event that goes through all three is moved a handful of times whatever the number of pending
//! events; a million of them cost about twice as much each as a thousand, for memory that is not in
//! the processor's cache.

mod front;
mod later;

use std::collections::VecDeque;
use std::time::Duration;

use self::front::{FAR, Front};
use self::later::Later;
use super::time::Time;

#[derive(Clone, Copy, Debug)]
struct Entry<E> {
    at: Time,
    seq: u64,
    event: E,
}

/// Pending events in exact (time, sequence) order, and the current instant.
#[derive(Clone, Debug)]
pub struct Queue<E> {
    now: Time,
    pushed: u64,
    popped: u64,
    /// Due now, after whatever of `front` is due now; (sequence, event) in order.
    same: VecDeque<(u64, E)>,
    /// The few that are due at `last` or before.
    front: Front<E>,
    last: Time,
    /// Everything that is due after `last`.
    later: Later<E>,
}

impl<E: Copy> Default for Queue<E> {
    fn default() -> Self {
        Queue::new()
    }
}

impl<E: Copy> Queue<E> {
    /// An empty queue at [`Time::ZERO`].
    pub fn new() -> Queue<E> {
        Queue {
            now: Time::ZERO,
            pushed: 0,
            popped: 0,
            same: VecDeque::new(),
            front: Front::new(),
            last: FAR,
            later: Later::new(),
        }
    }

    /// The current instant: of the event last popped, or where [`Queue::advance_to`] went since.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Pushes `event` to be due at `at`. Asserts that `at` is not in the past.
    #[inline]
    pub fn at(&mut self, at: Time, event: E) {
        assert!(
            at >= self.now,
            "an event for {at} was pushed at {}",
            self.now
        );
        let seq = self.pushed;
        self.pushed += 1;
        if at == self.now {
            self.same.push_back((seq, event));
        } else if at > self.last {
            self.later.push(at, seq, event);
        } else {
            if self.front.is_full() {
                self.spill();
                if at > self.last {
                    return self.later.push(at, seq, event);
                }
            }
            self.front.push(at, seq, event);
        }
    }

    /// Pushes `event` to be due `delay` from now.
    #[inline]
    pub fn after(&mut self, delay: Duration, event: E) {
        self.at(self.now + delay, event);
    }

    /// Pops the earliest event if it is due at `until` or before, with its instant and its sequence
    /// number (0 for the first event ever pushed), and moves now to that instant. Now never passes
    /// `until`, and does not move when nothing is due.
    #[inline]
    pub fn pop_due(&mut self, until: Time) -> Option<(Time, u64, E)> {
        let front = self.front.min();
        if front == Some(self.now) || self.same.is_empty() {
            let due = match front {
                Some(at) => at,
                None => self.later.min()?,
            };
            if due > until {
                return None;
            }
            self.now = due;
            if front.is_none() {
                self.refill();
            }
            if let Some((seq, event)) = self.front.pop() {
                self.popped += 1;
                return Some((due, seq, event));
            }
        }
        if self.now > until {
            return None;
        }
        let (seq, event) = self.same.pop_front()?;
        if self.same.is_empty() {
            // The next one goes where this one was, not round through all the room there is.
            self.same.clear();
        }
        self.popped += 1;
        Some((self.now, seq, event))
    }

    /// When the earliest pending event is due.
    #[inline]
    pub fn peek_time(&self) -> Option<Time> {
        if !self.same.is_empty() {
            return Some(self.now);
        }
        self.front.min().or_else(|| self.later.min())
    }

    /// How many events are pending.
    pub fn len(&self) -> usize {
        (self.pushed - self.popped) as usize
    }

    /// Whether no event is pending.
    pub fn is_empty(&self) -> bool {
        self.pushed == self.popped
    }

    /// How many events were ever pushed: the sequence number of the next one.
    pub fn pushed(&self) -> u64 {
        self.pushed
    }

    /// How many events were ever popped.
    pub fn popped(&self) -> u64 {
        self.popped
    }

    /// Moves now to `to`. Asserts that this neither goes back nor skips a pending event.
    pub fn advance_to(&mut self, to: Time) {
        assert!(
            to >= self.now,
            "time cannot go back from {} to {to}",
            self.now
        );
        if let Some(due) = self.peek_time() {
            assert!(
                to <= due,
                "an event due at {due} would be skipped by going to {to}"
            );
        }
        self.now = to;
        if self.front.is_empty() && self.later.min() == Some(to) {
            self.refill();
        }
    }

    /// Makes room in the full front.
    fn spill(&mut self) {
        self.last = self.front.spill(self.now, &mut self.later);
    }

    /// Opens buckets until what is due now is in the front or in `same`. Only called when the
    /// earliest time of the buckets is now: a bucket must not be opened before its time has come,
    /// since what is pushed afterwards would have to go below it.
    fn refill(&mut self) {
        while self.front.is_empty() && self.same.is_empty() {
            match self.later.open(self.now, &mut self.front, &mut self.same) {
                Some(last) => self.last = last,
                None => return,
            }
        }
        if self.later.is_empty() {
            self.last = FAR;
        }
    }
}

#[cfg(test)]
mod tests;
