//! Faults as they are written, ours and Chaos Mesh's.

use super::{Folder, with_web};
use crate::fault::{Action, Fault, LinkEffect, Place};
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

fn chaos_mesh(kind: &str, spec: &str) -> Result<Fault, String> {
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
fn what_is_not_modelled_is_refused_by_name() {
    for (kind, spec, expected) in [
        (
            "StressChaos",
            "mode: one",
            "StressChaos of Chaos Mesh is not modelled",
        ),
        (
            "NetworkChaos",
            "action: bandwidth, mode: one, selector: {}, bandwidth: {rate: 1mbps}",
            "action bandwidth of Chaos Mesh is not modelled",
        ),
        (
            "NetworkChaos",
            "action: delay, mode: one, selector: {}, delay: {latency: 1s, reorder: {gap: 3}}",
            "reorder of Chaos Mesh is not modelled",
        ),
        (
            "NetworkChaos",
            "action: loss, mode: one, selector: {}, loss: {loss: '1'}, externalTargets: [8.8.8.8]",
            "externalTargets of Chaos Mesh is not modelled",
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
