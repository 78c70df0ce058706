//! Manifests in, rows out: what the recorded answers of the API server do not cover.

use serde_json::{Value, json};

use super::{DecodeContext, Decoded, Problem, decode, decode_json, expand_list, with_patched_json};
use crate::api::node::NodeConditionKind;
use crate::api::pod_status::Phase;
use crate::api::print::{to_json, to_json_at};
use crate::api::yaml::{FileId, Limits, parse_documents};
use crate::api::{Kind, Pod, Row, Uid};
use crate::engine::Time;

fn read(text: &str) -> Vec<Result<Decoded, Vec<Problem>>> {
    let documents = parse_documents(FileId(0), text.as_bytes(), &Limits::default()).unwrap();
    let nodes = documents.iter().flat_map(expand_list);
    nodes
        .map(|node| decode(node, &DecodeContext::default()))
        .collect()
}

fn one(text: &str) -> Decoded {
    read(text).remove(0).unwrap()
}

fn pod(row: &Row) -> &Pod {
    match row {
        Row::Pod(pod) => pod,
        other => panic!("not a pod: {other:?}"),
    }
}

/// A pod of containers, init containers and overhead written as flow maps.
fn pod_of(containers: &str, init: &str, rest: &str) -> Decoded {
    one(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{containers: [{containers}], \
         initContainers: [{init}]{rest}}}}}"
    ))
}

#[test]
fn requests_of_a_pod_are_what_the_scheduler_counts() {
    let container = |name: &str, cpu: &str, sidecar: bool| {
        let policy = if sidecar {
            ", restartPolicy: Always"
        } else {
            ""
        };
        format!("{{name: {name}, image: i, resources: {{requests: {{cpu: {cpu}}}}}{policy}}}")
    };
    let table = [
        // Two containers: 100 + 200.
        (
            container("a", "100m", false) + "," + &container("b", "200m", false),
            String::new(),
            "",
            300,
        ),
        // A larger init container wins: max(100, 500).
        (
            container("a", "100m", false),
            container("i", "500m", false),
            "",
            500,
        ),
        // A sidecar counts with the containers: 100 + 50.
        (
            container("a", "100m", false),
            container("s", "50m", true),
            "",
            150,
        ),
        // An init container after a sidecar runs beside it: max(100 + 50, 120 + 50).
        (
            container("a", "100m", false),
            container("s", "50m", true) + "," + &container("i", "120m", false),
            "",
            170,
        ),
        // Before the sidecar it runs alone: max(100 + 50, 120).
        (
            container("a", "100m", false),
            container("i", "120m", false) + "," + &container("s", "50m", true),
            "",
            150,
        ),
        // Overhead comes on top: 100 + 10.
        (
            container("a", "100m", false),
            String::new(),
            ", overhead: {cpu: 10m}",
            110,
        ),
        // An amount for the whole pod wins over the sum: 400.
        (
            container("a", "100m", false),
            String::new(),
            ", resources: {requests: {cpu: 400m}}",
            400,
        ),
    ];
    for (containers, init, rest, expected) in table {
        let decoded = pod_of(&containers, &init, rest);
        assert_eq!(
            pod(&decoded.row).spec.requests.cpu_milli,
            expected,
            "{containers} {init} {rest}"
        );
    }
}

#[test]
fn a_limit_without_a_request_is_the_request_of_a_pod_and_not_written_into_a_template() {
    let spec = "spec: {containers: [{name: a, image: i, resources: {limits: {memory: 1.5Gi}}}]}";
    let of_pod = one(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, {spec}}}"
    ));
    let container = &pod(&of_pod.row).spec.containers[0];
    assert_eq!(container.requests.memory, 3 << 29);
    assert_eq!(
        of_pod.json["spec"]["containers"][0]["resources"]["requests"]["memory"],
        "1536Mi"
    );
    let of_template = one(&format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: d}}, spec: {{selector: \
         {{matchLabels: {{a: b}}}}, template: {{metadata: {{labels: {{a: b}}}}, {spec}}}}}}}"
    ));
    let Row::Deployment(deployment) = &of_template.row else {
        panic!("not a deployment");
    };
    let written = &of_template.json["spec"]["template"]["spec"]["containers"][0]["resources"];
    assert_eq!(written["limits"]["memory"], "1536Mi");
    assert_eq!(written.get("requests"), None);
    // The pods that are made from it have what other pods have.
    let made = &deployment.template.spec;
    assert_eq!(made.containers[0].requests.memory, 3 << 29);
    assert_eq!(made.requests.memory, 3 << 29);
    assert_eq!(
        made.source["containers"][0]["resources"]["requests"]["memory"],
        "1536Mi"
    );
    assert_eq!(made.source["enableServiceLinks"], true);
}

