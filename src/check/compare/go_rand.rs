//! Go's `math/rand` with a seed, so that published experiments can be repeated draw by draw.
//!
//! Simulators written in Go shuffle and sample with this generator; with it the very pods of "seed 42"
//! of a paper arrive here too, in the same order, and results can be compared seed by seed instead of
//! on average. Nothing else of the project draws from it: our own draws are keyed and do not depend on
//! each other ([`crate::engine::draws`]).
//!
//! It is the additive lagged Fibonacci generator of D. P. Mitchell and J. A. Reeds,
//! `s(n) = s(n − 607) + s(n − 273)` modulo 2^64 (`src/math/rand/rng.go`). Seeding mixes a small
//! congruential generator with the state that the generator itself has after 7.8 · 10^12 steps
//! (`gen_cooked.go`). Go keeps that state as a table of 607 numbers; here it is calculated: stepping is
//! linear, so that many steps are one polynomial, found by squaring (`x^N` modulo
//! `x^607 − x^334 − 1`).

use std::sync::OnceLock;

/// Words of the state.
const LENGTH: usize = 607;
/// How far back the second summand lies.
const TAP: usize = 273;
/// Steps between the plain start and the state that seeds are mixed with.
const STEPS: u64 = 7_800_000_000_000;

/// The generator.
#[derive(Clone, Debug)]
pub struct GoRand {
    words: Vec<u64>,
    tap: usize,
    feed: usize,
}

impl GoRand {
    /// The generator after `rand.Seed(seed)`.
    pub fn seeded(seed: u64) -> GoRand {
        let mut small = Congruential::new(seed);
        let words = old_state().iter().map(|old| small.word(40, 20) ^ old);
        GoRand {
            words: words.collect(),
            tap: 0,
            feed: LENGTH - TAP,
        }
    }

    /// `Uint64`.
    pub fn u64(&mut self) -> u64 {
        self.tap = self.tap.checked_sub(1).unwrap_or(LENGTH - 1);
        self.feed = self.feed.checked_sub(1).unwrap_or(LENGTH - 1);
        let word = self.words[self.feed].wrapping_add(self.words[self.tap]);
        self.words[self.feed] = word;
        word
    }

    /// `Int63`: 63 bits.
    pub fn int63(&mut self) -> u64 {
        self.u64() & (u64::MAX >> 1)
    }

    /// `Intn` of a number below 2^31: 0 ≤ result < `bound`, by rejection.
    ///
    /// # Panics
    /// When `bound` is 0 or does not fit in 31 bits.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u32::try_from(bound).expect("a short list");
        assert!(bound > 0 && bound <= i32::MAX as u32, "a short list");
        let mut drawn = self.int31();
        if bound.is_power_of_two() {
            return (drawn & (bound - 1)) as usize;
        }
        let half = 1u32 << 31;
        let last = half - 1 - half % bound;
        while drawn > last {
            drawn = self.int31();
        }
        (drawn % bound) as usize
    }

    /// `Shuffle`: from the end, each with one before it or itself.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.scaled(at as u32 + 1) as usize);
        }
    }

    /// `Perm`: the numbers below `length` in a drawn order.
    pub fn permutation(&mut self, length: usize) -> Vec<usize> {
        let mut order = vec![0; length];
        for at in 0..length {
            let other = self.below(at + 1);
            order[at] = order[other];
            order[other] = at;
        }
        order
    }

    fn int31(&mut self) -> u32 {
        (self.int63() >> 32) as u32
    }

    /// `int31n`: the upper half of a product, as `Shuffle` draws.
    fn scaled(&mut self, bound: u32) -> u32 {
        let mut product = (self.int63() >> 31) * u64::from(bound);
        if (product as u32) < bound {
            let least = bound.wrapping_neg() % bound;
            while (product as u32) < least {
                product = (self.int63() >> 31) * u64::from(bound);
            }
        }
        (product >> 32) as u32
    }
}

/// `seedrand`: x ← 48271 x mod (2^31 − 1).
struct Congruential(u64);

impl Congruential {
    const MODULUS: u64 = (1 << 31) - 1;

    /// Twenty numbers on from a seed.
    fn new(seed: u64) -> Congruential {
        let start = match seed % Self::MODULUS {
            0 => 89_482_311,
            start => start,
        };
        let mut small = Congruential(start);
        for _ in 0..20 {
            small.next();
        }
        small
    }

    fn next(&mut self) -> u64 {
        self.0 = 48_271 * self.0 % Self::MODULUS;
        self.0
    }

