//! Traffic documents: the requests that users send, in k6's words.

use std::time::Duration;

use super::app_model::client;
use super::fields::{Fields, Problems, Value};
use super::types::Threshold;
use crate::api::Text;
use crate::api::yaml::Node;
use crate::load::model::{Client, Executor, Stage, Traffic};

/// A Traffic with what has to be checked against the objects later.
#[derive(Debug)]
pub struct TrafficDraft<'n> {
    /// The traffic.
    pub traffic: Traffic,
    /// What it must keep to.
    pub thresholds: Vec<Threshold>,
    /// `spec.to`.
    pub to: Option<Value<'n>>,
    /// `spec.from`.
    pub from: Option<Value<'n>>,
    /// `spec.start`.
    pub start: Option<Value<'n>>,
}

/// k6's metrics that thresholds can be about.
pub const METRICS: [&str; 3] = ["http_req_failed", "http_req_duration", "http_reqs"];

/// Executors of k6 that are not modelled.
const OTHER_EXECUTORS: [&str; 4] = [
    "shared-iterations",
    "per-vu-iterations",
    "ramping-vus",
    "externally-controlled",
];

/// Reads a Traffic; `namespace` is that of the scenario, `length` its duration.
pub fn read<'n>(
    doc: &'n Node,
    namespace: &Text,
    length: Duration,
    problems: &mut Problems,
) -> Option<TrafficDraft<'n>> {
    let fields = Fields::document(doc);
    let (name, namespace) = super::spec::metadata(&fields, namespace, problems);
    let spec = fields.require("spec", problems)?.fields(problems);
    fields.finish(problems);
    let (spec, name) = (spec?, name?);
    let to = spec.require("to", problems);
    let start = spec.duration("start", problems).unwrap_or_default();
    let left = length.saturating_sub(start);
    let executor = executor(&spec, left, problems);
    let standard = Client::default();
    let client = (spec.fields("client", problems)).map(|fields| {
        let client = client(&fields, &standard, problems);
        fields.finish(problems);
        client
    });
    let traffic = Traffic {
        to: to
            .as_ref()
            .and_then(|value| value.name(problems))
            .unwrap_or_default(),
        from: spec.text("from", problems),
        start,
        poisson: spec.flag("poisson", problems).unwrap_or(false),
        client: client.unwrap_or(standard),
        namespace,
        name: name.clone(),
        ..Traffic::default()
    };
    let thresholds = thresholds(&spec, &name, problems);
    spec.finish(problems);
    Some(TrafficDraft {
        traffic: Traffic {
            executor: executor?,
            ..traffic
        },
        thresholds,
        to,
        from: spec.get("from"),
        start: spec.get("start"),
    })
}

fn executor(spec: &Fields<'_>, left: Duration, problems: &mut Problems) -> Option<Executor> {
    let value = spec.require("executor", problems)?;
    let known = [
        "constant-arrival-rate",
        "ramping-arrival-rate",
        "constant-vus",
    ];
    let all: Vec<&'static str> = known.into_iter().chain(OTHER_EXECUTORS).collect();
    let word = value.word(&all, problems)?;
    if OTHER_EXECUTORS.contains(&word) {
        let hint = format!("modelled are: {}", known.join(", "));
        problems.push(value.invalid("this executor is not modelled").hint(hint));
        // Its own fields are not to be reported one by one.
        spec.allow(&[
            "vus",
            "iterations",
            "maxDuration",
            "startVUs",
            "stages",
            "duration",
        ]);
        spec.allow(&[
            "gracefulRampDown",
            "gracefulStop",
            "maxVUs",
            "preAllocatedVUs",
        ]);
        return None;
    }
    let unit = time_unit(spec, word, problems);
    Some(match word {
        "constant-arrival-rate" => {
            spec.allow(&["preAllocatedVUs", "maxVUs"]);
            let rate = spec
                .require("rate", problems)
                .and_then(|v| v.whole(problems));
            Executor::ConstantArrivalRate {
                rate: rate?,
                time_unit: unit,
                duration: spec.duration("duration", problems).unwrap_or(left),
            }
        }
        "ramping-arrival-rate" => {
            spec.allow(&["preAllocatedVUs", "maxVUs"]);
            let start_rate = spec.get("startRate").and_then(|v| v.whole(problems));
            let items = spec.require("stages", problems)?.list(problems);
            let read = items.len();
            let stages: Vec<Stage> = items.iter().filter_map(|i| stage(i, problems)).collect();
            if stages.len() < read {
                return None;
            }
            Executor::RampingArrivalRate {
                start_rate: start_rate.unwrap_or(0),
                time_unit: unit,
                stages,
            }
        }
        _ => Executor::ConstantVus {
            vus: spec
                .require("vus", problems)
                .and_then(|v| v.count(problems))?,
            duration: spec.duration("duration", problems).unwrap_or(left),
            pause: spec.duration("pause", problems).unwrap_or_default(),
        },
    })
}

fn time_unit(spec: &Fields<'_>, executor: &str, problems: &mut Problems) -> Duration {
    let second = Duration::from_secs(1);
    if executor == "constant-vus" {
        return second;
    }
    let unit = spec.duration("timeUnit", problems).unwrap_or(second);
    if unit.is_zero() {
        problems.extend(
            spec.get("timeUnit")
                .map(|v| v.invalid("must be longer than 0")),
        );
        return second;
    }
    unit
}

fn stage(item: &Value<'_>, problems: &mut Problems) -> Option<Stage> {
    let fields = item.fields(problems)?;
    let duration = fields
        .require("duration", problems)
        .and_then(|v| v.duration(problems));
    let target = fields
        .require("target", problems)
        .and_then(|v| v.whole(problems));
    fields.finish(problems);
    Some(Stage {
        duration: duration?,
        target: target?,
    })
}

/// `{metric: ["rate<0.01"]}`; k6 also allows one expression without a list, and
/// `{threshold: "…"}` instead of the text.
fn thresholds(spec: &Fields<'_>, traffic: &Text, problems: &mut Problems) -> Vec<Threshold> {
    let mut found = Vec::new();
    let Some(value) = spec.get("thresholds") else {
        return found;
    };
    for (metric, value) in value.entries(problems) {
        if !METRICS.contains(&metric) {
            let wrong = value.invalid("is not a metric of k6 that is measured here");
            problems.push(wrong.suggest(metric, METRICS));
            continue;
        }
        let items = match value.node.as_list() {
            Some(_) => value.list(problems),
            None => vec![value],
        };
        for item in items {
            let text = match item.node.as_map() {
                Some(_) => item.fields(problems).and_then(|fields| {
                    fields.allow(&["abortOnFail", "delayAbortEval"]);
                    let text = fields.require("threshold", problems)?;
                    fields.finish(problems);
                    Some(text)
                }),
                None => Some(item),
            };
            let Some((span, expression)) = text.and_then(|v| Some((v.span(), v.name(problems)?)))
            else {
                continue;
            };
            found.push(Threshold {
                traffic: traffic.clone(),
                metric: Text::from(metric),
                expression: expression.to_string(),
                span,
            });
        }
    }
    found
}
