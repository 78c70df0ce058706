//! The runtime boundary, as data: what a kubelet asks of a container runtime, and what it hears.
//!
//! A kubelet pushes [`RuntimeRequest`]s and is told [`RuntimeEvent`]s; whether Linux processes or a
//! latency model answer, it never learns. Requests are large and shared (they carry the pod's
//! row), events are small, `Copy` and plain numbers, so that they can be queued by the million,
//! hashed and journalled. An answer may be late or never come: the kubelet keeps its own time
//! limits, and every answer names its attempt, so that one to an older question is ignored.
//!
//! Contract of whoever answers:
//! - one [`RuntimeEvent`] for every request, except [`Call::Signal`], whose consequence is
//!   [`RuntimeEvent::Exited`] (of a container that has exited already: nothing);
//! - [`RuntimeEvent::Exited`] exactly once for every container that was started successfully, also
//!   when nobody asked for its end, unless its node loses power;
//! - [`Call::RemovePod`] kills what still runs in the pod, without telling about each exit.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::api::container::Container;
use crate::api::pod_status::PodIp;
use crate::api::probe::{Action, Probe};
use crate::api::{Node, Pod, PodSpec, Text};
use crate::store::Id;

/// One attempt to run one container of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContainerId {
    /// The pod.
    pub pod: Id<Pod>,
    /// Its place in the pod: init containers (sidecars among them) first, then the containers, each
    /// in the order of the spec. See [`container_of`].
    pub index: u16,
    /// Which attempt: 0 for the first start, and one more for each restart.
    pub attempt: u16,
}

/// The container at `index` of a spec, counted as in [`ContainerId::index`].
pub fn container_of(spec: &PodSpec, index: u16) -> Option<&Container> {
    let index = usize::from(index);
    match index.checked_sub(spec.init_containers.len()) {
        Some(main) => spec.containers.get(main),
        None => spec.init_containers.get(index),
    }
}

/// A request to the runtime of one node.
#[derive(Clone, Debug, PartialEq)]
pub struct RuntimeRequest {
    /// The node.
    pub node: Id<Node>,
    /// What is asked.
    pub what: Call,
}

/// What can be asked of a runtime.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// Make the pod's sandbox and network; answered by [`RuntimeEvent::SandboxReady`].
    StartSandbox {
        /// The pod.
        pod: Id<Pod>,
        /// Which attempt; comes back with the answer.
        attempt: u8,
        /// The pod's row as the kubelet knows it.
        row: Arc<Pod>,
        /// The address that the pod gets (the node's own for `hostNetwork`).
        ip: PodIp,
    },
    /// Pull an image; answered by [`RuntimeEvent::Pulled`].
    PullImage {
        /// The container that waits for it.
        container: ContainerId,
        /// The image as written.
        image: Text,
        /// The node has it already; only the registry's word on it is asked for.
        present: bool,
        /// The pod's row, for its pull secrets and namespace.
        row: Arc<Pod>,
    },
    /// Create and start a container; answered by [`RuntimeEvent::Started`].
    StartContainer {
        /// Which container and attempt.
        container: ContainerId,
        /// The pod's row.
        row: Arc<Pod>,
        /// The pod's address.
        ip: PodIp,
    },
    /// Send a signal to the container's first process.
    Signal {
        /// Which container.
        container: ContainerId,
        /// Which signal.
        signal: Signal,
    },
    /// Probe a container; answered by [`RuntimeEvent::Probed`]. An answer after the probe's timeout
    /// is ignored, the kubelet counts the timeout by itself.
    Probe {
        /// Which container.
        container: ContainerId,
        /// Which of its probes.
        which: ProbeKind,
        /// How many probes of this kind this attempt has had before. The answer carries the lowest
        /// eight bits.
        n: u32,
        /// The pod's spec; the probe is [`Call::probe`].
        spec: Arc<PodSpec>,
        /// The pod's address.
        ip: PodIp,
    },
    /// Run a lifecycle hook; answered by [`RuntimeEvent::HookDone`]. A `sleep` hook is never asked
    /// for, the kubelet waits by itself.
    Hook {
        /// Which container.
        container: ContainerId,
        /// Which hook.
        hook: Hook,
        /// The pod's spec; the action is [`Call::action`].
        spec: Arc<PodSpec>,
        /// The pod's address.
        ip: PodIp,
    },
    /// Kill what still runs in the pod, remove its containers, network and sandbox; answered by
    /// [`RuntimeEvent::Removed`].
    RemovePod {
        /// The pod.
        pod: Id<Pod>,
    },
    /// Measure memory and disk; answered by a [`RuntimeEvent::PodMemory`] for each pod of the node
    /// (and events like [`RuntimeEvent::PodDisk`] for each that uses any of the rest), then one
    /// [`RuntimeEvent::NodeMemory`].
    Stats,
    /// Tell by [`RuntimeEvent::Tight`] when less than so much memory may be available on the node,
    /// or pods may fill its disk.
    WatchMemory {
        /// In KiB.
        floor_kib: u32,
        /// The same when pods may come to have more processes than this; they are counted by
        /// [`Call::Stats`] only then.
        most_processes: Option<u32>,
    },
}

