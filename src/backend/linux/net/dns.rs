//! Names inside the cluster: a small resolver on every node.
//!
//! Pods ask the cluster's DNS address; every node has that address itself, as with a node-local
//! cache, and one child process answers for all nodes from one table. It knows what CoreDNS's
//! `kubernetes` plugin answers for Services: the Service's address, for headless Services those of
//! the endpoints and of every named pod, and an alias for ExternalName. Everything else does not
//! exist, so that a resolver goes on with its search list at once.
//!
//! [`Names::answer`] is a function of a question's bytes; the process around it is a loop.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::libc;
use serde::{Deserialize, Serialize};

use super::child::{Channel, Child};
use super::netlink::Messages;
use super::route::{self, LOOPBACK};
use super::sys::{self, NetError, Poll, Result, Step};
use crate::net::dns::{CLUSTER_DOMAIN, matches};

/// The cluster's DNS address, as kubeadm chooses it.
pub const DNS_ADDRESS: u32 = 0x0a60_000a;
/// Seconds that an answer may be kept (CoreDNS's default).
const TTL: u32 = 5;
/// The longest answer without and with EDNS.
const SHORT: usize = 512;
const LONG: usize = 1232;

/// What a Service's name stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Addresses: the Service's own, or all of its endpoints.
    pub addresses: Vec<u32>,
    /// Pods of a headless Service by host name.
    pub pods: BTreeMap<String, u32>,
    /// The name that an ExternalName stands for.
    pub alias: Option<String>,
}

/// Questions that are answered wrongly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lie {
    /// Whose, by address.
    pub askers: Vec<u32>,
    /// For which full names, with `*` and `?`; empty is all.
    pub patterns: Vec<String>,
    /// With an address that is nobody's, instead of a failure.
    pub random: bool,
}

impl Lie {
    fn concerns(&self, asker: u32, name: &str) -> bool {
        let named = |pattern: &String| matches(pattern, name);
        self.askers.contains(&asker)
            && (self.patterns.is_empty() || self.patterns.iter().any(named))
    }
}

/// The table of names.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// By number.
    lies: BTreeMap<u32, Lie>,
    /// By namespace and name.
    services: BTreeMap<(String, String), Entry>,
    turn: usize,
}

/// What a name leads to.
enum Found<'a> {
    Addresses(Vec<u32>),
    Alias(&'a str),
    Nothing,
}

impl Names {
    /// A Service is this from now on; none takes it away.
    pub fn put(&mut self, namespace: &str, name: &str, entry: Option<Entry>) {
        let key = (namespace.to_owned(), name.to_owned());
        match entry {
            Some(entry) => self.services.insert(key, entry),
            None => self.services.remove(&key),
        };
    }

