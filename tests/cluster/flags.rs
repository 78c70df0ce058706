//! Flags of components change what they say they change.

use std::path::Path;

use rehearsal::check::run::{RunOptions, run};
use rehearsal::record::{PodLife, RunRecord};
use rehearsal::scenario::{LoadOptions, load_bytes};

/// At 10 s a Deployment grows from none to twenty pods.
const RUN: &str = "
apiVersion: rehearsal.dev/v1
kind: Scenario
metadata: {name: flags}
spec:
  seed: 1
  duration: 1m
  cluster:
    nodePools: [{name: web, count: 4, capacity: {cpu: '4', memory: 8Gi, pods: '110'}}]
    flags: FLAGS
  timeline: [{at: 10s, kubectl: scale deployment/web --replicas=20}]
  expect:
  - name: tolerated
    always: >-
      pods('web').all(p, p.spec.tolerations.exists(t, t.tolerationSeconds == TOLERATED
      && t.key == 'node.kubernetes.io/unreachable'))
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: 'web:1'}]}
";

fn play(flags: &str, tolerated: u32) -> RunRecord {
    let text = RUN.replace("FLAGS", flags);
    let text = text.replace("TOLERATED", &tolerated.to_string());
    let loaded = load_bytes(
        Path::new("f.yaml"),
        text.as_bytes(),
        &LoadOptions::default(),
    );
    let loaded = loaded.unwrap_or_else(|rejected| panic!("{}", rejected.render(false)));
    let mut options = RunOptions {
        stop: &mut |_, _| false,
        arguments: Vec::new(),
    };
    let finished = run(&loaded.scenarios[0], &mut options);
    let record = finished.unwrap_or_else(|error| panic!("{error:?}")).record;
    assert!(
        record.checks.iter().all(|c| c.passed),
        "{:?}",
        record.checks
    );
    record
}

/// Seconds from the first to the last of twenty.
fn span(record: &RunRecord, of: fn(&PodLife) -> Option<rehearsal::engine::Time>) -> f64 {
    let mut times: Vec<_> = record.pods.iter().filter_map(of).collect();
    times.sort();
    assert_eq!(times.len(), 20);
    times[19].since(times[0]).as_secs_f64()
}

#[test]
fn the_api_servers_toleration_flag_is_in_new_pods() {
    play("{}", 300);
    play(
        "{kube-apiserver: {default-unreachable-toleration-seconds: 20}}",
        20,
    );
}

#[test]
fn the_budget_of_the_controller_manager_bounds_how_fast_pods_are_made() {
    // 20 pods within the burst of 30, against one a second after the first.
    let usual = span(&play("{}", 300), |pod| Some(pod.created));
    assert!(usual < 1.0, "{usual}");
    let flags = "{kube-controller-manager: {kube-api-qps: 1, kube-api-burst: 1}}";
    let slow = span(&play(flags, 300), |pod| Some(pod.created));
    assert!((19.0..45.0).contains(&slow), "{slow}");
}

#[test]
fn the_budget_of_the_scheduler_bounds_how_fast_pods_are_bound() {
    let usual = span(&play("{}", 300), |pod| pod.scheduled);
    assert!(usual < 1.0, "{usual}");
    let flags = "{kube-scheduler: {kube-api-qps: 1, kube-api-burst: 1}}";
    let slow = span(&play(flags, 300), |pod| pod.scheduled);
    assert!((19.0..45.0).contains(&slow), "{slow}");
}
