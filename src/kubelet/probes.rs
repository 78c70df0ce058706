//! Probe workers: when a container is probed, and what its results mean.
//!
//! `pkg/kubelet/prober/worker.go :: doProbe` and `prober_manager.go`, with the results managers
//! folded in: a worker holds the latest result of the container that it knows. Upstream has a
//! goroutine for each worker; here a worker is its next tick and perhaps a probe under way. A tick
//! that comes while a probe is under way is kept, as Go's ticker keeps one.

use std::time::Duration;

use super::agent::Event;
use super::conditions::all_restarting;
use super::host::{Cx, Host};
use super::pod_worker::PodWorker;
use super::runtime::{Call, ContainerId, ProbeKind, ProbeOutcome, container_of};
use crate::api::PodSpec;
use crate::api::pod_status::{ContainerState, ContainerStatus, PodStatus};
use crate::api::probe::{Action, Probe};
use crate::engine::Time;
use crate::engine::draws::{Purpose, entity_key};

const FIRST_PROBE: Purpose = Purpose::new("kubelet/first-probe");
/// `prober_manager.go :: kubeletRestartGracePeriod`.
const RESTART_GRACE: Duration = Duration::from_secs(10);

/// `results.Result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProbeResult {
    Unknown,
    Success,
    Failure,
}

/// One probe of one container.
#[derive(Clone, Debug)]
pub(super) struct ProbeWorker {
    pub(super) index: u16,
    pub(super) which: ProbeKind,
    /// The attempt that it knows.
    attempt: Option<u16>,
    /// The latest result for that attempt.
    result: Option<ProbeResult>,
    /// The outcome last seen, and how often in a row.
    last: Option<ProbeResult>,
    run: u32,
    hold: bool,
    /// It has not begun yet: it waits for a random part of its period.
    asleep: bool,
    /// When the ticker fires next.
    tick: Time,
    /// When the probe under way times out; [`Time::MAX`] when none is.
    deadline: Time,
    /// Probes of this attempt so far.
    n: u32,
    /// A manual run, and a tick, that came while a probe was under way.
    wanted: bool,
    ticked: bool,
}

impl ProbeWorker {
    fn new(index: u16, which: ProbeKind, tick: Time) -> ProbeWorker {
        ProbeWorker {
            index,
            which,
            attempt: None,
            result: None,
            last: None,
            run: 0,
            hold: false,
            asleep: true,
            tick,
            deadline: Time::MAX,
            n: 0,
            wanted: false,
            ticked: false,
        }
    }

    fn spec<'a>(&self, spec: &'a PodSpec) -> Option<&'a Probe> {
        self.which.of(container_of(spec, self.index)?)
    }

    /// The latest result, if it is about this attempt.
    pub(super) fn result_of(&self, attempt: u16) -> Option<ProbeResult> {
        self.result.filter(|_| self.attempt == Some(attempt))
    }
}

/// The worker for a probe, if there is one.
pub(super) fn worker(
    workers: &[ProbeWorker],
    index: usize,
    which: ProbeKind,
) -> Option<&ProbeWorker> {
    workers
        .iter()
        .find(|w| usize::from(w.index) == index && w.which == which)
}

/// The status of the container at `index`, init containers first.
pub(super) fn status_of(
    status: &PodStatus,
    inits: usize,
    index: usize,
) -> Option<&ContainerStatus> {
    match index.checked_sub(inits) {
        Some(main) => status.containers.get(main),
        None => status.init_containers.get(index),
    }
}

/// As [`status_of`], to change.
pub(super) fn status_mut(
    status: &mut PodStatus,
    inits: usize,
    index: usize,
) -> Option<&mut ContainerStatus> {
    match index.checked_sub(inits) {
        Some(main) => status.containers.get_mut(main),
        None => status.init_containers.get_mut(index),
    }
}

/// What a worker does next.
enum Next {
    /// It ends.
    End,
    Wait,
    Probe(u16),
}

