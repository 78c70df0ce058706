//! What a node said to a kind of pod, remembered until the node changes.
//!
//! Thousands of pods of a trace have a few hundred specs, and each placement changes one node. Where
//! the plugins of a profile judge a node by the pod's template and the node alone
//! ([`super::plugin::Plugin::by_node`]), verdicts and raw scores of one template hold for every node
//! that did not change since. [`Memo::find`] gives the same nodes in the same order, and
//! [`Memo::score`] the same scores, as [`super::cycle::find_nodes`] and
//! [`super::framework::Framework::score`]; a test beside this module compares them.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::cache::NodeIx;
use super::config::Point;
use super::cycle::{feasible_to_find, totals};
use super::framework::{Framework, PluginScores};
use super::plugin::{Cx, CycleState, PodEntry};
use super::template::Template;

/// Verdicts and scores per template.
#[derive(Debug, Default)]
pub struct Memo {
    /// Nodes that changed, one after the other.
    changed: Vec<NodeIx>,
    /// Before that, all nodes count as changed.
    forgotten: usize,
    kinds: FxHashMap<usize, Kind>,
}

#[derive(Debug)]
struct Kind {
    /// Keeps the template's address from being used again.
    _template: Arc<Template>,
    /// Up to where `changed` was taken in.
    seen: usize,
    nodes: Vec<Answer>,
    /// Raw scores: all plugins of the first node, then of the second.
    scores: Vec<i64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Answer {
    #[default]
    Unknown,
    Refused,
    Fits,
    Scored,
}

impl Memo {
    /// Whether a profile's verdicts on this pod can be remembered; after PreFilter, whose skips are
    /// in `state`.
    pub fn suits(framework: &Framework, state: &CycleState, pod: &PodEntry) -> bool {
        (framework.at(Point::Filter)).all(|p| state.skip_filter.has(p.name()) || p.by_node(pod))
    }

    /// A node's row or pods changed.
    pub fn node_changed(&mut self, node: NodeIx) {
        if self.changed.len() - self.forgotten > 1 << 16 {
            self.forgotten = self.changed.len();
        }
        self.changed.push(node);
    }

    fn kind(&mut self, pod: &PodEntry, nodes: usize, plugins: usize) -> &mut Kind {
        let key = Arc::as_ptr(&pod.template) as usize;
        let kind = self.kinds.entry(key).or_insert_with(|| Kind {
            _template: pod.template.clone(),
            seen: 0,
            nodes: Vec::new(),
            scores: Vec::new(),
        });
        let all = kind.seen < self.forgotten || kind.nodes.len() != nodes;
        if all {
            kind.nodes.clear();
            kind.nodes.resize(nodes, Answer::Unknown);
            kind.scores.clear();
            kind.scores.resize(nodes * plugins, 0);
        } else {
            for node in &self.changed[kind.seen..] {
                kind.nodes[*node] = Answer::Unknown;
            }
        }
        kind.seen = self.changed.len();
        kind
    }

    /// The nodes that fit, in the order of the search, and where the next search starts: as
    /// [`super::cycle::find_nodes`] without nominations, for a pod that [`Memo::suits`].
    pub fn find(
        &mut self,
        framework: &Framework,
        cx: &Cx<'_>,
        state: &CycleState,
        pod: &PodEntry,
        (percentage, start): (i32, usize),
    ) -> (Vec<NodeIx>, usize) {
        let order = cx.cache.order();
        let mut feasible = Vec::new();
        if order.is_empty() {
            return (feasible, start);
        }
        let percentage = framework.percentage_of_nodes_to_score.unwrap_or(percentage);
        let wanted = match framework.any(Point::Score) {
            true => feasible_to_find(percentage, order.len()),
            false => 1,
        };
        let plugins = framework.at(Point::Score).count();
        let kind = self.kind(pod, cx.cache.places(), plugins);
        let mut processed = 0;
        let (before, after) = order.split_at(start % order.len());
        for ix in after.iter().chain(before) {
            processed += 1;
            let answer = &mut kind.nodes[*ix];
            if *answer == Answer::Unknown {
                let verdict = framework.filter(cx, state, pod, cx.cache.node(*ix));
                *answer = if verdict.is_ok() {
                    Answer::Fits
                } else {
                    Answer::Refused
                };
            }
            if *answer != Answer::Refused {
                feasible.push(*ix);
                if feasible.len() >= wanted {
                    break;
                }
            }
        }
        (feasible, (start + processed) % order.len())
    }

    /// The weighted sums of all plugins' scores, in the order of the nodes that
    /// [`Memo::find`] gave.
    pub fn score(
        &mut self,
        framework: &Framework,
        cx: &Cx<'_>,
        state: &mut CycleState,
        pod: &PodEntry,
        nodes: &[NodeIx],
    ) -> Vec<i64> {
        framework.pre_score(cx, state, pod, nodes);
        let plugins: Vec<_> = framework.at(Point::Score).collect();
        let kind = self.kind(pod, cx.cache.places(), plugins.len());
        for ix in nodes {
            if kind.nodes[*ix] != Answer::Scored {
                kind.nodes[*ix] = Answer::Scored;
                let scores = &mut kind.scores[ix * plugins.len()..][..plugins.len()];
                for (plugin, score) in plugins.iter().zip(scores) {
                    if plugin.by_node(pod) && !state.skip_score.has(plugin.name()) {
                        *score = plugin.score(cx, state, pod, cx.cache.node(*ix));
                    }
                }
            }
        }
        let mut all = Vec::with_capacity(plugins.len());
        for (at, plugin) in plugins.iter().enumerate() {
            if state.skip_score.has(plugin.name()) {
                continue;
            }
            let raw = nodes.iter().map(|ix| match plugin.by_node(pod) {
                true => kind.scores[ix * plugins.len() + at],
                false => plugin.score(cx, state, pod, cx.cache.node(*ix)),
            });
            let mut scores: Vec<i64> = raw.collect();
            plugin.normalize(cx, state, nodes, &mut scores);
            all.push(PluginScores {
                plugin: plugin.name(),
                weight: framework.weight(plugin.name()),
                raw: Vec::new(),
                normalized: scores,
            });
        }
        totals(&all, nodes.len())
    }
}
