//! What the main process and the cell say to each other, and how it is framed.
//!
//! The cell is told complete descriptions: which program, which files, which limits. It decides
//! nothing about Kubernetes. Frames are a length (`u32`, little-endian) and postcard bytes, on a
//! stream socket pair whose end tells either side that the other is gone. Both ends come from one
//! binary, so there are no versions.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv, send};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use super::cell::failpoint::Failure;
use super::layout::Hierarchies;
use super::net::network;
use super::workload::{CallTold, Workload};
use crate::cluster::StrainTarget;
use crate::kubelet::RuntimeEvent;
use crate::kubelet::runtime::{ContainerId, Hook, ProbeKind};
use crate::net::topology::Latencies;

/// Values of one cgroup, as a kubelet writes them; `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// `cpu.shares`.
    pub shares: Option<u64>,
    /// Microseconds of CPU in 100 ms.
    pub quota_us: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// What a node is made with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Its name.
    pub name: String,
    /// Limits of the whole machine.
    pub machine: Limits,
    /// Limits of `kubepods` (what is allocatable).
    pub pods: Limits,
    /// Memory of the machine in bytes, from which `memory.available` counts.
    pub memory: u64,
}

/// What a pod's sandbox is made with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PodSpec {
    /// The pod's number.
    pub pod: u32,
    /// Which attempt; comes back with the answer.
    pub attempt: u8,
    /// Its node.
    pub node: String,
    /// Its uid, in the alphabet of uids.
    pub uid: String,
    /// `guaranteed`, `burstable` or `besteffort`: the level of its cgroup.
    pub qos: Qos,
    /// Its cgroup.
    pub limits: Limits,
    /// Its address.
    pub ip: u32,
    /// Uses the node's network.
    pub host_network: bool,
    /// Its host name.
    pub hostname: String,
    /// Files that are made in its folder: `etc/hosts`, ConfigMaps, Secrets.
    pub files: Vec<File>,
    /// Volumes of the pod's own: name, limit in bytes, whether in memory.
    pub empty_dirs: Vec<(String, Option<u64>, bool)>,
}

/// The level of a pod's cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Qos {
    /// Directly below `kubepods`.
    Guaranteed,
    /// Below `kubepods/burstable`.
    Burstable,
    /// Below `kubepods/besteffort`.
    BestEffort,
}

/// A file in the folder of a pod; `path` is relative and has no `..`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Where, below the pod's folder.
    pub path: String,
    /// What is in it.
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

/// What a container runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Program {
    /// The built-in server; forked from the cell without exec.
    BuiltIn(Box<Workload>),
    /// A program in a root file system.
    Exec {
        /// The root.
        root: Root,
        /// Program and arguments.
        argv: Vec<String>,
        /// Working folder.
        cwd: String,
    },
}

/// Where a container's root file system comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Root {
    /// Programs of the host: its `/usr` and `/etc`, read-only.
    Host,
    /// Folders, the uppermost first, read-only below a writable layer in memory.
    Layers(Vec<String>),
}

/// A folder or file of the pod in a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Below the pod's folder.
    pub from: String,
    /// Absolute, in the container.
    pub to: String,
    /// Whether it cannot be written.
    pub read_only: bool,
}

/// Who a container's processes are and what they may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// User and group.
    pub user: (u32, u32),
    /// Further groups.
    pub groups: Vec<u32>,
    /// Capabilities by number, as a set of bits.
    pub capabilities: u64,
    /// Whether the root file system cannot be written.
    pub read_only: bool,
    /// Everything is allowed: no seccomp filter, no masked paths.
    pub privileged: bool,
    /// Whether exec may grant rights (`allowPrivilegeEscalation`).
    pub escalation: bool,
}

/// What a container is made with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Its name at the runtime boundary.
    pub id: ContainerId,
    /// Its name in the pod.
    pub name: String,
    /// Its cgroup.
    pub limits: Limits,
    /// `oom_score_adj` of its processes.
    pub oom_score_adj: i32,
    /// What it runs.
    pub program: Program,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Mounts, in order.
    pub mounts: Vec<Mount>,
    /// Its writable layer's limit in bytes.
    pub writable: Option<u64>,
    /// What its processes may do.
    pub rights: Rights,
    /// The signal that asks it to end.
    pub stop_signal: i32,
    /// The file of its log, on the host; none keeps nothing.
    pub log: Option<String>,
}

