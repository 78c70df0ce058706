//! Attaching volumes to the nodes whose pods need them, and detaching them again.
//!
//! A port of the decisions of `pkg/controller/volume/attachdetach/reconciler/reconciler.go`, one
//! volume at a time, together with the CSI driver's `external-attacher` that carries them out after
//! the time that [`crate::api::storage`] tells. A volume of one writer is attached to one node only:
//! a pod elsewhere waits until it is detached. It is detached when no pod of the node needs it *and*
//! the kubelet no longer reports it in use. A node that is lost reports nothing any more, so its
//! volumes stay for six minutes more, until they are taken away by force; the taint
//! `node.kubernetes.io/out-of-service` says that this is safe at once.
//!
//! What it does not know: whether a process still writes to what is detached by force.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::pods;
use crate::api::pod::{Volume, VolumeSource};
use crate::api::storage;
use crate::api::volume::{AccessMode, AttachmentStatus};
use crate::api::{
    Kind, Meta, Node, PersistentVolume, PersistentVolumeClaim, Pod, Text, VolumeAttachment,
};
use crate::client::{Controller, Keys, Plan, SyncContext, Watches, Written};
use crate::engine::Time;
use crate::store::{Change, Id, Op, Patch, Propagation, View, Write};

/// `attach_detach_controller.go :: DefaultTimerConfig.ReconcilerMaxWaitForUnmountDuration`.
const MAX_WAIT_FOR_UNMOUNT: Duration = Duration::from_secs(6 * 60);
/// `v1.TaintNodeOutOfService`.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// What an attacher puts on its VolumeAttachments.
const ATTACHER: &str = "external-attacher/rehearsal-dev";

type Key = Id<PersistentVolume>;

/// The attach/detach controller with the attachers of all drivers.
#[derive(Debug, Default)]
pub struct AttachDetach {
    written: Written<Key>,
    /// Since when a volume should leave a node (`SetDetachRequestTime`).
    unwanted: BTreeMap<(Key, Text), Time>,
    /// When the driver began to attach or detach.
    begun: BTreeMap<(Id<VolumeAttachment>, bool), Time>,
    /// Nodes for which it was told that the volume is elsewhere (`ReportMultiAttachError`).
    told: BTreeSet<(Key, Text)>,
}

impl Controller for AttachDetach {
    type Key = Key;
    const NAME: &'static str = SOURCE;
    const WATCHES: Watches = Watches::kind(Kind::VolumeAttachment)
        .and(Watches::kind(Kind::Node))
        .and(Watches::kind(Kind::PersistentVolumeClaim))
        .and(Watches::PODS_WITH_VOLUMES);

    fn keys(&mut self, change: &Change, view: &View, _now: Time, keys: &mut Keys<Key>) {
        let volumes = view.of::<PersistentVolume>();
        let named = |name: &Text| volumes.named(&Text::default(), name).map(|(id, _)| id);
        if let Some((_, Some(pod))) = change.rows::<Pod>() {
            if pod.node_name.is_some() {
                keys.now.extend(volumes_of(pod, view));
            }
        } else if let Some((_, Some(attachment))) = change.rows::<VolumeAttachment>() {
            keys.now.extend(named(&attachment.volume));
        } else if let Some((old, Some(node))) = change.rows::<Node>() {
            let none = Vec::new();
            let before = old.map_or(&none, |old| &old.status.volumes_in_use);
            let after = &node.status.volumes_in_use;
            let taints = |node: &Node| node.taints.iter().any(|t| t.key == OUT_OF_SERVICE);
            if before != after
                || change.op == Op::Delete
                || old.is_some_and(|old| taints(old) != taints(node))
            {
                keys.now
                    .extend(before.iter().chain(after).filter_map(named));
            }
        } else if let Some((_, Some(claim))) = change.rows::<PersistentVolumeClaim>() {
            // The pod may have been bound before the view showed the claim bound.
            keys.now.extend(named(&claim.volume_name));
        }
    }

    fn sync(&mut self, key: Key, cx: &SyncContext<'_>) -> Plan {
        if let Some(plan) = self.written.too_early(key, cx.view) {
            return plan;
        }
        let mut plan = Plan::none();
        let Some(volume) = cx.view.of::<PersistentVolume>().get(key) else {
            self.forget(key);
            return plan;
        };
        let Some(times) = storage::of_volume(volume).attach else {
            return plan;
        };
        let pods = users(volume, cx.view);
        let attached = attachments(volume, cx.view);
        for (id, attachment) in &attached {
            self.drive(*id, attachment, &pods, times, &mut plan, cx);
            self.detach(key, *id, attachment, &pods, &mut plan, cx);
        }
        self.attach(key, volume, &pods, &attached, cx.view, &mut plan);
        plan
    }

    fn on_reply(
        &mut self,
        key: Key,
        write: &Write,
        reply: &crate::client::Reply,
        _cx: &SyncContext<'_>,
        _events: &mut Vec<crate::api::KubeEvent>,
    ) {
        self.written.note(key, write, reply);
    }

