//! Experiments: every variant with every seed, in parallel, and what came of each.
//!
//! A trial is one variant with one seed. Variants of one seed see the same arrivals and the same
//! luck, draw by draw (common random numbers), so their differences are the variants' own. Trials are
//! independent; they run on all threads, and the results do not depend on how many there are.
//!
//! Two kinds of trial: [`placement`] runs the scheduler alone on a trace; `cluster_trial` runs a whole
//! cluster. [`metrics`] defines what is measured; statistics and tables are `report`'s.

pub mod arrivals;

pub mod go_rand;

pub mod prepare;

pub mod meter;

pub mod placement;

pub mod metrics;

mod failures;

mod divergence;

mod cluster_trial;

use rayon::prelude::*;

use self::placement::{Placed, Placement};
use self::prepare::Prepared;
use crate::engine::Digest;
use crate::record::trials::{Axis, SeedRow, Trial, Trials, TrialsHead, VERSION};
use crate::scenario::{Arrivals, Diagnostic, Experiment, Plan};

/// A share of an experiment's seeds: number `index` of `of`, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which share.
    pub index: usize,
    /// How many there are.
    pub of: usize,
}

impl Shard {
    /// The seeds of this share: the seed in place p goes to share p mod n.
    pub fn seeds(self, all: &[u64]) -> Vec<u64> {
        let own = all.iter().skip(self.index).step_by(self.of.max(1));
        own.copied().collect()
    }
}

/// How an experiment runs.
pub struct CompareOptions<'a> {
    /// A share of the seeds; all of them unless given.
    pub shard: Option<Shard>,
    /// Called after each trial, from any thread; true stops the experiment.
    pub after_trial: &'a (dyn Fn() -> bool + Sync),
}

/// Why an experiment has no result.
#[derive(Debug)]
pub enum CompareError {
    /// Something in it is wrong.
    Input(Box<Diagnostic>),
    /// It was stopped.
    Stopped,
}

/// Runs an experiment.
///
/// # Errors
/// Unknown metrics, a cluster that cannot run, or a stop.
pub fn run(experiment: &Experiment, options: &CompareOptions<'_>) -> Result<Trials, CompareError> {
    let head = head(experiment)?;
    let seeds = match options.shard {
        Some(shard) => shard.seeds(&experiment.seeds),
        None => experiment.seeds.clone(),
    };
    let plans: Vec<Ready<'_>> = experiment
        .variants
        .iter()
        .map(|v| Ready::new(&v.plan))
        .collect();
    let jobs: Vec<(usize, u64)> = (seeds.iter())
        .flat_map(|seed| (0..plans.len()).map(move |variant| (variant, *seed)))
        .collect();
    let outcomes: Vec<_> = (jobs.par_iter())
        .map(|(variant, seed)| {
            let outcome = plans[*variant].trial(*seed)?;
            if (options.after_trial)() {
                return Err(CompareError::Stopped);
            }
            Ok(outcome)
        })
        .collect::<Result<_, CompareError>>()?;
    let mut outcomes = outcomes.into_iter();
    let mut rows = Vec::new();
    for seed in seeds {
        let of_seed: Vec<Outcome> = outcomes.by_ref().take(plans.len()).collect();
        let first = experiment.seeds.first() == Some(&seed);
        let divergences = match first {
            true => divergence::all(experiment, &plans, seed, &of_seed),
            false => Vec::new(),
        };
        rows.push(SeedRow {
            seed,
            trials: of_seed.into_iter().map(|outcome| outcome.trial).collect(),
            divergences,
        });
    }
    Ok(Trials { head, rows })
}

