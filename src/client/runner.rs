//! Runs a controller: turns deliveries, timers and replies into syncs, and plans into writes.
//!
//! What it is: the loop around every controller. Changes name keys, the work queue orders them, up
//! to [`Controller::WORKERS`] keys are synced at a time, each plan's steps are sent one after the
//! other, and its end decides whether the key is forgotten, asked for again, or retried.
//!
//! What it does not know: how long anything takes. A sync itself takes no time; the cluster adds
//! latency to deliveries, requests and replies.
//!
//! Read first: [`Driven`], the face that the composition root sees; then `Runner::advance`.

mod active;
mod current;
mod held;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::budget::Budget;
use super::controller::{Controller, Keys, SyncContext};
use super::outbox::{Outbox, Reply};
use super::recorder::Recorder;
use super::watches::Watches;
use super::work_queue::WorkQueue;
use crate::engine::{Draws, Time};
use crate::store::write::Trigger;
use crate::store::{ApiError, Cause, Change, Origin, View, Write};
use active::Active;
use current::current;
use held::{Held, Waiting};

/// What a driven component may ask to be told later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Event {
    /// Keys may be due.
    Wake,
    /// The period of [`Controller::RESYNC`] is over; ignored unless the life it began in goes on.
    Resync(u32),
}

const _: () = assert!(size_of::<Event>() <= 8);

/// A controller in its loop, whatever its keys: what the composition root holds.
pub trait Driven {
    /// The controller's name.
    fn name(&self) -> &'static str;

    /// Begins (again): `view` is complete, changes are told from here on.
    fn start(&mut self, view: &View, now: Time, draws: &Draws, out: &mut Outbox<Event>);

    /// `view` has just advanced by `change`.
    fn on_change(
        &mut self,
        change: &Change,
        view: &View,
        now: Time,
        draws: &Draws,
        out: &mut Outbox<Event>,
    );

    /// The changes that [`Driven::on_change`] must be called with.
    fn watches(&self) -> Watches;

    /// An event that it had asked for is due.
    fn on_event(
        &mut self,
        event: Event,
        view: &View,
        now: Time,
        draws: &Draws,
        out: &mut Outbox<Event>,
    );

    /// The answer to the send with this token. Answers to an earlier life are ignored.
    fn on_reply(
        &mut self,
        token: u64,
        reply: &Reply,
        view: &View,
        now: Time,
        draws: &Draws,
        out: &mut Outbox<Event>,
    );

    /// The process died: everything that is not in the store is forgotten, nothing is done before
    /// the next [`Driven::start`].
    fn restart(&mut self);

    /// Whether nothing is queued or under way; keys that wait for a time do not count.
    fn at_rest(&self) -> bool;
}

/// A controller with everything that runs it.
#[derive(Debug)]
pub struct Runner<C: Controller> {
    controller: C,
    queue: WorkQueue<C::Key>,
    budget: Budget,
    /// The budget as it is when the process starts.
    full: Budget,
    recorder: Recorder,
    active: BTreeMap<u32, Active<C::Key>>,
    /// Writes of active plans that wait for the budget.
    held: Held,
    /// What set off the keys that are queued, and those that wait for a retry.
    triggers: BTreeMap<C::Key, Trigger>,
    retries: BTreeMap<C::Key, Trigger>,
    plans: u32,
    life: u32,
    running: bool,
    wake_at: Option<Time>,
    /// How many keys are synced at a time.
    workers: usize,
    /// Empty; most changes concern nobody, and then there is nothing to make or to drop.
    keys: Keys<C::Key>,
}

impl<C: Controller> Runner<C> {
    /// Runs `controller` with the budget of a controller's client.
    pub fn new(controller: C) -> Self {
        Runner::with_budget(controller, Budget::controller())
    }

