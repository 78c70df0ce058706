//! ReplicaSets: as many pods as asked for, not more, not fewer.
//!
//! A port of `pkg/controller/replicaset/replica_set.go`. A sync claims pods by selector, creates what
//! is missing in batches of 1, 2, 4 … (so that a refusal costs one request and not five hundred), or
//! deletes what is too much, worst pod first ([`victims`]), and then reports what it counted before
//! ([`status`]). It does not act again before its view shows the pods it asked for.
//!
//! What it does not know: Deployments. It only knows that another ReplicaSet of the same owner may
//! have pods on the same nodes.

pub mod status;

pub mod victims;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::owner::{self, Claims, controller_ref};
use super::pods;
use crate::api::{Kind, KubeEvent, OwnerRef, Pod, ReplicaSet, Row, Uid};
use crate::client::{
    Controller, Keys, Outcome, Plan, Reply, Step, SyncContext, UidExpectations, Watches, Written,
};
use crate::engine::Time;
use crate::store::{ApiError, Change, Id, Op, View, Write};

/// `pkg/controller/replicaset/replica_set.go :: BurstReplicas`: pods created or deleted in one sync.
pub const BURST_REPLICAS: usize = 500;

type Key = Id<ReplicaSet>;

/// The ReplicaSet controller.
#[derive(Debug, Default)]
pub struct ReplicaSetController {
    expectations: UidExpectations<Key>,
    written: Written<Key>,
    syncs: BTreeMap<Key, Sync>,
}

/// What a sync remembers until its writes are answered.
#[derive(Debug)]
struct Sync {
    set: Arc<ReplicaSet>,
    /// The pods as they were counted when the sync began: that is what the status reports.
    active: Vec<(Id<Pod>, Arc<Pod>)>,
    terminating: usize,
    /// Steps of the plan that claim pods.
    claims: usize,
    /// Expected pods whose requests have not been answered.
    creates: usize,
    deletes: BTreeSet<Uid>,
    /// The first error of creating or deleting.
    error: Option<String>,
}

impl Controller for ReplicaSetController {
    type Key = Key;
    const NAME: &'static str = "replicaset-controller";
    const WATCHES: Watches = Watches::kind(Kind::ReplicaSet).and(Watches::PODS_OF_REPLICA_SETS);

    fn keys(&mut self, change: &Change, view: &View, _now: Time, keys: &mut Keys<Key>) {
        if let Some(id) = change.object.and_then(|o| o.typed::<ReplicaSet>()) {
            if change.op == Op::Delete {
                self.expectations.delete(id);
                self.written.forget(id);
            }
            keys.add(id);
        } else if let Some((old, new)) = change.rows::<Pod>() {
            match (change.op, old, new) {
                (Op::Create, _, Some(new)) => self.pod_added(new, view, keys),
                (Op::Update, Some(old), Some(new)) => self.pod_updated(old, new, view, keys),
                (Op::Delete, _, Some(last)) => self.pod_deleted(last, view, keys),
                _ => {}
            }
        }
    }

    fn sync(&mut self, key: Key, cx: &SyncContext<'_>) -> Plan {
        if let Some(plan) = self.written.too_early(key, cx.view) {
            return plan;
        }
        let Some(set) = cx.view.of::<ReplicaSet>().get(key) else {
            self.expectations.delete(key);
            return Plan::none();
        };
        let mut plan = Plan::none();
        let needs_sync = self.expectations.satisfied(key, cx.now);
        let owner = controller_ref(&**set);
        let pods = cx.view.pods();
        let rows = || {
            let owned = pods.owned_by(set.meta.uid);
            owned.chain(pods.orphans(&set.meta.namespace))
        };
        let terminating = pods
            .owned_by(set.meta.uid)
            .filter(|(_, p)| pods::terminating(p) && set.selector.matches(&p.meta.labels));
        let active = rows().filter(|(_, p)| pods::active(p));
        let mut sync = Sync {
            set: set.clone(),
            terminating: terminating.count(),
            active: Claims::of(&**set).claim(active, &mut plan),
            claims: plan.steps.len(),
            creates: 0,
            deletes: BTreeSet::new(),
            error: None,
        };
        if needs_sync && !set.meta.deleting() {
            self.manage(key, &mut sync, owner, &mut plan, cx);
        }
        self.syncs.insert(key, sync);
        plan
    }

    fn on_reply(
        &mut self,
        key: Key,
        write: &Write,
        reply: &Reply,
        _cx: &SyncContext<'_>,
        events: &mut Vec<KubeEvent>,
    ) {
        self.written.note(key, write, reply);
        let Some(sync) = self.syncs.get_mut(&key) else {
            return;
        };
        match write {
            Write::Create(_) => {
                sync.creates -= 1;
                if reply.as_ref().is_err_and(|e| !e.namespace_terminating()) {
                    self.expectations.creation_observed(key);
                }
                let error = pods::created(&*sync.set, Self::NAME, reply, events);
                sync.error = sync.error.take().or(error);
            }
            Write::Delete { uid: Some(uid), .. } => {
                sync.deletes.remove(uid);
                if reply.is_err() {
                    self.expectations.deletion_observed(key, *uid);
                }
                let error = pods::deleted(&*sync.set, Self::NAME, reply, events);
                sync.error = sync.error.take().or(error);
            }
            _ => {}
        }
    }

