//! Whom faults hit, and what they do, as text.

use std::sync::Arc;

use super::*;
use crate::api::container::Container;
use crate::api::meta::OwnerRef;
use crate::api::selector::LabelSelector;
use crate::api::yaml::Span;
use crate::api::{Kind, Meta, Namespace, Node, Pod, PodSpec, ReplicaSet, Row, Text, Uid};
use crate::engine::{Draws, Time};
use crate::store::{Cause, Store, Write};

fn meta(namespace: &str, name: &str, labels: &[(&str, &str)]) -> Meta {
    Meta {
        namespace: namespace.into(),
        name: name.into(),
        labels: labels.iter().copied().collect(),
        ..Meta::default()
    }
}

fn create(store: &mut Store, row: impl Into<Row>) {
    let write = Write::Create(row.into());
    let done = store.write(&write, Time::ZERO, Cause::default());
    done.expect("a good write");
}

fn owned_by(mut meta: Meta, kind: Kind, name: &str) -> Meta {
    meta.owners = Arc::new([OwnerRef {
        kind,
        api_version: "apps/v1".into(),
        kind_name: kind.name().into(),
        name: name.into(),
        uid: Uid(9),
        controller: true,
        block_owner_deletion: true,
    }]);
    meta
}

/// Nodes n-0 … n-5 in zones a, b, c; pods web-0 … web-(pods - 1) of Deployment web, one to a node.
fn cluster(pods: usize) -> Store {
    let mut store = Store::new(Draws::new(1));
    create(
        &mut store,
        Namespace {
            meta: meta("", "shop", &[]),
            ..Namespace::default()
        },
    );
    for n in 0..6 {
        let zone = ["a", "b", "c"][n % 3];
        let labels = [("topology.kubernetes.io/zone", zone)];
        let meta = meta("", &format!("n-{n}"), &labels);
        create(
            &mut store,
            Node {
                meta,
                ..Node::default()
            },
        );
    }
    let set = owned_by(meta("shop", "web-1", &[]), Kind::Deployment, "web");
    create(
        &mut store,
        ReplicaSet {
            meta: set,
            ..ReplicaSet::default()
        },
    );
    for n in 0..pods {
        let meta = meta("shop", &format!("web-{n}"), &[("app", "web")]);
        let containers = ["main", "proxy"].map(|name| Container {
            name: name.into(),
            ..Container::default()
        });
        let spec = PodSpec {
            containers: containers.to_vec(),
            ..PodSpec::default()
        };
        create(
            &mut store,
            Pod {
                meta: owned_by(meta, Kind::ReplicaSet, "web-1"),
                spec: Arc::new(spec),
                node_name: Some(format!("n-{}", n % 6).into()),
                ..Pod::default()
            },
        );
    }
    store
}

fn fault(name: &str, action: Action, mode: Mode, selector: Selector) -> Fault {
    Fault {
        name: name.into(),
        kind: "test".into(),
        span: Span::NONE,
        action,
        selector,
        mode,
        duration: None,
    }
}

fn web() -> Selector {
    Selector {
        labels: LabelSelector::equals([(&Text::from("app"), &Text::from("web"))]),
        namespaces: vec!["shop".into()],
        ..Selector::default()
    }
}

fn picked(name: &str, mode: Mode, pods: usize, seed: u64) -> Vec<String> {
    let store = cluster(pods);
    let fault = fault(name, Action::PodFailure, mode, web());
    let targets = fault.select(store.view(), &Draws::new(seed));
    assert_eq!(targets.candidates, pods);
    targets
        .pods
        .iter()
        .map(|pod| pod.name.to_string())
        .collect()
}

#[test]
fn modes_take_their_share_rounded_down() {
    for (mode, pods, count) in [
        (Mode::One, 5, 1),
        (Mode::One, 0, 0),
        (Mode::All, 5, 5),
        (Mode::Fixed(2), 5, 2),
        (Mode::Fixed(9), 5, 5),
        // 50 % of 5 is 2.5.
        (Mode::FixedPercent(50), 5, 2),
        (Mode::FixedPercent(100), 5, 5),
        (Mode::FixedPercent(10), 5, 0),
    ] {
        assert_eq!(
            picked("f", mode, pods, 1).len(),
            count,
            "{mode:?} of {pods}"
        );
    }
}

