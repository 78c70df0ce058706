//! Faults as they are written, ours and Chaos Mesh's.

use super::{Folder, with_web};
use crate::engine::Time;
use crate::fault::{
    Action, Component, ControlAction, CpuStressor, Fault, LinkEffect, MemoryStressor, Mode, Place,
};
use crate::scenario::{LoadOptions, StepAction, StepItem};

/// A scenario that applies this fault; or the messages.
fn load(fault: &str) -> Result<Fault, String> {
    let folder = Folder::new(&[
        (
            "s.yaml",
            &with_web("  timeline: [{at: 1m, apply: [fault.yaml]}]\n"),
        ),
        ("fault.yaml", fault),
    ]);
    let loaded = folder.load("s.yaml", &LoadOptions::default())?;
    match &loaded.scenarios[0].timeline[0].action {
        StepAction::Apply(items) => match items.as_slice() {
            [StepItem::Fault(fault)] => Ok(fault.clone()),
            other => panic!("{} items", other.len()),
        },
        StepAction::Kubectl(_) => panic!("a fault"),
    }
}

fn node_chaos(spec: &str) -> Result<Fault, String> {
    load(&format!(
        "apiVersion: rehearsal.dev/v1\nkind: NodeChaos\nmetadata: {{name: f}}\nspec: {{{spec}}}\n"
    ))
}

pub(super) fn chaos_mesh(kind: &str, spec: &str) -> Result<Fault, String> {
    load(&format!(
        "apiVersion: chaos-mesh.org/v1alpha1\nkind: {kind}\nmetadata: {{name: f, namespace: ns}}\n\
         spec: {{{spec}}}\n"
    ))
}

#[test]
fn a_partition_is_both_ways_unless_directions_are_given() {
    let zone = |name: &str| Place::Zone(name.into());
    for (words, from, to) in [
        ("", vec![Place::Others], vec![Place::Others]),
        (", from: [zone/a]", vec![zone("a")], vec![zone("a")]),
        (", to: [edge]", vec![], vec![Place::Edge]),
        (
            ", from: [control-plane], to: []",
            vec![Place::ControlPlane],
            vec![],
        ),
    ] {
        let spec = format!("action: partition, mode: all, selector: {{zone: b}}{words}");
        let fault = node_chaos(&spec).expect(&spec);
        assert_eq!(fault.action, Action::NodePartition { from, to }, "{words}");
    }
}

fn control_plane(spec: &str) -> Result<Fault, String> {
    load(&format!(
        "apiVersion: rehearsal.dev/v1\nkind: ControlPlaneChaos\nmetadata: {{name: f}}\n\
         spec: {{{spec}}}\n"
    ))
}

#[test]
fn faults_of_the_control_plane_are_read() {
    let crash = control_plane("action: crash, component: etcd, mode: fixed, value: 2");
    let crash = crash.expect("it loads");
    let action = Action::ControlPlane(ControlAction::Crash(Component::Etcd));
    assert_eq!((crash.action, crash.mode), (action, Mode::Fixed(2)));
    let outage = control_plane("action: outage, duration: 10m").expect("it loads");
    assert_eq!(outage.mode, Mode::All);
    assert_eq!(outage.action_name(), "outage");
    for (spec, retry_after_s) in [
        ("status: 429", Some(1)),
        ("status: 429, retryAfter: 5s", Some(5)),
        ("status: 503", None),
        ("status: timeout", None),
    ] {
        let spec = format!("action: errors, percent: 12.5, {spec}, requests: {{verbs: [patch]}}");
        let fault = control_plane(&spec).expect(&spec);
        let Action::ControlPlane(ControlAction::Errors {
            per_million,
            answer,
            requests,
        }) = fault.action
        else {
            panic!("{:?}", fault.action);
        };
        assert_eq!(
            (per_million, answer.retry_after_s),
            (125_000, retry_after_s),
            "{spec}"
        );
        assert!(requests.take("patch", "pods", "kubelet"));
        assert!(!requests.take("create", "pods", "kubelet"));
    }
}

