//! How the nodes stand for a template, for its [`Ranking`](crate::sched::ranking::Ranking).

use super::ClassMemo;
use crate::sched::cache::{Cache, NodeIx};
use crate::sched::framework::Framework;
use crate::sched::plugin::{Code, Cx, CycleState, PluginName, PodEntry};
use crate::sched::ranking::{Best, Standing, Wanted};

/// Whether the normalised scores of a plugin are equal where its raw ones are.
pub(super) fn levels(plugin: PluginName) -> bool {
    // `DefaultNormalizeScore`.
    matches!(
        plugin,
        PluginName::NodeAffinity | PluginName::TaintToleration
    )
}

impl ClassMemo {
    /// The node that a cycle would choose, if what is remembered is all that decides about it:
    /// every filter and every score is the template's and the node's own, or the same everywhere.
    /// `tie` chooses among so many nodes of equal score.
    pub fn best(
        &mut self,
        framework: &Framework,
        cx: &Cx<'_>,
        state: &CycleState,
        pod: &PodEntry,
        wanted: Wanted,
        tie: impl FnOnce(u32) -> u32,
    ) -> Option<Best> {
        if !self.rankable || !self.complete() {
            return None;
        }
        let mut open = self.open.iter().map(|index| framework.plugin_at(*index));
        if !open.all(|plugin| plugin.scores_alike(cx, pod)) {
            return None;
        }
        let mut ranking = std::mem::take(&mut self.ranking);
        let mut best = None;
        if !ranking.rests() {
            ranking.follow(cx.cache, self.images.version);
            // A dozen nodes that have left the processor's cache: each would be waited for on its
            // own while the one before is asked about. To have read them is to wait once for all.
            let outdated = ranking.outdated(cx.cache.order(), wanted);
            let read = outdated.fold(0, |sum, ix| sum ^ self.glance(cx.cache, ix));
            std::hint::black_box(read);
            let ask = |ix| self.standing(framework, cx, state, pod, ix);
            best = ranking.best(cx.cache.order(), wanted, ask, tie);
        }
        self.ranking = ranking;
        best
    }

    /// Reads a bit of everything that asking about a node reads.
    fn glance(&self, cache: &Cache, ix: NodeIx) -> i64 {
        let node = cache.node(ix);
        self.known[ix].plain ^ node.requested.cpu ^ node.allocatable.cpu
    }

    /// How the template stands on a node; `None` when a plugin fails.
    fn standing(
        &mut self,
        framework: &Framework,
        cx: &Cx<'_>,
        state: &CycleState,
        pod: &PodEntry,
        ix: NodeIx,
    ) -> Option<Standing> {
        match self.refusal(framework, cx, state, pod, ix) {
            0 => {}
            number if self.status(number).code == Code::Error => return None,
            _ => return Some(Standing::Unfit),
        }
        let known = self.known[ix];
        if known.unusual {
            return Some(Standing::Odd);
        }
        let images = match self.score_images(cx.cache, pod) {
            Some(weight) => self.images.scores[self.images_of(&known)] * weight,
            None => 0,
        };
        let score = i32::try_from(known.plain + images).ok()?;
        Some(Standing::Fits(score))
    }
}
