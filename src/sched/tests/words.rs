//! Objects in words, for tables of tests:
//!
//! `pod NAME cpu=1 pod-cpu=1 node=N nominated=N namespace=N label:K=V toleration=K hostPort=P
//! gate=G claim=C disk=D pod:TOPOLOGY:K=V|W no-pod:TOPOLOGY:K=V spread:TOPOLOGY:K`,
//! `node NAME memory=4 label:K=V taint=K:V cordoned`, and likewise for the others. Pods of one name
//! are one pod.

use super::*;
use crate::api::Uid;
use crate::engine::draws::entity_key;

/// A selector `K`, `K=V` or `K=V|W`.
fn selector(text: &str) -> Value {
    match text.split_once('=') {
        None => json!({"matchExpressions": [{"key": text, "operator": "Exists"}]}),
        Some((key, values)) => {
            let values: Vec<&str> = values.split('|').collect();
            json!({"matchExpressions": [{"key": key, "operator": "In", "values": values}]})
        }
    }
}

fn push(object: &mut Value, path: &str, item: Value) {
    let mut at = object;
    for part in path.split('/') {
        at = &mut at[part];
    }
    match at {
        Value::Array(items) => items.push(item),
        other => *other = json!([item]),
    }
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";

/// `pod:TOPOLOGY:SELECTOR` and its kin.
fn topology_word(object: &mut Value, kind: &str, rest: &str) {
    let (topology, text) = rest.split_once(':').expect("TOPOLOGY:SELECTOR");
    let term = json!({"topologyKey": topology, "labelSelector": selector(text)});
    let affinity = |kind: &str| format!("spec/affinity/{kind}/{REQUIRED}");
    match kind {
        "pod" => push(object, &affinity("podAffinity"), term),
        "no-pod" => push(object, &affinity("podAntiAffinity"), term),
        "spread" | "spread-tainted" => {
            let mut constraint = term;
            constraint["maxSkew"] = json!(1);
            constraint["whenUnsatisfiable"] = json!("DoNotSchedule");
            if kind == "spread-tainted" {
                constraint["nodeTaintsPolicy"] = json!("Honor");
            }
            push(object, "spec/topologySpreadConstraints", constraint);
        }
        other => panic!("{other}"),
    }
}

fn pod_word(object: &mut Value, word: &str) {
    if let Some((kind, rest)) = word.split_once(':')
        && !kind.contains('=')
    {
        topology_word(object, kind, rest);
        return;
    }
    let (key, value) = word.split_once('=').expect("KEY=VALUE");
    let spec = &mut object["spec"];
    match key {
        "node" => spec["nodeName"] = json!(value),
        "nominated" => object["status"]["nominatedNodeName"] = json!(value),
        "gate" => push(spec, "schedulingGates", json!({"name": value})),
        "toleration" => {
            let toleration = json!({"key": value, "operator": "Exists", "effect": "NoSchedule"});
            push(spec, "tolerations", toleration);
        }
        "tolerates" => {
            let toleration = json!({"key": "dedicated", "value": value, "effect": "NoSchedule"});
            push(spec, "tolerations", toleration);
        }
        "affinity" => {
            let term = json!([selector(&format!("foo={value}"))]);
            spec["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"] = term;
        }
        "hostPort" => {
            // PORT, PROTOCOL:PORT or ADDRESS/PROTOCOL:PORT
            let (ip, rest) = value.split_once('/').unwrap_or(("", value));
            let (protocol, port) = rest.split_once(':').unwrap_or(("TCP", rest));
            let port: u16 = port.parse().expect("a port");
            let port = json!({
                "containerPort": port, "hostPort": port, "protocol": protocol, "hostIP": ip
            });
            push(&mut spec["containers"][0], "ports", port);
        }
        "claim" => {
            let volume = json!({"name": value, "persistentVolumeClaim": {"claimName": value}});
            push(spec, "volumes", volume);
        }
        "ephemeral" => {
            let spec = json!({
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}
            });
            let template = json!({"volumeClaimTemplate": {"spec": spec}});
            push(
                &mut object["spec"],
                "volumes",
                json!({"name": value, "ephemeral": template}),
            );
        }
        "csi" => {
            let volume = json!({"name": value, "csi": {"driver": value}});
            push(spec, "volumes", volume);
        }
        "aws" | "iscsi" | "rbd" => {
            let (id, read_only) = match value.strip_suffix(":ro") {
                Some(id) => (id, true),
                None => (value, false),
            };
            let (field, mut body) = match key {
                "aws" => ("awsElasticBlockStore", json!({"volumeID": id})),
                "iscsi" => {
                    let iqn = format!("iqn.2016-12.server:{id}");
                    (
                        "iscsi",
                        json!({"targetPortal": "1.2.3.4:3260", "iqn": iqn, "lun": 0}),
                    )
                }
                _ => {
                    let (monitors, image) = id.split_once('/').expect("MONITORS/IMAGE");
                    let monitors: Vec<&str> = monitors.split('+').collect();
                    (
                        "rbd",
                        json!({"monitors": monitors, "pool": "p", "image": image}),
                    )
                }
            };
            body["readOnly"] = json!(read_only);
            push(spec, "volumes", json!({"name": "disk", field: body}));
        }
        "disk" => {
            let volume = json!({"name": value, "gcePersistentDisk": {"pdName": value}});
            push(spec, "volumes", volume);
        }
        "rule" => {
            let codes = json!({"operator": "In", "values": [1]});
            let rule = json!({"action": value, "exitCodes": codes});
            let container = &mut spec["containers"][0];
            container["restartPolicy"] = json!("Never");
            push(container, "restartPolicyRules", rule);
        }
        "pod-cpu" => spec["resources"]["requests"]["cpu"] = json!(value),
        "pod-memory" => spec["resources"]["requests"]["memory"] = json!(value),
        name => {
            let resources = &mut spec["containers"][0]["resources"];
            resources["requests"][name] = json!(value);
            if name.contains('/') {
                resources["limits"][name] = json!(value);
            }
        }
    }
}

