//! The client's side of an exchange: connecting, sending, losing patience, trying again.

use std::time::Duration;

use super::exchange::{Exchange, NONE, Origin, Stage, Status};
use super::{DataPlane, Event, Out, units};
use crate::engine::Time;
use crate::engine::draws::Purpose;
use crate::load::client::{Pool, backoff};
use crate::load::model::Client;
use crate::load::tally::{Cause, Class, Failure};
use crate::load::{Key, instance};
use crate::net::{Choice, End, NoRoute, Place, Verdict};

const CONNECT: Purpose = Purpose::new("load/connect");
const PACKET: Purpose = Purpose::new("load/packet");
const HANDSHAKE: Purpose = Purpose::new("load/handshake");
const BACKOFF: Purpose = Purpose::new("load/backoff");

/// A request as it is on a link: its line and headers, and those below it.
pub const REQUEST_BYTES: u64 = 250;
/// An answer without a body.
pub const ANSWER_BYTES: u64 = 200;

/// A name lookup that reaches the cluster's DNS server (or a cache on the node).
const LOOKUP: Duration = Duration::from_micros(300);
/// First retransmission of a lost SYN (RFC 6298, Linux `TCP_TIMEOUT_INIT`) and of lost data
/// (`TCP_RTO_MIN`); each later one waits twice as long.
pub(super) const SYN_RTO: Duration = Duration::from_secs(1);
pub(super) const DATA_RTO: Duration = Duration::from_millis(200);
/// After this long without an answer a connection is given up (Linux `tcp_retries2`, about 924 s).
const GIVE_UP: Duration = Duration::from_secs(924);

/// An open connection.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// The process at its other end.
    pub unit: Key,
    /// Its pod and the node.
    pub pod: u32,
    /// See `pod`.
    pub to: Place,
    /// The node that forwards.
    pub via: Option<Place>,
    /// The Service that it was opened through.
    pub service: u32,
}

impl DataPlane {
    /// Begins an attempt: over an idle connection, or a new one.
    pub(super) fn attempt(&mut self, key: Key, now: Time, out: &mut Out) {
        let exchange = &self.exchanges[key];
        let (number, origin) = (exchange.sender, exchange.origin);
        let sender = &mut self.senders[number as usize];
        sender.tally.attempts += 1;
        if exchange.attempt == 0 {
            sender.budget.request(&sender.client);
        }
        let client = sender.client.clone();
        self.await_answer(key, now + client.timeout, out);
        let Some(pool) = self.pool(number, origin) else {
            return self.fail(key, Cause::Reset, Class::Killed, now, out);
        };
        let place = pool.take(&client);
        let mut line = place.and_then(|place| pool.connection(place, &client, now));
        if let Some(found) = line
            && !self.line_is_open(&found, now)
        {
            line = None;
        }
        let exchange = &mut self.exchanges[key];
        exchange.place = place.unwrap_or(NONE);
        exchange.stage = Stage::Sent;
        if let Some(line) = line {
            exchange.fresh = false;
            exchange.unit = line.unit;
            exchange.pod = line.pod;
            exchange.to = line.to;
            exchange.via = line.via;
            exchange.service = line.service;
            return self.transmit(key, now, out);
        }
        self.connect(key, &client, now, out);
    }

    /// Whether the client still believes in a connection: the other end has not closed it, or was
    /// not able to say so.
    fn line_is_open(&self, line: &Line, now: Time) -> bool {
        match self.units.get(line.unit) {
            None => false,
            Some(unit) => match unit.instance.stage {
                instance::Stage::Draining => false,
                instance::Stage::Vanished => now.since(unit.vanished_at) < GIVE_UP,
                _ => true,
            },
        }
    }

