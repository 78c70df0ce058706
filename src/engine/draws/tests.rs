//! Tests of the module `draws`.

use std::collections::BTreeSet;

use rand::Rng;

use super::*;

const START: Purpose = Purpose::new("pod/start");
const PULL: Purpose = Purpose::new("pod/pull");

#[test]
fn philox_gives_the_published_words() {
    // Known answers of the Random123 distribution (kat_vectors, philox2x64).
    let pi = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344];
    let ones = [u64::MAX; 2];
    let seven = philox2x64::<7>;
    let ten = philox2x64::<10>;
    assert_eq!(
        seven([0, 0], 0),
        [0xb41d_a69f_bfef_c666, 0x511e_9ce1_a553_4056]
    );
    assert_eq!(
        seven(ones, u64::MAX),
        [0xa469_6cc0_4462_015d, 0x7247_82da_e171_69e9]
    );
    assert_eq!(
        seven(pi, 0xa409_3822_299f_31d0),
        [0x98ed_1534_392b_f372, 0x6752_8b15_6888_2fd5]
    );
    assert_eq!(
        ten([0, 0], 0),
        [0xca00_a045_9843_d731, 0x66c2_4222_c9a8_45b5]
    );
    assert_eq!(
        ten(ones, u64::MAX),
        [0x65b0_21d6_0cd8_310f, 0x4d02_f322_2f86_df20]
    );
    assert_eq!(
        ten(pi, 0xa409_3822_299f_31d0),
        [0x0a5e_742c_2997_341c, 0xb0f8_83d3_8000_de5d]
    );
}

#[test]
fn purposes_are_the_fnv_1a_hash_of_their_name() {
    // Published FNV-1a 64 test values: "" and "foobar".
    assert_eq!(Purpose::new("").key, 0xcbf2_9ce4_8422_2325);
    assert_eq!(Purpose::new("foobar").key, 0x8594_4171_f739_67e8);
    assert_eq!(START, Purpose::new("pod/start"));
    assert_ne!(START, PULL);
    assert_eq!(START.name(), "pod/start");
}

#[test]
fn the_draws_of_a_seed_never_change() {
    // Scenarios are replayed by their seed: a change here changes every recorded run.
    let draws = Draws::new(42);
    assert_eq!(draws.u64(START, 17, 0), 0x57a9_6340_3857_a8ac);
    assert_eq!(draws.u64(START, 17, 1), 0xffcd_9cea_4d7f_2b3b);
    assert_eq!(draws.u64(PULL, 17, 0), 0x4cea_e542_c211_b8bd);
    assert_eq!(Draws::new(43).u64(START, 17, 0), 0x8f25_03b1_58dc_8f04);
    assert_eq!(draws.below(START, 17, 0, 1_000_000), 342_428);
    assert_eq!(entity_key(&["default", "web-0"]), 0x055d_1b0e_ea2d_f18e);
    let mut stream = draws.stream(START, 17);
    assert_eq!(
        [stream.u64(), stream.u64()],
        [3_476_490_064_731_413_683, 15_102_927_148_634_679]
    );
}

#[test]
fn keys_keep_the_parts_of_a_name_apart() {
    let names: [&[&str]; 6] = [&[], &[""], &["", ""], &["ab", "c"], &["a", "bc"], &["abc"]];
    let keys: BTreeSet<u64> = names.iter().map(|parts| entity_key(parts)).collect();
    assert_eq!(keys.len(), names.len());
}

#[test]
fn every_part_of_the_name_of_a_draw_moves_half_of_its_bits() {
    // 64 bits x 64 names for each of seed, entity and n: 4,096 flips of binomial(64, 1/2), so the
    // mean of 32 has a standard error of 4 / 64 = 0.0625.
    let draw = |seed: u64, entity: u64, n: u64| Draws::new(seed).u64(START, entity, n);
    for part in 0..3 {
        let mut moved = [0u32; 64];
        for name in 0..64u64 {
            let base = [1, name * 3, name];
            for bit in 0..64 {
                let mut other = base;
                other[part] ^= 1 << bit;
                let diff = draw(base[0], base[1], base[2]) ^ draw(other[0], other[1], other[2]);
                for (out, count) in moved.iter_mut().enumerate() {
                    *count += (diff >> out & 1) as u32;
                }
            }
        }
        let mean = f64::from(moved.iter().sum::<u32>()) / 4_096.0;
        assert!((mean - 32.0).abs() < 0.35, "part {part}: {mean}");
        // Each output bit flips in 4,096 / 2 cases, standard deviation 32.
        for (out, count) in moved.iter().enumerate() {
            assert!(
                (1_848..=2_248).contains(count),
                "part {part}, output bit {out}: {count}"
            );
        }
    }
}

/// Pearson's statistic of counts against equal expectation.
fn chi_square(counts: &[u32]) -> f64 {
    let expected = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
    counts
        .iter()
        .map(|&count| (f64::from(count) - expected).powi_2() / expected)
        .sum()
}

