//! Nodes that were found well: of these nothing but the signs of life has to be looked at, and not
//! at every pass.
//!
//! Thousands of nodes are looked at every few seconds, and hardly any of them has anything to tell.
//! What a look at such a node needs stands in one row of a dense table; its [`Health`] takes over
//! what was seen there before the node is looked at as a whole again. A report that says no more than
//! that the node is still ready is one more sign of life. Debug builds look at the whole node as
//! well, and assert that nothing else comes of it.
//!
//! Nor has every pass to look: from one sign of life on, a node whose row stays as it is can be found
//! silent only when the grace period is over. So it is left alone until then, and what the passes
//! meanwhile would have seen is worked out: a renewal was seen by the first pass whose view had the
//! change that brought it ([`Passes`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::health::{self, Health, Signs};
use super::zones::ZoneKey;
use super::{EXCLUDED, NodeLifecycleController, is_tainted};
use crate::api::Node;
use crate::api::node::NodeConditionKind;
use crate::api::pod_status::Truth;
use crate::client::SyncContext;
use crate::engine::Time;
use crate::store::{Id, View};

/// A node that was found ready, without a taint to take away.
#[derive(Clone, Debug)]
pub(super) struct Well {
    pub(super) row: Arc<Node>,
    /// The number of its zone; none when it does not count there.
    pub(super) zone: Option<u16>,
    pub(super) signs: Signs,
}

impl Well {
    /// When Ready was posted, if the node's new row says of itself what the old one said: that it is
    /// ready, since when it was, without a taint to take away, in the same zone.
    fn posted(&self, node: &Node) -> Option<Time> {
        let ready = node.condition(&NodeConditionKind::Ready)?;
        let same = ready.status == Truth::True
            && ready.since == self.signs.ready.1
            && self.row.meta.labels.same(&node.meta.labels)
            && !is_tainted(node);
        same.then_some(ready.heartbeat)
    }

    /// Takes in the renewal that an earlier pass saw.
    fn catch_up(&mut self, renewed: Time, seen: Time, now: Time) {
        if self.signs.renewed < renewed && seen < now {
            self.signs.renewed = renewed;
            self.signs.probed = self.signs.probed.max(seen);
        }
    }

    /// Takes in what is seen of the node at `now`; returns whether it is well still.
    fn look(&mut self, node: &Arc<Node>, renewed: Time, now: Time, grace: Duration) -> bool {
        let mut seen = self.signs.renewed < renewed;
        if !Arc::ptr_eq(&self.row, node) {
            let Some(posted) = self.posted(node) else {
                return false;
            };
            seen |= posted != self.signs.ready.0;
            self.signs.ready.0 = posted;
            self.row = node.clone();
        }
        if seen {
            (self.signs.renewed, self.signs.probed) = (renewed, now);
        }
        seen || now < self.signs.probed + grace
    }
}

/// The passes of one grace period: when they were, and up to which revision they saw.
#[derive(Debug, Default)]
struct Passes(VecDeque<(Time, u64)>);

impl Passes {
    /// A pass begins. Whoever is visited later than a grace period after the last visit is so at the
    /// first pass after that: those before are not asked for any more.
    fn begin(&mut self, now: Time, revision: u64, grace: Duration) {
        if let Some((last, _)) = self.0.back().copied() {
            while (self.0.front()).is_some_and(|(first, _)| *first + grace <= last) {
                self.0.pop_front();
            }
        }
        self.0.push_back((now, revision));
    }

    /// When the change of this revision was seen first; it is in the view of the present pass.
    fn saw(&self, revision: u64) -> Option<Time> {
        let at = self.0.partition_point(|(_, seen)| *seen < revision);
        self.0.get(at).map(|(time, _)| *time)
    }
}

/// All nodes, as far as they are well.
#[derive(Debug, Default)]
pub(super) struct Wells {
    of: Vec<Option<Well>>,
    /// By node: when it is to be looked at next; never, if it does not exist.
    due: Vec<Time>,
    /// The zones of nodes that were ever well, and how many are so now.
    zones: Vec<(ZoneKey, usize)>,
    passes: Passes,
    /// [`View::leases_rewritten`] at the last pass.
    rewritten: u64,
}

impl Wells {
    /// What is kept of a node that is well.
    pub(super) fn get(&self, id: Id<Node>) -> Option<&Well> {
        self.of.get(id.index())?.as_ref()
    }

    fn get_mut(&mut self, id: Id<Node>) -> Option<&mut Well> {
        self.of.get_mut(id.index())?.as_mut()
    }

    /// The node is to be looked at by the next pass.
    pub(super) fn changed(&mut self, id: Id<Node>) {
        self.set_due(id, Time::ZERO);
    }

    fn set_due(&mut self, id: Id<Node>, at: Time) {
        if self.due.len() <= id.index() {
            self.due.resize(id.index() + 1, Time::ZERO);
        }
        self.due[id.index()] = at;
    }

    /// A pass begins; returns the nodes that it has to look at, in order.
    pub(super) fn begin(&mut self, cx: &SyncContext<'_>, grace: Duration) -> Vec<Id<Node>> {
        self.passes.begin(cx.now, cx.view.revision, grace);
        let all = std::mem::replace(&mut self.rewritten, cx.view.leases_rewritten());
        if all != self.rewritten {
            // The lease of some node may be another one, or gone.
            let due = self.due.iter_mut().filter(|due| **due < Time::MAX);
            due.for_each(|due| *due = Time::ZERO);
        }
        let ids = (0u32..).map(Id::new).zip(&self.due);
        let due = ids.filter(|(_, due)| **due <= cx.now);
        due.map(|(id, _)| id).collect()
    }

