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

use crate::backend::linux::workload::http::{self, Parsed};
use crate::backend::linux::workload::peer::{self, Names, Target};

/// How far a connection is.
enum State {
    /// The name server is asked for these names in turn.
    Asking(UdpSocket, VecDeque<String>),
    /// A connection, and whether it stands.
    Dialled(TcpStream, bool),
}

/// A connection.
pub struct Line {
    state: State,
    port: u16,
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
    /// Begins to open one.
    pub fn open(target: &Target, names: &Names, which: usize, place: u32) -> io::Result<Line> {
        let state = match target.host.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => State::Dialled(dial(SocketAddrV4::new(ip, target.port))?, false),
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

    /// Goes on as far as it can without waiting.
    pub fn go_on(&mut self) -> io::Result<Went> {
        match &mut self.state {
            State::Asking(socket, names) => {
                let Some(ip) = heard(socket, names)? else {
                    return Ok(Went::On);
                };
                self.state = State::Dialled(dial(SocketAddrV4::new(ip, self.port))?, false);
                Ok(Went::Changed)
            }
            State::Dialled(stream, stands @ false) => {
                let error = getsockopt(stream, sockopt::SocketError)?;
                if error != 0 {
                    return Err(io::Error::from_raw_os_error(error));
                }
                match stream.peer_addr() {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                        return Ok(Went::On);
                    }
                    Err(error) => return Err(error),
                }
                *stands = true;
                Ok(Went::Opened)
            }
            State::Dialled(stream, true) => {
                let went = exchange(stream, &mut self.outgoing, &mut self.incoming)?;
                Ok(went.map_or(Went::On, Went::Answered))
            }
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