impl PodWorker {
    /// `manager.AddPod`: workers for ordinary containers and sidecars. Shortly after the kubelet
    /// started, a worker first waits for a random part of its period.
    ///
    /// Upstream comes here with each sync, and makes new workers in the place of those that ended
    /// with their containers. Such a worker would end at once, unless the container was started
    /// again for another reason than its exit: workers are looked at again after each start.
    pub(super) fn add_probes(&mut self, host: &mut Host, cx: &mut Cx<'_>) {
        if self.probes_added {
            return;
        }
        self.probes_added = true;
        let spec = self.row.spec.clone();
        let inits = spec.init_containers.len();
        let sidecars = (0..inits).filter(|i| spec.init_containers[*i].restart_always);
        for index in (inits..inits + spec.containers.len()).chain(sidecars) {
            let Ok(index) = u16::try_from(index) else {
                continue;
            };
            for which in ProbeKind::ALL {
                let Some(probe) = container_of(&spec, index).and_then(|c| which.of(c)) else {
                    continue;
                };
                if self.probe_at(index, which).is_some() {
                    return;
                }
                let period = Duration::from_secs(probe.period_s.max(1).into());
                let mut first = cx.now;
                if !host.up_for(period, cx.now) {
                    let entity = entity_key(&[&self.row.meta.namespace, &self.row.meta.name]);
                    let n = u64::from(index) << 8 | which as u64;
                    let unit = cx.draws.unit(FIRST_PROBE, entity, n);
                    first += Duration::from_nanos((period.as_nanos() as f64 * unit) as u64);
                }
                self.probes.push(ProbeWorker::new(index, which, first));
                let pod = self.id;
                cx.out.at(first, Event::Probe { pod, index, which });
            }
        }
    }

    /// The ticker of a worker fired.
    pub(super) fn on_probe_tick(
        &mut self,
        host: &mut Host,
        cx: &mut Cx<'_>,
        index: u16,
        which: ProbeKind,
    ) {
        let Some(at) = self
            .probe_at(index, which)
            .filter(|at| self.probes[*at].tick == cx.now)
        else {
            return;
        };
        self.probes[at].asleep = false;
        self.arm_probe_tick(cx, at);
        if self.probes[at].deadline == Time::MAX {
            self.do_probe(host, cx, at);
        } else {
            self.probes[at].ticked = true;
        }
    }

    fn probe_at(&self, index: u16, which: ProbeKind) -> Option<usize> {
        self.probes
            .iter()
            .position(|w| w.index == index && w.which == which)
    }

    fn arm_probe_tick(&mut self, cx: &mut Cx<'_>, at: usize) {
        let worker = &mut self.probes[at];
        let period = worker
            .spec(&self.row.spec)
            .map_or(10, |p| p.period_s.max(1));
        worker.tick = cx.now + Duration::from_secs(period.into());
        let (pod, index, which) = (self.id, worker.index, worker.which);
        cx.out.at(worker.tick, Event::Probe { pod, index, which });
    }

    /// A readiness probe is wanted at once (`manualTriggerCh`): the ticker starts anew.
    pub(super) fn trigger_readiness(&mut self, host: &mut Host, cx: &mut Cx<'_>, index: usize) {
        let Ok(index) = u16::try_from(index) else {
            return;
        };
        let Some(at) = self.probe_at(index, ProbeKind::Readiness) else {
            return;
        };
        if self.probes[at].asleep || self.probes[at].deadline != Time::MAX {
            self.probes[at].wanted = true;
            return;
        }
        self.arm_probe_tick(cx, at);
        self.do_probe(host, cx, at);
    }

    /// `worker.doProbe` up to the probe itself.
    fn do_probe(&mut self, host: &mut Host, cx: &mut Cx<'_>, at: usize) {
        match self.before_probe(host, cx, at) {
            Next::End => {
                self.probes.remove(at);
            }
            Next::Wait => self.next_probe(host, cx, at),
            Next::Probe(attempt) => {
                let worker = &mut self.probes[at];
                let timeout = worker
                    .spec(&self.row.spec)
                    .map_or(1, |p| p.timeout_s.max(1));
                worker.deadline = cx.now + Duration::from_secs(timeout.into());
                let (index, which, n) = (worker.index, worker.which, worker.n);
                worker.n += 1;
                let (pod, deadline) = (self.id, worker.deadline);
                cx.out
                    .at(deadline, Event::ProbeTimeout { pod, index, which });
                let container = ContainerId {
                    pod,
                    index,
                    attempt,
                };
                let what = Call::Probe {
                    container,
                    which,
                    n,
                    spec: self.row.spec.clone(),
                    ip: self.record.ip.unwrap_or_else(|| host.address()),
                };
                host.ask(cx, what);
            }
        }
    }

