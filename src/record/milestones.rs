//! Milestones of pods and nodes: when each was reached for the first time.

use serde::{Deserialize, Serialize};

use super::causes::What;
use crate::api::affinity::TaintEffect;
use crate::api::node::NodeConditionKind;
use crate::api::pod_status::{ContainerState, Phase, PodConditionKind, Terminated, Truth};
use crate::api::{Kind, Lease, Node, Pod, Text};
use crate::engine::Time;
use crate::store::{Change, Op};

/// A pod's life. Times are those of the commits in the API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodLife {
    /// Namespace.
    pub namespace: Text,
    /// Name.
    pub name: Text,
    /// Controller, `ReplicaSet/web-5d4f`; empty for none.
    pub owner: Text,
    /// Node; empty until bound.
    pub node: Text,
    /// Image of the first container.
    pub image: Text,
    /// Created.
    pub created: Time,
    /// Bound to its node.
    pub scheduled: Option<Time>,
    /// Images are on the node (KubeEvent `Pulled` of the last container, or already present).
    pub pulled: Option<Time>,
    /// First container runs.
    pub started: Option<Time>,
    /// Ready for the first time.
    pub ready: Option<Time>,
    /// Lost its readiness, each time.
    pub unready: Vec<Time>,
    /// Ready again, each time.
    pub ready_again: Vec<Time>,
    /// Deletion was asked for.
    pub terminating: Option<Time>,
    /// Gone from the API.
    pub gone: Option<Time>,
    /// Container restarts.
    pub restarts: u32,
    /// Ends of its containers, in order: container, reason, exit code.
    pub exits: Vec<(Text, Text, i32)>,
    /// Why it ended or waits: `OOMKilled`, `Evicted`, `DeletionByTaintManager` …
    pub reason: Text,
    /// Last phase.
    pub phase: String,
}

/// Something that happened to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeMark {
    /// When.
    pub at: Time,
    /// Which node.
    pub node: Text,
    /// Its zone.
    pub zone: Text,
    /// What.
    pub what: NodeMarkKind,
    /// The last renewal of its lease before that.
    pub last_lease: Option<Time>,
}

/// What happened to a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NodeMarkKind {
    /// It registered.
    Added,
    /// Its object is gone.
    Removed,
    /// Ready=True.
    Ready,
    /// Ready=False: its kubelet says so.
    NotReady,
    /// Ready=Unknown: it is silent.
    Unknown,
    /// Cordoned.
    Cordoned,
    /// Uncordoned.
    Uncordoned,
    /// A NoExecute taint was added.
    Tainted(Text),
    /// A NoExecute taint was taken away.
    Untainted(Text),
}

impl NodeMarkKind {
    /// In a word.
    pub fn name(&self) -> String {
        match self {
            NodeMarkKind::Added => "Added".into(),
            NodeMarkKind::Removed => "Removed".into(),
            NodeMarkKind::Ready => "Ready".into(),
            NodeMarkKind::NotReady => "NotReady".into(),
            NodeMarkKind::Unknown => "Unknown".into(),
            NodeMarkKind::Cordoned => "Cordoned".into(),
            NodeMarkKind::Uncordoned => "Uncordoned".into(),
            NodeMarkKind::Tainted(key) => format!("Tainted {key}"),
            NodeMarkKind::Untainted(key) => format!("Untainted {key}"),
        }
    }
}

/// Milestones of a run.
#[derive(Debug, Default)]
pub struct Milestones {
    pods: Vec<Option<PodLife>>,
    nodes: Vec<NodeMark>,
    /// The last renewal by the number of the lease, and the lease by its name.
    renewals: Vec<Time>,
    leases: std::collections::BTreeMap<Text, u32>,
}

fn at_least<T: Default + Clone>(list: &mut Vec<T>, len: usize) {
    if list.len() < len {
        list.resize(len, T::default());
    }
}

impl Milestones {
    /// Every pod that ever was, in order of creation.
    pub fn pods(&self) -> Vec<PodLife> {
        self.pods.iter().flatten().cloned().collect()
    }

    /// The node timeline.
    pub fn nodes(&self) -> Vec<NodeMark> {
        self.nodes.clone()
    }

