//! Volumes that carry zone labels fit only nodes of those zones.

use std::collections::BTreeSet;

use super::volume_restrictions::claim;
use crate::api::node::{BETA_REGION, BETA_ZONE, REGION, ZONE};
use crate::api::{PersistentVolume, StorageClass, Text};
use crate::sched::events::{
    ADD, ClusterEvent, Involved, Resource, UPDATE, UPDATE_NODE_LABEL, event,
};
use crate::sched::node_info::NodeInfo;
use crate::sched::plugin::{
    Cx, CycleState, Plugin, PluginName, PodEntry, Points, PreFilter, Status,
};

/// The plugin.
#[derive(Debug)]
pub struct VolumeZone;

/// One zone or region label of a volume: the key and the values that it allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeTopology {
    key: &'static str,
    values: BTreeSet<Text>,
}

const TOPOLOGY_LABELS: [&str; 4] = [BETA_ZONE, BETA_REGION, ZONE, REGION];

/// `getPVTopologies`: several zones are joined by `__`; a label with an empty one is ignored.
fn topologies(volume: &PersistentVolume) -> Vec<VolumeTopology> {
    let labels = TOPOLOGY_LABELS.iter();
    let labels = labels.filter_map(|key| Some((key, volume.meta.labels.get(key)?)));
    labels
        .map(|(key, value)| VolumeTopology {
            key,
            values: value.split("__").map(|v| Text::from(v.trim())).collect(),
        })
        .filter(|topology: &VolumeTopology| !topology.values.contains(&Text::default()))
        .collect()
}

/// `getPVbyPod`: the zone labels of all the pod's volumes.
fn of_pod(cx: &Cx<'_>, pod: &PodEntry) -> Result<Vec<VolumeTopology>, String> {
    let cluster = Text::default();
    let mut all = Vec::new();
    for name in &pod.template.claims {
        let claim = claim(cx, &pod.pod.meta.namespace, name)?;
        if claim.volume_name.is_empty() {
            let class = claim.class();
            if class.is_empty() {
                return Err("PersistentVolumeClaim had no pv name and storageClass name".into());
            }
            let found = cx.view.of::<StorageClass>().named(&cluster, &class);
            let Some((_, class)) = found else {
                let message = format!("storageclass.storage.k8s.io \"{class}\" not found");
                return Err(message);
            };
            if class.wait_for_consumer {
                continue;
            }
            return Err("PersistentVolume had no name".into());
        }
        let volumes = cx.view.of::<PersistentVolume>();
        let Some((_, volume)) = volumes.named(&cluster, &claim.volume_name) else {
            let message = format!("persistentvolume \"{}\" not found", claim.volume_name);
            return Err(message);
        };
        all.extend(topologies(volume));
    }
    Ok(all)
}

impl Plugin for VolumeZone {
    fn name(&self) -> PluginName {
        PluginName::VolumeZone
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER.and(Points::FILTER)
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const EVENTS: &[ClusterEvent] = &[
            event(Resource::StorageClass, ADD),
            event(Resource::Node, ADD | UPDATE_NODE_LABEL),
            event(Resource::PersistentVolumeClaim, ADD | UPDATE),
            event(Resource::PersistentVolume, ADD | UPDATE),
        ];
        EVENTS
    }

    fn hint(&self, _cx: &Cx<'_>, pod: &PodEntry, involved: &Involved<'_>) -> bool {
        match involved {
            Involved::StorageClass(_, Some(class)) => class.wait_for_consumer,
            Involved::Claim(_, Some(claim)) => {
                claim.meta.namespace == pod.pod.meta.namespace
                    && pod.template.claims.contains(&claim.meta.name)
            }
            Involved::Volume(Some(old), Some(new)) => topologies(old) != topologies(new),
            _ => true,
        }
    }

    fn pre_filter(&self, cx: &Cx<'_>, state: &mut CycleState, pod: &PodEntry) -> PreFilter {
        match of_pod(cx, pod) {
            Err(message) => PreFilter::Reject(Status::unresolvable(message)),
            Ok(topologies) if topologies.is_empty() => PreFilter::Skip,
            Ok(topologies) => {
                state.volume_zones = Some(topologies);
                PreFilter::All
            }
        }
    }

    fn filter(
        &self,
        cx: &Cx<'_>,
        state: &CycleState,
        pod: &PodEntry,
        node: &NodeInfo,
    ) -> Result<(), Status> {
        // Worked out here when the profile has no PreFilter.
        let own;
        let topologies = match &state.volume_zones {
            Some(topologies) => topologies,
            None => {
                own = of_pod(cx, pod).map_err(Status::unresolvable)?;
                &own
            }
        };
        let labels = &node.row().meta.labels;
        if !TOPOLOGY_LABELS.iter().any(|key| labels.contains(key)) {
            return Ok(());
        }
        for topology in topologies {
            let stable = match topology.key {
                BETA_ZONE => ZONE,
                BETA_REGION => REGION,
                key => key,
            };
            let value = labels.get(topology.key).or_else(|| labels.get(stable));
            if !value.is_some_and(|v| topology.values.contains(v)) {
                return Err(Status::unresolvable("node(s) had no available volume zone"));
            }
        }
        Ok(())
    }
}
