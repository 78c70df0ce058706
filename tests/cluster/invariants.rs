//! Random clusters, workloads, rollouts and faults: what must hold at every instant holds.
//!
//! Each case is a scenario written as text, so that a failing one can be saved and run as it is.

use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::Config;
use rehearsal::check::invariants::Invariants;
use rehearsal::check::run::{RunOptions, run_watched};
use rehearsal::record::RunRecord;
use rehearsal::scenario::{LoadOptions, load_bytes};

/// One app: a Deployment, its Service and its behaviour.
#[derive(Clone, Debug)]
struct App {
    replicas: u8,
    cpu_milli: u16,
    surge: u8,
    unavailable: u8,
    startup_s: u8,
    grace_s: u8,
}

#[derive(Clone, Debug)]
enum Step {
    Image(u8),
    Scale(u8, u8),
    Restart(u8),
    Undo(u8),
    Pods(u8),
    Kill(u8),
    PowerOff(u16),
    Partition(u16),
    Reboot,
    KubeletStop(u16),
    Drain(u8),
    Uncordon(u8),
}

impl Step {
    fn is_failure(&self) -> bool {
        use Step::*;
        !matches!(self, Image(_) | Restart(_) | Undo(_))
    }

    fn write(&self, number: usize, apps: usize, nodes: u8, text: &mut String) {
        let app = |n: &u8| usize::from(*n) % apps;
        let node = |n: &u8| n % nodes;
        let at = 30 + 20 * number;
        let kubectl = match self {
            Step::Image(n) => format!("set image deployment/app{} main=app:v{number}", app(n)),
            Step::Scale(n, to) => format!("scale deployment/app{} --replicas={to}", app(n)),
            Step::Restart(n) => format!("rollout restart deployment/app{}", app(n)),
            Step::Undo(n) => format!("rollout undo deployment/app{}", app(n)),
            Step::Pods(n) => format!("delete pod -l app=app{} --wait=false", app(n)),
            Step::Drain(n) => format!("drain node-{} --timeout=60s", node(n)),
            Step::Uncordon(n) => format!("uncordon node-{}", node(n)),
            _ => String::new(),
        };
        if !kubectl.is_empty() {
            let _ = writeln!(
                text,
                "  - {{at: {at}s, kubectl: {kubectl}, optional: true}}"
            );
            return;
        }
        let _ = writeln!(text, "  - at: {at}s\n    apply:");
        if let Step::Kill(n) = self {
            let _ = writeln!(
                text,
                "    - {{apiVersion: chaos-mesh.org/v1alpha1, kind: PodChaos, \
                 metadata: {{name: f{number}}}, spec: {{action: container-kill, mode: one, \
                 containerNames: [main], selector: {{labelSelectors: {{app: app{}}}}}}}}}",
                app(n)
            );
            return;
        }
        let spec = match self {
            Step::PowerOff(s) => format!("action: power-off, duration: {s}s"),
            Step::Partition(s) => {
                format!("action: partition, from: [control-plane], duration: {s}s")
            }
            Step::KubeletStop(s) => format!("action: kubelet-stop, duration: {s}s"),
            _ => "action: reboot".to_owned(),
        };
        let _ = writeln!(
            text,
            "    - {{apiVersion: rehearsal.dev/v1, kind: NodeChaos, metadata: {{name: f{number}}}, \
             spec: {{{spec}, mode: one, selector: {{pool: node}}}}}}"
        );
    }
}

fn an_app() -> impl Strategy<Value = App> {
    (1..6u8, 50..900u16, 0..3u8, 0..3u8, 0..8u8, 0..20u8).prop_map(
        |(replicas, cpu_milli, surge, unavailable, startup_s, grace_s)| App {
            replicas,
            cpu_milli,
            // Both zero is refused by the API server.
            surge: if unavailable == 0 {
                surge.max(1)
            } else {
                surge
            },
            unavailable,
            startup_s,
            grace_s,
        },
    )
}