    fn forgives(&self, write: &Write, error: &ApiError) -> bool {
        matches!(write, Write::Create(_)) && error.namespace_terminating()
    }

    fn finish(&mut self, key: Key, outcome: &Outcome, cx: &SyncContext<'_>) -> Plan {
        let Some(sync) = self.syncs.remove(&key) else {
            return Plan::none();
        };
        // Nobody will see pods that were never asked for.
        for _ in 0..sync.creates {
            self.expectations.creation_observed(key);
        }
        for uid in &sync.deletes {
            self.expectations.deletion_observed(key, *uid);
        }
        let mut plan = Plan::none();
        if outcome.failed_step.is_some_and(|step| step < sync.claims) {
            return plan;
        }
        let pods = || sync.active.iter().map(|(_, p)| &**p);
        let error = sync.error.as_deref();
        let status = status::calculate(&sync.set, pods(), sync.terminating, error, cx.now);
        let (ready, available) = (status.ready, status.available);
        if let Some(row) = status::updated(&sync.set, status) {
            let row = Row::ReplicaSet(Arc::new(row));
            plan.write(
                Write::UpdateStatus(key.into(), row),
                "report what was counted",
            );
        }
        let min_ready_s = sync.set.min_ready_s;
        if min_ready_s > 0 && ready != available {
            let next = pods::next_availability(pods(), min_ready_s, cx.now);
            plan.requeue(next.unwrap_or_else(|| pods::seconds(min_ready_s)));
        }
        plan
    }

    fn resync(&mut self, view: &View, _now: Time, keys: &mut Keys<Key>) {
        for (id, _) in view.of::<ReplicaSet>().iter() {
            keys.add(id);
        }
    }

    fn restart(&mut self) {
        *self = ReplicaSetController::default();
    }
}

impl ReplicaSetController {
    /// `addPod`.
    fn pod_added(&mut self, pod: &Pod, view: &View, keys: &mut Keys<Key>) {
        if pod.meta.deleting() {
            return self.pod_deleted(pod, view, keys);
        }
        let concerned = owner::added(&pod.meta, view);
        if let Some(id) = concerned.owner {
            self.expectations.creation_observed(id);
        }
        keys.now.extend(concerned.all());
    }

    /// `updatePod`.
    fn pod_updated(&mut self, old: &Pod, pod: &Pod, view: &View, keys: &mut Keys<Key>) {
        if pod.meta.deleting() {
            return self.pod_deleted(pod, view, keys);
        }
        let concerned = owner::updated::<ReplicaSet>(&old.meta, &pod.meta, view);
        if let Some(id) = concerned.owner
            && pods::became_ready(old, pod)
        {
            let min_ready_s = view.of().get(id).map_or(0, |set| set.min_ready_s);
            if min_ready_s > 0 {
                keys.add_after(id, pods::seconds(min_ready_s));
            }
        }
        keys.now.extend(concerned.all());
    }

    /// `deletePod`: the mark counts, not only the removal.
    fn pod_deleted(&mut self, pod: &Pod, view: &View, keys: &mut Keys<Key>) {
        if let Some(id) = owner::of(&pod.meta, view) {
            self.expectations.deletion_observed(id, pod.meta.uid);
            keys.add(id);
        }
    }

    /// `manageReplicas`.
    fn manage(
        &mut self,
        key: Key,
        sync: &mut Sync,
        owner: OwnerRef,
        plan: &mut Plan,
        cx: &SyncContext<'_>,
    ) {
        let set = sync.set.clone();
        let wanted = usize::try_from(set.replicas).unwrap_or(0);
        let have = sync.active.len();
        if have < wanted {
            let count = (wanted - have).min(BURST_REPLICAS);
            self.expectations.expect_creations(key, count, cx.now);
            sync.creates = count;
            let owners: Arc<[OwnerRef]> = [owner].into();
            let pod = Arc::new(pods::from_template(&set.template, &set.meta, &owners));
            plan.steps.push(Step::SlowStart {
                writes: vec![Write::Create(Row::Pod(pod)); count],
                rule: "too few pods",
            });
        } else if have > wanted {
            let count = (have - wanted).min(BURST_REPLICAS);
            let chosen = victims::choose(&set, &sync.active, count, cx);
            sync.deletes = chosen.iter().map(|(_, pod)| pod.meta.uid).collect();
            self.expectations
                .expect_deletions(key, sync.deletes.iter().copied(), cx.now);
            let writes = chosen.iter().map(|(id, pod)| pods::delete(*id, pod));
            plan.steps.push(Step::Parallel {
                writes: writes.collect(),
                rule: "too many pods",
            });
        }
    }
}

#[cfg(test)]
mod tests;
