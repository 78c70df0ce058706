//! From pending to bound.

use super::*;

#[test]
fn a_pod_goes_to_the_emptier_node_and_is_reported() {
    let mut m = Machine::new();
    m.create(0, node("n1", 2));
    m.create(0, node("n2", 4));
    m.create(10, pod("web", 1000));
    // Created at 10, seen at 11, request at 12, answered at 13, reported at 14.
    check(
        &m.run(100),
        "12 web on n2
         14 web Scheduled: Successfully assigned default/web to n2",
    );
}

#[test]
fn a_pod_that_fits_nowhere_says_why_and_waits_for_a_node() {
    let mut m = Machine::new();
    m.create(0, node("n1", 2));
    m.create(10, pod("big", 3000));
    check(
        &m.run(5_000),
        "12 big FailedScheduling: 0/1 nodes are available: 1 Insufficient cpu. \
         no new claims to deallocate, preemption: 0/1 nodes are available: \
         1 Preemption is not helpful for scheduling.
         12 big PodScheduled=False: Unschedulable",
    );
    assert_eq!(m.scheduler.waiting(), (0, 0, 1));
    // A node that is too small is no reason to try again, a big one is, at once: the back-off of
    // 1 s is over.
    m.create(6_000, node("n2", 1));
    check(&m.run(7_000), "");
    m.create(8_000, node("n3", 4));
    check(
        &m.run(20_000),
        "8002 big on n3
         8004 big Scheduled: Successfully assigned default/big to n3",
    );
}

#[test]
fn a_cluster_without_nodes_says_so() {
    let mut m = Machine::new();
    m.create(10, pod("web", 100));
    let lines = m.run(500);
    check(
        &lines,
        "12 web FailedScheduling: no nodes available to schedule pods
         12 web PodScheduled=False: Unschedulable",
    );
}

#[test]
fn the_first_hundred_bindings_go_at_once_the_others_at_fifty_a_second() {
    let mut m = Machine::new();
    m.create(0, node("n1", 100));
    m.create(0, node("n2", 100));
    for i in 0..110 {
        m.create(10, pod(&format!("p{i:03}"), 10));
    }
    let lines = m.run(5_000);
    let bound: Vec<u64> = lines
        .lines()
        .filter(|l| l.contains(" on n") && !l.contains(':'))
        .map(|l| l.split_whitespace().next().expect("a time"))
        .map(|t| t.parse().expect("a number"))
        .collect();
    assert_eq!(bound.len(), 110);
    // 100 tokens, then one every 20 ms.
    assert_eq!((bound[0], bound[99]), (12, 12));
    assert_eq!((bound[100], bound[109]), (32, 212));
}

#[test]
fn a_cycle_takes_time_and_pods_wait_for_each_other() {
    let config = SchedulerConfig {
        cycle_cost: CycleCost {
            base: Duration::from_millis(5),
            per_node: Duration::from_millis(1),
        },
        ..SchedulerConfig::default()
    };
    let mut m = Machine::with(config);
    m.create(0, node("n1", 4));
    m.create(0, node("n2", 4));
    for name in ["a", "b"] {
        m.create(10, pod(name, 100));
    }
    let lines = m.run(100);
    let bound: Vec<&str> = lines.lines().filter(|l| l.contains(" on n")).collect();
    // Two nodes are tried: 7 ms each, from 11 on; the second pod is tried from 18 on.
    assert!(bound[0].trim().starts_with("19 a on"), "{lines}");
    assert!(bound[1].trim().starts_with("26 b on"), "{lines}");
}

#[test]
fn a_refused_binding_gives_the_place_back_and_is_tried_again() {
    let mut m = Machine::new();
    m.refuse_bindings = 1;
    m.create(0, node("n1", 1));
    m.create(10, pod("web", 800));
    // An error backs off for 1 s, rounded down to whole seconds (1 s after 13 ms: until 1 s), and
    // such pods are not taken early; at 2 s the back-off is over.
    check(
        &m.run(10_000),
        "14 web FailedScheduling: running Bind plugin \"DefaultBinder\": the API server did not \
         answer
         14 web PodScheduled=False: SchedulerError
         2001 web on n1
         2003 web Scheduled: Successfully assigned default/web to n1",
    );
}

#[test]
fn a_crash_forgets_what_was_decided_and_not_written() {
    let mut m = Machine::new();
    m.create(0, node("n1", 1));
    m.create(0, node("n2", 1));
    m.create(10, pod("a", 600));
    m.create(10, pod("huge", 5000));
    // The crash at 11 comes right after the decision; the requests are on their way and arrive.
    m.push(11 * MS + 1, Due::Crash);
    m.create(2_000, pod("b", 600));
    let lines = m.run(5_000);
    let on: Vec<&str> = lines.lines().filter(|l| l.contains(" on n")).collect();
    assert_eq!(on.len(), 2, "{lines}");
    let (a, b) = (
        m.pod("a").1.node_name.clone(),
        m.pod("b").1.node_name.clone(),
    );
    assert_ne!(a, b, "each node has room for one");
    assert_eq!(m.scheduler.waiting(), (0, 0, 1), "huge still waits");
}

#[test]
fn a_claim_that_waits_for_its_pod_is_provisioned_for_the_node_first() {
    let mut m = Machine::new();
    m.create(0, node("n1", 4));
    let volumes = m.waiting_claim();
    m.create(10, set(pod("db", 100), "/spec", "volumes", volumes));
    // It says at once where it is going to be.
    check(&m.run(3_000), "12 db nominated to \"n1\"");
    let claim = |m: &Machine| {
        let claims = m.store.view().of::<crate::api::PersistentVolumeClaim>();
        let (id, claim) = claims.find("default", "data").expect("the claim");
        (id, crate::api::PersistentVolumeClaim::clone(claim))
    };
    let (id, found) = claim(&m);
    let selected = found
        .meta
        .annotations
        .get("volume.kubernetes.io/selected-node");
    assert_eq!(selected.map(|n| n.as_str()), Some("n1"));
    // The volume controller binds the claim at 4 s; the scheduler looks every second after the
    // answer to its write.
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv-1"},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
            "csi": {"driver": "disk", "volumeHandle": "1"}
        }
    });
    m.create(3_999, volume);
    let mut bound = found.clone();
    bound.volume_name = "pv-1".into();
    let annotations = &bound.meta.annotations;
    bound.meta.annotations = annotations.with("pv.kubernetes.io/bind-completed", "yes");
    m.script(4_000, Write::Update(id.into(), Row::from(bound)));
    check(
        &m.run(10_000),
        "4014 db on n1
         4014 db nominated to \"\"
         4016 db Scheduled: Successfully assigned default/db to n1",
    );
}

#[test]
fn pods_that_have_ended_take_no_room() {
    let mut m = Machine::new();
    m.create(0, node("n1", 1));
    m.create(10, pod("job", 800));
    m.create(20, pod("next", 800));
    m.run(3_000);
    assert_eq!(m.scheduler.waiting(), (0, 0, 1));
    let (id, _) = m.pod("job");
    let patch = Patch::PodConditions {
        conditions: Vec::new(),
        phase: Some(Phase::Succeeded),
        reason: None,
    };
    let object = id.into();
    let uid = None;
    m.script(4_000, Write::Patch { object, uid, patch });
    let lines = m.run(10_000);
    assert!(lines.contains("4002 next on n1"), "{lines}");
}
