//! Starting a cell, and ending it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::cell::{ARGUMENT, SOCKET};
use super::cgroup;
use super::layout::{CONTROLLERS, Hierarchies, Layout, RunName, Swept, remove_tree, sweep};
use super::protocol::{Begin, Channel, Command, Report, Stamped};
use super::sys::{self, Forked};

/// A running cell, as the main process has it. Dropping it ends everything in it.
#[derive(Debug)]
pub struct CellProcess {
    /// The conversation.
    pub channel: Channel,
    /// The cell's process.
    pub pidfd: OwnedFd,
    /// The run's groups.
    pub groups: Hierarchies,
    /// The host's layout.
    pub layout: Layout,
    /// What dead runs had left.
    pub swept: Swept,
    /// What could not be had.
    pub lost: Vec<String>,
}

/// How long a cell may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// Folders that every host has and no image is in.
const SCRATCH: [&str; 3] = ["/mnt", "/media", "/srv"];
/// Runs that this process has started.
static RUNS: AtomicU32 = AtomicU32::new(0);

const NAMESPACES: libc::c_int = libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWCGROUP;

impl CellProcess {
    /// Starts `program` as a cell. Called from a thread that lives as long as the run: the kernel
    /// ends the cell with the thread that started it.
    ///
    /// # Errors
    /// Why this host cannot; the text says what to do.
    pub fn start(program: &Path) -> Result<CellProcess, String> {
        let own = Hierarchies::detect().map_err(|e| format!("cgroups cannot be read: {e}"))?;
        let swept = sweep(&own);
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        let name = RunName::own(number).map_err(|e| format!("/proc cannot be read: {e}"))?;
        let mut lost = Vec::new();
        let groups = make_groups(&own, &name, &mut lost)?;
        let started = launch(program);
        let (channel, pidfd) = match started {
            Ok(started) => started,
            Err(error) => {
                remove_groups(&groups);
                return Err(explain(&error));
            }
        };
        let mut cell = CellProcess {
            channel,
            pidfd,
            layout: own.layout(),
            groups,
            swept,
            lost,
        };
        cell.begin()?;
        Ok(cell)
    }

    fn begin(&mut self) -> Result<(), String> {
        let scratch = SCRATCH.iter().find(|path| Path::new(path).is_dir());
        let scratch = scratch.ok_or("none of /mnt, /media, /srv is a folder to mount on")?;
        let begin = Command::Begin(Begin {
            groups: self.groups.clone(),
            scratch: (*scratch).to_owned(),
        });
        self.channel.send(&begin).map_err(|e| e.to_string())?;
        let mut fds = [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
        let ready = poll(&mut fds, patience).map_err(|e| e.to_string())?;
        if ready == 0 {
            return Err("the cell does not answer".to_owned());
        }
        let open = self.channel.receive().map_err(|e| e.to_string())?;
        match self.channel.message::<Stamped>() {
            Ok(Some(Stamped {
                report: Report::Ready,
                ..
            })) => Ok(()),
            Ok(Some(Stamped {
                report: Report::Problem(text),
                ..
            })) => Err(text),
            _ if !open => Err("the cell ended at its start: may this user mount?".to_owned()),
            other => Err(format!("the cell answers {other:?}")),
        }
    }
}

impl Drop for CellProcess {
    fn drop(&mut self) {
        // A cell that does not end when it is told to is killed; so is one that is gone already.
        let _ = self.channel.send(&Command::End);
        let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(Duration::from_secs(2)).unwrap_or(PollTimeout::MAX);
        if !matches!(poll(&mut fds, patience), Ok(1)) {
            let _ = sys::signal(self.pidfd.as_fd(), libc::SIGKILL);
        }
        let _ = sys::reap(self.pidfd.as_fd(), true);
        remove_groups(&self.groups);
    }
}

fn remove_groups(groups: &Hierarchies) {
    for folder in groups.folders() {
        // What stays is swept by the next run.
        let _ = remove_tree(folder);
    }
}

/// Makes the run's folder in every hierarchy.
fn make_groups(
    own: &Hierarchies,
    name: &RunName,
    lost: &mut Vec<String>,
) -> Result<Hierarchies, String> {
    match own.layout() {
        Layout::Missing => lost
            .push("no cgroups are mounted: limits do not hold, nodes cannot be frozen".to_owned()),
        Layout::Legacy => lost.push(
            "cgroup v2 is not mounted: nodes cannot be frozen, groups are killed one by one"
                .to_owned(),
        ),
        Layout::Unified => delegate(own, lost),
        Layout::Hybrid => {}
    }
    if own.layout() != Layout::Unified {
        for controller in CONTROLLERS.iter().filter(|c| !own.v1.contains_key(**c)) {
            lost.push(format!(
                "cgroup v1 {controller} is not mounted: its limits do not hold"
            ));
        }
    }
    let groups = own.below(&name.folder());
    for folder in groups.folders() {
        if let Err(error) = std::fs::create_dir(folder) {
            remove_groups(&groups);
            let hint = match error.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    "run as root, or in a delegated group (systemd-run --user --scope \
                     -p Delegate=yes)"
                }
                _ => "is the cgroup file system mounted read-write?",
            };
            return Err(format!("{}: {error}; {hint}", folder.display()));
        }
    }
    if own.layout() == Layout::Unified
        && let Some(folder) = &groups.v2
    {
        hand_down(folder, lost);
    }
    Ok(groups)
}

