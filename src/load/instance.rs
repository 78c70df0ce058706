//! A container's process as a server: places, queue, warm-up, memory.
//!
//! What happens to one request: it is accepted when the process listens, takes one of `concurrency`
//! places or waits in the queue, uses CPU ([`super::cpu`]), perhaps waits, perhaps calls other
//! Services, and is answered. The composition root moves it along; this module decides.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::model::{AppModel, OnSigterm};
use super::slab::Key;
use crate::engine::Time;

/// Where a process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It runs and does not listen, or has come up since without anybody's noticing.
    Starting,
    /// It serves.
    Serving,
    /// It was told to end, does not listen any more, and finishes what it has.
    Draining,
    /// Its node lost power: nobody was told.
    Vanished,
}

/// What becomes of a request that reaches a listening process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is served at once.
    Serve,
    /// It waits.
    Wait,
    /// 503.
    Full,
}

/// What a process does now that it was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It exits with this code.
    Exit(u8),
    /// It goes on; look again when it says so.
    GoesOn,
}

/// 128 + SIGTERM.
pub const EXIT_SIGTERM: u8 = 143;
/// 128 + SIGKILL.
pub const EXIT_SIGKILL: u8 = 137;

/// A running process.
#[derive(Clone, Debug)]
pub struct Instance {
    /// How it behaves.
    pub model: Arc<AppModel>,
    /// Its cgroup.
    pub group: Key,
    /// Key for draws: of pod, container and attempt.
    pub entity: u64,
    /// Where it is in its life.
    pub stage: Stage,
    /// Whether it is stopped by the freezer.
    pub frozen: bool,
    /// Whether it was told to end.
    pub terminating: bool,
    /// When it was started.
    pub started: Time,
    /// When it begins (or began) to listen.
    pub listens_at: Time,
    /// When it ends by itself.
    pub exits_at: Time,
    /// When lingering ends and draining begins.
    pub drains_at: Time,
    /// When draining ends at the latest.
    pub drained_at: Time,
    /// Memory limit in bytes.
    pub memory_limit: Option<u64>,
    /// Memory when idle, in bytes.
    pub memory_base: u64,
    /// Memory that others use in its cgroup, in bytes.
    pub ballast: u64,
    /// Requests being served.
    pub active: u32,
    /// Requests waiting for a place.
    pub queue: VecDeque<Key>,
    /// Requests served.
    pub served: u64,
}

impl Instance {
    /// Whether new connections are accepted.
    #[inline]
    pub fn listens(&self, now: Time) -> bool {
        match self.stage {
            Stage::Serving => true,
            Stage::Starting => self.listens_at <= now && !self.may_fail_to_come_up(),
            Stage::Draining | Stage::Vanished => false,
        }
    }

    /// Whether it looks around before it listens, and ends if something is not there. Where it does
    /// not, coming up is nothing that happens, but a matter of when somebody looks.
    fn may_fail_to_come_up(&self) -> bool {
        !self.model.needs.is_empty()
    }

    /// Takes a place for a request, or says that it must wait.
    #[inline]
    pub fn admit(&mut self) -> Admission {
        if self.active < self.model.request.concurrency {
            self.active += 1;
            Admission::Serve
        } else if self.queue.len() < self.model.request.queue as usize {
            Admission::Wait
        } else {
            Admission::Full
        }
    }