impl Call {
    /// The probe of a [`Call::Probe`].
    pub fn probe(&self) -> Option<&Probe> {
        match self {
            Call::Probe {
                container,
                which,
                spec,
                ..
            } => which.of(container_of(spec, container.index)?),
            _ => None,
        }
    }

    /// What a [`Call::Probe`] or [`Call::Hook`] does.
    pub fn action(&self) -> Option<&Action> {
        match self {
            Call::Hook {
                container,
                hook,
                spec,
                ..
            } => hook.of(container_of(spec, container.index)?),
            _ => self.probe().map(|p| &p.action),
        }
    }
}

/// A signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Signal {
    /// The container's stop signal: SIGTERM unless the container or its image names another.
    Term,
    /// SIGKILL.
    Kill,
}

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ProbeKind {
    /// `startupProbe`.
    Startup,
    /// `readinessProbe`.
    Readiness,
    /// `livenessProbe`.
    Liveness,
}

impl ProbeKind {
    /// All of them, in upstream's order of starting their workers.
    pub const ALL: [ProbeKind; 3] = [
        ProbeKind::Startup,
        ProbeKind::Readiness,
        ProbeKind::Liveness,
    ];

    /// As in upstream's event messages.
    pub fn name(self) -> &'static str {
        match self {
            ProbeKind::Startup => "Startup",
            ProbeKind::Readiness => "Readiness",
            ProbeKind::Liveness => "Liveness",
        }
    }

    /// This probe of a container, if it has one.
    pub fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            ProbeKind::Startup => container.startup.as_ref(),
            ProbeKind::Readiness => container.readiness.as_ref(),
            ProbeKind::Liveness => container.liveness.as_ref(),
        }
    }
}

/// Which lifecycle hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Hook {
    /// `lifecycle.postStart`.
    PostStart,
    /// `lifecycle.preStop`.
    PreStop,
}

impl Hook {
    /// This hook of a container, if it has one.
    pub fn of(self, container: &Container) -> Option<&Action> {
        match self {
            Hook::PostStart => container.post_start.as_ref(),
            Hook::PreStop => container.pre_stop.as_ref(),
        }
    }
}

/// How a pull ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PullOutcome {
    /// The image is on the node.
    Ok,
    /// The registry does not have it (or does not say so without credentials).
    NotFound,
    /// The registry did not answer.
    Unreachable,
}

/// How a start ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum StartOutcome {
    /// The container's first process runs.
    Ok,
    /// The container could not be created (`CreateContainerError`).
    CreateFailed,
    /// The container was created but its first process could not be started
    /// (`RunContainerError`, for example a command that is not in the image).
    RunFailed,
}

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ProbeOutcome {
    /// Status 200 to 399, a connection, or exit code 0.
    Success,
    /// A status outside of these, or another exit code.
    Failure,
    /// Nobody listens.
    Refused,
    /// The answer did not come within the probe's timeout.
    TimedOut,
    /// The probe itself could not be carried out.
    Unknown,
}

