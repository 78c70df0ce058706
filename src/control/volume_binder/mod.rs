//! The persistent volume controller: which claim gets which volume, and what becomes of volumes
//! whose claim is gone.
//!
//! A port of `pkg/controller/volume/persistentvolume/pv_controller.go`. A binding is four writes:
//! the volume's claim, the volume's phase, the claim's volume, the claim's phase; each sync does those
//! that are missing, so that a binding that was cut short is finished by the next one. Claims of a
//! class with `WaitForFirstConsumer` wait until the scheduler has chosen a node. Volumes are made and
//! deleted by [`super::volume_provisioner`], as with all CSI drivers.
//!
//! What it does not know: nodes, pods (but for the words of an event), disks.

mod matching;

use std::sync::Arc;
use std::time::Duration;

use super::pods;
use crate::api::storage::{BOUND_BY_CONTROLLER, NO_PROVISIONER, PROVISIONED_BY};
use crate::api::volume::{ClaimPhase, VolumePhase};
use crate::api::{
    Kind, KubeEvent, Object, PersistentVolume, PersistentVolumeClaim, Pod, StorageClass, Text,
};
use crate::client::{Controller, Keys, Plan, Reply, SyncContext, Watches, Written};
use crate::engine::Time;
use crate::store::admit::default_class;
use crate::store::{Change, Id, Op, Propagation, View, Write};
use matching::{best, mismatch};

/// Annotation: the binding was finished once.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Annotation of a claim: the node that its volume must be provisioned for.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Annotation of a claim: who is to provision its volume.
pub const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// The same before it was stable.
const PROVISIONER_BETA: &str = "volume.beta.kubernetes.io/storage-provisioner";

/// What is synced: a claim or a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A claim.
    Claim(Id<PersistentVolumeClaim>),
    /// A volume.
    Volume(Id<PersistentVolume>),
}

/// The persistent volume controller.
#[derive(Debug, Default)]
pub struct VolumeBinder {
    /// Upstream's own cache has every write at once; here the next sync waits for its view.
    written: Written<()>,
}

impl Controller for VolumeBinder {
    type Key = Key;
    const NAME: &'static str = SOURCE;
    /// One goroutine for claims and one for volumes, with one cache.
    const WORKERS: usize = 1;
    /// `--pvclaimbinder-sync-period`.
    const RESYNC: Option<Duration> = Some(Duration::from_secs(15));
    const WATCHES: Watches =
        Watches::kind(Kind::PersistentVolumeClaim).and(Watches::kind(Kind::PersistentVolume));

    fn keys(&mut self, change: &Change, view: &View, _now: Time, keys: &mut Keys<Key>) {
        if let Some((_, Some(claim))) = change.rows::<PersistentVolumeClaim>() {
            let id = change.object.and_then(|o| o.typed());
            keys.now.extend(id.map(Key::Claim));
            // deleteClaim: the volume is released at once.
            if change.op == Op::Delete {
                let volumes = view.of::<PersistentVolume>();
                let volume = volumes.named(&Text::default(), &claim.volume_name);
                keys.now.extend(volume.map(|(id, _)| Key::Volume(id)));
            }
        } else if let Some((_, Some(volume))) = change.rows::<PersistentVolume>() {
            let id = change.object.and_then(|o| o.typed());
            keys.now.extend(id.map(Key::Volume));
            let claim = volume.claim.as_ref().and_then(|claim| {
                let claims = view.of::<PersistentVolumeClaim>();
                claims.named(&claim.namespace, &claim.name)
            });
            // The claim of a new volume, or of one that is gone.
            if let Some((id, claim)) = claim
                && (claim.volume_name.is_empty() || change.op == Op::Delete)
            {
                keys.add(Key::Claim(id));
            }
        }
    }

    fn sync(&mut self, key: Key, cx: &SyncContext<'_>) -> Plan {
        if let Some(plan) = self.written.too_early((), cx.view) {
            return plan;
        }
        let mut sync = Sync {
            view: cx.view,
            plan: Plan::none(),
        };
        match key {
            Key::Claim(id) => {
                if let Some(claim) = cx.view.of::<PersistentVolumeClaim>().get(id) {
                    if claim.meta.annotations.contains(BIND_COMPLETED) {
                        sync.bound_claim(id, claim);
                    } else {
                        sync.unbound_claim(id, claim);
                    }
                }
            }
            Key::Volume(id) => {
                if let Some(volume) = cx.view.of::<PersistentVolume>().get(id) {
                    sync.volume(id, volume);
                }
            }
        }
        sync.plan
    }

