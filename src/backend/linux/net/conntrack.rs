//! Asking the kernel where a connection really went.
//!
//! A client that connects to a Service's address never learns which endpoint was chosen for it. The
//! node that chose knows: its table of connections has the addresses as the client sees them and as
//! the endpoint answers. It also tells of every new connection as its first packet passes
//! ([`Choices`]): whatever becomes of the connection, and however late anybody looks, what was told
//! stays told. An endpoint that refuses makes the node forget, so asking is not enough.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::libc;
use rustc_hash::FxHashMap;

use super::netlink::{Answer, Attrs, Messages, Socket, answers, attr};
use super::sys;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_NEW: u16 = 0;
const SUBSYSTEM: u16 = 1;
/// The group that is told of new connections (`NFNLGRP_CONNTRACK_NEW`).
const NEW: u32 = 1;

/// A TCP connection as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Line {
    /// The client's address and port.
    pub from: (u32, u16),
    /// What it connected to.
    pub to: (u32, u16),
}

fn question(line: Line) -> Messages {
    let mut m = Messages::default();
    let kind = SUBSYSTEM << 8 | IPCTNL_MSG_CT_GET;
    let flags = libc::NLM_F_REQUEST as u16;
    m.push(kind, flags, &[libc::AF_INET as u8, 0, 0, 0], |a| {
        a.nest(CTA_TUPLE_ORIG, |tuple: &mut Attrs| {
            tuple.nest(CTA_TUPLE_IP, |ip| {
                ip.be32(1, line.from.0);
                ip.be32(2, line.to.0);
            });
            tuple.nest(CTA_TUPLE_PROTO, |proto| {
                proto.put(1, &[libc::IPPROTO_TCP as u8]);
                proto.put(2, &line.from.1.to_be_bytes());
                proto.put(3, &line.to.1.to_be_bytes());
            });
        });
    });
    m
}

/// The address and port that answer on a connection; none when the node does not know of it, as
/// when it was refused before an endpoint was chosen. `socket` is a netfilter socket of the node.
pub fn endpoint(socket: &Socket, line: Line) -> Option<(u32, u16)> {
    let answers = socket.ask(&question(line)).ok()?;
    let body = answers.first()?.body.get(4..)?;
    let (from, _) = ends(attr(body, CTA_TUPLE_REPLY)?)?;
    Some(from)
}

/// Source and destination of a tuple.
fn ends(tuple: &[u8]) -> Option<((u32, u16), (u32, u16))> {
    let (ips, ports) = (attr(tuple, CTA_TUPLE_IP)?, attr(tuple, CTA_TUPLE_PROTO)?);
    let end = |ip: u16, port: u16| {
        let ip = u32::from_be_bytes(attr(ips, ip)?.try_into().ok()?);
        let port = u16::from_be_bytes(attr(ports, port)?.try_into().ok()?);
        Some((ip, port))
    };
    Some((end(1, 2)?, end(2, 3)?))
}

/// A new connection, and who answers on it.
fn told(answer: &Answer) -> Option<(Line, (u32, u16))> {
    if answer.kind != SUBSYSTEM << 8 | IPCTNL_MSG_CT_NEW {
        return None;
    }
    let body = answer.body.get(4..)?;
    let (from, to) = ends(attr(body, CTA_TUPLE_ORIG)?)?;
    let (by, _) = ends(attr(body, CTA_TUPLE_REPLY)?)?;
    Some((Line { from, to }, by))
}

/// Choices that nobody has asked for; beyond this they are forgotten.
const MOST_CHOICES: usize = 1 << 16;

/// The endpoints that a node chooses, as it tells of them.
#[derive(Debug)]
pub struct Choices {
    socket: Socket,
    told: FxHashMap<Line, (u32, u16)>,
}

impl Choices {
    /// What the calling thread's network namespace chooses from now on.
    ///
    /// # Errors
    /// The kernel tells nobody, or not us.
    pub fn here() -> std::io::Result<Choices> {
        const NETLINK_NO_ENOBUFS: i32 = 5;
        const ROOM: i32 = 4 << 20;
        let socket = Socket::new(libc::NETLINK_NETFILTER)?;
        // Without the privilege the usual room stays, which is enough for hundreds at a time.
        let _ = sys::set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, ROOM);
        sys::set_option(&socket, libc::SOL_NETLINK, NETLINK_NO_ENOBUFS, 1)?;
        sys::join_group(&socket, NEW)?;
        Ok(Choices::from_socket(socket))
    }

    /// As [`Choices::here`], for connections from one address alone.
    ///
    /// # Errors
    /// The kernel tells nobody, or not us.
    pub fn here_from(ip: u32) -> std::io::Result<Choices> {
        /// Where a message has the source: after its two headers and those of two nests and the
        /// attribute, four bytes each but the first.
        const SOURCE: u32 = 16 + 4 + 4 + 4 + 4;
        let step = |code: u32, jt, jf, k| libc::sock_filter {
            code: code as u16,
            jt,
            jf,
            k,
        };
        let program = [
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, SOURCE),
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, ip),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        ];
        let choices = Choices::here()?;
        sys::filter(&choices.socket, &program)?;
        Ok(choices)
    }

    /// The socket, to be handed to another process.
    pub fn into_fd(self) -> OwnedFd {
        self.socket.into_fd()
    }

    /// Takes over a socket that another process made by [`Choices::here`].
    pub fn from_fd(fd: OwnedFd) -> Choices {
        Choices::from_socket(Socket::from_fd(fd))
    }

    fn from_socket(socket: Socket) -> Choices {
        Choices {
            socket,
            told: FxHashMap::default(),
        }
    }

    /// The address and port that answer on a connection; none when its first packet has not passed,
    /// as when the node refused it. Each choice is told once.
    pub fn of(&mut self, line: Line) -> Option<(u32, u16)> {
        let mut buffer = [0; 8 << 10];
        while let Ok(Some(length)) = sys::read(&self.socket, &mut buffer) {
            if self.told.len() > MOST_CHOICES {
                self.told.clear();
            }
            let news = answers(&buffer[..length]);
            self.told.extend(news.iter().filter_map(told));
        }
        self.told.remove(&line)
    }
}

impl AsFd for Choices {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::super::netlink::hex;
    use super::*;

    #[test]
    fn the_question_is_the_kernels_layout() {
        let line = Line {
            from: (0x0afa_0002, 40_000),
            to: (0x0a60_0001, 80),
        };
        // header 16, family 4, orig 4 + ip (4 + 8 + 8) + proto (4 + 8 + 8 + 8): 72 = 0x48
        let expected = "48000000 01010100 01000000 00000000 02000000 34000180 14000180 \
                        08000100 0afa0002 08000200 0a600001 1c000280 05000100 06000000 \
                        06000200 9c400000 06000300 00500000";
        assert_eq!(hex(question(line).bytes()), expected);
    }
}
