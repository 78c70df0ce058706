//! Probes: when they run, what their results do.

use super::*;

const FAILS: ProbeOutcome = ProbeOutcome::Failure;
const WORKS: ProbeOutcome = ProbeOutcome::Success;

fn answers(list: &[(u64, u64, ProbeOutcome)]) -> Vec<(Duration, Duration, ProbeOutcome)> {
    let ms = Duration::from_millis;
    list.iter()
        .map(|(from, wait, outcome)| (ms(*from), ms(*wait), *outcome))
        .collect()
}

/// A pod `a` of one container `web` with these probes, on a machine that has been up for a while.
fn probed(
    probes: impl FnOnce(&mut Container),
    list: &[(u64, u64, ProbeOutcome)],
    until_s: u64,
) -> Machine {
    let mut m = Machine::booted();
    m.trace = true;
    m.script("web").answers = answers(list);
    let mut web = container("web");
    probes(&mut web);
    m.at(60_000, move |m| m.create(pod("a", vec![web])));
    m.run(60 + until_s);
    m
}

#[test]
fn readiness_is_probed_at_the_start_and_then_every_period() {
    // Not ready for its first 25 s.
    let list = [(0, 2, FAILS), (25_000, 2, WORKS)];
    let m = probed(|web| web.readiness = Some(probe(10, 3)), &list, 60);
    m.check_with(
        &["probe web", "a Running", "Unhealthy"],
        r#"
        61.605 probe web Readiness
        61.610 a Running web=running
        61.630 a Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 5…
        62.000 probe web Readiness
        62.007 a Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 5…
        72.000 probe web Readiness
        72.007 a Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 5…
        82.000 probe web Readiness
        82.007 a Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 5…
        92.000 probe web Readiness
        92.007 a Running Ready web=ready
        102.000 probe web Readiness
        112.000 probe web Readiness
        "#,
    );
}

#[test]
fn a_readiness_probe_fails_three_times_before_the_pod_is_unready() {
    let list = [(0, 2, WORKS), (20_000, 2, FAILS), (45_000, 2, WORKS)];
    let m = probed(|web| web.readiness = Some(probe(5, 3)), &list, 70);
    m.check_with(
        &["a Running", "Unhealthy"],
        r#"
        61.610 a Running web=running
        61.620 a Running Ready web=ready
        81.612 a Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 5…
        86.612 a Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 5…
        91.612 a Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 5…
        91.612 a Running web=running
        91.622 a Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 5…
        96.614 a Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 5…
        101.614 a Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: …
        106.614 a Running Ready web=ready
        "#,
    );
}

#[test]
fn an_initial_delay_counts_from_the_start_of_the_container() {
    let list = [(0, 2, WORKS)];
    let mut readiness = probe(4, 3);
    readiness.initial_delay_s = 10;
    let m = probed(|web| web.readiness = Some(readiness), &list, 30);
    m.check_with(
        &["Started", "probe web", "a Running"],
        r#"
        61.610 a Running web=running
        61.620 a Started: Container started
        74.000 probe web Readiness
        74.007 a Running Ready web=ready
        78.000 probe web Readiness
        82.000 probe web Readiness
        86.000 probe web Readiness
        90.000 probe web Readiness
        "#,
    );
}

#[test]
fn a_failing_liveness_probe_restarts_the_container() {
    let list = [(0, 2, WORKS), (20_000, 2, FAILS)];
    let m = probed(|web| web.liveness = Some(probe(10, 3)), &list, 70);
    m.check_with(
        &["a Running", "Unhealthy", "Killing", "Term", "Started"],
        r#"
        61.610 a Running Ready web=ready
        61.620 a Started: Container started
        90.312 a Unhealthy: Liveness probe failed: HTTP probe failed with statuscode: 50…
        100.312 a Unhealthy: Liveness probe failed: HTTP probe failed with statuscode: 5…
        110.307 Term web
        110.312 a Unhealthy: Liveness probe failed: HTTP probe failed with statuscode: 5…
        110.322 a Killing: Container web failed liveness probe, will be restarted
        110.462 a Running Ready web=ready/1
        110.472 a Started: Container started
        "#,
    );
}

#[test]
fn a_probe_has_its_own_grace_period() {
    let list = [(0, 2, FAILS)];
    let mut liveness = probe(1, 1);
    liveness.termination_grace_s = Some(5);
    let mut m = Machine::booted();
    m.script("web").answers = answers(&list);
    m.script("web").on_term = None;
    let mut web = container("web");
    web.liveness = Some(liveness);
    m.create(pod("a", vec![web]));
    m.run(12);
    m.check_with(
        &["Term", "Kill web"],
        r#"
        2.000 Term web
        7.000 Kill web
        8.000 Term web
        "#,
    );
}

