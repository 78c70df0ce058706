//! Tables of rules, selectors and requests.
//!
//! The first after `predicates/rules/rules_test.go`, the second after `namespace/matcher.go` and
//! `object/matcher.go`, the third after what upstream's components send.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Attributes, Operation, Resource};
use crate::api::decode::{DecodeContext, decode_json};
use crate::api::kube_event::KubeEvent;
use crate::api::webhook::{Webhook, webhooks_of};
use crate::api::{Inert, Labels, Uid};
use crate::engine::{Draws, Time};
use crate::store::{Cause, Id, ObjectId, Patch, Propagation, Store, Write};

/// A webhook as it is written, with these fields besides.
fn webhook(fields: &Value) -> Webhook {
    let mut written = json!({"name": "v.example.com", "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "rules": [],
        "clientConfig": {"service": {"namespace": "s", "name": "n"}}});
    for (key, value) in fields.as_object().expect("fields") {
        written[key] = value.clone();
    }
    let object = Inert {
        api_version: "admissionregistration.k8s.io/v1".into(),
        kind: "ValidatingWebhookConfiguration".into(),
        body: Arc::new(json!({ "webhooks": [written] })),
        ..Inert::default()
    };
    webhooks_of(&object).expect("webhooks").1.remove(0)
}

/// `operations; groups; versions; resources; scope` with commas in between.
fn ruled(rule: &str) -> Webhook {
    let parts: Vec<Vec<&str>> = rule
        .split(';')
        .map(|p| p.trim().split(',').collect())
        .collect();
    let [operations, groups, versions, resources, scope] = &parts[..] else {
        panic!("{rule}: five parts");
    };
    webhook(&json!({"matchPolicy": "Exact", "rules": [{
        "operations": operations, "apiGroups": groups, "apiVersions": versions,
        "resources": resources, "scope": scope[0]}]}))
}

/// `OPERATION group/version plural[/subresource] [in namespace]`.
fn asked(request: &str) -> Attributes {
    let words: Vec<&str> = request.split_whitespace().collect();
    let (plural, sub) = words[2].split_once('/').unwrap_or((words[2], ""));
    let subresources = ["", "s1", "s2", "status", "binding"];
    Attributes {
        operation: match words[0] {
            "CREATE" => Operation::Create,
            "UPDATE" => Operation::Update,
            _ => Operation::Delete,
        },
        resource: Resource::new(words[1].trim_start_matches('/'), plural),
        subresource: subresources.iter().find(|s| **s == sub).expect("known"),
        namespace: words.get(4).copied().unwrap_or_default().into(),
        new: Some(Labels::default()),
        old: None,
    }
}

fn shown(attributes: &Attributes) -> String {
    let Resource {
        group,
        version,
        plural,
    } = &attributes.resource;
    let slash = if attributes.subresource.is_empty() {
        ""
    } else {
        "/"
    };
    let sub = attributes.subresource;
    let operation = attributes.operation.name();
    let namespace = match attributes.namespace.as_str() {
        "" => String::new(),
        namespace => format!(" in {namespace}"),
    };
    format!("{operation} {group}/{version} {plural}{slash}{sub}{namespace}")
}

