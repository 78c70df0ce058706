//! Tests of the module `route`.

use std::sync::Arc;

use super::*;
use crate::api::service::{Endpoint as ApiEndpoint, EndpointPort, Hints, ServicePort};
use crate::api::{EndpointSlice, Labels, Node, Pod, Service, Uid};
use crate::engine::Dist;
use crate::store::{Cause, ObjectId};

struct Cluster {
    net: Net,
    revision: u64,
    /// What the endpoint of each pod is hinted for.
    hints: fn(u32) -> Option<Arc<Hints>>,
}

impl Cluster {
    /// Nodes `n0` … with pods `p0` …, two of each zone, and a Service `web` of two ports.
    fn new(pods: u32) -> Cluster {
        let config = NetConfig {
            proxy: ProxyConfig {
                watch_lag: Dist::Fixed(Duration::from_millis(10)),
                ..ProxyConfig::nftables()
            },
            ..NetConfig::default()
        };
        let mut cluster = Cluster {
            net: Net::new(config, Draws::new(1)),
            revision: 0,
            hints: |_| None,
        };
        for n in 0..pods {
            let mut node = Node::default();
            node.meta.name = Text::from(format!("n{n}"));
            let zone = format!("z{}", n / 2);
            node.meta.labels = Labels::from_iter([("topology.kubernetes.io/zone", zone.as_str())]);
            cluster.put(Kind::Node, n, node.into());
            let mut pod = Pod::default();
            pod.meta.uid = Uid(100 + u64::from(n));
            cluster.put(Kind::Pod, n, pod.into());
        }
        let mut service = Service::default();
        service.meta.namespace = Text::from("default");
        service.meta.name = Text::from("web");
        for (name, port) in [("http", 80), ("metrics", 90)] {
            service.ports.push(ServicePort {
                name: Text::from(name),
                port,
                ..ServicePort::default()
            });
        }
        cluster.put(Kind::Service, 0, service.into());
        cluster
    }

    fn put(&mut self, kind: Kind, index: u32, row: Row) {
        self.put_at(kind, index, row, Time::ZERO);
    }

    fn put_at(&mut self, kind: Kind, index: u32, row: Row, time: Time) {
        self.revision += 1;
        let change = Change {
            revision: self.revision,
            time,
            object: Some(ObjectId { kind, index }),
            op: Op::Create,
            old: None,
            new: Some(row),
            event: None,
            cause: Cause::default(),
            renewed: None,
        };
        self.net.on_change(&change, time);
    }

    /// A slice of these pods, all ready, with one named port.
    fn slice(&mut self, index: u32, port: (&str, u16), pods: &[u32], time: Time) {
        let mut slice = EndpointSlice::default();
        slice.meta.namespace = Text::from("default");
        slice.meta.labels = Labels::from_iter([("kubernetes.io/service-name", "web")]);
        slice.ports = vec![EndpointPort {
            name: Text::from(port.0),
            port: port.1,
            protocol: crate::api::container::Protocol::Tcp,
            app_protocol: Text::default(),
        }];
        let endpoint = |n: &u32| ApiEndpoint {
            ip: *n,
            pod_uid: Uid(100 + u64::from(*n)),
            pod: Text::from(format!("p{n}")),
            hostname: Text::default(),
            node: Text::from(format!("n{n}")),
            zone: Text::default(),
            ready: true,
            serving: true,
            terminating: false,
            hints: (self.hints)(*n),
        };
        slice.endpoints = pods.iter().map(endpoint).collect();
        self.put_at(
            Kind::EndpointSlice,
            index,
            Row::EndpointSlice(Arc::new(slice)),
            time,
        );
    }

    /// How often each pod is chosen in `n` connections from the edge.
    fn choices(&mut self, to: &str, n: u64, now: Time) -> Vec<(u32, u16, u64)> {
        self.choices_from(Place::EDGE, to, n, now)
    }

