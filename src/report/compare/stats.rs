//! Means, confidence intervals and paired tests over seeds.
//!
//! Means have 95 % intervals by Student's t. A variant is compared with the first one seed by seed:
//! both saw the same arrivals and the same luck, so the difference of a seed is the variant's own,
//! and the paired t-test asks whether its mean is zero. Many comparisons find differences by chance:
//! p-values are also given after Holm's correction over all comparisons of the experiment ("A simple
//! sequentially rejective multiple test procedure", 1979), and only those mark a difference.

use crate::record::trials::{Metric, Trials};

/// The level of intervals.
const LEVEL: f64 = 0.95;

/// Mean and interval of one metric of one variant.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// Number of values.
    pub n: usize,
    /// Mean.
    pub mean: f64,
    /// Standard deviation of the values (n - 1).
    pub deviation: f64,
    /// Half of the 95 % interval's width; 0 for one value.
    pub half: f64,
    /// The smallest value.
    pub least: f64,
    /// The largest value.
    pub most: f64,
}

/// Paired difference from the first variant.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Difference {
    /// Mean and interval of the differences.
    pub estimate: Estimate,
    /// The test's statistic; infinite when all differences are equal and not zero.
    pub t: f64,
    /// Two-sided p-value; 1 with less than two pairs.
    pub p: f64,
    /// The same after Holm's correction.
    pub p_holm: f64,
}

/// One metric of one variant.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// The variant's place.
    pub variant: usize,
    /// Its values; `None` when it has none.
    pub estimate: Option<Estimate>,
    /// Its difference; `None` for the first variant, or without common seeds.
    pub difference: Option<Difference>,
    /// The difference of each seed, in the order of seeds.
    pub differences: Vec<f64>,
}

/// All metrics of all variants: by metric, then by variant.
pub fn compare(trials: &Trials) -> Vec<(&Metric, Vec<Cell>)> {
    let mut all: Vec<(&Metric, Vec<Cell>)> = (trials.head.metrics.iter())
        .map(|metric| {
            let cells = 0..trials.head.variants.len();
            (
                metric,
                cells.map(|variant| cell(trials, metric, variant)).collect(),
            )
        })
        .filter(|(_, cells): &(_, Vec<Cell>)| cells.iter().any(|c| c.estimate.is_some()))
        .collect();
    let cells = all.iter_mut().flat_map(|(_, cells)| cells);
    let mut differences: Vec<&mut Difference> =
        cells.filter_map(|cell| cell.difference.as_mut()).collect();
    differences.sort_by(|a, b| a.p.total_cmp(&b.p));
    let count = differences.len();
    let mut least = 0.0f64;
    for (at, difference) in differences.into_iter().enumerate() {
        least = least.max(difference.p * (count - at) as f64).min(1.0);
        difference.p_holm = least;
    }
    all
}

fn cell(trials: &Trials, metric: &Metric, variant: usize) -> Cell {
    let value = |row: &crate::record::trials::SeedRow, variant: usize| {
        row.trials[variant].metrics.get(&metric.name).copied()
    };
    let values: Vec<f64> = (trials.rows.iter())
        .filter_map(|row| value(row, variant))
        .collect();
    let pairs = trials.rows.iter().filter_map(|row| {
        let (base, other) = (value(row, 0)?, value(row, variant)?);
        Some(other - base)
    });
    let differences: Vec<f64> = if variant == 0 {
        Vec::new()
    } else {
        pairs.collect()
    };
    Cell {
        variant,
        estimate: estimate(&values),
        difference: estimate(&differences).map(test),
        differences,
    }
}

/// Mean and interval of some values.
pub fn estimate(values: &[f64]) -> Option<Estimate> {
    let n = values.len();
    if n == 0 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n as f64;
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    let mut deviation = match n {
        1 => 0.0,
        n => (squares / (n - 1) as f64).sqrt(),
    };
    // Equal values differ from their computed mean in the last bit.
    if values.iter().all(|v| *v == values[0]) {
        deviation = 0.0;
    }
    let half = match n {
        1 => 0.0,
        n => t_quantile(0.5 + LEVEL / 2.0, (n - 1) as f64) * deviation / (n as f64).sqrt(),
    };
    Some(Estimate {
        n,
        mean,
        deviation,
        half,
        least: values.iter().copied().fold(f64::INFINITY, f64::min),
        most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    })
}

