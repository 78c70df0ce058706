//! The three syncs of a pod: running it, stopping it, and letting go of it.
//!
//! `pkg/kubelet/kubelet.go :: SyncPod`, `SyncTerminatingPod`, `SyncTerminatedPod`, with the sandbox
//! part of `kuberuntime_manager.go :: SyncPod`. Each first brings the status up to date with what
//! the runtime was seen to run, then acts.

use std::time::Duration;

use super::actions::{self, KillWhy};
use super::agent::Event;
use super::conditions;
use super::host::{Cx, Found, Host, Lookup};
use super::pod_status::{self, Facts};
use super::pod_worker::{Copy, Doing, Ending, Mount, PodWorker, Step, Steps, SyncError, Work};
use super::probes::{ProbeResult, worker};
use super::record::{Record, Sandbox, Slot};
use super::runtime::{Call, ProbeKind};
use crate::api::container::ConfigRef;
use crate::api::pod::VolumeSource;
use crate::api::pod_status::{Phase, PodCondition, PodConditionKind, PodStatus, Truth};
use crate::api::{Pod, Text};
use crate::engine::Time;

/// `volume_manager.go :: podAttachAndMountRetryInterval`: a new pod's volumes are found mounted at
/// the second look.
const MOUNT_POLL: Duration = Duration::from_millis(300);
/// `volume_manager.go :: podAttachAndMountTimeout`.
const MOUNT_TIMEOUT: Duration = Duration::from_secs(123);
/// `pkg/volume/util/.../exponential_backoff.go`: between tries to mount one volume.
const MOUNT_RETRY: Duration = Duration::from_millis(500);
const MOUNT_RETRY_MAX: Duration = Duration::from_secs(122);
/// `active_deadline.go`.
const DEADLINE: (&str, &str) = (
    "DeadlineExceeded",
    "Pod was active on the node longer than the specified deadline",
);

impl PodWorker {
    /// `SyncPod`.
    pub(super) fn sync(&mut self, host: &mut Host, cx: &mut Cx<'_>) {
        let (status, looks) = self.generate(host, cx, false, false);
        let terminal = status.phase.terminal();
        self.tell_status(host, cx, status, false);
        for index in looks {
            self.trigger_readiness(host, cx, index);
        }
        self.arm_deadline(host, cx);
        if terminal {
            self.end_run(host, cx, true);
        } else if self.mounted {
            self.act(host, cx);
        } else {
            self.begin_mount(host, cx);
        }
    }

    /// Makes the status of a pod whose containers are stopped, or have been.
    fn tell_end(&mut self, host: &mut Host, cx: &mut Cx<'_>, terminal: bool, fresh: bool) {
        if self.ended && self.has_told_end() {
            debug_assert!(
                {
                    let (new, _) = self.generate(host, cx, terminal, fresh);
                    self.status()
                        .is_some_and(|said| super::status::same(&new, said))
                },
                "a new status would say something else"
            );
            return;
        }
        let (mut status, looks) = self.generate(host, cx, terminal, fresh);
        if let (Work::Terminating, false, Some(ending)) = (self.work, fresh, &self.ending) {
            end_by_node(&mut status, ending, self.row.meta.generation, cx);
        }
        self.tell_status(host, cx, status, fresh);
        for index in looks {
            self.trigger_readiness(host, cx, index);
        }
    }

    /// Sets a status that was generated.
    fn tell_status(&mut self, host: &mut Host, cx: &mut Cx<'_>, status: PodStatus, fresh: bool) {
        let ended = status.phase.terminal()
            && status.init_containers.is_empty()
            && status.containers.iter().all(|c| c.state.terminated())
            && (fresh || self.lag.is_none());
        self.set_status(host, cx, status, self.row.meta.deleting(), false);
        self.ended = ended;
    }

    /// Of a pod that has [`PodWorker::ended`], whether all is said that could be said of it: only
    /// then nothing but the record matters. The API server may still show an earlier phase.
    fn has_told_end(&self) -> bool {
        let Pod { meta, spec, .. } = &*self.row;
        let Some(status) = self.status() else {
            return false;
        };
        let foreign = |status: &PodStatus| {
            let mut kinds = status.conditions.iter().map(|c| &c.kind);
            kinds.any(|kind| !super::status::by_kubelet(kind))
        };
        let known = self.lag.is_none() && !meta.deleting() && self.ending.is_none();
        known
            && status.phase.terminal()
            && status.start_time.is_some()
            && (matches!(self.status, Copy::Row)
                || !foreign(status)
                    && !foreign(&self.row.status)
                    && status.reason == self.row.status.reason
                    && status.message == self.row.status.message)
            && meta.generation == status.observed_generation
            && spec.active_deadline_s.is_none()
            && !conditions::could_restart_all(spec)
    }

