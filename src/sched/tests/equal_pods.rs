//! What is remembered between cycles changes no decision: random clusters are scheduled with and
//! without, and everything that happened must be the same, line by line. The same goes for being told
//! only of what concerns the scheduler.

use super::*;
use crate::api::pod_status::{PodCondition, Truth};
use crate::engine::draws::{Purpose, Stream};
use crate::sched::config::Tuning;
use crate::sched::events::{ClusterEvent, Resource, UPDATE, event};
use crate::sched::framework::Framework;
use crate::sched::plugin::PluginName;

const SCRIPT: Purpose = Purpose::new("test/equal-pods");
const IMAGES: [&str; 3] = ["app:v1", "db:v1", "web:v1"];

fn one_of<'a, T>(stream: &mut Stream, all: &'a [T]) -> &'a T {
    &all[stream.below(all.len() as u64) as usize]
}

fn random_node(stream: &mut Stream, name: &str) -> Value {
    let zone = *one_of(stream, &["a", "b", "c", ""]);
    let mut labels =
        json!({"kubernetes.io/hostname": name, "disk": *one_of(stream, &["ssd", "hdd"])});
    if !zone.is_empty() {
        labels["topology.kubernetes.io/zone"] = json!(zone);
    }
    let effect = *one_of(stream, &["", "", "", "NoSchedule", "PreferNoSchedule"]);
    let taints = match effect {
        "" => json!([]),
        effect => json!([{"key": "reserved", "value": "x", "effect": effect}]),
    };
    let size = 1 << (27 + stream.below(3));
    let images: Vec<Value> = IMAGES
        .iter()
        .filter(|_| stream.below(2) == 0)
        .map(|name| json!({"names": [name], "sizeBytes": size}))
        .collect();
    let cpu = 1 + stream.below(4);
    let mut object = node(name, u32::try_from(cpu).expect("few cores"));
    object["metadata"]["labels"] = labels;
    object["spec"] = json!({"taints": taints});
    object["status"]["images"] = json!(images);
    object
}

