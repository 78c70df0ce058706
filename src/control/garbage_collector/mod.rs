//! Owner garbage collection: what happens to objects when their owners go.
//!
//! A port of `pkg/controller/garbagecollector` (`graph_builder.go`, `garbagecollector.go`). An
//! object whose owners are all gone is deleted (*background*). An owner that is deleted in the
//! *foreground* carries a finalizer: its dependants go first, and it goes when none is left that
//! blocks it. An owner that is deleted with *orphan* carries another one: its dependants lose their
//! reference, then it goes.
//!
//! Upstream builds a graph of every object from its informers and asks the API server before it
//! acts. Here the view is the graph: tables know what a controller owns, and only references that
//! are not to a controller are kept aside ([`GarbageCollector::others`]). One log in one order means
//! that an owner that is not in the view when its dependant is does not exist, so nothing has to be
//! asked. It knows no kinds: objects that the model does not act on are collected, too.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{Kind, KubeEvent, Meta, OwnerRef, Row, Text, Uid};
use crate::client::{Controller, Keys, Plan, Step, SyncContext};
use crate::engine::Time;
use crate::store::admit::{FOREGROUND, ORPHAN};
use crate::store::{ApiError, Change, ObjectId, Op, Patch, Propagation, View, Write};

/// The two queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// `attemptToDelete`.
    Delete(ObjectId),
    /// `attemptToOrphan`.
    Orphan(ObjectId),
}

/// The controller.
#[derive(Debug, Default)]
pub struct GarbageCollector {
    /// Dependants by owner, for references without `controller: true`; the tables have the others.
    others: BTreeMap<Uid, BTreeSet<ObjectId>>,
    /// Controllers that manage objects, and how many: most objects that go manage none.
    managing: BTreeMap<Uid, u32>,
    /// Foreign kinds that exist: a reference to a kind that nobody knows is never dangling
    /// (upstream's `restMappingError`).
    kinds: BTreeSet<(Text, Text)>,
}

/// What became of an owner, `classifyReferences`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Solid,
    Dangling,
    WaitingForDependents,
    /// It cannot be asked for: nothing is decided about the item.
    Unknown,
}

fn has_finalizer(meta: &Meta, name: &str) -> bool {
    meta.finalizers.iter().any(|f| f == name)
}

/// Deleted in the foreground and waiting for its dependants.
fn deleting_dependents(meta: &Meta) -> bool {
    meta.deleting() && has_finalizer(meta, FOREGROUND)
}

/// Whether `new` is the first state in which deletion with this finalizer is under way;
/// `deletionStartsWithFinalizer`.
fn starts_with_finalizer(old: Option<&Meta>, new: &Meta, finalizer: &str) -> bool {
    let under_way = |meta: &Meta| meta.deleting() && has_finalizer(meta, finalizer);
    under_way(new) && !old.is_some_and(under_way)
}

impl GarbageCollector {
    /// The dependants of an owner, whether it still exists or not, in a fixed order.
    fn dependents(&self, owner: Uid, view: &View) -> Vec<ObjectId> {
        let mut all = match self.managing.contains_key(&owner) {
            true => view.owned_by(owner),
            false => Vec::new(),
        };
        if let Some(others) = self.others.get(&owner) {
            all.extend(others.iter().copied());
        }
        all
    }

    /// Keeps the references that no table knows, and whom the tables need not be asked about.
    fn note(&mut self, object: ObjectId, before: &[OwnerRef], after: &[OwnerRef]) {
        if before.is_empty() && after.is_empty() {
            return;
        }
        let controller = |owners: &[OwnerRef]| owners.iter().find(|o| o.controller).map(|o| o.uid);
        if let Some(uid) = controller(after) {
            *self.managing.entry(uid).or_default() += 1;
        }
        if let Some(uid) = controller(before)
            && let Some(count) = self.managing.get_mut(&uid)
        {
            *count -= 1;
            if *count == 0 {
                self.managing.remove(&uid);
            }
        }
        let others = |owners: &[OwnerRef]| -> BTreeSet<Uid> {
            let controller = controller(owners);
            let uids = owners.iter().map(|o| o.uid);
            uids.filter(|uid| Some(*uid) != controller).collect()
        };
        let (before, after) = (others(before), others(after));
        for uid in before.difference(&after) {
            if let Some(set) = self.others.get_mut(uid) {
                set.remove(&object);
                if set.is_empty() {
                    self.others.remove(uid);
                }
            }
        }
        for uid in after.difference(&before) {
            self.others.entry(*uid).or_default().insert(object);
        }
    }

