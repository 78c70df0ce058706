//! The cell: one small process in which everything of a run lives.
//!
//! It is this program again, started as the first process of private namespaces. It has one
//! thread and one epoll, holds nodes, pods and containers by descriptors, and does what the main
//! process tells it. When the main process ends, however it ends, so does the cell, and with it the
//! kernel ends every process, network and mount of the run.
//!
//! It decides nothing: what a pod consists of comes as data ([`super::protocol`]).
//!
//! Read first: [`Cell`], [`place`] (nodes and pods), [`container`] (from start to end),
//! [`zygote`] (who forks), [`child`] and [`root`] (what a new process does), [`ask`] (probes).

pub mod ask;
pub mod child;
pub mod container;
pub mod failpoint;
pub mod gravedigger;
pub mod grpc;
pub mod log;
pub mod network;
pub mod place;
pub mod rights;
pub mod root;
mod stats;
mod stop;
pub mod strain;
pub mod zygote;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::libc;

use self::ask::{Asking, Spin};
use self::container::Container;
use self::failpoint::Failpoints;
use self::gravedigger::Gravedigger;
use self::place::{Dead, Node, Pod};
use self::zygote::{Ground, Zygote};
use super::cgroup::Group;
use super::net::child::Channel as Lines;
use super::net::network::Network;
use super::protocol::{Begin, Channel, Command, Report, Stamped};
use super::sys;
use crate::kubelet::RuntimeEvent;
use crate::kubelet::runtime::ContainerId;
use crate::store::Id;

/// The argument that makes this program a cell.
pub const ARGUMENT: &str = "--rehearsal-cell";
/// The descriptor of the cell's end of the conversation.
pub const SOCKET: i32 = 3;
/// The descriptor over which it lends sockets.
pub const LINES: i32 = 4;

/// What a descriptor in epoll belongs to.
enum Source {
    /// The conversation.
    Main,
    /// Who is born.
    Zygote,
    /// The end of a container's first process.
    Exit(ContainerId),
    /// A container's start.
    Status(ContainerId),
    /// A container's output.
    Log(log::Stream),
    /// A question.
    Asked(Asking),
    /// A child of the network, with a descriptor of our own for it.
    Net(OwnedFd),
    /// What a container's server tells of its calls.
    Calls(ContainerId),
    /// The end of a process of a load.
    Strained(u32, OwnedFd),
}

/// The cell.
struct Cell {
    channel: Channel,
    /// Over which sockets are lent to the main process.
    lines: Lines,
    epoll: OwnedFd,
    begin: Begin,
    /// The cell's own network namespace.
    home: OwnedFd,
    /// Who forks containers' processes.
    zygote: Zygote,
    /// The network; none leaves nodes and pods alone with themselves.
    network: Option<Network>,
    nodes: BTreeMap<String, Node>,
    pods: BTreeMap<u32, Pod>,
    containers: BTreeMap<ContainerId, Container>,
    /// Loads that faults put on containers and nodes.
    strains: BTreeMap<u32, strain::Strain>,
    sources: BTreeMap<u64, Source>,
    next: u64,
    /// Groups to be removed once they are empty.
    graves: Vec<Group>,
    /// Network namespaces of pods that are gone.
    dead: Dead,
    /// When nodes' memory is looked at next.
    looks_due: Option<u64>,
    /// Who waits while mount namespaces of containers that are gone are taken down.
    gravedigger: Gravedigger,
    ended: bool,
    failpoints: Failpoints,
    /// Looking out for answers.
    spin: Spin,
}

/// How often groups that should be empty are looked at.
const GRAVES: Duration = Duration::from_millis(20);

/// Runs this process as a cell, if it was started as one: never returns then.
pub fn be_one_if_asked() {
    let mut arguments = std::env::args();
    if arguments.nth(1).as_deref() != Some(ARGUMENT) {
        return;
    }
    // SAFETY: the process that started this one put its ends of socket pairs at these numbers.
    let (socket, lines) = unsafe { (OwnedFd::from_raw_fd(SOCKET), OwnedFd::from_raw_fd(LINES)) };
    let lines = Lines::from_fd(lines);
    let code = match Cell::start(Channel::new(socket), lines) {
        Ok(mut cell) => {
            let code = match cell.run() {
                Ok(()) => 0,
                Err(error) => cell.last_words(&error),
            };
            // The kernel takes down what the cell holds at once; here it would be one by one.
            std::mem::forget(cell);
            code
        }
        Err(_) => 1,
    };
    sys::exit_now(code)
}

