//! Which changes would make a pod fit: tried, not guessed.
//!
//! For a few nodes that stand for the others, the first refusal is met by a change to the pod or the
//! node, the cycle runs again, the next refusal is met, until the pod fits there. Then one more node
//! like those there are. What does not lead to a fit is not told.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Question, cycle, put};
use crate::api::affinity::{Toleration, TolerationOperator, WhenUnsatisfiable};
use crate::api::quantity::{Format, Quantity};
use crate::api::{Kind, Node, Pod, Row, Text, declared};
use crate::sched::Explanation;
use crate::sched::explain::Refusal;
use crate::sched::plugin::PluginName;
use crate::sched::template::pod_requests;
use crate::store::{ObjectId, View};

/// So many changes may a remedy have.
const CHANGES_MAX: usize = 4;

/// So many nodes are tried for each reason of refusal.
const NODES_EACH: usize = 3;

/// So many remedies are told.
const REMEDIES_MAX: usize = 6;

/// Name of the node that is not there yet.
const NEW: &str = "one-more-node";

/// Changes that, taken together, make the pod fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// Where it would fit; empty for a node that is not there yet.
    pub node: Text,
    /// What to change.
    pub changes: Vec<String>,
}

/// What would make it fit, the fewest changes first.
pub(super) fn remedies(question: &Question, explanation: &Explanation) -> Vec<Remedy> {
    let mut found: Vec<Remedy> = stand_ins(question, explanation)
        .into_iter()
        .filter_map(|node| fit_on(question, &node))
        .collect();
    found.extend(one_more(question));
    found.sort_by_key(|remedy| remedy.changes.len());
    let mut told: BTreeSet<Vec<String>> = BTreeSet::new();
    found.retain(|remedy| told.insert(remedy.changes.clone()));
    found.truncate(REMEDIES_MAX);
    found
}

/// Some nodes for each refusal, those with the most free cpu and memory first.
fn stand_ins(question: &Question, explanation: &Explanation) -> Vec<Text> {
    let mut groups: Vec<(&Refusal, Vec<&Text>)> = Vec::new();
    for (node, refusal) in &explanation.rejected {
        match groups.iter_mut().find(|(other, _)| *other == refusal) {
            Some((_, nodes)) => nodes.push(node),
            None => groups.push((refusal, vec![node])),
        }
    }
    let mut chosen: Vec<Text> = Vec::new();
    for (_, nodes) in &mut groups {
        let free = |node: &Text, resource| free(&question.view, node, resource).unwrap_or(0);
        nodes.sort_by_cached_key(|node| {
            std::cmp::Reverse((free(node, "cpu"), free(node, "memory")))
        });
        chosen.extend(nodes.iter().take(NODES_EACH).map(|node| (*node).clone()));
    }
    chosen
}

/// The changes that make it fit on a node.
fn fit_on(question: &Question, node: &Text) -> Option<Remedy> {
    let mut trial = Trial {
        pod: Pod::clone(&question.pod),
        view: question.view.clone(),
        node: node.clone(),
    };
    let mut changes = Vec::new();
    loop {
        let explanation = cycle(question, &Arc::new(trial.pod.clone()), &trial.view).ok()?;
        if explanation.feasible.contains(node) {
            return Some(Remedy {
                node: node.clone(),
                changes,
            });
        }
        let (_, refusal) = explanation.rejected.iter().find(|(name, _)| name == node)?;
        let refusal = refusal.clone();
        changes.extend(trial.meet(question, &refusal)?);
        if changes.len() > CHANGES_MAX {
            return None;
        }
    }
}

/// One more node like each kind of node there is, when the pod fits on it.
fn one_more(question: &Question) -> Vec<Remedy> {
    let mut seen: Vec<(Node, Text)> = Vec::new();
    for (_, node) in question.view.nodes().iter() {
        let fresh = fresh(node);
        if seen.len() < REMEDIES_MAX && !seen.iter().any(|(other, _)| *other == fresh) {
            seen.push((fresh, node.meta.name.clone()));
        }
    }
    let fits = |node: &Node| {
        let mut view = question.view.clone();
        let index = view.nodes().iter().map(|(id, _)| id.0 + 1).max();
        let id = ObjectId {
            kind: Kind::Node,
            index: index.unwrap_or(0),
        };
        put(&mut view, id, Some(Row::Node(Arc::new(node.clone()))));
        let explanation = cycle(question, &question.pod, &view);
        explanation.is_ok_and(|e| e.feasible.iter().any(|name| name == NEW))
    };
    (seen.into_iter())
        .filter(|(node, _)| fits(node))
        .map(|(_, like)| Remedy {
            node: Text::default(),
            changes: vec![format!("one more node like {like}")],
        })
        .collect()
}

