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

use super::super::net::line;
use super::super::protocol::{Ask, Purpose, Way};
use super::super::sys;
use super::super::workload::http::{self, Parsed};
use super::container::Container;
use super::grpc::{self, Answer};
use super::zygote::Expected;
use super::{Cell, Source};
use crate::engine::nanos;
use crate::kubelet::RuntimeEvent;
use crate::kubelet::runtime::ProbeOutcome;

/// A question that was asked and not answered.
#[derive(Debug)]
pub struct Asking {
    /// The question.
    pub ask: Ask,
    /// When nobody waits any more, on the monotonic clock.
    pub due: u64,
    /// How it is going on.
    pub by: By,
}

/// How a question is asked.
#[derive(Debug)]
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

/// Looking out for the answer of a server that was just asked. Most answer within microseconds, and
/// to be woken takes as long again; so the cell stays awake for a moment. Where that was in vain it
/// does without for a while.
#[derive(Debug, Default)]
pub struct Spin {
    /// Until when.
    until: u64,
    /// So many questions are asked without.
    without: u32,
    /// There is another CPU for whoever is to answer.
    beside: Option<bool>,
}

impl Spin {
    /// For so long.
    const NANOS: u64 = 60_000;
    /// After one that was in vain.
    const WITHOUT: u32 = 32;

    /// A server was asked.
    pub fn begin(&mut self) {
        let cpus = || std::thread::available_parallelism().is_ok_and(|n| n.get() > 1);
        if self.without > 0 {
            self.without -= 1;
        } else if *self.beside.get_or_insert_with(cpus) {
            self.until = sys::monotonic() + Spin::NANOS;
        }
    }

    /// Whether it goes on.
    pub fn goes_on(&self) -> bool {
        self.until != 0
    }

