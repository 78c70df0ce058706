//! Which pods to delete when there are too many.
//!
//! A port of `pkg/controller/controller_utils.go :: ActivePodsWithRanks` and of what leads to it.
//! Pods that serve nobody go first, then cheap ones, then those that share a node, then young ones;
//! ages are compared on a logarithmic scale and what remains equal is settled by lot.

use std::cmp::Ordering;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::api::meta::recorded;
use crate::api::pod_status::Phase;
use crate::api::{Pod, ReplicaSet, Text};
use crate::client::SyncContext;
use crate::control::pods;
use crate::engine::draws::{Purpose, entity_key};
use crate::engine::{Draws, Time};
use crate::store::{Id, View};

/// Upstream compares random uids.
const LOT: Purpose = Purpose::new("replica-set/victim");
/// `PodDeletionCost`.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

type Row = (Id<Pod>, Arc<Pod>);

/// The `count` pods of `active` to delete (`getPodsToDelete`).
pub fn choose(set: &ReplicaSet, active: &[Row], count: usize, cx: &SyncContext<'_>) -> Vec<Row> {
    if count >= active.len() {
        return active.to_vec();
    }
    let on_node = related_by_node(set, cx.view);
    let mut ranked: Vec<Ranked<'_>> = active
        .iter()
        .map(|row| Ranked::new(row, &on_node, cx.draws, cx.now))
        .collect();
    ranked = sorted(ranked);
    ranked.iter().take(count).map(|r| r.row.clone()).collect()
}

/// Active pods of all ReplicaSets of the same owner, by node (`getIndirectlyRelatedPods`,
/// `getPodsRankedByRelatedPodsOnSameNode`). Pods of other controllers are not counted, whatever
/// their labels.
fn related_by_node(set: &ReplicaSet, view: &View) -> FxHashMap<Option<Text>, usize> {
    let mut on_node = FxHashMap::default();
    let Some(owner) = set.meta.controller() else {
        return on_node;
    };
    for (_, related) in view.of::<ReplicaSet>().owned_by(owner.uid) {
        for (_, pod) in view.pods().owned_by(related.meta.uid) {
            if pods::active(pod) && related.selector.matches(&pod.meta.labels) {
                *on_node.entry(pod.node_name.clone()).or_insert(0) += 1;
            }
        }
    }
    on_node
}

/// What a pod is compared by.
#[derive(Clone)]
struct Ranked<'a> {
    row: &'a Row,
    bound: bool,
    phase: u8,
    ready: bool,
    cost: i32,
    colocated: usize,
    ready_since: Option<Time>,
    ready_age: i64,
    restarts: (u32, u32),
    created: Time,
    age: i64,
    lot: u64,
}

impl<'a> Ranked<'a> {
    fn new(
        row: &'a Row,
        on_node: &FxHashMap<Option<Text>, usize>,
        draws: &Draws,
        now: Time,
    ) -> Ranked<'a> {
        let pod = &*row.1;
        let ready_since = pods::ready_since(pod);
        let created = recorded(pod.meta.created);
        let entity = entity_key(&[&pod.meta.namespace, &pod.meta.name]);
        Ranked {
            row,
            bound: pod.node_name.is_some(),
            phase: phase(pod.status.phase),
            ready: pod.status.ready(),
            cost: deletion_cost(pod),
            colocated: on_node.get(&pod.node_name).copied().unwrap_or(0),
            ready_since,
            ready_age: ready_since.map_or(-1, |since| magnitude(since, now)),
            restarts: restarts(pod),
            created,
            age: magnitude(created, now),
            lot: draws.u64(LOT, entity, 0),
        }
    }

    /// `Less` says that this pod goes before the other. Not a total order: pods of one second are
    /// compared by restarts, pods of one magnitude by lot.
    fn cmp(&self, other: &Ranked<'_>) -> Ordering {
        let first = (self.bound, self.phase, self.ready, self.cost).cmp(&(
            other.bound,
            other.phase,
            other.ready,
            other.cost,
        ));
        let first = first.then(other.colocated.cmp(&self.colocated));
        if first.is_ne() {
            return first;
        }
        if self.ready && self.ready_since != other.ready_since {
            let age = self.ready_age.cmp(&other.ready_age);
            return age.then(self.lot.cmp(&other.lot));
        }
        if self.restarts != other.restarts {
            return other.restarts.cmp(&self.restarts);
        }
        if self.created != other.created {
            let age = self.age.cmp(&other.age);
            return age.then(self.lot.cmp(&other.lot));
        }
        self.lot.cmp(&other.lot)
    }
}

/// A merge sort, since the library's may refuse an order that is not total.
fn sorted(mut items: Vec<Ranked<'_>>) -> Vec<Ranked<'_>> {
    if items.len() < 2 {
        return items;
    }
    let right = sorted(items.split_off(items.len() / 2));
    let left = sorted(items);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let next = if b.cmp(a).is_lt() {
            right.next()
        } else {
            left.next()
        };
        merged.extend(next);
    }
    merged.extend(left);
    merged.extend(right);
    merged
}

/// `podPhaseToOrdinal`; phases that are not listed count as Pending.
pub(in crate::control) fn phase(phase: Phase) -> u8 {
    match phase {
        Phase::Unknown => 1,
        Phase::Running => 2,
        _ => 0,
    }
}

/// `logarithmicRankDiff`: the whole part of the base-2 logarithm of the age in nanoseconds.
fn magnitude(since: Time, now: Time) -> i64 {
    let age = now.as_nanos().saturating_sub(since.as_nanos());
    age.checked_ilog2().map_or(-1, i64::from)
}

/// `GetDeletionCostFromPodAnnotations`; what is not a plain 32-bit integer counts as 0.
fn deletion_cost(pod: &Pod) -> i32 {
    let Some(text) = pod.meta.annotations.get(DELETION_COST) else {
        return 0;
    };
    let plain = text == "0" || matches!(text.as_bytes().first(), Some(b'-' | b'1'..=b'9'));
    plain.then(|| text.parse().ok()).flatten().unwrap_or(0)
}

/// `maxContainerRestarts`: of ordinary containers, and of sidecars.
pub(in crate::control) fn restarts(pod: &Pod) -> (u32, u32) {
    let ordinary = pod.status.containers.iter().map(|c| c.restarts).max();
    let sidecar = |name: &Text| {
        let mut all = pod.spec.init_containers.iter();
        all.any(|c| c.restart_always && c.name == *name)
    };
    let sidecars = pod.status.init_containers.iter();
    let sidecars = sidecars.filter(|c| sidecar(&c.name)).map(|c| c.restarts);
    (ordinary.unwrap_or(0), sidecars.max().unwrap_or(0))
}
