//! Required terms: of the incoming pod against pods on nodes, and of pods on nodes against it.

use super::kept::Relation;
use super::matches_all;
use crate::sched::cache::{NO_DOMAIN, NodeIx, TopologyIx};
use crate::sched::plugin::{Cx, PodEntry, Status};
use crate::sched::template::Term;

/// `topologyToMatchedTermCount`: matching pods per topology key and domain.
#[derive(Clone, Debug, Default)]
struct Counts {
    topologies: Vec<(TopologyIx, Vec<i64>)>,
    /// Domains whose count is not zero.
    nonzero: usize,
}

impl Counts {
    fn add(&mut self, cx: &Cx<'_>, topology: TopologyIx, node: NodeIx, by: i64) {
        let domain = cx.cache.domain(topology, node);
        if domain == NO_DOMAIN || by == 0 {
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
        let count = &mut self.topologies[at].1[domain as usize];
        let before = *count != 0;
        *count += by;
        match (before, *count != 0) {
            (false, true) => self.nonzero += 1,
            (true, false) => self.nonzero -= 1,
            _ => {}
        }
    }

    fn of(&self, topology: TopologyIx, domain: u32) -> i64 {
        let mut topologies = self.topologies.iter();
        let domains = topologies.find(|(t, _)| *t == topology);
        domains.map_or(0, |(_, domains)| domains[domain as usize])
    }
}

/// `preFilterState`.
#[derive(Clone, Debug, Default)]
pub struct AffinityFilter {
    /// Pods on nodes whose anti-affinity matches the incoming pod.
    repelling: Counts,
    /// Pods on nodes that the incoming pod's affinity matches.
    wanted: Counts,
    /// Pods on nodes that the incoming pod's anti-affinity matches.
    unwanted: Counts,
}

impl AffinityFilter {
    /// `PreFilter`; `None` when there is nothing to check.
    pub(super) fn new(cx: &Cx<'_>, pod: &PodEntry) -> Option<AffinityFilter> {
        let meta = &pod.pod.meta;
        let mut repelling = Counts::default();
        for class in cx.cache.classes_with_affinity() {
            for term in &class.template.anti_required {
                if term.matches(&class.namespace, &meta.namespace, &meta.labels, cx.view) {
                    for count in &class.nodes {
                        repelling.add(cx, term.topology, count.node, i64::from(count.total));
                    }
                }
            }
        }
        let template = &pod.template;
        if repelling.nonzero == 0
            && template.required.is_empty()
            && template.anti_required.is_empty()
        {
            return None;
        }
        let mut state = AffinityFilter {
            repelling,
            wanted: Counts::default(),
            unwanted: Counts::default(),
        };
        if !template.required.is_empty() || !template.anti_required.is_empty() {
            state.count_incoming(cx, pod);
        }
        Some(state)
    }

    /// Whether there is anything to check.
    pub(super) fn concerns(&self, pod: &PodEntry) -> bool {
        let template = &pod.template;
        self.repelling.nonzero > 0
            || !template.required.is_empty()
            || !template.anti_required.is_empty()
    }

    /// Pods more or less that mean this to the incoming one.
    pub(super) fn count(
        &mut self,
        cx: &Cx<'_>,
        pod: &PodEntry,
        relation: &Relation,
        pods: &[(NodeIx, i64)],
    ) {
        for (node, by) in pods {
            for topology in &relation.repels {
                self.repelling.add(cx, *topology, *node, *by);
            }
            if relation.wanted {
                for term in &pod.template.required {
                    self.wanted.add(cx, term.topology, *node, *by);
                }
            }
            for topology in &relation.unwanted {
                self.unwanted.add(cx, *topology, *node, *by);
            }
        }
    }

    /// `getIncomingAffinityAntiAffinityCounts`.
    fn count_incoming(&mut self, cx: &Cx<'_>, pod: &PodEntry) {
        let owner = &pod.pod.meta.namespace;
        let template = &pod.template;
        for class in cx.cache.classes() {
            let matches = |t: &Term| t.matches_for(owner, &class.namespace, &class.labels, cx.view);
            if !template.required.is_empty() && template.required.iter().all(matches) {
                for term in &template.required {
                    for count in &class.nodes {
                        let by = i64::from(count.total);
                        self.wanted.add(cx, term.topology, count.node, by);
                    }
                }
            }
            for term in template.anti_required.iter().filter(|t| matches(t)) {
                for count in &class.nodes {
                    let by = i64::from(count.total);
                    self.unwanted.add(cx, term.topology, count.node, by);
                }
            }
        }
    }

    /// `updateWithPod`.
    pub(super) fn update(
        &mut self,
        cx: &Cx<'_>,
        pod: &PodEntry,
        other: &PodEntry,
        node: NodeIx,
        by: i64,
    ) {
        let (mine, theirs) = (&pod.pod.meta, &other.pod.meta);
        for term in &other.template.anti_required {
            if term.matches(&theirs.namespace, &mine.namespace, &mine.labels, cx.view) {
                self.repelling.add(cx, term.topology, node, by);
            }
        }
        if matches_all(cx, &pod.template.required, &mine.namespace, &other.pod) {
            for term in &pod.template.required {
                self.wanted.add(cx, term.topology, node, by);
            }
        }
        for term in &pod.template.anti_required {
            if term.matches_for(&mine.namespace, &theirs.namespace, &theirs.labels, cx.view) {
                self.unwanted.add(cx, term.topology, node, by);
            }
        }
    }

    /// The Filter.
    pub(super) fn check(&self, cx: &Cx<'_>, pod: &PodEntry, node: NodeIx) -> Result<(), Status> {
        if !self.affinity(cx, pod, node) {
            return Err(Status::unresolvable(
                "node(s) didn't match pod affinity rules",
            ));
        }
        let repelled = |term: &Term| {
            let domain = cx.cache.domain(term.topology, node);
            domain != NO_DOMAIN && self.unwanted.of(term.topology, domain) > 0
        };
        if self.unwanted.nonzero > 0 && pod.template.anti_required.iter().any(repelled) {
            return Err(Status::unschedulable(
                "node(s) didn't match pod anti-affinity rules",
            ));
        }
        let repelling = self.repelling.topologies.iter();
        let mut repelling = repelling.map(|(t, counts)| (cx.cache.domain(*t, node), counts));
        if repelling.any(|(domain, counts)| domain != NO_DOMAIN && counts[domain as usize] > 0) {
            return Err(Status::unschedulable(
                "node(s) didn't satisfy existing pods anti-affinity rules",
            ));
        }
        Ok(())
    }

    /// `satisfyPodAffinity`: every term is met in the node's domain, or the pod is the first of its
    /// kind and matches its own terms.
    fn affinity(&self, cx: &Cx<'_>, pod: &PodEntry, node: NodeIx) -> bool {
        let terms = &pod.template.required;
        let mut met = true;
        for term in terms {
            let domain = cx.cache.domain(term.topology, node);
            if domain == NO_DOMAIN {
                return false;
            }
            met &= self.wanted.of(term.topology, domain) > 0;
        }
        let owner = &pod.pod.meta.namespace;
        met || self.wanted.nonzero == 0 && matches_all(cx, terms, owner, &pod.pod)
    }
}
