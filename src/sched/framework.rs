//! The framework of one profile: which plugins run at which extension point, in which order and
//! with which weight, and how their answers are put together (`pkg/scheduler/framework/runtime`).

use std::collections::BTreeSet;

use super::cache::{Cache, NodeIx};
use super::config::{Enabled, Point, Profile};
use super::events::{ADD, Action, ClusterEvent, Resource, UPDATE_NODE_TAINT, event};
use super::node_info::NodeInfo;
use super::plugin::{
    Code, Cx, CycleState, Plugin, PluginName, PluginSet, PodEntry, Points, PreFilter, Status,
};
use super::plugins::unprepared::{self, Unprepared};
use super::plugins::{self, gpu::Devices};
use super::queue::Nominator;
use crate::api::{Pod, Text};

/// A profile, ready to run.
#[derive(Debug)]
pub struct Framework {
    /// `schedulerName`.
    pub name: Text,
    /// Overrides the configuration's percentage of nodes to score.
    pub percentage_of_nodes_to_score: Option<i32>,
    plugins: Vec<Box<dyn Plugin>>,
    points: [Vec<usize>; Point::ALL.len()],
    /// The same by name, for who only wants to know whether.
    taking_part: [PluginSet; Point::ALL.len()],
    weights: Vec<i64>,
    events: Vec<(PluginName, &'static [ClusterEvent])>,
    unasked: PluginSet,
    unscored: Option<String>,
}

/// What PreFilter of all plugins came to.
#[derive(Debug)]
pub struct PreFiltered {
    /// Whether nodes that do not exist are among those that may be tried.
    pub unknown: bool,
    /// The nodes that may be tried; `None` for all.
    pub nodes: Option<BTreeSet<NodeIx>>,
    /// The plugins that narrowed the nodes down.
    pub narrowed_by: PluginSet,
    /// The refusal, if any.
    pub rejected: Option<Status>,
}

/// One plugin's scores of all feasible nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginScores {
    /// Which plugin.
    pub plugin: PluginName,
    /// Its weight.
    pub weight: i64,
    /// As it gave them.
    pub raw: Vec<i64>,
    /// In 0..=100.
    pub normalized: Vec<i64>,
}

const fn mask(point: Point) -> Points {
    Points(1 << point as u16)
}

impl Framework {
    /// Builds the plugins of a profile and lists them per extension point
    /// (`NewFramework`, `expandMultiPointPlugins`, `getScoreWeights`).
    pub fn new(profile: &Profile, cache: &mut Cache) -> Framework {
        let mut all: Vec<PluginName> = Vec::new();
        let explicit = profile.plugins.points.iter().flat_map(|p| &p.enabled);
        for enabled in profile.plugins.multi_point.iter().chain(explicit) {
            if !all.contains(&enabled.plugin) {
                all.push(enabled.plugin);
            }
        }
        let mut plugins: Vec<_> = all
            .iter()
            .map(|p| plugins::build(*p, &profile.args, cache))
            .collect();
        let find = |name: PluginName| all.iter().position(|p| *p == name).expect("was listed");
        let mut points = Point::ALL.map(|point| {
            let names = expand(profile, point, |name| {
                plugins[find(name)].points().has(mask(point))
            });
            names.into_iter().map(find).collect::<Vec<_>>()
        });
        let score = &profile.plugins.points[Point::Score as usize].enabled;
        let weight = |name: PluginName| {
            let mut listed = score.iter().chain(&profile.plugins.multi_point);
            let weight = listed.find(|e| e.plugin == name).map_or(0, |e| e.weight);
            if weight == 0 { 1 } else { weight }
        };
        let (events, unasked) = registered(&plugins);
        let unscored = stand_in(&mut plugins, &mut points);
        let names = |at: &Vec<usize>| at.iter().map(|i| plugins[*i].name()).collect();
        let taking_part = points.each_ref().map(names);
        Framework {
            name: profile.name.clone(),
            percentage_of_nodes_to_score: profile.percentage_of_nodes_to_score,
            weights: plugins.iter().map(|p| weight(p.name())).collect(),
            events,
            unasked,
            plugins,
            points,
            taking_part,
            unscored,
        }
    }

