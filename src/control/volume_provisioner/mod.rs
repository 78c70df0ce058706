//! Making and deleting volumes on demand: what a CSI driver's `external-provisioner` does.
//!
//! A claim whose class names a provisioner is answered with a new volume after the time that
//! [`crate::api::storage`] tells; a released volume with the policy `Delete` is deleted. Where the
//! volume is made, `place` decides; whether the driver has room for it there, `room` knows. After
//! `kubernetes-csi/external-provisioner`:
//! `sigs.k8s.io/sig-storage-lib-external-provisioner/controller :: provisionClaimOperation`.

pub mod place;
pub mod room;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use self::place::{NoPlace, Segment, place};
use self::room::{Promise, Rooms};
use super::pods;
use super::volume_binder::{PROVISIONER, SELECTED_NODE};
use crate::api::quantity::{Format, Quantity};
use crate::api::storage::{self, ATTACH, DETACH, PROVISION, PROVISIONED_BY};
use crate::api::volume::{ClaimRef, VolumePhase};
use crate::api::{
    CSIStorageCapacity, Kind, Meta, PersistentVolume, PersistentVolumeClaim, StorageClass, Text,
};
use crate::client::{Controller, Keys, Outcome, Plan, SyncContext, Watches};
use crate::engine::Time;
use crate::store::{Change, Id, Op, Patch, Propagation, View, Write};

/// What is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A claim that needs a volume.
    Claim(Id<PersistentVolumeClaim>),
    /// A volume that is to go.
    Volume(Id<PersistentVolume>),
    /// What is said of the room that is left.
    Room(Id<CSIStorageCapacity>),
}

/// `--retry-interval-start` and `--retry-interval-max` of the provisioner.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// The provisioners of all classes in one.
#[derive(Debug, Default)]
pub struct VolumeProvisioner {
    /// What is being made or deleted.
    begun: BTreeMap<Key, Work>,
    rooms: Rooms,
}

/// Work on a claim or a volume.
#[derive(Clone, Copy, Debug)]
struct Work {
    /// When it is done, or tried again.
    due: Time,
    failures: u32,
}

impl Controller for VolumeProvisioner {
    type Key = Key;
    const NAME: &'static str = SOURCE;
    /// `--worker-threads` of the provisioner.
    const WORKERS: usize = 100;
    const WATCHES: Watches = Watches::kind(Kind::PersistentVolumeClaim)
        .and(Watches::kind(Kind::PersistentVolume))
        .and(Watches::kind(Kind::CSIStorageCapacity));

    fn keys(&mut self, change: &Change, view: &View, _now: Time, keys: &mut Keys<Key>) {
        let key = if change.rows::<PersistentVolumeClaim>().is_some() {
            change.object.and_then(|o| o.typed()).map(Key::Claim)
        } else if let Some((old, new)) = change.rows::<PersistentVolume>() {
            let rows = match change.op {
                Op::Delete => (old.or(new), None),
                _ => (old, new),
            };
            let rooms = self.rooms.volume_changed(rows, view);
            rooms.into_iter().for_each(|id| keys.add(Key::Room(id)));
            change.object.and_then(|o| o.typed()).map(Key::Volume)
        } else {
            self.rooms.object_changed(change, view);
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
            Key::Room(id) => self.room(id, cx.view),
        }
    }

    fn finish(&mut self, key: Key, outcome: &Outcome, _cx: &SyncContext<'_>) -> Plan {
        if let Key::Claim(id) = key
            && outcome.error.is_some()
        {
            self.rooms.withdraw(id);
        }
        Plan::none()
    }

    fn resync(&mut self, view: &View, _now: Time, keys: &mut Keys<Key>) {
        let claims = view.of::<PersistentVolumeClaim>().iter();
        keys.now.extend(claims.map(|(id, _)| Key::Claim(id)));
        let volumes = view.of::<PersistentVolume>().iter();
        keys.now.extend(volumes.map(|(id, _)| Key::Volume(id)));
        self.rooms.look(view);
    }

    fn restart(&mut self) {
        *self = VolumeProvisioner::default();
    }
}

const SOURCE: &str = "external-provisioner";

