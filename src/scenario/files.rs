//! Files and folders into documents.
//!
//! A file is read once, however often it is named. A folder is read as `kubectl apply -R -f` does:
//! all `.yaml`, `.yml` and `.json` files in it and below, in the order of their names, hidden ones
//! left out; or, when it has a kustomization file, through that, as `kubectl apply -k` does. In a
//! folder, documents that are no objects (settings of other programs, kustomize's own files) are
//! passed over with a warning; a file that is named must hold objects.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostic::Diagnostic;
use super::fields::Problems;
use super::kustomize;
use crate::api::decode::expand_list;
use crate::api::yaml::{FileId, Limits, Node, Sources, Span, parse_documents};

/// All files read so far.
#[derive(Debug, Default)]
pub struct Files {
    /// Names and texts.
    pub sources: Sources,
    read: BTreeMap<PathBuf, Result<Arc<[Node]>, Box<Diagnostic>>>,
    limits: Limits,
}

/// Names of kustomization files, in the order in which kustomize looks for them.
pub const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Folders below folders: more are no manifests of anybody's.
const MAX_DEPTH: usize = 50;

impl Files {
    /// Nothing read yet.
    pub fn new() -> Self {
        Files::default()
    }

    /// The documents of a file, `-` for the standard input. `from` is where it was named.
    ///
    /// # Errors
    /// When the file cannot be read, or is not YAML or JSON.
    pub fn documents(&mut self, path: &Path, from: Span) -> Result<Arc<[Node]>, Box<Diagnostic>> {
        if let Some(known) = self.read.get(path) {
            return known.clone();
        }
        let bytes = self.bytes(path, from)?;
        let name = match path.as_os_str() == "-" {
            true => "<stdin>".to_owned(),
            false => path.display().to_string(),
        };
        let file = self.sources.add(name);
        let documents = self.parse(file, bytes);
        self.read.insert(path.to_owned(), documents.clone());
        documents
    }

    /// Takes `bytes` for the content of the file `path`, which need not exist.
    pub fn insert(&mut self, path: &Path, bytes: Vec<u8>) {
        let file = self.sources.add(path.display().to_string());
        let documents = self.parse(file, bytes);
        self.read.insert(path.to_owned(), documents);
    }

    fn parse(&mut self, file: FileId, bytes: Vec<u8>) -> Result<Arc<[Node]>, Box<Diagnostic>> {
        let documents = parse_documents(file, &bytes, &self.limits);
        if let Ok(text) = String::from_utf8(bytes) {
            self.sources.keep_text(file, text);
        }
        documents
            .map(Arc::from)
            .map_err(|error| Box::new(Diagnostic::from(error)))
    }