    /// Chooses an endpoint for a new connection.
    fn connect(&mut self, key: Key, client: &Client, now: Time, out: &mut Out) {
        let exchange = &self.exchanges[key];
        let (entity, attempt, from) = (exchange.entity, exchange.attempt, exchange.from);
        let (avoid, mut address) = (exchange.avoid, exchange.address);
        if client.addresses == 0 && exchange.place != NONE {
            address = u64::from(exchange.place);
        }
        if from.pod != NONE {
            address = u64::from(from.pod);
        }
        let target = self.senders[exchange.sender as usize].target;
        let mut chosen = Err(NoRoute::NoEndpoints);
        // A client that balances by itself looks for another endpoint a few times.
        let tries = if client.retry_elsewhere && avoid != NONE {
            8
        } else {
            1
        };
        for n in 0..tries {
            let which = u64::from(attempt) * 8 + n;
            let draw = self.draws.u64(CONNECT, entity, which);
            chosen = self.net.connect(from, target, address, draw, now);
            if chosen.as_ref().is_ok_and(|c| c.endpoint.pod != avoid) {
                break;
            }
        }
        match chosen {
            Ok(choice) => self.dial(key, &choice, now, out),
            Err(NoRoute::Dns) => self.turn_away(key, Cause::Dns, Class::Dns, now + LOOKUP, out),
            Err(NoRoute::NoEndpoints) => {
                let (cause, class) = (Cause::NoEndpoints, Class::NoEndpoints);
                self.turn_away(key, cause, class, now + LOOKUP, out);
            }
            Err(NoRoute::Astray) => self.lose(key, Class::Dns),
            Err(NoRoute::NoLocalEndpoints) => self.lose(key, Class::NoLocalEndpoints),
            Err(NoRoute::NotProgrammed) => self.lose(key, Class::NotProgrammed),
        }
    }

    fn dial(&mut self, key: Key, choice: &Choice, now: Time, out: &mut Out) {
        let exchange = &mut self.exchanges[key];
        (exchange.fresh, exchange.redial, exchange.shaken) = (true, false, false);
        exchange.unit = Key::NONE;
        exchange.pod = choice.endpoint.pod;
        exchange.port = choice.endpoint.port;
        exchange.to = choice.endpoint.place;
        exchange.via = choice.via;
        exchange.service = choice.service.0;
        exchange.looked_up = choice.looked_up;
        self.transmit(key, now, out);
    }

    /// Its packets are dropped; the client will run out of time.
    fn lose(&mut self, key: Key, class: Class) {
        self.exchanges[key].stage = Stage::Lost(class);
    }

    /// What becomes of a packet with data between an exchange's client and its server.
    pub(super) fn way(&self, exchange: &Exchange, back: bool) -> Verdict {
        self.packet(exchange, PACKET, back)
    }

    /// How much later bytes arrive for the rates of the links on their way.
    pub(super) fn queued(&mut self, key: Key, back: bool, bytes: u64, now: Time) -> Duration {
        if self.net.links().is_free() {
            return Duration::ZERO;
        }
        let exchange = &self.exchanges[key];
        let (client, via) = (exchange.from, exchange.via.map(End::from));
        let server = End::pod(exchange.to, exchange.pod);
        let (from, to) = if back {
            (server, client)
        } else {
            (client, server)
        };
        let mut at = (from, now);
        for next in via.into_iter().chain([to]) {
            at = (next, at.1 + self.net.queue(at.0, next, bytes, at.1));
        }
        at.1.since(now)
    }

    fn packet(&self, exchange: &Exchange, purpose: Purpose, back: bool) -> Verdict {
        let n = u64::from(exchange.attempt) << 32 | u64::from(exchange.lost) << 1;
        let draw = self
            .draws
            .u64(purpose, exchange.entity, n | u64::from(back));
        let server = End::pod(exchange.to, exchange.pod);
        let (from, to) = match back {
            false => (exchange.from, server),
            true => (server, exchange.from),
        };
        let Some(via) = exchange.via else {
            return self.net.path(from, to, draw);
        };
        let first = self.net.path(from, via, draw);
        let second = self.net.path(via, to, draw.rotate_left(32));
        match (first, second) {
            (Verdict::Deliver(a), Verdict::Deliver(b)) => Verdict::Deliver(a + b),
            _ => Verdict::Drop,
        }
    }