    fn before_probe(&mut self, host: &mut Host, cx: &mut Cx<'_>, at: usize) -> Next {
        let (index, which) = (self.probes[at].index, self.probes[at].which);
        let inits = self.row.spec.init_containers.len();
        let Some(status) = self.status() else {
            return Next::Wait;
        };
        if status.phase.terminal() {
            return Next::End;
        }
        let Some(container) = status_of(status, inits, usize::from(index)) else {
            return Next::Wait;
        };
        let waiting = matches!(container.state, ContainerState::Waiting { .. });
        if waiting && container.last.is_none() && container.restarts == 0 {
            return Next::Wait;
        }
        let Ok(attempt) = u16::try_from(container.restarts) else {
            return Next::Wait;
        };
        let since = match container.state {
            ContainerState::Running { since } => Some(since),
            _ => None,
        };
        let ended = match &container.state {
            ContainerState::Terminated(end) => Some(end.exit_code),
            _ => None,
        };
        let started = container.started;
        if self.probes[at].attempt != Some(attempt) {
            self.meet_container(host, cx, at, attempt, since, started);
        }
        let worker = &self.probes[at];
        if worker.hold {
            return Next::Wait;
        }
        let spec = self.row.spec.clone();
        let Some(since) = since else {
            self.set_result(host, cx, at, ProbeResult::Failure);
            let over = ended.is_some_and(|code| self.over(index, code));
            return if over { Next::End } else { Next::Wait };
        };
        let delay = worker.spec(&spec).map_or(0, |p| p.initial_delay_s);
        if cx.now.since(since).as_secs() < u64::from(delay) {
            return Next::Wait;
        }
        if started == (which == ProbeKind::Startup) {
            return Next::Wait;
        }
        Next::Probe(attempt)
    }

    /// Whether a container is not started again after it has ended with this code.
    fn over(&self, index: u16, code: i32) -> bool {
        let spec = &self.row.spec;
        let again =
            container_of(spec, index).is_some_and(|c| c.restarts_after(code, spec.restart_policy));
        let status = self.status().unwrap_or(&self.row.status);
        !again && !all_restarting(spec, None, status)
    }

    /// A container that the worker has not seen: its result starts over, except for containers that
    /// ran well before the kubelet started.
    fn meet_container(
        &mut self,
        host: &mut Host,
        cx: &mut Cx<'_>,
        at: usize,
        attempt: u16,
        since: Option<Time>,
        started: bool,
    ) {
        let worker = &mut self.probes[at];
        worker.attempt = Some(attempt);
        worker.result = None;
        worker.n = 0;
        worker.hold = false;
        let which = worker.which;
        let inits = self.row.spec.init_containers.len();
        let sidecar = usize::from(worker.index) < inits;
        let adopted =
            !host.established && since.is_some_and(|since| since + RESTART_GRACE < host.started);
        if sidecar && which == ProbeKind::Startup && started {
            self.set_result(host, cx, at, ProbeResult::Success);
        }
        if !adopted {
            let initial = match which {
                ProbeKind::Startup => ProbeResult::Unknown,
                ProbeKind::Readiness => ProbeResult::Failure,
                ProbeKind::Liveness => ProbeResult::Success,
            };
            self.set_result(host, cx, at, initial);
        }
    }

