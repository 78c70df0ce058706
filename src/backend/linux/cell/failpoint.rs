//! Failures on demand, for tests: at the n-th step of making or removing things, the kernel
//! refuses, or the cell stands still until it is told to go on (or is killed there).
//!
//! Steps are passed in every run; without an order each costs a comparison.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use super::super::protocol::{Channel, Command, Report, Stamped};
use super::super::sys;

/// What happens at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// The step ends with this error number.
    Error(i32),
    /// The cell says where it is and stands still until [`Command::GoOn`].
    Halt,
}

/// The steps that were passed, and the one that fails.
#[derive(Debug, Default)]
pub struct Failpoints {
    order: Option<(u32, Failure)>,
    passed: u32,
    /// What was asked while the cell stood still.
    held: VecDeque<Command>,
}

impl Failpoints {
    /// From here on the n-th step fails, once; none fails without an order.
    pub fn order(&mut self, order: Option<(u32, Failure)>) {
        self.order = order;
        self.passed = 0;
    }

    /// What was asked while the cell stood still, in order.
    pub fn held(&mut self) -> Option<Command> {
        self.held.pop_front()
    }

    /// Passes a step.
    ///
    /// # Errors
    /// The one that was ordered.
    pub fn pass(&mut self, step: &str, channel: &mut Channel) -> io::Result<()> {
        let Some((at, failure)) = self.order else {
            return Ok(());
        };
        self.passed += 1;
        if self.passed != at {
            return Ok(());
        }
        self.order = None;
        match failure {
            Failure::Error(number) => Err(io::Error::from_raw_os_error(number)),
            Failure::Halt => self.halt(step, channel),
        }
    }

    /// Stands still. When the main process is gone, so is the reason to go on.
    fn halt(&mut self, step: &str, channel: &mut Channel) -> io::Result<()> {
        let (at, report) = (sys::monotonic(), Report::Halted(step.to_owned()));
        channel.send(&Stamped { at, report })?;
        loop {
            while let Some(command) = channel.message()? {
                match command {
                    Command::GoOn => return Ok(()),
                    other => self.held.push_back(other),
                }
            }
            let mut wanted = PollFlags::POLLIN;
            if channel.waiting() {
                wanted |= PollFlags::POLLOUT;
            }
            poll(
                &mut [PollFd::new(channel.as_fd(), wanted)],
                PollTimeout::NONE,
            )?;
            channel.flush()?;
            if !channel.receive()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
