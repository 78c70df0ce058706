//! Reads YAML and JSON as kubectl does and remembers where every value was written.
//!
//! kubectl converts each document to JSON with sigs.k8s.io/yaml, which stands on go-yaml v2: a
//! YAML 1.1 reader. This module keeps those rules (its golden test is `tests/vectors.rs`):
//! `yes`, `on` and `y` are booleans, `0644` is 420, a key that is set twice is an error, merge
//! keys work, keys become text, infinities are refused because JSON has none. It knows nothing of
//! Kubernetes objects; [`decode`] puts a tree into any serde type.
//!
//! Where to look first: [`parse_documents`], then [`Node`]. A text is cut into documents at `---`
//! lines (`documents`), split into tokens (`scan`), parsed (`parse`), its scalars given types
//! (`resolve`) and composed into a tree under go-yaml's limits (`compose`). A file that begins
//! with `{` is tried as JSON (`json`). [`decode`] and [`DecodeError`] are the way into typed
//! objects, [`write()`] the way out.

mod budget;
mod compose;
mod de;
mod decode;
mod documents;
mod json;
mod key;
mod node;
mod parse;
mod path;
mod resolve;
mod scan;
mod span;
mod suggest;
mod write;

pub use decode::{DecodeError, UnknownField, decode, decode_with};
pub use documents::{parse_document, parse_documents};
pub use node::{Entry, Map, Node, NodeValue};
pub use path::Path;
pub(crate) use resolve::decode_base64;
pub use span::{FileId, Sources, Span};
pub use suggest::closest;
pub use write::{WriteError, write};

use std::fmt;

/// Bounds on what is read, so that a wrong file is an error and not a full memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one file.
    pub max_bytes: usize,
    /// Levels of nesting. Everything that walks a tree relies on this to stay within its stack.
    pub max_depth: usize,
    /// Values of one file, aliases expanded.
    pub max_nodes: u64,
}

impl Default for Limits {
    /// 64 MiB, 4 million values, 250 levels: above any manifest, below what a tree of them costs
    /// in memory and stack.
    fn default() -> Self {
        Self {
            max_bytes: 64 << 20,
            max_depth: 250,
            max_nodes: 4_000_000,
        }
    }
}

/// Why a text could not be read, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlError {
    /// What is wrong.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}

impl YamlError {
    /// An error at a place.
    #[must_use]
    pub fn new(message: impl Into<String>, span: Span) -> Self {
        Self {
            message: message.into(),
            span,
            hint: None,
        }
    }

    /// A key that is set twice in one mapping.
    fn key_twice(key: &str, first: Span, second: Span) -> Self {
        Self::new(format!("key {key:?} already set in map"), second)
            .hint(format!("it is first set at {first}"))
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// `line:column: message (hint)`.
impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.span, self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for YamlError {}

#[cfg(test)]
mod tests;
