//! A container's root file system, made by the container's own first process in its own mount
//! namespace.
//!
//! Whatever comes from outside (devices, volumes, files of the pod) is taken as a detached mount
//! before the root changes, and attached after it: a path of an image can then lead nowhere but
//! into the image, whatever links it has.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::libc::{MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_REMOUNT};

use super::super::protocol::{ContainerSpec, Program, Root};
use super::super::sys::{self, attribute};

/// What went wrong, and in which step.
#[derive(Debug)]
pub struct Failed {
    /// The step.
    pub step: String,
    /// The kernel's word.
    pub error: io::Error,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "step {} failed: {}", self.step, self.error)
    }
}

/// Names the step of an error.
pub trait Step<T> {
    /// The error with the step's name.
    fn step(self, step: &str) -> Result<T, Failed>;
}

impl<T> Step<T> for io::Result<T> {
    fn step(self, step: &str) -> Result<T, Failed> {
        self.map_err(|error| Failed {
            step: step.to_owned(),
            error,
        })
    }
}

/// A mount to attach.
struct Detached {
    tree: OwnedFd,
    to: String,
    folder: bool,
}

/// The writable layer of a container without a limit, in bytes.
const WRITABLE: u64 = 1 << 30;
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Host folders and links that `host:` programs need.
const HOST: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32"];
/// `pkg/securitycontext`'s default masked paths.
const MASKED: [&str; 9] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
];
/// `pkg/securitycontext`'s default read-only paths.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

fn detached(from: &str, to: &str, attributes: u64) -> Result<Detached, Failed> {
    let what = format!("open_tree {from}");
    let folder = fs::metadata(from).step(&what)?.is_dir();
    let tree = sys::open_tree(from).step(&what)?;
    sys::set_attributes(tree.as_fd(), attributes).step(&what)?;
    let to = to.to_owned();
    Ok(Detached { tree, to, folder })
}

/// Makes the root of `spec` from `scratch` (memory of the cell) and enters it. `pod` is the pod's
/// folder; `rootless` says that all this is in a user namespace.
pub fn enter(spec: &ContainerSpec, scratch: &str, pod: &str, rootless: bool) -> Result<(), Failed> {
    let mut later = Vec::new();
    for device in DEVICES {
        let from = format!("/dev/{device}");
        later.push(detached(&from, &from, attribute::NOSUID)?);
    }
    for name in ["hosts", "hostname", "resolv.conf"] {
        let from = format!("{pod}/etc/{name}");
        if Path::new(&from).exists() {
            later.push(detached(&from, &format!("/etc/{name}"), attribute::NODEV)?);
        }
    }
    for mount in &spec.mounts {
        let read_only = if mount.read_only {
            attribute::RDONLY
        } else {
            0
        };
        let from = format!("{pod}/{}", mount.from);
        let attributes = attribute::NODEV | attribute::NOSUID | read_only;
        later.push(detached(&from, &mount.to, attributes)?);
    }
    let root = format!("{scratch}/root");
    // In a user namespace these can be mounted only where they are visible already.
    let kernel = if rootless { along(&root)? } else { Vec::new() };
    let host = base(spec, scratch, &root, rootless)?;
    std::env::set_current_dir(&root).step("chdir")?;
    sys::pivot_here().step("pivot_root")?;
    for (tree, to) in host {
        attach(&Detached {
            tree,
            to,
            folder: true,
        })?;
    }
    kernel_file_systems(&kernel)?;
    for mount in &later {
        attach(mount)?;
    }
    for (name, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(to, format!("/dev/{name}")).step("/dev links")?;
    }
    if !spec.rights.privileged {
        mask()?;
    }
    if let Program::Exec { cwd, .. } = &spec.program {
        // As runc does for a working folder that the image does not have.
        fs::create_dir_all(cwd).step(&format!("working folder {cwd}"))?;
    }
    if spec.rights.read_only || matches!(spec.program, Program::BuiltIn(_)) {
        sys::mount("", "/", "", MS_REMOUNT | RDONLY_BIND, "").step("read-only root")?;
    }
    Ok(())
}

const RDONLY_BIND: nix::libc::c_ulong = MS_RDONLY | nix::libc::MS_BIND;

/// Mounts what is at the bottom; returns the host's folders to attach on it.
fn base(
    spec: &ContainerSpec,
    scratch: &str,
    root: &str,
    rootless: bool,
) -> Result<Vec<(OwnedFd, String)>, Failed> {
    let size = spec.writable.unwrap_or(WRITABLE);
    let memory = |at: &str| {
        let options = format!("mode=755,size={size}");
        sys::mount("tmpfs", at, "tmpfs", MS_NODEV | MS_NOSUID, &options).step("tmpfs root")
    };
    let mut host = Vec::new();
    match &spec.program {
        Program::BuiltIn(_) => memory(root)?,
        Program::Exec {
            root: Root::Host, ..
        } => {
            memory(root)?;
            host = host_folders(root)?;
            let etc = format!("{root}/etc");
            fs::create_dir(&etc).step("/etc")?;
            writable(scratch, size)?;
            overlay("/etc", scratch, &etc, rootless)?;
        }
        Program::Exec {
            root: Root::Layers(layers),
            ..
        } => {
            writable(scratch, size)?;
            overlay(&layers.join(":"), scratch, root, rootless)?;
        }
    }
    Ok(host)
}