    /// Three numbers on top of each other.
    fn word(&mut self, first: u32, second: u32) -> u64 {
        (self.next() << first) ^ (self.next() << second) ^ self.next()
    }
}

/// The state after [`STEPS`] steps from seed 1, in the places where the generator keeps it.
fn old_state() -> &'static [u64] {
    static STATE: OnceLock<Vec<u64>> = OnceLock::new();
    STATE.get_or_init(|| {
        let mut small = Congruential::new(1);
        let start: Vec<u64> = (0..LENGTH).map(|_| small.word(20, 10)).collect();
        // Step n reads and writes place 333 − n, so this is the order of the numbers' age.
        let place = |age: usize| (LENGTH - TAP - 1 + LENGTH - age) % LENGTH;
        let mut series: Vec<u64> = (0..LENGTH).map(|age| start[place(age)]).collect();
        for at in LENGTH..2 * LENGTH {
            series.push(series[at - LENGTH].wrapping_add(series[at - TAP]));
        }
        let leap = power_of_x(STEPS);
        let mut state = vec![0; LENGTH];
        for age in 0..LENGTH {
            let terms = leap.iter().zip(&series[age..]);
            let word = terms.fold(0u64, |sum, (a, b)| sum.wrapping_add(a.wrapping_mul(*b)));
            // Number `STEPS − 607 + age` was written by the step of that number.
            let step = (STEPS + age as u64) % LENGTH as u64;
            state[place(step as usize)] = word;
        }
        state
    })
}

/// `x^n` modulo the recurrence's polynomial; coefficients from the lowest.
fn power_of_x(mut n: u64) -> Vec<u64> {
    let mut result = vec![0; LENGTH];
    result[0] = 1;
    let mut base = vec![0; LENGTH];
    base[1] = 1;
    while n > 0 {
        if n & 1 == 1 {
            result = product(&result, &base);
        }
        base = product(&base, &base);
        n >>= 1;
    }
    result
}

fn product(a: &[u64], b: &[u64]) -> Vec<u64> {
    let mut all = vec![0u64; 2 * LENGTH - 1];
    for (at, left) in a.iter().enumerate().filter(|(_, left)| **left != 0) {
        for (to, right) in all[at..].iter_mut().zip(b) {
            *to = to.wrapping_add(left.wrapping_mul(*right));
        }
    }
    // x^607 = x^334 + 1
    for at in (LENGTH..all.len()).rev() {
        let high = all[at];
        all[at - LENGTH] = all[at - LENGTH].wrapping_add(high);
        all[at - TAP] = all[at - TAP].wrapping_add(high);
    }
    all.truncate(LENGTH);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_steps_are_one_polynomial() {
        // Stepping one by one and leaping meet: from any window w, s(n) = Σ leap(n)[i] · w[i].
        let mut series: Vec<u64> = (0..LENGTH as u64).map(|n| n * n + 7).collect();
        for at in LENGTH..5_000 {
            series.push(series[at - LENGTH].wrapping_add(series[at - TAP]));
        }
        for n in [0, 1, 606, 607, 608, 1_300, 4_999] {
            let leap = power_of_x(n as u64);
            let terms = leap.iter().zip(&series);
            let word = terms.fold(0u64, |sum, (a, b)| sum.wrapping_add(a.wrapping_mul(*b)));
            assert_eq!(word, series[n], "{n}");
        }
    }

    #[test]
    fn seeds_draw_what_they_draw_in_go() {
        // `rand.Seed(1)` and three times `rand.Intn(100)`: 81, 87, 47 of many a tutorial.
        let mut one = GoRand::seeded(1);
        assert_eq!([0; 6].map(|_| one.below(100)), [81, 87, 47, 59, 81, 18]);
        assert_eq!(GoRand::seeded(1).int63(), 5_577_006_791_947_779_410);
    }

    #[test]
    fn orders_hold_every_number_once() {
        let mut rand = GoRand::seeded(42);
        let mut shuffled: Vec<usize> = (0..1_000).collect();
        rand.shuffle(&mut shuffled);
        for mut order in [shuffled, rand.permutation(1_000)] {
            assert_ne!(order, (0..1_000).collect::<Vec<_>>());
            order.sort_unstable();
            assert_eq!(order, (0..1_000).collect::<Vec<_>>());
        }
        assert_eq!(GoRand::seeded(0).u64(), GoRand::seeded(89_482_311).u64());
    }
}
