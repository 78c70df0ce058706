//! Budgets over small families of pods, and what is told of them.
//!
//! After `disruption_test.go` (`TestNoSelector`, `TestUnavailable`, `TestIntegerMaxUnavailable`,
//! `TestNakedPod`, `TestScaleFinderNoResource`, `TestMultipleControllers`,
//! `TestReplicaSet…`, `TestPDBNotExist`, `TestUpdateDisruptedPods`, `TestStalePodDisruption`,
//! `TestBasicFinderFunctions`).

use serde_json::{Value, json};

use super::stale::StaleDisruptionController;
use super::*;
use crate::api::Row;
use crate::api::pod_status::{PodCondition, PodConditionKind};
use crate::control::desk::{Desk, PLAIN, Words};
use crate::store::{ObjectId, Patch, Write};

/// Allowed, healthy, desired and expected.
const COUNTS: Words = Words {
    status: |row| match row {
        Row::PodDisruptionBudget(budget) => {
            let s = &budget.status;
            let (allowed, healthy) = (s.disruptions_allowed, s.current_healthy);
            format!(
                "{allowed} of {healthy}/{}/{}",
                s.desired_healthy, s.expected_pods
            )
        }
        _ => String::new(),
    },
    ..PLAIN
};

fn budget(name: &str, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": "web"}}},
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    object
}

fn set(name: &str, replicas: i32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "x"}]}}}})
}

fn pod(name: &str, owner: Option<(&str, &str, &str)>) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "x"}]}});
    if let Some((kind, owner, uid)) = owner {
        let version = if kind == "Node" { "v1" } else { "apps/v1" };
        pod["metadata"]["ownerReferences"] = json!([{"apiVersion": version, "kind": kind,
            "name": owner, "uid": uid, "controller": true}]);
    }
    pod
}

/// A budget over the pods of ReplicaSets with these sizes; each pod is `set state`.
fn counted(spec: Value, sizes: &[(&str, i32)], pods: &[(&str, &str)]) -> String {
    let sets: Vec<Value> = sizes.iter().map(|(name, size)| set(name, *size)).collect();
    let mut desk = Desk::new(DisruptionController, COUNTS, &sets);
    for (nth, (of, state)) in pods.iter().enumerate() {
        let found = desk.store.view().of::<ReplicaSet>().find("default", of);
        let uid = found.map(|(_, set)| set.meta.uid);
        let name = format!("{of}-{nth}");
        let mut row = pod(&name, None);
        desk.create(&row.take());
        let object = desk.find(Kind::Pod, &name);
        if let Some(uid) = uid {
            let owner = OwnerRef {
                kind: Kind::ReplicaSet,
                api_version: "apps/v1".into(),
                kind_name: "ReplicaSet".into(),
                name: (*of).into(),
                uid,
                controller: true,
                block_owner_deletion: true,
            };
            desk.write(&patch(object, Patch::AddOwner(owner)));
        }
        desk.pods(&format!("{name} {state}"));
    }
    desk.create(&budget("pdb", spec));
    desk.log()
}

fn patch(object: ObjectId, patch: Patch) -> Write {
    Write::Patch {
        object,
        uid: None,
        patch,
    }
}

#[test]
fn budgets_count_healthy_pods_against_the_sizes_that_are_wanted() {
    let (r, u) = (("web", "ready"), ("web", "running"));
    type Case<'a> = (Value, i32, Vec<(&'a str, &'a str)>, &'a str);
    let table: Vec<Case<'_>> = vec![
        (json!({"minAvailable": 2}), 4, vec![r; 4], "2 of 4/2/4"),
        (
            json!({"minAvailable": 2}),
            4,
            vec![r, r, u, u],
            "0 of 2/2/4",
        ),
        // ⌈67 % of 3⌉ = 3, ⌈50 % of 3⌉ = 2, ⌈34 % of 3⌉ = 2, ⌈80 % of 1⌉ = 1
        (json!({"minAvailable": "67%"}), 3, vec![r; 3], "0 of 3/3/3"),
        (json!({"minAvailable": "50%"}), 3, vec![r; 3], "1 of 3/2/3"),
        (json!({"minAvailable": "34%"}), 3, vec![r; 3], "1 of 3/2/3"),
        (json!({"minAvailable": "80%"}), 1, vec![r], "0 of 1/1/1"),
        (json!({"maxUnavailable": 1}), 3, vec![r; 3], "1 of 3/2/3"),
        (json!({"maxUnavailable": 1}), 3, vec![r, r, u], "0 of 2/2/3"),
        // 5 are wanted though only 3 are there
        (json!({"maxUnavailable": 1}), 5, vec![r; 3], "0 of 3/4/5"),
        // ⌈30 % of 5⌉ = 2
        (
            json!({"maxUnavailable": "30%"}),
            5,
            vec![r; 5],
            "2 of 5/3/5",
        ),
        (json!({"maxUnavailable": 9}), 3, vec![r; 3], "3 of 3/0/3"),
        // neither: nothing is expected and nothing allowed
        (json!({}), 3, vec![r; 3], "0 of 3/0/0"),
    ];
    for (spec, size, pods, expected) in table {
        let got = counted(spec.clone(), &[("web", size)], &pods);
        assert_eq!(got, expected, "{spec} over {size}");
    }
    // several owners: 3 + 2 pods are wanted
    let sizes = [("web", 3), ("api", 2)];
    let pods = [r, r, r, ("api", "ready"), ("api", "ready")];
    let share = json!({"minAvailable": "50%"});
    assert_eq!(counted(share, &sizes, &pods), "2 of 5/3/5");
}

