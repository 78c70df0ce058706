//! What schedules mean, in cases that the recordings do not hold (`robfig/cron`'s own
//! `spec_test.go` and `parser_test.go` gave the ideas).

use super::civil::{DAY_S, rfc1123, rfc3339};
use super::*;

fn at(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_second()
}

/// The next times of a schedule as UTC instants, blank between them.
fn next(schedule: &str, from: &str, count: usize) -> String {
    let schedule = Schedule::parse(schedule).unwrap();
    let mut from = at(from);
    let mut printed = Vec::new();
    for _ in 0..count {
        match schedule.next(from) {
            Some(due) => {
                printed.push(rfc3339(due, &TimeZone::UTC));
                from = due;
            }
            None => printed.push("never".to_owned()),
        }
    }
    printed.join(" ")
}

#[test]
fn schedules_are_due_when_crontab_says() {
    let table = [
        // every fifteen minutes, also over the end of a year
        (
            "0/15 * * * *",
            "2012-07-09T14:45:00Z",
            "2012-07-09T15:00:00Z",
        ),
        (
            "20-35/15 * * * *",
            "2012-12-31T23:45:51Z",
            "2013-01-01T00:20:00Z",
        ),
        // either day of month or day of week
        (
            "0 0 1 * mon",
            "2026-01-02T00:00:00Z",
            "2026-01-05T00:00:00Z",
        ),
        // a star in one: both
        (
            "0 0 * * mon",
            "2026-01-01T00:00:00Z",
            "2026-01-05T00:00:00Z",
        ),
        // a step of one keeps the star, a larger one does not
        (
            "0 0 */1 * mon",
            "2026-01-01T00:00:00Z",
            "2026-01-05T00:00:00Z",
        ),
        (
            "0 0 */2 * mon",
            "2026-01-02T00:00:00Z",
            "2026-01-03T00:00:00Z",
        ),
        // leap years; 31 February never
        (
            "0 0 29 feb ?",
            "2025-01-01T00:00:00Z",
            "2028-02-29T00:00:00Z",
        ),
        ("0 0 31 2 *", "2025-01-01T00:00:00Z", "never"),
        // an empty list of minutes fits none
        (", * * * *", "2025-01-01T00:00:00Z", "never"),
        ("@every 90m", "2025-01-01T00:00:30Z", "2025-01-01T01:30:30Z"),
        (
            "@every 1500ms",
            "2025-01-01T00:00:30Z",
            "2025-01-01T00:00:31Z",
        ),
        ("@every -5m", "2025-01-01T00:00:30Z", "2025-01-01T00:00:31Z"),
        ("@weekly", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
    ];
    for (schedule, from, expected) in table {
        assert_eq!(next(schedule, from, 1), expected, "{schedule} from {from}");
    }
}

#[test]
fn clocks_put_forward_skip_and_clocks_put_back_repeat() {
    // Berlin leaves out 02:00 to 03:00 on 2026-03-29: that night has no 02:30.
    assert_eq!(
        next("TZ=Europe/Berlin 30 2 * * *", "2026-03-28T12:00:00Z", 2),
        "2026-03-30T00:30:00Z 2026-03-31T00:30:00Z"
    );
    // It shows 02:30 twice on 2026-10-25 (00:30 and 01:30 UTC): both are due.
    assert_eq!(
        next(
            "CRON_TZ=Europe/Berlin 30 2 * * *",
            "2026-10-24T12:00:00Z",
            3
        ),
        "2026-10-25T00:30:00Z 2026-10-25T01:30:00Z 2026-10-26T01:30:00Z"
    );
}

#[test]
fn refusals_are_in_the_library_s_words() {
    let table = [
        ("", "empty spec string"),
        ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("* * * * 1-9", "end of range (9) above maximum (6): 1-9"),
        ("*/-1 * * * *", "negative number (-1) not allowed: -1"),
        (
            "9999999999999999999 * * * *",
            "failed to parse int from 9999999999999999999: strconv.Atoi: parsing \
             \"9999999999999999999\": value out of range",
        ),
        ("@unrecognized", "unrecognized descriptor: @unrecognized"),
        (
            "@every 1",
            "failed to parse duration @every 1: time: missing unit in duration \"1\"",
        ),
        (
            "@every 1x",
            "failed to parse duration @every 1x: time: unknown unit \"x\" in duration \"1x\"",
        ),
        (
            "@every xm",
            "failed to parse duration @every xm: time: invalid duration \"xm\"",
        ),
        (
            "TZ=Mars/Olympus 0 0 * * *",
            "provided bad location Mars/Olympus: unknown time zone Mars/Olympus",
        ),
        (
            "TZ=europe/berlin 0 0 * * *",
            "provided bad location europe/berlin: unknown time zone europe/berlin",
        ),
    ];
    for (schedule, expected) in table {
        let error = Schedule::parse(schedule).unwrap_err();
        assert_eq!(error.to_string(), expected, "{schedule}");
    }
}

#[test]
fn civil_days_go_there_and_back() {
    for days in (-200_000..200_000).step_by(37) {
        let local = days * DAY_S + 3_661;
        assert_eq!(Civil::of(local).seconds(), local);
    }
    assert_eq!(
        rfc1123(at("2026-11-21T05:21:05Z")),
        "Sat, 21 Nov 2026 05:21:05 +0000"
    );
    let kolkata = zone("Asia/Kolkata").unwrap();
    assert_eq!(rfc3339(0, &kolkata), "1970-01-01T05:30:00+05:30");
}
