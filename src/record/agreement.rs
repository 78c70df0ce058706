//! How far runs of one scenario agree: a simulated one and some on real processes.
//!
//! Plain rows, filled in by `check::agree` and printed by `report::agreement`.

use serde::{Deserialize, Serialize};

/// What a row found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The same.
    Equal,
    /// Apart, within what the row tolerates.
    Within,
    /// Apart by more.
    Differs,
}

impl Verdict {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Equal => "equal",
            Verdict::Within => "within",
            Verdict::Differs => "DIFFERS",
        }
    }
}

/// One thing that was compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgreementRow {
    /// What kind of thing: `decisions`, `state`, `restarts`, `exits`, `events`, `times`, `requests`.
    pub group: String,
    /// The thing.
    pub what: String,
    /// Its value in the simulated run.
    pub simulated: String,
    /// The median of the real runs, or the value that differs.
    pub real: String,
    /// From the least to the most of the real runs; empty where that means nothing.
    pub spread: String,
    /// How far apart is still agreement, in words.
    pub tolerance: String,
    /// What was found.
    pub verdict: Verdict,
}

/// One measured value on both sides, for a plot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgreementPoint {
    /// Which.
    pub what: String,
    /// Simulated, in seconds.
    pub simulated_s: f64,
    /// Each real run, in seconds.
    pub real_s: Vec<f64>,
    /// How far apart is still agreement, in seconds.
    pub tolerated_s: f64,
}

/// One quantity over time on both sides, for a plot: (seconds of the run, value).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AgreementSeries {
    /// What, in words.
    pub what: String,
    /// Values hold until the next one; else they are of one second each.
    pub holds: bool,
    /// Simulated.
    pub simulated: Vec<(f64, f64)>,
    /// Each real run.
    pub real: Vec<Vec<(f64, f64)>>,
}

/// A step, a fault, or its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AgreementMark {
    /// When, in seconds of the run.
    pub at_s: f64,
    /// What.
    pub what: String,
}

/// A simulated run against real ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Name of the scenario.
    pub scenario: String,
    /// Its seed.
    pub seed: u64,
    /// How many real runs.
    pub runs: usize,
    /// Guarantees that the real runs did not have.
    pub degraded: Vec<String>,
    /// What was compared.
    pub rows: Vec<AgreementRow>,
    /// Times on both sides.
    pub times: Vec<AgreementPoint>,
    /// Quantities over time on both sides.
    pub series: Vec<AgreementSeries>,
    /// What happened when, in the simulated run.
    pub marks: Vec<AgreementMark>,
    /// How long the runs are, in seconds.
    pub seconds: f64,
}

impl Agreement {
    /// Whether nothing differs.
    pub fn agrees(&self) -> bool {
        self.rows.iter().all(|row| row.verdict != Verdict::Differs)
    }
}
