//! Containers one at a time, as the cell makes them.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rehearsal::backend::linux::cell::rights::DEFAULT_CAPABILITIES;
use rehearsal::backend::linux::protocol::{
    Ask, Command, ContainerSpec, File, Limits, Mount, NodeSpec, PodSpec, Program, Purpose, Qos,
    Report, Rights, Root, Stamped, Way,
};
use rehearsal::backend::linux::spawn::CellProcess;
use rehearsal::kubelet::RuntimeEvent;
use rehearsal::kubelet::runtime::{ContainerId, ProbeKind, ProbeOutcome, StartOutcome};
use rehearsal::store::Id;

use super::leaks::Inventory;
use super::{alone, possible, program};

/// A cell with one node and one pod.
struct Bench {
    cell: CellProcess,
    attempts: u16,
    problems: Vec<String>,
}

impl Bench {
    fn new() -> Bench {
        let cell = CellProcess::start(&program()).expect("a cell");
        let mut bench = Bench {
            cell,
            attempts: 0,
            problems: Vec::new(),
        };
        bench.tell(&Command::Node(NodeSpec {
            name: "n".to_owned(),
            machine: Limits::default(),
            pods: Limits::default(),
            memory: 1 << 30,
        }));
        let file = |path: &str, content: &str| File {
            path: path.to_owned(),
            content: content.as_bytes().to_vec(),
            mode: 0o640,
        };
        bench.tell(&Command::Sandbox(Box::new(PodSpec {
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
        })));
        bench.hear(|e| matches!(e, RuntimeEvent::SandboxReady { ok: true, .. }).then_some(()));
        bench
    }

    fn tell(&mut self, command: &Command) {
        self.cell.channel.send(command).expect("sent");
    }

