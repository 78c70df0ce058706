//! The best node for a pod of a known template, without trying its nodes one after the other.
//!
//! A cycle tries the nodes from where the last one stopped until enough of them fit, and takes the
//! best. What the plugins say of nearly all of them was said before
//! ([`equal_pods`](super::equal_pods)), so a template keeps one number per node, in the order of the
//! search: what it scores there, or that it does not fit. Nodes stand in blocks of 64 of which the
//! best score, how many have it and how many fit are kept; a cycle then walks over blocks, and asks
//! anew about the nodes that changed since it was last there.
//!
//! Nothing is decided here: the numbers are the plugins', and the walk stops where the search would
//! have stopped. What a sum over single nodes cannot say (a normalised score that is not the same
//! on all nodes of the window) is left to the search that tries them all.

use super::cache::{Cache, NodeIx};

/// Nodes that are summed up together: as many as a word of marks has bits.
const BLOCK: usize = 64;
/// The pod does not fit.
const UNFIT: i32 = i32::MIN;
/// The pod fits, but some normalised score is not what it is elsewhere.
const ODD: i32 = i32::MIN + 1;
/// Cycles that are left alone after one in which nodes were odd: they probably still are.
const REST: u32 = 32;

/// What a template scores on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does not fit.
    Unfit,
    /// It fits, and scores so much.
    Fits(i32),
    /// It fits, and its score depends on the other nodes.
    Odd,
}

/// The sum over some nodes.
#[derive(Clone, Copy, Debug)]
struct Sum {
    best: i32,
    /// How many have the best score.
    ties: u32,
    fits: u32,
    odd: bool,
}

const NOTHING: Sum = Sum {
    best: UNFIT,
    ties: 0,
    fits: 0,
    odd: false,
};

impl Sum {
    fn add(&mut self, other: Sum) {
        self.ties = match self.best.cmp(&other.best) {
            std::cmp::Ordering::Less => other.ties,
            std::cmp::Ordering::Equal => self.ties + other.ties,
            std::cmp::Ordering::Greater => self.ties,
        };
        self.best = self.best.max(other.best);
        self.fits += other.fits;
        self.odd |= other.odd;
    }

    /// Without a branch for each value, so that it compiles to a few wide instructions.
    fn of(values: &[i32]) -> Sum {
        let mut best = UNFIT;
        for value in values {
            best = best.max(*value);
        }
        if best == UNFIT {
            return NOTHING;
        }
        let (mut ties, mut fits, mut odd) = (0, 0, 0);
        for value in values {
            ties += u32::from(*value == best);
            fits += u32::from(*value != UNFIT);
            odd += u32::from(*value == ODD);
        }
        Sum {
            best,
            ties,
            fits,
            odd: odd > 0,
        }
    }
}

/// One template's nodes in the order of the search.
#[derive(Debug, Default)]
pub struct Ranking {
    /// Of which order of the nodes.
    order: u64,
    /// Up to where changes of nodes were read.
    read: u64,
    images: u64,
    values: Vec<i32>,
    blocks: Vec<Sum>,
    /// By block: nodes that changed.
    stale: Vec<u64>,
    rest: u32,
}

/// What a cycle is after.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The place in the order where the search begins.
    pub start: usize,
    /// So many nodes that fit are enough.
    pub enough: usize,
}

/// What the search would have found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Best {
    /// The chosen node.
    pub node: NodeIx,
    /// Nodes that would have been tried.
    pub tried: usize,
}

impl Ranking {
    /// Whether it is to be left alone in this cycle.
    pub fn rests(&mut self) -> bool {
        let rests = self.rest > 0;
        self.rest = self.rest.saturating_sub(1);
        rests
    }

