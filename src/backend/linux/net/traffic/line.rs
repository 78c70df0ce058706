//! Connections of users: sockets, and which endpoint the node chose for each.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::libc;

use super::http::Answer;
use crate::backend::linux::net::conntrack::{self, Choices, Line};
use crate::backend::linux::net::netlink::Socket;
use crate::backend::linux::net::sys;
use crate::load::Key;

/// So often a client that retries elsewhere looks for another endpoint.
const ELSEWHERE: u32 = 8;

/// A connection of users.
pub struct Connection {
    /// The socket.
    pub fd: OwnedFd,
    /// The request that it carries; none while it is idle.
    pub exchange: Key,
    /// Its place in the pool.
    pub place: u32,
    /// It is established.
    pub stands: bool,
    /// No request was sent over it before this one.
    pub fresh: bool,
    /// The request that is being sent, and how much of it was.
    pub request: Vec<u8>,
    /// See `request`.
    pub sent: usize,
    /// What has come back.
    pub answer: Answer,
    /// Its addresses.
    pub line: Line,
    /// The endpoint that was chosen for it, 0 when none is known.
    pub endpoint: u32,
}

/// How a node is asked which endpoint it chose.
#[derive(Debug)]
pub struct Chooser {
    /// What it tells.
    pub choices: Choices,
    /// What it can be asked.
    pub filter: Socket,
}

impl Chooser {
    /// The endpoint that was chosen for a connection, 0 when none is known (yet).
    pub fn endpoint(&mut self, line: Line) -> u32 {
        let told = self.choices.of(line);
        // A kernel that tells nothing may still know.
        let known = told.or_else(|| conntrack::endpoint(&self.filter, line));
        known.map_or(0, |endpoint| endpoint.0)
    }
}

/// A connection that is being made: the socket, its addresses, and the endpoint that was chosen (0
/// when the node does not say).
pub type Dialled = (OwnedFd, Line, u32);

/// Connects from an address to another one, past the endpoint `avoid` if that is not 0.
///
/// # Errors
/// The system's, and whether the connection was rejected on the way.
pub fn dial(
    netns: BorrowedFd<'_>,
    chooser: &mut Chooser,
    from: Option<u32>,
    to: (u32, u16),
    avoid: u32,
) -> Result<Dialled, (io::Error, bool)> {
    let tries = if avoid == 0 { 1 } else { ELSEWHERE };
    let mut tried = 0;
    loop {
        tried += 1;
        let fd = prepare(netns, from).map_err(|error| (error, false))?;
        let connected = sys::connect(&fd, to.0, to.1).and_then(|_| sys::local_address(&fd));
        let from = connected.map_err(|error| (error, sys::rejected(&fd)))?;
        let line = Line { from, to };
        let endpoint = chooser.endpoint(line);
        if endpoint == 0 || endpoint != avoid || tried >= tries {
            return Ok((fd, line, endpoint));
        }
    }
}

/// A connection's token in epoll.
pub fn token(key: Key) -> u64 {
    u64::from(key.generation) << 32 | u64::from(key.slot)
}

/// A socket that is about to connect.
fn prepare(netns: BorrowedFd<'_>, from: Option<u32>) -> io::Result<OwnedFd> {
    let fd = sys::socket_in(netns, libc::AF_INET, libc::SOCK_STREAM, 0)?;
    sys::set_option(&fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    sys::keep_notices(&fd, true)?;
    if let Some(ip) = from {
        // The port is chosen when the other end is known, so that few addresses can have many
        // connections.
        sys::set_option(&fd, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        sys::bind(&fd, ip, 0)?;
    }
    Ok(fd)
}
