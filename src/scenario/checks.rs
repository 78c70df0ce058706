//! What can only be checked when everything is read: references, selectors, places, ports.

use serde_json::Value as Json;

use super::app_model::AppDraft;
use super::chaos::FaultDraft;
use super::chaos_mesh::external;
use super::diagnostic::Diagnostic;
use super::expression::{self, Flaw};
use super::fields::{Problems, Value};
use super::reference::{self, Known, Reference, kind_name};
use super::spec::Spec;
use super::traffic::TrafficDraft;
use super::types::{Applied, Cel, Expectation, Form};
use crate::api::selector::LabelSelector;
use crate::api::service::Service;
use crate::api::yaml::{Sources, Span};
use crate::api::{Labels, Row, Text};
use crate::fault::{Action, Place};
use crate::kubectl::verb::ResourceKind;
use crate::kubectl::{Verb, resources};

/// Everything that references can lead to.
pub struct Checks<'c> {
    /// Names.
    pub known: &'c Known,
    /// All objects, those of the timeline among them.
    pub objects: &'c [&'c Applied],
    /// The scenario's own words.
    pub spec: &'c Spec<'c>,
    /// Names and texts of all files.
    pub sources: &'c Sources,
    /// Problems found.
    pub problems: &'c mut Problems,
}

