//! Making and deleting volumes on demand: what a CSI driver's `external-provisioner` does.
//!
//! A claim whose class names a provisioner is answered with a new volume after the time that
//! [`crate::api::storage`] tells; a released volume with the policy `Delete` is deleted. The driver
//! behind it has room for everything. After `kubernetes-csi/external-provisioner`:
//! `sigs.k8s.io/sig-storage-lib-external-provisioner/controller :: provisionClaimOperation`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::pods;
use super::volume_binder::{PROVISIONER, SELECTED_NODE};
use crate::api::affinity::NodeSelectorTerm;
use crate::api::quantity::{Format, Quantity};
use crate::api::selector::{Operator, Requirement};
use crate::api::storage::{self, ATTACH, DETACH, PROVISION, PROVISIONED_BY};
use crate::api::volume::{ClaimRef, VolumePhase};
use crate::api::{Kind, Meta, PersistentVolume, PersistentVolumeClaim, StorageClass, Text};
use crate::client::{Controller, Keys, Plan, SyncContext, Watches};
use crate::engine::Time;
use crate::engine::draws::entity_key;
use crate::store::{Change, Id, Op, Propagation, View, Write};

/// Label of a node's zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// What is synced: a claim that needs a volume, or a volume that is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A claim.
    Claim(Id<PersistentVolumeClaim>),
    /// A volume.
    Volume(Id<PersistentVolume>),
}

/// The provisioners of all classes in one.
#[derive(Debug, Default)]
pub struct VolumeProvisioner {
    /// When work on each key began.
    begun: BTreeMap<Key, Time>,
}

impl Controller for VolumeProvisioner {
    type Key = Key;
    const NAME: &'static str = SOURCE;
    /// `--worker-threads` of the provisioner.
    const WORKERS: usize = 100;
    const WATCHES: Watches =
        Watches::kind(Kind::PersistentVolumeClaim).and(Watches::kind(Kind::PersistentVolume));

    fn keys(&mut self, change: &Change, _view: &View, _now: Time, keys: &mut Keys<Key>) {
        let key = if change.rows::<PersistentVolumeClaim>().is_some() {
            change.object.and_then(|o| o.typed()).map(Key::Claim)
        } else if change.rows::<PersistentVolume>().is_some() {
            change.object.and_then(|o| o.typed()).map(Key::Volume)
        } else {
            None
        };
        let Some(key) = key else { return };
        if change.op == Op::Delete {
            self.begun.remove(&key);
        } else {
            keys.add(key);
        }
    }

    fn sync(&mut self, key: Key, cx: &SyncContext<'_>) -> Plan {
        match key {
            Key::Claim(id) => self.claim(key, id, cx),
            Key::Volume(id) => self.volume(key, id, cx),
        }
    }

    fn resync(&mut self, view: &View, _now: Time, keys: &mut Keys<Key>) {
        let claims = view.of::<PersistentVolumeClaim>().iter();
        keys.now.extend(claims.map(|(id, _)| Key::Claim(id)));
        let volumes = view.of::<PersistentVolume>().iter();
        keys.now.extend(volumes.map(|(id, _)| Key::Volume(id)));
    }

    fn restart(&mut self) {
        *self = VolumeProvisioner::default();
    }
}

const SOURCE: &str = "external-provisioner";

impl VolumeProvisioner {
    /// How much is left of work that takes so long; zero when it is done.
    fn left(&mut self, key: Key, takes: Duration, now: Time) -> (bool, Duration) {
        let new = !self.begun.contains_key(&key);
        let begun = *self.begun.entry(key).or_insert(now);
        (new, (begun + takes).since(now))
    }

    fn claim(&mut self, key: Key, id: Id<PersistentVolumeClaim>, cx: &SyncContext<'_>) -> Plan {
        let mut plan = Plan::none();
        let Some((claim, class)) = wanted(id, cx.view) else {
            self.begun.remove(&key);
            return plan;
        };
        let name = volume_name(claim);
        let volumes = cx.view.of::<PersistentVolume>();
        if volumes.named(&Text::default(), &name).is_some() {
            return plan;
        }
        let (new, left) = self.left(key, storage::of_class(class).provision, cx.now);
        if new {
            let full = claim.meta.full_name();
            let message =
                format!("External provisioner is provisioning volume for claim \"{full}\"");
            plan.event(pods::event(claim, SOURCE, "Provisioning", message, false));
        }
        if !left.is_zero() {
            plan.requeue(left);
            return plan;
        }
        self.begun.remove(&key);
        let volume = made(claim, class, name.clone(), cx.view);
        plan.write(Write::Create(volume.into()), "the volume is made");
        let message = format!("Successfully provisioned volume {name}");
        let reason = "ProvisioningSucceeded";
        plan.event(pods::event(claim, SOURCE, reason, message, false));
        plan
    }

