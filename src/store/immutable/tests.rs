//! Tables of updates, and what the API server says.

use crate::api::Row;
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

/// Patches `object` by JSON merge, after its status was set; the causes, or nothing.
fn patch(object: &Value, change: &Value) -> Vec<String> {
    use crate::api::patch::PatchKind;
    use crate::store::{ApiError, Patch};
    let mut store = Store::new(Draws::new(1));
    let decoded = decode_json(object, &DecodeContext::default()).expect("a valid object");
    let mut write = |write: &Write| store.write(write, Time::ZERO, Cause::default());
    let stored = write(&Write::Create(decoded.row)).expect("created");
    let id = stored.object.expect("an object");
    if object.get("status").is_some() {
        // A status comes by itself.
        let mut row = decode_json(object, &DecodeContext::default())
            .expect("valid")
            .row;
        row.meta_mut().revision = stored.revision;
        write(&Write::UpdateStatus(id, row)).expect("a status");
    }
    let document = Patch::Document(PatchKind::Merge, change.clone().into());
    let reply = write(&Write::Patch {
        object: id,
        uid: None,
        patch: document,
    });
    match reply {
        Ok(_) => Vec::new(),
        Err(ApiError::Invalid { causes, .. }) => causes,
        Err(other) => vec![other.to_string()],
    }
}

fn check(object: &Value, cases: &[(Value, &[&str])]) {
    for (change, wanted) in cases {
        let said = patch(object, change);
        let first: Vec<&str> = said.iter().filter_map(|text| text.lines().next()).collect();
        assert_eq!(first, *wanted, "{change}");
    }
}

fn job(more: Value) -> Value {
    let mut job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"},
        "spec": {"template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "c", "image": "x"}]}}}});
    for (key, value) in more.as_object().expect("fields") {
        job["spec"][key] = value.clone();
    }
    job
}

#[test]
fn a_status_of_a_job_that_contradicts_itself_or_the_one_before_is_refused() {
    use crate::api::Job;
    let read = |status: Value| -> Job {
        let mut job = job(json!({"completions": 3, "parallelism": 2}));
        job["status"] = status;
        let row = decode_json(&job, &DecodeContext::default())
            .expect("valid")
            .row;
        match row {
            Row::Job(job) => Job::clone(&job),
            _ => unreachable!("a Job was written"),
        }
    };
    let done = |kind: &str| json!([{"type": kind, "status": "True"}]);
    let table = [
        (
            json!({"active": 2, "ready": 1}),
            json!({"active": 1, "ready": 1}),
            "",
        ),
        // While a failed pod waits to be replaced the controller reports no active ones.
        (
            json!({"active": 2, "ready": 2}),
            json!({"active": 0, "ready": 1}),
            "status.ready: Invalid value: 1: cannot set more ready pods than active",
        ),
        // What was wrong before and stays so is let through.
        (
            json!({"active": 0, "ready": 1}),
            json!({"active": 0, "ready": 1, "failed": 1}),
            "",
        ),
        (
            json!({"failed": 2}),
            json!({"failed": 1}),
            "status.failed: Invalid value: 1: cannot decrease the failed counter",
        ),
        (
            json!({"conditions": done("FailureTarget")}),
            json!({}),
            "status.conditions: Invalid value: cannot disable the terminal FailureTarget=True \
             condition",
        ),
        (
            json!({"startTime": "2026-01-01T00:00:00Z"}),
            json!({"startTime": "2026-01-01T00:00:00Z", "conditions": done("Failed")}),
            "status.conditions: Invalid value: cannot set Failed=True condition without the \
             FailureTarget=true condition",
        ),
    ];
    for (before, after, wanted) in table {
        let causes = super::job_status::check(&read(before.clone()), &read(after.clone()));
        assert_eq!(causes.join("; "), wanted, "{before} {after}");
    }
}

#[test]
fn a_job_keeps_its_template_and_its_completions() {
    let spec = |more: Value| json!({ "spec": more });
    let containers = json!([{"name": "c", "image": "y"}]);
    let template = spec(json!({"template": {"spec": {"containers": containers}}}));
    let said = patch(&job(json!({})), &template);
    assert_eq!(said.len(), 1);
    assert!(
        said[0].starts_with("spec.template: Invalid value: {"),
        "{said:?}"
    );
    assert!(said[0].ends_with("}: field is immutable"), "{said:?}");
    check(
        &job(json!({"completions": 3, "parallelism": 3})),
        &[
            (spec(json!({"parallelism": 1})), &[]),
            (
                spec(json!({"suspend": true, "ttlSecondsAfterFinished": 5})),
                &[],
            ),
            (
                spec(json!({"completions": 4})),
                &["spec.completions: Invalid value: 4: field is immutable"],
            ),
            (
                spec(json!({"managedBy": "example.com/other"})),
                &["spec.managedBy: Invalid value: \"example.com/other\": field is immutable"],
            ),
        ],
    );
    let indexed = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed"});
    check(
        &job(indexed),
        &[
            (spec(json!({"completions": 4, "parallelism": 4})), &[]),
            (
                spec(json!({"completions": 4})),
                &[
                    "spec.completions: Invalid value: 4: can only be modified in tandem with \
                   spec.parallelism",
                ],
            ),
            (
                spec(json!({"completionMode": "NonIndexed"})),
                &["spec.completionMode: Invalid value: \"NonIndexed\": field is immutable"],
            ),
            (
                spec(json!({"backoffLimitPerIndex": 1})),
                &["spec.backoffLimitPerIndex: Invalid value: 1: field is immutable"],
            ),
        ],
    );
}

#[test]
fn a_suspended_job_may_be_told_where_to_run_and_with_what() {
    let suspended = job(json!({"suspend": true}));
    let pods = |more: Value| json!({"spec": {"template": {"spec": more}}});
    let with = |more: Value| {
        let mut container = json!({"name": "c", "image": "x"});
        container
            .as_object_mut()
            .expect("a map")
            .extend(more.as_object().cloned().expect("map"));
        pods(json!({"containers": [container]}))
    };
    for change in [
        pods(json!({"nodeSelector": {"disk": "ssd"}})),
        pods(json!({"tolerations": [{"operator": "Exists"}]})),
        pods(json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}}})),
        with(json!({"resources": {"requests": {"cpu": "1"}}})),
        json!({"spec": {"template": {"metadata": {"labels": {"queue": "a"}}}}}),
    ] {
        assert_eq!(patch(&suspended, &change), Vec::<String>::new(), "{change}");
    }
    let said = patch(&suspended, &with(json!({"image": "y"})));
    assert!(
        said[0].starts_with("spec.template.spec: Invalid value"),
        "{said:?}"
    );
    // Not while it runs.
    let running = pods(json!({"nodeSelector": {"disk": "ssd"}}));
    assert!(patch(&job(json!({})), &running)[0].starts_with("spec.template: "));
}

