//! Schedules of CronJobs: what a line of crontab means, and when it is due next.
//!
//! What it is: the grammar and the search for the next time of `github.com/robfig/cron/v3`, the
//! library that the CronJob controller and the API server's validation use, with its answers where
//! clocks are put forward or back. The zone database is the bundled one, so that a schedule means
//! the same on every machine.
//!
//! What it does not know: CronJobs. Times are seconds since the Unix epoch, in UTC.
//!
//! Read first: [`Schedule::parse`], then [`Schedule::next`].

pub mod civil;

use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::quote::{quote, quote_bytes};
use civil::Civil;

/// Set in a field that was written with a star (or `?`): days of month and of week are then both
/// looked at, where otherwise one of them is enough.
const STAR: u64 = 1 << 63;

/// When something is due again and again.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// Five fields, or a word that stands for them.
    Fields(Fields),
    /// `@every 90m`: so many seconds after the last time, at least one.
    Every(i64),
}

/// The five fields as sets of bits, and the clock that they are read on.
#[derive(Clone, Debug, PartialEq)]
pub struct Fields {
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
    zone: Option<TimeZone>,
}

/// What is wrong with a schedule, in the words of the library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronError(pub String);

impl fmt::Display for CronError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CronError {}

fn refuse<T>(message: String) -> Result<T, CronError> {
    Err(CronError(message))
}

/// The values that a field may have, and names for some.
struct Bounds {
    min: u64,
    max: u64,
    names: &'static [&'static str],
    /// The value of the first name.
    first: u64,
}

const MINUTES: Bounds = Bounds::plain(0, 59);
const HOURS: Bounds = Bounds::plain(0, 23);
const DAYS: Bounds = Bounds::plain(1, 31);
const MONTHS: Bounds = Bounds {
    min: 1,
    max: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
    first: 1,
};
const WEEKDAYS: Bounds = Bounds {
    min: 0,
    max: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    first: 0,
};

impl Bounds {
    const fn plain(min: u64, max: u64) -> Bounds {
        Bounds {
            min,
            max,
            names: &[],
            first: 0,
        }
    }

    /// Every value, with the star.
    fn all(&self) -> u64 {
        bits(self.min, self.max, 1) | STAR
    }
}

/// The zone of this name (`time.LoadLocation`): empty is UTC, upper and lower case differ.
///
/// # Errors
/// `unknown time zone …`, `time: invalid location name`.
pub fn zone(name: &str) -> Result<TimeZone, CronError> {
    // The controller manager's own clock is UTC.
    if matches!(name, "" | "UTC" | "Local") {
        return Ok(TimeZone::UTC);
    }
    if name.contains("..") || name.starts_with(['/', '\\']) {
        return refuse("time: invalid location name".to_owned());
    }
    let found = TimeZone::get(name).ok();
    let exact = found.filter(|zone| zone.iana_name() == Some(name));
    exact.ok_or_else(|| CronError(format!("unknown time zone {name}")))
}

