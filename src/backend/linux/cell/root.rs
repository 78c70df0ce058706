//! A container's root file system, made by the container's own first process in its own mount
//! namespace.
//!
//! Whatever comes from the host or the pod (devices, layers, volumes, files) is taken as a detached
//! mount while the process still sees the cell's mounts. Then it enters a copy of the stage
//! ([`mounts::stage`]), in which nothing of the host is, makes the root there and attaches the rest:
//! a path of an image can lead nowhere but into the image, whatever links it has.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, mknod};

use nix::libc::{MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_REMOUNT};

use super::super::mounts::{self, LOWER, MOST_LAYERS, ROOT, WRITABLE, attribute};
use super::super::protocol::{ContainerSpec, Program, Root};

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
        let why = super::super::sys::with_advice(&self.error);
        write!(f, "step {} failed: {why}", self.step)
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

/// Where a container is made.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The stage.
    pub stage: BorrowedFd<'a>,
    /// Memory of the cell.
    pub scratch: &'a str,
    /// The pod's folder.
    pub pod: &'a str,
    /// It is in a user namespace.
    pub rootless: bool,
    /// What the host has.
    pub host: &'a Host,
}

/// What the host has of the paths that are shown or hidden: looked up once, not for every container.
#[derive(Debug)]
pub struct Host {
    /// Folders for its own programs, and where they lead if they are links.
    programs: Vec<(&'static str, Option<PathBuf>)>,
    masked_folders: Vec<&'static str>,
    masked_files: Vec<&'static str>,
    read_only: Vec<&'static str>,
}

impl Host {
    /// Looks it up; to be called where `/proc` and `/sys` are what containers will see.
    pub fn look_up() -> Host {
        let there = |paths: &[&'static str]| -> Vec<&'static str> {
            let there = paths.iter().filter(|path| Path::new(path).exists());
            there.copied().collect()
        };
        let program = |path: &&'static str| {
            let known = fs::symlink_metadata(path).ok()?;
            let link = known.is_symlink().then(|| fs::read_link(path));
            Some((*path, link.transpose().ok()?))
        };
        Host {
            programs: HOST.iter().filter_map(program).collect(),
            masked_folders: there(&MASKED_FOLDERS),
            masked_files: there(&MASKED_FILES),
            read_only: there(&READ_ONLY),
        }
    }
}

/// A mount to attach.
struct Detached {
    tree: OwnedFd,
    to: String,
    folder: bool,
}

/// The writable layer of a container without a limit, in bytes.
const WRITABLE_BYTES: u64 = 1 << 30;
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Files that a pod has and every container of it sees.
const POD_FILES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];
/// Host folders and links that `host:` programs need.
const HOST: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32"];
/// `pkg/securitycontext`'s default masked paths that are folders.
const MASKED_FOLDERS: [&str; 3] = ["/proc/asound", "/proc/acpi", "/sys/firmware"];
/// Those that are files.
const MASKED_FILES: [&str; 6] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
];
/// `pkg/securitycontext`'s default read-only paths.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];
/// Attributes of what only shows the kernel.
const PLAIN: u64 = attribute::NOSUID | attribute::NODEV | attribute::NOEXEC;

/// Makes what containers share in the cell's memory: an empty folder, and the root of those
/// built-in servers that need nothing but a few files.
///
/// # Errors
/// The file system's.
pub fn prepare(scratch: &str) -> io::Result<()> {
    fs::create_dir(format!("{scratch}/empty"))?;
    let root = format!("{scratch}/built-in");
    for folder in ["", "/dev", "/etc", "/tmp"] {
        fs::create_dir(format!("{root}{folder}"))?;
    }
    fs::write(format!("{root}/dev/null"), "")?;
    for file in POD_FILES {
        fs::write(format!("{root}/etc/{file}"), "")?;
    }
    Ok(())
}

fn detached(from: &str, to: &str, attributes: u64, folder: bool) -> io::Result<Detached> {
    let tree = mounts::open_tree(from)?;
    mounts::set_attributes(tree.as_fd(), attributes)?;
    let to = to.to_owned();
    Ok(Detached { tree, to, folder })
}

