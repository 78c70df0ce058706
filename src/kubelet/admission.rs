//! Admission: whether the node takes a pod that was bound to it.
//!
//! `pkg/kubelet/lifecycle/predicate.go :: Admit` with `pkg/scheduler/eventhandlers.go ::
//! AdmissionCheck` behind it, and the eviction manager's own check. The scheduler decides on an
//! older view and cannot see pods that were bound around it; the kubelet has the last word.

use super::eviction::Pressure;
use super::health::Health;
use super::qos::QosClass;
use crate::api::affinity::{NodeSelectorTerm, Taint, TaintEffect};
use crate::api::quantity::Resources;
use crate::api::selector::{Operator, Requirement};
use crate::api::{Labels, Node, Pod, Text, declared};

/// Why a pod was not admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) reason: Text,
    pub(super) message: String,
}

fn rejection(reason: impl Into<Text>, message: String) -> Rejection {
    Rejection {
        reason: reason.into(),
        message,
    }
}

/// A resource of which the node has too little left (`InsufficientResourceError`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lacking {
    pub(super) name: String,
    pub(super) requested: i64,
    pub(super) used: i64,
    pub(super) capacity: i64,
}

impl Lacking {
    fn rejection(&self) -> Rejection {
        let Lacking {
            name,
            requested,
            used,
            capacity,
        } = self;
        let message = format!(
            "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, \
             capacity: {capacity}"
        );
        rejection(format!("OutOf{name}"), message)
    }
}

/// Whether `pod` may join the `others`, which are active on `node`; a critical pod at the cost of
/// some of them, whose places are returned.
pub(super) fn admit(
    pod: &Pod,
    node: &Node,
    others: &[&Pod],
    health: &Health,
) -> Result<Vec<usize>, Rejection> {
    safe(pod, health)?;
    let lacking = lacking(pod, node, others);
    let other = predicates(pod, node, others).and_then(|()| supported(pod, node));
    // `HandleAdmissionFailure`: a critical pod cannot fail for want of resources.
    match (lacking.first(), critical(pod)) {
        (None, _) => other.map(|()| Vec::new()),
        (Some(first), false) => Err(first.rejection()),
        (Some(_), true) => {
            other?;
            super::preemption::victims(pod, others, &lacking).map_err(|why| {
                let message = format!(
                    "Unexpected error while attempting to recover from admission failure: \
                     preemption: error finding a set of pods to preempt: {why}"
                );
                rejection("UnexpectedAdmissionError", message)
            })
        }
    }
}

/// `eviction_manager.go :: Admit`, and that of `nodeshutdown_manager_linux.go`.
fn safe(pod: &Pod, health: &Health) -> Result<(), Rejection> {
    let pressures = &health.pressures;
    let only_memory = pressures.as_slice() == [Pressure::Memory];
    let bears = critical(pod) || only_memory && bears_memory_pressure(pod);
    if !pressures.is_empty() && !bears {
        let names: Vec<&str> = pressures.iter().map(|p| p.name()).collect();
        let message = format!("The node had condition: [{}]. ", names.join(" "));
        return Err(rejection("Evicted", message));
    }
    if health.shutting_down {
        let message = "Pod was rejected as the node is shutting down.".to_owned();
        return Err(rejection("NodeShutdown", message));
    }
    Ok(())
}

/// What is no matter of resources.
fn predicates(pod: &Pod, node: &Node, others: &[&Pod]) -> Result<(), Rejection> {
    let predicate = |name: &str, why: &str| {
        let message = format!("Predicate {name} failed: {why}");
        Err(rejection(name, message))
    };
    if !affinity_matches(pod, node) {
        let why = "node(s) didn't match Pod's node affinity/selector";
        return predicate("NodeAffinity", why);
    }
    if !ports_free(pod, others) {
        let why = "node(s) didn't have free ports for the requested pod ports";
        return predicate("NodePorts", why);
    }
    let refused = |taint: &&Taint| {
        taint.effect == TaintEffect::NoExecute
            && !pod.spec.tolerations.iter().any(|t| t.tolerates(taint))
    };
    if node.taints.iter().any(|taint| refused(&taint)) {
        let why = "node(s) had taints that the pod didn't tolerate";
        return predicate("TaintToleration", why);
    }
    Ok(())
}

/// `lifecycle/handlers.go :: declaredFeaturesAdmitHandler`.
fn supported(pod: &Pod, node: &Node) -> Result<(), Rejection> {
    let required = declared::required(&pod.spec);
    let missing: Vec<&str> = declared::missing(&required, node).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(", ");
    let message = format!("Pod requires node features that are not available: {missing}");
    Err(rejection("PodFeatureUnsupported", message))
}

