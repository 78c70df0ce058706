//! Pod workers: one pod at a time from admission to its last status.
//!
//! `pkg/kubelet/pod_workers.go`. A worker goes from syncing to terminating to terminated, never
//! back. It works on one sync at a time; whatever happens meanwhile is one pending update, taken up
//! when the sync has ended and the runtime has been listed since. Nothing begins inside of
//! something else: updates only mark the worker, and [`PodWorker::settle`] begins what is due.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use thin_vec::ThinVec;

use super::actions::KillWhy;
use super::agent::Event;
use super::host::{Cx, Host};
use super::kill::Kill;
use super::probes::ProbeWorker;
use super::record::{Record, Sandbox};
use super::rounds::Noted;
use super::start::Failure;
use super::telling::{About, Quiet};
use super::usage::Usage;
use crate::api::pod_status::PodStatus;
use crate::api::{Kind, Pod, Shared, Text};
use crate::client::back_off::BackOff;
use crate::engine::Time;
use crate::engine::draws::{Purpose, entity_key};
use crate::store::Id;

const REQUEUE: Purpose = Purpose::new("kubelet/requeue");
/// `pod_workers.go :: workerResyncIntervalJitterFactor` and `workerBackOffPeriodJitterFactor`.
const JITTER: f64 = 0.5;

/// How far a pod is (`PodWorkerState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    /// Containers are started and kept running.
    Sync,
    /// No container is started any more; those that run are stopped.
    Terminating,
    /// No container runs; the last status is on its way.
    Terminated,
    /// Nothing more will be done.
    Finished,
}

/// A request to end a pod (`KillPodOptions`).
#[derive(Clone, Debug)]
pub(super) struct End {
    /// Overrides the grace period, in seconds.
    pub(super) grace_s: Option<u32>,
    /// Set when the node ends the pod by itself.
    pub(super) ending: Option<Ending>,
}

/// What the status of a pod says that its node ended (`KillPodOptions.PodStatusFunc`).
#[derive(Clone, Debug)]
pub(super) struct Ending {
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// The message of its condition `DisruptionTarget`; none is not set for what the pod is itself
    /// to blame for.
    pub(super) disruption: Option<String>,
    /// A pod that has succeeded stays so.
    pub(super) keeps_success: bool,
}

/// The status manager's copy of a status.
#[derive(Clone, Debug)]
pub(super) enum Copy {
    /// There is none.
    None,
    /// It differs from what the API server shows, or did when last looked at.
    Own(Shared<PodStatus>),
    /// It is what the API server shows.
    Row,
}

/// What the process remembers about a container.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    pub(super) back_off: BackOff,
    /// Why its last start failed (`reason_cache.go`).
    pub(super) failure: Option<Box<Failure>>,
}

/// One sync under way.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) work: Work,
    /// The pod as it was known when the sync began.
    pub(super) row: Arc<Pod>,
    /// What the runtime was seen to run when the sync began.
    pub(super) record: Record,
    /// The first one last.
    pub(super) steps: Steps,
    pub(super) doing: Doing,
    /// When the timer of what is being done fires; [`Time::MAX`] when it has none.
    pub(super) due: Time,
    /// Whether the sync asked anything of the runtime.
    pub(super) acted: bool,
    pub(super) error: Option<SyncError>,
    /// When the pull under way was asked for.
    pub(super) asked: Time,
    /// Starts that were tried, and how they went.
    pub(super) starts: Vec<(u16, Option<Box<Failure>>)>,
}

/// Why a sync failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyncError {
    /// A container must not start before this instant.
    BackOff(Time),
    /// Anything else.
    Other,
}

/// What a sync still has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    KillPod,
    Kill(u16, KillWhy),
    /// Remove what the runtime has of a container.
    Reset(u16),
    Sandbox,
    Start(u16),
}

pub(super) type Steps = SmallVec<[Step; 4]>;

/// What a sync waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Nothing,
    Mount,
    /// All containers to stop.
    Stop,
    Kill(u16),
    Sandbox,
    Pull(u16, u16),
    Start(u16, u16),
    PostStart(u16, u16),
    /// A container whose `postStart` failed to stop.
    Undo(u16),
    /// The sandbox to go.
    Teardown,
}

/// Volumes that cannot be mounted yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mount {
    pub(super) since: Time,
    pub(super) retry_at: Time,
    pub(super) wait: Duration,
}

