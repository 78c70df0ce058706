//! Manifests in, rows out: what the API server does to a request before it is stored.
//!
//! One object at a time, in the API server's order: old versions become current ones
//! (`versions`), the tree is read strictly into the generated type of its kind (`typed`), defaults
//! are filled in ([`super::defaults`]), the object is validated ([`super::validate`]), and the
//! result is converted to a compact row (one file per group of kinds) and dropped. Kinds that the
//! model does not act on become [`Inert`](crate::api::Inert) rows with their whole JSON; kinds that Kubernetes does
//! not know are never an error.
//!
//! Where to look first: [`decode`], then `kinds`, the table of what is done to which kind. The way
//! back, rows to JSON, is [`super::print`].

mod affinity;
mod autoscaling;
mod batch;
mod config;
mod container;
mod kinds;
mod meta;
mod node;
mod not_modelled;
mod pod;
mod pod_status;
mod quota;
mod resized;
mod served;
mod service;
mod stateful;
#[cfg(test)]
mod tests;
mod typed;
mod versions;
mod volume;
mod workload;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::Row;
use super::yaml::{Node, Span};

pub(crate) use affinity::label_selector as selector_of;
pub(crate) use container::{pod_level, pod_whole};
pub(crate) use meta::uid as uid_of;
pub(crate) use pod::{override_with, pod_requests};
pub use typed::expand_list;

/// What a request in one namespace is told that brings an object of another
/// (`rest :: EnsureObjectNamespaceMatchesRequestNamespace`).
pub const ELSEWHERE: &str =
    "the namespace of the provided object does not match the namespace sent on the request";

/// What a decode needs to know besides the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeContext {
    /// Namespace of namespaced objects that name none.
    pub default_namespace: String,
    /// Namespace that a request names besides the object's own, which must not be another.
    pub request_namespace: Option<String>,
    /// The Kubernetes version whose rules apply, as `1.36`.
    pub version: String,
    /// Seconds from the Unix epoch to the beginning of the run: timestamps of a snapshot become
    /// instants of the run with it; earlier ones fall on the beginning.
    pub epoch_s: i64,
    /// Whether objects of a custom kind have a namespace, by its group and name, as far as
    /// definitions were seen ([`DecodeContext::learn`]).
    pub scopes: BTreeMap<(String, String), bool>,
}

impl Default for DecodeContext {
    /// Namespace `default`, the reference version, and a run that begins at the Unix epoch.
    fn default() -> Self {
        DecodeContext {
            default_namespace: "default".to_owned(),
            request_namespace: None,
            version: "1.36".to_owned(),
            epoch_s: 0,
            scopes: BTreeMap::new(),
        }
    }
}

impl DecodeContext {
    /// Takes the scopes of custom kinds from the CustomResourceDefinitions among these objects.
    pub fn learn(&mut self, objects: &[Node]) {
        for object in objects.iter().flat_map(expand_list) {
            let text = |path: &str| object.at(path).and_then(Node::as_str);
            if text("kind") != Some("CustomResourceDefinition") {
                continue;
            }
            let group = text("spec.group").unwrap_or_default().to_owned();
            if let (Some(kind), Some(scope)) = (text("spec.names.kind"), text("spec.scope")) {
                let namespaced = scope == "Namespaced";
                self.scopes.insert((group, kind.to_owned()), namespaced);
            }
        }
    }
}

/// Something about an object that the API server would say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field, as the API server prints paths; empty for the whole object.
    pub path: String,
    /// Where it was written (the nearest place when the field is missing), if that is known.
    pub span: Option<Span>,
    /// `FieldValueInvalid` and its kin, `BadRequest` for an object that does not decode,
    /// `UnknownField`, `Deprecated`.
    pub reason: String,
    /// What is wrong, in the API server's words.
    pub message: String,
}

/// `path: message`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// A field that the model stores but does not act on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NotModelled {
    /// Kind and field, `Pod.securityContext`, or the kind alone when all of it is inert.
    pub what: String,
    /// Path of the field.
    pub path: String,
}

/// An object that the API server would accept.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object as the store holds it.
    pub row: Row,
    /// The object with all defaults, as `kubectl apply --dry-run=server -o json` prints it.
    pub json: Value,
    /// Unknown fields and deprecated versions; the caller decides how serious they are.
    pub warnings: Vec<Problem>,
    /// Whether Kubernetes has this kind (foreign kinds are stored as written).
    pub known: bool,
    /// What of it the model does not act on.
    pub not_modelled: Vec<NotModelled>,
}

/// Reads one object. A list is not an object: see [`expand_list`].
///
/// # Errors
/// What the API server refuses the object for.
pub fn decode(node: &Node, context: &DecodeContext) -> Result<Decoded, Vec<Problem>> {
    let (decoded, problems) = typed::decode(node, context)?;
    match problems.is_empty() {
        true => Ok(decoded),
        false => Err(problems),
    }
}

/// As [`decode`], from JSON that no file contains.
///
/// # Errors
/// As [`decode`].
pub fn decode_json(value: &Value, context: &DecodeContext) -> Result<Decoded, Vec<Problem>> {
    let node = Node::from_json(value, Span::NONE);
    decode(&node, context)
}

/// The object as it was written, its API version made current and its namespace that of `row`:
/// what `kubectl apply` keeps of it.
pub fn as_written(node: &Node, row: &Row) -> Value {
    let current = versions::current(node).ok().flatten();
    let mut json = current.as_ref().map_or(node, |(node, _)| node).to_json();
    let namespace = &row.meta().namespace;
    if !namespace.is_empty() && json["metadata"].is_object() {
        json["metadata"]["namespace"] = Value::from(namespace.as_str());
    }
    json
}

/// Reads an affinity on its own, as component configurations embed it.
///
/// # Errors
/// When the value does not have the shape of an affinity.
pub fn affinity_from_json(value: &Value) -> Result<super::affinity::Affinity, String> {
    let read: k8s_openapi::api::core::v1::Affinity =
        serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
    Ok(affinity::affinity(&read).unwrap_or_default())
}

/// The row after a patch of its JSON: decoded anew, with identity, revision and (for kinds that
/// have one) the typed status of the old row.
///
/// # Errors
/// As [`decode`].
pub fn with_patched_json(
    row: &Row,
    patched: &Value,
    context: &DecodeContext,
) -> Result<Row, Vec<Problem>> {
    let (new, problems) = with_invalid_json(row, patched, context)?;
    match problems.is_empty() {
        true => Ok(new),
        false => Err(problems),
    }
}

/// As [`with_patched_json`], also of an object that is not valid, with what is wrong with it: the
/// API server says at once what is invalid and what may not change.
///
/// # Errors
/// When the object cannot be read.
pub fn with_invalid_json(
    row: &Row,
    patched: &Value,
    context: &DecodeContext,
) -> Result<(Row, Vec<Problem>), Vec<Problem>> {
    let node = Node::from_json(patched, Span::NONE);
    let (decoded, problems) = typed::decode(&node, context)?;
    let mut new = decoded.row;
    typed::keep_identity(row, &mut new);
    Ok((new, problems))
}
