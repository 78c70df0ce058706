//! Affinity and anti-affinity between pods: `filter` holds required terms, `score` preferred ones.
//!
//! Terms are matched against classes of pods (see `cache`), so that thousands of equal pods cost as
//! much as one.

mod filter;

mod kept;

mod score;

use std::sync::Arc;

pub use filter::AffinityFilter;
pub use kept::KeptAffinity;
pub use score::AffinityScore;

use crate::api::{Node, Pod, Text};
use crate::sched::cache::NodeIx;
use crate::sched::config::PodAffinityArgs;
use crate::sched::events::{
    ADD, ClusterEvent, DELETE, Involved, Resource, UPDATE_NODE_LABEL, UPDATE_POD_LABEL, event,
};
use crate::sched::node_info::NodeInfo;
use crate::sched::plugin::{
    Cx, CycleState, Plugin, PluginName, PodEntry, Points, PreFilter, Status,
};
use crate::sched::template::Term;

/// The plugin with its arguments.
#[derive(Debug)]
pub struct InterPodAffinity(pub PodAffinityArgs);

/// `podMatchesAllAffinityTerms`: no terms match nothing.
fn all<T>(terms: &[T], matches: impl FnMut(&T) -> bool) -> bool {
    !terms.is_empty() && terms.iter().all(matches)
}

/// Terms of a pod in `owner` against another pod.
fn matches_all(cx: &Cx<'_>, terms: &[Term], owner: &Text, pod: &Pod) -> bool {
    let meta = &pod.meta;
    all(terms, |t| {
        t.matches_for(owner, &meta.namespace, &meta.labels, cx.view)
    })
}

impl InterPodAffinity {
    fn pod_hint(&self, pod: &PodEntry, old: Option<&Pod>, new: Option<&Pod>) -> bool {
        let itself = |p: &Pod| p.meta.uid == pod.pod.meta.uid;
        if old.is_some() && new.is_some_and(itself) {
            return true;
        }
        let waits = |p: &Pod| p.node_name.is_none() && p.status.nominated_node.is_none();
        if new.is_some_and(waits) || old.is_some_and(waits) {
            return false;
        }
        let owner = &pod.pod.meta.namespace;
        let template = &pod.template;
        let selects = |t: &Term, p: &Pod| t.matches_alone(owner, &p.meta.namespace, &p.meta.labels);
        let wanted = |p: &Pod| all(&template.required, |t| selects(t, p));
        let unwanted = |p: &Pod| all(&template.anti_required, |t| selects(t, p));
        match (old, new) {
            (Some(old), Some(new)) => {
                !wanted(old) && wanted(new) || unwanted(old) && !unwanted(new)
            }
            (None, Some(new)) => wanted(new),
            (Some(old), None) => unwanted(old) || repels(old, &pod.pod),
            (None, None) => true,
        }
    }

    fn node_hint(&self, pod: &PodEntry, old: Option<&Node>, new: &Node) -> bool {
        let affinity = pod.pod.spec.affinity.as_deref();
        let keys = |anti: bool| {
            let terms = affinity.map(|a| {
                if anti {
                    &a.anti_required
                } else {
                    &a.pod_required
                }
            });
            terms.into_iter().flatten().map(|t| &t.topology_key)
        };
        let value = |node: &Node, key: &Text| node.meta.labels.get(key).cloned();
        let Some(old) = old else {
            return keys(false).any(|k| new.meta.labels.contains(k)) || keys(true).next().is_some();
        };
        let moved = |k: &Text| {
            let (before, after) = (value(old, k), value(new, k));
            before.is_some() && after.is_some() && before != after
        };
        keys(false).any(|k| value(old, k).is_none() && value(new, k).is_some() || moved(k))
            || keys(true).any(|k| value(old, k).is_some() && value(new, k).is_none() || moved(k))
    }
}

