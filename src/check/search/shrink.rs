//! Making a find small: the same check fails with less of everything.
//!
//! Greedy and in a fixed order, over and over until nothing more can go: each step of the timeline
//! is left out, from the last to the first; each pool gets as few nodes as possible; the run ends
//! soon after the check failed; times become round. A change is kept when the same check still fails;
//! fewer nodes only when it takes every step for that, because a cluster can be too small for
//! anything to go right.

use std::time::Duration;

use super::{Case, Judged, judge};
use crate::check::run::RunError;
use crate::record::CheckRow;
use crate::scenario::Scenario;

/// The smallest case that was found.
#[derive(Clone, Debug)]
pub struct Small {
    /// How it runs.
    pub case: Case,
    /// The check as it fails there.
    pub check: CheckRow,
    /// The digest of that run.
    pub digest: String,
    /// How many runs it took.
    pub runs: u32,
    /// Whether nothing can go any more: without any one of its steps the check passes.
    pub least: bool,
}

/// A search for a small case.
pub struct Shrinking<'a> {
    scenario: &'a Scenario,
    check: &'a CheckRow,
    effort: u32,
    runs: u32,
    after_run: &'a (dyn Fn() -> bool + Sync),
    /// It was told to end.
    pub stopped: bool,
}

impl<'a> Shrinking<'a> {
    /// Looks for smaller cases in which `check` fails, with at most `effort` runs.
    pub fn new(
        scenario: &'a Scenario,
        check: &'a CheckRow,
        effort: u32,
        after_run: &'a (dyn Fn() -> bool + Sync),
    ) -> Self {
        Shrinking {
            scenario,
            check,
            effort,
            runs: 0,
            after_run,
            stopped: false,
        }
    }

    /// The smallest case found from this one.
    ///
    /// # Errors
    /// When the case that was found cannot run any more.
    pub fn run(&mut self, case: &Case) -> Result<Small, RunError> {
        let judged = judge(self.scenario, case)?;
        let mut small = self.small(case, &judged);
        let mut again = true;
        while again && !self.tired() {
            again = self.fewer_steps(&mut small);
            again |= self.fewer_nodes(&mut small);
            again |= self.shorter(&mut small);
            again |= self.rounder(&mut small);
        }
        small.least = !self.tired();
        small.runs = self.runs;
        Ok(small)
    }

    fn small(&self, case: &Case, judged: &Judged) -> Small {
        let check = judged.same(self.check).unwrap_or(self.check);
        Small {
            case: case.clone(),
            check: check.clone(),
            digest: judged.digest.clone(),
            runs: 0,
            least: false,
        }
    }

    fn tired(&self) -> bool {
        self.stopped || self.runs >= self.effort
    }

    /// Keeps a case if the check fails in it, too. One that cannot run is no smaller find.
    fn try_case(&mut self, small: &mut Small, case: Case) -> bool {
        if case == small.case || self.tired() {
            return false;
        }
        self.runs += 1;
        self.stopped |= (self.after_run)();
        match judge(self.scenario, &case) {
            Ok(judged) if judged.same(self.check).is_some() => {
                *small = self.small(&case, &judged);
                true
            }
            _ => false,
        }
    }

    fn fewer_steps(&mut self, small: &mut Small) -> bool {
        let mut any = false;
        for place in (0..small.case.steps.len()).rev() {
            let mut case = small.case.clone();
            case.steps.remove(place);
            any |= self.try_case(small, case);
        }
        any
    }

    /// Whether the check passes without any one of the steps. A cluster that is too small fails
    /// for other reasons than the one that was found.
    fn needs_every_step(&mut self, case: &Case) -> bool {
        (0..case.steps.len()).all(|place| {
            let mut without = case.clone();
            without.steps.remove(place);
            self.runs += 1;
            self.stopped |= (self.after_run)();
            !self.tired()
                && judge(self.scenario, &without).is_ok_and(|j| j.same(self.check).is_none())
        })
    }

    /// One node, or else the fewest that bisection finds.
    fn fewer_nodes(&mut self, small: &mut Small) -> bool {
        let mut any = false;
        for pool in 0..small.case.nodes.len() {
            let (mut low, mut high) = (0, small.case.nodes[pool]);
            // The check fails with `high` nodes; with `low` it is not known to.
            while high - low > 1 {
                let middle = match low {
                    0 => 1,
                    low => low + (high - low) / 2,
                };
                let mut case = small.case.clone();
                case.nodes[pool] = middle;
                let fewer = self.needs_every_step(&case) && self.try_case(small, case);
                match fewer {
                    true => (high, any) = (middle, true),
                    false => low = middle,
                }
            }
        }
        any
    }

    /// Ends a second after the check failed. A deadline that passed is not moved.
    fn shorter(&mut self, small: &mut Small) -> bool {
        if !["always", "never", "step", "invariant"].contains(&small.check.kind.as_str()) {
            return false;
        }
        let Some(at) = small.check.at_s.filter(|at| *at >= 0.0) else {
            return false;
        };
        let mut case = small.case.clone();
        case.duration = Duration::from_secs_f64(libm::floor(at) + 1.0).min(case.duration);
        case.steps.retain(|(_, at)| *at <= case.duration);
        self.try_case(small, case)
    }

    fn rounder(&mut self, small: &mut Small) -> bool {
        let mut any = false;
        for place in 0..small.case.steps.len() {
            for unit in [60_000, 10_000, 1_000].map(Duration::from_millis) {
                let mut case = small.case.clone();
                let at = &mut case.steps[place].1;
                let over = at.as_nanos() % unit.as_nanos();
                *at -= Duration::from_nanos(u64::try_from(over).unwrap_or(0));
                if over == 0 {
                    break;
                }
                case.steps.sort_by_key(|(_, at)| *at);
                if self.try_case(small, case) {
                    any = true;
                    break;
                }
            }
        }
        any
    }
}
