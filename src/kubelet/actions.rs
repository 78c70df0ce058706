//! What one sync of a pod has to do, computed from what the runtime was last seen to run.
//!
//! `pkg/kubelet/kuberuntime/kuberuntime_manager.go :: computePodActions` and
//! `kuberuntime_container.go :: computeInitContainerActions`: pure functions of the spec, the
//! record and the probes' results. Ephemeral containers and resizing are left out.

use smallvec::SmallVec;

use super::probes::ProbeResult;
use super::record::{Attempt, Record, Sandbox, Slot};
use super::runtime::{ProbeKind, container_of};
use crate::api::container::{Container, RestartAction};
use crate::api::pod::RestartPolicy;
use crate::api::{Pod, PodSpec};

/// Indexes of a few containers.
pub(super) type Places = SmallVec<[usize; 2]>;

/// `podActions`. Indexes count init containers first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Actions {
    /// Kill everything, sandbox included (before making a new one, or for good).
    pub(super) kill_pod: bool,
    /// Make a sandbox.
    pub(super) sandbox: bool,
    /// Running containers to kill first.
    pub(super) kill: Vec<(usize, KillWhy)>,
    /// Init containers to start, in this order.
    pub(super) init: Places,
    /// Ordinary containers to start, in this order.
    pub(super) start: Places,
    /// Containers to remove, in this order, and whether each is to be killed before.
    pub(super) reset: Vec<(usize, bool)>,
}

/// Why a container is killed: decides its grace period and the KubeEvent's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KillWhy {
    /// The pod ends.
    Stop,
    /// Its liveness probe failed; whether it is started again.
    Liveness(bool),
    /// Its startup probe failed; whether it is started again.
    Startup(bool),
    /// The same of a sidecar.
    SidecarLiveness,
    /// The same of a sidecar.
    SidecarStartup,
    /// Its spec names another image now.
    Changed,
    /// The same of a sidecar.
    SidecarChanged,
    /// A restart rule has all containers started again.
    RestartAll,
    /// Its `postStart` hook failed.
    PostStart,
}

impl KillWhy {
    pub(super) fn message(self, name: &str) -> String {
        let again = |yes| if yes { ", will be restarted" } else { "" };
        match self {
            KillWhy::Stop => format!("Stopping container {name}"),
            KillWhy::Liveness(yes) => {
                format!("Container {name} failed liveness probe{}", again(yes))
            }
            KillWhy::Startup(yes) => format!("Container {name} failed startup probe{}", again(yes)),
            KillWhy::SidecarLiveness => format!("Init container {name} failed liveness probe"),
            KillWhy::SidecarStartup => format!("Init container {name} failed startup probe"),
            KillWhy::Changed => format!("Container {name} definition changed, will be restarted"),
            KillWhy::SidecarChanged => format!("Init container {name} definition changed"),
            KillWhy::RestartAll => "killing".into(),
            KillWhy::PostStart => "FailedPostStartHook".into(),
        }
    }
}

/// `podutil.ContainerShouldRestart`: whether an ended container is started again.
pub(super) fn restarts(container: &Container, spec: &PodSpec, code: u8) -> bool {
    container.restarts_after(code.into(), spec.restart_policy)
}