    fn note_kind(&mut self, row: &Row) {
        if let Row::Inert(inert) = row {
            let group = inert.api_version.split_once('/').map_or("", |(g, _)| g);
            let kind = (Text::from(group), inert.kind.clone());
            self.kinds.insert(kind);
        }
    }

    /// `isDangling` and what follows from the owner's own deletion.
    fn classify(&self, item: &Meta, owner: &OwnerRef, view: &View) -> Standing {
        match view.owner(owner, &item.namespace) {
            Some((_, row)) if row.meta().uid == owner.uid => {
                if deleting_dependents(row.meta()) {
                    Standing::WaitingForDependents
                } else {
                    Standing::Solid
                }
            }
            _ if owner.kind == Kind::Inert && !self.knows(owner) => Standing::Unknown,
            // A cluster-scoped object cannot name an owner in a namespace: an error, for ever.
            _ if item.namespace.is_empty() && owner.kind.namespaced() => Standing::Unknown,
            _ => Standing::Dangling,
        }
    }

    /// Whether the kind of an owner exists: built in, or seen.
    fn knows(&self, owner: &OwnerRef) -> bool {
        let group = owner.api_version.split_once('/').map_or("", |(g, _)| g);
        let built_in = !group.contains('.') || group.ends_with(".k8s.io");
        let kind = (Text::from(group), owner.kind_name.clone());
        built_in || self.kinds.contains(&kind)
    }

    /// The edges of a new or changed object: owners that are already gone, owners that wait for it.
    fn edges(&self, change: &Change, view: &View, keys: &mut Keys<Key>) {
        let (Some(object), Some(row)) = (change.object, &change.new) else {
            return;
        };
        let new = row.meta();
        let old = change.old.as_ref().map(Row::meta);
        let before: &[OwnerRef] = old.map_or(&[], |old| &old.owners);
        for owner in new.owners.iter() {
            let added = !before.iter().any(|b| b.uid == owner.uid);
            if added && self.classify(new, owner, view) == Standing::Dangling {
                keys.add(Key::Delete(object));
            }
        }
        let added = |owner: &&OwnerRef| !before.iter().any(|b| b.uid == owner.uid);
        let added = new.owners.iter().filter(added);
        keys.events.extend(self.stranger(row, added, view));
        // `addUnblockedOwnersToDeleteQueue`.
        for owner in before.iter().filter(|o| o.block_owner_deletion) {
            let still = new.owners.iter().find(|o| o.uid == owner.uid);
            if still.is_none_or(|o| !o.block_owner_deletion) {
                self.wake_owner(owner, &new.namespace, view, keys);
            }
        }
        // `processTransitions`.
        if starts_with_finalizer(old, new, ORPHAN) {
            keys.add(Key::Orphan(object));
        } else if starts_with_finalizer(old, new, FOREGROUND) {
            let dependents = self.dependents(new.uid, view);
            keys.now.extend(dependents.into_iter().map(Key::Delete));
            keys.add(Key::Delete(object));
        }
    }

