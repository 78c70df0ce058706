//! Containers that crash or cannot be started, and how long they are kept waiting.

use super::*;
use crate::api::ConfigMap;
use crate::api::container::ConfigRef;
use crate::api::pod::{RestartPolicy, Volume, VolumeSource};

const SECOND: Duration = Duration::from_secs(1);

fn with_policy(name: &str, containers: Vec<Container>, policy: RestartPolicy) -> Pod {
    let mut pod = pod(name, containers);
    Arc::make_mut(&mut pod.spec).restart_policy = policy;
    pod
}

/// Seconds of each start, from the KubeEvents.
fn starts(m: &Machine) -> Vec<f64> {
    let lines = m.lines_with(&["Started:"]);
    let at = |line: &String| line.split(' ').next().unwrap().parse().unwrap();
    lines.iter().map(at).collect()
}

#[test]
fn a_crash_loop_waits_10_20_40_80_160_300_seconds() {
    let mut m = Machine::booted();
    m.script("app").exits = vec![Some((SECOND, 1))];
    m.create(pod("a", vec![container("app")]));
    m.run(2400);
    let starts = starts(&m);
    // From an exit, 1 s after the start, to the next start. The first restart comes with the
    // relist, at once. Then the back-off counts from the exit; the sync after it comes up to half
    // of the rest later, at most 60 s (and half) ahead, at a tick of 1 s, and starts in 0.1 s.
    let table = [
        (0.0, 1.3),
        (10.0, 17.3),
        (20.0, 32.3),
        (40.0, 62.3),
        (80.0, 122.3),
        (160.0, 192.3),
        (300.0, 332.3),
        (300.0, 332.3),
    ];
    for (at, (least, most)) in table.into_iter().enumerate() {
        let wait = starts[at + 1] - starts[at] - 1.0;
        assert!(
            (least..most).contains(&wait),
            "wait {at} was {wait}: {starts:?}"
        );
    }
    m.check_with(
        &["a Running"],
        r#"
        1.610 a Running Ready app=ready
        3.005 a Running app=Error(1)
        3.105 a Running Ready app=ready/1
        5.005 a Running app=Error(1)/1
        19.005 a Running app=CrashLoopBackOff/1
        19.105 a Running Ready app=ready/2
        21.005 a Running app=Error(1)/2
        42.005 a Running app=CrashLoopBackOff/2
        42.105 a Running Ready app=ready/3
        44.005 a Running app=Error(1)/3
        101.005 a Running app=CrashLoopBackOff/3
        101.105 a Running Ready app=ready/4
        103.005 a Running app=Error(1)/4
        179.005 a Running app=CrashLoopBackOff/4
        183.105 a Running Ready app=ready/5
        185.005 a Running app=Error(1)/5
        248.005 a Running app=CrashLoopBackOff/5
        354.105 a Running Ready app=ready/6
        356.005 a Running app=Error(1)/6
        444.005 a Running app=CrashLoopBackOff/6
        656.105 a Running Ready app=ready/7
        658.005 a Running app=Error(1)/7
        742.005 a Running app=CrashLoopBackOff/7
        976.105 a Running Ready app=ready/8
        978.005 a Running app=Error(1)/8
        1068.005 a Running app=CrashLoopBackOff/8
        1301.105 a Running Ready app=ready/9
        1303.005 a Running app=Error(1)/9
        1372.005 a Running app=CrashLoopBackOff/9
        1603.105 a Running Ready app=ready/10
        1605.005 a Running app=Error(1)/10
        1674.005 a Running app=CrashLoopBackOff/10
        1911.105 a Running Ready app=ready/11
        1913.005 a Running app=Error(1)/11
        1993.005 a Running app=CrashLoopBackOff/11
        2217.105 a Running Ready app=ready/12
        2219.005 a Running app=Error(1)/12
        2306.005 a Running app=CrashLoopBackOff/12
        "#,
    );
}

#[test]
fn ten_minutes_of_running_are_forgiven() {
    let mut m = Machine::booted();
    let crash = Some((SECOND, 1));
    m.script("app").exits = vec![crash, crash, crash, Some((610 * SECOND, 1)), crash, None];
    m.create(pod("a", vec![container("app")]));
    m.run(1000);
    let starts = starts(&m);
    let wait = |at: usize| starts[at + 1] - starts[at];
    // Attempt 3 ran for 610 s: its restart is immediate, and the one after waits 10 s again.
    assert!((610.0..611.3).contains(&wait(3)), "{starts:?}");
    assert!((11.0..18.3).contains(&wait(4)), "{starts:?}");
}

