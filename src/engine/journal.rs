//! The journal of a run: all that the outside said, so that the run can be repeated without it.
//!
//! A simulated run hears nothing from outside and its journal has no entries; its scenario and seed
//! are enough. A run against real processes is its scenario plus this.
//!
//! As bytes: eight bytes of magic, the format version (`u32`, little-endian), the [`Journal`] in
//! postcard's encoding (compact, no field names), and 16 bytes of [`Digest`] over all before them.

use std::hash::Hasher;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::digest::Digest;
use super::time::Time;

const MAGIC: [u8; 8] = *b"\x89journal";
/// The version of the format that this program writes and reads.
pub const FORMAT: u32 = 1;
const FRAME: usize = 8 + 4 + 16;

/// What run a journal is of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Header {
    /// The digest of the run's whole input except the seed.
    pub scenario: u128,
    /// The run's seed.
    pub seed: u64,
    /// Whatever the caller wants to keep beside it.
    pub metadata: Vec<u8>,
}

/// One event from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Outside<E> {
    /// When it happened, or the instant of the run at which it was heard if that is later.
    pub at: Time,
    /// After how many dispatched events it was heard.
    pub after: u64,
    /// What happened.
    pub event: E,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Closing {
    /// The last instant of the run.
    pub at: Time,
    /// How many events were dispatched.
    pub dispatched: u64,
    /// The digest of everything that happened.
    pub digest: u128,
}

/// The journal of one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Journal<E> {
    /// What run it is of.
    pub header: Header,
    entries: Vec<Outside<E>>,
    closing: Option<Closing>,
}

/// Why bytes are not a journal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Something else, or cut within the first bytes.
    #[error("this is not a journal")]
    NotAJournal,
    /// Written by another version of the program.
    #[error("journal format {0} is not supported (this program reads format {FORMAT})")]
    Format(u32),
    /// Cut off or changed since it was written.
    #[error("the journal is truncated or corrupt")]
    Corrupt,
    /// Intact, but its events are not the expected ones.
    #[error("the journal's content is not understood: {0}")]
    Content(String),
    /// An event that cannot be written.
    #[error("the journal cannot be encoded: {0}")]
    Encode(String),
}

impl<E> Journal<E> {
    /// A journal without entries.
    pub fn new(header: Header) -> Journal<E> {
        Journal {
            header,
            entries: Vec::new(),
            closing: None,
        }
    }

    /// Adds an event that was heard after `after` dispatched events. Asserts the order of hearing.
    pub fn heard(&mut self, at: Time, after: u64, event: E) {
        let last = self.entries.last().map_or(0, |entry| entry.after);
        assert!(self.closing.is_none(), "a closed journal hears nothing");
        assert!(
            last <= after,
            "heard after {last} events, then after {after}"
        );
        self.entries.push(Outside { at, after, event });
    }

    /// Ends the journal.
    pub fn close(&mut self, closing: Closing) {
        self.closing = Some(closing);
    }

    /// What the outside said, in the order of hearing.
    pub fn entries(&self) -> &[Outside<E>] {
        &self.entries
    }

    /// How the run ended; `None` when it was interrupted before it could say.
    pub fn closing(&self) -> Option<&Closing> {
        self.closing.as_ref()
    }

    /// Reads the journal from its beginning, for [`super::drive()`].
    pub fn playback(&self) -> Playback<'_, E> {
        Playback {
            entries: &self.entries,
        }
    }
}

impl<E: Serialize> Journal<E> {
    /// The journal as bytes.
    pub fn encode(&self) -> Result<Vec<u8>, JournalError> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(FORMAT.to_le_bytes());
        let mut bytes = postcard::to_extend(self, bytes)
            .map_err(|error| JournalError::Encode(error.to_string()))?;
        bytes.extend(digest_of(&bytes).to_le_bytes());
        Ok(bytes)
    }
}

impl<E: DeserializeOwned> Journal<E> {
    /// Reads back what [`Journal::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Journal<E>, JournalError> {
        if bytes.len() < FRAME || bytes[..8] != MAGIC {
            return Err(JournalError::NotAJournal);
        }
        let (framed, digest) = bytes.split_at(bytes.len() - 16);
        let (head, body) = framed.split_at(12);
        let format = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
        if format != FORMAT {
            return Err(JournalError::Format(format));
        }
        if digest_of(framed).to_le_bytes() != digest {
            return Err(JournalError::Corrupt);
        }
        let content = |error: postcard::Error| JournalError::Content(error.to_string());
        let (journal, rest) = postcard::take_from_bytes::<Journal<E>>(body).map_err(content)?;
        if !rest.is_empty() {
            return Err(JournalError::Content(format!(
                "{} bytes too many",
                rest.len()
            )));
        }
        if !journal.entries.is_sorted_by_key(|entry| entry.after) {
            return Err(JournalError::Content("entries are out of order".to_owned()));
        }
        Ok(journal)
    }
}

fn digest_of(bytes: &[u8]) -> u128 {
    let mut digest = Digest::new();
    digest.write(bytes);
    digest.finish128()
}

/// A place in a journal that is being replayed.
#[derive(Clone, Copy, Debug)]
pub struct Playback<'a, E> {
    entries: &'a [Outside<E>],
}

impl<E: Copy> Playback<'_, E> {
    /// The next entry, if it was heard after at most `dispatched` events.
    pub(super) fn take(&mut self, dispatched: u64) -> Option<Outside<E>> {
        let (first, rest) = self.entries.split_first()?;
        if first.after > dispatched {
            return None;
        }
        self.entries = rest;
        Some(*first)
    }

    /// After how many dispatched events the next entry was heard.
    pub fn next_after(&self) -> Option<u64> {
        self.entries.first().map(|entry| entry.after)
    }

    /// How many entries are left. Those that were heard after the last event of the recorded run
    /// may stay when the replay stops there.
    pub fn remaining(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests;