    /// `reportInvalidNamespaceOwnerRef`: of the first owner that is not where its dependant is.
    fn stranger<'a>(
        &self,
        row: &Row,
        mut owners: impl Iterator<Item = &'a OwnerRef>,
        view: &View,
    ) -> Option<KubeEvent> {
        let meta = row.meta();
        let elsewhere = |owner: &&OwnerRef| {
            let standing = self.classify(meta, owner, view);
            let absent = matches!(standing, Standing::Dangling | Standing::Unknown);
            let mut rows = view.rows(owner.kind).into_iter().map(|(_, row)| row);
            let here = |row: &Row| row.meta().namespace == meta.namespace;
            absent
                && owner.kind.namespaced()
                && rows.any(|row| row.meta().uid == owner.uid && !here(&row))
        };
        let owner = owners.find(elsewhere)?;
        let namespace = &meta.namespace;
        let message = format!(
            "ownerRef [{}/{}, namespace: {namespace}, name: {}, uid: {}] does not exist in \
             namespace \"{namespace}\"",
            owner.api_version, owner.kind_name, owner.name, owner.uid
        );
        Some(KubeEvent {
            kind: row.kind(),
            namespace: namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid,
            reason: "OwnerRefInvalidNamespace".into(),
            message: message.into(),
            warning: true,
            source: Self::NAME.into(),
        })
    }

    /// An owner that waits for its dependants is looked at again, and so are those that are left:
    /// one may have come after the others were told to go.
    fn wake_owner(&self, owner: &OwnerRef, ns: &Text, view: &View, keys: &mut Keys<Key>) {
        let Some((id, row)) = view.owner(owner, ns) else {
            return;
        };
        if row.meta().uid != owner.uid || !deleting_dependents(row.meta()) {
            return;
        }
        keys.add(Key::Delete(id));
        for dependent in self.dependents(owner.uid, view) {
            if view.row(dependent).is_some_and(|d| !d.meta().deleting()) {
                keys.add(Key::Delete(dependent));
            }
        }
    }

    /// `attemptToDeleteItem`.
    fn attempt_to_delete(&self, object: ObjectId, view: &View) -> Plan {
        let mut plan = Plan::none();
        let Some(row) = view.row(object) else {
            return plan;
        };
        let meta = row.meta();
        if deleting_dependents(meta) {
            self.deleting_dependents(object, meta, view, &mut plan);
            return plan;
        }
        if meta.deleting() || meta.owners.is_empty() {
            return plan;
        }
        let standing: Vec<Standing> = (meta.owners.iter())
            .map(|owner| self.classify(meta, owner, view))
            .collect();
        if standing.contains(&Standing::Unknown) {
            return plan;
        }
        let solid = |standing: &Standing| *standing == Standing::Solid;
        let waiting = standing.contains(&Standing::WaitingForDependents);
        let dependents = self.dependents(meta.uid, view);
        if standing.iter().any(solid) {
            if !standing.iter().all(solid) {
                let owners = meta.owners.iter().zip(&standing);
                let left = owners.filter(|(_, s)| solid(s)).map(|(o, _)| o.clone());
                let patch = Patch::Owners(left.collect());
                let rule = "some of its owners are gone, others are not";
                plan.write(patch_of(object, meta, patch), rule);
            }
        } else if waiting && !dependents.is_empty() {
            let circle = |id: &ObjectId| {
                view.row(*id)
                    .is_some_and(|row| deleting_dependents(row.meta()))
            };
            if dependents.iter().any(circle) {
                let owners = meta.owners.iter().cloned().map(|owner| OwnerRef {
                    block_owner_deletion: false,
                    ..owner
                });
                let patch = Patch::Owners(owners.collect());
                let rule = "owner and dependant wait for each other";
                plan.write(patch_of(object, meta, patch), rule);
            }
            let rule = "its owner is deleted in the foreground";
            plan.write(delete(object, meta, Propagation::Foreground), rule);
        } else {
            // A finalizer that is already there is honoured.
            let propagation = if has_finalizer(meta, ORPHAN) {
                Propagation::Orphan
            } else if has_finalizer(meta, FOREGROUND) {
                Propagation::Foreground
            } else {
                Propagation::Background
            };
            let rule = if waiting {
                "its owner is deleted in the foreground"
            } else {
                "its owner is gone"
            };
            plan.write(delete(object, meta, propagation), rule);
        }
        plan
    }

    /// `processDeletingDependentsItem`.
    fn deleting_dependents(&self, object: ObjectId, meta: &Meta, view: &View, plan: &mut Plan) {
        let blocks = |id: &ObjectId| {
            let row = view.row(*id);
            row.is_some_and(|row| {
                let mut owners = row.meta().owners.iter();
                owners.any(|o| o.uid == meta.uid && o.block_owner_deletion)
            })
        };
        if !self.dependents(meta.uid, view).iter().any(blocks) {
            let rule = "no dependant is left that blocks its deletion";
            plan.write(without_finalizer(object, meta, FOREGROUND), rule);
        }
    }

    /// `attemptToOrphanWorker`.
    fn attempt_to_orphan(&self, object: ObjectId, view: &View) -> Plan {
        let mut plan = Plan::none();
        let Some(row) = view.row(object) else {
            return plan;
        };
        let meta = row.meta();
        if !meta.deleting() || !has_finalizer(meta, ORPHAN) {
            return plan;
        }
        let mut writes = Vec::new();
        for dependent in self.dependents(meta.uid, view) {
            if let Some(row) = view.row(dependent) {
                let patch = Patch::RemoveOwner(meta.uid);
                writes.push(patch_of(dependent, row.meta(), patch));
            }
        }
        if !writes.is_empty() {
            let rule = "its owner is deleted and leaves its dependants behind";
            plan.steps.push(Step::Parallel { writes, rule });
        }
        let rule = "its dependants are orphaned";
        plan.write(without_finalizer(object, meta, ORPHAN), rule);
        plan
    }
}

