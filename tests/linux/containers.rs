//! Containers one at a time, as the cell makes them.

use std::time::Duration;

use rehearsal::backend::linux::protocol::{Ask, Command, Program, Purpose, Root, Way};
use rehearsal::kubelet::RuntimeEvent;
use rehearsal::kubelet::runtime::{ContainerId, ProbeKind, ProbeOutcome, StartOutcome};

use super::bench::Bench;
use super::inventory::Inventory;
use super::{alone, possible};

#[test]
fn a_container_is_what_its_pod_says() {
    if !possible() {
        return;
    }
    let _alone = alone();
    let before = Inventory::take();
    let mut bench = Bench::new();
    // The cell has none: a program has what this process has.
    let status = std::fs::read_to_string("/proc/self/status").expect("its own status");
    let huge = status.lines().find(|line| line.starts_with("THP_enabled"));
    let huge = format!(
        "test \"$(grep THP_enabled /proc/self/status)\" = '{}'",
        huge.unwrap_or_default()
    );
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
        ("it may have huge pages", &huge, 0),
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

/// Waits until a container has made a file.
fn wait_for(bench: &mut Bench, container: ContainerId, file: &str) {
    for _ in 0..200 {
        bench.tell(&Command::Ask(Ask {
            container,
            purpose: Purpose::Probe(ProbeKind::Startup, 0),
            way: Way::Exec(["test", "-e", file].map(str::to_owned).to_vec()),
            timeout: Duration::from_secs(5),
        }));
        let outcome = bench.hear(|event| match event {
            RuntimeEvent::Probed { outcome, .. } => Some(*outcome),
            _ => None,
        });
        if outcome == ProbeOutcome::Success {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("no {file}: {:?}", bench.problems);
}

#[test]
fn ends_are_told_as_they_were() {
    if !possible() {
        return;
    }
    let _alone = alone();
    let mut bench = Bench::new();
    // A first process without a handler does not hear SIGTERM; with one it ends as it likes.
    let spec = bench.spec("trap 'exit 3' TERM; touch /plain/on; while :; do sleep 0.02; done");
    assert_eq!(bench.start(&spec), StartOutcome::Ok);
    wait_for(&mut bench, spec.id, "/plain/on");
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
    let said = bench.problems.join("\n");
    assert!(said.contains("step layer /no/such/folder failed"), "{said}");
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
    wait_for(&mut bench, spec.id, "/tmp/ready");
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