/// Whether required anti-affinity of `holder` matches `pod` in all its terms.
fn repels(holder: &Pod, pod: &Pod) -> bool {
    let affinity = holder.spec.affinity.as_deref();
    let terms = affinity.map_or(&[][..], |a| &a.anti_required);
    let owner = &holder.meta.namespace;
    let meta = &pod.meta;
    all(terms, |t| {
        Term::api_matches_alone(t, owner, &meta.namespace, &meta.labels)
    })
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> PluginName {
        PluginName::InterPodAffinity
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER
            .and(Points::FILTER)
            .and(Points::PRE_SCORE)
            .and(Points::SCORE)
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const EVENTS: &[ClusterEvent] = &[
            event(Resource::Pod, ADD | UPDATE_POD_LABEL | DELETE),
            event(Resource::Node, ADD | UPDATE_NODE_LABEL),
        ];
        EVENTS
    }

    fn hint(&self, _cx: &Cx<'_>, pod: &PodEntry, involved: &Involved<'_>) -> bool {
        match involved {
            Involved::Pod(old, new) => self.pod_hint(pod, *old, *new),
            Involved::Node(old, Some(new)) => self.node_hint(pod, *old, new),
            _ => true,
        }
    }

    fn pre_filter(&self, cx: &Cx<'_>, state: &mut CycleState, pod: &PodEntry) -> PreFilter {
        let kept = state.kept.affinity.as_mut();
        let kept = kept.filter(|_| kept::keeps(cx, pod));
        state.affinity_filter = match kept.and_then(|kept| kept.filter(cx, pod, self.0)) {
            Some(found) => found,
            None => AffinityFilter::new(cx, pod).map(Arc::new),
        };
        match state.affinity_filter {
            None => PreFilter::Skip,
            Some(_) => PreFilter::All,
        }
    }

    fn add_pod(
        &self,
        cx: &Cx<'_>,
        state: &mut CycleState,
        pod: &PodEntry,
        other: &PodEntry,
        node: &NodeInfo,
    ) {
        if let Some(state) = &mut state.affinity_filter {
            Arc::make_mut(state).update(cx, pod, other, node.ix, 1);
        }
    }

    fn remove_pod(
        &self,
        cx: &Cx<'_>,
        state: &mut CycleState,
        pod: &PodEntry,
        other: &PodEntry,
        node: &NodeInfo,
    ) {
        if let Some(state) = &mut state.affinity_filter {
            Arc::make_mut(state).update(cx, pod, other, node.ix, -1);
        }
    }

    fn filter(
        &self,
        cx: &Cx<'_>,
        state: &CycleState,
        pod: &PodEntry,
        node: &NodeInfo,
    ) -> Result<(), Status> {
        match &state.affinity_filter {
            Some(state) => state.check(cx, pod, node.ix),
            None => Ok(()),
        }
    }

    fn pre_score(
        &self,
        cx: &Cx<'_>,
        state: &mut CycleState,
        pod: &PodEntry,
        _nodes: &[NodeIx],
    ) -> bool {
        let template = &pod.template;
        let own = !template.preferred.is_empty() || !template.anti_preferred.is_empty();
        if self.0.ignore_preferred && !own {
            return false;
        }
        let kept = state.kept.affinity.as_mut();
        let kept = kept.filter(|_| kept::keeps(cx, pod));
        state.affinity_score = match kept.and_then(|kept| kept.score(cx, pod, self.0)) {
            Some(found) => found,
            None => AffinityScore::new(cx, pod, self.0).map(Arc::new),
        };
        state.affinity_score.is_some()
    }

    fn scores_alike(&self, cx: &Cx<'_>, pod: &PodEntry) -> bool {
        let template = &pod.template;
        let own = !template.preferred.is_empty() || !template.anti_preferred.is_empty();
        !own && (self.0.ignore_preferred || cx.cache.classes_with_affinity().next().is_none())
    }

    fn score(&self, cx: &Cx<'_>, state: &CycleState, _pod: &PodEntry, node: &NodeInfo) -> i64 {
        let state = state.affinity_score.as_ref();
        state.map_or(0, |state| state.score(cx, node.ix))
    }

    fn normalize(&self, _cx: &Cx<'_>, _state: &CycleState, _nodes: &[NodeIx], scores: &mut [i64]) {
        score::normalize(scores);
    }
}
