//! A control-plane process with its watches: one view for everything that runs in it.
//!
//! The controllers of the controller manager share informers, so they share one [`View`]; the
//! scheduler has its own. A process reads the change log at its own pace: what was committed is
//! delivered `lag` later, nothing is delivered while it is cut off, and a process that was cut off
//! for too long relists.
//!
//! A process watches some kinds, and of these only some have handlers ([`Interest`]). Nothing
//! happens when another kind changes, so no event is spent on it: the view takes such changes in
//! whenever the process next does something, before it looks.

use std::collections::VecDeque;
use std::ops::Deref;
use std::time::Duration;

use crate::api::Kind;
use crate::engine::{Time, nanos};
use crate::store::{Change, Cursor, Log, Op, Store, View};

/// What a process does about the changes of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// It has handlers for them.
    Handles,
    /// It only reads the objects when something else happens.
    Reads,
    /// It does not watch the kind.
    None,
}

/// How many kinds there are.
const KINDS: usize = Kind::ALL.len() + 1;
const _: () = assert!(Kind::KubeEvent as usize + 1 == KINDS, "it is the last");

/// The controllers look at leases when they monitor nodes, and do not watch KubeEvents.
pub fn manager_interest(kind: Kind) -> Interest {
    match kind {
        Kind::KubeEvent => Interest::None,
        Kind::Lease => Interest::Reads,
        _ => Interest::Handles,
    }
}

/// `pkg/scheduler/eventhandlers.go :: addAllEventHandlers`, and what plugins list.
pub fn scheduler_interest(kind: Kind) -> Interest {
    match kind {
        Kind::Pod
        | Kind::Node
        | Kind::PersistentVolume
        | Kind::PersistentVolumeClaim
        | Kind::StorageClass
        | Kind::CSINode
        | Kind::CSIDriver
        | Kind::CSIStorageCapacity
        | Kind::VolumeAttachment => Interest::Handles,
        Kind::KubeEvent | Kind::Lease | Kind::EndpointSlice | Kind::ConfigMap | Kind::Secret => {
            Interest::None
        }
        _ => Interest::Reads,
    }
}

/// A change that is delivered: of the log, or what a relist found.
#[derive(Debug)]
pub enum Delivered<'a> {
    /// Where it stands in the log.
    Logged(&'a Change),
    /// Found by a relist.
    Listed(Box<Change>),
}

impl Deref for Delivered<'_> {
    type Target = Change;
    #[inline]
    fn deref(&self) -> &Change {
        match self {
            Delivered::Logged(change) => change,
            Delivered::Listed(change) => change,
        }
    }
}

/// The reading side of a process.
#[derive(Debug)]
pub struct Process {
    /// What it knows.
    pub view: View,
    /// From a commit to its delivery, in nanoseconds.
    lag_ns: u64,
    /// Whether it runs and reaches the API server.
    up: bool,
    /// By kind.
    interest: [Interest; KINDS],
    cursor: Cursor,
    /// Up to here there is nothing that has handlers, but what deliveries are scheduled for.
    scanned: u64,
    /// When the last of them is.
    scheduled: Option<Time>,
    /// What a relist found.
    listed: VecDeque<Box<Change>>,
}

impl Process {
    /// A process that has seen nothing yet.
    pub fn new(lag: Duration, interest: fn(Kind) -> Interest) -> Self {
        Process {
            view: View::default(),
            lag_ns: nanos(lag),
            up: true,
            interest: {
                let mut all = [interest(Kind::KubeEvent); KINDS];
                Kind::ALL
                    .iter()
                    .for_each(|kind| all[*kind as usize] = interest(*kind));
                all
            },
            cursor: Cursor(0),
            scanned: 0,
            scheduled: None,
            listed: VecDeque::new(),
        }
    }

    /// Where it is in the log.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// When the next delivery must be scheduled, if one must.
    #[inline]
    pub fn wants(&mut self, log: &Log, now: Time) -> Option<Time> {
        if !self.up || self.scanned >= log.head() {
            return None;
        }
        self.scan(log, now)
    }

    /// Whether it runs and reaches the API server.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// It stops or is cut off, or is there again: what was missed is delivered at once.
    pub fn set_up(&mut self, up: bool) {
        if std::mem::replace(&mut self.up, up) != up {
            (self.scanned, self.scheduled) = (self.cursor.0, None);
        }
    }

