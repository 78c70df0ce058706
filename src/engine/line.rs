//! A queue that mostly holds one thing or none, and that one in place.
//!
//! Thousands of components have such queues. What is kept beside its owner is where the owner's
//! memory is anyway; a block of its own would be looked for, and waited for, elsewhere.

use std::collections::VecDeque;

/// First in, first out.
#[derive(Clone, Debug)]
pub struct Line<T> {
    /// None only while the rest is empty.
    first: Option<T>,
    rest: VecDeque<T>,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Line {
            first: None,
            rest: VecDeque::new(),
        }
    }
}

impl<T> Line<T> {
    /// Comes last.
    #[inline]
    pub fn push_back(&mut self, value: T) {
        match self.first {
            None => self.first = Some(value),
            Some(_) => self.rest.push_back(value),
        }
    }

    /// The first goes.
    #[inline]
    pub fn pop_front(&mut self) -> Option<T> {
        let first = self.first.take();
        if first.is_some() {
            self.first = self.rest.pop_front();
        }
        first
    }

    /// Who goes next.
    #[inline]
    pub fn front(&self) -> Option<&T> {
        self.first.as_ref()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    /// Whether there is nobody.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// All are gone.
    pub fn clear(&mut self) {
        self.first = None;
        self.rest.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Draws, Purpose};

    #[test]
    fn it_is_a_queue() {
        const TEST: Purpose = Purpose::new("test/line");
        let stream = &mut Draws::new(1).stream(TEST, 0);
        let (mut line, mut plain) = (Line::default(), VecDeque::new());
        for n in 0..20_000u32 {
            match stream.below(100) {
                0 => {
                    line.clear();
                    plain.clear();
                }
                // Long ones and short ones in turn.
                x if x < if n / 1_000 % 2 == 0 { 40 } else { 55 } => {
                    line.push_back(n);
                    plain.push_back(n);
                }
                _ => assert_eq!(line.pop_front(), plain.pop_front()),
            }
            assert_eq!((line.front(), line.len()), (plain.front(), plain.len()));
            assert_eq!(line.is_empty(), plain.is_empty());
        }
    }
}
