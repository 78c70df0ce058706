//! Pulling images: the queue, the back-off, the policies.

use super::*;
use crate::api::container::PullPolicy;

fn slow(m: &mut Machine, image: &str, seconds: u64, outcome: PullOutcome) {
    m.pulls
        .insert(image.into(), (Duration::from_secs(seconds), outcome));
}

#[test]
fn pulls_of_a_node_go_one_after_the_other() {
    let mut m = Machine::booted();
    for name in ["a", "b", "c"] {
        slow(&mut m, &format!("{name}:1"), 10, PullOutcome::Ok);
        m.create(pod(&format!("pod-{name}"), vec![container(name)]));
    }
    m.run(60);
    m.check_with(
        &["Pull"],
        r#"
        0.510 pod-a Pulling: Pulling image "a:1"
        0.520 pod-b Pulling: Pulling image "b:1"
        0.530 pod-c Pulling: Pulling image "c:1"
        10.510 pod-a Pulled: Successfully pulled image "a:1" in 10s (10s including waiti…
        20.510 pod-b Pulled: Successfully pulled image "b:1" in 10s (20s including waiti…
        30.510 pod-c Pulled: Successfully pulled image "c:1" in 10s (30s including waiti…
        "#,
    );
}

#[test]
fn pulls_may_be_parallel() {
    let mut m = Machine::new(KubeletConfig {
        serialize_image_pulls: false,
        max_parallel_image_pulls: Some(2),
        ..KubeletConfig::default()
    });
    m.boot(Boot::Reboot);
    for name in ["a", "b", "c"] {
        slow(&mut m, &format!("{name}:1"), 10, PullOutcome::Ok);
        m.create(pod(&format!("pod-{name}"), vec![container(name)]));
    }
    m.run(60);
    m.check_with(
        &["Pulled"],
        r#"
        10.510 pod-a Pulled: Successfully pulled image "a:1" in 10s (10s including waiti…
        10.520 pod-b Pulled: Successfully pulled image "b:1" in 10s (10s including waiti…
        20.510 pod-c Pulled: Successfully pulled image "c:1" in 10s (20s including waiti…
        "#,
    );
}

#[test]
fn a_missing_image_is_asked_for_again_after_10_20_40_seconds() {
    let mut m = Machine::booted();
    slow(&mut m, "app:1", 1, PullOutcome::NotFound);
    m.create(pod("a", vec![container("app")]));
    m.run(120);
    m.check_with(
        &["a Pending", "Pulling", "BackOff:", "Failed:"],
        r#"
        0.000 a Pending
        0.010 a Pending app=ContainerCreating
        0.510 a Pulling: Pulling image "app:1"
        1.510 a Failed: Failed to pull image "app:1": rpc error: code = NotFound desc = …
        1.520 a Failed: Error: ErrImagePull
        2.005 a BackOff: Back-off pulling image "app:1"
        2.005 a Pending app=ErrImagePull
        2.015 a Failed: Error: ImagePullBackOff
        13.005 a Pulling: Pulling image "app:1"
        13.005 a Pending app=ImagePullBackOff
        14.005 a Failed: Failed to pull image "app:1": rpc error: code = NotFound desc =…
        14.015 a Failed: Error: ErrImagePull
        29.005 a BackOff: Back-off pulling image "app:1"
        29.005 a Pending app=ErrImagePull
        29.015 a Failed: Error: ImagePullBackOff
        42.005 a Pulling: Pulling image "app:1"
        42.005 a Pending app=ImagePullBackOff
        43.005 a Failed: Failed to pull image "app:1": rpc error: code = NotFound desc =…
        43.015 a Failed: Error: ErrImagePull
        56.005 a BackOff: Back-off pulling image "app:1"
        56.005 a Pending app=ErrImagePull
        56.015 a Failed: Error: ImagePullBackOff
        67.005 a BackOff: Back-off pulling image "app:1"
        67.005 a Pending app=ImagePullBackOff
        67.015 a Failed: Error: ImagePullBackOff
        79.005 a BackOff: Back-off pulling image "app:1"
        79.015 a Failed: Error: ImagePullBackOff
        93.005 a Pulling: Pulling image "app:1"
        94.005 a Failed: Failed to pull image "app:1": rpc error: code = NotFound desc =…
        94.015 a Failed: Error: ErrImagePull
        109.005 a BackOff: Back-off pulling image "app:1"
        109.005 a Pending app=ErrImagePull
        109.015 a Failed: Error: ImagePullBackOff
        "#,
    );
}

#[test]
fn the_policy_decides_whether_a_present_image_is_pulled() {
    let mut m = Machine::booted();
    let app = |policy| Container {
        pull_policy: policy,
        image: "app:1".into(),
        ..container("app")
    };
    m.create(pod("a", vec![app(PullPolicy::Never)]));
    m.at(5_000, move |m| {
        m.create(pod("b", vec![app(PullPolicy::IfNotPresent)]))
    });
    m.at(10_000, move |m| {
        m.create(pod("c", vec![app(PullPolicy::IfNotPresent)]))
    });
    m.at(15_000, move |m| {
        m.create(pod("d", vec![app(PullPolicy::Always)]))
    });
    m.run(19);
    m.check_with(
        &["Pull", "Error:"],
        r#"
        0.510 a ErrImageNeverPull: Container image "app:1" is not present with pull poli…
        0.520 a Failed: Error: ErrImageNeverPull
        1.005 a ErrImageNeverPull: Container image "app:1" is not present with pull poli…
        1.005 a Pending app=ErrImageNeverPull
        1.015 a Failed: Error: ErrImageNeverPull
        5.510 b Pulling: Pulling image "app:1"
        6.510 b Pulled: Successfully pulled image "app:1" in 1s (1s including waiting). …
        10.510 c Pulled: Container image "app:1" already present on machine and can be a…
        12.005 a Pulled: Container image "app:1" already present on machine and can be a…
        15.510 d Pulling: Pulling image "app:1"
        16.510 d Pulled: Successfully pulled image "app:1" in 1s (1s including waiting).…
        "#,
    );
}

#[test]
fn a_second_container_waits_for_the_pull_of_the_first() {
    let mut m = Machine::booted();
    slow(&mut m, "one:1", 30, PullOutcome::Ok);
    m.create(pod("a", vec![container("one"), container("two")]));
    m.at(10_000, |m| m.delete("a", None));
    m.run(60);
    // A deletion is heard at once but the sync under way is not interrupted: both containers are
    // still started, and then stopped.
    m.check(
        r#"
        0.000 a Pending
        0.010 a Pending one=ContainerCreating two=ContainerCreating
        0.510 a Pulling: Pulling image "one:1"
        10.000 a Pending one=ContainerCreating two=ContainerCreating deleting
        30.510 a Pulled: Successfully pulled image "one:1" in 30s (30s including waiting…
        30.610 a Created: Container created
        30.620 a Started: Container started
        30.630 a Pulling: Pulling image "two:1"
        31.610 a Pulled: Successfully pulled image "two:1" in 1s (1s including waiting).…
        31.705 Term one
        31.705 Term two
        31.710 a Created: Container created
        31.710 a Running Ready one=ready two=ready deleting
        31.720 a Started: Container started
        31.730 a Killing: Stopping container one
        31.740 a Killing: Stopping container two
        31.810 a Failed one=Error(143) two=Error(143) deleting
        32.015 a gone
        "#,
    );
}

/// After `image_manager_test.go :: pullerTestCases` and `handlers_test.go :: TestRunHandlerExec`.
#[test]
fn a_waiting_container_says_why() {
    let mut m = Machine::booted();
    slow(&mut m, "app:1", 1, PullOutcome::NotFound);
    m.create(pod("a", vec![container("app")]));
    let mut bad = container("bad");
    bad.image = "Bad".into();
    m.create(pod("b", vec![bad]));
    let mut hooked = container("hooked");
    hooked.post_start = Some(Action::Exec(vec!["touch".into(), "/x".into()]));
    m.script("hooked").hook.1 = false;
    m.create(pod("c", vec![hooked]));
    for at in [2_500, 13_500] {
        m.at(at, move |m| {
            for name in ["a", "b", "c"] {
                let (_, row) = m.store.view().pods().find("default", name).unwrap();
                let said = match &row.status.containers[0].state {
                    ContainerState::Waiting { reason, message } => {
                        let message = message.as_deref().map_or("", Text::as_str);
                        let uid = row.meta.uid.to_string();
                        format!("{reason}: {}", message.replace(&uid, "UID"))
                    }
                    other => format!("{other:?}"),
                };
                m.lines.push(format!("said {name} {said}"));
            }
        });
    }
    m.run(20);
    let said: Vec<String> = m.lines_with(&["said"]);
    let pull = "rpc error: code = NotFound desc = failed to pull and unpack image \"app:1\": \
                failed to resolve reference \"app:1\": app:1: not found";
    let name = "InvalidImageName: Failed to apply default image tag \"Bad\": couldn't parse image \
                name \"Bad\": invalid reference format: repository name (library/Bad) must be \
                lowercase";
    let expected = [
        format!("said a ErrImagePull: {pull}"),
        format!("said b {name}"),
        "said c ContainerCreating: ".to_owned(),
        format!("said a ImagePullBackOff: Back-off pulling image \"app:1\": ErrImagePull: {pull}"),
        format!("said b {name}"),
        "said c PostStartHookError: Exec lifecycle hook ([touch /x]) for Container \"hooked\" in \
         Pod \"c_default(UID)\" failed - error: command 'touch /x' exited with 1: , message: \"\""
            .to_owned(),
    ];
    assert_eq!(said, expected);
}
