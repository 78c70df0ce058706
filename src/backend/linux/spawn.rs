//! Starting a cell, and ending it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::cell::{ARGUMENT, LINES, SOCKET};
use super::cgroup;
use super::layout::{CONTROLLERS, Hierarchies, Layout, RunName, Swept, remove_tree, sweep};
use super::net::child;
use super::precedence;
use super::protocol::{Begin, Channel, Command, Report, Stamped};
use super::sys::{self, Forked};
use super::users::Users;

/// A running cell, as the main process has it. Dropping it ends everything in it.
#[derive(Debug)]
pub struct CellProcess {
    /// The conversation.
    pub channel: Channel,
    /// Where the sockets arrive that it lends; taken by whoever asks probes.
    pub lines: Option<child::Channel>,
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
    /// Whom the cell's user namespace has; none without one.
    pub users: Option<Users>,
}

/// How long a cell may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// Folders that every host has; one that no image is in is used.
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
        CellProcess::start_beside(program, &[])
    }

    /// As [`CellProcess::start`], where these folders of the host must stay visible to the cell.
    ///
    /// # Errors
    /// As [`CellProcess::start`].
    pub fn start_beside(program: &Path, kept: &[PathBuf]) -> Result<CellProcess, String> {
        let own = Hierarchies::detect().map_err(|e| format!("cgroups cannot be read: {e}"))?;
        let swept = sweep(&own);
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        let name = RunName::own(number).map_err(|e| format!("/proc cannot be read: {e}"))?;
        let mut lost = Vec::new();
        let (launched, users) = match launch(program, None) {
            Ok(launched) => (launched, None),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                let users = Users::of_this_process();
                let launched = launch(program, Some(&users)).map_err(|e| refused(&e))?;
                lost.push(users.lost());
                (launched, Some(users))
            }
            Err(error) => return Err(explain(&error)),
        };
        let mut cell = CellProcess {
            channel: launched.channel,
            lines: Some(launched.lines),
            pidfd: launched.pidfd,
            layout: own.layout(),
            groups: Hierarchies::default(),
            swept,
            lost: Vec::new(),
            users,
        };
        let rootless = cell.users.is_some();
        // From here on the cell ends, and its groups go, whatever else fails.
        cell.groups = make_groups(&own, &name, rootless, &mut lost)?;
        cell.lost = lost;
        cell.begin(kept)?;
        Ok(cell)
    }

    fn begin(&mut self, kept: &[PathBuf]) -> Result<(), String> {
        let free = |path: &Path| path.is_dir() && !kept.iter().any(|k| k.starts_with(path));
        let scratch = SCRATCH.iter().find(|path| free(Path::new(path)));
        let scratch = scratch.ok_or(
            "none of /mnt, /media, /srv is a folder to mount on that holds no image of the run",
        )?;
        let begin = Command::Begin(Begin {
            groups: self.groups.clone(),
            scratch: (*scratch).to_owned(),
            rootless: self.users.is_some(),
            huge_pages: !sys::has_small_pages_only(),
        });
        if self.channel.send(&begin).is_err() {
            return Err("the program could not be started again as a cell".to_owned());
        }
        let mut fds = [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
        let ready = poll(&mut fds, patience).map_err(|e| e.to_string())?;
        if ready == 0 {
            return Err("the cell does not answer".to_owned());
        }
        // A cell that is gone may have said why.
        let open = self.channel.receive().unwrap_or(false);
        match self.channel.message::<Stamped>() {
            Ok(Some(Stamped {
                report: Report::Ready,
                ..
            })) => Ok(()),
            Ok(Some(Stamped {
                report: Report::Problem(text),
                ..
            })) if self.users.is_some() => Err(format!("{text}, in its user namespace; {ALLOW}")),
            Ok(Some(Stamped {
                report: Report::Problem(text),
                ..
            })) => Err(text),
            _ if !open && self.users.is_some() => Err(format!(
                "in its user namespace the cell may not mount; {ALLOW}"
            )),
            _ if !open => Err("the cell ended at its start, without a word".to_owned()),
            other => Err(format!("the cell answers {other:?}")),
        }
    }
}

