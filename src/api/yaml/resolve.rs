//! What a scalar means: YAML 1.1 as go-yaml v2 reads it, which is how kubectl reads manifests.
//!
//! `yes`, `on`, `y` are booleans, `0644` is 420, `1_000` is 1000, `0b11` is 3, `1e3` is 1000 and a
//! date stays text. The order of the attempts matters and follows go-yaml v2's `resolve.go ::
//! resolve`; Go's `strconv` rules for numbers are written out below.

use std::sync::Arc;

use super::NodeValue;

/// What go-yaml makes of a scalar before it becomes JSON.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    /// May be infinite or not a number, which only a map key may be.
    Float(f64),
    Str(Arc<str>),
}

const LONG_PREFIX: &str = "tag:yaml.org,2002:";

/// Resolves a scalar with its full tag (empty: none). The error is the message.
pub(super) fn resolve(tag: &str, text: &str) -> Result<Scalar, String> {
    let short = tag.strip_prefix(LONG_PREFIX);
    match (tag, short) {
        ("", _) => Ok(untagged(text)),
        (_, Some("str")) => Ok(Scalar::Str(text.into())),
        (_, Some("binary")) => binary(text),
        (_, Some("timestamp")) if is_timestamp(text) => Ok(Scalar::Str(text.into())),
        (_, Some(wanted @ ("bool" | "int" | "float" | "null" | "timestamp"))) => {
            let scalar = if wanted == "timestamp" {
                untagged(text)
            } else {
                number_or_word(text)
            };
            match (wanted, scalar) {
                ("float", Scalar::Int(i)) => Ok(Scalar::Float(int_as_float(i))),
                (_, scalar) if wanted == type_of(&scalar) => Ok(scalar),
                (_, scalar) => Err(format!(
                    "cannot decode !!{} `{text}` as a !!{wanted}",
                    type_of(&scalar)
                )),
            }
        }
        _ => Ok(Scalar::Str(text.into())),
    }
}

fn type_of(scalar: &Scalar) -> &'static str {
    match scalar {
        Scalar::Null => "null",
        Scalar::Bool(_) => "bool",
        Scalar::Int(_) | Scalar::UInt(_) => "int",
        Scalar::Float(_) => "float",
        Scalar::Str(_) => "str",
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "go-yaml converts in the same way"
)]
const fn int_as_float(i: i64) -> f64 {
    i as f64
}

/// A plain scalar. A timestamp can be neither word nor number, so it needs no step of its own.
fn untagged(text: &str) -> Scalar {
    number_or_word(text)
}

fn number_or_word(text: &str) -> Scalar {
    match text.as_bytes().first() {
        None => Scalar::Null,
        Some(b'y' | b'Y' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'o' | b'O' | b'~') => {
            word(text).unwrap_or_else(|| Scalar::Str(text.into()))
        }
        Some(b'.') => word(text)
            .or_else(|| dotted_float(text).map(Scalar::Float))
            .unwrap_or_else(|| Scalar::Str(text.into())),
        Some(b'+' | b'-' | b'0'..=b'9') => word(text)
            .or_else(|| number(text))
            .unwrap_or_else(|| Scalar::Str(text.into())),
        Some(_) => Scalar::Str(text.into()),
    }
}

/// go-yaml v2, `resolve.go :: resolveMap`.
fn word(text: &str) -> Option<Scalar> {
    Some(match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Scalar::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Scalar::Bool(false)
        }
        "~" | "null" | "Null" | "NULL" => Scalar::Null,
        ".nan" | ".NaN" | ".NAN" => Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Scalar::Float(f64::NEG_INFINITY),
        _ => return None,
    })
}

fn number(text: &str) -> Option<Scalar> {
    let stripped;
    let plain = if text.contains('_') {
        stripped = text.replace('_', "");
        stripped.as_str()
    } else {
        text
    };
    if let Some(int) = parse_int(plain) {
        return Some(int);
    }
    if is_yaml_float(plain) {
        return parse_float(plain).map(Scalar::Float);
    }
    None
}

