//! Unpacked images, kept from run to run in a folder of the user's own.
//!
//! `sha256-…` is the image with this configuration digest: `root` is its file system, `tally.json`
//! says what was unpacked, `verified` from which files it was, or could have been. `….partial` is being made, or was when its maker died. `….lock` is
//! held shared by runs that use the image and exclusively by whoever makes or removes it; its time
//! is that of the last use. The folder is readable by its owner alone, since images hold programs
//! that grant rights. What nobody has used for long, or does not fit, goes; other names are never
//! touched.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::digest::Digest;
use super::tree::{Place, Tree};
use super::unpack::Tally;

/// What images may take in all, in bytes; those in use may take more.
const LARGEST: u64 = 20 << 30;
/// An image that nobody has used for so long is removed.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);

/// The folder of unpacked images.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
    largest: u64,
}

/// An image in the cache, which stays there as long as this is held.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its root file system.
    pub root: PathBuf,
    /// What was unpacked.
    pub tally: Tally,
    _lock: Arc<File>,
}

impl Held {
    /// Names of files that were held against the image's digests, one a line.
    fn list(&self) -> PathBuf {
        self.root.with_file_name("verified")
    }

    /// Whether files under this name were held against the image's digests.
    pub fn was_verified(&self, name: &Digest) -> bool {
        let known = fs::read_to_string(self.list()).unwrap_or_default();
        known.lines().any(|line| line == name.hex())
    }

    /// Files under this name were held against the image's digests. What cannot be written down is
    /// done again by the next run.
    pub fn verified(&self, name: &Digest) {
        use std::io::Write;
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        let line = format!("{}\n", name.hex());
        let _ = options
            .open(self.list())
            .and_then(|mut list| list.write_all(line.as_bytes()));
    }
}

/// The usual folder of this user.
pub fn usual_folder() -> PathBuf {
    let absolute = |name: &str| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let home = || absolute("HOME").map(|home| home.join(".cache"));
    let base = absolute("XDG_CACHE_HOME").or_else(home);
    let user = nix::unistd::geteuid();
    match base {
        Some(base) => base.join(format!("rehearsal/images-{user}")),
        None => PathBuf::from(format!("/var/tmp/rehearsal-images-{user}")),
    }
}

