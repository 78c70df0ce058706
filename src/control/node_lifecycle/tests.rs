//! Leases stop, and the table says when what follows. Writes are applied at once, so that the
//! times are those of the controller alone.

use super::*;
use crate::api::node::NodeCondition;
use crate::api::pod_status::{PodCondition, PodConditionKind};
use crate::api::{Lease, Meta};
use crate::engine::Draws;
use crate::store::{Cause, Store};

fn named(namespace: &str, name: &str) -> Meta {
    Meta {
        namespace: namespace.into(),
        name: name.into(),
        ..Meta::default()
    }
}

fn write(store: &mut Store, write: &Write, now: Time) {
    store
        .write(write, now, Cause::default())
        .expect("a good write");
}

fn cluster(zones: &[(&str, usize)]) -> Store {
    let mut store = Store::new(Draws::new(1));
    for (zone, count) in zones {
        for nth in 0..*count {
            let name = format!("{zone}{nth}");
            let mut node = Node {
                meta: named("", &name),
                ..Node::default()
            };
            node.meta.labels = node.meta.labels.with("topology.kubernetes.io/zone", *zone);
            node.status.conditions = smallvec::smallvec![NodeCondition {
                kind: NodeConditionKind::Ready,
                status: Truth::True,
                heartbeat: Time::ZERO,
                since: Time::ZERO,
                reason: "KubeletReady".into(),
                message: Text::default(),
            }];
            write(&mut store, &Write::Create(node.into()), Time::ZERO);
            let lease = Lease {
                meta: named("kube-node-lease", &name),
                ..Lease::default()
            };
            write(&mut store, &Write::Create(lease.into()), Time::ZERO);
            let mut pod = Pod {
                meta: named("default", &name),
                ..Pod::default()
            };
            pod.node_name = Some(name.as_str().into());
            pod.status.set_condition(PodCondition {
                kind: PodConditionKind::Ready,
                status: Truth::True,
                since: Time::ZERO,
                reason: None,
                message: None,
                observed_generation: 0,
            });
            write(&mut store, &Write::Create(pod.into()), Time::ZERO);
        }
    }
    store
}

fn describe(store: &Store, write: &Write) -> Option<String> {
    let Write::Patch { object, patch, .. } = write else {
        return None;
    };
    let name = store.view().row(*object)?.meta().name.clone();
    Some(match patch {
        Patch::NodeConditions(_) => format!("{name} unknown"),
        Patch::PodConditions { .. } => format!("pod {name} unready"),
        Patch::NodeTaints { add, remove } => {
            let keys = |taints: &[Taint], sign: char| {
                taints
                    .iter()
                    .map(|t| format!("{sign}{}", t.key.rsplit('/').next().unwrap_or_default()))
                    .collect::<String>()
            };
            format!(
                "{name} {}{}",
                keys(add, '+'),
                keys(remove, '-').replace("-not-ready", "")
            )
        }
        other => format!("{name} {other:?}"),
    })
}

/// Runs for `seconds`; `silent(name)` says from which second on a node renews no lease.
fn run(store: &mut Store, seconds: u64, silent: impl Fn(&str) -> (u64, u64)) -> String {
    run_while(store, seconds, silent, |_, _| {})
}

/// As [`run`], while somebody else acts at the beginning of each second.
fn run_while(
    store: &mut Store,
    seconds: u64,
    silent: impl Fn(&str) -> (u64, u64),
    act: impl Fn(&mut Store, u64),
) -> String {
    let mut controller = NodeLifecycleController::new(Flags::default());
    let draws = Draws::new(1);
    let mut lines = Vec::new();
    let mut told = store.log().head();
    controller.resync(store.view(), Time::ZERO, &mut Keys::default());
    for tick in 0..seconds * 10 {
        let now = Time::from_millis(tick * 100);
        while let Some(change) = store.log().get(told + 1) {
            told += 1;
            controller.keys(change, store.view(), now, &mut Keys::default());
        }
        let second = tick / 10;
        if tick % 10 == 0 {
            act(store, second);
        }
        if tick % 100 == 0 {
            let leases: Vec<_> = store
                .view()
                .of::<Lease>()
                .iter()
                .map(|(id, l)| (id, l.meta.name.clone()))
                .collect();
            for (id, name) in leases {
                let (from, until) = silent(&name);
                if second < from || second >= until {
                    let patch = Patch::Renew(now);
                    write(
                        store,
                        &Write::Patch {
                            object: id.into(),
                            uid: None,
                            patch,
                        },
                        now,
                    );
                }
            }
        }
        let mut keys = Vec::new();
        if tick % 50 == 1 {
            keys.push(Key::Monitor);
        }
        if controller.zones.waiting() {
            keys.push(Key::Tainter);
        }
        for key in keys {
            let view = store.view().clone();
            let plan = controller.sync(
                key,
                &SyncContext {
                    now,
                    view: &view,
                    draws: &draws,
                },
            );
            let mut steps = plan.steps;
            let outcome = Outcome::default();
            let cx = SyncContext {
                now,
                view: &view,
                draws: &draws,
            };
            steps.extend(controller.finish(key, &outcome, &cx).steps);
            for step in steps {
                let writes = match step {
                    Step::One { write, .. } => vec![write],
                    Step::Parallel { writes, .. } => writes,
                    _ => continue,
                };
                for w in writes {
                    lines.extend(describe(store, &w).map(|what| format!("{second} {what}")));
                    write(store, &w, now);
                }
            }
        }
    }
    lines.join("\n")
}

