//! How much memory a node and its pods use.

use super::Cell;
use super::place::Pod;
use crate::kubelet::RuntimeEvent;
use crate::store::Id;

impl Cell {
    /// Measures and tells.
    pub(super) fn stats(&mut self, name: &str, number: u32) {
        let Some(node) = self.nodes.get(name) else {
            return;
        };
        let kib = |bytes: u64| u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
        // The whole machine's: what stands beside the pods counts as well.
        let used = node.group.working_set().unwrap_or(0);
        let available = node.spec.memory.saturating_sub(used);
        let pods = self.pods.iter();
        let pods = pods.filter(|(_, pod)| pod.spec.node == name && !pod.removing);
        let pods: Vec<(u32, u32)> = pods
            .map(|(n, pod)| (*n, kib(self.used_by(*n, pod))))
            .collect();
        for (pod, kib) in pods {
            let pod = Id::new(pod);
            self.event(RuntimeEvent::PodMemory { pod, kib });
        }
        self.event(RuntimeEvent::NodeMemory {
            node: Id::new(number),
            available_kib: kib(available),
        });
    }

    /// Bytes that a pod's containers use, and its volumes.
    fn used_by(&self, number: u32, pod: &Pod) -> u64 {
        if pod.group.counts() {
            return pod.group.working_set().unwrap_or(0);
        }
        let of_it = self
            .containers
            .values()
            .filter(|c| c.spec.id.pod.0 == number);
        of_it.filter_map(|c| c.group.working_set()).sum()
    }
}
