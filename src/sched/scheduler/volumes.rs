//! PreBind of VolumeBinding: from a decision about volumes to volumes that are bound
//! (`pkg/scheduler/framework/plugins/volumebinding/binder.go :: BindPodVolumes`).
//!
//! What was decided is written one object after the other; then the pod waits until the volume
//! controller has bound everything, looks once a second, and gives up in the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::bind::Pending;
use super::{Event, Scheduler};
use crate::api::{Object, PersistentVolume, PersistentVolumeClaim, Pod, Row, Text};
use crate::client::{Outbox, Reply};
use crate::engine::Time;
use crate::sched::plugin::PodEntry;
use crate::sched::plugins::volume_binding::{PodVolumes, SELECTED_NODE};
use crate::sched::queue::QueuedPod;
use crate::store::{Id, Patch, View, Write};

/// `VolumeBindingArgs.bindTimeoutSeconds`, unless the profile says otherwise.
const BIND_TIMEOUT: Duration = Duration::from_secs(600);
/// How often it looks whether volumes are bound.
const PERIOD: Duration = Duration::from_secs(1);

/// A pod with a node that waits for its volumes to be bound there (`PreBind`).
#[derive(Clone, Debug)]
pub(super) struct VolumeWait {
    pub queued: QueuedPod,
    pub node: Text,
    pub volumes: PodVolumes,
    /// Tells answers to this wait's writes from those to an earlier one's.
    number: u64,
    /// Writes that are still to be sent.
    todo: VecDeque<(Write, &'static str)>,
    /// Writes that were answered.
    written: usize,
    /// When it looks next, and when it gives up; unknown until everything is written.
    looks: Option<(Time, Time)>,
}

/// Pods that wait for their volumes.
#[derive(Debug, Default)]
pub(super) struct VolumeWaits {
    pods: BTreeMap<u32, VolumeWait>,
    /// Waits so far.
    count: u64,
    /// When to look at which pod; some may be gone.
    due: BTreeSet<(Time, u32)>,
}

impl VolumeWaits {
    /// The pod waits no longer.
    pub fn remove(&mut self, pod: u32) -> Option<VolumeWait> {
        self.pods.remove(&pod)
    }

    /// When the next of them is to be looked at.
    pub fn next(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    fn due_by(&mut self, now: Time) -> Vec<u32> {
        let later = self.due.split_off(&(now + Duration::from_nanos(1), 0));
        let due = std::mem::replace(&mut self.due, later);
        due.into_iter().map(|(_, pod)| pod).collect()
    }
}

/// What is to be written (`bindAPIUpdate`): volumes get their claim, claims to be provisioned get
/// their node.
fn writes(
    volumes: &PodVolumes,
    node: &Text,
    view: &View,
) -> Result<VecDeque<(Write, &'static str)>, String> {
    let mut writes = VecDeque::new();
    for (volume, claim) in &volumes.bindings {
        let name = &volume.meta.name;
        let found = view.of::<PersistentVolume>().named(&Text::default(), name);
        let (id, _) = found.ok_or_else(|| format!("persistentvolumes \"{name}\" not found"))?;
        let write = Write::Update(id.into(), Row::from(volume.claimed_by(claim)));
        writes.push_back((write, "volume for the pod"));
    }
    for claim in &volumes.provisions {
        let (namespace, name) = (&claim.meta.namespace, &claim.meta.name);
        let found = view.of::<PersistentVolumeClaim>().named(namespace, name);
        let (id, _) =
            found.ok_or_else(|| format!("persistentvolumeclaims \"{name}\" not found"))?;
        let edits = vec![(Text::from(SELECTED_NODE), Some(node.clone()))];
        let write = Write::Patch {
            object: id.into(),
            uid: Some(claim.meta.uid),
            patch: Patch::Annotations(edits),
        };
        writes.push_back((write, "node for the volume"));
    }
    Ok(writes)
}

/// What the server answered with.
fn answered<T: Object>(row: Option<&Row>, into: &mut Arc<T>) {
    if let Some(row) = row.and_then(T::from_row) {
        *into = row.clone();
    }
}

impl Scheduler {
    /// `BindPodVolumes`, up to its first request.
    pub(super) fn bind_volumes(
        &mut self,
        queued: QueuedPod,
        node: Text,
        volumes: PodVolumes,
        view: &View,
        now: Time,
        out: &mut Outbox<Event>,
    ) {
        let id = queued.entry.id;
        let todo = match writes(&volumes, &node, view) {
            Ok(todo) => todo,
            Err(why) => {
                self.pre_bind_failed(queued, &why, view, now, out);
                return;
            }
        };
        self.cache.assume_volumes(&volumes, Some(&node));
        self.announce(&queued.entry, &node, now, out);
        self.volume_waits.count += 1;
        let wait = VolumeWait {
            number: self.volume_waits.count,
            queued,
            node,
            volumes,
            todo,
            written: 0,
            looks: None,
        };
        self.volume_waits.pods.insert(id, wait);
        self.write_volume(id, now, out);
    }

