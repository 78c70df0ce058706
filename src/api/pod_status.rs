//! Pod status, compact: enums instead of strings where the vocabulary is closed.

use smallvec::SmallVec;

use super::Text;
use crate::engine::Time;

/// `status` of a pod. What a kubelet says of a plain pod with one container is one block of memory:
/// whoever reads it looks for no other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PodStatus {
    /// Phase.
    pub phase: Phase,
    /// Conditions.
    pub conditions: SmallVec<[PodCondition; 5]>,
    /// `reason` (`Evicted`, `NodeLost`, `DeadlineExceeded` …).
    pub reason: Option<Text>,
    /// `message`.
    pub message: Option<Text>,
    /// When the kubelet acknowledged the pod.
    pub start_time: Option<Time>,
    /// Node that preemption made room on.
    pub nominated_node: Option<Text>,
    /// Whether an address was given (it is derived from node and pod number).
    pub ip: Option<PodIp>,
    /// Statuses of `spec.containers`, in their order.
    pub containers: SmallVec<[ContainerStatus; 1]>,
    /// Statuses of `spec.initContainers`, in their order.
    pub init_containers: Vec<ContainerStatus>,
    /// `observedGeneration`.
    pub observed_generation: u32,
}

/// An IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodIp(pub u32);

impl std::fmt::Display for PodIp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::net::Ipv4Addr::from(self.0).fmt(f)
    }
}

/// `status.phase`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Not all containers were started.
    #[default]
    Pending,
    /// At least one container runs or is being restarted.
    Running,
    /// All containers ended with exit code 0 and will not be restarted.
    Succeeded,
    /// All containers ended, one of them badly, and will not be restarted.
    Failed,
    /// The state cannot be obtained.
    Unknown,
}

impl Phase {
    /// As in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Pending => "Pending",
            Phase::Running => "Running",
            Phase::Succeeded => "Succeeded",
            Phase::Failed => "Failed",
            Phase::Unknown => "Unknown",
        }
    }

    /// Whether the pod has ended for good.
    pub fn terminal(self) -> bool {
        matches!(self, Phase::Succeeded | Phase::Failed)
    }
}

/// Status of a condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Truth {
    /// True.
    True,
    /// False.
    False,
    /// Unknown.
    #[default]
    Unknown,
}

impl Truth {
    /// As in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Truth::True => "True",
            Truth::False => "False",
            Truth::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Truth {
    fn from(b: bool) -> Self {
        if b { Truth::True } else { Truth::False }
    }
}

/// Type of a pod condition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PodConditionKind {
    /// Bound to a node.
    PodScheduled,
    /// Sandbox and network are ready.
    PodReadyToStartContainers,
    /// Init containers are done.
    Initialized,
    /// All containers are ready.
    ContainersReady,
    /// The pod serves.
    Ready,
    /// Terminated by a disruption.
    DisruptionTarget,
    /// Any other type (readiness gates).
    Other(Text),
    /// A restart rule has all containers of the pod started again.
    AllContainersRestarting,
}

impl PodConditionKind {
    /// As in manifests.
    pub fn name(&self) -> &str {
        match self {
            PodConditionKind::PodScheduled => "PodScheduled",
            PodConditionKind::PodReadyToStartContainers => "PodReadyToStartContainers",
            PodConditionKind::Initialized => "Initialized",
            PodConditionKind::ContainersReady => "ContainersReady",
            PodConditionKind::Ready => "Ready",
            PodConditionKind::DisruptionTarget => "DisruptionTarget",
            PodConditionKind::Other(name) => name,
            PodConditionKind::AllContainersRestarting => "AllContainersRestarting",
        }
    }
}

/// A pod condition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodCondition {
    /// Type.
    pub kind: PodConditionKind,
    /// Status.
    pub status: Truth,
    /// `lastTransitionTime`.
    pub since: Time,
    /// `reason`.
    pub reason: Option<Text>,
    /// `message`.
    pub message: Option<Text>,
    /// `observedGeneration`: of the spec that it was computed from; 0 where none was noted.
    pub observed_generation: u32,
}

/// Status of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ContainerStatus {
    /// Name.
    pub name: Text,
    /// Current state.
    pub state: ContainerState,
    /// The state before the last restart.
    pub last: Option<Box<Terminated>>,
    /// Passes its readiness probe (or has none and runs).
    pub ready: bool,
    /// Passed its startup probe (or has none and runs).
    pub started: bool,
    /// Restarts so far.
    pub restarts: u32,
}

/// State of a container.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ContainerState {
    /// Not running, for this reason.
    Waiting {
        /// `ContainerCreating`, `CrashLoopBackOff`, `ImagePullBackOff` …
        reason: Text,
        /// More about it, where there is more; boxed because most containers run.
        message: Option<Box<Text>>,
    },
    /// Running since.
    Running {
        /// `startedAt`.
        since: Time,
    },
    /// Ended.
    Terminated(Terminated),
}

impl ContainerState {
    /// Whether the container has ended.
    pub fn terminated(&self) -> bool {
        matches!(self, ContainerState::Terminated(_))
    }
}

impl Default for ContainerState {
    fn default() -> Self {
        ContainerState::Waiting {
            reason: Text::default(),
            message: None,
        }
    }
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Terminated {
    /// Exit code; 137 after SIGKILL, 143 after SIGTERM.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `ContainerStatusUnknown` …
    pub reason: Text,
    /// What the kubelet says where the runtime could not tell how it ended.
    pub message: Option<Text>,
    /// `startedAt`.
    pub started: Time,
    /// `finishedAt`.
    pub finished: Time,
}

impl PodStatus {
    /// The condition of this kind.
    pub fn condition(&self, kind: &PodConditionKind) -> Option<&PodCondition> {
        self.conditions.iter().find(|c| c.kind == *kind)
    }

    /// Whether the Ready condition is True (`podutil.IsPodReadyConditionTrue`).
    pub fn ready(&self) -> bool {
        self.condition(&PodConditionKind::Ready)
            .is_some_and(|c| c.status == Truth::True)
    }

    /// Sets a condition as `podutil.UpdatePodCondition` does: `since` moves only when the status
    /// changes. Returns whether anything changed but its generation.
    pub fn set_condition(&mut self, mut new: PodCondition) -> bool {
        match self.conditions.iter_mut().find(|c| c.kind == new.kind) {
            Some(old) => {
                if old.status == new.status {
                    new.since = old.since;
                }
                let seen = old.observed_generation;
                let generation = std::mem::replace(&mut new.observed_generation, seen);
                let changed = *old != new;
                new.observed_generation = generation;
                *old = new;
                changed
            }
            None => {
                self.conditions.push(new);
                true
            }
        }
    }
}
