//! Probes and hooks: questions of the kubelet that take the way through the process.
//!
//! HTTP and gRPC probes are refused before the process listens; then they queue and work like
//! requests (`share: requests`) or are answered aside. A TCP probe succeeds as soon as the process
//! listens, however busy it is. An `exec` probe's command fails until the process listens, as one
//! that asks the application does, and does not queue. The kubelet counts timeouts by itself, so
//! that an answer may be late here.

use std::time::Duration;

use super::exchange::{Exchange, NONE, Origin, Stage, Status};
use super::{DataPlane, Event, Out};
use crate::api::probe::Action;
use crate::engine::Time;
use crate::engine::draws::Purpose;
use crate::kubelet::RuntimeEvent;
use crate::kubelet::runtime::{ContainerId, Hook, ProbeKind, ProbeOutcome};
use crate::load::Key;
use crate::load::tally::{Cause, Class};
use crate::net::End;

const PROBE: Purpose = Purpose::new("load/probe");
const HOOK: Purpose = Purpose::new("load/hook");

/// From the kubelet to a container on its node and back.
const LOCAL: Duration = Duration::from_micros(100);

impl DataPlane {
    /// A kubelet probes a container; answered by [`RuntimeEvent::Probed`].
    pub fn probe(
        &mut self,
        container: ContainerId,
        which: ProbeKind,
        n: u32,
        action: &Action,
        now: Time,
        out: &mut Out,
    ) {
        let origin = Origin::Probe(which, n as u8);
        let Some(unit) = self.unit_of(container) else {
            return out
                .runtime
                .push(probed(container, which, n as u8, ProbeOutcome::Refused));
        };
        let entity = self.units[unit].instance.entity;
        let entity = self
            .draws
            .u64(PROBE, entity, u64::from(n) << 2 | which as u64);
        self.ask(unit, origin, entity, action, now, out);
    }

    /// A kubelet runs a hook; answered by [`RuntimeEvent::HookDone`].
    pub fn hook(
        &mut self,
        container: ContainerId,
        hook: Hook,
        action: &Action,
        now: Time,
        out: &mut Out,
    ) {
        let Some(unit) = self.unit_of(container) else {
            let ok = false;
            return out.runtime.push(RuntimeEvent::HookDone {
                container,
                hook,
                ok,
            });
        };
        let entity = self.units[unit].instance.entity;
        let entity = self.draws.u64(HOOK, entity, hook as u64);
        self.ask(unit, Origin::Hook(hook), entity, action, now, out);
    }

    fn ask(
        &mut self,
        unit: Key,
        origin: Origin,
        entity: u64,
        action: &Action,
        now: Time,
        out: &mut Out,
    ) {
        let u = &self.units[unit];
        let instance = &u.instance;
        let from = End::pod(u.place, u.id.pod.0);
        let mut exchange = Exchange::new(entity, NONE, origin, from, now);
        (exchange.unit, exchange.pod, exchange.to) = (unit, u.id.pod.0, u.place);
        let draw = self.draws.unit(PROBE, entity, 0);
        let aside = instance.model.probes.dedicated.sample(draw);
        let (queues, pause) = match action {
            Action::HttpGet { .. } | Action::Grpc { .. } => match instance.listens() {
                true => (instance.model.probes.share, aside),
                false => (false, LOCAL),
            },
            Action::TcpSocket { .. } => (false, LOCAL),
            Action::Exec(_) if matches!(origin, Origin::Hook(_)) => {
                (false, instance.model.hook.sample(draw))
            }
            Action::Exec(_) => (false, aside),
            Action::Sleep(seconds) => (false, Duration::from_secs(u64::from(*seconds))),
        };
        exchange.stage = Stage::Sent;
        // What an exec hook runs does not depend on the application.
        exchange.fresh = !matches!(
            (origin, action),
            (Origin::Hook(_), Action::Exec(_) | Action::Sleep(_))
        );
        let key = self.exchanges.insert(exchange);
        if queues {
            self.accept(key, unit, now, out);
        } else {
            self.hold_aside(key, unit);
            out.at(now + pause, Event::Done(key));
        }
    }

    /// A probe that takes no place is held by its process too, to end with it.
    fn hold_aside(&mut self, key: Key, unit: Key) {
        let u = &mut self.units[unit];
        let before = std::mem::replace(&mut u.last, key);
        if before == Key::NONE {
            u.first = key;
        }
        let exchange = &mut self.exchanges[key];
        exchange.held = true;
        exchange.before = before;
        if let Some(before) = self.exchanges.get_mut(before) {
            before.after = key;
        }
    }

    /// A probe or hook that took no place is done.
    pub(super) fn probe_done(&mut self, key: Key, now: Time, out: &mut Out) {
        let Some(exchange) = self.exchanges.get(key) else {
            return;
        };
        let instance = &self.units[exchange.unit].instance;
        if instance.frozen {
            // It will be answered when the process runs again.
            return out.at(now + Duration::from_secs(1), Event::Done(key));
        }
        let status = match instance.listens() || !exchange.fresh {
            true => Status::Ok,
            false => Status::Failed(Cause::Refused, Class::NotListening),
        };
        self.unlink(key);
        self.answer(key, status, now, out);
    }

    /// A probe or hook has its answer.
    pub(super) fn probe_answered(&mut self, key: Key, status: Status, out: &mut Out) {
        let exchange = &mut self.exchanges[key];
        exchange.awaited = false;
        let (origin, unit) = (exchange.origin, exchange.unit);
        self.free(key);
        let Some(unit) = self.units.get(unit) else {
            return;
        };
        let container = unit.id;
        match origin {
            Origin::Probe(which, n) => {
                let outcome = match status {
                    Status::Ok => ProbeOutcome::Success,
                    Status::Failed(Cause::Refused | Cause::Reset, _) => ProbeOutcome::Refused,
                    Status::Failed(..) => ProbeOutcome::Failure,
                };
                out.runtime.push(probed(container, which, n, outcome));
            }
            Origin::Hook(hook) => {
                let ok = status == Status::Ok;
                out.runtime.push(RuntimeEvent::HookDone {
                    container,
                    hook,
                    ok,
                });
            }
            _ => {}
        }
    }
}

fn probed(container: ContainerId, which: ProbeKind, n: u8, outcome: ProbeOutcome) -> RuntimeEvent {
    RuntimeEvent::Probed {
        container,
        which,
        n,
        outcome,
    }
}
