//! Tables of what an audit knows before it runs anything, and of what it reads from runs.

use std::path::Path;

use serde_json::json;

use super::advice::merge;
use super::judge::Serving;
use super::plan::{Machines, plan};
use super::survey::{Survey, survey};
use crate::engine::Time;
use crate::scenario::{LoadOptions, load_bytes};

/// A scenario file around these manifests.
fn surveyed(manifests: &str) -> Survey {
    let head = "\
apiVersion: rehearsal.dev/v1
kind: Scenario
metadata: {name: test}
spec:
  duration: 1m
  cluster: {nodePools: [{name: node, count: 1, capacity: {cpu: '4', memory: 16Gi}}]}
---
";
    let text = format!("{head}{manifests}");
    let loaded = load_bytes(
        Path::new("test.yaml"),
        text.as_bytes(),
        &LoadOptions::default(),
    );
    survey(&loaded.expect("good manifests").scenarios[0])
}

fn workload(kind: &str, name: &str, replicas: u32, resources: &str) -> String {
    let more = match kind {
        "StatefulSet" => format!("serviceName: {name}"),
        _ => String::new(),
    };
    let replicas = match kind {
        "DaemonSet" => String::new(),
        _ => format!("replicas: {replicas}"),
    };
    format!(
        "\
apiVersion: apps/v1
kind: {kind}
metadata: {{name: {name}}}
spec:
  {replicas}
  {more}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}, tier: x}}}}
    spec: {{containers: [{{name: c, image: 'c:1', resources: {resources}}}]}}
---
"
    )
}

#[test]
fn the_cluster_is_half_full_with_the_manifests_and_has_whole_zones() {
    let asks =
        |cpu: &str, memory: &str| format!("{{requests: {{cpu: '{cpu}', memory: {memory}}}}}");
    for (replicas, resources, expected) in [
        // Nothing asked for counts as 100m: six nodes are the fewest.
        (1, "{}".to_owned(), "6 nodes (2 CPU, 8Gi) in 3 zones"),
        // 20 x 500m x 2 = 20 cores of 2: ten nodes, in whole threes.
        (20, asks("500m", "1Gi"), "12 nodes (2 CPU, 8Gi) in 3 zones"),
        // A pod is a quarter of its node at most: 3 cores want 12, so 16; 4 x 3 x 2 fit on two.
        (4, asks("3", "1Gi"), "6 nodes (16 CPU, 64Gi) in 3 zones"),
        // Memory: 30 x 2 GiB x 2 = 120 GiB of 8.
        (30, asks("100m", "2Gi"), "15 nodes (2 CPU, 8Gi) in 3 zones"),
        // Limits are asked for where there are no requests.
        (
            20,
            "{limits: {cpu: 500m}}".to_owned(),
            "12 nodes (2 CPU, 8Gi) in 3 zones",
        ),
    ] {
        let survey = surveyed(&workload("Deployment", "web", replicas, &resources));
        let machines = Machines::fitting(&survey, None);
        assert_eq!(machines.words(), expected, "{replicas} x {resources}");
    }
    let survey = surveyed(&workload("Deployment", "web", 1, "{}"));
    let two = Machines::fitting(&survey, Some(2));
    assert_eq!(two.words(), "2 nodes (2 CPU, 8Gi) in 2 zones");
}

#[test]
fn what_belongs_to_a_workload_is_found_by_selectors_and_names() {
    let all = [
        workload("Deployment", "web", 2, "{}"),
        workload("StatefulSet", "db", 3, "{}"),
        workload("DaemonSet", "log", 0, "{}"),
        workload("Deployment", "asleep", 0, "{}"),
        "\
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: dns, port: 53, protocol: UDP}, {name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: both}
spec: {selector: {tier: x}, ports: [{port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 5432}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: keep}
spec: {minAvailable: 1, selector: {matchLabels: {app: db}}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: grow}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 2
  maxReplicas: 5
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: 'c:1'}]}}}
---
apiVersion: rehearsal.dev/v1
kind: AppModel
metadata: {name: db}
spec: {selector: {matchLabels: {app: db}}}
"
        .to_owned(),
    ];
    let survey = surveyed(&all.concat());
    let lines: Vec<String> = (survey.workloads.iter())
        .map(|w| {
            let services: Vec<String> = (w.services.iter())
                .map(|(name, port)| format!("{name}:{port}"))
                .collect();
            let budget = w.budget.as_ref().map_or("", |b| b.name.as_str());
            let scales = w.autoscaler.as_ref().map_or("", |a| a.name.as_str());
            let (kind, name, n, own) = (w.kind, &w.name, w.replicas, w.modelled);
            format!("{kind} {name} {n} {services:?} {budget} {scales} {own}")
        })
        .collect();
    assert_eq!(
        lines,
        [
            "Deployment web 2 [\"web:80\", \"both:81\"]  grow false",
            "StatefulSet db 3 [\"both:81\"] keep  true",
            "DaemonSet log 0 [\"both:81\"]   false",
        ]
    );
    assert_eq!(survey.not_judged, ["Job ×1"]);
    assert!(!survey.own_traffic);
}

