//! Expectations of a scenario: watched while it runs, decided at the end at the latest.
//!
//! An expectation has a window. `wait` and `eventually` pass when they come true in it, `always` and
//! `never` fail when they are broken in it. CEL is compiled once and evaluated only when an object of
//! a kind that it reads has changed ([`cel`]); traffic thresholds are judged at the end
//! ([`threshold`]).

pub mod cel;

pub mod wait;

pub mod threshold;

use std::time::Duration;

use crate::api::Kind;
use crate::engine::Time;
use crate::record::CheckRow;
use crate::scenario::{Expectation, Form, Scenario, StepAction, StepItem};
use crate::store::{Change, View};

use cel::{Expression, Extreme};
use wait::Condition;

/// All expectations of a run.
#[derive(Debug)]
pub struct Expectations {
    trackers: Vec<Tracker>,
    /// The earliest time at which something begins or ends.
    wake: Time,
    dirty: bool,
}

#[derive(Debug)]
enum Watched {
    Wait(Condition),
    Always(Expression),
    Never(Expression),
    Eventually(Expression),
}

#[derive(Debug)]
struct Tracker {
    name: String,
    kind: &'static str,
    watched: Watched,
    epoch: Time,
    from: Time,
    until: Time,
    dirty: bool,
    begun: bool,
    /// Whether it held when it was last looked at, and since when.
    holds: Option<(bool, Time)>,
    was_false: bool,
    result: Option<CheckRow>,
}

impl Expectations {
    /// The expectations of a scenario whose own time begins at `epoch` and lasts until `end`.
    ///
    /// # Errors
    /// A message for the first expression that does not compile, with its place in the text.
    pub fn new(scenario: &Scenario, epoch: Time, end: Time) -> Result<Self, String> {
        let mut trackers = Vec::new();
        for expectation in &scenario.expect {
            let mut tracker = Tracker::new(expectation, scenario, epoch, end)?;
            match &mut tracker.watched {
                Watched::Always(e) | Watched::Never(e) | Watched::Eventually(e) => {
                    e.set_epoch(epoch);
                }
                Watched::Wait(_) => {}
            }
            trackers.push(tracker);
        }
        Ok(Expectations {
            trackers,
            wake: Time::ZERO,
            dirty: true,
        })
    }

    /// An object changed.
    pub fn on_change(&mut self, change: &Change) {
        for tracker in &mut self.trackers {
            if tracker.is_open() && tracker.reads(change.kind()) {
                tracker.dirty = true;
                self.dirty = true;
            }
        }
    }

    /// Looks at what may have changed; called after every event.
    pub fn look(&mut self, view: &View, now: Time) {
        if !self.dirty && now < self.wake {
            return;
        }
        self.dirty = false;
        self.wake = Time::MAX;
        for tracker in &mut self.trackers {
            tracker.look(view, now);
            if tracker.result.is_none() {
                let next = if tracker.begun {
                    tracker.until
                } else {
                    tracker.from
                };
                self.wake = self.wake.min(next);
            }
        }
    }

    /// The run is over: everything is decided, but what was still open when it was `interrupted`.
    pub fn finish(mut self, view: &View, now: Time, interrupted: bool) -> Vec<CheckRow> {
        for tracker in &mut self.trackers {
            tracker.look(view, now);
            if tracker.result.is_none() {
                match interrupted && now < tracker.until {
                    true => tracker.leave_open(now),
                    false => tracker.close(now),
                }
            }
        }
        self.trackers
            .into_iter()
            .filter_map(|tracker| tracker.result)
            .collect()
    }
}

/// What of a scenario's expectations cannot be understood, each with the place of the expectation.
pub fn flaws(scenario: &Scenario) -> Vec<(crate::api::yaml::Span, String)> {
    let made = |e: &Expectation| Tracker::new(e, scenario, Time::ZERO, Time::MAX);
    let flaw = |e: &Expectation| made(e).err().map(|message| (e.span, message));
    scenario.expect.iter().filter_map(flaw).collect()
}