    /// The status that follows from what was seen; with the containers whose readiness is to be
    /// probed at once. `fresh` reads the runtime itself instead.
    fn generate(
        &mut self,
        host: &mut Host,
        cx: &mut Cx<'_>,
        terminal: bool,
        fresh: bool,
    ) -> (PodStatus, Vec<usize>) {
        let overdue = self.overdue(cx);
        if overdue {
            self.tell(host, cx, false, DEADLINE.0, DEADLINE.1);
        }
        let record = if fresh { &self.record } else { self.seen() };
        let facts = Facts {
            pod: &self.row,
            old: self.status().unwrap_or(&self.row.status),
            record,
            probes: &self.probes,
            memory: &self.memory,
            terminal,
            evict: overdue.then_some(DEADLINE),
            born: (!host.established).then_some(host.started),
            host_ip: host.address(),
        };
        pod_status::generate(&facts)
    }

    /// `activeDeadlineHandler.pastActiveDeadline`.
    fn overdue(&self, cx: &Cx<'_>) -> bool {
        let status = self.status().unwrap_or(&self.row.status);
        let (Some(seconds), Some(start)) = (self.row.spec.active_deadline_s, status.start_time)
        else {
            return false;
        };
        cx.now.since(start).as_secs() >= seconds.unsigned_abs()
    }

    /// The sync loop looks at every tick whether a pod is past its deadline, which may have come
    /// nearer since it was set.
    fn arm_deadline(&mut self, host: &Host, cx: &mut Cx<'_>) {
        let start = self.status().and_then(|s| s.start_time);
        if let (Some(seconds), Some(start)) = (self.row.spec.active_deadline_s, start) {
            let end = start + Duration::from_secs(seconds.unsigned_abs());
            let before = end.max(cx.now).as_nanos().saturating_sub(1);
            let tick = host.ticks.after(Time::from_nanos(before));
            let passed = self.deadline_at <= cx.now;
            if !passed && tick < self.deadline_at {
                self.deadline_at = tick;
                cx.out.at(tick, Event::Wake { pod: self.id });
            }
        }
    }

    fn begin_mount(&mut self, host: &mut Host, cx: &mut Cx<'_>) {
        let mut mount = self.mount.take().unwrap_or_else(|| {
            Box::new(Mount {
                since: cx.now,
                retry_at: cx.now,
                wait: MOUNT_RETRY,
            })
        });
        mount.since = cx.now;
        self.mount = Some(mount);
        self.poll_mount(host, cx);
    }

    /// `WaitForAttachAndMount`, with the volume manager's retries of ConfigMaps and Secrets.
    fn poll_mount(&mut self, host: &mut Host, cx: &mut Cx<'_>) {
        let Some(mut mount) = self.mount.take() else {
            return;
        };
        let passed = cx.now.since(mount.since);
        if cx.now >= mount.retry_at {
            if let Some(message) = missing_volume(&self.row, cx.lookup) {
                self.tell(host, cx, true, "FailedMount", message);
                mount.retry_at = cx.now + mount.wait;
                mount.wait = (mount.wait * 2).min(MOUNT_RETRY_MAX);
            } else if passed >= MOUNT_POLL && self.attached(host, cx) {
                self.mounted = true;
                self.act(host, cx);
                return;
            }
        }
        if passed >= MOUNT_TIMEOUT {
            self.mount = Some(mount);
            self.fail(SyncError::Other);
            self.end_run(host, cx, false);
            return;
        }
        let next = mount.retry_at.max(mount.since + MOUNT_POLL);
        let next = next.max(match passed >= MOUNT_POLL {
            true => cx.now + MOUNT_POLL,
            false => cx.now,
        });
        let due = next.min(mount.since + MOUNT_TIMEOUT);
        self.mount = Some(mount);
        self.wait_for(cx, Doing::Mount, Some(due));
    }

    /// `GenerateVerifyControllerAttachedVolumeFunc`: whether all claims are bound and their volumes
    /// attached. A volume is mounted only after the node's status says that it is in use, so that
    /// nobody detaches it.
    fn attached(&self, host: &mut Host, cx: &mut Cx<'_>) -> bool {
        let mut volumes = self.row.spec.volumes.iter();
        if !volumes.any(|v| {
            matches!(
                v.source,
                VolumeSource::Claim { .. } | VolumeSource::Ephemeral
            )
        }) {
            return true;
        }
        let node = host.row.meta.name.clone();
        let Some(all) = cx.lookup.attachments(&self.row, &node) else {
            return false;
        };
        let reported = cx.lookup.node(&node);
        let reported = |name: &Text| {
            let row = reported.as_ref().map(|(_, row)| row);
            row.is_some_and(|row| row.status.volumes_in_use.contains(name))
        };
        let mut ready = true;
        for (name, attached) in all {
            ready &= attached && reported(&name);
            host.in_use.insert((name, self.id));
        }
        host.wake_node_status(cx);
        ready
    }

