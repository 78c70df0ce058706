//! Where a value was written: file, line and column, small enough to sit on every node.
//!
//! A [`Span`] carries a file's number, not its name; [`Sources`] turns it back into the
//! `file:line:column` that every message prints.

use std::fmt;
use std::sync::Arc;

/// The number of an input file in a [`Sources`] table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// The place of a value or key. Line and column count from 1, columns in characters; line 0 means
/// that the value was never written in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

impl Span {
    /// The place of values that no file contains, such as defaults.
    pub const NONE: Self = Self {
        file: FileId(0),
        line: 0,
        column: 0,
    };

    /// A place in a file.
    #[must_use]
    pub const fn new(file: FileId, line: u32, column: u32) -> Self {
        Self { file, line, column }
    }

    /// Whether a file contains this place.
    #[must_use]
    pub const fn is_known(self) -> bool {
        self.line != 0
    }
}

/// `line:column`, without the file's name, which only [`Sources`] knows.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// The names of the input files, and their texts, in the order in which they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    names: Vec<String>,
    texts: Vec<Option<Arc<str>>>,
}

impl Sources {
    /// A table without files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file and returns its number.
    ///
    /// # Panics
    /// After 2^32 files.
    pub fn add(&mut self, name: impl Into<String>) -> FileId {
        let id = u32::try_from(self.names.len()).expect("fewer than 2^32 input files");
        self.names.push(name.into());
        self.texts.push(None);
        FileId(id)
    }

    /// Keeps the text of a file, so that messages can show the line that they are about.
    pub fn keep_text(&mut self, file: FileId, text: impl Into<Arc<str>>) {
        if let Some(slot) = self.texts.get_mut(file.0 as usize) {
            *slot = Some(text.into());
        }
    }

    /// The text of a file, if it was kept.
    #[must_use]
    pub fn text(&self, file: FileId) -> Option<&str> {
        self.texts.get(file.0 as usize)?.as_deref()
    }

    /// The line at a place, without its end.
    #[must_use]
    pub fn line(&self, span: Span) -> Option<&str> {
        let number = (span.line as usize).checked_sub(1)?;
        self.text(span.file)?.lines().nth(number)
    }

    /// The name of a file, `<input>` for a number that this table did not give out.
    #[must_use]
    pub fn name(&self, file: FileId) -> &str {
        self.names
            .get(file.0 as usize)
            .map_or("<input>", String::as_str)
    }

    /// `file:line:column`, or `<no file>` for a value that no file contains.
    #[must_use]
    pub fn locate(&self, span: Span) -> String {
        if span.is_known() {
            format!("{}:{}:{}", self.name(span.file), span.line, span.column)
        } else {
            "<no file>".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_prints_with_its_files_name() {
        let mut sources = Sources::new();
        sources.add("a.yaml");
        let b = sources.add("dir/b.yaml");
        assert_eq!(sources.locate(Span::new(b, 3, 5)), "dir/b.yaml:3:5");
        assert_eq!(sources.locate(Span::new(FileId(9), 3, 5)), "<input>:3:5");
        assert_eq!(sources.locate(Span::NONE), "<no file>");
    }
}
