//! When a run begins whose initial workloads never become ready.

use std::path::Path;

use rehearsal::check::{Finished, On, RunOptions, run_on};
use rehearsal::engine::Journal;
use rehearsal::scenario::{LoadOptions, Scenario, load};

/// One node of one core, and this pod.
fn scenario(name: &str, cpu: &str, model: &str) -> Scenario {
    let text = format!(
        "apiVersion: rehearsal.dev/v1
kind: Scenario
metadata: {{name: {name}}}
spec:
  seed: 1
  duration: 5s
  cluster:
    nodePools: [{{name: node, count: 1, capacity: {{cpu: \"1\", memory: 1Gi, pods: \"110\"}}}}]
---
{{apiVersion: v1, kind: Pod, metadata: {{name: p, labels: {{app: p}}}}, spec: {{containers: [
  {{name: main, image: x, resources: {{requests: {{cpu: \"{cpu}\"}}}}, readinessProbe: {{
  httpGet: {{path: /, port: 80}}, periodSeconds: 1}}}}]}}}}
---
{{apiVersion: rehearsal.dev/v1, kind: AppModel, metadata: {{name: p}},
  spec: {{selector: {{matchLabels: {{app: p}}}}, {model}}}}}
"
    );
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join(format!("settling-{}-{name}.yaml", std::process::id()));
    std::fs::write(&file, text).expect("a file");
    let loaded = load(std::slice::from_ref(&file), &LoadOptions::default());
    std::fs::remove_file(&file).expect("a file");
    let loaded = loaded.unwrap_or_else(|rejected| panic!("{}", rejected.render(false)));
    loaded.scenarios.into_iter().next().expect("a scenario")
}

fn go(scenario: &Scenario, on: On<'_>) -> Finished {
    let mut options = RunOptions {
        stop: &mut |_, _| false,
        arguments: Vec::new(),
    };
    run_on(scenario, &mut options, on, &mut ()).unwrap_or_else(|error| panic!("{error:?}"))
}

#[test]
fn nobody_sits_through_a_wait_that_is_in_vain() {
    // When the wait ends at the earliest and at the latest where somebody sits through it, and where
    // nobody does, in seconds.
    let table = [
        ("fits", "100m", "startup: 1s", (1, 10), (1, 10)),
        ("slow", "100m", "startup: 150s", (150, 170), (150, 170)),
        ("unschedulable", "2", "startup: 1s", (60, 64), (600, 602)),
        // Restarts after 10, 20, 40 and 80 s, and what each attempt takes.
        (
            "crashes",
            "100m",
            "startup: 10s, exit: {after: 1s, code: 3}",
            (70, 170),
            (600, 602),
        ),
        ("never", "100m", "startup: 700s", (600, 602), (600, 602)),
    ];
    for (name, cpu, model, sits, does_not) in table {
        let scenario = scenario(name, cpu, model);
        for (on, (least, most)) in [(On::Processes, sits), (On::Simulation, does_not)] {
            let arm = format!("{name} {on:?}");
            let begun = go(&scenario, on).record.header.begun.as_secs_f64();
            assert!(
                (f64::from(least)..f64::from(most)).contains(&begun),
                "{arm}: {begun}"
            );
        }
    }
}

#[test]
fn a_journal_begins_when_its_run_did() {
    let scenario = scenario("journal", "2", "startup: 1s");
    let first = go(&scenario, On::Processes);
    let journal: Journal<rehearsal::cluster::Event> =
        Journal::decode(&first.journal).expect("a journal");
    let again = go(&scenario, On::Journal(&journal));
    assert_eq!(again.record.header.begun, first.record.header.begun);
    assert_eq!(
        again.record.header.degraded,
        ["the run began without pod/default/p"]
    );
}
