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
use crate::api::{KubeEvent, PersistentVolumeClaim, Pod, Row, StatefulSet, Text, Uid};
use crate::client::{Link, Plan, Step};
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
    /// Claims that are created: for which pod.
    pub claims: BTreeMap<Text, Text>,
    /// Pods whose claims are created.
    pub pods: BTreeMap<Text, Claiming>,
    /// Pods that are deleted; true for those that make room for a new revision.
    pub deletions: BTreeMap<Uid, (Text, bool)>,
}

/// `createPersistentVolumeClaims` of one pod: what went wrong is told together, at the end.
#[derive(Debug, Default)]
pub(super) struct Claiming {
    /// What the claims are made for: to create the pod or to put it right; nothing is told of a pod
    /// that merely waits.
    pub verb: Option<&'static str>,
    /// Claims whose creation was not answered yet.
    pub left: usize,
    pub errors: Vec<String>,
}

impl Claiming {
    /// `errorutils.NewAggregate`.
    pub fn error(&self) -> Option<String> {
        match self.errors.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            many => Some(format!("[{}]", many.join(", "))),
        }
    }
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
    /// The requests for the pod that is looked at, and those for the others of its batch.
    chain: Vec<Link>,
    batch: Vec<Vec<Link>>,
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
            chain: Vec::new(),
            batch: Vec::new(),
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
                self.batch.push(std::mem::take(&mut self.chain));
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

    /// A goroutine for each pod of the batch.
    fn flush(&mut self) {
        let mut chains = std::mem::take(&mut self.batch);
        chains.push(std::mem::take(&mut self.chain));
        chains.retain(|chain| !chain.is_empty());
        if !chains.is_empty() {
            self.plan.steps.push(Step::Chains(chains));
        }
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
            if !self.create_claims(pod, None) {
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
        if !self.create_claims(pod, Some("Create")) {
            return Flow::Exit;
        }
        let create = Write::Create(Row::Pod(pod.clone()));
        self.chain.push((create, "too few pods"));
        self.update_claims(pod);
        if self.set.parallel {
            Flow::On
        } else {
            Flow::Exit
        }
    }

    /// `createPersistentVolumeClaims`: all that are missing are made, even if one of them cannot be
    /// had; whether the pod can go on.
    fn create_claims(&mut self, pod: &Pod, verb: Option<&'static str>) -> bool {
        let mut claiming = Claiming {
            verb,
            ..Claiming::default()
        };
        for claim in claims::wanted(&self.set, ordinal(pod)) {
            let name = claim.meta.name.clone();
            let all = self.view.of::<PersistentVolumeClaim>();
            match all.named(&claim.meta.namespace, &name) {
                Some((_, existing)) if existing.meta.deleting() => {
                    let error = format!("pvc {name} is being deleted");
                    claiming.errors.push(error);
                }
                Some(_) => {}
                None => {
                    claiming.left += 1;
                    self.notes.claims.insert(name, pod.meta.name.clone());
                    let create = Write::Create(claim.into());
                    self.chain.push((create, "a pod needs its claim"));
                }
            }
        }
        let error = claiming.error();
        if let Some(error) = &error {
            self.error.get_or_insert_with(|| error.clone());
            if let (0, Some(verb)) = (claiming.left, verb) {
                let name = &pod.meta.name;
                self.plan
                    .event(pod_event(&self.set, verb, name, Some(error)));
            }
        }
        if claiming.left > 0 {
            self.notes.pods.insert(pod.meta.name.clone(), claiming);
        }
        error.is_none()
    }

    /// `UpdatePodClaimForRetentionPolicy`.
    fn update_claims(&mut self, pod: &Pod) {
        for update in claims::updates(&self.set, pod, self.view) {
            if update.foreign {
                let message = format!(
                    "PersistentVolumeClaim {} has a conflicting OwnerReference that acts as a \
                     manging controller, the retention policy is ignored for this claim",
                    update.name
                );
                let source = StatefulSetController::SOURCE;
                let event = pods::event(&*self.set, source, "ConflictingController", message, true);
                self.plan.event(event);
            }
            if let Some(write) = update.write {
                let link = (write, "who owns a claim follows from the retention policy");
                if !self.chain.contains(&link) {
                    self.chain.push(link);
                }
            }
        }
    }

    /// `UpdateStatefulPod`.
    fn update(&mut self, id: Id<Pod>, pod: &Arc<Pod>) -> Flow {
        if !storage_matches(&self.set, pod) && !self.create_claims(pod, Some("Update")) {
            return Flow::Exit;
        }
        if !claims::all_up_to_date(&self.set, pod, self.view) {
            self.update_claims(pod);
        }
        let new = Row::Pod(Arc::new(put_right(&self.set, pod)));
        let update = Write::Update(id.into(), new);
        self.chain.push((update, "identity, storage and retention"));
        Flow::On
    }

    fn fix_claims(&mut self, replica: &Replica) -> Flow {
        if !claims::all_up_to_date(&self.set, &replica.row, self.view) {
            self.update_claims(&replica.row);
        }
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
        let rule = match for_update {
            true => "it makes room for a pod of the new revision",
            false => "this pod must go",
        };
        self.chain.push((pods::delete(id, &replica.row), rule));
    }
}

/// `recordPodEvent`.
pub(super) fn pod_event(
    set: &StatefulSet,
    verb: &str,
    pod: &Text,
    error: Option<&str>,
) -> KubeEvent {
    let (how, end) = match error {
        None => ("Successful", "successful".to_owned()),
        Some(error) => ("Failed", format!("failed error: {error}")),
    };
    let message = format!("{verb} Pod {pod} in StatefulSet {} {end}", set.meta.name);
    let source = StatefulSetController::SOURCE;
    let reason = format!("{how}{verb}");
    pods::event(set, source, &reason, message, error.is_some())
}
