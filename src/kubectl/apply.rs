//! `kubectl apply`: create what is not there, patch what is, three ways.
//!
//! `staging/src/k8s.io/kubectl/pkg/cmd/apply`. The manifest as written (defaults are the API
//! server's business) is kept in an annotation of the object; the next apply compares it with its
//! own manifest and with the object, so that what left the manifest goes and what others set stays.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::edit::{Action, printed_name};
use super::told;
use crate::api::patch::three_way_patch;
use crate::api::print::to_json;
use crate::api::yaml::{Node, Span};
use crate::api::{Row, warnings};
use crate::store::{Patch, View, Write};

/// Where the manifest is kept that was applied last.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The write that `kubectl apply` makes for an object, and what it prints. `written` is the
/// manifest without the server's defaults.
///
/// # Errors
/// In kubectl's words.
pub fn apply(row: &Row, written: &Value, view: &View) -> Result<Action, String> {
    let meta = row.meta();
    let name = printed_name(row);
    let found = match meta.name.is_empty() {
        true => None,
        false => view.lookup(row.kind(), &meta.namespace, &row.key()),
    };
    let Some((object, old)) = found.and_then(|object| Some((object, view.row(object)?))) else {
        let write = Write::Create(annotated(row, written));
        return Ok(Action::Write(write, created(row)));
    };
    let mut warnings = Vec::new();
    let before = old.meta().annotations.get(LAST_APPLIED);
    let original: Option<Value> = match before {
        None => {
            warnings.push(format!(
                "Warning: resource {} is missing the {LAST_APPLIED} annotation which is required \
                 by kubectl apply. kubectl apply should only be used on resources created \
                 declaratively by either kubectl create --save-config or kubectl apply. The \
                 missing annotation will be patched automatically.",
                resource(&name, &old),
            ));
            None
        }
        Some(text) => {
            let read = serde_json::from_str(text).map_err(|_| {
                format!("error: the annotation {LAST_APPLIED} of {name} is no JSON document")
            })?;
            Some(read)
        }
    };
    if old.meta().deleting() {
        warnings.push(format!(
            "Warning: Detected changes to resource {} which is currently being deleted.",
            meta.name
        ));
    }
    let node = |value: &Value| Node::from_json(value, Span::NONE);
    let mut modified = bare(written);
    modified["metadata"]["annotations"][LAST_APPLIED] = json!(encoded(&bare(written)));
    let (kind, patch) = three_way_patch(
        original.as_ref().map(node).as_ref(),
        &node(&modified),
        &node(&to_json(&old)),
    )
    .map_err(|error| format!("error: creating the patch for {name}: {}", error.message))?;
    let mut say = |what: &str| {
        warnings.push(format!("{name} {what}"));
        warnings.join("\n")
    };
    if patch.as_map().is_none_or(|map| map.is_empty()) {
        return Ok(Action::Say(say("unchanged")));
    }
    let patch = patch.to_json();
    let said = say("configured");
    let mut lines = told::patched(&old, kind, &patch);
    lines.push(said);
    let write = Write::Patch {
        object,
        uid: None,
        patch: Patch::Document(kind, Arc::new(patch)),
    };
    Ok(Action::Write(write, lines.join("\n")))
}

/// The write of `kubectl create -f` for an object, and what it prints.
pub fn create(row: &Row) -> Action {
    Action::Write(Write::Create(row.clone()), created(row))
}

/// What is printed of a new object: the server's warnings first.
fn created(row: &Row) -> String {
    let warnings = warnings::of(&to_json(row)).into_iter();
    let warnings = warnings.map(|line| format!("Warning: {line}"));
    let lines: Vec<String> = warnings
        .chain([format!("{} created", printed_name(row))])
        .collect();
    lines.join("\n")
}

/// The write of `kubectl replace -f`: the object becomes what is written, but for what the server
/// keeps of it.
///
/// # Errors
/// When there is no such object, in kubectl's words.
pub fn replace(row: &Row, written: &Value, view: &View) -> Result<Action, String> {
    let meta = row.meta();
    let found = view.lookup(row.kind(), &meta.namespace, &row.key());
    let Some((object, old)) = found.and_then(|object| Some((object, view.row(object)?))) else {
        return Err(missing(row));
    };
    let mut new = written.clone();
    new["metadata"]["uid"] = json!(old.meta().uid.to_string());
    let mut lines = told::replaced(&to_json(&old), &new);
    lines.push(format!("{} replaced", printed_name(row)));
    let write = Write::Patch {
        object,
        uid: None,
        patch: Patch::Replacement(Arc::new(new)),
    };
    Ok(Action::Write(write, lines.join("\n")))
}

/// What kubectl says of a written object that is not there.
pub fn missing(row: &Row) -> String {
    let name = printed_name(row);
    let (kind, _) = name.split_once('/').unwrap_or_default();
    let plural = match row {
        Row::Inert(_) => kind.to_owned(),
        row => {
            let group = kind.split_once('.').map(|(_, group)| format!(".{group}"));
            format!("{}{}", row.kind().plural(), group.unwrap_or_default())
        }
    };
    let name = &row.meta().name;
    format!("Error from server (NotFound): {plural} \"{name}\" not found")
}

/// `deployments/web`, as warnings name an object.
fn resource(name: &str, row: &Row) -> String {
    match row {
        Row::Inert(_) => name.to_owned(),
        row => format!("{}/{}", row.kind().plural(), row.meta().name),
    }
}

/// The object as `apply` creates it: with the manifest in its annotation.
pub fn annotated(row: &Row, written: &Value) -> Row {
    let mut row = row.clone();
    let meta = row.meta_mut();
    let text = encoded(&bare(written));
    meta.annotations = meta.annotations.with(LAST_APPLIED, text);
    row
}

/// The manifest without the annotation itself (`util.GetModifiedConfiguration`).
fn bare(written: &Value) -> Value {
    let mut bare = written.clone();
    if !bare["metadata"]["annotations"].is_object() {
        bare["metadata"]["annotations"] = json!({});
    }
    if let Some(annotations) = bare["metadata"]["annotations"].as_object_mut() {
        annotations.shift_remove(LAST_APPLIED);
    }
    bare
}

/// JSON as Go writes it: keys in order, `<`, `>` and `&` escaped, a line break at the end.
fn encoded(value: &Value) -> String {
    let mut text = sorted(value).to_string();
    for (plain, escaped) in [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026")] {
        if text.contains(plain) {
            text = text.replace(plain, escaped);
        }
    }
    text.push('\n');
    text
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut pairs: Vec<(&String, &Value)> = map.iter().collect();
            pairs.sort_unstable_by_key(|(key, _)| *key);
            let pairs = pairs.into_iter().map(|(key, v)| (key.clone(), sorted(v)));
            Value::Object(pairs.collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        value => value.clone(),
    }
}

#[cfg(test)]
mod tests;
