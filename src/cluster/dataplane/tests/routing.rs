//! Which endpoint a connection reaches, from where, with whose rules.

use super::*;
use crate::net::link::{Effect, Members, Rule};
use crate::net::route::DnsFault;

/// How many requests each pod of `web` served, by a cost that tells CPU use.
fn shares(world: &mut World, pods: usize) -> Vec<u64> {
    let now = world.queue.now();
    (0..pods)
        .map(|n| {
            let pod = world.id(&format!("web-{n}")).pod;
            let used = world.plane.usage(pod, now);
            used.first()
                .map_or(0, |u| u.1.cpu.as_nanos() as u64 / 2_000_000)
        })
        .collect()
}

fn from_node(node: &str, to: &str, client: Client) -> Traffic {
    Traffic {
        from: Some(Text::from(node)),
        ..traffic(to, 100, 10, client)
    }
}

#[test]
fn client_ip_affinity_sends_one_address_to_one_pod_until_it_rests() {
    let run = |addresses, timeout_s, pause: u64| {
        let mut world = World::new(1);
        world.plane.add_model(model("web", ms(2)));
        world.service("web", |s| s.client_ip_affinity_s = Some(timeout_s));
        world.pods_of("web", 10);
        let mut users = traffic(
            "web",
            1,
            1,
            Client {
                addresses,
                ..fresh(Duration::from_secs(1))
            },
        );
        users.executor = Executor::ConstantVus {
            vus: 1,
            duration: Duration::from_secs(400),
            pause: ms(pause),
        };
        world.add(&users);
        world.rest();
        let shares = shares(&mut world, 10);
        shares.iter().filter(|n| **n > 0).count()
    };
    assert_eq!(run(1, 10_800, 1_000), 1, "everybody behind one address");
    assert!(
        run(0, 10_800, 1_000) >= 9,
        "every connection its own address"
    );
    assert!(run(1, 3, 5_000) >= 9, "forgotten between requests");
    assert_eq!(run(1, 10, 5_000), 1, "each connection begins the time anew");
}

#[test]
fn a_node_that_cannot_hear_the_api_server_keeps_its_old_rules() {
    let mut world = World::web(1, 2, model("web", ms(2)));
    world.node("here", "a");
    world.node("there", "a");
    for (name, node) in [("stale", "here"), ("fresh", "there")] {
        let mut users = from_node(node, "web", fresh(Duration::from_secs(1)));
        users.name = Text::from(name);
        world.add(&users);
    }
    world.until(at(5_000));
    let here = world.plane.net.place("here").unwrap();
    let rule = world.plane.add_rule(
        Rule {
            from: Members::places([Place::CONTROL_PLANE]),
            to: Members::places([here]),
            effect: Effect::Cut,
        },
        at(5_000),
    );
    world.delete("web-0");
    world.endpoints("web", "web-0:t web-1");
    world.until(at(8_000));
    world.signal("web-0", Signal::Term);
    world.until(at(10_000));
    world.plane.remove_rule(rule, at(10_000));
    world.rest();
    let failed: Vec<_> = world
        .plane
        .tallies()
        .map(|(name, tally)| (name.as_str().to_owned(), tally.failed))
        .collect();
    // Half of 100 rps for 2 s, and 1 s more until the watch is back.
    let (stale, fresh) = (&failed[0], &failed[1]);
    assert_eq!(*fresh, ("fresh".to_owned(), 0));
    assert!((120..=190).contains(&stale.1), "{failed:?}");
}

#[test]
fn services_answer_refuse_or_drop_as_their_rules_say() {
    type Edit = fn(&mut Service);
    // from the node of web-0 unless said otherwise; web-0 is ready
    let table: [(&str, &str, &str, Edit, &str); 7] = [
        ("ready", "web", "web-0", |_| {}, "ok 10"),
        (
            "nobody ready",
            "web",
            "web-0:n",
            |_| {},
            "ok 0; 10 no endpoints (no endpoints)",
        ),
        (
            "serving while terminating",
            "web",
            "web-0:t",
            |_| {},
            "ok 10",
        ),
        (
            "published before ready",
            "web",
            "web-0:n",
            |s| s.publish_not_ready = true,
            "ok 10",
        ),
        (
            "by its whole name",
            "web.default.svc.cluster.local:80",
            "web-0",
            |_| {},
            "ok 10",
        ),
        (
            "no such name",
            "web.elsewhere",
            "web-0",
            |_| {},
            "ok 0; 10 dns (name resolution)",
        ),
        (
            "no such port",
            "web:81",
            "web-0",
            |_| {},
            "ok 0; 10 timeout (Service not programmed on this node)",
        ),
    ];
    for (what, to, endpoints, edit, story) in table {
        let mut world = World::new(1);
        world.plane.add_model(model("web", ms(2)));
        world.service("web", edit);
        world.pods_of("web", 1);
        world.endpoints("web", endpoints);
        let mut users = from_node("web-node-0", to, fresh(Duration::from_secs(1)));
        users.executor = traffic("", 10, 1, Client::default()).executor;
        world.add(&users);
        world.rest();
        assert_eq!(world.story(), story, "{what}");
    }
}

