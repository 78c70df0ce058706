//! AppModel and Traffic: plain values, and the default of every one of them.
//!
//! A workload without an AppModel behaves as [`AppModel::default`] says: it starts up in about two
//! seconds, then listens on the ports that it declares, answers requests that cost about two
//! milliseconds of CPU, makes no calls, answers probes from the same threads that serve requests,
//! and exits when it is told to. Containers of pods that are meant to end (`restartPolicy` other
//! than `Always`) and ordinary init containers run for a while and exit with code 0.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::api::Text;
use crate::api::selector::LabelSelector;
use crate::engine::Dist;

/// How one kind of container behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct AppModel {
    /// Its name in the scenario.
    pub name: Text,
    /// Namespace of the pods that it applies to.
    pub namespace: Text,
    /// Which pods it applies to.
    pub selector: LabelSelector,
    /// Which container of the pod; none is the first of `spec.containers`.
    pub container: Option<Text>,
    /// How long its image takes to pull; none leaves that to the runtime.
    pub image_pull: Option<Dist>,
    /// From the start of the process to its listening.
    pub startup: Dist,
    /// Cold caches and compilers.
    pub warmup: Option<Warmup>,
    /// What it does when told to end.
    pub on_sigterm: OnSigterm,
    /// What serving one request takes.
    pub request: RequestModel,
    /// How it answers probes.
    pub probes: ProbeModel,
    /// Its memory.
    pub memory: MemoryModel,
    /// What it writes to its node's disk.
    pub disk: DiskModel,
    /// How many files it makes there.
    pub files: FilesModel,
    /// How many processes and threads it has.
    pub processes: ProcessesModel,
    /// When it ends by itself.
    pub exit: Option<ExitModel>,
    /// How long `exec` hooks run.
    pub hook: Dist,
    /// Ports that it listens on, and no others; empty leaves that to the container's declaration
    /// and probes ([`super::ports`]).
    pub ports: Vec<u16>,
    /// Services that must answer a connection when start-up is done; otherwise the process exits
    /// with code 1.
    pub needs: Vec<Text>,
}

impl Default for AppModel {
    fn default() -> Self {
        AppModel {
            name: Text::from("default"),
            namespace: Text::default(),
            selector: LabelSelector {
                requirements: Vec::new(),
                nothing: true,
            },
            container: None,
            image_pull: None,
            startup: Dist::LogNormal {
                p50: Duration::from_secs(2),
                p99: Duration::from_secs(6),
            },
            warmup: None,
            on_sigterm: OnSigterm::Exit,
            request: RequestModel::default(),
            probes: ProbeModel::default(),
            memory: MemoryModel::default(),
            disk: DiskModel::default(),
            files: FilesModel::default(),
            processes: ProcessesModel::default(),
            exit: None,
            hook: Dist::Fixed(Duration::from_millis(20)),
            ports: Vec::new(),
            needs: Vec::new(),
        }
    }
}

impl AppModel {
    /// A container that ends by itself: of a Job, or an init container.
    pub fn batch(run: Dist) -> Self {
        AppModel {
            name: Text::from("default-batch"),
            exit: Some(ExitModel {
                after: run,
                from_listening: false,
                code: 0,
            }),
            ..AppModel::default()
        }
    }
}

/// A process that is slower when it is young.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Warmup {
    /// CPU cost of a request right after start-up, in thousandths of the steady cost.
    pub factor_milli: u32,
    /// Until the cost is the steady one; it falls on a straight line.
    pub over: Duration,
}

/// What a process does on SIGTERM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnSigterm {
    /// It ends at once, with code 143; whoever waits for an answer sees a reset.
    #[default]
    Exit,
    /// It stops listening, closes idle connections, finishes what it has accepted, and exits with
    /// code 0 when that is done, at the latest after this time (which resets the rest).
    Drain(Duration),
    /// It goes on as before, new connections included, for this time, and then drains.
    Linger(Duration),
    /// It has no handler and is the first process of its namespace: nothing happens.
    Ignore,
}