    fn choices_from(&mut self, from: Place, to: &str, n: u64, now: Time) -> Vec<(u32, u16, u64)> {
        let target = self.net.target(to, "default");
        let mut counts = std::collections::BTreeMap::new();
        for i in 0..n {
            let draw = Draws::new(i).u64(crate::engine::Purpose::new("test"), 0, 0);
            let choice = self.net.connect(from.into(), target, i, draw, now);
            let endpoint = choice.expect("an endpoint").endpoint;
            *counts.entry((endpoint.pod, endpoint.port)).or_insert(0) += 1;
        }
        counts
            .into_iter()
            .map(|((pod, port), n)| (pod, port, n))
            .collect()
    }
}

#[test]
fn every_endpoint_of_the_named_port_is_chosen_alike() {
    let mut cluster = Cluster::new(4);
    // Two slices whose targets differ, as after a change of a named targetPort, and another port.
    cluster.slice(0, ("http", 8080), &[0, 1], Time::ZERO);
    cluster.slice(1, ("http", 8081), &[2], Time::ZERO);
    cluster.slice(2, ("metrics", 9090), &[3], Time::ZERO);
    let now = Time::from_secs(5);
    for to in ["web", "web:80", "web:http"] {
        let choices = cluster.choices(to, 3_000, now);
        let targets: Vec<_> = choices.iter().map(|c| (c.0, c.1)).collect();
        assert_eq!(targets, [(0, 8080), (1, 8080), (2, 8081)], "{to}");
        // binomial(3,000, 1/3): standard deviation 26
        assert!(
            choices.iter().all(|c| c.2.abs_diff(1_000) < 110),
            "{choices:?}"
        );
    }
    assert_eq!(cluster.choices("web:metrics", 5, now), [(3, 9090, 5)]);
}

#[test]
fn proxies_prefer_the_endpoints_that_are_hinted_for_them() {
    let zone: fn(u32) -> Option<Arc<Hints>> = |n| {
        let zones = vec![Text::from(format!("z{}", n / 2))];
        let nodes = Vec::new();
        Some(Arc::new(Hints { zones, nodes }))
    };
    let node: fn(u32) -> Option<Arc<Hints>> = |n| {
        let zones = vec![Text::from(format!("z{}", n / 2))];
        let nodes = vec![Text::from(format!("n{n}"))];
        Some(Arc::new(Hints { zones, nodes }))
    };
    // hints, pods with endpoints, who asks, pods that are chosen
    let table = [
        (zone, &[0, 1, 2, 3][..], "n0", &[0, 1][..]),
        (zone, &[0, 1, 2, 3], "n3", &[2, 3]),
        // nobody is left in the zone
        (zone, &[2, 3], "n0", &[2, 3]),
        // the edge is in no zone
        (zone, &[0, 1, 2, 3], "edge", &[0, 1, 2, 3]),
        (node, &[0, 1, 2, 3], "n2", &[2]),
        (node, &[0, 2, 3], "n1", &[0]),
    ];
    for (hints, pods, from, expected) in table {
        let mut cluster = Cluster::new(4);
        cluster.hints = hints;
        cluster.slice(0, ("http", 8080), pods, Time::ZERO);
        let place = cluster.net.place(from).expect("a place");
        let now = Time::from_secs(5);
        let choices = cluster.choices_from(place, "web", 200, now);
        let chosen: Vec<u32> = choices.iter().map(|c| c.0).collect();
        assert_eq!(chosen, expected, "{from} {pods:?}");
        let census = cluster.net.census(place, ServiceId(0), now, |_| true);
        assert_eq!(census, (expected.len(), expected.len()), "{from}");
    }
}

