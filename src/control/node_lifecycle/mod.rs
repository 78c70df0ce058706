//! Node life: leases that stop, nodes that become Unknown, zones that are cut off, taints.
//!
//! A port of `pkg/controller/nodelifecycle/node_lifecycle_controller.go`. Every monitor period each
//! node's lease and heartbeat are compared with what was seen before ([`health`]). A node that was
//! silent for the grace period becomes Ready=Unknown, its pods are marked not ready (which takes
//! them out of Services at that moment), and it is queued for a NoExecute taint. The taints are
//! rationed by zone, and by how much of the zone is gone ([`zones`]); evicting pods from tainted
//! nodes is the taint eviction controller's business.

pub mod health;

pub mod zones;

pub mod mirror;

mod pass;

mod well;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fixedbitset::FixedBitSet;

use crate::api::affinity::{Taint, TaintEffect};
use crate::api::node::NodeConditionKind;
use crate::api::pod_status::Truth;
use crate::api::{Kind, KubeEvent, Node, Pod, Text};
use crate::client::outbox::Reply;
use crate::client::work_queue::BASE_DELAY;
use crate::client::{Controller, Keys, Outcome, Plan, Step, SyncContext, Watches};
use crate::engine::Time;
use crate::store::{Change, Id, ObjectId, Op, Patch, View, Write};

use pass::Pass;

use health::{Health, Verdict};
use well::Wells;
use zones::{Seen, ZoneKey, Zones};

/// Flags of the controller manager, with upstream's names and defaults
/// (`pkg/controller/nodelifecycle/config/v1alpha1/defaults.go`).
#[derive(Clone, Debug, PartialEq)]
pub struct Flags {
    /// `--node-monitor-period`.
    pub monitor_period: Duration,
    /// `--node-monitor-grace-period`: 50 s (40 s before 1.32).
    pub grace_period: Duration,
    /// `--node-startup-grace-period`.
    pub startup_grace_period: Duration,
    /// `--node-eviction-rate`, nodes per second.
    pub eviction_rate: f64,
    /// `--secondary-node-eviction-rate`, nodes per second.
    pub secondary_eviction_rate: f64,
    /// `--large-cluster-size-threshold`, nodes.
    pub large_cluster: usize,
    /// `--unhealthy-zone-threshold`, share of nodes.
    pub unhealthy_zone: f64,
}

impl Default for Flags {
    fn default() -> Self {
        Flags {
            monitor_period: Duration::from_secs(5),
            grace_period: Duration::from_secs(50),
            startup_grace_period: Duration::from_secs(60),
            eviction_rate: 0.1,
            secondary_eviction_rate: 0.01,
            large_cluster: 50,
            unhealthy_zone: 0.55,
        }
    }
}

/// What the controller works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// `doNodeProcessingPassWorker`: NoSchedule taints and labels of one node.
    Node(Id<Node>),
    /// `processPod`: a pod that was bound to a node that is already lost.
    Pod(Id<Pod>),
    /// `monitorNodeHealth`, every monitor period.
    Monitor,
    /// `doNoExecuteTaintingPass`, every 100 ms while nodes wait for a taint.
    Tainter,
}

/// `scheduler.NodeEvictionPeriod`.
const TAINT_PERIOD: Duration = Duration::from_millis(100);
/// Taint of a node that said it is not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// Taint of a node that says nothing.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// Label of nodes that do not count in their zone (`LabelNodeDisruptionExclusion`).
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";

/// The controller.
#[derive(Debug, Default)]
pub struct NodeLifecycleController {
    flags: Flags,
    health: Vec<Option<Health>>,
    known: BTreeMap<Id<Node>, (Text, crate::api::Uid)>,
    zones: Zones,
    /// Nodes that are not ready, by the changes that were told: while there are none, pods that come
    /// to nodes need no look.
    unready: BTreeSet<Id<Node>>,
    /// Nodes whose pods could not all be marked.
    retry: BTreeSet<Id<Node>>,
    /// What the pass that is under way saw.
    looked: Option<Looked>,
    /// Nodes that were found well.
    wells: Wells,
    /// Nodes whose labels and NoSchedule taints were as they should be when they changed last.
    mirrored: FixedBitSet,
}

