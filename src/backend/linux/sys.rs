//! System calls that `nix` does not wrap, each in a small safe function.
//!
//! Everything is held by file descriptors: a process by its pidfd, so that its number can never
//! come to mean another process; a namespace by the descriptor that made it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::libc;

/// The result of a raw call as an `io::Result`.
pub fn check(value: libc::c_long) -> io::Result<libc::c_long> {
    match value {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

/// What the kernel says, and where a host's limits are the cause, which one to raise.
pub fn with_advice(error: &io::Error) -> String {
    let advice = match error.raw_os_error() {
        Some(libc::EAGAIN) => {
            "no more processes are allowed: raise pids.max of this program's cgroup, ulimit -u, or \
             kernel.pid_max"
        }
        Some(libc::EMFILE) => "no more open files are allowed: raise ulimit -n",
        Some(libc::ENFILE) => "the host has no more open files: raise fs.file-max",
        Some(libc::ENOMEM) => "the host has no memory left: run fewer pods, or give it more",
        Some(libc::ENOSPC) => {
            "no more namespaces or cgroups are allowed (user.max_*_namespaces, \
             cgroup.max.descendants), or a file system is full"
        }
        _ => return error.to_string(),
    };
    format!("{error}; {advice}")
}

/// A path or name as the kernel reads it.
pub fn c_string(text: impl Into<Vec<u8>>) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Nanoseconds of the monotonic clock.
pub fn monotonic() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds of CPU time that the calling thread has used.
pub fn thread_cpu() -> u64 {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock(which: libc::clockid_t) -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid timespec that the kernel fills in.
    let done = unsafe { libc::clock_gettime(which, &raw mut now) };
    assert_eq!(done, 0, "these clocks exist on every Linux");
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// `struct clone_args` of clone3(2), up to `cgroup`.
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Puts the child into the cgroup of a descriptor; newer than the constants of `libc`.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which of the two a call that forks returns in.
pub enum Forked {
    /// The new process.
    Child,
    /// The caller, with the child held by its pidfd.
    Parent(OwnedFd, libc::pid_t),
}

/// Forks with new namespaces (and as a sister with `CLONE_PARENT`), into the v2 cgroup of a descriptor where one is given. The caller
/// must be single-threaded, or the child must do nothing but async-signal-safe calls before exec.
pub fn clone3(namespaces: libc::c_int, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    let mut pidfd: RawFd = -1;
    let mut arguments = CloneArguments {
        flags: (libc::CLONE_PIDFD | namespaces) as u64,
        pidfd: &raw mut pidfd as u64,
        ..CloneArguments::default()
    };
    // A sister's is the caller's own.
    if namespaces & libc::CLONE_PARENT == 0 {
        arguments.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: the structure has the layout of clone_args and its size is passed; no CLONE_VM, so
    // the child runs on a copy of this stack.
    let pid = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            size_of::<CloneArguments>(),
        )
    })?;
    if pid == 0 {
        return Ok(Forked::Child);
    }
    // SAFETY: the kernel has stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Forked::Parent(pidfd, pid as libc::pid_t))
}

/// Sends a signal to the process of a pidfd; false when it is gone.
pub fn signal(pidfd: BorrowedFd<'_>, number: libc::c_int) -> io::Result<bool> {
    let null = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: only descriptors, numbers and a null pointer are passed.
    let sent = check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            number,
            null,
            0,
        )
    });
    match sent {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens a pidfd of a process.
pub fn pidfd_open(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: only numbers are passed.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By exit, with this code.
    Code(u8),
    /// By this signal.
    Signal(u8),
}

impl End {
    /// The code that a container runtime reports: 128 + the number of the signal.
    pub fn code(self) -> u8 {
        match self {
            End::Code(code) => code,
            End::Signal(number) => 128u8.saturating_add(number),
        }
    }
}

/// Reaps the child of a pidfd, waiting for its end unless told not to; `None` while it runs.
pub fn reap(pidfd: BorrowedFd<'_>, wait: bool) -> io::Result<Option<End>> {
    // SAFETY: an all-zero siginfo is a valid one.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | if wait { 0 } else { libc::WNOHANG };
    // SAFETY: `info` is valid for writing; P_PIDFD takes a descriptor as id.
    let waited = check(libc::c_long::from(unsafe {
        libc::waitid(
            libc::P_PIDFD,
            pidfd.as_raw_fd() as libc::id_t,
            &raw mut info,
            flags,
        )
    }));
    match waited {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return reap(pidfd, wait),
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    // SAFETY: after waitid the fields of a SIGCHLD siginfo are set (or zero when nothing ended).
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let number = u8::try_from(status & 0xff).unwrap_or(u8::MAX);
    Ok(Some(match info.si_code {
        libc::CLD_EXITED => End::Code(number),
        _ => End::Signal(number),
    }))
}

/// Joins the namespaces of a descriptor (of a namespace file, or several of a process's pidfd).
pub fn setns(fd: BorrowedFd<'_>, namespaces: libc::c_int) -> io::Result<()> {
    // SAFETY: only numbers are passed.
    check(libc::c_long::from(unsafe {
        libc::setns(fd.as_raw_fd(), namespaces)
    }))?;
    Ok(())
}

/// Leaves the namespaces of these kinds for new ones.
pub fn unshare(namespaces: libc::c_int) -> io::Result<()> {
    // SAFETY: only a number is passed.
    check(libc::c_long::from(unsafe { libc::unshare(namespaces) }))?;
    Ok(())
}

/// Marks all descriptors from `first` on to be closed by exec, or closes them at once.
pub fn close_from(first: RawFd, at_exec: bool) -> io::Result<()> {
    let flags = if at_exec { 4 } else { 0 };
    // SAFETY: only numbers are passed; the caller gives up descriptors from `first` on.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, flags) })?;
    Ok(())
}

/// prctl(2) with plain numbers.
pub fn prctl(option: libc::c_int, a: u64, b: u64) -> io::Result<()> {
    // SAFETY: the options used here take numbers; unused arguments are zero.
    check(libc::c_long::from(unsafe {
        libc::prctl(option, a, b, 0u64, 0u64)
    }))?;
    Ok(())
}

/// Whether this process and what it forks have pages of the usual size alone.
pub fn has_small_pages_only() -> bool {
    // SAFETY: this request takes no pointers.
    unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0u64, 0u64, 0u64, 0u64) == 1 }
}