impl Cache {
    /// Opens a folder, made where it is missing, and removes from it what is of no use.
    ///
    /// # Errors
    /// The folder is not this user's alone; the text says what to do.
    pub fn open(folder: &Path) -> Result<Cache, String> {
        let failed = |error: io::Error| format!("{}: {error}", folder.display());
        if let Some(parent) = folder.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(error));
            }
            _ => {}
        }
        let known = fs::symlink_metadata(folder).map_err(failed)?;
        let own = known.uid() == nix::unistd::geteuid().as_raw();
        if !known.is_dir() || !own || known.mode() & 0o077 != 0 {
            return Err(format!(
                "{}: not a folder of this user's alone; name another by --image-cache, or make it \
                 private (chmod 700)",
                folder.display()
            ));
        }
        let folder = folder.canonicalize().map_err(failed)?;
        let cache = Cache {
            folder,
            largest: LARGEST,
        };
        cache.clean(SystemTime::now()).map_err(|error| {
            let folder = cache.folder.display();
            format!("{folder}: old images cannot be removed: {error}")
        })?;
        Ok(cache)
    }

    fn path(&self, name: &str, ending: &str) -> PathBuf {
        self.folder.join(format!("{name}{ending}"))
    }

    fn lock(&self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).mode(0o600);
        options.open(self.path(name, ".lock"))
    }

    fn tally(&self, name: &str) -> Option<Tally> {
        let bytes = fs::read(self.path(name, "").join("tally.json")).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// The image of a digest; `unpack` fills a folder if it is not there.
    ///
    /// # Errors
    /// `unpack`'s, or the file system's.
    pub fn get(
        &self,
        id: &Digest,
        unpack: &mut dyn FnMut(&Path) -> Result<Tally, String>,
    ) -> Result<Held, String> {
        let name = format!("sha256-{}", id.hex());
        let failed = |error: io::Error| format!("{}: {error}", self.folder.display());
        let lock = self.lock(&name).map_err(failed)?;
        loop {
            lock.lock_shared().map_err(failed)?;
            if let Some(tally) = self.tally(&name) {
                // The time of its last use; without it, it is removed sooner.
                let _ = lock.set_modified(SystemTime::now());
                return Ok(Held {
                    root: self.path(&name, "").join("root"),
                    tally,
                    _lock: Arc::new(lock),
                });
            }
            lock.unlock().map_err(failed)?;
            lock.lock().map_err(failed)?;
            if self.tally(&name).is_none() {
                let made = self.make(&name, unpack);
                if made.is_err() {
                    // What stays is removed by the next run.
                    let _ = self.remove(&format!("{name}.partial"));
                }
                made?;
            }
            // Whoever removes it now makes this begin again.
            lock.unlock().map_err(failed)?;
        }
    }

    fn make(
        &self,
        name: &str,
        unpack: &mut dyn FnMut(&Path) -> Result<Tally, String>,
    ) -> Result<(), String> {
        let failed = |error: io::Error| format!("{}: {error}", self.folder.display());
        self.remove(name).map_err(failed)?;
        let partial = self.path(name, ".partial");
        self.remove(&format!("{name}.partial")).map_err(failed)?;
        let root = partial.join("root");
        let mut builder = DirBuilder::new();
        builder.mode(0o755).create(&partial).map_err(failed)?;
        builder.create(&root).map_err(failed)?;
        let tally = unpack(&root)?;
        let text = serde_json::to_vec(&tally).map_err(|error| error.to_string())?;
        fs::write(partial.join("tally.json"), text).map_err(failed)?;
        // What is there after a loss of power is whole.
        let folder = File::open(&partial).map_err(failed)?;
        nix::unistd::syncfs(&folder).map_err(|error| failed(error.into()))?;
        fs::rename(&partial, self.path(name, "")).map_err(failed)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut tree = Tree::open(&self.folder)?;
        let place: Place = tree.place(Path::new(name))?;
        place.remove()
    }

    /// Removes what was begun by the dead, what was not used for long, and what does not fit.
    fn clean(&self, now: SystemTime) -> io::Result<()> {
        let mut idle: Vec<(SystemTime, String, u64, File)> = Vec::new();
        let mut all = 0u64;
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let Some(name) = name.strip_suffix(".lock") else {
                continue;
            };
            let digest = name.strip_prefix("sha256-").and_then(Digest::from_hex);
            if digest.is_none() {
                continue;
            }
            let bytes = self.tally(name).map_or(0, |tally| tally.bytes);
            all = all.saturating_add(bytes);
            let lock = self.lock(name)?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => return Err(error),
            }
            self.remove(&format!("{name}.partial"))?;
            let used = lock.metadata()?.modified()?;
            idle.push((used, name.to_owned(), bytes, lock));
        }
        idle.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        for (used, name, bytes, lock) in idle {
            let old = now.duration_since(used).is_ok_and(|idle| idle > UNUSED);
            if old || all > self.largest {
                // Out of sight at once: half an image must not look like one.
                let partial = self.path(&name, ".partial");
                match fs::rename(self.path(&name, ""), &partial) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                self.remove(&format!("{name}.partial"))?;
                all = all.saturating_sub(bytes);
            }
            drop(lock);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let name = format!("rehearsal-cache-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            // Left by a test of a process with the same number, perhaps.
            let _ = fs::remove_dir_all(&folder);
            Folder(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn get(cache: &Cache, of: &[u8], bytes: u64) -> (Held, bool) {
        let mut made = false;
        let held = cache.get(&Digest::of(of), &mut |root| {
            made = true;
            fs::write(root.join("file"), of).map_err(|e| e.to_string())?;
            Ok(Tally {
                bytes,
                ..Tally::default()
            })
        });
        (held.expect("an image"), made)
    }

    #[test]
    fn an_image_is_made_once_and_stays_while_it_is_used() {
        let folder = Folder::new("once");
        let mut cache = Cache::open(&folder.0).expect("a cache");
        cache.largest = 25;
        let (a, made) = get(&cache, b"a", 10);
        assert!(made && a.root.join("file").exists());
        let (again, made) = get(&cache, b"a", 10);
        assert!(!made && again.root == a.root);
        drop(again);
        let (b, _) = get(&cache, b"b", 10);
        let (c, _) = get(&cache, b"c", 10);
        let there = || [&a, &b, &c].map(|image| image.root.exists());
        let (b_lock, now) = (b._lock.clone(), SystemTime::now());
        // 30 bytes of 25, but all are in use
        cache.clean(now).expect("clean");
        assert_eq!(there(), [true; 3]);
        // The last use of b is older than that of c.
        b_lock
            .set_modified(now - Duration::from_secs(60))
            .expect("a time");
        drop(b_lock);
        let (b_root, c_root) = (b.root.clone(), c.root.clone());
        drop((b, c));
        cache.clean(now).expect("clean");
        assert_eq!((b_root.exists(), c_root.exists()), (false, true));
        // 31 days later nobody has used c; a is in use still.
        cache
            .clean(now + Duration::from_secs(31 * 24 * 3600))
            .expect("clean");
        assert_eq!((a.root.exists(), c_root.exists()), (true, false));
    }

    #[test]
    fn what_failed_or_was_cut_off_is_made_again() {
        let folder = Folder::new("failed");
        let cache = Cache::open(&folder.0).expect("a cache");
        let id = Digest::of(b"x");
        let why = cache.get(&id, &mut |root| {
            fs::write(root.join("half"), "").map_err(|e| e.to_string())?;
            Err("the layer is damaged".to_owned())
        });
        assert_eq!(why.expect_err("damaged"), "the layer is damaged");
        let partial = folder.0.join(format!("sha256-{}.partial", id.hex()));
        assert!(!partial.exists());
        // As after a loss of power.
        fs::create_dir_all(partial.join("root")).expect("a folder");
        fs::write(folder.0.join("notes"), "mine").expect("a file");
        let cache = Cache::open(&folder.0).expect("a cache");
        assert!(!partial.exists() && folder.0.join("notes").exists());
        assert!(get(&cache, b"x", 1).1);
    }

    #[test]
    fn a_folder_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = Folder::new("open");
        fs::create_dir(&folder.0).expect("a folder");
        fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o755)).expect("a mode");
        let why = Cache::open(&folder.0).expect_err("others can read it");
        assert!(
            why.contains("--image-cache") && why.contains("chmod 700"),
            "{why}"
        );
    }
}
