//! The status manager: which status the API server should have, and when it is sent.
//!
//! `pkg/kubelet/status/status_manager.go`. A changed status is sent at once, one pod at a time;
//! every ten seconds those are sent again that failed, or that somebody else has changed. The last
//! status of a pod that is being deleted is followed by the deletion itself.

use std::sync::Arc;

use super::admission::Rejection;
use super::conditions::{self, not_ready_any_more};
use super::host::{Cx, Host, Topic};
use super::pod_status::{STATUS_UNKNOWN, lost};
use super::pod_worker::{Copy, PodWorker, Work};
use super::probes::{status_mut, status_of};
use super::record::whole_seconds;
use crate::api::container::Container;
use crate::api::pod::RestartPolicy;
use crate::api::pod_status::{
    ContainerState, ContainerStatus, Phase, PodCondition, PodConditionKind, PodStatus, Terminated,
    Truth,
};
use crate::api::{Pod, Shared};
use crate::engine::Time;
use crate::store::{Patch, Propagation, Write};

const LOST_AT_END: &str = "The container could not be located when the pod was terminated";

/// `PodConditionByKubelet`.
pub(super) fn by_kubelet(kind: &PodConditionKind) -> bool {
    !matches!(
        kind,
        PodConditionKind::Other(_) | PodConditionKind::DisruptionTarget
    )
}

/// `isPodStatusByKubeletEqual`: times of conditions, and conditions of others, do not count.
pub(super) fn same(a: &PodStatus, b: &PodStatus) -> bool {
    if std::ptr::eq(a, b) {
        return true;
    }
    a.phase == b.phase
        && same_conditions(&a.conditions, b)
        && a.reason == b.reason
        && a.message == b.message
        && a.start_time == b.start_time
        && a.ip == b.ip
        && a.containers == b.containers
        && a.init_containers == b.init_containers
        && a.observed_generation == b.observed_generation
}

fn alike(a: &PodCondition, b: &PodCondition) -> bool {
    a.status == b.status && a.reason == b.reason && a.message == b.message
}

fn same_conditions(a: &[PodCondition], b: &PodStatus) -> bool {
    let told = |c: &&PodCondition| !matches!(c.kind, PodConditionKind::Other(_));
    // Nearly always they stand in the same order.
    let (mut left, mut right) = (a.iter().filter(told), b.conditions.iter().filter(told));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(c), Some(d)) if c.kind == d.kind => {
                if !alike(c, d) {
                    return false;
                }
            }
            (Some(_), Some(_)) => break,
            _ => return false,
        }
    }
    a.iter()
        .filter(told)
        .all(|c| b.condition(&c.kind).is_some_and(|d| alike(c, d)))
        && a.iter().filter(told).count() == b.conditions.iter().filter(told).count()
}

/// `checkContainerStateTransition`: whether a container that has ended for good would come back.
fn comes_back(pod: &Pod, old: &PodStatus, new: &PodStatus) -> bool {
    let policy = pod.spec.restart_policy;
    let mut before = old.containers.iter().chain(&old.init_containers);
    if policy == RestartPolicy::Always || !before.any(|c| c.state.terminated()) {
        return false;
    }
    let back = |containers: &[Container], old: &[ContainerStatus], new: &[ContainerStatus]| {
        containers.iter().zip(old).zip(new).any(|((c, old), new)| {
            let ContainerState::Terminated(t) = &old.state else {
                return false;
            };
            let may = policy == RestartPolicy::OnFailure && t.exit_code != 0;
            !may && !c.restarts_after(t.exit_code, policy) && !new.state.terminated()
        })
    };
    let back = back(&pod.spec.containers, &old.containers, &new.containers)
        || back(
            &pod.spec.init_containers,
            &old.init_containers,
            &new.init_containers,
        );
    back && !conditions::could_restart_all(&pod.spec)
}

impl PodWorker {
    /// `rejectPod`.
    pub(super) fn reject(&mut self, host: &mut Host, cx: &mut Cx<'_>, why: Rejection) {
        self.rejected = true;
        self.tell(host, cx, true, why.reason.clone(), why.message.clone());
        let status = PodStatus {
            phase: Phase::Failed,
            reason: Some(why.reason),
            message: Some(format!("Pod was rejected: {}", why.message).into()),
            observed_generation: self.row.meta.generation,
            ..PodStatus::default()
        };
        self.set_status(host, cx, status, false, false);
    }

