//! What users see when endpoints die before the rules know: G01, G03, G07, partitions.

use super::*;
use crate::load::tally::{Cause, Class};
use crate::net::link::{Effect, Members, Rule};

#[test]
fn failures_of_a_rollout_are_rate_times_the_delay_of_the_rules() {
    // 10 pods, 500 requests a second, each on its own connection: a pod that exits on SIGTERM costs
    // 50 requests a second until the edge's rules follow. The pods go one after the other every
    // 400 ms, so that most changes wait for the 1 s between two syncs.
    let mut delays = Duration::ZERO;
    let leave = |world: &mut World, n: usize| {
        let name = format!("web-{n}");
        world.delete(&name);
        let words = (0..10).map(|m| match m {
            m if m <= n => format!("web-{m}:n"),
            m => format!("web-{m}"),
        });
        let words: Vec<_> = words.collect();
        world.signal(&name, Signal::Term);
        world.endpoints("web", &words.join(" "));
    };
    let mut world = World::web(3, 10, model("web", ms(2)));
    world.add(&traffic("web", 500, 20, fresh(Duration::from_secs(2))));
    for n in 0..6 {
        let when = at(10_000 + 400 * n as u64);
        world.until(when);
        leave(&mut world, n);
        // The same in a world without traffic tells when the rules follow each change.
        let mut alone = World::web(3, 10, model("web", ms(2)));
        for m in 0..=n {
            alone.until(at(10_000 + 400 * m as u64));
            leave(&mut alone, m);
        }
        delays += alone.programmed_at(Place::EDGE) - when;
    }
    world.rest();
    let tally = world.tally();
    // Fewer endpoints share the rest: each dead one gets 1/10 of the rate, 1/9 after the first
    // change is programmed, and so on up to 1/5; the mean weight lies between.
    let (low, high) = (50.0 * delays.as_secs_f64(), 100.0 * delays.as_secs_f64());
    let failed = tally.failed as f64;
    assert!(
        failed > low * 0.8 && failed < high * 1.1,
        "{failed} {low} {high}"
    );
    for (failure, _) in tally.groups() {
        let seen = (failure.cause, failure.class);
        let (refused, reset) = (Cause::Refused, Cause::Reset);
        let race = Class::SigtermRace;
        assert!(seen == (refused, race) || seen == (reset, race), "{seen:?}");
    }
    assert_eq!(tally.in_flight(), 0);
}

#[test]
fn one_terminated_pod_costs_its_share_until_the_edge_has_synced() {
    let mut shadow = World::web(1, 5, model("web", ms(2)));
    shadow.until(at(10_000));
    shadow.endpoints("web", "web-0:n web-1 web-2 web-3 web-4");
    let delay = shadow.programmed_at(Place::EDGE) - at(10_000);
    // an idle proxy syncs at once: watch lag and one transaction
    assert!(delay > ms(15) && delay < ms(200), "{delay:?}");

    let mut world = World::web(1, 5, model("web", ms(2)));
    world.add(&traffic("web", 5_000, 10, fresh(Duration::from_secs(2))));
    world.until(at(10_000));
    world.delete("web-0");
    world.signal("web-0", Signal::Term);
    world.endpoints("web", "web-0:n web-1 web-2 web-3 web-4");
    world.rest();
    // 1,000 a second go to web-0; those it was working on, 1,000 × 2 ms, see a reset
    let expected = 1_000.0 * (delay.as_secs_f64() + 0.002);
    let failed = world.tally().failed as f64;
    assert!(
        (failed - expected).abs() < 4.0 * expected.sqrt(),
        "{failed} {expected}"
    );
    let first = world.tally().groups()[0];
    assert_eq!(first.1.dead, (1, 5));
}

