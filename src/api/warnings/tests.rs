//! After `pkg/api/pod/warnings_test.go`, `pkg/api/service/warnings_test.go` and their neighbours.

use serde_json::{Value, json};

use super::*;

fn pod(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
}

fn container(more: Value) -> Value {
    let mut container = json!({"name": "c", "image": "x"});
    for (key, value) in more.as_object().into_iter().flatten() {
        container[key] = value.clone();
    }
    container
}

fn check(object: &Value, expected: &[&str]) {
    assert_eq!(of(object), expected, "{object}");
}

#[test]
fn a_pod_is_warned_of_what_will_not_do_what_it_says() {
    let one = |more: Value| pod(json!({"containers": [container(more)]}));
    let env = |name: &str, value: &str| json!({"name": name, "value": value});
    let port = |number: i32, more: Value| {
        let mut port = json!({"containerPort": number, "protocol": "TCP"});
        for (key, value) in more.as_object().into_iter().flatten() {
            port[key] = value.clone();
        }
        port
    };
    let table: Vec<(Value, &[&str])> = vec![
        (
            one(json!({"env": [env("A", "1"), env("B", "2"), env("A", "$(A)3")]})),
            &[],
        ),
        (
            one(json!({"env": [env("A", "1"), env("A", "2"), env("A", "$(A)")]})),
            &[
                "spec.containers[0].env[1]: hides previous definition of \"A\", which may be \
                 dropped when using apply",
                "spec.containers[0].env[2]: hides previous definition of \"A\", which may be \
                 dropped when using apply",
            ],
        ),
        (
            one(
                json!({"resources": {"limits": {"memory": "1Gi"}, "requests": {"memory": "100m",
                "cpu": "100m", "ephemeral-storage": "1.5"}}}),
            ),
            &[
                "spec.containers[0].resources.requests[memory]: fractional byte value \"100m\" is \
                 invalid, must be an integer",
                "spec.containers[0].resources.requests[ephemeral-storage]: fractional byte value \
                 \"1500m\" is invalid, must be an integer",
            ],
        ),
        (
            one(json!({"ports": [port(80, json!({"name": "a"})), port(80, json!({"name": "a"}))]})),
            &[
                "spec.containers[0].ports[1]: duplicate port definition with \
                 spec.containers[0].ports[0]",
                "spec.containers[0].ports[1]: duplicate port name \"a\" with \
                 spec.containers[0].ports[0], services and probes that select ports by name will \
                 use spec.containers[0].ports[0]",
            ],
        ),
        (
            one(
                json!({"ports": [port(80, json!({"hostPort": 80})), port(80, json!({})),
                port(80, json!({"hostPort": 80, "hostIP": "10.0.0.1"}))]}),
            ),
            &[
                "spec.containers[0].ports[1]: overlapping port definition with \
                 spec.containers[0].ports[0]",
                "spec.containers[0].ports[2]: dangerously ambiguous port definition with \
                 spec.containers[0].ports[0]",
                "spec.containers[0].ports[2]: overlapping port definition with \
                 spec.containers[0].ports[1]",
            ],
        ),
        (
            one(json!({"ports": [port(80, json!({"hostIP": "10.0.0.1"}))]})),
            &[
                "spec.containers[0].ports[0]: hostIP set without hostPort: {Name: HostPort:0 \
               ContainerPort:80 Protocol:TCP HostIP:10.0.0.1}",
            ],
        ),
        (
            pod(json!({"containers": [container(json!({}))],
                "nodeSelector": {"beta.kubernetes.io/os": "linux", "disk": "ssd"},
                "terminationGracePeriodSeconds": -1,
                "imagePullSecrets": [{"name": "a"}, {"name": "a"}, {}],
                "topologySpreadConstraints": [{"maxSkew": 1,
                    "topologyKey": "failure-domain.beta.kubernetes.io/zone"}],
                "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 1, "podAffinityTerm": {"topologyKey": "x"}}]}}})),
            &[
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \
                 \"kubernetes.io/os\" instead",
                "spec.topologySpreadConstraints[0].topologyKey: \
                 failure-domain.beta.kubernetes.io/zone is deprecated since v1.17; use \
                 \"topology.kubernetes.io/zone\" instead",
                "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in \
                 matching no pod",
                "spec.imagePullSecrets[1].name: duplicate name \"a\"",
                "spec.imagePullSecrets[2].name: invalid empty name \"\"",
                "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and \
                 will be treated as 1",
                "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].\
                 podAffinityTerm.labelSelector: a null labelSelector results in matching no pod",
            ],
        ),
        (
            pod(json!({"containers": [container(json!({}))], "volumes": [
                {"name": "g", "gitRepo": {"repository": "r"}},
                {"name": "v", "configMap": {"name": "m", "items": [
                    {"key": "a", "path": "x/"}, {"key": "b", "path": "x/y"},
                    {"key": "c", "path": "xy"}]}},
                {"name": "p", "projected": {"sources": [
                    {"secret": {"name": "s", "items": [{"key": "a", "path": "t"}]}},
                    {"serviceAccountToken": {"path": "t"}}]}}]})),
            &[
                "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
                "volume \"v\" (ConfigMap \"m\"): overlapping paths: \"x/y\" with \"x\"",
                "volume \"p\" (Projected): overlapping paths: \"t\" (ServiceAccountToken) with \"t\" \
                 (Secret \"s\")",
            ],
        ),
    ];
    for (object, expected) in table {
        check(&object, expected);
    }
}

#[test]
fn a_template_is_warned_of_at_its_place() {
    let spec = json!({"nodeSelector": {"node-role.kubernetes.io/master": ""},
        "containers": [container(json!({}))]});
    let message = "use \"node-role.kubernetes.io/control-plane\" instead";
    for (kind, path) in [
        ("Deployment", "spec.template"),
        ("StatefulSet", "spec.template"),
        ("DaemonSet", "spec.template"),
        ("Job", "spec.template"),
        ("CronJob", "spec.jobTemplate.spec.template"),
    ] {
        let mut object = json!({"kind": kind, "metadata": {"name": "a"}});
        let pointer = path.replace('.', "/");
        let mut at = &mut object;
        for key in pointer.split('/') {
            at[key] = json!({});
            at = &mut at[key];
        }
        at["spec"] = spec.clone();
        let key = "node-role.kubernetes.io/master";
        check(
            &object,
            &[&format!("{path}.spec.nodeSelector[{key}]: {message}")],
        );
    }
}

#[test]
fn other_kinds_are_warned_of_what_is_old() {
    let service = |spec: Value| json!({"kind": "Service", "metadata": {"name": "s"}, "spec": spec});
    let table: [(Value, &[&str]); 6] = [
        (
            service(
                json!({"type": "ClusterIP", "clusterIP": "None", "sessionAffinity": "ClientIP",
                "externalIPs": ["10.0.0.1"]}),
            ),
            &[
                "spec.externalIPs is ignored for headless services",
                "spec.SessionAffinity is ignored for headless services",
            ],
        ),
        (
            service(json!({"type": "ClusterIP", "sessionAffinity": "None",
                "trafficDistribution": "PreferClose", "externalName": "x"})),
            &[
                "spec.externalName is ignored when spec.type is not \"ExternalName\"",
                "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
            ],
        ),
        (
            json!({"kind": "PersistentVolume", "metadata": {"name": "v"},
                "spec": {"persistentVolumeReclaimPolicy": "Recycle", "rbd": {}}}),
            &[
                "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. \
                 Instead, the recommended approach is to use dynamic provisioning.",
                "spec.rbd: deprecated in v1.28, non-functional in v1.31+",
            ],
        ),
        (
            json!({"kind": "Ingress", "metadata": {"name": "i",
                "annotations": {"kubernetes.io/ingress.class": "nginx"}}, "spec": {}}),
            &[
                "annotation \"kubernetes.io/ingress.class\" is deprecated, please use \
               'spec.ingressClassName' instead",
            ],
        ),
        (
            json!({"kind": "Deployment", "metadata": {"name": "a.b"}, "spec": {"template": {}}}),
            &[
                "metadata.name: this is used in Pod names and hostnames, which can result in \
               surprising behavior; a DNS label is recommended: [must not contain dots]",
            ],
        ),
        (
            json!({"kind": "ConfigMap", "metadata": {"name": "a.b"}}),
            &[],
        ),
    ];
    for (object, expected) in table {
        check(&object, expected);
    }
}
