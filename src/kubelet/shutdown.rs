//! An orderly shutdown of the node: pods are ended in the order of their priority before the power
//! goes.
//!
//! `pkg/kubelet/nodeshutdown/nodeshutdown_manager.go`. Nothing of it happens unless the kubelet's
//! configuration gives it time (`shutdownGracePeriod`): the machine then goes down at once.

use std::collections::VecDeque;
use std::time::Duration;

use super::admission::SYSTEM_CRITICAL;
use super::agent::{Event, Kubelet};
use super::host::{Cx, Host};
use super::pod_worker::{End, Ending, Work};
use crate::api::Pod;
use crate::engine::Time;
use crate::store::Id;

/// `nodeShutdownReason`, `nodeShutdownMessage`.
const REASON: &str = "Terminated";
const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";
/// From the release of the inhibitor lock to the end of the kubelet and the network: systemd stops
/// the services, in which time the last statuses are sent.
const SERVICES_STOP: Duration = Duration::from_secs(1);

/// Seconds that pods from this priority on, up to the next entry's, have to end
/// (`ShutdownGracePeriodByPodPriority`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The lowest priority that it is for.
    pub priority: i32,
    /// In seconds.
    pub grace_s: u32,
}

/// `migrateConfig`: `shutdownGracePeriod` and the part of it that is for critical pods.
pub fn spans(all: Duration, critical: Duration) -> Vec<Span> {
    let Some(ordinary) = all.checked_sub(critical).filter(|_| !all.is_zero()) else {
        return Vec::new();
    };
    let seconds = |span: Duration| u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
    let span = |priority, span| Span {
        priority,
        grace_s: seconds(span),
    };
    vec![span(0, ordinary), span(SYSTEM_CRITICAL, critical)]
}

/// `groupByPriority`: each pod by the last span whose priority it reaches, or the first.
pub(super) fn groups<T: Copy>(spans: &[Span], pods: &[(i32, T)]) -> Vec<(u32, Vec<T>)> {
    let mut groups: Vec<(u32, Vec<T>)> = spans.iter().map(|s| (s.grace_s, Vec::new())).collect();
    for (priority, pod) in pods {
        let reached = spans
            .iter()
            .take_while(|span| span.priority <= *priority)
            .count();
        if let Some((_, group)) = groups.get_mut(reached.saturating_sub(1)) {
            group.push(*pod);
        }
    }
    groups.retain(|(_, group)| !group.is_empty());
    groups
}

/// A shutdown under way.
#[derive(Debug)]
pub(super) struct Shutdown {
    groups: VecDeque<(u32, Vec<Id<Pod>>)>,
    ending: Vec<Id<Pod>>,
    deadline: Time,
    /// When the machine may go down; [`Time::MAX`] while pods have time to end.
    over: Time,
    may_go: bool,
}

impl Host {
    /// `ShutdownStatus`.
    pub(super) fn shutting_down(&self) -> bool {
        self.shutdown.is_some()
    }
}

impl Kubelet {
    /// The machine is to go down. Returns whether the kubelet wants time for its pods; it says by
    /// [`Kubelet::may_go_down`] when it needs no more.
    pub fn shut_down(&mut self, cx: &mut Cx<'_>) -> bool {
        if !self.up || self.host.config.shutdown.is_empty() {
            return false;
        }
        if self.host.shutting_down() {
            return true;
        }
        let message = "Shutdown manager detected shutdown event".to_owned();
        self.host.tell_node(cx, false, "Shutdown", message);
        let pods: Vec<(i32, Id<Pod>)> = (self.active())
            .map(|pod| (pod.row.spec.priority, pod.id))
            .collect();
        self.host.shutdown = Some(Box::new(Shutdown {
            groups: groups(&self.host.config.shutdown, &pods).into(),
            ending: Vec::new(),
            deadline: cx.now,
            over: Time::MAX,
            may_go: false,
        }));
        self.host.report_now(cx);
        self.end_groups(cx);
        self.flush(cx);
        true
    }

    /// Whether a shutdown that the kubelet delayed may go on.
    pub fn may_go_down(&self) -> bool {
        self.host.shutdown.as_ref().is_some_and(|s| s.may_go)
    }

    /// `killPods`: a group after the other, each until its pods have ended or its time is over.
    pub(super) fn end_groups(&mut self, cx: &mut Cx<'_>) {
        loop {
            let Some(shutdown) = self.host.shutdown.as_deref_mut() else {
                return;
            };
            if shutdown.over < Time::MAX {
                shutdown.may_go = cx.now >= shutdown.over;
                return;
            }
            let ended = |pod: &Id<Pod>| {
                self.pods
                    .get(pod)
                    .is_none_or(|pod| pod.work >= Work::Terminated)
            };
            if !shutdown.ending.iter().all(ended) && cx.now < shutdown.deadline {
                return;
            }
            let Some((grace_s, pods)) = shutdown.groups.pop_front() else {
                shutdown.over = cx.now + SERVICES_STOP;
                cx.out.at(shutdown.over, Event::Shutdown);
                return;
            };
            shutdown.deadline = cx.now + Duration::from_secs(grace_s.into());
            shutdown.ending = pods.clone();
            cx.out.at(shutdown.deadline, Event::Shutdown);
            for pod in pods {
                self.with(pod, cx, |pod, host, cx| {
                    let ending = Ending {
                        reason: REASON,
                        message: MESSAGE.to_owned(),
                        disruption: Some(MESSAGE.to_owned()),
                        keeps_success: true,
                    };
                    let end = End {
                        grace_s: Some(pod.row.spec.grace_s.min(grace_s)),
                        ending: Some(ending),
                    };
                    pod.update(host, cx, Some(end));
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After `nodeshutdown_manager_test.go :: Test_groupByPriority` and `Test_migrateConfig`.
    #[test]
    fn pods_end_by_their_priority() {
        let by_priority: Vec<Span> = [(0, 10), (1_000, 20), (2_000_000_000, 30)]
            .map(|(priority, grace_s)| Span { priority, grace_s })
            .to_vec();
        let minute = |s: u64| Duration::from_secs(s);
        let table: [(Vec<Span>, &[i32], &str); 7] = [
            (
                by_priority.clone(),
                &[0, 999, 1_000, 1_001],
                "[(10, [0, 999]), (20, [1000, 1001])]",
            ),
            (
                by_priority.clone(),
                &[-5, 2_000_001_000],
                "[(10, [-5]), (30, [2000001000])]",
            ),
            (by_priority, &[], "[]"),
            (
                spans(minute(60), minute(20)),
                &[0, 5, 2_000_000_000],
                "[(40, [0, 5]), (20, [2000000000])]",
            ),
            (
                spans(minute(60), minute(0)),
                &[7, 2_000_000_000],
                "[(60, [7]), (0, [2000000000])]",
            ),
            // nothing is asked for, and more is for critical pods than there is
            (spans(minute(0), minute(0)), &[7], "[]"),
            (spans(minute(10), minute(20)), &[7], "[]"),
        ];
        for (spans, priorities, expected) in table {
            let pods: Vec<(i32, i32)> = priorities.iter().map(|p| (*p, *p)).collect();
            assert_eq!(
                format!("{:?}", groups(&spans, &pods)),
                expected,
                "{spans:?}"
            );
        }
    }
}