impl Schedule {
    /// Reads a schedule as `cron.ParseStandard` does, including a zone in front of it
    /// (`TZ=Europe/Berlin 0 3 * * *`).
    ///
    /// # Errors
    /// What is wrong, in the library's words.
    pub fn parse(text: &str) -> Result<Schedule, CronError> {
        if text.is_empty() {
            return refuse("empty spec string".into());
        }
        let (mut rest, mut clock) = (text, None);
        if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
            let from = text.find('=').map_or(0, |at| at + 1);
            // Without a blank the library panics; whoever calls it makes an error of that.
            let Some(blank) = text.find(' ') else {
                return refuse(
                    "invalid schedule format: runtime error: slice bounds out of range [:-1]"
                        .into(),
                );
            };
            let name = &text[from..blank];
            match zone(name) {
                Ok(zone) => clock = Some(zone),
                Err(error) => return refuse(format!("provided bad location {name}: {error}")),
            }
            rest = text[blank..].trim();
        }
        if rest.starts_with('@') {
            return descriptor(rest, clock);
        }
        let words: Vec<&str> = rest.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = words[..] else {
            let (count, shown) = (words.len(), words.join(" "));
            return refuse(format!(
                "expected exactly 5 fields, found {count}: [{shown}]"
            ));
        };
        Ok(Schedule::Fields(Fields {
            minute: field(minute, &MINUTES)?,
            hour: field(hour, &HOURS)?,
            day: field(day, &DAYS)?,
            month: field(month, &MONTHS)?,
            weekday: field(weekday, &WEEKDAYS)?,
            zone: clock,
        }))
    }

    /// The same schedule on the clock of another zone; one with a zone of its own keeps it.
    #[must_use]
    pub fn on_clock_of(mut self, zone: TimeZone) -> Schedule {
        if let Schedule::Fields(fields) = &mut self {
            fields.zone.get_or_insert(zone);
        }
        self
    }

    /// The first time after `from_s` (seconds since the Unix epoch, whole) that is due; none when
    /// there is none within five years, as for 31 February.
    pub fn next(&self, from_s: i64) -> Option<i64> {
        match self {
            Schedule::Every(seconds) => Some(from_s + seconds),
            Schedule::Fields(fields) => fields.next(from_s),
        }
    }
}

/// `parseDescriptor`.
fn descriptor(text: &str, zone: Option<TimeZone>) -> Result<Schedule, CronError> {
    let all = Fields {
        minute: 1,
        hour: 1,
        day: DAYS.all(),
        month: MONTHS.all(),
        weekday: WEEKDAYS.all(),
        zone,
    };
    let fields = match text {
        "@yearly" | "@annually" => Fields {
            day: 1 << 1,
            month: 1 << 1,
            ..all
        },
        "@monthly" => Fields { day: 1 << 1, ..all },
        "@weekly" => Fields { weekday: 1, ..all },
        "@daily" | "@midnight" => all,
        "@hourly" => Fields {
            hour: HOURS.all(),
            ..all
        },
        other => match other.strip_prefix("@every ") {
            Some(span) => return every(text, span),
            None => return refuse(format!("unrecognized descriptor: {text}")),
        },
    };
    Ok(Schedule::Fields(fields))
}

/// `@every`: whole seconds, at least one; a negative span counts as one, too.
fn every(text: &str, span: &str) -> Result<Schedule, CronError> {
    let unsigned = span.strip_prefix('-').unwrap_or(span);
    let signed_twice = unsigned.starts_with(['-', '+']) && unsigned.len() < span.len();
    match super::duration::parse(unsigned) {
        Ok(length) if !signed_twice && unsigned.len() == span.len() => {
            let seconds = i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
            Ok(Schedule::Every(seconds.max(1)))
        }
        Ok(_) if !signed_twice => Ok(Schedule::Every(1)),
        _ => {
            let why = go_duration_error(span);
            refuse(format!("failed to parse duration {text}: {why}"))
        }
    }
}

/// What `time.ParseDuration` says about a text that it refuses.
fn go_duration_error(span: &str) -> String {
    let quoted = quote_bytes(span);
    let mut rest = span.strip_prefix(['-', '+']).unwrap_or(span);
    if rest.is_empty() {
        return format!("time: invalid duration {quoted}");
    }
    while !rest.is_empty() {
        let number = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let after = &rest[number..];
        let fraction = after.strip_prefix('.').map(|tail| {
            let end = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            (end, &tail[end..])
        });
        let (digits, after) = match fraction {
            Some((digits, tail)) => (number + digits, tail),
            None => (number, after),
        };
        if digits == 0 {
            return format!("time: invalid duration {quoted}");
        }
        let unit = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        match &after[..unit] {
            "" => return format!("time: missing unit in duration {quoted}"),
            "ns" | "us" | "\u{b5}s" | "\u{3bc}s" | "ms" | "s" | "m" | "h" => {}
            unit => {
                let unit = quote_bytes(unit);
                return format!("time: unknown unit {unit} in duration {quoted}");
            }
        }
        rest = &after[unit..];
    }
    format!("time: invalid duration {quoted}")
}

