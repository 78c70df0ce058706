//! Experiment documents: variants of one base, to be run with the same seeds.
//!
//! ```yaml
//! apiVersion: rehearsal.dev/v1
//! kind: Experiment
//! metadata: {name: packing-vs-balance}
//! spec:
//!   seeds: {from: 1, count: 20}            # or [1, 2, 3]
//!   base:                                  # as `spec` of a Scenario, and `trace`
//!     duration: 24h
//!     cluster: {nodePools: [...]}
//!     trace: {file: traces/pods.csv, scale: 1.0, jitter: 5s}
//!   variants:                              # the first one is what the others are compared with
//!   - name: default
//!   - {name: packed, scheduler: {...}}     # a KubeSchedulerConfiguration
//!   - {name: twice, set: {trace.scale: 2}} # any field of the base
//!   faults:                                # as `spec.timeline` of a Scenario
//!   - {at: 12h, apply: [...]}
//!   report: [pod_wait_seconds.p99]         # the metrics of the terminal's table
//! ```
//!
//! With `trace` the scheduler runs alone, on pods of the trace; without it each trial is a run of
//! the whole cluster. `base: {scenario: FILE}` takes the Scenario of a file instead. A variant is the
//! base with its edits, read like a document of its own, so that an edit may change anything and
//! every problem has its place. `scenario` and `patches` (appended to those of the base) are for
//! whole clusters.

mod edit;

mod on_trace;

mod reader;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::reader::ExperimentReader;
use super::diagnostic::Diagnostic;
use super::fields::Problems;
use super::files::Files;
use super::load::{Rejected, text};
use super::trace::{Trace, TraceNode};
use super::types::{ClusterSpec, Scenario};
use crate::api::Text;
use crate::api::yaml::{Node, Sources, Span};
use crate::fault::Fault;
use crate::sched::SchedulerConfig;

/// An experiment that can run.
#[derive(Debug)]
pub struct Experiment {
    /// `metadata.name`.
    pub name: Text,
    /// The file that it was read from.
    pub file: String,
    /// The seeds, each once.
    pub seeds: Vec<u64>,
    /// What is compared; the first one is the base line.
    pub variants: Vec<Variant>,
    /// `spec.report`, each with its place.
    pub report: Vec<(Text, Span)>,
    /// Digest of the input.
    pub digest: u128,
    /// Names and texts of all files.
    pub sources: Sources,
    /// What is probably not meant.
    pub warnings: Vec<Diagnostic>,
}

/// One of the variants.
#[derive(Debug)]
pub struct Variant {
    /// Name.
    pub name: Text,
    /// What a trial of it runs.
    pub plan: Plan,
}

/// What a trial runs.
#[derive(Debug)]
pub enum Plan {
    /// The scheduler alone, on a trace.
    Trace(TracePlan),
    /// A whole cluster; the seed is the trial's.
    Cluster(Scenario),
}

/// Pods of a trace, and where they may go.
#[derive(Debug)]
pub struct TracePlan {
    /// When the run ends; with the last pod unless given.
    pub duration: Option<Duration>,
    /// `cluster`.
    pub cluster: ClusterSpec,
    /// Nodes of the trace's own list.
    pub nodes: Vec<TraceNode>,
    /// The pods.
    pub trace: Arc<Trace>,
    /// How they arrive.
    pub arrivals: Arrivals,
    /// Which of several best nodes a pod gets.
    pub ties: Ties,
    /// The scheduler's configuration.
    pub scheduler: SchedulerConfig,
    /// What goes wrong when: nodes that lose power.
    pub faults: Vec<(Duration, Fault)>,
}

/// Which of several nodes of the highest score a pod gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ties {
    /// A drawn one, as the real scheduler does it.
    #[default]
    Drawn,
    /// The first in an order of nodes that the seed draws once: what looks alike is filled one after
    /// the other. The simulator of the openb trace breaks ties so (`selectHost` of its copy of
    /// kube-scheduler takes the smallest name, and names begin with a drawn number).
    Ordered,
}

/// How pods of a trace arrive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrivals {
    /// When the trace says.
    Recorded {
        /// How often each pod arrives, on average.
        scale: f64,
        /// Arrivals are moved by up to this much to either side, by the seed.
        jitter: Duration,
    },
    /// One after the other without a clock, and nobody leaves: all pods shuffled by the seed, then
    /// pods drawn with replacement, until this multiple of the cluster's GPUs has been asked for.
    /// Pods that do not fit are turned away.
    Load {
        /// The multiple.
        ratio: f64,
        /// What shuffles and draws.
        generator: Generator,
    },
}

/// What draws the order and the sample of a load, and the order of equal nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generator {
    /// The streams of this project.
    Own,
    /// Go's `math/rand`, seeded with the trial's seed: what published simulators draw.
    Go,
}

/// Further words of the command line.
#[derive(Clone, Debug, Default)]
pub struct ExperimentOptions {
    /// `--traces`: the folder in which traces are looked for, instead of where the file says.
    pub traces: Option<PathBuf>,
    /// `--seeds`: instead of `spec.seeds`.
    pub seeds: Option<Vec<u64>>,
    /// A sweep: a field and its values, each a variant. The file may then be a Scenario.
    pub sweep: Option<(String, Vec<String>)>,
}

/// Reads an experiment.
///
/// # Errors
/// When anything in it is wrong; all problems are reported together.
pub fn load_experiment(path: &Path, options: &ExperimentOptions) -> Result<Experiment, Rejected> {
    let mut files = Files::new();
    let mut problems = Problems::new();
    let experiment = read_file(path, options, &mut files, &mut problems);
    problems.dedup();
    match experiment {
        Some(mut experiment) if !problems.iter().any(Diagnostic::is_error) => {
            experiment.sources = files.sources;
            experiment.warnings = problems;
            Ok(experiment)
        }
        _ => Err(Rejected {
            diagnostics: problems,
            sources: files.sources,
        }),
    }
}

fn read_file(
    path: &Path,
    options: &ExperimentOptions,
    files: &mut Files,
    problems: &mut Problems,
) -> Option<Experiment> {
    let documents = match files.documents(path, Span::NONE) {
        Ok(documents) => documents,
        Err(problem) => {
            problems.push(*problem);
            return None;
        }
    };
    let own = |kind: &str| {
        let mut heads = documents.iter().filter(|d| text(d, "kind") == kind);
        (heads.next(), heads.next())
    };
    let rest = |head: &Node| -> Vec<Node> {
        let others = documents.iter().filter(|d| d.span != head.span);
        others.cloned().collect()
    };
    let mut reader = ExperimentReader {
        options,
        base: path.parent().unwrap_or(Path::new("")).to_owned(),
        path,
        rest: Vec::new(),
        traces: BTreeMap::new(),
        files,
        problems,
    };
    match (own("Experiment"), own("Scenario")) {
        ((Some(_), Some(second)), _) => {
            let message = "a second Experiment in one file";
            let wrong = Diagnostic::error("BadRequest", message, second.span);
            problems.push(wrong);
            None
        }
        ((Some(head), None), _) => {
            reader.rest = rest(head);
            reader.experiment(head)
        }
        (_, (Some(head), _)) if options.sweep.is_some() => {
            reader.rest = rest(head);
            reader.sweep_of_scenario(head)
        }
        _ => {
            let message = format!("{} holds no Experiment", path.display());
            let span = documents.first().map_or(Span::NONE, |d| d.span);
            problems.push(Diagnostic::error("NotFound", message, span));
            None
        }
    }
}

#[cfg(test)]
mod tests;
