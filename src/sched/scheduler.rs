//! The scheduler as a component: informer event handlers in front, cycles in the middle, writes
//! out.
//!
//! `handlers` keeps cache and queue up to date (`pkg/scheduler/eventhandlers.go`), `bind` sends
//! what a cycle decided and takes the replies. This module holds the state and runs the cycles.

mod ask;

mod bind;

mod handlers;

mod volumes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

pub use self::ask::Moment;
use self::bind::Pending;
use self::volumes::VolumeWaits;
use super::cache::{Cache, NodeIx};
use super::config::{Point, SchedulerConfig};
use super::cycle::{self, Search, find_nodes};
use super::equal_pods::EqualPods;
use super::explain::NO_NODES;
use super::framework::Framework;
use super::plugin::{Cx, CycleState, Kept, PluginName, PluginSet, PodEntry};
use super::preempt::Preemptor;
use super::queue::{Gate, Nominator, Queue, QueuedPod};
use crate::api::pod_status::{PodCondition, PodConditionKind, Truth};
use crate::api::{Kind, KubeEvent, Pod, Text, text};
use crate::client::Outbox;
use crate::client::budget::Budget;
use crate::engine::Time;
use crate::engine::draws::Draws;
use crate::store::write::Trigger;
use crate::store::{Cause, Id, Origin, Patch, View, Write};

/// Period of the sweep over pods that were unschedulable for long.
const SWEEP: Duration = Duration::from_secs(30);
/// Longest message of a KubeEvent (`validation.NoteLengthLimit`).
const NOTE_LIMIT: usize = 1024;

/// What the scheduler asks to be woken for. The number tells events of a process that crashed since
/// from those of the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Event {
    /// Try the next pod.
    Cycle(u32),
    /// Move pods whose back-off is over (every second while any backs off).
    FlushBackoff(u32),
    /// Retry pods that were unschedulable for too long (every 30 s while there are any).
    FlushUnschedulable(u32),
    /// See whether volumes have been bound (every second for each pod that waits for its own).
    CheckVolumes(u32),
}

const _: () = assert!(size_of::<Event>() <= 8);

/// Which wake-ups are under way.
#[derive(Clone, Copy, Debug, Default)]
struct Timers {
    cycle: bool,
    backoff: bool,
    sweep: bool,
    volumes: Option<Time>,
}

/// Victims of one preemption that are still to be deleted (`preemption.Executor`).
#[derive(Clone, Debug)]
struct Preempting {
    scheduler: Text,
    uid: crate::api::Uid,
    node: Text,
    /// All but the last, which goes when they are done.
    remaining: usize,
    last: PodEntry,
    last_sent: bool,
    failed: bool,
}

/// kube-scheduler.
#[derive(Debug)]
pub struct Scheduler {
    config: SchedulerConfig,
    draws: Draws,
    frameworks: Vec<Framework>,
    cache: Cache,
    queue: Queue,
    nominator: Nominator,
    memo: EqualPods,
    kept: Kept,
    preempting: BTreeMap<u32, Preempting>,
    pending: FxHashMap<u64, Pending>,
    volume_waits: VolumeWaits,
    next_token: u64,
    epoch: u32,
    next_start: usize,
    busy_until: Time,
    started: Time,
    timers: Timers,
    budget: Budget,
    event_budget: Budget,
    trigger: Trigger,
    asked: ask::Asked,
}

/// Keeps gated pods, and pods whose victims are being deleted, out of the active queue.
struct Doors<'a> {
    frameworks: &'a [Framework],
    preempting: &'a BTreeMap<u32, Preempting>,
    view: &'a View,
}

impl Gate for Doors<'_> {
    fn closed(&self, pod: &PodEntry, first: Option<PluginName>) -> Option<PluginName> {
        let name = &pod.pod.spec.scheduler_name;
        let framework = self.frameworks.iter().find(|f| f.name == *name)?;
        if let Err(status) = framework.pre_enqueue(&pod.pod, first) {
            return status.plugin;
        }
        let preempting = self.preempting.get(&pod.id)?;
        if !framework.runs(PluginName::DefaultPreemption, Point::PreEnqueue) {
            return None;
        }
        let last = &preempting.last;
        let row = self.view.pods().get(Id::new(last.id));
        let leaving = row.is_none_or(|p| p.meta.deleting());
        // DefaultPreemption.PreEnqueue with `isRunningPreemption`.
        (!(preempting.last_sent && leaving)).then_some(PluginName::DefaultPreemption)
    }
}

/// Why an attempt failed.
struct Failure {
    message: String,
    /// Rejected by plugins (or by the lack of nodes), rather than by an error.
    unschedulable: bool,
    rejected_by: PluginSet,
    nominate: Option<Text>,
}