/// A question to a container: a probe, or a hook.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ask {
    /// Which container.
    pub container: ContainerId,
    /// What the answer is.
    pub purpose: Purpose,
    /// How it is asked.
    pub way: Way,
    /// After this time nobody waits for the answer any more.
    pub timeout: Duration,
}

/// What an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// A probe, with the lowest eight bits of its number.
    Probe(ProbeKind, u8),
    /// A hook.
    Hook(Hook),
}

/// How a container is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Way {
    /// A command in its namespaces.
    Exec(Vec<String>),
    /// A GET request.
    Http {
        /// Address and port.
        to: (u32, u16),
        /// `Host` header.
        host: String,
        /// Path.
        path: String,
        /// Further headers, as they are sent.
        headers: Vec<(String, String)>,
    },
    /// A connection.
    Tcp {
        /// Address and port.
        to: (u32, u16),
    },
    /// A gRPC health check.
    Grpc {
        /// Address and port.
        to: (u32, u16),
        /// The service that is asked for; empty is the server as a whole.
        service: String,
    },
    /// Not possible here (TLS, say); answered as unknown, with the reason in the log.
    Unsupported(String),
}

/// A load that a fault puts on a container or a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrainSpec {
    /// Where.
    pub on: StrainTarget,
    /// Processes that compute.
    pub workers: u32,
    /// How much of its time each of them computes, in percent.
    pub percent: u32,
    /// Bytes that are kept.
    pub memory: u64,
    /// What part of a core's time a core of the scenario has, in thousandths.
    pub permille: u32,
}

/// What the cell needs to know before anything else.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Begin {
    /// The run's groups, which exist.
    pub groups: Hierarchies,
    /// A folder that no image is in: in the cell, memory is mounted there for roots and volumes.
    pub scratch: String,
    /// The cell lives in a user namespace.
    pub rootless: bool,
    /// Programs of containers may have huge pages, which the cell itself is started without.
    pub huge_pages: bool,
}

/// What the cell is asked to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    /// The first one: where groups are made, and where files are put.
    Begin(Begin),
    /// Make the network: the run's seed and the latencies of the wire. Without it, nodes and pods
    /// have nothing but a loopback device.
    Network(u64, Latencies),
    /// Something for the network.
    Net(Box<network::Command>),
    /// Make a node.
    Node(NodeSpec),
    /// Everything on a node is gone, nobody is told.
    PowerOff(String),
    /// Stop all processes of a node, or let them go on.
    Freeze(String, bool),
    /// Make a pod's sandbox; answered by `SandboxReady`.
    Sandbox(Box<PodSpec>),
    /// Start a container; answered by `Started`.
    Start(Box<ContainerSpec>),
    /// Replace files of a pod (a ConfigMap has changed).
    Files(u32, Vec<File>),
    /// The stop signal, or SIGKILL.
    Signal(ContainerId, bool),
    /// Ask a container.
    Ask(Ask),
    /// Give the main process a socket of this pod's network, under a number of its own, over the
    /// channel of [`super::prober`].
    Lend(u32, u32),
    /// Kill and remove a pod; answered by `Removed`.
    Remove(u32),
    /// A load on a container or a node begins under a number, or (without one) ends.
    Strain(u32, Option<StrainSpec>),
    /// Measure the memory of a node with this number.
    Stats(String, u32),
    /// Measure what all containers use.
    Usage,
    /// From now on tell by `Tight` when a node, with this number, has less than so many bytes of
    /// memory available.
    Watch(String, u32, u64),
    /// Let the n-th step of making or removing things from here on fail (tests).
    Failpoint(Option<(u32, Failure)>),
    /// Go on after [`Report::Halted`].
    GoOn,
    /// Kill everything and end.
    End,
}

/// What the cell tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Report {
    /// The cell is there.
    Ready,
    /// Something for a kubelet.
    Event(RuntimeEvent),
    /// The cell stands still at this step, as it was told to.
    Halted(String),
    /// Something happened in the network.
    Net(network::Report),
    /// What came of calls between Services.
    Calls(Vec<CallTold>),
    /// Something could not be done as asked; the step, and what is lost.
    Problem(String),
    /// What containers use, of those that run.
    Usage(Vec<Used>),
}

