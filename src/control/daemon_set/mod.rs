//! DaemonSets: a pod on every node that should have one.
//!
//! A port of `pkg/controller/daemon`. A sync finds or makes the revision of the template
//! ([`super::history`], `revisions`), makes and deletes pods so that every suitable node has one
//! ([`nodes`], `manage`), goes on with a rollout if nothing else is under way (`rolling`), and
//! reports (`status`). The scheduler binds the pods; each is tied to its node by affinity.
//!
//! What it does not know: whether a node has room; a pod that does not fit stays pending.

pub mod nodes;

mod manage;

mod revisions;

mod rolling;

mod round;

mod status;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::history::Revision;
use super::owner::{self, Claims};
use super::pods;
use crate::api::stateful::DaemonStrategy;
use crate::api::{ControllerRevision, DaemonSet, Kind, KubeEvent, Node, Pod, Row, Text};
use crate::client::{
    Controller, Expectations, Keys, Outcome, Plan, Reply, Step, SyncContext, Watches, Written,
};
use crate::engine::Time;
use crate::store::{ApiError, Change, Id, Op, View, Write};
use nodes::{Judge, by_node};
use round::{FailedPods, Round, Wanted};

type Key = Id<DaemonSet>;

/// The DaemonSet controller.
#[derive(Debug, Default)]
pub struct DaemonSetController {
    expectations: Expectations<Key>,
    written: Written<Key>,
    failed_pods: FailedPods,
    syncs: BTreeMap<Key, Sync>,
}

/// What a sync remembers until its writes are answered.
#[derive(Debug)]
struct Sync {
    set: Arc<DaemonSet>,
    hash: Text,
    /// Whether the set's generation was acted on.
    observed: bool,
    /// Deletions that come after creations, whatever became of those.
    deletions: Vec<Write>,
    /// Revisions that are too old to keep.
    old: Vec<Revision>,
    /// Creations and deletions that have not been answered.
    creates: i64,
    deletes: i64,
    /// Steps that adopt and make revisions: without them there is nothing to report.
    first: usize,
    /// What went wrong without a request.
    error: Option<String>,
}

impl Controller for DaemonSetController {
    type Key = Key;
    const NAME: &'static str = DaemonSetController::SOURCE;
    /// `--concurrent-daemonset-syncs`.
    const WORKERS: usize = 2;
    const WATCHES: Watches = Watches::kind(Kind::DaemonSet)
        .and(Watches::kind(Kind::ControllerRevision))
        .and(Watches::kind(Kind::Node))
        .and(Watches::PODS_OF_DAEMON_SETS);

    fn keys(&mut self, change: &Change, view: &View, _now: Time, keys: &mut Keys<Key>) {
        if let Some(id) = change.object.and_then(|o| o.typed::<DaemonSet>()) {
            if change.op == Op::Delete {
                self.expectations.delete(id);
                self.written.forget(id);
                self.failed_pods.retain(|(set, _, _), _| *set != id);
            }
            keys.add(id);
        } else if let Some((old, new)) = change.rows::<Pod>() {
            match (change.op, old, new) {
                (Op::Create, _, Some(new)) => self.pod_added(new, view, keys),
                (Op::Update, Some(old), Some(new)) => self.pod_updated(old, new, view, keys),
                (Op::Delete, _, Some(last)) => self.pod_deleted(last, view, keys),
                _ => {}
            }
        } else if let Some((old, new)) = change.rows::<ControllerRevision>() {
            match (change.op, old, new) {
                // `addHistory`: that of an owned one is only noted.
                (Op::Create, _, Some(new)) if new.meta.controller().is_none() => {
                    keys.now.extend(owner::added(&new.meta, view).all());
                }
                (Op::Update, Some(old), Some(new)) => {
                    let concerned = owner::updated(&old.meta, &new.meta, view);
                    keys.now.extend(concerned.all());
                }
                (Op::Delete, _, Some(last)) => keys.now.extend(owner::of(&last.meta, view)),
                _ => {}
            }
        } else if let Some((old, Some(node))) = change.rows::<Node>() {
            let same = old.is_some_and(|old| {
                old.meta.labels == node.meta.labels && old.taints == node.taints
            });
            if change.op != Op::Delete && !same {
                node_changed(node, view, keys);
            }
        }
    }

