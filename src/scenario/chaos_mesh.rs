//! Faults of Chaos Mesh, group `chaos-mesh.org/v1alpha1`, from unchanged files.
//!
//! PodChaos, NetworkChaos (targets outside of the cluster must be something in it: [`external`]),
//! StressChaos, DNSChaos and HTTPChaos are modelled, and Schedule and Workflow of these ([`plan`]); everything
//! else is refused by name. As its webhook does, a selector without namespaces means the fault's own
//! namespace.

use std::time::Duration;

use super::chaos::{FaultDraft, mode};
use super::diagnostic::{Diagnostic, Severity};
use super::fields::{Fields, Problems, Value, equalities};
use super::spec;
use crate::api::Text;
use crate::api::selector::LabelSelector;
use crate::api::yaml::Node;
use crate::fault::{Action, Fault, LinkEffect, Peers, Selector};

pub mod plan;

pub mod external;

mod http;

mod stress;

pub use stress::stressors;

/// The kinds that are read.
const KINDS: [&str; 5] = [
    "PodChaos",
    "NetworkChaos",
    "StressChaos",
    "DNSChaos",
    "HTTPChaos",
];

/// Reads a document of Chaos Mesh.
pub fn read(node: &Node, namespace: &Text, problems: &mut Problems) -> Option<FaultDraft> {
    let fields = Fields::document(node);
    let kind = node.get("kind").and_then(Node::as_str).unwrap_or_default();
    if !KINDS.contains(&kind) {
        let message = format!("{kind} of Chaos Mesh is not modelled");
        let refused = Diagnostic::error("NotModelled", message, node.span);
        let kinds = KINDS.join(", ");
        problems.push(refused.hint(format!("modelled are {kinds}, Schedule, Workflow")));
        return None;
    }
    let mut metadata = Problems::new();
    let (name, namespace) = spec::metadata(&fields, namespace, &mut metadata);
    problems.extend(foreign(metadata));
    let spec = fields
        .require("spec", problems)
        .and_then(|value| value.fields(problems))?;
    let fault = read_fault(kind, &spec, &namespace, problems);
    let mut unknown = Problems::new();
    spec.finish(&mut unknown);
    problems.extend(foreign(unknown));
    Some(FaultDraft {
        fault: Fault {
            name: name?,
            span: node.span,
            ..fault?
        },
        references: Vec::new(),
        places: Vec::new(),
    })
}

/// Whether a kind of Chaos Mesh is acted on.
pub fn is_modelled(kind: &str) -> bool {
    KINDS.contains(&kind) || matches!(kind, "Schedule" | "Workflow")
}

