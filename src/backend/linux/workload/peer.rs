//! Other Services as the built-in server sees them: names become addresses by DNS, and calls go
//! over connections that are kept.
//!
//! Names are asked of the resolver in `/etc/resolv.conf`, with its search list, each time that a
//! connection is made; one short UDP question, answered by the node's resolver.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::load::model::Client;

/// A Service by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its DNS name, or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// A call to another Service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The number of this kind of client in the run, for its tally.
    pub sender: u16,
    /// Where.
    pub target: Target,
    /// How the client behaves.
    pub client: Client,
    /// Whether the request succeeds even when this call fails.
    pub optional: bool,
}

/// How long a resolver may take when somebody waits for it.
const DNS_TIMEOUT: Duration = Duration::from_millis(500);

/// What `/etc/resolv.conf` says.
#[derive(Clone, Debug, Default)]
pub struct Names(Option<(Ipv4Addr, Vec<String>)>);

impl Names {
    /// Reads it.
    pub fn read() -> Names {
        let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        Names(resolver(&text))
    }

    /// The name server.
    ///
    /// # Errors
    /// There is none.
    pub fn server(&self) -> io::Result<Ipv4Addr> {
        let server = self.0.as_ref().map(|(server, _)| *server);
        server.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no nameserver"))
    }

    /// The names to ask for, in order: `ndots:5` as in pods.
    pub fn candidates(&self, host: &str) -> Vec<String> {
        candidates(host, self.0.as_ref().map_or(&[], |(_, search)| search))
    }
}

/// The address of a Service; waits for the name server.
///
/// # Errors
/// Nobody knows the name, or the resolver does not answer.
pub fn resolve(target: &Target) -> io::Result<SocketAddr> {
    if let Ok(ip) = target.host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, target.port));
    }
    let names = Names::read();
    let server = names.server()?;
    for name in names.candidates(&target.host) {
        if let Some(ip) = ask(server, &name)? {
            return Ok(SocketAddr::new(ip.into(), target.port));
        }
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        format!("no such host {}", target.host),
    ))
}

/// The first name server and the search list of a resolv.conf.
fn resolver(text: &str) -> Option<(Ipv4Addr, Vec<String>)> {
    let mut server = None;
    let mut search = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") if server.is_none() => {
                server = words.next().and_then(|w| w.parse().ok());
            }
            Some("search") => search = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    Some((server?, search))
}

fn candidates(host: &str, search: &[String]) -> Vec<String> {
    if let Some(full) = host.strip_suffix('.') {
        return vec![full.to_owned()];
    }
    let dots = host.matches('.').count();
    let mut names: Vec<String> = search.iter().map(|s| format!("{host}.{s}")).collect();
    match dots >= 5 {
        true => names.insert(0, host.to_owned()),
        false => names.push(host.to_owned()),
    }
    names
}

fn ask(server: Ipv4Addr, name: &str) -> io::Result<Option<Ipv4Addr>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(DNS_TIMEOUT))?;
    socket.connect((server, 53))?;
    socket.send(&question(name))?;
    let mut buffer = [0u8; 512];
    let length = socket.recv(&mut buffer)?;
    Ok(first_address(&buffer[..length]))
}

/// A question for the A records of a name.
pub fn question(name: &str) -> Vec<u8> {
    // id 1, recursion desired, one question
    let mut bytes = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|l| !l.is_empty()) {
        bytes.push(u8::try_from(label.len().min(63)).unwrap_or(63));
        bytes.extend(label.bytes().take(63));
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// The first A record of an answer.
pub fn first_address(bytes: &[u8]) -> Option<Ipv4Addr> {
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let name_end = |mut at: usize| loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2),
            length => at += usize::from(length) + 1,
        }
    };
    let (questions, answers) = (word(4)?, word(6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = name_end(at)? + 4;
    }
    for _ in 0..answers {
        at = name_end(at)?;
        let (kind, length) = (word(at)?, usize::from(word(at + 8)?));
        at += 10;
        if kind == 1 && length == 4 {
            let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
            return Some(octets.into());
        }
        at += length;
    }
    None
}

/// Whether a Service accepts a connection.
pub fn accepts(target: &Target, timeout: Duration) -> bool {
    resolve(target).is_ok_and(|to| TcpStream::connect_timeout(&to, timeout).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_asked_with_the_search_list_first() {
        let text = "search a.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\n\
                    options ndots:5\n";
        let (server, search) = resolver(text).expect("a resolver");
        assert_eq!(server, Ipv4Addr::new(10, 96, 0, 10));
        let table = [
            ("web", "web.a.svc.cluster.local web.svc.cluster.local web"),
            ("web.b.", "web.b"),
            (
                "a.b.c.d.e.f",
                "a.b.c.d.e.f a.b.c.d.e.f.a.svc.cluster.local \
                             a.b.c.d.e.f.svc.cluster.local",
            ),
        ];
        for (host, expected) in table {
            assert_eq!(candidates(host, &search).join(" "), expected);
        }
        assert_eq!(resolver("search x\n"), None);
    }

    #[test]
    fn the_first_address_of_an_answer_is_taken() {
        let mut answer = question("web");
        answer[7] = 2;
        // a CNAME, then an A record, each with a compressed name
        answer.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 1, 0, 2, 0xc0, 12]);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 10, 96, 1, 2]);
        assert_eq!(first_address(&answer), Some(Ipv4Addr::new(10, 96, 1, 2)));
        for cut in 0..answer.len() {
            assert_eq!(first_address(&answer[..cut]), None, "{cut} bytes");
        }
        assert_eq!(first_address(&question("web")), None);
    }
}