impl VolumeProvisioner {
    /// The work on a key, which takes so long if it is new.
    fn work(&mut self, key: Key, takes: Duration, now: Time) -> Work {
        let work = Work {
            due: now + takes,
            failures: 0,
        };
        *self.begun.entry(key).or_insert(work)
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
        let new = !self.begun.contains_key(&key);
        let work = self.work(key, storage::of_class(class).provision, cx.now);
        let left = work.due.since(cx.now);
        if new || (left.is_zero() && work.failures > 0) {
            plan.event(provisioning(claim));
        }
        if !left.is_zero() {
            plan.requeue(left);
            return plan;
        }
        let segment = match self.placed(id, claim, class, cx.view) {
            Ok(segment) => segment,
            Err(why) => {
                self.fails(id, claim, why, cx.now, &mut plan);
                return plan;
            }
        };
        let volume = made(claim, class, name.clone(), &segment);
        plan.write(Write::Create(volume.into()), "the volume is made");
        let message = format!("Successfully provisioned volume {name}");
        let reason = "ProvisioningSucceeded";
        plan.event(pods::event(claim, SOURCE, reason, message, false));
        plan
    }

    /// Where the volume is made, with room promised for it.
    fn placed(
        &mut self,
        id: Id<PersistentVolumeClaim>,
        claim: &PersistentVolumeClaim,
        class: &StorageClass,
        view: &View,
    ) -> Result<Segment, NoPlace> {
        let segment = place(claim, class, view)?;
        let wanted = Promise {
            volume: volume_name(claim),
            bytes: claim.request.unwrap_or(0),
        };
        let at = (&class.meta.name, &segment);
        let promised = self.rooms.promise(id, wanted, at, view);
        promised.map(|()| segment).map_err(|why| {
            let code = "rpc error: code = ResourceExhausted desc";
            NoPlace::Elsewhere(format!("{code} = {why}"))
        })
    }

    /// `provisionVolumeErrorHandling`: a claim whose node will not do goes back to the scheduler,
    /// others are tried again later and later.
    fn fails(
        &mut self,
        id: Id<PersistentVolumeClaim>,
        claim: &PersistentVolumeClaim,
        why: NoPlace,
        now: Time,
        plan: &mut Plan,
    ) {
        let (message, elsewhere) = match why {
            NoPlace::Elsewhere(message) => (message, true),
            NoPlace::Later(message) => (message, false),
        };
        let reason = "ProvisioningFailed";
        plan.event(pods::event(claim, SOURCE, reason, message, true));
        let key = Key::Claim(id);
        if elsewhere && claim.meta.annotations.contains(SELECTED_NODE) {
            self.begun.remove(&key);
            let write = Write::Patch {
                object: id.into(),
                uid: Some(claim.meta.uid),
                patch: Patch::Annotations(vec![(SELECTED_NODE.into(), None)]),
            };
            plan.write(write, "no volume can be made for this node");
        } else if let Some(work) = self.begun.get_mut(&key) {
            let (first, longest) = RETRY;
            let after = first.saturating_mul(1 << work.failures.min(16));
            let after = after.min(longest);
            work.failures = work.failures.saturating_add(1);
            work.due = now + after;
            plan.requeue(after);
        }
    }

    /// The room that is left is told to the scheduler.
    fn room(&mut self, id: Id<CSIStorageCapacity>, view: &View) -> Plan {
        let mut plan = Plan::none();
        if let Some(object) = self.rooms.update(id, view) {
            let write = Write::Update(id.into(), object.into());
            plan.write(write, "the room that is left");
        }
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
        let left = self.work(key, takes, cx.now).due.since(cx.now);
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

fn provisioning(claim: &PersistentVolumeClaim) -> crate::api::KubeEvent {
    let full = claim.meta.full_name();
    let message = format!("External provisioner is provisioning volume for claim \"{full}\"");
    pods::event(claim, SOURCE, "Provisioning", message, false)
}

/// `getProvisionedVolumeNameForClaim`.
fn volume_name(claim: &PersistentVolumeClaim) -> Text {
    Text::from(format!("pvc-{}", claim.meta.uid))
}

/// The new volume.
fn made(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    name: Text,
    segment: &Segment,
) -> PersistentVolume {
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
    let affinity = segment.affinity();
    if let Some(terms) = &affinity {
        let requirements = terms.iter().flat_map(|term| &term.expressions);
        let each = requirements.map(|r| {
            let values: Vec<&str> = r.values.iter().map(Text::as_str).collect();
            json!({"key": r.key.as_str(), "operator": "In", "values": values})
        });
        let terms = json!([{"matchExpressions": each.collect::<Vec<_>>()}]);
        source["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": terms}});
    }
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
