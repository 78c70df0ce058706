//! The bad days: a cluster that has room for the manifests, what happens on it, and all of it as the
//! text of a scenario that `rehearsal run` reads as well.
//!
//! Nodes come in one size, in three zones, so many that the pods' requests fill half of them: what is
//! left after the loss of a zone has room for everything. Every Service gets a steady load of
//! [`RATE`] requests a second for each pod behind it, and a pod is taken to need half of the CPU that
//! it asks for to answer them; twice the load then needs all of it.

use std::time::Duration;

use serde_json::{Value, json};

use super::survey::{Survey, Workload};
use crate::record::audit::{Fix, Trial};

/// Requests a second for each pod behind a Service.
pub const RATE: u32 = 10;

/// The most requests a second that one Service gets.
const RATE_MAX: u32 = 200;

/// When the bad day begins.
pub const BEGIN: Duration = Duration::from_secs(120);

/// The most nodes of which each is lost in a run of its own, and drained.
const NODES_TRIED: u32 = 12;

/// From one drained node to the next.
const DRAIN_EVERY: u64 = 150;

/// An image that no registry has.
const BROKEN: &str = "registry.invalid/audit/no-such-image:none";

const ZONES: [&str; 3] = ["a", "b", "c"];

/// Sizes that nodes come in: cores and GiB.
const SIZES: [(u32, u32); 6] = [(2, 8), (4, 16), (8, 32), (16, 64), (32, 128), (64, 256)];

/// The machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machines {
    /// How many.
    pub count: u32,
    /// Cores of each.
    pub cores: u32,
    /// GiB of each.
    pub gib: u32,
}

impl Machines {
    /// The machines that these workloads need, where the caller does not say how many.
    pub fn fitting(survey: &Survey, count: Option<u32>) -> Machines {
        let pods = survey.workloads.iter();
        let (mut cpu, mut memory) = (0i64, 0i64);
        let (mut most_cpu, mut most_memory) = (0, 0);
        for workload in pods {
            let (of_pod, bytes) = workload.asks();
            most_cpu = most_cpu.max(of_pod);
            most_memory = most_memory.max(bytes);
            cpu += of_pod * i64::from(workload.replicas);
            memory += bytes * i64::from(workload.replicas);
        }
        // A quarter of a node for the largest pod leaves room beside it, a surge included.
        let fits = |(cores, gib): &(u32, u32)| {
            most_cpu * 4 <= i64::from(*cores) * 1_000 && most_memory * 4 <= i64::from(*gib) << 30
        };
        let (cores, gib) = *SIZES.iter().find(|size| fits(size)).unwrap_or(&SIZES[5]);
        let nodes = |all: i64, of_node: i64| (2 * all + of_node - 1) / of_node;
        let by_cpu = nodes(cpu, i64::from(cores) * 1_000);
        let by_memory = nodes(memory, i64::from(gib) << 30);
        let needed = u32::try_from(by_cpu.max(by_memory)).unwrap_or(u32::MAX);
        let count = count.unwrap_or_else(|| needed.max(6).div_ceil(3) * 3);
        Machines { count, cores, gib }
    }

    /// In words: `6 nodes (4 CPU, 16Gi) in 3 zones`.
    pub fn words(&self) -> String {
        let Machines { count, cores, gib } = self;
        let zones = self.zones();
        let (s, z) = (plural(*count), plural(zones));
        format!("{count} node{s} ({cores} CPU, {gib}Gi) in {zones} zone{z}")
    }

    fn zones(&self) -> u32 {
        self.count.min(3)
    }

    fn tried(&self) -> u32 {
        self.count.min(NODES_TRIED)
    }
}

fn plural(n: u32) -> &'static str {
    if n == 1 { "" } else { "s" }
}

/// One run.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Which trial, by number.
    pub trial: usize,
    /// And by name.
    pub name: &'static str,
    /// What it hits: `node-2`, `zone a`; empty when there is one.
    pub target: String,
    /// The steps.
    timeline: Vec<Value>,
    /// How long it takes.
    duration: Duration,
    /// Twice the load from [`BEGIN`] on.
    pub double: bool,
}

