//! What is wrong with an input, where, why, and what to do: `error:`, the line, `cause:`, `hint:`.
//!
//! A [`Diagnostic`] is data; [`render`] draws it with the line that it is about. The first line of
//! every located message holds `file:line:column`.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::api::yaml::{DecodeError, Sources, Span, YamlError, closest};

/// How serious a [`Diagnostic`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The input cannot be used.
    Error,
    /// The input can be used, but is probably not what was meant.
    Warning,
}

/// Something about an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How serious.
    pub severity: Severity,
    /// What is wrong, without its place.
    pub message: String,
    /// Where; [`Span::NONE`] when no file contains it.
    pub span: Span,
    /// The field, as the API server prints paths; empty for a whole document or file.
    pub path: String,
    /// A stable word for the kind of problem: `FieldValueInvalid`, `UnknownField`, `NotFound`, …
    pub reason: String,
    /// Why it is wrong.
    pub cause: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(reason: impl Into<String>, message: impl Into<String>, span: Span) -> Self {
        Diagnostic {
            severity: Severity::Error,
            message: message.into(),
            span,
            path: String::new(),
            reason: reason.into(),
            cause: None,
            hint: None,
        }
    }

    /// A warning at a place.
    pub fn warning(reason: impl Into<String>, message: impl Into<String>, span: Span) -> Self {
        Diagnostic {
            severity: Severity::Warning,
            ..Diagnostic::error(reason, message, span)
        }
    }

    /// With the path of the field that it is about.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// With its cause.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// With a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With "did you mean" when one of `names` is near, else with the list of them when that is
    /// short.
    #[must_use]
    pub fn suggest<'n>(self, word: &str, names: impl IntoIterator<Item = &'n str>) -> Self {
        let mut seen = Vec::new();
        for name in names {
            // A field that several readers know of is one field.
            if !seen.contains(&name) {
                seen.push(name);
            }
        }
        let names = seen;
        match closest(word, names.iter().copied()) {
            Some(name) => self.hint(format!("did you mean {name:?}?")),
            None if names.is_empty() => self,
            None if names.len() <= 20 => self.hint(format!("there are: {}", names.join(", "))),
            None => self,
        }
    }

    /// Whether the input cannot be used.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl From<YamlError> for Diagnostic {
    fn from(error: YamlError) -> Self {
        let mut this = Diagnostic::error("NotReadable", error.message, error.span);
        this.hint = error.hint;
        this
    }
}

impl From<DecodeError> for Diagnostic {
    fn from(error: DecodeError) -> Self {
        let mut this = Diagnostic::error("FieldValueInvalid", error.message, error.span);
        this.path = error.path;
        this.hint = error.hint;
        this
    }
}

/// Draws messages for people, one after the other with an empty line between, colour only when
/// asked for. Ends with a line end unless there are none.
pub fn render(diagnostics: &[Diagnostic], sources: &Sources, colour: bool) -> String {
    let texts: Vec<String> = (diagnostics.iter())
        .map(|diagnostic| render_one(diagnostic, sources, colour))
        .collect();
    texts.join("\n")
}

/// The longest line that is shown whole, in characters, and how much of a longer one is.
const LONG_LINE: usize = 160;
const WINDOW: usize = 60;

fn render_one(diagnostic: &Diagnostic, sources: &Sources, colour: bool) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = match (diagnostic.path.as_str(), diagnostic.message.as_str()) {
        ("", message) => message.to_owned(),
        (path, message) => format!("{path}: {message}"),
    };
    let title = level.primary_title(title);
    let place = sources.locate(diagnostic.span);
    let shown = (sources.line(diagnostic.span)).map(|line| excerpt(line, diagnostic.span.column));
    let renderer = match colour {
        true => Renderer::styled(),
        false => Renderer::plain(),
    };
    let mut text = match (&shown, diagnostic.span.is_known()) {
        (Some((line, range)), _) => {
            let snippet = Snippet::source(line.as_str())
                .line_start(diagnostic.span.line as usize)
                .path(sources.name(diagnostic.span.file))
                .annotation(AnnotationKind::Primary.span(range.clone()));
            let drawn = renderer.render(&[title.element(snippet)]);
            // The excerpt of a long line begins elsewhere; the place is the file's.
            relocate(&drawn, &place)
        }
        (None, known) => {
            let drawn = renderer.render(&[annotate_snippets::Group::with_title(title)]);
            match known {
                true => format!("{drawn}\n  --> {place}"),
                false => drawn,
            }
        }
    };
    for (word, line) in [("cause", &diagnostic.cause), ("hint", &diagnostic.hint)] {
        if let Some(line) = line {
            text.push_str(&format!("\n{word}: {line}"));
        }
    }
    text.push('\n');
    text
}

