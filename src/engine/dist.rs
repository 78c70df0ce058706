//! Distributions of spans, sampled by inverse transform from one uniform number.
//!
//! One uniform number makes one sample, so a keyed draw gives the same quantile of whatever
//! distribution is configured: a node with slower pulls pulls the same image slower, not
//! differently. Only the `libm` crate's transcendental functions are used, whose bits are equal on
//! every platform.
//!
//! [`Dist`] is plain data; the layer that reads scenarios parses it and calls [`Dist::check`].
//! Sampling never panics: a parameter that makes no sense gives a clamped sample.

mod often;

use std::f64::consts::{PI, SQRT_2};
use std::time::Duration;

use libm::{erfc, exp, log, log1p, pow, sqrt, tgamma};
use serde::{Deserialize, Serialize};

pub use often::Often;

use super::nanos;

/// A distribution of non-negative spans.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Dist {
    /// Always the same span.
    Fixed(Duration),
    /// Every span between `min` and `max` alike.
    Uniform {
        /// The shortest span.
        min: Duration,
        /// The longest span.
        max: Duration,
    },
    /// Memoryless, as between independent arrivals.
    Exponential {
        /// The mean span.
        mean: Duration,
    },
    /// The logarithm is normal; described by two quantiles, as latencies usually are.
    LogNormal {
        /// The median.
        p50: Duration,
        /// The span that one sample in a hundred exceeds; not below `p50`.
        p99: Duration,
    },
    /// Normal, restricted to spans that are not negative (which moves its mean up when `sd` is not
    /// small against `mean`).
    Normal {
        /// The mean before the restriction.
        mean: Duration,
        /// The standard deviation before the restriction.
        sd: Duration,
    },
    /// Weibull, as for times to failure.
    Weibull {
        /// Below 1 the failure rate falls with age, above 1 it rises; 1 is exponential.
        shape: f64,
        /// The span that 1 - 1/e of the samples do not exceed.
        scale: Duration,
    },
    /// Points (cumulative probability, span), both in rising order, joined by straight lines. The
    /// first span is the shortest and the last the longest; two points of one probability are a
    /// gap, two points of one span a lump.
    Empirical(Vec<(f64, Duration)>),
}

/// Why a distribution is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DistError {
    /// `Uniform` with its ends exchanged.
    #[error("min is longer than max")]
    MinAboveMax,
    /// `LogNormal` with its quantiles exchanged.
    #[error("p99 is shorter than p50")]
    QuantilesExchanged,
    /// `LogNormal` whose median is zero although its p99 is not.
    #[error("p50 must be longer than zero")]
    ZeroMedian,
    /// `Weibull` whose shape is not a positive number.
    #[error("shape must be a positive number")]
    Shape,
    /// `Empirical` without a point.
    #[error("there are no points")]
    NoPoints,
    /// `Empirical` with a probability outside 0 to 1.
    #[error("a probability must be between 0 and 1")]
    Probability,
    /// `Empirical` whose probabilities or spans fall.
    #[error("points must be in rising order of probability and of span")]
    PointsFall,
}

/// The standard normal distribution's 0.99 quantile.
const Z99: f64 = 2.326_347_874_040_841;

impl Dist {
    /// Whether the parameters describe a distribution.
    pub fn check(&self) -> Result<(), DistError> {
        match self {
            Dist::Fixed(_) | Dist::Exponential { .. } | Dist::Normal { .. } => Ok(()),
            Dist::Uniform { min, max } if min > max => Err(DistError::MinAboveMax),
            Dist::Uniform { .. } => Ok(()),
            Dist::LogNormal { p50, p99 } if p99 < p50 => Err(DistError::QuantilesExchanged),
            Dist::LogNormal { p50, p99 } if p50.is_zero() && !p99.is_zero() => {
                Err(DistError::ZeroMedian)
            }
            Dist::LogNormal { .. } => Ok(()),
            Dist::Weibull { shape, .. } if !(shape.is_finite() && *shape > 0.0) => {
                Err(DistError::Shape)
            }
            Dist::Weibull { .. } => Ok(()),
            Dist::Empirical(points) => check_points(points),
        }
    }

    /// The sample that belongs to the uniform number `unit` in [0, 1): the quantile at `unit`.
    pub fn sample(&self, unit: f64) -> Duration {
        // Half a step inside the open interval, so that no sample is infinite.
        let p = unit.clamp(HALF_STEP, 1.0 - HALF_STEP);
        match self {
            Dist::Fixed(span) => *span,
            Dist::Uniform { min, max } => {
                let width = ns(*max) - ns(*min);
                span(ns(*min) + width * unit.clamp(0.0, 1.0))
            }
            Dist::Exponential { mean } => span(-ns(*mean) * log1p(-p)),
            Dist::LogNormal { p50, p99 } => {
                span(ns(*p50) * exp(sigma(*p50, *p99) * normal_quantile(p)))
            }
            Dist::Normal { mean, sd } => span(truncated_quantile(ns(*mean), ns(*sd), p)),
            Dist::Weibull { shape, scale } => span(ns(*scale) * pow(-log1p(-p), 1.0 / shape)),
            Dist::Empirical(points) => span(between(points, unit)),
        }
    }

