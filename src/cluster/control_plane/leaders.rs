//! Elections, and the processes of those that lead.
//!
//! In a run there is one controller manager and one scheduler: those of the replicas that lead.
//! Elections are followed from the first trouble until everything is well again; before and after,
//! the leader renews its lease and nobody looks.

use std::time::Duration;

use super::super::dispatch::{Cluster, Consequences};
use super::super::event::Event;
use super::gate::{Asking, Ruling};
use super::{Candidate, Elected, Watcher, Which};
use crate::client::Outbox;
use crate::client::election::{Elector, Lock, Next, State};
use crate::engine::Time;
use crate::engine::draws::{Purpose, entity_key};

use super::super::api_server::Sender;

const PHASE: Purpose = Purpose::new("control-plane/lease-phase");
const SEEN: Purpose = Purpose::new("control-plane/lease-seen");
const POLL: Purpose = Purpose::new("control-plane/lease-poll");

/// From the end of a container to its next start: the kubelet looks at its containers every second
/// (`plegRelistPeriod`).
const RESTART: Duration = Duration::from_secs(1);

/// Crash-loop back-off of a static pod: none at first, then 10 s, doubled up to 300 s.
fn restart_after(exits: u32) -> Duration {
    let waits = exits.saturating_sub(1).min(6);
    let wait = match waits {
        0 => 0,
        n => (10 << (n - 1)).min(300),
    };
    RESTART + Duration::from_secs(wait)
}

impl Cluster {
    fn elected(&mut self, which: Which) -> &mut Elected {
        &mut self.control.elected[which as usize]
    }

    fn unit(&self, purpose: Purpose, which: Which, replica: usize, n: u64) -> f64 {
        let replica = replica.to_string();
        let entity = entity_key(&[which.component().name(), &replica]);
        self.draws.unit(purpose, entity, n)
    }

    /// Something begins to be wrong: from here on elections are followed, each somewhere in its
    /// period.
    pub(super) fn wake_elections(&mut self, turn: Consequences<'_, '_>) {
        if std::mem::replace(&mut self.control.awake, true) {
            return;
        }
        let now = turn.now;
        for which in Which::BOTH {
            let timing = self.elected(which).timing;
            if !timing.elect {
                continue;
            }
            let Some(leader) = self.elected(which).leader else {
                continue;
            };
            let phase = timing
                .retry
                .mul_f64(self.unit(PHASE, which, leader, now.as_nanos()));
            let phase = u64::try_from(phase.as_nanos()).unwrap_or(0);
            let renewed = Time::from_nanos(now.as_nanos().saturating_sub(phase));
            let elected = self.elected(which);
            let holder = elected.candidates[leader].elector.identity;
            let lock = Lock { holder, renewed };
            elected.lock = lock;
            for replica in 0..self.elected(which).candidates.len() {
                if replica == leader {
                    self.schedule(which, replica, renewed + timing.retry, turn);
                    continue;
                }
                let seen = self.unit(SEEN, which, replica, now.as_nanos());
                let since = renewed + now.since(renewed).mul_f64(seen);
                let wait = timing.candidate_wait(1.0);
                let wait = wait.mul_f64(self.unit(POLL, which, replica, now.as_nanos()));
                let candidate = &mut self.elected(which).candidates[replica];
                if candidate.elector.state != State::Ended {
                    candidate.elector.state = State::Candidate {
                        seen: Some((lock, since)),
                    };
                    self.schedule(which, replica, now + wait, turn);
                }
            }
        }
    }

    fn schedule(&mut self, which: Which, replica: usize, at: Time, turn: Consequences<'_, '_>) {
        let candidate = &mut self.elected(which).candidates[replica];
        candidate.number = candidate.number.wrapping_add(1);
        let event = Event::Election {
            which: which as u8,
            replica: u8::try_from(replica).unwrap_or(u8::MAX),
            number: candidate.number,
        };
        turn.at(at.max(turn.now), event);
    }

    /// It is time for one of the processes to ask for its lease.
    pub(in crate::cluster) fn election(
        &mut self,
        (which, replica, number): (u8, u8, u32),
        turn: Consequences<'_, '_>,
    ) {
        let which = Which::BOTH[usize::from(which.min(1))];
        let replica = usize::from(replica);
        let now = turn.now;
        let identity = self.elected(which).next_identity;
        let timing = self.elected(which).timing;
        let candidate = &mut self.elected(which).candidates[replica];
        if candidate.number != number || !candidate.at.up() {
            return;
        }
        if candidate.elector.state == State::Ended {
            candidate.elector = Elector::candidate(identity);
            self.elected(which).next_identity += 1;
        } else if candidate.elector.late(now, &timing) {
            return self.exit(which, replica, turn);
        }
        if self.well_again() {
            return;
        }
        let (took, served) = self.ask_for_lease(which, replica, now);
        let answered = now + took;
        let unit = self.unit(POLL, which, replica, now.as_nanos());
        let elected = self.elected(which);
        let lock = served.then_some(&mut elected.lock);
        let elector = &mut elected.candidates[replica].elector;
        match elector.answered((now, answered), lock, &timing, unit) {
            Next::Ask(at) | Next::Late(at) => self.schedule(which, replica, at, turn),
            Next::Lead(at) => {
                self.lead(which, replica, turn);
                self.schedule(which, replica, at, turn);
            }
        }
    }

