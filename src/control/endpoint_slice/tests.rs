//! Tables: pods and slices as text, and the writes that a sync wants.

use std::sync::Arc;

use super::*;
use crate::api::container::{Container, ContainerPort, Protocol};
use crate::api::meta::Deletion;
use crate::api::pod_status::{PodCondition, PodConditionKind, PodIp, Truth};
use crate::api::service::{ServicePort, TargetPort};
use crate::api::{Meta, Node, PodSpec, Row, Text};
use crate::client::Step;
use crate::engine::Draws;
use crate::store::{Cause, Store};

fn store() -> Store {
    let mut store = Store::new(Draws::new(1));
    let node = Node {
        meta: named("", "n1", &[("topology.kubernetes.io/zone", "a")]),
        ..Node::default()
    };
    write(&mut store, Write::Create(node.into()));
    let service = Service {
        meta: named("default", "web", &[("tier", "front")]),
        selector: [("app", "web")].into_iter().collect(),
        ports: vec![ServicePort {
            port: 80,
            target: TargetPort::Name(Text::from("http")),
            ..ServicePort::default()
        }],
        ..Service::default()
    };
    write(&mut store, Write::Create(service.into()));
    store
}

fn named(namespace: &str, name: &str, labels: &[(&str, &str)]) -> Meta {
    Meta {
        namespace: namespace.into(),
        name: name.into(),
        labels: labels.iter().copied().collect(),
        ..Meta::default()
    }
}

fn write(store: &mut Store, write: Write) -> crate::store::Receipt {
    store
        .write(&write, Time::ZERO, Cause::default())
        .expect("a good write")
}

/// `name port ready|unready|terminating`
fn pod(text: &str, nth: u32) -> Pod {
    let words: Vec<&str> = text.split_whitespace().collect();
    let container = Container {
        ports: vec![ContainerPort {
            name: "http".into(),
            port: words[1].parse().expect("a port"),
            protocol: Protocol::Tcp,
            ..ContainerPort::default()
        }],
        ..Container::default()
    };
    let mut pod = Pod {
        meta: named("default", words[0], &[("app", "web")]),
        spec: Arc::new(PodSpec {
            containers: vec![container],
            ..PodSpec::default()
        }),
        node_name: Some("n1".into()),
        ..Pod::default()
    };
    pod.status.ip = Some(PodIp(0x0a00_0000 + nth));
    pod.status.set_condition(PodCondition {
        kind: PodConditionKind::Ready,
        status: Truth::from(words[2] != "unready"),
        since: Time::ZERO,
        reason: None,
        message: None,
        observed_generation: 0,
    });
    if words[2] == "terminating" {
        pod.meta.deletion = Some(Deletion {
            at: Time::ZERO,
            grace_s: 30,
        });
    }
    pod
}

fn put_pods(store: &mut Store, pods: &str) {
    for (nth, text) in pods.split(", ").filter(|t| !t.is_empty()).enumerate() {
        let pod = pod(text, u32::try_from(nth).expect("few"));
        let deletion = pod.meta.deletion;
        let receipt = write(store, Write::Create(pod.into()));
        if let Some(deletion) = deletion {
            let object = receipt.object.expect("a pod");
            let grace_s = Some(deletion.grace_s);
            let propagation = Default::default();
            write(
                store,
                Write::Delete {
                    object,
                    uid: None,
                    grace_s,
                    propagation,
                },
            );
        }
    }
}

