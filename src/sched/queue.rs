//! Pods that wait for a node (`pkg/scheduler/backend/queue`).
//!
//! A pod is in one of four places: active (tried next, by priority and age), backing off after a
//! failed attempt, backing off after an error, or unschedulable until an event of the cluster makes
//! another attempt worthwhile. Which events do is asked of the plugins that rejected the pod. When
//! nothing is active, pods that back off are taken early (`SchedulerPopFromBackoffQ`, on since
//! 1.33).
//!
//! A decision is made in one instant here, the one at which the pod leaves the queue and upstream
//! takes its snapshot, and the pod is back in the queue in that instant when it fails. So what
//! happens while the cycle is still taking its time finds the pod waiting and is put to it at once;
//! upstream keeps such events in a list and puts them to the pod when it comes back
//! (`inFlightEvents`), which comes to the same. A pod that is being bound is in neither: an error
//! there backs off whatever happened meanwhile.

mod nominator;

pub use nominator::Nominator;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::events::{ClusterEvent, Involved};
use super::framework::Framework;
use super::plugin::{Cx, PluginName, PluginSet, PodEntry};
use crate::api::Text;
use crate::engine::Time;

/// A waiting pod.
#[derive(Clone, Debug)]
pub struct QueuedPod {
    /// The pod.
    pub entry: PodEntry,
    /// When it entered the queue for its current attempt.
    pub since: Time,
    /// Attempts so far.
    pub attempts: u32,
    /// Attempts that ended with a refusal by a plugin.
    pub unschedulable_count: u32,
    /// Attempts in a row that ended with an error.
    pub error_count: u32,
    /// Plugins that rejected it in its last attempt, or hold it back.
    pub rejected_by: PluginSet,
    /// The plugin that keeps it out of the active queue.
    pub gated_by: Option<PluginName>,
    backoff_until: Option<Time>,
}

/// Where a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Active,
    Backoff,
    ErrorBackoff,
    Unschedulable,
}

/// Priority, age, number: the order of the active queue (`PrioritySort.Less`).
type Rank = (Reverse<i32>, Time, u32);

/// Decides for which plugins' sake a pod may not become active now; the framework's PreEnqueue
/// plugins and, while victims are being deleted, preemption.
pub trait Gate {
    /// The plugin that holds the pod back, if any; `first` is asked first.
    fn closed(&self, pod: &PodEntry, first: Option<PluginName>) -> Option<PluginName>;
}

/// The waiting pods of all profiles.
#[derive(Debug)]
pub struct Queue {
    pods: FxHashMap<u32, (QueuedPod, Place)>,
    active: BTreeSet<Rank>,
    backoff: BTreeSet<(Time, Rank)>,
    error_backoff: BTreeSet<(Time, Rank)>,
    unschedulable: BTreeSet<u32>,
    initial_backoff: Duration,
    max_backoff: Duration,
    /// Registered events per profile.
    events: BTreeMap<Text, Vec<(PluginName, &'static [ClusterEvent])>>,
}

fn rank(pod: &QueuedPod) -> Rank {
    (
        Reverse(pod.entry.pod.spec.priority),
        pod.since,
        pod.entry.id,
    )
}

/// Back-off times are whole seconds, so that pods which failed together are tried in order of
/// priority (`backoffQOrderingWindowDuration`).
fn window(time: Time) -> Time {
    Time::from_secs(time.as_nanos() / 1_000_000_000)
}

impl Queue {
    /// An empty queue for these profiles.
    pub fn new(frameworks: &[Framework], initial: Duration, max: Duration) -> Queue {
        let events = frameworks.iter();
        Queue {
            pods: FxHashMap::default(),
            active: BTreeSet::new(),
            backoff: BTreeSet::new(),
            error_backoff: BTreeSet::new(),
            unschedulable: BTreeSet::new(),
            initial_backoff: initial,
            max_backoff: max,
            events: events
                .map(|f| (f.name.clone(), f.events().collect()))
                .collect(),
        }
    }

    /// Whether a pod can be popped.
    pub fn ready(&self) -> bool {
        !self.active.is_empty() || !self.backoff.is_empty()
    }

    /// Whether any pod backs off.
    pub fn backing_off(&self) -> bool {
        !self.backoff.is_empty() || !self.error_backoff.is_empty()
    }

    /// Whether any pod is unschedulable.
    pub fn has_unschedulable(&self) -> bool {
        !self.unschedulable.is_empty()
    }

    /// Numbers of pods that are active, back off, and are unschedulable.
    pub fn lengths(&self) -> (usize, usize, usize) {
        let backoff = self.backoff.len() + self.error_backoff.len();
        (self.active.len(), backoff, self.unschedulable.len())
    }

    /// The waiting pod of this number.
    pub fn get(&self, id: u32) -> Option<&QueuedPod> {
        self.pods.get(&id).map(|(pod, _)| pod)
    }

    /// Whether the pod waits.
    pub fn has(&self, id: u32) -> bool {
        self.pods.contains_key(&id)
    }

