//! The status of a pod, computed from its spec, what runs of it, and what its probes say.
//!
//! `pkg/kubelet/kubelet_pods.go :: generateAPIPodStatus`, `convertToAPIContainerStatuses` and
//! `getPhase`, `prober_manager.go :: UpdatePodStatus`: pure functions. What is left out: resizing,
//! ephemeral containers.

use std::time::Duration;

use super::actions::should_start;
use super::conditions;
use super::pod_worker::Memory;
use super::probes::{ProbeResult, ProbeWorker, worker};
use super::record::{Record, Sandbox, whole_seconds};
use super::runtime::ProbeKind;
use super::status::by_kubelet;
use crate::api::container::Container;
use crate::api::pod_status::{
    ContainerState, ContainerStatus, Phase, PodCondition, PodConditionKind, PodIp, PodStatus,
    Terminated, Truth,
};
use crate::api::{Pod, PodSpec, Text, text};
use crate::engine::Time;

/// `prober_manager.go :: kubeletRestartGracePeriod`.
const RESTART_GRACE: Duration = Duration::from_secs(10);

/// Conditions that every pod of a kubelet has.
const OWN_CONDITIONS: usize = 5;

/// What a status is computed from.
pub(super) struct Facts<'a> {
    pub(super) pod: &'a Pod,
    /// The status so far.
    pub(super) old: &'a PodStatus,
    /// What runs, as last seen.
    pub(super) record: &'a Record,
    pub(super) probes: &'a [ProbeWorker],
    pub(super) memory: &'a [Memory],
    /// No container will be started any more.
    pub(super) terminal: bool,
    /// Reason and message when the kubelet ends the pod.
    pub(super) evict: Option<(&'a str, &'a str)>,
    /// When the kubelet was started, if that was during the run.
    pub(super) born: Option<Time>,
    pub(super) host_ip: PodIp,
}

/// The status, and the containers whose readiness probe is to run at once.
pub(super) fn generate(facts: &Facts<'_>) -> (PodStatus, Vec<usize>) {
    let spec = &facts.pod.spec;
    let inits = spec.init_containers.len();
    let restarting = conditions::all_restarting(spec, Some(facts.record), facts.old);
    let of = |index| container_status(facts, index, restarting);
    let mut status = PodStatus {
        start_time: facts.old.start_time,
        ip: facts.record.ip,
        observed_generation: facts.pod.meta.generation,
        init_containers: (0..inits).map(of).collect(),
        containers: (inits..inits + spec.containers.len()).map(of).collect(),
        ..PodStatus::default()
    };
    let any_main = facts.record.any_main_active(inits);
    status.phase = phase(spec, &status, facts.terminal, any_main);
    keep_terminal(facts, &mut status);
    if let Some((reason, message)) = facts.evict {
        status.phase = Phase::Failed;
        status.reason = Some(reason.into());
        status.message = Some(message.into());
    }
    if facts.pod.status.phase.terminal() {
        status.phase = facts.pod.status.phase;
    }
    let looks = apply_probes(facts, &mut status);
    set_conditions(facts, &mut status);
    if spec.host_network && status.ip.is_none() {
        status.ip = Some(facts.host_ip);
    }
    (status, looks)
}

/// A pod that has ended stays so, with its reason.
fn keep_terminal(facts: &Facts<'_>, status: &mut PodStatus) {
    let known = &facts.pod.status;
    if !status.phase.terminal() {
        if facts.old.phase.terminal() {
            status.phase = facts.old.phase;
        } else if known.phase.terminal() {
            status.phase = known.phase;
        }
    }
    if status.phase == facts.old.phase {
        let (old, known) = (facts.old, known);
        status.reason = old.reason.clone().or_else(|| known.reason.clone());
        status.message = old.message.clone().or_else(|| known.message.clone());
    }
}

