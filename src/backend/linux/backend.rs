//! The backend of a real run, in the main process: requests become commands for the cell, reports
//! become events, and time is the wall's.
//!
//! An instant of the run is a span since the loop first waited, on the monotonic clock. What the
//! cell reports carries the instant at which it was true; it is journalled by the loop, so that a
//! run can be replayed anywhere. Pulls are waits as long as the simulation draws them: there is no
//! registry.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::attempts::Attempts;
use super::calls::{call_event, usage_events};
use super::clock::{Clock, Doings};
use super::fitting::{fitting, full, least, short_of_cpu, short_of_memory};
use super::layout::{Hierarchies, Layout};
use super::net::network;
use super::net::watch::Watch;
use super::options::LinuxOptions;
use super::plan::Planner;
use super::plan::container::headers;
use super::plan::images::Image;
use super::precedence;
use super::prober::Prober;
use super::protocol::{Command, Purpose, Report, Stamped, StrainSpec, Way};
use super::spawn::CellProcess;
use super::sys;
use super::timings::{LATE, Lag, Timings};
use crate::api::Pod;
use crate::api::pod_status::PodIp;
use crate::backend::sim::{RuntimeLatency, Simulated};
use crate::cluster::{Asked, Cluster, Event, MachineCall, Request};
use crate::engine::{Backend, Draws, Time};
use crate::kubelet::RuntimeEvent;
use crate::kubelet::runtime::{
    Call, ContainerId, Hook, ProbeKind, Signal, StartOutcome, container_of,
};
use crate::net::proxy::ProxyConfig;
use crate::net::topology::Latencies;
use crate::scenario::Scenario;
use indexmap::IndexMap;

mod wait;

/// After so many problems nobody is told at once any more.
const MANY: usize = 20;

/// Real processes on this host.
#[derive(Debug)]
pub struct Linux {
    /// Before the cell: with its sockets it holds namespaces.
    prober: Prober,
    cell: CellProcess,
    planner: Planner,
    pulls: Simulated,
    watch: Watch,
    /// Traffics so far.
    traffics: u32,
    clock: Clock,
    /// How fast the clock may go.
    speed: u32,
    /// What is going on in the cell.
    doings: Doings,
    /// What has failed and is tried again.
    attempts: Attempts,
    /// By how much the run's time is ahead of the wall's.
    ahead: Duration,
    /// What is said later: ends of pulls, and what needs no cell.
    later: BTreeMap<(Time, u64), RuntimeEvent>,
    said: u64,
    lag: Lag,
    timings: Timings,
    lost: BTreeSet<String>,
    tell: fn(&str),
    problems: Vec<String>,
    failed: Option<String>,
}

