//! The control plane fails: who notices, when, and who does not.

use std::path::Path;

use rehearsal::check::run::{RunOptions, run};
use rehearsal::record::{NodeMark, NodeMarkKind, RunRecord};
use rehearsal::scenario::{LoadOptions, load_bytes};

/// Six pods on three nodes serve; the fault begins at 60 s.
const RUN: &str = "
apiVersion: rehearsal.dev/v1
kind: Scenario
metadata: {name: control-plane}
spec:
  seed: SEED
  duration: 10m
  cluster:
    nodePools: [{name: web, count: 3, capacity: {cpu: '4', memory: 8Gi, pods: '110'}}]
    CLUSTER
  timeline:
  - at: 60s
    apply:
    - {apiVersion: rehearsal.dev/v1, kind: ControlPlaneChaos, metadata: {name: f}, spec: {FAULT}}
  MORE
---
apiVersion: rehearsal.dev/v1
kind: Traffic
metadata: {name: users}
spec:
  to: service/web:80
  executor: constant-arrival-rate
  rate: 10
  duration: 10m
  client: {connections: 10, keepAlive: false, timeout: 1s, retries: 0}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 6
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: main, image: 'web:1', ports: [{containerPort: 80}],
         readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1}}
";

const SEEDS: [u64; 3] = [1, 2, 3];

fn play(seed: u64, cluster: &str, fault: &str, more: &str) -> RunRecord {
    let text = RUN
        .replace("SEED", &seed.to_string())
        .replace("CLUSTER", cluster)
        .replace("FAULT", fault)
        .replace("MORE", more);
    let options = LoadOptions::default();
    let loaded = load_bytes(Path::new("f.yaml"), text.as_bytes(), &options);
    let loaded = loaded.unwrap_or_else(|rejected| panic!("{}", rejected.render(false)));
    let mut options = RunOptions {
        stop: &mut |_, _| false,
        arguments: Vec::new(),
    };
    let finished = run(&loaded.scenarios[0], &mut options);
    finished.unwrap_or_else(|error| panic!("{error:?}")).record
}

/// Seconds after the fault's beginning.
fn after(record: &RunRecord, at: rehearsal::engine::Time) -> f64 {
    at.as_secs_f64() - record.faults[0].at.as_secs_f64()
}

/// What a component did, with when.
fn told(record: &RunRecord, component: &str) -> Vec<(f64, String)> {
    let notes = record.components.iter();
    let mine = notes.filter(|note| note.component == *component);
    mine.map(|note| (after(record, note.at), note.what.clone()))
        .collect()
}

fn within(what: &str, value: f64, from: f64, to: f64) {
    assert!(
        (from..=to).contains(&value),
        "{what}: {value}, not {from} to {to}"
    );
}

#[test]
fn users_do_not_notice_that_no_api_server_listens() {
    for seed in SEEDS {
        let scale = "- {at: 90s, kubectl: scale deployment/web --replicas=8, optional: true}";
        let record = play(seed, "", "action: outage, duration: 3m", scale);
        assert_eq!(record.traffic[0].failed, 0);
        let lost = |mark: &&NodeMark| mark.what == NodeMarkKind::Unknown;
        assert_eq!(record.nodes.iter().filter(lost).count(), 0);
        for component in ["kube-controller-manager", "kube-scheduler"] {
            let told = told(&record, component);
            let [(lost, words), (again, _)] = told.as_slice() else {
                panic!("{told:?}");
            };
            assert!(words.contains("loses its lease"), "{words}");
            // The next renewal is due within 2 s, and its round lasts for 10 s.
            within("the lease is lost", *lost, 10.0, 12.0);
            // Seen within 4.4 s of the return, unchanged for 15 s, asked for every 2 s to 4.4 s.
            within("leads again", *again, 180.0 + 15.0, 180.0 + 23.8);
        }
        let failed = record.steps.iter().filter_map(|s| s.result.as_ref());
        let failed: Vec<&String> = failed.filter_map(|r| r.as_ref().err()).collect();
        assert_eq!(failed.len(), 1);
        assert!(failed[0].starts_with("The connection to the server was refused"));
    }
}

#[test]
fn whoever_leads_is_followed_by_a_stand_in_or_by_itself() {
    let [one, three] = ["", "controlPlane: {replicas: 3}"];
    let alone = "flags: {kube-controller-manager: {leader-elect: false}}";
    let manager = "component: kube-controller-manager";
    for (cluster, fault, words, from, to) in [
        // Renewed up to 2 s before, seen up to 4.4 s later, 15 s, the next question.
        (
            three,
            "action: crash, mode: one, duration: 30s",
            "replica",
            13.0,
            23.8,
        ),
        // It starts after 30 s as somebody new: seen at once, 15 s, the next question.
        (
            one,
            "action: crash, duration: 30s",
            "leader again",
            46.0,
            50.4,
        ),
        (three, "action: crash, duration: 30s", "replica", 46.0, 50.4),
        // No election, no wait.
        (
            alone,
            "action: crash, duration: 30s",
            "runs again",
            30.0,
            30.0,
        ),
        (
            three,
            "action: freeze, mode: one, duration: 2m",
            "replica",
            13.0,
            23.8,
        ),
    ] {
        for seed in SEEDS {
            let record = play(seed, cluster, &format!("{fault}, {manager}"), "");
            let told = told(&record, "kube-controller-manager");
            let (at, what) = told.first().expect("somebody leads");
            assert!(what.contains(words), "{fault}: {what}");
            within(fault, *at, from, to);
        }
    }
}

