//! PersistentVolumes, claims, StorageClasses, and what CSI drivers tell about themselves, nodes and
//! room, as far as binding and scheduling need them.

use std::sync::Arc;

use serde_json::Value;

use super::affinity::NodeSelectorTerm;
use super::selector::LabelSelector;
use super::storage::{BETA_CLASS, BOUND_BY_CONTROLLER};
use super::{Meta, Text, Uid};

/// `accessModes` of a claim or volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccessMode {
    /// One node reads and writes.
    ReadWriteOnce,
    /// Many nodes read.
    ReadOnlyMany,
    /// Many nodes read and write.
    ReadWriteMany,
    /// One pod reads and writes.
    ReadWriteOncePod,
}

impl AccessMode {
    /// As in manifests.
    pub fn name(self) -> &'static str {
        match self {
            AccessMode::ReadWriteOnce => "ReadWriteOnce",
            AccessMode::ReadOnlyMany => "ReadOnlyMany",
            AccessMode::ReadWriteMany => "ReadWriteMany",
            AccessMode::ReadWriteOncePod => "ReadWriteOncePod",
        }
    }

    /// From its name in manifests.
    pub fn from_name(name: &str) -> Option<AccessMode> {
        Some(match name {
            "ReadWriteOnce" => AccessMode::ReadWriteOnce,
            "ReadOnlyMany" => AccessMode::ReadOnlyMany,
            "ReadWriteMany" => AccessMode::ReadWriteMany,
            "ReadWriteOncePod" => AccessMode::ReadWriteOncePod,
            _ => return None,
        })
    }
}

/// A PersistentVolumeClaim. The annotations `volume.kubernetes.io/selected-node` and
/// `pv.kubernetes.io/bind-completed` are where upstream keeps them: in the metadata.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PersistentVolumeClaim {
    /// Metadata.
    pub meta: Meta,
    /// `spec.accessModes`.
    pub access_modes: Vec<AccessMode>,
    /// `spec.storageClassName`; `None` when absent, empty when explicitly without class.
    pub storage_class: Option<Text>,
    /// `spec.volumeName`, empty while unbound.
    pub volume_name: Text,
    /// `spec.resources.requests.storage` in bytes, if named.
    pub request: Option<i64>,
    /// `spec.volumeMode: Block`.
    pub block: bool,
    /// `spec.selector`.
    pub selector: Option<LabelSelector>,
    /// The spec as defaulted JSON; typed fields win over it.
    pub source: Arc<Value>,
    /// Status.
    pub status: ClaimStatus,
}

impl PersistentVolumeClaim {
    /// Its class: the beta annotation wins over the field
    /// (`component-helpers/storage/volume/helpers.go :: GetPersistentVolumeClaimClass`).
    pub fn class(&self) -> Text {
        let beta = self.meta.annotations.get(BETA_CLASS);
        let class = beta.or(self.storage_class.as_ref());
        class.cloned().unwrap_or_default()
    }

    /// Whether it was made for this pod's ephemeral volume
    /// (`component-helpers/storage/ephemeral :: VolumeIsForPod`).
    ///
    /// # Errors
    /// In upstream's words.
    pub fn is_for(&self, pod: &Meta) -> Result<(), String> {
        let mut owners = self.meta.owners.iter();
        let controller = owners.find(|owner| owner.controller);
        match controller.is_some_and(|owner| owner.uid == pod.uid)
            && self.meta.namespace == pod.namespace
        {
            true => Ok(()),
            false => Err(format!(
                "PVC {} was not created for pod {} (pod is not owner)",
                self.meta.full_name(),
                pod.full_name()
            )),
        }
    }
}

/// `status` of a PersistentVolumeClaim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClaimStatus {
    /// `phase`.
    pub phase: ClaimPhase,
    /// `capacity.storage` in bytes, 0 while unbound.
    pub capacity: i64,
}

/// `status.phase` of a PersistentVolumeClaim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClaimPhase {
    /// Not bound yet.
    #[default]
    Pending,
    /// Bound.
    Bound,
    /// Bound to a volume that is gone.
    Lost,
}

/// A PersistentVolume.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PersistentVolume {
    /// Metadata.
    pub meta: Meta,
    /// `spec.capacity.storage` in bytes.
    pub capacity: i64,
    /// `spec.accessModes`.
    pub access_modes: Vec<AccessMode>,
    /// `spec.claimRef`.
    pub claim: Option<ClaimRef>,
    /// `spec.storageClassName`, empty when none.
    pub storage_class: Text,
    /// `spec.nodeAffinity.required`.
    pub node_affinity: Option<Vec<NodeSelectorTerm>>,
    /// `spec.volumeMode: Block`.
    pub block: bool,
    /// `spec.csi`: driver and volume handle.
    pub csi: Option<(Text, Text)>,
    /// `spec.persistentVolumeReclaimPolicy: Delete`.
    pub reclaim_delete: bool,
    /// The spec as defaulted JSON; typed fields win over it.
    pub source: Arc<Value>,
    /// Status.
    pub status: VolumeStatus,
}