impl Checks<'_> {
    /// Selectors must match a pod template, calls must reach a Service.
    pub fn apps(&mut self, apps: &[AppDraft<'_>]) {
        for draft in apps {
            let model = &draft.model;
            let templates: Vec<_> = self.templates(&model.namespace).collect();
            let mut matching = templates
                .iter()
                .filter(|(labels, _)| model.selector.matches(labels))
                .peekable();
            if matching.peek().is_none() {
                let missing = unmatched(
                    &draft.selector,
                    &model.selector,
                    &model.namespace,
                    &templates,
                );
                self.problems.push(missing);
            } else if let (Some(container), Some(name)) = (&draft.container, &model.container) {
                let names: Vec<&str> = matching.flat_map(|(_, pod)| container_names(pod)).collect();
                if !names.contains(&name.as_str()) {
                    let missing = container.invalid("none of the selected pods has this container");
                    self.problems.push(missing.suggest(name, names));
                }
            }
            for value in &draft.services {
                if let Some(text) = value.node.as_str() {
                    self.service(value, text, &model.namespace);
                }
            }
        }
    }

    /// The destination must be a Service, and have the port.
    pub fn traffic(&mut self, traffic: &[TrafficDraft<'_>]) {
        for draft in traffic {
            if let Some(start) = &draft.start
                && draft.traffic.start > self.spec.duration
            {
                let late = "must not be after the end of the run (`spec.duration`)";
                self.problems.push(start.invalid(late));
            }
            if let (Some(value), Some(name)) = (&draft.from, &draft.traffic.from)
                && !self.known.has("Node", &Text::default(), name)
            {
                let missing = value.invalid("there is no such node");
                let names = self.known.names("Node", &Text::default());
                self.problems.push(missing.suggest(name, names));
            }
            let Some(value) = &draft.to else {
                continue;
            };
            match draft.traffic.to.split_once('/') {
                Some(("service" | "svc" | "services", name)) => {
                    self.service(value, name, &draft.traffic.namespace);
                }
                Some(("nodePort", port)) => self.node_port(value, port),
                _ => {
                    let wrong = value.invalid("must be a Service");
                    self.problems
                        .push(wrong.hint("service/[NAMESPACE/]NAME[:PORT]"));
                }
            }
        }
    }

    /// Workloads and places that faults name must exist.
    pub fn faults(&mut self, faults: &[FaultDraft]) {
        for draft in faults {
            for reference in &draft.references {
                self.reference(reference);
            }
            for (place, at) in &draft.places {
                self.place(place, at);
            }
            if let Action::Network { peers, .. } = &draft.fault.action {
                for external in &peers.external {
                    let rows = self.objects.iter().map(|object| &object.row);
                    let services = rows.filter(|row| matches!(row, Row::Service(_)));
                    self.problems.extend(external::missing(external, services));
                }
            }
            let selector = &draft.fault.selector;
            let pods = draft.fault.kind != "NodeChaos" && !selector.labels.is_empty();
            if pods && !self.any_pod(&selector.namespaces, &selector.labels) {
                let message = format!(
                    "no pod template matches the selector of {}",
                    draft.fault.name
                );
                let idle = Diagnostic::warning("NotFound", message, draft.fault.span);
                let namespaces: Vec<&str> = selector.namespaces.iter().map(Text::as_str).collect();
                self.problems
                    .push(idle.cause(format!("looked in {}", namespaces.join(", "))));
            }
        }
    }

    /// What commands name must exist; `set image` must name a container.
    pub fn commands(&mut self, commands: &[(Verb, Span)]) {
        for (verb, span) in commands {
            let forgiving = matches!(verb, Verb::Delete(_, flags) if flags.ignore_not_found);
            let Some(targets) = verb.targets().filter(|_| !forgiving) else {
                continue;
            };
            for (kind, name) in targets.named.iter().filter(|(_, name)| !name.is_empty()) {
                let kind = match kind {
                    ResourceKind::Typed(kind) => kind.name(),
                    ResourceKind::Other(word) => match other_kind(self.objects, word) {
                        Some(kind) => kind,
                        None => {
                            let message = resources::no_such_type(word);
                            let unknown = Diagnostic::error("NotFound", message, *span);
                            let hint = "a custom resource is known by its objects";
                            self.problems.push(unknown.at("kubectl").hint(hint));
                            continue;
                        }
                    },
                };
                self.reference(&Reference {
                    kind: kind.to_owned(),
                    namespace: targets.namespace.clone(),
                    name: name.clone(),
                    span: *span,
                    path: "kubectl".to_owned(),
                });
                if let Verb::SetImage(_, images) = verb {
                    self.containers(kind, &targets.namespace, name, images, *span);
                }
            }
        }
    }

    fn containers(
        &mut self,
        kind: &str,
        namespace: &Text,
        name: &Text,
        images: &[(Text, Text)],
        span: Span,
    ) {
        let found = self.objects.iter().rev().find(|object| {
            let meta = object.row.meta();
            meta.name == *name && meta.namespace == *namespace && kind_name(&object.row) == kind
        });
        let Some((_, pod)) = found.and_then(|object| template(object)) else {
            return;
        };
        let names = container_names(pod);
        for (container, _) in images.iter().filter(|(container, _)| container != "*") {
            if !names.contains(&container.as_str()) {
                // kubectl's own words.
                let message = format!("unable to find container named {container:?}");
                let missing = Diagnostic::error("NotFound", message, span).at("kubectl");
                self.problems
                    .push(missing.suggest(container, names.iter().copied()));
            }
        }
    }

    /// What expectations name must exist.
    pub fn expectations(&mut self, expect: &[Expectation]) {
        for expectation in expect {
            match &expectation.form {
                Form::Wait { resource, .. } => {
                    if let Ok((kind, namespace, name)) =
                        reference::parse(resource, &self.spec.namespace)
                    {
                        self.reference(&Reference {
                            kind,
                            namespace,
                            name,
                            span: expectation.span,
                            path: "wait.resource".to_owned(),
                        });
                    } else {
                        let message = format!("{resource:?} is no object");
                        let wrong =
                            Diagnostic::error("FieldValueInvalid", message, expectation.span);
                        let word = resource.split('/').next().unwrap_or_default();
                        let wrong = wrong.at("wait.resource");
                        self.problems
                            .push(wrong.suggest(word, reference::kind_words()));
                    }
                }
                Form::Always(cel) | Form::Never(cel) | Form::Eventually(cel, _) => self.cel(cel),
            }
        }
    }

    fn reference(&mut self, reference: &Reference) {
        // What controllers make gets its name in the run.
        let made = ["Pod", "ReplicaSet", "EndpointSlice", "Endpoints", "Job"];
        if !made.contains(&reference.kind.as_str()) {
            self.problems.extend(self.known.check(reference));
        }
    }

    /// `deployment('[ns/]name')` and its kin.
    fn cel(&mut self, cel: &Cel) {
        if let Err(flaw) = expression::compile(&cel.text) {
            self.problems.push(located(cel, flaw, self.sources));
            return;
        }
        for (function, name) in calls(&cel.text) {
            let kind = match function {
                "endpoints" => "Service",
                function => match reference::kind_of(function) {
                    Some(kind) => kind,
                    None => continue,
                },
            };
            // `pods('x')` selects by workload or by the beginning of a name.
            if kind == "Pod" || kind == "Namespace" {
                continue;
            }
            let (namespace, name) = match name.split_once('/') {
                Some((namespace, name)) => (Text::from(namespace), name),
                None => (self.spec.namespace.clone(), name),
            };
            self.reference(&Reference {
                kind: kind.to_owned(),
                namespace,
                name: Text::from(name),
                span: cel.span,
                path: format!("{function}(…)"),
            });
        }
    }

    fn place(&mut self, place: &Place, at: &Diagnostic) {
        let pools = &self.spec.cluster.pools;
        let (what, name, known): (_, _, Vec<&str>) = match place {
            Place::Zone(name) => (
                "zone",
                name,
                pools
                    .iter()
                    .flat_map(|p| &p.zones)
                    .map(Text::as_str)
                    .collect(),
            ),
            Place::Pool(name) => (
                "node pool",
                name,
                pools.iter().map(|pool| pool.name.as_str()).collect(),
            ),
            Place::Node(name) => ("node", name, self.known.names("Node", &Text::default())),
            _ => return,
        };
        if !known.contains(&name.as_str()) {
            let mut missing = at.clone();
            missing.reason = "NotFound".to_owned();
            missing.message = format!("there is no {what} {name}");
            let mut known = known;
            known.sort_unstable();
            known.dedup();
            self.problems.push(missing.suggest(name, known));
        }
    }

    /// `[namespace/]name[:port]`, or a DNS name.
    fn service(&mut self, value: &Value<'_>, text: &str, namespace: &Text) {
        let (address, port) = match text.split_once(':') {
            Some((address, port)) => (address, Some(port)),
            None => (text, None),
        };
        let (namespace, name) = match address.split_once('/') {
            Some((namespace, name)) => (Text::from(namespace), name),
            None => match address.split_once('.') {
                Some((name, rest)) => {
                    let (namespace, domain) = rest.split_once('.').unwrap_or((rest, ""));
                    let inside = domain == "svc" || domain.starts_with("svc.");
                    let known = !self
                        .known
                        .names("Service", &Text::from(namespace))
                        .is_empty();
                    let short = known && domain.is_empty();
                    if !(inside || short) {
                        let outside = Diagnostic::warning(
                            "NotFound",
                            format!("{address} is not in the cluster: calls to it fail"),
                            value.span(),
                        );
                        self.problems.push(outside.at(value.path.as_str()));
                        return;
                    }
                    (Text::from(namespace), name)
                }
                None => (namespace.clone(), address),
            },
        };
        let name = Text::from(name);
        let Some(service) = self.find_service(&namespace, &name) else {
            self.reference(&Reference {
                kind: "Service".to_owned(),
                namespace,
                name,
                span: value.span(),
                path: value.path.clone(),
            });
            return;
        };
        let has = |port: &str| {
            let number = port.parse::<u16>().ok();
            (service.ports.iter()).any(|p| p.name == *port || Some(p.port) == number)
        };
        if let Some(port) = port.filter(|port| !has(port)) {
            let message = format!("Service {} has no port {port}", name.as_str());
            let missing = Diagnostic::error("NotFound", message, value.span());
            let ports: Vec<String> = (service.ports.iter())
                .map(|p| match p.name.as_str() {
                    "" => p.port.to_string(),
                    name => format!("{} ({name})", p.port),
                })
                .collect();
            let hint = format!("its ports are: {}", ports.join(", "));
            self.problems
                .push(missing.at(value.path.as_str()).hint(hint));
        }
    }

    fn find_service(&self, namespace: &Text, name: &Text) -> Option<&Service> {
        self.objects.iter().find_map(|object| match &object.row {
            Row::Service(service)
                if service.meta.namespace == *namespace && service.meta.name == *name =>
            {
                Some(&**service)
            }
            _ => None,
        })
    }

    /// `nodePort/[NODE]:PORT`.
    fn node_port(&mut self, value: &Value<'_>, text: &str) {
        let (node, port) = text.rsplit_once(':').unwrap_or(("", text));
        if !node.is_empty() && !self.known.has("Node", &Text::default(), &Text::from(node)) {
            let missing = value.invalid(format!("there is no node {node}"));
            let names = self.known.names("Node", &Text::default());
            self.problems.push(missing.suggest(node, names));
        }
        if port.parse::<u16>().is_err() {
            self.problems
                .push(value.invalid("must be nodePort/[NODE]:PORT"));
        }
    }

    /// Labels and pod of every pod template of a namespace.
    fn templates(&self, namespace: &Text) -> impl Iterator<Item = (Labels, &Json)> {
        (self.objects.iter())
            .filter(move |object| object.row.meta().namespace == *namespace)
            .filter_map(|object| template(object))
    }

    fn any_pod(&self, namespaces: &[Text], selector: &LabelSelector) -> bool {
        (self.objects.iter())
            .filter(|object| {
                namespaces.is_empty() || namespaces.contains(&object.row.meta().namespace)
            })
            .filter_map(|object| template(object))
            .any(|(labels, _)| selector.matches(&labels))
    }
}

/// The pod template of an object.
fn template(object: &Applied) -> Option<(Labels, &Json)> {
    let json = &*object.json;
    let pod = match kind_name(&object.row).as_str() {
        "Pod" => json,
        "CronJob" => json.pointer("/spec/jobTemplate/spec/template")?,
        _ => json.pointer("/spec/template")?,
    };
    let labels = pod.pointer("/metadata/labels").and_then(Json::as_object);
    let pairs = labels.into_iter().flatten();
    let labels = pairs
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
        .collect();
    Some((labels, pod))
}

fn container_names(pod: &Json) -> Vec<&str> {
    let lists = ["/spec/containers", "/spec/initContainers"];
    lists
        .into_iter()
        .filter_map(|path| pod.pointer(path)?.as_array())
        .flatten()
        .filter_map(|container| container.get("name")?.as_str())
        .collect()
}

/// The kind that a word means which is none that the model acts on.
fn other_kind<'a>(objects: &[&'a Applied], word: &str) -> Option<&'a str> {
    if let Some(kind) = resources::built_in(word) {
        return Some(kind);
    }
    let inert = |object: &'a Applied| match &object.row {
        Row::Inert(inert) => Some(&**inert),
        _ => None,
    };
    let all = || objects.iter().copied().filter_map(inert);
    let definitions = || all().filter(|o| o.kind == "CustomResourceDefinition");
    let found = all().find(|object| {
        resources::means_by_kind(word, object)
            || definitions().any(|definition| resources::defines(word, definition, object))
    });
    found.map(|object| object.kind.as_str())
}

