//! Small stories of a StatefulSet: what happens to its pods, and what the controller does then.
//!
//! After `stateful_set_control_test.go` (`TestStatefulSetControl`,
//! `TestStatefulSetControlScaleDownDeleteError`, `TestStatefulSetControlRollingUpdate`,
//! `TestStatefulSetControlRollingUpdateWithPartition`, `TestStatefulSetControlOnDeleteUpdate`,
//! `TestStatefulSetControlLimitsHistory`, `TestStatefulSetControlRollback`,
//! `TestStatefulSetControlRollingUpdateWithMaxUnavailable`, `TestScaleUpStatefulSetWithMinReadySeconds`
//! and the cases of `StatefulSetStartOrdinal`), and `stateful_pod_control_test.go`.

use serde_json::{Value, json};

use super::*;
use crate::api::Kind;
use crate::control::desk::{Desk, PLAIN};
use crate::store::Patch;

type World = Desk<StatefulSetController>;

/// A set `db` with these fields in its spec, beside its defaults.
fn set(spec: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
        "spec": {"serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}},
                "spec": {"containers": [{"name": "c", "image": "x:v1"}]}}},
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    object
}

fn claims(names: &[&str]) -> Value {
    let one = |name: &&str| {
        json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}})
    };
    names.iter().map(one).collect()
}

/// With the feature gate `MaxUnavailableStatefulSet`.
fn bounded(spec: Value) -> World {
    Desk::new(StatefulSetController::new(true), PLAIN, &[set(&spec)])
}

fn world(spec: Value) -> World {
    Desk::new(StatefulSetController::new(false), PLAIN, &[set(&spec)])
}

impl World {
    /// Pods become ready, one after the other, until nothing is asked for any more.
    fn all_ready(mut self) -> Self {
        loop {
            let rows = self.store.view().pods().iter();
            let waits = |pod: &Pod| !pod.status.ready() && !pod.meta.deleting();
            let names = rows.filter(|(_, pod)| waits(pod));
            let Some(name) = names.map(|(_, pod)| pod.meta.name.clone()).min() else {
                break;
            };
            self.pods(&format!("{name} ready"));
        }
        self.log();
        self.events();
        self
    }

    fn change(&mut self, spec: Value) {
        let id = self.find(Kind::StatefulSet, "db");
        self.patch(id, json!({ "spec": spec }));
    }

    /// A new image; returns what is asked for.
    fn image(&mut self, image: &str) -> String {
        let containers = json!([{"name": "c", "image": image}]);
        self.change(json!({"template": {"spec": {"containers": containers}}}));
        self.log()
    }

    /// The claim is gone, whatever protects it.
    fn lose_claim(&mut self, name: &str) {
        let object = self.find(Kind::PersistentVolumeClaim, name);
        self.write(&Write::Patch {
            object,
            uid: None,
            patch: Patch::Finalizers(Vec::new()),
        });
        self.delete(object);
    }

    fn image_of(&self, pod: &str) -> String {
        let (_, pod) = self
            .store
            .view()
            .pods()
            .find("default", pod)
            .expect("it is there");
        pod.spec.containers[0].image.to_string()
    }

    /// Each step's states of pods, and what is asked for then.
    fn check(&mut self, steps: &[(&str, &str)]) {
        for (states, expected) in steps {
            self.pods(states);
            assert_eq!(self.log(), *expected, "after {states:?}");
        }
    }
}

#[test]
fn pods_come_in_order_each_when_the_one_before_is_ready() {
    let mut world = world(json!({"replicas": 3}));
    assert_eq!(world.log(), "+revision, +pod db-0");
    world.check(&[
        ("db-0 running", ""),
        ("db-0 ready", "+pod db-1"),
        // the first one is not ready any more: nobody goes on
        ("db-0 running", ""),
        ("db-1 ready", ""),
        ("db-0 ready", "+pod db-2"),
        ("db-2 ready", ""),
        // a missing one comes back before anything else
        ("db-1 terminating", ""),
        ("db-1 gone", "+pod db-1"),
    ]);
}

#[test]
fn pods_go_in_reverse_and_only_the_lowest_of_the_unwell_may_go_unwell() {
    let mut world = world(json!({"replicas": 3})).all_ready();
    world.change(json!({"replicas": 0}));
    assert_eq!(world.log(), "-pod db-2");
    world.check(&[
        ("db-1 running", ""),
        // db-1 is the only unwell one
        ("db-2 gone", "-pod db-1"),
        ("db-1 gone", "-pod db-0"),
    ]);

    let mut world = super::tests::world(json!({"replicas": 3})).all_ready();
    world.pods("db-0 running, db-2 running");
    world.change(json!({"replicas": 0}));
    // db-0 is the lowest unwell one; db-2 is unwell, and first in line
    assert_eq!(world.log(), "");
    world.check(&[("db-0 ready", "-pod db-2")]);
}

