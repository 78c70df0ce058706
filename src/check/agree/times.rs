//! Times between milestones.
//!
//! A time counts from the milestone before it, so that one slow start does not show in everything
//! after it. The median of the real runs counts against the simulated value. Pods of one workload
//! count as their median, and so do the changes of one Service's endpoints.

use std::collections::BTreeMap;

use super::names::Names;
use crate::engine::Time;
use crate::record::agreement::{Agreement, AgreementPoint, AgreementRow, Verdict};
use crate::record::{NodeMarkKind, PodLife, RunRecord};

/// Times agree within this part of the simulated value…
const PART: f64 = 0.10;
/// … or within this many seconds, whatever is more.
const SECONDS: f64 = 0.050;

/// The two in words.
const TOLERANCE: &str = "10 % or 50 ms";
/// A change that takes longer to reach a node found it cut off or without power.
const CUT_OFF: f64 = 5.0;

type Times = BTreeMap<String, f64>;

/// Compares the times between milestones.
pub fn compare(simulated: &RunRecord, real: &[RunRecord], agreement: &mut Agreement) {
    let ours = spans(simulated);
    let theirs: Vec<Times> = real.iter().map(spans).collect();
    for (what, mine) in &ours {
        let values: Vec<f64> = theirs.iter().filter_map(|t| t.get(what).copied()).collect();
        let Some((median, least, most)) = spread(&values) else {
            agreement.rows.push(absent("times", what, seconds(*mine)));
            continue;
        };
        let tolerated = (mine * PART).max(SECONDS);
        agreement.rows.push(AgreementRow {
            group: "times".to_owned(),
            what: what.clone(),
            simulated: seconds(*mine),
            real: seconds(median),
            spread: format!("{} to {}", seconds(least), seconds(most)),
            tolerance: TOLERANCE.to_owned(),
            verdict: verdict((median - mine).abs(), tolerated),
        });
        agreement.times.push(AgreementPoint {
            what: what.clone(),
            simulated_s: *mine,
            real_s: values,
            tolerated_s: tolerated,
        });
    }
}

/// A row of what no real run has.
pub(super) fn absent(group: &str, what: &str, simulated: String) -> AgreementRow {
    AgreementRow {
        group: group.to_owned(),
        what: what.to_owned(),
        simulated,
        real: "never".to_owned(),
        spread: String::new(),
        tolerance: String::new(),
        verdict: Verdict::Differs,
    }
}

/// What a difference means.
pub(super) fn verdict(apart: f64, tolerated: f64) -> Verdict {
    if apart == 0.0 {
        Verdict::Equal
    } else if apart <= tolerated {
        Verdict::Within
    } else {
        Verdict::Differs
    }
}

/// `1.204s`.
fn seconds(value: f64) -> String {
    format!("{value:.3}s")
}

/// Median, least and most.
pub(super) fn spread(values: &[f64]) -> Option<(f64, f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (first, last) = (sorted.first()?, sorted.last()?);
    let middle = sorted.len() / 2;
    let median = if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    };
    Some((median, *first, *last))
}

fn between(from: Option<Time>, to: Option<Time>) -> Option<f64> {
    let (from, to) = (from?, to?);
    (to >= from).then(|| to.since(from).as_secs_f64())
}

/// The spans of a run by what they are; several of one kind become their median.
fn spans(record: &RunRecord) -> Times {
    let mut found: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let names = Names::new(record);
    let begun = record.header.begun;
    for pod in record.pods.iter().filter(|pod| pod.created >= begun) {
        let workload = owner(pod, &names);
        let mut put = |what: &str, value: Option<f64>| {
            if let Some(value) = value {
                found
                    .entry(format!("{workload}: {what}"))
                    .or_default()
                    .push(value);
            }
        };
        put(
            "created to scheduled",
            between(Some(pod.created), pod.scheduled),
        );
        put("scheduled to started", between(pod.scheduled, pod.started));
        put("started to ready", between(pod.started, pod.ready));
    }
    for pod in &record.pods {
        let ended = between(pod.terminating.filter(|at| *at >= begun), pod.gone);
        if let Some(value) = ended {
            let what = format!("{}: deleted to gone", owner(pod, &names));
            found.entry(what).or_default().push(value);
        }
    }
    for fault in record.faults.iter().filter(|f| !f.healed) {
        for node in &fault.nodes {
            after_loss(record, node, fault.at, &mut found);
        }
    }
    programming(record, &mut found);
    let medians = found.into_iter();
    medians
        .filter_map(|(what, values)| Some((what, spread(&values)?.0)))
        .collect()
}