/// A variant, ready to run.
enum Ready<'p> {
    Trace(Box<Prepared<'p>>),
    Cluster(&'p crate::scenario::Scenario),
}

/// What a trial came to, with what it decided.
struct Outcome {
    trial: Trial,
    decisions: Decisions,
}

/// Decisions of a trial, for comparison with another.
enum Decisions {
    Trace(Box<Placed>),
    Cluster(Vec<cluster_trial::Bound>),
}

impl<'p> Ready<'p> {
    fn new(plan: &'p Plan) -> Ready<'p> {
        match plan {
            Plan::Trace(plan) => Ready::Trace(Box::new(Prepared::new(plan))),
            Plan::Cluster(scenario) => Ready::Cluster(scenario),
        }
    }

    fn trial(&self, seed: u64) -> Result<Outcome, CompareError> {
        match self {
            Ready::Trace(prepared) => Ok(trace_trial(prepared, seed)),
            Ready::Cluster(scenario) => cluster_trial::run(scenario, seed),
        }
    }
}

fn trace_trial(prepared: &Prepared<'_>, seed: u64) -> Outcome {
    let mut placement = Placement::new(prepared, seed);
    placement.run();
    let placed = placement.finish();
    let mut digest = Digest::new();
    for ((pod, node), at) in placed.decisions.iter().zip(&placed.times) {
        digest.word(u64::from(*pod));
        digest.word(node.map_or(u64::MAX, |node| node as u64));
        digest.word(at.as_nanos());
    }
    let load = matches!(prepared.plan.arrivals, Arrivals::Load { .. });
    Outcome {
        trial: Trial {
            metrics: metrics::of_placement(&placed, load),
            series: placed.meter.series.clone(),
            waits: if load {
                Vec::new()
            } else {
                metrics::percentiles(&placed.waits)
            },
            digest: format!("{:032x}", digest.finish128()),
        },
        decisions: Decisions::Trace(Box::new(placed)),
    }
}

fn head(experiment: &Experiment) -> Result<TrialsHead, CompareError> {
    let (axis, catalogue, workload) = match &experiment.variants[0].plan {
        Plan::Cluster(scenario) => {
            let nodes: u32 = scenario.cluster.pools.iter().map(|pool| pool.count).sum();
            let length = scenario.duration;
            let words = format!("{nodes} nodes, {}s each", length.as_secs_f64());
            (Axis::None, metrics::of_clusters(), words)
        }
        Plan::Trace(plan) => {
            let pools: u32 = plan.cluster.pools.iter().map(|pool| pool.count).sum();
            let nodes = pools as usize + plan.nodes.len();
            let words = format!("{nodes} nodes, {} pods in the trace", plan.trace.pods.len());
            let load = matches!(plan.arrivals, Arrivals::Load { .. });
            let axis = if load { Axis::Load } else { Axis::Time };
            (axis, metrics::of_traces(load), words)
        }
    };
    let names: Vec<String> = catalogue.iter().map(|m| m.name.clone()).collect();
    for (name, span) in &experiment.report {
        if !names.iter().any(|n| *n == **name) {
            let message = format!("Invalid value: {:?}: unknown metric", name.as_str());
            let wrong = Diagnostic::error("FieldValueInvalid", message, *span).at("spec.report");
            let known = names.iter().map(String::as_str);
            return Err(CompareError::Input(Box::new(wrong.suggest(name, known))));
        }
    }
    let chosen = |name: &str| experiment.report.iter().position(|(n, _)| &**n == name);
    let mut metrics = catalogue;
    if !experiment.report.is_empty() {
        for metric in &mut metrics {
            metric.shown = chosen(&metric.name).is_some();
        }
        metrics.sort_by_key(|metric| chosen(&metric.name).unwrap_or(usize::MAX));
    }
    Ok(TrialsHead {
        version: VERSION,
        experiment: experiment.name.to_string(),
        file: experiment.file.clone(),
        digest: format!("{:032x}", experiment.digest),
        variants: experiment
            .variants
            .iter()
            .map(|v| v.name.to_string())
            .collect(),
        seeds: experiment.seeds.clone(),
        metrics,
        workload,
        axis,
    })
}

#[cfg(test)]
mod tests;
