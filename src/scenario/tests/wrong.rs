//! What is wrong is told with its place, and with what to do.

use super::{Folder, with_web};
use crate::scenario::LoadOptions;

/// Loads a scenario with these lines added to its spec; every line of `expected` must be in the
/// messages, in this order.
fn check(spec: &str, expected: &[&str]) {
    let folder = Folder::new(&[("s.yaml", &with_web(spec))]);
    check_folder(&folder, expected, spec);
}

fn check_folder(folder: &Folder, expected: &[&str], what: &str) {
    let text = match folder.load("s.yaml", &LoadOptions::default()) {
        Ok(_) => panic!("it loads: {what}"),
        Err(text) => text,
    };
    let mut rest = text.as_str();
    for line in expected {
        match rest.split_once(line) {
            Some((_, after)) => rest = after,
            None => panic!("missing {line:?} in\n{text}"),
        }
    }
}

#[test]
fn an_unknown_field_is_shown_with_the_nearest_one() {
    check(
        "  resource: [a.yaml]\n",
        &[
            "error: spec.resource: unknown field",
            "s.yaml:9:3",
            "9 |   resource: [a.yaml]",
            "hint: did you mean \"resources\"?",
        ],
    );
    check(
        "  timeline: [{at: 1m, kubetcl: get pods}]\n",
        &[
            "must hold one of kubectl and apply",
            "spec.timeline[0].kubetcl: unknown field",
            "did you mean \"kubectl\"?",
        ],
    );
}

#[test]
fn all_problems_are_told_at_once() {
    check(
        "  seed: x\n  namespace: 3\n  resources: [missing.yaml]\n",
        &[
            "spec.seed: Invalid value: \"x\": must be a whole number, not a string",
            "spec.namespace: Invalid value: 3: must be a string, not an integer",
            "hint: put it in quotes",
            "missing.yaml: no such file or folder",
            "s.yaml:11:15",
        ],
    );
}

#[test]
fn times_and_names_are_checked() {
    check(
        "  timeline: [{at: 90, kubectl: uncordon main-0}]\n",
        &[
            "spec.timeline[0].at: Invalid value: 90: must be a duration",
            "hint: a unit is missing: write 90s or 90m",
        ],
    );
    check(
        "  timeline: [{at: 11m, kubectl: uncordon main-0}]\n",
        &["must not be after the end of the run"],
    );
    check(
        "  expect: [{name: a, always: 'true'}, {name: a, never: 'false'}]\n",
        &["the name \"a\" is taken"],
    );
    check(
        "  expect: [{name: a, always: 'true', within: 5m}]\n",
        &[
            "belongs to `eventually`",
            "hint: `from` and `until` say when it holds",
        ],
    );
}

#[test]
fn references_that_lead_nowhere_name_the_nearest() {
    check(
        "  expect: [{eventually: \"deployment('wev').status.x == 1\"}]\n",
        &[
            "deployment(…): there is no Deployment default/wev",
            "s.yaml:9:25",
            "hint: did you mean \"web\"?",
        ],
    );
    check(
        "  expect: [{wait: {for: delete, resource: service/webb}}]\n",
        &["there is no Service default/webb", "did you mean \"web\"?"],
    );
    check(
        "  replicas: [{name: wbe, count: 3}]\n",
        &[
            "spec.replicas[0].name: matches no Deployment, StatefulSet or ReplicaSet wbe",
            "did you mean \"web\"?",
        ],
    );
    check(
        "  patches: [{target: {kind: Deployment, name: other}, patch: '{}'}]\n",
        &[
            "spec.patches[0].target: matches no Deployment other",
            "hint: there are: web",
        ],
    );
    check(
        "  timeline: [{at: 1m, kubectl: set image deployment/web sever=web:2}]\n",
        &[
            "kubectl: unable to find container named \"sever\"",
            "did you mean \"server\"?",
        ],
    );
    check(
        "  timeline: [{at: 1m, kubectl: cordon main-3}]\n",
        &["kubectl: there is no Node main-3"],
    );
}

