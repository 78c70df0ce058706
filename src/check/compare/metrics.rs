//! What is measured, and what each measure means.

use std::collections::BTreeMap;

use super::placement::Placed;
use crate::engine::Time;
use crate::record::trials::{Better, Metric, Unit};
use crate::record::{PodLife, RunRecord};

type Row = (&'static str, Unit, Better, bool, &'static str);

/// Metrics of the scheduler alone, on a trace with times.
const TRACE: &[Row] = &[
    (
        "pods_scheduled_ratio",
        Unit::Share,
        Better::Higher,
        true,
        "pods that were placed at least once, of all that arrived",
    ),
    (
        "pods_unscheduled",
        Unit::Count,
        Better::Lower,
        false,
        "pods that were never placed",
    ),
    (
        "pod_wait_seconds.mean",
        Unit::Seconds,
        Better::Lower,
        false,
        "from arrival to the first placement, mean over pods; pods never placed count until the end",
    ),
    (
        "pod_wait_seconds.p50",
        Unit::Seconds,
        Better::Lower,
        false,
        "median of the waiting times",
    ),
    (
        "pod_wait_seconds.p90",
        Unit::Seconds,
        Better::Lower,
        false,
        "90th percentile of the waiting times",
    ),
    (
        "pod_wait_seconds.p99",
        Unit::Seconds,
        Better::Lower,
        true,
        "99th percentile of the waiting times",
    ),
    (
        "pod_wait_seconds.max",
        Unit::Seconds,
        Better::Lower,
        false,
        "the longest waiting time",
    ),
    (
        "gpu_allocation",
        Unit::Share,
        Better::Higher,
        true,
        "GPU capacity in use, of all; mean over the run's time, at its end when pods arrive by load",
    ),
    (
        "cpu_allocation",
        Unit::Share,
        Better::Higher,
        false,
        "CPU requested by placed pods, of all; likewise",
    ),
    (
        "memory_allocation",
        Unit::Share,
        Better::Higher,
        false,
        "memory requested by placed pods, of all; likewise",
    ),
    (
        "node_cpu_allocation.stddev",
        Unit::Number,
        Better::Neither,
        true,
        "standard deviation over nodes of their allocated share of CPU; likewise",
    ),
    (
        "node_memory_allocation.stddev",
        Unit::Number,
        Better::Neither,
        false,
        "standard deviation over nodes of their allocated share of memory; likewise",
    ),
    (
        "gpu_fragmentation",
        Unit::Share,
        Better::Lower,
        true,
        "idle GPU capacity that a pod drawn from the typical workload could not use, of all idle GPU \
      capacity; likewise",
    ),
    (
        "gpus_fragmented",
        Unit::Number,
        Better::Lower,
        false,
        "the same in devices; likewise",
    ),
    (
        "nodes_empty",
        Unit::Count,
        Better::Neither,
        false,
        "nodes without pods; likewise",
    ),
    (
        "preemptions",
        Unit::Count,
        Better::Lower,
        false,
        "pods that were displaced by pods of higher priority",
    ),
    (
        "evictions",
        Unit::Count,
        Better::Lower,
        false,
        "pods that were given up with their node",
    ),
];

/// Metrics of whole clusters.
const CLUSTER: &[Row] = &[
    (
        "checks_failed",
        Unit::Count,
        Better::Lower,
        true,
        "expectations and thresholds that did not hold",
    ),
    (
        "http_req_failed",
        Unit::Share,
        Better::Lower,
        true,
        "requests of all Traffics that failed, of all that ended",
    ),
    (
        "http_req_duration.p50",
        Unit::Seconds,
        Better::Lower,
        false,
        "median latency; the worst Traffic",
    ),
    (
        "http_req_duration.p90",
        Unit::Seconds,
        Better::Lower,
        false,
        "90th percentile of latency; the worst Traffic",
    ),
    (
        "http_req_duration.p99",
        Unit::Seconds,
        Better::Lower,
        true,
        "99th percentile of latency; the worst Traffic",
    ),
    (
        "pods_scheduled_ratio",
        Unit::Share,
        Better::Higher,
        false,
        "pods that were bound to a node, of all created",
    ),
    (
        "pod_wait_seconds.mean",
        Unit::Seconds,
        Better::Lower,
        false,
        "from creation to binding, mean over pods; pods never bound count until they go or the end",
    ),
    (
        "pod_wait_seconds.p99",
        Unit::Seconds,
        Better::Lower,
        true,
        "99th percentile of the same",
    ),
    (
        "pod_wait_seconds.max",
        Unit::Seconds,
        Better::Lower,
        false,
        "the longest of the same",
    ),
    (
        "nodes_used",
        Unit::Number,
        Better::Lower,
        true,
        "nodes that pods were bound to, mean over the run's time",
    ),
    (
        "pod_restarts",
        Unit::Count,
        Better::Lower,
        false,
        "restarts of containers",
    ),
    (
        "preemptions",
        Unit::Count,
        Better::Lower,
        false,
        "pods that were displaced by pods of higher priority",
    ),
];

fn list(rows: &[Row]) -> Vec<Metric> {
    let metric = |(name, unit, better, shown, meaning): &Row| Metric {
        name: (*name).to_owned(),
        unit: *unit,
        better: *better,
        meaning: (*meaning).to_owned(),
        shown: *shown,
    };
    rows.iter().map(metric).collect()
}

