//! The server's side of an exchange: arriving, waiting for a place, working, calling, answering.

use std::time::Duration;

use super::exchange::{Exchange, NONE, Origin, Stage, Status};
use super::{DataPlane, Event, Out};
use crate::engine::Time;
use crate::engine::draws::Purpose;
use crate::load::Key;
use crate::load::cpu::Wake;
use crate::load::instance::Admission;
use crate::load::tally::{Cause, Class};
use crate::net::{End, Verdict};

const WORK: Purpose = Purpose::new("load/request-cpu");
const WAIT: Purpose = Purpose::new("load/request-wait");
const ERROR: Purpose = Purpose::new("load/request-error");
const CALL: Purpose = Purpose::new("load/call-request");

impl DataPlane {
    /// A request reaches its server.
    pub(super) fn deliver(&mut self, key: Key, now: Time, out: &mut Out) {
        let Some(exchange) = self.exchanges.get(key) else {
            return;
        };
        if !exchange.awaited {
            return self.free(key);
        }
        let forwarder_dark = exchange.via.is_some_and(|via| self.dark.contains(&via));
        if forwarder_dark || self.dark.contains(&exchange.to) {
            return self.send_later(key, now, out);
        }
        if exchange.pod == NONE {
            // An address outside the cluster: somebody answers.
            return self.answer(key, Status::Ok, now, out);
        }
        if !self.http.is_empty() && self.request_is_held(key, now, out) {
            return;
        }
        let exchange = &self.exchanges[key];
        let reused = !exchange.fresh;
        match self.whom(exchange, now) {
            Err((Cause::Reset, _)) if reused => self.reopen(key, now, out),
            Ok(unit) => self.accept(key, unit, now, out),
            Err((cause, class)) => self.answer(key, Status::Failed(cause, class), now, out),
        }
    }

    /// The process that an arriving request reaches, or why it reaches none.
    fn whom(&self, exchange: &Exchange, now: Time) -> Result<Key, (Cause, Class)> {
        let pod = self
            .pods
            .get(exchange.pod as usize)
            .and_then(Option::as_ref);
        let leaving = pod.is_some_and(|p| p.deleting);
        let gone = match leaving {
            true => Class::SigtermRace,
            false => Class::DeadEndpoint,
        };
        if !exchange.fresh {
            return match self.units.get(exchange.unit) {
                Some(unit) if unit.instance.listens(now) => Ok(exchange.unit),
                _ => Err((Cause::Reset, gone)),
            };
        }
        let Some(pod) = pod else {
            return Err((Cause::Refused, Class::DeadEndpoint));
        };
        let mut class = gone;
        for key in &pod.units {
            let Some(unit) = self.units.get(*key) else {
                continue;
            };
            match unit.ports.contains(exchange.port) {
                true if unit.instance.listens(now) => return Ok(*key),
                true if unit.instance.terminating => class = Class::SigtermRace,
                true if !leaving => class = Class::NotListening,
                true => {}
                false if class == Class::DeadEndpoint => class = Class::WrongPort,
                false => {}
            }
        }
        Err((Cause::Refused, class))
    }

    /// A listening process takes a request.
    pub(super) fn accept(&mut self, key: Key, unit: Key, now: Time, out: &mut Out) {
        let exchange = &mut self.exchanges[key];
        exchange.unit = unit;
        if exchange.fresh {
            self.connected(key, now);
        }
        let u = &mut self.units[unit];
        let admission = u.instance.admit();
        if admission == Admission::Full {
            let full = Status::Failed(Cause::Unavailable, Class::QueueFull);
            return self.answer(key, full, now, out);
        }
        let before = std::mem::replace(&mut u.last, key);
        if before == Key::NONE {
            u.first = key;
        }
        if admission == Admission::Wait {
            u.instance.queue.push_back(key);
        }
        let exchange = &mut self.exchanges[key];
        exchange.held = true;
        exchange.stage = Stage::Queued;
        (exchange.before, exchange.after) = (before, Key::NONE);
        if let Some(before) = self.exchanges.get_mut(before) {
            before.after = key;
        }
        if self.units[unit].instance.out_of_memory(now) {
            return self.end_unit(unit, super::units::OUT_OF_MEMORY, now, out);
        }
        if admission == Admission::Serve {
            self.work(key, now, out);
        }
    }

