//! Requests must fit into what a node has left; scores by how full the node would be.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::api::{Node, Pod, Text};
use crate::sched::cache::Cache;
use crate::sched::config::{FitArgs, Strategy};
use crate::sched::events::{
    ADD, ClusterEvent, DELETE, Involved, Resource, UPDATE_NODE_ALLOCATABLE, UPDATE_POD_SCALE_DOWN,
    event,
};
use crate::sched::node_info::NodeInfo;
use crate::sched::plugin::{
    Code, Cx, CycleState, MAX_NODE_SCORE, Plugin, PluginName, PodEntry, Points, Status,
};
use crate::sched::template::{Template, pod_requests};

/// A resource that scores look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scored {
    /// CPU.
    Cpu,
    /// Memory.
    Memory,
    /// `ephemeral-storage`.
    Ephemeral,
    /// Any other, by number.
    Scalar(usize),
}

impl Scored {
    /// From its name.
    pub fn new(name: &str, cache: &mut Cache) -> Scored {
        match name {
            "cpu" => Scored::Cpu,
            "memory" => Scored::Memory,
            "ephemeral-storage" => Scored::Ephemeral,
            name => Scored::Scalar(cache.scalar(name)),
        }
    }

    /// What a pod asks for; with defaults for containers that name no cpu or memory unless `exact`.
    pub fn requested(self, template: &Template, exact: bool) -> i64 {
        let fit = template.fit.as_deref();
        match self {
            Scored::Cpu if exact => template.cpu,
            Scored::Cpu => fit.map_or(template.non_zero_cpu, |f| f.cpu),
            Scored::Memory if exact => template.memory,
            Scored::Memory => fit.map_or(template.non_zero_memory, |f| f.memory),
            Scored::Ephemeral => template.ephemeral,
            Scored::Scalar(number) => {
                let fit = fit.filter(|_| !exact);
                let mut scalars = fit.map_or(&template.scalars, |f| &f.scalars).iter();
                scalars.find(|(n, _)| *n == number).map_or(0, |(_, v)| *v)
            }
        }
    }

    /// `calculateNodeAllocatableRequest`: requested with the pod, requested without it,
    /// allocatable; all zero where the resource does not count for this pod and node.
    pub fn on(self, template: &Template, node: &NodeInfo, exact: bool) -> (i64, i64, i64) {
        let pod = self.requested(template, exact);
        let (allocatable, allocated) = match self {
            Scored::Cpu if exact => (node.allocatable.cpu, node.requested.cpu),
            Scored::Cpu => (node.allocatable.cpu, node.non_zero_cpu),
            Scored::Memory if exact => (node.allocatable.memory, node.requested.memory),
            Scored::Memory => (node.allocatable.memory, node.non_zero_memory),
            Scored::Ephemeral => (node.allocatable.ephemeral, node.requested.ephemeral),
            Scored::Scalar(_) if pod == 0 => return (0, 0, 0),
            Scored::Scalar(n) => (node.allocatable.scalar(n), node.requested.scalar(n)),
        };
        if allocatable == 0 {
            return (0, 0, 0);
        }
        (allocated.wrapping_add(pod), allocated, allocatable)
    }
}

/// NodeResourcesFit.
#[derive(Debug)]
pub struct Fit {
    ignored: Vec<Text>,
    ignored_groups: Vec<Text>,
    strategy: Strategy,
    resources: Vec<(Scored, i64)>,
}

impl Fit {
    /// The plugin with its arguments.
    pub fn new(args: &FitArgs, cache: &mut Cache) -> Fit {
        let resources = args.resources.iter();
        let scored = |(name, weight): &(Text, i64)| (Scored::new(name, cache), *weight);
        // Scores of a shape are given as 0..=10.
        let scale = |(utilization, score): &(i64, i64)| (*utilization, score * 10);
        let strategy = match &args.strategy {
            Strategy::RequestedToCapacityRatio(shape) => {
                Strategy::RequestedToCapacityRatio(shape.iter().map(scale).collect())
            }
            other => other.clone(),
        };
        Fit {
            ignored: args.ignored.clone(),
            ignored_groups: args.ignored_groups.clone(),
            strategy,
            resources: resources.map(scored).collect(),
        }
    }