#[test]
fn a_startup_probe_holds_the_others_back() {
    let list = [(0, 2, FAILS), (12_000, 2, WORKS)];
    let set = |web: &mut Container| {
        web.startup = Some(probe(5, 10));
        web.liveness = Some(probe(10, 1));
        web.readiness = Some(probe(10, 1));
    };
    let m = probed(set, &list, 50);
    m.check_with(
        &["probe web", "a Running", "Killing"],
        r#"
        61.610 a Running web=starting
        65.305 probe web Startup
        70.305 probe web Startup
        75.305 probe web Startup
        75.307 probe web Readiness
        75.312 a Running web=running
        75.322 a Running Ready web=ready
        80.305 probe web Liveness
        85.307 probe web Readiness
        90.305 probe web Liveness
        95.307 probe web Readiness
        100.305 probe web Liveness
        105.307 probe web Readiness
        "#,
    );
}

#[test]
fn a_startup_probe_that_never_succeeds_restarts_the_container() {
    let list = [(0, 2, FAILS)];
    let m = probed(|web| web.startup = Some(probe(5, 3)), &list, 30);
    m.check_with(
        &["probe web", "a Running", "Killing"],
        r#"
        61.610 a Running web=starting
        65.305 probe web Startup
        70.305 probe web Startup
        75.305 probe web Startup
        75.322 a Killing: Container web failed startup probe, will be restarted
        75.462 a Running web=starting/1
        80.305 probe web Startup
        85.305 probe web Startup
        "#,
    );
}

#[test]
fn late_and_lost_answers_are_failures_after_the_timeout() {
    // Answers take 3 s, the timeout is 1 s; then none comes at all.
    let list = [(0, 2, WORKS), (10_000, 3_000, WORKS)];
    let m = probed(|web| web.readiness = Some(probe(5, 2)), &list, 40);
    m.check_with(
        &["a Running", "Unhealthy"],
        r#"
        61.610 a Running web=running
        61.620 a Running Ready web=ready
        72.610 a Unhealthy: Readiness probe failed: Get "http://10.0.0.2:80/": context d…
        77.610 a Unhealthy: Readiness probe failed: Get "http://10.0.0.2:80/": context d…
        77.610 a Running web=running
        78.610 a Unhealthy: Readiness probe failed: Get "http://10.0.0.2:80/": context d…
        83.610 a Unhealthy: Readiness probe failed: Get "http://10.0.0.2:80/": context d…
        88.610 a Unhealthy: Readiness probe failed: Get "http://10.0.0.2:80/": context d…
        93.610 a Unhealthy: Readiness probe failed: Get "http://10.0.0.2:80/": context d…
        98.610 a Unhealthy: Readiness probe failed: Get "http://10.0.0.2:80/": context d…
        "#,
    );
    let mut m = Machine::booted();
    m.script("web").answers = Vec::new();
    let mut web = container("web");
    web.liveness = Some(probe(10, 3));
    m.create(pod("a", vec![web]));
    m.run(60);
    m.check_with(
        &["Unhealthy", "Killing"],
        r#"
        4.547 a Unhealthy: Liveness probe failed: Get "http://10.0.0.2:80/": context dea…
        14.547 a Unhealthy: Liveness probe failed: Get "http://10.0.0.2:80/": context de…
        24.547 a Unhealthy: Liveness probe failed: Get "http://10.0.0.2:80/": context de…
        24.557 a Killing: Container web failed liveness probe, will be restarted
        34.547 a Unhealthy: Liveness probe failed: Get "http://10.0.0.2:80/": context de…
        44.547 a Unhealthy: Liveness probe failed: Get "http://10.0.0.2:80/": context de…
        54.547 a Unhealthy: Liveness probe failed: Get "http://10.0.0.2:80/": context de…
        54.557 a Killing: Container web failed liveness probe, will be restarted
        "#,
    );
}

#[test]
fn probes_of_a_kubelet_that_just_started_are_spread_over_their_period() {
    let mut m = Machine::booted();
    m.trace = true;
    for name in ["a", "b", "c"] {
        let mut web = container(name);
        web.liveness = Some(probe(30, 3));
        m.create(pod(&format!("pod-{name}"), vec![web]));
    }
    m.run(60);
    m.check_with(
        &["probe"],
        r#"
        6.387 probe b Liveness
        18.608 probe a Liveness
        30.545 probe c Liveness
        36.387 probe b Liveness
        48.608 probe a Liveness
        "#,
    );
}
