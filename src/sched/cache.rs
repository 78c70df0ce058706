//! What the scheduler knows about nodes and the pods on them, kept up to date change by change.
//!
//! Nodes have dense numbers ([`NodeIx`]), label values of topology keys have dense numbers per key
//! (a "domain"), and pods are counted per class: all pods of one template, namespace and label set
//! are one class, whose number of pods per node is kept. Spread and affinity then look at a few
//! classes instead of at every pod (`pkg/scheduler/backend/cache`).
//!
//! The cache knows assumed pods: bound by the scheduler's own decision, not yet seen as bound.

mod class;

mod moves;

mod names;

mod pods;

mod touched;

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;

pub use class::{Class, ClassCount, Kin};
pub use moves::{Move, Moves};
pub use names::Interned;
use pods::{PodState, Pods};
use touched::{Stamps, Touched};

use super::node_info::NodeInfo;
use super::node_tree::NodeTree;
use super::plugin::PodEntry;
use super::plugins::volume_binding::{PodVolumes, SELECTED_NODE};
use super::template::{Constraint, Template};
use crate::api::affinity::TopologySpread;
use crate::api::{Labels, Node, PersistentVolume, PersistentVolumeClaim, Pod, PodSpec, Text};

/// The place of a node in the cache.
pub type NodeIx = usize;
/// The number of a topology key.
pub type TopologyIx = usize;

/// The domain of a missing label; also the value "" of a label that is there but empty.
pub const EMPTY_DOMAIN: u32 = 0;
/// A node that does not exist stands nowhere in the order.
const NOT_IN_ORDER: u32 = u32::MAX;
/// A node that does not have the label.
pub const NO_DOMAIN: u32 = u32::MAX;

/// The domains of one topology key.
#[derive(Debug, Default)]
struct Topology {
    values: FxHashMap<Text, u32>,
    domain_of: Vec<u32>,
}

impl Topology {
    fn set(&mut self, node: NodeIx, value: Option<&Text>) {
        if node >= self.domain_of.len() {
            self.domain_of.resize(node + 1, NO_DOMAIN);
        }
        let next = u32::try_from(self.values.len()).expect("fewer than 2^32 domains");
        self.domain_of[node] = match value {
            None => NO_DOMAIN,
            Some(value) => *self.values.entry(value.clone()).or_insert(next),
        };
    }
}

type ClassKey = (usize, Text, Labels);

/// Nodes and the pods on them.
#[derive(Debug, Default)]
pub struct Cache {
    interned: Interned,
    templates: FxHashMap<usize, Arc<Template>>,
    template_limit: usize,
    nodes: Vec<NodeInfo>,
    by_name: FxHashMap<Text, NodeIx>,
    tree: NodeTree,
    order: Vec<NodeIx>,
    /// By place: where the node stands in `order`.
    in_order: Vec<u32>,
    /// Grows whenever `order` changes.
    order_stamp: u64,
    stale_order: bool,
    touched: Touched,
    /// By place.
    stamps: Vec<Stamps>,
    stamp: u64,
    /// By place: grows also when a pod there changes in a way that only preemption looks at.
    pod_stamps: Vec<u64>,
    /// Grows whenever the number of nodes or of the nodes with an image has changed.
    image_stamp: u64,
    /// Grows whenever nodes come or go, or the labels or taints of one change.
    topology_stamp: u64,
    moves: Moves,
    topologies: Vec<Topology>,
    /// Per image, the number of nodes that have it.
    images: Vec<usize>,
    pods: Pods,
    classes: Vec<Option<Class>>,
    free_classes: Vec<usize>,
    /// Classes so far.
    serial: u64,
    /// Classes with a term that selects namespaces by label.
    selecting_namespaces: usize,
    class_numbers: FxHashMap<ClassKey, usize>,
    by_namespace: FxHashMap<Text, BTreeSet<usize>>,
    with_affinity: BTreeSet<usize>,
    claims: FxHashMap<(Text, Text), u32>,
    /// Assumed volumes and claims, as of their revisions: newer rows win.
    taken_volumes: FxHashMap<Text, u64>,
    selected_nodes: FxHashMap<(Text, Text), (u64, Text)>,
}

impl Cache {
    /// Numbers for names.
    pub fn interned(&self) -> &Interned {
        &self.interned
    }

