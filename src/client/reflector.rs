//! When a watch that broke is tried again.
//!
//! `staging/src/k8s.io/client-go/tools/cache/reflector.go :: NewReflectorWithOptions` with
//! `staging/src/k8s.io/apimachinery/pkg/util/wait/backoff.go :: backoffManager.Step`: waits of
//! 800 ms, doubled up to 30 s, each up to twice as long by chance; they begin anew when two minutes
//! have passed since they last did. Nobody is asked in vain here: when the server is back, the
//! attempts that would have failed since are counted through.

use std::time::Duration;

use crate::engine::Time;
use crate::engine::draws::{Draws, Purpose};

const JITTER: Purpose = Purpose::new("client/reflector");

/// `defaultBackoffInit`, `defaultBackoffMax`, `defaultBackoffReset`.
const FIRST: Duration = Duration::from_millis(800);
const LONGEST: Duration = Duration::from_secs(30);
const RESET: Duration = Duration::from_secs(120);

/// The first attempt at or after `back` of a client (by its key) whose watch broke at `broken`.
pub fn next_attempt(broken: Time, back: Time, draws: &Draws, client: u64) -> Time {
    let mut began = broken;
    let mut wait = FIRST;
    let mut at = broken;
    for n in 0u64.. {
        if at.since(began) > RESET {
            (began, wait) = (at, FIRST);
        }
        let unit = draws.unit(JITTER, client, broken.as_nanos().wrapping_add(n));
        at = at + wait + wait.mul_f64(unit);
        wait = (wait * 2).min(LONGEST);
        if at >= back {
            break;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute_and_begin_anew_every_two_minutes() {
        let broken = Time::from_secs(100);
        let mut latest = Duration::ZERO;
        for client in 0..200 {
            let draws = Draws::new(7);
            let first = next_attempt(broken, broken, &draws, client).since(broken);
            assert!(first >= FIRST && first < FIRST * 2, "{first:?}");
            // Attempts are the same whenever the server comes back.
            let mut at = broken;
            let mut waits = Vec::new();
            while at < broken + Duration::from_secs(600) {
                let next = next_attempt(broken, at + Duration::from_nanos(1), &draws, client);
                waits.push(next.since(at));
                at = next;
            }
            let longest = waits.iter().max().copied().unwrap_or_default();
            assert!(longest < LONGEST * 2, "{longest:?}");
            // 0.8 + 1.6 + 3.2 + 6.4 + 12.8 + 25.6 + 30 s and the chance on top pass two minutes
            // within seven or eight waits: so often it begins anew.
            let anew = waits.iter().filter(|wait| **wait < FIRST * 2).count();
            assert!((4..=9).contains(&anew), "{anew} of {waits:?}");
            latest = latest.max(longest);
        }
        assert!(latest > LONGEST, "{latest:?}");
    }
}
