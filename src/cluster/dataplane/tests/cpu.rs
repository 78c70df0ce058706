//! What CPU quotas do to requests (G06), and to probes that share their threads (G04).

use super::*;
use crate::kubelet::runtime::ProbeOutcome;

fn limited(cpu_milli: i64, model: AppModel) -> World {
    let mut world = World::new(1);
    world.plane.add_model(model);
    world.service("web", |_| {});
    world.node("n", "a");
    world.pod("web-0", "web", "n", |spec| {
        spec.containers[0].limits.cpu_milli = cpu_milli;
    });
    world.start("web-0");
    world.endpoints("web", "web-0");
    world
}

#[test]
fn a_quota_stretches_a_request_as_the_kernel_does() {
    // limit, CPU of one request, threads, expected ms
    let table = [
        (0, 50, 1, 50.0),
        // 20 + 20 + 10 ms in three periods of 100 ms
        (200, 50, 1, 210.0),
        // 8 threads with 50 ms each at 2 cores: 200 ms of quota in 25 ms, the rest 100 ms later
        (2_000, 400, 8, 125.0),
    ];
    for (limit, cpu, threads, expected) in table {
        let mut web = model("web", ms(cpu));
        web.request.threads = threads;
        let mut world = limited(limit, web);
        world.add(&traffic("web", 1, 1, fresh(Duration::from_secs(5))));
        world.rest();
        // and the network: handshake, request, answer, 4 × 0.6 ms ± 10 %
        let took = world.tally().max_latency().as_secs_f64() * 1e3 - expected;
        assert!((2.1..2.7).contains(&took), "limit {limit}: {took}");
    }
}

#[test]
fn an_idle_looking_service_is_throttled() {
    // 8 requests per second of 10 ms: 80 ms of CPU in each second, 40 % of 200m; but all eight come
    // at once, and 80 ms take four periods.
    let mut world = limited(200, model("web", ms(10)));
    let mut bursts = traffic("web", 8, 10, fresh(Duration::from_secs(5)));
    bursts.executor = Executor::ConstantVus {
        vus: 8,
        duration: Duration::from_secs(10),
        pause: Duration::from_millis(700),
    };
    world.add(&bursts);
    world.rest();
    let throttled = world.tally().latency(0.99);
    assert!(throttled > ms(300), "{throttled:?}");
    let mut free = limited(0, model("web", ms(10)));
    free.add(&bursts);
    free.rest();
    assert!(free.tally().latency(0.99) < ms(14));
}

#[test]
fn probes_wait_behind_requests_unless_they_have_their_own_way() {
    // One place, 2 s of work for each request: the probe is answered after the request.
    for (share, outcome_after) in [(true, 1_500u64), (false, 0)] {
        let mut web = model("web", Duration::from_secs(2));
        web.request.concurrency = 1;
        web.probes.share = share;
        let mut world = limited(0, web);
        world.add(&traffic("web", 1, 1, fresh(Duration::from_secs(9))));
        world.until(at(2_500));
        let get = Action::HttpGet {
            path: Text::from("/"),
            port: 8080,
            https: false,
            host: Text::default(),
        };
        world.probe("web-0", 0, &get);
        world.probe("web-0", 1, &Action::TcpSocket { port: 8080 });
        world.rest();
        let probed: Vec<_> = world
            .heard
            .iter()
            .filter_map(|(when, event)| match event {
                RuntimeEvent::Probed { n, outcome, .. } => {
                    assert_eq!(*outcome, ProbeOutcome::Success);
                    Some((*n, (*when - at(2_500)).as_millis() as u64))
                }
                _ => None,
            })
            .collect();
        let of = |n: u8| probed.iter().find(|p| p.0 == n).unwrap().1;
        assert!(of(0).abs_diff(outcome_after) < 10, "{share}: {probed:?}");
        assert_eq!(of(1), 0, "a connection is accepted at once");
    }
}
