//! What would have to happen to a pod's claims on a node, and whether it can
//! (`pkg/scheduler/framework/plugins/volumebinding/binder.go`).
//!
//! All that does not depend on the node is looked up once per cycle: the volumes that a claim could
//! be bound to, and what its driver tells about room for new ones.

use std::sync::Arc;

use super::{SELECTED_NODE, fully_bound};
use crate::api::affinity::any_term;
use crate::api::selector::LabelSelector;
use crate::api::storage::NO_PROVISIONER;
use crate::api::volume::VolumePhase;
use crate::api::{
    CSIDriver, CSINode, CSIStorageCapacity, Labels, Node, PersistentVolume, PersistentVolumeClaim,
    StorageClass, Text,
};
use crate::sched::plugin::{Code, Cx, PodEntry, Status};
use crate::sched::plugins::migration;
use crate::store::View;

/// The pod's claims, by what has to happen to them, and the volumes that they could be bound to.
#[derive(Clone, Debug, Default)]
pub struct PodVolumeClaims {
    bound: Vec<Arc<PersistentVolumeClaim>>,
    delayed: Vec<Delayed>,
}

/// A claim that waits for its pod to be scheduled.
#[derive(Clone, Debug)]
struct Delayed {
    claim: Arc<PersistentVolumeClaim>,
    /// The node that its volume is to be provisioned for, decided or already written.
    selected: Option<Text>,
    class: Arc<StorageClass>,
    /// Volumes that it could be bound to, but for where they are.
    volumes: Vec<Candidate>,
    room: Room,
}

/// A volume that a claim could be bound to.
#[derive(Clone, Debug)]
struct Candidate {
    volume: Arc<PersistentVolume>,
    /// It is bound to the claim already, and no other will do.
    mine: bool,
}

/// Where there is room for a new volume (`hasEnoughCapacity`).
#[derive(Clone, Debug)]
enum Room {
    /// The driver does not tell, so everywhere.
    Everywhere,
    /// On the nodes that one of these selects.
    On(Vec<LabelSelector>),
}

/// What has to be written before a pod's volumes are on their way to a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodVolumes {
    /// Volumes to be bound, with the claim for each.
    pub bindings: Vec<(Arc<PersistentVolume>, Arc<PersistentVolumeClaim>)>,
    /// Claims to be provisioned for the node.
    pub provisions: Vec<Arc<PersistentVolumeClaim>>,
}

/// Verdicts about a node, each with a reason of its own.
#[derive(Debug)]
struct Verdict {
    /// Bound volumes can be reached.
    reachable: bool,
    /// Unbound claims find a volume or can get one.
    satisfied: bool,
    /// There is room for new volumes.
    sufficient: bool,
    /// Bound volumes exist.
    exists: bool,
}

impl Verdict {
    fn reasons(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            (
                self.reachable,
                "node(s) didn't match PersistentVolume's node affinity",
            ),
            (
                self.satisfied,
                "node(s) didn't find available persistent volumes to bind",
            ),
            (self.sufficient, "node(s) did not have enough free storage"),
            (
                self.exists,
                "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
            ),
        ];
        all.into_iter()
            .filter(|(good, _)| !good)
            .map(|(_, why)| why)
    }
}

/// `volume.CheckNodeAffinity`.
pub fn reachable(volume: &PersistentVolume, labels: &Labels) -> bool {
    let terms = volume.node_affinity.as_deref();
    terms.is_none_or(|terms| any_term(terms, labels, None))
}

/// The same for a volume that is bound, of a kind that may have moved to CSI on the node.
fn reachable_on(view: &View, volume: &PersistentVolume, node: &Node) -> bool {
    let csi = view
        .of::<CSINode>()
        .named(&Text::default(), &node.meta.name);
    let terms = migration::affinity_on(volume, csi.map(|(_, csi)| &**csi));
    terms.is_none_or(|terms| any_term(&terms, &node.meta.labels, None))
}

/// The part of `FindMatchingVolume` that no node decides.
fn candidates(cx: &Cx<'_>, claim: &PersistentVolumeClaim, class: &Text) -> Vec<Candidate> {
    let attributes = |spec: &serde_json::Value| {
        let class = spec["volumeAttributesClassName"].as_str();
        class.unwrap_or_default().to_owned()
    };
    let wanted = claim.request.unwrap_or(0);
    let fits = |volume: &PersistentVolume, mine: bool| {
        let free = volume.claim.is_none() && !cx.cache.volume_taken(volume);
        (mine || free)
            && volume.capacity >= wanted
            && volume.block == claim.block
            && attributes(&volume.source) == attributes(&claim.source)
            && !volume.meta.deleting()
    };
    let may = |volume: &PersistentVolume| {
        let selector = claim.selector.as_ref();
        let mut modes = claim.access_modes.iter();
        volume.status.phase == VolumePhase::Available
            && selector.is_none_or(|s| s.matches(&volume.meta.labels))
            && modes.all(|m| volume.access_modes.contains(m))
    };
    let volumes = cx.view.of::<PersistentVolume>().iter();
    let volumes = volumes.filter(|(_, volume)| volume.class() == class);
    volumes
        .map(|(_, volume)| (volume, volume.bound_to(claim)))
        .filter(|(volume, mine)| fits(volume, *mine) && (*mine || may(volume)))
        .map(|(volume, mine)| Candidate {
            volume: volume.clone(),
            mine,
        })
        .collect()
}