    fn volume(&mut self, key: Key, id: Id<PersistentVolume>, cx: &SyncContext<'_>) -> Plan {
        let mut plan = Plan::none();
        let volume = cx.view.of::<PersistentVolume>().get(id);
        // shouldDelete
        let goes = |volume: &&Arc<PersistentVolume>| {
            volume.status.phase == VolumePhase::Released
                && volume.reclaim_delete
                && volume.meta.annotations.contains(PROVISIONED_BY)
                && !volume.meta.deleting()
        };
        let Some(volume) = volume.filter(goes) else {
            self.begun.remove(&key);
            return plan;
        };
        let takes = storage::of_volume(volume).provision;
        let (_, left) = self.left(key, takes, cx.now);
        if !left.is_zero() {
            plan.requeue(left);
            return plan;
        }
        self.begun.remove(&key);
        let write = Write::Delete {
            object: id.into(),
            uid: Some(volume.meta.uid),
            grace_s: None,
            propagation: Propagation::Background,
        };
        plan.write(write, "nobody claims it any more");
        plan
    }
}

/// `shouldProvision`: the claim and its class, if it is the provisioner's turn.
fn wanted(
    id: Id<PersistentVolumeClaim>,
    view: &View,
) -> Option<(&PersistentVolumeClaim, &StorageClass)> {
    let claim = view.of::<PersistentVolumeClaim>().get(id)?;
    let provisioner = claim.meta.annotations.get(PROVISIONER)?;
    let class = claim.storage_class.as_ref()?;
    let (_, class) = view.of::<StorageClass>().named(&Text::default(), class)?;
    let node = claim.meta.annotations.contains(SELECTED_NODE);
    let turn = claim.volume_name.is_empty()
        && !claim.meta.deleting()
        && *provisioner == class.provisioner
        && (node || !class.wait_for_consumer);
    turn.then_some((claim, class))
}

/// `getProvisionedVolumeNameForClaim`.
fn volume_name(claim: &PersistentVolumeClaim) -> Text {
    Text::from(format!("pvc-{}", claim.meta.uid))
}

/// The zone that a volume is made in: that of the node that waits for it, or one that depends on
/// the claim's name, so that claims of one set are spread
/// (`kubernetes-csi/external-provisioner/pkg/controller/topology.go`).
fn zone(claim: &PersistentVolumeClaim, class: &StorageClass, view: &View) -> Option<Text> {
    if !storage::zonal(class) {
        return None;
    }
    let node = claim.meta.annotations.get(SELECTED_NODE);
    let node = node.and_then(|name| view.nodes().named(&Text::default(), name));
    if let Some((_, node)) = node {
        return node.meta.labels.get(ZONE).cloned();
    }
    let nodes = view.nodes().iter();
    let mut zones: Vec<&Text> = nodes.filter_map(|(_, n)| n.meta.labels.get(ZONE)).collect();
    zones.sort();
    zones.dedup();
    let (name, ordinal) = match claim.meta.name.rsplit_once('-') {
        Some((name, digits)) => (name, digits.parse::<u64>().unwrap_or(0)),
        None => (claim.meta.name.as_str(), 0),
    };
    let count = u64::try_from(zones.len()).unwrap_or(0);
    let at = entity_key(&[name])
        .wrapping_add(ordinal)
        .checked_rem(count)?;
    zones.get(usize::try_from(at).ok()?).copied().cloned()
}

/// The new volume.
fn made(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    name: Text,
    view: &View,
) -> PersistentVolume {
    let zone = zone(claim, class, view);
    let mut annotations = [(PROVISIONED_BY, class.provisioner.clone())]
        .into_iter()
        .collect::<crate::api::Labels>();
    for key in [PROVISION, ATTACH, DETACH] {
        if let Some(value) = class.meta.annotations.get(key) {
            annotations = annotations.with(key, value.clone());
        }
    }
    let capacity = claim.request.unwrap_or(0);
    let modes: Vec<&str> = claim.access_modes.iter().map(|m| m.name()).collect();
    let policy = if class.reclaim_delete {
        "Delete"
    } else {
        "Retain"
    };
    let mut source = json!({
        "capacity": {"storage": Quantity::from_units(capacity).print(Format::BinarySi)},
        "csi": {"driver": class.provisioner.as_str(), "volumeHandle": name.as_str()},
        "accessModes": modes,
        "persistentVolumeReclaimPolicy": policy,
        "storageClassName": class.meta.name.as_str(),
        "volumeMode": if claim.block { "Block" } else { "Filesystem" },
    });
    if let Some(zone) = &zone {
        let term = json!({"key": ZONE, "operator": "In", "values": [zone.as_str()]});
        let terms = json!([{"matchExpressions": [term]}]);
        source["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": terms}});
    }
    let affinity = zone.map(|zone| {
        vec![NodeSelectorTerm {
            expressions: vec![Requirement {
                key: ZONE.into(),
                operator: Operator::In,
                values: vec![zone],
            }],
            fields: Vec::new(),
        }]
    });
    PersistentVolume {
        meta: Meta {
            name: name.clone(),
            annotations,
            ..Meta::default()
        },
        capacity,
        access_modes: claim.access_modes.clone(),
        claim: Some(ClaimRef {
            namespace: claim.meta.namespace.clone(),
            name: claim.meta.name.clone(),
            uid: Some(claim.meta.uid),
        }),
        storage_class: class.meta.name.clone(),
        node_affinity: affinity,
        block: claim.block,
        csi: Some((class.provisioner.clone(), name)),
        reclaim_delete: class.reclaim_delete,
        source: Arc::<Value>::new(source),
        ..PersistentVolume::default()
    }
}