fn a_step() -> impl Strategy<Value = Step> {
    let (app, duration) = (0..3u8, 20..500u16);
    prop_oneof![
        app.clone().prop_map(Step::Image),
        (app.clone(), 0..9u8).prop_map(|(n, to)| Step::Scale(n, to)),
        app.clone().prop_map(Step::Restart),
        app.clone().prop_map(Step::Undo),
        app.clone().prop_map(Step::Pods),
        app.clone().prop_map(Step::Kill),
        duration.clone().prop_map(Step::PowerOff),
        duration.clone().prop_map(Step::Partition),
        Just(Step::Reboot),
        duration.prop_map(Step::KubeletStop),
        (0..9u8).prop_map(Step::Drain),
        (0..9u8).prop_map(Step::Uncordon),
    ]
}

fn scenario(seed: u64, nodes: u8, apps: &[App], steps: &[Step]) -> String {
    let mut text = format!(
        "apiVersion: rehearsal.dev/v1\nkind: Scenario\nmetadata: {{name: random}}\nspec:\n  \
         seed: {seed}\n  duration: 10m\n  cluster:\n    nodePools:\n    \
         - {{name: node, count: {nodes}, zones: [a, b], capacity: {{cpu: '2', memory: 4Gi, \
         pods: '10'}}}}\n"
    );
    if !steps.is_empty() {
        text += "  timeline:\n";
    }
    for (number, step) in steps.iter().enumerate() {
        step.write(number, apps.len(), nodes, &mut text);
    }
    for (n, app) in apps.iter().enumerate() {
        let App {
            replicas,
            cpu_milli,
            surge,
            unavailable,
            startup_s,
            grace_s,
        } = app;
        let _ = writeln!(
            text,
            "---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: app{n}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: app{n}}}}}
  strategy: {{rollingUpdate: {{maxSurge: {surge}, maxUnavailable: {unavailable}}}}}
  template:
    metadata: {{labels: {{app: app{n}}}}}
    spec:
      terminationGracePeriodSeconds: {grace_s}
      containers:
      - name: main
        image: app:v0
        ports: [{{containerPort: 80}}]
        resources: {{requests: {{cpu: {cpu_milli}m, memory: 64Mi}}}}
        readinessProbe: {{httpGet: {{path: /ready, port: 80}}, periodSeconds: 2}}
---
apiVersion: v1
kind: Service
metadata: {{name: app{n}}}
spec: {{selector: {{app: app{n}}}, ports: [{{port: 80}}]}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{name: app{n}}}
spec: {{maxUnavailable: 1, selector: {{matchLabels: {{app: app{n}}}}}}}
---
apiVersion: rehearsal.dev/v1
kind: AppModel
metadata: {{name: app{n}}}
spec: {{selector: {{matchLabels: {{app: app{n}}}}}, startup: {startup_s}s, request: {{cpu: 1ms}}}}
---
apiVersion: rehearsal.dev/v1
kind: Traffic
metadata: {{name: users{n}}}
spec:
  to: service/app{n}:80
  executor: ramping-arrival-rate
  stages: [{{duration: 0s, target: 5}}, {{duration: 9m, target: 5}}]
  client: {{timeout: 2s, retries: 1}}"
        );
    }
    text
}

fn play(text: &str, undisturbed: bool) -> (RunRecord, Invariants) {
    let loaded = load_bytes(
        Path::new("random.yaml"),
        text.as_bytes(),
        &LoadOptions::default(),
    );
    let loaded = loaded.unwrap_or_else(|rejected| panic!("{}\n{text}", rejected.render(false)));
    let mut options = RunOptions {
        stop: &mut |_, _| false,
        arguments: Vec::new(),
    };
    let mut invariants = Invariants::new(undisturbed);
    let finished = run_watched(&loaded.scenarios[0], &mut options, &mut invariants);
    let finished = finished.unwrap_or_else(|error| panic!("{error:?}\n{text}"));
    (finished.record, invariants)
}

