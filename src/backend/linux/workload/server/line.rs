//! One connection to another Service: its name is asked for, it is opened, it carries requests.
//!
//! Nothing here waits: a name server that is silent, or an endpoint that is dead, holds up the
//! request that needs it and no other.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, connect, getsockopt, socket, sockopt,
};

use crate::backend::linux::net::conntrack::{self, Choices};
use crate::backend::linux::net::sys;
use crate::backend::linux::workload::http::{self, Parsed};
use crate::backend::linux::workload::peer::{self, Names, Target};

/// How far a connection is.
enum State {
    /// The name server is asked for these names in turn.
    Asking(UdpSocket, VecDeque<String>),
    /// A connection, and whether it stands.
    Dialled(TcpStream, bool),
}

/// So often a client that retries elsewhere looks for another endpoint.
const ELSEWHERE: u32 = 8;

/// A connection.
pub struct Line {
    state: State,
    port: u16,
    /// The endpoint that was chosen for it, 0 while none is known.
    pub endpoint: u32,
    /// The endpoint that it had better not have.
    avoid: u32,
    /// The address that it was dialled at.
    to: u32,
    /// Which of the model's calls it is for.
    pub which: usize,
    /// Its place in the pool; `u32::MAX` for none.
    pub place: u32,
    /// The client's connection whose request uses it; none while it is idle.
    pub job: Option<u64>,
    /// No request was sent over it before this one.
    pub fresh: bool,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
}

/// What came of a look at a connection.
pub enum Went {
    /// Nothing more now.
    On,
    /// It has another descriptor from now on.
    Changed,
    /// It stands.
    Opened,
    /// The answer is here.
    Answered(http::Response),
}

impl Line {
    /// Begins to open one, for a call of the model, with its place in the pool.
    pub fn open(
        target: &Target,
        names: &Names,
        (which, place): (usize, u32),
        avoid: u32,
        choices: Option<&mut Choices>,
    ) -> io::Result<Line> {
        let mut endpoint = 0;
        let state = match target.host.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => {
                let to = SocketAddrV4::new(ip, target.port);
                let dialled = dial_past(to, avoid, choices)?;
                endpoint = dialled.1;
                State::Dialled(dialled.0, false)
            }
            Ok(IpAddr::V6(_)) => return Err(io::Error::other("IPv6")),
            Err(_) => {
                let server = names.server()?;
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
                socket.set_nonblocking(true)?;
                socket.connect((server, 53))?;
                let candidates = VecDeque::from(names.candidates(&target.host));
                if let Some(first) = candidates.front() {
                    socket.send(&peer::question(first))?;
                }
                State::Asking(socket, candidates)
            }
        };
        Ok(Line {
            state,
            endpoint,
            avoid,
            to: target.host.parse::<Ipv4Addr>().map_or(0, Ipv4Addr::to_bits),
            port: target.port,
            which,
            place,
            job: None,
            fresh: true,
            outgoing: Vec::new(),
            incoming: Vec::new(),
        })
    }

    /// What to watch.
    pub fn fd(&self) -> BorrowedFd<'_> {
        match &self.state {
            State::Asking(socket, _) => socket.as_fd(),
            State::Dialled(stream, _) => stream.as_fd(),
        }
    }

    /// What to watch it for, as epoll counts.
    pub fn interest(&self) -> u32 {
        let both = libc::EPOLLIN | libc::EPOLLOUT;
        let interest = match &self.state {
            State::Asking(..) => libc::EPOLLIN,
            State::Dialled(_, true) if self.outgoing.is_empty() => libc::EPOLLIN,
            State::Dialled(..) => both,
        };
        interest as u32
    }

    /// Whether no byte of the present answer has come.
    pub fn unanswered(&self) -> bool {
        self.incoming.is_empty()
    }

    /// Sends a request with the next look.
    pub fn ask(&mut self, request: &[u8]) {
        self.outgoing.extend(request);
    }

    /// Looks once more for the endpoint that was chosen.
    pub fn look(&mut self, choices: Option<&mut Choices>) {
        if let (0, State::Dialled(stream, _), Some(choices)) = (self.endpoint, &self.state, choices)
        {
            self.endpoint = chosen(stream, (self.to, self.port), choices);
        }
    }

    /// Whether the rules on the way turned it away, before it stood.
    pub fn rejected(&self) -> bool {
        matches!(&self.state, State::Dialled(stream, false) if sys::rejected(stream))
    }

    /// Goes on as far as it can without waiting.
    pub fn go_on(&mut self, choices: Option<&mut Choices>) -> io::Result<Went> {
        if matches!(self.state, State::Dialled(_, false)) {
            return self.dialled(choices);
        }
        match &mut self.state {
            State::Asking(socket, names) => {
                let Some(ip) = heard(socket, names)? else {
                    return Ok(Went::On);
                };
                self.to = ip.to_bits();
                let to = SocketAddrV4::new(ip, self.port);
                let (stream, endpoint) = dial_past(to, self.avoid, choices)?;
                self.endpoint = endpoint;
                self.state = State::Dialled(stream, false);
                Ok(Went::Changed)
            }
            State::Dialled(stream, _) => {
                let went = exchange(stream, &mut self.outgoing, &mut self.incoming)?;
                Ok(went.map_or(Went::On, Went::Answered))
            }
        }
    }

    /// A connection that is being made may stand now.
    fn dialled(&mut self, choices: Option<&mut Choices>) -> io::Result<Went> {
        let State::Dialled(stream, stands) = &mut self.state else {
            return Ok(Went::On);
        };
        let error = getsockopt(stream, sockopt::SocketError)?;
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        match stream.peer_addr() {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(Went::On),
            Err(error) => return Err(error),
        }
        *stands = true;
        // Notices about a connection that stands are hints, as everywhere.
        let _ = sys::keep_notices(stream, false);
        self.look(choices);
        Ok(Went::Opened)
    }
}