/// Memory for what is written over read-only folders.
fn writable(scratch: &str, size: u64) -> Result<(), Failed> {
    let writable = format!("{scratch}/writable");
    let options = format!("mode=755,size={size}");
    let flags = MS_NODEV | MS_NOSUID;
    sys::mount("tmpfs", &writable, "tmpfs", flags, &options).step("writable layer")?;
    for folder in ["upper", "work"] {
        fs::create_dir(format!("{writable}/{folder}")).step("writable layer")?;
    }
    Ok(())
}

/// Mounts read-only folders with the writable layer over them.
fn overlay(lower: &str, scratch: &str, to: &str, rootless: bool) -> Result<(), Failed> {
    let writable = format!("{scratch}/writable");
    // What a layer keeps for itself it keeps where root of a user namespace may write.
    let own = if rootless { ",userxattr" } else { "" };
    let options =
        format!("lowerdir={lower},upperdir={writable}/upper,workdir={writable}/work{own}");
    sys::mount("overlay", to, "overlay", MS_NODEV, &options).step("overlay")
}

/// The host's folders of programs, detached; its links are made at once.
fn host_folders(root: &str) -> Result<Vec<(OwnedFd, String)>, Failed> {
    let mut host = Vec::new();
    for path in HOST {
        let Ok(known) = fs::symlink_metadata(path) else {
            continue;
        };
        if known.is_symlink() {
            let to = fs::read_link(path).step(path)?;
            symlink(to, format!("{root}{path}")).step(path)?;
        } else {
            let tree = sys::open_tree(path).step(path)?;
            let attributes = attribute::RDONLY | attribute::NODEV | attribute::NOSUID;
            sys::set_attributes(tree.as_fd(), attributes).step(path)?;
            host.push((tree, path.to_owned()));
        }
    }
    Ok(host)
}

/// Attaches a mount in the new root, making what it needs to lie on.
fn attach(mount: &Detached) -> Result<(), Failed> {
    let what = format!("mount {}", mount.to);
    let to = Path::new(&mount.to);
    if mount.folder {
        fs::create_dir_all(to).step(&what)?;
    } else {
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).step(&what)?;
        }
        if !to.exists() {
            fs::write(to, "").step(&what)?;
        }
    }
    sys::move_mount(mount.tree.as_fd(), &mount.to).step(&what)
}

const PLAIN: nix::libc::c_ulong = MS_NOSUID | MS_NOEXEC | MS_NODEV;
/// File systems that show the kernel.
const KERNEL: [(&str, &str, nix::libc::c_ulong); 2] = [
    ("/proc", "proc", PLAIN),
    ("/sys", "sysfs", PLAIN | MS_RDONLY),
];

/// The file systems that show the kernel, mounted nowhere yet; `at` is a folder to make them at.
fn along(at: &str) -> Result<Vec<(OwnedFd, &'static str)>, Failed> {
    let mut all = Vec::new();
    for (to, kind, flags) in KERNEL {
        let step = format!("mount {to}");
        sys::mount(kind, at, kind, flags, "").step(&step)?;
        all.push((sys::open_tree(at).step(&step)?, to));
        sys::detach(at).step(&step)?;
    }
    Ok(all)
}

/// Mounts what every container has; `along` is what was mounted before.
fn kernel_file_systems(along: &[(OwnedFd, &str)]) -> Result<(), Failed> {
    for (at, kind, flags) in KERNEL {
        let step = format!("mount {at}");
        fs::create_dir_all(at).step(at)?;
        match along.iter().find(|(_, to)| *to == at) {
            Some((tree, _)) => sys::move_mount(tree.as_fd(), at).step(&step)?,
            None => sys::mount(kind, at, kind, flags, "").step(&step)?,
        }
    }
    let table: [(&str, &str, nix::libc::c_ulong, &str); 3] = [
        ("/dev", "tmpfs", MS_NOSUID, "mode=755,size=65536"),
        (
            "/dev/pts",
            "devpts",
            MS_NOSUID | MS_NOEXEC,
            "newinstance,ptmxmode=0666,mode=0620",
        ),
        ("/dev/shm", "tmpfs", PLAIN, "mode=1777,size=67108864"),
    ];
    for (at, kind, flags, options) in table {
        fs::create_dir_all(at).step(at)?;
        sys::mount(kind, at, kind, flags, options).step(&format!("mount {at}"))?;
    }
    fs::create_dir_all("/tmp").step("/tmp")?;
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions("/tmp", fs::Permissions::from_mode(0o1777)).step("/tmp")
}

fn mask() -> Result<(), Failed> {
    for path in MASKED {
        let Ok(known) = fs::metadata(path) else {
            continue;
        };
        let step = format!("mask {path}");
        if known.is_dir() {
            sys::mount("tmpfs", path, "tmpfs", MS_RDONLY, "size=0").step(&step)?;
        } else {
            let null = sys::open_tree("/dev/null").step(&step)?;
            sys::move_mount(null.as_fd(), path).step(&step)?;
        }
    }
    for path in READ_ONLY.iter().filter(|p| Path::new(p).exists()) {
        let step = format!("read-only {path}");
        let tree = sys::open_tree(path).step(&step)?;
        let attributes = attribute::RDONLY | attribute::NOSUID | attribute::NODEV;
        sys::set_attributes(tree.as_fd(), attributes).step(&step)?;
        sys::move_mount(tree.as_fd(), path).step(&step)?;
    }
    Ok(())
}
