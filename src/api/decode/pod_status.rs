//! The status of pods that a snapshot brings along.

use k8s_openapi::api::core::v1 as core;

use super::DecodeContext;
use super::meta::{count, count32, instant, list, some_text, text};
use crate::api::pod_status::{
    ContainerState, ContainerStatus, Phase, PodCondition, PodConditionKind, PodIp, PodStatus,
    Terminated, Truth,
};

pub(super) fn status(source: &core::PodStatus, cx: &DecodeContext) -> PodStatus {
    let shown = |status| container_status(status, cx);
    PodStatus {
        phase: match source.phase.as_deref() {
            Some("Running") => Phase::Running,
            Some("Succeeded") => Phase::Succeeded,
            Some("Failed") => Phase::Failed,
            Some("Unknown") => Phase::Unknown,
            _ => Phase::Pending,
        },
        conditions: list(&source.conditions)
            .iter()
            .map(|condition| pod_condition(condition, cx))
            .collect(),
        reason: some_text(&source.reason),
        message: some_text(&source.message),
        start_time: source.start_time.as_ref().map(|at| cx.time(at.0)),
        nominated_node: some_text(&source.nominated_node_name),
        ip: source.pod_ip.as_deref().and_then(ipv4).map(PodIp),
        containers: list(&source.container_statuses).iter().map(shown).collect(),
        init_containers: (list(&source.init_container_statuses).iter())
            .map(shown)
            .collect(),
        observed_generation: count(source.observed_generation.unwrap_or(0)),
    }
}

/// An IPv4 address as a number.
pub(super) fn ipv4(text: &str) -> Option<u32> {
    text.parse::<std::net::Ipv4Addr>().ok().map(u32::from)
}

/// The status of a condition.
pub(super) fn truth(text: &str) -> Truth {
    match text {
        "True" => Truth::True,
        "False" => Truth::False,
        _ => Truth::Unknown,
    }
}

fn pod_condition(source: &core::PodCondition, cx: &DecodeContext) -> PodCondition {
    PodCondition {
        kind: condition_kind(&source.type_),
        status: truth(&source.status),
        since: instant(&source.last_transition_time, cx),
        reason: some_text(&source.reason),
        message: some_text(&source.message),
        observed_generation: count(source.observed_generation.unwrap_or(0)),
    }
}

/// The condition type of this name.
pub(super) fn condition_kind(name: &str) -> PodConditionKind {
    use PodConditionKind::*;
    let known = [
        PodScheduled,
        PodReadyToStartContainers,
        Initialized,
        ContainersReady,
        Ready,
        DisruptionTarget,
        AllContainersRestarting,
    ];
    let kind = known.into_iter().find(|kind| kind.name() == name);
    kind.unwrap_or_else(|| Other(name.into()))
}

fn container_status(source: &core::ContainerStatus, cx: &DecodeContext) -> ContainerStatus {
    let last = source.last_state.as_ref();
    ContainerStatus {
        name: source.name.as_str().into(),
        state: source
            .state
            .as_ref()
            .map(|state| container_state(state, cx))
            .unwrap_or_default(),
        last: last
            .and_then(|last| last.terminated.as_ref())
            .map(|terminated| Box::new(self::terminated(terminated, cx))),
        ready: source.ready,
        started: source.started.unwrap_or(false),
        restarts: count32(Some(source.restart_count)),
    }
}

fn container_state(source: &core::ContainerState, cx: &DecodeContext) -> ContainerState {
    if let Some(running) = &source.running {
        return ContainerState::Running {
            since: instant(&running.started_at, cx),
        };
    }
    if let Some(terminated) = &source.terminated {
        return ContainerState::Terminated(self::terminated(terminated, cx));
    }
    let waiting = source.waiting.as_ref();
    ContainerState::Waiting {
        reason: waiting.map(|w| text(&w.reason)).unwrap_or_default(),
        message: (waiting.and_then(|w| some_text(&w.message))).map(Box::new),
    }
}

fn terminated(source: &core::ContainerStateTerminated, cx: &DecodeContext) -> Terminated {
    Terminated {
        exit_code: source.exit_code,
        reason: text(&source.reason),
        message: some_text(&source.message),
        started: instant(&source.started_at, cx),
        finished: instant(&source.finished_at, cx),
    }
}
