//! Admission: whether the node takes a pod that was bound to it.
//!
//! `pkg/kubelet/lifecycle/predicate.go :: Admit` with `pkg/scheduler/eventhandlers.go ::
//! AdmissionCheck` behind it, and the eviction manager's own check. The scheduler decides on an
//! older view and cannot see pods that were bound around it; the kubelet has the last word.
//! Critical pods do not make room for themselves by preempting others here.

use super::qos::QosClass;
use crate::api::affinity::{NodeSelectorTerm, Taint, TaintEffect};
use crate::api::quantity::Resources;
use crate::api::selector::{Operator, Requirement};
use crate::api::{Labels, Node, Pod, Text};

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

/// Whether `pod` may join the `others`, which are active on `node`.
pub(super) fn admit(
    pod: &Pod,
    node: &Node,
    others: &[&Pod],
    memory_pressure: bool,
) -> Result<(), Rejection> {
    if memory_pressure && !bears_memory_pressure(pod) {
        let message = "The node had condition: [MemoryPressure]. ".to_owned();
        return Err(rejection("Evicted", message));
    }
    fits(pod, node, others)?;
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

/// `kubelettypes.IsCriticalPod`: of a system priority class.
pub(super) fn critical(pod: &Pod) -> bool {
    pod.spec.priority >= 2_000_000_000
}

fn bears_memory_pressure(pod: &Pod) -> bool {
    let taint = Taint {
        key: "node.kubernetes.io/memory-pressure".into(),
        value: Text::default(),
        effect: TaintEffect::NoSchedule,
        added: None,
    };
    critical(pod)
        || QosClass::of(&pod.spec) != QosClass::BestEffort
        || pod.spec.tolerations.iter().any(|t| t.tolerates(&taint))
}

/// `noderesources.Fits`; extended resources that the node does not have are not its business.
fn fits(pod: &Pod, node: &Node, others: &[&Pod]) -> Result<(), Rejection> {
    let room = &node.status.allocatable;
    let mut used = Resources::default();
    for other in others {
        used.add(&other.spec.requests);
    }
    let lacking = |reason: String, name: &str, wanted: i64, used: i64, room: i64| {
        let message = format!(
            "Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, \
             capacity: {room}"
        );
        Err(rejection(reason, message))
    };
    let pods = i64::try_from(others.len()).unwrap_or(i64::MAX);
    if pods + 1 > room.pods {
        return lacking("OutOfpods".into(), "pods", 1, pods, room.pods);
    }
    let want = &pod.spec.requests;
    let plain = [
        ("cpu", want.cpu_milli, used.cpu_milli, room.cpu_milli),
        ("memory", want.memory, used.memory, room.memory),
        (
            "ephemeral-storage",
            want.ephemeral,
            used.ephemeral,
            room.ephemeral,
        ),
    ];
    for (name, want, used, room) in plain {
        if want > 0 && want > room - used {
            return lacking(format!("OutOf{name}"), name, want, used, room);
        }
    }
    for (name, want) in &want.extended {
        let Some((_, room)) = room.extended.iter().find(|(n, _)| n == name) else {
            continue;
        };
        let used = used.extended(name);
        if *want > 0 && *want > room - used {
            return lacking(format!("OutOf{name}"), name, *want, used, *room);
        }
    }
    Ok(())
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
