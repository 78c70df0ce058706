//! Directives (`%YAML`, `%TAG`), anchors, aliases and tags. Rare in manifests, but each has its
//! own grammar and its own ways to be wrong.

use super::{Kind, Scanner, SyntaxError};

impl Scanner<'_> {
    /// `scannerc.go :: yaml_parser_scan_directive`.
    pub(super) fn fetch_directive(&mut self) -> Result<(), SyntaxError> {
        self.unroll_indent(-1);
        self.remove_simple_key()?;
        self.simple_key_allowed = false;
        let start = self.cursor.mark;
        self.cursor.advance();
        let name = self.cursor.take_word();
        if name.is_empty() {
            return Err(self.error("could not find expected directive name"));
        }
        if !self.cursor.blank_or_end_at(0) {
            return Err(self.error("found unexpected non-alphabetical character"));
        }
        let kind = match name {
            "YAML" => self.scan_version()?,
            "TAG" => self.scan_tag_directive()?,
            _ => return Err(self.error("found unknown directive name")),
        };
        self.push(kind, start);
        self.cursor.skip_blanks();
        self.cursor.skip_comment();
        if self.cursor.at_break() {
            self.cursor.skip_break();
        } else if !self.cursor.at_end() {
            return Err(self.error("did not find expected comment or line break"));
        }
        Ok(())
    }

    fn scan_version<'a>(&mut self) -> Result<Kind<'a>, SyntaxError> {
        self.cursor.skip_blanks();
        let major = self.scan_version_number()?;
        if self.cursor.peek(0) != b'.' {
            return Err(self.error("did not find expected digit or '.' character"));
        }
        self.cursor.advance();
        let minor = self.scan_version_number()?;
        Ok(Kind::Version(major, minor))
    }

    fn scan_version_number(&mut self) -> Result<u8, SyntaxError> {
        let mut value = None;
        while self.cursor.peek(0).is_ascii_digit() {
            let digit = self.cursor.peek(0) - b'0';
            value = match value {
                None => Some((digit, 1)),
                Some((tens, 1)) => Some((tens * 10 + digit, 2)),
                Some(_) => return Err(self.error("found extremely long version number")),
            };
            self.cursor.advance();
        }
        match value {
            Some((value, _)) => Ok(value),
            None => Err(self.error("did not find expected version number")),
        }
    }

    fn scan_tag_directive<'a>(&mut self) -> Result<Kind<'a>, SyntaxError> {
        self.cursor.skip_blanks();
        let handle = self.scan_tag_handle(true)?;
        if !self.cursor.at_blank() {
            return Err(self.error("did not find expected whitespace"));
        }
        self.cursor.skip_blanks();
        let prefix = self.scan_tag_uri("")?;
        if !self.cursor.blank_or_end_at(0) {
            return Err(self.error("did not find expected whitespace or line break"));
        }
        Ok(Kind::TagDirective { handle, prefix })
    }

    /// `*name` or `&name`.
    pub(super) fn fetch_anchor(&mut self, alias: bool) -> Result<(), SyntaxError> {
        self.save_simple_key()?;
        self.simple_key_allowed = false;
        let start = self.cursor.mark;
        self.cursor.advance();
        let name = self.cursor.take_word();
        let follows = self.cursor.blank_or_end_at(0)
            || matches!(
                self.cursor.peek(0),
                b'?' | b':' | b',' | b']' | b'}' | b'%' | b'@' | b'`'
            );
        if name.is_empty() || !follows {
            return Err(self.error("did not find expected alphabetic or numeric character"));
        }
        self.push(
            if alias {
                Kind::Alias(name)
            } else {
                Kind::Anchor(name)
            },
            start,
        );
        Ok(())
    }

    /// `!<uri>`, `!handle!suffix`, `!suffix` or `!`.
    pub(super) fn fetch_tag(&mut self) -> Result<(), SyntaxError> {
        self.save_simple_key()?;
        self.simple_key_allowed = false;
        let start = self.cursor.mark;
        let (handle, suffix) = if self.cursor.peek(1) == b'<' {
            self.cursor.advance_by(2);
            let suffix = self.scan_tag_uri("")?;
            if self.cursor.peek(0) != b'>' {
                return Err(self.error("did not find the expected '>'"));
            }
            self.cursor.advance();
            (String::new(), suffix)
        } else {
            self.scan_short_tag()?
        };
        if !self.cursor.blank_or_end_at(0) {
            return Err(self.error("did not find expected whitespace or line break"));
        }
        self.push(Kind::Tag { handle, suffix }, start);
        Ok(())
    }

    fn scan_short_tag(&mut self) -> Result<(String, String), SyntaxError> {
        let handle = self.scan_tag_handle(false)?;
        if handle.len() > 1 && handle.ends_with('!') {
            let suffix = self.scan_tag_uri("")?;
            return Ok((handle, suffix));
        }
        // It was no handle, but the beginning of the suffix.
        let suffix = self.scan_tag_uri(&handle)?;
        if suffix.is_empty() {
            return Ok((String::new(), "!".to_owned()));
        }
        Ok(("!".to_owned(), suffix))
    }

    fn scan_tag_handle(&mut self, directive: bool) -> Result<String, SyntaxError> {
        if self.cursor.peek(0) != b'!' {
            return Err(self.error("did not find expected '!'"));
        }
        self.cursor.advance();
        let mut handle = format!("!{}", self.cursor.take_word());
        if self.cursor.peek(0) == b'!' {
            handle.push('!');
            self.cursor.advance();
        } else if directive && handle != "!" {
            return Err(self.error("did not find expected '!'"));
        }
        Ok(handle)
    }

    /// The rest of a tag; `head` is a part taken before, with its `!`, which is dropped.
    fn scan_tag_uri(&mut self, head: &str) -> Result<String, SyntaxError> {
        let mut uri = head.strip_prefix('!').unwrap_or(head).as_bytes().to_vec();
        let mut found = !head.is_empty();
        loop {
            let byte = self.cursor.peek(0);
            if byte == b'%' {
                self.scan_uri_escapes(&mut uri)?;
            } else if byte.is_ascii_alphanumeric() || b"_-;/?:@&=+$,.!~*'()[]".contains(&byte) {
                uri.push(byte);
                self.cursor.advance();
            } else {
                break;
            }
            found = true;
        }
        if !found {
            return Err(self.error("did not find expected tag URI"));
        }
        // Escapes are only checked for their first two bits, as go-yaml does.
        Ok(String::from_utf8_lossy(&uri).into_owned())
    }

    /// `%C3%A9`: one character.
    fn scan_uri_escapes(&mut self, uri: &mut Vec<u8>) -> Result<(), SyntaxError> {
        let mut left = None;
        while left != Some(0) {
            let digits = (hex(self.cursor.peek(1)), hex(self.cursor.peek(2)));
            let (b'%', (Some(high), Some(low))) = (self.cursor.peek(0), digits) else {
                return Err(self.error("did not find URI escaped octet"));
            };
            let octet = high << 4 | low;
            left = match (left, octet) {
                (None, 0..0x80) => Some(0),
                (None, 0xC0..0xE0) => Some(1),
                (None, 0xE0..0xF0) => Some(2),
                (None, 0xF0..0xF8) => Some(3),
                (None, _) => return Err(self.error("found an incorrect leading UTF-8 octet")),
                (Some(left), 0x80..0xC0) => Some(left - 1),
                (Some(_), _) => {
                    return Err(self.error("found an incorrect trailing UTF-8 octet"));
                }
            };
            uri.push(octet);
            self.cursor.advance_by(3);
        }
        Ok(())
    }
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}