impl Run {
    /// One in which nothing happens: to read the manifests.
    pub fn idle() -> Run {
        Run {
            duration: BEGIN,
            ..Run::default()
        }
    }
}

/// Names, headings and sentences of the trials.
pub const TRIALS: [(&str, &str, &str); 8] = [
    ("calm", "calm", "nothing happens"),
    (
        "drain",
        "drain",
        "each node in turn is drained and comes back",
    ),
    (
        "rollout",
        "rollout",
        "everything is restarted by `kubectl rollout restart`",
    ),
    ("node-loss", "node loss", "a node loses power for good"),
    (
        "zone-loss",
        "zone loss",
        "all nodes of a zone lose power for good",
    ),
    (
        "bad-image",
        "bad image",
        "everything is set to an image that does not exist",
    ),
    (
        "api-outage",
        "API outage",
        "no API server listens for five minutes",
    ),
    ("double-load", "2x load", "twice as many requests"),
];

/// The trials and their runs; `only` names those that are wanted, all when it is empty. The calm run
/// is always among them: the others are compared with it.
pub fn plan(survey: &Survey, machines: &Machines, only: &[String]) -> (Vec<Trial>, Vec<Run>) {
    let mut trials = Vec::new();
    let mut runs = Vec::new();
    for (name, title, what) in TRIALS {
        if name != "calm" && !only.is_empty() && !only.iter().any(|word| word == name) {
            continue;
        }
        let of_trial = runs_of(name, trials.len(), survey, machines);
        trials.push(Trial {
            name: name.into(),
            title: title.into(),
            what: what.into(),
            runs: u32::try_from(of_trial.len()).unwrap_or(u32::MAX),
        });
        runs.extend(of_trial);
    }
    (trials, runs)
}

fn runs_of(name: &'static str, trial: usize, survey: &Survey, machines: &Machines) -> Vec<Run> {
    let minutes = |n: u64| BEGIN + Duration::from_secs(60 * n);
    let run = |target: String, timeline: Vec<Value>, duration: Duration| Run {
        trial,
        name,
        target,
        timeline,
        duration,
        double: name == "double-load",
    };
    let one = |timeline, duration| vec![run(String::new(), timeline, duration)];
    match name {
        "drain" => {
            let all = Duration::from_secs(DRAIN_EVERY * u64::from(machines.tried()));
            one(drains(machines), BEGIN + all + Duration::from_secs(60))
        }
        "rollout" => one(each_rolls(survey, restart), minutes(8)),
        "bad-image" => one(each_rolls(survey, break_image), minutes(6)),
        "node-loss" => (0..machines.tried())
            .map(|node| {
                let name = format!("node-{node}");
                let lost = power_off("lost-node", json!({"name": name}));
                run(name, vec![lost], minutes(10))
            })
            .collect(),
        "zone-loss" => (ZONES[..machines.zones() as usize].iter())
            .map(|zone| {
                let lost = power_off("lost-zone", json!({"zone": zone}));
                run(format!("zone {zone}"), vec![lost], minutes(10))
            })
            .collect(),
        "api-outage" => one(vec![outage()], minutes(8)),
        "double-load" => one(Vec::new(), minutes(8)),
        _ => one(Vec::new(), minutes(3)),
    }
}

fn seconds(span: Duration) -> String {
    crate::api::duration::short(span)
}

/// A kubectl line that may fail: what becomes of the workloads is judged, not the line.
fn kubectl(at: Duration, line: String) -> Value {
    json!({"at": seconds(at), "kubectl": line, "optional": true})
}