    fn sync(&mut self, key: Key, cx: &SyncContext<'_>) -> Plan {
        if let Some(plan) = self.written.too_early(key, cx.view) {
            return plan;
        }
        let mut plan = Plan::none();
        let Some(set) = cx.view.of::<DaemonSet>().get(key).cloned() else {
            self.expectations.delete(key);
            return plan;
        };
        if set.selector.is_empty() {
            let message = "This daemon set is selecting all pods. A non-empty selector is \
                           required.";
            let reason = "SelectingAll";
            let event = pods::event(&*set, Self::SOURCE, reason, message.into(), true);
            plan.event(event);
            return plan;
        }
        if set.meta.deleting() {
            return plan;
        }
        let all = claimed(&set, cx.view, &mut plan);
        let Some(histories) = revisions::construct(key, &set, &all, cx.view, &mut plan) else {
            plan.error = Some("the name of a new revision is taken".into());
            return plan;
        };
        let mut sync = Sync {
            set: set.clone(),
            hash: revisions::hash_of(&histories.current),
            observed: self.expectations.satisfied(key, cx.now),
            deletions: Vec::new(),
            old: Vec::new(),
            creates: 0,
            deletes: 0,
            first: plan.steps.len(),
            error: None,
        };
        if sync.observed {
            self.update(key, &mut sync, &all, &mut plan, cx);
            sync.old = revisions::too_old(&set, &all, histories.old);
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
            Write::Create(Row::Pod(_)) => {
                sync.creates -= 1;
                if reply.as_ref().is_err_and(|e| !e.namespace_terminating()) {
                    self.expectations.creation_observed(key);
                }
                pods::created(&*sync.set, Self::SOURCE, reply, events);
            }
            Write::Delete { object, .. } if object.typed::<Pod>().is_some() => {
                sync.deletes -= 1;
                if reply.is_err() {
                    self.expectations.deletion_observed(key);
                }
                pods::deleted(&*sync.set, Self::SOURCE, reply, events);
            }
            _ => {}
        }
    }

    fn forgives(&self, write: &Write, error: &ApiError) -> bool {
        matches!(write, Write::Create(Row::Pod(_))) && error.namespace_terminating()
    }

    fn finish(&mut self, key: Key, outcome: &Outcome, cx: &SyncContext<'_>) -> Plan {
        let mut plan = Plan::none();
        let Some(sync) = self.syncs.get_mut(&key) else {
            return plan;
        };
        // Pods that were never asked for will not be seen.
        let waiting = i64::try_from(sync.deletions.len()).unwrap_or(0);
        let unasked = (sync.creates, sync.deletes - waiting);
        self.expectations.lower(key, unasked.0, unasked.1);
        (sync.creates, sync.deletes) = (0, waiting);
        if outcome.failed_step.is_some_and(|step| step < sync.first) {
            return plan;
        }
        if !sync.deletions.is_empty() {
            plan.steps.push(Step::Parallel {
                writes: std::mem::take(&mut sync.deletions),
                rule: "this pod must go",
            });
        }
        if outcome.error.is_none() && sync.error.is_none() {
            for write in sync.old.iter().filter_map(Revision::deletion) {
                plan.attempt(write, "more history than revisionHistoryLimit");
            }
        }
        let (set, hash, observed) = (sync.set.clone(), sync.hash.clone(), sync.observed);
        plan.error = sync.error.take();
        let Some(latest) = cx.view.of::<DaemonSet>().get(key) else {
            return plan;
        };
        // The pods of now, counted by the set of when the sync began.
        let all = claimed(&set, cx.view, &mut Plan::none());
        let at = (cx.view, cx.now);
        let round = Round::new(key, &set, hash, &mut self.failed_pods, at);
        let (status, row) = status::updated(&round, &all, observed, latest);
        if let Some(row) = row {
            let row = Row::DaemonSet(Arc::new(row));
            let write = Write::UpdateStatus(key.into(), row);
            plan.write(write, "report what was counted");
        }
        if set.min_ready_s > 0 && status.ready != status.available {
            plan.requeue(pods::seconds(set.min_ready_s));
        }
        plan
    }

