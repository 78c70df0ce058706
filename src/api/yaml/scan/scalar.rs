//! Scalars: block (`|`, `>`), quoted and plain.
//!
//! All three join lines in their own way. The text of a scalar on one line, without escapes, is a
//! slice of the input; only folding and escapes make a copy.

use std::borrow::Cow;

use super::{Scanner, SyntaxError};

/// What a block scalar keeps of the line breaks at its end.
#[derive(Clone, Copy, PartialEq)]
enum Chomping {
    Strip,
    Clip,
    Keep,
}

/// The blanks and line breaks between two words of a quoted or plain scalar.
#[derive(Default)]
struct Gap {
    /// Whether a line break was seen.
    broken: bool,
    leading_break: String,
    trailing_breaks: String,
}

impl Gap {
    /// Appends what the gap means: one break is a space, further ones stay.
    fn fold_into(&mut self, text: &mut String) {
        if self.leading_break.starts_with('\n') {
            if self.trailing_breaks.is_empty() {
                text.push(' ');
            } else {
                text.push_str(&self.trailing_breaks);
            }
        } else {
            text.push_str(&self.leading_break);
            text.push_str(&self.trailing_breaks);
        }
        self.broken = false;
        self.leading_break.clear();
        self.trailing_breaks.clear();
    }
}

impl<'a> Scanner<'a> {
    /// `scannerc.go :: yaml_parser_scan_block_scalar`.
    pub(super) fn scan_block_scalar(&mut self, literal: bool) -> Result<String, SyntaxError> {
        self.cursor.advance();
        let (chomping, increment) = self.scan_block_header()?;
        let mut indent = match increment {
            0 => 0,
            _ => self.indent.max(0).cast_unsigned() + increment,
        };
        let mut text = String::new();
        let mut leading_break = String::new();
        let mut trailing_breaks = String::new();
        self.scan_block_breaks(&mut indent, &mut trailing_breaks)?;
        let mut after_blank = false;
        while self.cursor.mark.column == indent && !self.cursor.at_end() {
            let blank = self.cursor.at_blank();
            if !literal && leading_break.starts_with('\n') && !after_blank && !blank {
                if trailing_breaks.is_empty() {
                    text.push(' ');
                }
            } else {
                text.push_str(&leading_break);
            }
            leading_break.clear();
            text.push_str(&trailing_breaks);
            trailing_breaks.clear();
            after_blank = blank;
            let from = self.cursor.mark.byte;
            while !self.cursor.at_break_or_end() {
                self.cursor.advance();
            }
            text.push_str(self.cursor.slice(from, self.cursor.mark.byte));
            if self.cursor.at_break() {
                self.cursor.take_break(&mut leading_break);
            }
            self.scan_block_breaks(&mut indent, &mut trailing_breaks)?;
        }
        if chomping != Chomping::Strip {
            text.push_str(&leading_break);
        }
        if chomping == Chomping::Keep {
            text.push_str(&trailing_breaks);
        }
        Ok(text)
    }

    /// The rest of the line after `|` or `>`: chomping and indentation, in either order. The
    /// second value is 0 when the indentation is to be detected.
    fn scan_block_header(&mut self) -> Result<(Chomping, usize), SyntaxError> {
        let mut chomping = self.take_chomping();
        let mut increment = 0;
        if self.cursor.peek(0).is_ascii_digit() {
            increment = usize::from(self.cursor.peek(0) - b'0');
            if increment == 0 {
                return Err(self.error("found an indentation indicator equal to 0"));
            }
            self.cursor.advance();
            chomping = chomping.or_else(|| self.take_chomping());
        }
        self.cursor.skip_blanks();
        self.cursor.skip_comment();
        if self.cursor.at_break() {
            self.cursor.skip_break();
        } else if !self.cursor.at_end() {
            return Err(self.error("did not find expected comment or line break"));
        }
        Ok((chomping.unwrap_or(Chomping::Clip), increment))
    }