    /// Whether everything is well, so that nobody need look at elections.
    fn well_again(&mut self) -> bool {
        let calm =
            self.control.troubles.is_empty() && self.control.elected.iter().all(Elected::settled);
        if calm {
            self.control.awake = false;
        }
        calm
    }

    /// The requests about the lease of one attempt: how long they take, and whether they succeed
    /// (`tryAcquireOrRenew`): a leader updates what it knows, and when that fails reads the lease
    /// first; a candidate reads it, and an update follows only when it is free. What follows a
    /// request that took long is left to the next attempt, which is due then.
    fn ask_for_lease(&self, which: Which, replica: usize, now: Time) -> (Duration, bool) {
        let elected = &self.control.elected[which as usize];
        let elector = &elected.candidates[replica].elector;
        let mut spent = Duration::ZERO;
        let mut served = |n: u8| {
            if spent >= elected.timing.retry {
                return false;
            }
            let (took, served) = self.lease_request(which, replica, n, now);
            spent += took;
            served
        };
        let done = match elector.state {
            State::Leader { .. } => served(0) || (served(1) && served(2)),
            State::Candidate { .. } if elector.would_take(&elected.lock, now, &elected.timing) => {
                served(0) && served(1)
            }
            _ => served(0),
        };
        (spent, done)
    }

    fn lease_request(&self, which: Which, replica: usize, n: u8, now: Time) -> (Duration, bool) {
        let agent = which.component().name();
        let timing = self.control.elected[which as usize].timing;
        let client = entity_key(&[agent]).wrapping_add(replica as u64);
        let asking = Asking {
            client,
            agent,
            verb: "update",
            resource: "leases",
            about: client,
            sent: now,
            tries: n,
            late: false,
        };
        let (took, served) = match self.control.rule(&asking, now, &self.draws) {
            Ruling::Pass => (Duration::ZERO, true),
            Ruling::Late(by) => (by, by < timing.timeout()),
            Ruling::Again(after) | Ruling::Answer(_, after) => (after, false),
            Ruling::Lost => (timing.timeout(), false),
        };
        (took.min(timing.timeout()), served)
    }

    /// A process could not renew its lease: it ends, and is started again.
    fn exit(&mut self, which: Which, replica: usize, turn: Consequences<'_, '_>) {
        let elected = self.elected(which);
        let leads = elected.leader == Some(replica);
        let candidate = &mut elected.candidates[replica];
        candidate.elector.state = State::Ended;
        candidate.exits += 1;
        let after = restart_after(candidate.exits);
        if leads {
            self.stop_process(which, turn.now);
            let seconds = self.elected(which).timing.renew_deadline.as_secs();
            let what = format!("loses its lease and exits (not renewed for {seconds}s)");
            self.tell(turn.now, which.component().name(), what, true);
        }
        self.schedule(which, replica, turn.now + after, turn);
    }

    /// A process has the lease: its work begins.
    fn lead(&mut self, which: Which, replica: usize, turn: Consequences<'_, '_>) {
        if self.elected(which).leader.is_some() {
            // Whoever led stands still; another took over.
            self.stop_process(which, turn.now);
        }
        let elected = self.elected(which);
        elected.leader = Some(replica);
        let (several, elect) = (elected.candidates.len() > 1, elected.timing.elect);
        let what = match (elect, several) {
            (true, true) => format!("replica {replica} becomes leader"),
            (true, false) => "becomes leader again".to_owned(),
            (false, _) => "runs again".to_owned(),
        };
        self.tell(turn.now, which.component().name(), what, false);
        self.start_process(which, turn);
    }

    pub(super) fn crash(&mut self, which: Which, replica: usize, turn: Consequences<'_, '_>) {
        let elected = self.elected(which);
        let leads = elected.leader == Some(replica);
        let candidate = &mut elected.candidates[replica];
        candidate.at.down += 1;
        candidate.number = candidate.number.wrapping_add(1);
        candidate.elector.state = State::Ended;
        if leads {
            self.stop_process(which, turn.now);
        }
    }