trait Squared {
    fn powi_2(self) -> f64;
}
impl Squared for f64 {
    fn powi_2(self) -> f64 {
        self * self
    }
}

#[test]
fn draws_are_uniform_over_entities_numbers_purposes_and_seeds() {
    // 100,000 draws in 1,000 bins: chi-square with 999 degrees of freedom has standard deviation
    // 45, so 999 +- 225 is five of them.
    type Draw = fn(u64) -> f64;
    let names: [(&str, Draw); 4] = [
        ("entity", |i| Draws::new(1).unit(START, i, 0)),
        ("n", |i| Draws::new(1).unit(START, 7, i)),
        ("seed", |i| Draws::new(i).unit(START, 7, 0)),
        ("both", |i| Draws::new(1).unit(START, i % 317, i / 317)),
    ];
    for (name, draw) in names {
        let mut counts = [0u32; 1_000];
        for i in 0..100_000 {
            let unit = draw(i);
            assert!((0.0..1.0).contains(&unit));
            counts[(unit * 1_000.0) as usize] += 1;
        }
        let chi = chi_square(&counts);
        assert!((774.0..1_224.0).contains(&chi), "{name}: {chi}");
    }
}

#[test]
fn neighbours_in_every_direction_are_uncorrelated() {
    // Pairs of neighbouring draws in a 32 x 32 grid: chi-square with 1,023 degrees of freedom has
    // standard deviation 45.2; the purpose is a neighbour too.
    let draws = Draws::new(9);
    type Pair<'a> = &'a dyn Fn(u64) -> (u64, u64);
    let pairs: [(&str, Pair<'_>); 3] = [
        ("entity", &|i| {
            (draws.u64(START, i, 3), draws.u64(START, i + 1, 3))
        }),
        ("n", &|i| {
            (draws.u64(START, 3, i), draws.u64(START, 3, i + 1))
        }),
        ("purpose", &|i| {
            (draws.u64(START, i, 3), draws.u64(PULL, i, 3))
        }),
    ];
    for (name, pair) in pairs {
        let mut counts = [0u32; 1_024];
        for i in 0..100_000 {
            let (a, b) = pair(i);
            counts[(a >> 59 << 5 | b >> 59) as usize] += 1;
        }
        let chi = chi_square(&counts);
        assert!((797.0..1_250.0).contains(&chi), "{name}: {chi}");
    }
}

#[test]
fn bounded_draws_are_in_range_and_unbiased() {
    let draws = Draws::new(5);
    let mut stream = draws.stream(PULL, 1);
    for bound in [1, 2, 3, 7, 1_000, u64::MAX / 3 * 2, u64::MAX] {
        for n in 0..200 {
            assert!(draws.below(START, 1, n, bound) < bound);
            assert!(stream.below(bound) < bound);
        }
    }
    // 60,000 draws in 6 bins, 5 degrees of freedom: 25 is exceeded once in 7,000 times.
    let (mut keyed, mut streamed) = ([0u32; 6], [0u32; 6]);
    for n in 0..60_000 {
        keyed[draws.below(START, 2, n, 6) as usize] += 1;
        streamed[stream.below(6) as usize] += 1;
    }
    assert!(chi_square(&keyed) < 25.0, "{keyed:?}");
    assert!(chi_square(&streamed) < 25.0, "{streamed:?}");
}

#[test]
fn a_bound_that_needs_rejection_stays_unbiased() {
    // With bound = 3/4 of the range plain multiplication would give each third of the results
    // once, once and twice; 30,000 draws in 3 bins have a standard deviation of 82.
    let bound = 3u64 << 62;
    let draws = Draws::new(6);
    let mut counts = [0i64; 3];
    for n in 0..30_000 {
        counts[(draws.below(START, 0, n, bound) % 3) as usize] += 1;
    }
    assert!(
        counts.iter().all(|count| (count - 10_000).abs() < 410),
        "{counts:?}"
    );
}

#[test]
#[should_panic(expected = "no number is below zero")]
fn nothing_is_below_zero() {
    Draws::new(0).below(START, 0, 0, 0);
}

#[test]
fn streams_differ_by_name_and_serve_rand() {
    let draws = Draws::new(1);
    let mut firsts = BTreeSet::new();
    for entity in 0..1_000 {
        firsts.insert(draws.stream(START, entity).u64());
        firsts.insert(draws.stream(PULL, entity).u64());
        firsts.insert(draws.u64(START, entity, 0));
    }
    assert_eq!(firsts.len(), 3_000);
    let (mut a, mut b) = (draws.stream(START, 1), draws.stream(START, 1));
    assert_eq!(a.u64(), b.next_u64());
    let mut bytes = [0; 8];
    b.fill_bytes(&mut bytes);
    assert_eq!(a.u64(), u64::from_le_bytes(bytes));
}
