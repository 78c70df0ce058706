//! Whole runs on real processes.

use rehearsal::backend::linux::{Linux, LinuxOptions};
use rehearsal::check::{Finished, On, RunOptions, run, run_on};
use rehearsal::cluster::Event;
use rehearsal::engine::Journal;
use rehearsal::scenario::{self, LoadOptions, Scenario};

use super::inventory::Inventory;
use super::{alone, possible, program};

fn load(file: &str) -> Scenario {
    let path = format!("{}/scenarios/{file}", env!("CARGO_MANIFEST_DIR"));
    let options = LoadOptions::default();
    let loaded = scenario::load(&[path.into()], &options).expect("a good scenario");
    loaded.scenarios.into_iter().next().expect("a scenario")
}

fn go(scenario: &Scenario, on: On<'_>) -> Finished {
    let mut stop = |_, _| false;
    let mut options = RunOptions {
        stop: &mut stop,
        arguments: Vec::new(),
    };
    run_on(scenario, &mut options, on, &mut ()).expect("a run")
}

/// Names of checks, and whether they passed.
fn checks(finished: &Finished) -> Vec<(String, bool)> {
    let checks = finished.record.checks.iter();
    checks
        .map(|check| (check.name.clone(), check.passed))
        .collect()
}

#[test]
fn real_processes_heal_as_simulated_ones_do_and_their_run_replays() {
    if !possible() {
        return;
    }
    let _alone = alone();
    let before = Inventory::take();
    let scenario = load("real-self-healing.yaml");
    let options = LinuxOptions {
        program: program(),
        ..LinuxOptions::default()
    };
    let mut linux = Linux::start(&scenario, options).expect("a cell");
    let real = go(&scenario, On::Linux(&mut linux));
    assert_eq!(linux.problems(), &[] as &[String]);
    drop(linux);
    before.is_back();
    assert!(
        checks(&real).iter().all(|(_, passed)| *passed),
        "{:?}",
        real.record.checks
    );
    let mut stop = |_, _| false;
    let mut options = RunOptions {
        stop: &mut stop,
        arguments: Vec::new(),
    };
    let simulated = run(&scenario, &mut options).expect("a run");
    assert_eq!(checks(&real), checks(&simulated));
    // The journal alone repeats the run, without a cell.
    let journal: Journal<Event> = Journal::decode(&real.journal).expect("a journal");
    assert!(journal.entries().len() > 100, "everything real was heard");
    let again = go(&scenario, On::Journal(&journal));
    assert_eq!(again.record.header.digest, real.record.header.digest);
    let closing = journal.closing().expect("a closed journal");
    assert_eq!(
        format!("{:032x}", closing.digest),
        real.record.header.digest
    );
}

/// A web server of two pods, one of whose nodes loses power; upstream's usual grace periods.
const LOSS: &str = "\
apiVersion: rehearsal.dev/v1
kind: Scenario
metadata: {name: fast}
spec:
  seed: 1
  duration: 3m
  cluster:
    nodePools:
    - {name: node, count: 2, capacity: {cpu: \"1\", memory: 1Gi, pods: \"10\"}}
  timeline:
  - at: 5s
    apply:
    - apiVersion: rehearsal.dev/v1
      kind: NodeChaos
      metadata: {name: lose-one}
      spec: {action: power-off, mode: one, selector: {podsOf: deployment/web}, duration: 170s}
  expect:
  - {name: replaced, within: 2m, eventually: \"pods('web').size() == 3 && endpoints('web').ready == 2\"}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 20}
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: ScheduleAnyway
        labelSelector: {matchLabels: {app: web}}
      containers:
      - name: main
        image: web:1
        ports: [{containerPort: 8080}]
        readinessProbe: {periodSeconds: 5, httpGet: {path: /, port: 8080}}
";

#[test]
fn a_fast_clock_shortens_waits_and_says_so() {
    if !possible() {
        return;
    }
    let _alone = alone();
    let options = LoadOptions::default();
    let loaded = scenario::load_bytes("fast.yaml".as_ref(), LOSS.as_bytes(), &options);
    let loaded = loaded.unwrap_or_else(|rejected| panic!("{}", rejected.render(false)));
    let scenario = &loaded.scenarios[0];
    let options = LinuxOptions {
        program: program(),
        speed: 20,
        ..LinuxOptions::default()
    };
    let mut linux = Linux::start(scenario, options).expect("a cell");
    let begun = std::time::Instant::now();
    let real = go(scenario, On::Linux(&mut linux));
    let wall = begun.elapsed();
    assert!(
        checks(&real).iter().all(|(_, passed)| *passed),
        "{:?}",
        real.record.checks
    );
    // 3 minutes and the start: at twenty times the speed 9 s, and what was not quiet, which is more
    // where the host is busy.
    assert!(wall.as_secs() < 150, "{wall:?}");
    let header = &real.record.header;
    let said = header.degraded.join("\n");
    assert!(
        said.contains("clocks: the control plane's went 20 times as fast"),
        "{said}"
    );
    // The journal has the run's time, so it replays as any other does.
    let journal: Journal<Event> = Journal::decode(&real.journal).expect("a journal");
    let again = go(scenario, On::Journal(&journal));
    assert_eq!(again.record.header.digest, header.digest);
}

#[test]
fn a_fast_clock_is_refused_where_something_real_always_goes_on() {
    let _alone = alone();
    let table = [
        (
            "node-loss-during-rollout.yaml",
            "*=builtin",
            "--speed: Traffic",
        ),
        (
            "real-self-healing.yaml",
            "web=host:",
            "--speed: images \"web\" are programs of others",
        ),
        (
            "real-self-healing.yaml",
            "*=builtin",
            "--speed: AppModel leaky ends or grows by itself",
        ),
    ];
    for (file, image, why) in table {
        let scenario = format!("{}/scenarios/{file}", env!("CARGO_MANIFEST_DIR"));
        let output = std::process::Command::new(program())
            .args([
                "run",
                &scenario,
                "--backend",
                "linux",
                "--speed",
                "10",
                "--no-out",
            ])
            .args(["--image", image])
            .output()
            .expect("the program runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(why), "{error}");
    }
}
