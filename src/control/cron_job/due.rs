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
