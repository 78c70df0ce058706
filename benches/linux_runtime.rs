//! Real containers: starting and stopping them, beside crun where it is installed; a thousand pods;
//! probes. Needs root.
//!
//! Rungs, each with the same program (the host's `sleep`), namespaces and limits: `container`
//! (no network of its own), `netns` (a network namespace with its loopback device), `network` (a
//! pod on a node's network: cable, address, routes), `built-in` (the built-in server on a network).
//! `crun` and `crun-netns` are `crun run -d` and `crun delete -f` of an equal bundle; crun refuses
//! hosts where v1 and v2 are mixed, so it sees the v1 hierarchies alone there. Each container is
//! waited for until its program runs, and each stop until nothing is left; numbers are milliseconds.
//! `probe-http` and `probe-tcp` are asked by the main process, as from a pod's second probe on, and by
//! turns with them `-cell` by the cell, as its first. Beside them is what the kernel alone takes for the
//! like (`support/floors`).

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a benchmark reads clocks and starts processes"
)]

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("skipped: real containers need Linux");
}

#[cfg(target_os = "linux")]
#[path = "../tests/linux/bench.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod bench;
#[cfg(target_os = "linux")]
#[path = "support/floors.rs"]
mod floors;
#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "other benchmarks use more of it")]
mod support;

#[cfg(target_os = "linux")]
fn program() -> std::path::PathBuf {
    env!("CARGO_BIN_EXE_rehearsal").into()
}

#[cfg(target_os = "linux")]
fn main() {
    linux::main();
}

#[cfg(target_os = "linux")]
mod linux {
    use std::net::Ipv4Addr;
    use std::path::{Path, PathBuf};
    use std::process::{Command as Process, Stdio};
    use std::time::{Duration, Instant};

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use rehearsal::backend::linux::net::nft::layout::NodeRules;
    use rehearsal::backend::linux::net::route::Cidr;
    use rehearsal::backend::linux::net::{fabric, network};
    use rehearsal::backend::linux::precedence;
    use rehearsal::backend::linux::prober::Prober;
    use rehearsal::backend::linux::protocol::{
        Ask, Command, ContainerSpec, Limits, NodeSpec, PodSpec, Program, Purpose, Qos, Root, Way,
    };
    use rehearsal::backend::linux::spawn::CellProcess;
    use rehearsal::backend::linux::workload::Workload;
    use rehearsal::engine::Dist;
    use rehearsal::kubelet::RuntimeEvent;
    use rehearsal::kubelet::runtime::{ContainerId, ProbeKind, ProbeOutcome, StartOutcome};
    use rehearsal::load::model::{MemoryModel, OnSigterm};
    use rehearsal::net::topology::Latencies;
    use rehearsal::store::Id;
    use serde_json::{Value, json};

    use crate::bench::Bench;
    use crate::floors;
    use crate::program;
    use crate::support::Args;

    /// Spans of one kind of work.
    struct Spans(Vec<Duration>);

    impl Spans {
        fn of(count: u64, mut work: impl FnMut(u64) -> Duration) -> Spans {
            let mut spans: Vec<Duration> = (0..count).map(&mut work).collect();
            spans.sort();
            Spans(spans)
        }

        fn ms(&self, part: f64) -> f64 {
            let at = (self.0.len() as f64 * part) as usize;
            let span = self.0[at.min(self.0.len() - 1)];
            (span.as_secs_f64() * 1e6).round() / 1e3
        }
    }

    fn say(args: &Args, rung: &str, numbers: Value) {
        if args.json {
            println!("{}", json!({"workload": rung, "params": numbers}));
        } else {
            let empty = serde_json::Map::new();
            let numbers = numbers.as_object().unwrap_or(&empty);
            let numbers = numbers
                .iter()
                .map(|(name, value)| format!("{name} {value}"));
            println!("{rung:<12} {}", numbers.collect::<Vec<_>>().join("  "));
        }
    }

