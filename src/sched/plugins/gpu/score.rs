//! Scores of packing policies that know GPUs: dot product, best fit, packing, clustering.

use smallvec::SmallVec;

use super::{Devices, WHOLE};
use crate::sched::cache::NodeIx;
use crate::sched::node_info::NodeInfo;
use crate::sched::plugin::{Cx, CycleState, MAX_NODE_SCORE, Plugin, PluginName, PodEntry, Points};

/// The CPU by which vectors are measured, in milli-cpu (`MaxSpecCpu`).
const MAX_CPU: f64 = 128_000.0;
/// The GPU capacity by which vectors are measured, in thousandths of a device (`MaxSpecGpu`).
const MAX_GPU: i64 = 8 * WHOLE;

/// How a node becomes a vector (`dimExtMethod`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dimensions {
    /// CPU left, and GPU left on all devices together.
    #[default]
    Merge,
    /// CPU left, and GPU left of one device (or of all free ones), for each choice of device.
    Share,
    /// As `Share`, with CPU divided among the choices by what they have left.
    Divide,
}

/// By what vectors are divided (`normMethod`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Norm {
    /// A machine with 128 cores and 8 GPUs.
    #[default]
    Max,
    /// The node's capacity.
    Node,
    /// The pod's request.
    Pod,
}

/// Arguments of DotProductScore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VectorArgs {
    /// `dimExtMethod`.
    pub dimensions: Dimensions,
    /// `normMethod`.
    pub norm: Norm,
}

/// DotProductScore: prefers nodes whose free resources point away from the pod's request
/// (`dot_product_score.go`), after Grandl et al., "Multi-resource packing for cluster schedulers"
/// (Tetris, SIGCOMM '14).
#[derive(Clone, Copy, Debug)]
pub struct DotProduct {
    args: VectorArgs,
}

impl DotProduct {
    /// The plugin with its arguments.
    pub fn new(args: VectorArgs) -> DotProduct {
        DotProduct { args }
    }

    /// `calculateDotProductScore`: the best score of the node, and the devices that have it (0 when
    /// vectors are merged).
    pub fn best(&self, pod: &PodEntry, node: &NodeInfo) -> (i64, Devices) {
        let mut best = (-1.0, 0);
        for (vector, devices) in self.vectors(pod, node) {
            let score = 1.0 - self.product(vector, pod, node);
            if best.0 < score {
                best = (score, devices);
            }
        }
        if best.0 == -1.0 {
            return (0, 0);
        }
        ((MAX_NODE_SCORE as f64 * best.0) as i64, best.1)
    }

    fn product(&self, vector: [f64; 2], pod: &PodEntry, node: &NodeInfo) -> f64 {
        let template = &pod.template;
        let request = [template.non_zero_cpu as f64, template.gpu.total() as f64];
        let norm = match self.args.norm {
            Norm::Max => [MAX_CPU, MAX_GPU as f64],
            Norm::Node => [
                node.allocatable.cpu as f64,
                node.gpus.left.len() as f64 * WHOLE as f64,
            ],
            Norm::Pod => request,
        };
        let part = |value: f64, by: f64| if by > 0.0 { value / by } else { 0.0 };
        let mut sum = 0.0;
        for i in 0..2 {
            sum += part(vector[i], norm[i]) * part(request[i], norm[i]);
        }
        let mean = sum / 2.0;
        match self.args.norm {
            Norm::Pod => libm::tanh(mean / 10.0),
            Norm::Max | Norm::Node => mean,
        }
    }

    /// `NodeResource.ToVirtualNodeResourceList`.
    fn vectors(&self, pod: &PodEntry, node: &NodeInfo) -> SmallVec<[([f64; 2], Devices); 8]> {
        let mut all = SmallVec::new();
        let cpu = node.allocatable.cpu - node.requested.cpu;
        let (request, gpus) = (&pod.template.gpu, &node.gpus);
        if cpu < pod.template.non_zero_cpu {
            return all;
        }
        let total = gpus.total_left();
        if self.args.dimensions == Dimensions::Merge {
            all.push(([cpu as f64, total as f64], 0));
            return all;
        }
        let divide = self.args.dimensions == Dimensions::Divide;
        let cpu_of = |left: i64| match divide {
            true if total > 0 => (cpu * left) as f64 / total as f64,
            _ => cpu as f64,
        };
        if request.total() < WHOLE {
            for (at, left) in gpus.left.iter().enumerate() {
                if *left < WHOLE && *left >= request.total() {
                    all.push(([cpu_of(*left), *left as f64], 1 << at));
                }
            }
        }
        let free = gpus.free() as i64 * WHOLE;
        if request.total() <= free {
            all.push(([cpu_of(free), free as f64], gpus.exclusive(request)));
        }
        all
    }
}

impl Plugin for DotProduct {
    fn name(&self) -> PluginName {
        PluginName::DotProductScore
    }

    fn points(&self) -> Points {
        Points::SCORE
    }

    fn by_node(&self, _pod: &PodEntry) -> bool {
        true
    }