#[test]
fn a_random_share_is_drawn_by_the_name_of_the_fault() {
    let counts: Vec<usize> = (0..40)
        .map(|seed| picked("f", Mode::RandomMaxPercent(50), 10, seed).len())
        .collect();
    assert!(counts.iter().all(|count| *count <= 5), "{counts:?}");
    assert!(counts.iter().any(|count| *count != counts[0]), "{counts:?}");
    assert_eq!(
        picked("f", Mode::RandomMaxPercent(50), 10, 3).len(),
        counts[3]
    );
}

#[test]
fn another_candidate_changes_a_choice_only_by_being_chosen() {
    for seed in 0..50 {
        let few = picked("f", Mode::Fixed(2), 8, seed);
        let more = picked("f", Mode::Fixed(2), 9, seed);
        let kept = few.iter().filter(|name| more.contains(name)).count();
        let new = more.iter().any(|name| name == "web-8");
        assert_eq!(
            kept,
            if new { 1 } else { 2 },
            "seed {seed}: {few:?} {more:?}"
        );
    }
}

#[test]
fn every_pod_is_chosen_now_and_then_and_names_draw_apart() {
    let mut seen = std::collections::BTreeSet::new();
    let mut apart = 0;
    for seed in 0..60 {
        let one = picked("f", Mode::One, 6, seed);
        apart += usize::from(one != picked("g", Mode::One, 6, seed));
        seen.extend(one);
    }
    // The chance that one of six is never drawn in 60: 6 × (5/6)^60 ≈ 1e-4.
    assert_eq!(seen.len(), 6);
    assert!(apart > 30, "{apart}");
}

fn nodes(selector: Selector) -> Vec<String> {
    let store = cluster(2);
    let fault = fault("f", Action::PowerOff, Mode::All, selector);
    let targets = fault.select(store.view(), &Draws::new(1));
    targets.nodes.iter().map(Text::to_string).collect()
}

#[test]
fn nodes_are_selected_by_zone_pool_name_and_pods() {
    let of = |kind: &str, name: &str| Selector {
        pods_of: Some(WorkloadRef {
            kind: kind.into(),
            namespace: "shop".into(),
            name: name.into(),
        }),
        ..Selector::default()
    };
    assert_eq!(nodes(Selector::default()).len(), 6);
    let zone = Selector {
        zones: vec!["c".into()],
        ..Selector::default()
    };
    assert_eq!(nodes(zone), ["n-2", "n-5"]);
    let pool = Selector {
        pools: vec!["n".into()],
        ..Selector::default()
    };
    assert_eq!(nodes(pool).len(), 6);
    let names = Selector {
        names: vec!["n-4".into()],
        ..Selector::default()
    };
    assert_eq!(nodes(names), ["n-4"]);
    // By way of the ReplicaSet, by the ReplicaSet itself, by the pod.
    assert_eq!(nodes(of("Deployment", "web")), ["n-0", "n-1"]);
    assert_eq!(nodes(of("ReplicaSet", "web-1")), ["n-0", "n-1"]);
    assert_eq!(nodes(of("Pod", "web-1")), ["n-1"]);
    assert_eq!(nodes(of("Deployment", "other")), [""; 0]);
}

