//! Nodes and pods as places: their groups, network namespaces and folders.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::libc;

use super::super::cgroup::Group;
use super::super::layout::Hierarchies;
use super::super::mounts;
use super::super::protocol::{File, Limits, NodeSpec, PodSpec, Program, Qos};
use super::super::sys;
use super::root::{self, Failed, Step};

/// Makes what a new cell stands on; its network namespace, and the stage.
///
/// # Errors
/// Which step failed, and why.
pub fn ground(scratch: &str) -> Result<(OwnedFd, OwnedFd), Failed> {
    let private = libc::MS_REC | libc::MS_PRIVATE;
    mounts::mount("", "/", "", private, "").step("make mounts private")?;
    mounts::mount("proc", "/proc", "proc", 0, "").step("mount /proc")?;
    let step = format!("mount memory at {scratch}");
    mounts::mount("tmpfs", scratch, "tmpfs", libc::MS_NODEV, "mode=755").step(&step)?;
    fs::create_dir(format!("{scratch}/pods")).step(&step)?;
    root::prepare(scratch).step(&step)?;
    let stage = mounts::stage(scratch).step("make a mount namespace")?;
    sys::loopback(None).step("switch the loopback device on")?;
    let home = fs::File::open("/proc/self/ns/net").step("hold its network")?;
    Ok((home.into(), stage))
}

/// A node.
pub struct Node {
    /// What it was made with.
    pub spec: NodeSpec,
    /// The machine's group.
    pub group: Group,
    /// `kubepods`.
    pub pods: Group,
    /// `kubepods/burstable`.
    pub burstable: Group,
    /// `kubepods/besteffort`.
    pub best_effort: Group,
    /// The node's network namespace.
    pub network: OwnedFd,
    /// What is watched for its kubelet.
    pub watched: Option<Watched>,
}

/// A node's memory, as its kubelet has it watched.
#[derive(Clone, Copy, Debug)]
pub struct Watched {
    /// The node's number.
    pub number: u32,
    /// So many bytes should be available.
    pub floor: u64,
    /// They are not, and that was told.
    pub tight: bool,
}

impl Node {
    /// Makes a node.
    ///
    /// # Errors
    /// A group or namespace cannot be made.
    pub fn create(
        root: &Hierarchies,
        spec: NodeSpec,
        home: BorrowedFd<'_>,
        network: Option<OwnedFd>,
    ) -> io::Result<Node> {
        let mut group = Group::create_in_all(root, &spec.name, &spec.machine)?;
        group.delegate();
        let mut pods = Group::create_in_all(&group.at, "kubepods", &spec.pods)?;
        pods.delegate();
        let least = Limits {
            shares: Some(2),
            ..Limits::default()
        };
        let mut burstable = Group::create_in_all(&pods.at, "burstable", &least)?;
        burstable.delegate();
        let mut best_effort = Group::create_in_all(&pods.at, "besteffort", &least)?;
        best_effort.delegate();
        let network = match network {
            Some(network) => network,
            None => new_network(home, None)?,
        };
        Ok(Node {
            spec,
            group,
            pods,
            burstable,
            best_effort,
            network,
            watched: None,
        })
    }

    /// The group in which pods of a class live.
    pub fn level(&self, qos: Qos) -> &Group {
        match qos {
            Qos::Guaranteed => &self.pods,
            Qos::Burstable => &self.burstable,
            Qos::BestEffort => &self.best_effort,
        }
    }

    /// Limits that could not be set.
    pub fn lost(&self) -> impl Iterator<Item = &String> {
        let groups = [&self.group, &self.pods, &self.burstable, &self.best_effort];
        groups.into_iter().flat_map(|group| &group.lost)
    }

    /// Its groups, innermost first.
    pub fn into_groups(self) -> [Group; 4] {
        [self.best_effort, self.burstable, self.pods, self.group]
    }
}

/// A pod.
pub struct Pod {
    /// What it was made with.
    pub spec: PodSpec,
    /// Its group.
    pub group: Group,
    /// Its network namespace.
    pub network: OwnedFd,
    /// Its folder in the cell's memory.
    pub folder: String,
    /// Ports below 1024 need no right in it, or will not.
    low_ports: bool,
    /// It is being removed.
    pub removing: bool,
    /// Nobody is told when it is.
    pub silent: bool,
}