    pub fn main() {
        let args = Args::read();
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: real containers need root");
            return;
        }
        if let Some(folder) = std::env::var_os("REHEARSAL_BENCH_CRUN") {
            return crun(&args, Path::new(&folder));
        }
        if args.wants("floor") {
            floor(&args);
        }
        for rung in ["container", "netns", "network", "built-in"] {
            if args.wants(rung) {
                one_by_one(&args, rung);
            }
        }
        if args.wants("crun") {
            beside(&args);
        }
        if args.wants("thousand") {
            thousand(&args);
        }
        if args.wants("probes") {
            probes(&args);
        }
    }

    /// The address of a pod by its number.
    fn address(node: u32, pod: u32) -> u32 {
        u32::from(Ipv4Addr::new(10, 64, 0, 0)) + (node << 9) + 2 + pod
    }

    /// Node `number`, on the network.
    fn node(bench: &mut Bench, number: u32, networked: bool) {
        let name = format!("node-{number}");
        if networked {
            let spec = fabric::NodeSpec {
                name: name.clone(),
                place: 2 + number,
                zone: String::new(),
                ip: u32::from(Ipv4Addr::new(172, 16, 0, 2)) + number,
                pods: Cidr {
                    ip: address(number, 0) - 2,
                    bits: 23,
                },
            };
            let command = network::Command::Node(spec, NodeRules::default());
            bench.tell(&Command::Net(Box::new(command)));
        }
        bench.tell(&Command::Node(NodeSpec {
            name,
            machine: Limits::default(),
            pods: Limits::default(),
            memory: 1 << 30,
        }));
    }

    fn cell(nodes: u32, networked: bool) -> Bench {
        let cell = CellProcess::start(&program()).expect("a cell");
        // As the main process of a run does.
        precedence::precede();
        let mut bench = Bench::bare(cell);
        if networked {
            bench.tell(&Command::Network(1, Latencies::default()));
        }
        (0..nodes).for_each(|number| node(&mut bench, number, networked));
        bench
    }

    fn sandbox(pod: u32, node: u32, host_network: bool) -> Command {
        Command::Sandbox(Box::new(PodSpec {
            pod,
            attempt: 0,
            node: format!("node-{node}"),
            uid: format!("u{pod}"),
            qos: Qos::Burstable,
            limits: Limits::default(),
            ip: address(node, pod % 500),
            host_network,
            hostname: format!("pod-{pod}"),
            files: Vec::new(),
            empty_dirs: Vec::new(),
        }))
    }

    fn id(pod: u32) -> ContainerId {
        ContainerId {
            pod: Id::new(pod),
            index: 0,
            attempt: 0,
        }
    }

    fn container(bench: &mut Bench, pod: u32, program: Program) -> Command {
        let spec = bench.spec("");
        Command::Start(Box::new(ContainerSpec {
            id: id(pod),
            program,
            mounts: Vec::new(),
            ..spec
        }))
    }

    fn sleeper() -> Program {
        Program::Exec {
            root: Root::Host,
            argv: ["/bin/sleep", "1000"].map(str::to_owned).to_vec(),
            cwd: "/".to_owned(),
        }
    }

    fn server() -> Program {
        let none = Dist::Fixed(Duration::ZERO);
        Program::BuiltIn(Box::new(Workload {
            seed: 1,
            entity: 1,
            who: "default/web".to_owned(),
            control: "web".to_owned(),
            ports: vec![8080],
            startup: Duration::ZERO,
            exit: None,
            on_sigterm: OnSigterm::default(),
            warmup: None,
            cpu: none.clone(),
            wait: None,
            threads: 1,
            cores: 1,
            concurrency: 16,
            queue: 16,
            calls: Vec::new(),
            errors_per_million: 0,
            response_bytes: 0,
            shared_probe: None,
            dedicated_probe: none.clone(),
            readiness: None,
            hook: none,
            memory: MemoryModel {
                base: Some(0),
                ..MemoryModel::default()
            },
            needs: Vec::new(),
            cpu_permille: 1000,
        }))
    }

    fn started(bench: &mut Bench, pod: u32) {
        let outcome = bench.hear(|event| match event {
            RuntimeEvent::Started { container, outcome } if *container == id(pod) => Some(*outcome),
            _ => None,
        });
        assert_eq!(outcome, StartOutcome::Ok, "{:?}", bench.problems);
    }

    fn one_by_one(args: &Args, rung: &str) {
        let networked = matches!(rung, "network" | "built-in");
        let mut bench = cell(1, networked);
        let program = || {
            if rung == "built-in" {
                server()
            } else {
                sleeper()
            }
        };
        let count = args.scaled(500).max(3);
        let mut stops = Vec::new();
        let begun = Instant::now();
        let starts = Spans::of(count, |n| {
            let pod = n as u32;
            let start = Instant::now();
            bench.tell(&sandbox(pod, 0, rung == "container"));
            let command = container(&mut bench, pod, program());
            bench.tell(&command);
            started(&mut bench, pod);
            let stop = Instant::now();
            bench.tell(&Command::Remove(pod));
            bench.hear(|e| matches!(e, RuntimeEvent::Removed { .. }).then_some(()));
            stops.push(stop.elapsed());
            stop - start
        });
        let per_s = count as f64 / begun.elapsed().as_secs_f64();
        stops.sort();
        tell(args, rung, &starts, &Spans(stops), per_s);
    }

    fn tell(args: &Args, rung: &str, starts: &Spans, stops: &Spans, per_s: f64) {
        let numbers = json!({
            "start_min": starts.ms(0.0), "start_p50": starts.ms(0.5),
            "stop_min": stops.ms(0.0), "stop_p50": stops.ms(0.5),
            "per_s": per_s.round(), "count": starts.0.len(),
        });
        say(args, rung, numbers);
    }

    fn thousand(args: &Args) {
        let (nodes, pods) = (20, args.scaled(1000).max(20) as u32);
        let mut bench = cell(nodes, true);
        let begun = Instant::now();
        for pod in 0..pods {
            bench.tell(&sandbox(pod, pod % nodes, false));
            let command = container(&mut bench, pod, server());
            bench.tell(&command);
        }
        let mut up = 0;
        while up < pods {
            bench.hear(|event| match event {
                RuntimeEvent::Started { outcome, .. } => Some(*outcome == StartOutcome::Ok),
                _ => None,
            });
            up += 1;
        }
        let seconds = |span: Duration| (span.as_secs_f64() * 1e3).round() / 1e3;
        let up = seconds(begun.elapsed());
        assert!(bench.problems.is_empty(), "{:?}", bench.problems);
        let begun = Instant::now();
        drop(bench);
        let down = seconds(begun.elapsed());
        say(
            args,
            "thousand",
            json!({"pods": pods, "nodes": nodes, "up_s": up, "down_s": down}),
        );
    }

    fn probes(args: &Args) {
        const TURN: u64 = 50;
        let mut bench = cell(1, true);
        bench.tell(&sandbox(0, 0, false));
        let command = container(&mut bench, 0, server());
        bench.tell(&command);
        started(&mut bench, 0);
        std::thread::sleep(Duration::from_millis(200));
        let to = (address(0, 0), 8080);
        let http = Way::Http {
            to,
            host: "web".to_owned(),
            path: "/".to_owned(),
            headers: Vec::new(),
        };
        let ways = [
            ("http", http),
            ("tcp", Way::Tcp { to }),
            ("exec", Way::Exec(Vec::new())),
        ];
        let mut prober = Prober::new(bench.cell.lines.take().expect("its lines")).expect("epoll");
        let question = |n: u64, way: &Way| Ask {
            container: id(0),
            purpose: Purpose::Probe(ProbeKind::Readiness, n as u8),
            way: way.clone(),
            timeout: Duration::from_secs(1),
        };
        let outcome = |event: &RuntimeEvent| match event {
            RuntimeEvent::Probed { outcome, .. } => Some(*outcome),
            _ => None,
        };
        let through_the_cell = |bench: &mut Bench, n: u64, way: &Way| {
            bench.tell(&Command::Ask(question(n, way)));
            bench.hear(outcome)
        };
        // The first one brings a socket for those that follow.
        let mut ask = |bench: &mut Bench, n: u64, way: &Way| {
            let begun = Instant::now();
            let commands = prober.ask(question(n, way));
            if !commands.is_empty() {
                commands.iter().for_each(|command| bench.tell(command));
                let outcome = bench.hear(outcome);
                return (begun.elapsed(), outcome);
            }
            loop {
                prober.linger();
                if let Some((_, event)) = prober.look().first() {
                    let span = begun.elapsed();
                    // Waiting for the next thing to happen, as a run does from here on.
                    prober.linger();
                    return (span, outcome(event).expect("an answer"));
                }
                let mut fds = [PollFd::new(prober.fd(), PollFlags::POLLIN)];
                poll(&mut fds, PollTimeout::from(100u16)).expect("poll");
            }
        };
        for (name, way) in ways {
            let count = args.scaled(2_000).max(3);
            let (mut own, mut others) = (Vec::new(), Vec::new());
            // By turns, so that both have the same minutes.
            for n in 0..2 * count {
                if (n / TURN).is_multiple_of(2) {
                    let (span, outcome) = ask(&mut bench, n, &way);
                    assert_eq!(outcome, ProbeOutcome::Success, "{name}");
                    own.push(span);
                } else if name != "exec" {
                    let begun = Instant::now();
                    let outcome = through_the_cell(&mut bench, n, &way);
                    assert_eq!(outcome, ProbeOutcome::Success, "{name}");
                    others.push(begun.elapsed());
                }
            }
            for (name, mut spans) in [(name.to_owned(), own), (format!("{name}-cell"), others)] {
                if spans.is_empty() {
                    continue;
                }
                spans.sort();
                let spans = Spans(spans);
                let numbers =
                    json!({"min": spans.ms(0.0), "p50": spans.ms(0.5), "p99": spans.ms(0.99)});
                say(args, &format!("probe-{name}"), numbers);
            }
        }
    }

    /// What the kernel alone takes.
    fn floor(args: &Args) {
        let tell = |name: &str, spans: &Spans| {
            let numbers = json!({
                "min": spans.ms(0.0), "p50": spans.ms(0.5), "p99": spans.ms(0.99),
            });
            say(args, &format!("floor-{name}"), numbers);
        };
        let (some, many) = (args.scaled(500).max(3), args.scaled(2_000).max(3));
        tell("clone", &Spans::of(some, |_| floors::clone()));
        tell("exec", &Spans::of(some, |_| floors::exec()));
        let home = floors::home();
        tell("netns", &Spans::of(some, |_| floors::netns(&home)));
        let server = floors::Server::start();
        tell("http", &Spans::of(many, |_| server.http()));
        tell("tcp", &Spans::of(many, |_| server.tcp()));
        let mut echo = floors::Echo::start();
        tell("wake", &Spans::of(many, |_| echo.turn()));
    }

    /// Runs the rungs of crun in a mount namespace in which it can work.
    fn beside(args: &Args) {
        if Process::new("crun")
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .is_err()
        {
            return say(args, "crun", json!({"skipped": "crun is not installed"}));
        }
        let folder = std::env::temp_dir().join(format!("rehearsal-crun-{}", std::process::id()));
        std::fs::create_dir(&folder).expect("a folder");
        let script = "umount /sys/fs/cgroup/unified 2>/dev/null || :; exec \"$@\"";
        let own = std::env::current_exe().expect("this program");
        let mut command = Process::new("unshare");
        command.args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
        ]);
        command.arg(own).env("REHEARSAL_BENCH_CRUN", &folder);
        command.args((!args.smoke).then_some("--bench"));
        command.args(args.json.then_some("--json"));
        command.args(args.quick.then_some("--quick"));
        let done = command.status();
        // Only what was made here: the bundle's mounts were the child's own.
        let _ = std::fs::remove_dir_all(&folder);
        assert!(done.expect("unshare").success(), "the rungs of crun failed");
    }

    /// A bundle that is what the rung `container` starts.
    fn bundle(folder: &Path, netns: bool) -> Value {
        let root = folder.join("root");
        let mut mounts = vec![
            json!({"destination": "/proc", "type": "proc", "source": "proc"}),
            json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}),
        ];
        let host = ["/usr", "/bin", "/lib", "/lib64", "/etc"];
        for path in host.into_iter().filter(|path| Path::new(path).exists()) {
            let at = root.join(path.trim_start_matches('/'));
            std::fs::create_dir_all(at).expect("a folder");
            mounts.push(json!({
                "destination": path, "type": "bind", "source": path,
                "options": ["rbind", "ro", "nosuid", "nodev"],
            }));
        }
        for name in ["proc", "dev"] {
            std::fs::create_dir_all(root.join(name)).expect("a folder");
        }
        let mut kinds = vec!["pid", "mount", "uts", "ipc", "cgroup"];
        kinds.extend(netns.then_some("network"));
        let kinds: Vec<Value> = kinds.iter().map(|kind| json!({"type": kind})).collect();
        let capabilities = ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["/bin/sleep", "1000"],
                "env": ["PATH=/usr/bin:/bin"], "noNewPrivileges": true,
                "capabilities": {
                    "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
                },
            },
            "root": {"path": root, "readonly": true},
            "hostname": "pod", "mounts": mounts,
            "linux": {
                "cgroupsPath": "/", "namespaces": kinds,
                "resources": {
                    "cpu": {"shares": 512}, "memory": {"limit": 64 << 20}, "pids": {"limit": 32},
                },
            },
        })
    }

    fn crun(args: &Args, folder: &Path) {
        let groups = format!("rehearsal-bench-{}", std::process::id());
        for (rung, netns) in [("crun", false), ("crun-netns", true)] {
            let place: PathBuf = folder.join(rung);
            std::fs::create_dir_all(&place).expect("a folder");
            let mut config = bundle(&place, netns);
            let state = folder.join("state").display().to_string();
            let run = |words: &[&str]| {
                let mut command = Process::new("crun");
                command
                    .args(["--cgroup-manager=cgroupfs", "--root", &state])
                    .args(words);
                command.stdin(Stdio::null()).stdout(Stdio::null());
                let status = command.current_dir(&place).status().expect("crun");
                assert!(status.success(), "crun {words:?}");
            };
            let mut stops = Vec::new();
            let count = args.scaled(100).max(3);
            let begun = Instant::now();
            let starts = Spans::of(count, |n| {
                let name = format!("{rung}-{n}");
                config["linux"]["cgroupsPath"] = json!(format!("/{groups}/{name}"));
                std::fs::write(place.join("config.json"), config.to_string()).expect("a bundle");
                let start = Instant::now();
                run(&["run", "-d", &name]);
                let stop = Instant::now();
                run(&["delete", "-f", &name]);
                stops.push(stop.elapsed());
                stop - start
            });
            let per_s = count as f64 / begun.elapsed().as_secs_f64();
            stops.sort();
            tell(args, rung, &starts, &Spans(stops), per_s);
        }
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten();
        for hierarchy in hierarchies
            .map(|entry| entry.path())
            .chain(["/sys/fs/cgroup".into()])
        {
            // Empty by now; a hierarchy that crun did not use has none.
            let _ = std::fs::remove_dir(hierarchy.join(&groups));
        }
    }
}
