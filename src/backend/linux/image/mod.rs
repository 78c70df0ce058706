//! Container images from files: OCI image layouts and archives of `docker save`.
//!
//! There is no registry in a real run. An image is found in a file or folder ([`files`]), its
//! manifest is read ([`manifest`]), every blob is held against its digest ([`digest`]), and its
//! layers are unpacked once ([`unpack`]) into a private folder ([`cache`]) without ever leaving it
//! ([`tree`]). What a container takes on from an image's configuration is the planner's
//! ([`super::plan`]); who its user is stands in the image's own tables ([`users`]).
//!
//! It knows nothing of mounts, pods or the cell.

pub mod cache;
pub mod digest;
pub mod files;
pub mod manifest;
#[cfg(test)]
mod tests;
pub mod tree;
pub mod unpack;
pub mod users;

use std::io::Read;
use std::path::{Path, PathBuf};

use self::cache::{Cache, Held};
use self::digest::{Digest, Hashed, decompressed};
use self::files::Files;
use self::manifest::{Config, Layer, Manifest};
use self::unpack::{Limits, Unpacker};

/// How an image is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An OCI image layout, as a folder or an archive of one.
    Oci,
    /// An archive of `docker save`, perhaps compressed.
    Docker,
}

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// How it is written.
    pub form: Form,
    /// The folder or file.
    pub path: PathBuf,
    /// Which of several it is.
    pub name: Option<String>,
}

/// An image that is unpacked.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its place in the cache.
    pub held: Held,
    /// What containers take on from it.
    pub config: Config,
    /// What it lacks, to be told.
    pub notes: Vec<String>,
}

impl Source {
    /// `PATH` or `PATH:NAME`, relative to `base`.
    ///
    /// # Errors
    /// There is no such path.
    pub fn parse(form: Form, text: &str, base: &Path) -> Result<Source, String> {
        let whole = base.join(text);
        let cuts = text.char_indices().filter(|(_, c)| *c == ':');
        let cuts = cuts.map(|(at, _)| (base.join(&text[..at]), Some(text[at + 1..].to_owned())));
        let found = [(whole.clone(), None)].into_iter().chain(cuts);
        let mut found = found.filter(|(path, name)| {
            path.exists() && name.as_ref().is_none_or(|name| !name.is_empty())
        });
        match found.next() {
            Some((path, name)) if !text.is_empty() => Ok(Source { form, path, name }),
            _ => {
                let shown = match text.split_once(':') {
                    Some((path, _)) => base.join(path),
                    None => whole,
                };
                Err(format!("{}: no such file or folder", shown.display()))
            }
        }
    }
}

/// What was found in a file that may be no image at all, fit for a terminal.
fn printable(why: &str) -> String {
    let shown = |c: char| {
        if c.is_control() || c == '\u{fffd}' {
            '?'
        } else {
            c
        }
    };
    why.chars().map(shown).take(500).collect()
}

/// Finds an image and has it unpacked.
///
/// # Errors
/// What is wrong with it, and where.
pub fn open(source: &Source, cache: &Cache, limits: Limits) -> Result<Image, String> {
    let failed = |why: String| format!("{}: {}", source.path.display(), printable(&why));
    let files = Files::open(&source.path).map_err(|error| failed(error.to_string()))?;
    let name = source.name.as_deref();
    let saved = source.form == Form::Docker && files.has("manifest.json");
    let manifest = match saved {
        true => manifest::docker(&files, name),
        false if files.has("index.json") => manifest::oci(&files, name),
        false => Err(match source.form {
            Form::Oci => "no OCI image layout: it has no index.json".to_owned(),
            Form::Docker => "no archive of docker save: it has no manifest.json".to_owned(),
        }),
    };
    let manifest = manifest.map_err(failed)?;
    let mut read = false;
    let held = cache.get(&manifest.id, &mut |root| {
        let mut unpacker = Unpacker::new(root, limits).map_err(|error| error.to_string())?;
        read = true;
        each_layer(&manifest, |layer| {
            one(layer, &files, limits, &mut |content| {
                unpacker.layer(content)
            })
        })?;
        unpacker.finish()
    });
    let held = held.map_err(failed)?;
    verify(&manifest, &files, limits, &held, read).map_err(failed)?;
    let mut notes = Vec::new();
    let shown = source.path.display();
    if held.tally.devices > 0 {
        let count = held.tally.devices;
        notes.push(format!("{shown}: {count} device files are left out"));
    }
    if held.tally.unowned > 0 {
        let count = held.tally.unowned;
        notes.push(format!(
            "{shown}: {count} files belong to root, not to their owners"
        ));
    }
    Ok(Image {
        held,
        config: manifest.config,
        notes,
    })
}