/// What of a container cannot change without its being started again, in one number
/// (`pkg/kubelet/container/helpers.go :: HashContainer`).
pub(super) fn definition(container: &Container) -> u32 {
    let bytes = container.name.bytes().chain([0]);
    let bytes = bytes.chain(container.image.bytes());
    bytes.fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// `containerChanged`, of a container that runs.
fn changed(container: &Container, slot: Slot) -> bool {
    slot.current
        .is_some_and(|attempt| attempt.definition != definition(container))
}

/// `pkg/kubelet/container/helpers.go :: ShouldContainerBeRestarted`.
pub(super) fn should_start(pod: &Pod, container: &Container, slot: Slot) -> bool {
    if pod.meta.deleting() {
        return false;
    }
    match slot.current {
        None => true,
        Some(attempt) => attempt
            .exit
            .is_some_and(|exit| restarts(container, &pod.spec, exit.code)),
    }
}

/// What to do about `pod`, whose containers were seen as in `record`; `restart_all` says that a
/// restart rule has them all started again. `result` is the latest result of a probe of a running
/// container.
pub(super) fn compute(
    pod: &Pod,
    record: &Record,
    restart_all: bool,
    result: &dyn Fn(usize, ProbeKind) -> Option<ProbeResult>,
) -> Actions {
    let spec = &pod.spec;
    if restart_all {
        return Actions {
            reset: to_reset(spec, record),
            ..Actions::default()
        };
    }
    if record.sandbox != Sandbox::Ready {
        return for_new_sandbox(spec, record);
    }
    let mut actions = Actions::default();
    let initialized = init_actions(pod, record, result, &mut actions);
    if actions.kill_pod || !initialized {
        return actions;
    }
    let mut kept = 0;
    for (at, container) in spec.containers.iter().enumerate() {
        let index = spec.init_containers.len() + at;
        let slot = record.slot(index);
        if !slot.running() {
            if should_start(pod, container, slot) {
                actions.start.push(index);
            }
            continue;
        }
        // Rules are about exit codes, and there is none yet.
        let policy = container.restart_policy.unwrap_or(spec.restart_policy);
        let mut again = policy != RestartPolicy::Never;
        let why = if changed(container, slot) {
            again = true;
            KillWhy::Changed
        } else if result(index, ProbeKind::Liveness) == Some(ProbeResult::Failure) {
            KillWhy::Liveness(again)
        } else if result(index, ProbeKind::Startup) == Some(ProbeResult::Failure) {
            KillWhy::Startup(again)
        } else {
            kept += 1;
            continue;
        };
        if again {
            actions.start.push(index);
        }
        actions.kill.push((index, why));
    }
    if kept == 0 && actions.start.is_empty() {
        actions.kill_pod = true;
        actions.init.clear();
    }
    actions
}

/// `getContainersToReset` and their order: those that asked for it go last.
fn to_reset(spec: &PodSpec, record: &Record) -> Vec<(usize, bool)> {
    let inits = spec.init_containers.len();
    let sorted_out = |containers: &[Container], from: usize| {
        let known = containers.iter().zip(from..);
        let known = known.filter_map(|(c, i)| Some((c, i, record.slot(i).current?)));
        let (asked, others): (Vec<_>, Vec<_>) = known.partition(|(container, _, attempt)| {
            let rule = attempt.exit.map(|e| container.restart_rule(e.code.into()));
            rule == Some(Some(RestartAction::RestartAll))
        });
        let place = |all: Vec<(&Container, usize, Attempt)>| -> Vec<(usize, bool)> {
            all.iter().map(|(_, i, a)| (*i, a.running())).collect()
        };
        (place(asked), place(others))
    };
    let (asking_inits, inits_too) = sorted_out(&spec.init_containers, 0);
    let (asking, ordinary) = sorted_out(&spec.containers, inits);
    [ordinary, inits_too, asking, asking_inits].concat()
}

/// The part of `computePodActions` for a pod without a ready sandbox.
fn for_new_sandbox(spec: &PodSpec, record: &Record) -> Actions {
    let mut actions = Actions {
        kill_pod: true,
        sandbox: true,
        ..Actions::default()
    };
    let any_container = record.containers.iter().any(|s| s.current.is_some());
    if spec.restart_policy == RestartPolicy::Never && record.sandboxes != 0 && any_container {
        actions.sandbox = false;
        return actions;
    }
    let inits = spec.init_containers.len();
    let done = |container: &Container, index: usize| {
        let policy = container.restart_policy.unwrap_or(spec.restart_policy);
        let exit = record.slot(index).exit();
        policy == RestartPolicy::OnFailure && exit.is_some_and(|exit| exit.code == 0)
    };
    let start: Places = (spec.containers.iter().zip(inits..))
        .filter(|(container, index)| !done(container, *index))
        .map(|(_, index)| index)
        .collect();
    if start.is_empty() && record.any_main_created(inits) {
        actions.sandbox = false;
        return actions;
    }
    if inits > 0 {
        actions.init.push(0);
    } else {
        actions.start = start;
    }
    actions
}

/// `computeInitContainerActions`: whether the pod has been initialized. Goes through the init
/// containers backwards, because finished ones may have been forgotten.
fn init_actions(
    pod: &Pod,
    record: &Record,
    result: &dyn Fn(usize, ProbeKind) -> Option<ProbeResult>,
    actions: &mut Actions,
) -> bool {
    let spec = &pod.spec;
    let count = spec.init_containers.len();
    if count == 0 {
        return true;
    }
    let mut initialized = (count..count + spec.containers.len()).any(|i| record.slot(i).running());
    let mut before = initialized;
    for index in (0..count).rev() {
        let Some(container) = container_of(spec, u16::try_from(index).unwrap_or(u16::MAX)) else {
            continue;
        };
        let sidecar = container.restart_always;
        let Some(attempt) = record.slot(index).current else {
            if before && sidecar {
                actions.init.push(index);
            }
            continue;
        };
        if before && !sidecar {
            continue;
        }
        match attempt.exit {
            None if !sidecar => {}
            None => {
                let seen = Sidecar {
                    container,
                    index,
                    last: index == count - 1,
                    changed: changed(container, record.slot(index)),
                };
                let result = |which| result(index, which);
                initialized |= running_sidecar(&seen, before, &result, actions);
            }
            Some(_) if sidecar => actions.init.push(index),
            Some(exit) if exit.code != 0 => {
                if !should_start(pod, container, record.slot(index)) {
                    actions.kill_pod = true;
                    actions.init.clear();
                    return false;
                }
                actions.init.push(index);
            }
            Some(_) if index == count - 1 => initialized = true,
            Some(_) => actions.init.push(index + 1),
        }
        before = true;
    }
    if !before {
        actions.init.push(0);
    }
    actions.init.reverse();
    initialized
}

/// A sidecar that runs.
struct Sidecar<'a> {
    container: &'a Container,
    index: usize,
    /// No init container comes after it.
    last: bool,
    changed: bool,
}

/// A sidecar that runs: lets the next init container start once it has started, and is restarted
/// when a probe fails or its spec has changed. Returns whether it was the last one, and so the pod
/// is initialized.
fn running_sidecar(
    seen: &Sidecar<'_>,
    before: bool,
    result: &dyn Fn(ProbeKind) -> Option<ProbeResult>,
    actions: &mut Actions,
) -> bool {
    let Sidecar {
        container,
        index,
        last,
        changed,
    } = *seen;
    if container.startup.is_some() {
        match result(ProbeKind::Startup) {
            Some(ProbeResult::Success) => {}
            Some(ProbeResult::Failure) => {
                actions.kill.push((index, KillWhy::SidecarStartup));
                actions.init.push(index);
                return false;
            }
            _ => return false,
        }
    }
    if !last && !before {
        actions.init.push(index + 1);
    }
    if changed {
        actions.kill.push((index, KillWhy::SidecarChanged));
        actions.init.push(index);
    } else if container.liveness.is_some()
        && result(ProbeKind::Liveness) == Some(ProbeResult::Failure)
    {
        actions.kill.push((index, KillWhy::SidecarLiveness));
        actions.init.push(index);
    }
    last
}
