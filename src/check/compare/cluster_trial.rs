//! A trial that is a run of a whole cluster.

use super::{CompareError, Decisions, Outcome, metrics};
use crate::check::run::{RunError, RunOptions, run as run_scenario};
use crate::record::trials::Trial;
use crate::scenario::{Diagnostic, Scenario};

/// A pod that was bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// Pod, `namespace/name`.
    pub pod: String,
    /// Its node.
    pub node: String,
    /// When, in seconds of the run.
    pub at_s: f64,
}

/// Runs the scenario with this seed.
pub(super) fn run(scenario: &Scenario, seed: u64) -> Result<Outcome, CompareError> {
    let mut scenario = scenario.clone();
    scenario.seed = seed;
    let mut options = RunOptions {
        stop: &mut |_, _| false,
        arguments: Vec::new(),
    };
    let finished = run_scenario(&scenario, &mut options).map_err(|error| match error {
        RunError::Expectation(message) => {
            let wrong = Diagnostic::error("FieldValueInvalid", message, scenario.span);
            CompareError::Input(Box::new(wrong))
        }
        RunError::Input(problem) => CompareError::Input(problem),
        RunError::Host(host) => {
            let message = format!("the host cannot run it: {host}");
            let wrong = Diagnostic::error("Host", message, scenario.span);
            CompareError::Input(Box::new(wrong))
        }
        RunError::Refused(refused) => {
            let row = &refused.object.row;
            let name = row.meta().full_name();
            let message = format!("{} {name} is refused: {}", row.kind().name(), refused.error);
            let wrong = Diagnostic::error("Refused", message, refused.object.span);
            CompareError::Input(Box::new(wrong))
        }
    })?;
    let record = finished.record;
    let begun = record.header.begun.as_secs_f64();
    let bound = record.pods.iter().filter_map(|pod| {
        Some(Bound {
            pod: format!("{}/{}", pod.namespace, pod.name),
            node: pod.node.to_string(),
            at_s: pod.scheduled?.as_secs_f64() - begun,
        })
    });
    let mut bound: Vec<Bound> = bound.collect();
    bound.sort_by(|a, b| (a.at_s.total_cmp(&b.at_s)).then_with(|| a.pod.cmp(&b.pod)));
    Ok(Outcome {
        trial: Trial {
            metrics: metrics::of_run(&record),
            series: Vec::new(),
            waits: metrics::percentiles(&metrics::cluster_waits(&record)),
            digest: record.header.digest,
        },
        decisions: Decisions::Cluster(bound),
    })
}
