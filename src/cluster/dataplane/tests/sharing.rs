//! Connections stay where they were made: G13, keep-alive.

use super::*;
use crate::load::tally::Class;

fn busiest_over_mean(seed: u64, connections: u32, pods: usize) -> f64 {
    let mut world = World::web(seed, pods, model("web", ms(1)));
    let client = Client {
        connections,
        multiplex: true,
        timeout: Duration::from_secs(1),
        ..Client::default()
    };
    world.add(&traffic("web", 1_000, 2, client));
    world.rest();
    assert_eq!(world.story(), "ok 2000");
    let now = world.queue.now();
    let used: Vec<_> = (0..pods)
        .map(|n| {
            let pod = world.id(&format!("web-{n}")).pod;
            world.plane.usage(pod, now)[0].1.cpu.as_secs_f64()
        })
        .collect();
    let mean = used.iter().sum::<f64>() / pods as f64;
    used.iter().fold(0.0, |a, b| f64::max(a, *b)) / mean
}

#[test]
fn few_connections_load_pods_unevenly() {
    // The mean of the largest of 10 cells, over the mean cell: 2.75 for 10 connections, 1.51 for
    // 100. 60 seeds: a standard error of about 0.1 and 0.03.
    for (connections, expected, tolerance) in [(10, 2.75, 0.35), (100, 1.51, 0.1)] {
        let seeds = 60;
        let sum: f64 = (0..seeds)
            .map(|seed| busiest_over_mean(seed, connections, 10))
            .sum();
        let mean = sum / seeds as f64;
        assert!((mean - expected).abs() < tolerance, "{connections}: {mean}");
    }
}

#[test]
fn new_pods_get_nothing_until_connections_are_made_anew() {
    let served_by_new = |age: Option<Duration>| {
        let mut world = World::web(1, 2, model("web", ms(2)));
        let client = Client {
            connections: 20,
            max_connection_age: age,
            timeout: Duration::from_secs(1),
            ..Client::default()
        };
        world.add(&traffic("web", 100, 60, client));
        world.until(at(5_000));
        world.node("more", "a");
        world.pod("web-9", "web", "more", |_| {});
        world.start("web-9");
        world.until(at(7_000));
        world.endpoints("web", "web-0 web-1 web-9");
        world.rest();
        assert_eq!(world.story(), "ok 6000");
        let pod = world.id("web-9").pod;
        let now = world.queue.now();
        world.plane.usage(pod, now)[0].1.cpu.as_millis() as u64 / 2
    };
    assert_eq!(served_by_new(None), 0);
    // From about 12 s on a third of 100 rps, for 50 s.
    let served = served_by_new(Some(Duration::from_secs(5)));
    assert!((1_200..=2_100).contains(&served), "{served}");
}

#[test]
fn a_shared_connection_into_a_black_hole_is_kept() {
    // 10 gRPC connections over 2 pods; one node loses power and its endpoint goes at once. Without
    // keep-alive pings nobody notices: the share of the dead connections fails for good.
    let mut world = World::web(4, 2, model("web", ms(2)));
    let client = Client {
        connections: 10,
        multiplex: true,
        timeout: Duration::from_secs(1),
        ..Client::default()
    };
    world.add(&traffic("web", 100, 60, client));
    world.until(at(10_000));
    world.with_out(|plane, now, _| plane.node_power("web-node-0", false, now));
    world.endpoints("web", "web-0:n web-1");
    world.rest();
    let tally = world.tally();
    // k of 10 connections: k × 10 rps × 52 s
    let share = tally.failed as f64 / 520.0;
    assert!(
        (share - share.round()).abs() < 0.05 && share >= 1.0,
        "{share}"
    );
    assert_eq!(tally.groups()[0].0.class, Class::DeadEndpoint);
}

#[test]
fn an_overloaded_server_turns_away_what_its_queue_cannot_hold() {
    // One place, 100 ms each, a queue of 5: 10 a second are served of 20.
    let mut web = model("web", ms(100));
    web.request.concurrency = 1;
    web.request.queue = 5;
    let mut world = World::web(1, 1, web);
    world.add(&traffic("web", 20, 10, fresh(Duration::from_secs(5))));
    world.rest();
    let tally = world.tally();
    assert_eq!(tally.ok + tally.failed, 200);
    // 100 in 10 s, and the 6 that were inside at the end
    assert!((104..=107).contains(&tally.ok), "{}", world.story());
    assert_eq!(tally.groups()[0].0.class, Class::QueueFull);
    let slowest = tally.ok_latency(1.0);
    assert!(slowest > ms(550) && slowest < ms(610), "{slowest:?}");
}
