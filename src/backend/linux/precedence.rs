//! Who gets the CPU when the host has other work: the run's own machinery first, its containers soon,
//! within the limits of their nodes.
//!
//! What drives a run (the main process, the cell, the wire, the users) works for microseconds at
//! instants that matter. Were it to wait its turn among whatever else the host does, that wait would
//! be measured as the cluster's.

use nix::libc;

/// How much of the host a thread of this program gets when others want it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precedence {
    /// Before everything ordinary; what it forks is ordinary again.
    RealTime,
    /// More than others.
    Nice,
    /// As everybody.
    Ordinary,
}

/// Lets the calling thread run before ordinary work of this host, as far as it is allowed to: what
/// it does takes microseconds, and its instants are the run's. Children are ordinary again.
pub fn precede() -> Precedence {
    let parameter = libc::sched_param { sched_priority: 1 };
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the pointer is to a local; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) } == 0 {
        return Precedence::RealTime;
    }
    // SAFETY: setpriority takes integers; 0 is the calling thread.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -15) } {
        0 => Precedence::Nice,
        _ => Precedence::Ordinary,
    }
}

/// Asks for short turns on the CPU rather than long ones: a server that is woken is not to wait for
/// what others do for milliseconds. A kernel that does not know that (before 6.12) ignores it.
pub fn take_short_turns() {
    /// `struct sched_attr` as it was at first.
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    const TURN_NS: u64 = 200_000;
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        runtime: TURN_NS,
        ..Attributes::default()
    };
    // SAFETY: the pointer is to a local that has the size that it says; 0 is the calling thread.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}

/// Takes back what [`precede`] did.
pub fn be_ordinary() {
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: the pointer is to a local; 0 is the calling thread.
    unsafe {
        libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const parameter);
        libc::setpriority(libc::PRIO_PROCESS, 0, 0);
    }
}