    fn find(&self, name: &str) -> Found<'_> {
        let name = name.to_ascii_lowercase();
        let inside = name
            .strip_suffix(CLUSTER_DOMAIN)
            .and_then(|rest| rest.strip_suffix(".svc."));
        let Some(inside) = inside else {
            return Found::Nothing;
        };
        let labels: Vec<&str> = inside.split('.').collect();
        let (pod, service, namespace) = match labels[..] {
            [service, namespace] => (None, service, namespace),
            [pod, service, namespace] => (Some(pod), service, namespace),
            _ => return Found::Nothing,
        };
        let key = (namespace.to_owned(), service.to_owned());
        let Some(entry) = self.services.get(&key) else {
            return Found::Nothing;
        };
        match (pod, &entry.alias) {
            (Some(pod), _) => match entry.pods.get(pod) {
                Some(ip) => Found::Addresses(vec![*ip]),
                None => Found::Nothing,
            },
            (None, Some(alias)) => Found::Alias(alias),
            (None, None) => Found::Addresses(entry.addresses.clone()),
        }
    }

    /// Some questions are answered wrongly from now on, or no longer.
    pub fn lie(&mut self, id: u32, lie: Option<Lie>) {
        match lie {
            Some(lie) => self.lies.insert(id, lie),
            None => self.lies.remove(&id),
        };
    }

    /// A wrong answer, if this asker is to have one.
    fn wrong(&mut self, question: &[u8], asker: u32) -> Option<Vec<u8>> {
        const SERVER_FAILURE: u8 = 2;
        /// 198.18.0.0/15, for benchmarks: nobody is there.
        const NOBODY: u32 = 0xc612_0000;
        let (name, end) = asked(question)?;
        let name = name.to_ascii_lowercase();
        let lie = self.lies.values().find(|lie| lie.concerns(asker, &name))?;
        if !lie.random {
            return Some(message(question, end + 4, SERVER_FAILURE, &[], SHORT));
        }
        self.turn = self.turn.wrapping_add(1);
        let drawn = crate::engine::entity_key(&[&name, &self.turn.to_string()]);
        let ip = NOBODY | u32::try_from(drawn & 0x1_ffff).unwrap_or(0);
        let address = record(1, &ip.to_be_bytes());
        Some(message(question, end + 4, 0, &[address], SHORT))
    }

    /// The answer to a question of somebody, none when it is not a question.
    pub fn answer_to(&mut self, question: &[u8], asker: u32) -> Option<Vec<u8>> {
        let wrong = match self.lies.is_empty() {
            true => None,
            false => self.wrong(question, asker),
        };
        wrong.or_else(|| self.answer(question))
    }

    /// The answer to a question, none when it is not a question.
    pub fn answer(&mut self, question: &[u8]) -> Option<Vec<u8>> {
        const NO_ERROR: u8 = 0;
        const NO_SUCH_NAME: u8 = 3;
        const NOT_IMPLEMENTED: u8 = 4;
        let (name, end) = asked(question)?;
        let word = |at: usize| {
            Some(u16::from_be_bytes([
                *question.get(at)?,
                *question.get(at + 1)?,
            ]))
        };
        let (kind, more) = (word(end)?, word(10)?);
        let standard = question[2] >> 3 & 0xf == 0 && word(4)? == 1;
        let mut records = Vec::new();
        let code = match self.find(&name) {
            _ if !standard => NOT_IMPLEMENTED,
            Found::Nothing => NO_SUCH_NAME,
            Found::Alias(alias) => {
                records.push(record(5, &labels(alias)?));
                if let Found::Addresses(addresses) = self.find(alias.trim_end_matches('.'))
                    && kind == 1
                {
                    let name = labels(alias)?;
                    records.extend(addresses.iter().map(|ip| named_record(&name, *ip)));
                }
                NO_ERROR
            }
            Found::Addresses(mut addresses) if kind == 1 => {
                if !addresses.is_empty() {
                    let first = self.turn % addresses.len();
                    addresses.rotate_left(first);
                    self.turn = self.turn.wrapping_add(1);
                }
                records.extend(addresses.iter().map(|ip| record(1, &ip.to_be_bytes())));
                NO_ERROR
            }
            Found::Addresses(_) => NO_ERROR,
        };
        let limit = if more > 0 { LONG } else { SHORT };
        Some(message(question, end + 4, code, &records, limit))
    }
}

fn message(question: &[u8], end: usize, code: u8, records: &[Vec<u8>], limit: usize) -> Vec<u8> {
    let mut size = end;
    let fits = records.iter().take_while(|record| {
        size += record.len();
        size <= limit
    });
    let count = fits.count();
    let mut bytes = question[..end].to_vec();
    let truncated = u8::from(count < records.len());
    // An authoritative answer; recursion as wanted, and available.
    bytes[2] = 0x84 | question[2] & 0x79 | truncated << 1;
    bytes[3] = 0x80 | code;
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    bytes[6..8].copy_from_slice(&count.to_be_bytes());
    bytes[8..12].fill(0);
    for record in &records[..usize::from(count)] {
        bytes.extend_from_slice(record);
    }
    bytes
}

/// The name that is asked for, and where it ends.
fn asked(question: &[u8]) -> Option<(String, usize)> {
    // An answer is not a question.
    if question.len() < 17 || question[2] & 0x80 != 0 {
        return None;
    }
    let (mut name, mut at) = (String::new(), 12);
    loop {
        let length = usize::from(*question.get(at)?);
        if length == 0 {
            break;
        }
        let label = question.get(at + 1..at + 1 + length)?;
        if length > 63 {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(std::str::from_utf8(label).ok()?);
        at += length + 1;
    }
    question.get(at + 4).is_some().then_some(())?;
    (question.len() >= at + 5).then_some((name, at + 1))
}

/// A name as it is sent.
fn labels(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|n| (1..64).contains(n))?;
        bytes.push(length);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    Some(bytes)
}

/// A record of the name that was asked for, which stands at byte 12.
fn record(kind: u16, value: &[u8]) -> Vec<u8> {
    rest_of_record(vec![0xc0, 12], kind, value)
}

fn named_record(name: &[u8], ip: u32) -> Vec<u8> {
    rest_of_record(name.to_vec(), 1, &ip.to_be_bytes())
}

