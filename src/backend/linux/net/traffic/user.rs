//! A request from its arrival to its end: one epoll loop for all users.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::libc;

use super::http::{self, Answer, Progress};
use super::line::{self, Chooser, Connection, token};
use super::{Command, Plan, Told, cause_of, cause_of_status};
use crate::backend::linux::net::child::Channel;
use crate::backend::linux::net::conntrack::Choices;
use crate::backend::linux::net::netlink::Socket;
use crate::backend::linux::net::sys::{self, Poll, Ready};
use crate::engine::draws::{Purpose, entity_key};
use crate::engine::{Draws, Time};
use crate::load::arrivals::Arrivals;
use crate::load::client::{Budget, Pool, backoff};
use crate::load::model::Executor;
use crate::load::tally::Cause;
use crate::load::{Key, Slab};

/// The simulator's purposes, so that both draw the same.
const REQUEST: Purpose = Purpose::new("load/request");
const CONNECT: Purpose = Purpose::new("load/connect");
const BACKOFF: Purpose = Purpose::new("load/backoff");

const CONTROL: u64 = u64::MAX;
const NONE: u32 = u32::MAX;
/// Outcomes in one message.
const TOLD: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The next request of a Traffic.
    Arrive(u32),
    /// The next request of a user of a closed executor.
    User(u32, u32),
    /// An attempt has run out of time.
    Expire(Key, u32),
    /// The pause before an attempt is over.
    Retry(Key),
}

struct Sender {
    plan: Plan,
    netns: OwnedFd,
    chooser: Chooser,
    to: Vec<(u32, u16)>,
    pool: Pool<Key>,
    budget: Budget,
    draws: Draws,
    entity: u64,
    arrivals: Option<Arrivals>,
    next: u64,
    /// Until when users of a closed executor begin requests, and how long they pause.
    closed: Option<(Time, Duration)>,
}

#[derive(Clone, Copy, Debug)]
struct Exchange {
    sender: u32,
    user: u32,
    n: u64,
    entity: u64,
    sent: Time,
    attempt: u32,
    connection: Key,
    place: u32,
    endpoint: u32,
    /// Its kept connection had been closed, and it was sent once more over a new one.
    redialled: bool,
    /// The endpoint that the attempt before this one failed at.
    avoid: u32,
}

struct Users {
    zero: u64,
    poll: Poll,
    senders: Vec<Sender>,
    exchanges: Slab<Exchange>,
    connections: Slab<Connection>,
    timers: BinaryHeap<Reverse<(Time, u64, Timer)>>,
    timer_count: u64,
    told: Vec<Told>,
    buffer: Vec<u8>,
}

/// Sends until the cell closes the channel.
pub fn send_for_users(channel: &Channel) -> io::Result<()> {
    sys::punctual();
    sys::many_descriptors();
    let mut users = Users {
        zero: 0,
        poll: Poll::new()?,
        senders: Vec::new(),
        exchanges: Slab::default(),
        connections: Slab::default(),
        timers: BinaryHeap::new(),
        timer_count: 0,
        told: Vec::new(),
        buffer: vec![0; 64 << 10],
    };
    users.poll.add(channel, false, CONTROL)?;
    let mut ready = Vec::new();
    loop {
        let now = users.now();
        let mut limit = users.timers.peek().map(|Reverse((due, ..))| due.since(now));
        if !users.told.is_empty() {
            let soon = Duration::from_millis(1);
            limit = Some(limit.map_or(soon, |limit| limit.min(soon)));
        }
        users.poll.wait(limit, &mut ready)?;
        for event in &ready {
            match event.token {
                CONTROL => match users.obey(channel) {
                    Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                    other => other?,
                },
                _ => users.on_ready(*event),
            }
        }
        users.on_time();
        while !users.told.is_empty() {
            let count = users.told.len().min(TOLD);
            if !channel.send(&users.told[..count].to_vec(), &[])? {
                break;
            }
            users.told.drain(..count);
        }
    }
}

impl Users {
    fn now(&self) -> Time {
        Time::from_nanos(sys::monotonic_ns().saturating_sub(self.zero))
    }

    fn at(&mut self, due: Time, timer: Timer) {
        self.timer_count += 1;
        self.timers.push(Reverse((due, self.timer_count, timer)));
    }

