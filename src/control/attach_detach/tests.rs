//! One volume, two nodes, and what becomes of it. After `reconciler_test.go` of
//! `pkg/controller/volume/attachdetach` (`Test_Run_OneVolumeAttachAndDetach…`,
//! `Test_Run_OneVolumeAttachMultipleNodesWithReadWriteOnce`,
//! `Test_Run_OneVolumeDetachOnOutOfServiceTaintedNode`,
//! `Test_Run_OneVolumeDetachOnUnhealthyNode`, `…OnNoOutOfServiceTaintedNode`).

use serde_json::json;

use super::*;
use crate::api::affinity::{Taint, TaintEffect};
use crate::api::pod_status::{ContainerState, ContainerStatus, Truth};
use crate::api::{Kind, Row};
use crate::control::desk::{Desk, Words};

/// An attachment is called by its node.
const WORDS: Words = Words {
    status: |row| match row {
        Row::VolumeAttachment(a) if a.status.attached => format!("on {}", a.node),
        _ => String::new(),
    },
    name: |row| match row {
        Row::VolumeAttachment(a) => Some(a.node.to_string()),
        _ => None,
    },
};

/// A disk that takes 5 s to attach and 3 s to detach, and the nodes n1 and n2.
fn desk(modes: &[&str]) -> Desk<AttachDetach> {
    let node = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    };
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"}, "spec": {"accessModes": modes, "volumeName": "disk",
            "resources": {"requests": {"storage": "1Gi"}}}});
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": "disk", "annotations": {"rehearsal.dev/attach": "5s",
            "rehearsal.dev/detach": "3s"}},
        "spec": {"accessModes": modes, "capacity": {"storage": "1Gi"},
            "csi": {"driver": "disk.example", "volumeHandle": "h"},
            "claimRef": {"namespace": "default", "name": "data"}}});
    let objects = [node("n1"), node("n2"), claim, volume];
    Desk::new(AttachDetach::default(), WORDS, &objects)
}