/// Puts `place` after the arrow of a drawn message.
fn relocate(drawn: &str, place: &str) -> String {
    let lines = drawn.lines().map(|line| match line.split_once("--> ") {
        Some((before, _)) => format!("{before}--> {place}"),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The part of a line around a column, with the byte range in it of the word there.
fn excerpt(line: &str, column: u32) -> (String, std::ops::Range<usize>) {
    let column = (column as usize).saturating_sub(1);
    let letters: Vec<char> = line.chars().collect();
    let column = column.min(letters.len());
    let (from, to) = match letters.len() > LONG_LINE {
        true => (
            column.saturating_sub(WINDOW),
            letters.len().min(column + WINDOW),
        ),
        false => (0, letters.len()),
    };
    let bytes = |letters: &[char]| letters.iter().map(|c| c.len_utf8()).sum::<usize>();
    let start = bytes(&letters[from..column]);
    let length = bytes(&letters[column..to][..word_length(&letters[column..to])]);
    (
        letters[from..to].iter().collect(),
        start..start + length.max(1),
    )
}

/// How many letters of a value or key stand at the beginning of `rest`.
fn word_length(rest: &[char]) -> usize {
    match rest.first() {
        Some(quote @ ('"' | '\'')) => {
            (rest[1..].iter().position(|c| c == quote)).map_or(rest.len(), |at| at + 2)
        }
        _ => {
            let ends = |at: usize| match rest[at] {
                ',' | '}' | ']' | '#' | '{' | '[' => true,
                ':' => rest.get(at + 1).is_none_or(|c| c.is_whitespace()),
                c => c.is_whitespace(),
            };
            (0..rest.len()).find(|at| ends(*at)).unwrap_or(rest.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str, diagnostic: Diagnostic) -> String {
        let mut sources = Sources::new();
        let file = sources.add("a.yaml");
        sources.keep_text(file, text);
        render(&[diagnostic], &sources, false)
    }

    #[test]
    fn a_message_shows_place_line_cause_and_hint() {
        let text = "spec:\n  nodePool: 3\n";
        let span = Span::new(Default::default(), 2, 3);
        let diagnostic = Diagnostic::error("UnknownField", "unknown field", span)
            .at("spec.nodePool")
            .cause("a Scenario has no such field")
            .suggest("nodePool", ["nodePools", "flags"]);
        let expected = "\
error: spec.nodePool: unknown field
 --> a.yaml:2:3
  |
2 |   nodePool: 3
  |   ^^^^^^^^
cause: a Scenario has no such field
hint: did you mean \"nodePools\"?
";
        assert_eq!(drawn(text, diagnostic), expected);
    }

    #[test]
    fn a_long_line_is_cut_and_keeps_its_column() {
        let text = format!("{{\"a\": {}, \"b\": 1}}", "9".repeat(500));
        let span = Span::new(Default::default(), 1, 514);
        let text = drawn(&text, Diagnostic::warning("X", "odd", span));
        assert!(text.contains(" --> a.yaml:1:514\n"), "{text}");
        assert!(text.lines().all(|line| line.len() < 140), "{text}");
    }

    #[test]
    fn a_message_without_a_place_is_one_line() {
        let text = drawn("", Diagnostic::error("X", "no such file", Span::NONE));
        assert_eq!(text, "error: no such file\n");
    }

    #[test]
    fn a_word_ends_where_yaml_ends_it() {
        for (rest, length) in [
            ("nodePool: 3", 8),
            ("\"a b\": 3", 5),
            ("a:b, c", 3),
            ("deployment/x}", 12),
            ("", 0),
            ("'open", 5),
        ] {
            let letters: Vec<char> = rest.chars().collect();
            assert_eq!(word_length(&letters), length, "{rest}");
        }
    }
}
