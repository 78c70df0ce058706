//! What a run may leave behind: nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rehearsal::backend::linux::spawn::CellProcess;

use super::inventory::{Inventory, groups_of};
use super::{alone, possible, program};

/// Processes in a v2 group or below it.
fn processes_in(folder: &std::path::Path) -> usize {
    let own = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let below = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    own.lines().count()
        + below
            .map(|entry| processes_in(&entry.path()))
            .sum::<usize>()
}

#[test]
fn a_cell_leaves_nothing_behind() {
    if !possible() {
        return;
    }
    let _alone = alone();
    let before = Inventory::take();
    for _ in 0..3 {
        let cell = CellProcess::start(&program()).expect("a cell");
        let own = groups_of(std::process::id());
        assert!(!own.is_empty() && cell.groups.folders().all(|folder| own.contains(folder)));
        drop(cell);
        before.is_back();
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It is dead already when the test went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_a_killed_run_leaves_is_empty_groups_and_the_next_one_sweeps_them() {
    if !possible() {
        return;
    }
    let _alone = alone();
    let scenario = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/scenarios/real-self-healing.yaml"
    );
    let child = Command::new(program())
        .args(["run", scenario, "--backend", "linux", "--no-out"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a run");
    let mut child = Killed(child);
    let pid = child.0.id();
    let v2 = |folders: &BTreeSet<PathBuf>| -> usize {
        let with_kill = folders.iter().filter(|f| f.join("cgroup.kill").exists());
        with_kill.map(|folder| processes_in(folder)).sum()
    };
    let begun = Instant::now();
    // Three containers of the initial workloads.
    while v2(&groups_of(pid)) < 3 {
        assert!(begun.elapsed() < Duration::from_secs(20), "nothing runs");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.0.kill().expect("SIGKILL");
    let begun = Instant::now();
    while v2(&groups_of(pid)) > 0 {
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "processes outlive their run"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    child.0.wait().expect("its end");
    assert!(
        !groups_of(pid).is_empty(),
        "a killed process cannot have removed its groups"
    );
    let cell = CellProcess::start(&program()).expect("a cell");
    assert!(
        cell.swept.runs >= 1 && cell.swept.stuck == 0,
        "{:?}",
        cell.swept
    );
    assert_eq!(groups_of(pid), BTreeSet::new());
}
