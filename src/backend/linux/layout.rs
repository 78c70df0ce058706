//! Which cgroup hierarchies a host has, where a run's groups live, and what dead runs left.
//!
//! Three layouts: *unified* (v2 alone), *hybrid* (v1 controllers, and v2 for `cgroup.kill`,
//! `cgroup.freeze` and forking into a group, which need no controller) and *legacy* (v1 alone).
//! Everything of a run is below one folder in each hierarchy,
//! `rehearsal-<boot>-<pid>-<start time>`, inside the group that the main process itself is in: its
//! own limits hold for what it starts. A folder whose process does not live any more is swept by
//! the next run; folders of other names are never touched.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The controllers that are used.
pub const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// The folder of a run, or of anything below it, in every hierarchy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchies {
    /// v2, if it is mounted.
    pub v2: Option<PathBuf>,
    /// v1 controllers that are used.
    pub v1: BTreeMap<String, PathBuf>,
}

/// The layout of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// v2 alone.
    Unified,
    /// v1 controllers beside v2.
    Hybrid,
    /// v1 alone.
    Legacy,
    /// No cgroups.
    Missing,
}

impl Layout {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Unified => "unified",
            Layout::Hybrid => "hybrid",
            Layout::Legacy => "legacy",
            Layout::Missing => "none",
        }
    }
}

