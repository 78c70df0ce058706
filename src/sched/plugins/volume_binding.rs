//! Claims must be bound to volumes that the node can reach, or be bindable there: to a free volume,
//! or to one that is provisioned for the node (`pkg/scheduler/framework/plugins/volumebinding`).
//!
//! Storage capacity tracking (CSIDriver, CSIStorageCapacity) is not modelled: provisioners never
//! run out of space.

use std::sync::Arc;

use super::volume_restrictions::claim;
use crate::api::affinity::any_term;
use crate::api::volume::{ClaimPhase, VolumePhase};
use crate::api::{
    CSINode, Labels, Node, PersistentVolume, PersistentVolumeClaim, StorageClass, Text,
};
use crate::sched::events::{
    ADD, ClusterEvent, Involved, Resource, UPDATE, UPDATE_NODE_LABEL, event,
};
use crate::sched::node_info::NodeInfo;
use crate::sched::plugin::{
    Code, Cx, CycleState, Plugin, PluginName, PodEntry, Points, PreFilter, Status,
};

/// Annotation of a claim: the node that its volume must be provisioned for.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Annotation of a claim: the volume controller has finished binding it.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Provisioner of classes that do not provision.
/// Annotation of a CSINode: in-tree drivers that moved to CSI (`MigratedPluginsAnnotationKey`).
const MIGRATED: &str = "storage.alpha.kubernetes.io/migrated-plugins";
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// The plugin.
#[derive(Debug)]
pub struct VolumeBinding;

/// The pod's claims, by what has to happen to them, and the volumes that they could be bound to.
#[derive(Clone, Debug, Default)]
pub struct PodVolumeClaims {
    bound: Vec<Arc<PersistentVolumeClaim>>,
    delayed: Vec<Arc<PersistentVolumeClaim>>,
}

/// What has to be written before a pod's volumes are on their way to a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodVolumes {
    /// Volumes to be bound, with the claim for each.
    pub bindings: Vec<(Arc<PersistentVolume>, Arc<PersistentVolumeClaim>)>,
    /// Claims to be provisioned for the node.
    pub provisions: Vec<Arc<PersistentVolumeClaim>>,
}

/// `GetPersistentVolumeClaimClass`: the beta annotation wins over the field.
pub fn claim_class(claim: &PersistentVolumeClaim) -> Text {
    let beta = claim
        .meta
        .annotations
        .get("volume.beta.kubernetes.io/storage-class");
    beta.or(claim.storage_class.as_ref())
        .cloned()
        .unwrap_or_default()
}

fn volume_class(volume: &PersistentVolume) -> &Text {
    let beta = volume
        .meta
        .annotations
        .get("volume.beta.kubernetes.io/storage-class");
    beta.unwrap_or(&volume.storage_class)
}

/// `isPVCFullyBound`.
pub fn fully_bound(claim: &PersistentVolumeClaim) -> bool {
    !claim.volume_name.is_empty() && claim.meta.annotations.contains(BIND_COMPLETED)
}

/// `volume.CheckNodeAffinity`.
fn reachable(volume: &PersistentVolume, labels: &Labels) -> bool {
    let terms = volume.node_affinity.as_deref();
    terms.is_none_or(|terms| any_term(terms, labels, None))
}

/// `IsVolumeBoundToClaim`.
fn bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    volume.claim.as_ref().is_some_and(|c| {
        c.name == claim.meta.name
            && c.namespace == claim.meta.namespace
            && c.uid.is_none_or(|uid| uid == claim.meta.uid)
    })
}

/// `FindMatchingVolume`: the volume that is bound to the claim already, or else the smallest one
/// that fits. `chosen` are taken by other claims of the pod.
fn find_volume<'a>(
    cx: &Cx<'a>,
    claim: &PersistentVolumeClaim,
    node: &Node,
    chosen: &[Text],
) -> Option<&'a Arc<PersistentVolume>> {
    let class = claim_class(claim);
    let mut smallest: Option<&Arc<PersistentVolume>> = None;
    for (_, volume) in cx.view.of::<PersistentVolume>().iter() {
        let mine = bound_to(volume, claim);
        let wanted = claim.request.unwrap_or(0);
        let selected = || {
            let selector = claim.selector.as_ref();
            selector.is_none_or(|s| s.matches(&volume.meta.labels))
        };
        let modes = || {
            let mut modes = claim.access_modes.iter();
            modes.all(|m| volume.access_modes.contains(m))
        };
        if volume_class(volume) != &class
            || chosen.contains(&volume.meta.name)
            || (volume.claim.is_some() || cx.cache.volume_taken(&volume.meta.name)) && !mine
            || volume.capacity < wanted
            || volume.block != claim.block
            || volume.meta.deleting()
        {
            continue;
        }
        let reachable = reachable(volume, &node.meta.labels);
        if mine {
            return reachable.then_some(volume);
        }
        if volume.status.phase == VolumePhase::Available
            && selected()
            && reachable
            && modes()
            && smallest.is_none_or(|s| s.capacity > volume.capacity)
        {
            smallest = Some(volume);
        }
    }
    smallest
}

/// `checkVolumeProvisions` for one claim.
fn provisionable(cx: &Cx<'_>, claim: &PersistentVolumeClaim, node: &Node) -> Result<bool, Status> {
    let class = claim_class(claim);
    let found = cx.view.of::<StorageClass>().named(&Text::default(), &class);
    let Some((_, class)) = found else {
        let message = format!("failed to find storage class \"{class}\"");
        return Err(Status::new(Code::Error, message));
    };
    if class.provisioner.is_empty() || class.provisioner == NO_PROVISIONER {
        return Ok(false);
    }
    let labels = &node.meta.labels;
    let terms = &class.allowed_topologies;
    let holds = |term: &Vec<(Text, Vec<Text>)>| {
        let mut requirements = term.iter();
        requirements.all(|(key, values)| labels.get(key).is_some_and(|v| values.contains(v)))
    };
    Ok(terms.is_empty() || terms.iter().any(holds))
}

