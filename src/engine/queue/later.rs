//! Events that are due later than the front of the queue, roughly sorted.
//!
//! A radix heap with digits of [`BITS`] bits. All times here are later than `base`. An event is
//! kept by the highest digit in which its time differs from `base` (its level) and by the value of
//! that digit (its slot). Of two events the one on the lower level is due first, on one level the
//! one in the lower slot; within a bucket events stand in the order of pushing.
//!
//! When the lowest bucket is opened and holds more than a few events, `base` moves up to what they
//! have in common and they fall to lower levels. Nothing else has to move, because no other digit
//! of `base` changes, and the order of pushing is kept. So an event is moved once per level at
//! most, whatever the distribution of times, and there is nothing to tune or to resize: what ruins
//! calendar queues (crowds, gaps, a few timers far away) only chooses the level.
//!
//! Buckets are lists of chunks in one pool, so the memory is that of the pending events plus less
//! than a chunk for each bucket in use.
//!
//! The idea is the multi-level bucket structure of Denardo and Fox (1979) with the redistribution
//! of the radix heap of Ahuja, Mehlhorn, Orlin and Tarjan (1990).

use std::collections::VecDeque;

use super::front::{FAR, FEW, Front};
use super::{Entry, Time};

const BITS: u32 = 7;
const SLOTS: usize = 1 << BITS;
const WORDS: usize = SLOTS.div_ceil(64);
const LEVELS: usize = u64::BITS.div_ceil(BITS) as usize;
/// Events in a chunk.
const CHUNK: usize = 32;
const NONE: u32 = u32::MAX;

/// The level of the highest digit in which two different times differ.
fn level_of(difference: u64) -> usize {
    (difference.ilog2() / BITS) as usize
}

/// The bits of the lowest `digits` digits.
fn low(digits: u32) -> u64 {
    1u64.checked_shl(digits * BITS)
        .map_or(u64::MAX, |bit| bit - 1)
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// The earliest time in it.
    min: Time,
    /// Its first chunk, and how many chunks.
    first: u32,
    chunks: u32,
    /// Where the next event goes in the pool; a multiple of [`CHUNK`] when a new chunk is needed.
    end: u32,
}

const EMPTY: Bucket = Bucket {
    min: Time::MAX,
    first: NONE,
    chunks: 0,
    end: 0,
};

