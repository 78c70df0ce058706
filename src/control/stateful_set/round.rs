//! One sync of a StatefulSet, up to its status: which pods and claims are made, kept and deleted.
//!
//! `pkg/controller/statefulset/stateful_set_control.go :: updateStatefulSet`. In order: pods that
//! should exist are made one after the other, each waiting for the one before; then pods that should
//! not exist go, the highest first; then pods of an old revision go, the highest first. A Parallel
//! set waits for nothing and takes pods in batches of 1, 2, 4 ….

use std::collections::BTreeMap;
use std::sync::Arc;

use super::StatefulSetController;
use super::identity::{
    Revisions, Specs, identity_matches, in_range, new_pod, ordinal, put_right, revision_of,
    running_and_ready, storage_matches, unavailable,
};
use super::{claims, status};
use crate::api::pod_status::Phase;
use crate::api::stateful::{StatefulSetStatus, StatefulStrategy};
use crate::api::{PersistentVolumeClaim, Pod, Row, StatefulSet, Text, Uid};
use crate::client::{Plan, Step};
use crate::control::pods;
use crate::engine::Time;
use crate::store::{Id, View, Write};

/// `MaxBatchSize`.
const MAX_BATCH_SIZE: usize = 500;

/// A pod that exists, or one that should.
#[derive(Clone, Debug)]
struct Replica {
    /// None when it does not exist.
    id: Option<Id<Pod>>,
    row: Arc<Pod>,
}

/// Whether to go on with the next pod.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Exit,
}

/// What the answers to a plan's writes mean.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Claims that are created: for which pod, and whether that pod is created, too.
    pub claims: BTreeMap<Text, (Text, bool)>,
    /// Pods that are deleted; true for those that make room for a new revision.
    pub deletions: BTreeMap<Uid, (Text, bool)>,
}

/// Writes that do not wait for each other.
#[derive(Debug, Default)]
struct Batch {
    claims: Vec<Write>,
    pods: Vec<Write>,
    updates: Vec<Write>,
    deletions: Vec<Write>,
}

pub(super) struct Round<'a> {
    pub key: Id<StatefulSet>,
    pub set: Arc<StatefulSet>,
    pub view: &'a View,
    pub now: Time,
    pub revisions: Revisions,
    pub collisions: i32,
    pub specs: &'a mut Specs,
    /// `MaxUnavailableStatefulSet`.
    pub bounded: bool,
    pub plan: Plan,
    pub notes: Notes,
    /// What went wrong without a request.
    pub error: Option<String>,
    batch: Batch,
}