    /// Runs `controller` with a budget of its own.
    pub fn with_budget(controller: C, budget: Budget) -> Self {
        Runner {
            controller,
            queue: WorkQueue::with_back_off(C::BACK_OFF.0, C::BACK_OFF.1),
            full: budget.clone(),
            budget,
            recorder: Recorder::default(),
            active: BTreeMap::new(),
            held: Held::default(),
            triggers: BTreeMap::new(),
            retries: BTreeMap::new(),
            plans: 0,
            life: 0,
            running: false,
            wake_at: None,
            workers: C::WORKERS,
            keys: Keys::default(),
        }
    }

    /// Syncs so many keys at a time, where a flag says so.
    pub fn workers(mut self, workers: Option<u32>) -> Self {
        self.workers = workers.map_or(C::WORKERS, |n| n as usize);
        self
    }

    /// The controller.
    pub fn controller(&self) -> &C {
        &self.controller
    }

    fn enqueue(&mut self, keys: Keys<C::Key>, trigger: Trigger, now: Time) {
        for key in keys.now {
            self.add(key, trigger);
        }
        for (key, after) in keys.after {
            if after.is_zero() {
                self.add(key, trigger);
            } else {
                self.queue.add_after(key, now, after);
            }
        }
        for key in keys.limited {
            self.queue.add_rate_limited(key, now);
            self.retries.insert(key, trigger);
        }
        for event in keys.events {
            self.recorder.emit(event, cause::<C>(trigger, ""));
        }
    }

    fn add(&mut self, key: C::Key, trigger: Trigger) {
        if self.queue.add(key) {
            self.triggers.insert(key, trigger);
        }
    }

    /// Queues what is due and starts as many syncs as there are idle workers.
    fn run(&mut self, cx: &SyncContext<'_>, out: &mut Outbox<Event>) {
        while let Some(key) = self.queue.pop_due(cx.now) {
            let trigger = self.retries.remove(&key).unwrap_or(Trigger::Timer);
            self.add(key, trigger);
        }
        while self.active.len() < self.workers
            && let Some(key) = self.queue.get()
        {
            self.sync(key, cx, out);
        }
        self.send_event(cx.now, out);
        self.send_held(cx.now, out);
        self.schedule(cx.now, out);
    }

    fn sync(&mut self, key: C::Key, cx: &SyncContext<'_>, out: &mut Outbox<Event>) {
        let trigger = self.triggers.remove(&key).unwrap_or(Trigger::Timer);
        let plan = self.controller.sync(key, cx);
        let mut active = Active::new(key, trigger);
        if let Some(after) = plan.timer {
            self.queue.add_after(key, cx.now, after);
        }
        active.take_plan(plan);
        self.plans = self.plans.wrapping_add(1);
        self.active.insert(self.plans, active);
        self.advance(self.plans, cx, out);
    }

    /// Goes on with a plan until it waits for a reply or ends.
    fn advance(&mut self, number: u32, cx: &SyncContext<'_>, out: &mut Outbox<Event>) {
        loop {
            let Some(active) = self.active.get_mut(&number) else {
                return;
            };
            if let Some(at) = active.follower.take() {
                self.send_one(number, at, cx.now, out);
            }
            let Some(active) = self.active.get_mut(&number) else {
                return;
            };
            if active.current.missing > 0 {
                return;
            }
            if active.current.failed {
                active.outcome.failed_step.get_or_insert(active.taken - 1);
                active.drop_rest();
            }
            if active.current.sent < active.current.writes.len() {
                self.send_batch(number, cx.now, out);
                return;
            }
            let Some(step) = active.steps.pop_front() else {
                if (active.finishing && !active.more) || active.error.is_some() {
                    self.end(number, cx.now);
                    return;
                }
                active.finishing = true;
                let (key, outcome) = (active.key, active.outcome.clone());
                let plan = self.controller.finish(key, &outcome, cx);
                if let Some(active) = self.active.get_mut(&number) {
                    active.take_plan(plan);
                }
                continue;
            };
            active.taken += 1;
            match current(step) {
                Ok(current) => active.current = current,
                Err(event) => {
                    let cause = cause::<C>(active.trigger, "");
                    self.recorder.emit(event, cause);
                }
            }
        }
    }

