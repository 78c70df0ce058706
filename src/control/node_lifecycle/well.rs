//! Nodes that were found well: of these nothing but the lease has to be looked at.
//!
//! Thousands of nodes are looked at every few seconds, and hardly any of them has anything to tell.
//! What a look at such a node needs stands in one row of a dense table; its [`Health`] takes over
//! what was seen there before the node is looked at as a whole again.

use std::sync::Arc;

use super::health::Health;
use super::zones::ZoneKey;
use super::{EXCLUDED, NodeLifecycleController, is_tainted};
use crate::api::{Lease, Node};
use crate::client::SyncContext;
use crate::engine::Time;
use crate::store::Id;

/// A node that was found ready, without a taint to take away.
#[derive(Clone, Debug)]
pub(super) struct Well {
    pub(super) row: Arc<Node>,
    /// The number of its zone in `zone_keys`; none when it does not count there.
    pub(super) zone: Option<u16>,
    /// Its lease, and what that was renewed at when it was looked at last.
    pub(super) lease: Id<Lease>,
    pub(super) renewed: Time,
    /// [`Health::probed`], while the node is well.
    pub(super) probed: Time,
}

impl NodeLifecycleController {
    /// Whether a node that was found well is so still, and then the zone in which it counts: the
    /// same look as `look_at` takes, at a node of which nothing but the lease has changed.
    pub(super) fn is_well(
        &mut self,
        id: Id<Node>,
        node: &Arc<Node>,
        cx: &SyncContext<'_>,
    ) -> Option<Option<u16>> {
        let well = self.well.get_mut(id.index())?.as_mut()?;
        if !Arc::ptr_eq(&well.row, node) {
            return None;
        }
        let renewed = cx.view.renewed(well.lease)?;
        if well.renewed < renewed {
            (well.renewed, well.probed) = (renewed, cx.now);
        } else if cx.now >= well.probed + self.flags.grace_period {
            return None;
        }
        Some(well.zone)
    }

    /// A node that was well is to be looked at: its health takes over what was seen meanwhile.
    pub(super) fn wake(&mut self, id: Id<Node>) {
        if let Some(well) = self.well.get_mut(id.index()).and_then(Option::take)
            && let Some(health) = self.health(id)
        {
            health.saw(well.lease, well.renewed, well.probed);
        }
    }

    /// Remembers a node that was looked at, when it is well: ready, with a lease, and without a
    /// taint to take away.
    pub(super) fn note_well(&mut self, id: Id<Node>, node: &Arc<Node>, zone: &ZoneKey) {
        if self.well.len() <= id.index() {
            self.well.resize(id.index() + 1, None);
        }
        let health = self.health(id).as_ref();
        let Some((lease, renewed, probed)) = health.and_then(Health::seen) else {
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
            lease,
            renewed,
            probed,
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
