//! Network namespaces made ahead, by a child: to make one takes the kernel half a millisecond,
//! which a pod need not wait for when another has just been made.
//!
//! The child makes them in a namespace beside the caller's and sends them. Nobody waits for it: a
//! pod that comes while none is there has one made on the spot.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::child::{Channel, Child};
use super::netlink::{Messages, Socket};
use super::route::{self, LOOPBACK};
use super::sys::{self, Poll};

/// A namespace with nothing in it but a loopback device that is up, and a socket there.
#[derive(Debug)]
pub struct Spare {
    /// The namespace.
    pub netns: OwnedFd,
    /// A socket for links, addresses and routes in it.
    pub inside: Socket,
}

impl Spare {
    /// Makes one for a caller who is in the namespace `home`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn make(home: BorrowedFd<'_>) -> io::Result<Spare> {
        let (netns, inside) = sys::new_netns_of(home, Socket::route)?;
        let mut m = Messages::default();
        route::up(&mut m, LOOPBACK, false);
        inside.request(m.quiet()).map_err(|(_, error)| error)?;
        Ok(Spare { netns, inside })
    }
}

/// How many are made ahead.
const AHEAD: usize = 3;

/// Those that are there, and the child that makes more.
#[derive(Debug)]
pub struct Spares {
    child: Child,
    /// So many were asked for and have not come.
    ordered: usize,
    there: Vec<Spare>,
}

impl Spares {
    /// Starts the child; it makes nothing before the first one is taken.
    ///
    /// # Errors
    /// The kernel's.
    pub fn start() -> io::Result<Spares> {
        Ok(Spares {
            child: Child::start(|channel| work(&channel))?,
            ordered: 0,
            there: Vec::new(),
        })
    }

    /// One of them, or one that is made now; the caller is in the namespace `home`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn take(&mut self, home: BorrowedFd<'_>) -> io::Result<Spare> {
        // A child that is gone sends nothing more: all are made on the spot then.
        while let Ok(Some((_, fds))) = self.child.channel.receive::<u8>() {
            self.ordered = self.ordered.saturating_sub(1);
            let mut fds = fds.into_iter();
            if let (Some(netns), Some(inside)) = (fds.next(), fds.next()) {
                let inside = Socket::from_fd(inside);
                self.there.push(Spare { netns, inside });
            }
        }
        let taken = self.there.pop();
        while self.there.len() + self.ordered < AHEAD
            && matches!(self.child.channel.send(&ONE, &[]), Ok(true))
        {
            self.ordered += 1;
        }
        match taken {
            Some(spare) => Ok(spare),
            None => Spare::make(home),
        }
    }
}

/// What the child is asked and answers with: the namespace and the socket come along, if they could
/// be made. A message without a byte would be the end of the channel.
const ONE: u8 = 1;

fn work(channel: &Channel) -> io::Result<()> {
    let home = sys::current_netns()?;
    let (poll, mut ready) = (Poll::new()?, Vec::new());
    poll.add(channel, false, 0)?;
    loop {
        poll.wait(None, &mut ready)?;
        while channel.receive::<u8>()?.is_some() {
            // What cannot be made here cannot be made on the spot either, where it is said why.
            match Spare::make(home.as_fd()) {
                Ok(made) => channel.send(&ONE, &[made.netns.as_fd(), made.inside.as_fd()])?,
                Err(_) => channel.send(&ONE, &[])?,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::backend::linux::net::testing;

    #[test]
    fn every_namespace_is_a_new_one_made_ahead_or_not() {
        if testing::root("spare namespaces").is_none() {
            return;
        }
        testing::in_scratch(|| {
            let home = sys::current_netns().expect("this namespace");
            let number = |fd: &OwnedFd| {
                let file = std::fs::File::from(fd.try_clone().expect("a copy"));
                file.metadata().expect("a namespace").ino()
            };
            let mut seen = BTreeSet::from([number(&home)]);
            let mut spares = Spares::start().expect("a child");
            let (mut held, mut made_ahead) = (Vec::new(), 0);
            while made_ahead < 2 * AHEAD {
                let before = spares.ordered;
                let spare = spares.take(home.as_fd()).expect("a namespace");
                // What it had ordered before has come, or it orders nothing.
                made_ahead += usize::from(before > 0 && !spares.there.is_empty());
                assert!(seen.insert(number(&spare.netns)), "one twice");
                assert!(spares.there.len() + spares.ordered <= AHEAD);
                held.push(spare);
                if held.len() > 64 {
                    held.clear();
                }
            }
            assert_eq!(number(&sys::current_netns().expect("still")), number(&home));
        });
    }
}
