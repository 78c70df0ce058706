//! Requests in work: a place, CPU time, waiting, calls, the answer.

use std::time::Duration;

use super::calls::Calling;
use super::{Server, nanos, sys};
use crate::backend::linux::workload::http;
use crate::engine::Purpose;
use crate::load::tally::Cause;

/// The simulation's purposes: a request that says who it is draws what it would draw there.
const CPU: Purpose = Purpose::new("load/request-cpu");
const WAIT: Purpose = Purpose::new("load/request-wait");
const ERROR: Purpose = Purpose::new("load/request-error");
/// Identities of those that do not.
const ASKED: Purpose = Purpose::new("linux/request");

/// A request in work.
pub struct Job {
    pub stage: Stage,
    /// Whether it has one of the places.
    pub placed: bool,
    pub keep_alive: bool,
    /// Its identity, for draws.
    pub entity: u64,
    /// The client's attempts before this one.
    pub attempt: u32,
    /// Whether the calls of the model are made.
    pub calls: bool,
    pub probe: bool,
}

/// What a request does.
pub enum Stage {
    /// It waits for a place.
    Queued,
    /// So many pieces of its CPU work are left; then it waits so long (nanoseconds).
    Burning { pieces: u32, then: u64 },
    /// It waits until then.
    Waiting(u64),
    /// It calls others.
    Calling(Calling),
}

impl Job {
    /// When something is due for it.
    pub fn due(&self) -> Option<u64> {
        match &self.stage {
            Stage::Waiting(until) => Some(*until),
            Stage::Calling(calling) => Some(calling.due),
            Stage::Queued | Stage::Burning { .. } => None,
        }
    }
}

impl Server {
    /// A request has arrived.
    pub(super) fn begin(&mut self, token: u64, request: &http::Request, n: u64) {
        let aside = request.probe && self.model.shared_probe.is_none();
        let path = request.path.split('?').next().unwrap_or_default();
        let readiness = self.model.readiness.as_deref() == Some(path);
        let unknown = || (self.draws.u64(ASKED, self.model.entity, n), 0);
        let (entity, attempt) = request.id.unwrap_or_else(unknown);
        let mut job = Job {
            stage: Stage::Queued,
            placed: false,
            keep_alive: request.keep_alive,
            entity,
            attempt,
            calls: !request.probe || readiness,
            probe: request.probe,
        };
        let mut at_once = false;
        if aside {
            let unit = self.draws.unit(super::PROBE, self.model.entity, n);
            let pause = self.model.dedicated_probe.sample(unit);
            at_once = pause.is_zero();
            job.stage = Stage::Waiting(sys::monotonic() + nanos(pause));
        } else if self.active >= self.model.concurrency {
            if self.queue.len() >= self.model.queue as usize {
                return self.answer(token, 503, request.keep_alive);
            }
            self.queue.push_back(token);
        }
        let queued = matches!(job.stage, Stage::Queued);
        let waits = self.queue.back() == Some(&token);
        if let Some(connection) = self.connections.get_mut(&token) {
            connection.job = Some(job);
        }
        if queued && !waits {
            self.place(token);
        }
        if at_once {
            self.waited(token, sys::monotonic());
        }
        if self.model.memory.per_request > 0 {
            self.memory_due = 0;
        }
    }

    /// A request gets its place and begins to work.
    fn place(&mut self, token: u64) {
        let now = sys::monotonic();
        let draws = self.draws;
        let Some(job) = self
            .connections
            .get_mut(&token)
            .and_then(|c| c.job.as_mut())
        else {
            return;
        };
        let (entity, n) = (job.entity, u64::from(job.attempt));
        let cpu = match (&self.model.shared_probe, job.probe) {
            (Some(probe), true) => probe,
            _ => &self.model.cpu,
        };
        let cpu = nanos(cpu.sample(draws.unit(CPU, entity, n)));
        let wait = match (&self.model.wait, job.probe) {
            (Some(wait), false) => nanos(wait.sample(draws.unit(WAIT, entity, n))),
            _ => 0,
        };
        let cpu = warmed(cpu, &self.model, self.listening_since, now);
        // What a scaled-down host does not burn is waited for.
        let burnt = u128::from(cpu) * u128::from(self.model.cpu_permille) / 1000;
        let burnt = u64::try_from(burnt).unwrap_or(u64::MAX);
        let pieces = match job.probe {
            true => 1,
            false => self.model.threads.max(1),
        };
        let threads = u64::from(pieces);
        // Together they take one core so long; on as many as there are threads for, a part of it.
        let cores = threads.min(u64::from(self.model.cores.max(1)));
        let asleep = (cpu / threads).saturating_sub(burnt / cores);
        job.stage = Stage::Burning {
            pieces,
            then: wait.saturating_add(asleep),
        };
        job.placed = true;
        self.active += 1;
        self.burners.put(token, pieces, burnt / threads);
    }