const SNAPSHOT: &str = "
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Node
  metadata: {name: n1, uid: 1c4d8e9a-0001, resourceVersion: '41', creationTimestamp: '2026-01-01T00:00:00Z'}
  spec: {unschedulable: true, taints: [{key: k, effect: NoExecute, timeAdded: '2026-01-01T00:01:00Z'}]}
  status:
    capacity: {cpu: '4', memory: 8Gi, pods: '110', nvidia.com/gpu: '2'}
    conditions: [{type: Ready, status: 'True', lastHeartbeatTime: '2026-01-01T00:02:00Z'}]
    images: [{names: ['nginx:1'], sizeBytes: 1000}]
- apiVersion: v1
  kind: Pod
  metadata:
    name: p
    namespace: shop
    uid: 1c4d8e9a-0002
    ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: r, uid: 1c4d8e9a-0003, controller: true}]
  spec:
    nodeName: n1
    containers: [{name: a, image: i}]
    ephemeralContainers: [{name: debug, image: busybox}]
  status:
    phase: Running
    podIP: 10.0.0.7
    startTime: '2026-01-01T00:00:30Z'
    containerStatuses:
    - {name: a, image: i, imageID: x, ready: true, restartCount: 2, state: {running: {startedAt: '2026-01-01T00:00:31Z'}}}
- apiVersion: apps/v1
  kind: ReplicaSet
  metadata: {name: r, namespace: shop, uid: 1c4d8e9a-0003}
  spec: {replicas: 0, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: i}]}}}
  status: {replicas: 3}
";

#[test]
fn a_snapshot_keeps_status_binding_and_owners() {
    let documents = parse_documents(FileId(0), SNAPSHOT.as_bytes(), &Limits::default()).unwrap();
    let context = DecodeContext {
        // 2026-01-01T00:00:00Z
        epoch_s: 1_767_225_600,
        ..DecodeContext::default()
    };
    let rows: Vec<Row> = documents
        .iter()
        .flat_map(expand_list)
        .map(|node| decode(node, &context).unwrap().row)
        .collect();
    let [Row::Node(node), Row::Pod(pod), Row::ReplicaSet(set)] = rows.as_slice() else {
        panic!("other kinds: {rows:?}");
    };
    assert!(node.unschedulable && node.ready());
    assert_eq!(node.meta.revision, 41);
    assert_eq!(node.taints[0].added, Some(Time::from_secs(60)));
    assert_eq!(node.status.allocatable.memory, 8 << 30);
    assert_eq!(node.status.allocatable.extended("nvidia.com/gpu"), 2);
    let ready = node.condition(&NodeConditionKind::Ready).unwrap();
    assert_eq!(ready.heartbeat, Time::from_secs(120));
    assert_eq!(node.status.images[0].1, 1000);

    assert_eq!(pod.node_name.as_deref(), Some("n1"));
    assert_eq!(pod.status.phase, Phase::Running);
    assert_eq!(pod.status.start_time, Some(Time::from_secs(30)));
    assert_eq!(pod.status.ip.unwrap().to_string(), "10.0.0.7");
    assert_eq!(pod.status.containers[0].restarts, 2);
    let owner = pod.meta.controller().unwrap();
    assert_eq!((owner.kind, owner.uid), (Kind::ReplicaSet, set.meta.uid));
    assert_ne!(pod.meta.uid, set.meta.uid);

    assert_eq!((set.replicas, set.status.replicas), (0, 3));
}

#[test]
fn rows_print_what_they_were_read_from() {
    let context = DecodeContext {
        epoch_s: 1_767_225_600,
        ..DecodeContext::default()
    };
    let documents = parse_documents(FileId(0), SNAPSHOT.as_bytes(), &Limits::default()).unwrap();
    for node in documents.iter().flat_map(expand_list) {
        let row = decode(node, &context).unwrap().row;
        let printed = to_json_at(&row, context.epoch_s);
        let again = decode_json(&printed, &context).unwrap().row;
        assert_eq!(again.meta(), row.meta(), "{printed}");
        assert_eq!(to_json_at(&again, context.epoch_s), printed);
    }
}

#[test]
fn problems_name_the_place_in_the_file() {
    let text = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replica: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      containers:
      - {name: web, image: nginx, imagePullPolicy: Sometimes}
";
    let problems = read(text).remove(0).unwrap_err();
    let lines: Vec<_> = problems
        .iter()
        .map(|p| format!("{} {p}", p.span.unwrap()))
        .collect();
    assert_eq!(
        lines,
        [
            "8:24 spec.template.metadata.labels: Invalid value: {\"app\":\"shop\"}: `selector` \
             does not match template `labels`",
            "11:52 spec.template.spec.containers[0].imagePullPolicy: Unsupported value: \
             \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            "5:3 spec.replica: unknown field \"spec.replica\" (did you mean \"replicas\"?)",
        ]
    );
    // All wrong values are named at once, not the first alone.
    let problems = read("{apiVersion: v1, kind: Pod, metadata: {name: 5}, spec: {containers: {}}}")
        .remove(0)
        .unwrap_err();
    let paths: Vec<_> = problems.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(paths, ["metadata.name", "spec.containers"]);
}

