//! ControlPlaneChaos: faults of the control plane itself.
//!
//! ```yaml
//! apiVersion: rehearsal.dev/v1
//! kind: ControlPlaneChaos
//! metadata: {name: api-down}
//! spec: {action: outage, duration: 10m}
//! ```
//!
//! `crash` and `freeze` hit a `component`, as many of its replicas (`spec.cluster.controlPlane`) as
//! `mode` says, its leader first. `latency` and `errors` hit the `requests` that their `verbs`,
//! `resources` and `userAgents` take, all of them unless given.

use std::time::Duration;

use super::{FaultDraft, mode};
use crate::api::Text;
use crate::api::yaml::Node;
use crate::fault::{Action, BadAnswer, Component, ControlAction, Fault, Mode, Requests, Selector};
use crate::scenario::fields::{Fields, Problems, Value};
use crate::scenario::spec;

const ACTIONS: [&str; 6] = [
    "crash",
    "freeze",
    "outage",
    "no-leader",
    "latency",
    "errors",
];

/// The fields of a spec, each with the actions that it belongs to.
const BELONGS: [(&str, &[&str]); 9] = [
    ("component", &["crash", "freeze"]),
    ("mode", &["crash", "freeze"]),
    ("value", &["crash", "freeze"]),
    ("latency", &["latency"]),
    ("jitter", &["latency"]),
    ("percent", &["errors"]),
    ("status", &["errors"]),
    ("retryAfter", &["errors"]),
    ("requests", &["latency", "errors"]),
];

const VERBS: [&str; 4] = ["create", "update", "patch", "delete"];

const AGENTS: [&str; 4] = [
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kubectl",
];

/// Reads a ControlPlaneChaos.
pub fn read(node: &Node, namespace: &Text, problems: &mut Problems) -> Option<FaultDraft> {
    let fields = Fields::document(node);
    let (name, _) = spec::metadata(&fields, namespace, problems);
    let spec = fields
        .require("spec", problems)
        .and_then(|value| value.fields(problems));
    fields.finish(problems);
    let spec = spec?;
    let word = spec
        .require("action", problems)
        .and_then(|value| value.word(&ACTIONS, problems));
    let duration = spec.duration("duration", problems);
    for (key, actions) in BELONGS {
        let value = spec.get(key);
        if let (Some(value), Some(word)) = (value, word)
            && !actions.contains(&word)
        {
            problems
                .push(value.invalid(format!("belongs to `action: {}`", actions.join("` or `"))));
        }
    }
    let found = word.and_then(|word| action(word, &spec, problems));
    let mode = match spec.get("mode") {
        Some(_) => mode(&spec, problems),
        None => Some(Mode::All),
    };
    spec.finish(problems);
    let fault = Fault {
        name: name?,
        kind: Text::from("ControlPlaneChaos"),
        span: node.span,
        action: Action::ControlPlane(found?),
        selector: Selector::default(),
        mode: mode?,
        duration,
    };
    Some(FaultDraft {
        fault,
        references: Vec::new(),
        places: Vec::new(),
    })
}

fn action(word: &str, spec: &Fields<'_>, problems: &mut Problems) -> Option<ControlAction> {
    Some(match word {
        "crash" => ControlAction::Crash(component(spec, problems)?),
        "freeze" => ControlAction::Freeze(component(spec, problems)?),
        "outage" => ControlAction::Outage,
        "no-leader" => ControlAction::NoLeader,
        "latency" => {
            let by = spec
                .require("latency", problems)
                .and_then(|value| value.duration(problems));
            let jitter = spec.duration("jitter", problems).unwrap_or_default();
            let requests = requests(spec, problems)?;
            ControlAction::Latency {
                by: by?,
                jitter,
                requests,
            }
        }
        _ => {
            let per_million = spec
                .require("percent", problems)
                .and_then(|value| per_million(&value, problems));
            let answer = answer(spec, problems);
            let requests = requests(spec, problems)?;
            ControlAction::Errors {
                per_million: per_million?,
                answer: answer?,
                requests,
            }
        }
    })
}

fn component(spec: &Fields<'_>, problems: &mut Problems) -> Option<Component> {
    let names = Component::ALL.map(Component::name);
    let word = spec
        .require("component", problems)?
        .word(&names, problems)?;
    Component::ALL.into_iter().find(|c| c.name() == word)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a percentage is bounded"
)]
fn per_million(value: &Value<'_>, problems: &mut Problems) -> Option<u32> {
    let percent = value.scalar(problems)?;
    let number = percent.trim_end_matches('%').trim().parse::<f64>().ok();
    let fits = number.filter(|number| *number > 0.0 && *number <= 100.0);
    if fits.is_none() {
        problems.push(value.invalid("must be a percentage greater than 0, at most 100"));
    }
    Some((fits? * 10_000.0).round() as u32)
}

fn answer(spec: &Fields<'_>, problems: &mut Problems) -> Option<BadAnswer> {
    let value = spec.require("status", problems)?;
    let status = match value.scalar(problems)?.as_str() {
        "429" => 429,
        "500" => 500,
        "503" => 503,
        "504" => 504,
        "timeout" => 0,
        _ => {
            let wrong = value.invalid("is no status that a server in trouble answers with");
            problems.push(wrong.hint("429, 500, 503, 504, or timeout for no answer at all"));
            return None;
        }
    };
    let header = match spec.get("retryAfter") {
        Some(value) if status == 0 => {
            problems.push(value.invalid("needs an answer: status is timeout"));
            return None;
        }
        Some(value) => {
            let after: Duration = value.duration(problems)?;
            let seconds = u32::try_from(after.as_secs()).ok();
            if after.subsec_nanos() > 0 || seconds.is_none() {
                problems.push(value.invalid("must be whole seconds, as in the header"));
                return None;
            }
            seconds
        }
        // `apiserver/pkg/server/filters/maxinflight.go :: retryAfter`.
        None => (status == 429).then_some(1),
    };
    Some(BadAnswer {
        status,
        retry_after_s: header,
    })
}

fn requests(spec: &Fields<'_>, problems: &mut Problems) -> Option<Requests> {
    let Some(fields) = spec.fields("requests", problems) else {
        return Some(Requests::default());
    };
    let mut words = |key, known: &[&'static str]| {
        let items = fields.list(key, problems);
        let words = items.iter().filter_map(|item| item.word(known, problems));
        words.map(Text::from).collect::<Vec<Text>>()
    };
    let (verbs, user_agents) = (words("verbs", &VERBS), words("userAgents", &AGENTS));
    let resources = fields.list("resources", problems);
    let known: Vec<&'static str> = crate::api::Kind::ALL.iter().map(|k| k.plural()).collect();
    let resources = resources
        .iter()
        .filter_map(|item| {
            let name = item.text(problems)?;
            let found = name == "events" || known.contains(&name.as_str());
            if !found {
                let wrong = item.invalid("is the plural of no kind that has behaviour here");
                problems.push(wrong.suggest(&name, known.iter().copied()));
            }
            found.then_some(name)
        })
        .collect();
    fields.finish(problems);
    Some(Requests {
        verbs,
        resources,
        user_agents,
    })
}