/// What the last relist saw of a pod, and when it became out of date.
#[derive(Clone, Debug)]
pub(super) struct Lag {
    since: Time,
    record: Record,
}

/// The worker of one pod, and what the runtime reports about it.
#[derive(Debug)]
pub(super) struct PodWorker {
    pub(super) id: Id<Pod>,
    /// The pod as last seen through the watch.
    pub(super) row: Arc<Pod>,
    /// Whether the API server still has it.
    pub(super) in_config: bool,
    /// The runtime's truth.
    pub(super) record: Record,
    /// What the last relist saw, while that differs.
    pub(super) lag: Option<Box<Lag>>,
    pub(super) work: Work,
    /// Not admitted, so no worker runs.
    pub(super) rejected: bool,
    pub(super) ending: Option<Box<Ending>>,
    /// Pods that have to be dead before this one begins.
    pub(super) waits_for: Box<[Id<Pod>]>,
    /// Effective grace period in seconds; 0 before one was determined.
    pub(super) grace_s: u32,
    /// An update waits for the worker.
    pub(super) pending: bool,
    pub(super) run: Option<Box<Run>>,
    /// When the last sync ended.
    pub(super) synced: Option<Time>,
    /// The pod was listed by itself since then.
    pub(super) fresh: bool,
    /// When the work queue's entry is due; [`Time::MAX`] without one.
    pub(super) wake_at: Time,
    /// When the tick after `activeDeadlineSeconds` is.
    pub(super) deadline_at: Time,
    pub(super) mount: Option<Box<Mount>>,
    pub(super) mounted: bool,
    pub(super) probes_added: bool,
    pub(super) probes: ThinVec<ProbeWorker>,
    pub(super) kills: ThinVec<Kill>,
    pub(super) memory: ThinVec<Memory>,
    /// Counts the worker's draws.
    pub(super) draws: u32,
    /// The status manager's copy, its version, and the version that the API server has.
    pub(super) status: Copy,
    pub(super) version: u32,
    pub(super) sent: u32,
    /// The status was made when all containers had ended, and nothing was recorded since.
    pub(super) ended: bool,
    /// The worker has finished with the pod (`podIsFinished`).
    pub(super) finished: bool,
    /// Asked to be sent.
    pub(super) queued: bool,
    pub(super) quiet: Quiet,
    /// In which lists of the kubelet's rounds it stands.
    pub(super) noted: Noted,
    /// As measured last.
    pub(super) usage: Option<Box<Usage>>,
}

impl PodWorker {
    pub(super) fn new(id: Id<Pod>, row: Arc<Pod>, record: Record) -> PodWorker {
        PodWorker {
            id,
            row,
            in_config: true,
            record,
            lag: None,
            work: Work::Sync,
            rejected: false,
            ending: None,
            waits_for: Box::default(),
            grace_s: 0,
            pending: false,
            run: None,
            synced: None,
            fresh: false,
            wake_at: Time::MAX,
            deadline_at: Time::MAX,
            mount: None,
            mounted: false,
            probes_added: false,
            probes: ThinVec::new(),
            kills: ThinVec::new(),
            memory: ThinVec::new(),
            draws: 0,
            status: Copy::None,
            version: 0,
            sent: 0,
            ended: false,
            finished: false,
            queued: false,
            quiet: Quiet::default(),
            noted: Noted::default(),
            usage: None,
        }
    }

    /// The status manager's copy of the status, if it has one.
    pub(super) fn status(&self) -> Option<&Shared<PodStatus>> {
        match &self.status {
            Copy::None => None,
            Copy::Own(status) => Some(status),
            Copy::Row => Some(&self.row.status),
        }
    }

    /// What the process remembers about the container at `index`.
    pub(super) fn remember(&mut self, index: usize) -> &mut Memory {
        while self.memory.len() <= index {
            self.memory.push(Memory::default());
        }
        &mut self.memory[index]
    }

    /// What the last relist saw.
    pub(super) fn seen(&self) -> &Record {
        self.lag.as_ref().map_or(&self.record, |lag| &lag.record)
    }

    /// The runtime told something: from here on the record is ahead of the last relist.
    pub(super) fn changing(&mut self, host: &mut Host, cx: &mut Cx<'_>) -> &mut Record {
        if self.lag.is_none() {
            self.lag = Some(Box::new(Lag {
                since: cx.now,
                record: self.record.clone(),
            }));
        }
        // While a sync is under way a relist could only note that another has to follow.
        if self.run.is_none() {
            host.arm_relist(cx);
        }
        self.ended = false;
        &mut self.record
    }

