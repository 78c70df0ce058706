//! The node: registration, lease, status; stopping, restarting and rebooting; admission; eviction.

use super::*;
use crate::api::Lease;
use crate::api::node::NodeConditionKind;

fn writes(m: &Machine, pick: impl Fn(&Write) -> bool) -> Vec<f64> {
    let mut at: Vec<f64> = m
        .sends
        .iter()
        .filter(|send| pick(&send.write))
        .map(|send| send.at.as_secs_f64())
        .collect();
    at.sort_by(f64::total_cmp);
    at
}

fn renewals(m: &Machine) -> Vec<f64> {
    writes(m, |w| {
        matches!(w, Write::Create(Row::Lease(_)))
            || matches!(
                w,
                Write::Patch {
                    patch: crate::store::Patch::Renew(_),
                    ..
                }
            )
    })
}

fn reports(m: &Machine) -> Vec<f64> {
    writes(m, |w| {
        matches!(
            w,
            Write::Patch {
                patch: crate::store::Patch::NodeConditions(_),
                ..
            }
        )
    })
}

#[test]
fn the_lease_is_made_and_renewed_every_ten_seconds() {
    let mut m = Machine::booted();
    m.run(3600);
    let (_, lease) = m
        .store
        .view()
        .of::<Lease>()
        .find("kube-node-lease", "n1")
        .unwrap();
    assert_eq!((lease.holder.as_str(), lease.duration_s), ("n1", 40));
    let at = renewals(&m);
    // 10 s and up to 4 % more, after an answer that took 10 ms.
    for pair in at.windows(2) {
        assert!((10.01..10.42).contains(&(pair[1] - pair[0])), "{pair:?}");
    }
    assert!((346..=360).contains(&at.len()), "{}", at.len());
}

#[test]
fn an_established_node_is_somewhere_in_its_intervals() {
    let mut m = Machine::new(KubeletConfig::default());
    let lease = Lease {
        meta: Meta {
            namespace: "kube-node-lease".into(),
            name: "n1".into(),
            ..Meta::default()
        },
        holder: "n1".into(),
        duration_s: 40,
        renewed: Time::ZERO,
    };
    m.write(Write::Create(lease.into()));
    m.boot(Boot::Established);
    m.run(60);
    let first = renewals(&m)[0];
    assert!(first > 0.0 && first < 10.0, "{first}");
}

#[test]
fn the_node_becomes_ready_and_reports_every_five_minutes() {
    let mut m = Machine::booted();
    m.run(1200);
    let (_, node) = m.store.view().nodes().find("", "n1").unwrap();
    let shown: Vec<_> = node
        .status
        .conditions
        .iter()
        .map(|c| {
            format!(
                "{}={} {}: {}",
                c.kind.name(),
                c.status.name(),
                c.reason,
                c.message
            )
        })
        .collect();
    same_lines(
        &shown,
        r#"
        MemoryPressure=False KubeletHasSufficientMemory: kubelet has sufficient memory a…
        DiskPressure=False KubeletHasNoDiskPressure: kubelet has no disk pressure
        PIDPressure=False KubeletHasSufficientPID: kubelet has sufficient PID available
        Ready=True KubeletReady: kubelet is posting ready status
        "#,
    );
    let at = reports(&m);
    // At once; after 300 s, up to half less or more; then every 300 s, at the next look of 10 s.
    assert_eq!(at[0], 0.0);
    assert!((150.0..461.0).contains(&at[1]), "{at:?}");
    assert!((300.0..310.5).contains(&(at[2] - at[1])), "{at:?}");
}

#[test]
fn a_node_that_was_marked_unknown_says_that_it_is_ready_within_ten_seconds() {
    let mut m = Machine::booted();
    m.at(60_000, |m| {
        let (id, node) = m.store.view().nodes().find("", "n1").unwrap();
        let mut ready = node.condition(&NodeConditionKind::Ready).unwrap().clone();
        ready.status = Truth::Unknown;
        let patch = crate::store::Patch::NodeConditions(vec![ready]);
        let object = id.into();
        m.write(Write::Patch {
            object,
            uid: None,
            patch,
        });
    });
    m.run(71);
    assert!(m.store.view().nodes().find("", "n1").unwrap().1.ready());
}