    fn resync(&mut self, view: &View, _now: Time, keys: &mut Keys<Key>) {
        let volumes = view.of::<PersistentVolume>().iter();
        keys.now.extend(volumes.map(|(id, _)| id));
    }

    fn restart(&mut self) {
        *self = AttachDetach::default();
    }
}

const SOURCE: &str = "attachdetach-controller";

type Users<'a> = BTreeMap<&'a Text, Vec<&'a Arc<Pod>>>;
type Attached<'a> = Vec<(Id<VolumeAttachment>, &'a Arc<VolumeAttachment>)>;

/// The volumes behind a pod's claims.
fn volumes_of(pod: &Pod, view: &View) -> Vec<Key> {
    let claims = view.of::<PersistentVolumeClaim>();
    let volumes = view.of::<PersistentVolume>();
    let named = pod.spec.volumes.iter().filter_map(|v| {
        let name = v.claim_name(&pod.meta.name)?;
        let (id, claim) = claims.named(&pod.meta.namespace, &name)?;
        usable(v, pod, claim).then_some((id, claim))
    });
    let ids = named.filter_map(|(_, c)| volumes.named(&Text::default(), &c.volume_name));
    ids.map(|(id, _)| id).collect()
}

/// Whether the claim of a volume is the pod's: one of its own must be made for it
/// (`attachdetach/util/util.go :: CreateVolumeSpec`).
fn usable(volume: &Volume, pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    volume.source != VolumeSource::Ephemeral || claim.is_for(&pod.meta).is_ok()
}

/// The pods that need the volume, by node (the desired state of the world).
fn users<'a>(volume: &PersistentVolume, view: &'a View) -> Users<'a> {
    let mut users = Users::new();
    let Some(claim) = &volume.claim else {
        return users;
    };
    let claims = view.of::<PersistentVolumeClaim>();
    let row = claims.named(&claim.namespace, &claim.name);
    let uses = |pod: &Pod| {
        pod.spec.volumes.iter().any(|v| {
            let other = |(_, row): (_, &Arc<PersistentVolumeClaim>)| !usable(v, pod, row);
            v.names_claim(&pod.meta.name, &claim.name) && !row.is_some_and(other)
        })
    };
    for (_, pod) in view.pods().in_namespace(&claim.namespace) {
        let Some(node) = &pod.node_name else {
            continue;
        };
        if !shut_down(pod) && uses(pod) {
            users.entry(node).or_default().push(pod);
        }
    }
    users
}

/// `pkg/volume/util/util.go :: IsPodTerminated`: ended, or being deleted with nothing running (a pod
/// that no kubelet has told anything of runs nothing).
fn shut_down(pod: &Pod) -> bool {
    use crate::api::pod_status::ContainerState::Running;
    let all = pod.status.containers.iter();
    let mut all = all.chain(&pod.status.init_containers);
    let runs = all.any(|c| matches!(c.state, Running { .. }));
    pod.status.phase.terminal() || pod.meta.deleting() && !runs
}

fn attachments<'a>(volume: &PersistentVolume, view: &'a View) -> Attached<'a> {
    let all = view.of::<VolumeAttachment>().iter();
    all.filter(|(_, a)| a.volume == volume.meta.name).collect()
}

/// `IsMultiAttachAllowed`.
fn many_nodes(volume: &PersistentVolume) -> bool {
    let mut modes = volume.access_modes.iter();
    modes.any(|m| matches!(m, AccessMode::ReadOnlyMany | AccessMode::ReadWriteMany))
}

impl AttachDetach {
    fn forget(&mut self, key: Key) {
        self.unwanted.retain(|(volume, _), _| *volume != key);
        self.told.retain(|(volume, _)| *volume != key);
        self.written.forget(key);
    }

    /// The driver: attaches what is new, detaches what is being deleted.
    fn drive(
        &mut self,
        id: Id<VolumeAttachment>,
        attachment: &Arc<VolumeAttachment>,
        pods: &Users<'_>,
        times: (Duration, Duration),
        plan: &mut Plan,
        cx: &SyncContext<'_>,
    ) {
        let going = attachment.meta.deleting();
        if attachment.status.attached && !going {
            return;
        }
        let takes = if going { times.1 } else { times.0 };
        let begun = *self.begun.entry((id, going)).or_insert(cx.now);
        let left = (begun + takes).since(cx.now);
        if !left.is_zero() {
            plan.requeue(left);
            return;
        }
        self.begun.remove(&(id, going));
        if going {
            let patch = Patch::Finalizers(Vec::new());
            let write = Write::Patch {
                object: id.into(),
                uid: Some(attachment.meta.uid),
                patch,
            };
            plan.write(write, "the driver has detached it");
            return;
        }
        let mut new = VolumeAttachment::clone(attachment);
        new.status = AttachmentStatus { attached: true };
        let write = Write::UpdateStatus(id.into(), new.into());
        plan.write(write, "the driver has attached it");
        let message = format!(
            "AttachVolume.Attach succeeded for volume \"{}\" ",
            attachment.volume
        );
        for pod in pods.get(&attachment.node).into_iter().flatten() {
            let reason = "SuccessfulAttachVolume";
            plan.event(pods::event(&***pod, SOURCE, reason, message.clone(), false));
        }
    }

