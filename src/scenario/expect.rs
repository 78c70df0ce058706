//! `spec.expect`: what must hold, in the words of `kubectl wait` and CEL.
//!
//! When clocks start and end is written at [`Form`].

use std::time::Duration;

use super::fields::{Fields, Problems, Value};
use super::types::{Cel, Expectation, Form};

/// kubectl's default of `--timeout` for `wait`.
const WAIT: Duration = Duration::from_secs(30);

/// Reads the list; `length` is the duration of the run.
pub fn read(items: &[Value<'_>], length: Duration, problems: &mut Problems) -> Vec<Expectation> {
    let mut found: Vec<Expectation> = Vec::new();
    for item in items {
        let Some(expectation) = one(item, length, problems) else {
            continue;
        };
        if found.iter().any(|other| other.name == expectation.name) {
            let twice = item.invalid(format!("the name {:?} is taken", expectation.name));
            problems.push(twice.hint("give each expectation a name of its own"));
        }
        found.push(expectation);
    }
    found
}

fn one(item: &Value<'_>, length: Duration, problems: &mut Problems) -> Option<Expectation> {
    let fields = item.fields(problems)?;
    let name = fields.get("name").and_then(|value| value.name(problems));
    let from = instant(&fields, "from", length, problems);
    let until = instant(&fields, "until", length, problems);
    let within = fields.duration("within", problems);
    let given: Vec<&'static str> = ["wait", "always", "never", "eventually"]
        .into_iter()
        .filter(|key| fields.get(key).is_some())
        .collect();
    let form = match given.as_slice() {
        [key] => form(key, &fields, within.unwrap_or(length), problems),
        _ => {
            let wrong = item.invalid("must hold one of wait, always, never and eventually");
            problems.push(wrong);
            None
        }
    };
    if let ([key @ ("wait" | "always" | "never")], Some(value)) =
        (given.as_slice(), fields.get("within"))
    {
        let hint = match *key {
            "wait" => "the time of a wait is its `timeout`",
            _ => "`from` and `until` say when it holds",
        };
        problems.push(value.invalid("belongs to `eventually`").hint(hint));
    }
    if let ([key @ ("wait" | "eventually")], Some(value)) = (given.as_slice(), fields.get("until"))
    {
        let hint = match *key {
            "wait" => "the time of a wait is its `timeout`",
            _ => "write `within`, counted from `from`",
        };
        problems.push(value.invalid("belongs to `always` and `never`").hint(hint));
    }
    if let (Some(from), Some(until), Some(value)) = (from, until, fields.get("until"))
        && until < from
    {
        problems.push(value.invalid("must not be before `from`"));
    }
    fields.finish(problems);
    let form = form?;
    let name = name.map(|name| name.to_string());
    Some(Expectation {
        name: name.unwrap_or_else(|| summary(&form)),
        span: item.span(),
        form,
        from,
        until,
    })
}

/// A time of the run.
fn instant(
    fields: &Fields<'_>,
    key: &'static str,
    length: Duration,
    problems: &mut Problems,
) -> Option<Duration> {
    let value = fields.get(key)?;
    let at = value.duration(problems)?;
    if at > length {
        problems.push(value.invalid("must not be after the end of the run (`spec.duration`)"));
    }
    Some(at)
}

fn form(
    key: &'static str,
    fields: &Fields<'_>,
    within: Duration,
    problems: &mut Problems,
) -> Option<Form> {
    let value = fields.get(key)?;
    if key == "wait" {
        return wait(&value, problems);
    }
    let cel = Cel {
        text: value.name(problems)?.to_string(),
        span: value.span(),
    };
    Some(match key {
        "always" => Form::Always(cel),
        "never" => Form::Never(cel),
        _ => Form::Eventually(cel, within),
    })
}

fn wait(value: &Value<'_>, problems: &mut Problems) -> Option<Form> {
    let fields = value.fields(problems)?;
    let condition = fields.require("for", problems).and_then(|value| {
        let text = value.name(problems)?;
        let word = text.split('=').next().unwrap_or_default();
        if !["condition", "delete", "create", "jsonpath"].contains(&word) {
            let wrong = value.invalid("must be as after `kubectl wait --for`");
            problems.push(
                wrong.hint("condition=Available, delete, jsonpath='{.status.phase}'=Running"),
            );
        }
        Some(text.to_string())
    });
    let reason = fields
        .text("reason", problems)
        .map(|reason| reason.to_string());
    let resource = fields.require("resource", problems);
    let resource = resource.and_then(|value| {
        let text = value.name(problems)?;
        if !text.contains('/') {
            problems.push(value.invalid("must be as deployment/frontend"));
        }
        Some(text.to_string())
    });
    let timeout = fields.duration("timeout", problems).unwrap_or(WAIT);
    fields.finish(problems);
    Some(Form::Wait {
        condition: condition?,
        reason,
        resource: resource?,
        timeout,
    })
}

/// The name of an expectation that has none.
fn summary(form: &Form) -> String {
    match form {
        Form::Wait {
            condition,
            resource,
            ..
        } => format!("{resource} {condition}"),
        Form::Always(cel) => format!("always {}", cel.text),
        Form::Never(cel) => format!("never {}", cel.text),
        Form::Eventually(cel, _) => format!("eventually {}", cel.text),
    }
}
