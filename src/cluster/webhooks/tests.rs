//! What an outage of webhooks stops, for how long, in which words, and the way out.

use std::time::Duration;

use super::super::tests::{Run, WEB, kubectl, scenario, step};
use super::answers::{failed, internal, resolve};
use crate::api::pod_status::PodConditionKind;
use crate::api::webhook::{Backend, webhooks_of};
use crate::api::{Deployment, Inert, Node, Row, Text};
use crate::cluster::{Event, Note};
use crate::engine::{Dist, Time};
use crate::load::AppModel;
use crate::load::tally::Cause;
use crate::scenario::types::Scenario;

/// A webhook's Deployment of one pod and its Service, both in a namespace of this name.
fn server(name: &str) -> String {
    format!(
        "
---
apiVersion: v1
kind: Namespace
metadata: {{name: {name}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {name}}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
      - name: main
        image: registry.example/policy:1
        ports: [{{containerPort: 8443}}]
        readinessProbe: {{tcpSocket: {{port: 8443}}, periodSeconds: 2}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {name}}}
spec:
  selector: {{app: {name}}}
  ports: [{{port: 443, targetPort: 8443}}]
"
    )
}

/// A configuration with one webhook at the Service of the namespace `at`.
fn hook(kind: &str, name: &str, at: &str, more: &str) -> String {
    format!(
        "
---
apiVersion: admissionregistration.k8s.io/v1
kind: {kind}WebhookConfiguration
metadata: {{name: {name}}}
webhooks:
- name: {name}.example.com
  clientConfig: {{service: {{namespace: {at}, name: {at}, path: /check}}}}
  sideEffects: None
  admissionReviewVersions: [v1]
  {more}
"
    )
}

const PODS: &str =
    "rules: [{operations: [CREATE], apiGroups: [''], apiVersions: ['*'], resources: [pods]}]";
const EVERYTHING: &str =
    "rules: [{operations: ['*'], apiGroups: ['*'], apiVersions: ['*'], resources: ['*/*']}]";

/// Pods of these webhooks answer after so long.
fn slow(name: &str, wait: Duration) -> AppModel {
    let mut model = AppModel {
        name: name.into(),
        namespace: name.into(),
        selector: crate::api::selector::LabelSelector::default(),
        ..AppModel::default()
    };
    model.request.wait = Some(Dist::Fixed(wait));
    model.request.cpu = Dist::Fixed(Duration::ZERO);
    model
}

fn after(epoch: Time, seconds: u64) -> Time {
    epoch + Duration::from_secs(seconds)
}

/// How long each kubectl step took, in whole milliseconds, with what it printed.
fn steps(run: &Run) -> Vec<(u128, Result<String, String>)> {
    let notes = &run.cluster.timeline.notes;
    let ended = notes.iter().filter_map(|note| match note {
        Note::StepEnded {
            at, step, result, ..
        } => Some((*step, *at, result.clone())),
        _ => None,
    });
    let begun = |wanted: u32| {
        notes.iter().find_map(|note| match note {
            Note::StepBegan { at, step, .. } if *step == wanted => Some(*at),
            _ => None,
        })
    };
    let took = |(step, at, result): (u32, Time, _)| {
        let since = begun(step).expect("it began");
        (at.since(since).as_millis(), result)
    };
    ended.map(took).collect()
}

/// Lets a scenario run and returns its steps.
fn played(scenario: &Scenario, seconds: u64) -> Vec<(u128, Result<String, String>)> {
    let mut run = Run::new(scenario);
    let epoch = run.epoch();
    run.until(after(epoch, seconds));
    steps(&run)
}

fn ready_in(run: &Run, namespace: &str) -> i32 {
    let view = run.cluster.api.store.view();
    let (_, found) = view
        .of::<Deployment>()
        .find(namespace, namespace)
        .expect("there");
    found.status.ready
}

/// Messages of events with a reason that were reported so far, read while they are in the log.
fn told(run: &mut Run, until: Time, reason: &str) -> Vec<Text> {
    let mut found = Vec::new();
    let mut read = run.cluster.api.store.log().head();
    let mut at = run.cluster.timeline.epoch.expect("begun");
    while at < until {
        at += Duration::from_millis(20);
        run.until(at);
        let log = run.cluster.api.store.log();
        let events = (read + 1..=log.head()).filter_map(|n| log.get(n)?.event.clone());
        found.extend(
            events
                .filter(|e| e.reason == *reason)
                .map(|e| e.message.clone()),
        );
        read = log.head();
    }
    found
}

