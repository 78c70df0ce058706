//! Spans of time as Go prints and reads them: `90s`, `3m40s`, `1.5h`, `300ms`.

use std::time::Duration;

/// Reads a span as `time.ParseDuration` does: decimal numbers, each with a unit, or `0`. A leading
/// `+` is allowed, a negative span is not.
///
/// # Errors
/// What is wrong, with a hint where there is one.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let wrong = |hint| DurationError {
        text: text.to_owned(),
        hint,
    };
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.starts_with('-') {
        return Err(wrong("it must not be negative"));
    }
    if rest.is_empty() {
        return Err(wrong("write 90s, 5m or 1h30m"));
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let Some(end) = end else {
            return Err(wrong("a unit is missing: write 90s, 5m or 1h30m"));
        };
        let (number, after) = rest.split_at(end);
        let end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit = unit_nanos(unit).ok_or_else(|| wrong("units are ns, us, ms, s, m and h"))?;
        nanos += amount(number, unit).ok_or_else(|| wrong("write 90s, 5m or 1h30m"))?;
        rest = after;
    }
    match u64::try_from(nanos) {
        // Go keeps spans in 63 bits.
        Ok(nanos) if nanos <= i64::MAX as u64 => Ok(Duration::from_nanos(nanos)),
        _ => Err(wrong("it is longer than 292 years")),
    }
}

fn unit_nanos(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `number` units in nanoseconds, rounded down.
fn amount(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || whole.len() > 19 || fraction.contains('.') {
        return None;
    }
    let whole: u128 = match whole {
        "" => 0,
        digits => digits.parse().ok()?,
    };
    let mut nanos = whole.checked_mul(unit)?;
    let mut place = unit;
    let mut part: u128 = 0;
    // Digits below a nanosecond of an hour do not count.
    for digit in fraction.bytes().take(15) {
        part = part * 10 + u128::from(digit - b'0');
        place *= 10;
    }
    nanos += part * unit / (place / unit);
    Some(nanos)
}

/// A text that is no span of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration")]
pub struct DurationError {
    /// The text.
    pub text: String,
    /// What to write instead.
    pub hint: &'static str,
}

/// Prints a span as Go's `Duration.String` does: `1h30m0s`, `3m40s`, `1.5s`, `300ms`, `0s`.
pub fn print(span: Duration) -> String {
    let nanos = span.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000_000_000 {
        let (unit, name) = match nanos {
            ..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "\u{b5}s"),
            _ => (1_000_000, "ms"),
        };
        return format!("{}{name}", decimal(nanos, unit));
    }
    let seconds = span.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let mut text = String::new();
    if hours > 0 {
        text.push_str(&format!("{hours}h"));
    }
    if seconds >= 60 {
        text.push_str(&format!("{minutes}m"));
    }
    let rest = nanos - u128::from(seconds / 60 * 60) * 1_000_000_000;
    text.push_str(&decimal(rest, 1_000_000_000));
    text.push('s');
    text
}

/// As [`print()`], without zeros at the end: `20m`, `1h30m`, `3m40s`.
pub fn short(span: Duration) -> String {
    let text = print(span);
    let text = match text.strip_suffix("m0s") {
        Some(start) => format!("{start}m"),
        None => text,
    };
    match text.strip_suffix("h0m") {
        Some(start) => format!("{start}h"),
        None => text,
    }
}

/// `nanos / unit` with as many decimals as it has.
fn decimal(nanos: u128, unit: u128) -> String {
    let rest = nanos % unit;
    if rest == 0 {
        return (nanos / unit).to_string();
    }
    let width = unit.ilog10() as usize;
    let digits = format!("{rest:0width$}");
    format!("{}.{}", nanos / unit, digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_printed_as_go_does() {
        for (text, nanos, printed) in [
            ("0", 0, "0s"),
            ("90s", 90_000_000_000, "1m30s"),
            ("3m40s", 220_000_000_000, "3m40s"),
            ("1.5h", 5_400_000_000_000, "1h30m0s"),
            ("+5m", 300_000_000_000, "5m0s"),
            (".5s", 500_000_000, "500ms"),
            ("1.s", 1_000_000_000, "1s"),
            ("2s500ms", 2_500_000_000, "2.5s"),
            ("300ms", 300_000_000, "300ms"),
            ("1500us", 1_500_000, "1.5ms"),
            ("12\u{b5}s", 12_000, "12\u{b5}s"),
            ("7ns", 7, "7ns"),
            ("10m10s", 610_000_000_000, "10m10s"),
        ] {
            let span = parse(text).unwrap();
            assert_eq!(
                (span.as_nanos(), print(span)),
                (nanos, printed.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_span_is_refused() {
        for text in [
            "",
            "5",
            "s",
            "5 m",
            "-5s",
            "1d",
            "1h30",
            "1.2.3s",
            "..s",
            ".s",
            "999999999999h",
            "99999999999999999999s",
            "5M",
            "1e3s",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
