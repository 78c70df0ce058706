//! Values of cgroups as a kubelet computes them, and groups that exist.
//!
//! A run's groups look as on a node: `<run>/<node>/kubepods[/burstable|/besteffort]/pod<uid>/
//! <container>`, and `pod<uid>-<container>` in hierarchies of v1 in which nothing is said of the pod as
//! a whole. The numbers are upstream's
//! (`pkg/kubelet/cm/helpers_linux.go`), except that CPU quotas are scaled where the nodes of the
//! scenario have more cores than the host.

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::layout::{CONTROLLERS, Hierarchies};
use super::protocol::Limits;

/// `cfs_period_us`: 100 ms.
pub const PERIOD_US: u64 = 100_000;
/// `MinShares`.
const MIN_SHARES: u64 = 2;
/// `MaxShares`.
const MAX_SHARES: u64 = 262_144;
/// `MinQuotaPeriod`: the kernel takes no smaller quota than 1 ms.
const MIN_QUOTA_US: u64 = 1_000;

/// `pkg/kubelet/cm/helpers_linux.go :: MilliCPUToShares`.
pub fn shares(milli: i64) -> u64 {
    match u64::try_from(milli) {
        Err(_) | Ok(0) => MIN_SHARES,
        Ok(milli) => (milli * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES),
    }
}

/// `pkg/kubelet/cm/helpers_linux.go :: MilliCPUToQuota`, of a scaled host: in microseconds for
/// each [`PERIOD_US`].
pub fn quota(milli: i64, scale_permille: u32) -> Option<u64> {
    let milli = u64::try_from(milli).ok().filter(|m| *m > 0)?;
    let quota = milli * PERIOD_US / 1000 * u64::from(scale_permille) / 1000;
    Some(quota.max(MIN_QUOTA_US))
}

/// `cpu.weight` for `cpu.shares`, as runc (1.3.2 and later) and crun (1.23 and later) convert:
/// 10^((l² + 125 l) / 612 − 7/34) with l = log2(shares), rounded up.
pub fn weight(shares: u64) -> u64 {
    if shares <= MIN_SHARES {
        return 1;
    }
    if shares >= MAX_SHARES {
        return 10_000;
    }
    let l = libm::log2(shares as f64);
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    (libm::ceil(libm::pow(10.0, exponent)) as u64).clamp(1, 10_000)
}

/// `pkg/kubelet/qos/policy.go :: GetContainerOOMScoreAdjust`.
pub fn oom_score_adj(guaranteed: bool, memory_request: i64, capacity: u64) -> i32 {
    const GUARANTEED: i32 = -997;
    const BEST_EFFORT: i64 = 1000;
    if guaranteed {
        return GUARANTEED;
    }
    let capacity = i64::try_from(capacity).unwrap_or(i64::MAX).max(1);
    if memory_request <= 0 {
        return BEST_EFFORT as i32;
    }
    let adjust = BEST_EFFORT - BEST_EFFORT * memory_request.min(capacity) / capacity;
    adjust.clamp(3, BEST_EFFORT - 1) as i32
}

/// Writes a control file in one write, as the kernel wants it.
pub fn write(folder: &Path, file: &str, value: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(folder.join(file))?;
    file.write_all(value.as_bytes())
}

/// Puts the calling process, which has one thread, into v1 groups (it was forked into the v2 one). A
/// thread that moves itself spares the kernel the lock that stops every fork and exit of the host.
///
/// # Errors
/// The kernel's.
pub fn join(folders: &[PathBuf]) -> io::Result<()> {
    let mut each = folders.iter();
    each.try_for_each(|folder| write(folder, "tasks", "0"))
}

/// What `/proc` counts CPU time in: a hundredth of a second on every Linux (`USER_HZ`).
const NANOS_OF_A_TICK: u64 = 10_000_000;

/// CPU time of a process and of its children that it has waited for, from `/proc/PID/stat`.
fn ticks(stat: &str) -> Option<u64> {
    // The name may hold anything; after it come the state (field 3) and numbers: 14 to 17 are user and
    // system time of its own and of its children.
    let (_, after) = stat.rsplit_once(')')?;
    let fields = after.split_whitespace().skip(11).take(4);
    let numbers: Option<Vec<u64>> = fields.map(|field| field.parse().ok()).collect();
    numbers
        .filter(|all| all.len() == 4)
        .map(|all| all.iter().sum())
}

