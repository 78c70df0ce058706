//! A 128-bit digest of everything that happened, in order.
//!
//! Two runs with equal digests did the same things at the same times in the same order. The digest
//! sees every dispatched event, so it must cost a few nanoseconds: it is a [`Hasher`] fed by
//! derived [`Hash`](std::hash::Hash) impls, one step of eight bytes per integer, two 64-bit lanes
//! that do not wait for each other. It is made for comparing runs, not against somebody who wants a
//! collision.
//!
//! For a given input word a step is a permutation of the 128-bit state, and for a given state
//! different words lead to different states. So a single difference is never lost again, and two
//! sequences that differ in two neighbouring words cannot meet; others meet by chance alone.
//!
//! Platforms agree: every integer is widened to `u64` (signed ones with their sign), `usize` and
//! the discriminants of derived enums likewise, byte strings are read little-endian. One exception
//! is std's own: a *slice* of multi-byte integers reaches a hasher as its bytes in memory, so such
//! slices agree on little-endian machines only, and slices of `usize` on those of equal width.

use std::fmt;
use std::hash::Hasher;

const LANE_A: u64 = 0x9e37_79b9_7f4a_7c15;
const LANE_B: u64 = 0xd1b5_4a32_d192_ed03;
const START_A: u64 = 0x243f_6a88_85a3_08d3;
const START_B: u64 = 0x1319_8a2e_0370_7344;

/// An order-sensitive incremental digest. Feed it by [`Hash::hash`](std::hash::Hash::hash), read it
/// by [`Digest::finish128`] or print it (32 hexadecimal digits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    a: u64,
    b: u64,
}

impl Default for Digest {
    fn default() -> Self {
        Digest::new()
    }
}

impl Digest {
    /// The digest of nothing.
    pub const fn new() -> Digest {
        Digest {
            a: START_A,
            b: START_B,
        }
    }

    /// Feeds one word.
    #[inline]
    pub const fn word(&mut self, word: u64) {
        let a = (self.a ^ word).wrapping_mul(LANE_A);
        self.a = a ^ (a >> 32);
        self.b = self
            .b
            .rotate_left(23)
            .wrapping_add(self.a)
            .wrapping_mul(LANE_B);
    }

    /// The digest of what was fed so far; feeding may go on.
    pub const fn finish128(&self) -> u128 {
        let b = mix(self.b.wrapping_add(self.a));
        let a = mix(self.a ^ b);
        ((a as u128) << 64) | b.wrapping_add(a) as u128
    }
}

/// The finaliser of SplitMix64 (Stafford's mix 13): a permutation in which every input bit moves
/// every output bit.
pub(crate) const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The fewer than eight bytes at the end of `bytes` as a word, the first of them lowest; without a
/// loop, by reading what overlaps.
#[inline]
fn tail(bytes: &[u8], rest: &[u8]) -> u64 {
    let count = rest.len();
    if let Some(word) = bytes.last_chunk::<8>() {
        return u64::from_le_bytes(*word) >> (64 - 8 * count);
    }
    match (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
        (Some(first), Some(last)) => {
            let [first, last] = [*first, *last].map(|half| u64::from(u32::from_le_bytes(half)));
            first | last << (8 * (count - 4))
        }
        _ => {
            let byte = |at: usize| u64::from(rest[at]) << (8 * at);
            byte(0) | byte(count / 2) | byte(count - 1)
        }
    }
}

impl Hasher for Digest {
    fn finish(&self) -> u64 {
        self.finish128() as u64
    }

