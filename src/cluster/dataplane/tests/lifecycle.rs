//! How processes start, end, and take their requests with them.

use super::*;
use crate::kubelet::runtime::{Hook, ProbeOutcome};
use crate::load::model::{ExitModel, MemoryModel, OnSigterm};

/// `1500 exited 143; 2000 probed Refused`.
fn heard(world: &World) -> String {
    let words = world.heard.iter().map(|(when, event)| {
        let when = when.as_nanos() / 1_000_000;
        match event {
            RuntimeEvent::Exited { code, oom, .. } => {
                format!("{when} exited {code}{}", if *oom { " oom" } else { "" })
            }
            RuntimeEvent::Probed { outcome, .. } => format!("{when} probed {outcome:?}"),
            RuntimeEvent::HookDone { ok, .. } => format!("{when} hook {ok}"),
            other => format!("{when} {other:?}"),
        }
    });
    words.collect::<Vec<_>>().join("; ")
}

#[test]
fn sigterm_ends_drains_lingers_or_does_nothing() {
    // 10 requests a second of 300 ms, from 2,000 to 3,900; SIGTERM at 3,050. The rules never follow
    // here: requests after the end of listening are refused.
    let secs = Duration::from_secs;
    let table = [
        (
            OnSigterm::Exit,
            "3050 exited 143",
            "ok 8; 9 refused (terminating endpoint: SIGTERM race, web-0); \
             3 reset (terminating endpoint: SIGTERM race, web-0)",
        ),
        // 2,800, 2,900 and 3,000 are finished; the last ends at 3,302
        (
            OnSigterm::Drain(secs(5)),
            "3301 exited 0",
            "ok 11; 9 refused (terminating endpoint: SIGTERM race, web-0)",
        ),
        // cut short: 2,800 + 301.8 is done by 3,150, the other two are not
        (
            OnSigterm::Drain(ms(100)),
            "3150 exited 0",
            "ok 9; 9 refused (terminating endpoint: SIGTERM race, web-0); \
             2 reset (terminating endpoint: SIGTERM race, web-0)",
        ),
        // listens until 3,550
        (
            OnSigterm::Linger(ms(500)),
            "3801 exited 0",
            "ok 16; 4 refused (terminating endpoint: SIGTERM race, web-0)",
        ),
        (OnSigterm::Ignore, "", "ok 20"),
    ];
    for (on_sigterm, events, story) in table {
        let mut web = model("web", ms(300));
        web.on_sigterm = on_sigterm;
        let mut world = World::web(1, 1, web);
        world.add(&traffic("web", 10, 2, fresh(secs(2))));
        world.until(at(3_050));
        world.delete("web-0");
        world.signal("web-0", Signal::Term);
        world.rest();
        assert_eq!(heard(&world), events, "{on_sigterm:?}");
        assert_eq!(world.story(), story, "{on_sigterm:?}");
    }
}

#[test]
fn idle_connections_to_a_draining_process_are_made_anew() {
    let mut web = model("web", ms(2));
    web.on_sigterm = OnSigterm::Drain(Duration::from_secs(5));
    let mut world = World::web(2, 2, web);
    let client = Client {
        connections: 4,
        timeout: Duration::from_secs(1),
        ..Client::default()
    };
    world.add(&traffic("web", 50, 10, client));
    world.until(at(5_000));
    // The rules follow first, as with a preStop hook; then nothing fails.
    world.delete("web-0");
    world.endpoints("web", "web-0:t web-1");
    world.until(at(8_000));
    world.signal("web-0", Signal::Term);
    world.rest();
    assert_eq!(world.story(), "ok 500");
    assert_eq!(heard(&world), "8000 exited 0");
}

