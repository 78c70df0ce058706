//! `scheduler.jsonl`: one pending pod on a recorded cluster, and what the real scheduling framework
//! said: per node the first rejecting plugin with its reasons, or every plugin's weighted score and
//! the total; for preemption the nominated node and the victims.
//!
//! `scheduler-more.jsonl` holds further cases in the same form, recorded from the same framework
//! with random clusters and chosen so that few of them reach every branch that many reach: odd
//! quantities, resizes, volumes of all kinds, profiles. They also have the message of a pod that
//! fits nowhere, and `error` where the cycle fails.
//!
//! Tolerated: preemption has several equally good outcomes in some cases, of which the recording
//! lists all and one must be ours; the order of victims is not compared; nor is the order of
//! reasons, because upstream walks a Go map of extended resources.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use rehearsal::api::decode::{DecodeContext, decode_json};
use rehearsal::api::pod_status::Phase;
use rehearsal::api::{Kind, Pod, Row};
use rehearsal::engine::{Draws, Time};
use rehearsal::sched::explain::{Explanation, Refusal};
use rehearsal::sched::{SchedulerConfig, explain};
use rehearsal::store::{Change, ObjectId, Op, View};

use super::support::{Case, Vectors, first_difference};

/// What the generated clusters are mostly about; the last only in further cases.
const FAMILIES: [&str; 13] = [
    "resources",
    "nodeaffinity",
    "taints",
    "spread",
    "defaultspread",
    "podaffinity",
    "ports",
    "images",
    "volumes",
    "preemption",
    "mixed",
    "config",
    "features",
];

/// The file.
pub const VECTORS: Vectors = Vectors {
    name: "scheduler",
    id: Some("id"),
    fields: &FIELDS,
    families: FAMILIES.split_at(FAMILIES.len() - 1).0,
    family: |case| case.text("family").unwrap_or_default().to_owned(),
    compare,
};

/// More of the same, and declared features.
pub const MORE: Vectors = Vectors {
    name: "scheduler-more",
    families: &FAMILIES,
    ..VECTORS
};

/// The fields of a case: first those of its own, then its lists of objects.
pub const FIELDS: [&str; 21] = [
    "id",
    "family",
    "config",
    "expected",
    "pod",
    "namespaces",
    "nodes",
    "pods",
    "services",
    "replicasets",
    "pvcs",
    "pvs",
    "storageclasses",
    "priorityclasses",
    "pdbs",
    "statefulsets",
    "replicationcontrollers",
    "csinodes",
    "csidrivers",
    "csistoragecapacities",
    "volumeattachments",
];

/// The lists of objects, in the order in which they are read.
const LISTS: &[&str] = FIELDS.split_at(5).1;

/// The row of an object.
pub fn decode(value: &Value) -> Result<Row, String> {
    let decoded = decode_json(value, &DecodeContext::default()).map_err(|problems| {
        let name = &value["metadata"]["name"];
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        format!("{name} does not decode: {}", problems.join("; "))
    })?;
    Ok(decoded.row)
}

/// A view with all objects of the case, in their order.
fn view(case: &Case) -> Result<View, String> {
    view_with(case, None)
}

/// A view with all objects of the case, in their order, and one more.
pub fn view_with(case: &Case, one: Option<Row>) -> Result<View, String> {
    let mut view = View::default();
    let mut next = std::collections::BTreeMap::<Kind, u32>::new();
    let lists = LISTS.iter().filter_map(|list| case.fields.get(*list));
    let objects = lists.filter_map(Value::as_array).flatten();
    let rows: Result<Vec<Row>, String> = objects.map(decode).collect();
    for row in rows?.into_iter().chain(one) {
        let index = next.entry(row.kind()).or_insert(0);
        let object = ObjectId {
            kind: row.kind(),
            index: *index,
        };
        *index += 1;
        view.apply(&Change {
            revision: view.revision + 1,
            time: Time::ZERO,
            object: Some(object),
            op: Op::Create,
            old: None,
            new: Some(placed(row)),
            event: None,
            cause: Default::default(),
            renewed: None,
        });
    }
    Ok(view)
}

/// A pod of a snapshot is where its spec says.
pub fn placed(row: Row) -> Row {
    match row {
        Row::Pod(pod) if pod.node_name.is_none() && !pod.spec.node_name.is_empty() => {
            let mut pod = Pod::clone(&pod);
            pod.node_name = Some(pod.spec.node_name.clone());
            Row::Pod(Arc::new(pod))
        }
        row => row,
    }
}