/// What serving a request takes.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestModel {
    /// CPU time on one core.
    pub cpu: Dist,
    /// Threads that the work of one request is spread over.
    pub threads: u32,
    /// Waiting that takes no CPU (disks, other systems), after the CPU work.
    pub wait: Option<Dist>,
    /// Requests served at the same time; a request holds its place from acceptance to answer.
    pub concurrency: u32,
    /// Requests that wait for a place, first come first served; more are answered 503 at once.
    pub queue: u32,
    /// Calls to other Services, one after the other, after CPU and waiting.
    pub calls: Vec<Call>,
    /// How many of a million requests are answered 500.
    pub errors_per_million: u32,
    /// Bytes of the body of an answer; they matter where a link has a rate.
    pub response_bytes: u64,
    /// Whether a request whose client has given up is dropped when its turn comes, instead of being
    /// served for nobody (most servers do not notice).
    pub notices_cancel: bool,
}

impl Default for RequestModel {
    fn default() -> Self {
        RequestModel {
            cpu: Dist::LogNormal {
                p50: Duration::from_millis(2),
                p99: Duration::from_millis(10),
            },
            threads: 1,
            wait: None,
            concurrency: 64,
            queue: 256,
            calls: Vec::new(),
            errors_per_million: 0,
            response_bytes: 0,
            notices_cancel: false,
        }
    }
}

/// A call to another Service while serving a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// `[namespace/]name[:port]` or a DNS name.
    pub service: Text,
    /// How the caller's client behaves.
    pub client: Client,
    /// Whether the request succeeds even when this call fails.
    pub optional: bool,
}

/// How a client treats connections and failures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Client {
    /// Connections kept open. A request takes the one that was idle longest; when all are in use it
    /// opens one more for itself. Each connection stays with the endpoint that it was made to.
    pub connections: u32,
    /// Off: every request opens its own connection.
    pub keep_alive: bool,
    /// Many requests share a connection at the same time (HTTP/2, gRPC); requests take the
    /// connections in turn.
    pub multiplex: bool,
    /// Until an attempt counts as failed.
    pub timeout: Duration,
    /// Further attempts after a failed one, unless its cause [is
    /// final](super::tally::Cause::is_final).
    pub retries: u32,
    /// Before the first further attempt; doubled before each one after it.
    pub backoff: Duration,
    /// The longest back-off.
    pub backoff_max: Duration,
    /// Back-off is drawn between 0 and its value (full jitter).
    pub jitter: bool,
    /// Retries are refused when they exceed this many thousandths of the requests (a token bucket
    /// over all clients of a kind); none is no budget.
    pub retry_budget_permille: Option<u32>,
    /// A retry avoids the endpoint that just failed, where there is another. kube-proxy cannot do
    /// that; a client that balances by itself can.
    pub retry_elsewhere: bool,
    /// Connections are closed and made anew after this time.
    pub max_connection_age: Option<Duration>,
    /// Distinct client addresses, for ClientIP affinity: 0 gives every connection its own, 1 is a
    /// network behind one address.
    pub addresses: u32,
}

impl Default for Client {
    fn default() -> Self {
        Client {
            connections: 100,
            keep_alive: true,
            multiplex: false,
            timeout: Duration::from_secs(60),
            retries: 0,
            backoff: Duration::ZERO,
            backoff_max: Duration::from_secs(10),
            jitter: true,
            retry_budget_permille: None,
            retry_elsewhere: false,
            max_connection_age: None,
            addresses: 0,
        }
    }
}

/// How probes are answered.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeModel {
    /// HTTP and gRPC probes queue behind requests and take a place like them.
    pub share: bool,
    /// CPU time of a shared probe's answer.
    pub cpu: Dist,
    /// How long a dedicated probe, and the command of an `exec` probe, takes.
    pub dedicated: Dist,
    /// Readiness probes are answered by making the same calls as requests, and fail when one fails.
    pub readiness_calls: bool,
}

impl Default for ProbeModel {
    fn default() -> Self {
        ProbeModel {
            share: true,
            cpu: Dist::Fixed(Duration::from_micros(200)),
            dedicated: Dist::Fixed(Duration::from_millis(1)),
            readiness_calls: false,
        }
    }
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryModel {
    /// When idle; none is three quarters of the container's request, else of its limit, else
    /// 64 MiB.
    pub base: Option<u64>,
    /// More for each request that is being served or waits.
    pub per_request: u64,
    /// Never given back, for each request served.
    pub leak_per_request: u64,
    /// Never given back, for each second of running.
    pub leak_per_second: u64,
}

/// What a container writes to the disk of its node; nothing of it is given back before the
/// container is gone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DiskModel {
    /// When it starts.
    pub base: u64,
    /// For each request served.
    pub per_request: u64,
    /// For each second of running.
    pub per_second: u64,
    /// The `emptyDir` volume of the pod that it writes to, in memory if that is the volume's medium;
    /// none is the container's own layer.
    pub volume: Option<String>,
}

