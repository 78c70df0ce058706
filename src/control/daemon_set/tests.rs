//! Small stories of a DaemonSet: nodes come, change and go, pods fail, versions roll out.
//!
//! After `daemon_controller_test.go` (`TestSimpleDaemonSetLaunchesPods`,
//! `TestDealsWithExistingPods`, `TestNodeTaintDaemonLaunchesToleratePod`,
//! `TestPodIsNotDeletedByDaemonsetWithEmptyLabelSelector`, `TestDaemonKillFailedPods`,
//! `TestDaemonSetWithDeletedNode…`, `TestGetNodesToDaemonPods`, `TestSurgeDealsWithExistingPods`,
//! `TestSurgePreservesReadyOldPods`, `TestSurgeDeletesUnreadyOldPods`) and `update_test.go`
//! (`TestDaemonSetUpdatesPods`, `TestDaemonSetUpdatesSomeOldPodsNotReady`,
//! `TestDaemonSetUpdatesPodsWithMaxSurge`, `TestDaemonSetUpdatesAllOldPodsNotReadyMaxSurge`).

use serde_json::{Value, json};

use super::*;
use crate::api::Kind;
use crate::control::desk::{Desk, PLAIN, Words};

type World = Desk<DaemonSetController>;

/// Pods have random names: they are called by node and version.
const BY_NODE: Words = Words {
    name: |row| match row {
        Row::Pod(pod) => {
            let image = &pod.spec.containers[0].image;
            let version = image.trim_start_matches("x:");
            Some(format!("{}:{version}", nodes::target(pod)?))
        }
        _ => None,
    },
    ..PLAIN
};

fn set(spec: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent"},
        "spec": {"selector": {"matchLabels": {"app": "agent"}},
            "template": {"metadata": {"labels": {"app": "agent"}},
                "spec": {"containers": [{"name": "c", "image": "x:v1"}]}}},
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    object
}

fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
}

/// `n1`, `n2`, `n3`.
fn world(spec: Value) -> World {
    let objects = [node("n1"), node("n2"), node("n3"), set(&spec)];
    Desk::new(DaemonSetController::default(), BY_NODE, &objects)
}

impl World {
    /// All three pods are ready.
    fn all_ready(mut self) -> Self {
        self.on("n1 ready, n2 ready, n3 ready");
        self.log();
        self.events();
        self
    }

    /// States of pods by node: the youngest that is not being deleted, or, after `old`, the oldest.
    fn on(&mut self, states: &str) {
        for text in states.split(", ") {
            let words: Vec<&str> = text.split(' ').collect();
            let (which, node, state) = match words.as_slice() {
                ["old", node, state] => (0, *node, *state),
                [node, state] => (1, *node, *state),
                other => panic!("{other:?}"),
            };
            let table = self.store.view().pods();
            let here = table.iter().filter(|(_, pod)| {
                let alive = !pod.meta.deleting() || state == "gone";
                alive && nodes::target(pod).is_some_and(|n| n == node)
            });
            let names: Vec<_> = here.map(|(_, pod)| pod.meta.name.clone()).collect();
            let name = if which == 0 {
                names.first()
            } else {
                names.last()
            };
            let text = format!("{} {state}", name.expect("a pod on the node"));
            self.bind_and(&text, node);
        }
    }

    fn bind_and(&mut self, text: &str, node: &str) {
        let (name, state) = text.split_once(' ').unwrap();
        let id: Id<Pod> = self.find(Kind::Pod, name).typed().unwrap();
        let pod = self.store.view().pods().get(id).unwrap();
        let (bound, uid) = (pod.node_name.is_some(), pod.meta.uid);
        if !bound && state != "gone" {
            let (pod, node) = (id, node.into());
            self.write(&Write::Bind { pod, uid, node });
        }
        self.pods(text);
    }

    fn change(&mut self, spec: Value) {
        let id = self.find(Kind::DaemonSet, "agent");
        self.patch(id, json!({ "spec": spec }));
    }

    fn image(&mut self, image: &str) -> String {
        let containers = json!([{"name": "c", "image": image}]);
        self.change(json!({"template": {"spec": {"containers": containers}}}));
        self.log()
    }

    fn taint(&mut self, node: &str, effect: &str) -> String {
        let id = self.find(Kind::Node, node);
        let taints = match effect {
            "" => json!([]),
            effect => json!([{"key": "k", "effect": effect}]),
        };
        self.patch(id, json!({"spec": {"taints": taints}}));
        self.log()
    }

    fn check(&mut self, steps: &[(&str, &str)]) {
        for (states, expected) in steps {
            self.on(states);
            assert_eq!(self.log(), *expected, "after {states:?}");
        }
    }
}

