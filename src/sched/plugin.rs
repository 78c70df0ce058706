//! What a plugin is: one trait with all extension points, the names, and what plugins answer.
//!
//! The framework (`framework`) decides which plugins run at which point and in which order; a
//! plugin sees the pod, one node and the state that it left itself earlier in the same cycle. It
//! cannot write, read a clock, or see another plugin's state.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use super::cache::{Cache, NodeIx};
use super::events::{ClusterEvent, Involved};
use super::node_info::NodeInfo;
use super::plugins::gpu::Devices;
use super::plugins::inter_pod_affinity::{AffinityFilter, AffinityScore, KeptAffinity};
use super::plugins::pod_topology_spread::{KeptCounts, SpreadFilter, SpreadScore};
use super::plugins::volume_binding::PodVolumeClaims;
use super::plugins::volume_limits::Attached;
use super::plugins::volume_restrictions::ClaimConflicts;
use super::plugins::volume_zone::VolumeTopology;
use super::template::Template;
use crate::api::pod::VolumeSource;
use crate::api::{PersistentVolumeClaim, Pod, Text};
use crate::store::View;

macro_rules! plugins {
    ($($name:ident $bit:literal)*) => {
        /// The in-tree plugins in the order in which the default profile enables them
        /// (`pkg/scheduler/apis/config/v1/default_plugins.go :: getDefaultPlugins`), then others.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum PluginName { $(#[doc = concat!("`", stringify!($name), "`")] $name = $bit,)* }

        impl PluginName {
            /// Every plugin, in default order.
            pub const ALL: &[PluginName] = &[$(PluginName::$name),*];

            /// As in configurations and events.
            pub fn name(self) -> &'static str {
                match self { $(PluginName::$name => stringify!($name),)* }
            }

            /// The plugin of this name.
            pub fn from_name(name: &str) -> Option<PluginName> {
                match name { $(stringify!($name) => Some(PluginName::$name),)* _ => None }
            }
        }
    };
}

plugins! {
    SchedulingGates 0
    PrioritySort 1
    NodeUnschedulable 2
    NodeName 3
    TaintToleration 4
    NodeAffinity 5
    NodePorts 6
    NodeResourcesFit 7
    VolumeRestrictions 8
    NodeVolumeLimits 9
    VolumeBinding 10
    VolumeZone 11
    PodTopologySpread 12
    InterPodAffinity 13
    DynamicResources 14
    DefaultPreemption 15
    NodeResourcesBalancedAllocation 16
    ImageLocality 17
    DefaultBinder 18
    NodeDeclaredFeatures 19
    GpuShare 20
    RandomScore 21
    DotProductScore 22
    BestFitScore 23
    GpuPackingScore 24
    GpuClusteringScore 25
    FGDScore 26
    SwarmSpread 27
    NomadBinPack 28
}

impl PluginName {
    /// Whether the reference version has it, and its default profile enables it. The others are
    /// policies that people compare it with.
    pub fn in_tree(self) -> bool {
        self <= PluginName::NodeDeclaredFeatures
    }
}

/// A set of plugins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PluginSet(u32);

impl PluginSet {
    /// Adds a plugin.
    pub fn insert(&mut self, plugin: PluginName) {
        self.0 |= 1 << plugin as u32;
    }

    /// Whether it holds a plugin.
    pub fn has(self, plugin: PluginName) -> bool {
        self.0 & (1 << plugin as u32) != 0
    }

    /// Whether it holds none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names in alphabetical order, as `sets.List` gives them.
    pub fn names(self) -> Vec<&'static str> {
        let all = PluginName::ALL.iter().filter(|p| self.has(**p));
        let mut names: Vec<_> = all.map(|p| p.name()).collect();
        names.sort_unstable();
        names
    }
}

impl FromIterator<PluginName> for PluginSet {
    fn from_iter<I: IntoIterator<Item = PluginName>>(plugins: I) -> Self {
        let mut set = PluginSet::default();
        for plugin in plugins {
            set.insert(plugin);
        }
        set
    }
}

/// Why a plugin said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// Something went wrong; the pod is tried again.
    Error,
    /// The pod does not fit now; removing other pods might help.
    Unschedulable,
    /// The pod does not fit and removing pods would not help.
    UnschedulableAndUnresolvable,
}

impl Code {
    /// As upstream prints it.
    pub fn name(self) -> &'static str {
        match self {
            Code::Error => "Error",
            Code::Unschedulable => "Unschedulable",
            Code::UnschedulableAndUnresolvable => "UnschedulableAndUnresolvable",
        }
    }
}

/// A refusal: who, how badly, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// How badly.
    pub code: Code,
    /// Who; filled in by the framework.
    pub plugin: Option<PluginName>,
    /// Why, word for word as upstream.
    pub reasons: SmallVec<[Cow<'static, str>; 1]>,
}

impl Status {
    /// Unschedulable for one reason.
    pub fn unschedulable(reason: impl Into<Cow<'static, str>>) -> Status {
        Status::new(Code::Unschedulable, reason)
    }

