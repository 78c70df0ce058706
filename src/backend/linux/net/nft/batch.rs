//! Transactions of nf_tables in the kernel's wire format.
//!
//! Everything between the beginning and the end of a batch happens at once or not at all. Requests
//! are not acknowledged: when the batch was sent and nothing was answered, it is in force.

use nix::libc;

use super::expr::Exprs;
use crate::backend::linux::net::netlink::{Attrs, Messages};

/// The table that everything of a node is in.
pub const TABLE: &str = "rehearsal";

const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const CREATE: u16 = REQUEST | libc::NLM_F_CREATE as u16;
const APPEND: u16 = CREATE | libc::NLM_F_APPEND as u16;

/// `struct nfgenmsg` for IPv4.
const IPV4: [u8; 4] = [libc::NFPROTO_IPV4 as u8, 0, 0, 0];

/// How a base chain hangs in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// Where on a packet's way.
    pub at: u32,
    /// Before whom.
    pub priority: i32,
}

/// Hooks of a packet's way.
pub mod hooks {
    /// It has arrived.
    pub const PREROUTING: u32 = 0;
    /// It is for this node.
    pub const INPUT: u32 = 1;
    /// It is passed on.
    pub const FORWARD: u32 = 2;
    /// It begins here.
    pub const OUTPUT: u32 = 3;
    /// It leaves.
    pub const POSTROUTING: u32 = 4;
}

/// Where a packet goes on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// In this chain, and not back.
    Goto(String),
    /// In this chain, and then back here.
    Jump(String),
    /// Nowhere.
    Drop,
}

impl Verdict {
    pub(super) fn put(&self, attrs: &mut Attrs) {
        let (code, chain) = match self {
            Verdict::Drop => (libc::NF_DROP, None),
            Verdict::Jump(chain) => (libc::NFT_JUMP, Some(chain)),
            Verdict::Goto(chain) => (libc::NFT_GOTO, Some(chain)),
        };
        // NFTA_DATA_VERDICT { NFTA_VERDICT_CODE, NFTA_VERDICT_CHAIN }
        attrs.nest(2, |verdict| {
            verdict.be32(1, code.cast_unsigned());
            if let Some(chain) = chain {
                verdict.text(2, chain);
            }
        });
    }
}

/// What the keys of a set are. Fields take a register of four bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// An address.
    Ip,
    /// Address, protocol, port.
    IpPort,
    /// Protocol, port.
    Port,
    /// Two addresses, protocol, port.
    Pair,
    /// A number in the machine's order.
    Number,
}

impl Key {
    /// Length in bytes, and the type by which `nft` prints it: ipv4_addr 7, inet_proto 12,
    /// inet_service 13, integer 4, in groups of six bits.
    fn shape(self) -> (u32, u32) {
        match self {
            Key::Ip => (4, 7),
            Key::Port => (8, 12 << 6 | 13),
            Key::IpPort => (12, 7 << 12 | 12 << 6 | 13),
            Key::Pair => (16, 7 << 18 | 7 << 12 | 12 << 6 | 13),
            Key::Number => (4, 4),
        }
    }
}

/// `NFT_SET_*`.
const ANONYMOUS: u32 = 1;
const CONSTANT: u32 = 2;
const MAP: u32 = 8;
const TIMEOUT: u32 = 16;
const EVAL: u32 = 32;
/// The type of verdicts as data.
const VERDICT_TYPE: u32 = 0xffff_ff00;

/// A transaction being made.
#[derive(Clone, Debug)]
pub struct Batch {
    messages: Messages,
    /// Numbers of the anonymous sets of this batch.
    sets: u32,
}

impl Default for Batch {
    fn default() -> Self {
        let mut messages = Messages::default();
        mark(&mut messages, libc::NFNL_MSG_BATCH_BEGIN);
        Batch { messages, sets: 0 }
    }
}

fn mark(messages: &mut Messages, kind: i32) {
    // NFNL_SUBSYS_NFTABLES in network order.
    let family = [0, 0, 0, libc::NFNL_SUBSYS_NFTABLES as u8];
    messages.push(kind as u16, REQUEST, &family, |_| {});
}

impl Batch {
    /// The bytes to send.
    pub fn finish(mut self) -> Vec<u8> {
        mark(&mut self.messages, libc::NFNL_MSG_BATCH_END);
        self.messages.bytes().to_vec()
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.messages.len() == 1
    }

