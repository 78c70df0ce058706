//! What a fault does, as data: the targets that were chosen and the effects on them.

use std::time::Duration;

use super::control_plane::ControlAction;
use super::http::HttpRule;
use super::model::{Action, Fault, Mode, Peers, Stressors, WrongAnswer};
use crate::api::{Text, Uid};

/// A pod by identity: a successor of the same name is another pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodKey {
    /// Namespace.
    pub namespace: Text,
    /// Name.
    pub name: Text,
    /// Uid.
    pub uid: Uid,
}

/// What a fault hits, chosen once, when it begins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Targets {
    /// How many candidates there were.
    pub candidates: usize,
    /// Nodes, by name in order of creation (NodeChaos).
    pub nodes: Vec<Text>,
    /// Pods in order of creation (PodChaos and its kin), with the containers that are hit.
    pub pods: Vec<PodKey>,
    /// Containers of `pods`, in the same order (`container-kill`, `pod-failure`, StressChaos).
    pub containers: Vec<Vec<Text>>,
    /// The other end of a NetworkChaos; `None` for anybody.
    pub peers: Option<Vec<PodKey>>,
    /// From where packets to `nodes` are lost (partition).
    pub from: Ends,
    /// Whereto packets of `nodes` are lost (partition).
    pub to: Ends,
    /// Components of the control plane (ControlPlaneChaos).
    pub components: Vec<Text>,
}

impl Targets {
    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.pods.is_empty() && self.components.is_empty()
    }
}

/// A set of senders or receivers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Everybody.
    pub anybody: bool,
    /// The API server and what stands beside it.
    pub control_plane: bool,
    /// Clients outside of the cluster.
    pub edge: bool,
    /// Nodes with everything on them.
    pub nodes: Vec<Text>,
    /// Pods.
    pub pods: Vec<PodKey>,
}

impl Ends {
    /// Everybody.
    pub fn anybody() -> Self {
        Ends {
            anybody: true,
            ..Ends::default()
        }
    }

    /// These pods.
    pub fn pods(pods: &[PodKey]) -> Self {
        Ends {
            pods: pods.to_vec(),
            ..Ends::default()
        }
    }

    /// These nodes.
    pub fn nodes(nodes: &[Text]) -> Self {
        Ends {
            nodes: nodes.to_vec(),
            ..Ends::default()
        }
    }

    /// Whether nobody belongs to it.
    pub fn is_empty(&self) -> bool {
        *self == Ends::default()
    }
}

/// A disturbance of the packets of one direction.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkRule {
    /// Senders.
    pub from: Ends,
    /// Receivers.
    pub to: Ends,
    /// What happens to their packets.
    pub effect: LinkEffect,
}

/// What happens to packets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LinkEffect {
    /// All are lost.
    Cut,
    /// All are late by `latency`, give or take `jitter`.
    Delay {
        /// Added one way.
        latency: Duration,
        /// Spread of it.
        jitter: Duration,
        /// Correlation with the packet before, percent.
        correlation: f64,
        /// So many of a million are not late at all, and overtake the others.
        early_per_million: u32,
    },
    /// Some are lost.
    Loss {
        /// Of a million.
        per_million: u32,
        /// Correlation with the packet before, percent.
        correlation: f64,
    },
    /// One bit of some is turned over, so that their receivers throw them away.
    Corrupt {
        /// Of a million.
        per_million: u32,
    },
    /// Some arrive twice.
    Duplicate {
        /// Of a million.
        per_million: u32,
    },
    /// All of them together pass a token bucket.
    Rate {
        /// Bytes in a second.
        bytes_per_s: u64,
        /// Bytes that may pass at once after a pause.
        burst: u64,
        /// Bytes that may wait; what comes on top is lost, and sent again by its sender.
        queue: u64,
    },
}

/// A load that is put on a container or a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strain {
    /// The fault's name: two faults may put the same load on the same container.
    pub fault: Text,
    /// Where.
    pub on: Strained,
    /// What is used.
    pub stressors: Stressors,
}

/// Where a load is put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strained {
    /// In the cgroup of a container, by the name of the container.
    Container(PodKey, Text),
    /// On a node beside its pods.
    Node(Text),
}

/// Lookups that go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsRule {
    /// The fault's name.
    pub fault: Text,
    /// Whose.
    pub pods: Vec<PodKey>,
    /// Of which names, with `?` and `*`; empty is all.
    pub patterns: Vec<Text>,
    /// What is answered.
    pub answer: WrongAnswer,
}

