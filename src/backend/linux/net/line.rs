//! Sockets that make one connection after the other, and send with the first packet.
//!
//! For whoever asks again and again: a socket keeps the network namespace that it was made in.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;

use super::sys::{INET_SIZE, check, get_option, inet, set_option, socket};

/// As [`super::sys::connect`], with bytes for the first packet; returns how many of them are on their
/// way. Where the kernel cannot do that it is EINPROGRESS, and they are sent as soon as the connection
/// stands.
pub fn connect_with(fd: &impl AsRawFd, ip: u32, port: u16, bytes: &[u8]) -> io::Result<usize> {
    let address = inet(ip, port);
    // SAFETY: the buffer and the address are as long as the kernel is told.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT,
            (&raw const address).cast(),
            INET_SIZE,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// `TCP_FASTOPEN_NO_COOKIE` of `linux/tcp.h`: both ends are this host's.
const NO_COOKIE: i32 = 34;

/// Lets a listener take what comes with the first packet, where the namespace allows that; others
/// that connect notice nothing.
pub fn welcome(listener: &impl AsRawFd) {
    /// Connections at once of which the handshake is not over.
    const QUEUE: i32 = 256;
    let _ = set_option(listener, libc::IPPROTO_TCP, NO_COOKIE, 1);
    let _ = set_option(listener, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, QUEUE);
}

/// Makes a TCP socket of this namespace that [`connect_with`] is for.
pub fn make() -> io::Result<OwnedFd> {
    let fd = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    // Without, the first packet has no bytes, and everything else is the same.
    let _ = set_option(&fd, libc::IPPROTO_TCP, NO_COOKIE, 1);
    Ok(fd)
}

/// Whether a TCP socket has no connection, or one that has ended in both directions.
pub fn is_closed(fd: &impl AsRawFd) -> bool {
    /// `TCP_CLOSE` of `net/tcp_states.h`.
    const CLOSED: i32 = 7;
    let state = get_option(fd, libc::IPPROTO_TCP, libc::TCP_INFO);
    // The state is the first byte of the answer, of which more is not asked for.
    state.is_ok_and(|state| state.to_ne_bytes()[0] == CLOSED as u8)
}

/// Makes a socket forget its last connection, so that it can make another one.
pub fn disconnect(fd: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: an all-zero address is a valid one: of no family.
    let address: libc::sockaddr = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: the pointer and length describe `address`, which outlives the call.
    check(unsafe { libc::connect(fd.as_raw_fd(), &raw const address, size) }).map(drop)
}

/// How many descriptors the calling process may have.
pub fn descriptors() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a local; failing leaves it as it is.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::linux::net::{sys, testing};
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::os::fd::AsFd;

    #[test]
    fn one_socket_asks_again_and_again_and_is_closed_in_between() {
        let Some(_root) = testing::root("a socket's connections") else {
            return;
        };
        let up = || crate::backend::linux::sys::loopback(None);
        let (netns, ()) = sys::new_netns(up).expect("a namespace");
        let within = |port| {
            let bound = || TcpListener::bind((Ipv4Addr::LOCALHOST, port));
            sys::within(netns.as_fd(), bound).expect("a port")
        };
        let listener = within(8080);
        let line = sys::within(netns.as_fd(), make).expect("a socket");
        let mut line = TcpStream::from(line);
        let home = u32::from(Ipv4Addr::LOCALHOST);
        for round in 0..3u8 {
            assert!(is_closed(&line), "round {round}");
            disconnect(&line).expect("fresh");
            let sent = connect_with(&line, home, 8080, &[round]).expect("on its way");
            assert_eq!(sent, 1);
            let (mut server, _) = listener.accept().expect("a connection");
            let mut byte = [9];
            server.read_exact(&mut byte).expect("a question");
            server.write_all(&[round + 10]).expect("an answer");
            assert!(!is_closed(&line), "round {round}");
            drop(server);
            let mut answer = Vec::new();
            line.set_nonblocking(false).expect("to wait");
            line.read_to_end(&mut answer)
                .expect("an answer and the end");
            line.set_nonblocking(true).expect("not to wait");
            assert_eq!((byte, answer), ([round], vec![round + 10]));
            line.shutdown(std::net::Shutdown::Write).expect("the end");
        }
        drop(listener);
        disconnect(&line).expect("fresh");
        let sent = connect_with(&line, home, 8080, b"?");
        let refused = sent.and_then(|_| line.read(&mut [0]));
        let kind = refused.map_err(|error| error.kind());
        assert_eq!(kind, Err(io::ErrorKind::ConnectionRefused));
    }
}