#[test]
fn a_silent_node_is_unknown_after_the_grace_period_and_its_pods_are_unready_at_that_moment() {
    let mut store = cluster(&[("a", 3)]);
    // The last renewal is seen at 10.1 s; the look at 60.1 s comes 50 s later.
    let log = run(&mut store, 70, |name| {
        if name == "a0" { (11, 999) } else { (999, 999) }
    });
    assert_eq!(log, "60 a0 unknown\n60 pod a0 unready\n60 a0 +unreachable");
}

#[test]
fn a_label_on_a_lease_is_no_sign_of_life_and_a_lease_made_anew_is() {
    let silent = |name: &str| if name == "a0" { (11, 999) } else { (999, 999) };
    let lease = |store: &Store| {
        let found = store.view().of::<Lease>().find("kube-node-lease", "a0");
        found.map(|(id, lease)| (id, lease.meta.uid))
    };
    let label = |store: &mut Store, second| {
        if let (20 | 47, Some((id, _))) = (second, lease(store)) {
            let labels = vec![(Text::from("at"), Some(format!("{second}").into()))];
            let (object, patch) = (id.into(), Patch::Labels(labels));
            let uid = None;
            write(store, &Write::Patch { object, uid, patch }, Time::ZERO);
        }
    };
    let log = run_while(&mut cluster(&[("a", 3)]), 70, silent, label);
    assert_eq!(log, "60 a0 unknown\n60 pod a0 unready\n60 a0 +unreachable");

    let anew = |store: &mut Store, second| match (second, lease(store)) {
        (30, Some((id, uid))) => {
            let delete = Write::Delete {
                object: id.into(),
                uid: Some(uid),
                grace_s: None,
                propagation: Default::default(),
            };
            write(store, &delete, Time::ZERO);
        }
        (33, None) => {
            let lease = Lease {
                meta: named("kube-node-lease", "a0"),
                renewed: Time::from_secs(33),
                ..Lease::default()
            };
            write(store, &Write::Create(lease.into()), Time::ZERO);
        }
        _ => {}
    };
    // The new one is seen at 35.1 s.
    let log = run_while(&mut cluster(&[("a", 3)]), 90, silent, anew);
    assert_eq!(log, "85 a0 unknown\n85 pod a0 unready\n85 a0 +unreachable");
}

#[test]
fn a_node_that_comes_back_in_a_live_zone_loses_its_taint() {
    let mut store = cluster(&[("a", 3)]);
    run(&mut store, 70, |name| {
        if name == "a0" { (11, 999) } else { (999, 999) }
    });
    let (id, node) = store.view().nodes().find("", "a0").expect("a0");
    let back = NodeCondition {
        status: Truth::True,
        heartbeat: Time::from_secs(70),
        ..node
            .condition(&NodeConditionKind::Ready)
            .expect("Ready")
            .clone()
    };
    let patch = Patch::NodeConditions(vec![back]);
    write(
        &mut store,
        &Write::Patch {
            object: id.into(),
            uid: None,
            patch,
        },
        Time::from_secs(70),
    );
    let log = run(&mut store, 10, |_| (999, 999));
    assert_eq!(log, "0 a0 -unreachable");
}

#[test]
fn taints_are_rationed_to_one_node_in_ten_seconds_and_zone() {
    let mut store = cluster(&[("a", 9)]);
    // 3 of 9 are silent: 33 % is below the threshold of 55 %, the zone stays normal.
    let lost = ["a0", "a1", "a2"];
    let log = run(&mut store, 100, |name| {
        if lost.contains(&name) {
            (11, 999)
        } else {
            (999, 999)
        }
    });
    let taints: Vec<_> = log.lines().filter(|l| l.contains("+unreachable")).collect();
    assert_eq!(
        taints,
        [
            "60 a0 +unreachable",
            "70 a1 +unreachable",
            "80 a2 +unreachable"
        ]
    );
}

#[test]
fn three_of_five_lost_at_once_stop_evictions_in_a_small_cluster() {
    let mut store = cluster(&[("a", 5)]);
    // All three are found in one look, the zone is partially disrupted before the first taint.
    let lost = ["a0", "a1", "a2"];
    let log = run(&mut store, 600, |name| {
        if lost.contains(&name) {
            (11, 999)
        } else {
            (999, 999)
        }
    });
    assert_eq!(log.lines().filter(|l| l.contains("unknown")).count(), 3);
    assert_eq!(log.lines().filter(|l| l.contains("unready")).count(), 3);
    assert_eq!(
        log.lines().filter(|l| l.contains("+unreachable")).count(),
        0
    );
}

#[test]
fn when_every_zone_is_lost_nobody_is_tainted() {
    let mut store = cluster(&[("a", 2), ("b", 2)]);
    let log = run(&mut store, 300, |_| (11, 999));
    assert_eq!(log.lines().filter(|l| l.contains("unready")).count(), 4);
    assert_eq!(
        log.lines().filter(|l| l.contains("+unreachable")).count(),
        0,
        "{log}"
    );
}
