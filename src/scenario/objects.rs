//! From documents to objects: the scenario's edits, decoding, order, duplicates, namespaces.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::diagnostic::Diagnostic;
use super::fields::Problems;
use super::reference::kind_name;
use super::types::Applied;
use crate::api::decode::{DecodeContext, NotModelled, Problem, as_written, decode};
use crate::api::yaml::{Node, Span};
use crate::api::{Row, Text, warnings};

/// Kinds that are applied before others, in this order, and those that come last: kustomize's
/// order, so that what others need is there first.
const FIRST: [&str; 22] = [
    "Namespace",
    "ResourceQuota",
    "StorageClass",
    "CustomResourceDefinition",
    "ServiceAccount",
    "PodSecurityPolicy",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "Endpoints",
    "Service",
    "LimitRange",
    "PriorityClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
];
const LAST: [&str; 2] = [
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
];

/// Namespaces that every cluster has.
pub const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Objects with what was noticed on the way.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The objects, in the order in which they are applied.
    pub objects: Vec<Applied>,
    /// Kinds and fields without effect, with how often they occur.
    pub not_modelled: BTreeMap<String, usize>,
}

/// A problem that decoding found, as a message.
pub fn diagnostic(problem: Problem, node: &Node, error: bool) -> Diagnostic {
    let span = problem.span.unwrap_or(node.span);
    let mut words = problem.message;
    // `(did you mean …?)` stands on its own line here.
    let mut hint = None;
    if let Some(at) = words
        .find(" (did you mean ")
        .filter(|_| words.ends_with("?)"))
    {
        hint = Some(words[at + 2..words.len() - 1].to_owned());
        words.truncate(at);
    }
    let reason = problem.reason;
    let this = match error {
        true => Diagnostic::error(reason, words, span),
        false => Diagnostic::warning(reason, words, span),
    };
    let this = this.at(problem.path).cause(subject(node));
    match hint {
        Some(hint) => this.hint(hint),
        None => this,
    }
}

/// What is assumed of webhooks, where it is written.
fn assumptions(fields: &[NotModelled], node: &Node) -> Vec<Diagnostic> {
    let told = fields.iter().filter_map(|field| {
        let (message, hint) = match field.what.as_str() {
            "Webhook.matchConditions" => (
                "match conditions are not evaluated: this one is taken to hold",
                "rules, namespaceSelector and objectSelector are obeyed",
            ),
            "Webhook.clientConfig.url" => (
                "a webhook outside the cluster is taken to answer always",
                "one in the cluster, by clientConfig.service, fails with its pods",
            ),
            _ => return None,
        };
        let span = node.nearest_span(&field.path);
        let this = Diagnostic::warning("NotModelled", message, span);
        Some(this.at(field.path.clone()).cause(subject(node)).hint(hint))
    });
    told.collect()
}

/// What the API server says about a new object besides accepting it.
pub fn server_warnings(json: &Value, node: &Node) -> Vec<Diagnostic> {
    let lines = warnings::of(json);
    let of_line = |line: &String| {
        let (path, message) = warnings::located(line);
        let span = node.nearest_span(path);
        let problem = Problem {
            path: path.to_owned(),
            span: Some(span).filter(|span| span.is_known()),
            reason: "Warning".to_owned(),
            message: message.to_owned(),
        };
        diagnostic(problem, node, false)
    };
    lines.iter().map(of_line).collect()
}

/// `Deployment frontend`, for messages.
pub fn subject(node: &Node) -> String {
    let text = |node: &Node, key| node.get(key).and_then(Node::as_str).map(str::to_owned);
    let kind = text(node, "kind").unwrap_or_else(|| "object".to_owned());
    let name = node
        .get("metadata")
        .and_then(|metadata| text(metadata, "name").or_else(|| text(metadata, "generateName")));
    match name {
        Some(name) => format!("in {kind} {name}"),
        None => format!("in a {kind} without a name"),
    }
}