    /// Uses CPU for a request that has a place.
    fn work(&mut self, key: Key, now: Time, out: &mut Out) {
        let group = self.group_of(self.exchanges[key].unit);
        let exchange = &mut self.exchanges[key];
        exchange.stage = Stage::Running;
        let unit = &self.units[exchange.unit].instance;
        let (dist, threads) = match exchange.origin {
            Origin::Probe(..) | Origin::Hook(_) => (&unit.model.probes.cpu, 1),
            _ => (&unit.model.request.cpu, unit.model.request.threads.max(1)),
        };
        let draw = self
            .draws
            .unit(WORK, exchange.entity, u64::from(exchange.attempt));
        let cpu = unit.warmed(dist.sample(draw), now) / threads;
        exchange.threads = threads;
        for _ in 0..threads {
            self.cpu.run(group, cpu, key.slot, now, &mut self.wakes);
        }
        self.push_wakes(out);
    }

    /// A cgroup's CPU time is due.
    pub(super) fn cpu_due(&mut self, slot: u32, number: u32, now: Time, out: &mut Out) {
        let wake = Wake {
            at: now,
            slot,
            number,
        };
        let mut finished = std::mem::take(&mut self.finished);
        self.cpu.wake(wake, now, &mut finished, &mut self.wakes);
        self.push_wakes(out);
        for slot in finished.drain(..) {
            let Some(key) = self.exchanges.key_at(slot) else {
                continue;
            };
            let exchange = &mut self.exchanges[key];
            exchange.threads -= 1;
            if exchange.threads == 0 {
                self.worked(key, now, out);
            }
        }
        self.finished = finished;
    }

    /// The CPU part is done: waiting, then calls.
    fn worked(&mut self, key: Key, now: Time, out: &mut Out) {
        let exchange = &mut self.exchanges[key];
        let request = &self.units[exchange.unit].instance.model.request;
        if matches!(exchange.origin, Origin::Probe(..) | Origin::Hook(_)) {
            return self.next_call(key, now, out);
        }
        let Some(wait) = &request.wait else {
            return self.next_call(key, now, out);
        };
        exchange.stage = Stage::Waiting;
        let draw = self
            .draws
            .unit(WAIT, exchange.entity, u64::from(exchange.attempt));
        out.at(now + wait.sample(draw), Event::Waited(key));
    }

    /// The non-CPU part is over.
    pub(super) fn waited(&mut self, key: Key, now: Time, out: &mut Out) {
        let waiting = self.exchanges.get(key).map(|e| e.stage == Stage::Waiting);
        if waiting == Some(true) {
            self.next_call(key, now, out);
        }
    }

    /// The next call of a request, or its answer when there is none.
    fn next_call(&mut self, key: Key, now: Time, out: &mut Out) {
        let exchange = &mut self.exchanges[key];
        let unit = &self.units[exchange.unit];
        let calls = match exchange.origin {
            Origin::Probe(kind, _) => {
                kind == crate::kubelet::ProbeKind::Readiness
                    && unit.instance.model.probes.readiness_calls
            }
            Origin::Hook(_) => false,
            _ => true,
        };
        let Some(sender) = unit.calls.get(exchange.call as usize).filter(|_| calls) else {
            let status = self.own_errors(key);
            return self.served(key, status, now, out);
        };
        let entity = self.draws.u64(
            CALL,
            exchange.entity,
            u64::from(exchange.attempt) << 32 | u64::from(exchange.call),
        );
        exchange.stage = Stage::Calling;
        let from = End::pod(exchange.to, exchange.pod);
        let child = Exchange::new(entity, *sender, Origin::Call(key), from, now);
        self.senders[*sender as usize].tally.send(now);
        let child = self.exchanges.insert(child);
        self.exchanges[key].child = child;
        self.attempt(child, now, out);
    }

    /// A call that a request made is over.
    pub(super) fn called(&mut self, parent: Key, ok: bool, now: Time, out: &mut Out) {
        let Some(exchange) = self.exchanges.get_mut(parent) else {
            return;
        };
        if exchange.stage != Stage::Calling || !exchange.held {
            return;
        }
        exchange.child = Key::NONE;
        let model = &self.units[exchange.unit].instance.model;
        let call = model.request.calls.get(exchange.call as usize);
        if ok || call.is_some_and(|c| c.optional) {
            exchange.call += 1;
            return self.next_call(parent, now, out);
        }
        let failed = Status::Failed(Cause::Downstream, Class::Downstream);
        self.served(parent, failed, now, out);
    }

