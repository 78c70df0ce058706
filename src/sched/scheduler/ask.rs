//! What the scheduler knew when it tried a pod, for whoever asks afterwards.
//!
//! Nothing is kept unless somebody asked before ([`Scheduler::ask`]). A [`Moment`] is the scheduler's
//! view with the pods that it had assumed on their nodes, so that
//! [`explain`](crate::sched::explain::explain) on it repeats the cycle.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Scheduler;
use crate::api::{Kind, Pod, Row, Text};
use crate::engine::Time;
use crate::sched::plugin::PodEntry;
use crate::store::{Change, ObjectId, Op, View};

/// The state before one scheduling cycle.
#[derive(Clone, Debug)]
pub struct Moment {
    /// When the cycle began.
    pub at: Time,
    /// Which cycle of this pod it was, from 1.
    pub cycle: u32,
    /// The pod.
    pub pod: Arc<Pod>,
    /// What the scheduler saw, assumed pods and nominations in place.
    pub view: View,
}

/// Who was asked for, `(namespace, name)`, with the last cycle of each.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pods: BTreeMap<(Text, Text), Option<Moment>>,
}

impl Scheduler {
    /// Keeps what is known at the last cycle of each of these pods, `(namespace, name)`.
    pub fn ask(&mut self, pods: impl IntoIterator<Item = (Text, Text)>) {
        self.asked.pods = pods.into_iter().map(|pod| (pod, None)).collect();
    }

    /// The last cycle of each pod that was asked for and tried.
    pub fn moments(&self) -> impl Iterator<Item = &Moment> {
        self.asked.pods.values().flatten()
    }

    /// Notes the state before a cycle for `entry`, when somebody asked.
    pub(super) fn remember(&mut self, entry: &PodEntry, view: &View, now: Time) {
        if self.asked.pods.is_empty() {
            return;
        }
        let meta = &entry.pod.meta;
        let key = (meta.namespace.clone(), meta.name.clone());
        let Some(before) = self.asked.pods.get(&key) else {
            return;
        };
        let cycle = before.as_ref().map_or(1, |moment| moment.cycle + 1);
        let moment = Moment {
            at: now,
            cycle,
            pod: entry.pod.clone(),
            view: self.known(view),
        };
        self.asked.pods.insert(key, Some(moment));
    }

    /// The view with what only the scheduler knows: decisions and nominations under way.
    fn known(&self, view: &View) -> View {
        let mut known = view.clone();
        for (id, pod) in view.pods().iter() {
            let assumed = self.cache.node_of(id.0).filter(|_| pod.node_name.is_none());
            let nominated = self.nominator.node_of(id.0);
            let told = pod.status.nominated_node.as_ref() == nominated;
            if assumed.is_none() && (told || pod.node_name.is_some()) {
                continue;
            }
            let mut pod = Pod::clone(pod);
            pod.node_name = assumed.cloned();
            pod.status.nominated_node = nominated.cloned();
            known.apply(&Change {
                revision: known.revision,
                time: Time::ZERO,
                object: Some(ObjectId {
                    kind: Kind::Pod,
                    index: id.0,
                }),
                op: Op::Update,
                old: None,
                new: Some(Row::Pod(Arc::new(pod))),
                event: None,
                cause: Default::default(),
                renewed: None,
            });
        }
        known
    }
}
