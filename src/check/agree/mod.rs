//! A simulated run against real ones: the same decisions, the same ends, times that are near.
//!
//! Everything here is a function of [`RunRecord`]s of one scenario and seed. Objects are matched by
//! what they are and not by their generated names ([`names`]). [`decisions`] compares what must be
//! equal: each object's own history, final states, restarts, exit codes, the reasons of KubeEvents.
//! [`times`] compares the time from one milestone to the next, [`users`] what requests met; there the
//! median of the real runs counts, and each row says what it tolerates. [`series`] puts both sides
//! on one axis of time, for the picture.

pub mod decisions;

pub mod names;

pub mod series;

pub mod times;

pub mod users;

#[cfg(test)]
mod tests;

use crate::record::RunRecord;
use crate::record::agreement::Agreement;

/// Compares a simulated run with at least one real run.
pub fn agree(simulated: &RunRecord, real: &[RunRecord]) -> Agreement {
    let mut degraded: Vec<String> = Vec::new();
    for note in real.iter().flat_map(|run| &run.header.degraded) {
        if !degraded.contains(note) {
            degraded.push(note.clone());
        }
    }
    let mut agreement = Agreement {
        scenario: simulated.header.scenario.clone(),
        seed: simulated.header.seed,
        runs: real.len(),
        degraded,
        ..Agreement::default()
    };
    decisions::compare(simulated, real, &mut agreement.rows);
    times::compare(simulated, real, &mut agreement);
    users::compare(simulated, real, &mut agreement.rows);
    series::fill(simulated, real, &mut agreement);
    agreement
}