    /// Why nodes cannot be scored for this pod: its preferences do not parse, or a plugin at Score
    /// misses its PreScore, whatever the pod.
    pub fn unscored(&self, pod: &PodEntry) -> Option<String> {
        let affinity = |point| self.runs(PluginName::NodeAffinity, point);
        match &pod.template.unparsed {
            Some(why) if affinity(Point::PreScore) => {
                Some(format!("running PreScore plugin \"NodeAffinity\": {why}"))
            }
            Some(why) if affinity(Point::Score) => Some(format!(
                "running Score plugins: plugin \"NodeAffinity\" failed with: {why}"
            )),
            _ => self.unscored.clone(),
        }
    }

    /// The plugins of an extension point, in their order.
    pub fn at(&self, point: Point) -> impl Iterator<Item = &dyn Plugin> {
        self.points[point as usize]
            .iter()
            .map(|i| &*self.plugins[*i])
    }

    /// The places of the plugins of an extension point, in their order.
    pub(super) fn indexes(&self, point: Point) -> &[usize] {
        &self.points[point as usize]
    }

    /// The plugin at a place.
    #[inline]
    pub(super) fn plugin_at(&self, index: usize) -> &dyn Plugin {
        &*self.plugins[index]
    }

    /// The weight of the plugin at a place.
    #[inline]
    pub(super) fn weight_at(&self, index: usize) -> i64 {
        self.weights[index]
    }

    /// Whether a plugin takes part at an extension point.
    pub fn runs(&self, plugin: PluginName, point: Point) -> bool {
        self.taking_part[point as usize].has(plugin)
    }

    /// Whether any plugin takes part at an extension point.
    pub fn any(&self, point: Point) -> bool {
        !self.points[point as usize].is_empty()
    }

    /// The plugin of this name, if the profile has it.
    pub fn plugin(&self, name: PluginName) -> Option<&dyn Plugin> {
        self.plugins.iter().find(|p| p.name() == name).map(|p| &**p)
    }

    /// Plugins with the events that they registered.
    pub fn events(&self) -> impl Iterator<Item = (PluginName, &'static [ClusterEvent])> {
        self.events.iter().copied()
    }

    /// Whether an event that this plugin registered wakes its pods without its being asked.
    pub fn unasked(&self, plugin: PluginName, event: ClusterEvent) -> bool {
        self.unasked.has(plugin) && event == TAINTS[0]
    }

    /// Whether the pod may enter the active queue; the first plugin that says no wins. A plugin
    /// that held the pod back before is asked first.
    pub fn pre_enqueue(&self, pod: &Pod, first: Option<PluginName>) -> Result<(), Status> {
        let plugins = || self.at(Point::PreEnqueue);
        let before = plugins().filter(|p| Some(p.name()) == first);
        let after = plugins().filter(|p| Some(p.name()) != first);
        for plugin in before.chain(after) {
            plugin
                .pre_enqueue(pod)
                .map_err(|status| status.by(plugin.name()))?;
        }
        Ok(())
    }

    /// `RunPreFilterPlugins`.
    pub fn pre_filter(&self, cx: &Cx<'_>, state: &mut CycleState, pod: &PodEntry) -> PreFiltered {
        let mut result = PreFiltered {
            nodes: None,
            unknown: true,
            narrowed_by: PluginSet::default(),
            rejected: None,
        };
        for plugin in self.at(Point::PreFilter) {
            match plugin.pre_filter(cx, state, pod) {
                PreFilter::Skip => state.skip_filter.insert(plugin.name()),
                PreFilter::All => {}
                PreFilter::Nodes(nodes, unknown) => {
                    result.unknown &= unknown;
                    let nodes: BTreeSet<NodeIx> = nodes.into_iter().collect();
                    result.narrowed_by.insert(plugin.name());
                    let merged = match result.nodes.take() {
                        None => nodes,
                        Some(before) => before.intersection(&nodes).copied().collect(),
                    };
                    result.nodes = Some(merged);
                }
                PreFilter::Reject(mut status) => {
                    if status.code == Code::Error {
                        let (name, why) = (plugin.name().name(), status.message());
                        let why = format!("running PreFilter plugin \"{name}\": {why}");
                        status = Status::new(Code::Error, why);
                    }
                    let last = status.code != Code::Unschedulable;
                    result.rejected = Some(status.by(plugin.name()));
                    if last {
                        return result;
                    }
                }
            }
        }
        result
    }

