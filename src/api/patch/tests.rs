//! Patches as tables of text: the object, the patch, and the object or error that results.

use super::*;
use crate::api::yaml::{FileId, Limits, parse_document};

fn read(text: &str) -> Node {
    parse_document(FileId(0), text.as_bytes(), &Limits::default()).expect("the case is YAML")
}

/// Applies `patch` with `apply` and compares with YAML, or with the error as printed after
/// `error `.
fn check_with(
    apply: impl Fn(&mut Node, &Node) -> Result<(), PatchError>,
    object: &str,
    patch: &str,
    expected: &str,
) {
    let before = read(object);
    let mut after = before.clone();
    match apply(&mut after, &read(patch)) {
        Ok(()) => {
            let wanted = read(expected);
            assert!(
                after.same(&wanted),
                "{patch}\nwant {expected}\ngot  {}",
                after.to_json()
            );
        }
        Err(error) => {
            assert_eq!(format!("error {error}"), expected, "{patch}");
            assert_eq!(after, before, "a patch that fails changes nothing: {patch}");
        }
    }
}

#[test]
fn a_merge_patch_merges_maps_deletes_nulls_and_replaces_the_rest() {
    let merge = |object: &mut Node, patch: &Node| {
        merge_patch(object, patch);
        Ok(())
    };
    // RFC 7386, appendix A; the API server also drops nulls within new lists.
    for (object, patch, expected) in [
        ("{a: b}", "{a: c}", "{a: c}"),
        ("{a: b}", "{b: c}", "{a: b, b: c}"),
        ("{a: b}", "{a: null}", "{}"),
        ("{a: b, b: c}", "{a: null}", "{b: c}"),
        ("{a: [b]}", "{a: c}", "{a: c}"),
        ("{a: c}", "{a: [b]}", "{a: [b]}"),
        ("{a: {b: c}}", "{a: {b: d, c: null}}", "{a: {b: d}}"),
        ("{a: [{b: c}]}", "{a: [1]}", "{a: [1]}"),
        ("[a, b]", "[c, d]", "[c, d]"),
        ("{a: b}", "[c]", "[c]"),
        ("{a: foo}", "null", "null"),
        ("{e: null}", "{a: 1}", "{e: null, a: 1}"),
        ("[1, 2]", "{a: b, c: null}", "{a: b}"),
        ("{}", "{a: {bb: {ccc: null}}}", "{a: {bb: {}}}"),
        ("{}", "{a: [{b: null, c: 1}, null]}", "{a: [{c: 1}, null]}"),
    ] {
        check_with(merge, object, patch, expected);
    }
}

#[test]
fn a_json_patch_applies_its_operations_in_order() {
    for (object, patch, expected) in [
        (
            "{a: 1}",
            "[{op: add, path: /b, value: [2]}]",
            "{a: 1, b: [2]}",
        ),
        (
            "{a: [1, 3]}",
            "[{op: add, path: /a/1, value: 2}]",
            "{a: [1, 2, 3]}",
        ),
        (
            "{a: [1]}",
            "[{op: add, path: /a/-, value: 2}]",
            "{a: [1, 2]}",
        ),
        (
            "{a: [1]}",
            "[{op: add, path: /a/-1, value: 2}]",
            "{a: [1, 2]}",
        ),
        ("{a: [1, 2]}", "[{op: remove, path: /a/-1}]", "{a: [1]}"),
        (
            "{a: {b/c: 1, d~e: 2}}",
            "[{op: remove, path: /a/b~1c}, {op: remove, path: /a/d~0e}]",
            "{a: {}}",
        ),
        (
            "{a: 1}",
            "[{op: replace, path: /a, value: {b: 2}}]",
            "{a: {b: 2}}",
        ),
        (
            "{a: 1}",
            "[{op: replace, path: /b, value: 2}]",
            "{a: 1, b: 2}",
        ),
        (
            "{a: 1}",
            "[{op: replace, path: '', value: {b: 2}}]",
            "{b: 2}",
        ),
        (
            "{a: {b: 1}, c: {}}",
            "[{op: move, from: /a/b, path: /c/d}]",
            "{a: {}, c: {d: 1}}",
        ),
        (
            "{a: {b: 1}}",
            "[{op: copy, from: /a, path: /c}]",
            "{a: {b: 1}, c: {b: 1}}",
        ),
        (
            "{a: 1}",
            "[{op: test, path: /a, value: 1}, {op: remove, path: /a}]",
            "{}",
        ),
        ("{a: 1}", "[{op: test, path: /b, value: null}]", "{a: 1}"),
    ] {
        check_with(json_patch, object, patch, expected);
    }
}

