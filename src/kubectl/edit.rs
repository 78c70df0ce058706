//! What a verb writes to one object, and what kubectl prints for it.

use serde_json::{Value, json};

use super::refusal::refusal;
use super::verb::{ResourceKind, Targets, Verb};
use super::{autoscale, resources, rollout, told};
use crate::api::affinity::{Taint, TaintEffect};
use crate::api::decode::{DecodeContext, with_patched_json};
use crate::api::patch::PatchKind;
use crate::api::print::to_json;
use crate::api::{Kind, Row, Text};
use crate::engine::Time;
use crate::store::write::Trigger;
use crate::store::{ApiError, Cause, ObjectId, Patch, View, Write};

/// One object that a verb is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Which.
    pub object: ObjectId,
    /// `deployment.apps/web`.
    pub name: String,
}

/// What to do with one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write this; kubectl prints the line when it is done.
    Write(Write, String),
    /// Nothing to write; kubectl prints the line.
    Say(String),
}

/// `deployment.apps/web`, as kubectl prints names.
pub fn printed_name(row: &Row) -> String {
    let kind = row.kind();
    let (api, kind_name) = match row {
        Row::Inert(inert) => (
            inert.api_version.to_string(),
            inert.kind.to_ascii_lowercase(),
        ),
        _ => (
            kind.api_version().to_owned(),
            kind.name().to_ascii_lowercase(),
        ),
    };
    let group = api.split_once('/').map_or("", |(group, _)| group);
    let dot = if group.is_empty() { "" } else { "." };
    format!("{kind_name}{dot}{group}/{}", row.meta().name)
}

/// The objects that a verb names, in kubectl's order.
///
/// # Errors
/// `NotFound`, in kubectl's words.
pub fn resolve(targets: &Targets, view: &View) -> Result<Vec<Target>, String> {
    let mut found = Vec::new();
    for (kind, name) in &targets.named {
        let rows = match kind {
            ResourceKind::Typed(kind) => view.rows(*kind),
            ResourceKind::Other(other) => {
                let mut rows = view.rows(Kind::Inert);
                rows.retain(
                    |(_, row)| matches!(row, Row::Inert(i) if resources::means(other, i, view)),
                );
                rows
            }
        };
        let before = found.len();
        for (object, row) in rows {
            let meta = row.meta();
            let here = meta.namespace.is_empty()
                || targets.all_namespaces
                || meta.namespace == targets.namespace;
            let named = name.is_empty() || meta.name == *name;
            let selected = targets
                .selector
                .as_ref()
                .is_none_or(|s| s.matches(&meta.labels));
            if here && named && selected {
                found.push(Target {
                    object,
                    name: printed_name(&row),
                });
            }
        }
        if found.len() == before && !name.is_empty() {
            let plural = resources::printed(kind);
            return Err(format!(
                "Error from server (NotFound): {plural} \"{name}\" not found"
            ));
        }
    }
    Ok(found)
}

/// What `verb` does to one object, as it is now.
///
/// # Errors
/// In kubectl's words.
pub fn action(verb: &Verb, target: &Target, view: &View, now: Time) -> Result<Action, String> {
    let Some(row) = view.row(target.object) else {
        return Err(format!(
            "Error from server (NotFound): {} not found",
            target.name
        ));
    };
    match verb {
        Verb::Scale(_, replicas, current) => scale(target, &row, *replicas, *current),
        Verb::Autoscale(_, flags) => autoscale::action(target, &row, flags),
        Verb::SetImage(_, images) => {
            let json = to_json(&row);
            let new = set_images(json.clone(), images, &target.name)?;
            edited(target, &row, &json, &new, "image updated")
        }
        Verb::Rollout(_, what) => rollout::action(target, &row, what, view, now),
        Verb::Cordon(_, on) => Ok(cordon(target, &row, *on)),
        Verb::Taint(_, add, remove, overwrite) => taint(target, &row, add, remove, *overwrite),
        Verb::Mark(_, annotate, edits, overwrite) => {
            mark(target, &row, *annotate, edits, *overwrite)
        }
        Verb::Patch(_, kind, document) => {
            let mut lines = told::patched(&row, *kind, document);
            lines.push(format!("{} patched", target.name));
            let write = patch(target, Patch::Document(*kind, document.clone()));
            Ok(Action::Write(write, lines.join("\n")))
        }
        Verb::Apply | Verb::Create | Verb::Replace | Verb::Delete(..) | Verb::Drain(..) => {
            Err(format!("{} is not an edit of one object", target.name))
        }
    }
}

pub(super) fn edited(
    target: &Target,
    row: &Row,
    old: &Value,
    new: &Value,
    what: &str,
) -> Result<Action, String> {
    if old == new {
        return Ok(Action::Say(String::new()));
    }
    let mut lines = told::replaced(old, new);
    lines.push(format!("{} {what}", target.name));
    let context = DecodeContext::default();
    let new = with_patched_json(row, new, &context).map_err(|problems| {
        let list: Vec<String> = problems.iter().map(ToString::to_string).collect();
        refusal(&ApiError::invalid(row, list))
    })?;
    let write = Write::Update(target.object, new);
    Ok(Action::Write(write, lines.join("\n")))
}