    /// The number of a topology key, with its domains worked out.
    pub fn topology(&mut self, key: &str) -> TopologyIx {
        let number = self.interned.topology(key);
        self.fill_topologies();
        number
    }

    /// The number of a scalar resource.
    pub fn scalar(&mut self, name: &str) -> usize {
        self.interned.scalar(name)
    }

    /// A spread constraint with its topology as a number.
    pub fn constraint(&mut self, constraint: &TopologySpread) -> Constraint {
        let constraint = Constraint::new(constraint, &mut self.interned);
        self.fill_topologies();
        constraint
    }

    /// What a spec means, from memory where it was seen before.
    pub fn template(&mut self, spec: &Arc<PodSpec>) -> Arc<Template> {
        let key = Arc::as_ptr(spec) as usize;
        if let Some(template) = self.templates.get(&key) {
            return template.clone();
        }
        if self.templates.len() >= self.template_limit.max(1024) {
            self.templates.retain(|_, t| Arc::strong_count(t) > 1);
            self.template_limit = self.templates.len() * 2;
        }
        let template = Arc::new(Template::new(spec, &mut self.interned));
        self.fill_topologies();
        self.templates.insert(key, template.clone());
        template
    }

    /// Whether any pod on a node has a term that selects namespaces by label, so that its meaning
    /// may change without any pod or node.
    pub fn selects_namespaces(&self) -> bool {
        self.selecting_namespaces > 0
    }

    /// A pod with its template.
    pub fn entry(&mut self, id: u32, pod: &Arc<Pod>) -> PodEntry {
        PodEntry {
            id,
            pod: pod.clone(),
            template: self.template(&pod.spec),
            devices: 0,
        }
    }

    /// Domains of topology keys that are new.
    fn fill_topologies(&mut self) {
        while self.topologies.len() < self.interned.topologies().len() {
            let key = self.interned.topologies()[self.topologies.len()].clone();
            let mut topology = Topology::default();
            topology.values.insert(Text::default(), EMPTY_DOMAIN);
            for info in &self.nodes {
                let labels = info.node.as_ref().map(|n| &n.meta.labels);
                topology.set(info.ix, labels.and_then(|l| l.get(&key)));
            }
            self.topologies.push(topology);
        }
    }

    fn set_domains(&mut self, ix: NodeIx) {
        let labels = self.nodes[ix].node.as_ref().map(|n| &n.meta.labels);
        for (number, topology) in self.topologies.iter_mut().enumerate() {
            let key = &self.interned.topologies()[number];
            topology.set(ix, labels.and_then(|l| l.get(key)));
        }
    }

    /// The domain of a node under a topology key, [`NO_DOMAIN`] when it lacks the label.
    pub fn domain(&self, topology: TopologyIx, node: NodeIx) -> u32 {
        let domains = &self.topologies[topology].domain_of;
        domains.get(node).copied().unwrap_or(NO_DOMAIN)
    }

    /// The number of domains ever seen under a topology key.
    pub fn domains(&self, topology: TopologyIx) -> usize {
        self.topologies[topology].values.len()
    }

    fn slot(&mut self, name: &Text) -> NodeIx {
        if let Some(ix) = self.by_name.get(name) {
            return *ix;
        }
        let ix = self.nodes.len();
        self.nodes.push(NodeInfo::new(ix, name.clone()));
        self.stamps.push(Stamps::default());
        self.pod_stamps.push(0);
        self.touch_row(ix);
        self.by_name.insert(name.clone(), ix);
        self.set_domains(ix);
        ix
    }

    fn touch(&mut self, ix: NodeIx) {
        self.stamp += 1;
        self.stamps[ix].node = self.stamp;
        self.pod_stamps[ix] = self.stamp;
        self.touched.push(ix, self.nodes.len());
    }

    fn touch_row(&mut self, ix: NodeIx) {
        self.touch(ix);
        self.stamps[ix].row = self.stamp;
    }

    /// A number that changes whenever the row of this node does, as far as scheduling looks at it.
    pub fn row_stamp(&self, ix: NodeIx) -> u64 {
        self.stamps[ix].row
    }

    /// A number that changes whenever anything changes that a plugin may see of this node alone:
    /// its row, as far as scheduling looks at it, and the sums over its pods.
    pub fn stamp(&self, ix: NodeIx) -> u64 {
        self.stamps[ix].node
    }

