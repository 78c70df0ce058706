//! `nodeSelector`, node affinity, and affinity that the profile adds to every pod.

use crate::api::affinity::NodeSelectorTerm;
use crate::api::affinity::{any_term, term_matches};
use crate::api::selector::{Operator, Requirement};
use crate::api::validate::names::label_value;
use crate::api::{Node, PodSpec, Text};
use crate::sched::cache::NodeIx;
use crate::sched::config::NodeAffinityArgs;
use crate::sched::events::{ADD, ClusterEvent, Involved, Resource, UPDATE_NODE_LABEL, event};
use crate::sched::node_info::NodeInfo;
use crate::sched::plugin::{
    Cx, CycleState, Plugin, PluginName, PodEntry, Points, PreFilter, Status, default_normalize,
};

fn matches_node(terms: &[NodeSelectorTerm], node: &Node) -> bool {
    any_term(terms, &node.meta.labels, Some(&node.meta.name))
}

/// `RequiredNodeAffinity.Match`: `nodeSelector` and required node affinity.
pub fn required(spec: &PodSpec, node: &Node) -> bool {
    let labels = &node.meta.labels;
    spec.node_selector
        .iter()
        .all(|(k, v)| labels.get(k) == Some(v))
        && required_terms(spec).is_none_or(|terms| matches_node(terms, node))
}

fn required_terms(spec: &PodSpec) -> Option<&[NodeSelectorTerm]> {
    spec.affinity.as_ref()?.node_required.as_deref()
}

/// Whether `required` can reject any node at all.
pub fn constrained(spec: &PodSpec) -> bool {
    !spec.node_selector.is_empty() || required_terms(spec).is_some()
}

fn preference(terms: &[(i32, NodeSelectorTerm)], node: &Node) -> i64 {
    let (labels, name) = (&node.meta.labels, Some(&node.meta.name));
    let matching = terms.iter().filter(|(_, t)| term_matches(t, labels, name));
    matching.map(|(weight, _)| i64::from(*weight)).sum()
}

/// `NewPreferredSchedulingTerms`: what is wrong with preferred terms that the API server takes, and
/// that therefore fails PreScore: bounds that are no integers, values that no label can have.
pub fn unparsed(terms: &[(i32, NodeSelectorTerm)]) -> Option<String> {
    let mut wrong: Vec<String> = Vec::new();
    for (i, (_, term)) in terms.iter().enumerate() {
        for (j, requirement) in term.expressions.iter().enumerate() {
            let at = format!("[{i}].matchExpressions[{j}].values");
            let bounds = matches!(requirement.operator, Operator::Gt | Operator::Lt);
            wrong.extend(problems(requirement, bounds, &at));
        }
    }
    match wrong.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("[{}]", many.join(", "))),
    }
}

/// Whether a required term does not parse: the API server lets through bounds that are no integers.
fn unparsable(term: &NodeSelectorTerm) -> bool {
    let bounds = |r: &&Requirement| matches!(r.operator, Operator::Gt | Operator::Lt);
    let mut bounds = term.expressions.iter().filter(bounds);
    bounds.any(|r| r.values.iter().any(|v| v.parse::<i64>().is_err()))
}

/// `labels.NewRequirement`.
fn problems(requirement: &Requirement, bounds: bool, at: &str) -> Vec<String> {
    let values = || requirement.values.iter().enumerate();
    let mut said = Vec::new();
    for (k, value) in values().filter(|(_, v)| bounds && v.parse::<i64>().is_err()) {
        let why = "for 'Gt', 'Lt' operators, the value must be an integer";
        said.push(format!("{at}[{k}]: Invalid value: \"{value}\": {why}"));
    }
    for (k, value) in values() {
        let why = label_value(value);
        if !why.is_empty() {
            let (key, why) = (&requirement.key, why.join("; "));
            said.push(format!(
                "{at}[{k}][{key}]: Invalid value: \"{value}\": {why}"
            ));
        }
    }
    said
}

/// The plugin with its arguments.
#[derive(Debug)]
pub struct NodeAffinity(pub NodeAffinityArgs);

impl NodeAffinity {
    fn enforced(&self, node: &Node) -> bool {
        let terms = self.0.required.as_deref();
        terms.is_none_or(|terms| matches_node(terms, node))
    }
}

