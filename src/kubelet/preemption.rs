//! Critical pods make room for themselves when the node has none.
//!
//! `pkg/kubelet/preemption/preemption.go`: of a pod of a system priority class that lacks nothing but
//! resources, the kubelet kills as few and as small other pods as it can, those of the lowest class
//! of service first.
//!
//! Upstream's sync loop stands still until the victims are dead. Here only the critical pod waits.

use super::admission::{Lacking, critical};
use super::agent::Kubelet;
use super::host::Cx;
use super::pod_worker::{End, Ending, PodWorker, Work};
use super::qos::QosClass;
use crate::api::Pod;
use crate::store::Id;

/// `preemption.go :: message`.
const MESSAGE: &str = "Preempted in order to admit critical pod";
const DISRUPTION: &str = "Pod was preempted by Kubelet to accommodate a critical pod.";

/// What is still missing of each resource, in its own unit.
type Requirements = Vec<(String, i64)>;

/// `getPodsToPreempt`: places in `pods`, or why there are none.
///
/// # Errors
/// No set of pods frees what is lacking; upstream's words.
pub(super) fn victims(
    preemptor: &Pod,
    pods: &[&Pod],
    lacking: &[Lacking],
) -> Result<Vec<usize>, String> {
    let wanted: Requirements = lacking
        .iter()
        .map(|l| (l.name.clone(), l.requested - (l.capacity - l.used)))
        .collect();
    let of = |class: QosClass| -> Vec<usize> {
        let takes = |at: &usize| {
            preemptable(preemptor, pods[*at]) && QosClass::of(&pods[*at].spec) == class
        };
        (0..pods.len()).filter(takes).collect()
    };
    let [best_effort, burstable, guaranteed] = [
        QosClass::BestEffort,
        QosClass::Burstable,
        QosClass::Guaranteed,
    ]
    .map(of);
    let all = [&best_effort[..], &burstable[..], &guaranteed[..]].concat();
    let missing = subtract(&wanted, pods, &all);
    if !missing.is_empty() {
        return Err(nobody(&missing));
    }
    let lower = [&best_effort[..], &burstable[..]].concat();
    let guaranteed = nearest(pods, guaranteed, subtract(&wanted, pods, &lower))?;
    let others = [&best_effort[..], &guaranteed[..]].concat();
    let burstable = nearest(pods, burstable, subtract(&wanted, pods, &others))?;
    let others = [&burstable[..], &guaranteed[..]].concat();
    let best_effort = nearest(pods, best_effort, subtract(&wanted, pods, &others))?;
    Ok([best_effort, burstable, guaranteed].concat())
}

/// `kubelettypes.Preemptable`.
fn preemptable(preemptor: &Pod, other: &Pod) -> bool {
    critical(preemptor) && !critical(other) || preemptor.spec.priority > other.spec.priority
}

/// `getPodsToPreemptByDistance`: the pod that comes nearest to what is wanted, again and again.
fn nearest(
    pods: &[&Pod],
    mut from: Vec<usize>,
    mut wanted: Requirements,
) -> Result<Vec<usize>, String> {
    let mut chosen = Vec::new();
    while !wanted.is_empty() {
        if from.is_empty() {
            return Err(nobody(&wanted));
        }
        let mut best = (wanted.len() as f64 + 1.0, 0);
        for (at, pod) in from.iter().enumerate() {
            let distance = distance(&wanted, pods[*pod]);
            let smaller = || smaller_request(pods[*pod], pods[from[best.1]]);
            if distance < best.0 || distance == best.0 && smaller() {
                best = (distance, at);
            }
        }
        let pod = from.swap_remove(best.1);
        wanted = subtract(&wanted, pods, &[pod]);
        chosen.push(pod);
    }
    Ok(chosen)
}

/// `GetResourceRequest`.
fn request(pod: &Pod, name: &str) -> i64 {
    let requests = &pod.spec.requests;
    match name {
        "pods" => 1,
        "cpu" => requests.cpu_milli,
        "memory" => requests.memory,
        "ephemeral-storage" => requests.ephemeral,
        name => requests.extended(name),
    }
}

fn distance(wanted: &Requirements, pod: &Pod) -> f64 {
    let parts = wanted.iter().map(|(name, amount)| {
        let left = (amount - request(pod, name)) as f64;
        let share = left.max(0.0) / *amount as f64;
        share * share
    });
    parts.sum()
}

fn subtract(wanted: &Requirements, pods: &[&Pod], these: &[usize]) -> Requirements {
    let left = wanted.iter().map(|(name, amount)| {
        let freed: i64 = these.iter().map(|at| request(pods[*at], name)).sum();
        (name.clone(), amount - freed)
    });
    left.filter(|(_, amount)| *amount > 0).collect()
}

/// `smallerResourceRequest`.
fn smaller_request(pod: &Pod, other: &Pod) -> bool {
    let of = |pod: &Pod| (pod.spec.requests.memory, pod.spec.requests.cpu_milli);
    of(pod) <= of(other)
}

fn nobody(missing: &Requirements) -> String {
    let mut list = String::new();
    for (name, amount) in missing {
        list += &format!("(res: {name}, q: {amount}), ");
    }
    format!("no set of running pods found to reclaim resources: [{list}]")
}

impl Kubelet {
    /// `evictPodsToFreeRequests`: kills the victims, and has the pod wait for their end.
    pub(super) fn make_room(&mut self, pod: &mut PodWorker, gone: Vec<Id<Pod>>, cx: &mut Cx<'_>) {
        for victim in &gone {
            self.with(*victim, cx, |pod, host, cx| {
                pod.tell(host, cx, true, "Preempting", MESSAGE.to_owned());
                let ending = Ending {
                    reason: "Preempting",
                    message: MESSAGE.to_owned(),
                    disruption: Some(DISRUPTION.to_owned()),
                    keeps_success: false,
                };
                let end = End {
                    grace_s: None,
                    ending: Some(ending),
                };
                pod.update(host, cx, Some(end));
            });
        }
        pod.waits_for = gone.into_boxed_slice();
        self.host.waiting += 1;
    }

    /// Critical pods whose victims are dead begin.
    pub(super) fn let_in(&mut self, cx: &mut Cx<'_>) {
        if self.host.waiting == 0 {
            return;
        }
        let waiting = self.pods.values().filter(|pod| !pod.waits_for.is_empty());
        let over = waiting.filter(|pod| {
            let mut victims = pod.waits_for.iter();
            victims.all(|v| self.pods.get(v).is_none_or(|v| v.work >= Work::Terminated))
        });
        let over: Vec<Id<Pod>> = over.map(|pod| pod.id).collect();
        for pod in over {
            self.with(pod, cx, |pod, host, cx| {
                host.waiting -= 1;
                pod.waits_for = Box::default();
                pod.update(host, cx, None);
            });
        }
    }
}

#[cfg(test)]
mod tests;
