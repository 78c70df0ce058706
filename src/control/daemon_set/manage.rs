//! What has to be made and deleted on each node, apart from rollouts.
//!
//! `pkg/controller/daemon/daemon_controller.go :: manage`.

use std::sync::Arc;

use super::nodes::{ByNode, by_age};
use super::round::{Round, Wanted};
use crate::api::pod_status::Phase;
use crate::api::stateful::DaemonStrategy;
use crate::api::{DaemonSet, Node, Pod, Text};
use crate::control::history::REVISION_LABEL;
use crate::control::pods;
use crate::store::Id;

/// `util.AllowsSurge`.
fn allows_surge(set: &DaemonSet) -> bool {
    match set.strategy {
        DaemonStrategy::OnDelete => false,
        DaemonStrategy::RollingUpdate { max_surge, .. } => max_surge.scaled(1, true) > 0,
    }
}

impl<'a> Round<'a> {
    /// `manage`.
    pub(super) fn manage(&mut self, by_node: &ByNode<'a>) -> Wanted<'a> {
        let mut wanted = Wanted::default();
        for node in self.nodes.clone() {
            self.on_node(node, by_node, &mut wanted);
        }
        // getUnscheduledPodsWithoutNode: nobody else would ever delete these.
        let nodes = self.view.nodes();
        let known = |name: &Text| nodes.named(&Text::default(), name).is_some();
        for (name, pods) in by_node {
            let unbound = pods.iter().filter(|(_, pod)| pod.node_name.is_none());
            let unbound: Vec<_> = unbound.copied().collect();
            if !unbound.is_empty() && !known(name) {
                wanted.deletions.extend(unbound);
            }
        }
        wanted
    }

    /// `podsShouldBeOnNode`.
    fn on_node(&mut self, node: &'a Node, by_node: &ByNode<'a>, wanted: &mut Wanted<'a>) {
        let (run, stay) = self.judge.should_run(node);
        let pods = by_node.get(&node.meta.name);
        let none = Vec::new();
        let here = pods.unwrap_or(&none);
        if run && pods.is_none() {
            wanted.creations.push(&node.meta.name);
        } else if stay {
            let mut running = self.running(node, here, wanted);
            if !allows_surge(self.set) {
                running.sort_by(|a, b| by_age(a.1, b.1));
                wanted.deletions.extend(running.into_iter().skip(1));
            } else if running.len() > 1 {
                self.prune_surge(running, wanted);
            } else if running.is_empty() && run {
                wanted.creations.push(&node.meta.name);
            }
        } else {
            let alive = here.iter().filter(|(_, pod)| !pod.meta.deleting());
            wanted.deletions.extend(alive.copied());
        }
    }

    /// The pods that run; those that ended are deleted, failed ones not too often.
    fn running(
        &mut self,
        node: &Node,
        here: &[(Id<Pod>, &'a Arc<Pod>)],
        wanted: &mut Wanted<'a>,
    ) -> Vec<(Id<Pod>, &'a Arc<Pod>)> {
        let mut running = Vec::new();
        for (id, pod) in here.iter().filter(|(_, pod)| !pod.meta.deleting()) {
            let (namespace, name) = (&pod.meta.namespace, &pod.meta.name);
            let on = &node.meta.name;
            match pod.status.phase {
                Phase::Failed => {
                    if self.held_back(node) {
                        continue;
                    }
                    let message = format!(
                        "Found failed daemon pod {namespace}/{name} on node {on}, will try to \
                         kill it"
                    );
                    self.tell("FailedDaemonPod", message, true);
                    wanted.deletions.push((*id, pod));
                }
                Phase::Succeeded => {
                    let message = format!(
                        "Found succeeded daemon pod {namespace}/{name} on node {on}, will try to \
                         delete it"
                    );
                    self.tell("SucceededDaemonPod", message, false);
                    wanted.deletions.push((*id, pod));
                }
                _ => running.push((*id, *pod)),
            }
        }
        running
    }

    /// Of several pods on a node at most an old and a new one stay, and those only while the old
    /// one serves and the new one does not yet.
    fn prune_surge(&mut self, mut running: Vec<(Id<Pod>, &'a Arc<Pod>)>, wanted: &mut Wanted<'a>) {
        running.sort_by(|a, b| by_age(a.1, b.1));
        let (mut new, mut old) = (None, None);
        for pod in running {
            let label = pod.1.meta.labels.get(REVISION_LABEL);
            let updated = label.is_some_and(|l| *l == *self.hash);
            let oldest = if updated { &mut new } else { &mut old };
            match oldest {
                None => *oldest = Some(pod),
                Some(_) => wanted.deletions.push(pod),
            }
        }
        if let (Some(new), Some(old)) = (new, old) {
            let available = pods::available(new.1, self.set.min_ready_s, self.now);
            if !old.1.status.ready() || available {
                wanted.deletions.push(old);
            }
        }
    }
}