impl Bucket {
    /// How many events it holds.
    fn len(&self) -> usize {
        (self.chunks as usize * CHUNK) - (self.end.wrapping_neg() as usize % CHUNK)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Later<E> {
    base: Time,
    /// Levels that are not empty, and slots of a level that are not empty, as bits.
    levels: u16,
    slots: [[u64; WORDS]; LEVELS],
    buckets: Vec<Bucket>,
    /// Chunk `c` is `pool[c * CHUNK..][..CHUNK]`; `next[c]` follows it in its bucket or free list.
    pool: Vec<Entry<E>>,
    next: Vec<u32>,
    free: u32,
}

impl<E: Copy> Later<E> {
    pub(super) fn new() -> Later<E> {
        Later {
            base: Time::ZERO,
            levels: 0,
            slots: [[0; WORDS]; LEVELS],
            buckets: vec![EMPTY; LEVELS * SLOTS],
            pool: Vec::new(),
            next: Vec::new(),
            free: NONE,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.levels == 0
    }

    #[cfg(test)]
    pub(super) fn pool_len(&self) -> usize {
        self.pool.len()
    }

    /// The lowest bucket that is not empty, as level and slot.
    fn lowest(&self) -> Option<(usize, usize)> {
        if self.levels == 0 {
            return None;
        }
        let level = self.levels.trailing_zeros() as usize;
        let words = &self.slots[level];
        let word = words.iter().position(|word| *word != 0)?;
        Some((level, word * 64 + words[word].trailing_zeros() as usize))
    }

    /// The earliest time.
    pub(super) fn min(&self) -> Option<Time> {
        self.lowest()
            .map(|(level, slot)| self.buckets[level * SLOTS + slot].min)
    }

    /// Adds an event, due later than `base`.
    #[inline]
    pub(super) fn push(&mut self, at: Time, seq: u64, event: E) {
        let nanos = at.as_nanos();
        let level = level_of(nanos ^ self.base.as_nanos());
        let slot = (nanos >> (level as u32 * BITS)) as usize % SLOTS;
        let index = level * SLOTS + slot;
        let bucket = &mut self.buckets[index];
        bucket.min = bucket.min.min(at);
        let mut end = bucket.end;
        bucket.end = end + 1;
        if end.is_multiple_of(CHUNK as u32) {
            end = self.grow(index, Entry { at, seq, event });
        }
        self.pool[end as usize] = Entry { at, seq, event };
    }

    /// Adds a chunk to a bucket and returns where it begins.
    fn grow(&mut self, index: usize, entry: Entry<E>) -> u32 {
        let chunk = if self.free == NONE {
            self.next.push(NONE);
            self.pool.resize(self.pool.len() + CHUNK, entry);
            self.next.len() as u32 - 1
        } else {
            let chunk = self.free;
            self.free = self.next[chunk as usize];
            chunk
        };
        let bucket = &mut self.buckets[index];
        if bucket.chunks == 0 {
            bucket.first = chunk;
            let (level, slot) = (index / SLOTS, index % SLOTS);
            self.levels |= 1 << level;
            self.slots[level][slot / 64] |= 1 << (slot % 64);
        } else {
            let last = (bucket.end - 2) / CHUNK as u32;
            self.next[last as usize] = chunk;
        }
        bucket.chunks += 1;
        let begin = chunk * CHUNK as u32;
        bucket.end = begin + 1;
        begin
    }

    /// Opens the lowest bucket, whose earliest time is `now`. A few events go to `front`; any
    /// number of one time go to `same`; others are spread over lower levels. Returns the last time
    /// for which nothing is left here.
    pub(super) fn open(
        &mut self,
        now: Time,
        front: &mut Front<E>,
        same: &mut VecDeque<(u64, E)>,
    ) -> Option<Time> {
        let (level, slot) = self.lowest()?;
        let index = level * SLOTS + slot;
        let bucket = std::mem::replace(&mut self.buckets[index], EMPTY);
        self.slots[level][slot / 64] &= !(1 << (slot % 64));
        if self.slots[level] == [0; WORDS] {
            self.levels &= !(1 << level);
        }
        debug_assert_eq!(bucket.min, now);
        let last = Time::from_nanos(now.as_nanos() | low(level as u32));
        if bucket.len() <= FEW && last <= FAR {
            self.drain(bucket, |_, entry| {
                front.push(entry.at, entry.seq, entry.event)
            });
            return Some(last);
        }
        let mut max = now;
        self.each(bucket, |entry| max = max.max(entry.at));
        if now == max {
            self.drain(bucket, |_, entry| same.push_back((entry.seq, entry.event)));
            return Some(now);
        }
        // All times agree above the digit in which the earliest and the latest differ.
        let digit = level_of(now.as_nanos() ^ max.as_nanos()) as u32;
        let base = Time::from_nanos(now.as_nanos() & !low(digit + 1));
        self.base = base;
        self.drain(bucket, |later, entry| {
            if entry.at == base {
                same.push_back((entry.seq, entry.event));
            } else {
                later.push(entry.at, entry.seq, entry.event);
            }
        });
        Some(base)
    }

    /// Shows a bucket's events in order.
    fn each(&self, bucket: Bucket, mut see: impl FnMut(&Entry<E>)) {
        let (mut left, mut chunk) = (bucket.len(), bucket.first);
        while left > 0 {
            let start = chunk as usize * CHUNK;
            let count = left.min(CHUNK);
            self.pool[start..start + count].iter().for_each(&mut see);
            left -= count;
            chunk = self.next[chunk as usize];
        }
    }

    /// Hands out a bucket's events in order and frees its chunks.
    fn drain(&mut self, bucket: Bucket, mut take: impl FnMut(&mut Self, Entry<E>)) {
        let (mut left, mut chunk) = (bucket.len(), bucket.first);
        while left > 0 {
            let start = chunk as usize * CHUNK;
            let count = left.min(CHUNK);
            for i in start..start + count {
                let entry = self.pool[i];
                take(self, entry);
            }
            left -= count;
            let next = self.next[chunk as usize];
            self.next[chunk as usize] = self.free;
            self.free = chunk;
            chunk = next;
        }
    }
}
