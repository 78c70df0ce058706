//! Users' requests through a Service to listeners in pods.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::libc;

use super::*;
use crate::api::Text;
use crate::backend::linux::net::conntrack::{self, Line};
use crate::backend::linux::net::fabric::{Fabric, NodeSpec};
use crate::backend::linux::net::nft::layout::{Backend, NodeRules, ServicePort};
use crate::backend::linux::net::nft::ruleset::Ruleset;
use crate::backend::linux::net::sys::{self, Poll};
use crate::backend::linux::net::testing;
use crate::load::model::{Client, Executor};
use crate::net::topology::Latencies;

const VIP: u32 = 0x0a60_0001;
const USERS: Cidr = Cidr {
    ip: 0x0afa_0000,
    bits: 16,
};

/// The edge with users behind it, and node n2 with two pods.
struct World {
    fabric: Fabric,
    client: OwnedFd,
    rules: Ruleset,
}

const PODS: [u32; 2] = [0x0a02_0005, 0x0a02_0006];

fn world() -> World {
    let latencies = Latencies {
        other_zone: Duration::from_millis(1),
        jitter_permille: 0,
        ..Latencies::default()
    };
    let mut fabric = Fabric::new(7, &latencies).unwrap();
    for (place, name, pods) in [
        (1, "edge", USERS),
        (
            2,
            "n2",
            Cidr {
                ip: 0x0a02_0000,
                bits: 16,
            },
        ),
    ] {
        let spec = NodeSpec {
            name: name.to_owned(),
            place,
            zone: name.to_owned(),
            ip: 0x0a09_0000 + place,
            pods,
        };
        fabric.add_node(spec).unwrap();
    }
    for ip in PODS {
        fabric.add_pod("n2", ip, ip & 0xff).unwrap();
    }
    let client = fabric.add_client("edge", USERS).unwrap();
    let rules = Ruleset::new(NodeRules {
        ip: 0x0a09_0001,
        own: vec![USERS],
        pods: None,
        in_turn: true,
    });
    World {
        fabric,
        client,
        rules,
    }
}

impl World {
    fn service(&mut self, endpoints: &[u32]) {
        let cluster: Vec<_> = endpoints
            .iter()
            .map(|ip| Backend { ip: *ip, port: 80 })
            .collect();
        self.rules.put(ServicePort {
            name: "default/web/tcp/".to_owned(),
            protocol: 6,
            cluster_ip: VIP,
            port: 80,
            any: !cluster.is_empty(),
            cluster,
            ..ServicePort::default()
        });
        let edge = self.fabric.node("edge").unwrap();
        let batch = self.rules.sync().unwrap();
        edge.filter().request_bytes(&batch).unwrap();
    }

