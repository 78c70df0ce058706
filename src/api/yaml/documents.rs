//! From bytes to documents: the checks before parsing, and how kubectl cuts a file.
//!
//! kubectl (apimachinery, `util/yaml/decoder.go`) cuts at lines that begin with `---` and hands
//! each part to the reader on its own; anchors and directives do not reach across. Of each part
//! only the first document counts: what follows a `...` is not read.

use super::budget::Budget;
use super::compose::{Composer, Place};
use super::json;
use super::{FileId, Limits, Node, Span, YamlError};

/// Reads one document, as sigs.k8s.io/yaml, `YAMLToJSONStrict` does: the first of the text, `null`
/// when it has none.
///
/// # Errors
/// When the text is not UTF-8, not YAML, sets a key twice, or exceeds the limits.
pub fn parse_document(file: FileId, text: &[u8], limits: &Limits) -> Result<Node, YamlError> {
    let text = check_text(file, text, limits)?;
    let place = Place {
        file,
        lines_before: 0,
    };
    check_characters(place, text)?;
    let document = Composer::new(&mut Budget::new(limits)).document(text, place)?;
    Ok(document.unwrap_or_else(|| Node::null(Span::new(file, 1, 1))))
}

/// Reads all documents of a file, as `kubectl apply -f` does. Empty documents are skipped.
///
/// # Errors
/// When the text is not UTF-8, not YAML, sets a key twice, or exceeds the limits.
pub fn parse_documents(file: FileId, text: &[u8], limits: &Limits) -> Result<Vec<Node>, YamlError> {
    let text = check_text(file, text, limits)?;
    let mut budget = Budget::new(limits);
    let mut nodes = Vec::new();
    if !text.trim_start().starts_with('{') {
        let place = Place {
            file,
            lines_before: 0,
        };
        read_yaml(place, text, &mut budget, &mut nodes)?;
        return Ok(nodes);
    }
    match json::read(file, text, &mut budget, &mut nodes)? {
        json::Outcome::Done => Ok(nodes),
        json::Outcome::Yaml {
            offset,
            lines_before,
            error,
        } => {
            let rest = &text[offset..];
            // kubectl takes the blanks off, up to the end of the line.
            let blank = rest.len() - rest.trim_start().len();
            let (skipped, lines) = match rest[..blank].find('\n') {
                Some(at) => (at + 1, 1),
                None => (blank, 0),
            };
            if rest.len() - skipped + lines < 4 {
                // Too short for its look at what follows the blanks.
                return Err(error);
            }
            let place = Place {
                file,
                lines_before: lines_before + u32::from(lines > 0),
            };
            match read_yaml(place, &rest[skipped..], &mut budget, &mut nodes) {
                Ok(()) => Ok(nodes),
                // Of two errors the one for what the text looks like.
                Err(_) if looks_like_json(rest) => Err(error),
                Err(yaml) => Err(yaml),
            }
        }
    }
}

/// Whether the text begins as an object with a quoted key does.
fn looks_like_json(text: &str) -> bool {
    let inner = text.trim_start().strip_prefix('{');
    inner.is_some_and(|inner| inner.trim_start().starts_with('"'))
}

fn read_yaml(
    at: Place,
    text: &str,
    budget: &mut Budget<'_>,
    nodes: &mut Vec<Node>,
) -> Result<(), YamlError> {
    check_characters(at, text)?;
    // kubectl reads by lines and ends each of them.
    let ended;
    let text = if text.ends_with('\n') || text.is_empty() {
        text
    } else {
        ended = format!("{text}\n");
        &ended
    };
    let mut composer = Composer::new(budget);
    for (place, part) in split(text, at)? {
        let document = composer.document(part, place)?;
        nodes.extend(document.filter(|node| !node.is_null()));
    }
    Ok(())
}

/// The bytes as text, if they are text of an acceptable size.
fn check_text<'t>(file: FileId, bytes: &'t [u8], limits: &Limits) -> Result<&'t str, YamlError> {
    let error = |message: &str| YamlError::new(message, Span::new(file, 1, 1));
    if bytes.len() > limits.max_bytes {
        // What is longer is not read to its end, so that its length is not known.
        let message = format!("the file has more than {} bytes", limits.max_bytes);
        return Err(error(&message).hint("split it"));
    }
    if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") {
        return Err(error("the file is UTF-16").hint("save it as UTF-8"));
    }
    std::str::from_utf8(bytes).map_err(|_| {
        let valid = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        let place = Place {
            file,
            lines_before: 0,
        };
        YamlError::new("invalid UTF-8", span_after(place, valid)).hint("is this a text file?")
    })
}

/// Refuses control characters, as go-yaml's reader (`readerc.go`) does.
fn check_characters(place: Place, text: &str) -> Result<(), YamlError> {
    let allowed = |c: char| {
        matches!(
            c,
            '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{A0}'..='\u{FFFD}' | '\u{10000}'..
        )
    };
    match text.char_indices().find(|(_, c)| !allowed(*c)) {
        None => Ok(()),
        Some((at, _)) => {
            let span = span_after(place, &text[..at]);
            Err(YamlError::new("control characters are not allowed", span)
                .hint("is this a text file?"))
        }
    }
}

/// The place right after some text.
fn span_after(place: Place, text: &str) -> Span {
    let line = text.matches('\n').count() + 1;
    let last = text.rsplit('\n').next().unwrap_or_default();
    let line = u32::try_from(line).unwrap_or(u32::MAX);
    let column = u32::try_from(last.chars().count() + 1).unwrap_or(u32::MAX);
    Span::new(place.file, line.saturating_add(place.lines_before), column)
}

/// `util/yaml/decoder.go :: YAMLReader.Read`: a separator ends the part before it; with nothing
/// before it, it begins the part after it.
fn split(text: &str, first: Place) -> Result<Vec<(Place, &str)>, YamlError> {
    let mut parts = Vec::new();
    let (mut place, mut start) = (first, 0);
    let (mut offset, mut line) = (0, first.lines_before);
    for piece in text.split_inclusive('\n') {
        let next = offset + piece.len();
        if let Some(rest) = piece.strip_prefix("---") {
            let rest = rest.trim();
            if !rest.is_empty() && !rest.starts_with('#') {
                let message = format!("invalid Yaml document separator: {rest}");
                let span = Span::new(first.file, line + 1, 1);
                return Err(
                    YamlError::new(message, span).hint("kubectl wants `---` alone on its line")
                );
            }
            if offset > start {
                parts.push((place, &text[start..offset]));
                start = next;
                place.lines_before = line + 1;
            }
        }
        offset = next;
        line += 1;
    }
    parts.push((place, &text[start..]));
    Ok(parts)
}
