//! Short names: which workload a pod belongs to, which pods a node ran, what a Service had.

use std::collections::BTreeMap;

use crate::api::Text;
use crate::engine::Time;
use crate::record::{CauseEntry, EndpointPoint, EntryId, PodLife, RunRecord, SpecChange};

/// Look-ups into a record.
pub struct Names<'r> {
    /// The record.
    pub run: &'r RunRecord,
    deployment_of: BTreeMap<(&'r str, &'r str), &'r str>,
    pods: BTreeMap<(&'r str, &'r str), &'r PodLife>,
    zones: BTreeMap<&'r str, &'r str>,
}

impl<'r> Names<'r> {
    /// Reads what there is to look up.
    pub fn new(run: &'r RunRecord) -> Self {
        let steps = run.rollouts.iter().filter(|s| !s.deployment.is_empty());
        let pods = run.pods.iter();
        Names {
            run,
            deployment_of: steps
                .map(|s| ((&*s.namespace, &*s.replica_set), &*s.deployment))
                .collect(),
            pods: pods.map(|p| ((&*p.namespace, &*p.name), p)).collect(),
            zones: run.nodes.iter().map(|n| (&*n.node, &*n.zone)).collect(),
        }
    }

    /// Seconds and minutes from the run's beginning.
    pub fn clock(&self, at: Time) -> String {
        super::number::clock(at, self.run.header.begun)
    }

    /// The Deployment of a pod, else its owner, else the pod itself.
    pub fn app(&self, pod: &'r PodLife) -> &'r str {
        let Some((kind, name)) = pod.owner.split_once('/') else {
            return &pod.name;
        };
        let deployment = self.deployment_of.get(&(&*pod.namespace, name));
        match deployment {
            Some(deployment) if kind == "ReplicaSet" => deployment,
            _ => name,
        }
    }

    /// A pod by name.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<&'r PodLife> {
        self.pods.get(&(namespace, name)).copied()
    }

    /// A pod by `namespace/name`.
    pub fn pod_by_full_name(&self, full: &str) -> Option<&'r PodLife> {
        let (namespace, name) = full.split_once('/')?;
        self.pod(namespace, name)
    }

    /// ` (zone b)`, or nothing.
    pub fn zone(&self, node: &str) -> String {
        match self.zones.get(node) {
            Some(zone) if !zone.is_empty() => format!(" (zone {zone})"),
            _ => String::new(),
        }
    }

    /// Pods that were bound to a node and not gone at a time.
    pub fn pods_on(&self, node: &str, at: Time) -> impl Iterator<Item = &'r PodLife> {
        let (run, node) = (self.run, node.to_owned());
        run.pods.iter().filter(move |p| {
            *p.node == *node && p.scheduled.is_some_and(|s| s <= at) && alive(p, at)
        })
    }

    /// Endpoints of the Service that a Traffic's `to` names, `service/[namespace/]name[:port]`.
    pub fn endpoints_of(&self, to: &str) -> Option<(&'r str, &'r [EndpointPoint])> {
        let name = service_name(to);
        let full = |key: &str| key == name || key.rsplit('/').next() == Some(name);
        let found = self.run.endpoints.iter().find(|(key, _)| full(key));
        found.map(|(key, points)| (key.as_str(), points.as_slice()))
    }

    /// What Traffics go to, by bare name.
    pub fn targets(&self) -> Vec<&'r str> {
        let users = self.run.traffic.iter().filter(|t| !t.internal);
        users.map(|t| bare(service_name(&t.to))).collect()
    }

    /// The first entry of the chain that an entry ends.
    pub fn root(&self, entry: &'r CauseEntry) -> &'r CauseEntry {
        let mut at = entry;
        while let Some(parent) = at.parent.and_then(|id| self.entry(id)) {
            at = parent;
        }
        at
    }

    /// An entry by number; parents come before their children.
    pub fn entry(&self, id: EntryId) -> Option<&'r CauseEntry> {
        self.run.causes.get(id as usize)
    }

    /// The desired state of a Deployment (by bare name) at a time.
    pub fn spec_at(&self, deployment: &str, at: Time) -> Option<&'r SpecChange> {
        let mine = |s: &&SpecChange| bare(&s.deployment) == deployment && s.at <= at;
        self.run.specs.iter().rfind(mine)
    }
}

/// `frontend` of `service/shop/frontend:80`: the reference without kind and port.
pub fn service_name(to: &str) -> &str {
    let name = ["service/", "svc/", "services/"]
        .iter()
        .find_map(|kind| to.strip_prefix(kind))
        .unwrap_or(to);
    name.split(':').next().unwrap_or(name)
}

/// The name without its namespace.
pub fn bare(full: &str) -> &str {
    full.rsplit('/').next().unwrap_or(full)
}

/// The tag of an image, or the image when it has none: `v2`.
pub fn tag(image: &str) -> &str {
    let last = bare(image);
    last.split('@')
        .next()
        .and_then(|name| name.split_once(':'))
        .map_or(last, |(_, tag)| tag)
}

/// Whether a pod was in the API at a time.
pub fn alive(pod: &PodLife, at: Time) -> bool {
    pod.created <= at && pod.gone.is_none_or(|g| g > at)
}

/// Whether a pod was ready at a time, as the API said.
pub fn ready_at(pod: &PodLife, at: Time) -> bool {
    let last = |times: &[Time]| times.iter().copied().filter(|t| *t <= at).max();
    let up = last(&pod.ready_again).max(pod.ready.filter(|t| *t <= at));
    up.is_some() && alive(pod, at) && last(&pod.unready).is_none_or(|down| Some(down) < up)
}

/// `a, b, c` of few, `a, b, c … and 4 more` of many.
pub fn listed<S: AsRef<str>>(names: &[S]) -> String {
    let first: Vec<&str> = names.iter().take(3).map(AsRef::as_ref).collect();
    match names.len() {
        0..=3 => first.join(", "),
        n => format!("{} … and {} more", first.join(", "), n - 3),
    }
}

/// How many of each: `2 frontend, 1 cart`, the most first.
pub fn counted<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(u64, &'a str)> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    let mut rows: Vec<(u64, &str)> = counts.into_iter().map(|(name, n)| (n, name)).collect();
    rows.sort_by_key(|(n, name)| (std::cmp::Reverse(*n), *name));
    rows
}

/// `2 frontend pods`, `2 frontend and 3 other pods` where users go to frontend, else
/// `5 pods of 3 workloads`.
pub fn pods_by_app<'a>(names: &Names<'_>, apps: impl Iterator<Item = &'a str>) -> String {
    let rows = counted(apps);
    let all: u64 = rows.iter().map(|(n, _)| n).sum();
    let plural = if all == 1 { "" } else { "s" };
    let targets = names.targets();
    match rows.as_slice() {
        [] => "no pods".to_owned(),
        [(n, app)] => format!("{n} {app} pod{plural}"),
        _ => match rows.iter().find(|(_, app)| targets.contains(app)) {
            Some((n, app)) => {
                let plural = if all - n == 1 { "" } else { "s" };
                format!("{n} {app} and {} other pod{plural}", all - n)
            }
            None => format!("{all} pods of {} workloads", rows.len()),
        },
    }
}

/// What a taint key is called in short: `unreachable` of `node.kubernetes.io/unreachable`.
pub fn short_key(key: &Text) -> &str {
    bare(key)
}
