//! Chains of calls, retries, and what must hold whatever happens.

use super::*;
use crate::load::model::Call;
use crate::load::tally::Class;
use crate::net::link::{Effect, Members, Rule};

fn call(service: &str, timeout: Duration, retries: u32) -> Call {
    Call {
        service: Text::from(service),
        client: Client {
            connections: 16,
            timeout,
            retries,
            ..Client::default()
        },
        optional: false,
    }
}

/// Services `a` → `b` → `c`, two pods each.
fn chain(seed: u64, retries: u32, edit: impl Fn(&str, &mut AppModel)) -> World {
    let mut world = World::new(seed);
    for (name, next) in [("a", Some("b")), ("b", Some("c")), ("c", None)] {
        let mut app = model(name, ms(2));
        let calls = next.map(|n| call(n, ms(500), retries));
        app.request.calls = calls.into_iter().collect();
        edit(name, &mut app);
        world.plane.add_model(app);
        world.service(name, |_| {});
        world.pods_of(name, 2);
    }
    world
}

#[test]
fn a_request_waits_for_the_calls_it_makes() {
    let mut world = chain(1, 0, |_, _| {});
    world.add(&traffic("a", 100, 10, fresh(Duration::from_secs(2))));
    world.rest();
    assert_eq!(world.story(), "ok 1000");
    // 3 × 2 ms of CPU; the network: 4 × 0.6 from the edge and 2 × 2 × 0.25 inside on connections
    // that are open
    let median = world.tally().latency(0.5).as_secs_f64() * 1e3;
    assert!((median - 9.4).abs() < 0.4, "{median}");
    let calls: Vec<_> = world
        .plane
        .call_tallies()
        .map(|(caller, to, tally)| format!("{caller}→{to} {} {}", tally.sent, tally.ok))
        .collect();
    assert_eq!(calls, ["a→b 1000 1000", "b→c 1000 1000"]);
}

#[test]
fn three_retries_in_each_of_three_layers_are_sixty_four_attempts() {
    let mut world = chain(1, 3, |name, app| {
        if name == "c" {
            app.request.queue = 0;
            app.request.concurrency = 0;
        }
    });
    let client = Client {
        retries: 3,
        ..fresh(Duration::from_secs(9))
    };
    world.add(&traffic("a", 1, 10, client.clone()));
    world.rest();
    // c turns everything away: b asks 4 times, and answers 502, which is final for its caller.
    let attempts: Vec<_> = world
        .plane
        .call_tallies()
        .map(|(_, _, t)| t.attempts)
        .collect();
    assert_eq!(attempts, [10, 40]);
    assert_eq!(world.tally().groups()[0].0.class, Class::Downstream);

    // When c is too slow instead, every layer tries again: 4 × 4 × 4 for each request.
    let mut world = chain(1, 3, |name, app| {
        app.request.cpu = Dist::Fixed(ms(1));
        let timeout = match name {
            "a" => ms(300),
            "b" => ms(200),
            _ => ms(0),
        };
        if let Some(call) = app.request.calls.first_mut() {
            call.client.timeout = timeout;
        }
        if name == "c" {
            app.request.wait = Some(Dist::Fixed(Duration::from_secs(30)));
        }
    });
    let client = Client {
        timeout: ms(600),
        ..client
    };
    world.add(&traffic("a", 1, 5, client));
    world.rest();
    let attempts: Vec<_> = world
        .plane
        .call_tallies()
        .map(|(_, _, t)| t.attempts)
        .collect();
    assert_eq!(world.tally().attempts, 20);
    // The user's timeout of 600 ms is shorter than a's 4 tries, but a works on.
    assert_eq!(attempts[1], 5 * 64, "{attempts:?}");
}

#[test]
fn a_retry_storm_outlives_its_trigger_unless_it_has_a_budget() {
    // G11: 2 pods of 4 places and 40 ms: 200 rps. 70 % load, 8 retries at once after 250 ms; for 10
    // s one pod stands still.
    let run = |budget: Option<u32>| {
        let mut web = model("web", ms(40));
        web.request.concurrency = 4;
        web.request.queue = 100;
        let mut world = World::web(1, 2, web);
        let client = Client {
            retries: 8,
            retry_budget_permille: budget,
            ..fresh(ms(250))
        };
        world.add(&traffic("web", 140, 90, client));
        world.until(at(10_000));
        let id = world.id("web-0");
        world.with_out(|plane, now, out| plane.freeze(id, true, now, out));
        world.until(at(20_000));
        world.with_out(|plane, now, out| plane.freeze(id, false, now, out));
        world.rest();
        let late = world.tally().rows().iter().filter(|r| r.second >= 60);
        let (ok, sent) = late.fold((0, 0), |(ok, sent), r| (ok + r.ok, sent + r.sent));
        assert_eq!(world.tally().in_flight(), 0);
        f64::from(ok) / f64::from(sent)
    };
    let (stuck, healed) = (run(None), run(Some(100)));
    assert!(stuck < 0.5, "{stuck}");
    assert!(healed > 0.99, "{healed}");
}

