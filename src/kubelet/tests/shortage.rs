//! Nodes that run short, make room for critical pods, or go down.

use super::*;
use crate::kubelet::eviction::Eviction;
use crate::kubelet::shutdown::spans;

fn own(all: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
    all.iter().map(own).collect()
}

fn sized(name: &str, cpu_milli: i64, memory: i64, priority: i32) -> Pod {
    let mut pod = pod(name, vec![container(name)]);
    let spec = Arc::make_mut(&mut pod.spec);
    spec.priority = priority;
    (spec.requests.cpu_milli, spec.requests.memory) = (cpu_milli, memory);
    let requests = spec.requests.clone();
    spec.containers[0].requests = requests;
    pod
}

fn node_says(m: &Machine) -> String {
    let (_, node) = m.store.view().nodes().find("", "n1").unwrap();
    let bad = node.status.conditions.iter().filter(|c| {
        (c.status == Truth::True) != (c.kind == crate::api::node::NodeConditionKind::Ready)
    });
    let words = bad.map(|c| format!("{:?}: {} ({})", c.kind, c.reason, c.message));
    words.collect::<Vec<_>>().join(", ")
}

/// After `eviction_manager_test.go :: TestMemoryPressure`, its soft threshold.
#[test]
fn for_a_soft_threshold_a_pod_gets_the_shorter_of_two_grace_periods() {
    let thresholds = Eviction::parse(
        &own(&[("memory.available", "100Mi")]),
        &own(&[("memory.available", "1Gi")]),
        &own(&[("memory.available", "30s")]),
        &[],
    );
    let mut m = Machine::new(KubeletConfig {
        stats: true,
        eviction: Eviction {
            thresholds: thresholds.unwrap(),
            transition: Duration::from_secs(60),
            max_grace_s: 5,
        },
        ..KubeletConfig::default()
    });
    m.boot(Boot::Reboot);
    // Neither hears SIGTERM; the less important one goes, though the other uses more.
    for (name, priority) in [("least", 0), ("most", 100)] {
        m.create(sized(name, 100, 1 << 20, priority));
        m.script(name).on_term = None;
    }
    m.at(15_000, |m| {
        let used = vec![(Id::new(0), 500 << 10), (Id::new(1), 900 << 10)];
        m.memory = (800 << 10, used);
    });
    m.at(55_000, |m| m.memory = (4 << 20, Vec::new()));
    m.run(57);
    // Seen at 20 s, due 30 s later, killed after 5 s.
    m.check_with(
        &["Term", "Kill ", "Failed"],
        r#"
        50.001 Term least
        55.001 Kill least
        55.057 least Failed(Evicted) least=Error(137)
        "#,
    );
    assert_eq!(
        node_says(&m),
        "MemoryPressure: KubeletHasInsufficientMemory (kubelet has insufficient memory available)"
    );
    m.run(140);
    assert_eq!(node_says(&m), "");
}

#[test]
fn a_node_under_disk_pressure_removes_images_first_and_takes_no_pods() {
    let mut m = Machine::new(KubeletConfig {
        stats: true,
        ..KubeletConfig::default()
    });
    // Images have 64 MiB each: two of 160 MiB leave 20 %, three leave nothing.
    Arc::make_mut(&mut m.kubelet.host.row)
        .status
        .capacity
        .ephemeral = 160 << 20;
    let (id, _) = m.store.view().nodes().find("", "n1").unwrap();
    let mut row = Node::clone(m.store.view().nodes().get(id).unwrap());
    row.status.capacity.ephemeral = 160 << 20;
    m.write(Write::UpdateStatus(id.into(), row.into()));
    m.boot(Boot::Reboot);
    m.memory = (4 << 20, Vec::new());
    m.create(sized("first", 100, 0, 0));
    m.create(sized("second", 100, 0, 0));
    m.at(9_000, |m| m.delete("first", None));
    m.at(12_000, |m| m.create(sized("third", 100, 0, 0)));
    // Full at the look of 20 s: the first image goes, which nobody uses, and nobody else must.
    m.at(21_000, |m| m.create(sized("fourth", 100, 0, 0)));
    m.run(40);
    m.check_with(
        &["Failed", "second Running", "third Running"],
        r#"
        2.610 second Running Ready second=ready
        9.110 first Failed first=Error(143) deleting
        13.610 third Running Ready third=ready
        21.010 fourth Failed(Evicted)
        "#,
    );
    assert_eq!(
        node_says(&m),
        "DiskPressure: KubeletHasDiskPressure (kubelet has disk pressure)"
    );
}