impl PersistentVolume {
    /// Its class: the beta annotation wins over the field (`GetPersistentVolumeClass`).
    pub fn class(&self) -> &Text {
        let beta = self.meta.annotations.get(BETA_CLASS);
        beta.unwrap_or(&self.storage_class)
    }

    /// Whether it is there for this claim (`IsVolumeBoundToClaim`).
    pub fn bound_to(&self, claim: &PersistentVolumeClaim) -> bool {
        self.claim.as_ref().is_some_and(|c| {
            c.name == claim.meta.name
                && c.namespace == claim.meta.namespace
                && c.uid.is_none_or(|uid| uid == claim.meta.uid)
        })
    }

    /// The same volume with this claim (`GetBindVolumeToClaim`).
    pub fn claimed_by(&self, claim: &PersistentVolumeClaim) -> PersistentVolume {
        let mut bound = self.clone();
        if !self.bound_to(claim) {
            let annotations = &bound.meta.annotations;
            bound.meta.annotations = annotations.with(BOUND_BY_CONTROLLER, "yes");
        }
        bound.claim = Some(ClaimRef {
            namespace: claim.meta.namespace.clone(),
            name: claim.meta.name.clone(),
            uid: Some(claim.meta.uid),
        });
        bound
    }
}

/// `spec.claimRef` of a PersistentVolume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClaimRef {
    /// Namespace of the claim.
    pub namespace: Text,
    /// Name of the claim.
    pub name: Text,
    /// Uid of the claim, when it is known.
    pub uid: Option<Uid>,
}

/// `status` of a PersistentVolume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct VolumeStatus {
    /// `phase`.
    pub phase: VolumePhase,
}

/// `status.phase` of a PersistentVolume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum VolumePhase {
    /// Not usable yet.
    #[default]
    Pending,
    /// Free.
    Available,
    /// Bound to a claim.
    Bound,
    /// Its claim is gone; not reclaimed yet.
    Released,
    /// Reclaiming failed.
    Failed,
}

/// A StorageClass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StorageClass {
    /// Metadata.
    pub meta: Meta,
    /// `provisioner`.
    pub provisioner: Text,
    /// `volumeBindingMode: WaitForFirstConsumer`.
    pub wait_for_consumer: bool,
    /// `allowedTopologies`: terms (any must hold) of requirements (all must hold): key and values.
    pub allowed_topologies: Vec<Vec<(Text, Vec<Text>)>>,
    /// `reclaimPolicy: Delete`.
    pub reclaim_delete: bool,
    /// The object as defaulted JSON.
    pub source: Arc<Value>,
}

/// A CSINode: which CSI drivers a node has and how many volumes each can attach.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CSINode {
    /// Metadata; the name is that of the node.
    pub meta: Meta,
    /// `spec.drivers`: name and `allocatable.count`.
    pub drivers: Vec<(Text, Option<i32>)>,
    /// `topologyKeys` of the drivers that have any, by name.
    pub topology_keys: Vec<(Text, Vec<Text>)>,
}

impl CSINode {
    /// The labels by which a driver says where its volumes can be used.
    pub fn topology_keys(&self, driver: &str) -> &[Text] {
        let found = self.topology_keys.iter().find(|(name, _)| name == driver);
        found.map_or(&[], |(_, keys)| keys)
    }
}

/// A CSIDriver, as far as scheduling looks at it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CSIDriver {
    /// Metadata; the name is that of the driver.
    pub meta: Meta,
    /// `spec.storageCapacity`: CSIStorageCapacity objects tell where its volumes have room.
    pub storage_capacity: bool,
    /// The object as defaulted JSON.
    pub source: Arc<Value>,
}

/// A CSIStorageCapacity: the room for volumes of one class on the nodes of one segment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CSIStorageCapacity {
    /// Metadata.
    pub meta: Meta,
    /// `storageClassName`.
    pub storage_class: Text,
    /// `nodeTopology`: the nodes; `None` for no node at all.
    pub topology: Option<LabelSelector>,
    /// `capacity` in bytes, if known.
    pub capacity: Option<i64>,
    /// `maximumVolumeSize` in bytes, if known.
    pub maximum: Option<i64>,
    /// The object as defaulted JSON.
    pub source: Arc<Value>,
}

impl CSIStorageCapacity {
    /// The largest volume that can be made there, in bytes, if known
    /// (`volumebinding/binder.go :: volumeLimit`).
    pub fn limit(&self) -> Option<i64> {
        self.maximum.or(self.capacity)
    }
}

/// A VolumeAttachment: a volume that is, or is to be, attached to a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VolumeAttachment {
    /// Metadata.
    pub meta: Meta,
    /// `spec.attacher`: the CSI driver.
    pub attacher: Text,
    /// `spec.nodeName`.
    pub node: Text,
    /// `spec.source.persistentVolumeName`.
    pub volume: Text,
    /// Status.
    pub status: AttachmentStatus,
}

/// `status` of a VolumeAttachment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AttachmentStatus {
    /// `attached`.
    pub attached: bool,
}
