//! Counts of spread constraints that are kept from one cycle to the next.
//!
//! A cycle would count the matching pods of all nodes for each constraint; between two cycles a few
//! pods have moved. So the counts of a workload's constraints are kept and brought up to date with
//! the [moves](crate::sched::cache::Moves) since. They are counted anew when the constraints or
//! anything about the nodes changed that decides which nodes count. The results are those of
//! counting anew, which the property tests of `sched::tests` check.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{Active, SpreadFilter, has_all, score};
use crate::api::{Labels, Text};
use crate::sched::cache::Kin;
use crate::sched::plugin::{Cx, PodEntry};
use crate::sched::template::Template;

/// Workloads whose counts are kept.
const KEPT: usize = 64;
/// Classes of which a workload remembers which of its constraints count them.
const SELECTED: usize = 4096;

/// Address of the template, namespace and labels of the pod, hard constraints.
type Key = (usize, Text, Labels, bool);

/// The counts of some workloads' constraints.
#[derive(Debug, Default)]
pub struct KeptCounts {
    entries: FxHashMap<Key, Entry>,
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    /// Keeps its address from being used again.
    _template: Arc<Template>,
    constraints: Vec<Active>,
    counted: Counted,
    /// By serial number of a class: the constraints that count its pods, as bits.
    selected: FxHashMap<u64, u64>,
    /// As of this many moves and this state of the nodes.
    moves: u64,
    nodes: u64,
    last_use: u64,
}

#[derive(Debug)]
enum Counted {
    Hard(Arc<SpreadFilter>),
    Soft(Arc<Vec<Vec<i64>>>),
}

impl KeptCounts {
    /// The counts for hard constraints.
    pub(super) fn hard(
        &mut self,
        cx: &Cx<'_>,
        pod: &PodEntry,
        all: Vec<Active>,
    ) -> Arc<SpreadFilter> {
        let count =
            |all: &[Active]| Counted::Hard(Arc::new(SpreadFilter::new(cx, pod, all.to_vec())));
        match self.entry(cx, pod, all, true, count, true) {
            Counted::Hard(filter) => filter.clone(),
            Counted::Soft(_) => unreachable!("the key says hard"),
        }
    }

    /// The counts for soft constraints, over all nodes.
    pub(super) fn soft(
        &mut self,
        cx: &Cx<'_>,
        pod: &PodEntry,
        all: &[Active],
        require_all: bool,
    ) -> Arc<Vec<Vec<i64>>> {
        let count =
            |all: &[Active]| Counted::Soft(Arc::new(score::count_all(cx, pod, all, require_all)));
        match self.entry(cx, pod, all.to_vec(), false, count, require_all) {
            Counted::Soft(counts) => counts.clone(),
            Counted::Hard(_) => unreachable!("the key says soft"),
        }
    }

    fn entry(
        &mut self,
        cx: &Cx<'_>,
        pod: &PodEntry,
        constraints: Vec<Active>,
        hard: bool,
        count: impl FnOnce(&[Active]) -> Counted,
        require_all: bool,
    ) -> &Counted {
        self.uses += 1;
        let meta = &pod.pod.meta;
        let address = Arc::as_ptr(&pod.template) as usize;
        let key = (address, meta.namespace.clone(), meta.labels.clone(), hard);
        if !self.entries.contains_key(&key) && self.entries.len() >= KEPT {
            let oldest = self.entries.values().map(|e| e.last_use).min();
            self.entries.retain(|_, e| Some(e.last_use) != oldest);
        }
        let (moves, nodes) = (cx.cache.moves().total(), cx.cache.topology_stamp());
        let known = self.entries.get_mut(&key).is_some_and(|entry| {
            entry.constraints == constraints
                && constraints.len() <= 64
                && entry.nodes == nodes
                && entry.follow(cx, pod, require_all)
        });
        if !known {
            let entry = Entry {
                _template: pod.template.clone(),
                counted: count(&constraints),
                selected: FxHashMap::default(),
                constraints,
                moves,
                nodes,
                last_use: 0,
            };
            self.entries.insert(key.clone(), entry);
        }
        let entry = self.entries.get_mut(&key).expect("known or just made");
        entry.last_use = self.uses;
        &entry.counted
    }
}

impl Entry {
    /// Takes in the moves since; false when too many have been forgotten.
    fn follow(&mut self, cx: &Cx<'_>, pod: &PodEntry, require_all: bool) -> bool {
        let moves = cx.cache.moves();
        let Some(news) = moves.since(self.moves) else {
            return false;
        };
        if self.selected.len() > SELECTED {
            self.selected.clear();
        }
        let constraints = &self.constraints;
        let mut changed = false;
        for one in news.filter(|one| one.live != 0) {
            let by = self.selected.entry(one.kin.serial);
            let by = *by.or_insert_with(|| selecting(constraints, pod, &one.kin));
            for at in (0..constraints.len()).filter(|at| by & (1 << at) != 0) {
                changed = true;
                match &mut self.counted {
                    Counted::Hard(filter) => {
                        if has_all(cx.cache, constraints, one.node) {
                            Arc::make_mut(filter).moved(cx, pod, at, one.node, one.live);
                        }
                    }
                    Counted::Soft(soft) => {
                        let counts = &mut Arc::make_mut(soft)[at];
                        score::moved(cx, pod, (require_all, constraints), at, one, counts);
                    }
                }
            }
        }
        if changed && let Counted::Hard(filter) = &mut self.counted {
            Arc::make_mut(filter).find_critical();
        }
        self.moves = moves.total();
        true
    }
}

/// The constraints that count pods of a class, as bits.
fn selecting(constraints: &[Active], pod: &PodEntry, kin: &Kin) -> u64 {
    if kin.namespace != pod.pod.meta.namespace {
        return 0;
    }
    let mut bits = 0;
    for (at, c) in constraints.iter().enumerate() {
        if !c.selector.is_empty() && c.selector.matches(&kin.labels) {
            bits |= 1 << at;
        }
    }
    bits
}