    /// `SetPodStatus` and `updateStatusInternal`.
    pub(super) fn set_status(
        &mut self,
        host: &mut Host,
        cx: &mut Cx<'_>,
        status: impl Into<Shared<PodStatus>>,
        force: bool,
        finished: bool,
    ) {
        let mut status = status.into();
        let old = self.status().unwrap_or(&self.row.status);
        if comes_back(&self.row, old, &status) {
            return;
        }
        let now = whole_seconds(cx.now);
        for (at, condition) in status.conditions.iter_mut().enumerate() {
            if matches!(condition.kind, PodConditionKind::Other(_)) {
                continue;
            }
            // Nearly always it stands in the same place.
            let same_place = old.conditions.get(at).filter(|c| c.kind == condition.kind);
            condition.since = match same_place.or_else(|| old.condition(&condition.kind)) {
                Some(old) if old.status == condition.status => old.since,
                _ => now,
            };
        }
        status.start_time = old.start_time.or(status.start_time).or(Some(now));
        status.observed_generation = status.observed_generation.max(old.observed_generation);
        let unchanged = self.status().is_some_and(|old| same(old, &status));
        self.finished |= finished;
        if unchanged && !force {
            return;
        }
        self.status = Copy::Own(status);
        self.version += 1;
        self.queue_status(host);
    }

    /// As [`PodWorker::set_status`] of the status with this condition; what is the kubelet's own is
    /// changed where it is.
    pub(super) fn set_condition(
        &mut self,
        host: &mut Host,
        cx: &mut Cx<'_>,
        mut condition: PodCondition,
    ) {
        let force = self.row.meta.deleting();
        let own = match &mut self.status {
            Copy::Own(own) if own.start_time.is_some() => own,
            _ => {
                let mut status = self.status().unwrap_or(&self.row.status).clone();
                status.set_condition(condition);
                return self.set_status(host, cx, status, force, false);
            }
        };
        let old = own.condition(&condition.kind);
        if !force && old.is_some_and(|old| alike(old, &condition)) {
            return;
        }
        condition.since = match old {
            Some(old) if old.status == condition.status => old.since,
            _ => whole_seconds(cx.now),
        };
        own.set_condition(condition);
        self.version += 1;
        self.queue_status(host);
    }

    pub(super) fn queue_status(&mut self, host: &mut Host) {
        if !self.queued {
            self.queued = true;
            host.statuses.push_back(self.id);
        }
    }

    /// `SetContainerReadiness`.
    pub(super) fn set_readiness(
        &mut self,
        host: &mut Host,
        cx: &mut Cx<'_>,
        index: usize,
        attempt: u16,
        ready: bool,
    ) {
        let spec = self.row.spec.clone();
        let inits = spec.init_containers.len();
        let Some(status) = self.status() else {
            return;
        };
        let known = status_of(status, inits, index);
        if known.is_none_or(|c| c.restarts != u32::from(attempt) || c.ready == ready) {
            return;
        }
        let mut status = status.clone();
        if let Some(container) = status_mut(&mut status, inits, index) {
            container.ready = ready;
        }
        let containers = conditions::containers_ready(&spec, &status);
        let pod = conditions::ready(&spec, &status, &containers);
        for mut condition in [pod, containers] {
            condition.observed_generation = self.row.meta.generation;
            status.set_condition(condition);
        }
        self.set_status(host, cx, status, false, false);
    }

    /// `SetContainerStartup`.
    pub(super) fn set_startup(
        &mut self,
        host: &mut Host,
        cx: &mut Cx<'_>,
        index: usize,
        attempt: u16,
        started: bool,
    ) {
        let inits = self.row.spec.init_containers.len();
        let Some(status) = self.status() else {
            return;
        };
        let known = status_of(status, inits, index);
        if known.is_none_or(|c| c.restarts != u32::from(attempt) || c.started == started) {
            return;
        }
        let mut status = status.clone();
        if let Some(container) = status_mut(&mut status, inits, index) {
            container.started = started;
        }
        self.set_status(host, cx, status, false, false);
    }

    /// `TerminatePod`: whatever is not known to have ended has failed, and the pod has ended.
    pub(super) fn terminate_status(&mut self, host: &mut Host, cx: &mut Cx<'_>) {
        if let Some(status) = self.status()
            && ended(status)
        {
            // It says that already, and is sent once more.
            self.finished = true;
            self.version += 1;
            self.queue_status(host);
            return;
        }
        let mut status = self.status().unwrap_or(&self.row.status).clone();
        let lost = |container: &mut ContainerStatus| {
            if !container.state.terminated() {
                let end = lost(STATUS_UNKNOWN, LOST_AT_END);
                container.state = ContainerState::Terminated(end);
            }
        };
        if has_initialized(&self.row) {
            status.containers.iter_mut().for_each(lost);
        }
        let tried = |c: &ContainerStatus| {
            c.last.is_some() || !matches!(c.state, ContainerState::Waiting { .. })
        };
        let inits = &mut status.init_containers;
        let upto = inits.iter().rposition(tried).map_or(1, |at| at + 1);
        inits.iter_mut().take(upto).for_each(lost);
        if !status.phase.terminal() {
            status.phase = Phase::Failed;
        }
        self.set_status(host, cx, status, true, true);
    }

