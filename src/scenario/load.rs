//! Files into scenarios: the order in which everything is read and checked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::app_model::{self, AppDraft};
use super::chaos::{self, Family, FaultDraft};
use super::checks::Checks;
use super::diagnostic::{Diagnostic, render};
use super::digest::InputDigest;
use super::fields::{Problems, Value};
use super::files::Files;
use super::kustomize::Edits;
use super::objects::{self, Decoded};
use super::reference::Known;
use super::spec::{self, Spec};
use super::timeline::{Action, StepDraft};
use super::traffic::{self, TrafficDraft};
use super::types::{Applied, KubectlStep, Scenario, Step, StepAction, StepItem};
use crate::api::Text;
use crate::api::decode::DecodeContext;
use crate::api::yaml::{Node, Sources, Span};

/// What the command line says about every scenario.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// `--resources`: instead of `spec.resources`; paths from the working directory.
    pub resources: Option<Vec<PathBuf>>,
    /// `--seed`: instead of `spec.seed`.
    pub seed: Option<u64>,
    /// `--until`: end earlier than `spec.duration`.
    pub until: Option<Duration>,
}

/// Scenarios that can run.
#[derive(Debug)]
pub struct Loaded {
    /// The scenarios, in the order of files.
    pub scenarios: Vec<Scenario>,
    /// Names and texts of all files.
    pub sources: Sources,
    /// What is probably not meant.
    pub warnings: Vec<Diagnostic>,
}

/// Why nothing can run.
#[derive(Debug)]
pub struct Rejected {
    /// Every problem found, warnings among them, in the order of files.
    pub diagnostics: Vec<Diagnostic>,
    /// Names and texts of all files.
    pub sources: Sources,
}

impl Rejected {
    /// All errors as text for people.
    pub fn render(&self, colour: bool) -> String {
        let errors: Vec<Diagnostic> = self
            .diagnostics
            .iter()
            .filter(|d| d.is_error())
            .cloned()
            .collect();
        render(&errors, &self.sources, colour)
    }
}

/// The group and version of our own kinds.
pub const OWN: &str = "rehearsal.dev/v1";

/// Reads scenarios. A folder means all scenarios in and below it.
///
/// # Errors
/// When anything in any of them is wrong; all problems are reported together.
pub fn load(paths: &[PathBuf], options: &LoadOptions) -> Result<Loaded, Rejected> {
    let mut files = Files::new();
    let mut problems = Problems::new();
    let mut scenarios = Vec::new();
    for path in paths {
        read_path(path, options, &mut files, &mut scenarios, &mut problems);
    }
    if paths.is_empty() {
        problems.push(Diagnostic::error(
            "NotFound",
            "no scenario was named",
            Span::NONE,
        ));
    }
    let mut seen = Problems::new();
    for problem in problems {
        // Two scenarios of one file share its documents.
        if !seen.contains(&problem) {
            seen.push(problem);
        }
    }
    if seen.iter().any(Diagnostic::is_error) {
        return Err(Rejected {
            diagnostics: seen,
            sources: files.sources,
        });
    }
    Ok(Loaded {
        scenarios,
        sources: files.sources,
        warnings: seen,
    })
}

fn read_path(
    path: &Path,
    options: &LoadOptions,
    files: &mut Files,
    scenarios: &mut Vec<Scenario>,
    problems: &mut Problems,
) {
    if !path.is_dir() || path.as_os_str() == "-" {
        read_file(path, options, files, scenarios, problems);
        return;
    }
    let before = scenarios.len();
    let mut found = false;
    for file in files.manifests(path, problems) {
        match files.documents(&file, Span::NONE) {
            Ok(documents) if documents.iter().any(is_scenario) => {
                found = true;
                read_file(&file, options, files, scenarios, problems);
            }
            _ => {}
        }
    }
    if !found && scenarios.len() == before {
        let message = format!(
            "{}: no file in this folder holds a Scenario",
            path.display()
        );
        problems.push(Diagnostic::error("NotFound", message, Span::NONE));
    }
}

fn text<'n>(node: &'n Node, key: &str) -> &'n str {
    node.get(key).and_then(Node::as_str).unwrap_or_default()
}

