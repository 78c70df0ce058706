//! What leases were renewed at, beside their rows.
//!
//! In a large cluster most writes renew a lease, and change nothing else of it. A view therefore
//! keeps the instant and the revision in a dense array and leaves the row alone; whoever asks for a
//! whole row gets one with both in it.

use std::sync::Arc;

use super::table::Id;
use crate::api::{Lease, Row};
use crate::engine::Time;

/// By number of the lease.
#[derive(Clone, Debug, Default)]
pub(super) struct Renewals {
    leases: Vec<Renewed>,
    /// How often a lease was written as a whole, or went.
    rewritten: u64,
}

/// A quarter of a line of the processor's cache: each renewal reads and writes another one.
#[derive(Clone, Copy, Debug)]
struct Renewed {
    at: Time,
    /// Of the change that brought `at`, times four; what is left says how the lease [stands](Stands).
    since: u64,
}

const _: () = assert!(size_of::<Renewed>() == 16);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Stands {
    Gone,
    /// Its deletion was asked for.
    Leaving,
    Here,
}

impl Renewed {
    const NONE: Renewed = Renewed::new(Time::ZERO, 0, Stands::Gone);

    const fn new(at: Time, since: u64, stands: Stands) -> Renewed {
        let since = since << 2 | stands as u64;
        Renewed { at, since }
    }

    fn since(self) -> u64 {
        self.since >> 2
    }

    fn stands(self, so: Stands) -> bool {
        self.since & 3 == so as u64
    }
}

impl Renewals {
    /// The row was written as a whole, or is gone.
    pub(super) fn put(&mut self, lease: Id<Lease>, row: Option<&Lease>) {
        let at = lease.index();
        if self.leases.len() <= at {
            self.leases.resize(at + 1, Renewed::NONE);
        }
        self.rewritten += 1;
        let before = self.leases[at];
        self.leases[at] = row.map_or(Renewed::NONE, |row| {
            let same = !before.stands(Stands::Gone) && before.at == row.renewed;
            let stands = match row.meta.deleting() {
                true => Stands::Leaving,
                false => Stands::Here,
            };
            let since = if same {
                before.since()
            } else {
                row.meta.revision
            };
            Renewed::new(row.renewed, since, stands)
        });
    }

    /// How often a lease was written as a whole, or went.
    pub(super) fn rewritten(&self) -> u64 {
        self.rewritten
    }

    /// Notes a renewal of a lease that exists, is not being deleted and says something else;
    /// otherwise nothing happens, and the answer is false.
    pub(super) fn renew(&mut self, lease: Id<Lease>, revision: u64, at: Time) -> bool {
        match self.leases.get_mut(lease.index()) {
            Some(renewed) if renewed.stands(Stands::Here) && renewed.at != at => {
                *renewed = Renewed::new(at, revision, Stands::Here);
                true
            }
            _ => false,
        }
    }

    /// What a lease that exists was renewed at, and the revision of the change that says so.
    pub(super) fn at(&self, lease: Id<Lease>) -> Option<(Time, u64)> {
        let renewed = self.leases.get(lease.index())?;
        (!renewed.stands(Stands::Gone)).then_some((renewed.at, renewed.since()))
    }

    /// The row as it is with its last renewal.
    pub(super) fn whole(&self, index: u32, row: Row) -> Row {
        let (Row::Lease(lease), Some(renewed)) = (&row, self.leases.get(index as usize)) else {
            return row;
        };
        // A row that was written later says the same instant.
        if renewed.since() <= lease.meta.revision {
            return row;
        }
        let mut whole = Lease::clone(lease);
        whole.meta.revision = renewed.since();
        whole.renewed = renewed.at;
        Row::Lease(Arc::new(whole))
    }
}
