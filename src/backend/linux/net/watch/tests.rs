//! What the network is told, as text.

use std::sync::Arc;

use super::*;
use crate::api::container::Protocol;
use crate::api::service::{Endpoint, EndpointPort, EndpointSlice, ServicePort, TargetPort};
use crate::api::{Labels, Meta, Node, Text, Uid};
use crate::store::{Cause, ObjectId};

/// Proxies hear after 10 ms and sync at most once a second.
fn watch() -> Watch {
    let config = ProxyConfig {
        watch_lag: crate::engine::Dist::Fixed(std::time::Duration::from_millis(10)),
        ..ProxyConfig::default()
    };
    Watch::new(1, config, Latencies::default()).0
}

struct Log {
    watch: Watch,
    revision: u64,
}

fn meta(name: &str) -> Meta {
    Meta {
        namespace: Text::from("shop"),
        name: Text::from(name),
        ..Meta::default()
    }
}

impl Log {
    fn change(&mut self, kind: Kind, index: u32, op: Op, row: Row, ms: u64) -> String {
        self.revision += 1;
        let now = Time::from_millis(ms);
        let change = Change {
            revision: self.revision,
            time: now,
            cause: Cause::default(),
            renewed: None,
            event: None,
            object: Some(ObjectId { kind, index }),
            op,
            old: None,
            new: Some(row),
        };
        text(&self.watch.on_change(&change, now))
    }

    fn node(&mut self, index: u32, ms: u64) -> String {
        let node = Node {
            meta: meta(&format!("n{index}")),
            ..Node::default()
        };
        self.change(Kind::Node, index, Op::Create, Row::Node(Arc::new(node)), ms)
    }

    fn service(&mut self, headless: bool, ms: u64) -> String {
        let service = Service {
            meta: meta("web"),
            headless,
            ports: vec![ServicePort {
                name: Text::from("http"),
                port: 80,
                target: TargetPort::Number(8080),
                protocol: Protocol::Tcp,
                ..ServicePort::default()
            }],
            ..Service::default()
        };
        self.change(
            Kind::Service,
            0,
            Op::Create,
            Row::Service(Arc::new(service)),
            ms,
        )
    }

    /// `10.0.0.5@n0 10.0.2.5@n1`: all ready.
    fn endpoints(&mut self, text: &str, ms: u64) -> String {
        let endpoint = |word: &str| {
            let (ip, node) = word.split_once('@').unwrap();
            Endpoint {
                ip: ip.parse::<std::net::Ipv4Addr>().unwrap().into(),
                pod_uid: Uid(1),
                pod: Text::from(format!("web-{}", node.len()).as_str()),
                hostname: Text::default(),
                node: Text::from(node),
                zone: Text::default(),
                ready: true,
                serving: true,
                terminating: false,
                hints: None,
            }
        };
        let mut meta = meta("web-abc");
        let label = (Text::from("kubernetes.io/service-name"), Text::from("web"));
        meta.labels = Labels::from_iter([label]);
        let slice = EndpointSlice {
            meta,
            endpoints: text.split_whitespace().map(endpoint).collect(),
            ports: vec![EndpointPort {
                name: Text::from("http"),
                port: 8080,
                protocol: Protocol::Tcp,
                app_protocol: Text::default(),
            }],
        };
        let row = Row::EndpointSlice(Arc::new(slice));
        self.change(Kind::EndpointSlice, 0, Op::Update, row, ms)
    }

    fn on_time(&mut self, ms: u64) -> String {
        text(&self.watch.on_time(Time::from_millis(ms)))
    }

    fn programmed(&mut self, node: &str, ms: u64) {
        let node = node.to_owned();
        let report = Report::Programmed { node };
        self.watch.on_report(&report, Time::from_millis(ms));
    }

    fn due(&self) -> Option<u64> {
        self.watch.due().map(|due| due.as_nanos() / 1_000_000)
    }
}

fn ip(ip: u32) -> std::net::Ipv4Addr {
    ip.into()
}