impl Failure {
    fn error(message: String) -> Failure {
        Failure {
            message,
            unschedulable: false,
            rejected_by: PluginSet::default(),
            nominate: Some(Text::default()),
        }
    }
}

impl Scheduler {
    /// A scheduler that knows nothing yet; `draws` breaks ties.
    pub fn new(mut config: SchedulerConfig, draws: Draws) -> Self {
        for profile in &mut config.profiles {
            profile.args.policies.seed = draws.seed();
        }
        let mut cache = Cache::default();
        let profiles = config.profiles.iter();
        let frameworks: Vec<_> = profiles.map(|p| Framework::new(p, &mut cache)).collect();
        let kept = Kept {
            spread: config.tuning.spread.then(Box::default),
            affinity: config.tuning.affinity.then(Box::default),
        };
        let queue = Queue::new(&frameworks, config.initial_backoff, config.max_backoff);
        Scheduler {
            budget: Budget::per_second(config.qps, config.burst),
            event_budget: Budget::per_second(config.qps, config.burst),
            config,
            draws,
            frameworks,
            cache,
            queue,
            nominator: Nominator::default(),
            memo: EqualPods::default(),
            kept,
            preempting: BTreeMap::new(),
            pending: FxHashMap::default(),
            volume_waits: VolumeWaits::default(),
            next_token: 0,
            epoch: 0,
            next_start: 0,
            busy_until: Time::ZERO,
            started: Time::ZERO,
            timers: Timers::default(),
            trigger: Trigger::Start,
            asked: ask::Asked::default(),
        }
    }

    /// The first lists: takes in everything that the view has and starts working.
    pub fn start(&mut self, view: &View, now: Time, out: &mut Outbox<Event>) {
        self.started = now;
        self.trigger = Trigger::Start;
        super::explain::load(&mut self.cache, &mut self.nominator, view);
        for (id, pod) in view.pods().iter() {
            if pod.node_name.is_none() && !pod.status.phase.terminal() {
                self.add_waiting(id.0, pod, view, now);
            }
        }
        self.wake(now, out);
    }

    /// The process crashed: forgets everything that is not in the store. Replies to requests and
    /// events of before are ignored; [`Scheduler::start`] begins anew.
    pub fn restart(&mut self) {
        let fresh = Scheduler::new(self.config.clone(), self.draws);
        let (epoch, next_token) = (self.epoch + 1, self.next_token);
        let asked = std::mem::take(&mut self.asked);
        *self = Scheduler {
            epoch,
            next_token,
            asked,
            ..fresh
        };
    }

    /// One of its own events.
    pub fn on_event(&mut self, event: Event, view: &View, now: Time, out: &mut Outbox<Event>) {
        let (Event::Cycle(epoch)
        | Event::FlushBackoff(epoch)
        | Event::FlushUnschedulable(epoch)
        | Event::CheckVolumes(epoch)) = event;
        if epoch != self.epoch {
            return;
        }
        self.trigger = Trigger::Timer;
        match event {
            Event::Cycle(_) => {
                self.timers.cycle = false;
                self.cycle(view, now, out);
            }
            Event::FlushBackoff(_) => {
                self.timers.backoff = false;
                self.queue.flush_backoff(now);
            }
            Event::FlushUnschedulable(_) => {
                self.timers.sweep = false;
                let gate = Doors {
                    frameworks: &self.frameworks,
                    preempting: &self.preempting,
                    view,
                };
                let longest = self.config.max_unschedulable;
                self.queue.flush_unschedulable(now, longest, &gate);
            }
            Event::CheckVolumes(_) => {
                self.timers.volumes = None;
                self.check_volumes(view, now, out);
            }
        }
        self.wake(now, out);
    }

    /// Numbers of waiting pods that are active, back off, and are unschedulable.
    pub fn waiting(&self) -> (usize, usize, usize) {
        self.queue.lengths()
    }

    /// Asks for the wake-ups that are needed and not yet under way.
    fn wake(&mut self, now: Time, out: &mut Outbox<Event>) {
        let second = Duration::from_secs(1);
        if self.queue.ready() && !self.timers.cycle {
            self.timers.cycle = true;
            out.at(self.busy_until.max(now), Event::Cycle(self.epoch));
        }
        if self.queue.backing_off() && !self.timers.backoff {
            self.timers.backoff = true;
            let next = Time::from_secs(now.as_nanos() / 1_000_000_000) + second;
            out.at(next, Event::FlushBackoff(self.epoch));
        }
        if self.queue.has_unschedulable() && !self.timers.sweep {
            self.timers.sweep = true;
            let done = now.since(self.started).as_secs() / SWEEP.as_secs() + 1;
            let next = self.started + Duration::from_secs(done * SWEEP.as_secs());
            out.at(next, Event::FlushUnschedulable(self.epoch));
        }
        if let Some(at) = self.volume_waits.next()
            && self.timers.volumes.is_none_or(|under_way| at < under_way)
        {
            self.timers.volumes = Some(at);
            out.at(at, Event::CheckVolumes(self.epoch));
        }
    }

