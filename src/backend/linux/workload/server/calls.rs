//! Calls to other Services while a request is in work.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, connect, getsockopt, socket, sockopt,
};

use super::job::Stage;
use super::{Server, nanos, sys};
use crate::backend::linux::workload::http::{self, Parsed};
use crate::backend::linux::workload::peer;

/// The first token of a connection to another Service.
pub const FIRST: u64 = 1 << 40;

/// A call in flight.
pub struct Calling {
    /// Which of the model's calls.
    pub which: usize,
    /// How many attempts failed before.
    pub attempt: u32,
    /// When it counts as failed.
    pub due: u64,
    /// The connection that is used.
    pub line: u64,
}

struct Line {
    stream: TcpStream,
    which: usize,
    /// The client's connection whose request uses it; none while it is idle.
    job: Option<u64>,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    connected: bool,
}

/// Connections to other Services.
#[derive(Default)]
pub struct Outbound {
    lines: BTreeMap<u64, Line>,
    opened: u64,
}

/// Begins to connect.
fn dial(target: &peer::Target) -> io::Result<TcpStream> {
    let address = match peer::resolve(target)? {
        std::net::SocketAddr::V4(address) => address,
        std::net::SocketAddr::V6(_) => return Err(io::Error::other("IPv6")),
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd: OwnedFd = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    use std::os::fd::AsRawFd;
    match connect(fd.as_raw_fd(), &SockaddrIn::from(address)) {
        Ok(()) | Err(nix::Error::EINPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::from(fd);
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Server {
    /// Makes the n-th call of a request; after the last one the request is done.
    pub(super) fn call(&mut self, token: u64, which: usize, attempt: u32) {
        let Some(call) = self.model.calls.get(which) else {
            return self.finish(token, true);
        };
        let due = sys::monotonic().saturating_add(nanos(call.timeout));
        let idle = (self.outbound.lines.iter())
            .find(|(_, l)| l.job.is_none() && l.which == which)
            .map(|(line, _)| *line);
        let line = match idle {
            Some(line) => Ok(line),
            None => self.open(which),
        };
        let ask = http::get("/", &call_host(&self.model.calls[which]), "rehearsal", &[]);
        let number = *line.as_ref().unwrap_or(&0);
        let Some(job) = self
            .connections
            .get_mut(&token)
            .and_then(|c| c.job.as_mut())
        else {
            return;
        };
        job.stage = Stage::Calling(Calling {
            which,
            attempt,
            due,
            line: number,
        });
        let Ok(number) = line else {
            return self.call_failed(token, false);
        };
        if let Some(line) = self.outbound.lines.get_mut(&number) {
            line.job = Some(token);
            line.outgoing.extend(ask);
        }
        self.called(number);
    }

    fn open(&mut self, which: usize) -> io::Result<u64> {
        let stream = dial(&self.model.calls[which].target)?;
        let token = FIRST + self.outbound.opened;
        self.outbound.opened += 1;
        let interest = (libc::EPOLLIN | libc::EPOLLOUT) as u32;
        sys::epoll_set(self.epoll.as_fd(), stream.as_fd(), interest, token)?;
        let line = Line {
            stream,
            which,
            job: None,
            outgoing: Vec::new(),
            incoming: Vec::new(),
            connected: false,
        };
        self.outbound.lines.insert(token, line);
        Ok(token)
    }

    /// Something happened on a connection to another Service.
    pub(super) fn called(&mut self, token: u64) {
        let Some(line) = self.outbound.lines.get_mut(&token) else {
            return;
        };
        match line.go_on() {
            Ok(None) => {
                let interest = match line.outgoing.is_empty() && line.connected {
                    true => libc::EPOLLIN,
                    false => libc::EPOLLIN | libc::EPOLLOUT,
                };
                let fd = line.stream.as_fd();
                // A descriptor that cannot be watched shows as a call that takes too long.
                let _ = sys::epoll_set(self.epoll.as_fd(), fd, interest as u32, token);
            }
            Ok(Some(response)) => {
                let job = line.job.take();
                let keep = response.keep_alive && self.model.calls[line.which].keep_alive;
                if !keep {
                    self.outbound.lines.remove(&token);
                }
                if let Some(job) = job {
                    match response.status {
                        200..=399 => self.call_done(job),
                        // Turned away: see `Cause::is_final`, which every client follows.
                        503 => self.call_failed(job, false),
                        _ => self.call_failed(job, true),
                    }
                }
            }
            Err(_) => {
                let gone = self.outbound.lines.remove(&token);
                if let Some(job) = gone.and_then(|line| line.job) {
                    self.call_failed(job, false);
                }
            }
        }
    }

    fn calling(&self, token: u64) -> Option<(usize, u32, u64)> {
        match &self.connections.get(&token)?.job.as_ref()?.stage {
            Stage::Calling(c) => Some((c.which, c.attempt, c.line)),
            _ => None,
        }
    }

    fn call_done(&mut self, token: u64) {
        if let Some((which, _, _)) = self.calling(token) {
            self.call(token, which + 1, 0);
        }
    }

    /// A call failed or took too long: again (unless it was `answered`), or on, or the end.
    pub(super) fn call_failed(&mut self, token: u64, answered: bool) {
        let Some((which, attempt, line)) = self.calling(token) else {
            return;
        };
        if self
            .outbound
            .lines
            .get(&line)
            .is_some_and(|l| l.job == Some(token))
        {
            self.outbound.lines.remove(&line);
        }
        let (retries, optional) = {
            let call = &self.model.calls[which];
            (call.retries, call.optional)
        };
        match (attempt < retries && !answered, optional) {
            (true, _) => self.call(token, which, attempt + 1),
            (false, true) => self.call(token, which + 1, 0),
            (false, false) => self.finish(token, false),
        }
    }
}

fn call_host(call: &peer::Call) -> String {
    format!("{}:{}", call.target.host, call.target.port)
}

impl Line {
    /// Sends and receives what it can.
    fn go_on(&mut self) -> io::Result<Option<http::Response>> {
        if !self.connected {
            let error = getsockopt(&self.stream, sockopt::SocketError)?;
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
            match self.stream.peer_addr() {
                Ok(_) => self.connected = true,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let mut buffer = [0u8; 16384];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.incoming.extend(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        match http::response(&self.incoming) {
            Parsed::Partial => Ok(None),
            Parsed::Wrong => Err(io::ErrorKind::InvalidData.into()),
            Parsed::Done(response, length) => {
                self.incoming.drain(..length);
                Ok(Some(response))
            }
        }
    }
}