#[test]
fn old_versions_are_kept_for_a_node_that_stands_still_and_forgotten_otherwise() {
    let mut cluster = Cluster::new(3);
    cluster.slice(0, ("http", 80), &[0], Time::ZERO);
    let now = Time::from_secs(10);
    let node = cluster.net.place("n2").unwrap();
    let rule = super::super::link::Rule {
        from: Members::places([Place::CONTROL_PLANE]),
        to: Members::places([node]),
        effect: super::super::link::Effect::Cut,
    };
    cluster.net.change_links(now, |links| links.add(rule));
    for n in 0..1_000u64 {
        let pods = if n % 2 == 0 { [1, 2] } else { [2, 1] };
        cluster.slice(0, ("http", 80), &pods, Time::from_millis(11_000 + 10 * n));
    }
    let now = Time::from_secs(25);
    let target = cluster.net.target("web", "default");
    let pod_from = |cluster: &mut Cluster, place: Place| {
        let choice = cluster
            .net
            .connect(place.into(), target, 0, 0, now)
            .unwrap();
        choice.endpoint.pod
    };
    // n2 stands at the first version, everybody else at the last.
    assert_eq!(pod_from(&mut cluster, node), 0);
    assert_eq!(pod_from(&mut cluster, Place::EDGE), 2);
    let id = ServiceId(0);
    let kept = cluster.net.services.versions(id);
    // Changes of about 1.2 s, twice that between two prunings, and the old one.
    assert!(kept < 300, "{kept}");
}

#[test]
fn a_service_that_is_gone_is_no_name_and_no_rule() {
    let mut cluster = Cluster::new(1);
    cluster.slice(0, ("http", 80), &[0], Time::ZERO);
    let node = cluster.net.place("n0").unwrap();
    let target = cluster.net.target("web", "default");
    let mut service = Service::default();
    service.meta.namespace = Text::from("default");
    service.meta.name = Text::from("web");
    cluster.revision += 1;
    let change = Change {
        revision: cluster.revision,
        time: Time::from_secs(10),
        object: Some(ObjectId {
            kind: Kind::Service,
            index: 0,
        }),
        op: Op::Delete,
        old: None,
        new: Some(service.into()),
        event: None,
        cause: Cause::default(),
        renewed: None,
    };
    cluster.net.on_change(&change, Time::from_secs(10));
    let mut ask = |from: Place, ms| {
        let now = Time::from_millis(ms);
        cluster.net.connect(from.into(), target, 0, 0, now).err()
    };
    assert_eq!(ask(node, 10_001), None, "nobody has heard of it");
    assert_eq!(ask(node, 20_000), Some(NoRoute::Dns));
    assert_eq!(ask(Place::EDGE, 20_000), Some(NoRoute::Dns));
}

#[test]
fn lookups_that_go_wrong_fail_or_lead_astray() {
    let mut cluster = Cluster::new(1);
    cluster.slice(0, ("http", 80), &[0], Time::ZERO);
    let node = cluster.net.place("n0").unwrap();
    let now = Time::from_secs(10);
    let ask = |cluster: &mut Cluster, name: &str, pod: u32| {
        let target = cluster.net.target(name, "default");
        let found = cluster.net.connect(End::pod(node, pod), target, 0, 0, now);
        found.err()
    };
    // patterns, random, name: what pod 7 gets
    let table = [
        (&["web.*"][..], false, "web", Some(NoRoute::Dns)),
        (&["web.*"], true, "web", Some(NoRoute::Astray)),
        (&[], false, "web", Some(NoRoute::Dns)),
        (&["other.*"], false, "web", None),
        // Only the last name of the search path, which is never asked for.
        (&["web"], false, "web", None),
        // The names before and after it, which do not exist anyway.
        (&["web.default.svc"], true, "web.default", None),
        (
            &["web.default.default.*"],
            true,
            "web.default",
            Some(NoRoute::Astray),
        ),
        (&["web.default.default.*"], false, "web.default", None),
    ];
    for (patterns, astray, name, expected) in table {
        let fault = cluster.net.add_dns_fault(DnsFault {
            from: Members::pods([7]),
            patterns: patterns.iter().map(|p| Text::from(*p)).collect(),
            astray,
        });
        assert_eq!(ask(&mut cluster, name, 7), expected, "{patterns:?} {name}");
        assert_eq!(ask(&mut cluster, name, 8), None, "another pod");
        cluster.net.remove_dns_fault(fault);
        assert_eq!(ask(&mut cluster, name, 7), None, "afterwards");
    }
}
