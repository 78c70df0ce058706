//! Phases and conditions as functions of what containers do, as tables.

use super::*;
use crate::api::container::{RestartAction, RestartRule};
use crate::api::pod::RestartPolicy;
use crate::api::pod_status::{Phase, PodStatus, Terminated};
use crate::kubelet::conditions::{containers_ready, initialized, ready};
use crate::kubelet::pod_status::phase;

fn policy(word: &str) -> RestartPolicy {
    match word {
        "Always" => RestartPolicy::Always,
        "OnFailure" => RestartPolicy::OnFailure,
        _ => RestartPolicy::Never,
    }
}

fn ended(code: i32, reason: &'static str) -> Box<Terminated> {
    Box::new(Terminated {
        exit_code: code,
        reason: reason.into(),
        ..Terminated::default()
    })
}

/// `run` (running), `started`, `ready`, `wait`, an exit code, `back:code` (waits after that end), or
/// `again` (waits because all containers are started again).
fn shown(name: &str, word: &str) -> ContainerStatus {
    let waiting = || ContainerState::Waiting {
        reason: "CrashLoopBackOff".into(),
        message: None,
    };
    let since = Time::ZERO;
    let (state, last) = match word {
        "run" | "started" | "ready" => (ContainerState::Running { since }, None),
        "wait" => (ContainerState::default(), None),
        "again" => (waiting(), Some(ended(137, "RestartingAllContainers"))),
        _ => match word.strip_prefix("back:") {
            Some(code) => (waiting(), Some(ended(code.parse().unwrap(), "Error"))),
            None => {
                let end = ended(word.parse().unwrap(), "Error");
                (ContainerState::Terminated(*end), None)
            }
        },
    };
    ContainerStatus {
        name: name.into(),
        state,
        last,
        started: matches!(word, "started" | "ready"),
        ready: matches!(word, "ready" | "0"),
        restarts: 0,
    }
}

/// Reads `Policy | inits | containers`, each `name=state`; a name with `@Policy` has its own, and
/// `name?` has all start again after exit code 3.
fn read(case: &str) -> (PodSpec, PodStatus) {
    let parts: Vec<&str> = case.split('|').map(str::trim).collect();
    let mut spec = PodSpec {
        restart_policy: policy(parts[0]),
        ..PodSpec::default()
    };
    let mut status = PodStatus::default();
    for (at, words) in parts[1..].iter().enumerate() {
        for word in words.split_whitespace() {
            let (name, state) = word.split_once('=').unwrap();
            let (name, own) = match name.split_once('@') {
                Some((name, own)) => (name, Some(policy(own))),
                None => (name, None),
            };
            let mut new = container(name.trim_end_matches('?'));
            new.restart_policy = own;
            new.restart_always = at == 0 && own == Some(RestartPolicy::Always);
            if name.ends_with('?') {
                new.restart_policy = Some(RestartPolicy::Never);
                new.restart_rules = vec![RestartRule {
                    action: RestartAction::RestartAll,
                    except: false,
                    codes: vec![3],
                }];
            }
            let shown = shown(&new.name, state);
            if at == 0 {
                status.init_containers.push(shown);
                spec.init_containers.push(new);
            } else {
                status.containers.push(shown);
                spec.containers.push(new);
            }
        }
    }
    (spec, status)
}

