//! Spreads pods over the domains of a topology key: constraints of the pod, or the profile's
//! default ones applied to the pods of the same Service, ReplicaSet or StatefulSet.
//!
//! `filter` holds hard constraints, `score` soft ones. Pods are counted by class (see `cache`).

mod filter;

mod kept;

mod score;

use std::sync::Arc;

pub use filter::SpreadFilter;
pub use kept::KeptCounts;
pub use score::SpreadScore;

use crate::api::selector::{LabelSelector, Operator, Requirement};
use crate::api::{
    Inert, Kind, Labels, Node, OwnerRef, Pod, ReplicaSet, Service, StatefulSet, Text,
};
use crate::sched::cache::{Cache, Class, NO_DOMAIN, NodeIx, TopologyIx};
use crate::sched::config::SpreadArgs;
use crate::sched::events::{
    ADD, ClusterEvent, DELETE, Involved, Resource, UPDATE_NODE_LABEL, UPDATE_NODE_TAINT,
    UPDATE_POD_LABEL, UPDATE_POD_TOLERATION, event,
};
use crate::sched::node_info::NodeInfo;
use crate::sched::plugin::{
    Cx, CycleState, Plugin, PluginName, PodEntry, Points, PreFilter, Status,
};
use crate::sched::plugins::node_affinity;
use crate::sched::plugins::node_basic::has_untolerated;
use crate::sched::template::Constraint;

/// The plugin.
#[derive(Debug)]
pub struct PodTopologySpread {
    system: bool,
    defaults: Vec<Constraint>,
    keys: Vec<(TopologyIx, Text)>,
}

/// A constraint as it applies to one pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Active {
    topology: TopologyIx,
    hostname: bool,
    max_skew: i32,
    min_domains: i32,
    honor_affinity: bool,
    honor_taints: bool,
    selector: LabelSelector,
}

impl Active {
    fn new(c: &Constraint, selector: LabelSelector) -> Active {
        Active {
            topology: c.topology,
            hostname: c.hostname,
            max_skew: c.max_skew,
            min_domains: c.min_domains,
            honor_affinity: c.honor_affinity,
            honor_taints: c.honor_taints,
            selector,
        }
    }

    /// `matchNodeInclusionPolicies`.
    fn includes(&self, pod: &PodEntry, node: &Node) -> bool {
        let spec = &pod.template.spec;
        !(self.honor_affinity && !node_affinity::required(spec, node)
            || self.honor_taints && has_untolerated(&node.taints, &spec.tolerations))
    }

    /// The classes whose pods count (`countPodsMatchSelector`: an empty selector counts none).
    fn classes<'a>(&'a self, cx: &Cx<'a>, namespace: &Text) -> impl Iterator<Item = &'a Class> {
        let all = cx.cache.classes_in(namespace);
        all.filter(|c| !self.selector.is_empty() && self.selector.matches(&c.labels))
    }

    /// Counted pods per node, for all nodes.
    fn per_node(&self, cx: &Cx<'_>, namespace: &Text) -> Vec<u32> {
        let mut counts = vec![0; cx.cache.places()];
        for class in self.classes(cx, namespace) {
            for count in &class.nodes {
                counts[count.node] += count.live;
            }
        }
        counts
    }
}

/// `nodeLabelsMatchSpreadConstraints`: the node has every topology key.
fn has_all(cache: &Cache, constraints: &[Active], node: NodeIx) -> bool {
    let mut all = constraints.iter();
    all.all(|c| cache.domain(c.topology, node) != NO_DOMAIN)
}

impl PodTopologySpread {
    /// The plugin with its arguments.
    pub fn new(args: &SpreadArgs, cache: &mut Cache) -> PodTopologySpread {
        let defaults = args.defaults.iter();
        PodTopologySpread {
            system: args.system,
            keys: defaults
                .clone()
                .map(|c| (cache.topology(&c.topology_key), c.topology_key.clone()))
                .collect(),
            defaults: defaults.map(|c| cache.constraint(c)).collect(),
        }
    }

    /// `getConstraints` and its counterpart for scores: the pod's own constraints of this kind, or
    /// the default ones with a selector found for the pod.
    fn constraints(&self, cx: &Cx<'_>, pod: &PodEntry, hard: bool) -> Vec<Active> {
        let own = &pod.template.spread;
        if !own.is_empty() {
            let own = own.iter().filter(|c| c.hard == hard);
            return own
                .map(|c| Active::new(c, with_pod_labels(c, &pod.pod.meta.labels)))
                .collect();
        }
        if !self.defaults.iter().any(|c| c.hard == hard) {
            return Vec::new();
        }
        let Some(selector) = default_selector(cx, &pod.pod) else {
            return Vec::new();
        };
        let defaults = self.defaults.iter().filter(|c| c.hard == hard);
        defaults.map(|c| Active::new(c, selector.clone())).collect()
    }