/// `getField`: ranges with commas between them.
fn field(text: &str, bounds: &Bounds) -> Result<u64, CronError> {
    let ranges = text.split(',').filter(|part| !part.is_empty());
    ranges
        .map(|part| range(part, bounds))
        .try_fold(0, |all, part| Ok(all | part?))
}

/// `getRange`: `N`, `N-M`, `*` or `?`, each perhaps with `/STEP`.
fn range(text: &str, bounds: &Bounds) -> Result<u64, CronError> {
    let mut slashes = text.split('/');
    let span = slashes.next().unwrap_or_default();
    let steps: Vec<&str> = slashes.collect();
    let ends: Vec<&str> = span.split('-').collect();
    let mut star = 0;
    let (start, mut end) = if matches!(ends[0], "*" | "?") {
        star = STAR;
        (bounds.min, bounds.max)
    } else {
        let start = value(ends[0], bounds)?;
        match ends[1..] {
            [] => (start, start),
            [end] => (start, value(end, bounds)?),
            _ => return refuse(format!("too many hyphens: {text}")),
        }
    };
    let step = match steps[..] {
        [] => 1,
        [step] => {
            let step = number(step)?;
            // "N/step" means "N-max/step".
            if ends.len() == 1 {
                end = bounds.max;
            }
            if step > 1 {
                star = 0;
            }
            step
        }
        _ => return refuse(format!("too many slashes: {text}")),
    };
    let (min, max) = (bounds.min, bounds.max);
    if start < min {
        return refuse(format!(
            "beginning of range ({start}) below minimum ({min}): {text}"
        ));
    }
    if end > max {
        return refuse(format!(
            "end of range ({end}) above maximum ({max}): {text}"
        ));
    }
    if start > end {
        return refuse(format!(
            "beginning of range ({start}) beyond end of range ({end}): {text}"
        ));
    }
    if step == 0 {
        return refuse(format!("step of range should be a positive number: {text}"));
    }
    Ok(bits(start, end, step) | star)
}

/// `parseIntOrName`.
fn value(text: &str, bounds: &Bounds) -> Result<u64, CronError> {
    let lower = text.to_lowercase();
    match (0..).zip(bounds.names).find(|(_, name)| **name == lower) {
        Some((at, _)) => Ok(bounds.first + at),
        None => number(text),
    }
}

/// `mustParseInt`.
fn number(text: &str) -> Result<u64, CronError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let why = match text.parse::<i64>() {
        Ok(number) if number < 0 => {
            return refuse(format!("negative number ({number}) not allowed: {text}"));
        }
        Ok(number) if plain => return Ok(number.unsigned_abs()),
        _ if plain => "value out of range",
        _ => "invalid syntax",
    };
    refuse(format!(
        "failed to parse int from {text}: strconv.Atoi: parsing {}: {why}",
        quote(text)
    ))
}

/// `getBits`.
fn bits(min: u64, max: u64, step: u64) -> u64 {
    let mut bits = 0;
    let mut at = min;
    while at <= max {
        bits |= 1 << at;
        at = at.saturating_add(step);
    }
    bits
}

/// The offset of a zone from UTC in seconds.
fn offset(zone: Option<&TimeZone>, at_s: i64) -> i32 {
    let Some(zone) = zone else { return 0 };
    Timestamp::from_second(at_s).map_or(0, |at| zone.to_offset(at).seconds())
}

impl Fields {
    fn civil(&self, at_s: i64) -> Civil {
        Civil::of(at_s + i64::from(offset(self.zone.as_ref(), at_s)))
    }

