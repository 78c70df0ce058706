//! What of a node follows from itself: NoSchedule taints from conditions, beta labels from stable ones.

use crate::api::affinity::{Taint, TaintEffect};
use crate::api::node::NodeConditionKind;
use crate::api::pod_status::Truth;
use crate::api::{Node, Text};
use crate::client::Plan;
use crate::store::{Id, Patch, View, Write};

use super::{NOT_READY, UNREACHABLE, has_taint, taint};

/// `doNoScheduleTaintingPass`: NoSchedule taints mirror conditions and cordoning.
pub fn no_schedule_pass(id: Id<Node>, view: &View) -> Plan {
    const CONDITION_TAINTS: [(NodeConditionKind, Truth, &str); 6] = [
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
    let ours = |t: &&Taint| {
        t.effect == TaintEffect::NoSchedule
            && (t.key == UNSCHEDULABLE || CONDITION_TAINTS.iter().any(|(_, _, key)| t.key == *key))
    };
    let remove: Vec<Taint> = node
        .taints
        .iter()
        .filter(ours)
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