/// After `preemption_test.go :: TestEvictPodsToFreeRequests`.
#[test]
fn a_critical_pod_waits_for_those_that_make_room_for_it() {
    // Of 4,000 there are 500 left, so that 700 are missing: either pod would do, and the smaller one
    // goes. Nothing could make room for the last one: 8,700 are missing and 2,500 can be freed.
    let mut m = Machine::booted();
    m.create(sized("large", 2500, 0, 0));
    m.create(sized("small", 1000, 0, 0));
    m.script("small").on_term = Some(Duration::from_secs(3));
    m.at(10_000, |m| m.create(sized("core", 1200, 0, 2_000_000_000)));
    m.at(20_000, |m| m.create(sized("late", 2000, 0, 0)));
    m.at(21_000, |m| m.create(sized("huge", 9000, 0, 2_000_000_000)));
    m.run(40);
    m.check_with(
        &["Preempt", "OutOf", "Unexpected", "core Running"],
        r#"
        10.010 small Preempting: Preempted in order to admit critical pod
        13.060 small Failed(Preempting) small=Error(143)
        14.660 core Running Ready core=ready
        20.010 late OutOfcpu: Node didn't have enough resource: cpu, requested: 2000, us…
        20.010 late Failed(OutOfcpu)
        21.010 huge UnexpectedAdmissionError: Unexpected error while attempting to recov…
        21.010 huge Failed(UnexpectedAdmissionError)
        "#,
    );
    // A pod that the kubelet never took has none of its conditions.
    let (_, late) = m.store.view().pods().find("default", "late").unwrap();
    assert!(late.status.conditions.is_empty());
}

/// After `nodeshutdown_manager_linux_test.go :: TestManager`.
#[test]
fn a_node_that_is_shut_down_ends_ordinary_pods_first() {
    let seconds = Duration::from_secs;
    let mut m = Machine::new(KubeletConfig {
        shutdown: spans(seconds(30), seconds(10)),
        ..KubeletConfig::default()
    });
    m.boot(Boot::Reboot);
    m.create(sized("web", 100, 0, 0));
    m.create(sized("stubborn", 100, 0, 0));
    m.create(sized("core", 100, 0, 2_000_000_000));
    m.script("web").on_term = Some(seconds(2));
    m.script("stubborn").on_term = None;
    m.at(60_000, |m| {
        m.with(|kubelet, cx| {
            assert!(kubelet.shut_down(cx));
            assert!(!kubelet.may_go_down());
        });
    });
    m.at(61_000, |m| m.create(sized("new", 100, 0, 0)));
    m.run(70);
    assert_eq!(
        node_says(&m),
        "Ready: KubeletNotReady (node is shutting down)"
    );
    m.run(79);
    assert!(!m.kubelet.may_go_down());
    m.run(90);
    assert!(m.kubelet.may_go_down());
    m.check_with(
        &["Term", "Kill ", "Failed", "NodeShutdown"],
        r#"
        60.000 Term web
        60.000 Term stubborn
        61.010 new NodeShutdown: Pod was rejected as the node is shutting down.
        61.010 new Failed(NodeShutdown)
        62.055 web Failed(Terminated) web=Error(143)
        80.000 Term core
        80.000 Kill stubborn
        80.056 stubborn Failed(Terminated) stubborn=Error(137)
        80.105 core Failed(Terminated) core=Error(143)
        "#,
    );
    // Without time for it the machine goes down at once.
    let mut m = Machine::booted();
    m.with(|kubelet, cx| assert!(!kubelet.shut_down(cx)));
}

fn ousted(m: &Machine, name: &str) -> String {
    let (_, row) = m.store.view().pods().find("default", name).unwrap();
    let disrupted = crate::api::pod_status::PodConditionKind::DisruptionTarget;
    let disrupted = row.status.condition(&disrupted).is_some();
    let message = row.status.message.clone().unwrap_or_default();
    format!("{message}disrupted: {disrupted}")
}

