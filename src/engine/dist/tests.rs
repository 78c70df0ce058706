//! Tests of the module `dist`.

use proptest::prelude::*;

use super::*;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn every_kind() -> [(&'static str, Dist); 9] {
    let points = vec![
        (0.0, ms(10)),
        (0.5, ms(20)),
        (0.5, ms(30)),
        (0.9, ms(30)),
        (1.0, ms(130)),
    ];
    [
        ("fixed", Dist::Fixed(ms(7))),
        (
            "uniform",
            Dist::Uniform {
                min: ms(10),
                max: ms(30),
            },
        ),
        ("exponential", Dist::Exponential { mean: ms(100) }),
        (
            "lognormal",
            Dist::LogNormal {
                p50: ms(4_000),
                p99: ms(9_000),
            },
        ),
        (
            "normal",
            Dist::Normal {
                mean: ms(100),
                sd: ms(10),
            },
        ),
        (
            "normal at zero",
            Dist::Normal {
                mean: ms(10),
                sd: ms(20),
            },
        ),
        (
            "weibull rising",
            Dist::Weibull {
                shape: 1.5,
                scale: ms(100),
            },
        ),
        (
            "weibull falling",
            Dist::Weibull {
                shape: 0.8,
                scale: ms(100),
            },
        ),
        ("empirical", Dist::Empirical(points)),
    ]
}

#[test]
fn the_normal_quantile_agrees_with_published_values() {
    // To 15 digits: R's qnorm, and the standard tables for the first four.
    let table = [
        (0.5, 0.0),
        (0.75, 0.674_489_750_196_082),
        (0.975, 1.959_963_984_540_05),
        (0.99, 2.326_347_874_040_84),
        (0.001, -3.090_232_306_167_81),
        (1e-9, -5.997_807_015_007_69),
        (1e-20, -9.262_340_089_798_41),
    ];
    for (p, z) in table {
        assert!(
            (normal_quantile(p) - z).abs() <= 1e-14 * z.abs(),
            "{p}: {}",
            normal_quantile(p)
        );
    }
    assert!((normal_quantile(0.99) - Z99).abs() <= 2e-15);
    assert_eq!(normal_quantile(0.0), f64::NEG_INFINITY);
    assert_eq!(normal_quantile(1.0), f64::INFINITY);
}

#[test]
fn the_normal_quantile_inverts_the_normal_distribution() {
    for i in 1..10_000 {
        let p = f64::from(i) / 10_000.0;
        let back = normal_cdf(normal_quantile(p));
        assert!((back - p).abs() <= 1e-14 * p, "{p}: {back}");
        let tail = p / 1e12;
        let back = normal_cdf(normal_quantile(tail));
        assert!((back - tail).abs() <= 1e-13 * tail, "{tail}: {back}");
    }
}

#[test]
fn samples_never_change() {
    // Nanoseconds; equal on every platform because libm and + - * / sqrt are.
    let table = [
        ("fixed", [7_000_000, 7_000_000, 7_000_000]),
        ("uniform", [10_020_000, 18_000_000, 29_980_000]),
        ("exponential", [100_050, 51_082_562, 690_775_528]),
        ("lognormal", [1_362_178_710, 3_661_897_057, 11_745_889_055]),
        ("normal", [69_097_677, 97_466_529, 130_902_323]),
        ("normal at zero", [39_261, 14_300_317, 73_963_827]),
        ("weibull rising", [1_000_334, 63_902_098, 362_708_691]),
        ("weibull falling", [17_794, 43_185_787, 1_119_879_202]),
        ("empirical", [10_020_000, 18_000_000, 129_000_000]),
    ];
    for ((name, dist), (golden_name, golden)) in every_kind().into_iter().zip(table) {
        assert_eq!(name, golden_name);
        let nanos = [0.001, 0.4, 0.999].map(|unit| dist.sample(unit).as_nanos());
        assert_eq!(nanos, golden, "{name}");
    }
    assert_eq!(normal_quantile(0.3).to_bits(), 0xbfe0_c7e3_9582_c5fa);
    assert_eq!(normal_quantile(0.001).to_bits(), 0xc008_b8cb_b720_4470);
    assert_eq!(normal_quantile(1e-15).to_bits(), 0xc01f_c3f0_0778_9667);
}

#[test]
fn the_mean_is_the_mean_of_the_samples() {
    // The mean is the integral of the quantile function; midpoint rule with 200,000 steps. The tail
    // of the falling Weibull converges slowest.
    for (name, dist) in every_kind() {
        let steps = 200_000;
        let sum: f64 = (0..steps)
            .map(|i| ns(dist.sample((f64::from(i) + 0.5) / f64::from(steps))))
            .sum();
        let (sampled, mean) = (sum / f64::from(steps), ns(dist.mean()));
        assert!(
            (sampled - mean).abs() <= 2e-4 * mean,
            "{name}: {sampled} {mean}"
        );
    }
}

#[test]
fn quantiles_are_where_the_parameters_put_them() {
    let close = |dist: &Dist, q: f64, nanos: f64| {
        let got = ns(dist.quantile(q));
        assert!(
            (got - nanos).abs() <= 1.0 + 1e-12 * nanos,
            "{dist:?} at {q}: {got}, not {nanos}"
        );
    };
    let lognormal = Dist::LogNormal {
        p50: ms(4_000),
        p99: ms(9_000),
    };
    close(&lognormal, 0.5, 4e9);
    close(&lognormal, 0.99, 9e9);
    // 1 - exp(-x / 100 ms) = 0.75 at 100 ms x ln 4
    close(&Dist::Exponential { mean: ms(100) }, 0.75, 1e8 * log(4.0));
    close(
        &Dist::Normal {
            mean: ms(1_000),
            sd: ms(10),
        },
        0.5,
        1e9,
    );
    close(
        &Dist::Normal {
            mean: ms(1_000),
            sd: ms(10),
        },
        0.99,
        1e9 + 1e7 * Z99,
    );
    // Half-normal: the median is the 0.75 quantile of the normal.
    close(
        &Dist::Normal {
            mean: ms(0),
            sd: ms(10),
        },
        0.5,
        1e7 * normal_quantile(0.75),
    );
    close(
        &Dist::Normal {
            mean: ms(5),
            sd: ms(0),
        },
        0.1,
        5e6,
    );
    close(
        &Dist::Weibull {
            shape: 2.0,
            scale: ms(100),
        },
        1.0 - exp(-1.0),
        1e8,
    );
    close(
        &Dist::Uniform {
            min: ms(10),
            max: ms(30),
        },
        0.25,
        15e6,
    );
    close(
        &Dist::LogNormal {
            p50: ms(5),
            p99: ms(5),
        },
        0.9,
        5e6,
    );
}

#[test]
fn empirical_points_are_joined_by_lines_gaps_and_lumps() {
    let [.., (_, empirical)] = every_kind();
    // 0 -> 10 ms, 0.5 -> 20 ms, a gap to 30 ms, a lump at 30 ms up to 0.9, then a line to 130 ms
    let table = [
        (0.0, 10),
        (0.25, 15),
        (0.5, 30),
        (0.7, 30),
        (0.9, 30),
        (0.95, 80),
        (0.999, 129),
    ];
    for (q, millis) in table {
        assert_eq!(empirical.quantile(q).as_millis(), millis, "{q}");
    }
    // Outside its points it stays at their ends.
    let narrow = Dist::Empirical(vec![(0.4, ms(1)), (0.6, ms(3))]);
    assert_eq!((narrow.quantile(0.1), narrow.quantile(0.9)), (ms(1), ms(3)));
    assert_eq!(narrow.mean(), ms(2));
}

#[test]
fn parameters_that_describe_nothing_are_refused() {
    let weibull = |shape| Dist::Weibull {
        shape,
        scale: ms(1),
    };
    let points = |points: &[(f64, u64)]| {
        Dist::Empirical(points.iter().map(|&(p, millis)| (p, ms(millis))).collect())
    };
    let table = [
        (
            Dist::Uniform {
                min: ms(2),
                max: ms(1),
            },
            "min is longer than max",
        ),
        (
            Dist::LogNormal {
                p50: ms(2),
                p99: ms(1),
            },
            "p99 is shorter than p50",
        ),
        (
            Dist::LogNormal {
                p50: ms(0),
                p99: ms(1),
            },
            "p50 must be longer than zero",
        ),
        (weibull(0.0), "shape must be a positive number"),
        (weibull(f64::NAN), "shape must be a positive number"),
        (points(&[]), "there are no points"),
        (points(&[(1.5, 1)]), "a probability must be between 0 and 1"),
        (
            points(&[(f64::NAN, 1)]),
            "a probability must be between 0 and 1",
        ),
        (
            points(&[(0.5, 2), (0.6, 1)]),
            "points must be in rising order of probability and of span",
        ),
        (
            points(&[(0.5, 1), (0.4, 2)]),
            "points must be in rising order of probability and of span",
        ),
    ];
    for (dist, message) in table {
        assert_eq!(dist.check().unwrap_err().to_string(), message, "{dist:?}");
    }
    for (name, dist) in every_kind() {
        assert_eq!(dist.check(), Ok(()), "{name}");
    }
}

fn any_dist() -> impl Strategy<Value = Dist> {
    let span = || any::<Duration>();
    prop_oneof![
        (span(), span()).prop_map(|(min, max)| Dist::Uniform { min, max }),
        span().prop_map(|mean| Dist::Exponential { mean }),
        (span(), span()).prop_map(|(p50, p99)| Dist::LogNormal { p50, p99 }),
        (span(), span()).prop_map(|(mean, sd)| Dist::Normal { mean, sd }),
        (any::<f64>(), span()).prop_map(|(shape, scale)| Dist::Weibull { shape, scale }),
        prop::collection::vec((any::<f64>(), span()), 0..4).prop_map(Dist::Empirical),
    ]
}

proptest! {
    #[test]
    fn no_parameters_and_no_number_make_sampling_panic(dist in any_dist(), unit in any::<f64>()) {
        let _ = (dist.sample(unit), dist.sample(0.0), dist.sample(1.0), dist.mean(), dist.check());
    }

    #[test]
    fn a_larger_number_never_makes_a_shorter_span(a in 0.0..1.0f64, b in 0.0..1.0f64) {
        for (name, dist) in every_kind() {
            let (low, high) = (dist.sample(a.min(b)), dist.sample(a.max(b)));
            prop_assert!(low <= high, "{name}: {low:?} {high:?}");
        }
    }
}

#[test]
fn a_sampler_gives_the_samples_of_its_distribution() {
    for (name, dist) in every_kind() {
        let sampler = dist.sampler();
        for n in 0..1_000 {
            let unit = f64::from(n) / 1_000.0;
            assert_eq!(sampler.sample(unit), dist.sample(unit), "{name} at {unit}");
        }
    }
}