#[test]
fn what_a_fault_of_the_control_plane_cannot_mean_is_said() {
    for (spec, expected) in [
        ("action: crash", "spec.component: Required value"),
        (
            "action: crash, component: kube-schedular",
            "did you mean \"kube-scheduler\"?",
        ),
        ("action: down", "supported values: \"crash\""),
        (
            "action: outage, component: etcd",
            "belongs to `action: crash` or `freeze`",
        ),
        (
            "action: outage, latency: 1s",
            "spec.latency: Invalid value: \"1s\": belongs to `action: latency`",
        ),
        ("action: latency", "spec.latency: Required value"),
        (
            "action: errors, status: 500",
            "spec.percent: Required value",
        ),
        (
            "action: errors, status: 404, percent: 10",
            "is no status that a server in trouble answers with",
        ),
        (
            "action: errors, status: 500, percent: 0",
            "must be a percentage greater than 0, at most 100",
        ),
        (
            "action: errors, status: 429, percent: 1, retryAfter: 1500ms",
            "must be whole seconds",
        ),
        (
            "action: errors, status: timeout, percent: 1, retryAfter: 1s",
            "needs an answer",
        ),
        (
            "action: latency, latency: 1s, requests: {resources: [pod]}",
            "did you mean \"pods\"?",
        ),
        (
            "action: latency, latency: 1s, requests: {userAgents: [kubelt]}",
            "did you mean \"kubelet\"?",
        ),
        (
            "action: no-leader, selector: {}",
            "spec.selector: unknown field",
        ),
    ] {
        let text = control_plane(spec).expect_err(spec);
        assert!(text.contains(expected), "{spec}\n{text}");
    }
}

#[test]
fn what_a_fault_names_must_exist() {
    for (spec, expected) in [
        (
            "action: reboot, mode: one, selector: {zone: d}",
            "there is no zone d",
        ),
        (
            "action: reboot, mode: one, selector: {pool: mian}",
            "did you mean \"main\"?",
        ),
        (
            "action: freeze, mode: one, selector: {names: [main-9]}",
            "there is no node main-9",
        ),
        (
            "action: power-of, mode: one, selector: {}",
            "did you mean \"power-off\"?",
        ),
        (
            "action: reboot, mode: fixed, selector: {}",
            "spec.value: Required value",
        ),
        (
            "action: reboot, mode: fixed-percent, value: '120', selector: {}",
            "between 1 and 100",
        ),
        (
            "action: reboot, mode: one, selector: {podsOf: deployment/wbe}",
            "did you mean \"web\"?",
        ),
        (
            "action: reboot, mode: one, selector: {podsOf: secret/web}",
            "a Secret has no pods",
        ),
        (
            "action: reboot, mode: one, selector: {}, from: [edge]",
            "belongs to `action: partition`",
        ),
        (
            "action: partition, mode: one, selector: {}, to: [moon]",
            "must be a place",
        ),
    ] {
        let text = node_chaos(spec).expect_err(spec);
        assert!(text.contains(expected), "{spec}\n{text}");
    }
}

#[test]
fn network_chaos_becomes_effects_on_packets() {
    let spec = "action: netem, mode: all, selector: {labelSelectors: {app: web}}, direction: both,
      delay: {latency: 90ms, jitter: 10ms, correlation: '25'}, loss: {loss: '12.5'},
      target: {mode: one, selector: {namespaces: [db]}}";
    let fault = chaos_mesh("NetworkChaos", spec).expect("it loads");
    // The fault's own namespace, as the webhook of Chaos Mesh fills in.
    assert_eq!(fault.selector.namespaces, ["ns"]);
    let Action::Network { effects, peers } = fault.action else {
        panic!("{:?}", fault.action);
    };
    assert!(peers.outgoing && peers.incoming && peers.target.is_some());
    assert!(matches!(
        effects[0],
        LinkEffect::Delay {
            correlation: 25.0,
            ..
        }
    ));
    assert_eq!(
        effects[1],
        LinkEffect::Loss {
            per_million: 125_000,
            correlation: 0.0
        }
    );
}

#[test]
fn parts_of_netem_work_together_whatever_the_action_is_called() {
    let spec = "action: delay, mode: all, selector: {}, delay: {latency: 1ms},
      rate: {rate: 1gbps}, loss: {loss: '1'}, bandwidth: {rate: 1bps, limit: 1, buffer: 1},
      externalTargets: [10.0.0.0/8, 10.0.3.4]";
    let fault = chaos_mesh("NetworkChaos", spec).expect("it loads");
    let Action::Network { effects, peers } = fault.action else {
        panic!("{:?}", fault.action);
    };
    assert_eq!(effects.len(), 3, "{effects:?}");
    assert_eq!((peers.outgoing, peers.incoming), (true, false));
    let ends: Vec<_> = peers.external.into_iter().map(|e| e.end).collect();
    let network = |ip: [u8; 4], bits| crate::fault::ExternalEnd::Network {
        ip: u32::from_be_bytes(ip),
        bits,
    };
    assert_eq!(
        ends,
        [network([10, 0, 0, 0], 8), network([10, 0, 3, 4], 32)]
    );
}

