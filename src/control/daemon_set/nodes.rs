//! Which nodes a DaemonSet's pods belong on, and which are there.
//!
//! `pkg/controller/daemon/daemon_controller.go :: NodeShouldRunDaemonPod` and
//! `pkg/controller/daemon/util/daemonset_util.go`. The scheduler binds these pods, too; what ties a
//! pod to its node is a required affinity to the node's name.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::affinity::{
    Affinity, NodeSelectorTerm, Taint, TaintEffect, Toleration, TolerationOperator, any_term,
};
use crate::api::meta::recorded;
use crate::api::selector::{Operator, Requirement};
use crate::api::{DaemonSet, Node, Pod, PodSpec, Text};
use crate::store::Id;

/// `extensions.DaemonSetTemplateGenerationKey`.
pub const GENERATION_LABEL: &str = "pod-template-generation";
/// `apps.DeprecatedTemplateGeneration`.
pub const GENERATION_ANNOTATION: &str = "deprecated.daemonset.template.generation";

/// `AddOrUpdateDaemonPodTolerations`: what a daemon's pod tolerates besides what its template says.
pub fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let mut all = spec.tolerations.clone();
    let taints = [
        ("not-ready", TaintEffect::NoExecute),
        ("unreachable", TaintEffect::NoExecute),
        ("disk-pressure", TaintEffect::NoSchedule),
        ("memory-pressure", TaintEffect::NoSchedule),
        ("pid-pressure", TaintEffect::NoSchedule),
        ("unschedulable", TaintEffect::NoSchedule),
        ("network-unavailable", TaintEffect::NoSchedule),
    ];
    let used = if spec.host_network { 7 } else { 6 };
    for (name, effect) in &taints[..used] {
        let new = Toleration {
            key: Text::from(format!("node.kubernetes.io/{name}")),
            operator: TolerationOperator::Exists,
            value: Text::default(),
            effect: Some(*effect),
            seconds: None,
        };
        // MatchToleration
        let same = |t: &&mut Toleration| {
            t.key == new.key
                && t.effect == new.effect
                && t.operator == new.operator
                && t.value.is_empty()
        };
        match all.iter_mut().find(same) {
            Some(old) => *old = new,
            None => all.push(new),
        }
    }
    all
}

/// `ReplaceDaemonSetPodNodeNameNodeAffinity`.
pub fn tied_to(affinity: Option<&Arc<Affinity>>, node: &Text) -> Arc<Affinity> {
    let mut affinity = affinity.map_or_else(Affinity::default, |a| Affinity::clone(a));
    affinity.node_required = Some(vec![NodeSelectorTerm {
        expressions: Vec::new(),
        fields: vec![Requirement {
            key: "metadata.name".into(),
            operator: Operator::In,
            values: vec![node.clone()],
        }],
    }]);
    Arc::new(affinity)
}

/// `GetTargetNodeName`: the node that a pod is on or is tied to.
pub fn target(pod: &Pod) -> Option<&Text> {
    if let Some(node) = &pod.node_name {
        return Some(node);
    }
    let terms = pod.spec.affinity.as_ref()?.node_required.as_ref()?;
    let mut fields = terms.iter().flat_map(|term| &term.fields);
    let by_name = |r: &&Requirement| r.key == "metadata.name" && r.operator == Operator::In;
    match fields.find(by_name)?.values.as_slice() {
        [node] => Some(node),
        _ => None,
    }
}

/// Judges nodes for one DaemonSet.
pub struct Judge<'a> {
    set: &'a DaemonSet,
    tolerations: Vec<Toleration>,
}

impl<'a> Judge<'a> {
    /// For this set.
    pub fn new(set: &'a DaemonSet) -> Self {
        Judge {
            set,
            tolerations: tolerations(&set.template.spec),
        }
    }

    /// Whether a pod should be made for the node, and whether one that is there may stay.
    pub fn should_run(&self, node: &Node) -> (bool, bool) {
        let spec = &self.set.template.spec;
        let labels = &node.meta.labels;
        let named = spec.node_name.is_empty() || spec.node_name == node.meta.name;
        let mut wanted = spec.node_selector.iter();
        let selected = wanted.all(|(k, v)| labels.get(k) == Some(v));
        let required = spec
            .affinity
            .as_ref()
            .and_then(|a| a.node_required.as_ref());
        let fits = required.is_none_or(|terms| any_term(terms, labels, Some(&node.meta.name)));
        if !named || !selected || !fits {
            return (false, false);
        }
        let untolerated = |t: &&Taint| !self.tolerations.iter().any(|own| own.tolerates(t));
        let mut repels = node.taints.iter().filter(untolerated);
        let mut repelled = false;
        if repels.any(|t| {
            repelled |= t.effect == TaintEffect::NoSchedule;
            t.effect == TaintEffect::NoExecute
        }) {
            return (false, false);
        }
        (!repelled, true)
    }
}