/// One of the things that a workload may ask for.
fn wish(stream: &mut Stream, app: &str, spec: &mut Value) {
    let selector = json!({"matchLabels": {"app": *one_of(stream, &["a", "b", "c", app])}});
    let key = *one_of(
        stream,
        &["topology.kubernetes.io/zone", "kubernetes.io/hostname"],
    );
    let term = json!({"labelSelector": selector, "topologyKey": key});
    let affinity = *one_of(stream, &["podAffinity", "podAntiAffinity"]);
    match stream.below(8) {
        0 => {
            let soft = *one_of(stream, &["DoNotSchedule", "ScheduleAnyway"]);
            let policy = *one_of(stream, &["Honor", "Ignore"]);
            spec["topologySpreadConstraints"] = json!([{
                "maxSkew": 1 + stream.below(2), "topologyKey": key, "whenUnsatisfiable": soft,
                "labelSelector": selector, "nodeTaintsPolicy": policy
            }]);
        }
        1 => {
            let required = "requiredDuringSchedulingIgnoredDuringExecution";
            spec["affinity"] = json!({affinity: {required: [term]}});
        }
        2 => {
            let weighted = json!([{"weight": 1 + stream.below(100), "podAffinityTerm": term}]);
            let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
            spec["affinity"] = json!({affinity: {preferred: weighted}});
        }
        3 => {
            spec["tolerations"] = json!([{"key": "reserved", "operator": "Exists"}]);
        }
        4 => {
            spec["nodeSelector"] = json!({"disk": "ssd"});
        }
        5 => {
            let preference = json!({"matchExpressions": [
                {"key": "disk", "operator": "In", "values": ["hdd"]}]});
            let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
            spec["affinity"] =
                json!({"nodeAffinity": {preferred: [{"weight": 30, "preference": preference}]}});
        }
        6 => {
            spec["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 8080}]);
        }
        _ => {}
    }
}

fn workload(stream: &mut Stream, app: &str) -> Pod {
    let mut object = pod(
        app,
        100 + 100 * u32::try_from(stream.below(8)).expect("small"),
    );
    object["metadata"]["labels"] = json!({"app": app});
    object["spec"]["containers"][0]["image"] = json!(*one_of(stream, &IMAGES));
    for _ in 0..stream.below(3) {
        wish(stream, app, &mut object["spec"]);
    }
    let decoded = decode_json(&object, &DecodeContext::default()).expect("a valid pod");
    let Row::Pod(row) = decoded.row else {
        unreachable!("it is a pod")
    };
    let mut row = Pod::clone(&row);
    let mut spec = crate::api::PodSpec::clone(&row.spec);
    // As if admitted with a class.
    spec.priority = *one_of(stream, &[0, 0, 0, 100]);
    row.spec = spec.into();
    row
}

/// Nodes that come and change, pods of a few workloads that come and go.
fn script(machine: &mut Machine, seed: u64, nodes: u64, pods: u64) {
    let stream = &mut Draws::new(seed).stream(SCRIPT, 0);
    for n in 0..nodes {
        let name = format!("n{n}");
        let late = if stream.below(8) == 0 { 40_000 } else { 0 };
        let object = random_node(stream, &name);
        machine.create(late, object);
    }
    let workloads: Vec<Pod> = ["a", "b", "c", "d", "e"]
        .iter()
        .map(|app| workload(stream, app))
        .collect();
    for n in 0..pods {
        let mut row = one_of(stream, &workloads).clone();
        row.meta.name = format!("p{n}").into();
        let ms = stream.below(60_000);
        machine.script(ms, Write::Create(row.into()));
    }
}

fn bound(machine: &Machine) -> Vec<Id<Pod>> {
    let pods = machine.store.view().pods().iter();
    let bound = pods.filter(|(_, p)| p.node_name.is_some());
    bound.map(|(id, _)| id).collect()
}

/// Statuses, labels and conditions of pods on nodes change between 20 and 60 s.
fn statuses(machine: &mut Machine, seed: u64) {
    let stream = &mut Draws::new(seed).stream(SCRIPT, 2);
    for id in bound(machine) {
        for _ in 0..stream.below(5) {
            let ms = 20_000 + stream.below(40_000);
            let conditions = |kind| PodCondition {
                kind,
                status: if ms.is_multiple_of(2) {
                    Truth::True
                } else {
                    Truth::False
                },
                since: Time::from_millis(ms),
                reason: Some("BecauseOfThat".into()),
                message: None,
                observed_generation: 0,
            };
            let patch = |conditions, phase| Patch::PodConditions {
                conditions,
                phase,
                reason: None,
            };
            let pods = machine.store.view().pods();
            let mut status = pods.get(id).expect("it is there").status.clone();
            status.start_time = Some(Time::from_millis(ms));
            let patch = match stream.below(6) {
                0 => Patch::PodStatus(status),
                1 => patch(vec![conditions(PodConditionKind::DisruptionTarget)], None),
                2 => Patch::Labels(vec![("app".into(), Some("b".into()))]),
                3 => patch(Vec::new(), Some(Phase::Running)),
                _ => patch(vec![conditions(PodConditionKind::Ready)], None),
            };
            let write = Write::Patch {
                object: id.into(),
                uid: None,
                patch,
            };
            machine.script(ms, write);
        }
    }
}

/// Ends some pods, cordons and changes some nodes between 20 and 60 s.
fn trouble(machine: &mut Machine, seed: u64) {
    let stream = &mut Draws::new(seed).stream(SCRIPT, 1);
    for id in bound(machine) {
        if stream.below(3) > 0 {
            continue;
        }
        let ms = 20_000 + stream.below(40_000);
        let write = Write::Patch {
            object: id.into(),
            uid: None,
            patch: Patch::PodConditions {
                conditions: Vec::new(),
                phase: Some(Phase::Succeeded),
                reason: None,
            },
        };
        machine.script(ms, write);
    }
    let nodes: Vec<_> = {
        let nodes = machine.store.view().nodes().iter();
        nodes.map(|(id, _)| id).collect()
    };
    for id in nodes {
        let patch = match stream.below(6) {
            0 => Patch::Unschedulable(true),
            1 => Patch::Labels(vec![("disk".into(), Some("ssd".into()))]),
            2 => Patch::NodeImages(vec![(vec!["app:v1".into()], 1 << 28)]),
            3 => Patch::Labels(vec![(
                "topology.kubernetes.io/zone".into(),
                Some("c".into()),
            )]),
            _ => continue,
        };
        let write = Write::Patch {
            object: id.into(),
            uid: None,
            patch,
        };
        machine.script(20_000 + stream.below(40_000), write);
    }
}

fn story(seed: u64, (nodes, pods): (u64, u64), tuning: Tuning, sparing: bool) -> String {
    let config = SchedulerConfig {
        cycle_cost: CycleCost {
            base: Duration::ZERO,
            per_node: Duration::from_micros(1),
        },
        tuning,
        ..SchedulerConfig::default()
    };
    let mut machine = Machine::with(config);
    machine.sparing = sparing;
    script(&mut machine, seed, nodes, pods);
    let mut lines = machine.run(19_999);
    trouble(&mut machine, seed);
    statuses(&mut machine, seed);
    lines.push_str(&machine.run(90_000));
    lines
}

fn compare(seed: u64, size: (u64, u64)) -> usize {
    let on = Tuning::default();
    let off = Tuning {
        memo: false,
        ranking: false,
        spread: false,
        affinity: false,
    };
    let (spread, affinity) = (true, true);
    let ranking = Tuning {
        memo: true,
        ranking: true,
        ..off
    };
    let plain = story(seed, size, off, false);
    for (tuning, sparing) in [
        (on, false),
        (on, true),
        (off, true),
        (Tuning { memo: true, ..off }, false),
        (ranking, false),
        (Tuning { spread, ..off }, false),
        (Tuning { affinity, ..off }, false),
    ] {
        let fast = story(seed, size, tuning, sparing);
        let differs = plain.lines().zip(fast.lines()).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}, {tuning:?}, {sparing}");
        assert_eq!(plain.lines().count(), fast.lines().count(), "seed {seed}");
    }
    plain.matches(" on n").count()
}

