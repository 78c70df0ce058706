//! Manifests and scenarios judged one document at a time, as the API server would.
//!
//! A Scenario is read with everything that it names; what is wrong in other documents of its file
//! is told there. AppModels and Traffic that stand in a file without a Scenario are read alone,
//! without their references. Faults of kinds that are not modelled are accepted, with a word about
//! it: only a timeline refuses them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::app_model;
use super::chaos::{self, Family};
use super::chaos_mesh;
use super::diagnostic::{Diagnostic, Severity};
use super::fields::Problems;
use super::files::Files;
use super::load::{LoadOptions, OWN, load, text};
use super::objects;
use super::traffic;
use crate::api::Text;
use crate::api::decode::{DecodeContext, decode};
use crate::api::yaml::{FileId, Node, Sources, Span};

/// What came of validating some files.
#[derive(Debug, Default)]
pub struct Validated {
    /// Every document, in the order of files; a file that cannot be read is one of them.
    pub objects: Vec<ValidatedObject>,
    /// What is about no document: files and folders that were passed over.
    pub notes: Vec<Diagnostic>,
    /// Names and texts of all files.
    pub sources: Sources,
}

/// The judgement on one document.
#[derive(Clone, Debug)]
pub struct ValidatedObject {
    /// `kind`, empty when there is none.
    pub kind: String,
    /// `metadata.name`, empty when there is none.
    pub name: String,
    /// Where it begins.
    pub span: Span,
    /// Whether the API server would take it.
    pub accepted: bool,
    /// Whether its kind is one that Kubernetes or this project knows.
    pub known: bool,
    /// Errors and warnings.
    pub problems: Vec<Diagnostic>,
    /// The object with the API server's defaults; `None` when refused.
    pub json: Option<Json>,
}

impl Validated {
    /// Whether everything was accepted.
    pub fn passed(&self) -> bool {
        self.objects.iter().all(|object| object.accepted)
    }

    /// The line of `--json` for one document.
    pub fn line(&self, object: &ValidatedObject) -> Json {
        let problems: Vec<Json> = (object.problems.iter())
            .map(|problem| {
                let mut message = problem.message.clone();
                if let Some(hint) = &problem.hint {
                    message.push_str(&format!(" ({hint})"));
                }
                json!({
                    "path": problem.path,
                    "line": problem.span.line,
                    "column": problem.span.column,
                    "reason": problem.reason,
                    "message": message,
                })
            })
            .collect();
        json!({
            "file": self.sources.name(object.span.file),
            "line": object.span.line,
            "kind": object.kind,
            "name": object.name,
            "accepted": object.accepted,
            "known": object.known,
            "problems": problems,
        })
    }

    /// The kinds that Kubernetes does not know, with how often they occur.
    pub fn foreign(&self) -> BTreeMap<&str, usize> {
        let mut kinds = BTreeMap::new();
        for object in self
            .objects
            .iter()
            .filter(|object| !object.known && object.accepted)
        {
            *kinds.entry(object.kind.as_str()).or_default() += 1;
        }
        kinds
    }
}

/// Validates files, folders (each file on its own) and `-` by the rules of a Kubernetes version.
pub fn validate_files(paths: &[PathBuf], version: &str) -> Validated {
    let mut files = Files::new();
    let mut result = Validated::default();
    let context = DecodeContext {
        version: version.to_owned(),
        ..DecodeContext::default()
    };
    for path in paths {
        let mut problems = Problems::new();
        let nodes = files.plain(path, &mut problems);
        for problem in problems {
            match problem.severity {
                Severity::Error => result.objects.push(unreadable(path, problem, &mut files)),
                Severity::Warning => result.notes.push(problem),
            }
        }
        let scenarios = scenario_problems(&nodes, &files.sources);
        for node in &nodes {
            let mut object = one(node, &context);
            if let Some(found) = scenarios.get(&node.span) {
                object.problems.clone_from(found);
                object.accepted = !found.iter().any(Diagnostic::is_error);
            }
            result.objects.push(object);
        }
    }
    result.objects.sort_by_key(|object| object.span);
    result.sources = files.sources;
    result
}

/// A file that cannot be read, as a document that is refused.
fn unreadable(path: &Path, mut problem: Diagnostic, files: &mut Files) -> ValidatedObject {
    if !problem.span.is_known() {
        let file = files.sources.add(path.display().to_string());
        problem.span = Span::new(file, 0, 0);
    }
    ValidatedObject {
        kind: String::new(),
        name: String::new(),
        span: problem.span,
        accepted: false,
        known: false,
        problems: vec![problem],
        json: None,
    }
}

