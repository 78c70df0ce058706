//! What a node's conditions say, in upstream's words.
//!
//! `pkg/kubelet/nodestatus/setters.go`: `MemoryPressureCondition`, `DiskPressureCondition`,
//! `PIDPressureCondition` and `ReadyCondition`.

use super::eviction::Pressure;
use crate::api::node::NodeConditionKind;

/// What is not well with the node.
#[derive(Clone, Debug, Default)]
pub(super) struct Health {
    pub(super) pressures: Vec<Pressure>,
    pub(super) shutting_down: bool,
}

/// What a condition of the node says: kind, status, reason, message, and the KubeEvent of a change.
pub(super) type Saying = (
    NodeConditionKind,
    bool,
    &'static str,
    &'static str,
    &'static str,
);

/// The conditions in their order: Ready comes last.
pub(super) fn sayings(health: &Health) -> [Saying; 4] {
    let pressed = |pressure| health.pressures.contains(&pressure);
    let memory = match pressed(Pressure::Memory) {
        true => (
            "KubeletHasInsufficientMemory",
            "kubelet has insufficient memory available",
            "NodeHasInsufficientMemory",
        ),
        false => (
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
            "NodeHasSufficientMemory",
        ),
    };
    let disk = match pressed(Pressure::Disk) {
        true => (
            "KubeletHasDiskPressure",
            "kubelet has disk pressure",
            "NodeHasDiskPressure",
        ),
        false => (
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure",
            "NodeHasNoDiskPressure",
        ),
    };
    let pids = match pressed(Pressure::Pid) {
        true => (
            "KubeletHasInsufficientPID",
            "kubelet has insufficient PID available",
            "NodeHasInsufficientPID",
        ),
        false => (
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
            "NodeHasSufficientPID",
        ),
    };
    let ready = match health.shutting_down {
        true => ("KubeletNotReady", "node is shutting down", "NodeNotReady"),
        false => (
            "KubeletReady",
            "kubelet is posting ready status",
            "NodeReady",
        ),
    };
    let say =
        |kind, truth, (reason, message, event): (&'static str, &'static str, &'static str)| {
            (kind, truth, reason, message, event)
        };
    let of = |pressure: Pressure, words| say(pressure.condition(), pressed(pressure), words);
    [
        of(Pressure::Memory, memory),
        of(Pressure::Disk, disk),
        of(Pressure::Pid, pids),
        say(NodeConditionKind::Ready, !health.shutting_down, ready),
    ]
}
