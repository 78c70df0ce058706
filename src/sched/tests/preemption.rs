//! Making room.

use super::*;

fn ranked(name: &str, cpu_milli: u32, priority: i32) -> Value {
    set(pod(name, cpu_milli), "/spec", "priority", json!(priority))
}

#[test]
fn a_pod_of_higher_priority_takes_the_place_of_a_lower_one() {
    let mut m = Machine::new();
    m.create(0, node("n1", 1));
    m.create(10, ranked("low", 800, 1));
    m.create(2_000, ranked("high", 800, 10));
    m.run(1_000);
    // The victim is asked to go at 2003 and gone a second later; its place is promised meanwhile.
    check(
        &m.run(9_000),
        "2002 high FailedScheduling: 0/1 nodes are available: 1 Insufficient cpu.
         2002 high nominated to \"n1\"
         2002 high PodScheduled=False: Unschedulable
         2002 low DisruptionTarget=True: PreemptionByScheduler
         2004 low is being deleted
         2006 low Preempted: Preempted by pod 00000000-0000-4000-8000-000000000003 on node n1
         3004 low gone
         3006 high on n1
         3006 high nominated to \"\"
         3008 high Scheduled: Successfully assigned default/high to n1",
    );
}

#[test]
fn equal_priority_is_not_preempted_nor_by_pods_that_never_preempt() {
    for (priority, policy) in [(1, "PreemptLowerPriority"), (10, "Never")] {
        let mut m = Machine::new();
        m.create(0, node("n1", 1));
        m.create(10, ranked("low", 800, 1));
        let object = ranked("other", 800, priority);
        m.create(
            2_000,
            set(object, "/spec", "preemptionPolicy", json!(policy)),
        );
        let lines = m.run(9_000);
        assert!(!lines.contains("low is being deleted"), "{lines}");
        assert!(lines.contains("preemption: "), "{lines}");
        assert_eq!(m.scheduler.waiting(), (0, 0, 1));
    }
}

#[test]
fn the_last_victim_goes_after_the_others() {
    let mut m = Machine::new();
    m.create(0, node("n1", 3));
    for name in ["a", "b", "c"] {
        m.create(10, ranked(name, 1000, 1));
    }
    m.create(2_000, ranked("high", 3000, 10));
    let lines = m.run(9_000);
    let deleted = lines.lines().filter(|l| l.contains("is being deleted"));
    let times: Vec<&str> = deleted
        .filter_map(|l| l.split_whitespace().next())
        .collect();
    // Condition at 2002, deletion at 2004; the last one's condition at 2006, its deletion at 2008.
    assert_eq!(times, ["2004", "2004", "2008"], "{lines}");
    assert_eq!(m.pod("high").1.node_name.as_deref(), Some("n1"));
}

#[test]
fn promised_room_is_kept_from_pods_of_lower_priority() {
    let mut m = Machine::new();
    m.grace_ms = 5_000;
    m.create(0, node("n1", 1));
    m.create(10, ranked("low", 800, 1));
    m.create(2_000, ranked("high", 800, 10));
    // It would fit beside the victim, but not beside the promise.
    m.create(3_000, ranked("middle", 300, 5));
    m.run(20_000);
    assert_eq!(m.pod("high").1.node_name.as_deref(), Some("n1"));
    assert_eq!(m.pod("middle").1.node_name, None);
}

/// Two nodes, full of low priority. `first` makes room for itself; `big`, which fits nowhere, keeps
/// the scheduler busy while the victim leaves, so that `first` backs off and `rival` goes first.
/// Returns the victims, and the promises that took the place of another one.
fn rivals(n: u32) -> (usize, usize) {
    let (first, rival) = (format!("first{n}"), format!("rival{n}"));
    let config = SchedulerConfig {
        cycle_cost: CycleCost {
            base: Duration::from_millis(4),
            per_node: Duration::ZERO,
        },
        ..SchedulerConfig::default()
    };
    let mut m = Machine::with(config);
    for n in 0..2 {
        m.create(0, node(&format!("n{n}"), 2));
    }
    for n in 0..4 {
        m.create(10, ranked(&format!("low{n}"), 1000, 1));
    }
    m.create(2_000, ranked(&first, 1000, 10));
    // The victim is asked to go at 2008, gone at 3008 and seen to be gone at 3009.
    m.create(3_006, ranked("big", 9000, 10));
    m.create(3_006, ranked(&rival, 1000, 10));
    let lines = m.run(60_000);
    for name in [&first, &rival] {
        assert!(m.pod(name).1.node_name.is_some(), "{lines}");
    }
    let count = |what: &str| lines.matches(what).count();
    let promises = count("nominated to \"n");
    (count("is being deleted"), promises - 2)
}

/// Why a pod may cost two victims, as it does upstream. `first` waits in back-off for its place on
/// the node that it was promised, and its victim is gone. `rival` finds as many victims there as on
/// the other node (one: the free place counts as taken by `first`), and may be promised the same
/// node. Now `first` has to fit beside that promise, which is of its own priority
/// (`RunFilterPluginsWithNominatedPods`), and does not: the second victim has not left, nor been
/// seen leaving (`PodEligibleToPreemptOthers`). So it makes room again: with the same victim, or
/// with another one on the other node.
#[test]
fn a_promise_to_a_rival_of_the_same_priority_may_cost_a_second_victim_and_nothing_else_does() {
    let outcomes: Vec<_> = (0..12).map(rivals).collect();
    for (victims, again) in &outcomes {
        assert_eq!(*victims, 2 + again, "{outcomes:?}");
    }
    let twice = outcomes.iter().filter(|(_, again)| *again == 1).count();
    // Two draws of one half each decide.
    assert!((1..=6).contains(&twice), "{outcomes:?}");
}

#[test]
fn promised_room_goes_to_a_pod_of_higher_priority() {
    let mut m = Machine::new();
    m.grace_ms = 5_000;
    m.create(0, node("n1", 1));
    m.create(10, ranked("low", 800, 1));
    m.create(2_000, ranked("middle", 800, 5));
    m.create(3_000, ranked("high", 800, 10));
    let lines = m.run(20_000);
    assert!(lines.contains("middle nominated to \"n1\""), "{lines}");
    // `prepareCandidateAsync` does not come to ending the promise: its victim is leaving already.
    assert_eq!(m.pod("high").1.node_name.as_deref(), Some("n1"), "{lines}");
    assert_eq!(m.pod("middle").1.node_name, None);
}

/// A victim that waits for its volumes is not deleted: its binding ends, and it is tried again.
#[test]
fn a_victim_in_pre_bind_goes_back_to_the_queue() {
    let mut m = Machine::new();
    m.create(0, node("n1", 1));
    let volumes = m.waiting_claim();
    m.create(10, set(ranked("low", 800, 1), "/spec", "volumes", volumes));
    m.create(2_000, ranked("high", 800, 10));
    let lines = m.run(9_000);
    assert!(!lines.contains("is being deleted"), "{lines}");
    assert!(lines.contains("(in kube-scheduler memory)"), "{lines}");
    assert_eq!(m.pod("high").1.node_name.as_deref(), Some("n1"), "{lines}");
    assert_eq!(m.pod("low").1.node_name, None);
}
