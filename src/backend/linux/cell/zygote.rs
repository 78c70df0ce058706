//! The zygote: a small copy of the cell, made before the cell has anything, from which containers'
//! first processes and their visitors are forked.
//!
//! What a fork costs grows with what the forking process has. The cell has memory and descriptors
//! for every pod; the zygote has next to none, so a fork costs the same in the first pod and in the
//! thousandth, and the cell goes on with the next pod meanwhile. Its children are the cell's own:
//! it gets their pidfds and reaps them.
//!
//! The cell sends orders with the descriptors that the new process needs, and is told what came of
//! each. Only so many orders are open at a time that neither side ever waits for the other with a
//! full line.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use super::super::net::child::{Channel, Child};
use super::super::precedence;
use super::super::protocol::{Ask, ContainerSpec, Purpose, Way};
use super::super::sys::{self, Forked};
use super::ask::{Asking, By};
use super::child::{self, Birth, Visit};
use super::root::{Host, Place};
use super::{Cell, Source};
use crate::kubelet::runtime::{ContainerId, ProbeOutcome};

/// Orders that are open at a time.
const OPEN: usize = 32;
/// Orders longer than this many bytes are put into a file in memory.
const LONG: usize = 64 << 10;

const NAMESPACES: libc::c_int = libc::CLONE_NEWPID | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;

/// What it knows from the beginning; the stage comes along.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ground {
    /// Memory of the cell.
    pub scratch: String,
    /// The cell is in a user namespace.
    pub rootless: bool,
    /// Programs of containers may have huge pages.
    pub huge_pages: bool,
}

/// Which process is to be born.
#[derive(Debug, Serialize, Deserialize)]
enum Wanted {
    /// A container's first one.
    First {
        hostname: String,
        /// The pod's folder.
        pod: String,
        /// Ports below 1024 are to need no right.
        low_ports: bool,
    },
    /// A visitor: its command, and what for.
    Visitor(Vec<String>, Purpose),
}

/// An order. Descriptors come with it in the order of the fields of [`Brought`].
#[derive(Debug, Serialize, Deserialize)]
struct Order<'a> {
    number: u64,
    spec: Cow<'a, ContainerSpec>,
    /// v1 groups to join.
    groups: Vec<PathBuf>,
    wanted: Wanted,
    brought: Brought,
}

/// Which descriptors come along.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Brought {
    /// The v2 group.
    group: bool,
    /// Standard output and error.
    output: bool,
    /// A way to tell of calls.
    reports: bool,
    /// The node's news.
    choices: bool,
}

/// What is sent: an order, or where it is.
#[derive(Debug, Serialize, Deserialize)]
enum Line<'a> {
    Order(Box<Order<'a>>),
    /// In the file that comes as the last descriptor.
    File,
}

/// What came of an order; the pidfd comes with it.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    number: u64,
    /// The process, or the number of the error.
    born: Result<i32, i32>,
}

/// Whom the cell expects.
pub enum Expected {
    /// A container's first process.
    First(ContainerId),
    /// Somebody who asks, until this instant.
    Visitor(Ask, u64),
}

/// The cell's side.
pub struct Zygote {
    process: Child,
    next: u64,
    waiting: VecDeque<Expected>,
    open: BTreeMap<u64, Expected>,
}

/// The far ends of what a container's first process is given.
pub struct Endowment {
    /// A byte makes it go on.
    pub go: OwnedFd,
    /// Says what failed.
    pub status: OwnedFd,
    /// Standard output and error.
    pub output: Option<[OwnedFd; 2]>,
    /// What a server that makes calls listens to, and its way to tell.
    pub ears: Option<(Option<OwnedFd>, OwnedFd)>,
}

impl Zygote {
    /// Forks it; the caller has no more yet than it needs.
    ///
    /// # Errors
    /// The kernel's.
    pub fn start(ground: &Ground, stage: BorrowedFd<'_>) -> io::Result<Zygote> {
        let process = Child::start(|channel| live(&channel))?;
        process.channel.send(ground, &[stage])?;
        Ok(Zygote {
            process,
            next: 0,
            waiting: VecDeque::new(),
            open: BTreeMap::new(),
        })
    }

    /// Readable when somebody is born.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.process.channel.as_fd()
    }
}

fn send(channel: &Channel, order: Order<'_>, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let line = Line::Order(Box::new(order));
    let size = postcard::experimental::serialized_size(&line).map_err(io::Error::other)?;
    let sent = if size <= LONG {
        channel.send(&line, fds)?
    } else {
        let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
        let mut file = std::fs::File::from(nix::sys::memfd::memfd_create(c"order", flags)?);
        file.write_all(&postcard::to_stdvec(&line).map_err(io::Error::other)?)?;
        let all: Vec<BorrowedFd<'_>> = fds.iter().copied().chain([file.as_fd()]).collect();
        channel.send(&Line::File, &all)?
    };
    match sent {
        true => Ok(()),
        false => Err(io::Error::other("the zygote does not answer")),
    }
}