    /// As [`Cache::stamp`], and changes also when a pod on the node starts.
    pub fn pod_stamp(&self, ix: NodeIx) -> u64 {
        self.pod_stamps[ix]
    }

    /// A number that changes whenever the number of nodes changes, or of those with some image.
    pub fn image_stamp(&self) -> u64 {
        self.image_stamp
    }

    /// A number that changes whenever nodes come or go, or labels or taints of one change.
    pub fn topology_stamp(&self) -> u64 {
        self.topology_stamp
    }

    /// The pods that came and left lately.
    pub fn moves(&self) -> &Moves {
        &self.moves
    }

    /// Adds or updates a node (`cacheImpl.AddNode`, `UpdateNode`).
    pub fn set_node(&mut self, node: &Arc<Node>) {
        let ix = self.slot(&node.meta.name);
        let old = self.nodes[ix].node.clone();
        if let Some(old) = &old
            && same_for_scheduling(old, node)
        {
            self.nodes[ix].node = Some(node.clone());
            return;
        }
        let alike = old
            .as_ref()
            .is_some_and(|old| old.meta.labels == node.meta.labels && old.taints == node.taints);
        self.topology_stamp += u64::from(!alike);
        self.stale_order |= self.tree.set(ix, old.as_deref(), Some(node));
        self.nodes[ix].set_node(node, &mut self.interned);
        if old
            .as_ref()
            .is_none_or(|o| o.status.images != node.status.images)
        {
            self.image_stamp += 1;
            self.drop_images(ix);
            self.take_images(ix, node);
        }
        if old.is_none_or(|o| !o.meta.labels.same(&node.meta.labels)) {
            self.set_domains(ix);
        }
        self.touch_row(ix);
    }

    /// Removes a node; pods that are still bound to its name keep their place.
    pub fn remove_node(&mut self, name: &Text) {
        let Some(ix) = self.by_name.get(name).copied() else {
            return;
        };
        let old = self.nodes[ix].node.take();
        self.stale_order |= self.tree.set(ix, old.as_deref(), None);
        self.image_stamp += 1;
        self.topology_stamp += 1;
        self.drop_images(ix);
        self.set_domains(ix);
        self.touch_row(ix);
    }

    fn take_images(&mut self, ix: NodeIx, node: &Node) {
        let mut found: Vec<(usize, i64)> = Vec::new();
        for (names, size) in node.status.images.iter() {
            for name in names {
                let number = self.interned.image(name);
                if number >= self.images.len() {
                    self.images.resize(number + 1, 0);
                }
                match found.iter_mut().find(|(n, _)| *n == number) {
                    Some((_, known)) => *known = *size,
                    None => {
                        self.images[number] += 1;
                        found.push((number, *size));
                    }
                }
            }
        }
        found.sort_unstable();
        self.nodes[ix].images = found;
    }

    fn drop_images(&mut self, ix: NodeIx) {
        for (number, _) in std::mem::take(&mut self.nodes[ix].images) {
            self.images[number] -= 1;
        }
    }

    /// The number of nodes that have an image.
    pub fn nodes_with_image(&self, number: usize) -> usize {
        self.images.get(number).copied().unwrap_or(0)
    }

    /// Brings the list of nodes up to date; called at the start of a cycle.
    pub fn refresh(&mut self) {
        if std::mem::take(&mut self.stale_order) {
            self.order = self.tree.list();
            self.order_stamp += 1;
            self.in_order.clear();
            self.in_order.resize(self.nodes.len(), NOT_IN_ORDER);
            for (at, ix) in (0u32..).zip(&self.order) {
                self.in_order[*ix] = at;
            }
            self.image_stamp += 1;
        }
    }

    /// The nodes that exist, zones interleaved, as of the last [`Cache::refresh`].
    pub fn order(&self) -> &[NodeIx] {
        &self.order
    }

    /// A number that changes whenever [`Cache::order`] does.
    pub fn order_stamp(&self) -> u64 {
        self.order_stamp
    }

    /// Where the node of this place stands in [`Cache::order`].
    pub fn place_in_order(&self, ix: NodeIx) -> Option<usize> {
        let at = self.in_order.get(ix).copied();
        at.filter(|at| *at != NOT_IN_ORDER).map(|at| at as usize)
    }

    /// How often a node's [stamp](Cache::stamp) changed.
    pub fn touched(&self) -> u64 {
        self.touched.count()
    }

