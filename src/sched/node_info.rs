//! One node with everything that the scheduler sums up about it.

use std::sync::Arc;

use smallvec::SmallVec;

use super::cache::{Interned, NodeIx};
use super::plugin::PodEntry;
use super::plugins::gpu::Gpus;
use super::template::HostPort;
use crate::api::{Node, Text};

/// Amounts of the resources that have a field of their own, and of the others by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// CPU in milli-cpu.
    pub cpu: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// `ephemeral-storage` in bytes.
    pub ephemeral: i64,
    scalars: Vec<i64>,
}

impl Amounts {
    /// The amount of a scalar resource by its number.
    pub fn scalar(&self, number: usize) -> i64 {
        self.scalars.get(number).copied().unwrap_or(0)
    }

    fn add_scalar(&mut self, number: usize, amount: i64) {
        if number >= self.scalars.len() {
            self.scalars.resize(number + 1, 0);
        }
        self.scalars[number] = self.scalars[number].wrapping_add(amount);
    }
}

/// A node and the sums over its pods (`framework.NodeInfo`). The amounts that are compared after every
/// move of a pod, free ones and taken ones, stand in its first two lines of the processor's cache.
#[derive(Clone, Debug)]
#[repr(C, align(128))]
pub struct NodeInfo {
    /// Sum of requests.
    pub requested: Amounts,
    /// Sum of CPU requests with defaults, in milli-cpu.
    pub non_zero_cpu: i64,
    /// Sum of memory requests with defaults, in bytes.
    pub non_zero_memory: i64,
    /// Allocatable amounts.
    pub allocatable: Amounts,
    /// Allocatable pod slots.
    pub allowed_pods: i64,
    /// Its place in the cache.
    pub ix: NodeIx,
    /// Its name.
    pub name: Text,
    /// The row; `None` when pods are bound to a node that does not exist (any more).
    pub node: Option<Arc<Node>>,
    /// Cordoned.
    pub unschedulable: bool,
    /// Whether it has any taints.
    pub tainted: bool,
    /// Pods on it, assumed ones among them. Those of a node with few stand beside it.
    pub pods: SmallVec<[PodEntry; 2]>,
    /// Host ports in use.
    pub ports: Vec<HostPort>,
    /// Images on it by number, with their sizes in bytes, sorted.
    pub images: Vec<(usize, i64)>,
    /// Its GPUs.
    pub gpus: Gpus,
}

const _: () = assert!(std::mem::offset_of!(NodeInfo, name) == 128);

impl NodeInfo {
    /// An empty place for a node of this name.
    pub fn new(ix: NodeIx, name: Text) -> NodeInfo {
        NodeInfo {
            requested: Amounts::default(),
            non_zero_cpu: 0,
            non_zero_memory: 0,
            allocatable: Amounts::default(),
            allowed_pods: 0,
            ix,
            name,
            node: None,
            unschedulable: false,
            tainted: false,
            pods: SmallVec::new(),
            ports: Vec::new(),
            images: Vec::new(),
            gpus: Gpus::default(),
        }
    }

    /// The row. Only nodes that exist are ever handed to plugins.
    pub fn row(&self) -> &Node {
        self.node
            .as_ref()
            .expect("plugins only see nodes that exist")
    }

    /// Puts a row in place (`NodeInfo.SetNode`).
    pub fn set_node(&mut self, node: &Arc<Node>, interned: &mut Interned) {
        let from = &node.status.allocatable;
        let mut allocatable = Amounts {
            cpu: from.cpu_milli,
            memory: from.memory,
            ephemeral: from.ephemeral,
            scalars: Vec::new(),
        };
        for (name, amount) in &from.extended {
            allocatable.add_scalar(interned.scalar(name), *amount);
        }
        self.allocatable = allocatable;
        self.allowed_pods = from.pods;
        self.unschedulable = node.unschedulable;
        self.tainted = !node.taints.is_empty();
        let mut gpus = Gpus::of(node, interned);
        for pod in &mut self.pods {
            if pod.template.gpu.count > 0 {
                pod.devices = gpus.take(&pod.template.gpu, pod.devices);
            }
        }
        self.gpus = gpus;
        self.node = Some(node.clone());
    }

    /// Adds a pod and its sums.
    pub fn add_pod(&mut self, mut entry: PodEntry) {
        if entry.template.gpu.count > 0 {
            entry.devices = self.gpus.take(&entry.template.gpu, entry.devices);
        }
        self.count(&entry, 1);
        self.hold_ports(&entry.template.ports);
        self.pods.push(entry);
    }

    /// Marks host ports as used; whether any was free. They are a set, as in `HostPortInfo`: of two
    /// pods that were given the same port, whoever leaves first takes the mark away, until the
    /// other one's row changes.
    pub fn hold_ports(&mut self, ports: &[HostPort]) -> bool {
        let before = self.ports.len();
        for port in ports {
            if !self.ports.contains(port) {
                self.ports.push(port.clone());
            }
        }
        self.ports.len() > before
    }

    /// Takes a pod and its sums away.
    pub fn remove_pod(&mut self, id: u32) -> Option<PodEntry> {
        let at = self.pods.iter().position(|p| p.id == id)?;
        let entry = self.pods.swap_remove(at);
        if entry.template.gpu.count > 0 {
            self.gpus.give_back(&entry.template.gpu, entry.devices);
        }
        self.count(&entry, -1);
        for port in &entry.template.ports {
            if let Some(at) = self.ports.iter().position(|p| p == port) {
                self.ports.swap_remove(at);
            }
        }
        Some(entry)
    }

    fn count(&mut self, entry: &PodEntry, sign: i64) {
        // Absurd amounts overflow as Go's integers do.
        let add = |sum: &mut i64, amount: i64| *sum = sum.wrapping_add(sign.wrapping_mul(amount));
        let template = &entry.template;
        add(&mut self.requested.cpu, template.cpu);
        add(&mut self.requested.memory, template.memory);
        add(&mut self.requested.ephemeral, template.ephemeral);
        for (number, amount) in &template.scalars {
            self.requested
                .add_scalar(*number, sign.wrapping_mul(*amount));
        }
        add(&mut self.non_zero_cpu, template.non_zero_cpu);
        add(&mut self.non_zero_memory, template.non_zero_memory);
    }
}
