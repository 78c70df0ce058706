//! What a template's memo holds for each node.

use rustc_hash::FxHashMap;

/// What is known of a node, in half a line of the processor's cache: a cycle reads that of a dozen
/// nodes which have left it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(32))]
pub(super) struct Known {
    /// Of when the plugins were asked, and of the row when those were asked that look at nothing
    /// else.
    pub(super) stamp: u64,
    pub(super) row_stamp: u64,
    pub(super) plain: i64,
    /// The number of what these said.
    pub(super) by_row: u32,
    /// 0 when the node fits, else the number of the refusal, from 1.
    pub(super) refusal: u16,
    /// Whether what is normalised later is not what it is on most nodes.
    pub(super) unusual: bool,
}

const _: () = assert!(size_of::<Known>() == 32);

/// What follows from a node's row alone: the same on most nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct ByRow {
    pub(super) plain: i64,
    pub(super) refusal: u16,
    pub(super) images: u16,
    pub(super) unusual: bool,
}

/// All of these that a template has met, by number.
#[derive(Debug, Default)]
pub(super) struct ByRows {
    pub(super) met: Vec<ByRow>,
    numbers: FxHashMap<ByRow, u32>,
}

impl ByRows {
    /// The number of this.
    pub(super) fn number(&mut self, said: ByRow) -> u32 {
        let next = u32::try_from(self.met.len()).expect("fewer than 2^32 rows");
        *self.numbers.entry(said).or_insert_with(|| {
            self.met.push(said);
            next
        })
    }
}