#[test]
fn a_pod_changes_in_its_image_deadline_tolerations_and_gates() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "x"}], "activeDeadlineSeconds": 60,
            "tolerations": [{"key": "a", "operator": "Exists"}]}});
    let spec = |more: Value| json!({ "spec": more });
    let seconds = "node.kubernetes.io/unreachable";
    check(
        &pod,
        &[
            (
                spec(json!({"containers": [{"name": "c", "image": "y"}]})),
                &[],
            ),
            (spec(json!({"activeDeadlineSeconds": 30})), &[]),
            (
                spec(json!({"activeDeadlineSeconds": 90})),
                &[
                    "spec.activeDeadlineSeconds: Invalid value: 90: must be less than or equal to \
                   previous value",
                ],
            ),
            (
                spec(json!({"activeDeadlineSeconds": null})),
                &[
                    "spec.activeDeadlineSeconds: Invalid value: null: must not update from a \
                   positive integer to nil value",
                ],
            ),
            (
                spec(json!({"tolerations": [{"key": seconds, "operator": "Exists"}]})),
                &[
                    "spec.tolerations: Forbidden: existing toleration can not be modified except \
                   its tolerationSeconds",
                ],
            ),
            (
                spec(
                    json!({"containers": [{"name": "c", "image": "x"}, {"name": "d",
                    "image": "x"}]}),
                ),
                &["spec.containers: Forbidden: pod updates may not add or remove containers"],
            ),
            (
                spec(json!({"schedulingGates": [{"name": "g"}]})),
                &[
                    "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found \
                   new scheduling gate 'g'",
                ],
            ),
            (
                spec(json!({"terminationGracePeriodSeconds": 5})),
                &[
                    "spec: Forbidden: pod updates may not change fields other than \
                   `spec.containers[*].image`,`spec.initContainers[*].image`,\
                   `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
                   tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if \
                   it was previously negative)",
                ],
            ),
            (json!({"metadata": {"labels": {"a": "b"}}}), &[]),
        ],
    );
    let bound = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "x"}], "nodeName": "n"}});
    check(
        &bound,
        &[(
            json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}}),
            &[
                "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add \
                   mirror pod annotation",
            ],
        )],
    );
    let change = spec(json!({"terminationGracePeriodSeconds": 5}));
    let said = patch(&pod, &change);
    let lines: Vec<&str> = said[0].lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "- terminationGracePeriodSeconds: 30",
            "+ terminationGracePeriodSeconds: 5"
        ]
    );
}

