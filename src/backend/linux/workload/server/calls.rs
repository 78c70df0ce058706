//! Calls to other Services while a request is in work.
//!
//! They are made as the simulation makes them: the same pools of connections, time limits, pauses
//! between attempts and retry budgets, drawn for the same request. A retry budget is each process's
//! own. Which endpoint its node chose for a connection a process learns from the node's news
//! ([`Choices`]), on a socket that it was born with; what came of its calls it tells on another one.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;

use super::job::Stage;
use super::line::{Line, Went};
use super::{Server, nanos, sys};
use crate::backend::linux::net::child::Channel;
use crate::backend::linux::net::conntrack::Choices;
use crate::backend::linux::workload::peer::{self, Names};
use crate::backend::linux::workload::{CallTold, Ears, http};
use crate::engine::{Purpose, Time};
use crate::load::client::{Budget, Pool, backoff};
use crate::load::tally::Cause;

const CALL: Purpose = Purpose::new("load/call-request");
const BACKOFF: Purpose = Purpose::new("load/backoff");

/// The first token of a connection to another Service.
pub const FIRST: u64 = 1 << 40;
/// No line, or no place in a pool.
const NONE: u32 = u32::MAX;

/// A call in flight.
#[derive(Clone, Copy, Debug)]
pub struct Calling {
    /// Which of the model's calls.
    pub which: usize,
    /// How many attempts failed before.
    pub attempt: u32,
    /// When the first one was made.
    sent: u64,
    /// The endpoint of this attempt, 0 when none is known.
    endpoint: u32,
    /// The endpoint at which the attempt before it failed.
    avoid: u32,
    /// Identity of the call, for draws.
    pub entity: u64,
    /// When the attempt counts as failed, or the pause before it is over.
    pub due: u64,
    /// It waits before the next attempt.
    pub pausing: bool,
    /// The connection that is used, if there is one.
    line: Option<u64>,
    /// Its place in the pool.
    place: u32,
    /// Its kept connection had been closed, and it was sent once more over a new one.
    redialled: bool,
}

/// Connections to other Services.
#[derive(Default)]
pub struct Outbound {
    lines: BTreeMap<u64, Line>,
    opened: u64,
    /// By call of the model.
    pools: Vec<(Pool<u64>, Budget)>,
    names: Option<Names>,
    choices: Option<Choices>,
    reports: Option<Channel>,
    told: Vec<CallTold>,
}

/// Reports in one message.
const TOLD: usize = 256;

impl Outbound {
    /// What a process was born with.
    pub fn new(ears: Option<Ears>) -> Outbound {
        let (choices, reports) = match ears {
            Some(ears) => (ears.choices, Some(ears.reports)),
            None => (None, None),
        };
        Outbound {
            choices,
            reports,
            ..Outbound::default()
        }
    }

    /// Whether something is still to be told.
    pub fn has_news(&self) -> bool {
        !self.told.is_empty()
    }

    /// Tells what came of calls. What there is no room for now is told later.
    pub fn tell(&mut self) {
        let Some(reports) = &self.reports else {
            return self.told.clear();
        };
        while !self.told.is_empty() {
            let count = self.told.len().min(TOLD);
            match reports.send(&self.told[..count].to_vec(), &[]) {
                Ok(true) => drop(self.told.drain(..count)),
                Ok(false) => return,
                // Nobody listens any more.
                Err(_) => self.told.clear(),
            }
        }
    }
}

/// What a failed attempt looks like to its client.
fn cause_of(error: &io::Error, rejected: bool) -> Cause {
    match error.kind() {
        io::ErrorKind::NotFound => Cause::Dns,
        io::ErrorKind::ConnectionRefused if rejected => Cause::NoEndpoints,
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => Cause::Refused,
        io::ErrorKind::TimedOut => Cause::Timeout,
        _ => Cause::Reset,
    }
}

/// What an answer looks like to its client that is no success.
fn cause_of_status(status: u16) -> Cause {
    match status {
        502 | 504 => Cause::Downstream,
        503 => Cause::Unavailable,
        _ => Cause::Error,
    }
}

impl Server {
    fn calling(&mut self, token: u64) -> Option<&mut Calling> {
        let job = self.connections.get_mut(&token)?.job.as_mut()?;
        match &mut job.stage {
            Stage::Calling(calling) => Some(calling),
            _ => None,
        }
    }

