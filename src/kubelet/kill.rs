//! Stopping containers: hooks, turns, SIGTERM, and SIGKILL when the grace period is over.
//!
//! `pkg/kubelet/kuberuntime/kuberuntime_container.go :: killContainer` and
//! `kuberuntime_termination_order.go`. Upstream has a goroutine for each container that is being
//! stopped; here each is a [`Kill`] with a stage and a timer.

use std::time::Duration;

use super::actions::KillWhy;
use super::agent::Event;
use super::host::{Cx, Host};
use super::pod_worker::{Doing, PodWorker, Work};
use super::record::Sandbox;
use super::runtime::{Call, ContainerId, Hook, RuntimeEvent, Signal, container_of};
use crate::api::probe::Action;
use crate::api::text;
use crate::engine::Time;

/// `kuberuntime_manager.go :: minimumGracePeriodInSeconds`.
const MIN_GRACE_S: i64 = 2;

/// A container that is being stopped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kill {
    index: u16,
    attempt: u16,
    /// What is left of the grace period, in whole seconds.
    grace_s: i64,
    stage: Stage,
    /// When the stage began, and when its timer fires.
    since: Time,
    due: Time,
    /// Whether it waits for its turn (pods with sidecars).
    ordered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    PreStop,
    Turn,
    Term,
    Kill,
}

impl PodWorker {
    /// `killPodWithSyncResult`: stops all containers seen running at once, then the sandbox.
    /// Returns whether there was nothing to wait for.
    pub(super) fn stop_all(
        &mut self,
        host: &mut Host,
        cx: &mut Cx<'_>,
        grace_s: Option<u32>,
    ) -> bool {
        let Some(run) = self.run.as_deref() else {
            return true;
        };
        let running: Vec<(u16, u16)> = (0u16..)
            .zip(&run.record.containers)
            .filter_map(|(i, slot)| Some((i, slot.current.filter(|c| c.running())?.number)))
            .collect();
        let ordered = self
            .row
            .spec
            .init_containers
            .iter()
            .any(|c| c.restart_always);
        // All are listed before any begins, since turns depend on who else is being stopped.
        for (index, attempt) in &running {
            self.kills.push(Kill {
                index: *index,
                attempt: *attempt,
                grace_s: 0,
                stage: Stage::PreStop,
                since: cx.now,
                due: Time::MAX,
                ordered,
            });
        }
        for (index, _) in running {
            self.begin_kill(host, cx, index, KillWhy::Stop, grace_s);
        }
        self.wait_for(cx, Doing::Stop, None);
        self.all_stopped(host, cx)
    }

    /// When no container is being stopped any more: tears the sandbox down. Returns whether there
    /// is nothing to wait for.
    fn all_stopped(&mut self, host: &mut Host, cx: &mut Cx<'_>) -> bool {
        if !self.kills.is_empty() {
            return false;
        }
        if self.record.sandbox == Sandbox::Ready {
            self.wait_for(cx, Doing::Teardown, None);
            host.ask(cx, Call::RemovePod { pod: self.id });
            return false;
        }
        if self
            .run
            .as_ref()
            .is_some_and(|run| run.work == Work::Terminating)
        {
            self.stopped(host, cx);
            return false;
        }
        true
    }

    /// Stops one container. Returns whether there was nothing to wait for.
    pub(super) fn kill_one(
        &mut self,
        host: &mut Host,
        cx: &mut Cx<'_>,
        index: u16,
        why: KillWhy,
    ) -> bool {
        let at = usize::from(index);
        // A failed hook is the new container's; otherwise it is the one that the sync saw.
        let record = match (why, self.run.as_deref()) {
            (KillWhy::PostStart, _) | (_, None) => &self.record,
            (_, Some(run)) => &run.record,
        };
        let Some(attempt) = record.slot(at).current else {
            return true;
        };
        self.kills.push(Kill {
            index,
            attempt: attempt.number,
            grace_s: 0,
            stage: Stage::PreStop,
            since: cx.now,
            due: Time::MAX,
            ordered: false,
        });
        self.wait_for(cx, Doing::Nothing, None);
        // Without a grace period no hook is run.
        let grace = (why == KillWhy::RestartAll).then_some(0);
        self.begin_kill(host, cx, index, why, grace);
        let doing = match why {
            KillWhy::PostStart => Doing::Undo(index),
            _ => Doing::Kill(index),
        };
        self.wait_for(cx, doing, None);
        self.kill_of(index).is_none()
    }

    fn kill_of(&self, index: u16) -> Option<usize> {
        self.kills.iter().position(|k| k.index == index)
    }

