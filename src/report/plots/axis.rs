//! Where values go, and which of them are worth a tick.

/// A rectangle whose both axes begin at 0.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    /// Left edge.
    pub left: f64,
    /// Right edge.
    pub right: f64,
    /// Upper edge.
    pub top: f64,
    /// Lower edge.
    pub bottom: f64,
    /// The value at the right edge.
    pub most_x: f64,
    /// The value at the upper edge.
    pub most_y: f64,
}

impl Panel {
    /// Where a value stands; values outside stand on the edge.
    pub fn x(&self, value: f64) -> f64 {
        let share = (value / self.most_x).clamp(0.0, 1.0);
        self.left + share * (self.right - self.left)
    }

    /// Where a value stands; values outside stand on the edge.
    pub fn y(&self, value: f64) -> f64 {
        let share = (value / self.most_y).clamp(0.0, 1.0);
        self.bottom - share * self.height()
    }

    /// From the lower edge to the upper one.
    pub fn height(&self) -> f64 {
        self.bottom - self.top
    }
}

/// Steps of time that people count in, in seconds.
const STEPS: [u32; 17] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200,
];

/// At most ten ticks from 0 to `most` seconds.
pub fn time_ticks(most: f64) -> Vec<f64> {
    let fits = |step: &&u32| most / f64::from(**step) <= 10.0;
    let step = STEPS.iter().find(fits).copied().unwrap_or(86_400);
    let count = (most / f64::from(step)) as u32;
    (0..=count).map(|i| f64::from(i * step)).collect()
}

/// About `count` ticks from 0 to `most`, at 1, 2 or 5 times a power of ten.
pub fn value_ticks(most: f64, count: usize) -> Vec<f64> {
    let count = count.clamp(2, 6) as f64;
    let mut step = 1e-6;
    let factors = [2.0, 2.5, 2.0];
    let mut i = 0;
    while most / step > count && step < 1e15 {
        step *= factors[i % 3];
        i += 1;
    }
    let ticks = (most / step + 1e-9) as u32;
    (0..=ticks).map(|i| f64::from(i) * step).collect()
}

/// The next round value at or above `most`.
pub fn round_up(most: f64) -> f64 {
    let ticks = value_ticks(most, 5);
    let step = ticks.get(1).copied().unwrap_or(most);
    let last = ticks.last().copied().unwrap_or(0.0);
    if last + step * 1e-6 >= most {
        most
    } else {
        last + step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_of_time_are_round_and_few() {
        // seconds, step, number of ticks with the one at 0
        let table = [
            (10.0, 1.0, 11),
            (900.0, 120.0, 8),
            (780.0, 120.0, 7),
            (86_400.0, 14_400.0, 7),
        ];
        for (most, step, count) in table {
            let ticks = time_ticks(most);
            assert_eq!((ticks[1], ticks.len()), (step, count), "{most}");
        }
    }

    #[test]
    fn ticks_of_values_are_one_two_or_five_times_a_power_of_ten() {
        let table = [(6.0, 4, "0 2 4 6"), (500.0, 5, "0 100 200 300 400 500")];
        for (most, count, expected) in table {
            let ticks: Vec<String> = (value_ticks(most, count).iter())
                .map(|t| format!("{t:.0}"))
                .collect();
            assert_eq!(ticks.join(" "), expected, "{most}");
        }
        assert_eq!(format!("{:.0}", round_up(437.0)), "500");
    }
}