#[test]
fn how_a_pod_ends_depends_on_its_restart_policy() {
    let mut m = Machine::booted();
    m.script("good").exits = vec![Some((SECOND, 0))];
    m.script("bad").exits = vec![Some((SECOND, 3)), Some((SECOND, 0))];
    m.create(with_policy(
        "a",
        vec![container("good")],
        RestartPolicy::Never,
    ));
    m.create(with_policy(
        "b",
        vec![container("bad")],
        RestartPolicy::Never,
    ));
    m.create(with_policy(
        "c",
        vec![container("bad")],
        RestartPolicy::OnFailure,
    ));
    m.run(30);
    m.check_with(
        &["Succeeded", "Failed", "c Running"],
        r#"
        3.610 c Running Ready bad=ready
        4.055 a Succeeded good=Completed(0)
        5.015 c Running bad=Error(3)
        5.055 b Failed bad=Error(3)
        5.105 c Running Ready bad=ready/1
        7.005 c Running bad=Completed(0)/1
        8.055 c Succeeded bad=Completed(0)/1
        "#,
    );
}

#[test]
fn failed_starts_show_their_reason() {
    let mut m = Machine::booted();
    m.script("create").start.1 = StartOutcome::CreateFailed;
    m.script("run").start.1 = StartOutcome::RunFailed;
    m.create(pod("a", vec![container("create")]));
    m.create(pod("b", vec![container("run")]));
    m.run(20);
    m.check_with(
        &[
            "a Pending",
            "b Pending",
            "a Running",
            "b Running",
            "Failed:",
        ],
        r#"
        0.000 a Pending
        0.000 b Pending
        0.010 a Pending create=ContainerCreating
        0.020 b Pending run=ContainerCreating
        1.610 a Failed: Error: failed to create containerd container
        2.005 a Pending create=CreateContainerError
        2.105 a Failed: Error: failed to create containerd container
        2.620 b Failed: Error: failed to create containerd task: failed to create shim t…
        3.005 b Running run=RunContainerError
        3.115 b Failed: Error: failed to create containerd task: failed to create shim t…
        4.005 b Running run=RunContainerError/1
        13.105 a Failed: Error: failed to create containerd container
        17.005 b Running run=CrashLoopBackOff/1
        17.115 b Failed: Error: failed to create containerd task: failed to create shim …
        18.005 b Running run=RunContainerError/2
        "#,
    );
}

#[test]
fn memory_beyond_the_limit_is_told() {
    let mut m = Machine::booted();
    m.create(with_policy(
        "a",
        vec![container("app")],
        RestartPolicy::Never,
    ));
    m.at(5_000, |m| {
        let container = *m.running.keys().next().unwrap();
        m.hear(RuntimeEvent::Exited {
            container,
            code: 137,
            oom: true,
        });
    });
    m.run(10);
    m.check_with(
        &["OOMKilled"],
        r#"
        6.005 a Running app=OOMKilled(137)
        7.055 a Failed app=OOMKilled(137)
        "#,
    );
}

#[test]
fn a_missing_configmap_keeps_a_container_from_being_created() {
    let mut m = Machine::booted();
    let wanted = |key: Option<&str>| ConfigRef {
        secret: false,
        name: "settings".into(),
        key: key.map(Into::into),
        optional: false,
    };
    let mut app = container("app");
    app.env_refs = vec![wanted(Some("mode"))];
    m.create(pod("a", vec![app]));
    let settings = |keys: &[&'static str]| ConfigMap {
        binary: crate::api::Labels::default(),
        meta: Meta {
            namespace: "default".into(),
            name: "settings".into(),
            ..Meta::default()
        },
        data: keys.iter().map(|k| (*k, "1")).collect(),
        immutable: false,
    };
    let (empty, full) = (settings(&[]), settings(&["mode"]));
    m.at(5_000, move |m| m.write(Write::Create(empty.into())));
    m.at(20_000, move |m| {
        let (id, old) = m
            .store
            .view()
            .of::<ConfigMap>()
            .find("default", "settings")
            .unwrap();
        let id = id.into();
        let mut new = full;
        new.meta.revision = old.meta.revision;
        m.write(Write::Update(id, new.into()));
    });
    m.run(40);
    m.check_with(
        &["a Pending", "a Running", "Failed:"],
        r#"
        0.000 a Pending
        0.010 a Pending app=ContainerCreating
        1.520 a Failed: Error: configmap "settings" not found
        2.005 a Pending app=CreateContainerConfigError
        2.015 a Failed: Error: configmap "settings" not found
        13.015 a Failed: Error: couldn't find key mode in ConfigMap default/settings
        28.105 a Running Ready app=ready
        "#,
    );
}