    fn begin_kill(
        &mut self,
        host: &mut Host,
        cx: &mut Cx<'_>,
        index: u16,
        why: KillWhy,
        grace_s: Option<u32>,
    ) {
        let spec = self.row.spec.clone();
        let Some(container) = container_of(&spec, index) else {
            return;
        };
        self.tell(
            host,
            cx,
            false,
            text!("Killing"),
            why.message(&container.name),
        );
        let grace = i64::from(grace_s.unwrap_or_else(|| self.grace_for(index, why)));
        let Some(at) = self.kill_of(index) else {
            return;
        };
        self.kills[at].grace_s = grace;
        let Some(hook) = container.pre_stop.as_ref().filter(|_| grace > 0) else {
            self.take_turn(host, cx, index);
            return;
        };
        let mut limit = Duration::from_secs(grace.unsigned_abs());
        match hook {
            Action::Sleep(seconds) => limit = limit.min(Duration::from_secs((*seconds).into())),
            _ => {
                let container = ContainerId {
                    pod: self.id,
                    index,
                    attempt: self.kills[at].attempt,
                };
                let what = Call::Hook {
                    container,
                    hook: Hook::PreStop,
                    spec: spec.clone(),
                    ip: self.record.ip.unwrap_or_else(|| host.address()),
                };
                host.ask(cx, what);
            }
        }
        self.stage(cx, at, Stage::PreStop, limit);
    }

    /// `setTerminationGracePeriod`.
    fn grace_for(&self, index: u16, why: KillWhy) -> u32 {
        if let Some(deletion) = self.row.meta.deletion {
            return deletion.grace_s;
        }
        let container = container_of(&self.row.spec, index);
        let probe = match why {
            KillWhy::Liveness(_) | KillWhy::SidecarLiveness => {
                container.and_then(|c| c.liveness.as_ref())
            }
            KillWhy::Startup(_) | KillWhy::SidecarStartup => {
                container.and_then(|c| c.startup.as_ref())
            }
            _ => None,
        };
        probe
            .and_then(|p| p.termination_grace_s)
            .unwrap_or(self.row.spec.grace_s)
    }

    fn stage(&mut self, cx: &mut Cx<'_>, at: usize, stage: Stage, limit: Duration) {
        let kill = &mut self.kills[at];
        kill.stage = stage;
        kill.since = cx.now;
        kill.due = cx.now + limit;
        let (pod, index) = (self.id, kill.index);
        cx.out.at(kill.due, Event::Kill { pod, index });
    }

    /// A stage is over: what it took is taken from the grace period, in whole seconds.
    fn spend(&mut self, cx: &Cx<'_>, at: usize) {
        let kill = &mut self.kills[at];
        let spent = i64::try_from(cx.now.since(kill.since).as_secs()).unwrap_or(i64::MAX);
        kill.grace_s = kill.grace_s.saturating_sub(spent);
    }

    /// Sidecars wait until the ordinary containers, and the sidecars after them, have stopped.
    fn take_turn(&mut self, host: &mut Host, cx: &mut Cx<'_>, index: u16) {
        let Some(at) = self.kill_of(index) else {
            return;
        };
        let kill = self.kills[at];
        if kill.ordered && kill.grace_s > 0 && self.must_wait(index) {
            let limit = Duration::from_secs(kill.grace_s.unsigned_abs());
            self.stage(cx, at, Stage::Turn, limit);
            return;
        }
        self.terminate(host, cx, index);
    }

    fn must_wait(&self, index: u16) -> bool {
        let inits = &self.row.spec.init_containers;
        let sidecar = |i: u16| inits.get(usize::from(i)).is_some_and(|c| c.restart_always);
        if !sidecar(index) {
            return false;
        }
        // The next sidecar alone is waited for; it waits for those after it.
        let next = (index + 1..).take(inits.len()).find(|i| sidecar(*i));
        let main = |i: u16| usize::from(i) >= inits.len();
        self.kills
            .iter()
            .any(|k| main(k.index) || Some(k.index) == next)
    }

    /// `StopContainer`: SIGTERM now, SIGKILL when the rest of the grace period is over.
    fn terminate(&mut self, host: &mut Host, cx: &mut Cx<'_>, index: u16) {
        let Some(at) = self.kill_of(index) else {
            return;
        };
        let kill = self.kills[at];
        let running = self
            .record
            .attempt_mut(index, kill.attempt)
            .is_some_and(|a| a.running());
        if !running {
            self.killed(host, cx, at);
            return;
        }
        self.signal(host, cx, kill, Signal::Term);
        let grace = kill.grace_s.max(MIN_GRACE_S);
        self.stage(
            cx,
            at,
            Stage::Term,
            Duration::from_secs(grace.unsigned_abs()),
        );
    }