#[test]
fn rules_match_by_operation_group_version_resource_and_scope() {
    // The rule; requests that it takes; requests that it does not.
    let table: &[(&str, &[&str], &[&str])] = &[
        (
            "*; *; *; r; *",
            &["CREATE g/v r in ns"],
            &["CREATE g/v q in ns"],
        ),
        (
            "*; g1,g2; *; r; *",
            &["CREATE g1/v r in ns", "CREATE g2/v2 r in ns"],
            &["CREATE g3/v r in ns", "CREATE /v r in ns"],
        ),
        (
            "*; ; *; r; *",
            &["CREATE /v r in ns"],
            &["CREATE g/v r in ns"],
        ),
        (
            "*; *; v1,v2; r; *",
            &["CREATE g1/v1 r in ns", "CREATE g2/v2 r in ns"],
            &["CREATE g1/v3 r in ns"],
        ),
        (
            "*; *; *; r; *",
            &[
                "CREATE g/v r in ns",
                "UPDATE g/v r in ns",
                "DELETE g/v r in ns",
            ],
            &[],
        ),
        (
            "CREATE; *; *; r; *",
            &["CREATE g/v r in ns"],
            &["UPDATE g/v r in ns", "DELETE g/v r in ns"],
        ),
        (
            "UPDATE,DELETE; *; *; r; *",
            &["UPDATE g/v r in ns", "DELETE g/v r in ns"],
            &["CREATE g/v r in ns"],
        ),
        (
            "CONNECT; *; *; *; *",
            &[],
            &[
                "CREATE g/v r in ns",
                "UPDATE g/v r in ns",
                "DELETE g/v r in ns",
            ],
        ),
        // A star alone is no subresource's.
        (
            "*; *; *; *; *",
            &["CREATE g/v r in ns", "CREATE 2/v r2 in ns"],
            &["CREATE g/v r/s1 in ns", "CREATE 2/v r2/status in ns"],
        ),
        (
            "*; *; *; */*; *",
            &[
                "CREATE g/v r in ns",
                "CREATE g/v r/s1 in ns",
                "UPDATE 2/v r2/s2 in ns",
            ],
            &[],
        ),
        (
            "*; *; *; */s1; *",
            &["CREATE g/v r/s1 in ns", "CREATE 2/v r2/s1 in ns"],
            &["CREATE g/v r in ns", "CREATE 2/v r2/s2 in ns"],
        ),
        (
            "*; *; *; r1/*; *",
            &["CREATE g/v r1 in ns", "CREATE g/v r1/s1 in ns"],
            &["CREATE g/v r2 in ns", "CREATE g/v r2/s1 in ns"],
        ),
        (
            "*; *; *; r1,r2/s1; *",
            &["CREATE g/v r1 in ns", "CREATE g/v r2/s1 in ns"],
            &["CREATE g/v r1/s1 in ns", "CREATE g/v r2 in ns"],
        ),
        // Namespaces have no namespace, although requests about them name one.
        (
            "*; *; *; *; Namespaced",
            &["CREATE g/v r in ns"],
            &[
                "CREATE g/v r",
                "CREATE /v1 namespaces in ns",
                "CREATE /v1 namespaces",
            ],
        ),
        (
            "*; *; *; *; Cluster",
            &[
                "CREATE g/v r",
                "CREATE /v1 namespaces in ns",
                "CREATE /v1 namespaces",
            ],
            &["CREATE g/v r in ns", "CREATE g/v1 namespaces in ns"],
        ),
    ];
    for (rule, taken, left) in table {
        let webhook = ruled(rule);
        for request in *taken {
            assert!(asked(request).ruled_by(&webhook), "{rule} takes {request}");
        }
        for request in *left {
            assert!(
                !asked(request).ruled_by(&webhook),
                "{rule} leaves {request}"
            );
        }
    }
}

#[test]
fn an_equivalent_resource_is_the_same_unless_the_match_is_exact() {
    let rule = |groups: &str, versions: &str, resources: &str| {
        json!([{"operations": ["*"], "apiGroups": [groups], "apiVersions": [versions],
            "resources": [resources]}])
    };
    let table = [
        (
            "events.k8s.io",
            "v1",
            "events",
            "CREATE /v1 events in ns",
            true,
        ),
        ("", "v1", "events", "CREATE /v1 events in ns", false),
        (
            "autoscaling",
            "v1",
            "horizontalpodautoscalers",
            "UPDATE autoscaling/v2 horizontalpodautoscalers/status in ns",
            false,
        ),
        (
            "autoscaling",
            "v1",
            "horizontalpodautoscalers",
            "UPDATE autoscaling/v2 horizontalpodautoscalers in ns",
            true,
        ),
        (
            "extensions",
            "v1beta1",
            "deployments",
            "CREATE apps/v1 deployments in ns",
            false,
        ),
    ];
    for (group, version, resource, request, only_equivalent) in table {
        let rules = rule(group, version, resource);
        let of = |policy: &str| webhook(&json!({"rules": rules, "matchPolicy": policy}));
        let exactly = asked(request).ruled_by(&of("Exact"));
        let somehow = asked(request).ruled_by(&of("Equivalent"));
        assert_eq!(
            somehow && !exactly,
            only_equivalent,
            "{group} {resource} {request}"
        );
    }
}

