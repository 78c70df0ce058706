//! Claims must be bound to volumes that the node can reach, or be bindable there: to a free volume,
//! or to one that is provisioned for the node (`pkg/scheduler/framework/plugins/volumebinding`).
//!
//! Drivers that tell where they have room (CSIDriver, CSIStorageCapacity) are asked; all others have
//! room everywhere. Score does nothing: it is behind a gate (StorageCapacityScoring) that is off.

mod binder;

use std::sync::Arc;

pub use binder::{PodVolumeClaims, PodVolumes};

use super::migration::MIGRATED;
use super::volume_restrictions::claim;
use crate::api::pod::VolumeSource;
use crate::api::volume::ClaimPhase;
use crate::api::{CSINode, PersistentVolumeClaim};
use crate::sched::cache::NodeIx;
use crate::sched::events::{
    ADD, ClusterEvent, Involved, Resource, UPDATE, UPDATE_NODE_LABEL, event,
};
use crate::sched::node_info::NodeInfo;
use crate::sched::plugin::{
    Cx, CycleState, Plugin, PluginName, PodEntry, Points, PreFilter, Status,
};

/// Annotation of a claim: the node that its volume must be provisioned for.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Annotation of a claim: the volume controller has finished binding it.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// The plugin.
#[derive(Debug)]
pub struct VolumeBinding;

/// `isPVCFullyBound`.
pub fn fully_bound(claim: &PersistentVolumeClaim) -> bool {
    !claim.volume_name.is_empty() && claim.meta.annotations.contains(BIND_COMPLETED)
}

/// `podHasPVCs`: what is wrong with the pod's claims as such.
fn check_claims(cx: &Cx<'_>, pod: &PodEntry) -> Result<(), String> {
    for (name, ephemeral) in pod.claims() {
        let claim = claim(cx, &pod.pod.meta.namespace, &name).map_err(|error| match ephemeral {
            true => format!(
                "waiting for ephemeral volume controller to create the persistentvolumeclaim \
                 \"{name}\""
            ),
            false => error,
        })?;
        if claim.status.phase == ClaimPhase::Lost {
            return Err(format!(
                "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{}\"",
                claim.volume_name
            ));
        }
        if claim.meta.deleting() {
            return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
        }
        if ephemeral {
            claim.is_for(&pod.pod.meta)?;
        }
    }
    Ok(())
}

impl Plugin for VolumeBinding {
    fn name(&self) -> PluginName {
        PluginName::VolumeBinding
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER
            .and(Points::FILTER)
            .and(Points::PRE_SCORE)
            .and(Points::SCORE)
            .and(Points::RESERVE)
            .and(Points::PRE_BIND)
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const EVENTS: &[ClusterEvent] = &[
            event(Resource::StorageClass, ADD | UPDATE),
            event(Resource::PersistentVolumeClaim, ADD | UPDATE),
            event(Resource::PersistentVolume, ADD | UPDATE),
            event(Resource::Node, ADD | UPDATE_NODE_LABEL),
            event(Resource::CsiNode, ADD | UPDATE),
            event(Resource::CsiDriver, UPDATE),
            event(Resource::CsiStorageCapacity, ADD | UPDATE),
        ];
        EVENTS
    }

    fn hint(&self, _cx: &Cx<'_>, pod: &PodEntry, involved: &Involved<'_>) -> bool {
        match involved {
            Involved::Claim(_, Some(claim)) => pod.uses_claim(claim),
            Involved::StorageClass(Some(old), Some(new)) => {
                old.allowed_topologies != new.allowed_topologies
            }
            Involved::CsiNode(Some(old), Some(new)) => {
                let migrated = |node: &CSINode| node.meta.annotations.get(MIGRATED).cloned();
                migrated(old) != migrated(new)
            }
            Involved::CsiStorageCapacity(Some(old), Some(new)) => new.limit() > old.limit(),
            // Upstream looks at volumes that name the driver themselves.
            Involved::CsiDriver(Some(old), Some(new)) => {
                let mut volumes = pod.pod.spec.volumes.iter();
                old.storage_capacity
                    && !new.storage_capacity
                    && volumes.any(|v| {
                        matches!(&v.source, VolumeSource::Other { field, identity, .. }
                            if field == "csi" && *identity == new.meta.name)
                    })
            }
            _ => true,
        }
    }

    fn pre_filter(&self, cx: &Cx<'_>, state: &mut CycleState, pod: &PodEntry) -> PreFilter {
        if pod.template.claim_volumes.is_empty() {
            return PreFilter::Skip;
        }
        if let Err(message) = check_claims(cx, pod) {
            return PreFilter::Reject(Status::unresolvable(message));
        }
        match PodVolumeClaims::of(cx, pod) {
            Err(status) => PreFilter::Reject(status),
            Ok(claims) => {
                state.volume_claims = Some(Arc::new(claims));
                PreFilter::All
            }
        }
    }

    fn filter(
        &self,
        cx: &Cx<'_>,
        state: &CycleState,
        _pod: &PodEntry,
        node: &NodeInfo,
    ) -> Result<(), Status> {
        match &state.volume_claims {
            Some(claims) => claims.find(cx.view, node.row()).map(|_| ()),
            None => Ok(()),
        }
    }

    fn pre_score(
        &self,
        _cx: &Cx<'_>,
        _state: &mut CycleState,
        _pod: &PodEntry,
        _nodes: &[NodeIx],
    ) -> bool {
        false
    }

    fn scores_alike(&self, _cx: &Cx<'_>, _pod: &PodEntry) -> bool {
        true
    }

    fn normalizes(&self) -> bool {
        false
    }
}
