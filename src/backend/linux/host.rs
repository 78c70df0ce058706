//! What of real mode works on this host: each feature is tried, in a cell made for it.
//!
//! Nothing is concluded from versions: a kernel may lack an option and a container may lack a
//! right.

use std::time::{Duration, Instant};

use super::layout::{Hierarchies, Layout};
use super::net::fault::Trouble;
use super::net::nft::layout::NodeRules;
use super::net::route::Cidr;
use super::net::{fabric, network};
use super::protocol::{
    Ask, Command, ContainerSpec, Limits, NodeSpec, PodSpec, Program, Purpose, Qos, Report, Rights,
    Root, Stamped, Way,
};
use super::spawn::{CellProcess, own_program};
use super::users::Users;
use crate::kubelet::RuntimeEvent;
use crate::kubelet::runtime::{ContainerId, ProbeKind, ProbeOutcome, StartOutcome};
use crate::net::topology::Latencies;
use crate::store::Id;

/// How a feature did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    /// It works.
    Works,
    /// A run is possible without it; the third column says what is lost.
    Degraded,
    /// No run is possible without it.
    Missing,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was tried.
    pub feature: &'static str,
    /// How it did.
    pub grade: Grade,
    /// What was seen, or what is lost and how to get it.
    pub detail: String,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// The table.
    pub rows: Vec<Row>,
}

impl Checked {
    /// Whether real runs are possible.
    pub fn usable(&self) -> bool {
        self.rows.iter().all(|row| row.grade != Grade::Missing)
    }

    /// As text.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let grade = match row.grade {
                Grade::Works => "ok",
                Grade::Degraded => "degraded",
                Grade::Missing => "MISSING",
            };
            text.push_str(&format!("{:<22} {grade:<9} {}\n", row.feature, row.detail));
        }
        let verdict = match self.usable() {
            true => "real runs work here",
            false => "real runs do not work here; --backend sim does",
        };
        text + verdict + "\n"
    }

    fn add(&mut self, feature: &'static str, grade: Grade, detail: impl Into<String>) {
        let detail = detail.into();
        self.rows.push(Row {
            feature,
            grade,
            detail,
        });
    }
}

const POD: u32 = 0;
const NODE: &str = "check";
const PATIENCE: Duration = Duration::from_secs(5);

/// Tries everything.
pub fn check_host() -> Checked {
    let mut checked = Checked::default();
    match Hierarchies::detect() {
        Ok(own) => {
            let layout = own.layout();
            let grade = match layout {
                Layout::Unified | Layout::Hybrid => Grade::Works,
                Layout::Legacy | Layout::Missing => Grade::Degraded,
            };
            checked.add("cgroup layout", grade, layout.name());
        }
        Err(error) => checked.add("cgroup layout", Grade::Missing, error.to_string()),
    }
    let cell = match CellProcess::start(&own_program()) {
        Ok(cell) => cell,
        Err(why) => {
            checked.add("cell", Grade::Missing, why);
            return checked;
        }
    };
    checked.add(
        "cell",
        Grade::Works,
        "private PID, mount, network, UTS, IPC, cgroup namespaces",
    );
    let without_root = cell.users.as_ref().map(Users::lost);
    for lost in &cell.lost {
        let feature = match without_root.as_ref() == Some(lost) {
            true => "user namespace",
            false => "cgroups",
        };
        checked.add(feature, Grade::Degraded, lost.clone());
    }
    let mut trial = Trial {
        cell,
        problems: Vec::new(),
    };
    trial.network(&mut checked);
    trial.pod(&mut checked);
    trial.containers(&mut checked);
    trial.rest(&mut checked);
    for problem in trial.problems {
        checked.add("limits", Grade::Degraded, problem);
    }
    checked
}

struct Trial {
    cell: CellProcess,
    problems: Vec<String>,
}

fn container(attempt: u16, memory: Option<u64>, command: &str) -> Box<ContainerSpec> {
    Box::new(ContainerSpec {
        id: ContainerId {
            pod: Id::new(POD),
            index: 0,
            attempt,
        },
        name: format!("check-{attempt}"),
        limits: Limits {
            shares: Some(102),
            quota_us: Some(50_000),
            memory,
            pids: Some(64),
        },
        oom_score_adj: 1000,
        program: Program::Exec {
            root: Root::Host,
            argv: ["/bin/sh", "-c", command].map(str::to_owned).to_vec(),
            cwd: "/".to_owned(),
        },
        env: Vec::new(),
        mounts: Vec::new(),
        writable: Some(16 << 20),
        rights: Rights::default(),
        stop_signal: nix::libc::SIGTERM,
        log: None,
    })
}

impl Trial {
    /// Sends a command and waits for the first event that `wanted` takes.
    fn ask<T>(
        &mut self,
        command: &Command,
        wanted: impl Fn(&RuntimeEvent) -> Option<T>,
    ) -> Result<T, String> {
        self.cell.channel.send(command).map_err(|e| e.to_string())?;
        self.hear(wanted)
    }