/// The metrics of a trace; by load nobody waits.
pub fn of_traces(load: bool) -> Vec<Metric> {
    let mut metrics = list(TRACE);
    metrics.retain(|metric| !load || !metric.name.starts_with("pod_wait"));
    metrics
}

/// The metrics of whole clusters.
pub fn of_clusters() -> Vec<Metric> {
    list(CLUSTER)
}

/// The 0th, 1st … 100th percentile, by the nearest rank.
pub fn percentiles(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    if sorted.is_empty() {
        return Vec::new();
    }
    (0..=100).map(|percent| rank(&sorted, percent)).collect()
}

/// The smallest value that so many percent do not exceed.
fn rank(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted[rank - 1]
}

fn waits(values: &[f64], metrics: &mut BTreeMap<String, f64>) {
    if values.is_empty() {
        return;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mean = sorted.iter().sum::<f64>() / sorted.len() as f64;
    for (name, value) in [
        ("mean", mean),
        ("p50", rank(&sorted, 50)),
        ("p90", rank(&sorted, 90)),
        ("p99", rank(&sorted, 99)),
        ("max", rank(&sorted, 100)),
    ] {
        metrics.insert(format!("pod_wait_seconds.{name}"), value);
    }
}

/// The metrics of a trial over a trace.
pub fn of_placement(placed: &Placed, load: bool) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    let arrived = placed.waits.len() as f64;
    let reading = match load {
        true => placed.meter.reading(),
        false => placed.meter.mean(),
    };
    let mut put = |name: &str, value: f64| metrics.insert(name.to_owned(), value);
    if arrived > 0.0 {
        put(
            "pods_scheduled_ratio",
            1.0 - placed.unplaced as f64 / arrived,
        );
    }
    put("pods_unscheduled", placed.unplaced as f64);
    put("cpu_allocation", reading.cpu);
    put("memory_allocation", reading.memory);
    put("node_cpu_allocation.stddev", reading.cpu_spread);
    put("node_memory_allocation.stddev", reading.memory_spread);
    if placed.meter.gpus() > 0 {
        put("gpu_allocation", reading.gpu);
        put("gpu_fragmentation", reading.fragmented);
        put("gpus_fragmented", reading.fragmented_gpus);
    }
    put("nodes_empty", reading.empty);
    put("preemptions", placed.preemptions as f64);
    put("evictions", placed.evictions as f64);
    if !load {
        waits(&placed.waits, &mut metrics);
    }
    metrics
}

/// How long each pod of a run waited for its node, in seconds.
pub fn cluster_waits(run: &RunRecord) -> Vec<f64> {
    let end = run.header.begun + run.header.simulated;
    let waited = |pod: &PodLife| {
        let until = pod.scheduled.or(pod.gone).unwrap_or(end);
        until.since(pod.created).as_secs_f64()
    };
    run.pods.iter().map(waited).collect()
}

/// The mean number of nodes that held pods, from the beginning of the run to its end.
fn nodes_used(run: &RunRecord) -> f64 {
    let begun = run.header.begun;
    let end = begun + run.header.simulated;
    let mut held: BTreeMap<&str, Vec<(Time, Time)>> = BTreeMap::new();
    for pod in &run.pods {
        if let Some(scheduled) = pod.scheduled {
            let until = pod.gone.unwrap_or(end).min(end);
            let spans = held.entry(pod.node.as_str()).or_default();
            spans.push((scheduled.max(begun), until));
        }
    }
    let mut seconds = 0.0;
    for spans in held.values_mut() {
        spans.sort_unstable();
        let mut covered = begun;
        for (from, until) in spans {
            let from = covered.max(*from);
            if *until > from {
                seconds += until.since(from).as_secs_f64();
                covered = *until;
            }
        }
    }
    let length = run.header.simulated.as_secs_f64();
    if length > 0.0 { seconds / length } else { 0.0 }
}

/// The metrics of a run of a whole cluster.
pub fn of_run(run: &RunRecord) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    let mut put = |name: &str, value: f64| metrics.insert(name.to_owned(), value);
    let failed = run.checks.iter().filter(|check| !check.passed).count();
    put("checks_failed", failed as f64);
    let users = || run.traffic.iter().filter(|t| !t.internal);
    let sum = |of: fn(&crate::record::TrafficRecord) -> u64| users().map(of).sum::<u64>() as f64;
    let ended = sum(|t| t.ok) + sum(|t| t.failed);
    if ended > 0.0 {
        put("http_req_failed", sum(|t| t.failed) / ended);
        let worst = |of: fn(&crate::record::TrafficRecord) -> u64| {
            users().map(of).max().unwrap_or(0) as f64 / 1e6
        };
        put("http_req_duration.p50", worst(|t| t.p50_us));
        put("http_req_duration.p90", worst(|t| t.p90_us));
        put("http_req_duration.p99", worst(|t| t.p99_us));
    }
    if !run.pods.is_empty() {
        let bound = run
            .pods
            .iter()
            .filter(|pod| pod.scheduled.is_some())
            .count();
        put("pods_scheduled_ratio", bound as f64 / run.pods.len() as f64);
    }
    put("nodes_used", nodes_used(run));
    let restarts: u32 = run.pods.iter().map(|pod| pod.restarts).sum();
    put("pod_restarts", f64::from(restarts));
    let preempted = run
        .events
        .iter()
        .filter(|event| event.reason == "Preempted");
    put("preemptions", preempted.count() as f64);
    waits(&cluster_waits(run), &mut metrics);
    let known = of_clusters();
    metrics.retain(|name, _| known.iter().any(|metric| metric.name == *name));
    metrics
}