    fn profile_of(&self, pod: &Pod) -> Option<usize> {
        let name = &pod.spec.scheduler_name;
        self.frameworks.iter().position(|f| f.name == *name)
    }

    /// `ScheduleOne`.
    fn cycle(&mut self, view: &View, now: Time, out: &mut Outbox<Event>) {
        let Some(queued) = self.queue.pop() else {
            return;
        };
        let pod = queued.entry.pod.clone();
        let Some(profile) = self.profile_of(&pod) else {
            return;
        };
        if pod.meta.deleting() {
            let message = format!("skip schedule deleting pod: {}", pod.meta.full_name());
            self.report(&pod, "FailedScheduling", message, true, now, out);
            return;
        }
        if self.cache.has_pod(queued.entry.id) {
            return;
        }
        self.cache.refresh();
        self.nominator.refresh(&self.cache);
        self.remember(&queued.entry, view, now);
        let mut state = CycleState {
            kept: std::mem::take(&mut self.kept),
            ..CycleState::default()
        };
        let (outcome, evaluated) = self.attempt(profile, &queued, &mut state, view, now);
        self.kept = std::mem::take(&mut state.kept);
        self.busy_until = now + self.config.cycle_cost.of(evaluated);
        match outcome {
            Ok(node) => self.assume(profile, queued, &state, node, view, now, out),
            Err((failure, victims)) => {
                let node = failure.nominate.clone().unwrap_or_default();
                let preemptor = queued.entry.clone();
                self.fail(queued, failure, view, now, out);
                self.delete_victims(&preemptor, &node, victims, view, now, out);
            }
        }
    }

    /// `schedulingAlgorithm`: the node, or why there is none and whom to delete for it; and how
    /// many nodes were tried.
    fn attempt(
        &mut self,
        profile: usize,
        queued: &QueuedPod,
        state: &mut CycleState,
        view: &View,
        now: Time,
    ) -> (Result<NodeIx, (Failure, Vec<PodEntry>)>, usize) {
        if self.cache.order().is_empty() {
            let mut failure = Failure::error(NO_NODES.into());
            failure.unschedulable = true;
            return (Err((failure, Vec::new())), 0);
        }
        let framework = &self.frameworks[profile];
        let entry = &queued.entry;
        let cx = Cx {
            view,
            cache: &self.cache,
        };
        let search = Search {
            percentage: self.config.percentage_of_nodes_to_score,
            start: self.next_start,
            nominator: &self.nominator,
            thorough: false,
            choice: (self.config.tuning.ranking).then_some((&self.draws, queued.attempts)),
        };
        let memo = self.config.tuning.memo.then_some(&mut self.memo);
        let memo = |state: &_| memo?.class((profile, framework), &cx, state, entry);
        let (mut found, mut memo) = find_nodes(framework, &cx, state, entry, search, memo);
        self.next_start = found.next_start;
        if let Some(error) = found.error {
            return (Err((Failure::error(error), Vec::new())), found.evaluated);
        }
        let chosen = match found.feasible.as_slice() {
            [] => None,
            [one] => Some(*one),
            many => {
                let totals = match memo.as_deref_mut() {
                    Some(memo) => memo.totals(framework, &cx, state, entry, many),
                    None => {
                        let scores = framework.score(&cx, state, entry, many);
                        cycle::totals(&scores, many.len())
                    }
                };
                Some(many[cycle::select(&self.draws, entry, queued.attempts, &totals)])
            }
        };
        if let Some(ix) = chosen {
            return (Ok(ix), found.evaluated);
        }
        let preemptor = Preemptor {
            framework,
            cx: &cx,
            state,
            pod: entry,
            nominator: &self.nominator,
            args: self.config.profiles[profile].args.preemption,
            now,
            draws: &self.draws,
        };
        let preemption = preemptor.post_filter(&found.diagnosis, memo);
        found.diagnosis.post_filter = preemption.message;
        let failure = Failure {
            message: found.diagnosis.message(self.cache.order().len()),
            unschedulable: true,
            rejected_by: found.diagnosis.rejected_by,
            nominate: preemption.nominate,
        };
        (Err((failure, preemption.victims)), found.evaluated)
    }