    /// Sends the request, with the handshake of a new connection before it: the SYN, the SYN-ACK
    /// and the request behind the ACK are packets of their own, each delayed or lost by itself.
    pub(super) fn transmit(&mut self, key: Key, now: Time, out: &mut Out) {
        let exchange = &mut self.exchanges[key];
        let mut sent = now;
        if std::mem::take(&mut exchange.looked_up) {
            sent += LOOKUP;
        }
        let exchange = &self.exchanges[key];
        let shakes = exchange.fresh && !exchange.shaken;
        if shakes {
            let ways = [false, true].map(|back| self.packet(exchange, HANDSHAKE, back));
            let [Verdict::Deliver(syn), Verdict::Deliver(syn_ack)] = ways else {
                return self.send_later(key, sent, out);
            };
            sent += syn + syn_ack;
        }
        match self.way(exchange, false) {
            Verdict::Deliver(latency) => {
                let later = self.queued(key, false, REQUEST_BYTES, sent);
                out.at(sent + latency + later, Event::Deliver(key));
            }
            Verdict::Drop => {
                self.exchanges[key].shaken = shakes || exchange.shaken;
                self.send_later(key, sent, out);
            }
        }
    }

    /// A packet was lost: it is sent again after the retransmission time, unless the client has
    /// given up by then.
    pub(super) fn send_later(&mut self, key: Key, now: Time, out: &mut Out) {
        let exchange = &mut self.exchanges[key];
        let first = match exchange.fresh && !exchange.shaken {
            true => SYN_RTO,
            false => DATA_RTO,
        };
        let at = now + first * (1 << exchange.lost.min(16));
        exchange.lost += 1;
        if at < exchange.deadline {
            out.at(at, Event::Resend(key));
        } else if !exchange.awaited && !exchange.held {
            self.exchanges.remove(key);
        }
    }

    /// A lost packet is sent again.
    pub(super) fn resend(&mut self, key: Key, now: Time, out: &mut Out) {
        let Some(exchange) = self.exchanges.get(key) else {
            return;
        };
        match exchange.stage {
            Stage::Sent if exchange.awaited && exchange.redial => {
                let client = self.senders[exchange.sender as usize].client.clone();
                self.connect(key, &client, now, out);
            }
            Stage::Sent if exchange.awaited => self.transmit(key, now, out),
            Stage::Answering(status) => self.answer(key, status, now, out),
            _ => self.free(key),
        }
    }

    /// The idle connection that a request was sent over had been closed meanwhile: the client opens
    /// another one and nobody counts that as a failure (as Go's `net/http` and most others do).
    pub(super) fn reopen(&mut self, key: Key, now: Time, out: &mut Out) {
        let Verdict::Deliver(latency) = self.way(&self.exchanges[key], true) else {
            return self.send_later(key, now, out);
        };
        let exchange = &mut self.exchanges[key];
        exchange.redial = true;
        out.at(now + latency, Event::Resend(key));
    }

    /// Puts an attempt among those that wait for an answer.
    fn await_answer(&mut self, key: Key, deadline: Time, out: &mut Out) {
        let number = self.exchanges[key].sender;
        let sender = &mut self.senders[number as usize];
        let older = std::mem::replace(&mut sender.newest, key);
        if older == Key::NONE {
            sender.oldest = key;
        }
        if !sender.watched {
            sender.watched = true;
            out.at(deadline, Event::Expire(number));
        }
        let exchange = &mut self.exchanges[key];
        exchange.deadline = deadline;
        exchange.listed = true;
        exchange.older = older;
        exchange.newer = Key::NONE;
        if let Some(older) = self.exchanges.get_mut(older) {
            older.newer = key;
        }
    }

    /// Takes an attempt out of those that wait: its client knows how it went.
    fn stop_waiting(&mut self, key: Key) {
        let exchange = &mut self.exchanges[key];
        exchange.awaited = false;
        if !std::mem::take(&mut exchange.listed) {
            return;
        }
        let number = exchange.sender;
        let (older, newer) = (exchange.older, exchange.newer);
        let sender = &mut self.senders[number as usize];
        match self.exchanges.get_mut(older) {
            Some(older) => older.newer = newer,
            None => sender.oldest = newer,
        }
        match self.exchanges.get_mut(newer) {
            Some(newer) => newer.older = older,
            None => sender.newest = older,
        }
    }