/// A node of the same kind that just joined: no taints of its life, no volumes, no images.
fn fresh(node: &Node) -> Node {
    let mut new = Node::clone(node);
    let (hostname, name) = ("kubernetes.io/hostname", Text::from(NEW));
    let labels = node.meta.labels.with(hostname, NEW);
    new.meta = crate::api::Meta {
        name,
        labels,
        ..Default::default()
    };
    new.unschedulable = false;
    new.taints.retain(|taint| !of_its_life(&taint.key));
    new.provider_id = Text::default();
    new.status.images.clear();
    new.status.conditions.clear();
    new
}

/// Whether Kubernetes itself puts this taint on nodes, and takes it away.
fn of_its_life(key: &str) -> bool {
    key.starts_with("node.kubernetes.io/")
}

/// What is free of a resource on a node: allocatable less the requests of the pods there.
fn free(view: &View, node: &Text, resource: &str) -> Option<i64> {
    let (_, row) = view.nodes().find("", node)?;
    let mut left = amount(&row.status.allocatable, resource);
    for (_, pod) in view.pods().iter() {
        if pod.node_name.as_ref() == Some(node) && !pod.status.phase.terminal() {
            left -= amount(&pod_requests(&pod.spec), resource);
        }
    }
    Some(left)
}

fn amount(of: &crate::api::quantity::Resources, resource: &str) -> i64 {
    match resource {
        "cpu" => of.cpu_milli,
        "memory" => of.memory,
        "ephemeral-storage" => of.ephemeral,
        name => of.extended(name),
    }
}

/// An amount as a manifest has it; [`amount`] counts cpu in thousandths.
pub(super) fn shown(resource: &str, amount: i64) -> String {
    match resource {
        "cpu" => {
            let nanos = i128::from(amount) * 1_000_000;
            Quantity::from_nanos(nanos).print(Format::DecimalSi)
        }
        "memory" | "ephemeral-storage" => {
            let step = 1 << 20;
            let whole = amount.div_euclid(step) * step;
            Quantity::from_units(whole).print(Format::BinarySi)
        }
        _ => amount.to_string(),
    }
}

/// A pod and a cluster that are changed on trial.
struct Trial {
    pod: Pod,
    view: View,
    node: Text,
}

impl Trial {
    /// Makes the changes that meet a refusal; `None` when there are none.
    fn meet(&mut self, question: &Question, refusal: &Refusal) -> Option<Vec<String>> {
        match PluginName::from_name(refusal.plugin)? {
            PluginName::NodeResourcesFit => {
                let reasons = refusal.reasons.iter();
                reasons.map(|reason| self.ask_less(reason)).collect()
            }
            PluginName::TaintToleration => self.tolerate().map(|change| vec![change]),
            PluginName::NodeUnschedulable => {
                let cordon = "node.kubernetes.io/unschedulable";
                let node = self.change_node(|node| {
                    node.unschedulable = false;
                    node.taints.retain(|taint| taint.key != cordon);
                })?;
                Some(vec![format!("uncordon {node}")])
            }
            PluginName::NodeAffinity => self.label(),
            PluginName::NodeDeclaredFeatures => self.declare(),
            PluginName::PodTopologySpread => self.spread_less(question),
            PluginName::InterPodAffinity => self.drop_affinity(&refusal.reasons),
            _ => None,
        }
    }

    fn change_node(&mut self, change: impl FnOnce(&mut Node)) -> Option<Text> {
        let (id, row) = self.view.nodes().find("", &self.node)?;
        let mut node = Node::clone(row);
        change(&mut node);
        let id = ObjectId {
            kind: Kind::Node,
            index: id.0,
        };
        put(&mut self.view, id, Some(Row::Node(Arc::new(node))));
        Some(self.node.clone())
    }

    /// Has the node declare what the pod requires.
    fn declare(&mut self) -> Option<Vec<String>> {
        let required = declared::required(&self.pod.spec);
        let (_, node) = self.view.nodes().find("", &self.node)?;
        let missing: Vec<&str> = declared::missing(&required, node).collect();
        let node = self.change_node(|node| {
            let features = &mut node.status.declared_features;
            features.extend(missing.iter().map(|feature| Text::from(*feature)));
            features.sort();
        })?;
        let missing = missing.join(" and ");
        let change = format!("have a kubelet on {node} that declares {missing}");
        Some(vec![change])
    }

    /// Takes what is missing from the container that asks for the most.
    fn ask_less(&mut self, reason: &str) -> Option<String> {
        let resource = reason.strip_prefix("Insufficient ")?;
        let free = free(&self.view, &self.node, resource)?;
        let asked = amount(&pod_requests(&self.pod.spec), resource);
        let spec = Arc::make_mut(&mut self.pod.spec);
        let containers = spec.containers.iter_mut();
        let container = containers.max_by_key(|c| amount(&c.requests, resource))?;
        let before = amount(&container.requests, resource);
        let after = before - (asked - free);
        if after <= 0 {
            return None;
        }
        let requests = &mut container.requests;
        match resource {
            "cpu" => requests.cpu_milli = after,
            "memory" => requests.memory = after,
            "ephemeral-storage" => requests.ephemeral = after,
            name => requests.set_extended(&Text::from(name), after),
        }
        Some(format!(
            "request {resource} {} instead of {} in container {}",
            shown(resource, after),
            shown(resource, before),
            container.name
        ))
    }