/// Each node is drained, and comes back before the next one.
fn drains(machines: &Machines) -> Vec<Value> {
    let mut timeline = Vec::new();
    for node in 0..u64::from(machines.tried()) {
        let at = BEGIN + Duration::from_secs(DRAIN_EVERY * node);
        let flags = "--ignore-daemonsets --delete-emptydir-data --force --timeout=2m";
        timeline.push(kubectl(at, format!("drain node-{node} {flags}")));
        let after = at + Duration::from_secs(DRAIN_EVERY - 20);
        timeline.push(kubectl(after, format!("uncordon node-{node}")));
    }
    timeline
}

fn restart(workload: &Workload) -> Value {
    let line = format!(
        "rollout restart {} -n {}",
        reference(workload),
        workload.namespace
    );
    kubectl(BEGIN, line)
}

fn break_image(workload: &Workload) -> Value {
    let container = workload.containers().next().map(|c| &c["name"]);
    let container = container.and_then(Value::as_str).unwrap_or_default();
    let line = format!(
        "set image {} {container}={BROKEN} -n {}",
        reference(workload),
        workload.namespace
    );
    kubectl(BEGIN, line)
}

fn outage() -> Value {
    json!({"at": seconds(BEGIN), "apply": [{
        "apiVersion": "rehearsal.dev/v1", "kind": "ControlPlaneChaos",
        "metadata": {"name": "api-outage"},
        "spec": {"action": "outage", "duration": "5m"}
    }]})
}

fn reference(workload: &Workload) -> String {
    format!("{}/{}", workload.kind.to_lowercase(), workload.name)
}

/// A step for everything that has a rollout.
fn each_rolls(survey: &Survey, step: impl Fn(&Workload) -> Value) -> Vec<Value> {
    let rolls = |w: &&Workload| matches!(w.kind, "Deployment" | "StatefulSet" | "DaemonSet");
    survey.workloads.iter().filter(rolls).map(step).collect()
}

fn power_off(name: &str, selector: Value) -> Value {
    json!({"at": seconds(BEGIN), "apply": [{
        "apiVersion": "rehearsal.dev/v1", "kind": "NodeChaos",
        "metadata": {"name": name},
        "spec": {"action": "power-off", "mode": "all", "selector": selector}
    }]})
}

/// What all runs share.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    /// What the manifests hold.
    pub survey: &'a Survey,
    /// The cluster.
    pub machines: Machines,
    /// `spec.kubernetesVersion`.
    pub version: &'a str,
    /// `spec.seed`.
    pub seed: u64,
    /// `spec.resources`, as seen from the scenario's file.
    pub resources: Vec<String>,
}

