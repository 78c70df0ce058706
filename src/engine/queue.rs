//! The queue of what is due: exact order of time, then of pushing.
//!
//! Two events due at the same instant come out in the order in which they were pushed, always. There
//! is no cancelling: whoever pushed an event remembers a generation number and ignores what is stale.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

use super::time::Time;

#[derive(Clone, Debug)]
struct Entry<E> {
    at: Time,
    seq: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl<E> Eq for Entry<E> {}
impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

/// Pending events in exact (time, sequence) order, and the current instant.
#[derive(Clone, Debug)]
pub struct Queue<E> {
    now: Time,
    pushed: u64,
    heap: BinaryHeap<Reverse<Entry<E>>>,
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
            heap: BinaryHeap::new(),
        }
    }

    /// The current instant: of the event last popped, or where [`Queue::advance_to`] went since.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Pushes `event` to be due at `at`. Asserts that `at` is not in the past.
    pub fn at(&mut self, at: Time, event: E) {
        assert!(
            at >= self.now,
            "an event for {at} was pushed at {}",
            self.now
        );
        let seq = self.pushed;
        self.pushed += 1;
        self.heap.push(Reverse(Entry { at, seq, event }));
    }

    /// Pushes `event` to be due `delay` from now.
    pub fn after(&mut self, delay: Duration, event: E) {
        self.at(self.now + delay, event);
    }

    /// Pops the earliest event if it is due at `until` or before, with its instant and its sequence
    /// number (0 for the first event ever pushed), and moves now to that instant. Now never passes
    /// `until`, and does not move when nothing is due.
    pub fn pop_due(&mut self, until: Time) -> Option<(Time, u64, E)> {
        if self.peek_time()? > until {
            return None;
        }
        let Reverse(Entry { at, seq, event }) = self.heap.pop()?;
        self.now = at;
        Some((at, seq, event))
    }

    /// When the earliest pending event is due.
    pub fn peek_time(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// How many events are pending.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether no event is pending.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// How many events were ever pushed: the sequence number of the next one.
    pub fn pushed(&self) -> u64 {
        self.pushed
    }

    /// How many events were ever popped.
    pub fn popped(&self) -> u64 {
        self.pushed - self.heap.len() as u64
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
    }
}
