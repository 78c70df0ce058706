//! Faults of Chaos Mesh, group `chaos-mesh.org/v1alpha1`, from unchanged files.
//!
//! PodChaos and NetworkChaos are modelled (not `bandwidth`, `corrupt`, `duplicate`, reordering and
//! targets outside of the cluster); everything else is refused by name. As its webhook does, a
//! selector without namespaces means the fault's own namespace.

use std::time::Duration;

use super::chaos::{FaultDraft, mode};
use super::diagnostic::{Diagnostic, Severity};
use super::fields::{Fields, Problems, Value, equalities};
use super::spec;
use crate::api::Text;
use crate::api::selector::LabelSelector;
use crate::api::yaml::Node;
use crate::fault::{Action, Fault, LinkEffect, Peers, Selector};

/// Reads a document of Chaos Mesh.
pub fn read(node: &Node, namespace: &Text, problems: &mut Problems) -> Option<FaultDraft> {
    let fields = Fields::document(node);
    let kind = node.get("kind").and_then(Node::as_str).unwrap_or_default();
    if !matches!(kind, "PodChaos" | "NetworkChaos") {
        let message = format!("{kind} of Chaos Mesh is not modelled");
        let refused = Diagnostic::error("NotModelled", message, node.span);
        problems.push(refused.hint("modelled are PodChaos and NetworkChaos"));
        return None;
    }
    let mut metadata = Problems::new();
    let (name, namespace) = spec::metadata(&fields, namespace, &mut metadata);
    problems.extend(foreign(metadata));
    let spec = fields
        .require("spec", problems)
        .and_then(|value| value.fields(problems))?;
    let mode = mode(&spec, problems);
    let selector = selector(&spec, &namespace, problems);
    if let Some(value) = spec.get("remoteCluster") {
        problems.push(refused(&value, "remoteCluster"));
    }
    let action = match kind {
        "PodChaos" => pod_action(&spec, problems),
        _ => network_action(&spec, &namespace, problems),
    };
    let fault = Fault {
        name: name?,
        kind: Text::from(kind),
        span: node.span,
        action: action?,
        selector: selector?,
        mode: mode?,
        duration: spec.duration("duration", problems),
    };
    let mut unknown = Problems::new();
    spec.finish(&mut unknown);
    problems.extend(foreign(unknown));
    Some(FaultDraft {
        fault,
        references: Vec::new(),
        places: Vec::new(),
    })
}

/// Unknown fields are warnings in kinds that are not ours.
fn foreign(problems: Problems) -> impl Iterator<Item = Diagnostic> {
    problems
        .into_iter()
        .map(|problem| match problem.reason.as_str() {
            "UnknownField" => Diagnostic {
                severity: Severity::Warning,
                ..problem
            },
            _ => problem,
        })
}

fn refused(value: &Value<'_>, what: &str) -> Diagnostic {
    let message = format!("{what} of Chaos Mesh is not modelled");
    Diagnostic::error("NotModelled", message, value.span()).at(value.path.as_str())
}

fn pod_action(spec: &Fields<'_>, problems: &mut Problems) -> Option<Action> {
    let value = spec.require("action", problems)?;
    let word = value.word(&["pod-kill", "pod-failure", "container-kill"], problems)?;
    let grace = spec.count("gracePeriod", problems);
    let containers = spec.texts("containerNames", problems);
    Some(match word {
        "pod-kill" => Action::PodKill {
            grace_s: grace.unwrap_or(0),
        },
        "pod-failure" => Action::PodFailure,
        _ if containers.is_empty() => {
            if let Some(value) = spec.require("containerNames", problems) {
                problems.push(value.invalid("must name the containers to kill"));
            }
            return None;
        }
        _ => Action::ContainerKill { containers },
    })
}

const NETWORK: [&str; 8] = [
    "netem",
    "delay",
    "loss",
    "duplicate",
    "corrupt",
    "partition",
    "bandwidth",
    "rate",
];

fn network_action(spec: &Fields<'_>, namespace: &Text, problems: &mut Problems) -> Option<Action> {
    let value = spec.require("action", problems)?;
    let word = value.word(&NETWORK, problems)?;
    spec.allow(&["device", "targetDevice"]);
    for key in [
        "duplicate",
        "corrupt",
        "bandwidth",
        "rate",
        "externalTargets",
    ] {
        let part = spec.get(key);
        if word == key {
            problems.push(refused(&value, &format!("action {word}")));
            return None;
        }
        problems.extend(part.map(|part| refused(&part, key)));
    }
    let delay = spec.get("delay").and_then(|value| delay(&value, problems));
    let loss = spec.get("loss").and_then(|value| loss(&value, problems));
    let effects: Vec<LinkEffect> = match word {
        "partition" => vec![LinkEffect::Cut],
        _ => delay.into_iter().chain(loss).collect(),
    };
    let missing = match word {
        "delay" | "loss" => spec
            .get(if word == "delay" { "delay" } else { "loss" })
            .is_none(),
        _ => effects.is_empty(),
    };
    if missing {
        problems.push(value.invalid(format!("needs `{word}`, which is missing")));
        return None;
    }
    let peers = peers(spec, word, namespace, problems)?;
    Some(Action::Network { effects, peers })
}