/// The v2 hierarchy that has no controllers, beside those of v1.
const CORE: &str = "";

/// A group that this program made.
#[derive(Debug)]
pub struct Group {
    /// Its folders.
    pub at: Hierarchies,
    /// Its v2 folder, for forking into it.
    v2: Option<OwnedFd>,
    /// Hierarchies in which it has no folder: v1 controllers, and [`CORE`].
    absent: Vec<&'static str>,
    /// Limits that could not be set, with the reason.
    pub lost: Vec<String>,
}

/// v1 controllers that these limits do not need.
fn idle(limits: &Limits) -> Vec<&'static str> {
    let mut idle = Vec::new();
    if limits.shares.is_none() && limits.quota_us.is_none() {
        idle.push("cpu");
    }
    if limits.pids.is_none() {
        idle.push("pids");
    }
    idle
}

impl Group {
    /// Makes a group and sets its limits. What cannot be limited is told in [`Group::lost`].
    ///
    /// Each folder takes the kernel tens of microseconds to make and again to remove. So a group
    /// is made in v2, in the memory hierarchy, which counts and tells what was killed, and in those
    /// others where it has a limit.
    ///
    /// # Errors
    /// A folder cannot be made.
    pub fn create(at: Hierarchies, limits: &Limits) -> io::Result<Group> {
        Group::create_without(at, limits, idle(limits))
    }

    /// Makes a group around others that are made [`Group::inside`] it. Where v2 has no controllers
    /// it has no folder there; nor in the memory hierarchy, if it has no limit and is not `counted`.
    ///
    /// # Errors
    /// A folder cannot be made.
    pub fn create_around(at: Hierarchies, limits: &Limits, counted: bool) -> io::Result<Group> {
        let mut absent = idle(limits);
        if !at.v1.is_empty() {
            absent.push(CORE);
            if limits.memory.is_none() && !counted {
                absent.push("memory");
            }
        }
        Group::create_without(at, limits, absent)
    }

    /// Makes a group for processes that a PID namespace of their own ends together. Where v2 has no
    /// controllers it has no folder there: they are born in the group of all pods of a class.
    ///
    /// # Errors
    /// A folder cannot be made.
    pub fn create_within(at: Hierarchies, limits: &Limits) -> io::Result<Group> {
        let mut absent = idle(limits);
        if !at.v1.is_empty() {
            absent.push(CORE);
        }
        Group::create_without(at, limits, absent)
    }

    /// Where a group inside this one is: beside it, where this one has no folder.
    pub fn inside(&self, name: &str) -> Hierarchies {
        let place = |controller: &str, path: &PathBuf| {
            if !self.absent.contains(&controller) {
                return path.join(name);
            }
            let mut beside = path.clone().into_os_string();
            beside.push("-");
            beside.push(name);
            PathBuf::from(beside)
        };
        Hierarchies {
            v2: self.at.v2.as_ref().map(|path| place(CORE, path)),
            v1: (self.at.v1.iter())
                .map(|(controller, path)| (controller.clone(), place(controller, path)))
                .collect(),
        }
    }

    /// As [`Group::create`], in every hierarchy.
    ///
    /// # Errors
    /// A folder cannot be made.
    pub fn create_in_all(parent: &Hierarchies, name: &str, limits: &Limits) -> io::Result<Group> {
        Group::create_without(parent.below(name), limits, Vec::new())
    }

    fn create_without(
        at: Hierarchies,
        limits: &Limits,
        absent: Vec<&'static str>,
    ) -> io::Result<Group> {
        let mut group = Group {
            at,
            v2: None,
            absent,
            lost: Vec::new(),
        };
        if let Err(error) = group.make() {
            // What was made is empty.
            group.remove();
            return Err(error);
        }
        group.limit(limits);
        Ok(group)
    }

    /// Those of its folders that are made with it: a hierarchy that is absent has none, unless one
    /// that it shares is wanted.
    fn folders(&self) -> impl Iterator<Item = &Path> {
        let wanted = |(name, _): &(&String, &PathBuf)| !self.absent.contains(&name.as_str());
        let mut seen: Vec<&Path> = Vec::new();
        let v1 = self.at.v1.iter().filter(wanted).map(|(_, path)| path);
        for path in self.v2_folder().into_iter().chain(v1) {
            if !seen.contains(&path.as_path()) {
                seen.push(path);
            }
        }
        seen.into_iter()
    }