#[test]
fn a_deleted_node_registers_again_when_its_kubelet_starts() {
    let mut m = Machine::booted();
    m.at(20_000, |m| {
        let (id, _) = m.store.view().nodes().find("", "n1").unwrap();
        let object = id.into();
        m.write(Write::Delete {
            object,
            uid: None,
            grace_s: None,
            propagation: Propagation::Background,
        });
    });
    m.run(60);
    assert!(m.store.view().nodes().find("", "n1").is_none());
    m.boot(Boot::Restart);
    m.run(61);
    assert!(m.store.view().nodes().find("", "n1").unwrap().1.ready());
}

#[test]
fn a_restarted_kubelet_takes_over_what_runs() {
    let mut m = Machine::booted();
    let mut web = container("web");
    web.readiness = Some(probe(10, 3));
    m.create(pod("a", vec![web]));
    m.create(pod("b", vec![container("other")]));
    m.create(pod("c", vec![container("third")]));
    m.at(30_000, |m| m.kubelet.stop());
    // While it is away one container ends and one pod is forcibly deleted.
    m.at(35_000, |m| {
        let container = *m.running.keys().nth(1).unwrap();
        m.hear(RuntimeEvent::Exited {
            container,
            code: 1,
            oom: false,
        });
    });
    m.at(60_000, |m| m.boot(Boot::Restart));
    m.run(90);
    let since: Vec<_> = m
        .lines
        .iter()
        .skip_while(|l| !l.contains("60."))
        .cloned()
        .collect();
    same_lines(
        &since,
        r#"
        60.015 b Running other=Error(1)
        60.305 b Pulled: Container image "other:1" already present on machine and can be…
        60.405 b Created: Container created
        60.405 b Running Ready other=ready/1
        60.415 b Started: Container started
        "#,
    );
    assert_eq!(m.kubelet.running().count(), 3);
}

#[test]
fn after_a_reboot_everything_is_started_again() {
    let mut m = Machine::booted();
    m.create(pod("a", vec![container("web")]));
    m.at(30_000, |m| m.kubelet.stop());
    m.at(60_000, |m| m.boot(Boot::Reboot));
    m.run(90);
    let since: Vec<_> = m
        .lines
        .iter()
        .skip_while(|l| !l.contains("60."))
        .cloned()
        .collect();
    same_lines(
        &since,
        r#"
        60.005 a Running web=Unknown(255)
        60.305 a SandboxChanged: Pod sandbox changed, it will be killed and re-created.
        60.505 a Pulled: Container image "web:1" already present on machine and can be a…
        60.605 a Created: Container created
        60.605 a Running Ready web=ready/1
        60.615 a Started: Container started
        "#,
    );
}

#[test]
fn a_pod_deleted_while_the_kubelet_was_away_is_cleaned_up() {
    let mut m = Machine::booted();
    m.create(pod("a", vec![container("web")]));
    m.at(30_000, |m| m.kubelet.stop());
    m.at(40_000, |m| m.delete("a", None));
    m.at(60_000, |m| m.boot(Boot::Restart));
    m.run(90);
    let since: Vec<_> = m
        .lines
        .iter()
        .skip_while(|l| !l.contains("40."))
        .cloned()
        .collect();
    same_lines(
        &since,
        r#"
        40.000 a Running Ready web=ready deleting
        60.000 Term web
        60.015 a Killing: Stopping container web
        60.105 a Failed web=Error(143) deleting
        61.015 a gone
        "#,
    );
}

