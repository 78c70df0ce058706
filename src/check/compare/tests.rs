//! Trials on small traces of our own. The published experiment stands in `tests/vectors/openb.rs`.

use super::*;
use crate::record::trials::Trials;
use crate::scenario::{ExperimentOptions, load_experiment};

/// An experiment of this text, with these files beside it.
fn experiment(name: &str, text: &str, files: &[(&str, String)]) -> Experiment {
    let folder = std::env::temp_dir().join(format!("rehearsal-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (file, content) in files {
        std::fs::write(folder.join(file), content).unwrap();
    }
    let file = folder.join("e.yaml");
    let head = "apiVersion: rehearsal.dev/v1\nkind: Experiment\nmetadata: {name: e}\nspec:\n";
    std::fs::write(&file, format!("{head}{text}")).unwrap();
    let read = load_experiment(&file, &ExperimentOptions::default());
    std::fs::remove_dir_all(&folder).unwrap();
    read.unwrap_or_else(|rejected| panic!("{}", rejected.render(false)))
}

fn options(shard: Option<Shard>) -> CompareOptions<'static> {
    CompareOptions {
        shard,
        after_trial: &|| false,
    }
}

fn all(experiment: &Experiment) -> Trials {
    match run(experiment, &options(None)) {
        Ok(trials) => trials,
        Err(_) => panic!("the experiment runs"),
    }
}

fn metric(trials: &Trials, variant: usize, name: &str) -> f64 {
    trials.rows[0].trials[variant].metrics[name]
}

const NODES: &str = "  base:
    duration: 1h
    cluster:
      nodePools:
      - {name: web, count: 2, zones: [a, b], capacity: {cpu: 4, memory: 8Gi, nvidia.com/gpu: 2}}
    trace: {file: pods.csv}
";

/// A workload with shares, whole GPUs, affinity and priorities, all from a small formula.
fn mixed(pods: u32) -> String {
    let mut text = String::from("arrival,duration,cpu,memory,gpu,gpu_milli,priority,labels\n");
    for i in 0..pods {
        let (cpu, memory) = (200 + 300 * (i % 5), 128 << (i % 4));
        let (gpu, milli) = match i % 7 {
            0 => (1, 0),
            1..=3 => (0, 100 + 150 * (i % 4)),
            4 => (2, 0),
            _ => (0, 0),
        };
        let priority = if i % 13 == 0 { 5 } else { 0 };
        text.push_str(&format!(
            "{},{},{cpu}m,{memory}Mi,{gpu},{milli},{priority},app=a{}\n",
            i * 3,
            40 + 17 * (i % 11),
            i % 3,
        ));
    }
    text
}