    /// Sends the next write of a pod, or begins to look when there is none.
    fn write_volume(&mut self, id: u32, now: Time, out: &mut Outbox<Event>) {
        let Some(wait) = self.volume_waits.pods.get_mut(&id) else {
            return;
        };
        if let Some((write, rule)) = wait.todo.pop_front() {
            let pending = Pending::Volume {
                pod: id,
                wait: wait.number,
            };
            self.send(write, rule, Some(pending), now, out);
            return;
        }
        let pod = wait.queued.entry.pod.clone();
        let profile = self.profile_of(&pod);
        let timeout = profile.and_then(|p| self.config.profiles[p].args.bind_timeout);
        let deadline = now + timeout.unwrap_or(BIND_TIMEOUT);
        self.look_later(id, (now + PERIOD, deadline));
    }

    fn look_later(&mut self, id: u32, (tick, deadline): (Time, Time)) {
        if let Some(wait) = self.volume_waits.pods.get_mut(&id) {
            wait.looks = Some((tick, deadline));
            self.volume_waits.due.insert((tick.min(deadline), id));
        }
    }

    /// A volume or claim was written, or not.
    pub(super) fn volume_written(
        &mut self,
        (id, number): (u32, u64),
        reply: &Reply,
        view: &View,
        now: Time,
        out: &mut Outbox<Event>,
    ) {
        let wait = self.volume_waits.pods.get_mut(&id);
        let Some(wait) = wait.filter(|wait| wait.number == number) else {
            return;
        };
        match reply {
            Ok(receipt) => {
                let (at, row) = (wait.written, receipt.row.as_ref());
                let bindings = wait.volumes.bindings.len();
                match wait.volumes.bindings.get_mut(at) {
                    Some((volume, _)) => answered(row, volume),
                    None => answered(row, &mut wait.volumes.provisions[at - bindings]),
                }
                wait.written += 1;
                self.write_volume(id, now, out);
            }
            Err(error) => {
                let why = error.to_string();
                if let Some(wait) = self.volume_waits.remove(id) {
                    self.cache.assume_volumes(&wait.volumes, None);
                    self.pre_bind_failed(wait.queued, &why, view, now, out);
                }
            }
        }
    }

    fn pre_bind_failed(
        &mut self,
        queued: QueuedPod,
        why: &str,
        view: &View,
        now: Time,
        out: &mut Outbox<Event>,
    ) {
        let message = format!("running PreBind plugin \"VolumeBinding\": {why}");
        self.unbind(queued, message, view, now, out);
    }

    /// A pod that waits in PreBind says where it is going to be, for autoscalers and their like
    /// (`NominatedNodeNameForExpectation`).
    fn announce(&mut self, entry: &PodEntry, node: &Text, now: Time, out: &mut Outbox<Event>) {
        if entry.pod.status.nominated_node.as_ref() == Some(node) {
            return;
        }
        let write = Write::Patch {
            object: Id::<Pod>::new(entry.id).into(),
            uid: Some(entry.pod.meta.uid),
            patch: Patch::Scheduling {
                condition: None,
                nominate: Some(node.clone()),
            },
        };
        self.send(write, "the node it will be bound to", None, now, out);
    }

    /// Looks at the pods whose turn it is: those whose volumes are all bound go on.
    pub(super) fn check_volumes(&mut self, view: &View, now: Time, out: &mut Outbox<Event>) {
        for id in self.volume_waits.due_by(now) {
            let Some(wait) = self.volume_waits.pods.get(&id) else {
                continue;
            };
            let Some((tick, deadline)) = wait.looks.filter(|(t, d)| *(t.min(d)) <= now) else {
                continue;
            };
            let verdict = match now >= tick {
                true => wait.volumes.bound_on(view, &wait.node),
                false => Ok(false),
            };
            let outcome = match verdict {
                Ok(true) => Ok(()),
                Ok(false) if now < deadline => {
                    self.look_later(id, (now + PERIOD, deadline));
                    continue;
                }
                Ok(false) => Err("context deadline exceeded".to_owned()),
                Err(why) => Err(why),
            };
            let Some(wait) = self.volume_waits.remove(id) else {
                continue;
            };
            self.cache.assume_volumes(&wait.volumes, None);
            match outcome {
                Ok(()) => self.bind(wait.queued, wait.node, now, out),
                Err(why) => {
                    let why = format!("binding volumes: {why}");
                    self.pre_bind_failed(wait.queued, &why, view, now, out);
                }
            }
        }
    }
}