#[test]
fn scaling_down_waits_for_the_pods_that_stay() {
    let mut world = world(json!({"replicas": 3})).all_ready();
    world.pods("db-0 running");
    world.change(json!({"replicas": 1}));
    assert_eq!(world.log(), "");
    world.check(&[("db-0 ready", "-pod db-2"), ("db-2 gone", "-pod db-1")]);
}

#[test]
fn a_parallel_set_waits_for_nobody() {
    let mut world = world(json!({"replicas": 4, "podManagementPolicy": "Parallel"}));
    assert_eq!(
        world.log(),
        "+revision, +pod db-0, +pod db-1, +pod db-2, +pod db-3"
    );
    world.check(&[("db-1 ready", "")]);
    world.change(json!({"replicas": 1}));
    assert_eq!(world.log(), "-pod db-3, -pod db-2, -pod db-1");
}

#[test]
fn a_rollout_replaces_the_last_pod_first_and_waits_for_each() {
    for bounded in [false, true] {
        let controller = StatefulSetController::new(bounded);
        let set = set(&json!({"replicas": 3}));
        let mut world = Desk::new(controller, PLAIN, &[set]).all_ready();
        assert_eq!(world.image("x:v2"), "+revision, -pod db-2");
        world.check(&[
            ("db-2 gone", "+pod db-2"),
            ("db-2 running", ""),
            ("db-2 ready", "-pod db-1"),
            ("db-1 gone", "+pod db-1"),
            // one of the new ones fails: it is replaced, and the rollout waits for it
            // in order: db-1 comes first
            ("db-2 failed", ""),
            ("db-1 ready", "-pod db-2, +pod db-2"),
            ("db-2 ready", "-pod db-0"),
            ("db-0 gone", "+pod db-0"),
            ("db-0 ready", ""),
        ]);
        assert_eq!(world.image_of("db-0"), "x:v2");
    }
}

/// What blocks a rollout stays: a pod of a broken revision is not replaced until somebody deletes it.
#[test]
fn a_broken_rollout_stays_broken_after_the_template_is_put_right() {
    let mut world = world(json!({"replicas": 2})).all_ready();
    assert_eq!(world.image("x:bad"), "+revision, -pod db-1");
    world.check(&[("db-1 gone", "+pod db-1"), ("db-1 running", "")]);
    // the old revision is the newest again, but db-1 is not ready
    assert_eq!(world.image("x:v1"), "~revision");
    world.check(&[("db-1 gone", "+pod db-1")]);
    assert_eq!(world.image_of("db-1"), "x:v1");
}

#[test]
fn max_unavailable_lets_several_go_at_once() {
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}});
    let mut world = bounded(json!({"replicas": 3, "updateStrategy": rolling})).all_ready();
    assert_eq!(world.image("x:v2"), "+revision, -pod db-2, -pod db-1");
    world.check(&[
        // in order: db-1 comes first
        ("db-2 gone", ""),
        ("db-1 gone", "+pod db-1"),
        ("db-1 ready", "+pod db-2"),
        ("db-2 ready", "-pod db-0"),
    ]);

    let mut world = bounded(json!({"replicas": 4, "podManagementPolicy": "Parallel",
        "updateStrategy": rolling}))
    .all_ready();
    assert_eq!(world.image("x:v2"), "+revision, -pod db-3, -pod db-2");
    world.check(&[
        ("db-3 gone", "+pod db-3"),
        ("db-3 running", ""),
        // one of two is unavailable: one more may go
        ("db-3 ready", "-pod db-1"),
    ]);

    // ⌊30 % of 3⌋ is none, but one may always go
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "30%"}});
    let mut world = bounded(json!({"replicas": 3, "updateStrategy": rolling})).all_ready();
    assert_eq!(world.image("x:v2"), "+revision, -pod db-2");
}

#[test]
fn pods_below_the_partition_keep_their_revision_even_when_they_come_again() {
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}});
    let mut world = world(json!({"replicas": 4, "updateStrategy": rolling})).all_ready();
    assert_eq!(world.image("x:v2"), "+revision, -pod db-3");
    world.check(&[
        ("db-3 gone", "+pod db-3"),
        ("db-3 ready", "-pod db-2"),
        ("db-2 gone", "+pod db-2"),
        ("db-2 ready", ""),
        ("db-0 gone", "+pod db-0"),
        ("db-0 ready", ""),
    ]);
    let images = [0, 1, 2, 3].map(|n| world.image_of(&format!("db-{n}")));
    assert_eq!(images, ["x:v1", "x:v1", "x:v2", "x:v2"]);
    world.change(json!({"updateStrategy": {"rollingUpdate": {"partition": 0}}}));
    assert_eq!(world.log(), "-pod db-1");
}

