//! `validation.jsonl`: objects, most of them damaged, and the API server's answer to them.
//!
//! 201 must be accepted with the recorded defaults; 422 must be refused with the same fields,
//! reasons and messages (in any order: upstream walks Go maps, whose order is random); 400 must be
//! refused with the same field named.
//!
//! Tolerated, because a decode alone cannot know it: what the server draws or allocates (uids in a
//! Job's labels and selector, free node ports, the names of unnamed LimitRanges). Of an
//! undecodable object the Go-flavoured wording is not compared, only the field; quantities that do
//! not parse are recorded without one.

use std::collections::BTreeSet;

use rehearsal::api::decode::{DecodeContext, Decoded, Problem, decode_json};
use serde_json::{Map, Value};

use super::support::{Case, Vectors, first_difference};

/// The file. Families: the kinds.
pub const VECTORS: Vectors = Vectors {
    name: "validation",
    id: None,
    fields: &[
        "object",
        "status",
        "defaulted",
        "reason",
        "message",
        "causes",
    ],
    families: &[
        "CronJob",
        "DaemonSet",
        "Deployment",
        "HorizontalPodAutoscaler",
        "Ingress",
        "Job",
        "LimitRange",
        "Namespace",
        "NetworkPolicy",
        "Node",
        "PersistentVolume",
        "PersistentVolumeClaim",
        "Pod",
        "PodDisruptionBudget",
        "PriorityClass",
        "ReplicaSet",
        "ResourceQuota",
        "Service",
        "StatefulSet",
        "StorageClass",
    ],
    family,
    compare,
};

/// Objects changed in more ways than the recorded ones, answered by the same version.
pub const MORE: Vectors = Vectors {
    name: "validation-more",
    families: &[
        "ClusterRole",
        "CronJob",
        "DaemonSet",
        "Job",
        "Namespace",
        "Node",
        "PersistentVolume",
        "Pod",
        "PriorityClass",
        "ReplicaSet",
        "ResourceQuota",
        "Secret",
        "Service",
        "ServiceAccount",
        "StatefulSet",
    ],
    ..VECTORS
};

fn family(case: &Case) -> String {
    let kind = case
        .fields
        .get("object")
        .and_then(|object| object.get("kind"));
    kind.and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn compare(case: &Case) -> Result<(), String> {
    let object = &case.fields["object"];
    // All were posted to one namespace.
    let context = DecodeContext {
        request_namespace: Some("default".to_owned()),
        ..DecodeContext::default()
    };
    let outcome = decode_json(object, &context);
    match case.fields["status"].as_i64() {
        Some(201) => accepted(object, &case.fields["defaulted"], outcome),
        Some(422) => refused(&case.fields["causes"], outcome),
        Some(400) => undecodable(case.text("message")?, outcome),
        other => Err(format!("an answer nobody expects: {other:?}")),
    }
}

fn listed(problems: &[Problem]) -> String {
    let lines: Vec<_> = problems
        .iter()
        .map(|p| format!("\n    {p} [{}]", p.reason))
        .collect();
    lines.concat()
}

type Outcome = Result<Decoded, Vec<Problem>>;

fn accepted(object: &Value, defaulted: &Value, outcome: Outcome) -> Result<(), String> {
    let decoded = outcome.map_err(|p| format!("expected acceptance, got{}", listed(&p)))?;
    if !decoded.warnings.is_empty() {
        return Err(format!(
            "warnings about a good object:{}",
            listed(&decoded.warnings)
        ));
    }
    let mut expected = defaulted.clone();
    forget_drawn(&mut expected, object);
    let mut got = decoded.json;
    forget_drawn(&mut got, object);
    match first_difference(&expected, &got) {
        Some(difference) => Err(difference),
        None => Ok(()),
    }
}

/// Takes out of an answer what the server drew or allocated.
fn forget_drawn(answer: &mut Value, object: &Value) {
    if let Some(top) = answer.as_object_mut() {
        top.remove("status");
    }
    forget_uids(answer);
    match answer["kind"].as_str() {
        Some("Job") => {
            let spec = &mut answer["spec"];
            if object["spec"].get("selector").is_none()
                && let Some(spec) = spec.as_object_mut()
            {
                spec.remove("selector");
            }
        }
        Some("Service") => {
            let asked = object["spec"]["ports"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let ports = answer["spec"]["ports"].as_array_mut();
            for (port, asked) in ports.into_iter().flatten().zip(asked) {
                if asked["nodePort"].as_i64().unwrap_or(0) == 0
                    && let Some(port) = port.as_object_mut()
                {
                    port.remove("nodePort");
                }
            }
        }
        Some("LimitRange") if object["metadata"].get("name").is_none() => {
            answer["metadata"]["name"] = Value::from("drawn");
        }
        _ => {}
    }
}

/// The labels that name a Job and its uid, in the Job itself and in its template.
const JOB_LABELS: [&str; 4] = [
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
    "controller-uid",
    "job-name",
];

fn forget_uids(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(labels) = map.get_mut("labels").and_then(Value::as_object_mut) {
                forget_job_labels(labels);
                if labels.is_empty() {
                    map.remove("labels");
                }
            }
            map.values_mut().for_each(forget_uids);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_uids),
        _ => {}
    }
}

