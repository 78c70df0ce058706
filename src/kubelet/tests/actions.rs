//! What a sync has to do, as a table: `computePodActions` and `computeInitContainerActions`.

use super::*;
use crate::api::container::{RestartAction, RestartRule};
use crate::api::pod::RestartPolicy;
use crate::kubelet::actions::{Actions, compute, definition};
use crate::kubelet::probes::ProbeResult;
use crate::kubelet::record::{Attempt, Exit, ExitReason, Record, Sandbox};

fn policy(word: &str) -> RestartPolicy {
    match word {
        "Always" => RestartPolicy::Always,
        "OnFailure" => RestartPolicy::OnFailure,
        "Never" => RestartPolicy::Never,
        other => panic!("{other} is no policy"),
    }
}

/// A container by its words: `name`, `@policy` of its own (a sidecar, if it is an init container
/// with `@Always`), `?action` on exit code 3.
fn described(words: &str, init: bool) -> Container {
    let end = words.find(['@', '?', '=']).unwrap_or(words.len());
    let mut new = container(&words[..end]);
    let after = |mark: char| {
        let (_, rest) = words.split_once(mark)?;
        rest.split(['@', '?', '=']).next()
    };
    new.restart_policy = after('@').map(policy);
    new.restart_always = init && new.restart_policy == Some(RestartPolicy::Always);
    let rule = |action| RestartRule {
        action,
        except: false,
        codes: vec![3],
    };
    new.restart_rules = match after('?') {
        Some("restart") => vec![rule(RestartAction::Restart)],
        Some("all") => vec![rule(RestartAction::RestartAll)],
        _ => Vec::new(),
    };
    new.startup = words.contains("start").then(|| probe(10, 3));
    new.liveness = words.contains("alive").then(|| probe(10, 3));
    new
}

/// Reads `Policy sandbox | inits | containers`; states are `-` (none), `run`, `changed`,
/// `start:result` and `alive:result` (running, with what that probe said), or an exit code.
fn actions(case: &str, restart_all: bool) -> Actions {
    let parts: Vec<&str> = case.split('|').map(str::trim).collect();
    let (restart_policy, sandbox) = parts[0].split_once(' ').unwrap();
    let words = |at: usize| parts[at].split_whitespace();
    let state = |word: &str| word.split_once('=').map_or("-", |(_, s)| s).to_owned();
    let states: Vec<String> = words(1).chain(words(2)).map(state).collect();
    let mut pod = pod("a", words(2).map(|w| described(w, false)).collect());
    let spec = Arc::make_mut(&mut pod.spec);
    spec.init_containers = words(1).map(|w| described(w, true)).collect();
    spec.restart_policy = policy(restart_policy);
    let mut record = Record::new(spec);
    (record.sandbox, record.sandboxes) = match sandbox {
        "none" => (Sandbox::None, 0),
        "ready" => (Sandbox::Ready, 1),
        "dead" => (Sandbox::Dead, 1),
        other => panic!("{other} is no sandbox"),
    };
    let all: Vec<&Container> = (spec.init_containers.iter().chain(&spec.containers)).collect();
    for ((slot, state), container) in record.containers.iter_mut().zip(&states).zip(all) {
        let exit = state.parse().ok().map(|code| Exit {
            at: Time::from_secs(2),
            code,
            why: ExitReason::Code,
        });
        let changed = u32::from(state == "changed");
        slot.current = (state != "-").then_some(Attempt {
            number: 0,
            definition: definition(container) ^ changed,
            started: Time::from_secs(1),
            exit,
        });
    }
    compute(&pod, &record, restart_all, &|index, which| {
        let (kind, result) = states[index].split_once(':')?;
        let mine = matches!(
            (kind, which),
            ("start", ProbeKind::Startup) | ("alive", ProbeKind::Liveness)
        );
        match result {
            _ if !mine => None,
            "ok" => Some(ProbeResult::Success),
            "bad" => Some(ProbeResult::Failure),
            "unknown" => Some(ProbeResult::Unknown),
            _ => None,
        }
    })
}