    /// The pod as its watch shows it now. A copy of the status that says the same as the API server
    /// is not kept; it is made again when the API server comes to say something else. Returns the
    /// row before.
    pub(super) fn replace_row(&mut self, row: Arc<Pod>) -> Arc<Pod> {
        let old = std::mem::replace(&mut self.row, row);
        if !Arc::ptr_eq(&old.spec, &self.row.spec) {
            self.forget_back_offs(&old);
        }
        match &self.status {
            Copy::None => {}
            Copy::Row if same(&self.row.status, &old.status) => {}
            Copy::Row => self.status = Copy::Own(old.status.clone()),
            Copy::Own(_) => self.drop_copy(),
        }
        old
    }

    /// The API server has this version of the status. The copy goes when the watch has shown it.
    pub(super) fn has_sent(&mut self, version: u32) {
        self.sent = version;
        self.drop_copy();
    }

    fn drop_copy(&mut self) {
        if let Copy::Own(own) = &self.status
            && self.sent == self.version
            && same(&self.row.status, own)
        {
            self.status = Copy::Row;
        }
    }

    /// `needsUpdate`.
    pub(super) fn needs_update(&self) -> bool {
        self.status().is_some() && (self.version != self.sent || self.can_be_deleted(&self.row))
    }

    /// `needsReconcile`: the API server shows something else.
    pub(super) fn needs_reconcile(&self) -> bool {
        matches!(&self.status, Copy::Own(own) if !same(&self.row.status, own))
    }

    /// `canBeDeleted`: only once the API server has the terminal phase.
    pub(super) fn can_be_deleted(&self, row: &Pod) -> bool {
        row.meta.deleting() && row.status.phase.terminal() && self.finished
    }

    /// `CouldHaveRunningContainers`.
    fn could_run(&self) -> bool {
        !self.rejected && self.work < Work::Terminated
    }

    /// `mergePodStatus`: what is sent, given what the API server has. Conditions that are not the
    /// kubelet's stay out of it.
    fn merged(&self, status: &Shared<PodStatus>, now: Time) -> Shared<PodStatus> {
        let known = &self.row.status;
        let ending = !known.phase.terminal() && status.phase.terminal();
        let could_run = self.could_run();
        let mut merged = status.clone();
        let told = |c: &PodCondition| {
            by_kubelet(&c.kind)
                || (c.kind == PodConditionKind::DisruptionTarget && ending && !could_run)
        };
        if !merged.conditions.iter().all(told) {
            merged.conditions.retain(|c| told(c));
        }
        if ending && could_run {
            merged.phase = known.phase;
            merged.reason = known.reason.clone();
            merged.message = known.message.clone();
        }
        if merged.phase.terminal() {
            let both = [PodConditionKind::ContainersReady, PodConditionKind::Ready];
            let is = |kind| merged.condition(kind).map(|c| c.status);
            if both.iter().any(|kind| is(kind) == Some(Truth::True)) {
                for kind in both {
                    let mut condition = not_ready_any_more(kind, merged.phase);
                    condition.since = whole_seconds(now);
                    condition.observed_generation = self.row.meta.generation;
                    merged.set_condition(condition);
                }
            }
        }
        merged
    }

    /// `syncPod`: a GET and a PATCH. Returns whether anything was sent.
    pub(super) fn send_status(&mut self, host: &mut Host, cx: &mut Cx<'_>) -> bool {
        let Some(status) = self.status().filter(|_| self.in_config) else {
            self.sent = self.version;
            return false;
        };
        let patch = Patch::PodStatus(self.merged(status, cx.now));
        let write = Write::Patch {
            object: self.id.into(),
            uid: Some(self.row.meta.uid),
            patch,
        };
        host.budget.take(cx.now);
        host.send(cx, write, "pod status changed", Topic::Status, self.id.0);
        true
    }

    /// Ends the pod's life in the API.
    pub(super) fn send_delete(&mut self, host: &mut Host, cx: &mut Cx<'_>) {
        let write = Write::Delete {
            object: self.id.into(),
            uid: Some(self.row.meta.uid),
            grace_s: Some(0),
            propagation: Propagation::Background,
        };
        host.send(cx, write, "containers have ended", Topic::Delete, self.id.0);
    }
}

/// Whether nothing is left to be said of the end of a pod.
fn ended(status: &PodStatus) -> bool {
    let mut all = status.init_containers.iter().chain(&status.containers);
    let over = all.all(|c| c.state.terminated());
    over && status.phase.terminal() && status.start_time.is_some()
}

/// `hasPodInitialized`, from what the API server shows.
fn has_initialized(pod: &Pod) -> bool {
    let status = &pod.status;
    let Some(last) = pod.spec.init_containers.last() else {
        return true;
    };
    let begun = |c: &ContainerStatus| {
        c.last.is_some() || !matches!(c.state, ContainerState::Waiting { .. })
    };
    if status.containers.iter().any(begun) {
        return true;
    }
    let Some(shown) = status.init_containers.last() else {
        return false;
    };
    if last.restart_always {
        return shown.started && matches!(shown.state, ContainerState::Running { .. });
    }
    let done = |t: &Terminated| t.exit_code == 0;
    let now = matches!(&shown.state, ContainerState::Terminated(t) if done(t));
    now || shown.last.as_deref().is_some_and(done)
}