fn patch_of(object: ObjectId, meta: &Meta, patch: Patch) -> Write {
    Write::Patch {
        object,
        uid: Some(meta.uid),
        patch,
    }
}

/// `removeFinalizer`.
fn without_finalizer(object: ObjectId, meta: &Meta, finalizer: &str) -> Write {
    let left = meta.finalizers.iter().filter(|f| *f != finalizer);
    patch_of(object, meta, Patch::Finalizers(left.cloned().collect()))
}

fn delete(object: ObjectId, meta: &Meta, propagation: Propagation) -> Write {
    Write::Delete {
        object,
        uid: Some(meta.uid),
        grace_s: None,
        propagation,
    }
}

impl Controller for GarbageCollector {
    type Key = Key;
    const NAME: &'static str = "garbage-collector-controller";
    // `--concurrent-gc-syncs`.
    const WORKERS: usize = 20;

    fn keys(&mut self, change: &Change, view: &View, _now: Time, keys: &mut Keys<Key>) {
        let (Some(object), Some(row)) = (change.object, &change.new) else {
            return;
        };
        let new = row.meta();
        match (change.op, &change.old) {
            (Op::Update, Some(old)) => {
                let old = old.meta();
                let same_owners = old.owners == new.owners;
                if same_owners && old.deletion == new.deletion && old.finalizers == new.finalizers {
                    return;
                }
                if !same_owners {
                    self.note(object, &old.owners, &new.owners);
                }
                self.edges(change, view, keys);
            }
            (Op::Delete, _) => {
                self.note(object, &new.owners, &[]);
                let dependents = self.dependents(new.uid, view);
                keys.now.extend(dependents.into_iter().map(Key::Delete));
                for owner in new.owners.iter() {
                    self.wake_owner(owner, &new.namespace, view, keys);
                }
            }
            _ => {
                self.note_kind(row);
                self.note(object, &[], &new.owners);
                self.edges(change, view, keys);
            }
        }
    }

    fn sync(&mut self, key: Key, cx: &SyncContext<'_>) -> Plan {
        match key {
            Key::Delete(object) => self.attempt_to_delete(object, cx.view),
            Key::Orphan(object) => self.attempt_to_orphan(object, cx.view),
        }
    }

    /// `orphanDependents`: what is gone needs no patch any more.
    fn forgives(&self, write: &Write, error: &ApiError) -> bool {
        matches!(write, Write::Patch { .. }) && matches!(error, ApiError::NotFound(_))
    }

    /// The first list of everything: what was left undone is found by its owners and finalizers.
    fn resync(&mut self, view: &View, _now: Time, keys: &mut Keys<Key>) {
        self.restart();
        for &kind in Kind::ALL {
            for (object, row) in view.rows(kind) {
                self.note_kind(&row);
                self.note(object, &[], &row.meta().owners);
            }
        }
        for &kind in Kind::ALL {
            for (object, row) in view.rows(kind) {
                let meta = row.meta();
                let mut owners = meta.owners.iter();
                let unsound = owners.any(|o| self.classify(meta, o, view) != Standing::Solid);
                if unsound || deleting_dependents(meta) {
                    keys.add(Key::Delete(object));
                }
                if unsound {
                    let told = self.stranger(&row, meta.owners.iter(), view);
                    keys.events.extend(told);
                }
                if meta.deleting() && has_finalizer(meta, ORPHAN) {
                    keys.add(Key::Orphan(object));
                }
            }
        }
    }

    fn restart(&mut self) {
        self.others.clear();
        self.managing.clear();
        self.kinds.clear();
    }
}