#[test]
fn on_delete_replaces_what_others_delete() {
    let strategy = json!({"type": "OnDelete"});
    let mut world = world(json!({"replicas": 2, "updateStrategy": strategy})).all_ready();
    assert_eq!(world.image("x:v2"), "+revision");
    world.check(&[("db-1 gone", "+pod db-1")]);
    assert_eq!(world.image_of("db-1"), "x:v2");
    assert_eq!(world.image_of("db-0"), "x:v1");
}

#[test]
fn a_ready_pod_counts_after_min_ready_seconds() {
    let mut world = world(json!({"replicas": 2, "minReadySeconds": 10}));
    world.log();
    world.check(&[("db-0 ready", "")]);
    world.pass(9.0);
    assert_eq!(world.log(), "");
    world.pass(1.0);
    assert_eq!(world.log(), "+pod db-1");
}

/// Ended pods are deleted whatever their exit code, and made again under the same name.
#[test]
fn ended_pods_are_made_again() {
    let mut world = world(json!({"replicas": 2})).all_ready();
    world.check(&[
        ("db-0 failed", "-pod db-0, +pod db-0"),
        ("db-0 ready", ""),
        ("db-1 succeeded", "-pod db-1, +pod db-1"),
    ]);
}

#[test]
fn ordinals_begin_where_the_set_says_and_move_when_it_says_so() {
    let mut world = world(json!({"replicas": 2, "ordinals": {"start": 3}}));
    assert_eq!(world.log(), "+revision, +pod db-3");
    world.check(&[("db-3 ready", "+pod db-4"), ("db-4 ready", "")]);
    world.change(json!({"ordinals": {"start": 4}}));
    // 4 and 5 are wanted, 3 has to go when they are well
    assert_eq!(world.log(), "+pod db-5");
    world.check(&[("db-5 ready", "-pod db-3")]);
}

#[test]
fn the_history_keeps_what_pods_are_of_and_as_many_more_as_allowed() {
    let mut world = world(json!({"replicas": 0, "revisionHistoryLimit": 1}));
    assert_eq!(world.log(), "+revision");
    assert_eq!(world.image("x:v2"), "+revision");
    // v1 is beyond the limit
    assert_eq!(world.image("x:v3"), "+revision, -revision");
    // v2 is remembered and becomes the newest
    assert_eq!(world.image("x:v2"), "~revision");
    assert_eq!(world.image("x:v1"), "+revision, -revision");
    let numbers = world.store.view().of::<ControllerRevision>().iter();
    let mut numbers: Vec<i64> = numbers.map(|(_, r)| r.revision).collect();
    numbers.sort_unstable();
    // v2 was made the 4th, v1 is the 5th
    assert_eq!(numbers, [4, 5]);
}

#[test]
fn every_pod_has_its_claims_and_finds_them_again() {
    let mut world = world(json!({"replicas": 2, "volumeClaimTemplates": claims(&["data"])}));
    assert_eq!(world.log(), "+revision, +claim data-db-0, +pod db-0");
    assert_eq!(
        world.events(),
        [
            "SuccessfulCreate: Create Claim data-db-0 Pod db-0 in StatefulSet db success",
            "SuccessfulCreate: Create Pod db-0 in StatefulSet db successful",
        ]
    );
    world.check(&[
        ("db-0 ready", "+claim data-db-1, +pod db-1"),
        ("db-0 gone", "+pod db-0"),
    ]);
    // a claim that is deleted under a pod that waits is made again
    world.lose_claim("data-db-0");
    world.check(&[("db-1 running", "+claim data-db-0")]);
}

#[test]
fn a_claim_that_is_being_deleted_holds_up_its_pod() {
    let mut world =
        world(json!({"replicas": 1, "volumeClaimTemplates": claims(&["a", "b"])})).all_ready();
    for claim in ["a-db-0", "b-db-0"] {
        let object = world.find(Kind::PersistentVolumeClaim, claim);
        world.write(&Write::Patch {
            object,
            uid: None,
            patch: Patch::AddFinalizer("x/y".into()),
        });
        world.delete(object);
    }
    world.check(&[("db-0 gone", "")]);
    assert_eq!(
        world.events()[0],
        "warning FailedCreate: Create Pod db-0 in StatefulSet db failed error: [pvc a-db-0 is \
         being deleted, pvc b-db-0 is being deleted]"
    );
}

fn no_logs_for_the_second(write: &Write) -> Option<ApiError> {
    let Write::Create(row) = write else {
        return None;
    };
    (row.meta().name == "log-db-1").then(|| ApiError::Forbidden("no more".into()))
}

