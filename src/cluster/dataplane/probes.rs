//! Probes and hooks: questions of the kubelet that take the way through the process.
//!
//! HTTP and gRPC probes are refused while nobody in the pod listens on the port that they ask for
//! ([`crate::load::ports`]); then they queue and work like requests (`share: requests`) or are
//! answered aside. A TCP probe succeeds as soon as somebody listens there, however busy. An `exec` probe's command fails until the process listens, as one
//! that asks the application does, and does not queue. The kubelet counts timeouts by itself, so
//! that an answer may be late here.
//!
//! Packets of probes go between a pod and its node, and meet the rules of links that are about the pod
//! and everybody, or the node: netem at a pod's device, as Chaos Mesh sets it, asks no packet who sent
//! it. A lost one is sent again, as by TCP. Those of hooks do not.

use std::time::Duration;

use super::client::{DATA_RTO, SYN_RTO};
use super::exchange::{Exchange, NONE, Origin, Stage, Status};
use super::{DataPlane, Event, Out};
use crate::api::probe::Action;
use crate::engine::Time;
use crate::engine::draws::Purpose;
use crate::kubelet::RuntimeEvent;
use crate::kubelet::runtime::{ContainerId, Hook, ProbeKind, ProbeOutcome};
use crate::load::Key;
use crate::load::ports::asked;
use crate::load::tally::{Cause, Class};
use crate::net::{End, Verdict};

const PROBE: Purpose = Purpose::new("load/probe");
const PACKET: Purpose = Purpose::new("load/probe-packet");
const HOOK: Purpose = Purpose::new("load/hook");

/// Nobody waits longer for a probe whose packets are lost (`timeoutSeconds` is an int32 that nobody
/// sets to this).
const GIVEN_UP: Duration = Duration::from_secs(3600);

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
        if asked(action) == Some(0) {
            // `pkg/probe/util.go :: ResolveContainerPort`: a name that is no port's.
            let outcome = ProbeOutcome::Unknown;
            return out.runtime.push(probed(container, which, n as u8, outcome));
        }
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
        let port = asked(action);
        let answers = port.map_or(Some(unit), |port| self.listener(unit, port, now));
        let address = match action {
            Action::HttpGet { path, .. } if !self.http.is_empty() => self.http_path(path),
            _ => 0,
        };
        let u = &self.units[unit];
        let instance = &u.instance;
        let from = End::pod(u.place, u.id.pod.0);
        let mut exchange = Exchange::new(entity, NONE, origin, from, now);
        (exchange.unit, exchange.pod, exchange.to) = (unit, u.id.pod.0, u.place);
        exchange.port = port.unwrap_or(0);
        exchange.address = address;
        let draw = self.draws.unit(PROBE, entity, 0);
        let aside = instance.model.probes.dedicated.sample(draw);
        let (queues, pause) = match action {
            Action::HttpGet { .. } | Action::Grpc { .. } => match answers {
                Some(key) if key == unit => (instance.model.probes.share, aside),
                Some(_) => (false, aside),
                None => (false, LOCAL),
            },
            Action::TcpSocket { .. } => (false, LOCAL),
            Action::Exec(_) if matches!(origin, Origin::Hook(_)) => {
                (false, instance.model.hook.sample(draw))
            }
            Action::Exec(_) => (false, aside),
            Action::Sleep(seconds) => (false, Duration::from_secs(u64::from(*seconds))),
        };
        let Some(late) = self.late(&exchange, action, now) else {
            return;
        };
        exchange.stage = Stage::Sent;
        // What an exec hook runs does not depend on the application.
        exchange.fresh = !matches!(
            (origin, action),
            (Origin::Hook(_), Action::Exec(_) | Action::Sleep(_))
        );
        let key = self.exchanges.insert(exchange);
        if queues && late.is_zero() {
            self.accept(key, unit, now, out);
        } else if queues {
            out.at(now + late, Event::Deliver(key));
        } else {
            self.hold_aside(key, unit);
            out.at(now + pause + late, Event::Done(key));
        }
    }

    /// How much later a probe is answered for what happens to its packets; none, if its kubelet has
    /// given up long before.
    fn late(&self, probe: &Exchange, action: &Action, now: Time) -> Option<Duration> {
        /// To the pod or back, with these packets of the handshake or behind it.
        const HANDSHAKE: &[bool] = &[true, false];
        let data: &[&[bool]] = match (probe.origin, action) {
            _ if self.net.links().is_free() => return Some(Duration::ZERO),
            (Origin::Probe(..), Action::HttpGet { .. } | Action::Grpc { .. }) => {
                &[&[true], &[false]]
            }
            (Origin::Probe(..), Action::TcpSocket { .. }) => &[],
            _ => return Some(Duration::ZERO),
        };
        let (mut late, mut n) = (Duration::ZERO, 0);
        let steps = [(HANDSHAKE, SYN_RTO)].into_iter();
        for (packets, rto) in steps.chain(data.iter().map(|packets| (*packets, DATA_RTO))) {
            let mut wait = rto;
            // Together: a handshake of which one packet is lost begins again.
            loop {
                let mut arrive = packets.iter().map(|to_the_pod| {
                    n += 1;
                    let draw = self.draws.u64(PACKET, probe.entity, n);
                    let ends = (probe.to, probe.pod);
                    self.net
                        .links()
                        .path_to_own_node(ends, *to_the_pod, draw, now)
                });
                let took = arrive.try_fold(Duration::ZERO, |sum, verdict| match verdict {
                    Verdict::Deliver(latency) => Some(sum + latency),
                    Verdict::Drop => None,
                });
                if let Some(took) = took {
                    late += took;
                    break;
                }
                late += wait;
                wait *= 2;
                if late > GIVEN_UP {
                    return None;
                }
            }
        }
        Some(late)
    }

    /// The process of a container's pod that listens on a port, its own one first.
    fn listener(&self, unit: Key, port: u16, now: Time) -> Option<Key> {
        let serves = |key: &Key| {
            let unit = self.units.get(*key);
            unit.is_some_and(|u| port > 0 && u.instance.listens(now) && u.ports.contains(port))
        };
        let pod = self
            .pods
            .get(self.units.get(unit)?.id.pod.index())?
            .as_ref()?;
        let own = Some(unit).filter(serves);
        own.or_else(|| pod.units.iter().copied().find(serves))
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
        let own = exchange.unit;
        let listens = match exchange.port {
            0 => Some(own).filter(|own| self.units[*own].instance.listens(now)),
            port => self.listener(own, port, now),
        };
        if self.units[listens.unwrap_or(own)].instance.frozen {
            // It will be answered when the process runs again.
            return out.at(now + Duration::from_secs(1), Event::Done(key));
        }
        let status = match listens.is_some() || !exchange.fresh {
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
