//! How the scheduler is configured: profiles, their plugins and arguments, and the model's own
//! knobs.
//!
//! `decode` reads a KubeSchedulerConfiguration (v1); [`SchedulerConfig::default`] is the default
//! one. Arguments are applied with upstream's defaults
//! (`pkg/scheduler/apis/config/v1/defaults.go`).

pub mod decode;

mod args;

pub mod mistakes;

mod policies;

use std::time::Duration;

use super::plugin::PluginName;
use super::plugins::gpu::fgd::TypicalPod;
use super::plugins::gpu::score::VectorArgs;
use super::plugins::gpu::share::Selection;
use crate::api::Text;
use crate::api::affinity::{InclusionPolicy, NodeSelectorTerm, TopologySpread, WhenUnsatisfiable};
use crate::api::selector::LabelSelector;

/// The scheduler's configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulerConfig {
    /// Profiles; a pod is handled by the one that its `schedulerName` names.
    pub profiles: Vec<Profile>,
    /// `percentageOfNodesToScore` for profiles without their own; 0 adapts to the cluster's size.
    pub percentage_of_nodes_to_score: i32,
    /// `podInitialBackoffSeconds`.
    pub initial_backoff: Duration,
    /// `podMaxBackoffSeconds`.
    pub max_backoff: Duration,
    /// `--pod-max-in-unschedulable-pods-duration`.
    pub max_unschedulable: Duration,
    /// `clientConnection.qps`, per second.
    pub qps: u32,
    /// `clientConnection.burst`.
    pub burst: u32,
    /// How long a scheduling cycle takes.
    pub cycle_cost: CycleCost,
    /// What is remembered between cycles; changes no result.
    pub tuning: Tuning,
}

/// What is remembered from cycle to cycle, to compare the scheduler with a straightforward version
/// of itself. No result depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Verdicts and scores of equal pods (`equal_pods`).
    pub memo: bool,
    /// Scores of equal pods in the order of the search (`ranking`); only with `memo`.
    pub ranking: bool,
    /// Counts of spread constraints (`plugins::pod_topology_spread`).
    pub spread: bool,
    /// Sums of affinity between pods (`plugins::inter_pod_affinity`).
    pub affinity: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            memo: true,
            ranking: true,
            spread: true,
            affinity: true,
        }
    }
}

/// How long a scheduling cycle takes in simulated time. The scheduler works on one pod at a time,
/// so this bounds its throughput; bindings are sent concurrently and are bounded by the client's
/// budget.
///
/// The default resembles the real scheduler on one core: about 2 ms per pod on 1,000 nodes, of
/// which it tries 420. Zero for both makes the client's budget the only bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CycleCost {
    /// Per cycle.
    pub base: Duration,
    /// Per node that was tried.
    pub per_node: Duration,
}

impl Default for CycleCost {
    fn default() -> Self {
        CycleCost {
            base: Duration::from_micros(300),
            per_node: Duration::from_micros(4),
        }
    }
}

impl CycleCost {
    /// The duration of a cycle that tried so many nodes.
    pub fn of(self, nodes: usize) -> Duration {
        self.base + self.per_node * u32::try_from(nodes).unwrap_or(u32::MAX)
    }
}

impl SchedulerConfig {
    /// Takes a plugin out of every profile that has it from the defaults.
    pub fn without(&mut self, plugin: PluginName) {
        for profile in &mut self.profiles {
            let all = &mut profile.plugins.multi_point;
            all.retain(|enabled| enabled.plugin != plugin);
        }
    }
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        SchedulerConfig {
            profiles: vec![Profile::default()],
            percentage_of_nodes_to_score: 0,
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(10),
            max_unschedulable: Duration::from_secs(300),
            qps: 50,
            burst: 100,
            cycle_cost: CycleCost::default(),
            tuning: Tuning::default(),
        }
    }
}

/// One profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// `schedulerName`.
    pub name: Text,
    /// Overrides the configuration's.
    pub percentage_of_nodes_to_score: Option<i32>,
    /// Plugins and weights.
    pub plugins: Plugins,
    /// Arguments of plugins.
    pub args: Args,
}

