//! What an image consists of: its manifest and its configuration, in either of two shapes.
//!
//! *OCI image layout* (`image-spec/image-layout.md`): `index.json` names manifests, these name
//! blobs by digest. *Docker archive* (`docker save`): `manifest.json` names files of the archive.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::digest::Digest;
use super::files::Files;

/// How deep an index may lie in an index.
const DEEPEST: usize = 4;
/// Names of an image in an index, the one that `skopeo` and `docker` write first.
const NAMES: [&str; 2] = [
    "org.opencontainers.image.ref.name",
    "io.containerd.image.name",
];

/// The configuration of an image, as far as containers take it on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Config {
    /// What runs, before the arguments.
    #[serde(deserialize_with = "or_null")]
    pub entrypoint: Vec<String>,
    /// Arguments, or what runs.
    #[serde(deserialize_with = "or_null")]
    pub cmd: Vec<String>,
    /// `NAME=VALUE`.
    #[serde(deserialize_with = "or_null")]
    pub env: Vec<String>,
    /// The working folder; empty is the root.
    #[serde(deserialize_with = "or_null")]
    pub working_dir: String,
    /// `user`, `uid`, `user:group`, `uid:gid`; empty is root.
    #[serde(deserialize_with = "or_null")]
    pub user: String,
    /// The signal that asks the program to end; empty is SIGTERM.
    #[serde(deserialize_with = "or_null")]
    pub stop_signal: String,
}

fn or_null<'d, T: Deserialize<'d> + Default, D: serde::Deserializer<'d>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// A layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its file.
    pub file: String,
    /// Digest and size of the file, where the manifest says them.
    pub stored: Option<(Digest, u64)>,
    /// Digest of the archive in it, decompressed.
    pub content: Digest,
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The digest of its configuration, which names the content of every layer.
    pub id: Digest,
    /// Its configuration.
    pub config: Config,
    /// The lowest first.
    pub layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

/// An index, or a manifest: which one is told by what it has.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    config: Option<Config>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(deserialize_with = "or_null")]
    diff_ids: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default, deserialize_with = "or_null")]
    repo_tags: Vec<String>,
    #[serde(deserialize_with = "or_null")]
    layers: Vec<String>,
}

/// The machine's name in images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn parse<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("{name}: {error}"))
}

fn read(files: &Files, name: &str) -> Result<Vec<u8>, String> {
    let read = files.document(name);
    read.map_err(|error| format!("{name}: {error}"))
}