    /// `RunPreFilterExtensionAddPod`.
    pub fn add_pod(
        &self,
        cx: &Cx<'_>,
        state: &mut CycleState,
        pod: &PodEntry,
        other: &PodEntry,
        node: &NodeInfo,
    ) {
        for plugin in self.at(Point::PreFilter) {
            if !state.skip_filter.has(plugin.name()) {
                plugin.add_pod(cx, state, pod, other, node);
            }
        }
    }

    /// `RunPreFilterExtensionRemovePod`.
    pub fn remove_pod(
        &self,
        cx: &Cx<'_>,
        state: &mut CycleState,
        pod: &PodEntry,
        other: &PodEntry,
        node: &NodeInfo,
    ) {
        for plugin in self.at(Point::PreFilter) {
            if !state.skip_filter.has(plugin.name()) {
                plugin.remove_pod(cx, state, pod, other, node);
            }
        }
    }

    /// `RunFilterPlugins`: the first refusal.
    pub fn filter(
        &self,
        cx: &Cx<'_>,
        state: &CycleState,
        pod: &PodEntry,
        node: &NodeInfo,
    ) -> Result<(), Status> {
        for plugin in self.at(Point::Filter) {
            if !state.skip_filter.has(plugin.name()) {
                ask_filter(plugin, (cx, state, pod), node)?;
            }
        }
        Ok(())
    }

    /// `RunFilterPluginsWithNominatedPods`: the pod must fit with the nominated pods of at least
    /// its priority on the node, and without them (they may never arrive).
    pub fn filter_with_nominated(
        &self,
        cx: &Cx<'_>,
        state: &CycleState,
        pod: &PodEntry,
        node: &NodeInfo,
        nominator: &Nominator,
    ) -> Result<(), Status> {
        let nominated = nominator.on(&node.name);
        if nominated.is_empty() {
            return self.filter(cx, state, pod, node);
        }
        let priority = pod.pod.spec.priority;
        let mut others = nominated
            .iter()
            .filter(|n| n.pod.spec.priority >= priority && n.pod.meta.uid != pod.pod.meta.uid)
            .peekable();
        if others.peek().is_some() {
            let mut info = node.clone();
            let mut with = state.clone();
            for other in others {
                info.add_pod(other.clone());
                self.add_pod(cx, &mut with, pod, other, &info);
            }
            self.filter(cx, &with, pod, &info)?;
        }
        self.filter(cx, state, pod, node)
    }

    /// The GPUs that the pod gets on this node (Reserve); none when no plugin says.
    pub fn devices(&self, pod: &PodEntry, node: &NodeInfo) -> Devices {
        let mut chosen = self.at(Point::Reserve).map(|p| p.devices(pod, node));
        chosen.find(|devices| *devices != 0).unwrap_or(0)
    }

    /// The weight of a plugin at Score.
    pub fn weight(&self, plugin: PluginName) -> i64 {
        let at = self.plugins.iter().position(|p| p.name() == plugin);
        at.map_or(0, |at| self.weights[at])
    }

    /// `RunPreScorePlugins`.
    pub fn pre_score(&self, cx: &Cx<'_>, state: &mut CycleState, pod: &PodEntry, nodes: &[NodeIx]) {
        for plugin in self.at(Point::PreScore) {
            if !plugin.pre_score(cx, state, pod, nodes) {
                state.skip_score.insert(plugin.name());
            }
        }
    }

    /// `RunPreScorePlugins` and `RunScorePlugins`.
    pub fn score(
        &self,
        cx: &Cx<'_>,
        state: &mut CycleState,
        pod: &PodEntry,
        nodes: &[NodeIx],
    ) -> Vec<PluginScores> {
        self.pre_score(cx, state, pod, nodes);
        let mut all = Vec::new();
        for index in &self.points[Point::Score as usize] {
            let plugin = &self.plugins[*index];
            if state.skip_score.has(plugin.name()) {
                continue;
            }
            let scores = nodes.iter();
            let raw: Vec<i64> = scores
                .map(|ix| plugin.score(cx, state, pod, cx.cache.node(*ix)))
                .collect();
            let mut normalized = raw.clone();
            plugin.normalize(cx, state, nodes, &mut normalized);
            all.push(PluginScores {
                plugin: plugin.name(),
                weight: self.weights[*index],
                raw,
                normalized,
            });
        }
        all
    }
}

