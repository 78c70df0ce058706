//! Stories with autoscalers: G09, G13, G15, G21, G22.

use rehearsal::record::RunRecord;

use super::{SEEDS, assert_failures, assert_within, failed_checks, play, seconds};

/// What the autoscaler asked for, with the seconds of the run.
fn sizes(record: &RunRecord) -> Vec<(f64, i32)> {
    let begun = record.header.begun;
    let told = record.events.iter();
    told.filter(|e| e.reason == "SuccessfulRescale" && e.at > begun)
        .map(|e| {
            let size = e.message.strip_prefix("New size: ").expect("a size");
            let size = size.split(';').next().expect("a number");
            (seconds(begun, e.at), size.parse().expect("a number"))
        })
        .collect()
}

fn replicas(record: &RunRecord) -> Vec<i32> {
    sizes(record).into_iter().map(|(_, n)| n).collect()
}

#[test]
fn g15_an_autoscaler_adds_a_quarter_at_a_time_to_pods_that_are_full() {
    for seed in SEEDS {
        let bad = play("G15-hpa-spike.bad", seed);
        let wanted = [
            "five serve within two minutes of the spike",
            "http_req_failed",
        ];
        assert_eq!(failed_checks(&bad), wanted);
        // ceil(2 x 1.25), ceil(3 x 1.25), ...; 100 rps are 71 % of seven.
        assert_eq!(replicas(&bad), [3, 4, 5, 7]);
        let sizes = sizes(&bad);
        assert_within("the first step", sizes[0].0, 120.0, 165.0);
        for pair in sizes.windows(2) {
            // Start 66 s at most, a sample of 15 s that is seen up to 20 s later, a sync of 15 s.
            assert_within("a step", pair[1].0 - pair[0].0, 75.0, 120.0);
        }
        // 60, 40 and 20 rps too many, for about 100 s each.
        assert_failures(&bad, 8_000.0, 13_000.0);

        let fixed = play("G15-hpa-spike.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        // Five sixths of what six pods can serve, chosen at random: now and then a queue is full.
        assert!(fixed.traffic[0].failed < 60);
        assert_eq!(replicas(&fixed).last(), Some(&10));
    }
}

#[test]
fn g09_an_apply_takes_the_pods_of_the_autoscaler_away() {
    for seed in SEEDS {
        let bad = play("G09-apply-resets-replicas.bad", seed);
        assert_eq!(
            failed_checks(&bad),
            ["minReplicas serve", "http_req_failed"]
        );
        let after = sizes(&bad);
        let after: Vec<&(f64, i32)> = after.iter().filter(|(at, _)| *at > 540.0).collect();
        assert_within("the repair", after[0].0, 540.0, 555.5);
        // The minimum, then twice as many, since what was recommended before still counts.
        assert_eq!((after[0].1, after[1].1), (4, 8));
        assert_failures(&bad, 1_860.0, 3_680.0);

        let fixed = play("G09-apply-resets-replicas.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        assert_eq!(fixed.traffic[0].failed, 0);
    }
}

#[test]
fn g21_hot_pods_bring_more_hot_pods() {
    for seed in SEEDS {
        let bad = play("G21-hpa-jvm.bad", seed);
        let check = "the load has not changed, nor have the replicas";
        assert_eq!(failed_checks(&bad), [check]);
        // Twice four, then maxReplicas.
        assert_eq!(replicas(&bad)[..2], [8, 10]);

        let fixed = play("G21-hpa-jvm.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        assert_eq!(replicas(&fixed), [0; 0]);
    }
}

#[test]
fn g22_one_container_without_a_request_blinds_the_autoscaler() {
    for seed in SEEDS {
        let bad = play("G22-hpa-blind.bad", seed);
        assert_eq!(
            failed_checks(&bad),
            ["eight serve the full load", "http_req_failed"]
        );
        assert_eq!(replicas(&bad), [0; 0]);
        let told = bad
            .events
            .iter()
            .filter(|e| e.reason == "FailedGetResourceMetric");
        let words = "missing request for cpu in container log-shipper of Pod shop-";
        assert!(told.clone().any(|e| e.message.contains(words)));
        assert!(told.count() > 0);
        // What is above 40 rps, less what waits.
        assert_failures(&bad, 24_650.0, 24_750.0);

        let fixed = play("G22-hpa-blind.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        assert_eq!(fixed.traffic[0].failed, 0);
        let most = replicas(&fixed).into_iter().max();
        assert_within("pods", f64::from(most.unwrap_or(0)), 8.0, 9.0);
    }
}

#[test]
fn g13_connections_that_never_end_keep_new_pods_idle() {
    for seed in SEEDS {
        let bad = play("G13-grpc-pins.bad", seed);
        assert_eq!(failed_checks(&bad), ["http_req_failed"]);
        assert_eq!(replicas(&bad), [3]);
        // 40 rps too many at the end, on the way 20 on average for 120 s.
        assert_failures(&bad, 18_800.0, 19_600.0);

        let fixed = play("G13-grpc-pins.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        let most = replicas(&fixed).into_iter().max();
        assert_within("pods", f64::from(most.unwrap_or(0)), 7.0, 8.0);
    }
}
