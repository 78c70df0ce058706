//! The few events that are due first, sorted.
//!
//! Where each of them belongs is found by counting: the place of a new event is the number of
//! events that are due no later, which needs no branch that a processor could mispredict. What is
//! sorted is not the events but an integer, [`Front::order`], with one digit for each event: the
//! slot in which it stays until it is popped.
//!
//! The smallest instruction set of x86-64 compares floating-point numbers two at a time, and whole
//! numbers of this size not at all. So a time is kept as the bits of a floating-point number: of two
//! positive ones, that with the larger bits is the larger.

use super::Time;
use super::later::Later;

/// At most so many.
pub(super) const FEW: usize = 24;

/// The last time that may be here, 73 years from the beginning: what is added to a time makes it an
/// ordinary number, and must not reach infinity.
pub(super) const FAR: Time = Time::from_nanos(1 << 61);
/// The bits of 2.0.
const BIAS: u64 = 1 << 62;
/// The bits of infinity.
const NEVER: u64 = 0x7ff << 52;
const _: () = assert!(FAR.as_nanos() + BIAS < NEVER);

/// Slots in order of being due, the first in the lowest digit of [`DIGIT`] bits.
type Order = u128;
const DIGIT: u32 = 5;

#[derive(Clone, Debug)]
pub(super) struct Front<E> {
    order: Order,
    len: u32,
    /// Slots that are free, as bits.
    free: u32,
    /// When the event of a slot is due: its nanoseconds and [`BIAS`]; [`NEVER`] for a free slot.
    times: [u64; FEW],
    /// Sequence number and event of a slot; empty until the first push.
    bodies: Vec<(u64, E)>,
}

impl<E: Copy> Front<E> {
    pub(super) fn new() -> Front<E> {
        Front {
            order: 0,
            len: 0,
            free: u32::MAX,
            times: [NEVER; FEW],
            bodies: Vec::new(),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.len as usize == FEW
    }

    /// When the first is due.
    #[inline]
    pub(super) fn min(&self) -> Option<Time> {
        (self.len > 0).then(|| Time::from_nanos(self.times[self.first()] - BIAS))
    }

    #[inline]
    fn first(&self) -> usize {
        (self.order & ((1 << DIGIT) - 1)) as usize
    }

    /// Adds an event to a front that is not full, behind those of its time. It is not due after
    /// [`FAR`].
    #[inline]
    pub(super) fn push(&mut self, at: Time, seq: u64, event: E) {
        debug_assert!(at <= FAR);
        let at = at.as_nanos() + BIAS;
        let latest = f64::from_bits(at);
        let mut not_later = 0u64;
        for time in &self.times {
            not_later += u64::from(f64::from_bits(*time) <= latest);
        }
        // Free slots count at the end of time.
        let place = (not_later as u32).min(self.len) * DIGIT;
        let slot = self.free.trailing_zeros() as usize;
        let before = (1 << place) - 1;
        self.order =
            (self.order & before) | (self.order & !before) << DIGIT | (slot as Order) << place;
        self.free &= self.free - 1;
        self.len += 1;
        self.times[slot] = at;
        if self.bodies.is_empty() {
            self.bodies = vec![(seq, event); FEW];
        }
        self.bodies[slot] = (seq, event);
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<(u64, E)> {
        if self.len == 0 {
            return None;
        }
        let slot = self.first();
        self.order >>= DIGIT;
        self.len -= 1;
        self.free |= 1 << slot;
        self.times[slot] = NEVER;
        Some(self.bodies[slot])
    }

    /// Makes room in a full front by moving about half of it to `later`, all events of one time
    /// together. Returns the last time that is not there; it is not before `now`.
    #[cold]
    pub(super) fn spill(&mut self, now: Time, later: &mut Later<E>) -> Time {
        let digits = 0..self.len;
        let slots = digits.map(|i| (self.order >> (i * DIGIT)) as usize & ((1 << DIGIT) - 1));
        let slots: Vec<usize> = slots.collect();
        let times: Vec<u64> = slots.iter().map(|slot| self.times[*slot] - BIAS).collect();
        let first = times[0];
        // The first time that goes. When all are due at once they all go, unless they are due now:
        // those are at home here, and only what comes after goes.
        let from = match times.iter().find(|time| **time > first) {
            Some(second) => times[FEW / 2].max(*second),
            None if first == now.as_nanos() => first + 1,
            None => first,
        };
        let keep = times.partition_point(|time| *time < from);
        for (&slot, &at) in slots.iter().zip(&times).skip(keep) {
            let (seq, event) = self.bodies[slot];
            later.push(Time::from_nanos(at), seq, event);
            self.free |= 1 << slot;
            self.times[slot] = NEVER;
        }
        self.len = keep as u32;
        self.order &= (1 << (self.len * DIGIT)) - 1;
        Time::from_nanos(from - 1)
    }
}