fn labels(text: &str) -> Option<Labels> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    (text != "-").then(|| pairs.collect())
}

#[test]
fn selectors_look_at_the_namespace_and_at_both_states_of_the_object() {
    let not_own = json!({"matchExpressions": [
        {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["own"]}]});
    let only_a = json!({"matchLabels": {"app": "a"}});
    let not_a = json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]});
    let all = json!({});
    // namespaceSelector, objectSelector, request, labels after, labels before, asked or the error.
    let table = [
        (&all, &all, "CREATE /v1 pods in own", "", "-", "yes"),
        (&not_own, &all, "CREATE /v1 pods in own", "", "-", "no"),
        (&not_own, &all, "CREATE /v1 pods in other", "", "-", "yes"),
        (
            &not_own,
            &all,
            "CREATE /v1 pods in nowhere",
            "",
            "-",
            "namespaces \"nowhere\" not found",
        ),
        // What has no namespace is never left out by one.
        (&not_own, &all, "UPDATE /v1 nodes", "", "", "yes"),
        // A Namespace is judged by its own labels: by those that it is to have,
        (
            &only_a,
            &all,
            "CREATE /v1 namespaces in new",
            "app=a",
            "-",
            "yes",
        ),
        (
            &only_a,
            &all,
            "UPDATE /v1 namespaces in own",
            "app=b",
            "app=a",
            "no",
        ),
        // and one that is deleted by those that it has.
        (
            &not_own,
            &all,
            "DELETE /v1 namespaces in own",
            "-",
            "app=a",
            "no",
        ),
        (&all, &only_a, "CREATE /v1 pods in own", "app=a", "-", "yes"),
        (&all, &only_a, "CREATE /v1 pods in own", "app=b", "-", "no"),
        (
            &all,
            &only_a,
            "UPDATE /v1 pods in own",
            "app=b",
            "app=a",
            "yes",
        ),
        (&all, &only_a, "DELETE /v1 pods in own", "-", "app=a", "yes"),
        (&all, &only_a, "DELETE /v1 pods in own", "-", "app=b", "no"),
        (&all, &not_a, "CREATE /v1 pods in own", "", "-", "yes"),
        (
            &all,
            &not_a,
            "UPDATE /v1 pods in own",
            "app=a",
            "app=a",
            "no",
        ),
        // A namespace that is not there does not matter to whom the object does not concern.
        (
            &not_own,
            &only_a,
            "CREATE /v1 pods in nowhere",
            "",
            "-",
            "no",
        ),
    ];
    let mut store = Store::new(Draws::new(1));
    for name in ["own", "other"] {
        create(
            &mut store,
            &json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}}),
        );
    }
    for (namespaces, objects, request, after, before, expected) in table {
        let rules = json!([{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"],
            "resources": ["*/*"]}]);
        let webhook = webhook(&json!({"rules": rules, "namespaceSelector": namespaces,
            "objectSelector": objects}));
        let request_of = Attributes {
            new: labels(after),
            old: labels(before),
            ..asked(request)
        };
        let said = match request_of.concern(&webhook, store.view()) {
            Ok(true) => "yes".to_owned(),
            Ok(false) => "no".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(
            said, expected,
            "{namespaces} {objects} {request} {after} {before}"
        );
    }
}

fn create(store: &mut Store, object: &Value) -> ObjectId {
    let row = decode_json(object, &DecodeContext::default())
        .expect("valid")
        .row;
    let receipt = store.write(&Write::Create(row), Time::ZERO, Cause::default());
    receipt.expect("created").object.expect("an object")
}

