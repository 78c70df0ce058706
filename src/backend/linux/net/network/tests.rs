//! A cluster's network from commands alone: users, Services by name, trouble and its end.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::libc;

use super::*;
use crate::api::Text;
use crate::backend::linux::net::dns::DNS_ADDRESS;
use crate::backend::linux::net::nft::layout::Backend;
use crate::backend::linux::net::sys::{self, Poll};
use crate::backend::linux::net::testing;
use crate::backend::linux::net::wire::{Effect, Rule};
use crate::load::Traffic;
use crate::load::model::{Client, Executor};
use crate::load::tally::Cause;
use crate::net::link::{self, Members};

const VIP: u32 = 0x0a60_0001;
const USERS: Cidr = Cidr {
    ip: 0x0afa_0000,
    bits: 16,
};

fn spec(name: &str, place: u32, pods: Cidr) -> (NodeSpec, NodeRules) {
    let ip = 0xac10_0000 + place;
    let spec = NodeSpec {
        name: name.to_owned(),
        place,
        zone: "z".to_owned(),
        ip,
        pods,
    };
    let cluster = Cidr {
        ip: 0x0a00_0000,
        bits: 11,
    };
    let rules = NodeRules {
        ip,
        own: vec![cluster, USERS],
        pods: Some(pods),
        in_turn: true,
    };
    (spec, rules)
}

fn pods_of(place: u32) -> Cidr {
    Cidr {
        ip: 0x0a00_0000 + (place << 9),
        bits: 23,
    }
}

/// The edge and two nodes, 100 µs apart.
fn network() -> Network {
    let latencies = Latencies {
        same_zone: Duration::from_micros(100),
        ..Latencies::default()
    };
    let mut network = Network::new(1, &latencies).unwrap();
    let (edge, rules) = spec(EDGE, 1, USERS);
    network.obey(Command::Edge(edge, rules, USERS));
    for place in [2, 3] {
        let (node, rules) = spec(&format!("n{place}"), place, pods_of(place));
        network.obey(Command::Node(node, rules));
    }
    network
}

fn service(node: &str, endpoints: &[u32]) -> Command {
    let cluster: Vec<_> = endpoints
        .iter()
        .map(|ip| Backend { ip: *ip, port: 80 })
        .collect();
    let port = ServicePort {
        name: "shop/web/tcp/".to_owned(),
        protocol: 6,
        cluster_ip: VIP,
        port: 80,
        any: !cluster.is_empty(),
        cluster,
        ..ServicePort::default()
    };
    Command::Services {
        node: node.to_owned(),
        put: vec![port],
        gone: Vec::new(),
    }
}

/// Hears until `enough` says so, for at most ten seconds.
fn hear(network: &mut Network, mut enough: impl FnMut(&Report) -> bool) {
    let end = sys::monotonic_ns() + 10_000_000_000;
    loop {
        for (_, report) in network.hear().unwrap() {
            if let Report::Problem(text) = &report {
                panic!("{text}");
            }
            if enough(&report) {
                return;
            }
        }
        assert!(sys::monotonic_ns() < end, "nothing more is heard");
        let (poll, mut ready) = (Poll::new().unwrap(), Vec::new());
        for fd in network.fds() {
            poll.add(&fd, false, 0).unwrap();
        }
        poll.wait(Some(Duration::from_secs(1)), &mut ready).unwrap();
    }
}

fn programmed(network: &mut Network, command: Command) {
    network.obey(command);
    hear(network, |report| {
        matches!(report, Report::Programmed { .. })
    });
}