#[test]
fn memory_that_grows_past_its_limit_kills() {
    // 64 MiB at first, 1 MiB more for each request served, limit 80 MiB: the 17th is too much.
    let mut web = model("web", ms(2));
    web.memory = MemoryModel {
        base: Some(64 << 20),
        per_request: 0,
        leak_per_request: 1 << 20,
        leak_per_second: 0,
    };
    let run = |web: AppModel| {
        let mut world = World::new(1);
        world.plane.add_model(web);
        world.service("web", |_| {});
        world.node("n", "a");
        world.pod("web-0", "web", "n", |spec| {
            spec.containers[0].limits.memory = 80 << 20;
        });
        world.start("web-0");
        world.endpoints("web", "web-0");
        world.add(&traffic("web", 10, 3, fresh(Duration::from_secs(2))));
        world.rest();
        (heard(&world), world.tally().ok)
    };
    // 17 served by 3,602; the one of 3,700 is the first to be accepted above the limit
    assert_eq!(run(web.clone()), ("3701 exited 137 oom".into(), 17));
    // by time: 16 MiB at 4 MiB a second
    web.memory.leak_per_request = 0;
    web.memory.leak_per_second = 4 << 20;
    assert_eq!(run(web).0, "4001 exited 137 oom");
}

#[test]
fn a_process_ends_by_itself_and_may_be_started_again() {
    let mut web = model("web", ms(2));
    web.exit = Some(ExitModel {
        after: Dist::Fixed(Duration::from_secs(3)),
        from_listening: true,
        code: 3,
    });
    let mut world = World::web(1, 1, web);
    world.until(at(5_000));
    let mut again = world.id("web-0");
    again.attempt = 1;
    world.start_as(again, "web-0");
    world.rest();
    // listens after 1 s
    assert_eq!(heard(&world), "4000 exited 3; 9000 exited 3");
}

#[test]
fn a_process_that_needs_a_service_exits_without_it() {
    let mut web = model("web", ms(2));
    web.needs = vec![Text::from("db")];
    let mut world = World::web(1, 1, web.clone());
    world.rest();
    assert_eq!(heard(&world), "1000 exited 1", "no such name");

    let mut world = World::new(1);
    world.plane.add_model(web);
    world.plane.add_model(model("db", ms(2)));
    world.service("db", |_| {});
    world.pods_of("db", 1);
    world.until(at(1_500));
    world.service("web", |_| {});
    world.pods_of("web", 1);
    world.rest();
    assert_eq!(heard(&world), "");
}

#[test]
fn containers_without_a_model_serve_or_end_by_what_the_pod_is_for() {
    let mut world = World::new(1);
    world.node("n", "a");
    world.pod("server", "x", "n", |_| {});
    world.pod("job", "x", "n", |spec| {
        spec.restart_policy = RestartPolicy::Never
    });
    world.pod("init", "x", "n", |spec| {
        spec.init_containers = vec![Container::default()];
    });
    for name in ["server", "job", "init"] {
        world.start(name);
    }
    world.rest();
    let exits: Vec<_> = world
        .heard
        .iter()
        .map(|(_, event)| match event {
            RuntimeEvent::Exited {
                container, code, ..
            } => (container.pod, *code),
            other => panic!("{other:?}"),
        })
        .collect();
    let (job, init) = (world.id("job").pod, world.id("init").pod);
    assert_eq!(exits, [(init, 0), (job, 0)]);
}

#[test]
fn probes_and_hooks_follow_the_process() {
    let exec = Action::Exec(vec![Text::from("true")]);
    let tcp = Action::TcpSocket { port: 8080 };
    let mut world = World::web(1, 1, model("web", ms(2)));
    for action in [&exec, &tcp] {
        world.probe("web-0", 0, action);
    }
    let id = world.id("web-0");
    world.with_out(|plane, now, out| plane.hook(id, Hook::PostStart, &exec, now, out));
    world.until(at(2_000));
    world.probe("web-0", 1, &exec);
    world.with_out(|plane, now, out| plane.freeze(id, true, now, out));
    world.probe("web-0", 2, &exec);
    world.until(at(5_500));
    world.with_out(|plane, now, out| plane.freeze(id, false, now, out));
    world.until(at(7_000));
    world.signal("web-0", Signal::Kill);
    world.probe("web-0", 3, &tcp);
    world.rest();
    let outcomes: Vec<_> = world
        .heard
        .iter()
        .filter_map(|(when, event)| match event {
            RuntimeEvent::Probed { outcome, n, .. } => {
                Some((when.as_nanos() / 1_000_000, *n, *outcome))
            }
            _ => None,
        })
        .collect();
    let (refused, success) = (ProbeOutcome::Refused, ProbeOutcome::Success);
    let expected = [
        (0, 0, refused),
        (1, 0, refused),
        // frozen at 2,000: both are answered when the threads run again
        (6_001, 1, success),
        (6_001, 2, success),
        (7_000, 3, refused),
    ];
    assert_eq!(outcomes, expected);
    assert!(heard(&world).contains("20 hook true"), "{}", heard(&world));
}

