//! `spec.timeline`: what is done when.
//!
//! A step is a kubectl command line or a list of things to apply: files (from the scenario's
//! folder), Kubernetes objects, faults.

use std::time::Duration;

use super::fields::{Problems, Value};

/// A step before its files are read.
#[derive(Debug)]
pub struct StepDraft<'n> {
    /// When.
    pub at: Duration,
    /// The step.
    pub value: Value<'n>,
    /// What.
    pub action: Action<'n>,
    /// `optional`.
    pub optional: bool,
    /// `timeout`.
    pub timeout: Option<Duration>,
}

/// What a step does.
#[derive(Debug)]
pub enum Action<'n> {
    /// A command line without the word kubectl.
    Kubectl(Value<'n>, String),
    /// Files, objects, faults.
    Apply(Vec<Value<'n>>),
}

/// Reads the steps, in order of time; `length` is the duration of the run.
pub fn read<'n>(
    items: &[Value<'n>],
    length: Duration,
    problems: &mut Problems,
) -> Vec<StepDraft<'n>> {
    let mut steps: Vec<StepDraft<'n>> = items
        .iter()
        .filter_map(|item| step(item, length, problems))
        .collect();
    steps.sort_by_key(|step| step.at);
    steps
}

fn step<'n>(item: &Value<'n>, length: Duration, problems: &mut Problems) -> Option<StepDraft<'n>> {
    let fields = item.fields(problems)?;
    let at = fields.require("at", problems).and_then(|value| {
        let at = value.duration(problems)?;
        if at > length {
            problems.push(value.invalid("must not be after the end of the run (`spec.duration`)"));
        }
        Some(at)
    });
    let action = match (fields.get("kubectl"), fields.get("apply")) {
        (Some(value), None) => {
            let line = value.name(problems);
            line.map(|line| {
                let line = line.trim();
                let line = line.strip_prefix("kubectl ").unwrap_or(line).trim();
                Action::Kubectl(value, line.to_owned())
            })
        }
        (None, Some(value)) => Some(Action::Apply(match value.node.as_list() {
            Some(_) => value.list(problems),
            None => vec![value],
        })),
        _ => {
            problems.push(item.invalid("must hold one of kubectl and apply"));
            None
        }
    };
    let optional = fields.flag("optional", problems).unwrap_or(false);
    let timeout = fields.duration("timeout", problems);
    fields.finish(problems);
    Some(StepDraft {
        at: at?,
        value: item.clone(),
        action: action?,
        optional,
        timeout,
    })
}
