//! Soft constraints: domains with fewer matching pods are better.

use super::{Active, has_all};
use crate::sched::cache::{EMPTY_DOMAIN, NO_DOMAIN, NodeIx};
use crate::sched::plugin::{Cx, MAX_NODE_SCORE, PodEntry};

/// A domain that no feasible node is in.
const ABSENT: i64 = -1;

/// `preScoreState`: matching pods per domain (per node for the host name) and a weight for each
/// constraint, which grows with the number of domains.
#[derive(Clone, Debug)]
pub struct SpreadScore {
    constraints: Vec<Active>,
    counts: Vec<Vec<i64>>,
    weights: Vec<f64>,
    require_all: bool,
}

/// The domain with missing labels as one of their own.
fn domain(cx: &Cx<'_>, c: &Active, node: NodeIx) -> usize {
    match cx.cache.domain(c.topology, node) {
        NO_DOMAIN => EMPTY_DOMAIN as usize,
        domain => domain as usize,
    }
}

impl SpreadScore {
    /// `initPreScoreState` and the count over all nodes in `PreScore`.
    pub(super) fn new(
        cx: &Cx<'_>,
        pod: &PodEntry,
        constraints: Vec<Active>,
        nodes: &[NodeIx],
        require_all: bool,
    ) -> SpreadScore {
        let mut state = SpreadScore {
            counts: Vec::new(),
            weights: Vec::new(),
            constraints,
            require_all,
        };
        let counted = nodes.iter().filter(|ix| !state.ignores(cx, **ix));
        let counted: Vec<NodeIx> = counted.copied().collect();
        for c in &state.constraints {
            let mut size = counted.len();
            let mut counts = Vec::new();
            if c.hostname {
                let per_node = c.per_node(cx, &pod.pod.meta.namespace);
                counts.extend(per_node.into_iter().map(i64::from));
            } else {
                counts.resize(cx.cache.domains(c.topology), ABSENT);
                for ix in &counted {
                    counts[domain(cx, c, *ix)] = 0;
                }
                size = counts.iter().filter(|n| **n != ABSENT).count();
                state.count(cx, pod, c, &mut counts);
            }
            // `topologyNormalizingWeight`.
            state.weights.push(libm::log((size + 2) as f64));
            state.counts.push(counts);
        }
        state
    }

    fn count(&self, cx: &Cx<'_>, pod: &PodEntry, c: &Active, counts: &mut [i64]) {
        for class in c.classes(cx, &pod.pod.meta.namespace) {
            for count in &class.nodes {
                let Some(node) = cx.cache.node(count.node).node.as_deref() else {
                    continue;
                };
                let into = &mut counts[domain(cx, c, count.node)];
                if *into != ABSENT && !self.ignores(cx, count.node) && c.includes(pod, node) {
                    *into += i64::from(count.live);
                }
            }
        }
    }

    /// Nodes without all topology keys, where that matters.
    fn ignores(&self, cx: &Cx<'_>, node: NodeIx) -> bool {
        self.require_all && !has_all(cx.cache, &self.constraints, node)
    }

    /// The Score: fewer is better until `normalize` turns it around.
    pub(super) fn score(&self, cx: &Cx<'_>, node: NodeIx) -> i64 {
        if self.ignores(cx, node) {
            return 0;
        }
        let mut score = 0.0;
        for (i, c) in self.constraints.iter().enumerate() {
            let domain = cx.cache.domain(c.topology, node);
            if domain != NO_DOMAIN {
                let at = if c.hostname { node } else { domain as usize };
                let count = self.counts[i][at];
                score += count as f64 * self.weights[i] + f64::from(c.max_skew - 1);
            }
        }
        score.round() as i64
    }

    /// `NormalizeScore`.
    pub(super) fn normalize(&self, cx: &Cx<'_>, nodes: &[NodeIx], scores: &mut [i64]) {
        let mut least = i64::MAX;
        let mut most = 0;
        for (ix, score) in nodes.iter().zip(scores.iter()) {
            if !self.ignores(cx, *ix) {
                least = least.min(*score);
                most = most.max(*score);
            }
        }
        for (ix, score) in nodes.iter().zip(scores) {
            *score = if self.ignores(cx, *ix) {
                0
            } else if most == 0 {
                MAX_NODE_SCORE
            } else {
                MAX_NODE_SCORE * (most + least - *score) / most
            };
        }
    }
}
