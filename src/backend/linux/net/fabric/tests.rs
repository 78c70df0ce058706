//! Packets between real namespaces, over the wire and within a node.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::libc;

use super::*;
use crate::backend::linux::net::sys::Poll;
use crate::backend::linux::net::testing;
use crate::backend::linux::net::wire::{Effect, Rule};
use crate::net::link::{self, Members};
use crate::net::topology::Place;

const SECOND: Duration = Duration::from_secs(1);

/// Node `n` is place `n`, 10.9.0.n, with pods 10.n.0.0/16; zones are 2 ms apart without jitter.
fn fabric(nodes: u32) -> Fabric {
    let latencies = Latencies {
        other_zone: Duration::from_millis(2),
        jitter_permille: 0,
        ..Latencies::default()
    };
    let mut fabric = Fabric::new(7, &latencies).unwrap();
    for n in 2..2 + nodes {
        fabric.add_node(node(n)).unwrap();
    }
    fabric
}

fn node(n: u32) -> NodeSpec {
    NodeSpec {
        name: format!("n{n}"),
        place: n,
        zone: format!("z{n}"),
        ip: 0x0a09_0000 + n,
        pods: Cidr {
            ip: 0x0a00_0000 + (n << 16),
            bits: 16,
        },
    }
}

fn pod(node: u32, n: u32) -> u32 {
    0x0a00_0000 + (node << 16) + n
}