#[test]
fn a_local_policy_keeps_connections_on_the_node_or_drops_them() {
    // internal Local: from web-0's node only web-0; from a node without endpoint nothing arrives
    let run = |node: &str| {
        let mut world = World::new(1);
        world.plane.add_model(model("web", ms(2)));
        world.service("web", |s| s.internal_local = true);
        world.pods_of("web", 2);
        world.node("empty", "a");
        world.add(&from_node(node, "web", fresh(ms(500))));
        world.rest();
        (shares(&mut world, 2), world.story())
    };
    assert_eq!(run("web-node-0").0, [1_000, 0]);
    assert_eq!(run("web-node-1").0, [0, 1_000]);
    assert_eq!(
        run("empty").1,
        "ok 0; 1000 timeout (no endpoints on this node)"
    );
}

#[test]
fn node_ports_go_through_the_node_and_respect_external_traffic_policy() {
    let run = |to: &str, local: bool| {
        let mut world = World::new(1);
        world.plane.add_model(model("web", ms(2)));
        world.service("web", |s| {
            s.kind = crate::api::service::ServiceKind::NodePort;
            s.external_local = local;
            s.ports[0].node_port = 30_080;
        });
        world.pods_of("web", 2);
        world.node("empty", "a");
        let mut users = traffic("web", 100, 10, fresh(ms(500)));
        users.to = Text::from(to);
        world.add(&users);
        world.rest();
        (shares(&mut world, 2), world.tally().failed)
    };
    let (shares, failed) = run("nodePort/empty:30080", false);
    assert_eq!((shares.iter().sum::<u64>(), failed), (1_000, 0));
    assert!(shares.iter().all(|n| (440..=560).contains(n)), "{shares:?}");
    assert_eq!(run("nodePort/web-node-1:30080", true), (vec![0, 1_000], 0));
    assert_eq!(run("nodePort/empty:30080", true), (vec![0, 0], 1_000));
    // any of three nodes, one of them without an endpoint
    let (_, failed) = run("nodePort/:30080", true);
    assert!((270..=400).contains(&failed), "{failed}");
}

#[test]
fn headless_names_are_the_pods_own_addresses() {
    let mut world = World::new(1);
    world.plane.add_model(model("web", ms(2)));
    world.service("web", |s| {
        s.headless = true;
        s.cluster_ip = None;
    });
    world.pods_of("web", 3);
    world.node("here", "a");
    for (name, to) in [("all", "web"), ("one", "web-2.web")] {
        let mut users = from_node("here", to, fresh(Duration::from_secs(1)));
        users.name = Text::from(name);
        world.add(&users);
    }
    world.rest();
    let shares = shares(&mut world, 3);
    assert!((270..=400).contains(&shares[0]), "{shares:?}");
    assert!((1_270..=1_400).contains(&shares[2]), "{shares:?}");
    assert_eq!(shares.iter().sum::<u64>(), 2_000);
}

#[test]
fn names_fail_while_a_dns_fault_lasts() {
    let mut world = World::web(1, 1, model("web", ms(2)));
    world.add(&from_node(
        "web-node-0",
        "web",
        fresh(Duration::from_secs(1)),
    ));
    world.until(at(4_995));
    let fault = world.plane.add_dns_fault(DnsFault {
        from: Members::everything(),
        patterns: vec![Text::from("we*")],
        astray: false,
    });
    world.until(at(6_995));
    world.plane.remove_dns_fault(fault);
    world.rest();
    assert_eq!(world.story(), "ok 800; 200 dns (name resolution)");
}

#[test]
fn a_port_that_no_container_declares_is_refused() {
    let mut world = World::web(1, 1, model("web", ms(2)));
    let mut web = model("web", ms(2));
    web.ports = vec![9_000];
    let mut other = World::web(1, 1, web);
    for world in [&mut world, &mut other] {
        world.add(&traffic("web", 10, 1, fresh(Duration::from_secs(1))));
        world.rest();
    }
    assert_eq!(world.story(), "ok 10");
    assert_eq!(
        other.story(),
        "ok 0; 10 refused (nothing listens on that port, web-0)"
    );
}
