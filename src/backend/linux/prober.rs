//! Probes that the main process asks by itself, over sockets that the cell has lent it.
//!
//! A socket stays in the network namespace in which it was made, whoever holds it. So who waits for
//! the answer can ask without a detour: through the cell a probe is two wakes of a process longer
//! than the server needs. The cell lends a socket with the first probe of a pod, which it asks
//! itself, as it does whatever is no matter of a socket; the socket is used for the pod's next probes
//! one after the other, and given up with the pod. This works without rights in the pod's
//! namespaces, which a main process that is not root has not.
//!
//! A question goes out with the first packet (TCP Fast Open without a cookie; a server that has none
//! of it gets the question again with the end of the handshake, as ever). Connections end as those of
//! a kubelet do: it says that it sends no more, and a socket is used again when its connection has
//! ended in both directions.
//!
//! Read first: [`Prober::ask`], [`Prober::linger`], [`Prober::look`].

use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::libc;
use smallvec::{SmallVec, smallvec};

use super::cell::ask::{Asking, By, Spin, answer, question};
use super::cell::grpc::Answer;
use super::net::child::Channel;
use super::net::{line, sys as net};
use super::protocol::{Ask, Command, Way};
use super::sys;
use crate::kubelet::RuntimeEvent;
use crate::kubelet::runtime::ProbeOutcome;

/// So many sockets of a pod are kept: one for each kind of probe at once.
const OF_A_POD: usize = 3;
/// One of so many descriptors that this process may have is a socket that was lent.
const SHARE: u64 = 4;
/// Nobody stays awake for more answers than these.
const FEW: usize = 4;

/// A question that was asked and not answered.
#[derive(Debug)]
struct Open {
    asking: Asking,
    /// Its descriptor is in epoll.
    watched: bool,
    /// The pod is there, and the socket is kept for it.
    kept: bool,
}

/// Who asks.
#[derive(Debug)]
pub struct Prober {
    lines: Channel,
    /// Sockets that wait for a question, by pod.
    idle: BTreeMap<u32, Vec<TcpStream>>,
    /// For which pods sockets were asked for, by the number that they come with.
    wanted: BTreeMap<u32, u32>,
    numbers: u32,
    /// So many sockets may be held in all.
    most: usize,
    open: BTreeMap<u64, Open>,
    tokens: u64,
    /// Those that nobody has waited for yet.
    fresh: Vec<u64>,
    epoll: OwnedFd,
    spin: Spin,
    /// Sockets whose servers have answered and are to hear that this was all, with their pods.
    done: Vec<(u32, TcpStream)>,
    answers: Vec<(u64, RuntimeEvent)>,
}