    /// The change of this revision is of a kind that no process has handlers for.
    #[inline]
    pub fn pass_over(&mut self, revision: u64) {
        if self.scanned + 1 == revision {
            self.scanned = revision;
        }
    }

    fn scan(&mut self, log: &Log, now: Time) -> Option<Time> {
        self.scanned = self.scanned.max(self.cursor.0);
        while self.scanned < log.head() {
            let due = match log.get(self.scanned + 1) {
                Some(change) => {
                    self.scanned += 1;
                    if self.interest_in(change) != Interest::Handles {
                        continue;
                    }
                    change.time.plus_nanos(self.lag_ns).max(now)
                }
                // What is not kept any more is relisted at once.
                None => {
                    self.scanned = log.head();
                    now
                }
            };
            if self.scheduled != Some(due) {
                self.scheduled = self.scheduled.max(Some(due));
                return Some(due);
            }
        }
        None
    }

    #[inline]
    fn interest_in(&self, change: &Change) -> Interest {
        self.interest[change.kind() as usize]
    }

    /// A delivery begins: [`Process::next`] gives what it brings.
    pub fn begin_delivery(&mut self, now: Time) {
        if self.scheduled.is_some_and(|last| last <= now) {
            // Whatever it leaves is scheduled again.
            (self.scanned, self.scheduled) = (self.cursor.0, None);
        }
    }

    /// The next change that is due and has handlers; the view already contains it.
    pub fn next<'a>(&mut self, store: &'a Store, now: Time) -> Option<Delivered<'a>> {
        if !self.up {
            return None;
        }
        loop {
            if let Some(change) = self.listed.pop_front() {
                self.view.apply(&change);
                return Some(Delivered::Listed(change));
            }
            let log = store.log();
            while let Some(change) = self.due(log, now) {
                self.cursor = Cursor(change.revision);
                match self.interest_in(change) {
                    Interest::None => continue,
                    Interest::Reads => self.view.apply(change),
                    Interest::Handles => {
                        self.view.apply(change);
                        return Some(Delivered::Logged(change));
                    }
                }
            }
            if log.keeps(self.cursor) {
                return None;
            }
            self.relist(store, now);
        }
    }

    /// The next change of the log, if it is due.
    #[inline]
    fn due<'a>(&self, log: &'a Log, now: Time) -> Option<&'a Change> {
        let next = log.get(self.cursor.0 + 1);
        next.filter(|change| change.time.plus_nanos(self.lag_ns) <= now)
    }

    /// Takes in what is due and has no handlers, up to the next change that does.
    pub fn catch_up(&mut self, log: &Log, now: Time) {
        while self.up
            && self.listed.is_empty()
            && let Some(change) = self.due(log, now)
        {
            match self.interest_in(change) {
                Interest::Handles => return,
                Interest::Reads => self.view.apply(change),
                Interest::None => {}
            }
            self.cursor = Cursor(change.revision);
        }
    }

    /// What a relist amounts to: the differences between what the process knew and what is now.
    fn relist(&mut self, store: &Store, now: Time) {
        let revision = store.log().head();
        let change = |object, op, old, new| {
            Box::new(Change {
                revision,
                time: now,
                object: Some(object),
                op,
                old,
                new,
                event: None,
                cause: crate::store::Cause::default(),
                renewed: None,
            })
        };
        for &kind in crate::api::Kind::ALL {
            if self.interest[kind as usize] == Interest::None {
                continue;
            }
            for (object, old) in self.view.rows(kind) {
                if store.view().row(object).is_none() {
                    let gone = change(object, Op::Delete, Some(old.clone()), Some(old));
                    self.listed.push_back(gone);
                }
            }
            for (object, new) in store.view().rows(kind) {
                match self.view.row(object) {
                    None => self
                        .listed
                        .push_back(change(object, Op::Create, None, Some(new))),
                    Some(old) if old.meta().revision != new.meta().revision => {
                        let update = change(object, Op::Update, Some(old), Some(new));
                        self.listed.push_back(update);
                    }
                    Some(_) => {}
                }
            }
        }
        self.cursor = Cursor(revision);
    }

    /// The process crashed and starts again: it knows nothing and lists everything.
    pub fn restart(&mut self, store: &Store) {
        let metrics = self.view.pod_metrics.take();
        self.view = store.view().clone();
        self.view.pod_metrics = metrics;
        self.cursor = Cursor(store.log().head());
        self.listed.clear();
        (self.scanned, self.scheduled) = (self.cursor.0, None);
    }
}
