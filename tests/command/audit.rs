//! `rehearsal audit`: what it says of manifests is what its scenarios show, and what it suggests helps.

use std::path::PathBuf;
use std::process::Command;

use super::program::{folder, rehearsal, text};

/// A Deployment that stops slowly, and its Service.
fn app(name: &str, replicas: u32, more: &str) -> String {
    format!(
        "\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
      - name: {name}
        image: {name}:1
        ports: [{{containerPort: 8080}}]
        readinessProbe: {{tcpSocket: {{port: 8080}}}}
{more}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: {name}}}, ports: [{{port: 80, targetPort: 8080}}]}}
---
"
    )
}

const LINGERS: &str = "        lifecycle: {preStop: {sleep: {seconds: 10}}}";

/// Three pods of which a budget lets none go.
const BUDGET: &str = "\
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: api}
spec: {minAvailable: 3, selector: {matchLabels: {app: api}}}
";

fn manifests(name: &str) -> PathBuf {
    let folder = folder(name);
    let all = app("web", 1, LINGERS) + &app("api", 3, LINGERS) + &app("hasty", 2, "") + BUDGET;
    std::fs::write(folder.join("all.yaml"), all).expect("a file");
    let kustomization = "resources: [all.yaml]\n";
    std::fs::write(folder.join("kustomization.yaml"), kustomization).expect("a file");
    folder
}

/// The outcome of a workload in a trial of the audit as JSON.
fn outcome<'a>(
    audit: &'a serde_json::Value,
    workload: &str,
    when: &str,
    trial: &str,
) -> &'a serde_json::Value {
    let at = |list: &str, name: &str| {
        let list = audit[list].as_array().expect("a list");
        list.iter()
            .position(|one| one["name"] == name)
            .expect("it is there")
    };
    &audit["subjects"][at("subjects", workload)][when][at("trials", trial)]
}

