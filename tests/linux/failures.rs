//! What remains when a step of making or removing a container fails, or when somebody is killed
//! there: nothing.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rehearsal::backend::linux::protocol::{Command, Failure};
use rehearsal::backend::linux::spawn::CellProcess;
use rehearsal::backend::linux::sys;
use rehearsal::kubelet::RuntimeEvent;
use rehearsal::kubelet::runtime::StartOutcome;

use super::bench::Bench;
use super::inventory::Inventory;
use super::{alone, possible, program};

/// More steps than there are.
const MANY: u32 = 100;

/// What a cell holds, seen from outside: descriptors, processes, groups below its run's.
#[derive(Debug, PartialEq, Eq)]
struct Holdings {
    descriptors: usize,
    processes: usize,
    groups: BTreeSet<PathBuf>,
}

impl Holdings {
    /// Of a cell that has done what it was told.
    fn settled(bench: &mut Bench) -> Holdings {
        // Answers wake the cell, which then buries what is empty.
        bench.tell(&Command::Stats("n".to_owned(), 0));
        bench.hear(|e| matches!(e, RuntimeEvent::NodeMemory { .. }).then_some(()));
        Holdings::of(bench)
    }

    fn of(bench: &Bench) -> Holdings {
        let pid = pid(&bench.cell);
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let mut groups = BTreeSet::new();
        for folder in bench.cell.groups.folders() {
            walk(folder, &mut groups);
        }
        Holdings {
            descriptors: std::fs::read_dir(format!("/proc/{pid}/fd"))
                .expect("the cell")
                .count(),
            processes: children.expect("the cell").split_whitespace().count(),
            groups,
        }
    }

