//! What a DaemonSet reports.

use super::nodes::{by_age, by_node};
use super::round::Round;
use crate::api::DaemonSet;
use crate::api::stateful::DaemonSetStatus;
use crate::api::{Pod, Text};
use crate::control::pods;
use crate::store::Id;
use std::sync::Arc;

/// `updateDaemonSetStatus`: the set with its new status, if that says anything new. The generation
/// counts as observed only when it was acted on.
pub(super) fn updated(
    round: &Round<'_>,
    all: &[(Id<Pod>, Arc<Pod>)],
    observed: bool,
    latest: &DaemonSet,
) -> (DaemonSetStatus, Option<DaemonSet>) {
    let set = round.set;
    let pods = by_node(all, false);
    let mut status = DaemonSetStatus {
        observed_generation: set.status.observed_generation,
        collisions: set.status.collisions,
        ..DaemonSetStatus::default()
    };
    for node in &round.nodes {
        let name: &Text = &node.meta.name;
        let oldest = pods
            .get(name)
            .and_then(|pods| pods.iter().min_by(|a, b| by_age(a.1, b.1)));
        if !round.judge.should_run(node).0 {
            status.misscheduled += i32::from(oldest.is_some());
            continue;
        }
        status.desired += 1;
        let Some((_, pod)) = oldest else { continue };
        status.current += 1;
        if pod.status.ready() {
            status.ready += 1;
            let available = pods::available(pod, set.min_ready_s, round.now);
            status.available += i32::from(available);
        }
        status.updated += i32::from(round.updated(pod));
    }
    status.unavailable = status.desired - status.available;
    let counted = DaemonSetStatus {
        observed_generation: set.status.observed_generation,
        ..status.clone()
    };
    if counted == set.status && set.status.observed_generation >= set.meta.generation {
        return (status, None);
    }
    if observed {
        status.observed_generation = set.meta.generation;
    }
    let mut new = latest.clone();
    new.status = status.clone();
    (status, Some(new))
}
