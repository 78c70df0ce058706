//! Runs that agree, and runs that do not, made by editing a real record.

use std::path::Path;
use std::time::Duration;

use super::agree;
use crate::check::run::{RunOptions, run};
use crate::record::RunRecord;
use crate::record::agreement::{Agreement, Verdict};
use crate::scenario::{LoadOptions, load};

fn self_healing(seed: u64) -> RunRecord {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/self-healing.yaml");
    let options = LoadOptions {
        seed: Some(seed),
        ..LoadOptions::default()
    };
    let loaded = load(&[path], &options);
    let loaded = loaded.unwrap_or_else(|rejected| panic!("{}", rejected.render(false)));
    let mut options = RunOptions {
        stop: &mut |_, _| false,
        arguments: Vec::new(),
    };
    let finished = run(&loaded.scenarios[0], &mut options);
    finished.unwrap_or_else(|error| panic!("{error:?}")).record
}

fn differing(agreement: &Agreement) -> Vec<(&str, &str)> {
    let rows = agreement
        .rows
        .iter()
        .filter(|row| row.verdict == Verdict::Differs);
    rows.map(|row| (row.group.as_str(), row.what.as_str()))
        .collect()
}

#[test]
fn a_run_agrees_with_itself() {
    let run = self_healing(7);
    let agreement = agree(&run, &[run.clone(), run.clone()]);
    assert!(agreement.agrees(), "{:?}", differing(&agreement));
    let groups = ["decisions", "state", "restarts", "exits", "events", "times"];
    for group in groups {
        assert!(
            agreement.rows.iter().any(|row| row.group == group),
            "{group}"
        );
    }
    assert!(!agreement.times.is_empty());
}

/// Other generated names and other draws are still the same story, up to where pods were placed
/// and how long each step took.
#[test]
fn another_seed_takes_the_same_decisions_about_replicas() {
    let (one, other) = (self_healing(7), self_healing(8));
    let agreement = agree(&one, &[other]);
    let sets = differing(&agreement).into_iter();
    let wrong: Vec<_> = sets
        .filter(|(_, what)| what.starts_with("ReplicaSet"))
        .collect();
    assert_eq!(wrong, []);
}

/// An edit of the real run, and a row that must differ then (group and words of its subject).
type Edit = (fn(&mut RunRecord), &'static str, &'static str);

const EDITS: &[Edit] = &[
    (
        |r| r.causes.retain(|e| !e.rule.contains("too few pods")),
        "decisions",
        "#",
    ),
    (
        |r| r.replicas.values_mut().for_each(|p| p.clear()),
        "state",
        "Deployment",
    ),
    (
        |r| r.events.retain(|e| e.reason != "Started"),
        "events",
        "Pod",
    ),
    (
        |r| {
            let late = Duration::from_secs(2);
            r.pods
                .iter_mut()
                .for_each(|p| p.started = p.started.map(|at| at + late));
        },
        "times",
        "scheduled to started",
    ),
];

#[test]
fn what_was_changed_is_found() {
    let run = self_healing(7);
    for (number, (edit, group, words)) in EDITS.iter().enumerate() {
        let mut real = run.clone();
        edit(&mut real);
        let agreement = agree(&run, &[real]);
        let found = differing(&agreement);
        let hit = found
            .iter()
            .any(|(g, what)| g == group && what.contains(words));
        assert!(hit, "edit {number}: {found:?}");
    }
}
