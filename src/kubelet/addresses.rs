//! Which addresses of a node's range are in use.

use smallvec::SmallVec;

/// A set of small numbers. Those of a range of 256 addresses, the usual one, stand in the set itself:
/// every pod of the node takes one and gives it back.
#[derive(Debug, Default)]
pub(super) struct Addresses(SmallVec<[u64; 4]>);

/// How many numbers a word has.
const WORD: usize = u64::BITS as usize;

impl Addresses {
    /// Takes a number; returns whether it was free.
    pub(super) fn take(&mut self, number: usize) -> bool {
        let (word, bit) = (number / WORD, 1 << (number % WORD));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let free = self.0[word] & bit == 0;
        self.0[word] |= bit;
        free
    }

    /// Gives a number back.
    pub(super) fn free(&mut self, number: usize) {
        if let Some(word) = self.0.get_mut(number / WORD) {
            *word &= !(1 << (number % WORD));
        }
    }

    /// Gives all numbers back.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_given_once_until_it_is_free_again() {
        for range in [4, 256, 1_000] {
            let mut all = Addresses::default();
            assert!((0..range).all(|number| all.take(number)));
            assert!((0..range).all(|number| !all.take(number)));
            all.free(range - 1);
            all.free(range * 9);
            let free: Vec<usize> = (0..range).filter(|number| all.take(*number)).collect();
            assert_eq!(free, [range - 1]);
            all.clear();
            assert!((0..range).rev().all(|number| all.take(number)));
        }
    }
}
