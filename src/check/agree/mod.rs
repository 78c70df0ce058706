//! A simulated run against real ones: the same decisions, the same ends, times that are near.
//!
//! Everything here is a function of [`RunRecord`]s of one scenario and seed. Objects are matched by
//! what they are and not by their generated names ([`names`]). [`decisions`] compares what must be
//! equal: each object's own history, final states, restarts, exit codes, the reasons of KubeEvents.
//! [`measures`] compares what is measured: the time from one milestone to the next, and what
//! requests met; there the median of the real runs counts, and each row says what it tolerates.

pub mod decisions;

pub mod measures;

pub mod names;

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
    measures::times(simulated, real, &mut agreement);
    measures::requests(simulated, real, &mut agreement.rows);
    agreement
}