    fn make(&mut self) -> io::Result<()> {
        for folder in self.folders() {
            match fs::create_dir(folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other?,
            }
        }
        self.v2 = match self.v2_folder() {
            Some(path) => Some(fs::File::open(path)?.into()),
            None => None,
        };
        Ok(())
    }

    fn v2_folder(&self) -> Option<&PathBuf> {
        let there = !self.absent.contains(&CORE);
        self.at.v2.as_ref().filter(|_| there)
    }

    /// Whether v2 controls resources here (else v1 does, or nobody).
    fn unified(&self) -> bool {
        self.at.v1.is_empty()
    }

    fn set(&mut self, controller: &str, file: &str, value: &str) {
        let folder = match self.unified() {
            true => self.at.v2.clone(),
            false => self.at.v1.get(controller).cloned(),
        };
        let done = match folder {
            Some(folder) => write(&folder, file, value),
            None => Err(io::Error::other(format!("no {controller} controller"))),
        };
        if let Err(error) = done {
            self.lost.push(format!("{file}={value}: {error}"));
        }
    }

    /// Sets limits; a value of `None` is left as it is.
    pub fn limit(&mut self, limits: &Limits) {
        if self.at == Hierarchies::default() {
            // There is none at all, which was said when the run began.
            return;
        }
        let unified = self.unified();
        if let Some(value) = limits.shares {
            match unified {
                true => self.set("cpu", "cpu.weight", &weight(value).to_string()),
                false => self.set("cpu", "cpu.shares", &value.to_string()),
            }
        }
        if let Some(quota) = limits.quota_us {
            match unified {
                true => self.set("cpu", "cpu.max", &format!("{quota} {PERIOD_US}")),
                false => {
                    self.set("cpu", "cpu.cfs_period_us", &PERIOD_US.to_string());
                    self.set("cpu", "cpu.cfs_quota_us", &quota.to_string());
                }
            }
        }
        if let Some(bytes) = limits.memory {
            match unified {
                true => {
                    self.set("memory", "memory.max", &bytes.to_string());
                    self.set("memory", "memory.oom.group", "1");
                }
                false => self.set("memory", "memory.limit_in_bytes", &bytes.to_string()),
            }
        }
        if let Some(pids) = limits.pids {
            self.set("pids", "pids.max", &pids.to_string());
        }
    }

    /// Lets groups below this one be limited (v2: controllers are handed down level by level).
    pub fn delegate(&mut self) {
        if !self.unified() || self.v2_folder().is_none() {
            return;
        }
        for controller in CONTROLLERS {
            self.set(
                controller,
                "cgroup.subtree_control",
                &format!("+{controller}"),
            );
        }
    }

