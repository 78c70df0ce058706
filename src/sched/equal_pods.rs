//! What is remembered from one cycle to the next about equal pods.
//!
//! Most plugins look at nothing but the pod's template and one node ([`Plugin::by_node`](super::plugin::Plugin::by_node)). Their
//! verdict and their scores for a node stay the same for every pod of the template until the node
//! changes, which its [stamp](Cache::stamp) tells. Pods of one workload come by the thousand, and a
//! cycle changes one node, so nearly all of what a cycle asks was answered before.
//!
//! Nothing here decides: a memo holds what the plugins said. With
//! [`Tuning::memo`](super::config::Tuning) off the plugins are asked every time; the results are
//! the same, which the property tests of `sched::tests` check.

mod best;
mod known;

use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use known::{ByRow, ByRows, Known};

use super::cache::{Cache, NodeIx};
use super::config::Point;
use super::framework::{Framework, ask_filter};
use super::node_info::NodeInfo;
use super::plugin::{Cx, CycleState, PluginName, PluginSet, PodEntry, Status};
use super::plugins::image_locality;
use super::preempt::Candidate;
use super::queue::Nominator;
use super::ranking::Ranking;
use super::template::Template;

/// Verdicts that are remembered, of all templates together.
const ROWS: usize = 1 << 20;
/// At least so many templates are remembered, however many nodes there are.
const CLASSES: usize = 32;
/// Templates of which it is remembered that they were seen once.
const SEEN: usize = 4096;
/// No image of the pod is on the node.
const NO_IMAGES: u16 = 0;

/// Profile, address of the template, plugins whose Filter is skipped.
type Key = (usize, usize, PluginSet);

/// What is remembered.
#[derive(Debug, Default)]
pub struct EqualPods {
    classes: FxHashMap<Key, ClassMemo>,
    /// A template is remembered when it comes for the second time: one that never comes again
    /// would only push out others.
    seen: FxHashMap<Key, ()>,
    uses: u64,
}

/// One template's verdicts and scores on all nodes.
#[derive(Debug)]
pub struct ClassMemo {
    /// Keeps its address from being used again.
    template: Arc<Template>,
    last_use: u64,
    /// Filters that are remembered: those before the first that looks beyond the node. The first
    /// of them look at the node's row alone.
    row_filters: SmallVec<[usize; 8]>,
    filters: SmallVec<[usize; 8]>,
    /// Filters that are not.
    rest: SmallVec<[usize; 4]>,
    /// Scores that need no normalisation, and are summed up with their weights; those that look at
    /// the node's row alone, and others.
    row_plain: SmallVec<[usize; 4]>,
    plain: SmallVec<[usize; 4]>,
    /// Scores that are normalised over the feasible nodes, and whether they look at the row alone.
    normalized: SmallVec<[(usize, bool); 4]>,
    /// Scores that are not remembered.
    open: SmallVec<[usize; 2]>,
    /// Whether nodes can be ranked while the open scores say nothing.
    rankable: bool,
    ranking: Ranking,
    /// Whether all of these look at the row alone.
    levels_by_row: bool,
    /// What is normalised later is this on most nodes.
    usual: Option<SmallVec<[i64; 2]>>,
    /// By node.
    known: Vec<Known>,
    rows: ByRows,
    /// By node and place in `normalized`.
    raw: Vec<i64>,
    statuses: Vec<Status>,
    images: Images,
    /// By node, from the first time on that any is promised to pods.
    promised: Vec<Promised>,
    /// By node, from the first time on that the template makes room.
    room: Vec<Option<Box<Room>>>,
}

/// What the filters say of a node with the pods that are nominated to it.
#[derive(Clone, Copy, Debug, Default)]
struct Promised {
    stamp: u64,
    version: u64,
    refusal: u16,
}

/// Whom the template would displace on a node.
#[derive(Debug)]
struct Room {
    stamp: u64,
    version: u64,
    found: Result<Candidate, Status>,
}

/// ImageLocality looks at sizes on the node, and at how many nodes have the image: the first is
/// remembered per node, the second is added when either changes.
#[derive(Debug, Default)]
struct Images {
    weight: Option<i64>,
    sizes: Vec<SmallVec<[(usize, i64); 2]>>,
    stamp: u64,
    scores: Vec<i64>,
    /// Changes when a score does, or what the numbers of scores mean.
    version: u64,
}