impl Default for Profile {
    fn default() -> Self {
        Profile {
            name: Text::from("default-scheduler"),
            percentage_of_nodes_to_score: None,
            plugins: Plugins::default(),
            args: Args::default(),
        }
    }
}

/// A plugin that is switched on, with its weight (0 where it has none).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enabled {
    /// Which.
    pub plugin: PluginName,
    /// Its weight at Score; 0 means the default.
    pub weight: i64,
}

/// `enabled` and `disabled` of one extension point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginConfigSet {
    /// Plugins to switch on, in order.
    pub enabled: Vec<Enabled>,
    /// Plugins to switch off.
    pub disabled: Vec<PluginName>,
    /// `disabled: [{name: "*"}]`.
    pub disable_all: bool,
}

/// `profiles[].plugins`: the merged `multiPoint` set and what extension points add and take away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugins {
    /// `multiPoint` after merging the defaults.
    pub multi_point: Vec<Enabled>,
    /// Per extension point, in the order of [`Point::ALL`].
    pub points: [PluginConfigSet; Point::ALL.len()],
}

impl Default for Plugins {
    /// `getDefaultPlugins` of 1.36. DynamicResources is there for pods without claims
    /// (`applyDynamicResources`).
    fn default() -> Self {
        let weight = |plugin| match plugin {
            PluginName::TaintToleration => 3,
            PluginName::NodeAffinity
            | PluginName::PodTopologySpread
            | PluginName::InterPodAffinity => 2,
            PluginName::NodeResourcesFit
            | PluginName::NodeResourcesBalancedAllocation
            | PluginName::ImageLocality => 1,
            _ => 0,
        };
        let all = PluginName::ALL.iter().filter(|p| p.in_tree());
        let all = all.map(|&plugin| Enabled {
            plugin,
            weight: weight(plugin),
        });
        Plugins {
            multi_point: all.collect(),
            points: Default::default(),
        }
    }
}

/// Extension points that a configuration can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[allow(missing_docs)]
pub enum Point {
    PreEnqueue,
    QueueSort,
    PreFilter,
    Filter,
    PostFilter,
    PreScore,
    Score,
    Reserve,
    Permit,
    PreBind,
    Bind,
    PostBind,
}

impl Point {
    /// All of them.
    pub const ALL: [Point; 12] = [
        Point::PreEnqueue,
        Point::QueueSort,
        Point::PreFilter,
        Point::Filter,
        Point::PostFilter,
        Point::PreScore,
        Point::Score,
        Point::Reserve,
        Point::Permit,
        Point::PreBind,
        Point::Bind,
        Point::PostBind,
    ];

    /// As in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Point::PreEnqueue => "preEnqueue",
            Point::QueueSort => "queueSort",
            Point::PreFilter => "preFilter",
            Point::Filter => "filter",
            Point::PostFilter => "postFilter",
            Point::PreScore => "preScore",
            Point::Score => "score",
            Point::Reserve => "reserve",
            Point::Permit => "permit",
            Point::PreBind => "preBind",
            Point::Bind => "bind",
            Point::PostBind => "postBind",
        }
    }
}

/// Arguments of the plugins that take any.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Args {
    /// NodeResourcesFit.
    pub fit: FitArgs,
    /// NodeResourcesBalancedAllocation: names of resources.
    pub balanced: BalancedArgs,
    /// NodeAffinity.
    pub node_affinity: NodeAffinityArgs,
    /// PodTopologySpread.
    pub spread: SpreadArgs,
    /// InterPodAffinity.
    pub pod_affinity: PodAffinityArgs,
    /// DefaultPreemption.
    pub preemption: PreemptionArgs,
    /// VolumeBinding: `bindTimeoutSeconds`, unless it is the default.
    pub bind_timeout: Option<Duration>,
    /// Plugins that the reference version does not have.
    pub policies: PolicyArgs,
}

