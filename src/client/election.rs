//! Who leads: the loops of client-go's leader election.
//!
//! `staging/src/k8s.io/client-go/tools/leaderelection/leaderelection.go`: a candidate asks for the
//! lease every [`Timing::retry`] and up to 1.2 times more; it takes a lease that it has seen
//! unchanged for longer than [`Timing::lease`]. A leader renews every [`Timing::retry`]; when a round
//! of renewals has failed for [`Timing::renew_deadline`], it ends itself, and its kubelet starts it
//! again as somebody new, who has seen nothing yet.
//!
//! It does not know how requests go; whoever holds an [`Elector`] asks, and tells how it went.

use std::time::Duration;

use crate::engine::Time;

/// `JitterFactor`.
const JITTER: f64 = 1.2;

/// `--leader-elect` and its kin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Whether there is an election at all.
    pub elect: bool,
    /// `--leader-elect-lease-duration` (15 s).
    pub lease: Duration,
    /// `--leader-elect-renew-deadline` (10 s).
    pub renew_deadline: Duration,
    /// `--leader-elect-retry-period` (2 s).
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            elect: true,
            lease: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

impl Timing {
    /// How long a candidate waits until it asks again; `unit` is a draw from 0 to 1.
    pub fn candidate_wait(&self, unit: f64) -> Duration {
        self.retry + self.retry.mul_f64(unit * JITTER)
    }

    /// The client's timeout for one request about the lease.
    pub fn timeout(&self) -> Duration {
        self.renew_deadline / 2
    }
}

/// The lease as it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// Who holds it; 0 for nobody.
    pub holder: u64,
    /// When it was renewed last.
    pub renewed: Time,
}

/// What an elector is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It asks for the lease.
    Candidate {
        /// The lease as it was seen, and since when it has been so.
        seen: Option<(Lock, Time)>,
    },
    /// It holds the lease.
    Leader {
        /// When the round of renewals began that has not succeeded yet.
        round: Option<Time>,
    },
    /// Its process has ended and will be started again.
    Ended,
}

/// One process that wants to lead.
#[derive(Clone, Copy, Debug)]
pub struct Elector {
    /// Who it is; another after each start.
    pub identity: u64,
    /// What it is about.
    pub state: State,
}

/// What follows from an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask again then.
    Ask(Time),
    /// The lease is its own now; renew it then.
    Lead(Time),
    /// The deadline passes then, and nothing is asked before: see [`Elector::late`].
    Late(Time),
}

impl Elector {
    /// A process that has just started.
    pub fn candidate(identity: u64) -> Self {
        let state = State::Candidate { seen: None };
        Elector { identity, state }
    }

    /// Whether a candidate that reads this lease now takes it.
    pub fn would_take(&self, lock: &Lock, now: Time, timing: &Timing) -> bool {
        let State::Candidate { seen } = self.state else {
            return false;
        };
        let old = seen.is_some_and(|(old, since)| old == *lock && since + timing.lease <= now);
        lock.holder == 0 || old
    }

    /// Whether a leader's round of renewals has failed for too long.
    pub fn late(&self, now: Time, timing: &Timing) -> bool {
        let State::Leader { round: Some(began) } = self.state else {
            return false;
        };
        now >= began + timing.renew_deadline
    }

    /// It asked at `asked` and was answered at `now`: with the lease as it is, or with nothing.
    /// `unit` is a draw from 0 to 1.
    pub fn answered(
        &mut self,
        (asked, now): (Time, Time),
        lock: Option<&mut Lock>,
        timing: &Timing,
        unit: f64,
    ) -> Next {
        match self.state {
            State::Leader { round } => self.renewed((asked, now), round, lock, timing),
            State::Candidate { seen } => {
                let again = Next::Ask(now + timing.candidate_wait(unit));
                let Some(lock) = lock else { return again };
                let since = match seen {
                    Some((old, since)) if old == *lock => since,
                    _ => now,
                };
                self.state = State::Candidate {
                    seen: Some((*lock, since)),
                };
                if lock.holder != 0 && since + timing.lease > now {
                    return again;
                }
                *lock = Lock {
                    holder: self.identity,
                    renewed: now,
                };
                self.state = State::Leader { round: None };
                Next::Lead(now + timing.retry)
            }
            State::Ended => Next::Ask(now),
        }
    }