#[test]
fn a_zero_of_another_type_is_a_wrong_value_and_no_absence() {
    // Of its own type a zero is what Go makes of an absent field.
    for (field, accepted) in [
        ("nodeName: ''", true),
        ("nodeName: 0", false),
        ("nodeName: false", false),
        ("hostNetwork: false", true),
        ("hostNetwork: 0", false),
        ("hostNetwork: ''", false),
        ("activeDeadlineSeconds: ''", false),
        ("priority: ''", false),
        ("dnsConfig: ''", false),
        ("tolerations: ''", false),
        ("tolerations: 0", false),
    ] {
        let text = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, \
             spec: {{containers: [{{name: a, image: i}}], {field}}}}}"
        );
        match read(&text).remove(0) {
            Ok(_) => assert!(accepted, "{field}"),
            Err(problems) => {
                let name = field.split(':').next().unwrap_or_default();
                assert!(!accepted, "{field}");
                assert_eq!(problems[0].path, format!("spec.{name}"));
                assert_eq!(problems[0].reason, "BadRequest");
            }
        }
    }
}

#[test]
fn old_versions_are_read_as_current_ones_with_a_warning() {
    let cases = [
        (
            "{apiVersion: extensions/v1beta1, kind: Deployment, metadata: {name: d}, spec: \
             {template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}",
            "apps/v1",
            "/spec/selector/matchLabels/a",
            json!("b"),
        ),
        (
            "{apiVersion: extensions/v1beta1, kind: Ingress, metadata: {name: i}, spec: {rules: \
             [{http: {paths: [{path: /, backend: {serviceName: s, servicePort: 80}}]}}]}}",
            "networking.k8s.io/v1",
            "/spec/rules/0/http/paths/0/backend/service",
            json!({"name": "s", "port": {"number": 80}}),
        ),
        (
            "{apiVersion: autoscaling/v2beta1, kind: HorizontalPodAutoscaler, metadata: {name: h}, \
             spec: {maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: \
             d}, metrics: [{type: Resource, resource: {name: cpu, targetAverageUtilization: 50}}]}}",
            "autoscaling/v2",
            "/spec/metrics/0/resource/target",
            json!({"type": "Utilization", "averageUtilization": 50}),
        ),
        (
            "{apiVersion: autoscaling/v1, kind: HorizontalPodAutoscaler, metadata: {name: h, \
             annotations: {autoscaling.alpha.kubernetes.io/metrics: '[{\"type\": \"Resource\", \
             \"resource\": {\"name\": \"memory\", \"targetAverageUtilization\": 60}}]'}}, spec: \
             {maxReplicas: 3, targetCPUUtilizationPercentage: 50, scaleTargetRef: {apiVersion: \
             apps/v1, kind: Deployment, name: d}}}",
            "autoscaling/v2",
            "/spec/metrics",
            json!([
                {"type": "Resource", "resource": {"name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": 50}}},
                {"type": "Resource", "resource": {"name": "memory",
                    "target": {"type": "Utilization", "averageUtilization": 60}}},
            ]),
        ),
        (
            "{apiVersion: batch/v1beta1, kind: CronJob, metadata: {name: c}, spec: {schedule: '* * \
             * * *', jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: \
             [{name: c, image: i}]}}}}}}",
            "batch/v1",
            "/spec/concurrencyPolicy",
            json!("Allow"),
        ),
    ];
    for (text, version, path, expected) in cases {
        let decoded = one(text);
        assert_eq!(decoded.json["apiVersion"], version);
        assert_eq!(decoded.json.pointer(path), Some(&expected), "{text}");
        // The first version of autoscalers is still served.
        let reasons: Vec<&str> = decoded.warnings.iter().map(|w| w.reason.as_str()).collect();
        let served = text.contains("autoscaling/v1,");
        assert_eq!(reasons, ["Deprecated"][usize::from(served)..], "{text}");
    }
}

#[test]
fn foreign_kinds_are_kept_as_written() {
    let text = "{apiVersion: example.com/v1, kind: Widget, metadata: {name: w, labels: {a: b}}, \
                spec: {anything: [1, {goes: true}], empty: [], nothing: null}}";
    let decoded = one(text);
    assert!(!decoded.known && decoded.warnings.is_empty());
    let Row::Inert(widget) = &decoded.row else {
        panic!("not inert");
    };
    assert_eq!(widget.meta.full_name(), "default/w");
    assert_eq!(widget.meta.labels.get("a").map(|v| v.as_str()), Some("b"));
    assert_eq!(widget.body["spec"]["empty"], json!([]));
    assert_eq!(widget.body["spec"]["nothing"], Value::Null);
    assert_eq!(decoded.not_modelled[0].what, "Widget");
}

