//! Pods counted by class: of equal pods only their number on each node matters to others.

use std::ops::Deref;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{Cache, ClassKey, Move, NodeIx};
use crate::api::{Labels, Text};
use crate::sched::plugin::PodEntry;
use crate::sched::template::Template;

/// How many pods of a class are on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassCount {
    /// The node.
    pub node: NodeIx,
    /// All pods.
    pub total: u32,
    /// Pods that are not being deleted.
    pub live: u32,
}

/// What pods of a class have in common.
#[derive(Debug)]
pub struct Kin {
    /// Tells classes apart, also those that are gone.
    pub serial: u64,
    /// Template.
    pub template: Arc<Template>,
    /// Namespace.
    pub namespace: Text,
    /// Labels.
    pub labels: Labels,
}

/// Pods that scheduling cannot tell apart: one template, one namespace, one set of labels.
#[derive(Debug)]
pub struct Class {
    /// What they have in common.
    pub kin: Arc<Kin>,
    /// Where they are, in no particular order.
    pub nodes: Vec<ClassCount>,
    /// The place of each node in `nodes`.
    places: FxHashMap<u32, u32>,
}

impl Deref for Class {
    type Target = Kin;

    fn deref(&self) -> &Kin {
        &self.kin
    }
}

impl Class {
    /// The class of a pod, without any pod.
    pub(super) fn new(serial: u64, entry: &PodEntry) -> Class {
        let meta = &entry.pod.meta;
        let kin = Kin {
            serial,
            template: entry.template.clone(),
            namespace: meta.namespace.clone(),
            labels: meta.labels.clone(),
        };
        Class {
            kin: Arc::new(kin),
            nodes: Vec::new(),
            places: FxHashMap::default(),
        }
    }

    /// Adds to the numbers of pods on a node.
    pub(super) fn count(&mut self, node: NodeIx, total: i64, live: i64) {
        let number = |at: usize| u32::try_from(at).expect("fewer than 2^32 nodes");
        let next = self.nodes.len();
        let at = *self.places.entry(number(node)).or_insert(number(next)) as usize;
        if at == next {
            self.nodes.push(ClassCount {
                node,
                total: 0,
                live: 0,
            });
        }
        let count = &mut self.nodes[at];
        let sum = |n: u32, by: i64| u32::try_from(i64::from(n) + by).expect("counts agree");
        count.total = sum(count.total, total);
        count.live = sum(count.live, live);
        if count.total == 0 {
            self.nodes.swap_remove(at);
            self.places.remove(&number(node));
            if let Some(moved) = self.nodes.get(at) {
                self.places.insert(number(moved.node), number(at));
            }
        }
    }
}

impl Cache {
    /// The number of a pod's class, which is there from now on.
    pub(super) fn class(&mut self, entry: &PodEntry) -> usize {
        let meta = &entry.pod.meta;
        let key: ClassKey = (
            Arc::as_ptr(&entry.template) as usize,
            meta.namespace.clone(),
            meta.labels.clone(),
        );
        if let Some(number) = self.class_numbers.get(&key) {
            return *number;
        }
        self.serial += 1;
        let class = Class::new(self.serial, entry);
        self.selecting_namespaces += usize::from(entry.template.selects_namespaces());
        let number = self.free_classes.pop().unwrap_or_else(|| {
            self.classes.push(None);
            self.classes.len() - 1
        });
        let namespace = self.by_namespace.entry(class.namespace.clone());
        namespace.or_default().insert(number);
        if class.template.has_affinity() {
            self.with_affinity.insert(number);
        }
        self.classes[number] = Some(class);
        self.class_numbers.insert(key, number);
        number
    }

    /// So many more pods of a class are on a node.
    pub(super) fn count(&mut self, number: usize, node: NodeIx, total: i64, live: i64) {
        let class = self.classes[number].as_mut().expect("a class in use");
        class.count(node, total, live);
        self.moves.push(|| Move {
            kin: class.kin.clone(),
            node,
            total: i32::try_from(total).expect("one pod"),
            live: i32::try_from(live).expect("one pod"),
        });
        if class.nodes.is_empty() {
            self.drop_class(number);
        }
    }

    fn drop_class(&mut self, number: usize) {
        let Some(class) = self.classes[number].take() else {
            return;
        };
        let key = (
            Arc::as_ptr(&class.template) as usize,
            class.namespace.clone(),
            class.labels.clone(),
        );
        self.selecting_namespaces -= usize::from(class.template.selects_namespaces());
        self.class_numbers.remove(&key);
        self.with_affinity.remove(&number);
        if let Some(numbers) = self.by_namespace.get_mut(&class.namespace) {
            numbers.remove(&number);
        }
        self.free_classes.push(number);
    }
}
