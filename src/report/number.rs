//! Numbers as people and programs read them: thousands, shares, latencies, spans, instants.

use std::time::Duration;

use crate::engine::Time;

/// `1234567` as `1,234,567`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share in percent: two decimals below 10 %, one below 99.9, never `0.00%` nor `100%` for what is
/// not exactly that.
pub fn percent(part: u64, of: u64) -> String {
    if part == 0 || of == 0 {
        return "0%".to_owned();
    }
    if part >= of {
        return "100%".to_owned();
    }
    let share = part as f64 * 100.0 / of as f64;
    match share {
        s if s < 0.01 => "<0.01%".to_owned(),
        s if s < 10.0 => format!("{s:.2}%"),
        s if s < 99.95 => format!("{s:.1}%"),
        s if s < 99.995 => format!("{s:.2}%"),
        _ => ">99.99%".to_owned(),
    }
}

/// Microseconds as a latency: `840µs`, `6.1ms`, `88ms`, `2.00s`.
pub fn latency(us: u64) -> String {
    match us {
        0..1_000 => format!("{us}µs"),
        1_000..10_000 => {
            let tenths = (us + 50) / 100;
            let (ms, tenth) = (tenths / 10, tenths % 10);
            if tenth == 0 {
                format!("{ms}ms")
            } else {
                format!("{ms}.{tenth}ms")
            }
        }
        10_000..999_500 => format!("{}ms", (us + 500) / 1_000),
        _ => {
            let hundredths = (us + 5_000) / 10_000;
            format!("{}.{:02}s", hundredths / 100, hundredths % 100)
        }
    }
}

/// A span as people say it: `12ms`, `0.4s`, `47s`, `7:25`, `1:02:03`.
pub fn span(span: Duration) -> String {
    let millis = span.as_millis();
    match millis {
        1..100 => format!("{millis}ms"),
        0..10_000 if !millis.is_multiple_of(1_000) => {
            format!("{}.{}s", millis / 1_000, millis / 100 % 10)
        }
        0..60_000 => format!("{}s", millis / 1_000),
        _ => {
            let secs = millis / 1_000;
            let (h, m, s) = (secs / 3600, secs / 60 % 60, secs % 60);
            if h > 0 {
                format!("{h}:{m:02}:{s:02}")
            } else {
                format!("{m}:{s:02}")
            }
        }
    }
}

/// A duration as it is written in a scenario: `15m`, `1h30m`, `90s` as `1m30s`.
pub fn duration(span: Duration) -> String {
    let secs = span.as_secs();
    let (h, m, s) = (secs / 3600, secs / 60 % 60, secs % 60);
    let mut text = String::new();
    for (n, unit) in [(h, "h"), (m, "m"), (s, "s")] {
        if n > 0 {
            text.push_str(&format!("{n}{unit}"));
        }
    }
    if span.subsec_millis() > 0 && secs < 60 {
        return format!("{}s", span.as_millis() as f64 / 1e3);
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

/// Seconds from `begun` with three decimals, rounded down; negative before it.
pub fn seconds(at: Time, begun: Time) -> String {
    let nanos = i128::from(at.as_nanos()) - i128::from(begun.as_nanos());
    let millis = nanos.div_euclid(1_000_000);
    let sign = if millis < 0 { "-" } else { "" };
    let millis = millis.unsigned_abs();
    format!("{sign}{}.{:03}", millis / 1_000, millis % 1_000)
}

/// An instant as `mm:ss` from `begun`, rounded down; `-mm:ss` before it.
pub fn clock(at: Time, begun: Time) -> String {
    let nanos = i128::from(at.as_nanos()) - i128::from(begun.as_nanos());
    let secs = nanos.div_euclid(1_000_000_000);
    let sign = if secs < 0 { "-" } else { "" };
    let secs = u64::try_from(secs.unsigned_abs()).unwrap_or(u64::MAX);
    format!("{sign}{}", Time::from_secs(secs).clock())
}

/// As [`clock`], to the millisecond: `20:00.002`.
pub fn moment(at: Time, begun: Time) -> String {
    let nanos = i128::from(at.as_nanos()) - i128::from(begun.as_nanos());
    let millis = nanos.div_euclid(1_000_000);
    let sign = if millis < 0 { "-" } else { "" };
    let millis = u64::try_from(millis.unsigned_abs()).unwrap_or(u64::MAX);
    let clock = Time::from_secs(millis / 1_000).clock();
    format!("{sign}{clock}.{:03}", millis % 1_000)
}

/// `1 pod`, `2 pods`.
pub fn count(n: u64, word: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{} {word}{plural}", thousands(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_people_read_them() {
        let table = [
            (thousands(0), "0"),
            (thousands(999), "999"),
            (thousands(1_000), "1,000"),
            (thousands(1_234_567), "1,234,567"),
            (percent(0, 10), "0%"),
            (percent(1, 1_000_000), "<0.01%"),
            (percent(6_714, 435_000), "1.54%"),
            (percent(435, 1_000), "43.5%"),
            (percent(9_998, 10_000), "99.98%"),
            (percent(999_999, 1_000_000), ">99.99%"),
            (percent(7, 7), "100%"),
            (latency(840), "840µs"),
            (latency(6_000), "6ms"),
            (latency(6_149), "6.1ms"),
            (latency(9_960), "10ms"),
            (latency(88_400), "88ms"),
            (latency(999_499), "999ms"),
            (latency(999_500), "1.00s"),
            (latency(2_000_000), "2.00s"),
            (span(Duration::from_millis(12)), "12ms"),
            (span(Duration::from_millis(400)), "0.4s"),
            (span(Duration::from_secs(47)), "47s"),
            (span(Duration::from_millis(47_900)), "47s"),
            (span(Duration::from_secs(445)), "7:25"),
            (span(Duration::from_secs(3_723)), "1:02:03"),
            (duration(Duration::from_secs(900)), "15m"),
            (duration(Duration::from_secs(5_400)), "1h30m"),
            (duration(Duration::from_millis(1_500)), "1.5s"),
            (duration(Duration::ZERO), "0s"),
            (count(1, "pod"), "1 pod"),
            (count(2_000, "pod"), "2,000 pods"),
        ];
        for (got, expected) in table {
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn seconds_count_from_the_beginning_and_round_down_on_both_sides() {
        let begun = Time::from_secs(20);
        let table = [
            (Time::from_micros(20_000_999), "0.000"),
            (Time::from_millis(21_500), "1.500"),
            (Time::from_millis(18_750), "-1.250"),
            (Time::from_micros(19_999_999), "-0.001"),
        ];
        for (at, expected) in table {
            assert_eq!(seconds(at, begun), expected);
        }
        assert_eq!(clock(Time::from_secs(85), begun), "01:05");
        assert_eq!(clock(Time::from_secs(5), begun), "-00:15");
        assert_eq!(clock(Time::from_millis(19_999), begun), "-00:01");
        let table = [
            (Time::from_millis(1_220_002), "20:00.002"),
            (Time::from_millis(3_720_000), "1:01:40.000"),
            (Time::from_millis(18_750), "-00:01.250"),
            (Time::from_micros(19_999_999), "-00:00.001"),
        ];
        for (at, expected) in table {
            assert_eq!(moment(at, begun), expected);
        }
    }
}