fn peers(
    spec: &Fields<'_>,
    action: &str,
    namespace: &Text,
    problems: &mut Problems,
) -> Option<Peers> {
    let direction = spec.get("direction");
    let word = match &direction {
        Some(value) => value.word(&["to", "from", "both"], problems)?,
        None => "to",
    };
    let target = match spec.fields("target", problems) {
        Some(target) => {
            let mode = mode(&target, problems);
            let selector = selector(&target, namespace, problems);
            let mut unknown = Problems::new();
            target.finish(&mut unknown);
            problems.extend(foreign(unknown));
            Some((Box::new(selector?), mode?))
        }
        None => None,
    };
    if let (true, None, Some(value)) = (word != "to", &target, &direction)
        && action != "partition"
    {
        problems.push(value.invalid("needs a target"));
        return None;
    }
    Some(Peers {
        outgoing: word != "from",
        incoming: word != "to",
        target,
    })
}

fn delay(value: &Value<'_>, problems: &mut Problems) -> Option<LinkEffect> {
    let fields = value.fields(problems)?;
    let latency = fields
        .require("latency", problems)
        .and_then(|v| v.duration(problems));
    let jitter = fields
        .duration("jitter", problems)
        .unwrap_or(Duration::ZERO);
    let correlation = percent(fields.get("correlation"), problems).unwrap_or(0.0);
    problems.extend(
        fields
            .get("reorder")
            .map(|value| refused(&value, "reorder")),
    );
    Some(LinkEffect::Delay {
        latency: latency?,
        jitter,
        correlation,
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a percentage is bounded"
)]
fn loss(value: &Value<'_>, problems: &mut Problems) -> Option<LinkEffect> {
    let fields = value.fields(problems)?;
    let lost = percent(fields.require("loss", problems), problems);
    let correlation = percent(fields.get("correlation"), problems).unwrap_or(0.0);
    Some(LinkEffect::Loss {
        per_million: (lost? * 10_000.0).round() as u32,
        correlation,
    })
}

/// A percentage, written as text.
fn percent(value: Option<Value<'_>>, problems: &mut Problems) -> Option<f64> {
    let value = value?;
    let number = value.scalar(problems)?.parse::<f64>().ok();
    let fits = number.filter(|number| (0.0..=100.0).contains(number));
    if fits.is_none() {
        problems.push(value.invalid("must be a percentage between 0 and 100"));
    }
    fits
}

fn selector(spec: &Fields<'_>, namespace: &Text, problems: &mut Problems) -> Option<Selector> {
    let value = spec.require("selector", problems)?;
    let fields = value.fields(problems)?;
    let mut selector = Selector {
        namespaces: fields.texts("namespaces", problems),
        nodes: fields.texts("nodes", problems),
        phases: fields.texts("podPhaseSelectors", problems),
        ..Selector::default()
    };
    if selector.namespaces.is_empty() {
        selector.namespaces.push(namespace.clone());
    }
    for (key, target) in [
        ("labelSelectors", &mut selector.labels),
        ("annotationSelectors", &mut selector.annotations),
        ("nodeSelectors", &mut selector.node_labels),
    ] {
        if let Some(value) = fields.get(key) {
            *target = LabelSelector {
                requirements: equalities(&value.labels(problems)),
                nothing: false,
            };
        }
    }
    for item in fields.list("expressionSelectors", problems) {
        selector
            .labels
            .requirements
            .extend(item.requirement(problems));
    }
    if let Some(value) = fields.get("fieldSelectors") {
        for (key, value) in value.labels(problems).iter() {
            if !FIELDS.contains(&key.as_str()) {
                let message = format!("field label not supported: {key}");
                let span = spec.node.span;
                let wrong = Diagnostic::error("FieldValueNotSupported", message, span);
                problems.push(wrong.suggest(key, FIELDS));
            }
            selector.fields.push((key.clone(), value.clone()));
        }
    }
    if let Some(pods) = fields.get("pods") {
        for (namespace, names) in pods.entries(problems) {
            for name in names.list(problems) {
                let name = name.text(problems);
                selector
                    .pods
                    .extend(name.map(|name| (Text::from(namespace), name)));
            }
        }
        // Pods that are named are the selection: upstream does not look at the rest then.
        selector = Selector {
            pods: selector.pods,
            ..Selector::default()
        };
    }
    let mut unknown = Problems::new();
    fields.finish(&mut unknown);
    problems.extend(foreign(unknown));
    Some(selector)
}

/// The field labels that the API server knows for pods.
const FIELDS: [&str; 6] = [
    "metadata.name",
    "metadata.namespace",
    "spec.nodeName",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
];
