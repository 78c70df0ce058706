//! JSON as kubectl reads it: a stream of objects without separators (`kubectl get -o json`, `jq`).
//!
//! Almost all JSON is YAML, but not all: tabs, surrogate pairs, `\/` and keys of more than 1,024
//! characters are not, and `1.0` is an integer in YAML's way to JSON but not in JSON. So a file
//! that begins with `{` is tried as JSON first (apimachinery, `util/yaml/decoder.go ::
//! YAMLOrJSONDecoder`). A key that is set twice is an error here, too, although kubectl would send
//! the last one.

use std::borrow::Cow;

use super::budget::Budget;
use super::{Entry, FileId, Map, Node, NodeValue, Span, YamlError};

/// Where reading JSON stopped.
pub(super) enum Outcome {
    /// At the end.
    Done,
    /// After one object at most, at something that is no JSON: the byte offset from which it must
    /// be YAML, the lines before it, and why it is no JSON.
    Yaml {
        offset: usize,
        lines_before: u32,
        error: YamlError,
    },
}

/// Reads values up to the end or the first error.
pub(super) fn read(
    file: FileId,
    text: &str,
    budget: &mut Budget<'_>,
    nodes: &mut Vec<Node>,
) -> Result<Outcome, YamlError> {
    let mut reader = Reader {
        file,
        text,
        bytes: text.as_bytes(),
        at: 0,
        line: 1,
        line_start: 0,
        wide: 0,
        budget,
        complaint: None,
    };
    let mut values = 0;
    let (mut offset, mut lines_before) = (0, 0);
    loop {
        reader.skip_blanks();
        if reader.at == text.len() {
            return Ok(Outcome::Done);
        }
        match reader.value(0) {
            Ok(node) => {
                if let Some(error) = reader.complaint.take() {
                    return Err(error);
                }
                nodes.extend((!node.is_null()).then_some(node));
            }
            Err(error) if values > 1 || error.fatal => return Err(error.error),
            Err(error) => {
                return Ok(Outcome::Yaml {
                    offset,
                    lines_before,
                    error: error.error,
                });
            }
        }
        values += 1;
        (offset, lines_before) = (reader.at, reader.line - 1);
    }
}

/// An error; a fatal one is about a limit, so trying YAML would not help.
struct Failure {
    error: YamlError,
    fatal: bool,
}

type Read<T> = Result<T, Failure>;

struct Reader<'t, 'b, 'l> {
    file: FileId,
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    line: u32,
    /// The offset at which the line begins, and its bytes up to here that begin no character.
    line_start: usize,
    wide: usize,
    budget: &'b mut Budget<'l>,
    /// What is wrong with JSON that is well-formed. It counts only if the whole value is.
    complaint: Option<YamlError>,
}

impl<'t> Reader<'t, '_, '_> {
    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    fn span(&self) -> Span {
        let column = self.at - self.line_start - self.wide + 1;
        Span::new(
            self.file,
            self.line,
            u32::try_from(column).unwrap_or(u32::MAX),
        )
    }

    fn fail<T>(&self, message: &str) -> Read<T> {
        Err(Failure {
            error: YamlError::new(message, self.span()),
            fatal: false,
        })
    }

    /// The error for a character that cannot stand here; Go's words.
    fn unexpected<T>(&self, looking_for: &str) -> Read<T> {
        match self.text[self.at..].chars().next() {
            None => self.fail("unexpected end of JSON input"),
            Some(c) => self.fail(&format!("invalid character {c:?} {looking_for}")),
        }
    }

    fn complain(&mut self, error: YamlError) {
        self.complaint.get_or_insert(error);
    }

    fn skip_blanks(&mut self) {
        loop {
            match self.peek() {
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'\n' => {
                    self.at += 1;
                    self.line = self.line.saturating_add(1);
                    self.line_start = self.at;
                    self.wide = 0;
                }
                _ => return,
            }
        }
    }

    fn value(&mut self, depth: usize) -> Read<Node> {
        let span = self.span();
        self.budget.grow(1, span).map_err(fatal)?;
        self.budget.check_depth(depth, span).map_err(fatal)?;
        let value = match self.peek() {
            b'{' => self.object(depth + 1)?,
            b'[' => self.array(depth + 1)?,
            b'"' => NodeValue::Str(self.string()?.into()),
            b'-' | b'0'..=b'9' => self.number()?,
            b't' => self.word("true", NodeValue::Bool(true))?,
            b'f' => self.word("false", NodeValue::Bool(false))?,
            b'n' => self.word("null", NodeValue::Null)?,
            _ => return self.unexpected("looking for beginning of value"),
        };
        Ok(Node::new(value, span))
    }

    fn word(&mut self, word: &str, value: NodeValue) -> Read<NodeValue> {
        if !self.text[self.at..].starts_with(word) {
            return self.unexpected("looking for beginning of value");
        }
        self.at += word.len();
        Ok(value)
    }