    fn send_batch(&mut self, number: u32, now: Time, out: &mut Outbox<Event>) {
        let Some(active) = self.active.get_mut(&number) else {
            return;
        };
        for at in active.current.next_batch() {
            self.send_one(number, at, now, out);
        }
    }

    fn send_one(&mut self, number: u32, at: usize, now: Time, out: &mut Outbox<Event>) {
        let Some(active) = self.active.get_mut(&number) else {
            return;
        };
        active.current.missing += 1;
        let due = self.budget.take(now);
        let write = Waiting {
            due,
            plan: number,
            at,
        };
        if !self.held.keep(write, now) {
            self.hand_over(write, out);
        }
    }

    fn hand_over(&self, write: Waiting, out: &mut Outbox<Event>) {
        let Some(active) = self.active.get(&write.plan) else {
            return;
        };
        let cause = cause::<C>(active.trigger, active.current.rule(write.at));
        let token = u64::from(write.plan) << 32 | write.at as u64;
        let Some(asked) = active.current.writes.get(write.at) else {
            return;
        };
        let rebased = active.rebased(asked.into_owned());
        out.send(write.due, rebased, cause, token);
    }

    /// Hands over the writes whose time is near.
    fn send_held(&mut self, now: Time, out: &mut Outbox<Event>) {
        if self.held.any_near(now) {
            while let Some(write) = self.held.next(now) {
                self.hand_over(write, out);
            }
        }
    }

    /// Ends a plan: forget, ask again, or retry.
    fn end(&mut self, number: u32, now: Time) {
        let Some(active) = self.active.remove(&number) else {
            return;
        };
        let key = active.key;
        if active.outcome.error.is_none() && active.error.is_none() {
            self.queue.forget(key);
            match active.requeue_after {
                Some(after) if after.is_zero() => self.add(key, Trigger::Timer),
                Some(after) => self.queue.add_after(key, now, after),
                None => {}
            }
        } else if C::MAX_RETRIES.is_none_or(|max| self.queue.requeues(key) < max) {
            self.queue.add_rate_limited(key, now);
            self.retries.insert(key, active.trigger);
        } else {
            self.queue.forget(key);
        }
        self.queue.done(key);
    }

    fn plan_reply(&mut self, token: u64, reply: &Reply, cx: &SyncContext<'_>) -> Option<u32> {
        let number = u32::try_from(token >> 32).ok()?;
        let active = self.active.get_mut(&number)?;
        let at = token as u32 as usize;
        let write = active.current.writes.get(at)?.into_owned();
        active.current.missing -= 1;
        let mut failed = false;
        match reply {
            Ok(receipt) => {
                active.outcome.done += 1;
                let gone = matches!(write, Write::Delete { .. });
                if let Some(object) = receipt.object.filter(|_| !gone) {
                    active.bases.insert(object, receipt.revision);
                }
            }
            Err(_) if active.current.optional => {}
            // Every controller takes "it is gone" for a success of its deletion.
            Err(ApiError::NotFound(_)) if matches!(write, Write::Delete { .. }) => {}
            Err(error) if self.controller.forgives(&write, error) => {
                failed = self.controller.ends_chain(&write);
            }
            Err(error) => {
                failed = true;
                active.current.failed = true;
                active.outcome.error.get_or_insert_with(|| error.clone());
            }
        }
        let despite = |next: &Write| self.controller.despite_failure(next);
        let follower = active.current.follower(at, failed, despite);
        active.follower = follower.next;
        active.outcome.skipped += follower.skipped;
        let (key, trigger) = (active.key, active.trigger);
        let mut events = Vec::new();
        self.controller
            .on_reply(key, &write, reply, cx, &mut events);
        for event in events {
            self.recorder.emit(event, cause::<C>(trigger, ""));
        }
        Some(number)
    }

    fn send_event(&mut self, now: Time, out: &mut Outbox<Event>) {
        if let Some((at, event, cause)) = self.recorder.next(now, &mut self.budget) {
            out.send(at, Write::Emit(event.into()), cause, u64::from(self.life));
        }
    }