#[test]
fn the_calm_day_is_always_among_the_wanted_ones_and_each_node_has_its_run() {
    let survey = surveyed(&workload("Deployment", "web", 1, "{}"));
    let machines = Machines::fitting(&survey, None);
    let names = |only: &[&str]| {
        let only: Vec<String> = only.iter().map(|word| (*word).to_owned()).collect();
        let (trials, runs) = plan(&survey, &machines, &only);
        let of = |trial: usize| runs.iter().filter(move |run| run.trial == trial).count();
        let each = trials
            .iter()
            .enumerate()
            .map(|(at, t)| format!("{} {}", t.name, of(at)));
        each.collect::<Vec<_>>().join(", ")
    };
    assert_eq!(
        names(&[]),
        "calm 1, drain 1, rollout 1, node-loss 6, zone-loss 3, bad-image 1, api-outage 1, \
         double-load 1"
    );
    assert_eq!(names(&["zone-loss"]), "calm 1, zone-loss 3");
}

#[test]
fn pods_that_answer_are_counted_over_time() {
    let at = Time::from_secs;
    // Two pods; one goes at 10 and is replaced at 40; at 50 both go, at 70 one is back.
    let steps = [
        (1, 1),
        (2, 1),
        (10, -1),
        (40, 1),
        (50, -1),
        (50, -1),
        (70, 1),
    ];
    let serving = Serving {
        steps: steps.iter().map(|(when, by)| (at(*when), *by)).collect(),
    };
    assert_eq!(
        [0, 5, 10, 45, 60].map(|t| serving.at(at(t))),
        [0, 2, 1, 2, 0]
    );
    for (begin, end, least, without, back) in [
        (5, 9, 2, 0.0, Some(0.0)),
        // Back at 40, 35 s after 5.
        (5, 45, 1, 0.0, Some(35.0)),
        // Nobody from 50 to 70, and never two again.
        (5, 90, 0, 20.0, None),
        // Cut off by the end of the run.
        (45, 65, 0, 15.0, None),
    ] {
        let (begin, end) = (at(begin), at(end));
        assert_eq!(serving.least(begin, end), least, "{begin} to {end}");
        assert_eq!(
            serving.longest_without(begin, end),
            without,
            "{begin} to {end}"
        );
        assert_eq!(serving.back(begin, end, 2), back, "{begin} to {end}");
    }
}

#[test]
fn parts_of_a_patch_come_together_by_name() {
    let mut patch = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "a", "lifecycle": {"preStop": {"sleep": {"seconds": 10}}}}
    ]}}}});
    let probe = |name: &str| {
        json!({"spec": {"replicas": 2, "template": {"spec": {"containers": [
            {"name": name, "readinessProbe": {"tcpSocket": {"port": 80}}}
        ]}}}})
    };
    merge(&mut patch, probe("a"));
    merge(&mut patch, probe("b"));
    merge(&mut patch, probe("b"));
    let probed = json!({"tcpSocket": {"port": 80}});
    assert_eq!(
        patch,
        json!({"spec": {"replicas": 2, "template": {"spec": {"containers": [
            {"name": "a", "lifecycle": {"preStop": {"sleep": {"seconds": 10}}},
             "readinessProbe": probed},
            {"name": "b", "readinessProbe": probed}
        ]}}}})
    );
}