/// What one monitor pass saw, for its end.
#[derive(Debug)]
struct Looked {
    zones: BTreeMap<ZoneKey, Seen>,
    /// Nodes that had a NoExecute taint of ours when the pass began.
    tainted: BTreeSet<Id<Node>>,
}

impl NodeLifecycleController {
    /// A controller with these flags.
    pub fn new(flags: Flags) -> Self {
        let zones = Zones::new(&flags);
        NodeLifecycleController {
            flags,
            zones,
            ..Default::default()
        }
    }

    fn health(&mut self, node: Id<Node>) -> &mut Option<Health> {
        if self.health.len() <= node.index() {
            self.health.resize_with(node.index() + 1, || None);
        }
        &mut self.health[node.index()]
    }

    /// `monitorNodeHealth`.
    fn monitor(&mut self, cx: &SyncContext<'_>) -> Plan {
        let mut plan = Plan::none();
        plan.requeue(self.flags.monitor_period);
        let mut pass = Pass::default();
        let mut tainted = BTreeSet::new();
        let due = self.wells.begin(cx, self.flags.grace_period);
        debug_assert!(self.others_are_well(&due, cx), "a node was left alone");
        let mut others = Vec::new();
        for id in due {
            match cx.view.nodes().get(id) {
                None => self.wells.gone(id),
                Some(node) if self.is_well(id, node, cx) => {}
                Some(node) => others.push((id, node)),
            }
        }
        self.classify(cx.view, &others, &mut plan);
        others.iter().for_each(|(id, _)| self.wake(*id));
        for (zone, nodes) in self.wells.zones() {
            pass.count(zone, Some(Truth::True), *nodes);
        }
        for (id, node) in others {
            let zone = ZoneKey::of(node);
            self.look_at(id, node, &zone, cx, &mut pass);
            self.note_well(id, node, &zone);
            if is_tainted(node) {
                tainted.insert(id);
            }
        }
        self.looked = Some(Looked {
            zones: std::mem::take(&mut pass.zones),
            tainted,
        });
        pass.into_plan(&mut plan);
        plan
    }

    /// The end of `monitorNodeHealth`, after every node was written and every pod marked: upstream
    /// decides about zones then, so that when everything is lost at once each zone may already have
    /// got its first taint. Entering master disruption takes back the taints that nodes had when
    /// the pass began, and no later ones.
    fn handle_disruption(&mut self, cx: &SyncContext<'_>) -> Plan {
        let mut plan = Plan::none();
        let Some(looked) = self.looked.take() else {
            return plan;
        };
        let exit = self.zones.handle_disruption(&looked.zones, cx.now);
        let mut taints = Vec::new();
        if exit.entered_master_disruption {
            for (id, node) in cx.view.nodes().iter() {
                let zone = ZoneKey::of(node);
                if looked.tainted.contains(&id) {
                    self.mark_reachable(id, node, &zone, &mut taints);
                }
                self.zones.forget(&zone, id);
            }
        }
        if exit.left_master_disruption {
            for health in self.health.iter_mut().flatten() {
                health.probed = cx.now;
                health.transition = cx.now;
            }
            self.wells.all_seen(cx.now);
        }
        if !taints.is_empty() {
            let rule = "no node answers at all: evictions stop";
            plan.steps.push(Step::Parallel {
                writes: taints,
                rule,
            });
        }
        plan
    }

