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
pub(super) struct Renewals(Vec<Renewed>);

#[derive(Clone, Copy, Debug)]
struct Renewed {
    revision: u64,
    at: Time,
    stands: Stands,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    Gone,
    /// Its deletion was asked for.
    Leaving,
    Here,
}

const NONE: Renewed = Renewed {
    revision: 0,
    at: Time::ZERO,
    stands: Stands::Gone,
};

impl Renewals {
    /// The row was written as a whole, or is gone.
    pub(super) fn put(&mut self, lease: Id<Lease>, row: Option<&Lease>) {
        let at = lease.index();
        if self.0.len() <= at {
            self.0.resize(at + 1, NONE);
        }
        self.0[at] = row.map_or(NONE, |row| Renewed {
            revision: row.meta.revision,
            at: row.renewed,
            stands: match row.meta.deleting() {
                true => Stands::Leaving,
                false => Stands::Here,
            },
        });
    }

    /// Notes a renewal of a lease that exists, is not being deleted and says something else;
    /// otherwise nothing happens, and the answer is false.
    pub(super) fn renew(&mut self, lease: Id<Lease>, revision: u64, at: Time) -> bool {
        match self.0.get_mut(lease.index()) {
            Some(renewed) if renewed.stands == Stands::Here && renewed.at != at => {
                (renewed.revision, renewed.at) = (revision, at);
                true
            }
            _ => false,
        }
    }

    /// What a lease that exists was renewed at.
    pub(super) fn at(&self, lease: Id<Lease>) -> Option<Time> {
        let renewed = self.0.get(lease.index())?;
        (renewed.stands != Stands::Gone).then_some(renewed.at)
    }

    /// The row as it is with its last renewal.
    pub(super) fn whole(&self, index: u32, row: Row) -> Row {
        let (Row::Lease(lease), Some(renewed)) = (&row, self.0.get(index as usize)) else {
            return row;
        };
        if renewed.revision <= lease.meta.revision {
            return row;
        }
        let mut whole = Lease::clone(lease);
        whole.meta.revision = renewed.revision;
        whole.renewed = renewed.at;
        Row::Lease(Arc::new(whole))
    }
}
