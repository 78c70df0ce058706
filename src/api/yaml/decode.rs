//! Typed objects out of trees: [`decode`], and what it reports.
//!
//! Unknown fields do not stop a decode; they are returned with their place and the nearest field
//! that the type does have. A wrong value stops it, and the error names the value's place and
//! field path.

use std::cell::RefCell;
use std::fmt;

use serde::Deserialize;

use super::de::{NodeDeserializer, Unknown};
use super::path::Path;
use super::suggest::closest;
use super::{Node, Span};

/// A field that the type does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownField {
    /// Its path, such as `spec.containers[0].imagePulPolicy`.
    pub path: String,
    /// The place of its key.
    pub span: Span,
    /// The nearest field of the type, if one is near.
    pub suggestion: Option<String>,
}

/// `unknown field "spec.replica" (did you mean "replicas"?)`.
impl fmt::Display for UnknownField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown field {:?}", self.path)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, " (did you mean {suggestion:?}?)"),
            None => Ok(()),
        }
    }
}

/// Why a tree does not fit a type, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// What is wrong.
    pub message: String,
    /// The path of the offending field, empty for the whole document.
    pub path: String,
    /// The place of the offending value or key.
    pub span: Span,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
    /// Whether the place is known already; outer levels leave it alone then.
    pub(super) located: bool,
    /// Whether the error is about the mapping as a whole and not about its last field.
    pub(super) of_whole: bool,
}

impl DecodeError {
    pub(super) fn unlocated(message: String) -> Self {
        Self {
            message,
            path: String::new(),
            span: Span::NONE,
            hint: None,
            located: false,
            of_whole: false,
        }
    }

    pub(super) fn locate(mut self, path: &Path<'_>, span: Span) -> Self {
        if !self.located {
            self.path = path.to_string();
            self.span = span;
            self.located = true;
        }
        self
    }
}

/// `line:column: path: message (hint)`.
impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.span.is_known() {
            write!(f, "{}: ", self.span)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for DecodeError {}

impl serde::de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::unlocated(message.to_string())
    }

    fn missing_field(field: &'static str) -> Self {
        let mut error = Self::unlocated(format!("missing field {field:?}"));
        error.of_whole = true;
        error
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let mut error = Self::unlocated(format!("unknown field {field:?}"));
        error.hint = suggestion(field, expected);
        error
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let listed = expected
            .iter()
            .map(|e| format!("{e:?}"))
            .collect::<Vec<_>>()
            .join(", ");
        let mut error = Self::unlocated(format!(
            "unknown value {variant:?}, expected one of: {listed}"
        ));
        error.hint = suggestion(variant, expected);
        error
    }
}

fn suggestion(word: &str, names: &[&str]) -> Option<String> {
    closest(word, names.iter().copied()).map(|name| format!("did you mean {name:?}?"))
}

/// Reads a tree into a type, with the API server's decoding rules: `null` leaves a field at its
/// zero value, a boolean or number is not text, a whole float is an integer.
///
/// # Errors
/// When a value has the wrong kind or is out of range, or a field that the type requires is
/// missing.
pub fn decode<'a, T: Deserialize<'a>>(
    node: &'a Node,
) -> Result<(T, Vec<UnknownField>), DecodeError> {
    let unknown = Unknown {
        fields: RefCell::new(Vec::new()),
        absent: |_, _| false,
        wrong: None,
    };
    let value = T::deserialize(NodeDeserializer::new(node, &Path::Root, &unknown))?;
    Ok((value, unknown.fields.into_inner()))
}

/// As [`decode`], but all wrong values are reported, and an optional field is not there when
/// `absent` says so of its path and value.
///
/// # Errors
/// As [`decode`].
pub fn decode_with<'a, T: Deserialize<'a>>(
    node: &'a Node,
    absent: fn(&Path<'_>, &Node) -> bool,
) -> Result<(T, Vec<UnknownField>), Vec<DecodeError>> {
    let unknown = Unknown {
        fields: RefCell::new(Vec::new()),
        absent,
        wrong: Some(RefCell::new(Vec::new())),
    };
    let outcome = T::deserialize(NodeDeserializer::new(node, &Path::Root, &unknown));
    let mut wrong = unknown.wrong.map(RefCell::into_inner).unwrap_or_default();
    match outcome {
        Ok(value) if wrong.is_empty() => Ok((value, unknown.fields.into_inner())),
        outcome => {
            wrong.extend(outcome.err());
            Err(wrong)
        }
    }
}
