//! Claims and volumes that are in use are not removed before nobody needs them.
//!
//! Ports of `pkg/controller/volume/pvcprotection` and `pvprotection`: the finalizer of a claim that
//! is being deleted goes when no pod on a node uses it, that of a volume when it is not bound.

use std::time::Duration;

use crate::api::pod::VolumeSource;
use crate::api::volume::VolumePhase;
use crate::api::{Kind, Meta, PersistentVolume, PersistentVolumeClaim, Pod};
use crate::client::{Controller, Keys, Plan, SyncContext, Watches};
use crate::engine::Time;
use crate::store::admit::{CLAIM_PROTECTION, VOLUME_PROTECTION};
use crate::store::{Change, Id, ObjectId, Op, Patch, View, Write};

/// What is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A claim.
    Claim(Id<PersistentVolumeClaim>),
    /// A volume.
    Volume(Id<PersistentVolume>),
}

/// The claim and volume protection controllers in one.
#[derive(Debug, Default)]
pub struct VolumeProtection;

impl Controller for VolumeProtection {
    type Key = Key;
    const NAME: &'static str = "pvc-protection-controller";
    const WORKERS: usize = 1;
    const RESYNC: Option<Duration> = None;
    const WATCHES: Watches = Watches::kind(Kind::PersistentVolumeClaim)
        .and(Watches::kind(Kind::PersistentVolume))
        .and(Watches::PODS_WITH_CLAIMS);

    fn keys(&mut self, change: &Change, view: &View, _now: Time, keys: &mut Keys<Key>) {
        if change.rows::<PersistentVolumeClaim>().is_some() {
            let id = change.object.and_then(|o| o.typed());
            keys.now.extend(id.map(Key::Claim));
        } else if change.rows::<PersistentVolume>().is_some() {
            let id = change.object.and_then(|o| o.typed());
            keys.now.extend(id.map(Key::Volume));
        } else if let Some((old, Some(pod))) = change.rows::<Pod>() {
            // podAddedDeletedUpdated: only pods that stop using something matter.
            let ended = |pod: &Pod| pod.status.phase.terminal() || shut_down(pod);
            if !(change.op == Op::Delete || ended(pod) && !old.is_some_and(ended)) {
                return;
            }
            let claims = view.of::<PersistentVolumeClaim>();
            let volumes = pod.spec.volumes.iter();
            for name in volumes.filter_map(|v| v.claim_name(&pod.meta.name)) {
                let found = claims.named(&pod.meta.namespace, &name);
                keys.now.extend(found.map(|(id, _)| Key::Claim(id)));
            }
        }
    }

    fn sync(&mut self, key: Key, cx: &SyncContext<'_>) -> Plan {
        let mut plan = Plan::none();
        match key {
            Key::Claim(id) => {
                if let Some(claim) = cx.view.of::<PersistentVolumeClaim>().get(id) {
                    let pods = cx.view.pods().in_namespace(&claim.meta.namespace);
                    let mut bound = pods.filter(|(_, pod)| pod.node_name.is_some());
                    let used = bound.any(|(_, pod)| uses(pod, claim));
                    free(id.into(), &claim.meta, CLAIM_PROTECTION, used, &mut plan);
                }
            }
            Key::Volume(id) => {
                if let Some(volume) = cx.view.of::<PersistentVolume>().get(id) {
                    let used = volume.status.phase == VolumePhase::Bound;
                    free(id.into(), &volume.meta, VOLUME_PROTECTION, used, &mut plan);
                }
            }
        }
        plan
    }

    fn resync(&mut self, view: &View, _now: Time, keys: &mut Keys<Key>) {
        let claims = view.of::<PersistentVolumeClaim>().iter();
        keys.now.extend(claims.map(|(id, _)| Key::Claim(id)));
        let volumes = view.of::<PersistentVolume>().iter();
        keys.now.extend(volumes.map(|(id, _)| Key::Volume(id)));
    }

    fn restart(&mut self) {}
}

