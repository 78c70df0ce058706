//! A control-plane process with its watches: one view for everything that runs in it.
//!
//! The controllers of the controller manager share informers, so they share one [`View`]; the
//! scheduler has its own. A process reads the change log at its own pace: what was committed is
//! delivered `lag` later, nothing is delivered while it is cut off, and a process that was cut off
//! for too long relists.

use std::time::Duration;

use crate::engine::Time;
use crate::store::{Change, Cursor, Gone, Log, Op, Store, View};

/// The reading side of a process.
#[derive(Debug)]
pub struct Process {
    /// What it knows.
    pub view: View,
    /// From a commit to its delivery.
    pub lag: Duration,
    /// Whether it runs and reaches the API server.
    pub up: bool,
    cursor: Cursor,
    scheduled: bool,
}

impl Process {
    /// A process that has seen nothing yet.
    pub fn new(lag: Duration) -> Self {
        Process {
            view: View::default(),
            lag,
            up: true,
            cursor: Cursor(0),
            scheduled: false,
        }
    }

    /// Where it is in the log.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// When the next delivery must be scheduled, if one must.
    pub fn wants(&mut self, log: &Log, now: Time) -> Option<Time> {
        if self.scheduled || !self.up || self.cursor.0 >= log.head() {
            return None;
        }
        self.scheduled = true;
        let due = log
            .get(self.cursor.0 + 1)
            .map_or(now, |change| change.time + self.lag);
        Some(due.max(now))
    }

    /// The changes that are due now, oldest first; advances the cursor but not the view, which
    /// advances change by change as they are handed to the components.
    pub fn take(&mut self, store: &Store, now: Time) -> Vec<Change> {
        self.scheduled = false;
        if !self.up {
            return Vec::new();
        }
        let lag = self.lag;
        let due: Vec<Change> = match store.log().since(self.cursor) {
            Ok(changes) => changes
                .take_while(|c| c.time + lag <= now)
                .cloned()
                .collect(),
            Err(Gone) => self.relist(store, now),
        };
        if let Some(last) = due.last() {
            self.cursor = Cursor(last.revision);
        }
        due
    }

    /// What a relist amounts to: the differences between what the process knew and what is now.
    fn relist(&mut self, store: &Store, now: Time) -> Vec<Change> {
        let mut changes = Vec::new();
        let revision = store.log().head();
        let change = |object, op, old, new| Change {
            revision,
            time: now,
            object: Some(object),
            op,
            old,
            new,
            event: None,
            cause: crate::store::Cause::default(),
        };
        for &kind in crate::api::Kind::ALL {
            for (object, old) in self.view.rows(kind) {
                if store.view().row(object).is_none() {
                    changes.push(change(object, Op::Delete, Some(old.clone()), Some(old)));
                }
            }
            for (object, new) in store.view().rows(kind) {
                match self.view.row(object) {
                    None => changes.push(change(object, Op::Create, None, Some(new))),
                    Some(old) if old.meta().revision != new.meta().revision => {
                        changes.push(change(object, Op::Update, Some(old), Some(new)));
                    }
                    Some(_) => {}
                }
            }
        }
        self.cursor = Cursor(revision);
        changes
    }

    /// The process crashed and starts again: it knows nothing and lists everything.
    pub fn restart(&mut self, store: &Store) {
        self.view = store.view().clone();
        self.cursor = Cursor(store.log().head());
        self.scheduled = false;
    }
}
