//! Objects and patches as clients send them: read as JSON, and the result decoded again.
//!
//! `staging/src/k8s.io/apiserver/pkg/endpoints/handlers/{patch,update}.go` and the first checks of
//! `registry/generic/registry/store.go :: Update`. A patch is applied to the object as it is when
//! the request arrives, so that a client that patches never conflicts with others unless it names a
//! revision; what results goes the way of any update. Which fields may change is for
//! [`super::immutable`] to say.

use std::sync::Arc;

use serde_json::Value;

use super::admit::{Tolerated, add_default_tolerations};
use super::write::{ApiError, resource_of};
use crate::api::decode::{DecodeContext, ELSEWHERE, Problem, with_invalid_json};
use crate::api::patch::{PatchKind, apply_as, kind_for};
use crate::api::print::{go_value, to_json};
use crate::api::yaml::{Node, Span};
use crate::api::{Kind, Pod, Row};

/// What else there is to know about a request.
#[derive(Clone, Copy)]
struct Request {
    /// Whether the whole object is sent.
    replacing: bool,
    tolerated: Tolerated,
}

/// The object with the patch applied, defaulted and validated anew.
///
/// # Errors
/// When the patch does not apply, or when the result is no valid object.
pub(super) fn patched(
    old: &Row,
    kind: PatchKind,
    patch: &Value,
    tolerated: Tolerated,
) -> Result<Row, ApiError> {
    let before = to_json(old);
    let mut object = Node::from_json(&before, Span::NONE);
    if kind == PatchKind::Strategic && kind_for(&object) != PatchKind::Strategic {
        return Err(ApiError::UnsupportedMediaType(
            "the body of the request was in an unknown format - accepted media types include: \
             application/json-patch+json, application/merge-patch+json, \
             application/apply-patch+yaml"
                .to_owned(),
        ));
    }
    let change = Node::from_json(patch, Span::NONE);
    apply_as(kind, &mut object, &change).map_err(|error| inapplicable(kind, error.message))?;
    let mut json = object.to_json();
    let wrong = typed(&before, &mut json, kind == PatchKind::Strategic).err();
    let unreadable = |why: String| {
        let shown = match kind {
            PatchKind::Json => json.to_string(),
            _ => go_value(patch),
        };
        ApiError::Invalid {
            kind: String::new(),
            name: String::new(),
            causes: vec![format!("patch: Invalid value: {shown:?}: {why}")],
        }
    };
    if let Some(why) = wrong {
        return Err(unreadable(why));
    }
    let request = Request {
        replacing: false,
        tolerated,
    };
    read(old, &before, json.clone(), request, unreadable)
}

/// Version and kind of what a client sends are those of the object: none is as good as the right
/// one, and a strategic merge patch (which is made for one type) cannot change them.
fn typed(before: &Value, json: &mut Value, ignored: bool) -> Result<(), String> {
    let fits = |field: &str, json: &Value| match json.get(field) {
        None | Some(Value::Null) => Ok(true),
        Some(Value::String(text)) => Ok(ignored || before[field] == text.as_str()),
        Some(_) => Err("unrecognized type: string".to_owned()),
    };
    if !(fits("apiVersion", json)? && fits("kind", json)?) {
        let of = |field: &str| json.get(field).unwrap_or(&before[field]).clone();
        return Err(format!(
            "no kind {} is registered for version {} in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
            of("kind"),
            of("apiVersion")
        ));
    }
    for field in ["apiVersion", "kind"] {
        json[field] = before[field].clone();
    }
    Ok(())
}

/// What is sent in place of the object, defaulted and validated.
///
/// # Errors
/// When it is another object, an older one, or none that is valid.
pub(super) fn replaced(old: &Row, new: &Value, tolerated: Tolerated) -> Result<Row, ApiError> {
    let before = to_json(old);
    let mut new = new.clone();
    if !new.is_object() {
        return Err(ApiError::BadRequest("the object is no map".to_owned()));
    }
    let unreadable = |why: String| {
        let version = before["apiVersion"].as_str().unwrap_or_default();
        let version = version.rsplit('/').next().unwrap_or_default();
        let kind = before["kind"].as_str().unwrap_or_default();
        ApiError::BadRequest(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
        ))
    };
    typed(&before, &mut new, false).map_err(unreadable)?;
    let request = Request {
        replacing: true,
        tolerated,
    };
    read(old, &before, new, request, unreadable)
}

