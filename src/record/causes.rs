//! Why: significant changes, each with the one that led to it.
//!
//! Every write carries its cause: the change, step, fault or timer that set it off. Most changes are
//! only links in between (a status update, a lease); a chain skips them. What began with a machine is
//! tied to the fault that hit it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::milestones::NodeMarkKind;
use super::{FaultNote, StepNote, origin_name};
use crate::api::{Kind, Text};
use crate::engine::Time;
use crate::store::write::Trigger;
use crate::store::{Change, Op, Origin};

/// Number of an entry.
pub type EntryId = u32;

const NONE: EntryId = EntryId::MAX;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// A pod was created.
    PodCreated,
    /// A pod was bound to this node.
    PodBound(Text),
    /// Its first container runs.
    PodStarted,
    /// It is ready.
    PodReady,
    /// It is not ready any more.
    PodUnready,
    /// Its deletion was asked for, with this grace period in seconds.
    PodTerminating(u32),
    /// It is gone.
    PodGone,
    /// It failed, for this reason.
    PodFailed(Text),
    /// A container was started again.
    Restarted {
        /// Which container.
        container: Text,
        /// How it had ended.
        reason: Text,
        /// With this exit code.
        code: i32,
        /// How many restarts that makes.
        nth: u32,
    },
    /// Something happened to a node; its last lease renewal.
    Node(NodeMarkKind, Option<Time>),
    /// A workload's desired state changed (generation).
    DesiredChanged(u32),
    /// The reason of a Deployment's Progressing condition changed, or another rollout is complete.
    Progress(Text),
    /// A ReplicaSet was scaled.
    Scaled {
        /// Before.
        from: i32,
        /// After.
        to: i32,
    },
    /// A Service's ready endpoints changed.
    Endpoints {
        /// Before.
        from: u32,
        /// After.
        to: u32,
    },
    /// A fault began.
    FaultBegan(Text),
    /// A fault ended.
    FaultEnded(Text),
    /// A timeline step began.
    Step(String),
}

impl What {
    /// In words, for a chain; instants count from `begun`.
    pub fn text(&self, begun: Time) -> String {
        match self {
            What::PodCreated => "created".into(),
            What::PodBound(node) => format!("bound to {node}"),
            What::PodStarted => "started".into(),
            What::PodReady => "ready".into(),
            What::PodUnready => "not ready".into(),
            What::PodTerminating(grace) => format!("deletion asked for (grace {grace}s)"),
            What::PodGone => "gone".into(),
            What::PodFailed(reason) if reason.is_empty() => "failed".into(),
            What::PodFailed(reason) => format!("failed: {reason}"),
            What::Restarted {
                container,
                reason,
                code,
                nth,
            } => {
                format!("container {container} restarted (#{nth}) after {reason}, exit code {code}")
            }
            What::Node(kind, lease) => match (kind, lease) {
                (NodeMarkKind::Unknown, Some(at)) => {
                    let at = Time::ZERO + at.since(begun);
                    format!("Ready=Unknown (last lease {})", at.clock())
                }
                _ => kind.name(),
            },
            What::DesiredChanged(generation) => format!("desired state {generation}"),
            What::Progress(reason) => format!("Progressing: {reason}"),
            What::Scaled { from, to } => format!("scaled {from}→{to}"),
            What::Endpoints { from, to } => format!("ready endpoints {from}→{to}"),
            What::FaultBegan(action) => format!("fault begins: {action}"),
            What::FaultEnded(action) => format!("fault ends: {action}"),
            What::Step(text) => text.clone(),
        }
    }
}

/// One significant change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CauseEntry {
    /// Its number.
    pub id: EntryId,
    /// When.
    pub at: Time,
    /// Kind of the object; `Fault` or `Step` otherwise.
    pub kind: Text,
    /// Namespace; empty for none.
    pub namespace: Text,
    /// Name.
    pub name: Text,
    /// What happened.
    pub what: What,
    /// Who did it.
    pub by: Text,
    /// By which rule; may be empty.
    pub rule: Text,
    /// What led to it.
    pub parent: Option<EntryId>,
}

/// The causes of a run.
#[derive(Debug, Default)]
pub struct Causes {
    entries: Vec<CauseEntry>,
    /// For each revision: the entry that it is, or the one that it came from.
    of_revision: Vec<EntryId>,
    of_step: BTreeMap<u32, EntryId>,
    fault_of_node: BTreeMap<Text, EntryId>,
    fault_of_pod: BTreeMap<Text, EntryId>,
    /// When and why a node was last seen to be lost.
    lost_node: BTreeMap<Text, EntryId>,
    kinds: BTreeMap<Kind, Text>,
    /// Names of kubelets by the number of their node.
    kubelets: Vec<Option<Text>>,
}

