//! A machine: the node as hardware, with the kubelet on it and the kubelet's watch.
//!
//! The kubelet's watch is filtered to the pods of its node. It is a queue of changes on their way;
//! while the machine cannot reach the API server nothing is queued, and when it can again the
//! kubelet relists, as after a broken watch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::dispatch::Cluster;
use crate::api::{Node, Pod, Text};
use crate::engine::{Line, Time};
use crate::kubelet::{Kubelet, PodChange};
use crate::net::Place;
use crate::store::{Id, Op, View};

/// One machine of the cluster.
pub struct Machine {
    /// The Node object it registered as.
    pub node: Id<Node>,
    /// The node's name.
    pub name: Text,
    /// Where it stands in the data plane, once a container was started there.
    pub place: Option<Place>,
    /// The kubelet process.
    pub kubelet: Kubelet,
    /// Mains power.
    pub powered: bool,
    /// Whether the kubelet process runs.
    pub kubelet_up: bool,
    /// Whether packets between the kubelet and the API server get through.
    pub reachable: bool,
    /// Whether an API server serves its watch.
    pub served: bool,
    /// An orderly shutdown is under way; whether power comes back at once after it.
    pub going_down: Option<bool>,
    /// Changes on their way, with the time at which they are delivered.
    queue: Line<(Time, PodChange)>,
    /// A broken watch: relist when possible.
    stale: bool,
}

impl Machine {
    /// A machine that is up.
    pub fn new(node: Id<Node>, name: Text, kubelet: Kubelet) -> Self {
        Machine {
            node,
            name,
            place: None,
            kubelet,
            powered: true,
            kubelet_up: true,
            reachable: true,
            served: true,
            going_down: None,
            queue: Line::default(),
            stale: false,
        }
    }

    /// Whether the kubelet runs and hears the API server.
    pub fn listening(&self) -> bool {
        self.powered && self.kubelet_up && self.reachable && self.served
    }

    /// Puts a change on its way; returns whether a delivery must be scheduled for `due`.
    pub fn watch(&mut self, change: PodChange, due: Time) -> bool {
        if !self.listening() {
            self.stale = true;
            self.queue.clear();
            return false;
        }
        self.queue.push_back((due, change));
        true
    }

    /// The next change that is due.
    pub fn delivered(&mut self, now: Time) -> Option<PodChange> {
        if !self.listening() || self.queue.front().is_none_or(|(due, _)| *due > now) {
            return None;
        }
        self.queue.pop_front().map(|(_, change)| change)
    }

    /// The pods that the API server lists for this node, which the kubelet is to know from now on.
    pub fn list(&mut self, view: &View, name: &str) -> Vec<(Id<Pod>, Arc<Pod>)> {
        self.stale = false;
        self.queue.clear();
        let pods = view.pods().on_node(name);
        pods.map(|(id, row)| (id, row.clone())).collect()
    }

    /// The watch broke (partition, stopped kubelet, power).
    pub fn cut(&mut self) {
        self.stale = true;
        self.queue.clear();
    }

    /// What a relist tells a kubelet that was cut off: every pod of the node as it is now, and a
    /// deletion for each pod that it knew and that is gone.
    pub fn relist(&mut self, view: &View, name: &str) -> Vec<PodChange> {
        if !self.stale || !self.listening() {
            return Vec::new();
        }
        let pods = self.list(view, name);
        let before: BTreeMap<_, _> = self.kubelet.configured().collect();
        let listed: BTreeSet<_> = pods.iter().map(|(id, _)| *id).collect();
        let change = |pod: Id<Pod>, op: Op, row: &Arc<Pod>| PodChange {
            revision: view.revision,
            pod,
            op,
            row: row.clone(),
        };
        let gone = before
            .iter()
            .filter(|(id, _)| !listed.contains(id))
            .map(|(id, row)| change(*id, Op::Delete, row));
        let present = pods.iter().map(|(id, row)| {
            let op = if before.contains_key(id) {
                Op::Update
            } else {
                Op::Create
            };
            change(*id, op, row)
        });
        gone.chain(present).collect()
    }
}

/// The machine of each pod that has one, by number.
#[derive(Debug, Default)]
pub struct Homes(Vec<u32>);

impl Homes {
    /// Of a pod without a machine.
    const NONE: u32 = u32::MAX;

    /// The number of a pod's machine.
    pub fn get(&self, pod: Id<Pod>) -> Option<u32> {
        let home = *self.0.get(pod.index())?;
        (home != Self::NONE).then_some(home)
    }

    /// The pod has this machine from now on, or none.
    pub fn set(&mut self, pod: Id<Pod>, home: Option<u32>) {
        let at = pod.index();
        if self.0.len() <= at {
            self.0.resize(at + 1, Self::NONE);
        }
        self.0[at] = home.unwrap_or(Self::NONE);
    }

    /// All pods leave this machine.
    pub fn leave(&mut self, machine: u32) {
        let there = self.0.iter_mut().filter(|home| **home == machine);
        there.for_each(|home| *home = Self::NONE);
    }
}

impl Cluster {
    /// The machine of a node.
    pub fn machine(&self, node: u32) -> Option<&Machine> {
        self.machines.get(node as usize)?.as_ref()
    }

    pub(super) fn machine_mut(&mut self, node: u32) -> Option<&mut Machine> {
        self.machines.get_mut(node as usize)?.as_mut()
    }

    /// The machine with this name.
    pub fn machine_named(&self, name: &str) -> Option<(u32, &Machine)> {
        let node = *self.node_ids.get(name)?;
        Some((node, self.machine(node)?))
    }

    /// Namespace and name of a pod that is there, or was when requests were sent.
    pub fn pod_name(&self, pod: u32) -> Option<(&Text, &Text)> {
        let row = self.api.store.view().pods().get(Id::new(pod));
        let there = row.map(|row| (&row.meta.namespace, &row.meta.name));
        there.or_else(|| self.data.name_of_gone(pod))
    }
}