impl Cell {
    /// Lets somebody be born, in turn.
    pub(super) fn expect(&mut self, whom: Expected) {
        self.zygote.waiting.push_back(whom);
        self.order();
    }

    fn order(&mut self) {
        while self.zygote.open.len() < OPEN
            && let Some(whom) = self.zygote.waiting.pop_front()
        {
            let number = self.zygote.next;
            self.zygote.next += 1;
            let sent = match &whom {
                Expected::First(id) => self.order_first(number, *id),
                Expected::Visitor(ask, _) => self.order_visitor(number, ask),
            };
            match sent {
                Ok(()) => drop(self.zygote.open.insert(number, whom)),
                Err(error) => self.not_born(whom, error),
            }
        }
    }

    fn order_first(&mut self, number: u64, id: ContainerId) -> io::Result<()> {
        let none = || io::Error::from(io::ErrorKind::NotFound);
        let pod = self.pods.get_mut(&id.pod.0).ok_or_else(none)?;
        let container = self.containers.get_mut(&id).ok_or_else(none)?;
        let low_ports = pod.opens_low_ports_for(&container.spec.program);
        let unborn = container.unborn.as_mut().ok_or_else(none)?;
        // Dropped at the end: whoever is born has its own.
        let endowment = unborn.endowment.take().ok_or_else(none)?;
        let birthplace = self.birthplace(id);
        let pod = self.pods.get(&id.pod.0).ok_or_else(none)?;
        let container = self.container(id)?;
        let (choices, reports) = match &endowment.ears {
            Some((choices, reports)) => (choices.as_ref(), Some(reports)),
            None => (None, None),
        };
        let brought = Brought {
            group: birthplace.is_some(),
            output: endowment.output.is_some(),
            reports: reports.is_some(),
            choices: choices.is_some(),
        };
        let order = Order {
            number,
            spec: Cow::Borrowed(&container.spec),
            groups: container.group.tasks(),
            wanted: Wanted::First {
                hostname: pod.spec.hostname.clone(),
                pod: pod.folder.clone(),
                low_ports,
            },
            brought,
        };
        let mut fds: Vec<BorrowedFd<'_>> = birthplace.into_iter().collect();
        fds.extend([
            pod.network.as_fd(),
            endowment.go.as_fd(),
            endowment.status.as_fd(),
        ]);
        fds.extend(endowment.output.iter().flatten().map(AsFd::as_fd));
        fds.extend(reports.into_iter().chain(choices).map(AsFd::as_fd));
        send(&self.zygote.process.channel, order, &fds)
    }

    fn order_visitor(&mut self, number: u64, ask: &Ask) -> io::Result<()> {
        let container = self.container(ask.container)?;
        let pidfd = container.pidfd.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let birthplace = self.birthplace(ask.container);
        let Way::Exec(argv) = &ask.way else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let order = Order {
            number,
            spec: Cow::Borrowed(&container.spec),
            groups: container.group.tasks(),
            wanted: Wanted::Visitor(argv.clone(), ask.purpose),
            brought: Brought {
                group: birthplace.is_some(),
                ..Brought::default()
            },
        };
        let mut fds: Vec<BorrowedFd<'_>> = birthplace.into_iter().collect();
        fds.push(pidfd.as_fd());
        send(&self.zygote.process.channel, order, &fds)
    }

    /// Takes in what the zygote tells.
    ///
    /// # Errors
    /// It is gone.
    pub(super) fn hear_zygote(&mut self) -> io::Result<()> {
        while let Some((told, mut fds)) = self.zygote.process.channel.receive::<Told>()? {
            let Some(whom) = self.zygote.open.remove(&told.number) else {
                continue;
            };
            match (told.born, fds.pop()) {
                (Ok(pid), Some(pidfd)) => self.is_born(whom, pidfd, pid),
                (Ok(_), None) => self.not_born(whom, io::Error::other("no pidfd")),
                (Err(number), _) => self.not_born(whom, io::Error::from_raw_os_error(number)),
            }
        }
        self.order();
        Ok(())
    }