#[test]
fn statuses_are_sent_again_when_the_server_comes_back() {
    let mut m = Machine::booted();
    m.script("web").exits = vec![Some((Duration::from_secs(20), 1)), None];
    m.create(pod("a", vec![container("web")]));
    m.at(15_000, |m| m.unreachable = true);
    m.at(47_000, |m| m.unreachable = false);
    m.run(60);
    m.check_with(
        &["a Running"],
        r#"
        1.610 a Running Ready web=ready
        50.005 a Running Ready web=ready/1
        "#,
    );
    let at = renewals(&m);
    // Five tries each time, one right after the other, then the next interval.
    let away = at.iter().filter(|at| (15.0..47.0).contains(*at)).count();
    assert!((15..=20).contains(&away), "{at:?}");
    assert!(at.iter().any(|at| (47.0..58.0).contains(at)), "{at:?}");
}

#[test]
fn what_the_kubelet_declares_it_declares_again() {
    let mut m = Machine::booted();
    m.at(60_000, |m| {
        let (id, _) = m.store.view().nodes().find("", "n1").unwrap();
        let patch = crate::store::Patch::DeclaredFeatures(Default::default());
        let object = id.into();
        m.write(Write::Patch {
            object,
            uid: None,
            patch,
        });
    });
    m.run(75);
    let (_, node) = m.store.view().nodes().find("", "n1").unwrap();
    let declared = node.status.declared_features.to_vec();
    assert_eq!(declared, crate::api::declared::by_kubelet());
}

#[test]
fn pods_that_do_not_fit_are_rejected() {
    let mut m = Machine::booted();
    let sized = |name: &str, cpu_milli: i64, memory: i64| {
        let mut pod = pod(name, vec![container("web")]);
        Arc::make_mut(&mut pod.spec).requests = Resources {
            cpu_milli,
            memory,
            ..Resources::default()
        };
        pod
    };
    m.create(sized("a", 3000, 1 << 30));
    m.create(sized("b", 2000, 1 << 30));
    m.create(sized("c", 500, 8 << 30));
    let mut d = sized("d", 500, 0);
    Arc::make_mut(&mut d.spec).node_selector = [("zone", "b")].into_iter().collect();
    m.create(d);
    m.create(sized("e", 1000, 0));
    let mut f = sized("f", 0, 0);
    let spec = Arc::make_mut(&mut f.spec);
    spec.host_network = true;
    spec.source = Arc::new(serde_json::json!({"hostUsers": false}));
    m.create(f);
    m.run(30);
    m.check_with(
        &["OutOf", "Affinity", "Unsupported", " Ready"],
        r#"
        0.020 b Failed(OutOfcpu)
        0.030 c Failed(OutOfmemory)
        0.040 d Failed(NodeAffinity)
        0.045 b OutOfcpu: Node didn't have enough resource: cpu, requested: 2000, used: …
        0.055 c OutOfmemory: Node didn't have enough resource: memory, requested: 858993…
        0.060 f Failed(PodFeatureUnsupported)
        0.065 d NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's …
        0.075 f PodFeatureUnsupported: Pod requires node features that are not available…
        1.610 a Running Ready web=ready
        2.610 e Running Ready web=ready
        "#,
    );
}

#[test]
fn under_memory_pressure_the_pod_that_uses_most_beyond_its_requests_goes() {
    let mut m = Machine::new(KubeletConfig {
        stats: true,
        ..KubeletConfig::default()
    });
    m.boot(Boot::Reboot);
    let sized = |name: &str, memory: i64| {
        let mut pod = pod(name, vec![container(name)]);
        let spec = Arc::make_mut(&mut pod.spec);
        spec.requests.memory = memory;
        spec.containers[0].requests.memory = memory;
        pod
    };
    m.create(sized("modest", 1 << 30));
    m.create(sized("greedy", 1 << 28));
    m.create(sized("small", 1 << 20));
    m.at(25_000, |m| {
        let id = |i: u32| Id::new(i);
        // KiB: 900 MiB of 1 GiB, 1 GiB of 256 MiB, 100 MiB of 1 MiB.
        let used = vec![(id(0), 900 << 10), (id(1), 1 << 20), (id(2), 100 << 10)];
        m.memory = (50 << 10, used);
    });
    // Once it is gone there is room again.
    m.at(30_500, |m| m.memory.0 = 4 << 20);
    m.run(60);
    m.check_with(
        &["Evicted", "Term", "Kill"],
        r#"
        30.001 Term greedy
        30.016 greedy Evicted: The node was low on resource: memory. Threshold quantity:…
        30.026 greedy Killing: Stopping container greedy
        30.106 greedy Failed(Evicted) greedy=Error(143)
        "#,
    );
    m.run(200);
    let pressure = |m: &Machine| {
        let (_, node) = m.store.view().nodes().find("", "n1").unwrap();
        node.condition(&NodeConditionKind::MemoryPressure)
            .unwrap()
            .status
    };
    assert_eq!(pressure(&m), Truth::True);
    m.run(400);
    assert_eq!(pressure(&m), Truth::False);
}

