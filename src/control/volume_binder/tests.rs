//! After `pv_controller_test.go`, `binder_test.go` and `provision_test.go`: objects as lines, the
//! plan of one sync as words.

use serde_json::json;

use super::*;
use crate::api::volume::{AccessMode, ClaimRef};
use crate::api::{Meta, Row};
use crate::client::Step;
use crate::control::desk::{Desk, Words};
use crate::engine::Draws;
use crate::store::{Cause, Store};

fn word<'a>(words: &'a [(&'a str, &'a str)], key: &str) -> Option<&'a str> {
    words.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
}

fn modes(text: Option<&str>) -> Vec<AccessMode> {
    let letters = text.unwrap_or("O").chars();
    let mode = |letter| match letter {
        'O' => AccessMode::ReadWriteOnce,
        'R' => AccessMode::ReadOnlyMany,
        _ => AccessMode::ReadWriteMany,
    };
    letters.map(mode).collect()
}

/// `pv NAME size=5 modes=OX class=fast claim=NAME`, `pvc NAME size=… modes=… class=… volume=…
/// bound node=…`, `class NAME wait by=PROVISIONER default`.
fn row(line: &str) -> Row {
    let mut parts = line.split_whitespace();
    let (kind, name) = (parts.next().unwrap(), parts.next().unwrap());
    let words: Vec<(&str, &str)> = parts
        .map(|p| p.split_once('=').unwrap_or((p, "")))
        .collect();
    let has = |key: &str| word(&words, key).is_some();
    let size = word(&words, "size").map_or(1, |n| n.parse::<i64>().unwrap());
    let class = word(&words, "class").map(Text::from);
    let mut meta = Meta {
        name: name.into(),
        ..Meta::default()
    };
    match kind {
        "pv" => {
            let phase = match word(&words, "claim") {
                Some(_) => VolumePhase::Bound,
                None => VolumePhase::Available,
            };
            let mut volume = PersistentVolume {
                meta,
                capacity: size,
                access_modes: modes(word(&words, "modes")),
                storage_class: class.unwrap_or_default(),
                claim: word(&words, "claim").map(|name| ClaimRef {
                    namespace: "ns".into(),
                    name: name.into(),
                    uid: None,
                }),
                reclaim_delete: has("delete"),
                ..PersistentVolume::default()
            };
            volume.status.phase = phase;
            volume.into()
        }
        "pvc" => {
            meta.namespace = "ns".into();
            if has("bound") {
                meta.annotations = meta.annotations.with(BIND_COMPLETED, "yes");
            }
            if let Some(node) = word(&words, "node") {
                meta.annotations = meta.annotations.with(SELECTED_NODE, node);
            }
            PersistentVolumeClaim {
                meta,
                request: Some(size),
                access_modes: modes(word(&words, "modes")),
                storage_class: class,
                volume_name: word(&words, "volume").unwrap_or_default().into(),
                ..PersistentVolumeClaim::default()
            }
            .into()
        }
        _ => {
            if has("default") {
                let key = crate::api::storage::IS_DEFAULT;
                meta.annotations = meta.annotations.with(key, "true");
            }
            StorageClass {
                meta,
                provisioner: word(&words, "by").unwrap_or("disk.example").into(),
                wait_for_consumer: has("wait"),
                ..StorageClass::default()
            }
            .into()
        }
    }
}

fn say(step: &Step) -> String {
    match step {
        Step::Event(event) => format!("{} {}", event.kind.name(), event.reason),
        Step::One { write, .. } => match write {
            Write::Update(_, Row::PersistentVolume(v)) => {
                let claim = v.claim.as_ref().map_or("-", |c| &c.name);
                format!("{} claimed by {claim}", v.meta.name)
            }
            Write::Update(_, Row::PersistentVolumeClaim(c)) => {
                let volume = &c.volume_name;
                match c.meta.annotations.get(PROVISIONER) {
                    Some(by) if volume.is_empty() => format!("{} to be made by {by}", c.meta.name),
                    _ => format!("{} gets {volume:?}", c.meta.name),
                }
            }
            Write::UpdateStatus(_, Row::PersistentVolume(v)) => {
                format!("{} is {:?}", v.meta.name, v.status.phase)
            }
            Write::UpdateStatus(_, Row::PersistentVolumeClaim(c)) => {
                format!(
                    "{} is {:?} {}",
                    c.meta.name, c.status.phase, c.status.capacity
                )
            }
            other => format!("{other:?}"),
        },
        other => format!("{other:?}"),
    }
}