    /// A server in a pod: one thread for each connection, `answer` for each request.
    fn serve(&self, pod: u32, answer: &'static str) {
        let netns = self.fabric.node("n2").unwrap().pod(pod).unwrap();
        let socket = sys::socket_in(netns, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        sys::bind(&socket, pod, 80).unwrap();
        sys::listen(&socket, 100).unwrap();
        let listener = TcpListener::from(socket);
        listener.set_nonblocking(false).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while stream.read(&mut buffer).is_ok_and(|n| n > 0) {
                        if answer.is_empty() || stream.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
    }

    /// Sends `count` requests, 10 ms apart, and returns what became of them.
    fn send(&self, count: u64, client: Client, to: Vec<(u32, u16)>) -> Vec<Told> {
        let users = Users::new().unwrap();
        let zero = sys::monotonic_ns();
        let plan = Plan {
            number: 3,
            traffic: Traffic {
                name: Text::from("shoppers"),
                executor: Executor::ConstantArrivalRate {
                    rate: 100,
                    time_unit: Duration::from_secs(1),
                    duration: Duration::from_millis(10 * count),
                },
                client,
                ..Traffic::default()
            },
            seed: 1,
            epoch_ns: 50_000_000,
            zero_ns: zero,
            users: Some(USERS),
            host: "web".to_owned(),
            to,
        };
        let edge = self.fabric.node("edge").unwrap();
        users.begin(plan, self.client.as_fd(), edge).unwrap();
        let (poll, mut ready) = (Poll::new().unwrap(), Vec::new());
        poll.add(&users.fd(), false, 0).unwrap();
        let (mut told, mut ended) = (Vec::new(), 0);
        while ended < count {
            poll.wait(Some(Duration::from_secs(10)), &mut ready)
                .unwrap();
            assert!(!ready.is_empty(), "{told:?}");
            let more = users.hear().unwrap().unwrap();
            ended += more
                .iter()
                .filter(|t| matches!(t, Told::Ended { .. }))
                .count() as u64;
            told.extend(more);
        }
        told
    }
}

/// How many ended with each cause at each endpoint: `20 ok 10.2.0.5`.
fn summary(told: &[Told]) -> String {
    let mut counts = std::collections::BTreeMap::new();
    for one in told {
        if let Told::Ended {
            cause, endpoint, ..
        } = one
        {
            let cause = cause.map_or("ok", Cause::name);
            let endpoint = std::net::Ipv4Addr::from(*endpoint);
            *counts.entry(format!("{cause} {endpoint}")).or_insert(0) += 1;
        }
    }
    let counts: Vec<_> = counts
        .iter()
        .map(|(what, n)| format!("{n} {what}"))
        .collect();
    counts.join(", ")
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn requests_are_sent_when_they_are_due_and_spread_by_connection() {
    let Some(_root) = testing::root("requests_are_sent_when_due") else {
        return;
    };
    testing::in_scratch(|| {
        let mut world = world();
        world.service(&PODS);
        PODS.iter().for_each(|pod| world.serve(*pod, OK));
        let client = Client {
            connections: 4,
            ..Client::default()
        };
        let told = world.send(40, client, vec![(VIP, 80)]);
        // Four connections, two to each endpoint, used in turn; where an answer is late, its turn goes
        // to another one.
        let summary = summary(&told);
        let even = (17..=23).map(|n| format!("{n} ok 10.2.0.5, {} ok 10.2.0.6", 40 - n));
        assert!(even.into_iter().any(|even| even == summary), "{summary}");
        let mut due = 50_000_000;
        for one in &told {
            match one {
                Told::Sent { traffic, at } => {
                    assert_eq!((*traffic, *at), (3, due));
                    due += 10_000_000;
                }
                Told::Ended { sent, at, .. } => {
                    let latency = at - sent;
                    // 1 ms each way; how much more is the host's business.
                    assert!(latency >= 2_000_000, "{one:?}");
                }
            }
        }
        assert_eq!(due, 450_000_000);
    });
}

#[test]
fn what_goes_wrong_has_its_cause_and_endpoint() {
    let Some(_root) = testing::root("what_goes_wrong") else {
        return;
    };
    testing::in_scratch(|| {
        let mut world = world();
        let one = |timeout_ms| Client {
            keep_alive: false,
            timeout: Duration::from_millis(timeout_ms),
            ..Client::default()
        };
        world.service(&[]);
        let vip = || vec![(VIP, 80)];
        assert_eq!(
            summary(&world.send(3, one(900), vip())),
            "3 no endpoints 0.0.0.0"
        );
        assert_eq!(summary(&world.send(2, one(900), vec![])), "2 dns 0.0.0.0");
        // Nobody listens; then a pod that answers 503, and one that hangs up.
        world.service(&PODS[..1]);
        assert_eq!(
            summary(&world.send(3, one(900), vip())),
            "3 refused 10.2.0.5"
        );
        world.serve(PODS[0], "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(summary(&world.send(3, one(900), vip())), "3 503 10.2.0.5");
        world.serve(PODS[1], "");
        world.service(&PODS[1..]);
        assert_eq!(summary(&world.send(3, one(900), vip())), "3 reset 10.2.0.6");
        // The rules still name an endpoint that is gone.
        world.fabric.wire().carrier(2, false).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let told = world.send(3, one(200), vip());
        assert_eq!(summary(&told), "3 timeout 10.2.0.6");
        for one in &told {
            if let Told::Ended { sent, at, .. } = one {
                assert!((200_000_000..400_000_000).contains(&(at - sent)), "{one:?}");
            }
        }
        // Two attempts for each.
        let retrying = Client {
            retries: 1,
            backoff: Duration::from_millis(10),
            ..one(100)
        };
        let told = world.send(2, retrying, vip());
        let attempts = told.iter().filter_map(|t| match t {
            Told::Ended { attempts, .. } => Some(*attempts),
            Told::Sent { .. } => None,
        });
        assert_eq!(attempts.collect::<Vec<_>>(), [2, 2]);
    });
}

#[test]
fn what_the_application_answers_is_final_and_what_turns_it_away_is_not() {
    let Some(_root) = testing::root("what_the_application_answers") else {
        return;
    };
    testing::in_scratch(|| {
        let mut world = world();
        world.serve(PODS[0], "HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n");
        world.serve(PODS[1], "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
        for (pod, expected) in [(&PODS[..1], 1), (&PODS[1..], 2)] {
            world.service(pod);
            let client = Client {
                keep_alive: false,
                timeout: Duration::from_millis(900),
                retries: 1,
                backoff: Duration::from_millis(10),
                ..Client::default()
            };
            let told = world.send(2, client, vec![(VIP, 80)]);
            let attempts = told.iter().filter_map(|t| match t {
                Told::Ended { attempts, .. } => Some(*attempts),
                Told::Sent { .. } => None,
            });
            assert_eq!(attempts.collect::<Vec<_>>(), [expected; 2]);
        }
    });
}

#[test]
fn a_late_look_still_finds_who_refused() {
    let Some(_root) = testing::root("a_late_look") else {
        return;
    };
    testing::in_scratch(|| {
        let mut world = world();
        let edge = |world: &World| {
            let edge = world.fabric.node("edge").unwrap();
            sys::within(edge.netns(), Choices::here).unwrap()
        };
        // Nobody listens at the endpoint; then there is none. The look comes long after the answer.
        for (endpoints, expected) in [(&PODS[..1], (PODS[0], false)), (&[], (0, true))] {
            world.service(endpoints);
            let mut choices = edge(&world);
            let (domain, kind) = (libc::AF_INET, libc::SOCK_STREAM);
            let socket = sys::socket_in(world.client.as_fd(), domain, kind, 0).unwrap();
            sys::keep_notices(&socket, true).unwrap();
            sys::bind(&socket, USERS.ip + 2, 0).unwrap();
            sys::connect(&socket, VIP, 80).unwrap();
            let from = sys::local_address(&socket).unwrap();
            std::thread::sleep(Duration::from_millis(100));
            let error = sys::get_option(&socket, libc::SOL_SOCKET, libc::SO_ERROR).unwrap();
            assert_eq!(error, libc::ECONNREFUSED);
            let line = Line {
                from,
                to: (VIP, 80),
            };
            let chosen = choices.of(line).map_or(0, |endpoint| endpoint.0);
            assert_eq!((chosen, sys::rejected(&socket)), expected);
            let filter = world.fabric.node("edge").unwrap().filter();
            assert_eq!(
                conntrack::endpoint(filter, line),
                None,
                "the node has forgotten"
            );
        }
    });
}
