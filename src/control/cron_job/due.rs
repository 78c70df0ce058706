//! When a CronJob is due: the last start it should have made, and when to look again.
//!
//! Ports of `pkg/controller/cronjob/utils.go`. Times are counted from the Unix epoch.

use std::time::Duration;

use crate::api::CronJob;
use crate::api::cron::{CronError, Schedule, zone};
use crate::api::meta::recorded;
use crate::engine::Time;

const SECOND: i64 = 1_000_000_000;
/// `nextScheduleDelta`.
const DELTA_NS: i64 = 100_000_000;

/// An instant in nanoseconds since the Unix epoch.
pub type UnixNs = i64;

/// What `mostRecentScheduleTime` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MostRecent {
    /// From when on starts were looked for.
    pub earliest: UnixNs,
    /// The last start that is due, in seconds.
    pub due_s: Option<i64>,
    /// How many starts there were since, roughly.
    pub missed: i64,
}

/// The schedule on the CronJob's clock (`formatSchedule` and the parser).
///
/// # Errors
/// What is wrong with schedule or zone.
pub fn schedule(cron: &CronJob) -> Result<Schedule, CronError> {
    let schedule = Schedule::parse(&cron.schedule)?;
    match &cron.time_zone {
        Some(name) if !cron.schedule.contains("TZ") => Ok(schedule.on_clock_of(zone(name)?)),
        _ => Ok(schedule),
    }
}

/// Nanoseconds since the Unix epoch of an instant of the run.
pub fn unix(time: Time, epoch_s: i64) -> UnixNs {
    let nanos = i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    nanos.saturating_add(epoch_s.saturating_mul(SECOND))
}

/// `mostRecentScheduleTime`.
///
/// # Errors
/// When no two starts of the schedule are a second apart, as for 31 February.
pub fn most_recent(
    cron: &CronJob,
    now: UnixNs,
    epoch_s: i64,
    schedule: &Schedule,
    with_deadline: bool,
) -> Result<MostRecent, &'static str> {
    let since = cron.status.last_schedule.unwrap_or(cron.meta.created);
    let mut earliest = unix(recorded(since), epoch_s);
    if let (true, Some(deadline)) = (with_deadline, cron.starting_deadline_s) {
        earliest = earliest.max(now.saturating_sub(deadline.saturating_mul(SECOND)));
    }
    let found = |due_s, missed| {
        Ok(MostRecent {
            earliest,
            due_s,
            missed,
        })
    };
    let none = "time difference between two schedules is less than 1 second";
    let first = schedule.next(earliest.div_euclid(SECOND)).ok_or(none)?;
    if now < first.saturating_mul(SECOND) {
        return found(None, 0);
    }
    let second = schedule.next(first).ok_or(none)?;
    if now < second.saturating_mul(SECOND) {
        return found(Some(first), 0);
    }
    let between = second - first;
    if between < 1 {
        return Err(none);
    }
    let elapsed = (now - first * SECOND) / SECOND;
    let missed = elapsed / between + 1;
    let mut last = None;
    let mut from = first + (missed - 2) * between;
    while let Some(at) = schedule.next(from).filter(|at| at * SECOND <= now) {
        last = Some(at);
        from = at;
    }
    found(last, missed)
}

/// `nextScheduleTimeDuration`: until the next start, and a tenth of a second more.
pub fn until_next(cron: &CronJob, now: UnixNs, epoch_s: i64, schedule: &Schedule) -> Duration {
    let from = match most_recent(cron, now, epoch_s, schedule, false) {
        Ok(MostRecent {
            due_s: Some(due), ..
        }) => due * SECOND,
        Ok(recent) if recent.missed == 0 => recent.earliest,
        _ => now,
    };
    let next = schedule
        .next(from.div_euclid(SECOND))
        .unwrap_or(i64::MAX / SECOND - 1);
    let wait = next.saturating_mul(SECOND).saturating_add(DELTA_NS) - now;
    Duration::from_nanos(u64::try_from(wait).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60;

    fn cron(schedule: &str, last_min: Option<u64>, deadline_s: Option<i64>) -> CronJob {
        let mut cron = CronJob {
            schedule: schedule.into(),
            starting_deadline_s: deadline_s,
            ..CronJob::default()
        };
        cron.status.last_schedule = last_min.map(|min| Time::from_secs(min * MINUTE));
        cron
    }

    /// `utils_test.go :: TestMostRecentScheduleTime`, with a clock that begins at the epoch.
    #[test]
    fn the_last_start_that_is_due_is_found() {
        // schedule, last start (minute), deadline (s), now (s), due (minute), missed
        let table = [
            ("0 * * * *", None, None, 59 * 60, None, 0),
            ("0 * * * *", None, None, 60 * 60, Some(60), 0),
            ("0 * * * *", Some(60), None, 100 * 60, None, 0),
            // 120, 180 and 240 are due at 4 h 10 min
            ("0 * * * *", Some(60), None, 250 * 60, Some(240), 3),
            ("* * * * *", Some(0), None, 101 * 60, Some(101), 101),
            // with a deadline of 200 s only the last three minutes are looked at
            ("* * * * *", Some(0), Some(200), 101 * 60, Some(101), 4),
            // every 90 minutes counts from the last start: 90, 180, 270
            ("@every 90m", Some(0), None, 300 * 60, Some(270), 3),
            // weekdays only (day 0 was a Thursday): on Sunday the last one is Friday's, the next is
            // Monday's
            (
                "0 0 * * 1-5",
                Some(0),
                None,
                3 * 1440 * 60 + 60,
                Some(1440),
                0,
            ),
        ];
        for (schedule_text, last, deadline, now_s, due_min, missed) in table {
            let cron = cron(schedule_text, last, deadline);
            let schedule = schedule(&cron).unwrap();
            let recent = most_recent(&cron, now_s * SECOND, 0, &schedule, true).unwrap();
            let due_min = due_min.map(|min: i64| min * 60);
            assert_eq!(
                (recent.due_s, recent.missed),
                (due_min, missed),
                "{schedule_text}"
            );
        }
        let never = cron("59 23 31 2 *", None, None);
        let schedule = schedule(&never).unwrap();
        assert!(most_recent(&never, SECOND, 0, &schedule, true).is_err());
    }

    /// `utils_test.go :: TestNextScheduleTimeDuration`.
    #[test]
    fn the_next_look_is_a_tenth_of_a_second_after_the_next_start() {
        // last start (minute), now (ms), wait (ms)
        let table = [
            (Some(1), 61_000, 59_100),
            (Some(1), 119_950, 150),
            (Some(1), 120_000, 60_100),
            (None, 0, 60_100),
            // missed ones do not bring the next nearer
            (Some(1), 605_000, 55_100),
        ];
        for (last, now_ms, wait_ms) in table {
            let cron = cron("* * * * *", last, None);
            let schedule = schedule(&cron).unwrap();
            let wait = until_next(&cron, now_ms * 1_000_000, 0, &schedule);
            assert_eq!(wait, Duration::from_millis(wait_ms), "{last:?} at {now_ms}");
        }
    }
}