fn hold(text: &str, undisturbed: bool) -> Result<(), TestCaseError> {
    let (record, invariants) = play(text, undisturbed);
    let broken: Vec<String> = invariants
        .violations
        .iter()
        .map(ToString::to_string)
        .collect();
    prop_assert_eq!(broken, Vec::<String>::new(), "in\n{}", text);
    for traffic in record.traffic.iter().filter(|t| !t.internal) {
        // The last request was sent a minute before the end and timed out long ago.
        prop_assert_eq!(traffic.sent, traffic.ok + traffic.failed, "{}", text);
        let seconds: u64 = traffic.seconds.iter().map(|s| u64::from(s.sent)).sum();
        prop_assert_eq!(traffic.sent, seconds, "{}", text);
        prop_assert!(traffic.sent > 0);
    }
    Ok(())
}

/// A few in every test run; `PROPTEST_CASES=1000` for a long look.
fn cases() -> u32 {
    const LIBRARY: u32 = 256;
    Some(Config::default().cases)
        .filter(|n| *n != LIBRARY)
        .unwrap_or(12)
}

proptest! {
    #![proptest_config(Config { cases: cases(), failure_persistence: None, ..Config::default() })]

    #[test]
    fn no_run_breaks_an_invariant(
        seed in 0..1_000_000u64,
        nodes in 2..6u8,
        apps in prop::collection::vec(an_app(), 1..4),
        steps in prop::collection::vec(a_step(), 0..12),
    ) {
        hold(&scenario(seed, nodes, &apps, &steps), false)?;
    }

    #[test]
    fn a_rollout_without_failures_keeps_what_it_owes(
        seed in 0..1_000_000u64,
        apps in prop::collection::vec(an_app(), 1..3),
        steps in prop::collection::vec(a_step(), 1..8),
    ) {
        let calm: Vec<Step> = steps.into_iter().filter(|s| !s.is_failure()).collect();
        hold(&scenario(seed, 8, &apps, &calm), true)?;
    }
}

/// The rules themselves: a log that lies is found.
#[test]
fn a_change_that_nobody_saw_is_found() {
    use rehearsal::check::run::Watcher;
    use rehearsal::store::Change;

    /// Hides one change of a pod from the invariants.
    struct Hiding(Invariants, usize);
    impl Watcher for Hiding {
        fn on_change(&mut self, change: &Change) {
            let pod = change.rows::<rehearsal::api::Pod>().is_some();
            self.1 += usize::from(pod);
            if !(pod && self.1 == 5) {
                self.0.on_change(change);
            }
        }
        fn after_event(
            &mut self,
            at: rehearsal::engine::Time,
            world: &rehearsal::cluster::Cluster,
        ) {
            self.0.after_event(at, world);
        }
        fn at_end(&mut self, at: rehearsal::engine::Time, world: &rehearsal::cluster::Cluster) {
            self.0.at_end(at, world);
        }
    }
    let app = App {
        replicas: 2,
        cpu_milli: 100,
        surge: 1,
        unavailable: 0,
        startup_s: 1,
        grace_s: 1,
    };
    let text = scenario(1, 2, &[app], &[]);
    let loaded = load_bytes(
        Path::new("random.yaml"),
        text.as_bytes(),
        &LoadOptions::default(),
    );
    let loaded = loaded.expect("a scenario");
    let mut options = RunOptions {
        stop: &mut |_, _| false,
        arguments: Vec::new(),
    };
    let mut hiding = Hiding(Invariants::new(true), 0);
    run_watched(&loaded.scenarios[0], &mut options, &mut hiding).expect("a run");
    let rules: Vec<&str> = hiding.0.violations.iter().map(|v| v.rule).collect();
    assert!(rules.contains(&"every change is in the log"), "{rules:?}");
}