/// What the sync of the last object of `lines` plans.
fn plan(lines: &[&str]) -> String {
    let mut store = Store::new(Draws::new(1));
    let mut last = None;
    for line in lines {
        let write = Write::Create(row(line));
        let made = store.write(&write, Time::ZERO, Cause::default()).unwrap();
        last = made.object;
    }
    let last = last.unwrap();
    let key = last.typed().map(Key::Claim);
    let key = key.or_else(|| last.typed().map(Key::Volume)).unwrap();
    let (view, draws) = (store.view(), &Draws::new(1));
    let now = Time::ZERO;
    let plan = VolumeBinder::default().sync(key, &SyncContext { now, view, draws });
    let said: Vec<String> = plan.steps.iter().map(say).collect();
    said.join(", ")
}

#[test]
fn a_claim_gets_the_smallest_volume_that_fits() {
    let bound =
        |v: &str, n: i64| format!("{v} claimed by c, {v} is Bound, c gets {v:?}, c is Bound {n}");
    // volumes, claim, plan
    let table: [(&[&str], String); 8] = [
        (
            &["pv a size=9", "pv b size=5", "pv d size=4", "pvc c size=5"],
            bound("b", 5),
        ),
        // fewer modes go before less room
        (
            &["pv a size=5 modes=OX", "pv b size=9", "pvc c size=5"],
            bound("b", 9),
        ),
        (
            &["pv a size=9 modes=OX", "pvc c size=5 modes=X"],
            bound("a", 9),
        ),
        (
            &["pv a size=9 modes=R", "pvc c size=5"],
            "PersistentVolumeClaim FailedBinding".into(),
        ),
        (
            &["pv a size=9 class=fast", "pvc c size=5"],
            "PersistentVolumeClaim FailedBinding".into(),
        ),
        // a volume that names the claim is its own, whatever is smaller
        (
            &["pv a size=5", "pv b size=9 claim=c", "pvc c size=5"],
            "b claimed by c, c gets \"b\", c is Bound 9".into(),
        ),
        // one that names another is not
        (
            &["pv b size=9 claim=other", "pvc c size=5"],
            "PersistentVolumeClaim FailedBinding".into(),
        ),
        (
            &["pv a size=3", "pvc c size=5 volume=a"],
            "PersistentVolumeClaim VolumeMismatch".into(),
        ),
    ];
    for (lines, expected) in table {
        assert_eq!(plan(lines), expected, "{lines:?}");
    }
}

#[test]
fn a_claim_without_a_volume_waits_or_is_provisioned() {
    let table: [(&[&str], &str); 8] = [
        (
            &["class fast", "pvc c class=fast"],
            "c to be made by disk.example, PersistentVolumeClaim ExternalProvisioning",
        ),
        (
            &["class fast wait", "pvc c class=fast"],
            "PersistentVolumeClaim WaitForFirstConsumer",
        ),
        // a free volume is left to the scheduler, which knows the node
        (
            &["class fast wait", "pv a class=fast", "pvc c class=fast"],
            "PersistentVolumeClaim WaitForFirstConsumer",
        ),
        (
            &["class fast wait", "pvc c class=fast node=n1"],
            "c to be made by disk.example, PersistentVolumeClaim ExternalProvisioning",
        ),
        (
            &["pvc c class=gone"],
            "PersistentVolumeClaim ProvisioningFailed",
        ),
        (
            &[
                "class none by=kubernetes.io/no-provisioner",
                "pvc c class=none",
            ],
            "PersistentVolumeClaim ProvisioningFailed",
        ),
        // the server gives the default class, unless the claim says that it wants none
        (
            &["class fast default", "pvc c"],
            "c to be made by disk.example, PersistentVolumeClaim ExternalProvisioning",
        ),
        (&["pvc c class="], "PersistentVolumeClaim FailedBinding"),
    ];
    for (lines, expected) in table {
        assert_eq!(plan(lines), expected, "{lines:?}");
    }
}

#[test]
fn what_was_bound_and_is_no_more_is_lost_or_released() {
    let lost = |reason: &str| format!("c is Lost 0, PersistentVolumeClaim {reason}");
    let table: [(&[&str], String); 5] = [
        (&["pvc c volume=a bound"], lost("ClaimLost")),
        (&["pvc c bound"], lost("ClaimLost")),
        (
            &["pv a claim=other", "pvc c volume=a bound"],
            lost("ClaimMisbound"),
        ),
        // the volume's side was not written: it is written now
        (
            &["pv a size=2", "pvc c volume=a bound"],
            "a claimed by c, a is Bound, c is Bound 2".into(),
        ),
        // reserved for a claim that does not exist yet
        (&["pv a claim=c"], "a is Available".into()),
    ];
    for (lines, expected) in table {
        assert_eq!(plan(lines), expected, "{lines:?}");
    }
}

