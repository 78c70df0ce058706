//! Nodes that were found well: of these nothing but the signs of life has to be looked at.
//!
//! Thousands of nodes are looked at every few seconds, and hardly any of them has anything to tell.
//! What a look at such a node needs stands in one row of a dense table; its [`Health`] takes over
//! what was seen there before the node is looked at as a whole again. A report that says no more than
//! that the node is still ready is one more sign of life. Debug builds look at the whole node as
//! well, and assert that nothing else comes of it.

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
use crate::store::Id;

/// A node that was found ready, without a taint to take away.
#[derive(Clone, Debug)]
pub(super) struct Well {
    pub(super) row: Arc<Node>,
    /// The number of its zone in `zone_keys`; none when it does not count there.
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

impl NodeLifecycleController {
    /// Whether a node that was found well is so still, and then the zone in which it counts: the
    /// same look as `look_at` takes, at a node that has given no more than signs of life.
    pub(super) fn is_well(
        &mut self,
        id: Id<Node>,
        node: &Arc<Node>,
        cx: &SyncContext<'_>,
    ) -> Option<Option<u16>> {
        let well = self.well.get_mut(id.index())?.as_mut()?;
        let before = well.signs;
        let renewed = cx.view.renewed(before.lease)?;
        if !well.look(node, renewed, cx.now, self.flags.grace_period) {
            return None;
        }
        let (after, zone) = (well.signs, well.zone);
        debug_assert!(
            self.finds_the_same((id, node), before, after, cx),
            "a look at the whole node {} would have found something else",
            node.meta.name
        );
        Some(zone)
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
        if let Some(well) = self.well.get_mut(id.index()).and_then(Option::take)
            && let Some(health) = self.health(id)
        {
            health.saw(well.signs);
        }
    }

    /// Remembers a node that was looked at, when it is well: ready, with a lease, and without a
    /// taint to take away.
    pub(super) fn note_well(&mut self, id: Id<Node>, node: &Arc<Node>, zone: &ZoneKey) {
        if self.well.len() <= id.index() {
            self.well.resize(id.index() + 1, None);
        }
        let health = self.health(id).as_ref();
        let Some(signs) = health.and_then(Health::signs) else {
            return;
        };
        if !node.ready() || is_tainted(node) {
            return;
        }
        let zone = match node.meta.labels.contains(EXCLUDED) {
            true => None,
            false => Some(self.zone_number(zone)),
        };
        self.well[id.index()] = Some(Well {
            row: node.clone(),
            zone,
            signs,
        });
    }

    fn zone_number(&mut self, key: &ZoneKey) -> u16 {
        let known = self.zone_keys.iter().position(|zone| zone == key);
        let number = known.unwrap_or_else(|| {
            self.zone_keys.push(key.clone());
            self.zone_keys.len() - 1
        });
        u16::try_from(number).expect("fewer than 2^16 zones")
    }
}