impl Images {
    /// The number of nodes changed, or of those with some image: most scores stay as they are.
    fn rescore(&mut self, cache: &Cache, template: &Template) {
        for (sizes, score) in self.sizes.iter().zip(&mut self.scores) {
            let now = image_locality::score_of(cache, template, sizes);
            self.version += u64::from(now != *score);
            *score = now;
        }
    }
}

impl EqualPods {
    /// The memo for a pod, if it is worth having one.
    pub fn class(
        &mut self,
        framework: (usize, &Framework),
        cx: &Cx<'_>,
        state: &CycleState,
        pod: &PodEntry,
    ) -> Option<&mut ClassMemo> {
        // NodeName looks at the pod, not at its template.
        if pod.pod.node_name.is_some() {
            return None;
        }
        let address = Arc::as_ptr(&pod.template) as usize;
        let key = (framework.0, address, state.skip_filter);
        self.uses += 1;
        if !self.classes.contains_key(&key) {
            if self.seen.remove(&key).is_none() {
                if self.seen.len() >= SEEN {
                    self.seen.clear();
                }
                self.seen.insert(key, ());
                return None;
            }
            self.make_room(cx.cache.places());
            let class = ClassMemo::new(framework.1, cx, state, pod);
            self.classes.insert(key, class);
        }
        let class = self.classes.get_mut(&key)?;
        class.last_use = self.uses;
        class.bring_up_to_date(cx, pod);
        Some(class)
    }

    /// Whether the plugins that filter this pod look at nothing but its template and one node; after
    /// PreFilter, whose skips are in `state`.
    pub fn suits(framework: &Framework, state: &CycleState, pod: &PodEntry) -> bool {
        let mut filters = framework.at(Point::Filter);
        filters.all(|p| state.skip_filter.has(p.name()) || p.by_node(pod))
    }

    /// Forgets the template that was not used for the longest time.
    fn make_room(&mut self, nodes: usize) {
        if self.classes.len() < (ROWS / nodes.max(1)).max(CLASSES) {
            return;
        }
        let oldest = self.classes.values().map(|c| c.last_use).min();
        self.classes.retain(|_, c| Some(c.last_use) != oldest);
    }
}

impl ClassMemo {
    fn new(framework: &Framework, cx: &Cx<'_>, state: &CycleState, pod: &PodEntry) -> ClassMemo {
        let mut class = ClassMemo {
            template: pod.template.clone(),
            last_use: 0,
            row_filters: SmallVec::new(),
            filters: SmallVec::new(),
            rest: SmallVec::new(),
            row_plain: SmallVec::new(),
            plain: SmallVec::new(),
            normalized: SmallVec::new(),
            open: SmallVec::new(),
            rankable: true,
            ranking: Ranking::default(),
            levels_by_row: true,
            usual: None,
            known: Vec::new(),
            rows: ByRows::default(),
            raw: Vec::new(),
            statuses: Vec::new(),
            images: Images::default(),
            promised: Vec::new(),
            room: Vec::new(),
        };
        for index in framework.indexes(Point::Filter) {
            let plugin = framework.plugin_at(*index);
            if state.skip_filter.has(plugin.name()) {
                continue;
            }
            if class.rest.is_empty() && plugin.by_node(pod) {
                match class.filters.is_empty() && plugin.by_row(pod) {
                    true => class.row_filters.push(*index),
                    false => class.filters.push(*index),
                }
            } else {
                class.rest.push(*index);
            }
        }
        // PreScore of such a plugin looks at the template alone.
        let mut scratch = CycleState::default();
        for index in framework.indexes(Point::Score) {
            let plugin = framework.plugin_at(*index);
            if plugin.name() == PluginName::ImageLocality {
                class.images.weight = Some(framework.weight_at(*index));
            } else if plugin.name() == PluginName::VolumeBinding {
                // Its Score is behind a gate that is off.
            } else if plugin.by_node(pod) {
                let asked = framework.runs(plugin.name(), Point::PreScore);
                if asked && !plugin.pre_score(cx, &mut scratch, pod, &[]) {
                    continue;
                }
                match (plugin.normalizes(), plugin.by_row(pod)) {
                    (true, by_row) => class.normalized.push((*index, by_row)),
                    (false, true) => class.row_plain.push(*index),
                    (false, false) => class.plain.push(*index),
                }
            } else {
                class.open.push(*index);
            }
        }
        let mut normalized = class.normalized.iter();
        class.rankable = normalized.all(|(i, _)| best::levels(framework.plugin_at(*i).name()));
        class.levels_by_row = class.normalized.iter().all(|(_, by_row)| *by_row);
        class.images.sizes.push(SmallVec::new());
        class
    }

