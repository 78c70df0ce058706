//! Stopping the processes of a node one by one, where no cgroup can be frozen.
//!
//! A process that is being born while its parent is stopped could be missed, so the table of
//! processes is read until it holds no new one.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use nix::libc;

use super::Cell;
use crate::backend::linux::sys;

/// How often the table is read at most.
const ROUNDS: usize = 10;

/// The PID namespace of a process, as a name.
fn namespace(pid: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

impl Cell {
    /// Stops every process of a node's containers, or lets them go on.
    pub(super) fn stop_each(&self, node: &str, stop: bool) -> io::Result<()> {
        let here = |pod: u32| self.pods.get(&pod).is_some_and(|pod| pod.spec.node == node);
        let containers = self.containers.iter().filter(|(id, _)| here(id.pod.0));
        let theirs: BTreeSet<PathBuf> = containers
            .filter_map(|(_, container)| namespace(&container.pid.to_string()))
            .collect();
        let number = if stop { libc::SIGSTOP } else { libc::SIGCONT };
        let mut told: BTreeSet<i32> = BTreeSet::new();
        for _ in 0..ROUNDS {
            let before = told.len();
            for entry in fs::read_dir("/proc")?.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let Ok(pid) = name.parse::<i32>() else {
                    continue;
                };
                if told.contains(&pid) || namespace(&name).is_none_or(|ns| !theirs.contains(&ns)) {
                    continue;
                }
                // One that is gone by now needs no signal.
                if let Ok(pidfd) = sys::pidfd_open(pid) {
                    sys::signal(pidfd.as_fd(), number)?;
                }
                told.insert(pid);
            }
            if told.len() == before {
                break;
            }
        }
        Ok(())
    }
}