fn rolling(surge: Value, unavailable: Value) -> Value {
    json!({"updateStrategy": {"type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}})
}

#[test]
fn every_suitable_node_gets_a_pod_when_it_becomes_suitable() {
    let mut world = world(json!({}));
    assert_eq!(world.log(), "+revision, +pod n1:v1, +pod n2:v1, +pod n3:v1");
    world = world.all_ready();
    world.create(&node("n4"));
    assert_eq!(world.log(), "+pod n4:v1");
    // a pod that is there may stay on a node where a new one would not be made
    assert_eq!(world.taint("n1", "NoSchedule"), "");
    world.check(&[("n1 terminating", ""), ("n1 gone", "")]);
    assert_eq!(world.taint("n1", ""), "+pod n1:v1");
    assert_eq!(world.taint("n2", "NoExecute"), "-pod n2:v1");
    world.check(&[("n2 gone", "")]);
    assert_eq!(world.taint("n2", "PreferNoSchedule"), "+pod n2:v1");
}

#[test]
fn node_selectors_follow_labels() {
    let mut object = set(&json!({}));
    object["spec"]["template"]["spec"]["nodeSelector"] = json!({"disk": "ssd"});
    let objects = [node("n1"), node("n2"), object];
    let mut world = Desk::new(DaemonSetController::default(), BY_NODE, &objects);
    assert_eq!(world.log(), "+revision");
    let label = |world: &mut World, node: &str, disk: Value| {
        let id = world.find(Kind::Node, node);
        world.patch(id, json!({"metadata": {"labels": {"disk": disk}}}));
        world.log()
    };
    assert_eq!(label(&mut world, "n2", json!("ssd")), "+pod n2:v1");
    world.on("n2 ready");
    assert_eq!(label(&mut world, "n2", json!("hdd")), "-pod n2:v1");
}

#[test]
fn a_pod_that_waits_for_a_node_that_is_gone_is_deleted() {
    let mut world = world(json!({})).all_ready();
    world.create(&node("n4"));
    assert_eq!(world.log(), "+pod n4:v1");
    let id = world.find(Kind::Node, "n4");
    world.delete(id);
    // nobody tells the controller that a node is gone; it sees it when it looks next
    assert_eq!(world.log(), "");
    world.check(&[("n1 running", "-pod n4:v1")]);
}

/// 1 s after the first failure, 2 s after the second.
#[test]
fn failed_pods_are_deleted_but_not_in_a_hot_loop() {
    let mut world = world(json!({})).all_ready();
    world.check(&[("n1 failed", "-pod n1:v1, +pod n1:v1")]);
    let told = world.events();
    let told = told.iter().find(|e| e.contains("FailedDaemonPod"));
    let told = told.expect("it is told");
    assert!(told.starts_with("warning FailedDaemonPod: Found failed daemon pod default/agent-"));
    assert!(told.ends_with(" on node n1, will try to kill it"), "{told}");
    world.check(&[("n1 failed", "")]);
    world.pass(1.0);
    assert_eq!(world.log(), "-pod n1:v1, +pod n1:v1");
    world.check(&[("n1 failed", "")]);
    world.pass(1.0);
    assert_eq!(world.log(), "");
    world.pass(1.0);
    assert_eq!(world.log(), "-pod n1:v1, +pod n1:v1");
    // other nodes have a back-off of their own; a pod that succeeded goes at once
    world.check(&[
        ("n2 failed", "-pod n2:v1, +pod n2:v1"),
        ("n1 succeeded", "-pod n1:v1, +pod n1:v1"),
    ]);
}

#[test]
fn of_several_pods_on_a_node_the_oldest_stays() {
    let stray = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "stray", "labels": {"app": "agent"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "x:old"}]}});
    let mut world = world(json!({})).all_ready();
    world.pass(5.0);
    world.create(&stray);
    assert_eq!(world.log(), "~pod n1:old AddOwner, -pod n1:old");
}

#[test]
fn old_pods_go_as_far_as_they_may_be_unavailable() {
    let mut world = world(rolling(json!(0), json!(1))).all_ready();
    assert_eq!(world.image("x:v2"), "+revision, -pod n1:v1");
    world.check(&[
        ("n1 gone", "+pod n1:v2"),
        ("n1 running", ""),
        ("n1 ready", "-pod n2:v1"),
        ("n2 gone", "+pod n2:v2"),
        // a pod that is not available is replaced beyond the limit
        ("n3 running", "-pod n3:v1"),
        ("n3 gone", "+pod n3:v2"),
        ("n2 ready, n3 ready", ""),
    ]);

    // ⌈50 % of 3⌉ = 2
    let mut world = super::tests::world(rolling(json!(0), json!("50%"))).all_ready();
    assert_eq!(world.image("x:v2"), "+revision, -pod n1:v1, -pod n2:v1");

    // the old pod of n3 is not available and uses up what is allowed
    let mut world = super::tests::world(rolling(json!(0), json!(1))).all_ready();
    world.on("n3 running");
    assert_eq!(world.image("x:v2"), "+revision, -pod n3:v1");
    // a node without a pod counts as unavailable, too
    let mut world = super::tests::world(rolling(json!(0), json!(1))).all_ready();
    world.on("n2 terminating");
    world.log();
    assert_eq!(world.image("x:v2"), "+revision");
}