    fn ignores(&self, name: &str) -> bool {
        if self.ignored.is_empty() && self.ignored_groups.is_empty() {
            return false;
        }
        let group = name.split('/').next().unwrap_or_default();
        extended(name)
            && (self.ignored.iter().any(|i| i == name)
                || self.ignored_groups.iter().any(|g| g == group))
    }

    /// Absurd amounts overflow as Go's integers do.
    fn resource_score(&self, requested: i64, capacity: i64) -> i64 {
        match &self.strategy {
            Strategy::LeastAllocated if requested > capacity => 0,
            Strategy::LeastAllocated => {
                capacity
                    .wrapping_sub(requested)
                    .wrapping_mul(MAX_NODE_SCORE)
                    / capacity
            }
            Strategy::MostAllocated => {
                requested.min(capacity).wrapping_mul(MAX_NODE_SCORE) / capacity
            }
            Strategy::RequestedToCapacityRatio(shape) if requested > capacity => {
                broken_linear(shape, 100)
            }
            Strategy::RequestedToCapacityRatio(shape) => {
                broken_linear(shape, requested.wrapping_mul(100) / capacity)
            }
        }
    }
}

/// `v1helper.IsExtendedResourceName`: a domain that is not Kubernetes' own.
fn extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

/// `helper.BuildBrokenLinearFunction`.
fn broken_linear(shape: &[(i64, i64)], at: i64) -> i64 {
    for (i, (utilization, score)) in shape.iter().enumerate() {
        if at <= *utilization {
            let Some((u0, s0)) = i.checked_sub(1).map(|i| shape[i]) else {
                return *score;
            };
            return s0 + (score - s0) * (at - u0) / (utilization - u0);
        }
    }
    shape.last().map_or(0, |(_, score)| *score)
}

