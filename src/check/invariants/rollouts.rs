//! Rollouts: never more pods than `maxSurge` allows, never fewer than `maxUnavailable` allows.

use std::collections::BTreeMap;

use super::pods::Found;
use crate::api::workload::Strategy;
use crate::api::{Deployment, Pod, ReplicaSet, Uid};
use crate::control::deployment::scale::{max_surge, max_unavailable};
use crate::store::{Change, Id, Op, View};

/// Judges changes of ReplicaSets and pods.
#[derive(Debug, Default)]
pub struct Rollouts {
    /// Nothing fails in this run, so `maxUnavailable` is owed at every instant.
    undisturbed: bool,
    /// Deployments that have had all they want, by number.
    complete: BTreeMap<u32, Floor>,
}

/// What a Deployment owes since it was complete.
#[derive(Debug)]
struct Floor {
    /// Pods that must be available.
    available: i32,
}

impl Rollouts {
    /// See [`super::Invariants::new`].
    pub fn new(undisturbed: bool) -> Self {
        Rollouts {
            undisturbed,
            complete: BTreeMap::new(),
        }
    }

    /// Judges one change, before it is applied to `view`.
    pub fn judge(&mut self, change: &Change, view: &View, found: &mut Found) {
        if let Some((old, Some(new))) = change.rows::<ReplicaSet>()
            && change.op != Op::Delete
        {
            surge(change, old, new, view, found);
        }
        if !self.undisturbed {
            return;
        }
        if let Some((_, Some(new))) = change.rows::<Deployment>() {
            let number = change.object.map_or(0, |o| o.index);
            self.owed(number, new);
        }
        if let Some((old, new)) = change.rows::<Pod>() {
            let gone = change.op == Op::Delete || new.is_none_or(|pod| !available(pod));
            if old.is_some_and(available) && gone {
                self.floor(old, view, found);
            }
        }
    }

    /// Once complete, a Deployment owes its size less `maxUnavailable`, of the old size or the new.
    fn owed(&mut self, number: u32, row: &Deployment) {
        let floor = row.replicas - max_unavailable(row);
        if row.strategy == Strategy::Recreate {
            self.complete.remove(&number);
        } else if let Some(known) = self.complete.get_mut(&number) {
            known.available = known.available.min(floor);
        } else if row.status.available >= row.replicas {
            self.complete.insert(number, Floor { available: floor });
        }
        let settled = row.status.available >= row.replicas && row.status.replicas == row.replicas;
        if let Some(known) = self.complete.get_mut(&number).filter(|_| settled) {
            known.available = floor;
        }
    }

    /// A pod stops being available: enough others are.
    fn floor(&self, pod: Option<&Pod>, view: &View, found: &mut Found) {
        let set = pod.and_then(|pod| pod.meta.controller());
        let Some((number, row)) = set.and_then(|owner| deployment_of(view, owner.uid)) else {
            return;
        };
        let Some(floor) = self.complete.get(&number) else {
            return;
        };
        let sets = view.of::<ReplicaSet>().owned_by(row.meta.uid);
        let pods = sets.flat_map(|(_, set)| view.pods().owned_by(set.meta.uid));
        let others = pods.filter(|(_, pod)| available(pod)).count();
        // The one that goes is still in the view.
        let left = i32::try_from(others).unwrap_or(i32::MAX) - 1;
        if left < floor.available {
            let name = row.meta.full_name();
            let what = format!("{name}: {left} available, {} are owed", floor.available);
            found.push(("a rollout keeps maxUnavailable at every instant", what));
        }
    }
}

fn available(pod: &Pod) -> bool {
    pod.status.ready() && !pod.meta.deleting()
}

/// The Deployment that owns the ReplicaSet of this uid.
fn deployment_of(view: &View, set: Uid) -> Option<(u32, &Deployment)> {
    let (_, set) = (view.of::<ReplicaSet>().iter()).find(|(_, row)| row.meta.uid == set)?;
    let owner = set.meta.controller()?.uid;
    let found = (view.of::<Deployment>().iter()).find(|(_, row)| row.meta.uid == owner);
    found.map(|(id, row): (Id<Deployment>, _)| (id.0, &**row))
}

/// A ReplicaSet that grows does not lift the sum above size + `maxSurge`.
fn surge(
    change: &Change,
    old: Option<&ReplicaSet>,
    new: &ReplicaSet,
    view: &View,
    found: &mut Found,
) {
    if new.replicas <= old.map_or(0, |row| row.replicas) {
        return;
    }
    let Some(owner) = new.meta.controller() else {
        return;
    };
    let rows = view.of::<Deployment>();
    let Some((_, row)) = rows.iter().find(|(_, row)| row.meta.uid == owner.uid) else {
        return;
    };
    let number = change.object.map(|object| object.index);
    let sets = view.of::<ReplicaSet>().owned_by(owner.uid);
    let others = sets.filter(|(id, _)| Some(id.0) != number);
    let sum: i32 = others.map(|(_, set)| set.replicas).sum::<i32>() + new.replicas;
    let most = row.replicas + max_surge(row);
    if sum > most {
        let name = row.meta.full_name();
        let what = format!("{name}: {sum} pods are wanted, {most} are allowed");
        found.push(("a rollout keeps maxSurge at every instant", what));
    }
}