/// Has pages of the usual size alone, or huge ones as well where the host allows them. What is
/// forked or executed inherits it.
///
/// # Errors
/// The kernel's.
pub fn keep_to_small_pages(only: bool) -> io::Result<()> {
    prctl(libc::PR_SET_THP_DISABLE, u64::from(only), 0)
}

/// Ends this process at once, without running anything of the parent's that was copied.
pub fn exit_now(code: u8) -> ! {
    // SAFETY: never returns.
    unsafe { libc::_exit(libc::c_int::from(code)) }
}

/// A pipe whose ends are closed by exec.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(io::Error::from)
}

/// Replaces descriptor `to` by a copy of `from`.
pub fn replace(from: BorrowedFd<'_>, to: RawFd) -> io::Result<()> {
    // SAFETY: only numbers are passed; `to` is one of the standard descriptors.
    check(libc::c_long::from(unsafe {
        libc::dup2(from.as_raw_fd(), to)
    }))?;
    Ok(())
}

/// Waits on an epoll descriptor with nanosecond precision; no limit without `timeout`.
pub fn epoll_wait(
    epoll: BorrowedFd<'_>,
    events: &mut [libc::epoll_event],
    timeout: Option<Duration>,
) -> io::Result<usize> {
    let limit = timeout.map(|t| libc::timespec {
        tv_sec: libc::time_t::try_from(t.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(t.subsec_nanos()),
    });
    let pointer = limit.as_ref().map_or(std::ptr::null(), |l| l as *const _);
    let count = libc::c_int::try_from(events.len()).unwrap_or(libc::c_int::MAX);
    let null = std::ptr::null::<libc::sigset_t>();
    // SAFETY: `events` is valid for `count` entries, `pointer` is null or points to `limit`.
    let ready = check(unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait2,
            epoll.as_raw_fd(),
            events.as_mut_ptr(),
            count,
            pointer,
            null,
            0usize,
        )
    });
    match ready {
        Ok(ready) => Ok(usize::try_from(ready).unwrap_or(0)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        Err(error) => Err(error),
    }
}

