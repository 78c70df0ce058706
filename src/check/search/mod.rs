//! Looking for the run that breaks a check: many runs of one scenario, each a little different, and
//! the smallest scenario that still breaks it.
//!
//! What differs is what `search.vary` names: the seed; the times of the timeline's steps, and with
//! them their order; whether steps marked `optional` happen. Run 0 is the scenario as written, run n
//! is the same whatever the number of threads or the budget. A run is a find when one of its
//! expectations, thresholds or steps fails, or a rule of [`super::invariants`] is broken.
//!
//! Finds are grouped by what failed; the first of each group is then made small ([`shrink`]): steps
//! are taken out, pools and the run made smaller, times rounded, as long as the same check fails.
//! Writing the small scenario down is [`crate::scenario::minimal`]'s.

pub mod shrink;

pub mod text;

use std::time::Duration;

use rayon::prelude::*;

use super::invariants::Invariants;
use super::run::{RunError, RunOptions, run_watched};
use crate::engine::draws::{Draws, Purpose};
use crate::record::CheckRow;
use crate::scenario::{Scenario, Vary};

const TIMES: Purpose = Purpose::new("search/time");
const OPTIONAL: Purpose = Purpose::new("search/optional");

/// Runs that are judged together; between two such groups a stop is noticed and finds are merged.
const GROUP: u32 = 64;

/// How to search.
pub struct SearchOptions<'a> {
    /// How many runs.
    pub budget: u32,
    /// What differs between them.
    pub vary: Vary,
    /// How many runs each find may cost to be made small.
    pub effort: u32,
    /// Called after each run, from any thread; true ends the search with what there is.
    pub after_run: &'a (dyn Fn() -> bool + Sync),
}

/// One way to run a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The seed.
    pub seed: u64,
    /// The steps that happen, by their place in the scenario's timeline, and when.
    pub steps: Vec<(usize, Duration)>,
    /// How many nodes each pool has.
    pub nodes: Vec<u32>,
    /// How long it runs.
    pub duration: Duration,
}

impl Case {
    /// The scenario as written.
    pub fn written(scenario: &Scenario) -> Case {
        let steps = scenario.timeline.iter().enumerate();
        Case {
            seed: scenario.seed,
            steps: steps.map(|(place, step)| (place, step.at)).collect(),
            nodes: scenario.cluster.pools.iter().map(|p| p.count).collect(),
            duration: scenario.duration,
        }
    }

    /// Run number `n` of a search.
    pub fn varied(scenario: &Scenario, vary: Vary, n: u32) -> Case {
        let mut case = Case::written(scenario);
        if n == 0 {
            return case;
        }
        let draws = Draws::new(scenario.seed);
        if vary.seed {
            case.seed = scenario.seed.wrapping_add(u64::from(n));
        }
        if vary.optional {
            case.steps.retain(|(place, _)| {
                let left_out = draws.unit(OPTIONAL, *place as u64, u64::from(n)) < 0.5;
                !(scenario.timeline[*place].optional && left_out)
            });
        }
        if vary.times {
            for (place, at) in &mut case.steps {
                let unit = draws.unit(TIMES, *place as u64, u64::from(n));
                *at = moved(*at, scenario.duration, unit);
            }
            case.steps.sort_by_key(|(_, at)| *at);
        }
        case
    }

    /// The scenario of this case.
    pub fn scenario(&self, scenario: &Scenario) -> Scenario {
        let mut result = scenario.clone();
        result.seed = self.seed;
        result.duration = self.duration;
        result.timeline = (self.steps.iter())
            .map(|(place, at)| {
                let mut step = scenario.timeline[*place].clone();
                step.at = *at;
                step
            })
            .collect();
        for (pool, count) in result.cluster.pools.iter_mut().zip(&self.nodes) {
            pool.count = *count;
        }
        result
    }
}

/// A time between half of what was written and half the way from there to the end, on a whole
/// millisecond so that it can be written down.
fn moved(at: Duration, end: Duration, unit: f64) -> Duration {
    let (from, to) = (at / 2, (at + end) / 2);
    let span = to.saturating_sub(from).as_millis();
    let span = u32::try_from(span).unwrap_or(u32::MAX);
    let millis = libm::floor(f64::from(span) * unit);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and a u32"
    )]
    let late = Duration::from_millis(millis as u64);
    Duration::from_millis(u64::try_from(from.as_millis()).unwrap_or(u64::MAX)) + late
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The checks that failed.
    pub failed: Vec<CheckRow>,
    /// The run's digest.
    pub digest: String,
}