    /// The pool that an exchange's connection is in; none when its owner is gone.
    fn pool(&mut self, number: u32, origin: Origin) -> Option<&mut Pool<Line>> {
        match origin {
            Origin::Call(parent) => {
                let parent = self.exchanges.get(parent)?;
                let call = parent.call as usize;
                self.units.get_mut(parent.unit)?.pools.get_mut(call)
            }
            _ => Some(&mut self.senders[number as usize].pool),
        }
    }

    /// The connection of an exchange was accepted: it may be used again.
    pub(super) fn connected(&mut self, key: Key, now: Time) {
        let exchange = &self.exchanges[key];
        if exchange.place == NONE || !exchange.awaited {
            return;
        }
        let line = Line {
            unit: exchange.unit,
            pod: exchange.pod,
            to: exchange.to,
            via: exchange.via,
            service: exchange.service,
        };
        let (number, origin, place) = (exchange.sender, exchange.origin, exchange.place);
        if let Some(pool) = self.pool(number, origin) {
            pool.opened(place, line, now);
        }
    }

    /// Gives the connection back, open or closed.
    fn release(&mut self, key: Key, open: bool) {
        let exchange = &self.exchanges[key];
        if exchange.place == NONE {
            return;
        }
        let (number, origin, place) = (exchange.sender, exchange.origin, exchange.place);
        let client = self.senders[number as usize].client.clone();
        if let Some(pool) = self.pool(number, origin) {
            // Others still use a shared connection; it is closed when its other end is known to be.
            if !open && !client.multiplex {
                pool.closed(place);
            }
            pool.put(place, &client);
        }
    }

    /// The oldest attempts of a sender may have run out of time.
    pub(super) fn expire(&mut self, number: u32, now: Time, out: &mut Out) {
        self.senders[number as usize].watched = false;
        loop {
            let key = self.senders[number as usize].oldest;
            let Some(exchange) = self.exchanges.get(key) else {
                return;
            };
            if exchange.deadline > now {
                let sender = &mut self.senders[number as usize];
                if !std::mem::replace(&mut sender.watched, true) {
                    out.at(exchange.deadline, Event::Expire(number));
                }
                return;
            }
            let class = self.why_late(exchange);
            self.fail(key, Cause::Timeout, class, now, out);
        }
    }

    fn why_late(&self, exchange: &Exchange) -> Class {
        if let Stage::Lost(class) = exchange.stage {
            return class;
        }
        if exchange.held {
            let frozen = self.units.get(exchange.unit).map(|u| u.instance.frozen);
            return match frozen {
                Some(true) => Class::Frozen,
                _ => Class::Slow,
            };
        }
        if self.dark.contains(&exchange.to) || exchange.via.is_some_and(|v| self.dark.contains(&v))
        {
            return Class::DeadEndpoint;
        }
        match exchange.stage {
            Stage::Sent if exchange.lost > 0 => Class::Network,
            Stage::Answering(_) if exchange.lost > 0 => Class::Network,
            _ => Class::Slow,
        }
    }

    /// The client has its answer at `at`, now or a little later.
    pub(super) fn succeed(&mut self, key: Key, at: Time, out: &mut Out) {
        self.stop_waiting(key);
        self.release(key, true);
        let exchange = &self.exchanges[key];
        let (number, origin, sent) = (exchange.sender, exchange.origin, exchange.first_sent);
        let pod = exchange.pod;
        self.senders[number as usize].tally.ok(sent, at, pod);
        self.free(key);
        match origin {
            Origin::User(user) => self.next_of_user(number, user, at, out),
            Origin::Call(parent) => self.called(parent, true, at, out),
            Origin::Webhook(question) => out.webhooks.push((question, Ok(()))),
            Origin::Probe(..) | Origin::Hook(_) => {}
        }
    }

    /// The attempt failed, as the client will learn at `at`.
    pub(super) fn turn_away(
        &mut self,
        key: Key,
        cause: Cause,
        class: Class,
        at: Time,
        out: &mut Out,
    ) {
        let exchange = &mut self.exchanges[key];
        match exchange.origin {
            // Nothing follows but the user's own next attempt, which has a time of its own.
            Origin::User(_) => self.fail(key, cause, class, at, out),
            _ => {
                exchange.stage = Stage::Answering(Status::Failed(cause, class));
                out.at(at, Event::Answer(key));
            }
        }
    }