#[test]
fn what_cannot_be_counted_allows_nothing_and_says_why() {
    let share = json!({"maxUnavailable": "50%"});
    let table = [
        (
            Some(("DaemonSet", "agent", "7")),
            "daemonsets.apps does not implement the scale subresource",
        ),
        (
            Some(("Node", "n1", "7")),
            "nodes does not implement the scale subresource",
        ),
        (
            Some(("ReplicaSet", "gone", "7")),
            "found no controllers for pod \"p\"",
        ),
        // the set of this name is another one
        (
            Some(("ReplicaSet", "web", "777")),
            "found no controllers for pod \"p\"",
        ),
    ];
    for (owner, why) in table {
        let objects = [set("web", 2), pod("p", owner), budget("pdb", share.clone())];
        let mut desk = Desk::new(DisruptionController, COUNTS, &objects);
        let told = format!(
            "warning CalculateExpectedPodCountFailed: Failed to calculate the number of expected \
             pods: {why}"
        );
        assert_eq!(desk.events().first(), Some(&told));
        let (_, row) = desk
            .store
            .view()
            .of::<PodDisruptionBudget>()
            .iter()
            .next()
            .unwrap();
        let condition = &row.status.conditions[0];
        assert_eq!(
            (&*condition.reason, &*condition.message),
            ("SyncFailed", why)
        );
        // a number needs no controller
        desk.create(&budget("whole", json!({"minAvailable": 0})));
        desk.pods("p ready");
        assert!(!desk.log().is_empty());
    }
}

#[test]
fn missing_unmanaged_and_doubly_selected_pods_are_told() {
    let mut desk = Desk::new(
        DisruptionController,
        COUNTS,
        &[budget("pdb", json!({"maxUnavailable": 1}))],
    );
    assert_eq!(desk.events()[0], "NoPods: No matching pods found");
    desk.create(&pod("bare", None));
    let told = desk.events();
    let start = "warning UnmanagedPods: Pods selected by this PodDisruptionBudget (selector: \
                 &LabelSelector{MatchLabels:map[string]string{app: web,},MatchExpressions:\
                 []LabelSelectorRequirement{},}) were found to be unmanaged.";
    assert!(told[0].starts_with(start), "{told:?}");
    desk.create(&budget("second", json!({"minAvailable": 0})));
    desk.events();
    desk.pods("bare ready");
    let told = desk.events();
    let expected = "warning MultiplePodDisruptionBudgets: Pod \"default\"/\"bare\" matches \
                    multiple PodDisruptionBudgets.  Chose \"pdb\" arbitrarily.";
    assert!(told.iter().any(|t| t == expected), "{told:?}");
}

#[test]
fn a_selector_is_printed_as_go_prints_it() {
    let selector = json!({"matchLabels": {"b": "2", "a": "1"}, "matchExpressions": [
        {"key": "tier", "operator": "In", "values": ["x", "y"]}]});
    assert_eq!(
        printed(&selector),
        "&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},MatchExpressions:\
         []LabelSelectorRequirement{LabelSelectorRequirement{Key:tier,Operator:In,Values:[x y],},\
         },}"
    );
}

/// Two minutes after it was granted an eviction that led to nothing is taken back.
#[test]
fn a_granted_eviction_that_led_to_nothing_is_forgotten() {
    let objects = [pod("p", None), budget("pdb", json!({"minAvailable": 0}))];
    let mut desk = Desk::new(DisruptionController, COUNTS, &objects);
    desk.pods("p ready");
    let object = desk.find(Kind::PodDisruptionBudget, "pdb");
    let table = desk.store.view().of::<PodDisruptionBudget>();
    let mut row = PodDisruptionBudget::clone(table.get(object.typed().unwrap()).unwrap());
    row.status.disruptions_allowed = 0;
    row.status.disrupted = vec![("p".into(), desk.now)];
    desk.log();
    desk.write(&Write::UpdateStatus(object, row.into()));
    // the pod counts as going
    assert_eq!(desk.log(), "0 of 0/0/1");
    desk.events();
    desk.pass(119.0);
    assert_eq!(desk.log(), "");
    desk.pass(2.0);
    assert!(desk.log().ends_with("1 of 1/0/1"));
    let told = "warning NotDeleted: Pod was expected by PDB default/default to be deleted but it \
                wasn't";
    assert_eq!(desk.events()[0], told);
}

#[test]
fn an_announced_disruption_that_does_not_happen_is_taken_back() {
    let target = |reason: &str, now| PodCondition {
        kind: PodConditionKind::DisruptionTarget,
        status: Truth::True,
        since: now,
        reason: Some(reason.into()),
        message: None,
        observed_generation: 0,
    };
    let table = [
        ("DeletionByTaintManager", "ready", "~pod p PodConditions"),
        // the kubelet's own word stays
        ("TerminationByKubelet", "ready", ""),
        ("DeletionByTaintManager", "failed", ""),
        ("DeletionByTaintManager", "terminating", ""),
    ];
    for (reason, state, expected) in table {
        let mut desk = Desk::new(StaleDisruptionController, PLAIN, &[pod("p", None)]);
        desk.pods("p ready");
        let conditions = vec![target(reason, desk.now)];
        let object = desk.find(Kind::Pod, "p");
        let (phase, told) = (None, None);
        desk.write(&patch(
            object,
            Patch::PodConditions {
                conditions,
                phase,
                reason: told,
            },
        ));
        if state != "ready" {
            desk.pods(&format!("p {state}"));
        }
        desk.pass(119.0);
        assert_eq!(desk.log(), "", "{reason} {state}");
        desk.pass(1.0);
        assert_eq!(desk.log(), expected, "{reason} {state}");
    }
}