/// Decodes documents in their order. Kinds of our own group have been taken out before.
pub fn decode_all(nodes: &[Node], context: &DecodeContext, problems: &mut Problems) -> Decoded {
    let mut result = Decoded::default();
    for node in nodes {
        let decoded = match decode(node, context) {
            Ok(decoded) => decoded,
            Err(refused) => {
                problems.extend(refused.into_iter().map(|p| diagnostic(p, node, true)));
                continue;
            }
        };
        problems.extend(
            decoded
                .warnings
                .into_iter()
                .map(|p| diagnostic(p, node, false)),
        );
        problems.extend(server_warnings(&decoded.json, node));
        problems.extend(assumptions(&decoded.not_modelled, node));
        let whats: BTreeSet<String> = decoded
            .not_modelled
            .into_iter()
            .map(|field| field.what)
            .collect();
        for what in whats {
            *result.not_modelled.entry(what).or_default() += 1;
        }
        result.objects.push(Applied {
            written: Arc::new(as_written(node, &decoded.row)),
            row: decoded.row,
            json: Arc::new(decoded.json),
            span: node.span,
        });
    }
    result
}

/// Puts objects in order and lets the later of two with one name win, as repeated `kubectl apply`.
pub fn settle(objects: Vec<Applied>, problems: &mut Problems) -> Vec<Applied> {
    let mut settled: Vec<Applied> = Vec::new();
    let mut places: BTreeMap<(String, Text, Text), usize> = BTreeMap::new();
    for object in objects {
        let meta = object.row.meta();
        if meta.name.is_empty() {
            settled.push(object);
            continue;
        }
        let kind = kind_name(&object.row);
        let key = (kind, meta.namespace.clone(), meta.name.clone());
        match places.get(&key) {
            // The same document by two ways, or the same object twice, is no news.
            Some(at) if settled[*at].span == object.span => {}
            Some(at) if settled[*at].json == object.json => {}
            Some(at) => {
                let (kind, ..) = &key;
                let message = format!(
                    "{kind} {} is defined twice; this one wins",
                    meta.full_name()
                );
                let twice = Diagnostic::warning("Duplicate", message, object.span);
                problems.push(twice);
                settled[*at] = object;
            }
            None => {
                places.insert(key, settled.len());
                settled.push(object);
            }
        }
    }
    settled.sort_by_key(|object| rank(&kind_name(&object.row)));
    settled
}

fn rank(kind: &str) -> usize {
    let first = FIRST.iter().position(|first| *first == kind);
    let last = LAST.iter().position(|last| *last == kind);
    match (first, last) {
        (Some(at), _) => at,
        (_, Some(at)) => FIRST.len() + 1 + at,
        _ => FIRST.len(),
    }
}

/// Namespaces that objects are in and that nobody defines.
pub fn missing_namespaces(objects: &[Applied], more: &[Text]) -> Vec<(Text, Span)> {
    let mut known: BTreeSet<Text> = NAMESPACES.iter().map(|name| Text::from(*name)).collect();
    for object in objects {
        if let Row::Namespace(namespace) = &object.row {
            known.insert(namespace.meta.name.clone());
        }
    }
    let mut missing = Vec::new();
    let used = objects
        .iter()
        .map(|object| (object.row.meta().namespace.clone(), object.span));
    for (namespace, span) in used.chain(more.iter().map(|ns| (ns.clone(), Span::NONE))) {
        if !namespace.is_empty() && known.insert(namespace.clone()) {
            missing.push((namespace, span));
        }
    }
    missing
}

/// A Namespace object that nobody wrote.
pub fn namespace(name: &Text, context: &DecodeContext) -> Option<Applied> {
    let json = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name.as_str()},
    });
    let decoded = decode(&Node::from_json(&json, Span::NONE), context).ok()?;
    Some(Applied {
        row: decoded.row,
        json: Arc::new(decoded.json),
        written: Arc::new(json),
        span: Span::NONE,
    })
}
