//! What an audit found: plain rows with names, from which `report` makes the table, the findings and
//! the files.
//!
//! A *subject* is a workload of the audited manifests with the Services that lead to it; a *trial* is
//! one kind of bad day, run once or once for each node or zone. Every subject has an [`Outcome`] in
//! every trial, that of its worst run.

use serde::Serialize;

/// An audit.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    /// What was audited, as given on the command line.
    pub paths: Vec<String>,
    /// `spec.kubernetesVersion`.
    pub kubernetes_version: String,
    /// Seed of every run.
    pub seed: u64,
    /// The cluster in words: `6 nodes (4 CPU, 16Gi) in 3 zones`.
    pub cluster: String,
    /// The load in words.
    pub load: String,
    /// Why the fixes could not be tried; empty when they were, or were not to be.
    pub not_tried: String,
    /// Runs, those with the fixes included.
    pub runs: u32,
    /// Kinds that the model does not act on, with their counts.
    pub not_modelled: Vec<(String, u64)>,
    /// What is not judged, and why.
    pub not_judged: Vec<String>,
    /// The bad days, in the order of the table.
    pub trials: Vec<Trial>,
    /// The workloads, in the order of the manifests.
    pub subjects: Vec<Subject>,
    /// What is wrong, the worst first.
    pub findings: Vec<Finding>,
    /// What would help, in the order of the findings.
    pub fixes: Vec<Fix>,
}

/// A kind of bad day.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trial {
    /// A word: `node-loss`.
    pub name: String,
    /// Over its column: `node loss`.
    pub title: String,
    /// What happens, in a sentence.
    pub what: String,
    /// How many runs.
    pub runs: u32,
}

/// A workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// `Deployment`.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Pods that it wants.
    pub replicas: u32,
    /// The Services that lead to it, by name.
    pub services: Vec<String>,
    /// How it fares, by trial.
    pub outcomes: Vec<Outcome>,
    /// How it fares with the fixes, by trial; empty when there are none.
    pub fixed: Vec<Outcome>,
}

/// How a subject fares in a trial.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// In a word.
    pub grade: Grade,
    /// Which run: `main-2`, `zone a`; empty when there is one.
    pub run: String,
    /// Requests that ended after the bad day began.
    pub ended: u64,
    /// Failed ones among them.
    pub failed: u64,
    /// Failures by cause in words, the most first.
    pub failures: Vec<(String, u64)>,
    /// The longest time without any answer or, without Services, without any pod that could answer, in seconds.
    pub down_s: f64,
    /// Of nine in ten seconds after the bad day began, the 99th percentile was not above this, in
    /// microseconds.
    pub p99_us: u64,
    /// Pods that could answer before the bad day began.
    pub wanted: u32,
    /// The fewest pods that could answer.
    pub least: u32,
    /// Seconds from the beginning of the bad day until all pods were back; `None` when they were not
    /// at the end of the run.
    pub back_s: Option<f64>,
    /// What stopped somebody's work: a drain that a budget held up, pods that cannot be placed.
    pub stuck: String,
    /// The admission webhook because of which its pods could not be created; empty where there is
    /// none.
    pub webhook: String,
}

/// How bad it is, the worst last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// The trial has nothing to do with this subject.
    #[default]
    None,
    /// Nobody noticed.
    Ok,
    /// Answers took much longer.
    Slow,
    /// Fewer pods than wanted, to the end.
    Short,
    /// Some requests failed.
    Failing,
    /// Work was held up for good.
    Stuck,
    /// Nobody answered for a while.
    Down,
}

/// Something wrong with a subject.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Whose.
    pub subject: usize,
    /// In which trials, by number, the worst first.
    pub trials: Vec<usize>,
    /// The worst grade.
    pub grade: Grade,
    /// A word for the rule: `one-replica`.
    pub rule: String,
    /// Why, in a sentence.
    pub why: String,
    /// What to do, in words.
    pub advice: String,
    /// The fix that was tried, by number.
    pub fix: Option<usize>,
    /// Whether nothing in the manifests could prevent it: told, not counted.
    pub inherent: bool,
    /// Whether it is gone with all fixes.
    pub gone: bool,
}

/// A change of the manifests.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fix {
    /// The file that it is written to: `frontend-deployment.yaml`.
    pub file: String,
    /// A new object rather than a patch of one that is there.
    pub new: bool,
    /// The patch (strategic merge) or object.
    pub object: serde_json::Value,
    /// What each part of it does, in words.
    pub does: Vec<String>,
}

impl Audit {
    /// Findings that count: those that manifests can do something about.
    pub fn counted(&self) -> usize {
        self.findings.iter().filter(|f| !f.inherent).count()
    }
}

impl Fix {
    /// What a patch is for, in kustomize's words: without a version, since the manifest may have an
    /// older one than the patch.
    pub fn target(&self) -> serde_json::Value {
        let metadata = &self.object["metadata"];
        let mut target = serde_json::json!({
            "kind": self.object["kind"], "name": metadata["name"]
        });
        if metadata["namespace"] != "default" {
            target["namespace"] = metadata["namespace"].clone();
        }
        target
    }
}

impl Subject {
    /// `deployment/frontend`, as kubectl has it.
    pub fn reference(&self) -> String {
        format!("{}/{}", self.kind.to_lowercase(), self.name)
    }
}