    /// A probe was answered.
    pub(super) fn on_probed(
        &mut self,
        host: &mut Host,
        cx: &mut Cx<'_>,
        container: ContainerId,
        (which, n): (ProbeKind, u8),
        outcome: ProbeOutcome,
    ) {
        let Some(at) = self.probe_at(container.index, which) else {
            return;
        };
        let worker = &self.probes[at];
        let mine = worker.deadline != Time::MAX
            && worker.attempt == Some(container.attempt)
            && worker.n.wrapping_sub(1) as u8 == n;
        if mine {
            self.after_probe(host, cx, at, outcome);
        }
    }

    /// The time limit of a probe passed.
    pub(super) fn on_probe_timeout(
        &mut self,
        host: &mut Host,
        cx: &mut Cx<'_>,
        index: u16,
        which: ProbeKind,
    ) {
        if let Some(at) = self.probe_at(index, which)
            && self.probes[at].deadline == cx.now
        {
            self.after_probe(host, cx, at, ProbeOutcome::TimedOut);
        }
    }

    /// `worker.doProbe` from the probe's outcome on.
    fn after_probe(&mut self, host: &mut Host, cx: &mut Cx<'_>, at: usize, outcome: ProbeOutcome) {
        self.probes[at].deadline = Time::MAX;
        self.tell_outcome(host, cx, at, outcome);
        let result = match outcome {
            ProbeOutcome::Success => Some(ProbeResult::Success),
            ProbeOutcome::Failure | ProbeOutcome::Refused | ProbeOutcome::TimedOut => {
                Some(ProbeResult::Failure)
            }
            ProbeOutcome::Unknown => None,
        };
        if let Some(result) = result {
            self.count_result(host, cx, at, result);
        }
        self.next_probe(host, cx, at);
    }

    /// `worker.run`'s choice of what is next: a manual run, which starts the ticker anew, or a tick.
    fn next_probe(&mut self, host: &mut Host, cx: &mut Cx<'_>, at: usize) {
        let worker = &mut self.probes[at];
        let ticked = std::mem::take(&mut worker.ticked);
        if std::mem::take(&mut worker.wanted) {
            self.arm_probe_tick(cx, at);
            self.do_probe(host, cx, at);
        } else if ticked {
            self.do_probe(host, cx, at);
        }
    }

    fn count_result(&mut self, host: &mut Host, cx: &mut Cx<'_>, at: usize, result: ProbeResult) {
        let worker = &mut self.probes[at];
        if worker.last == Some(result) {
            worker.run += 1;
        } else {
            worker.last = Some(result);
            worker.run = 1;
        }
        let threshold = worker.spec(&self.row.spec).map_or(1, |p| match result {
            ProbeResult::Success => p.success_threshold,
            _ => p.failure_threshold,
        });
        if worker.run < threshold {
            return;
        }
        self.set_result(host, cx, at, result);
        let worker = &mut self.probes[at];
        let which = worker.which;
        if which == ProbeKind::Startup
            || (which == ProbeKind::Liveness && result == ProbeResult::Failure)
        {
            worker.hold = true;
            worker.run = 0;
        }
    }

    /// `results.Manager.Set` and what the sync loop does with an update.
    fn set_result(&mut self, host: &mut Host, cx: &mut Cx<'_>, at: usize, result: ProbeResult) {
        let worker = &mut self.probes[at];
        if worker.result == Some(result) {
            return;
        }
        worker.result = Some(result);
        let (index, which) = (usize::from(worker.index), worker.which);
        let Some(attempt) = worker.attempt else {
            return;
        };
        let success = result == ProbeResult::Success;
        match which {
            ProbeKind::Liveness if result != ProbeResult::Failure => return,
            ProbeKind::Liveness => {}
            ProbeKind::Readiness => self.set_readiness(host, cx, index, attempt, success),
            ProbeKind::Startup => self.set_startup(host, cx, index, attempt, success),
        }
        if self.in_config {
            self.update(host, cx, None);
        }
    }

