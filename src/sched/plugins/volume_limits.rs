//! How many volumes of each CSI driver a node can attach: those of the pods on it, and those that
//! are attached for whatever reason.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::migration::{self, VolumeKey};
use super::volume_restrictions::claim;
use crate::api::pod::VolumeSource;
use crate::api::{
    CSINode, PersistentVolume, PersistentVolumeClaim, StorageClass, Text, VolumeAttachment,
};
use crate::sched::events::{ADD, ClusterEvent, DELETE, Involved, Resource, UPDATE, event};
use crate::sched::node_info::NodeInfo;
use crate::sched::plugin::{
    Code, Cx, CycleState, Plugin, PluginName, PodEntry, Points, PreFilter, Status,
};

/// NodeVolumeLimits.
#[derive(Debug)]
pub struct NodeVolumeLimits;

/// `getCSIDriverInfo`: the driver and handle behind a claim; a claim without a volume counts under
/// its own name with the provisioner of its class.
fn driver_and_handle(cx: &Cx<'_>, claim: &PersistentVolumeClaim) -> Option<VolumeKey> {
    let cluster = Text::default();
    let volumes = cx.view.of::<PersistentVolume>();
    if !claim.volume_name.is_empty()
        && let Some((_, volume)) = volumes.named(&cluster, &claim.volume_name)
    {
        return migration::of_volume(volume);
    }
    let class = claim.class();
    let (_, class) = cx.view.of::<StorageClass>().named(&cluster, &class)?;
    let handle = format!("unbound-{}", claim.meta.full_name());
    Some((
        migration::driver_of(&class.provisioner)?,
        Text::from(handle),
    ))
}

/// The attached volumes of each node, by its name.
pub type Attached = Arc<FxHashMap<Text, Vec<VolumeKey>>>;

/// `getNodeVolumeAttachmentInfo`, of all nodes at once.
fn attachments(cx: &Cx<'_>) -> Attached {
    let mut found: FxHashMap<Text, Vec<VolumeKey>> = FxHashMap::default();
    let volumes = cx.view.of::<PersistentVolume>();
    for (_, attachment) in cx.view.of::<VolumeAttachment>().iter() {
        let volume = volumes.named(&Text::default(), &attachment.volume);
        if let Some((_, volume)) = volume
            && let Some((_, handle)) = &volume.csi
            && !attachment.attacher.is_empty()
        {
            let key = (attachment.attacher.clone(), handle.clone());
            found.entry(attachment.node.clone()).or_default().push(key);
        }
    }
    Arc::new(found)
}

/// `filterAttachableVolumes`: the CSI volumes of a pod, and those that migrate to CSI.
fn attachable(
    cx: &Cx<'_>,
    pod: &PodEntry,
    new: bool,
    into: &mut BTreeSet<VolumeKey>,
) -> Result<(), Status> {
    let namespace = &pod.pod.meta.namespace;
    into.extend(pod.template.inline_volumes.iter().cloned());
    for (name, ephemeral) in pod.claims() {
        match claim(cx, namespace, &name) {
            Ok(claim) => {
                if ephemeral {
                    let error = |why| Status::new(Code::Error, why);
                    claim.is_for(&pod.pod.meta).map_err(error)?;
                }
                into.extend(driver_and_handle(cx, claim));
            }
            Err(message) if new => {
                let message = format!("looking up PVC {namespace}/{name}: {message}");
                return Err(Status::unresolvable(message));
            }
            Err(_) => {}
        }
    }
    Ok(())
}

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> PluginName {
        PluginName::NodeVolumeLimits
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER.and(Points::FILTER)
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const EVENTS: &[ClusterEvent] = &[
            event(Resource::CsiNode, ADD),
            event(Resource::CsiNode, UPDATE),
            event(Resource::Pod, DELETE),
            event(Resource::PersistentVolumeClaim, ADD),
            event(Resource::VolumeAttachment, DELETE),
        ];
        EVENTS
    }

    fn hint(&self, _cx: &Cx<'_>, pod: &PodEntry, involved: &Involved<'_>) -> bool {
        match involved {
            Involved::Pod(Some(deleted), _) => {
                let placed = deleted.node_name.is_some() || deleted.status.nominated_node.is_some();
                let mut volumes = deleted.spec.volumes.iter();
                let claims = |source: &VolumeSource| {
                    matches!(source, VolumeSource::Claim { .. } | VolumeSource::Ephemeral)
                };
                placed && volumes.any(|v| claims(&v.source) || migration::migrates(v))
            }
            Involved::Claim(_, Some(claim)) => pod.uses_claim(claim),
            // Upstream forgets the claims of the pod's own here.
            Involved::Attachment(Some(deleted), _) => {
                let mut inline = pod.template.inline_volumes.iter();
                !pod.template.claims.is_empty()
                    || inline.any(|(driver, _)| *driver == deleted.attacher)
            }
            Involved::CsiNode(Some(old), Some(new)) => {
                let limit = |node: &CSINode, driver: &Text| {
                    let mut drivers = node.drivers.iter();
                    let found = drivers.find(|(name, _)| name == driver);
                    found.and_then(|(_, count)| *count).unwrap_or(0)
                };
                let mut drivers = new.drivers.iter();
                drivers.any(|(name, count)| count.unwrap_or(0) > limit(old, name))
            }
            _ => true,
        }
    }

    fn pre_filter(&self, cx: &Cx<'_>, state: &mut CycleState, pod: &PodEntry) -> PreFilter {
        if pod.template.claim_volumes.is_empty() && !pod.template.migrates {
            return PreFilter::Skip;
        }
        state.attached_volumes = Some(attachments(cx));
        PreFilter::All
    }

    fn filter(
        &self,
        cx: &Cx<'_>,
        state: &CycleState,
        pod: &PodEntry,
        node: &NodeInfo,
    ) -> Result<(), Status> {
        let mut wanted = BTreeSet::new();
        attachable(cx, pod, true, &mut wanted)?;
        let csi = cx.view.of::<CSINode>().named(&Text::default(), &node.name);
        let limits = csi.map(|(_, csi)| csi.drivers.as_slice()).unwrap_or(&[]);
        if wanted.is_empty() || limits.is_empty() {
            return Ok(());
        }
        let mut attached = BTreeSet::new();
        for existing in &node.pods {
            attachable(cx, existing, false, &mut attached)?;
        }
        let mut new: BTreeMap<&Text, i64> = BTreeMap::new();
        for (driver, _) in wanted.difference(&attached) {
            *new.entry(driver).or_insert(0) += 1;
        }
        // What is attached counts beside what pods use, but is not taken for what the pod wants:
        // upstream compares the two before it looks at attachments.
        let known = state.attached_volumes.clone();
        let known = known.unwrap_or_else(|| attachments(cx));
        let other: BTreeSet<&VolumeKey> = known
            .get(&node.name)
            .into_iter()
            .flatten()
            .filter(|key| !attached.contains(key))
            .collect();
        for (driver, count) in new {
            let used = attached.iter().chain(other.iter().copied());
            let used = used.filter(|(d, _)| d == driver).count();
            let limit = limits.iter().find(|(name, _)| name == driver);
            let limit = limit.and_then(|(_, limit)| *limit);
            let sum = i64::try_from(used).unwrap_or(i64::MAX) + count;
            if limit.is_some_and(|limit| sum > i64::from(limit)) {
                return Err(Status::unschedulable("node(s) exceed max volume count"));
            }
        }
        Ok(())
    }
}
