//! A namespace with a quota or a LimitRange; what the API server says to what is created in it, and
//! what has been used afterwards. Inspired by
//! `plugin/pkg/admission/resourcequota/admission_test.go` and
//! `plugin/pkg/admission/limitranger/admission_test.go`.

use super::*;
use crate::api::decode::{DecodeContext, decode_json};
use crate::api::quota::pretty;
use crate::client::Step;
use crate::engine::Draws;
use crate::store::{Cause, Store};
use serde_json::{Value, json};

struct World {
    store: Store,
}

impl World {
    fn new(object: Value) -> World {
        let store = Store::new(Draws::new(1));
        let mut world = World { store };
        assert_eq!(world.create(object), "");
        world.count();
        world
    }

    /// Creates an object; returns what the API server says against it.
    fn create(&mut self, object: Value) -> String {
        let row = decode_json(&object, &DecodeContext::default());
        let row = row.expect("a valid object").row;
        let reply = self
            .store
            .write(&Write::Create(row), Time::ZERO, Cause::default());
        reply.err().map(|e| e.to_string()).unwrap_or_default()
    }

    /// Syncs every quota once.
    fn count(&mut self) {
        let draws = Draws::new(1);
        let view = self.store.view().clone();
        let mut keys = Keys::default();
        let mut controller = ResourceQuotaController;
        controller.resync(&view, Time::ZERO, &mut keys);
        for key in keys.now {
            let cx = SyncContext {
                now: Time::ZERO,
                view: &view,
                draws: &draws,
            };
            for step in controller.sync(key, &cx).steps {
                if let Step::One { write, .. } = step {
                    let done = self.store.write(&write, Time::ZERO, Cause::default());
                    done.expect("counted");
                }
            }
        }
    }

    fn used(&self) -> String {
        let quota = self.store.view().of::<ResourceQuota>().iter().next();
        pretty(&quota.expect("a quota").1.status.used)
    }
}

fn quota(hard: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"},
        "spec": {"hard": hard}})
}

fn pod(name: &str, resources: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [
        {"name": "c", "image": "x", "resources": resources}]}})
}

#[test]
fn pods_are_charged_until_the_quota_is_full_and_given_back_when_they_go() {
    let mut world = World::new(quota(json!({"pods": "2", "requests.cpu": "1"})));
    assert_eq!(world.used(), "pods=0,requests.cpu=0");
    assert_eq!(
        world.create(pod("a", json!({"requests": {"cpu": "600m"}}))),
        ""
    );
    assert_eq!(world.used(), "pods=1,requests.cpu=600m");
    // 600m + 500m > 1
    assert_eq!(
        world.create(pod("b", json!({"requests": {"cpu": "500m"}}))),
        "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: \
         requests.cpu=600m, limited: requests.cpu=1"
    );
    assert_eq!(
        world.create(pod("b", json!({}))),
        "pods \"b\" is forbidden: failed quota: q: must specify requests.cpu for: c"
    );
    assert_eq!(
        world.create(pod("b", json!({"limits": {"cpu": "400m"}}))),
        ""
    );
    assert_eq!(world.used(), "pods=2,requests.cpu=1");
    let (id, _) = world.store.view().pods().find("default", "a").expect("a");
    let write = Write::Delete {
        object: id.into(),
        uid: None,
        grace_s: Some(0),
        propagation: crate::store::Propagation::Background,
    };
    let done = world.store.write(&write, Time::ZERO, Cause::default());
    done.expect("deleted");
    // Only the controller gives back.
    assert_eq!(world.used(), "pods=2,requests.cpu=1");
    world.count();
    assert_eq!(world.used(), "pods=1,requests.cpu=400m");
}