    fn renewed(
        &mut self,
        (asked, now): (Time, Time),
        round: Option<Time>,
        lock: Option<&mut Lock>,
        timing: &Timing,
    ) -> Next {
        if let Some(lock) = lock
            && lock.holder == self.identity
        {
            lock.renewed = now;
            self.state = State::Leader { round: None };
            return Next::Ask(now + timing.retry);
        }
        let began = round.unwrap_or(asked);
        self.state = State::Leader { round: Some(began) };
        // `PollUntilContextTimeout`: ticks since the round began; one that was missed is made up.
        let next = now.max(asked + timing.retry);
        let deadline = began + timing.renew_deadline;
        match next < deadline {
            true => Next::Ask(next),
            false => Next::Late(deadline.max(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn a_candidate_takes_a_lease_that_it_saw_unchanged_for_fifteen_seconds() {
        let timing = Timing::default();
        let mut lock = Lock {
            holder: 1,
            renewed: at(0),
        };
        let mut candidate = Elector::candidate(2);
        let mut ask =
            |lock: &mut Lock, ms| candidate.answered((at(ms), at(ms)), Some(lock), &timing, 0.0);
        // Seen at 1 s; another renewal is seen at 3 s: 15 s count from there.
        assert_eq!(ask(&mut lock, 1_000), Next::Ask(at(3_000)));
        lock.renewed = at(2_000);
        assert_eq!(ask(&mut lock, 3_000), Next::Ask(at(5_000)));
        assert_eq!(ask(&mut lock, 17_999), Next::Ask(at(19_999)));
        assert_eq!(ask(&mut lock, 18_000), Next::Lead(at(20_000)));
        assert_eq!((lock.holder, lock.renewed), (2, at(18_000)));
    }

    #[test]
    fn a_leader_that_cannot_renew_for_ten_seconds_is_late() {
        let timing = Timing::default();
        let mut leader = Elector {
            identity: 1,
            state: State::Leader { round: None },
        };
        let mut at_s = 4;
        let mut asked = Vec::new();
        let end = loop {
            asked.push(at_s);
            let now = at(at_s * 1000);
            match leader.answered((now, now), None, &timing, 0.0) {
                Next::Ask(next) => at_s = next.as_nanos() / 1_000_000_000,
                other => break other,
            }
        };
        // Refused at 4, 6, 8, 10, 12 s; 14 s is the deadline.
        assert_eq!(asked, [4, 6, 8, 10, 12]);
        assert_eq!(end, Next::Late(at(14_000)));
        assert!(!leader.late(at(13_999), &timing));
        assert!(leader.late(at(14_000), &timing));
        // A renewal in time ends the round.
        let mut lock = Lock {
            holder: 1,
            renewed: at(0),
        };
        let now = at(13_000);
        let next = leader.answered((now, now), Some(&mut lock), &timing, 0.0);
        assert_eq!(next, Next::Ask(at(15_000)));
        assert!(!leader.late(at(60_000), &timing));
    }

    #[test]
    fn who_was_deposed_is_late_in_the_end() {
        let timing = Timing::default();
        let mut lock = Lock {
            holder: 2,
            renewed: at(0),
        };
        let mut leader = Elector {
            identity: 1,
            state: State::Leader { round: None },
        };
        let now = at(0);
        let next = leader.answered((now, now), Some(&mut lock), &timing, 0.0);
        assert_eq!(next, Next::Ask(at(2_000)));
        assert_eq!(lock.holder, 2);
    }
}