impl Room {
    /// `hasEnoughCapacity`, `capacitySufficient`: only drivers that opt in tell where there is
    /// room.
    fn of(cx: &Cx<'_>, claim: &PersistentVolumeClaim, class: &StorageClass) -> Room {
        let drivers = cx.view.of::<CSIDriver>();
        let driver = drivers.named(&Text::default(), &class.provisioner);
        let (Some(size), Some((_, driver))) = (claim.request, driver) else {
            return Room::Everywhere;
        };
        if !driver.storage_capacity {
            return Room::Everywhere;
        }
        let segments = cx.view.of::<CSIStorageCapacity>().iter();
        let segments = segments.filter(|(_, segment)| {
            segment.storage_class == class.meta.name && segment.limit() >= Some(size)
        });
        Room::On(segments.filter_map(|(_, s)| s.topology.clone()).collect())
    }

    /// `nodeHasAccess`.
    fn on(&self, labels: &Labels) -> bool {
        match self {
            Room::Everywhere => true,
            Room::On(segments) => segments.iter().any(|segment| segment.matches(labels)),
        }
    }
}

impl Delayed {
    fn new(cx: &Cx<'_>, claim: &Arc<PersistentVolumeClaim>, class: &Arc<StorageClass>) -> Delayed {
        Delayed {
            selected: cx.cache.selected_node(claim).cloned(),
            volumes: candidates(cx, claim, &class.meta.name),
            room: Room::of(cx, claim, class),
            claim: claim.clone(),
            class: class.clone(),
        }
    }

    /// `FindMatchingVolume`: the volume that is bound to the claim already, or else the smallest
    /// one that fits. `chosen` are taken by other claims of the pod.
    fn find(&self, labels: &Labels, chosen: &[Text]) -> Option<&Arc<PersistentVolume>> {
        let mut smallest: Option<&Arc<PersistentVolume>> = None;
        for Candidate { volume, mine } in &self.volumes {
            if chosen.contains(&volume.meta.name) {
                continue;
            }
            let reachable = reachable(volume, labels);
            if *mine {
                return reachable.then_some(volume);
            }
            if reachable && smallest.is_none_or(|s| s.capacity > volume.capacity) {
                smallest = Some(volume);
            }
        }
        smallest
    }

    /// Whether its class can make volumes for a node.
    fn provisionable(&self, labels: &Labels) -> bool {
        let holds = |term: &Vec<(Text, Vec<Text>)>| {
            let mut requirements = term.iter();
            requirements.all(|(key, values)| labels.get(key).is_some_and(|v| values.contains(v)))
        };
        let (provisioner, terms) = (&self.class.provisioner, &self.class.allowed_topologies);
        !provisioner.is_empty()
            && provisioner != NO_PROVISIONER
            && (terms.is_empty() || terms.iter().any(holds))
    }
}

impl PodVolumeClaims {
    /// `GetPodVolumeClaims`; an unbound claim that does not wait for a pod is a refusal.
    pub(super) fn of(cx: &Cx<'_>, pod: &PodEntry) -> Result<PodVolumeClaims, Status> {
        let mut claims = PodVolumeClaims::default();
        let mut immediate = false;
        for (name, _) in pod.claims() {
            let namespace = &pod.pod.meta.namespace;
            let found = cx
                .view
                .of::<PersistentVolumeClaim>()
                .named(namespace, &name);
            let Some((_, claim)) = found else {
                continue;
            };
            let classes = cx.view.of::<StorageClass>();
            let class = classes.named(&Text::default(), &claim.class());
            match class.filter(|(_, class)| class.wait_for_consumer) {
                _ if fully_bound(claim) => claims.bound.push(claim.clone()),
                Some((_, class)) if claim.volume_name.is_empty() => {
                    claims.delayed.push(Delayed::new(cx, claim, class));
                }
                _ => immediate = true,
            }
        }
        if immediate {
            return Err(Status::unresolvable(
                "pod has unbound immediate PersistentVolumeClaims",
            ));
        }
        Ok(claims)
    }