/// The pods of a set by the node that they are on or tied to.
pub type ByNode<'a> = BTreeMap<&'a Text, Vec<(Id<Pod>, &'a Arc<Pod>)>>;

/// `getNodesToDaemonPods`: without pods that have ended and are being deleted, unless `ended`.
pub fn by_node<'a>(all: &'a [(Id<Pod>, Arc<Pod>)], ended: bool) -> ByNode<'a> {
    let mut nodes = ByNode::new();
    for (id, pod) in all {
        if !ended && pod.status.phase.terminal() && pod.meta.deleting() {
            continue;
        }
        if let Some(node) = target(pod) {
            nodes.entry(node).or_default().push((*id, pod));
        }
    }
    nodes
}

/// `podByCreationTimestampAndPhase`: bound pods first, then the oldest.
pub fn by_age(a: &Pod, b: &Pod) -> Ordering {
    let key = |p: &Pod| (p.node_name.is_none(), recorded(p.meta.created));
    key(a)
        .cmp(&key(b))
        .then_with(|| a.meta.name.cmp(&b.meta.name))
}

/// `GetTemplateGeneration`.
pub fn template_generation(set: &DaemonSet) -> Option<i64> {
    set.meta
        .annotations
        .get(GENERATION_ANNOTATION)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Labels, Meta};

    fn node(labels: &str, taints: &str) -> Node {
        let pairs = labels.split_whitespace().filter_map(|l| l.split_once('='));
        let taints = taints.split_whitespace().map(|text| {
            let (key, effect) = text.split_once(':').unwrap();
            Taint {
                key: key.into(),
                value: Text::default(),
                effect: match effect {
                    "NoSchedule" => TaintEffect::NoSchedule,
                    "NoExecute" => TaintEffect::NoExecute,
                    _ => TaintEffect::PreferNoSchedule,
                },
                added: None,
            }
        });
        Node {
            meta: Meta {
                name: "n1".into(),
                labels: pairs.collect(),
                ..Meta::default()
            },
            taints: taints.collect(),
            ..Node::default()
        }
    }

    fn set(change: impl Fn(&mut PodSpec)) -> DaemonSet {
        let mut set = DaemonSet::default();
        let mut spec = PodSpec::default();
        change(&mut spec);
        Arc::make_mut(&mut set.template).spec = Arc::new(spec);
        set
    }

    /// After `daemon_controller_test.go :: TestNodeShouldRunDaemonPod`.
    #[test]
    fn a_node_gets_a_pod_keeps_one_or_neither() {
        let plain = set(|_| {});
        let host = set(|spec| spec.host_network = true);
        let elsewhere = set(|spec| spec.node_name = "n2".into());
        let disks = set(|spec| spec.node_selector = Labels::from_iter([("disk", "ssd")]));
        let tied = set(|spec| spec.affinity = Some(tied_to(None, &"n2".into())));
        let table = [
            (&plain, "", "", (true, true)),
            (&plain, "", "a:PreferNoSchedule", (true, true)),
            (&plain, "", "a:NoSchedule", (false, true)),
            (&plain, "", "a:NoExecute", (false, false)),
            (&plain, "", "a:NoSchedule b:NoExecute", (false, false)),
            // what every daemon tolerates
            (
                &plain,
                "",
                "node.kubernetes.io/unreachable:NoExecute \
                 node.kubernetes.io/unschedulable:NoSchedule \
                 node.kubernetes.io/memory-pressure:NoSchedule",
                (true, true),
            ),
            (
                &plain,
                "",
                "node.kubernetes.io/unreachable:NoSchedule",
                (false, true),
            ),
            (
                &plain,
                "",
                "node.kubernetes.io/network-unavailable:NoSchedule",
                (false, true),
            ),
            (
                &host,
                "",
                "node.kubernetes.io/network-unavailable:NoSchedule",
                (true, true),
            ),
            (&elsewhere, "", "", (false, false)),
            (&disks, "", "", (false, false)),
            (&disks, "disk=ssd", "", (true, true)),
            (&disks, "disk=hdd", "", (false, false)),
            (&tied, "", "", (false, false)),
        ];
        for (set, labels, taints, expected) in table {
            let got = Judge::new(set).should_run(&node(labels, taints));
            assert_eq!(got, expected, "{labels} {taints}");
        }
    }

    #[test]
    fn a_pod_is_tied_to_its_node_before_it_is_bound() {
        let mut pod = Pod::default();
        assert_eq!(target(&pod), None);
        let spec = PodSpec {
            affinity: Some(tied_to(None, &"n7".into())),
            ..PodSpec::default()
        };
        pod.spec = Arc::new(spec);
        assert_eq!(target(&pod), Some(&"n7".into()));
        pod.node_name = Some("n8".into());
        assert_eq!(target(&pod), Some(&"n8".into()));
    }
}