/// Arguments of the policies that people compare the default scheduler with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyArgs {
    /// GpuShare: `gpuSelMethod`.
    pub selection: Selection,
    /// DotProductScore: `dimExtMethod`, `normMethod`.
    pub vectors: VectorArgs,
    /// FGDScore: `typicalPods`; a run over a trace takes them from the trace unless given.
    pub typical_pods: Vec<TypicalPod>,
    /// The run's seed, for random choices.
    pub seed: u64,
}

/// `NodeResourcesFitArgs`.
#[derive(Clone, Debug, PartialEq)]
pub struct FitArgs {
    /// `ignoredResources`.
    pub ignored: Vec<Text>,
    /// `ignoredResourceGroups`.
    pub ignored_groups: Vec<Text>,
    /// `scoringStrategy.type`.
    pub strategy: Strategy,
    /// `scoringStrategy.resources`: name and weight.
    pub resources: Vec<(Text, i64)>,
}

/// `scoringStrategy.type`.
#[derive(Clone, Debug, PartialEq)]
pub enum Strategy {
    /// Prefers empty nodes.
    LeastAllocated,
    /// Prefers full nodes.
    MostAllocated,
    /// By a shape of (utilization in percent, score in 0..=10).
    RequestedToCapacityRatio(Vec<(i64, i64)>),
}

fn default_resources() -> Vec<(Text, i64)> {
    vec![(Text::from("cpu"), 1), (Text::from("memory"), 1)]
}

impl Default for FitArgs {
    fn default() -> Self {
        FitArgs {
            ignored: Vec::new(),
            ignored_groups: Vec::new(),
            strategy: Strategy::LeastAllocated,
            resources: default_resources(),
        }
    }
}

/// `NodeResourcesBalancedAllocationArgs`.
#[derive(Clone, Debug, PartialEq)]
pub struct BalancedArgs {
    /// Name and weight (the weight is not used).
    pub resources: Vec<(Text, i64)>,
}

impl Default for BalancedArgs {
    fn default() -> Self {
        BalancedArgs {
            resources: default_resources(),
        }
    }
}

/// `NodeAffinityArgs`: affinity that every pod of the profile gets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeAffinityArgs {
    /// Must hold.
    pub required: Option<Vec<NodeSelectorTerm>>,
    /// Scores.
    pub preferred: Vec<(i32, NodeSelectorTerm)>,
}

/// `PodTopologySpreadArgs`.
#[derive(Clone, Debug, PartialEq)]
pub struct SpreadArgs {
    /// `defaultingType: System`.
    pub system: bool,
    /// Constraints for pods without their own.
    pub defaults: Vec<TopologySpread>,
}

impl Default for SpreadArgs {
    /// `podtopologyspread :: systemDefaultConstraints`.
    fn default() -> Self {
        let constraint = |key: &str, max_skew| TopologySpread {
            max_skew,
            topology_key: Text::from(key),
            when_unsatisfiable: WhenUnsatisfiable::ScheduleAnyway,
            selector: LabelSelector::nothing(),
            min_domains: None,
            node_affinity_policy: InclusionPolicy::Honor,
            node_taints_policy: InclusionPolicy::Ignore,
            match_label_keys: Vec::new(),
        };
        SpreadArgs {
            system: true,
            defaults: vec![
                constraint("kubernetes.io/hostname", 3),
                constraint("topology.kubernetes.io/zone", 5),
            ],
        }
    }
}

/// `InterPodAffinityArgs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PodAffinityArgs {
    /// Weight of existing pods' required affinity in scores.
    pub hard_weight: i32,
    /// `ignorePreferredTermsOfExistingPods`.
    pub ignore_preferred: bool,
}

impl Default for PodAffinityArgs {
    fn default() -> Self {
        PodAffinityArgs {
            hard_weight: 1,
            ignore_preferred: false,
        }
    }
}

/// `DefaultPreemptionArgs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreemptionArgs {
    /// `minCandidateNodesPercentage`.
    pub min_percentage: i32,
    /// `minCandidateNodesAbsolute`.
    pub min_absolute: i32,
}

impl Default for PreemptionArgs {
    fn default() -> Self {
        PreemptionArgs {
            min_percentage: 10,
            min_absolute: 100,
        }
    }
}
