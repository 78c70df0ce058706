//! `rehearsal explain --pod`: one scheduling cycle on the snapshot of a cluster, the last cycle of a
//! pod of a recorded run, and what would make a pod fit.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::program::text;

use serde_json::{Value, json};

fn explain(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rehearsal"))
        .arg("explain")
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("the binary runs")
}

fn scratch(name: &str, content: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("explain");
    std::fs::create_dir_all(&dir).expect("a scratch folder");
    let path = dir.join(name);
    std::fs::write(&path, content).expect("a scratch file");
    path
}

/// A node of 4 cpu and 8Gi; `more` is further fields of its spec.
fn node(name: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{kubernetes.io/hostname: \
         {name}}}}}\nspec: {{{more}}}\nstatus:\n  allocatable: {{cpu: \"4\", memory: 8Gi, pods: \
         \"110\"}}\n  capacity: {{cpu: \"4\", memory: 8Gi, pods: \"110\"}}\n---\n"
    )
}

/// A pod with one container; `more` is further fields of its spec.
fn pod(name: &str, cpu: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  \
         {more}\n  containers: [{{name: c, image: x, resources: {{requests: {{cpu: {cpu}, memory: \
         1Gi}}}}}}]\n---\n"
    )
}

/// n1 with 500m free, n2 empty, n3 tainted.
fn cluster() -> String {
    [
        node("n1", ""),
        node("n2", ""),
        node("n3", "taints: [{key: gpu, effect: NoSchedule}]"),
        pod("big", "3500m", "nodeName: n1"),
        pod("web-1", "1", "priority: 0"),
        pod("huge", "5", "priority: 0"),
        pod("ssd", "1", "nodeSelector: {disk: ssd}"),
    ]
    .concat()
}