    /// Tells about the pod.
    pub(super) fn tell(
        &mut self,
        host: &mut Host,
        cx: &mut Cx<'_>,
        warning: bool,
        reason: impl Into<Text>,
        message: impl Into<Text>,
    ) {
        let about = About {
            kind: Kind::Pod,
            meta: &self.row.meta,
        };
        host.tell(cx, about, &mut self.quiet, warning, reason, message);
    }

    /// `podWorkers.UpdatePod`: marks the worker, and moves it to terminating when the pod is being
    /// deleted, has ended, or is killed.
    pub(super) fn update(&mut self, host: &mut Host, cx: &mut Cx<'_>, end: Option<End>) {
        if self.work == Work::Finished {
            return;
        }
        if self.synced.is_none() && self.run.is_none() && !self.pending {
            self.meet_terminal();
        }
        if self.work == Work::Sync {
            let phase = self.row.status.phase;
            if self.row.meta.deleting() || phase.terminal() || end.is_some() {
                self.work = Work::Terminating;
                self.cancel(host, cx);
            }
        }
        if self.work == Work::Terminating {
            let asked = end.as_ref().and_then(|end| end.grace_s);
            self.grace_s = self.effective_grace(asked);
            if let Some(ending) = end.and_then(|end| end.ending) {
                self.ending.get_or_insert(Box::new(ending));
            }
        }
        self.rejected = false;
        self.pending = true;
    }

    /// A pod seen for the first time that has ended, with nothing of it running, was terminated by
    /// an earlier life of the kubelet.
    fn meet_terminal(&mut self) {
        let record = self.seen();
        let idle = !record.any_running() && record.sandbox != Sandbox::Ready;
        if self.row.status.phase.terminal() && idle {
            self.work = Work::Terminated;
        }
    }

    /// `calculateEffectiveGracePeriod`: it can only get shorter, and is never 0.
    fn effective_grace(&self, asked: Option<u32>) -> u32 {
        let given = self.row.meta.deletion.map(|d| d.grace_s);
        let mut grace = self.grace_s;
        let mut overridden = false;
        for shorter in [given, asked].into_iter().flatten() {
            if grace == 0 || shorter < grace {
                grace = shorter;
                overridden = true;
            }
        }
        if !overridden && grace == 0 {
            grace = self.row.spec.grace_s;
        }
        grace.max(1)
    }

    /// The context of a sync is cancelled: only waiting for volumes listens to that.
    fn cancel(&mut self, host: &mut Host, cx: &mut Cx<'_>) {
        if self
            .run
            .as_ref()
            .is_some_and(|run| run.doing == Doing::Mount)
        {
            self.end_run(host, cx, false);
        }
    }

    /// Begins what is due, until nothing is.
    pub(super) fn settle(&mut self, host: &mut Host, cx: &mut Cx<'_>) {
        let free = self.waits_for.is_empty();
        while free && self.pending && self.run.is_none() && self.work != Work::Finished {
            let listed = self
                .synced
                .is_none_or(|synced| self.fresh || host.relists.last(cx.now) > synced);
            if !listed {
                host.arm_relist(cx);
                return;
            }
            self.pending = false;
            self.begin(host, cx);
        }
    }

    fn begin(&mut self, host: &mut Host, cx: &mut Cx<'_>) {
        self.run = Some(Box::new(Run {
            work: self.work,
            row: self.row.clone(),
            record: self.seen().clone(),
            steps: Steps::new(),
            doing: Doing::Nothing,
            due: Time::MAX,
            acted: false,
            error: None,
            asked: cx.now,
            starts: Vec::new(),
        }));
        match self.work {
            Work::Sync => self.sync(host, cx),
            Work::Terminating => self.sync_terminating(host, cx),
            Work::Terminated => self.sync_terminated(host, cx),
            Work::Finished => {}
        }
    }

