//! The steps of a timeline: files read, objects decoded, command lines and faults parsed.

use super::chaos::{self, Family, FaultDraft};
use super::chaos_mesh::plan;
use super::diagnostic::Diagnostic;
use super::digest::InputDigest;
use super::fields::Value;
use super::load::text;
use super::objects::{self, Decoded};
use super::reader::Reader;
use super::spec::Spec;
use super::timeline::{Action, StepDraft};
use super::types::{Applied, KubectlStep, Step, StepAction, StepItem};
use crate::api::Text;
use crate::api::decode::DecodeContext;
use crate::api::yaml::{Node, Span};
use crate::kubectl::{self, Verb};

/// What the steps name, to be checked when all objects are known.
#[derive(Debug, Default)]
pub struct Named {
    /// Faults.
    pub faults: Vec<FaultDraft>,
    /// Commands, with where they stand.
    pub commands: Vec<(Verb, Span)>,
}

impl Reader<'_> {
    /// The steps with their files read; what they name is added to `named`.
    pub fn timeline(
        &mut self,
        spec: &Spec<'_>,
        context: &DecodeContext,
        decoded: &mut Decoded,
        named: &mut Named,
        digest: &mut InputDigest,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        for draft in &spec.timeline {
            let action = match &draft.action {
                Action::Kubectl(value, line) => {
                    let verb = self.verb(value, line, &spec.namespace);
                    named.commands.extend(verb.map(|verb| (verb, value.span())));
                    let objects = self.manifests_of(value, line, context, decoded, digest);
                    StepAction::Kubectl(KubectlStep {
                        line: line.clone(),
                        span: value.span(),
                        objects,
                    })
                }
                Action::Apply(items) => StepAction::Apply(self.apply(
                    items,
                    spec,
                    context,
                    decoded,
                    &mut named.faults,
                    digest,
                )),
            };
            steps.push(step(draft, action));
        }
        let mut names: Vec<Text> = Vec::new();
        for draft in &named.faults {
            let name = &draft.fault.name;
            if names.contains(name) {
                let message = format!("a second fault is called {name}");
                let twice = Diagnostic::error("Duplicate", message, draft.fault.span);
                self.problems
                    .push(twice.cause("what a fault hits is drawn by its name"));
            }
            names.push(name.clone());
        }
        steps
    }

    /// Parses a command line; an error points at its word.
    fn verb(&mut self, value: &Value<'_>, line: &str, namespace: &Text) -> Option<Verb> {
        let error = match kubectl::parse(line, namespace) {
            Ok(verb) => return Some(verb),
            Err(error) => error,
        };
        let mut span = value.span();
        // Where the word stands in the file, when the line was written on one line there.
        let word = line.get(error.at.clone()).unwrap_or_default();
        if let Some(written) = self.files.sources.line(span) {
            let skipped = (span.column as usize).saturating_sub(1);
            let rest: String = written.chars().skip(skipped).collect();
            let start = rest.find(line).map(|start| start + error.at.start);
            if let Some(before) = start
                .filter(|_| !word.is_empty())
                .and_then(|at| rest.get(..at))
            {
                span.column += u32::try_from(before.chars().count()).unwrap_or_default();
            }
        }
        let mut wrong = Diagnostic::error("FieldValueInvalid", error.message, span);
        wrong.hint = error.hint;
        self.problems.push(wrong.at(value.path.as_str()));
        None
    }

    /// The objects of the `-f` arguments of a command line.
    fn manifests_of(
        &mut self,
        value: &Value<'_>,
        line: &str,
        context: &DecodeContext,
        decoded: &mut Decoded,
        digest: &mut InputDigest,
    ) -> Vec<Applied> {
        let mut objects = Vec::new();
        for name in file_arguments(line) {
            let path = self.path(&name);
            let stack = &mut Vec::new();
            let nodes = self
                .files
                .collect(&path, value.span(), stack, self.problems);
            objects.extend(self.decode(&nodes, context, decoded, digest));
        }
        objects
    }

    fn decode(
        &mut self,
        nodes: &[Node],
        context: &DecodeContext,
        decoded: &mut Decoded,
        digest: &mut InputDigest,
    ) -> Vec<Applied> {
        let more = objects::decode_all(nodes, context, self.problems);
        for (what, count) in more.not_modelled {
            *decoded.not_modelled.entry(what).or_default() += count;
        }
        for object in &more.objects {
            digest.object(&object.json);
        }
        more.objects
    }

    fn apply(
        &mut self,
        items: &[Value<'_>],
        spec: &Spec<'_>,
        context: &DecodeContext,
        decoded: &mut Decoded,
        faults: &mut Vec<FaultDraft>,
        digest: &mut InputDigest,
    ) -> Vec<StepItem> {
        let mut nodes = Vec::new();
        for item in items {
            match item.node.as_str() {
                Some(name) => {
                    let path = self.path(name);
                    let stack = &mut Vec::new();
                    nodes.extend(self.files.collect(&path, item.span(), stack, self.problems));
                }
                None if item.node.as_map().is_some() => nodes.push(item.node.clone()),
                None => self
                    .problems
                    .push(item.invalid("must be a file, an object or a fault")),
            }
        }
        let mut done = Vec::new();
        for node in nodes {
            let version = text(&node, "apiVersion");
            if chaos::family(&node) == Family::ChaosMesh && plan::is_plan(&node) {
                if let Some(plan) = plan::read(&node, &spec.namespace, self.problems) {
                    digest.document(&node);
                    faults.extend(plan.faults().into_iter().map(|fault| FaultDraft {
                        fault: fault.clone(),
                        references: Vec::new(),
                        places: Vec::new(),
                    }));
                    done.push(StepItem::Plan(Box::new(plan)));
                }
            } else if chaos::family(&node) != Family::None {
                if let Some(draft) = chaos::read(&node, &spec.namespace, self.problems) {
                    digest.document(&node);
                    done.push(StepItem::Fault(draft.fault.clone()));
                    faults.push(draft);
                }
            } else if version.starts_with("rehearsal.dev/") {
                let message = format!(
                    "a {} cannot be applied by the timeline",
                    text(&node, "kind")
                );
                let wrong = Diagnostic::error("BadRequest", message, node.span);
                self.problems
                    .push(wrong.hint("make it a document of the scenario file"));
            } else {
                let objects = self.decode(&[node], context, decoded, digest);
                done.extend(
                    objects
                        .into_iter()
                        .map(|object| StepItem::Object(Box::new(object))),
                );
            }
        }
        done
    }
}

fn step(draft: &StepDraft<'_>, action: StepAction) -> Step {
    Step {
        at: draft.at,
        span: draft.value.span(),
        action,
        optional: draft.optional,
        timeout: draft.timeout,
    }
}

/// The values of `-f`, `--filename` and `-k` of a command line.
pub fn file_arguments(line: &str) -> Vec<String> {
    let mut names = Vec::new();
    let words = kubectl::words::split(line).unwrap_or_default();
    let mut words = words.iter().map(|word| word.text.as_str());
    let verb = words.next().unwrap_or_default();
    if !["apply", "create", "delete", "replace"].contains(&verb) {
        return names;
    }
    while let Some(word) = words.next() {
        match word.split_once('=') {
            Some(("-f" | "--filename" | "-k" | "--kustomize", name)) => names.push(name.to_owned()),
            None if matches!(word, "-f" | "--filename" | "-k" | "--kustomize") => {
                names.extend(words.next().map(str::to_owned));
            }
            _ => {}
        }
    }
    names
        .iter()
        .flat_map(|name| name.split(','))
        .map(str::to_owned)
        .collect()
}