#[test]
fn scopes_choose_pods_and_object_counts_choose_kinds() {
    let mut best_effort = quota(json!({"pods": "0"}));
    best_effort["spec"]["scopes"] = json!(["BestEffort"]);
    let mut world = World::new(best_effort);
    assert_eq!(
        world.create(pod("a", json!({"requests": {"cpu": "1"}}))),
        ""
    );
    assert_eq!(
        world.create(pod("b", json!({}))),
        "pods \"b\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=0, limited: \
         pods=0"
    );
    let hard =
        json!({"count/configmaps": "1", "services.nodeports": "1", "count/widgets.x.org": 1});
    let mut world = World::new(quota(hard));
    let map =
        |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    assert_eq!(world.create(map("a")), "");
    assert!(
        world
            .create(map("b"))
            .contains("requested: count/configmaps=1")
    );
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {
        "type": "NodePort", "ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]}});
    assert_eq!(
        world.create(service),
        "services \"s\" is forbidden: exceeded quota: q, requested: services.nodeports=2, used: \
         services.nodeports=0, limited: services.nodeports=1"
    );
    let widget = |name: &str| json!({"apiVersion": "x.org/v1", "kind": "Widget", "metadata": {"name": name}});
    assert_eq!(world.create(widget("a")), "");
    assert!(world.create(widget("b")).contains("exceeded quota: q"));
}

/// After `pods_test.go :: TestPodEvaluatorUsage`, `TestPodEvaluatorMatchingScopes`,
/// `persistent_volume_claims_test.go` and `services_test.go`: scopes, who is created, what is used.
#[test]
fn a_quota_counts_what_is_in_all_its_scopes() {
    let scope = |name: &str, operator: &str, values: &[&str]| json!({"scopeName": name, "operator": operator, "values": values});
    let class = |operator: &str, values: &[&str]| json!([scope("PriorityClass", operator, values)]);
    let plain = || pod("a", json!({"requests": {"cpu": "1"}}));
    let with = |field: &str, value: Value| {
        let mut pod = plain();
        pod["spec"][field] = value;
        pod
    };
    let urgent = || with("priorityClassName", json!("system-node-critical"));
    let brief = || with("activeDeadlineSeconds", json!(60));
    let near = |term: Value| {
        let mut term = term;
        term["topologyKey"] = json!("zone");
        with(
            "affinity",
            json!({"podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [term]}}),
        )
    };
    let table: [(Value, Value, Value, i64); 18] = [
        (json!(["Terminating"]), Value::Null, plain(), 0),
        (json!(["Terminating"]), Value::Null, brief(), 1),
        (json!(["NotTerminating"]), Value::Null, plain(), 1),
        (json!(["NotTerminating"]), Value::Null, brief(), 0),
        (json!(["NotBestEffort"]), Value::Null, plain(), 1),
        (json!(["BestEffort"]), Value::Null, pod("a", json!({})), 1),
        // limits alone are enough
        (
            json!(["NotBestEffort"]),
            Value::Null,
            pod("a", json!({"limits": {"memory": "1Mi"}})),
            1,
        ),
        // so are those of the pod as a whole
        (
            json!(["NotBestEffort"]),
            Value::Null,
            {
                let mut p = pod("a", json!({}));
                p["spec"]["resources"] = json!({"requests": {"cpu": "1"}});
                p
            },
            1,
        ),
        (
            json!(["NotTerminating", "NotBestEffort"]),
            Value::Null,
            brief(),
            0,
        ),
        (Value::Null, class("Exists", &[]), plain(), 0),
        (Value::Null, class("Exists", &[]), urgent(), 1),
        (
            Value::Null,
            class("In", &["system-node-critical", "x"]),
            urgent(),
            1,
        ),
        (Value::Null, class("In", &["x"]), urgent(), 0),
        (Value::Null, class("NotIn", &["x"]), plain(), 1),
        (
            Value::Null,
            class("NotIn", &["system-node-critical"]),
            urgent(),
            0,
        ),
        (Value::Null, class("DoesNotExist", &[]), plain(), 1),
        (
            json!(["CrossNamespacePodAffinity"]),
            Value::Null,
            near(json!({"namespaces": ["other"]})),
            1,
        ),
        (
            json!(["CrossNamespacePodAffinity"]),
            Value::Null,
            near(json!({})),
            0,
        ),
    ];
    for (scopes, selector, pod, expected) in table {
        let mut object = quota(json!({"pods": "9"}));
        if !scopes.is_null() {
            object["spec"]["scopes"] = scopes.clone();
        }
        if !selector.is_null() {
            object["spec"]["scopeSelector"] = json!({"matchExpressions": selector});
        }
        let mut world = World::new(object);
        assert_eq!(world.create(pod.clone()), "");
        let charged = world.used();
        assert_eq!(
            charged,
            format!("pods={expected}"),
            "{scopes} {selector} {pod}"
        );
        world.count();
        assert_eq!(world.used(), charged, "admission and controller agree");
    }
}

#[test]
fn a_quota_that_was_never_counted_limits_nothing() {
    let store = Store::new(Draws::new(1));
    let mut world = World { store };
    assert_eq!(world.create(quota(json!({"pods": "1"}))), "");
    assert_eq!(world.create(pod("a", json!({}))), "");
    assert_eq!(world.create(pod("b", json!({}))), "");
    world.count();
    assert_eq!(world.used(), "pods=2");
    assert!(
        world
            .create(pod("c", json!({})))
            .contains("exceeded quota: q")
    );
}

/// After `pods_test.go :: TestPodEvaluatorUsage`, `services_test.go :: TestServiceEvaluatorUsage` and
/// `persistent_volume_claims_test.go :: TestPersistentVolumeClaimEvaluatorUsage`.
#[test]
fn objects_count_as_upstream_counts_them() {
    let spec = |spec: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec});
    let service = |spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": spec});
    let claim = |more: Value| {
        let mut claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "a", "annotations": {}}, "spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "5Gi"}}}});
        for (key, value) in more.as_object().into_iter().flatten() {
            claim["spec"][key] = value.clone();
        }
        claim
    };
    let c = |name: &str, cpu: &str, limit: &str| {
        json!({"name": name, "image": "x", "resources": {"requests": {"cpu": cpu},
            "limits": {"cpu": limit}}})
    };
    let ports = json!([{"port": 80, "name": "a", "nodePort": 30080}, {"port": 81, "name": "b"}]);
    // hard, object, used
    let table = [
        // 1 + 2 against the init container's 5
        (
            json!({"requests.cpu": "9", "limits.cpu": "99"}),
            spec(json!({"containers": [c("a", "1", "3"), c("b", "2", "4")],
                "initContainers": [c("i", "5", "5")]})),
            "limits.cpu=7,requests.cpu=5",
        ),
        // a sidecar counts beside the others
        (
            json!({"requests.cpu": "9"}),
            spec(json!({"containers": [c("a", "1", "3")],
            "initContainers": [{"name": "s", "image": "x", "restartPolicy": "Always",
                "resources": {"requests": {"cpu": "2"}}}]})),
            "requests.cpu=3",
        ),
        // the pod as a whole wins
        (
            json!({"requests.cpu": "9", "limits.cpu": "9"}),
            spec(json!({
            "resources": {"requests": {"cpu": "4"}, "limits": {"cpu": "6"}},
            "containers": [{"name": "a", "image": "x"}]})),
            "limits.cpu=6,requests.cpu=4",
        ),
        (
            json!({"requests.example.com/gpu": "9", "pods": "9"}),
            spec(json!({"containers": [
            {"name": "a", "image": "x", "resources": {"limits": {"example.com/gpu": "2"}}}]})),
            "pods=1,requests.example.com/gpu=2",
        ),
        (
            json!({"services": "9", "services.nodeports": "9", "services.loadbalancers": "9"}),
            service(json!({"type": "NodePort", "ports": ports})),
            "services=1,services.loadbalancers=0,services.nodeports=2",
        ),
        (
            json!({"services.nodeports": "9", "services.loadbalancers": "9"}),
            service(json!({"type": "LoadBalancer", "ports": ports})),
            "services.loadbalancers=1,services.nodeports=2",
        ),
        // no ports are given out, but one is named
        (
            json!({"services.nodeports": "9", "services.loadbalancers": "9"}),
            service(json!({"type": "LoadBalancer", "ports": ports,
                "allocateLoadBalancerNodePorts": false})),
            "services.loadbalancers=1,services.nodeports=1",
        ),
        (
            json!({"services.nodeports": "9"}),
            service(json!({"ports": [{"port": 80}]})),
            "services.nodeports=0",
        ),
        (
            json!({"requests.storage": "9Gi", "persistentvolumeclaims": "9",
            "gold.storageclass.storage.k8s.io/requests.storage": "9Gi",
            "lead.storageclass.storage.k8s.io/persistentvolumeclaims": "9"}),
            claim(json!({"storageClassName": "gold"})),
            "gold.storageclass.storage.k8s.io/requests.storage=5Gi,\
             lead.storageclass.storage.k8s.io/persistentvolumeclaims=0,persistentvolumeclaims=1,\
             requests.storage=5Gi",
        ),
    ];
    for (hard, object, expected) in table {
        let mut world = World::new(quota(hard.clone()));
        assert_eq!(world.create(object.clone()), "", "{object}");
        assert_eq!(world.used(), expected, "{hard} {object}");
        world.count();
        assert_eq!(world.used(), expected, "counted: {hard} {object}");
    }
}