    /// What was waited for has come: goes on with the sync's next steps.
    pub(super) fn go_on(&mut self, host: &mut Host, cx: &mut Cx<'_>) {
        loop {
            let Some(run) = self.run.as_deref_mut() else {
                return;
            };
            run.doing = Doing::Nothing;
            run.due = Time::MAX;
            let Some(step) = run.steps.pop() else {
                self.end_run(host, cx, false);
                return;
            };
            run.acted = true;
            let done = match step {
                Step::KillPod => self.stop_all(host, cx, None),
                Step::Kill(index, why) => self.kill_one(host, cx, index, why),
                Step::Reset(index) => self.reset_one(host, cx, index),
                Step::Sandbox => self.make_sandbox(host, cx),
                Step::Start(index) => self.start(host, cx, index),
            };
            if !done {
                return;
            }
        }
    }

    /// Sets what the sync waits for, with a timer for [`Event::Step`] when `due` is given.
    pub(super) fn wait_for(&mut self, cx: &mut Cx<'_>, doing: Doing, due: Option<Time>) {
        if let Some(run) = self.run.as_deref_mut() {
            run.doing = doing;
            run.due = due.unwrap_or(Time::MAX);
            if let Some(due) = due {
                cx.out.at(due, Event::Step { pod: self.id });
            }
        }
    }

    /// The sync has ended (`podWorkerLoop` after its inner function): the next kind of work, or
    /// when to come again. `terminal` says that the pod was found to have ended.
    pub(super) fn end_run(&mut self, host: &mut Host, cx: &mut Cx<'_>, terminal: bool) {
        let Some(run) = self.run.take() else {
            return;
        };
        for (index, failure) in run.starts {
            let index = usize::from(index);
            self.remember(index).failure = failure;
        }
        self.synced = Some(cx.now);
        self.fresh = false;
        if run.work == Work::Sync && run.acted && run.error.is_none() {
            self.relist_now(host, cx);
        }
        match (run.work, run.error) {
            (Work::Terminated, None) => {
                self.work = Work::Finished;
                self.pending = false;
                // Nothing is started or stopped any more; there may be many such pods for long.
                self.memory = ThinVec::new();
                self.kills = ThinVec::new();
                self.lag = None;
                return;
            }
            (Work::Terminating, None) => {
                self.work = Work::Terminated;
                self.pending = true;
            }
            (Work::Sync, None) if terminal => {
                self.work = self.work.max(Work::Terminating);
                self.pending = true;
            }
            _ => {}
        }
        if let Some(error) = run.error {
            self.requeue(host, cx, error);
        }
        self.look_back(host, cx);
    }

    /// What the relists would have found during the sync that has ended.
    fn look_back(&mut self, host: &mut Host, cx: &mut Cx<'_>) {
        let Some(lag) = &self.lag else {
            return;
        };
        if host.relists.after(lag.since) <= cx.now {
            self.on_relist(host, cx);
        } else {
            host.arm_relist(cx);
        }
    }

    /// `completeWork` after an error. Upstream also syncs each healthy pod again after 60 to 90 s;
    /// such a sync finds nothing to do, so it is left out.
    fn requeue(&mut self, host: &mut Host, cx: &mut Cx<'_>, error: SyncError) {
        let wait = match error {
            SyncError::BackOff(until) => until.since(cx.now).min(host.config.sync_period),
            SyncError::Other => host.config.back_off_period,
        };
        let entity = entity_key(&[&self.row.meta.namespace, &self.row.meta.name]);
        let wait = Host::jitter(cx, REQUEUE, entity, self.draws.into(), wait, JITTER);
        self.draws += 1;
        // The sync loop's tick takes entries that were due before it.
        self.wake_at = host.ticks.after(cx.now + wait);
        cx.out.at(self.wake_at, Event::Wake { pod: self.id });
    }

    /// The entry in the work queue, or the active deadline, is due.
    pub(super) fn on_wake(&mut self, host: &mut Host, cx: &mut Cx<'_>) {
        let due = self.wake_at == cx.now || self.deadline_at == cx.now;
        if self.wake_at == cx.now {
            self.wake_at = Time::MAX;
        }
        if due && self.in_config {
            self.update(host, cx, None);
        }
    }

    /// `PLEGOnDemandRelist`: the pod is listed by itself after a sync that changed something.
    fn relist_now(&mut self, host: &mut Host, cx: &mut Cx<'_>) {
        self.fresh = true;
        self.on_relist(host, cx);
    }

    /// The runtime was listed: a change of the pod's containers is an update.
    pub(super) fn on_relist(&mut self, host: &mut Host, cx: &mut Cx<'_>) {
        let Some(old) = self.lag.take() else {
            return;
        };
        if old.record != self.record && self.in_config {
            self.update(host, cx, None);
        }
    }
}
