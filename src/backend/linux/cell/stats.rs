//! How much memory a node and its pods use.

use super::Cell;
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
        let pods: Vec<(u32, u32)> = (self.pods.iter())
            .filter(|(_, pod)| pod.spec.node == name && !pod.removing)
            .map(|(n, pod)| (*n, kib(pod.group.working_set().unwrap_or(0))))
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
}