/// After `eviction_manager_test.go :: TestPIDPressure_VerifyPodStatus` and
/// `helpers_test.go :: TestOrderedByPriorityProcess`.
#[test]
fn short_of_process_numbers_the_least_important_pod_goes_though_another_has_more() {
    let thresholds = Eviction::parse(&own(&[("pid.available", "10%")]), &[], &[], &[]);
    let mut m = Machine::new(KubeletConfig {
        stats: true,
        eviction: Eviction {
            thresholds: thresholds.unwrap(),
            transition: Duration::from_secs(60),
            max_grace_s: 0,
        },
        ..KubeletConfig::default()
    });
    m.boot(Boot::Reboot);
    for (name, priority) in [("few", 0), ("many", 0), ("most", 100)] {
        m.create(sized(name, 100, 1 << 20, priority));
    }
    m.at(15_000, |m| {
        // 8 GiB are 65,536 numbers, of which 6,553 are to be left; 65,536 - 60,000 - 3 sandboxes.
        m.memory.1 = (0..3).map(|pod| (Id::new(pod), 1 << 10)).collect();
        let processes = [(0, 1_000), (1, 9_000), (2, 50_000)];
        m.measured = processes
            .map(|(pod, processes)| RuntimeEvent::PodProcesses {
                pod: Id::new(pod),
                processes,
            })
            .to_vec();
    });
    m.at(20_100, |m| m.measured.clear());
    m.run(30);
    m.check_with(
        &["Term", "Failed"],
        r#"
        20.001 Term many
        20.106 many Failed(Evicted) many=Error(143)
        "#,
    );
    assert_eq!(
        ousted(&m, "many"),
        "The node was low on resource: pids. Threshold quantity: 6553, available: 5533. \
         disrupted: true"
    );
    assert_eq!(
        node_says(&m),
        "PidPressure: KubeletHasInsufficientPID (kubelet has insufficient PID available)"
    );
}

/// After `eviction_manager_test.go :: TestDiskPressureNodeFsInodes`.
#[test]
fn short_of_inodes_the_pod_with_most_files_goes() {
    let mut m = Machine::new(KubeletConfig {
        stats: true,
        ..KubeletConfig::default()
    });
    let (id, _) = m.store.view().nodes().find("", "n1").unwrap();
    let mut row = Node::clone(m.store.view().nodes().get(id).unwrap());
    row.status.capacity.ephemeral = 16 << 30;
    Arc::make_mut(&mut m.kubelet.host.row).status = row.status.clone();
    m.write(Write::UpdateStatus(id.into(), row.into()));
    m.boot(Boot::Reboot);
    m.create(sized("few", 100, 0, 0));
    m.create(sized("many", 100, 0, 0));
    m.at(15_000, |m| {
        // 16 GiB have 1,048,576 inodes, of which 52,428 are to be left; two images of 64 MiB take
        // 5,461 and these pods 1,000,000.
        m.memory.1 = (0..2).map(|pod| (Id::new(pod), 1 << 10)).collect();
        let files = [(0, 100_000), (1, 900_000)];
        m.measured = files
            .map(|(pod, files)| RuntimeEvent::PodFiles {
                pod: Id::new(pod),
                files,
            })
            .to_vec();
    });
    m.at(20_100, |m| m.measured.clear());
    m.run(30);
    m.check_with(
        &["Term", "Failed"],
        r#"
        20.001 Term many
        20.106 many Failed(Evicted) many=Error(143)
        "#,
    );
    assert_eq!(
        ousted(&m, "many"),
        "The node was low on resource: inodes. Threshold quantity: 52428, available: 43115. \
         disrupted: true"
    );
}

/// After `test/e2e_node/eviction_test.go :: LocalStorageCapacityIsolationEviction`.
#[test]
fn a_pod_past_a_limit_of_its_own_goes_and_is_not_called_disrupted() {
    let mut m = Machine::new(KubeletConfig {
        stats: true,
        ..KubeletConfig::default()
    });
    m.boot(Boot::Reboot);
    let mut volume = sized("volume", 100, 0, 0);
    Arc::make_mut(&mut volume.spec).volumes = vec![crate::api::pod::Volume {
        name: "cache".into(),
        source: crate::api::pod::VolumeSource::EmptyDir(1 << 20),
    }];
    m.create(volume);
    let mut layer = sized("layer", 100, 0, 0);
    let spec = Arc::make_mut(&mut layer.spec);
    spec.containers.push(container("idle"));
    for container in &mut spec.containers {
        container.limits.ephemeral = 2 << 20;
    }
    m.create(layer);
    m.create(sized("within", 100, 0, 0));
    m.at(15_000, |m| {
        let (one, two) = (Id::new(0), Id::new(1));
        m.measured = vec![
            RuntimeEvent::VolumeDisk {
                pod: one,
                volume: 0,
                kib: 1025,
            },
            RuntimeEvent::ContainerDisk {
                pod: two,
                index: 0,
                kib: 2049,
            },
        ];
    });
    m.run(40);
    m.check_with(
        &["Term", "Failed"],
        r#"
        20.001 Term volume
        20.001 Term layer
        20.001 Term idle
        20.106 volume Failed(Evicted) volume=Error(143)
        20.116 layer Failed(Evicted) layer=Error(143) idle=Error(143)
        "#,
    );
    assert_eq!(
        ousted(&m, "volume"),
        "Usage of EmptyDir volume \"cache\" exceeds the limit \"1Mi\". disrupted: false"
    );
    assert_eq!(
        ousted(&m, "layer"),
        "Container layer exceeded its local ephemeral storage limit \"2Mi\". disrupted: false"
    );
}
