//! Plans: the writes that one sync wants, in order.

use std::time::Duration;

use crate::api::{KubeEvent, Uid};
use crate::store::{ObjectId, Propagation, Write};

/// What a sync returns. Steps run in order; the first step that fails drops the rest of the plan
/// and requeues the key with back-off (after `Controller::finish` was asked).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Writes in order.
    pub steps: Vec<Step>,
    /// Ask for this key again after so long (`queue.AddAfter`).
    pub requeue_after: Option<Duration>,
    /// As `requeue_after`, but asked for in the middle of the sync: it holds even if the plan fails.
    pub timer: Option<Duration>,
    /// The sync itself failed for this reason: requeue with back-off, even without a failed write.
    pub error: Option<String>,
    /// When these steps have run (or one failed), `Controller::finish` is asked once more. Of the
    /// plan of a sync this is said anyway.
    pub more: bool,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// One write; the next step waits for its reply.
    One {
        /// The request.
        write: Write,
        /// The rule in a few words, for `explain`.
        rule: &'static str,
        /// A failure of this write is ignored (upstream logs and goes on).
        optional: bool,
    },
    /// `slowStartBatch`: batches of 1, 2, 4 …; a batch with a failure is the last one.
    SlowStart {
        /// The requests.
        writes: Vec<Write>,
        /// The rule in a few words.
        rule: &'static str,
    },
    /// All at once (a goroutine each); the step ends with the last reply.
    Parallel {
        /// The requests.
        writes: Vec<Write>,
        /// The rule in a few words.
        rule: &'static str,
    },
    /// A [`deletion`] of each at once: as [`Step::Parallel`], in a seventh of the memory.
    Deletions {
        /// What is deleted, if it still has this uid.
        objects: Vec<(ObjectId, Uid)>,
        /// The rule in a few words.
        rule: &'static str,
    },
    /// Several sequences at once (a goroutine each, which makes one request after the other): the
    /// next write of a chain waits for the reply to the one before, and a failure ends its chain
    /// (but see `Controller::despite_failure`). The step ends when every chain has.
    Chains(Vec<Vec<Link>>),
    /// A KubeEvent: sent without waiting, outside of the plan's order.
    Event(KubeEvent),
}

/// The deletion of an object that still has this uid, without a grace period.
pub fn deletion(object: ObjectId, uid: Uid) -> Write {
    Write::Delete {
        object,
        uid: Some(uid),
        grace_s: Some(0),
        propagation: Propagation::Background,
    }
}

/// A write of a chain, and its rule in a few words.
pub type Link = (Write, &'static str);

impl Step {
    /// How many writes it has; a KubeEvent is none.
    pub fn writes(&self) -> usize {
        match self {
            Step::One { .. } => 1,
            Step::SlowStart { writes, .. } | Step::Parallel { writes, .. } => writes.len(),
            Step::Deletions { objects, .. } => objects.len(),
            Step::Chains(chains) => chains.iter().map(Vec::len).sum(),
            Step::Event(_) => 0,
        }
    }
}

impl Plan {
    /// Nothing to do.
    pub fn none() -> Self {
        Plan::default()
    }

    /// Adds one write.
    pub fn write(&mut self, write: Write, rule: &'static str) {
        self.steps.push(Step::One {
            write,
            rule,
            optional: false,
        });
    }

    /// Adds one write whose failure changes nothing.
    pub fn attempt(&mut self, write: Write, rule: &'static str) {
        self.steps.push(Step::One {
            write,
            rule,
            optional: true,
        });
    }

    /// Adds a KubeEvent.
    pub fn event(&mut self, event: KubeEvent) {
        self.steps.push(Step::Event(event));
    }

    /// Asks to be called again after `after`; the earliest wish wins.
    pub fn requeue(&mut self, after: Duration) {
        self.requeue_after = Some(self.requeue_after.map_or(after, |a| a.min(after)));
    }

    /// As [`Plan::requeue`], whatever becomes of the plan.
    pub fn requeue_anyway(&mut self, after: Duration) {
        self.timer = Some(self.timer.map_or(after, |a| a.min(after)));
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        let wishes = [self.requeue_after, self.timer];
        self.steps.is_empty() && wishes == [None; 2] && self.error.is_none()
    }
}