fn is_scenario(node: &Node) -> bool {
    text(node, "kind") == "Scenario" && text(node, "apiVersion").starts_with("rehearsal.dev/")
}

fn read_file(
    path: &Path,
    options: &LoadOptions,
    files: &mut Files,
    scenarios: &mut Vec<Scenario>,
    problems: &mut Problems,
) {
    let documents = match files.documents(path, Span::NONE) {
        Ok(documents) => documents,
        Err(problem) => {
            problems.push(*problem);
            return;
        }
    };
    let (heads, rest): (Vec<&Node>, Vec<&Node>) = documents.iter().partition(|d| is_scenario(d));
    if heads.is_empty() {
        problems.push(no_scenario(path, &documents));
    }
    for head in &heads {
        let version = text(head, "apiVersion");
        if version != OWN {
            let message = format!("no kind \"Scenario\" in version {version:?}");
            let wrong = Diagnostic::error("BadRequest", message, head.span);
            problems.push(wrong.hint(format!("apiVersion: {OWN}")));
            continue;
        }
        if let Some(other) = scenarios.iter().find(|s| s.name == text_of_name(head)) {
            let message = format!("a second scenario is called {}", other.name);
            let place = files.sources.locate(other.span);
            problems.push(
                Diagnostic::error("Duplicate", message, head.span)
                    .cause(format!("the first: {place}")),
            );
        }
        let mut reader = Reader {
            files: &mut *files,
            base: folder(path),
            options,
            problems: &mut *problems,
        };
        scenarios.extend(reader.scenario(path, head, &rest));
    }
}

fn text_of_name(head: &Node) -> &str {
    head.at("metadata.name")
        .and_then(Node::as_str)
        .unwrap_or_default()
}

fn folder(path: &Path) -> PathBuf {
    match path.as_os_str() == "-" {
        true => PathBuf::new(),
        false => path.parent().unwrap_or(Path::new("")).to_owned(),
    }
}

fn no_scenario(path: &Path, documents: &[Node]) -> Diagnostic {
    let message = format!("{} holds no Scenario", path.display());
    let span = documents
        .first()
        .map_or(Span::NONE, |document| document.span);
    let kinds: Vec<&str> = documents
        .iter()
        .map(|document| text(document, "kind"))
        .collect();
    let missing = Diagnostic::error("NotFound", message, span);
    if kinds
        .iter()
        .any(|kind| matches!(*kind, "Experiment" | "Search"))
    {
        return missing.hint("an Experiment is run by `compare`, a Search by `search`");
    }
    missing.hint("run a scenario on these manifests with --resources, or `rehearsal audit` them")
}

/// Reads one scenario.
struct Reader<'r> {
    files: &'r mut Files,
    /// The folder of the scenario's file.
    base: PathBuf,
    options: &'r LoadOptions,
    problems: &'r mut Problems,
}

/// Documents by what they are.
#[derive(Default)]
struct Sorted {
    apps: Vec<Node>,
    traffic: Vec<Node>,
    faults: Vec<Node>,
    objects: Vec<Node>,
}