    fn resync(&mut self, view: &View, _now: Time, keys: &mut Keys<Key>) {
        for (id, _) in view.of::<DaemonSet>().iter() {
            keys.add(id);
        }
    }

    fn restart(&mut self) {
        *self = DaemonSetController::default();
    }
}

impl DaemonSetController {
    const SOURCE: &'static str = "daemonset-controller";

    /// `updateDaemonSet`: what `manage` wants, or the next step of a rollout when it wants nothing
    /// (otherwise its requests are waited for first).
    fn update(
        &mut self,
        key: Key,
        sync: &mut Sync,
        all: &[(Id<Pod>, Arc<Pod>)],
        plan: &mut Plan,
        cx: &SyncContext<'_>,
    ) {
        let (set, at) = (sync.set.clone(), (cx.view, cx.now));
        let hash = sync.hash.clone();
        let mut round = Round::new(key, &set, hash, &mut self.failed_pods, at);
        let nodes = by_node(all, false);
        let mut wanted = round.manage(&nodes);
        let nothing = |w: &Wanted<'_>| w.creations.is_empty() && w.deletions.is_empty();
        let rolls = matches!(set.strategy, DaemonStrategy::RollingUpdate { .. });
        let mut rule = ("this node needs a pod", "this pod must go");
        if nothing(&wanted) && rolls {
            wanted = round.rolling_update(nodes).unwrap_or_else(|error| {
                sync.error = Some(error);
                Wanted::default()
            });
            rule = ("surge allows one more", "maxUnavailable allows it");
        }
        let wanted = wanted.limited();
        let (creates, deletes) = (wanted.creations.len(), wanted.deletions.len());
        self.expectations.set(key, creates, deletes, cx.now);
        (sync.creates, sync.deletes) = (creates as i64, deletes as i64);
        let writes = round.creation_writes(&wanted);
        let deletions = wanted.deletion_writes();
        if !writes.is_empty() {
            plan.steps.push(Step::SlowStart {
                writes,
                rule: rule.0,
            });
            sync.deletions = deletions;
        } else if !deletions.is_empty() {
            plan.steps.push(Step::Parallel {
                writes: deletions,
                rule: rule.1,
            });
        }
        round.conclude(plan);
    }

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
        let concerned = owner::updated::<DaemonSet>(&old.meta, &pod.meta, view);
        if let Some(id) = concerned.owner
            && pods::became_ready(old, pod)
        {
            let min_ready_s = view.of().get(id).map_or(0, |set| set.min_ready_s);
            if min_ready_s > 0 {
                // A second more, so that timestamps of whole seconds are past it.
                keys.add_after(id, pods::seconds(min_ready_s.saturating_add(1)));
            }
        }
        keys.now.extend(concerned.all());
    }

    /// `deletePod`: the mark counts, not only the removal.
    fn pod_deleted(&mut self, pod: &Pod, view: &View, keys: &mut Keys<Key>) {
        if let Some(id) = owner::of(&pod.meta, view) {
            self.expectations.deletion_observed(id);
            keys.add(id);
        }
    }
}

/// `getDaemonPods`.
fn claimed(set: &DaemonSet, view: &View, plan: &mut Plan) -> Vec<(Id<Pod>, Arc<Pod>)> {
    let table = view.pods();
    let rows = table.owned_by(set.meta.uid);
    let rows = rows.chain(table.orphans(&set.meta.namespace));
    Claims::of(set).claim(rows, plan)
}

/// `syncNodeUpdate`: the sets whose pod on this node must be made, deleted or counted anew.
fn node_changed(node: &Node, view: &View, keys: &mut Keys<Key>) {
    let table = view.pods();
    for (id, set) in view.of::<DaemonSet>().iter() {
        let (run, stay) = Judge::new(set).should_run(node);
        let mut here = table.on_node(&node.meta.name);
        let owned = |pod: &Pod| {
            let owner = pod.meta.controller();
            pod.meta.namespace == set.meta.namespace
                && owner.is_some_and(|o| o.kind_name == "DaemonSet" && o.name == set.meta.name)
        };
        let scheduled = here.any(|(_, pod)| owned(pod));
        let counted = scheduled && set.status.misscheduled > 0;
        if run && !scheduled || !stay && scheduled || counted {
            keys.add(id);
        }
    }
}

#[cfg(test)]
mod tests;