    /// The timer of the step under way.
    pub(super) fn on_step(&mut self, host: &mut Host, cx: &mut Cx<'_>) {
        let Some(run) = self.run.as_ref().filter(|run| run.due == cx.now) else {
            return;
        };
        match run.doing {
            Doing::Mount => self.poll_mount(host, cx),
            Doing::PostStart(index, _) => self.started(host, cx, index),
            _ => {}
        }
    }

    /// The rest of `SyncPod`: probe workers, then what the runtime has to do.
    fn act(&mut self, host: &mut Host, cx: &mut Cx<'_>) {
        self.add_probes(host, cx);
        let Some(run) = self.run.as_deref() else {
            return;
        };
        let record = &run.record;
        let result = |index: usize, which: ProbeKind| -> Option<ProbeResult> {
            let attempt = record.slot(index).current?;
            worker(&self.probes, index, which)?.result_of(attempt.number)
        };
        let restarting = PodConditionKind::AllContainersRestarting;
        let restarting = self.status().and_then(|s| s.condition(&restarting));
        let restart_all = restarting.is_some_and(|c| c.status == Truth::True);
        let todo = actions::compute(&run.row, record, restart_all, &result);
        let changed = todo.sandbox && record.sandbox == Sandbox::Dead;
        let mut steps = Steps::new();
        if todo.kill_pod {
            steps.push(Step::KillPod);
        } else {
            let kills = todo.kill.iter();
            steps.extend(kills.filter_map(|(i, why)| Some(Step::Kill(index_of(*i)?, *why))));
        }
        for (index, running) in &todo.reset {
            if let Some(index) = index_of(*index) {
                let kill = running.then_some(Step::Kill(index, KillWhy::RestartAll));
                steps.extend(kill.into_iter().chain([Step::Reset(index)]));
            }
        }
        if todo.sandbox {
            steps.push(Step::Sandbox);
        }
        if todo.sandbox || !todo.kill_pod {
            let starts = todo.init.iter().chain(&todo.start);
            steps.extend(starts.filter_map(|i| Some(Step::Start(index_of(*i)?))));
        }
        if changed {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            self.tell(host, cx, false, "SandboxChanged", message);
        }
        if let Some(run) = self.run.as_deref_mut() {
            steps.reverse();
            run.steps = steps;
        }
        self.go_on(host, cx);
    }

    /// Removes what is left of a container (`removeContainer`).
    pub(super) fn reset_one(&mut self, host: &mut Host, cx: &mut Cx<'_>, index: u16) -> bool {
        if let Some(slot) = self.changing(host, cx).slot_mut(index) {
            slot.forget();
        }
        true
    }

    /// Asks for a sandbox. Init containers of an earlier one are forgotten first.
    pub(super) fn make_sandbox(&mut self, host: &mut Host, cx: &mut Cx<'_>) -> bool {
        let inits = self.row.spec.init_containers.len();
        let forget = |record: &mut Record| {
            let inits = record.containers.iter_mut().take(inits);
            inits.for_each(Slot::forget);
        };
        forget(&mut self.record);
        if let Some(run) = self.run.as_deref_mut() {
            forget(&mut run.record);
        }
        self.record.sandboxes = self.record.sandboxes.wrapping_add(1).max(1);
        let ip = if self.row.spec.host_network {
            host.address()
        } else {
            host.take_address()
        };
        self.record.ip = Some(ip);
        let what = Call::StartSandbox {
            pod: self.id,
            attempt: self.record.sandboxes,
            row: self.row.clone(),
            ip,
        };
        self.wait_for(cx, Doing::Sandbox, None);
        host.ask(cx, what);
        false
    }

    /// The sandbox is there, or could not be made.
    pub(super) fn on_sandbox(&mut self, host: &mut Host, cx: &mut Cx<'_>, attempt: u8, ok: bool) {
        // Without an address it was asked for by an earlier life, which this one knows nothing of.
        let mine = attempt == self.record.sandboxes && self.record.ip.is_some();
        if !mine || self.record.sandbox == Sandbox::Ready {
            return;
        }
        if ok {
            let now = cx.now;
            let record = self.changing(host, cx);
            record.sandbox = Sandbox::Ready;
            record.since = now;
        }
        if self
            .run
            .as_ref()
            .is_none_or(|run| run.doing != Doing::Sandbox)
        {
            return;
        }
        if ok {
            self.sandbox_ready(host, cx);
            self.go_on(host, cx);
            return;
        }
        host.free_address(self);
        if self.work != Work::Sync {
            // The pod is ending: what has failed is not wanted any more.
            self.end_run(host, cx, false);
            return;
        }
        let message = "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to \
                       setup network for sandbox";
        self.tell(host, cx, true, "FailedCreatePodSandBox", message);
        self.fail(SyncError::Other);
        self.end_run(host, cx, false);
    }

