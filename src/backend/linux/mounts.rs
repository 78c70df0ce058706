//! Mounts: the system calls, and the stage on which containers get their roots.
//!
//! A mount can be had three ways: attached at a path, as `mount(2)` does; as a detached copy of
//! what is at a path; or fresh and detached. Detached ones are descriptors, and gone when nobody
//! attaches them.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;

use super::sys::{c_string, check, setns, unshare};

/// mount(2).
pub fn mount(
    source: &str,
    target: &str,
    kind: &str,
    flags: libc::c_ulong,
    options: &str,
) -> io::Result<()> {
    let (source, target) = (c_string(source)?, c_string(target)?);
    let (kind, options) = (c_string(kind)?, c_string(options)?);
    // SAFETY: four strings that end in zero and live until the call returns.
    check(libc::c_long::from(unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags,
            options.as_ptr().cast(),
        )
    }))?;
    Ok(())
}

/// umount2(2) with `MNT_DETACH`.
pub fn detach(target: &str) -> io::Result<()> {
    let target = c_string(target)?;
    // SAFETY: a string that ends in zero and lives until the call returns.
    check(libc::c_long::from(unsafe {
        libc::umount2(target.as_ptr(), libc::MNT_DETACH)
    }))?;
    Ok(())
}

/// Makes the current folder the root and forgets the old root.
pub fn pivot_here() -> io::Result<()> {
    let (dot, root) = (c".", c"/");
    // SAFETY: constant strings that end in zero.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, dot.as_ptr(), dot.as_ptr()) })?;
    // The old root lies on top of the new one now: taking off what is there leaves the new root.
    // SAFETY: as above.
    check(libc::c_long::from(unsafe {
        libc::umount2(dot.as_ptr(), libc::MNT_DETACH)
    }))?;
    // SAFETY: as above.
    check(libc::c_long::from(unsafe { libc::chdir(root.as_ptr()) }))?;
    Ok(())
}

/// A mount of its own of what is at `path`, attached nowhere yet.
pub fn open_tree(path: &str) -> io::Result<OwnedFd> {
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    let path = c_string(path)?;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint;
    // SAFETY: a string that ends in zero and lives until the call returns, and numbers.
    let fd =
        check(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Attaches a mount at `to`.
pub fn move_mount(tree: BorrowedFd<'_>, to: &str) -> io::Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
    let (empty, to) = (c"", c_string(to)?);
    // SAFETY: strings that end in zero and live until the call returns, and numbers.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            empty.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })?;
    Ok(())
}

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
#[derive(Default)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// Attributes of a mount.
pub mod attribute {
    /// Nothing can be written.
    pub const RDONLY: u64 = 1;
    /// No set-user-id programs.
    pub const NOSUID: u64 = 2;
    /// No device files.
    pub const NODEV: u64 = 4;
    /// Nothing can be executed.
    pub const NOEXEC: u64 = 8;
}

/// Sets attributes of the mount of a descriptor.
pub fn set_attributes(tree: BorrowedFd<'_>, set: u64) -> io::Result<()> {
    let attributes = MountAttributes {
        set,
        ..MountAttributes::default()
    };
    let empty = c"";
    // SAFETY: the structure has the layout of mount_attr and its size is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            empty.as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    })?;
    Ok(())
}

/// A new file system that is mounted nowhere yet.
pub fn fresh(kind: &str, options: &[(&str, &str)], attributes: u64) -> io::Result<OwnedFd> {
    const FSOPEN_CLOEXEC: libc::c_uint = 1;
    const FSCONFIG_SET_STRING: libc::c_uint = 1;
    const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
    const FSMOUNT_CLOEXEC: libc::c_uint = 1;
    let kind = c_string(kind)?;
    // SAFETY: a string that ends in zero and lives until the call returns, and a number.
    let fd = check(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    let context = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
    let configure =
        |command: libc::c_uint, key: *const libc::c_char, value: *const libc::c_char| {
            // SAFETY: strings that end in zero and live until the call returns, or null.
            check(unsafe {
                let fd = context.as_raw_fd();
                libc::syscall(libc::SYS_fsconfig, fd, command, key, value, 0)
            })
        };
    for (key, value) in options {
        let (key, value) = (c_string(*key)?, c_string(*value)?);
        configure(FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr())?;
    }
    configure(FSCONFIG_CMD_CREATE, std::ptr::null(), std::ptr::null())?;
    // SAFETY: only numbers are passed.
    let fd = check(unsafe {
        let fd = context.as_raw_fd();
        libc::syscall(libc::SYS_fsmount, fd, FSMOUNT_CLOEXEC, attributes)
    })?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Folders of the stage: where a container's root is made, where what it writes is kept, and where
/// read-only layers are, by number from 0.
pub const ROOT: &str = "/root";
/// See [`ROOT`].
pub const WRITABLE: &str = "/writable";
/// See [`ROOT`].
pub const LOWER: &str = "/lower";
/// More layers than any builder makes.
pub const MOST_LAYERS: usize = 256;

/// Makes the stage: a mount namespace with a few empty folders and nothing of the host. A container
/// takes a copy of it, which is one mount and not the host's dozens, and there is nothing in it to
/// escape to. `at` is any folder.
///
/// # Errors
/// The kernel's. The caller, who has one thread, is left in its own namespace.
pub fn stage(at: &str) -> io::Result<OwnedFd> {
    let home = fs::File::open("/proc/self/ns/mnt")?;
    let namespaces = fs::File::open("/proc/self/ns")?;
    unshare(libc::CLONE_NEWNS)?;
    let made = || -> io::Result<OwnedFd> {
        mount(
            "tmpfs",
            at,
            "tmpfs",
            libc::MS_NODEV | libc::MS_NOSUID,
            "mode=755,size=4096",
        )?;
        for folder in [ROOT, WRITABLE, LOWER] {
            fs::create_dir(format!("{at}{folder}"))?;
        }
        for number in 0..MOST_LAYERS {
            fs::create_dir(format!("{at}{LOWER}/{number}"))?;
        }
        let read_only = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY;
        mount("", at, "", read_only, "")?;
        std::env::set_current_dir(at)?;
        pivot_here()?;
        let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_CLOEXEC;
        let mode = nix::sys::stat::Mode::empty();
        Ok(nix::fcntl::openat(&namespaces, "mnt", flags, mode)?)
    };
    let stage = made();
    setns(home.as_fd(), libc::CLONE_NEWNS)?;
    stage
}

/// Enters a copy of the stage.
pub fn enter(stage: BorrowedFd<'_>) -> io::Result<()> {
    setns(stage, libc::CLONE_NEWNS)?;
    unshare(libc::CLONE_NEWNS)
}

/// Makes what is mounted at [`ROOT`] of the stage the root, for this process and for all that
/// enter its namespace.
pub fn root_is_made() -> io::Result<()> {
    std::env::set_current_dir(ROOT)?;
    mount(".", "/", "", libc::MS_MOVE, "")?;
    nix::unistd::chroot(".")?;
    Ok(())
}
