//! Rules as text, rules in the kernel as `nft` reads them, and connections through them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::libc;

use super::layout::{Backend, Layout, Line, NodeRules, ServicePort, Shared};
use super::program::Programmers;
use super::ruleset::Ruleset;
use crate::backend::linux::net::fabric::{Fabric, NodeSpec};
use crate::backend::linux::net::netlink::Socket;
use crate::backend::linux::net::route::Cidr;
use crate::backend::linux::net::sys::{self, Poll};
use crate::backend::linux::net::testing;
use crate::net::topology::Latencies;

const VIP: u32 = 0x0a60_0001;

fn ip(text: &str) -> u32 {
    u32::from(text.parse::<Ipv4Addr>().unwrap())
}

fn backends(text: &str) -> Vec<Backend> {
    text.split_whitespace()
        .map(|word| {
            let (address, port) = word.split_once(':').unwrap();
            Backend {
                ip: ip(address),
                port: port.parse().unwrap(),
            }
        })
        .collect()
}

/// A TCP port 80 of 10.96.0.1 with these endpoints under policy `Cluster`.
fn service(name: &str, endpoints: &str) -> ServicePort {
    let cluster = backends(endpoints);
    ServicePort {
        name: format!("default/{name}/tcp/http"),
        protocol: 6,
        cluster_ip: VIP,
        port: 80,
        any: !cluster.is_empty(),
        cluster,
        ..ServicePort::default()
    }
}

fn node_rules() -> NodeRules {
    NodeRules {
        ip: ip("10.9.0.2"),
        own: vec![Cidr {
            ip: ip("10.2.0.0"),
            bits: 15,
        }],
        pods: Some(Cidr {
            ip: ip("10.2.0.0"),
            bits: 16,
        }),
        in_turn: true,
    }
}

/// A layout as lines of text, names shortened.
fn text(layout: &Layout) -> String {
    let short = |name: &str| name.replace("default/", "").replace("/tcp/http", "");
    let mut lines = Vec::new();
    for (chain, rules) in &layout.chains {
        for rule in rules {
            let rule = match rule {
                Line::Mark => "mark".to_owned(),
                Line::MarkOwn => "own mark".to_owned(),
                Line::OwnGo(to) => format!("own -> {to}"),
                Line::FromGo(from, to) => format!("{from} -> {to}"),
                Line::Go(to) => format!("-> {to}"),
                Line::RememberedGo(set, to) => format!("@{set} -> {to}"),
                Line::Choose(chains) => format!("choose {}", chains.join(" ")),
                Line::Remember(set) => format!("update @{set}"),
                Line::Redirect(protocol, to) => format!("{protocol} dnat {to}"),
            };
            lines.push(format!("{}: {}", short(chain), short(&rule)));
        }
    }
    for ((shared, key), verdict) in &layout.elements {
        let key: Vec<_> = key
            .chunks(4)
            .map(|c| u32::from_be_bytes(c.try_into().unwrap()))
            .collect();
        let verdict = verdict
            .as_ref()
            .map_or(String::new(), |v| format!(" {v:?}"));
        lines.push(short(&format!("{} {key:x?}{verdict}", shared.name())));
    }
    lines.join("\n")
}