fn text(commands: &[Command]) -> String {
    let one = |command: &Command| match command {
        Command::Node(spec, _) => format!("node {} {} {}", spec.name, ip(spec.ip), spec.pods),
        Command::NodeGone(node) => format!("gone {node}"),
        Command::Services { node, put, gone } => {
            let put = put.iter().map(|port| {
                let to: Vec<_> = port.cluster.iter().map(ToString::to_string).collect();
                let (address, to) = (ip(port.cluster_ip), to.join(" "));
                format!(" {}={address}:{}->[{to}]", port.name, port.port)
            });
            let gone = gone.iter().map(|name| format!(" -{name}"));
            let all: String = put.chain(gone).collect();
            format!("{node}:{all}")
        }
        Command::Name(namespace, name, entry) => {
            let entry = entry.clone().unwrap_or_default();
            let to: Vec<_> = entry.addresses.iter().map(|a| ip(*a).to_string()).collect();
            format!("name {namespace}/{name} {}", to.join(" "))
        }
        Command::Trouble(id, Trouble::Wire(rule)) => {
            let ends = |m: &Members| match m.everything {
                true => "*".to_owned(),
                false => format!("{:?}{:?}", m.places, m.pods),
            };
            let (from, to) = (ends(&rule.from), ends(&rule.to));
            format!("trouble {id} {from} {to}")
        }
        Command::Trouble(id, trouble) => format!("trouble {id} {trouble:?}"),
        Command::Calm(id) => format!("calm {id}"),
        Command::Traffic(plan, from) => {
            format!("traffic {} {:?} {from:?}", plan.host, targets(&plan.to))
        }
        Command::Target(number, to) => format!("target {number} {:?}", targets(to)),
        other => format!("{other:?}"),
    };
    commands.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn targets(to: &[(u32, u16)]) -> Vec<String> {
    to.iter()
        .map(|(a, port)| format!("{}:{port}", ip(*a)))
        .collect()
}

fn log() -> Log {
    let mut log = Log {
        watch: watch(),
        revision: 0,
    };
    assert_eq!(log.node(0, 0), "node n0 172.16.0.1 10.0.0.0/23");
    assert_eq!(log.node(1, 0), "node n1 172.16.0.2 10.0.2.0/23");
    log
}

#[test]
fn proxies_hear_late_and_sync_at_most_once_in_their_period() {
    let mut log = log();
    assert_eq!(log.due(), None);
    assert_eq!(log.service(false, 100), "name shop/web 10.96.1.0");
    assert_eq!(log.due(), Some(110));
    assert_eq!(log.on_time(109), "");
    let expected = "edge: shop/web/tcp/http=10.96.1.0:80->[]\n\
                    n0: shop/web/tcp/http=10.96.1.0:80->[]\n\
                    n1: shop/web/tcp/http=10.96.1.0:80->[]";
    assert_eq!(log.on_time(110), expected);
    assert_eq!(log.due(), None, "all are at work");
    log.endpoints("10.0.0.5@n0 10.0.2.5@n1", 112);
    log.programmed("n0", 120);
    // 1 s after the end of the last sync.
    assert_eq!(log.due(), Some(1_120));
    log.endpoints("10.0.2.5@n1", 1_115);
    // Of the second change it has not heard by then.
    let expected = "n0: shop/web/tcp/http=10.96.1.0:80->[10.0.0.5:8080 10.0.2.5:8080]";
    assert_eq!(log.on_time(1_120), expected);
    log.programmed("n0", 1_130);
    let expected = "n0: shop/web/tcp/http=10.96.1.0:80->[10.0.2.5:8080]";
    assert_eq!(log.on_time(2_130), expected);
}

#[test]
fn a_proxy_that_is_cut_off_keeps_its_rules_and_lists_when_it_is_back() {
    let mut log = log();
    log.service(false, 0);
    log.on_time(10);
    for node in ["edge", "n0", "n1"] {
        log.programmed(node, 20);
    }
    let rule = LinkRule {
        from: Ends {
            control_plane: true,
            ..Ends::default()
        },
        to: Ends::nodes(&[Text::from("n0")]),
        effect: LinkEffect::Cut,
    };
    let at = Time::from_millis;
    let told = text(&log.watch.on_link(&rule, true, at(2_000)));
    assert_eq!(told, "trouble 0 {Place(0)}{} {Place(2)}{}");
    log.endpoints("10.0.0.5@n0", 2_100);
    let expected = "edge: shop/web/tcp/http=10.96.1.0:80->[10.0.0.5:8080]\n\
                    n1: shop/web/tcp/http=10.96.1.0:80->[10.0.0.5:8080]";
    assert_eq!(log.on_time(5_000), expected);
    assert_eq!(text(&log.watch.on_link(&rule, false, at(6_000))), "calm 0");
    // The watch is made again within a second.
    assert_eq!(log.due(), Some(7_000));
    let expected = "n0: shop/web/tcp/http=10.96.1.0:80->[10.0.0.5:8080]";
    assert_eq!(log.on_time(7_000), expected);
}

#[test]
fn a_machine_that_boots_is_told_everything_again() {
    let mut log = log();
    log.service(false, 0);
    log.endpoints("10.0.0.5@n0", 0);
    log.on_time(10);
    log.programmed("n1", 20);
    assert_eq!(text(&log.watch.on_power("n1", false)), "gone n1");
    assert_eq!(log.on_time(30_000), "");
    let told = text(&log.watch.on_power("n1", true));
    assert_eq!(told, "node n1 172.16.0.2 10.0.2.0/23");
    let expected = "n1: shop/web/tcp/http=10.96.1.0:80->[10.0.0.5:8080]";
    assert_eq!(log.on_time(31_000), expected);
}

#[test]
fn traffics_follow_names_and_trouble_of_pods_is_told_on_the_wire_and_on_their_node() {
    let mut log = log();
    let traffic = Traffic {
        namespace: Text::from("shop"),
        to: Text::from("service/web:http"),
        ..Traffic::default()
    };
    let start = |log: &mut Log, number, traffic: &Traffic| {
        text(&log.watch.on_traffic(number, traffic, Time::ZERO, 0))
    };
    assert_eq!(start(&mut log, 0, &traffic), "traffic web [] None");
    let told = log.service(true, 0);
    assert_eq!(told, "name shop/web ", "nobody is behind it yet");
    let told = log.endpoints("10.0.0.5@n0 10.0.2.5@n1", 0);
    let expected = "name shop/web 10.0.0.5 10.0.2.5\n\
                    target 0 [\"10.0.0.5:8080\", \"10.0.2.5:8080\"]";
    assert_eq!(told, expected);
    let by_port = Traffic {
        to: Text::from("nodePort/:30080"),
        from: Some(Text::from("n1")),
        ..traffic
    };
    let expected = "traffic :30080 [\"172.16.0.1:30080\", \"172.16.0.2:30080\"] Some(\"n1\")";
    assert_eq!(start(&mut log, 1, &by_port), expected);
    let pod = |name: &str, uid| Pod {
        meta: Meta {
            uid: Uid(uid),
            ..meta(name)
        },
        ..Pod::default()
    };
    log.watch.on_sandbox("n0", 5, &pod("a", 1), 0x0a00_0005);
    let key = |name: &str, uid| PodKey {
        namespace: Text::from("shop"),
        name: Text::from(name),
        uid: Uid(uid),
    };
    let rule = LinkRule {
        from: Ends::pods(&[key("a", 1), key("b", 2)]),
        to: Ends::anybody(),
        effect: LinkEffect::Cut,
    };
    let told = text(&log.watch.on_link(&rule, true, Time::ZERO));
    let expected = "trouble 0 {}{5} *\n\
                    trouble 1 Within { node: \"n0\", pairs: [(Some(167772165), None)] }";
    assert_eq!(told, expected);
    assert_eq!(
        text(&log.watch.on_link(&rule, false, Time::ZERO)),
        "calm 0\ncalm 1"
    );
    log.watch.on_removed(5);
    let told = text(&log.watch.on_link(&rule, true, Time::ZERO));
    assert_eq!(
        told, "trouble 2 {}{} *",
        "a pod that is gone has no packets"
    );
}
