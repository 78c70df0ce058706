//! Pods that preemption made room for, by the node that they were promised.

use fixedbitset::FixedBitSet;
use rustc_hash::FxHashMap;

use crate::api::Text;
use crate::sched::cache::{Cache, NodeIx};
use crate::sched::plugin::PodEntry;

/// `backend/queue :: nominator`.
#[derive(Debug, Default)]
pub struct Nominator {
    by_node: FxHashMap<Text, Vec<PodEntry>>,
    node_of: FxHashMap<u32, Text>,
    /// Nodes whose promises changed since [`Nominator::refresh`].
    changed: Vec<Text>,
    /// The places of nodes with promises, as of then.
    promised: FixedBitSet,
    /// By place: how often promises changed.
    versions: Vec<u64>,
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

    /// Finds the places of nodes with promises; called before a cycle.
    pub fn refresh(&mut self, cache: &Cache) {
        let changed = std::mem::take(&mut self.changed);
        for name in changed {
            // A node that was never heard of keeps its promises for later.
            let Some(ix) = cache.place(&name) else {
                self.changed.push(name);
                continue;
            };
            if ix >= self.versions.len() {
                self.versions.resize(cache.places(), 0);
                self.promised.grow(cache.places());
            }
            self.versions[ix] += 1;
            self.promised.set(ix, self.by_node.contains_key(&name));
        }
    }

    /// Whether pods are nominated to the node at a place, as of the last [`Nominator::refresh`].
    #[inline]
    pub fn promised(&self, node: NodeIx) -> bool {
        self.promised.contains(node)
    }

    /// A number that changes whenever the promises of the node at a place do, as of then.
    pub fn version(&self, node: NodeIx) -> u64 {
        self.versions.get(node).copied().unwrap_or(0)
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
        self.changed.push(node.clone());
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
        self.changed.push(node);
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
