//! What affinity between pods comes to for a workload, kept from one cycle to the next.
//!
//! A cycle would match the terms of all classes of pods with the pod's own and count over all nodes;
//! between two cycles a few pods have moved. So the sums of a workload are kept and brought up to
//! date with the [moves](crate::sched::cache::Moves) since. What a class means to a workload never
//! changes, and is worked out once. Sums are made anew when nodes came or went, or changed their
//! labels. Nothing is kept while anybody selects namespaces by label, which may change by itself.
//! The results are those of counting anew, which the property tests of `sched::tests` check.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::filter::AffinityFilter;
use super::score::AffinityScore;
use crate::api::{Labels, Text};
use crate::sched::cache::{Kin, NodeIx, TopologyIx};
use crate::sched::config::PodAffinityArgs;
use crate::sched::plugin::{Cx, PodEntry};
use crate::sched::template::{Template, Term};

/// Workloads whose sums are kept.
const KEPT: usize = 64;
/// Workloads of which it is remembered that they came once.
const SEEN: usize = 1024;
/// Classes of which a workload remembers what they mean to it.
const RELATIONS: usize = 4096;

/// Address of the template, namespace and labels of the pod, the plugin's arguments.
type Key = (usize, Text, Labels, PodAffinityArgs);

/// The sums of some workloads.
#[derive(Debug, Default)]
pub struct KeptAffinity {
    entries: FxHashMap<Key, Entry>,
    /// Workloads that came once; the template keeps its address from being used again.
    seen: FxHashMap<Key, Arc<Template>>,
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    /// Keeps its address from being used again.
    _template: Arc<Template>,
    filter: Arc<AffinityFilter>,
    score: Arc<AffinityScore>,
    /// By serial number of the class.
    relations: FxHashMap<u64, Relation>,
    /// As of this many moves and this state of the nodes.
    moves: u64,
    nodes: u64,
    last_use: u64,
}

/// What each pod of a class means to a workload.
#[derive(Debug, Default)]
pub struct Relation {
    /// Its anti-affinity matches the workload, in these topologies.
    pub repels: SmallVec<[TopologyIx; 1]>,
    /// The workload's affinity matches it, in all terms.
    pub wanted: bool,
    /// The workload's anti-affinity matches it, in these topologies.
    pub unwanted: SmallVec<[TopologyIx; 1]>,
    /// What it adds to the scores of a domain.
    pub weights: SmallVec<[(TopologyIx, i64); 2]>,
}

impl Relation {
    /// `getExistingAntiAffinityCounts`, `getIncomingAffinityAntiAffinityCounts` and
    /// `processExistingPod` for one pod of the class.
    fn new(cx: &Cx<'_>, pod: &PodEntry, kin: &Kin, args: PodAffinityArgs) -> Relation {
        let mine = &pod.pod.meta;
        let (own, theirs) = (&pod.template, &kin.template);
        let to_class =
            |t: &Term| t.matches_for(&mine.namespace, &kin.namespace, &kin.labels, cx.view);
        let to_me = |t: &Term| t.matches(&kin.namespace, &mine.namespace, &mine.labels, cx.view);
        let mut weights: SmallVec<[(TopologyIx, i64); 2]> = SmallVec::new();
        let mut weigh = |term: &Term, weight: i32| {
            weights.push((term.topology, i64::from(weight)));
        };
        for (weight, term) in own.preferred.iter().filter(|(_, t)| to_class(t)) {
            weigh(term, *weight);
        }
        for (weight, term) in own.anti_preferred.iter().filter(|(_, t)| to_class(t)) {
            weigh(term, -*weight);
        }
        if args.hard_weight > 0 {
            for term in theirs.required.iter().filter(|t| to_me(t)) {
                weigh(term, args.hard_weight);
            }
        }
        for (weight, term) in theirs.preferred.iter().filter(|(_, t)| to_me(t)) {
            weigh(term, *weight);
        }
        for (weight, term) in theirs.anti_preferred.iter().filter(|(_, t)| to_me(t)) {
            weigh(term, -*weight);
        }
        let topologies = |terms: &[Term], of: &dyn Fn(&Term) -> bool| {
            let terms = terms.iter().filter(|t| of(t));
            terms.map(|t| t.topology).collect()
        };
        Relation {
            repels: topologies(&theirs.anti_required, &to_me),
            wanted: !own.required.is_empty() && own.required.iter().all(to_class),
            unwanted: topologies(&own.anti_required, &to_class),
            weights,
        }
    }

    fn is_none(&self) -> bool {
        let Relation {
            repels,
            wanted,
            unwanted,
            weights,
        } = self;
        repels.is_empty() && !wanted && unwanted.is_empty() && weights.is_empty()
    }
}