#[test]
fn what_is_not_modelled_is_refused_by_name() {
    for (kind, spec, expected) in [
        (
            "IOChaos",
            "mode: one",
            "IOChaos of Chaos Mesh is not modelled",
        ),
        (
            "StressChaos",
            "mode: one, selector: {}, stressngStressors: '--hdd 1'",
            "stressngStressors of Chaos Mesh is not modelled",
        ),
        (
            "StressChaos",
            "mode: one, selector: {}, stressors: {cpu: {workers: 1, options: [--cpu-method]}}",
            "options of a stressor of Chaos Mesh is not modelled",
        ),
        (
            "StressChaos",
            "mode: one, selector: {}, stressors: {}",
            "needs `cpu` or `memory`",
        ),
        (
            "StressChaos",
            "mode: one, selector: {}, stressors: {memory: {workers: 1, size: 12QB}}",
            "must be a size in bytes",
        ),
        (
            "StressChaos",
            "mode: one, selector: {}, stressors: {cpu: {workers: 0}}",
            "must be between 1 and 8192",
        ),
        (
            "DNSChaos",
            "action: error, mode: one, selector: {}, patterns: ['*.com']",
            "may have `*` at its end alone",
        ),
        (
            "NetworkChaos",
            "action: rate, mode: one, selector: {}, rate: {rate: 1mbps}",
            "Unsupported value: \"rate\"",
        ),
        (
            "NetworkChaos",
            "action: bandwidth, mode: one, selector: {}, bandwidth: {rate: 1mb, limit: 1, buffer: 1}",
            "must be a whole number greater than 0 with a unit",
        ),
        (
            "NetworkChaos",
            "action: corrupt, mode: one, selector: {}, loss: {loss: '1'}",
            "needs `corrupt`, which is missing",
        ),
        (
            "NetworkChaos",
            "action: loss, mode: one, selector: {}, loss: {loss: '1'}, externalTargets: [8.8.8.8]",
            "\"8.8.8.8\" is nothing in this cluster, and nothing lies outside of it",
        ),
        (
            "NetworkChaos",
            "action: loss, mode: one, selector: {}, loss: {loss: '1'}, externalTargets: [bing.com]",
            "\"bing.com\" is nothing in this cluster",
        ),
        (
            "NetworkChaos",
            "action: loss, mode: one, selector: {}, loss: {loss: '1'}, \
             externalTargets: ['www.example.org']",
            "\"www.example.org\" is nothing in this cluster",
        ),
        (
            "NetworkChaos",
            "action: loss, mode: one, selector: {}, loss: {loss: '1'}, \
             externalTargets: ['10.0.0.0/33']",
            "must be an IPv4 address or network",
        ),
        (
            "NetworkChaos",
            "action: loss, mode: one, selector: {}, loss: {loss: '1'}, \
             externalTargets: ['web.ns:80']",
            "ports of externalTargets (80) are not modelled",
        ),
        (
            "NetworkChaos",
            "action: loss, mode: one, selector: {}, loss: {loss: '1'}, direction: both, \
             externalTargets: [10.0.0.5]",
            "external targets cannot be used with `from` and `both` direction",
        ),
        (
            "PodChaos",
            "action: container-kill, mode: one, selector: {}",
            "containerNames: Required",
        ),
        (
            "PodChaos",
            "action: pod-kill, selector: {}",
            "spec.mode: Required value",
        ),
    ] {
        let text = chaos_mesh(kind, spec).expect_err(spec);
        assert!(text.contains(expected), "{spec}\n{text}");
    }
}

#[test]
fn two_faults_of_one_name_are_refused() {
    let fault = "{apiVersion: rehearsal.dev/v1, kind: NodeChaos, metadata: {name: f},
      spec: {action: reboot, mode: one, selector: {}}}";
    let steps = format!("  timeline:\n  - at: 1m\n    apply:\n    - {fault}\n    - {fault}\n");
    let folder = Folder::new(&[("s.yaml", &with_web(&steps))]);
    let text = folder
        .load("s.yaml", &LoadOptions::default())
        .expect_err("two of one name");
    assert!(text.contains("a second fault is called f"), "{text}");
}