    /// The bytes of a file (one more than the limit of a longer one).
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn bytes(&self, path: &Path, from: Span) -> Result<Vec<u8>, Box<Diagnostic>> {
        let most = self.limits.max_bytes as u64 + 1;
        let mut bytes = Vec::new();
        let result = if path.as_os_str() == "-" {
            io::stdin().lock().take(most).read_to_end(&mut bytes)
        } else {
            fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes))
        };
        match result {
            Ok(_) => Ok(bytes),
            Err(error) => Err(Box::new(unreadable(path, &error, from))),
        }
    }

    /// All objects below `path`, appended to `found`. `stack` holds the kustomizations and folders
    /// that are being read.
    pub fn collect(
        &mut self,
        path: &Path,
        from: Span,
        stack: &mut Vec<PathBuf>,
        problems: &mut Problems,
    ) -> Vec<Node> {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if KUSTOMIZATIONS.contains(&name) {
            return kustomize::build(self, path, from, stack, problems);
        }
        if !path.is_dir() || path.as_os_str() == "-" {
            return self.objects(path, from, true, problems);
        }
        match kustomization_of(path) {
            Some(file) => kustomize::build(self, &file, from, stack, problems),
            None => {
                let mut objects = self.folder(path, from, 0, problems);
                objects.retain(|node| {
                    let scenario = is_scenario(node);
                    if scenario {
                        let why = "passed over: a scenario among the resources";
                        problems.push(Diagnostic::warning("NoObject", why, node.span));
                    }
                    !scenario
                });
                objects
            }
        }
    }

    /// The objects of one file. `named` tells whether somebody named this very file.
    fn objects(
        &mut self,
        path: &Path,
        from: Span,
        named: bool,
        problems: &mut Problems,
    ) -> Vec<Node> {
        let documents = match self.documents(path, from) {
            Ok(documents) => documents,
            Err(problem) => {
                problems.push(*problem);
                return Vec::new();
            }
        };
        let mut objects = Vec::new();
        for node in documents.iter().flat_map(expand_list) {
            match (no_object(node), named) {
                (None, _) | (Some(_), true) => objects.push(node.clone()),
                (Some(why), false) => {
                    problems.push(Diagnostic::warning("NoObject", why, node.span));
                }
            }
        }
        objects
    }

    /// All objects of a path, folders read plainly: every file on its own, kustomizations left
    /// aside.
    pub fn plain(&mut self, path: &Path, problems: &mut Problems) -> Vec<Node> {
        let name = path.file_name().and_then(|name| name.to_str());
        if path.as_os_str() == "-" || !path.is_dir() {
            let kustomization = name.is_some_and(|name| KUSTOMIZATIONS.contains(&name));
            return match kustomization {
                true => self.collect(path, Span::NONE, &mut Vec::new(), problems),
                false => self.objects(path, Span::NONE, true, problems),
            };
        }
        self.folder(path, Span::NONE, 1, problems)
    }

    /// All manifest files in a folder and below.
    pub fn manifests(&self, folder: &Path, problems: &mut Problems) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![(folder.to_owned(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            match entries(&folder) {
                Ok(found) => {
                    for entry in found {
                        if entry.is_dir() && !entry.is_symlink() && depth < MAX_DEPTH {
                            folders.push((entry, depth + 1));
                        } else if is_manifest(&entry) {
                            files.push(entry);
                        }
                    }
                }
                Err(error) => problems.push(unreadable(&folder, &error, Span::NONE)),
            }
        }
        files.sort();
        files
    }

    fn folder(
        &mut self,
        path: &Path,
        from: Span,
        depth: usize,
        problems: &mut Problems,
    ) -> Vec<Node> {
        let mut objects = Vec::new();
        let entries = match entries(path) {
            Ok(entries) if depth < MAX_DEPTH => entries,
            Ok(_) => {
                let message = format!("{}: folders within folders without end", path.display());
                problems.push(Diagnostic::error("Cycle", message, from));
                return objects;
            }
            Err(error) => {
                problems.push(unreadable(path, &error, from));
                return objects;
            }
        };
        let skipped = match (depth > 0).then(|| kustomization_of(path)).flatten() {
            Some(file) => kustomize::named_files(self, &file),
            None => Vec::new(),
        };
        for entry in entries {
            if entry.is_dir() {
                // As kubectl: a link to a folder is not entered, so that no circle is possible.
                if entry.is_symlink() {
                    continue;
                }
                objects.extend(self.folder(&entry, from, depth + 1, problems));
            } else if is_manifest(&entry) && !skipped.contains(&entry) {
                objects.extend(self.objects(&entry, from, false, problems));
            }
        }
        objects
    }
}

/// Whether a document is a Scenario, or one of the kinds that hold one.
fn is_scenario(node: &Node) -> bool {
    let text = |key| node.get(key).and_then(Node::as_str).unwrap_or_default();
    text("apiVersion").starts_with("rehearsal.dev/")
        && matches!(text("kind"), "Scenario" | "Experiment" | "Search")
}

/// The kustomization file of a folder.
pub fn kustomization_of(folder: &Path) -> Option<PathBuf> {
    let files = KUSTOMIZATIONS.map(|name| folder.join(name));
    files.into_iter().find(|file| file.is_file())
}

/// What a folder holds, sorted, hidden names left out.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if !name.to_string_lossy().starts_with('.') {
            entries.push(folder.join(name));
        }
    }
    entries.sort();
    Ok(entries)
}

fn is_manifest(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml" | "json")) && !KUSTOMIZATIONS.contains(&name)
}

/// Why a document of a folder is passed over.
fn no_object(node: &Node) -> Option<&'static str> {
    let text = |key| node.get(key).and_then(Node::as_str);
    match (text("apiVersion"), text("kind")) {
        (Some(version), _) if version.starts_with("kustomize.config.k8s.io/") => {
            Some("passed over: a file of kustomize")
        }
        _ if node.get("$patch").is_some() => Some("passed over: a patch, not an object"),
        (Some(_), Some(_)) => None,
        _ => Some("passed over: it has no apiVersion and kind, so it is no object"),
    }
}

/// A message about a file that cannot be read, with the nearest name in its folder.
fn unreadable(path: &Path, error: &io::Error, from: Span) -> Diagnostic {
    let shown = path.display();
    if error.kind() != io::ErrorKind::NotFound {
        let why = error.to_string();
        let why = why
            .split(" (os error")
            .next()
            .unwrap_or_default()
            .to_lowercase();
        return Diagnostic::error("NotReadable", format!("cannot read {shown}: {why}"), from);
    }
    let missing = Diagnostic::error("NotFound", format!("{shown}: no such file or folder"), from);
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let folder = parent.unwrap_or(Path::new("."));
    let Ok(entries) = entries(folder) else {
        return missing.cause(format!("there is no folder {}", folder.display()));
    };
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let names: Vec<&str> = (entries.iter())
        .filter_map(|entry| entry.file_name()?.to_str())
        .collect();
    match crate::api::yaml::closest(name, names) {
        Some(near) => missing.hint(format!("did you mean {:?}?", folder.join(near))),
        None => missing,
    }
}