#[test]
fn a_partition_cuts_the_selected_off_and_leaves_them_together() {
    let store = cluster(0);
    let selector = Selector {
        zones: vec!["c".into()],
        ..Selector::default()
    };
    let action = Action::NodePartition {
        from: vec![
            Place::ControlPlane,
            Place::Zone("a".into()),
            Place::Zone("c".into()),
        ],
        to: vec![Place::Others],
    };
    let fault = fault("f", action, Mode::All, selector);
    let targets = fault.select(store.view(), &Draws::new(1));
    let names = |ends: &Ends| ends.nodes.join(" ");
    // Zone c itself is not cut off from zone c.
    assert_eq!(
        (names(&targets.from), targets.from.edge),
        ("n-0 n-3".to_owned(), false)
    );
    assert_eq!(
        (names(&targets.to), targets.to.edge),
        ("n-0 n-1 n-3 n-4".to_owned(), true)
    );
    let effects = fault.effects(&targets);
    assert_eq!(effects.len(), 2);
    for effect in effects {
        let undone = effect.inverse().expect("it heals");
        assert!(matches!(undone, Effect::Calm(_)), "{undone:?}");
        assert_eq!(undone.inverse(), Some(effect));
    }
}

#[test]
fn a_container_kill_hits_the_named_containers_and_is_over_at_once() {
    let store = cluster(2);
    let action = Action::ContainerKill {
        containers: vec!["proxy".into()],
    };
    let fault = fault("f", action, Mode::All, web());
    let targets = fault.select(store.view(), &Draws::new(1));
    let lines: Vec<String> = (fault.effects(&targets).iter())
        .map(|effect| match effect {
            Effect::KillContainer { pod, container } => {
                assert_eq!(effect.inverse(), None);
                format!("{} {container}", pod.name)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lines, ["web-0 proxy", "web-1 proxy"]);
    assert!(fault.is_instant());
}

#[test]
fn a_delay_in_both_directions_is_two_rules_for_each_effect() {
    let store = cluster(3);
    let effects = vec![
        LinkEffect::Cut,
        LinkEffect::Loss {
            per_million: 1,
            correlation: 0.0,
        },
    ];
    let peers = Peers {
        outgoing: true,
        incoming: true,
        target: Some((Box::new(web()), Mode::One)),
        ..Peers::default()
    };
    let fault = fault(
        "f",
        Action::Network { effects, peers },
        Mode::Fixed(2),
        web(),
    );
    let targets = fault.select(store.view(), &Draws::new(1));
    assert_eq!(
        (targets.pods.len(), targets.peers.as_ref().map(Vec::len)),
        (2, Some(1))
    );
    assert_eq!(fault.effects(&targets).len(), 4);
}

#[test]
fn external_targets_are_the_pods_behind_a_name_or_an_address() {
    let mut store = cluster(3);
    let selector: crate::api::Labels = [(Text::from("app"), Text::from("web"))]
        .into_iter()
        .collect();
    let service = |name: &str, cluster_ip| crate::api::Service {
        meta: meta("shop", name, &[]),
        selector: selector.clone(),
        cluster_ip,
        ..crate::api::Service::default()
    };
    create(&mut store, service("web", None));
    create(&mut store, service("fixed", Some(0x0a60_0009)));
    let end = |name: &str| ExternalEnd::Service {
        namespace: "shop".into(),
        name: name.into(),
    };
    let pod = ExternalEnd::Pod {
        namespace: "shop".into(),
        service: "web".into(),
        name: "web-1".into(),
    };
    let network = |ip, bits| ExternalEnd::Network { ip, bits };
    for (end, expected) in [
        (end("web"), Some(3)),
        (end("other"), Some(0)),
        (pod, Some(1)),
        (network(0x0a60_0000, 12), Some(3)),
        (network(0x0a60_0008, 32), Some(0)),
        (network(0, 0), None),
    ] {
        let external = External {
            written: "x".into(),
            span: Span::NONE,
            path: String::new(),
            end,
        };
        let peers = Peers {
            outgoing: true,
            external: vec![external.clone()],
            ..Peers::default()
        };
        let effects = vec![LinkEffect::Cut];
        let action = Action::Network { effects, peers };
        let fault = fault("f", action, Mode::All, web());
        let targets = fault.select(store.view(), &Draws::new(1));
        let found = targets.peers.as_ref().map(Vec::len);
        assert_eq!(found, expected, "{external:?}");
    }
}