fn set_conditions(facts: &Facts<'_>, status: &mut PodStatus) {
    let known = facts.pod.status.conditions.iter();
    status.conditions.reserve_exact(OWN_CONDITIONS);
    status
        .conditions
        .extend(known.filter(|c| !by_kubelet(&c.kind)).cloned());
    if let Some(target) = facts.old.condition(&PodConditionKind::DisruptionTarget) {
        status.set_condition(target.clone());
    }
    let sandbox = facts.record.sandbox == Sandbox::Ready;
    let plain = |kind, status: bool| PodCondition {
        kind,
        status: Truth::from(status),
        since: Time::ZERO,
        reason: None,
        message: None,
        observed_generation: 0,
    };
    let ready_to_start = plain(PodConditionKind::PodReadyToStartContainers, sandbox);
    status.conditions.push(ready_to_start);
    let spec = &facts.pod.spec;
    let initialized = conditions::initialized(spec, status, facts.old);
    status.conditions.push(initialized);
    let containers = conditions::containers_ready(spec, status);
    let ready = conditions::ready(spec, status, &containers);
    status.conditions.push(ready);
    status.conditions.push(containers);
    let scheduled = plain(PodConditionKind::PodScheduled, true);
    status.conditions.push(scheduled);
    if conditions::could_restart_all(spec) {
        let restarting = conditions::restarting(spec, facts.record, status, facts.old);
        status.conditions.push(restarting);
    }
    let generation = facts.pod.meta.generation;
    for condition in status.conditions.iter_mut().filter(|c| by_kubelet(&c.kind)) {
        condition.observed_generation = generation;
    }
}

/// The old status of the container at `index`.
fn old_status<'a>(facts: &Facts<'a>, index: usize, name: &Text) -> Option<&'a ContainerStatus> {
    let old = super::probes::status_of(facts.old, facts.pod.spec.init_containers.len(), index)?;
    (old.name == *name).then_some(old)
}

fn container_of(spec: &PodSpec, index: usize) -> &Container {
    let inits = spec.init_containers.len();
    if index < inits {
        &spec.init_containers[index]
    } else {
        &spec.containers[index - inits]
    }
}

/// `convertToAPIContainerStatuses`, for one container. `restarting` says that all containers are
/// being started again.
fn container_status(facts: &Facts<'_>, index: usize, restarting: bool) -> ContainerStatus {
    let spec = &facts.pod.spec;
    let container = container_of(spec, index);
    let old = old_status(facts, index, &container.name);
    let slot = facts.record.slot(index);
    let mut status = match slot.current {
        None => unseen(facts, container, old, restarting),
        Some(attempt) => {
            let mut status = ContainerStatus {
                name: container.name.clone(),
                restarts: attempt.number.into(),
                ..ContainerStatus::default()
            };
            match attempt.terminated() {
                Some(terminated) => {
                    status.state = ContainerState::Terminated(terminated);
                }
                None => {
                    let since = whole_seconds(attempt.started);
                    status.state = ContainerState::Running { since };
                    status.started = old.is_some_and(|old| old.started);
                }
            }
            let previous = slot.previous.and_then(|p| p.terminated()).map(Box::new);
            status.last = previous.or_else(|| last_of(old, attempt.number));
            status
        }
    };
    wait_for_start(facts, index, container, &mut status);
    status
}

/// The last termination that the old status knows, seen from a new attempt.
fn last_of(old: Option<&ContainerStatus>, attempt: u16) -> Option<Box<Terminated>> {
    let old = old?;
    match &old.state {
        ContainerState::Terminated(t) if old.restarts != u32::from(attempt) => {
            Some(Box::new(t.clone()))
        }
        _ => old.last.clone(),
    }
}

/// The status of a container that the runtime does not have.
fn unseen(
    facts: &Facts<'_>,
    container: &Container,
    old: Option<&ContainerStatus>,
    restarting: bool,
) -> ContainerStatus {
    let reason = if facts.pod.spec.init_containers.is_empty() {
        text!("ContainerCreating")
    } else {
        text!("PodInitializing")
    };
    let mut status = ContainerStatus {
        name: container.name.clone(),
        state: waiting(reason, None),
        ..ContainerStatus::default()
    };
    let Some(old) = old else {
        return status;
    };
    match &old.state {
        ContainerState::Running { .. } | ContainerState::Terminated(_) if restarting => {
            if old.state.terminated() {
                status = old.clone();
            }
            status.state = waiting(text!(RESTARTING_ALL), Some(text!(REMOVED)));
            status.last = Some(Box::new(lost(RESTARTING_ALL, REMOVED)));
            status.restarts = old.restarts + 1;
        }
        ContainerState::Terminated(_) => return old.clone(),
        ContainerState::Running { .. } if old.last.is_none() => {
            status.last = Some(Box::new(lost(STATUS_UNKNOWN, LOST_AT_DELETION)));
            status.restarts = old.restarts + u32::from(!facts.pod.meta.deleting());
        }
        _ => {
            status.restarts = old.restarts;
            status.last = old.last.clone();
        }
    }
    status
}

