//! The server itself: one epoll, connections, and the life of the process.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{Backlog, SockFlag, accept4, setsockopt, sockopt};

use super::super::net::line::welcome;
use super::super::sys;
use super::ballast::Ballast;
use super::grpc;
use super::http::{self, Parsed};
use super::peer;
use super::{Ears, Workload, control_address};
use crate::engine::{Draws, Purpose, nanos};
use crate::load::model::OnSigterm;

mod burners;
mod calls;
mod job;
mod line;

use burners::Burners;
use job::Job;

pub(super) const PROBE: Purpose = Purpose::new("linux/exec-probe");
pub(super) const HOOK: Purpose = Purpose::new("linux/exec-hook");

/// Tokens of epoll below the first connection.
const SIGNALS: u64 = 0;
const CONTROL: u64 = 1;
const BURNT: u64 = 2;
const FIRST_PORT: u64 = 3;
const FIRST_CONNECTION: u64 = 1 << 20;

/// How often memory that grows with time is looked at.
const MEMORY_TICK: u64 = 50_000_000;
/// When what could not be told is tried again.
const NEWS_TICK: u64 = 5_000_000;
const NEVER: u64 = u64::MAX;
/// 128 + SIGTERM.
const EXIT_SIGTERM: u8 = 143;

/// A connection of a client.
struct Connection {
    stream: TcpStream,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    job: Option<Job>,
    /// What is spoken on it, unless it is HTTP/1.1.
    grpc: Option<grpc::Session>,
    /// What it is watched for; nothing before the first look at it.
    interest: u32,
    /// The client has given up: nothing is heard of it any more.
    gone: bool,
    /// Closed when what is to be sent is sent.
    closing: bool,
}

/// A running server.
pub struct Server {
    model: Workload,
    draws: Draws,
    epoll: OwnedFd,
    signals: SignalFd,
    control: Option<UnixListener>,
    ports: Vec<TcpListener>,
    connections: BTreeMap<u64, Connection>,
    next_token: u64,
    /// CPU work of the requests in work.
    burners: Burners,
    /// Connections whose job waits for a place.
    queue: VecDeque<u64>,
    active: u32,
    served: u64,
    asked: u64,
    outbound: calls::Outbound,
    memory: Ballast,
    started: u64,
    listening_since: Option<u64>,
    exits_at: u64,
    drains_at: u64,
    drained_at: u64,
    memory_due: u64,
    draining: bool,
}

/// Serves until the process ends.
pub fn serve(model: Workload, ears: Option<Ears>) -> ! {
    crate::backend::linux::precedence::take_short_turns();
    match Server::new(model, ears) {
        Ok(mut server) => loop {
            server.turn();
        },
        Err(error) => {
            eprintln!("the built-in server cannot start: {error}");
            sys::exit_now(1)
        }
    }
}