/// Kills, restarts, power cuts, partitions and freezes in an order that the seed draws.
fn havoc(world: &mut World, seed: u64) {
    let mut dice = Draws::new(seed).stream(crate::engine::Purpose::new("test/dice"), 0);
    let mut rules = Vec::new();
    for step in 0..60u64 {
        world.until(at(2_000 + step * 130));
        let app = ["a", "b", "c"][dice.below(3) as usize];
        let name = format!("{app}-{}", dice.below(2));
        let node = name.replace('-', "-node-");
        let now = world.queue.now();
        match dice.below(8) {
            0 => world.signal(&name, Signal::Kill),
            1 => world.signal(&name, Signal::Term),
            2 | 3 if world.plane.unit_of(world.id(&name)).is_none() => {
                world.with_out(|plane, now, _| plane.node_power(&node, true, now));
                world.start(&name);
            }
            4 => world.with_out(|plane, now, _| plane.node_power(&node, false, now)),
            5 => {
                let place = world.plane.net.place(&node).unwrap();
                rules.push(world.plane.add_rule(
                    Rule {
                        from: Members::places([place]),
                        to: Members::everything(),
                        effect: Effect::Cut,
                    },
                    now,
                ));
            }
            6 => drop(rules.pop().map(|rule| world.plane.remove_rule(rule, now))),
            7 => {
                let frozen = dice.below(2) == 0;
                let id = world.id(&name);
                world.with_out(|plane, now, out| plane.freeze(id, frozen, now, out));
            }
            _ => {}
        }
    }
}

#[test]
fn what_was_sent_is_answered_failed_or_abandoned_whatever_happens() {
    for seed in 0..30u64 {
        let mut world = chain(seed, 1, |name, app| {
            app.request.wait = Some(Dist::Fixed(ms(5)));
            if name == "b" {
                app.on_sigterm = crate::load::model::OnSigterm::Drain(ms(300));
                app.request.errors_per_million = 20_000;
            }
        });
        world.add(&traffic(
            "a",
            300,
            8,
            Client {
                connections: 20,
                timeout: ms(700),
                retries: 1,
                ..Client::default()
            },
        ));
        havoc(&mut world, seed);
        for app in ["a", "b", "c"] {
            for n in 0..2 {
                let id = world.id(&format!("{app}-{n}"));
                world.with_out(|plane, now, out| plane.freeze(id, false, now, out));
            }
        }
        world.rest();
        assert_eq!(world.tally().sent, 2_400);
        assert!(
            world.tally().ok > 0 && world.tally().failed > 0,
            "{}",
            world.story()
        );
        let plane = &world.plane;
        let calls = plane.call_tallies().map(|(_, _, tally)| tally);
        for tally in plane.tallies().map(|(_, tally)| tally).chain(calls) {
            assert_eq!(tally.in_flight(), 0, "seed {seed}: {}", world.story());
        }
        assert_eq!(plane.in_flight().0, 0, "seed {seed}: exchanges left");
    }
}

#[test]
fn memory_follows_what_is_in_flight() {
    let run = |seconds| {
        let mut world = chain(1, 0, |_, _| {});
        world.add(&traffic("a", 500, seconds, fresh(Duration::from_secs(2))));
        world.rest();
        (world.tally().ok, world.plane.in_flight().1)
    };
    let (short, long) = (run(10), run(60));
    assert_eq!((short.0, long.0), (5_000, 30_000));
    assert!(long.1 < 100 && long.1 <= short.1 + 5, "{short:?} {long:?}");
}

#[test]
fn an_unrelated_workload_moves_nothing() {
    let run = |company: bool| {
        let mut world = chain(9, 1, |_, app| {
            app.request.cpu = Dist::LogNormal {
                p50: ms(2),
                p99: ms(30),
            };
        });
        if company {
            world.plane.add_model(model("other", ms(3)));
            world.service("other", |_| {});
            world.pods_of("other", 3);
            let mut users = traffic("other", 333, 10, fresh(Duration::from_secs(1)));
            users.poisson = true;
            world.add(&users);
        }
        world.add(&traffic("a", 200, 10, fresh(Duration::from_secs(2))));
        world.until(at(5_000));
        world.signal("b-0", Signal::Kill);
        world.rest();
        let (_, tally) = world.plane.tallies().last().unwrap();
        (tally.rows().to_vec(), tally.groups(), tally.ok)
    };
    let (alone, together) = (run(false), run(true));
    assert_eq!(alone.0, together.0);
    assert_eq!((alone.1, alone.2), (together.1, together.2));
}
