//! A scenario written down again with less in it: what a search found.
//!
//! The documents of the file are kept as they are, but for what an [`Edit`] says: other times, fewer
//! steps, smaller pools, a shorter run, one expectation. Names of files are rewritten, because the
//! new file stands in another folder.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::load::{OWN, text};
use super::steps::file_arguments;
use super::types::Scenario;
use crate::api::duration;
use crate::api::yaml::{
    Limits, Node, NodeValue, Sources, Span, WriteError, parse_documents, write,
};

/// What is different in the new file.
#[derive(Clone, Debug)]
pub struct Edit {
    /// The scenario's name there.
    pub name: String,
    /// `spec.seed`.
    pub seed: u64,
    /// The steps that are left, by where they stood, and when they happen.
    pub steps: Vec<(Span, Duration)>,
    /// The count of each pool.
    pub nodes: Vec<u32>,
    /// `spec.duration`.
    pub duration: Duration,
    /// The one expectation that is left, by where it stood.
    pub expectation: Option<Span>,
    /// What `--resources` said instead of `spec.resources`.
    pub resources: Option<Vec<PathBuf>>,
}

/// The text of a file in the folder `to` that holds this scenario, edited.
///
/// # Errors
/// When something in it has no YAML form.
pub fn minimal(
    scenario: &Scenario,
    sources: &Sources,
    to: &Path,
    edit: &Edit,
) -> Result<String, WriteError> {
    let file = scenario.span.file;
    let source = sources.text(file).unwrap_or_default();
    // It was read before: what cannot be read now was no part of the scenario.
    let documents = parse_documents(file, source.as_bytes(), &Limits::default());
    let old = Path::new(&scenario.file).parent();
    let old = old.unwrap_or(Path::new(""));
    let moved = |name: &str| relative(&old.join(name), to);
    let mut written = String::new();
    for mut document in documents.unwrap_or_default() {
        let own = text(&document, "apiVersion") == OWN;
        match text(&document, "kind") {
            "Scenario" if own && document.span != scenario.span => continue,
            "Scenario" if own => edit_scenario(&mut document, edit, &moved, to),
            "Traffic" if own && starts_after(&document, edit.duration) => continue,
            _ => {}
        }
        if !written.is_empty() {
            written.push_str("---\n");
        }
        written.push_str(&write(&document.to_json())?);
    }
    Ok(written)
}

fn starts_after(traffic: &Node, end: Duration) -> bool {
    let start = traffic.at("spec.start").and_then(Node::as_str);
    let start = start.and_then(|text| duration::parse(text).ok());
    start.is_some_and(|start| start > end)
}

fn edit_scenario(document: &mut Node, edit: &Edit, moved: &dyn Fn(&str) -> String, to: &Path) {
    let span = document.span;
    let plain = |value: &str| Node::text(value, span);
    if let Some(metadata) = document.get_mut("metadata") {
        metadata.set("name", plain(&edit.name));
    }
    let Some(spec) = document.get_mut("spec") else {
        return;
    };
    spec.remove("search");
    let seed = match i64::try_from(edit.seed) {
        Ok(seed) => NodeValue::Int(seed),
        Err(_) => NodeValue::UInt(edit.seed),
    };
    spec.set("seed", Node::new(seed, span));
    spec.set("duration", plain(&duration::short(edit.duration)));
    if let Some(given) = &edit.resources {
        let paths = given.iter().map(|path| plain(&relative(path, to)));
        spec.set(
            "resources",
            Node::new(NodeValue::List(paths.collect()), span),
        );
    } else {
        for item in items(spec.get_mut("resources")) {
            rename(item, moved);
        }
    }
    for patch in items(spec.get_mut("patches")) {
        patch
            .get_mut("path")
            .into_iter()
            .for_each(|path| rename(path, moved));
    }
    let pools = spec.get_mut("cluster").and_then(|c| c.get_mut("nodePools"));
    for (pool, count) in items(pools).iter_mut().zip(&edit.nodes) {
        pool.set("count", Node::new(NodeValue::Int(i64::from(*count)), span));
    }
    let old = spec.remove("timeline");
    let old = old.as_ref().and_then(Node::as_list).unwrap_or_default();
    let steps: Vec<Node> = (edit.steps.iter())
        .filter_map(|(place, at)| {
            let mut step = old.iter().find(|step| step.span == *place)?.clone();
            step.set("at", plain(&duration::short(*at)));
            files_of_step(&mut step, moved);
            Some(step)
        })
        .collect();
    if !steps.is_empty() {
        spec.set("timeline", Node::new(NodeValue::List(steps), span));
    }
    let old = spec.remove("expect");
    let old = old.as_ref().and_then(Node::as_list).unwrap_or_default();
    if let Some(one) = old.iter().find(|e| Some(e.span) == edit.expectation) {
        let mut one = one.clone();
        let until = one.get("until").and_then(Node::as_str);
        let until = until.and_then(|text| duration::parse(text).ok());
        if until.is_some_and(|until| until >= edit.duration) {
            one.remove("until");
        }
        spec.set("expect", Node::new(NodeValue::List(vec![one]), span));
    }
}

fn items(list: Option<&mut Node>) -> &mut [Node] {
    list.and_then(Node::as_list_mut)
        .map(Vec::as_mut_slice)
        .unwrap_or_default()
}

fn rename(node: &mut Node, moved: &dyn Fn(&str) -> String) {
    if let Some(name) = node.as_str() {
        *node = Node::text(&moved(name), node.span);
    }
}

/// Files that a step applies, whole or in a command line.
fn files_of_step(step: &mut Node, moved: &dyn Fn(&str) -> String) {
    if let Some(apply) = step.get_mut("apply") {
        match apply.as_list_mut() {
            Some(items) => items.iter_mut().for_each(|item| rename(item, moved)),
            None => rename(apply, moved),
        }
    }
    let Some(line) = step.get("kubectl").and_then(Node::as_str) else {
        return;
    };
    let mut line = line.to_owned();
    for name in file_arguments(line.trim().trim_start_matches("kubectl ")) {
        line = line.replace(&name, &moved(&name));
    }
    step.set("kubectl", Node::text(&line, step.span));
}

/// A path as seen from a folder; an absolute one stays as it is.
pub fn relative(path: &Path, folder: &Path) -> String {
    if path.is_absolute() && !folder.is_absolute() {
        return path.display().to_string();
    }
    let (path, folder) = (plain(path), plain(folder));
    let shared = path.iter().zip(&folder).take_while(|(a, b)| a == b).count();
    let up = folder[shared..].iter().map(|_| "..".to_owned());
    let names: Vec<String> = up.chain(path[shared..].iter().cloned()).collect();
    names.join("/")
}

/// The names of a path, from the root where both can be told from there.
fn plain(path: &Path) -> Vec<String> {
    let path = Path::new(".").join(path);
    let path = std::path::absolute(&path).unwrap_or(path);
    let mut names: Vec<String> = Vec::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(names.pop()),
            Component::Normal(name) => names.push(name.to_string_lossy().into_owned()),
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_told_from_the_new_folder() {
        for (path, folder, told) in [
            (
                "scenarios/shop/web.yaml",
                "results",
                "../scenarios/shop/web.yaml",
            ),
            ("results/a.yaml", "results", "a.yaml"),
            ("a.yaml", "results/deep/er", "../../../a.yaml"),
            ("scenarios/../shop", "", "shop"),
            ("/etc/x", "results", "/etc/x"),
        ] {
            assert_eq!(relative(Path::new(path), Path::new(folder)), told, "{path}");
        }
    }
}