    /// The v2 folder, to fork into.
    pub fn v2(&self) -> Option<BorrowedFd<'_>> {
        self.v2.as_ref().map(AsFd::as_fd)
    }

    /// Its v1 folders, for [`join`].
    pub fn tasks(&self) -> Vec<PathBuf> {
        let v2 = self.v2_folder();
        let v1 = self
            .folders()
            .filter(|folder| Some(*folder) != v2.map(PathBuf::as_path));
        v1.map(Path::to_owned).collect()
    }

    /// Kills all that is in it or below; false where the kernel has no such call, or it has no folder
    /// in v2.
    pub fn kill(&self) -> bool {
        let Some(v2) = self.v2_folder() else {
            return false;
        };
        write(v2, "cgroup.kill", "1").is_ok()
    }

    /// Stops all that is in it or below, or lets it go on.
    ///
    /// # Errors
    /// There is no v2 hierarchy.
    pub fn freeze(&self, frozen: bool) -> io::Result<()> {
        let v2 = self.v2_folder();
        let v2 = v2.ok_or_else(|| io::Error::other("no cgroup v2"))?;
        write(v2, "cgroup.freeze", if frozen { "1" } else { "0" })
    }

    /// How often the kernel killed something in it for its memory.
    pub fn oom_kills(&self) -> u64 {
        let (controller, file) = match self.unified() {
            true => ("", "memory.events"),
            false => ("memory", "memory.oom_control"),
        };
        self.numbers(controller, file, "oom_kill").unwrap_or(0)
    }

    /// Whether its memory is counted.
    pub fn counts(&self) -> bool {
        !self.absent.contains(&"memory")
    }

    /// Its memory in bytes.
    pub fn usage(&self) -> Option<u64> {
        let (controller, file) = match self.unified() {
            true => ("", "memory.current"),
            false => ("memory", "memory.usage_in_bytes"),
        };
        self.read(controller, file)?.trim().parse().ok()
    }

    /// Its memory without file pages that nobody used lately
    /// (`container_memory_working_set_bytes`), in bytes.
    pub fn working_set(&self) -> Option<u64> {
        let (controller, inactive) = match self.unified() {
            true => ("", "inactive_file"),
            false => ("memory", "total_inactive_file"),
        };
        let usage = self.usage()?;
        let idle = self
            .numbers(controller, "memory.stat", inactive)
            .unwrap_or(0);
        Some(usage.saturating_sub(idle))
    }

    /// CPU time that its processes have used, in nanoseconds. Where the kernel does not count that for
    /// the group, it is what the processes in it and those that they have waited for have used.
    pub fn cpu_time(&self) -> Option<u64> {
        if self.unified() {
            return Some(self.numbers("", "cpu.stat", "usage_usec")? * 1000);
        }
        if let Some(text) = self.read("cpu", "cpuacct.usage") {
            return text.trim().parse().ok();
        }
        let processes = self.read("memory", "cgroup.procs")?;
        let used = processes.lines().filter_map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            ticks(&stat)
        });
        Some(used.sum::<u64>() * NANOS_OF_A_TICK)
    }

    fn read(&self, controller: &str, file: &str) -> Option<String> {
        let folder = match controller {
            "" => self.at.v2.as_ref()?,
            other => self.at.v1.get(other)?,
        };
        fs::read_to_string(folder.join(file)).ok()
    }

    fn numbers(&self, controller: &str, file: &str, key: &str) -> Option<u64> {
        let text = self.read(controller, file)?;
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let (_, value) = lines.find(|(name, _)| *name == key)?;
        value.trim().parse().ok()
    }

    /// Removes its folders; false while something is in it still.
    pub fn remove(&self) -> bool {
        let gone = |folder: &Path| match fs::remove_dir(folder) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        self.folders().map(gone).fold(true, |all, one| all & one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_quota_and_weight_are_upstreams() {
        for (milli, expected) in [(0, 2), (1, 2), (100, 102), (1000, 1024), (300_000, 262_144)] {
            assert_eq!(shares(milli), expected, "{milli}m");
        }
        // limit, scale in thousandths, microseconds of 100 ms
        let table = [
            (0, 1000, None),
            (5, 1000, Some(1_000)),
            (500, 1000, Some(50_000)),
            (4000, 1000, Some(400_000)),
            (4000, 125, Some(50_000)),
            (50, 125, Some(1_000)),
        ];
        for (milli, scale, expected) in table {
            assert_eq!(quota(milli, scale), expected, "{milli}m at {scale}");
        }
        for (shares, expected) in [(2, 1), (102, 17), (1024, 100), (262_144, 10_000)] {
            assert_eq!(weight(shares), expected, "{shares}");
        }
    }

    #[test]
    fn cpu_time_of_a_process_is_its_own_and_that_of_its_children() {
        let line = |name: &str| {
            format!("7 ({name}) S 1 7 7 0 -1 4194560 120 0 0 0 21 4 300 1000 20 0 1 0 99 8192 10")
        };
        // 21 + 4 + 300 + 1000
        assert_eq!(ticks(&line("sh")), Some(1325));
        assert_eq!(ticks(&line("a) S 1 (b")), Some(1325));
        assert_eq!(ticks("7 (sh) S 1 7"), None);
        assert!(ticks(&fs::read_to_string("/proc/self/stat").expect("/proc")).is_some());
    }

    #[test]
    fn the_out_of_memory_score_follows_class_and_request() {
        const GI: i64 = 1 << 30;
        // Guaranteed, request, of 4 GiB
        let table = [
            (true, GI, -997),
            (false, 0, 1000),
            (false, 1, 999),
            (false, GI, 750),
            (false, 4 * GI, 3),
        ];
        for (guaranteed, request, expected) in table {
            assert_eq!(oom_score_adj(guaranteed, request, 4 << 30), expected);
        }
    }
}