fn owner(pod: &PodLife, names: &Names) -> String {
    match pod.owner.split_once('/') {
        Some((_, owner)) => format!("pods of {}/{owner}", pod.namespace),
        None => format!("pod {}", names.pod(&pod.namespace, &pod.name)),
    }
}

/// From the loss of a node to NotReady, to its pods' eviction, to their replacements.
fn after_loss(record: &RunRecord, node: &str, at: Time, found: &mut BTreeMap<String, Vec<f64>>) {
    let marks = record
        .nodes
        .iter()
        .filter(|m| m.at >= at && *m.node == *node);
    let unknown = marks.clone().find(|m| m.what == NodeMarkKind::Unknown);
    let Some(unknown) = unknown else {
        return;
    };
    let mut put = |what: &str, value: Option<f64>| {
        if let Some(value) = value {
            found
                .entry(format!("node {node}: {what}"))
                .or_default()
                .push(value);
        }
    };
    put(
        "last lease to NotReady",
        between(unknown.last_lease, Some(unknown.at)),
    );
    let evicted = record.pods.iter().filter(|p| *p.node == *node);
    let evicted = evicted
        .filter_map(|p| p.terminating)
        .filter(|t| *t >= unknown.at)
        .min();
    put("NotReady to eviction", between(Some(unknown.at), evicted));
    let mut spans = Vec::new();
    replacements(record, node, unknown.at, &mut |span| spans.push(span));
    for span in spans {
        put("eviction to replacement ready", Some(span));
    }
    let ready = marks
        .clone()
        .find(|m| m.what == NodeMarkKind::Ready && m.at > unknown.at);
    put(
        "NotReady to Ready",
        between(Some(unknown.at), ready.map(|m| m.at)),
    );
}

/// From the eviction of each of a lost node's pods until as many younger ones of its owner are
/// ready.
fn replacements(record: &RunRecord, node: &str, unknown: Time, put: &mut dyn FnMut(f64)) {
    let evicted = record.pods.iter().filter(|p| *p.node == *node);
    let mut replaced = BTreeMap::<_, usize>::new();
    for pod in evicted {
        let Some(at) = pod.terminating.filter(|at| *at >= unknown) else {
            continue;
        };
        let nth = replaced.entry((&pod.namespace, &pod.owner)).or_default();
        let young = record.pods.iter().filter(|p| p.created >= at);
        let young = young.filter(|p| (&p.namespace, &p.owner) == (&pod.namespace, &pod.owner));
        let mut ready: Vec<Time> = young.filter_map(|p| p.ready).collect();
        ready.sort();
        if let Some(ready) = ready.get(*nth) {
            put(ready.since(at).as_secs_f64());
        }
        *nth += 1;
    }
}

/// From each change of a Service's endpoints until the proxies have it in force.
fn programming(record: &RunRecord, found: &mut BTreeMap<String, Vec<f64>>) {
    let mut nodes: BTreeMap<&str, Vec<(u64, Time)>> = BTreeMap::new();
    for sync in &record.programmed {
        let syncs = nodes.entry(&sync.node).or_default();
        syncs.push((sync.revision, sync.at));
    }
    for (service, points) in &record.endpoints {
        for point in points.iter().filter(|p| p.at >= record.header.begun) {
            for (node, syncs) in &nodes {
                let mut later = syncs.iter().filter(|(_, at)| *at >= point.at);
                let sync = later.find(|(revision, _)| *revision >= point.revision);
                let Some(span) = between(Some(point.at), sync.map(|s| s.1)) else {
                    continue;
                };
                let place = if *node == "edge" {
                    "at the edge"
                } else {
                    "on nodes"
                };
                if span < CUT_OFF {
                    let what = format!("endpoints of {service}: changed to programmed {place}");
                    found.entry(what).or_default().push(span);
                }
            }
        }
    }
}