    /// `OnPodSandboxReady`: the condition is set without waiting for the sync to end.
    fn sandbox_ready(&mut self, host: &mut Host, cx: &mut Cx<'_>) {
        let condition = PodCondition {
            kind: PodConditionKind::PodReadyToStartContainers,
            status: Truth::True,
            since: cx.now,
            reason: None,
            message: None,
            observed_generation: self.row.meta.generation,
        };
        self.set_condition(host, cx, condition);
    }

    /// Notes why the sync under way failed; the earliest end of a back-off wins over other errors.
    pub(super) fn fail(&mut self, error: SyncError) {
        if let Some(run) = self.run.as_deref_mut() {
            run.error = Some(match (run.error, error) {
                (Some(SyncError::BackOff(a)), SyncError::BackOff(b)) => {
                    SyncError::BackOff(a.min(b))
                }
                (Some(SyncError::BackOff(a)), SyncError::Other) => SyncError::BackOff(a),
                (_, error) => error,
            });
        }
    }

    /// `SyncTerminatingPod`.
    pub(super) fn sync_terminating(&mut self, host: &mut Host, cx: &mut Cx<'_>) {
        self.tell_end(host, cx, false, false);
        self.stop_liveness_and_startup();
        // A pod that ended by itself has no grace period determined: its own applies.
        let grace = (self.grace_s > 0).then_some(self.grace_s);
        self.stop_all(host, cx, grace);
    }

    /// Nothing of the pod runs any more.
    pub(super) fn stopped(&mut self, host: &mut Host, cx: &mut Cx<'_>) {
        self.probes.clear();
        self.tell_end(host, cx, true, true);
        self.end_run(host, cx, false);
    }

    /// `SyncTerminatedPod`.
    pub(super) fn sync_terminated(&mut self, host: &mut Host, cx: &mut Cx<'_>) {
        self.tell_end(host, cx, true, false);
        // Nothing is mounted any more.
        let before = host.in_use.len();
        host.in_use.retain(|(_, pod)| *pod != self.id);
        if host.in_use.len() != before {
            host.wake_node_status(cx);
        }
        self.terminate_status(host, cx);
        self.end_run(host, cx, false);
    }
}

fn index_of(index: usize) -> Option<u16> {
    u16::try_from(index).ok()
}

/// What `evictPod`, `evictPodsToFreeRequests` and `killPods` do to the status.
fn end_by_node(status: &mut PodStatus, ending: &Ending, generation: u32, cx: &Cx<'_>) {
    if status.phase != Phase::Succeeded || !ending.keeps_success {
        status.phase = Phase::Failed;
    }
    status.reason = Some(Text::from(ending.reason));
    status.message = Some(Text::from(ending.message.as_str()));
    let Some(disruption) = &ending.disruption else {
        return;
    };
    status.set_condition(PodCondition {
        kind: PodConditionKind::DisruptionTarget,
        status: Truth::True,
        since: cx.now,
        reason: Some("TerminationByKubelet".into()),
        message: Some(disruption.as_str().into()),
        observed_generation: generation,
    });
}

/// The first volume that cannot be mounted, in the volume manager's words.
fn missing_volume(pod: &Pod, lookup: &dyn Lookup) -> Option<String> {
    let missing = |wanted: &ConfigRef| match lookup.config(wanted, &pod.meta.namespace) {
        Found::Yes => None,
        _ if wanted.optional => None,
        found => Some(describe_missing(wanted, &pod.meta.namespace, found)),
    };
    pod.spec.volumes.iter().find_map(|volume| {
        let problem = match &volume.source {
            VolumeSource::Config(wanted) => missing(wanted),
            VolumeSource::Projected(all) => all.iter().find_map(missing),
            _ => None,
        }?;
        Some(format!(
            "MountVolume.SetUp failed for volume \"{}\" : {problem}",
            volume.name
        ))
    })
}

/// Upstream's words for a ConfigMap or Secret that is not there.
pub(super) fn describe_missing(wanted: &ConfigRef, namespace: &str, found: Found) -> String {
    let (kind, lower) = if wanted.secret {
        ("Secret", "secret")
    } else {
        ("ConfigMap", "configmap")
    };
    match (found, &wanted.key) {
        (Found::NoKey, Some(key)) => format!(
            "couldn't find key {key} in {kind} {namespace}/{}",
            wanted.name
        ),
        _ => format!("{lower} \"{}\" not found", wanted.name),
    }
}
