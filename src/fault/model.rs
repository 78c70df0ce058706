//! The words of a fault: NodeChaos and ControlPlaneChaos of this project, PodChaos,
//! NetworkChaos, StressChaos, DNSChaos and HTTPChaos of Chaos Mesh.
//!
//! Everything here was read from a file; nothing is chosen yet.

use std::time::Duration;

use super::control_plane::ControlAction;
use super::effect::LinkEffect;
use super::http::HttpFault;
use crate::api::Text;
use crate::api::selector::LabelSelector;
use crate::api::yaml::Span;

/// A fault of a scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// `metadata.name`; also the name of its draws.
    pub name: Text,
    /// Kind as written: `NodeChaos`, `PodChaos`, `StressChaos`, ….
    pub kind: Text,
    /// Where it was written.
    pub span: Span,
    /// What goes wrong.
    pub action: Action,
    /// Whom it may hit.
    pub selector: Selector,
    /// How many of those.
    pub mode: Mode,
    /// How long; `None` for ever (or for a single act).
    pub duration: Option<Duration>,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// The machine loses power: kubelet and containers vanish without a word; power returns at the
    /// end of the duration.
    PowerOff,
    /// The machine is shut down in order (`shutdownGracePeriod` of its kubelet); power returns at
    /// the end of the duration.
    Shutdown,
    /// The machine restarts: containers vanish, the kubelet is back after the boot time.
    Reboot,
    /// The kubelet process stops; containers go on.
    KubeletStop,
    /// Everything on the machine stands still.
    Freeze,
    /// Nothing passes between the selected nodes and the named places, in the given directions.
    /// Written with `from` alone, it holds in both directions (cut off from); without either, from
    /// everything that is not selected. Selected nodes still reach each other.
    NodePartition {
        /// Packets from these places to the selected nodes are lost.
        from: Vec<Place>,
        /// Packets from the selected nodes to these places are lost.
        to: Vec<Place>,
    },
    /// Chaos Mesh `pod-kill`: delete the pods with this grace period, in seconds.
    PodKill {
        /// `gracePeriod`.
        grace_s: u32,
    },
    /// Chaos Mesh `pod-failure`: the pods' containers stand in for nothing for the duration.
    PodFailure,
    /// Chaos Mesh `container-kill`: SIGKILL to the named containers (all when empty).
    ContainerKill {
        /// Container names.
        containers: Vec<Text>,
    },
    /// Chaos Mesh `delay`, `loss`, `corrupt`, `duplicate`, `netem` (all of them and `rate`), `bandwidth` and
    /// `partition` of the selected pods' traffic.
    Network {
        /// What happens to the packets, all of it.
        effects: Vec<LinkEffect>,
        /// Whose traffic.
        peers: Peers,
    },
    /// Chaos Mesh StressChaos: processes in a container's cgroup use CPU and memory.
    Stress {
        /// What is used.
        stressors: Stressors,
        /// Names of the containers; empty is the first one of each pod.
        containers: Vec<Text>,
    },
    /// The same on whole nodes, beside their pods.
    NodeStress(Stressors),
    /// Chaos Mesh DNSChaos: the selected pods' lookups of some names go wrong.
    Dns {
        /// Names, with `?` for one character and `*` for any; empty is all.
        patterns: Vec<Text>,
        /// What is answered.
        answer: WrongAnswer,
    },
    /// Chaos Mesh HTTPChaos: requests to the selected pods, or their answers, are tampered with.
    Http(HttpFault),
    /// ControlPlaneChaos: the control plane itself.
    ControlPlane(ControlAction),
}

/// What is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stressors {
    /// Threads that compute.
    pub cpu: Option<CpuStressor>,
    /// Memory that is written to and kept.
    pub memory: Option<MemoryStressor>,
}

/// Threads that compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuStressor {
    /// How many.
    pub workers: u32,
    /// How much of its time each of them computes, in percent; it does so for 10 ms and then pauses.
    pub load: u32,
}

/// Memory that is kept: all workers together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryStressor {
    /// So many bytes.
    Bytes(u64),
    /// So many percent of the node's memory.
    Percent(u32),
}

/// What a name server says instead of the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongAnswer {
    /// That it failed.
    Error,
    /// An address that is nobody's.
    Random,
}

impl Fault {
    /// Its action in a word, as written.
    pub fn action_name(&self) -> &'static str {
        match &self.action {
            Action::PowerOff => "power-off",
            Action::Shutdown => "shutdown",
            Action::Reboot => "reboot",
            Action::KubeletStop => "kubelet-stop",
            Action::Freeze => "freeze",
            Action::NodePartition { .. } => "partition",
            Action::PodKill { .. } => "pod-kill",
            Action::PodFailure => "pod-failure",
            Action::ContainerKill { .. } => "container-kill",
            Action::Network { effects, .. } => network_name(effects),
            Action::Stress { stressors, .. } | Action::NodeStress(stressors) => {
                match (stressors.cpu.is_some(), stressors.memory.is_some()) {
                    (true, true) => "CPU and memory stress",
                    (true, false) => "CPU stress",
                    _ => "memory stress",
                }
            }
            Action::Dns { answer, .. } => match answer {
                WrongAnswer::Error => "DNS errors",
                WrongAnswer::Random => "random DNS answers",
            },
            Action::Http(what) => what.name(),
            Action::ControlPlane(action) => action.name(),
        }
    }
}