    fn score(&self, _cx: &Cx<'_>, _state: &CycleState, pod: &PodEntry, node: &NodeInfo) -> i64 {
        self.best(pod, node).0
    }
}

/// A policy that scores a node by the pod and the node alone.
#[derive(Clone, Copy, Debug)]
pub struct NodeScore {
    name: PluginName,
    score: fn(&PodEntry, &NodeInfo) -> i64,
    /// Scores are stretched over 0..=100 (`plugin_utils.go :: NormalizeScore`).
    stretched: bool,
}

/// BestFitScore: prefers nodes that have least left after the pod, CPU and GPU weighing the same
/// (`best_fit_score.go :: getBestFitScore`).
pub const BEST_FIT: NodeScore = NodeScore {
    name: PluginName::BestFitScore,
    score: best_fit,
    stretched: true,
};

/// GpuPackingScore: prefers devices that are in use already, then free devices of nodes in use,
/// then nodes with few devices (`gpu_packing_score.go :: getPackingScore`), after Weng et al.,
/// "MLaaS in the wild" (NSDI '22).
pub const GPU_PACKING: NodeScore = NodeScore {
    name: PluginName::GpuPackingScore,
    score: gpu_packing,
    stretched: false,
};

/// GpuClusteringScore: keeps pods with like requests together (`gpu_clustering_score.go`), after
/// Xiao et al., "Gandiva: introspective cluster scheduling for deep learning" (OSDI '18).
pub const GPU_CLUSTERING: NodeScore = NodeScore {
    name: PluginName::GpuClusteringScore,
    score: gpu_clustering,
    stretched: false,
};

impl Plugin for NodeScore {
    fn name(&self) -> PluginName {
        self.name
    }

    fn points(&self) -> Points {
        Points::SCORE
    }

    fn by_node(&self, _pod: &PodEntry) -> bool {
        true
    }

    fn score(&self, _cx: &Cx<'_>, _state: &CycleState, pod: &PodEntry, node: &NodeInfo) -> i64 {
        (self.score)(pod, node)
    }

    fn normalizes(&self) -> bool {
        self.stretched
    }

    fn normalize(&self, _cx: &Cx<'_>, _state: &CycleState, _nodes: &[NodeIx], scores: &mut [i64]) {
        if self.stretched {
            stretch(scores);
        }
    }
}

/// Stretches scores so that the lowest is 0 and the highest 100; equal ones become 0.
pub fn stretch(scores: &mut [i64]) {
    let highest = scores.iter().copied().max().unwrap_or(0);
    let lowest = scores.iter().copied().min().unwrap_or(0);
    let range = highest - lowest;
    for score in scores {
        *score = match range {
            0 => 0,
            range => (*score - lowest) * MAX_NODE_SCORE / range,
        };
    }
}

fn best_fit(pod: &PodEntry, node: &NodeInfo) -> i64 {
    let cpu = node.allocatable.cpu - node.requested.cpu - pod.template.non_zero_cpu;
    let gpu = node.gpus.total_left() - pod.template.gpu.total();
    let rest = cpu as f64 / MAX_CPU * 0.5 + gpu as f64 / MAX_GPU as f64 * 0.5;
    ((1.0 - rest) * MAX_NODE_SCORE as f64) as i64
}

fn gpu_packing(pod: &PodEntry, node: &NodeInfo) -> i64 {
    let (request, gpus) = (&pod.template.gpu, &node.gpus);
    if request.count == 0 {
        return 0;
    }
    let free = gpus.free();
    if free == gpus.left.len() {
        let free = free as i64;
        return (MAX_NODE_SCORE / 3 - free).max(free);
    }
    let mut fullest: SmallVec<[i64; 8]> = gpus.left.iter().copied().collect();
    fullest.sort_unstable();
    let fullest = fullest.into_iter().filter(|left| *left >= request.milli);
    let used: SmallVec<[i64; 8]> = fullest.take(request.count as usize).collect();
    if used.len() < request.count as usize {
        return 0;
    }
    let whole = used.iter().filter(|left| **left == WHOLE).count() as i64;
    if whole > 0 {
        return (MAX_NODE_SCORE / 2 - whole).max(MAX_NODE_SCORE / 3);
    }
    let percent: i64 = used.iter().map(|left| left * 100 / WHOLE).sum();
    (MAX_NODE_SCORE - percent / 10).max(MAX_NODE_SCORE / 2)
}

fn gpu_clustering(pod: &PodEntry, node: &NodeInfo) -> i64 {
    let (request, gpus) = (&pod.template.gpu, &node.gpus);
    if request.count == 0 {
        return 0;
    }
    let kind = if request.shared() { 0 } else { request.count };
    let quarter = MAX_NODE_SCORE / 4;
    let full = quarter * (MAX_GPU - gpus.total_left()) / MAX_GPU;
    let like = gpus.kinds.iter().any(|(k, _)| *k == kind);
    full + quarter
        * match gpus.kinds.len() {
            1 if like => 3,
            _ if like => 2,
            0 => 1,
            _ => 0,
        }
}
