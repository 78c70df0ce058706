//! Cuts a text into documents, as kubectl does before any YAML is parsed.

use super::compose::Composer;
use super::events::Events;
use super::{FileId, Limits, Node, Span, YamlError};

/// Reads all documents of a file. Empty documents and comments alone are skipped.
///
/// # Errors
/// When the text is not UTF-8, not YAML, sets a key twice, or exceeds the limits.
pub fn parse_documents(file: FileId, text: &[u8], limits: &Limits) -> Result<Vec<Node>, YamlError> {
    let start = Span::new(file, 1, 1);
    if text.len() > limits.max_bytes {
        let message = format!("{} bytes, more than {}", text.len(), limits.max_bytes);
        return Err(YamlError::new(message, start).hint("split the file"));
    }
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    let text = match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => {
            let valid = &text[..error.valid_up_to()];
            let line = valid.iter().filter(|b| **b == b'\n').count() + 1;
            let span = Span::new(file, u32::try_from(line).unwrap_or(u32::MAX), 1);
            return Err(YamlError::new("invalid UTF-8", span).hint("is this a binary file?"));
        }
    };
    let mut composer = Composer::new(limits);
    let mut nodes = Vec::new();
    for (lines_before, document) in split(text, file)? {
        let mut events = Events::new(file, document, lines_before);
        nodes.extend(
            composer
                .document(&mut events)?
                .filter(|node| !node.is_null()),
        );
    }
    Ok(nodes)
}

/// The documents with the number of lines before each. A part that holds only directives and
/// comments belongs to the document after it.
fn split(text: &str, file: FileId) -> Result<Vec<(u32, &str)>, YamlError> {
    let mut documents = Vec::new();
    let (mut start, mut start_line) = (0, 0);
    let (mut offset, mut line) = (0, 0);
    for piece in text.split_inclusive('\n') {
        if let Some(rest) = piece.strip_prefix("---") {
            let rest = rest.trim();
            if !rest.is_empty() && !rest.starts_with('#') {
                let message = format!("invalid Yaml document separator: {rest}");
                return Err(YamlError::new(message, Span::new(file, line + 1, 1))
                    .hint("kubectl wants `---` alone on its line"));
            }
            let part = &text[start..offset];
            if has_content(part) {
                documents.push((start_line, part));
            }
            if !is_prologue(part) {
                (start, start_line) = (offset, line);
            }
        }
        offset += piece.len();
        line += 1;
    }
    documents.push((start_line, &text[start..]));
    Ok(documents)
}

fn has_content(part: &str) -> bool {
    lines_that_count(part).any(|line| !line.starts_with('%'))
}

/// Whether the part holds directives and nothing else.
fn is_prologue(part: &str) -> bool {
    !has_content(part) && lines_that_count(part).next().is_some()
}

/// The lines that are neither blank nor comments nor separators.
fn lines_that_count(part: &str) -> impl Iterator<Item = &str> {
    part.lines().filter(|line| {
        let text = line.trim();
        !(text.is_empty() || text.starts_with('#') || line.starts_with("---"))
    })
}
