//! The parser's events in the form that the composer needs.
//!
//! This is the only file that knows the parser crate.

use std::borrow::Cow;

use saphyr_parser::{Parser, ScalarStyle, StrInput};

use super::{FileId, Span, YamlError};

/// One step of a document. Anchors are numbers above 0; 0 means none.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event<'a> {
    DocumentStart,
    DocumentEnd,
    StreamEnd,
    Alias(usize),
    Scalar {
        text: Cow<'a, str>,
        /// Whether the resolver may choose a type: plain style without a tag of its own.
        plain: bool,
        /// The full tag, empty when there is none.
        tag: String,
        anchor: usize,
    },
    ListStart {
        anchor: usize,
    },
    MapStart {
        anchor: usize,
    },
    ListEnd,
    MapEnd,
}

/// The events of a text.
pub(super) struct Events<'a> {
    parser: Parser<'a, StrInput<'a>>,
    file: FileId,
    /// Lines before the text in its file.
    lines_before: u32,
}

impl<'a> Events<'a> {
    pub(super) fn new(file: FileId, text: &'a str, lines_before: u32) -> Self {
        Self {
            parser: Parser::new_from_str(text),
            file,
            lines_before,
        }
    }

    pub(super) fn next(&mut self) -> Result<(Event<'a>, Span), YamlError> {
        use saphyr_parser::Event as E;
        loop {
            let (event, at) = match self.parser.next_event() {
                None => {
                    return Ok((
                        Event::StreamEnd,
                        self.span(saphyr_parser::Marker::default()),
                    ));
                }
                Some(Ok((event, span))) => (event, self.span(span.start)),
                Some(Err(error)) => {
                    return Err(YamlError::new(error.info(), self.span(*error.marker())));
                }
            };
            let event = match event {
                E::Nothing | E::StreamStart => continue,
                E::StreamEnd => Event::StreamEnd,
                E::DocumentStart(_) => Event::DocumentStart,
                E::DocumentEnd => Event::DocumentEnd,
                E::Alias(id) => Event::Alias(id),
                E::Scalar(text, style, anchor, tag) => {
                    let tag = tag.map_or_else(String::new, |t| format!("{}{}", t.handle, t.suffix));
                    let plain = style == ScalarStyle::Plain;
                    Event::Scalar {
                        text,
                        plain,
                        tag,
                        anchor,
                    }
                }
                E::SequenceStart(anchor, _) => Event::ListStart { anchor },
                E::SequenceEnd => Event::ListEnd,
                E::MappingStart(anchor, _) => Event::MapStart { anchor },
                E::MappingEnd => Event::MapEnd,
            };
            return Ok((event, at));
        }
    }

    fn span(&self, mark: saphyr_parser::Marker) -> Span {
        let line = u32::try_from(mark.line()).unwrap_or(u32::MAX);
        let column = u32::try_from(mark.col() + 1).unwrap_or(u32::MAX);
        Span::new(self.file, line.saturating_add(self.lines_before), column)
    }
}