#[test]
fn claims_that_controllers_make_can_be_named() {
    let volume = "{name: cache, ephemeral: {volumeClaimTemplate: {spec: {accessModes: \
                  [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}}}";
    let pods = format!("{{containers: [{{name: main, image: i}}], volumes: [{volume}]}}");
    let objects = format!(
        "apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: db}}
spec:
  replicas: 2
  ordinals: {{start: 3}}
  serviceName: db
  selector: {{matchLabels: {{app: db}}}}
  template: {{metadata: {{labels: {{app: db}}}}, spec: {pods}}}
  volumeClaimTemplates:
  - metadata: {{name: data}}
    spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: alone}}
spec: {pods}
---
apiVersion: v1
kind: Pod
metadata: {{generateName: one-}}
spec: {pods}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: great}}
spec:
  replicas: 2147483647
  ordinals: {{start: 2147483600}}
  serviceName: db
  selector: {{matchLabels: {{app: great}}}}
  template: {{metadata: {{labels: {{app: great}}}}, spec: {pods}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: api}}
spec:
  selector: {{matchLabels: {{app: api}}}}
  template: {{metadata: {{labels: {{app: api}}}}, spec: {pods}}}
"
    );
    let load = |claim: &str| {
        let spec = format!("  expect: [{{wait: {{for: create, resource: pvc/{claim}}}}}]\n");
        let text = format!("{}\n---\n{objects}", with_web(&spec).trim_end());
        let folder = Folder::new(&[("s.yaml", &text)]);
        let loaded = folder.load("s.yaml", &LoadOptions::default());
        loaded.map_or_else(|text| text, |_| "fine".to_owned())
    };
    // It begins with 3 and 4, and may come to have more.
    for claim in [
        "data-db-3",
        "data-db-17",
        "db-3-cache",
        "alone-cache",
        "api-7d4f-x-cache",
        "one-k2x9p-cache",
        "great-2147483640-cache",
    ] {
        assert_eq!(load(claim), "fine", "{claim}");
    }
    for (claim, nearest) in [
        ("date-db-3", "data-db-3"),
        ("data-db-x", "data-db-3"),
        ("data-db-03", "data-db-3"),
        ("alone-cash", "alone-cache"),
        ("other/data-db-3", "default/data-db-3"),
    ] {
        let told = load(claim);
        assert!(told.contains("there is no PersistentVolumeClaim"), "{told}");
        assert!(told.contains(nearest), "{claim}: {told}");
    }
}

#[test]
fn a_command_line_is_parsed_when_the_scenario_loads() {
    check(
        "  timeline: [{at: 1m, kubectl: scale deployment/web --replcas=3}]\n",
        &["s.yaml:9:53"],
    );
    check(
        "  timeline: [{at: 1m, kubectl: exec web -- sh}]\n",
        &["kubectl exec is not a verb of timelines"],
    );
}

#[test]
fn clusters_are_checked() {
    check("  flags: {}\n", &["spec.flags: unknown field"]);
    let folder = Folder::new(&[(
        "s.yaml",
        "\
apiVersion: rehearsal.dev/v1
kind: Scenario
metadata: {name: t}
spec:
  duration: 1m
  cluster:
    nodePools:
    - {name: a, count: 2, capacity: {cpu: 4 cores}, taints: ['x:Never']}
    - {name: a, count: -1, capacity: {cpu: '4', memory: 1Gi}, reserved: {cpu: '5'}}
    flags: {kube-controller-manager: {node-monitor-grace-perid: 1m}, kubelt: {}}
",
    )]);
    check_folder(
        &folder,
        &[
            "spec.cluster.nodePools[0].capacity.cpu: Invalid value: \"4 cores\"",
            "spec.cluster.nodePools[0].capacity.memory: Required value",
            "must be a taint",
            "spec.cluster.nodePools[1].count: Invalid value: -1: must not be negative",
            "spec.cluster.nodePools[1].reserved: Invalid value: a map: must not be more than",
            "Duplicate value: \"a\"",
            "node-monitor-grace-perid: unknown flag",
            "did you mean \"node-monitor-grace-period\"?",
            "spec.cluster.flags.kubelt: unknown component",
            "did you mean \"kubelet\"?",
        ],
        "cluster",
    );
}

