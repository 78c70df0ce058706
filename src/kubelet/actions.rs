//! What one sync of a pod has to do, computed from what the runtime was last seen to run.
//!
//! `pkg/kubelet/kuberuntime/kuberuntime_manager.go :: computePodActions` and
//! `kuberuntime_container.go :: computeInitContainerActions`: pure functions of the spec, the
//! record and the probes' results. Ephemeral containers, resizing and restart rules are left out.

use super::probes::ProbeResult;
use super::record::{Record, Sandbox, Slot};
use super::runtime::{ProbeKind, container_of};
use crate::api::container::Container;
use crate::api::pod::RestartPolicy;
use crate::api::{Pod, PodSpec};

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
    pub(super) init: Vec<usize>,
    /// Ordinary containers to start, in this order.
    pub(super) start: Vec<usize>,
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
            KillWhy::PostStart => "FailedPostStartHook".into(),
        }
    }
}

/// `podutil.ContainerShouldRestart`: whether an ended container is started again.
pub(super) fn restarts(container: &Container, spec: &PodSpec, code: u8) -> bool {
    container.restart_always
        || match spec.restart_policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => code != 0,
            RestartPolicy::Never => false,
        }
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

/// What to do about `pod`, whose containers were seen as in `record`. `result` is the latest result
/// of a probe of a running container.
pub(super) fn compute(
    pod: &Pod,
    record: &Record,
    result: &dyn Fn(usize, ProbeKind) -> Option<ProbeResult>,
) -> Actions {
    let spec = &pod.spec;
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
        let again = spec.restart_policy != RestartPolicy::Never;
        let why = if result(index, ProbeKind::Liveness) == Some(ProbeResult::Failure) {
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
    let run_once = spec.restart_policy == RestartPolicy::OnFailure;
    let start: Vec<usize> = (inits..inits + spec.containers.len())
        .filter(|i| !(run_once && record.slot(*i).exit().is_some_and(|exit| exit.code == 0)))
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
                let result = |which| result(index, which);
                initialized |= running_sidecar(container, index, count, before, &result, actions);
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

/// A sidecar that runs: lets the next init container start once it has started, and is restarted
/// when a probe fails. Returns whether it was the last one, and so the pod is initialized.
fn running_sidecar(
    container: &Container,
    index: usize,
    count: usize,
    before: bool,
    result: &dyn Fn(ProbeKind) -> Option<ProbeResult>,
    actions: &mut Actions,
) -> bool {
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
    let last = index == count - 1;
    if !last && !before {
        actions.init.push(index + 1);
    }
    if container.liveness.is_some() && result(ProbeKind::Liveness) == Some(ProbeResult::Failure) {
        actions.kill.push((index, KillWhy::SidecarLiveness));
        actions.init.push(index);
    }
    last
}
