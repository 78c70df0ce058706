//! What a run leaves behind: milestones, causes, series, KubeEvents, outcomes of requests.
//!
//! A [`Recorder`] is fed from streams that exist anyway: the store's change log, the faults and steps
//! that the composition root carries out, and the tallies of the data plane. Components never call
//! it. At the end it becomes a [`RunRecord`]: plain rows with names, from which `report` writes the
//! results folder and the story.
//!
//! Read first: [`Recorder::on_change`], then [`milestones`] and [`causes`].

pub mod agreement;

pub mod audit;

pub mod milestones;

pub mod causes;

pub mod series;

pub mod revisions;

pub mod requests;

pub mod trials;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::api::{Kind, Text};
use crate::engine::Time;
use crate::store::{Change, Origin};

pub use causes::{CauseEntry, Causes, EntryId, What};
pub use milestones::{Milestones, NodeMark, NodeMarkKind, PodLife};
pub use requests::{FailureGroup, TrafficRecord, TrafficSecond};
pub use series::{EndpointPoint, ReplicaPoint, ScaleStep, Series, SpecChange};

/// A KubeEvent as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRow {
    /// When it was reported.
    pub at: Time,
    /// Kind of the object that it is about.
    pub kind: Text,
    /// Namespace of that object.
    pub namespace: Text,
    /// Name of that object.
    pub name: Text,
    /// Reason.
    pub reason: Text,
    /// Message.
    pub message: Text,
    /// `Warning` or `Normal`.
    pub level: Text,
    /// Reporting component.
    pub source: Text,
}

/// A node's proxy has put everything into force that it had heard of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointsProgrammed {
    /// When the rules were in force.
    pub at: Time,
    /// The node, or `edge`.
    pub node: Text,
    /// The newest revision that they are of.
    pub revision: u64,
}

/// A fault that began or ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultNote {
    /// When.
    pub at: Time,
    /// Name of the fault.
    pub name: Text,
    /// What it does, in a word: `power-off`.
    pub action: Text,
    /// Nodes that it hits.
    pub nodes: Vec<Text>,
    /// Pods that it hits, `namespace/name`.
    pub pods: Vec<Text>,
    /// Whether it ends now (else it begins).
    pub healed: bool,
    /// How many candidates there were.
    pub candidates: usize,
    /// Components of the control plane that it hits.
    pub components: Vec<Text>,
    /// More about it, in words: which requests, with what.
    pub detail: String,
}

/// A component of the control plane did something that is seldom seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentNote {
    /// When.
    pub at: Time,
    /// Which: `kube-scheduler`.
    pub component: Text,
    /// What, in words.
    pub what: String,
    /// Whether that is trouble.
    pub bad: bool,
}

/// A step of the timeline that began or ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepNote {
    /// When.
    pub at: Time,
    /// Which step.
    pub step: u32,
    /// The command line or what was applied.
    pub text: String,
    /// `None` when it begins, its output or error when it ends.
    pub result: Option<Result<String, String>>,
}

/// How an expectation or threshold came out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckRow {
    /// Name.
    pub name: String,
    /// `wait`, `always`, `eventually`, `never`, `threshold`, `invariant`, `step`.
    pub kind: String,
    /// Whether it holds.
    pub passed: bool,
    /// When it was decided or came true, in seconds of the run or of its own clock.
    pub at_s: Option<f64>,
    /// The same moment in seconds of the run.
    pub run_s: Option<f64>,
    /// The measured value in words.
    pub detail: String,
    /// The run was interrupted before it was decided: it neither holds nor fails.
    pub open: bool,
}

impl CheckRow {
    /// Whether it was decided that it does not hold.
    pub fn failed(&self) -> bool {
        !self.passed && !self.open
    }

    /// `PASS`, `FAIL`, or `OPEN` for what was not decided.
    pub fn word(&self) -> &'static str {
        match (self.passed, self.open) {
            (true, _) => "PASS",
            (false, false) => "FAIL",
            (false, true) => "OPEN",
        }
    }
}

/// How many checks of a run hold, in words; `None` when it has none.
pub fn verdict(checks: &[CheckRow]) -> Option<String> {
    let all = checks.len();
    let failed = checks.iter().filter(|c| c.failed()).count();
    let open = checks.iter().filter(|c| c.open).count();
    let word = if all == 1 { "check" } else { "checks" };
    let undecided = format!("{open} of {all} {word} not decided");
    match (all, failed, open) {
        (0, _, _) => None,
        (_, 0, 0) => Some(format!("{all} {word} passed")),
        (_, 0, _) => Some(undecided),
        (_, _, 0) => Some(format!("{failed} of {all} {word} failed")),
        _ => Some(format!(
            "{failed} of {all} {word} failed, {open} not decided"
        )),
    }
}

/// Records one run.
#[derive(Debug, Default)]
pub struct Recorder {
    /// Milestones of pods and nodes.
    pub milestones: Milestones,
    /// Significant changes and what led to them.
    pub causes: Causes,
    /// Ready replicas, endpoints, scale steps over time.
    pub series: Series,
    events: Vec<EventRow>,
    faults: Vec<FaultNote>,
    steps: Vec<StepNote>,
    components: Vec<ComponentNote>,
    changes: u64,
}

impl Recorder {
    /// An empty record.
    pub fn new() -> Self {
        Recorder::default()
    }

