//! Stories of drains, placement, zones, priorities, quotas and rollbacks: G02, G10, G17, G20, G23,
//! G24, G29, G32.

use super::{SEEDS, assert_failures, assert_within, failed_checks, loss, play, pods_of, seconds};

#[test]
fn g02_two_thirds_of_three_are_three() {
    for seed in SEEDS {
        let bad = play("G02-budget-blocks-drain.bad", seed);
        assert_eq!(
            failed_checks(&bad),
            ["the node is empty within two minutes"]
        );
        let gone = pods_of(&bad, "web-")
            .iter()
            .any(|p| p.terminating.is_some());
        assert!(!gone, "every eviction is refused");

        let fixed = play("G02-budget-blocks-drain.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        let pods = pods_of(&fixed, "web-");
        assert_eq!(pods.iter().filter(|p| p.terminating.is_some()).count(), 1);
    }
}

#[test]
fn g10_three_replicas_on_the_node_that_was_there() {
    for seed in SEEDS {
        let bad = play("G10-all-on-one-node.bad", seed);
        let wanted = ["one always serves after the upgrade", "http_req_failed"];
        assert_eq!(failed_checks(&bad), wanted);
        let first = bad.pods.iter().take(3);
        assert!(first.clone().all(|p| p.node == "web-0"));
        // 60 rps until three others serve.
        assert_failures(&bad, 20_400.0, 22_200.0);

        let fixed = play("G10-all-on-one-node.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        // A third of 60 rps for 40 s to 61 s.
        assert_failures(&fixed, 800.0, 1_220.0);
    }
}

#[test]
fn g17_a_zone_is_evicted_a_node_every_ten_seconds() {
    for seed in SEEDS {
        let marked = |name: &str| {
            let record = play(name, seed);
            let gone = record.pods.iter().filter_map(|p| p.terminating);
            let mut gone: Vec<f64> = gone.map(|at| seconds(loss(&record), at)).collect();
            gone.sort_by(f64::total_cmp);
            let failed = failed_checks(&record).len();
            (gone, failed)
        };
        let (bad, failed) = marked("G17-dead-zone.bad");
        assert_eq!((bad.len(), failed), (20, 1));
        assert_within("the first", bad[0], 340.0, 372.0);
        assert_within("the last after the first", bad[19] - bad[0], 189.0, 191.0);
        let (fixed, failed) = marked("G17-dead-zone.fixed");
        assert_eq!((fixed.len(), failed), (20, 0));
        assert_within("the last after the first", fixed[19] - fixed[0], 18.0, 21.0);
    }
}

#[test]
fn g20_new_pods_push_out_their_own_peers() {
    for seed in SEEDS {
        let preempted = |name: &str| {
            let record = play(name, seed);
            let told = record
                .events
                .iter()
                .filter(|e| e.reason == "Preempted")
                .count();
            let failed: Vec<String> = failed_checks(&record)
                .iter()
                .map(|n| n.to_string())
                .collect();
            (told, failed)
        };
        let bad = preempted("G20-preemption-cascade.bad");
        assert_eq!(bad, (3, vec!["three ingest".to_owned()]));
        assert_eq!(preempted("G20-preemption-cascade.fixed"), (0, Vec::new()));
    }
}

#[test]
fn g23_a_quota_of_what_there_is_stalls_a_rollout_without_an_error() {
    for seed in SEEDS {
        let bad = play("G23-quota-stalls-rollout.bad", seed);
        assert_eq!(failed_checks(&bad), ["rollout completes"]);
        assert_eq!(bad.traffic[0].failed, 0);
        let refused = bad
            .events
            .iter()
            .filter(|e| e.message.contains("exceeded quota"));
        assert!(refused.count() > 1);

        let fixed = play("G23-quota-stalls-rollout.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        assert_eq!(fixed.traffic[0].failed, 0);
    }
}

#[test]
fn g24_a_quota_that_gets_free_wakes_nobody() {
    for seed in SEEDS {
        let created = |name: &str| {
            let record = play(name, seed);
            let new = record.pods.iter().filter(|p| p.image.ends_with(":2"));
            let mut at: Vec<f64> = new
                .map(|p| seconds(record.header.begun, p.created))
                .collect();
            at.sort_by(f64::total_cmp);
            at
        };
        // 5 ms doubling: the try after the one at 82 s is 163.8 s after the first.
        let bad = created("G24-quota-back-off.bad");
        assert_eq!(bad.len(), 4);
        assert_within("the first", bad[0], 223.8, 226.0);
        for pair in bad.windows(2) {
            assert_within("a step", pair[1] - pair[0], 167.0, 176.0);
        }
        let fixed = created("G24-quota-back-off.fixed");
        assert_within("the last", fixed[3], 70.0, 100.0);
    }
}

#[test]
fn g29_a_stateful_set_waits_for_the_member_that_it_should_replace() {
    for seed in SEEDS {
        let bad = play("G29-stateful-rollback.bad", seed);
        assert_eq!(
            failed_checks(&bad),
            ["three serve again within two minutes"]
        );
        let broken = |record: &rehearsal::record::RunRecord| {
            let last = pods_of(record, "db-2");
            last.last().expect("db-2").image.ends_with(":2")
        };
        assert!(broken(&bad), "it is there to the end");

        let fixed = play("G29-stateful-rollback.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        assert!(!broken(&fixed));
    }
}

#[test]
fn g32_volumes_that_are_made_at_once_are_made_anywhere() {
    for seed in SEEDS {
        let bad = play("G32-volume-in-wrong-zone.bad", seed);
        assert_eq!(
            failed_checks(&bad),
            ["six workers run within three minutes"]
        );
        let fixed = play("G32-volume-in-wrong-zone.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        let placed = pods_of(&fixed, "train-");
        assert!(placed.iter().all(|p| p.node.starts_with("large-")));
    }
}