    fn tell_outcome(&mut self, host: &mut Host, cx: &mut Cx<'_>, at: usize, outcome: ProbeOutcome) {
        let worker = &self.probes[at];
        let Some(probe) = worker.spec(&self.row.spec) else {
            return;
        };
        let name = worker.which.name();
        let output = match outcome {
            ProbeOutcome::Success => return,
            ProbeOutcome::Unknown => {
                let why = self.why_unknown(worker.index, worker.which, &probe.action);
                let message = format!("{name} probe errored and resulted in unknown state: {why}");
                self.tell(host, cx, true, "Unhealthy", message);
                return;
            }
            outcome => self.probe_output(&probe.action, outcome, probe.timeout_s),
        };
        let message = format!("{name} probe failed: {output}");
        self.tell(host, cx, true, "Unhealthy", message);
    }

    /// Why a probe could not be carried out: a command that cannot be begun, or a port that the
    /// container does not have (`pkg/probe/util.go :: ResolveContainerPort`).
    fn why_unknown(&self, index: u16, which: ProbeKind, action: &Action) -> String {
        let field = match action {
            Action::HttpGet { .. } => "httpGet",
            Action::TcpSocket { .. } => "tcpSocket",
            _ => return "rpc error: code = Unknown desc = failed to exec in container".to_owned(),
        };
        let spec = &self.row.spec;
        let (list, at) = match usize::from(index).checked_sub(spec.init_containers.len()) {
            Some(at) => ("containers", at),
            None => ("initContainers", usize::from(index)),
        };
        let probe = which.name().to_ascii_lowercase();
        let path = format!("/{list}/{at}/{probe}Probe/{field}/port");
        match spec.source.pointer(&path).and_then(|port| port.as_str()) {
            Some(name) => format!("strconv.Atoi: parsing \"{name}\": invalid syntax"),
            None => "invalid port number: 0".to_owned(),
        }
    }

    /// What upstream's probers say about a failure.
    fn probe_output(&self, action: &Action, outcome: ProbeOutcome, timeout_s: u32) -> String {
        let ip = self.record.ip.map(|ip| ip.to_string()).unwrap_or_default();
        match action {
            Action::HttpGet {
                path,
                port,
                https,
                host,
            } => {
                let scheme = if *https { "https" } else { "http" };
                let host = if host.is_empty() { &ip } else { host.as_str() };
                let slash = if path.starts_with('/') { "" } else { "/" };
                match outcome {
                    ProbeOutcome::Refused => format!(
                        "Get \"{scheme}://{host}:{port}{slash}{path}\": dial tcp {host}:{port}: \
                         connect: connection refused"
                    ),
                    ProbeOutcome::TimedOut => format!(
                        "Get \"{scheme}://{host}:{port}{slash}{path}\": context deadline exceeded \
                         (Client.Timeout exceeded while awaiting headers)"
                    ),
                    _ => "HTTP probe failed with statuscode: 503".into(),
                }
            }
            Action::TcpSocket { port } => match outcome {
                ProbeOutcome::TimedOut => format!("dial tcp {ip}:{port}: i/o timeout"),
                _ => format!("dial tcp {ip}:{port}: connect: connection refused"),
            },
            Action::Grpc { port, .. } => match outcome {
                ProbeOutcome::TimedOut => {
                    format!(
                        "timeout: failed to connect service \"{ip}:{port}\" within {timeout_s}s"
                    )
                }
                ProbeOutcome::Refused => format!(
                    "connection error: desc = \"transport: Error while dialing: dial tcp \
                     {ip}:{port}: connect: connection refused\""
                ),
                _ => "service unhealthy (responded with \"NOT_SERVING\")".into(),
            },
            Action::Exec(command) => match outcome {
                ProbeOutcome::TimedOut => format!(
                    "command timed out: \"{}\" timed out after {timeout_s}s",
                    command
                        .iter()
                        .map(|c| c.as_str())
                        .collect::<Vec<_>>()
                        .join(" ")
                ),
                _ => String::new(),
            },
            Action::Sleep(_) => String::new(),
        }
    }

    /// `manager.StopLivenessAndStartup`: of ordinary containers only.
    pub(super) fn stop_liveness_and_startup(&mut self) {
        let inits = self.row.spec.init_containers.len();
        self.probes
            .retain(|w| usize::from(w.index) < inits || w.which == ProbeKind::Readiness);
    }
}