impl Linux {
    /// Starts a cell for a scenario.
    ///
    /// # Errors
    /// Why this host cannot run it; the text says what to do.
    pub fn start(scenario: &Scenario, options: LinuxOptions) -> Result<Linux, String> {
        let permille = options.cpu_permille.unwrap_or_else(|| fitting(scenario));
        let own = Hierarchies::detect().map_err(|e| format!("cgroups cannot be read: {e}"))?;
        least(&own)?;
        if let Some(folder) = &options.logs {
            std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        let kept: Vec<PathBuf> = options.images.folders().map(PathBuf::from).collect();
        let mut cell = CellProcess::start_beside(&options.program, &kept)?;
        let lines = cell.lines.take().ok_or("the cell lends no sockets")?;
        let prober = Prober::new(lines).map_err(|e| format!("no epoll: {e}"))?;
        let logs = options.logs.and_then(|folder| folder.canonicalize().ok());
        let mut lost: BTreeSet<String> = cell.lost.iter().cloned().collect();
        lost.extend(options.images.notes().iter().cloned());
        lost.extend(short_of_cpu(permille));
        lost.extend(short_of_memory(scenario, &cell.groups));
        let draws = Draws::new(scenario.seed);
        let latencies = Latencies::default();
        let proxy = ProxyConfig {
            min_sync: scenario.cluster.flags.proxy_min_sync_period,
            ..ProxyConfig::default()
        };
        let (watch, first) = Watch::new(scenario.seed, proxy, latencies.clone());
        let mut linux = Linux {
            prober,
            cell,
            watch,
            traffics: 0,
            planner: Planner::new(scenario.seed, permille, logs, options.images),
            pulls: Simulated::new(draws, RuntimeLatency::default()),
            clock: Clock::new(),
            speed: options.speed.max(1),
            doings: Doings::default(),
            attempts: Attempts::default(),
            ahead: Duration::ZERO,
            later: BTreeMap::new(),
            said: 0,
            lag: Lag::default(),
            timings: Timings::default(),
            lost,
            tell: options.tell,
            problems: Vec::new(),
            failed: None,
        };
        linux.planner.users = linux.cell.users.clone();
        if precedence::precede() == precedence::Precedence::Ordinary {
            let lost = "other work of the host may delay the run: neither real-time priority nor a \
                        better nice value is allowed";
            linux.lost.insert(lost.to_owned());
        }
        linux.send(&Command::Network(scenario.seed, latencies));
        linux.net(first);
        Ok(linux)
    }

    /// Tells the network.
    fn net(&mut self, commands: Vec<network::Command>) {
        for command in commands {
            if let network::Command::Services { node, .. } = &command {
                self.timings.syncs(node, sys::monotonic());
            }
            self.send(&Command::Net(Box::new(command)));
        }
    }

    /// The host's cgroup layout.
    pub fn layout(&self) -> Layout {
        self.cell.layout
    }

    /// How long the host took.
    pub fn timings(&self) -> &Timings {
        &self.timings
    }

    /// How late the run was.
    pub fn lag(&self) -> Lag {
        self.lag
    }

    /// What dead runs had left behind, and is gone now.
    pub fn swept(&self) -> super::layout::Swept {
        self.cell.swept
    }

    /// Why the run could not go on, if it could not.
    pub fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Why the initial workloads will never serve, if that is known.
    pub fn stuck(&self) -> Option<String> {
        self.attempts.hopeless()
    }

    /// What the cell could not do as it was asked, in order.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// What this run did not have, for its header.
    pub fn degraded(&self) -> Vec<String> {
        let mut all: Vec<String> = self.lost.union(&self.planner.lost).cloned().collect();
        all.extend(self.watch.lost().map(str::to_owned));
        if self.speed > 1 {
            all.push(format!(
                "clocks: the control plane's went {} times as fast as the wall's while nothing \
                 real went on, {:.1} s of the run in all; processes, probes and sockets had the \
                 wall's",
                self.speed,
                self.ahead.as_secs_f64()
            ));
        }
        all.extend(self.lag.word());
        // What happened again and again is said once.
        let mut times: IndexMap<&str, usize> = IndexMap::new();
        for problem in &self.problems {
            *times.entry(problem).or_default() += 1;
        }
        all.extend(times.iter().take(20).map(|(problem, count)| match count {
            1 => (*problem).to_owned(),
            count => format!("{problem} ({count} times)"),
        }));
        if times.len() > 20 {
            all.push(format!("and {} further problems", times.len() - 20));
        }
        all
    }

    fn now(&mut self) -> Time {
        self.clock.now(sys::monotonic())
    }

    fn send(&mut self, command: &Command) {
        if let Err(error) = self.cell.channel.send(command) {
            self.failed
                .get_or_insert(format!("the cell is gone: {error}"));
        }
    }

    fn say(&mut self, at: Time, event: RuntimeEvent) {
        self.later.insert((at, self.said), event);
        self.said += 1;
    }

    fn asked(&mut self, now: Time, asked: &Asked) {
        let node = &asked.node;
        self.doings.asked(&asked.runtime.what, asked.runtime.node.0);
        self.timings.asked(&asked.runtime.what, sys::monotonic());
        match &asked.runtime.what {
            Call::StartSandbox {
                pod,
                attempt,
                row,
                ip,
            } => {
                self.attempts
                    .begun(pod.0, || row.meta.full_name().to_string());
                self.prober.forget(pod.0);
                if !row.spec.host_network {
                    self.watch.on_sandbox(node, pod.0, row, ip.0);
                }
                let spec = self.planner.sandbox(node, *pod, *attempt, row, *ip);
                self.send(&Command::Sandbox(Box::new(spec)));
            }
            Call::PullImage { .. } => {
                if let Some((after, event)) = self.pulls.answer(asked) {
                    self.say(now + after, event);
                }
            }
            Call::StartContainer { container, row, ip } => {
                self.start_container(now, asked, *container, (row, *ip));
            }
            Call::Signal { container, signal } => {
                self.send(&Command::Signal(*container, *signal == Signal::Kill));
            }
            Call::Probe {
                container,
                which,
                n,
                ..
            } => {
                let seconds = asked.runtime.what.probe().map_or(1, |p| p.timeout_s);
                let timeout = Duration::from_secs(u64::from(seconds.max(1)));
                let purpose = Purpose::Probe(*which, *n as u8);
                self.ask(&asked.runtime.what, *container, purpose, Some(timeout));
            }
            Call::Hook {
                container, hook, ..
            } => self.ask(&asked.runtime.what, *container, Purpose::Hook(*hook), None),
            Call::RemovePod { pod } => {
                self.planner.forget(*pod);
                self.prober.forget(pod.0);
                self.watch.on_removed(pod.0);
                self.send(&Command::Remove(pod.0));
            }
            Call::WatchMemory { floor_kib, .. } => {
                let (number, floor) = (asked.runtime.node.0, u64::from(*floor_kib) << 10);
                self.send(&Command::Watch(node.to_string(), number, floor));
            }
            Call::Stats => {
                let number = asked.runtime.node.0;
                self.send(&Command::Stats(node.to_string(), number));
            }
        }
    }

    fn start_container(
        &mut self,
        now: Time,
        asked: &Asked,
        id: ContainerId,
        (row, ip): (&Arc<Pod>, PodIp),
    ) {
        let node = &asked.node;
        let model = asked.model.clone().unwrap_or_default();
        self.planner.know_senders(&model, &asked.calls);
        let spec = self
            .planner
            .container(node, id, row, ip, &model, asked.idle);
        match spec {
            Ok(spec) => {
                self.doings.starts(id, &spec.program, sys::monotonic());
                self.send(&Command::Start(Box::new(spec)));
            }
            Err(why) => {
                let name = row.meta.full_name();
                self.trouble(format!("container of {name}: {why}"));
                let outcome = StartOutcome::CreateFailed;
                let event = RuntimeEvent::Started {
                    container: id,
                    outcome,
                };
                let at = sys::monotonic();
                self.attempts.heard(&event, at, self.problems.last());
                self.say(now, event);
            }
        }
    }

    fn machine(&mut self, node: &str, what: MachineCall) {
        let name = node.to_owned();
        match what {
            MachineCall::PowerOff => {
                // The cable first, so that nobody hears its processes end.
                let commands = self.watch.on_power(node, false);
                self.net(commands);
                let pods = self.planner.pods_on(node);
                self.doings.dark(&pods);
                pods.iter().for_each(|pod| self.prober.forget(*pod));
                self.send(&Command::PowerOff(name));
            }
            // Its groups are there still; nothing runs in them, and its network is made again.
            MachineCall::PowerOn => {
                let commands = self.watch.on_power(node, true);
                self.net(commands);
            }
            MachineCall::Freeze => self.send(&Command::Freeze(name, true)),
            MachineCall::Thaw => self.send(&Command::Freeze(name, false)),
        }
    }

    fn ask(
        &mut self,
        call: &Call,
        container: ContainerId,
        purpose: Purpose,
        timeout: Option<Duration>,
    ) {
        let (Some(action), Call::Probe { spec, ip, .. } | Call::Hook { spec, ip, .. }) =
            (call.action(), call)
        else {
            return;
        };
        let json = super::plan::container_json(spec, container.index);
        let written = match purpose {
            Purpose::Probe(ProbeKind::Startup, _) => json.get("startupProbe"),
            Purpose::Probe(ProbeKind::Readiness, _) => json.get("readinessProbe"),
            Purpose::Probe(ProbeKind::Liveness, _) => json.get("livenessProbe"),
            Purpose::Hook(Hook::PreStop) => json.get("lifecycle").and_then(|l| l.get("preStop")),
            Purpose::Hook(Hook::PostStart) => {
                json.get("lifecycle").and_then(|l| l.get("postStart"))
            }
        };
        let headers = written.map(headers).unwrap_or_default();
        let image = container_of(spec, container.index).map(|c| self.planner.images.get(&c.image));
        let built_in = image.is_none_or(|image| image == Image::BuiltIn);
        let ask = self.planner.ask(
            container,
            purpose,
            action,
            headers,
            timeout,
            (*ip, built_in),
        );
        if let Purpose::Probe(which, _) = purpose {
            let at = sys::monotonic();
            self.timings.probed(container, which, &ask.way, at);
        }
        if matches!(ask.way, Way::Exec(_)) || self.watch.troubles_everybody(container.pod.0) {
            return self.send(&Command::Ask(ask));
        }
        for command in self.prober.ask(ask) {
            self.send(&command);
        }
    }

    fn heard(&mut self, at: u64, event: RuntimeEvent, inbox: &mut Vec<(Time, Event)>) {
        self.doings.heard(&event);
        self.timings.heard(&event, at);
        self.attempts.heard(&event, at, self.problems.last());
        inbox.push((self.clock.at(at), Event::Runtime(event)));
    }

    /// Takes in what the cell has said, and containers that were asked.
    fn hear(&mut self, inbox: &mut Vec<(Time, Event)>) {
        for (at, event) in self.prober.look() {
            self.heard(at, event, inbox);
        }
        match self.cell.channel.receive() {
            Ok(true) => {}
            Ok(false) => {
                self.failed.get_or_insert("the cell ended".to_owned());
            }
            Err(error) => {
                self.failed
                    .get_or_insert(format!("the cell is gone: {error}"));
            }
        }
        loop {
            match self.cell.channel.message::<Stamped>() {
                Ok(Some(Stamped { at, report })) => match report {
                    Report::Ready | Report::Halted(_) => {}
                    Report::Event(event) => self.heard(at, event, inbox),
                    Report::Net(report) => {
                        if let network::Report::Programmed { node } = &report {
                            self.timings.synced(node, at);
                        }
                        let at = self.clock.at(at);
                        inbox.extend(self.watch.on_report(&report, at));
                    }
                    Report::Calls(told) => {
                        let told = told.iter().map(|one| call_event(*one));
                        let clock = &self.clock;
                        inbox.extend(told.map(|(at, event)| (clock.at(at), event)));
                    }
                    Report::Problem(text) => self.trouble(text),
                    Report::Usage(all) => {
                        let (at, permille) = (self.clock.at(at), self.planner.cpu_permille);
                        let events = all.into_iter().flat_map(|u| usage_events(u, permille));
                        inbox.extend(events.map(|event| (at, event)));
                    }
                },
                Ok(None) => return,
                Err(error) => {
                    self.failed
                        .get_or_insert(format!("the cell is not understood: {error}"));
                    return;
                }
            }
        }
    }

    /// Something could not be done. Where the host has no room for the run, to go on is to wait for
    /// nothing.
    fn trouble(&mut self, text: String) {
        if self.failed.is_none()
            && let Some(why) = full(&self.cell.groups)
        {
            self.failed = Some(format!("{text}; {why}"));
        }
        if self.problems.len() < MANY && !self.problems.contains(&text) {
            (self.tell)(&text);
        }
        self.problems.push(text);
    }

    /// What was to be said by now.
    fn say_due(&mut self, now: Time, inbox: &mut Vec<(Time, Event)>) {
        while let Some((&(at, n), _)) = self.later.first_key_value() {
            if at > now {
                return;
            }
            if let Some(event) = self.later.remove(&(at, n)) {
                inbox.push((at, Event::Runtime(event)));
            }
        }
    }
}

impl Drop for Linux {
    fn drop(&mut self) {
        precedence::be_ordinary();
    }
}

impl Backend<Cluster> for Linux {
    fn submit(&mut self, now: Time, request: Request, _: &mut Vec<(Time, Event)>) {
        match request {
            Request::Runtime(asked) => self.asked(now, &asked),
            Request::Changed(change) => {
                // The network first: nodes and pods live in its namespaces.
                let commands = self.watch.on_change(&change, now);
                self.net(commands);
                let change = self.watch.with_address(change);
                for command in self.planner.learn(&change) {
                    self.send(&command);
                }
            }
            Request::Machine { node, what } => self.machine(&node, what),
            Request::Usage => self.send(&Command::Usage),
            Request::Link { rule, on } => {
                let commands = self.watch.on_link(&rule, on, now);
                self.net(commands);
            }
            Request::Names { rule, on } => {
                let commands = self.watch.on_names(&rule, on);
                self.net(commands);
            }
            Request::Strain { number, load } => {
                let spec = load.map(|(on, load)| StrainSpec {
                    on,
                    workers: load.workers,
                    percent: load.percent,
                    memory: load.memory,
                    permille: self.planner.cpu_permille,
                });
                self.send(&Command::Strain(number, spec));
            }
            Request::Traffic { traffic, epoch } => {
                let (number, zero) = (self.traffics, self.clock.begun());
                self.traffics += 1;
                let commands = self.watch.on_traffic(number, &traffic, epoch, zero);
                self.net(commands);
            }
        }
    }

    fn wait(&mut self, until: Option<Time>, inbox: &mut Vec<(Time, Event)>) -> Option<Time> {
        loop {
            let now = self.now();
            self.hear(inbox);
            self.say_due(now, inbox);
            let commands = self.watch.on_time(now);
            self.net(commands);
            if self.failed.is_some() {
                return None;
            }
            let due = until.is_some_and(|until| until <= now);
            if due && let Some(until) = until {
                let late = now.since(until);
                self.lag.waits += 1;
                self.lag.late += u64::from(late > LATE);
                self.lag.most = self.lag.most.max(late);
            }
            if due || !inbox.is_empty() {
                return Some(now);
            }
            let next = self.later.first_key_value().map(|((at, _), _)| *at);
            let asked = self.prober.due().map(|due| self.clock.at(due));
            let next = until.into_iter().chain(next).chain(asked);
            let next = next.chain(self.watch.due()).min();
            let before = self.said;
            self.pass(next.map(|next| next.since(now)));
            debug_assert_eq!(before, self.said, "waiting says nothing");
            if next.is_some_and(|next| self.now() < next) && self.is_silent() {
                // Interrupted: the loop asks whether to stop.
                return Some(self.now());
            }
        }
    }
}
