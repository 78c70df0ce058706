//! Text to tokens, as go-yaml v2's scanner (`scannerc.go`, itself libyaml's) makes them.
//!
//! The parser crates at hand follow YAML 1.2, which draws other lines: what ends a plain scalar in
//! a flow collection, where a tab may stand, what a `%` or a document's last line break means. A
//! manifest must mean here what it means to kubectl, down to which typing errors are errors, so
//! the scanner is the project's own. It knows nothing of values; `parse` turns its tokens into
//! events.
//!
//! The one difficulty of YAML is the implicit key: in `a: 1` nothing marks `a` as a key until the
//! `:`. So wherever a key may begin the scanner remembers a [`SimpleKey`], holds its tokens back,
//! and inserts the key token (and the start of the mapping) in front of them when the `:` comes.
//! A key must fit one line and 1,024 characters, which bounds what is held back.

mod cursor;
mod scalar;
mod tag;

use std::borrow::Cow;
use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use cursor::Cursor;

/// A position: byte offset, characters from the start, line and column from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) byte: usize,
    pub(super) index: usize,
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Mark {
    const START: Self = Self {
        byte: 0,
        index: 0,
        line: 0,
        column: 0,
    };
}

/// What is wrong and where; go-yaml's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) message: &'static str,
    pub(super) mark: Mark,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind<'a> {
    StreamEnd,
    Version(u8, u8),
    TagDirective { handle: String, prefix: String },
    DocumentStart,
    DocumentEnd,
    BlockListStart,
    BlockMapStart,
    BlockEnd,
    FlowListStart,
    FlowListEnd,
    FlowMapStart,
    FlowMapEnd,
    BlockEntry,
    FlowEntry,
    Key,
    Value,
    Alias(&'a str),
    Anchor(&'a str),
    Tag { handle: String, suffix: String },
    Scalar { text: Cow<'a, str>, plain: bool },
}

/// A token and where it begins and ends.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind<'a>,
    pub(super) start: Mark,
    pub(super) end: Mark,
}

/// A place where an implicit key may begin.
#[derive(Clone, Copy, Debug, Default)]
struct SimpleKey {
    possible: bool,
    /// Nothing but a key may stand here: a block mapping's own column.
    required: bool,
    /// The number of its first token.
    token: usize,
    mark: Mark,
}

/// Produces the tokens of a text.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    cursor: Cursor<'a>,
    queue: VecDeque<Token<'a>>,
    /// Tokens taken from the queue so far: the number of the token at its head.
    taken: usize,
    /// Whether the token at the head of the queue is known to be no implicit key.
    ready: bool,
    flow_level: usize,
    /// The column of the innermost block collection, -1 outside all.
    indent: isize,
    indents: Vec<isize>,
    simple_key_allowed: bool,
    /// One per flow level, the block level first.
    simple_keys: Vec<SimpleKey>,
    /// Which level's key begins at which token. go-yaml v2 looks only here to decide whether a
    /// token must be held back, and an empty flow collection erases the entry of the key that it
    /// began; so `[]: a` is read as `[]`. The look-up is kept for that.
    keys_by_token: FxHashMap<usize, usize>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            cursor: Cursor::new(text),
            queue: VecDeque::new(),
            taken: 0,
            ready: false,
            flow_level: 0,
            indent: -1,
            indents: Vec::new(),
            simple_key_allowed: true,
            simple_keys: vec![SimpleKey::default()],
            keys_by_token: FxHashMap::default(),
        }
    }

    /// The next token, left in the queue.
    pub(super) fn peek(&mut self) -> Result<&Token<'a>, SyntaxError> {
        if !self.ready {
            while self.queue.is_empty() || self.head_may_be_key()? {
                self.fetch_next()?;
            }
            self.ready = true;
        }
        Ok(&self.queue[0])
    }

    /// Takes the next token.
    pub(super) fn take(&mut self) -> Result<Token<'a>, SyntaxError> {
        self.peek()?;
        self.ready = false;
        self.keys_by_token.remove(&self.taken);
        self.taken += 1;
        self.queue
            .pop_front()
            .ok_or_else(|| self.error("the stream has ended"))
    }

    fn head_may_be_key(&mut self) -> Result<bool, SyntaxError> {
        match self.keys_by_token.get(&self.taken) {
            Some(level) => self.key_is_valid(*level),
            None => Ok(false),
        }
    }

    const fn error(&self, message: &'static str) -> SyntaxError {
        SyntaxError {
            message,
            mark: self.cursor.mark,
        }
    }

    fn push(&mut self, kind: Kind<'a>, start: Mark) {
        self.queue.push_back(Token {
            kind,
            start,
            end: self.cursor.mark,
        });
    }

    /// Puts a token in front of the token with this number, or last when that one is gone.
    fn insert_before(&mut self, number: usize, kind: Kind<'a>, mark: Mark) {
        let at = number.checked_sub(self.taken).unwrap_or(self.queue.len());
        self.queue.insert(
            at,
            Token {
                kind,
                start: mark,
                end: mark,
            },
        );
    }

    /// `scannerc.go :: yaml_parser_fetch_next_token`: decides by the next characters.
    fn fetch_next(&mut self) -> Result<(), SyntaxError> {
        self.skip_to_token();
        self.unroll_indent(self.cursor.mark.column.cast_signed());
        let (first, column) = (self.cursor.peek(0), self.cursor.mark.column);
        let in_flow = self.flow_level > 0;
        let blank_follows = self.cursor.blank_or_end_at(1);
        match first {
            0 => self.fetch_end(),
            b'%' if column == 0 => self.fetch_directive(),
            b'-' if self.cursor.at_document_indicator() => {
                self.fetch_document_indicator(Kind::DocumentStart)
            }
            b'.' if self.cursor.at_document_indicator() => {
                self.fetch_document_indicator(Kind::DocumentEnd)
            }
            b'[' => self.fetch_flow_start(Kind::FlowListStart),
            b'{' => self.fetch_flow_start(Kind::FlowMapStart),
            b']' => self.fetch_flow_end(Kind::FlowListEnd),
            b'}' => self.fetch_flow_end(Kind::FlowMapEnd),
            b',' => self.fetch_flow_entry(),
            b'-' if blank_follows => self.fetch_block_entry(),
            b'?' if in_flow || blank_follows => self.fetch_key(),
            b':' if in_flow || blank_follows => self.fetch_value(),
            b'*' | b'&' => self.fetch_anchor(first == b'*'),
            b'!' => self.fetch_tag(),
            b'|' | b'>' if !in_flow => self.fetch_block_scalar(first == b'|'),
            b'\'' | b'"' => self.fetch_quoted(first == b'\''),
            b'#' | b'|' | b'>' | b'%' | b'@' | b'`' | b'\t' => {
                Err(self.error("found character that cannot start any token"))
            }
            _ => self.fetch_plain(),
        }
    }

    /// Skips blanks, comments and line breaks. A tab may stand where no implicit key can begin.
    fn skip_to_token(&mut self) {
        loop {
            while self.cursor.peek(0) == b' '
                || (self.cursor.peek(0) == b'\t'
                    && (self.flow_level > 0 || !self.simple_key_allowed))
            {
                self.cursor.advance();
            }
            self.cursor.skip_comment();
            if !self.cursor.at_break() {
                return;
            }
            self.cursor.skip_break();
            if self.flow_level == 0 {
                self.simple_key_allowed = true;
            }
        }
    }

    fn key_is_valid(&mut self, level: usize) -> Result<bool, SyntaxError> {
        let here = self.cursor.mark;
        let Some(key) = self.simple_keys.get_mut(level).filter(|key| key.possible) else {
            return Ok(false);
        };
        if key.mark.line == here.line && key.mark.index + 1024 >= here.index {
            return Ok(true);
        }
        if key.required {
            return Err(SyntaxError {
                message: "could not find expected ':'",
                mark: key.mark,
            });
        }
        key.possible = false;
        Ok(false)
    }

    /// Remembers that an implicit key may begin here, if it may.
    fn save_simple_key(&mut self) -> Result<(), SyntaxError> {
        if !self.simple_key_allowed {
            return Ok(());
        }
        let mark = self.cursor.mark;
        let required = self.flow_level == 0 && self.indent == mark.column.cast_signed();
        self.remove_simple_key()?;
        let token = self.taken + self.queue.len();
        let level = self.simple_keys.len() - 1;
        self.simple_keys[level] = SimpleKey {
            possible: true,
            required,
            token,
            mark,
        };
        self.keys_by_token.insert(token, level);
        Ok(())
    }

    /// Forgets the possible key of this level; an error if only a key may stand there.
    fn remove_simple_key(&mut self) -> Result<(), SyntaxError> {
        let level = self.simple_keys.len() - 1;
        let key = self.simple_keys[level];
        if key.possible {
            if key.required {
                return Err(SyntaxError {
                    message: "could not find expected ':'",
                    mark: key.mark,
                });
            }
            self.simple_keys[level].possible = false;
            self.keys_by_token.remove(&key.token);
        }
        Ok(())
    }

    /// Opens a block collection when the column is right of the innermost one. `before` is the
    /// number of the token that its start goes in front of.
    fn roll_indent(&mut self, mark: Mark, before: Option<usize>, kind: Kind<'a>) {
        let column = mark.column.cast_signed();
        if self.flow_level == 0 && self.indent < column {
            self.indents.push(self.indent);
            self.indent = column;
            self.insert_before(before.unwrap_or(self.taken + self.queue.len()), kind, mark);
        }
    }

    /// Closes the block collections right of the column.
    fn unroll_indent(&mut self, column: isize) {
        while self.flow_level == 0 && self.indent > column {
            self.push(Kind::BlockEnd, self.cursor.mark);
            self.indent = self.indents.pop().unwrap_or(-1);
        }
    }

    fn fetch_end(&mut self) -> Result<(), SyntaxError> {
        if self.cursor.mark.column != 0 {
            self.cursor.mark.column = 0;
            self.cursor.mark.line += 1;
        }
        self.unroll_indent(-1);
        self.remove_simple_key()?;
        self.simple_key_allowed = false;
        self.push(Kind::StreamEnd, self.cursor.mark);
        Ok(())
    }

    fn fetch_document_indicator(&mut self, kind: Kind<'a>) -> Result<(), SyntaxError> {
        self.unroll_indent(-1);
        self.remove_simple_key()?;
        self.simple_key_allowed = false;
        let start = self.cursor.mark;
        self.cursor.advance_by(3);
        self.push(kind, start);
        Ok(())
    }

    fn fetch_flow_start(&mut self, kind: Kind<'a>) -> Result<(), SyntaxError> {
        self.save_simple_key()?;
        let (token, start) = (self.taken + self.queue.len(), self.cursor.mark);
        self.simple_keys.push(SimpleKey {
            token,
            mark: start,
            ..SimpleKey::default()
        });
        self.flow_level += 1;
        self.simple_key_allowed = true;
        self.cursor.advance();
        self.push(kind, start);
        Ok(())
    }

    fn fetch_flow_end(&mut self, kind: Kind<'a>) -> Result<(), SyntaxError> {
        self.remove_simple_key()?;
        if self.flow_level > 0 {
            self.flow_level -= 1;
            if let Some(key) = self.simple_keys.pop() {
                self.keys_by_token.remove(&key.token);
            }
        }
        self.simple_key_allowed = false;
        let start = self.cursor.mark;
        self.cursor.advance();
        self.push(kind, start);
        Ok(())
    }

    fn fetch_flow_entry(&mut self) -> Result<(), SyntaxError> {
        self.remove_simple_key()?;
        self.simple_key_allowed = true;
        let start = self.cursor.mark;
        self.cursor.advance();
        self.push(Kind::FlowEntry, start);
        Ok(())
    }

    fn fetch_block_entry(&mut self) -> Result<(), SyntaxError> {
        let start = self.cursor.mark;
        if self.flow_level == 0 {
            if !self.simple_key_allowed {
                return Err(self.error("block sequence entries are not allowed in this context"));
            }
            self.roll_indent(start, None, Kind::BlockListStart);
        }
        self.remove_simple_key()?;
        self.simple_key_allowed = true;
        self.cursor.advance();
        self.push(Kind::BlockEntry, start);
        Ok(())
    }

    /// The `?` of an explicit key.
    fn fetch_key(&mut self) -> Result<(), SyntaxError> {
        let start = self.cursor.mark;
        if self.flow_level == 0 {
            if !self.simple_key_allowed {
                return Err(self.error("mapping keys are not allowed in this context"));
            }
            self.roll_indent(start, None, Kind::BlockMapStart);
        }
        self.remove_simple_key()?;
        self.simple_key_allowed = self.flow_level == 0;
        self.cursor.advance();
        self.push(Kind::Key, start);
        Ok(())
    }

    /// The `:` after a key: makes the possible implicit key one, or follows an explicit key.
    fn fetch_value(&mut self) -> Result<(), SyntaxError> {
        let start = self.cursor.mark;
        let level = self.simple_keys.len() - 1;
        if self.key_is_valid(level)? {
            let key = self.simple_keys[level];
            self.insert_before(key.token, Kind::Key, key.mark);
            self.roll_indent(key.mark, Some(key.token), Kind::BlockMapStart);
            self.simple_keys[level].possible = false;
            self.keys_by_token.remove(&key.token);
            self.simple_key_allowed = false;
        } else {
            if self.flow_level == 0 {
                if !self.simple_key_allowed {
                    return Err(self.error("mapping values are not allowed in this context"));
                }
                self.roll_indent(start, None, Kind::BlockMapStart);
            }
            self.simple_key_allowed = self.flow_level == 0;
        }
        self.cursor.advance();
        self.push(Kind::Value, start);
        Ok(())
    }

    fn fetch_block_scalar(&mut self, literal: bool) -> Result<(), SyntaxError> {
        self.remove_simple_key()?;
        self.simple_key_allowed = true;
        let start = self.cursor.mark;
        let text = self.scan_block_scalar(literal)?;
        self.push(
            Kind::Scalar {
                text: text.into(),
                plain: false,
            },
            start,
        );
        Ok(())
    }

    fn fetch_quoted(&mut self, single: bool) -> Result<(), SyntaxError> {
        self.save_simple_key()?;
        self.simple_key_allowed = false;
        let start = self.cursor.mark;
        let text = self.scan_quoted(single)?;
        self.push(Kind::Scalar { text, plain: false }, start);
        Ok(())
    }

    fn fetch_plain(&mut self) -> Result<(), SyntaxError> {
        self.save_simple_key()?;
        self.simple_key_allowed = false;
        let start = self.cursor.mark;
        let text = self.scan_plain()?;
        self.push(Kind::Scalar { text, plain: true }, start);
        Ok(())
    }
}