    /// `handleSchedulingFailure`: back into the queue, an event, and the pod's condition.
    fn fail(
        &mut self,
        mut queued: QueuedPod,
        failure: Failure,
        view: &View,
        now: Time,
        out: &mut Outbox<Event>,
    ) {
        let id = queued.entry.id;
        queued.rejected_by = failure.rejected_by;
        queued.gated_by = None;
        let row = view.pods().get(Id::new(id)).cloned();
        let waiting = row.as_ref().filter(|p| p.node_name.is_none()).cloned();
        if let Some(pod) = &waiting {
            queued.entry = self.cache.entry(id, pod);
            let named = pod.status.nominated_node.clone();
            let nominate = failure.nominate.clone().or(named).unwrap_or_default();
            self.nominator.add(queued.entry.clone(), &nominate);
            let gate = Doors {
                frameworks: &self.frameworks,
                preempting: &self.preempting,
                view,
            };
            self.queue.add_failed(queued.clone(), now, &gate);
        }
        let pod = row.unwrap_or_else(|| queued.entry.pod.clone());
        let note = truncated(&failure.message);
        self.report(&pod, "FailedScheduling", note, true, now, out);
        if waiting.is_some() {
            self.patch_status(&pod, id, failure, now, out);
        }
    }

    /// `updatePod`: one patch for condition and nomination, none when neither changes.
    fn patch_status(
        &mut self,
        pod: &Pod,
        id: u32,
        failure: Failure,
        now: Time,
        out: &mut Outbox<Event>,
    ) {
        let reason = if failure.unschedulable {
            "Unschedulable"
        } else {
            "SchedulerError"
        };
        let condition = PodCondition {
            kind: PodConditionKind::PodScheduled,
            status: Truth::False,
            since: now,
            reason: Some(reason.into()),
            message: Some(Text::from(failure.message)),
            observed_generation: pod.meta.generation,
        };
        let named = pod.status.nominated_node.clone().unwrap_or_default();
        let nominate = failure.nominate.filter(|n| *n != named);
        let changed = pod.status.clone().set_condition(condition.clone());
        if !changed && nominate.is_none() {
            return;
        }
        let patch = Patch::Scheduling {
            condition: changed.then_some(condition),
            nominate,
        };
        let write = Write::Patch {
            object: Id::<Pod>::new(id).into(),
            uid: Some(pod.meta.uid),
            patch,
        };
        self.send(write, "no node fits", None, now, out);
    }

    /// Sends a request within the budget; the reply finds `pending` again.
    fn send(
        &mut self,
        write: Write,
        rule: &'static str,
        pending: Option<Pending>,
        now: Time,
        out: &mut Outbox<Event>,
    ) {
        let at = self.budget.take(self.busy_until.max(now));
        self.next_token += 1;
        if let Some(pending) = pending {
            self.pending.insert(self.next_token, pending);
        }
        out.send(at, write, self.cause(rule), self.next_token);
    }

    fn cause(&self, rule: &'static str) -> Cause {
        Cause {
            origin: Origin::Scheduler,
            trigger: self.trigger,
            rule,
        }
    }

    /// Reports a KubeEvent about a pod; events have a budget of their own, as upstream's second
    /// client has.
    fn report(
        &mut self,
        pod: &Pod,
        reason: &'static str,
        message: String,
        warning: bool,
        now: Time,
        out: &mut Outbox<Event>,
    ) {
        let event = KubeEvent {
            kind: Kind::Pod,
            namespace: pod.meta.namespace.clone(),
            name: pod.meta.name.clone(),
            uid: pod.meta.uid,
            reason: match reason {
                // Of every pod, sooner or later.
                "Scheduled" => text!("Scheduled"),
                other => Text::literal(other),
            },
            message: Text::from(message),
            warning,
            source: pod.spec.scheduler_name.clone(),
        };
        let at = self.event_budget.take(self.busy_until.max(now));
        self.next_token += 1;
        let cause = self.cause(reason);
        out.send(at, Write::Emit(event.into()), cause, self.next_token);
    }

    /// A pod that waits for a node and that one of the profiles is responsible for.
    fn add_waiting(&mut self, id: u32, pod: &Arc<Pod>, view: &View, now: Time) {
        if self.profile_of(pod).is_none() {
            return;
        }
        let entry = self.cache.entry(id, pod);
        if let Some(node) = &pod.status.nominated_node {
            self.nominator.add(entry.clone(), node);
        }
        let gate = Doors {
            frameworks: &self.frameworks,
            preempting: &self.preempting,
            view,
        };
        self.queue.add(entry, now, &gate);
    }
}

/// `truncateMessage`.
fn truncated(message: &str) -> String {
    if message.len() <= NOTE_LIMIT {
        return message.to_owned();
    }
    let mut end = NOTE_LIMIT - 4;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{} ...", &message[..end])
}