/// A blob's file.
fn path_of(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A blob whose bytes are what its name says.
fn blob(files: &Files, descriptor: &Descriptor) -> Result<(Digest, Vec<u8>), String> {
    let digest = Digest::parse(&descriptor.digest)?;
    let bytes = read(files, &path_of(&digest))?;
    verify(&digest, &bytes)?;
    Ok((digest, bytes))
}

fn verify(digest: &Digest, bytes: &[u8]) -> Result<(), String> {
    match Digest::of(bytes) {
        found if found == *digest => Ok(()),
        found => Err(format!("{digest} is damaged: its bytes are {found}")),
    }
}

/// The image of a layout; `name` chooses among several.
///
/// # Errors
/// What is missing or wrong.
pub fn oci(files: &Files, name: Option<&str>) -> Result<Manifest, String> {
    let index: Document = parse("index.json", &read(files, "index.json")?)?;
    let manifests = index.manifests.unwrap_or_default();
    let mut document = chosen(manifests, name)?;
    for _ in 0..DEEPEST {
        let (digest, bytes) = blob(files, &document)?;
        let found: Document = parse(&digest.to_string(), &bytes)?;
        match (found.manifests, found.config) {
            (Some(manifests), _) => document = of_this_host(manifests)?,
            (None, Some(config)) => {
                let layers = found.layers.unwrap_or_default();
                return manifest(files, &config, &layers);
            }
            (None, None) => return Err(format!("{digest} is neither index nor manifest")),
        }
    }
    Err("its indexes lie too deep in each other".to_owned())
}

fn chosen(manifests: Vec<Descriptor>, name: Option<&str>) -> Result<Descriptor, String> {
    let Some(name) = name else {
        return of_this_host(manifests);
    };
    let mut names = Vec::new();
    for descriptor in manifests {
        let notes = descriptor.annotations.iter().flatten();
        let own: Vec<String> = notes
            .filter(|(key, _)| NAMES.contains(&key.as_str()))
            .map(|(_, value)| value.clone())
            .collect();
        // containerd writes the whole name, where others write the tag alone.
        let named = |own: &String| own == name || own.ends_with(&format!(":{name}"));
        if descriptor.digest == name || own.iter().any(named) {
            return Ok(descriptor);
        }
        names.extend(own);
    }
    Err(none_of(name, &names))
}

fn none_of(name: &str, names: &[String]) -> String {
    match names {
        [] => format!("no image is called {name:?}; its images have no names"),
        names => format!(
            "no image is called {name:?}; there are: {}",
            names.join(", ")
        ),
    }
}

/// The one manifest that can run here.
fn of_this_host(manifests: Vec<Descriptor>) -> Result<Descriptor, String> {
    let all = manifests.len();
    let fits = |descriptor: &Descriptor| {
        let platform = descriptor.platform.as_ref();
        platform.is_none_or(|p| p.os == "linux" && p.architecture == architecture())
    };
    let mut fitting: Vec<Descriptor> = manifests.into_iter().filter(fits).collect();
    match (fitting.pop(), fitting.is_empty()) {
        (Some(one), true) => Ok(one),
        (None, _) if all == 0 => Err("it holds no image".to_owned()),
        (None, _) => Err(format!("no image is for linux/{}", architecture())),
        (Some(_), false) => Err("it holds several images: add :NAME".to_owned()),
    }
}

fn manifest(files: &Files, config: &Descriptor, layers: &[Descriptor]) -> Result<Manifest, String> {
    let (id, bytes) = blob(files, config)?;
    let layers = layers.iter().map(|layer| {
        let digest = Digest::parse(&layer.digest)?;
        let size = layer.size.ok_or_else(|| format!("{digest} has no size"))?;
        Ok((path_of(&digest), Some((digest, size))))
    });
    let layers: Result<Vec<_>, String> = layers.collect();
    assemble(id, &bytes, layers?)
}

/// The image of an archive; `name` (`repository:tag`) chooses among several.
///
/// # Errors
/// What is missing or wrong.
pub fn docker(files: &Files, name: Option<&str>) -> Result<Manifest, String> {
    let saved: Vec<Saved> = parse("manifest.json", &read(files, "manifest.json")?)?;
    let names: Vec<String> = saved.iter().flat_map(|s| s.repo_tags.clone()).collect();
    let mut fitting = saved
        .into_iter()
        .filter(|s| name.is_none_or(|name| s.repo_tags.iter().any(|tag| tag == name)));
    let one = match (fitting.next(), fitting.next(), name) {
        (Some(one), None, _) => one,
        (Some(_), Some(_), _) => {
            let names = names.join(", ");
            return Err(format!(
                "it holds several images, add :NAME; there are: {names}"
            ));
        }
        (None, _, Some(name)) => return Err(none_of(name, &names)),
        (None, _, None) => return Err("it holds no image".to_owned()),
    };
    let bytes = read(files, &one.config)?;
    // Its name is its digest, with or without a folder and an ending.
    let stem = one.config.rsplit('/').next().unwrap_or_default();
    let id = match Digest::from_hex(stem.strip_suffix(".json").unwrap_or(stem)) {
        Some(named) => verify(&named, &bytes).map(|()| named)?,
        None => Digest::of(&bytes),
    };
    let layers = one.layers.into_iter().map(|file| (file, None)).collect();
    assemble(id, &bytes, layers)
}

type Stored = (String, Option<(Digest, u64)>);

fn assemble(id: Digest, bytes: &[u8], stored: Vec<Stored>) -> Result<Manifest, String> {
    let found: Configuration = parse(&id.to_string(), bytes)?;
    let wrong = (!found.os.is_empty() && found.os != "linux")
        || (!found.architecture.is_empty() && found.architecture != architecture());
    if wrong {
        return Err(format!(
            "the image is for {}/{}, this host is linux/{}",
            found.os,
            found.architecture,
            architecture()
        ));
    }
    let contents = found.rootfs.diff_ids;
    if contents.len() != stored.len() {
        return Err(format!(
            "{} layers, but its configuration says {}",
            stored.len(),
            contents.len()
        ));
    }
    let layers = stored
        .into_iter()
        .zip(contents)
        .map(|((file, stored), content)| {
            Ok(Layer {
                file,
                stored,
                content: Digest::parse(&content)?,
            })
        });
    Ok(Manifest {
        id,
        config: found.config.unwrap_or_default(),
        layers: layers.collect::<Result<_, String>>()?,
    })
}
