//! Stories of load, CPU, probes and where requests go: G04, G06, G08, G11, G12, G18, G30.

use rehearsal::record::RunRecord;

use super::{SEEDS, assert_failures, assert_within, failed_checks, play, pods_of};

/// A percentile of the durations of the users' requests, in milliseconds.
fn p99(record: &RunRecord) -> f64 {
    let check = record.checks.iter().find(|c| c.name == "http_req_duration");
    let detail = &check.expect("it is checked").detail;
    let got = detail.rsplit("got ").next().expect("a value");
    got.trim().parse().expect("a number")
}

#[test]
fn g04_a_liveness_probe_that_queues_restarts_what_is_only_busy() {
    for seed in SEEDS {
        let bad = play("G04-liveness-under-load.bad", seed);
        assert_eq!(
            failed_checks(&bad),
            ["nothing is restarted", "http_req_failed"]
        );
        let restarts: u32 = pods_of(&bad, "api-").iter().map(|p| p.restarts).sum();
        assert_within("restarts", f64::from(restarts), 4.0, 16.0);

        let fixed = play("G04-liveness-under-load.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        // 24 rps too many for 90 s, less what the queues of four pods take and lose again.
        assert_failures(&fixed, 2_050.0, 2_160.0);
    }
}

#[test]
fn g06_a_limit_stops_a_request_twice_on_an_idle_node() {
    for seed in SEEDS {
        let bad = play("G06-cpu-limit.bad", seed);
        assert_eq!(failed_checks(&bad), ["http_req_duration"]);
        let fixed = play("G06-cpu-limit.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        assert_within("50 ms and the way", p99(&fixed), 50.0, 56.0);
        assert!(p99(&bad) > 4.0 * p99(&fixed), "{}", p99(&bad));
    }
}

#[test]
fn g08_a_pod_that_is_ready_gets_its_share_at_once() {
    for seed in SEEDS {
        let bad = play("G08-cold-pods.bad", seed);
        assert_eq!(failed_checks(&bad), ["http_req_duration"]);
        let fixed = play("G08-cold-pods.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        assert!(p99(&bad) > 10.0 * p99(&fixed), "{}", p99(&bad));
        assert_within("as always", p99(&fixed), 20.0, 33.0);
    }
}

#[test]
fn g11_retries_keep_an_outage_alive_that_is_over() {
    for seed in SEEDS {
        let bad = play("G11-retry-storm.bad", seed);
        assert_eq!(failed_checks(&bad), ["http_req_failed"]);
        // 28 rps from the pause to the end, less the first seconds that are served.
        assert_failures(&bad, 16_500.0, 16_800.0);

        let fixed = play("G11-retry-storm.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        assert_failures(&fixed, 500.0, 620.0);
    }
}

#[test]
fn g12_one_stall_of_a_database_empties_the_service() {
    for seed in SEEDS {
        let bad = play("G12-readiness-asks-database.bad", seed);
        let wanted = ["all four are in the Service", "http_req_failed"];
        assert_eq!(failed_checks(&bad), wanted);
        assert_failures(&bad, 200.0, 1_750.0);
        let least = bad.endpoints["default/web"]
            .iter()
            .filter(|p| p.at > bad.header.begun);
        assert_eq!(least.map(|p| p.ready).min(), Some(0));

        let fixed = play("G12-readiness-asks-database.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        assert_eq!(fixed.traffic[0].failed, 0);
    }
}

#[test]
fn g18_healthy_pods_leave_the_service_when_nobody_hears_their_nodes() {
    for seed in SEEDS {
        let bad = play("G18-api-unreachable.bad", seed);
        assert_eq!(
            failed_checks(&bad),
            ["all six are in the Service", "http_req_failed"]
        );
        assert_failures(&bad, 6_000.0, 9_000.0);
        let gone = bad.pods.iter().filter(|p| p.terminating.is_some()).count();
        assert_eq!(gone, 0, "nothing is evicted");

        let fixed = play("G18-api-unreachable.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        assert_eq!(fixed.traffic[0].failed, 0);
    }
}

#[test]
fn g30_a_node_without_a_pod_drops_what_is_to_stay_local() {
    for seed in SEEDS {
        let bad = play("G30-local-traffic.bad", seed);
        assert_eq!(failed_checks(&bad), ["http_req_failed"]);
        assert_failures(&bad, 2_400.0, 2_400.0);
        let fixed = play("G30-local-traffic.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        assert_eq!(fixed.traffic[0].failed, 0);
    }
}
