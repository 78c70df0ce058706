//! Claims, nodes and what a driver says of them, as lines; what the provisioner asks for, in words.

use serde_json::{Value, json};

use super::*;
use crate::api::Row;
use crate::control::desk::{Desk, PLAIN, Words};
use crate::store::Write;

/// `node NAME KEY=VALUE…`, `csi NODE KEY…` (the driver's topology keys there), `class NAME
/// by=PROVISIONER wait=yes annotate=KEY:VALUE allow=KEY:VALUE|VALUE` (an annotation of the domain
/// `rehearsal.dev`, allowed topologies),
/// `room NAME CLASS KEY=VALUE size=… max=…`, `claim NAME CLASS SIZE node=…`.
fn object(line: &str) -> Value {
    let mut words = line.split_whitespace();
    let (kind, name) = (words.next().unwrap(), words.next().unwrap());
    let rest: Vec<&str> = words.collect();
    let pairs = |text: &[&str]| -> serde_json::Map<String, Value> {
        let pairs = text.iter().filter_map(|word| word.split_once('='));
        pairs.map(|(k, v)| (k.to_owned(), json!(v))).collect()
    };
    let word = |key: &str| {
        let found = rest
            .iter()
            .find_map(|w| w.strip_prefix(key)?.strip_prefix('='));
        found.map(str::to_owned)
    };
    match kind {
        "node" => json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": pairs(&rest)}}),
        "csi" => json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode",
            "metadata": {"name": name},
            "spec": {"drivers": [{"name": "csi.example", "nodeID": name, "topologyKeys": rest}]}}),
        "class" => {
            let mut class = class(name, word("by"), word("allow"), word("annotate"));
            if word("wait").is_some() {
                class["volumeBindingMode"] = json!("WaitForFirstConsumer");
            }
            class
        }
        "room" => json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIStorageCapacity",
            "metadata": {"name": name, "namespace": "default"},
            "storageClassName": rest[0],
            "nodeTopology": {"matchLabels": pairs(&rest[1..2])},
            "capacity": word("size"), "maximumVolumeSize": word("max")}),
        _ => {
            let mut annotations = json!({PROVISIONER: "csi.example"});
            if let Some(by) = word("by") {
                annotations[PROVISIONER] = json!(by);
            }
            if let Some(node) = word("node") {
                annotations[SELECTED_NODE] = json!(node);
            }
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": "default", "annotations": annotations},
                "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": rest[0],
                    "resources": {"requests": {"storage": rest[1]}}}})
        }
    }
}

fn class(
    name: &str,
    by: Option<String>,
    allow: Option<String>,
    annotation: Option<String>,
) -> Value {
    let mut class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": name, "annotations": {PROVISION: "3s"}},
        "provisioner": by.as_deref().unwrap_or("csi.example")});
    if let Some(allow) = allow {
        let (key, values) = allow.split_once(':').unwrap();
        let values: Vec<&str> = values.split('|').collect();
        let term = json!({"key": key, "values": values});
        class["allowedTopologies"] = json!([{"matchLabelExpressions": [term]}]);
    }
    if let Some(annotation) = annotation {
        let (key, value) = annotation.split_once(':').unwrap();
        class["metadata"]["annotations"][format!("rehearsal.dev/{key}")] = json!(value);
    }
    class
}

/// A volume says where it is, an object of its room what is left.
const WORDS: Words = Words {
    name: |row| match row {
        Row::PersistentVolume(volume) => {
            let claim = volume.claim.as_ref().map_or("-", |c| c.name.as_str());
            let labels = Segment::of_volume(volume).labels();
            let at: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            Some(format!("for {claim} at [{}]", at.join(" ")))
        }
        _ => None,
    },
    ..PLAIN
};

fn desk(lines: &str) -> Desk<VolumeProvisioner> {
    let objects: Vec<Value> = lines
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .map(object)
        .collect();
    Desk::new(VolumeProvisioner::default(), WORDS, &objects)
}