impl<'a> Round<'a> {
    #[allow(
        clippy::too_many_arguments,
        reason = "everything that a sync has gathered"
    )]
    pub(super) fn new(
        key: Id<StatefulSet>,
        set: Arc<StatefulSet>,
        revisions: Revisions,
        collisions: i32,
        specs: &'a mut Specs,
        bounded: bool,
        plan: Plan,
        (view, now): (&'a View, Time),
    ) -> Self {
        Round {
            key,
            set,
            view,
            now,
            revisions,
            collisions,
            specs,
            bounded,
            plan,
            notes: Notes::default(),
            error: None,
            batch: Batch::default(),
        }
    }

    /// `updateStatefulSet`: plans the writes; returns the status as it will be.
    pub(super) fn run(&mut self, all: Vec<(Id<Pod>, Arc<Pod>)>) -> StatefulSetStatus {
        let now = self.now;
        if self.set.meta.deleting() {
            let rows = all.iter().map(|(_, row)| &**row);
            return status::count(&self.set, &self.revisions, self.collisions, rows, now);
        }
        let (replicas, condemned) = self.split(all);
        let existing = replicas.iter().chain(&condemned);
        let existing = existing.filter(|r| r.id.is_some()).map(|r| &*r.row);
        let status = status::count(&self.set, &self.revisions, self.collisions, existing, now);

        let min_ready_s = self.set.min_ready_s;
        let unavailable = |r: &Replica| unavailable(&r.row, min_ready_s, now);
        // Of the pods that have to go, the lowest unavailable one may go whatever its state, if all
        // that stay are well.
        let unhealthy = match replicas.iter().any(unavailable) {
            true => None,
            false => condemned.iter().rposition(unavailable),
        };
        if self.for_all(replicas.len(), |round, i| round.replica(&replicas[i]))
            || self.for_all(condemned.len(), |round, i| round.fix_claims(&condemned[i]))
            || self.for_all(condemned.len(), |round, i| {
                round.condemned(&condemned[i], unhealthy == Some(i))
            })
        {
            return status;
        }
        if let StatefulStrategy::RollingUpdate(rolling) = self.set.strategy {
            let partition = rolling.map_or(0, |r| r.partition);
            let partition = usize::try_from(partition).unwrap_or(0);
            if self.bounded {
                self.update_bounded(&replicas, partition);
            } else {
                self.update_one(&replicas, partition);
            }
            self.flush();
        }
        status
    }

    /// The pods of the set in the order of their ordinals, with those that are missing; and those
    /// that are too many, highest first.
    fn split(&mut self, all: Vec<(Id<Pod>, Arc<Pod>)>) -> (Vec<Replica>, Vec<Replica>) {
        let mut found = BTreeMap::new();
        let mut condemned = Vec::new();
        for (id, row) in all {
            let ordinal = ordinal(&row);
            let replica = Replica { id: Some(id), row };
            if in_range(&self.set, ordinal) {
                found.insert(ordinal, replica);
            } else if ordinal >= 0 {
                condemned.push(replica);
            }
        }
        condemned.sort_by_key(|r| std::cmp::Reverse(ordinal(&r.row)));
        let set = self.set.clone();
        let ordinals = set.start..set.start.saturating_add(set.replicas);
        let replicas = ordinals.map(|ordinal| {
            found.remove(&ordinal).unwrap_or_else(|| Replica {
                id: None,
                row: Arc::new(new_pod(
                    self.key,
                    &set,
                    &self.revisions,
                    ordinal,
                    self.specs,
                )),
            })
        });
        (replicas.collect(), condemned)
    }

    /// `runForAll`: whether to stop here.
    fn for_all(&mut self, count: usize, mut each: impl FnMut(&mut Self, usize) -> Flow) -> bool {
        let mut from = 0;
        let mut size = 1;
        while from < count {
            let to = count.min(from + size);
            for i in from..to {
                let flow = each(self, i);
                // In batches only errors stop.
                if !self.set.parallel && flow == Flow::Exit {
                    self.flush();
                    return true;
                }
            }
            self.flush();
            if self.error.is_some() {
                return true;
            }
            from = to;
            if self.set.parallel {
                size = (2 * size).min(MAX_BATCH_SIZE);
            }
        }
        false
    }

    fn flush(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        let mut add = |writes: Vec<Write>, rule| {
            if !writes.is_empty() {
                self.plan.steps.push(Step::Parallel { writes, rule });
            }
        };
        add(batch.claims, "a pod needs its claim");
        add(batch.pods, "too few pods");
        add(batch.updates, "identity, storage and retention");
        add(batch.deletions, "this pod must go");
    }

    /// `processReplica`.
    fn replica(&mut self, replica: &Replica) -> Flow {
        let pod = &replica.row;
        if pod.status.phase.terminal() {
            if !pod.meta.deleting() {
                self.delete(replica, false);
            }
            return Flow::Exit;
        }
        let Some(id) = replica.id else {
            return self.create(replica);
        };
        if pod.status.phase == Phase::Pending {
            if let Err(error) = self.create_claims(pod, false) {
                self.error.get_or_insert(error);
                return Flow::Exit;
            }
            self.update_claims(pod);
        }
        if !self.set.parallel {
            let available = pods::available(pod, self.set.min_ready_s, self.now);
            if pod.meta.deleting() || !running_and_ready(pod) || !available {
                return Flow::Exit;
            }
        }
        let consistent = identity_matches(&self.set, pod) && storage_matches(&self.set, pod);
        if consistent && claims::all_up_to_date(&self.set, pod, self.view) {
            return Flow::On;
        }
        self.update(id, pod)
    }

    /// `CreateStatefulPod`.
    fn create(&mut self, replica: &Replica) -> Flow {
        let pod = &replica.row;
        if claims::stale(&self.set, pod, self.view) {
            return Flow::Exit;
        }
        if let Err(error) = self.create_claims(pod, true) {
            let message = format!(
                "Create Pod {} in StatefulSet {} failed error: {error}",
                pod.meta.name, self.set.meta.name
            );
            let source = StatefulSetController::SOURCE;
            let event = pods::event(&*self.set, source, "FailedCreate", message, true);
            self.plan.event(event);
            self.error.get_or_insert(error);
            return Flow::Exit;
        }
        self.batch.pods.push(Write::Create(Row::Pod(pod.clone())));
        self.update_claims(pod);
        if self.set.parallel {
            Flow::On
        } else {
            Flow::Exit
        }
    }

    /// `createPersistentVolumeClaims`.
    fn create_claims(&mut self, pod: &Pod, with_pod: bool) -> Result<(), String> {
        let mut errors = Vec::new();
        for claim in claims::wanted(&self.set, ordinal(pod)) {
            let all = self.view.of::<PersistentVolumeClaim>();
            match all.named(&claim.meta.namespace, &claim.meta.name) {
                Some((_, existing)) if existing.meta.deleting() => {
                    errors.push(format!("pvc {} is being deleted", claim.meta.name));
                }
                Some(_) => {}
                None => {
                    let name = claim.meta.name.clone();
                    let of = (pod.meta.name.clone(), with_pod);
                    self.notes.claims.insert(name, of);
                    self.batch.claims.push(Write::Create(claim.into()));
                }
            }
        }
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(format!("[{}]", errors.join(", "))),
        }
    }

    /// `UpdatePodClaimForRetentionPolicy`.
    fn update_claims(&mut self, pod: &Pod) {
        for (write, foreign) in claims::updates(&self.set, pod, self.view) {
            if foreign && let Write::Update(_, row) = &write {
                let message = format!(
                    "PersistentVolumeClaim {} has a conflicting OwnerReference that acts as a \
                     manging controller, the retention policy is ignored for this claim",
                    row.meta().name
                );
                let source = StatefulSetController::SOURCE;
                let event = pods::event(&*self.set, source, "ConflictingController", message, true);
                self.plan.event(event);
            }
            if !self.batch.updates.contains(&write) {
                self.batch.updates.push(write);
            }
        }
    }

    /// `UpdateStatefulPod`.
    fn update(&mut self, id: Id<Pod>, pod: &Arc<Pod>) -> Flow {
        if !storage_matches(&self.set, pod)
            && let Err(error) = self.create_claims(pod, false)
        {
            self.error.get_or_insert(error);
            return Flow::Exit;
        }
        self.update_claims(pod);
        let new = Row::Pod(Arc::new(put_right(&self.set, pod)));
        self.batch.updates.push(Write::Update(id.into(), new));
        Flow::On
    }

    fn fix_claims(&mut self, replica: &Replica) -> Flow {
        self.update_claims(&replica.row);
        Flow::On
    }

    /// `processCondemned`.
    fn condemned(&mut self, replica: &Replica, unhealthy: bool) -> Flow {
        let pod = &replica.row;
        if pod.meta.deleting() {
            return if self.set.parallel {
                Flow::On
            } else {
                Flow::Exit
            };
        }
        let available = pods::available(pod, self.set.min_ready_s, self.now);
        let well = running_and_ready(pod) && available;
        if !self.set.parallel && !well && !unhealthy {
            return Flow::Exit;
        }
        self.delete(replica, false);
        Flow::Exit
    }

    /// Replaces the last pod that is not of the update revision, if all after it are available.
    fn update_one(&mut self, replicas: &[Replica], partition: usize) {
        for replica in replicas.iter().skip(partition).rev() {
            if self.outdated(replica) {
                self.delete(replica, true);
                return;
            }
            if unavailable(&replica.row, self.set.min_ready_s, self.now) {
                return;
            }
        }
    }

    /// `updateStatefulSetAfterInvariantEstablished`: as many at a time as may be unavailable.
    fn update_bounded(&mut self, replicas: &[Replica], partition: usize) {
        let bound = match self.set.strategy {
            StatefulStrategy::RollingUpdate(Some(rolling)) => rolling.max_unavailable,
            _ => None,
        };
        // getStatefulSetMaxUnavailable
        let bound = bound.map_or(1, |b| b.scaled(self.set.replicas, false).max(1));
        let min_ready_s = self.set.min_ready_s;
        let unavailable = |r: &&Replica| unavailable(&r.row, min_ready_s, self.now);
        let unavailable = replicas.iter().filter(unavailable).count();
        let room = usize::try_from(bound)
            .unwrap_or(0)
            .saturating_sub(unavailable);
        let outdated: Vec<&Replica> = (replicas.iter().skip(partition).rev())
            .filter(|r| self.outdated(r))
            .take(room)
            .collect();
        for replica in outdated {
            self.delete(replica, true);
            self.flush();
        }
    }

    fn outdated(&self, replica: &Replica) -> bool {
        revision_of(&replica.row) != self.revisions.update.name().as_str()
            && !replica.row.meta.deleting()
    }

    /// `DeleteStatefulPod`.
    fn delete(&mut self, replica: &Replica, for_update: bool) {
        let Some(id) = replica.id else {
            return;
        };
        let meta = &replica.row.meta;
        let note = (meta.name.clone(), for_update);
        self.notes.deletions.insert(meta.uid, note);
        self.batch.deletions.push(pods::delete(id, &replica.row));
    }
}
