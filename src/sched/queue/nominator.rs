//! Pods that preemption made room for, by the node that they were promised.

use rustc_hash::FxHashMap;

use crate::api::Text;
use crate::sched::plugin::PodEntry;

/// `backend/queue :: nominator`.
#[derive(Debug, Default)]
pub struct Nominator {
    by_node: FxHashMap<Text, Vec<PodEntry>>,
    node_of: FxHashMap<u32, Text>,
}

impl Nominator {
    /// The pods nominated to a node.
    pub fn on(&self, node: &Text) -> &[PodEntry] {
        if self.by_node.is_empty() {
            return &[];
        }
        self.by_node.get(node).map_or(&[], Vec::as_slice)
    }

    /// Whether no pod is nominated to any node.
    pub fn is_empty(&self) -> bool {
        self.by_node.is_empty()
    }

    /// The names of nodes that pods are nominated to, in no particular order.
    pub fn nodes(&self) -> impl Iterator<Item = &Text> {
        self.by_node.keys()
    }

    /// The node that a pod is nominated to.
    pub fn node_of(&self, id: u32) -> Option<&Text> {
        self.node_of.get(&id)
    }

    /// Nominates a pod, in place of an earlier nomination.
    pub fn add(&mut self, entry: PodEntry, node: &Text) {
        self.remove(entry.id);
        if node.is_empty() {
            return;
        }
        self.node_of.insert(entry.id, node.clone());
        self.by_node.entry(node.clone()).or_default().push(entry);
    }

    /// Ends a nomination.
    pub fn remove(&mut self, id: u32) {
        let Some(node) = self.node_of.remove(&id) else {
            return;
        };
        if let Some(pods) = self.by_node.get_mut(&node) {
            pods.retain(|p| p.id != id);
            if pods.is_empty() {
                self.by_node.remove(&node);
            }
        }
    }

    /// A newer row of a pod: what its status names counts, or else what was decided before.
    pub fn update(&mut self, old: Option<&Text>, entry: PodEntry) {
        let id = entry.id;
        let decided = self.node_of.get(&id).cloned();
        let named = entry.pod.status.nominated_node.clone();
        let node = match (old, named) {
            (_, Some(named)) => Some(named),
            (None, None) => decided,
            (Some(_), None) => None,
        };
        self.remove(id);
        if let Some(node) = node {
            self.add(entry, &node);
        }
    }
}
