//! CEL over the cluster.
//!
//! An expression reads the cluster through functions with constant arguments:
//! `deployment('[ns/]name')`, `replicaset`, `job`, `pod`, `node`, `service` and others give the object
//! as Kubernetes JSON; `pods('workload or prefix')`, `pods()`, `jobs('cronjob or prefix')`, `nodes()`
//! give lists;
//! `endpoints('[ns/]service')` gives `{ready, serving, terminating, total}`. Which calls an
//! expression makes is found once; before each evaluation just these are looked up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use cel::extractors::Arguments;
use cel::{Context, ExecutionError, Program, Value};
use serde_json::json;

use crate::api::print::to_json;
use crate::api::{EndpointSlice, Kind, Object, Row, Text};
use crate::engine::Time;
use crate::store::View;

/// The functions with the kinds that they read.
const FUNCTIONS: &[(&str, &[Kind])] = &[
    ("deployment", &[Kind::Deployment]),
    ("replicaset", &[Kind::ReplicaSet]),
    ("statefulset", &[Kind::StatefulSet]),
    ("daemonset", &[Kind::DaemonSet]),
    ("job", &[Kind::Job]),
    ("cronjob", &[Kind::CronJob]),
    ("jobs", &[Kind::Job]),
    ("persistentvolumeclaim", &[Kind::PersistentVolumeClaim]),
    ("pod", &[Kind::Pod]),
    ("node", &[Kind::Node]),
    ("service", &[Kind::Service]),
    ("configmap", &[Kind::ConfigMap]),
    ("pods", &[Kind::Pod]),
    ("nodes", &[Kind::Node]),
    ("endpoints", &[Kind::EndpointSlice]),
];

/// CEL's own functions and macros.
const BUILT_IN: &[&str] = &[
    "size",
    "has",
    "all",
    "exists",
    "exists_one",
    "filter",
    "map",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "int",
    "uint",
    "double",
    "string",
    "bool",
    "min",
    "max",
    "type",
    "optMap",
    "optFlatMap",
];

/// The largest or smallest value that one side of a comparison had.
#[derive(Clone, Debug, PartialEq)]
pub struct Extreme {
    /// `min` or `max`.
    pub word: &'static str,
    /// The value.
    pub value: f64,
    /// When it was first reached.
    pub at: Time,
}

type Frame = Arc<Mutex<BTreeMap<(String, String), Value>>>;

