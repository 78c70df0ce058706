//! The same object in two runs: by its owner and its place among the owner's pods.
//!
//! A pod's generated suffix is a draw, and which of two pods was made first may differ by a
//! millisecond, so a pod is `ReplicaSet/default/web-5d4f #2`: the second one that its owner made.
//! Pods without an owner, and objects with names of their own, keep those.

use std::collections::BTreeMap;

use crate::record::RunRecord;

/// What objects of a run are called in every run.
#[derive(Debug, Default)]
pub struct Names {
    pods: BTreeMap<(String, String), String>,
}

impl Names {
    /// The names of a run's pods.
    pub fn new(record: &RunRecord) -> Names {
        let mut pods = BTreeMap::new();
        let mut made: BTreeMap<String, u32> = BTreeMap::new();
        let mut lives: Vec<_> = record.pods.iter().collect();
        lives.sort_by_key(|pod| pod.created);
        for pod in lives {
            let key = (pod.namespace.to_string(), pod.name.to_string());
            let generated = pod.owner.split_once('/').filter(|(kind, name)| {
                // A StatefulSet's pods have names of their own.
                *kind != "StatefulSet" && pod.name.starts_with(*name)
            });
            let Some((_, owner)) = generated else {
                pods.insert(key, format!("{}/{}", pod.namespace, pod.name));
                continue;
            };
            let owner = format!("{}/{owner}", pod.namespace);
            let nth = made.entry(owner.clone()).or_default();
            *nth += 1;
            pods.insert(key, format!("{owner} #{nth}"));
        }
        Names { pods }
    }

    /// A pod.
    pub fn pod(&self, namespace: &str, name: &str) -> String {
        let key = (namespace.to_owned(), name.to_owned());
        let known = self.pods.get(&key).cloned();
        known.unwrap_or_else(|| format!("{namespace}/{name}"))
    }

    /// Any object, `Pod default/web-5d4f #2`; generated names of EndpointSlices are left out.
    pub fn object(&self, kind: &str, namespace: &str, name: &str) -> String {
        match kind {
            "Pod" => format!("Pod {}", self.pod(namespace, name)),
            "EndpointSlice" => {
                let service = name.rsplit_once('-').map_or(name, |(service, _)| service);
                format!("EndpointSlice {namespace}/{service}")
            }
            _ if namespace.is_empty() => format!("{kind} {name}"),
            _ => format!("{kind} {namespace}/{name}"),
        }
    }
}
