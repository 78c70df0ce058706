//! Expectations of every form against one small run: what passes, what fails, and what is said.

use std::fmt::Write as _;
use std::path::Path;

use rehearsal::check::run::{RunOptions, run};
use rehearsal::record::RunRecord;
use rehearsal::scenario::{LoadOptions, load_bytes};

/// `web` has two ready pods from the beginning and is scaled to none at 1:00; `stuck` never fits.
const RUN: &str = "
apiVersion: rehearsal.dev/v1
kind: Scenario
metadata: {name: expectations}
spec:
  seed: 1
  duration: 3m
  cluster:
    nodePools: [{name: web, count: 2, capacity: {cpu: '2', memory: 4Gi, pods: '10'}}]
  timeline:
  - {at: 1m, kubectl: scale deployment/web --replicas=0}
  - {at: 90s, kubectl: scale deployment/web --replicas=2}
  expect:
EXPECT---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: 'web:1'}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: stuck}
spec:
  selector: {matchLabels: {app: stuck}}
  template:
    metadata: {labels: {app: stuck}}
    spec: {containers: [{name: main, image: 'web:1', resources: {requests: {cpu: '64'}}}]}
";

fn play(expect: &[&str]) -> Result<RunRecord, String> {
    let mut rows = String::new();
    for (number, line) in expect.iter().enumerate() {
        let _ = writeln!(rows, "  - {{name: e{number}, {line}}}");
    }
    let text = RUN.replace("EXPECT", &rows);
    let loaded = load_bytes(
        Path::new("e.yaml"),
        text.as_bytes(),
        &LoadOptions::default(),
    );
    let loaded = loaded.map_err(|rejected| rejected.render(false))?;
    let mut options = RunOptions {
        stop: &mut |_, _| false,
        arguments: Vec::new(),
    };
    let finished = run(&loaded.scenarios[0], &mut options).map_err(|error| format!("{error:?}"))?;
    Ok(finished.record)
}

/// An expectation, whether it passes, and what its detail must contain.
const CASES: &[(&str, bool, &str)] = &[
    // A count that the API leaves out when it is zero is zero.
    (
        "always: \"deployment('web').status.readyReplicas >= 1\"",
        false,
        "min 0 at 01:",
    ),
    (
        "always: \"deployment('web').status.readyReplicas >= 0\"",
        true,
        "min 0 at 01:",
    ),
    (
        "always: \"deployment('stuck').spec.replicas - 1 == 0 && pods('stuck').size() < 2\"",
        true,
        "",
    ),
    (
        "always: \"deployment('stuck').status.readyReplicas == 0\"",
        true,
        "",
    ),
    (
        "always: \"endpoints('web').ready >= 2\"",
        false,
        "min 0 at 01:",
    ),
    ("always: \"nodes().size() == 2\"", true, ""),
    (
        "never: \"pods('stuck').exists(p, has(p.spec.nodeName))\"",
        true,
        "",
    ),
    ("never: \"endpoints('web').ready == 0\"", false, "01:0"),
    // Counted from the first step: two pods at first, none at once, two again soon after 1:30.
    (
        "eventually: \"endpoints('web').total == 2\", within: 2m",
        true,
        "0:3",
    ),
    (
        "eventually: \"endpoints('web').total == 2\", within: 20s",
        false,
        "not within 0:20 of 01:",
    ),
    (
        "eventually: \"deployment('stuck').status.readyReplicas == 1\", within: 2m",
        false,
        "",
    ),
    (
        "wait: {for: condition=Available, resource: deployment/web, timeout: 1m}",
        true,
        "",
    ),
    (
        "wait: {for: condition=Available, resource: deployment/stuck, timeout: 1m}",
        false,
        "",
    ),
];

#[test]
fn each_form_says_what_it_found() {
    let lines: Vec<&str> = CASES.iter().map(|(line, ..)| *line).collect();
    let record = play(&lines).unwrap_or_else(|error| panic!("{error}"));
    let wrong: Vec<String> = (CASES.iter().zip(&record.checks))
        .filter(|((_, passes, says), check)| {
            check.passed != *passes || !check.detail.contains(says)
        })
        .map(|((line, ..), check)| format!("{line}\n  {}: {}", check.passed, check.detail))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(record.checks.len(), CASES.len());
}

#[test]
fn the_moment_to_explain_is_when_the_first_check_failed() {
    let line = "eventually: \"deployment('stuck').status.readyReplicas == 1\", within: 20s";
    let cases = [
        (format!("{line}, from: 10s"), "00:30"),
        (format!("{line}, from: 1m"), "01:20"),
        ("always: \"nodes().size() == 3\", from: 40s".into(), "00:40"),
    ];
    for (line, moment) in cases {
        let record = play(&[&line]).unwrap_or_else(|error| panic!("{error}"));
        let found = rehearsal::report::worst_moment(&record);
        assert_eq!(
            found.as_deref(),
            Some(moment),
            "{line}: {:?}",
            record.checks
        );
    }
}