fn answer(pod: &str, content: &str) -> Value {
    let file = scratch(&format!("{pod}.yaml"), content);
    let output = explain(&["--pod", pod, file.to_str().expect("UTF-8"), "--json"]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    serde_json::from_slice(&output.stdout).expect("one object")
}

#[test]
fn a_snapshot_gives_verdicts_scores_and_the_choice() {
    let got = answer("web-1", &cluster());
    assert_eq!(got["pod"], "default/web-1");
    assert_eq!(got["feasible"], json!(["n2"]));
    let short = json!({"plugin": "NodeResourcesFit", "code": "Unschedulable",
                       "reasons": ["Insufficient cpu"]});
    assert_eq!(got["rejected"]["n1"], short);
    assert_eq!(got["rejected"]["n3"]["plugin"], "TaintToleration");
    // LeastAllocated: cpu (4-1)/4 = 75, memory (8-1)/8 = 87; (75+87)/2 = 81.
    let fit = json!({"raw": 81, "normalized": 81, "weight": 1, "weighted": 81});
    assert_eq!(got["scores"]["n2"]["NodeResourcesFit"], fit);
    let taints = json!({"raw": 0, "normalized": 100, "weight": 3, "weighted": 300});
    assert_eq!(got["scores"]["n2"]["TaintToleration"], taints);
    let scores = got["scores"]["n2"].as_object().expect("scores");
    let sum: i64 = scores.values().filter_map(|s| s["weighted"].as_i64()).sum();
    assert_eq!(scores["total"], sum);
    assert_eq!(got["selected"], json!(["n2"]));
    assert!(got.get("remedies").is_none());
}

#[test]
fn what_would_make_it_fit_was_tried() {
    let remedies = |pod| answer(pod, &cluster())["remedies"].clone();
    let huge = remedies("huge");
    let told = |node: &str, changes: &[&str]| json!({"node": node, "changes": changes});
    // 4 free on n2; 4 - 3.5 on n1; more than any node has, so that one more would not help.
    let expected = [
        told("n2", &["request cpu 4 instead of 5 in container c"]),
        told("n1", &["request cpu 500m instead of 5 in container c"]),
        told(
            "n3",
            &[
                "tolerate gpu:NoSchedule",
                "request cpu 4 instead of 5 in container c",
            ],
        ),
    ];
    assert_eq!(huge, json!(expected));
    let label = told("n2", &["label n2 with disk=ssd"]);
    assert_eq!(remedies("ssd")[0], label);
    let rule = "initContainers: [{name: i, image: x, restartPolicy: Never, restartPolicyRules: \
                [{action: RestartAllContainers, exitCodes: {operator: In, values: [1]}}]}]";
    let needs = [node("n1", ""), pod("new", "1", rule)].concat();
    let change = "have a kubelet on n1 that declares RestartAllContainersOnContainerExits";
    let got = answer("new", &needs);
    assert_eq!(got["remedies"], json!([told("n1", &[change])]));
    assert_eq!(got["rejected"]["n1"]["plugin"], "NodeDeclaredFeatures");
    let full = [
        node("n1", ""),
        pod("big", "3500m", "nodeName: n1"),
        pod("new", "1", ""),
    ]
    .concat();
    let got = answer("new", &full);
    let one_more = told("", &["one more node like n1"]);
    assert!(
        got["remedies"]
            .as_array()
            .expect("a list")
            .contains(&one_more),
        "{got}"
    );
}

#[test]
fn preemption_names_node_and_victims() {
    let content = [
        node("n1", ""),
        pod("low", "3500m", "{nodeName: n1, priority: 1}").replace(
            "  {nodeName: n1, priority: 1}",
            "  nodeName: n1\n  priority: 1",
        ),
        pod("high", "1", "priority: 100"),
    ]
    .concat();
    let got = answer("high", &content);
    assert_eq!(
        got["preemption"],
        json!({"nominated": "n1", "victims": ["default/low"]})
    );
    let message = got["message"].as_str().expect("a message");
    assert!(
        message.starts_with("0/1 nodes are available: 1 Insufficient cpu."),
        "{message}"
    );
}

#[test]
fn another_scheduler_configuration_is_another_choice() {
    let cluster = [
        node("n1", ""),
        node("n2", ""),
        pod("there", "2", "nodeName: n1"),
        pod("new", "1", "priority: 0"),
    ]
    .concat();
    let file = scratch("packed.yaml", &cluster);
    let config = scratch(
        "most-allocated.yaml",
        "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n\
         - schedulerName: default-scheduler\n  pluginConfig:\n  - name: NodeResourcesFit\n    args: \
         {scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 1}]}}\n  plugins:\n\
         \x20   score: {disabled: [{name: NodeResourcesBalancedAllocation}]}\n",
    );
    let (file, config) = (
        file.to_str().expect("UTF-8"),
        config.to_str().expect("UTF-8"),
    );
    let chosen = |more: &[&str]| {
        let all = [&["--pod", "new", file, "--json"], more].concat();
        let output = explain(&all);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{error}");
        let got: Value = serde_json::from_slice(&output.stdout).expect("one object");
        got["selected"].clone()
    };
    assert_eq!(chosen(&[]), json!(["n2"]));
    assert_eq!(chosen(&["--scheduler-config", config]), json!(["n1"]));
}

#[test]
fn people_get_a_table_and_the_reason_for_the_other_node() {
    let file = scratch(
        "people.yaml",
        &[
            node("n1", ""),
            cluster()
                .replace("name: n1", "name: n0")
                .replace("hostname: n1", "hostname: n0")
                .replace("nodeName: n1", "nodeName: n0"),
        ]
        .concat(),
    );
    let output = explain(&["--pod", "big", file.to_str().expect("UTF-8")]);
    let shown = text(&output.stdout);
    assert!(
        shown.starts_with(
            "scheduling of default/big: 3 of 4 nodes fit  (asks cpu 3500m, memory 1Gi)\n"
        ),
        "{shown}"
    );
    assert!(
        shown.contains("it is on n0, one of 3 with the same total"),
        "{shown}"
    );
    assert!(
        shown.contains("no  TaintToleration: node(s) had untolerated taint(s)   n3"),
        "{shown}"
    );
}

#[test]
fn a_pod_of_a_recorded_run_is_explained_as_it_was_scheduled() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("explain-run");
    let dir = dir.to_str().expect("UTF-8");
    let run = Command::new(env!("CARGO_BIN_EXE_rehearsal"))
        .args([
            "run",
            "scenarios/self-healing.yaml",
            "--out",
            dir,
            "--quiet",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("the binary runs");
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let output = explain(&[dir, "--pod", "web-", "--json"]);
    let lines = text(&output.stdout);
    assert!(lines.lines().count() >= 7, "{lines}");
    for line in lines.lines() {
        let pod: Value = serde_json::from_str(line).expect("an object a line");
        let cycle = &pod["scheduling"];
        assert_eq!(cycle["pod"], pod["pod"]);
        // Where it went is among the best, at a time between creation and binding.
        let selected = cycle["selected"].as_array().expect("a list");
        assert!(selected.contains(&pod["node"]), "{line}");
        let at = |n: usize| {
            pod["milestones"].as_array().and_then(|m| {
                let named = |what: &str| m.iter().find(|x| x["what"] == what);
                named(["created", "scheduled"][n])?["at_s"].as_f64()
            })
        };
        let when = cycle["at_s"].as_f64().expect("a time");
        assert!(at(0) <= Some(when) && Some(when) <= at(1), "{line}");
    }
}

#[test]
fn bad_questions_are_exit_code_2_with_a_hint() {
    let file = scratch("bad.yaml", &cluster());
    let twice = scratch("twice.yaml", &[cluster(), node("n1", "")].concat());
    let typo = scratch(
        "typo.yaml",
        "kind: KubeSchedulerConfiguration\napiVersion: kubescheduler.config.k8s.io/v1\nprofils: []\n",
    );
    let (file, twice, typo) = (
        file.to_str().expect("UTF-8"),
        twice.to_str().expect("UTF-8"),
        typo.to_str().expect("UTF-8"),
    );
    let cases: [(&[&str], &str); 6] = [
        (&["--pod", "web-2", file], "did you mean default/web-1?"),
        (&["--pod", "web-1", "nowhere.yaml"], "nowhere.yaml"),
        (&["--pod", "web-1", twice], "a second Node is called n1"),
        (
            &["--pod", "web-1", "scenarios/self-healing.yaml"],
            "scenarios/self-healing.yaml:",
        ),
        (
            &["--pod", "web-1", file, "--scheduler-config", typo],
            "typo.yaml:1:1",
        ),
        (&["--at", "1m", "scenarios"], "is no results folder"),
    ];
    for (arguments, expected) in cases {
        let output = explain(arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(expected), "{arguments:?}: {error}");
        assert!(error.starts_with("error"), "{arguments:?}: {error}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_pod_with_resource_claims_is_explained_with_a_warning() {
    let claims = "resourceClaims: [{name: gpu, resourceClaimName: g}]";
    let file = scratch(
        "claims.yaml",
        &[node("n1", ""), pod("p", "1", claims)].concat(),
    );
    let output = explain(&["--pod", "p", file.to_str().expect("UTF-8")]);
    let told = text(&output.stderr);
    let why = "DynamicResources is not modelled: nodes are judged as if the pod had no claims";
    let line = format!("warning: spec.resourceClaims: {why}\n");
    assert!(told.starts_with(&line), "{told}");
    assert!(text(&output.stdout).starts_with("scheduling of default/p: 1 of 1 nodes fit"));
    assert!(output.status.success());
}
