//! Zones, nodes and endpoints as words, and the hints that a sync gives. After
//! `topologycache_test.go`, `utils_test.go`, `trafficdist_test.go` and `reconciler_test.go ::
//! TestReconcile_TrafficDistribution`.

use serde_json::{Value, json};

use super::super::EndpointSliceController;
use super::*;
use crate::api::pod_status::{PodCondition, PodConditionKind, PodIp, Truth};
use crate::api::{Kind, Row};
use crate::control::desk::{Desk, Words};
use crate::engine::Time;
use crate::store::{Patch, Write};

/// `a=4 b=4`: a node in each zone with so many CPUs; `a=-` has none that are known, `a!=4` is not
/// ready, `=4` has no zone, `a*=4` is a control plane.
fn nodes(text: &str) -> Vec<Value> {
    let words = text.split_whitespace().enumerate();
    words
        .map(|(nth, word)| {
            let (zone, cpu) = word.split_once('=').expect("zone=cpu");
            let mut labels = json!({});
            let name = zone.trim_end_matches(['!', '*']);
            if !name.is_empty() {
                labels["topology.kubernetes.io/zone"] = json!(name);
            }
            if zone.ends_with('*') {
                labels["node-role.kubernetes.io/control-plane"] = json!("");
            }
            let ready = if zone.ends_with('!') { "False" } else { "True" };
            let amounts = match cpu {
                "-" => json!({}),
                cpu => json!({"cpu": cpu}),
            };
            json!({"apiVersion": "v1", "kind": "Node",
                "metadata": {"name": format!("{name}{nth}"), "labels": labels},
                "status": {"allocatable": amounts,
                    "conditions": [{"type": "Ready", "status": ready}]}})
        })
        .collect()
}

const WORDS: Words = Words {
    status: |_| String::new(),
    name: |_| Some(String::new()),
};

fn service(annotations: Value, distribution: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "annotations": annotations},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}],
            "trafficDistribution": distribution}})
}

/// The controller, with pods on these nodes: `a0 a0 b1 b1-` (`-` for one that is not ready).
fn desk(service: Value, zones: &str, pods: &str) -> Desk<EndpointSliceController> {
    let mut objects = nodes(zones);
    objects.push(service);
    let mut desk = Desk::new(EndpointSliceController::default(), WORDS, &objects);
    desk.crash();
    desk.log();
    desk.events();
    for node in pods.split_whitespace() {
        add(&mut desk, node);
    }
    desk.start();
    desk
}

fn add(desk: &mut Desk<EndpointSliceController>, word: &str) {
    let node = word.trim_end_matches('-');
    let nth = desk.store.view().pods().iter().count();
    let name = format!("p{nth}");
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "x"}]}});
    desk.create(&pod);
    let object = desk.find(Kind::Pod, &name);
    let Some(Row::Pod(pod)) = desk.store.view().row(object) else {
        panic!("a pod");
    };
    let mut status = pod.status.clone();
    status.ip = Some(PodIp(u32::try_from(nth).expect("few") + 1));
    status.set_condition(PodCondition {
        kind: PodConditionKind::Ready,
        status: Truth::from(!word.ends_with('-')),
        since: Time::ZERO,
        reason: None,
        message: None,
        observed_generation: 0,
    });
    let patch = Patch::PodStatus(status);
    desk.write(&Write::Patch {
        object,
        uid: None,
        patch,
    });
}

/// The hints of all endpoints, in the order of pods: `a a b -`, nodes after a `+`.
fn hints(desk: &Desk<EndpointSliceController>) -> String {
    let slices = desk.store.view().of::<EndpointSlice>().iter();
    let mut all: Vec<(Text, String)> = Vec::new();
    for (_, slice) in slices {
        for endpoint in &slice.endpoints {
            let words = |names: &[Text]| {
                let names: Vec<&str> = names.iter().map(Text::as_str).collect();
                names.join(",")
            };
            let text = endpoint
                .hints
                .as_deref()
                .map_or("-".into(), |hints: &Hints| {
                    let nodes = words(&hints.nodes);
                    let plus = if nodes.is_empty() { "" } else { "+" };
                    format!("{}{plus}{nodes}", words(&hints.zones))
                });
            all.push((endpoint.pod.clone(), text));
        }
    }
    all.sort();
    let all: Vec<String> = all.into_iter().map(|(_, text)| text).collect();
    all.join(" ")
}

#[test]
fn traffic_distribution_hints_ready_endpoints_for_where_they_are() {
    // distribution, pods, hints
    let table = [
        (Value::Null, "a0 b1", "- -"),
        (json!("PreferClose"), "a0 b1 b1-", "a b -"),
        (json!("PreferSameZone"), "a0 a0 a0", "a a a"),
        (json!("PreferSameNode"), "a0 b1 b1-", "a+a0 b+b1 -"),
        // without a zone there is the node
        (json!("PreferSameNode"), "a0 2", "a+a0 +2"),
        (json!("PreferSameZone"), "a0 2", "a -"),
    ];
    for (distribution, pods, expected) in table {
        let service = service(json!({}), distribution.clone());
        let mut desk = desk(service, "a=4 b=4 =4", pods);
        assert_eq!(hints(&desk), expected, "{distribution} {pods}");
        // A second look changes nothing.
        desk.log();
        desk.crash();
        desk.start();
        assert_eq!(desk.log(), "", "{distribution} {pods}");
        assert_eq!(desk.events(), Vec::<String>::new());
    }
}