impl Prober {
    /// With the channel of a cell.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(lines: Channel) -> io::Result<Prober> {
        let descriptors = line::descriptors();
        Ok(Prober {
            lines,
            idle: BTreeMap::new(),
            wanted: BTreeMap::new(),
            numbers: 0,
            most: usize::try_from(descriptors / SHARE).unwrap_or(usize::MAX),
            open: BTreeMap::new(),
            tokens: 0,
            fresh: Vec::new(),
            epoll: sys::epoll_create()?,
            spin: Spin::default(),
            done: Vec::new(),
            answers: Vec::new(),
        })
    }

    /// Asks. What is returned is for the cell: nothing, where it is not needed.
    pub fn ask(&mut self, ask: Ask) -> SmallVec<[Command; 2]> {
        let Some((to, outgoing)) = question(&ask.way) else {
            return smallvec![Command::Ask(ask)];
        };
        self.take_in();
        self.part();
        match self.free(ask.container.pod.0) {
            Some(stream) => {
                self.begin(ask, stream, to, outgoing);
                SmallVec::new()
            }
            None => self.through_the_cell(ask),
        }
    }

    /// The cell asks, and lends a socket for the next time.
    fn through_the_cell(&mut self, ask: Ask) -> SmallVec<[Command; 2]> {
        let pod = ask.container.pod.0;
        let mut commands = smallvec![Command::Ask(ask)];
        let idle: usize = self.idle.values().map(Vec::len).sum();
        let held = idle + self.open.len() + self.wanted.len();
        if held < self.most && self.wanted.values().all(|wanted| *wanted != pod) {
            self.numbers = self.numbers.wrapping_add(1);
            self.wanted.insert(self.numbers, pod);
            commands.push(Command::Lend(self.numbers, pod));
        }
        commands
    }

    /// Takes in what was lent.
    fn take_in(&mut self) {
        while !self.wanted.is_empty() {
            // A cell that is gone lends nothing more, which is noticed elsewhere.
            let Ok(Some((number, mut fds))) = self.lines.receive::<u32>() else {
                return;
            };
            // One for a pod that has gone meanwhile is closed again.
            if let (Some(pod), Some(fd)) = (self.wanted.remove(&number), fds.pop()) {
                self.keep(pod, TcpStream::from(fd));
            }
        }
    }

    fn keep(&mut self, pod: u32, stream: TcpStream) {
        let lines = self.idle.entry(pod).or_default();
        if lines.len() < OF_A_POD {
            lines.push(stream);
        }
    }

    /// A socket of a pod whose last connection has ended.
    fn free(&mut self, pod: u32) -> Option<TcpStream> {
        let lines = self.idle.get_mut(&pod)?;
        if let Some(at) = lines.iter().position(line::is_closed) {
            let stream = lines.remove(at);
            return line::disconnect(&stream).is_ok().then_some(stream);
        }
        // A server that does not end connections gets no more of them than these.
        if lines.len() >= OF_A_POD {
            lines.remove(0);
        }
        None
    }

    fn begin(&mut self, ask: Ask, stream: TcpStream, to: (u32, u16), mut bytes: Option<Vec<u8>>) {
        if let Err(error) = dial(&stream, to, bytes.as_mut()) {
            let outcome = match error.kind() {
                io::ErrorKind::ConnectionRefused => ProbeOutcome::Refused,
                _ => ProbeOutcome::Unknown,
            };
            self.answers.push((sys::monotonic(), answer(&ask, outcome)));
            return;
        }
        let asked = bytes.as_ref().is_some_and(Vec::is_empty);
        let due = ask.due();
        let mut asking = Asking {
            due,
            by: By::Socket {
                stream,
                outgoing: bytes,
                incoming: Vec::new(),
                grpc: matches!(ask.way, Way::Grpc { .. }).then(Answer::default),
            },
            ask,
        };
        // A handshake on one host is over by now.
        let outcome = if asked { None } else { asking.go_on() };
        let token = self.tokens;
        self.tokens += 1;
        let open = Open {
            asking,
            watched: false,
            kept: true,
        };
        self.open.insert(token, open);
        match outcome {
            Some(outcome) => self.answered(token, outcome),
            None => {
                self.fresh.push(token);
                self.spin.begin();
            }
        }
    }

    fn answered(&mut self, token: u64, outcome: ProbeOutcome) {
        let Some(open) = self.open.remove(&token) else {
            return;
        };
        let event = open.asking.answer(outcome);
        self.answers.push((sys::monotonic(), event));
        let By::Socket { stream, .. } = open.asking.by else {
            return;
        };
        let spoke = matches!(outcome, ProbeOutcome::Success | ProbeOutcome::Failure);
        if !(spoke && open.kept) {
            return;
        }
        if open.watched {
            sys::epoll_drop(self.epoll.as_fd(), stream.as_fd());
        }
        self.done.push((open.asking.ask.container.pod.0, stream));
    }

    /// Ends connections that are not needed any more; whoever waits for an answer has it by now.
    fn part(&mut self) {
        for (pod, stream) in std::mem::take(&mut self.done) {
            // One that the server has ended already is not there to be told.
            let _ = stream.shutdown(Shutdown::Write);
            self.keep(pod, stream);
        }
    }

    /// Goes on with a question.
    fn go_on(&mut self, token: u64) {
        let Some(open) = self.open.get_mut(&token) else {
            return;
        };
        let before = open.asking.watch().1;
        let outcome = open.asking.go_on();
        let (fd, interest) = open.asking.watch();
        match outcome {
            Some(outcome) => self.answered(token, outcome),
            None if !open.watched || interest == before => {}
            None => {
                if sys::epoll_set(self.epoll.as_fd(), fd, interest, token).is_err() {
                    self.answered(token, ProbeOutcome::Unknown);
                }
            }
        }
    }

    /// Stays awake for a moment if somebody was just asked: most answer within microseconds, and to
    /// be woken takes as long again. From then on the answer is waited for by [`Prober::fd`].
    pub fn linger(&mut self) {
        self.part();
        let mut fresh = std::mem::take(&mut self.fresh);
        while !fresh.is_empty() && fresh.len() <= FEW && self.spin.goes_on() {
            for token in &fresh {
                self.go_on(*token);
            }
            let before = fresh.len();
            fresh.retain(|token| self.open.contains_key(token));
            let ready = before - fresh.len();
            self.spin.turned(ready, sys::monotonic());
        }
        for token in fresh {
            let Some(open) = self.open.get_mut(&token) else {
                continue;
            };
            let (fd, interest) = open.asking.watch();
            open.watched = sys::epoll_set(self.epoll.as_fd(), fd, interest, token).is_ok();
            if !open.watched {
                self.answered(token, ProbeOutcome::Unknown);
            }
        }
    }

    /// What was answered, and when, on the monotonic clock.
    pub fn look(&mut self) -> Vec<(u64, RuntimeEvent)> {
        if !self.open.is_empty() {
            let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
            let now = Some(Duration::ZERO);
            while let Ok(ready @ 1..) = sys::epoll_wait(self.epoll.as_fd(), &mut events, now) {
                events[..ready].iter().for_each(|e| self.go_on(e.u64));
            }
            let now = sys::monotonic();
            let late = self.open.iter().filter(|(_, open)| open.asking.due <= now);
            for token in late.map(|(token, _)| *token).collect::<Vec<u64>>() {
                // Whoever asked was kept from looking may have been answered in time.
                self.go_on(token);
                self.answered(token, ProbeOutcome::TimedOut);
            }
        }
        std::mem::take(&mut self.answers)
    }

    /// When a question's time is over, on the monotonic clock.
    pub fn due(&self) -> Option<u64> {
        self.open.values().map(|open| open.asking.due).min()
    }

    /// Whether something was answered that [`Prober::look`] has not told.
    pub fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Readable when there is something to look at.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// A pod's network is gone or will be, or is another one.
    pub fn forget(&mut self, pod: u32) {
        self.idle.remove(&pod);
        self.done.retain(|(of, _)| *of != pod);
        self.wanted.retain(|_, of| *of != pod);
        let open = self.open.values_mut();
        let asked = open.filter(|open| open.asking.ask.container.pod.0 == pod);
        asked.for_each(|open| open.kept = false);
    }
}

/// Begins to connect, and sends what there is to send as soon as may be.
fn dial(stream: &TcpStream, (ip, port): (u32, u16), bytes: Option<&mut Vec<u8>>) -> io::Result<()> {
    let Some(bytes) = bytes else {
        return net::connect(stream, ip, port).map(drop);
    };
    match line::connect_with(stream, ip, port, bytes) {
        Ok(count) => drop(bytes.drain(..count)),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        // Somebody has switched it off.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            net::connect(stream, ip, port)?;
        }
        Err(error) => return Err(error),
    }
    Ok(())
}