fn show(plan: &Plan) -> String {
    let endpoint = |e: &crate::api::service::Endpoint| {
        let mark = |yes: bool, c: char| if yes { c } else { '-' };
        let marks: String = [
            mark(e.ready, 'r'),
            mark(e.serving, 's'),
            mark(e.terminating, 't'),
        ]
        .iter()
        .collect();
        format!("{}:{marks}", e.pod)
    };
    let slice = |row: &Row| match row {
        Row::EndpointSlice(s) => {
            let ports: Vec<_> = s.ports.iter().map(|p| p.port.to_string()).collect();
            let endpoints: Vec<_> = s.endpoints.iter().map(endpoint).collect();
            format!("[{}] {}", ports.join(","), endpoints.join(" "))
        }
        other => format!("{other:?}"),
    };
    let step = |step: &Step| match step {
        Step::One {
            write: Write::Create(row),
            ..
        } => format!("create {}", slice(row)),
        Step::One {
            write: Write::Update(_, row),
            ..
        } => format!("update {}", slice(row)),
        Step::One {
            write: Write::Delete { .. },
            ..
        } => "delete".to_owned(),
        other => format!("{other:?}"),
    };
    let mut lines: Vec<String> = plan.steps.iter().map(step).collect();
    lines.extend(plan.error.iter().map(|e| format!("error {e}")));
    lines
        .iter()
        .map(|l| l.trim_end())
        .collect::<Vec<_>>()
        .join("; ")
}

fn sync(controller: &mut EndpointSliceController, store: &Store) -> Plan {
    let (key, _) = store
        .view()
        .of::<Service>()
        .find("default", "web")
        .expect("the Service");
    let draws = Draws::new(1);
    controller.sync(
        key,
        &SyncContext {
            now: Time::ZERO,
            view: store.view(),
            draws: &draws,
        },
    )
}

#[test]
fn pods_become_endpoints_with_their_conditions() {
    let cases = [
        ("", "create []"),
        ("a 8080 ready", "create [8080] a:rs-"),
        ("a 8080 unready", "create [8080] a:---"),
        ("a 8080 terminating", "create [8080] a:-st"),
        // A port name that resolves differently makes a slice of its own.
        (
            "a 8080 ready, b 9090 ready",
            "create [8080] a:rs-; create [9090] b:rs-",
        ),
    ];
    for (pods, expected) in cases {
        let mut store = store();
        put_pods(&mut store, pods);
        let plan = sync(&mut EndpointSliceController::default(), &store);
        assert_eq!(show(&plan), expected, "pods: {pods}");
    }
}

#[test]
fn a_change_updates_the_slice_in_place_and_a_stale_informer_waits() {
    let mut store = store();
    put_pods(&mut store, "a 8080 ready, b 8080 ready");
    let mut controller = EndpointSliceController::default();
    let plan = sync(&mut controller, &store);
    let before = store.view().clone();
    let (key, _) = before
        .of::<Service>()
        .find("default", "web")
        .expect("the Service");
    for step in &plan.steps {
        let Step::One { write: w, .. } = step else {
            panic!("one write")
        };
        let reply = Ok(write(&mut store, w.clone()));
        let draws = Draws::new(1);
        let cx = SyncContext {
            now: Time::ZERO,
            view: &before,
            draws: &draws,
        };
        controller.on_reply(key, w, &reply, &cx, &mut Vec::new());
    }
    assert_eq!(show(&sync(&mut controller, &store)), "");
    // The view of before the creation lacks the slice that the controller wrote.
    let draws = Draws::new(1);
    let stale = controller.sync(
        key,
        &SyncContext {
            now: Time::ZERO,
            view: &before,
            draws: &draws,
        },
    );
    assert_eq!(
        show(&stale),
        "error EndpointSlice informer cache is out of date"
    );

    let (a, _) = store.view().pods().find("default", "a").expect("pod a");
    let grace_s = Some(30);
    let delete = Write::Delete {
        object: a.into(),
        uid: None,
        grace_s,
        propagation: Default::default(),
    };
    write(&mut store, delete);
    assert_eq!(
        show(&sync(&mut controller, &store)),
        "update [8080] a:-st b:rs-"
    );
}

#[test]
fn a_full_slice_is_left_alone_and_the_rest_gets_its_own() {
    let mut store = store();
    put_pods(&mut store, "a 80 ready, b 80 ready, c 80 ready");
    let mut controller = EndpointSliceController::new(Duration::ZERO, 2);
    let plan = sync(&mut controller, &store);
    assert_eq!(show(&plan), "create [80] a:rs- b:rs-; create [80] c:rs-");
}