    fn hear<T>(&mut self, wanted: impl Fn(&RuntimeEvent) -> Option<T>) -> Result<T, String> {
        self.hear_report(|report| match report {
            Report::Event(event) => wanted(event),
            _ => None,
        })
    }

    fn hear_report<T>(&mut self, wanted: impl Fn(&Report) -> Option<T>) -> Result<T, String> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        let begun = Instant::now();
        let before = self.problems.len();
        loop {
            while let Some(stamped) = self
                .cell
                .channel
                .message::<Stamped>()
                .map_err(|e| e.to_string())?
            {
                if let Report::Problem(text) = &stamped.report {
                    self.problems.push(text.clone());
                }
                if let Some(found) = wanted(&stamped.report) {
                    return Ok(found);
                }
            }
            if begun.elapsed() > PATIENCE {
                let why = self.problems.get(before..).and_then(<[String]>::last);
                return Err(why
                    .map_or("no answer within 5 s", String::as_str)
                    .to_owned());
            }
            let mut fds = [PollFd::new(self.cell.channel.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(100u16)).map_err(|e| e.to_string())?;
            if !self.cell.channel.receive().map_err(|e| e.to_string())? {
                return Err("the cell ended".to_owned());
            }
        }
    }

    /// A node's network with a wire and filters.
    fn network(&mut self, checked: &mut Checked) {
        let spec = fabric::NodeSpec {
            name: NODE.to_owned(),
            place: 2,
            zone: String::new(),
            ip: u32::from(std::net::Ipv4Addr::new(172, 16, 0, 1)),
            pods: Cidr {
                ip: u32::from(std::net::Ipv4Addr::new(10, 0, 0, 0)),
                bits: 23,
            },
        };
        let node = network::Command::Node(spec, NodeRules::default());
        let answer = self.programmed(vec![
            Command::Network(0, Latencies::default()),
            Command::Net(Box::new(node)),
        ]);
        let feature = "network";
        match answer {
            Ok(()) => {
                let detail = "namespaces, the wire over TUN links, Services by nf_tables";
                checked.add(feature, Grade::Works, detail);
            }
            Err(why) => {
                // It is said here, and not once more among what comes at the end.
                self.problems.retain(|problem| *problem != why);
                checked.add(feature, Grade::Degraded, why);
            }
        }
    }

    /// Sends commands of the network, and waits until the node's rules are in force after them.
    fn programmed(&mut self, mut commands: Vec<Command>) -> Result<(), String> {
        let services = network::Command::Services {
            node: NODE.to_owned(),
            put: Vec::new(),
            gone: Vec::new(),
        };
        commands.push(Command::Net(Box::new(services)));
        for command in &commands {
            let sent = self.cell.channel.send(command);
            sent.map_err(|error| error.to_string())?;
        }
        self.hear_report(|report| match report {
            Report::Net(network::Report::Programmed { .. }) => Some(Ok(())),
            Report::Net(network::Report::Problem(text)) | Report::Problem(text) => {
                Some(Err(text.clone()))
            }
            _ => None,
        })?
    }

    fn pod(&mut self, checked: &mut Checked) {
        let node = Command::Node(NodeSpec {
            name: NODE.to_owned(),
            machine: Limits {
                quota_us: Some(100_000),
                memory: Some(1 << 30),
                ..Limits::default()
            },
            pods: Limits {
                shares: Some(1024),
                ..Limits::default()
            },
            memory: 1 << 30,
        });
        let sandbox = Command::Sandbox(Box::new(PodSpec {
            pod: POD,
            attempt: 0,
            node: NODE.to_owned(),
            uid: "check".to_owned(),
            qos: Qos::Burstable,
            limits: Limits::default(),
            ip: u32::from(std::net::Ipv4Addr::new(10, 0, 0, 1)),
            host_network: false,
            hostname: "check".to_owned(),
            files: Vec::new(),
            empty_dirs: vec![("memory".to_owned(), Some(1 << 20), true)],
        }));
        let made = self.cell.channel.send(&node).map_err(|e| e.to_string());
        let made = made.and_then(|()| {
            self.ask(&sandbox, |event| match event {
                RuntimeEvent::SandboxReady { ok, .. } => Some(*ok),
                _ => None,
            })
        });
        match made {
            Ok(true) => {
                checked.add("pod sandbox", Grade::Works, "groups, network, volumes");
                self.detours(checked);
            }
            Ok(false) => {
                let why = self.problems.pop().unwrap_or_default();
                checked.add("pod sandbox", Grade::Missing, why);
            }
            Err(why) => checked.add("pod sandbox", Grade::Missing, why),
        }
    }

