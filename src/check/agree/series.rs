//! Both sides on one axis of time: what users met, endpoints, replicas.

use std::collections::BTreeMap;

use crate::engine::Time;
use crate::record::RunRecord;
use crate::record::agreement::{Agreement, AgreementMark, AgreementSeries};

type Line = Vec<(f64, f64)>;

/// Seconds of the run's own time.
fn own(run: &RunRecord, at: Time) -> f64 {
    at.as_secs_f64() - run.header.begun.as_secs_f64()
}

/// Failed requests of all Traffics by second.
fn failed(run: &RunRecord) -> Line {
    let mut seconds: BTreeMap<i64, f64> = BTreeMap::new();
    let traffics = run.traffic.iter().filter(|t| !t.internal);
    for second in traffics.flat_map(|t| &t.seconds) {
        let at = libm::floor(own(run, second.at())) as i64;
        *seconds.entry(at).or_default() += second.failures() as f64;
    }
    let seconds = seconds.into_iter().filter(|(at, _)| *at >= 0);
    seconds.map(|(at, n)| (at as f64, n)).collect()
}

/// A step line from its first value in the run's own time on.
fn held(run: &RunRecord, points: impl Iterator<Item = (Time, f64)>) -> Line {
    let mut line = Line::new();
    for (at, value) in points {
        let at = own(run, at);
        if at < 0.0 {
            line.clear();
        }
        line.push((at.max(0.0), value));
    }
    line
}

fn endpoints(run: &RunRecord, service: &str) -> Line {
    let points = run.endpoints.get(service).into_iter().flatten();
    held(run, points.map(|p| (p.at, f64::from(p.ready))))
}

fn ready(run: &RunRecord, deployment: &str) -> Line {
    let points = run.replicas.get(deployment).into_iter().flatten();
    held(run, points.map(|p| (p.at, f64::from(p.ready))))
}

/// The Service or Deployment of which most happened.
fn liveliest<T>(of: &BTreeMap<String, Vec<T>>) -> Option<&str> {
    let most = of.iter().max_by_key(|(_, points)| points.len());
    most.map(|(name, _)| name.as_str())
}

/// Fills in what the picture shows.
pub fn fill(simulated: &RunRecord, real: &[RunRecord], agreement: &mut Agreement) {
    agreement.seconds = simulated.header.simulated.as_secs_f64();
    let mut add = |what: String, holds, of: &dyn Fn(&RunRecord) -> Line| {
        let series = AgreementSeries {
            what,
            holds,
            simulated: of(simulated),
            real: real.iter().map(of).collect(),
        };
        if !series.simulated.is_empty() {
            agreement.series.push(series);
        }
    };
    if simulated.traffic.iter().any(|t| !t.internal) {
        add("failed requests per second".to_owned(), false, &failed);
    }
    if let Some(service) = liveliest(&simulated.endpoints) {
        let what = format!("ready endpoints of {service}");
        add(what, true, &|run| endpoints(run, service));
    } else if let Some(deployment) = liveliest(&simulated.replicas) {
        let what = format!("ready replicas of {deployment}");
        add(what, true, &|run| ready(run, deployment));
    }
    let begun = simulated.header.begun;
    let mut mark = |at: Time, what: String| {
        let at_s = own(simulated, at);
        agreement.marks.push(AgreementMark { at_s, what });
    };
    for step in &simulated.steps {
        // What applies a fault is marked as the fault.
        let fault = simulated.faults.iter().any(|f| f.at == step.at);
        if step.result.is_none() && !fault {
            let words: Vec<&str> = step.text.split_whitespace().take(2).collect();
            mark(step.at, words.join(" "));
        }
    }
    for fault in simulated.faults.iter().filter(|f| f.at >= begun) {
        let ends = if fault.healed { " ends" } else { "" };
        mark(fault.at, format!("{}{ends}", fault.action));
    }
    for node in simulated.nodes.iter().filter(|n| n.at >= begun) {
        let unknown = node.what == crate::record::NodeMarkKind::Unknown;
        if unknown || node.what == crate::record::NodeMarkKind::Ready {
            let word = if unknown { "NotReady" } else { "Ready" };
            mark(node.at, format!("{} {word}", node.node));
        }
    }
    agreement.marks.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
}
