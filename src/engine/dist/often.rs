//! A distribution that is sampled by the million: samples from a table, to the bit.
//!
//! A log-normal sample takes an inverse normal distribution and an exponential, forty nanoseconds
//! together, and a large run draws millions of latencies. But what is wanted is a whole number of
//! nanoseconds. So the unit interval is cut into [`CELLS`] cells and a polynomial is fitted to each;
//! it is right but for a 256th of a nanosecond. Where what it gives is further than that from the
//! border between two whole numbers, rounding it gives what rounding the exact sample would; everywhere
//! else, and at the ends of the interval where no polynomial fits, the exact sample is taken.

use std::f64::consts::PI;

use super::Sampler;

/// So many cells has the unit interval.
const CELLS: usize = 64;
/// So many coefficients has the polynomial of a cell.
const TERMS: usize = 8;
/// What a polynomial may be wrong by, in nanoseconds.
const SLACK: f64 = 1.0 / 256.0;
/// How many times better than that it has to be wherever it is tried.
const MARGIN: f64 = 32.0;
/// So many places of a cell are tried.
const TRIED: usize = 48;
/// So many samples are drawn before it is worth the while to make the table.
const FEW: u32 = 8_192;

/// A [`Sampler`] that is asked very often.
#[derive(Clone, Debug)]
pub struct Often {
    exact: Sampler,
    drawn: u32,
    /// Coefficients in rising order of power, of the place in the cell from -1 to 1; those of a cell
    /// that no polynomial fits are not numbers.
    table: Option<Box<[[f64; TERMS]; CELLS]>>,
}

impl From<Sampler> for Often {
    fn from(exact: Sampler) -> Self {
        Often {
            exact,
            drawn: 0,
            table: None,
        }
    }
}

impl Often {
    /// [`Sampler::nanos`], to the bit.
    #[inline]
    pub fn nanos(&mut self, unit: f64) -> u64 {
        match &self.table {
            Some(table) => quick(table, unit).unwrap_or_else(|| self.exact.nanos(unit)),
            None => self.early(unit),
        }
    }

    #[cold]
    fn early(&mut self, unit: f64) -> u64 {
        if matches!(self.exact, Sampler::LogNormal { .. }) {
            self.drawn += 1;
            if self.drawn > FEW {
                self.table = Some(tabulated(&|unit| self.exact.real(unit)));
            }
        }
        self.exact.nanos(unit)
    }
}

/// The sample at `unit`, if the table is certain of it.
#[inline]
fn quick(table: &[[f64; TERMS]; CELLS], unit: f64) -> Option<u64> {
    let scaled = unit * CELLS as f64;
    let cell = scaled as usize;
    let value = at(table.get(cell)?, (scaled - cell as f64) * 2.0 - 1.0) + 0.5;
    let whole = value as u64;
    let rest = value - whole as f64;
    // A comparison with what is not a number is false.
    (rest > SLACK && rest < 1.0 - SLACK).then_some(whole)
}

/// The value of a polynomial: pairs and pairs of pairs, which a processor works out side by side.
#[inline]
fn at([a, b, c, d, e, f, g, h]: &[f64; TERMS], x: f64) -> f64 {
    let (x2, x4) = (x * x, x * x * (x * x));
    ((a + b * x) + (c + d * x) * x2) + ((e + f * x) + (g + h * x) * x2) * x4
}

fn tabulated(exact: &dyn Fn(f64) -> f64) -> Box<[[f64; TERMS]; CELLS]> {
    let mut table = Box::new([[f64::NAN; TERMS]; CELLS]);
    for (cell, terms) in table.iter_mut().enumerate() {
        let inside = |x: f64| exact((cell as f64 + (x + 1.0) / 2.0) / CELLS as f64);
        let fitted = fitted(&inside);
        let good = |n: usize| {
            let x = (2 * n + 1) as f64 / TRIED as f64 - 1.0;
            (at(&fitted, x) - inside(x)).abs() * MARGIN < SLACK
        };
        if (0..TRIED).all(good) {
            *terms = fitted;
        }
    }
    table
}