    /// `FindPodVolumes`: what would have to be bound or provisioned on this node; the reasons if it
    /// cannot be.
    ///
    /// # Errors
    /// Why the volumes cannot be on this node.
    pub fn find(&self, view: &View, node: &Node) -> Result<PodVolumes, Status> {
        let mut verdict = Verdict {
            reachable: true,
            satisfied: true,
            sufficient: true,
            exists: true,
        };
        for claim in &self.bound {
            let volumes = view.of::<PersistentVolume>();
            match volumes.named(&Text::default(), &claim.volume_name) {
                None => verdict.exists = false,
                Some((_, volume)) => verdict.reachable = reachable_on(view, volume, node),
            }
            if !(verdict.reachable && verdict.exists) {
                break;
            }
        }
        let found = self.find_delayed(node, &mut verdict);
        let reasons: smallvec::SmallVec<_> = verdict.reasons().map(Into::into).collect();
        match reasons.is_empty() {
            true => Ok(found),
            false => Err(Status {
                code: Code::UnschedulableAndUnresolvable,
                plugin: None,
                reasons,
            }),
        }
    }

    /// The part of `FindPodVolumes` about unbound claims; smallest claims choose first.
    fn find_delayed(&self, node: &Node, verdict: &mut Verdict) -> PodVolumes {
        let labels = &node.meta.labels;
        let mut volumes = PodVolumes::default();
        let mut to_match = Vec::new();
        let mut to_provision = Vec::new();
        for claim in &self.delayed {
            match &claim.selected {
                None => to_match.push(claim),
                Some(selected) if *selected != node.meta.name => {
                    verdict.satisfied = false;
                    return volumes;
                }
                Some(_) => to_provision.push(claim),
            }
        }
        to_match.sort_by_key(|c| c.claim.request.unwrap_or(0));
        let mut chosen = Vec::new();
        for claim in to_match {
            match claim.find(labels, &chosen) {
                None => to_provision.push(claim),
                Some(volume) => {
                    chosen.push(volume.meta.name.clone());
                    let binding = (volume.clone(), claim.claim.clone());
                    volumes.bindings.push(binding);
                }
            }
        }
        // `checkVolumeProvisions`: the first claim that cannot be provisioned decides.
        for claim in to_provision {
            verdict.satisfied = claim.provisionable(labels);
            verdict.sufficient = !verdict.satisfied || claim.room.on(labels);
            if !(verdict.satisfied && verdict.sufficient) {
                break;
            }
            volumes.provisions.push(claim.claim.clone());
        }
        volumes
    }
}

impl PodVolumes {
    /// Whether nothing has to be written.
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty() && self.provisions.is_empty()
    }

    /// `checkBindings`: whether everything is bound by now, or why it never will be.
    ///
    /// # Errors
    /// In upstream's words.
    pub fn bound_on(&self, view: &View, node: &Text) -> Result<bool, String> {
        let cluster = Text::default();
        let Some((_, row)) = view.nodes().named(&cluster, node) else {
            return Err(format!(
                "failed to get node \"{node}\": node \"{node}\" not found"
            ));
        };
        let affine = |volume: &PersistentVolume| match reachable_on(view, volume, row) {
            true => Ok(()),
            false => Err(format!(
                "pv \"{}\" node affinity doesn't match node \"{node}\": no matching \
                 NodeSelectorTerms",
                volume.meta.name
            )),
        };
        let now = |claim: &PersistentVolumeClaim, what: &str| {
            let (namespace, name) = (&claim.meta.namespace, &claim.meta.name);
            let found = view.of::<PersistentVolumeClaim>().named(namespace, name);
            let found = found.map(|(_, claim)| claim);
            found.ok_or_else(|| {
                format!("{what}: persistentvolumeclaims \"{namespace}/{name}\" not found")
            })
        };
        let volumes = view.of::<PersistentVolume>();
        for (volume, claim) in &self.bindings {
            let name = &volume.meta.name;
            let Some((_, current)) = volumes.named(&cluster, name) else {
                let what = "failed to check binding: persistentvolumes";
                return Err(format!("{what} \"{name}\" not found"));
            };
            let claim = now(claim, "failed to check binding")?;
            if volume.meta.revision > current.meta.revision {
                return Ok(false);
            }
            let volume = current;
            affine(volume)?;
            if volume.claim.as_ref().is_none_or(|c| c.uid.is_none()) {
                return Err(format!("ClaimRef got reset for pv \"{name}\""));
            }
            if !fully_bound(claim) {
                return Ok(false);
            }
        }
        for claim in &self.provisions {
            let written = claim.meta.revision;
            let claim = now(claim, "failed to check provisioning pvc")?;
            if written > claim.meta.revision {
                return Ok(false);
            }
            let name = &claim.meta.name;
            if claim.meta.annotations.is_empty() {
                return Err(format!("selectedNode annotation reset for PVC \"{name}\""));
            }
            if claim.meta.annotations.get(SELECTED_NODE) != Some(node) {
                return Err(format!("provisioning failed for PVC \"{name}\""));
            }
            if !claim.volume_name.is_empty() {
                match volumes.named(&cluster, &claim.volume_name) {
                    None => return Ok(false),
                    Some((_, volume)) => affine(volume)?,
                }
            }
            if !fully_bound(claim) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