#[test]
fn every_action_of_the_network_becomes_its_effect() {
    let table = [
        (
            "action: delay, delay: {latency: 1s, reorder: {reorder: '50', gap: 2}}",
            LinkEffect::Delay {
                latency: std::time::Duration::from_secs(1),
                jitter: std::time::Duration::ZERO,
                correlation: 0.0,
                early_per_million: 250_000,
            },
        ),
        (
            "action: corrupt, corrupt: {corrupt: '40', correlation: '25'}",
            LinkEffect::Corrupt {
                per_million: 400_000,
            },
        ),
        (
            "action: duplicate, duplicate: {duplicate: '0.5'}",
            LinkEffect::Duplicate { per_million: 5_000 },
        ),
        (
            "action: bandwidth, bandwidth: {rate: 1mbps, limit: 20971520, buffer: 10000}",
            LinkEffect::Rate {
                bytes_per_s: 1_000_000,
                burst: 10_000,
                queue: 20_971_520,
            },
        ),
        (
            "action: bandwidth, bandwidth: {rate: 16 Kbit, limit: 1, buffer: 1}",
            LinkEffect::Rate {
                bytes_per_s: 2_000,
                burst: 1,
                queue: 1,
            },
        ),
        (
            "action: netem, rate: {rate: 3mbit}",
            LinkEffect::Rate {
                bytes_per_s: 375_000,
                burst: 0,
                queue: 1_514_000,
            },
        ),
    ];
    for (spec, expected) in table {
        let spec = format!("{spec}, mode: all, selector: {{}}");
        let fault = chaos_mesh("NetworkChaos", &spec).expect(&spec);
        let Action::Network { effects, .. } = fault.action else {
            panic!("{spec}");
        };
        assert_eq!(effects, [expected], "{spec}");
    }
}

#[test]
fn stress_and_dns_chaos_are_read_as_chaos_mesh_writes_them() {
    let stress = |stressors: &str| {
        let spec = format!("mode: one, selector: {{}}, stressors: {{{stressors}}}");
        let fault = chaos_mesh("StressChaos", &spec).expect(&spec);
        match fault.action {
            Action::Stress { stressors, .. } => stressors,
            other => panic!("{other:?}"),
        }
    };
    let memory = |size: &str| stress(&format!("memory: {{workers: 4{size}}}")).memory;
    for (size, expected) in [
        (", size: '256MB'", MemoryStressor::Bytes(256_000_000)),
        (", size: 64MiB", MemoryStressor::Bytes(64 << 20)),
        (", size: 1.5g", MemoryStressor::Bytes(1_500_000_000)),
        (", size: '4096'", MemoryStressor::Bytes(4096)),
        (", size: 25%", MemoryStressor::Percent(25)),
        ("", MemoryStressor::Percent(100)),
    ] {
        assert_eq!(memory(size), Some(expected), "{size}");
    }
    let cpu = stress("cpu: {workers: 2, load: 60}, memory: {workers: 1, size: 1MB}");
    let expected = CpuStressor {
        workers: 2,
        load: 60,
    };
    assert_eq!((cpu.cpu, cpu.memory.is_some()), (Some(expected), true));
    let spec = "action: random, mode: all, selector: {}, patterns: [google.com, 'chaos-mesh.*']";
    let dns = chaos_mesh("DNSChaos", spec).expect(spec);
    assert_eq!(dns.action_name(), "random DNS answers");
    let node = "action: stress, mode: all, selector: {}, stressors: {cpu: {workers: 1}}";
    let node = node_chaos(node).expect(node);
    assert_eq!(node.action_name(), "CPU stress");
    let wrong = "action: freeze, mode: all, selector: {}, stressors: {cpu: {workers: 1}}";
    let text = node_chaos(wrong).expect_err(wrong);
    assert!(text.contains("belongs to `action: stress`"), "{text}");
}

