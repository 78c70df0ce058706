//! The change log and the cursors that read it.
//!
//! There are no per-watcher queues: a watcher is a [`Cursor`], and what it has not read yet is
//! simply the rest of the log. The log forgets entries when every live cursor has read them, or
//! when more than [`Log::window`] are kept for a cursor that stands still; that cursor then gets
//! [`Gone`] and must relist, as a real watch does after etcd compaction.

use std::collections::VecDeque;

use super::write::Change;

/// A reader's place: the revision it has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(pub u64);

/// The log no longer reaches back to a cursor (HTTP 410).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Entries for which there is room in any case.
const ROOM: usize = 128;

/// The recent changes, oldest first, without gaps in revision.
#[derive(Debug)]
pub struct Log {
    entries: VecDeque<Change>,
    /// Revision before the oldest entry kept.
    floor: u64,
    /// The most entries kept for a reader that stands still.
    pub window: usize,
}

impl Default for Log {
    fn default() -> Self {
        Log {
            entries: VecDeque::new(),
            floor: 0,
            window: 100_000,
        }
    }
}

impl Log {
    /// Appends; revisions must be consecutive.
    pub(super) fn push(&mut self, change: Change) {
        assert_eq!(change.revision, self.head() + 1, "the log has no gaps");
        self.entries.push_back(change);
    }

    /// How many entries are kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The newest revision.
    pub fn head(&self) -> u64 {
        self.floor + self.entries.len() as u64
    }

    /// Whether everything after `cursor` is still kept.
    pub fn keeps(&self, cursor: Cursor) -> bool {
        cursor.0 >= self.floor
    }

    /// The entries after `cursor`, oldest first.
    pub fn since(&self, cursor: Cursor) -> Result<impl Iterator<Item = &Change>, Gone> {
        if !self.keeps(cursor) {
            return Err(Gone);
        }
        let skip = usize::try_from(cursor.0 - self.floor).unwrap_or(usize::MAX);
        Ok(self.entries.range(skip.min(self.entries.len())..))
    }

    /// The entry of this revision, if it is still kept.
    pub fn get(&self, revision: u64) -> Option<&Change> {
        let at = revision.checked_sub(self.floor + 1)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// Forgets what every cursor has read, and whatever exceeds the window.
    pub fn compact(&mut self, slowest: Cursor) {
        let read = slowest.0.min(self.head()).saturating_sub(self.floor);
        let read = usize::try_from(read).unwrap_or(usize::MAX);
        let goes = read.max(self.entries.len().saturating_sub(self.window));
        // Where they are: most are renewals, and own nothing.
        self.entries.drain(..goes);
        self.floor += goes as u64;
        // What is written next goes round through all the room there is, and little of it stays in
        // the processor's cache.
        if self.entries.capacity() > 4 * ROOM && self.entries.len() < ROOM {
            self.entries.shrink_to(ROOM);
        }
    }
}