/// A goroutine for each pod: what one lacks does not keep the others from being made.
#[test]
fn a_claim_that_is_refused_holds_up_its_own_pod_alone() {
    let templates = claims(&["log", "data"]);
    let mut world = world(json!({"replicas": 0, "podManagementPolicy": "Parallel",
        "volumeClaimTemplates": templates}));
    world.log();
    world.refuses = Some(no_logs_for_the_second);
    world.change(json!({"replicas": 3}));
    let log = world.log();
    let first = "+claim log-db-0, +claim data-db-0, +pod db-0, +claim log-db-1 (403), \
                 +claim log-db-2, +claim data-db-1, +claim data-db-2, +pod db-2";
    assert!(log.starts_with(first), "{log}");
    let events = world.events();
    let failed = events.iter().filter(|e| e.starts_with("warning"));
    assert_eq!(
        failed.take(2).collect::<Vec<_>>(),
        [
            "warning FailedCreate: Create Claim log-db-1 for Pod db-1 in StatefulSet db failed \
             error: no more",
            "warning FailedCreate: Create Pod db-1 in StatefulSet db failed error: failed to \
             create PVC log-db-1: no more",
        ]
    );
    // it is tried again, and goes on when it can be had
    world.refuses = None;
    world.pass(1.0);
    assert_eq!(world.log(), "+claim log-db-1, +pod db-1");
}

#[test]
fn claims_go_with_the_set_or_with_the_pods_that_are_too_many() {
    let spec = |scaled: &str, deleted: &str| {
        json!({"replicas": 2, "volumeClaimTemplates": claims(&["data"]),
            "persistentVolumeClaimRetentionPolicy":
                {"whenScaled": scaled, "whenDeleted": deleted}})
    };
    // the set owns the claim as soon as the pod waits with it
    let mut world = world(spec("Retain", "Delete"));
    assert_eq!(
        world.log(),
        "+revision, +claim data-db-0, +pod db-0, ~claim data-db-0"
    );
    let mut world = super::tests::world(spec("Delete", "Retain")).all_ready();
    world.change(json!({"replicas": 1}));
    assert_eq!(world.log(), "~claim data-db-1, -pod db-1");
    world.check(&[("db-1 gone", "")]);
    // the claim still names the pod that is gone: a new one must not take it
    world.change(json!({"replicas": 2}));
    assert_eq!(world.log(), "");
    world.lose_claim("data-db-1");
    world.check(&[
        ("db-0 running", ""),
        ("db-0 ready", "+claim data-db-1, +pod db-1"),
    ]);
}

#[test]
fn a_foreign_controller_of_a_claim_is_told_each_time() {
    let mut world = world(
        json!({"replicas": 1, "volumeClaimTemplates": claims(&["data"]),
        "persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}}),
    );
    let object = world.find(Kind::PersistentVolumeClaim, "data-db-0");
    let set = world.store.view().of::<StatefulSet>().iter().next();
    let other = crate::api::OwnerRef {
        name: "other".into(),
        uid: crate::api::Uid(77),
        ..super::super::owner::controller_ref(&**set.expect("the set").1)
    };
    world.write(&Write::Patch {
        object,
        uid: None,
        patch: Patch::Owners(vec![other]),
    });
    world.events();
    // a pending pod is looked at, and nothing is done about the claim
    world.log();
    world.pods("db-0 gone");
    assert_eq!(world.log(), "+pod db-0");
    let events = world.events();
    let told = events.iter().filter(|e| {
        e.starts_with(
            "warning ConflictingController: PersistentVolumeClaim data-db-0 has a conflicting",
        )
    });
    // when it is made, and whenever it is seen to wait
    assert!(told.count() >= 2, "{events:?}");
}

#[test]
fn identity_is_put_right() {
    let mut world = world(json!({"replicas": 1})).all_ready();
    let object = world.find(Kind::Pod, "db-0");
    world.write(&Write::Patch {
        object,
        uid: None,
        patch: Patch::Labels(vec![(identity::POD_NAME_LABEL.into(), None)]),
    });
    assert_eq!(world.log(), "~pod db-0");
    assert_eq!(
        world.events(),
        ["SuccessfulUpdate: Update Pod db-0 in StatefulSet db successful"]
    );
}

#[test]
fn an_orphan_is_adopted_if_it_has_a_name_of_the_set() {
    let pod = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": "db"}},
            "spec": {"containers": [{"name": "c", "image": "x:v1"}]}})
    };
    let objects = [pod("db-0"), pod("other-0"), pod("db-x"), set(&json!({}))];
    let mut world = Desk::new(StatefulSetController::new(false), PLAIN, &objects);
    assert_eq!(world.log(), "~pod db-0 AddOwner, +revision");
    // it is of no revision, so it is replaced
    world.check(&[("db-0 ready", "~pod db-0, -pod db-0")]);
}
