//! Cuts a file into documents, as kubectl does before any YAML is parsed, and refuses what is no
//! text at all.
//!
//! kubectl (apimachinery, `util/yaml/decoder.go :: YAMLReader`) cuts at lines that begin with
//! `---` and hands each part to the reader on its own; anchors and directives do not reach across.
//! Of each part only the first document counts: what follows a `...` is not read.

use super::compose::{Composer, Place};
use super::{FileId, Limits, Node, Span, YamlError};

/// Reads all documents of a file. Empty documents are skipped.
///
/// # Errors
/// When the text is not UTF-8, not YAML, sets a key twice, or exceeds the limits.
pub fn parse_documents(file: FileId, text: &[u8], limits: &Limits) -> Result<Vec<Node>, YamlError> {
    if text.len() > limits.max_bytes {
        let message = format!(
            "the file has {} bytes, the limit is {}",
            text.len(),
            limits.max_bytes
        );
        return Err(YamlError::new(message, Span::new(file, 1, 1)).hint("split it"));
    }
    let text = check_text(file, text)?;
    let mut composer = Composer::new(limits);
    let mut nodes = Vec::new();
    for part in split(text, file)? {
        let place = Place {
            file,
            lines_before: part.lines_before,
        };
        let text = part.text.strip_prefix('\u{FEFF}').unwrap_or(part.text);
        nodes.extend(
            composer
                .document(text, place)?
                .filter(|node| !node.is_null()),
        );
    }
    Ok(nodes)
}

/// The bytes as text without control characters (`readerc.go` knows the same exceptions).
fn check_text(file: FileId, bytes: &[u8]) -> Result<&str, YamlError> {
    if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") {
        return Err(
            YamlError::new("the file is UTF-16", Span::new(file, 1, 1)).hint("save it as UTF-8")
        );
    }
    let (valid, problem) = match std::str::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => {
            let valid = bytes[..error.valid_up_to()]
                .utf8_chunks()
                .next()
                .map_or("", |c| c.valid());
            (valid, Some("invalid UTF-8"))
        }
    };
    let control = valid
        .char_indices()
        .find(|(_, c)| !is_allowed(*c))
        .map(|(at, _)| at);
    let (at, message) = match (control, problem) {
        (Some(at), _) => (at, "control characters are not allowed"),
        (None, Some(message)) => (valid.len(), message),
        (None, None) => return Ok(valid),
    };
    let before = &valid[..at];
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .map_or(0, |last| last.chars().count())
        + 1;
    let line = u32::try_from(line).unwrap_or(u32::MAX);
    let column = u32::try_from(column).unwrap_or(u32::MAX);
    Err(YamlError::new(message, Span::new(file, line, column)).hint("is this a text file?"))
}

const fn is_allowed(c: char) -> bool {
    matches!(
        c,
        '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{A0}'..='\u{FFFD}' | '\u{10000}'..
    )
}

/// A part of a file that holds one document.
struct Part<'a> {
    lines_before: u32,
    text: &'a str,
}

/// Cuts at `---` lines. A part that holds nothing but directives belongs to the one after it;
/// kubectl would hand it over alone, which is an error.
fn split(text: &str, file: FileId) -> Result<Vec<Part<'_>>, YamlError> {
    let mut parts = Vec::new();
    let (mut start, mut lines_before) = (0, 0);
    let (mut offset, mut line) = (0, 0);
    for piece in text.split_inclusive('\n') {
        if let Some(rest) = separator(piece) {
            if !rest.is_empty() && !rest.starts_with('#') {
                let message = format!("invalid Yaml document separator: {rest}");
                return Err(YamlError::new(message, Span::new(file, line + 1, 1))
                    .hint("kubectl wants `---` alone on its line"));
            }
            let part = &text[start..offset];
            if !is_prologue(part) {
                parts.push(Part {
                    lines_before,
                    text: part,
                });
                (start, lines_before) = (offset + piece.len(), line + 1);
            }
        }
        offset += piece.len();
        line += 1;
    }
    parts.push(Part {
        lines_before,
        text: &text[start..],
    });
    Ok(parts)
}

/// What follows the `---` of a separator line, trimmed.
fn separator(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("---")?;
    (rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n'])).then(|| rest.trim())
}

/// Whether the part holds directives and nothing else.
fn is_prologue(part: &str) -> bool {
    let mut lines = part.lines().filter(|line| {
        let text = line.trim();
        !(text.is_empty() || text.starts_with('#'))
    });
    lines.next().is_some_and(|line| line.starts_with('%'))
        && lines.all(|line| line.starts_with('%'))
}
