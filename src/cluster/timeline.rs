//! What the scenario does, and when: kubectl steps, objects that are applied, faults.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::api::Text;
use crate::client::{Outbox, Reply};
use crate::engine::Time;
use crate::fault::{Effect, Fault, FaultPlan, Targets};
use crate::kubectl;
use crate::scenario::types::{Applied, Scenario, Step, StepAction, StepItem};
use crate::store::write::Trigger;
use crate::store::{Cause, Origin};

use super::api_server::Sender;
use super::dispatch::{Cluster, Consequences};
use super::event::Event;
use super::settling::Settling;

/// Something worth telling that is no change of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// A fault begins.
    FaultBegan {
        /// When.
        at: Time,
        /// Which.
        fault: u32,
        /// Whom it hits.
        targets: Targets,
    },
    /// A fault ends.
    FaultEnded {
        /// When.
        at: Time,
        /// Which.
        fault: u32,
        /// Whom it hit.
        targets: Targets,
    },
    /// A component of the control plane does something that is seldom seen.
    Component {
        /// When.
        at: Time,
        /// Which: `kube-scheduler`.
        component: Text,
        /// What, in words.
        what: String,
        /// Whether that is trouble.
        bad: bool,
    },
    /// A step begins.
    StepBegan {
        /// When.
        at: Time,
        /// Which, from 0.
        step: u32,
        /// The command line, or what is applied.
        text: String,
    },
    /// A step is done.
    StepEnded {
        /// When.
        at: Time,
        /// Which, from 0.
        step: u32,
        /// The command line, or what is applied.
        text: String,
        /// Its output, or why it failed.
        result: Result<String, String>,
        /// A failure does not matter.
        optional: bool,
    },
    /// The initial workloads serve (or the wait for them was given up, with those that do not):
    /// the run's own time begins.
    Settled {
        /// When.
        at: Time,
        /// Workloads that are not ready.
        missing: Vec<String>,
    },
}

/// A fault that goes on or is over.
#[derive(Debug)]
pub struct Active {
    /// What it is.
    pub fault: Fault,
    targets: Targets,
    /// How to take it back, in the order of taking back.
    undo: Vec<Effect>,
}

/// The timeline with what is going on of it.
#[derive(Debug, Default)]
pub struct Timeline {
    /// The steps of the scenario.
    pub steps: Vec<Step>,
    /// kubectl's default namespace.
    pub namespace: String,
    /// How long the run lasts from its beginning: plans are laid out until then.
    pub length: Duration,
    /// Faults of plans that have not begun.
    planned: Vec<Option<Fault>>,
    /// Faults in the order in which they began.
    pub faults: Vec<Active>,
    /// When the run's own time began: 0 in the story.
    pub epoch: Option<Time>,
    /// How the wait for that goes.
    pub settling: Settling,
    /// Everything that happened and is no change of an object.
    pub notes: Vec<Note>,
    runs: BTreeMap<u32, kubectl::Run>,
    /// Which step a kubectl write belongs to, by token.
    tokens: BTreeMap<u64, (u32, u64)>,
    next_token: u64,
}

impl Timeline {
    /// A timeline that has not begun.
    pub fn of(scenario: &Scenario) -> Self {
        Timeline {
            steps: scenario.timeline.clone(),
            namespace: scenario.namespace.to_string(),
            length: scenario.duration,
            ..Timeline::default()
        }
    }
}

impl Cluster {
    /// The name and action of a fault.
    pub fn fault(&self, fault: u32) -> Option<&Fault> {
        self.timeline
            .faults
            .get(fault as usize)
            .map(|active| &active.fault)
    }

    pub(super) fn begin_step(&mut self, index: u32, turn: Consequences<'_, '_>) {
        let Some(step) = self.timeline.steps.get(index as usize).cloned() else {
            return;
        };
        let text = describe(&step.action);
        let at = turn.now;
        self.timeline.notes.push(Note::StepBegan {
            at,
            step: index,
            text,
        });
        match step.action {
            StepAction::Kubectl(line) => {
                // The scenario's reader has parsed the line before, to check it.
                match kubectl::parse(&line.line, &self.timeline.namespace) {
                    Ok(verb) => {
                        self.start_kubectl(index, verb, line.objects, step.timeout, turn);
                    }
                    Err(error) => self.end_step(index, Err(error.message), at),
                }
            }
            StepAction::Apply(items) => {
                let mut objects = Vec::new();
                for item in items {
                    match item {
                        StepItem::Object(object) => objects.push(*object),
                        StepItem::Fault(fault) => self.begin_fault(fault, turn),
                        StepItem::Plan(plan) => self.lay_out(&plan, turn),
                    }
                }
                if objects.is_empty() {
                    self.end_step(index, Ok(String::new()), turn.now);
                } else {
                    let verb = kubectl::Verb::apply();
                    self.start_kubectl(index, verb, objects, step.timeout, turn);
                }
            }
        }
    }

    fn end_step(&mut self, index: u32, result: Result<String, String>, at: Time) {
        let Some(step) = self.timeline.steps.get(index as usize) else {
            return;
        };
        let text = describe(&step.action);
        let optional = step.optional;
        self.timeline.notes.push(Note::StepEnded {
            at,
            step: index,
            text,
            result,
            optional,
        });
    }