    /// The next pod; it leaves the queue.
    pub fn pop(&mut self) -> Option<QueuedPod> {
        let (_, _, id) = match self.active.first() {
            Some(rank) => *rank,
            None => self.backoff.first()?.1,
        };
        let mut pod = self.remove(id)?;
        pod.attempts += 1;
        Some(pod)
    }

    /// A new pod.
    pub fn add(&mut self, entry: PodEntry, now: Time, gate: &dyn Gate) {
        self.remove(entry.id);
        let pod = QueuedPod {
            entry,
            since: now,
            attempts: 0,
            unschedulable_count: 0,
            error_count: 0,
            rejected_by: PluginSet::default(),
            gated_by: None,
            backoff_until: None,
        };
        self.activate(pod, gate);
    }

    /// Takes a pod out, wherever it is.
    pub fn remove(&mut self, id: u32) -> Option<QueuedPod> {
        let (pod, place) = self.pods.remove(&id)?;
        let rank = rank(&pod);
        let until = pod.backoff_until.unwrap_or(Time::ZERO);
        match place {
            Place::Active => self.active.remove(&rank),
            Place::Backoff => self.backoff.remove(&(until, rank)),
            Place::ErrorBackoff => self.error_backoff.remove(&(until, rank)),
            Place::Unschedulable => self.unschedulable.remove(&id),
        };
        Some(pod)
    }

    fn put(&mut self, pod: QueuedPod, place: Place) {
        let (id, rank) = (pod.entry.id, rank(&pod));
        let until = pod.backoff_until.unwrap_or(Time::ZERO);
        match place {
            Place::Active => self.active.insert(rank),
            Place::Backoff => self.backoff.insert((until, rank)),
            Place::ErrorBackoff => self.error_backoff.insert((until, rank)),
            Place::Unschedulable => self.unschedulable.insert(id),
        };
        self.pods.insert(id, (pod, place));
    }

    /// `moveToActiveQ`: active, unless a plugin holds it back.
    fn activate(&mut self, mut pod: QueuedPod, gate: &dyn Gate) {
        match gate.closed(&pod.entry, pod.gated_by) {
            None => {
                pod.gated_by = None;
                self.put(pod, Place::Active);
            }
            Some(plugin) => self.hold(pod, plugin),
        }
    }

    fn hold(&mut self, mut pod: QueuedPod, plugin: PluginName) {
        pod.rejected_by.insert(plugin);
        pod.gated_by = Some(plugin);
        self.put(pod, Place::Unschedulable);
    }

    /// `moveToBackoffQ`.
    fn back_off(&mut self, mut pod: QueuedPod, gate: &dyn Gate) {
        if let Some(plugin) = gate.closed(&pod.entry, pod.gated_by) {
            self.hold(pod, plugin);
            return;
        }
        pod.gated_by = None;
        let place = if pod.rejected_by.is_empty() {
            Place::ErrorBackoff
        } else {
            Place::Backoff
        };
        self.put(pod, place);
    }

    /// `getBackoffTime`: 1, 2, 4 … seconds, at most 10, after the failed attempt.
    fn backoff_until(&self, pod: &mut QueuedPod) -> Option<Time> {
        let count = if pod.error_count > 0 {
            pod.error_count
        } else {
            pod.unschedulable_count
        };
        if count == 0 || self.max_backoff.is_zero() {
            return None;
        }
        if pod.backoff_until.is_none() {
            let shift = (count - 1).min(63);
            let factor = 1u32.checked_shl(shift).unwrap_or(u32::MAX);
            let duration = self.initial_backoff.saturating_mul(factor);
            pod.backoff_until = Some(window(pod.since + duration.min(self.max_backoff)));
        }
        pod.backoff_until
    }

    /// `isPodBackingoff`.
    fn backs_off(&self, pod: &mut QueuedPod, now: Time) -> bool {
        self.backoff_until(pod)
            .is_some_and(|until| until >= window(now))
    }

    /// `AddUnschedulableIfNotPresent`: a pod whose attempt failed. Rejected pods wait for an event,
    /// others back off.
    pub fn add_failed(&mut self, mut pod: QueuedPod, now: Time, gate: &dyn Gate) {
        if self.has(pod.entry.id) {
            return;
        }
        if pod.rejected_by.is_empty() {
            pod.error_count += 1;
        } else {
            pod.unschedulable_count += 1;
            pod.error_count = 0;
        }
        pod.since = now;
        pod.backoff_until = None;
        if pod.rejected_by.is_empty() {
            self.requeue(pod, now, gate);
        } else {
            self.put(pod, Place::Unschedulable);
        }
    }

    /// `requeuePodWithQueueingStrategy` with `queueAfterBackoff`.
    fn requeue(&mut self, mut pod: QueuedPod, now: Time, gate: &dyn Gate) {
        if self.backs_off(&mut pod, now) {
            self.back_off(pod, gate);
        } else {
            self.activate(pod, gate);
        }
    }

