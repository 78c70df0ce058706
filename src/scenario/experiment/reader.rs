//! The fields of an Experiment: seeds, variants, and the base with the edits of each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::edit::{scalar, set};
use super::{Experiment, ExperimentOptions, Plan, Variant};
use crate::api::Text;
use crate::api::yaml::{Node, NodeValue, Sources, Span};
use crate::scenario::diagnostic::Diagnostic;
use crate::scenario::digest::InputDigest;
use crate::scenario::fields::{Fields, Problems, Value};
use crate::scenario::files::Files;
use crate::scenario::load::{LoadOptions, OWN, text};
use crate::scenario::reader::Reader;
use crate::scenario::spec::metadata;
use crate::scenario::trace::Trace;
use crate::sched::SchedulerConfig;

/// Reads one experiment.
pub struct ExperimentReader<'r> {
    /// The command line.
    pub options: &'r ExperimentOptions,
    /// The folder from which files are named.
    pub base: PathBuf,
    /// The experiment's file.
    pub path: &'r Path,
    /// The other documents of the file.
    pub rest: Vec<Node>,
    /// Traces that were read.
    pub traces: BTreeMap<PathBuf, Arc<Trace>>,
    /// All files.
    pub files: &'r mut Files,
    /// Problems found.
    pub problems: &'r mut Problems,
}

/// A variant before its base is edited.
struct Draft<'n> {
    name: Text,
    span: Span,
    scheduler: Option<Value<'n>>,
    patches: Vec<Value<'n>>,
    set: Vec<(String, Node)>,
}