/// Go's `strconv.ParseInt(s, 0, 64)`, then `ParseUint(s, 0, 64)`, which takes no sign: a leading
/// `0x`, `0o`, `0b` (either case) or a bare `0` chooses the base.
fn parse_int(plain: &str) -> Option<Scalar> {
    let (negative, unsigned) = match plain.as_bytes().first()? {
        b'-' => (true, &plain[1..]),
        b'+' => (false, &plain[1..]),
        _ => (false, plain),
    };
    let signed = unsigned.len() != plain.len();
    let bytes = unsigned.as_bytes();
    let (base, digits) = match bytes {
        [b'0', b'x' | b'X', ..] => (16, &unsigned[2..]),
        [b'0', b'o' | b'O', ..] => (8, &unsigned[2..]),
        [b'0', b'b' | b'B', ..] => (2, &unsigned[2..]),
        [b'0', _, ..] => (8, &unsigned[1..]),
        _ => (10, unsigned),
    };
    // Rust's parsers would take a second sign here; Go's do not.
    if !digits.bytes().next()?.is_ascii_alphanumeric() {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, base).ok()?;
    if negative {
        return 0_i64.checked_sub_unsigned(magnitude).map(Scalar::Int);
    }
    match i64::try_from(magnitude) {
        Ok(int) => Some(Scalar::Int(int)),
        Err(_) if signed => None,
        Err(_) => Some(Scalar::UInt(magnitude)),
    }
}

/// go-yaml v2, `resolve.go :: yamlStyleFloat`:
/// `^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`.
fn is_yaml_float(plain: &str) -> bool {
    let rest = plain.strip_prefix(['-', '+']).unwrap_or(plain);
    let whole = digits(rest);
    let mut rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix('.') {
        let length = digits(fraction);
        if whole == 0 && length == 0 {
            return false;
        }
        rest = &fraction[length..];
    } else if whole == 0 {
        return false;
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        let length = digits(exponent);
        return length > 0 && length == exponent.len();
    }
    rest.is_empty()
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// Go's `strconv.ParseFloat(s, 64)` on a text of [`is_yaml_float`]'s form; a value that overflows
/// is no number.
fn parse_float(text: &str) -> Option<f64> {
    text.parse().ok().filter(|f: &f64| f.is_finite())
}

/// A float that begins with its dot. go-yaml leaves the underscores to `ParseFloat` here, which
/// wants a digit on both sides of each.
fn dotted_float(text: &str) -> Option<f64> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut underscores = (0..bytes.len()).filter(|at| bytes[*at] == b'_');
    if !underscores.all(|at| at > 0 && digit(at + 1) && digit(at - 1)) {
        return None;
    }
    let plain = text.replace('_', "");
    is_yaml_float(&plain).then(|| parse_float(&plain)).flatten()
}

/// `!!binary`: standard base64 with padding, line breaks ignored, as Go's `StdEncoding`. Bytes
/// that are not UTF-8 become U+FFFD in JSON, one per byte that fits nowhere.
fn binary(text: &str) -> Result<Scalar, String> {
    let bytes = decode_base64(text)
        .ok_or_else(|| "!!binary value contains invalid base64 data".to_owned())?;
    Ok(Scalar::Str(go_lossy(&bytes).into()))
}

/// Text of bytes as Go's JSON encoder writes it: each byte that begins no valid sequence is one
/// U+FFFD.
fn go_lossy(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}

pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let symbols: Vec<u8> = text
        .bytes()
        .filter(|b| !matches!(b, b'\r' | b'\n'))
        .collect();
    if !symbols.len().is_multiple_of(4) {
        return None;
    }
    let padding = symbols.iter().rev().take_while(|b| **b == b'=').count();
    if padding > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(symbols.len() / 4 * 3);
    let mut bits = 0_u32;
    for (at, symbol) in symbols[..symbols.len() - padding].iter().enumerate() {
        bits = bits << 6 | u32::from(sextet(*symbol)?);
        if at % 4 == 3 {
            bytes.extend_from_slice(&bits.to_be_bytes()[1..]);
            bits = 0;
        }
    }
    match padding {
        1 => bytes.extend_from_slice(&(bits << 6).to_be_bytes()[1..3]),
        2 => bytes.push((bits << 12).to_be_bytes()[1]),
        _ => {}
    }
    Some(bytes)
}

