//! What HTTPChaos does to users, to probes, and to nobody else.

use std::collections::BTreeSet;

use super::*;
use crate::fault::HttpFault;
use crate::kubelet::runtime::ProbeOutcome;

fn requests() -> HttpFault {
    HttpFault {
        port: 8080,
        ..HttpFault::default()
    }
}

fn answers() -> HttpFault {
    HttpFault {
        response: true,
        ..requests()
    }
}

/// One pod with an error rate, and a proxy before it from the first request on.
fn proxied(what: HttpFault, errors_per_million: u32) -> World {
    let mut model = model("web", ms(2));
    model.request.errors_per_million = errors_per_million;
    let mut world = World::web(1, 1, model);
    let pods = BTreeSet::from([world.id("web-0").pod.0]);
    world.plane.add_http_fault(pods, what);
    world.add(&traffic("web", 10, 10, fresh(Duration::from_secs(1))));
    world
}

#[test]
fn requests_and_answers_are_aborted_delayed_and_renamed() {
    let abort = true;
    let late = ms(1_500);
    let path = |path: &str| Some(Text::from(path));
    let code = |code: u16| Some(code);
    let aborted = "ok 0; 100 reset (network fault, web-0)";
    // What the proxy does, how many of a million requests the application fails, what users see.
    let table = [
        (requests(), 0, "ok 100"),
        (
            HttpFault {
                abort,
                ..requests()
            },
            0,
            aborted,
        ),
        (HttpFault { abort, ..answers() }, 0, aborted),
        (
            HttpFault {
                delay: ms(300),
                ..requests()
            },
            0,
            "ok 100",
        ),
        (
            HttpFault {
                delay: late,
                ..requests()
            },
            0,
            "ok 0; 100 timeout (slower than the timeout, web-0)",
        ),
        (
            HttpFault {
                delay: late,
                ..answers()
            },
            0,
            "ok 0; 100 timeout (slower than the timeout, web-0)",
        ),
        (
            HttpFault {
                replace_code: code(503),
                ..answers()
            },
            0,
            "ok 0; 100 503 (network fault, web-0)",
        ),
        (
            HttpFault {
                replace_code: code(404),
                ..answers()
            },
            0,
            "ok 0; 100 500 (network fault, web-0)",
        ),
        // It makes failures look well, too.
        (
            HttpFault {
                replace_code: code(200),
                ..answers()
            },
            1_000_000,
            "ok 100",
        ),
        // Only what a rule takes is touched.
        (
            HttpFault {
                abort,
                code: code(500),
                ..answers()
            },
            0,
            "ok 100",
        ),
        (
            HttpFault {
                abort,
                code: code(500),
                ..answers()
            },
            1_000_000,
            aborted,
        ),
        (
            HttpFault {
                abort,
                port: 80,
                ..requests()
            },
            0,
            "ok 100",
        ),
        (
            HttpFault {
                abort,
                path: path("/api/*"),
                ..requests()
            },
            0,
            "ok 100",
        ),
        (
            HttpFault {
                abort,
                path: path("/*"),
                ..requests()
            },
            0,
            aborted,
        ),
        (
            HttpFault {
                abort,
                method: path("POST"),
                ..requests()
            },
            0,
            "ok 100",
        ),
        (
            HttpFault {
                abort,
                method: path("GET"),
                ..requests()
            },
            0,
            aborted,
        ),
    ];
    for (what, errors, expected) in table {
        let mut world = proxied(what.clone(), errors);
        world.rest();
        assert_eq!(world.story(), expected, "{what:?}");
        assert_eq!(world.plane.in_flight().0, 0, "{what:?}: nothing is left");
    }
}

#[test]
fn a_delay_comes_on_top_and_ends_with_the_fault() {
    for what in [requests(), answers()] {
        let delay = ms(300);
        let mut world = proxied(HttpFault { delay, ..what }, 0);
        world.until(at(5_999));
        let slow = world.tally().latency(0.5);
        // 300 ms, 2 ms of work, and the network four times.
        assert!((ms(303)..ms(308)).contains(&slow), "{slow:?}");
        world.plane.remove_http_fault(0);
        world.rest();
        // Requests from 2 s to 6 s were late, and those from 6 s to 12 s are not.
        let half = world.tally().latency(0.5);
        assert!(half < ms(10), "{half:?}");
        assert_eq!(world.story(), "ok 100");
    }
}

#[test]
fn http_probes_pass_the_proxy_and_others_do_not() {
    let what = HttpFault {
        abort: true,
        path: Some(Text::from("/ready")),
        ..requests()
    };
    let mut world = proxied(what, 0);
    world.until(at(2_500));
    let get = |path: &str| Action::HttpGet {
        path: Text::from(path),
        port: 8080,
        https: false,
        host: Text::default(),
    };
    world.probe("web-0", 0, &get("/ready"));
    world.probe("web-0", 1, &get("/live"));
    world.probe("web-0", 2, &Action::TcpSocket { port: 8080 });
    world.until(at(2_600));
    let mut outcomes: Vec<(u8, ProbeOutcome)> = Vec::new();
    for (_, event) in &world.heard {
        if let RuntimeEvent::Probed { n, outcome, .. } = event {
            outcomes.push((*n, *outcome));
        }
    }
    outcomes.sort_by_key(|(n, _)| *n);
    let expected = [
        (0, ProbeOutcome::Refused),
        (1, ProbeOutcome::Success),
        (2, ProbeOutcome::Success),
    ];
    assert_eq!(outcomes, expected);
}