    /// `classifyNodes`: new and removed nodes, new zones. New are only some of those that are not
    /// known to be well.
    fn classify(&mut self, view: &View, others: &[(Id<Node>, &Arc<Node>)], plan: &mut Plan) {
        for &(id, node) in others {
            let well = self.wells.get(id);
            if well.is_some_and(|well| well.row.meta.labels.same(&node.meta.labels)) {
                continue;
            }
            self.zones.ensure(&ZoneKey::of(node), &self.flags);
            if self.known.contains_key(&id) {
                continue;
            }
            self.known
                .insert(id, (node.meta.name.clone(), node.meta.uid));
            let message = format!("Registered Node {} in Controller", node.meta.name);
            plan.event(node_event(
                &node.meta.name,
                node.meta.uid,
                "RegisteredNode",
                format!("Node {} event: {message}", node.meta.name),
            ));
            self.zones.forget(&ZoneKey::of(node), id);
        }
        if self.known.len() == view.nodes().len() {
            return;
        }
        let gone: Vec<_> = self
            .known
            .keys()
            .filter(|id| view.nodes().get(**id).is_none())
            .copied()
            .collect();
        for id in gone {
            if let Some((name, uid)) = self.known.remove(&id) {
                let message = format!("Node {name} event: Removing Node {name} from Controller");
                plan.event(node_event(&name, uid, "RemovingNode", message));
            }
            self.wells.gone(id);
            *self.health(id) = None;
        }
    }

    /// One node of `monitorNodeHealth`.
    fn look_at(
        &mut self,
        id: Id<Node>,
        node: &Node,
        zone: &ZoneKey,
        cx: &SyncContext<'_>,
        pass: &mut Pass,
    ) {
        let flags = self.flags.clone();
        let verdict = health::try_update(self.health(id), node, cx, &flags);
        let current = verdict.current;
        if !node.meta.labels.contains(EXCLUDED) {
            pass.count(zone, current, 1);
        }
        if let Some(conditions) = &verdict.write {
            let patch = Patch::NodeConditions(conditions.clone());
            pass.nodes.push(Write::Patch {
                object: id.into(),
                uid: Some(node.meta.uid),
                patch,
            });
        }
        let Some(current) = current else { return };
        self.taint_based_eviction((id, node), zone, current, &mut pass.taints);
        let turned = current != Truth::True && verdict.observed == Truth::True;
        if turned {
            let text = format!("Node {} status is now: NodeNotReady", node.meta.name);
            pass.events.push(node_event(
                &node.meta.name,
                node.meta.uid,
                "NodeNotReady",
                text,
            ));
        }
        if turned || (self.retry.contains(&id) && verdict.observed != Truth::True) {
            pass.mark_pods_not_ready(node, cx);
            self.retry.insert(id);
        }
        if pass_done(&verdict, current) {
            self.retry.remove(&id);
        }
    }

    /// `processTaintBaseEviction`.
    fn taint_based_eviction(
        &mut self,
        (id, node): (Id<Node>, &Node),
        zone: &ZoneKey,
        current: Truth,
        writes: &mut Vec<Write>,
    ) {
        let has = |key| has_taint(node, key, TaintEffect::NoExecute);
        let (wanted, opposite) = match current {
            Truth::False => (NOT_READY, UNREACHABLE),
            Truth::Unknown => (UNREACHABLE, NOT_READY),
            Truth::True => {
                self.mark_reachable(id, node, zone, writes);
                return;
            }
        };
        if has(opposite) {
            writes.push(swap_taint(id, node, wanted, opposite));
        } else {
            if !has(wanted) {
                self.zones.forget(zone, id);
            }
            self.zones.queue(zone, id);
        }
    }

    /// `markNodeAsReachable`.
    fn mark_reachable(
        &mut self,
        id: Id<Node>,
        node: &Node,
        zone: &ZoneKey,
        writes: &mut Vec<Write>,
    ) {
        let remove: Vec<Taint> = [UNREACHABLE, NOT_READY]
            .into_iter()
            .filter(|key| has_taint(node, key, TaintEffect::NoExecute))
            .map(|key| taint(key, TaintEffect::NoExecute))
            .collect();
        if !remove.is_empty() {
            let patch = Patch::NodeTaints {
                add: Vec::new(),
                remove,
            };
            writes.push(Write::Patch {
                object: id.into(),
                uid: Some(node.meta.uid),
                patch,
            });
        }
        self.zones.forget(zone, id);
    }

