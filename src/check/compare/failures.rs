//! Nodes that lose power, in a run of the scheduler alone.

use std::sync::Arc;
use std::time::Duration;

use super::placement::{Event, Placement};
use crate::api::affinity::{Taint, TaintEffect};
use crate::api::{Node, Text};
use crate::engine::Time;
use crate::fault::Fault;
use crate::sched::cache::NodeIx;

/// The taint of a node that is not heard of.
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

impl<'p> Placement<'p> {
    fn fault(&self, number: u32) -> &'p Fault {
        &self.prepared.plan.faults[number as usize].1
    }

    fn pods_on(&self, node: NodeIx) -> Vec<u32> {
        self.cache
            .node(node)
            .pods
            .iter()
            .map(|pod| pod.id)
            .collect()
    }

    /// A fault begins: its nodes are dead, pods on them stop.
    pub(super) fn fail(&mut self, number: u32, now: Time) {
        let targets = self.fault(number).select(self.prepared.view(), &self.draws);
        let found = targets
            .nodes
            .iter()
            .filter_map(|name| self.cache.find(name));
        let nodes: Vec<NodeIx> = found.map(|info| info.ix).collect();
        for node in &nodes {
            self.down.insert(*node);
            for pod in self.pods_on(*node) {
                self.pods[pod as usize].start += 1;
            }
        }
        self.failures[number as usize] = nodes;
        let flags = &self.prepared.plan.cluster.flags;
        let grace = flags.node_monitor_grace_period;
        let tolerated = flags.default_unreachable_toleration_s.max(0) as u64;
        let given_up = grace + Duration::from_secs(tolerated);
        let over = self.fault(number).duration.unwrap_or(Duration::MAX);
        if grace < over {
            self.queue.at(now + grace, Event::Taint(number));
        }
        if given_up < over {
            self.queue.at(now + given_up, Event::GiveUp(number));
        }
        if over < Duration::MAX {
            self.queue.at(now + over, Event::Return(number));
        }
    }

    /// The nodes of a fault are tainted, or are not any more.
    pub(super) fn set_taint(&mut self, number: u32, there: bool) {
        for node in self.failures[number as usize].clone() {
            let name = self.cache.node(node).name.clone();
            let Some(row) = self.cache.find(&name).map(|info| info.row().clone()) else {
                continue;
            };
            let mut row: Node = row;
            row.taints.retain(|taint| taint.key != UNREACHABLE);
            for effect in [TaintEffect::NoSchedule, TaintEffect::NoExecute] {
                if there {
                    row.taints.push(Taint {
                        key: Text::from(UNREACHABLE),
                        value: Text::default(),
                        effect,
                        added: None,
                    });
                }
            }
            self.cache.set_node(&Arc::new(row));
            self.cache.refresh();
            self.changed(node);
        }
    }

    /// Pods of dead nodes are given up and arrive again.
    pub(super) fn give_up(&mut self, number: u32) -> bool {
        for node in self.failures[number as usize].clone() {
            for pod in self.pods_on(node) {
                self.leave(pod);
                self.wait_again(pod);
                self.placed.evictions += 1;
            }
        }
        true
    }

    /// Power returns: what is still on the nodes starts over.
    pub(super) fn power_returns(&mut self, number: u32) {
        self.set_taint(number, false);
        let now = self.now();
        for node in std::mem::take(&mut self.failures[number as usize]) {
            self.down.remove(&node);
            for pod in self.pods_on(node) {
                let live = &mut self.pods[pod as usize];
                live.start += 1;
                if let Some(runs) = live.arrival.runs {
                    self.queue.at(now + runs, Event::End(pod, live.start));
                }
            }
        }
    }
}