pub(super) fn patch(target: &Target, patch: Patch) -> Write {
    Write::Patch {
        object: target.object,
        uid: None,
        patch,
    }
}

fn scale(
    target: &Target,
    row: &Row,
    replicas: i32,
    current: Option<i32>,
) -> Result<Action, String> {
    let now = match row {
        Row::Deployment(d) => d.replicas,
        Row::ReplicaSet(rs) => rs.replicas,
        Row::StatefulSet(set) => set.replicas,
        _ => return Err(format!("error: cannot scale {}", target.name)),
    };
    if let Some(current) = current.filter(|c| *c != now) {
        return Err(format!(
            "error: Expected replicas to be {current}, was {now}"
        ));
    }
    let write = patch(target, Patch::Replicas(replicas));
    Ok(Action::Write(write, format!("{} scaled", target.name)))
}

/// `kubectl set image`: the container of that name, or `*` for all.
fn set_images(mut json: Value, images: &[(Text, Text)], name: &str) -> Result<Value, String> {
    let pointer = if json.pointer("/spec/template").is_some() {
        "/spec/template/spec"
    } else {
        "/spec"
    };
    let Some(spec) = json.pointer_mut(pointer) else {
        return Err(format!("error: {name} has no containers"));
    };
    for (container, image) in images {
        let mut found = false;
        for list in ["initContainers", "containers"] {
            let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else {
                continue;
            };
            for each in containers {
                if container == "*" || each.get("name").and_then(Value::as_str) == Some(container) {
                    each["image"] = json!(image.as_str());
                    found = true;
                }
            }
        }
        if !found {
            return Err(format!(
                "error: unable to find container named \"{container}\""
            ));
        }
    }
    Ok(json)
}

fn cordon(target: &Target, row: &Row, on: bool) -> Action {
    let state = if on { "cordoned" } else { "uncordoned" };
    match row {
        Row::Node(node) if node.unschedulable == on => {
            Action::Say(format!("{} already {state}", target.name))
        }
        _ => {
            let write = patch(target, Patch::Unschedulable(on));
            Action::Write(write, format!("{} {state}", target.name))
        }
    }
}

fn taint(
    target: &Target,
    row: &Row,
    add: &[Taint],
    remove: &[(Text, Option<TaintEffect>)],
    overwrite: bool,
) -> Result<Action, String> {
    let Row::Node(node) = row else {
        return Err(format!("error: {} is no node", target.name));
    };
    for new in add {
        let clash = node
            .taints
            .iter()
            .any(|t| t.key == new.key && t.effect == new.effect);
        if clash && !overwrite {
            return Err(format!(
                "error: node {} already has {} taint(s) with same effect(s) and --overwrite is \
                 false",
                node.meta.name, new.key
            ));
        }
    }
    let gone: Vec<Taint> = node
        .taints
        .iter()
        .filter(|t| {
            remove
                .iter()
                .any(|(key, effect)| t.key == *key && effect.is_none_or(|e| e == t.effect))
        })
        .cloned()
        .collect();
    if gone.is_empty() && add.is_empty() {
        let keys: Vec<&str> = remove.iter().map(|(key, _)| key.as_str()).collect();
        return Err(format!("error: taint \"{}\" not found", keys.join(",")));
    }
    let done = if add.is_empty() {
        "untainted"
    } else {
        "tainted"
    };
    let write = patch(
        target,
        Patch::NodeTaints {
            add: add.to_vec(),
            remove: gone,
        },
    );
    Ok(Action::Write(write, format!("{} {done}", target.name)))
}

fn mark(
    target: &Target,
    row: &Row,
    annotate: bool,
    edits: &[(Text, Option<Text>)],
    overwrite: bool,
) -> Result<Action, String> {
    let meta = row.meta();
    let old = if annotate {
        &meta.annotations
    } else {
        &meta.labels
    };
    for (key, value) in edits {
        if let (Some(value), Some(before)) = (value, old.get(key))
            && before != value
            && !overwrite
        {
            let name = &meta.name;
            return Err(format!(
                "error: '{key}' already has a value ({before}), and --overwrite is false ({name})"
            ));
        }
    }
    let done = match (annotate, edits.iter().all(|(_, value)| value.is_none())) {
        (true, _) => "annotated",
        (false, true) => "unlabeled",
        (false, false) => "labeled",
    };
    let pairs = edits.iter().map(|(key, value)| {
        let value = value.as_ref().map(Text::as_str);
        (key.to_string(), Value::from(value))
    });
    let pairs: Value = pairs.collect::<serde_json::Map<_, _>>().into();
    let change = match annotate {
        true => json!({"metadata": {"annotations": pairs}}),
        false => json!({"metadata": {"labels": pairs}}),
    };
    Ok(Action::Write(
        patch(target, Patch::Document(PatchKind::Merge, change.into())),
        format!("{} {done}", target.name),
    ))
}

/// The cause of a step's writes with kubectl's words as the rule.
pub fn cause_of(cause: Cause, rule: &'static str) -> Cause {
    let trigger: Trigger = cause.trigger;
    Cause {
        origin: cause.origin,
        trigger,
        rule,
    }
}
