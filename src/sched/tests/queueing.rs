//! Who is tried when: gates, priorities, back-off, and which events wake whom.

use super::*;

#[test]
fn higher_priority_goes_first_then_first_come_first_served() {
    let mut m = Machine::new();
    for (name, priority) in [("low", 1), ("old", 5), ("high", 9), ("new", 5)] {
        let object = set(pod(name, 100), "/spec", "priority", json!(priority));
        m.create(10, object);
    }
    // No node yet: every pod fails once and backs off with an error, until 1 s.
    m.run(900);
    m.create(1_500, node("n1", 4));
    let lines = m.run(5_000);
    let order = lines.lines().filter(|l| l.contains(" on n1"));
    let order = order.filter(|l| !l.contains("Scheduled:"));
    let order: Vec<&str> = order.filter_map(|l| l.split_whitespace().nth(1)).collect();
    assert_eq!(order, ["high", "old", "new", "low"], "{lines}");
}

#[test]
fn a_gated_pod_waits_for_its_last_gate() {
    let mut m = Machine::new();
    m.create(0, node("n1", 4));
    let gates = json!([{"name": "example.com/ready"}]);
    m.create(
        10,
        set(pod("gated", 100), "/spec", "schedulingGates", gates),
    );
    check(&m.run(60_000), "");
    assert_eq!(m.scheduler.waiting(), (0, 0, 1));
    let (id, row) = m.pod("gated");
    let mut open = Pod::clone(row);
    let mut spec = crate::api::PodSpec::clone(&open.spec);
    spec.scheduling_gates.clear();
    open.spec = spec.into();
    m.script(61_000, Write::Update(id.into(), Row::from(open)));
    check(
        &m.run(70_000),
        "61002 gated on n1
         61004 gated Scheduled: Successfully assigned default/gated to n1",
    );
}

#[test]
fn pods_of_other_schedulers_are_left_alone() {
    let mut m = Machine::new();
    m.create(0, node("n1", 4));
    let object = set(pod("other", 100), "/spec", "schedulerName", json!("mine"));
    m.create(10, object);
    check(&m.run(10_000), "");
    assert_eq!(m.scheduler.waiting(), (0, 0, 0));
}

#[test]
fn an_affine_pod_is_woken_by_the_pod_that_it_wants() {
    let mut m = Machine::new();
    m.create(0, node("n1", 4));
    let near = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
        "labelSelector": {"matchLabels": {"app": "db"}},
        "topologyKey": "kubernetes.io/hostname"
    }]}});
    m.create(10, set(pod("web", 100), "/spec", "affinity", near));
    m.run(3_000);
    assert_eq!(m.scheduler.waiting(), (0, 0, 1));
    // A pod that it does not want changes nothing, the wanted one does.
    m.create(4_000, pod("cache", 100));
    let lines = m.run(6_000);
    assert!(!lines.contains("web"), "{lines}");
    m.create(7_000, pod("db", 100));
    let lines = m.run(8_500);
    assert!(lines.contains("7002 db on n1"), "{lines}");
    assert!(lines.contains("7004 web on n1"), "{lines}");
}

/// All taints of `n1` are removed at 4 s; what happens until 5 s.
fn untaint(m: &mut Machine) -> String {
    let (id, row) = m.store.view().nodes().find("", "n1").expect("the node");
    let remove = row.taints.clone();
    let write = Write::Patch {
        object: id.into(),
        uid: None,
        patch: Patch::NodeTaints {
            add: Vec::new(),
            remove,
        },
    };
    m.script(4_000, write);
    m.run(5_000)
}

#[test]
fn a_tainted_node_attracts_the_pod_when_the_taint_goes() {
    let mut m = Machine::new();
    let taints = json!([{"key": "team", "value": "a", "effect": "NoSchedule"}]);
    let tainted = set(node("n1", 4), "", "spec", json!({"taints": taints}));
    m.create(0, tainted);
    m.create(10, pod("web", 100));
    let lines = m.run(3_000);
    let message = "0/1 nodes are available: 1 node(s) had untolerated taint(s).";
    assert!(lines.contains(message), "{lines}");
    let lines = untaint(&mut m);
    assert!(lines.contains("4002 web on n1"), "{lines}");
}

#[test]
fn a_pod_that_no_event_wakes_is_tried_again_after_five_minutes() {
    let mut m = Machine::new();
    m.create(0, node("n1", 1));
    m.create(10, pod("big", 3000));
    let lines = m.run(600_000);
    let attempts = lines.lines().filter(|l| l.contains("FailedScheduling"));
    let times: Vec<&str> = attempts
        .filter_map(|l| l.split_whitespace().next())
        .collect();
    // Failed at 11 ms; the sweeps of every 30 s find it older than 300 s at 330 s. Then it has
    // failed at 330 s, and the sweep at 630 s would not find it older than 300 s.
    assert_eq!(times, ["12", "330001"], "{lines}");
}