impl Hierarchies {
    /// The groups of the process with these tables (`/proc/self/mountinfo`, `/proc/self/cgroup`).
    pub fn parse(mountinfo: &str, cgroup: &str) -> Hierarchies {
        let mut own: BTreeMap<&str, &str> = BTreeMap::new();
        for line in cgroup.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(names), Some(path)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            for name in names.split(',') {
                own.insert(name, path);
            }
        }
        let mut found = Hierarchies::default();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let left: Vec<&str> = left.split(' ').collect();
            let right: Vec<&str> = right.split(' ').collect();
            let (Some(root), Some(point), Some(kind)) = (left.get(3), left.get(4), right.first())
            else {
                continue;
            };
            let place = |name: &str| {
                let path = own.get(name)?;
                let below = path.strip_prefix(root.trim_end_matches('/'))?;
                Some(Path::new(point).join(below.trim_start_matches('/')))
            };
            match *kind {
                "cgroup2" if found.v2.is_none() => found.v2 = place(""),
                "cgroup" => {
                    let options = right.get(2).copied().unwrap_or_default();
                    for name in options.split(',').filter(|o| CONTROLLERS.contains(o)) {
                        if let Some(path) = place(name) {
                            found.v1.entry(name.to_owned()).or_insert(path);
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// Those of this process.
    ///
    /// # Errors
    /// Without /proc.
    pub fn detect() -> io::Result<Hierarchies> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let groups = std::fs::read_to_string("/proc/self/cgroup")?;
        Ok(Hierarchies::parse(&mounts, &groups))
    }

    /// Which layout this is.
    pub fn layout(&self) -> Layout {
        match (&self.v2, self.v1.is_empty()) {
            (Some(_), true) => Layout::Unified,
            (Some(_), false) => Layout::Hybrid,
            (None, false) => Layout::Legacy,
            (None, true) => Layout::Missing,
        }
    }

    /// The same place one level down.
    pub fn below(&self, name: &str) -> Hierarchies {
        Hierarchies {
            v2: self.v2.as_ref().map(|path| path.join(name)),
            v1: (self.v1.iter())
                .map(|(controller, path)| (controller.clone(), path.join(name)))
                .collect(),
        }
    }

    /// The same place one level up.
    pub fn above(&self) -> Hierarchies {
        let above = |path: &PathBuf| path.parent().unwrap_or(path).to_owned();
        Hierarchies {
            v2: self.v2.as_ref().map(above),
            v1: (self.v1.iter())
                .map(|(controller, path)| (controller.clone(), above(path)))
                .collect(),
        }
    }

    /// Whether a controller can limit what is in these groups.
    pub fn controls(&self, controller: &str) -> bool {
        match (&self.v2, self.v1.is_empty()) {
            (Some(v2), true) => {
                let handed = std::fs::read_to_string(v2.join("cgroup.controllers"));
                handed.is_ok_and(|all| all.split_whitespace().any(|c| c == controller))
            }
            _ => self.v1.contains_key(controller),
        }
    }

    /// How much memory is left for what is in these groups, in bytes: the host's, or less where a
    /// group or one above it has a limit.
    pub fn room(&self) -> Option<u64> {
        let host = std::fs::read_to_string("/proc/meminfo").ok()?;
        let line = host.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        let left = match self.v1.contains_key("memory") {
            true => self.left("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
            false => self.left("memory", "memory.max", "memory.current"),
        };
        let left = left.into_iter().map(|(left, _)| left);
        left.chain([kib.saturating_mul(1024)]).min()
    }

    /// How many processes and threads more may be in these groups, and which group's limit that is;
    /// `None` where there is no limit.
    pub fn places(&self) -> Option<(u64, PathBuf)> {
        self.left("pids", "pids.max", "pids.current")
    }

    /// The least that a group or one above it has left of what a controller limits.
    fn left(&self, controller: &str, limit: &str, usage: &str) -> Option<(u64, PathBuf)> {
        let own = self.v1.get(controller).or(self.v2.as_ref())?;
        let read = |folder: &Path, file: &str| -> Option<u64> {
            let text = std::fs::read_to_string(folder.join(file)).ok()?;
            text.trim().parse().ok()
        };
        let left = own.ancestors().filter_map(|folder| {
            let limit = read(folder, limit)?;
            Some((
                limit.saturating_sub(read(folder, usage)?),
                folder.to_owned(),
            ))
        });
        left.min()
    }

    /// All folders, v1 and v2; where controllers share a hierarchy, once.
    pub fn folders(&self) -> impl Iterator<Item = &PathBuf> {
        let mut seen: Vec<&PathBuf> = Vec::new();
        for path in self.v2.iter().chain(self.v1.values()) {
            if !seen.contains(&path) {
                seen.push(path);
            }
        }
        seen.into_iter()
    }
}

/// The identity of a process that no other will ever have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunName {
    /// The first eight characters of the boot id.
    pub boot: String,
    /// The process.
    pub pid: u32,
    /// Its start in clock ticks since boot.
    pub start: u64,
    /// Which run of the process.
    pub number: u32,
}

const PREFIX: &str = "rehearsal-";

impl RunName {
    /// The n-th run of this process.
    ///
    /// # Errors
    /// Without /proc.
    pub fn own(number: u32) -> io::Result<RunName> {
        let pid = std::process::id();
        let start = start_of(pid).ok_or_else(|| io::Error::other("no /proc/self/stat"))?;
        Ok(RunName {
            boot: boot_id()?,
            pid,
            start,
            number,
        })
    }

    /// The name of its folder.
    pub fn folder(&self) -> String {
        let RunName {
            boot,
            pid,
            start,
            number,
        } = self;
        format!("{PREFIX}{boot}-{pid}-{start}-{number}")
    }

    /// The run with a folder of this name.
    pub fn parse(folder: &str) -> Option<RunName> {
        let mut parts = folder.strip_prefix(PREFIX)?.split('-');
        let name = RunName {
            boot: parts.next()?.to_owned(),
            pid: parts.next()?.parse().ok()?,
            start: parts.next()?.parse().ok()?,
            number: parts.next()?.parse().ok()?,
        };
        (parts.next().is_none() && name.boot.len() == 8).then_some(name)
    }

    /// Whether its process lives.
    pub fn alive(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot) && start_of(self.pid) == Some(self.start)
    }
}

fn boot_id() -> io::Result<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(id.chars().take(8).collect())
}

/// When a process was started, in clock ticks since boot; `None` when there is none.
fn start_of(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the state is the first field after it.
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(19)?.parse().ok()
}

/// What was left of dead runs and is gone now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Runs.
    pub runs: usize,
    /// Groups.
    pub groups: usize,
    /// Runs whose groups could not all be removed.
    pub stuck: usize,
}

/// Removes what dead runs left beside this one.
pub fn sweep(own: &Hierarchies) -> Swept {
    let mut swept = Swept::default();
    let mut dead: Vec<String> = Vec::new();
    for folder in own.folders() {
        // A run that was started from a sibling group left its folder there.
        let siblings = folder.parent().into_iter().flat_map(children);
        let places = siblings.chain([folder.clone()]);
        for place in places {
            for child in children(&place) {
                let name = child.file_name().unwrap_or_default().to_string_lossy();
                if RunName::parse(&name).is_none_or(|run| run.alive()) || !own_folder(&child) {
                    continue;
                }
                swept.groups += count(&child);
                if remove_tree(&child).is_err() {
                    swept.stuck += 1;
                }
                dead.push(name.into_owned());
            }
        }
    }
    dead.sort();
    dead.dedup();
    swept.runs = dead.len();
    swept
}

/// Whether a folder is this user's, or this is root: others' are not ours to remove.
fn own_folder(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let me = nix::unistd::geteuid();
    std::fs::metadata(folder).is_ok_and(|known| me.is_root() || known.uid() == me.as_raw())
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let folders = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}