fn rest_of_record(mut bytes: Vec<u8>, kind: u16, value: &[u8]) -> Vec<u8> {
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    bytes.extend_from_slice(&TTL.to_be_bytes());
    bytes.extend_from_slice(&u16::try_from(value.len()).unwrap_or(0).to_be_bytes());
    bytes.extend_from_slice(value);
    bytes
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Command {
    /// A node's socket, which comes with it.
    Socket { place: u32 },
    Put {
        namespace: String,
        name: String,
        entry: Option<Entry>,
    },
    /// Some questions are answered wrongly, or no longer.
    Lie { id: u32, lie: Option<Lie> },
}

/// The cell's handle on the resolver.
#[derive(Debug)]
pub struct Resolver(Child);

impl Resolver {
    /// Starts it, without names and nodes.
    pub fn new() -> Result<Resolver> {
        let child = Child::start(|channel| serve(&channel));
        Ok(Resolver(child.step(|| "start the resolver".to_owned())?))
    }

    fn tell(&self, command: &Command, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let sent = self.0.channel.send(command, fds);
        let name = || format!("tell the resolver {command:?}");
        match sent.step(name)? {
            true => Ok(()),
            false => Err(io::Error::from(io::ErrorKind::TimedOut)).step(name),
        }
    }

    /// Answers on a node from now on.
    pub fn add_node(&self, place: u32, node: &super::fabric::Node) -> Result<()> {
        let mut m = Messages::default();
        route::address(&mut m, LOOPBACK, DNS_ADDRESS);
        node.socket().request(&m).map_err(|(_, source)| NetError {
            step: "give a node the DNS address".to_owned(),
            source,
        })?;
        let (domain, kind) = (libc::AF_INET, libc::SOCK_DGRAM);
        let socket = sys::socket_in(node.netns(), domain, kind, 0)
            .and_then(|socket| sys::bind(&socket, DNS_ADDRESS, 53).map(|()| socket));
        let socket = socket.step(|| "listen for DNS questions".to_owned())?;
        self.tell(&Command::Socket { place }, &[socket.as_fd()])
    }

    /// Some questions are answered wrongly from now on, or no longer.
    pub fn lie(&self, id: u32, lie: Option<Lie>) -> Result<()> {
        self.tell(&Command::Lie { id, lie }, &[])
    }

    /// A Service's name stands for this from now on.
    pub fn put(&self, namespace: &str, name: &str, entry: Option<Entry>) -> Result<()> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let command = Command::Put {
            namespace,
            name,
            entry,
        };
        self.tell(&command, &[])
    }
}

