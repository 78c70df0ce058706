//! Starting a container: back-off, image, configuration, the start itself, and `postStart`.
//!
//! `pkg/kubelet/kuberuntime/kuberuntime_manager.go :: SyncPod` (its `start`) and
//! `kuberuntime_container.go :: startContainer`. Containers of a pod start one after the other: a
//! slow pull keeps the next one waiting.

use std::time::Duration;

use super::actions::KillWhy;
use super::host::{Cx, Found, Host};
use super::images::Presence;
use super::pod_worker::{Doing, PodWorker, SyncError};
use super::runtime::{Call, ContainerId, Hook, PullOutcome, Signal, StartOutcome, container_of};
use super::sync::describe_missing;
use crate::api::probe::Action;
use crate::client::back_off::Limits;

/// Why a container could not be started: the reason that its status shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    CrashLoop,
    Pull,
    PullBackOff,
    NeverPull,
    Config,
    Create,
    Run,
    PostStart,
}

impl Fault {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Fault::CrashLoop => "CrashLoopBackOff",
            Fault::Pull => "ErrImagePull",
            Fault::PullBackOff => "ImagePullBackOff",
            Fault::NeverPull => "ErrImageNeverPull",
            Fault::Config => "CreateContainerConfigError",
            Fault::Create => "CreateContainerError",
            Fault::Run => "RunContainerError",
            Fault::PostStart => "PostStartHookError",
        }
    }
}

/// `kubelet.go`: a container that ran for ten minutes starts over.
const CRASH_FORGOTTEN: Duration = Duration::from_secs(600);

impl PodWorker {
    /// Starts a container. Returns whether there is nothing to wait for.
    pub(super) fn start(&mut self, host: &mut Host, cx: &mut Cx<'_>, index: u16) -> bool {
        let spec = self.row.spec.clone();
        let Some(container) = container_of(&spec, index) else {
            return true;
        };
        if self.in_back_off(host, cx, index) {
            return self.not_started(index, Fault::CrashLoop);
        }
        let attempt = self.next_attempt(index);
        let presence = self.ensure_image(host, cx, container);
        match presence {
            Presence::Here => self.create(host, cx, index, attempt),
            Presence::Missing(fault) => {
                let message = format!("Error: {}", fault.reason());
                self.tell(host, cx, true, "Failed", message);
                self.not_started(index, fault)
            }
            Presence::Pulling => {
                if let Some(run) = self.run.as_deref_mut() {
                    run.asked = cx.now;
                }
                self.wait_for(cx, Doing::Pull(index, attempt), None);
                let container = ContainerId {
                    pod: self.id,
                    index,
                    attempt,
                };
                host.pull(cx, container, &self.row);
                false
            }
        }
    }

    /// `doBackOff`: counts from when the container last ended.
    fn in_back_off(&mut self, host: &mut Host, cx: &mut Cx<'_>, index: u16) -> bool {
        let limits = Limits {
            first: host
                .config
                .crash_back_off
                .min(host.config.crash_back_off_max),
            longest: host.config.crash_back_off_max,
            expires: CRASH_FORGOTTEN,
        };
        let at = usize::from(index);
        let seen = self
            .run
            .as_ref()
            .and_then(|run| run.record.slot(at).last_exit());
        let Some(exit) = seen else {
            return false;
        };
        let back_off = &mut self.remember(at).back_off;
        if !back_off.since_event(exit.at, cx.now, limits) {
            back_off.step(exit.at, cx.now, limits);
            return false;
        }
        let until = exit.at + back_off.wait();
        let name = container_of(&self.row.spec, index).map(|c| c.name.clone());
        let message = format!(
            "Back-off restarting failed container {} in pod {}_{}({})",
            name.unwrap_or_default(),
            self.row.meta.name,
            self.row.meta.namespace,
            self.row.meta.uid
        );
        self.tell(host, cx, true, "BackOff", message);
        self.fail(SyncError::BackOff(until));
        true
    }

    /// One more than the attempts there were.
    fn next_attempt(&self, index: u16) -> u16 {
        self.record.slot(usize::from(index)).attempts
    }

    /// The start failed: an ordinary init container keeps everything after it from starting.
    fn not_started(&mut self, index: u16, fault: Fault) -> bool {
        if fault != Fault::CrashLoop {
            self.fail(SyncError::Other);
        }
        if let Some(run) = self.run.as_deref_mut() {
            run.starts.push((index, Some(fault)));
            let init = self.row.spec.init_containers.get(usize::from(index));
            if init.is_some_and(|c| !c.restart_always) {
                run.steps.clear();
            }
        }
        true
    }

    /// A pull ended.
    pub(super) fn on_pulled(
        &mut self,
        host: &mut Host,
        cx: &mut Cx<'_>,
        container: ContainerId,
        outcome: PullOutcome,
        took: Duration,
    ) {
        let ContainerId { index, attempt, .. } = container;
        let doing = Doing::Pull(index, attempt);
        let Some(run) = self.run.as_ref().filter(|run| run.doing == doing) else {
            return;
        };
        let waited = cx.now.since(run.asked);
        let spec = self.row.spec.clone();
        let Some(image) = container_of(&spec, index).map(|c| &c.image) else {
            return;
        };
        if self.pull_ended(host, cx, image, outcome, took, waited) {
            if self.create(host, cx, index, attempt) {
                self.go_on(host, cx);
            }
            return;
        }
        let message = format!("Error: {}", Fault::Pull.reason());
        self.tell(host, cx, true, "Failed", message);
        self.not_started(index, Fault::Pull);
        self.go_on(host, cx);
    }