#[test]
fn a_missing_volume_is_tried_again_with_growing_waits() {
    let mut m = Machine::booted();
    let mut a = pod("a", vec![container("app")]);
    Arc::make_mut(&mut a.spec).volumes = vec![Volume {
        name: "data".into(),
        source: VolumeSource::Config(ConfigRef {
            secret: true,
            name: "keys".into(),
            key: None,
            optional: false,
        }),
    }];
    m.create(a);
    m.at(10_000, |m| {
        m.write(Write::Create(
            crate::api::Secret {
                meta: Meta {
                    namespace: "default".into(),
                    name: "keys".into(),
                    ..Meta::default()
                },
                ..Default::default()
            }
            .into(),
        ));
    });
    m.run(30);
    m.check_with(
        &["FailedMount", "Started"],
        r#"
        0.045 a FailedMount: MountVolume.SetUp failed for volume "data" : secret "keys" …
        0.510 a FailedMount: MountVolume.SetUp failed for volume "data" : secret "keys" …
        1.510 a FailedMount: MountVolume.SetUp failed for volume "data" : secret "keys" …
        3.510 a FailedMount: MountVolume.SetUp failed for volume "data" : secret "keys" …
        7.510 a FailedMount: MountVolume.SetUp failed for volume "data" : secret "keys" …
        16.820 a Started: Container started
        "#,
    );
}

#[test]
fn a_pod_past_its_deadline_fails() {
    let mut m = Machine::booted();
    let mut a = pod("a", vec![container("app")]);
    Arc::make_mut(&mut a.spec).active_deadline_s = Some(20);
    m.create(a);
    m.run(40);
    m.check_with(
        &["Deadline", "Term"],
        r#"
        20.005 a DeadlineExceeded: Pod was active on the node longer than the specified …
        21.000 Term app
        21.005 a DeadlineExceeded: Pod was active on the node longer than the specified …
        21.105 a DeadlineExceeded: Pod was active on the node longer than the specified …
        21.105 a Failed(DeadlineExceeded) app=Error(143)
        22.005 a DeadlineExceeded: Pod was active on the node longer than the specified …
        "#,
    );
}

/// After `active_deadline_test.go :: TestActiveDeadlineHandler`: the spec is read at each look.
#[test]
fn a_deadline_may_come_nearer() {
    let mut m = Machine::booted();
    let mut a = pod("a", vec![container("app")]);
    Arc::make_mut(&mut a.spec).active_deadline_s = Some(60);
    m.create(a);
    m.at(10_000, |m| {
        let (id, old) = m.store.view().pods().find("default", "a").unwrap();
        let mut new = Pod::clone(old);
        Arc::make_mut(&mut new.spec).active_deadline_s = Some(15);
        m.write(Write::Update(id.into(), new.into()));
    });
    m.run(40);
    m.check_with(
        &["Term", "a Failed"],
        r#"
        16.000 Term app
        16.105 a Failed(DeadlineExceeded) app=Error(143)
        "#,
    );
}

/// When the container `app` of a pod was started, beside `others` that crash too.
fn starts_beside(others: usize) -> Vec<Time> {
    let mut m = Machine::booted();
    m.script("app").exits = vec![Some((SECOND, 1))];
    m.script("other").exits = vec![Some((3 * SECOND, 1))];
    m.create(pod("a", vec![container("app")]));
    for i in 0..others {
        let other = pod(&format!("b{i}"), vec![container("other")]);
        m.at(2_000, move |m| m.create(other));
    }
    m.run(900);
    let mine = m.starts.iter().filter(|(_, name)| name == "app");
    mine.map(|(at, _)| *at).collect()
}

#[test]
fn other_pods_move_nobodys_back_off() {
    let alone = starts_beside(0);
    assert!(alone.len() > 6, "{alone:?}");
    assert_eq!(alone, starts_beside(5));
}