impl Pod {
    /// Makes a pod's sandbox; `step` is called before each step. What a failure leaves undone is
    /// undone.
    ///
    /// # Errors
    /// A group, namespace or folder cannot be made.
    pub fn create(
        node: &Node,
        spec: PodSpec,
        scratch: &str,
        home: BorrowedFd<'_>,
        network: Option<OwnedFd>,
        step: &mut dyn FnMut(&str) -> io::Result<()>,
    ) -> io::Result<Pod> {
        step("pod group")?;
        let name = format!("pod{}", spec.uid);
        let at = node.level(spec.qos).at.below(&name);
        // What is written to its volumes stays when the container that wrote it is gone.
        let counted = !spec.empty_dirs.is_empty();
        let mut group = Group::create_around(at, &spec.limits, counted)?;
        group.delegate();
        let own = || match network {
            Some(network) => Ok(network),
            None if spec.host_network => node.network.try_clone(),
            None => new_network(home, Some(spec.ip)),
        };
        let network = match step("pod namespace").and_then(|()| own()) {
            Ok(network) => network,
            Err(error) => {
                group.remove();
                return Err(error);
            }
        };
        let folder = format!("{scratch}/pods/{}", spec.uid);
        let pod = Pod {
            spec,
            group,
            network,
            folder,
            low_ports: false,
            removing: false,
            silent: false,
        };
        match pod.fill(step) {
            Ok(()) => Ok(pod),
            Err(error) => {
                pod.clear();
                pod.group.remove();
                Err(error)
            }
        }
    }

    /// Whether a container with this program must see to it that ports below 1024 need no right of
    /// their own in the pod, as containerd has it. It costs a walk through the kernel's settings, the
    /// longer the more pods there are, so it is done once, and not for a server that has no such port.
    pub fn opens_low_ports_for(&mut self, program: &Program) -> bool {
        let wanted = match program {
            Program::BuiltIn(model) => model.ports.iter().any(|port| *port < 1024),
            Program::Exec { .. } => true,
        };
        wanted && !self.spec.host_network && !std::mem::replace(&mut self.low_ports, true)
    }

    fn fill(&self, step: &mut dyn FnMut(&str) -> io::Result<()>) -> io::Result<()> {
        step("pod folder")?;
        fs::create_dir_all(format!("{}/etc", self.folder))?;
        step("pod files")?;
        self.write(&self.spec.files)?;
        for (name, limit, memory) in &self.spec.empty_dirs {
            step("pod volume")?;
            let at = format!("{}/volumes/{name}", self.folder);
            fs::create_dir_all(&at)?;
            if limit.is_some() || *memory {
                let size = limit
                    .map(|bytes| format!(",size={bytes}"))
                    .unwrap_or_default();
                let flags = libc::MS_NODEV | libc::MS_NOSUID;
                mounts::mount("tmpfs", &at, "tmpfs", flags, &format!("mode=1777{size}"))?;
            } else {
                use std::os::unix::fs::PermissionsExt;
                fs::set_permissions(&at, fs::Permissions::from_mode(0o1777))?;
            }
        }
        step("pod done")
    }

    /// Writes files into its folder, each replaced as a whole.
    ///
    /// # Errors
    /// A path that leaves the folder, or the file system's.
    pub fn write(&self, files: &[File]) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        for file in files {
            let inside = Path::new(&file.path)
                .components()
                .all(|part| matches!(part, std::path::Component::Normal(_)));
            if !inside {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
            let path = Path::new(&self.folder).join(&file.path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&path, &file.content)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(file.mode))?;
        }
        Ok(())
    }

    /// Removes its folder and volumes.
    pub fn clear(&self) {
        for (name, limit, memory) in &self.spec.empty_dirs {
            if limit.is_some() || *memory {
                // What is still used goes when its last user does.
                let _ = mounts::detach(&format!("{}/volumes/{name}", self.folder));
            }
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Network namespaces of pods that are gone. The kernel takes down what is given up together in one
/// go, which costs little more than one alone, and keeps others from making links meanwhile.
#[derive(Default)]
pub struct Dead {
    networks: Vec<OwnedFd>,
    due: u64,
}

impl Dead {
    /// So many are given up at once.
    const MANY: usize = 24;
    /// Or as many as there are after so long.
    const NANOS: u64 = 100_000_000;

    /// Takes one more.
    pub fn take(&mut self, network: OwnedFd) {
        if self.networks.is_empty() {
            self.due = sys::monotonic() + Dead::NANOS;
        }
        self.networks.push(network);
    }

    /// When they are to be given up.
    pub fn due(&self) -> Option<u64> {
        (!self.networks.is_empty()).then_some(self.due)
    }

    /// Gives them up, if it is time.
    pub fn give_up(&mut self, now: u64) {
        if self.networks.len() >= Dead::MANY || self.due <= now {
            self.networks.clear();
        }
    }
}

/// A new network namespace whose loopback device is up, perhaps with an address; the caller is left
/// in the namespace `home`.
///
/// # Errors
/// The kernel's.
pub fn new_network(home: BorrowedFd<'_>, address: Option<u32>) -> io::Result<OwnedFd> {
    sys::unshare(libc::CLONE_NEWNET)?;
    let made = || -> io::Result<OwnedFd> {
        let network = fs::File::open("/proc/self/ns/net")?;
        sys::loopback(address)?;
        Ok(network.into())
    };
    let network = made();
    sys::setns(home.as_fd(), libc::CLONE_NEWNET)?;
    network
}