    pub(super) fn uncrash(&mut self, which: Which, replica: usize, turn: Consequences<'_, '_>) {
        let elected = self.elected(which);
        let elect = elected.timing.elect;
        let candidate = &mut elected.candidates[replica];
        candidate.at.down -= 1;
        if candidate.at.down > 0 {
            return;
        }
        if elect {
            self.schedule(which, replica, turn.now + RESTART, turn);
        } else {
            candidate.elector.state = State::Leader { round: None };
            self.lead(which, replica, turn);
        }
    }

    pub(super) fn freeze_process(&mut self, which: Which, replica: usize) {
        let candidate = &mut self.elected(which).candidates[replica];
        candidate.at.frozen += 1;
        candidate.number = candidate.number.wrapping_add(1);
        self.set_up(which);
    }

    pub(super) fn thaw_process(
        &mut self,
        which: Which,
        replica: usize,
        turn: Consequences<'_, '_>,
    ) {
        let elected = self.elected(which);
        let leads = elected.leader == Some(replica);
        let Candidate { elector, at, .. } = &mut elected.candidates[replica];
        at.frozen -= 1;
        if !at.up() {
            return;
        }
        let deposed = !leads && matches!(elector.state, State::Leader { .. });
        if deposed {
            let what = format!("replica {replica} thaws without its lease and exits");
            self.tell(turn.now, which.component().name(), what, true);
            return self.exit(which, replica, turn);
        }
        if leads {
            self.set_up(which);
            for event in std::mem::take(&mut self.control.held) {
                turn.at(turn.now, event);
            }
        }
        if self.elected(which).timing.elect {
            self.schedule(which, replica, turn.now, turn);
        }
    }

    /// Whether a process takes in what happens: it runs, does not stand still, and has its watch.
    pub(super) fn set_up(&mut self, which: Which) {
        let elected = &self.control.elected[which as usize];
        let runs = elected.leader.is_some() && !elected.frozen();
        let up = runs && self.control.watches(which.watcher());
        match which {
            Which::Manager => self.manager.set_up(up),
            Which::Scheduler => self.scheduler_process.set_up(up),
        }
    }

    fn stop_process(&mut self, which: Which, now: Time) {
        self.elected(which).leader = None;
        self.api.ended(which as usize, now);
        for event in std::mem::take(&mut self.control.held) {
            match (event, self.holder(event)) {
                (Event::Answer(number), Some(of)) if of == which => self.api.forget(number),
                (_, Some(of)) if of == which => {}
                _ => self.control.held.push(event),
            }
        }
        match which {
            Which::Manager => {
                for controller in &mut self.controllers {
                    controller.restart();
                }
            }
            Which::Scheduler => self.scheduler.restart(),
        }
        self.set_up(which);
    }

    fn start_process(&mut self, which: Which, turn: Consequences<'_, '_>) {
        self.control.lost.remove(&which.watcher());
        match which {
            Which::Manager => {
                self.manager.restart(&self.api.store);
                for controller in 0..self.controllers.len() {
                    let mut out = Outbox::default();
                    let view = &self.manager.view;
                    self.controllers[controller].start(view, turn.now, &self.draws, &mut out);
                    let controller = u8::try_from(controller).expect("few controllers");
                    self.controller_wants(controller, out, turn);
                }
            }
            Which::Scheduler => {
                self.scheduler_process.restart(&self.api.store);
                let mut out = Outbox::default();
                let view = &self.scheduler_process.view;
                self.scheduler.start(view, turn.now, &mut out);
                self.scheduler_wants(out, turn);
            }
        }
        self.set_up(which);
    }

    /// The process that an event is for.
    fn holder(&self, event: Event) -> Option<Which> {
        match event {
            Event::Controller(..) | Event::ToManager => Some(Which::Manager),
            Event::Scheduler(_) | Event::ToScheduler => Some(Which::Scheduler),
            Event::Answer(number) => match self.api.sender(number)? {
                Sender::Controller(_) => Some(Which::Manager),
                Sender::Scheduler => Some(Which::Scheduler),
                _ => None,
            },
            Event::Reconnect(Watcher::Manager) => Some(Which::Manager),
            Event::Reconnect(Watcher::Scheduler) => Some(Which::Scheduler),
            _ => None,
        }
    }

    /// Whether an event waits for a process that stands still.
    pub(in crate::cluster) fn holds(&mut self, event: Event) -> bool {
        let frozen = |which: Which| self.control.elected[which as usize].frozen();
        let waits = self.holder(event).is_some_and(frozen);
        if waits {
            self.control.held.push(event);
        }
        waits
    }
}