/// `7:25`.
fn clock(span: Duration) -> String {
    let seconds = span.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// When the clock of an expectation starts.
fn start(expectation: &Expectation, scenario: &Scenario) -> Duration {
    if let Some(from) = expectation.from {
        return from;
    }
    let is_fault = |action: &StepAction| match action {
        StepAction::Apply(items) => {
            (items.iter()).any(|i| matches!(i, StepItem::Fault(_) | StepItem::Plan(_)))
        }
        StepAction::Kubectl(_) => false,
    };
    let first = scenario.timeline.first().map(|s| s.at);
    let fault = scenario
        .timeline
        .iter()
        .find(|s| is_fault(&s.action))
        .map(|s| s.at);
    match &expectation.form {
        Form::Always(_) | Form::Never(_) => Duration::ZERO,
        Form::Eventually(..) => fault.or(first).unwrap_or_default(),
        Form::Wait { resource, .. } => {
            let name = resource.rsplit('/').next().unwrap_or(resource);
            let names = |action: &StepAction| match action {
                StepAction::Kubectl(step) => step.line.split([' ', '/', ',']).any(|w| w == name),
                StepAction::Apply(_) => false,
            };
            let named = scenario
                .timeline
                .iter()
                .find(|s| names(&s.action))
                .map(|s| s.at);
            named.or(fault).or(first).unwrap_or_default()
        }
    }
}

impl Tracker {
    fn new(
        expectation: &Expectation,
        scenario: &Scenario,
        epoch: Time,
        end: Time,
    ) -> Result<Self, String> {
        let namespace = &scenario.namespace;
        let from = epoch + start(expectation, scenario);
        let compiled = |cel: &crate::scenario::Cel| {
            Expression::compile(&cel.text, namespace)
                .map_err(|e| format!("expectation {}: {e}", expectation.name))
        };
        let until = expectation.until.map_or(end, |until| epoch + until);
        let (kind, watched, until) = match &expectation.form {
            Form::Wait {
                condition,
                reason,
                resource,
                timeout,
            } => {
                let condition = Condition::new(condition, reason.as_deref(), resource, namespace)
                    .map_err(|e| format!("expectation {}: {e}", expectation.name))?;
                ("wait", Watched::Wait(condition), from + *timeout)
            }
            Form::Always(cel) => ("always", Watched::Always(compiled(cel)?), until),
            Form::Never(cel) => {
                let expression = compiled(cel)?.towards_truth();
                ("never", Watched::Never(expression), until)
            }
            Form::Eventually(cel, within) => (
                "eventually",
                Watched::Eventually(compiled(cel)?.towards_truth()),
                from + *within,
            ),
        };
        Ok(Tracker {
            name: expectation.name.clone(),
            kind,
            watched,
            epoch,
            from,
            until: until.min(end),
            dirty: true,
            begun: false,
            holds: None,
            was_false: false,
            result: None,
        })
    }

    fn reads(&self, kind: Kind) -> bool {
        match &self.watched {
            Watched::Wait(condition) => condition.kind() == kind,
            Watched::Always(e) | Watched::Never(e) | Watched::Eventually(e) => e.reads(kind),
        }
    }

    /// Whether changes still matter to it.
    fn is_open(&self) -> bool {
        let keeps_worst = matches!(self.watched, Watched::Always(_) | Watched::Never(_));
        (self.result.as_ref()).is_none_or(|result| !result.passed && keeps_worst)
    }

    /// A broken promise goes on counting, so that the worst value is shown and not the first.
    fn worst(&mut self, view: &View, now: Time) {
        let (Watched::Always(e) | Watched::Never(e)) = &mut self.watched else {
            return;
        };
        let fresh = std::mem::take(&mut self.dirty) && now <= self.until;
        if !fresh || e.shown().is_none() || e.evaluate(view, now).is_err() {
            return;
        }
        let shown = e.shown();
        if let Some((result, shown)) = self.result.as_mut().zip(shown) {
            result.detail = shown;
        }
    }

    fn look(&mut self, view: &View, now: Time) {
        if self.result.is_some() {
            self.worst(view, now);
            return;
        }
        if now < self.from {
            return;
        }
        if now > self.until {
            self.close(self.until);
            return;
        }
        if !self.dirty && self.begun {
            return;
        }
        let first = !std::mem::replace(&mut self.begun, true);
        self.dirty = false;
        let evaluated = match &mut self.watched {
            Watched::Wait(condition) => Ok(condition.holds(view)),
            Watched::Always(e) | Watched::Never(e) | Watched::Eventually(e) => {
                e.evaluate(view, now)
            }
        };
        match evaluated {
            Ok(holds) => self.took(holds, first, now),
            // What cannot be evaluated does not hold; `always` and `never` say why they fail.
            Err(error) => match self.watched {
                Watched::Always(_) | Watched::Never(_) => self.decide(false, now, error),
                _ => self.took(false, first, now),
            },
        }
    }

    fn took(&mut self, holds: bool, first: bool, now: Time) {
        if self.holds.is_none_or(|(before, _)| before != holds) {
            self.holds = Some((holds, now));
        }
        self.was_false |= !holds;
        let at = clock(now.since(self.from));
        let broken = (Time::ZERO + now.since(self.epoch)).clock();
        let within = clock(self.until.since(self.from));
        match &self.watched {
            // `wait` for what a step sets off must not be content with what was before it.
            Watched::Wait(_) if holds && !first && self.was_false => {
                self.decide(true, now, format!("{at} of {within}"));
            }
            // True from the first: it must still be true at the end, see `close`.
            Watched::Eventually(_) if holds && !first && self.was_false && !self.true_first() => {
                self.decide(true, now, format!("{at} of {within}"));
            }
            Watched::Always(e) if !holds => {
                let why = e.shown().unwrap_or_else(|| format!("false at {broken}"));
                self.decide(false, now, why);
            }
            Watched::Never(e) if holds => {
                let why = e.shown().unwrap_or_else(|| format!("true at {broken}"));
                self.decide(false, now, why);
            }
            Watched::Eventually(_) if first && holds => self.mark_true_first(),
            _ => {}
        }
    }

    /// An `eventually` that held when its window began is judged at its end; that is remembered
    /// in the kind, which is printed nowhere before then.
    fn true_first(&self) -> bool {
        self.kind == TRUE_FIRST
    }

    fn mark_true_first(&mut self) {
        self.kind = TRUE_FIRST;
    }

    /// The window is over.
    fn close(&mut self, now: Time) {
        let within = clock(self.until.since(self.from));
        let held = self.holds.is_some_and(|(holds, _)| holds);
        match &self.watched {
            Watched::Eventually(_) if self.true_first() && held => {
                let since = self.holds.map_or(self.from, |(_, since)| since);
                let at = clock(since.since(self.from));
                self.decide(true, since, format!("{at} of {within}"));
            }
            Watched::Wait(_) if held => {
                self.decide(true, self.from, format!("0:00 of {within}"));
            }
            Watched::Wait(_) | Watched::Eventually(_) => {
                let seen = match &self.watched {
                    Watched::Eventually(e) => e.shown(),
                    _ => None,
                };
                let seen = seen.map(|s| format!(" ({s})")).unwrap_or_default();
                let begun = match self.from.since(self.epoch) {
                    Duration::ZERO => String::new(),
                    after => format!(" of {}", (Time::ZERO + after).clock()),
                };
                self.decide(false, now, format!("not within {within}{begun}{seen}"));
            }
            Watched::Always(e) | Watched::Never(e) => {
                let detail = match (self.begun, e.shown()) {
                    (false, _) => "never looked at: its window is empty".to_owned(),
                    (true, Some(shown)) => shown,
                    (true, None) => format!("{within} long"),
                };
                let begun = self.begun;
                self.decide(begun, now, detail);
            }
        }
    }

    /// The run was interrupted before it could be decided.
    fn leave_open(&mut self, now: Time) {
        let detail = match now < self.from {
            true => "not begun when the run was interrupted".to_owned(),
            false => {
                let within = clock(self.until.since(self.from));
                let at = clock(now.since(self.from));
                format!("{at} of {within} when the run was interrupted")
            }
        };
        self.decide(false, now, detail);
        if let Some(result) = &mut self.result {
            (result.open, result.at_s, result.run_s) = (true, None, None);
        }
    }

    fn decide(&mut self, passed: bool, at: Time, detail: String) {
        let kind = if self.true_first() {
            "eventually"
        } else {
            self.kind
        };
        self.result = Some(CheckRow {
            name: self.name.clone(),
            kind: kind.to_owned(),
            passed,
            at_s: Some(at.since(self.from).as_secs_f64()),
            run_s: Some(at.since(self.epoch).as_secs_f64()),
            detail,
            open: false,
        });
    }
}

const TRUE_FIRST: &str = "eventually (true at first)";

/// `min 5 at 04:27`, for a comparison of one number with a constant.
pub(super) fn shown(extreme: &Extreme, epoch: Time) -> String {
    let Extreme { word, value, at } = extreme;
    format!(
        "{word} {value} at {}",
        (Time::ZERO + at.since(epoch)).clock()
    )
}
