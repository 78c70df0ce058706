//! What a new process does between its birth in the cell and the container's program.
//!
//! It is a copy of the zygote, which has one thread, so it may allocate and call what it likes. It tells
//! how it went on a pipe that closes when the program begins: nothing is success.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::PathBuf;

use nix::libc;

use super::super::cgroup;
use super::super::net::child::Channel;
use super::super::net::conntrack::Choices;
use super::super::protocol::{ContainerSpec, Program, Purpose};
use super::super::sys;
use super::super::workload::{self, Workload};
use super::rights;
use super::root::{self, Failed, Place, Step};

/// The exit code of a program that cannot be executed.
const NOT_EXECUTED: u8 = 127;

/// What a container's first process needs.
pub struct Birth<'a> {
    /// What it becomes.
    pub spec: &'a ContainerSpec,
    /// v1 groups to join.
    pub groups: &'a [PathBuf],
    /// Where its root is made.
    pub place: Place<'a>,
    /// The pod's network namespace.
    pub network: OwnedFd,
    /// Ports below 1024 of that are to need no right.
    pub low_ports: bool,
    /// Its program may have huge pages.
    pub huge_pages: bool,
    /// The pod's host name.
    pub hostname: &'a str,
    /// A byte comes when the cell watches it.
    pub go: OwnedFd,
    /// Says what failed.
    pub status: OwnedFd,
    /// Standard output and error.
    pub output: Option<[OwnedFd; 2]>,
    /// What a built-in server listens to that makes calls: its node's news, its way to tell.
    pub ears: Option<(Option<OwnedFd>, OwnedFd)>,
}

/// Becomes the container's program.
pub fn become_container(birth: Birth<'_>) -> ! {
    let prepared = prepare(&birth);
    let status = std::fs::File::from(birth.status);
    if let Err(failed) = prepared {
        tell(&status, 'C', &failed)
    }
    let mut byte = [0u8; 1];
    // The cell is gone, or gave up: so does this process.
    if !matches!(nix::unistd::read(&birth.go, &mut byte), Ok(1)) {
        sys::exit_now(NOT_EXECUTED);
    }
    match &birth.spec.program {
        Program::BuiltIn(model) => {
            if let Err(error) = rights::take_on(&birth.spec.rights) {
                tell(
                    &status,
                    'C',
                    &Failed {
                        step: "rights".to_owned(),
                        error,
                    },
                );
            }
            // It runs from here on: the pipe is closed as exec would.
            drop(status);
            sys::ignore_broken_pipes();
            let ears = birth.ears.and_then(keep_ears);
            if ears.is_none() {
                close_all_but_standard();
            }
            workload::server::serve((**model).clone(), ears)
        }
        Program::Exec { argv, cwd, .. } => {
            let failed = execute(birth.spec, argv, cwd, birth.huge_pages);
            tell(&status, 'R', &failed)
        }
    }
}

fn tell(mut status: &std::fs::File, kind: char, failed: &Failed) -> ! {
    // Nobody listens when the cell is gone.
    let _ = write!(status, "{kind}{failed}");
    sys::exit_now(NOT_EXECUTED)
}

fn prepare(birth: &Birth<'_>) -> Result<(), Failed> {
    sys::setns(birth.network.as_fd(), libc::CLONE_NEWNET).step("enter the pod's network")?;
    if birth.low_ports {
        // As containerd has it. A kernel that does not let us leaves the usual limit.
        let _ = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    }
    if matches!(birth.spec.program, Program::BuiltIn(_)) {
        // Its server takes a question with the first packet. Without, it takes a little longer.
        let _ = std::fs::write("/proc/sys/net/ipv4/tcp_fastopen", "3");
    }
    cgroup::join(birth.groups).step("join its cgroups")?;
    sys::unshare(libc::CLONE_NEWCGROUP).step("unshare cgroup")?;
    nix::unistd::setsid().map_err(Into::into).step("setsid")?;
    nix::unistd::sethostname(birth.hostname)
        .map_err(Into::into)
        .step("sethostname")?;
    let adjust = birth.spec.oom_score_adj;
    if std::fs::write("/proc/self/oom_score_adj", adjust.to_string()).is_err() {
        // Lower than it was needs CAP_SYS_RESOURCE: the check of the host says so.
        let _ = std::fs::write("/proc/self/oom_score_adj", adjust.max(0).to_string());
    }
    let null = std::fs::File::open("/dev/null").step("/dev/null")?;
    let sink = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/null")
        .step("/dev/null")?;
    sys::replace(null.as_fd(), 0).step("stdin")?;
    let output = |n: usize| birth.output.as_ref().map_or(sink.as_fd(), |o| o[n].as_fd());
    sys::replace(output(0), 1).step("stdout")?;
    sys::replace(output(1), 2).step("stderr")?;
    root::enter(birth.spec, &birth.place)
}