#[test]
fn a_json_patch_that_does_not_apply_changes_nothing() {
    for (object, patch, expected) in [
        (
            "{a: 1}",
            "[{op: remove, path: /a}, {op: test, path: /a, value: 1}]",
            "error 1:43: [1]: testing value /a failed: found nothing",
        ),
        (
            "{a: 1}",
            "[{op: remove, path: /b/c}]",
            "error 1:21: [0]: nothing at /b",
        ),
        (
            "{a: 1}",
            "[{op: remove, path: /a/c}]",
            "error 1:21: [0]: /a/c would be in an integer",
        ),
        (
            "{a: [1]}",
            "[{op: add, path: /a/5, value: 1}]",
            "error 1:18: [0]: no place 5 in a list of 1 items: /a/5",
        ),
        (
            "{a: 1}",
            "[{op: move, from: /a, path: /a/b}]",
            "error 1:29: [0]: nothing at /a",
        ),
        (
            "{a: 1}",
            "[{op: frob, path: /a}]",
            "error 1:7: [0]: unexpected kind of operation: frob",
        ),
        (
            "{a: 1}",
            "[{op: add, path: a}]",
            "error 1:18: [0]: \"path\" must begin with a slash: \"a\"",
        ),
        (
            "{a: 1}",
            "[{op: add, value: 1}]",
            "error 1:2: [0]: the operation has no \"path\"",
        ),
        (
            "{a: 1}",
            "[{op: add, path: /b, vlaue: 1}]",
            "error 1:22: [0]: unknown field \"vlaue\"",
        ),
        (
            "{a: 1}",
            "[{op: replace, path: '', value: 1}]",
            "error 1:33: [0]: a document cannot be an integer",
        ),
    ] {
        check_with(json_patch, object, patch, expected);
    }
}

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: p, finalizers: [f1, f2]}
spec:
  containers:
  - name: a
    image: a:1
    env: [{name: X, value: '1'}, {name: Y, value: '2'}]
    ports: [{containerPort: 80, name: http}]
  - {name: b, image: b:1}
  tolerations: [{key: k, operator: Exists}]
  volumes: [{name: v, emptyDir: {}}]
";

/// Applies a patch to [`POD`] and compares the part at `path`.
fn check_pod(patch: &str, path: &str, expected: &str) {
    let mut pod = read(POD);
    apply(&mut pod, &read(patch)).unwrap_or_else(|error| panic!("{patch}: {error}"));
    let got = pod.at(path).map_or(serde_json::Value::Null, Node::to_json);
    assert_eq!(got, read(expected).to_json(), "{patch}");
}

#[test]
fn lists_with_a_merge_key_are_merged_by_it() {
    check_pod(
        "spec: {containers: [{name: b, image: 'b:2'}]}",
        "spec.containers[1]",
        "{name: b, image: 'b:2'}",
    );
    check_pod(
        "spec: {containers: [{name: b, image: 'b:2'}]}",
        "spec.containers[0].image",
        "a:1",
    );
    // A new item goes in front of those of the object.
    check_pod(
        "spec: {initContainers: null, containers: [{name: c}]}",
        "spec.containers[0]",
        "{name: c}",
    );
    check_pod(
        "spec: {containers: [{name: a, env: [{name: Y, value: '3'}, {name: Z}]}]}",
        "spec.containers[0].env",
        "[{name: X, value: '1'}, {name: Y, value: '3'}, {name: Z}]",
    );
    check_pod(
        "spec: {containers: [{name: a, ports: [{containerPort: 80, hostPort: 81}]}]}",
        "spec.containers[0].ports",
        "[{containerPort: 80, name: http, hostPort: 81}]",
    );
    check_pod(
        "metadata: {finalizers: [f3, f1]}",
        "metadata.finalizers",
        "[f3, f1, f2]",
    );
}