impl Drop for CellProcess {
    fn drop(&mut self) {
        // The kernel is at work for whoever has ended while what is left is removed.
        precedence::precede();
        // A cell that does not end when it is told to is killed; so is one that is gone already.
        let _ = self.channel.send(&Command::End);
        let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(Duration::from_secs(2)).unwrap_or(PollTimeout::MAX);
        if !matches!(poll(&mut fds, patience), Ok(1)) {
            let _ = sys::signal(self.pidfd.as_fd(), libc::SIGKILL);
        }
        let _ = sys::reap(self.pidfd.as_fd(), true);
        remove_groups(&self.groups);
        precedence::be_ordinary();
    }
}

fn remove_groups(groups: &Hierarchies) {
    // Those of v1 must wait for processes that v2 kills at once.
    if let Some(v2) = &groups.v2 {
        // What stays is swept by the next run.
        let _ = cgroup::write(v2, "cgroup.kill", "1");
    }
    // One after the other: the kernel has one lock for all groups.
    for folder in groups.folders() {
        let _ = remove_tree(folder);
    }
}

/// Makes the run's folder in every hierarchy. In a user namespace, what cannot be made is done
/// without.
fn make_groups(
    own: &Hierarchies,
    name: &RunName,
    rootless: bool,
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
    let mut groups = own.below(&name.folder());
    let mut denied: Vec<PathBuf> = Vec::new();
    for folder in groups.folders() {
        let Err(error) = std::fs::create_dir(folder) else {
            continue;
        };
        let forbidden = matches!(
            error.kind(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
        );
        if rootless && forbidden {
            denied.push(folder.clone());
            continue;
        }
        remove_groups(&groups);
        let hint = match forbidden {
            true => {
                "run as root, or in a delegated group (systemd-run --user --scope -p Delegate=yes)"
            }
            false => "is the cgroup file system mounted read-write?",
        };
        return Err(format!("{}: {error}; {hint}", folder.display()));
    }
    if !denied.is_empty() {
        lost.extend(without(&denied, &groups));
        groups.v2 = groups.v2.filter(|folder| !denied.contains(folder));
        groups.v1.retain(|_, folder| !denied.contains(folder));
    }
    if own.layout() == Layout::Unified
        && let Some(folder) = &groups.v2
    {
        hand_down(folder, lost);
    }
    outweigh(&groups);
    Ok(groups)
}

/// What is lost without these groups.
fn without(denied: &[PathBuf], groups: &Hierarchies) -> Vec<String> {
    let mut lost = Vec::new();
    let v1 = groups
        .v1
        .iter()
        .filter(|(_, folder)| denied.contains(folder));
    let mut controllers: Vec<&str> = v1.map(|(name, _)| name.as_str()).collect();
    let v2 = groups
        .v2
        .as_ref()
        .is_some_and(|folder| denied.contains(folder));
    if v2 && groups.v1.is_empty() {
        controllers = vec!["cpu", "memory", "pids"];
    }
    let hint = "as root, or in a delegated group (systemd-run --user --scope -p Delegate=yes), \
                they do";
    if !controllers.is_empty() {
        let names = controllers.join(", ");
        lost.push(format!(
            "no cgroup may be made: limits of {names} do not hold, no container is OOMKilled; {hint}"
        ));
    }
    if v2 {
        lost.push(
            "no cgroup v2 may be made: nodes are frozen and pods killed process by process"
                .to_owned(),
        );
    }
    lost
}

/// Gives the run's containers together the largest weight, so that other work of the host delays
/// them little; what they may use is limited by the nodes' quotas. Without a CPU controller that is
/// among what is lost anyway.
fn outweigh(groups: &Hierarchies) {
    let _ = match (groups.v1.get("cpu"), &groups.v2) {
        (Some(folder), _) => cgroup::write(folder, "cpu.shares", "262144"),
        (None, Some(folder)) => cgroup::write(folder, "cpu.weight", "10000"),
        (None, None) => Ok(()),
    };
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
    if nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK).is_err() {
        // Another user's group: what is lost is said where the run's own cannot be made.
        return;
    }
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

/// What a cell is held by.
struct Launched {
    channel: Channel,
    lines: child::Channel,
    pidfd: OwnedFd,
}

/// Starts the program in private namespaces; in a user namespace if `users` says whom it has.
fn launch(program: &Path, users: Option<&Users>) -> io::Result<Launched> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
    let (lines, lends) = child::Channel::pair()?;
    let (theirs, lends) = (aside(&theirs)?, aside(&lends)?);
    let path = sys::c_string(program.as_os_str().as_encoded_bytes())?;
    let argument = CString::new(ARGUMENT)?;
    let argv = [path.as_ptr(), argument.as_ptr(), std::ptr::null()];
    let env = [c"LANG=C.UTF-8".as_ptr(), std::ptr::null()];
    let namespaces = match users {
        Some(_) => NAMESPACES | libc::CLONE_NEWUSER,
        None => NAMESPACES,
    };
    let (wait, go) = sys::pipe()?;
    match sys::clone3(namespaces, None)? {
        Forked::Child => {
            let mut byte = 0u8;
            // Other threads may have held locks: nothing but plain system calls from here on.
            // SAFETY: all pointers were made before the fork and live on in this copy.
            unsafe {
                // Whoever is nobody in its user namespace loses its rights with exec. Its parent's
                // end shows as the end of the pipe, of which it has a copy itself.
                libc::close(go.as_raw_fd());
                if libc::read(wait.as_raw_fd(), (&raw mut byte).cast(), 1) != 1 {
                    sys::exit_now(127);
                }
                libc::dup2(theirs.as_raw_fd(), SOCKET);
                libc::dup2(lends.as_raw_fd(), LINES);
                libc::syscall(libc::SYS_close_range, LINES + 1, libc::c_uint::MAX, 0);
                // Before its allocator takes its first page: what is copied at every fork of a
                // container is then what the cell uses, and not 2 MiB.
                libc::prctl(libc::PR_SET_THP_DISABLE, 1u64, 0u64, 0u64, 0u64);
                libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr());
            }
            sys::exit_now(127)
        }
        Forked::Parent(pidfd, pid) => {
            drop(wait);
            let mapped = users.map_or(Ok(()), |users| users.map(pid));
            let told = mapped.and_then(|()| Ok(nix::unistd::write(&go, b"!")?));
            if let Err(error) = told {
                // It ends by itself, since nobody tells it to go on.
                drop(go);
                let _ = sys::reap(pidfd.as_fd(), true);
                return Err(error);
            }
            Ok(Launched {
                channel: Channel::new(ours),
                lines,
                pidfd,
            })
        }
    }
}

/// The same descriptor by a number that none of the cell's will take the place of.
fn aside(fd: &impl AsRawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with this command takes an integer.
    let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, LINES + 1) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// How a host is made to allow user namespaces.
const ALLOW: &str = "run as root (sudo), let users make namespaces (sysctl \
                     user.max_user_namespaces, kernel.unprivileged_userns_clone=1, \
                     kernel.apparmor_restrict_unprivileged_userns=0), or use --backend sim";

/// Neither with rights nor in a user namespace.
fn refused(error: &io::Error) -> String {
    let why = match error.raw_os_error() {
        Some(libc::ENOSPC) => "the host allows no more of them (user.max_user_namespaces)",
        Some(libc::EPERM) => "this user may not make one",
        Some(libc::EINVAL) => "the kernel has none (CONFIG_USER_NS)",
        _ => "it cannot be set up",
    };
    format!(
        "private namespaces need root, and without root a user namespace: {error}; {why}: {ALLOW}"
    )
}

fn explain(error: &io::Error) -> String {
    let hint = match error.raw_os_error() {
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