fn other_word(object: &mut Value, word: &str) {
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    match key {
        "cordoned" => object["spec"]["unschedulable"] = json!(true),
        "declares" => push(object, "status/declaredFeatures", json!(value)),
        "taint" => {
            let (key, value) = value.split_once(':').expect("KEY:VALUE");
            let taint = json!({"key": key, "value": value, "effect": "NoSchedule"});
            push(object, "spec/taints", taint);
        }
        "volume" => object["spec"]["volumeName"] = json!(value),
        "bound" => {
            object["spec"]["volumeName"] = json!(value);
            object["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] = json!("yes");
        }
        "selected" => {
            let key = "volume.kubernetes.io/selected-node";
            object["metadata"]["annotations"][key] = json!(value);
        }
        "owner" => {
            let owner = json!({
                "apiVersion": "v1", "kind": "Pod", "name": value, "controller": true,
                "uid": Uid(entity_key(&[value])).to_string()
            });
            push(object, "metadata/ownerReferences", owner);
        }
        "lost" => object["status"]["phase"] = json!("Lost"),
        "class" => match object["kind"].as_str() {
            Some("CSIStorageCapacity") => object["storageClassName"] = json!(value),
            _ => object["spec"]["storageClassName"] = json!(value),
        },
        "size" => match object["kind"].as_str() {
            Some("PersistentVolume") => object["spec"]["capacity"]["storage"] = json!(value),
            _ => object["spec"]["resources"]["requests"]["storage"] = json!(value),
        },
        "phase" => object["status"]["phase"] = json!(value),
        "provisioner" => object["provisioner"] = json!(value),
        "nowhere" => object["nodeTopology"] = Value::Null,
        "on" => {
            let (key, value) = value.split_once(':').expect("KEY:VALUE");
            match object["kind"].as_str() {
                Some("CSIStorageCapacity") => {
                    object["nodeTopology"] = json!({"matchLabels": {key: value}});
                }
                _ => {
                    let term = json!({"key": key, "operator": "In", "values": [value]});
                    let terms = json!([{"matchExpressions": [term]}]);
                    object["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"] = terms;
                }
            }
        }
        "migrated" => {
            let key = "storage.alpha.kubernetes.io/migrated-plugins";
            object["metadata"]["annotations"][key] = json!(value);
        }
        "limit" => {
            let (driver, count) = value.split_once(':').expect("DRIVER:COUNT");
            let count: i64 = count.parse().expect("a number");
            let driver = json!({"name": driver, "nodeID": "n", "allocatable": {"count": count}});
            push(object, "spec/drivers", driver);
        }
        "tracks" => object["spec"]["storageCapacity"] = json!(true),
        "capacity" => object["capacity"] = json!(value),
        "maximum" => object["maximumVolumeSize"] = json!(value),
        "waits" => object["volumeBindingMode"] = json!("WaitForFirstConsumer"),
        "topology" => {
            let terms = json!([{"matchLabelExpressions": [{"key": "zone", "values": [value]}]}]);
            object["allowedTopologies"] = terms;
        }
        name => {
            object["status"]["capacity"][name] = json!(value);
            object["status"]["allocatable"][name] = json!(value);
        }
    }
}

fn bare(kind: &str, name: &str) -> Value {
    let mut object = json!({"apiVersion": "v1", "metadata": {"name": name}});
    let (version, kind, body) = match kind {
        "pod" => (
            "v1",
            "Pod",
            json!({"spec": {"containers": [{"name": "c", "image": "i"}]}}),
        ),
        "node" => {
            let amounts = json!({"pods": "32"});
            (
                "v1",
                "Node",
                json!({"status": {"capacity": amounts, "allocatable": amounts}}),
            )
        }
        "claim" => {
            let spec = json!({
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}
            });
            ("v1", "PersistentVolumeClaim", json!({"spec": spec}))
        }
        "volume" => {
            let csi = json!({"driver": "d", "volumeHandle": name});
            let spec = json!({
                "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "csi": csi
            });
            ("v1", "PersistentVolume", json!({"spec": spec}))
        }
        "class" => (
            "storage.k8s.io/v1",
            "StorageClass",
            json!({"provisioner": "d"}),
        ),
        "driver" => ("storage.k8s.io/v1", "CSIDriver", json!({"spec": {}})),
        "room" => {
            let body = json!({"storageClassName": "c", "nodeTopology": {}});
            ("storage.k8s.io/v1", "CSIStorageCapacity", body)
        }
        "csinode" => (
            "storage.k8s.io/v1",
            "CSINode",
            json!({"spec": {"drivers": []}}),
        ),
        "attachment" => {
            let spec = json!({
                "attacher": "d", "nodeName": "n", "source": {"persistentVolumeName": "v"}
            });
            (
                "storage.k8s.io/v1",
                "VolumeAttachment",
                json!({"spec": spec}),
            )
        }
        other => panic!("{other}"),
    };
    object["apiVersion"] = json!(version);
    object["kind"] = json!(kind);
    for (field, value) in body.as_object().into_iter().flatten() {
        object[field] = value.clone();
    }
    if matches!(kind, "Pod" | "PersistentVolumeClaim") {
        object["metadata"]["namespace"] = json!("default");
    }
    object
}

/// The object; `-` is none.
pub fn row(words: &str) -> Option<Row> {
    let mut words = words.split_whitespace();
    let kind = words.next().filter(|kind| *kind != "-")?;
    let name = words.next().expect("a name");
    let mut object = bare(kind, name);
    for word in words {
        if let Some((key, value)) = word.strip_prefix("label:").and_then(|w| w.split_once('=')) {
            object["metadata"]["labels"][key] = json!(value);
        } else if let Some(namespace) = word.strip_prefix("namespace=") {
            object["metadata"]["namespace"] = json!(namespace);
        } else if kind == "pod" {
            pod_word(&mut object, word);
        } else {
            other_word(&mut object, word);
        }
    }
    let decoded = decode_json(&object, &DecodeContext::default());
    let mut row = decoded.unwrap_or_else(|e| panic!("{object}: {e:?}")).row;
    if let Row::Pod(pod) = &mut row {
        std::sync::Arc::make_mut(pod).meta.uid = Uid(entity_key(&[name]));
    }
    Some(row)
}
