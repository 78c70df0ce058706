//! Prints values as YAML.
//!
//! The printing crate chooses the style of each string and is right for all but the oddest (text
//! that begins with a tab and has several lines). So what it prints is read back by this module's
//! own reader, which reads as kubectl does, and printed more plainly when a value has changed.

use std::fmt;

use serde_json::Value;
use serde_yaml::SerializerOptions;

use super::{FileId, Limits, Node, Span, parse_document};

/// Why a value cannot be printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteError(String);

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WriteError {}

/// Prints a value as YAML that kubectl reads back as the same value. Keys keep their order, lists
/// stand at the column of their key, and text of several lines is a block where it can be.
///
/// # Errors
/// When the value has no JSON form, for example a map whose keys are not text.
pub fn write(value: &impl serde::Serialize) -> Result<String, WriteError> {
    let json = serde_json::to_value(value).map_err(|error| WriteError(error.to_string()))?;
    let readable = SerializerOptions::default();
    let quoted_lines = options(|options| options.prefer_block_scalars = false);
    let all_quoted = options(|options| options.quote_all = true);
    for options in [readable, quoted_lines, all_quoted] {
        let text = serde_yaml::to_string_with_options(&json, options)
            .map_err(|error| WriteError(error.to_string()))?;
        if reads_back(&text, &json) {
            return Ok(text);
        }
    }
    Err(WriteError(
        "no YAML form of the value reads back as the same value".to_owned(),
    ))
}

fn options(change: impl FnOnce(&mut SerializerOptions)) -> SerializerOptions {
    let mut options = SerializerOptions::default();
    change(&mut options);
    options
}

fn reads_back(text: &str, json: &Value) -> bool {
    let generous = Limits {
        max_bytes: usize::MAX,
        max_nodes: u64::MAX,
        ..Limits::default()
    };
    parse_document(FileId(0), text.as_bytes(), &generous)
        .is_ok_and(|node| node.same(&Node::from_json(json, Span::NONE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_looks_like_something_else_is_quoted() {
        for (json, expected) in [
            (
                r#"{"a": "yes", "b": "1_000", "y": "on"}"#,
                "a: \"yes\"\nb: \"1_000\"\n\"y\": \"on\"\n",
            ),
            (
                r#"{"a": "x: y", "b": "- z", "c": ""}"#,
                "a: \"x: y\"\nb: \"- z\"\nc: \"\"\n",
            ),
            (
                r#"{"a": [1, 1.5, null, true], "b": {}}"#,
                "a:\n- 1\n- 1.5\n- null\n- true\nb: {}\n",
            ),
            (r#"{"a": "one\ntwo\n"}"#, "a: |\n  one\n  two\n"),
            (r#"{"a": "\tone\ntwo"}"#, "a: \"\\tone\\ntwo\"\n"),
        ] {
            let value: Value = serde_json::from_str(json).expect("the case is JSON");
            assert_eq!(write(&value).as_deref(), Ok(expected), "{json}");
        }
    }
}