const VARIANTS: &str = "  variants:
  - name: default
  - name: fgd
    scheduler:
      apiVersion: kubescheduler.config.k8s.io/v1
      kind: KubeSchedulerConfiguration
      profiles:
      - plugins: {score: {enabled: [{name: FGDScore}, {name: BestFitScore, weight: 2}], \
                          disabled: [{name: \"*\"}]}}
        pluginConfig: [{name: GpuShare, args: {gpuSelMethod: FGDScore}}]
  - name: random
    scheduler:
      apiVersion: kubescheduler.config.k8s.io/v1
      kind: KubeSchedulerConfiguration
      profiles:
      - plugins: {preScore: {enabled: [{name: RandomScore}, {name: SwarmSpread}]}, \
                  score: {enabled: [{name: RandomScore}, {name: SwarmSpread, weight: 3}]}}
        pluginConfig: [{name: GpuShare, args: {gpuSelMethod: random}}]
";

#[test]
fn pods_wait_for_room_and_are_measured() {
    // Two nodes of 4 cores. At 0 s two pods take one each for 100 s; the third, at 10 s, waits until
    // 100 s. Every node is full from 0 s to 100 s, one of them until 150 s: (200 + 50) / 7200.
    let pods = "arrival,duration,cpu,memory\n0,100,4,1Gi\n0,100,4,1Gi\n10,50,4,1Gi\n";
    let text = format!("  seeds: [1]\n{NODES}  variants: [{{name: default}}]\n");
    let trials = all(&experiment("waits", &text, &[("pods.csv", pods.into())]));
    assert_eq!(metric(&trials, 0, "pod_wait_seconds.max"), 90.0);
    assert_eq!(metric(&trials, 0, "pod_wait_seconds.p50"), 0.0);
    assert_eq!(metric(&trials, 0, "pods_scheduled_ratio"), 1.0);
    assert!((metric(&trials, 0, "cpu_allocation") - 250.0 / 7200.0).abs() < 1e-12);
}

#[test]
fn a_pod_of_higher_priority_displaces_one_that_starts_over() {
    let pods =
        "arrival,duration,cpu,memory,priority\n0,100,4,1Gi,1\n0,100,4,1Gi,0\n10,50,4,1Gi,9\n";
    let text = format!("  seeds: [1]\n{NODES}  variants: [{{name: default}}]\n");
    let trials = all(&experiment("priority", &text, &[("pods.csv", pods.into())]));
    assert_eq!(metric(&trials, 0, "preemptions"), 1.0);
    assert_eq!(metric(&trials, 0, "pod_wait_seconds.max"), 0.0);
    // 4 of 8 cores for 100 s, 10 s, 50 s; the displaced one again from 60 s for 100 s: 260 of 7200.
    assert!((metric(&trials, 0, "cpu_allocation") - 260.0 / 7200.0).abs() < 1e-12);
}

#[test]
fn a_node_without_power_loses_its_pods_after_the_toleration() {
    // Nodes of both zones full; zone b dies at 10 s. Its pod is given up at 10 + 50 + 300 s and finds
    // no room until the other one ends at 1000 s.
    let pods = "arrival,duration,cpu,memory\n0,1000,4,1Gi\n0,1000,4,1Gi\n";
    let fault = "  faults:\n  - {at: 10s, apply: [{apiVersion: rehearsal.dev/v1, kind: NodeChaos, \
        metadata: {name: f}, spec: {action: power-off, mode: all, selector: {zone: b}}}]}\n";
    let text = format!("  seeds: [1]\n{NODES}  variants: [{{name: default}}]\n{fault}");
    let trials = all(&experiment("power", &text, &[("pods.csv", pods.into())]));
    assert_eq!(metric(&trials, 0, "evictions"), 1.0);
    // 4 of 8 cores each: 1000 s; 360 s; and again from 1000 s to 2000 s: 2360 of 7200.
    assert!((metric(&trials, 0, "cpu_allocation") - 2360.0 / 7200.0).abs() < 1e-12);
    // Power that returns before that: the pod starts over at 70 s, until 1070 s.
    let back = fault.replace("zone: b}", "zone: b}, duration: 1m");
    let text = format!("  seeds: [1]\n{NODES}  variants: [{{name: default}}]\n{back}");
    let trials = all(&experiment(
        "power-back",
        &text,
        &[("pods.csv", pods.into())],
    ));
    assert_eq!(metric(&trials, 0, "evictions"), 0.0);
    assert!((metric(&trials, 0, "cpu_allocation") - 2070.0 / 7200.0).abs() < 1e-12);
}

#[test]
fn remembered_answers_are_the_answers() {
    let text = format!(
        "  seeds: [1, 2]\n{}{VARIANTS}",
        NODES.replace("count: 2", "count: 12")
    );
    let experiment = experiment("memo", &text, &[("pods.csv", mixed(400))]);
    for variant in &experiment.variants {
        let Plan::Trace(plan) = &variant.plan else {
            panic!("runs over a trace")
        };
        let prepared = Prepared::new(plan);
        for seed in [1, 2] {
            let mut with = Placement::new(&prepared, seed);
            with.run();
            let mut without = Placement::new(&prepared, seed).without_memo();
            without.run();
            let (with, without) = (with.finish(), without.finish());
            let first = with
                .decisions
                .iter()
                .zip(&without.decisions)
                .position(|(a, b)| a != b);
            assert_eq!(first, None, "{} seed {seed}", variant.name);
            assert_eq!(with.decisions.len(), without.decisions.len());
            assert!(
                with.decisions.iter().any(|(_, node)| node.is_none()),
                "nobody waited"
            );
        }
    }
}

#[test]
fn results_depend_neither_on_threads_nor_on_shards() {
    let text = format!("  seeds: {{from: 1, count: 5}}\n{NODES}{VARIANTS}");
    let experiment = experiment("shards", &text, &[("pods.csv", mixed(60))]);
    let on = |threads: usize, shard: Option<Shard>| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let trials = pool.install(|| run(&experiment, &options(shard)));
        trials.unwrap_or_else(|_| panic!("the experiment runs"))
    };
    let whole = on(1, None).to_lines();
    assert_eq!(on(4, None).to_lines(), whole);
    let shares = (0..3).map(|index| on(2, Some(Shard { index, of: 3 })));
    assert_eq!(Trials::merge(shares.collect()).unwrap().to_lines(), whole);
}

#[test]
fn the_first_divergence_tells_both_reasons() {
    let text = format!("  seeds: [1]\n{NODES}{VARIANTS}");
    let trials = all(&experiment("diverge", &text, &[("pods.csv", mixed(60))]));
    let found = &trials.rows[0].divergences;
    let variants: Vec<&str> = found.iter().map(|d| d.variant.as_str()).collect();
    assert_eq!(variants, ["fgd", "random"]);
    for divergence in found {
        assert_ne!(divergence.base.node, divergence.other.node);
        assert!(!divergence.base.reason.is_empty() && !divergence.other.reason.is_empty());
    }
}

/// Whole clusters with their controllers and kubelets; only the scheduler differs.
const CLUSTER: &str = "  seeds: [1, 2, 3]
  base:
    duration: 2m
    cluster:
      nodePools: [{name: node, count: 3, capacity: {cpu: 8, memory: 32Gi, pods: 110}}]
  variants:
  - name: default
  - name: packed
    scheduler:
      apiVersion: kubescheduler.config.k8s.io/v1
      kind: KubeSchedulerConfiguration
      profiles:
      - plugins:
          multiPoint:
            disabled: [{name: PodTopologySpread}, {name: NodeResourcesBalancedAllocation}]
        pluginConfig:
        - name: NodeResourcesFit
          args: {scoringStrategy: {type: MostAllocated}}
  - name: nomad
    scheduler:
      apiVersion: kubescheduler.config.k8s.io/v1
      kind: KubeSchedulerConfiguration
      profiles:
      - plugins: {score: {enabled: [{name: NomadBinPack}], disabled: [{name: \"*\"}]}}
  - name: nowhere
    scheduler:
      apiVersion: kubescheduler.config.k8s.io/v1
      kind: KubeSchedulerConfiguration
      profiles: [{schedulerName: another}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 6
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: web:1, resources: {requests: {cpu: 1, memory: 1Gi}}}
";

#[test]
fn whole_clusters_differ_by_their_scheduler_alone() {
    let experiment = experiment("cluster", CLUSTER, &[]);
    let trials = all(&experiment);
    // Six pods of one core: two on each of three nodes, or all on one of eight cores. A scheduler
    // of another name binds nothing.
    for (variant, nodes, bound) in [(0, 3.0, 1.0), (1, 1.0, 1.0), (2, 1.0, 1.0), (3, 0.0, 0.0)] {
        for row in &trials.rows {
            let metrics = &row.trials[variant].metrics;
            let name = &trials.head.variants[variant];
            assert_eq!(metrics["nodes_used"], nodes, "{name}");
            assert_eq!(metrics["pods_scheduled_ratio"], bound, "{name}");
        }
    }
    let told = &trials.rows[0].divergences;
    let variants: Vec<&str> = told.iter().map(|d| d.variant.as_str()).collect();
    assert_eq!(variants, ["packed", "nomad"]);
    for divergence in told {
        assert_ne!(divergence.base.node, divergence.other.node);
    }
    let shares = (0..2).map(|index| {
        let share = run(&experiment, &options(Some(Shard { index, of: 2 })));
        share.unwrap_or_else(|_| panic!("the experiment runs"))
    });
    let merged = Trials::merge(shares.collect()).unwrap();
    assert_eq!(merged.to_lines(), trials.to_lines());
}

#[test]
fn an_unknown_metric_is_refused_where_it_stands() {
    let text = format!("  seeds: [1]\n{NODES}  variants: [{{name: a}}]\n  report: [nodes_emtpy]\n");
    let experiment = experiment("metric", &text, &[("pods.csv", mixed(2))]);
    match run(&experiment, &options(None)) {
        Err(CompareError::Input(wrong)) => {
            assert_eq!(wrong.span.line, 13);
            assert_eq!(wrong.hint.as_deref(), Some("did you mean \"nodes_empty\"?"));
        }
        _ => panic!("was accepted"),
    }
}