/// Reason of a container whose end nobody saw (`ContainerReasonStatusUnknown`).
pub(super) const STATUS_UNKNOWN: &str = "ContainerStatusUnknown";
const LOST_AT_DELETION: &str = "The container could not be located when the pod was deleted.  The \
                                container used to be Running";
/// `RestartingAllContainers`.
const RESTARTING_ALL: &str = "RestartingAllContainers";
const REMOVED: &str = "The container is removed because RestartAllContainers in place";
const FORGOTTEN: &str = "Unable to get init container status from container runtime and pod has \
                         been initialized, treat it as exited normally";

/// The end of a container that the runtime cannot tell about.
pub(super) fn lost(reason: &'static str, message: &'static str) -> Terminated {
    Terminated {
        exit_code: 137,
        reason: Text::literal(reason),
        message: Some(Text::literal(message)),
        ..Terminated::default()
    }
}

fn waiting(reason: Text, message: Option<Text>) -> ContainerState {
    ContainerState::Waiting {
        reason,
        message: message.map(Box::new),
    }
}

/// A container that the next sync starts is waiting, when it is known why it has not started.
fn wait_for_start(
    facts: &Facts<'_>,
    index: usize,
    container: &Container,
    status: &mut ContainerStatus,
) {
    let inits = facts.pod.spec.init_containers.len();
    let slot = facts.record.slot(index);
    if index < inits {
        if slot.exit().is_some_and(|exit| exit.code == 0) {
            return;
        }
        let forgotten = slot.current.is_none()
            && !container.restart_always
            && facts.record.any_main_created(inits);
        if forgotten && matches!(status.state, ContainerState::Waiting { .. }) {
            status.state = ContainerState::Terminated(Terminated {
                reason: "Completed".into(),
                message: Some(text!(FORGOTTEN)),
                ..Terminated::default()
            });
            return;
        }
    }
    if !should_start(facts.pod, container, slot) {
        return;
    }
    let known = facts.memory.get(index);
    let Some(failure) = known.and_then(|m| m.failure.as_deref()) else {
        return;
    };
    let message = (!failure.message.is_empty()).then(|| failure.message.clone());
    let now = waiting(Text::literal(failure.fault.reason()), message);
    let state = std::mem::replace(&mut status.state, now);
    if let ContainerState::Terminated(terminated) = state {
        status.last = Some(Box::new(terminated));
    }
}

/// Counts of `getPhase`.
#[derive(Default)]
struct Counts {
    pending_init: u32,
    pending_sidecars: u32,
    failed_for_good: u32,
    running: u32,
    waiting: u32,
    stopped: u32,
    stopped_for_good: u32,
    succeeded: u32,
}

/// How a container ended, if it has: now, or before it began to wait.
fn ended(status: &ContainerStatus) -> Option<&Terminated> {
    match &status.state {
        ContainerState::Terminated(t) => Some(t),
        ContainerState::Waiting { .. } => status.last.as_deref(),
        ContainerState::Running { .. } => None,
    }
}

fn count(spec: &PodSpec, status: &PodStatus) -> Counts {
    let mut n = Counts::default();
    let again = |container: &Container, end: &Terminated| {
        container.restarts_after(end.exit_code, spec.restart_policy) || end.reason == RESTARTING_ALL
    };
    for (container, status) in spec.init_containers.iter().zip(&status.init_containers) {
        let running = matches!(status.state, ContainerState::Running { .. });
        match (container.restart_always, ended(status)) {
            (true, _) if running => {
                n.pending_sidecars += u32::from(!status.started);
                n.running += 1;
            }
            (true, None) => {
                n.pending_sidecars += 1;
                n.waiting += 1;
            }
            (true, Some(_)) => {}
            (false, None) => n.pending_init += 1,
            (false, Some(end)) => {
                n.failed_for_good += u32::from(end.exit_code != 0 && !again(container, end));
            }
        }
    }
    for (container, status) in spec.containers.iter().zip(&status.containers) {
        match (&status.state, ended(status)) {
            (ContainerState::Running { .. }, _) => n.running += 1,
            (_, None) => n.waiting += 1,
            (state, Some(end)) => {
                n.stopped += 1;
                n.stopped_for_good += u32::from(!again(container, end));
                n.succeeded += u32::from(state.terminated() && end.exit_code == 0);
            }
        }
    }
    n
}

