//! `nodes.jsonl`: nodes and zones that stop answering, recorded from a real control plane.
//!
//! The same stand-ins as for `controllers.jsonl`, with kubelets that can be switched off
//! (`controllers/machines`). Tolerated:
//! - times differ by up to six seconds: the controller looks every five, and nothing says when its
//!   first look was;
//! - states of a node that last for less than five seconds, the time from one look to the next: the
//!   two kinds of taints are written by workers that race;
//! - which node of a zone comes first: upstream looks at eight at a time. So a zone's nodes are
//!   compared together, and so are an owner's pods;
//! - counts and conditions are compared where nothing was recorded for twelve seconds, else as in
//!   `controllers.jsonl`.

use std::collections::{BTreeMap, BTreeSet};

use rehearsal::api::Kind;
use serde_json::{Value, json};

use super::controllers::story::{self, Difference, Differences, Tolerance, owner, text, time};
use super::controllers::world;
use super::support::{Case, Vectors};

/// How the file is compared.
pub const VECTORS: Vectors = Vectors {
    name: "nodes",
    id: Some("id"),
    fields: &["family", "id", "scenario", "log"],
    families: &["node"],
    family,
    compare,
};

const TOLERANCE: Tolerance = Tolerance {
    early_s: 6.0,
    late_s: 6.0,
    quiet_s: 12.0,
};
/// Shorter states of a node are on the way to another one.
const SETTLED_S: f64 = 5.0;

fn family(case: &Case) -> String {
    case.text("family").unwrap_or_default().to_owned()
}

fn compare(case: &Case) -> Result<(), String> {
    let log = case.fields.get("log").and_then(Value::as_array);
    let log = log.ok_or("the case has no log")?;
    let scenario = case.fields.get("scenario").ok_or("there is no scenario")?;
    let got = prepared(&world::replay(scenario, log, 0, (0, 0))?);
    let expected = prepared(log);
    let mut all = Differences {
        tolerance: TOLERANCE,
        found: story::differences(&expected, &got, TOLERANCE),
    };
    by_subject(
        &nodes(scenario, &expected),
        &nodes(scenario, &got),
        &mut all,
    );
    by_subject(&pods(&expected), &pods(&got), &mut all);
    events(&expected, &got, &mut all);
    all.found.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    match all.found.first() {
        Some(first) => Err(first.to_string()),
        None => Ok(()),
    }
}

/// Names the pods of a StatefulSet like those of others, `db.5`, so that they count together, leaves
/// the nodes to [`nodes`], and leaves out what controllers said that do not exist here.
fn prepared(lines: &[Value]) -> Vec<Value> {
    let rename = |name: &str| match name.rsplit_once('-') {
        Some((set, nth)) if nth.parse::<u32>().is_ok() => Some(format!("{set}.{nth}")),
        _ => None,
    };
    let known = |line: &&Value| {
        let kind = text(&line[2]).split_once('/').map(|(kind, _)| kind);
        line[1] != "Event" || kind.is_none_or(|kind| Kind::from_name(kind).is_some())
    };
    let mut lines: Vec<Value> = lines.iter().filter(known).cloned().collect();
    for line in &mut lines {
        let name = text(&line[2]).to_owned();
        let bare = name.strip_prefix("Pod/").unwrap_or(&name);
        if let Some(new) = rename(bare).filter(|_| line[1] == "Pod" || name.starts_with("Pod/")) {
            let before = &name[..name.len() - bare.len()];
            line[2] = json!(format!("{before}{new}"));
        }
        if line[1] == "Node" {
            line[1] = json!("Machine");
        }
    }
    lines
}

type Said = BTreeMap<String, Vec<(f64, String)>>;

fn by_subject(expected: &Said, got: &Said, all: &mut Differences) {
    let subjects: BTreeSet<&String> = expected.keys().chain(got.keys()).collect();
    for subject in subjects {
        let none = Vec::new();
        let want = expected.get(subject).unwrap_or(&none);
        let have = got.get(subject).unwrap_or(&none);
        story::sequence(subject, want, have, all);
    }
}

