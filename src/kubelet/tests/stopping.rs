//! Deleting pods: hooks, grace periods, order.

use super::*;
use crate::api::probe::Action;

const WORDS: &[&str] = &["Term", "Kill", "Hook", "deleting", "gone", "ask"];

fn stopped(
    edit: impl FnOnce(&mut Pod, &mut Script),
    grace_s: Option<u32>,
    until_s: u64,
) -> Machine {
    let mut m = Machine::booted();
    let mut a = pod("a", vec![container("web")]);
    let mut script = Script::default();
    edit(&mut a, &mut script);
    m.scripts.insert("web".into(), script);
    m.create(a);
    m.at(10_000, |m| m.trace = true);
    m.at(10_000, move |m| m.delete("a", grace_s));
    m.run(until_s);
    m
}

fn web(pod: &mut Pod) -> &mut Container {
    &mut Arc::make_mut(&mut pod.spec).containers[0]
}

#[test]
fn a_deleted_pod_is_told_then_gone() {
    let m = stopped(|_, _| {}, None, 30);
    m.check_with(
        WORDS,
        r#"
        10.000 a Running Ready web=ready deleting
        10.005 ask Signal
        10.005 Term web
        10.010 a Killing: Stopping container web
        10.055 ask RemovePod
        10.110 a Failed web=Error(143) deleting
        11.015 a gone
        "#,
    );
}

#[test]
fn sigkill_comes_at_the_end_of_the_grace_period() {
    let m = stopped(|_, script| script.on_term = None, None, 60);
    m.check_with(
        WORDS,
        r#"
        10.000 a Running Ready web=ready deleting
        10.005 ask Signal
        10.005 Term web
        10.010 a Killing: Stopping container web
        40.005 ask Signal
        40.005 Kill web
        40.006 ask RemovePod
        40.061 a Failed web=Error(137) deleting
        41.015 a gone
        "#,
    );
}

#[test]
fn the_grace_period_of_the_deletion_counts() {
    let m = stopped(|_, script| script.on_term = None, Some(5), 60);
    m.check_with(
        WORDS,
        r#"
        10.000 a Running Ready web=ready deleting
        10.005 ask Signal
        10.005 Term web
        10.010 a Killing: Stopping container web
        15.005 ask Signal
        15.005 Kill web
        15.006 ask RemovePod
        15.061 a Failed web=Error(137) deleting
        16.015 a gone
        "#,
    );
}

#[test]
fn a_pre_stop_hook_is_part_of_the_grace_period() {
    // 12.4 s of hook are 12 whole seconds: 18 are left for SIGTERM.
    let edit = |pod: &mut Pod, script: &mut Script| {
        web(pod).pre_stop = Some(Action::Exec(vec!["drain".into()]));
        script.hook = (Duration::from_millis(12_400), true);
        script.on_term = None;
    };
    let m = stopped(edit, None, 60);
    m.check_with(
        WORDS,
        r#"
        10.000 a Running Ready web=ready deleting
        10.005 ask Hook
        10.010 a Killing: Stopping container web
        22.405 ask Signal
        22.405 Term web
        40.405 ask Signal
        40.405 Kill web
        40.406 ask RemovePod
        40.461 a Failed web=Error(137) deleting
        41.015 a gone
        "#,
    );
}

#[test]
fn a_sleep_is_slept_by_the_kubelet() {
    let m = stopped(
        |pod, _| web(pod).pre_stop = Some(Action::Sleep(8)),
        None,
        60,
    );
    m.check_with(
        WORDS,
        r#"
        10.000 a Running Ready web=ready deleting
        10.010 a Killing: Stopping container web
        18.005 ask Signal
        18.005 Term web
        18.055 ask RemovePod
        18.110 a Failed web=Error(143) deleting
        19.015 a gone
        "#,
    );
}

#[test]
fn a_hook_that_takes_the_whole_grace_period_leaves_two_seconds() {
    let edit = |pod: &mut Pod, script: &mut Script| {
        web(pod).pre_stop = Some(Action::Sleep(60));
        script.on_term = None;
    };
    let m = stopped(edit, None, 60);
    m.check_with(
        WORDS,
        r#"
        10.000 a Running Ready web=ready deleting
        10.010 a Killing: Stopping container web
        40.005 ask Signal
        40.005 Term web
        42.005 ask Signal
        42.005 Kill web
        42.006 ask RemovePod
        42.061 a Failed web=Error(137) deleting
        43.015 a gone
        "#,
    );
}

#[test]
fn a_failing_hook_is_told_and_ignored() {
    let edit = |pod: &mut Pod, script: &mut Script| {
        web(pod).pre_stop = Some(Action::Exec(vec!["drain".into()]));
        script.hook = (Duration::from_millis(100), false);
    };
    let m = stopped(edit, None, 60);
    m.check_with(
        WORDS,
        r#"
        10.000 a Running Ready web=ready deleting
        10.005 ask Hook
        10.010 a Killing: Stopping container web
        10.105 ask Signal
        10.105 Term web
        10.110 a FailedPreStopHook: PreStopHook failed
        10.155 ask RemovePod
        10.210 a Failed web=Error(143) deleting
        11.015 a gone
        "#,
    );
}