/// Whether sums may be kept for this pod, and are worth it.
pub(super) fn keeps(cx: &Cx<'_>, pod: &PodEntry) -> bool {
    let concerned =
        pod.template.has_affinity() || cx.cache.classes_with_affinity().next().is_some();
    concerned && !cx.cache.selects_namespaces() && !pod.template.selects_namespaces()
}

impl KeptAffinity {
    /// What required terms come to, or `None` inside when there is nothing to check; `None` when
    /// nothing is kept for the workload (yet).
    pub(super) fn filter(
        &mut self,
        cx: &Cx<'_>,
        pod: &PodEntry,
        args: PodAffinityArgs,
    ) -> Option<Option<Arc<AffinityFilter>>> {
        let filter = &self.entry(cx, pod, args, true)?.filter;
        Some(filter.concerns(pod).then(|| filter.clone()))
    }

    /// What preferred terms come to, or `None` inside when no term of anybody concerns the pod;
    /// `None` when nothing is kept for the workload.
    pub(super) fn score(
        &mut self,
        cx: &Cx<'_>,
        pod: &PodEntry,
        args: PodAffinityArgs,
    ) -> Option<Option<Arc<AffinityScore>>> {
        let score = &self.entry(cx, pod, args, false)?.score;
        Some(score.concerns().then(|| score.clone()))
    }

    /// The sums of a workload. With `begin` they are kept from its second pod on: labels that no
    /// other pod has would only push out others.
    fn entry(
        &mut self,
        cx: &Cx<'_>,
        pod: &PodEntry,
        args: PodAffinityArgs,
        begin: bool,
    ) -> Option<&Entry> {
        self.uses += 1;
        let meta = &pod.pod.meta;
        let address = Arc::as_ptr(&pod.template) as usize;
        let key = (address, meta.namespace.clone(), meta.labels.clone(), args);
        if !self.entries.contains_key(&key) {
            if !begin {
                return None;
            }
            if self.seen.remove(&key).is_none() {
                if self.seen.len() >= SEEN {
                    self.seen.clear();
                }
                self.seen.insert(key, pod.template.clone());
                return None;
            }
            if self.entries.len() >= KEPT {
                let oldest = self.entries.values().map(|e| e.last_use).min();
                self.entries.retain(|_, e| Some(e.last_use) != oldest);
            }
        }
        let uses = self.uses;
        let entry = self.entries.entry(key).or_insert_with(|| Entry {
            _template: pod.template.clone(),
            filter: Arc::default(),
            score: Arc::default(),
            relations: FxHashMap::default(),
            moves: 0,
            nodes: 0,
            last_use: 0,
        });
        entry.bring_up_to_date(cx, pod, args);
        entry.last_use = uses;
        Some(entry)
    }
}

impl Entry {
    fn bring_up_to_date(&mut self, cx: &Cx<'_>, pod: &PodEntry, args: PodAffinityArgs) {
        let (moves, nodes) = (cx.cache.moves(), cx.cache.topology_stamp());
        let own = pod.template.has_affinity();
        let concerns = |kin: &Kin| own || kin.template.has_affinity();
        if self.relations.len() > RELATIONS {
            self.relations.clear();
        }
        // A fresh entry is of no state of the nodes: those begin at 1.
        let news = (self.nodes == nodes).then(|| moves.since(self.moves));
        if let Some(Some(news)) = news {
            for one in news.filter(|one| one.total != 0 && concerns(&one.kin)) {
                self.count(cx, pod, args, &one.kin, &[(one.node, i64::from(one.total))]);
            }
        } else {
            self.filter = Arc::default();
            self.score = Arc::default();
            for class in cx.cache.classes().filter(|class| concerns(&class.kin)) {
                let nodes = class.nodes.iter();
                let pods: Vec<_> = nodes.map(|c| (c.node, i64::from(c.total))).collect();
                self.count(cx, pod, args, &class.kin, &pods);
            }
        }
        (self.moves, self.nodes) = (moves.total(), nodes);
    }

    /// Pods of a class more or less.
    fn count(
        &mut self,
        cx: &Cx<'_>,
        pod: &PodEntry,
        args: PodAffinityArgs,
        kin: &Kin,
        pods: &[(NodeIx, i64)],
    ) {
        let relation = self.relations.entry(kin.serial);
        let relation = relation.or_insert_with(|| Relation::new(cx, pod, kin, args));
        if relation.is_none() {
            return;
        }
        Arc::make_mut(&mut self.filter).count(cx, pod, relation, pods);
        Arc::make_mut(&mut self.score).count(cx, relation, pods);
    }
}