    fn bring_up_to_date(&mut self, cx: &Cx<'_>, pod: &PodEntry) {
        debug_assert!(
            Arc::ptr_eq(&self.template, &pod.template),
            "of one template"
        );
        let places = cx.cache.places();
        if self.known.len() < places {
            self.known.resize(places, Known::default());
            self.raw.resize(places * self.normalized.len(), 0);
        }
        if self.images.weight.is_some() && self.images.stamp != cx.cache.image_stamp() {
            self.images.stamp = cx.cache.image_stamp();
            self.images.rescore(cx.cache, &self.template);
        }
    }

    /// What the remembered filters say of a node: the number of the refusal, 0 for none.
    #[inline]
    pub fn refusal(
        &mut self,
        framework: &Framework,
        cx: &Cx<'_>,
        state: &CycleState,
        pod: &PodEntry,
        ix: NodeIx,
    ) -> u16 {
        let known = &self.known[ix];
        if known.stamp == cx.cache.stamp(ix) {
            return known.refusal;
        }
        self.ask(framework, cx, state, pod, ix)
    }

    /// Whether all filters are remembered, and nothing else decides about a node.
    pub fn complete(&self) -> bool {
        self.rest.is_empty()
    }

    /// [`ClassMemo::refusal`] with the pods that are nominated to the node; for a memo that is
    /// [complete](ClassMemo::complete) and a pod that is not nominated there itself.
    pub fn refusal_beside(
        &mut self,
        framework: &Framework,
        cx: &Cx<'_>,
        state: &CycleState,
        pod: &PodEntry,
        (ix, nominator): (NodeIx, &Nominator),
    ) -> u16 {
        if self.promised.len() <= ix {
            self.promised.resize(cx.cache.places(), Promised::default());
        }
        let (stamp, version) = (cx.cache.stamp(ix), nominator.version(ix));
        let known = self.promised[ix];
        if (known.stamp, known.version) == (stamp, version) {
            return known.refusal;
        }
        let node = cx.cache.node(ix);
        let verdict = framework.filter_with_nominated(cx, state, pod, node, nominator);
        let refusal = verdict.map_or_else(|status| self.number(status), |()| 0);
        self.promised[ix] = Promised {
            stamp,
            version,
            refusal,
        };
        refusal
    }

    /// Whom a pod of the template would displace on a node, if that is known and still holds.
    pub fn room(
        &self,
        cx: &Cx<'_>,
        ix: NodeIx,
        version: u64,
    ) -> Option<&Result<Candidate, Status>> {
        let room = self.room.get(ix)?.as_deref()?;
        let holds = (room.stamp, room.version) == (cx.cache.pod_stamp(ix), version);
        holds.then_some(&room.found)
    }

    /// Remembers whom a pod of the template would displace on a node.
    pub fn keep_room(
        &mut self,
        cx: &Cx<'_>,
        ix: NodeIx,
        version: u64,
        found: &Result<Candidate, Status>,
    ) {
        if self.room.len() <= ix {
            self.room.resize_with(cx.cache.places(), || None);
        }
        self.room[ix] = Some(Box::new(Room {
            stamp: cx.cache.pod_stamp(ix),
            version,
            found: found.clone(),
        }));
    }

    /// The refusal of this number.
    pub fn status(&self, number: u16) -> &Status {
        &self.statuses[usize::from(number) - 1]
    }

    /// All refusals that were ever given.
    pub fn statuses(&self) -> &[Status] {
        &self.statuses
    }