#[test]
fn a_dead_node_is_a_black_hole_until_its_endpoints_go() {
    // 3 pods on 3 nodes, 500 rps; the endpoint goes 40 s after the node: 500 × 1/3 × 40 = 6,667.
    // One retry through the same Service meets the dead one again in a third of the cases: 2,222.
    // A retry that avoids the endpoint meets it never.
    let table = [(0, false, 6_667.0), (1, false, 2_222.0), (1, true, 0.0)];
    for (retries, elsewhere, expected) in table {
        let client = Client {
            retries,
            retry_elsewhere: elsewhere,
            ..fresh(Duration::from_secs(1))
        };
        let mut world = World::web(7, 3, model("web", ms(2)));
        world.add(&traffic("web", 500, 60, client));
        world.until(at(10_000));
        world.with_out(|plane, now, _| plane.node_power("web-node-1", false, now));
        world.until(at(50_000));
        world.endpoints("web", "web-0 web-1:n web-2");
        world.rest();
        let failed = world.tally().failed as f64;
        let spread = 4.0 * f64::sqrt(expected) + 40.0;
        assert!((failed - expected).abs() < spread, "{failed} {expected}");
        for (failure, group) in world.tally().groups() {
            let seen = (failure.cause, failure.class);
            assert_eq!(seen, (Cause::Timeout, Class::DeadEndpoint));
            assert_eq!(world.name_of(failure.pod).unwrap(), "web-1");
            assert_eq!(group.dead, (1, 3));
        }
        assert_eq!(world.plane.in_flight().0, 0);
    }
}

#[test]
fn a_pod_that_is_an_endpoint_before_it_listens_refuses() {
    // Two pods, one still starting for 1 s: half of 100 requests in that second.
    let mut world = World::web(5, 1, model("web", ms(2)));
    world.add(&traffic("web", 100, 10, fresh(Duration::from_secs(2))));
    world.until(at(5_000));
    world.node("late", "a");
    world.pod("web-9", "web", "late", |_| {});
    world.endpoints("web", "web-0 web-9");
    let delay = world.programmed_at(Place::EDGE) - at(5_000);
    world.start("web-9");
    world.rest();
    let groups = world.tally().groups();
    let class = |c: Class| {
        groups
            .iter()
            .filter(move |g| g.0.class == c)
            .map(|g| g.1.count)
    };
    let failed: u64 = class(Class::NotListening).sum();
    assert!((35..=65).contains(&failed), "{failed} {delay:?}");
    assert_eq!(world.tally().failed, failed);
}

#[test]
fn a_process_kill_resets_what_it_serves_and_refuses_what_comes_after() {
    let mut world = World::web(1, 1, model("web", ms(500)));
    world.add(&traffic("web", 10, 3, fresh(Duration::from_secs(2))));
    world.until(at(3_050));
    world.signal("web-0", Signal::Kill);
    world.rest();
    // Sent every 100 ms from 2,000 on. Those of 2,600 … 3,000 were being served, those before had
    // their answers, those after find nobody.
    assert_eq!(
        world.story(),
        "ok 6; 19 refused (dead endpoint still programmed, web-0); \
         5 reset (process ended meanwhile, web-0)"
    );
    let exited = world.heard.last().unwrap();
    assert_eq!(exited.0, at(3_050));
    assert!(matches!(
        exited.1,
        RuntimeEvent::Exited {
            code: 137,
            oom: false,
            ..
        }
    ));
}

#[test]
fn packets_cut_off_for_less_than_the_patience_arrive_late() {
    let cut = || Rule {
        from: Members::everything(),
        to: Members::everything(),
        effect: Effect::Cut,
    };
    // Cut for 1.4 s while one request a second is sent with 3 s of patience: the SYN is sent again
    // after 1 s and after 3 s in all.
    let mut world = World::web(1, 1, model("web", ms(2)));
    world.add(&traffic("web", 1, 4, fresh(Duration::from_secs(4))));
    world.until(at(2_500));
    let rule = world.plane.add_rule(cut(), at(2_500));
    world.until(at(3_900));
    world.plane.remove_rule(rule, at(3_900));
    world.rest();
    // sent at 2 (before), 3 (cut: again at 4), 4, 5
    assert_eq!(world.story(), "ok 4");
    let slowest = world.tally().max_latency();
    assert!(slowest > ms(1_000) && slowest < ms(1_010), "{slowest:?}");

    let mut world = World::web(1, 1, model("web", ms(2)));
    world.add(&traffic("web", 1, 4, fresh(ms(900))));
    world.until(at(2_500));
    world.plane.add_rule(cut(), at(2_500));
    world.rest();
    assert_eq!(world.story(), "ok 1; 3 timeout (network fault, web-0)");
}

