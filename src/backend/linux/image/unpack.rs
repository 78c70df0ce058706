//! Layers of an image, unpacked one over the other into a folder.
//!
//! An archive comes from a stranger. Nothing is written outside of the folder ([`super::tree`]),
//! devices are left out, and what is unpacked is limited in bytes and in number. A layer removes
//! what lower ones had by *whiteouts*: `.wh.NAME` removes `NAME`, `.wh..wh..opq` all that lower
//! layers have in its folder (`image-spec/layer.md`).
//!
//! Layers are not kept apart, because a layer means what it says in the presence of the lower
//! ones: `a/b` lies wherever their link `a` leads.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmodat, fstat, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, linkat, mkfifoat, symlinkat};
use serde::{Deserialize, Serialize};
use tar::{Archive, Entry, EntryType};

use super::tree::{Place, Tree, is_folder, names, set_attribute};

/// The prefix of whiteouts.
const WHITEOUT: &[u8] = b".wh.";
/// What removes everything of lower layers in its folder.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// The prefix of what a storage driver kept for itself.
const PRIVATE: &[u8] = b".wh..wh.";
/// Rights that a program has by its file (`ping`, say).
const CAPABILITY: &str = "security.capability";

/// How much may be unpacked.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of files.
    pub bytes: u64,
    /// Files, folders, links.
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            bytes: 16 << 30,
            entries: 2_000_000,
        }
    }
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Bytes of files.
    pub bytes: u64,
    /// Files, folders, links.
    pub entries: u64,
    /// Devices, which were left out.
    pub devices: u64,
    /// Files whose owner could not be set.
    pub unowned: u64,
}

/// What a header says besides the kind.
struct Attributes {
    mode: Mode,
    owner: (u32, u32),
    time: TimeSpec,
}

/// An image on its way into a folder.
pub struct Unpacker {
    tree: Tree,
    limits: Limits,
    tally: Tally,
    /// Whether this user may give files away.
    owners: bool,
    /// Modes and times that folders get in the end.
    folders: BTreeMap<PathBuf, (Mode, TimeSpec)>,
    /// What this layer has put: the folder's inode, and the name.
    put: HashSet<(u64, OsString)>,
}

/// What is wrong with an entry.
type Wrong = io::Error;

