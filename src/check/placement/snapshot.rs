//! Questions about files: a snapshot of a cluster, and the scheduler's configuration.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::{Question, put};
use crate::api::yaml::{closest, parse_documents};
use crate::api::{Kind, Pod, Row, Text};
use crate::engine::{Draws, Time};
use crate::scenario::{Diagnostic, Snapshot};
use crate::sched::SchedulerConfig;
use crate::store::admit::resolve_priority;
use crate::store::{ObjectId, View};

/// Later than any start time in a snapshot: instants in it count from the Unix epoch.
const NOW: Time = Time::from_secs(4_000_000_000);

/// Reads a KubeSchedulerConfiguration.
///
/// # Errors
/// What is wrong with it, in one line with the file's name.
pub fn config(path: &Path) -> Result<SchedulerConfig, String> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|e| format!("cannot read {shown}: {e}"))?;
    let mut sources = crate::api::yaml::Sources::new();
    let file = sources.add(shown.to_string());
    let documents = parse_documents(file, &bytes, &Default::default())
        .map_err(|e| format!("{}: {}", sources.locate(e.span), e.message))?;
    let [document] = &documents[..] else {
        let count = documents.len();
        return Err(format!("{shown}: {count} documents, one is wanted"));
    };
    SchedulerConfig::from_json(&document.to_json())
        .map_err(|e| format!("{}: {e}", sources.locate(document.span)))
}

/// The view of a snapshot: every object is there, and pods are where their specs say.
fn view_of(snapshot: &Snapshot) -> View {
    let mut view = View::default();
    let mut next: BTreeMap<Kind, u32> = BTreeMap::new();
    for object in &snapshot.objects {
        let kind = object.row.kind();
        let index = next.entry(kind).or_insert(0);
        let id = ObjectId {
            kind,
            index: *index,
        };
        *index += 1;
        let row = match &object.row {
            Row::Pod(pod) if pod.node_name.is_none() && !pod.spec.node_name.is_empty() => {
                let mut pod = Pod::clone(pod);
                pod.node_name = Some(pod.spec.node_name.clone());
                Row::Pod(Arc::new(pod))
            }
            row => row.clone(),
        };
        put(&mut view, id, Some(row));
    }
    view
}

/// `[namespace/]name`.
fn full(name: &str) -> (&str, &str) {
    name.split_once('/').unwrap_or(("default", name))
}

/// What the pod `[namespace/]name` of a snapshot asks for that no node is asked about.
pub fn not_asked(snapshot: &Snapshot, name: &str) -> Vec<Diagnostic> {
    let (namespace, bare) = full(name);
    let asked = snapshot.objects.iter().filter(|object| {
        let meta = object.row.meta();
        object.row.kind() == Kind::Pod && meta.namespace == *namespace && meta.name == *bare
    });
    let claims = asked.filter(|pod| {
        let claims = pod.json["spec"]["resourceClaims"].as_array();
        claims.is_some_and(|claims| !claims.is_empty())
    });
    let why = "DynamicResources is not modelled: nodes are judged as if the pod had no claims";
    claims
        .map(|pod| Diagnostic::warning("NotModelled", why, pod.span).at("spec.resourceClaims"))
        .collect()
}

/// The question about the pod `[namespace/]name` of a snapshot. One that has a node is asked about as
/// if it had none.
///
/// # Errors
/// When there is no such pod, or its priority class is not there.
pub fn of_files(
    snapshot: &Snapshot,
    name: &str,
    config: SchedulerConfig,
) -> Result<Question, String> {
    let mut view = view_of(snapshot);
    let (namespace, bare) = full(name);
    let Some((id, pod)) = view.pods().find(namespace, bare) else {
        return Err(no_pod(&view, name, namespace, bare));
    };
    let id = ObjectId {
        kind: Kind::Pod,
        index: id.0,
    };
    let mut pod = Pod::clone(pod);
    let node = pod.node_name.take();
    let spec = Arc::make_mut(&mut pod.spec);
    // Where it was put is no wish of its author.
    spec.node_name = Text::default();
    if spec.source.get("priority").is_none() {
        resolve_priority(spec, &view).map_err(|error| format!("pod {name}: {error}"))?;
    }
    let pod = Arc::new(pod);
    put(&mut view, id, Some(Row::Pod(pod.clone())));
    Ok(Question {
        pod,
        view,
        config,
        draws: Draws::new(0),
        now: NOW,
        node,
        cycle: None,
    })
}

fn no_pod(view: &View, name: &str, namespace: &str, bare: &str) -> String {
    let message = format!("there is no pod {name} in these files");
    let pods = || view.pods().iter().map(|(_, pod)| &pod.meta);
    if let Some(meta) = pods().find(|meta| meta.name == bare) {
        let there = meta.full_name();
        return format!("{message}, namespace {namespace}\nhint: did you mean {there}?");
    }
    let names: Vec<String> = pods().map(|meta| meta.full_name()).collect();
    let alike = closest(bare, pods().map(|meta| meta.name.as_str()));
    match alike.and_then(|near| pods().find(|meta| meta.name == near)) {
        Some(near) => format!("{message}\nhint: did you mean {}?", near.full_name()),
        None if names.is_empty() => format!("{message}: they hold no pods"),
        None => format!(
            "{message}\nhint: there are {} pods, {} among them",
            names.len(),
            names[0]
        ),
    }
}