#[test]
fn a_pod_at_a_gate_may_be_given_fewer_nodes() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "x"}], "nodeSelector": {"a": "1"},
            "schedulingGates": [{"name": "g"}]}});
    let spec = |more: Value| json!({ "spec": more });
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let affinity = json!({"nodeAffinity": {required: {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}});
    check(
        &pod,
        &[
            (spec(json!({"schedulingGates": null})), &[]),
            (spec(json!({"nodeSelector": {"b": "2"}})), &[]),
            (spec(json!({"affinity": affinity})), &[]),
            (
                spec(json!({"nodeSelector": {"a": "2"}})),
                &[
                    "spec.nodeSelector: Invalid value: {\"a\":\"2\"}: only additions to \
                   spec.nodeSelector are allowed (no mutations or deletions)",
                ],
            ),
        ],
    );
}

#[test]
fn claims_and_volumes_keep_what_they_were_made_from() {
    let claim = |phase: &str| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
                "resources": {"requests": {"storage": "2Gi"}}},
            "status": {"phase": phase, "capacity": {"storage": "1Gi"}}})
    };
    let spec = |more: Value| json!({ "spec": more });
    let size = |size: &str| spec(json!({"resources": {"requests": {"storage": size}}}));
    let fixed = "spec: Forbidden: spec is immutable after creation except resources.requests and \
                 volumeAttributesClassName for bound claims";
    check(
        &claim("Bound"),
        &[
            (size("3Gi"), &[]),
            (spec(json!({"storageClassName": "slow"})), &[fixed]),
            // What failed to grow may be made smaller again, down to what there is.
            (size("1536Mi"), &[]),
            (
                size("1Gi"),
                &[
                    "spec.resources.requests.storage: Forbidden: field can not be less than \
                   status.capacity",
                ],
            ),
        ],
    );
    check(
        &claim("Pending"),
        &[
            (size("3Gi"), &[fixed]),
            (spec(json!({"volumeName": "v"})), &[]),
        ],
    );
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "csi": {"driver": "d", "volumeHandle": "h"}, "nodeAffinity": {"required":
                {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "failure-domain.beta.kubernetes.io/zone", "operator": "In",
                     "values": ["a"]}]}]}}}});
    let zone = |key: &str, zone: &str| {
        spec(
            json!({"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions":
            [{"key": key, "operator": "In", "values": [zone]}]}]}}}),
        )
    };
    let source = "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is \
                  immutable after creation";
    check(
        &volume,
        &[
            (
                spec(json!({"persistentVolumeReclaimPolicy": "Delete"})),
                &[],
            ),
            (spec(json!({"csi": {"volumeHandle": "i"}})), &[source]),
            (zone("topology.kubernetes.io/zone", "a"), &[]),
        ],
    );
    let said = patch(&volume, &zone("topology.kubernetes.io/zone", "b"));
    assert!(
        said[0].starts_with("nodeAffinity: Invalid value: {"),
        "{said:?}"
    );
}

#[test]
fn fields_of_other_kinds_that_stay() {
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": "fast"}, "provisioner": "p", "parameters": {"type": "a"}});
    check(
        &class,
        &[
            (json!({"allowVolumeExpansion": true}), &[]),
            (
                json!({"parameters": {"type": "b"}, "reclaimPolicy": "Retain"}),
                &[
                    "parameters: Invalid value: {\"type\":\"b\"}: field is immutable",
                    "reclaimPolicy: Invalid value: \"Retain\": field is immutable",
                ],
            ),
        ],
    );
    let role =
        |name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "b"}, "roleRef": role("a")});
    check(
        &binding,
        &[(
            json!({ "roleRef": role("b") }),
            &[
                "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\
               \"Role\",\"name\":\"b\"}: cannot change roleRef",
            ],
        )],
    );
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"},
        "spec": {"hard": {"pods": "1"}, "scopes": ["BestEffort"]}});
    check(
        &quota,
        &[
            (json!({"spec": {"hard": {"pods": "2"}}}), &[]),
            (
                json!({"spec": {"scopes": ["NotBestEffort"]}}),
                &["spec.scopes: Invalid value: [\"NotBestEffort\"]: field is immutable"],
            ),
        ],
    );
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}});
    check(
        &map,
        &[
            (
                json!({"metadata": {"name": "n"}}),
                &["the name of the object (n) does not match the name on the URL (m)"],
            ),
            (
                json!({"metadata": {"uid": "x"}}),
                &["metadata.uid: Invalid value: \"x\": field is immutable"],
            ),
        ],
    );
}