/// Something that is wrong with the control plane.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlTrouble {
    /// The fault's name, which keys its draws.
    pub fault: Text,
    /// What.
    pub action: ControlAction,
    /// How many of the component's replicas.
    pub mode: Mode,
}

/// One thing to carry out.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The machine loses power.
    PowerOff(Text),
    /// The machine is shut down in order: its kubelet first ends the pods, when it is given time for
    /// that.
    ShutDown(Text),
    /// Its power returns; it boots.
    PowerOn(Text),
    /// It restarts, and boots at once.
    Reboot(Text),
    /// Its kubelet process stops; containers go on.
    KubeletStop(Text),
    /// Its kubelet process starts.
    KubeletStart(Text),
    /// Everything on it stands still.
    Freeze(Text),
    /// It goes on where it stood.
    Thaw(Text),
    /// Packets of one direction are disturbed.
    Disturb(LinkRule),
    /// The same rule ends.
    Calm(LinkRule),
    /// An API delete of a pod.
    DeletePod {
        /// Which.
        pod: PodKey,
        /// Grace period in seconds; `None` is the pod's own.
        grace_s: Option<u32>,
    },
    /// SIGKILL to the main process of a container.
    KillContainer {
        /// Whose.
        pod: PodKey,
        /// Name of the container.
        container: Text,
    },
    /// The pod's containers stop answering, and stay so through restarts.
    FailPod {
        /// Which.
        pod: PodKey,
        /// Names of its containers.
        containers: Vec<Text>,
    },
    /// The pod's containers are what they were.
    RestorePod {
        /// Which.
        pod: PodKey,
        /// Names of its containers.
        containers: Vec<Text>,
    },
    /// A load begins.
    Strain(Strain),
    /// It ends.
    Relieve(Strain),
    /// Lookups go wrong.
    Mislead(DnsRule),
    /// They go right again.
    Inform(DnsRule),
    /// Requests or answers are tampered with.
    Tamper(HttpRule),
    /// They are left alone.
    Spare(HttpRule),
    /// Trouble with the control plane begins.
    Trouble(ControlTrouble),
    /// It ends.
    Mend(ControlTrouble),
}

impl Effect {
    /// What undoes it at the end of the fault; `None` for what ends by itself.
    pub fn inverse(&self) -> Option<Effect> {
        Some(match self.clone() {
            Effect::PowerOff(node) | Effect::ShutDown(node) => Effect::PowerOn(node),
            Effect::PowerOn(node) => Effect::PowerOff(node),
            Effect::KubeletStop(node) => Effect::KubeletStart(node),
            Effect::KubeletStart(node) => Effect::KubeletStop(node),
            Effect::Freeze(node) => Effect::Thaw(node),
            Effect::Thaw(node) => Effect::Freeze(node),
            Effect::Disturb(rule) => Effect::Calm(rule),
            Effect::Calm(rule) => Effect::Disturb(rule),
            Effect::FailPod { pod, containers } => Effect::RestorePod { pod, containers },
            Effect::RestorePod { pod, containers } => Effect::FailPod { pod, containers },
            Effect::Strain(strain) => Effect::Relieve(strain),
            Effect::Relieve(strain) => Effect::Strain(strain),
            Effect::Mislead(rule) => Effect::Inform(rule),
            Effect::Inform(rule) => Effect::Mislead(rule),
            Effect::Tamper(rule) => Effect::Spare(rule),
            Effect::Spare(rule) => Effect::Tamper(rule),
            Effect::Trouble(trouble) => Effect::Mend(trouble),
            Effect::Mend(trouble) => Effect::Trouble(trouble),
            Effect::Reboot(_) | Effect::DeletePod { .. } | Effect::KillContainer { .. } => {
                return None;
            }
        })
    }
}