/// `patch.go :: interpretStrategicMergePatchError`; a JSON patch fails without a word of why.
fn inapplicable(kind: PatchKind, why: String) -> ApiError {
    match (kind, why.as_str()) {
        (PatchKind::Json, _)
        | (_, "lists of lists are not supported" | "patch content doesn't match retainKeys list") => {
            ApiError::Unprocessable(
                "the server rejected our request due to an error in our request".to_owned(),
            )
        }
        (_, bad) if bad.starts_with("invalid patch format of") => ApiError::BadRequest(why),
        _ => ApiError::Unavailable {
            code: 500,
            message: why,
        },
    }
}

fn text<'a>(meta: &'a Value, field: &str) -> &'a str {
    meta[field].as_str().unwrap_or_default()
}

/// `rest.go :: checkName` and `EnsureObjectNamespaceMatchesRequestNamespace`: an object stays
/// itself.
fn named(old: &Row, new: &Value) -> Result<(), ApiError> {
    let (meta, new) = (old.meta(), &new["metadata"]);
    let name = text(new, "name");
    if name.is_empty() {
        return Err(ApiError::BadRequest(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            meta.name
        )));
    }
    let namespace = text(new, "namespace");
    if !meta.namespace.is_empty() && !namespace.is_empty() && meta.namespace != namespace {
        return Err(ApiError::BadRequest(ELSEWHERE.to_owned()));
    }
    if meta.name != name {
        return Err(ApiError::BadRequest(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            meta.name
        )));
    }
    Ok(())
}

/// The precondition on the uid that an update brings (`storage :: Preconditions.Check`).
fn uid(old: &Row, new: &Value) -> Result<(), ApiError> {
    let (wanted, is) = (text(&new["metadata"], "uid"), old.meta().uid.to_string());
    if wanted.is_empty() || wanted == is {
        return Ok(());
    }
    let meta = old.meta();
    let (of, plural) = resource_of(old);
    let place = match meta.namespace.as_str() {
        "" => meta.name.to_string(),
        namespace => format!("{namespace}/{}", meta.name),
    };
    let folder = match plural.as_str() {
        "services" => "services/specs",
        "endpoints" => "services/endpoints",
        "nodes" => "minions",
        "ingresses" => "ingress",
        "replicationcontrollers" => "controllers",
        other => other,
    };
    Err(ApiError::Conflict(format!(
        "Operation cannot be fulfilled on {of} {:?}: StorageError: invalid object, Code: 4, Key: \
         /{folder}/{place}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in \
         precondition: {wanted}, UID in object meta: {is}",
        meta.name.as_str()
    )))
}

/// Kinds that are never updated without a revision (`AllowUnconditionalUpdate`).
const CONDITIONAL: [&str; 12] = [
    "CSIDriver",
    "CSINode",
    "CSIStorageCapacity",
    "Lease",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "MutatingWebhookConfiguration",
    "PodDisruptionBudget",
    "RuntimeClass",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
    "VolumeAttachment",
];

/// The revision that a client names must be the current one.
fn revision(old: &Row, new: &Value) -> Result<(), ApiError> {
    let named = text(&new["metadata"], "resourceVersion");
    let meta = old.meta();
    if named.is_empty() || named == "0" {
        let kind = new["kind"].as_str().unwrap_or_default();
        return match CONDITIONAL.contains(&kind) {
            false => Ok(()),
            true => Err(ApiError::Invalid {
                kind: resource_of(old).0,
                name: meta.name.to_string(),
                causes: vec![
                    "metadata.resourceVersion: Invalid value: 0: must be specified for an update"
                        .to_owned(),
                ],
            }),
        };
    }
    match named.parse::<u64>() {
        Err(_) => Err(ApiError::Unavailable {
            code: 500,
            message: format!("strconv.ParseUint: parsing {named:?}: invalid syntax"),
        }),
        Ok(revision) if revision != meta.revision => Err(ApiError::Conflict(format!(
            "Operation cannot be fulfilled on {} {:?}: the object has been modified; please apply \
             your changes to the latest version and try again",
            resource_of(old).0,
            meta.name.as_str()
        ))),
        Ok(_) => Ok(()),
    }
}

