//! Starting a container: back-off, image, configuration, the start itself, and `postStart`.
//!
//! `pkg/kubelet/kuberuntime/kuberuntime_manager.go :: SyncPod` (its `start`) and
//! `kuberuntime_container.go :: startContainer`. Containers of a pod start one after the other: a
//! slow pull keeps the next one waiting.

use std::sync::Arc;
use std::time::Duration;

use super::actions::{KillWhy, definition};
use super::host::{Cx, Found, Host};
use super::images::{Presence, go_duration};
use super::pod_worker::{Doing, PodWorker, SyncError};
use super::runtime::{Call, ContainerId, Hook, PullOutcome, Signal, StartOutcome, container_of};
use super::sync::describe_missing;
use crate::api::container::Container;
use crate::api::probe::Action;
use crate::api::{Pod, Text, text};
use crate::client::back_off::{BackOff, Limits};

/// Why a container could not be started: the reason that its status shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    CrashLoop,
    Pull,
    PullBackOff,
    NeverPull,
    ImageName,
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
            Fault::ImageName => "InvalidImageName",
            Fault::Config => "CreateContainerConfigError",
            Fault::Create => "CreateContainerError",
            Fault::Run => "RunContainerError",
            Fault::PostStart => "PostStartHookError",
        }
    }
}

/// A start that failed, in the words of the container's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) fault: Fault,
    pub(super) message: Text,
}

/// What the runtime says to a container that it cannot create, and to one that it cannot run.
const CREATE_FAILED: &str = "failed to create containerd container";
const RUN_FAILED: &str = "failed to create containerd task: failed to create shim task: OCI \
                          runtime create failed: runc create failed: unable to start container \
                          process";

/// `pkg/kubelet/lifecycle/handlers.go :: Run`, of a hook that failed.
fn hook_failed(hook: &Action, container: &str, pod: &str) -> String {
    let whose = format!("for Container \"{container}\" in Pod \"{pod}\" failed - error:");
    match hook {
        Action::Exec(command) => {
            let command: Vec<&str> = command.iter().map(Text::as_str).collect();
            let command = command.join(" ");
            format!(
                "Exec lifecycle hook ([{command}]) {whose} command '{command}' exited with 1: , \
                 message: \"\""
            )
        }
        Action::HttpGet { path, .. } => format!("HTTP lifecycle hook ({path}) {whose} EOF"),
        Action::Sleep(seconds) => format!(
            "Sleep lifecycle hook ({seconds}) {whose} container terminated before sleep hook \
             finished"
        ),
        Action::TcpSocket { .. } | Action::Grpc { .. } => {
            "Cannot run handler: invalid handler".to_owned()
        }
    }
}

/// `kubelet.go`: a container that ran for ten minutes starts over.
const CRASH_FORGOTTEN: Duration = Duration::from_secs(600);

impl PodWorker {
    /// Starts a container. Returns whether there is nothing to wait for.
    pub(super) fn start(&mut self, host: &mut Host, cx: &mut Cx<'_>, index: u16) -> bool {
        let row = self.synced_row();
        let Some(container) = container_of(&row.spec, index) else {
            return true;
        };
        if let Some(why) = self.in_back_off(host, cx, index, container) {
            return self.not_started(index, Fault::CrashLoop, why);
        }
        let attempt = self.next_attempt(index);
        let presence = self.ensure_image(host, cx, container);
        match presence {
            Presence::Here => self.create(host, cx, index, attempt),
            Presence::Missing(fault, why) => {
                let message = format!("Error: {}", fault.reason());
                self.tell(host, cx, true, "Failed", message);
                self.not_started(index, fault, why)
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
                host.pull(cx, container, &row);
                false
            }
        }
    }

    /// The pod as the sync under way knows it.
    fn synced_row(&self) -> Arc<Pod> {
        let run = self.run.as_deref();
        run.map_or(&self.row, |run| &run.row).clone()
    }

    /// `format.Pod`.
    fn printed(&self) -> String {
        let meta = &self.row.meta;
        format!("{}_{}({})", meta.name, meta.namespace, meta.uid)
    }

    /// `doBackOff`: counts from when the container last ended; what is waited for, in words.
    fn in_back_off(
        &mut self,
        host: &mut Host,
        cx: &mut Cx<'_>,
        index: u16,
        container: &Container,
    ) -> Option<String> {
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
        let exit = seen?;
        let back_off = &mut self.remember(at).back_off;
        if !back_off.since_event(exit.at, cx.now, limits) {
            back_off.step(exit.at, cx.now, limits);
            return None;
        }
        let wait = back_off.wait();
        let (name, pod) = (&container.name, self.printed());
        let message = format!("Back-off restarting failed container {name} in pod {pod}");
        self.tell(host, cx, true, "BackOff", message);
        self.fail(SyncError::BackOff(exit.at + wait));
        let wait = go_duration(wait);
        Some(format!(
            "back-off {wait} restarting failed container={name} pod={pod}"
        ))
    }

