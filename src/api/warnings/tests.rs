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

/// `apimachinery/pkg/util/validation/ip_test.go :: TestGetWarningsForIP`, `TestGetWarningsForCIDR`.
#[test]
fn addresses_are_written_as_everybody_writes_them() {
    let form = |what: &str, written: &str, usual: &str| {
        format!("{what} {written:?} should be in RFC 5952 canonical format ({usual:?})")
    };
    let ip = form("IPv6 address", "2001:DB8::1", "2001:db8::1");
    let cidr = form("IPv6 CIDR value", "2001:DB8::/32", "2001:db8::/32");
    let aliases = json!([{"ip": "2001:DB8::1", "hostnames": ["h"]}]);
    let spec = json!({"containers": [container(json!({}))], "hostAliases": aliases,
        "dnsConfig": {"nameservers": ["2001:db8:0::2", "10.0.0.1"]}});
    let server = form("IPv6 address", "2001:db8:0::2", "2001:db8::2");
    check(
        &pod(spec),
        &[
            &format!("spec.dnsConfig.nameservers[0]: {server}"),
            &format!("spec.hostAliases[0].ip: {ip}"),
        ],
    );
    let of_kind = |kind: &str, spec: Value| json!({"kind": kind, "spec": spec});
    let block = json!({"ipBlock": {"cidr": "2001:DB8::/32", "except": ["2001:db8::/64"]}});
    check(
        &of_kind("NetworkPolicy", json!({"ingress": [{"from": [block]}]})),
        &[&format!("spec.ingress[0].from[0].ipBlock.cidr: {cidr}")],
    );
    check(
        &of_kind("Node", json!({"podCIDRs": ["2001:DB8::/32"]})),
        &[&format!("spec.podCIDRs[0]: {cidr}")],
    );
    let ranges = json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["2001:DB8::/32"]});
    check(
        &of_kind("Service", ranges),
        &[&format!("spec.loadBalancerSourceRanges[0]: {cidr}")],
    );
    check(
        &json!({"kind": "Endpoints", "subsets": [{"addresses": [{"ip": "2001:DB8::1"}]}]}),
        &[
            "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
            &format!("subsets[0].addresses[0].ip: {ip}"),
        ],
    );
}

/// `pkg/api/pod/warnings_test.go :: TestApparmorAnnotationWarning…`, `pkg/registry/core/pod ::
/// TestApplyAppArmorVersionSkew`.
#[test]
fn a_profile_in_an_annotation_is_old_unless_a_field_says_it_too() {
    let key = "container.apparmor.security.beta.kubernetes.io/c";
    let told = format!(
        "metadata.annotations[{key}]: deprecated since v1.30; use the \"appArmorProfile\" field \
         instead"
    );
    let runtime = json!({"appArmorProfile": {"type": "RuntimeDefault"}});
    let local = json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": "x"}});
    for (profile, of_pod, of_container, warned) in [
        ("runtime/default", json!({}), json!({}), true),
        ("runtime/default", runtime.clone(), json!({}), false),
        ("runtime/default", json!({}), runtime.clone(), false),
        ("runtime/default", local.clone(), json!({}), true),
        ("localhost/x", local.clone(), json!({}), false),
        ("localhost/y", local, json!({}), true),
    ] {
        let container = container(json!({"securityContext": of_container}));
        let mut object = pod(json!({"containers": [container], "securityContext": of_pod}));
        object["metadata"]["annotations"] = json!({ key: profile });
        let expected = if warned { vec![told.as_str()] } else { vec![] };
        check(&object, &expected);
        let template = json!({"metadata": object["metadata"], "spec": object["spec"]});
        let deployment = json!({"kind": "Deployment", "spec": {"template": template}});
        let inside = format!("spec.template.{told}");
        let expected = if warned {
            vec![inside.as_str()]
        } else {
            vec![]
        };
        check(&deployment, &expected);
    }
}
