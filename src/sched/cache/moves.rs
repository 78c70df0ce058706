//! The pods that came to nodes or left them lately, for whoever keeps counts up to date.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use super::{Kin, NodeIx};

/// Moves that are kept; who is further behind counts anew.
const KEPT: usize = 8192;

/// One pod more or less on a node.
#[derive(Clone, Debug)]
pub struct Move {
    /// Its class.
    pub kin: Arc<Kin>,
    /// The node.
    pub node: NodeIx,
    /// How many pods more.
    pub total: i32,
    /// How many more of those that are not being deleted.
    pub live: i32,
}

/// A log of moves with numbers.
#[derive(Debug, Default)]
pub struct Moves {
    log: VecDeque<Move>,
    total: u64,
    /// Somebody asked; before that nothing is kept.
    followed: Cell<bool>,
}

impl Moves {
    /// The number of moves so far; who asks will want those that follow, so from now on they are
    /// kept.
    pub fn total(&self) -> u64 {
        self.followed.set(true);
        self.total
    }

    /// Notes a move; `what` is only asked when somebody follows.
    pub(super) fn push(&mut self, what: impl FnOnce() -> Move) {
        self.total += 1;
        if !self.followed.get() {
            return;
        }
        if self.log.len() >= KEPT {
            self.log.pop_front();
        }
        self.log.push_back(what());
    }

    /// The moves after the first `seen`, unless some are not kept any more.
    pub fn since(&self, seen: u64) -> Option<impl Iterator<Item = &Move>> {
        let behind = usize::try_from(self.total - seen).ok()?;
        let from = self.log.len().checked_sub(behind)?;
        Some(self.log.range(from..))
    }
}