impl Reader<'_> {
    fn scenario(&mut self, path: &Path, head: &Node, rest: &[&Node]) -> Option<Scenario> {
        let spec = spec::read(head, self.problems)?;
        let context = DecodeContext {
            default_namespace: spec.namespace.to_string(),
            version: spec.version.to_string(),
            ..DecodeContext::default()
        };
        let mut nodes: Vec<Node> = self.resources(&spec);
        nodes.extend(rest.iter().map(|node| (*node).clone()));
        let mut sorted = self.sort(nodes);
        let mut edits = Edits {
            files: &mut *self.files,
            base: &self.base,
            namespace: &spec.namespace,
            problems: &mut *self.problems,
        };
        edits.patches(&spec.patches, &mut sorted.objects);
        edits.images(&spec.images, &mut sorted.objects);
        edits.replicas(&spec.replicas, &mut sorted.objects);

        let mut digest = InputDigest::new();
        digest.scenario(head);
        let mut decoded = objects::decode_all(&sorted.objects, &context, self.problems);
        decoded.objects = objects::settle(decoded.objects, self.problems);
        self.add_namespaces(&mut decoded, &spec, &context);
        let apps: Vec<AppDraft<'_>> = (sorted.apps.iter())
            .filter_map(|doc| app_model::read(doc, &spec.namespace, self.problems))
            .collect();
        let traffic: Vec<TrafficDraft<'_>> = (sorted.traffic.iter())
            .filter_map(|doc| traffic::read(doc, &spec.namespace, spec.duration, self.problems))
            .collect();
        self.unique(&apps, &traffic);
        for node in sorted.apps.iter().chain(&sorted.traffic) {
            digest.document(node);
        }
        let mut faults = Vec::new();
        let timeline = self.timeline(&spec, &context, &mut decoded, &mut faults, &mut digest);
        for object in &decoded.objects {
            digest.object(&object.json);
        }
        self.list_unused(&spec, &sorted, &mut decoded);
        self.check(&spec, &decoded, &timeline, &apps, &traffic, &faults);
        let thresholds = traffic
            .iter()
            .flat_map(|draft| draft.thresholds.clone())
            .collect();
        Some(Scenario {
            name: spec.name.clone(),
            file: path.display().to_string(),
            span: head.span,
            seed: self.options.seed.unwrap_or(spec.seed),
            duration: self
                .options
                .until
                .map_or(spec.duration, |until| until.min(spec.duration)),
            namespace: spec.namespace.clone(),
            objects: decoded.objects,
            timeline,
            expect: spec.expect,
            apps: apps.into_iter().map(|draft| draft.model).collect(),
            traffic: traffic.into_iter().map(|draft| draft.traffic).collect(),
            thresholds,
            not_modelled: decoded.not_modelled.into_iter().collect(),
            digest: digest.finish(),
            version: spec.version,
            cluster: spec.cluster,
        })
    }

    /// The documents of `--resources` or `spec.resources`.
    fn resources(&mut self, spec: &Spec<'_>) -> Vec<Node> {
        let mut nodes = Vec::new();
        if let Some(paths) = &self.options.resources {
            for path in paths {
                let found = self
                    .files
                    .collect(path, Span::NONE, &mut Vec::new(), self.problems);
                if found.is_empty() {
                    let message = format!("{} holds no objects", path.display());
                    self.problems
                        .push(Diagnostic::warning("NotFound", message, Span::NONE));
                }
                nodes.extend(found);
            }
            return nodes;
        }
        for item in &spec.resources {
            let Some(name) = item.name(self.problems) else {
                continue;
            };
            let path = self.path(&name);
            let stack = &mut Vec::new();
            nodes.extend(self.files.collect(&path, item.span(), stack, self.problems));
        }
        nodes
    }

    /// A path that a scenario names, from its own folder.
    fn path(&self, name: &str) -> PathBuf {
        match name {
            "-" => PathBuf::from("-"),
            name => self.base.join(name),
        }
    }

    fn sort(&mut self, nodes: Vec<Node>) -> Sorted {
        let mut sorted = Sorted::default();
        for node in nodes {
            match (text(&node, "apiVersion"), text(&node, "kind")) {
                (OWN, "AppModel") => sorted.apps.push(node),
                (OWN, "Traffic") => sorted.traffic.push(node),
                (version, kind) if version.starts_with("rehearsal.dev/") => {
                    if chaos::family(&node) == Family::Own && version == OWN {
                        sorted.faults.push(node);
                    } else {
                        let known = ["Scenario", "AppModel", "Traffic", "NodeChaos"];
                        let message = format!("no kind {kind:?} in version {version:?}");
                        let wrong = Diagnostic::error("BadRequest", message, node.span);
                        self.problems.push(match version == OWN {
                            true => wrong.suggest(kind, known),
                            false => wrong.hint(format!("apiVersion: {OWN}")),
                        });
                    }
                }
                _ if chaos::family(&node) == Family::ChaosMesh => sorted.faults.push(node),
                _ => sorted.objects.push(node),
            }
        }
        sorted
    }

    fn add_namespaces(&mut self, decoded: &mut Decoded, spec: &Spec<'_>, context: &DecodeContext) {
        let own = [spec.namespace.clone()];
        let missing = objects::missing_namespaces(&decoded.objects, &own);
        for (name, span) in missing.into_iter().rev() {
            if span.is_known() {
                let message = format!(
                    "namespace {} is not among the objects: created",
                    name.as_str()
                );
                self.problems
                    .push(Diagnostic::warning("NotFound", message, span));
            }
            if let Some(namespace) = objects::namespace(&name, context) {
                decoded.objects.insert(0, namespace);
            }
        }
    }

    fn unique(&mut self, apps: &[AppDraft<'_>], traffic: &[TrafficDraft<'_>]) {
        for (at, draft) in apps.iter().enumerate() {
            let same = |other: &AppDraft<'_>| {
                other.model.name == draft.model.name
                    && other.model.namespace == draft.model.namespace
            };
            if apps[..at].iter().any(same) {
                let message = format!("a second AppModel is called {}", draft.model.name);
                let twice = Diagnostic::error("Duplicate", message, draft.selector.span());
                self.problems.push(twice);
            }
        }
        for (at, draft) in traffic.iter().enumerate() {
            if traffic[..at]
                .iter()
                .any(|other| other.traffic.name == draft.traffic.name)
            {
                let message = format!("a second Traffic is called {}", draft.traffic.name);
                let span = draft.to.as_ref().map_or(Span::NONE, Value::span);
                self.problems
                    .push(Diagnostic::error("Duplicate", message, span));
            }
        }
    }

    fn timeline(
        &mut self,
        spec: &Spec<'_>,
        context: &DecodeContext,
        decoded: &mut Decoded,
        faults: &mut Vec<FaultDraft>,
        digest: &mut InputDigest,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        for draft in &spec.timeline {
            let action = match &draft.action {
                Action::Kubectl(value, line) => {
                    let objects = self.manifests_of(value, line, context, decoded, digest);
                    StepAction::Kubectl(KubectlStep {
                        line: line.clone(),
                        span: value.span(),
                        objects,
                    })
                }
                Action::Apply(items) => {
                    StepAction::Apply(self.apply(items, spec, context, decoded, faults, digest))
                }
            };
            steps.push(step(draft, action));
        }
        let mut names: Vec<Text> = Vec::new();
        for draft in faults.iter() {
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
            if chaos::family(&node) != Family::None {
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

    /// Counts what changes nothing.
    fn list_unused(&mut self, spec: &Spec<'_>, sorted: &Sorted, decoded: &mut Decoded) {
        for flag in &spec.unused_flags {
            *decoded.not_modelled.entry(flag.clone()).or_default() += 1;
        }
        for fault in &sorted.faults {
            let kind = text(fault, "kind");
            let message = format!("this {kind} is never applied");
            let idle = Diagnostic::warning("NotModelled", message, fault.span);
            self.problems.push(idle.hint("apply it in `spec.timeline`"));
            *decoded
                .not_modelled
                .entry(format!("{kind} (not in the timeline)"))
                .or_default() += 1;
        }
    }

    fn check(
        &mut self,
        spec: &Spec<'_>,
        decoded: &Decoded,
        timeline: &[Step],
        apps: &[AppDraft<'_>],
        traffic: &[TrafficDraft<'_>],
        faults: &[FaultDraft],
    ) {
        let mut known = Known::default();
        let mut objects: Vec<&Applied> = decoded.objects.iter().collect();
        for step in timeline {
            match &step.action {
                StepAction::Kubectl(kubectl) => objects.extend(&kubectl.objects),
                StepAction::Apply(items) => {
                    objects.extend(items.iter().filter_map(|item| match item {
                        StepItem::Object(object) => Some(&**object),
                        StepItem::Fault(_) => None,
                    }))
                }
            }
        }
        objects.iter().for_each(|object| known.add(&object.row));
        for pool in &spec.cluster.pools {
            (0..pool.count).for_each(|n| known.add_plain("Node", &format!("{}-{n}", pool.name)));
        }
        for class in &spec.cluster.storage_classes {
            known.add_plain("StorageClass", &class.name);
        }
        for namespace in objects::NAMESPACES {
            known.add_plain("Namespace", namespace);
        }
        let mut checks = Checks {
            known: &known,
            objects: &objects,
            spec,
            problems: self.problems,
        };
        checks.apps(apps);
        checks.traffic(traffic);
        checks.faults(faults);
        checks.expectations(&spec.expect);
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
fn file_arguments(line: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut words = line
        .split_whitespace()
        .map(|word| word.trim_matches(['"', '\'']));
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