    /// `doNoExecuteTaintingPass`.
    fn no_execute_pass(&mut self, cx: &SyncContext<'_>) -> Plan {
        let mut plan = Plan::none();
        let mut writes = Vec::new();
        self.zones.take_due(cx.now, |id| {
            let Some(node) = cx.view.nodes().get(id) else {
                return true;
            };
            let Some(ready) = node.condition(&NodeConditionKind::Ready) else {
                return false;
            };
            match ready.status {
                Truth::False => writes.push(swap_taint(id, node, NOT_READY, UNREACHABLE)),
                Truth::Unknown => writes.push(swap_taint(id, node, UNREACHABLE, NOT_READY)),
                Truth::True => {}
            }
            true
        });
        for write in writes {
            plan.write(
                write,
                "lost node gets its NoExecute taint (eviction rate of the zone)",
            );
        }
        if self.zones.waiting() {
            plan.requeue(TAINT_PERIOD);
        }
        plan
    }

    /// `processPod`.
    fn pod(&self, id: Id<Pod>, cx: &SyncContext<'_>) -> Plan {
        let mut plan = Plan::none();
        let Some(pod) = cx.view.pods().get(id) else {
            return plan;
        };
        let Some(name) = &pod.node_name else {
            return plan;
        };
        let Some((node_id, node)) = cx.view.nodes().named(&Text::default(), name) else {
            return plan;
        };
        let known = self
            .health
            .get(node_id.index())
            .is_some_and(Option::is_some);
        if known && unready(node) {
            let mut pass = Pass::default();
            pass.mark_pod(id, pod, cx.now);
            pass.into_plan(&mut plan);
        }
        plan
    }
}

/// Whether a node says, or it is said of it, that it is not ready.
fn unready(node: &Node) -> bool {
    node.condition(&NodeConditionKind::Ready).is_some() && !node.ready()
}

/// Once the pods were marked the node needs no retry; a failed write puts it back.
fn pass_done(verdict: &Verdict, current: Truth) -> bool {
    current == Truth::True || verdict.observed != Truth::True
}

fn node_event(name: &Text, uid: crate::api::Uid, reason: &str, message: String) -> KubeEvent {
    KubeEvent {
        kind: Kind::Node,
        namespace: Text::default(),
        name: name.clone(),
        uid,
        reason: reason.into(),
        message: message.into(),
        warning: false,
        source: "node-controller".into(),
    }
}

fn taint(key: &str, effect: TaintEffect) -> Taint {
    Taint {
        key: key.into(),
        value: Text::default(),
        effect,
        added: None,
    }
}

fn has_taint(node: &Node, key: &str, effect: TaintEffect) -> bool {
    node.taints
        .iter()
        .any(|t| t.key == key && t.effect == effect)
}

/// Whether a node has a NoExecute taint of this controller.
fn is_tainted(node: &Node) -> bool {
    [UNREACHABLE, NOT_READY]
        .iter()
        .any(|key| has_taint(node, key, TaintEffect::NoExecute))
}

/// `SwapNodeControllerTaint`: adds one NoExecute taint, removes its opposite.
fn swap_taint(id: Id<Node>, node: &Node, add: &str, remove: &str) -> Write {
    Write::Patch {
        object: id.into(),
        uid: Some(node.meta.uid),
        patch: Patch::NodeTaints {
            add: vec![taint(add, TaintEffect::NoExecute)],
            remove: vec![taint(remove, TaintEffect::NoExecute)],
        },
    }
}