    /// Asks the plugins and remembers what they say.
    fn ask(
        &mut self,
        framework: &Framework,
        cx: &Cx<'_>,
        state: &CycleState,
        pod: &PodEntry,
        ix: NodeIx,
    ) -> u16 {
        let mut known = self.known[ix];
        if known.row_stamp != cx.cache.row_stamp(ix) {
            known.row_stamp = cx.cache.row_stamp(ix);
            known.by_row = self.ask_row(framework, cx, state, pod, ix);
        }
        let node = cx.cache.node(ix);
        known.stamp = cx.cache.stamp(ix);
        let by_row = self.by_row(&known);
        (known.plain, known.refusal) = (by_row.plain, by_row.refusal);
        known.unusual = by_row.unusual;
        if known.refusal == 0 {
            match refused(framework, &self.filters, (cx, state, pod), node) {
                Some(status) => known.refusal = self.number(status),
                None => {
                    let asked = (cx, state, pod);
                    known.plain += weighted(framework, &self.plain, asked, node);
                    if !self.levels_by_row {
                        self.score_raw(framework, asked, ix, false);
                        known.unusual = self.unusual(ix);
                    }
                }
            }
        }
        self.known[ix] = known;
        known.refusal
    }

    /// What follows from the row of a node of which that is known.
    fn by_row(&self, known: &Known) -> &ByRow {
        &self.rows.met[known.by_row as usize]
    }

    /// Asks the plugins that look at nothing but the node's row; returns the number of their answer.
    fn ask_row(
        &mut self,
        framework: &Framework,
        cx: &Cx<'_>,
        state: &CycleState,
        pod: &PodEntry,
        ix: NodeIx,
    ) -> u32 {
        let node = cx.cache.node(ix);
        let asked = (cx, state, pod);
        let mut row = ByRow::default();
        match refused(framework, &self.row_filters, asked, node) {
            Some(status) => row.refusal = self.number(status),
            None => {
                row.plain = weighted(framework, &self.row_plain, asked, node);
                self.score_raw(framework, asked, ix, true);
                row.unusual = self.levels_by_row && self.unusual(ix);
                row.images = self.images_on(pod, node);
            }
        }
        self.rows.number(row)
    }

    /// Whether what is normalised later is another on this node than on the first that was asked
    /// about.
    fn unusual(&mut self, ix: NodeIx) -> bool {
        let width = self.normalized.len();
        let raw = &self.raw[ix * width..(ix + 1) * width];
        let usual = self.usual.get_or_insert_with(|| raw.into());
        usual.as_slice() != raw
    }

    /// Notes the scores of a node that are normalised later: of plugins that look at its row alone,
    /// or of the others.
    fn score_raw(&mut self, framework: &Framework, asked: Asked<'_>, ix: NodeIx, by_row: bool) {
        let (cx, state, pod) = asked;
        let width = self.normalized.len();
        for (at, (index, of_row)) in self.normalized.iter().enumerate() {
            if *of_row == by_row {
                let plugin = framework.plugin_at(*index);
                self.raw[ix * width + at] = plugin.score(cx, state, pod, cx.cache.node(ix));
            }
        }
    }

    fn number(&mut self, status: Status) -> u16 {
        let known = self.statuses.iter().position(|s| *s == status);
        let at = known.unwrap_or_else(|| {
            self.statuses.push(status);
            self.statuses.len() - 1
        });
        u16::try_from(at + 1).expect("few plugins with few reasons")
    }

    fn images_on(&mut self, pod: &PodEntry, node: &NodeInfo) -> u16 {
        if self.images.weight.is_none() || node.images.is_empty() {
            return NO_IMAGES;
        }
        let found = image_locality::sizes(pod, node);
        let known = self.images.sizes.iter().position(|s| *s == found);
        let at = known.unwrap_or_else(|| {
            self.images.sizes.push(found);
            self.images.sizes.len() - 1
        });
        u16::try_from(at).unwrap_or_else(|_| {
            // Sizes differ from node to node: begin anew rather than grow without end.
            self.images.sizes.truncate(1);
            self.images.scores.clear();
            self.images.version += 1;
            self.known.fill(Known::default());
            self.rows = ByRows::default();
            self.images.sizes.push(image_locality::sizes(pod, node));
            1
        })
    }