/// Closes what was the cell's, except for what a server listens to.
fn keep_ears((choices, reports): (Option<OwnedFd>, OwnedFd)) -> Option<workload::Ears> {
    /// Above everything that is put in its place here.
    const HIGH: libc::c_int = 512;
    // From here on these are numbers: everything else is closed as a whole.
    let lift = |fd: OwnedFd| {
        // SAFETY: this duplicate takes an integer and makes a descriptor that nobody else knows.
        let lifted = unsafe { libc::fcntl(fd.into_raw_fd(), libc::F_DUPFD_CLOEXEC, HIGH) };
        (lifted >= HIGH).then_some(lifted)
    };
    let settle = |lifted: libc::c_int, at: libc::c_int| {
        // SAFETY: it was made above and is open until everything is closed below.
        sys::replace(unsafe { BorrowedFd::borrow_raw(lifted) }, at).ok()
    };
    let (reports, choices) = (lift(reports)?, choices.and_then(lift));
    settle(reports, 3)?;
    let told = choices.and_then(|choices| settle(choices, 4)).is_some();
    sys::close_from(if told { 5 } else { 4 }, false).ok()?;
    // SAFETY: they were just put there, and nobody else in this process uses these numbers.
    let own = |number| unsafe { OwnedFd::from_raw_fd(number) };
    Some(workload::Ears {
        choices: told.then(|| Choices::from_fd(own(4))),
        reports: Channel::from_fd(own(3)),
    })
}

/// Closes what was the cell's.
fn close_all_but_standard() {
    // Nothing that this process still uses is open above the standard descriptors.
    let _ = sys::close_from(3, false);
}

/// Becomes a program of a container, in whose root this process is.
fn execute(spec: &ContainerSpec, argv: &[String], cwd: &str, huge_pages: bool) -> Failed {
    let ready = || -> Result<(), Failed> {
        sys::close_from(3, true).step("close_range")?;
        std::env::set_current_dir(cwd).step(&format!("chdir {cwd}"))?;
        rights::take_on(&spec.rights).step("rights")
    };
    if let Err(failed) = ready() {
        return failed;
    }
    let name = argv.first().map_or("", String::as_str);
    let error = sys::exec(&candidates(name, &spec.env), argv, &spec.env, huge_pages);
    Failed {
        step: format!("exec {name:?}"),
        error,
    }
}

/// Where a program may be: as it is with a slash, else in the folders of PATH.
fn candidates(name: &str, env: &[(String, String)]) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    let path = env.iter().rev().find(|(key, _)| key == "PATH");
    let path = path.map_or(DEFAULT_PATH, |(_, value)| value);
    path.split(':')
        .map(|folder| format!("{folder}/{name}"))
        .collect()
}

/// Where programs are looked for when nobody says.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A further process in a container: an exec probe or hook.
pub struct Visit<'a> {
    /// The container.
    pub spec: &'a ContainerSpec,
    /// Its first process.
    pub pidfd: BorrowedFd<'a>,
    /// What to run.
    pub argv: &'a [String],
    /// What for.
    pub purpose: Purpose,
    /// The container's v1 groups.
    pub groups: &'a [PathBuf],
    /// Its program may have huge pages.
    pub huge_pages: bool,
}

/// All of a container's but that of its processes, in which a visitor is born.
const NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP;

/// Enters a container's namespaces and becomes the command there.
pub fn visit(visit: &Visit<'_>) -> ! {
    if let Err(error) = cgroup::join(visit.groups) {
        eprintln!("its cgroups: {error}");
        sys::exit_now(126);
    }
    if let Err(error) = sys::setns(visit.pidfd, NAMESPACES) {
        eprintln!("setns: {error}");
        sys::exit_now(126);
    }
    inside(visit)
}

fn inside(visit: &Visit<'_>) -> ! {
    let standard = || -> std::io::Result<()> {
        let null = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        for n in 0..3 {
            sys::replace(null.as_fd(), n)?;
        }
        Ok(())
    };
    if standard().is_err() {
        sys::exit_now(126);
    }
    match &visit.spec.program {
        Program::BuiltIn(model) => {
            if rights::take_on(&visit.spec.rights).is_err() {
                sys::exit_now(126);
            }
            close_all_but_standard();
            sys::ignore_broken_pipes();
            sys::exit_now(imitate(model, visit.purpose))
        }
        Program::Exec { cwd, .. } => {
            execute(visit.spec, visit.argv, cwd, visit.huge_pages);
            sys::exit_now(126)
        }
    }
}

/// The built-in server has no programs: its commands are imitated.
fn imitate(model: &Workload, purpose: Purpose) -> u8 {
    match purpose {
        Purpose::Probe(_, n) => workload::probe(model, u64::from(n)),
        Purpose::Hook(hook) => workload::hook(model, hook as u64),
    }
}
