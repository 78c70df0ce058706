//! Children: small processes that do one thing for the cell, and the channel to each.
//!
//! The cell has one thread and must never wait, so what waits (packets on the wire, filter
//! transactions, users' connections) lives in children of their own, forked without an exec. A
//! child has three standard streams and its channel, nothing else; it ends when the channel's other
//! end is closed, when its parent's thread ends, or when its [`Child`] is dropped.
//!
//! A channel carries whole messages (postcard), each with up to [`MOST_FDS`] descriptors.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::libc;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::sys::check;

/// Descriptors that may travel with one message.
pub const MOST_FDS: usize = 9;
/// The longest message.
const LONGEST: usize = 160 << 10;
/// Where a child finds its channel.
const CHANNEL: i32 = 3;

/// One end of a channel.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// Room for the descriptors of a message, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Control([u8; 64]);

impl Channel {
    /// Both ends. The first one waits (at most two seconds) when there is no room to send, the
    /// second never does.
    pub fn pair() -> io::Result<(Channel, Channel)> {
        let mut fds = [0; 2];
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        // SAFETY: the kernel writes two descriptors into the array.
        check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) })?;
        // SAFETY: both were just made for us.
        let [near, far] = fds.map(|fd| Channel(unsafe { OwnedFd::from_raw_fd(fd) }));
        let wait = libc::timeval {
            tv_sec: 2,
            tv_usec: 0,
        };
        // SAFETY: the pointer and length describe a local.
        check(unsafe {
            libc::setsockopt(
                near.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_SNDTIMEO,
                (&raw const wait).cast(),
                size_of::<libc::timeval>() as libc::socklen_t,
            )
        })?;
        // SAFETY: fcntl with this command takes an integer.
        check(unsafe { libc::fcntl(far.0.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })?;
        Ok((near, far))
    }

    /// From now on this end does not wait for room to send, either.
    ///
    /// # Errors
    /// The kernel's.
    pub fn never_wait(&self) -> io::Result<()> {
        // SAFETY: fcntl with this command takes an integer.
        check(unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })?;
        Ok(())
    }

    /// Takes over an end that another process made.
    pub fn from_fd(fd: OwnedFd) -> Channel {
        Channel(fd)
    }

    /// The descriptor of this end, to be handed to another process.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Sends a message with descriptors; `Ok(false)` when there is no room now.
    pub fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<bool> {
        let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
        if bytes.len() > LONGEST || fds.len() > MOST_FDS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let raw: Vec<i32> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let mut control = Control([0; 64]);
        let mut part = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        // SAFETY: an all-zero msghdr is a valid empty one.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        if !raw.is_empty() {
            let size = size_of_val(&raw[..]) as libc::c_uint;
            header.msg_control = control.0.as_mut_ptr().cast();
            // SAFETY: CMSG_SPACE only computes; nine descriptors need 56 bytes of the 64.
            header.msg_controllen = unsafe { libc::CMSG_SPACE(size) } as usize;
            // SAFETY: the control buffer is large enough for one header and the descriptors, so the
            // first header exists and its data has room for them.
            unsafe {
                let first = libc::CMSG_FIRSTHDR(&raw const header);
                (*first).cmsg_level = libc::SOL_SOCKET;
                (*first).cmsg_type = libc::SCM_RIGHTS;
                (*first).cmsg_len = libc::CMSG_LEN(size) as usize;
                let data = libc::CMSG_DATA(first).cast::<i32>();
                std::ptr::copy_nonoverlapping(raw.as_ptr(), data, raw.len());
            }
        }
        // SAFETY: every pointer in the header is to a local that outlives the call.
        let sent =
            unsafe { libc::sendmsg(self.0.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) };
        if sent >= 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock => Ok(false),
            _ => Err(error),
        }
    }

    /// Takes the next message with its descriptors; none when nothing is there. A closed channel is
    /// an `UnexpectedEof`.
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        thread_local! {
            static BYTES: RefCell<Vec<u8>> = RefCell::new(vec![0; LONGEST]);
        }
        BYTES.with_borrow_mut(|bytes| self.receive_into(bytes))
    }

    fn receive_into<T: DeserializeOwned>(
        &self,
        bytes: &mut [u8],
    ) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut control = Control([0; 64]);
        let mut part = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        // SAFETY: an all-zero msghdr is a valid empty one.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control.0.len();
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        // SAFETY: every pointer in the header is to a local that outlives the call.
        let got = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut header, flags) };
        let Ok(got) = usize::try_from(got) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        };
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut fds = Vec::new();
        // SAFETY: the kernel filled the control buffer; the walk stays within msg_controllen, and
        // the descriptors of an SCM_RIGHTS message are ours from now on.
        unsafe {
            let mut at = libc::CMSG_FIRSTHDR(&raw const header);
            while !at.is_null() {
                let (level, kind) = ((*at).cmsg_level, (*at).cmsg_type);
                if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
                    let length = (*at).cmsg_len - libc::CMSG_LEN(0) as usize;
                    let data = libc::CMSG_DATA(at).cast::<i32>();
                    for i in 0..length / size_of::<i32>() {
                        fds.push(OwnedFd::from_raw_fd(data.add(i).read_unaligned()));
                    }
                }
                at = libc::CMSG_NXTHDR(&raw const header, at);
            }
        }
        let message = postcard::from_bytes(&bytes[..got]).map_err(io::Error::other)?;
        Ok(Some((message, fds)))
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A child process. Dropping it ends it.
#[derive(Debug)]
pub struct Child {
    /// This end of its channel.
    pub channel: Channel,
    pidfd: OwnedFd,
}