/// Reads the spec of a fault of this kind, one of [`KINDS`]; its name and place are the caller's.
fn read_fault(
    kind: &str,
    spec: &Fields<'_>,
    namespace: &Text,
    problems: &mut Problems,
) -> Option<Fault> {
    let mode = mode(spec, problems);
    let selector = selector(spec, namespace, problems);
    if let Some(value) = spec.get("remoteCluster") {
        problems.push(refused(&value, "remoteCluster"));
    }
    let action = match kind {
        "PodChaos" => pod_action(spec, problems),
        "StressChaos" => stress::stress_action(spec, problems),
        "DNSChaos" => stress::dns_action(spec, problems),
        "HTTPChaos" => http::http_action(spec, problems),
        _ => network_action(spec, namespace, problems),
    };
    let duration = spec.duration("duration", problems);
    Some(Fault {
        name: Text::default(),
        kind: Text::from(kind),
        span: spec.node.span,
        action: action?,
        selector: selector?,
        mode: mode?,
        duration,
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

/// Reads one part of a NetworkChaos.
type ReadEffect = fn(&Value<'_>, &mut Problems) -> Option<LinkEffect>;

const NETWORK: [&str; 7] = [
    "netem",
    "delay",
    "loss",
    "duplicate",
    "corrupt",
    "partition",
    "bandwidth",
];

/// Bytes that wait for a rate of `netem`, whose queue has room for a thousand packets.
const NETEM_QUEUE: u64 = 1_000 * 1_514;

fn network_action(spec: &Fields<'_>, namespace: &Text, problems: &mut Problems) -> Option<Action> {
    let value = spec.require("action", problems)?;
    let word = value.word(&NETWORK, problems)?;
    spec.allow(&["device", "targetDevice"]);
    let read: [(&str, ReadEffect); 6] = [
        ("delay", delay),
        ("loss", loss),
        ("corrupt", |value, problems| {
            let per_million = share(value, "corrupt", problems)?;
            Some(LinkEffect::Corrupt { per_million })
        }),
        ("duplicate", |value, problems| {
            let per_million = share(value, "duplicate", problems)?;
            Some(LinkEffect::Duplicate { per_million })
        }),
        ("rate", |value, problems| {
            let fields = value.fields(problems)?;
            Some(LinkEffect::Rate {
                bytes_per_s: rate(&fields.require("rate", problems)?, problems)?,
                burst: 0,
                queue: NETEM_QUEUE,
            })
        }),
        ("bandwidth", bandwidth),
    ];
    let mut effects = Vec::new();
    // All parts of netem work together, whichever of them the action is called after
    // (`controllers/podnetworkchaos/controller.go :: mergeNetem`).
    let netem = !matches!(word, "bandwidth" | "partition");
    for (key, read) in read {
        // A part that belongs to another action is looked at, and has no effect there.
        let found = spec.get(key).map(|value| read(&value, problems));
        match found {
            Some(effect) if netem && key != "bandwidth" => effects.push(effect),
            Some(effect) if word == key => effects.push(effect),
            None if word == key => {
                problems.push(value.invalid(format!("needs `{word}`, which is missing")));
                return None;
            }
            _ => {}
        }
    }
    if word == "partition" {
        effects.push(Some(LinkEffect::Cut));
    } else if effects.is_empty() {
        problems.push(value.invalid(format!("needs `{word}`, which is missing")));
        return None;
    }
    let effects: Vec<LinkEffect> = effects.into_iter().collect::<Option<_>>()?;
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
    let external = external::externals(spec, problems)?;
    if let (true, Some(value)) = (word != "to", &direction)
        && action != "partition"
    {
        // (`api/v1alpha1/networkchaos_webhook.go :: NetworkChaosSpec.Validate`)
        if !external.is_empty() {
            let why = "external targets cannot be used with `from` and `both` direction in netem \
                       action yet";
            problems.push(value.invalid(why));
            return None;
        }
        if target.is_none() {
            problems.push(value.invalid("needs a target"));
            return None;
        }
    }
    Some(Peers {
        outgoing: word != "from",
        incoming: word != "to",
        target,
        external,
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
    let early = match fields.get("reorder") {
        Some(value) => reorder(&value, problems)?,
        None => 0,
    };
    Some(LinkEffect::Delay {
        latency: latency?,
        jitter,
        correlation,
        early_per_million: early,
    })
}

/// `reorder`: the share that is not delayed; with a gap only every n-th packet may be.
fn reorder(value: &Value<'_>, problems: &mut Problems) -> Option<u32> {
    let fields = value.fields(problems)?;
    fields.allow(&["correlation"]);
    let share = percent(fields.require("reorder", problems), problems)?;
    let gap = fields.count("gap", problems).unwrap_or(1).max(1);
    Some(per_million(share / f64::from(gap)))
}

fn loss(value: &Value<'_>, problems: &mut Problems) -> Option<LinkEffect> {
    let fields = value.fields(problems)?;
    let lost = percent(fields.require("loss", problems), problems);
    let correlation = percent(fields.get("correlation"), problems).unwrap_or(0.0);
    Some(LinkEffect::Loss {
        per_million: per_million(lost?),
        correlation,
    })
}

/// A part of the packets, under the name of what happens to them.
fn share(value: &Value<'_>, key: &'static str, problems: &mut Problems) -> Option<u32> {
    let fields = value.fields(problems)?;
    fields.allow(&["correlation"]);
    percent(fields.require(key, problems), problems).map(per_million)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a percentage is bounded"
)]
fn per_million(percent: f64) -> u32 {
    (percent * 10_000.0).round() as u32
}

/// `bandwidth`, as `tc-tbf` has it.
fn bandwidth(value: &Value<'_>, problems: &mut Problems) -> Option<LinkEffect> {
    let fields = value.fields(problems)?;
    // A second bucket would only smooth what the first one lets through at once.
    fields.allow(&["peakrate", "minburst"]);
    let parsed = rate(&fields.require("rate", problems)?, problems);
    let queue = fields
        .require("limit", problems)
        .and_then(|v| v.count(problems));
    let burst = fields
        .require("buffer", problems)
        .and_then(|v| v.count(problems));
    Some(LinkEffect::Rate {
        bytes_per_s: parsed?,
        burst: u64::from(burst?),
        queue: u64::from(queue?),
    })
}

/// Bytes in a second. A `bps` is one, a `bit` an eighth of it; the text goes to `tc` as it is, whose
/// multiples are of 1000 (`pkg/netem/convert.go :: FromBandwidth`).
fn rate(value: &Value<'_>, problems: &mut Problems) -> Option<u64> {
    const UNITS: [&str; 10] = [
        "kbit", "mbit", "gbit", "tbit", "kbps", "mbps", "gbps", "tbps", "bps", "bit",
    ];
    let text = value.text(problems)?.to_ascii_lowercase();
    let parsed = UNITS.iter().find_map(|unit| {
        let number = text.trim().strip_suffix(unit)?.trim().parse::<u64>().ok()?;
        let power = match unit.as_bytes()[0] {
            b'k' => 1,
            b'm' => 2,
            b'g' => 3,
            b't' => 4,
            _ => 0,
        };
        let units = number.checked_mul(1_000u64.pow(power))?;
        let bytes = match unit.ends_with("bit") {
            true => units / 8,
            false => units,
        };
        (bytes > 0).then_some(bytes)
    });
    if parsed.is_none() {
        let wrong = value.invalid("must be a whole number greater than 0 with a unit");
        let hint = "bit, kbit, mbit, gbit, tbit in a second; bps, kbps, mbps, gbps, tbps are bytes";
        problems.push(wrong.hint(hint));
    }
    parsed
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

/// A whole percentage, with or without its sign.
fn percent_of(value: &Value<'_>, problems: &mut Problems) -> Option<u32> {
    let text = value.scalar(problems)?;
    let number = text.trim_end_matches('%').trim().parse::<u32>().ok();
    let fits = number.filter(|number| *number <= 100);
    if fits.is_none() {
        problems.push(value.invalid("must be a whole percentage between 0 and 100"));
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