    /// `isPodWorthRequeuing`: whether a plugin that rejected the pod says that this event may help.
    fn worth(
        &self,
        cx: &Cx<'_>,
        frameworks: &[Framework],
        pod: &QueuedPod,
        event: ClusterEvent,
        involved: &Involved<'_>,
    ) -> bool {
        if pod.rejected_by.is_empty() || event.wild() {
            return true;
        }
        let name = &pod.entry.pod.spec.scheduler_name;
        let Some(framework) = frameworks.iter().find(|f| f.name == *name) else {
            return true;
        };
        framework.events().any(|(plugin, events)| {
            pod.rejected_by.has(plugin)
                && events.iter().any(|e| e.covers(event))
                && (framework.unasked(plugin, event)
                    || framework
                        .plugin(plugin)
                        .is_some_and(|p| p.hint(cx, &pod.entry, involved)))
        })
    }

    fn of_interest(&self, event: ClusterEvent) -> bool {
        let mut all = self.events.values().flatten();
        event.wild() || all.any(|(_, events)| events.iter().any(|e| e.covers(event)))
    }

    /// `MoveAllToActiveOrBackoffQueue`: an event of the cluster. Pods for which it may help, and
    /// that pass `check`, become active or back off.
    pub fn move_all(&mut self, cx: &Cx<'_>, moving: &Moving<'_>, now: Time, gate: &dyn Gate) {
        if self.unschedulable.is_empty() || !self.of_interest(moving.event) {
            return;
        }
        let ids: Vec<u32> = self.unschedulable.iter().copied().collect();
        for id in ids {
            let Some((pod, _)) = self.pods.get(&id) else {
                continue;
            };
            let priority = pod.entry.pod.spec.priority;
            if moving.max_priority.is_some_and(|most| priority > most)
                || moving.except == Some(id)
                || !self.gate_listens(pod, moving.event)
                || !self.worth(cx, moving.frameworks, pod, moving.event, moving.involved)
            {
                continue;
            }
            if let Some(pod) = self.remove(id) {
                self.requeue(pod, now, gate);
            }
        }
    }

    /// A pod that is held back is only looked at for events of the plugin that holds it.
    fn gate_listens(&self, pod: &QueuedPod, event: ClusterEvent) -> bool {
        let Some(gate) = pod.gated_by else {
            return true;
        };
        let mut all = self.events.values().flatten();
        all.any(|(plugin, events)| *plugin == gate && events.iter().any(|e| e.covers(event)))
    }

    /// `Update`: a waiting pod changed. Returns whether it was waiting.
    pub fn update(
        &mut self,
        cx: &Cx<'_>,
        entry: PodEntry,
        changes: &[ClusterEvent],
        moving: &Moving<'_>,
        now: Time,
        gate: &dyn Gate,
    ) -> bool {
        let Some((_, place)) = self.pods.get(&entry.id) else {
            return false;
        };
        let place = *place;
        let id = entry.id;
        let Some(mut pod) = self.remove(id) else {
            return false;
        };
        pod.entry = entry;
        if place != Place::Unschedulable {
            self.put(pod, place);
            return true;
        }
        let mut events = changes.iter();
        if events.any(|e| self.worth(cx, moving.frameworks, &pod, *e, moving.involved)) {
            self.requeue(pod, now, gate);
        } else {
            self.put(pod, Place::Unschedulable);
        }
        true
    }

    /// `flushBackoffQCompleted`: pods whose back-off is over become active.
    pub fn flush_backoff(&mut self, now: Time) {
        let over = |set: &BTreeSet<(Time, Rank)>| -> Vec<u32> {
            let due = set.iter().take_while(|(until, _)| *until < window(now));
            due.map(|(_, (_, _, id))| *id).collect()
        };
        let mut ids = over(&self.backoff);
        ids.extend(over(&self.error_backoff));
        for id in ids {
            if let Some(pod) = self.remove(id) {
                self.put(pod, Place::Active);
            }
        }
    }

    /// `flushUnschedulablePodsLeftover`: pods that were unschedulable for too long are tried again.
    pub fn flush_unschedulable(&mut self, now: Time, longest: Duration, gate: &dyn Gate) {
        let stale = self.unschedulable.iter().copied().filter(|id| {
            let pod = self.pods.get(id);
            pod.is_some_and(|(p, _)| p.gated_by.is_none() && now.since(p.since) > longest)
        });
        let ids: Vec<u32> = stale.collect();
        for id in ids {
            if let Some(pod) = self.remove(id) {
                self.requeue(pod, now, gate);
            }
        }
    }

    /// `Activate`: out of back-off or waiting, at once.
    pub fn force(&mut self, id: u32, gate: &dyn Gate) {
        let waits = self.pods.get(&id).is_some_and(|(_, p)| *p != Place::Active);
        if waits && let Some(pod) = self.remove(id) {
            self.activate(pod, gate);
        }
    }
}

/// An event on its way to the waiting pods.
#[derive(Clone, Copy, Debug)]
pub struct Moving<'a> {
    /// What happened.
    pub event: ClusterEvent,
    /// To what.
    pub involved: &'a Involved<'a>,
    /// The profiles, whose plugins are asked.
    pub frameworks: &'a [Framework],
    /// Only pods of at most this priority.
    pub max_priority: Option<i32>,
    /// Not this pod.
    pub except: Option<u32>,
}
