//! A snapshot of a cluster: the objects of some files as they are, without a scenario around them.
//!
//! What `kubectl get nodes,pods,… -A -o yaml` prints, or manifests. Kinds that the model does not act
//! on are kept or passed over as in a scenario; kinds of this project have no place here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::diagnostic::Diagnostic;
use super::fields::Problems;
use super::files::Files;
use super::load::{Rejected, text};
use super::objects;
use super::reference::kind_name;
use super::types::Applied;
use crate::api::Row;
use crate::api::decode::DecodeContext;
use crate::api::yaml::{Node, Sources, Span};

/// The objects of some files.
#[derive(Debug)]
pub struct Snapshot {
    /// The objects, in the order of files.
    pub objects: Vec<Applied>,
    /// Names and texts of all files.
    pub sources: Sources,
    /// What is probably not meant.
    pub warnings: Vec<Diagnostic>,
}

/// Reads files, folders and `-`; instants in them count from the Unix epoch.
///
/// # Errors
/// When anything cannot be read, is refused, or is there twice; all problems together.
pub fn load_snapshot(paths: &[PathBuf]) -> Result<Snapshot, Rejected> {
    let mut files = Files::new();
    let mut problems = Problems::new();
    let mut nodes: Vec<Node> = Vec::new();
    for path in paths {
        nodes.extend(files.plain(path, &mut problems));
    }
    nodes.retain(|node| {
        let own = text(node, "apiVersion").starts_with("rehearsal.dev/");
        if own && text(node, "kind") == "Scenario" {
            let message = "a Scenario is no snapshot of a cluster";
            let wrong = Diagnostic::error("BadRequest", message, node.span);
            problems.push(wrong.hint("run it, and explain its results folder"));
        }
        !own
    });
    let mut context = DecodeContext::default();
    context.learn(&nodes);
    let decoded = objects::decode_all(&nodes, &context, &mut problems);
    twice(&decoded.objects, &files.sources, &mut problems);
    if problems.iter().any(Diagnostic::is_error) {
        return Err(Rejected {
            diagnostics: problems,
            sources: files.sources,
        });
    }
    Ok(Snapshot {
        objects: decoded.objects,
        sources: files.sources,
        warnings: problems,
    })
}

/// One object cannot be there twice.
fn twice(objects: &[Applied], sources: &Sources, problems: &mut Problems) {
    let mut first: BTreeMap<(String, String), Span> = BTreeMap::new();
    let typed = objects.iter().filter(|o| !matches!(o.row, Row::Inert(_)));
    for object in typed {
        let kind = kind_name(&object.row);
        let name = object.row.meta().full_name();
        if let Some(before) = first.get(&(kind.clone(), name.clone())) {
            let message = format!("a second {kind} is called {name}");
            let wrong = Diagnostic::error("Duplicate", message, object.span);
            let place = sources.locate(*before);
            problems.push(wrong.cause(format!("the first: {place}")));
            continue;
        }
        first.insert((kind, name), object.span);
    }
}