fn left(desk: &Desk<VolumeProvisioner>) -> String {
    let rooms = desk.store.view().of::<CSIStorageCapacity>();
    let each = rooms.iter().map(|(_, room)| {
        let source = &room.source;
        let max = source["maximumVolumeSize"]
            .as_str()
            .map(|m| format!("/{m}"));
        let text = source["capacity"].as_str().unwrap_or("?");
        format!("{} {text}{}", room.meta.name, max.unwrap_or_default())
    });
    each.collect::<Vec<_>>().join(", ")
}

#[test]
fn a_volume_belongs_where_its_driver_can_reach_it() {
    let nodes = "node n1 kubernetes.io/hostname=n1 topology.kubernetes.io/zone=a rack=1
                 node n2 kubernetes.io/hostname=n2 topology.kubernetes.io/zone=b rack=2
                 node n3 rack=2";
    // what there is, a claim; where its volume is
    let table = [
        ("class c", "claim d c 1Gi node=n1", "[]"),
        ("class c\ncsi n1 rack", "claim d c 1Gi node=n1", "[rack=1]"),
        ("class c\ncsi n1 rack", "claim d c 1Gi node=n2", "[]"),
        (
            "class c\ncsi n2 topology.kubernetes.io/zone rack",
            "claim d c 1Gi node=n2",
            "[rack=2 topology.kubernetes.io/zone=b]",
        ),
        (
            "class c annotate=zonal:false\ncsi n1 rack",
            "claim d c 1Gi node=n1",
            "[]",
        ),
        (
            "class c annotate=zonal:true\ncsi n1 rack",
            "claim d c 1Gi node=n1",
            "[topology.kubernetes.io/zone=a]",
        ),
        (
            "class c by=rancher.io/local-path",
            "claim d c 1Gi node=n2 by=rancher.io/local-path",
            "[kubernetes.io/hostname=n2]",
        ),
        (
            "class c by=ebs.csi.aws.com",
            "claim d c 1Gi node=n2 by=ebs.csi.aws.com",
            "[topology.kubernetes.io/zone=b]",
        ),
        // A cluster without zones has cloud disks nevertheless.
        (
            "class c by=ebs.csi.aws.com",
            "claim d c 1Gi node=n3 by=ebs.csi.aws.com",
            "[]",
        ),
        // Nobody waits: the claims of a set are spread over all there is, or what is allowed.
        ("class c\ncsi n1 rack", "claim d-0 c 1Gi", "[rack=2]"),
        ("class c\ncsi n1 rack", "claim d-1 c 1Gi", "[rack=1]"),
        ("class c\ncsi n1 rack", "claim d-2 c 1Gi", "[rack=2]"),
        (
            "class c allow=rack:7|8\ncsi n1 rack",
            "claim d-0 c 1Gi",
            "[rack=8]",
        ),
        (
            "class c allow=rack:7|8\ncsi n1 rack",
            "claim d-1 c 1Gi",
            "[rack=7]",
        ),
    ];
    for (there, claim, at) in table {
        let mut desk = desk(&format!("{nodes}\n{there}\n{claim}"));
        desk.pass(4.0);
        let log = desk.log();
        let made = log.rsplit(" at ").next().unwrap_or_default();
        assert_eq!(made, at, "{there}; {claim}: {log}");
    }
}

#[test]
fn what_cannot_be_placed_is_told_and_tried_again() {
    let mut desk = desk(
        "node n1 rack=1
         class c
         class w wait=yes
         csi n1 rack shelf
         claim d c 1Gi node=n1
         claim e c 1Gi
         claim f w 1Gi node=n9",
    );
    desk.pass(2.9);
    assert_eq!(desk.log(), "");
    desk.events();
    desk.pass(0.2);
    assert_eq!(desk.log(), "~claim f Annotations");
    let told = desk.events();
    let failed: Vec<&str> = told
        .iter()
        .filter_map(|e| e.strip_prefix("warning "))
        .collect();
    assert_eq!(
        failed,
        [
            "ProvisioningFailed: error generating accessibility requirements: topology labels from \
             selected node n1 does not match topology keys from CSINode [rack shelf]",
            "ProvisioningFailed: error generating accessibility requirements: no available topology \
             found",
            "ProvisioningFailed: failed to get selected node n9: nodes \"n9\" not found",
        ]
    );
    // After 1, 2 and 4 seconds more, and then the shelf has a label.
    for (wait, tries) in [(0.8, 0), (0.2, 2), (1.8, 0), (0.2, 2), (3.8, 0), (0.2, 2)] {
        desk.pass(wait);
        let told = desk.events();
        let failed = told.iter().filter(|e| e.starts_with("warning")).count();
        let begun = told
            .iter()
            .filter(|e| e.starts_with("Provisioning:"))
            .count();
        assert_eq!((failed, begun), (tries, tries), "{told:?}");
    }
    let node = desk.find(Kind::Node, "n1");
    desk.patch(node, json!({"metadata": {"labels": {"shelf": "3"}}}));
    desk.pass(8.1);
    let log = desk.log();
    assert_eq!(
        log,
        "+persistentvolume for d at [rack=1 shelf=3], +persistentvolume for e at [rack=1 shelf=3]"
    );
}