/// After `pv_controller_test.go` (sets 4 and 8), `delete_test.go` and `recycle_test.go`: what volume,
/// who has it, and what happens when its claim is gone or bound elsewhere.
#[test]
fn a_volume_without_its_claim_is_kept_deleted_or_has_failed() {
    let gone = "disk ownerless";
    let table = [
        // volume's spec, provisioner, the claim; phases and events
        (json!({}), "", gone, "disk is Released"),
        (
            json!({"persistentVolumeReclaimPolicy": "Delete", "csi": {"driver": "d.example",
            "volumeHandle": "h"}}),
            "",
            gone,
            "disk is Released",
        ),
        (
            json!({"persistentVolumeReclaimPolicy": "Delete", "csi": {"driver": "d.example",
            "volumeHandle": "h"}}),
            "d.example",
            gone,
            "disk is Released",
        ),
        (
            json!({"persistentVolumeReclaimPolicy": "Delete", "hostPath": {"path": "/tmp/x"}}),
            "",
            gone,
            "disk is Released, -persistentvolume disk",
        ),
        (
            json!({"persistentVolumeReclaimPolicy": "Delete", "hostPath": {"path": "/srv/x"}}),
            "",
            gone,
            "disk is Released, disk is Failed; warning VolumeFailedDelete: host_path deleter \
             only supports /tmp/.+ but received provided /srv/x",
        ),
        (
            json!({"persistentVolumeReclaimPolicy": "Delete", "nfs": {"path": "/x", "server": "s"}}),
            "",
            gone,
            "disk is Released, disk is Failed; warning VolumeFailedDelete: error getting \
             deleter volume plugin for volume \"disk\": no deletable volume plugin matched",
        ),
        // The claim has another volume: what was made for it goes, what was found for it is free
        // again, what names it keeps its name.
        (
            json!({"persistentVolumeReclaimPolicy": "Delete", "csi": {"driver": "d.example",
            "volumeHandle": "h"}}),
            "d.example",
            "other",
            "disk is Released",
        ),
        (
            json!({}),
            "controller",
            "other",
            "~persistentvolume disk, disk is Available",
        ),
        (
            json!({}),
            "",
            "other",
            "~persistentvolume disk, disk is Available",
        ),
    ];
    for (spec, by, claim, expected) in table {
        let mut desk = Desk::new(VolumeBinder::default(), WORDS, &[]);
        desk.crash();
        let uid = match claim {
            "other" => {
                desk.create(&json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                    "metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
                        "volumeName": "another", "resources": {"requests": {"storage": "1Gi"}}}}));
                let found = desk.find(crate::api::Kind::PersistentVolumeClaim, "data");
                desk.store.view().row(found).expect("it").meta().uid
            }
            _ => crate::api::Uid(4711),
        };
        let mut volume = json!({"apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": "disk", "annotations": {}},
            "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
                "claimRef": {"namespace": "default", "name": "data", "uid": uid.to_string()}}});
        match by {
            "" => {}
            "controller" => volume["metadata"]["annotations"][BOUND_BY_CONTROLLER] = json!("yes"),
            by => volume["metadata"]["annotations"][PROVISIONED_BY] = json!(by),
        }
        if spec
            .as_object()
            .is_some_and(|spec| !spec.contains_key("csi"))
        {
            volume["spec"]["hostPath"] = json!({"path": "/x"});
        }
        for (key, value) in spec.as_object().into_iter().flatten() {
            volume["spec"][key] = value.clone();
            if key == "nfs" || key == "local" {
                volume["spec"]
                    .as_object_mut()
                    .expect("a spec")
                    .remove("hostPath");
            }
        }
        desk.create(&volume);
        desk.start();
        desk.pass(40.0);
        let log: Vec<String> = [desk.log()].into_iter().chain(desk.events()).collect();
        assert_eq!(log.join("; "), expected, "{spec} {by} {claim}");
    }
}

const WORDS: Words = Words {
    status: |row| match row {
        Row::PersistentVolume(v) => format!("{} is {:?}", v.meta.name, v.status.phase),
        _ => String::new(),
    },
    name: |_| None,
};