impl Server {
    fn new(model: Workload, ears: Option<Ears>) -> io::Result<Server> {
        let mut mask = SigSet::empty();
        if model.on_sigterm != OnSigterm::Ignore {
            mask.add(Signal::SIGTERM);
        }
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None)?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = SignalFd::with_flags(&mask, flags)?;
        let epoll = sys::epoll_create()?;
        sys::epoll_set(
            epoll.as_fd(),
            signals.as_fd(),
            libc::EPOLLIN as u32,
            SIGNALS,
        )?;
        let started = sys::monotonic();
        let exits_at = match &model.exit {
            Some(exit) if !exit.from_listening => started.saturating_add(nanos(exit.after)),
            _ => NEVER,
        };
        let burners = Burners::new(model.cores)?;
        sys::epoll_set(epoll.as_fd(), burners.fd(), libc::EPOLLIN as u32, BURNT)?;
        let mut server = Server {
            draws: Draws::new(model.seed),
            model,
            epoll,
            signals,
            control: None,
            ports: Vec::new(),
            connections: BTreeMap::new(),
            next_token: FIRST_CONNECTION,
            burners,
            queue: VecDeque::new(),
            active: 0,
            served: 0,
            asked: 0,
            outbound: calls::Outbound::new(ears),
            memory: Ballast::default(),
            started,
            listening_since: None,
            exits_at,
            drains_at: NEVER,
            drained_at: NEVER,
            memory_due: started,
            draining: false,
        };
        server.grow(started);
        Ok(server)
    }

    /// When something is due that no descriptor will tell.
    fn due(&self) -> u64 {
        let starts = match self.listening_since.is_none() && !self.model.ports.is_empty() {
            true => self.started.saturating_add(nanos(self.model.startup)),
            false => NEVER,
        };
        let waits = self.connections.values().filter_map(|c| c.job.as_ref());
        let waits = waits.filter_map(Job::due).min().unwrap_or(NEVER);
        // What there was no room to tell is told soon.
        let news = match self.outbound.has_news() {
            true => sys::monotonic() + NEWS_TICK,
            false => NEVER,
        };
        [
            starts,
            self.exits_at,
            self.drains_at,
            self.drained_at,
            self.memory_due,
            waits,
            news,
        ]
        .into_iter()
        .min()
        .unwrap_or(NEVER)
    }

    fn turn(&mut self) {
        let now = sys::monotonic();
        let due = self.due();
        let timeout = match (!self.burners.waits(), due) {
            (false, _) => Some(Duration::ZERO),
            (true, NEVER) => None,
            (true, due) => Some(Duration::from_nanos(due.saturating_sub(now))),
        };
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        let ready = sys::epoll_wait(self.epoll.as_fd(), &mut events, timeout).unwrap_or(0);
        for event in &events[..ready] {
            let token = event.u64;
            match token {
                SIGNALS => self.signalled(),
                CONTROL => self.greeted(),
                BURNT => self.burnt_elsewhere(),
                token if token >= calls::FIRST => self.called(token),
                token if token >= FIRST_CONNECTION => self.talk(token),
                token => self.accept((token - FIRST_PORT) as usize),
            }
        }
        self.burn();
        let now = sys::monotonic();
        if self.due() <= now {
            self.timers(now);
        }
        self.outbound.tell();
    }

    fn timers(&mut self, now: u64) {
        if self.exits_at <= now {
            sys::exit_now(self.model.exit.map_or(0, |e| e.code));
        }
        if self.drained_at <= now {
            sys::exit_now(0);
        }
        if self.drains_at <= now {
            self.drain(Duration::MAX);
        }
        if self.listening_since.is_none()
            && !self.model.ports.is_empty()
            && self.started.saturating_add(nanos(self.model.startup)) <= now
        {
            self.listen(now);
        }
        if self.memory_due <= now {
            self.grow(now);
        }
        let due = self.connections.iter().filter(|(_, c)| {
            let job = c.job.as_ref();
            job.and_then(Job::due).is_some_and(|due| due <= now)
        });
        let due: Vec<u64> = due.map(|(token, _)| *token).collect();
        for token in due {
            self.waited(token, now);
        }
    }

    /// Start-up is done.
    fn listen(&mut self, now: u64) {
        self.listening_since = Some(now);
        if let Some(exit) = self.model.exit.filter(|e| e.from_listening) {
            self.exits_at = now.saturating_add(nanos(exit.after));
        }
        let timeout = Duration::from_secs(1);
        if !self.model.needs.iter().all(|n| peer::accepts(n, timeout)) {
            println!("a service that is needed does not answer");
            sys::exit_now(1);
        }
        for (n, port) in (0u64..).zip(self.model.ports.clone()) {
            let bound = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
            let watched = bound.and_then(|listener| {
                listener.set_nonblocking(true)?;
                // As many servers ask for (Go's does): the kernel takes off what it does not allow.
                nix::sys::socket::listen(&listener, Backlog::new(4096)?)?;
                // Connections have it from the listener.
                setsockopt(&listener, sockopt::TcpNoDelay, &true)?;
                welcome(&listener);
                self.watch(listener.as_fd(), FIRST_PORT + n)?;
                Ok(listener)
            });
            match watched {
                Ok(listener) => self.ports.push(listener),
                Err(error) => {
                    eprintln!("port {port}: {error}");
                    sys::exit_now(1);
                }
            }
        }
        let control = control_address(&self.model.control)
            .and_then(|address| UnixListener::bind_addr(&address))
            .and_then(|listener| {
                listener.set_nonblocking(true)?;
                self.watch(listener.as_fd(), CONTROL)?;
                Ok(listener)
            });
        match control {
            Ok(listener) => self.control = Some(listener),
            Err(error) => eprintln!("no control socket, exec probes will fail: {error}"),
        }
        println!("listening on {:?}", self.model.ports);
    }

    fn watch(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        sys::epoll_set(self.epoll.as_fd(), fd, libc::EPOLLIN as u32, token)
    }

    fn signalled(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {
            // Before it listens a process has installed no handler worth the name.
            let starting = self.listening_since.is_none();
            match self.model.on_sigterm {
                OnSigterm::Ignore => {}
                _ if starting => sys::exit_now(EXIT_SIGTERM),
                OnSigterm::Exit => sys::exit_now(EXIT_SIGTERM),
                OnSigterm::Drain(limit) => self.drain(limit),
                OnSigterm::Linger(span) => {
                    let until = sys::monotonic().saturating_add(nanos(span));
                    self.drains_at = self.drains_at.min(until);
                }
            }
        }
    }

    /// Stops listening and finishes what was accepted.
    fn drain(&mut self, limit: Duration) {
        self.draining = true;
        self.drains_at = NEVER;
        self.drained_at = sys::monotonic().saturating_add(nanos(limit));
        self.ports.clear();
        self.control = None;
        // A request that has arrived already was accepted.
        let tokens: Vec<u64> = self.connections.keys().copied().collect();
        for token in tokens {
            self.talk(token);
        }
        self.connections
            .retain(|_, c| c.job.is_some() || !c.outgoing.is_empty());
        self.end_if_drained();
    }

    fn end_if_drained(&mut self) {
        if self.draining && self.connections.is_empty() {
            sys::exit_now(0);
        }
    }

    /// Exec probes connect to see whether the server serves.
    fn greeted(&mut self) {
        if let Some(control) = &self.control {
            while control.accept().is_ok() {}
        }
    }

    fn accept(&mut self, port: usize) {
        loop {
            let Some(listener) = self.ports.get(port) else {
                return;
            };
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            let Ok(fd) = accept4(listener.as_raw_fd(), flags) else {
                return;
            };
            // SAFETY: the kernel returned a new descriptor that nobody else owns.
            let stream = TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
            let token = self.next_token;
            self.next_token += 1;
            let connection = Connection {
                stream,
                incoming: Vec::new(),
                outgoing: Vec::new(),
                job: None,
                grpc: None,
                interest: 0,
                gone: false,
                closing: false,
            };
            self.connections.insert(token, connection);
            self.talk(token);
        }
    }

    /// Reads from and writes to a client.
    fn talk(&mut self, token: u64) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let open = connection.read();
        connection.write();
        let idle = connection.job.is_none() && connection.outgoing.is_empty();
        let broken = connection.closing && idle;
        if broken || (!open && (connection.job.is_none() || !connection.outgoing.is_empty())) {
            self.close(token);
            return;
        }
        if !open {
            // The client has given up; most servers do not notice until they answer.
            connection.closing = true;
            connection.gone = true;
            sys::epoll_drop(self.epoll.as_fd(), connection.stream.as_fd());
            return;
        }
        self.read_request(token);
        // Who was answered and is gone need not be watched.
        self.attend(token);
    }

    /// Watches a client for what is awaited of it.
    fn attend(&mut self, token: u64) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let interest = match connection.outgoing.is_empty() {
            true => libc::EPOLLIN,
            false => libc::EPOLLIN | libc::EPOLLOUT,
        } as u32;
        let fd = connection.stream.as_fd();
        let changed = connection.interest != interest && !connection.gone;
        connection.interest = interest;
        if changed && sys::epoll_set(self.epoll.as_fd(), fd, interest, token).is_err() {
            self.close(token);
        }
    }

    fn read_request(&mut self, token: u64) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        if connection.job.is_some() || connection.closing || connection.incoming.is_empty() {
            return;
        }
        if connection.grpc.is_none() {
            match grpc::Session::begins(&connection.incoming) {
                Some(true) => connection.grpc = Some(grpc::Session::default()),
                Some(false) => {}
                None => return,
            }
        }
        if connection.grpc.is_some() {
            return self.read_grpc(token);
        }
        match http::request(&connection.incoming) {
            Parsed::Partial => {}
            Parsed::Wrong => self.answer(token, 400, false),
            Parsed::Done(request, length) => {
                connection.incoming.drain(..length);
                let n = self.asked;
                self.asked += 1;
                self.begin(token, &request, n);
            }
        }
    }

    fn read_grpc(&mut self, token: u64) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let Some(session) = &mut connection.grpc else {
            return;
        };
        match session.read(&mut connection.incoming, &mut connection.outgoing) {
            Ok(Some(request)) => {
                let n = self.asked;
                self.asked += 1;
                self.begin(token, &request, n);
            }
            // Acknowledgements go out at once.
            Ok(None) => connection.write(),
            Err(_) => self.close(token),
        }
    }

    fn close(&mut self, token: u64) {
        self.connections.remove(&token);
        self.end_if_drained();
    }

    /// Sends an answer.
    fn answer(&mut self, token: u64, status: u16, keep_alive: bool) {
        let who = self.model.who.clone();
        let keep_alive = keep_alive && !self.draining;
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let least = match status {
            200 => self.model.response_bytes,
            _ => 0,
        };
        match &connection.grpc {
            Some(session) => session.answer(status, &mut connection.outgoing),
            None => {
                let bytes = http::answer(status, &who, keep_alive, least);
                connection.outgoing.extend(bytes);
            }
        }
        connection.closing |= !keep_alive;
        connection.write();
        if connection.closing && connection.job.is_none() && connection.outgoing.is_empty() {
            return self.close(token);
        }
        self.talk(token);
    }

    /// Uses as much memory as the model says.
    fn grow(&mut self, now: u64) {
        let model = &self.model.memory;
        let age_ms = now.saturating_sub(self.started) / 1_000_000;
        let requests = u64::from(self.active) + self.queue.len() as u64;
        let bytes = model
            .base
            .unwrap_or(0)
            .saturating_add(requests.saturating_mul(model.per_request))
            .saturating_add(self.served.saturating_mul(model.leak_per_request))
            .saturating_add(age_ms.saturating_mul(model.leak_per_second) / 1000);
        self.memory_due = match model.leak_per_second > 0 {
            true => now + MEMORY_TICK,
            false => NEVER,
        };
        self.memory.become_as_large_as(bytes);
    }
}

impl Connection {
    /// Takes in what has come; false when the client has closed.
    fn read(&mut self) -> bool {
        let mut buffer = [0u8; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    self.incoming.extend(&buffer[..count]);
                    if count < buffer.len() {
                        return true;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    fn write(&mut self) {
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(0) => return,
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.outgoing.clear();
                    self.closing = true;
                }
            }
        }
    }
}
