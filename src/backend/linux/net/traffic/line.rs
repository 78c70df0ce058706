//! Connections of users: sockets, and which endpoint the node chose for each.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::libc;

use super::http::Answer;
use crate::backend::linux::net::conntrack::{self, Line};
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

/// Connects from an address to another one, past the endpoint `avoid` if that is not 0. Returns the
/// socket, its addresses, and the endpoint that was chosen (0 when the node does not say).
pub fn dial(
    netns: BorrowedFd<'_>,
    filter: &Socket,
    from: Option<u32>,
    to: (u32, u16),
    avoid: u32,
) -> io::Result<(OwnedFd, Line, u32)> {
    let tries = if avoid == 0 { 1 } else { ELSEWHERE };
    let mut tried = 0;
    loop {
        tried += 1;
        let (fd, from) = open(netns, from, to)?;
        // The first packet has passed the node that chooses; a refusal would make it forget.
        let line = Line { from, to };
        let endpoint = conntrack::endpoint(filter, line).map_or(0, |e| e.0);
        if endpoint == 0 || endpoint != avoid || tried >= tries {
            return Ok((fd, line, endpoint));
        }
    }
}

/// A connection's token in epoll.
pub fn token(key: Key) -> u64 {
    u64::from(key.generation) << 32 | u64::from(key.slot)
}

/// A socket that is connecting, with its own address.
fn open(
    netns: BorrowedFd<'_>,
    from: Option<u32>,
    to: (u32, u16),
) -> io::Result<(OwnedFd, (u32, u16))> {
    let fd = sys::socket_in(netns, libc::AF_INET, libc::SOCK_STREAM, 0)?;
    sys::set_option(&fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    if let Some(ip) = from {
        // The port is chosen when the other end is known, so that few addresses can have many
        // connections.
        sys::set_option(&fd, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        sys::bind(&fd, ip, 0)?;
    }
    sys::connect(&fd, to.0, to.1)?;
    let from = sys::local_address(&fd)?;
    Ok((fd, from))
}