    fn take_chomping(&mut self) -> Option<Chomping> {
        let chomping = match self.cursor.peek(0) {
            b'+' => Chomping::Keep,
            b'-' => Chomping::Strip,
            _ => return None,
        };
        self.cursor.advance();
        Some(chomping)
    }

    /// Takes indentation and line breaks up to the next line with content; an indentation of 0
    /// becomes that of the deepest line seen.
    fn scan_block_breaks(
        &mut self,
        indent: &mut usize,
        breaks: &mut String,
    ) -> Result<(), SyntaxError> {
        let mut deepest = 0;
        loop {
            let within = |column: usize| *indent == 0 || column < *indent;
            while within(self.cursor.mark.column) && self.cursor.peek(0) == b' ' {
                self.cursor.advance();
            }
            deepest = deepest.max(self.cursor.mark.column);
            if within(self.cursor.mark.column) && self.cursor.peek(0) == b'\t' {
                let message = "found a tab character where an indentation space is expected";
                return Err(self.error(message));
            }
            if !self.cursor.at_break() {
                break;
            }
            self.cursor.take_break(breaks);
        }
        if *indent == 0 {
            *indent = deepest.max((self.indent + 1).cast_unsigned()).max(1);
        }
        Ok(())
    }

    /// `scannerc.go :: yaml_parser_scan_flow_scalar`.
    pub(super) fn scan_quoted(&mut self, single: bool) -> Result<Cow<'a, str>, SyntaxError> {
        let quote = self.cursor.peek(0);
        let start = self.cursor.mark;
        self.cursor.advance();
        if let Some(text) = self.scan_simple_quoted(quote) {
            return Ok(text.into());
        }
        let mut text = String::new();
        let mut gap = Gap::default();
        loop {
            if self.cursor.at_document_indicator() {
                return Err(self.error("found unexpected document indicator"));
            }
            if self.cursor.at_end() {
                return Err(SyntaxError {
                    message: "found unexpected end of stream",
                    mark: start,
                });
            }
            gap.broken = self.scan_quoted_word(single, &mut text)?;
            if self.cursor.peek(0) == quote {
                break;
            }
            let from = self.cursor.mark.byte;
            self.scan_gap(&mut gap, 0)?;
            if gap.broken {
                gap.fold_into(&mut text);
            } else {
                text.push_str(self.cursor.slice(from, self.cursor.mark.byte));
            }
        }
        self.cursor.advance();
        Ok(text.into())
    }

    /// A quoted scalar on one line without escapes, the closing quote included; anything else
    /// leaves the position where it was.
    fn scan_simple_quoted(&mut self, quote: u8) -> Option<&'a str> {
        let start = self.cursor.mark;
        while !self.cursor.at_break_or_end() {
            match self.cursor.peek(0) {
                byte if byte == quote => {
                    if quote == b'\'' && self.cursor.peek(1) == b'\'' {
                        break;
                    }
                    let text = self.cursor.slice(start.byte, self.cursor.mark.byte);
                    self.cursor.advance();
                    return Some(text);
                }
                b'\\' if quote == b'"' => break,
                _ => self.cursor.advance(),
            }
        }
        self.cursor.mark = start;
        None
    }

    /// Takes characters up to a blank, the closing quote or the end. Says whether it ended at an
    /// escaped line break.
    fn scan_quoted_word(&mut self, single: bool, text: &mut String) -> Result<bool, SyntaxError> {
        while !self.cursor.blank_or_end_at(0) {
            match (self.cursor.peek(0), self.cursor.peek(1)) {
                (b'\'', b'\'') if single => {
                    text.push('\'');
                    self.cursor.advance_by(2);
                }
                (b'\'', _) if single => break,
                (b'"', _) if !single => break,
                (b'\\', _) if !single && self.cursor.break_at(1) => {
                    self.cursor.advance();
                    self.cursor.skip_break();
                    return Ok(true);
                }
                (b'\\', code) if !single => self.scan_escape(code, text)?,
                _ => {
                    let from = self.cursor.mark.byte;
                    self.cursor.advance();
                    text.push_str(self.cursor.slice(from, self.cursor.mark.byte));
                }
            }
        }
        Ok(false)
    }

    fn scan_escape(&mut self, code: u8, text: &mut String) -> Result<(), SyntaxError> {
        let digits = match code {
            b'x' => 2,
            b'u' => 4,
            b'U' => 8,
            _ => {
                let Some(character) = named_escape(code) else {
                    return Err(self.error("found unknown escape character"));
                };
                text.push(character);
                self.cursor.advance_by(2);
                return Ok(());
            }
        };
        self.cursor.advance_by(2);
        let mut value = 0_u32;
        for at in 0..digits {
            let Some(digit) = char::from(self.cursor.peek(at)).to_digit(16) else {
                return Err(self.error("did not find expected hexdecimal number"));
            };
            value = value << 4 | digit;
        }
        let Some(character) = char::from_u32(value) else {
            return Err(self.error("found invalid Unicode character escape code"));
        };
        text.push(character);
        self.cursor.advance_by(digits);
        Ok(())
    }

    /// Takes blanks and line breaks. After a line break no tab may stand left of `indent`.
    fn scan_gap(&mut self, gap: &mut Gap, indent: usize) -> Result<(), SyntaxError> {
        loop {
            if self.cursor.at_blank() {
                let left = gap.broken && self.cursor.mark.column < indent;
                if left && self.cursor.peek(0) == b'\t' {
                    return Err(self.error("found a tab character that violates indentation"));
                }
                self.cursor.advance();
            } else if !self.cursor.at_break() {
                return Ok(());
            } else if gap.broken {
                self.cursor.take_break(&mut gap.trailing_breaks);
            } else {
                self.cursor.take_break(&mut gap.leading_break);
                gap.broken = true;
            }
        }
    }

    /// `scannerc.go :: yaml_parser_scan_plain_scalar`.
    pub(super) fn scan_plain(&mut self) -> Result<Cow<'a, str>, SyntaxError> {
        let indent = (self.indent + 1).cast_unsigned();
        // The part since `from` continues `folded`, which holds the lines before.
        let mut folded = String::new();
        let mut from = self.cursor.mark.byte;
        let mut end = self.cursor.mark;
        let mut gap = Gap::default();
        loop {
            if self.cursor.at_document_indicator() || self.cursor.peek(0) == b'#' {
                break;
            }
            if gap.broken && !self.plain_ends() {
                folded.push_str(self.cursor.slice(from, end.byte));
                gap.fold_into(&mut folded);
                from = self.cursor.mark.byte;
            }
            while !self.plain_ends() {
                self.cursor.advance();
                end = self.cursor.mark;
            }
            if !(self.cursor.at_blank() || self.cursor.at_break()) {
                break;
            }
            self.scan_gap(&mut gap, indent)?;
            if self.flow_level == 0 && self.cursor.mark.column < indent {
                break;
            }
        }
        if gap.broken {
            self.simple_key_allowed = true;
        }
        let last = self.cursor.slice(from, end.byte);
        if folded.is_empty() {
            return Ok(last.into());
        }
        folded.push_str(last);
        Ok(folded.into())
    }

    /// Whether the next character is no part of a plain scalar.
    fn plain_ends(&self) -> bool {
        match self.cursor.peek(0) {
            b':' => self.cursor.blank_or_end_at(1),
            b',' | b'?' | b'[' | b']' | b'{' | b'}' => self.flow_level > 0,
            _ => self.cursor.blank_or_end_at(0),
        }
    }
}

const fn named_escape(code: u8) -> Option<char> {
    Some(match code {
        b'0' => '\0',
        b'a' => '\x07',
        b'b' => '\x08',
        b't' | b'\t' => '\t',
        b'n' => '\n',
        b'v' => '\x0B',
        b'f' => '\x0C',
        b'r' => '\r',
        b'e' => '\x1B',
        b' ' => ' ',
        b'"' => '"',
        b'\'' => '\'',
        b'\\' => '\\',
        b'N' => '\u{85}',
        b'_' => '\u{A0}',
        b'L' => '\u{2028}',
        b'P' => '\u{2029}',
        _ => return None,
    })
}