    /// A lease was renewed.
    pub fn on_lease(&mut self, change: &Change) {
        if let (Some(object), Some(renewed)) = (change.object, change.renewed) {
            let at = object.index as usize;
            at_least(&mut self.renewals, at + 1);
            self.renewals[at] = renewed;
        }
        if let (Some(object), Some((old, Some(lease)))) = (change.object, change.rows::<Lease>()) {
            let at = object.index as usize;
            at_least(&mut self.renewals, at + 1);
            self.renewals[at] = lease.renewed;
            if old.is_none() {
                self.leases.insert(lease.meta.name.clone(), object.index);
            }
        }
    }

    /// A pod changed; returns what was significant about it.
    pub fn on_pod(&mut self, change: &Change) -> Vec<What> {
        let (Some(object), Some((old, Some(new)))) = (change.object, change.rows::<Pod>()) else {
            return Vec::new();
        };
        let at = object.index as usize;
        at_least(&mut self.pods, at + 1);
        let life = self.pods[at].get_or_insert_with(|| begin(new));
        let mut whats = Vec::new();
        let now = change.time;
        if change.op == Op::Create {
            whats.push(What::PodCreated);
        }
        if life.scheduled.is_none()
            && let Some(node) = &new.node_name
        {
            life.node = node.clone();
            life.scheduled = Some(now);
            whats.push(What::PodBound(node.clone()));
        }
        ends(life, old, new);
        containers(life, new, now, &mut whats);
        readiness(life, old, new, now, &mut whats);
        if life.phase != new.status.phase.name() {
            life.phase = new.status.phase.name().to_owned();
        }
        if old.is_some_and(|o| o.status.phase != new.status.phase)
            && new.status.phase == Phase::Failed
            // A pod that was asked to end and does is no failure.
            && !new.meta.deleting()
        {
            whats.push(What::PodFailed(
                new.status.reason.clone().unwrap_or_default(),
            ));
        }
        if let Some(reason) = &new.status.reason {
            life.reason = reason.clone();
        }
        if let Some(target) = new.status.condition(&PodConditionKind::DisruptionTarget)
            && let Some(reason) = &target.reason
        {
            life.reason = reason.clone();
        }
        if new.meta.deleting() && life.terminating.is_none() {
            life.terminating = Some(now);
            whats.push(What::PodTerminating(
                new.meta.deletion.map_or(0, |d| d.grace_s),
            ));
        }
        if change.op == Op::Delete {
            life.gone = Some(now);
            whats.push(What::PodGone);
        }
        whats
    }

    /// A node changed; returns what was significant about it.
    pub fn on_node(&mut self, change: &Change) -> Vec<What> {
        let Some((old, Some(new))) = change.rows::<Node>() else {
            return Vec::new();
        };
        let mut kinds = Vec::new();
        if change.op == Op::Create {
            kinds.push(NodeMarkKind::Added);
        }
        let status = |node: Option<&Node>| {
            node.and_then(|n| n.condition(&NodeConditionKind::Ready))
                .map(|c| c.status)
        };
        if status(old) != status(Some(new)) {
            kinds.extend(status(Some(new)).map(|status| match status {
                Truth::True => NodeMarkKind::Ready,
                Truth::False => NodeMarkKind::NotReady,
                Truth::Unknown => NodeMarkKind::Unknown,
            }));
        }
        if old.is_some_and(|o| o.unschedulable) != new.unschedulable {
            let cordoned = new.unschedulable;
            kinds.push(if cordoned {
                NodeMarkKind::Cordoned
            } else {
                NodeMarkKind::Uncordoned
            });
        }
        let keys = |node: Option<&Node>| -> Vec<Text> {
            let taints = node.map(|n| n.taints.as_slice()).unwrap_or_default();
            taints
                .iter()
                .filter(|t| t.effect == TaintEffect::NoExecute)
                .map(|t| t.key.clone())
                .collect()
        };
        let (before, after) = (keys(old), keys(Some(new)));
        kinds.extend(
            after
                .iter()
                .filter(|k| !before.contains(k))
                .cloned()
                .map(NodeMarkKind::Tainted),
        );
        kinds.extend(
            before
                .iter()
                .filter(|k| !after.contains(k))
                .cloned()
                .map(NodeMarkKind::Untainted),
        );
        if change.op == Op::Delete {
            kinds.push(NodeMarkKind::Removed);
        }
        let lease = self.leases.get(&new.meta.name);
        let last_lease = lease.map(|lease| self.renewals[*lease as usize]);
        let mark = |what: &NodeMarkKind| NodeMark {
            at: change.time,
            node: new.meta.name.clone(),
            zone: new.zone().into(),
            what: what.clone(),
            last_lease,
        };
        self.nodes.extend(kinds.iter().map(mark));
        kinds
            .into_iter()
            .map(|kind| What::Node(kind, last_lease))
            .collect()
    }
}

