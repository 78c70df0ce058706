//! Ephemeral containers: what they may not have, where they may stand.
//!
//! `pkg/apis/core/validation :: validateEphemeralContainers`.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, PodSpec};
use serde_json::{Value, json};

use super::container::{PodScope, common};
use super::field::{At, Errors};
use super::pod::image_spaces;

const NEVER: &str = "cannot be set for an Ephemeral Container";

/// Fields that upstream does not list as allowed, in the order of its struct.
const FORBIDDEN: [&str; 9] = [
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

/// `validateEphemeralContainers`.
pub(super) fn containers(spec: &PodSpec, pod: &PodScope<'_>, at: &At<'_>, errors: &mut Errors) {
    let all = spec.ephemeral_containers.as_deref().unwrap_or_default();
    let others = spec.containers.iter();
    let others = others.chain(spec.init_containers.iter().flatten());
    let others: BTreeSet<&str> = others.map(|c| c.name.as_str()).collect();
    let mut names = others.clone();
    for (i, container) in all.iter().enumerate() {
        let at = at.item(i);
        let shown = json!(container);
        // The same fields, and one more.
        if let Ok(plain) = serde_json::from_value::<Container>(shown.clone()) {
            common(&plain, pod, &at, errors);
            image_spaces(&plain, &at, errors);
        }
        if !names.insert(&container.name) {
            errors.duplicate(&at.field("name"), &container.name);
        }
        let target = container.target_container_name.as_deref();
        if let Some(target) = target.filter(|name| !name.is_empty() && !others.contains(name)) {
            errors.not_found(&at.field("targetContainerName"), target);
        }
        forbidden(container, &shown, &at, errors);
    }
}

fn forbidden(container: &EphemeralContainer, shown: &Value, at: &At<'_>, errors: &mut Errors) {
    for field in FORBIDDEN {
        let set = match &shown[field] {
            Value::Null => false,
            Value::Object(map) if field == "resources" => !map.is_empty(),
            _ => true,
        };
        if set {
            errors.forbidden(&at.field(field), NEVER);
        }
    }
    let mounts = at.field("volumeMounts");
    for (i, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let at = mounts.item(i);
        for (field, value) in [
            ("subPath", &mount.sub_path),
            ("subPathExpr", &mount.sub_path_expr),
        ] {
            if value.as_deref().is_some_and(|path| !path.is_empty()) {
                errors.forbidden(&at.field(field), NEVER);
            }
        }
    }
}
