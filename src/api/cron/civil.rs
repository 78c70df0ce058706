//! Days and times of day, there and back, and how Go prints them.

use jiff::tz::TimeZone;

use super::{MONTHS, WEEKDAYS, offset};

/// `time.Time.Format(time.RFC3339)` of an instant (seconds since the Unix epoch) in a zone.
pub fn rfc3339(at_s: i64, zone: &TimeZone) -> String {
    let offset = i64::from(offset(Some(zone), at_s));
    let civil = Civil::of(at_s + offset);
    let minutes = offset / 60;
    let suffix = match minutes {
        0 => "Z".to_owned(),
        m => {
            let sign = if m < 0 { '-' } else { '+' };
            format!("{sign}{:02}:{:02}", m.abs() / 60, m.abs() % 60)
        }
    };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{suffix}",
        civil.year, civil.month, civil.day, civil.hour, civil.minute, civil.second
    )
}

/// `time.Time.Format(time.RFC1123Z)` of an instant in UTC.
pub fn rfc1123(at_s: i64) -> String {
    let civil = Civil::of(at_s);
    let title = |name: &str| {
        let mut letters = name.chars();
        let first = letters.next().map(|c| c.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    let month = usize::try_from(civil.month - 1).unwrap_or(0);
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} +0000",
        title(WEEKDAYS.names[civil.weekday() as usize]),
        civil.day,
        title(MONTHS.names[month]),
        civil.year,
        civil.hour,
        civil.minute,
        civil.second
    )
}

/// A day and a time of day on some clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Civil {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
}

pub(super) const DAY_S: i64 = 86_400;

impl Civil {
    /// Of seconds since 1970-01-01 00:00 on the same clock (Hinnant's algorithm).
    pub(super) fn of(local_s: i64) -> Civil {
        let (days, rest) = (local_s.div_euclid(DAY_S), local_s.rem_euclid(DAY_S));
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        Civil {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: of_year - (153 * from_march + 2) / 5 + 1,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
        }
    }

    /// Seconds since 1970-01-01 00:00 on the same clock; a month or day too large goes over into
    /// the next year or month, as `time.Date` has it.
    pub(super) fn seconds(self) -> i64 {
        let year = self.year + (self.month - 1).div_euclid(12);
        let month = (self.month - 1).rem_euclid(12) + 1;
        let shifted = year - i64::from(month <= 2);
        let era = shifted.div_euclid(400);
        let year_of_era = shifted.rem_euclid(400);
        let from_march = if month > 2 { month - 3 } else { month + 9 };
        let of_year = (153 * from_march + 2) / 5;
        let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
        let days = era * 146_097 + of_era - 719_468 + self.day - 1;
        days * DAY_S + self.hour * 3600 + self.minute * 60 + self.second
    }

    /// 0 is Sunday.
    pub(super) fn weekday(self) -> i64 {
        (self.seconds().div_euclid(DAY_S) + 4).rem_euclid(7)
    }
}
