//! What a container's processes may do: user, capabilities, no_new_privs, seccomp.
//!
//! The filter denies what containers have no business with (mounts, modules, tracing across
//! processes, new namespaces, BPF, io_uring, clocks); everything else is allowed. It is a binary
//! search over ranges of call numbers: the kernel's time to load and to run a filter grows with
//! its length.

use std::io;

use nix::libc::{self, sock_filter};

use super::super::protocol::Rights;
use super::super::sys;

/// Kubernetes' default set of a container: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID,
/// SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP.
pub const DEFAULT_CAPABILITIES: u64 = bits(&[0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31]);

const fn bits(numbers: &[u32]) -> u64 {
    let (mut set, mut i) = (0, 0);
    while i < numbers.len() {
        set |= 1 << numbers[i];
        i += 1;
    }
    set
}

/// Names of capabilities by number, without `CAP_`.
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

const DENIED: &[libc::c_long] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_open_by_handle_at,
    libc::SYS_acct,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_quotactl,
    libc::SYS_syslog,
];

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL: u32 = 0x8000_0000;
/// Namespaces that clone(2) may not make.
const NAMESPACES: u32 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u32;

fn load(offset: u32) -> sock_filter {
    sock_filter {
        code: 0x20,
        jt: 0,
        jf: 0,
        k: offset,
    }
}

fn result(value: u32) -> sock_filter {
    sock_filter {
        code: 0x06,
        jt: 0,
        jf: 0,
        k: value,
    }
}

/// From this call number on, this happens.
type Segment = (u32, Verdict);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Return(u32),
    /// Denied when it makes namespaces.
    Clone,
}

fn segments() -> Vec<Segment> {
    let eperm = Verdict::Return(ERRNO | libc::EPERM as u32);
    let mut special: Vec<(u32, Verdict)> = DENIED.iter().map(|n| (*n as u32, eperm)).collect();
    special.push((libc::SYS_clone as u32, Verdict::Clone));
    // Its flags are out of a filter's sight; without it C libraries use clone.
    special.push((
        libc::SYS_clone3 as u32,
        Verdict::Return(ERRNO | libc::ENOSYS as u32),
    ));
    special.sort_by_key(|(n, _)| *n);
    let mut all: Vec<Segment> = vec![(0, Verdict::Return(ALLOW))];
    for (number, verdict) in special {
        match all.last() {
            Some((from, _)) if *from == number => {
                all.pop();
            }
            _ => {}
        }
        all.push((number, verdict));
        all.push((number + 1, Verdict::Return(ALLOW)));
    }
    // The x32 calls of x86-64.
    all.push((0x4000_0000, eperm));
    let mut merged: Vec<Segment> = Vec::new();
    for segment in all {
        if merged
            .last()
            .is_none_or(|(_, verdict)| *verdict != segment.1)
        {
            merged.push(segment);
        }
    }
    merged
}

fn search(segments: &[Segment]) -> Vec<sock_filter> {
    let [(_, only)] = segments else {
        let (left, right) = segments.split_at(segments.len() / 2);
        let code = search(left);
        let mut all = vec![sock_filter {
            code: 0x35, // jump if greater or equal
            jt: u8::try_from(code.len()).expect("a short filter"),
            jf: 0,
            k: right[0].0,
        }];
        all.extend(code);
        all.extend(search(right));
        return all;
    };
    match only {
        Verdict::Return(value) => vec![result(*value)],
        Verdict::Clone => vec![
            load(16),
            sock_filter {
                code: 0x45,
                jt: 0,
                jf: 1,
                k: NAMESPACES,
            },
            result(ERRNO | libc::EPERM as u32),
            result(ALLOW),
        ],
    }
}

/// The filter.
pub fn filter() -> Vec<sock_filter> {
    let mut program = vec![
        load(4),
        sock_filter {
            code: 0x15,
            jt: 1,
            jf: 0,
            k: ARCHITECTURE,
        },
        result(KILL),
        load(0),
    ];
    program.extend(search(&segments()));
    program
}

/// Takes on the rights of a container; from here on nothing can be mounted.
pub fn take_on(rights: &Rights) -> io::Result<()> {
    if !rights.escalation && !rights.privileged {
        sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
    }
    let filtered = !rights.privileged;
    // Without no_new_privs a filter needs a capability that is given up below.
    if filtered {
        sys::seccomp(&filter())?;
    }
    let (user, group) = rights.user;
    if user != 0 {
        // What is kept of the capabilities is lost at exec, as upstream's runtimes have it.
        sys::prctl(libc::PR_SET_KEEPCAPS, 0, 0)?;
    }
    let kept = if user == 0 { rights.capabilities } else { 0 };
    let bounding = rights.capabilities;
    sys::drop_bounding(bounding);
    sys::become_user(user, group, &rights.groups)?;
    sys::set_capabilities(kept)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter says to a call, by an interpreter of the five instructions used.
    fn run(program: &[sock_filter], architecture: u32, number: u32, argument: u32) -> u32 {
        let (mut at, mut a) = (0usize, 0u32);
        loop {
            let i = &program[at];
            at += 1;
            let jump = |yes: bool| usize::from(if yes { i.jt } else { i.jf });
            match i.code {
                0x20 => {
                    a = match i.k {
                        0 => number,
                        4 => architecture,
                        16 => argument,
                        other => panic!("offset {other}"),
                    }
                }
                0x06 => return i.k,
                0x15 => at += jump(a == i.k),
                0x35 => at += jump(a >= i.k),
                0x45 => at += jump(a & i.k != 0),
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn the_filter_denies_these_calls_and_no_others() {
        let program = filter();
        assert!(program.len() < 160, "{} instructions", program.len());
        let eperm = ERRNO | libc::EPERM as u32;
        for number in 0..600 {
            let expected = match i64::from(number) {
                libc::SYS_clone3 => ERRNO | libc::ENOSYS as u32,
                n if DENIED.contains(&n) => eperm,
                _ => ALLOW,
            };
            assert_eq!(run(&program, ARCHITECTURE, number, 0), expected, "{number}");
        }
        let clone = libc::SYS_clone as u32;
        assert_eq!(
            run(&program, ARCHITECTURE, clone, libc::CLONE_NEWUSER as u32),
            eperm
        );
        assert_eq!(
            run(&program, ARCHITECTURE, clone, libc::CLONE_THREAD as u32),
            ALLOW
        );
        assert_eq!(run(&program, ARCHITECTURE, 0x4000_0001, 0), eperm);
        assert_eq!(run(&program, 0x4000_0003, 1, 0), KILL);
    }

    #[test]
    fn the_default_capabilities_are_those_of_container_runtimes() {
        let names: Vec<&str> = (0..NAMES.len())
            .filter(|n| DEFAULT_CAPABILITIES & (1 << n) != 0)
            .map(|n| NAMES[n])
            .collect();
        assert_eq!(
            names.join(" "),
            "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE \
             NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP"
        );
    }
}
