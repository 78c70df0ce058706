//! Whether a node still speaks: `tryUpdateNodeHealth`.
//!
//! The controller trusts its own clock only: it notes when it *saw* a heartbeat or a lease renewal
//! change, and counts the grace period from there. Its looks begin one period after the one before
//! has ended, and upstream's take some milliseconds: with a look every 5 s and a grace period of
//! 50 s, the tenth look after the one that saw the last renewal comes just over 50 s later and finds
//! the node silent. Looks here take no time, so "just over" is "not before".

use std::time::Duration;

use crate::api::node::{LEASES, NodeCondition, NodeConditionKind};
use crate::api::pod_status::Truth;
use crate::api::{Lease, Node};
use crate::client::SyncContext;
use crate::engine::Time;
use crate::store::Id;

use super::Flags;

/// What was last seen of a node, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// When a heartbeat or a renewal was last seen.
    pub probed: Time,
    /// When the Ready condition was last seen to change.
    pub transition: Time,
    ready: Option<(Time, Time)>,
    lease: Option<(Id<Lease>, Time)>,
}

/// The signs of life of a node that has posted a Ready condition and holds a lease.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Signs {
    /// Its lease, and what that was renewed at when it was looked at last.
    pub(super) lease: Id<Lease>,
    pub(super) renewed: Time,
    /// When Ready was last posted, and since when it says what it says.
    pub(super) ready: (Time, Time),
    /// When one of them was last seen to change ([`Health::probed`]).
    pub(super) probed: Time,
}

impl Health {
    /// Its signs of life, if it has given both.
    pub(super) fn signs(&self) -> Option<Signs> {
        let (lease, renewed) = self.lease?;
        Some(Signs {
            lease,
            renewed,
            ready: self.ready?,
            probed: self.probed,
        })
    }

    /// What was seen of the node while it was not looked at as a whole.
    pub(super) fn saw(&mut self, signs: Signs) {
        self.lease = Some((signs.lease, signs.renewed));
        self.ready = Some(signs.ready);
        self.probed = signs.probed;
    }
}

/// The result of one look.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Status of Ready before this look (Unknown when it was never posted).
    pub observed: Truth,
    /// Status of Ready after this look; `None` when it was never posted and is not overdue.
    pub current: Option<Truth>,
    /// Conditions to write when the node is found silent.
    pub write: Option<Vec<NodeCondition>>,
}

/// `tryUpdateNodeHealth`.
pub fn try_update(
    health: &mut Option<Health>,
    node: &Node,
    cx: &SyncContext<'_>,
    flags: &Flags,
) -> Verdict {
    let now = cx.now;
    let ready = node.condition(&NodeConditionKind::Ready);
    let stamps = ready.map(|c| (c.heartbeat, c.since));
    let observed = ready.map_or(Truth::Unknown, |c| c.status);
    let grace = if ready.is_some() {
        flags.grace_period
    } else {
        flags.startup_grace_period
    };
    let fresh = |at: Time, lease| Health {
        probed: at,
        transition: at,
        ready: stamps,
        lease,
    };
    let last = health.as_ref().and_then(|old| old.lease);
    let mut seen = match health.take() {
        None if ready.is_none() => fresh(node.meta.created, None),
        None => fresh(now, None),
        Some(old) if old.ready.is_some() != stamps.is_some() => fresh(now, None),
        Some(old) => match (old.ready, stamps) {
            (Some(before), Some(after)) if before.0 != after.0 => Health {
                probed: now,
                transition: if before.1 == after.1 {
                    old.transition
                } else {
                    now
                },
                ready: stamps,
                lease: None,
            },
            _ => old,
        },
    };
    see_lease(&mut seen, last.map(|(id, _)| id), node, cx);
    let silent = now >= seen.probed + grace;
    let mut verdict = Verdict {
        observed,
        current: ready.map(|c| c.status),
        write: None,
    };
    if silent && (ready.is_none() || observed != Truth::Unknown) {
        verdict.write = Some(unknown_conditions(node, now));
        verdict.current = Some(Truth::Unknown);
        seen.transition = now;
        seen.ready = Some(stamps.map_or((node.meta.created, now), |(beat, _)| (beat, now)));
    } else if silent {
        verdict.current = Some(Truth::Unknown);
    }
    *health = Some(seen);
    verdict
}

/// A renewal that was not seen before counts as a sign of life now. What is found by name is mostly
/// the lease of the last look.
fn see_lease(seen: &mut Health, last: Option<Id<Lease>>, node: &Node, cx: &SyncContext<'_>) {
    let leases = cx.view.of::<Lease>();
    let name = &node.meta.name;
    let cached = seen.lease.map(|(id, _)| id);
    let cached = cached.filter(|id| leases.get(*id).is_some());
    let last = last.filter(|id| {
        let meta = leases.get(*id).map(|lease| &lease.meta);
        meta.is_some_and(|meta| meta.name == *name && meta.namespace == *LEASES)
    });
    let named = || Some(leases.find(LEASES, name)?.0);
    let Some(id) = cached.or(last).or_else(named) else {
        return;
    };
    let Some(at) = cx.view.renewed(id) else {
        return;
    };
    if seen.lease.is_none_or(|(_, renewed)| renewed < at) {
        seen.lease = Some((id, at));
        seen.probed = cx.now;
    }
}

fn unknown_conditions(node: &Node, now: Time) -> Vec<NodeCondition> {
    let kinds = [
        NodeConditionKind::Ready,
        NodeConditionKind::MemoryPressure,
        NodeConditionKind::DiskPressure,
        NodeConditionKind::PidPressure,
    ];
    let never = |kind| NodeCondition {
        kind,
        status: Truth::Unknown,
        heartbeat: node.meta.created,
        since: now,
        reason: "NodeStatusNeverUpdated".into(),
        message: "Kubelet never posted node status.".into(),
    };
    kinds
        .into_iter()
        .map(|kind| match node.condition(&kind) {
            None => never(kind),
            Some(old) if old.status == Truth::Unknown => old.clone(),
            Some(old) => NodeCondition {
                status: Truth::Unknown,
                since: now,
                reason: "NodeStatusUnknown".into(),
                message: "Kubelet stopped posting node status.".into(),
                ..old.clone()
            },
        })
        .collect()
}

/// How long after the last seen sign of life a node is found silent, at the most.
pub fn latest_detection(flags: &Flags) -> Duration {
    flags.grace_period + flags.monitor_period
}
