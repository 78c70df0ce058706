//! Tables of objects and patches that clients send, and what the API server says.

use serde_json::{Value, json};

use crate::api::decode::{DecodeContext, decode_json};
use crate::api::patch::PatchKind;
use crate::api::print::to_json;
use crate::engine::{Draws, Time};
use crate::store::{Cause, Patch, Store, Write};

/// Creates `object`, sends `patch`; the new object, or status and message.
fn send(object: &Value, patch: Patch) -> Result<Value, (u16, String)> {
    let mut store = Store::new(Draws::new(1));
    let mut write = |write: &Write| store.write(write, Time::ZERO, Cause::default());
    // Revision 1 is another object's.
    for object in [
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "o"}}),
        object,
    ] {
        let row = decode_json(object, &DecodeContext::default())
            .expect("valid")
            .row;
        write(&Write::Create(row)).expect("created");
    }
    let row = decode_json(object, &DecodeContext::default())
        .expect("valid")
        .row;
    let found = store
        .view()
        .lookup(row.kind(), &row.meta().namespace, &row.key());
    let patch = Write::Patch {
        object: found.expect("there"),
        uid: None,
        patch,
    };
    match store.write(&patch, Time::ZERO, Cause::default()) {
        Ok(receipt) => Ok(to_json(&receipt.row.expect("an object"))),
        Err(error) => Err((error.code(), error.to_string())),
    }
}

fn service() -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"ports": [{"port": 80}]}})
}

/// `service()` with a change, put in its place.
fn put(place: &str, value: Value) -> Result<Value, (u16, String)> {
    let mut new = service();
    let (map, field) = place.rsplit_once('/').expect("a place");
    new.pointer_mut(map).expect("a map")[field] = value;
    send(&service(), Patch::Replacement(new.into()))
}

const UID: &str = "00000000-0000-4000-8000-000000000002";

/// After `apiserver/pkg/endpoints/handlers/rest_test.go :: TestCheckName` and
/// `registry/rest/meta_test.go :: TestEnsureObjectNamespaceMatchesRequestNamespace`,
/// `registry/generic/registry/store_test.go :: TestStoreUpdate`.
#[test]
fn what_is_put_in_place_of_an_object_is_that_object() {
    let stale = "Operation cannot be fulfilled on services \"web\": the object has been modified; \
                 please apply your changes to the latest version and try again";
    let other_uid = format!(
        "Operation cannot be fulfilled on services \"web\": StorageError: invalid object, Code: 4, \
         Key: /services/specs/default/web, ResourceVersion: 0, AdditionalErrorMsg: Precondition \
         failed: UID in precondition: other, UID in object meta: {UID}"
    );
    let elsewhere =
        "the namespace of the provided object does not match the namespace sent on the request";
    for (place, value, code, message) in [
        (
            "/metadata/name",
            json!("api"),
            400,
            "the name of the object (api) does not match the name on the URL (web)",
        ),
        (
            "/metadata/name",
            json!(""),
            400,
            "the name of the object (web based on URL) was undeterminable: name must be provided",
        ),
        ("/metadata/namespace", json!("other"), 400, elsewhere),
        ("/metadata/resourceVersion", json!("1"), 409, stale),
        (
            "/metadata/resourceVersion",
            json!("x"),
            500,
            "strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
        ("/metadata/uid", json!("other"), 409, other_uid.as_str()),
        (
            "/metadata/deletionGracePeriodSeconds",
            json!(5),
            422,
            "Service \"web\" is invalid: metadata.deletionGracePeriodSeconds: Invalid value: 5: field is immutable",
        ),
    ] {
        let said = put(place, value).expect_err(place);
        assert_eq!(said, (code, message.to_owned()), "{place}");
    }
    // The right ones, and what the server overwrites, are let pass.
    for (place, value) in [
        ("/metadata/namespace", json!("default")),
        ("/metadata/resourceVersion", json!("2")),
        ("/metadata/resourceVersion", json!("0")),
        ("/metadata/uid", json!(UID)),
        ("/metadata/creationTimestamp", json!("2020-01-01T00:00:00Z")),
        ("/metadata/generation", json!(7)),
        (
            "/status",
            json!({"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}),
        ),
    ] {
        let new = put(place, value).expect(place);
        assert_eq!(
            new.pointer("/metadata/generation"),
            Some(&json!(1)),
            "{place}"
        );
    }
}

/// `AllowUnconditionalUpdate` of `pkg/registry/policy/poddisruptionbudget/strategy.go` and its kin.
#[test]
fn some_kinds_are_never_overwritten_without_a_revision() {
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "b"}, "spec": {"minAvailable": 1}});
    let said = send(&budget, Patch::Replacement(budget.clone().into())).expect_err("refused");
    let message = "poddisruptionbudgets.policy \"b\" is invalid: metadata.resourceVersion: Invalid \
                   value: 0: must be specified for an update";
    assert_eq!(said, (422, message.to_owned()));
    let mut current = budget.clone();
    current["metadata"]["resourceVersion"] = json!("2");
    assert!(send(&budget, Patch::Replacement(current.into())).is_ok());
}

