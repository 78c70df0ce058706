//! Tables of text: what was applied last, what is applied, the object, and the patch.

use super::*;
use crate::api::patch::apply_as;
use crate::api::yaml::{FileId, Limits, parse_document};

fn read(text: &str) -> Node {
    parse_document(FileId(0), text.as_bytes(), &Limits::default()).expect("the case is YAML")
}

/// Checks the patch, and the object after it.
fn check(original: &str, modified: &str, current: &str, patch: &str, after: &str) {
    let original = Some(original).filter(|text| !text.is_empty()).map(read);
    let mut object = read(current);
    let found = three_way_patch(original.as_ref(), &read(modified), &object);
    let (kind, found) = match found {
        Ok(found) => found,
        Err(error) => {
            assert_eq!(format!("error {error}"), patch, "{modified}");
            return;
        }
    };
    assert!(
        found.same(&read(patch)),
        "{modified}\nwant {patch}\ngot  {}",
        found.to_json()
    );
    apply_as(kind, &mut object, &found).expect("a patch of our own applies");
    assert!(
        object.same(&read(after)),
        "{modified}\nwant {after}\ngot  {}",
        object.to_json()
    );
}

/// The fields of a Deployment's pods.
fn pods(fields: &str) -> String {
    format!("{{apiVersion: apps/v1, kind: Deployment, spec: {{template: {{spec: {fields}}}}}}}")
}

fn check_pods(original: &str, modified: &str, current: &str, patch: &str, after: &str) {
    let whole = |fields: &str| match fields {
        "" => String::new(),
        fields => pods(fields),
    };
    let patch = match patch {
        "{}" => "{}".to_owned(),
        patch if patch.starts_with("error") => patch.to_owned(),
        patch => format!("{{spec: {{template: {{spec: {patch}}}}}}}"),
    };
    check(
        &whole(original),
        &whole(modified),
        &whole(current),
        &patch,
        &whole(after),
    );
}

#[test]
fn what_left_the_manifest_goes_and_what_others_set_stays() {
    // Cases of `strategicpatch/patch_test.go :: TestStrategicMergePatch` (three-way halves).
    for (original, modified, current, patch, after) in [
        // Nothing changed: others' fields are no difference.
        ("{a: 1}", "{a: 1}", "{a: 1, b: 2}", "{}", "{a: 1, b: 2}"),
        // Removed here, changed there: gone all the same.
        (
            "{a: 1, b: 2}",
            "{a: 1}",
            "{a: 1, b: 3}",
            "{b: null}",
            "{a: 1}",
        ),
        // Never applied: nothing is deleted.
        ("", "{a: 1}", "{a: 2, b: 3}", "{a: 1}", "{a: 1, b: 3}"),
        // Others' change of what the manifest still says is taken back.
        ("{a: 1}", "{a: 1}", "{a: 2}", "{a: 1}", "{a: 1}"),
        // Nested maps.
        (
            "{m: {a: 1, b: 2}}",
            "{m: {a: 1, c: 3}}",
            "{m: {a: 1, b: 2, d: 4}}",
            "{m: {b: null, c: 3}}",
            "{m: {a: 1, d: 4, c: 3}}",
        ),
        // Lists without a merge key are replaced.
        (
            "{l: [1, 2]}",
            "{l: [1]}",
            "{l: [1, 2, 3]}",
            "{l: [1]}",
            "{l: [1]}",
        ),
        // A field that is null in the manifest is one to delete.
        ("", "{a: null}", "{a: 1, b: 1}", "{a: null}", "{b: 1}"),
    ] {
        check_pods(original, modified, current, patch, after);
    }
}

