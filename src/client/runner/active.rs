//! A sync that goes on: what is left of its plan, and how it went so far.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::current::Current;
use crate::client::controller::Outcome;
use crate::client::plan::{Plan, Step};
use crate::store::write::Trigger;
use crate::store::{ObjectId, Write};

/// One sync that goes on.
#[derive(Debug)]
pub(super) struct Active<K> {
    pub(super) key: K,
    pub(super) trigger: Trigger,
    pub(super) steps: VecDeque<Step>,
    pub(super) taken: usize,
    pub(super) current: Current,
    pub(super) outcome: Outcome,
    pub(super) requeue_after: Option<Duration>,
    pub(super) error: Option<String>,
    pub(super) finishing: bool,
    pub(super) more: bool,
    /// Objects that this plan wrote, with their revision after it: what a client would hold as the
    /// API server's answer and base its next write on.
    pub(super) bases: BTreeMap<ObjectId, u64>,
    /// The write of a chain whose turn has come.
    pub(super) follower: Option<usize>,
}

impl<K> Active<K> {
    pub(super) fn new(key: K, trigger: Trigger) -> Self {
        Active {
            key,
            trigger,
            steps: VecDeque::new(),
            taken: 0,
            current: Current::default(),
            outcome: Outcome::default(),
            requeue_after: None,
            error: None,
            finishing: false,
            more: false,
            bases: BTreeMap::new(),
            follower: None,
        }
    }

    pub(super) fn take_plan(&mut self, plan: Plan) {
        self.steps = plan.steps.into();
        self.taken = 0;
        let wishes = [self.requeue_after, plan.requeue_after];
        self.requeue_after = wishes.into_iter().flatten().min();
        self.error = self.error.take().or(plan.error);
        self.more = plan.more;
    }

    /// A write with the revision that this plan's earlier writes led to.
    pub(super) fn rebased(&self, mut write: Write) -> Write {
        if let Write::Update(object, row) | Write::UpdateStatus(object, row) = &mut write
            && let Some(revision) = self.bases.get(object)
            && row.meta().revision < *revision
        {
            row.meta_mut().revision = *revision;
        }
        write
    }

    /// Counts what is left and drops it.
    pub(super) fn drop_rest(&mut self) {
        let unsent = self.current.writes.len().saturating_sub(self.current.sent);
        let rest: usize = self.steps.iter().map(Step::writes).sum();
        self.outcome.skipped += unsent + rest;
        self.current = Current::default();
        self.steps.clear();
    }
}
