//! Files by name, in a folder or in an archive.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom, Take};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::OFlag;
use tar::{Archive, EntryType};

use super::digest::decompressed;
use super::tree::Tree;

/// The largest document that is read as a whole, in bytes.
const DOCUMENT: u64 = 8 << 20;
/// The most entries of an archive of layers.
const ENTRIES: usize = 100_000;
/// The largest archive that is decompressed, in bytes.
const ARCHIVE: u64 = 32 << 30;

/// Where the files of an image are.
pub enum Files {
    /// In a folder.
    Folder(Tree),
    /// In an archive; what it was called as it was opened.
    Archive(File, Index, String),
}

/// What tells a file from every other, and from itself once somebody has written to it.
fn identity(known: &Metadata) -> String {
    let times = [
        (known.mtime(), known.mtime_nsec()),
        (known.ctime(), known.ctime_nsec()),
    ];
    let [written, changed] = times.map(|(s, ns)| format!("{s}.{ns:09}"));
    let (device, inode, size) = (known.dev(), known.ino(), known.size());
    format!("{device}:{inode}:{size}:{written}:{changed}")
}

/// What is where in an archive.
#[derive(Debug, Default)]
pub struct Index {
    /// Start and length.
    files: BTreeMap<PathBuf, (u64, u64)>,
    /// Links to other files.
    links: BTreeMap<PathBuf, PathBuf>,
}

impl Files {
    /// Opens a folder, or an archive, which may be compressed as a whole.
    ///
    /// # Errors
    /// The file system's, or a broken archive.
    pub fn open(path: &Path) -> io::Result<Files> {
        if path.is_dir() {
            return Ok(Files::Folder(Tree::open(path)?));
        }
        let file = File::open(path)?;
        let name = identity(&file.metadata()?);
        let file = plain(file)?;
        let index = index(&file)?;
        Ok(Files::Archive(file, index, name))
    }

    /// What tells what a file was read from: as long as that is the same, so is what is read.
    ///
    /// # Errors
    /// There is no such file.
    pub fn identity(&self, path: &str) -> io::Result<String> {
        let (file, _) = self.file(path)?;
        match self {
            Files::Folder(_) => Ok(identity(&file.get_ref().metadata()?)),
            Files::Archive(_, _, name) => Ok(name.clone()),
        }
    }

    /// Whether there is a file of this name.
    pub fn has(&self, path: &str) -> bool {
        self.file(path).is_ok()
    }

    /// A file, with its size in bytes.
    ///
    /// # Errors
    /// There is none.
    pub fn file(&self, path: &str) -> io::Result<(Take<File>, u64)> {
        match self {
            Files::Folder(tree) => {
                let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
                let file = File::from(tree.open_at(Path::new(path), flags)?);
                let known = file.metadata()?;
                if !known.is_file() {
                    return Err(io::Error::other("not a file"));
                }
                Ok((file.take(known.len()), known.len()))
            }
            Files::Archive(file, index, _) => {
                let (start, length) = index.find(path).ok_or(io::ErrorKind::NotFound)?;
                // The position is shared: files are read one after the other.
                let mut file = file.try_clone()?;
                file.seek(SeekFrom::Start(start))?;
                Ok((file.take(length), length))
            }
        }
    }

    /// A small file as a whole.
    ///
    /// # Errors
    /// There is none, or it is not small.
    pub fn document(&self, path: &str) -> io::Result<Vec<u8>> {
        let (mut file, size) = self.file(path)?;
        if size > DOCUMENT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl Index {
    fn find(&self, path: &str) -> Option<(u64, u64)> {
        let mut path = clean(Path::new(path))?;
        for _ in 0..8 {
            if let Some(found) = self.files.get(&path) {
                return Some(*found);
            }
            let target = self.links.get(&path)?;
            let folder = path.parent().unwrap_or(Path::new(""));
            path = clean(&folder.join(target))?;
        }
        None
    }
}

/// A path without `.` and `..`; none for one that leaves the archive.
fn clean(path: &Path) -> Option<PathBuf> {
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => cleaned.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !cleaned.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(cleaned)
}

fn index(file: &File) -> io::Result<Index> {
    let mut index = Index::default();
    let mut archive = Archive::new(file);
    for (n, entry) in archive.entries_with_seek()?.enumerate() {
        if n == ENTRIES {
            return Err(io::Error::other(format!("more than {ENTRIES} files")));
        }
        let entry = entry?;
        let Some(path) = clean(&entry.path()?) else {
            continue;
        };
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                let place = (entry.raw_file_position(), entry.size());
                index.files.insert(path, place);
            }
            EntryType::Symlink => {
                if let Some(target) = entry.link_name()? {
                    index.links.insert(path, target.into_owned());
                }
            }
            // Its name counts from the root of the archive.
            EntryType::Link => {
                let target = entry.link_name()?.and_then(|target| clean(&target));
                if let Some(place) = target.and_then(|t| index.files.get(&t).copied()) {
                    index.files.insert(path, place);
                }
            }
            _ => {}
        }
    }
    Ok(index)
}

/// The archive itself, decompressed into a file without a name if it is compressed.
fn plain(mut file: File) -> io::Result<File> {
    let mut head = Vec::new();
    (&mut file).take(4).read_to_end(&mut head)?;
    file.rewind()?;
    if !matches!(head.as_slice(), [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd]) {
        return Ok(file);
    }
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let mode = nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR;
    let folder = std::env::temp_dir();
    let mut copy = File::from(nix::fcntl::open(&folder, flags, mode)?);
    let mut reader = decompressed(&file)?.take(ARCHIVE + 1);
    if io::copy(&mut reader, &mut copy)? > ARCHIVE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    copy.rewind()?;
    Ok(copy)
}