#[test]
fn items_of_lists_are_told_apart_by_their_merge_keys() {
    for (original, modified, current, patch, after) in [
        // The container of somebody else stays, in its place.
        (
            "{containers: [{name: a, image: x}, {name: b, image: x}]}",
            "{containers: [{name: a, image: y}]}",
            "{containers: [{name: a, image: x, tty: true}, {name: s}, {name: b, image: x}]}",
            "{$setElementOrder/containers: [{name: a}], containers: [{name: a, image: y}, \
             {name: b, $patch: delete}]}",
            "{containers: [{name: a, image: y, tty: true}, {name: s}]}",
        ),
        // An item that is new takes the rank that a deleted one had.
        (
            "{containers: [{name: a}, {name: b}]}",
            "{containers: [{name: a}, {name: c}]}",
            "{containers: [{name: a}, {name: s}, {name: b}]}",
            "{$setElementOrder/containers: [{name: a}, {name: c}], containers: [{name: c}, \
             {name: b, $patch: delete}]}",
            "{containers: [{name: a}, {name: s}, {name: c}]}",
        ),
        // Another order alone is a difference.
        (
            "{containers: [{name: a}, {name: b}]}",
            "{containers: [{name: b}, {name: a}]}",
            "{containers: [{name: a}, {name: b}]}",
            "{$setElementOrder/containers: [{name: b}, {name: a}]}",
            "{containers: [{name: b}, {name: a}]}",
        ),
        // Lists within items: a variable that left, one that somebody else added.
        (
            "{containers: [{name: a, env: [{name: X, value: '1'}, {name: Y, value: '1'}]}]}",
            "{containers: [{name: a, env: [{name: X, value: '2'}]}]}",
            "{containers: [{name: a, env: [{name: X, value: '1'}, {name: Y, value: '1'}, \
             {name: Z, value: '1'}]}]}",
            "{$setElementOrder/containers: [{name: a}], containers: [{name: a, \
             $setElementOrder/env: [{name: X}], env: [{name: X, value: '2'}, \
             {name: Y, $patch: delete}]}]}",
            "{containers: [{name: a, env: [{name: X, value: '2'}, {name: Z, value: '1'}]}]}",
        ),
        // Ports are told apart by their number.
        (
            "{containers: [{name: a, ports: [{containerPort: 80}]}]}",
            "{containers: [{name: a, ports: [{containerPort: 81}]}]}",
            "{containers: [{name: a, ports: [{containerPort: 80, protocol: TCP}]}]}",
            "{$setElementOrder/containers: [{name: a}], containers: [{name: a, \
             $setElementOrder/ports: [{containerPort: 81}], ports: [{containerPort: 81}, \
             {containerPort: 80, $patch: delete}]}]}",
            "{containers: [{name: a, ports: [{containerPort: 81}]}]}",
        ),
        // The source of a volume changes: only one may be left (`retainKeys`).
        (
            "{volumes: [{name: v, emptyDir: {}}]}",
            "{volumes: [{name: v, hostPath: {path: /x}}]}",
            "{volumes: [{name: v, emptyDir: {}}]}",
            "{$setElementOrder/volumes: [{name: v}], volumes: [{name: v, emptyDir: null, \
             $retainKeys: [hostPath, name], hostPath: {path: /x}}]}",
            "{volumes: [{name: v, hostPath: {path: /x}}]}",
        ),
        (
            "",
            "{containers: [{image: x}]}",
            "{containers: [{name: a}]}",
            "error 1:79: spec.template.spec.containers[0]: map: map[image:x] does not \
             contain declared merge key: name",
            "",
        ),
    ] {
        check_pods(original, modified, current, patch, after);
    }
}

#[test]
fn a_strategy_keeps_the_keys_of_its_type_alone() {
    let deployment = |strategy: &str| {
        format!("{{apiVersion: apps/v1, kind: Deployment, spec: {{strategy: {strategy}}}}}")
    };
    check(
        &deployment("{type: RollingUpdate}"),
        &deployment("{type: Recreate}"),
        &deployment("{type: RollingUpdate, rollingUpdate: {maxSurge: 1}}"),
        "{spec: {strategy: {$retainKeys: [type], type: Recreate}}}",
        &deployment("{type: Recreate}"),
    );
}

#[test]
fn lists_of_scalars_with_a_merge_lose_what_left() {
    let meta =
        |list: &str| format!("{{apiVersion: v1, kind: Pod, metadata: {{finalizers: {list}}}}}");
    check(
        &meta("[x/a, x/b]"),
        &meta("[x/a, x/c]"),
        &meta("[x/a, x/b, x/s]"),
        "{metadata: {$deleteFromPrimitiveList/finalizers: [x/b], \
         $setElementOrder/finalizers: [x/a, x/c], finalizers: [x/c]}}",
        // What others added comes last: nothing tells its rank beside a new item.
        &meta("[x/a, x/c, x/s]"),
    );
}

#[test]
fn custom_resources_are_patched_by_json_merge() {
    let custom = |fields: &str| format!("{{apiVersion: example.com/v1, kind: Shop, {fields}}}");
    for (original, modified, current, patch, after) in [
        (
            "spec: {a: 1, b: {c: 1}}",
            "spec: {a: 2}",
            "spec: {a: 1, b: {c: 1}, d: 4}",
            "{spec: {b: null, a: 2}}",
            "spec: {a: 2, d: 4}",
        ),
        (
            "spec: {l: [{name: a}]}",
            "spec: {l: [{name: b}]}",
            "spec: {l: [{name: a}, {name: s}]}",
            "{spec: {l: [{name: b}]}}",
            "spec: {l: [{name: b}]}",
        ),
        // An empty map is a value.
        (
            "spec: {}",
            "spec: {m: {}}",
            "spec: {m: 1}",
            "{spec: {m: {}}}",
            "spec: {m: {}}",
        ),
    ] {
        let (original, modified) = (custom(original), custom(modified));
        check(
            &original,
            &modified,
            &custom(current),
            patch,
            &custom(after),
        );
    }
}