/// An epoll descriptor.
pub fn epoll_create() -> io::Result<OwnedFd> {
    // SAFETY: only a number is passed.
    let fd = check(libc::c_long::from(unsafe {
        libc::epoll_create1(libc::EPOLL_CLOEXEC)
    }))?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Watches `fd` for `interest` under `token`; changes the interest when it is watched already.
pub fn epoll_set(
    epoll: BorrowedFd<'_>,
    fd: BorrowedFd<'_>,
    interest: u32,
    token: u64,
) -> io::Result<()> {
    let mut event = libc::epoll_event {
        events: interest,
        u64: token,
    };
    let mut control = |operation| {
        // SAFETY: `event` is valid; only descriptors are passed besides.
        check(libc::c_long::from(unsafe {
            libc::epoll_ctl(epoll.as_raw_fd(), operation, fd.as_raw_fd(), &raw mut event)
        }))
    };
    match control(libc::EPOLL_CTL_ADD) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
            control(libc::EPOLL_CTL_MOD).map(drop)
        }
        other => other.map(drop),
    }
}

/// Stops watching `fd`.
pub fn epoll_drop(epoll: BorrowedFd<'_>, fd: BorrowedFd<'_>) {
    let null = std::ptr::null_mut();
    // SAFETY: EPOLL_CTL_DEL ignores the event. A descriptor that is not watched is no harm.
    unsafe {
        libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, fd.as_raw_fd(), null);
    }
}

/// Gives up capabilities for whatever is executed later, all but these (a set of bits).
pub fn drop_bounding(kept: u64) {
    for number in (0..64).filter(|n| kept & (1 << n) == 0) {
        // Numbers that the kernel does not know are refused, and there is nothing to give up.
        if prctl(libc::PR_CAPBSET_DROP, number, 0).is_err() {
            break;
        }
    }
}

/// Has exactly these capabilities (a set of bits).
pub fn set_capabilities(kept: u64) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header: [u32; 2] = [VERSION_3, 0];
    let (low, high) = (kept as u32, (kept >> 32) as u32);
    // effective, permitted, inheritable; twice
    let sets: [u32; 6] = [low, low, 0, high, high, 0];
    // SAFETY: both arrays have the layouts that capset(2) of version 3 reads.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) })?;
    Ok(())
}

/// Installs a seccomp filter for this thread and what it starts.
pub fn seccomp(program: &[libc::sock_filter]) -> io::Result<()> {
    const SECCOMP_SET_MODE_FILTER: libc::c_uint = 1;
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel reads `len` instructions, which live until the call returns.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    })?;
    Ok(())
}

/// Becomes this user with these groups.
pub fn become_user(user: u32, group: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: `groups` is valid for its length.
    let set = check(libc::c_long::from(unsafe {
        libc::setgroups(groups.len(), groups.as_ptr())
    }));
    match set {
        // A user namespace of one user has no say in groups, and none are asked for.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) && groups.is_empty() => {}
        other => drop(other?),
    }
    // SAFETY: only numbers are passed.
    check(libc::c_long::from(unsafe {
        libc::setresgid(group, group, group)
    }))?;
    // SAFETY: only numbers are passed.
    check(libc::c_long::from(unsafe {
        libc::setresuid(user, user, user)
    }))?;
    Ok(())
}

/// Hears of all signals as programs expect it to be. This one ignores broken pipes, and whoever
/// started it (`nohup`, a shell's background) may ignore others: what is ignored stays so in a new
/// program.
pub fn hear_all_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: the default is no function of ours. Those that have no other are refused, which
        // changes nothing.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Lets a write to somebody who is gone be an error and not the end, as in every program of this