    fn signal(&self, host: &Host, cx: &mut Cx<'_>, kill: Kill, signal: Signal) {
        let container = ContainerId {
            pod: self.id,
            index: kill.index,
            attempt: kill.attempt,
        };
        host.ask(cx, Call::Signal { container, signal });
    }

    /// The timer of a container that is being stopped.
    pub(super) fn on_kill_timer(&mut self, host: &mut Host, cx: &mut Cx<'_>, index: u16) {
        let Some(at) = self
            .kill_of(index)
            .filter(|at| self.kills[*at].due == cx.now)
        else {
            return;
        };
        match self.kills[at].stage {
            Stage::PreStop => self.pre_stop_done(host, cx, at, true),
            Stage::Turn => {
                self.spend(cx, at);
                self.terminate(host, cx, index);
            }
            Stage::Term => {
                self.kills[at].stage = Stage::Kill;
                self.kills[at].due = Time::MAX;
                self.signal(host, cx, self.kills[at], Signal::Kill);
            }
            Stage::Kill => {}
        }
    }

    /// A `preStop` hook was answered.
    pub(super) fn on_pre_stop(
        &mut self,
        host: &mut Host,
        cx: &mut Cx<'_>,
        container: ContainerId,
        ok: bool,
    ) {
        let Some(at) = self.kill_of(container.index) else {
            return;
        };
        let kill = self.kills[at];
        if kill.attempt != container.attempt {
            return;
        }
        if kill.stage == Stage::PreStop {
            self.pre_stop_done(host, cx, at, ok);
        } else if !ok {
            // It had taken too long, and has now been cut off.
            self.tell_pre_stop_failed(host, cx);
        }
    }

    fn pre_stop_done(&mut self, host: &mut Host, cx: &mut Cx<'_>, at: usize, ok: bool) {
        if !ok {
            self.tell_pre_stop_failed(host, cx);
        }
        self.spend(cx, at);
        self.take_turn(host, cx, self.kills[at].index);
    }

    fn tell_pre_stop_failed(&mut self, host: &mut Host, cx: &mut Cx<'_>) {
        let message = "PreStopHook failed";
        self.tell(host, cx, true, "FailedPreStopHook", message);
    }

    /// A container ended, by itself or because it was told to.
    pub(super) fn on_exited(
        &mut self,
        host: &mut Host,
        cx: &mut Cx<'_>,
        container: ContainerId,
        (code, oom): (u8, bool),
    ) {
        let (index, number) = (container.index, container.attempt);
        let running = self.record.attempt_mut(index, number);
        if !running.is_some_and(|a| a.running()) {
            return;
        }
        let event = RuntimeEvent::Exited {
            container,
            code,
            oom,
        };
        let now = cx.now;
        self.changing(host, cx).hear(event, now);
        if let Some(at) = self.kill_of(index)
            && self.kills[at].attempt == number
            && matches!(self.kills[at].stage, Stage::Term | Stage::Kill)
        {
            self.killed(host, cx, at);
        }
    }

    /// A container has been stopped: others may have their turn, and the sync goes on.
    fn killed(&mut self, host: &mut Host, cx: &mut Cx<'_>, at: usize) {
        let index = self.kills.remove(at).index;
        let waiting: Vec<u16> = self
            .kills
            .iter()
            .filter(|k| k.stage == Stage::Turn)
            .map(|k| k.index)
            .collect();
        for other in waiting {
            if !self.must_wait(other)
                && let Some(at) = self.kill_of(other)
            {
                self.spend(cx, at);
                self.terminate(host, cx, other);
            }
        }
        self.after_kill(host, cx, index);
    }

    fn after_kill(&mut self, host: &mut Host, cx: &mut Cx<'_>, index: u16) {
        match self.run.as_ref().map(|run| run.doing) {
            Some(Doing::Kill(i)) if i == index => self.go_on(host, cx),
            Some(Doing::Undo(i)) if i == index => {
                self.undone(host, cx, index);
            }
            Some(Doing::Stop) if self.all_stopped(host, cx) => self.go_on(host, cx),
            _ => {}
        }
    }

    /// The sandbox is gone, and with it whatever still ran in it.
    pub(super) fn on_removed(&mut self, host: &mut Host, cx: &mut Cx<'_>) {
        let now = cx.now;
        if self.record.sandbox == Sandbox::Ready {
            host.free_address(self);
        }
        self.changing(host, cx).removed(now);
        let Some(run) = self.run.as_ref().filter(|run| run.doing == Doing::Teardown) else {
            return;
        };
        if run.work == Work::Terminating {
            self.stopped(host, cx);
        } else {
            self.go_on(host, cx);
        }
    }
}