    /// Marks what changed since the last cycle of the template. `images` changes when what the pod's
    /// images score does.
    pub fn follow(&mut self, cache: &Cache, images: u64) {
        let nodes = cache.order().len();
        let changed = cache.touched_since(self.read);
        let fresh = self.order != cache.order_stamp() || self.images != images;
        match changed {
            Some(changed) if !fresh => {
                for ix in changed {
                    if let Some(at) = cache.place_in_order(*ix as usize) {
                        self.stale[at / BLOCK] |= 1 << (at % BLOCK);
                    }
                }
            }
            _ => {
                self.values.clear();
                self.values.resize(nodes, UNFIT);
                self.blocks.clear();
                self.blocks.resize(nodes.div_ceil(BLOCK), NOTHING);
                self.stale.clear();
                self.stale.resize(nodes.div_ceil(BLOCK), u64::MAX);
            }
        }
        (self.order, self.images) = (cache.order_stamp(), images);
        self.read = cache.touched();
    }

    /// Nodes that will have to be asked about: those that changed, in the blocks that the walk passes
    /// in any case.
    pub fn outdated<'a>(
        &'a self,
        order: &'a [NodeIx],
        wanted: Wanted,
    ) -> impl Iterator<Item = NodeIx> + 'a {
        let blocks = self.stale.len();
        let first = wanted.start % order.len().max(1) / BLOCK;
        let passed = blocks.min(wanted.enough / BLOCK + 1);
        (first..first + passed).flat_map(move |block| {
            let block = block % blocks;
            let mut marks = self.stale[block];
            std::iter::from_fn(move || {
                let bit = marks.trailing_zeros() as usize;
                marks &= marks.wrapping_sub(1);
                (bit < BLOCK).then(|| order.get(block * BLOCK + bit).copied())?
            })
        })
    }

    /// The best of the nodes that the search would find, `None` when it has to be asked itself.
    /// `ask` says how the template stands on a node, `None` when that cannot be said; `tie` chooses
    /// among so many nodes of equal score.
    pub fn best(
        &mut self,
        order: &[NodeIx],
        wanted: Wanted,
        mut ask: impl FnMut(NodeIx) -> Option<Standing>,
        tie: impl FnOnce(u32) -> u32,
    ) -> Option<Best> {
        let mut window = Window::new(wanted.start, order.len());
        let mut sum = NOTHING;
        let enough = u32::try_from(wanted.enough).ok()?;
        while let Some((from, to)) = window.part() {
            self.refresh(from / BLOCK, order, &mut ask)?;
            let part = self.sum(from, to);
            if sum.fits + part.fits < enough {
                sum.add(part);
                window.tried += to - from;
                continue;
            }
            let (mut last, mut fits) = (from, sum.fits);
            while fits < enough {
                fits += u32::from(self.values[last] != UNFIT);
                last += 1;
            }
            sum.add(Sum::of(&self.values[from..last]));
            window.tried += last - from;
            break;
        }
        if sum.odd {
            self.rest = REST;
            return None;
        }
        let chosen = match sum.ties {
            0 => return None,
            1 => 0,
            many => tie(many),
        };
        let at = self.nth(Window::new(wanted.start, order.len()), sum.best, chosen)?;
        Some(Best {
            node: order[at],
            tried: window.tried,
        })
    }

    /// Asks about the nodes of a block that changed.
    fn refresh(
        &mut self,
        block: usize,
        order: &[NodeIx],
        ask: &mut impl FnMut(NodeIx) -> Option<Standing>,
    ) -> Option<()> {
        if self.stale[block] == 0 {
            return Some(());
        }
        let first = block * BLOCK;
        let last = order.len().min(first + BLOCK);
        loop {
            let at = first + self.stale[block].trailing_zeros() as usize;
            if at >= last {
                break;
            }
            self.values[at] = match ask(order[at])? {
                Standing::Unfit => UNFIT,
                Standing::Odd => ODD,
                Standing::Fits(score) if score > ODD => score,
                Standing::Fits(_) => return None,
            };
            self.stale[block] &= self.stale[block] - 1;
        }
        self.stale[block] = 0;
        self.blocks[block] = Sum::of(&self.values[first..last]);
        Some(())
    }

    /// The sum over a part of one block.
    fn sum(&self, from: usize, to: usize) -> Sum {
        let whole =
            from.is_multiple_of(BLOCK) && (to.is_multiple_of(BLOCK) || to == self.values.len());
        match whole {
            true => self.blocks[from / BLOCK],
            false => Sum::of(&self.values[from..to]),
        }
    }

    /// The place of the node of this score that comes after `before` others of it.
    fn nth(&self, mut window: Window, score: i32, mut before: u32) -> Option<usize> {
        while let Some((from, to)) = window.part() {
            window.tried += to - from;
            let part = self.sum(from, to);
            if part.best < score || (part.best == score && part.ties <= before) {
                before -= if part.best == score { part.ties } else { 0 };
                continue;
            }
            for at in from..to {
                if self.values[at] == score {
                    if before == 0 {
                        return Some(at);
                    }
                    before -= 1;
                }
            }
        }
        None
    }
}

