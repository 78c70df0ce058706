//! When requests arrive: k6's arrival-rate executors.
//!
//! Arrival `n` comes when the area under the rate reaches `n` (`constant-arrival-rate`, whose first
//! request comes at the very start), `n + 1` (`ramping-arrival-rate`), or the n-th point of a
//! Poisson process of rate one. So arrival `n` is a function of `n`: nothing else that is drawn can
//! move it.

use std::time::Duration;

use super::model::{Executor, Traffic};
use crate::engine::draws::{Draws, Purpose};
use crate::engine::{Dist, Time};

const ARRIVAL: Purpose = Purpose::new("load/arrival");

/// A stretch of time in which the rate goes on a straight line.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Line {
    start: Time,
    seconds: f64,
    /// Requests per second at both ends.
    from: f64,
    to: f64,
    /// Requests before this stretch.
    before: f64,
}

impl Line {
    fn area(&self) -> f64 {
        (self.from + self.to) / 2.0 * self.seconds
    }

    /// Seconds into the stretch at which `area` requests have come.
    fn at(&self, area: f64) -> f64 {
        let slope = (self.to - self.from) / self.seconds;
        if slope == 0.0 {
            return area / self.from;
        }
        // The root of from·t + slope·t²/2 = area that does not lose digits for small slopes.
        let square = (self.from * self.from + 2.0 * slope * area).max(0.0);
        2.0 * area / (self.from + square.sqrt())
    }
}

/// The arrivals of one Traffic.
#[derive(Clone, Debug)]
pub struct Arrivals {
    lines: Vec<Line>,
    line: usize,
    next: u64,
    /// The area at which the next request comes.
    area: f64,
    poisson: bool,
    /// Each request comes this much area before the one that it stands for ends.
    early: f64,
}

impl Arrivals {
    /// The arrivals of `traffic`, whose stages begin at `start`. None for closed executors.
    pub fn new(traffic: &Traffic, start: Time) -> Option<Arrivals> {
        let mut lines = Vec::new();
        let mut add = |at: Time, span: Duration, from: f64, to: f64| {
            let line = Line {
                start: at,
                seconds: span.as_secs_f64(),
                from,
                to,
                before: lines.last().map_or(0.0, |l: &Line| l.before + l.area()),
            };
            if !span.is_zero() {
                lines.push(line);
            }
            at + span
        };
        match &traffic.executor {
            Executor::ConstantArrivalRate {
                rate,
                time_unit,
                duration,
            } => {
                let rate = *rate as f64 / time_unit.as_secs_f64();
                add(start, *duration, rate, rate);
            }
            Executor::RampingArrivalRate {
                start_rate,
                time_unit,
                stages,
            } => {
                let unit = time_unit.as_secs_f64();
                let (mut at, mut rate) = (start, *start_rate as f64 / unit);
                for stage in stages {
                    let target = stage.target as f64 / unit;
                    at = add(at, stage.duration, rate, target);
                    rate = target;
                }
            }
            Executor::ConstantVus { .. } => return None,
        }
        Some(Arrivals {
            lines,
            line: 0,
            next: 0,
            area: 0.0,
            poisson: traffic.poisson,
            early: match (&traffic.executor, traffic.poisson) {
                (Executor::ConstantArrivalRate { .. }, false) => 1.0,
                _ => 0.0,
            },
        })
    }

    /// The next arrival's number and time; none when the last stage is over. `entity` is the
    /// traffic's key for draws.
    pub fn next(&mut self, draws: &Draws, entity: u64) -> Option<(u64, Time)> {
        let number = self.next;
        self.area += match self.poisson {
            false => 1.0,
            true => {
                let mean = Duration::from_secs(1);
                let unit = draws.unit(ARRIVAL, entity, number);
                Dist::Exponential { mean }.sample(unit).as_secs_f64()
            }
        };
        loop {
            let line = self.lines.get(self.line)?;
            let area = self.area - line.before;
            // A billionth of a request is forgiven, so that rounding does not lose the last one.
            if area <= line.area() + 1e-9 && line.area() > 0.0 {
                let seconds = line.at(area - self.early).clamp(0.0, line.seconds);
                self.next += 1;
                let nanos = (seconds * 1e9 + 0.5) as u64;
                return Some((number, line.start + Duration::from_nanos(nanos)));
            }
            self.line += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::Stage;
    use super::*;

    fn all(executor: Executor, poisson: bool) -> Vec<Time> {
        let traffic = Traffic {
            executor,
            poisson,
            ..Traffic::default()
        };
        let mut arrivals = Arrivals::new(&traffic, Time::from_secs(10)).unwrap();
        let draws = Draws::new(1);
        let times: Vec<_> = std::iter::from_fn(|| arrivals.next(&draws, 7)).collect();
        for (n, pair) in times.iter().enumerate() {
            assert_eq!(pair.0, n as u64);
        }
        times.into_iter().map(|(_, time)| time).collect()
    }

    #[test]
    fn a_constant_rate_is_evenly_spaced() {
        let executor = Executor::ConstantArrivalRate {
            rate: 30,
            time_unit: Duration::from_secs(60),
            duration: Duration::from_secs(10),
        };
        // one every two seconds: 10, 12, 14, 16, 18
        let expected: Vec<_> = (5..10).map(|n| Time::from_secs(2 * n)).collect();
        assert_eq!(all(executor, false), expected);
    }

    #[test]
    fn a_ramp_has_the_area_of_a_triangle_and_a_jump_has_none() {
        let stage = |secs, target| Stage {
            duration: Duration::from_secs(secs),
            target,
        };
        let executor = Executor::RampingArrivalRate {
            start_rate: 0,
            time_unit: Duration::from_secs(1),
            stages: vec![stage(4, 8), stage(0, 2), stage(3, 2)],
        };
        let times = all(executor, false);
        // 0 → 8/s in 4 s: t² requests by t, so 16; then 2/s for 3 s: 6
        assert_eq!(times.len(), 22);
        for n in 1..=16u64 {
            let expected = 10.0 + (n as f64).sqrt();
            let got = times[n as usize - 1].as_secs_f64();
            assert!((got - expected).abs() < 1e-6, "{n}: {got} {expected}");
        }
        assert_eq!(times[16], Time::from_millis(14_500));
        assert_eq!(times[21], Time::from_secs(17));
    }

    #[test]
    fn poisson_arrivals_have_the_same_mean_rate() {
        let executor = Executor::ConstantArrivalRate {
            rate: 1_000,
            time_unit: Duration::from_secs(1),
            duration: Duration::from_secs(10),
        };
        let times = all(executor, true);
        // Poisson(10,000): standard deviation 100
        assert!((9_600..10_400).contains(&times.len()), "{}", times.len());
        assert!(times.windows(2).all(|pair| pair[0] <= pair[1]));
    }
}
