//! Claims that controllers make, as far as their names are known before the run.
//!
//! A StatefulSet's claims are numbered, and may become more than it begins with; a claim of an
//! `ephemeral` volume has its pod's name in front, of which only the beginning is known where the
//! pod's is generated.

use crate::api::pod::{Volume, VolumeSource};
use crate::api::{PodSpec, Row, StatefulSet, Text};

/// So many claims of a set are kept by name, to be suggested; the others are known by their form.
const LISTED: i32 = 100;

/// Names that begin and end with something.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Names {
    namespace: Text,
    before: String,
    after: String,
    /// What is between them is a number.
    numbered: bool,
}

/// The names of claims that are not known to the letter.
#[derive(Debug, Default)]
pub struct Claims(Vec<Names>);

impl Claims {
    /// Whether there may come to be a claim of this name.
    pub fn may_have(&self, namespace: &Text, name: &str) -> bool {
        self.0.iter().any(|names| {
            let rest = name.strip_prefix(names.before.as_str());
            let rest = rest.and_then(|rest| rest.strip_suffix(names.after.as_str()));
            let fits = |rest: &str| match names.numbered {
                true => rest.parse::<u32>().is_ok_and(|n| n.to_string() == rest),
                false => !rest.is_empty(),
            };
            names.namespace == *namespace && rest.is_some_and(fits)
        })
    }

    /// Takes in what controllers make for an object; returns names that are certain, in its
    /// namespace.
    pub fn add(&mut self, row: &Row) -> Vec<Text> {
        let meta = row.meta();
        let spec = match row {
            Row::StatefulSet(set) => return self.add_set(set),
            Row::Pod(pod) => &pod.spec,
            Row::Deployment(row) => &row.template.spec,
            Row::ReplicaSet(row) => &row.template.spec,
            Row::DaemonSet(row) => &row.template.spec,
            Row::Job(row) => &row.spec.template.spec,
            Row::CronJob(row) => &row.template.spec.template.spec,
            _ => return Vec::new(),
        };
        let volumes = ephemeral(spec);
        if matches!(row, Row::Pod(_)) && !meta.name.is_empty() {
            return volumes.filter_map(|v| v.claim_name(&meta.name)).collect();
        }
        let before = match meta.name.is_empty() {
            true => meta.generate_name.to_string(),
            false => format!("{}-", meta.name),
        };
        self.0
            .extend(volumes.filter_map(after_pod).map(|after| Names {
                namespace: meta.namespace.clone(),
                before: before.clone(),
                after,
                numbered: false,
            }));
        Vec::new()
    }

    /// `pkg/controller/statefulset/stateful_set_utils.go :: getPersistentVolumeClaimName`, and the
    /// claims of its pods' own volumes.
    fn add_set(&mut self, set: &StatefulSet) -> Vec<Text> {
        let of_set = set.claims.iter().map(|claim| {
            let before = format!("{}-{}-", claim.meta.name, set.meta.name);
            (before, String::new())
        });
        let of_pods = ephemeral(&set.template.spec).filter_map(after_pod);
        let of_pods = of_pods.map(|after| (format!("{}-", set.meta.name), after));
        let count = set.replicas.min(LISTED);
        let mut certain = Vec::new();
        for (before, after) in of_set.chain(of_pods) {
            let first = (0..count).filter_map(|n| set.start.checked_add(n));
            certain.extend(first.map(|n| Text::from(format!("{before}{n}{after}"))));
            self.0.push(Names {
                namespace: set.meta.namespace.clone(),
                before,
                after,
                numbered: true,
            });
        }
        certain
    }
}

/// Volumes that get claims of their own.
fn ephemeral(spec: &PodSpec) -> impl Iterator<Item = &Volume> {
    let own = |volume: &&Volume| volume.source == VolumeSource::Ephemeral;
    spec.volumes.iter().filter(own)
}

/// What follows the pod's name in the name of a volume's claim.
fn after_pod(volume: &Volume) -> Option<String> {
    volume.claim_name("").map(|after| after.to_string())
}