/// The nodes from a start round to it, block by block.
#[derive(Clone, Copy, Debug)]
struct Window {
    start: usize,
    nodes: usize,
    /// Nodes that are behind.
    tried: usize,
}

impl Window {
    fn new(start: usize, nodes: usize) -> Window {
        Window {
            start: start % nodes.max(1),
            nodes,
            tried: 0,
        }
    }

    /// The next nodes of one block, from the first up to before the second place.
    fn part(&self) -> Option<(usize, usize)> {
        if self.tried >= self.nodes {
            return None;
        }
        let unrolled = self.start + self.tried;
        let (from, end) = match unrolled < self.nodes {
            true => (unrolled, self.nodes),
            false => (unrolled - self.nodes, self.start),
        };
        Some((from, end.min((from / BLOCK + 1) * BLOCK)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Draws, Purpose};

    /// One node after the other, as the search does it.
    fn plainly(values: &[Standing], wanted: Wanted, tie: u32) -> Option<Best> {
        let nodes = values.len();
        let mut found: Vec<(usize, i32)> = Vec::new();
        let mut tried = 0;
        for n in 0..nodes {
            let at = (wanted.start + n) % nodes;
            tried += 1;
            match values[at] {
                Standing::Unfit => continue,
                Standing::Odd => return None,
                Standing::Fits(score) => found.push((at, score)),
            }
            if found.len() >= wanted.enough {
                break;
            }
        }
        let most = found.iter().map(|(_, score)| *score).max()?;
        let mut best = found.iter().filter(|(_, score)| *score == most);
        let many = u32::try_from(best.clone().count()).expect("few");
        let (node, _) = best.nth(tie.min(many - 1) as usize)?;
        Some(Best { node: *node, tried })
    }

    #[test]
    fn the_walk_over_blocks_finds_what_a_walk_over_nodes_finds() {
        const TEST: Purpose = Purpose::new("test/ranking");
        let stream = &mut Draws::new(1).stream(TEST, 0);
        let mut odd = 0;
        for case in 0..3_000 {
            let nodes = 1 + stream.below(300) as usize;
            let order: Vec<NodeIx> = (0..nodes).collect();
            let unfit = stream.below(100);
            let values: Vec<Standing> = (0..nodes)
                .map(|_| match stream.below(100) {
                    n if n < unfit => Standing::Unfit,
                    _ if stream.below(2_000) == 0 => Standing::Odd,
                    _ => Standing::Fits(stream.below(4) as i32 - 1),
                })
                .collect();
            let mut cache = Cache::default();
            cache.refresh();
            let mut ranking = Ranking {
                values: vec![UNFIT; nodes],
                blocks: vec![NOTHING; nodes.div_ceil(BLOCK)],
                stale: vec![u64::MAX; nodes.div_ceil(BLOCK)],
                ..Ranking::default()
            };
            for _ in 0..4 {
                let wanted = Wanted {
                    start: stream.below(400) as usize,
                    enough: 1 + stream.below(nodes as u64) as usize,
                };
                let tie = stream.below(5) as u32;
                let found = ranking.best(
                    &order,
                    wanted,
                    |ix| Some(values[ix]),
                    |many| tie.min(many - 1),
                );
                let expected = plainly(&values, wanted, tie);
                odd += u32::from(ranking.rests() && expected.is_none());
                // An odd node behind the last that is needed is met by neither.
                assert_eq!(found, expected, "case {case}: {wanted:?} of {nodes}");
            }
        }
        assert!(odd > 50, "{odd} windows had odd nodes");
    }
}
