//! What a recording says of its pods, for the stand-ins that follow it.
//!
//! Pods of a StatefulSet have the names of those before them: what is said of a name is told apart
//! by how often a pod of that name was there.

use std::collections::BTreeMap;

use rehearsal::api::Pod;
use rehearsal::store::Id;
use serde_json::Value;

/// A request was answered within this time; a pod that was marked before that was not its victim.
const ANSWER_S: f64 = 0.3;

/// What is recorded of one pod.
#[derive(Clone, Copy, Debug, Default)]
pub struct OfPod<'a> {
    /// Where it was bound.
    pub node: Option<&'a str>,
    /// When it was bound.
    pub bound_s: Option<f64>,
    /// When it ran.
    pub ran_s: Option<f64>,
    /// When it was marked as deleted.
    pub marked_s: Option<f64>,
    /// How many were bound before it.
    pub nth: Option<u32>,
}

/// All that the stand-ins look up.
#[derive(Debug, Default)]
pub struct Recorded<'a> {
    pods: BTreeMap<&'a str, Vec<OfPod<'a>>>,
    /// The pods of this run: by name, how many there were, and what is recorded of each.
    seen: BTreeMap<String, usize>,
    here: BTreeMap<Id<Pod>, OfPod<'a>>,
    /// What is recorded of each step.
    steps: Vec<Step<'a>>,
}

/// What is recorded of a step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Step<'a> {
    /// The pod that it was about; empty when there was none.
    pub pod: &'a str,
    /// Whether that was being deleted then.
    pub leaving: bool,
}

impl<'a> Recorded<'a> {
    /// Reads a recording.
    pub fn of(lines: &'a [Value]) -> Recorded<'a> {
        let mut all = Recorded::default();
        let mut bound = 0;
        for line in lines {
            if line[1] == "Step" {
                let pod = line[4].as_str().unwrap_or_default();
                let known = all.pods.get(pod).and_then(|pods| pods.last());
                all.steps.push(Step {
                    pod,
                    leaving: known
                        .and_then(|pod| pod.marked_s)
                        .is_some_and(|at_s| line[0].as_f64().unwrap_or(at_s) - at_s > ANSWER_S),
                });
            }
            let Some(name) = line[2].as_str().filter(|_| line[1] == "Pod") else {
                continue;
            };
            let pods = all.pods.entry(name).or_default();
            if line[3] == "created" || pods.is_empty() {
                pods.push(OfPod::default());
            }
            let pod = pods.last_mut().expect("one was pushed");
            if line[3] == "bound" {
                pod.node = line[4].as_str();
                pod.bound_s = line[0].as_f64();
                pod.nth = Some(bound);
                bound += 1;
            } else if line[4] == "Running" {
                pod.ran_s = line[0].as_f64();
            }
            if line[3] == "terminating" {
                pod.marked_s = line[0].as_f64();
            }
        }
        all
    }

    /// Notes a pod of this run.
    pub fn created(&mut self, id: Id<Pod>, name: &str) {
        let before = self.seen.entry(name.to_owned()).or_default();
        let recorded = self.pods.get(name).and_then(|pods| pods.get(*before));
        self.here.insert(id, recorded.copied().unwrap_or_default());
        *before += 1;
    }

    /// What the recording says of this pod.
    pub fn of_pod(&self, id: Id<Pod>) -> OfPod<'a> {
        self.here.get(&id).copied().unwrap_or_default()
    }

    /// What the recording says of a step.
    pub fn step(&self, step: usize) -> Step<'a> {
        self.steps.get(step).copied().unwrap_or_default()
    }
}

/// What the recording's clock showed at the beginning, in seconds since the Unix epoch: a CronJob's
/// Job is created about a tenth of a second after the time that its status names, unless it was
/// missed then.
pub fn epoch(recorded: &[Value], phase_ms: u64) -> i64 {
    let starts = recorded.iter().filter(|l| l[1] == "CronJob");
    let begin = starts.filter_map(|l| {
        let last = l[4]["last"].as_str()?.parse::<jiff::Timestamp>().ok()?;
        let since = l[0].as_f64()? - 0.12 + phase_ms as f64 / 1000.0;
        Some(last.as_second() - since.round() as i64)
    });
    begin.max().unwrap_or(0)
}