fn test(estimate: Estimate) -> Difference {
    let freedom = estimate.n.saturating_sub(1) as f64;
    let (t, p) = if estimate.n < 2 || estimate.mean == 0.0 {
        (0.0, 1.0)
    } else if estimate.deviation == 0.0 {
        (f64::INFINITY * estimate.mean.signum(), 0.0)
    } else {
        let t = estimate.mean / (estimate.deviation / (estimate.n as f64).sqrt());
        (t, two_sided(t, freedom))
    };
    Difference {
        estimate,
        t,
        p,
        p_holm: p,
    }
}

/// The probability that a t-distributed value is further from zero than `t`.
pub fn two_sided(t: f64, freedom: f64) -> f64 {
    incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t))
}

/// The value below which a t-distributed value is with probability `p`, which is at least one half;
/// by bisection, to the last bit.
pub fn t_quantile(p: f64, freedom: f64) -> f64 {
    let below = |t: f64| 1.0 - two_sided(t, freedom) / 2.0;
    let (mut low, mut high) = (0.0, 1.0);
    while below(high) < p && high < 1e12 {
        high *= 2.0;
    }
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if below(middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low + high) / 2.0
}

/// The regularised incomplete beta function I_x(a, b), by Lentz's continued fraction (Press et al.,
/// "Numerical Recipes", 6.4).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let gammas = libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b);
    let front = libm::exp(gammas + a * libm::log(x) + b * libm::log(1.0 - x));
    if x < (a + 1.0) / (a + b + 2.0) {
        front * fraction(a, b, x) / a
    } else {
        1.0 - front * fraction(b, a, 1.0 - x) / b
    }
}

fn fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / away(1.0 - (a + b) * x / (a + 1.0));
    let mut result = d;
    for i in 1..500 {
        let m = f64::from(i);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / away(1.0 + even * d);
        c = away(1.0 + even / c);
        result *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / away(1.0 + odd * d);
        c = away(1.0 + odd / c);
        result *= d * c;
        if (d * c - 1.0).abs() < 1e-15 {
            break;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn students_t_agrees_with_printed_tables() {
        // degrees of freedom, 97.5 % quantile as tables print it
        let table = [
            (1.0, "12.706"),
            (4.0, "2.776"),
            (9.0, "2.262"),
            (19.0, "2.093"),
            (120.0, "1.980"),
        ];
        for (freedom, expected) in table {
            assert_eq!(format!("{:.3}", t_quantile(0.975, freedom)), expected);
        }
        // t, degrees of freedom, two-sided p: 1 - 2/pi atan(t) for one, 1 - t/sqrt(2 + t²) for two.
        for t in [0.1f64, 1.0, 3.0, 40.0] {
            let one = 1.0 - 2.0 / std::f64::consts::PI * libm::atan(t);
            let two = 1.0 - t / (2.0 + t * t).sqrt();
            assert!((two_sided(t, 1.0) - one).abs() < 1e-12, "{t}");
            assert!((two_sided(t, 2.0) - two).abs() < 1e-12, "{t}");
        }
    }

    #[test]
    fn pairs_are_tested_and_not_samples() {
        // Student's sleep data (1908): extra hours with two drugs, paired: t = 4.0621, p = 0.00283.
        let first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0];
        let second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];
        let pairs: Vec<f64> = first.iter().zip(second).map(|(a, b)| b - a).collect();
        let difference = test(estimate(&pairs).unwrap());
        assert_eq!(
            format!("{:.4} {:.5}", difference.t, difference.p),
            "4.0621 0.00283"
        );
        let interval = difference.estimate;
        let low = interval.mean - interval.half;
        assert_eq!(format!("{:.4} {:.4}", interval.mean, low), "1.5800 0.7001");
    }

    #[test]
    fn no_spread_and_no_pairs_are_no_surprise() {
        let p = |values: &[f64]| test(estimate(values).unwrap()).p;
        assert_eq!(
            (p(&[0.0, 0.0]), p(&[0.1, 0.1, 0.1]), p(&[5.0])),
            (1.0, 0.0, 1.0)
        );
        assert_eq!(estimate(&[]), None);
    }
}