    /// Whether the node passes the filters that are not remembered.
    #[inline]
    pub fn filter_rest(
        &self,
        framework: &Framework,
        cx: &Cx<'_>,
        state: &CycleState,
        pod: &PodEntry,
        ix: NodeIx,
    ) -> Result<(), Status> {
        if self.rest.is_empty() {
            return Ok(());
        }
        let node = cx.cache.node(ix);
        for index in &self.rest {
            let plugin = framework.plugin_at(*index);
            ask_filter(plugin, (cx, state, pod), node)?;
        }
        Ok(())
    }

    /// Weighted sums of the normalised scores of all plugins (`prioritizeNodes`), for nodes that
    /// passed the filters in this cycle.
    pub fn totals(
        &mut self,
        framework: &Framework,
        cx: &Cx<'_>,
        state: &mut CycleState,
        pod: &PodEntry,
        nodes: &[NodeIx],
    ) -> Vec<i64> {
        framework.pre_score(cx, state, pod, nodes);
        for ix in nodes {
            // Nodes with nominated pods were filtered otherwise.
            self.refusal(framework, cx, state, pod, *ix);
        }
        let image_weight = self.score_images(cx.cache, pod);
        let mut totals: Vec<i64> = Vec::with_capacity(nodes.len());
        for ix in nodes {
            let known = &self.known[*ix];
            let images = match image_weight {
                Some(weight) => self.images.scores[self.images_of(known)] * weight,
                None => 0,
            };
            totals.push(known.plain + images);
        }
        let mut scores = Vec::with_capacity(nodes.len());
        for index in framework.indexes(Point::Score) {
            let plugin = framework.plugin_at(*index);
            let name = plugin.name();
            if state.skip_score.has(name) || name == PluginName::ImageLocality {
                // Skipped, or summed up already.
                continue;
            }
            scores.clear();
            if let Some(at) = self.normalized.iter().position(|(i, _)| i == index) {
                let width = self.normalized.len();
                scores.extend(nodes.iter().map(|ix| self.raw[ix * width + at]));
            } else if self.plain.contains(index) || self.row_plain.contains(index) {
                continue;
            } else {
                let each = nodes.iter().map(|ix| cx.cache.node(*ix));
                scores.extend(each.map(|node| plugin.score(cx, state, pod, node)));
            }
            plugin.normalize(cx, state, nodes, &mut scores);
            let weight = framework.weight_at(*index);
            for (total, score) in totals.iter_mut().zip(&scores) {
                *total += score * weight;
            }
        }
        totals
    }

    /// The number of the images on a node.
    fn images_of(&self, known: &Known) -> usize {
        usize::from(self.by_row(known).images)
    }

    /// Scores every combination of images that was ever found; the weight, if images count.
    fn score_images(&mut self, cache: &Cache, pod: &PodEntry) -> Option<i64> {
        let images = &mut self.images;
        let weight = images.weight?;
        for sizes in &images.sizes[images.scores.len()..] {
            let score = image_locality::score_of(cache, &pod.template, sizes);
            images.scores.push(score);
        }
        Some(weight)
    }
}

/// What plugins are asked with.
type Asked<'a> = (&'a Cx<'a>, &'a CycleState, &'a PodEntry);

/// The first refusal of a node by these plugins.
fn refused(
    framework: &Framework,
    filters: &[usize],
    (cx, state, pod): Asked<'_>,
    node: &NodeInfo,
) -> Option<Status> {
    filters.iter().find_map(|index| {
        let plugin = framework.plugin_at(*index);
        ask_filter(plugin, (cx, state, pod), node).err()
    })
}

/// The weighted sum of these plugins' scores of a node.
fn weighted(
    framework: &Framework,
    plugins: &[usize],
    (cx, state, pod): Asked<'_>,
    node: &NodeInfo,
) -> i64 {
    let scores = plugins.iter().map(|index| {
        let score = framework.plugin_at(*index).score(cx, state, pod, node);
        score * framework.weight_at(*index)
    });
    scores.sum()
}
