//! What must be equal: decisions in each object's order, ends, restarts, reasons.

use std::collections::{BTreeMap, BTreeSet};

use super::names::Names;
use crate::record::agreement::{AgreementRow, Verdict};
use crate::record::{NodeMarkKind, RunRecord, What};

/// Something found in a run: by thing, its value in words.
type Found = BTreeMap<String, String>;

/// A way to look at a run.
type Look = fn(&RunRecord) -> Found;

/// Compares everything that must be equal.
pub fn compare(simulated: &RunRecord, real: &[RunRecord], rows: &mut Vec<AgreementRow>) {
    let views: [(&str, Look); 5] = [
        ("decisions", histories),
        ("state", ends),
        ("restarts", restarts),
        ("exits", exits),
        ("events", reasons),
    ];
    for (group, view) in views {
        let ours = view(simulated);
        let theirs: Vec<Found> = real.iter().map(view).collect();
        rows.extend(differences(group, &ours, &theirs));
    }
}

/// One row for all that is equal, and one for each thing that is not.
fn differences(group: &str, ours: &Found, theirs: &[Found]) -> Vec<AgreementRow> {
    let things: BTreeSet<&String> = ours
        .keys()
        .chain(theirs.iter().flat_map(|t| t.keys()))
        .collect();
    let mut rows = Vec::new();
    let mut equal = 0;
    for thing in &things {
        let mine = ours.get(*thing);
        let other = theirs.iter().find(|their| their.get(*thing) != mine);
        let Some(other) = other else {
            equal += 1;
            continue;
        };
        let count = theirs
            .iter()
            .filter(|their| their.get(*thing) != mine)
            .count();
        let (mine, yours) = first_difference(mine, other.get(*thing));
        rows.push(AgreementRow {
            group: group.to_owned(),
            what: (*thing).clone(),
            simulated: mine,
            real: yours,
            spread: format!("{count} of {} runs", theirs.len()),
            tolerance: "equal".to_owned(),
            verdict: Verdict::Differs,
        });
    }
    let all = things.len();
    rows.insert(
        0,
        AgreementRow {
            group: group.to_owned(),
            what: summary(group).to_owned(),
            simulated: all.to_string(),
            real: equal.to_string(),
            spread: String::new(),
            tolerance: "equal".to_owned(),
            verdict: if equal == all {
                Verdict::Equal
            } else {
                Verdict::Differs
            },
        },
    );
    rows
}

fn summary(group: &str) -> &'static str {
    match group {
        "decisions" => "objects with the same history",
        "state" => "workloads and Services that end the same",
        "restarts" => "workloads with the same restarts",
        "exits" => "workloads whose containers ended alike",
        _ => "objects with the same KubeEvents",
    }
}

/// The parts from the first on in which two sequences differ.
fn first_difference(mine: Option<&String>, yours: Option<&String>) -> (String, String) {
    let none = || "nothing".to_owned();
    let (Some(mine), Some(yours)) = (mine, yours) else {
        return (
            mine.cloned().unwrap_or_else(none),
            yours.cloned().unwrap_or_else(none),
        );
    };
    let (a, b): (Vec<&str>, Vec<&str>) = (mine.split(", ").collect(), yours.split(", ").collect());
    let same = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let rest = |parts: &[&str]| match parts.get(same..same + 1) {
        Some([next]) if same > 0 => format!("… {next}"),
        Some([next]) => (*next).to_owned(),
        _ => "… ends".to_owned(),
    };
    (rest(&a), rest(&b))
}