    /// The first event that `wanted` takes, within ten seconds.
    fn hear<T>(&mut self, wanted: impl Fn(&RuntimeEvent) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            while let Some(stamped) = self.cell.channel.message::<Stamped>().expect("a frame") {
                match stamped.report {
                    Report::Event(event) => {
                        if let Some(found) = wanted(&event) {
                            return found;
                        }
                    }
                    Report::Problem(text) => self.problems.push(text),
                    Report::Ready | Report::Net(_) => {}
                }
            }
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "{:?}",
                self.problems
            );
            let mut fds = [PollFd::new(self.cell.channel.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(100u16)).expect("poll");
            assert!(
                self.cell.channel.receive().expect("received"),
                "{:?}",
                self.problems
            );
        }
    }

    fn spec(&mut self, script: &str) -> ContainerSpec {
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

    fn start(&mut self, spec: &ContainerSpec) -> StartOutcome {
        self.tell(&Command::Start(Box::new(spec.clone())));
        let id = spec.id;
        self.hear(|event| match event {
            RuntimeEvent::Started { container, outcome } if *container == id => Some(*outcome),
            _ => None,
        })
    }

    fn end(&mut self, spec: &ContainerSpec) -> (u8, bool) {
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

    fn run(&mut self, spec: &ContainerSpec) -> (u8, bool) {
        assert_eq!(self.start(spec), StartOutcome::Ok, "{:?}", self.problems);
        self.end(spec)
    }
}

#[test]
fn a_container_is_what_its_pod_says() {
    if !possible() {
        return;
    }
    let _alone = alone();
    let before = Inventory::take();
    let mut bench = Bench::new();
    // each script's exit code is what is tested
    let table: &[(&str, &str, u8)] = &[
        ("its exit code is told", "exit 7", 7),
        (
            "a missing command is the shell's 127",
            "no-such-command",
            127,
        ),
        ("it is the first process of its namespace", "test $$ = 1", 0),
        (
            "it sees no other process",
            "ls -d /proc/[0-9]* | wc -l | xargs test 5 -gt",
            0,
        ),
        ("it has its pod's name", "test \"$(hostname)\" = pod-one", 0),
        ("it has its environment", "test $COLOUR = blue", 0),
        ("it begins in its folder", "test $PWD = /tmp", 0),
        ("files are there", "test $(cat /etc/app/key) = value", 0),
        (
            "files have their mode",
            "test $(stat -c %a /etc/app/key) = 640",
            0,
        ),
        ("read-only mounts are", "! touch /etc/app/x", 0),
        ("the host's folders are read-only", "! touch /usr/x", 0),
        ("its own root can be written", "touch /x", 0),
        (
            "its root has a limit",
            "! head -c 8000000 /dev/zero > /x",
            0,
        ),
        (
            "a volume is shared and lasting (1)",
            "echo here > /plain/note",
            0,
        ),
        (
            "a volume is shared and lasting (2)",
            "test $(cat /plain/note) = here",
            0,
        ),
        (
            "a volume has its limit",
            "! head -c 2000000 /dev/zero > /small/x",
            0,
        ),
        (
            "it can have no new rights",
            "grep -q 'NoNewPrivs:.1' /proc/self/status",
            0,
        ),
        (
            "its calls are filtered",
            "grep -q 'Seccomp:.2' /proc/self/status",
            0,
        ),
        (
            "its rights are few",
            "grep -q 'CapEff:.00000000a80425fb' /proc/self/status",
            0,
        ),
        (
            "it cannot get more",
            "grep -q 'CapBnd:.00000000a80425fb' /proc/self/status",
            0,
        ),
        ("it cannot mount", "! mount -t tmpfs x /tmp", 0),
        ("it makes no namespaces", "! unshare -U true", 0),
        (
            "kernel memory is hidden",
            "test -z \"$(head -c 1 /proc/kcore)\"",
            0,
        ),
        (
            "settings are read-only",
            "! sh -c 'echo 1 > /proc/sys/vm/drop_caches'",
            0,
        ),
        (
            "it inherits no descriptor",
            "test $(ls /proc/self/fd | wc -l) -le 4",
            0,
        ),
        ("its output goes nowhere", "echo words; echo words >&2", 0),
        (
            "its killers are told",
            "grep -q 500 /proc/self/oom_score_adj",
            0,
        ),
        (
            "only its loopback is there",
            "test $(tail -n +3 /proc/net/dev | wc -l) = 1",
            0,
        ),
        // dash exits with 2 when it cannot fork
        (
            "it has no more processes than its limit",
            "for i in $(seq 64); do sleep 9 & done",
            2,
        ),
    ];
    for (name, script, code) in table {
        let spec = bench.spec(script);
        assert_eq!(bench.run(&spec).0, *code, "{name}: {:?}", bench.problems);
    }
    bench.tell(&Command::Remove(1));
    bench.hear(|event| matches!(event, RuntimeEvent::Removed { .. }).then_some(()));
    drop(bench);
    before.is_back();
}

#[test]
fn ends_are_told_as_they_were() {
    if !possible() {
        return;
    }
    let _alone = alone();
    let mut bench = Bench::new();
    // A first process without a handler does not hear SIGTERM; with one it ends as it likes.
    let spec = bench.spec("trap 'exit 3' TERM; while :; do sleep 0.02; done");
    assert_eq!(bench.start(&spec), StartOutcome::Ok);
    std::thread::sleep(Duration::from_millis(100));
    bench.tell(&Command::Signal(spec.id, false));
    assert_eq!(bench.end(&spec), (3, false));
    let spec = bench.spec("while :; do sleep 0.02; done");
    assert_eq!(bench.start(&spec), StartOutcome::Ok);
    bench.tell(&Command::Signal(spec.id, false));
    std::thread::sleep(Duration::from_millis(100));
    bench.tell(&Command::Signal(spec.id, true));
    assert_eq!(bench.end(&spec), (137, false));
    // 64 MiB is the limit.
    let spec = bench.spec("x=0123456789abcdef; while :; do x=$x$x; done");
    assert_eq!(bench.run(&spec), (137, true));
    let mut spec = bench.spec("");
    if let Program::Exec { argv, .. } = &mut spec.program {
        *argv = vec!["/no/such/program".to_owned()];
    }
    assert_eq!(bench.start(&spec), StartOutcome::RunFailed);
    let said = bench.problems.join("\n");
    assert!(
        said.contains("exec \"/no/such/program\" failed: No such file"),
        "{said}"
    );
    let mut spec = bench.spec("true");
    spec.program = Program::Exec {
        root: Root::Layers(vec!["/no/such/folder".to_owned()]),
        argv: vec!["true".to_owned()],
        cwd: "/".to_owned(),
    };
    assert_eq!(bench.start(&spec), StartOutcome::CreateFailed);
    assert!(bench.problems.join("\n").contains("step overlay failed"));
}

#[test]
fn probes_look_inside() {
    if !possible() {
        return;
    }
    let _alone = alone();
    let mut bench = Bench::new();
    let spec = bench.spec("touch /tmp/ready; exec sleep 30");
    assert_eq!(bench.start(&spec), StartOutcome::Ok);
    std::thread::sleep(Duration::from_millis(200));
    let exec = |script: &str| Way::Exec(["sh", "-c", script].map(str::to_owned).to_vec());
    let tcp = Way::Tcp {
        to: (0x0a00_0001, 81),
    };
    let table = [
        (exec("test -e /tmp/ready"), ProbeOutcome::Success),
        (exec("test -e /tmp/other"), ProbeOutcome::Failure),
        (
            exec("grep -q 'CapEff:.00000000a80425fb' /proc/self/status"),
            ProbeOutcome::Success,
        ),
        (exec("sleep 5"), ProbeOutcome::TimedOut),
        (tcp, ProbeOutcome::Refused),
        (Way::Unsupported("HTTPS".to_owned()), ProbeOutcome::Unknown),
    ];
    for (n, (way, expected)) in (0u8..).zip(table) {
        let text = format!("{way:?}");
        bench.tell(&Command::Ask(Ask {
            container: spec.id,
            purpose: Purpose::Probe(ProbeKind::Readiness, n),
            way,
            timeout: Duration::from_secs(1),
        }));
        let outcome = bench.hear(|event| match event {
            RuntimeEvent::Probed { n: of, outcome, .. } if *of == n => Some(*outcome),
            _ => None,
        });
        assert_eq!(outcome, expected, "{text}: {:?}", bench.problems);
    }
}

#[test]
fn a_frozen_node_stands_still_and_a_dark_one_is_silent() {
    if !possible() {
        return;
    }
    let _alone = alone();
    let mut bench = Bench::new();
    let spec = bench.spec("while :; do sleep 0.01; echo >> /plain/ticks; done");
    assert_eq!(bench.start(&spec), StartOutcome::Ok);
    let frozen = |bench: &mut Bench, frozen| {
        bench.tell(&Command::Freeze("n".to_owned(), frozen));
        std::thread::sleep(Duration::from_millis(50));
    };
    frozen(&mut bench, true);
    let state = |bench: &Bench| {
        let v2 = bench.cell.groups.v2.clone()?;
        std::fs::read_to_string(v2.join("n/cgroup.events")).ok()
    };
    if let Some(events) = state(&bench) {
        assert!(events.contains("frozen 1"), "{events}");
        frozen(&mut bench, false);
        assert!(state(&bench).is_some_and(|events| events.contains("frozen 0")));
    }
    bench.tell(&Command::PowerOff("n".to_owned()));
    // Whatever is told next, it is not the container's end.
    bench.tell(&Command::Stats("n".to_owned(), 5));
    let ended = bench.hear(|event| match event {
        RuntimeEvent::Exited { .. } | RuntimeEvent::Removed { .. } => Some(true),
        RuntimeEvent::NodeMemory { .. } => Some(false),
        _ => None,
    });
    assert!(!ended);
    bench.tell(&Command::Remove(1));
    bench.hear(|event| matches!(event, RuntimeEvent::Removed { .. }).then_some(()));
}
