//! A results folder: everything that a run left behind, readable without the program.
//!
//! The tables and `summary.json` are for people and notebooks, `journal.bin` replays the run, and
//! `record.bin` is the whole record, from which `explain`, `plot` and `report` work.
//!
//! Writing is all or nothing for each file: everything goes to a folder beside the wanted one first.
//! A results folder that is there already is replaced; files in it that no run writes stay. A folder
//! that is something else is refused.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::record::RunRecord;

use super::summary::summary_json;
use super::tables::tables;

/// Name of the file with the whole record.
const RECORD: &str = "record.bin";

/// What that file begins with: its kind and version.
const MAGIC: &[u8] = b"rehearsal record 4\n";

/// Why a results folder cannot be read.
#[derive(Debug, Error)]
pub enum FolderError {
    /// There is no record in it.
    #[error("{} is no results folder: it has no {RECORD}", .0.display())]
    NoRecord(PathBuf),
    /// The record was written by another version.
    #[error(
        "{} was written by another version of rehearsal; run the scenario again, its file and seed \
         are in summary.json",
        .0.display()
    )]
    Version(PathBuf),
    /// The record cannot be understood.
    #[error(
        "{} cannot be understood ({reason}): it is damaged, or of another build of rehearsal; run \
         the scenario again, its file and seed are in summary.json",
        path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// The files of a results folder, by their path in it.
fn files(run: &RunRecord, journal: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut summary = serde_json::to_vec_pretty(&summary_json(run))?;
    summary.push(b'\n');
    let mut record = MAGIC.to_vec();
    record.extend(postcard::to_stdvec(run).map_err(io::Error::other)?);
    let mut files: Vec<(String, Vec<u8>)> = (tables(run).into_iter())
        .map(|(name, bytes)| (name.to_owned(), bytes))
        .collect();
    if !journal.is_empty() {
        files.push(("journal.bin".to_owned(), journal.to_vec()));
    }
    files.push(("summary.json".to_owned(), summary));
    // The last file to be put in place: with it the folder is complete.
    files.push((RECORD.to_owned(), record));
    Ok(files)
}

/// Whether there is something in a folder; the logs of a real run are there before its results.
fn holds_something(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        if entry?.file_name() != "logs" {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes a run's results folder; `journal` may be empty.
///
/// # Errors
/// When the folder is there and is no results folder, or the system refuses.
pub fn write(run: &RunRecord, journal: &[u8], dir: &Path) -> io::Result<()> {
    let there = dir.is_dir() && holds_something(dir)?;
    if there && !dir.join(RECORD).is_file() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{} is there and is no results folder", dir.display()),
        ));
    }
    let files = files(run, journal)?;
    let draft = draft_path(dir);
    if draft.exists() {
        fs::remove_dir_all(&draft)?;
    }
    let done = put(&files, &draft).and_then(|()| settle(&files, &draft, dir));
    if draft.exists() {
        fs::remove_dir_all(&draft)?;
    }
    done
}

/// Where a folder is written to before it is complete: beside it, so that it can be renamed.
fn draft_path(dir: &Path) -> PathBuf {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    dir.with_file_name(format!(".{name}.part"))
}

fn put(files: &[(String, Vec<u8>)], draft: &Path) -> io::Result<()> {
    fs::create_dir_all(draft)?;
    for (name, bytes) in files {
        let path = draft.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, bytes)?;
    }
    Ok(())
}

fn settle(files: &[(String, Vec<u8>)], draft: &Path, dir: &Path) -> io::Result<()> {
    if !dir.exists() {
        return fs::rename(draft, dir);
    }
    for (name, _) in files {
        let path = dir.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::rename(draft.join(name), path)?;
    }
    Ok(())
}

/// Whether a folder is a results folder.
pub fn is(dir: &Path) -> bool {
    dir.join(RECORD).is_file()
}

/// Reads the record of a results folder.
///
/// # Errors
/// When there is none, or it is damaged or of another version.
pub fn read(dir: &Path) -> Result<RunRecord, FolderError> {
    let path = dir.join(RECORD);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(FolderError::NoRecord(dir.to_owned()));
        }
        Err(source) => return Err(FolderError::Io { path, source }),
    };
    let Some(body) = bytes.strip_prefix(MAGIC) else {
        return Err(FolderError::Version(path));
    };
    postcard::from_bytes(body).map_err(|e| FolderError::Damaged {
        path,
        reason: e.to_string(),
    })
}
