//! Children that send transactions and wait for the kernel.
//!
//! A transaction sleeps until every CPU has stopped using the old rules, 8 to 16 ms. The kernel
//! takes one at a time for each network namespace, so with a few children the nodes of a cluster
//! wait side by side. The time of a commit is taken right after it, by the child.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

use crate::backend::linux::net::child::{Channel, Child};
use crate::backend::linux::net::netlink::Socket;
use crate::backend::linux::net::sys::{self, Poll, Result, Step};

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Programmed {
    /// As it was submitted.
    pub token: u64,
    /// When, in nanoseconds of the monotonic clock.
    pub at_ns: u64,
    /// The number of the request that failed and the error, if any; then nothing has changed.
    pub failed: Option<(u32, i32)>,
}

/// The children.
#[derive(Debug)]
pub struct Programmers {
    children: Vec<Child>,
    next: usize,
}

impl Programmers {
    /// Starts so many of them.
    pub fn new(count: usize) -> Result<Programmers> {
        let start = || Child::start(|channel| work(&channel));
        let children: io::Result<_> = (0..count.max(1)).map(|_| start()).collect();
        Ok(Programmers {
            children: children.step(|| "start the filter programmers".to_owned())?,
            next: 0,
        })
    }

    /// Hands a transaction to one of them. `socket` is a netfilter socket of the node's namespace;
    /// submit the next one for that node when this one has ended.
    pub fn submit(&mut self, token: u64, socket: BorrowedFd<'_>, batch: &[u8]) -> Result<()> {
        let step = || "hand over a filter transaction".to_owned();
        let file = sys::memory_file(batch).step(step)?;
        let child = &self.children[self.next];
        self.next = (self.next + 1) % self.children.len();
        let job = (token, batch.len() as u64);
        let sent = child.channel.send(&job, &[socket, file.as_fd()]);
        match sent.step(step)? {
            true => Ok(()),
            false => Err(io::Error::from(io::ErrorKind::TimedOut)).step(step),
        }
    }

    /// A transaction that has ended.
    pub fn hear(&self) -> Result<Option<Programmed>> {
        for child in &self.children {
            let got = child.channel.receive();
            if let Some((done, _)) = got.step(|| "hear a filter programmer".to_owned())? {
                return Ok(Some(done));
            }
        }
        Ok(None)
    }

    /// Readable when there is something to hear.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.children.iter().map(|child| child.channel.as_fd())
    }
}

fn work(channel: &Channel) -> io::Result<()> {
    let (poll, mut ready) = (Poll::new()?, Vec::new());
    poll.add(channel, false, 0)?;
    loop {
        poll.wait(None, &mut ready)?;
        while let Some(((token, length), fds)) = channel.receive::<(u64, u64)>()? {
            let mut fds = fds.into_iter();
            let (Some(socket), Some(file)) = (fds.next(), fds.next()) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            let mut batch = vec![0; usize::try_from(length).unwrap_or(0)];
            std::fs::File::from(file).read_exact_at(&mut batch, 0)?;
            let answer = Socket::from_fd(socket).request_bytes(&batch);
            let failed = answer
                .err()
                .map(|(number, error)| (number, error.raw_os_error().unwrap_or(0)));
            let at_ns = sys::monotonic_ns();
            let done = Programmed {
                token,
                at_ns,
                failed,
            };
            channel.send(&done, &[])?;
        }
    }
}
