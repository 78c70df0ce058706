//! How long to wait before a failed pod is replaced.
//!
//! A port of `pkg/controller/job/backoff_utils.go`: 10 s after the first failure since the last
//! success, twice as long after each one more, at most 10 minutes.

use std::time::Duration;

use crate::api::Pod;
use crate::api::meta::recorded;
use crate::api::pod_status::{ContainerState, ContainerStatus, PodConditionKind, Truth};
use crate::engine::Time;

/// `DefaultJobPodFailureBackOff`.
const FIRST: Duration = Duration::from_secs(10);
/// `MaxJobPodFailureBackOff`.
const LONGEST: Duration = Duration::from_secs(600);

/// Failures of a Job since its last success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackOff {
    failures: i32,
    last: Time,
}

impl BackOff {
    /// `newBackoffRecord`: with pods that were found to have ended since.
    #[must_use]
    pub fn after<'a>(
        self,
        succeeded: impl Iterator<Item = &'a Pod>,
        failed: impl Iterator<Item = &'a Pod>,
    ) -> BackOff {
        let success = succeeded.map(finished).max();
        let mut failures: Vec<Time> = failed.map(finished).collect();
        let before = match success {
            // Only failures after the last success count.
            Some(success) => {
                failures.retain(|at| *at > success);
                BackOff::default()
            }
            None => self,
        };
        match failures.iter().max() {
            Some(last) => BackOff {
                failures: before.failures + i32::try_from(failures.len()).unwrap_or(i32::MAX),
                last: *last,
            },
            None => before,
        }
    }

    /// `getRemainingTime`.
    pub fn remaining(self, now: Time) -> Duration {
        remaining(self.failures, self.last, now)
    }
}

/// `getRemainingTimeForFailuresCount`.
pub fn remaining(failures: i32, last: Time, now: Time) -> Duration {
    if failures <= 0 {
        return Duration::ZERO;
    }
    let doublings = u32::try_from(failures - 1).unwrap_or(0).min(10);
    let wait = (FIRST * 2_u32.pow(doublings)).min(LONGEST);
    wait.saturating_sub(now.since(last))
}

/// When a pod ended (`getFinishedTime`): the last end of its containers, else since when it is not
/// ready, else when its deletion was asked for, else its creation. In whole seconds, as recorded.
pub fn finished(pod: &Pod) -> Time {
    let status = &pod.status;
    if let Some(at) = containers_finished(pod) {
        return at;
    }
    let ready = status.condition(&PodConditionKind::Ready);
    if let Some(ready) = ready.filter(|ready| ready.status == Truth::False) {
        return recorded(ready.since);
    }
    match pod.meta.deletion {
        Some(deletion) => {
            let grace = Time::from_secs(deletion.grace_s.into());
            Time::ZERO + recorded(deletion.at).since(grace)
        }
        None => recorded(pod.meta.created),
    }
}

/// `getFinishTimeFromContainers`: of ordinary containers when all have ended, unless sidecars have,
/// which end later.
fn containers_finished(pod: &Pod) -> Option<Time> {
    let sidecar = |status: &&ContainerStatus| {
        let mut all = pod.spec.init_containers.iter();
        all.any(|c| c.restart_always && c.name == status.name)
    };
    let containers = latest(None, pod.status.containers.iter());
    latest(
        containers,
        pod.status.init_containers.iter().filter(sidecar),
    )
}

/// `latestFinishTime`: nothing when one of them has not ended.
fn latest<'a>(
    before: Option<Time>,
    statuses: impl Iterator<Item = &'a ContainerStatus>,
) -> Option<Time> {
    let mut latest = before;
    for status in statuses {
        let ContainerState::Terminated(end) = &status.state else {
            return None;
        };
        latest = latest.max(Some(recorded(end.finished)));
    }
    latest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::pod_status::Terminated;

    fn ended(at_s: u64) -> Pod {
        let mut pod = Pod::default();
        let end = Terminated {
            finished: Time::from_secs(at_s),
            ..Terminated::default()
        };
        pod.status.containers.push(ContainerStatus {
            state: ContainerState::Terminated(end),
            ..ContainerStatus::default()
        });
        pod
    }

    /// `backoff_utils_test.go :: TestNewBackoffRecord` and `TestGetRemainingBackoffTime`.
    #[test]
    fn failures_after_the_last_success_double_the_wait() {
        // failures before, ends of successes, ends of failures, wait at second 100
        let table: [(i32, &[u64], &[u64], u64); 8] = [
            (0, &[], &[], 0),
            // 10 s from 95
            (0, &[], &[95], 5),
            // 20 s from 95
            (0, &[], &[90, 95], 15),
            // 40 s from 95, whatever the order
            (1, &[], &[95, 90], 35),
            // the success at 92 forgives what was before
            (3, &[92], &[90, 95], 5),
            (3, &[97], &[90, 95], 0),
            (3, &[97], &[], 0),
            // 10 · 2^7 is more than 600 s
            (7, &[], &[100], 600),
        ];
        for (failures, succeeded, failed, expected) in table {
            let before = BackOff {
                failures,
                last: Time::ZERO,
            };
            let pods = |ends: &[u64]| ends.iter().map(|at| ended(*at)).collect::<Vec<_>>();
            let (succeeded, failed) = (pods(succeeded), pods(failed));
            let after = before.after(succeeded.iter(), failed.iter());
            let wait = after.remaining(Time::from_secs(100));
            assert_eq!(wait.as_secs(), expected, "{failures} {failed:?}");
        }
    }
}