impl Causes {
    /// The entries in order of time.
    pub fn into_entries(self) -> Vec<CauseEntry> {
        self.entries
    }

    /// A fault begins or ends.
    pub fn on_fault(&mut self, note: &FaultNote) {
        let what = if note.healed {
            What::FaultEnded(note.action.clone())
        } else {
            What::FaultBegan(note.action.clone())
        };
        let id = self.push(
            note.at,
            "Fault".into(),
            Text::default(),
            note.name.clone(),
            what,
        );
        for node in &note.nodes {
            self.fault_of_node.insert(node.clone(), id);
        }
        for pod in &note.pods {
            self.fault_of_pod.insert(pod.clone(), id);
        }
    }

    /// A step begins.
    pub fn on_step(&mut self, note: &StepNote) {
        let name = Text::from(format!("step {}", note.step + 1));
        let what = What::Step(note.text.clone());
        let id = self.push(note.at, "Step".into(), Text::default(), name, what);
        self.of_step.insert(note.step, id);
    }

    fn push(&mut self, at: Time, kind: Text, namespace: Text, name: Text, what: What) -> EntryId {
        let id = EntryId::try_from(self.entries.len()).unwrap_or(NONE);
        self.entries.push(CauseEntry {
            id,
            at,
            kind,
            namespace,
            name,
            what,
            by: Text::default(),
            rule: Text::default(),
            parent: None,
        });
        id
    }

    /// A change was committed; `whats` is what was significant about it.
    pub fn on_change(&mut self, change: &Change, whats: Vec<What>) {
        let from = self.origin(change);
        let mut own = from;
        for what in whats {
            let Some(row) = &change.new else { continue };
            let meta = row.meta();
            let kind = self
                .kinds
                .entry(row.kind())
                .or_insert_with(|| row.kind().name().into())
                .clone();
            let (namespace, name) = (meta.namespace.clone(), meta.name.clone());
            let lost = matches!(&what, What::Node(NodeMarkKind::Unknown, _));
            let by = self.by(change.cause.origin);
            let id = self.push(change.time, kind, namespace, name.clone(), what);
            let entry = &mut self.entries[id as usize];
            entry.by = by;
            entry.rule = Text::literal(change.cause.rule);
            entry.parent = (from != NONE).then_some(from);
            if lost {
                self.lost_node.insert(name, id);
            }
            own = id;
        }
        let revision = usize::try_from(change.revision).unwrap_or(usize::MAX);
        if self.of_revision.len() <= revision {
            self.of_revision.resize(revision + 1, NONE);
        }
        self.of_revision[revision] = own;
    }

    /// Who wrote something, in words.
    fn by(&mut self, origin: Origin) -> Text {
        let Origin::Kubelet(node) = origin else {
            return origin_name(origin).into();
        };
        let at = node as usize;
        if self.kubelets.len() <= at {
            self.kubelets.resize(at + 1, None);
        }
        let name = self.kubelets[at].get_or_insert_with(|| origin_name(origin).into());
        name.clone()
    }

    /// The entry that led to a change.
    fn origin(&self, change: &Change) -> EntryId {
        let known = match change.cause.trigger {
            Trigger::Change(revision) => usize::try_from(revision)
                .ok()
                .and_then(|r| self.of_revision.get(r))
                .copied()
                .unwrap_or(NONE),
            Trigger::Step(step) => self.of_step.get(&step).copied().unwrap_or(NONE),
            Trigger::Fault(_) | Trigger::Start | Trigger::Timer | Trigger::Runtime => NONE,
        };
        if known != NONE {
            return known;
        }
        self.physical(change).unwrap_or(NONE)
    }

    /// What happened in the world: the fault that hit the node or pod, or the loss of its node.
    fn physical(&self, change: &Change) -> Option<EntryId> {
        let row = change.new.as_ref()?;
        if change.op == Op::Create {
            return None;
        }
        let meta = row.meta();
        match row {
            crate::api::Row::Node(_) => self.fault_of_node.get(&meta.name).copied(),
            crate::api::Row::Pod(pod) => {
                let own = match self.fault_of_pod.is_empty() {
                    true => None,
                    false => self.fault_of_pod.get(meta.full_name().as_str()).copied(),
                };
                let node = pod.node_name.as_ref();
                let lost = node.and_then(|node| self.lost_node.get(node)).copied();
                let hit = node.and_then(|node| self.fault_of_node.get(node)).copied();
                own.or(lost).or(hit)
            }
            _ => None,
        }
    }
}