/// Asks for an A record from a namespace.
fn look_up(netns: BorrowedFd<'_>, name: &str) -> Option<Vec<u8>> {
    let socket = sys::socket_in(netns, libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
    let mut question = vec![0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(label.len() as u8);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 1, 0, 1]);
    sys::send_to(&socket, &question, DNS_ADDRESS, 53).unwrap();
    let (poll, mut ready) = (Poll::new().unwrap(), Vec::new());
    poll.add(&socket, false, 0).unwrap();
    poll.wait(Some(Duration::from_secs(2)), &mut ready).unwrap();
    let mut buffer = [0; 512];
    let (length, from, port) = sys::receive_from(&socket, &mut buffer).ok()?;
    assert_eq!(
        (from, port),
        (DNS_ADDRESS, 53),
        "answered from where it was asked"
    );
    Some(buffer[length - 4..length].to_vec())
}

#[test]
fn pods_resolve_names_of_services() {
    let Some(_root) = testing::root("pods_resolve_names") else {
        return;
    };
    testing::in_scratch(|| {
        let mut network = network();
        let ip = pods_of(2).ip + 5;
        let pod = network.add_pod("n2", ip, 5).unwrap();
        let entry = Entry {
            addresses: vec![VIP],
            ..Entry::default()
        };
        network.obey(Command::Name(
            "shop".to_owned(),
            "web".to_owned(),
            Some(entry),
        ));
        let node = network.node("n2").unwrap();
        for netns in [pod.as_fd(), node.as_fd()] {
            let answer = look_up(netns, "web.shop.svc.cluster.local");
            assert_eq!(answer, Some(VIP.to_be_bytes().to_vec()));
        }
        assert!(network.hear().unwrap().is_empty(), "nothing went wrong");
    });
}

/// A Traffic of one connection for each request, 50 in a second.
fn traffic(number: u32, requests: u64) -> Command {
    let plan = Plan {
        number,
        traffic: Traffic {
            name: Text::from("shoppers"),
            executor: Executor::ConstantArrivalRate {
                rate: 50,
                time_unit: Duration::from_secs(1),
                duration: Duration::from_millis(20 * requests),
            },
            client: Client {
                keep_alive: false,
                timeout: Duration::from_millis(300),
                ..Client::default()
            },
            ..Traffic::default()
        },
        seed: 1,
        epoch_ns: 0,
        zero_ns: sys::monotonic_ns(),
        users: Some(USERS),
        host: "web".to_owned(),
        to: vec![(VIP, 80)],
    };
    Command::Traffic(Box::new(plan), None)
}

/// Sends so many requests to the Service; how many had which cause.
fn send(network: &mut Network, number: u32, requests: u64) -> String {
    network.obey(traffic(number, requests));
    let (mut counts, mut ended) = (std::collections::BTreeMap::new(), 0);
    hear(network, |report| {
        if let Report::Told(told) = report {
            for one in told {
                if let Told::Ended { cause, traffic, .. } = one {
                    assert_eq!(*traffic, number);
                    *counts
                        .entry(cause.map_or("ok", Cause::name))
                        .or_insert(0u32) += 1;
                    ended += 1;
                }
            }
        }
        ended == requests
    });
    let counts: Vec<_> = counts
        .iter()
        .map(|(cause, n)| format!("{n} {cause}"))
        .collect();
    counts.join(", ")
}