    /// The application's own error rate.
    fn own_errors(&self, key: Key) -> Status {
        let exchange = &self.exchanges[key];
        let request = &self.units[exchange.unit].instance.model.request;
        if request.errors_per_million == 0 {
            return Status::Ok;
        }
        let n = u64::from(exchange.attempt);
        let draw = self.draws.u64(ERROR, exchange.entity, n);
        match (u128::from(draw) * 1_000_000) >> 64 < u128::from(request.errors_per_million) {
            true => Status::Failed(Cause::Error, Class::AppError),
            false => Status::Ok,
        }
    }

    /// The server is done with a request: the next one gets its place.
    fn served(&mut self, key: Key, status: Status, now: Time, out: &mut Out) {
        let unit = self.exchanges[key].unit;
        self.unlink(key);
        self.answer(key, status, now, out);
        let Some(u) = self.units.get_mut(unit) else {
            return;
        };
        u.instance.served += 1;
        u.instance.active -= 1;
        while let Some(next) = self.next_in_queue(unit) {
            let exchange = &self.exchanges[next];
            if exchange.awaited || !self.units[unit].instance.model.request.notices_cancel {
                self.units[unit].instance.active += 1;
                self.work(next, now, out);
                break;
            }
            self.unlink(next);
            self.free(next);
        }
        self.drained(unit, now, out);
    }

    fn next_in_queue(&mut self, unit: Key) -> Option<Key> {
        self.units[unit].instance.queue.pop_front()
    }

    /// Takes an exchange out of what its process holds.
    pub(super) fn unlink(&mut self, key: Key) {
        let exchange = &mut self.exchanges[key];
        exchange.held = false;
        let (unit, before, after) = (exchange.unit, exchange.before, exchange.after);
        let Some(u) = self.units.get_mut(unit) else {
            return;
        };
        match self.exchanges.get_mut(before) {
            Some(before) => before.after = after,
            None => u.first = after,
        }
        match self.exchanges.get_mut(after) {
            Some(after) => after.before = before,
            None => u.last = before,
        }
    }

    /// Sends the answer (or the refusal, or the reset) on its way to the client.
    pub(super) fn answer(&mut self, key: Key, status: Status, now: Time, out: &mut Out) {
        let exchange = &mut self.exchanges[key];
        if !exchange.awaited {
            return self.free(key);
        }
        let mut status = status;
        if !self.http.is_empty() {
            let Some(shown) = self.proxied_answer(key, status, now, out) else {
                return;
            };
            status = shown;
        }
        let exchange = &mut self.exchanges[key];
        exchange.stage = Stage::Answering(status);
        match exchange.origin {
            Origin::Probe(..) | Origin::Hook(_) => return self.probe_answered(key, status, out),
            Origin::User(_) | Origin::Call(_) | Origin::Webhook(_) => {}
        }
        let exchange = &self.exchanges[key];
        let latency = match self.way(exchange, true) {
            Verdict::Deliver(latency) => latency,
            Verdict::Drop => return self.answer_later(key, now, out),
        };
        let body = match (status, self.units.get(exchange.unit)) {
            (Status::Ok, Some(unit)) => unit.instance.model.request.response_bytes,
            _ => 0,
        };
        let bytes = super::client::ANSWER_BYTES + body;
        let latency = latency + self.queued(key, true, bytes, now);
        let exchange = &self.exchanges[key];
        let (at, late) = (now + latency, now + latency > exchange.deadline);
        match (exchange.origin, status) {
            _ if late => {}
            (Origin::User(_), Status::Ok) => self.succeed(key, at, out),
            (Origin::User(_), Status::Failed(cause, class)) => {
                self.fail(key, cause, class, at, out);
            }
            _ => out.at(at, Event::Answer(key)),
        }
    }

    /// An answer was lost on the way: it is sent again while the client waits.
    fn answer_later(&mut self, key: Key, now: Time, out: &mut Out) {
        let exchange = &mut self.exchanges[key];
        let pause = Duration::from_millis(200) * (1 << exchange.lost.min(16));
        exchange.lost += 1;
        if now + pause < exchange.deadline {
            out.at(now + pause, Event::Resend(key));
        }
    }
}