    /// A change was committed.
    pub fn on_change(&mut self, change: &Change) {
        self.changes += 1;
        if let Some(event) = &change.event {
            self.events.push(EventRow {
                at: change.time,
                kind: Text::literal(event.kind.name()),
                namespace: event.namespace.clone(),
                name: event.name.clone(),
                reason: event.reason.clone(),
                message: event.message.clone(),
                level: Text::literal(if event.warning { "Warning" } else { "Normal" }),
                source: event.source.clone(),
            });
        }
        let whats = match change.kind() {
            Kind::Pod => {
                self.series.on_pod(change);
                self.milestones.on_pod(change)
            }
            Kind::Node => self.milestones.on_node(change),
            Kind::Lease => {
                self.milestones.on_lease(change);
                Vec::new()
            }
            Kind::ReplicaSet
            | Kind::Deployment
            | Kind::EndpointSlice
            | Kind::StatefulSet
            | Kind::DaemonSet
            | Kind::ControllerRevision => self.series.on_change(change),
            _ => Vec::new(),
        };
        self.causes.on_change(change, whats);
    }

    /// A fault begins or ends.
    pub fn on_fault(&mut self, note: FaultNote) {
        self.causes.on_fault(&note);
        self.faults.push(note);
    }

    /// A component of the control plane ends, leads, or starts.
    pub fn on_component(&mut self, note: ComponentNote) {
        self.components.push(note);
    }

    /// A timeline step begins or ends.
    pub fn on_step(&mut self, note: StepNote) {
        if note.result.is_none() {
            self.causes.on_step(&note);
        }
        self.steps.push(note);
    }

    /// Changes seen so far.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The end of the run.
    pub fn finish(self, header: Header, traffic: Vec<TrafficRecord>) -> RunRecord {
        RunRecord {
            header,
            pods: self.milestones.pods(),
            nodes: self.milestones.nodes(),
            replicas: self.series.replicas(),
            endpoints: self.series.endpoints(),
            programmed: Vec::new(),
            rollouts: self.series.rollouts(),
            specs: self.series.specs(),
            causes: self.causes.into_entries(),
            events: self.events,
            faults: self.faults,
            steps: self.steps,
            components: self.components,
            traffic,
            checks: Vec::new(),
        }
    }
}

/// What run this is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Name of the scenario.
    pub scenario: String,
    /// The file as given on the command line.
    pub file: String,
    /// Seed.
    pub seed: u64,
    /// `sim` or `linux`.
    pub backend: String,
    /// `spec.kubernetesVersion`.
    pub kubernetes_version: String,
    /// Digest of everything that happened, in hex.
    pub digest: String,
    /// When the run's own time began, after the cluster had come up: reports count from here, and
    /// print what happened before it as negative seconds.
    pub begun: Time,
    /// How long was simulated from then on.
    pub simulated: Duration,
    /// Events dispatched.
    pub events: u64,
    /// Nodes.
    pub nodes: u32,
    /// Deployments and other workloads.
    pub workloads: u32,
    /// Whether the run was stopped before its end.
    pub interrupted: bool,
    /// Kinds that the model does not act on, with their counts.
    pub not_modelled: Vec<(String, u64)>,
    /// Warnings about the input, already located.
    pub warnings: Vec<Warning>,
    /// Guarantees that were lost (real backend).
    pub degraded: Vec<String>,
    /// Further arguments that the replay line needs (`--resources DIR`).
    pub arguments: Vec<String>,
}

/// A located warning about the input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// File.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// Text.
    pub message: String,
}

/// Everything that a report can be made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// What run this is.
    pub header: Header,
    /// Every pod that ever was.
    pub pods: Vec<PodLife>,
    /// Node timeline.
    pub nodes: Vec<NodeMark>,
    /// Replicas over time by Deployment (`namespace/name`).
    pub replicas: BTreeMap<String, Vec<ReplicaPoint>>,
    /// Endpoints over time by Service (`namespace/name`).
    pub endpoints: BTreeMap<String, Vec<EndpointPoint>>,
    /// When proxies had programmed what; of the first nodes only, in large clusters.
    pub programmed: Vec<EndpointsProgrammed>,
    /// Scale steps of ReplicaSets.
    pub rollouts: Vec<ScaleStep>,
    /// Desired states of Deployments.
    pub specs: Vec<SpecChange>,
    /// Significant changes with what led to them.
    pub causes: Vec<CauseEntry>,
    /// KubeEvents.
    pub events: Vec<EventRow>,
    /// Faults.
    pub faults: Vec<FaultNote>,
    /// What components of the control plane did.
    pub components: Vec<ComponentNote>,
    /// Timeline steps.
    pub steps: Vec<StepNote>,
    /// Requests.
    pub traffic: Vec<TrafficRecord>,
    /// Checks, filled in by the checker.
    pub checks: Vec<CheckRow>,
}

/// Who wrote something, in words.
pub fn origin_name(origin: Origin) -> String {
    match origin {
        Origin::Scenario => "kubectl".to_owned(),
        Origin::Controller(name) => name.to_owned(),
        Origin::Scheduler => "scheduler".to_owned(),
        Origin::Kubelet(node) => format!("kubelet #{node}"),
        Origin::Server => "api-server".to_owned(),
    }
}
