//! The same bundle under crun and here: what a container sees of its rights, mounts and
//! namespaces, what its groups say, how it ends.
//!
//! Runs where crun is installed. On hosts where v1 and v2 are mixed crun refuses to run, so it sees
//! the v1 hierarchies alone there, in a mount namespace of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Output, Stdio};

use rehearsal::backend::linux::layout::Layout;
use rehearsal::backend::linux::protocol::{Command, ContainerSpec};
use rehearsal::kubelet::RuntimeEvent;
use serde_json::{Value, json};

use super::bench::Bench;
use super::{alone, possible};

/// The default set, by name.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SYS_CHROOT",
    "CAP_MKNOD",
    "CAP_AUDIT_WRITE",
    "CAP_SETFCAP",
];

/// What the kubelet asks to be hidden.
const MASKED: [&str; 9] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
];

/// What the kubelet asks to be read-only.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// A bundle and a state folder of crun's.
struct Crun {
    folder: PathBuf,
    group: String,
}

impl Crun {
    fn new() -> Option<Crun> {
        let known = Process::new("crun")
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        if known.is_err() {
            println!("skipped: crun is not installed");
            return None;
        }
        let name = format!("rehearsal-crun-{}", std::process::id());
        let folder = std::env::temp_dir().join(&name);
        fs::create_dir_all(folder.join("root")).expect("a folder");
        Some(Crun {
            folder,
            group: name,
        })
    }

    fn bundle(&self, script: &str, limits: &ContainerSpec) {
        let root = self.folder.join("root");
        let mount = |at: &str, kind: &str, options: &[&str]| {
            fs::create_dir_all(root.join(at.trim_start_matches('/'))).expect("a folder");
            json!({"destination": at, "type": kind, "source": kind, "options": options})
        };
        let plain = ["nosuid", "noexec", "nodev"];
        let with = |more: &[&'static str]| [plain.as_slice(), more].concat();
        let mut mounts = vec![
            mount("/proc", "proc", &plain),
            mount("/sys", "sysfs", &with(&["ro"])),
            mount("/dev", "tmpfs", &["nosuid", "mode=755", "size=65536k"]),
            mount(
                "/dev/pts",
                "devpts",
                &[
                    "nosuid",
                    "noexec",
                    "newinstance",
                    "ptmxmode=0666",
                    "mode=0620",
                ],
            ),
            mount("/dev/shm", "tmpfs", &with(&["mode=1777", "size=65536k"])),
            mount("/tmp", "tmpfs", &["mode=1777"]),
        ];
        let host = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc"];
        for path in host.into_iter().filter(|path| Path::new(path).exists()) {
            fs::create_dir_all(root.join(path.trim_start_matches('/'))).expect("a folder");
            mounts.push(json!({
                "destination": path, "type": "bind", "source": path,
                "options": ["rbind", "ro", "nosuid", "nodev"],
            }));
        }
        let kinds = ["pid", "mount", "uts", "ipc", "cgroup", "network"];
        let kinds: Vec<Value> = kinds.iter().map(|kind| json!({"type": kind})).collect();
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0}, "cwd": "/tmp", "args": ["/bin/sh", "-c", script],
                "env": ["PATH=/usr/bin:/bin"], "noNewPrivileges": true,
                "oomScoreAdj": limits.oom_score_adj,
                "capabilities": {
                    "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
                },
            },
            "root": {"path": root, "readonly": false},
            "hostname": "pod-one", "mounts": mounts,
            "linux": {
                "cgroupsPath": format!("/{}", self.group), "namespaces": kinds,
                "maskedPaths": MASKED, "readonlyPaths": READ_ONLY,
                "seccomp": {
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{"names": ["mount", "ptrace", "bpf"], "action": "SCMP_ACT_ERRNO"}],
                },
                "resources": {
                    "cpu": {"shares": limits.limits.shares, "quota": limits.limits.quota_us, "period": 100_000},
                    "memory": {"limit": limits.limits.memory},
                    "pids": {"limit": limits.limits.pids},
                },
            },
        });
        fs::write(self.folder.join("config.json"), config.to_string()).expect("a bundle");
    }

    /// Runs crun where it can work.
    fn call(&self, words: &[&str]) -> Output {
        let script = "umount /sys/fs/cgroup/unified 2>/dev/null || :; exec crun \"$@\"";
        let state = self.folder.join("state").display().to_string();
        Process::new("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                script,
                "sh",
            ])
            .args(["--cgroup-manager=cgroupfs", "--root", &state])
            .args(words)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .output()
            .expect("unshare")
    }
}

