//! One scheduling cycle: which nodes fit, which of them is best, and what to say when none does
//! (`pkg/scheduler/schedule_one.go`).

use std::collections::BTreeMap;

use super::cache::NodeIx;
use super::config::Point;
use super::equal_pods::ClassMemo;
use super::framework::{Framework, PluginScores, PreFiltered};
use super::plugin::{Code, Cx, CycleState, PluginSet, PodEntry, Status};
use super::queue::Nominator;
use super::ranking::Wanted;
use super::refusals::Refusals;
use crate::engine::draws::{Draws, Purpose, entity_key};

/// Chooses among nodes of equal score; keyed by the pod's name and the attempt.
const TIE: Purpose = Purpose::new("sched/select-host");
/// Below so many nodes, all are tried (`minFeasibleNodesToFind`).
const MIN_FEASIBLE: usize = 100;
/// At least so many percent are tried (`minFeasibleNodesPercentageToFind`).
const MIN_PERCENTAGE: i32 = 5;

/// Why no node fits: `framework.Diagnosis`.
#[derive(Clone, Debug, Default)]
pub struct Diagnosis {
    /// Nodes that were tried, with their refusals.
    pub nodes: Refusals,
    /// What is said of nodes that were not tried (left out before Filter).
    pub absent: Option<Status>,
    /// Plugins that rejected the pod anywhere.
    pub rejected_by: PluginSet,
    /// PreFilter's refusal of the pod as a whole.
    pub pre_filter: Option<String>,
    /// What PostFilter said.
    pub post_filter: String,
}

impl Diagnosis {
    fn note(&mut self, status: &Status) {
        if let Some(plugin) = status.plugin
            && status.code != Code::Error
        {
            self.rejected_by.insert(plugin);
        }
    }

    /// `FitError.Error`.
    pub fn message(&self, all_nodes: usize) -> String {
        let mut message = format!("0/{all_nodes} nodes are available:");
        if let Some(reason) = &self.pre_filter {
            message.push_str(&format!(" {reason}."));
        } else {
            let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
            for (status, nodes) in self.nodes.counted() {
                for reason in &status.reasons {
                    *reasons.entry(reason).or_insert(0) += nodes;
                }
            }
            if self.nodes.len() < all_nodes
                && let Some(absent) = &self.absent
            {
                for reason in &absent.reasons {
                    *reasons.entry(reason).or_insert(0) += all_nodes - self.nodes.len();
                }
            }
            let reasons = reasons.iter();
            let mut lines: Vec<String> = reasons.map(|(r, n)| format!("{n} {r}")).collect();
            lines.sort();
            if !lines.is_empty() {
                message.push_str(&format!(" {}.", lines.join(", ")));
            }
        }
        if !self.post_filter.is_empty() {
            message.push_str(&format!(" {}", self.post_filter));
        }
        message
    }
}

/// How the search for nodes is limited.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// Percentage of nodes to score of the whole configuration.
    pub percentage: i32,
    /// Where the search starts (`nextStartNodeIndex`).
    pub start: usize,
    /// Pods with a promise of room.
    pub nominator: &'a Nominator,
    /// No node is left out, even if the first that fits would do.
    pub thorough: bool,
    /// Who chooses among nodes of equal score, and for which attempt, when nothing but the choice
    /// is asked for.
    pub choice: Option<(&'a Draws, u32)>,
}

impl<'a> Search<'a> {
    /// All nodes in their order.
    pub fn all(nominator: &'a Nominator) -> Search<'a> {
        Search {
            percentage: 100,
            start: 0,
            nominator,
            thorough: true,
            choice: None,
        }
    }
}

/// What the search found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Feasible nodes in the order of the search; of a search for the choice alone, that one may be
    /// all that is here.
    pub feasible: Vec<NodeIx>,
    /// Refusals.
    pub diagnosis: Diagnosis,
    /// Nodes that were refused by what is remembered; they are part of the diagnosis only when no
    /// node fits.
    remembered: Vec<(NodeIx, u16)>,
    /// Nodes that were tried.
    pub evaluated: usize,
    /// Where the next search starts.
    pub next_start: usize,
    /// An error that ends the cycle without blaming the nodes.
    pub error: Option<String>,
}

impl Found {
    /// How many nodes were refused.
    fn refused(&self) -> usize {
        let nodes = &self.diagnosis.nodes;
        let more = self.remembered.iter();
        match nodes.is_empty() {
            true => more.len(),
            false => nodes.len() + more.filter(|(ix, _)| nodes.get(*ix).is_none()).count(),
        }
    }
}

