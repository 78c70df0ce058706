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