/// language.
pub fn ignore_broken_pipes() {
    // SAFETY: to ignore a signal is no function of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Becomes the first program of `paths` that is there, which may have huge pages or what it inherits.
pub fn exec(
    paths: &[String],
    argv: &[String],
    env: &[(String, String)],
    huge_pages: bool,
) -> io::Error {
    let strings = || -> io::Result<_> {
        let all = |texts: &[String]| -> io::Result<Vec<CString>> {
            texts.iter().map(|text| c_string(text.as_str())).collect()
        };
        let env: io::Result<Vec<CString>> = (env.iter())
            .map(|(name, value)| c_string(format!("{name}={value}")))
            .collect();
        Ok((all(paths)?, all(argv)?, env?))
    };
    let (paths, argv, env) = match strings() {
        Ok(strings) => strings,
        Err(error) => return error,
    };
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        let all = strings.iter().map(|string| string.as_ptr());
        all.chain([std::ptr::null()]).collect()
    };
    let (arguments, variables) = (pointers(&argv), pointers(&env));
    // Nothing is allocated from here on: the kernel would clear a huge page for it.
    if huge_pages && let Err(error) = keep_to_small_pages(false) {
        return error;
    }
    let mut last = io::Error::from_raw_os_error(libc::ENOENT);
    for path in &paths {
        // SAFETY: the pointers are of strings above that end with a zero, and both lists end with null.
        unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), variables.as_ptr()) };
        last = io::Error::last_os_error();
        if last.raw_os_error() != Some(libc::ENOENT) {
            break;
        }
    }
    last
}

/// Switches the loopback device of the current network namespace on, and gives it one more address.
pub fn loopback(address: Option<u32>) -> io::Result<()> {
    let flags = nix::sys::socket::SockFlag::SOCK_CLOEXEC;
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Datagram,
        flags,
        None,
    )?;
    // SAFETY: an all-zero ifreq is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = |request: &mut libc::ifreq, text: &[u8]| {
        for (to, from) in request.ifr_name.iter_mut().zip(text) {
            *to = *from as libc::c_char;
        }
    };
    name(&mut request, b"lo\0");
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    let call = |request: &libc::ifreq, number: libc::c_ulong| {
        // SAFETY: an ifreq with name and value, as these calls read it.
        check(libc::c_long::from(unsafe {
            libc::ioctl(socket.as_raw_fd(), number as _, std::ptr::from_ref(request))
        }))
    };
    call(&request, libc::SIOCSIFFLAGS as libc::c_ulong)?;
    let Some(address) = address else {
        return Ok(());
    };
    name(&mut request, b"lo:1\0");
    // SAFETY: an all-zero sockaddr_in is a valid one.
    let mut inet: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    inet.sin_family = libc::AF_INET as libc::sa_family_t;
    let mut set = |value: u32, number: libc::c_ulong| {
        inet.sin_addr.s_addr = value.to_be();
        // SAFETY: both are plain 16 bytes; the kernel reads the union as a sockaddr_in.
        request.ifr_ifru.ifru_addr =
            unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(inet) };
        call(&request, number)
    };
    set(address, libc::SIOCSIFADDR as libc::c_ulong)?;
    set(u32::MAX, libc::SIOCSIFNETMASK as libc::c_ulong)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn errors_that_a_limit_causes_say_which() {
        let table = [
            (libc::EAGAIN, "pids.max"),
            (libc::EMFILE, "ulimit -n"),
            (libc::ENFILE, "fs.file-max"),
            (libc::ENOMEM, "memory"),
            (libc::ENOSPC, "user.max_"),
        ];
        for (number, word) in table {
            let text = with_advice(&io::Error::from_raw_os_error(number));
            assert!(text.contains(word), "{text}");
        }
        let plain = io::Error::from_raw_os_error(libc::ENOENT);
        assert_eq!(with_advice(&plain), plain.to_string());
    }

    #[test]
    fn exit_codes_and_signals_come_from_the_pidfd() {
        for (code, kill, expected) in [(7, None, 7), (0, None, 0), (0, Some(libc::SIGKILL), 137)] {
            let forked = clone3(0, None).expect("clone3");
            match forked {
                Forked::Child => {
                    if kill.is_some() {
                        loop {
                            // SAFETY: pause has no arguments.
                            unsafe { libc::pause() };
                        }
                    }
                    exit_now(code)
                }
                Forked::Parent(pidfd, _) => {
                    if let Some(number) = kill {
                        assert!(signal(pidfd.as_fd(), number).expect("a signal"));
                    }
                    let end = reap(pidfd.as_fd(), true).expect("waitid").expect("an end");
                    assert_eq!(end.code(), expected);
                    assert!(!signal(pidfd.as_fd(), libc::SIGTERM).unwrap_or(false));
                }
            }
        }
    }
}
