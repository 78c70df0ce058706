//! The gravedigger: a child that gives up what the kernel takes down slowly.
//!
//! When the last user of a mount namespace is gone, whoever was it waits until every CPU has noticed:
//! a third of a millisecond, at the end of a container's first process, before anybody hears that it
//! has ended. So the cell holds a container's mount namespace as well, and hands it on once the
//! container is gone: the child is the last one, and nobody waits for it. Should the cell itself end
//! first, it is not the last one, since its containers end after it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::super::net::child::{Channel, Child, MOST_FDS};
use super::super::net::sys::Poll;

/// The cell's side.
pub struct Gravedigger {
    child: Child,
    /// What there was no room to hand on yet.
    waiting: VecDeque<OwnedFd>,
}

/// A message needs a byte.
const TAKE: u8 = 1;

impl Gravedigger {
    /// Forks the child.
    ///
    /// # Errors
    /// The kernel's.
    pub fn start() -> io::Result<Gravedigger> {
        let child = Child::start(|channel| dig(&channel))?;
        child.channel.never_wait()?;
        Ok(Gravedigger {
            child,
            waiting: VecDeque::new(),
        })
    }

    /// Hands something on that is not needed any more.
    pub fn take(&mut self, fd: OwnedFd) {
        self.waiting.push_back(fd);
    }

    /// Hands on what there is room for.
    pub fn go_on(&mut self) {
        while !self.waiting.is_empty() {
            let count = self.waiting.len().min(MOST_FDS);
            let some: Vec<BorrowedFd<'_>> =
                self.waiting.iter().take(count).map(AsFd::as_fd).collect();
            match self.child.channel.send(&TAKE, &some) {
                Ok(false) => return,
                // Without it the cell waits itself.
                Ok(true) | Err(_) => drop(self.waiting.drain(..count)),
            }
        }
    }
}

fn dig(channel: &Channel) -> io::Result<()> {
    let (poll, mut ready) = (Poll::new()?, Vec::new());
    poll.add(channel, false, 0)?;
    loop {
        poll.wait(None, &mut ready)?;
        // What comes along is closed as it is dropped.
        while channel.receive::<u8>()?.is_some() {}
    }
}