    /// Waits until nobody is expected any more, which takes a moment.
    ///
    /// # Errors
    /// The zygote is gone.
    pub(super) fn await_births(&mut self) -> io::Result<()> {
        while !self.zygote.open.is_empty() {
            let mut fds = [PollFd::new(self.zygote.fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::NONE)?;
            self.hear_zygote()?;
        }
        Ok(())
    }

    fn is_born(&mut self, whom: Expected, pidfd: OwnedFd, pid: i32) {
        match whom {
            Expected::First(id) => self.first_is_born(id, pidfd, pid),
            Expected::Visitor(ask, due) => {
                let by = By::Process(pidfd);
                if let Err(error) = self.add(Source::Asked(Asking { ask, due, by })) {
                    self.problem(format!("a probe cannot be watched: {error}"));
                }
            }
        }
    }

    fn not_born(&mut self, whom: Expected, error: io::Error) {
        match whom {
            Expected::First(id) => self.first_is_not_born(id, &error),
            Expected::Visitor(ask, _) => {
                // A container that has ended meanwhile is no problem of anybody's.
                let outcome = match error.raw_os_error() {
                    Some(libc::ESRCH) => ProbeOutcome::Refused,
                    _ => ProbeOutcome::Unknown,
                };
                let name = self.container(ask.container).map(|c| c.spec.name.clone());
                if let (ProbeOutcome::Unknown, Ok(name)) = (outcome, name) {
                    let why = sys::with_advice(&error);
                    self.problem(format!("{name}: {:?}: {why}", ask.purpose));
                }
                self.event(super::ask::answer(&ask, outcome));
            }
        }
    }
}

/// What it holds.
struct Held {
    ground: Ground,
    stage: OwnedFd,
    /// The cell's PID namespace, which is its own.
    home: OwnedFd,
    host: Host,
}

/// Its life: until the cell is gone.
fn live(channel: &Channel) -> io::Result<()> {
    precedence::precede();
    // Once for all that are forked here.
    sys::hear_all_signals();
    let ready = || -> io::Result<()> {
        let mut fds = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE).map_err(io::Error::from)?;
        Ok(())
    };
    let held = loop {
        ready()?;
        if let Some((ground, mut fds)) = channel.receive::<Ground>()? {
            let stage = fds.pop().ok_or(io::ErrorKind::InvalidData)?;
            let home = nix::fcntl::open(
                "/proc/self/ns/pid",
                OFlag::O_RDONLY | OFlag::O_CLOEXEC,
                nix::sys::stat::Mode::empty(),
            )?;
            let host = Host::look_up();
            break Held {
                ground,
                stage,
                home,
                host,
            };
        }
    };
    loop {
        ready()?;
        while let Some((line, mut fds)) = channel.receive::<Line<'_>>()? {
            let order = match line {
                Line::Order(order) => *order,
                Line::File => read(fds.pop())?,
            };
            let number = order.number;
            let (born, pidfd) = match held.fork(order, fds) {
                Ok((pidfd, pid)) => (Ok(pid), Some(pidfd)),
                Err(error) => (Err(error.raw_os_error().unwrap_or(libc::EINVAL)), None),
            };
            let fds: Vec<BorrowedFd<'_>> = pidfd.iter().map(AsFd::as_fd).collect();
            channel.send(&Told { number, born }, &fds)?;
        }
    }
}

/// An order that was too long for the line.
fn read(file: Option<OwnedFd>) -> io::Result<Order<'static>> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::from(file.ok_or(io::ErrorKind::InvalidData)?);
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    match postcard::from_bytes(&bytes).map_err(io::Error::other)? {
        Line::Order(order) => Ok(*order),
        Line::File => Err(io::ErrorKind::InvalidData.into()),
    }
}

impl Held {
    /// Forks whom the order wants.
    fn fork(&self, order: Order<'_>, fds: Vec<OwnedFd>) -> io::Result<(OwnedFd, i32)> {
        let mut fds = fds.into_iter();
        let mut next = || {
            let none = || io::Error::from_raw_os_error(libc::EBADF);
            fds.next().ok_or_else(none)
        };
        let brought = order.brought;
        let group = brought.group.then(&mut next).transpose()?;
        let group = group.as_ref().map(AsFd::as_fd);
        match order.wanted {
            Wanted::First {
                hostname,
                pod,
                low_ports,
            } => {
                let (network, go, status) = (next()?, next()?, next()?);
                let output = match brought.output {
                    true => Some([next()?, next()?]),
                    false => None,
                };
                let reports = brought.reports.then(&mut next).transpose()?;
                let choices = brought.choices.then(&mut next).transpose()?;
                match sys::clone3(NAMESPACES | libc::CLONE_PARENT, group)? {
                    Forked::Child => child::become_container(Birth {
                        spec: &order.spec,
                        groups: &order.groups,
                        place: Place {
                            stage: self.stage.as_fd(),
                            scratch: &self.ground.scratch,
                            pod: &pod,
                            rootless: self.ground.rootless,
                            host: &self.host,
                        },
                        network,
                        low_ports,
                        huge_pages: self.ground.huge_pages,
                        hostname: &hostname,
                        go,
                        status,
                        output,
                        ears: reports.map(|reports| (choices, reports)),
                    }),
                    Forked::Parent(pidfd, pid) => Ok((pidfd, pid)),
                }
            }
            Wanted::Visitor(argv, purpose) => {
                let first = next()?;
                // A process enters a PID namespace with its next child.
                sys::setns(first.as_fd(), libc::CLONE_NEWPID)?;
                let forked = sys::clone3(libc::CLONE_PARENT, group);
                if let Ok(Forked::Child) = forked {
                    child::visit(&Visit {
                        spec: &order.spec,
                        pidfd: first.as_fd(),
                        argv: &argv,
                        purpose,
                        groups: &order.groups,
                        huge_pages: self.ground.huge_pages,
                    })
                }
                sys::setns(self.home.as_fd(), libc::CLONE_NEWPID)?;
                match forked? {
                    Forked::Parent(pidfd, pid) => Ok((pidfd, pid)),
                    Forked::Child => unreachable!("the child became a visitor"),
                }
            }
        }
    }
}
