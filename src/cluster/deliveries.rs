//! What watches deliver: which of them hears of a change, when, and in which order.
//!
//! A change of a pod concerns three watchers as a rule: the kubelet of its node, the controller
//! manager and the scheduler, which all hear of it one watch latency after its commit. That is one
//! event ([`Event::ToAll`]); each watcher has an event of its own where they are due at different
//! instants, and where a fault may keep one of them and not the others.

use super::dispatch::{Cluster, Consequences};
use super::event::Event;
use crate::client::{Outbox, Watches};
use crate::engine::{Time, World};
use crate::kubelet::PodChange;

impl Cluster {
    /// While a process may stand still, what is delivered to several is delivered to each by itself;
    /// returns whether it was that.
    pub(super) fn split(&mut self, event: Event, turn: Consequences<'_, '_>) -> bool {
        match event {
            Event::ToAll(node) => self.dispatch(Event::ToKubelet(node), turn),
            Event::ToBoth => {}
            _ => return false,
        }
        self.dispatch(Event::ToManager, turn);
        self.dispatch(Event::ToScheduler, turn);
        true
    }

    pub(super) fn deliver_to_all(&mut self, node: u32, turn: Consequences<'_, '_>) {
        self.deliver_to_kubelet(node, turn);
        self.deliver_to_both(turn);
    }

    pub(super) fn deliver_to_both(&mut self, turn: Consequences<'_, '_>) {
        self.deliver_to_manager(turn);
        self.deliver_to_scheduler(turn);
    }

    pub(super) fn deliver_to_manager(&mut self, turn: Consequences<'_, '_>) {
        self.manager.begin_delivery(turn.now);
        let mut wanted = Vec::new();
        while let Some(change) = self.manager.next(&self.api.store, turn.now) {
            let mut out = Outbox::default();
            let view = &self.manager.view;
            for which in self.audience.of(Watches::of(&change, view)) {
                let controller = &mut self.controllers[usize::from(which)];
                controller.on_change(&change, view, turn.now, &self.draws, &mut out);
                if !out.is_empty() {
                    wanted.push((which, std::mem::take(&mut out)));
                }
            }
            drop(change);
            for (which, out) in wanted.drain(..) {
                self.controller_wants(which, out, turn);
            }
        }
    }

    pub(super) fn deliver_to_scheduler(&mut self, turn: Consequences<'_, '_>) {
        self.scheduler_process.begin_delivery(turn.now);
        while let Some(change) = self.scheduler_process.next(&self.api.store, turn.now) {
            let mut out = std::mem::take(&mut self.scheduler_out);
            let view = &self.scheduler_process.view;
            self.scheduler.on_change(&change, view, turn.now, &mut out);
            drop(change);
            self.scheduler_wants(out, turn);
        }
    }

    pub(super) fn deliver_to_kubelet(&mut self, node: u32, turn: Consequences<'_, '_>) {
        while let Some(change) = self
            .machine_mut(node)
            .and_then(|machine| machine.delivered(turn.now))
        {
            self.kubelet(node, turn, |kubelet, cx| kubelet.on_pod(change, cx));
        }
    }

    /// Schedules what a kubelet is told, and the deliveries to the processes that want one: as one
    /// event where they are due at one instant.
    pub(super) fn schedule_deliveries(
        &mut self,
        told: Option<(Time, u32)>,
        turn: Consequences<'_, '_>,
    ) {
        let log = self.api.store.log();
        let manager = self.manager.wants(log, turn.now);
        let scheduler = self.scheduler_process.wants(log, turn.now);
        let both = manager.filter(|_| manager == scheduler);
        if let (Some((at, node)), Some(due)) = (told, both)
            && at == due
        {
            return turn.at(due, Event::ToAll(node));
        }
        if let Some((at, node)) = told {
            turn.at(at, Event::ToKubelet(node));
        }
        if let Some(due) = both {
            return turn.at(due, Event::ToBoth);
        }
        if let Some(due) = manager {
            turn.at(due, Event::ToManager);
        }
        if let Some(due) = scheduler {
            turn.at(due, Event::ToScheduler);
        }
    }

    /// A change of a pod, which the kubelet of its node watches; returns when which kubelet is to be
    /// told of it.
    pub(super) fn pass_on_pod(&mut self, revision: u64, now: Time) -> Option<(Time, u32)> {
        let due = now + self.api.latency.watch;
        let change = PodChange::of(self.api.store.log().get(revision)?)?;
        let node = match self.bound.get(change.pod) {
            Some(node) => node,
            None => {
                let node = *self.node_ids.get(change.row.node_name.as_ref()?)?;
                self.bound.set(change.pod, Some(node));
                node
            }
        };
        let machine = self.machines.get_mut(node as usize)?.as_mut()?;
        machine.watch(change, due).then_some((due, node))
    }
}