    fn push(&mut self, what: i32, flags: u16, fill: impl FnOnce(&mut Attrs)) {
        let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | what) as u16;
        self.messages.push(kind, flags, &IPV4, fill);
    }

    /// Makes the table, empty.
    pub fn fresh_table(&mut self, table: &str) {
        // Deleting what may not be there is an error; deleting what was just made is not.
        self.push(libc::NFT_MSG_NEWTABLE, CREATE, |a| a.text(1, table));
        self.push(libc::NFT_MSG_DELTABLE, REQUEST, |a| a.text(1, table));
        self.push(libc::NFT_MSG_NEWTABLE, CREATE, |a| a.text(1, table));
    }

    /// Makes a chain; one that is there stays as it is.
    pub fn chain(&mut self, table: &str, name: &str, hook: Option<Hook>) {
        self.push(libc::NFT_MSG_NEWCHAIN, CREATE, |a| {
            a.text(1, table);
            a.text(3, name);
            if let Some(hook) = hook {
                a.nest(4, |h| {
                    h.be32(1, hook.at);
                    h.be32(2, hook.priority.cast_unsigned());
                });
                a.text(7, hook.kind);
            }
        });
    }

    /// Empties a chain.
    pub fn flush(&mut self, table: &str, chain: &str) {
        self.push(libc::NFT_MSG_DELRULE, REQUEST, |a| {
            a.text(1, table);
            a.text(2, chain);
        });
    }

    /// Deletes a chain that is empty and that nobody goes to.
    pub fn delete_chain(&mut self, table: &str, chain: &str) {
        self.push(libc::NFT_MSG_DELCHAIN, REQUEST, |a| {
            a.text(1, table);
            a.text(3, chain);
        });
    }

    /// Adds a rule at the end of a chain.
    pub fn rule(&mut self, table: &str, chain: &str, fill: impl FnOnce(&mut Exprs)) {
        self.push(libc::NFT_MSG_NEWRULE, APPEND, |a| {
            a.text(1, table);
            a.text(2, chain);
            a.nest(4, |list| fill(&mut Exprs::new(list)));
        });
    }

    fn new_set(&mut self, name: &str, key: Key, flags: u32, timeout_s: u32, id: u32) {
        let (length, kind) = key.shape();
        self.push(libc::NFT_MSG_NEWSET, CREATE, |a| {
            a.text(1, TABLE);
            a.text(2, name);
            a.be32(3, flags);
            a.be32(4, kind);
            a.be32(5, length);
            if flags & MAP != 0 {
                a.be32(6, VERDICT_TYPE);
            }
            a.be32(10, id);
            if timeout_s > 0 {
                a.put(11, &(u64::from(timeout_s) * 1_000).to_be_bytes());
            }
            if key == Key::Number {
                // For `nft list`: type 0 (byte order of keys), length 4, host order.
                a.put(13, &[0, 4, 1, 0, 0, 0]);
            }
        });
    }

    /// Makes a named set.
    pub fn set(&mut self, name: &str, key: Key) {
        self.new_set(name, key, 0, 0, 0);
    }

    /// Makes a named map to verdicts.
    pub fn map(&mut self, name: &str, key: Key) {
        self.new_set(name, key, MAP, 0, 0);
    }

    /// Makes a set of addresses that rules fill and that forgets them after a time.
    pub fn memory(&mut self, name: &str, timeout_s: u32) {
        self.new_set(name, Key::Ip, TIMEOUT | EVAL, timeout_s, 0);
    }

    /// Deletes a set that no rule uses.
    pub fn delete_set(&mut self, name: &str) {
        self.push(libc::NFT_MSG_DELSET, REQUEST, |a| {
            a.text(1, TABLE);
            a.text(2, name);
        });
    }

    /// Makes a map from 0, 1, 2 … to chains for one rule; returns its number in this batch.
    pub fn choices(&mut self, chains: &[String]) -> u32 {
        self.sets += 1;
        let id = self.sets;
        self.new_set("__map%d", Key::Number, ANONYMOUS | CONSTANT | MAP, 0, id);
        let numbers = 0u32..;
        let elements: Vec<_> = numbers
            .zip(chains)
            .map(|(n, chain)| (n.to_ne_bytes().to_vec(), Some(Verdict::Goto(chain.clone()))))
            .collect();
        let all: Vec<_> = elements.iter().map(|(k, v)| (&k[..], v.as_ref())).collect();
        self.elements(libc::NFT_MSG_NEWSETELEM, CREATE, "__map%d", id, &all);
        id
    }

    /// Adds elements to a named set or map.
    pub fn add(&mut self, set: &str, elements: &[(&[u8], Option<&Verdict>)]) {
        self.elements(libc::NFT_MSG_NEWSETELEM, CREATE, set, 0, elements);
    }

    /// Takes elements out of a named set or map.
    pub fn remove(&mut self, set: &str, elements: &[(&[u8], Option<&Verdict>)]) {
        self.elements(libc::NFT_MSG_DELSETELEM, REQUEST, set, 0, elements);
    }

    fn elements(
        &mut self,
        what: i32,
        flags: u16,
        set: &str,
        id: u32,
        elements: &[(&[u8], Option<&Verdict>)],
    ) {
        // An attribute holds at most 64 KiB; a verdict with a long chain's name takes 300 bytes.
        for part in elements.chunks(150) {
            self.push(what, flags, |a| {
                a.text(1, TABLE);
                a.text(2, set);
                if id > 0 {
                    a.be32(4, id);
                }
                a.nest(3, |list| {
                    for (key, verdict) in part {
                        list.nest(1, |element| {
                            element.nest(1, |k| k.put(1, key));
                            if let Some(verdict) = verdict {
                                element.nest(2, |data| verdict.put(data));
                            }
                        });
                    }
                });
            });
        }
    }
}