/// An error about a selector that matches no pod template, with the nearest value that would.
fn unmatched(
    value: &Value<'_>,
    selector: &LabelSelector,
    namespace: &Text,
    templates: &[(Labels, &Json)],
) -> Diagnostic {
    let missing = value.invalid("matches no pod template");
    if templates.is_empty() {
        let cause = format!(
            "namespace {} has no pods and no workloads",
            namespace.as_str()
        );
        return missing.cause(cause);
    }
    for requirement in &selector.requirements {
        if templates
            .iter()
            .any(|(labels, _)| requirement.matches(labels))
        {
            continue;
        }
        let mut there: Vec<&str> = (templates.iter())
            .filter_map(|(labels, _)| labels.get(&requirement.key))
            .map(Text::as_str)
            .collect();
        there.sort_unstable();
        there.dedup();
        let wanted: Vec<&str> = requirement.values.iter().map(Text::as_str).collect();
        let key = requirement.key.as_str();
        let cause = match there.is_empty() {
            true => format!("no pod template in {} has label {key}", namespace.as_str()),
            false => format!("label {key} is {} nowhere", wanted.join(" or ")),
        };
        return match wanted.first() {
            Some(wanted) => missing.cause(cause).suggest(wanted, there),
            None => missing.cause(cause),
        };
    }
    missing.cause("each part matches something, but no pod has them all")
}