fn serve(channel: &Channel) -> io::Result<()> {
    const CONTROL: u64 = u64::MAX;
    let (poll, mut ready) = (Poll::new()?, Vec::new());
    let mut sockets: BTreeMap<u32, OwnedFd> = BTreeMap::new();
    let mut names = Names::default();
    let mut buffer = [0; 1500];
    poll.add(channel, false, CONTROL)?;
    loop {
        poll.wait(None, &mut ready)?;
        for event in &ready {
            if event.token == CONTROL {
                while let Some((command, fds)) = channel.receive::<Command>()? {
                    match command {
                        Command::Socket { place } => {
                            if let Some(fd) = fds.into_iter().next() {
                                poll.add(&fd, false, place.into())?;
                                sockets.insert(place, fd);
                            }
                        }
                        Command::Put {
                            namespace,
                            name,
                            entry,
                        } => names.put(&namespace, &name, entry),
                        Command::Lie { id, lie } => names.lie(id, lie),
                    }
                }
                continue;
            }
            let Some(socket) = sockets.get(&(event.token as u32)) else {
                continue;
            };
            while let Ok((length, ip, port)) = sys::receive_from(socket, &mut buffer) {
                if let Some(answer) = names.answer_to(&buffer[..length], ip) {
                    // A client that is gone does not want it any more.
                    let _ = sys::send_to(socket, &answer, ip, port);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let mut names = Names::default();
        let vip = Entry {
            addresses: vec![0x0a60_0001],
            ..Entry::default()
        };
        names.put("shop", "web", Some(vip));
        let headless = Entry {
            addresses: vec![0x0a01_0005, 0x0a02_0005],
            pods: [("db-0".to_owned(), 0x0a01_0005)].into(),
            alias: None,
        };
        names.put("shop", "db", Some(headless));
        let alias = |to: &str| Entry {
            alias: Some(to.to_owned()),
            ..Entry::default()
        };
        names.put("shop", "old", Some(alias("web.shop.svc.cluster.local")));
        names.put("shop", "far", Some(alias("example.com")));
        names
    }

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut bytes = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        bytes.extend(labels(name).unwrap());
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&[0, 1]);
        bytes
    }

    /// Code and the last four bytes of each record.
    fn asked(names: &mut Names, name: &str, kind: u16) -> String {
        let question = question(name, kind);
        let answer = names.answer(&question).unwrap();
        assert_eq!(answer[..2], [0xab, 0xcd], "the question's number");
        assert_eq!(answer[2] & 0x80, 0x80, "an answer");
        let count = usize::from(answer[7]);
        let mut shown = format!("code {}", answer[3] & 0xf);
        let mut at = question.len();
        for _ in 0..count {
            // a name of labels, or two bytes that point to one
            while answer[at] != 0 && answer[at] < 0xc0 {
                at += 1 + usize::from(answer[at]);
            }
            at += if answer[at] == 0 { 1 } else { 2 };
            let length = usize::from(answer[at + 9]);
            let value = &answer[at + 10..at + 10 + length];
            match answer[at + 1] {
                1 => shown += &format!(" {}.{}.{}.{}", value[0], value[1], value[2], value[3]),
                kind => shown += &format!(" type{kind}"),
            }
            at += 10 + length;
        }
        assert_eq!(at, answer.len());
        shown
    }

    #[test]
    fn services_pods_and_aliases_are_answered_and_nothing_else_exists() {
        let mut names = names();
        let table = [
            ("web.shop.svc.cluster.local", 1, "code 0 10.96.0.1"),
            ("WEB.shop.svc.Cluster.local", 1, "code 0 10.96.0.1"),
            ("web.shop.svc.cluster.local", 28, "code 0"),
            ("db.shop.svc.cluster.local", 1, "code 0 10.1.0.5 10.2.0.5"),
            ("db.shop.svc.cluster.local", 1, "code 0 10.2.0.5 10.1.0.5"),
            ("db-0.db.shop.svc.cluster.local", 1, "code 0 10.1.0.5"),
            ("db-1.db.shop.svc.cluster.local", 1, "code 3"),
            ("old.shop.svc.cluster.local", 1, "code 0 type5 10.96.0.1"),
            ("far.shop.svc.cluster.local", 1, "code 0 type5"),
            ("web.shop.svc.cluster.local.svc.cluster.local", 1, "code 3"),
            ("web.other.svc.cluster.local", 1, "code 3"),
            ("example.com", 1, "code 3"),
            ("web", 1, "code 3"),
        ];
        for (name, kind, expected) in table {
            assert_eq!(asked(&mut names, name, kind), expected, "{name} {kind}");
        }
        names.put("shop", "web", None);
        assert_eq!(asked(&mut names, "web.shop.svc.cluster.local", 1), "code 3");
    }

    #[test]
    fn who_is_lied_to_gets_a_failure_or_an_address_of_nobody() {
        let mut names = names();
        let lie = |random| Lie {
            askers: vec![7],
            patterns: vec!["web.*".to_owned()],
            random,
        };
        let web = question("web.shop.svc.cluster.local", 1);
        let truth = names.answer(&web);
        names.lie(1, Some(lie(false)));
        let failed = names.answer_to(&web, 7).unwrap();
        assert_eq!((failed[3] & 0xf, failed[7]), (2, 0), "a server's failure");
        assert_eq!(names.answer_to(&web, 8), truth, "another asker");
        let other = question("db-0.db.shop.svc.cluster.local", 1);
        assert_eq!(
            names.answer_to(&other, 7).unwrap()[3] & 0xf,
            0,
            "another name"
        );
        names.lie(1, Some(lie(true)));
        let random = [0, 1].map(|_| names.answer_to(&web, 7).unwrap());
        for answer in &random {
            assert_eq!((answer[3] & 0xf, answer[7]), (0, 1));
            let ip = &answer[answer.len() - 4..];
            assert_eq!((ip[0], ip[1] & 0xfe), (198, 18));
        }
        assert_ne!(random[0], random[1]);
        names.lie(1, None);
        assert_eq!(names.answer_to(&web, 7), truth, "afterwards");
    }

    #[test]
    fn long_answers_are_cut_and_say_so() {
        let mut names = Names::default();
        let many = Entry {
            addresses: (0..100).collect(),
            ..Entry::default()
        };
        names.put("a", "b", Some(many));
        let question = question("b.a.svc.cluster.local", 1);
        let answer = names.answer(&question).unwrap();
        // 39 bytes of question, 16 for each record: 29 of them in 512.
        assert_eq!((question.len(), answer.len()), (39, 39 + 29 * 16));
        assert_eq!((answer[7], answer[2] & 2), (29, 2));
    }

    #[test]
    fn what_is_no_question_gets_no_answer() {
        let mut names = names();
        let whole = question("web.shop.svc.cluster.local", 1);
        for end in 0..whole.len() {
            assert_eq!(names.answer(&whole[..end]), None, "{end} bytes");
        }
        let mut reply = whole.clone();
        reply[2] |= 0x80;
        assert_eq!(names.answer(&reply), None, "an answer");
        let mut status = whole;
        status[2] |= 2 << 3;
        assert_eq!(
            names.answer(&status).unwrap()[3] & 0xf,
            4,
            "another kind of question"
        );
    }
}
