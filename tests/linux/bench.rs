//! A cell with a node and a pod, spoken to as the main process does.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rehearsal::backend::linux::cell::rights::DEFAULT_CAPABILITIES;
use rehearsal::backend::linux::protocol::{
    Command, ContainerSpec, File, Limits, Mount, NodeSpec, PodSpec, Program, Qos, Report, Rights,
    Root, Stamped,
};
use rehearsal::backend::linux::spawn::CellProcess;
use rehearsal::kubelet::RuntimeEvent;
use rehearsal::kubelet::runtime::{ContainerId, StartOutcome};
use rehearsal::store::Id;

use super::program;

/// A cell with one node and one pod.
pub struct Bench {
    /// The cell.
    pub cell: CellProcess,
    attempts: u16,
    /// What it could not do.
    pub problems: Vec<String>,
}

impl Bench {
    pub fn new() -> Bench {
        Bench::of(CellProcess::start(&program()).expect("a cell"))
    }

    /// With a cell that is there already.
    pub fn of(cell: CellProcess) -> Bench {
        let mut bench = Bench::with_node(cell);
        bench.tell(&Bench::sandbox());
        bench.hear(|e| matches!(e, RuntimeEvent::SandboxReady { ok: true, .. }).then_some(()));
        bench
    }

    /// With a cell, a node, and no pod.
    pub fn with_node(cell: CellProcess) -> Bench {
        let mut bench = Bench::bare(cell);
        bench.tell(&Command::Node(NodeSpec {
            name: "n".to_owned(),
            machine: Limits::default(),
            pods: Limits::default(),
            memory: 1 << 30,
        }));
        bench
    }

    /// With a cell in which nothing is.
    pub fn bare(cell: CellProcess) -> Bench {
        Bench {
            cell,
            attempts: 0,
            problems: Vec::new(),
        }
    }

    /// Makes the pod.
    pub fn sandbox() -> Command {
        let file = |path: &str, content: &str| File {
            path: path.to_owned(),
            content: content.as_bytes().to_vec(),
            mode: 0o640,
        };
        Command::Sandbox(Box::new(PodSpec {
            pod: 1,
            attempt: 0,
            node: "n".to_owned(),
            uid: "u1".to_owned(),
            qos: Qos::Burstable,
            limits: Limits::default(),
            ip: 0x0a00_0001,
            host_network: false,
            hostname: "pod-one".to_owned(),
            files: vec![
                file("etc/hosts", "10.0.0.1 pod-one\n"),
                file("volumes/config/key", "value"),
            ],
            empty_dirs: vec![
                ("small".to_owned(), Some(1 << 20), false),
                ("plain".to_owned(), None, false),
            ],
        }))
    }

    pub fn tell(&mut self, command: &Command) {
        self.cell.channel.send(command).expect("sent");
    }

    /// The first event that `wanted` takes, within ten seconds.
    pub fn hear<T>(&mut self, wanted: impl Fn(&RuntimeEvent) -> Option<T>) -> T {
        self.hear_report(|report| match report {
            Report::Event(event) => wanted(event),
            _ => None,
        })
    }

    /// The step at which the cell stands still; none when it removed the pod instead.
    pub fn halted(&mut self) -> Option<String> {
        self.hear_report(|report| match report {
            Report::Halted(step) => Some(Some(step.clone())),
            Report::Event(RuntimeEvent::Removed { .. }) => Some(None),
            _ => None,
        })
    }

    fn hear_report<T>(&mut self, wanted: impl Fn(&Report) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            while let Some(stamped) = self.cell.channel.message::<Stamped>().expect("a frame") {
                if let Some(found) = wanted(&stamped.report) {
                    return found;
                }
                if let Report::Problem(text) = stamped.report {
                    self.problems.push(text);
                }
            }
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "{:?}",
                self.problems
            );
            let waiting = self.cell.channel.waiting();
            let out = if waiting {
                PollFlags::POLLOUT
            } else {
                PollFlags::empty()
            };
            let mut fds = [PollFd::new(
                self.cell.channel.as_fd(),
                PollFlags::POLLIN | out,
            )];
            poll(&mut fds, PollTimeout::from(100u16)).expect("poll");
            self.cell.channel.flush().expect("sent");
            assert!(
                self.cell.channel.receive().expect("received"),
                "{:?}",
                self.problems
            );
        }
    }

    pub fn spec(&mut self, script: &str) -> ContainerSpec {
        let id = ContainerId {
            pod: Id::new(1),
            index: 0,
            attempt: self.attempts,
        };
        self.attempts += 1;
        let mount = |from: &str, to: &str, read_only| Mount {
            from: format!("volumes/{from}"),
            to: to.to_owned(),
            read_only,
        };
        ContainerSpec {
            id,
            name: "test".to_owned(),
            limits: Limits {
                shares: Some(512),
                quota_us: None,
                memory: Some(64 << 20),
                pids: Some(32),
            },
            oom_score_adj: 500,
            program: Program::Exec {
                root: Root::Host,
                argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
                cwd: "/tmp".to_owned(),
            },
            env: vec![("COLOUR".to_owned(), "blue".to_owned())],
            mounts: vec![
                mount("config", "/etc/app", true),
                mount("small", "/small", false),
                mount("plain", "/plain", false),
            ],
            writable: Some(4 << 20),
            rights: Rights {
                capabilities: DEFAULT_CAPABILITIES,
                ..Rights::default()
            },
            stop_signal: 15,
            log: None,
        }
    }

    pub fn start(&mut self, spec: &ContainerSpec) -> StartOutcome {
        self.tell(&Command::Start(Box::new(spec.clone())));
        let id = spec.id;
        self.hear(|event| match event {
            RuntimeEvent::Started { container, outcome } if *container == id => Some(*outcome),
            _ => None,
        })
    }

    pub fn end(&mut self, spec: &ContainerSpec) -> (u8, bool) {
        let id = spec.id;
        self.hear(|event| match event {
            RuntimeEvent::Exited {
                container,
                code,
                oom,
            } if *container == id => Some((*code, *oom)),
            _ => None,
        })
    }

    pub fn run(&mut self, spec: &ContainerSpec) -> (u8, bool) {
        assert_eq!(self.start(spec), StartOutcome::Ok, "{:?}", self.problems);
        self.end(spec)
    }
}