/// The files that a container makes on the disk of its node, directories among them: each takes an
/// inode. None is given back before the container is gone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FilesModel {
    /// When it starts.
    pub base: u64,
    /// For each request served.
    pub per_request: u64,
    /// For each second of running.
    pub per_second: u64,
}

/// The processes and threads of a container: each takes a process number of its node.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessesModel {
    /// When idle.
    pub base: u64,
    /// More for each request that is being served.
    pub per_request: u64,
    /// Never ending, for each request served.
    pub leak_per_request: u64,
    /// Never ending, for each second of running.
    pub leak_per_second: u64,
}

impl Default for ProcessesModel {
    fn default() -> Self {
        ProcessesModel {
            base: 1,
            per_request: 0,
            leak_per_request: 0,
            leak_per_second: 0,
        }
    }
}

impl Default for MemoryModel {
    fn default() -> Self {
        MemoryModel {
            base: None,
            per_request: 64 << 10,
            leak_per_request: 0,
            leak_per_second: 0,
        }
    }
}

/// A process that ends by itself: a batch job, or a crash.
#[derive(Clone, Debug, PartialEq)]
pub struct ExitModel {
    /// How long it runs.
    pub after: Dist,
    /// Counted from its listening instead of from its start.
    pub from_listening: bool,
    /// Exit code.
    pub code: u8,
}

/// Requests that users send.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Its name; draws are keyed by it.
    pub name: Text,
    /// The namespace in which `to` is read.
    pub namespace: Text,
    /// `service/[ns/]name[:port]`, or `nodePort/[NODE]:PORT`.
    pub to: Text,
    /// The node from which it is sent; none is outside, at the cluster's edge.
    pub from: Option<Text>,
    /// Time between the Traffic's being added and the first stage.
    pub start: Duration,
    /// k6's executor.
    pub executor: Executor,
    /// Exponential times between arrivals of an arrival-rate executor, instead of k6's even ones.
    pub poisson: bool,
    /// What the users' clients do.
    pub client: Client,
}

impl Default for Traffic {
    fn default() -> Self {
        Traffic {
            name: Text::from("traffic"),
            namespace: Text::from("default"),
            to: Text::default(),
            from: None,
            start: Duration::ZERO,
            executor: Executor::ConstantArrivalRate {
                rate: 1,
                time_unit: Duration::from_secs(1),
                duration: Duration::from_secs(60),
            },
            poisson: false,
            client: Client::default(),
        }
    }
}

/// How requests come, in k6's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Executor {
    /// `constant-arrival-rate`.
    ConstantArrivalRate {
        /// Requests for each time unit.
        rate: u64,
        /// `timeUnit`, 1 s by default.
        time_unit: Duration,
        /// How long.
        duration: Duration,
    },
    /// `ramping-arrival-rate`: the rate goes on a straight line to each stage's target.
    RampingArrivalRate {
        /// `startRate`, 0 by default.
        start_rate: u64,
        /// `timeUnit`, 1 s by default.
        time_unit: Duration,
        /// The stages; one of duration 0 is a jump.
        stages: Vec<Stage>,
    },
    /// `constant-vus`: each of so many users sends the next request when the last is answered.
    ConstantVus {
        /// Users.
        vus: u32,
        /// How long.
        duration: Duration,
        /// Pause of a user between an answer and the next request.
        pause: Duration,
    },
}

impl Executor {
    /// So many times as many requests or users.
    pub fn multiply(&mut self, by: u32) {
        let more = u64::from(by);
        match self {
            Executor::ConstantArrivalRate { rate, .. } => *rate *= more,
            Executor::RampingArrivalRate {
                start_rate, stages, ..
            } => {
                *start_rate *= more;
                stages.iter_mut().for_each(|stage| stage.target *= more);
            }
            Executor::ConstantVus { vus, .. } => *vus *= by,
        }
    }
}

/// A stage of `ramping-arrival-rate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// How long it takes.
    pub duration: Duration,
    /// The rate at its end, for each time unit.
    pub target: u64,
}
