//! Informer event handlers: what a change of an object means for cache and queue
//! (`pkg/scheduler/eventhandlers.go`).

use std::sync::Arc;

use super::{Doors, Event, Scheduler};
use crate::api::{Kind, Node, Object, Pod};
use crate::client::Outbox;
use crate::engine::Time;
use crate::sched::events::{
    ADD, ASSIGNED_POD_ADD, ASSIGNED_POD_DELETE, ClusterEvent, DELETE, Involved, Resource, UPDATE,
    concerns, event, node_changes, pod_changes,
};
use crate::sched::plugin::Cx;
use crate::sched::queue::Moving;
use crate::store::write::Trigger;
use crate::store::{Change, Id, Op, View};

/// Rows before and after; a deletion has no row after.
type Rows<'a, T> = (Option<&'a Arc<T>>, Option<&'a Arc<T>>);

fn rows<T: Object>(change: &Change) -> Rows<'_, T> {
    let new = change.new.as_ref().and_then(T::from_row);
    let old = change.old.as_ref().and_then(T::from_row);
    match change.op {
        Op::Delete => (old.or(new), None),
        _ => (old, new),
    }
}

fn action<T>((old, new): Rows<'_, T>) -> u32 {
    match (old, new) {
        (None, _) => ADD,
        (Some(_), Some(_)) => UPDATE,
        (Some(_), None) => DELETE,
    }
}

impl Scheduler {
    /// A change of an object; `view` already contains it.
    pub fn on_change(&mut self, change: &Change, view: &View, now: Time, out: &mut Outbox<Event>) {
        let Some(object) = change.object else {
            return;
        };
        self.trigger = Trigger::Change(change.revision);
        match object.kind {
            Kind::Pod => self.pod_changed(object.index, rows(change), view, now),
            Kind::Node => self.node_changed(rows(change), view, now),
            kind => self.storage_changed(kind, change, view, now),
        }
        self.wake(now, out);
    }

    /// An object that only some plugins look at.
    fn storage_changed(&mut self, kind: Kind, change: &Change, view: &View, now: Time) {
        macro_rules! tell {
            ($($kind:ident => $resource:ident, $involved:ident;)*) => {
                match kind {
                    $(Kind::$kind => {
                        let rows = rows::<crate::api::$kind>(change);
                        let involved =
                            Involved::$involved(rows.0.map(|r| &**r), rows.1.map(|r| &**r));
                        let event = event(Resource::$resource, action(rows));
                        self.move_all(event, &involved, None, view, now);
                    })*
                    _ => {}
                }
            };
        }
        tell! {
            PersistentVolumeClaim => PersistentVolumeClaim, Claim;
            PersistentVolume => PersistentVolume, Volume;
            StorageClass => StorageClass, StorageClass;
            CSINode => CsiNode, CsiNode;
            CSIDriver => CsiDriver, CsiDriver;
            CSIStorageCapacity => CsiStorageCapacity, CsiStorageCapacity;
            VolumeAttachment => VolumeAttachment, Attachment;
        }
    }

    /// Tells the waiting pods of an event.
    pub(super) fn move_all(
        &mut self,
        event: ClusterEvent,
        involved: &Involved<'_>,
        max_priority: Option<i32>,
        view: &View,
        now: Time,
    ) {
        let cx = Cx {
            view,
            cache: &self.cache,
        };
        let gate = Doors {
            frameworks: &self.frameworks,
            preempting: &self.preempting,
            view,
        };
        let moving = Moving {
            event,
            involved,
            frameworks: &self.frameworks,
            max_priority,
            except: None,
        };
        self.queue.move_all(&cx, &moving, now, &gate);
    }

    /// The scheduler's informer leaves out pods that have ended: for it they are deleted.
    fn pod_changed(&mut self, id: u32, (old, new): Rows<'_, Pod>, view: &View, now: Time) {
        let alive = |p: &&Arc<Pod>| !p.status.phase.terminal();
        match (old.filter(alive), new.filter(alive)) {
            (None, None) => {}
            (None, Some(new)) if new.node_name.is_some() => self.pod_placed(id, new, view, now),
            (None, Some(new)) => self.add_waiting(id, new, view, now),
            (Some(old), Some(new)) => self.pod_updated(id, old, new, view, now),
            (Some(old), None) => self.pod_gone(id, old, view, now),
        }
    }

    /// `addAssignedPodToCache`.
    fn pod_placed(&mut self, id: u32, pod: &Arc<Pod>, view: &View, now: Time) {
        let Some(node) = &pod.node_name else {
            return;
        };
        let entry = self.cache.entry(id, pod);
        self.cache.update_pod(entry, node);
        let involved = Involved::Pod(None, Some(pod));
        self.move_all(ASSIGNED_POD_ADD, &involved, None, view, now);
    }

