//! Which nodes refused a pod and why: few different refusals, for many nodes.

use super::cache::NodeIx;
use super::plugin::Status;

/// Refusals by node. Equal ones are held once, so that a pod that fits none of 5,000 nodes costs a
/// few bytes for each.
#[derive(Clone, Debug, Default)]
pub struct Refusals {
    statuses: Vec<Status>,
    /// How many nodes have each status.
    counts: Vec<usize>,
    /// By node: the number of its status, counted from 1.
    of: Vec<u32>,
    len: usize,
}

impl Refusals {
    /// The number under which a status is held.
    pub fn number(&mut self, status: &Status) -> u32 {
        let known = self.statuses.iter().position(|s| s == status);
        let at = known.unwrap_or_else(|| {
            self.statuses.push(status.clone());
            self.counts.push(0);
            self.statuses.len() - 1
        });
        u32::try_from(at + 1).expect("fewer statuses than nodes")
    }

    /// Notes the refusal of a node, in place of an earlier one.
    pub fn insert(&mut self, node: NodeIx, status: &Status) {
        let number = self.number(status);
        self.insert_numbered(node, number);
    }

    /// As [`Refusals::insert`], by the number of the status.
    pub fn insert_numbered(&mut self, node: NodeIx, number: u32) {
        if node >= self.of.len() {
            self.of.resize((node + 1).max(self.of.len() * 2), 0);
        }
        match std::mem::replace(&mut self.of[node], number) {
            0 => self.len += 1,
            before => self.counts[before as usize - 1] -= 1,
        }
        self.counts[number as usize - 1] += 1;
    }

    /// Why a node refused.
    pub fn get(&self, node: NodeIx) -> Option<&Status> {
        let number = *self.of.get(node)?;
        self.statuses.get((number as usize).checked_sub(1)?)
    }

    /// How many nodes refused.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no node refused.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The different refusals, each with the number of its nodes.
    pub fn counted(&self) -> impl Iterator<Item = (&Status, usize)> {
        let all = self.statuses.iter().zip(self.counts.iter().copied());
        all.filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_refusal_of_a_node_counts() {
        let status = Status::unschedulable;
        let mut refusals = Refusals::default();
        for (node, why) in [(7, "a"), (2, "b"), (7, "b"), (9, "a"), (7, "c")] {
            refusals.insert(node, &status(why));
        }
        let told = |node| refusals.get(node).map(Status::message);
        assert_eq!(told(7).as_deref(), Some("c"));
        assert_eq!((told(2).as_deref(), told(3)), (Some("b"), None));
        let counted: Vec<_> = refusals.counted().map(|(s, n)| (s.message(), n)).collect();
        let expected = [("a", 1), ("b", 1), ("c", 1)].map(|(s, n)| (s.to_owned(), n));
        assert_eq!((counted, refusals.len()), (expected.to_vec(), 3));
    }
}