#[test]
fn with_surge_the_new_pod_comes_first() {
    let mut world = world(rolling(json!(1), json!(0))).all_ready();
    assert_eq!(world.image("x:v2"), "+revision, +pod n1:v2");
    world.check(&[
        ("n1 running", ""),
        // the old one goes, and the next node is taken
        ("n1 ready", "-pod n1:v1, +pod n2:v2"),
        // an old pod that is not ready goes for the new one at once
        ("old n2 running", "-pod n2:v1, +pod n3:v2"),
        ("old n3 running", "-pod n3:v1"),
    ]);

    // an old pod that is not available gets a new one beyond the surge, and goes for it
    let mut world = super::tests::world(rolling(json!(1), json!(0))).all_ready();
    world.on("n3 running");
    assert_eq!(
        world.image("x:v2"),
        "+revision, +pod n3:v2, +pod n1:v2, -pod n3:v1"
    );
}

#[test]
fn a_surge_waits_for_a_pod_on_a_node_that_is_gone() {
    let mut world = world(rolling(json!(1), json!(0))).all_ready();
    let id = world.find(Kind::Node, "n3");
    world.delete(id);
    assert_eq!(world.image("x:v2"), "+revision");
    world.pass(0.5);
    assert_eq!(world.log(), "");
    world.check(&[("n3 gone", "+pod n1:v2")]);
}

#[test]
fn on_delete_replaces_what_others_delete() {
    let mut world = world(json!({"updateStrategy": {"type": "OnDelete"}})).all_ready();
    assert_eq!(world.image("x:v2"), "+revision");
    world.check(&[("n2 terminating", ""), ("n2 gone", "+pod n2:v2")]);
}

#[test]
fn with_min_ready_seconds_a_new_pod_counts_later() {
    let mut spec = rolling(json!(0), json!(1));
    spec["minReadySeconds"] = json!(10);
    let mut world = world(spec).all_ready();
    world.pass(20.0);
    assert_eq!(world.image("x:v2"), "+revision, -pod n1:v1");
    world.check(&[("n1 gone", "+pod n1:v2"), ("n1 ready", "")]);
    world.pass(9.0);
    assert_eq!(world.log(), "");
    world.pass(2.0);
    assert_eq!(world.log(), "-pod n2:v1");
}

#[test]
fn the_history_keeps_what_pods_are_of_and_as_many_more_as_allowed() {
    let mut object = set(&json!({"revisionHistoryLimit": 1}));
    object["spec"]["template"]["spec"]["nodeSelector"] = json!({"no": "node"});
    let mut world = Desk::new(DaemonSetController::default(), BY_NODE, &[object]);
    assert_eq!(world.log(), "+revision");
    assert_eq!(world.image("x:v2"), "+revision");
    assert_eq!(world.image("x:v3"), "+revision, -revision");
    assert_eq!(world.image("x:v2"), "~revision");
}

#[test]
fn equal_revisions_become_one_and_pods_follow() {
    let mut world = world(json!({})).all_ready();
    let table = world.store.view().of::<ControllerRevision>();
    let (_, first) = table.iter().next().expect("a revision");
    let mut copy = ControllerRevision::clone(first);
    let labels = &copy.meta.labels;
    copy.meta.labels = labels.with(super::super::history::REVISION_LABEL, "copy");
    copy.meta.name = "agent-copy".into();
    copy.revision = 7;
    world.write(&Write::Create(copy.into()));
    world.on("n1 running");
    // the newer one stays, its label goes to the pods, the older one goes
    assert_eq!(
        world.log(),
        "~pod n1:v1 Labels, ~pod n2:v1 Labels, ~pod n3:v1 Labels, -revision"
    );
}

#[test]
fn in_a_namespace_that_goes_away_nothing_is_tried_again() {
    let mut world = world(json!({})).all_ready();
    world.refuses = Some(|write| {
        let why = "pods \"x\" is forbidden: unable to create new content in namespace default \
                   because it is being terminated";
        matches!(write, Write::Create(_)).then(|| ApiError::Forbidden(why.into()))
    });
    world.check(&[("n1 gone", "+pod n1:v1 (403)")]);
    world.pass(60.0);
    assert_eq!(world.log(), "");
    assert!(!world.events().iter().any(|e| e.contains("FailedCreate")));
}