impl Drop for Crun {
    fn drop(&mut self) {
        let _ = self.call(&["delete", "-f", "one"]);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Prints what a container is, a fact on each line. (Devices under crun are files in /dev, which the
/// devices cgroup watches; here they are mounts, and /dev holds none of its own.)
const FACTS: &str = "\
grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp|SigBlk):' /proc/self/status | tr -d '\\t'
echo ignored of the first sixteen $(sed -n 's/^SigIgn:.*\\(....\\)$/\\1/p' /proc/self/status)
grep -E '^(Uid|Gid|Groups):' /proc/self/status | tr -s '\\t ' ' '
echo oom $(cat /proc/self/oom_score_adj)
echo host $(hostname)
echo processes $(ls -d /proc/[0-9]* | grep -cx /proc/1)
echo devices $(ls /dev | grep -v -e core -e console | sort | tr '\\n' ' ')
for path in /proc /sys /dev /dev/pts /dev/shm; do
  line=$(awk -v p=$path '$5 == p' /proc/self/mountinfo)
  echo mount $path $(echo \"$line\" | sed 's/.* - //' | cut -d' ' -f1) \
    $(echo \"$line\" | cut -d' ' -f6 | tr ',' '\\n' | grep -e ^r -e no | grep -v -e relatime -e noatime -e no${path#/} | sort | tr '\\n' ' ')
done
for path in /proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger; do
  test -e $path && echo read-only $path $(grep -c \" $path .*ro\" /proc/self/mountinfo)
done
for path in /proc/kcore /proc/keys /proc/timer_list; do
  test -e $path && echo hidden $path $(head -c 9 $path | wc -c)
done
test -d /sys/firmware && echo firmware $(ls /sys/firmware | wc -l)
for kind in pid mnt uts ipc cgroup net user; do echo namespace $kind $(readlink /proc/self/ns/$kind); done
mount -t tmpfs x /tmp 2>/dev/null && echo may mount || echo may not mount
";

/// The lines of a log without time and stream.
fn lines_of(log: &Path) -> String {
    let text = fs::read_to_string(log).expect("a log");
    let lines = text.lines().filter_map(|line| line.splitn(4, ' ').nth(3));
    lines.collect::<Vec<_>>().join("\n")
}

/// Facts by line; a namespace is the host's, or another one.
fn facts(text: &str) -> BTreeSet<String> {
    let fact = |line: &str| {
        let line = line.trim_end();
        let Some((kind, link)) = line
            .strip_prefix("namespace ")
            .and_then(|l| l.split_once(' '))
        else {
            return line.to_owned();
        };
        let host = fs::read_link(format!("/proc/self/ns/{kind}")).expect("/proc");
        let whose = if host == Path::new(link) {
            "the host's"
        } else {
            "its own"
        };
        format!("namespace {kind} {whose}")
    };
    text.lines().map(fact).collect()
}

#[test]
fn a_container_is_what_it_is_under_crun() {
    if !possible() {
        return;
    }
    let _alone = alone();
    let Some(crun) = Crun::new() else {
        return;
    };
    let mut bench = Bench::new();
    let log = crun.folder.join("own.log");
    let mut spec = bench.spec(FACTS);
    spec.mounts.clear();
    spec.env = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
    spec.limits.quota_us = Some(50_000);
    spec.log = log.to_str().map(str::to_owned);
    crun.bundle(FACTS, &spec);
    let output = crun.call(&["run", "one"]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let theirs = String::from_utf8_lossy(&output.stdout).into_owned();
    let theirs = facts(&theirs);
    assert_eq!(bench.run(&spec).0, 0, "{:?}", bench.problems);
    // The last lines of a pipe are read when its writer is gone.
    bench.tell(&Command::Stats("n".to_owned(), 0));
    bench.hear(|e| matches!(e, RuntimeEvent::NodeMemory { .. }).then_some(()));
    let ours = facts(&lines_of(&log));
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| -> Vec<String> {
        a.difference(b).cloned().collect()
    };
    assert_eq!(
        only(&ours, &theirs),
        only(&theirs, &ours),
        "here, and under crun"
    );
    assert!(ours.len() > 25, "{ours:?}");
}

#[test]
fn groups_and_ends_are_what_they_are_under_crun() {
    if !possible() {
        return;
    }
    let _alone = alone();
    let Some(crun) = Crun::new() else {
        return;
    };
    let mut bench = Bench::new();
    let mut spec = bench.spec("exec sleep 60");
    spec.limits.quota_us = Some(50_000);
    crun.bundle("exec sleep 60", &spec);
    let output = crun.call(&["run", "-d", "one"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    bench.start(&spec);
    let name = format!("{}-{}", spec.id.index, spec.id.attempt);
    // Beside the pod, in hierarchies in which nothing is said of the pod as a whole.
    let places = ["podu1/", "podu1-"].map(|pod| format!("n/kubepods/burstable/{pod}{name}"));
    let unified = bench.cell.layout == Layout::Unified;
    let table: &[(&str, &str)] = match unified {
        true => &[
            ("", "cpu.weight"),
            ("", "cpu.max"),
            ("", "memory.max"),
            ("", "pids.max"),
        ],
        false => &[
            ("cpu", "cpu.shares"),
            ("cpu", "cpu.cfs_quota_us"),
            ("cpu", "cpu.cfs_period_us"),
            ("memory", "memory.limit_in_bytes"),
            ("pids", "pids.max"),
        ],
    };
    for (controller, file) in table {
        let groups = &bench.cell.groups;
        let ours = match unified {
            true => groups.v2.clone(),
            false => groups.v1.get(*controller).cloned(),
        };
        let ours = ours.and_then(|folder| {
            let mut each = places.iter().map(|place| folder.join(place).join(file));
            each.find(|path| path.exists())
        });
        let theirs = Path::new("/sys/fs/cgroup")
            .join(controller)
            .join(&crun.group)
            .join(file);
        let read = |path: &Path| fs::read_to_string(path).ok();
        let (ours, theirs) = (ours.and_then(|path| read(&path)), read(&theirs));
        assert!(
            ours.is_some() && ours == theirs,
            "{file}: {ours:?} and under crun {theirs:?}"
        );
    }
    let output = crun.call(&["delete", "-f", "one"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let eat = "x=0123456789abcdef; while :; do x=$x$x; done";
    for script in [
        "exit 0",
        "exit 7",
        "kill -TERM $$; exit 3",
        "sh -c 'kill -9 $$'",
        eat,
    ] {
        let spec = bench.spec(script);
        crun.bundle(script, &spec);
        let theirs = crun.call(&["run", "one"]).status.code();
        let ours = i32::from(bench.run(&spec).0);
        assert_eq!(Some(ours), theirs, "{script}: here, and under crun");
    }
}