    /// Computes for a slice.
    pub(super) fn burn(&mut self) {
        if let Some(token) = self.burners.take_turn() {
            self.burnt(token);
        }
    }

    /// Other threads have done pieces of work.
    pub(super) fn burnt_elsewhere(&mut self) {
        for token in self.burners.done() {
            self.burnt(token);
        }
    }

    /// A piece of a request's work is done.
    fn burnt(&mut self, token: u64) {
        let Some(job) = self
            .connections
            .get_mut(&token)
            .and_then(|c| c.job.as_mut())
        else {
            return;
        };
        let Stage::Burning { pieces, then } = &mut job.stage else {
            return;
        };
        *pieces -= 1;
        if *pieces > 0 {
            return;
        }
        let now = sys::monotonic();
        let until = now.saturating_add(*then);
        job.stage = Stage::Waiting(until);
        if until <= now {
            self.waited(token, now);
        }
    }

    /// A request's waiting is over, or its call has taken too long.
    pub(super) fn waited(&mut self, token: u64, now: u64) {
        let Some(job) = self
            .connections
            .get_mut(&token)
            .and_then(|c| c.job.as_mut())
        else {
            return;
        };
        match &job.stage {
            Stage::Waiting(_) if job.calls && !self.model.calls.is_empty() => {
                self.call(token, 0);
            }
            Stage::Waiting(_) => self.finish(token, true),
            Stage::Calling(calling) if calling.due <= now && calling.pausing => {
                self.attempt(token);
            }
            Stage::Calling(calling) if calling.due <= now => {
                self.attempt_failed(token, Cause::Timeout);
            }
            Stage::Calling(_) | Stage::Queued | Stage::Burning { .. } => {}
        }
    }

    /// The request is answered and gives its place to the next one.
    pub(super) fn finish(&mut self, token: u64, ok: bool) {
        let draws = self.draws;
        let Some(job) = self.connections.get_mut(&token).and_then(|c| c.job.take()) else {
            return;
        };
        let draw = draws.u64(ERROR, job.entity, u64::from(job.attempt));
        let unlucky = !job.probe
            && (u128::from(draw) * 1_000_000) >> 64 < u128::from(self.model.errors_per_million);
        let status = match (ok, unlucky) {
            (false, _) => 502,
            (true, true) => 500,
            (true, false) => 200,
        };
        if job.placed {
            self.active -= 1;
            self.served += u64::from(!job.probe);
        }
        if self.model.memory.per_request > 0 || self.model.memory.leak_per_request > 0 {
            self.memory_due = 0;
        }
        self.answer(token, status, job.keep_alive);
        while self.active < self.model.concurrency {
            let Some(next) = self.queue.pop_front() else {
                return;
            };
            self.place(next);
        }
    }
}

/// CPU time with the warm-up factor of `now`.
fn warmed(cpu: u64, model: &super::Workload, since: Option<u64>, now: u64) -> u64 {
    let (Some(warmup), Some(since)) = (model.warmup, since) else {
        return cpu;
    };
    let age = Duration::from_nanos(now.saturating_sub(since));
    if age >= warmup.over || warmup.factor_milli <= 1000 {
        return cpu;
    }
    let excess = u128::from(warmup.factor_milli - 1000);
    let left = (warmup.over - age).as_nanos() * excess / warmup.over.as_nanos();
    u64::try_from(u128::from(cpu) * (1000 + left) / 1000).unwrap_or(u64::MAX)
}