impl Controller for NodeLifecycleController {
    type Key = Key;
    const NAME: &'static str = "node-lifecycle-controller";
    const WORKERS: usize = 8;
    // Upstream's looks come by the clock, whatever became of the one before: a failing API server
    // must not make them rare.
    const BACK_OFF: (Duration, Duration) = (BASE_DELAY, Duration::from_secs(5));
    const WATCHES: Watches = Watches::kind(Kind::Node).and(Watches::MOVED_PODS);

    fn keys(&mut self, change: &Change, view: &View, _now: Time, keys: &mut Keys<Key>) {
        match change.kind() {
            Kind::Node => {
                if let Some(id) = change.object.and_then(ObjectId::typed::<Node>) {
                    self.wells.changed(id);
                    let row = change.rows::<Node>().and_then(|(_, new)| new);
                    match change.op != Op::Delete && row.is_some_and(unready) {
                        true => self.unready.insert(id),
                        false => self.unready.remove(&id),
                    };
                    if change.op != Op::Delete && self.has_to_mirror(id, change, view) {
                        keys.add(Key::Node(id));
                    }
                    if self.zones.waiting() {
                        keys.add(Key::Tainter);
                    }
                }
            }
            Kind::Pod => {
                let Some((old, Some(new))) = change.rows::<Pod>() else {
                    return;
                };
                let moved =
                    new.node_name.is_some() && old.is_none_or(|old| old.node_name != new.node_name);
                // While every node is ready nothing is said about a pod that comes to one; the look at
                // the health of a node that ceases to be sees to all of its pods.
                if moved
                    && !self.unready.is_empty()
                    && change.op != Op::Delete
                    && let Some(id) = change.object.and_then(ObjectId::typed::<Pod>)
                {
                    keys.add(Key::Pod(id));
                }
            }
            _ => {}
        }
    }

    fn sync(&mut self, key: Key, cx: &SyncContext<'_>) -> Plan {
        match key {
            Key::Monitor => self.monitor(cx),
            Key::Tainter => self.no_execute_pass(cx),
            Key::Node(id) => mirror::no_schedule_pass(id, cx.view),
            Key::Pod(id) => self.pod(id, cx),
        }
    }

    fn on_reply(
        &mut self,
        key: Key,
        write: &Write,
        reply: &Reply,
        cx: &SyncContext<'_>,
        _events: &mut Vec<KubeEvent>,
    ) {
        let Write::Patch { object, .. } = write else {
            return;
        };
        if reply.is_ok() || matches!(reply, Err(crate::store::ApiError::NotFound(_))) {
            return;
        }
        // A pod that could not be marked, a node that could not be tainted: once more next time.
        if let (Key::Monitor, Some(pod)) = (key, object.typed::<Pod>())
            && let Some(name) = cx.view.pods().get(pod).and_then(|p| p.node_name.as_ref())
            && let Some((node, _)) = cx.view.nodes().named(&Text::default(), name)
        {
            self.retry.insert(node);
        }
        if let (Key::Tainter, Some(node)) = (key, object.typed::<Node>())
            && let Some(row) = cx.view.nodes().get(node)
        {
            let zone = ZoneKey::of(row);
            self.zones.forget(&zone, node);
            self.zones.queue(&zone, node);
        }
    }

    fn finish(&mut self, key: Key, _outcome: &Outcome, cx: &SyncContext<'_>) -> Plan {
        match key {
            Key::Monitor => self.handle_disruption(cx),
            _ => Plan::none(),
        }
    }

    fn resync(&mut self, view: &View, _now: Time, keys: &mut Keys<Key>) {
        self.unready.clear();
        for (id, node) in view.nodes().iter() {
            if unready(node) {
                self.unready.insert(id);
            }
            self.wells.changed(id);
            keys.add(Key::Node(id));
        }
        keys.add(Key::Monitor);
    }

    fn restart(&mut self) {
        *self = NodeLifecycleController::new(self.flags.clone());
    }
}

#[cfg(test)]
mod tests;
