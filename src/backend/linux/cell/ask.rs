//! Probes and hooks, carried out for real.
//!
//! An HTTP or TCP probe needs no process: a socket that was made inside a pod's network namespace
//! stays in it, so the cell goes in, makes a socket, and comes back. An `exec` probe is a process
//! in the container's namespaces and cgroup.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, connect, getsockopt, socket, sockopt,
};

use super::super::protocol::{Ask, Purpose, Way};
use super::super::sys;
use super::super::workload::http::{self, Parsed};
use super::grpc::{self, Answer};
use crate::kubelet::RuntimeEvent;
use crate::kubelet::runtime::ProbeOutcome;

/// A question that was asked and not answered.
pub struct Asking {
    /// The question.
    pub ask: Ask,
    /// When nobody waits any more, on the monotonic clock.
    pub due: u64,
    /// How it is going on.
    pub by: By,
}

/// How a question is asked.
pub enum By {
    /// Over a connection.
    Socket {
        /// The connection.
        stream: TcpStream,
        /// What is to be sent still; none for a TCP probe.
        outgoing: Option<Vec<u8>>,
        /// What has come.
        incoming: Vec<u8>,
        /// What has come of a gRPC answer; none for another protocol.
        grpc: Option<Answer>,
    },
    /// By a process.
    Process(OwnedFd),
}

impl Asking {
    /// The descriptor that tells when it goes on, and what to wait for.
    pub fn watch(&self) -> (BorrowedFd<'_>, u32) {
        match &self.by {
            By::Process(pidfd) => (pidfd.as_fd(), libc::EPOLLIN as u32),
            By::Socket {
                stream, outgoing, ..
            } => {
                let writes = outgoing.as_ref().is_none_or(|o| !o.is_empty());
                let events = if writes {
                    libc::EPOLLOUT
                } else {
                    libc::EPOLLIN
                };
                (stream.as_fd(), events as u32)
            }
        }
    }

    /// Goes on; the outcome, once there is one.
    pub fn go_on(&mut self) -> Option<ProbeOutcome> {
        match &mut self.by {
            By::Process(pidfd) => match sys::reap(pidfd.as_fd(), false) {
                Ok(None) => None,
                Ok(Some(sys::End::Code(0))) => Some(ProbeOutcome::Success),
                Ok(Some(_)) => Some(ProbeOutcome::Failure),
                Err(_) => Some(ProbeOutcome::Unknown),
            },
            By::Socket {
                stream,
                outgoing,
                incoming,
                grpc,
            } => match talk(stream, outgoing, incoming, grpc.as_mut()) {
                Ok(outcome) => outcome,
                Err(_) => Some(ProbeOutcome::Refused),
            },
        }
    }

    /// The answer as the kubelet hears it.
    pub fn answer(&self, outcome: ProbeOutcome) -> RuntimeEvent {
        let container = self.ask.container;
        match self.ask.purpose {
            Purpose::Probe(which, n) => RuntimeEvent::Probed {
                container,
                which,
                n,
                outcome,
            },
            Purpose::Hook(hook) => RuntimeEvent::HookDone {
                container,
                hook,
                ok: outcome == ProbeOutcome::Success,
            },
        }
    }
}

fn talk(
    stream: &mut TcpStream,
    outgoing: &mut Option<Vec<u8>>,
    incoming: &mut Vec<u8>,
    grpc: Option<&mut Answer>,
) -> io::Result<Option<ProbeOutcome>> {
    let Some(outgoing) = outgoing else {
        let stands = connected(stream)?;
        return Ok(stands.then_some(ProbeOutcome::Success));
    };
    // What is written before the connection stands would block; one that was refused says so.
    while !outgoing.is_empty() {
        match stream.write(outgoing) {
            Ok(count) => drop(outgoing.drain(..count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let mut buffer = [0u8; 4096];
    let open = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break false,
            Ok(count) => {
                incoming.extend(&buffer[..count]);
                if count < buffer.len() {
                    break true;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break true,
            // A server that ended while it was asked.
            Err(_) => break false,
        }
    };
    if let Some(answer) = grpc {
        // What it sends back (acknowledgements) goes out when there is more to read.
        return Ok(match answer.read(incoming, outgoing) {
            Ok(Some(true)) => Some(ProbeOutcome::Success),
            Ok(None) if open => None,
            Ok(_) | Err(_) => Some(ProbeOutcome::Failure),
        });
    }
    Ok(match http::response(incoming) {
        Parsed::Partial if open => None,
        Parsed::Partial => Some(ProbeOutcome::Failure),
        Parsed::Wrong => Some(ProbeOutcome::Failure),
        Parsed::Done(response, _) if (200..400).contains(&response.status) => {
            Some(ProbeOutcome::Success)
        }
        Parsed::Done(..) => Some(ProbeOutcome::Failure),
    })
}

/// Whether a connection stands.
fn connected(stream: &TcpStream) -> io::Result<bool> {
    let error = getsockopt(stream, sockopt::SocketError)?;
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

/// A socket in another network namespace, on its way to an address. The caller is left in the
/// namespace `home`.
fn dial(there: BorrowedFd<'_>, home: BorrowedFd<'_>, to: (u32, u16)) -> io::Result<TcpStream> {
    sys::setns(there, libc::CLONE_NEWNET)?;
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let made = socket(AddressFamily::Inet, SockType::Stream, flags, None);
    let begun = made.and_then(|fd| {
        let address = SocketAddrV4::new(Ipv4Addr::from(to.0), to.1);
        match connect(fd.as_raw_fd(), &SockaddrIn::from(address)) {
            Ok(()) | Err(nix::Error::EINPROGRESS) => Ok(fd),
            Err(error) => Err(error),
        }
    });
    sys::setns(home, libc::CLONE_NEWNET)?;
    Ok(TcpStream::from(begun?))
}

/// Begins to ask over a connection; `Err` is the outcome that is known at once.
pub fn connection(
    ask: &Ask,
    there: BorrowedFd<'_>,
    home: BorrowedFd<'_>,
) -> Result<By, ProbeOutcome> {
    let (to, outgoing) = match &ask.way {
        Way::Tcp { to } => (*to, None),
        Way::Grpc { to, service } => {
            let authority = format!("{}:{}", Ipv4Addr::from(to.0), to.1);
            (*to, Some(grpc::request(&authority, service)))
        }
        Way::Http {
            to,
            host,
            path,
            headers,
        } => {
            let agent = "kube-probe/1.36";
            let mut headers = headers.clone();
            headers.push(("Accept".to_owned(), "*/*".to_owned()));
            headers.push(("Connection".to_owned(), "close".to_owned()));
            (*to, Some(http::get(path, host, agent, &headers)))
        }
        Way::Exec(_) | Way::Unsupported(_) => return Err(ProbeOutcome::Unknown),
    };
    match dial(there, home, to) {
        Ok(stream) => Ok(By::Socket {
            stream,
            outgoing,
            incoming: Vec::new(),
            grpc: matches!(ask.way, Way::Grpc { .. }).then(Answer::default),
        }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Err(ProbeOutcome::Refused)
        }
        Err(_) => Err(ProbeOutcome::Unknown),
    }
}
