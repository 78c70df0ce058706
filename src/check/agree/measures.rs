//! What is measured: times between milestones, and what requests met.
//!
//! A time counts from the milestone before it, so that one slow start does not show in everything
//! after it. The median of the real runs counts against the simulated value.

use std::collections::BTreeMap;
use std::time::Duration;

use super::names::Names;
use crate::engine::Time;
use crate::record::agreement::{Agreement, AgreementPoint, AgreementRow, Verdict};
use crate::record::{NodeMarkKind, PodLife, RunRecord, TrafficRecord};

/// Times agree within this part of the simulated value…
const PART: f64 = 0.10;
/// … or within this many seconds, whatever is more.
const SECONDS: f64 = 0.050;
/// Latencies agree within this part (the host's scheduler is not simulated) …
const LATENCY_PART: f64 = 0.25;
/// … or within this many milliseconds.
const LATENCY_MS: f64 = 5.0;
/// Shares of requests agree within this part of what was sent, besides the noise of counting.
const SHARE: f64 = 0.005;

type Times = BTreeMap<String, f64>;

/// A number of a Traffic.
type Number = fn(&TrafficRecord) -> u64;

/// Compares the times between milestones; pods of one workload as their median.
pub fn times(simulated: &RunRecord, real: &[RunRecord], agreement: &mut Agreement) {
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
            tolerance: "10 % or 50 ms".to_owned(),
            verdict: verdict((median - mine).abs(), tolerated),
        });
        agreement.times.push(AgreementPoint {
            what: what.clone(),
            simulated_s: *mine,
            real_s: values,
        });
    }
}

fn absent(group: &str, what: &str, simulated: String) -> AgreementRow {
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

fn verdict(apart: f64, tolerated: f64) -> Verdict {
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
fn spread(values: &[f64]) -> Option<(f64, f64, f64)> {
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
    let ready = marks
        .clone()
        .find(|m| m.what == NodeMarkKind::Ready && m.at > unknown.at);
    put(
        "NotReady to Ready",
        between(Some(unknown.at), ready.map(|m| m.at)),
    );
}

/// Compares what users met: sent, failed by cause and by phase, latencies of what was answered.
pub fn requests(simulated: &RunRecord, real: &[RunRecord], rows: &mut Vec<AgreementRow>) {
    for ours in simulated.traffic.iter().filter(|t| !t.internal) {
        let same = |run: &&RunRecord| {
            run.traffic
                .iter()
                .any(|t| t.name == ours.name && !t.internal)
        };
        let runs: Vec<&RunRecord> = real.iter().filter(same).collect();
        let find = |run: &RunRecord| {
            run.traffic
                .iter()
                .find(|t| t.name == ours.name && !t.internal)
                .cloned()
        };
        let theirs: Vec<TrafficRecord> = runs.iter().filter_map(|run| find(run)).collect();
        if theirs.is_empty() {
            rows.push(absent(
                "requests",
                &format!("{}: sent", ours.name),
                ours.sent.to_string(),
            ));
            continue;
        }
        let name = &ours.name;
        let count = |of: fn(&TrafficRecord) -> u64| -> Vec<f64> {
            theirs.iter().map(|t| of(t) as f64).collect()
        };
        rows.extend(counted(
            &format!("{name}: sent"),
            ours.sent,
            &count(|t| t.sent),
            ours.sent,
        ));
        rows.extend(counted(
            &format!("{name}: failed"),
            ours.failed,
            &count(|t| t.failed),
            ours.sent,
        ));
        let ours_by_phase = phases(simulated, ours);
        let theirs_by_phase: Vec<_> = runs
            .iter()
            .zip(&theirs)
            .map(|(r, t)| phases(r, t))
            .collect();
        for (phase, (sent, failed)) in &ours_by_phase {
            let values: Vec<f64> = (theirs_by_phase.iter())
                .map(|p| p.get(phase).map_or(0.0, |(_, failed)| *failed as f64))
                .collect();
            rows.extend(counted(
                &format!("{name}: failed {phase}"),
                *failed,
                &values,
                *sent,
            ));
        }
        let latency: [(&str, Number); 2] = [("p50", |t| t.p50_us), ("p90", |t| t.p90_us)];
        for (what, of) in latency {
            let values: Vec<f64> = theirs.iter().map(|t| of(t) as f64 / 1000.0).collect();
            rows.extend(latencies(
                &format!("{name}: {what}"),
                of(ours) as f64 / 1000.0,
                &values,
            ));
        }
    }
}

/// Requests sent and failed in each phase: from one step or fault to the next.
fn phases(record: &RunRecord, traffic: &TrafficRecord) -> BTreeMap<String, (u64, u64)> {
    let begun = record.header.begun;
    let mut starts: Vec<(Duration, String)> = vec![(Duration::ZERO, "at first".to_owned())];
    let steps = record.steps.iter().filter(|s| s.result.is_none());
    starts.extend(steps.map(|s| (s.at.since(begun), format!("after step {}", s.step + 1))));
    starts.sort();
    starts.dedup_by_key(|(at, _)| *at);
    let mut found = BTreeMap::new();
    for second in &traffic.seconds {
        let at = second.at();
        let since = if at < begun {
            Duration::ZERO
        } else {
            at.since(begun)
        };
        let phase = starts.iter().rev().find(|(from, _)| *from <= since);
        let name = phase.map_or("at first", |(_, name)| name).to_owned();
        let entry: &mut (u64, u64) = found.entry(name).or_default();
        entry.0 += u64::from(second.sent);
        entry.1 += second.failures();
    }
    found
}

/// A count of `ours` among `sent`: within half a percent of what was sent, or four standard
/// deviations of a count.
fn counted(what: &str, ours: u64, values: &[f64], sent: u64) -> Option<AgreementRow> {
    let (median, least, most) = spread(values)?;
    let ours_f = ours as f64;
    let noise = 4.0 * ours_f.max(1.0).sqrt();
    let tolerated = (sent as f64 * SHARE).max(noise);
    Some(AgreementRow {
        group: "requests".to_owned(),
        what: what.to_owned(),
        simulated: ours.to_string(),
        real: format!("{median:.0}"),
        spread: format!("{least:.0} to {most:.0}"),
        tolerance: format!("±{tolerated:.0}"),
        verdict: verdict((median - ours_f).abs(), tolerated),
    })
}

fn latencies(what: &str, ours: f64, values: &[f64]) -> Option<AgreementRow> {
    let (median, least, most) = spread(values)?;
    Some(AgreementRow {
        group: "requests".to_owned(),
        what: what.to_owned(),
        simulated: format!("{ours:.1}ms"),
        real: format!("{median:.1}ms"),
        spread: format!("{least:.1} to {most:.1}ms"),
        tolerance: "25 % or 5 ms".to_owned(),
        verdict: verdict((median - ours).abs(), (ours * LATENCY_PART).max(LATENCY_MS)),
    })
}