    /// Asserts that the cell holds what it held, after at most two seconds.
    fn are_back(&self, bench: &mut Bench, after: &str) {
        let begun = Instant::now();
        loop {
            let now = Holdings::settled(bench);
            if now == *self {
                return;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(2),
                "{after}: {self:?} became {now:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn walk(folder: &Path, all: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.insert(entry.path());
            walk(&entry.path(), all);
        }
    }
}

/// The number of a process, from its pidfd.
fn pid(cell: &CellProcess) -> i32 {
    let info = format!("/proc/self/fdinfo/{}", cell.pidfd.as_fd().as_raw_fd());
    let info = std::fs::read_to_string(info).expect("/proc");
    let line = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    line.and_then(|pid| pid.trim().parse().ok()).expect("a pid")
}

fn sandbox(bench: &mut Bench) -> bool {
    bench.tell(&Bench::sandbox());
    bench.hear(|event| match event {
        RuntimeEvent::SandboxReady { ok, .. } => Some(*ok),
        _ => None,
    })
}

fn start(bench: &mut Bench) -> bool {
    let log = std::env::temp_dir().join(format!("rehearsal-failures-{}.log", std::process::id()));
    let mut spec = bench.spec("echo words; exec sleep 60");
    spec.log = log.to_str().map(str::to_owned);
    bench.start(&spec) == StartOutcome::Ok
}

fn remove(bench: &mut Bench) {
    bench.tell(&Command::Remove(1));
    bench.hear(|e| matches!(e, RuntimeEvent::Removed { .. }).then_some(()));
}

#[test]
fn a_step_that_fails_leaves_nothing_and_can_be_tried_again() {
    if !possible() {
        return;
    }
    let _alone = alone();
    let before = Inventory::take();
    let mut bench = Bench::with_node(CellProcess::start(&program()).expect("a cell"));
    let empty = Holdings::settled(&mut bench);
    for errno in [libc::EMFILE, libc::ENOSPC, libc::EAGAIN] {
        let mut failed = 0;
        for n in 1..MANY {
            bench.tell(&Command::Failpoint(Some((n, Failure::Error(errno)))));
            let made = sandbox(&mut bench);
            let began = made && start(&mut bench);
            bench.tell(&Command::Failpoint(None));
            let after = format!("step {n} with error {errno}: {:?}", bench.problems.last());
            if made && began {
                remove(&mut bench);
                empty.are_back(&mut bench, &after);
                break;
            }
            failed += 1;
            if !made {
                empty.are_back(&mut bench, &after);
                assert!(sandbox(&mut bench), "{after}");
            }
            assert!(start(&mut bench), "{after}");
            remove(&mut bench);
            empty.are_back(&mut bench, &after);
        }
        // Eight steps of a pod with two volumes, seven of a container.
        assert_eq!(failed, 15, "{:?}", bench.problems);
    }
    drop(bench);
    before.is_back();
}

/// Makes a pod with a container and removes it; where the cell stands still, `then` is done.
fn until_halted(bench: &mut Bench, n: u32, then: impl FnOnce(&mut Bench, &str)) -> bool {
    bench.tell(&Command::Failpoint(Some((n, Failure::Halt))));
    bench.tell(&Bench::sandbox());
    let spec = bench.spec("exec sleep 60");
    bench.tell(&Command::Start(Box::new(spec)));
    bench.tell(&Command::Remove(1));
    match bench.halted() {
        Some(step) => {
            then(bench, &step);
            true
        }
        None => false,
    }
}

fn ends(cell: &CellProcess, after: &str) {
    let mut fds = [PollFd::new(cell.pidfd.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut fds, PollTimeout::from(2_000u16));
    let pid = pid(cell);
    let tells = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
    let state = || [tells("wchan"), tells("status"), tells("stack")];
    assert_eq!(ready, Ok(1), "{after}: the cell lives: {:?}", state());
}

#[test]
fn a_cell_killed_at_any_step_takes_everything_along() {
    if !possible() {
        return;
    }
    let _alone = alone();
    let before = Inventory::take();
    let mut steps = BTreeSet::new();
    for n in 1..MANY {
        let mut bench = Bench::with_node(CellProcess::start(&program()).expect("a cell"));
        let halted = until_halted(&mut bench, n, |bench, step| {
            steps.insert(step.to_owned());
            sys::signal(bench.cell.pidfd.as_fd(), libc::SIGKILL).expect("a signal");
            ends(&bench.cell, step);
        });
        drop(bench);
        before.is_back();
        if !halted {
            break;
        }
    }
    assert!(steps.len() >= 17, "{steps:?}");
}

#[test]
fn the_main_process_gone_at_any_step_is_the_cells_end() {
    if !possible() {
        return;
    }
    let _alone = alone();
    let before = Inventory::take();
    for n in 1..MANY {
        // The kernel ends a cell with the thread that started it, as with the whole process. The
        // conversation stays open, so that it is the kernel who does.
        let thread = std::thread::spawn(move || {
            let mut bench = Bench::with_node(CellProcess::start(&program()).expect("a cell"));
            let halted = until_halted(&mut bench, n, |_, _| {});
            (bench, halted)
        });
        let (bench, halted) = thread.join().expect("a thread");
        ends(&bench.cell, &format!("step {n}"));
        drop(bench);
        before.is_back();
        if !halted {
            break;
        }
    }
}

#[test]
fn a_container_killed_at_any_step_is_removed_as_others_are() {
    if !possible() {
        return;
    }
    let _alone = alone();
    let before = Inventory::take();
    let mut bench = Bench::with_node(CellProcess::start(&program()).expect("a cell"));
    let empty = Holdings::settled(&mut bench);
    let mut killed = 0;
    for n in 1..MANY {
        let mut after = String::new();
        let halted = until_halted(&mut bench, n, |bench, step| {
            after = step.to_owned();
            for folder in bench.cell.groups.folders() {
                killed += kill_in(folder);
            }
            bench.tell(&Command::GoOn);
        });
        if halted {
            bench.hear(|e| matches!(e, RuntimeEvent::Removed { .. }).then_some(()));
        }
        bench.tell(&Command::Failpoint(None));
        empty.are_back(&mut bench, &after);
        if !halted {
            break;
        }
    }
    assert!(killed > 0, "there was never a process to kill");
    drop(bench);
    before.is_back();
}

/// Kills the processes of all groups below one; how many there were.
fn kill_in(folder: &Path) -> usize {
    let procs = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let mut killed = 0;
    for pid in procs.lines().filter_map(|line| line.parse::<i32>().ok()) {
        // It is in a group of this cell's, so it is ours.
        let pidfd = sys::pidfd_open(pid);
        killed += usize::from(pidfd.is_ok_and(|fd| sys::signal(fd.as_fd(), libc::SIGKILL).is_ok()));
    }
    let below = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    killed + below.map(|entry| kill_in(&entry.path())).sum::<usize>()
}
