//! Loads of faults, narrow links and lookups that go wrong.

use super::super::strain::Load;
use super::*;
use crate::net::link::{Effect, Members, Rule};
use crate::net::route::DnsFault;

/// One pod with a limit, on a node of eight cores and 16 GiB.
fn one(model: AppModel, edit: impl FnOnce(&mut PodSpec)) -> World {
    let mut world = World::new(1);
    world.plane.add_model(model);
    world.service("web", |_| {});
    world.node("n", "a");
    world.pod("web-0", "web", "n", edit);
    world.start("web-0");
    world.endpoints("web", "web-0");
    world
}

fn strain(world: &mut World, load: Load) {
    let id = world.id("web-0");
    world.with_out(|plane, now, out| plane.strain_container(7, id, load, now, out));
}

#[test]
fn a_load_shares_the_quota_of_its_container() {
    // load in percent, limit: what 50 ms of work take. A limit of 400m is 40 ms in 100. The load
    // begins the period and has used 1 ms when the request comes; together they use the rest in
    // 19.5, then 20 in the next period, and 10.5 are left for the one after it.
    let table = [(100, 400, 209.5), (0, 400, 110.0), (100, 0, 50.0)];
    for (percent, limit, expected) in table {
        let mut world = one(model("web", ms(50)), |spec| {
            spec.containers[0].limits.cpu_milli = limit;
        });
        world.until(at(1_990));
        let load = Load {
            workers: 1,
            percent,
            memory: 0,
        };
        world.add(&traffic("web", 1, 1, fresh(Duration::from_secs(5))));
        // The request is sent at 3,990 and there 1.8 ms later.
        world.until(Time::from_micros(3_990_800));
        strain(&mut world, load);
        world.until(at(9_000));
        world.with_out(|plane, now, out| plane.relieve(7, now, out));
        world.rest();
        let took = world.tally().max_latency().as_secs_f64() * 1e3 - expected;
        // And the network.
        assert!(
            (1.9..2.9).contains(&took),
            "{percent} % at {limit}m: {took}"
        );
    }
}

#[test]
fn a_load_that_pauses_uses_its_part_and_ends_with_its_container() {
    let mut world = one(model("web", ms(1)), |_| {});
    world.until(at(2_000));
    let load = Load {
        workers: 3,
        percent: 50,
        memory: 0,
    };
    strain(&mut world, load);
    world.until(at(4_000));
    let pod = world.id("web-0").pod;
    let used = world.plane.usage(pod, at(4_000))[0].1.cpu;
    // three threads, half of two seconds
    assert!((ms(2_950)..ms(3_050)).contains(&used), "{used:?}");
    world.signal("web-0", Signal::Kill);
    world.rest();
    assert!(world.queue.now() < at(4_100), "nobody looks at it any more");
}

#[test]
fn memory_counts_against_the_limit_and_the_node() {
    let load = |memory| Load {
        memory,
        ..Load::default()
    };
    let base = |mut model: AppModel| {
        model.memory.base = Some(64 << 20);
        model
    };
    let mut world = one(base(model("web", ms(1))), |spec| {
        spec.containers[0].limits.memory = 128 << 20;
    });
    world.until(at(2_000));
    strain(&mut world, load(32 << 20));
    let pod = world.id("web-0").pod;
    assert_eq!(world.plane.usage(pod, at(2_000))[0].2, 96 << 20);
    assert_eq!(world.heard.len(), 0);
    world.with_out(|plane, now, out| plane.relieve(7, now, out));
    assert_eq!(world.plane.usage(pod, at(2_000))[0].2, 64 << 20);
    strain(&mut world, load(65 << 20));
    let ends: Vec<_> = world.heard.iter().map(|(_, event)| *event).collect();
    let killed = RuntimeEvent::Exited {
        container: world.id("web-0"),
        code: 137,
        oom: true,
    };
    assert_eq!(ends, [killed]);
    // Beside the pods: 10 of 16 GiB are not left, then more than there is ends what took it.
    let mut world = one(base(model("web", ms(1))), |_| {});
    world.until(at(2_000));
    let mut left = |memory: u64| {
        world.with_out(|plane, now, out| plane.strain_node(8, "n", load(memory), now, out));
        world.heard.clear();
        world.with_out(|plane, now, out| plane.stats("n", now, out));
        let left = world.heard.iter().find_map(|(_, event)| match event {
            RuntimeEvent::NodeMemory { available_kib, .. } => Some(*available_kib >> 10),
            _ => None,
        });
        world.with_out(|plane, now, out| plane.relieve(8, now, out));
        left
    };
    assert_eq!(left(10 << 30), Some(6 * 1024 - 64));
    assert_eq!(left(20 << 30), Some(16 * 1024 - 64));
}

#[test]
fn large_answers_pass_a_narrow_link_one_after_the_other() {
    let mut web = model("web", ms(1));
    web.request.response_bytes = 100_000 - super::super::client::ANSWER_BYTES;
    let mut world = World::web(1, 1, web);
    let node = world.plane.net().place("web-node-0").expect("a place");
    let rule = Rule {
        from: Members::places([node]),
        to: Members::everything(),
        effect: Effect::Rate {
            bytes_per_s: 1_000_000,
            burst: 0,
        },
    };
    world.plane.add_rule(rule, Time::ZERO);
    // 100 kB at 1 MB/s take 100 ms; four in a second leave the link free between them, and of two at
    // once the second waits for the first.
    let mut users = traffic("web", 4, 2, fresh(Duration::from_secs(5)));
    users.executor = Executor::ConstantVus {
        vus: 2,
        duration: Duration::from_millis(10),
        pause: Duration::from_secs(5),
    };
    world.add(&users);
    world.rest();
    let slowest = world.tally().max_latency().as_secs_f64() * 1e3;
    assert!((203.0..205.0).contains(&slowest), "{slowest}");
    assert_eq!(world.tally().ok, 2);
}

#[test]
fn a_lookup_that_leads_nowhere_ends_when_its_caller_gives_up() {
    for (astray, cause) in [(false, "dns"), (true, "timeout")] {
        let mut world = World::new(1);
        world.plane.add_model(model("web", ms(1)));
        world.service("web", |_| {});
        world.pods_of("web", 1);
        world.node("user", "a");
        world.plane.add_dns_fault(DnsFault {
            from: Members::places([world.plane.net().place("user").expect("a place")]),
            patterns: Vec::new(),
            astray,
        });
        let mut users = traffic("web", 10, 1, fresh(ms(500)));
        users.from = Some(Text::from("user"));
        world.add(&users);
        world.rest();
        assert_eq!(world.story(), format!("ok 0; 10 {cause} (name resolution)"));
    }
}
