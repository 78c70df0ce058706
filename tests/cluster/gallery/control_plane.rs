//! Stories of what everybody shares: name servers, registries, the control plane. G28, G36, G38,
//! G46.

use std::time::Duration;

use rehearsal::record::RunRecord;
use rehearsal::report::explain;
use rehearsal::report::story::StoryOptions;

use super::{SEEDS, assert_failures, assert_within, failed_checks, loss, play};

#[test]
fn g28_ten_queries_where_two_are_needed() {
    for seed in SEEDS {
        let bad = play("G28-dns-meltdown.bad", seed);
        let wanted = ["name servers stay", "http_req_failed"];
        assert_eq!(failed_checks(&bad), wanted);
        let servers = bad.pods.iter().filter(|p| p.name.starts_with("coredns"));
        let exits = servers.flat_map(|p| &p.exits);
        let full = exits.filter(|(_, why, _)| *why == *"OOMKilled").count();
        assert!(full >= 3, "{full}");

        let fixed = play("G28-dns-meltdown.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        // Half of 150 rps for up to a second.
        assert_failures(&fixed, 1.0, 75.0);
    }
}

#[test]
fn g36_twenty_pulls_one_after_the_other() {
    for seed in SEEDS {
        let ready = |name: &str| {
            let record = play(name, seed);
            let last = record.pods.iter().filter_map(|p| p.ready).max();
            let created = record.pods.iter().map(|p| p.created).min();
            let took = last.zip(created).map(|(last, created)| last.since(created));
            (
                failed_checks(&record).len(),
                took.map_or(0.0, |t| t.as_secs_f64()),
            )
        };
        // 20 x 75 s, and the start of the last: 20 s to 40 s, and a probe.
        let (failed, last) = ready("G36-thundering-herd.bad");
        assert_eq!(failed, 1);
        assert_within("the last of the bad", last, 1_520.0, 1_550.0);
        let (failed, last) = ready("G36-thundering-herd.fixed");
        assert_eq!(failed, 0);
        assert_within("the last of the fixed", last, 20.0, 90.0);
    }
}

#[test]
fn g38_who_asks_a_webhook_that_is_gone_cannot_make_it_again() {
    for seed in SEEDS {
        let after = |record: &RunRecord| {
            let lost = loss(record);
            let created = record.pods.iter().filter(|pod| pod.created > lost);
            created.map(|pod| pod.name.to_string()).collect::<Vec<_>>()
        };
        let bad = play("G38-webhook-down.bad", seed);
        let wanted = ["web grows", "eight serve again", "the webhook is back"];
        assert_eq!(failed_checks(&bad), wanted);
        assert_eq!(after(&bad), [""; 0], "no pod a minute");
        let refused = bad.events.iter().filter(|e| e.reason == "FailedCreate");
        let words = refused.map(|e| e.message.as_str()).collect::<Vec<_>>();
        // The first tries wait for a dead pod, the others are refused by the Service's address.
        for why in [
            "?timeout=10s\": context deadline exceeded",
            ":443: connect: connection refused",
        ] {
            assert!(
                words.iter().any(|message| message.ends_with(why)),
                "{why}: {words:?}"
            );
        }

        let moment = Duration::from_secs(300);
        let why = explain::at(&bad, moment, &StoryOptions::default());
        let since = "since 02:30: kube-apiserver webhook validate.policy.example cannot be asked, so \
                     requests are refused: Post \"https://policy.policy-system.svc:443/";
        let whom = "refused so far: FailedCreate of ReplicaSet default/web-";
        assert!(why.contains(since) && why.contains(whom), "{why}");

        // Two that were asked for; what was on the lost node: one of the webhook, one or two of web.
        let fixed = play("G38-webhook-down.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        assert_within("replaced", after(&fixed).len() as f64, 4.0, 6.0);
    }
}

#[test]
fn g46_nobody_can_say_that_a_node_is_gone() {
    for seed in SEEDS {
        // A third of 90 rps for 605 s to 621 s.
        let bad = play("G46-api-down.bad", seed);
        let wanted = ["the node is given up in time", "http_req_failed"];
        assert_eq!(failed_checks(&bad), wanted);
        assert_failures(&bad, 18_150.0, 18_630.0);
        let kinds: Vec<&str> = bad
            .components
            .iter()
            .map(|c| c.component.as_str())
            .collect();
        assert_eq!(kinds.len(), 4, "{kinds:?}");

        // A third of 90 rps for 40 s to 57 s.
        let fixed = play("G46-api-down.fixed", seed);
        assert_eq!(failed_checks(&fixed), [""; 0]);
        assert_failures(&fixed, 1_200.0, 1_710.0);
        assert_eq!(fixed.components, []);
    }
}
