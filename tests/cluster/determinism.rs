//! The same scenario and seed give the same run: again, and beside another run in the same process.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rayon::prelude::*;
use rehearsal::api::{Namespace, Row, Text};
use rehearsal::check::run::{Finished, RunOptions, run};
use rehearsal::scenario::{LoadOptions, Scenario, load};

fn self_healing() -> Scenario {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/self-healing.yaml");
    let mut loaded = load(&[path], &LoadOptions::default())
        .unwrap_or_else(|rejected| panic!("{}", rejected.render(false)));
    loaded.scenarios.remove(0)
}

fn play(scenario: &Scenario) -> Finished {
    let mut options = RunOptions {
        stop: &mut |_, _| false,
        arguments: Vec::new(),
    };
    run(scenario, &mut options).unwrap_or_else(|error| panic!("{error:?}"))
}

/// Asserts that two runs are one; says where they part.
fn assert_same(one: &Finished, other: &Finished) {
    let parted = (one.record.causes.iter())
        .zip(&other.record.causes)
        .find(|(a, b)| a != b);
    assert_eq!(parted, None, "the runs part here");
    assert_eq!(one.record, other.record);
    assert_eq!(one.journal, other.journal);
}

#[test]
fn a_run_repeated_is_the_same_run() {
    let (one, other) = (play(&self_healing()), play(&self_healing()));
    assert!(one.record.header.events > 1_000, "something happened");
    assert!(!one.journal.is_empty());
    assert_same(&one, &other);
}

/// The sample was made by a release build; tests are a debug build.
#[test]
fn the_sample_in_results_is_made_again_bit_by_bit_by_another_build() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/sample/self-healing");
    let summary = std::fs::read_to_string(path.join("summary.json")).expect("the sample is there");
    let digest = play(&self_healing()).record.header.digest;
    let again = "cargo run --release -- run scenarios/self-healing.yaml --out \
                 results/sample/self-healing";
    assert!(
        summary.contains(&digest),
        "behaviour changed (make the sample again: {again}), or builds differ"
    );
}

#[test]
fn another_seed_is_another_run() {
    let scenario = self_healing();
    let mut other = self_healing();
    other.seed += 1;
    let (one, other) = (play(&scenario), play(&other));
    assert_ne!(one.record.header.digest, other.record.header.digest);
}

#[test]
fn runs_on_two_threads_do_not_touch_each_other() {
    let threads = rayon::ThreadPoolBuilder::new().num_threads(2).build();
    let threads = threads.expect("two threads can be had");
    let scenario = self_healing();
    let runs: Vec<Finished> =
        threads.install(|| (0..2).into_par_iter().map(|_| play(&scenario)).collect());
    assert_same(&runs[0], &runs[1]);
}

/// Adds a copy of the Deployment `worker` in a namespace of its own.
fn add_neighbour(scenario: &mut Scenario) {
    let is_worker = |row: &Row| matches!(row, Row::Deployment(d) if d.meta.name == "worker");
    let worker = scenario.objects.iter().find(|o| is_worker(&o.row));
    let mut copy = worker.expect("a Deployment worker").clone();
    copy.row.meta_mut().namespace = Text::from("neighbour");
    let mut namespace = copy.clone();
    let mut row = Namespace::default();
    row.meta.name = Text::from("neighbour");
    namespace.row = Row::Namespace(Arc::new(row));
    scenario.objects.insert(0, namespace);
    scenario.objects.push(copy);
}

/// From the first container's start to readiness, by pod, of the pods there when the run began.
fn startups(finished: &Finished, namespace: &str) -> BTreeMap<Text, Duration> {
    let record = &finished.record;
    (record.pods.iter())
        .filter(|pod| pod.namespace == namespace && pod.created < record.header.begun)
        .filter_map(|pod| Some((pod.name.clone(), pod.ready?.since(pod.started?))))
        .collect()
}

#[test]
fn a_neighbour_changes_nobody_elses_draws() {
    let alone = self_healing();
    let mut beside = self_healing();
    add_neighbour(&mut beside);
    let (alone, beside) = (play(&alone), play(&beside));
    assert_eq!(startups(&beside, "neighbour").len(), 1);
    assert_eq!(startups(&alone, "default").len(), 4, "3 web, 1 worker");
    assert_eq!(startups(&alone, "default"), startups(&beside, "default"));
}