/// Each object's own history, without times. Readiness and start are outcomes and not decisions,
/// and endpoints of one instant may be written together: those are compared as times.
fn histories(record: &RunRecord) -> Found {
    let names = Names::new(record);
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in record.causes.iter().filter(|e| e.at >= record.header.begun) {
        let decision = match &entry.what {
            What::PodCreated
            | What::PodBound(_)
            | What::PodTerminating(_)
            | What::PodGone
            | What::PodFailed(_)
            | What::Restarted { .. }
            | What::DesiredChanged(_)
            | What::Progress(_)
            | What::Scaled { .. } => entry.what.text(record.header.begun),
            What::Node(NodeMarkKind::Tainted(taint), _) => format!("tainted {taint}"),
            What::Node(NodeMarkKind::Unknown, _) => "Ready=Unknown".to_owned(),
            What::Node(NodeMarkKind::Ready, _) => "Ready=True".to_owned(),
            _ => continue,
        };
        let object = names.object(&entry.kind, &entry.namespace, &entry.name);
        found.entry(object).or_default().push(decision);
    }
    joined(found)
}

fn joined(found: BTreeMap<String, Vec<String>>) -> Found {
    found
        .into_iter()
        .map(|(thing, parts)| (thing, parts.join(", ")))
        .collect()
}

/// How each workload and Service ends.
fn ends(record: &RunRecord) -> Found {
    let mut found = Found::new();
    for (name, points) in &record.replicas {
        if let Some(last) = points.last() {
            let text = format!(
                "{} wanted, {} there, {} ready, {} new",
                last.want, last.replicas, last.ready, last.updated
            );
            found.insert(format!("Deployment {name}"), text);
        }
    }
    for (name, points) in &record.endpoints {
        if let Some(last) = points.last() {
            found.insert(
                format!("Service {name}"),
                format!("{} ready endpoints", last.ready),
            );
        }
    }
    for pod in record.pods.iter().filter(|pod| pod.owner.is_empty()) {
        let state = if pod.gone.is_some() {
            "gone"
        } else {
            &pod.phase
        };
        found.insert(
            format!("Pod {}/{}", pod.namespace, pod.name),
            state.to_owned(),
        );
    }
    found
}

/// The workload of a pod: the owner's kind and name, else the pod's own.
fn workload(pod: &crate::record::PodLife) -> String {
    if pod.owner.is_empty() {
        format!("Pod {}/{}", pod.namespace, pod.name)
    } else {
        format!("{} in {}", pod.owner, pod.namespace)
    }
}

/// Restarts of each workload's pods, and how the containers had ended.
fn restarts(record: &RunRecord) -> Found {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let of = |namespace: &str, name: &str| {
        let pod = record
            .pods
            .iter()
            .find(|p| p.namespace == namespace && p.name == name);
        pod.map_or_else(|| format!("Pod {namespace}/{name}"), workload)
    };
    for entry in &record.causes {
        if let What::Restarted {
            container,
            reason,
            code,
            nth,
        } = &entry.what
        {
            let text = format!("{container} {nth}: {reason} {code}");
            found
                .entry(of(&entry.namespace, &entry.name))
                .or_default()
                .push(text);
        }
    }
    found.values_mut().for_each(|parts| parts.sort());
    joined(found)
}

/// How the containers of each workload's pods ended, restarted or not: reasons and exit codes.
fn exits(record: &RunRecord) -> Found {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pod in record.pods.iter().filter(|pod| !pod.exits.is_empty()) {
        let ends = pod.exits.iter();
        let ends = ends.map(|(name, reason, code)| format!("{name} {reason} {code}"));
        found.entry(workload(pod)).or_default().extend(ends);
    }
    found.values_mut().for_each(|parts| parts.sort());
    joined(found)
}

/// The reasons of KubeEvents about each object, as a set.
fn reasons(record: &RunRecord) -> Found {
    let names = Names::new(record);
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for event in record.events.iter().filter(|e| e.at >= record.header.begun) {
        // A probe that fails while a process starts is a matter of milliseconds.
        if event.reason == "Unhealthy" {
            continue;
        }
        let object = names.object(&event.kind, &event.namespace, &event.name);
        found
            .entry(object)
            .or_default()
            .insert(event.reason.to_string());
    }
    let lists = found.into_iter();
    lists
        .map(|(thing, set)| (thing, set.into_iter().collect::<Vec<_>>().join(", ")))
        .collect()
}