impl Fault {
    /// What hitting these targets means, in the order of the targets.
    pub fn effects(&self, targets: &Targets) -> Vec<Effect> {
        let nodes = targets.nodes.iter().cloned();
        match &self.action {
            Action::PowerOff => nodes.map(Effect::PowerOff).collect(),
            Action::Shutdown => nodes.map(Effect::ShutDown).collect(),
            Action::Reboot => nodes.map(Effect::Reboot).collect(),
            Action::KubeletStop => nodes.map(Effect::KubeletStop).collect(),
            Action::Freeze => nodes.map(Effect::Freeze).collect(),
            Action::NodePartition { .. } => partition(targets),
            Action::PodKill { grace_s } => (targets.pods.iter().cloned())
                .map(|pod| Effect::DeletePod {
                    pod,
                    grace_s: Some(*grace_s),
                })
                .collect(),
            Action::PodFailure => (targets.pods.iter().zip(&targets.containers))
                .map(|(pod, containers)| Effect::FailPod {
                    pod: pod.clone(),
                    containers: containers.clone(),
                })
                .collect(),
            Action::ContainerKill { .. } => (targets.pods.iter().zip(&targets.containers))
                .flat_map(|(pod, containers)| {
                    containers.iter().map(|container| Effect::KillContainer {
                        pod: pod.clone(),
                        container: container.clone(),
                    })
                })
                .collect(),
            Action::Network { effects, peers } => network(targets, effects, peers),
            Action::NodeStress(stressors) => nodes
                .map(|node| self.strain(Strained::Node(node), *stressors))
                .collect(),
            Action::Stress { stressors, .. } => (targets.pods.iter().zip(&targets.containers))
                .flat_map(|(pod, containers)| {
                    containers.iter().map(|container| {
                        let on = Strained::Container(pod.clone(), container.clone());
                        self.strain(on, *stressors)
                    })
                })
                .collect(),
            Action::Dns { patterns, answer } if !targets.pods.is_empty() => {
                vec![Effect::Mislead(DnsRule {
                    fault: self.name.clone(),
                    pods: targets.pods.clone(),
                    patterns: patterns.clone(),
                    answer: *answer,
                })]
            }
            Action::Http(what) if !targets.pods.is_empty() => {
                vec![Effect::Tamper(HttpRule {
                    fault: self.name.clone(),
                    pods: targets.pods.clone(),
                    what: what.clone(),
                })]
            }
            Action::Dns { .. } | Action::Http(_) => Vec::new(),
            Action::ControlPlane(action) => vec![Effect::Trouble(ControlTrouble {
                fault: self.name.clone(),
                action: action.clone(),
                mode: self.mode,
            })],
        }
    }

    fn strain(&self, on: Strained, stressors: Stressors) -> Effect {
        Effect::Strain(Strain {
            fault: self.name.clone(),
            on,
            stressors,
        })
    }

    /// Whether it begins and is over at once: its duration means nothing.
    pub fn is_instant(&self) -> bool {
        matches!(
            self.action,
            Action::Reboot | Action::PodKill { .. } | Action::ContainerKill { .. }
        )
    }
}

fn network(targets: &Targets, effects: &[LinkEffect], peers: &Peers) -> Vec<Effect> {
    let mut rules = Vec::new();
    let mine = Ends::pods(&targets.pods);
    let other = targets.peers.as_deref();
    let other = other.map_or_else(Ends::anybody, Ends::pods);
    for effect in effects {
        disturb(&mut rules, &mine, &other, *effect, peers.outgoing);
        disturb(&mut rules, &other, &mine, *effect, peers.incoming);
    }
    rules
}

fn partition(targets: &Targets) -> Vec<Effect> {
    let mut rules = Vec::new();
    let mine = Ends::nodes(&targets.nodes);
    disturb(&mut rules, &targets.from, &mine, LinkEffect::Cut, true);
    disturb(&mut rules, &mine, &targets.to, LinkEffect::Cut, true);
    rules
}

fn disturb(rules: &mut Vec<Effect>, from: &Ends, to: &Ends, effect: LinkEffect, on: bool) {
    if on && !from.is_empty() && !to.is_empty() {
        rules.push(Effect::Disturb(LinkRule {
            from: from.clone(),
            to: to.clone(),
            effect,
        }));
    }
}

impl Mode {
    /// How many of `candidates` are hit, given a uniform number below 2^32 for
    /// `random-max-percent`.
    pub fn count(self, candidates: usize, draw: u64) -> usize {
        let percent = |percent: u32| candidates * percent.min(100) as usize / 100;
        match self {
            Mode::One => candidates.min(1),
            Mode::All => candidates,
            Mode::Fixed(count) => candidates.min(count as usize),
            Mode::FixedPercent(most) => percent(most),
            Mode::RandomMaxPercent(most) => {
                let drawn = draw % (u64::from(most.min(100)) + 1);
                percent(u32::try_from(drawn).unwrap_or(100))
            }
        }
    }
}