/// What is taken along onto the stage.
#[derive(Default)]
struct Luggage {
    /// What lies at the bottom.
    base: Vec<OwnedFd>,
    /// Links in the root: where they are, where they lead.
    links: Vec<(&'static str, PathBuf)>,
    /// Attached in the root before its own file systems are mounted.
    first: Vec<Detached>,
    /// Attached after that.
    then: Vec<Detached>,
    /// Empty folders that hide others.
    masks: Vec<Detached>,
}

/// Makes the root of `spec` and enters it.
pub fn enter(spec: &ContainerSpec, place: &Place<'_>) -> Result<(), Failed> {
    let luggage = pack(spec, place)?;
    mounts::enter(place.stage).step("enter a mount namespace")?;
    base(spec, &luggage, place.rootless)?;
    mounts::root_is_made().step("change root")?;
    let built_in = matches!(spec.program, Program::BuiltIn(_));
    for mount in &luggage.first {
        attach(mount)?;
    }
    if !built_in {
        own_file_systems()?;
    }
    for mount in &luggage.then {
        attach(mount)?;
    }
    if !spec.rights.privileged && !built_in {
        mask(&luggage.masks, place.host)?;
    }
    if let Program::Exec { cwd, .. } = &spec.program {
        // As runc does for a working folder that the image does not have.
        fs::create_dir_all(cwd).step(&format!("working folder {cwd}"))?;
    }
    if spec.rights.read_only || (built_in && !is_bare(spec)) {
        let flags = MS_REMOUNT | MS_BIND | MS_RDONLY;
        mounts::mount("", "/", "", flags, "").step("read-only root")?;
    }
    Ok(())
}

/// Whether the shared root of built-in servers will do: the server opens no files itself, so what
/// it needs is a few that the pod has.
fn is_bare(spec: &ContainerSpec) -> bool {
    matches!(spec.program, Program::BuiltIn(_)) && spec.mounts.is_empty()
}

/// File systems that show the kernel. In a user namespace they can be mounted only where they are
/// visible already, so they are made before the stage is entered.
const KERNEL: [(&str, &str, u64); 2] = [
    ("/proc", "proc", PLAIN),
    ("/sys", "sysfs", PLAIN | attribute::RDONLY),
];

fn pack(spec: &ContainerSpec, place: &Place<'_>) -> Result<Luggage, Failed> {
    let mut luggage = Luggage::default();
    pack_base(spec, place, &mut luggage)?;
    let built_in = matches!(spec.program, Program::BuiltIn(_));
    let later = &mut luggage.then;
    if !built_in {
        for (to, kind, attributes) in KERNEL {
            let tree = mounts::fresh(kind, &[], attributes).step(&format!("mount {to}"))?;
            let to = to.to_owned();
            let folder = true;
            luggage.first.push(Detached { tree, to, folder });
        }
    }
    let devices: &[&str] = if built_in { &["null"] } else { &DEVICES };
    for device in devices {
        let from = format!("/dev/{device}");
        later.push(detached(&from, &from, attribute::NOSUID, false).step(&from)?);
    }
    for name in POD_FILES {
        let from = format!("{}/etc/{name}", place.pod);
        match detached(&from, &format!("/etc/{name}"), attribute::NODEV, false) {
            Ok(file) => later.push(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).step(&from),
        }
    }
    for mount in &spec.mounts {
        let read_only = if mount.read_only {
            attribute::RDONLY
        } else {
            0
        };
        let from = format!("{}/{}", place.pod, mount.from);
        let what = format!("volume for {}", mount.to);
        let folder = fs::metadata(&from).step(&what)?.is_dir();
        let attributes = attribute::NODEV | attribute::NOSUID | read_only;
        later.push(detached(&from, &mount.to, attributes, folder).step(&what)?);
    }
    if !spec.rights.privileged && !built_in {
        let empty = format!("{}/empty", place.scratch);
        for path in &place.host.masked_folders {
            let attributes = PLAIN | attribute::RDONLY;
            let mask = detached(&empty, path, attributes, true).step("mask")?;
            luggage.masks.push(mask);
        }
    }
    Ok(luggage)
}

/// What lies at the bottom, as [`base`] puts it together.
fn pack_base(spec: &ContainerSpec, place: &Place<'_>, luggage: &mut Luggage) -> Result<(), Failed> {
    match &spec.program {
        Program::BuiltIn(_) if is_bare(spec) => {
            let root = format!("{}/built-in", place.scratch);
            let tree = detached(&root, ROOT, PLAIN | attribute::RDONLY, true).step("root")?;
            luggage.base.push(tree.tree);
        }
        Program::BuiltIn(_) => {}
        Program::Exec {
            root: Root::Host, ..
        } => {
            luggage.base.push(mounts::open_tree("/etc").step("/etc")?);
            for (path, link) in &place.host.programs {
                if let Some(link) = link {
                    luggage.links.push((path, link.clone()));
                } else {
                    let attributes = attribute::RDONLY | attribute::NODEV | attribute::NOSUID;
                    let tree = detached(path, path, attributes, true).step(path)?;
                    luggage.first.push(tree);
                }
            }
        }
        Program::Exec {
            root: Root::Layers(layers),
            ..
        } => {
            if layers.len() > MOST_LAYERS {
                let error = io::Error::other(format!("more than {MOST_LAYERS}"));
                return Err(error).step("layers");
            }
            for layer in layers {
                let tree = mounts::open_tree(layer).step(&format!("layer {layer}"))?;
                luggage.base.push(tree);
            }
        }
    }
    Ok(())
}

/// Makes what lies at the bottom, on the stage.
fn base(spec: &ContainerSpec, luggage: &Luggage, rootless: bool) -> Result<(), Failed> {
    let size = spec.writable.unwrap_or(WRITABLE_BYTES);
    let memory = |at: &str| {
        let options = format!("mode=755,size={size}");
        let flags = MS_NODEV | MS_NOSUID;
        mounts::mount("tmpfs", at, "tmpfs", flags, &options).step("writable layer")
    };
    if let Program::BuiltIn(_) = spec.program {
        return match luggage.base.first() {
            Some(tree) => mounts::move_mount(tree.as_fd(), ROOT).step("root"),
            None => memory(ROOT),
        };
    }
    memory(WRITABLE)?;
    for folder in ["upper", "work", "root"] {
        fs::create_dir(format!("{WRITABLE}/{folder}")).step("writable layer")?;
    }
    let mut lower = Vec::new();
    for (number, tree) in luggage.base.iter().enumerate() {
        let at = format!("{LOWER}/{number}");
        mounts::move_mount(tree.as_fd(), &at).step("layer")?;
        lower.push(at);
    }
    let lower = lower.join(":");
    match &spec.program {
        Program::Exec {
            root: Root::Host, ..
        } => {
            let root = format!("{WRITABLE}/root");
            mounts::mount(&root, ROOT, "", MS_BIND, "").step("root")?;
            for (at, to) in &luggage.links {
                symlink(to, format!("{ROOT}{at}")).step(at)?;
            }
            let etc = format!("{ROOT}/etc");
            fs::create_dir(&etc).step("/etc")?;
            overlay(&lower, &etc, rootless)
        }
        _ => overlay(&lower, ROOT, rootless),
    }
}

/// Mounts read-only folders with the writable layer over them.
fn overlay(lower: &str, to: &str, rootless: bool) -> Result<(), Failed> {
    // What a layer keeps for itself it keeps where root of a user namespace may write.
    let own = if rootless { ",userxattr" } else { "" };
    let options =
        format!("lowerdir={lower},upperdir={WRITABLE}/upper,workdir={WRITABLE}/work{own}");
    mounts::mount("overlay", to, "overlay", MS_NODEV, &options).step("overlay")
}

/// Attaches a mount in the new root, making what it needs to lie on.
fn attach(mount: &Detached) -> Result<(), Failed> {
    let what = format!("mount {}", mount.to);
    match mounts::move_mount(mount.tree.as_fd(), &mount.to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        done => return done.step(&what),
    }
    let to = Path::new(&mount.to);
    if fs::symlink_metadata(to).is_ok() {
        // A link of the image that leads nowhere.
        fs::remove_file(to).step(&what)?;
    }
    if mount.folder {
        fs::create_dir_all(to).step(&what)?;
    } else if let Err(error) = fs::File::create(to) {
        let parent = to
            .parent()
            .filter(|_| error.kind() == io::ErrorKind::NotFound);
        let parent = parent.ok_or(error).step(&what)?;
        fs::create_dir_all(parent).step(&what)?;
        fs::File::create(to).step(&what)?;
    }
    mounts::move_mount(mount.tree.as_fd(), &mount.to).step(&what)
}

/// Mounts what every container has of its own. Devices are mounts: a program that may make device
/// files cannot use them.
fn own_file_systems() -> Result<(), Failed> {
    let table: [(&str, &str, nix::libc::c_ulong, &str); 3] = [
        ("/dev", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=65536"),
        (
            "/dev/pts",
            "devpts",
            MS_NOSUID | MS_NOEXEC,
            "newinstance,ptmxmode=0666,mode=0620",
        ),
        (
            "/dev/shm",
            "tmpfs",
            MS_NOSUID | MS_NODEV | MS_NOEXEC,
            "mode=1777,size=67108864",
        ),
    ];
    for (at, kind, flags, options) in table {
        made(at).step(at)?;
        mounts::mount(kind, at, kind, flags, options).step(&format!("mount {at}"))?;
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
    for device in DEVICES {
        let at = format!("/dev/{device}");
        let (kind, mode) = (SFlag::S_IFREG, Mode::from_bits_truncate(0o644));
        let made = mknod(at.as_str(), kind, mode, 0).map_err(io::Error::from);
        made.step("/dev files")?;
    }
    if made("/tmp").step("/tmp")? {
        fs::set_permissions("/tmp", fs::Permissions::from_mode(0o1777)).step("/tmp")?;
    }
    Ok(())
}

/// Makes a folder; whether it was not there.
fn made(folder: &str) -> io::Result<bool> {
    match fs::create_dir(folder) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Hides paths of the kernel's, and makes others read-only.
fn mask(folders: &[Detached], host: &Host) -> Result<(), Failed> {
    for mask in folders {
        let step = format!("mask {}", mask.to);
        mounts::move_mount(mask.tree.as_fd(), &mask.to).step(&step)?;
    }
    for path in &host.masked_files {
        let step = format!("mask {path}");
        let null = mounts::open_tree("/dev/null").step(&step)?;
        mounts::move_mount(null.as_fd(), path).step(&step)?;
    }
    for path in &host.read_only {
        let attributes = attribute::RDONLY | attribute::NOSUID | attribute::NODEV;
        match detached(path, path, attributes, true) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            tree => {
                let step = format!("read-only {path}");
                mounts::move_mount(tree.step(&step)?.tree.as_fd(), path).step(&step)?;
            }
        }
    }
    Ok(())
}