    /// Whether the pod's constraints, rather than system defaults, are at work: nodes without all
    /// topology keys are then left out of scores.
    fn requires_all(&self, pod: &PodEntry) -> bool {
        !pod.template.spread.is_empty() || !self.system
    }

    fn key<'a>(&'a self, pod: &'a PodEntry, topology: TopologyIx) -> Option<&'a Text> {
        let own = pod.template.spread.iter();
        let own = own.zip(&pod.template.spec.topology_spread);
        let mut own = own.map(|(c, api)| (c.topology, &api.topology_key));
        own.find(|(t, _)| *t == topology)
            .map(|(_, key)| key)
            .or_else(|| {
                let mut keys = self.keys.iter();
                keys.find(|(t, _)| *t == topology).map(|(_, key)| key)
            })
    }

    fn pod_hint(&self, cx: &Cx<'_>, pod: &PodEntry, old: Option<&Pod>, new: Option<&Pod>) -> bool {
        let other = |p: &Pod| !involved(p, &pod.pod);
        if new.is_some_and(other) || old.is_some_and(other) {
            return false;
        }
        let constraints = self.constraints(cx, pod, true);
        let selects = |c: &Active, p: &Pod| c.selector.matches(&p.meta.labels);
        match (old, new) {
            (Some(old), Some(new)) => {
                let tolerations = old.spec.tolerations != new.spec.tolerations;
                if pod.pod.meta.uid == new.meta.uid
                    && tolerations
                    && constraints.iter().any(|c| c.honor_taints)
                {
                    return true;
                }
                old.meta.labels != new.meta.labels
                    && constraints
                        .iter()
                        .any(|c| selects(c, old) != selects(c, new))
            }
            (None, Some(one)) | (Some(one), None) => constraints.iter().any(|c| selects(c, one)),
            (None, None) => true,
        }
    }

    fn node_hint(
        &self,
        cx: &Cx<'_>,
        pod: &PodEntry,
        old: Option<&Node>,
        new: Option<&Node>,
    ) -> bool {
        let constraints = self.constraints(cx, pod, true);
        let keys: Vec<&Text> = constraints
            .iter()
            .filter_map(|c| self.key(pod, c.topology))
            .collect();
        let has_all = |n: &Node| keys.iter().all(|k| n.meta.labels.contains(k));
        match (old, new) {
            (Some(old), Some(new)) => {
                let value = |n: &Node, key: &Text| n.meta.labels.get(key).cloned();
                has_all(old) != has_all(new)
                    || has_all(new)
                        && (keys.iter().any(|k| value(old, k) != value(new, k))
                            || old.taints != new.taints)
            }
            (None, Some(one)) | (Some(one), None) => has_all(one),
            (None, None) => true,
        }
    }
}

/// `involvedInTopologySpreading`.
fn involved(other: &Pod, pod: &Pod) -> bool {
    other.meta.uid == pod.meta.uid
        || (other.node_name.is_some() || other.status.nominated_node.is_some())
            && other.meta.namespace == pod.meta.namespace
}

/// `matchLabelKeys`: the pod's own values of these keys are required as well.
fn with_pod_labels(c: &Constraint, labels: &Labels) -> LabelSelector {
    let mut selector = c.selector.clone();
    if selector.nothing {
        return selector;
    }
    for key in &c.match_label_keys {
        if let Some(value) = labels.get(key) {
            selector.requirements.push(equals(key, value));
        }
    }
    selector
}

fn equals(key: &Text, value: &Text) -> Requirement {
    Requirement {
        key: key.clone(),
        operator: Operator::In,
        values: vec![value.clone()],
    }
}

/// `pkg/scheduler/framework/plugins/helper/spread.go :: DefaultSelector`: the selectors of the
/// Services that select the pod, together with that of its controller.
fn default_selector(cx: &Cx<'_>, pod: &Pod) -> Option<LabelSelector> {
    let namespace = &pod.meta.namespace;
    let mut merged = Labels::default();
    for (_, service) in cx.view.of::<Service>().in_namespace(namespace) {
        let labels = &pod.meta.labels;
        let selects = service
            .selector
            .iter()
            .all(|(k, v)| labels.get(k) == Some(v));
        if selects {
            for (key, value) in service.selector.iter() {
                merged = merged.with(key, value.clone());
            }
        }
    }
    let owner = pod.meta.controller();
    for (key, value) in owner
        .and_then(|owner| replication_controller(cx, namespace, owner))
        .into_iter()
        .flatten()
    {
        merged = merged.with(&key, value);
    }
    let mut selector = LabelSelector::equals(merged.iter());
    if let Some(owner) = owner {
        let requirements = controller_requirements(cx, namespace, owner);
        selector.requirements.extend(requirements);
    }
    (!selector.is_empty()).then_some(selector)
}