    /// How many nodes of each zone are well.
    pub(super) fn zones(&self) -> &[(ZoneKey, usize)] {
        &self.zones
    }

    /// All nodes that are well have just been seen.
    pub(super) fn all_seen(&mut self, now: Time) {
        for well in self.of.iter_mut().flatten() {
            well.signs.probed = now;
        }
    }

    /// The node does not exist any more.
    pub(super) fn gone(&mut self, id: Id<Node>) {
        self.take(id);
        self.set_due(id, Time::MAX);
    }

    fn take(&mut self, id: Id<Node>) -> Option<Well> {
        let well = self.of.get_mut(id.index())?.take()?;
        if let Some(zone) = well.zone {
            self.zones[usize::from(zone)].1 -= 1;
        }
        Some(well)
    }

    fn put(&mut self, id: Id<Node>, well: Well, grace: Duration) {
        self.take(id);
        if self.of.len() <= id.index() {
            self.of.resize(id.index() + 1, None);
        }
        if let Some(zone) = well.zone {
            self.zones[usize::from(zone)].1 += 1;
        }
        self.set_due(id, well.signs.probed + grace);
        self.of[id.index()] = Some(well);
    }

    fn zone_number(&mut self, key: &ZoneKey) -> u16 {
        let known = self.zones.iter().position(|(zone, _)| zone == key);
        let number = known.unwrap_or_else(|| {
            self.zones.push((key.clone(), 0));
            self.zones.len() - 1
        });
        u16::try_from(number).expect("fewer than 2^16 zones")
    }

    /// When the lease of a node was renewed last, as far as the view knows, and which pass saw it.
    fn renewal(&self, well: &Well, view: &View, now: Time) -> Option<(Time, Time)> {
        let (renewed, revision) = view.renewed_by(well.signs.lease)?;
        Some((renewed, self.passes.saw(revision).unwrap_or(now)))
    }
}

impl NodeLifecycleController {
    /// Whether a node that was found well is so still: the same look as `look_at` takes, at a node
    /// that has given no more than signs of life.
    pub(super) fn is_well(&mut self, id: Id<Node>, node: &Arc<Node>, cx: &SyncContext<'_>) -> bool {
        let (now, grace) = (cx.now, self.flags.grace_period);
        let well = self.wells.get(id);
        let renewal = well.and_then(|well| self.wells.renewal(well, cx.view, now));
        let (Some((renewed, seen)), Some(well)) = (renewal, self.wells.get_mut(id)) else {
            return false;
        };
        well.catch_up(renewed, seen, now);
        let before = well.signs;
        if !well.look(node, renewed, now, grace) {
            return false;
        }
        let after = well.signs;
        self.wells.set_due(id, after.probed + grace);
        debug_assert!(
            self.finds_the_same((id, node), before, after, cx),
            "a look at the whole node {} would have found something else",
            node.meta.name
        );
        true
    }

    /// Whether looks at nodes that are left alone in this pass would find them well.
    pub(super) fn others_are_well(&mut self, due: &[Id<Node>], cx: &SyncContext<'_>) -> bool {
        let (now, grace) = (cx.now, self.flags.grace_period);
        cx.view.nodes().iter().all(|(id, node)| {
            if due.binary_search(&id).is_ok() {
                return true;
            }
            let Some(mut well) = self.wells.get(id).cloned() else {
                return false;
            };
            let Some((renewed, seen)) = self.wells.renewal(&well, cx.view, now) else {
                return false;
            };
            well.catch_up(renewed, seen, now);
            let (before, same) = (well.signs, Arc::ptr_eq(&well.row, node));
            let well_still = well.look(node, renewed, now, grace);
            same && well_still && self.finds_the_same((id, node), before, well.signs, cx)
        })
    }

    /// Whether a look at the whole node comes to the same signs of life, and to nothing else.
    fn finds_the_same(
        &mut self,
        (id, node): (Id<Node>, &Node),
        before: Signs,
        after: Signs,
        cx: &SyncContext<'_>,
    ) -> bool {
        let flags = self.flags.clone();
        let mut health = self.health(id).clone();
        if let Some(health) = &mut health {
            health.saw(before);
        }
        let verdict = health::try_update(&mut health, node, cx, &flags);
        verdict.current == Some(Truth::True)
            && verdict.observed == Truth::True
            && verdict.write.is_none()
            && health.as_ref().and_then(Health::signs) == Some(after)
    }

    /// A node that was well is to be looked at: its health takes over what was seen meanwhile.
    pub(super) fn wake(&mut self, id: Id<Node>) {
        if let Some(well) = self.wells.take(id)
            && let Some(health) = self.health(id)
        {
            health.saw(well.signs);
        }
    }

    /// Remembers a node that was looked at, when it is well: ready, with a lease, and without a
    /// taint to take away. Any other is looked at by every pass.
    pub(super) fn note_well(&mut self, id: Id<Node>, node: &Arc<Node>, zone: &ZoneKey) {
        let signs = self.health(id).as_ref().and_then(Health::signs);
        let well = signs.filter(|_| node.ready() && !is_tainted(node));
        let Some(signs) = well else {
            return self.wells.changed(id);
        };
        let zone = match node.meta.labels.contains(EXCLUDED) {
            true => None,
            false => Some(self.wells.zone_number(zone)),
        };
        let row = node.clone();
        let grace = self.flags.grace_period;
        self.wells.put(id, Well { row, zone, signs }, grace);
    }
}
