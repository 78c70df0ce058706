//! What was written for a key, so that a sync does not act on a view that is older than that.
//!
//! `pkg/controller/util/consistency :: ConsistencyStore`, which the workload controllers have since
//! 1.36: a key whose last write is not in the view yet is tried again later.

use std::collections::BTreeMap;

use super::outbox::Reply;
use super::plan::Plan;
use crate::store::{View, Write};

/// The newest revision that was written for each key.
#[derive(Clone, Debug)]
pub struct Written<K>(BTreeMap<K, u64>);

impl<K> Default for Written<K> {
    fn default() -> Self {
        Written(BTreeMap::new())
    }
}

impl<K: Copy + Ord> Written<K> {
    /// Notes the answer to a write (`WroteAt`). Deletions do not count.
    pub fn note(&mut self, key: K, write: &Write, reply: &Reply) {
        if let (Ok(receipt), false) = (reply, matches!(write, Write::Delete { .. })) {
            let written = self.0.entry(key).or_default();
            *written = receipt.revision.max(*written);
        }
    }

    /// The plan of a sync that comes too early (`EnsureReady`), if this one does.
    pub fn too_early(&mut self, key: K, view: &View) -> Option<Plan> {
        if self.0.get(&key).is_some_and(|r| *r > view.revision) {
            return Some(Plan {
                error: Some("the view is older than what was written".into()),
                ..Plan::default()
            });
        }
        self.0.remove(&key);
        None
    }

    /// Forgets `key` (`Clear`).
    pub fn forget(&mut self, key: K) {
        self.0.remove(&key);
    }
}