    /// Eight bytes a step; the last step also carries how many bytes it holds.
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            self.word(tail(bytes, rest) | (rest.len() as u64) << 56);
        }
    }

    fn write_u8(&mut self, i: u8) {
        self.word(i.into());
    }
    fn write_u16(&mut self, i: u16) {
        self.word(i.into());
    }
    fn write_u32(&mut self, i: u32) {
        self.word(i.into());
    }
    #[inline]
    fn write_u64(&mut self, i: u64) {
        self.word(i);
    }
    fn write_u128(&mut self, i: u128) {
        self.word(i as u64);
        self.word((i >> 64) as u64);
    }
    fn write_usize(&mut self, i: usize) {
        self.word(i as u64);
    }
    fn write_i8(&mut self, i: i8) {
        self.word(i as u64);
    }
    fn write_i16(&mut self, i: i16) {
        self.word(i as u64);
    }
    fn write_i32(&mut self, i: i32) {
        self.word(i as u64);
    }
    fn write_i64(&mut self, i: i64) {
        self.word(i as u64);
    }
    fn write_i128(&mut self, i: i128) {
        self.write_u128(i as u128);
    }
    #[inline]
    fn write_isize(&mut self, i: isize) {
        self.word(i as u64);
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:032x}", self.finish128()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::hash::Hash;

    use super::*;

    fn of(value: impl Hash) -> u128 {
        let mut digest = Digest::new();
        value.hash(&mut digest);
        digest.finish128()
    }

    #[derive(Hash, Clone, Copy)]
    enum Event {
        Tick,
        Move { from: u32, to: i16 },
        Say(bool),
    }

    #[test]
    fn the_digest_of_known_values_never_changes() {
        // Digests are compared between versions and machines: a change here breaks old records.
        let events = [
            Event::Tick,
            Event::Move { from: 3, to: -4 },
            Event::Say(true),
        ];
        let table = [
            (
                Digest::new().finish128(),
                "bbd472f21ed6e37289630b25704a353f",
            ),
            (of(1u64), "9837f94db3d37acbe56a50c36df31ffd"),
            (of("a name"), "17f7061eeb5b83801430186f9e1bfb01"),
            (of(events), "5d1ff265e29ca41e355521416b5f5618"),
        ];
        for (digest, golden) in table {
            assert_eq!(format!("{digest:032x}"), golden);
        }
    }

    #[test]
    fn the_end_of_a_byte_string_is_read_byte_for_byte() {
        let bytes: Vec<u8> = (0..40u8).map(|n| n.wrapping_mul(37)).collect();
        for len in 0..bytes.len() {
            let (mut digest, mut plain) = (Digest::new(), Digest::new());
            digest.write(&bytes[..len]);
            for eight in bytes[..len].chunks(8) {
                let mut word = [0; 8];
                word[..eight.len()].copy_from_slice(eight);
                if eight.len() < 8 {
                    word[7] = eight.len() as u8;
                }
                plain.word(u64::from_le_bytes(word));
            }
            assert_eq!(digest.finish128(), plain.finish128(), "{len} bytes");
        }
    }

    #[test]
    fn integers_of_every_width_count_alike() {
        assert_eq!(of(7u8), of(7u64));
        assert_eq!(of(7usize), of(7u64));
        assert_eq!(of(-7i8), of(-7i64));
        assert_eq!(of(-7isize), of(-7i64));
    }

    #[test]
    fn order_length_and_every_value_matter() {
        assert_ne!(of((1u64, 2u64)), of((2u64, 1u64)));
        assert_ne!(of(0u64), of((0u64, 0u64)));
        assert_ne!(of(""), of("\0"));
        assert_ne!(of("abcdefg"), of("abcdefg\0"));
        assert_ne!(of(("ab", "c")), of(("a", "bc")));
        assert_ne!(of(Event::Say(true)), of(Event::Say(false)));
    }

    #[test]
    fn no_two_of_many_short_sequences_agree() {
        let mut seen = BTreeSet::new();
        for a in 0..60u64 {
            assert!(seen.insert(of(a)));
            for b in 0..60u64 {
                assert!(seen.insert(of((a, b))));
                for c in 0..30u64 {
                    assert!(seen.insert(of((a << 56, b << 32, c))));
                }
            }
        }
    }

    #[test]
    fn one_input_bit_moves_half_of_the_output_bits() {
        // 64 input bits x 200 words, followed by three more words: 128 output bits each. The mean
        // of 12,800 binomial(128, 1/2) counts is 64 with a standard error of 5.66 / 113 = 0.05.
        let mut moved = 0u64;
        for word in 0..200u64 {
            let base = of((word, 1u64, 2u64, 3u64));
            for bit in 0..64 {
                let other = of((word ^ (1 << bit), 1u64, 2u64, 3u64));
                let count = (base ^ other).count_ones();
                assert!((28..=100).contains(&count), "{word} bit {bit}: {count}");
                moved += u64::from(count);
            }
        }
        let mean = moved as f64 / 12_800.0;
        assert!((mean - 64.0).abs() < 0.3, "{mean}");
    }

    #[test]
    fn it_prints_as_32_hexadecimal_digits_and_may_go_on() {
        let mut digest = Digest::new();
        digest.word(5);
        let shown = digest.to_string();
        assert_eq!(shown.len(), 32);
        assert_eq!(
            u128::from_str_radix(&shown, 16).unwrap(),
            digest.finish128()
        );
        let before = digest.finish128();
        digest.word(5);
        assert_ne!(digest.finish128(), before);
    }
}