impl Frame<'_> {
    /// A run as the text of a scenario, with these changes of the manifests.
    pub fn text(&self, trial: &Trial, run: &Run, fixes: &[Fix]) -> String {
        let mut name = format!("audit-{}", trial.name);
        if !run.target.is_empty() {
            name += &format!("-{}", run.target.replace(' ', "-"));
        }
        let patches = fixes.iter().filter(|fix| !fix.new).map(|fix| {
            let patch = crate::api::yaml::write(&fix.object).unwrap_or_default();
            json!({"target": fix.target(), "patch": patch})
        });
        let patches: Vec<Value> = patches.collect();
        let Machines { count, cores, gib } = self.machines;
        let zones = &ZONES[..self.machines.zones() as usize];
        let mut spec = json!({
            "kubernetesVersion": self.version,
            "seed": self.seed,
            "duration": seconds(run.duration),
            "cluster": {
                "nodePools": [{
                    "name": "node", "count": count, "zones": zones,
                    "capacity": {"cpu": cores.to_string(), "memory": format!("{gib}Gi"), "pods": "110"}
                }],
                "storageClasses": self.classes(),
                "missingImages": ["registry.invalid/*"]
            },
            "resources": self.resources,
            "timeline": run.timeline
        });
        if !patches.is_empty() {
            spec["patches"] = patches.into();
        }
        let mut documents = vec![json!({
            "apiVersion": "rehearsal.dev/v1", "kind": "Scenario",
            "metadata": {"name": name}, "spec": spec
        })];
        documents.extend(self.apps());
        documents.extend(self.traffic(run));
        documents.extend(
            fixes
                .iter()
                .filter(|fix| fix.new)
                .map(|fix| fix.object.clone()),
        );
        let texts: Vec<String> = documents
            .iter()
            .map(|document| crate::api::yaml::write(document).unwrap_or_default())
            .collect();
        let what = &trial.what;
        let target = if run.target.is_empty() {
            String::new()
        } else {
            format!(" ({})", run.target)
        };
        format!(
            "# {}{target}: {what}.\n{}",
            trial.title,
            texts.join("---\n")
        )
    }

    fn classes(&self) -> Vec<Value> {
        let class = |name: &str, default: bool| {
            json!({
                "name": name, "default": default, "zonal": true,
                "volumeBindingMode": "WaitForFirstConsumer", "attach": "8s", "detach": "5s"
            })
        };
        let named = self
            .survey
            .classes
            .iter()
            .filter(|name| *name != "standard");
        std::iter::once(class("standard", true))
            .chain(named.map(|name| class(name, false)))
            .collect()
    }

    /// How the pods behave that nobody described.
    fn apps(&self) -> impl Iterator<Item = Value> {
        let plain = self
            .survey
            .workloads
            .iter()
            .filter(|w| !w.modelled && !w.services.is_empty());
        plain.map(|workload| {
            let (milli, _) = workload.asks();
            let pods = f64::from(workload.replicas.max(1));
            let of_pod = f64::from(rate(workload)) * workload.services.len() as f64 / pods;
            // Half of what it asks for; the mean of a log-normal whose 99th percentile is five
            // times its median is 1.27 times the median.
            let mean_us = milli as f64 * 1_000.0 / 2.0 / of_pod.max(0.1);
            let p50 = (mean_us / 1.27).clamp(50.0, 200_000.0) as u64;
            let selector = match workload.kind {
                "Pod" => json!({"matchLabels": workload.json["metadata"]["labels"]}),
                _ => workload.json["spec"]["selector"].clone(),
            };
            json!({
                "apiVersion": "rehearsal.dev/v1", "kind": "AppModel",
                "metadata": {
                    "name": format!("{}-{}", workload.kind.to_lowercase(), workload.name),
                    "namespace": workload.namespace
                },
                "spec": {
                    "selector": selector,
                    "request": {"cpu": {"lognormal": {"p50": format!("{p50}us"), "p99": format!("{}us", 5 * p50)}}}
                }
            })
        })
    }

    /// The load of every Service, where the manifests bring none of their own.
    fn traffic(&self, run: &Run) -> Vec<Value> {
        if self.survey.own_traffic {
            return Vec::new();
        }
        let mut seen = std::collections::BTreeSet::new();
        let mut all = Vec::new();
        for workload in &self.survey.workloads {
            for (service, port) in &workload.services {
                if !seen.insert((&workload.namespace, service)) {
                    continue;
                }
                let rate = rate(workload);
                let after = if run.double { 2 * rate } else { rate };
                let rest = run.duration.saturating_sub(BEGIN);
                all.push(json!({
                    "apiVersion": "rehearsal.dev/v1", "kind": "Traffic",
                    "metadata": {"name": traffic_name(&workload.namespace, service), "namespace": workload.namespace},
                    "spec": {
                        "to": format!("service/{service}:{port}"),
                        "executor": "ramping-arrival-rate",
                        "stages": [
                            {"duration": "1m", "target": rate},
                            {"duration": seconds(BEGIN - Duration::from_secs(60)), "target": rate},
                            {"duration": "0s", "target": after},
                            {"duration": seconds(rest), "target": after}
                        ],
                        "client": {"connections": 20, "keepAlive": true, "timeout": "2s", "retries": 0}
                    }
                }));
            }
        }
        all
    }
}

/// The name of a Service's load.
pub fn traffic_name(namespace: &str, service: &str) -> String {
    format!("{namespace}-{service}")
}

fn rate(workload: &Workload) -> u32 {
    (RATE * workload.replicas.max(1)).min(RATE_MAX)
}