fn count(folder: &Path) -> usize {
    1 + children(folder).iter().map(|c| count(c)).sum::<usize>()
}

/// Removes a group and everything below it, killing what is in it where the kernel can.
///
/// # Errors
/// Something in it did not end within a second.
pub fn remove_tree(folder: &Path) -> io::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let kill = folder.join("cgroup.kill");
    if kill.exists() {
        // It kills below as well; what cannot be killed shows as a group that stays.
        let _ = std::fs::write(kill, "1");
    }
    remove_below(folder)
}

/// Removes a group after those below it, whose processes are dead or dying.
fn remove_below(folder: &Path) -> io::Result<()> {
    let mut tries = 0;
    loop {
        // Most have nothing below: to look first would cost more than to try.
        match std::fs::remove_dir(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if tries == 100 => return Err(error),
            Err(_) if tries == 0 => {
                for child in children(folder) {
                    remove_below(&child)?;
                }
            }
            // Processes that were killed leave their group a moment later.
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
        tries += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:3 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate";
    const UNIFIED: &str = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate";
    const CONTAINED: &str = "30 23 0:26 /docker/ab /sys/fs/cgroup ro - cgroup2 cgroup rw";
    const LEGACY: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";

    #[test]
    fn layouts_are_read_from_the_tables_of_mounts_and_groups() {
        let groups = "5:memory:/a/b\n2:cpu,cpuacct:/\n0::/user.slice";
        let table = [
            (
                HYBRID,
                groups,
                Layout::Hybrid,
                "/sys/fs/cgroup/unified/user.slice",
            ),
            (
                UNIFIED,
                "0::/user.slice/x",
                Layout::Unified,
                "/sys/fs/cgroup/user.slice/x",
            ),
            (
                CONTAINED,
                "0::/docker/ab/c",
                Layout::Unified,
                "/sys/fs/cgroup/c",
            ),
            (LEGACY, "5:memory:/", Layout::Legacy, ""),
            (
                "22 27 0:21 / /proc rw - proc proc rw",
                groups,
                Layout::Missing,
                "",
            ),
        ];
        for (mounts, groups, layout, v2) in table {
            let found = Hierarchies::parse(mounts, groups);
            assert_eq!(found.layout(), layout, "{mounts}");
            let got = found
                .v2
                .as_ref()
                .map_or(String::new(), |p| p.display().to_string());
            assert_eq!(got.trim_end_matches('/'), v2);
        }
        let hybrid = Hierarchies::parse(HYBRID, groups);
        let memory = &hybrid.v1["memory"];
        assert_eq!(memory, Path::new("/sys/fs/cgroup/memory/a/b"));
        // cpu, memory and v2; cpuacct shares the hierarchy of cpu
        assert_eq!(hybrid.folders().count(), 3);
    }

    #[test]
    fn the_least_room_of_a_group_and_those_above_it_counts() {
        let top = std::env::temp_dir().join(format!("rehearsal-room-{}", std::process::id()));
        let group = top.join("a/b");
        std::fs::create_dir_all(&group).expect("folders");
        // 1000 - 400 above, 900 - 100 in the group itself
        for (folder, limit, usage) in [("a", "1000", "400"), ("a/b", "900", "100")] {
            let folder = top.join(folder);
            std::fs::write(folder.join("memory.limit_in_bytes"), limit).expect("written");
            std::fs::write(folder.join("memory.usage_in_bytes"), usage).expect("written");
        }
        let mut own = Hierarchies::default();
        own.v1.insert("memory".to_owned(), group);
        let room = own.room();
        std::fs::remove_dir_all(&top).expect("removed");
        assert_eq!(room, Some(600));
        // Without groups it is the host's.
        assert!(Hierarchies::default().room().is_some_and(|room| room > 600));
    }

    #[test]
    fn a_run_is_alive_as_long_as_its_very_process() {
        let own = RunName::own(3).expect("/proc");
        assert!(own.alive());
        assert_eq!(RunName::parse(&own.folder()), Some(own.clone()));
        let other_start = RunName {
            start: own.start + 1,
            ..own.clone()
        };
        let other_boot = RunName {
            boot: "00000000".to_owned(),
            ..own
        };
        assert!(!other_start.alive() && !other_boot.alive());
        for name in [
            "rehearsal",
            "rehearsal-x-1-2-3",
            "rehearsal-01234567-1-2",
            "other-01234567-1-2-3",
        ] {
            assert_eq!(RunName::parse(name), None, "{name}");
        }
    }
}