/// `handlers/patch.go :: applyPatchToObject`, `jsonPatcher`, `smpPatcher`.
#[test]
fn a_patch_that_does_not_fit_is_refused_by_what_is_wrong_with_it() {
    let json_patch =
        |patch: Value| send(&service(), Patch::Document(PatchKind::Json, patch.into()));
    let strategic = |patch: Value| {
        send(
            &service(),
            Patch::Document(PatchKind::Strategic, patch.into()),
        )
    };
    let rejected = (
        422,
        "the server rejected our request due to an error in our request".into(),
    );
    for patch in [
        json!([{"op": "remove", "path": "/spec/nothing"}]),
        json!([{"op": "test", "path": "/spec/type", "value": "NodePort"}]),
        json!([{"op": "leap", "path": "/spec"}]),
    ] {
        assert_eq!(json_patch(patch).expect_err("refused"), rejected);
    }
    for (patch, code, message) in [
        (
            json!({"spec": {"$retainKeys": ["type"], "ports": []}}),
            400,
            "invalid patch format of retainKeys",
        ),
        (
            json!({"spec": {"ports": [{"name": "x"}]}}),
            500,
            "map: map[name:x] does not contain declared merge key: port",
        ),
        (
            json!({"spec": {"$patch": "leap", "type": "NodePort"}}),
            500,
            "unknown patch type: leap in map: map[$patch:leap type:NodePort]",
        ),
    ] {
        assert_eq!(
            strategic(patch).expect_err("refused"),
            (code, message.to_owned())
        );
    }
    // What does not have the shape of the kind shows the patch.
    let (code, message) = strategic(json!({"spec": {"ports": "all"}})).expect_err("refused");
    assert_eq!(code, 422);
    assert!(
        message
            .starts_with(" \"\" is invalid: patch: Invalid value: \"map[spec:map[ports:all]]\": "),
        "{message}"
    );
    let (code, _) = json_patch(json!([{"op": "replace", "path": "/kind", "value": "Pod"}]))
        .expect_err("refused");
    assert_eq!(code, 422);
    // A strategic merge patch is made for a type, and cannot change it.
    assert!(strategic(json!({"kind": "Pod", "spec": {"type": "NodePort"}})).is_ok());
}

/// `plugin/pkg/admission/defaulttolerationseconds` acts on updates, too: `kubectl replace` of the
/// manifest that a pod was made of changes nothing.
#[test]
fn a_pod_may_be_replaced_by_its_own_manifest() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    let new = send(&pod, Patch::Replacement(pod.clone().into())).expect("replaced");
    assert_eq!(new["spec"]["tolerations"].as_array().map(Vec::len), Some(2));
    assert_eq!(new["metadata"]["generation"], json!(1));
}