/// `numFeasibleNodesToFind`.
pub fn feasible_to_find(percentage: i32, nodes: usize) -> usize {
    if nodes < MIN_FEASIBLE {
        return nodes;
    }
    let count = i32::try_from(nodes).unwrap_or(i32::MAX);
    let percentage = if percentage == 0 {
        (50 - count / 125).max(MIN_PERCENTAGE)
    } else {
        percentage
    };
    let found = usize::try_from(i64::from(count) * i64::from(percentage) / 100).unwrap_or(nodes);
    found.max(MIN_FEASIBLE)
}

/// `findNodesThatFitPod`: PreFilter, then Filter on the nominated node alone, then on the others
/// until enough fit. `memo` is asked for after PreFilter.
pub fn find_nodes<'m>(
    framework: &Framework,
    cx: &Cx<'_>,
    state: &mut CycleState,
    pod: &PodEntry,
    search: Search<'_>,
    memo: impl FnOnce(&CycleState) -> Option<&'m mut ClassMemo>,
) -> (Found, Option<&'m mut ClassMemo>) {
    let mut found = Found {
        next_start: search.start,
        ..Found::default()
    };
    let pre = framework.pre_filter(cx, state, pod);
    if early(&pre, &mut found) {
        return (found, None);
    }
    if let Some(name) = &pod.pod.status.nominated_node
        && let Some(info) = cx.cache.find(name)
    {
        let nodes = [info.ix];
        try_nodes(framework, cx, state, pod, &nodes, search, None, &mut found);
        if !found.feasible.is_empty() || found.error.is_some() {
            return (found, None);
        }
    }
    let order = cx.cache.order();
    let mut memo = memo(state);
    let everywhere = pre.nodes.is_none();
    let named;
    let nodes = match pre.nodes {
        None => order,
        Some(nodes) => {
            let names = pre.narrowed_by.names().join(" ");
            let message = format!("node(s) didn't satisfy plugin(s) [{names}]");
            found.diagnosis.absent = Some(Status::unresolvable(message));
            named = nodes.into_iter().collect::<Vec<NodeIx>>();
            &named
        }
    };
    if everywhere
        && let Some(class) = memo.as_deref_mut()
        && choose(framework, cx, state, pod, search, class, &mut found)
    {
        return (found, memo);
    }
    let class = memo.as_deref_mut();
    try_nodes(framework, cx, state, pod, nodes, search, class, &mut found);
    if found.feasible.len() > 1 && found.error.is_none() {
        found.error = framework.unscored(pod);
    }
    let processed = found.feasible.len() + found.refused();
    found.next_start = (search.start + processed) % order.len().max(1);
    if let Some(memo) = memo.as_deref_mut()
        && found.feasible.is_empty()
    {
        let numbers = memo.statuses().iter();
        let nodes = &mut found.diagnosis.nodes;
        let numbers: Vec<u32> = numbers.map(|status| nodes.number(status)).collect();
        for (ix, number) in std::mem::take(&mut found.remembered) {
            nodes.insert_numbered(ix, numbers[usize::from(number) - 1]);
        }
        let told: Vec<Status> = nodes.counted().map(|(s, _)| s.clone()).collect();
        for status in &told {
            found.diagnosis.note(status);
        }
    }
    (found, memo)
}

/// Finds the choice by what is kept of the nodes in their order, if it can be found so.
fn choose(
    framework: &Framework,
    cx: &Cx<'_>,
    state: &CycleState,
    pod: &PodEntry,
    search: Search<'_>,
    class: &mut ClassMemo,
    found: &mut Found,
) -> bool {
    let Some((draws, attempt)) = search.choice else {
        return false;
    };
    let promised = !search.nominator.is_empty() || pod.pod.status.nominated_node.is_some();
    if promised || framework.unscored(pod).is_some() {
        return false;
    }
    let nodes = cx.cache.order().len();
    let wanted = Wanted {
        start: search.start,
        enough: enough(framework, search, nodes),
    };
    let tie = |many| tie(draws, pod, attempt, many);
    let Some(best) = class.best(framework, cx, state, pod, wanted, tie) else {
        return false;
    };
    found.feasible.push(best.node);
    found.evaluated = best.tried;
    found.next_start = (search.start + best.tried) % nodes.max(1);
    true
}

/// So many nodes that fit end the search.
fn enough(framework: &Framework, search: Search<'_>, nodes: usize) -> usize {
    if search.thorough {
        return nodes;
    }
    if !framework.any(Point::Score) {
        return 1;
    }
    let percentage = framework.percentage_of_nodes_to_score;
    feasible_to_find(percentage.unwrap_or(search.percentage), nodes)
}

