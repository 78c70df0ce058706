//! The expressions that rules are made of, in the kernel's wire format.
//!
//! A rule is a list of small steps that load fields into registers and compare, look up or act on
//! them; the first step that does not match ends the rule. Numbers of attributes are those of
//! `linux/netfilter/nf_tables.h`.

use nix::libc;

use super::batch::Verdict;
use crate::backend::linux::net::netlink::Attrs;
use crate::backend::linux::net::route::Cidr;

/// The first of the 32-bit registers; a key of several fields lies in consecutive ones.
const REG: u32 = 8;
/// The register of verdicts.
const VERDICT: u32 = 0;
/// The mark of connections whose source address is to be replaced, kube-proxy's own.
pub const MASQUERADE: u32 = 0x4000;

/// A field of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
    /// TCP, UDP, ….
    Protocol,
    /// The port that it goes to.
    Port,
}

/// A rule being made.
#[derive(Debug)]
pub struct Exprs<'a, 'b> {
    list: &'a mut Attrs<'b>,
}

impl<'a, 'b> Exprs<'a, 'b> {
    pub(super) fn new(list: &'a mut Attrs<'b>) -> Self {
        Exprs { list }
    }

    fn expr(&mut self, name: &str, fill: impl FnOnce(&mut Attrs)) {
        self.list.nest(1, |element| {
            element.text(1, name);
            element.nest(2, fill);
        });
    }

    fn load(&mut self, field: Field, register: u32) {
        // (base, offset, length): network header 1, transport header 2
        let (base, offset, length) = match field {
            Field::Source => (1, 12, 4),
            Field::Destination => (1, 16, 4),
            Field::Port => (2, 2, 2),
            Field::Protocol => {
                return self.meta(libc::NFT_META_L4PROTO, register);
            }
        };
        self.expr("payload", |a| {
            a.be32(1, register);
            a.be32(2, base);
            a.be32(3, offset);
            a.be32(4, length);
        });
    }

    fn meta(&mut self, key: i32, register: u32) {
        self.expr("meta", |a| {
            a.be32(2, key.cast_unsigned());
            a.be32(1, register);
        });
    }

    fn compare(&mut self, equal: bool, value: &[u8]) {
        self.expr("cmp", |a| {
            a.be32(1, REG);
            a.be32(2, u32::from(!equal));
            a.nest(3, |data| data.put(1, value));
        });
    }

    fn bits(&mut self, mask: [u8; 4], flip: [u8; 4]) {
        self.expr("bitwise", |a| {
            a.be32(1, REG);
            a.be32(2, REG);
            a.be32(3, 4);
            a.nest(4, |data| data.put(1, &mask));
            a.nest(5, |data| data.put(1, &flip));
        });
    }

    fn put_in_mark(&mut self, mask: u32, flip: u32) {
        self.meta(libc::NFT_META_MARK, REG);
        self.bits(mask.to_ne_bytes(), flip.to_ne_bytes());
        self.expr("meta", |a| {
            a.be32(2, libc::NFT_META_MARK.cast_unsigned());
            a.be32(3, REG);
        });
    }

    fn conntrack(&mut self, key: i32, bit: u32) {
        self.expr("ct", |a| {
            a.be32(2, key.cast_unsigned());
            a.be32(1, REG);
        });
        self.bits(bit.to_ne_bytes(), [0; 4]);
        self.compare(false, &[0; 4]);
    }

    /// Only packets that begin a connection.
    pub fn new_connection(&mut self) {
        // NF_CT_STATE_BIT(IP_CT_NEW)
        self.conntrack(libc::NFT_CT_STATE, 1 << 3);
    }

    /// Only packets whose destination was replaced.
    pub fn redirected(&mut self) {
        // IPS_DST_NAT
        self.conntrack(libc::NFT_CT_STATUS, 1 << 5);
    }

    /// Only packets with an address in (or outside of) a network.
    pub fn within(&mut self, field: Field, network: Cidr, inside: bool) {
        self.load(field, REG);
        if network.bits < 32 {
            self.bits(network.mask().to_be_bytes(), [0; 4]);
        }
        self.compare(inside, &(network.ip & network.mask()).to_be_bytes());
    }

    /// Only packets that come from this node itself.
    pub fn from_here(&mut self) {
        self.expr("fib", |a| {
            a.be32(1, REG);
            // The type of the source address.
            a.be32(2, 3);
            a.be32(3, 1);
        });
        self.compare(true, &u32::from(libc::RTN_LOCAL).to_ne_bytes());
    }

    /// Only packets that arrived by the link of this number.
    pub fn arrived_by(&mut self, link: u32) {
        self.meta(libc::NFT_META_IIF, REG);
        self.compare(true, &link.to_ne_bytes());
    }

