//! What the trials of an experiment leave behind: plain numbers per seed and variant.
//!
//! A trial is one variant with one seed. Trials are written as JSON Lines: the head, then a line for
//! each seed in their order. A share of the seeds has the same form, so that shares which ran on
//! several machines are put together by sorting lines, and nothing depends on where a trial ran.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Which way a metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// More of it.
    Higher,
    /// Less of it.
    Lower,
    /// Neither.
    Neither,
}

/// How the values of a metric are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// A share of 1, printed in percent.
    Share,
    /// Seconds.
    Seconds,
    /// A number of things.
    Count,
    /// A plain number.
    Number,
}

/// A metric: its name and what it means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metric {
    /// Name, as in `report`.
    pub name: String,
    /// How it is printed.
    pub unit: Unit,
    /// Which way is better.
    pub better: Better,
    /// What it is, in a sentence.
    pub meaning: String,
    /// Whether the terminal's table has it.
    pub shown: bool,
}

/// What all trials of an experiment have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialsHead {
    /// Version of the form.
    pub version: u32,
    /// Name of the experiment.
    pub experiment: String,
    /// Its file.
    pub file: String,
    /// Digest of its input, in hexadecimal digits.
    pub digest: String,
    /// Names of the variants; the first is what the others are compared with.
    pub variants: Vec<String>,
    /// All seeds of the experiment, not only those of a share.
    pub seeds: Vec<u64>,
    /// The metrics, in the order of the table.
    pub metrics: Vec<Metric>,
    /// What runs, in words: `1,213 nodes, 8,152 pods`.
    pub workload: String,
    /// What the horizontal axis of the series is.
    pub axis: Axis,
}

/// What a series goes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Axis {
    /// Seconds of the run.
    Time,
    /// What has arrived, as a share of the cluster's GPUs.
    Load,
    /// There are no series.
    None,
}

/// A point of a trial's series.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Along the axis.
    pub at: f64,
    /// Allocated share of GPUs, or of CPU where the cluster has no GPU.
    pub allocated: f64,
    /// Share of idle GPUs that are fragmented.
    pub fragmented: f64,
}

/// What one trial came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Values by metric; a metric without a value in this trial is absent.
    pub metrics: BTreeMap<String, f64>,
    /// Allocation and fragmentation along the axis.
    pub series: Vec<Point>,
    /// Waiting times in seconds: the 0th, 1st … 100th percentile; empty when no pod waited for a
    /// node at all.
    pub waits: Vec<f64>,
    /// Digest of the trial's decisions, in hexadecimal digits.
    pub digest: String,
}

/// The first decision that two variants made differently.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// The variant; the other one is the first.
    pub variant: String,
    /// The pod.
    pub pod: String,
    /// When, in seconds of the run.
    pub at_s: f64,
    /// How many decisions were made before.
    pub decision: u64,
    /// What the first variant decided.
    pub base: Choice,
    /// What this variant decided.
    pub other: Choice,
}

/// A decision with its reason.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The node; `None` when the pod went nowhere.
    pub node: Option<String>,
    /// Total score of that node.
    pub score: Option<i64>,
    /// Score that the other variant's node had here; `None` when it did not fit.
    pub score_of_other: Option<i64>,
    /// Nodes that fit.
    pub feasible: u64,
    /// Nodes of the highest score.
    pub best: u64,
    /// Why: weighted scores of the plugins that differ between both nodes, or why none fits.
    pub reason: String,
}

/// All variants with one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedRow {
    /// The seed.
    pub seed: u64,
    /// One for each variant, in their order.
    pub trials: Vec<Trial>,
    /// Where variants first differ from the first one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub divergences: Vec<Divergence>,
}

/// Trials of an experiment, of all seeds or of a share.
#[derive(Clone, Debug, PartialEq)]
pub struct Trials {
    /// What they have in common.
    pub head: TrialsHead,
    /// By seed, in the order of the head's seeds.
    pub rows: Vec<SeedRow>,
}

/// The present version of the form.
pub const VERSION: u32 = 1;

impl Trials {
    /// As JSON Lines.
    pub fn to_lines(&self) -> String {
        let mut lines = json(&self.head);
        lines.push('\n');
        for row in &self.rows {
            lines.push_str(&json(row));
            lines.push('\n');
        }
        lines
    }