#[test]
fn volumes_use_up_the_room_that_there_is() {
    let mut desk = desk(
        "node n1 rack=1
         node n2 rack=2
         class c wait=yes
         csi n1 rack
         csi n2 rack
         room r1 c rack=1 size=10Gi
         room r2 c rack=2 size=10Gi max=6Gi
         claim a c 4Gi node=n1
         claim b c 4Gi node=n1
         claim d c 4Gi node=n1
         claim e c 7Gi node=n2
         claim f c 5Gi node=n2",
    );
    desk.pass(3.1);
    assert_eq!(
        desk.log(),
        "+persistentvolume for a at [rack=1], +persistentvolume for b at [rack=1], \
         ~claim d Annotations, ~claim e Annotations, +persistentvolume for f at [rack=2], \
         ~csistoragecapacity r1, ~csistoragecapacity r2, \
         ~csistoragecapacity r1"
    );
    assert_eq!(left(&desk), "r1 2Gi, r2 5Gi/5Gi");
    let told = desk.events();
    let refused = |text: &str| {
        let text =
            format!("warning ProvisioningFailed: rpc error: code = ResourceExhausted {text}");
        assert!(told.contains(&text), "{text}: {told:?}");
    };
    refused("desc = not enough room: 4Gi wanted, 2Gi left");
    refused("desc = not enough room: 7Gi wanted, 6Gi left");

    // A volume that is deleted gives its room back, and somebody adds a disk.
    gone(&mut desk, "a");
    gone(&mut desk, "f");
    assert_eq!(left(&desk), "r1 6Gi, r2 10Gi/6Gi");
    let room = desk.find(Kind::CSIStorageCapacity, "r1");
    desk.patch(room, json!({"capacity": "16Gi"}));
    desk.log();
    desk.create(&object("claim g c 15Gi node=n1"));
    desk.pass(3.1);
    assert_eq!(left(&desk), "r1 1Gi, r2 10Gi/6Gi");

    // What is used is known after a restart, too.
    desk.crash();
    desk.start();
    gone(&mut desk, "g");
    assert_eq!(left(&desk), "r1 16Gi, r2 10Gi/6Gi");
}

/// The volume of a claim is deleted, and nothing protects it.
fn gone(desk: &mut Desk<VolumeProvisioner>, claim: &str) {
    let volumes = desk.store.view().of::<PersistentVolume>();
    let is_of = |v: &PersistentVolume| v.claim.as_ref().is_some_and(|c| c.name == claim);
    let found = volumes.iter().find(|(_, volume)| is_of(volume));
    let volume = found.expect("its volume").0.into();
    desk.patch(volume, json!({"metadata": {"finalizers": null}}));
    desk.delete(volume);
}

#[test]
fn a_volume_that_could_not_be_written_takes_no_room() {
    let mut desk = desk(
        "node n1 rack=1
         class c
         csi n1 rack
         room r1 c rack=1 size=4Gi",
    );
    desk.refuses = Some(|write| {
        let volume = matches!(write, Write::Create(Row::PersistentVolume(_)));
        volume.then_some(crate::store::ApiError::Unreachable)
    });
    desk.create(&object("claim a c 4Gi node=n1"));
    desk.pass(3.1);
    assert_eq!(left(&desk), "r1 4Gi");
    desk.refuses = None;
    desk.pass(5.0);
    assert_eq!(left(&desk), "r1 0");
}
