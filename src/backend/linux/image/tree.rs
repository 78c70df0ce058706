//! A folder that is written as if it were the root of a file system.
//!
//! Names come from strangers. Every path is resolved by the kernel with this folder as its root
//! (`openat2` with `RESOLVE_IN_ROOT`), so links, absolute ones too, lead nowhere but into it; the
//! last part of a path is never followed.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::libc;
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, fchmodat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// How many links a path may have, as for the kernel.
const LINKS: usize = 40;
/// The longest path, as for the kernel, in bytes.
const LONGEST: usize = 4096;
/// The deepest folder that is looked into.
const DEEPEST: usize = 512;

/// A folder as the root of a file system.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    /// The last folder that was looked for: neighbours in an archive are neighbours in a tree.
    last: Option<(PathBuf, OwnedFd)>,
}

/// A folder of a tree, and a name in it that is not followed.
pub struct Place {
    /// The folder.
    pub folder: OwnedFd,
    /// The name; `.` is the root itself.
    pub name: OsString,
}

impl Place {
    /// What is there.
    ///
    /// # Errors
    /// The kernel's; nothing there is `None`.
    pub fn look(&self) -> io::Result<Option<FileStat>> {
        look(self.folder.as_fd(), &self.name)
    }

    /// Removes whatever is there, without following links.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&self) -> io::Result<()> {
        remove(self.folder.as_fd(), &self.name, DEEPEST)
    }
}

/// What is under a name in a folder.
fn look(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<FileStat>> {
    match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether this is a folder.
pub fn is_folder(stat: &FileStat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFDIR
}

fn open_folder(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::openat(folder, name, flags, Mode::empty())?)
}

/// The names in a folder.
///
/// # Errors
/// The kernel's.
pub fn names(folder: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    // Through its own descriptor: reading moves a position that is shared by duplicates.
    let own = open_folder(folder, OsStr::new("."))?;
    let mut all = Vec::new();
    for entry in nix::dir::Dir::from_fd(own)?.iter() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            all.push(name.to_owned());
        }
    }
    all.sort();
    Ok(all)
}

fn remove(folder: BorrowedFd<'_>, name: &OsStr, deep: usize) -> io::Result<()> {
    let Some(stat) = look(folder, name)? else {
        return Ok(());
    };
    if !is_folder(&stat) {
        return Ok(unlinkat(folder, name, UnlinkatFlags::NoRemoveDir)?);
    }
    let deep = deep.checked_sub(1).ok_or(Errno::ELOOP)?;
    let all = Mode::S_IRWXU;
    if stat.st_mode & all.bits() != all.bits() {
        // Folders of images may forbid even their owner to write.
        fchmodat(folder, name, all, FchmodatFlags::FollowSymlink)?;
    }
    let inner = open_folder(folder, name)?;
    for child in names(inner.as_fd())? {
        remove(inner.as_fd(), &child, deep)?;
    }
    Ok(unlinkat(folder, name, UnlinkatFlags::RemoveDir)?)
}

impl Tree {
    /// The tree of a folder.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(folder: &Path) -> io::Result<Tree> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(folder, flags, Mode::empty())?;
        Ok(Tree { root, last: None })
    }

    /// Opens a path in the tree.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open_at(&self, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
        let path = match path.as_os_str().is_empty() {
            true => Path::new("."),
            false => path,
        };
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        Ok(openat2(self.root.as_fd(), path, how)?)
    }

    /// The folder of a path, made where it is missing, and the last part.
    ///
    /// # Errors
    /// A path that is too long or goes up, or the kernel's.
    pub fn place(&mut self, path: &Path) -> io::Result<Place> {
        let path = inner(path)?;
        let Some(name) = path.file_name() else {
            let folder = self.root.try_clone()?;
            let name = OsString::from(".");
            return Ok(Place { folder, name });
        };
        let parent = path.parent().unwrap_or(Path::new(""));
        let folder = self.folder(parent)?;
        let name = name.to_owned();
        Ok(Place { folder, name })
    }

    /// Forgets what may have been replaced.
    pub fn forget(&mut self) {
        self.last = None;
    }

    fn folder(&mut self, path: &Path) -> io::Result<OwnedFd> {
        if let Some((known, folder)) = &self.last
            && known == path
        {
            return folder.try_clone();
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let folder = match self.open_at(path, flags) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = self.make(path)?;
                self.open_at(&made, flags)?
            }
            other => other?,
        };
        self.last = Some((path.to_owned(), folder.try_clone()?));
        Ok(folder)
    }

    /// Makes the folders of a path that are missing, also those that links lead to; the path
    /// without links.
    fn make(&self, path: &Path) -> io::Result<PathBuf> {
        let mut done = PathBuf::new();
        let parts = |path: &Path| path.iter().map(OsStr::to_owned).collect::<Vec<_>>();
        let mut todo: VecDeque<OsString> = parts(path).into();
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            if part == "/" {
                done = PathBuf::new();
                continue;
            }
            if part == "." {
                continue;
            }
            if part == ".." {
                done.pop();
                continue;
            }
            let folder = self.open_at(&done, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
            match look(folder.as_fd(), &part)? {
                None => {
                    let name = part.as_os_str();
                    mkdirat(&folder, name, Mode::S_IRWXU)?;
                    // Whatever the mask of this process is.
                    let mode = Mode::from_bits_truncate(0o755);
                    fchmodat(&folder, name, mode, FchmodatFlags::FollowSymlink)?;
                    done.push(part);
                }
                Some(stat) if is_folder(&stat) => done.push(part),
                Some(stat) if stat.st_mode & libc::S_IFMT == libc::S_IFLNK => {
                    links += 1;
                    if links > LINKS {
                        return Err(Errno::ELOOP.into());
                    }
                    let target = PathBuf::from(readlinkat(&folder, part.as_os_str())?);
                    for part in parts(&target).into_iter().rev() {
                        todo.push_front(part);
                    }
                }
                Some(_) => return Err(Errno::ENOTDIR.into()),
            }
        }
        Ok(done)
    }
}

/// A path of an archive as one below the root.
fn inner(path: &Path) -> io::Result<PathBuf> {
    if path.as_os_str().len() >= LONGEST {
        return Err(Errno::ENAMETOOLONG.into());
    }
    let mut inner = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => inner.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::other("its path goes up"));
            }
        }
    }
    Ok(inner)
}

/// Sets an extended attribute of a file.
///
/// # Errors
/// The kernel's.
pub fn set_attribute(file: BorrowedFd<'_>, name: &str, value: &[u8]) -> io::Result<()> {
    let name = super::super::sys::c_string(name)?;
    // SAFETY: a string that ends in zero, and bytes with their length; both outlive the call.
    let done = unsafe {
        libc::fsetxattr(
            file.as_raw_fd(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