    /// The container's environment must be there before it is created.
    fn create(&mut self, host: &mut Host, cx: &mut Cx<'_>, index: u16, attempt: u16) -> bool {
        let spec = self.row.spec.clone();
        let Some(container) = container_of(&spec, index) else {
            return true;
        };
        let namespace = self.row.meta.namespace.clone();
        let missing = container.env_refs.iter().find_map(|wanted| {
            match cx.lookup.config(wanted, &namespace) {
                Found::Yes => None,
                _ if wanted.optional => None,
                found => Some(describe_missing(wanted, &namespace, found)),
            }
        });
        if let Some(problem) = missing {
            self.tell(host, cx, true, "Failed", format!("Error: {problem}"));
            return self.not_started(index, Fault::Config);
        }
        let what = Call::StartContainer {
            container: ContainerId {
                pod: self.id,
                index,
                attempt,
            },
            row: self.row.clone(),
            ip: self.record.ip.unwrap_or_else(|| host.address()),
        };
        // Counted when asked for: the answer may be heard by a later life of the kubelet.
        if let Some(slot) = self.record.slot_mut(index) {
            slot.attempts = attempt.wrapping_add(1);
        }
        self.wait_for(cx, Doing::Start(index, attempt), None);
        host.ask(cx, what);
        false
    }

    /// A container runs, or could not be started.
    pub(super) fn on_started(
        &mut self,
        host: &mut Host,
        cx: &mut Cx<'_>,
        container: ContainerId,
        outcome: StartOutcome,
    ) {
        let ContainerId { index, attempt, .. } = container;
        let doing = Doing::Start(index, attempt);
        if self.run.as_ref().is_none_or(|run| run.doing != doing) {
            // Asked for by an earlier life, which this one knows nothing of.
            if outcome == StartOutcome::Ok {
                let signal = Signal::Kill;
                host.ask(cx, Call::Signal { container, signal });
            }
            return;
        }
        let now = cx.now;
        // A container that could not be created is nothing that a relist could see.
        let record = match outcome {
            StartOutcome::CreateFailed => &mut self.record,
            _ => self.changing(host, cx),
        };
        if let Some(slot) = record.slot_mut(index) {
            slot.hear_start(attempt, outcome, now);
        }
        let created = |this: &mut Self, host: &mut Host, cx: &mut Cx<'_>| {
            this.tell(host, cx, false, "Created", "Container created".into());
        };
        match outcome {
            StartOutcome::Ok => {
                created(self, host, cx);
                self.tell(host, cx, false, "Started", "Container started".into());
                self.post_start(host, cx, index, attempt);
            }
            StartOutcome::CreateFailed => {
                let message = "Error: failed to create containerd container".into();
                self.tell(host, cx, true, "Failed", message);
                self.started(host, cx, index, Some(Fault::Create));
            }
            StartOutcome::RunFailed => {
                created(self, host, cx);
                let message = "Error: failed to create containerd task: failed to create shim \
                               task: OCI runtime create failed: runc create failed: unable to \
                               start container process";
                self.tell(host, cx, true, "Failed", message.into());
                self.started(host, cx, index, Some(Fault::Run));
            }
        }
    }

    fn post_start(&mut self, host: &mut Host, cx: &mut Cx<'_>, index: u16, attempt: u16) {
        let spec = self.row.spec.clone();
        let hook = container_of(&spec, index).and_then(|c| c.post_start.as_ref());
        let doing = Doing::PostStart(index, attempt);
        match hook {
            None => self.started(host, cx, index, None),
            Some(Action::Sleep(seconds)) => {
                let due = cx.now + Duration::from_secs((*seconds).into());
                self.wait_for(cx, doing, Some(due));
            }
            Some(_) => {
                self.wait_for(cx, doing, None);
                let what = Call::Hook {
                    container: ContainerId {
                        pod: self.id,
                        index,
                        attempt,
                    },
                    hook: Hook::PostStart,
                    spec: spec.clone(),
                    ip: self.record.ip.unwrap_or_else(|| host.address()),
                };
                host.ask(cx, what);
            }
        }
    }

    /// A hook was answered.
    pub(super) fn on_hook(
        &mut self,
        host: &mut Host,
        cx: &mut Cx<'_>,
        container: ContainerId,
        hook: Hook,
        ok: bool,
    ) {
        let ContainerId { index, attempt, .. } = container;
        if hook == Hook::PreStop {
            self.on_pre_stop(host, cx, container, ok);
            return;
        }
        let doing = Doing::PostStart(index, attempt);
        if self.run.as_ref().is_none_or(|run| run.doing != doing) {
            return;
        }
        if ok {
            self.started(host, cx, index, None);
            return;
        }
        let message = "PostStartHook failed".into();
        self.tell(host, cx, true, "FailedPostStartHook", message);
        if self.kill_one(host, cx, index, KillWhy::PostStart) {
            self.started(host, cx, index, Some(Fault::PostStart));
        }
    }

    /// A start has ended, well or badly: goes on.
    pub(super) fn started(
        &mut self,
        host: &mut Host,
        cx: &mut Cx<'_>,
        index: u16,
        fault: Option<Fault>,
    ) {
        match fault {
            Some(fault) => {
                self.not_started(index, fault);
            }
            None => {
                if let Some(run) = self.run.as_deref_mut() {
                    run.starts.push((index, None));
                }
            }
        }
        self.go_on(host, cx);
    }
}