    /// Tolerates the first taint in the way, or lifts one that Kubernetes put there.
    fn tolerate(&mut self) -> Option<String> {
        use crate::api::affinity::TaintEffect;
        let (_, node) = self.view.nodes().find("", &self.node)?;
        let tolerations = &self.pod.spec.tolerations;
        let taint = node.taints.iter().find(|taint| {
            taint.effect != TaintEffect::PreferNoSchedule
                && !tolerations.iter().any(|t| t.tolerates(taint))
        })?;
        let taint = taint.clone();
        let equals = if taint.value.is_empty() { "" } else { "=" };
        let text = format!(
            "{}{equals}{}:{}",
            taint.key,
            taint.value,
            taint.effect.name()
        );
        if of_its_life(&taint.key) {
            let node = self.change_node(|node| node.taints.retain(|other| *other != taint))?;
            return Some(format!("{node} without its taint {text}"));
        }
        let spec = Arc::make_mut(&mut self.pod.spec);
        spec.tolerations.push(Toleration {
            key: taint.key,
            operator: TolerationOperator::Equal,
            value: taint.value,
            effect: Some(taint.effect),
            seconds: None,
        });
        Some(format!("tolerate {text}"))
    }

    /// Gives the node the labels of the pod's nodeSelector, else drops the required node affinity.
    fn label(&mut self) -> Option<Vec<String>> {
        let wanted = self.pod.spec.node_selector.clone();
        let (_, node) = self.view.nodes().find("", &self.node)?;
        let labels = node.meta.labels.clone();
        let missing: Vec<(&Text, &Text)> = (wanted.iter())
            .filter(|(key, value)| labels.get(key) != Some(value))
            .collect();
        if missing.is_empty() {
            let spec = Arc::make_mut(&mut self.pod.spec);
            let affinity = Arc::make_mut(spec.affinity.as_mut()?);
            affinity.node_required.take()?;
            return Some(vec!["drop the required nodeAffinity".to_owned()]);
        }
        let with = missing.iter().fold(labels.clone(), |labels, (key, value)| {
            labels.with(key, (*value).clone())
        });
        let node = self.change_node(|node| node.meta.labels = with)?;
        let told = missing.iter();
        let told = told.map(|(key, value)| format!("label {node} with {key}={value}"));
        Some(told.collect())
    }

    /// Turns a topology spread constraint into a wish: the one that is in the way, else all.
    fn spread_less(&mut self, question: &Question) -> Option<Vec<String>> {
        let hard = |pod: &Pod| -> Vec<usize> {
            let all = pod.spec.topology_spread.iter().enumerate();
            let hard = |c: &crate::api::affinity::TopologySpread| {
                c.when_unsatisfiable == WhenUnsatisfiable::DoNotSchedule
            };
            all.filter(|(_, c)| hard(c)).map(|(at, _)| at).collect()
        };
        let relaxed = |which: &[usize]| {
            let mut pod = self.pod.clone();
            let spec = Arc::make_mut(&mut pod.spec);
            for at in which {
                spec.topology_spread[*at].when_unsatisfiable = WhenUnsatisfiable::ScheduleAnyway;
            }
            pod
        };
        let helps = |which: &[usize]| {
            let explanation = cycle(question, &Arc::new(relaxed(which)), &self.view);
            explanation.is_ok_and(|e| {
                let refused = e.rejected.iter().find(|(name, _)| *name == self.node);
                refused.is_none_or(|(_, r)| r.plugin != PluginName::PodTopologySpread.name())
            })
        };
        let all = hard(&self.pod);
        let each = all.iter().map(|at| vec![*at]);
        let which = each.chain([all.clone()]).find(|which| helps(which))?;
        if which.is_empty() {
            return None;
        }
        let told = which.iter().map(|at| {
            let key = &self.pod.spec.topology_spread[*at].topology_key;
            format!("whenUnsatisfiable: ScheduleAnyway for the spread over {key}")
        });
        let told = told.collect();
        self.pod = relaxed(&which);
        Some(told)
    }

    fn drop_affinity(&mut self, reasons: &[String]) -> Option<Vec<String>> {
        let spec = Arc::make_mut(&mut self.pod.spec);
        let affinity = Arc::make_mut(spec.affinity.as_mut()?);
        let reason = reasons.first()?;
        if reason.contains("existing pods") {
            return None;
        }
        let (terms, word) = match reason.contains("anti-affinity") {
            true => (&mut affinity.anti_required, "podAntiAffinity"),
            false => (&mut affinity.pod_required, "podAffinity"),
        };
        if terms.is_empty() {
            return None;
        }
        terms.clear();
        Some(vec![format!("prefer the {word} instead of requiring it")])
    }
}