fn limits(item: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"},
        "spec": {"limits": [item]}})
}

#[test]
fn containers_without_resources_take_the_defaults_of_a_limit_range() {
    let item = json!({"type": "Container", "default": {"cpu": "500m", "memory": "512Mi"},
        "defaultRequest": {"cpu": "100m"}});
    let mut world = World::new(limits(item));
    assert_eq!(world.create(pod("a", json!({}))), "");
    let (_, row) = world.store.view().pods().find("default", "a").expect("a");
    let container = &row.spec.containers[0];
    assert_eq!(container.requests.cpu_milli, 100);
    assert_eq!(container.limits.cpu_milli, 500);
    // Upstream's defaulting makes the default limit the default request, too.
    assert_eq!(container.requests.memory, 512 << 20);
    assert_eq!(row.spec.requests.cpu_milli, 100);
    let said = row.meta.annotations.get("kubernetes.io/limit-ranger");
    assert_eq!(
        said.expect("an annotation").as_str(),
        "LimitRanger plugin set: cpu, memory request for container c; cpu, memory limit for \
         container c"
    );
}

#[test]
fn all_that_breaks_a_limit_range_is_said_at_once() {
    let item = json!({"type": "Container", "min": {"cpu": "100m"}, "max": {"memory": "1Gi"},
        "maxLimitRequestRatio": {"cpu": "2"}});
    let mut world = World::new(limits(item));
    let bad = json!({"requests": {"cpu": "50m"}, "limits": {"cpu": "150m", "memory": "2Gi"}});
    assert_eq!(
        world.create(pod("a", bad)),
        "pods \"a\" is forbidden: [minimum cpu usage per Container is 100m, but request is 50m, \
         maximum memory usage per Container is 1Gi, but limit is 2Gi, cpu max limit to request \
         ratio per Container is 2, but provided ratio is 3.000000]"
    );
    let item = json!({"type": "Pod", "max": {"cpu": "1"}});
    let mut world = World::new(limits(item));
    assert_eq!(
        world.create(pod("a", json!({"limits": {"cpu": "1500m"}}))),
        "pods \"a\" is forbidden: maximum cpu usage per Pod is 1, but limit is 1500m"
    );
    let item = json!({"type": "PersistentVolumeClaim", "min": {"storage": "2Gi"}});
    let mut world = World::new(limits(item));
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}});
    assert_eq!(
        world.create(claim),
        "persistentvolumeclaims \"c\" is forbidden: minimum storage usage per \
         PersistentVolumeClaim is 2Gi, but request is 1Gi"
    );
}
