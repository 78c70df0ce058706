//! Preferred terms: of the incoming pod against pods on nodes, and of pods on nodes against it.

use super::kept::Relation;
use crate::api::Text;
use crate::sched::cache::{Class, NO_DOMAIN, NodeIx, TopologyIx};
use crate::sched::config::PodAffinityArgs;
use crate::sched::plugin::{Cx, MAX_NODE_SCORE, PodEntry};
use crate::sched::template::Term;

/// `preScoreState`: the sum of weights per topology key and domain.
#[derive(Clone, Debug, Default)]
pub struct AffinityScore {
    topologies: Vec<(TopologyIx, Vec<i64>)>,
}

impl AffinityScore {
    /// `PreScore`; `None` when no term of anybody concerns the pod.
    pub(super) fn new(cx: &Cx<'_>, pod: &PodEntry, args: PodAffinityArgs) -> Option<AffinityScore> {
        let template = &pod.template;
        let own = !template.preferred.is_empty() || !template.anti_preferred.is_empty();
        if args.ignore_preferred && !own {
            return None;
        }
        let mut state = AffinityScore::default();
        if own {
            for class in cx.cache.classes() {
                state.process(cx, pod, class, args);
            }
        } else {
            for class in cx.cache.classes_with_affinity() {
                state.process(cx, pod, class, args);
            }
        }
        state.concerns().then_some(state)
    }

    /// Whether any term concerns the pod.
    pub(super) fn concerns(&self) -> bool {
        !self.topologies.is_empty()
    }

    /// Pods more or less that mean this to the incoming one.
    pub(super) fn count(&mut self, cx: &Cx<'_>, relation: &Relation, pods: &[(NodeIx, i64)]) {
        for (topology, weight) in &relation.weights {
            for (node, by) in pods {
                self.add_on(cx, *node, *topology, weight * by);
            }
        }
    }

    /// `processExistingPod`, for all pods of a class.
    fn process(&mut self, cx: &Cx<'_>, pod: &PodEntry, class: &Class, args: PodAffinityArgs) {
        let mine = &pod.pod.meta;
        let (own, theirs) = (&pod.template, &class.template);
        let to_class =
            |t: &Term, owner: &Text| t.matches_for(owner, &class.namespace, &class.labels, cx.view);
        for (weight, term) in &own.preferred {
            if to_class(term, &mine.namespace) {
                self.add(cx, class, term.topology, i64::from(*weight));
            }
        }
        for (weight, term) in &own.anti_preferred {
            if to_class(term, &mine.namespace) {
                self.add(cx, class, term.topology, -i64::from(*weight));
            }
        }
        let to_me = |t: &Term| t.matches(&class.namespace, &mine.namespace, &mine.labels, cx.view);
        if args.hard_weight > 0 {
            for term in theirs.required.iter().filter(|t| to_me(t)) {
                self.add(cx, class, term.topology, i64::from(args.hard_weight));
            }
        }
        for (weight, term) in theirs.preferred.iter().filter(|(_, t)| to_me(t)) {
            self.add(cx, class, term.topology, i64::from(*weight));
        }
        for (weight, term) in theirs.anti_preferred.iter().filter(|(_, t)| to_me(t)) {
            self.add(cx, class, term.topology, -i64::from(*weight));
        }
    }

    fn add(&mut self, cx: &Cx<'_>, class: &Class, topology: TopologyIx, weight: i64) {
        for count in &class.nodes {
            self.add_on(cx, count.node, topology, weight * i64::from(count.total));
        }
    }

    fn add_on(&mut self, cx: &Cx<'_>, node: NodeIx, topology: TopologyIx, weight: i64) {
        let domain = cx.cache.domain(topology, node);
        if domain == NO_DOMAIN {
            return;
        }
        let at = match self.topologies.iter().position(|(t, _)| *t == topology) {
            Some(at) => at,
            None => {
                let domains = vec![0; cx.cache.domains(topology)];
                self.topologies.push((topology, domains));
                self.topologies.len() - 1
            }
        };
        self.topologies[at].1[domain as usize] += weight;
    }

    /// The Score.
    pub(super) fn score(&self, cx: &Cx<'_>, node: NodeIx) -> i64 {
        let of = |(topology, sums): &(TopologyIx, Vec<i64>)| {
            let domain = cx.cache.domain(*topology, node);
            if domain == NO_DOMAIN {
                0
            } else {
                sums[domain as usize]
            }
        };
        self.topologies.iter().map(of).sum()
    }
}

/// `NormalizeScore`: the best node gets 100, the worst 0.
pub(super) fn normalize(scores: &mut [i64]) {
    let most = scores.iter().copied().max().unwrap_or(0);
    let least = scores.iter().copied().min().unwrap_or(0);
    let range = most - least;
    for score in scores {
        let scaled = if range > 0 {
            MAX_NODE_SCORE as f64 * ((*score - least) as f64 / range as f64)
        } else {
            0.0
        };
        *score = scaled as i64;
    }
}