/// The nodes that required affinity names, when every term names some (`None` otherwise): a term's
/// requirements narrow its names, terms add up.
fn named_nodes(terms: &[NodeSelectorTerm]) -> Option<Vec<&Text>> {
    let mut names: Vec<&Text> = Vec::new();
    let named = |r: &&Requirement| r.key == "metadata.name" && r.operator == Operator::In;
    for term in terms {
        let mut of_term: Option<Vec<&Text>> = None;
        for requirement in term.fields.iter().filter(named) {
            let values = &requirement.values;
            of_term = Some(match of_term {
                None => values.iter().collect(),
                Some(before) => before.into_iter().filter(|n| values.contains(n)).collect(),
            });
        }
        names.extend(of_term?);
    }
    Some(names)
}

impl Plugin for NodeAffinity {
    fn name(&self) -> PluginName {
        PluginName::NodeAffinity
    }

    fn by_node(&self, _pod: &PodEntry) -> bool {
        true
    }

    fn by_row(&self, _pod: &PodEntry) -> bool {
        true
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER
            .and(Points::FILTER)
            .and(Points::PRE_SCORE)
            .and(Points::SCORE)
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const EVENTS: &[ClusterEvent] = &[event(Resource::Node, ADD | UPDATE_NODE_LABEL)];
        EVENTS
    }

    fn hint(&self, _cx: &Cx<'_>, pod: &PodEntry, involved: &Involved<'_>) -> bool {
        let Involved::Node(old, Some(new)) = involved else {
            return true;
        };
        let spec = &pod.pod.spec;
        // Terms that do not parse are an error where no other term matches, and errors wake.
        let fails = |node: &Node| {
            let labels = &node.meta.labels;
            let mut selector = spec.node_selector.iter();
            !required(spec, node)
                && required_terms(spec).is_some_and(|terms| terms.iter().any(unparsable))
                && selector.all(|(k, v)| labels.get(k) == Some(v))
        };
        self.enforced(new)
            && (fails(new)
                || required(spec, new) && old.is_none_or(|old| fails(old) || !required(spec, old)))
    }

    fn pre_filter(&self, cx: &Cx<'_>, _state: &mut CycleState, pod: &PodEntry) -> PreFilter {
        let spec = &pod.template.spec;
        if !constrained(spec) && self.0.required.is_none() {
            return PreFilter::Skip;
        }
        let terms = required_terms(spec).unwrap_or_default();
        match named_nodes(terms) {
            _ if terms.is_empty() => PreFilter::All,
            None => PreFilter::All,
            Some(names) if names.is_empty() => {
                PreFilter::Reject(Status::unresolvable("pod affinity terms conflict"))
            }
            Some(names) => {
                let named = names.len();
                let found = names.into_iter().filter_map(|n| cx.cache.find(n));
                let found: Vec<_> = found.map(|info| info.ix).collect();
                let unknown = found.len() < named;
                PreFilter::Nodes(found, unknown)
            }
        }
    }

    fn filter(
        &self,
        _cx: &Cx<'_>,
        _state: &CycleState,
        pod: &PodEntry,
        node: &NodeInfo,
    ) -> Result<(), Status> {
        if !self.enforced(node.row()) {
            return Err(Status::unresolvable(
                "node(s) didn't match scheduler-enforced node affinity",
            ));
        }
        if !required(&pod.template.spec, node.row()) {
            return Err(Status::unresolvable(
                "node(s) didn't match Pod's node affinity/selector",
            ));
        }
        Ok(())
    }

    fn pre_score(
        &self,
        _cx: &Cx<'_>,
        _state: &mut CycleState,
        pod: &PodEntry,
        _nodes: &[NodeIx],
    ) -> bool {
        let affinity = pod.template.spec.affinity.as_ref();
        affinity.is_some_and(|a| !a.node_preferred.is_empty()) || !self.0.preferred.is_empty()
    }

    fn score(&self, _cx: &Cx<'_>, _state: &CycleState, pod: &PodEntry, node: &NodeInfo) -> i64 {
        let own = pod.template.spec.affinity.as_ref();
        preference(&self.0.preferred, node.row())
            + own.map_or(0, |a| preference(&a.node_preferred, node.row()))
    }

    fn normalize(&self, _cx: &Cx<'_>, _state: &CycleState, _nodes: &[NodeIx], scores: &mut [i64]) {
        default_normalize(false, scores);
    }
}