/// What a kubelet hears from its runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RuntimeEvent {
    /// The sandbox and its network are there, or could not be made.
    SandboxReady {
        /// The pod.
        pod: Id<Pod>,
        /// As in the request.
        attempt: u8,
        /// Whether it worked.
        ok: bool,
    },
    /// A pull ended.
    Pulled {
        /// As in the request.
        container: ContainerId,
        /// How.
        outcome: PullOutcome,
        /// The image's size in MiB; 0 when it failed.
        mib: u16,
    },
    /// A container runs, or could not be started.
    Started {
        /// As in the request.
        container: ContainerId,
        /// How it went.
        outcome: StartOutcome,
    },
    /// A container ended.
    Exited {
        /// Which.
        container: ContainerId,
        /// Exit code; 128 + the signal's number when a signal ended it.
        code: u8,
        /// Whether the kernel killed it for its memory.
        oom: bool,
    },
    /// A probe ended.
    Probed {
        /// Which container.
        container: ContainerId,
        /// Which probe.
        which: ProbeKind,
        /// The lowest eight bits of the request's `n`.
        n: u8,
        /// How.
        outcome: ProbeOutcome,
    },
    /// A hook ended.
    HookDone {
        /// Which container.
        container: ContainerId,
        /// Which hook.
        hook: Hook,
        /// Whether it succeeded.
        ok: bool,
    },
    /// Nothing of the pod is left on the node.
    Removed {
        /// The pod.
        pod: Id<Pod>,
    },
    /// How much memory a pod uses (working set).
    PodMemory {
        /// The pod.
        pod: Id<Pod>,
        /// In KiB.
        kib: u32,
    },
    /// How much memory is available on a node (`memory.available`).
    NodeMemory {
        /// The node.
        node: Id<Node>,
        /// In KiB.
        available_kib: u32,
    },
    /// How much of the node's disk a pod has written to.
    PodDisk {
        /// The pod.
        pod: Id<Pod>,
        /// In MiB.
        mib: u32,
    },
    /// The node may run short of something: it is time to look. Told again by each
    /// [`Call::Stats`], before its other answers, while that is so.
    Tight {
        /// The node.
        node: Id<Node>,
    },
    /// How much of it a container has written to its own layer.
    ContainerDisk {
        /// The pod.
        pod: Id<Pod>,
        /// As in [`ContainerId::index`].
        index: u16,
        /// In KiB.
        kib: u32,
    },
    /// How much of it was written to a volume.
    VolumeDisk {
        /// The pod.
        pod: Id<Pod>,
        /// The volume's place in the spec.
        volume: u16,
        /// In KiB.
        kib: u32,
    },
    /// How many inodes of the node's disk a pod has taken.
    PodFiles {
        /// The pod.
        pod: Id<Pod>,
        /// So many.
        files: u32,
    },
    /// How many processes and threads a pod has.
    PodProcesses {
        /// The pod.
        pod: Id<Pod>,
        /// So many.
        processes: u32,
    },
}

/// Whom an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The kubelet that runs this pod (whoever routes events keeps that table: the pod may be gone
    /// from the API while its containers still run).
    Pod(Id<Pod>),
    /// The kubelet of this node.
    Node(Id<Node>),
}

impl RuntimeEvent {
    /// Whom it is for.
    pub fn about(self) -> About {
        match self {
            RuntimeEvent::SandboxReady { pod, .. }
            | RuntimeEvent::Removed { pod }
            | RuntimeEvent::PodMemory { pod, .. }
            | RuntimeEvent::PodDisk { pod, .. }
            | RuntimeEvent::ContainerDisk { pod, .. }
            | RuntimeEvent::VolumeDisk { pod, .. }
            | RuntimeEvent::PodFiles { pod, .. }
            | RuntimeEvent::PodProcesses { pod, .. } => About::Pod(pod),
            RuntimeEvent::Pulled { container, .. }
            | RuntimeEvent::Started { container, .. }
            | RuntimeEvent::Exited { container, .. }
            | RuntimeEvent::Probed { container, .. }
            | RuntimeEvent::HookDone { container, .. } => About::Pod(container.pod),
            RuntimeEvent::NodeMemory { node, .. } | RuntimeEvent::Tight { node } => {
                About::Node(node)
            }
        }
    }
}

const _: () = assert!(size_of::<ContainerId>() == 8);
const _: () = assert!(size_of::<RuntimeEvent>() == 12);
