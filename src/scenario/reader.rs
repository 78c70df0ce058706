//! One scenario with all that it names: the order in which its parts are read and checked.

use std::path::{Path, PathBuf};

use super::app_model::{self, AppDraft};
use super::chaos::{self, Family};
use super::checks::Checks;
use super::diagnostic::Diagnostic;
use super::digest::InputDigest;
use super::fields::{Problems, Value};
use super::files::Files;
use super::kustomize::Edits;
use super::linux;
use super::load::{LoadOptions, OWN, text};
use super::objects::{self, Decoded};
use super::reference::Known;
use super::spec::{self, Spec};
use super::steps::Named;
use super::traffic::{self, TrafficDraft};
use super::types::{Applied, Scenario, Step, StepAction, StepItem};
use crate::api::decode::DecodeContext;
use crate::api::yaml::{Node, Span};

/// Reads one scenario.
pub struct Reader<'r> {
    /// All files.
    pub files: &'r mut Files,
    /// The folder of the scenario's file.
    pub base: PathBuf,
    /// The command line.
    pub options: &'r LoadOptions,
    /// Problems found.
    pub problems: &'r mut Problems,
}

/// Documents by what they are.
#[derive(Default)]
struct Sorted {
    apps: Vec<Node>,
    traffic: Vec<Node>,
    faults: Vec<Node>,
    objects: Vec<Node>,
}

/// The kinds that a scenario file may hold beside the Scenario itself, and it.
pub const OUR_KINDS: [&str; 5] = [
    "Scenario",
    "AppModel",
    "Traffic",
    "NodeChaos",
    "ControlPlaneChaos",
];

impl Reader<'_> {
    /// Reads the scenario of the document `head`; `rest` are the other documents of its file.
    pub fn scenario(&mut self, path: &Path, head: &Node, rest: &[&Node]) -> Option<Scenario> {
        let spec = spec::read(head, self.problems)?;
        let linux = linux::read(spec.linux.as_ref(), &self.base, self.problems);
        let mut context = DecodeContext {
            default_namespace: spec.namespace.to_string(),
            version: spec.version.to_string(),
            ..DecodeContext::default()
        };
        let mut nodes: Vec<Node> = self.resources(&spec);
        nodes.extend(rest.iter().copied().cloned());
        let mut sorted = self.sort(nodes);
        let mut edits = Edits {
            lenient: false,
            files: &mut *self.files,
            base: &self.base,
            namespace: &spec.namespace,
            problems: &mut *self.problems,
        };
        edits.patches(&spec.patches, &mut sorted.objects);
        edits.images(&spec.images, &mut sorted.objects);
        edits.replicas(&spec.replicas, &mut sorted.objects);
        context.learn(&sorted.objects);
        let mut digest = InputDigest::new();
        digest.scenario(head);
        let mut decoded = objects::decode_all(&sorted.objects, &context, self.problems);
        decoded.objects = objects::settle(decoded.objects, self.problems);
        self.add_namespaces(&mut decoded, &spec, &context);
        let apps = sorted.apps.iter();
        let apps = apps.filter_map(|doc| app_model::read(doc, &spec.namespace, self.problems));
        let apps: Vec<AppDraft<'_>> = apps.collect();
        let traffic: Vec<TrafficDraft<'_>> = (sorted.traffic.iter())
            .filter_map(|doc| traffic::read(doc, &spec.namespace, spec.duration, self.problems))
            .collect();
        self.unique(&apps, &traffic);
        for node in sorted.apps.iter().chain(&sorted.traffic) {
            digest.document(node);
        }
        let mut named = Named::default();
        let timeline = self.timeline(&spec, &context, &mut decoded, &mut named, &mut digest);
        for object in &decoded.objects {
            digest.object(&object.json);
        }
        self.list_unused(&spec, &sorted, &mut decoded);
        self.check(&spec, &decoded, &timeline, &apps, &traffic, &named);
        let all = traffic.iter();
        let thresholds = all.flat_map(|draft| draft.thresholds.clone()).collect();
        Some(Scenario {
            name: spec.name.clone(),
            file: path.display().to_string(),
            span: head.span,
            seed: self.options.seed.unwrap_or(spec.seed),
            duration: (self.options.until).map_or(spec.duration, |t| t.min(spec.duration)),
            namespace: spec.namespace.clone(),
            objects: decoded.objects,
            timeline,
            expect: spec.expect,
            search: spec.search,
            apps: apps.into_iter().map(|draft| draft.model).collect(),
            traffic: traffic.into_iter().map(|draft| draft.traffic).collect(),
            thresholds,
            not_modelled: decoded.not_modelled.into_iter().collect(),
            digest: digest.finish(),
            version: spec.version,
            cluster: spec.cluster,
            linux,
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
    pub fn path(&self, name: &str) -> PathBuf {
        match name {
            // The standard input belongs to the command line.
            "-" => self.base.join("./-"),
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
                        let message = format!("no kind {kind:?} in version {version:?}");
                        let wrong = Diagnostic::error("BadRequest", message, node.span);
                        self.problems.push(match version == OWN {
                            true => wrong.suggest(kind, OUR_KINDS),
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
        named: &Named,
    ) {
        let mut known = Known::default();
        let mut objects: Vec<&Applied> = decoded.objects.iter().collect();
        for step in timeline {
            match &step.action {
                StepAction::Kubectl(kubectl) => objects.extend(&kubectl.objects),
                StepAction::Apply(items) => {
                    objects.extend(items.iter().filter_map(|item| match item {
                        StepItem::Object(object) => Some(&**object),
                        StepItem::Fault(_) | StepItem::Plan(_) => None,
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
            sources: &self.files.sources,
            problems: self.problems,
        };
        checks.apps(apps);
        checks.traffic(traffic);
        checks.faults(&named.faults);
        checks.commands(&named.commands);
        checks.expectations(&spec.expect);
    }
}