/// What upstream registers for plugins that look at new nodes but not at taints.
const TAINTS: &[ClusterEvent] = &[event(Resource::Node, UPDATE_NODE_TAINT)];

/// `buildQueueingHintMap`: the events that each plugin registers; and the plugins that wait for new
/// nodes, which upstream wakes whenever taints of a node change or it is uncordoned, without asking
/// them (a remedy for kubernetes/kubernetes#109437 that is still there).
fn registered(
    plugins: &[Box<dyn Plugin>],
) -> (Vec<(PluginName, &'static [ClusterEvent])>, PluginSet) {
    let mut events: Vec<_> = plugins.iter().map(|p| (p.name(), p.events())).collect();
    let registers = |all: &[ClusterEvent], action: Action| {
        let mut nodes = all.iter().filter(|e| e.resource == Resource::Node);
        nodes.any(|e| e.action & action != 0)
    };
    let unasked = events.iter();
    let unasked =
        unasked.filter(|(_, all)| registers(all, ADD) && !registers(all, UPDATE_NODE_TAINT));
    let unasked: PluginSet = unasked.map(|(plugin, _)| *plugin).collect();
    let names = PluginName::ALL.iter().filter(|p| unasked.has(**p));
    events.extend(names.map(|plugin| (*plugin, TAINTS)));
    (events, unasked)
}

/// What a plugin says of a node; an error says whose it is (`RunFilterPlugins`).
pub(super) fn ask_filter(
    plugin: &dyn Plugin,
    (cx, state, pod): (&Cx<'_>, &CycleState, &PodEntry),
    node: &NodeInfo,
) -> Result<(), Status> {
    let name = plugin.name();
    plugin.filter(cx, state, pod, node).map_err(|status| {
        let status = match status.code {
            Code::Error => {
                let why = format!("running \"{}\" filter plugin: {status}", name.name());
                Status::new(Code::Error, why)
            }
            _ => status,
        };
        status.by(name)
    })
}

/// Puts stand-ins at Filter where plugins fail without their PreFilter; why Score fails, if a plugin
/// there misses its PreScore.
fn stand_in(
    plugins: &mut Vec<Box<dyn Plugin>>,
    points: &mut [Vec<usize>; Point::ALL.len()],
) -> Option<String> {
    for at in 0..points[Point::Filter as usize].len() {
        let index = points[Point::Filter as usize][at];
        let name = plugins[index].name();
        if !points[Point::PreFilter as usize].contains(&index)
            && let Some(unprepared) = Unprepared::filter_of(name)
        {
            points[Point::Filter as usize][at] = plugins.len();
            plugins.push(Box::new(unprepared));
        }
    }
    let scoring = points[Point::Score as usize].iter();
    let mut missing = scoring.filter(|i| !points[Point::PreScore as usize].contains(i));
    missing.find_map(|index| unprepared::score_error(plugins[*index].name()))
}

/// The plugins of one extension point in order: those that the profile re-configures there first,
/// then the rest of `multiPoint`, then what the extension point adds.
fn expand(
    profile: &Profile,
    point: Point,
    implements: impl Fn(PluginName) -> bool,
) -> Vec<PluginName> {
    let set = &profile.plugins.points[point as usize];
    let explicit = || {
        set.enabled
            .iter()
            .map(|e| e.plugin)
            .filter(|p| implements(*p))
    };
    if set.disable_all {
        return explicit().collect();
    }
    let multi: Vec<PluginName> = profile
        .plugins
        .multi_point
        .iter()
        .map(|e: &Enabled| e.plugin)
        .filter(|p| implements(*p) && !set.disabled.contains(p))
        .collect();
    let mut order: Vec<PluginName> = explicit().filter(|p| multi.contains(p)).collect();
    for plugin in multi.into_iter().chain(explicit()) {
        if !order.contains(&plugin) {
            order.push(plugin);
        }
    }
    order
}
