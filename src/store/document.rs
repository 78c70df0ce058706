//! Patches as clients write them: the object is printed, patched, and read again.
//!
//! `staging/src/k8s.io/apiserver/pkg/endpoints/handlers/patch.go`: the patch meets the object as it
//! is when the request arrives, so that a client that patches never conflicts with others; what
//! results goes the way of any update. Which fields may change is for [`super::immutable`] to say.

use std::sync::Arc;

use serde_json::Value;

use super::write::ApiError;
use crate::api::decode::{DecodeContext, with_invalid_json};
use crate::api::patch::{PatchKind, apply_as, kind_for};
use crate::api::print::to_json;
use crate::api::yaml::{Node, Span};
use crate::api::{Pod, Row};

/// The object with the patch applied, defaulted and validated anew.
///
/// # Errors
/// When the patch does not apply, or when the result is no valid object.
pub(super) fn patched(old: &Row, kind: PatchKind, patch: &Value) -> Result<Row, ApiError> {
    let mut object = Node::from_json(&to_json(old), Span::NONE);
    if kind == PatchKind::Strategic && kind_for(&object) != PatchKind::Strategic {
        return Err(ApiError::UnsupportedMediaType(
            "the body of the request was in an unknown format - accepted media types include: \
             application/json-patch+json, application/merge-patch+json, \
             application/apply-patch+yaml"
                .to_owned(),
        ));
    }
    let patch = Node::from_json(patch, Span::NONE);
    let failed = |error: crate::api::patch::PatchError| match kind {
        PatchKind::Json => ApiError::invalid(old, vec![format!("patch: {}", error.message)]),
        _ => ApiError::BadRequest(error.message),
    };
    apply_as(kind, &mut object, &patch).map_err(failed)?;
    let mut json = object.to_json();
    same_identity(old, &json)?;
    if matches!(old, Row::Service(_)) {
        let before = to_json(old);
        super::service::update::prepare(&before["spec"], &mut json["spec"]);
    }
    let read = with_invalid_json(old, &json, &DecodeContext::default());
    let (new, problems) = read.map_err(|problems| {
        let problem = problems.first().map(ToString::to_string);
        ApiError::BadRequest(problem.unwrap_or_default())
    })?;
    if !problems.is_empty() {
        // What is invalid comes first, then what may not change.
        let mut causes: Vec<String> = problems.iter().map(ToString::to_string).collect();
        causes.extend(super::immutable::causes(old, &new));
        return Err(ApiError::invalid(old, causes));
    }
    Ok(keep_spec(old, new))
}

/// `patch.go :: checkName`, and the precondition on the uid: an object stays itself.
fn same_identity(old: &Row, new: &Value) -> Result<(), ApiError> {
    let (meta, new) = (old.meta(), &new["metadata"]);
    let text = |field: &str| new[field].as_str().unwrap_or_default();
    for (field, what, old) in [
        ("name", "name on the URL", &meta.name),
        ("namespace", "namespace on the URL", &meta.namespace),
    ] {
        if text(field) != old.as_str() {
            let new = text(field);
            return Err(ApiError::BadRequest(format!(
                "the {field} of the object ({new}) does not match the {what} ({old})"
            )));
        }
    }
    let uid = meta.uid.to_string();
    if text("uid") != uid {
        return Err(ApiError::Conflict(format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {uid}",
            text("uid")
        )));
    }
    Ok(())
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
