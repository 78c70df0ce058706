//! Pods: one node each, within its node's capacity, and never back from the dead.

use std::collections::BTreeMap;

use crate::api::pod_status::Phase;
use crate::api::{Pod, Text};
use crate::cluster::Cluster;
use crate::sched::template::pod_requests;
use crate::store::{Change, Op, Origin, View};

/// Rules and what broke them.
pub type Found = Vec<(&'static str, String)>;

/// Judges changes of pods.
#[derive(Debug, Default)]
pub struct Pods {
    /// Requests of pods that the scheduler put there and that have not ended, by node: milli-cpu,
    /// bytes of memory, number.
    used: BTreeMap<Text, [i64; 3]>,
    /// What each pod that counts takes, and where.
    counted: BTreeMap<u32, (Text, [i64; 3])>,
}

fn ended(pod: &Pod) -> bool {
    matches!(pod.status.phase, Phase::Succeeded | Phase::Failed)
}

impl Pods {
    /// Judges one change.
    pub fn judge(&mut self, change: &Change, view: &View, found: &mut Found) {
        let Some((old, new)) = change.rows::<Pod>() else {
            return;
        };
        let (Some(new), Some(object)) = (new, change.object) else {
            return;
        };
        let name = || new.meta.full_name();
        if let Some(old) = old {
            history(old, new, found);
        }
        if ended(new) || change.op == Op::Delete {
            self.leave(object.index);
            return;
        }
        let bound_now = old.is_some_and(|o| o.node_name.is_none()) && new.node_name.is_some();
        // A pod that names its node itself is the kubelet's to refuse.
        if !bound_now || change.cause.origin != Origin::Scheduler {
            return;
        }
        let node = new.node_name.clone().unwrap_or_default();
        let Some((_, row)) = view.nodes().find("", &node) else {
            found.push((
                "a pod is bound to a node that exists",
                format!("{} to {node}", name()),
            ));
            return;
        };
        let wants = pod_requests(&new.spec);
        let wants = [wants.cpu_milli, wants.memory, 1];
        self.counted.insert(object.index, (node.clone(), wants));
        let used = self.used.entry(node.clone()).or_default();
        let has = &row.status.allocatable;
        let has = [has.cpu_milli, has.memory, has.pods];
        for (what, ((used, wants), has)) in ["cpu", "memory", "pods"]
            .iter()
            .zip(used.iter_mut().zip(wants).zip(has))
        {
            *used += wants;
            if *used > has && wants > 0 {
                let what = format!("{node}: {what} {used} of {has} with {}", name());
                found.push(("no node is over its capacity", what));
            }
        }
    }

    fn leave(&mut self, pod: u32) {
        let Some((node, wants)) = self.counted.remove(&pod) else {
            return;
        };
        let used = self.used.entry(node).or_default();
        for (used, wants) in used.iter_mut().zip(wants) {
            *used -= wants;
        }
    }
}

/// What a pod may not take back.
fn history(old: &Pod, new: &Pod, found: &mut Found) {
    let name = new.meta.full_name();
    if old.node_name.is_some() && old.node_name != new.node_name {
        let what = format!("{name}: {:?}, then {:?}", old.node_name, new.node_name);
        found.push(("no pod is on two nodes", what));
    }
    if ended(old) && old.status.phase != new.status.phase {
        let what = format!(
            "{name}: {:?}, then {:?}",
            old.status.phase, new.status.phase
        );
        found.push(("a pod that ended stays ended", what));
    }
    if old.meta.deleting() && !new.meta.deleting() {
        found.push(("deletion is not taken back", name.clone()));
    }
    if old.meta.uid != new.meta.uid {
        found.push(("an object keeps its uid", name.clone()));
    }
    for (before, after) in old.status.containers.iter().zip(&new.status.containers) {
        if after.name == before.name && after.restarts < before.restarts {
            let what = format!(
                "{name}/{}: {} then {}",
                after.name, before.restarts, after.restarts
            );
            found.push(("restarts are not taken back", what));
        }
    }
}

/// The ground truth: each pod's containers run on one machine, the one it is bound to.
pub fn one_place(world: &Cluster, found: &mut Found) {
    let mut homes: BTreeMap<u32, &Text> = BTreeMap::new();
    for machine in world.machines.iter().flatten() {
        for container in machine.kubelet.running() {
            let pod = container.pod.0;
            let before = homes.insert(pod, &machine.name);
            if let Some(before) = before.filter(|b| **b != machine.name) {
                let what = format!("pod {pod} runs on {before} and on {}", machine.name);
                found.push(("no pod is on two nodes", what));
            }
            let bound = world.api.store.view().pods().get(container.pod);
            let bound = bound.and_then(|row| row.node_name.as_ref());
            if let Some(bound) = bound.filter(|b| **b != machine.name) {
                let what = format!("pod {pod} is bound to {bound}, runs on {}", machine.name);
                found.push(("no pod is on two nodes", what));
            }
        }
    }
}