impl Cell {
    fn start(mut channel: Channel, lines: Lines) -> io::Result<Cell> {
        sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0)?;
        sys::prctl(libc::PR_SET_TIMERSLACK, 1, 0)?;
        super::precedence::precede();
        let begin = loop {
            wait_readable(&channel)?;
            if !channel.receive()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(Command::Begin(begin)) = channel.message()? {
                break begin;
            }
        };
        let (home, stage) = match place::ground(&begin.scratch) {
            Ok(made) => made,
            Err(failed) => {
                let (at, text) = (sys::monotonic(), format!("the cell cannot begin: {failed}"));
                let report = Report::Problem(text);
                channel.send(&Stamped { at, report })?;
                return Err(failed.error);
            }
        };
        let ground = Ground {
            scratch: begin.scratch.clone(),
            rootless: begin.rootless,
            huge_pages: begin.huge_pages,
        };
        let zygote = Zygote::start(&ground, stage.as_fd())?;
        let epoll = sys::epoll_create()?;
        let mut cell = Cell {
            channel,
            lines,
            epoll,
            begin,
            home,
            zygote,
            network: None,
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            containers: BTreeMap::new(),
            strains: BTreeMap::new(),
            sources: BTreeMap::new(),
            next: 0,
            graves: Vec::new(),
            dead: Dead::default(),
            looks_due: None,
            gravedigger: Gravedigger::start()?,
            spin: Spin::default(),
            ended: false,
            failpoints: Failpoints::default(),
        };
        cell.add(Source::Main)?;
        cell.add(Source::Zygote)?;
        cell.tell(Report::Ready);
        Ok(cell)
    }

    /// The cell cannot go on.
    fn last_words(&mut self, error: &io::Error) -> u8 {
        self.problem(format!("the cell ends: {error}"));
        // Nobody may listen any more.
        let _ = self.channel.flush();
        1
    }

    fn run(&mut self) -> io::Result<()> {
        while !self.ended {
            while let Some(command) = self.next_command()? {
                self.obey(command);
            }
            if self.ended {
                break;
            }
            self.bury();
            let timeout = self.patience();
            let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
            let ready = sys::epoll_wait(self.epoll.as_fd(), &mut events, timeout)?;
            for event in &events[..ready] {
                if !self.happened(event.u64)? {
                    return Ok(());
                }
            }
            let now = sys::monotonic();
            self.dead.give_up(now);
            self.spin.turned(ready, now);
            self.expire(now);
            self.look_at_memory(now);
        }
        Ok(())
    }

    /// How long to wait for something to happen.
    fn patience(&self) -> Option<Duration> {
        if self.spin.goes_on() {
            return Some(Duration::ZERO);
        }
        let due = self.asked_due().into_iter().chain(self.dead.due());
        let due = due.chain(self.looks_due).min();
        let due = due.map(|due| Duration::from_nanos(due.saturating_sub(sys::monotonic())));
        let graves = (!self.graves.is_empty()).then_some(GRAVES);
        due.into_iter().chain(graves).min()
    }

    fn next_command(&mut self) -> io::Result<Option<Command>> {
        match self.failpoints.held() {
            Some(command) => Ok(Some(command)),
            None => self.channel.message(),
        }
    }

    /// Watches a source; its token.
    fn add(&mut self, source: Source) -> io::Result<u64> {
        let token = self.next;
        self.next += 1;
        let read = libc::EPOLLIN as u32;
        let (fd, interest) = match &source {
            Source::Main => (self.channel.as_fd(), read),
            Source::Zygote => (self.zygote.fd(), read),
            Source::Exit(id) => {
                let pidfd = self.container(*id)?.pidfd.as_ref();
                (pidfd.ok_or(io::ErrorKind::NotFound)?.as_fd(), read)
            }
            Source::Status(id) => {
                let status = self.container(*id)?.status.as_ref();
                let status = status.ok_or(io::ErrorKind::NotFound)?;
                (status.as_fd(), read)
            }
            Source::Log(stream) => (stream.as_fd(), read),
            Source::Calls(id) => {
                let calls = self.container(*id)?.calls.as_ref();
                (calls.ok_or(io::ErrorKind::NotFound)?.as_fd(), read)
            }
            Source::Asked(asking) => asking.watch(),
            Source::Net(fd) | Source::Strained(_, fd) => (fd.as_fd(), read),
        };
        sys::epoll_set(self.epoll.as_fd(), fd, interest, token)?;
        self.sources.insert(token, source);
        Ok(token)
    }

    fn container(&self, id: ContainerId) -> io::Result<&Container> {
        self.containers
            .get(&id)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Tells the main process, now.
    fn tell(&mut self, report: Report) {
        let at = sys::monotonic();
        self.tell_stamped(Stamped { at, report });
    }

    fn tell_stamped(&mut self, report: Stamped) {
        let waited = self.channel.waiting();
        // When the main process is gone the conversation ends, and the cell with it.
        let _ = self.channel.send(&report);
        if self.channel.waiting() && !waited {
            let both = libc::EPOLLIN | libc::EPOLLOUT;
            let _ = sys::epoll_set(self.epoll.as_fd(), self.channel.as_fd(), both as u32, 0);
        }
    }

    fn event(&mut self, event: RuntimeEvent) {
        self.tell(Report::Event(event));
    }

    fn problem(&mut self, text: String) {
        self.tell(Report::Problem(text));
    }

    /// Something happened on a descriptor; false when the main process is gone.
    fn happened(&mut self, token: u64) -> io::Result<bool> {
        let Some(source) = self.sources.get_mut(&token) else {
            return Ok(true);
        };
        match source {
            Source::Main => {
                if !self.channel.receive()? {
                    return Ok(false);
                }
                let waited = self.channel.waiting();
                self.channel.flush()?;
                if waited && !self.channel.waiting() {
                    let read = libc::EPOLLIN as u32;
                    sys::epoll_set(self.epoll.as_fd(), self.channel.as_fd(), read, token)?;
                }
            }
            Source::Log(stream) => {
                if !stream.copy() {
                    sys::epoll_drop(self.epoll.as_fd(), stream.as_fd());
                    self.sources.remove(&token);
                }
            }
            Source::Asked(asking) => {
                let before = asking.watch().1;
                let outcome = asking.go_on();
                let (fd, interest) = asking.watch();
                match outcome {
                    Some(outcome) => self.answered(token, outcome),
                    None if interest == before => {}
                    None => sys::epoll_set(self.epoll.as_fd(), fd, interest, token)?,
                }
            }
            Source::Zygote => self.hear_zygote()?,
            Source::Net(_) => self.hear_network()?,
            Source::Calls(id) => {
                let id = *id;
                if !self.hear_calls(id) {
                    self.deaf_to_calls(token, id);
                }
            }
            Source::Strained(..) => self.strained(token)?,
            Source::Status(id) => {
                let id = *id;
                self.sources.remove(&token);
                self.begun(id);
            }
            Source::Exit(id) => {
                let id = *id;
                if self.exited(id) {
                    self.sources.remove(&token);
                }
            }
        }
        Ok(true)
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Begin(_) | Command::GoOn => {}
            Command::Failpoint(order) => self.failpoints.order(order),
            Command::Network(seed, latencies) => self.make_network(seed, &latencies),
            Command::Net(command) => self.net(*command),
            Command::Node(spec) => self.make_node(spec),
            Command::PowerOff(node) => self.power_off(&node),
            Command::Freeze(node, frozen) => self.freeze(&node, frozen),
            Command::Sandbox(spec) => {
                let (pod, attempt) = (Id::new(spec.pod), spec.attempt);
                let name = spec.hostname.clone();
                let made = self.make_pod(*spec);
                let ok = made.is_ok();
                if let Err(error) = made {
                    let why = sys::with_advice(&error);
                    self.problem(format!("pod {name}: sandbox: {why}"));
                }
                self.event(RuntimeEvent::SandboxReady { pod, attempt, ok });
            }
            Command::Start(spec) => self.start_container(*spec),
            Command::Files(pod, files) => {
                let done = self.pods.get(&pod).map_or(Ok(()), |pod| pod.write(&files));
                if let Err(error) = done {
                    self.problem(format!("pod {pod}: files: {error}"));
                }
            }
            Command::Signal(id, kill) => self.signal(id, kill),
            Command::Ask(ask) => self.ask(ask),
            Command::Lend(number, pod) => self.lend(number, pod),
            Command::Remove(pod) => self.remove_pod(pod),
            Command::Strain(number, spec) => self.strain(number, spec),
            Command::Stats(node, number) => self.stats(&node, number),
            Command::Usage => self.usage(),
            Command::Watch(node, number, floor) => self.watch_memory(&node, number, floor),
            Command::End => {
                if let Some(network) = &mut self.network {
                    network.end();
                }
                self.ended = true;
            }
        }
    }

    fn make_node(&mut self, spec: super::protocol::NodeSpec) {
        let name = spec.name.clone();
        if self.nodes.contains_key(&name) {
            return;
        }
        if !is_name(&name) {
            return self.problem(format!("node {name:?}: not a name"));
        }
        let network = self.network.as_ref().and_then(|n| n.node(&name).ok());
        match Node::create(&self.begin.groups, spec, self.home.as_fd(), network) {
            Ok(node) => {
                let lost: Vec<String> = node.lost().cloned().collect();
                self.nodes.insert(name.clone(), node);
                for text in lost {
                    self.problem(format!("node {name}: {text}"));
                }
            }
            Err(error) => self.problem(format!("node {name}: {}", sys::with_advice(&error))),
        }
    }

    fn make_pod(&mut self, spec: super::protocol::PodSpec) -> io::Result<()> {
        let names = spec.empty_dirs.iter().map(|(name, _, _)| name);
        if !is_name(&spec.uid) || !names.into_iter().all(|name| is_name(name)) {
            return Err(io::Error::other("not a name"));
        }
        let number = spec.pod;
        if self.pods.contains_key(&number) {
            return Ok(());
        }
        let node = self
            .nodes
            .get(&spec.node)
            .ok_or_else(|| io::Error::other("no such node"))?;
        let (failpoints, channel) = (&mut self.failpoints, &mut self.channel);
        let mut step = |name: &str| failpoints.pass(name, channel);
        step("pod network")?;
        let networked = self.network.is_some() && !spec.host_network;
        let network = match &mut self.network {
            Some(network) if networked => {
                let made = network.add_pod(&spec.node, spec.ip, spec.pod);
                Some(made.map_err(io::Error::other)?)
            }
            _ => None,
        };
        let place = (spec.node.clone(), spec.ip);
        let (scratch, home) = (&self.begin.scratch, self.home.as_fd());
        let pod = match Pod::create(node, spec, scratch, home, network, &mut step) {
            Ok(pod) => pod,
            Err(error) => {
                if let Some(network) = self.network.as_mut().filter(|_| networked)
                    && let Err(more) = network.remove_pod(&place.0, place.1)
                {
                    self.problem(more.to_string());
                }
                return Err(error);
            }
        };
        let lost: Vec<String> = pod.group.lost.clone();
        self.pods.insert(number, pod);
        for text in lost {
            self.problem(format!("pod {number}: {text}"));
        }
        Ok(())
    }

    /// Kills what runs on a node and forgets it; nobody is told.
    fn power_off(&mut self, name: &str) {
        let Some(node) = self.nodes.get(name) else {
            return;
        };
        node.group.kill();
        let on_it: Vec<u32> = (self.pods.iter())
            .filter(|(_, pod)| pod.spec.node == name)
            .map(|(number, _)| *number)
            .collect();
        for number in on_it {
            self.kill_pod(number);
            // Removed without a word once its last process is gone.
            if let Some(pod) = self.pods.get_mut(&number) {
                pod.removing = true;
                pod.silent = true;
            }
            self.removed_if_empty(number);
        }
    }

    fn freeze(&mut self, name: &str, frozen: bool) {
        let Some(node) = self.nodes.get(name) else {
            return;
        };
        let done = match node.group.v2() {
            Some(_) => node.group.freeze(frozen),
            None => self
                .await_births()
                .and_then(|()| self.stop_each(name, frozen)),
        };
        if let Err(error) = done {
            self.problem(format!("node {name}: freeze: {error}"));
        }
    }

    /// Passes a step of making or removing something.
    fn step(&mut self, name: &str) -> io::Result<()> {
        self.failpoints.pass(name, &mut self.channel)
    }

    /// Removes groups whose processes are gone.
    fn bury(&mut self) {
        self.graves.retain(|group| !group.remove());
        self.gravedigger.go_on();
    }
}

/// Whether a text may become the name of a folder.
pub fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        && text.len() <= 253
}

fn wait_readable(channel: &Channel) -> io::Result<()> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::NONE)?;
    Ok(())
}
