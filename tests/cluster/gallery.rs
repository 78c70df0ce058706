//! Stories of the gallery, bad and fixed, over three seeds: their numbers follow from the formulas
//! in the scenarios' headers.

use std::path::Path;

use rehearsal::check::run::{RunOptions, run};
use rehearsal::engine::Time;
use rehearsal::record::{NodeMarkKind, RunRecord};
use rehearsal::scenario::{LoadOptions, load};

mod autoscaling;
mod control_plane;
mod operations;
mod overload;

const SEEDS: [u64; 3] = [1, 2, 3];

fn play(name: &str, seed: u64) -> RunRecord {
    let file = format!("scenarios/gallery/{name}.yaml");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let options = LoadOptions {
        seed: Some(seed),
        ..LoadOptions::default()
    };
    let loaded =
        load(&[path], &options).unwrap_or_else(|rejected| panic!("{}", rejected.render(false)));
    let mut options = RunOptions {
        stop: &mut |_, _| false,
        arguments: Vec::new(),
    };
    let finished = run(&loaded.scenarios[0], &mut options);
    finished.unwrap_or_else(|error| panic!("{error:?}")).record
}

fn failed_checks(record: &RunRecord) -> Vec<&str> {
    let failed = record.checks.iter().filter(|check| !check.passed);
    failed.map(|check| check.name.as_str()).collect()
}

fn seconds(from: Time, to: Time) -> f64 {
    to.since(from).as_secs_f64()
}

fn assert_within(what: &str, value: f64, from: f64, to: f64) {
    assert!(
        (from..=to).contains(&value),
        "{what}: {value} is not in {from} to {to}"
    );
}

/// Failures of the users' Traffic lie in a range, give or take five standard deviations of a count.
fn assert_failures(record: &RunRecord, from: f64, to: f64) {
    let failed = record.traffic[0].failed as f64;
    let what = format!("failures of seed {}", record.header.seed);
    assert_within(
        &what,
        failed,
        from - 5.0 * from.sqrt(),
        to + 5.0 * to.sqrt(),
    );
}

/// How long the rollout waited for took, in seconds.
fn rollout(record: &RunRecord) -> f64 {
    let check = record.checks.iter().find(|c| c.name == "rollout completes");
    check.and_then(|c| c.at_s).expect("the rollout completes")
}

/// When the first fault began.
fn loss(record: &RunRecord) -> Time {
    record.faults[0].at
}