/// Calls of plain functions with one text, `name('text')`, outside of strings.
fn calls(text: &str) -> Vec<(&str, &str)> {
    let mut calls = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let c = bytes[at];
        if c == b'\'' || c == b'"' {
            at = end_of_string(bytes, at);
        } else if c.is_ascii_alphabetic() || c == b'_' {
            let start = at;
            while at < bytes.len() && (bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_') {
                at += 1;
            }
            let method = text[..start].trim_end().ends_with('.');
            let rest = text[at..].trim_start();
            let argument = rest.strip_prefix('(').map(str::trim_start);
            if let (Some(argument), false) = (argument, method)
                && let Some(quote @ ('\'' | '"')) = argument.chars().next()
                && let Some(end) = argument[1..].find(quote)
                && argument[end + 2..].trim_start().starts_with(')')
            {
                calls.push((&text[start..at], &argument[1..=end]));
            }
        } else {
            at += 1;
        }
    }
    calls
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != bytes[start] {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// A flaw of an expression as a message: at its own column where the expression stands in one line as
/// it is, else at the expression, with its place in it.
fn located(cel: &Cel, flaw: Flaw, sources: &Sources) -> Diagnostic {
    let column = (cel.span.column as usize).saturating_sub(1);
    let inside = sources.line(cel.span).and_then(|line| {
        let from: String = line.chars().skip(column).collect();
        let before = from.get(..from.find(&cel.text)?)?;
        u32::try_from(column + before.chars().count() + flaw.column).ok()
    });
    let mut span = cel.span;
    let place = match inside {
        Some(column) => {
            span.column = column;
            String::new()
        }
        None => format!(" (line {}, column {} of it)", flaw.line, flaw.column),
    };
    let message = format!("{}{place}", flaw.message);
    let wrong = Diagnostic::error("FieldValueInvalid", message, span).at("CEL");
    match flaw.hint {
        Some(hint) => wrong.hint(hint),
        None => wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_outside_of_strings_and_methods() {
        for (text, expected) in [
            ("deployment('a/b').x == 1", vec![("deployment", "a/b")]),
            (
                "endpoints( \"w\" ).ready >= pods('p').size()",
                vec![("endpoints", "w"), ("pods", "p")],
            ),
            ("a.node('x') || 'node(1)' == \"node('y')\"", vec![]),
            ("nodes().exists(n, has(n.x))", vec![]),
            ("x('a' + 'b') 'open", vec![]),
        ] {
            assert_eq!(calls(text), expected, "{text}");
        }
    }
}
