//! The built-in server: what a container runs whose image is not there.
//!
//! It does for real what an AppModel says: takes its time to start, listens, answers requests with
//! CPU time that is really burnt and memory that is really used, queues, calls other Services over
//! real connections, obeys (or ignores) SIGTERM, leaks, crashes. It is forked from the cell without
//! exec: an epoll loop that gives the requests in work short slices of CPU in turn, which is the
//! processor sharing of the simulation, with a thread for each further core that it may use.
//!
//! Where nodes of the scenario are larger than the host, quotas are scaled down; then the same part
//! of a request's CPU time is burnt and the rest is slept, so that latency without contention and
//! the load relative to the quota are both as the AppModel says.
//!
//! Read first: [`Workload`], then [`server`].

pub mod ballast;
pub mod grpc;
pub mod http;
pub mod http2;
pub mod peer;
pub mod server;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::net::child::Channel;
use super::net::conntrack::Choices;
use crate::engine::Dist;
use crate::load::model::{MemoryModel, OnSigterm, Warmup};
use crate::load::tally::Cause;

/// What the built-in server does: one container's AppModel with everything resolved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Workload {
    /// The run's seed.
    pub seed: u64,
    /// Key of the container for draws.
    pub entity: u64,
    /// `namespace/pod`, told in answers.
    pub who: String,
    /// The name of its control socket: it accepts while the server does.
    pub control: String,
    /// Ports that it listens on; none never listens.
    pub ports: Vec<u16>,
    /// From its start to its listening.
    pub startup: Duration,
    /// When it ends by itself: after this time, counted from its listening or its start.
    pub exit: Option<Exit>,
    /// What it does when told to end.
    pub on_sigterm: OnSigterm,
    /// Cold caches.
    pub warmup: Option<Warmup>,
    /// CPU time of a request.
    pub cpu: Dist,
    /// Threads that the work of one request is spread over.
    pub threads: u32,
    /// Cores of the host that it may use at the same time.
    pub cores: u32,
    /// Waiting of a request.
    pub wait: Option<Dist>,
    /// Requests in work at the same time.
    pub concurrency: u32,
    /// Requests that wait for a place.
    pub queue: u32,
    /// Calls to other Services, in order.
    pub calls: Vec<peer::Call>,
    /// How many of a million requests are answered 500.
    pub errors_per_million: u32,
    /// Bytes of the body of an answer, at least.
    pub response_bytes: usize,
    /// HTTP probes queue like requests; this is their CPU time.
    pub shared_probe: Option<Dist>,
    /// How long other probes take.
    pub dedicated_probe: Dist,
    /// The path of the readiness probe, where it makes the calls that requests make.
    pub readiness: Option<String>,
    /// How long `exec` hooks run.
    pub hook: Dist,
    /// Memory; its base is resolved.
    pub memory: MemoryModel,
    /// Services that must accept a connection at the end of start-up.
    pub needs: Vec<peer::Target>,
    /// What part of CPU time is burnt, in thousandths.
    pub cpu_permille: u32,
}

/// What a process is born with that makes calls.
#[derive(Debug)]
pub struct Ears {
    /// Which endpoints its node chooses for its connections.
    pub choices: Option<Choices>,
    /// Where it tells what came of its calls.
    pub reports: Channel,
}

/// What came of calls, in the order of happening. Times are nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallTold {
    /// A call was made (its first attempt).
    Sent {
        /// As in [`peer::Call::sender`].
        sender: u16,
        /// When.
        at: u64,
    },
    /// A call is over.
    Ended {
        /// As in [`peer::Call::sender`].
        sender: u16,
        /// When its first attempt was made.
        sent: u64,
        /// When it was over.
        at: u64,
        /// What its client saw; none when it was answered well.
        cause: Option<Cause>,
        /// The endpoint of the last attempt, 0 when none is known.
        endpoint: u32,
    },
    /// Its process ended before the call did.
    Abandoned {
        /// As in [`peer::Call::sender`].
        sender: u16,
        /// When.
        at: u64,
    },
}

/// When a server ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// After this time.
    pub after: Duration,
    /// Counted from its listening.
    pub from_listening: bool,
    /// With this code.
    pub code: u8,
}

/// The address of a control socket (in the abstract namespace, which belongs to the network
/// namespace).
pub fn control_address(name: &str) -> std::io::Result<std::os::unix::net::SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    std::os::unix::net::SocketAddr::from_abstract_name(format!("rehearsal/{name}"))
}

/// What an `exec` probe of the built-in server does: takes its time, then asks whether it serves.
/// Returns the exit code.
pub fn probe(workload: &Workload, n: u64) -> u8 {
    let draws = crate::engine::Draws::new(workload.seed);
    let unit = draws.unit(server::PROBE, workload.entity, n);
    std::thread::sleep(workload.dedicated_probe.sample(unit));
    let connected = control_address(&workload.control)
        .and_then(|address| std::os::unix::net::UnixStream::connect_addr(&address));
    u8::from(connected.is_err())
}

/// What an `exec` hook of the built-in server does: takes its time.
pub fn hook(workload: &Workload, n: u64) -> u8 {
    let draws = crate::engine::Draws::new(workload.seed);
    let unit = draws.unit(server::HOOK, workload.entity, n);
    std::thread::sleep(workload.hook.sample(unit));
    0
}