#[test]
fn an_idle_kubelet_and_a_pod_worker_are_small() {
    // There may be 5,000 kubelets and 150,000 pods in a run. A kubelet holds what it reads for every
    // pod, and a worker what is recorded of its first container: another block would be waited for.
    let worker = size_of::<super::super::pod_worker::PodWorker>();
    assert!(size_of::<Kubelet>() <= 1_152, "{}", size_of::<Kubelet>());
    assert!(worker <= 384, "{worker}");
}

#[test]
fn a_watch_that_begins_anew_finds_what_was_missed() {
    let mut m = Machine::booted();
    for name in ["a", "b"] {
        m.create(pod(name, vec![container(name)]));
    }
    m.at(10_000, |m| m.deaf = true);
    m.at(12_000, |m| m.delete("a", Some(0)));
    m.at(13_000, |m| m.delete("b", None));
    m.at(14_000, |m| m.create(pod("c", vec![container("c")])));
    m.at(40_000, |m| {
        m.deaf = false;
        let rows = m.store.view().pods().on_node("n1");
        let pods: Vec<_> = rows.map(|(id, row)| (id, row.clone())).collect();
        m.with(|kubelet, cx| kubelet.relisted(&pods, cx));
    });
    m.run(60);
    let missed = |line: &&String| !line.starts_with("12");
    let since: Vec<_> = m.lines.iter().skip_while(missed).cloned().collect();
    same_lines(
        &since,
        r#"
        12.000 a gone
        13.000 b Running Ready b=ready deleting
        14.000 c Pending
        40.000 Term a
        40.000 Term b
        40.005 a Killing: Stopping container a
        40.015 b Killing: Stopping container b
        40.015 c Pending c=ContainerCreating
        40.105 b Failed b=Error(143) deleting
        40.505 c Pulling: Pulling image "c:1"
        41.015 b gone
        41.505 c Pulled: Successfully pulled image "c:1" in 1s (1s including waiting). I…
        41.605 c Created: Container created
        41.605 c Running Ready c=ready
        41.615 c Started: Container started
        "#,
    );
}

#[test]
fn addresses_are_given_in_turn_and_not_twice() {
    let mut m = Machine::new(KubeletConfig {
        pod_bits: 3,
        ..KubeletConfig::default()
    });
    m.boot(Boot::Reboot);
    let mut addresses = Vec::new();
    m.create(pod("stays", vec![container("web")]));
    for i in 0..8u64 {
        let name = format!("pod-{i}");
        m.create(pod(&name, vec![container("web")]));
        m.run(i * 20 + 10);
        let (_, row) = m.store.view().pods().find("default", &name).unwrap();
        addresses.push(row.status.ip.unwrap().to_string());
        m.delete(&name, None);
        m.run(i * 20 + 20);
    }
    // Of 8 addresses, 0, 1 and 7 are not given, and 2 is taken.
    let last: Vec<_> = addresses
        .iter()
        .map(|ip| ip.rsplit('.').next().unwrap())
        .collect();
    assert_eq!(last.join(" "), "3 4 5 6 3 4 5 6");
}