/// The configuration and the pod of a case.
pub fn asked(case: &Case) -> Result<(SchedulerConfig, Arc<Pod>), String> {
    let config = match case.fields.get("config") {
        Some(config) => SchedulerConfig::from_json(config).map_err(|m| m.to_string())?,
        None => SchedulerConfig::default(),
    };
    let pod = case.fields.get("pod").ok_or("no pod")?;
    match decode(pod)? {
        Row::Pod(pod) => Ok((config, pod)),
        _ => Err("the pod is none".into()),
    }
}

fn compare(case: &Case) -> Result<(), String> {
    let view = view(case)?;
    let (config, pod) = asked(case)?;
    assert_eq!(pod.status.phase, Phase::Pending);
    // Late enough for every recorded start time to lie in the past.
    let now = Time::from_secs(4_000_000_000);
    let got = explain(&config, &Draws::new(1), &pod, &view, now)?;
    let expected = case.fields.get("expected").ok_or("no expectation")?;
    if let Some(error) = expected.get("error") {
        return match got.message.as_deref() {
            message if error.as_str() == message => Ok(()),
            message => Err(format!("error: expected {error}, got {message:?}")),
        };
    }
    let mut shown = json!({ "nodes": nodes(&got) });
    if let Some(refusal) = &got.pre_filter {
        shown["prefilter"] = refused(refusal);
        shown["nodes"] = json!({});
    }
    let mut wanted = expected.clone();
    let nodes = wanted.get_mut("nodes").and_then(Value::as_object_mut);
    nodes
        .into_iter()
        .flat_map(Map::values_mut)
        .for_each(sort_reasons);
    if let Some(fields) = wanted.as_object_mut()
        && let Some(outcomes) = fields.remove("preemption")
    {
        preempted(&outcomes, &got)?;
    }
    if let Some(message) = wanted.as_object_mut().and_then(|w| w.remove("message"))
        && message.as_str() != got.message.as_deref()
    {
        return Err(format!(
            "message: expected {message}, got {:?}",
            got.message
        ));
    }
    match first_difference(&wanted, &shown) {
        Some(difference) => Err(difference),
        None => Ok(()),
    }
}

fn refused(refusal: &Refusal) -> Value {
    let mut shown = json!({"fits": false, "plugin": refusal.plugin, "code": refusal.code});
    if !refusal.reasons.is_empty() {
        shown["reasons"] = json!(refusal.reasons);
    }
    sort_reasons(&mut shown);
    shown
}

fn sort_reasons(refusal: &mut Value) {
    let reasons = refusal.get_mut("reasons").and_then(Value::as_array_mut);
    if let Some(reasons) = reasons {
        reasons.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    }
}

/// Every node's verdict in the recording's form.
fn nodes(got: &Explanation) -> Map<String, Value> {
    let mut nodes = Map::new();
    for (name, refusal) in &got.rejected {
        nodes.insert(name.to_string(), refused(refusal));
    }
    for (i, name) in got.feasible.iter().enumerate() {
        let mut scores = Map::new();
        for plugin in &got.scores {
            let score = plugin.normalized[i] * plugin.weight;
            scores.insert(plugin.plugin.name().to_owned(), json!(score));
        }
        let node = json!({"fits": true, "scores": scores, "total": got.totals[i]});
        nodes.insert(name.to_string(), node);
    }
    nodes
}

fn preempted(outcomes: &Value, got: &Explanation) -> Result<(), String> {
    let (node, victims) = got.preemption.clone().unwrap_or_default();
    let victims: BTreeSet<&str> = victims.iter().map(String::as_str).collect();
    let listed = outcomes.as_array().ok_or("preemption is no list")?;
    let same = |outcome: &Value| {
        let names = outcome["victims"].as_array().into_iter().flatten();
        let names: BTreeSet<&str> = names.filter_map(Value::as_str).collect();
        outcome["nominated"].as_str().unwrap_or_default() == node.as_str() && names == victims
    };
    if listed.iter().any(same) {
        return Ok(());
    }
    Err(format!(
        "preemption: expected one of {outcomes}, got {node} {victims:?}"
    ))
}