impl Unpacker {
    /// Into an empty folder.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(folder: &Path, limits: Limits) -> io::Result<Unpacker> {
        Ok(Unpacker {
            tree: Tree::open(folder)?,
            limits,
            tally: Tally::default(),
            owners: nix::unistd::geteuid().is_root(),
            folders: BTreeMap::new(),
            put: HashSet::new(),
        })
    }

    /// Unpacks a layer over those before it.
    ///
    /// # Errors
    /// The entry that cannot be unpacked, and why.
    pub fn layer(&mut self, layer: &mut dyn Read) -> Result<(), String> {
        self.put.clear();
        let mut archive = Archive::new(layer);
        let entries = archive.entries().map_err(|e| e.to_string())?;
        for entry in entries {
            let mut entry = entry.map_err(|e| format!("the archive is broken: {e}"))?;
            let path = PathBuf::from(OsStr::from_bytes(&entry.path_bytes()));
            let done = self.entry(&mut entry, &path);
            done.map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }

    /// Gives folders their modes and times: only now, since they may forbid writing.
    ///
    /// # Errors
    /// The kernel's.
    pub fn finish(mut self) -> Result<Tally, String> {
        self.tree.forget();
        // Inner folders come first: writing to one changes the time of the outer one.
        for (path, (mode, time)) in self.folders.iter().rev() {
            let set = |tree: &mut Tree| -> io::Result<()> {
                let place = tree.place(path)?;
                let there = place.look()?;
                if there.is_some_and(|stat| is_folder(&stat)) {
                    set_mode(&place, *mode)?;
                    set_time(&place, time)?;
                }
                Ok(())
            };
            set(&mut self.tree).map_err(|error| format!("{}: {error}", path.display()))?;
            self.tree.forget();
        }
        Ok(self.tally)
    }

    fn entry(&mut self, entry: &mut Entry<'_, &mut dyn Read>, path: &Path) -> Result<(), Wrong> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader) {
            return Ok(());
        }
        self.tally.entries += 1;
        if self.tally.entries > self.limits.entries {
            let text = format!("more than {} entries", self.limits.entries);
            return Err(io::Error::other(text));
        }
        let place = self.tree.place(path)?;
        if place.name.as_bytes().starts_with(WHITEOUT) {
            return self.whiteout(&place);
        }
        if matches!(kind, EntryType::Char | EntryType::Block) {
            self.tally.devices += 1;
            return Ok(());
        }
        let attributes = attributes(entry)?;
        if kind == EntryType::Directory {
            self.folder(&place, path, &attributes)?;
        } else {
            if place.name == "." {
                return Err(io::Error::other("the root can be nothing but a folder"));
            }
            if place.look()?.is_some_and(|stat| is_folder(&stat)) {
                self.tree.forget();
            }
            place.remove()?;
            self.file(entry, kind, &place, &attributes)?;
        }
        self.put.insert(key(place.folder.as_fd(), &place.name)?);
        Ok(())
    }

    fn folder(&mut self, place: &Place, path: &Path, with: &Attributes) -> Result<(), Wrong> {
        match place.look()? {
            Some(stat) if is_folder(&stat) => {}
            other => {
                if other.is_some() {
                    self.tree.forget();
                    place.remove()?;
                }
                let name = place.name.as_os_str();
                mkdirat(&place.folder, name, Mode::S_IRWXU)?;
            }
        }
        self.own(place, with)?;
        let path: PathBuf = path.components().collect();
        self.folders.insert(path, (with.mode, with.time));
        Ok(())
    }

    fn file(
        &mut self,
        entry: &mut Entry<'_, &mut dyn Read>,
        kind: EntryType,
        place: &Place,
        with: &Attributes,
    ) -> Result<(), Wrong> {
        let (folder, name) = (place.folder.as_fd(), place.name.as_os_str());
        match kind {
            EntryType::Symlink => {
                let target = target(entry)?;
                symlinkat(target.as_path(), folder, name)?;
                self.own(place, with)?;
                set_time(place, &with.time)
            }
            // It shares all that its target has.
            EntryType::Link => {
                let target = self.tree.place(&target(entry)?)?;
                let from = target.name.as_os_str();
                linkat(&target.folder, from, folder, name, AtFlags::empty())
                    .map_err(|error| io::Error::other(format!("hard link: {error}")))
            }
            EntryType::Fifo => {
                mkfifoat(folder, name, Mode::S_IRUSR | Mode::S_IWUSR)?;
                self.own(place, with)?;
                set_mode(place, with.mode)?;
                set_time(place, &with.time)
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.regular(entry, place, with)?;
                set_time(place, &with.time)
            }
            other => Err(io::Error::other(format!("an entry of kind {other:?}"))),
        }
    }

    fn regular(
        &mut self,
        entry: &mut Entry<'_, &mut dyn Read>,
        place: &Place,
        with: &Attributes,
    ) -> Result<(), Wrong> {
        self.tally.bytes = self.tally.bytes.saturating_add(entry.size());
        if self.tally.bytes > self.limits.bytes {
            let text = format!("more than {} bytes in all", self.limits.bytes);
            return Err(io::Error::other(text));
        }
        let capability = capability(entry)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let name = place.name.as_os_str();
        let file = nix::fcntl::openat(&place.folder, name, flags, mode)?;
        let mut file = File::from(file);
        let size = entry.size();
        if io::copy(entry, &mut file)? < size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // The owner first: it takes away what mode and capability grant.
        self.own(place, with)?;
        set_mode(place, with.mode)?;
        if let Some(value) = capability.filter(|_| self.owners) {
            set_attribute(file.as_fd(), CAPABILITY, &value)?;
        }
        Ok(())
    }

    fn own(&mut self, place: &Place, with: &Attributes) -> Result<(), Wrong> {
        if !self.owners {
            return Ok(());
        }
        let (user, group) = (Uid::from_raw(with.owner.0), Gid::from_raw(with.owner.1));
        let name = place.name.as_os_str();
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        match fchownat(&place.folder, name, Some(user), Some(group), flags) {
            Ok(()) => Ok(()),
            // Root of a user namespace that does not have this owner.
            Err(Errno::EINVAL | Errno::EPERM) => {
                self.tally.unowned += 1;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn whiteout(&mut self, place: &Place) -> Result<(), Wrong> {
        let name = place.name.as_bytes();
        self.tree.forget();
        if name == OPAQUE {
            return self.prune(place.folder.as_fd());
        }
        if name.starts_with(PRIVATE) {
            return Ok(());
        }
        let name = OsStr::from_bytes(&name[WHITEOUT.len()..]);
        if name.is_empty() || name == "." || name == ".." {
            return Err(io::Error::other("a whiteout of nothing"));
        }
        // What this layer itself has put there stays.
        let folder = place.folder.as_fd();
        self.cut(folder, name)
    }

    /// Removes what lower layers have in a folder.
    fn prune(&self, folder: BorrowedFd<'_>) -> Result<(), Wrong> {
        names(folder)?
            .iter()
            .try_for_each(|name| self.cut(folder, name))
    }

    /// Removes what lower layers have under a name.
    fn cut(&self, folder: BorrowedFd<'_>, name: &OsStr) -> Result<(), Wrong> {
        let place = Place {
            folder: folder.try_clone_to_owned()?,
            name: name.to_owned(),
        };
        let own = self.put.contains(&key(folder, name)?);
        let Some(stat) = place.look()? else {
            return Ok(());
        };
        if !is_folder(&stat) {
            return if own { Ok(()) } else { place.remove() };
        }
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let inner = nix::fcntl::openat(folder, name, flags, Mode::empty())?;
        self.prune(inner.as_fd())?;
        let empty = names(inner.as_fd())?.is_empty();
        if own || !empty {
            return Ok(());
        }
        place.remove()
    }
}

fn key(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<(u64, OsString)> {
    Ok((fstat(folder)?.st_ino, name.to_owned()))
}

fn attributes(entry: &Entry<'_, &mut dyn Read>) -> io::Result<Attributes> {
    let header = entry.header();
    let number = |n: u64| u32::try_from(n).map_err(io::Error::other);
    // Blank fields mean 0, as for every other reader of archives.
    let seconds = i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0);
    let (user, group) = (header.uid().unwrap_or(0), header.gid().unwrap_or(0));
    Ok(Attributes {
        mode: Mode::from_bits_truncate(header.mode().unwrap_or(0) & 0o7777),
        owner: (number(user)?, number(group)?),
        time: TimeSpec::new(seconds, 0),
    })
}

fn capability(entry: &mut Entry<'_, &mut dyn Read>) -> io::Result<Option<Vec<u8>>> {
    let Some(extensions) = entry.pax_extensions()? else {
        return Ok(None);
    };
    let name = format!("SCHILY.xattr.{CAPABILITY}");
    for extension in extensions {
        let extension = extension?;
        if extension.key_bytes() == name.as_bytes() {
            return Ok(Some(extension.value_bytes().to_vec()));
        }
    }
    Ok(None)
}

fn target(entry: &Entry<'_, &mut dyn Read>) -> io::Result<PathBuf> {
    let name = entry.link_name_bytes().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| io::Error::other("a link to nothing"))?;
    Ok(PathBuf::from(OsStr::from_bytes(&name)))
}

fn set_mode(place: &Place, mode: Mode) -> io::Result<()> {
    let name = place.name.as_os_str();
    // Never called for a link; the folder is ours alone.
    Ok(fchmodat(
        &place.folder,
        name,
        mode,
        FchmodatFlags::FollowSymlink,
    )?)
}

fn set_time(place: &Place, time: &TimeSpec) -> io::Result<()> {
    let name = place.name.as_os_str();
    let flags = UtimensatFlags::NoFollowSymlink;
    Ok(utimensat(&place.folder, name, time, time, flags)?)
}