impl Child {
    /// Forks a child that runs `work` with its end of a new channel and then ends.
    pub fn start(work: impl FnOnce(Channel) -> io::Result<()>) -> io::Result<Child> {
        let (near, far) = Channel::pair()?;
        // SAFETY: the child calls only what is safe after a fork of a process with one thread (the
        // cell); in tests, which have more, the C library keeps its allocator usable in the child.
        let pid = check(unsafe { libc::fork() })?;
        if pid == 0 {
            let channel = isolate(&far);
            let work = std::panic::AssertUnwindSafe(|| work(channel));
            let code = match std::panic::catch_unwind(work) {
                Ok(Ok(())) => 0,
                Ok(Err(_)) => 1,
                Err(_) => 101,
            };
            // SAFETY: _exit does not return; nothing of the parent's is flushed or run.
            unsafe { libc::_exit(code) }
        }
        // SAFETY: pidfd_open takes no pointers; the child cannot have been reaped by anybody else.
        let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let pidfd = check(i32::try_from(pidfd).unwrap_or(-1))?;
        // SAFETY: the kernel has just made this descriptor for us.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        Ok(Child {
            channel: near,
            pidfd,
        })
    }

    /// Ends it, and waits until it is gone.
    pub fn end(&self) {
        let pidfd = self.pidfd.as_raw_fd();
        // SAFETY: a null siginfo is allowed; signal and wait go to our own child by its pidfd.
        unsafe {
            let null = std::ptr::null::<libc::siginfo_t>();
            libc::syscall(libc::SYS_pidfd_send_signal, pidfd, libc::SIGKILL, null, 0);
            let mut ended: libc::siginfo_t = std::mem::zeroed();
            let id = pidfd.cast_unsigned();
            libc::waitid(libc::P_PIDFD, id, &raw mut ended, libc::WEXITED);
        }
    }

    /// Readable when the child has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// In a child that was just forked: dies with its parent, keeps nothing but standard streams and
/// its channel.
fn isolate(channel: &Channel) -> Channel {
    // SAFETY: these calls take integers (and for the mask a pointer to a local); errors leave the
    // child with more than it needs, never with less.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        if channel.0.as_raw_fd() != CHANNEL {
            libc::dup2(channel.0.as_raw_fd(), CHANNEL);
        }
        let last = u32::MAX;
        libc::syscall(libc::SYS_close_range, CHANNEL as u32 + 1, last, 0);
        Channel(OwnedFd::from_raw_fd(CHANNEL))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_child_answers_and_sends_a_descriptor_back() {
        let child = Child::start(|channel| {
            let poll = super::super::sys::Poll::new()?;
            poll.add(&channel, false, 0)?;
            let mut ready = Vec::new();
            loop {
                poll.wait(None, &mut ready)?;
                while let Some((word, fds)) = channel.receive::<String>()? {
                    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
                    channel.send(&word.to_uppercase(), &fds)?;
                }
            }
        })
        .unwrap();
        let null = super::super::sys::open("/dev/null", libc::O_RDWR).unwrap();
        child
            .channel
            .send(&"hello", &[null.as_fd(), null.as_fd()])
            .unwrap();
        let poll = super::super::sys::Poll::new().unwrap();
        poll.add(&child.channel, false, 0).unwrap();
        let mut ready = Vec::new();
        poll.wait(Some(std::time::Duration::from_secs(10)), &mut ready)
            .unwrap();
        let (word, fds) = child.channel.receive::<String>().unwrap().unwrap();
        assert_eq!((word.as_str(), fds.len()), ("HELLO", 2));
        assert!(child.channel.receive::<String>().unwrap().is_none());
    }
}
