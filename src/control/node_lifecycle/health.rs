//! Whether a node still speaks: `tryUpdateNodeHealth`.
//!
//! The controller trusts its own clock only: it notes when it *saw* a heartbeat or a lease renewal
//! change, and counts the grace period from there. Its looks begin one period after the one before
//! has ended, and upstream's take some milliseconds: with a look every 5 s and a grace period of
//! 50 s, the tenth look after the one that saw the last renewal comes just over 50 s later and finds
//! the node silent. Looks here take no time, so "just over" is "not before".

use std::time::Duration;

use crate::api::node::{NodeCondition, NodeConditionKind};
use crate::api::pod_status::Truth;
use crate::api::{Lease, Node, Text};
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
    see_lease(&mut seen, node, cx);
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

/// The same look at a node whose row has not changed since it was found well: only its lease has to
/// be looked at. Returns whether it is still well; otherwise nothing is noted.
pub fn still_well(health: &mut Option<Health>, cx: &SyncContext<'_>, flags: &Flags) -> bool {
    let Some(seen) = health else { return false };
    let Some((id, renewed)) = seen.lease else {
        return false;
    };
    let Some(lease) = cx.view.of::<Lease>().get(id) else {
        return false;
    };
    if renewed < lease.renewed {
        seen.lease = Some((id, lease.renewed));
        seen.probed = cx.now;
        return true;
    }
    cx.now < seen.probed + flags.grace_period
}

/// A renewal that was not seen before counts as a sign of life now.
fn see_lease(seen: &mut Health, node: &Node, cx: &SyncContext<'_>) {
    let leases = cx.view.of::<Lease>();
    let cached = seen.lease.and_then(|(id, _)| Some((id, leases.get(id)?)));
    let found = cached.or_else(|| leases.named(&Text::from("kube-node-lease"), &node.meta.name));
    let Some((id, lease)) = found else { return };
    if seen
        .lease
        .is_none_or(|(_, renewed)| renewed < lease.renewed)
    {
        seen.lease = Some((id, lease.renewed));
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
