//! What the kernel alone takes for what the rungs do, measured in the same minute: the least that
//! any runtime could take on this host, and so how much of a rung is the runtime's own.
//!
//! `floor-clone`: a process in namespaces as a container's, that ends at once. `floor-exec`: one
//! that executes a program there, which ends at once. `floor-netns`: a network namespace, made and
//! given up. `floor-http`, `floor-tcp`: a GET request with its answer, a connection, to the
//! plainest server there can be, which another process is, in a network namespace of its own.
//! `floor-wake`: a byte to another process and back, of which a probe has one beside its server.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::libc;
use rehearsal::backend::linux::sys::{self, Forked};

const NAMESPACES: libc::c_int = libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWCGROUP;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";

/// Forks; the child does this, ends, and is held by its pidfd.
fn fork(namespaces: libc::c_int, work: impl FnOnce()) -> OwnedFd {
    match sys::clone3(namespaces, None).expect("a process") {
        Forked::Child => {
            work();
            sys::exit_now(0)
        }
        Forked::Parent(pidfd, _) => pidfd,
    }
}

fn end(pidfd: &OwnedFd, kill: bool) {
    if kill {
        sys::signal(pidfd.as_fd(), libc::SIGKILL).expect("a signal");
    }
    sys::reap(pidfd.as_fd(), true).expect("an end");
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

/// A process in a container's namespaces, from its birth to its end.
pub fn clone() -> Duration {
    timed(|| end(&fork(NAMESPACES, || {}), false))
}

/// One that executes a program.
pub fn exec() -> Duration {
    let argv = ["/bin/true".to_owned()];
    timed(|| {
        let work = || drop(sys::exec(&argv, &argv, &[], false));
        end(&fork(NAMESPACES, work), false);
    })
}

/// This process's network namespace.
pub fn home() -> OwnedFd {
    let file = std::fs::File::open("/proc/self/ns/net");
    file.expect("this process's network namespace").into()
}

/// A network namespace, made and given up.
pub fn netns(home: &OwnedFd) -> Duration {
    timed(|| {
        sys::unshare(libc::CLONE_NEWNET).expect("a network namespace");
        sys::setns(home.as_fd(), libc::CLONE_NEWNET).expect("back");
    })
}

/// The plainest server, in a network namespace.
pub struct Server {
    there: OwnedFd,
    home: OwnedFd,
    pidfd: OwnedFd,
}

impl Server {
    pub fn start() -> Server {
        let before = home();
        sys::unshare(libc::CLONE_NEWNET).expect("a network namespace");
        sys::loopback(None).expect("its loopback");
        let there = home();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 8080)).expect("a port");
        let pidfd = fork(0, || serve(&listener));
        sys::setns(before.as_fd(), libc::CLONE_NEWNET).expect("back");
        Server {
            there,
            home: before,
            pidfd,
        }
    }

    fn connect(&self) -> TcpStream {
        sys::setns(self.there.as_fd(), libc::CLONE_NEWNET).expect("in");
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, 8080)).expect("a connection");
        sys::setns(self.home.as_fd(), libc::CLONE_NEWNET).expect("back");
        stream
    }

    /// A connection.
    pub fn tcp(&self) -> Duration {
        timed(|| drop(self.connect()))
    }

    /// A request and its answer.
    pub fn http(&self) -> Duration {
        timed(|| {
            let mut stream = self.connect();
            stream.write_all(REQUEST).expect("sent");
            let mut answer = [0u8; 1024];
            let count = stream.read(&mut answer).expect("an answer");
            assert_eq!(&answer[..count], ANSWER);
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&self.pidfd, true);
    }
}

fn serve(listener: &TcpListener) {
    let mut buffer = [0u8; 1024];
    // Its parent's end does not end it by itself.
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0).expect("told of the parent's end");
    while let Ok((mut stream, _)) = listener.accept() {
        if matches!(stream.read(&mut buffer), Ok(count) if count > 0) {
            // A client that is gone is the client's business.
            let _ = stream.write_all(ANSWER);
        }
    }
}

/// Another process that gives back what it gets.
pub struct Echo {
    near: UnixStream,
    pidfd: OwnedFd,
}

impl Echo {
    pub fn start() -> Echo {
        let (near, mut far) = UnixStream::pair().expect("a pair of sockets");
        let pidfd = fork(0, || {
            let mut byte = [0u8];
            while far.read_exact(&mut byte).is_ok() && far.write_all(&byte).is_ok() {}
        });
        Echo { near, pidfd }
    }

    /// There and back.
    pub fn turn(&mut self) -> Duration {
        timed(|| {
            let mut byte = [0u8];
            self.near.write_all(b"!").expect("sent");
            self.near.read_exact(&mut byte).expect("back");
        })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        end(&self.pidfd, true);
    }
}