fn hand_down(folder: &Path, lost: &mut Vec<String>) {
    for controller in ["cpu", "memory", "pids"] {
        let done = cgroup::write(folder, "cgroup.subtree_control", &format!("+{controller}"));
        if let Err(error) = done {
            lost.push(format!(
                "cgroup v2 {controller}: {error}: its limits do not hold"
            ));
        }
    }
}

/// Lets groups below this process's own be limited. A v2 group with processes cannot do that, so
/// this process, if it is alone there, moves to a leaf of its own.
fn delegate(own: &Hierarchies, lost: &mut Vec<String>) {
    let Some(folder) = &own.v2 else { return };
    let enabled = std::fs::read_to_string(folder.join("cgroup.subtree_control"));
    let enabled = enabled.unwrap_or_default();
    let has = |controller: &str| enabled.split_whitespace().any(|c| c == controller);
    if ["cpu", "memory", "pids"].into_iter().all(has) {
        return;
    }
    let processes = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let me = std::process::id().to_string();
    if processes.split_whitespace().eq([me.as_str()]) {
        let leaf = folder.join("rehearsal-main");
        let made = std::fs::create_dir(&leaf);
        if made.is_ok() || leaf.is_dir() {
            // If it stays where it is, the next step says what is lost.
            let _ = cgroup::write(&leaf, "cgroup.procs", &me);
        }
    }
    hand_down(folder, lost);
}

fn launch(program: &Path) -> io::Result<(Channel, OwnedFd)> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
    let path = sys::c_string(program.as_os_str().as_encoded_bytes())?;
    let argument = CString::new(ARGUMENT)?;
    let argv = [path.as_ptr(), argument.as_ptr(), std::ptr::null()];
    let env = [c"LANG=C.UTF-8".as_ptr(), std::ptr::null()];
    match sys::clone3(NAMESPACES, None)? {
        Forked::Child => {
            // Other threads may have held locks: nothing but plain system calls from here on.
            // SAFETY: all pointers were made before the fork and live on in this copy.
            unsafe {
                libc::dup2(theirs.as_raw_fd(), SOCKET);
                libc::fcntl(SOCKET, libc::F_SETFD, 0);
                libc::syscall(libc::SYS_close_range, SOCKET + 1, libc::c_uint::MAX, 0);
                libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr());
            }
            sys::exit_now(127)
        }
        Forked::Parent(pidfd, _) => Ok((Channel::new(ours), pidfd)),
    }
}

fn explain(error: &io::Error) -> String {
    let hint = match error.raw_os_error() {
        Some(libc::EPERM) => {
            "private namespaces need root: run as root (sudo), or use --backend sim"
        }
        Some(libc::ENOSPC) => {
            "the host allows no more namespaces: raise user.max_*_namespaces (sysctl)"
        }
        Some(libc::ENOSYS) => "the kernel has no clone3: Linux 5.7 or later is needed",
        _ => "see `rehearsal run --backend linux --check-host`",
    };
    format!("a private PID, mount, network, UTS, IPC and cgroup namespace: {error}; {hint}")
}

/// The program that a cell is: this one.
pub fn own_program() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}