/// One thing that happens: `a n1` makes the pod a on that node, `a starts` its container,
/// `a gone` removes it, `n1 uses`,
/// `n1 free` are what its kubelet says, `n1 lost` that it is not ready, `n1 out` its taint, `n1
/// deleted`, and `5s` lets time pass.
fn happens(desk: &mut Desk<AttachDetach>, what: &str) {
    if let Some(seconds) = what.strip_suffix('s').and_then(|n| n.parse().ok()) {
        return desk.pass(seconds);
    }
    let (who, what) = what.split_once(' ').expect("who what");
    match what {
        "n1" | "n2" | "n3" => desk.create(&json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": who}, "spec": {"nodeName": what,
                "containers": [{"name": "c", "image": "x"}],
                "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}})),
        "gone" | "terminating" | "running" | "succeeded" => desk.pods(&format!("{who} {what}")),
        "starts" => {
            let id = desk.find(Kind::Pod, who);
            let row = desk.store.view().row(id).expect("a pod");
            let Row::Pod(pod) = row else { panic!("a pod") };
            let mut status = pod.status.clone();
            status.containers.push(ContainerStatus {
                name: "c".into(),
                state: ContainerState::Running { since: desk.now },
                ..ContainerStatus::default()
            });
            desk.write(&Write::Patch {
                object: id,
                uid: None,
                patch: Patch::PodStatus(status),
            });
        }
        "deleted" => {
            let node = desk.find(Kind::Node, who);
            desk.delete(node);
        }
        _ => {
            let object = desk.find(Kind::Node, who);
            let (_, row) = desk
                .store
                .view()
                .nodes()
                .named(&Text::default(), &who.into())
                .expect("a node");
            let mut node = Node::clone(row);
            match what {
                "uses" => node.status.volumes_in_use = vec!["disk".into()],
                "free" => node.status.volumes_in_use.clear(),
                "lost" => node.status.conditions[0].status = Truth::Unknown,
                "out" => {
                    node.taints.push(Taint {
                        key: OUT_OF_SERVICE.into(),
                        value: Text::default(),
                        effect: TaintEffect::NoExecute,
                        added: None,
                    });
                    return desk.write(&Write::Update(object, node.into()));
                }
                other => panic!("{other}"),
            }
            desk.write(&Write::UpdateStatus(object, node.into()));
        }
    }
}

fn check(modes: &[&str], story: &[(&str, &str)]) {
    let mut desk = desk(modes);
    for (at, (what, expected)) in story.iter().enumerate() {
        for what in what.split(", ") {
            happens(&mut desk, what);
        }
        let mut said = vec![desk.log()];
        said.retain(|log| !log.is_empty());
        said.extend(desk.events());
        assert_eq!(said.join("; "), *expected, "{at}: {what}");
    }
}

const ATTACHED: &str = "SuccessfulAttachVolume: AttachVolume.Attach succeeded for volume \"disk\" ";
const HELD: &str = "warning FailedAttachVolume: Multi-Attach error for volume \"disk\" Volume is \
                    already exclusively attached to one node and can't be attached to another";

#[test]
fn a_volume_follows_its_pod() {
    let on_n2 = format!("on n2; {ATTACHED}");
    check(
        &["ReadWriteOnce"],
        &[
            ("a n1", "+volumeattachment n1"),
            ("4s", ""),
            ("1s", &format!("on n1; {ATTACHED}")),
            ("n1 uses, a running, a terminating, 60s", ""),
            // no pod needs it, but it is mounted still; another pod comes, and is told why it waits
            ("a gone, 60s", ""),
            ("b n2, 5s", HELD),
            ("n1 free", "-volumeattachment n1"),
            // while the driver is at work nobody is told again
            ("c n2, 2s", ""),
            (
                "1s",
                "~volumeattachment n1 Finalizers, +volumeattachment n2",
            ),
            ("5s", &format!("{on_n2}; {ATTACHED}")),
            ("b gone, c gone", "-volumeattachment n2"),
            ("3s", "~volumeattachment n2 Finalizers"),
        ],
    );
}

#[test]
fn a_second_node_waits_for_a_volume_of_one_writer_and_not_for_others() {
    let used = |by: &str| {
        format!(
            "warning FailedAttachVolume: Multi-Attach error for volume \"disk\" Volume is already \
             used by pod(s) {by}"
        )
    };
    let once: &[(&str, &str)] = &[
        ("a n1", "+volumeattachment n1"),
        // nothing is said before it is there
        ("b n2, 4s", ""),
        ("1s", &format!("on n1; {ATTACHED}; {}", used("a"))),
        // once for each node
        ("c n2, 60s", ""),
        ("b gone, c gone, d n2", &used("a")),
        // what has ended needs nothing
        ("a succeeded", "-volumeattachment n1"),
    ];
    check(&["ReadWriteOnce"], once);
    check(&["ReadWriteOncePod"], once);
    let many: &[(&str, &str)] = &[
        ("a n1", "+volumeattachment n1"),
        ("b n2", "+volumeattachment n2"),
        ("5s", &format!("on n1, on n2; {ATTACHED}; {ATTACHED}")),
    ];
    check(&["ReadWriteMany"], many);
    check(&["ReadOnlyMany"], many);
    // A node that does not exist gets nothing.
    check(&["ReadWriteMany"], &[("a n3, 60s", "")]);
}

#[test]
fn a_volume_of_a_lost_node_is_taken_by_force() {
    let begin = [
        (
            "a n1, 5s",
            &*format!("+volumeattachment n1, on n1; {ATTACHED}"),
        ),
        ("n1 uses, a running, a terminating", ""),
    ];
    let then = |story: &[(&str, &str)]| {
        let mut all = begin.to_vec();
        all.extend(story);
        check(&["ReadWriteOnce"], &all);
    };
    // Of a healthy node it is never taken.
    then(&[("a gone, 3600s", ""), ("n1 free", "-volumeattachment n1")]);
    // 6 minutes after nobody wants it any more
    then(&[
        ("n1 lost, a gone, b n2", HELD),
        ("359s", ""),
        ("2s", "-volumeattachment n1"),
        (
            "3s",
            "~volumeattachment n1 Finalizers, +volumeattachment n2",
        ),
    ]);
    // A pod that is terminating has it as long as one of its containers may run; nobody knows of one.
    then(&[("n1 lost, 359s", ""), ("2s", "-volumeattachment n1")]);
    check(
        &["ReadWriteOnce"],
        &[
            begin[0],
            ("n1 uses, a starts, a terminating, n1 lost, 3600s", ""),
        ],
    );
    // Out of service: at once.
    then(&[("n1 lost, n1 out, a gone", "-volumeattachment n1")]);
    then(&[("n1 lost, a gone, n1 out", "-volumeattachment n1")]);
    // A node that was deleted uses nothing.
    then(&[("a gone, n1 deleted", "-volumeattachment n1")]);
    // Another pod on the node wants it again: the clock begins anew.
    then(&[
        ("n1 lost, a gone, 300s", ""),
        ("b n1, 60s", ""),
        ("b gone, 359s", ""),
        ("2s", "-volumeattachment n1"),
    ]);
}