/// One way between the edge and the node of `web-0`, either direction or both.
fn one_way(world: &World, to_server: bool, effect: Effect) -> Rule {
    let node = Members::places([world.plane.net().place("web-node-0").expect("the node")]);
    let edge = Members::places([Place::EDGE]);
    let (from, to) = match to_server {
        true => (edge, node),
        false => (node, edge),
    };
    Rule { from, to, effect }
}

#[test]
fn every_packet_of_a_new_connection_is_delayed_by_itself() {
    let (fresh, kept) = (
        fresh(Duration::from_secs(2)),
        Client {
            connections: 1,
            ..Client::default()
        },
    );
    // Delays of 100 ms: SYN and request go to the server, SYN-ACK and answer come back.
    let table = [
        (&fresh, true, false, 200),
        (&fresh, false, true, 200),
        (&fresh, true, true, 400),
        (&kept, true, false, 100),
        (&kept, false, true, 100),
        (&kept, true, true, 200),
    ];
    for (client, there, back, expected) in table {
        let mut world = World::web(1, 1, model("web", ms(2)));
        world.add(&traffic("web", 1, 3, client.clone()));
        // The first request opens the connection that the others keep.
        world.until(at(2_500));
        for to_server in [there.then_some(true), back.then_some(false)]
            .into_iter()
            .flatten()
        {
            let (by, jitter) = (ms(100), Duration::ZERO);
            let rule = one_way(
                &world,
                to_server,
                Effect::Delay {
                    by,
                    jitter,
                    early_per_million: 0,
                },
            );
            world.plane.add_rule(rule, at(2_500));
        }
        world.rest();
        let slowest = world.tally().max_latency();
        let case = format!("{there} {back} {slowest:?}");
        assert!(
            slowest > ms(expected) && slowest < ms(expected + 5),
            "{case}"
        );
        assert_eq!(world.story(), "ok 3");
    }
}

#[test]
fn a_lost_syn_ack_costs_a_second_and_a_lost_answer_less() {
    // Cut from 2.5 s to 3.1 s, towards the client alone. A new connection of 3.0 s has its SYN sent
    // again at 4.0 s; over a kept one the answer is sent again after 200 ms.
    let kept = Client {
        connections: 1,
        ..Client::default()
    };
    for (client, expected) in [(fresh(Duration::from_secs(2)), 1_000), (kept, 200)] {
        let mut world = World::web(1, 1, model("web", ms(2)));
        world.add(&traffic("web", 1, 3, client));
        world.until(at(2_500));
        let cut = one_way(&world, false, Effect::Cut);
        let rule = world.plane.add_rule(cut, at(2_500));
        world.until(at(3_100));
        world.plane.remove_rule(rule, at(3_100));
        world.rest();
        let slowest = world.tally().max_latency();
        assert!(
            slowest > ms(expected) && slowest < ms(expected + 10),
            "{slowest:?}"
        );
        assert_eq!(world.story(), "ok 3");
    }
}

#[test]
fn what_the_application_answers_is_final_and_what_turns_it_away_is_not() {
    // Two retries. 500: each request once. A full queue is 503: three times each.
    let mut failing = model("web", ms(2));
    failing.request.errors_per_million = 1_000_000;
    let mut full = model("web", ms(2));
    (full.request.concurrency, full.request.queue) = (0, 0);
    for (model, cause, attempts) in [(failing, Cause::Error, 5), (full, Cause::Unavailable, 15)] {
        let client = Client {
            retries: 2,
            ..fresh(Duration::from_secs(2))
        };
        let mut world = World::web(1, 1, model);
        world.add(&traffic("web", 1, 5, client));
        world.rest();
        let seen: Vec<_> = world.tally().groups().iter().map(|g| g.0.cause).collect();
        assert_eq!((seen, world.tally().attempts), (vec![cause], attempts));
    }
}