#[test]
fn a_scenario_needs_a_name_a_duration_and_a_cluster() {
    let text = "apiVersion: rehearsal.dev/v1\nkind: Scenario\nspec: {seed: 1}\n";
    let folder = Folder::new(&[("s.yaml", text)]);
    let expected = [
        "metadata: Required value",
        "spec.duration: Required value",
        "spec.cluster: Required value",
    ];
    check_folder(&folder, &expected, text);
}

#[test]
fn applications_and_traffic_are_checked_against_the_objects() {
    let text = with_web("")
        + "\
---
apiVersion: rehearsal.dev/v1
kind: AppModel
metadata: {name: web}
spec:
  selector: {matchLabels: {app: weeb}}
  startup: {lognormal: {p50: 9s, p99: 4s}}
  request: {calls: [{service: api, timeout: 1s}]}
  probes: {share: dedicated, readinessCalls: true}
---
apiVersion: rehearsal.dev/v1
kind: Traffic
metadata: {name: users}
spec:
  to: service/web:81
  executor: ramping-vus
  thresholds: {http_req_fialed: ['rate<1']}
";
    let folder = Folder::new(&[("s.yaml", &text)]);
    let expected = [
        "spec.startup: Invalid value: a map: p99 is shorter than p50",
        "spec.probes.readinessCalls: Invalid value: true: has no effect with `share: dedicated`",
        "spec.executor: Invalid value: \"ramping-vus\": this executor is not modelled",
        "spec.thresholds.http_req_fialed",
        "did you mean \"http_req_failed\"?",
        "spec.selector: Invalid value: a map: matches no pod template",
        "cause: label app is weeb nowhere",
        "did you mean \"web\"?",
        "spec.request.calls[0].service: there is no Service default/api",
    ];
    check_folder(&folder, &expected, &text);
    let text = text.replace("ramping-vus", "constant-vus\n  vus: 3");
    let folder = Folder::new(&[("s.yaml", &text)]);
    check_folder(
        &folder,
        &["Service web has no port 81", "its ports are: 80 (http)"],
        &text,
    );
}

#[test]
fn objects_are_refused_in_the_api_servers_words() {
    let folder = Folder::new(&[
        ("s.yaml", &with_web("  resources: [bad]\n")),
        (
            "bad/a.yaml",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: A}\n",
        ),
        ("bad/values.yaml", "image: {tag: 1}\n"),
        ("bad/notes.txt", "not: [yaml"),
    ]);
    let expected = [
        "metadata.name: Invalid value: \"A\": a lowercase RFC 1123",
        "bad/a.yaml:3:18",
        "in Secret A",
    ];
    check_folder(&folder, &expected, "bad/");
}

#[test]
fn a_file_without_a_scenario_says_what_to_do() {
    let folder = Folder::new(&[(
        "s.yaml",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n",
    )]);
    check_folder(
        &folder,
        &[
            "s.yaml holds no Scenario",
            "hint: run a scenario on these manifests",
        ],
        "",
    );
}

#[test]
fn a_wrong_scheduler_configuration_is_told_with_its_place() {
    let config = |rest: &str| {
        format!(
            "    scheduler:\n      apiVersion: kubescheduler.config.k8s.io/v1\n      \
             kind: KubeSchedulerConfiguration\n      {rest}\n"
        )
    };
    let table = [
        (
            "profiles: [{schedulerName: a, plugins: {score: {enabled: [{name: Nope}]}}}]",
            "spec.cluster.scheduler.profiles[0].plugins.score.enabled[0]",
        ),
        (
            "profiles: [{schedulerName: a, plugins: {score: {enabled: \
             [{name: ImageLocality, weight: -1}]}}}]",
            "must not be negative",
        ),
        (
            "extenders: [{urlPrefix: 'http://x'}]",
            "spec.cluster.scheduler.extenders[0]: scheduler extenders are not modelled: \"http://x\"",
        ),
    ];
    for (rest, message) in table {
        check(&config(rest), &["error: ", message, "s.yaml:12:"]);
    }
}