/// What `kubectl` says of a kind that the server does not have (`meta :: NoKindMatchError`).
#[test]
fn kinds_that_a_version_of_kubernetes_own_does_not_have_are_refused() {
    for (version, kind, hint) in [
        ("apps/v1", "Deploymnet", "did you mean \"Deployment\"?"),
        (
            "v1",
            "StorageClass",
            "did you mean apiVersion \"storage.k8s.io/v1\"?",
        ),
        ("apps/v1", "Job", "did you mean apiVersion \"batch/v1\"?"),
        (
            "apps/v2",
            "Deployment",
            "did you mean apiVersion \"apps/v1\"?",
        ),
        (
            "batch/v1",
            "HorizontalPodAutoscaler",
            "did you mean apiVersion \"autoscaling/v2\"?",
        ),
    ] {
        let text = format!("{{apiVersion: {version}, kind: {kind}, metadata: {{name: w}}}}");
        let problems = read(&text).remove(0).expect_err("refused");
        assert_eq!(problems.len(), 1, "{text}");
        let wanted = format!("no matches for kind {kind:?} in version {version:?} ({hint})");
        assert_eq!(problems[0].message, wanted);
        assert_eq!(problems[0].path, "kind");
        assert!(problems[0].span.is_some());
    }
    // Versions that came before or may come, and kinds that are only asked for, are let pass.
    for text in [
        "{apiVersion: networking.k8s.io/v1alpha1, kind: ClusterCIDR, metadata: {name: w}}",
        "{apiVersion: resource.k8s.io/v1, kind: DeviceClass, metadata: {name: w}}",
        "{apiVersion: authorization.k8s.io/v1, kind: SubjectAccessReview, metadata: {name: w}}",
    ] {
        assert!(matches!(one(text).row, Row::Inert(_)), "{text}");
    }
}

#[test]
fn a_patched_object_keeps_its_identity_and_status() {
    let mut row = pod_of("{name: a, image: 'i:1'}", "", "").row;
    row.meta_mut().uid = Uid(7);
    row.meta_mut().revision = 9;
    if let Row::Pod(pod) = &mut row {
        let pod = std::sync::Arc::make_mut(pod);
        pod.status.phase = Phase::Running;
        pod.node_name = Some("n1".into());
    }
    let mut patched = to_json(&row);
    patched["metadata"]["labels"] = json!({"new": "label"});
    patched["spec"]["containers"][0]["image"] = json!("i:2");
    let new = with_patched_json(&row, &patched, &DecodeContext::default()).unwrap();
    let new = pod(&new);
    assert_eq!((new.meta.uid, new.meta.revision), (Uid(7), 9));
    assert_eq!(new.status.phase, Phase::Running);
    assert_eq!(new.node_name.as_deref(), Some("n1"));
    assert_eq!(
        new.meta.labels.get("new").map(|v| v.as_str()),
        Some("label")
    );
    assert_eq!(new.spec.containers[0].image, "i:2");
    patched["spec"]["containers"][0]["image"] = json!("");
    let refused = with_patched_json(&row, &patched, &DecodeContext::default()).unwrap_err();
    assert_eq!(
        refused[0].to_string(),
        "spec.containers[0].image: Required value"
    );
}

#[test]
fn a_definition_says_whether_its_kind_has_a_namespace() {
    let definition = |kind: &str, scope: &str| {
        format!(
            "{{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: \
             {{name: x}}, spec: {{group: example.com, scope: {scope}, names: {{kind: {kind}}}}}}}"
        )
    };
    let read = |text: &str| parse_documents(FileId(0), text.as_bytes(), &Limits::default());
    let mut context = DecodeContext::default();
    for (kind, scope) in [("Fleet", "Cluster"), ("ClusterRole", "Namespaced")] {
        context.learn(&read(&definition(kind, scope)).unwrap());
    }
    for (kind, version, namespace) in [
        ("Fleet", "example.com/v1", ""),
        ("Fleet", "example.org/v1", "default"),
        ("ClusterRole", "example.com/v1", "default"),
        ("ClusterThing", "example.com/v1", ""),
        ("Thing", "example.com/v1", "default"),
    ] {
        let text = format!("{{apiVersion: {version}, kind: {kind}, metadata: {{name: a}}}}");
        let row = decode(&read(&text).unwrap()[0], &context).unwrap().row;
        assert_eq!(row.meta().namespace, namespace, "{text}");
    }
}
