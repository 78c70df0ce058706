//! What of a node follows from itself: NoSchedule taints from conditions, beta labels from stable ones.

use crate::api::affinity::{Taint, TaintEffect};
use crate::api::node::NodeConditionKind;
use crate::api::pod_status::Truth;
use crate::api::{Node, Text};
use crate::client::Plan;
use crate::store::{Change, Id, Patch, View, Write};

use super::{NOT_READY, NodeLifecycleController, UNREACHABLE, has_taint, taint};

/// Which condition has which taint.
static CONDITION_TAINTS: [(NodeConditionKind, Truth, &str); 6] = [
    (NodeConditionKind::Ready, Truth::False, NOT_READY),
    (NodeConditionKind::Ready, Truth::Unknown, UNREACHABLE),
    (
        NodeConditionKind::MemoryPressure,
        Truth::True,
        "node.kubernetes.io/memory-pressure",
    ),
    (
        NodeConditionKind::DiskPressure,
        Truth::True,
        "node.kubernetes.io/disk-pressure",
    ),
    (
        NodeConditionKind::NetworkUnavailable,
        Truth::True,
        "node.kubernetes.io/network-unavailable",
    ),
    (
        NodeConditionKind::PidPressure,
        Truth::True,
        "node.kubernetes.io/pid-pressure",
    ),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Whether a taint is one that this pass gives and takes.
fn ours(taint: &Taint) -> bool {
    taint.effect == TaintEffect::NoSchedule
        && (taint.key == UNSCHEDULABLE
            || CONDITION_TAINTS.iter().any(|(_, _, key)| taint.key == *key))
}

/// Whether a node neither has nor needs any of these taints.
pub(super) fn untainted(node: &Node) -> bool {
    let calls_for = |kind: &NodeConditionKind, status| {
        let mut taints = CONDITION_TAINTS.iter();
        taints.any(|(k, s, _)| *s == status && k == kind)
    };
    !node.unschedulable
        && !(node.status.conditions.iter()).any(|c| calls_for(&c.kind, c.status))
        && !node.taints.iter().any(ours)
}

impl NodeLifecycleController {
    /// Whether labels or NoSchedule taints of a node that changed are not as they should be. Most
    /// changes are reports that nothing follows from, and what follows from a node follows from its
    /// row: what changes it later is another change.
    pub(super) fn has_to_mirror(&mut self, id: Id<Node>, change: &Change, view: &View) -> bool {
        self.mirrored.grow(id.index() + 1);
        if self.mirrored.contains(id.index())
            && let Some((Some(old), Some(new))) = change.rows::<Node>()
            && old.meta.labels.same(&new.meta.labels)
            && untainted(new)
        {
            debug_assert!(no_schedule_pass(id, view).is_empty());
            return false;
        }
        let nothing = no_schedule_pass(id, view).is_empty();
        self.mirrored.set(id.index(), nothing);
        !nothing
    }
}

/// `doNoScheduleTaintingPass`: NoSchedule taints mirror conditions and cordoning.
pub fn no_schedule_pass(id: Id<Node>, view: &View) -> Plan {
    let mut plan = Plan::none();
    let Some(node) = view.nodes().get(id) else {
        return plan;
    };
    let mut wanted: Vec<&str> = CONDITION_TAINTS
        .iter()
        .filter(|(kind, status, _)| node.condition(kind).is_some_and(|c| c.status == *status))
        .map(|(_, _, key)| *key)
        .collect();
    if node.unschedulable {
        wanted.push(UNSCHEDULABLE);
    }
    let remove: Vec<Taint> = node
        .taints
        .iter()
        .filter(|t| ours(t))
        .filter(|t| !wanted.iter().any(|key| t.key == *key))
        .cloned()
        .collect();
    let add: Vec<Taint> = wanted
        .iter()
        .filter(|key| !has_taint(node, key, TaintEffect::NoSchedule))
        .map(|key| taint(key, TaintEffect::NoSchedule))
        .collect();
    if !add.is_empty() || !remove.is_empty() {
        let patch = Patch::NodeTaints { add, remove };
        let write = Write::Patch {
            object: id.into(),
            uid: Some(node.meta.uid),
            patch,
        };
        plan.write(write, "NoSchedule taints mirror conditions");
    }
    reconcile_labels(id, node, &mut plan);
    plan
}

/// `reconcileNodeLabels`: the beta labels of OS and architecture follow the stable ones.
fn reconcile_labels(id: Id<Node>, node: &Node, plan: &mut Plan) {
    let edits: Vec<(Text, Option<Text>)> = [
        ("kubernetes.io/os", "beta.kubernetes.io/os"),
        ("kubernetes.io/arch", "beta.kubernetes.io/arch"),
    ]
    .into_iter()
    .filter_map(|(primary, secondary)| {
        let value = node.meta.labels.get(primary)?;
        (node.meta.labels.get(secondary) != Some(value))
            .then(|| (Text::from(secondary), Some(value.clone())))
    })
    .collect();
    if !edits.is_empty() {
        let patch = Patch::Labels(edits);
        let write = Write::Patch {
            object: id.into(),
            uid: Some(node.meta.uid),
            patch,
        };
        plan.write(write, "beta labels follow the stable ones");
    }
}