    /// Gives the same samples, with what does not depend on the uniform number worked out once.
    pub fn sampler(&self) -> Sampler {
        match self {
            Dist::LogNormal { p50, p99 } => Sampler::LogNormal {
                median_ns: ns(*p50),
                sigma: sigma(*p50, *p99),
            },
            other => Sampler::Other(other.clone()),
        }
    }

    /// The span that the share `q` of the samples does not exceed.
    pub fn quantile(&self, q: f64) -> Duration {
        self.sample(q)
    }

    /// The mean of the samples.
    pub fn mean(&self) -> Duration {
        match self {
            Dist::Fixed(span) => *span,
            Dist::Uniform { min, max } => span((ns(*min) + ns(*max)) / 2.0),
            Dist::Exponential { mean } => *mean,
            Dist::LogNormal { p50, p99 } => {
                let sigma = sigma(*p50, *p99);
                span(ns(*p50) * exp(sigma * sigma / 2.0))
            }
            Dist::Normal { mean, sd } => span(truncated_mean(ns(*mean), ns(*sd))),
            Dist::Weibull { shape, scale } => span(ns(*scale) * tgamma(1.0 + 1.0 / shape)),
            Dist::Empirical(points) => span(mean_of(points)),
        }
    }
}

/// A [`Dist`] that is sampled by the million.
#[derive(Clone, Debug)]
pub enum Sampler {
    /// Of [`Dist::LogNormal`].
    LogNormal {
        /// The median in nanoseconds.
        median_ns: f64,
        /// The standard deviation of the logarithm.
        sigma: f64,
    },
    /// Of any other.
    Other(Dist),
}

impl Sampler {
    /// [`Dist::sample`], to the bit.
    #[inline]
    pub fn sample(&self, unit: f64) -> Duration {
        Duration::from_nanos(self.nanos(unit))
    }

    /// As [`Sampler::sample`], in nanoseconds.
    #[inline]
    pub fn nanos(&self, unit: f64) -> u64 {
        match self {
            Sampler::LogNormal { .. } => whole(self.real(unit)),
            Sampler::Other(dist) => nanos(dist.sample(unit)),
        }
    }

    /// In nanoseconds before they are rounded, where there is such a thing.
    #[inline]
    fn real(&self, unit: f64) -> f64 {
        match self {
            Sampler::LogNormal { median_ns, sigma } => {
                let p = unit.clamp(HALF_STEP, 1.0 - HALF_STEP);
                median_ns * exp(sigma * normal_quantile(p))
            }
            Sampler::Other(dist) => ns(dist.sample(unit)),
        }
    }
}

/// Half of the distance between two uniform numbers, 2^-54.
const HALF_STEP: f64 = 1.0 / (1u64 << 54) as f64;

fn ns(span: Duration) -> f64 {
    span.as_nanos() as f64
}

/// The nearest whole nanosecond; negative and undefined values become zero, too long ones the
/// longest.
fn span(nanos: f64) -> Duration {
    Duration::from_nanos(whole(nanos))
}

/// The same in nanoseconds.
fn whole(nanos: f64) -> u64 {
    (nanos + 0.5) as u64
}

fn sigma(p50: Duration, p99: Duration) -> f64 {
    if p50.is_zero() || p99 <= p50 {
        0.0
    } else {
        log(ns(p99) / ns(p50)) / Z99
    }
}

/// P(Z <= x) for a standard normal Z.
fn normal_cdf(x: f64) -> f64 {
    0.5 * erfc(-x / SQRT_2)
}

/// Of the normal distribution restricted to values that are not negative.
fn truncated_quantile(mean: f64, sd: f64, p: f64) -> f64 {
    if sd == 0.0 {
        return mean;
    }
    // The share that stays is kept = P(Z > -mean / sd) >= 1/2; count p down from the upper end,
    // where it is not lost against 1.
    let kept = normal_cdf(mean / sd);
    mean - sd * normal_quantile((1.0 - p) * kept)
}

fn truncated_mean(mean: f64, sd: f64) -> f64 {
    if sd == 0.0 {
        return mean;
    }
    let a = mean / sd;
    let density = exp(-a * a / 2.0) / sqrt(2.0 * PI);
    mean + sd * density / normal_cdf(a)
}

