//! Users: requests sent for real, at the instants at which the simulator would send them.
//!
//! One child process sends all Traffics. Arrivals are the simulator's own sequence, so that a
//! simulated and a real run of one seed send the same requests at the same times; what happens to
//! them then is up to the kernel and the containers. It is open-loop: a request is sent when it is
//! due, however many are waiting. Connections, timeouts, back-off and retries follow the Traffic's
//! client, with the simulator's own pools and budgets.
//!
//! HTTP/1.1 has one request on a connection at a time: clients that multiplex open one more
//! connection where the simulation would share one.
//!
//! Read first: [`Told`] (what is reported), then [`user`] (a request from its arrival to its end).

use std::os::fd::BorrowedFd;

use nix::libc;
use serde::{Deserialize, Serialize};

use super::child::Child;
use super::conntrack::Choices;
use super::fabric::Node;
use super::route::Cidr;
use super::sys::{self, Result, Step};
use crate::load::Traffic;
use crate::load::tally::Cause;

pub mod http;

mod line;

mod user;

/// What is sent, and from where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Its number; comes back with every report.
    pub number: u32,
    /// What the scenario says.
    pub traffic: Traffic,
    /// The run's seed.
    pub seed: u64,
    /// The instant of the run from which `traffic.start` counts, in nanoseconds of the run.
    pub epoch_ns: u64,
    /// The instant of the monotonic clock at which the run's time is zero.
    pub zero_ns: u64,
    /// Addresses of the users; none uses the namespace's own.
    pub users: Option<Cidr>,
    /// The `Host` header.
    pub host: String,
    /// Where it goes at first: one of these; none at all when the name does not exist.
    pub to: Vec<(u32, u16)>,
}

/// What became of requests, in the order of happening. Times are nanoseconds of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// A request was sent (its first attempt).
    Sent {
        /// Number of the Traffic.
        traffic: u32,
        /// When.
        at: u64,
    },
    /// A request is over.
    Ended {
        /// Number of the Traffic.
        traffic: u32,
        /// Number of the request.
        request: u64,
        /// When its first attempt was sent.
        sent: u64,
        /// When it was over.
        at: u64,
        /// How many attempts were made.
        attempts: u32,
        /// What the client saw instead of an answer; none when it was answered well.
        cause: Option<Cause>,
        /// The endpoint of the last attempt, 0 when none is known.
        endpoint: u32,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Command {
    /// A Traffic begins; the namespace to send from, the netfilter socket of the node and one that
    /// is told of its connections come with it.
    Begin(Box<Plan>),
    /// Where it goes from now on, as in [`Plan::to`].
    Target { number: u32, to: Vec<(u32, u16)> },
}

/// The cell's handle on the users.
#[derive(Debug)]
pub struct Users(Child);

impl Users {
    /// Starts the process that sends.
    pub fn new() -> Result<Users> {
        let child = Child::start(|channel| user::send_for_users(&channel));
        Ok(Users(child.step(|| "start the users".to_owned())?))
    }

    fn tell(&self, command: &Command, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let sent = self.0.channel.send(command, fds);
        let name = || "tell the users".to_owned();
        match sent.step(name)? {
            true => Ok(()),
            false => Err(std::io::Error::from(std::io::ErrorKind::TimedOut)).step(name),
        }
    }

    /// Begins a Traffic. `netns` is where its sockets are, `node` the one that chooses its endpoints.
    pub fn begin(&self, plan: Plan, netns: BorrowedFd<'_>, node: &Node) -> Result<()> {
        use std::os::fd::AsFd;
        let choices = sys::within(node.netns(), Choices::here);
        let choices = choices.step(|| "be told of a node's connections".to_owned())?;
        let fds = [netns, node.filter().as_fd(), choices.as_fd()];
        self.tell(&Command::Begin(Box::new(plan)), &fds)
    }

    /// Where a Traffic goes from now on.
    pub fn target(&self, number: u32, to: Vec<(u32, u16)>) -> Result<()> {
        self.tell(&Command::Target { number, to }, &[])
    }

    /// What there is to tell.
    pub fn hear(&self) -> Result<Option<Vec<Told>>> {
        let got = self.0.channel.receive();
        Ok(got
            .step(|| "hear the users".to_owned())?
            .map(|(told, _)| told))
    }

    /// Readable when there is something to hear.
    pub fn fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.0.channel.as_fd()
    }
}

/// What a client makes of a system's error; `rejected` says that the rules on the way turned the
/// connection away, as they do where a Service has no endpoints.
fn cause_of(error: i32, rejected: bool) -> Cause {
    match error {
        libc::ECONNREFUSED if rejected => Cause::NoEndpoints,
        libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH => Cause::Refused,
        libc::ETIMEDOUT => Cause::Timeout,
        _ => Cause::Reset,
    }
}

fn cause_of_status(status: u16) -> Option<Cause> {
    match status {
        200..400 => None,
        502 | 504 => Some(Cause::Downstream),
        503 => Some(Cause::Unavailable),
        _ => Some(Cause::Error),
    }
}

#[cfg(test)]
mod tests;
