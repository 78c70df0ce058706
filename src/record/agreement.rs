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
    /// What kind of thing: `decisions`, `state`, `restarts`, `events`, `times`, `requests`.
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
}

impl Agreement {
    /// Whether nothing differs.
    pub fn agrees(&self) -> bool {
        self.rows.iter().all(|row| row.verdict != Verdict::Differs)
    }
}