/// The endpoint of a connection, as the node has told; 0 when it has not.
fn chosen(stream: &TcpStream, to: (u32, u16), choices: &mut Choices) -> u32 {
    let Ok(from) = sys::local_address(stream) else {
        return 0;
    };
    let found = choices.of(conntrack::Line { from, to });
    found.map_or(0, |endpoint| endpoint.0)
}

/// A connection that is being made, past an endpoint if there is another, and its endpoint.
fn dial_past(
    to: SocketAddrV4,
    avoid: u32,
    mut choices: Option<&mut Choices>,
) -> io::Result<(TcpStream, u32)> {
    let tries = if avoid == 0 { 1 } else { ELSEWHERE };
    let mut tried = 0;
    loop {
        tried += 1;
        let stream = dial(to)?;
        let there = (to.ip().to_bits(), to.port());
        let endpoint = match &mut choices {
            Some(choices) => chosen(&stream, there, choices),
            None => 0,
        };
        if endpoint == 0 || endpoint != avoid || tried >= tries {
            return Ok((stream, endpoint));
        }
    }
}

/// The address, once a name server has said it.
fn heard(socket: &UdpSocket, names: &mut VecDeque<String>) -> io::Result<Option<Ipv4Addr>> {
    let mut buffer = [0u8; 512];
    loop {
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        if let Some(ip) = peer::first_address(&buffer[..length]) {
            return Ok(Some(ip));
        }
        names.pop_front();
        match names.front() {
            Some(next) => drop(socket.send(&peer::question(next))?),
            None => return Err(io::Error::new(io::ErrorKind::NotFound, "no such host")),
        }
    }
}

fn dial(to: SocketAddrV4) -> io::Result<TcpStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd: OwnedFd = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    sys::keep_notices(&fd, true)?;
    match connect(fd.as_raw_fd(), &SockaddrIn::from(to)) {
        Ok(()) | Err(nix::Error::EINPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::from(fd);
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends and receives what is there.
fn exchange(
    stream: &mut TcpStream,
    outgoing: &mut Vec<u8>,
    incoming: &mut Vec<u8>,
) -> io::Result<Option<http::Response>> {
    while !outgoing.is_empty() {
        match stream.write(outgoing) {
            Ok(count) => drop(outgoing.drain(..count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    let mut buffer = [0u8; 16384];
    let mut ended = false;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => ended = true,
            Ok(count) => {
                incoming.extend(&buffer[..count]);
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        break;
    }
    match http::response(incoming) {
        Parsed::Done(response, length) => {
            incoming.drain(..length);
            let keep_alive = response.keep_alive && !ended;
            Ok(Some(http::Response {
                keep_alive,
                ..response
            }))
        }
        Parsed::Wrong => Err(io::ErrorKind::InvalidData.into()),
        _ if ended => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(None),
    }
}