/// What a container uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Which.
    pub container: ContainerId,
    /// CPU time since its start, in nanoseconds of the host's cores.
    pub cpu: u64,
    /// Its working set in bytes.
    pub memory: u64,
}

/// A report with the instant of the monotonic clock at which it was true.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stamped {
    /// Nanoseconds of the monotonic clock.
    pub at: u64,
    /// What.
    pub report: Report,
}

/// The longest frame that is believed, in bytes.
const LONGEST: usize = 64 << 20;

/// One end of the conversation. It never blocks: what cannot be sent yet waits here.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    /// Where what comes is put first.
    buffer: Box<[u8]>,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    sent: usize,
}

impl Channel {
    /// The end that has this socket, which must be non-blocking.
    pub fn new(socket: OwnedFd) -> Channel {
        Channel {
            socket,
            buffer: vec![0; 64 << 10].into_boxed_slice(),
            incoming: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
        }
    }

    /// Puts a message into the line and sends what can be sent.
    ///
    /// # Errors
    /// The other side is gone.
    pub fn send<T: Serialize>(&mut self, message: &T) -> io::Result<()> {
        let start = self.outgoing.len();
        self.outgoing.extend([0; 4]);
        let bytes = std::mem::take(&mut self.outgoing);
        self.outgoing = postcard::to_extend(message, bytes).map_err(io::Error::other)?;
        let length = self.outgoing.len() - start - 4;
        let length = u32::try_from(length).map_err(io::Error::other)?;
        self.outgoing[start..start + 4].copy_from_slice(&length.to_le_bytes());
        self.flush()
    }

    /// Sends what can be sent.
    ///
    /// # Errors
    /// The other side is gone.
    pub fn flush(&mut self) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        while self.sent < self.outgoing.len() {
            let rest = &self.outgoing[self.sent..];
            match send(self.socket.as_raw_fd(), rest, MsgFlags::MSG_NOSIGNAL) {
                Ok(count) => self.sent += count,
                Err(nix::Error::EAGAIN) => return Ok(()),
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.outgoing.clear();
        self.sent = 0;
        Ok(())
    }

    /// Whether something waits to be sent.
    pub fn waiting(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Takes in what has come; false when the other side is gone.
    ///
    /// # Errors
    /// The socket failed.
    pub fn receive(&mut self) -> io::Result<bool> {
        use std::os::fd::AsRawFd;
        loop {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.incoming.extend(&self.buffer[..count]);
                    // Less than there is room for is all that there is.
                    if count < self.buffer.len() {
                        return Ok(true);
                    }
                }
                Err(nix::Error::EAGAIN) => return Ok(true),
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::ECONNRESET) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next message that is complete.
    ///
    /// # Errors
    /// Bytes that are no message.
    pub fn message<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some((length, rest)) = self.incoming.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length > LONGEST {
            return Err(io::Error::other("a frame is too long"));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let message = postcard::from_bytes(&rest[..length]).map_err(io::Error::other)?;
        self.incoming.drain(..4 + length);
        Ok(Some(message))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    #[test]
    fn frames_arrive_whole_however_large_they_are() {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let (a, b) =
            socketpair(AddressFamily::Unix, SockType::Stream, None, flags).expect("a pair");
        let (mut a, mut b) = (Channel::new(a), Channel::new(b));
        let sizes = [0usize, 1, 65_535, 3_000_000, 7];
        for size in sizes {
            let content = vec![7u8; size];
            let path = "f".to_owned();
            let files = vec![File {
                path,
                content,
                mode: 0o644,
            }];
            a.send(&Command::Files(size as u32, files)).expect("sent");
        }
        let mut seen = Vec::new();
        while seen.len() < sizes.len() {
            assert!(b.receive().expect("received"));
            while let Some(command) = b.message().expect("a frame") {
                let Command::Files(number, files) = command else {
                    panic!("another command");
                };
                assert_eq!(files[0].content.len(), number as usize);
                seen.push(number as usize);
            }
            a.flush().expect("flushed");
        }
        assert_eq!(seen, sizes);
        drop(a);
        assert!(!b.receive().expect("the end"));
    }
}