/// The subject, rule and whether it is gone of each finding that counts.
fn findings(audit: &serde_json::Value) -> Vec<String> {
    let all = audit["findings"].as_array().expect("a list").iter();
    let mut lines: Vec<String> = all
        .filter(|finding| finding["inherent"] == false)
        .map(|finding| {
            let subject = finding["subject"].as_u64().expect("a number") as usize;
            let name = &audit["subjects"][subject]["name"];
            let word = if finding["gone"] == true {
                "gone"
            } else {
                "left"
            };
            format!(
                "{} {} {word}",
                name.as_str().expect("a name"),
                finding["rule"]
            )
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn each_workload_is_told_what_is_wrong_with_it_and_the_fixes_are_tried() {
    let folder = manifests("audit");
    let out = folder.join("out");
    let (dir, out) = (folder.display().to_string(), out.display().to_string());
    let only = "drain,rollout,node-loss";
    let arguments = ["audit", &dir, "--only", only, "--out", &out, "--json"];
    let one = rehearsal(&[&arguments[..], &["--threads", "1"]].concat());
    let two = rehearsal(&[&arguments[..], &["--threads", "2"]].concat());
    assert_eq!(
        text(&one.stdout),
        text(&two.stdout),
        "whatever the number of threads"
    );
    assert_eq!(one.status.code(), Some(1), "{}", text(&one.stderr));
    let audit: serde_json::Value = serde_json::from_slice(&one.stdout).expect("JSON");
    // One pod: its node is lost, or drained. Two that stop at once: a tenth of a second of requests
    // each time. Three that a budget keeps: the drain gives up. Those with a second pod lose
    // requests when a node is lost, which no manifest prevents.
    assert_eq!(
        findings(&audit),
        [
            "api \"budget-blocks-drain\" gone",
            "hasty \"sigterm-race\" gone",
            "web \"one-replica\" gone",
        ]
    );
    // Noticed after 50 s, replaced after 300 s more, started after some seconds.
    let down = outcome(&audit, "web", "outcomes", "node-loss");
    let seconds = down["downS"].as_f64().expect("a number");
    assert!((340.0..380.0).contains(&seconds), "{down}");
    // The second pod answers: a half of the requests until the node is NotReady.
    let fixed = outcome(&audit, "web", "fixed", "node-loss");
    assert_eq!(fixed["grade"], "failing");
    let (failed, ended) = (fixed["failed"].as_u64(), fixed["ended"].as_u64());
    assert!(
        failed.expect("a number") * 20 < ended.expect("a number"),
        "{fixed}"
    );
    // What is told is what its scenario does.
    let run = down["run"].as_str().expect("a node");
    let scenario = format!("{out}/scenarios/node-loss-{run}.yaml");
    let again = rehearsal(&["run", &scenario, "--no-out"]);
    let story = text(&again.stdout);
    let line = format!("✖ node {run} (zone ");
    assert!(
        story.contains(&line) && story.contains("web"),
        "{story}{}",
        text(&again.stderr)
    );
    // And the kustomization with the fixes holds them.
    let fixed = rehearsal(&[
        "audit",
        &format!("{out}/fixes"),
        "--only",
        only,
        "--no-fixes",
    ]);
    assert_eq!(
        fixed.status.code(),
        Some(0),
        "{}{}",
        text(&fixed.stdout),
        text(&fixed.stderr)
    );
    assert!(text(&fixed.stdout).ends_with("No findings for 3 workloads.\n"));
    drop(std::fs::remove_dir_all(&folder));
}

#[test]
fn a_bad_image_takes_pods_away_where_the_strategy_lets_it() {
    let folder = folder("audit-image");
    let strategy = |kind: &str| app(kind, 4, LINGERS);
    let recreate = strategy("recreate").replace(
        "  replicas: 4",
        "  replicas: 4\n  strategy: {type: Recreate}",
    );
    std::fs::write(folder.join("all.yaml"), strategy("rolling") + &recreate).expect("a file");
    let dir = folder.display().to_string();
    let junit = folder.join("audit.xml").display().to_string();
    let markdown = folder.join("audit.md").display().to_string();
    let done = rehearsal(&[
        "audit",
        &dir,
        "--only",
        "bad-image",
        "--junit",
        &junit,
        "--markdown",
        &markdown,
    ]);
    assert_eq!(done.status.code(), Some(1), "{}", text(&done.stderr));
    // 25 % of four may be unavailable: three go on. Recreate stops all and starts none.
    let told = text(&done.stdout);
    for line in [
        "deployment/rolling   ok    3 left",
        "deployment/recreate  ok    down 5:50",
        "✖ update strategy, 2 workloads: its update strategy takes pods away before new ones are ready",
        "gone: bad image ok   recreate-deployment.yaml",
        "2 findings for 2 of 2 workloads; 2 with a fix, of which 2 gone when it was tried.",
    ] {
        assert!(told.contains(line), "{line:?} in\n{told}");
    }
    let junit = std::fs::read_to_string(&junit).expect("a file");
    assert!(
        junit.contains("<testsuite name=\"audit bad image\" tests=\"2\" failures=\"2\""),
        "{junit}"
    );
    let markdown = std::fs::read_to_string(&markdown).expect("a file");
    assert!(
        markdown.contains("| `deployment/rolling` | ok | 3 left |"),
        "{markdown}"
    );
    drop(std::fs::remove_dir_all(&folder));
}

#[test]
fn a_rollout_that_waits_for_its_own_pods_is_told_to_let_one_go() {
    let folder = folder("audit-apart");
    let apart = app("apart", 3, LINGERS).replace(
        "      containers:\n",
        "      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - topologyKey: topology.kubernetes.io/zone
            labelSelector: {matchLabels: {app: apart}}
      containers:\n",
    );
    std::fs::write(folder.join("all.yaml"), apart).expect("a file");
    let done = rehearsal(&["audit", &folder.display().to_string(), "--only", "rollout"]);
    let told = text(&done.stdout);
    assert_eq!(done.status.code(), Some(1), "{}", text(&done.stderr));
    // Three zones, three pods, a surge of one and none that may be missing.
    for line in [
        "deployment/apart  ok    blocked",
        "rollout never ends: a new pod has no place while the old ones run",
        "(FailedScheduling: 0/6 nodes are available: 6 node(s) didn't match pod",
        "tried: gone: rollout ok   apart-deployment.yaml",
    ] {
        assert!(told.contains(line), "{line:?} in\n{told}");
    }
    drop(std::fs::remove_dir_all(&folder));
}

#[test]
fn models_and_traffic_among_the_manifests_are_the_load() {
    let folder = folder("audit-own");
    // 10 requests/s of 40 ms are 0.4 CPU of the 0.5 that there are; twice as many are too much.
    let limit = "        resources: {requests: {cpu: 500m}, limits: {cpu: 500m}}";
    let own = "\
apiVersion: rehearsal.dev/v1
kind: AppModel
metadata: {name: web}
spec: {selector: {matchLabels: {app: web}}, request: {cpu: 40ms}}
---
apiVersion: rehearsal.dev/v1
kind: Traffic
metadata: {name: users}
spec: {to: service/web, executor: constant-arrival-rate, rate: 10, duration: 1h}
";
    std::fs::write(folder.join("all.yaml"), app("web", 1, limit) + own).expect("a file");
    let dir = folder.display().to_string();
    let arguments = [
        "audit",
        &dir,
        "--only",
        "double-load",
        "--no-fixes",
        "--json",
    ];
    let done = rehearsal(&arguments);
    assert_eq!(done.status.code(), Some(1), "{}", text(&done.stderr));
    let audit: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!(audit["load"], "the Traffics among the manifests");
    assert_eq!(findings(&audit), ["web \"overload\" left"]);
    // Three minutes of 10 a second, and eight of 20, are judged.
    for (trial, expected) in [("calm", 1_800), ("double-load", 9_600)] {
        let ended = outcome(&audit, "web", "outcomes", trial)["ended"].as_u64();
        let ended = ended.expect("a number");
        assert!(
            (expected - 100..expected + 100).contains(&ended),
            "{trial}: {ended}"
        );
    }
    drop(std::fs::remove_dir_all(&folder));
}

#[test]
fn an_autoscaler_of_an_older_version_is_patched_as_well() {
    let folder = folder("audit-version");
    let hpa = "\
apiVersion: autoscaling/v1
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 1
  maxReplicas: 3
  targetCPUUtilizationPercentage: 80
";
    std::fs::write(folder.join("all.yaml"), app("web", 1, LINGERS) + hpa).expect("a file");
    let out = folder.join("out").display().to_string();
    let dir = folder.join("all.yaml").display().to_string();
    let done = rehearsal(&[
        "audit",
        &dir,
        "--only",
        "node-loss",
        "--json",
        "--out",
        &out,
    ]);
    let audit: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!(audit["notTried"], "");
    assert_eq!(findings(&audit), ["web \"one-replica\" gone"]);
    let patch = std::fs::read_to_string(format!("{out}/fixes/web-horizontalpodautoscaler.yaml"));
    assert!(patch.expect("a file").contains("minReplicas: 2"));
    drop(std::fs::remove_dir_all(&folder));
}

#[test]
fn manifests_from_the_standard_input_are_kept_beside_their_scenarios() {
    let folder = folder("audit-stdin");
    let out = folder.join("out").display().to_string();
    let mut child = Command::new(env!("CARGO_BIN_EXE_rehearsal"))
        .args(["audit", "-", "--only", "calm", "--out", &out])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut input = child.stdin.take().expect("an input");
    let all = app("web", 1, LINGERS);
    std::io::Write::write_all(&mut input, all.as_bytes()).expect("it reads");
    drop(input);
    let done = child.wait_with_output().expect("it ends");
    let told = text(&done.stdout);
    assert_eq!(done.status.code(), Some(0), "{told}");
    assert!(told.contains("No findings for 1 workload.\n"), "{told}");
    let again = rehearsal(&["run", &format!("{out}/scenarios/calm.yaml"), "--no-out"]);
    let story = text(&again.stdout);
    assert!(
        story.contains("10 rps → web (1/1 ready)"),
        "{story}{}",
        text(&again.stderr)
    );
    drop(std::fs::remove_dir_all(&folder));
}

#[test]
fn what_cannot_be_audited_is_refused_and_says_what_to_do() {
    let folder = folder("audit-bad");
    let dir = folder.display().to_string();
    std::fs::write(
        folder.join("map.yaml"),
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n",
    )
    .expect("a file");
    let broken = folder.join("broken.yaml");
    std::fs::write(
        &broken,
        app("web", 1, "").replace("containers:", "contaners:"),
    )
    .expect("a file");
    let broken = broken.display().to_string();
    let map = folder.join("map.yaml").display().to_string();
    for (arguments, said) in [
        (vec!["audit", &map], "nothing to audit"),
        (vec!["audit", &broken], "broken.yaml:10:"),
        (vec!["audit", "nowhere/at/all"], "nowhere/at/all"),
        (
            vec!["audit", &dir, "--only", "flood"],
            "there are: calm, drain, rollout",
        ),
        (vec!["audit", &dir, "--nodes", "0"], "--nodes"),
        (vec!["audit", &map, "--kubernetes-version", "1.2"], "1.2"),
    ] {
        let done = rehearsal(&arguments);
        assert_eq!(done.status.code(), Some(2), "{arguments:?}");
        let error = text(&done.stderr);
        assert!(error.contains(said), "{said:?} in\n{error}");
        assert_eq!(text(&done.stdout), "");
    }
    drop(std::fs::remove_dir_all(&folder));
}

/// A webhook that has to be asked about every pod, its own included.
const WEBHOOK: &str = "\
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: gate}
webhooks:
- name: gate.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  clientConfig: {service: {name: gate, namespace: default, port: 80}}
  rules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
  namespaceSelector: {matchExpressions: [{key: unguarded, operator: DoesNotExist}]}
";

#[test]
fn a_webhook_that_refuses_its_own_pods_is_found_and_left_out_of_its_namespace() {
    let folder = folder("audit-webhook");
    let all = app("gate", 1, "") + WEBHOOK;
    std::fs::write(folder.join("all.yaml"), all).expect("a file");
    let out = folder.join("out");
    let (dir, to) = (folder.display().to_string(), out.display().to_string());
    let only = ["--only", "drain", "--nodes", "3", "--json"];
    let output = rehearsal(&[&["audit", &dir, "--out", &to][..], &only].concat());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let audit: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let drained = outcome(&audit, "gate", "outcomes", "drain");
    assert_eq!(drained["webhook"], "gate.example.com");
    assert_eq!(drained["grade"], "down");
    let found = findings(&audit);
    assert!(
        found.contains(&"gate \"webhook-refuses-pods\" gone".to_owned()),
        "{found:?}"
    );
    assert_eq!(outcome(&audit, "gate", "fixed", "drain")["webhook"], "");
    let patch = out.join("fixes/gate-validatingwebhookconfiguration.yaml");
    let patch = std::fs::read_to_string(patch).expect("the patch is there");
    for line in ["    - key: unguarded\n", "      - default\n"] {
        assert!(patch.contains(line), "{patch}");
    }
}