    /// The attempt failed, as the client learns at `at`: it tries again or gives up.
    pub(super) fn fail(&mut self, key: Key, cause: Cause, class: Class, at: Time, out: &mut Out) {
        self.stop_waiting(key);
        let answered = matches!(cause, Cause::Unavailable | Cause::Error | Cause::Downstream);
        self.release(key, answered);
        let exchange = &self.exchanges[key];
        let number = exchange.sender;
        let sender = &mut self.senders[number as usize];
        let left = exchange.attempt < sender.client.retries && !cause.is_final();
        if left && sender.budget.retry(&sender.client) {
            let again = exchange.again();
            let unit = self
                .draws
                .unit(BACKOFF, again.entity, u64::from(again.attempt));
            let pause = backoff(&sender.client, again.attempt, unit);
            let origin = again.origin;
            let next = self.exchanges.insert(again);
            if let Origin::Call(parent) = origin
                && let Some(parent) = self.exchanges.get_mut(parent)
            {
                parent.child = next;
            }
            out.at(at + pause, Event::Retry(next));
            return self.free(key);
        }
        self.give_up(key, cause, class, at, out);
    }

    fn give_up(&mut self, key: Key, cause: Cause, class: Class, at: Time, out: &mut Out) {
        let exchange = &self.exchanges[key];
        let (number, origin, sent) = (exchange.sender, exchange.origin, exchange.first_sent);
        let (from, service) = (exchange.from.place, exchange.service);
        let failure = Failure {
            cause,
            class,
            pod: exchange.pod,
            place: match exchange.pod {
                NONE => NONE,
                _ => exchange.to.0,
            },
        };
        let (net, pods, units) = (&mut self.net, &self.pods, &self.units);
        let dark = &self.dark;
        let census = || {
            if service == NONE {
                return (0, 0);
            }
            let dead = |e: &crate::net::endpoints::Endpoint| {
                dark.contains(&e.place) || !units::alive(pods, units, e.pod, at)
            };
            let service = crate::net::services::ServiceId(service);
            let (dead, all) = net.census(from, service, at, dead);
            (
                u32::try_from(dead).unwrap_or(u32::MAX),
                u32::try_from(all).unwrap_or(u32::MAX),
            )
        };
        self.senders[number as usize]
            .tally
            .fail(sent, at, failure, census);
        self.free(key);
        match origin {
            Origin::User(user) => self.next_of_user(number, user, at, out),
            Origin::Call(parent) => self.called(parent, false, at, out),
            Origin::Webhook(question) => out.webhooks.push((question, Err(cause))),
            Origin::Probe(..) | Origin::Hook(_) => {}
        }
    }

    /// The pause before a retry is over.
    pub(super) fn retry(&mut self, key: Key, now: Time, out: &mut Out) {
        match self.exchanges.get(key).map(|e| e.awaited) {
            Some(true) => self.attempt(key, now, out),
            Some(false) => self.free(key),
            None => {}
        }
    }

    /// The client is gone: nobody waits for the attempt any more, but its server may work on.
    pub(super) fn abandon(&mut self, key: Key) {
        if self.exchanges.get(key).is_some() {
            self.stop_waiting(key);
            self.free(key);
        }
    }

    /// Forgets an exchange when neither side holds it.
    pub(super) fn free(&mut self, key: Key) {
        if let Some(exchange) = self.exchanges.get(key)
            && !exchange.awaited
            && !exchange.held
        {
            self.exchanges.remove(key);
        }
    }

    /// An answer reaches a caller inside the cluster.
    pub(super) fn answered(&mut self, key: Key, now: Time, out: &mut Out) {
        let Some(exchange) = self.exchanges.get(key) else {
            return;
        };
        if !exchange.awaited {
            return self.free(key);
        }
        match exchange.stage {
            Stage::Answering(Status::Ok) => self.succeed(key, now, out),
            Stage::Answering(Status::Failed(cause, class)) => {
                self.fail(key, cause, class, now, out);
            }
            _ => {}
        }
    }
}
