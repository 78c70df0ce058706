//! The recorded objects as rows, and kubectl's patches on them.

use rehearsal::api::Row;
use rehearsal::api::decode::{DecodeContext, Problem, decode_json, with_patched_json};
use rehearsal::api::patch::strategic_merge_patch;
use rehearsal::api::print::to_json;
use rehearsal::api::yaml::{Node, Span};
use serde_json::Value;

/// The namespace that the recordings were made in.
pub const NAMESPACE: &str = "ns";

fn context() -> DecodeContext {
    DecodeContext {
        default_namespace: NAMESPACE.into(),
        ..DecodeContext::default()
    }
}

fn in_words(problems: Vec<Problem>) -> String {
    let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
    all.join(", ")
}

/// A row of a recorded object, with the API server's defaults.
pub fn row(object: &Value) -> Result<Row, String> {
    let decoded = decode_json(object, &context()).map_err(in_words)?;
    Ok(decoded.row)
}

/// The row after a strategic merge patch.
pub fn patched(old: &Row, patch: &Value) -> Result<Row, String> {
    let mut node = Node::from_json(&to_json(old), Span::NONE);
    let patch = Node::from_json(patch, Span::NONE);
    strategic_merge_patch(&mut node, &patch).map_err(|e| e.to_string())?;
    with_patched_json(old, &node.to_json(), &context()).map_err(in_words)
}
