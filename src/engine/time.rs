//! Simulated time: whole nanoseconds since the run began.
//!
//! [`Time`] is an instant and [`Duration`] a span; adding two instants does not compile. Arithmetic
//! that would leave the range (584 years) stops at its ends, so a drawn latency can never wrap
//! around and become due in the past.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An instant of a run, in nanoseconds since the run began.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Time(u64);

impl Time {
    /// The beginning of the run.
    pub const ZERO: Time = Time(0);
    /// Later than everything; used for "never".
    pub const MAX: Time = Time(u64::MAX);

    /// The instant `nanos` nanoseconds after the run began.
    pub const fn from_nanos(nanos: u64) -> Time {
        Time(nanos)
    }

    /// The instant `micros` microseconds after the run began, at most [`Time::MAX`].
    pub const fn from_micros(micros: u64) -> Time {
        Time(micros.saturating_mul(1_000))
    }

    /// The instant `millis` milliseconds after the run began, at most [`Time::MAX`].
    pub const fn from_millis(millis: u64) -> Time {
        Time(millis.saturating_mul(1_000_000))
    }

    /// The instant `secs` seconds after the run began, at most [`Time::MAX`].
    pub const fn from_secs(secs: u64) -> Time {
        Time(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the run began.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The instant so many nanoseconds later, at most [`Time::MAX`].
    pub const fn plus_nanos(self, nanos: u64) -> Time {
        Time(self.0.saturating_add(nanos))
    }

    /// Seconds since the run began, for reports; decisions use the integer.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The span from `earlier` to this instant, zero when `earlier` is in fact later.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Minutes and seconds as `mm:ss`, hours in front from one hour on (`h:mm:ss`), rounded down.
    pub fn clock(self) -> String {
        let secs = self.0 / 1_000_000_000;
        let (h, m, s) = (secs / 3600, secs / 60 % 60, secs % 60);
        if h > 0 {
            format!("{h}:{m:02}:{s:02}")
        } else {
            format!("{m:02}:{s:02}")
        }
    }
}

/// A span in nanoseconds, at most `u64::MAX` of them.
pub fn nanos(span: Duration) -> u64 {
    span.as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(span.subsec_nanos().into())
}

impl Add<Duration> for Time {
    type Output = Time;

    /// The instant `span` later, at most [`Time::MAX`].
    fn add(self, span: Duration) -> Time {
        Time(self.0.saturating_add(nanos(span)))
    }
}

impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, span: Duration) {
        *self = *self + span;
    }
}

impl Sub<Time> for Time {
    type Output = Duration;

    /// The span between two instants. Asserts that `earlier` is not later; where that may be so,
    /// say [`Time::since`].
    fn sub(self, earlier: Time) -> Duration {
        assert!(earlier <= self, "{earlier} is later than {self}");
        Duration::from_nanos(self.0 - earlier.0)
    }
}

impl fmt::Display for Time {
    /// `mm:ss.mmm`, from one hour on `h:mm:ss.mmm`, rounded down. Respects width and alignment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0 / 1_000_000 % 1_000;
        f.pad(&format!("{}.{millis:03}", self.clock()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_print_as_minutes_and_hours() {
        // nanoseconds, Display, clock; everything is rounded down
        let table = [
            (0, "00:00.000", "00:00"),
            (999_999, "00:00.000", "00:00"),
            (1_000_000, "00:00.001", "00:00"),
            (59_999_999_999, "00:59.999", "00:59"),
            (60_000_000_000, "01:00.000", "01:00"),
            (3_599_999_000_000, "59:59.999", "59:59"),
            (3_600_000_000_000, "1:00:00.000", "1:00:00"),
            (90_061_500_000_000, "25:01:01.500", "25:01:01"),
        ];
        for (nanos, shown, clock) in table {
            let time = Time::from_nanos(nanos);
            assert_eq!(
                (time.to_string().as_str(), time.clock().as_str()),
                (shown, clock)
            );
        }
        assert_eq!(format!("[{:>11}]", Time::from_secs(1)), "[  00:01.000]");
    }

    #[test]
    fn units_agree() {
        assert_eq!(Time::from_secs(3), Time::from_millis(3_000));
        assert_eq!(Time::from_millis(3), Time::from_micros(3_000));
        assert_eq!(Time::from_micros(3), Time::from_nanos(3_000));
        assert_eq!(Time::from_secs(7).as_secs_f64(), 7.0);
    }

    #[test]
    fn arithmetic_stops_at_the_ends_of_the_range() {
        let second = Duration::from_secs(1);
        let mut time = Time::from_secs(2) + second;
        time += second;
        assert_eq!(time, Time::from_secs(4));
        assert_eq!(time - Time::from_secs(1), Duration::from_secs(3));
        assert_eq!(Time::from_secs(1).since(time), Duration::ZERO);
        assert_eq!(Time::MAX + second, Time::MAX);
        assert_eq!(Time::ZERO + Duration::MAX, Time::MAX);
        assert_eq!(Time::from_secs(u64::MAX), Time::MAX);
    }

    #[test]
    #[should_panic(expected = "is later than")]
    fn a_negative_span_is_a_mistake_of_the_program() {
        let _ = Time::ZERO - Time::from_secs(1);
    }

    #[test]
    fn instants_are_plain_integers_in_data() {
        assert_eq!(serde_json::to_string(&Time::from_nanos(17)).unwrap(), "17");
        assert_eq!(
            serde_json::from_str::<Time>("17").unwrap(),
            Time::from_nanos(17)
        );
    }
}
