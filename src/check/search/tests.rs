//! A search over a small scenario whose answer is known.

use std::path::Path;
use std::time::Duration;

use super::{Case, SearchOptions, search};
use crate::scenario::minimal::{Edit, minimal};
use crate::scenario::{LoadOptions, Loaded, Vary, load_bytes};

/// Scaling to nothing for ten seconds breaks the check; the other steps do nothing to it. A tenth
/// of the seeds plays no part: the check fails whenever the step happens.
const SCENARIO: &str = "\
apiVersion: rehearsal.dev/v1
kind: Scenario
metadata: {name: t}
spec:
  seed: 5
  duration: 10m
  cluster:
    nodePools:
    - {name: main, count: 7, capacity: {cpu: '4', memory: 8Gi}}
    - {name: more, count: 4, capacity: {cpu: '4', memory: 8Gi}}
  timeline:
  - {at: 1m, kubectl: annotate deployment/web a=b}
  - {at: 3m7s, kubectl: scale deployment/web --replicas=0, optional: true}
  - {at: 4m, kubectl: label deployment/web c=d, optional: true}
  expect:
  - {name: fine, always: \"deployment('web').spec.replicas < 9\"}
  - {name: wanted, always: \"deployment('web').spec.replicas > 0\", until: 9m}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: server, image: 'web:1'}]}
";

fn loaded(text: &str) -> Loaded {
    load_bytes(
        Path::new("scenarios/t.yaml"),
        text.as_bytes(),
        &LoadOptions::default(),
    )
    .unwrap_or_else(|rejected| panic!("{}", rejected.render(false)))
}

const ALL: Vary = Vary {
    seed: true,
    times: true,
    optional: true,
};

fn options(budget: u32, vary: Vary) -> SearchOptions<'static> {
    SearchOptions {
        budget,
        vary,
        effort: 60,
        after_run: &|| false,
    }
}

#[test]
fn a_find_is_made_small_and_can_be_written_down() {
    let loaded = loaded(SCENARIO);
    let scenario = &loaded.scenarios[0];
    let found = search(scenario, &options(8, ALL)).expect("it runs");
    assert_eq!((found.runs, found.finds.len()), (8, 1));
    let find = &found.finds[0];
    assert_eq!(find.check.name, "wanted");
    // It fails in the runs in which the step happens, of which run 0 is one.
    let happens = (0..8).filter(|n| {
        let case = Case::varied(scenario, ALL, *n);
        case.steps
            .iter()
            .any(|(place, at)| *place == 1 && *at < Duration::from_secs(540))
    });
    assert_eq!(find.count as usize, happens.count());
    assert_eq!((find.run, found.failed), (0, find.count));
    // One step, at a whole minute; one node in each pool; over a second after it fails.
    let case = &find.small.case;
    assert_eq!(case.steps, [(1, Duration::from_secs(180))]);
    assert_eq!(case.nodes, [1, 1]);
    assert!(find.small.least);
    let at = find.small.check.at_s.expect("it failed at a time");
    assert_eq!(case.duration, Duration::from_secs(at as u64 + 1));

    let edit = Edit {
        name: "t-min".to_owned(),
        seed: case.seed,
        steps: vec![(scenario.timeline[1].span, case.steps[0].1)],
        nodes: case.nodes.clone(),
        duration: case.duration,
        expectation: Some(scenario.expect[1].span),
        resources: None,
    };
    let text = minimal(scenario, &loaded.sources, Path::new("results"), &edit).expect("YAML");
    let written = self::loaded(&text);
    let written = &written.scenarios[0];
    let judged = super::judge(written, &Case::written(written)).expect("it runs");
    assert_eq!(judged.digest, find.small.digest, "{text}");
    assert_eq!(judged.same(&find.check), Some(&find.small.check));
    assert_eq!(written.expect.len(), 1);
}

#[test]
fn run_n_does_not_depend_on_the_budget_and_run_0_is_as_written() {
    let loaded = loaded(SCENARIO);
    let scenario = &loaded.scenarios[0];
    assert_eq!(Case::varied(scenario, ALL, 0), Case::written(scenario));
    let cases: Vec<Case> = (0..300).map(|n| Case::varied(scenario, ALL, n)).collect();
    for (n, case) in cases.iter().enumerate() {
        assert_eq!(case.seed, 5 + n as u64);
        assert!(case.steps.is_sorted_by_key(|(_, at)| *at));
        for (place, at) in &case.steps {
            // Between half of what is written and half the way from there to the end.
            let written = scenario.timeline[*place].at;
            let bounds = written / 2..=(written + scenario.duration) / 2;
            assert!(bounds.contains(at), "{at:?} of {written:?}");
        }
        assert!(
            case.steps.iter().any(|(place, _)| *place == 0),
            "not optional"
        );
    }
    // Optional steps happen in about half of the runs, and steps do change places.
    let with = cases
        .iter()
        .filter(|c| c.steps.iter().any(|(p, _)| *p == 1))
        .count();
    assert!((110..190).contains(&with), "{with} of 300");
    let swapped = cases
        .iter()
        .filter(|c| !c.steps.is_sorted_by_key(|(place, _)| *place));
    assert!(swapped.count() > 30);
    let seeds = Vary::default();
    let case = Case::varied(scenario, seeds, 9);
    assert_eq!(
        case,
        Case {
            seed: 14,
            ..Case::written(scenario)
        }
    );
}

#[test]
fn a_search_that_is_stopped_tells_what_it_has() {
    let loaded = loaded(SCENARIO);
    let asked = std::sync::atomic::AtomicU32::new(0);
    let stop = || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= 3;
    let options = SearchOptions {
        after_run: &stop,
        ..options(1_000, Vary::default())
    };
    let found = search(&loaded.scenarios[0], &options).expect("it runs");
    assert!(found.stopped && found.runs < 64, "{} runs", found.runs);
}