    /// `reconcile`, the half about volumes that should not be where they are.
    fn detach(
        &mut self,
        key: Key,
        id: Id<VolumeAttachment>,
        attachment: &VolumeAttachment,
        pods: &Users<'_>,
        plan: &mut Plan,
        cx: &SyncContext<'_>,
    ) {
        let at = (key, attachment.node.clone());
        if pods.contains_key(&attachment.node) || attachment.meta.deleting() {
            self.unwanted.remove(&at);
            return;
        }
        // What the driver has begun it ends first (`IsOperationSafeToRetry`).
        if !attachment.status.attached {
            return;
        }
        let since = *self.unwanted.entry(at.clone()).or_insert(cx.now);
        let node = cx.view.nodes().named(&Text::default(), &attachment.node);
        let node = node.map(|(_, node)| node);
        let mounted = node.is_some_and(|n| n.status.volumes_in_use.contains(&attachment.volume));
        let out = node.is_some_and(|n| n.taints.iter().any(|t| t.key == OUT_OF_SERVICE));
        let healthy = node.is_some_and(|node| node.ready());
        let left = (since + MAX_WAIT_FOR_UNMOUNT).since(cx.now);
        let by_force = !healthy && left.is_zero();
        if mounted && !by_force && !out {
            // Of a healthy node it is never taken: its kubelet will say when it may be.
            let again = if left.is_zero() {
                Duration::from_secs(1)
            } else {
                left
            };
            plan.requeue(again);
            return;
        }
        self.unwanted.remove(&at);
        let rule = match (mounted, out) {
            (true, true) => "the node is out of service",
            (true, false) => "6 minutes without an unmount, the node is not ready",
            (false, _) => "no pod on the node needs it",
        };
        let write = Write::Delete {
            object: id.into(),
            uid: Some(attachment.meta.uid),
            grace_s: None,
            propagation: Propagation::Background,
        };
        plan.write(write, rule);
    }

    /// `attachDesiredVolumes`.
    fn attach(
        &mut self,
        key: Key,
        volume: &PersistentVolume,
        pods: &Users<'_>,
        attached: &Attached<'_>,
        view: &View,
        plan: &mut Plan,
    ) {
        // `IsOperationPending`: while the driver is at work nothing is begun and nothing is said.
        let at_work =
            |(_, a): &(_, &Arc<VolumeAttachment>)| !a.status.attached || a.meta.deleting();
        let busy = attached.iter().any(at_work);
        // What was said is forgotten with the last pod of the node.
        self.told
            .retain(|(volume, node)| *volume != key || pods.contains_key(node));
        let mut free = many_nodes(volume) || attached.is_empty();
        for (node, waiting) in pods {
            let here = attached.iter().any(|(_, a)| a.node == **node);
            // `desiredStateOfWorld.NodeExists`
            let exists = view.nodes().named(&Text::default(), node).is_some();
            if here || !exists {
                continue;
            }
            if !free {
                if !busy && self.told.insert((key, (*node).clone())) {
                    let here = attached.iter().map(|(_, a)| &a.node).collect();
                    multi_attach(volume, pods, &here, waiting, plan);
                }
                continue;
            }
            free = many_nodes(volume);
            let name = storage::attachment_name(&volume.meta.name, node);
            let driver = volume.csi.as_ref().map(|(driver, _)| driver.clone());
            let new = VolumeAttachment {
                meta: Meta {
                    name,
                    finalizers: [Text::from(ATTACHER)].into(),
                    ..Meta::default()
                },
                attacher: driver.unwrap_or_default(),
                node: (*node).clone(),
                volume: volume.meta.name.clone(),
                status: AttachmentStatus::default(),
            };
            plan.write(Write::Create(new.into()), "a pod on the node needs it");
        }
    }
}

/// `reportMultiAttachError`: the pods that wait are told which pods have the volume, on the nodes
/// where it is attached.
fn multi_attach(
    volume: &PersistentVolume,
    pods: &Users<'_>,
    nodes: &BTreeSet<&Text>,
    waiting: &[&Arc<Pod>],
    plan: &mut Plan,
) {
    let others = pods.iter().filter(|(other, _)| nodes.contains(*other));
    let others: Vec<&Arc<Pod>> = others.flat_map(|(_, pods)| pods.iter().copied()).collect();
    for pod in waiting {
        let same = others
            .iter()
            .filter(|o| o.meta.namespace == pod.meta.namespace);
        let same: Vec<&str> = same.map(|o| o.meta.name.as_str()).collect();
        let why = if same.is_empty() {
            "Volume is already exclusively attached to one node and can't be attached to \
             another"
                .to_owned()
        } else {
            format!("Volume is already used by pod(s) {}", same.join(", "))
        };
        let name = &volume.meta.name;
        let message = format!("Multi-Attach error for volume \"{name}\" {why}");
        let event = pods::event(&***pod, SOURCE, "FailedAttachVolume", message, true);
        plan.event(event);
    }
}

#[cfg(test)]
mod tests;
