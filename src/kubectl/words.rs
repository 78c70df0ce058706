//! Command lines: words as a POSIX shell splits them, flags and their values, with places.

use std::ops::Range;

use super::verb::ParseError;

/// A word with its place in the line, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// The word, quotes removed.
    pub text: String,
    /// Where it stands.
    pub at: Range<usize>,
}

/// Splits a line; single and double quotes and backslashes as in a shell.
pub fn split(line: &str) -> Result<Vec<Word>, ParseError> {
    let mut words = Vec::new();
    let mut chars = line.char_indices().peekable();
    while let Some(&(start, c)) = chars.peek() {
        if c.is_whitespace() {
            chars.next();
            continue;
        }
        let mut text = String::new();
        let mut end = start;
        let mut quote: Option<char> = None;
        while let Some(&(i, c)) = chars.peek() {
            if quote.is_none() && c.is_whitespace() {
                break;
            }
            chars.next();
            end = i + c.len_utf8();
            match (quote, c) {
                (None, '\'' | '"') => quote = Some(c),
                (Some(q), c) if c == q => quote = None,
                (None | Some('"'), '\\') => {
                    if let Some((j, escaped)) = chars.next() {
                        end = j + escaped.len_utf8();
                        text.push(escaped);
                    }
                }
                _ => text.push(c),
            }
        }
        if let Some(q) = quote {
            return Err(ParseError::new(format!("unclosed {q}"), start..line.len()));
        }
        words.push(Word {
            text,
            at: start..end,
        });
    }
    Ok(words)
}

/// The words of a command, flags taken apart.
#[derive(Debug, Default)]
pub struct Words {
    /// What is no flag, in order.
    pub positional: Vec<Word>,
    flags: Vec<(String, Option<String>, Range<usize>)>,
    end: usize,
}

/// Flags that take a value in the next word when it is not joined by `=`.
const WITH_VALUE: &[&str] = &[
    "namespace",
    "selector",
    "filename",
    "replicas",
    "current-replicas",
    "to-revision",
    "timeout",
    "grace-period",
    "patch",
    "type",
    "cascade",
    "subresource",
    "field-selector",
    "container",
    "output",
    "min",
    "max",
    "cpu",
    "cpu-percent",
    "memory",
    "name",
];
/// Short flags with their long names.
const SHORT: &[(&str, &str)] = &[
    ("n", "namespace"),
    ("l", "selector"),
    ("f", "filename"),
    ("p", "patch"),
    ("A", "all-namespaces"),
    ("c", "container"),
    ("o", "output"),
    ("R", "recursive"),
    ("k", "kustomize"),
];

impl Words {
    /// Takes flags apart; `allowed` are the long names that the verb knows.
    pub fn new(words: Vec<Word>, allowed: &[&str]) -> Result<Words, ParseError> {
        let mut result = Words {
            end: words.last().map_or(0, |w| w.at.end),
            ..Words::default()
        };
        let mut words = words.into_iter().peekable();
        while let Some(word) = words.next() {
            // `key-` and plain words are arguments, `-x` and `--x` are flags.
            let Some(name) = word.text.strip_prefix('-').filter(|n| !n.is_empty()) else {
                result.positional.push(word);
                continue;
            };
            let long = name.strip_prefix('-');
            let (name, joined) = match name.trim_start_matches('-').split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (name.trim_start_matches('-').to_owned(), None),
            };
            let name = match long {
                Some(_) => name,
                None => match SHORT.iter().find(|(s, _)| *s == name) {
                    Some((_, long)) => (*long).to_owned(),
                    None => name,
                },
            };
            if !allowed.contains(&name.as_str()) {
                let near = crate::api::yaml::closest(&name, allowed.iter().copied());
                let mut error = ParseError::new(format!("unknown flag: --{name}"), word.at);
                error.hint = near.map(|n| format!("did you mean --{n}?"));
                return Err(error);
            }
            let value = match joined {
                Some(value) => Some(value),
                None if WITH_VALUE.contains(&name.as_str()) => match words.next() {
                    Some(value) => Some(value.text),
                    None => {
                        let message = format!("flag needs an argument: --{name}");
                        return Err(ParseError::new(message, word.at));
                    }
                },
                None => None,
            };
            result.flags.push((name, value, word.at));
        }
        Ok(result)
    }

    /// The value of a flag.
    pub fn value(&self, name: &str) -> Option<(&str, Range<usize>)> {
        let (_, value, at) = self.flags.iter().rev().find(|(n, _, _)| n == name)?;
        Some((value.as_deref().unwrap_or("true"), at.clone()))
    }

    /// A flag that is on, off, or not given.
    pub fn switch(&self, name: &str, default: bool) -> bool {
        self.value(name)
            .map_or(default, |(value, _)| value != "false")
    }

    /// A flag with a number.
    pub fn number(&self, name: &str) -> Result<Option<i64>, ParseError> {
        let Some((value, at)) = self.value(name) else {
            return Ok(None);
        };
        value.parse().map(Some).map_err(|_| {
            ParseError::new(
                format!("invalid argument \"{value}\" for \"--{name}\" flag"),
                at,
            )
        })
    }

    /// A flag with a duration (`30s`, `5m`, or seconds).
    pub fn duration(&self, name: &str) -> Result<Option<std::time::Duration>, ParseError> {
        let Some((value, at)) = self.value(name) else {
            return Ok(None);
        };
        let nanos = crate::api::duration::parse(value)
            .or_else(|_| crate::api::duration::parse(&format!("{value}s")));
        nanos.map(Some).map_err(|_| {
            ParseError::new(
                format!("invalid argument \"{value}\" for \"--{name}\" flag"),
                at,
            )
        })
    }

    /// The end of the line, for what is missing there.
    pub fn end(&self) -> Range<usize> {
        self.end..self.end
    }
}
