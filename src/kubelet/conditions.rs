//! The kubelet's own pod conditions, with upstream's reasons and messages.
//!
//! `pkg/kubelet/status/generate.go`.

use smallvec::SmallVec;

use super::record::Record;
use crate::api::container::{Container, RestartAction};
use crate::api::pod_status::{
    ContainerState, ContainerStatus, Phase, PodCondition, PodConditionKind, PodStatus, Truth,
};
use crate::api::{PodSpec, Text, text};
use crate::engine::Time;

fn condition(
    kind: PodConditionKind,
    status: bool,
    reason: Option<Text>,
    message: Option<String>,
) -> PodCondition {
    PodCondition {
        kind,
        status: Truth::from(status),
        since: Time::ZERO,
        reason,
        message: message.map(Into::into),
        observed_generation: 0,
    }
}

/// `podutil.AllContainersCouldRestart`.
pub(super) fn could_restart_all(spec: &PodSpec) -> bool {
    let rules = all_containers(spec).flat_map(|container| &container.restart_rules);
    rules
        .into_iter()
        .any(|r| r.action == RestartAction::RestartAll)
}

fn all_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().chain(&spec.containers)
}

/// `pkg/kubelet/container/helpers.go :: ShouldAllContainersRestart`: whether the exit of some
/// container has all of them started again, by what runs where that is known, and by `status`.
pub(super) fn all_restarting(spec: &PodSpec, record: Option<&Record>, status: &PodStatus) -> bool {
    if !could_restart_all(spec) {
        return false;
    }
    let told = status.condition(&PodConditionKind::AllContainersRestarting);
    if told.is_some_and(|c| c.status == Truth::True) {
        return true;
    }
    let shown = status.init_containers.iter().map(Some);
    let missing = spec.init_containers.len().saturating_sub(shown.len());
    let shown = shown.chain(std::iter::repeat_n(None, missing));
    let shown = shown.chain(status.containers.iter().map(Some));
    let shown: Vec<Option<&ContainerStatus>> = shown.collect();
    all_containers(spec).enumerate().any(|(index, container)| {
        let asks = |code| container.restart_rule(code) == Some(RestartAction::RestartAll);
        if let Some(record) = record {
            match record.slot(index).exit() {
                None => return false,
                Some(exit) if asks(exit.code.into()) => return true,
                Some(_) => {}
            }
        }
        match shown.get(index).copied().flatten().map(|s| &s.state) {
            Some(ContainerState::Terminated(end)) => asks(end.exit_code),
            _ => false,
        }
    })
}

/// `GenerateAllContainersRestartingCondition`.
pub(super) fn restarting(
    spec: &PodSpec,
    record: &Record,
    status: &PodStatus,
    old: &PodStatus,
) -> PodCondition {
    let kind = PodConditionKind::AllContainersRestarting;
    match status.phase {
        Phase::Succeeded => return condition(kind, false, Some(text!("PodCompleted")), None),
        Phase::Failed => return condition(kind, false, Some(text!("PodFailed")), None),
        _ => {}
    }
    // `AllContainersRestartCleanedUp`.
    let cleaned_up = record.containers.iter().all(|s| s.current.is_none());
    if cleaned_up || !all_restarting(spec, Some(record), old) {
        return condition(kind, false, None, None);
    }
    let message = "container exited with restart policy rule".to_owned();
    let reason = Some(text!("RestartAllContainersStarted"));
    condition(kind, true, reason, Some(message))
}

/// A message with names as Go prints a slice: `[a b]`.
fn list(message: &mut String, what: &str, names: &[&str]) {
    if names.is_empty() {
        return;
    }
    if !message.is_empty() {
        message.push_str(", ");
    }
    for part in ["containers with ", what, " status: ["] {
        message.push_str(part);
    }
    for (n, name) in names.iter().enumerate() {
        message.push_str(if n == 0 { "" } else { " " });
        message.push_str(name);
    }
    message.push(']');
}

fn named<'a>(
    containers: &'a [Container],
    statuses: &'a [ContainerStatus],
) -> impl Iterator<Item = (&'a Container, Option<&'a ContainerStatus>)> {
    let of = |i: usize| statuses.get(i);
    containers.iter().enumerate().map(move |(i, c)| (c, of(i)))
}

/// Names of containers, of which there are few.
type Few<'a> = SmallVec<[&'a str; 4]>;