    /// Makes the n-th call of a request; after the last one the request is done.
    pub(super) fn call(&mut self, token: u64, which: usize) {
        if which >= self.model.calls.len() {
            return self.finish(token, true);
        }
        let draws = self.draws;
        let Some(job) = self
            .connections
            .get_mut(&token)
            .and_then(|c| c.job.as_mut())
        else {
            return;
        };
        let n = u64::from(job.attempt) << 32 | which as u64;
        let (now, sender) = (sys::monotonic(), self.model.calls[which].sender);
        self.outbound.told.push(CallTold::Sent { sender, at: now });
        job.stage = Stage::Calling(Calling {
            which,
            attempt: 0,
            sent: now,
            endpoint: 0,
            avoid: 0,
            entity: draws.u64(CALL, job.entity, n),
            due: u64::MAX,
            pausing: false,
            line: None,
            place: NONE,
            redialled: false,
        });
        self.attempt(token);
    }

    /// Begins an attempt: over an idle connection, or a new one.
    pub(super) fn attempt(&mut self, token: u64) {
        let now = sys::monotonic();
        let Some(calling) = self.calling(token).copied() else {
            return;
        };
        let which = calling.which;
        let pools = &mut self.outbound.pools;
        pools.resize_with(pools.len().max(which + 1), Default::default);
        let (pool, budget) = &mut pools[which];
        let client = &self.model.calls[which].client;
        if calling.attempt == 0 {
            budget.request(client);
        }
        let place = pool.take(client);
        let kept = place.and_then(|p| pool.connection(p, client, Time::from_nanos(now)));
        let due = now.saturating_add(nanos(client.timeout));
        let idle = kept.filter(|line| {
            let line = self.outbound.lines.get(line);
            line.is_some_and(|line| line.job.is_none())
        });
        if let Some(calling) = self.calling(token) {
            *calling = Calling {
                due,
                pausing: false,
                line: None,
                endpoint: 0,
                place: place.unwrap_or(NONE),
                redialled: false,
                ..*calling
            };
        }
        match idle {
            Some(line) => self.send_over(token, line, false),
            None => self.dial(token),
        }
    }

    fn dial(&mut self, token: u64) {
        let Some(calling) = self.calling(token).copied() else {
            return;
        };
        let elsewhere = self.model.calls[calling.which].client.retry_elsewhere;
        let avoid = calling.avoid * u32::from(elsewhere);
        match self.open(calling.which, calling.place, avoid) {
            Ok(line) => self.send_over(token, line, true),
            Err(error) => self.attempt_failed(token, cause_of(&error, false)),
        }
    }

    fn open(&mut self, which: usize, place: u32, avoid: u32) -> io::Result<u64> {
        let names = self.outbound.names.get_or_insert_with(Names::read);
        let target = &self.model.calls[which].target;
        let choices = self.outbound.choices.as_mut();
        let line = Line::open(target, names, (which, place), avoid, choices)?;
        let token = FIRST + self.outbound.opened;
        self.outbound.opened += 1;
        sys::epoll_set(self.epoll.as_fd(), line.fd(), line.interest(), token)?;
        self.outbound.lines.insert(token, line);
        Ok(token)
    }

    fn send_over(&mut self, token: u64, number: u64, fresh: bool) {
        let Some(calling) = self.calling(token) else {
            return;
        };
        calling.line = Some(number);
        let request = format!("{:x}.{}", calling.entity, calling.attempt);
        let which = calling.which;
        let headers = [(http::REQUEST_ID.to_owned(), request)];
        let host = call_host(&self.model.calls[which]);
        if let Some(line) = self.outbound.lines.get_mut(&number) {
            let endpoint = line.endpoint;
            if let Some(Stage::Calling(calling)) = (self.connections.get_mut(&token))
                .and_then(|c| c.job.as_mut())
                .map(|job| &mut job.stage)
            {
                calling.endpoint = endpoint;
            }
            line.job = Some(token);
            line.fresh = fresh;
            line.ask(&http::get("/", &host, "rehearsal", &headers));
        }
        self.called(number);
    }

    /// Something happened on a connection to another Service.
    pub(super) fn called(&mut self, number: u64) {
        loop {
            let Some(line) = self.outbound.lines.get_mut(&number) else {
                return;
            };
            match line.go_on(self.outbound.choices.as_mut()) {
                Ok(Went::Changed) => {}
                Ok(Went::Opened) => {
                    let (which, place) = (line.which, line.place);
                    if place != NONE {
                        let now = Time::from_nanos(sys::monotonic());
                        self.outbound.pools[which].0.opened(place, number, now);
                    }
                }
                Ok(Went::On) => {
                    // A descriptor that cannot be watched shows as a call that takes too long.
                    let _ = sys::epoll_set(self.epoll.as_fd(), line.fd(), line.interest(), number);
                    return;
                }
                Ok(Went::Answered(response)) => return self.answered(number, response),
                Err(error) => return self.broken(number, &error),
            }
        }
    }