impl ExperimentReader<'_> {
    /// Reads an Experiment.
    pub fn experiment(&mut self, head: &Node) -> Option<Experiment> {
        if text(head, "apiVersion") != OWN {
            let message = format!(
                "no kind \"Experiment\" in version {:?}",
                text(head, "apiVersion")
            );
            let wrong = Diagnostic::error("BadRequest", message, head.span);
            self.problems.push(wrong.hint(format!("apiVersion: {OWN}")));
            return None;
        }
        let fields = Fields::document(head);
        let (name, _) = metadata(&fields, &Text::from("default"), self.problems);
        let spec = (fields.require("spec", self.problems)).and_then(|v| v.fields(self.problems));
        fields.finish(self.problems);
        let spec = spec?;
        let seeds = self.seeds(&spec);
        let base = spec.require("base", self.problems);
        let items = spec.list("variants", self.problems);
        let faults = spec.list("faults", self.problems);
        let report = spec.list("report", self.problems);
        let report = report.iter().filter_map(|item| {
            let name = item.name(self.problems)?;
            Some((name, item.span()))
        });
        let report = report.collect();
        spec.finish(self.problems);
        let base = base?;
        base.fields(self.problems)?;
        let drafts = match self.options.sweep {
            Some(_) => self.sweep(base.span()),
            None => self.drafts(&items, &spec, head),
        };
        let mut digest = InputDigest::new();
        digest.scenario(head);
        let variants = (drafts.iter())
            .filter_map(|draft| self.variant(draft, base.node, &faults))
            .collect();
        self.complete(name?, seeds, variants, report, digest)
    }

    /// A sweep over a Scenario: its spec is the base.
    pub fn sweep_of_scenario(&mut self, head: &Node) -> Option<Experiment> {
        let name = head.at("metadata.name").and_then(Node::as_str)?;
        let base = head.get("spec")?;
        let seed = base.get("seed").and_then(Node::as_u64).unwrap_or(1);
        let seeds = self.options.seeds.clone().unwrap_or_else(|| vec![seed]);
        let drafts = self.sweep(base.span);
        let mut digest = InputDigest::new();
        digest.scenario(head);
        let variants = (drafts.iter())
            .filter_map(|draft| self.variant(draft, base, &[]))
            .collect();
        self.complete(Text::from(name), Some(seeds), variants, Vec::new(), digest)
    }

    fn complete(
        &mut self,
        name: Text,
        seeds: Option<Vec<u64>>,
        variants: Vec<Variant>,
        report: Vec<(Text, Span)>,
        mut digest: InputDigest,
    ) -> Option<Experiment> {
        for node in &self.rest {
            digest.document(node);
        }
        for variant in &variants {
            digest.object(&serde_json::json!(variant.name.as_str()));
            match &variant.plan {
                Plan::Cluster(scenario) => {
                    digest.object(&serde_json::json!(scenario.digest.to_string()));
                }
                Plan::Trace(plan) => {
                    // The trace's content; its edits stand in the document.
                    let pods = plan.trace.pods.iter().map(|p| {
                        let requests = format!("{:?}", p.spec.requests);
                        format!("{} {:?} {:?} {requests}", p.name, p.arrival, p.runs)
                    });
                    let pods: Vec<String> = pods.collect();
                    let nodes = format!("{:?} {:?}", plan.nodes, plan.arrivals);
                    digest.object(&serde_json::json!([pods, nodes]));
                }
            }
        }
        Some(Experiment {
            name,
            file: self.path.display().to_string(),
            seeds: seeds?,
            variants,
            report,
            digest: digest.finish(),
            sources: Sources::default(),
            warnings: Vec::new(),
        })
    }

    fn seeds(&mut self, spec: &Fields<'_>) -> Option<Vec<u64>> {
        let written = spec.get("seeds");
        if let Some(seeds) = &self.options.seeds {
            return Some(seeds.clone());
        }
        let Some(value) = written else {
            spec.require("seeds", self.problems);
            return None;
        };
        if value.node.as_list().is_some() {
            let items = value.list(self.problems);
            let mut seeds = Vec::new();
            for item in &items {
                let seed = item.whole(self.problems)?;
                if seeds.contains(&seed) {
                    let wrong = format!("Duplicate value: {seed}");
                    let twice = Diagnostic::error("FieldValueDuplicate", wrong, item.span());
                    self.problems.push(twice.at(item.path.as_str()));
                }
                seeds.push(seed);
            }
            if seeds.is_empty() {
                self.problems.push(value.invalid("must name a seed"));
            }
            return Some(seeds);
        }
        let fields = value.fields(self.problems)?;
        let from = fields.get("from").and_then(|v| v.whole(self.problems));
        let count = fields.require("count", self.problems)?;
        let number = count.count(self.problems)?;
        fields.finish(self.problems);
        if number == 0 || number > 100_000 {
            self.problems.push(count.invalid("must be 1 to 100000"));
            return None;
        }
        let from = from.unwrap_or(1);
        Some((from..from.saturating_add(u64::from(number))).collect())
    }

    fn drafts<'n>(
        &mut self,
        items: &[Value<'n>],
        spec: &Fields<'_>,
        head: &Node,
    ) -> Vec<Draft<'n>> {
        let mut drafts: Vec<Draft<'n>> = Vec::new();
        if items.is_empty() && spec.require("variants", self.problems).is_some() {
            let none = "must have at least one variant";
            let wrong = Diagnostic::error("FieldValueInvalid", none, head.span);
            self.problems.push(wrong.at("spec.variants"));
        }
        for item in items {
            let Some(draft) = draft(item, self.problems) else {
                continue;
            };
            if let Some(first) = drafts.iter().find(|d| d.name == draft.name) {
                let message = format!("Duplicate value: {:?}", draft.name.as_str());
                let twice = Diagnostic::error("FieldValueDuplicate", message, draft.span);
                let first = self.files.sources.locate(first.span);
                let twice = twice.at(format!("{}.name", item.path));
                self.problems
                    .push(twice.cause(format!("the first: {first}")));
            }
            drafts.push(draft);
        }
        drafts
    }

    /// The variants of a sweep: one for each value.
    fn sweep(&mut self, span: Span) -> Vec<Draft<'static>> {
        let Some((path, values)) = &self.options.sweep else {
            return Vec::new();
        };
        let key = path.rsplit('.').next().unwrap_or(path);
        (values.iter())
            .map(|value| Draft {
                name: Text::from(format!("{key}={value}")),
                span,
                scheduler: None,
                patches: Vec::new(),
                set: vec![(path.clone(), scalar(value, span))],
            })
            .collect()
    }

    fn variant(&mut self, draft: &Draft<'_>, base: &Node, faults: &[Value<'_>]) -> Option<Variant> {
        let (mut base, folder, rest) = self.scenario_of(base)?;
        for (path, value) in &draft.set {
            if let Err(wrong) = set(&mut base, path, value.clone()) {
                let refused = Diagnostic::error("FieldValueInvalid", wrong, value.span);
                self.problems.push(refused.at(path.clone()));
                return None;
            }
        }
        if let Some(scheduler) = &draft.scheduler {
            let span = scheduler.span();
            if base.get("cluster").is_none() {
                base.set("cluster", Node::empty_map(span));
            }
            let cluster = base.get_mut("cluster")?;
            cluster.set("scheduler", scheduler.node.clone());
        }
        let plan = if base.get("trace").is_some() {
            for value in &draft.patches {
                let wrong = value.invalid("a run over a trace has no objects to patch");
                self.problems.push(wrong);
            }
            Plan::Trace(self.trace_plan(&base, faults)?)
        } else {
            self.cluster_plan(draft, base, faults, (folder, rest))?
        };
        Some(Variant {
            name: draft.name.clone(),
            plan,
        })
    }

    /// The base, or the `spec` of the Scenario that it names; the folder from which it names files,
    /// and the documents beside it.
    fn scenario_of(&mut self, base: &Node) -> Option<(Node, PathBuf, Vec<Node>)> {
        let Some(file) = base.get("scenario") else {
            return Some((base.clone(), self.base.clone(), self.rest.clone()));
        };
        let path = self.base.join(file.as_str().unwrap_or_default());
        let documents = match self.files.documents(&path, file.span) {
            Ok(documents) => documents,
            Err(problem) => {
                self.problems.push(*problem);
                return None;
            }
        };
        let head = documents.iter().find(|d| text(d, "kind") == "Scenario");
        let Some(spec) = head.and_then(|head| head.get("spec")) else {
            let message = format!("{} holds no Scenario", path.display());
            let wrong = Diagnostic::error("NotFound", message, file.span);
            self.problems.push(wrong);
            return None;
        };
        let mut spec = spec.clone();
        for (key, entry) in base.as_map().into_iter().flatten() {
            if &**key != "scenario" {
                spec.set(key, entry.node.clone());
            }
        }
        let beside = documents.iter().filter(|d| text(d, "kind") != "Scenario");
        let rest = self.rest.iter().chain(beside).cloned().collect();
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Some((spec, folder, rest))
    }

    fn cluster_plan(
        &mut self,
        draft: &Draft<'_>,
        mut spec: Node,
        faults: &[Value<'_>],
        (folder, rest): (PathBuf, Vec<Node>),
    ) -> Option<Plan> {
        let span = spec.span;
        for (key, more) in [("patches", draft.patches.as_slice()), ("timeline", faults)] {
            if more.is_empty() {
                continue;
            }
            if spec.get(key).is_none() {
                spec.set(key, Node::new(NodeValue::List(Vec::new()), span));
            }
            let list = spec.get_mut(key).and_then(Node::as_list_mut)?;
            list.extend(more.iter().map(|value| value.node.clone()));
        }
        if let Some(scheduler) = spec.at("cluster.scheduler").cloned() {
            scheduler_config(Some(&scheduler), self.problems)?;
        }
        let mut head = Node::empty_map(span);
        head.set("apiVersion", Node::text(OWN, span));
        head.set("kind", Node::text("Scenario", span));
        let mut meta = Node::empty_map(span);
        meta.set("name", Node::text("trial", span));
        head.set("metadata", meta);
        head.set("spec", spec);
        let rest: Vec<&Node> = rest.iter().collect();
        let mut reader = Reader {
            files: &mut *self.files,
            base: folder,
            options: &LoadOptions::default(),
            problems: &mut *self.problems,
        };
        reader.scenario(self.path, &head, &rest).map(Plan::Cluster)
    }
}