fn udp(netns: BorrowedFd<'_>, ip: u32) -> OwnedFd {
    let socket = sys::socket_in(netns, libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
    sys::bind(&socket, ip, 9_000).unwrap();
    socket
}

/// Waits for a datagram and says from whom it is.
fn heard(socket: &OwnedFd, limit: Duration) -> Option<u32> {
    let (poll, mut ready) = (Poll::new().unwrap(), Vec::new());
    poll.add(socket, false, 0).unwrap();
    poll.wait(Some(limit), &mut ready).unwrap();
    let mut buffer = [0; 64];
    sys::receive_from(socket, &mut buffer).ok().map(|got| got.1)
}

/// The time of a datagram there and one back, if both arrive.
fn round_trip(a: (&OwnedFd, u32), b: (&OwnedFd, u32), limit: Duration) -> Option<Duration> {
    let start = sys::monotonic_ns();
    sys::send_to(a.0, b"ping", b.1, 9_000).unwrap();
    let from = heard(b.0, limit)?;
    sys::send_to(b.0, b"pong", from, 9_000).unwrap();
    heard(a.0, limit)?;
    Some(Duration::from_nanos(sys::monotonic_ns() - start))
}

#[test]
fn pods_reach_each_other_on_one_node_and_across_the_wire() {
    let Some(_root) = testing::root("pods_reach_each_other") else {
        return;
    };
    testing::in_scratch(|| {
        let mut fabric = fabric(2);
        let (a, b, c) = (pod(2, 5), pod(2, 6), pod(3, 5));
        for (node, ip) in [("n2", a), ("n2", b), ("n3", c)] {
            fabric.add_pod(node, ip, ip & 0xff).unwrap();
        }
        let socket = |node: &str, ip| udp(fabric.node(node).unwrap().pod(ip).unwrap(), ip);
        let (sa, sb, sc) = (socket("n2", a), socket("n2", b), socket("n3", c));
        let near = round_trip((&sa, a), (&sb, b), SECOND).expect("on one node");
        let far = round_trip((&sa, a), (&sc, c), SECOND).expect("across the wire");
        assert!(near < Duration::from_millis(100), "{near:?}");
        // 2 ms each way, and never less.
        assert!(far >= Duration::from_millis(4), "{far:?}");
        assert!(far < Duration::from_millis(200), "{far:?}");
        // The node itself reaches pods of others, and its own.
        let host = udp(fabric.node("n2").unwrap().netns(), node(2).ip);
        for (socket, ip) in [(&sa, a), (&sc, c)] {
            round_trip((&host, node(2).ip), (socket, ip), SECOND).expect("from the node");
        }
    });
}

#[test]
fn a_one_way_cut_and_a_pulled_cable_stop_packets_until_they_end() {
    let Some(_root) = testing::root("a_one_way_cut") else {
        return;
    };
    testing::in_scratch(|| {
        let mut fabric = fabric(2);
        let (a, c) = (pod(2, 5), pod(3, 5));
        fabric.add_pod("n2", a, 1).unwrap();
        fabric.add_pod("n3", c, 2).unwrap();
        let socket = |node: &str, ip| udp(fabric.node(node).unwrap().pod(ip).unwrap(), ip);
        let (sa, sc) = (socket("n2", a), socket("n3", c));
        let short = Duration::from_millis(150);
        round_trip((&sa, a), (&sc, c), SECOND).expect("before");
        let id = fabric.wire().reserve();
        let cut = Rule {
            from: Members::places([Place(3)]),
            to: Members::places([Place(2)]),
            effect: Effect::Link(link::Effect::Cut),
        };
        fabric.wire().add(id, cut).unwrap();
        sys::send_to(&sa, b"ping", c, 9_000).unwrap();
        assert_eq!(heard(&sc, SECOND), Some(a), "this way is open");
        sys::send_to(&sc, b"pong", a, 9_000).unwrap();
        assert_eq!(heard(&sa, short), None, "the way back is cut");
        fabric.wire().remove(id).unwrap();
        round_trip((&sa, a), (&sc, c), SECOND).expect("after the cut");
        fabric.wire().carrier(2, false).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(round_trip((&sa, a), (&sc, c), short), None, "unplugged");
        fabric.wire().carrier(2, true).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        round_trip((&sa, a), (&sc, c), SECOND).expect("plugged in again");
        fabric.wire().ask().unwrap();
        let (poll, mut ready) = (Poll::new().unwrap(), Vec::new());
        poll.add(&fabric.wire().fd(), false, 0).unwrap();
        poll.wait(Some(SECOND), &mut ready).unwrap();
        let census = fabric.wire().hear().unwrap().expect("an answer");
        assert_eq!(census.lost, 1, "{census:?}");
        assert!(census.passed >= 7, "{census:?}");
    });
}

#[test]
fn an_address_is_given_again_at_once_and_a_node_comes_back() {
    let Some(_root) = testing::root("an_address_is_given_again") else {
        return;
    };
    testing::in_scratch(|| {
        let mut fabric = fabric(2);
        let (a, c) = (pod(2, 5), pod(3, 5));
        fabric.add_pod("n3", c, 2).unwrap();
        let sc = udp(fabric.node("n3").unwrap().pod(c).unwrap(), c);
        for turn in 0..20 {
            fabric.add_pod("n2", a, turn).unwrap();
            let sa = udp(fabric.node("n2").unwrap().pod(a).unwrap(), a);
            round_trip((&sa, a), (&sc, c), SECOND).expect("a new pod at an old address");
            fabric.remove_pod("n2", a).unwrap();
        }
        fabric.remove_node("n2").unwrap();
        fabric.add_node(node(2)).unwrap();
        fabric.add_pod("n2", a, 99).unwrap();
        let sa = udp(fabric.node("n2").unwrap().pod(a).unwrap(), a);
        round_trip((&sa, a), (&sc, c), SECOND).expect("after a reboot");
    });
}

#[test]
fn a_client_has_every_address_of_its_network() {
    let Some(_root) = testing::root("a_client_has_every_address") else {
        return;
    };
    testing::in_scratch(|| {
        let mut fabric = fabric(2);
        let c = pod(3, 5);
        fabric.add_pod("n3", c, 2).unwrap();
        let sc = udp(fabric.node("n3").unwrap().pod(c).unwrap(), c);
        let users = Cidr {
            ip: pod(2, 0x8000),
            bits: 17,
        };
        let client = fabric.add_client("n2", users).unwrap();
        for n in [2, 700, 0x7ff0] {
            let ip = users.ip + n;
            let socket = udp(client.as_fd(), ip);
            round_trip((&socket, ip), (&sc, c), SECOND).expect("from that address");
        }
    });
}