fn print(actions: &Actions) -> String {
    let mut parts = Vec::new();
    if actions.kill_pod {
        parts.push("kill pod".to_owned());
    }
    if actions.sandbox {
        parts.push("sandbox".to_owned());
    }
    for (index, why) in &actions.kill {
        parts.push(format!("kill {index} ({})", why.message("x")));
    }
    if !actions.init.is_empty() {
        parts.push(format!("init {:?}", actions.init));
    }
    if !actions.start.is_empty() {
        parts.push(format!("start {:?}", actions.start));
    }
    for (index, running) in &actions.reset {
        let how = if *running {
            "kill and remove"
        } else {
            "remove"
        };
        parts.push(format!("{how} {index}"));
    }
    parts.join(", ")
}

fn check(table: &[(&str, &str)], restart_all: bool) {
    for (case, expected) in table {
        assert_eq!(print(&actions(case, restart_all)), *expected, "{case}");
    }
}

/// After `kuberuntime_manager_test.go :: TestComputePodActions`.
#[test]
fn what_a_pod_without_init_containers_needs() {
    check(
        &[
            (
                "Always none | | a b c",
                "kill pod, sandbox, start [0, 1, 2]",
            ),
            ("Always ready | | a=run b=run c=run", ""),
            ("Never ready | | a=run b=0 c=1", ""),
            ("OnFailure ready | | a=run b=0 c=1", "start [2]"),
            ("Always ready | | a=run b=0 c=1", "start [1, 2]"),
            ("Never ready | | a=run b c=1", "start [1]"),
            // all are done: nothing of the pod stays
            ("Never ready | | a=0 b=1", "kill pod"),
            ("OnFailure ready | | a=0 b=0", "kill pod"),
            // another sandbox is needed
            (
                "Always dead | | a=run b=0",
                "kill pod, sandbox, start [0, 1]",
            ),
            ("OnFailure dead | | a=0 b=2", "kill pod, sandbox, start [1]"),
            ("OnFailure dead | | a=0 b=0", "kill pod"),
            ("Never dead | | a=0 b=2", "kill pod"),
            ("Never dead | | a b", "kill pod, sandbox, start [0, 1]"),
            // the image is another now: whatever the policy
            (
                "Never ready | | a=changed b=run",
                "kill 0 (Container x definition changed, will be restarted), start [0]",
            ),
            (
                "Always ready | | a=alive:bad b=start:bad c=run",
                "kill 0 (Container x failed liveness probe, will be restarted), \
                 kill 1 (Container x failed startup probe, will be restarted), start [0, 1]",
            ),
            (
                "Never ready | | a=alive:bad b=run",
                "kill 0 (Container x failed liveness probe)",
            ),
            (
                "Never ready | | a=alive:bad",
                "kill pod, kill 0 (Container x failed liveness probe)",
            ),
            ("Always ready | | a=start:unknown", ""),
        ],
        false,
    );
}

/// After `kuberuntime_manager_test.go :: TestComputePodActionsWithInitContainers`.
#[test]
fn what_init_containers_need() {
    check(
        &[
            ("Always none | i j k | a", "kill pod, sandbox, init [0]"),
            ("Always ready | i j k | a", "init [0]"),
            ("Always ready | i=0 j k | a", "init [1]"),
            ("Always ready | i=0 j=run k | a", ""),
            ("Always ready | i=0 j=0 k=0 | a b", "start [3, 4]"),
            // one that has been forgotten before the last is not run again
            ("Always ready | i j k=0 | a", "start [3]"),
            ("Always ready | i j k | a=run", ""),
            // one failed
            ("Always ready | i=0 j=0 k=1 | a", "init [2]"),
            ("OnFailure ready | i=0 j=0 k=1 | a", "init [2]"),
            ("Never ready | i=0 j=0 k=1 | a", "kill pod"),
            // with a sandbox that is gone all begins anew
            (
                "Always dead | i=0 j=0 k=0 | a=run",
                "kill pod, sandbox, init [0]",
            ),
            ("OnFailure dead | i=0 j=0 | a=0", "kill pod"),
            ("Never dead | i=0 j=1 | a", "kill pod"),
            // rebooted: exited ordinary containers say nothing of this sandbox
            ("Always ready | i j | a=1", "init [0]"),
        ],
        false,
    );
}