#[test]
fn a_node_without_power_tells_nobody_and_comes_back_empty() {
    let mut world = World::web(1, 2, model("web", ms(2)));
    let client = Client {
        connections: 10,
        timeout: Duration::from_secs(1),
        ..Client::default()
    };
    world.add(&traffic("web", 100, 20, client));
    world.until(at(5_000));
    world.probe("web-0", 0, &Action::TcpSocket { port: 8080 });
    world.with_out(|plane, now, _| plane.node_power("web-node-0", false, now));
    world.endpoints("web", "web-0:n web-1");
    world.until(at(10_000));
    world.with_out(|plane, now, _| plane.node_power("web-node-0", true, now));
    world.until(at(11_000));
    assert_eq!(heard(&world), "");
    // Connections to the dead node are given up one by one, each after its first timeout.
    let failed = world.tally().failed;
    assert!((1..=30).contains(&failed), "{failed}");
    world.start("web-0");
    world.endpoints("web", "web-0 web-1");
    world.rest();
    assert_eq!(world.tally().failed, failed);
    assert_eq!(world.tally().in_flight(), 0);
}

#[test]
fn memory_of_pods_and_nodes_is_reported() {
    let mut world = World::web(1, 1, model("web", ms(2)));
    world.with_out(|plane, now, out| {
        plane.on_call(
            "web-node-0",
            &crate::kubelet::runtime::Call::Stats,
            now,
            out,
        );
    });
    let kib: Vec<_> = world
        .heard
        .iter()
        .map(|(_, event)| match event {
            RuntimeEvent::PodMemory { kib, .. } => *kib,
            RuntimeEvent::NodeMemory { available_kib, .. } => *available_kib,
            other => panic!("{other:?}"),
        })
        .collect();
    // 64 MiB by default, of 16 GiB
    assert_eq!(kib, [64 << 10, (16 << 20) - (64 << 10)]);
}

#[test]
fn a_probe_finds_somebody_only_where_somebody_listens() {
    let http = |port| Action::HttpGet {
        path: "/".into(),
        port,
        https: false,
        host: Text::default(),
    };
    let tcp = |port| Action::TcpSocket { port };
    let (success, refused) = (ProbeOutcome::Success, ProbeOutcome::Refused);
    // The container declares 8080; its model may say otherwise. Port 0 is a name that is no port's.
    let table: [(&[u16], Action, ProbeOutcome); 8] = [
        (&[], tcp(8080), success),
        (&[], tcp(9090), refused),
        (&[], http(8080), success),
        (&[], http(9090), refused),
        (&[9090], tcp(8080), refused),
        (&[9090], tcp(9090), success),
        (&[9090], http(9090), success),
        (&[], tcp(0), ProbeOutcome::Unknown),
    ];
    for (ports, action, expected) in table {
        let mut app = model("web", ms(2));
        app.ports = ports.to_vec();
        let mut world = World::web(1, 1, app);
        world.until(at(2_000));
        world.probe("web-0", 0, &action);
        world.rest();
        let heard = world.heard.iter().find_map(|(_, event)| match event {
            RuntimeEvent::Probed { outcome, .. } => Some(*outcome),
            _ => None,
        });
        assert_eq!(heard, Some(expected), "{ports:?} {action:?}");
    }
}
