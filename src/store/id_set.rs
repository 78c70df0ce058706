//! A set of numbers in order, for indexes: mostly appended to, taken from anywhere.
//!
//! Numbers of objects grow, so that a new one nearly always belongs at the end of a sorted list. One
//! that is taken out of a long list is only marked; when half of the list is marked it is made anew.

/// Marks a number that is not in the set any more.
const GONE: u32 = 1 << 31;
/// Lists up to this length are kept without marks.
const SHORT: usize = 64;

/// A set of numbers below 2³¹, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct IdSet {
    ids: Vec<u32>,
    /// How many of them are marked.
    gone: usize,
}

impl IdSet {
    fn find(&self, id: u32) -> Result<usize, usize> {
        match self.ids.last() {
            Some(last) if last & !GONE < id => Err(self.ids.len()),
            _ => self.ids.binary_search_by_key(&id, |id| id & !GONE),
        }
    }

    /// Puts a number in.
    pub(super) fn insert(&mut self, id: u32) {
        assert!(id < GONE, "an index holds numbers below 2^31");
        match self.find(id) {
            Err(at) => self.ids.insert(at, id),
            Ok(at) => {
                self.gone -= usize::from(self.ids[at] != id);
                self.ids[at] = id;
            }
        }
    }

    /// Takes a number out.
    pub(super) fn remove(&mut self, id: u32) {
        let Ok(at) = self.find(id) else {
            return;
        };
        if self.ids.len() <= SHORT {
            self.gone -= usize::from(self.ids[at] != id);
            self.ids.remove(at);
            return;
        }
        self.gone += usize::from(self.ids[at] == id);
        self.ids[at] |= GONE;
        if self.gone * 2 > self.ids.len() {
            self.ids.retain(|id| id & GONE == 0);
            self.ids.shrink_to(self.ids.len() * 2);
            self.gone = 0;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.len() == self.gone
    }

    /// The numbers in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.ids.iter().copied().filter(|id| id & GONE == 0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::engine::{Draws, Purpose};

    #[test]
    fn it_holds_what_an_ordinary_set_holds() {
        const TEST: Purpose = Purpose::new("test/id-set");
        let draws = Draws::new(1);
        for (case, bound) in [(0, 20u64), (1, 100), (2, 1_000)] {
            let (mut set, mut plain) = (IdSet::default(), BTreeSet::new());
            for n in 0..4_000 {
                let id = draws.below(TEST, case, n * 2, bound) as u32;
                // More and more of them are taken out, then put back in.
                if draws.below(TEST, case, n * 2 + 1, 4_000) > n % 2_000 * 2 {
                    set.insert(id);
                    plain.insert(id);
                } else {
                    set.remove(id);
                    plain.remove(&id);
                }
                assert_eq!(set.is_empty(), plain.is_empty());
                assert!(set.iter().eq(plain.iter().copied()), "after {n} of {bound}");
            }
        }
    }
}
