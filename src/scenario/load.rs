//! Files into scenarios: the order in which everything is read and checked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::diagnostic::{Diagnostic, render};
use super::fields::Problems;
use super::files::Files;
use super::reader::Reader;
use super::types::Scenario;
use crate::api::yaml::{Node, Sources, Span};

/// What the command line says about every scenario.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// `--resources`: instead of `spec.resources`; paths from the working directory.
    pub resources: Option<Vec<PathBuf>>,
    /// `--seed`: instead of `spec.seed`.
    pub seed: Option<u64>,
    /// `--until`: end earlier than `spec.duration`.
    pub until: Option<Duration>,
}

/// Scenarios that can run.
#[derive(Debug)]
pub struct Loaded {
    /// The scenarios, in the order of files.
    pub scenarios: Vec<Scenario>,
    /// Names and texts of all files.
    pub sources: Sources,
    /// What is probably not meant.
    pub warnings: Vec<Diagnostic>,
}

/// Why nothing can run.
#[derive(Debug)]
pub struct Rejected {
    /// Every problem found, warnings among them, in the order of files.
    pub diagnostics: Vec<Diagnostic>,
    /// Names and texts of all files.
    pub sources: Sources,
}

impl Rejected {
    /// All errors as text for people.
    pub fn render(&self, colour: bool) -> String {
        let errors: Vec<Diagnostic> = self
            .diagnostics
            .iter()
            .filter(|d| d.is_error())
            .cloned()
            .collect();
        render(&errors, &self.sources, colour)
    }
}

/// The group and version of our own kinds.
pub const OWN: &str = "rehearsal.dev/v1";

/// Reads scenarios. A folder means all scenarios in and below it.
///
/// # Errors
/// When anything in any of them is wrong; all problems are reported together.
pub fn load(paths: &[PathBuf], options: &LoadOptions) -> Result<Loaded, Rejected> {
    load_with(Files::new(), paths, options)
}

/// As [`load`], of a scenario that stands in memory: `name` is the file that it pretends to be.
///
/// # Errors
/// As [`load`].
pub fn load_bytes(name: &Path, bytes: &[u8], options: &LoadOptions) -> Result<Loaded, Rejected> {
    load_beside(&[], name, bytes, options)
}

/// As [`load_bytes`], with the contents of other files that stand in memory.
///
/// # Errors
/// As [`load`].
pub fn load_beside(
    others: &[(PathBuf, Vec<u8>)],
    name: &Path,
    bytes: &[u8],
    options: &LoadOptions,
) -> Result<Loaded, Rejected> {
    let mut files = Files::new();
    for (path, bytes) in others {
        files.insert(path, bytes.clone());
    }
    files.insert(name, bytes.to_vec());
    load_with(files, &[name.to_owned()], options)
}

fn load_with(
    mut files: Files,
    paths: &[PathBuf],
    options: &LoadOptions,
) -> Result<Loaded, Rejected> {
    let mut problems = Problems::new();
    let mut scenarios = Vec::new();
    for path in paths {
        read_path(path, options, &mut files, &mut scenarios, &mut problems);
    }
    if paths.is_empty() {
        problems.push(Diagnostic::error(
            "NotFound",
            "no scenario was named",
            Span::NONE,
        ));
    }
    let mut seen = Problems::new();
    for problem in problems {
        // Two scenarios of one file share its documents.
        if !seen.contains(&problem) {
            seen.push(problem);
        }
    }
    if seen.iter().any(Diagnostic::is_error) {
        return Err(Rejected {
            diagnostics: seen,
            sources: files.sources,
        });
    }
    Ok(Loaded {
        scenarios,
        sources: files.sources,
        warnings: seen,
    })
}

fn read_path(
    path: &Path,
    options: &LoadOptions,
    files: &mut Files,
    scenarios: &mut Vec<Scenario>,
    problems: &mut Problems,
) {
    if !path.is_dir() || path.as_os_str() == "-" {
        read_file(path, options, files, scenarios, problems);
        return;
    }
    let before = scenarios.len();
    let mut found = false;
    for file in files.manifests(path, problems) {
        match files.documents(&file, Span::NONE) {
            Ok(documents) if documents.iter().any(is_scenario) => {
                found = true;
                read_file(&file, options, files, scenarios, problems);
            }
            _ => {}
        }
    }
    if !found && scenarios.len() == before {
        let message = format!(
            "{}: no file in this folder holds a Scenario",
            path.display()
        );
        problems.push(Diagnostic::error("NotFound", message, Span::NONE));
    }
}

/// The text under a key, empty when there is none.
pub fn text<'n>(node: &'n Node, key: &str) -> &'n str {
    node.get(key).and_then(Node::as_str).unwrap_or_default()
}

fn is_scenario(node: &Node) -> bool {
    text(node, "kind") == "Scenario" && text(node, "apiVersion").starts_with("rehearsal.dev/")
}

fn read_file(
    path: &Path,
    options: &LoadOptions,
    files: &mut Files,
    scenarios: &mut Vec<Scenario>,
    problems: &mut Problems,
) {
    let documents = match files.documents(path, Span::NONE) {
        Ok(documents) => documents,
        Err(problem) => {
            problems.push(*problem);
            return;
        }
    };
    let (heads, rest): (Vec<&Node>, Vec<&Node>) = documents.iter().partition(|d| is_scenario(d));
    if heads.is_empty() {
        problems.push(no_scenario(path, &documents));
    }
    for head in &heads {
        let version = text(head, "apiVersion");
        if version != OWN {
            let message = format!("no kind \"Scenario\" in version {version:?}");
            let wrong = Diagnostic::error("BadRequest", message, head.span);
            problems.push(wrong.hint(format!("apiVersion: {OWN}")));
            continue;
        }
        if let Some(other) = scenarios.iter().find(|s| s.name == text_of_name(head)) {
            let message = format!("a second scenario is called {}", other.name);
            let place = files.sources.locate(other.span);
            problems.push(
                Diagnostic::error("Duplicate", message, head.span)
                    .cause(format!("the first: {place}")),
            );
        }
        let mut reader = Reader {
            files: &mut *files,
            base: folder(path),
            options,
            problems: &mut *problems,
        };
        scenarios.extend(reader.scenario(path, head, &rest));
    }
}

fn text_of_name(head: &Node) -> &str {
    head.at("metadata.name")
        .and_then(Node::as_str)
        .unwrap_or_default()
}

fn folder(path: &Path) -> PathBuf {
    match path.as_os_str() == "-" {
        true => PathBuf::new(),
        false => path.parent().unwrap_or(Path::new("")).to_owned(),
    }
}

fn no_scenario(path: &Path, documents: &[Node]) -> Diagnostic {
    let message = format!("{} holds no Scenario", path.display());
    let span = documents
        .first()
        .map_or(Span::NONE, |document| document.span);
    let kinds: Vec<&str> = documents
        .iter()
        .map(|document| text(document, "kind"))
        .collect();
    let missing = Diagnostic::error("NotFound", message, span);
    if kinds.contains(&"Experiment") {
        return missing.hint("an Experiment is run by `compare`");
    }
    missing.hint("run a scenario on these manifests with --resources")
}
