//! Containers that are started again for other reasons than a crash: another image, rules.

use super::*;
use crate::api::Shared;
use crate::api::container::{RestartAction, RestartRule};
use crate::api::pod::RestartPolicy;
use crate::api::pod_status::{PodConditionKind, PodStatus};

const SECOND: Duration = Duration::from_secs(1);

fn with_image(m: &mut Machine, pod: &str, image: &'static str) {
    let (id, old) = m.store.view().pods().find("default", pod).unwrap();
    let mut new = Pod::clone(old);
    let spec = Arc::make_mut(&mut new.spec);
    spec.containers[0].image = image.into();
    m.write(Write::Update(id.into(), new.into()));
}

fn status(m: &Machine, pod: &str) -> Shared<PodStatus> {
    let (_, row) = m.store.view().pods().find("default", pod).unwrap();
    row.status.clone()
}

fn why(status: &ContainerStatus) -> String {
    match &status.state {
        ContainerState::Waiting { reason, message } => {
            let message = message.as_deref().map_or("", Text::as_str);
            format!("{reason}: {message}")
        }
        other => format!("{other:?}"),
    }
}

/// After `kuberuntime_manager_test.go :: TestComputePodActions`, "Kill and recreate the container if
/// the container's spec changed".
#[test]
fn another_image_stops_the_container_and_starts_it_again_whatever_the_policy() {
    let mut m = Machine::booted();
    let mut a = pod("a", vec![container("app")]);
    Arc::make_mut(&mut a.spec).restart_policy = RestartPolicy::Never;
    m.create(a);
    m.at(10_000, |m| with_image(m, "a", "app:2"));
    // A label changes nothing of the container.
    m.at(20_000, |m| {
        let (id, old) = m.store.view().pods().find("default", "a").unwrap();
        let mut new = Pod::clone(old);
        new.meta.labels = [("tier", "web")].into_iter().collect();
        m.write(Write::Update(id.into(), new.into()));
    });
    m.run(40);
    m.check(
        r#"
        0.000 a Pending
        0.010 a Pending app=ContainerCreating
        0.510 a Pulling: Pulling image "app:1"
        1.510 a Pulled: Successfully pulled image "app:1" in 1s (1s including waiting). …
        1.610 a Created: Container created
        1.610 a Running Ready app=ready
        1.620 a Started: Container started
        10.005 Term app
        10.010 a Killing: Container app definition changed, will be restarted
        10.060 a Pulling: Pulling image "app:2"
        11.060 a Pulled: Successfully pulled image "app:2" in 1s (1s including waiting).…
        11.160 a Created: Container created
        11.160 a Running Ready app=ready/1
        11.170 a Started: Container started
        "#,
    );
}

/// After `helpers_test.go :: TestGetBackoffKey`.
#[test]
fn another_image_ends_the_back_off() {
    let mut m = Machine::booted();
    m.script("app").exits = vec![
        Some((SECOND, 1)),
        Some((SECOND, 1)),
        Some((SECOND, 1)),
        Some((SECOND, 1)),
        None,
    ];
    m.create(pod("a", vec![container("app")]));
    // It waits for 40 s since 43 s.
    m.at(50_000, |m| with_image(m, "a", "app:2"));
    // What is said lasts from the sync that finds the wait over to the start.
    m.at(19_050, |m| {
        let status = status(m, "a");
        assert_eq!(
            why(&status.containers[0]),
            format!(
                "CrashLoopBackOff: back-off 10s restarting failed container=app \
                 pod=a_default({})",
                m.store
                    .view()
                    .pods()
                    .find("default", "a")
                    .unwrap()
                    .1
                    .meta
                    .uid
            )
        );
    });
    m.run(60);
    m.check_with(
        &["Created"],
        r#"
        1.610 a Created: Container created
        3.105 a Created: Container created
        19.105 a Created: Container created
        42.105 a Created: Container created
        51.110 a Created: Container created
        "#,
    );
}

fn rule(action: RestartAction, code: i32) -> RestartRule {
    RestartRule {
        action,
        except: false,
        codes: vec![code],
    }
}

/// After `test/e2e_node/container_restart_policy_test.go`.
#[test]
fn containers_have_policies_of_their_own() {
    let mut m = Machine::booted();
    m.script("once").exits = vec![Some((SECOND, 1))];
    m.script("again").exits = vec![Some((SECOND, 42)), Some((SECOND, 1)), None];
    let mut once = container("once");
    once.restart_policy = Some(RestartPolicy::Never);
    let mut again = container("again");
    again.restart_policy = Some(RestartPolicy::Never);
    again.restart_rules = vec![rule(RestartAction::Restart, 42)];
    m.create(pod("a", vec![once, again]));
    m.run(40);
    m.check_with(
        &["a Running", "a Failed"],
        r#"
        2.710 a Running once=Error(1) again=ready
        4.005 a Running once=Error(1) again=Error(42)
        4.105 a Running once=Error(1) again=ready/1
        6.005 a Running once=Error(1) again=Error(1)/1
        7.055 a Failed once=Error(1) again=Error(1)/1
        "#,
    );
}

/// After `test/e2e_node/restart_all_containers_test.go`.
#[test]
fn one_container_has_all_started_again_in_order() {
    let mut m = Machine::booted();
    m.script("init").exits = vec![Some((SECOND, 0))];
    m.script("main").exits = vec![Some((5 * SECOND, 42)), None];
    m.script("side").on_term = None;
    let mut main = container("main");
    main.restart_policy = Some(RestartPolicy::Never);
    main.restart_rules = vec![rule(RestartAction::RestartAll, 42)];
    let mut a = pod("a", vec![main, container("side")]);
    Arc::make_mut(&mut a.spec).init_containers = vec![container("init")];
    m.create(a);
    m.at(15_000, |m| {
        let status = status(m, "a");
        let restarting = status.condition(&PodConditionKind::AllContainersRestarting);
        assert_eq!(restarting.unwrap().status, Truth::False);
    });
    m.run(60);
    m.check_with(
        &["a Running", "a Pending", "Term", "Kill ", "Killing"],
        r#"
        0.000 a Pending
        0.010 a Pending init=PodInitializing main=PodInitializing side=PodInitializing
        1.610 a Pending init=running main=PodInitializing side=PodInitializing
        3.005 a Pending init=Completed(0) main=PodInitializing side=PodInitializing
        5.205 a Running Ready init=Completed(0) main=ready side=ready
        10.000 Term side
        10.005 a Killing: killing
        10.005 a Running init=Completed(0) main=Error(42) side=ready
        12.000 Kill side
        12.006 a Running init=RestartingAllContainers/1 main=RestartingAllContainers/1 s…
        12.106 a Pending init=running/1 main=PodInitializing/1 side=PodInitializing/1
        14.005 a Running init=Completed(0)/1 main=PodInitializing/1 side=PodInitializing…
        14.205 a Running Ready init=Completed(0)/1 main=ready/1 side=ready/1
        "#,
    );
}
