//! Fields that an update may not change.
//!
//! The update validations of `pkg/apis/{apps,core,scheduling}/validation`, as far as a change would
//! mean something else than what the simulation does: selectors, what a StatefulSet is built on,
//! ConfigMaps and Secrets that were declared immutable, the type of a Secret, the value of a
//! PriorityClass. Jobs, Services, claims and pods are not held to theirs yet.

use serde_json::Value;

use super::write::{ApiError, resource_name};
use crate::api::Row;

/// Refuses an update in the API server's words.
pub(super) fn check(old: &Row, new: &Row) -> Result<(), ApiError> {
    let causes = causes(old, new);
    if causes.is_empty() {
        return Ok(());
    }
    let name = resource_name(old.kind(), old.meta());
    // `Deployment.apps "web"`: upstream names the kind here.
    let kind = old.kind();
    let name = name.replacen(kind.plural(), kind.name(), 1);
    let causes = match causes.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    Err(ApiError::Invalid(format!("{name} is invalid: {causes}")))
}

/// `ValidateImmutableField`.
fn immutable(field: &str, value: &Value) -> String {
    format!("{field}: Invalid value: {value}: field is immutable")
}

fn causes(old: &Row, new: &Row) -> Vec<String> {
    let mut causes = Vec::new();
    let mut selector = |same: bool, source: &Value| {
        if !same {
            causes.push(immutable("spec.selector", &source["selector"]));
        }
    };
    match (old, new) {
        (Row::Deployment(a), Row::Deployment(b)) => selector(a.selector == b.selector, &b.source),
        (Row::ReplicaSet(a), Row::ReplicaSet(b)) => selector(a.selector == b.selector, &b.source),
        (Row::DaemonSet(a), Row::DaemonSet(b)) => selector(a.selector == b.selector, &b.source),
        (Row::StatefulSet(a), Row::StatefulSet(b)) => {
            let same = a.selector == b.selector
                && a.service_name == b.service_name
                && a.parallel == b.parallel
                && a.claims == b.claims;
            if !same {
                causes.push(
                    "spec: Forbidden: updates to statefulset spec for fields other than \
                     'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', \
                     'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
                        .to_owned(),
                );
            }
        }
        (Row::ConfigMap(a), Row::ConfigMap(b)) => {
            declared(a.immutable, b.immutable, a.data == b.data, &mut causes);
        }
        (Row::Secret(a), Row::Secret(b)) => {
            if a.kind != b.kind {
                causes.push(immutable("type", &Value::from(b.kind.as_str())));
            }
            declared(a.immutable, b.immutable, a.data == b.data, &mut causes);
        }
        (Row::PriorityClass(a), Row::PriorityClass(b)) if a.value != b.value => {
            causes.push("value: Forbidden: may not be changed in an update.".to_owned());
        }
        _ => {}
    }
    causes
}

/// `ValidateConfigMapUpdate`, `ValidateSecretUpdate`.
fn declared(before: bool, after: bool, same_data: bool, causes: &mut Vec<String>) {
    let when = "field is immutable when `immutable` is set";
    if before && !after {
        causes.push(format!("immutable: Forbidden: {when}"));
    }
    if before && !same_data {
        causes.push(format!("data: Forbidden: {when}"));
    }
}

#[cfg(test)]
mod tests {
    use crate::api::decode::{DecodeContext, decode_json};
    use crate::engine::{Draws, Time};
    use crate::store::{Cause, Store, Write};
    use serde_json::{Value, json};

    /// Creates `old`, updates it to `new`; what the API server says.
    fn update(old: &Value, new: &Value) -> String {
        let mut store = Store::new(Draws::new(1));
        let row = |json: &Value| {
            let decoded = decode_json(json, &DecodeContext::default());
            decoded.expect("a valid object").row
        };
        let mut write = |write: &Write| store.write(write, Time::ZERO, Cause::default());
        let stored = write(&Write::Create(row(old))).expect("created");
        let mut new = row(new);
        new.meta_mut().revision = stored.revision;
        let reply = write(&Write::Update(stored.object.expect("an object"), new));
        reply.err().map(|e| e.to_string()).unwrap_or_default()
    }

    fn workload(kind: &str, app: &str, more: Value) -> Value {
        let mut object = json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web"},
            "spec": {"selector": {"matchLabels": {"app": app}}, "template": {
                "metadata": {"labels": {"app": app}},
                "spec": {"containers": [{"name": "c", "image": "x"}]}}}});
        for (key, value) in more.as_object().expect("fields") {
            object["spec"][key] = value.clone();
        }
        object
    }

    #[test]
    fn a_selector_stays_and_the_rest_may_change() {
        for kind in ["Deployment", "ReplicaSet", "DaemonSet"] {
            let before = workload(kind, "a", json!({}));
            assert_eq!(
                update(&before, &workload(kind, "b", json!({}))),
                format!(
                    "{kind}.apps \"web\" is invalid: spec.selector: Invalid value: \
                     {{\"matchLabels\":{{\"app\":\"b\"}}}}: field is immutable"
                )
            );
            let after = workload(kind, "a", json!({"minReadySeconds": 7}));
            assert_eq!(update(&before, &after), "");
        }
    }

    #[test]
    fn a_stateful_set_keeps_what_its_pods_are_named_by() {
        let set = |more: Value| workload("StatefulSet", "a", more);
        let before = set(json!({"serviceName": "one"}));
        let said = update(&before, &set(json!({"serviceName": "two"})));
        assert!(
            said.starts_with(
                "StatefulSet.apps \"web\" is invalid: spec: Forbidden: updates to statefulset spec"
            ),
            "{said}"
        );
        let after = set(json!({"serviceName": "one", "replicas": 3, "minReadySeconds": 1}));
        assert_eq!(update(&before, &after), "");
    }

    #[test]
    fn what_was_declared_immutable_is() {
        let map = |immutable: bool, value: &str| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"},
                "immutable": immutable, "data": {"k": value}})
        };
        assert_eq!(update(&map(false, "a"), &map(true, "b")), "");
        assert_eq!(
            update(&map(true, "a"), &map(false, "b")),
            "ConfigMap \"m\" is invalid: [immutable: Forbidden: field is immutable when \
             `immutable` is set, data: Forbidden: field is immutable when `immutable` is set]"
        );
        let class = |value: i32| {
            json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
                "metadata": {"name": "high"}, "value": value})
        };
        assert_eq!(
            update(&class(1), &class(2)),
            "PriorityClass.scheduling.k8s.io \"high\" is invalid: value: Forbidden: may not be \
             changed in an update."
        );
    }
}
