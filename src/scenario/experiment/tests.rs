//! Experiments as text: what is read, and how problems are told.

use super::*;
use crate::scenario::diagnostic::render;

const TRACE: &str = "arrival,duration,cpu,memory\n0,60,1,1Gi\n1,60,2,1Gi\n";

/// Reads an experiment that lies in a folder of its own, with a trace beside it.
fn load(name: &str, text: &str, options: &ExperimentOptions) -> Result<Experiment, String> {
    let folder = std::env::temp_dir().join(format!("rehearsal-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("pods.csv"), TRACE).unwrap();
    let file = folder.join("e.yaml");
    std::fs::write(&file, text).unwrap();
    let read = load_experiment(&file, options);
    std::fs::remove_dir_all(&folder).unwrap();
    let folder = format!("{}/", folder.display());
    read.map_err(|rejected| {
        let told = render(&rejected.diagnostics, &rejected.sources, false);
        told.replace(&folder, "")
    })
}

fn experiment(spec: &str) -> String {
    format!("apiVersion: rehearsal.dev/v1\nkind: Experiment\nmetadata: {{name: e}}\nspec:\n{spec}")
}

const BASE: &str = "  base:
    cluster: {nodePools: [{name: web, count: 2, capacity: {cpu: 4, memory: 8Gi}}]}
    trace: {file: pods.csv, scale: 2.0, jitter: 5s}
";

#[test]
fn an_experiment_over_a_trace_is_read() {
    let text = experiment(&format!(
        "  seeds: {{from: 3, count: 2}}\n{BASE}  variants:
  - name: default
  - {{name: slow, set: {{trace.scale: 0.5}}}}
  faults:
  - {{at: 10s, apply: [{{apiVersion: rehearsal.dev/v1, kind: NodeChaos, metadata: {{name: f}}, \
         spec: {{action: power-off, mode: one, selector: {{pool: web}}, duration: 1m}}}}]}}
  report: [nodes_empty]\n"
    ));
    let read = load("read", &text, &ExperimentOptions::default()).unwrap();
    assert_eq!(
        (read.seeds.as_slice(), read.variants.len()),
        ([3, 4].as_slice(), 2)
    );
    let scales = read.variants.iter().map(|variant| match &variant.plan {
        Plan::Trace(plan) => (plan.arrivals, plan.faults.len(), plan.trace.pods.len()),
        Plan::Cluster(_) => panic!("runs over a trace"),
    });
    let jitter = Duration::from_secs(5);
    let recorded = |scale| Arrivals::Recorded { scale, jitter };
    let expected = [(recorded(2.0), 1, 2), (recorded(0.5), 1, 2)];
    assert_eq!(scales.collect::<Vec<_>>(), expected);
}

#[test]
fn a_sweep_makes_a_variant_of_each_value() {
    let text = experiment(&format!("  seeds: [1]\n{BASE}  variants: [{{name: x}}]\n"));
    let options = ExperimentOptions {
        sweep: Some(("trace.scale".into(), vec!["1".into(), "1.5".into()])),
        ..ExperimentOptions::default()
    };
    let read = load("sweep", &text, &options).unwrap();
    let names: Vec<&str> = read.variants.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["scale=1", "scale=1.5"]);
}

/// The first lines of all messages.
fn told(name: &str, text: &str) -> Vec<String> {
    let told = load(name, text, &ExperimentOptions::default()).unwrap_err();
    let lines = told.lines().filter(|line| line.starts_with("error"));
    lines.map(str::to_owned).collect()
}

#[test]
fn problems_have_their_place() {
    let scheduler = |profile: &str| {
        format!(
            "  seeds: [1]\n{BASE}  variants:\n  - name: a\n    scheduler:\n      \
             apiVersion: kubescheduler.config.k8s.io/v1\n      \
             kind: KubeSchedulerConfiguration\n      profiles:\n{profile}"
        )
    };
    let table = [
        (
            "duplicate",
            format!("  seeds: [1]\n{BASE}  variants: [{{name: a}}, {{name: a}}]\n"),
            "Duplicate value: \"a\"",
        ),
        (
            "seeds",
            format!("  seeds: [1, 1]\n{BASE}  variants: [{{name: a}}]\n"),
            "Duplicate value: 1",
        ),
        (
            "none",
            format!("  seeds: [1]\n{BASE}  variants: []\n"),
            "must have at least one variant",
        ),
        (
            "field",
            format!("  seeds: [1]\n{BASE}  variants: [{{name: a, shed: 1}}]\n"),
            "unknown field",
        ),
        (
            "plugin",
            scheduler("      - plugins: {score: {enabled: [{name: NodeResourceFit}]}}\n"),
            "plugin \"NodeResourceFit\" does not exist",
        ),
        (
            "argument",
            scheduler("      - pluginConfig: [{name: GpuShare, args: {gpuSelMethode: best}}]\n"),
            "unknown field `gpuSelMethode`",
        ),
        (
            "weight",
            scheduler("      - plugins: {score: {enabled: [{name: FGDScore, weight: -1}]}}\n"),
            "Invalid value: -1: must not be negative",
        ),
        (
            "profile",
            scheduler("      - {schedulerName: a}\n      - {percentageOfNodesToScore: 5}\n"),
            "profiles[1].schedulerName: Required value",
        ),
        (
            "trace",
            format!(
                "  seeds: [1]\n{}  variants: [{{name: a}}]\n",
                BASE.replace("pods.csv", "none.csv")
            ),
            "none.csv: cannot be read",
        ),
        (
            "generator",
            format!(
                "  seeds: [1]\n{}  variants: [{{name: a}}]\n",
                BASE.replace("scale: 2.0, jitter: 5s", "generator: own")
            ),
            "only a load is drawn; set load too",
        ),
    ];
    for (name, spec, expected) in table {
        let told = told(name, &experiment(&spec));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(expected), "{told:?}");
    }
}

#[test]
fn a_problem_of_the_scheduler_points_at_its_field() {
    let spec = format!(
        "  seeds: [1]\n{BASE}  variants:\n  - name: a\n    scheduler:\n      \
         apiVersion: kubescheduler.config.k8s.io/v1\n      kind: KubeSchedulerConfiguration\n      \
         profiles:\n      - plugins:\n          score:\n            enabled:\n            \
         - {{name: FGDScore, weight: -1}}\n"
    );
    let told = load("place", &experiment(&spec), &ExperimentOptions::default()).unwrap_err();
    assert!(told.contains("e.yaml:18:40"), "{told}");
}
