//! Text in quotes, as Go prints it.

use std::fmt::Write;

/// `strconv.Quote`: what is not printable is escaped.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            ' '..='~' => quoted.push(c),
            c if c.is_ascii() => escape(&mut quoted, 'x', 2, c as u32),
            c if printable(c) => quoted.push(c),
            c if (c as u32) < 0x1_0000 => escape(&mut quoted, 'u', 4, c as u32),
            c => escape(&mut quoted, 'U', 8, c as u32),
        }
    }
    quoted.push('"');
    quoted
}

/// `time.quote`, of which durations make use: every byte that is not plain ASCII is escaped.
pub fn quote_bytes(text: &str) -> String {
    let mut quoted = String::from('"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            b' '..=0x7f => quoted.push(char::from(byte)),
            byte => escape(&mut quoted, 'x', 2, u32::from(byte)),
        }
    }
    quoted.push('"');
    quoted
}

fn escape(quoted: &mut String, letter: char, digits: usize, number: u32) {
    // Writing to a string cannot fail.
    let _ = write!(quoted, "\\{letter}{number:0digits$x}");
}

/// `strconv.IsPrint`, by the standard library's own table: what it escapes inside of a text.
fn printable(c: char) -> bool {
    let text: String = ['a', c].into_iter().collect();
    text.escape_debug().nth(1) != Some('\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_as_go_does() {
        for (text, expected) in [
            ("a b", r#""a b""#),
            ("\"\\", r#""\"\\""#),
            ("\u{7}\n\u{1}\u{7f}", r#""\a\n\x01\x7f""#),
            ("\u{85}\u{a0}\u{feff}é日", r#""\u0085\u00a0\ufeffé日""#),
            ("e\u{301}😀\u{e0001}", "\"e\u{301}😀\\U000e0001\""),
        ] {
            assert_eq!(quote(text), expected);
        }
        assert_eq!(quote_bytes("1µ\"\u{7f}"), "\"1\\xc2\\xb5\\\"\u{7f}\"");
    }
}