#[test]
fn trouble_begins_and_ends_and_survives_the_nodes_reboot() {
    let Some(_root) = testing::root("trouble_begins_and_ends") else {
        return;
    };
    testing::in_scratch(|| {
        let mut network = network();
        let ip = pods_of(2).ip + 5;
        let pod = network.add_pod("n2", ip, 5).unwrap();
        // Nobody answers HTTP here: connections are accepted by the kernel and never read, so that
        // a request that arrives times out, and one that is cut off does as well; a closed port
        // refuses.
        programmed(&mut network, service(EDGE, &[ip]));
        assert_eq!(send(&mut network, 0, 3), "3 refused");
        let cut = Trouble::Wire(Rule {
            from: Members::everything(),
            to: Members::pods([5]),
            effect: Effect::Link(link::Effect::Cut),
        });
        network.obey(Command::Trouble(7, cut));
        assert_eq!(send(&mut network, 1, 3), "3 timeout");
        network.obey(Command::Calm(7));
        assert_eq!(send(&mut network, 2, 3), "3 refused");
        network.obey(Command::Trouble(
            8,
            Trouble::Cable {
                node: "n2".to_owned(),
            },
        ));
        assert_eq!(send(&mut network, 3, 3), "3 timeout");
        network.obey(Command::Calm(8));
        network.obey(Command::Calm(99));
        assert_eq!(send(&mut network, 4, 3), "3 refused");
        // A pod that is gone while the rules still name it: refused by its node.
        drop(pod);
        network.remove_pod("n2", ip).unwrap();
        assert_eq!(send(&mut network, 5, 2), "2 refused");
        network.obey(Command::NodeGone("n2".to_owned()));
        assert_eq!(send(&mut network, 6, 2), "2 timeout");
        let (node, rules) = spec("n2", 2, pods_of(2));
        network.obey(Command::Node(node, rules));
        let _pod = network.add_pod("n2", ip, 6).unwrap();
        assert_eq!(send(&mut network, 7, 2), "2 refused");
    });
}

/// Two pods of one node, 5 and 6, with their namespaces.
fn neighbours(network: &mut Network) -> [(u32, OwnedFd); 2] {
    [5, 6].map(|n| {
        let ip = pods_of(2).ip + n;
        (ip, network.add_pod("n2", ip, n).unwrap())
    })
}

/// Begins a trouble with packets that one pod of n2 sends: on the wire, and on the way there.
fn begin(network: &mut Network, number: u32, from: u32, effect: Effect) {
    let rule = Rule {
        from: Members::pods([from]),
        to: Members::everything(),
        effect,
    };
    network.obey(Command::Trouble(number, Trouble::Wire(rule)));
    let within = Trouble::Within {
        node: "n2".to_owned(),
        pairs: vec![(Some(pods_of(2).ip + from), None)],
    };
    network.obey(Command::Trouble(number + 1, within));
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(format!("{:?}", network.hear().unwrap()), "[]", "no problem");
}

fn end(network: &mut Network, number: u32) {
    network.obey(Command::Calm(number));
    network.obey(Command::Calm(number + 1));
    std::thread::sleep(Duration::from_millis(50));
}

#[test]
fn losses_between_pods_of_one_node_are_the_wires() {
    let Some(_root) = testing::root("losses_between_pods") else {
        return;
    };
    testing::in_scratch(|| {
        let mut network = network();
        let pods = neighbours(&mut network);
        let [a, b] = pods.map(|(ip, netns)| {
            let (domain, kind) = (libc::AF_INET, libc::SOCK_DGRAM);
            let socket = sys::socket_in(netns.as_fd(), domain, kind, 0).unwrap();
            sys::bind(&socket, ip, 9_000).unwrap();
            (ip, socket)
        });
        let arrive = |count: u32| {
            for _ in 0..count {
                sys::send_to(&a.1, b"x", b.0, 9_000).unwrap();
            }
            std::thread::sleep(Duration::from_millis(100));
            let mut buffer = [0; 8];
            let heard = || Some(sys::receive_from(&b.1, &mut buffer).ok()?.1);
            let from: Vec<_> = std::iter::from_fn(heard).collect();
            assert!(from.iter().all(|from| *from == a.0));
            from.len()
        };
        assert_eq!(arrive(100), 100);
        begin(&mut network, 0, 5, Effect::Link(link::Effect::Cut));
        assert_eq!(arrive(20), 0);
        end(&mut network, 0);
        let per_million = 500_000;
        begin(
            &mut network,
            2,
            5,
            Effect::Link(link::Effect::Loss { per_million }),
        );
        // binomial(200, 1/2): mean 100, standard deviation 7
        let half = arrive(200);
        assert!((60..140).contains(&half), "{half}");
        end(&mut network, 2);
        begin(
            &mut network,
            4,
            5,
            Effect::Duplicate {
                per_million: 1_000_000,
            },
        );
        assert_eq!(arrive(10), 20);
        end(&mut network, 4);
        begin(&mut network, 6, 6, Effect::Link(link::Effect::Cut));
        assert_eq!(arrive(50), 50, "the other direction is cut");
    });
}