    /// So many things happened until now.
    pub fn turned(&mut self, ready: usize, now: u64) {
        if self.until == 0 {
            return;
        }
        if ready > 0 {
            self.until = 0;
        } else if self.until <= now {
            self.until = 0;
            self.without = Spin::WITHOUT;
        }
    }
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
        answer(&self.ask, outcome)
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
    let asks = !outgoing.is_empty();
    while !outgoing.is_empty() {
        match stream.write(outgoing) {
            Ok(count) => drop(outgoing.drain(..count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    if asks {
        // Nobody answers before it is asked.
        return Ok(None);
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
            // Nobody was there to take the question, which came with the first packet.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(error),
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

/// An address and port, and what is sent there.
pub type Question = ((u32, u16), Option<Vec<u8>>);

/// Whom a question over a connection goes to, and what is sent: nothing by a TCP probe. None is what
/// is asked otherwise.
pub fn question(way: &Way) -> Option<Question> {
    Some(match way {
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
        Way::Exec(_) | Way::Unsupported(_) => return None,
    })
}

/// Begins to ask over a connection; `Err` is the outcome that is known at once.
pub fn connection(
    ask: &Ask,
    there: BorrowedFd<'_>,
    home: BorrowedFd<'_>,
) -> Result<By, ProbeOutcome> {
    let (to, outgoing) = question(&ask.way).ok_or(ProbeOutcome::Unknown)?;
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

impl Ask {
    /// The instant from which on nobody waits for an answer any more, if it is asked now.
    pub fn due(&self) -> u64 {
        let timeout = nanos(self.timeout);
        sys::monotonic().saturating_add(timeout)
    }
}

/// The answer as the kubelet hears it, whether or not anybody has been asked.
pub fn answer(ask: &Ask, outcome: ProbeOutcome) -> RuntimeEvent {
    let container = ask.container;
    match ask.purpose {
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

impl Cell {
    /// Asks a container.
    pub(super) fn ask(&mut self, ask: Ask) {
        if matches!(ask.way, Way::Exec(_)) {
            return self.ask_inside(ask);
        }
        let due = ask.due();
        let begun = self.begin_to_ask(&ask);
        let mut asking = Asking {
            ask,
            due,
            by: match begun {
                Ok(by) => by,
                Err(outcome) => return self.event(answer(&outcome.0, outcome.1)),
            },
        };
        if let Some(outcome) = match asking.by {
            By::Socket { .. } => asking.go_on(),
            By::Process(_) => None,
        } {
            let event = asking.answer(outcome);
            return self.event(event);
        }
        if let Err(error) = self.add(Source::Asked(asking)) {
            self.problem(format!("a probe cannot be watched: {error}"));
        }
        self.spin.begin();
    }

    /// Lends a socket of a pod. Where that cannot be done, the cell goes on being asked.
    pub(super) fn lend(&mut self, number: u32, pod: u32) {
        let Some(pod) = self.pods.get(&pod) else {
            return;
        };
        let (there, home) = (pod.network.as_fd(), self.home.as_fd());
        let made = sys::setns(there, libc::CLONE_NEWNET).and_then(|()| {
            let made = line::make();
            sys::setns(home, libc::CLONE_NEWNET)?;
            made
        });
        if let Ok(line) = made {
            let _ = self.lines.send(&number, &[line.as_fd()]);
        }
    }

    /// Asks by a process in the container.
    fn ask_inside(&mut self, ask: Ask) {
        let runs = self.pods.contains_key(&ask.container.pod.0)
            && self
                .containers
                .get(&ask.container)
                .is_some_and(Container::runs);
        if !runs {
            return self.event(answer(&ask, ProbeOutcome::Refused));
        }
        let due = ask.due();
        self.expect(Expected::Visitor(ask, due));
    }

    fn begin_to_ask(&mut self, ask: &Ask) -> Result<By, (Ask, ProbeOutcome)> {
        let refused = |outcome| (ask.clone(), outcome);
        let Some(pod) = self.pods.get(&ask.container.pod.0) else {
            return Err(refused(ProbeOutcome::Refused));
        };
        match &ask.way {
            Way::Unsupported(why) => {
                let text = format!("{:?}: {why}", ask.purpose);
                self.problem(text);
                Err(refused(ProbeOutcome::Unknown))
            }
            Way::Exec(_) | Way::Http { .. } | Way::Tcp { .. } | Way::Grpc { .. } => {
                let probe = matches!(ask.purpose, Purpose::Probe(..)) && !pod.spec.host_network;
                let network = self.network.as_ref().filter(|_| probe);
                let beyond = network.and_then(|n| n.probed_from(&pod.spec.node, pod.spec.ip));
                let from = beyond.unwrap_or(pod.network.as_fd());
                connection(ask, from, self.home.as_fd()).map_err(refused)
            }
        }
    }

    pub(super) fn asked_due(&self) -> Option<u64> {
        let asked = self.sources.values().filter_map(|source| match source {
            Source::Asked(asking) => Some(asking.due),
            _ => None,
        });
        asked.min()
    }

    /// Questions whose time is over.
    pub(super) fn expire(&mut self, now: u64) {
        let late = self
            .sources
            .iter()
            .filter_map(|(token, source)| match source {
                Source::Asked(asking) if asking.due <= now => Some(*token),
                _ => None,
            });
        for token in late.collect::<Vec<u64>>() {
            self.answered(token, ProbeOutcome::TimedOut);
        }
    }

    pub(super) fn answered(&mut self, token: u64, outcome: ProbeOutcome) {
        let Some(Source::Asked(asking)) = self.sources.remove(&token) else {
            return;
        };
        if let (By::Process(pidfd), ProbeOutcome::TimedOut) = (&asking.by, outcome) {
            // Its end is waited for: a killed process is gone in a moment.
            if sys::signal(pidfd.as_fd(), libc::SIGKILL).is_ok() {
                let _ = sys::reap(pidfd.as_fd(), true);
            }
        }
        let event = asking.answer(outcome);
        self.event(event);
        sys::epoll_drop(self.epoll.as_fd(), asking.watch().0);
    }
}
