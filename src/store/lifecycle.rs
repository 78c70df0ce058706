//! Namespaces: what may be created in them, and how they end.
//!
//! `staging/src/k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle/admission.go` and
//! `pkg/registry/core/namespace`. A namespace that is deleted stays, terminating, until the namespace
//! controller has emptied it and taken its entry out of `spec.finalizers`; nothing new is let in
//! meanwhile. Where no Namespace object exists at all (a store on its own) nothing is checked.

use std::sync::Arc;

use super::view::View;
use super::write::{ApiError, resource_name};
use crate::api::{Kind, KubeEvent, Namespace, Row, Text};

/// The namespace controller's entry in `spec.finalizers`.
pub const KUBERNETES: &str = "kubernetes";

/// `NewLifecycle`: these are never deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-public", "kube-system"];

/// How the refusal of a creation in such a namespace ends (`NamespaceTerminatingCause`).
const TERMINATING: &str = "because it is being terminated";

impl ApiError {
    /// Whether a creation was refused because its namespace is going away: it will be for ever, so
    /// controllers do not count it as their failure.
    pub fn namespace_terminating(&self) -> bool {
        matches!(self, ApiError::Forbidden(why) if why.ends_with(TERMINATING))
    }
}

/// Whether an object may be created where it wants to be.
pub(super) fn check_namespace(row: &Row, view: &View) -> Result<(), ApiError> {
    check_content(&row.meta().namespace, view, || match row {
        Row::Inert(inert) => format!("{} \"{}\"", inert.kind, inert.meta.name),
        _ => resource_name(row.kind(), row.meta()),
    })
}

/// As [`check_namespace`], for a KubeEvent: it lives beside the object that it is about (in
/// `default` for objects without a namespace), and recorders do not try again when it is refused.
pub(super) fn check_event(event: &KubeEvent, view: &View) -> Result<(), ApiError> {
    check_content(&event.namespace, view, || {
        format!("events \"{}\"", event.name)
    })
}

fn check_content(name: &Text, view: &View, what: impl FnOnce() -> String) -> Result<(), ApiError> {
    let namespaces = view.of::<Namespace>();
    if name.is_empty() || namespaces.is_empty() {
        return Ok(());
    }
    let none = Text::default();
    match namespaces.named(&none, name) {
        None => Err(ApiError::NotFound(format!(
            "namespaces \"{name}\" not found"
        ))),
        Some((_, namespace)) if namespace.meta.deleting() => {
            let what = what();
            Err(ApiError::Forbidden(format!(
                "{what} is forbidden: unable to create new content in namespace {name} {TERMINATING}"
            )))
        }
        Some(_) => Ok(()),
    }
}

/// `PrepareForCreate`.
pub(super) fn prepare(namespace: &mut Namespace) {
    if !namespace.finalizers.iter().any(|f| f == KUBERNETES) {
        let all = namespace.finalizers.iter().cloned();
        namespace.finalizers = all.chain([Text::from(KUBERNETES)]).collect();
    }
}

/// The `finalize` subresource: the namespace controller is done.
pub(super) fn finalize(namespace: &mut Namespace) {
    let left = namespace.finalizers.iter().filter(|f| *f != KUBERNETES);
    namespace.finalizers = left.cloned().collect::<Arc<[Text]>>();
}

/// Whether an object that is being deleted must stay for now.
pub(super) fn held(row: &Row) -> bool {
    let meta = row.meta();
    !meta.finalizers.is_empty()
        || match row {
            // A kubelet removes it when its containers have ended.
            Row::Pod(_) => meta.deletion.is_some_and(|d| d.grace_s > 0),
            Row::Namespace(namespace) => !namespace.finalizers.is_empty(),
            _ => false,
        }
}

/// Whether this object may be deleted at all.
pub(super) fn check_deletion(row: &Row) -> Result<(), ApiError> {
    let name = row.meta().name.as_str();
    if row.kind() == Kind::Namespace && IMMORTAL.contains(&name) {
        return Err(ApiError::Forbidden(format!(
            "namespaces \"{name}\" is forbidden: this namespace may not be deleted"
        )));
    }
    Ok(())
}