/// `getPhase`. `initialized` says that an ordinary container runs.
pub(super) fn phase(
    spec: &PodSpec,
    status: &PodStatus,
    terminal: bool,
    initialized: bool,
) -> Phase {
    let n = count(spec, status);
    let ended = if n.stopped == n.succeeded {
        Phase::Succeeded
    } else {
        Phase::Failed
    };
    if n.failed_for_good > 0 {
        Phase::Failed
    } else if n.pending_init > 0 || (n.pending_sidecars > 0 && !initialized) || n.waiting > 0 {
        Phase::Pending
    } else if n.running > 0 {
        Phase::Running
    } else if n.stopped == 0 {
        Phase::Pending
    } else if terminal {
        ended
    } else if n.stopped != n.stopped_for_good {
        Phase::Running
    } else {
        ended
    }
}

/// `UpdatePodStatus`: which containers have started and are ready.
fn apply_probes(facts: &Facts<'_>, status: &mut PodStatus) -> Vec<usize> {
    let inits = facts.pod.spec.init_containers.len();
    let mut looks = Vec::new();
    for at in 0..status.containers.len() {
        let index = inits + at;
        let mut container = std::mem::take(&mut status.containers[at]);
        container.started = has_started(facts, index, &container);
        if container.started {
            container.ready = is_ready(facts, index, &container, &mut looks);
        }
        status.containers[at] = container;
    }
    for index in 0..status.init_containers.len() {
        let mut container = std::mem::take(&mut status.init_containers[index]);
        container.started = has_started(facts, index, &container);
        if !facts.pod.spec.init_containers[index].restart_always {
            if let ContainerState::Terminated(t) = &container.state {
                container.ready = t.exit_code == 0;
            }
        } else if container.started {
            container.ready = is_ready(facts, index, &container, &mut looks);
        }
        status.init_containers[index] = container;
    }
    looks
}

fn result(
    facts: &Facts<'_>,
    index: usize,
    which: ProbeKind,
    status: &ContainerStatus,
) -> Option<ProbeResult> {
    let attempt = u16::try_from(status.restarts).ok()?;
    worker(facts.probes, index, which)?.result_of(attempt)
}

/// `isContainerStarted`.
fn has_started(facts: &Facts<'_>, index: usize, status: &ContainerStatus) -> bool {
    if !matches!(status.state, ContainerState::Running { .. }) {
        return false;
    }
    match result(facts, index, ProbeKind::Startup, status) {
        Some(result) => result == ProbeResult::Success,
        None => status.started || worker(facts.probes, index, ProbeKind::Startup).is_none(),
    }
}

/// Ready when its probe says so; without a worker, always; before the first result, it is probed at
/// once.
fn is_ready(
    facts: &Facts<'_>,
    index: usize,
    status: &ContainerStatus,
    looks: &mut Vec<usize>,
) -> bool {
    let ContainerState::Running { since } = status.state else {
        return false;
    };
    let known = result(facts, index, ProbeKind::Readiness, status);
    if known == Some(ProbeResult::Success) {
        return true;
    }
    let probed = worker(facts.probes, index, ProbeKind::Readiness).is_some();
    if probed {
        looks.push(index);
    }
    let mut ready = !probed;
    // A container that ran well before the kubelet started keeps the pod's readiness until it is
    // probed (`setReadyStateOnKubeletRestart`).
    if facts.born.is_some_and(|born| since + RESTART_GRACE < born) {
        ready |= known.is_none();
        let has_probe = container_of(&facts.pod.spec, index).readiness.is_some();
        if has_probe && !facts.pod.status.ready() {
            ready = false;
        }
    }
    ready
}