/// `podUsesPVCForDeletion`, of a pod on a node.
fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    pod.spec.volumes.iter().any(|volume| {
        volume.names_claim(&pod.meta.name, &claim.meta.name)
            && (volume.source != VolumeSource::Ephemeral
                || !shut_down(pod) && claim.is_for(&pod.meta).is_ok())
    })
}

/// `podIsShutDown`: its kubelet is done with it, or somebody did not wait for that.
fn shut_down(pod: &Pod) -> bool {
    pod.meta
        .deletion
        .is_some_and(|deletion| deletion.grace_s == 0)
}

/// Takes the finalizer away from an object that is being deleted and is not used.
fn free(object: ObjectId, meta: &Meta, finalizer: &str, used: bool, plan: &mut Plan) {
    if !meta.deleting() || used || !meta.finalizers.iter().any(|f| f == finalizer) {
        return;
    }
    let left = meta.finalizers.iter().filter(|f| *f != finalizer);
    let write = Write::Patch {
        object,
        uid: Some(meta.uid),
        patch: Patch::Finalizers(left.cloned().collect()),
    };
    plan.write(write, "nobody uses it any more");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::Kind;
    use crate::control::desk::{Desk, PLAIN};

    /// After `pvc_protection_controller_test.go :: TestPVCProtectionController`: what a pod is when
    /// its claim is deleted, what it becomes, and when the claim may go.
    #[test]
    fn a_claim_stays_while_a_pod_on_a_node_names_it() {
        let freed = "~claim data Finalizers";
        let table = [
            ("", "", freed, ""),
            // not bound: a kubelet will not start it with a claim that is going
            ("pending", "gone", freed, ""),
            ("running", "gone", "", freed),
            // what has ended still holds it, until it is deleted
            ("running", "succeeded", "", ""),
            ("failed", "gone", "", freed),
            ("running", "terminating", "", ""),
        ];
        for (before, after, first, then) in table {
            let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Gi"}}}});
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
                "spec": {"containers": [{"name": "c", "image": "x"}],
                    "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}});
            let mut desk = Desk::new(VolumeProtection, PLAIN, &[claim]);
            if !before.is_empty() {
                desk.create(&pod);
                desk.pods(&format!("p {before}"));
            }
            let claim = desk.find(Kind::PersistentVolumeClaim, "data");
            desk.delete(claim);
            assert_eq!(desk.log(), first, "{before}");
            if !after.is_empty() {
                desk.pods(&format!("p {after}"));
            }
            assert_eq!(desk.log(), then, "{before} {after}");
        }
    }

    /// A claim that was made for the pod goes as soon as its kubelet is done with it, even if a
    /// finalizer holds the pod; one that the pod names stays, and so does nobody's.
    #[test]
    fn a_claim_of_a_pods_own_goes_when_the_kubelet_is_done() {
        let own = json!({"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}});
        let named = json!({"name": "v", "persistentVolumeClaim": {"claimName": "p-v"}});
        let freed = "~claim p-v Finalizers";
        for (volume, owned, first, then) in [
            (&own, true, "", freed),
            (&own, false, freed, ""),
            (&named, false, "", ""),
        ] {
            let pod = json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "p", "finalizers": ["example.com/held"]},
                "spec": {"containers": [{"name": "c", "image": "x"}], "volumes": [volume]}});
            let mut desk = Desk::new(VolumeProtection, PLAIN, &[pod]);
            let (_, row) = desk.only::<Pod>();
            let uid = if owned {
                row.meta.uid.to_string()
            } else {
                "other".to_owned()
            };
            let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid,
                "controller": true}]);
            desk.create(&json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": "p-v", "ownerReferences": owner},
                "spec": {"accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Gi"}}}}));
            desk.pods("p running");
            let claim = desk.find(Kind::PersistentVolumeClaim, "p-v");
            desk.delete(claim);
            assert_eq!(desk.log(), first, "{volume} {owned}");
            desk.pods("p gone");
            assert_eq!(desk.log(), then, "{volume} {owned}");
        }
    }
}