    /// `updatePod`.
    fn pod_updated(&mut self, id: u32, old: &Arc<Pod>, new: &Arc<Pod>, view: &View, now: Time) {
        if !concerns(old, new) && self.cache.renew_pod(id, new) {
            return;
        }
        if old.node_name.is_some() {
            if let Some(node) = &new.node_name {
                let entry = self.cache.entry(id, new);
                self.cache.update_pod(entry, node);
            }
            if !self.queue.has_unschedulable() {
                return;
            }
            let involved = Involved::Pod(Some(old), Some(new));
            for event in pod_changes(old, new) {
                self.move_all(event, &involved, None, view, now);
            }
        } else if new.node_name.is_some() {
            self.queue.remove(id);
            self.nominator.remove(id);
            self.pod_placed(id, new, view, now);
        } else if self.profile_of(old).is_some() {
            self.waiting_updated(id, old, new, view, now);
        }
    }

    /// `updatePodInSchedulingQueue`.
    fn waiting_updated(&mut self, id: u32, old: &Arc<Pod>, new: &Arc<Pod>, view: &View, now: Time) {
        if self.cache.assumed(id) {
            if new.meta.deleting() && !old.meta.deleting() {
                self.forget(id, view, now);
            }
            return;
        }
        let entry = self.cache.entry(id, new);
        let named = old.status.nominated_node.as_ref();
        self.nominator.update(named, entry.clone());
        let involved = Involved::Pod(Some(old), Some(new));
        let changes = pod_changes(old, new);
        let cx = Cx {
            view,
            cache: &self.cache,
        };
        let gate = Doors {
            frameworks: &self.frameworks,
            preempting: &self.preempting,
            view,
        };
        let moving = Moving {
            event: changes[0],
            involved: &involved,
            frameworks: &self.frameworks,
            max_priority: None,
            except: None,
        };
        let known = self
            .queue
            .update(&cx, entry.clone(), &changes, &moving, now, &gate);
        if !known {
            self.queue.add(entry, now, &gate);
        }
        if named.is_some() && named != new.status.nominated_node.as_ref() {
            let gone = Involved::Pod(Some(old), None);
            let most = Some(old.spec.priority);
            self.move_all(ASSIGNED_POD_DELETE, &gone, most, view, now);
        }
    }

    /// `deletePod`.
    fn pod_gone(&mut self, id: u32, pod: &Arc<Pod>, view: &View, now: Time) {
        let gone = Involved::Pod(Some(pod), None);
        if pod.node_name.is_some() {
            self.cache.remove_pod(id);
            self.move_all(ASSIGNED_POD_DELETE, &gone, None, view, now);
            return;
        }
        self.queue.remove(id);
        self.nominator.remove(id);
        if self.cache.assumed(id) {
            self.forget(id, view, now);
        } else if pod.status.nominated_node.is_some() {
            let most = Some(pod.spec.priority);
            self.move_all(ASSIGNED_POD_DELETE, &gone, most, view, now);
        }
    }

    /// `addNodeToCache`, `updateNodeInCache`, `deleteNodeFromCache`.
    fn node_changed(&mut self, (old, new): Rows<'_, Node>, view: &View, now: Time) {
        let involved = Involved::Node(old.map(|r| &**r), new.map(|r| &**r));
        match (old, new) {
            (None, None) => {}
            (None, Some(new)) => {
                self.cache.set_node(new);
                self.move_all(event(Resource::Node, ADD), &involved, None, view, now);
            }
            (Some(old), Some(new)) => {
                self.cache.set_node(new);
                if !self.queue.has_unschedulable() {
                    return;
                }
                for event in node_changes(old, new) {
                    self.move_all(event, &involved, None, view, now);
                }
            }
            (Some(old), None) => {
                self.move_all(event(Resource::Node, DELETE), &involved, None, view, now);
                self.cache.remove_node(&old.meta.name);
            }
        }
    }

    /// `handleAssumedPodDeletion`: a pod goes away that was decided on but not bound yet.
    fn forget(&mut self, id: u32, view: &View, now: Time) {
        self.volume_waits.remove(id);
        let Some(entry) = self.cache.remove_pod(id) else {
            return;
        };
        let row = view.pods().get(Id::new(id));
        let mut pod = Pod::clone(row.unwrap_or(&entry.pod));
        // Its place becomes free: hints look at the node name.
        pod.node_name = pod.node_name.or_else(|| Some(crate::api::Text::default()));
        let gone = Involved::Pod(Some(&pod), None);
        self.move_all(ASSIGNED_POD_DELETE, &gone, None, view, now);
    }
}