fn draft<'n>(item: &Value<'n>, problems: &mut Problems) -> Option<Draft<'n>> {
    let fields = item.fields(problems)?;
    let name = fields.require("name", problems);
    let name = name.and_then(|value| value.name(problems));
    let scheduler = fields.get("scheduler");
    let patches = fields.list("patches", problems);
    let set = (fields.get("set")).map_or_else(Vec::new, |v| v.entries(problems));
    fields.finish(problems);
    Some(Draft {
        name: name?,
        span: item.span(),
        scheduler,
        patches,
        set: (set.into_iter())
            .map(|(path, value)| (path.to_owned(), value.node.clone()))
            .collect(),
    })
}

/// A scheduler's configuration; the place of a problem is that of the field it is about.
pub fn scheduler_config(node: Option<&Node>, problems: &mut Problems) -> Option<SchedulerConfig> {
    let Some(node) = node else {
        return Some(SchedulerConfig::default());
    };
    match SchedulerConfig::from_json(&node.to_json()) {
        Ok(config) => Some(config),
        Err(mistakes) => {
            for mistake in &mistakes.0 {
                let mut found = node;
                let mut path = mistake.path.clone();
                // The nearest part of the path that was written.
                while !path.is_empty() {
                    if let Some(inner) = node.at(&path) {
                        found = inner;
                        break;
                    }
                    let end = path.rfind(['.', '[']).unwrap_or(0);
                    path.truncate(end);
                }
                let message = mistake.to_string();
                let wrong = Diagnostic::error("FieldValueInvalid", message, found.span);
                problems.push(wrong.at("scheduler"));
            }
            None
        }
    }
}