#[test]
fn writes_are_the_requests_that_upstream_sends() {
    let mut store = Store::new(Draws::new(1));
    let named = |kind: &str, name: &str| {
        json!({"apiVersion": "v1", "kind": kind,
        "metadata": {"name": name}})
    };
    for namespace in ["default", "kube-node-lease"] {
        create(&mut store, &named("Namespace", namespace));
    }
    let mut pod = named("Pod", "p");
    pod["spec"] = json!({"containers": [{"name": "c", "image": "i"}]});
    let pod = create(&mut store, &pod);
    let node = create(&mut store, &named("Node", "n"));
    let lease = create(
        &mut store,
        &json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "n", "namespace": "kube-node-lease"}}),
    );
    let template = json!({"metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let deployment = create(
        &mut store,
        &json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": template}}),
    );
    let namespace = create(&mut store, &named("Namespace", "x"));
    let widget = create(
        &mut store,
        &json!({"apiVersion": "example.com/v1", "kind": "Policy",
        "metadata": {"name": "w"}}),
    );
    let view = store.view();
    let row = |object: ObjectId| view.row(object).expect("there");
    let patch = |object, patch| Write::Patch {
        object,
        uid: None,
        patch,
    };
    let delete = |object| Write::Delete {
        object,
        uid: None,
        grace_s: None,
        propagation: Propagation::Background,
    };
    let id = Id::new(pod.index);
    let bind = Write::Bind {
        pod: id,
        uid: Uid(0),
        node: "n".into(),
    };
    let event = |namespace: &str| {
        Write::Emit(Arc::new(KubeEvent {
            kind: crate::api::Kind::Node,
            namespace: namespace.into(),
            name: "n".into(),
            uid: Uid(0),
            reason: "Rebooted".into(),
            message: "".into(),
            warning: false,
            source: "kubelet".into(),
        }))
    };
    let table = [
        (Write::Create(row(pod)), "CREATE /v1 pods in default"),
        (bind, "CREATE /v1 pods/binding in default"),
        (
            Write::Evict {
                pod: id,
                grace_s: None,
            },
            "CREATE /v1 pods/eviction in default",
        ),
        (
            Write::UpdateStatus(pod, row(pod)),
            "UPDATE /v1 pods/status in default",
        ),
        (
            patch(pod, Patch::Nominate(None)),
            "UPDATE /v1 pods/status in default",
        ),
        (
            patch(pod, Patch::Labels(Vec::new())),
            "UPDATE /v1 pods in default",
        ),
        (delete(pod), "DELETE /v1 pods in default"),
        (
            patch(node, Patch::NodeConditions(Vec::new())),
            "UPDATE /v1 nodes/status",
        ),
        (patch(node, Patch::Unschedulable(true)), "UPDATE /v1 nodes"),
        (
            patch(lease, Patch::Renew(Time::ZERO)),
            "UPDATE coordination.k8s.io/v1 leases in kube-node-lease",
        ),
        (
            Write::Update(deployment, row(deployment)),
            "UPDATE apps/v1 deployments in default",
        ),
        (
            patch(deployment, Patch::Replicas(3)),
            "UPDATE apps/v1 deployments/scale in default",
        ),
        (
            patch(namespace, Patch::FinalizeNamespace),
            "UPDATE /v1 namespaces/finalize in x",
        ),
        (delete(namespace), "DELETE /v1 namespaces in x"),
        (event("default"), "CREATE /v1 events in default"),
        (event(""), "CREATE /v1 events in default"),
        (delete(widget), "DELETE example.com/v1 policies in default"),
    ];
    for (write, expected) in table {
        let attributes = store.attributes(&write, Time::ZERO).expect("an object");
        assert_eq!(shown(&attributes), expected, "{write:?}");
    }
}

#[test]
fn nobody_is_asked_about_who_is_asked() {
    for (kind, exempt) in [
        ("ValidatingWebhookConfiguration", true),
        ("MutatingWebhookConfiguration", true),
        ("ValidatingAdmissionPolicy", true),
        ("Deployment", false),
    ] {
        let plural = format!("{}s", kind.to_lowercase()).replace("policys", "policies");
        let request = format!("DELETE admissionregistration.k8s.io/v1 {plural}");
        assert_eq!(asked(&request).exempt(), exempt, "{kind}");
    }
}

#[test]
fn defaults_are_those_of_the_api_server() {
    let plain = webhook(&json!({}));
    let seconds = plain.timeout.as_secs();
    assert_eq!(
        (plain.exact, plain.ignore, plain.never, seconds),
        (false, false, false, 10)
    );
    assert!(plain.namespaces.is_empty() && plain.objects.is_empty());
    let crate::api::webhook::Backend::Service { path, port, .. } = plain.backend else {
        panic!("a Service");
    };
    assert_eq!((path.as_str(), port), ("/", 443));
    let conditions = json!({"matchConditions": [{"name": "a", "expression": " false "}]});
    assert!(webhook(&conditions).never, "no request is asked about");
}