fn begin(pod: &Pod) -> PodLife {
    let owner = pod.meta.controller();
    PodLife {
        namespace: pod.meta.namespace.clone(),
        name: pod.meta.name.clone(),
        owner: owner
            .map(|o| {
                let kind = if o.kind == Kind::Inert {
                    o.kind_name.as_str()
                } else {
                    o.kind.name()
                };
                Text::from(format!("{kind}/{}", o.name))
            })
            .unwrap_or_default(),
        image: pod
            .spec
            .containers
            .first()
            .map(|c| c.image.clone())
            .unwrap_or_default(),
        created: pod.meta.created,
        ..PodLife::default()
    }
}

/// Notes containers that have ended: those whose state says so now and did not before, and those
/// whose last end is a new one.
fn ends(life: &mut PodLife, old: Option<&Pod>, new: &Pod) {
    let lists = |pod: &'_ Pod| -> Vec<(Text, Option<Terminated>, Option<Terminated>)> {
        let status = &pod.status;
        let all = status.init_containers.iter().chain(&status.containers);
        all.map(|c| {
            let now = match &c.state {
                ContainerState::Terminated(end) => Some(Terminated::clone(end)),
                _ => None,
            };
            (c.name.clone(), now, c.last.as_deref().cloned())
        })
        .collect()
    };
    if !new
        .status
        .containers
        .iter()
        .chain(&new.status.init_containers)
        .any(|c| c.state.terminated() || c.last.is_some())
    {
        return;
    }
    let before = old.map(lists).unwrap_or_default();
    for (name, now, last) in lists(new) {
        let was = before.iter().find(|(n, ..)| *n == name);
        let known = |end: &Terminated| {
            was.is_some_and(|(_, n, l)| n.as_ref() == Some(end) || l.as_ref() == Some(end))
        };
        for end in [last, now].into_iter().flatten().filter(|end| !known(end)) {
            life.exits
                .push((name.clone(), end.reason.clone(), end.exit_code));
        }
    }
}

fn containers(life: &mut PodLife, pod: &Pod, now: Time, whats: &mut Vec<What>) {
    let running = pod.status.containers.iter().find_map(|c| match c.state {
        ContainerState::Running { since } => Some(since),
        _ => None,
    });
    if life.started.is_none() && running.is_some() {
        life.started = Some(now);
        // A container's start is told in whole seconds: it may lie before what came before it.
        let least = life.scheduled.unwrap_or(life.created);
        let running = running.map(|at| at.max(least).min(now));
        life.pulled = life.pulled.or(running);
        whats.push(What::PodStarted);
    }
    let all = pod
        .status
        .containers
        .iter()
        .chain(&pod.status.init_containers);
    let restarts: u32 = all.clone().map(|c| c.restarts).sum();
    if restarts > life.restarts {
        let last = all
            .filter_map(|c| Some((c, c.last.as_ref()?)))
            .max_by_key(|(_, last)| last.finished);
        let (name, reason, code) = last
            .map(|(c, t)| (c.name.clone(), t.reason.clone(), t.exit_code))
            .unwrap_or_default();
        life.reason = reason.clone();
        whats.push(What::Restarted {
            container: name,
            reason,
            code,
            nth: restarts,
        });
    }
    life.restarts = restarts;
}

fn readiness(life: &mut PodLife, old: Option<&Pod>, new: &Pod, now: Time, whats: &mut Vec<What>) {
    let before = old.is_some_and(|o| o.status.ready());
    let after = new.status.ready();
    if !before && after {
        if life.ready.is_none() {
            life.ready = Some(now);
        } else {
            life.ready_again.push(now);
        }
        whats.push(What::PodReady);
    } else if before && !after {
        life.unready.push(now);
        whats.push(What::PodUnready);
    }
}