/// After `kubelet_pods_test.go :: TestPodPhaseWithRestartAlways`, `…Never`, `…OnFailure` and their
/// siblings with init containers, sidecars and rules.
#[test]
fn the_phase_follows_from_the_containers() {
    // expected while the pod lives, and once it is known that nothing will be started any more
    let table = [
        ("Always | | a=wait b=wait", "Pending", "Pending"),
        ("Always | | a=run b=run", "Running", "Running"),
        ("Always | | a=0 b=0", "Running", "Succeeded"),
        ("Always | | a=1 b=0", "Running", "Failed"),
        ("Always | | a=run b=0", "Running", "Running"),
        ("Always | | a=run b=wait", "Pending", "Pending"),
        ("Always | | a=run b=back:1", "Running", "Running"),
        ("Always | | a=back:1 b=back:1", "Running", "Failed"),
        ("Never | | a=0 b=0", "Succeeded", "Succeeded"),
        ("Never | | a=0 b=1", "Failed", "Failed"),
        ("Never | | a=run b=1", "Running", "Running"),
        ("OnFailure | | a=0 b=0", "Succeeded", "Succeeded"),
        ("OnFailure | | a=0 b=1", "Running", "Failed"),
        ("OnFailure | | a=back:1 b=0", "Running", "Failed"),
        // init containers
        ("Always | i=run | a=wait", "Pending", "Pending"),
        ("Always | i=1 | a=wait", "Pending", "Pending"),
        ("Always | i=back:1 | a=wait", "Pending", "Pending"),
        ("Always | i=0 | a=run", "Running", "Running"),
        ("Always | i=run | a=run", "Pending", "Pending"),
        ("Never | i=1 | a=wait", "Failed", "Failed"),
        ("Never | i=back:1 | a=wait", "Failed", "Failed"),
        ("OnFailure | i=1 | a=wait", "Pending", "Pending"),
        // sidecars: not started, started, ended
        ("Always | i@Always=run | a=wait", "Pending", "Pending"),
        ("Always | i@Always=started | a=wait", "Pending", "Pending"),
        ("Always | i@Always=started | a=run", "Running", "Running"),
        ("Always | i@Always=1 | a=run", "Running", "Running"),
        ("Never | i@Always=started | a=0", "Running", "Running"),
        ("Never | i@Always=1 | a=0", "Succeeded", "Succeeded"),
        ("Never | i@Always=0 | a=1", "Failed", "Failed"),
        // policies of containers
        ("Never | | a@Always=1 b=0", "Running", "Failed"),
        ("Never | | a@OnFailure=0 b=0", "Succeeded", "Succeeded"),
        ("Always | | a@Never=1 b@Never=0", "Failed", "Failed"),
        ("Always | i@Never=1 | a=wait", "Failed", "Failed"),
        ("Never | i@OnFailure=1 | a=wait", "Pending", "Pending"),
        // all start again
        ("Never | | a?=3 b=0", "Running", "Failed"),
        ("Never | | a?=2 b=0", "Failed", "Failed"),
        ("Never | i=again | a=again", "Running", "Failed"),
        ("Never | i=run | a=again", "Pending", "Pending"),
    ];
    for (case, lives, over) in table {
        let (spec, status) = read(case);
        assert_eq!(phase(&spec, &status, false, false).name(), lives, "{case}");
        assert_eq!(
            phase(&spec, &status, true, false).name(),
            over,
            "{case}, over"
        );
    }
    // A sidecar that starts again does not make an initialized pod pending.
    let (spec, status) = read("Always | i@Always=run | a=run");
    assert_eq!(phase(&spec, &status, false, false), Phase::Pending);
    assert_eq!(phase(&spec, &status, false, true), Phase::Running);
}

/// After `generate_test.go :: TestGenerateContainersReadyCondition`, `TestGeneratePodReadyCondition`
/// and `TestGeneratePodInitializedCondition`.
#[test]
fn conditions_name_who_is_not_as_it_should_be() {
    let table = [
        ("Always | | a=ready b=ready", "True ", "True ", "True "),
        (
            "Always | | a=ready b=run c=wait",
            "False ContainersNotReady: containers with unready status: [b c]",
            "False ContainersNotReady: containers with unready status: [b c]",
            "True ",
        ),
        (
            "Always | i=run j=wait | a=wait",
            "False ContainersNotReady: containers with unready status: [a]",
            "False ContainersNotReady: containers with unready status: [a]",
            "False ContainersNotInitialized: containers with incomplete status: [i j]",
        ),
        (
            "Always | i=0 j@Always=run | a=wait",
            "False ContainersNotReady: containers with unready status: [j a]",
            "False ContainersNotReady: containers with unready status: [j a]",
            "False ContainersNotInitialized: containers with incomplete status: [j]",
        ),
        // once an ordinary container has run, the pod is initialized for good
        (
            "Always | i=0 j@Always=run | a=ready",
            "False ContainersNotReady: containers with unready status: [j]",
            "False ContainersNotReady: containers with unready status: [j]",
            "True ",
        ),
        (
            "Never | i=0 | a=0",
            "False PodCompleted: ",
            "False PodCompleted: ",
            "True PodCompleted: ",
        ),
        (
            "Never | i=1 | a=wait",
            "False PodFailed: ",
            "False PodFailed: ",
            "False ContainersNotInitialized: containers with incomplete status: [i]",
        ),
    ];
    for (case, all_ready, pod_ready, set_up) in table {
        let (spec, mut status) = read(case);
        status.phase = phase(&spec, &status, false, false);
        let say = |condition: crate::api::pod_status::PodCondition| {
            let reason = condition
                .reason
                .map(|reason| format!("{reason}: {}", condition.message.unwrap_or_default()));
            format!("{} {}", condition.status.name(), reason.unwrap_or_default())
        };
        let containers = containers_ready(&spec, &status);
        let pod = ready(&spec, &status, &containers);
        let init = initialized(&spec, &status, &PodStatus::default());
        let got = [say(containers), say(pod), say(init)];
        assert_eq!(got, [all_ready, pod_ready, set_up], "{case}");
    }
}