impl Fault {
    /// What more there is to say than its action and whom it hits.
    pub fn detail(&self) -> String {
        match &self.action {
            Action::ControlPlane(action) => action.detail(),
            _ => String::new(),
        }
    }
}

fn network_name(effects: &[LinkEffect]) -> &'static str {
    let any = |wanted: fn(&LinkEffect) -> bool| effects.iter().any(wanted);
    let cut = any(|e| matches!(e, LinkEffect::Cut));
    let late = any(|e| matches!(e, LinkEffect::Delay { .. }));
    let lossy = any(|e| matches!(e, LinkEffect::Loss { .. }));
    let narrow = any(|e| matches!(e, LinkEffect::Rate { .. }));
    let broken = any(|e| matches!(e, LinkEffect::Corrupt { .. }));
    let twice = any(|e| matches!(e, LinkEffect::Duplicate { .. }));
    match (cut, late, lossy) {
        (true, ..) => "network partition",
        (_, true, true) => "network delay and loss",
        (_, true, _) => "network delay",
        (.., true) => "network loss",
        _ if narrow => "network bandwidth",
        _ if broken => "network corruption",
        _ if twice => "network duplication",
        _ => "network disturbance",
    }
}

/// Direction and other end of a NetworkChaos.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Peers {
    /// Affects packets that leave the selected pods.
    pub outgoing: bool,
    /// Affects packets that reach the selected pods.
    pub incoming: bool,
    /// The other end: `target.selector` with its mode; `None` for anybody.
    pub target: Option<(Box<Selector>, Mode)>,
    /// Who belongs to the other end as well (or alone, without a target): `externalTargets`.
    pub external: Vec<External>,
}

/// An end of links by address or name.
#[derive(Clone, Debug, PartialEq)]
pub struct External {
    /// As written.
    pub written: Text,
    /// Where.
    pub span: Span,
    /// In which field.
    pub path: String,
    /// What it is.
    pub end: ExternalEnd,
}

/// What an address or name stands for. A Service is the pods behind it, for requests that are sent
/// to it reach one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExternalEnd {
    /// Addresses: of pods, and of Services that asked for one of them.
    Network {
        /// Its first address, or any.
        ip: u32,
        /// How many leading bits its addresses share.
        bits: u8,
    },
    /// A Service.
    Service {
        /// Its namespace.
        namespace: Text,
        /// Its name.
        name: Text,
    },
    /// A pod by its name below a Service's.
    Pod {
        /// Its namespace.
        namespace: Text,
        /// The Service.
        service: Text,
        /// Its own name.
        name: Text,
    },
}

impl ExternalEnd {
    /// The bits that the addresses of a network share.
    pub fn mask(bits: u8) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)
    }

    /// Whether an address belongs to it.
    pub fn covers(&self, address: u32) -> bool {
        match self {
            ExternalEnd::Network { ip, bits } => (ip ^ address) & Self::mask(*bits) == 0,
            ExternalEnd::Service { .. } | ExternalEnd::Pod { .. } => false,
        }
    }
}

/// A place of the network that a partition names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Everything outside of the selection: the control plane, the edge, all other nodes.
    Others,
    /// The API server and the other components of the control plane.
    ControlPlane,
    /// All nodes of a zone.
    Zone(Text),
    /// All nodes of a pool.
    Pool(Text),
    /// One node.
    Node(Text),
    /// Where clients outside of the cluster come from.
    Edge,
}

/// Whom a fault may hit. Every condition that is given must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector {
    /// NodeChaos: the nodes that run pods of this workload (`deployment/shop/frontend`).
    pub pods_of: Option<WorkloadRef>,
    /// NodeChaos: nodes of these zones.
    pub zones: Vec<Text>,
    /// NodeChaos: nodes of these pools.
    pub pools: Vec<Text>,
    /// NodeChaos: nodes of these names.
    pub names: Vec<Text>,
    /// Nodes by label (NodeChaos; `nodeSelectors` of Chaos Mesh).
    pub node_labels: LabelSelector,
    /// Pods on these nodes (or on those that `node_labels` matches).
    pub nodes: Vec<Text>,
    /// Pods of these namespaces.
    pub namespaces: Vec<Text>,
    /// Pods by label.
    pub labels: LabelSelector,
    /// Pods by annotation.
    pub annotations: LabelSelector,
    /// Pods by field (`spec.nodeName`, `status.phase`, …) and value.
    pub fields: Vec<(Text, Text)>,
    /// Pods by phase, as in manifests.
    pub phases: Vec<Text>,
    /// Pods by namespace and name.
    pub pods: Vec<(Text, Text)>,
}

/// A workload by kind, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkloadRef {
    /// Kind as in manifests.
    pub kind: Text,
    /// Namespace.
    pub namespace: Text,
    /// Name.
    pub name: Text,
}

/// `mode` and `value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One, drawn.
    One,
    /// All.
    All,
    /// This many, drawn.
    Fixed(u32),
    /// This percentage, rounded down, drawn.
    FixedPercent(u32),
    /// A drawn percentage up to this.
    RandomMaxPercent(u32),
}