#[test]
fn errors_back_off_for_one_to_ten_seconds() {
    let mut m = Machine::new();
    m.refuse_bindings = 6;
    m.create(0, node("n1", 1));
    m.create(10, pod("web", 800));
    let lines = m.run(100_000);
    let failed = lines.lines().filter(|l| l.contains("FailedScheduling"));
    let times: Vec<&str> = failed.filter_map(|l| l.split_whitespace().next()).collect();
    // 1, 2, 4, 8, 10, 10 s after the failure (the first at 13 ms), cut to whole seconds; what is
    // over by the second before is flushed at each second: 2, 5, 10, 19, 30, 41 s. A refusal is
    // reported 3 ms after its cycle.
    assert_eq!(
        times,
        ["14", "2003", "5003", "10003", "19003", "30003"],
        "{lines}"
    );
    assert!(lines.contains("41001 web on n1"), "{lines}");
}

#[test]
fn a_back_off_that_began_earlier_is_cut_short_first_and_priority_counts_within_a_second() {
    let mut m = Machine::new();
    m.create(0, node("n1", 1));
    for (ms, name, priority) in [(1_100, "low", 1), (2_100, "old", 5), (2_200, "high", 9)] {
        let object = set(pod(name, 1500), "/spec", "priority", json!(priority));
        m.create(ms, object);
    }
    // All were refused. The new node wakes them while they still back off: until 2, 3 and 3 s. With
    // nothing active they are taken early (`SchedulerPopFromBackoffQ`).
    m.create(2_500, node("n2", 8));
    let lines = m.run(2_900);
    let order = lines.lines().filter(|l| l.ends_with(" on n2"));
    let order: Vec<&str> = order.filter_map(|l| l.split_whitespace().nth(1)).collect();
    assert_eq!(order, ["low", "high", "old"], "{lines}");
}

#[test]
fn a_gated_pod_is_woken_neither_by_nodes_nor_after_five_minutes() {
    let mut m = Machine::new();
    let gates = json!([{"name": "example.com/ready"}]);
    m.create(
        10,
        set(pod("gated", 100), "/spec", "schedulingGates", gates),
    );
    m.create(1_000, node("n1", 4));
    check(&m.run(700_000), "");
    assert_eq!(m.scheduler.waiting(), (0, 0, 1));
}

#[test]
fn an_update_of_a_waiting_pod_is_an_event_for_that_pod_alone() {
    let mut m = Machine::new();
    let taints = json!([{"key": "team", "value": "a", "effect": "NoSchedule"}]);
    m.create(0, set(node("n1", 4), "", "spec", json!({"taints": taints})));
    m.create(10, pod("web", 100));
    m.create(20, pod("other", 100));
    m.run(2_000);
    assert_eq!(m.scheduler.waiting(), (0, 0, 2));
    let (id, row) = m.pod("web");
    let mut tolerant = Pod::clone(row);
    let mut spec = crate::api::PodSpec::clone(&tolerant.spec);
    let toleration = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"},
        "spec": {"containers": [{"name": "c", "image": "i"}],
            "tolerations": [{"key": "team", "operator": "Exists"}]}});
    let decoded = decode_json(&toleration, &DecodeContext::default()).expect("a valid pod");
    let Row::Pod(with) = decoded.row else {
        unreachable!("it is a pod")
    };
    spec.tolerations
        .extend(with.spec.tolerations.iter().cloned());
    tolerant.spec = spec.into();
    m.script(3_000, Write::Update(id.into(), Row::from(tolerant)));
    check(
        &m.run(10_000),
        "3002 web on n1
         3004 web Scheduled: Successfully assigned default/web to n1",
    );
    assert_eq!(m.scheduler.waiting(), (0, 0, 1));
}

/// `buildQueueingHintMap`, which answers kubernetes/kubernetes#109437: plugins that wait for new
/// nodes are woken by changed taints too, whatever they would say.
#[test]
fn a_changed_taint_wakes_pods_that_taints_did_not_stop() {
    let mut m = Machine::new();
    let taints = json!([{"key": "team", "value": "a", "effect": "PreferNoSchedule"}]);
    m.create(0, set(node("n1", 4), "", "spec", json!({"taints": taints})));
    m.create(10, pod("big", 5000));
    let told = |lines: &str| lines.matches("big FailedScheduling").count();
    assert_eq!(told(&m.run(3_000)), 1);
    let lines = untaint(&mut m);
    assert_eq!(told(&lines), 1, "{lines}");
}