impl Judged {
    /// The row of a check that failed here too.
    pub fn same(&self, check: &CheckRow) -> Option<&CheckRow> {
        let mut rows = self.failed.iter();
        rows.find(|row| row.name == check.name && row.kind == check.kind)
    }
}

/// Runs a case and judges it.
///
/// # Errors
/// When it cannot run at all.
pub fn judge(scenario: &Scenario, case: &Case) -> Result<Judged, RunError> {
    let mut options = RunOptions {
        stop: &mut |_, _| false,
        arguments: Vec::new(),
    };
    let mut rules = Invariants::new(false);
    let finished = run_watched(&case.scenario(scenario), &mut options, &mut rules)?;
    let record = finished.record;
    let begun = record.header.begun.as_secs_f64();
    let mut failed: Vec<CheckRow> = (record.checks.into_iter())
        .filter(|check| !check.passed)
        .collect();
    for violation in rules.violations {
        if failed.iter().all(|row| row.name != violation.rule) {
            let at_s = Some(violation.at.as_secs_f64() - begun);
            failed.push(CheckRow {
                name: violation.rule.to_owned(),
                kind: "invariant".to_owned(),
                passed: false,
                at_s,
                run_s: at_s,
                detail: violation.what,
                open: false,
            });
        }
    }
    Ok(Judged {
        failed,
        digest: record.header.digest,
    })
}

/// A check that failed in some runs.
#[derive(Clone, Debug)]
pub struct Find {
    /// The check, as it failed first.
    pub check: CheckRow,
    /// In how many runs it failed.
    pub count: u32,
    /// The first of them.
    pub run: u32,
    /// How that one ran.
    pub case: Case,
    /// The smallest case found in which it fails as well.
    pub small: shrink::Small,
}

/// What a search came to.
#[derive(Clone, Debug)]
pub struct Found {
    /// How many runs were judged.
    pub runs: u32,
    /// In how many of them anything failed.
    pub failed: u32,
    /// What failed, in order of the first run that it failed in.
    pub finds: Vec<Find>,
    /// The search was ended before its budget was used up.
    pub stopped: bool,
}

/// Searches.
///
/// # Errors
/// When the scenario cannot run at all.
pub fn search(scenario: &Scenario, options: &SearchOptions<'_>) -> Result<Found, RunError> {
    let mut groups: Vec<(CheckRow, u32, u32)> = Vec::new();
    let (mut runs, mut failed, mut stopped) = (0, 0, false);
    while runs < options.budget && !stopped {
        let group: Vec<u32> = (runs..options.budget.min(runs + GROUP)).collect();
        let judged: Vec<Option<Judged>> = (group.par_iter())
            .map(|n| {
                if (options.after_run)() {
                    return Ok(None);
                }
                judge(scenario, &Case::varied(scenario, options.vary, *n)).map(Some)
            })
            .collect::<Result<_, RunError>>()?;
        // What was judged behind a run that was not is left out: the rest depends on luck.
        let complete = judged.iter().take_while(|j| j.is_some()).count();
        stopped = complete < judged.len();
        for (n, judged) in group.into_iter().zip(judged.into_iter().flatten()) {
            if n - runs >= u32::try_from(complete).unwrap_or(u32::MAX) {
                break;
            }
            failed += u32::from(!judged.failed.is_empty());
            for row in judged.failed {
                let mut known = groups.iter_mut();
                match known.find(|(check, ..)| check.name == row.name && check.kind == row.kind) {
                    Some((_, count, _)) => *count += 1,
                    None => groups.push((row, 1, n)),
                }
            }
        }
        runs += u32::try_from(complete).unwrap_or(u32::MAX);
    }
    let mut finds = Vec::new();
    for (check, count, run) in groups {
        let case = Case::varied(scenario, options.vary, run);
        let effort = if stopped { 0 } else { options.effort };
        let mut shrinking = shrink::Shrinking::new(scenario, &check, effort, options.after_run);
        let small = shrinking.run(&case)?;
        stopped |= shrinking.stopped;
        finds.push(Find {
            check,
            count,
            run,
            case,
            small,
        });
    }
    Ok(Found {
        runs,
        failed,
        finds,
        stopped,
    })
}

#[cfg(test)]
mod tests;