#[test]
fn a_service_with_a_node_port_is_laid_out_as_kube_proxy_does() {
    let mut port = service("web", "10.2.0.5:8080 10.3.0.5:8080");
    port.node_port = 30_080;
    let expected = "\
endpoint-web__10.2.0.5/8080: 6 dnat 10.2.0.5:8080
endpoint-web__10.3.0.5/8080: 6 dnat 10.3.0.5:8080
external-web: mark
external-web: -> service-web
service-web: choose endpoint-web__10.2.0.5/8080 endpoint-web__10.3.0.5/8080
service-ips [a600001, 6000000, 500000] Goto(\"service-web\")
service-nodeports [6000000, 75800000] Goto(\"external-web\")
cluster-ips [a600001]
hairpin-connections [a020005, a020005, 6000000, 1f900000]";
    assert_eq!(text(&Layout::of([&port], &node_rules())), expected);
}

#[test]
fn policies_affinity_and_missing_endpoints_are_laid_out_as_kube_proxy_does() {
    let mut local = service("web", "10.3.0.5:80");
    local.external_local = true;
    local.node_port = 30_080;
    let expected = "\
endpoint-web__10.3.0.5/80: 6 dnat 10.3.0.5:80
external-web: 10.2.0.0/15 -> service-web
external-web: own mark
external-web: own -> service-web
service-web: choose endpoint-web__10.3.0.5/80
service-ips [a600001, 6000000, 500000] Goto(\"service-web\")
service-nodeports [6000000, 75800000] Goto(\"external-web\")
no-endpoint-nodeports [6000000, 75800000] Drop
cluster-ips [a600001]";
    assert_eq!(text(&Layout::of([&local], &node_rules())), expected);
    let expected = "\
no-endpoint-services [a600001, 6000000, 500000] Goto(\"reject-chain\")
cluster-ips [a600001]";
    assert_eq!(
        text(&Layout::of([&service("web", "")], &node_rules())),
        expected
    );
    // Endpoints elsewhere, and only those of this node may be used: dropped, not refused.
    let mut inside = service("web", "");
    (inside.internal_local, inside.any) = (true, true);
    let expected = "\
no-endpoint-services [a600001, 6000000, 500000] Drop
cluster-ips [a600001]";
    assert_eq!(text(&Layout::of([&inside], &node_rules())), expected);
    let mut sticky = service("web", "10.3.0.5:80");
    sticky.affinity_s = Some(600);
    let layout = Layout::of([&sticky], &node_rules());
    let expected = "\
endpoint-web__10.3.0.5/80: update @affinity-web__10.3.0.5/80-600
endpoint-web__10.3.0.5/80: 6 dnat 10.3.0.5:80
service-web: @affinity-web__10.3.0.5/80-600 -> endpoint-web__10.3.0.5/80
service-web: choose endpoint-web__10.3.0.5/80
service-ips [a600001, 6000000, 500000] Goto(\"service-web\")
cluster-ips [a600001]";
    assert_eq!(text(&layout), expected);
    assert_eq!(layout.memories.len(), 1);
}

/// A node's rules in the kernel, each change sent at once.
struct Kernel {
    rules: Ruleset,
    socket: Socket,
}

impl Kernel {
    fn sync(&mut self) -> bool {
        let batch = self.rules.sync();
        if let Some(batch) = &batch {
            let sent = self.socket.request_bytes(batch);
            sent.unwrap_or_else(|(n, e)| panic!("request {n}: {e}"));
        }
        batch.is_some()
    }
}

#[test]
fn nft_reads_back_what_was_programmed_and_changes_touch_only_what_changed() {
    let Some(_root) = testing::root("nft_reads_back") else {
        return;
    };
    testing::in_scratch(|| {
        let mut kernel = Kernel {
            rules: Ruleset::new(node_rules()),
            socket: Socket::netfilter().unwrap(),
        };
        let mut port = service("web", "10.2.0.5:8080 10.3.0.5:8080");
        (port.node_port, port.affinity_s) = (30_080, Some(600));
        kernel.rules.put(port);
        kernel.rules.put(service("other", ""));
        assert!(kernel.sync());
        assert!(!kernel.sync(), "nothing has changed");
        let list = || testing::run("nft", &["list", "table", "ip", "rehearsal"]);
        let Some(shown) = list() else {
            println!("nft is not installed: not read back");
            return;
        };
        for line in [
            "type nat hook prerouting priority dstnat; policy accept;",
            "type filter hook prerouting priority raw; policy accept;",
            "iif 99 notrack",
            "ct state new jump service-endpoints-check",
            "ip daddr . meta l4proto . th dport vmap @service-ips",
            "ip daddr 10.9.0.2 meta l4proto . th dport vmap @service-nodeports",
            "ip daddr @cluster-ips ip saddr != 10.2.0.0/15 meta mark set meta mark | 0x00004000",
            "meta mark & 0x00004000 != 0x00000000 meta mark set meta mark ^ 0x00004000 masquerade fully-random",
            "ct status dnat ip saddr . ip daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random",
            "elements = { 10.96.0.1 . tcp . 80 : goto service-default/web/tcp/http }",
            "elements = { tcp . 30080 : goto external-default/web/tcp/http }",
            "numgen inc mod 2 vmap { 0 : goto endpoint-default/web/tcp/http__10.2.0.5/8080, 1 : goto endpoint-default/web/tcp/http__10.3.0.5/8080 }",
            "update @affinity-default/web/tcp/http__10.2.0.5/8080-600 { ip saddr }",
            "meta l4proto tcp counter packets 0 bytes 0 dnat to 10.2.0.5:8080",
            "elements = { 10.2.0.5 . 10.2.0.5 . tcp . 8080 }",
            "timeout 10m",
            "ip daddr @cluster-ips reject",
        ] {
            assert!(shown.contains(line), "{line}\nis not in\n{shown}");
        }
        kernel.rules.put(service("web", "10.3.0.5:8080"));
        kernel.rules.put(service("third", "10.3.0.6:80"));
        assert!(kernel.sync());
        kernel.rules.remove("default/other/tcp/http");
        assert!(kernel.sync());
        let shown = list().unwrap();
        assert!(!shown.contains("10.2.0.5"), "{shown}");
        assert!(!shown.contains("affinity"), "{shown}");
        // The same rules made from nothing are the same rules.
        kernel.rules.lost();
        assert!(kernel.sync());
        let sorted = |text: String| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(list().unwrap()), sorted(shown));
    });
}

/// Two nodes (10.9.0.2 and 3), two pods on each (10.2.0.5, 6; 10.3.0.5, 6).
struct World {
    fabric: Fabric,
    programmers: Programmers,
    rules: BTreeMap<String, Ruleset>,
}

impl World {
    fn new() -> World {
        let latencies = Latencies {
            other_zone: Duration::ZERO,
            same_zone: Duration::ZERO,
            ..Latencies::default()
        };
        let mut fabric = Fabric::new(1, &latencies).unwrap();
        let mut rules = BTreeMap::new();
        for n in 2..4 {
            let pods = Cidr {
                ip: 0x0a00_0000 + (n << 16),
                bits: 16,
            };
            let spec = NodeSpec {
                name: format!("n{n}"),
                place: n,
                zone: "z".to_owned(),
                ip: 0x0a09_0000 + n,
                pods,
            };
            let node = NodeRules {
                ip: spec.ip,
                pods: Some(pods),
                ..node_rules()
            };
            rules.insert(spec.name.clone(), Ruleset::new(node));
            fabric.add_node(spec).unwrap();
            for pod in [5, 6] {
                fabric
                    .add_pod(&format!("n{n}"), pods.ip + pod, pod)
                    .unwrap();
            }
        }
        World {
            fabric,
            programmers: Programmers::new(2).unwrap(),
            rules,
        }
    }

    /// Programs a Service on both nodes, side by side.
    fn program(&mut self, port: &ServicePort) {
        let mut waiting = 0;
        for (token, (name, rules)) in (0..).zip(&mut self.rules) {
            rules.put(port.clone());
            if let Some(batch) = rules.sync() {
                let filter = self.fabric.node(name).unwrap().filter().as_fd();
                self.programmers.submit(token, filter, &batch).unwrap();
                waiting += 1;
            }
        }
        let poll = Poll::new().unwrap();
        for fd in self.programmers.fds() {
            poll.add(&fd, false, 0).unwrap();
        }
        while waiting > 0 {
            let mut ready = Vec::new();
            poll.wait(Some(Duration::from_secs(10)), &mut ready)
                .unwrap();
            assert!(!ready.is_empty(), "a transaction takes too long");
            while let Some(done) = self.programmers.hear().unwrap() {
                assert_eq!(done.failed, None);
                waiting -= 1;
            }
        }
    }

    fn netns(&self, place: &str) -> BorrowedFd<'_> {
        match place.split_once('.') {
            None => self.fabric.node(place).unwrap().netns(),
            Some(_) => {
                let address = ip(place);
                let node = format!("n{}", address >> 16 & 0xff);
                self.fabric.node(&node).unwrap().pod(address).unwrap()
            }
        }
    }

    fn listen(&self, pod: &str) -> OwnedFd {
        let socket = sys::socket_in(self.netns(pod), libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        sys::bind(&socket, ip(pod), 8080).unwrap();
        sys::listen(&socket, 512).unwrap();
        socket
    }

    /// Connects and says how that ended.
    fn connect(&self, from: &str, to: u32, port: u16, limit: Duration) -> &'static str {
        let socket = sys::socket_in(self.netns(from), libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        let (poll, mut ready) = (Poll::new().unwrap(), Vec::new());
        if let Err(error) = sys::connect(&socket, to, port) {
            return error_name(error.raw_os_error());
        }
        poll.add(&socket, true, 0).unwrap();
        poll.wait(Some(limit), &mut ready).unwrap();
        if ready.is_empty() {
            return "timeout";
        }
        let error = sys::get_option(&socket, libc::SOL_SOCKET, libc::SO_ERROR).unwrap();
        error_name(Some(error))
    }
}

fn error_name(error: Option<i32>) -> &'static str {
    match error {
        Some(0) => "connected",
        Some(libc::ECONNREFUSED) => "refused",
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => "unreachable",
        _ => "another error",
    }
}

/// How many connections each listener has, when all together have so many: the last packet of a
/// handshake may still be on its way when the client is done.
fn shares(listeners: &[OwnedFd; 4], expected: u32) -> [u32; 4] {
    let mut counts = [0; 4];
    for _ in 0..200 {
        for (count, listener) in counts.iter_mut().zip(listeners) {
            while sys::accept(listener).is_ok() {
                *count += 1;
            }
        }
        if counts.iter().sum::<u32>() >= expected {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    counts
}

const LIMIT: Duration = Duration::from_secs(2);

#[test]
fn connections_are_spread_over_endpoints_refused_without_and_reach_node_ports() {
    let Some(_root) = testing::root("connections_are_spread") else {
        return;
    };
    testing::in_scratch(|| {
        let mut world = World::new();
        let pods = ["10.2.0.5", "10.2.0.6", "10.3.0.5", "10.3.0.6"];
        let listeners = pods.map(|pod| world.listen(pod));
        let endpoints = pods.map(|pod| format!("{pod}:8080")).join(" ");
        let mut port = service("web", &endpoints);
        port.node_port = 30_080;
        world.program(&port);
        // From a pod (one of the endpoints itself: hairpin) and from a node, each in turn.
        for from in ["10.2.0.5", "n2"] {
            for _ in 0..40 {
                assert_eq!(world.connect(from, VIP, 80, LIMIT), "connected", "{from}");
            }
            // 40 over 4; the counter of the node goes on where it was
            assert_eq!(shares(&listeners, 40), [10; 4], "{from}");
        }
        for node in ["10.9.0.2", "10.9.0.3"] {
            assert_eq!(
                world.connect("n3", ip(node), 30_080, LIMIT),
                "connected",
                "{node}"
            );
        }
        assert_eq!(
            world.connect("10.3.0.5", VIP, 81, LIMIT),
            "refused",
            "no such port"
        );
        world.program(&service("web", ""));
        assert_eq!(
            world.connect("10.3.0.5", VIP, 80, LIMIT),
            "refused",
            "no endpoints"
        );
        assert_eq!(
            world.connect("n2", VIP, 80, LIMIT),
            "refused",
            "no endpoints"
        );
        let mut elsewhere = service("web", "");
        (elsewhere.internal_local, elsewhere.any) = (true, true);
        world.program(&elsewhere);
        let short = Duration::from_millis(200);
        assert_eq!(
            world.connect("10.2.0.5", VIP, 80, short),
            "timeout",
            "none here"
        );
    });
}

#[test]
fn a_client_stays_with_its_endpoint() {
    let Some(_root) = testing::root("a_client_stays") else {
        return;
    };
    testing::in_scratch(|| {
        let mut world = World::new();
        let pods = ["10.2.0.5", "10.2.0.6", "10.3.0.5", "10.3.0.6"];
        let listeners = pods.map(|pod| world.listen(pod));
        let endpoints = pods.map(|pod| format!("{pod}:8080")).join(" ");
        let mut port = service("web", &endpoints);
        port.affinity_s = Some(600);
        world.program(&port);
        for from in ["10.2.0.6", "10.3.0.6", "n2"] {
            for _ in 0..10 {
                assert_eq!(world.connect(from, VIP, 80, LIMIT), "connected");
            }
            let mut shares = shares(&listeners, 10);
            shares.sort_unstable();
            assert_eq!(shares, [0, 0, 0, 10], "{from}");
        }
    });
}

#[test]
fn shared_names_are_all_different() {
    let mut names = Shared::ALL.map(Shared::name).to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Shared::ALL.len());
}