/// Containers of unknown status, and those that are not as they should be.
fn sorted_out<'a>(
    containers: impl Iterator<Item = (&'a Container, Option<&'a ContainerStatus>)>,
    good: impl Fn(&Container, &ContainerStatus) -> bool,
) -> (Few<'a>, Few<'a>) {
    let (mut unknown, mut bad) = (Few::new(), Few::new());
    for (container, status) in containers {
        match status {
            None => unknown.push(container.name.as_str()),
            Some(status) if !good(container, status) => bad.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    (unknown, bad)
}

fn describe(unknown: &[&str], bad: &[&str], what: &str) -> Option<String> {
    if unknown.is_empty() && bad.is_empty() {
        return None;
    }
    let mut message = String::with_capacity(80);
    list(&mut message, "unknown", unknown);
    list(&mut message, what, bad);
    Some(message)
}

/// `GenerateContainersReadyCondition`.
pub(super) fn containers_ready(spec: &PodSpec, status: &PodStatus) -> PodCondition {
    let kind = PodConditionKind::ContainersReady;
    if status.containers.is_empty() && status.init_containers.is_empty() {
        return condition(kind, false, Some(text!("UnknownContainerStatuses")), None);
    }
    let sidecars = named(&spec.init_containers, &status.init_containers)
        .filter(|(container, _)| container.restart_always);
    let all = sidecars.chain(named(&spec.containers, &status.containers));
    let (unknown, unready) = sorted_out(all, |_, status| status.ready);
    match status.phase {
        Phase::Succeeded if unknown.is_empty() => {
            condition(kind, false, Some(text!("PodCompleted")), None)
        }
        Phase::Failed => condition(kind, false, Some(text!("PodFailed")), None),
        _ => match describe(&unknown, &unready, "unready") {
            Some(message) => condition(
                kind,
                false,
                Some(text!("ContainersNotReady")),
                Some(message),
            ),
            None => condition(kind, true, None, None),
        },
    }
}

/// `GeneratePodReadyCondition`; the readiness gates are read from the status' other conditions.
/// `containers` is what [`containers_ready`] says.
pub(super) fn ready(spec: &PodSpec, status: &PodStatus, containers: &PodCondition) -> PodCondition {
    let kind = PodConditionKind::Ready;
    if containers.status != Truth::True {
        return PodCondition {
            kind,
            ..containers.clone()
        };
    }
    let mut problems = Vec::new();
    for gate in &spec.readiness_gates {
        match status.condition(&PodConditionKind::Other(gate.clone())) {
            None => problems.push(format!(
                "corresponding condition of pod readiness gate \"{gate}\" does not exist."
            )),
            Some(c) if c.status != Truth::True => problems.push(format!(
                "the status of pod readiness gate \"{gate}\" is not \"True\", but {}",
                c.status.name()
            )),
            Some(_) => {}
        }
    }
    if problems.is_empty() {
        condition(kind, true, None, None)
    } else {
        let message = problems.join(", ");
        condition(
            kind,
            false,
            Some(text!("ReadinessGatesNotReady")),
            Some(message),
        )
    }
}

/// `NeedToReconcilePodReadiness`: whether `Ready` does not say any more what the readiness gates
/// and ordinary containers do.
pub(super) fn to_reconcile(spec: &PodSpec, shown: &PodStatus) -> bool {
    if spec.readiness_gates.is_empty() {
        return false;
    }
    let Some(is) = shown.condition(&PodConditionKind::Ready) else {
        return false;
    };
    let mut status = shown.clone();
    status.init_containers.clear();
    let should = ready(spec, &status, &containers_ready(spec, &status));
    is.status != should.status || is.message != should.message
}

/// `GeneratePodInitializedCondition`.
pub(super) fn initialized(spec: &PodSpec, status: &PodStatus, old: &PodStatus) -> PodCondition {
    let kind = PodConditionKind::Initialized;
    let all = named(&spec.init_containers, &status.init_containers);
    let (unknown, incomplete) = sorted_out(all, |container, status| {
        if container.restart_always {
            status.started
        } else {
            status.ready
        }
    });
    if status.phase == Phase::Succeeded && unknown.is_empty() {
        return condition(kind, true, Some(text!("PodCompleted")), None);
    }
    let any_main = || {
        let mut mains = status.containers.iter();
        mains.any(|c| !matches!(c.state, ContainerState::Waiting { .. }))
    };
    let was = || {
        let was = old.condition(&kind);
        was.is_some_and(|c| c.status == Truth::True)
    };
    match describe(&unknown, &incomplete, "incomplete") {
        Some(message) if !any_main() && !was() => condition(
            kind,
            false,
            Some(text!("ContainersNotInitialized")),
            Some(message),
        ),
        _ => condition(kind, true, None, None),
    }
}

/// `generateContainersReadyConditionForTerminalPhase` and its sibling for `Ready`.
pub(super) fn not_ready_any_more(kind: PodConditionKind, phase: Phase) -> PodCondition {
    let reason = match phase {
        Phase::Failed => Some(text!("PodFailed")),
        Phase::Succeeded => Some(text!("PodCompleted")),
        _ => None,
    };
    condition(kind, false, reason, None)
}