    /// `GetBackoffKey`: a container with another image has no back-off yet.
    pub(super) fn forget_back_offs(&mut self, old: &Pod) {
        let spec = self.row.spec.clone();
        for (index, memory) in (0..).zip(&mut self.memory) {
            let image = |spec| container_of(spec, index).map(|c: &Container| &c.image);
            if image(&spec) != image(&old.spec) {
                memory.back_off = BackOff::default();
            }
        }
    }

    /// One more than the attempts there were.
    fn next_attempt(&self, index: u16) -> u16 {
        self.record.slot(usize::from(index)).attempts
    }

    /// The start failed: an ordinary init container keeps everything after it from starting.
    fn not_started(&mut self, index: u16, fault: Fault, why: impl Into<Text>) -> bool {
        if fault != Fault::CrashLoop {
            self.fail(SyncError::Other);
        }
        if let Some(run) = self.run.as_deref_mut() {
            let message = why.into();
            run.starts
                .push((index, Some(Box::new(Failure { fault, message }))));
            let init = run.row.spec.init_containers.get(usize::from(index));
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
        let row = self.synced_row();
        let Some(image) = container_of(&row.spec, index).map(|c| &c.image) else {
            return;
        };
        let Err(why) = self.pull_ended(host, cx, image, outcome, took, waited) else {
            if self.create(host, cx, index, attempt) {
                self.go_on(host, cx);
            }
            return;
        };
        let message = format!("Error: {}", Fault::Pull.reason());
        self.tell(host, cx, true, "Failed", message);
        self.not_started(index, Fault::Pull, why);
        self.go_on(host, cx);
    }

    /// The container's environment must be there before it is created.
    fn create(&mut self, host: &mut Host, cx: &mut Cx<'_>, index: u16, attempt: u16) -> bool {
        let row = self.synced_row();
        let Some(container) = container_of(&row.spec, index) else {
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
            return self.not_started(index, Fault::Config, problem);
        }
        let what = Call::StartContainer {
            container: ContainerId {
                pod: self.id,
                index,
                attempt,
            },
            row: row.clone(),
            ip: self.record.ip.unwrap_or_else(|| host.address()),
        };
        // Noted when asked for: the answer may be heard by a later life of the kubelet.
        if let Some(slot) = self.record.slot_mut(index) {
            slot.attempts = attempt.wrapping_add(1);
            slot.asked = definition(container);
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
            this.tell(
                host,
                cx,
                false,
                text!("Created"),
                text!("Container created"),
            );
        };
        match outcome {
            StartOutcome::Ok => {
                self.probes_added = false;
                created(self, host, cx);
                self.tell(
                    host,
                    cx,
                    false,
                    text!("Started"),
                    text!("Container started"),
                );
                self.post_start(host, cx, index, attempt);
            }
            StartOutcome::CreateFailed => {
                self.tell(host, cx, true, "Failed", format!("Error: {CREATE_FAILED}"));
                self.not_started(index, Fault::Create, text!(CREATE_FAILED));
                self.go_on(host, cx);
            }
            StartOutcome::RunFailed => {
                created(self, host, cx);
                self.tell(host, cx, true, "Failed", format!("Error: {RUN_FAILED}"));
                self.not_started(index, Fault::Run, text!(RUN_FAILED));
                self.go_on(host, cx);
            }
        }
    }

    fn post_start(&mut self, host: &mut Host, cx: &mut Cx<'_>, index: u16, attempt: u16) {
        let spec = self.row.spec.clone();
        let hook = container_of(&spec, index).and_then(|c| c.post_start.as_ref());
        let doing = Doing::PostStart(index, attempt);
        match hook {
            None => self.started(host, cx, index),
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
            self.started(host, cx, index);
            return;
        }
        let message = "PostStartHook failed";
        self.tell(host, cx, true, "FailedPostStartHook", message);
        if self.kill_one(host, cx, index, KillWhy::PostStart) {
            self.undone(host, cx, index);
        }
    }

    /// A container whose `postStart` failed has been stopped: goes on.
    pub(super) fn undone(&mut self, host: &mut Host, cx: &mut Cx<'_>, index: u16) {
        let row = self.synced_row();
        let container = container_of(&row.spec, index);
        let hook = container.and_then(|c| Some((c, c.post_start.as_ref()?)));
        let why = hook.map(|(c, hook)| hook_failed(hook, &c.name, &self.printed()));
        self.not_started(index, Fault::PostStart, why.unwrap_or_default());
        self.go_on(host, cx);
    }

    /// A container has been started: goes on.
    pub(super) fn started(&mut self, host: &mut Host, cx: &mut Cx<'_>, index: u16) {
        // There may be no failure to forget.
        if usize::from(index) < self.memory.len()
            && let Some(run) = self.run.as_deref_mut()
        {
            run.starts.push((index, None));
        }
        self.go_on(host, cx);
    }
}