impl PodVolumeClaims {
    /// `FindPodVolumes`: what would have to be bound or provisioned on this node; the reasons if it
    /// cannot be.
    pub fn find(&self, cx: &Cx<'_>, node: &Node) -> Result<PodVolumes, Status> {
        let (mut reachable_, mut exists) = (true, true);
        for claim in &self.bound {
            let volumes = cx.view.of::<PersistentVolume>();
            match volumes.named(&Text::default(), &claim.volume_name) {
                None => exists = false,
                Some((_, volume)) => reachable_ = reachable(volume, &node.meta.labels),
            }
            if !(reachable_ && exists) {
                break;
            }
        }
        let found = self.find_delayed(cx, node)?;
        let mut reasons = smallvec::SmallVec::new();
        if !reachable_ {
            reasons.push("node(s) didn't match PersistentVolume's node affinity".into());
        }
        if found.is_none() {
            reasons.push("node(s) didn't find available persistent volumes to bind".into());
        }
        if !exists {
            let text = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
            reasons.push(text.into());
        }
        match found {
            Some(found) if reasons.is_empty() => Ok(found),
            _ => Err(Status {
                code: Code::UnschedulableAndUnresolvable,
                plugin: None,
                reasons,
            }),
        }
    }

    /// The part of `FindPodVolumes` about unbound claims; smallest claims choose first.
    fn find_delayed(&self, cx: &Cx<'_>, node: &Node) -> Result<Option<PodVolumes>, Status> {
        let mut to_match = Vec::new();
        let mut to_provision = Vec::new();
        for claim in &self.delayed {
            match cx.cache.selected_node(claim) {
                None => to_match.push(claim),
                Some(selected) if *selected != node.meta.name => return Ok(None),
                Some(_) => to_provision.push(claim),
            }
        }
        to_match.sort_by_key(|c| c.request.unwrap_or(0));
        let mut volumes = PodVolumes::default();
        let mut chosen = Vec::new();
        for claim in to_match {
            match find_volume(cx, claim, node, &chosen) {
                None => to_provision.push(claim),
                Some(volume) => {
                    chosen.push(volume.meta.name.clone());
                    volumes.bindings.push((volume.clone(), claim.clone()));
                }
            }
        }
        for claim in to_provision {
            if !provisionable(cx, claim, node)? {
                return Ok(None);
            }
            volumes.provisions.push(claim.clone());
        }
        Ok(Some(volumes))
    }

    /// `GetPodVolumeClaims`; an unbound claim that does not wait for a pod is a refusal.
    fn of(cx: &Cx<'_>, pod: &PodEntry) -> Result<PodVolumeClaims, Status> {
        let mut claims = PodVolumeClaims::default();
        let mut immediate = false;
        for name in &pod.template.claims {
            let namespace = &pod.pod.meta.namespace;
            let found = cx.view.of::<PersistentVolumeClaim>().named(namespace, name);
            let Some((_, claim)) = found else {
                continue;
            };
            let class = claim_class(claim);
            let classes = cx.view.of::<StorageClass>();
            let waits = classes
                .named(&Text::default(), &class)
                .is_some_and(|(_, class)| class.wait_for_consumer);
            if fully_bound(claim) {
                claims.bound.push(claim.clone());
            } else if waits && claim.volume_name.is_empty() {
                claims.delayed.push(claim.clone());
            } else {
                immediate = true;
            }
        }
        if immediate {
            return Err(Status::unresolvable(
                "pod has unbound immediate PersistentVolumeClaims",
            ));
        }
        Ok(claims)
    }
}

/// `podHasPVCs`: what is wrong with the pod's claims as such.
fn check_claims(cx: &Cx<'_>, pod: &PodEntry) -> Result<(), String> {
    for name in &pod.template.claims {
        let claim = claim(cx, &pod.pod.meta.namespace, name)?;
        if claim.status.phase == ClaimPhase::Lost {
            return Err(format!(
                "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{}\"",
                claim.volume_name
            ));
        }
        if claim.meta.deleting() {
            return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
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
        ];
        EVENTS
    }

    fn hint(&self, _cx: &Cx<'_>, pod: &PodEntry, involved: &Involved<'_>) -> bool {
        match involved {
            Involved::Claim(_, Some(claim)) => {
                claim.meta.namespace == pod.pod.meta.namespace
                    && pod.template.claims.contains(&claim.meta.name)
            }
            Involved::StorageClass(Some(old), Some(new)) => {
                old.allowed_topologies != new.allowed_topologies
            }
            Involved::CsiNode(Some(old), Some(new)) => {
                let migrated = |node: &CSINode| node.meta.annotations.get(MIGRATED).cloned();
                migrated(old) != migrated(new)
            }
            _ => true,
        }
    }

    fn pre_filter(&self, cx: &Cx<'_>, state: &mut CycleState, pod: &PodEntry) -> PreFilter {
        if pod.template.claims.is_empty() {
            return PreFilter::Skip;
        }
        if let Err(message) = check_claims(cx, pod) {
            return PreFilter::Reject(Status::unresolvable(message));
        }
        match PodVolumeClaims::of(cx, pod) {
            Err(status) => PreFilter::Reject(status),
            Ok(claims) => {
                state.volume_claims = Some(claims);
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
            Some(claims) => claims.find(cx, node.row()).map(|_| ()),
            None => Ok(()),
        }
    }
}
