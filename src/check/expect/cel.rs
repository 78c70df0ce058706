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
use cel::objects::Map;
use cel::{Context, ExecutionError, Program, Value};
use serde_json::json;

use crate::api::print::to_json;
use crate::api::{EndpointSlice, Kind, Object, Row, Text};
use crate::engine::Time;
use crate::scenario::expression::{Call, FUNCTIONS, compile};
use crate::store::View;

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
    calls: Vec<Call>,
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
        let (program, calls) = compile(text).map_err(|flaw| flaw.to_string())?;
        Ok(Expression {
            text: text.to_owned(),
            side: left_side(text),
            calls,
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

    /// Keeps the value that comes nearest to making it true, for what must never or at last be so;
    /// otherwise the one that comes nearest to breaking it.
    pub fn towards_truth(mut self) -> Self {
        self.side = self.side.map(|(side, smallest)| (side, !smallest));
        self
    }

    /// Whether it holds now.
    ///
    /// # Errors
    /// Why it cannot be evaluated.
    pub fn evaluate(&mut self, view: &View, now: Time) -> Result<bool, String> {
        let mut frame = BTreeMap::new();
        for (name, argument) in &self.calls {
            let value = look_up(name, argument, &self.namespace, view)
                .and_then(|json| cel::to_value(json).map_err(|e| e.to_string()))
                .map(signed)?;
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

/// Whole numbers as CEL's `int`, as the API server has them: literals are `int` too, and CEL does
/// not mix it with `uint`.
fn signed(value: Value) -> Value {
    match value {
        Value::UInt(n) => i64::try_from(n).map_or(Value::UInt(n), Value::Int),
        Value::List(items) => Value::List(Arc::new(items.iter().cloned().map(signed).collect())),
        Value::Map(map) => {
            let entries = map.map.iter();
            let entries = entries.map(|(key, value)| (key.clone(), signed(value.clone())));
            Value::Map(Map {
                map: Arc::new(entries.collect()),
            })
        }
        other => other,
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
        "horizontalpodautoscaler" => object(Kind::HorizontalPodAutoscaler, namespace),
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
        "HorizontalPodAutoscaler" => &["currentReplicas"],
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