/// What became of the nodes of each zone: Ready's status and reason, and the taints.
fn nodes(scenario: &Value, lines: &[Value]) -> Said {
    let mut states: BTreeMap<&str, Vec<(f64, String)>> = BTreeMap::new();
    for line in lines.iter().filter(|l| l[1] == "Machine" && l[3] == "is") {
        let said = format!("{} {} {}", line[4], line[5], line[6]);
        states
            .entry(text(&line[2]))
            .or_default()
            .push((time(line), said));
    }
    let mut zones = Said::new();
    for (node, states) in states {
        let nth: usize = node.trim_start_matches('n').parse().unwrap_or(usize::MAX);
        let zone = format!("nodes of zone {}", text(&scenario["zones"][nth]));
        let zone = zones.entry(zone).or_default();
        let mut from = f64::NEG_INFINITY;
        for (i, (at_s, said)) in states.iter().enumerate() {
            // The time of a state is that of the first of those that led to it.
            if from == f64::NEG_INFINITY {
                from = *at_s;
            }
            let until = states.get(i + 1).map_or(f64::INFINITY, |next| next.0);
            if until - at_s >= SETTLED_S && from > 0.0 {
                zone.push((from, said.clone()));
            }
            if until - at_s >= SETTLED_S {
                from = f64::NEG_INFINITY;
            }
        }
    }
    for zone in zones.values_mut() {
        zone.sort_by(|a, b| a.0.total_cmp(&b.0));
        // Those of one decision come in any order.
        for burst in zone.chunk_by_mut(|a, b| b.0 - a.0 < SETTLED_S) {
            let mut said: Vec<String> = burst.iter().map(|b| b.1.clone()).collect();
            said.sort();
            burst.iter_mut().zip(said).for_each(|(b, said)| b.1 = said);
        }
    }
    zones
}

/// When pods of each owner stopped being ready.
fn pods(lines: &[Value]) -> Said {
    let mut ready: BTreeSet<&str> = BTreeSet::new();
    let mut all = Said::new();
    for line in lines.iter().filter(|l| l[1] == "Pod" && l[3] == "ready") {
        let pod = text(&line[2]);
        if line[4] == "True" {
            ready.insert(pod);
        } else if ready.remove(pod) {
            let subject = format!("pods of {} not ready", owner(pod));
            all.entry(subject)
                .or_default()
                .push((time(line), String::new()));
        }
    }
    all
}

/// What the node and taint controllers said about pods, as often as they did.
fn events(expected: &[Value], got: &[Value], all: &mut Differences) {
    let (expected, got) = (told(expected), told(got));
    let keys: BTreeSet<&String> = expected.keys().chain(got.keys()).collect();
    for key in keys {
        let count = |of: &BTreeMap<String, (f64, usize)>| of.get(key).map_or(0, |e| e.1);
        if count(&expected) != count(&got) {
            let at_s = expected.get(key).or(got.get(key)).map_or(0.0, |e| e.0);
            let (want, have) = (count(&expected), count(&got));
            let what = format!("event {key}: expected {want}, got {have}");
            all.found.push(Difference { at_s, what });
        }
    }
}

fn told(lines: &[Value]) -> BTreeMap<String, (f64, usize)> {
    let mut all = BTreeMap::new();
    let ours = ["NodeNotReady", "TaintManagerEviction"];
    for line in lines.iter().filter(|l| l[1] == "Event") {
        if let Some(pod) = text(&line[2]).strip_prefix("Pod/")
            && ours.contains(&text(&line[3]))
        {
            // "Marking for deletion Pod ns/web-A.6"
            let message = text(&line[5]);
            let words = message.split(" Pod ").next().unwrap_or_default();
            let key = format!("{} {} {words}", owner(pod), text(&line[3]));
            all.entry(key).or_insert((time(line), 0)).1 += 1;
        }
    }
    all
}
