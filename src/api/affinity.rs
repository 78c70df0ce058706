//! Node affinity, pod affinity, tolerations, taints and topology spread, as data.

use super::selector::{LabelSelector, Operator, Requirement};
use super::{Labels, Text};

/// `spec.affinity`, flattened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Affinity {
    /// Node affinity that must hold; `None` when not given (an empty list matches no node).
    pub node_required: Option<Vec<NodeSelectorTerm>>,
    /// Node affinity that scores.
    pub node_preferred: Vec<(i32, NodeSelectorTerm)>,
    /// Pod affinity that must hold.
    pub pod_required: Vec<PodAffinityTerm>,
    /// Pod affinity that scores.
    pub pod_preferred: Vec<(i32, PodAffinityTerm)>,
    /// Pod anti-affinity that must hold.
    pub anti_required: Vec<PodAffinityTerm>,
    /// Pod anti-affinity that scores.
    pub anti_preferred: Vec<(i32, PodAffinityTerm)>,
}

/// One term of a node selector: all expressions and fields must match; an empty term matches none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeSelectorTerm {
    /// On labels.
    pub expressions: Vec<Requirement>,
    /// On fields (`metadata.name` only).
    pub fields: Vec<Requirement>,
}

/// `nodeSelectorTerm.match`; `name` is `None` where there is no node name to compare with (the node
/// affinity of volumes looks at labels alone).
pub fn term_matches(term: &NodeSelectorTerm, labels: &Labels, name: Option<&Text>) -> bool {
    if term.expressions.is_empty() && term.fields.is_empty() {
        return false;
    }
    term.expressions.iter().all(|r| r.matches(labels))
        && term.fields.iter().all(|r| field_matches(r, name))
}

/// Field selectors know one field, two operators and one value; anything else is a parse error,
/// which matches no node.
fn field_matches(r: &Requirement, name: Option<&Text>) -> bool {
    let [value] = r.values.as_slice() else {
        return false;
    };
    let Some(name) = name else {
        return true;
    };
    let equal = r.key == "metadata.name" && value == name;
    match r.operator {
        Operator::In => equal,
        Operator::NotIn => !equal,
        _ => false,
    }
}

/// Whether any term of a node selector matches these labels.
pub fn any_term(terms: &[NodeSelectorTerm], labels: &Labels, name: Option<&Text>) -> bool {
    terms.iter().any(|t| term_matches(t, labels, name))
}

/// One term of pod affinity or anti-affinity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PodAffinityTerm {
    /// Which pods; [`LabelSelector::nothing`] when absent.
    pub selector: LabelSelector,
    /// Namespaces by name; empty together with a nil `namespace_selector` means the pod's own.
    pub namespaces: Vec<Text>,
    /// Namespaces by label.
    pub namespace_selector: Option<LabelSelector>,
    /// Node label whose equal values make one domain.
    pub topology_key: Text,
    /// Keys whose values are taken from the incoming pod (merged into `selector` at admission).
    pub match_label_keys: Vec<Text>,
    /// As `match_label_keys`, negated.
    pub mismatch_label_keys: Vec<Text>,
}

/// `whenUnsatisfiable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WhenUnsatisfiable {
    /// A filter.
    DoNotSchedule,
    /// A score.
    ScheduleAnyway,
}

/// `nodeAffinityPolicy` and `nodeTaintsPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InclusionPolicy {
    /// Nodes that the pod cannot use are left out of the count.
    Honor,
    /// All nodes are counted.
    Ignore,
}

/// One of `spec.topologySpreadConstraints`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopologySpread {
    /// Largest allowed difference.
    pub max_skew: i32,
    /// Node label whose equal values make one domain.
    pub topology_key: Text,
    /// Filter or score.
    pub when_unsatisfiable: WhenUnsatisfiable,
    /// Which pods are counted; [`LabelSelector::nothing`] when absent.
    pub selector: LabelSelector,
    /// Domains needed before the global minimum counts as anything but 0.
    pub min_domains: Option<i32>,
    /// Default Honor.
    pub node_affinity_policy: InclusionPolicy,
    /// Default Ignore.
    pub node_taints_policy: InclusionPolicy,
    /// Keys whose values are taken from the incoming pod.
    pub match_label_keys: Vec<Text>,
}

/// `effect` of a taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaintEffect {
    /// New pods stay away.
    NoSchedule,
    /// New pods prefer other nodes.
    PreferNoSchedule,
    /// Running pods leave.
    NoExecute,
}

impl TaintEffect {
    /// As in manifests.
    pub fn name(self) -> &'static str {
        match self {
            TaintEffect::NoSchedule => "NoSchedule",
            TaintEffect::PreferNoSchedule => "PreferNoSchedule",
            TaintEffect::NoExecute => "NoExecute",
        }
    }
}

/// One of a node's `spec.taints`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Taint {
    /// Key.
    pub key: Text,
    /// Value, empty when none.
    pub value: Text,
    /// Effect.
    pub effect: TaintEffect,
    /// When a NoExecute taint was added, if known.
    pub added: Option<crate::engine::Time>,
}

/// One of a pod's `spec.tolerations`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Toleration {
    /// Key; empty with `Exists` tolerates every key.
    pub key: Text,
    /// How `value` is compared.
    pub operator: TolerationOperator,
    /// Value for `Equal`.
    pub value: Text,
    /// `None` tolerates all effects.
    pub effect: Option<TaintEffect>,
    /// For NoExecute: how long the pod stays, in seconds; `None` is for ever.
    pub seconds: Option<i64>,
}

/// `operator` of a toleration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TolerationOperator {
    /// Key and value are equal.
    Equal,
    /// The key is there.
    Exists,
    /// Integer comparison (feature gate, 1.35+).
    Lt,
    /// Integer comparison (feature gate, 1.35+).
    Gt,
}

impl Toleration {
    /// `v1.Toleration.ToleratesTaint`, `staging/src/k8s.io/component-helpers` and api/core/v1.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        if self.effect.is_some_and(|e| e != taint.effect) {
            return false;
        }
        if !self.key.is_empty() && self.key != taint.key {
            return false;
        }
        match self.operator {
            TolerationOperator::Equal => self.value == taint.value,
            TolerationOperator::Exists => true,
            TolerationOperator::Lt | TolerationOperator::Gt => {
                let (Ok(mine), Ok(theirs)) =
                    (self.value.parse::<i64>(), taint.value.parse::<i64>())
                else {
                    return false;
                };
                match self.operator {
                    TolerationOperator::Lt => theirs < mine,
                    _ => theirs > mine,
                }
            }
        }
    }
}