    /// A connection failed.
    fn broken(&mut self, number: u64, error: &io::Error) {
        let Some(mut line) = self.outbound.lines.remove(&number) else {
            return;
        };
        let Some(token) = line.job else { return };
        let cause = cause_of(error, line.rejected());
        line.look(self.outbound.choices.as_mut());
        if let Some(calling) = self.calling(token) {
            calling.endpoint = line.endpoint;
        }
        // A kept connection that had been closed meanwhile: the request goes over a new one.
        let stale = !line.fresh && line.unanswered();
        match self.calling(token) {
            Some(calling) if stale && !calling.redialled => {
                calling.redialled = true;
                calling.line = None;
                self.dial(token);
            }
            _ => self.attempt_failed(token, cause),
        }
    }

    fn answered(&mut self, number: u64, response: http::Response) {
        let Some(line) = self.outbound.lines.get_mut(&number) else {
            return;
        };
        let (token, which, place) = (line.job.take(), line.which, line.place);
        let endpoint = line.endpoint;
        let keep = response.keep_alive && place != NONE;
        if !keep {
            self.outbound.lines.remove(&number);
        }
        let Some(token) = token else { return };
        let (pool, _) = &mut self.outbound.pools[which];
        if place != NONE && !keep {
            pool.closed(place);
        }
        if let Some(calling) = self.calling(token) {
            (calling.line, calling.place) = (None, NONE);
            calling.endpoint = endpoint;
        }
        self.give_back(which, place);
        match response.status {
            200..=399 => {
                self.call_ended(token, None);
                self.call(token, which + 1);
            }
            status => self.again_or_not(token, cause_of_status(status)),
        }
    }

    fn give_back(&mut self, which: usize, place: u32) {
        if place != NONE {
            let client = &self.model.calls[which].client;
            self.outbound.pools[which].0.put(place, client);
        }
    }

    /// Tells what came of a call.
    fn call_ended(&mut self, token: u64, cause: Option<Cause>) {
        let Some(calling) = self.calling(token).copied() else {
            return;
        };
        self.outbound.told.push(CallTold::Ended {
            sender: self.model.calls[calling.which].sender,
            sent: calling.sent,
            at: sys::monotonic(),
            cause,
            endpoint: calling.endpoint,
        });
    }

    /// An attempt failed or took too long: its connection is of no use any more.
    pub(super) fn attempt_failed(&mut self, token: u64, cause: Cause) {
        let Some(calling) = self.calling(token) else {
            return;
        };
        let (which, line) = (calling.which, calling.line.take());
        let place = std::mem::replace(&mut calling.place, NONE);
        if let Some(mut line) = line.and_then(|line| self.outbound.lines.remove(&line)) {
            line.look(self.outbound.choices.as_mut());
            if let Some(calling) = self.calling(token) {
                calling.endpoint = line.endpoint;
            }
        }
        if place != NONE {
            self.outbound.pools[which].0.closed(place);
            self.give_back(which, place);
        }
        self.again_or_not(token, cause);
    }

    /// Another attempt after a pause, or on to the next call, or the end.
    fn again_or_not(&mut self, token: u64, cause: Cause) {
        let draws = self.draws;
        let Some(calling) = self.calling(token).copied() else {
            return;
        };
        let which = calling.which;
        let call = &self.model.calls[which];
        let (client, optional) = (&call.client, call.optional);
        let budget = &mut self.outbound.pools[which].1;
        if calling.attempt < client.retries && !cause.is_final() && budget.retry(client) {
            let attempt = calling.attempt + 1;
            let unit = draws.unit(BACKOFF, calling.entity, u64::from(attempt));
            let pause = nanos(backoff(client, attempt, unit));
            if let Some(calling) = self.calling(token) {
                calling.attempt = attempt;
                calling.avoid = calling.endpoint;
                calling.pausing = true;
                calling.due = sys::monotonic().saturating_add(pause);
            }
            if pause == 0 {
                self.attempt(token);
            }
            return;
        }
        self.call_ended(token, Some(cause));
        match optional {
            true => self.call(token, which + 1),
            false => self.finish(token, false),
        }
    }
}

fn call_host(call: &peer::Call) -> String {
    format!("{}:{}", call.target.host, call.target.port)
}