/// The polynomial that agrees with `exact` at the Chebyshev nodes of -1 to 1.
fn fitted(exact: &dyn Fn(f64) -> f64) -> [f64; TERMS] {
    let node = |k: usize| libm::cos(PI * (k as f64 + 0.5) / TERMS as f64);
    let values: [f64; TERMS] = std::array::from_fn(|k| exact(node(k)));
    let mut sum = [0.0; TERMS];
    // The Chebyshev polynomials of this degree and the one before, by powers.
    let (mut before, mut this) = ([0.0; TERMS], [0.0; TERMS]);
    this[0] = 1.0;
    for degree in 0..TERMS {
        let angle = |k: usize| PI * degree as f64 * (k as f64 + 0.5) / TERMS as f64;
        let share = if degree == 0 { 1.0 } else { 2.0 } / TERMS as f64;
        let weight: f64 = (0..TERMS).map(|k| values[k] * libm::cos(angle(k))).sum();
        for (sum, term) in sum.iter_mut().zip(this) {
            *sum += share * weight * term;
        }
        let factor = if degree == 0 { 1.0 } else { 2.0 };
        let next = std::array::from_fn(|power| {
            let shifted = power.checked_sub(1).map_or(0.0, |lower| this[lower]);
            factor * shifted - before[power]
        });
        (before, this) = (this, next);
    }
    sum
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::{Dist, Draws, Purpose};

    const UNIT: Purpose = Purpose::new("test/often");

    fn log_normal(p50: Duration, p99: Duration) -> Sampler {
        Dist::LogNormal { p50, p99 }.sampler()
    }

    #[test]
    fn samples_from_a_table_are_the_exact_ones() {
        let draws = Draws::new(7);
        let spans = [(4_000, 15_000), (1, 2), (900_000, 9_000_000), (50, 50)];
        for (p50, p99) in spans {
            let exact = log_normal(Duration::from_micros(p50), Duration::from_micros(p99));
            let mut often = Often::from(exact.clone());
            for n in 0..400_000 {
                let unit = draws.unit(UNIT, p50, n);
                assert_eq!(
                    often.nanos(unit),
                    exact.nanos(unit),
                    "{p50} {p99} at {unit}"
                );
            }
            for n in 0..=CELLS {
                let unit = n as f64 / CELLS as f64;
                for unit in [unit.next_down(), unit, unit.next_up()] {
                    assert_eq!(
                        often.nanos(unit),
                        exact.nanos(unit),
                        "{p50} {p99} at {unit}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_table_knows_nearly_all_latencies_of_the_api_server() {
        let exact = log_normal(Duration::from_millis(4), Duration::from_millis(15));
        let table = tabulated(&|unit| exact.real(unit));
        let draws = Draws::new(8);
        let known = |n: &u64| quick(&table, draws.unit(UNIT, 0, *n)).is_some();
        let count = (0..10_000).filter(known).count();
        assert!(count > 8_500, "{count} of 10,000");
    }

    #[test]
    fn what_no_polynomial_fits_is_not_tabulated() {
        // As far apart as the shortest and the longest life of a machine.
        let exact = log_normal(Duration::from_nanos(1), Duration::from_secs(1 << 40));
        let table = tabulated(&|unit| exact.real(unit));
        assert!(table[CELLS - 1][0].is_nan() && table[CELLS - 2][0].is_nan());
    }

    #[test]
    fn other_distributions_are_passed_on() {
        let exact = Dist::Exponential {
            mean: Duration::from_millis(3),
        }
        .sampler();
        let mut often = Often::from(exact.clone());
        for n in 0..20_000 {
            let unit = f64::from(n) / 20_000.0;
            assert_eq!(often.nanos(unit), exact.nanos(unit));
        }
    }
}