/// Loads the files that hold Scenarios; returns the problems of each of their documents.
fn scenario_problems(nodes: &[Node], sources: &Sources) -> BTreeMap<Span, Vec<Diagnostic>> {
    let own = |node: &&Node| text(node, "apiVersion").starts_with("rehearsal.dev/");
    let mut heads: BTreeMap<FileId, Span> = BTreeMap::new();
    for node in nodes
        .iter()
        .filter(own)
        .filter(|node| text(node, "kind") == "Scenario")
    {
        heads.entry(node.span.file).or_insert(node.span);
    }
    let mut found = BTreeMap::new();
    for (file, head) in heads {
        let path = PathBuf::from(sources.name(file));
        if sources.name(file) == "<stdin>" {
            continue;
        }
        let (problems, loaded) = match load(&[path], &LoadOptions::default()) {
            Ok(loaded) => (loaded.warnings, loaded.sources),
            Err(rejected) => (rejected.diagnostics, rejected.sources),
        };
        let documents: Vec<Span> = nodes
            .iter()
            .map(|node| node.span)
            .filter(|span| span.file == file)
            .collect();
        documents
            .iter()
            .for_each(|span| drop(found.insert(*span, Vec::new())));
        for mut problem in problems {
            let here = loaded.name(problem.span.file) == sources.name(file);
            let own = documents
                .iter()
                .rev()
                .find(|span| (span.line, span.column) <= (problem.span.line, problem.span.column));
            match (here && problem.span.is_known(), own) {
                (true, Some(document)) => {
                    problem.span.file = file;
                    found.entry(*document).or_default().push(problem);
                }
                _ => {
                    // Of another file: told at the Scenario that reads it.
                    if problem.span.is_known() {
                        let place = loaded.locate(problem.span);
                        problem.message = format!("{place}: {}", problem.message);
                    }
                    problem.span = head;
                    found.entry(head).or_default().push(problem);
                }
            }
        }
    }
    found
}

fn one(node: &Node, context: &DecodeContext) -> ValidatedObject {
    let name = node
        .at("metadata.name")
        .and_then(Node::as_str)
        .unwrap_or_default();
    let mut object = ValidatedObject {
        kind: text(node, "kind").to_owned(),
        name: name.to_owned(),
        span: node.span,
        accepted: true,
        known: true,
        problems: Vec::new(),
        json: None,
    };
    let own = text(node, "apiVersion").starts_with("rehearsal.dev/");
    if own || chaos::family(node) == Family::ChaosMesh {
        ours(node, own, &mut object);
        object.accepted = !object.problems.iter().any(Diagnostic::is_error);
        object.json = object.accepted.then(|| node.to_json());
        return object;
    }
    match decode(node, context) {
        Ok(decoded) => {
            object.known = decoded.known;
            let told = objects::server_warnings(&decoded.json, node);
            object.problems.extend(told);
            object.json = Some(decoded.json);
            let warnings = decoded.warnings.into_iter();
            object
                .problems
                .extend(warnings.map(|p| objects::diagnostic(p, node, false)));
        }
        Err(refused) => {
            object.accepted = false;
            let refused = refused.into_iter();
            object
                .problems
                .extend(refused.map(|p| objects::diagnostic(p, node, true)));
        }
    }
    object
}

/// Kinds of this project, and faults of Chaos Mesh.
fn ours(node: &Node, own: bool, object: &mut ValidatedObject) {
    let namespace = Text::from("default");
    let problems = &mut object.problems;
    match (own, object.kind.as_str()) {
        (true, _) if text(node, "apiVersion") != OWN => {
            let message = format!("no version {:?}", text(node, "apiVersion"));
            let wrong = Diagnostic::error("BadRequest", message, node.span);
            problems.push(wrong.at("apiVersion").hint(format!("apiVersion: {OWN}")));
        }
        (true, "Scenario") => {}
        (true, "AppModel") => drop(app_model::read(node, &namespace, problems)),
        (true, "Traffic") => drop(traffic::read(node, &namespace, Duration::MAX, problems)),
        (true, "NodeChaos" | "ControlPlaneChaos") => drop(chaos::read(node, &namespace, problems)),
        (true, kind) => {
            let known = super::reader::OUR_KINDS;
            let message = format!("no kind {kind:?} in version {OWN:?}");
            let wrong = Diagnostic::error("BadRequest", message, node.span);
            problems.push(wrong.suggest(kind, known));
        }
        (false, kind) => {
            object.known = chaos_mesh::is_modelled(kind);
            match chaos_mesh::plan::is_plan(node) {
                true => drop(chaos_mesh::plan::read(node, &namespace, problems)),
                false => drop(chaos::read(node, &namespace, problems)),
            }
            for problem in problems.iter_mut().filter(|p| p.reason == "NotModelled") {
                problem.severity = Severity::Warning;
            }
        }
    }
}
