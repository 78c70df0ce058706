//! Soft constraints: domains with fewer matching pods are better.

use std::sync::Arc;

use super::{Active, has_all};
use crate::sched::cache::{EMPTY_DOMAIN, Move, NO_DOMAIN, NodeIx};
use crate::sched::plugin::{Cx, MAX_NODE_SCORE, PodEntry};

/// `preScoreState`: matching pods per domain (per node for the host name) and a weight for each
/// constraint, which grows with the number of domains.
#[derive(Clone, Debug)]
pub struct SpreadScore {
    constraints: Vec<Active>,
    counts: Arc<Vec<Vec<i64>>>,
    weights: Vec<f64>,
    /// Some of the feasible nodes lack a topology key, where that matters.
    ignores_some: bool,
}

/// The domain with missing labels as one of their own.
fn domain(cx: &Cx<'_>, c: &Active, node: NodeIx) -> usize {
    match cx.cache.domain(c.topology, node) {
        NO_DOMAIN => EMPTY_DOMAIN as usize,
        domain => domain as usize,
    }
}

/// Matching pods for each constraint: per node for the host name, else per domain over all nodes
/// that count (the loop over all nodes in `PreScore`).
pub(super) fn count_all(
    cx: &Cx<'_>,
    pod: &PodEntry,
    constraints: &[Active],
    require_all: bool,
) -> Vec<Vec<i64>> {
    let namespace = &pod.pod.meta.namespace;
    let count = |c: &Active| {
        if c.hostname {
            let per_node = c.per_node(cx, namespace);
            return per_node.into_iter().map(i64::from).collect();
        }
        let mut counts = vec![0; cx.cache.domains(c.topology)];
        for class in c.classes(cx, namespace) {
            for count in &class.nodes {
                if counts_in(cx, pod, constraints, require_all, c, count.node) {
                    counts[domain(cx, c, count.node)] += i64::from(count.live);
                }
            }
        }
        counts
    };
    constraints.iter().map(count).collect()
}

/// Whether the pods of a node count for a constraint other than one over host names.
fn counts_in(
    cx: &Cx<'_>,
    pod: &PodEntry,
    constraints: &[Active],
    require_all: bool,
    c: &Active,
    node: NodeIx,
) -> bool {
    let row = cx.cache.node(node).node.as_deref();
    row.is_some_and(|row| {
        (!require_all || has_all(cx.cache, constraints, node)) && c.includes(pod, row)
    })
}

/// What [`count_all`] counts for constraint `at`, after a pod that it selects moved.
pub(super) fn moved(
    cx: &Cx<'_>,
    pod: &PodEntry,
    (require_all, constraints): (bool, &[Active]),
    at: usize,
    one: &Move,
    counts: &mut Vec<i64>,
) {
    let c = &constraints[at];
    let into = if c.hostname {
        one.node
    } else if counts_in(cx, pod, constraints, require_all, c, one.node) {
        domain(cx, c, one.node)
    } else {
        return;
    };
    if into >= counts.len() {
        counts.resize(into + 1, 0);
    }
    counts[into] += i64::from(one.live);
}

impl SpreadScore {
    /// `initPreScoreState`: the counts, and for each constraint a weight that grows with the number
    /// of domains with a feasible node. Only counts of such domains are ever looked at.
    pub(super) fn new(
        cx: &Cx<'_>,
        constraints: Vec<Active>,
        counts: Arc<Vec<Vec<i64>>>,
        nodes: &[NodeIx],
        require_all: bool,
    ) -> SpreadScore {
        let ignores = |ix: &NodeIx| require_all && !has_all(cx.cache, &constraints, *ix);
        let counted = nodes.iter().filter(|ix| !ignores(ix));
        let counted: Vec<NodeIx> = counted.copied().collect();
        let mut state = SpreadScore {
            counts,
            weights: Vec::new(),
            ignores_some: counted.len() < nodes.len(),
            constraints,
        };
        for c in &state.constraints {
            let mut size = counted.len();
            if !c.hostname {
                let mut present = vec![false; cx.cache.domains(c.topology)];
                for ix in &counted {
                    present[domain(cx, c, *ix)] = true;
                }
                size = present.iter().filter(|yes| **yes).count();
            }
            // `topologyNormalizingWeight`.
            state.weights.push(libm::log((size + 2) as f64));
        }
        state
    }

    /// Nodes without all topology keys, where that matters.
    fn ignores(&self, cx: &Cx<'_>, node: NodeIx) -> bool {
        self.ignores_some && !has_all(cx.cache, &self.constraints, node)
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
                let count = self.counts[i].get(at).copied().unwrap_or(0);
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