#[test]
fn hints_follow_the_service() {
    let mut desk = desk(service(json!({}), Value::Null), "a=4 b=4", "a0 b1");
    let object = desk.find(Kind::Service, "web");
    let mut change = |document: Value| {
        desk.patch(object, document);
        (hints(&desk), desk.events().join("; "))
    };
    let mode = |mode: Value| json!({"metadata": {"annotations": {"service.kubernetes.io/topology-mode": mode}}});
    let close = |how: Value| json!({"spec": {"trafficDistribution": how}});
    let told = |what: &str| format!("Topology Aware Hints has been {what}, addressType: IPv4");
    let on = format!("{ENABLED}: {}", told("enabled"));
    let off = format!("warning {DISABLED}: {}", told("disabled"));
    let is = |hints: &str, told: &str| (hints.to_owned(), told.to_owned());
    assert_eq!(change(close(json!("PreferSameNode"))), is("a+a0 b+b1", ""));
    assert_eq!(change(close(json!("PreferSameZone"))), is("a b", ""));
    assert_eq!(change(close(Value::Null)), is("- -", ""));
    assert_eq!(change(mode(json!("Auto"))), is("a b", &on));
    assert_eq!(change(mode(json!("auto"))), is("a b", ""));
    // the annotation goes before the field
    assert_eq!(change(close(json!("PreferSameNode"))), is("a b", ""));
    assert_eq!(change(mode(json!("Disabled"))), is("a+a0 b+b1", &off));
    assert_eq!(change(close(Value::Null)), is("- -", ""));
}

#[test]
fn zones_get_endpoints_in_proportion_to_their_cpus() {
    let none =
        "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes";
    // nodes, pods, hints, why there are none
    let table = [
        ("a=4 b=4", "a0 b1", "a b", ""),
        // 5/6 of a share of 3.5 is enough: 3
        ("a=4 b=4", "a0 a0 a0 a0 b1 b1 b1", "a a a a b b b", ""),
        // of 2.5 it is more than 2, and 3 for each are too many
        (
            "a=4 b=4",
            "a0 a0 a0 b1 b1",
            "- - - - -",
            "Unable to allocate minimum required endpoints to each zone without exceeding \
             overload threshold (5 endpoints, 2 zones)",
        ),
        // one of four should go to the other zone, and does: 2 each
        ("a=4 b=4", "a0 a0 a0 b1", "b a a b", ""),
        ("a=6 b=2", "a0 a0 b1 b1", "a a a b", ""),
        // what is not ready does not count
        ("a=4 b=4", "a0 a0- b1", "a - b", ""),
        (
            "a=4 b=4",
            "a0",
            "-",
            "Insufficient number of endpoints (1 endpoints, 2 zones)",
        ),
        // 4 · 0.98 · 5/6 = 3.3: 4 + 1 + 1 are more than 4
        (
            "a=98 b=1 c=1",
            "a0 a0 b1 c2",
            "- - - -",
            "Unable to allocate minimum required endpoints to each zone without exceeding \
             overload threshold (4 endpoints, 3 zones)",
        ),
        ("a=4", "a0 a0", "- -", none),
        ("a=4 b=-", "a0 b1", "- -", none),
        ("a=4 b=4 =4", "a0 b1", "- -", none),
        ("a=4 b!=4", "a0 b1", "- -", none),
        ("a=4 b=4 c*=4", "a0 b1", "a b", ""),
        (
            "a=4 b=4 !=4",
            "a0 b1 2 2",
            "- - - -",
            "One or more endpoints do not have a zone specified",
        ),
    ];
    for (zones, pods, expected, why) in table {
        let auto = json!({"service.kubernetes.io/topology-mode": "Auto"});
        let mut desk = desk(service(auto, Value::Null), zones, pods);
        assert_eq!(hints(&desk), expected, "{zones}: {pods}");
        let told = match why {
            "" => format!("{ENABLED}: Topology Aware Hints has been enabled, addressType: IPv4"),
            why => format!("warning {DISABLED}: {why}, addressType: IPv4"),
        };
        assert_eq!(desk.events(), [told], "{zones}: {pods}");
    }
}

/// After `topologycache_test.go :: TestSetNodes` and `utils_test.go :: Test_serviceOverloaded`.
#[test]
fn services_whose_zones_are_overloaded_are_looked_at_when_nodes_change() {
    let auto = json!({"service.kubernetes.io/topology-mode": "Auto"});
    let mut desk = desk(service(auto, Value::Null), "a=4 b=4", "a0 a0 b1 b1");
    assert_eq!(hints(&desk), "a a b b");
    desk.log();
    let mut more = |name: &str, zone: &str| {
        let mut node = nodes(zone).remove(0);
        node["metadata"]["name"] = json!(name);
        desk.create(&node);
        format!("{}: {}", hints(&desk), desk.log())
    };
    // A fifth more is borne: of 5 to 4 CPUs zone a has 4 · 5/9 · 5/6 = 1.9 endpoints, at least.
    assert_eq!(more("small", "a=1"), "a a b b: ");
    // Of 16 to 4: 4 · 0.8 · 5/6 = 2.7, so that it needs three.
    assert_eq!(more("large", "a=11"), "a a a b: ~slice");
    // One node that tells nothing, and nobody gets hints any more.
    assert_eq!(more("silent", "a=-"), "- - - -: ~slice");
}
