//! Scenarios in few words, and questions to a run's record.

use rehearsal::record::requests::TrafficSecond;
use rehearsal::record::{PodLife, RunRecord, TrafficRecord};

/// A scenario of so many seconds on so many nodes; `timeline` are its steps, `documents` the rest.
pub fn scenario(seconds: u32, nodes: u32, timeline: &str, documents: &[String]) -> String {
    let mut text = format!(
        "apiVersion: rehearsal.dev/v1
kind: Scenario
metadata: {{name: body}}
spec:
  kubernetesVersion: \"1.36\"
  seed: 3
  duration: {seconds}s
  cluster:
    nodePools: [{{name: node, count: {nodes}, capacity: {{cpu: \"1\", memory: 2Gi, pods: \"110\"}}}}]
    flags:
      kube-controller-manager: {{node-monitor-grace-period: 12s, node-monitor-period: 1s}}
      kube-proxy: {{nftables-min-sync-period: 100ms}}
  timeline: [{timeline}]
"
    );
    for document in documents {
        text.push_str("---\n");
        text.push_str(document.trim_start());
        text.push('\n');
    }
    text
}

/// A step that applies a document, which is written over several lines.
pub fn apply(at: &str, document: &str) -> String {
    let mut text = format!("\n  {{at: {at}, apply: [");
    text.push_str(document.trim());
    text.push_str("]}");
    text
}

/// A Deployment whose container has these further fields; the pod has these.
pub fn deployment(name: &str, replicas: u32, container: &str, pod: &str) -> String {
    format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}}}, spec: {{
  replicas: {replicas}, selector: {{matchLabels: {{app: {name}}}}},
  strategy: {{rollingUpdate: {{maxSurge: 1, maxUnavailable: 0}}}},
  template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{{pod} containers: [{{
    name: main, image: \"registry.example/{name}:1\", {container}
    ports: [{{name: http, containerPort: 8080}}],
    resources: {{requests: {{cpu: 50m, memory: 32Mi}}}}}}]}}}}}}}}"
    )
}

/// A pod with these fields of `spec` besides its one container's, which has these further fields.
pub fn pod(name: &str, container: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: {name}}}}},
  spec: {{{spec} containers: [{{name: main, image: \"registry.example/{name}:1\", {container}
  resources: {{requests: {{cpu: 50m, memory: 32Mi}}}}}}]}}}}"
    )
}

/// A Service of port 80 in front of the pods of this name, with further fields.
pub fn service(name: &str, more: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{{more}
  selector: {{app: {name}}}, ports: [{{port: 80, targetPort: 8080}}]}}}}"
    )
}

/// How the pods of this name behave.
pub fn model(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: rehearsal.dev/v1, kind: AppModel, metadata: {{name: {name}}},
  spec: {{selector: {{matchLabels: {{app: {name}}}}}, imagePull: 100ms, {spec}}}}}"
    )
}

/// So many requests a second to the Service of this name, for so long.
pub fn traffic(to: &str, rate: u32, seconds: u32, client: &str) -> String {
    format!(
        "{{apiVersion: rehearsal.dev/v1, kind: Traffic, metadata: {{name: users}}, spec: {{
  to: {to}, executor: constant-arrival-rate, rate: {rate}, duration: {seconds}s,
  client: {{{client}}}}}}}"
    )
}

/// Pods whose names begin so, in order of creation.
pub fn pods<'a>(run: &'a RunRecord, prefix: &str) -> Vec<&'a PodLife> {
    let named = run.pods.iter().filter(|pod| pod.name.starts_with(prefix));
    named.collect()
}

/// The one pod whose name begins so.
pub fn one<'a>(run: &'a RunRecord, prefix: &str) -> &'a PodLife {
    let found = pods(run, prefix);
    assert_eq!(found.len(), 1, "{prefix}: {found:?}");
    found[0]
}

/// Ends of a pod's containers, `main Error 1`, in order.
pub fn exits(pod: &PodLife) -> Vec<String> {
    let ends = pod.exits.iter();
    ends.map(|(name, reason, code)| format!("{name} {reason} {code}"))
        .collect()
}

/// Reasons of KubeEvents about an object whose name begins so.
pub fn reasons(run: &RunRecord, prefix: &str) -> Vec<String> {
    let about = run.events.iter().filter(|e| e.name.starts_with(prefix));
    about.map(|event| event.reason.to_string()).collect()
}

/// What came of the users' requests.
pub fn users(run: &RunRecord) -> &TrafficRecord {
    let users = run.traffic.iter().find(|t| t.name == "users");
    users.expect("a Traffic")
}

/// Seconds between two milestones.
pub fn seconds(
    from: impl Into<Option<rehearsal::engine::Time>>,
    to: impl Into<Option<rehearsal::engine::Time>>,
) -> f64 {
    let (from, to) = (
        from.into().expect("a beginning"),
        to.into().expect("an end"),
    );
    to.as_secs_f64() - from.as_secs_f64()
}

/// Asserts that a value lies between two others.
pub fn between(what: &str, least: f64, value: f64, most: f64) {
    assert!(
        (least..=most).contains(&value),
        "{what}: {value}, not {least} to {most}"
    );
}

/// Failed requests in the seconds of the run from one to before another.
pub fn failed(run: &RunRecord, from: f64, to: f64) -> u64 {
    rows(run, from, to).map(|s| s.failures()).sum()
}

/// Requests that were answered well in these seconds.
pub fn answered(run: &RunRecord, from: f64, to: f64) -> u64 {
    rows(run, from, to).map(|s| u64::from(s.ok)).sum()
}

fn rows(run: &RunRecord, from: f64, to: f64) -> impl Iterator<Item = &TrafficSecond> {
    let begun = run.header.begun.as_secs_f64();
    let seconds = users(run).seconds.iter();
    seconds.filter(move |s| (from..to).contains(&(s.at().as_secs_f64() - begun)))
}