#[test]
fn a_webhook_that_asks_about_its_own_pods_locks_itself_out_until_its_configuration_is_deleted() {
    let manifests = WEB.to_owned() + &server("policy") + &hook("Validating", "p", "policy", PODS);
    let steps = vec![
        step(5, kubectl("delete pod -n policy --all")),
        step(30, kubectl("scale deployment/web --replicas=5")),
        step(100, kubectl("delete validatingwebhookconfiguration p")),
    ];
    let mut run = Run::new(&scenario(&manifests, steps));
    let epoch = run.epoch();
    assert_eq!(
        ready_in(&run, "policy"),
        1,
        "what was there was admitted long ago"
    );
    let failed = told(&mut run, after(epoch, 99), "FailedCreate");
    assert_eq!(run.ready("web"), (3, 3, 3), "nothing is created");
    assert_eq!(ready_in(&run, "policy"), 0, "itself included");
    let view = run.cluster.api.store.view();
    let (_, service) = view
        .of::<crate::api::Service>()
        .find("policy", "policy")
        .expect("there");
    let ip = std::net::Ipv4Addr::from(service.cluster_ip.expect("an address"));
    let words = format!(
        "Error creating: Internal error occurred: failed calling webhook \"p.example.com\": failed \
         to call webhook: Post \"https://policy.policy.svc:443/check?timeout=10s\": dial tcp \
         {ip}:443: connect: connection refused"
    );
    assert!(
        failed.iter().any(|message| *message == *words),
        "{failed:?}"
    );
    // The ReplicaSets' back-off doubles from 5 ms: the tries after 82 s come at 164 s.
    run.until(after(epoch, 420));
    assert_eq!(
        (run.ready("web").0, ready_in(&run, "policy")),
        (5, 1),
        "repaired"
    );
    let stories: Vec<&String> = (run.cluster.timeline.notes.iter())
        .filter_map(|note| match note {
            Note::Component {
                what, bad: true, ..
            } => Some(what),
            _ => None,
        })
        .collect();
    assert_eq!(stories.len(), 1, "{stories:?}");
    assert!(
        stories[0].starts_with("webhook p.example.com cannot be asked, so requests are refused")
    );
}