fn forget_job_labels(labels: &mut Map<String, Value>) {
    if labels.get(JOB_LABELS[0]).is_some() {
        labels.retain(|key, _| !JOB_LABELS.contains(&key.as_str()));
    }
}

fn refused(causes: &Value, outcome: Outcome) -> Result<(), String> {
    let problems = match outcome {
        Ok(_) => return Err(format!("accepted, expected {causes}")),
        Err(problems) => problems,
    };
    let text = |cause: &Value, key: &str| cause[key].as_str().unwrap_or_default().to_owned();
    let mut expected: Vec<_> = causes
        .as_array()
        .into_iter()
        .flatten()
        .map(|cause| {
            let (field, reason) = (text(cause, "field"), text(cause, "reason"));
            format!("{field}: {} [{reason}]", text(cause, "message"))
        })
        .collect();
    let mut got: Vec<_> = problems
        .iter()
        .map(|p| format!("{}: {} [{}]", p.path, p.message, p.reason))
        .collect();
    expected.sort();
    got.sort();
    if expected == got {
        return Ok(());
    }
    let (want, have): (BTreeSet<_>, BTreeSet<_>) =
        (expected.iter().collect(), got.iter().collect());
    let missing: Vec<_> = want
        .difference(&have)
        .map(|line| format!("\n  - {line}"))
        .collect();
    let extra: Vec<_> = have
        .difference(&want)
        .map(|line| format!("\n  + {line}"))
        .collect();
    if missing.is_empty() && extra.is_empty() {
        return Err(format!(
            "other counts: expected {expected:#?}, got {got:#?}"
        ));
    }
    Err(format!("{}{}", missing.concat(), extra.concat()))
}

fn undecodable(message: &str, outcome: Outcome) -> Result<(), String> {
    if message.contains("unknown field ") {
        // A decode warns about unknown fields: refusing them is the caller's choice.
        let problems = match outcome {
            Ok(decoded) => decoded.warnings,
            Err(problems) => problems,
        };
        let named = message.split("unknown field \"").skip(1);
        for field in named.filter_map(|rest| rest.split_once('"')) {
            let unknown = |p: &Problem| p.reason == "UnknownField" && p.path == field.0;
            if !problems.iter().any(unknown) {
                let listed = listed(&problems);
                return Err(format!("expected unknown {}, got{listed}", field.0));
            }
        }
        return Ok(());
    }
    let Err(problems) = outcome else {
        return Err(format!("accepted, expected {message}"));
    };
    let named = |path: &str| {
        let found = problems
            .iter()
            .any(|p| without_places(&p.path).starts_with(path));
        let message = || format!("expected {path} ({message}), got{}", listed(&problems));
        if found { Ok(()) } else { Err(message()) }
    };
    if let Some((_, rest)) = message.split_once("Go struct field ") {
        let place = rest.split(' ').next().unwrap_or_default();
        // The first part is the struct; parts in capitals are embedded structs.
        let fields = place.split('.').skip(1);
        let fields: Vec<_> = fields
            .filter(|f| !f.starts_with(char::is_uppercase))
            .collect();
        return named(&fields.join("."));
    }
    if message.contains("quantities must match") {
        return match problems
            .iter()
            .any(|p| p.message.contains("quantities must match"))
        {
            true => Ok(()),
            false => Err(format!("expected a bad quantity, got{}", listed(&problems))),
        };
    }
    // Which field it was is not said.
    let fieldless = [
        "illegal base64",
        "parsing time",
        "no kind",
        "parse quantity",
    ];
    if fieldless.iter().any(|words| message.contains(words)) {
        return Ok(());
    }
    if message.contains("namespace of the provided object") {
        return named("metadata.namespace");
    }
    Err(format!("an answer nobody expects: {message}"))
}

/// A path without `[…]`.
fn without_places(path: &str) -> String {
    let mut depth = 0;
    let kept = path.chars().filter(|c| {
        match c {
            '[' => depth += 1,
            ']' => {
                depth -= 1;
                return false;
            }
            _ => {}
        }
        depth == 0
    });
    kept.collect()
}