fn check_points(points: &[(f64, Duration)]) -> Result<(), DistError> {
    if points.is_empty() {
        return Err(DistError::NoPoints);
    }
    if points.iter().any(|(p, _)| !(0.0..=1.0).contains(p)) {
        return Err(DistError::Probability);
    }
    let rises = |pair: &[(f64, Duration)]| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1;
    if points.windows(2).all(rises) {
        Ok(())
    } else {
        Err(DistError::PointsFall)
    }
}

/// The nanoseconds at cumulative probability `p` on the line through `points`.
fn between(points: &[(f64, Duration)], p: f64) -> f64 {
    let above = points.partition_point(|point| point.0 <= p);
    match (
        above.checked_sub(1).and_then(|i| points.get(i)),
        points.get(above),
    ) {
        (Some(low), Some(high)) => {
            let share = (p - low.0) / (high.0 - low.0);
            ns(low.1) + (ns(high.1) - ns(low.1)) * share
        }
        (Some(only), None) | (None, Some(only)) => ns(only.1),
        (None, None) => 0.0,
    }
}

fn mean_of(points: &[(f64, Duration)]) -> f64 {
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return 0.0;
    };
    let ends = first.0 * ns(first.1) + (1.0 - last.0) * ns(last.1);
    let piece =
        |pair: &[(f64, Duration)]| (pair[1].0 - pair[0].0) * (ns(pair[0].1) + ns(pair[1].1)) / 2.0;
    ends + points.windows(2).map(piece).sum::<f64>()
}

/// The value that a standard normal variable does not exceed with probability `p`: algorithm AS 241
/// (PPND16) of M. J. Wichura, "The percentage points of the normal distribution", Applied
/// Statistics 37 (1988), 477-484. Its relative error is about 1e-16. Infinite at 0 and 1.
pub fn normal_quantile(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180625 - q * q;
        return q * ratio(r, &CENTRE);
    }
    let tail = if q < 0.0 { p } else { 1.0 - p };
    if tail <= 0.0 {
        return if q < 0.0 {
            f64::NEG_INFINITY
        } else {
            f64::INFINITY
        };
    }
    let r = sqrt(-log(tail));
    let z = if r <= 5.0 {
        ratio(r - 1.6, &TAIL)
    } else {
        ratio(r - 5.0, &FAR_TAIL)
    };
    if q < 0.0 { -z } else { z }
}

/// A quotient of two polynomials, coefficients in rising order of power.
fn ratio(x: f64, [above, below]: &[[f64; 8]; 2]) -> f64 {
    let horner = |coefficients: &[f64; 8]| coefficients.iter().rev().fold(0.0, |v, c| v * x + c);
    horner(above) / horner(below)
}

#[rustfmt::skip]
const CENTRE: [[f64; 8]; 2] = [
    [3.387_132_872_796_366_5, 133.141_667_891_784_38, 1_971.590_950_306_551_3,
     13_731.693_765_509_46, 45_921.953_931_549_87, 67_265.770_927_008_7,
     33_430.575_583_588_13, 2_509.080_928_730_122_7],
    [1.0, 42.313_330_701_600_91, 687.187_007_492_057_9,
     5_394.196_021_424_751, 21_213.794_301_586_597, 39_307.895_800_092_71,
     28_729.085_735_721_943, 5_226.495_278_852_855],
];
#[rustfmt::skip]
const TAIL: [[f64; 8]; 2] = [
    [1.423_437_110_749_683_5, 4.630_337_846_156_546, 5.769_497_221_460_691,
     3.647_848_324_763_204_5, 1.270_458_252_452_368_4, 0.241_780_725_177_450_6,
     0.022_723_844_989_269_184, 7.745_450_142_783_414e-4],
    [1.0, 2.053_191_626_637_759, 1.676_384_830_183_803_8,
     0.689_767_334_985_1, 0.148_103_976_427_480_08, 0.015_198_666_563_616_457,
     5.475_938_084_995_345e-4, 1.050_750_071_644_416_9e-9],
];
#[rustfmt::skip]
const FAR_TAIL: [[f64; 8]; 2] = [
    [6.657_904_643_501_103, 5.463_784_911_164_114, 1.784_826_539_917_291_3,
     0.296_560_571_828_504_87, 0.026_532_189_526_576_124, 1.242_660_947_388_078_4e-3,
     2.711_555_568_743_487_6e-5, 2.010_334_399_292_288_1e-7],
    [1.0, 0.599_832_206_555_888, 0.136_929_880_922_735_8,
     0.014_875_361_290_850_615, 7.868_691_311_456_133e-4, 1.846_318_317_510_054_7e-5,
     1.421_511_758_316_446e-7, 2.044_263_103_389_939_8e-15],
];

#[cfg(test)]
mod tests;