    /// Unschedulable for one reason that no removal of pods would change.
    pub fn unresolvable(reason: impl Into<Cow<'static, str>>) -> Status {
        Status::new(Code::UnschedulableAndUnresolvable, reason)
    }

    /// A refusal for one reason.
    pub fn new(code: Code, reason: impl Into<Cow<'static, str>>) -> Status {
        let mut reasons = SmallVec::new();
        reasons.push(reason.into());
        Status {
            code,
            plugin: None,
            reasons,
        }
    }

    /// The same refusal with its author.
    #[must_use]
    pub fn by(mut self, plugin: PluginName) -> Status {
        self.plugin = Some(plugin);
        self
    }

    /// All reasons in one line (`Status.Message`).
    pub fn message(&self) -> String {
        self.reasons.join(", ")
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())
    }
}

/// A pod together with what was computed once from its template.
#[derive(Clone, Debug)]
pub struct PodEntry {
    /// Its number in the store (`u32::MAX` for a pod that is not stored).
    pub id: u32,
    /// The row.
    pub pod: Arc<Pod>,
    /// What its spec means to the scheduler.
    pub template: Arc<Template>,
    /// The GPUs of its node that it was given; none unless it asks for any.
    pub devices: Devices,
}

impl PodEntry {
    /// The claims that its volumes use, in their order, and whether each is of the pod's own.
    pub fn claims(&self) -> impl Iterator<Item = (Text, bool)> {
        let volumes = self.template.claim_volumes.iter();
        volumes.filter_map(|volume| {
            let name = volume.claim_name(&self.pod.meta.name)?;
            Some((name, volume.source == VolumeSource::Ephemeral))
        })
    }

    /// Whether any of its volumes uses the claim.
    pub fn uses_claim(&self, claim: &PersistentVolumeClaim) -> bool {
        let meta = &self.pod.meta;
        let mut volumes = self.template.claim_volumes.iter();
        claim.meta.namespace == meta.namespace
            && volumes.any(|volume| volume.names_claim(&meta.name, &claim.meta.name))
    }
}

/// What every extension point may read.
#[derive(Clone, Copy)]
pub struct Cx<'a> {
    /// The scheduler's view of the API objects.
    pub view: &'a View,
    /// Nodes and the pods on them.
    pub cache: &'a Cache,
}

/// What PreFilter answers.
#[derive(Debug)]
pub enum PreFilter {
    /// The plugin has nothing to say about this pod: its Filter is skipped.
    Skip,
    /// All nodes may be tried.
    All,
    /// Only these nodes may be tried, and nodes that do not exist if the flag is set.
    Nodes(Vec<NodeIx>, bool),
    /// No node will do.
    Reject(Status),
}

/// What the scheduler lends to one cycle: sums kept from earlier ones. Copies of the cycle's state
/// have none.
#[derive(Debug, Default)]
pub struct Kept {
    /// PodTopologySpread.
    pub spread: Option<Box<KeptCounts>>,
    /// InterPodAffinity.
    pub affinity: Option<Box<KeptAffinity>>,
}

impl Clone for Kept {
    fn clone(&self) -> Self {
        Kept::default()
    }
}

/// What plugins leave for themselves within one cycle.
#[derive(Clone, Debug, Default)]
pub struct CycleState {
    /// Plugins whose Filter is skipped.
    pub skip_filter: PluginSet,
    /// Plugins whose Score is skipped.
    pub skip_score: PluginSet,
    /// DynamicResources, from PreFilter: it has looked at the pod.
    pub claims_looked_at: bool,
    /// From earlier cycles.
    pub kept: Kept,
    /// PodTopologySpread, from PreFilter.
    pub spread_filter: Option<Arc<SpreadFilter>>,
    /// PodTopologySpread, from PreScore.
    pub spread_score: Option<SpreadScore>,
    /// InterPodAffinity, from PreFilter.
    pub affinity_filter: Option<Arc<AffinityFilter>>,
    /// InterPodAffinity, from PreScore.
    pub affinity_score: Option<Arc<AffinityScore>>,
    /// VolumeRestrictions, from PreFilter.
    pub claim_conflicts: Option<ClaimConflicts>,
    /// VolumeBinding, from PreFilter.
    pub volume_claims: Option<Arc<PodVolumeClaims>>,
    /// VolumeZone, from PreFilter.
    pub volume_zones: Option<Vec<VolumeTopology>>,
    /// NodeVolumeLimits, from PreFilter.
    pub attached_volumes: Option<Attached>,
    /// RandomScore, from PreScore: the chosen node.
    pub random_node: Option<NodeIx>,
    /// SwarmSpread, from PreScore: pods of the same kind per node, in the order of nodes.
    pub same_pods: Vec<(NodeIx, u32)>,
}

/// Extension points that a plugin takes part in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Points(pub u16);