    /// CPU time with the warm-up factor of `now`.
    #[inline]
    pub fn warmed(&self, cpu: Duration, now: Time) -> Duration {
        let Some(warmup) = self.model.warmup else {
            return cpu;
        };
        let age = now.since(self.listens_at);
        if age >= warmup.over || warmup.factor_milli <= 1000 {
            return cpu;
        }
        let excess = u128::from(warmup.factor_milli - 1000);
        let left = (warmup.over - age).as_nanos() * excess / warmup.over.as_nanos();
        let nanos = cpu.as_nanos() * (1000 + left) / 1000;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Working set in bytes.
    pub fn memory(&self, now: Time) -> u64 {
        let model = &self.model.memory;
        let requests = u64::from(self.active) + self.queue.len() as u64;
        let age = now.since(self.started);
        self.memory_base
            .saturating_add(self.ballast)
            .saturating_add(requests.saturating_mul(model.per_request))
            .saturating_add(self.served.saturating_mul(model.leak_per_request))
            .saturating_add(
                u64::try_from(age.as_millis())
                    .unwrap_or(u64::MAX)
                    .saturating_mul(model.leak_per_second)
                    / 1000,
            )
    }

    /// The most that it may ever use, in bytes; none when only its node ends that.
    pub fn most_memory(&self) -> Option<u64> {
        let model = &self.model.memory;
        let request = &self.model.request;
        let places = u64::from(request.concurrency) + u64::from(request.queue);
        let leaks = model.leak_per_request > 0 || model.leak_per_second > 0;
        let most = places
            .saturating_mul(model.per_request)
            .saturating_add(self.memory_base)
            .saturating_add(self.ballast);
        match (leaks, self.memory_limit) {
            (true, limit) => limit,
            (false, limit) => Some(limit.map_or(most, |limit| most.min(limit))),
        }
    }

    /// What it has written to the node's disk, in bytes.
    pub fn disk(&self, now: Time) -> u64 {
        let model = &self.model.disk;
        let seconds = now.since(self.started).as_secs();
        model
            .base
            .saturating_add(self.served.saturating_mul(model.per_request))
            .saturating_add(seconds.saturating_mul(model.per_second))
    }

    /// How many files it has made.
    pub fn files(&self, now: Time) -> u64 {
        let model = &self.model.files;
        let seconds = now.since(self.started).as_secs();
        model
            .base
            .saturating_add(self.served.saturating_mul(model.per_request))
            .saturating_add(seconds.saturating_mul(model.per_second))
    }

    /// Its processes and threads.
    pub fn processes(&self, now: Time) -> u64 {
        let model = &self.model.processes;
        let seconds = now.since(self.started).as_secs();
        model
            .base
            .saturating_add(u64::from(self.active).saturating_mul(model.per_request))
            .saturating_add(self.served.saturating_mul(model.leak_per_request))
            .saturating_add(seconds.saturating_mul(model.leak_per_second))
    }

    /// The most processes that it may ever have; none when only its node ends that.
    pub fn most_processes(&self) -> Option<u64> {
        let model = &self.model.processes;
        let places = u64::from(self.model.request.concurrency);
        let leaks = model.leak_per_request > 0 || model.leak_per_second > 0;
        let most = model
            .base
            .saturating_add(places.saturating_mul(model.per_request));
        (!leaks).then_some(most)
    }

    /// Whether it writes or makes files on its node's disk.
    pub fn writes(&self) -> bool {
        let (disk, files) = (&self.model.disk, &self.model.files);
        let bytes = [disk.base, disk.per_request, disk.per_second];
        let inodes = [files.base, files.per_request, files.per_second];
        bytes.iter().chain(&inodes).any(|amount| *amount > 0)
    }

    /// Whether the kernel kills it for its memory now.
    #[inline]
    pub fn out_of_memory(&self, now: Time) -> bool {
        self.memory_limit
            .is_some_and(|limit| self.memory(now) > limit)
    }

    /// When a steady leak will have filled its memory, if requests add nothing more.
    pub fn leak_fills_at(&self, now: Time) -> Option<Time> {
        let rate = self.model.memory.leak_per_second;
        let left = self.memory_limit?.checked_sub(self.memory(now))?;
        if rate == 0 {
            return None;
        }
        // Past the limit, and in whole milliseconds as memory() counts.
        let ms = (u128::from(left) + 1) * 1000 / u128::from(rate) + 1;
        Some(now + Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX)))
    }

    /// SIGTERM.
    pub fn terminate(&mut self, now: Time) -> Ending {
        self.terminating = true;
        match self.model.on_sigterm {
            OnSigterm::Ignore => Ending::GoesOn,
            // Before it listens a process has installed no handler for it.
            _ if self.stage == Stage::Starting && !self.listens(now) => Ending::Exit(EXIT_SIGTERM),
            OnSigterm::Exit => Ending::Exit(EXIT_SIGTERM),
            OnSigterm::Drain(limit) => self.drain(limit, now),
            OnSigterm::Linger(span) => {
                self.drains_at = self.drains_at.min(now + span);
                Ending::GoesOn
            }
        }
    }

    /// Stops listening; what is being served may still be finished within `limit`.
    pub fn drain(&mut self, limit: Duration, now: Time) -> Ending {
        self.stage = Stage::Draining;
        self.drains_at = Time::MAX;
        if self.active == 0 && self.queue.is_empty() {
            return Ending::Exit(0);
        }
        self.drained_at = self.drained_at.min(now + limit);
        Ending::GoesOn
    }

    /// The earliest time at which something happens to it without a request.
    pub fn next_change(&self, now: Time) -> Option<Time> {
        let listens = match self.stage {
            Stage::Starting if self.may_fail_to_come_up() => self.listens_at,
            _ => Time::MAX,
        };
        let leak = self.leak_fills_at(now).unwrap_or(Time::MAX);
        let next = [
            listens,
            self.exits_at,
            self.drains_at,
            self.drained_at,
            leak,
        ];
        next.into_iter().min().filter(|at| *at < Time::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{MemoryModel, RequestModel, Warmup};
    use super::*;
    use crate::api::Text;

    fn instance(model: AppModel) -> Instance {
        Instance {
            model: Arc::new(model),
            group: Key::NONE,
            entity: 0,
            stage: Stage::Serving,
            frozen: false,
            terminating: false,
            started: Time::ZERO,
            listens_at: Time::from_secs(10),
            exits_at: Time::MAX,
            drains_at: Time::MAX,
            drained_at: Time::MAX,
            memory_limit: None,
            memory_base: 1000,
            ballast: 0,
            active: 0,
            queue: VecDeque::new(),
            served: 0,
        }
    }

    #[test]
    fn cost_falls_on_a_straight_line_while_warming_up() {
        let instance = instance(AppModel {
            warmup: Some(Warmup {
                factor_milli: 4_000,
                over: Duration::from_secs(30),
            }),
            ..AppModel::default()
        });
        // listens at 10 s: ×4, ×2.5 after 15 s, ×1 after 30 s
        let table = [(10, 40), (25, 25), (40, 10), (100, 10)];
        for (at, expected) in table {
            let got = instance.warmed(Duration::from_millis(10), Time::from_secs(at));
            assert_eq!(got, Duration::from_millis(expected), "at {at}");
        }
    }

    #[test]
    fn requests_are_served_then_queued_then_refused() {
        let request = RequestModel {
            concurrency: 2,
            queue: 1,
            ..RequestModel::default()
        };
        let mut instance = instance(AppModel {
            request,
            ..AppModel::default()
        });
        assert_eq!(instance.admit(), Admission::Serve);
        assert_eq!(instance.admit(), Admission::Serve);
        assert_eq!(instance.admit(), Admission::Wait);
        instance.queue.push_back(Key::NONE);
        assert_eq!(instance.admit(), Admission::Full);
    }

    #[test]
    fn a_leak_fills_memory_when_it_says_so() {
        let mut instance = instance(AppModel {
            memory: MemoryModel {
                leak_per_second: 10,
                ..MemoryModel::default()
            },
            ..AppModel::default()
        });
        instance.memory_limit = Some(2_000);
        let full = instance.leak_fills_at(Time::ZERO).unwrap();
        // 1,000 bytes at 10 a second
        assert!(
            full > Time::from_secs(100) && full < Time::from_millis(100_200),
            "{full}"
        );
        assert!(instance.out_of_memory(full));
        assert!(!instance.out_of_memory(Time::from_secs(100)));
    }

    #[test]
    fn sigterm_follows_the_model() {
        let secs = Duration::from_secs;
        let now = Time::from_secs(50);
        let table = [
            (OnSigterm::Exit, 1, Ending::Exit(143), Stage::Serving),
            (OnSigterm::Ignore, 0, Ending::GoesOn, Stage::Serving),
            (
                OnSigterm::Drain(secs(5)),
                0,
                Ending::Exit(0),
                Stage::Draining,
            ),
            (
                OnSigterm::Drain(secs(5)),
                1,
                Ending::GoesOn,
                Stage::Draining,
            ),
            (
                OnSigterm::Linger(secs(5)),
                1,
                Ending::GoesOn,
                Stage::Serving,
            ),
        ];
        for (on_sigterm, active, ending, stage) in table {
            let mut instance = instance(AppModel {
                on_sigterm,
                ..AppModel::default()
            });
            instance.active = active;
            assert_eq!(instance.terminate(now), ending, "{on_sigterm:?}");
            assert_eq!(instance.stage, stage, "{on_sigterm:?}");
        }
    }

    #[test]
    fn a_process_listens_from_its_time_on_unless_it_has_to_look_around_first() {
        // listens at 10 s: what it needs, when, whether it listens, what SIGTERM comes to
        let (cut, orderly) = (Ending::Exit(143), Ending::Exit(0));
        let table = [
            ("", 9, false, cut),
            ("", 10, true, orderly),
            ("db", 9, false, cut),
            ("db", 10, false, cut),
        ];
        for (needs, second, listens, ending) in table {
            let change = (!needs.is_empty()).then(|| Time::from_secs(10));
            let needs: Vec<Text> = needs.split_whitespace().map(Text::from).collect();
            let mut instance = instance(AppModel {
                needs: needs.clone(),
                on_sigterm: OnSigterm::Drain(Duration::from_secs(5)),
                ..AppModel::default()
            });
            instance.stage = Stage::Starting;
            let now = Time::from_secs(second);
            assert_eq!(instance.listens(now), listens, "{needs:?} at {now}");
            assert_eq!(instance.next_change(now), change, "{needs:?} at {now}");
            assert_eq!(instance.terminate(now), ending, "{needs:?} at {now}");
        }
    }
}