    /// The nodes whose stamps changed after the first `read` times, some of them more than once;
    /// `None` when that was too long ago.
    pub fn touched_since(&self, read: u64) -> Option<&[u32]> {
        self.touched.since(read)
    }

    /// The number of places, those of nodes that are gone among them.
    pub fn places(&self) -> usize {
        self.nodes.len()
    }

    /// A node by place.
    pub fn node(&self, ix: NodeIx) -> &NodeInfo {
        &self.nodes[ix]
    }

    /// The place of a node by name, whether or not it exists.
    pub fn place(&self, name: &Text) -> Option<NodeIx> {
        self.by_name.get(name).copied()
    }

    /// An existing node by name.
    pub fn find(&self, name: &str) -> Option<&NodeInfo> {
        let info = &self.nodes[*self.by_name.get(name)?];
        info.node.is_some().then_some(info)
    }

    /// Whether a claim is used by any pod on a node that is there (`usedPVCSet` of a snapshot).
    pub fn claim_used(&self, namespace: &Text, name: &Text) -> bool {
        let uses =
            |p: &PodEntry| p.pod.meta.namespace == *namespace && p.template.claims.contains(name);
        // Few claims are used, and most nodes are there: count first.
        self.claims.contains_key(&(namespace.clone(), name.clone()))
            && self
                .order()
                .iter()
                .any(|ix| self.node(*ix).pods.iter().any(uses))
    }

    /// Whether a volume was decided on for a claim, which the view does not show yet
    /// (`passiveAssumeCache.Get`).
    pub fn volume_taken(&self, volume: &PersistentVolume) -> bool {
        self.taken_volumes.get(&volume.meta.name) == Some(&volume.meta.revision)
    }

    /// The node that a claim's volume is to be provisioned for, decided or already written.
    pub fn selected_node<'a>(&'a self, claim: &'a PersistentVolumeClaim) -> Option<&'a Text> {
        let key = (claim.meta.namespace.clone(), claim.meta.name.clone());
        let assumed = self.selected_nodes.get(&key);
        let assumed = assumed.filter(|(revision, _)| *revision == claim.meta.revision);
        let written = || claim.meta.annotations.get(SELECTED_NODE);
        assumed.map(|(_, node)| node).or_else(written)
    }

    /// Remembers (or forgets) what was decided about volumes (`AssumePodVolumes`,
    /// `RevertAssumedPodVolumes`).
    pub fn assume_volumes(&mut self, volumes: &PodVolumes, node: Option<&Text>) {
        for (volume, _) in &volumes.bindings {
            let (name, revision) = (&volume.meta.name, volume.meta.revision);
            if node.is_some() {
                self.taken_volumes.insert(name.clone(), revision);
            } else if self.taken_volumes.get(name).is_some_and(|r| *r <= revision) {
                self.taken_volumes.remove(name);
            }
        }
        for claim in &volumes.provisions {
            let key = (claim.meta.namespace.clone(), claim.meta.name.clone());
            let revision = claim.meta.revision;
            if let Some(node) = node {
                self.selected_nodes.insert(key, (revision, node.clone()));
            } else if self
                .selected_nodes
                .get(&key)
                .is_some_and(|s| s.0 <= revision)
            {
                self.selected_nodes.remove(&key);
            }
        }
    }

    /// All classes.
    pub fn classes(&self) -> impl Iterator<Item = &Class> {
        self.classes.iter().flatten()
    }

    /// The classes of a namespace.
    pub fn classes_in(&self, namespace: &Text) -> impl Iterator<Item = &Class> {
        let numbers = self.by_namespace.get(namespace).into_iter().flatten();
        numbers.filter_map(|n| self.classes[*n].as_ref())
    }

    /// The classes whose pods have pod affinity or anti-affinity.
    pub fn classes_with_affinity(&self) -> impl Iterator<Item = &Class> {
        let numbers = self.with_affinity.iter();
        numbers.filter_map(|n| self.classes[*n].as_ref())
    }

    /// Adds a pod to a node, as assumed or as seen (`AssumePod`, `AddPod`). A pod that was assumed
    /// elsewhere moves.
    pub fn add_pod(&mut self, entry: PodEntry, node: &Text, assumed: bool) {
        let ix = self.slot(node);
        self.add_pod_at(entry, ix, assumed);
    }