    /// From JSON Lines.
    ///
    /// # Errors
    /// The number of the line that cannot be read, and why.
    pub fn from_lines(text: &str) -> Result<Trials, (usize, String)> {
        let mut lines = text.lines().enumerate();
        let (_, head) = lines.next().ok_or((1, "the file is empty".to_owned()))?;
        let head: TrialsHead = serde_json::from_str(head).map_err(|e| (1, e.to_string()))?;
        if head.version != VERSION {
            return Err((1, format!("version {} is not known", head.version)));
        }
        let mut rows = Vec::new();
        for (at, line) in lines {
            let row: SeedRow = serde_json::from_str(line).map_err(|e| (at + 1, e.to_string()))?;
            let known = head.seeds.contains(&row.seed);
            if !known || row.trials.len() != head.variants.len() {
                let what = format!("seed {} is not of this experiment", row.seed);
                return Err((at + 1, what));
            }
            rows.push(row);
        }
        Ok(Trials { head, rows })
    }

    /// Puts shares together.
    ///
    /// # Errors
    /// When they are not of one experiment, or a seed is missing or there twice.
    pub fn merge(shares: Vec<Trials>) -> Result<Trials, String> {
        let mut shares = shares.into_iter();
        let mut all = shares.next().ok_or("there is no share")?;
        for share in shares {
            if share.head != all.head {
                return Err("the shares are not of one experiment".to_owned());
            }
            all.rows.extend(share.rows);
        }
        let place = |seed| all.head.seeds.iter().position(|s| *s == seed);
        all.rows.sort_by_key(|row| place(row.seed));
        let mut wanted = all.head.seeds.iter();
        for row in &all.rows {
            match wanted.next() {
                Some(seed) if *seed == row.seed => {}
                Some(seed) if place(row.seed) > place(*seed) => {
                    return Err(format!("seed {seed} is missing"));
                }
                _ => return Err(format!("seed {} is there twice", row.seed)),
            }
        }
        match wanted.next() {
            Some(seed) => Err(format!("seed {seed} is missing")),
            None => Ok(all),
        }
    }
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("numbers and texts")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trials(seeds: &[u64]) -> Trials {
        let head = TrialsHead {
            version: VERSION,
            experiment: "e".into(),
            file: "e.yaml".into(),
            digest: "0".into(),
            variants: vec!["a".into()],
            seeds: vec![7, 3, 5],
            metrics: Vec::new(),
            workload: String::new(),
            axis: Axis::Time,
        };
        let row = |seed: &u64| SeedRow {
            seed: *seed,
            trials: vec![Trial {
                metrics: [("m".to_owned(), 0.1 + *seed as f64 / 3.0)].into(),
                ..Trial::default()
            }],
            divergences: Vec::new(),
        };
        Trials {
            rows: seeds.iter().map(row).collect(),
            head,
        }
    }

    #[test]
    fn shares_put_together_are_the_whole_to_the_byte() {
        let whole = trials(&[7, 3, 5]).to_lines();
        let shares = [trials(&[5]), trials(&[3, 7])];
        let shares = shares
            .iter()
            .map(|s| Trials::from_lines(&s.to_lines()).unwrap());
        assert_eq!(Trials::merge(shares.collect()).unwrap().to_lines(), whole);
    }

    #[test]
    fn shares_that_do_not_make_a_whole_are_refused() {
        let mut foreign = trials(&[5]);
        foreign.head.digest = "1".into();
        let table = [
            (vec![trials(&[7, 3])], "seed 5 is missing"),
            (vec![trials(&[3, 5])], "seed 7 is missing"),
            (
                vec![trials(&[7, 3, 5]), trials(&[3])],
                "seed 3 is there twice",
            ),
            (
                vec![trials(&[7, 3]), foreign],
                "the shares are not of one experiment",
            ),
            (vec![], "there is no share"),
        ];
        for (shares, expected) in table {
            assert_eq!(Trials::merge(shares).unwrap_err(), expected);
        }
        let cut = trials(&[7]).to_lines();
        let cut = &cut[..cut.len() - 9];
        assert_eq!(Trials::from_lines(cut).unwrap_err().0, 2);
    }
}