#[test]
fn g01_pods_that_leave_at_once_lose_what_the_rules_still_send_them() {
    for seed in SEEDS {
        // 10 pods x 50 rps x the mean delay of the rules, up to 1 s.
        let bad = play("G01-deploy-502s.bad", seed);
        assert_eq!(failed_checks(&bad), ["http_req_failed"]);
        assert_eq!(bad.traffic[0].sent, 150_000);
        assert_failures(&bad, 1.0, 500.0);
        assert!(bad.traffic[0].failed > 0);
        let class = "terminating endpoint: SIGTERM race";
        assert!(bad.traffic[0].groups.iter().all(|g| g.class == class));

        let fixed = play("G01-deploy-502s.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        assert_eq!(fixed.traffic[0].failed, 0);
    }
}

/// Asserts the order of a node's loss; returns its seconds until NotReady.
fn assert_node_loss(record: &RunRecord, grace: f64, tolerated: f64) -> f64 {
    let unknown = |m: &&rehearsal::record::NodeMark| m.what == NodeMarkKind::Unknown;
    let mark = record.nodes.iter().find(unknown).expect("a node is lost");
    // The last renewal is seen up to 5 s late, and the tenth look after that finds the node silent.
    let age = seconds(mark.last_lease.expect("a lease"), mark.at);
    println!("seed {}: the lease was {age:.3} s old", record.header.seed);
    assert_within("age of the lease", age, grace, grace + 5.5);
    // The pod turns unready with its node, and the endpoint goes with it.
    let points = &record.endpoints["default/web"];
    let drop = points.iter().find(|p| p.at >= loss(record) && p.ready == 2);
    let drop = drop.expect("an endpoint goes").at;
    assert_within("NotReady to endpoints", seconds(mark.at, drop), 0.0, 2.0);
    let on_it = |p: &&rehearsal::record::PodLife| p.node == mark.node && p.terminating.is_some();
    let pod = record.pods.iter().find(on_it).expect("a pod is evicted");
    let waited = seconds(mark.at, pod.terminating.expect("it is terminating"));
    assert_within("NotReady to eviction", waited, tolerated, tolerated + 1.0);
    seconds(loss(record), mark.at)
}

#[test]
fn g03_a_third_of_the_requests_hangs_until_the_dead_endpoint_goes() {
    for seed in SEEDS {
        let bad = play("G03-node-dies.bad", seed);
        let wanted = ["three serve again within 100 s", "http_req_failed"];
        assert_eq!(failed_checks(&bad), wanted);
        let until = assert_node_loss(&bad, 40.0, 300.0);
        assert_within("loss to NotReady", until, 30.0, 45.0);
        // 500 rps x 1/3; up to 1 s more until the rules follow.
        assert_failures(&bad, 500.0 / 3.0 * until, 500.0 / 3.0 * (until + 1.0));

        let fixed = play("G03-node-dies.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        let until = assert_node_loss(&fixed, 40.0, 30.0);
        // The one retry, 1 s later, meets the dead endpoint again one time in three: what is sent
        // in the last second before the rules change escapes.
        assert_failures(
            &fixed,
            500.0 / 9.0 * (until - 1.0),
            500.0 / 9.0 * (until + 1.0),
        );
    }
}

#[test]
fn g05_a_fourth_pod_finds_no_fourth_node_until_the_deadline() {
    for seed in SEEDS {
        let bad = play("G05-rollout-deadlock.bad", seed);
        let wanted = ["rollout completes", "the deadline is never reached"];
        assert_eq!(failed_checks(&bad), wanted);
        let pending: Vec<_> = bad.pods.iter().filter(|p| p.scheduled.is_none()).collect();
        assert_eq!(pending.len(), 1);
        // progressDeadlineSeconds is 600; whole seconds, so up to 2 s late.
        let late = bad.causes.iter().find(|entry| {
            matches!(&entry.what, rehearsal::record::What::Progress(reason)
                if reason == "ProgressDeadlineExceeded")
        });
        let late = late.expect("the deadline is reached").at;
        assert_within("deadline", seconds(pending[0].created, late), 600.0, 602.0);
        assert_eq!(
            bad.endpoints["default/web"].last().map(|p| p.ready),
            Some(3)
        );

        // Three times pull 1 s, start 2 s; with stop and probe up to 3 s more each.
        let fixed = play("G05-rollout-deadlock.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        assert_within("rollout", rollout(&fixed), 9.0, 18.0);
    }
}

#[test]
fn g07_without_a_probe_every_new_pod_refuses_while_it_starts() {
    for seed in SEEDS {
        // 10 pods x 50 rps x 20 s, less the up to 1 s that the rules are late.
        let bad = play("G07-no-readiness.bad", seed);
        assert_eq!(failed_checks(&bad), ["http_req_failed"]);
        assert_failures(&bad, 9_500.0, 10_000.0);

        // Four waves of 20 s to 25 s, with pull and sandbox up to 5 s more each.
        let fixed = play("G07-no-readiness.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        assert_eq!(fixed.traffic[0].failed, 0);
        assert_within("rollout", rollout(&fixed), 80.0, 120.0);
    }
}

#[test]
fn g16_in_a_disrupted_zone_nothing_moves_until_the_nodes_are_deleted() {
    for seed in SEEDS {
        let bad = play("G16-three-of-five-down.bad", seed);
        assert_eq!(failed_checks(&bad), ["all ten run on the two nodes left"]);
        let unknown = |m: &&rehearsal::record::NodeMark| m.what == NodeMarkKind::Unknown;
        let lost: Vec<_> = bad.nodes.iter().filter(unknown).collect();
        assert_eq!(lost.len(), 3);
        for mark in lost {
            assert_within("loss to NotReady", seconds(loss(&bad), mark.at), 40.0, 60.0);
        }
        let evicted = bad.pods.iter().filter(|p| p.terminating.is_some()).count();
        assert!(
            [0, 2, 4].contains(&evicted),
            "{evicted} of 6 lost pods are replaced"
        );

        // A look every 20 s and 40 s of quarantine, then start-up.
        let fixed = play("G16-three-of-five-down.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        let removed = |m: &&rehearsal::record::NodeMark| m.what == NodeMarkKind::Removed;
        let removed = fixed
            .nodes
            .iter()
            .find(removed)
            .expect("a node is deleted")
            .at;
        let gone: Vec<f64> = (fixed.pods.iter())
            .filter_map(|p| Some(seconds(removed, p.gone?)))
            .collect();
        assert_eq!(gone.len(), 6);
        for after in gone {
            assert_within("deletion to collection", after, 40.0, 80.0);
        }
    }
}

/// When the n-th pod of this name was created and became ready, in seconds of the run.
fn life(record: &RunRecord, name: &str, nth: usize) -> Option<(f64, Option<f64>)> {
    let pod = record.pods.iter().filter(|p| p.name == name).nth(nth)?;
    let begun = record.header.begun;
    let ready = pod.ready.map(|at| seconds(begun, at));
    Some((seconds(begun, pod.created), ready))
}

#[test]
fn g14_a_stateful_set_does_not_leave_a_dead_node_until_somebody_says_that_it_is_dead() {
    for seed in SEEDS {
        let bad = play("G14-stateful-node-loss.bad", seed);
        assert_eq!(failed_checks(&bad), ["both run again"]);
        let lost = |p: &&rehearsal::record::PodLife| p.node == "db-1" && p.name.starts_with("db-");
        let name = bad
            .pods
            .iter()
            .find(lost)
            .expect("a pod was on db-1")
            .name
            .to_string();
        let pod = bad.pods.iter().find(lost).unwrap();
        // NotReady after 40-60 s, then 300 s; and it is there for ever.
        let marked = seconds(loss(&bad), pod.terminating.expect("it is marked"));
        assert_within("seconds until it is marked", marked, 340.0, 360.5);
        assert_eq!(pod.gone, None);
        assert!(life(&bad, &name, 1).is_none());

        let fixed = play("G14-stateful-node-loss.fixed", seed);
        assert_eq!(failed_checks(&fixed), Vec::<&str>::new());
        let (created, ready) = life(&fixed, &name, 1).expect("a new pod");
        // The taint comes at 240 s, the pod garbage collector within 20 s of it.
        assert_within("creation", created, 240.0, 260.5);
        // Detach 5 s, in use reported within 10 s, attach 8 s, pull and start 5 s, probed every 2 s.
        let ready = ready.expect("it gets ready");
        assert_within("until ready", ready - created, 18.0, 35.0);
    }
}

#[test]
fn g33_a_surge_pod_waits_for_a_volume_that_the_old_pod_does_not_give_back() {
    for seed in SEEDS {
        let bad = play("G33-volume-rollout.bad", seed);
        assert_eq!(failed_checks(&bad), ["the rollout completes"]);
        let told = bad
            .events
            .iter()
            .filter(|e| e.reason == "FailedAttachVolume");
        let told: Vec<f64> = told.map(|e| seconds(bad.header.begun, e.at)).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_within("the error", told[0], 120.0, 121.0);

        let fixed = play("G33-volume-rollout.fixed", seed);
        assert_eq!(failed_checks(&fixed), Vec::<&str>::new());
        let ready = fixed.pods.iter().filter_map(|p| p.ready).max().unwrap();
        let gap = seconds(fixed.header.begun, ready) - 120.0;
        assert_within("gap", gap, 15.0, 45.0);
    }
}

#[test]
fn g14_a_volume_leaves_a_dead_node_six_minutes_after_its_pod() {
    for seed in SEEDS {
        let forced = play("G14-stateful-node-loss.forced", seed);
        let failed = ["it runs again within a minute"];
        assert_eq!(failed_checks(&forced), failed);
        let (created, ready) = life(&forced, "db-0", 1).expect("a new pod");
        assert_within("creation", created, 240.0, 240.5);
        // 360 s, detach 5 s, attach 8 s, pull and start 5 s, probed every 2 s.
        let ready = ready.expect("it gets ready") - created;
        assert_within("until ready", ready, 378.0, 383.0);
    }
}

/// Pods of an application, by the beginning of their names.
fn pods_of<'r>(record: &'r RunRecord, prefix: &str) -> Vec<&'r rehearsal::record::PodLife> {
    let pods = record.pods.iter();
    pods.filter(|p| p.name.starts_with(prefix)).collect()
}

/// How many pods of a workload each of the three zones has at the end; nodes have them in turn.
fn zones(record: &RunRecord, prefix: &str) -> [usize; 3] {
    let mut zones = [0; 3];
    for pod in pods_of(record, prefix).iter().filter(|p| p.gone.is_none()) {
        let node: usize = pod.node.rsplit('-').next().unwrap().parse().unwrap();
        zones[node % 3] += 1;
    }
    zones.sort_unstable();
    zones
}

#[test]
fn g19_a_spread_that_counts_the_old_pods_is_none_of_the_new_ones() {
    for seed in SEEDS {
        let bad = play("G19-spread-after-rollout.bad", seed);
        assert_eq!(
            failed_checks(&bad),
            ["spread over the zones after the rollout"]
        );
        assert_eq!(zones(&bad, "web"), [1, 2, 3], "seed {seed}");
        let fixed = play("G19-spread-after-rollout.fixed", seed);
        assert!(failed_checks(&fixed).is_empty());
        assert_eq!(zones(&fixed, "web"), [2, 2, 2], "seed {seed}");
    }
}

#[test]
fn g31_pods_that_request_nothing_take_one_node_after_the_other() {
    for seed in SEEDS {
        let bad = play("G31-memory-cascade.bad", seed);
        assert_eq!(
            failed_checks(&bad),
            ["nobody is evicted from a second node"]
        );
        let pressed = |record: &RunRecord| -> Vec<(String, f64)> {
            let told = record.events.iter();
            told.filter(|e| e.reason == "EvictionThresholdMet")
                .map(|e| (e.name.to_string(), seconds(record.header.begun, e.at)))
                .collect()
        };
        let nodes = pressed(&bad);
        // The caches have run for a few seconds when the run begins, and looks come every 10 s:
        // 475 s after their start, 240 s and 120 s after the one before.
        assert_within("the first", nodes[0].1, 465.0, 488.0);
        assert_within("the second", nodes[1].1 - nodes[0].1, 225.0, 255.0);
        assert_within("the third", nodes[2].1 - nodes[1].1, 105.0, 135.0);
        let mut names: Vec<&str> = nodes[..3].iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["web-0", "web-1", "web-2"]);
        let evicted = |prefix: &str| {
            let pods = pods_of(&bad, prefix);
            pods.iter().filter(|p| p.reason == "Evicted").count()
        };
        assert!(evicted("cache") >= 4);
        assert_eq!(evicted("api"), 0);
        let fixed = play("G31-memory-cascade.fixed", seed);
        assert!(failed_checks(&fixed).is_empty() && pressed(&fixed).is_empty());
        // 384 s and a restart at once, 384 s and a back-off of 10 s or 20 s: twice in 16 minutes
        let restarts = pods_of(&fixed, "cache").iter().map(|p| p.restarts).sum();
        assert_eq!((pods_of(&fixed, "cache").len(), restarts), (4, 8u32));
    }
}

#[test]
fn g25_a_cronjob_that_hangs_takes_the_cluster_in_twelve_minutes() {
    for seed in SEEDS {
        let bad = play("G25-cronjob-piles-up.bad", seed);
        let wanted = ["one report at a time", "the shop has six within a minute"];
        assert_eq!(failed_checks(&bad), wanted);
        // 30 minutes; 2 x 4 cores less 4 x 0.5 hold 12 x 0.5
        let reports = pods_of(&bad, "report-");
        assert_eq!(reports.len(), 30);
        let placed = reports.iter().filter(|p| p.scheduled.is_some()).count();
        assert_eq!(placed, 12);
        let web = pods_of(&bad, "web-");
        assert_eq!(web.iter().filter(|p| p.scheduled.is_none()).count(), 2);

        let fixed = play("G25-cronjob-piles-up.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        assert_eq!(pods_of(&fixed, "report-").len(), 30);
        let overdue = fixed
            .events
            .iter()
            .filter(|e| e.reason == "DeadlineExceeded");
        assert_within("ended by the deadline", overdue.count() as f64, 29.0, 30.0);
    }
}

#[test]
fn g26_after_a_hundred_missed_starts_one_is_made_at_once() {
    for seed in SEEDS {
        let bad = play("G26-hundred-missed.bad", seed);
        let fixed = play("G26-hundred-missed.fixed", seed);
        // The warning, and when the first pod came after the suspension ended.
        for (record, warnings, from, to) in [(&bad, 1, 0.0, 2.0), (&fixed, 0, 20.0, 60.0)] {
            assert_eq!(failed_checks(record), [""; 0]);
            let many = record
                .events
                .iter()
                .filter(|e| e.reason == "TooManyMissedTimes");
            assert_eq!(many.count(), warnings);
            let step = |word: &str| {
                let found = record.steps.iter().find(|step| step.text.contains(word));
                found.expect("the step is there").at
            };
            let (suspended, resumed) = (step("true"), step("false"));
            let pods = pods_of(record, "sync-");
            let quiet = |p: &&&rehearsal::record::PodLife| {
                p.created > suspended + std::time::Duration::from_secs(2)
            };
            let first = pods.iter().filter(quiet).map(|p| p.created).min();
            let first = first.expect("it runs again");
            assert_within("resumption to start", seconds(resumed, first), from, to);
        }
    }
}

#[test]
fn g27_a_code_that_will_not_change_need_not_fail_seven_times() {
    for seed in SEEDS {
        let bad = play("G27-too-many-pods.bad", seed);
        assert_eq!(failed_checks(&bad), ["it gives up within a minute"]);
        let pods = pods_of(&bad, "import-");
        assert_within("pods", pods.len() as f64, 10.0, 16.0);
        let alone = pods.iter().filter(|p| p.terminating.is_none()).count();
        assert!(alone >= 7, "{alone} failed by themselves");

        let fixed = play("G27-too-many-pods.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        assert_eq!(pods_of(&fixed, "import-").len(), 10);
    }
}

#[test]
fn g34_a_rollout_that_asks_for_no_time_proves_nothing() {
    let least = |record: &RunRecord| {
        let points = record.endpoints["default/web"].iter();
        let points = points.filter(|p| p.at > record.steps[0].at);
        points.map(|p| p.ready).min()
    };
    for seed in SEEDS {
        let bad = play("G34-min-ready-seconds.bad", seed);
        assert_eq!(failed_checks(&bad), ["nine serve"]);
        assert_eq!(least(&bad), Some(0), "all are down at once");

        let fixed = play("G34-min-ready-seconds.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        assert_eq!(least(&fixed), Some(9));
        // One pod of the new version, and no second.
        let new = fixed.pods.iter().filter(|p| p.image.ends_with(":2"));
        assert_eq!(new.count(), 1);
    }
}

#[test]
fn g35_a_crash_loop_waits_for_nobody() {
    for seed in SEEDS {
        let bad = play("G35-crash-loop.bad", seed);
        let check = "it serves within a minute of the database's return";
        assert_eq!(failed_checks(&bad), [check]);
        // Starts at 0, 1, 12, 33, 74, 155, 316 and 617 s, each wait up to half a minute longer.
        let app = pods_of(&bad, "app-");
        let app = app
            .iter()
            .max_by_key(|p| p.created)
            .expect("it was restarted");
        assert_eq!(app.restarts, 7);
        let until = seconds(
            app.started.expect("it started"),
            app.ready.expect("it serves"),
        );
        assert_within("first start to ready", until, 617.0, 745.0);

        let fixed = play("G35-crash-loop.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        let app = pods_of(&fixed, "app-");
        assert!(app.iter().all(|p| p.restarts == 0));
    }
}