#[test]
fn a_short_pause_costs_nobody_the_lease() {
    for fault in [
        "action: freeze, component: kube-controller-manager, duration: 8s",
        "action: freeze, component: kube-apiserver, duration: 4s",
        "action: outage, duration: 7s",
        "action: latency, latency: 3s, duration: 2m",
        "action: crash, component: etcd, mode: one, duration: 2m",
        "action: crash, component: kube-apiserver, mode: one, duration: 2m",
    ] {
        let cluster = "controlPlane: {replicas: 3}";
        let scale = "- {at: 75s, kubectl: scale deployment/web --replicas=8}";
        let record = play(1, cluster, fault, scale);
        assert_eq!(record.components, [], "{fault}");
        assert_eq!(record.pods.len(), 8, "{fault}");
        assert!(record.pods.iter().all(|p| p.ready.is_some()), "{fault}");
    }
}

#[test]
fn without_a_quorum_etcd_commits_nothing() {
    for (replicas, fault) in [
        (1, "action: no-leader, duration: 1m"),
        (1, "action: freeze, component: etcd, duration: 1m"),
        (
            3,
            "action: crash, component: etcd, mode: fixed, value: 2, duration: 1m",
        ),
    ] {
        let cluster = format!("controlPlane: {{replicas: {replicas}}}");
        let scale = "- {at: 75s, kubectl: scale deployment/web --replicas=8, optional: true}";
        let record = play(1, &cluster, fault, scale);
        let failed = record
            .steps
            .iter()
            .filter_map(|s| s.result.as_ref()?.as_ref().err());
        let failed: Vec<&String> = failed.collect();
        assert_eq!(
            failed,
            ["Error from server: etcdserver: request timed out"],
            "{fault}"
        );
        assert_eq!(record.pods.len(), 6, "{fault}");
        assert_eq!(told(&record, "kube-scheduler").len(), 2, "{fault}");
    }
}

#[test]
fn clients_ask_again_by_themselves_when_they_are_told_when() {
    let scale = "- {at: 61s, kubectl: scale deployment/web --replicas=8}";
    for (status, refused) in [
        ("429", false),
        ("503, retryAfter: 2s", false),
        ("503", true),
    ] {
        let fault = format!(
            "action: errors, percent: 100, status: {status}, duration: 6s, \
             requests: {{verbs: [create], resources: [pods], userAgents: [kube-controller-manager]}}"
        );
        let record = play(1, "", &fault, scale);
        let events = record.events.iter();
        let said = events.filter(|e| e.reason == *"FailedCreate").count();
        assert_eq!(said > 0, refused, "{status}: {said}");
        let created: Vec<f64> = record.pods[6..]
            .iter()
            .map(|p| after(&record, p.created))
            .collect();
        assert_eq!(created.len(), 2, "{status}");
        // Retries after one or two seconds; back-off of the work queue from 5 ms, doubled.
        assert!(
            created.iter().all(|at| (6.0..9.5).contains(at)),
            "{status}: {created:?}"
        );
    }
}

#[test]
fn late_requests_make_late_pods() {
    let scale = "- {at: 61s, kubectl: scale deployment/web --replicas=7}";
    let bound = |fault: &str| {
        let record = play(1, "", fault, scale);
        let pod = record.pods.last().expect("a seventh pod");
        let at = pod.scheduled.expect("it is bound");
        at.as_secs_f64() - pod.created.as_secs_f64()
    };
    let usual = bound("action: latency, latency: 0s, duration: 1m");
    let late = "action: latency, latency: 2s, jitter: 500ms, duration: 1m, \
                requests: {userAgents: [kube-scheduler]}";
    within("later by", bound(late) - usual, 1.5, 2.5);
    let others = late.replace("kube-scheduler", "kubelet");
    within("others' lateness", bound(&others) - usual, -0.1, 0.1);
}

#[test]
fn a_machine_that_boots_without_an_api_server_starts_no_pod() {
    let reboot = "- at: 70s
    apply:
    - {apiVersion: rehearsal.dev/v1, kind: NodeChaos, metadata: {name: boot},
       spec: {action: reboot, mode: one, selector: {names: [web-1]}}}";
    for seed in SEEDS {
        let record = play(seed, "", "action: outage, duration: 3m", reboot);
        let pods: Vec<_> = record.pods.iter().filter(|p| p.node == "web-1").collect();
        assert!(pods.len() == 2 && pods.iter().all(|p| p.restarts == 1));
        // From 70 s on two of six pods are gone, until the kubelet's watch is tried again, up to a
        // minute after the return at 240 s: 10 rps x 1/3 x 170 s to 235 s, and five deviations.
        within(
            "lost",
            record.traffic[0].failed as f64,
            566.0 - 119.0,
            783.0 + 140.0,
        );
        let record = play(seed, "", "action: latency, latency: 0s", reboot);
        // 30 s to boot, some more to start.
        within("lost", record.traffic[0].failed as f64, 50.0, 200.0);
    }
}