const fn sextet(symbol: u8) -> Option<u8> {
    Some(match symbol {
        b'A'..=b'Z' => symbol - b'A',
        b'a'..=b'z' => symbol - b'a' + 26,
        b'0'..=b'9' => symbol - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

/// Whether the text has one of go-yaml v2's timestamp forms (`resolve.go ::
/// allowedTimestampFormats`). It only decides whether `!!timestamp` is right: the value is text.
fn is_timestamp(text: &str) -> bool {
    let Some((date, time)) =
        text.split_at_checked(text.find(['T', 't', ' ']).unwrap_or(text.len()))
    else {
        return false;
    };
    let mut parts = date.split('-');
    let (Some(year), Some(month), Some(day), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let (Some(month), Some(day)) = (small(month, 2), small(day, 2)) else {
        return false;
    };
    let Some(year) = small(year, 4).filter(|_| year.len() == 4) else {
        return false;
    };
    if !(1..=12).contains(&month) || day == 0 || day > days_in(year, month) {
        return false;
    }
    match time.as_bytes().first() {
        None => true,
        Some(b' ') => is_clock(&time[1..]),
        Some(_) => {
            let zone = time[1..].find(['Z', '+', '-']).map(|at| at + 1);
            zone.is_some_and(|at| is_clock(&time[1..at]) && is_zone(&time[at..]))
        }
    }
}

const fn days_in(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        _ => 31,
    }
}

/// One to `width` digits.
fn small(text: &str, width: usize) -> Option<u32> {
    let all_digits = digits(text) == text.len();
    (all_digits && (1..=width).contains(&text.len()))
        .then(|| text.parse().ok())
        .flatten()
}

/// Go's `15:4:5.999999999`: two digits for the hour, one or two for minute and second, and an
/// optional fraction.
fn is_clock(text: &str) -> bool {
    let mut parts = text.split(':');
    let (Some(hour), Some(minute), Some(second), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let (second, fraction) = match second.split_once(['.', ',']) {
        Some((second, fraction)) => (second, Some(fraction)),
        None => (second, None),
    };
    small(hour, 2).is_some_and(|h| h < 24)
        && small(minute, 2).is_some_and(|m| m < 60)
        && small(second, 2).is_some_and(|s| s < 60)
        && fraction.is_none_or(|f| !f.is_empty() && digits(f) == f.len())
}

fn is_zone(text: &str) -> bool {
    if text == "Z" {
        return true;
    }
    let Some((hour, minute)) = text
        .strip_prefix(['+', '-'])
        .and_then(|t| t.split_once(':'))
    else {
        return false;
    };
    hour.len() == 2
        && minute.len() == 2
        && small(hour, 2).is_some_and(|h| h <= 24)
        && small(minute, 2).is_some_and(|m| m < 60)
}

impl Scalar {
    /// The JSON value. JSON has no infinities: Go's encoder refuses them, and so does this. A float
    /// that JSON prints as an integer (`3.0` is `3`) is one for every reader after it.
    pub(super) fn into_value(self) -> Result<NodeValue, String> {
        Ok(match self {
            Self::Null => NodeValue::Null,
            Self::Bool(b) => NodeValue::Bool(b),
            Self::Int(i) => NodeValue::Int(i),
            Self::UInt(u) => NodeValue::UInt(u),
            Self::Float(f) if !f.is_finite() => {
                let name = if f.is_nan() {
                    "NaN"
                } else if f > 0.0 {
                    "+Inf"
                } else {
                    "-Inf"
                };
                return Err(format!("json: unsupported value: {name}"));
            }
            // JSON below 1e21 has no exponent: a whole number is read again as its shortest digits.
            Self::Float(f) if f.fract() == 0.0 && f.abs() < 1e21 => {
                let digits = f.to_string();
                let int = digits.parse().map(NodeValue::Int);
                let uint = || digits.parse().map(NodeValue::UInt);
                int.or_else(|_| uint()).unwrap_or(NodeValue::Float(f))
            }
            Self::Float(f) => NodeValue::Float(f),
            Self::Str(s) => NodeValue::Str(s),
        })
    }

    /// The text of a map key, as sigs.k8s.io/yaml, `yaml.go :: convertToJSONableObject` makes it.
    pub(super) fn into_key(self) -> Result<Arc<str>, String> {
        Ok(match self {
            Self::Str(s) => s,
            Self::Bool(b) => if b { "true" } else { "false" }.into(),
            Self::Int(i) => i.to_string().into(),
            Self::Float(f) => float_key(f).into(),
            Self::Null => return Err("null cannot be a map key".to_owned()),
            Self::UInt(u) => {
                return Err(format!("{u} is too large for a number as map key"));
            }
        })
    }
}

/// Go's `strconv.FormatFloat(f, 'g', -1, 32)` with go-yaml's names for the special values.
#[expect(
    clippy::cast_possible_truncation,
    reason = "Go narrows keys to 32 bits, too"
)]
fn float_key(f: f64) -> String {
    let narrow = f as f32;
    if narrow.is_nan() {
        return ".nan".to_owned();
    }
    if narrow.is_infinite() {
        return if narrow > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let scientific = format!("{narrow:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    // %g with the shortest digits: Go keeps plain notation for exponents from -4 to 5.
    if (-4..6).contains(&exponent) {
        return format!("{narrow}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}
