//! The nodes that changed lately, for those who keep something of every node.

use super::NodeIx;

/// What is remembered of a node holds while these are the same.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stamps {
    /// Grows whenever what plugins may see of the node alone has changed.
    pub(super) node: u64,
    /// Grows whenever the node's row has changed, or it came or went.
    pub(super) row: u64,
}

/// Touches that are kept, besides two of each node.
const SPARE: usize = 1024;

/// Nodes in the order in which they were touched.
#[derive(Debug, Default)]
pub(super) struct Touched {
    kept: Vec<u32>,
    /// How many came before them.
    forgotten: u64,
}

impl Touched {
    /// One of so many nodes was touched.
    pub(super) fn push(&mut self, ix: NodeIx, nodes: usize) {
        if self.kept.len() > 2 * nodes + SPARE {
            let half = self.kept.len() / 2;
            self.kept.drain(..half);
            self.forgotten += half as u64;
        }
        self.kept
            .push(u32::try_from(ix).expect("fewer than 2^32 nodes"));
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.forgotten + self.kept.len() as u64
    }

    /// Those after the first `read`; `None` when that was too long ago.
    pub(super) fn since(&self, read: u64) -> Option<&[u32]> {
        let from = usize::try_from(read.checked_sub(self.forgotten)?).ok()?;
        self.kept.get(from..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_reads_too_late_is_told_so() {
        let mut touched = Touched::default();
        for n in 0..10_000 {
            touched.push(n % 7, 7);
            assert_eq!(touched.count(), n as u64 + 1);
            assert_eq!(touched.since(n as u64), Some(&[(n % 7) as u32][..]));
        }
        assert_eq!(touched.since(0), None);
        assert_eq!(touched.since(10_000), Some(&[][..]));
        assert_eq!(touched.since(10_001), None);
    }
}
