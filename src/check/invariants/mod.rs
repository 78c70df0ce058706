//! What must hold at every instant of every run, whatever the scenario does.
//!
//! An [`Invariants`] looks on while a run goes ([`super::run_watched`]): it rebuilds the cluster
//! from the change log alone, so that a change that is not in the log shows as a difference, and
//! judges each change as it comes ([`pods`], [`rollouts`]). Now and then it also looks at the ground
//! truth that the API does not show: which containers run on which machine.
//!
//! A [`Violation`] is a bug of the simulator, or the find of a seed search; it is never caused by a
//! bad scenario. Nothing here steers the run.

pub mod pods;

pub mod rollouts;

use super::run::Watcher;
use crate::api::{Kind, Row};
use crate::cluster::Cluster;
use crate::engine::Time;
use crate::store::{Change, Op, View};

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When, in the engine's time.
    pub at: Time,
    /// The rule, as a sentence.
    pub rule: &'static str,
    /// The object and what is wrong with it.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.at.since(Time::ZERO).as_secs_f64();
        write!(f, "{seconds:.3}s {}: {}", self.rule, self.what)
    }
}

/// Between two looks at the machines lie this many events.
const LOOK_EVERY: u64 = 61;
/// More violations than this are not kept.
const ENOUGH: usize = 100;

/// Looks on, and keeps what was broken.
#[derive(Debug, Default)]
pub struct Invariants {
    /// The cluster as the log tells it.
    view: View,
    pods: pods::Pods,
    rollouts: rollouts::Rollouts,
    events: u64,
    /// What was broken, oldest first; at most a hundred are kept.
    pub violations: Vec<Violation>,
}

impl Invariants {
    /// Looks on. `undisturbed` also holds rollouts to `maxUnavailable` at every instant, which only
    /// a run without failures owes.
    pub fn new(undisturbed: bool) -> Self {
        Invariants {
            rollouts: rollouts::Rollouts::new(undisturbed),
            ..Invariants::default()
        }
    }

    fn report(&mut self, at: Time, rule: &'static str, what: String) {
        if self.violations.len() < ENOUGH {
            self.violations.push(Violation { at, rule, what });
        }
    }

    /// A change says what was there before; the log so far must say the same.
    fn continuity(&mut self, change: &Change) {
        const RULE: &str = "every change is in the log";
        let (at, next) = (change.time, self.view.revision + 1);
        if change.revision != next {
            let what = format!("revision {} follows {}", change.revision, next - 1);
            self.report(at, RULE, what);
        }
        let Some(object) = change.object else {
            return;
        };
        if let Some(renewed) = change.renewed {
            // A renewal has no rows; the lease was there, and said something else.
            let before = object.typed().and_then(|lease| self.view.renewed(lease));
            if before.is_none_or(|before| before == renewed) {
                self.report(at, RULE, format!("{object:?} was there for no renewal"));
            }
            return;
        }
        let known = self.view.row(object);
        let expected = if change.op == Op::Create {
            None
        } else {
            known.clone()
        };
        if change.op == Op::Create && known.is_some() {
            self.report(at, RULE, format!("{object:?} is created twice"));
        }
        if change.old != expected && change.op != Op::Create {
            let name = change.new.as_ref().map(|row| row.meta().full_name());
            let what = format!("{:?} {name:?} had changed unseen", object.kind);
            self.report(at, RULE, what);
        }
        let controllers = |row: &Row| row.meta().owners.iter().filter(|o| o.controller).count();
        if change.new.as_ref().is_some_and(|row| controllers(row) > 1) {
            let name = change.new.as_ref().map(|row| row.meta().full_name());
            let rule = "an object has one controller at most";
            self.report(at, rule, format!("{:?} {name:?}", object.kind));
        }
    }

    fn judge(&mut self, change: &Change) {
        let mut found = Vec::new();
        self.pods.judge(change, &self.view, &mut found);
        self.rollouts.judge(change, &self.view, &mut found);
        for (rule, what) in found {
            self.report(change.time, rule, what);
        }
    }

    /// What the log tells against what the API server holds.
    fn same_as(&mut self, world: &Cluster, at: Time) {
        for kind in Kind::ALL {
            let (told, held) = (self.view.rows(*kind), world.api.store.view().rows(*kind));
            if told != held {
                let what = format!("{kind:?}: {} in the log, {} held", told.len(), held.len());
                self.report(at, "every change is in the log", what);
            }
        }
    }

    /// Sent = answered + failed + abandoned + in flight, and what is in flight has an exchange.
    fn requests(&mut self, world: &Cluster, at: Time) {
        const RULE: &str = "no request is lost";
        let users = world.data.tallies();
        let calls = world.data.call_tallies().map(|(_, to, tally)| (to, tally));
        let mut in_flight = 0;
        let mut wrong = Vec::new();
        for (name, tally) in users.chain(calls) {
            let by_cause: u64 = tally.failed_by.iter().sum();
            if by_cause != tally.failed || tally.ok + tally.failed > tally.sent {
                wrong.push(format!(
                    "{name}: sent {}, ok {}, failed {} of which with a cause {by_cause}",
                    tally.sent, tally.ok, tally.failed
                ));
                continue;
            }
            in_flight += tally.in_flight();
        }
        let (exchanges, _) = world.data.in_flight();
        if in_flight > exchanges as u64 {
            wrong.push(format!("{in_flight} in flight, {exchanges} of them known"));
        }
        for what in wrong {
            self.report(at, RULE, what);
        }
    }
}

impl Watcher for Invariants {
    fn on_change(&mut self, change: &Change) {
        self.continuity(change);
        self.judge(change);
        self.view.apply(change);
    }

    fn after_event(&mut self, at: Time, world: &Cluster) {
        self.events += 1;
        if !self.events.is_multiple_of(LOOK_EVERY) {
            return;
        }
        let mut found = Vec::new();
        pods::one_place(world, &mut found);
        for (rule, what) in found {
            self.report(at, rule, what);
        }
        self.requests(world, at);
    }

    fn at_end(&mut self, at: Time, world: &Cluster) {
        self.same_as(world, at);
        self.requests(world, at);
    }
}