    /// Connection tracking does not look at the packet.
    pub fn untracked(&mut self) {
        self.list.nest(1, |element| element.text(1, "notrack"));
    }

    /// Only packets of a protocol.
    pub fn protocol(&mut self, protocol: u8) {
        self.load(Field::Protocol, REG);
        self.compare(true, &[protocol]);
    }

    /// Only about so many of a million.
    pub fn share(&mut self, per_million: u32) {
        self.draw(1_000_000, true);
        // The number is in the machine's order; comparisons are of bytes from the left.
        self.expr("byteorder", |a| {
            a.be32(1, REG);
            a.be32(2, REG);
            a.be32(3, 1);
            a.be32(4, 4);
            a.be32(5, 4);
        });
        self.expr("cmp", |a| {
            a.be32(1, REG);
            // Less than.
            a.be32(2, 2);
            a.nest(3, |data| data.put(1, &per_million.to_be_bytes()));
        });
    }

    fn lookup(&mut self, set: &str, id: u32, verdict: bool) {
        self.expr("lookup", |a| {
            a.text(1, set);
            a.be32(2, REG);
            if verdict {
                a.be32(3, VERDICT);
            }
            if id > 0 {
                a.be32(4, id);
            }
        });
    }

    /// Only packets whose fields are in a set.
    pub fn in_set(&mut self, fields: &[Field], set: &str) {
        self.load_all(fields);
        self.lookup(set, 0, false);
    }

    /// Goes where a map says for these fields; on when it says nothing.
    pub fn by_map(&mut self, fields: &[Field], map: &str) {
        self.load_all(fields);
        self.lookup(map, 0, true);
    }

    fn load_all(&mut self, fields: &[Field]) {
        for (register, field) in (REG..).zip(fields) {
            self.load(*field, register);
        }
    }

    fn draw(&mut self, below: u32, random: bool) {
        self.expr("numgen", |a| {
            a.be32(1, REG);
            a.be32(2, below);
            a.be32(3, u32::from(random));
            a.be32(4, 0);
        });
    }

    /// Goes to one of the `count` chains of a [`super::batch::Batch::choices`]: at random, or each
    /// in turn.
    pub fn choose(&mut self, count: u32, choices: u32, random: bool) {
        self.draw(count, random);
        self.lookup("__map%d", choices, true);
    }

    /// Counts packets and bytes.
    pub fn count(&mut self) {
        self.expr("counter", |a| {
            a.put(1, &[0; 8]);
            a.put(2, &[0; 8]);
        });
    }

    /// Remembers the source address in a set with a timeout, from now on.
    pub fn remember(&mut self, set: &str) {
        self.load(Field::Source, REG);
        self.expr("dynset", |a| {
            a.text(1, set);
            // Update: the timeout begins anew.
            a.be32(3, 1);
            a.be32(4, REG);
        });
    }

    /// Replaces the destination.
    pub fn redirect(&mut self, ip: u32, port: u16) {
        for (register, bytes) in [(REG, &ip.to_be_bytes()[..]), (REG + 1, &port.to_be_bytes())] {
            self.expr("immediate", |a| {
                a.be32(1, register);
                a.nest(2, |data| data.put(1, bytes));
            });
        }
        self.expr("nat", |a| {
            a.be32(1, libc::NFT_NAT_DNAT.cast_unsigned());
            a.be32(2, libc::NFPROTO_IPV4.cast_unsigned());
            a.be32(3, REG);
            a.be32(5, REG + 1);
        });
    }

    /// Marks the packet: its source is to be replaced when it leaves.
    pub fn mark(&mut self) {
        self.put_in_mark(!MASQUERADE, MASQUERADE);
    }

    /// Only marked packets; the mark is taken off.
    pub fn unmark(&mut self) {
        self.meta(libc::NFT_META_MARK, REG);
        self.bits(MASQUERADE.to_ne_bytes(), [0; 4]);
        self.compare(false, &[0; 4]);
        self.put_in_mark(u32::MAX, MASQUERADE);
    }

    /// Replaces the source by this node's address, with a random port.
    pub fn masquerade(&mut self) {
        // NF_NAT_RANGE_PROTO_RANDOM_FULLY
        self.expr("masq", |a| a.be32(1, 1 << 4));
    }

    /// Refuses the packet, as a closed port does.
    pub fn reject(&mut self) {
        // NFT_REJECT_ICMP_UNREACH, ICMP_PORT_UNREACH
        self.expr("reject", |a| {
            a.be32(1, 0);
            a.put(2, &[3]);
        });
    }

    /// Goes on elsewhere, or nowhere.
    pub fn go(&mut self, verdict: &Verdict) {
        self.expr("immediate", |a| {
            a.be32(1, VERDICT);
            a.nest(2, |data| verdict.put(data));
        });
    }
}
