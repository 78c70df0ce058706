//! How much memory a node and its pods use, and how much time containers.
//!
//! A kubelet has the kernel tell it when memory runs short, and looks at its pods only then. Here
//! nodes with a watch are looked at twice a second, which is often enough for a kubelet that acts
//! every ten seconds.

use super::Cell;
use super::place::{Node, Pod, Watched};
use crate::backend::linux::protocol::{Report, Used};
use crate::kubelet::RuntimeEvent;
use crate::store::Id;

/// How often nodes' memory is looked at, in nanoseconds.
const LOOKS: u64 = 500_000_000;

impl Cell {
    /// A kubelet wants to be told when its node has less memory than this.
    pub(super) fn watch_memory(&mut self, name: &str, number: u32, floor: u64) {
        let Some(node) = self.nodes.get_mut(name) else {
            return;
        };
        let tight = false;
        node.watched = Some(Watched {
            number,
            floor,
            tight,
        });
        self.looks_due.get_or_insert(0);
    }

    /// Looks at the memory of nodes that are watched, if it is time to.
    pub(super) fn look_at_memory(&mut self, now: u64) {
        if self.looks_due.is_none_or(|due| due > now) {
            return;
        }
        let mut news = Vec::new();
        for node in self.nodes.values_mut() {
            let used = match &node.watched {
                Some(watched) => node.used(watched.floor),
                None => continue,
            };
            let available = node.spec.memory.saturating_sub(used);
            if let Some(watched) = &mut node.watched {
                let tight = available < watched.floor;
                news.extend((tight && !watched.tight).then_some(watched.number));
                watched.tight = tight;
            }
        }
        for number in news {
            let node = Id::new(number);
            self.event(RuntimeEvent::Tight { node });
        }
        self.looks_due = Some(now + LOOKS);
    }

    /// Measures and tells.
    pub(super) fn stats(&mut self, name: &str, number: u32) {
        let Some(node) = self.nodes.get(name) else {
            return;
        };
        let kib = |bytes: u64| u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
        let used = node.used(u64::MAX);
        let available = node.spec.memory.saturating_sub(used);
        let tight = node
            .watched
            .is_some_and(|watched| available < watched.floor);
        let pods = self.pods.iter();
        let pods = pods.filter(|(_, pod)| pod.spec.node == name && !pod.removing);
        let pods: Vec<(u32, u32)> = pods
            .map(|(n, pod)| (*n, kib(self.used_by(*n, pod))))
            .collect();
        if tight {
            let node = Id::new(number);
            self.event(RuntimeEvent::Tight { node });
        }
        for (pod, kib) in pods {
            let pod = Id::new(pod);
            self.event(RuntimeEvent::PodMemory { pod, kib });
        }
        self.event(RuntimeEvent::NodeMemory {
            node: Id::new(number),
            available_kib: kib(available),
        });
    }

    /// Measures containers that run, and tells.
    pub(super) fn usage(&mut self) {
        let running = self.containers.iter().filter(|(_, c)| c.runs());
        let used = running.filter_map(|(id, container)| {
            Some(Used {
                container: *id,
                cpu: container.group.cpu_time()?,
                memory: container.group.working_set()?,
            })
        });
        let used = used.collect();
        self.tell(Report::Usage(used));
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

impl Node {
    /// Bytes that are used on the whole machine: what stands beside the pods counts as well. Where
    /// even with what the kernel could give back `floor` bytes are left, that is counted as used.
    fn used(&self, floor: u64) -> u64 {
        let all = self.group.usage().unwrap_or(0);
        match self.spec.memory.saturating_sub(all) >= floor {
            true => all,
            false => self.group.working_set().unwrap_or(all),
        }
    }
}
