//! The Scenario document: its fields, and the readers of each part.

use std::time::Duration;

use super::cluster;
use super::diagnostic::Diagnostic;
use super::fields::{Fields, Problems, Value};
use super::types::{ClusterSpec, Expectation, Search, Vary};
use super::{expect, timeline};
use crate::api::Text;
use crate::api::yaml::Node;

/// A Scenario document before its files are read.
#[derive(Debug)]
pub struct Spec<'n> {
    /// `metadata.name`.
    pub name: Text,
    /// `spec.kubernetesVersion`.
    pub version: Text,
    /// `spec.seed`.
    pub seed: u64,
    /// `spec.duration`.
    pub duration: Duration,
    /// `spec.namespace`.
    pub namespace: Text,
    /// `spec.cluster`.
    pub cluster: ClusterSpec,
    /// Flags that change nothing.
    pub unused_flags: Vec<String>,
    /// `spec.linux`.
    pub linux: Option<Value<'n>>,
    /// `spec.resources`.
    pub resources: Vec<Value<'n>>,
    /// `spec.replicas`.
    pub replicas: Vec<Value<'n>>,
    /// `spec.patches`.
    pub patches: Vec<Value<'n>>,
    /// `spec.images`.
    pub images: Vec<Value<'n>>,
    /// `spec.timeline`.
    pub timeline: Vec<timeline::StepDraft<'n>>,
    /// `spec.expect`.
    pub expect: Vec<Expectation>,
    /// `spec.search`.
    pub search: Search,
}

/// The seed of a scenario that names none.
const SEED: u64 = 1;

/// The version of a scenario that names none.
const VERSION: &str = cluster::VERSIONS[0];

/// `metadata` of our own kinds: name, and namespace (`default` unless given).
pub fn metadata(
    fields: &Fields<'_>,
    default: &Text,
    problems: &mut Problems,
) -> (Option<Text>, Text) {
    fields.allow(&["apiVersion", "kind"]);
    let metadata = fields.require("metadata", problems);
    let Some(metadata) = metadata.and_then(|value| value.fields(problems)) else {
        return (None, default.clone());
    };
    let name = metadata.require("name", problems).and_then(|value| {
        let name = value.name(problems)?;
        let wrong = crate::api::validate::names::dns_subdomain(&name);
        // The API server has no opinion about our names, but they become names of folders.
        if wrong.is_empty()
            || name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        {
            return Some(name);
        }
        problems.extend(wrong.into_iter().map(|detail| value.invalid(detail)));
        None
    });
    let namespace = metadata.text("namespace", problems);
    metadata.allow(&["labels", "annotations"]);
    metadata.finish(problems);
    (name, namespace.unwrap_or_else(|| default.clone()))
}

/// Reads a Scenario.
pub fn read<'n>(doc: &'n Node, problems: &mut Problems) -> Option<Spec<'n>> {
    let fields = Fields::document(doc);
    let (name, _) = metadata(&fields, &Text::from("default"), problems);
    let spec = fields
        .require("spec", problems)
        .and_then(|value| value.fields(problems));
    fields.finish(problems);
    let spec = spec?;
    let version = version(&spec, problems);
    let seed = spec.get("seed").and_then(|value| value.whole(problems));
    let duration = spec.require("duration", problems).and_then(|value| {
        let duration = value.duration(problems)?;
        if duration.is_zero() {
            problems.push(value.invalid("must be longer than 0"));
        }
        Some(duration)
    });
    let namespace = spec.get("namespace").and_then(|value| value.name(problems));
    let cluster = spec.require("cluster", problems);
    let cluster = cluster.and_then(|value| cluster::read(&value, &version, problems));
    let (cluster, unused_flags) = cluster.unwrap_or_default();
    // With a duration that cannot be read no time is too late.
    let length = duration.unwrap_or(Duration::MAX);
    let this = Spec {
        name: name.clone().unwrap_or_default(),
        version,
        seed: seed.unwrap_or(SEED),
        duration: length,
        namespace: namespace.unwrap_or_else(|| Text::from("default")),
        cluster,
        unused_flags,
        linux: spec.get("linux"),
        resources: spec.list("resources", problems),
        replicas: spec.list("replicas", problems),
        patches: spec.list("patches", problems),
        images: spec.list("images", problems),
        timeline: timeline::read(&spec.list("timeline", problems), length, problems),
        expect: expect::read(&spec.list("expect", problems), length, problems),
        search: (spec.fields("search", problems))
            .map_or_else(Search::default, |fields| search(&fields, problems)),
    };
    spec.finish(problems);
    (name.is_some() && duration.is_some()).then_some(this)
}

/// The words of `search.vary`.
pub const VARY: [&str; 3] = ["seed", "timeline.at", "optional"];

/// What these words mean.
pub fn vary(words: &[&str]) -> Vary {
    Vary {
        seed: words.contains(&VARY[0]),
        times: words.contains(&VARY[1]),
        optional: words.contains(&VARY[2]),
    }
}

fn search(fields: &Fields<'_>, problems: &mut Problems) -> Search {
    let items = fields.list("vary", problems);
    let words: Vec<&str> = (items.iter())
        .filter_map(|item| item.word(&VARY, problems))
        .collect();
    if let (Some(value), true) = (fields.get("vary"), items.is_empty()) {
        problems.push(value.invalid("must name something that differs"));
    }
    let budget = fields.get("budget");
    let runs = budget.as_ref().and_then(|value| value.count(problems));
    if let (Some(value), Some(0)) = (budget, runs) {
        problems.push(value.invalid("must be greater than 0"));
    }
    fields.finish(problems);
    Search {
        vary: if items.is_empty() {
            Vary::default()
        } else {
            vary(&words)
        },
        budget: runs,
    }
}

fn version(spec: &Fields<'_>, problems: &mut Problems) -> Text {
    let standard = Text::from(VERSION);
    let Some(value) = spec.get("kubernetesVersion") else {
        return standard;
    };
    let Some(text) = value.name(problems) else {
        return standard;
    };
    let plain = text.trim_start_matches('v');
    let minor: Vec<&str> = plain.splitn(3, '.').take(2).collect();
    let minor = minor.join(".");
    if !cluster::VERSIONS.contains(&minor.as_str()) {
        let message = format!("Unsupported value: {:?}", text.as_str());
        let known = format!("known are: {}", cluster::VERSIONS.join(", "));
        let unknown = Diagnostic::error("FieldValueNotSupported", message, value.span());
        problems.push(unknown.at(value.path.as_str()).hint(known));
        return standard;
    }
    Text::from(minor)
}