/// Does something with every layer, and says with which one it failed.
fn each_layer(
    manifest: &Manifest,
    mut work: impl FnMut(&Layer) -> Result<(), String>,
) -> Result<(), String> {
    for (n, layer) in manifest.layers.iter().enumerate() {
        let done = work(layer);
        done.map_err(|why| format!("layer {} ({}): {why}", n + 1, layer.content))?;
    }
    Ok(())
}

/// Sees to it that an image that was in the cache before is what its files say: a file that was
/// damaged since, or is another's, is not passed over because it is not needed. Files that were held
/// against their digests once are not read again until somebody writes to them.
fn verify(
    manifest: &Manifest,
    files: &Files,
    limits: Limits,
    held: &Held,
    read: bool,
) -> Result<(), String> {
    let mut text = String::new();
    each_layer(manifest, |layer| {
        let name = files.identity(&layer.file);
        let name = name.map_err(|error| format!("{}: {error}", layer.file))?;
        text.push_str(&format!("{name} {}\n", layer.file));
        Ok(())
    })?;
    let name = Digest::of(text.as_bytes());
    if held.was_verified(&name) {
        return Ok(());
    }
    if !read {
        each_layer(manifest, |layer| {
            one(layer, files, limits, &mut |content| {
                let copied = std::io::copy(content, &mut std::io::sink());
                copied.map(drop).map_err(|error| error.to_string())
            })
        })?;
    }
    held.verified(&name);
    Ok(())
}

/// Hands on what a layer holds while its digests are computed.
fn one(
    layer: &Layer,
    files: &Files,
    limits: Limits,
    take: &mut dyn FnMut(&mut dyn Read) -> Result<(), String>,
) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let opened = files.file(&layer.file);
    let (file, size) = opened.map_err(|error| format!("{}: {error}", layer.file))?;
    if let Some((_, expected)) = &layer.stored
        && *expected != size
    {
        return Err(format!("{size} bytes instead of {expected}"));
    }
    let mut stored = Hashed::new(file, size);
    // Headers and padding of an archive come on top of what its files hold.
    let most = limits.bytes.saturating_mul(2).max(1 << 20);
    let mut content = Hashed::new(decompressed(&mut stored).map_err(text)?, most);
    let taken = take(&mut content);
    let digests = content.finish().map_err(text).and_then(|(content, _)| {
        let (stored, _) = stored.finish().map_err(text)?;
        Ok((content, stored))
    });
    // Damage explains whatever else went wrong.
    let (content, stored) = match (digests, &taken) {
        (Ok(digests), _) => digests,
        (Err(_), Err(why)) => return Err(why.clone()),
        (Err(why), Ok(())) => return Err(why),
    };
    let compare = |name: &str, expected: &Digest, found: Digest| match found == *expected {
        true => Ok(()),
        false => Err(format!(
            "{name} is damaged: its digest is {found}, not {expected}"
        )),
    };
    if let Some((expected, _)) = &layer.stored {
        compare("the blob", expected, stored)?;
    }
    compare("the layer", &layer.content, content)?;
    taken
}