/// Whether PreFilter has decided already.
fn early(pre: &PreFiltered, found: &mut Found) -> bool {
    found.diagnosis.rejected_by = pre.narrowed_by;
    if let Some(status) = &pre.rejected {
        if status.code == Code::Error {
            found.error = Some(status.message());
            return true;
        }
        found.diagnosis.note(status);
        found.diagnosis.pre_filter = Some(status.message());
        found.diagnosis.absent = Some(status.clone());
        return true;
    }
    if !pre.unknown && pre.nodes.as_ref().is_some_and(|nodes| nodes.is_empty()) {
        let names = pre.narrowed_by.names();
        let message = match names.as_slice() {
            [one] => format!("node(s) didn't satisfy plugin {one}"),
            many => format!(
                "node(s) didn't satisfy plugin(s) [{}] simultaneously",
                many.join(" ")
            ),
        };
        found.diagnosis.pre_filter = Some(message.clone());
        found.diagnosis.absent = Some(Status::unresolvable(message));
        return true;
    }
    false
}

/// What is remembered of a node: the number of the refusal, 0 for none; `None` when the plugins must
/// be asked.
#[inline]
fn remembered(
    framework: &Framework,
    cx: &Cx<'_>,
    state: &CycleState,
    pod: &PodEntry,
    (ix, nominator): (NodeIx, &Nominator),
    memo: &mut ClassMemo,
) -> Option<u16> {
    if !nominator.promised(ix) {
        return Some(memo.refusal(framework, cx, state, pod, ix));
    }
    // Together with the nominated pods first, then without, as upstream.
    if !memo.complete() || nominator.node_of(pod.id) == Some(&cx.cache.node(ix).name) {
        return None;
    }
    match memo.refusal_beside(framework, cx, state, pod, (ix, nominator)) {
        0 => Some(memo.refusal(framework, cx, state, pod, ix)),
        number => Some(number),
    }
}

/// `findNodesThatPassFilters`, one node after the other. Upstream's sixteen workers may look at a
/// few more nodes before they stop.
#[expect(clippy::too_many_arguments, reason = "everything that a cycle knows")]
fn try_nodes(
    framework: &Framework,
    cx: &Cx<'_>,
    state: &CycleState,
    pod: &PodEntry,
    nodes: &[NodeIx],
    search: Search<'_>,
    mut memo: Option<&mut ClassMemo>,
    found: &mut Found,
) {
    if nodes.is_empty() {
        return;
    }
    let wanted = enough(framework, search, nodes.len());
    found.feasible.reserve(wanted.min(nodes.len()));
    let start = search.start % nodes.len();
    let (first, second) = nodes.split_at(start);
    for &ix in second.iter().chain(first) {
        found.evaluated += 1;
        let known = memo
            .as_deref_mut()
            .and_then(|memo| remembered(framework, cx, state, pod, (ix, search.nominator), memo));
        let verdict = match (known, memo.as_deref_mut()) {
            (Some(0), Some(memo)) => memo.filter_rest(framework, cx, state, pod, ix),
            (Some(number), Some(memo)) if memo.status(number).code == Code::Error => {
                Err(memo.status(number).clone())
            }
            (Some(number), _) => {
                found.remembered.push((ix, number));
                continue;
            }
            (None, _) => {
                let node = cx.cache.node(ix);
                framework.filter_with_nominated(cx, state, pod, node, search.nominator)
            }
        };
        match verdict {
            Ok(()) => {
                found.feasible.push(ix);
                if found.feasible.len() >= wanted {
                    break;
                }
            }
            Err(status) if status.code == Code::Error => {
                found.error = Some(status.message());
                break;
            }
            Err(status) => {
                found.diagnosis.note(&status);
                found.diagnosis.nodes.insert(ix, &status);
            }
        }
    }
}

/// Weighted sums of all plugins' scores, in the order of the nodes.
pub fn totals(scores: &[PluginScores], nodes: usize) -> Vec<i64> {
    let mut totals = vec![0; nodes];
    for plugin in scores {
        for (total, score) in totals.iter_mut().zip(&plugin.normalized) {
            *total += score * plugin.weight;
        }
    }
    totals
}

/// The best of several nodes; a draw decides among equals (upstream: at random). The draw is keyed
/// by the pod's name, so that it is the same whatever else happens in the cluster.
pub fn select(draws: &Draws, pod: &PodEntry, attempt: u32, totals: &[i64]) -> usize {
    let most = totals.iter().copied().max().unwrap_or(0);
    let mut best = (0..totals.len()).filter(|i| totals[*i] == most);
    let count = u32::try_from(best.clone().count()).unwrap_or(u32::MAX);
    let at = match count {
        0 | 1 => 0,
        many => tie(draws, pod, attempt, many),
    };
    best.nth(at as usize).unwrap_or(0)
}

/// Chooses among so many.
fn tie(draws: &Draws, pod: &PodEntry, attempt: u32, many: u32) -> u32 {
    let meta = &pod.pod.meta;
    let entity = entity_key(&[&meta.namespace, &meta.name]);
    let at = draws.below(TIE, entity, u64::from(attempt), u64::from(many));
    u32::try_from(at).expect("below many")
}
