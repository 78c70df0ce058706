//! The road that every object takes: versions, strict decode, defaults, validation, row.

use std::sync::Arc;

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::kinds;
use super::meta::meta;
use super::not_modelled::not_modelled;
use super::versions;
use super::{DecodeContext, Decoded, NotModelled, Problem};
use crate::api::print::{complete, prune};
use crate::api::validate::field::{At, Errors};
use crate::api::validate::{self, NameRule};
use crate::api::yaml::{DecodeError, Node, NodeValue, Path, UnknownField, decode_with};
use crate::api::{Inert, Kind, Row};

/// What is done to the objects of one kind.
pub(super) struct Steps<T> {
    pub namespaced: bool,
    pub name: NameRule,
    pub defaults: fn(&mut T),
    /// What is the whole answer if it finds something: hooks that run before the validation.
    pub first: fn(&T, &At<'_>, &mut Errors),
    pub validate: fn(&T, &Node, &At<'_>, &mut Errors),
    /// Whether the metadata is looked at only when all else is good.
    pub meta_last: bool,
    /// Whether finalizers without a prefix must be Kubernetes' own.
    pub own_finalizers: bool,
    pub row: Option<fn(&T, &Value, &DecodeContext) -> Row>,
    /// What admission plugins add to the printed object.
    pub admit: fn(&mut Value),
}

/// Whether an optional value counts as not written: upstream's plain scalars do not tell their
/// zero from absence, its pointers (see [`crate::api::print::keeps_zero`]) do.
fn absent(path: &Path<'_>, node: &Node) -> bool {
    let Path::Key(parent, key) = path else {
        return false;
    };
    is_zero(node) && {
        let (parent, above) = parent_key(parent);
        let grandparent = above.map_or("", |above| parent_key(above).0);
        !crate::api::print::keeps_zero(grandparent, parent, key, node)
    }
}

fn is_zero(node: &Node) -> bool {
    match &node.value {
        NodeValue::Bool(b) => !b,
        NodeValue::Int(i) => *i == 0,
        NodeValue::Str(s) => s.is_empty(),
        _ => false,
    }
}

/// The field that a place is in, and the place that the field is in.
fn parent_key<'a>(path: &'a Path<'a>) -> (&'a str, Option<&'a Path<'a>>) {
    match path {
        Path::Root => ("", None),
        Path::Key(above, key) => (key, Some(above)),
        Path::Index(parent, _) => parent_key(parent),
    }
}

/// The object, and what the API server would refuse it for; an error when it cannot be read.
pub(super) type Outcome = Result<(Decoded, Vec<Problem>), Vec<Problem>>;

pub(super) fn decode(node: &Node, cx: &DecodeContext) -> Outcome {
    let refused = |path: &str, message: String| {
        vec![Problem {
            path: path.to_owned(),
            span: Some(node.nearest_span(path)).filter(|span| span.is_known()),
            reason: "BadRequest".to_owned(),
            message,
        }]
    };
    if node.as_map().is_none() {
        let message = format!("cannot unmarshal {} into an object", node.kind());
        return Err(refused("", message));
    }
    for key in ["apiVersion", "kind"] {
        match node.get(key) {
            Some(value) if value.as_str().is_none_or(str::is_empty) && !value.is_null() => {
                return Err(refused(
                    key,
                    format!("{key} must be a string that is not empty"),
                ));
            }
            Some(value) if !value.is_null() => {}
            _ => {
                let message = match key {
                    "kind" => "Object 'Kind' is missing",
                    _ => "apiVersion not set",
                };
                return Err(refused("", message.to_owned()));
            }
        }
    }
    let current = versions::current(node)?;
    let (node, warning) = match &current {
        Some((node, warning)) => (node, warning.clone()),
        None => (node, None),
    };
    let (mut decoded, problems) = kinds::decode(node, cx)?;
    decoded.warnings.extend(warning);
    Ok((decoded, problems))
}

/// Decodes an object of a kind that Kubernetes has.
pub(super) fn known<T>(node: &Node, cx: &DecodeContext, steps: &Steps<T>) -> Outcome
where
    T: Metadata<Ty = metav1::ObjectMeta> + DeserializeOwned + Serialize,
{
    let located = |problem: Problem| Problem {
        span: Some(node.nearest_span(&problem.path)).filter(|span| span.is_known()),
        ..problem
    };
    let (mut object, unknown) =
        decode_with::<T>(node, absent).map_err(|errors| undecodable(errors, ""))?;
    let warnings: Vec<_> = unknown.into_iter().map(unknown_field).collect();
    let metadata = object.metadata_mut();
    if !steps.namespaced {
        metadata.namespace = None;
    } else {
        let namespace = metadata.namespace.take().filter(|name| !name.is_empty());
        if let (Some(own), Some(asked)) = (&namespace, &cx.request_namespace)
            && own != asked
        {
            let elsewhere = Problem {
                path: "metadata.namespace".to_owned(),
                span: None,
                reason: "BadRequest".to_owned(),
                message: super::ELSEWHERE.to_owned(),
            };
            return Err([located(elsewhere)].into_iter().chain(warnings).collect());
        }
        metadata.namespace = namespace.or_else(|| Some(cx.default_namespace.clone()));
    }
    if let Some(owners) = &mut object.metadata_mut().owner_references {
        once(owners);
    }
    (steps.defaults)(&mut object);

    let errors = judge(&object, node, steps);
    let found = errors.into_problems().into_iter();
    let mut problems: Vec<_> = found.map(|p| located(unwritten(p, node))).collect();
    if !problems.is_empty() {
        // An unknown field is often why another one is missing.
        problems.extend(warnings.iter().cloned());
    }
    let mut json = serde_json::to_value(&object).unwrap_or_default();
    prune(&mut json, Some(node));
    complete(&mut json);
    let row = match steps.row {
        Some(row) => row(&object, &json, cx),
        None => inert(meta(object.metadata(), cx), &json),
    };
    let not_modelled = not_modelled(row.kind(), &json);
    (steps.admit)(&mut json);
    let decoded = Decoded {
        row,
        json,
        warnings,
        known: true,
        not_modelled,
    };
    Ok((decoded, problems))
}

/// `handlers :: dedupOwnerReferences`: of equal ones the first stays.
fn once(owners: &mut Vec<metav1::OwnerReference>) {
    let mut kept: Vec<metav1::OwnerReference> = Vec::with_capacity(owners.len());
    for owner in owners.drain(..) {
        if !kept.contains(&owner) {
            kept.push(owner);
        }
    }
    *owners = kept;
}

/// What the API server would refuse a defaulted object for.
fn judge<T: Metadata<Ty = metav1::ObjectMeta>>(
    object: &T,
    node: &Node,
    steps: &Steps<T>,
) -> Errors {
    let mut errors = Errors::default();
    let at = At::Root;
    (steps.first)(object, &at, &mut errors);
    if !errors.is_empty() {
        return errors;
    }
    let meta_at = at.field("metadata");
    let check_meta = |errors: &mut Errors| {
        let meta = object.metadata();
        validate::meta::object_meta(meta, steps.namespaced, steps.name, &meta_at, errors);
        if steps.own_finalizers {
            validate::meta::kube_finalizers(meta, &meta_at, errors);
        }
    };
    if !steps.meta_last {
        check_meta(&mut errors);
    }
    (steps.validate)(object, node, &at, &mut errors);
    if steps.meta_last && errors.is_empty() {
        check_meta(&mut errors);
    }
    errors
}

/// A list that is not optional and was not written is `null` upstream, and `[]` in the generated
/// types.
fn unwritten(mut problem: Problem, node: &Node) -> Problem {
    if let Some(why) = problem.message.strip_prefix("Invalid value: []: ")
        && node.at(&problem.path).is_none_or(Node::is_null)
    {
        problem.message = format!("Invalid value: null: {why}");
    }
    problem
}

fn unknown_field(field: UnknownField) -> Problem {
    Problem {
        message: field.to_string(),
        path: field.path,
        span: Some(field.span).filter(|span| span.is_known()),
        reason: "UnknownField".to_owned(),
    }
}

fn undecodable(errors: Vec<DecodeError>, prefix: &str) -> Vec<Problem> {
    let problem = |error: DecodeError| Problem {
        path: format!("{prefix}{}", error.path),
        span: Some(error.span).filter(|span| span.is_known()),
        reason: "BadRequest".to_owned(),
        message: match error.hint {
            Some(hint) => format!("{} ({hint})", error.message),
            None => error.message,
        },
    };
    errors.into_iter().map(problem).collect()
}

fn inert(meta: crate::api::Meta, json: &Value) -> Row {
    let text = |key: &str| {
        json.get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .into()
    };
    Inert {
        meta,
        api_version: text("apiVersion"),
        kind: text("kind"),
        body: Arc::new(json.clone()),
    }
    .into()
}

/// Decodes an object of a kind that Kubernetes does not have: its metadata must be readable, the
/// rest is stored as written.
pub(super) fn foreign(node: &Node, cx: &DecodeContext) -> Outcome {
    let empty = Node::empty_map(node.span);
    let metadata = node.get("metadata").unwrap_or(&empty);
    let decoded = decode_with::<metav1::ObjectMeta>(metadata, absent);
    let (mut source, _) = decoded.map_err(|errors| undecodable(errors, "metadata."))?;
    let kind = node.get("kind").and_then(Node::as_str).unwrap_or_default();
    // Where no definition says whether a kind is namespaced, cluster-wide ones say so in their name.
    let version = node.get("apiVersion").and_then(Node::as_str);
    let group = version.and_then(|version| version.split_once('/'));
    let group = group.map_or("", |(group, _)| group).to_owned();
    match cx.scopes.get(&(group, kind.to_owned())) {
        Some(false) => source.namespace = None,
        None if kind.starts_with("Cluster") => {}
        _ => {
            source
                .namespace
                .get_or_insert_with(|| cx.default_namespace.clone());
        }
    }
    let json = node.to_json();
    let decoded = Decoded {
        row: inert(meta(&source, cx), &json),
        json,
        warnings: Vec::new(),
        known: false,
        not_modelled: vec![NotModelled {
            what: kind.to_owned(),
            path: String::new(),
        }],
    };
    Ok((decoded, Vec::new()))
}

/// The items of a `List` (or `PodList` and its kin), or the node itself when it is none.
pub fn expand_list(node: &Node) -> Vec<&Node> {
    let kind = node.get("kind").and_then(Node::as_str).unwrap_or_default();
    match node.get("items") {
        Some(items) if kind.ends_with("List") => match &items.value {
            NodeValue::List(items) => items.iter().flat_map(expand_list).collect(),
            NodeValue::Null => Vec::new(),
            _ => vec![node],
        },
        _ => vec![node],
    }
}

/// Gives `new` the identity and status of `old`.
pub(super) fn keep_identity(old: &Row, new: &mut Row) {
    let kept = old.meta().clone();
    let meta = new.meta_mut();
    meta.uid = kept.uid;
    meta.revision = kept.revision;
    meta.generation = kept.generation;
    meta.created = kept.created;
    meta.deletion = kept.deletion;
    meta.namespace = kept.namespace;
    meta.name = kept.name;
    macro_rules! keep_status {
        ($($kind:ident),*) => {
            match (old, &mut *new) {
                $((Row::$kind(old), Row::$kind(new)) => {
                    Arc::make_mut(new).status = old.status.clone();
                })*
                _ => {}
            }
        };
    }
    debug_assert_eq!(old.kind(), new.kind());
    if let (Row::Pod(old), Row::Pod(new)) = (old, &mut *new) {
        let new = Arc::make_mut(new);
        new.node_name = old.node_name.clone();
        if new.spec.source == old.spec.source {
            new.spec = old.spec.clone();
        }
    }
    if let (Row::Namespace(old), Row::Namespace(new)) = (old, &mut *new) {
        Arc::make_mut(new).finalizers = old.finalizers.clone();
    }
    if let Row::Job(new) = &mut *new {
        Arc::make_mut(new).generate_selector();
    }
    if old.kind() != Kind::Inert {
        keep_status!(
            Namespace,
            Pod,
            Node,
            Deployment,
            ReplicaSet,
            StatefulSet,
            DaemonSet,
            PodDisruptionBudget,
            PersistentVolume,
            PersistentVolumeClaim,
            VolumeAttachment,
            Job,
            CronJob,
            HorizontalPodAutoscaler,
            ResourceQuota
        );
    }
    if let (Row::Inert(old), Row::Inert(new)) = (old, new) {
        keep_written_status(old, Arc::make_mut(new));
    }
}

/// The status of a kind of Kubernetes' own comes by its own request.
fn keep_written_status(old: &Inert, new: &mut Inert) {
    let own = crate::api::patch::is_built_in(&new.api_version);
    let (was, is) = (old.body.get("status"), new.body.get("status"));
    if !own || was == is {
        return;
    }
    let mut body = Value::clone(&new.body);
    match was {
        Some(status) => body["status"] = status.clone(),
        None => drop(
            body.as_object_mut()
                .and_then(|map| map.shift_remove("status")),
        ),
    }
    new.body = Arc::new(body);
}