    /// `time.Date`: where a clock shows a time twice or never, one of two instants, chosen as Go
    /// does.
    fn date(&self, civil: Civil) -> i64 {
        let local = civil.seconds();
        match i64::from(offset(self.zone.as_ref(), local)) {
            0 => local,
            guess => local - i64::from(offset(self.zone.as_ref(), local - guess)),
        }
    }

    /// `dayMatches`.
    fn day_matches(&self, civil: Civil) -> bool {
        let day = self.day & (1 << civil.day) != 0;
        let weekday = self.weekday & (1 << civil.weekday()) != 0;
        if (self.day | self.weekday) & STAR != 0 {
            day && weekday
        } else {
            day || weekday
        }
    }

    /// `SpecSchedule.Next`, with whole seconds.
    fn next(&self, from_s: i64) -> Option<i64> {
        let mut at = from_s + 1;
        let last_year = self.civil(at).year + 5;
        let mut added = false;
        while self.civil(at).year <= last_year {
            let searches = [
                Self::month,
                Self::days,
                Self::hours,
                Self::minutes,
                Self::seconds,
            ];
            if searches
                .iter()
                .all(|search| search(self, &mut at, &mut added))
            {
                return Some(at);
            }
        }
        None
    }

    /// Goes on to a month that fits; false when that led into another year.
    fn month(&self, at: &mut i64, added: &mut bool) -> bool {
        loop {
            let civil = self.civil(*at);
            if self.month & (1 << civil.month) != 0 {
                return true;
            }
            let mut start = civil;
            if !*added {
                *added = true;
                start = Civil {
                    day: 1,
                    hour: 0,
                    minute: 0,
                    second: 0,
                    ..civil
                };
                start = self.civil(self.date(start));
            }
            start.month += 1;
            *at = self.date(start);
            if self.civil(*at).month == 1 {
                return false;
            }
        }
    }

    /// Goes on to a day that fits; false when that led into another month.
    fn days(&self, at: &mut i64, added: &mut bool) -> bool {
        loop {
            let civil = self.civil(*at);
            if self.day_matches(civil) {
                return true;
            }
            let mut start = civil;
            if !*added {
                *added = true;
                start = Civil {
                    hour: 0,
                    minute: 0,
                    second: 0,
                    ..civil
                };
                start = self.civil(self.date(start));
            }
            start.day += 1;
            *at = self.date(start);
            // Midnight may not exist.
            match self.civil(*at).hour {
                0 => {}
                hour if hour > 12 => *at += (24 - hour) * 3600,
                hour => *at -= hour * 3600,
            }
            if self.civil(*at).day == 1 {
                return false;
            }
        }
    }

    /// Goes on to an hour that fits; false when that led into another day.
    fn hours(&self, at: &mut i64, added: &mut bool) -> bool {
        loop {
            let civil = self.civil(*at);
            if self.hour & (1 << civil.hour) != 0 {
                return true;
            }
            if !*added {
                *added = true;
                *at = self.date(Civil {
                    minute: 0,
                    second: 0,
                    ..civil
                });
            }
            *at += 3600;
            if self.civil(*at).hour == 0 {
                return false;
            }
        }
    }

    /// Goes on to a minute that fits; false when that led into another hour.
    fn minutes(&self, at: &mut i64, added: &mut bool) -> bool {
        loop {
            if self.minute & (1 << self.civil(*at).minute) != 0 {
                return true;
            }
            if !*added {
                *added = true;
                *at -= at.rem_euclid(60);
            }
            *at += 60;
            if self.civil(*at).minute == 0 {
                return false;
            }
        }
    }

    /// Goes on to second 0; false when that led into another minute.
    fn seconds(&self, at: &mut i64, added: &mut bool) -> bool {
        while self.civil(*at).second != 0 {
            *added = true;
            *at += 1;
            if self.civil(*at).second == 0 {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