/// Why requests do not fit: the reasons, and whether the node could never hold them.
type Shortage = (SmallVec<[Cow<'static, str>; 1]>, bool);

/// `fitsRequest`: what is short, in upstream's order (scalar resources by name, where upstream's
/// order is random).
fn shortage(cx: &Cx<'_>, fit: &Fit, template: &Template, node: &NodeInfo) -> Shortage {
    let mut reasons: SmallVec<[Cow<'static, str>; 1]> = SmallVec::new();
    let mut unresolvable = false;
    if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) >= node.allowed_pods {
        reasons.push("Too many pods".into());
    }
    let (has, used) = (&node.allocatable, &node.requested);
    let plain = [
        (template.cpu, has.cpu, used.cpu, "Insufficient cpu"),
        (
            template.memory,
            has.memory,
            used.memory,
            "Insufficient memory",
        ),
        (
            template.ephemeral,
            has.ephemeral,
            used.ephemeral,
            "Insufficient ephemeral-storage",
        ),
    ];
    for (wanted, has, used, reason) in plain {
        if wanted > 0 && wanted > has.wrapping_sub(used) {
            reasons.push(reason.into());
            unresolvable |= wanted > has;
        }
    }
    for (number, wanted) in &template.scalars {
        let name = cx.cache.interned().scalar_name(*number);
        let free = has.scalar(*number).wrapping_sub(used.scalar(*number));
        if *wanted != 0 && *wanted > free && !fit.ignores(name) {
            reasons.push(format!("Insufficient {name}").into());
            unresolvable |= *wanted > has.scalar(*number);
        }
    }
    (reasons, unresolvable)
}

impl Plugin for Fit {
    fn name(&self) -> PluginName {
        PluginName::NodeResourcesFit
    }

    fn by_node(&self, _pod: &PodEntry) -> bool {
        true
    }

    fn normalizes(&self) -> bool {
        false
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER
            .and(Points::FILTER)
            .and(Points::PRE_SCORE)
            .and(Points::SCORE)
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const EVENTS: &[ClusterEvent] = &[
            event(Resource::Pod, DELETE | UPDATE_POD_SCALE_DOWN),
            event(Resource::Node, ADD | UPDATE_NODE_ALLOCATABLE),
        ];
        EVENTS
    }

    fn hint(&self, _cx: &Cx<'_>, pod: &PodEntry, involved: &Involved<'_>) -> bool {
        match involved {
            Involved::Pod(Some(deleted), None) => {
                deleted.node_name.is_some() || deleted.status.nominated_node.is_some()
            }
            Involved::Pod(Some(old), Some(new)) => scaled_down(pod, old, new),
            Involved::Node(old, Some(new)) => node_may_fit(pod, *old, new),
            _ => true,
        }
    }

    fn filter(
        &self,
        cx: &Cx<'_>,
        _state: &CycleState,
        pod: &PodEntry,
        node: &NodeInfo,
    ) -> Result<(), Status> {
        let (reasons, unresolvable) = shortage(cx, self, &pod.template, node);
        if reasons.is_empty() {
            return Ok(());
        }
        Err(Status {
            code: if unresolvable {
                Code::UnschedulableAndUnresolvable
            } else {
                Code::Unschedulable
            },
            plugin: None,
            reasons,
        })
    }

    /// `leastResourceScorer`, `mostResourceScorer`, `requestedToCapacityRatioScorer`.
    fn score(&self, _cx: &Cx<'_>, _state: &CycleState, pod: &PodEntry, node: &NodeInfo) -> i64 {
        let shaped = matches!(self.strategy, Strategy::RequestedToCapacityRatio(_));
        let (mut sum, mut weights) = (0, 0);
        for (resource, weight) in &self.resources {
            let (requested, _, allocatable) = resource.on(&pod.template, node, false);
            if allocatable == 0 {
                continue;
            }
            let score = self.resource_score(requested, allocatable);
            if !shaped || score > 0 {
                sum += score * weight;
                weights += weight;
            }
        }
        if weights == 0 {
            0
        } else if shaped {
            (sum as f64 / weights as f64).round() as i64
        } else {
            sum / weights
        }
    }
}

/// `isSchedulableAfterPodScaleDown`: the pod itself got smaller, or a pod on a node gave back some
/// of what this one asks for.
fn scaled_down(pod: &PodEntry, old: &Pod, new: &Pod) -> bool {
    if new.meta.uid == pod.pod.meta.uid {
        return true;
    }
    if new.node_name.is_none() {
        return false;
    }
    let before = pod_requests(&old.spec);
    let after = pod_requests(&new.spec);
    let wanted = pod_requests(&pod.pod.spec);
    let mut scalars = wanted.extended.iter();
    (wanted.cpu_milli > 0 && before.cpu_milli > after.cpu_milli)
        || (wanted.memory > 0 && before.memory > after.memory)
        || (wanted.ephemeral > 0 && before.ephemeral > after.ephemeral)
        || scalars.any(|(name, v)| *v > 0 && before.extended(name) > after.extended(name))
}

/// `isSchedulableAfterNodeChange`: the pod would fit the node were it empty, and the node is new or
/// got more of what the pod asks for.
fn node_may_fit(pod: &PodEntry, old: Option<&Node>, new: &Node) -> bool {
    let wanted = pod_requests(&pod.pod.spec);
    let has = &new.status.allocatable;
    let scalars = || wanted.extended.iter().filter(|(_, v)| *v > 0);
    let fits = has.pods >= 1
        && wanted.cpu_milli <= has.cpu_milli.max(0)
        && wanted.memory <= has.memory.max(0)
        && wanted.ephemeral <= has.ephemeral.max(0)
        && scalars().all(|(name, v)| *v <= has.extended(name));
    let Some(old) = old else {
        return fits;
    };
    let had = &old.status.allocatable;
    fits && (has.pods > had.pods
        || (wanted.cpu_milli > 0 && has.cpu_milli > had.cpu_milli)
        || (wanted.memory > 0 && has.memory > had.memory)
        || (wanted.ephemeral > 0 && has.ephemeral > had.ephemeral)
        || scalars().any(|(name, _)| has.extended(name) > had.extended(name)))
}