#[test]
fn lists_without_a_merge_key_are_replaced() {
    check_pod(
        "spec: {tolerations: [{key: q}]}",
        "spec.tolerations",
        "[{key: q}]",
    );
    check_pod("spec: {tolerations: []}", "spec.tolerations", "[]");
}

#[test]
fn directives_delete_replace_and_order() {
    check_pod(
        "spec: {containers: [{name: a, $patch: delete}]}",
        "spec.containers",
        "[{name: b, image: 'b:1'}]",
    );
    check_pod(
        "spec: {containers: [{name: n}, {$patch: replace}]}",
        "spec.containers",
        "[{name: n}]",
    );
    check_pod(
        "spec: {$patch: replace, hostNetwork: yes}",
        "spec",
        "{hostNetwork: true}",
    );
    check_pod("spec: {$patch: delete}", "spec", "{}");
    check_pod(
        "metadata: {$deleteFromPrimitiveList/finalizers: [f1]}",
        "metadata.finalizers",
        "[f2]",
    );
    check_pod(
        "spec: {$setElementOrder/containers: [{name: b}, {name: a}]}",
        "spec.containers[0].name",
        "b",
    );
    check_pod(
        "metadata: {$setElementOrder/finalizers: [f3, f1], finalizers: [f3]}",
        "metadata.finalizers",
        "[f3, f1, f2]",
    );
    check_pod(
        "spec: {volumes: [{name: v, $retainKeys: [name, hostPath], hostPath: {path: /x}}]}",
        "spec.volumes",
        "[{name: v, hostPath: {path: /x}}]",
    );
    // An item the patch only deletes is not added.
    check_pod(
        "spec: {hostAliases: [{ip: '1', $patch: delete}]}",
        "spec.hostAliases",
        "[]",
    );
    check_pod(
        "spec: {containers: [{name: b, image: null}]}",
        "spec.containers[1]",
        "{name: b}",
    );
}

#[test]
fn a_new_container_takes_the_rank_of_the_one_it_replaces() {
    // The patch of `kubectl apply` when `b` becomes `c` while `x` was injected by somebody else.
    // Upstream's ranks are a, x, c afterwards, because c lies in the memory of b.
    let object = "
apiVersion: v1
kind: Pod
spec: {containers: [{name: a}, {name: b}, {name: x}]}
";
    let patch = "
spec:
  $setElementOrder/containers: [{name: a}, {name: c}]
  containers: [{name: c}, {name: b, $patch: delete}]
";
    let expected = "
apiVersion: v1
kind: Pod
spec: {containers: [{name: a}, {name: x}, {name: c}]}
";
    check_with(apply, object, patch, expected);
}