    fn object(&mut self, depth: usize) -> Read<NodeValue> {
        let mut map = Map::default();
        self.at += 1;
        self.skip_blanks();
        if self.peek() == b'}' {
            self.at += 1;
            return Ok(NodeValue::Map(map));
        }
        loop {
            if self.peek() != b'"' {
                return self.unexpected("looking for beginning of object key string");
            }
            let key_span = self.span();
            let key = self.string()?;
            let key = self.budget.share_str(&key);
            self.skip_blanks();
            if self.peek() != b':' {
                return self.unexpected("after object key");
            }
            self.at += 1;
            self.skip_blanks();
            let node = self.value(depth)?;
            match map.entry(key) {
                indexmap::map::Entry::Vacant(vacant) => {
                    vacant.insert(Entry { key_span, node });
                }
                indexmap::map::Entry::Occupied(old) => {
                    let first = old.get().key_span;
                    self.complain(YamlError::key_twice(old.key(), first, key_span));
                }
            }
            self.skip_blanks();
            match self.peek() {
                b',' => self.at += 1,
                b'}' => break,
                _ => return self.unexpected("after object key:value pair"),
            }
            self.skip_blanks();
        }
        self.at += 1;
        Ok(NodeValue::Map(map))
    }

    fn array(&mut self, depth: usize) -> Read<NodeValue> {
        let mut items = Vec::new();
        self.at += 1;
        self.skip_blanks();
        if self.peek() == b']' {
            self.at += 1;
            return Ok(NodeValue::List(items));
        }
        loop {
            items.push(self.value(depth)?);
            self.skip_blanks();
            match self.peek() {
                b',' => self.at += 1,
                b']' => break,
                _ => return self.unexpected("after array element"),
            }
            self.skip_blanks();
        }
        self.at += 1;
        Ok(NodeValue::List(items))
    }

    fn number(&mut self) -> Read<NodeValue> {
        let (start, start_span) = (self.at, self.span());
        if self.peek() == b'-' {
            self.at += 1;
        }
        match self.peek() {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.skip_digits(),
            _ => return self.unexpected("in numeric literal"),
        }
        let mut whole = true;
        if self.peek() == b'.' {
            whole = false;
            self.at += 1;
            self.require_digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            whole = false;
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.require_digits()?;
        }
        let text = &self.text[start..self.at];
        if whole {
            if let Ok(int) = text.parse() {
                return Ok(NodeValue::Int(int));
            }
            if let Ok(int) = text.parse() {
                return Ok(NodeValue::UInt(int));
            }
        }
        match text.parse::<f64>() {
            Ok(float) if float.is_finite() => Ok(NodeValue::Float(float)),
            _ => {
                self.complain(YamlError::new(
                    format!("number {text} is out of range"),
                    start_span,
                ));
                Ok(NodeValue::Null)
            }
        }
    }

    fn skip_digits(&mut self) {
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
    }

    fn require_digits(&mut self) -> Read<()> {
        if !self.peek().is_ascii_digit() {
            return self.unexpected("in numeric literal");
        }
        self.skip_digits();
        Ok(())
    }

    fn string(&mut self) -> Read<Cow<'t, str>> {
        self.at += 1;
        let start = self.at;
        let mut unescaped = String::new();
        let mut from = start;
        loop {
            match self.peek() {
                b'"' => break,
                b'\\' => {
                    unescaped.push_str(&self.text[from..self.at]);
                    let character = self.escape()?;
                    unescaped.push(character);
                    from = self.at;
                }
                0..0x20 => return self.unexpected("in string literal"),
                byte => {
                    self.wide += usize::from((0x80..0xC0).contains(&byte));
                    self.at += 1;
                }
            }
        }
        let last = &self.text[from..self.at];
        self.at += 1;
        if from == start {
            return Ok(last.into());
        }
        unescaped.push_str(last);
        Ok(unescaped.into())
    }

    fn escape(&mut self) -> Read<char> {
        self.at += 1;
        let character = match self.peek() {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\x08',
            b'f' => '\x0C',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => return self.unexpected("in string escape code"),
        };
        self.at += 1;
        Ok(character)
    }

    /// `\u1234`, or two of them for a character above U+FFFF. Half a pair is U+FFFD, as in Go.
    fn unicode_escape(&mut self) -> Read<char> {
        let first = self.hex4()?;
        if let Some(character) = char::from_u32(first) {
            return Ok(character);
        }
        let after_first = self.at;
        if first < 0xDC00 && self.text[self.at..].starts_with("\\u") {
            self.at += 1;
            let second = self.hex4()?;
            if (0xDC00..0xE000).contains(&second) {
                let character = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                return Ok(char::from_u32(character).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
        }
        self.at = after_first;
        Ok(char::REPLACEMENT_CHARACTER)
    }

    /// The four digits after the `u` at the position.
    fn hex4(&mut self) -> Read<u32> {
        let mut value = 0;
        for _ in 0..4 {
            self.at += 1;
            let Some(digit) = char::from(self.peek()).to_digit(16) else {
                return self.unexpected("in \\u hexadecimal character escape");
            };
            value = value << 4 | digit;
        }
        self.at += 1;
        Ok(value)
    }
}

const fn fatal(error: YamlError) -> Failure {
    Failure { error, fatal: true }
}