/// `scheduling.SystemCriticalPriority`.
pub(super) const SYSTEM_CRITICAL: i32 = 2_000_000_000;

/// `kubelettypes.IsCriticalPod`: of a system priority class.
pub(super) fn critical(pod: &Pod) -> bool {
    pod.spec.priority >= SYSTEM_CRITICAL
}

fn bears_memory_pressure(pod: &Pod) -> bool {
    let taint = Taint {
        key: "node.kubernetes.io/memory-pressure".into(),
        value: Text::default(),
        effect: TaintEffect::NoSchedule,
        added: None,
    };
    QosClass::of(&pod.spec) != QosClass::BestEffort
        || pod.spec.tolerations.iter().any(|t| t.tolerates(&taint))
}

/// `noderesources.Fits`; extended resources that the node does not have are not its business.
fn lacking(pod: &Pod, node: &Node, others: &[&Pod]) -> Vec<Lacking> {
    let room = &node.status.allocatable;
    let mut used = Resources::default();
    for other in others {
        used.add(&other.spec.requests);
    }
    let mut all = Vec::new();
    let mut check = |name: &str, requested: i64, used: i64, capacity: i64| {
        if requested > 0 && requested > capacity - used {
            all.push(Lacking {
                name: name.to_owned(),
                requested,
                used,
                capacity,
            });
        }
    };
    let pods = i64::try_from(others.len()).unwrap_or(i64::MAX);
    let want = &pod.spec.requests;
    check("pods", 1, pods, room.pods);
    check("cpu", want.cpu_milli, used.cpu_milli, room.cpu_milli);
    check("memory", want.memory, used.memory, room.memory);
    check(
        "ephemeral-storage",
        want.ephemeral,
        used.ephemeral,
        room.ephemeral,
    );
    for (name, want) in &want.extended {
        if let Some((_, room)) = room.extended.iter().find(|(n, _)| n == name) {
            check(name, *want, used.extended(name), *room);
        }
    }
    all
}

/// `component-helpers/scheduling/corev1/nodeaffinity :: GetRequiredNodeAffinity(pod).Match`.
fn affinity_matches(pod: &Pod, node: &Node) -> bool {
    let labels = &node.meta.labels;
    let mut selector = pod.spec.node_selector.iter();
    if !selector.all(|(key, value)| labels.get(key) == Some(value)) {
        return false;
    }
    let affinity = pod.spec.affinity.as_ref();
    let Some(terms) = affinity.and_then(|a| a.node_required.as_ref()) else {
        return true;
    };
    terms.iter().any(|term| term_matches(term, node))
}

fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    if term.expressions.is_empty() && term.fields.is_empty() {
        return false;
    }
    let name: Labels = [("metadata.name", node.meta.name.clone())]
        .into_iter()
        .collect();
    let holds = |r: &Requirement, labels: &Labels| match r.operator {
        // A node selector's NotIn holds without the key, as a label selector's does.
        Operator::NotIn => !labels.get(&r.key).is_some_and(|v| r.values.contains(v)),
        _ => r.matches(labels),
    };
    term.expressions.iter().all(|r| holds(r, &node.meta.labels))
        && term.fields.iter().all(|r| holds(r, &name))
}

/// `nodeports.Fits`: no host port of the pod is taken.
fn ports_free(pod: &Pod, others: &[&Pod]) -> bool {
    let anywhere = |ip: &str| ip.is_empty() || ip == "0.0.0.0";
    let taken = |port: &crate::api::container::ContainerPort| {
        host_ports(others.iter().copied()).any(|other| {
            other.host_port == port.host_port
                && other.protocol == port.protocol
                && (anywhere(&other.host_ip)
                    || anywhere(&port.host_ip)
                    || other.host_ip == port.host_ip)
        })
    };
    !host_ports(std::iter::once(pod)).any(taken)
}

fn host_ports<'a>(
    pods: impl Iterator<Item = &'a Pod>,
) -> impl Iterator<Item = &'a crate::api::container::ContainerPort> {
    pods.flat_map(|pod| {
        let sidecars = pod.spec.init_containers.iter().filter(|c| c.restart_always);
        pod.spec.containers.iter().chain(sidecars)
    })
    .flat_map(|container| &container.ports)
    .filter(|port| port.host_port > 0)
}
