//! How the main process waits: for the cell and for answers, by a clock that may run ahead.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::{Linux, sys};
use crate::engine::nanos;

impl Linux {
    /// Lets a span of the run pass, faster than on the wall if nothing real goes on.
    pub(super) fn pass(&mut self, span: Option<Duration>) {
        if self.speed == 1 {
            return self.poll(span);
        }
        let before = sys::monotonic();
        let (rate, limit) = match self.doings.quiet(before) {
            Ok(()) => (self.speed, None),
            Err(until) => (1, until.map(|until| until.saturating_sub(before))),
        };
        self.clock.go(before, rate);
        // Never too short: a wait that ends early looks like an interruption.
        let span = span.map(|span| nanos(span).div_ceil(u64::from(rate)));
        let span = span.into_iter().chain(limit).min();
        self.poll(span.map(Duration::from_nanos));
        let after = sys::monotonic();
        self.clock.go(after, 1);
        self.ahead += Duration::from_nanos(after - before) * (rate - 1);
    }

    /// Waits for the cell, or an answer, for as long as this.
    fn poll(&mut self, span: Option<Duration>) {
        self.prober.linger();
        if self.prober.has_answers() {
            return;
        }
        let mut wanted = PollFlags::POLLIN;
        if self.cell.channel.waiting() {
            wanted |= PollFlags::POLLOUT;
        }
        let mut fds = [
            PollFd::new(self.cell.channel.as_fd(), wanted),
            PollFd::new(self.prober.fd(), PollFlags::POLLIN),
        ];
        // An interrupted wait is looked at by the loop, which asks whether to stop.
        let _ = ppoll(&mut fds, span.map(TimeSpec::from_duration), None);
        if let Err(error) = self.cell.channel.flush() {
            self.failed
                .get_or_insert(format!("the cell is gone: {error}"));
        }
    }

    /// Nothing has come.
    pub(super) fn is_silent(&self) -> bool {
        let mut fds = [
            PollFd::new(self.cell.channel.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.prober.fd(), PollFlags::POLLIN),
        ];
        !self.prober.has_answers()
            && matches!(
                ppoll(
                    &mut fds,
                    Some(TimeSpec::from_duration(Duration::ZERO)),
                    None
                ),
                Ok(0)
            )
    }
}