/// After `kuberuntime_manager_test.go :: TestComputePodActionsWithRestartableInitContainers`.
#[test]
fn what_sidecars_need() {
    check(
        &[
            ("Always ready | i@Always j@Always k@Always | a", "init [0]"),
            (
                "Always ready | i@Always=run j@Always k@Always | a",
                "init [1]",
            ),
            ("Always ready | i@Always=start:x j@Always | a", ""),
            ("Always ready | i@Always=start:unknown j@Always | a", ""),
            ("Always ready | i@Always=start:ok j@Always | a", "init [1]"),
            (
                "Always ready | i@Always=start:bad j@Always | a",
                "kill 0 (Init container x failed startup probe), init [0]",
            ),
            ("Always ready | i@Always=run j@Always=run | a", "start [2]"),
            // those that have ended are started again, in the order of the spec
            (
                "Always ready | i@Always=0 j@Always=1 k@Always=run | a=run",
                "init [0, 1]",
            ),
            ("Never ready | i@Always=0 j@Always=run | a=run", "init [0]"),
            ("Always ready | i@Always j@Always=run | a=run", "init [0]"),
            (
                "Always ready | i@Always=alive:bad j@Always=run | a=run",
                "kill 0 (Init container x failed liveness probe), init [0]",
            ),
            (
                "Never ready | i@Always=changed j@Always=run | a=run",
                "kill 0 (Init container x definition changed), init [0]",
            ),
            // a sidecar before an ordinary init container
            ("Always ready | i@Always=run j | a", "init [1]"),
            ("Always ready | i@Always=run j=run | a", ""),
            ("Always ready | i@Always=1 j=run | a", "init [0]"),
            ("Always ready | i@Always=run j=1 | a", "init [1]"),
            ("Never ready | i@Always=run j=1 | a", "kill pod"),
            // the pod is done: sidecars do not keep it
            ("Never ready | i@Always=run | a=0", "kill pod"),
            ("Never ready | i@Always=0 | a=0", "init [0]"),
        ],
        false,
    );
}

/// After `kuberuntime_manager_test.go :: TestComputePodActionsWithContainerRestartRules`.
#[test]
fn what_containers_with_policies_of_their_own_need() {
    check(
        &[
            ("Never ready | | a@Always=0 b=run", "start [0]"),
            ("Never ready | | a@OnFailure=0 b=run", ""),
            ("Never ready | | a@OnFailure=1 b=run", "start [0]"),
            ("Always ready | | a@Never=1 b=run", ""),
            ("Always ready | | a@Never=1", "kill pod"),
            ("Never ready | | a@Never?restart=3 b=run", "start [0]"),
            ("Never ready | | a@Never?restart=1 b=run", ""),
            (
                "Never ready | | a@Always=alive:bad b=run",
                "kill 0 (Container x failed liveness probe, will be restarted), start [0]",
            ),
            (
                "Always ready | | a@Never=alive:bad b=run",
                "kill 0 (Container x failed liveness probe)",
            ),
            // rules are about exit codes, and there is none
            (
                "Always ready | | a@Never?restart=alive:bad b=run",
                "kill 0 (Container x failed liveness probe)",
            ),
            ("Never ready | i@OnFailure=1 | a", "init [0]"),
            ("Always ready | i@Never=1 | a", "kill pod"),
            ("Never ready | i@Never?restart=3 | a", "init [0]"),
            (
                "Always dead | | a@OnFailure=0 b=0",
                "kill pod, sandbox, start [1]",
            ),
            (
                "OnFailure dead | | a@Always=0 b=0",
                "kill pod, sandbox, start [0]",
            ),
        ],
        false,
    );
}

/// After `kuberuntime_manager_test.go :: TestComputePodActionsForRestartAllContainers`.
#[test]
fn who_asked_for_all_to_restart_goes_last() {
    check(
        &[
            (
                "Never ready | i=0 j@Always=run | a@Never?all=3 b=run",
                "kill and remove 3, remove 0, kill and remove 1, remove 2",
            ),
            ("Never ready | i@Never?all=3 | a b", "remove 0"),
            // the same rule, but another code
            (
                "Always ready | | a@Never?all=1 b@Never?all=3",
                "remove 0, remove 1",
            ),
        ],
        true,
    );
}