/// A scenario that applies a plan of Chaos Mesh: when its faults begin, of one that is applied at
/// 60 s in a run of ten minutes; or the messages.
fn plan(kind: &str, spec: &str) -> Result<Vec<(u64, String)>, String> {
    let document = format!(
        "apiVersion: chaos-mesh.org/v1alpha1\nkind: {kind}\nmetadata: {{name: p, namespace: ns}}\n\
         spec: {{{spec}}}\n"
    );
    let folder = Folder::new(&[
        (
            "s.yaml",
            &with_web("  timeline: [{at: 1m, apply: [plan.yaml]}]\n"),
        ),
        ("plan.yaml", &document),
    ]);
    let loaded = folder.load("s.yaml", &LoadOptions::default())?;
    let StepAction::Apply(items) = &loaded.scenarios[0].timeline[0].action else {
        panic!("a plan");
    };
    let [StepItem::Plan(plan)] = items.as_slice() else {
        panic!("{} items", items.len());
    };
    let (now, until) = (Time::from_secs(60), Time::from_secs(600));
    let due = plan.lay_out(now, until).into_iter();
    Ok(due
        .map(|(at, fault)| (at.as_nanos() / 1_000_000_000, fault.name.to_string()))
        .collect())
}

const KILL: &str =
    "podChaos: {action: pod-kill, mode: one, selector: {labelSelectors: {app: web}}}";

#[test]
fn schedules_and_workflows_are_read_as_they_are() {
    let spec = format!("schedule: '@every 3m', type: PodChaos, historyLimit: 5, {KILL}");
    let due = plan("Schedule", &spec).expect("it loads");
    let expected = [(240, "p-1".to_owned()), (420, "p-2".to_owned())];
    assert_eq!(due, expected);
    let templates = format!(
        "entry: all, templates: [
         {{name: all, templateType: Serial, deadline: 240s, children: [wait, both]}},
         {{name: wait, templateType: Suspend, deadline: 10s}},
         {{name: both, templateType: Parallel, children: [once, often]}},
         {{name: once, templateType: PodChaos, deadline: 20s, {KILL}}},
         {{name: often, templateType: Schedule, deadline: 40s,
           schedule: {{schedule: '@every 15s', concurrencyPolicy: Allow, type: PodChaos, {KILL}}}}}]"
    );
    let due = plan("Workflow", &templates).expect("it loads");
    let expected = [(70, "once-1"), (85, "often-2"), (100, "often-3")];
    assert_eq!(due, expected.map(|(at, name)| (at, name.to_owned())));
}

#[test]
fn what_is_wrong_with_a_plan_is_said() {
    let schedule = |more: &str| plan("Schedule", &format!("{more}, {KILL}"));
    let workflow =
        |templates: &str| plan("Workflow", &format!("entry: a, templates: [{templates}]"));
    for (read, expected) in [
        (
            schedule("schedule: '@every', type: PodChaos"),
            "spec.schedule: Invalid value",
        ),
        (
            schedule("schedule: '0 * * * * *', type: PodChaos"),
            "a field for seconds is not modelled",
        ),
        (
            schedule("schedule: '@every 1m'"),
            "spec.type: Required value",
        ),
        (
            schedule("schedule: '@every 1m', type: IOChaos"),
            "IOChaos of Chaos Mesh is not modelled",
        ),
        (
            schedule("schedule: '@every 1m', type: PodChaos, concurrencyPolicy: Replace"),
            "supported values: \"Forbid\", \"Allow\"",
        ),
        (
            workflow("{name: b, templateType: Suspend, deadline: 1s}"),
            "can not find a template with name a",
        ),
        (
            workflow("{name: a, templateType: Serial, children: [a]}"),
            "leads back to itself: a → a",
        ),
        (
            workflow("{name: a, templateType: Task}"),
            "templateType Task of Chaos Mesh is not modelled",
        ),
        (
            workflow("{name: a, templateType: Suspended}"),
            "unrecognized template type: Suspended",
        ),
        (
            workflow("{name: a, templateType: Suspend}"),
            "deadline in template with type Suspend could not be empty",
        ),
        (
            workflow(
                "{name: a, templateType: PodChaos, podChaos: {action: pod-failure, mode: one, \
                 duration: 5s, selector: {}}}",
            ),
            "should not define duration in chaos",
        ),
        (
            workflow(
                "{name: a, templateType: Suspend, deadline: 1s}, \
                 {name: a, templateType: Suspend, deadline: 1s}",
            ),
            "template name must be unique, duplicated names: a",
        ),
    ] {
        let text = read.expect_err(expected);
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}