/// After `reconciler_test.go :: TestReconcileManyPods`, `TestReconcileEndpointSlicesSomePreexisting`,
/// `TestReconcileEndpointSlicesUpdatePacking`, `TestReconcileEndpointSlicesReplaceDeprecated`: what
/// is there first (slices of pods), the pods, and what is written when a slice holds three.
#[test]
fn slices_are_filled_before_new_ones_are_made() {
    let cases = [
        // one has left: its place is taken, the full slice stays
        ("a b c, d e", "a b c e f", "update [80] e f"),
        // nobody left: the slice that has room for all takes them
        ("a b c, d", "a b c d e f", "update [80] d e f"),
        // no slice has room for both, so they get a new one
        ("a b, c d", "a b c d e f", "create [80] e f"),
        // more than a slice holds
        ("a", "a b c d e", "create [80] b c d; update [80] a e"),
        // an emptied slice goes; if one is made at the same time it takes its name
        ("a b c, d", "a b c", "delete"),
        ("d", "a b c", "update [80] a b c"),
        // the last one leaves: a placeholder takes the place
        ("a", "", "update []"),
        ("a, b", "", "update []; delete"),
    ];
    for (before, after, expected) in cases {
        let mut store = store();
        let all: Vec<&str> = "a b c d e f".split(' ').collect();
        let texts: Vec<String> = all.iter().map(|name| format!("{name} 80 ready")).collect();
        put_pods(&mut store, &texts.join(", "));
        for names in before.split(", ") {
            let service = store.view().of::<Service>().find("default", "web");
            let service = service.expect("the Service").1.clone();
            let mut slice = reconcile::slice_of(&service, store.view(), |pod| {
                names.split(' ').any(|n| n == pod)
            });
            slice.meta.name = format!("web-{}", names.replace(' ', "")).into();
            write(&mut store, Write::Create(slice.into()));
        }
        for name in all.iter().filter(|n| !after.split(' ').any(|a| a == **n)) {
            let (id, _) = store.view().pods().find("default", name).expect("a pod");
            let gone = Write::Delete {
                object: id.into(),
                uid: None,
                grace_s: Some(0),
                propagation: Default::default(),
            };
            write(&mut store, gone);
        }
        let mut controller = EndpointSliceController::new(Duration::ZERO, 3);
        let got = show(&sync(&mut controller, &store)).replace(":rs-", "");
        assert_eq!(got, expected, "{before} -> {after}");
    }
}

/// A pod on a node that nobody knows is left out, and said so, unless it is to be published anyway.
#[test]
fn pods_on_missing_nodes_are_told_and_left_out() {
    let mut store = store();
    put_pods(&mut store, "a 80 ready, b 80 ready, c 80 ready");
    let node = store.view().nodes().find("", "n1").expect("a node").0;
    let gone = Write::Delete {
        object: node.into(),
        uid: None,
        grace_s: None,
        propagation: Default::default(),
    };
    write(&mut store, gone);
    let mut controller = EndpointSliceController::default();
    let plan = sync(&mut controller, &store);
    let said =
        |name: &str| format!("skipping Pod {name} for Service default/web: Node n1 Not Found");
    let all = [said("a"), said("b"), said("c")].join(", ");
    assert_eq!(plan.error, Some(format!("[{all}]")));
    let told = plan.steps.iter().find_map(|step| match step {
        Step::Event(event) => Some((event.reason.to_string(), event.message.to_string())),
        _ => None,
    });
    let message = format!("Error updating Endpoint Slices for Service default/web: [{all}]");
    let reason = "FailedToUpdateEndpointSlices".to_owned();
    assert_eq!(told, Some((reason, message)));
}

/// After a crash the first list finds what changed meanwhile.
#[test]
fn every_service_is_looked_at_when_the_controller_starts() {
    use crate::control::desk::{Desk, PLAIN};
    let service = serde_json::json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    let mut desk = Desk::new(EndpointSliceController::default(), PLAIN, &[]);
    desk.crash();
    desk.create(&service);
    assert_eq!(desk.log(), "");
    desk.start();
    assert_eq!(desk.log(), "+slice web-*");
}