/// The selector of a pod's controller, for the kinds whose selectors are more than pairs.
fn controller_requirements(cx: &Cx<'_>, namespace: &Text, owner: &OwnerRef) -> Vec<Requirement> {
    if owner.kind == Kind::ReplicaSet {
        let sets = cx.view.of::<ReplicaSet>();
        let found = sets.named(namespace, &owner.name);
        return found.map_or(Vec::new(), |(_, set)| set.selector.requirements.clone());
    }
    if owner.kind == Kind::StatefulSet {
        let found = cx.view.of::<StatefulSet>().named(namespace, &owner.name);
        return found.map_or(Vec::new(), |(_, set)| set.selector.requirements.clone());
    }
    Vec::new()
}

/// The selector of a pod's ReplicationController: pairs that win over those of Services.
fn replication_controller(
    cx: &Cx<'_>,
    namespace: &Text,
    owner: &OwnerRef,
) -> Option<Vec<(Text, Text)>> {
    if owner.kind_name != "ReplicationController" || owner.api_version != "v1" {
        return None;
    }
    let mut rows = cx.view.of::<Inert>().in_namespace(namespace);
    let found = rows.find(|(_, r)| r.kind == owner.kind_name && r.meta.name == owner.name);
    let pairs = found?.1.body["spec"]["selector"].as_object()?.iter();
    let pairs = pairs.filter_map(|(k, v)| Some((Text::from(k), Text::from(v.as_str()?))));
    Some(pairs.collect())
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> PluginName {
        PluginName::PodTopologySpread
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER
            .and(Points::FILTER)
            .and(Points::PRE_SCORE)
            .and(Points::SCORE)
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const EVENTS: &[ClusterEvent] = &[
            event(
                Resource::Pod,
                ADD | UPDATE_POD_LABEL | UPDATE_POD_TOLERATION | DELETE,
            ),
            event(
                Resource::Node,
                ADD | DELETE | UPDATE_NODE_LABEL | UPDATE_NODE_TAINT,
            ),
        ];
        EVENTS
    }

    fn hint(&self, cx: &Cx<'_>, pod: &PodEntry, involved: &Involved<'_>) -> bool {
        match involved {
            Involved::Pod(old, new) => self.pod_hint(cx, pod, *old, *new),
            Involved::Node(old, new) => self.node_hint(cx, pod, *old, *new),
            _ => true,
        }
    }

    fn pre_filter(&self, cx: &Cx<'_>, state: &mut CycleState, pod: &PodEntry) -> PreFilter {
        let constraints = self.constraints(cx, pod, true);
        if constraints.is_empty() {
            return PreFilter::Skip;
        }
        state.spread_filter = Some(match &mut state.kept.spread {
            Some(kept) => kept.hard(cx, pod, constraints),
            None => Arc::new(SpreadFilter::new(cx, pod, constraints)),
        });
        PreFilter::All
    }

    fn add_pod(
        &self,
        cx: &Cx<'_>,
        state: &mut CycleState,
        pod: &PodEntry,
        other: &PodEntry,
        node: &NodeInfo,
    ) {
        if let Some(state) = &mut state.spread_filter {
            Arc::make_mut(state).update(cx, pod, other, node, 1);
        }
    }

    fn remove_pod(
        &self,
        cx: &Cx<'_>,
        state: &mut CycleState,
        pod: &PodEntry,
        other: &PodEntry,
        node: &NodeInfo,
    ) {
        if let Some(state) = &mut state.spread_filter {
            Arc::make_mut(state).update(cx, pod, other, node, -1);
        }
    }

    fn filter(
        &self,
        cx: &Cx<'_>,
        state: &CycleState,
        _pod: &PodEntry,
        node: &NodeInfo,
    ) -> Result<(), Status> {
        match &state.spread_filter {
            Some(state) => state.check(cx, node),
            None => Ok(()),
        }
    }

    fn pre_score(
        &self,
        cx: &Cx<'_>,
        state: &mut CycleState,
        pod: &PodEntry,
        nodes: &[NodeIx],
    ) -> bool {
        let constraints = self.constraints(cx, pod, false);
        if constraints.is_empty() {
            return false;
        }
        let require_all = self.requires_all(pod);
        let counts = match &mut state.kept.spread {
            Some(kept) => kept.soft(cx, pod, &constraints, require_all),
            None => Arc::new(score::count_all(cx, pod, &constraints, require_all)),
        };
        let score = SpreadScore::new(cx, constraints, counts, nodes, require_all);
        state.spread_score = Some(score);
        true
    }

    fn scores_alike(&self, cx: &Cx<'_>, pod: &PodEntry) -> bool {
        self.constraints(cx, pod, false).is_empty()
    }

    fn score(&self, cx: &Cx<'_>, state: &CycleState, _pod: &PodEntry, node: &NodeInfo) -> i64 {
        let state = state.spread_score.as_ref();
        state.map_or(0, |state| state.score(cx, node.ix))
    }

    fn normalize(&self, cx: &Cx<'_>, state: &CycleState, nodes: &[NodeIx], scores: &mut [i64]) {
        if let Some(state) = &state.spread_score {
            state.normalize(cx, nodes, scores);
        }
    }
}
