//! Randomness by name.
//!
//! A draw is a function of (seed, purpose, entity, n) and of nothing else: not of what was drawn
//! before, not of what else exists. Pod 17's start latency is the same under every scheduler, and
//! adding an unrelated component moves nobody else's draws, so two policies differ by the policies
//! alone (common random numbers).
//!
//! - [`Purpose`] says what for. Every layer names its own at compile time, without a central list:
//!   `const START: Purpose = Purpose::new("pod/start");`
//! - the entity says whose: a dense id, or [`entity_key`] of a name where ids may shift between
//!   runs that are compared.
//! - `n` says which: the attempt, the restart count, the request number.
//!
//! The generator is Philox2x64, counter (entity, n), keyed by seed and purpose: Salmon, Moraes,
//! Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). It runs 7 rounds, for which
//! the authors publish known answers, instead of their cautious 10; the tests beside this module
//! look at avalanche, uniformity and correlation of exactly these names. For one seed and purpose
//! it is a permutation of (entity, n): no pair meets another.
//!
//! Where a long sequence is wanted, such as arrivals, [`Draws::stream`] gives a ChaCha8 generator
//! of its own, named the same way.

use std::convert::Infallible;
use std::hash::Hasher;

use rand::TryRng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::digest::{Digest, mix};

/// What a draw is for: the name of one decision or latency, hashed when the program is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Purpose {
    key: u64,
    name: &'static str,
}

impl Purpose {
    /// The purpose called `name`, by convention `layer/what`. Equal names are equal purposes. The
    /// key is the FNV-1a hash of the name, so renaming a purpose changes its draws.
    pub const fn new(name: &'static str) -> Purpose {
        let bytes = name.as_bytes();
        let mut key = 0xcbf2_9ce4_8422_2325u64;
        let mut i = 0;
        while i < bytes.len() {
            key = (key ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
            i += 1;
        }
        Purpose { key, name }
    }

    /// The name it was made with.
    pub const fn name(self) -> &'static str {
        self.name
    }
}

/// A stable key for something that is known by name, such as `["default", "web-0"]`. Parts are kept
/// apart: `["ab", "c"]` and `["a", "bc"]` differ.
pub fn entity_key(parts: &[&str]) -> u64 {
    let mut digest = Digest::new();
    for part in parts {
        digest.word(part.len() as u64);
        digest.write(part.as_bytes());
    }
    digest.finish128() as u64
}

/// One round's multiplier and the increment of the key between rounds, from the paper.
const PHILOX_M: u64 = 0xd2b7_4407_b1ce_6e93;
const PHILOX_W: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline]
const fn philox2x64<const ROUNDS: u32>(counter: [u64; 2], mut key: u64) -> [u64; 2] {
    let [mut x, mut y] = counter;
    let mut round = 0;
    while round < ROUNDS {
        let product = x as u128 * PHILOX_M as u128;
        x = (product >> 64) as u64 ^ key ^ y;
        y = product as u64;
        key = key.wrapping_add(PHILOX_W);
        round += 1;
    }
    [x, y]
}

/// The 53 high bits of a word as a number in [0, 1).
#[inline]
fn unit_of(word: u64) -> f64 {
    (word >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// Lemire's unbiased bounded integer ("Fast random integer generation in an interval", 2019):
/// `word()` is called again in the rare case that its value would favour some results.
#[inline]
fn below_of(bound: u64, mut word: impl FnMut() -> u64) -> u64 {
    assert!(bound > 0, "no number is below zero");
    let mut product = u128::from(word()) * u128::from(bound);
    if (product as u64) < bound {
        let least = bound.wrapping_neg() % bound;
        while (product as u64) < least {
            product = u128::from(word()) * u128::from(bound);
        }
    }
    (product >> 64) as u64
}

/// All draws of a run, from its seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draws {
    seed: u64,
    key: u64,
}

/// Sets the keys of streams, and of further words for one draw, apart from the keys of draws.
const STREAM_KEY: u64 = 0x5851_f42d_4c95_7f2d;
const FURTHER_KEY: u64 = 0x1405_7b7e_f767_814f;

impl Draws {
    /// The draws of the run with this seed.
    pub const fn new(seed: u64) -> Draws {
        Draws {
            seed,
            key: mix(seed.wrapping_add(PHILOX_W)),
        }
    }

    /// The seed it was made with.
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    #[inline]
    fn words(&self, purpose: Purpose, entity: u64, n: u64) -> [u64; 2] {
        philox2x64::<7>([entity, n], mix(self.key ^ purpose.key))
    }

    /// 64 uniform bits.
    #[inline]
    pub fn u64(&self, purpose: Purpose, entity: u64, n: u64) -> u64 {
        self.words(purpose, entity, n)[0]
    }

    /// A uniform number in [0, 1), a multiple of 2^-53.
    #[inline]
    pub fn unit(&self, purpose: Purpose, entity: u64, n: u64) -> f64 {
        unit_of(self.u64(purpose, entity, n))
    }

    /// A uniform integer in `0..bound`, without bias. Asserts that `bound` is not zero.
    pub fn below(&self, purpose: Purpose, entity: u64, n: u64, bound: u64) -> u64 {
        let mut key = mix(self.key ^ purpose.key);
        below_of(bound, || {
            let [word, _] = philox2x64::<7>([entity, n], key);
            key = mix(key ^ FURTHER_KEY);
            word
        })
    }

    /// A generator of its own for a long sequence: ChaCha with 8 rounds, keyed by 256 bits drawn
    /// under this name.
    pub fn stream(&self, purpose: Purpose, entity: u64) -> Stream {
        let key = mix(self.key ^ purpose.key ^ STREAM_KEY);
        let [a, b] = philox2x64::<10>([entity, 0], key);
        let [c, d] = philox2x64::<10>([entity, 1], key);
        let mut seed = [0; 32];
        for (bytes, word) in seed.as_chunks_mut::<8>().0.iter_mut().zip([a, b, c, d]) {
            *bytes = word.to_le_bytes();
        }
        Stream(ChaCha8Rng::from_seed(seed))
    }
}

/// A long random sequence with a name, made by [`Draws::stream`]. It is also a generator of the
/// `rand` crate (its `Rng` trait), for shuffles and choices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The next 64 uniform bits.
    #[inline]
    pub fn u64(&mut self) -> u64 {
        let Ok(word) = self.0.try_next_u64();
        word
    }

    /// The next uniform number in [0, 1), a multiple of 2^-53.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        unit_of(self.u64())
    }

    /// The next uniform integer in `0..bound`, without bias. Asserts that `bound` is not zero.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        below_of(bound, || self.u64())
    }
}

impl TryRng for Stream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.0.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0.try_next_u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.try_fill_bytes(bytes)
    }
}

#[cfg(test)]
mod tests;