#[test]
fn mutating_webhooks_are_asked_one_after_the_other_and_validating_ones_together() {
    let rules = "rules: [{operations: [UPDATE], apiGroups: [apps], apiVersions: [v1], resources: \
                 [deployments/scale]}]";
    let third = rules.replace("deployments/scale", "deployments");
    // Type, name and server of each configuration; the seconds that a request waits.
    type Asked<'a> = &'a [(&'a str, &'a str, &'a str)];
    let table: &[(Asked<'_>, u128)] = &[
        (&[], 0),
        (&[("Mutating", "a", "one")], 1),
        (&[("Mutating", "a", "one"), ("Mutating", "b", "three")], 4),
        (
            &[("Validating", "a", "one"), ("Validating", "b", "three")],
            3,
        ),
        (
            &[
                ("Mutating", "a", "one"),
                ("Mutating", "b", "one"),
                ("Validating", "a", "one"),
                ("Validating", "b", "three"),
            ],
            5,
        ),
    ];
    for (hooks, seconds) in table {
        let mut manifests = WEB.to_owned() + &server("one") + &server("three");
        for (kind, name, at) in *hooks {
            manifests += &hook(kind, name, at, rules);
        }
        // It does not ask about scales.
        manifests += &hook("Mutating", "other", "three", &third);
        let line = kubectl("scale deployment/web --replicas=4");
        let mut scenario = scenario(&manifests, vec![step(1, line)]);
        scenario.apps.push(slow("one", Duration::from_secs(1)));
        scenario.apps.push(slow("three", Duration::from_secs(3)));
        let took = played(&scenario, 20);
        let (millis, result) = &took[0];
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(millis / 1000, *seconds, "{hooks:?}: {millis} ms");
        assert!(millis % 1000 < 100, "{hooks:?}: {millis} ms");
    }
}

#[test]
fn a_webhook_that_takes_too_long_is_given_up_after_its_timeout() {
    let rules = "rules: [{operations: ['*'], apiGroups: ['*'], apiVersions: ['*'], resources: \
                 ['deployments/*']}]";
    let late = "Error from server (InternalError): Internal error occurred: failed calling webhook \
                \"p.example.com\": failed to call webhook: Post \
                \"https://policy.policy.svc:443/check?timeout=SECONDSs\": context deadline exceeded";
    // What the webhook asks for besides, seconds until kubectl has its answer, the answer.
    let table = [
        ("", 10, late.replace("SECONDS", "10")),
        ("timeoutSeconds: 3", 3, late.replace("SECONDS", "3")),
        (
            "{timeoutSeconds: 3, failurePolicy: Ignore}",
            3,
            String::new(),
        ),
        ("failurePolicy: Ignore", 10, String::new()),
    ];
    for (more, seconds, answer) in table {
        let more = more.trim_matches(['{', '}']).replace(", ", "\n  ");
        let fields = format!("{rules}\n  {more}");
        let manifests =
            WEB.to_owned() + &server("policy") + &hook("Mutating", "p", "policy", &fields);
        let line = kubectl("scale deployment/web --replicas=4");
        let mut scenario = scenario(&manifests, vec![step(1, line)]);
        scenario.apps.push(slow("policy", Duration::from_secs(20)));
        let took = played(&scenario, 30);
        let (millis, result) = &took[0];
        assert_eq!(millis / 1000, seconds, "{more}: {millis} ms");
        assert_eq!(result.clone().err().unwrap_or_default(), answer, "{more}");
    }
}

/// How many Nodes were ready when the fewest were; how many, and how many pods of web, in the end.
fn heartbeats(more: &str, seconds: u64) -> (usize, usize, i32) {
    let steps = vec![
        step(5, kubectl("scale deployment/policy -n policy --replicas=0")),
        step(120, kubectl("delete validatingwebhookconfiguration p")),
    ];
    let manifests = WEB.to_owned() + &server("policy") + &hook("Validating", "p", "policy", more);
    let mut run = Run::new(&scenario(&manifests, steps));
    let epoch = run.epoch();
    let looks = (1..=seconds * 10).map(|tenth| -> usize {
        run.until(epoch + Duration::from_millis(tenth * 100));
        let nodes = run.cluster.api.store.view().of::<Node>().iter();
        nodes.filter(|(_, node)| node.ready()).count()
    });
    let looks: Vec<usize> = looks.collect();
    let fewest = looks.iter().min().copied().unwrap_or(0);
    let last = looks.last().copied().unwrap_or(0);
    (fewest, last, run.ready("web").0)
}

#[test]
fn what_an_outage_does_to_nodes_follows_from_the_rules() {
    // Leases are not renewed, and nobody may say that nodes are lost either: what the node lifecycle
    // controller writes concerns the webhook too. So nothing changes at all. Afterwards it says so at
    // once, and the kubelets answer.
    assert_eq!(heartbeats(EVERYTHING, 119), (4, 4, 3));
    assert_eq!(heartbeats(EVERYTHING, 200), (0, 4, 3));
    // One that asks about leases alone lets the controller say it after 50 s; each kubelet then sees
    // its Node changed, sends its status, and is believed for as long again.
    let leases = "rules: [{operations: [UPDATE], apiGroups: [coordination.k8s.io], apiVersions: \
                  [v1], resources: [leases]}]";
    let (fewest, last, ready) = heartbeats(leases, 80);
    assert!(fewest < 4, "{fewest} of 4 nodes");
    assert_eq!((last, ready), (4, 3));
    assert_eq!(heartbeats(PODS, 80), (4, 4, 3));
}

#[test]
fn rules_that_nothing_matches_change_nothing() {
    let nothing = "rules: [{operations: ['*'], apiGroups: [example.com], apiVersions: ['*'], resources: \
                   ['*']}]";
    let line = || vec![step(10, kubectl("scale deployment/web --replicas=6"))];
    let history = |more: &str| {
        let mut run = Run::new(&scenario(&(WEB.to_owned() + more), line()));
        let epoch = run.epoch();
        run.until(after(epoch, 60));
        let view = run.cluster.api.store.view();
        let pods = view.pods().iter().map(|(_, pod)| {
            let ready = pod.status.condition(&PodConditionKind::Ready);
            let since = ready.map(|c| c.since);
            (
                pod.meta.name.clone(),
                pod.meta.created,
                pod.node_name.clone(),
                since,
            )
        });
        pods.collect::<Vec<_>>()
    };
    assert_eq!(
        history(""),
        history(&hook("Mutating", "idle", "nowhere", nothing))
    );
}

#[test]
fn one_that_is_not_there_or_not_asked_for_is_told_apart() {
    let manifests = WEB.to_owned()
        + "
---
apiVersion: v1
kind: Service
metadata: {name: headless}
spec: {clusterIP: None, ports: [{port: 443}]}
---
apiVersion: v1
kind: Service
metadata: {name: away}
spec: {type: ExternalName, externalName: policy.example.com}
";
    let run = Run::new(&scenario(&manifests, Vec::new()));
    let table = [
        ("web", 80, "Ok(Cluster)"),
        (
            "web",
            443,
            "Err(\"no service port 443 found for service \\\"web\\\"\")",
        ),
        ("none", 443, "Err(\"service \\\"none\\\" not found\")"),
        (
            "headless",
            443,
            "Err(\"cannot route to service with ClusterIP \\\"None\\\"\")",
        ),
        ("away", 443, "Ok(Outside)"),
    ];
    for (name, port, expected) in table {
        let backend = Backend::Service {
            namespace: "default".into(),
            name: name.into(),
            path: "/".into(),
            port,
        };
        let way = resolve(&backend, run.cluster.api.store.view());
        assert_eq!(format!("{way:?}"), expected, "{name}:{port}");
    }
}

#[test]
fn a_question_that_is_not_sent_is_judged_by_endpoints_and_their_machines() {
    let mut run = Run::new(&scenario(&(WEB.to_owned() + &server("policy")), Vec::new()));
    run.epoch();
    let name = Text::from("policy");
    let believed = |run: &Run, port| run.cluster.believed((&name, &name), port, 7);
    assert_eq!(believed(&run, 443), Ok(()));
    assert_eq!(believed(&run, 80), Err(Cause::NoEndpoints), "no such port");
    let pods = run.cluster.api.store.view().pods();
    let at = pods
        .in_namespace(&name)
        .find_map(|(_, pod)| pod.node_name.clone());
    let (node, _) = run
        .cluster
        .machine_named(&at.expect("bound"))
        .expect("there");
    let machine = run.cluster.machines[node as usize].as_mut().expect("there");
    machine.powered = false;
    assert_eq!(believed(&run, 443), Err(Cause::Timeout));
    let machine = run.cluster.machines[node as usize].as_mut().expect("there");
    (machine.powered, machine.reachable) = (true, false);
    assert_eq!(believed(&run, 443), Err(Cause::Timeout));
}

#[test]
fn failures_are_told_in_the_words_of_the_api_server() {
    let written = serde_json::json!({"webhooks": [{"name": "v.example.com", "clientConfig":
        {"service": {"namespace": "s", "name": "n", "path": "/a/"}}, "timeoutSeconds": 5,
        "sideEffects": "None", "admissionReviewVersions": ["v1"]}]});
    let object = Inert {
        api_version: "admissionregistration.k8s.io/v1".into(),
        kind: "MutatingWebhookConfiguration".into(),
        body: std::sync::Arc::new(written),
        ..Inert::default()
    };
    let (_, webhooks) = webhooks_of(&object).expect("webhooks");
    let webhook = &webhooks[0];
    let post = "Post \"https://n.s.svc:443/a?timeout=5s\": ";
    let table = [
        (
            Cause::Refused,
            post,
            "dial tcp 10.96.0.9:443: connect: connection refused",
        ),
        (
            Cause::NoEndpoints,
            post,
            "dial tcp 10.96.0.9:443: connect: connection refused",
        ),
        (Cause::Timeout, post, "context deadline exceeded"),
        (Cause::Reset, post, "EOF"),
        (
            Cause::Unavailable,
            "",
            "the server is currently unable to handle the request",
        ),
        (
            Cause::Error,
            "",
            "an error on the server (\"\") has prevented the request from succeeding",
        ),
    ];
    for (cause, post, why) in table {
        let reason = failed(cause, &webhook.backend, webhook.timeout, "10.96.0.9:443");
        let expected = format!(
            "Internal error occurred: failed calling webhook \"v.example.com\": failed to call \
             webhook: {post}{why}"
        );
        let error = internal(webhook, &reason);
        assert_eq!(
            (error.to_string(), error.code()),
            (expected, 500),
            "{cause:?}"
        );
    }
    assert!(size_of::<Event>() <= 16);
    assert!(matches!(Row::from(object), Row::Inert(_)));
}