    fn obey(&mut self, channel: &Channel) -> io::Result<()> {
        while let Some((command, fds)) = channel.receive::<Command>()? {
            match command {
                Command::Begin(plan) => {
                    let mut fds = fds.into_iter();
                    if let (Some(netns), Some(filter), Some(told)) =
                        (fds.next(), fds.next(), fds.next())
                    {
                        let filter = Socket::from_fd(filter);
                        let choices = Choices::from_fd(told);
                        self.begin(*plan, netns, Chooser { choices, filter });
                    }
                }
                Command::Target { number, to } => {
                    let mut senders = self.senders.iter_mut();
                    if let Some(sender) = senders.find(|s| s.plan.number == number) {
                        sender.to = to;
                    }
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, plan: Plan, netns: OwnedFd, chooser: Chooser) {
        self.zero = plan.zero_ns;
        let traffic = &plan.traffic;
        let start = Time::from_nanos(plan.epoch_ns) + traffic.start;
        let number = u32::try_from(self.senders.len()).unwrap_or(NONE);
        let mut closed = None;
        if let Executor::ConstantVus {
            vus,
            duration,
            pause,
        } = traffic.executor
        {
            closed = Some((start + duration, pause));
            for user in 0..vus {
                self.at(start, Timer::User(number, user));
            }
        }
        let entity = entity_key(&["traffic", &traffic.namespace, &traffic.name]);
        self.senders.push(Sender {
            arrivals: Arrivals::new(traffic, start),
            draws: Draws::new(plan.seed),
            entity,
            to: plan.to.clone(),
            plan,
            netns,
            chooser,
            pool: Pool::default(),
            budget: Budget::default(),
            next: 0,
            closed,
        });
        self.schedule(number);
    }

    fn schedule(&mut self, number: u32) {
        let sender = &mut self.senders[number as usize];
        let Some(arrivals) = &mut sender.arrivals else {
            return;
        };
        if let Some((n, at)) = arrivals.next(&sender.draws, sender.entity) {
            sender.next = n;
            self.at(at, Timer::Arrive(number));
        }
    }

    fn on_time(&mut self) {
        let now = self.now();
        while let Some(Reverse((due, ..))) = self.timers.peek()
            && *due <= now
        {
            let Some(Reverse((due, _, timer))) = self.timers.pop() else {
                return;
            };
            match timer {
                Timer::Arrive(number) => {
                    let n = self.senders[number as usize].next;
                    self.schedule(number);
                    self.send(number, n, NONE, due);
                }
                Timer::User(number, user) => {
                    let sender = &mut self.senders[number as usize];
                    if sender.closed.is_some_and(|(end, _)| due < end) {
                        let n = sender.next;
                        sender.next += 1;
                        self.send(number, n, user, due);
                    }
                }
                Timer::Expire(key, attempt) => {
                    let exchange = self.exchanges.get(key);
                    if exchange.is_some_and(|e| e.attempt == attempt && e.place != PAUSE) {
                        self.fail(key, Cause::Timeout);
                    }
                }
                Timer::Retry(key) => self.attempt(key),
            }
        }
    }

    /// A request is due: users count from then, even when it is sent a little later.
    fn send(&mut self, number: u32, n: u64, user: u32, due: Time) {
        let sender = &self.senders[number as usize];
        let traffic = sender.plan.number;
        let at = due.as_nanos();
        self.told.push(Told::Sent { traffic, at });
        let key = self.exchanges.insert(Exchange {
            sender: number,
            user,
            n,
            entity: sender.draws.u64(REQUEST, sender.entity, n),
            sent: due,
            attempt: 0,
            connection: Key::NONE,
            place: NONE,
            endpoint: 0,
            redialled: false,
            avoid: 0,
        });
        self.attempt(key);
    }

    fn attempt(&mut self, key: Key) {
        let now = self.now();
        let Some(exchange) = self.exchanges.get_mut(key) else {
            return;
        };
        exchange.redialled = false;
        let attempt = exchange.attempt;
        let sender = &mut self.senders[exchange.sender as usize];
        let client = &sender.plan.traffic.client;
        if attempt == 0 {
            sender.budget.request(client);
        }
        let place = sender.pool.take(client);
        let kept = place.and_then(|place| sender.pool.connection(place, client, now));
        let deadline = now + client.timeout;
        exchange.place = place.unwrap_or(NONE);
        self.at(deadline, Timer::Expire(key, attempt));
        let idle = kept.filter(|kept| {
            let connection = self.connections.get(*kept);
            connection.is_some_and(|c| c.exchange == Key::NONE && c.stands)
        });
        let Some(kept) = idle else {
            return self.connect(key);
        };
        let connection = &mut self.connections[kept];
        connection.exchange = key;
        connection.fresh = false;
        connection.request.clear();
        connection.answer = Answer::default();
        let exchange = &mut self.exchanges[key];
        (exchange.connection, exchange.endpoint) = (kept, connection.endpoint);
        self.transmit(kept);
    }

    fn connect(&mut self, key: Key) {
        self.exchanges[key].endpoint = 0;
        let exchange = self.exchanges[key];
        let sender = &mut self.senders[exchange.sender as usize];
        if sender.to.is_empty() {
            return self.fail(key, Cause::Dns);
        }
        let which = u64::from(exchange.attempt) * 8;
        let draw = sender.draws.u64(CONNECT, exchange.entity, which);
        let count = u64::try_from(sender.to.len()).unwrap_or(1);
        let to = sender.to[usize::try_from(draw % count).unwrap_or(0)];
        let address = match sender.plan.traffic.client.addresses {
            0 if exchange.place != NONE => u64::from(exchange.place),
            0 => exchange.n,
            count => exchange.n % u64::from(count),
        };
        let from = sender.plan.users.map(|network| {
            // The first two and the last address of the network are left alone.
            let room = u64::from(!network.mask()).saturating_sub(2).max(1);
            network.ip + 2 + u32::try_from(address % room).unwrap_or(0)
        });
        let client = &sender.plan.traffic.client;
        let avoid = exchange.avoid * u32::from(client.retry_elsewhere);
        let opened = line::dial(sender.netns.as_fd(), &mut sender.chooser, from, to, avoid);
        let (fd, line, endpoint) = match opened {
            Ok(opened) => opened,
            Err((error, rejected)) => {
                let error = error.raw_os_error().unwrap_or(0);
                return self.fail(key, cause_of(error, rejected));
            }
        };
        let connection = self.connections.insert(Connection {
            fd,
            exchange: key,
            place: exchange.place,
            stands: false,
            fresh: true,
            request: Vec::new(),
            sent: 0,
            answer: Answer::default(),
            line,
            endpoint,
        });
        let exchange = &mut self.exchanges[key];
        (exchange.connection, exchange.endpoint) = (connection, endpoint);
        let added = self
            .poll
            .add(&self.connections[connection].fd, true, token(connection));
        if added.is_err() {
            self.fail(key, Cause::Reset);
        }
    }

    fn on_ready(&mut self, event: Ready) {
        let key = Key {
            slot: event.token as u32,
            generation: (event.token >> 32) as u32,
        };
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        if !connection.stands {
            if !event.writable {
                return;
            }
            let error = sys::get_option(&connection.fd, libc::SOL_SOCKET, libc::SO_ERROR);
            match error.unwrap_or(libc::EIO) {
                0 => self.connected(key),
                error => self.broken(key, error),
            }
            return;
        }
        if event.writable && connection.exchange != Key::NONE {
            self.transmit(key);
        }
        if event.readable {
            self.read(key);
        }
    }

    fn connected(&mut self, key: Key) {
        let now = self.now();
        let connection = &mut self.connections[key];
        connection.stands = true;
        // Notices about a connection that stands are hints, as everywhere.
        let _ = sys::keep_notices(&connection.fd, false);
        let (exchange, place, line) = (connection.exchange, connection.place, connection.line);
        let sender = &mut self.senders[self.exchanges[exchange].sender as usize];
        if connection.endpoint == 0 {
            let chosen = sender.chooser.endpoint(line);
            connection.endpoint = if chosen == 0 { line.to.0 } else { chosen };
            self.exchanges[exchange].endpoint = connection.endpoint;
        }
        if place != NONE {
            sender.pool.opened(place, key, now);
        }
        self.transmit(key);
    }

    fn transmit(&mut self, key: Key) {
        let connection = &mut self.connections[key];
        let Some(exchange) = self.exchanges.get(connection.exchange) else {
            return;
        };
        if connection.request.is_empty() {
            let plan = &self.senders[exchange.sender as usize].plan;
            let id = format!("{:x}.{}", exchange.entity, exchange.attempt);
            connection.request = http::request(&plan.host, plan.traffic.client.keep_alive, &id);
            connection.sent = 0;
        }
        let request = &connection.request;
        while connection.sent < request.len() {
            match sys::send(&connection.fd, &request[connection.sent..]) {
                Ok(Some(count)) => connection.sent += count,
                Ok(None) => break,
                Err(error) => {
                    let error = error.raw_os_error().unwrap_or(0);
                    return self.broken(key, error);
                }
            }
        }
        let more = connection.sent < request.len();
        let _ = self.poll.change(&connection.fd, more, token(key));
    }

    fn read(&mut self, key: Key) {
        loop {
            let Some(connection) = self.connections.get_mut(key) else {
                return;
            };
            let progress = match sys::read(&connection.fd, &mut self.buffer) {
                Ok(None) => return,
                // Nothing was asked: the other end closes, or talks nonsense.
                _ if connection.exchange == Key::NONE => return self.close(key),
                Ok(Some(0)) => match connection.answer.end() {
                    Progress::Wrong => return self.broken(key, libc::ECONNRESET),
                    other => other,
                },
                Ok(Some(length)) => connection.answer.take(&self.buffer[..length]),
                Err(error) => {
                    let error = error.raw_os_error().unwrap_or(0);
                    return self.broken(key, error);
                }
            };
            match progress {
                Progress::More => {}
                Progress::Wrong => return self.broken(key, libc::EPROTO),
                Progress::Done(status, reusable) => return self.answered(key, status, reusable),
            }
        }
    }

    /// A connection failed under its request.
    fn broken(&mut self, key: Key, error: i32) {
        let connection = &mut self.connections[key];
        let request = connection.exchange;
        let rejected = !connection.stands && sys::rejected(&connection.fd);
        // A kept connection that had been closed meanwhile: the request goes over a new one and
        // nobody counts that as a failure (as Go's `net/http` and most others do).
        let stale = !connection.fresh && connection.answer.is_untouched();
        let Some(exchange) = self.exchanges.get_mut(request) else {
            return self.close(key);
        };
        if stale && !exchange.redialled && error != libc::ETIMEDOUT {
            exchange.redialled = true;
            self.close(key);
            return self.connect(request);
        }
        if exchange.endpoint == 0 {
            let sender = &mut self.senders[exchange.sender as usize];
            exchange.endpoint = sender.chooser.endpoint(connection.line);
        }
        self.fail(request, cause_of(error, rejected));
    }

    fn close(&mut self, key: Key) {
        // Dropping the descriptor takes it out of the epoll set as well.
        if let Some(connection) = self.connections.remove(key)
            && let Some(exchange) = self.exchanges.get_mut(connection.exchange)
        {
            exchange.connection = Key::NONE;
        }
    }

    fn answered(&mut self, key: Key, status: u16, reusable: bool) {
        let connection = &mut self.connections[key];
        let request = std::mem::replace(&mut connection.exchange, Key::NONE);
        let place = connection.place;
        let exchange = self.exchanges[request];
        self.exchanges[request].connection = Key::NONE;
        let sender = &mut self.senders[exchange.sender as usize];
        let client = &sender.plan.traffic.client;
        let keep = reusable && client.keep_alive && place != NONE;
        if place != NONE && !keep {
            sender.pool.closed(place);
        }
        if exchange.place != NONE {
            sender.pool.put(exchange.place, client);
            self.exchanges[request].place = NONE;
        }
        if !keep {
            self.close(key);
        }
        match cause_of_status(status) {
            None => self.end(request, None),
            Some(cause) => self.again_or_end(request, cause),
        }
    }

    /// An attempt failed: its connection is of no use any more.
    fn fail(&mut self, key: Key, cause: Cause) {
        let Some(exchange) = self.exchanges.get_mut(key) else {
            return;
        };
        let (place, connection) = (exchange.place, exchange.connection);
        exchange.place = NONE;
        let sender = &mut self.senders[exchange.sender as usize];
        if place != NONE {
            sender.pool.closed(place);
            sender.pool.put(place, &sender.plan.traffic.client);
        }
        self.close(connection);
        self.again_or_end(key, cause);
    }

    fn again_or_end(&mut self, key: Key, cause: Cause) {
        let now = self.now();
        let exchange = &mut self.exchanges[key];
        let sender = &mut self.senders[exchange.sender as usize];
        let client = &sender.plan.traffic.client;
        let left = exchange.attempt < client.retries && !cause.is_final();
        if left && sender.budget.retry(client) {
            exchange.avoid = exchange.endpoint;
            exchange.attempt += 1;
            exchange.place = PAUSE;
            let n = u64::from(exchange.attempt);
            let unit = sender.draws.unit(BACKOFF, exchange.entity, n);
            let pause = backoff(client, exchange.attempt, unit);
            return self.at(now + pause, Timer::Retry(key));
        }
        self.end(key, Some(cause));
    }

    fn end(&mut self, key: Key, cause: Option<Cause>) {
        let now = self.now();
        let Some(exchange) = self.exchanges.remove(key) else {
            return;
        };
        let sender = &self.senders[exchange.sender as usize];
        self.told.push(Told::Ended {
            traffic: sender.plan.number,
            request: exchange.n,
            sent: exchange.sent.as_nanos(),
            at: now.as_nanos(),
            attempts: exchange.attempt + 1,
            cause,
            endpoint: exchange.endpoint,
        });
        if let Some((end, pause)) = sender.closed
            && exchange.user != NONE
            && now + pause < end
        {
            self.at(now + pause, Timer::User(exchange.sender, exchange.user));
        }
    }
}

/// The place of a request between two attempts.
const PAUSE: u32 = u32::MAX - 1;