    /// As [`Cache::add_pod`], by the node's place.
    pub fn add_pod_at(&mut self, mut entry: PodEntry, ix: NodeIx, assumed: bool) {
        let same_node = self.pods.get(entry.id).is_some_and(|p| p.node() == ix);
        let before = self.remove_pod(entry.id).filter(|_| same_node);
        if let (0, Some(before)) = (entry.devices, before) {
            // A newer row of a pod on its node keeps its devices.
            entry.devices = before.devices;
        }
        let live = !entry.pod.meta.deleting();
        let class = self.class(&entry);
        self.count(class, ix, 1, i64::from(live));
        for claim in &entry.template.claims {
            let key = (entry.pod.meta.namespace.clone(), claim.clone());
            *self.claims.entry(key).or_insert(0) += 1;
        }
        let state = PodState::new(ix, class, assumed, live);
        self.pods.insert(entry.id, state);
        self.nodes[ix].add_pod(entry);
        self.touch(ix);
    }

    /// Takes a pod away from its node.
    pub fn remove_pod(&mut self, id: u32) -> Option<PodEntry> {
        let state = self.pods.remove(id)?;
        self.count(state.class(), state.node(), -1, -i64::from(state.live));
        let entry = self.nodes[state.node()].remove_pod(id)?;
        self.touch(state.node());
        for claim in &entry.template.claims {
            let key = (entry.pod.meta.namespace.clone(), claim.clone());
            if let Some(users) = self.claims.get_mut(&key) {
                *users -= 1;
                if *users == 0 {
                    self.claims.remove(&key);
                }
            }
        }
        Some(entry)
    }

    /// A newer row of a pod that is on a node.
    pub fn update_pod(&mut self, entry: PodEntry, node: &Text) {
        let unchanged = self.pods.get(entry.id).is_some_and(|state| {
            let class = self.classes[state.class()].as_ref();
            self.nodes[state.node()].name == *node
                && state.live != entry.pod.meta.deleting()
                && class.is_some_and(|c| {
                    Arc::ptr_eq(&c.template, &entry.template) && c.labels == entry.pod.meta.labels
                })
        });
        if !unchanged {
            self.add_pod(entry, node, false);
            return;
        }
        if let Some(state) = self.pods.get_mut(entry.id) {
            state.assumed = false;
            let ix = state.node();
            if self.nodes[ix].hold_ports(&entry.template.ports) {
                self.touch(ix);
            }
            let pods = &mut self.nodes[ix].pods;
            if let Some(old) = pods.iter_mut().find(|p| p.id == entry.id) {
                if old.pod.status.start_time != entry.pod.status.start_time {
                    self.stamp += 1;
                    self.pod_stamps[ix] = self.stamp;
                }
                let devices = old.devices;
                *old = PodEntry { devices, ..entry };
            }
        }
    }

    /// A newer row of a pod of which nothing [concerns](super::concerns) scheduling: the old one need
    /// not be kept. Whether the pod is on a node.
    pub fn renew_pod(&mut self, id: u32, pod: &Arc<Pod>) -> bool {
        let Some(state) = self.pods.get(id) else {
            return false;
        };
        let pods = self.nodes[state.node()].pods.iter_mut();
        pods.filter(|entry| entry.id == id)
            .for_each(|entry| entry.pod = pod.clone());
        true
    }

    /// Whether a pod is assumed: decided, but not yet seen as bound.
    pub fn assumed(&self, id: u32) -> bool {
        self.pods.get(id).is_some_and(|p| p.assumed)
    }

    /// The node that a pod is on or assumed to be on.
    pub fn node_of(&self, id: u32) -> Option<&Text> {
        let state = self.pods.get(id)?;
        Some(&self.nodes[state.node()].name)
    }

    /// Whether a pod is on a node.
    pub fn has_pod(&self, id: u32) -> bool {
        self.pods.get(id).is_some()
    }
}

/// Whether two rows of a node differ in nothing that the scheduler looks at (heartbeats do).
fn same_for_scheduling(old: &Node, new: &Node) -> bool {
    old.unschedulable == new.unschedulable
        && (old.meta.labels.same(&new.meta.labels) || old.meta.labels == new.meta.labels)
        && old.taints == new.taints
        && old.status.allocatable == new.status.allocatable
        && old.status.images == new.status.images
        && old.status.declared_features == new.status.declared_features
}
