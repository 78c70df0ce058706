//! Fragmentation of GPUs, and the policy that descends its gradient.
//!
//! The fragmentation of a node is how much of its idle GPU capacity a pod that is drawn at random
//! from the typical workload could not use (Weng et al., §3). Typical pods are weighed by how often
//! they occur, as whole numbers, so that sums are exact and do not depend on their order.

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Devices, GpuRequest, Models};
use crate::sched::node_info::NodeInfo;
use crate::sched::plugin::{Cx, CycleState, MAX_NODE_SCORE, Plugin, PluginName, PodEntry, Points};

/// Typical pods cover this share of all, in percent (`pod-popularity-threshold`).
const POPULAR_PERCENT: u64 = 95;

/// A pod as the workload typically has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypicalPod {
    /// CPU in milli-cpu.
    pub cpu: i64,
    /// GPUs.
    pub gpu: GpuRequest,
    /// How many of the typical pods are like this.
    pub weight: u64,
}

/// Measures fragmentation against typical pods.
#[derive(Clone, Debug, Default)]
pub struct Fragmentation {
    /// Those that ask for GPUs; the others cannot use any.
    typical: Arc<[TypicalPod]>,
    /// All weights, those of pods without GPUs among them.
    weights: u64,
}

impl Fragmentation {
    /// Against these pods.
    pub fn new(typical: &[TypicalPod]) -> Fragmentation {
        let with_gpu = typical.iter().filter(|t| t.gpu.count > 0);
        Fragmentation {
            weights: typical.iter().map(|t| t.weight).sum(),
            typical: with_gpu.copied().collect(),
        }
    }

    /// Whether there is nothing to measure against.
    pub fn is_empty(&self) -> bool {
        self.weights == 0
    }

    /// By what [`Fragmentation::of`] exceeds thousandths of a device.
    pub fn weights(&self) -> u64 {
        self.weights
    }

    /// The fragmented part of a node's idle GPUs, in thousandths of a device times
    /// [`Fragmentation::weights`] (`utils/frag.go :: NodeGpuShareFragAmountScore`).
    pub fn of(&self, cpu: i64, left: &[i64], model: Models) -> i64 {
        let total: i64 = left.iter().sum();
        let mut usable = 0;
        for pod in self.typical.iter() {
            let known = pod.gpu.models == 0 || pod.gpu.models & model != 0;
            if cpu < pod.cpu || !known {
                continue;
            }
            let (mut devices, mut room) = (0, 0);
            for left in left {
                if *left >= pod.gpu.milli {
                    devices += 1;
                    room += left;
                }
            }
            if devices >= pod.gpu.count {
                usable += room * pod.weight as i64;
            }
        }
        total * self.weights as i64 - usable
    }

    /// The same of a node as it is.
    pub fn of_node(&self, node: &NodeInfo) -> i64 {
        let gpus = &node.gpus;
        self.of(
            node.allocatable.cpu - node.requested.cpu,
            &gpus.left,
            gpus.model,
        )
    }

    /// `calculateGpuShareFragExtendScore`: the score of a node for a pod, and the devices that have
    /// it.
    pub fn best(&self, pod: &PodEntry, node: &NodeInfo) -> (i64, Devices) {
        let (request, gpus) = (&pod.template.gpu, &node.gpus);
        let cpu = node.allocatable.cpu - node.requested.cpu;
        let before = self.of(cpu, &gpus.left, gpus.model);
        let cpu = cpu - pod.template.non_zero_cpu;
        if !request.shared() {
            let mut left = gpus.left.clone();
            pack(&mut left, request);
            let score = self.descent(before - self.of(cpu, &left, gpus.model));
            return (score, gpus.exclusive(request));
        }
        let mut best = (0, 0);
        let mut tried: SmallVec<[i64; 8]> = SmallVec::new();
        for (at, room) in gpus.left.iter().enumerate() {
            // A device that has as much left as one before it scores the same, and comes second.
            if *room < request.milli || tried.contains(room) {
                continue;
            }
            tried.push(*room);
            let mut left = gpus.left.clone();
            left[at] -= request.milli;
            let score = self.descent(before - self.of(cpu, &left, gpus.model));
            if best.1 == 0 || score > best.0 {
                best = (score, 1 << at);
            }
        }
        best
    }

    /// The sigmoid of a decrease, in devices, as a score.
    fn descent(&self, decrease: i64) -> i64 {
        let milli = decrease as f64 / self.weights.max(1) as f64;
        let sigmoid = 1.0 / (1.0 + libm::exp(-milli / 1000.0));
        (sigmoid * MAX_NODE_SCORE as f64) as i64
    }
}

/// `NodeResource.Sub`: takes from the fullest devices that have room.
fn pack(left: &mut SmallVec<[i64; 8]>, request: &GpuRequest) {
    let mut order: SmallVec<[usize; 8]> = (0..left.len()).collect();
    order.sort_by_key(|at| left[*at]);
    let room = order.into_iter().filter(|at| left[*at] >= request.milli);
    let taken: SmallVec<[usize; 8]> = room.take(request.count as usize).collect();
    for at in taken {
        left[at] -= request.milli;
    }
}

/// The pods that a workload typically has: the most frequent requests that together make up 95 % of
/// it, pods without GPUs among them (`utils/frag.go :: GetTypicalPods`).
pub fn typical_pods(all: impl Iterator<Item = (i64, GpuRequest)>) -> Vec<TypicalPod> {
    let mut counts: BTreeMap<(i64, GpuRequest), u64> = BTreeMap::new();
    let mut total = 0;
    for pod in all {
        *counts.entry(pod).or_insert(0) += 1;
        total += 1;
    }
    let pods = counts.into_iter();
    let mut pods: Vec<TypicalPod> = pods
        .map(|((cpu, gpu), weight)| TypicalPod { cpu, gpu, weight })
        .collect();
    // The most frequent first; among equals the larger one, as upstream's reversed order has it.
    pods.sort_by_key(|p| std::cmp::Reverse((p.weight, p.cpu, p.gpu.milli, p.gpu.count)));
    let mut covered = 0;
    let enough = pods.iter().take_while(|pod| {
        let more = covered * 100 < total * POPULAR_PERCENT;
        covered += pod.weight;
        more
    });
    let count = enough.count();
    pods.truncate(count);
    pods
}

/// FGDScore: prefers the node and device whose fragmentation grows least (`fgd_score.go`).
#[derive(Debug)]
pub struct Fgd(pub Fragmentation);

impl Plugin for Fgd {
    fn name(&self) -> PluginName {
        PluginName::FGDScore
    }

    fn points(&self) -> Points {
        Points::SCORE
    }

    fn by_node(&self, _pod: &PodEntry) -> bool {
        true
    }

    fn score(&self, _cx: &Cx<'_>, _state: &CycleState, pod: &PodEntry, node: &NodeInfo) -> i64 {
        self.0.best(pod, node).0
    }
}