/// Connects to an address; how long that took, if it went well.
fn connect(netns: BorrowedFd<'_>, ip: u32) -> Option<Duration> {
    let start = sys::monotonic_ns();
    let socket = sys::socket_in(netns, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    let _ = sys::connect(&socket, ip, 80).unwrap();
    let (poll, mut ready) = (Poll::new().unwrap(), Vec::new());
    poll.add(&socket, true, 0).unwrap();
    poll.wait(Some(Duration::from_millis(900)), &mut ready)
        .unwrap();
    let error = sys::get_option(&socket, libc::SOL_SOCKET, libc::SO_ERROR).unwrap();
    (!ready.is_empty() && error == 0).then(|| Duration::from_nanos(sys::monotonic_ns() - start))
}

/// The fastest of four connections in milliseconds, rounded down to 100; none when any fails.
fn fastest(netns: BorrowedFd<'_>, ip: u32) -> Option<u128> {
    let times: Option<Vec<_>> = (0..4).map(|_| connect(netns, ip)).collect();
    Some(times?.into_iter().min()?.as_millis() / 100 * 100)
}

#[test]
fn delay_between_pods_of_one_node_is_felt_directly_and_through_a_service() {
    let Some(_root) = testing::root("delay_between_pods") else {
        return;
    };
    testing::in_scratch(|| {
        let mut network = network();
        let [a, b] = neighbours(&mut network);
        let _listening = [&a, &b].map(|(ip, netns)| {
            let (domain, kind) = (libc::AF_INET, libc::SOCK_STREAM);
            let socket = sys::socket_in(netns.as_fd(), domain, kind, 0).unwrap();
            sys::bind(&socket, *ip, 80).unwrap();
            sys::listen(&socket, 64).unwrap();
            socket
        });
        programmed(&mut network, service("n2", &[b.0]));
        let late = Effect::Link(link::Effect::Delay {
            by: Duration::from_millis(100),
            jitter: Duration::ZERO,
            early_per_million: 0,
        });
        let ways = |network: &mut Network| {
            assert!(network.hear().unwrap().is_empty());
            [b.0, VIP].map(|ip| fastest(a.1.as_fd(), ip))
        };
        assert_eq!(ways(&mut network), [Some(0); 2]);
        begin(&mut network, 0, 5, late);
        assert_eq!(ways(&mut network), [Some(100); 2], "the question is late");
        begin(&mut network, 2, 6, late);
        assert_eq!(ways(&mut network), [Some(200); 2], "the answer as well");
        end(&mut network, 0);
        assert_eq!(ways(&mut network), [Some(100); 2], "the answer is late");
        begin(&mut network, 4, 6, Effect::Link(link::Effect::Cut));
        assert_eq!(ways(&mut network), [None; 2], "no answers");
        end(&mut network, 4);
        // A pod that reaches itself through its Service has no link between it and itself.
        programmed(&mut network, service("n2", &[a.0]));
        begin(&mut network, 6, 5, late);
        assert_eq!(ways(&mut network), [Some(200), Some(0)]);
        // The pod's successor at its address is another pod; who comes later may be meant, too.
        let anybody = Trouble::Within {
            node: "n2".to_owned(),
            pairs: vec![(None, Some(b.0))],
        };
        network.obey(Command::Trouble(8, anybody));
        network.remove_pod("n2", a.0).unwrap();
        let again = network.add_pod("n2", a.0, 7).unwrap();
        assert_eq!(fastest(again.as_fd(), b.0), Some(100));
        end(&mut network, 2);
        end(&mut network, 6);
        network.obey(Command::Calm(8));
        assert!(network.hear().unwrap().is_empty());
        assert_eq!(fastest(again.as_fd(), b.0), Some(0));
    });
}