    /// Asks to be woken for the next key that is due.
    fn schedule(&mut self, now: Time, out: &mut Outbox<Event>) {
        let startable = !self.queue.is_empty() && self.active.len() < self.workers;
        let next = if startable {
            Some(now)
        } else {
            self.queue.next_due()
        };
        let alarm = self.held.alarm().map(|at| at.max(now));
        let next = next.into_iter().chain(alarm).min();
        if let Some(next) = next
            && self.wake_at.is_none_or(|at| next < at)
        {
            self.wake_at = Some(next);
            out.at(next, Event::Wake);
        }
    }

    fn resync(&mut self, trigger: Trigger, view: &View, now: Time, out: &mut Outbox<Event>) {
        let mut keys = Keys::default();
        self.controller.resync(view, now, &mut keys);
        self.enqueue(keys, trigger, now);
        if let Some(period) = C::RESYNC {
            out.at(now + period, Event::Resync(self.life));
        }
    }
}

fn cause<C: Controller>(trigger: Trigger, rule: &'static str) -> Cause {
    Cause {
        origin: Origin::Controller(C::NAME),
        trigger,
        rule,
    }
}

impl<C: Controller> Driven for Runner<C> {
    fn name(&self) -> &'static str {
        C::NAME
    }

    fn start(&mut self, view: &View, now: Time, _draws: &Draws, out: &mut Outbox<Event>) {
        assert!(!self.running, "{} was started twice", C::NAME);
        self.running = true;
        self.resync(Trigger::Start, view, now, out);
        self.schedule(now, out);
    }

    fn watches(&self) -> Watches {
        C::WATCHES
    }

    fn on_change(
        &mut self,
        change: &Change,
        view: &View,
        now: Time,
        _draws: &Draws,
        out: &mut Outbox<Event>,
    ) {
        if !self.running {
            return;
        }
        self.controller.keys(change, view, now, &mut self.keys);
        if self.keys.is_empty() {
            return;
        }
        let keys = std::mem::take(&mut self.keys);
        let tells = !keys.events.is_empty();
        self.enqueue(keys, Trigger::Change(change.revision), now);
        if tells {
            self.send_event(now, out);
        }
        // The sync comes after everything that is delivered at this instant.
        self.schedule(now, out);
    }

    fn on_event(
        &mut self,
        event: Event,
        view: &View,
        now: Time,
        draws: &Draws,
        out: &mut Outbox<Event>,
    ) {
        if !self.running {
            return;
        }
        if self.wake_at.is_some_and(|at| at <= now) {
            self.wake_at = None;
        }
        match event {
            Event::Wake => {}
            Event::Resync(life) if life == self.life => {
                self.resync(Trigger::Timer, view, now, out);
            }
            Event::Resync(_) => return,
        }
        self.run(&SyncContext { now, view, draws }, out);
    }

    fn on_reply(
        &mut self,
        token: u64,
        reply: &Reply,
        view: &View,
        now: Time,
        draws: &Draws,
        out: &mut Outbox<Event>,
    ) {
        let cx = SyncContext { now, view, draws };
        if token >> 32 == 0 {
            if token == u64::from(self.life)
                && let Some((at, event, cause)) =
                    self.recorder.replied(reply, now, &mut self.budget)
            {
                out.send(at, Write::Emit(event.into()), cause, token);
            }
        } else if let Some(number) = self.plan_reply(token, reply, &cx) {
            self.advance(number, &cx, out);
        }
        if self.running {
            self.run(&cx, out);
        }
    }

    fn restart(&mut self) {
        self.controller.restart();
        self.queue = WorkQueue::with_back_off(C::BACK_OFF.0, C::BACK_OFF.1);
        self.budget = self.full.clone();
        self.recorder = Recorder::default();
        self.active.clear();
        self.held = Held::default();
        self.triggers.clear();
        self.retries.clear();
        self.life += 1;
        self.running = false;
        self.wake_at = None;
    }

    fn at_rest(&self) -> bool {
        self.queue.is_empty() && self.active.is_empty() && self.recorder.is_idle()
    }
}

#[cfg(test)]
mod tests;
