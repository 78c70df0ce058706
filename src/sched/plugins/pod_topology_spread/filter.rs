//! Hard constraints: no domain may have more than `maxSkew` pods above the emptiest one.

use super::{Active, has_all};
use crate::sched::cache::{NO_DOMAIN, NodeIx};
use crate::sched::node_info::NodeInfo;
use crate::sched::plugin::{Cx, PodEntry, Status};

/// A domain that no eligible node is in.
const ABSENT: i32 = i32::MIN;

/// `preFilterState`: pods per domain for each constraint, and the two emptiest domains.
#[derive(Clone, Debug)]
pub struct SpreadFilter {
    constraints: Vec<Active>,
    counts: Vec<Counts>,
    selects_itself: Vec<bool>,
}

#[derive(Clone, Debug)]
struct Counts {
    by_domain: Vec<i32>,
    domains: usize,
    critical: [(Option<u32>, i32); 2],
}

impl Counts {
    fn add(&mut self, domain: u32, by: i32) -> i32 {
        let at = domain as usize;
        if at >= self.by_domain.len() {
            self.by_domain.resize(at + 1, ABSENT);
        }
        let count = &mut self.by_domain[at];
        if *count == ABSENT {
            *count = 0;
            self.domains += 1;
        }
        *count += by;
        *count
    }

    /// `criticalPaths.update`: keeps the emptiest domain first. The second is only as good as it
    /// needs to be for one removal or addition at a time.
    fn track(&mut self, domain: u32, count: i32) {
        let paths = &mut self.critical;
        if let Some(at) = paths.iter().position(|(d, _)| *d == Some(domain)) {
            paths[at].1 = count;
            if paths[0].1 > paths[1].1 {
                paths.swap(0, 1);
            }
        } else if count < paths[0].1 {
            paths[1] = paths[0];
            paths[0] = (Some(domain), count);
        } else if count < paths[1].1 {
            paths[1] = (Some(domain), count);
        }
    }

    /// The two emptiest domains, of all.
    fn find_critical(&mut self) {
        self.critical = [(None, i32::MAX); 2];
        for domain in 0..self.by_domain.len() {
            let count = self.by_domain[domain];
            if count != ABSENT {
                self.track(domain as u32, count);
            }
        }
    }

    fn least(&self, min_domains: i32) -> i32 {
        if self.domains < usize::try_from(min_domains).unwrap_or(0) {
            return 0;
        }
        self.critical[0].1
    }

    fn of(&self, domain: u32) -> i32 {
        let count = self.by_domain.get(domain as usize).copied();
        count.filter(|c| *c != ABSENT).unwrap_or(0)
    }
}

impl SpreadFilter {
    /// `calPreFilterState`.
    pub(super) fn new(cx: &Cx<'_>, pod: &PodEntry, constraints: Vec<Active>) -> SpreadFilter {
        let eligible: Vec<_> = cx
            .cache
            .order()
            .iter()
            .filter(|ix| has_all(cx.cache, &constraints, **ix))
            .collect();
        let counts = constraints.iter().map(|c| {
            let per_node = c.per_node(cx, &pod.pod.meta.namespace);
            let mut counts = Counts {
                by_domain: vec![ABSENT; cx.cache.domains(c.topology)],
                domains: 0,
                critical: [(None, i32::MAX); 2],
            };
            for ix in &eligible {
                if c.includes(pod, cx.cache.node(**ix).row()) {
                    let by = i32::try_from(per_node[**ix]).unwrap_or(i32::MAX);
                    counts.add(cx.cache.domain(c.topology, **ix), by);
                }
            }
            counts.find_critical();
            counts
        });
        let labels = &pod.pod.meta.labels;
        SpreadFilter {
            counts: counts.collect(),
            selects_itself: constraints
                .iter()
                .map(|c| c.selector.matches(labels))
                .collect(),
            constraints,
        }
    }

    /// A pod that constraint `at` counts came to an eligible node or left it;
    /// [`SpreadFilter::find_critical`] must follow.
    pub(super) fn moved(&mut self, cx: &Cx<'_>, pod: &PodEntry, at: usize, node: NodeIx, by: i32) {
        let c = &self.constraints[at];
        if c.includes(pod, cx.cache.node(node).row()) {
            self.counts[at].add(cx.cache.domain(c.topology, node), by);
        }
    }

    /// Finds the emptiest domains after pods moved.
    pub(super) fn find_critical(&mut self) {
        for counts in &mut self.counts {
            counts.find_critical();
        }
    }

    /// `updateWithPod`.
    pub(super) fn update(
        &mut self,
        cx: &Cx<'_>,
        pod: &PodEntry,
        other: &PodEntry,
        node: &NodeInfo,
        by: i32,
    ) {
        if other.pod.meta.namespace != pod.pod.meta.namespace
            || !has_all(cx.cache, &self.constraints, node.ix)
        {
            return;
        }
        for (c, counts) in self.constraints.iter().zip(&mut self.counts) {
            if c.selector.matches(&other.pod.meta.labels) && c.includes(pod, node.row()) {
                let domain = cx.cache.domain(c.topology, node.ix);
                let count = counts.add(domain, by);
                counts.track(domain, count);
            }
        }
    }

    /// The Filter.
    pub(super) fn check(&self, cx: &Cx<'_>, node: &NodeInfo) -> Result<(), Status> {
        for (i, c) in self.constraints.iter().enumerate() {
            let domain = cx.cache.domain(c.topology, node.ix);
            if domain == NO_DOMAIN {
                return Err(Status::unresolvable(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                ));
            }
            let counts = &self.counts[i];
            let itself = i64::from(self.selects_itself[i]);
            let least = i64::from(counts.least(c.min_domains));
            let skew = i64::from(counts.of(domain)) + itself - least;
            if skew > i64::from(c.max_skew) {
                return Err(Status::unschedulable(
                    "node(s) didn't match pod topology spread constraints",
                ));
            }
        }
        Ok(())
    }
}