#[test]
fn small_clusters_are_scheduled_the_same_with_and_without() {
    let bound: usize = (0..24).map(|seed| compare(seed, (8, 60))).sum();
    // Most of 24 × 60 pods find a place.
    assert!(bound > 700, "{bound} pods bound");
}

#[test]
fn sampled_clusters_are_scheduled_the_same_with_and_without() {
    // Of 260 nodes 124 (48 %) are scored: the search begins elsewhere for each pod.
    let bound: usize = (0..2).map(|seed| compare(seed, (260, 200))).sum();
    assert!(bound > 200, "{bound} pods bound");
}

#[test]
fn no_plugin_waits_for_updates_of_pods_on_nodes_that_change_nothing_in_particular() {
    let any = event(Resource::AssignedPod, UPDATE);
    let profile = SchedulerConfig::default().profiles.remove(0);
    let framework = Framework::new(&profile, &mut Default::default());
    let waits = |events: &[ClusterEvent]| events.iter().any(|e| e.covers(any));
    let waiting = framework.events().filter(|(_, all)| waits(all));
    // It registers for any update of a pod, and wants none of another pod (`hints`).
    let waiting: Vec<_> = waiting.map(|(plugin, _)| plugin).collect();
    assert_eq!(waiting, [PluginName::NodeDeclaredFeatures]);
}
