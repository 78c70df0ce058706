//! A position in a text that knows its line and column, and the character classes of YAML 1.1.
//!
//! The text never contains NUL (`documents` refuses control characters), so byte 0 stands for
//! its end.

use super::Mark;

/// Reads a text character by character.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    bytes: &'a [u8],
    pub(super) mark: Mark,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self {
            text,
            bytes: text.as_bytes(),
            mark: Mark::START,
        }
    }

    /// The byte `ahead` of the position, 0 past the end.
    #[inline]
    pub(super) fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.mark.byte + ahead).copied().unwrap_or(0)
    }

    /// The text from a byte offset up to another; both lie between characters.
    pub(super) fn slice(&self, from: usize, to: usize) -> &'a str {
        &self.text[from..to]
    }

    #[inline]
    pub(super) fn at_end(&self) -> bool {
        self.peek(0) == 0
    }

    #[inline]
    pub(super) fn at_blank(&self) -> bool {
        matches!(self.peek(0), b' ' | b'\t')
    }

    #[inline]
    pub(super) fn at_break(&self) -> bool {
        self.break_at(0)
    }

    #[inline]
    pub(super) fn at_break_or_end(&self) -> bool {
        self.at_end() || self.break_at(0)
    }

    /// CR, LF, NEL (U+0085), LS (U+2028) or PS (U+2029).
    #[inline]
    pub(super) fn break_at(&self, ahead: usize) -> bool {
        match self.peek(ahead) {
            b'\r' | b'\n' => true,
            0xC2 => self.peek(ahead + 1) == 0x85,
            0xE2 => self.peek(ahead + 1) == 0x80 && matches!(self.peek(ahead + 2), 0xA8 | 0xA9),
            _ => false,
        }
    }

    /// Space, tab, line break or the end.
    #[inline]
    pub(super) fn blank_or_end_at(&self, ahead: usize) -> bool {
        matches!(self.peek(ahead), b' ' | b'\t' | 0) || self.break_at(ahead)
    }

    /// `---` or `...` at the beginning of a line, with a blank or nothing after it.
    pub(super) fn at_document_indicator(&self) -> bool {
        self.mark.column == 0
            && matches!(
                (self.peek(0), self.peek(1), self.peek(2)),
                (b'-', b'-', b'-') | (b'.', b'.', b'.')
            )
            && self.blank_or_end_at(3)
    }

    /// Steps over one character that is not a line break.
    #[inline]
    pub(super) fn advance(&mut self) {
        self.mark.byte += match self.peek(0) {
            0..0x80 => 1,
            0x80..0xE0 => 2,
            0xE0..0xF0 => 3,
            0xF0.. => 4,
        };
        self.mark.index += 1;
        self.mark.column += 1;
    }

    /// Steps over `count` characters.
    pub(super) fn advance_by(&mut self, count: usize) {
        for _ in 0..count {
            self.advance();
        }
    }

    pub(super) fn skip_blanks(&mut self) {
        while self.at_blank() {
            self.advance();
        }
    }

    /// Steps over a comment, if one begins here, up to the end of its line.
    pub(super) fn skip_comment(&mut self) {
        if self.peek(0) == b'#' {
            while !self.at_break_or_end() {
                self.advance();
            }
        }
    }

    /// Steps over a line break.
    pub(super) fn skip_break(&mut self) {
        self.mark.byte += match (self.peek(0), self.peek(1)) {
            (b'\r', b'\n') | (0xC2, _) => 2,
            (0xE2, _) => 3,
            _ => 1,
        };
        self.mark.index += 1;
        self.mark.column = 0;
        self.mark.line += 1;
    }

    /// Steps over a line break and appends what it means: LS and PS stay, the others become LF.
    pub(super) fn take_break(&mut self, into: &mut String) {
        match (self.peek(0), self.peek(2)) {
            (0xE2, 0xA8) => into.push('\u{2028}'),
            (0xE2, _) => into.push('\u{2029}'),
            _ => into.push('\n'),
        }
        self.skip_break();
    }

    /// Takes the letters, digits, `_` and `-` at the position.
    pub(super) fn take_word(&mut self) -> &'a str {
        let from = self.mark.byte;
        while self.peek(0).is_ascii_alphanumeric() || matches!(self.peek(0), b'_' | b'-') {
            self.advance();
        }
        self.slice(from, self.mark.byte)
    }
}
