//! Policies of other orchestrators, and chance: what people compare the default scheduler with.

use crate::engine::draws::{Draws, Purpose, entity_key};
use crate::sched::cache::NodeIx;
use crate::sched::node_info::NodeInfo;
use crate::sched::plugin::{Cx, CycleState, MAX_NODE_SCORE, Plugin, PluginName, PodEntry, Points};

/// Chooses a node at random; keyed by the pod's name and the number of nodes that fit.
const NODE: Purpose = Purpose::new("sched/random-score");

/// RandomScore: one node of those that fit, each as likely as the others
/// (`random_score.go` of github.com/hkust-adsl/kubernetes-scheduler-simulator).
#[derive(Debug)]
pub struct Random(pub Draws);

impl Plugin for Random {
    fn name(&self) -> PluginName {
        PluginName::RandomScore
    }

    fn points(&self) -> Points {
        Points::PRE_SCORE.and(Points::SCORE)
    }

    fn pre_score(
        &self,
        _cx: &Cx<'_>,
        state: &mut CycleState,
        pod: &PodEntry,
        nodes: &[NodeIx],
    ) -> bool {
        if nodes.is_empty() {
            return false;
        }
        let meta = &pod.pod.meta;
        let entity = entity_key(&[&meta.namespace, &meta.name]);
        let count = nodes.len() as u64;
        let draw = self.0.below(NODE, entity, count, count);
        state.random_node = usize::try_from(draw).ok().map(|at| nodes[at]);
        true
    }

    fn score(&self, _cx: &Cx<'_>, state: &CycleState, _pod: &PodEntry, node: &NodeInfo) -> i64 {
        if state.random_node == Some(node.ix) {
            MAX_NODE_SCORE
        } else {
            0
        }
    }
}

/// SwarmSpread: the node with the fewest pods of the same kind, and among those the one with the
/// fewest pods at all, as Docker Swarm spreads tasks (github.com/moby/swarmkit,
/// `manager/scheduler/scheduler.go :: scheduleTaskGroup`, its `nodeLess`; node failures aside).
/// "The same kind" are pods of one namespace with equal specs and labels, which Swarm calls a
/// service.
#[derive(Debug)]
pub struct SwarmSpread;

impl Plugin for SwarmSpread {
    fn name(&self) -> PluginName {
        PluginName::SwarmSpread
    }

    fn points(&self) -> Points {
        Points::PRE_SCORE.and(Points::SCORE)
    }

    fn pre_score(
        &self,
        cx: &Cx<'_>,
        state: &mut CycleState,
        pod: &PodEntry,
        _nodes: &[NodeIx],
    ) -> bool {
        let meta = &pod.pod.meta;
        let mut classes = cx.cache.classes_in(&meta.namespace);
        let same = classes.find(|class| {
            std::sync::Arc::ptr_eq(&class.template, &pod.template) && class.labels == meta.labels
        });
        let counts = same.map(|class| class.nodes.iter().map(|c| (c.node, c.total)).collect());
        state.same_pods = counts.unwrap_or_default();
        true
    }

    /// Pods of the same kind first, all pods second; more is worse.
    fn score(&self, _cx: &Cx<'_>, state: &CycleState, _pod: &PodEntry, node: &NodeInfo) -> i64 {
        let same = &state.same_pods;
        let at = same.binary_search_by_key(&node.ix, |(ix, _)| *ix);
        let same = at.map_or(0, |at| i64::from(same[at].1));
        -(same << 32) - node.pods.len() as i64
    }

    /// The best node gets 100, those with as few pods of the same kind up to 99.
    fn normalize(&self, _cx: &Cx<'_>, _state: &CycleState, _nodes: &[NodeIx], scores: &mut [i64]) {
        let best = scores.iter().copied().max().unwrap_or(0);
        for score in scores {
            *score = match best - *score {
                0 => MAX_NODE_SCORE,
                worse => (MAX_NODE_SCORE - 1 - worse.min(MAX_NODE_SCORE - 1)).max(0),
            };
        }
    }
}

/// NomadBinPack: fills nodes by the formula of Google's work on data-centre efficiency, as HashiCorp
/// Nomad does (github.com/hashicorp/nomad, `nomad/structs/funcs.go :: ScoreFitBinPack`):
/// 20 - (10^free CPU share + 10^free memory share) after the pod, within 0 to 18. Nomad's penalty
/// for allocations of one job on one node is its own iterator and not part of this score.
#[derive(Debug)]
pub struct NomadBinPack;

/// `maxFitScore`.
const MAX_FIT: f64 = 18.0;

impl Plugin for NomadBinPack {
    fn name(&self) -> PluginName {
        PluginName::NomadBinPack
    }

    fn points(&self) -> Points {
        Points::SCORE
    }

    fn by_node(&self, _pod: &PodEntry) -> bool {
        true
    }

    fn score(&self, _cx: &Cx<'_>, _state: &CycleState, pod: &PodEntry, node: &NodeInfo) -> i64 {
        let free = |used: i64, of: i64| match of {
            0 => 0.0,
            of => 1.0 - used as f64 / of as f64,
        };
        let (has, uses, pod) = (&node.allocatable, &node.requested, &pod.template);
        let total = libm::exp10(free(uses.cpu + pod.cpu, has.cpu))
            + libm::exp10(free(uses.memory + pod.memory, has.memory));
        let score = (20.0 - total).clamp(0.0, MAX_FIT);
        libm::round(score / MAX_FIT * MAX_NODE_SCORE as f64) as i64
    }
}