/// What the server keeps of the metadata, whatever is sent (`rest :: BeforeUpdate`), and what it
/// refuses to have changed (`ValidateObjectMetaAccessorUpdate`).
fn kept(before: &Value, json: &mut Value) -> Vec<String> {
    let was = &before["metadata"];
    let is = &mut json["metadata"];
    let mut causes = Vec::new();
    if text(is, "uid").is_empty() {
        is["uid"] = was["uid"].clone();
    } else if is["uid"] != was["uid"] {
        let uid = &is["uid"];
        causes.push(format!(
            "metadata.uid: Invalid value: {uid}: field is immutable"
        ));
    }
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
        let new = is.get(field).filter(|value| !value.is_null());
        let old = was.get(field);
        if let (Some(new), None) = (new, old) {
            causes.push(format!(
                "metadata.{field}: Invalid value: {new}: field is immutable"
            ));
        }
    }
    causes
}

/// Reads the result, with all that is wrong with it: it must have the shape of its kind, be the
/// object that was asked for, at the revision that was named; then what is invalid comes first, and
/// after it what may not change.
fn read(
    old: &Row,
    before: &Value,
    mut json: Value,
    request: Request,
    unreadable: impl Fn(String) -> ApiError,
) -> Result<Row, ApiError> {
    let decode = |json: &Value| {
        let read = with_invalid_json(old, json, &DecodeContext::default());
        read.map_err(|problems| {
            let problem = problems.first().map(ToString::to_string);
            unreadable(problem.unwrap_or_default())
        })
    };
    let (mut new, mut problems) = decode(&json)?;
    named(old, &json)?;
    if request.replacing {
        uid(old, &json)?;
    }
    revision(old, &json)?;
    let sent = json.clone();
    let mut causes = kept(before, &mut json);
    if matches!(old, Row::Service(_)) {
        super::service::update::prepare(&before["spec"], &mut json["spec"]);
    }
    if sent != json {
        (new, problems) = decode(&json)?;
    }
    if let Row::Pod(pod) = &mut new {
        tolerate(pod, request.tolerated);
    }
    // Unknown fields are dropped.
    let counts = |problem: &&Problem| {
        problem.reason != "UnknownField" && !tolerated_on_update(old.kind(), &problem.path)
    };
    if matches!(&new, Row::Service(service) if super::service::update::refused(service, &problems))
    {
        let all = problems.iter().filter(counts).map(ToString::to_string);
        return Err(ApiError::invalid(old, all.collect()));
    }
    causes.extend(problems.iter().filter(counts).map(ToString::to_string));
    if !causes.is_empty() {
        causes.extend(super::immutable::causes(old, &new));
        return Err(ApiError::invalid(old, causes));
    }
    Ok(keep_spec(old, new))
}

/// What is not judged again: finalizers of namespaces, and what of a StatefulSet cannot change
/// (`ValidateStatefulSetUpdate`).
fn tolerated_on_update(kind: Kind, path: &str) -> bool {
    let fields: &[&str] = match kind {
        Kind::Namespace => &["spec.finalizers"],
        Kind::StatefulSet => &["spec.volumeClaimTemplates", "spec.serviceName"],
        _ => &[],
    };
    fields.iter().any(|field| path.starts_with(field))
}

/// The default tolerations are added to pods that are updated, too.
fn tolerate(pod: &mut Arc<Pod>, tolerated: Tolerated) {
    let mut all = pod.spec.tolerations.clone();
    add_default_tolerations(&mut all, tolerated);
    if all != pod.spec.tolerations {
        Arc::make_mut(&mut Arc::make_mut(pod).spec).tolerations = all;
    }
}

/// A pod whose spec is the same in print has the same spec.
fn keep_spec(old: &Row, new: Row) -> Row {
    match (old, new) {
        (Row::Pod(before), Row::Pod(mut after)) => {
            let spec = |pod: &Arc<Pod>| to_json(&Row::Pod(pod.clone()))["spec"].take();
            if spec(before) == spec(&after) {
                Arc::make_mut(&mut after).spec = before.spec.clone();
            }
            Row::Pod(after)
        }
        (_, new) => new,
    }
}

#[cfg(test)]
mod tests;