    /// Packets between pods of one node on the wire: a TAP link, routes by where a packet comes from,
    /// packets that are not tracked.
    fn detours(&mut self, checked: &mut Checked) {
        let within = Trouble::Within {
            node: NODE.to_owned(),
            pairs: vec![(None, None)],
        };
        let commands = [
            network::Command::Trouble(0, within),
            network::Command::Calm(0),
        ];
        let commands = commands.into_iter().map(|c| Command::Net(Box::new(c)));
        let before = self.problems.len();
        let answer = self.programmed(commands.collect());
        let feature = "faults within a node";
        match answer {
            Ok(()) => {
                let detail = "packets between pods of one node take the wire, too";
                checked.add(feature, Grade::Works, detail);
            }
            Err(why) => {
                self.problems.truncate(before);
                let detail = format!("not felt between pods of one node: {why}");
                checked.add(feature, Grade::Degraded, detail);
            }
        }
    }

    /// Starts a container and says how it went.
    fn start(&mut self, spec: Box<ContainerSpec>) -> Result<(), String> {
        let outcome = self.ask(&Command::Start(spec), |event| match event {
            RuntimeEvent::Started { outcome, .. } => Some(*outcome),
            _ => None,
        })?;
        match outcome {
            StartOutcome::Ok => Ok(()),
            _ => Err(self.problems.pop().unwrap_or_default()),
        }
    }

    fn end(&mut self) -> Result<(u8, bool), String> {
        self.hear(|event| match event {
            RuntimeEvent::Exited { code, oom, .. } => Some((*code, *oom)),
            _ => None,
        })
    }

    fn containers(&mut self, checked: &mut Checked) {
        let begun = Instant::now();
        match self
            .start(container(0, None, "exit 7"))
            .and_then(|()| self.end())
        {
            Ok((7, false)) => {
                let detail = format!("started, ended and reaped in {:?}", begun.elapsed());
                checked.add("container", Grade::Works, detail);
            }
            other => checked.add("container", Grade::Missing, format!("{other:?}")),
        }
        self.memory(checked);
        if let Err(why) = self.start(container(2, None, "exec sleep 60")) {
            return checked.add("long container", Grade::Missing, why);
        }
        let ask = Command::Ask(Ask {
            container: ContainerId {
                pod: Id::new(POD),
                index: 0,
                attempt: 2,
            },
            purpose: Purpose::Probe(ProbeKind::Liveness, 0),
            way: Way::Exec(
                ["/bin/sh", "-c", "test -d /proc/1"]
                    .map(str::to_owned)
                    .to_vec(),
            ),
            timeout: Duration::from_secs(2),
        });
        let probed = self.ask(&ask, |event| match event {
            RuntimeEvent::Probed { outcome, .. } => Some(*outcome),
            _ => None,
        });
        match probed {
            Ok(ProbeOutcome::Success) => checked.add("exec probe", Grade::Works, ""),
            other => checked.add("exec probe", Grade::Degraded, format!("{other:?}")),
        }
    }

    /// A container that wants more memory than it may have.
    fn memory(&mut self, checked: &mut Checked) {
        let feature = "memory limit";
        if !self.cell.groups.controls("memory") {
            // The host's memory is not to be eaten.
            let detail = "there is no cgroup for it: OOM faults do not work";
            return checked.add(feature, Grade::Degraded, detail);
        }
        // The shell's text grows until the kernel ends it.
        let eat = "x=0123456789abcdef; while :; do x=$x$x; done";
        let started = self.start(container(1, Some(32 << 20), eat));
        match started.and_then(|()| self.end()) {
            Ok((137, true)) => checked.add(feature, Grade::Works, "OOMKilled is seen"),
            Ok((code, _)) => {
                let detail = format!("ended with {code}: OOM faults do not work");
                checked.add(feature, Grade::Degraded, detail);
            }
            Err(why) => {
                let detail = format!("OOM faults do not work: {why}");
                checked.add(feature, Grade::Degraded, detail);
            }
        }
    }

    fn rest(&mut self, checked: &mut Checked) {
        let freeze = |frozen| Command::Freeze(NODE.to_owned(), frozen);
        let frozen = self.cell.channel.send(&freeze(true));
        let thawed = frozen.and_then(|()| self.cell.channel.send(&freeze(false)));
        let remove = self.ask(&Command::Remove(POD), |event| match event {
            RuntimeEvent::Removed { .. } => Some(()),
            _ => None,
        });
        let frozen = !self.problems.iter().any(|p| p.contains("freeze"));
        match frozen && thawed.is_ok() {
            true => checked.add("freezing a node", Grade::Works, ""),
            false => checked.add("freezing a node", Grade::Degraded, "needs cgroup v2"),
        }
        match remove {
            Ok(()) => checked.add("removing a pod", Grade::Works, ""),
            Err(why) => checked.add("removing a pod", Grade::Missing, why),
        }
    }
}