/// A compiled expression.
pub struct Expression {
    text: String,
    program: Program,
    /// The left side, when the whole compares it with a number, and whether small values matter.
    side: Option<(Program, bool)>,
    calls: Vec<(&'static str, String)>,
    namespace: Text,
    frame: Frame,
    extreme: Option<Extreme>,
    /// When the run's own time begins, for printing.
    epoch: Option<Time>,
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Expression {
    /// Compiles an expression whose names are in `namespace` unless they say otherwise.
    ///
    /// # Errors
    /// What is wrong with it, and where in the text.
    pub fn compile(text: &str, namespace: &Text) -> Result<Self, String> {
        let program = Program::compile(text).map_err(|e| format!("CEL: {e}"))?;
        for name in program.references().functions() {
            let known = FUNCTIONS.iter().any(|(f, _)| *f == name)
                || BUILT_IN.contains(&name)
                || !name.chars().next().is_some_and(char::is_alphabetic);
            if !known {
                let names = FUNCTIONS
                    .iter()
                    .map(|(f, _)| *f)
                    .chain(BUILT_IN.iter().copied());
                let near = crate::api::yaml::closest(name, names);
                let hint = near
                    .map(|n| format!("; did you mean {n}?"))
                    .unwrap_or_default();
                let at = text.find(name).unwrap_or(0) + 1;
                return Err(format!(
                    "CEL: there is no function {name} (column {at}){hint}"
                ));
            }
        }
        Ok(Expression {
            text: text.to_owned(),
            side: left_side(text),
            calls: calls(text)?,
            program,
            namespace: namespace.clone(),
            frame: Frame::default(),
            extreme: None,
            epoch: None,
        })
    }

    /// Whether it reads objects of this kind.
    pub fn reads(&self, kind: Kind) -> bool {
        self.calls.iter().any(|(name, _)| {
            FUNCTIONS
                .iter()
                .any(|(f, kinds)| f == name && kinds.contains(&kind))
        })
    }

    /// `min 5 at 04:27`, when it compares a number.
    pub fn shown(&self) -> Option<String> {
        let epoch = self.epoch.unwrap_or(Time::ZERO);
        self.extreme
            .as_ref()
            .map(|extreme| super::shown(extreme, epoch))
    }

    /// Says when the run's own time began.
    pub fn set_epoch(&mut self, epoch: Time) {
        self.epoch = Some(epoch);
    }

    /// Whether it holds now.
    ///
    /// # Errors
    /// Why it cannot be evaluated.
    pub fn evaluate(&mut self, view: &View, now: Time) -> Result<bool, String> {
        let mut frame = BTreeMap::new();
        for (name, argument) in &self.calls {
            let value = look_up(name, argument, &self.namespace, view)
                .and_then(|json| cel::to_value(json).map_err(|e| e.to_string()))?;
            frame.insert(((*name).to_owned(), argument.clone()), value);
        }
        *self.frame.lock().map_err(|e| e.to_string())? = frame;
        let context = self.context();
        if let Some((side, smallest)) = &self.side
            && let Some(value) = side.execute(&context).ok().and_then(number)
        {
            let better = self.extreme.as_ref().is_none_or(|e| {
                if *smallest {
                    value < e.value
                } else {
                    value > e.value
                }
            });
            if better {
                let word = if *smallest { "min" } else { "max" };
                self.extreme = Some(Extreme {
                    word,
                    value,
                    at: now,
                });
            }
        }
        match self.program.execute(&context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("`{}` is {other:?}, not true or false", self.text)),
            Err(error) => Err(format!("`{}`: {error}", self.text)),
        }
    }

    fn context(&self) -> Context<'static, 'static> {
        let mut context = Context::default();
        for (name, _) in FUNCTIONS {
            let frame = self.frame.clone();
            let function = move |Arguments(arguments): Arguments| {
                let argument = match arguments.first() {
                    Some(Value::String(text)) => text.to_string(),
                    _ => String::new(),
                };
                let frame = frame
                    .lock()
                    .map_err(|e| ExecutionError::function_error(name, e))?;
                let value = frame.get(&((*name).to_owned(), argument)).cloned();
                value.ok_or_else(|| {
                    ExecutionError::function_error(name, "the argument must be a constant")
                })
            };
            context
                .add_function(name, function)
                .expect("names that CEL does not have");
        }
        context
    }
}

fn number(value: Value) -> Option<f64> {
    match value {
        Value::Int(n) => Some(n as f64),
        Value::UInt(n) => Some(n as f64),
        Value::Float(n) => Some(n),
        _ => None,
    }
}

/// The left side of `left >= 4`, and whether its smallest value is the interesting one.
fn left_side(text: &str) -> Option<(Program, bool)> {
    for (operator, smallest) in [(">=", true), ("<=", false), (">", true), ("<", false)] {
        let Some((left, right)) = text.rsplit_once(operator) else {
            continue;
        };
        if right.trim().parse::<f64>().is_err() || left.contains("&&") || left.contains("||") {
            return None;
        }
        return Program::compile(left.trim())
            .ok()
            .map(|program| (program, smallest));
    }
    None
}

/// The calls of the cluster's functions with their constant arguments.
fn calls(text: &str) -> Result<Vec<(&'static str, String)>, String> {
    let mut found: Vec<(&'static str, String)> = Vec::new();
    for (name, _) in FUNCTIONS {
        for (at, _) in text.match_indices(name) {
            let before = text[..at].chars().next_back();
            let rest = text[at + name.len()..].trim_start();
            let whole = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.');
            let Some(rest) = rest.strip_prefix('(').filter(|_| whole) else {
                continue;
            };
            let rest = rest.trim_start();
            let argument = if rest.starts_with(')') {
                String::new()
            } else {
                let quote = rest.chars().next().filter(|c| *c == '\'' || *c == '"');
                let inner = quote.and_then(|q| rest[1..].split_once(q));
                let Some((inner, _)) = inner else {
                    return Err(format!(
                        "CEL: the argument of {name} must be a constant text"
                    ));
                };
                inner.to_owned()
            };
            let call = (*name, argument);
            if !found.contains(&call) {
                found.push(call);
            }
        }
    }
    Ok(found)
}

fn look_up(
    function: &str,
    argument: &str,
    namespace: &Text,
    view: &View,
) -> Result<serde_json::Value, String> {
    let (namespace, name) = argument.split_once('/').unwrap_or((namespace, argument));
    let object = |kind: Kind, namespace: &str| {
        let found = view
            .lookup(kind, namespace, name)
            .and_then(|id| view.row(id));
        found
            .map(|row| with_zeros(kind, to_json(&row)))
            .ok_or_else(|| format!("there is no {function} {name}"))
    };
    match function {
        "deployment" => object(Kind::Deployment, namespace),
        "replicaset" => object(Kind::ReplicaSet, namespace),
        "statefulset" => object(Kind::StatefulSet, namespace),
        "daemonset" => object(Kind::DaemonSet, namespace),
        "job" => object(Kind::Job, namespace),
        "cronjob" => object(Kind::CronJob, namespace),
        "jobs" => {
            let all = view.of::<crate::api::Job>().in_namespace(namespace);
            let named = all.filter(|(_, job)| name.is_empty() || begins(&job.meta.name, name));
            Ok(named.map(|(_, j)| to_json(&Row::Job(j.clone()))).collect())
        }
        "persistentvolumeclaim" => object(Kind::PersistentVolumeClaim, namespace),
        "pod" => object(Kind::Pod, namespace),
        "service" => object(Kind::Service, namespace),
        "configmap" => object(Kind::ConfigMap, namespace),
        "node" => object(Kind::Node, ""),
        "nodes" => Ok(view
            .nodes()
            .iter()
            .map(|(_, n)| to_json(&n.clone().into_row()))
            .collect()),
        "pods" => {
            let of = |p: &crate::api::Pod| name.is_empty() || belongs(p, name);
            let pods = view.pods().in_namespace(namespace).filter(|(_, p)| of(p));
            Ok(pods.map(|(_, p)| to_json(&Row::Pod(p.clone()))).collect())
        }
        "endpoints" => Ok(endpoints(namespace, name, view)),
        other => Err(format!("there is no function {other}")),
    }
}

/// Counts in the status of a workload, which the API leaves out when they are zero.
fn counts(kind: Kind) -> &'static [&'static str] {
    match kind.name() {
        "Deployment" => &[
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
        ],
        "ReplicaSet" => &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
        "StatefulSet" => &[
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
        ],
        "DaemonSet" => &[
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
        ],
        "Job" => &["active", "ready", "succeeded", "failed"],
        _ => &[],
    }
}

/// An object with its counts, so that `status.readyReplicas >= 1` is false rather than an error
/// when none is ready.
fn with_zeros(kind: Kind, mut object: serde_json::Value) -> serde_json::Value {
    if let Some(status) = object.get_mut("status").and_then(|s| s.as_object_mut()) {
        for count in counts(kind) {
            status.entry(*count).or_insert(json!(0));
        }
    }
    object
}

/// Pods of the workload of that name, or whose name begins with it.
fn belongs(pod: &crate::api::Pod, name: &str) -> bool {
    begins(&pod.meta.name, name)
}

fn begins(full: &str, name: &str) -> bool {
    let rest = full.strip_prefix(name);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn endpoints(namespace: &str, name: &str, view: &View) -> serde_json::Value {
    let (mut ready, mut serving, mut terminating, mut total) = (0, 0, 0, 0);
    for (_, slice) in view.of::<EndpointSlice>().in_namespace(namespace) {
        if slice.service_name().is_none_or(|service| service != name) {
            continue;
        }
        for endpoint in &slice.endpoints {
            total += 1;
            ready += i64::from(endpoint.ready);
            serving += i64::from(endpoint.serving);
            terminating += i64::from(endpoint.terminating);
        }
    }
    json!({"ready": ready, "serving": serving, "terminating": terminating, "total": total})
}
