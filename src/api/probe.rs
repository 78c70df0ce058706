//! Probes and lifecycle hooks of containers.

use super::Text;

/// What a probe or hook does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Run a command in the container.
    Exec(Vec<Text>),
    /// HTTP GET; any status from 200 to 399 is success.
    HttpGet {
        /// Path, `/` by default.
        path: Text,
        /// Resolved port number; 0 when a port name did not resolve.
        port: u16,
        /// `HTTP` or `HTTPS`.
        https: bool,
        /// Host header or address override; empty for the pod's own address.
        host: Text,
    },
    /// Open a TCP connection.
    TcpSocket {
        /// Resolved port number; 0 when a port name did not resolve.
        port: u16,
    },
    /// gRPC health check.
    Grpc {
        /// Port number.
        port: u16,
        /// Service name sent in the request.
        service: Text,
    },
    /// Wait this many seconds (lifecycle hooks only).
    Sleep(u32),
}

/// A probe with upstream's defaults filled in; all times in seconds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Probe {
    /// What it does.
    pub action: Action,
    /// Seconds after the container started before the first probe.
    pub initial_delay_s: u32,
    /// Seconds between probes (default 10).
    pub period_s: u32,
    /// Seconds until a probe counts as failed (default 1).
    pub timeout_s: u32,
    /// Consecutive successes needed (default 1).
    pub success_threshold: u32,
    /// Consecutive failures needed (default 3).
    pub failure_threshold: u32,
    /// Overrides the pod's grace period for a liveness or startup kill.
    pub termination_grace_s: Option<u32>,
}