#[test]
fn a_forced_deletion_leaves_the_containers_to_be_killed() {
    let mut m = Machine::booted();
    m.create(pod("a", vec![container("web")]));
    m.at(10_000, |m| m.delete("a", Some(0)));
    m.run(20);
    assert_eq!(m.kubelet.running().count(), 0);
    m.check_with(
        WORDS,
        r#"
        10.000 a gone
        10.005 Term web
        10.010 a Killing: Stopping container web
        "#,
    );
}

#[test]
fn a_failed_post_start_hook_kills_the_container() {
    let mut m = Machine::booted();
    m.script("web").hook = (Duration::from_millis(100), false);
    let mut web = container("web");
    web.post_start = Some(Action::Exec(vec!["warm".into()]));
    m.create(pod("a", vec![web]));
    m.run(12);
    m.check_with(
        &["Hook", "Term", "Killing", "a Running", "a Pending"],
        r#"
        0.000 a Pending
        0.010 a Pending web=ContainerCreating
        1.705 Term web
        1.710 a FailedPostStartHook: PostStartHook failed
        1.720 a Killing: FailedPostStartHook
        2.005 a Running web=PostStartHookError
        2.200 Term web
        2.205 a FailedPostStartHook: PostStartHook failed
        2.215 a Killing: FailedPostStartHook
        3.005 a Running web=PostStartHookError/1
        "#,
    );
}

#[test]
fn init_containers_run_in_order_before_the_others() {
    let mut m = Machine::booted();
    m.script("one").exits = vec![
        Some((Duration::from_secs(2), 1)),
        Some((Duration::from_secs(2), 0)),
    ];
    m.script("two").exits = vec![Some((Duration::from_secs(3), 0))];
    let mut a = pod("a", vec![container("web")]);
    Arc::make_mut(&mut a.spec).init_containers = vec![container("one"), container("two")];
    m.create(a);
    m.run(30);
    m.check_with(
        &["a Pending", "a Running"],
        r#"
        0.000 a Pending
        0.010 a Pending one=PodInitializing two=PodInitializing web=PodInitializing
        1.610 a Pending one=running two=PodInitializing web=PodInitializing
        4.005 a Pending one=Error(1) two=PodInitializing web=PodInitializing
        4.105 a Pending one=running/1 two=PodInitializing web=PodInitializing
        7.005 a Pending one=Completed(0)/1 two=PodInitializing web=PodInitializing
        8.105 a Pending one=Completed(0)/1 two=running web=PodInitializing
        12.005 a Pending one=Completed(0)/1 two=Completed(0) web=PodInitializing
        13.105 a Running Ready one=Completed(0)/1 two=Completed(0) web=ready
        "#,
    );
}

#[test]
fn sidecars_start_before_and_stop_after_the_others_in_reverse() {
    let mut m = Machine::booted();
    let sidecar = |name: &str| Container {
        restart_always: true,
        ..container(name)
    };
    let mut mesh = sidecar("mesh");
    mesh.startup = Some(probe(1, 30));
    m.script("mesh").answers = vec![
        (
            Duration::ZERO,
            Duration::from_millis(2),
            ProbeOutcome::Failure,
        ),
        (
            Duration::from_secs(3),
            Duration::from_millis(2),
            ProbeOutcome::Success,
        ),
    ];
    m.script("web").on_term = Some(Duration::from_secs(4));
    m.script("logs").on_term = Some(Duration::from_secs(3));
    let mut a = pod("a", vec![container("web")]);
    Arc::make_mut(&mut a.spec).init_containers = vec![mesh, sidecar("logs")];
    m.create(a);
    m.at(30_000, |m| m.delete("a", None));
    m.run(60);
    m.check_with(
        &["a Pending", "a Running", "Term", "Kill", "gone"],
        r#"
        0.000 a Pending
        0.010 a Pending mesh=PodInitializing logs=PodInitializing web=PodInitializing
        1.610 a Pending mesh=starting logs=PodInitializing web=PodInitializing
        4.629 a Pending mesh=ready logs=PodInitializing web=PodInitializing
        5.729 a Pending mesh=ready logs=ready web=PodInitializing
        6.829 a Running Ready mesh=ready logs=ready web=ready
        30.000 a Running Ready mesh=ready logs=ready web=ready deleting
        30.005 Term web
        30.010 a Killing: Stopping container mesh
        30.020 a Killing: Stopping container logs
        30.030 a Killing: Stopping container web
        34.005 Term logs
        37.005 Term mesh
        38.015 a gone
        "#,
    );
}