#[test]
fn every_kind_has_its_own_merge_keys() {
    for (object, patch, expected) in [
        (
            "{apiVersion: v1, kind: Service, spec: {ports: [{port: 80, name: a}]}}",
            "spec: {ports: [{port: 80, targetPort: 8080}, {port: 81}]}",
            "{apiVersion: v1, kind: Service,
              spec: {ports: [{port: 80, name: a, targetPort: 8080}, {port: 81}]}}",
        ),
        (
            "{apiVersion: apps/v1, kind: Deployment,
              spec: {template: {spec: {containers: [{name: a, image: x}]}},
                     strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1}}}}",
            "spec: {template: {spec: {containers: [{name: a, tty: on}]}},
                    strategy: {$retainKeys: [type], type: Recreate}}",
            "{apiVersion: apps/v1, kind: Deployment,
              spec: {template: {spec: {containers: [{name: a, image: x, tty: true}]}},
                     strategy: {type: Recreate}}}",
        ),
        (
            "{apiVersion: batch/v1, kind: CronJob, spec: {jobTemplate: {spec: {template: {spec:
              {containers: [{name: a}, {name: b}]}}}}}}",
            "spec: {jobTemplate: {spec: {template: {spec:
              {containers: [{name: a, $patch: delete}]}}}}}",
            "{apiVersion: batch/v1, kind: CronJob, spec: {jobTemplate: {spec: {template: {spec:
              {containers: [{name: b}]}}}}}}",
        ),
        (
            "{apiVersion: policy/v1, kind: PodDisruptionBudget,
              spec: {minAvailable: 1, selector: {matchLabels: {a: b}}}}",
            "spec: {selector: {matchLabels: {c: d}}}",
            "{apiVersion: policy/v1, kind: PodDisruptionBudget,
              spec: {minAvailable: 1, selector: {matchLabels: {c: d}}}}",
        ),
        (
            "{apiVersion: v1, kind: Node, spec: {taints: [{key: a}]},
              status: {conditions: [{type: Ready, status: 'True'}]}}",
            "spec: {taints: [{key: b}]}\nstatus: {conditions: [{type: Ready, reason: r}]}",
            "{apiVersion: v1, kind: Node, spec: {taints: [{key: b}]},
              status: {conditions: [{type: Ready, status: 'True', reason: r}]}}",
        ),
        (
            "{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration,
              webhooks: [{name: a, sideEffects: None, matchConditions: [{name: x, expression: y}]},
                         {name: b}]}",
            "webhooks: [{name: a, failurePolicy: Ignore, matchConditions: [{name: z}]}]",
            "{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration,
              webhooks: [{name: a, sideEffects: None, failurePolicy: Ignore,
                          matchConditions: [{name: z}, {name: x, expression: y}]},
                         {name: b}]}",
        ),
        (
            "{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicy,
              spec: {variables: [{name: a, expression: x}], auditAnnotations: [{key: k}]}}",
            "spec: {variables: [{name: a, expression: y}], auditAnnotations: [{key: l}]}",
            "{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicy,
              spec: {variables: [{name: a, expression: y}], auditAnnotations: [{key: l}]}}",
        ),
        // Of a custom resource nothing is known: a JSON merge patch.
        (
            "{apiVersion: example.com/v1, kind: Pod, spec: {containers: [{name: a}]}}",
            "spec: {containers: [{name: b}]}",
            "{apiVersion: example.com/v1, kind: Pod, spec: {containers: [{name: b}]}}",
        ),
    ] {
        check_with(apply, object, patch, expected);
    }
}

#[test]
fn errors_name_the_place_in_the_patch() {
    for (patch, expected) in [
        (
            "spec:\n  containers:\n  - image: x\n",
            "error 3:5: spec.containers[0]: map: map[image:x] does not contain declared merge \
             key: name",
        ),
        (
            "spec:\n  $patch: merge\n",
            "error 2:11: spec: unknown patch type: merge in map: map[$patch:merge]",
        ),
        (
            "spec: {containers: [{name: a, $patch: merge}]}",
            "error 1:39: spec.containers[0]: merging lists cannot yet be specified in the patch",
        ),
        (
            "spec: {containers: [a]}",
            "error 1:21: spec.containers: list element types are not identical",
        ),
        (
            "spec: {$retainKeys: [volumes], containers: []}",
            "error 1:32: spec.$retainKeys: invalid patch format of retainKeys",
        ),
        (
            "spec: {$setElementOrder/containers: [{name: q}], containers: [{name: a}]}",
            "error 1:63: spec[$setElementOrder/containers]: the order in the patch list doesn't \
             match the $setElementOrder list",
        ),
        (
            "just text",
            "error 1:1: a patch is a map or a list of operations, not a string",
        ),
    ] {
        check_with(apply, POD, patch, expected);
    }
}

#[test]
fn patched_values_have_the_patchs_place() {
    let mut pod = read(POD);
    apply(
        &mut pod,
        &read("\n\nspec:\n  containers:\n  - name: b\n    image: b:2\n"),
    )
    .expect("applies");
    let line = |path: &str| pod.at(path).map(|node| node.span.line);
    assert_eq!(line("spec.containers[1].image"), Some(6));
    assert_eq!(line("spec.containers[0].image"), Some(8));
}