    fn start_kubectl(
        &mut self,
        index: u32,
        verb: kubectl::Verb,
        objects: Vec<Applied>,
        timeout: Option<Duration>,
        turn: Consequences<'_, '_>,
    ) {
        let objects = objects.into_iter().map(|o| (o.row, o.written)).collect();
        let cause = Cause {
            origin: Origin::Scenario,
            trigger: Trigger::Step(index),
            rule: "",
        };
        let run = kubectl::Run::new(verb, objects, cause, timeout, turn.now);
        self.timeline.runs.insert(index, run);
        self.go_on(index, turn);
    }

    /// Lets kubectl go on with a step.
    pub(super) fn go_on(&mut self, index: u32, turn: Consequences<'_, '_>) {
        let mut out = Outbox::default();
        let Some(run) = self.timeline.runs.get_mut(&index) else {
            return;
        };
        run.poll(self.api.store.view(), turn.now, &mut out);
        self.kubectl_wants(index, out, turn);
    }

    pub(super) fn kubectl_reply(&mut self, token: u64, reply: &Reply, turn: Consequences<'_, '_>) {
        let Some((index, inner)) = self.timeline.tokens.remove(&token) else {
            return;
        };
        let mut out = Outbox::default();
        if let Some(run) = self.timeline.runs.get_mut(&index) {
            run.on_reply(inner, reply, self.api.store.view(), turn.now, &mut out);
        }
        self.kubectl_wants(index, out, turn);
    }

    fn kubectl_wants(&mut self, index: u32, out: Outbox<()>, turn: Consequences<'_, '_>) {
        for (at, ()) in out.timers {
            turn.at(at, Event::Kubectl(index));
        }
        for mut send in out.sends {
            let token = self.timeline.next_token;
            self.timeline.next_token += 1;
            self.timeline.tokens.insert(token, (index, send.token));
            send.token = token;
            self.send(Sender::Kubectl, send, turn);
        }
        let result = self
            .timeline
            .runs
            .get(&index)
            .and_then(kubectl::Run::result);
        if let Some(result) = result {
            self.timeline.runs.remove(&index);
            self.end_step(index, result, turn.now);
        }
    }

    /// Lays out a plan: its faults begin when they are due.
    fn lay_out(&mut self, plan: &FaultPlan, turn: Consequences<'_, '_>) {
        let epoch = self.timeline.epoch.unwrap_or(turn.now);
        for (at, fault) in plan.lay_out(turn.now, epoch + self.timeline.length) {
            let number = u32::try_from(self.timeline.planned.len()).unwrap_or(u32::MAX);
            self.timeline.planned.push(Some(fault));
            turn.at(at, Event::Inject(number));
        }
    }

    /// A fault of a plan is due.
    pub(super) fn inject(&mut self, number: u32, turn: Consequences<'_, '_>) {
        let planned = self.timeline.planned.get_mut(number as usize);
        if let Some(fault) = planned.and_then(Option::take) {
            self.begin_fault(fault, turn);
        }
    }

    fn begin_fault(&mut self, fault: Fault, turn: Consequences<'_, '_>) {
        let targets = fault.select(self.api.store.view(), &self.draws);
        let number = u32::try_from(self.timeline.faults.len()).unwrap_or(u32::MAX);
        let effects = fault.effects(&targets);
        // The way back is recorded before anything is applied.
        let undo = effects.iter().rev().filter_map(Effect::inverse).collect();
        let until = fault.duration.filter(|_| !fault.is_instant());
        self.timeline.notes.push(Note::FaultBegan {
            at: turn.now,
            fault: number,
            targets: targets.clone(),
        });
        self.timeline.faults.push(Active {
            fault,
            targets,
            undo,
        });
        for effect in &effects {
            self.apply(effect, number, turn);
        }
        if let Some(duration) = until {
            turn.after(duration, Event::Heal(number));
        }
    }

    pub(super) fn heal(&mut self, number: u32, turn: Consequences<'_, '_>) {
        let Some(active) = self.timeline.faults.get_mut(number as usize) else {
            return;
        };
        let undo = std::mem::take(&mut active.undo);
        let targets = active.targets.clone();
        self.timeline.notes.push(Note::FaultEnded {
            at: turn.now,
            fault: number,
            targets,
        });
        for effect in &undo {
            self.apply(effect, number, turn);
        }
    }
}

/// A step in words: the command line, or what is applied.
pub fn describe(action: &StepAction) -> String {
    match action {
        StepAction::Kubectl(step) => step.line.clone(),
        StepAction::Apply(items) => {
            let names: Vec<String> = items
                .iter()
                .map(|item| match item {
                    StepItem::Fault(fault) => format!("{}/{}", fault.kind, fault.name),
                    StepItem::Plan(plan) => format!("{}/{}", plan.kind, plan.name),
                    StepItem::Object(o) => {
                        format!("{}/{}", o.row.kind().name(), o.row.meta().name)
                    }
                })
                .collect();
            format!("apply {}", names.join(" "))
        }
    }
}
