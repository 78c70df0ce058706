//! What a sync of a DaemonSet works with, and the writes that it plans.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::DaemonSetController;
use super::nodes::{self, GENERATION_LABEL, Judge, template_generation};
use crate::api::{DaemonSet, KubeEvent, Labels, Meta, Node, OwnerRef, Pod, PodSpec, Row, Text};
use crate::client::Plan;
use crate::client::back_off::{BackOff, Limits};
use crate::control::history::REVISION_LABEL;
use crate::control::owner::controller_ref;
use crate::control::pods;
use crate::engine::Time;
use crate::store::{Id, View, Write};

/// `pkg/controller/daemon/daemon_controller.go :: BurstReplicas`: pods created or deleted in one
/// sync.
const BURST_REPLICAS: usize = 250;

/// `cmd/kube-controller-manager/app/apps.go :: startDaemonSetController`: the back-off of failed
/// pods. An entry is forgotten after twice the longest wait.
const FAILED_PODS: Limits = Limits {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(15 * 60),
    expires: Duration::from_secs(30 * 60),
};

/// Back-off by set, its observed generation, and node.
pub(super) type FailedPods = BTreeMap<(Id<DaemonSet>, u32, Text), BackOff>;

/// Nodes that need a pod, and pods that have to go.
#[derive(Debug, Default)]
pub(super) struct Wanted<'a> {
    pub creations: Vec<&'a Text>,
    pub deletions: Vec<(Id<Pod>, &'a Arc<Pod>)>,
}

impl Wanted<'_> {
    /// Cuts both to what one sync may do.
    pub fn limited(mut self) -> Self {
        self.creations.truncate(BURST_REPLICAS);
        self.deletions.truncate(BURST_REPLICAS);
        self
    }

    /// Deletes the pods.
    pub fn deletion_writes(&self) -> Vec<Write> {
        let writes = self.deletions.iter();
        writes.map(|(id, pod)| pods::delete(*id, pod)).collect()
    }
}

pub(super) struct Round<'a> {
    pub key: Id<DaemonSet>,
    pub set: &'a DaemonSet,
    pub view: &'a View,
    pub nodes: Vec<&'a Node>,
    pub judge: Judge<'a>,
    pub now: Time,
    /// The label of pods of the set's revision.
    pub hash: Text,
    generation: Option<Text>,
    pub failed_pods: &'a mut FailedPods,
    pub events: Vec<KubeEvent>,
    /// When a held back pod may be deleted.
    pub again: Option<Duration>,
}

impl<'a> Round<'a> {
    pub(super) fn new(
        key: Id<DaemonSet>,
        set: &'a DaemonSet,
        hash: Text,
        failed_pods: &'a mut FailedPods,
        (view, now): (&'a View, Time),
    ) -> Self {
        let generation = template_generation(set).map(|g| Text::from(g.to_string()));
        Round {
            key,
            set,
            view,
            nodes: view.nodes().iter().map(|(_, node)| &**node).collect(),
            judge: Judge::new(set),
            now,
            hash,
            generation,
            failed_pods,
            events: Vec::new(),
            again: None,
        }
    }

    /// `util.IsPodUpdated`.
    pub(super) fn updated(&self, pod: &Pod) -> bool {
        let labels = &pod.meta.labels;
        let by_hash = !self.hash.is_empty() && labels.get(REVISION_LABEL) == Some(&self.hash);
        by_hash
            || self.generation.is_some() && labels.get(GENERATION_LABEL) == self.generation.as_ref()
    }

    pub(super) fn tell(&mut self, reason: &str, message: String, warning: bool) {
        let source = DaemonSetController::SOURCE;
        let event = pods::event(self.set, source, reason, message, warning);
        self.events.push(event);
    }

    /// Whether failed pods on this node were deleted too often lately; takes the next step if not.
    pub(super) fn held_back(&mut self, node: &Node) -> bool {
        let generation = self.set.status.observed_generation;
        let key = (self.key, generation, node.meta.name.clone());
        let back_off = self.failed_pods.entry(key).or_default();
        if back_off.since_step(self.now, FAILED_PODS) {
            let wait = back_off.wait();
            self.again = Some(self.again.map_or(wait, |again| again.min(wait)));
            return true;
        }
        back_off.step(self.now, self.now, FAILED_PODS);
        false
    }

    /// The creations of `syncNodes`: one pod for each node.
    pub(super) fn creation_writes(&self, wanted: &Wanted<'_>) -> Vec<Write> {
        if wanted.creations.is_empty() {
            return Vec::new();
        }
        let template = &self.set.template;
        let mut labels: Labels = template.labels.clone();
        if let Some(generation) = &self.generation {
            labels = labels.with(GENERATION_LABEL, generation.clone());
        }
        if !self.hash.is_empty() {
            labels = labels.with(REVISION_LABEL, self.hash.clone());
        }
        let owners: Arc<[OwnerRef]> = [controller_ref(self.set)].into();
        let base = pods::from_template(template, &self.set.meta, &owners);
        let tolerations = nodes::tolerations(&template.spec);
        let affinity = template.spec.affinity.as_ref();
        let pod = |node: &&Text| {
            let spec = PodSpec {
                affinity: Some(nodes::tied_to(affinity, node)),
                tolerations: tolerations.clone(),
                ..PodSpec::clone(&template.spec)
            };
            let meta = Meta {
                labels: labels.clone(),
                ..base.meta.clone()
            };
            let pod = Pod {
                meta,
                spec: Arc::new(spec),
                ..base.clone()
            };
            Write::Create(Row::Pod(Arc::new(pod)))
        };
        wanted.creations.iter().map(pod).collect()
    }

    /// Tells the events and asks to come again.
    pub(super) fn conclude(&mut self, plan: &mut Plan) {
        for event in self.events.drain(..) {
            plan.event(event);
        }
        if let Some(again) = self.again {
            plan.requeue(again);
        }
    }
}
