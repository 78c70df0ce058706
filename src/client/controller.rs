//! What a controller is: a function from a view to a plan.

use std::time::Duration;

use super::outbox::Reply;
use super::plan::Plan;
use super::watches::Watches;
use super::work_queue::{BASE_DELAY, MAX_DELAY};
use crate::api::KubeEvent;
use crate::engine::Time;
use crate::engine::draws::Draws;
use crate::store::{ApiError, Change, View, Write};

/// A controller. It reads views and returns plans; it cannot write, read a clock, or see another
/// controller. Everything that is not in the store is forgotten by [`Controller::restart`].
pub trait Controller {
    /// What its work queue holds: the id of an object.
    type Key: Copy + Ord + std::fmt::Debug;
    /// Upstream's name, as in `--controllers` and event sources.
    const NAME: &'static str;
    /// Concurrent syncs (`--concurrent-*-syncs`, default 5).
    const WORKERS: usize = 5;
    /// How often a failed key is retried before it is dropped until its next change; `None` is for
    /// ever.
    const MAX_RETRIES: Option<u32> = None;
    /// First and longest back-off of a failing key (the queue's rate limiter).
    const BACK_OFF: (Duration, Duration) = (BASE_DELAY, MAX_DELAY);
    /// The changes that [`Controller::keys`] must be asked about. Others neither queue anything nor
    /// are noted.
    const WATCHES: Watches = Watches::EVERYTHING;

    /// The informer event handlers: which keys does this change concern? `view` already contains
    /// the change. Expectations are observed here.
    fn keys(&mut self, change: &Change, view: &View, now: Time, keys: &mut Keys<Self::Key>);

    /// Reads the view, returns the writes it wants.
    fn sync(&mut self, key: Self::Key, cx: &SyncContext<'_>) -> Plan;

    /// One reply of the plan for `key` (expectations of failed creations are lowered here).
    /// `events` takes what is to be told about it, such as the name of a created pod.
    fn on_reply(
        &mut self,
        _key: Self::Key,
        _write: &Write,
        _reply: &Reply,
        _cx: &SyncContext<'_>,
        _events: &mut Vec<KubeEvent>,
    ) {
    }

    /// Whether an error of this write is no failure to its sync, as when what was to be deleted is
    /// gone already.
    fn forgives(&self, _write: &Write, _error: &ApiError) -> bool {
        false
    }

    /// Whether a failure of this write ends its chain although it is forgiven.
    fn ends_chain(&self, _write: &Write) -> bool {
        false
    }

    /// Whether this write of a chain is made although an earlier one of its chain has failed.
    fn despite_failure(&self, _next: &Write) -> bool {
        false
    }

    /// All steps ran, or one failed and the rest was dropped: the second half of a sync whose last
    /// writes depend on how the first ones went (a status that reports a failed creation). Not
    /// asked when the sync itself failed (`Plan::error`). `cx` is fresh. Asked again after a plan
    /// that says so (`Plan::more`).
    fn finish(&mut self, _key: Self::Key, _outcome: &Outcome, _cx: &SyncContext<'_>) -> Plan {
        Plan::none()
    }

    /// Keys to sync when the controller starts, and every `RESYNC` when that is set.
    fn resync(&mut self, _view: &View, _now: Time, _keys: &mut Keys<Self::Key>) {}

    /// Period of `resync`, for controllers that poll (node monitor, pod GC).
    const RESYNC: Option<Duration> = None;

    /// The process crashed: forget everything that is not in the store.
    fn restart(&mut self);
}

/// Keys to add to a work queue.
#[derive(Debug)]
pub struct Keys<K> {
    /// At once.
    pub now: Vec<K>,
    /// Later (`AddAfter`).
    pub after: Vec<(K, Duration)>,
    /// With the queue's rate limit (`AddRateLimited`).
    pub limited: Vec<K>,
    /// KubeEvents that the handler itself tells, without a sync.
    pub events: Vec<KubeEvent>,
}

impl<K> Default for Keys<K> {
    fn default() -> Self {
        Keys {
            now: Vec::new(),
            after: Vec::new(),
            limited: Vec::new(),
            events: Vec::new(),
        }
    }
}

impl<K> Keys<K> {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.now.is_empty()
            && self.after.is_empty()
            && self.limited.is_empty()
            && self.events.is_empty()
    }

    /// Add at once.
    pub fn add(&mut self, key: K) {
        self.now.push(key);
    }

    /// Add after a delay.
    pub fn add_after(&mut self, key: K, after: Duration) {
        self.after.push((key, after));
    }
}

/// What a sync may read.
pub struct SyncContext<'a> {
    /// Simulated or real time since the run began.
    pub now: Time,
    /// The process's view of the cluster.
    pub view: &'a View,
    /// Named draws.
    pub draws: &'a Draws,
}

/// How a plan went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Writes that succeeded.
    pub done: usize,
    /// Writes that were never sent because an earlier one failed.
    pub skipped: usize,
    /// The step that failed, counted from 0 within the plan of `sync`.
    pub failed_step: Option<usize>,
    /// The first error, if any.
    pub error: Option<crate::store::ApiError>,
}