impl Points {
    /// PreEnqueue.
    pub const PRE_ENQUEUE: Points = Points(1);
    /// QueueSort.
    pub const QUEUE_SORT: Points = Points(1 << 1);
    /// PreFilter.
    pub const PRE_FILTER: Points = Points(1 << 2);
    /// Filter.
    pub const FILTER: Points = Points(1 << 3);
    /// PostFilter.
    pub const POST_FILTER: Points = Points(1 << 4);
    /// PreScore.
    pub const PRE_SCORE: Points = Points(1 << 5);
    /// Score.
    pub const SCORE: Points = Points(1 << 6);
    /// Reserve.
    pub const RESERVE: Points = Points(1 << 7);
    /// Permit.
    pub const PERMIT: Points = Points(1 << 8);
    /// PreBind.
    pub const PRE_BIND: Points = Points(1 << 9);
    /// Bind.
    pub const BIND: Points = Points(1 << 10);
    /// PostBind.
    pub const POST_BIND: Points = Points(1 << 11);

    /// Both sets together.
    pub const fn and(self, other: Points) -> Points {
        Points(self.0 | other.0)
    }

    /// Whether all of `other` are in this set.
    pub const fn has(self, other: Points) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A scheduling plugin. Every extension point has a default that does nothing.
pub trait Plugin: fmt::Debug + Send + Sync {
    /// Its name.
    fn name(&self) -> PluginName;

    /// The extension points that it takes part in.
    fn points(&self) -> Points;

    /// Events that may make a pod schedulable that this plugin rejected (`EventsToRegister`).
    fn events(&self) -> &'static [ClusterEvent] {
        &[]
    }

    /// Whether a registered event is worth another try (`QueueingHintFn`).
    fn hint(&self, _cx: &Cx<'_>, _pod: &PodEntry, _involved: &Involved<'_>) -> bool {
        true
    }

    /// Whether the pod may enter the active queue.
    fn pre_enqueue(&self, _pod: &Pod) -> Result<(), Status> {
        Ok(())
    }

    /// Once per cycle, before any node is tried.
    fn pre_filter(&self, _cx: &Cx<'_>, _state: &mut CycleState, _pod: &PodEntry) -> PreFilter {
        PreFilter::All
    }

    /// What PreFilter computed, as if `other` were on `node` too.
    fn add_pod(
        &self,
        _cx: &Cx<'_>,
        _state: &mut CycleState,
        _pod: &PodEntry,
        _other: &PodEntry,
        _node: &NodeInfo,
    ) {
    }

    /// What PreFilter computed, as if `other` were not on `node`.
    fn remove_pod(
        &self,
        _cx: &Cx<'_>,
        _state: &mut CycleState,
        _pod: &PodEntry,
        _other: &PodEntry,
        _node: &NodeInfo,
    ) {
    }

    /// Whether the pod fits the node.
    fn filter(
        &self,
        _cx: &Cx<'_>,
        _state: &CycleState,
        _pod: &PodEntry,
        _node: &NodeInfo,
    ) -> Result<(), Status> {
        Ok(())
    }

    /// Once per cycle, with the feasible nodes; `false` skips this plugin's Score.
    fn pre_score(
        &self,
        _cx: &Cx<'_>,
        _state: &mut CycleState,
        _pod: &PodEntry,
        _nodes: &[NodeIx],
    ) -> bool {
        true
    }

    /// How good the node is, before normalisation.
    fn score(&self, _cx: &Cx<'_>, _state: &CycleState, _pod: &PodEntry, _node: &NodeInfo) -> i64 {
        0
    }

    /// Whether Filter and Score of this pod depend on its template and on the node alone, so that
    /// their answers hold until the node changes.
    fn by_node(&self, _pod: &PodEntry) -> bool {
        false
    }

    /// Whether they depend on the template and on the node's row alone, whatever pods are there.
    fn by_row(&self, _pod: &PodEntry) -> bool {
        false
    }

    /// Whether Score of this pod says the same of every node now, whichever they are; for plugins
    /// whose answers are not [remembered](Plugin::by_node).
    fn scores_alike(&self, _cx: &Cx<'_>, _pod: &PodEntry) -> bool {
        false
    }

    /// Which GPUs of the node the pod gets (Reserve); none to leave it to the node.
    fn devices(&self, _pod: &PodEntry, _node: &NodeInfo) -> Devices {
        0
    }

    /// Whether `normalize` does anything.
    fn normalizes(&self) -> bool {
        true
    }

    /// Brings the scores of all feasible nodes into 0..=100.
    fn normalize(&self, _cx: &Cx<'_>, _state: &CycleState, _nodes: &[NodeIx], _scores: &mut [i64]) {
    }
}

/// `MaxNodeScore`.
pub const MAX_NODE_SCORE: i64 = 100;

/// `pkg/scheduler/framework/plugins/helper :: DefaultNormalizeScore`.
pub fn default_normalize(reverse: bool, scores: &mut [i64]) {
    let most = scores.iter().copied().max().unwrap_or(0).max(0);
    if most == 0 {
        if reverse {
            scores.fill(MAX_NODE_SCORE);
        }
        return;
    }
    for score in scores {
        let scaled = MAX_NODE_SCORE * *score / most;
        *score = if reverse {
            MAX_NODE_SCORE - scaled
        } else {
            scaled
        };
    }
}
