//! Sets of completion indexes as the API writes them: `1,3-5,7`.
//!
//! A port of the intervals of `pkg/controller/job/indexed_job_utils.go`.

use std::collections::BTreeSet;
use std::fmt;

/// Ordered intervals of indexes, both ends included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intervals(Vec<(i32, i32)>);

impl Intervals {
    /// `parseIndexesFromString`: indexes from `completions` on are left out, what cannot be read is
    /// ignored.
    pub fn parse(text: &str, completions: i32) -> Intervals {
        let mut intervals = Intervals::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let Ok(first) = first.parse::<i32>() else {
                continue;
            };
            if first >= completions {
                break;
            }
            if let Ok(last) = last.parse::<i32>() {
                intervals.push(first, last.min(completions - 1));
            }
        }
        intervals
    }

    /// Adds an interval that does not begin before the last one; neighbours become one.
    fn push(&mut self, first: i32, last: i32) {
        match self.0.last_mut() {
            Some(end) if first <= end.1 + 1 => end.1 = end.1.max(last),
            _ => self.0.push((first, last)),
        }
    }

    /// `withOrderedIndexes`: with these indexes, too.
    #[must_use]
    pub fn with(&self, indexes: &BTreeSet<i32>) -> Intervals {
        let singles = indexes.iter().map(|index| (*index, *index));
        self.merged(&Intervals(singles.collect()))
    }

    /// `merge`.
    #[must_use]
    pub fn merged(&self, other: &Intervals) -> Intervals {
        let mut all: Vec<(i32, i32)> = self.0.iter().chain(&other.0).copied().collect();
        all.sort_unstable();
        let mut merged = Intervals::default();
        for (first, last) in all {
            merged.push(first, last);
        }
        merged
    }

    /// How many indexes there are.
    pub fn total(&self) -> i32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `index` is one of them.
    pub fn has(&self, index: i32) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(at).is_some_and(|(first, _)| *first <= index)
    }

    /// The first `count` indexes below `completions` that are not among these
    /// (`firstPendingIndexes`).
    pub fn gaps(&self, count: usize, completions: i32) -> Vec<i32> {
        let mut gaps = Vec::new();
        let mut candidate = 0;
        for (first, last) in self.0.iter().chain(&[(completions, completions)]) {
            while candidate < *first && candidate < completions && gaps.len() < count {
                gaps.push(candidate);
                candidate += 1;
            }
            candidate = candidate.max(last + 1);
        }
        gaps
    }

    /// How many indexes both have (`matchSucceededIndexesRule`).
    pub fn common(&self, other: &Intervals) -> i32 {
        let overlap = |a: &(i32, i32), b: &(i32, i32)| (a.1.min(b.1) - a.0.max(b.0) + 1).max(0);
        let pairs = self
            .0
            .iter()
            .flat_map(|a| other.0.iter().map(move |b| (a, b)));
        pairs.map(|(a, b)| overlap(a, b)).sum()
    }
}

impl fmt::Display for Intervals {
    /// Two neighbours are written `1,2`, three `1-3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `indexed_job_utils_test.go :: TestCalculateSucceededIndexes` and its neighbours.
    #[test]
    fn indexes_are_read_merged_and_written_as_the_api_does() {
        // written, completions, added, printed, total
        let table: [(&str, i32, &[i32], &str, i32); 8] = [
            ("", 5, &[], "", 0),
            ("", 5, &[1, 2], "1,2", 2),
            ("", 9, &[1, 2, 3, 7], "1-3,7", 4),
            ("1,2-4", 10, &[5], "1-5", 5),
            ("0,2,4", 10, &[1, 3], "0-4", 5),
            ("0-8", 5, &[], "0-4", 5),
            ("3,7", 5, &[], "3", 1),
            ("x,2-y,4", 6, &[], "4", 1),
        ];
        for (text, completions, added, printed, total) in table {
            let added = added.iter().copied().collect();
            let all = Intervals::parse(text, completions).with(&added);
            assert_eq!(
                (all.to_string().as_str(), all.total()),
                (printed, total),
                "{text}"
            );
        }
    }

    /// `indexed_job_utils_test.go :: TestFirstPendingIndexes`.
    #[test]
    fn the_first_free_indexes_are_found() {
        let table: [(&str, usize, i32, &[i32]); 6] = [
            ("", 3, 10, &[0, 1, 2]),
            ("", 30, 4, &[0, 1, 2, 3]),
            ("1,4-6", 3, 10, &[0, 2, 3]),
            ("0-2,5", 5, 8, &[3, 4, 6, 7]),
            ("0-7", 5, 8, &[]),
            ("0", 0, 8, &[]),
        ];
        for (text, count, completions, expected) in table {
            let taken = Intervals::parse(text, completions);
            assert_eq!(taken.gaps(count, completions), expected, "{text}");
        }
        let some = Intervals::parse("0-2,5,8-9", 20);
        let has: Vec<i32> = (0..12).filter(|index| some.has(*index)).collect();
        assert_eq!(has, [0, 1, 2, 5, 8, 9]);
        // 2, 5 and 8
        assert_eq!(some.common(&Intervals::parse("2-8", 20)), 3);
    }
}