    fn on_reply(
        &mut self,
        _key: Key,
        write: &Write,
        reply: &Reply,
        _cx: &SyncContext<'_>,
        _events: &mut Vec<KubeEvent>,
    ) {
        self.written.note((), write, reply);
    }

    fn resync(&mut self, view: &View, _now: Time, keys: &mut Keys<Key>) {
        let volumes = view.of::<PersistentVolume>().iter();
        keys.now.extend(volumes.map(|(id, _)| Key::Volume(id)));
        let claims = view.of::<PersistentVolumeClaim>().iter();
        keys.now.extend(claims.map(|(id, _)| Key::Claim(id)));
    }

    fn restart(&mut self) {
        *self = VolumeBinder::default();
    }
}

const SOURCE: &str = "persistentvolume-controller";

type Claim = Arc<PersistentVolumeClaim>;
type Volume = Arc<PersistentVolume>;

struct Sync<'a> {
    view: &'a View,
    plan: Plan,
}

impl Sync<'_> {
    fn tell<T: Object>(&mut self, about: &T, reason: &str, message: String, warning: bool) {
        let event = pods::event(about, SOURCE, reason, message, warning);
        self.plan.event(event);
    }

    fn class(&self, name: &Text) -> Option<&StorageClass> {
        let classes = self.view.of::<StorageClass>();
        classes
            .named(&Text::default(), name)
            .map(|(_, class)| &**class)
    }

    /// `syncUnboundClaim`.
    fn unbound_claim(&mut self, id: Id<PersistentVolumeClaim>, claim: &Claim) {
        if !claim.volume_name.is_empty() {
            self.claim_of_one_volume(id, claim);
            return;
        }
        let class = claim.class();
        let delayed = self.class(&class).is_some_and(|c| c.wait_for_consumer);
        if let Some((volume_id, volume)) = best(claim, delayed, self.view) {
            let volume = volume.clone();
            self.bind(volume_id, &volume, id, claim);
            return;
        }
        if claim.storage_class.is_none()
            && class.is_empty()
            && let Some(default) = default_class(self.view)
        {
            // assignDefaultStorageClass: a default class came after the claim.
            let mut new = PersistentVolumeClaim::clone(claim);
            new.storage_class = Some(default);
            let write = Write::Update(id.into(), new.into());
            self.plan.write(write, "there is a default class now");
            return;
        }
        if delayed && !claim.meta.annotations.contains(SELECTED_NODE) {
            let (reason, message) = self.waiting(claim);
            self.tell(&**claim, reason, message, false);
        } else if !class.is_empty() {
            self.provision(id, claim, &class);
            return;
        } else {
            let message =
                "no persistent volumes available for this claim and no storage class is set";
            self.tell(&**claim, "FailedBinding", message.into(), false);
        }
        self.claim_phase(id, claim, ClaimPhase::Pending, None);
    }

    /// `emitEventForUnboundDelayBindingClaim`.
    fn waiting(&self, claim: &Claim) -> (&'static str, String) {
        let uses = |pod: &Pod| {
            let mut volumes = pod.spec.volumes.iter();
            volumes.any(|v| v.names_claim(&pod.meta.name, &claim.meta.name))
        };
        let pods = self.view.pods().in_namespace(&claim.meta.namespace);
        let pods = pods.filter(|(_, pod)| {
            pod.node_name.is_none() && !pod.status.phase.terminal() && uses(pod)
        });
        let names: Vec<&str> = pods.map(|(_, pod)| pod.meta.name.as_str()).collect();
        match names.as_slice() {
            [] => {
                let message = "waiting for first consumer to be created before binding";
                ("WaitForFirstConsumer", message.into())
            }
            [name] => {
                let message = format!("waiting for pod {name} to be scheduled");
                ("WaitForPodScheduled", message)
            }
            names => {
                let names = names.join(",");
                let message = format!("waiting for pods {names} to be scheduled");
                ("WaitForPodScheduled", message)
            }
        }
    }

    /// The claim names its volume.
    fn claim_of_one_volume(&mut self, id: Id<PersistentVolumeClaim>, claim: &Claim) {
        let volumes = self.view.of::<PersistentVolume>();
        let Some((volume_id, volume)) = volumes.named(&Text::default(), &claim.volume_name) else {
            self.claim_phase(id, claim, ClaimPhase::Pending, None);
            return;
        };
        let name = &volume.meta.name;
        if volume.claim.is_none()
            && let Some(why) = mismatch(volume, claim)
        {
            let message = format!("Cannot bind to requested volume \"{name}\": {why}");
            self.tell(&**claim, "VolumeMismatch", message, true);
            self.claim_phase(id, claim, ClaimPhase::Pending, None);
        } else if volume.claim.is_none() || volume.bound_to(claim) {
            let volume = volume.clone();
            self.bind(volume_id, &volume, id, claim);
        } else {
            let message = format!("volume \"{name}\" already bound to a different claim.");
            self.tell(&**claim, "FailedBinding", message, true);
            self.claim_phase(id, claim, ClaimPhase::Pending, None);
        }
    }

    /// `provisionClaimOperationExternal`: tells the provisioner that it is its turn.
    fn provision(&mut self, id: Id<PersistentVolumeClaim>, claim: &Claim, class: &Text) {
        let refused = match self.class(class) {
            None => Err(format!("storageclass.storage.k8s.io \"{class}\" not found")),
            Some(found) if found.provisioner == NO_PROVISIONER => {
                Err(format!("no volume plugin matched name: {NO_PROVISIONER}"))
            }
            Some(found) => Ok(found.provisioner.clone()),
        };
        let provisioner = match refused {
            Ok(provisioner) => provisioner,
            Err(message) => {
                self.tell(&**claim, "ProvisioningFailed", message, true);
                return;
            }
        };
        if claim.meta.annotations.get(PROVISIONER) != Some(&provisioner) {
            let mut new = PersistentVolumeClaim::clone(claim);
            let annotations = &new.meta.annotations;
            new.meta.annotations = annotations
                .with(PROVISIONER, provisioner.clone())
                .with(PROVISIONER_BETA, provisioner.clone());
            let write = Write::Update(id.into(), new.into());
            self.plan.write(write, "a provisioner has to make it");
        }
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner \
             '{provisioner}' or manually by the system administrator. If volume creation is \
             delayed, please verify that the provisioner is running and correctly registered."
        );
        self.tell(&**claim, "ExternalProvisioning", message, false);
    }

    /// `syncBoundClaim`.
    fn bound_claim(&mut self, id: Id<PersistentVolumeClaim>, claim: &Claim) {
        let volumes = self.view.of::<PersistentVolume>();
        let found = volumes.named(&Text::default(), &claim.volume_name);
        let ours = |volume: &PersistentVolume| {
            let other = volume.claim.as_ref();
            other.is_none_or(|other| other.uid == Some(claim.meta.uid))
        };
        let (reason, message) = match found {
            Some((volume_id, volume)) if ours(volume) => {
                let volume = volume.clone();
                self.bind(volume_id, &volume, id, claim);
                return;
            }
            Some(_) => {
                let message =
                    "Two claims are bound to the same volume, this one is bound incorrectly";
                ("ClaimMisbound", message)
            }
            None if claim.volume_name.is_empty() => {
                let message = "Bound claim has lost reference to PersistentVolume. Data on the \
                               volume is lost!";
                ("ClaimLost", message)
            }
            None => {
                let message =
                    "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
                ("ClaimLost", message)
            }
        };
        if claim.status.phase != ClaimPhase::Lost {
            self.claim_phase(id, claim, ClaimPhase::Lost, None);
            self.tell(&**claim, reason, message.into(), true);
        }
    }

    /// `updateClaimStatus`.
    fn claim_phase(
        &mut self,
        id: Id<PersistentVolumeClaim>,
        claim: &Claim,
        phase: ClaimPhase,
        volume: Option<&PersistentVolume>,
    ) {
        let mut new = PersistentVolumeClaim::clone(claim);
        new.status.capacity = match volume {
            None => 0,
            Some(volume) if claim.status.phase != phase => volume.capacity,
            Some(_) => claim.status.capacity,
        };
        new.status.phase = phase;
        if new.status != claim.status {
            let write = Write::UpdateStatus(id.into(), new.into());
            self.plan.write(write, "the claim's phase changed");
        }
    }

    /// `updateVolumePhase`.
    fn volume_phase(&mut self, id: Id<PersistentVolume>, volume: &Volume, phase: VolumePhase) {
        if volume.status.phase != phase {
            let mut new = PersistentVolume::clone(volume);
            new.status.phase = phase;
            let write = Write::UpdateStatus(id.into(), new.into());
            self.plan.write(write, "the volume's phase changed");
        }
    }

    /// `bind`: what is missing of the four writes.
    fn bind(
        &mut self,
        volume_id: Id<PersistentVolume>,
        volume: &Volume,
        id: Id<PersistentVolumeClaim>,
        claim: &Claim,
    ) {
        // GetBindVolumeToClaim
        let bound = volume.claimed_by(claim);
        if bound != **volume {
            let write = Write::Update(volume_id.into(), bound.clone().into());
            self.plan.write(write, "this volume fits the claim");
        }
        self.volume_phase(volume_id, &Arc::new(bound), VolumePhase::Bound);
        // bindClaimToVolume
        let mut owner = PersistentVolumeClaim::clone(claim);
        if owner.volume_name != volume.meta.name {
            owner.volume_name = volume.meta.name.clone();
            let annotations = &owner.meta.annotations;
            owner.meta.annotations = annotations.with(BOUND_BY_CONTROLLER, "yes");
        }
        if !owner.meta.annotations.contains(BIND_COMPLETED) {
            let annotations = &owner.meta.annotations;
            owner.meta.annotations = annotations.with(BIND_COMPLETED, "yes");
        }
        if owner != **claim {
            let write = Write::Update(id.into(), owner.clone().into());
            self.plan.write(write, "the claim gets this volume");
        }
        self.claim_phase(id, &Arc::new(owner), ClaimPhase::Bound, Some(volume));
    }

    /// `syncVolume`.
    fn volume(&mut self, id: Id<PersistentVolume>, volume: &Volume) {
        let Some(bound) = volume.claim.as_ref().filter(|claim| claim.uid.is_some()) else {
            self.volume_phase(id, volume, VolumePhase::Available);
            return;
        };
        let claims = self.view.of::<PersistentVolumeClaim>();
        let claim = claims.named(&bound.namespace, &bound.name);
        let claim = claim.map(|(_, claim)| claim);
        let claim = claim.filter(|claim| Some(claim.meta.uid) == bound.uid);
        let Some(claim) = claim else {
            self.release(id, volume);
            return;
        };
        if claim.volume_name.is_empty() {
            if claim.block != volume.block {
                let name = &claim.meta.name;
                let message = format!(
                    "Cannot bind PersistentVolume to requested PersistentVolumeClaim \"{name}\" \
                     due to incompatible volumeMode."
                );
                self.tell(&**volume, "VolumeMismatch", message, true);
                let name = &volume.meta.name;
                let message = format!(
                    "Cannot bind PersistentVolume \"{name}\" to requested PersistentVolumeClaim \
                     due to incompatible volumeMode."
                );
                self.tell(&**claim, "VolumeMismatch", message, true);
            }
        } else if claim.volume_name == volume.meta.name {
            self.volume_phase(id, volume, VolumePhase::Bound);
        } else if volume.meta.annotations.contains(PROVISIONED_BY) && volume.reclaim_delete {
            self.release(id, volume);
        } else {
            self.unbind(id, volume);
        }
    }

    /// The claim is gone or bound elsewhere (`reclaimVolume`). With the policy `Delete` a volume of a
    /// driver is deleted by its provisioner; one that nobody can delete has failed. With `Retain` it
    /// stays as it is, for somebody to look at.
    fn release(&mut self, id: Id<PersistentVolume>, volume: &Volume) {
        let mut released = PersistentVolume::clone(volume);
        if volume.status.phase != VolumePhase::Failed {
            self.volume_phase(id, volume, VolumePhase::Released);
            released.status.phase = VolumePhase::Released;
        }
        let external = volume.csi.is_some() || volume.meta.annotations.contains(PROVISIONED_BY);
        if !volume.reclaim_delete || external {
            return;
        }
        match matching::deleter(volume) {
            Ok(()) if volume.meta.deleting() => {}
            Ok(()) => {
                let write = Write::Delete {
                    object: id.into(),
                    uid: Some(volume.meta.uid),
                    grace_s: None,
                    propagation: Propagation::Background,
                };
                self.plan.write(write, "nobody claims it any more");
            }
            Err(why) if released.status.phase != VolumePhase::Failed => {
                self.volume_phase(id, &Arc::new(released), VolumePhase::Failed);
                self.tell(&**volume, "VolumeFailedDelete", why, true);
            }
            Err(_) => {}
        }
    }

    /// `unbindVolume`.
    fn unbind(&mut self, id: Id<PersistentVolume>, volume: &Volume) {
        let mut new = PersistentVolume::clone(volume);
        if volume.meta.annotations.contains(BOUND_BY_CONTROLLER) {
            new.claim = None;
            new.meta.annotations = new.meta.annotations.without(BOUND_BY_CONTROLLER);
        } else if let Some(claim) = &mut new.claim {
            claim.uid = None;
        }
        let write = Write::Update(id.into(), new.clone().into());
        self.plan.write(write, "the claim has another volume");
        self.volume_phase(id, &Arc::new(new), VolumePhase::Available);
    }
}

#[cfg(test)]
mod tests;
