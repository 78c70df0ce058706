//! Asking the kernel where a connection really went.
//!
//! A client that connects to a Service's address never learns which endpoint was chosen for it. The
//! node that chose knows: its table of connections has the addresses as the client sees them and as
//! the endpoint answers. One question takes a few microseconds and does not wait.

use nix::libc;

use super::netlink::{Attrs, Messages, Socket, attr};

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const IPCTNL_MSG_CT_GET: u16 = 1;
const SUBSYSTEM: u16 = 1;

/// A TCP connection as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    let reply = attr(body, CTA_TUPLE_REPLY)?;
    let ip = attr(attr(reply, CTA_TUPLE_IP)?, 1)?;
    let port = attr(attr(reply, CTA_TUPLE_PROTO)?, 2)?;
    let ip = u32::from_be_bytes(ip.try_into().ok()?);
    Some((ip, u16::from_be_bytes(port.try_into().ok()?)))
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
