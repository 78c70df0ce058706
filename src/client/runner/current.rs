//! The step of a plan that is under way: which of its writes were sent, and which comes next.

use std::borrow::Cow;

use crate::api::{KubeEvent, Uid};
use crate::client::plan::{Link, Step, deletion};
use crate::store::{ObjectId, Write};

/// The writes of a step.
#[derive(Debug)]
pub(super) enum Writes {
    Any(Vec<Write>),
    Deletions(Vec<(ObjectId, Uid)>),
}

impl Default for Writes {
    fn default() -> Self {
        Writes::Any(Vec::new())
    }
}

impl Writes {
    pub(super) fn len(&self) -> usize {
        match self {
            Writes::Any(writes) => writes.len(),
            Writes::Deletions(objects) => objects.len(),
        }
    }

    pub(super) fn get(&self, at: usize) -> Option<Cow<'_, Write>> {
        match self {
            Writes::Any(writes) => writes.get(at).map(Cow::Borrowed),
            Writes::Deletions(objects) => {
                let (object, uid) = *objects.get(at)?;
                Some(Cow::Owned(deletion(object, uid)))
            }
        }
    }
}

/// The write or writes of a plan that are under way, or about to be.
#[derive(Debug, Default)]
pub(super) struct Current {
    pub(super) writes: Writes,
    /// One for all, or one for each.
    pub(super) rules: Vec<&'static str>,
    pub(super) chains: Vec<Chain>,
    pub(super) optional: bool,
    /// How many of `writes` were sent, how many go next, and how many replies are missing.
    pub(super) sent: usize,
    pub(super) batch: usize,
    pub(super) slow_start: bool,
    pub(super) missing: usize,
    pub(super) failed: bool,
}

/// The writes of a chain: from the next one that was not sent to the last.
#[derive(Debug)]
pub(super) struct Chain {
    next: usize,
    end: usize,
    failed: bool,
}

impl Current {
    /// What goes out at once: a batch, or the first of each chain.
    pub(super) fn next_batch(&mut self) -> Vec<usize> {
        let from = self.sent;
        let to = self.writes.len().min(from + self.batch);
        self.sent = to;
        if self.slow_start {
            self.batch *= 2;
        }
        match self.chains.is_empty() {
            true => (from..to).collect(),
            false => self.chains.iter().map(|chain| chain.next - 1).collect(),
        }
    }

    pub(super) fn rule(&self, at: usize) -> &'static str {
        let rule = self.rules.get(at).or_else(|| self.rules.last());
        rule.copied().unwrap_or_default()
    }

    /// Which write comes after this one in its chain: the next that is made at all.
    pub(super) fn follower(
        &mut self,
        at: usize,
        failed: bool,
        despite: impl Fn(&Write) -> bool,
    ) -> Follower {
        // Chains lie one behind the other.
        let place = self.chains.partition_point(|chain| chain.end <= at);
        let of = |chain: &&mut Chain| chain.next == at + 1;
        let Some(chain) = self.chains.get_mut(place).filter(of) else {
            return Follower::default();
        };
        chain.failed |= failed;
        let from = chain.next;
        let despite = |at| self.writes.get(at).is_some_and(|write| despite(&write));
        let made = |at: &usize| !chain.failed || despite(*at);
        let next = (from..chain.end).find(made);
        let to = next.unwrap_or(chain.end);
        // Nobody asks for the chain of a write that is not under way.
        chain.next = next.map_or(usize::MAX, |at| at + 1);
        Follower {
            next,
            skipped: to - from,
        }
    }
}

/// What follows a write of a chain.
#[derive(Debug, Default)]
pub(super) struct Follower {
    pub(super) next: Option<usize>,
    /// Writes of the chain that are not made because of the failure.
    pub(super) skipped: usize,
}

/// The writes of a step, or its event.
pub(super) fn current(step: Step) -> Result<Current, KubeEvent> {
    let (writes, rule, optional, slow_start) = match step {
        Step::One {
            write,
            rule,
            optional,
        } => (Writes::Any(vec![write]), rule, optional, false),
        Step::SlowStart { writes, rule } => (Writes::Any(writes), rule, false, true),
        Step::Parallel { writes, rule } => (Writes::Any(writes), rule, false, false),
        Step::Deletions { objects, rule } => (Writes::Deletions(objects), rule, false, false),
        Step::Chains(chains) => return Ok(chained(chains)),
        Step::Event(event) => return Err(event),
    };
    // `SlowStartInitialBatchSize` is 1.
    let batch = if slow_start { 1 } else { writes.len() };
    Ok(Current {
        writes,
        rules: vec![rule],
        optional,
        batch,
        slow_start,
        ..Current::default()
    })
}

fn chained(all: Vec<Vec<Link>>) -> Current {
    let (mut chains, mut links) = (Vec::new(), Vec::new());
    for chain in all.into_iter().filter(|chain| !chain.is_empty()) {
        let from = links.len();
        links.extend(chain);
        chains.push(Chain {
            next: from + 1,
            end: links.len(),
            failed: false,
        });
    }
    let (writes, rules): (Vec<Write>, _) = links.into_iter().unzip();
    Current {
        batch: writes.len(),
        writes: Writes::Any(writes),
        rules,
        chains,
        ..Current::default()
    }
}
