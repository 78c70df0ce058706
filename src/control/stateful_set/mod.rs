//! StatefulSets: pods with a name and a claim of their own, made and unmade in order.
//!
//! A port of `pkg/controller/statefulset`. A sync adopts what belongs to the set, finds or makes the
//! revision of its template ([`super::history`]), then creates, updates and deletes pods and claims
//! (`round`), and reports ([`status`]). A pod is never replaced before it is gone from the API: that
//! is what makes its name unique, and why a pod on a dead node stays where it is until somebody
//! says that it is gone.
//!
//! What it does not know: volumes; it makes claims and looks at nothing but their owners.

pub mod identity;

pub mod claims;

mod round;

pub mod status;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::history::{self, Revision};
use super::owner::{self, Claims};
use super::pods;
use crate::api::stateful::StatefulSetStatus;
use crate::api::{ControllerRevision, Kind, KubeEvent, Pod, Row, StatefulSet, Text};
use crate::client::{Controller, Keys, Outcome, Plan, Reply, SyncContext, Watches, Written};
use crate::engine::Time;
use crate::store::{ApiError, Change, Id, Op, View, Write};
use identity::{Revisions, Specs};
use round::{Notes, Round, pod_event};

type Key = Id<StatefulSet>;

/// The StatefulSet controller.
#[derive(Debug, Default)]
pub struct StatefulSetController {
    /// Feature gate `MaxUnavailableStatefulSet`.
    bounded: bool,
    written: Written<Key>,
    specs: Specs,
    syncs: BTreeMap<Key, Sync>,
}

/// What a sync remembers until its writes are answered.
#[derive(Debug)]
struct Sync {
    set: Arc<StatefulSet>,
    pods: Vec<(Id<Pod>, Arc<Pod>)>,
    status: StatefulSetStatus,
    /// Revisions that are too old to keep.
    old: Vec<Revision>,
    notes: Notes,
    error: Option<String>,
    /// Steps that adopt and make revisions: without them there is nothing to report.
    first: usize,
}

impl Controller for StatefulSetController {
    type Key = Key;
    const NAME: &'static str = StatefulSetController::SOURCE;
    const WATCHES: Watches = Watches::kind(Kind::StatefulSet).and(Watches::PODS_OF_STATEFUL_SETS);

    fn keys(&mut self, change: &Change, view: &View, _now: Time, keys: &mut Keys<Key>) {
        if let Some(id) = change.object.and_then(|o| o.typed::<StatefulSet>()) {
            if change.op == Op::Delete {
                self.written.forget(id);
                self.specs.forget(id);
            }
            keys.add(id);
        } else if let Some((old, new)) = change.rows::<Pod>() {
            match (change.op, old, new) {
                (Op::Create, _, Some(new)) => {
                    keys.now.extend(owner::added(&new.meta, view).all());
                }
                (Op::Update, Some(old), Some(new)) => pod_updated(old, new, view, keys),
                (Op::Delete, _, Some(last)) => keys.now.extend(owner::of(&last.meta, view)),
                _ => {}
            }
        }
    }

    fn sync(&mut self, key: Key, cx: &SyncContext<'_>) -> Plan {
        if let Some(plan) = self.written.too_early(key, cx.view) {
            return plan;
        }
        let Some(set) = cx.view.of::<StatefulSet>().get(key).cloned() else {
            return Plan::none();
        };
        let mut plan = Plan::none();
        let revisions = history::list(&set.meta, &set.selector, cx.view);
        let adoptions = history::adoptions(&*set, &revisions);
        if !adoptions.is_empty() && set.meta.deleting() {
            plan.error = Some("can't adopt ControllerRevisions: the set is being deleted".into());
            return plan;
        }
        for write in adoptions {
            plan.write(write, "an orphan matches the selector");
        }
        let table = cx.view.pods();
        let rows = table.owned_by(set.meta.uid);
        let rows = rows.chain(table.orphans(&set.meta.namespace));
        let member = |pod: &Pod| identity::member(&set, pod);
        let all = Claims::of(&*set).claim_if(member, rows, &mut plan);

        let (between, collisions) = self.revisions(&set, &revisions, cx.view, &mut plan);
        let old = too_old(&set, &all, revisions, &between);
        let first = plan.steps.len();
        let at = (cx.view, cx.now);
        let (specs, bounded) = (&mut self.specs, self.bounded);
        let mut round = Round::new(
            key,
            set.clone(),
            between,
            collisions,
            specs,
            bounded,
            plan,
            at,
        );
        let status = round.run(all.clone());
        let Round {
            plan, notes, error, ..
        } = round;
        let sync = Sync {
            set,
            pods: all,
            status,
            old,
            notes,
            error,
            first,
        };
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
        if let Some(sync) = self.syncs.get_mut(&key) {
            sync.answered(write, reply, events);
        }
    }

    /// One claim that cannot be had does not keep the others of its pod from being made.
    fn despite_failure(&self, next: &Write) -> bool {
        matches!(next, Write::Create(Row::PersistentVolumeClaim(_)))
    }

    fn finish(&mut self, key: Key, outcome: &Outcome, cx: &SyncContext<'_>) -> Plan {
        let Some(sync) = self.syncs.remove(&key) else {
            return Plan::none();
        };
        let mut plan = Plan::none();
        if outcome.failed_step.is_some_and(|step| step < sync.first) {
            return plan;
        }
        let (ready, available) = (sync.status.ready, sync.status.available);
        if let Some(row) = status::updated(&sync.set, sync.status) {
            let row = Row::StatefulSet(Arc::new(row));
            let write = Write::UpdateStatus(key.into(), row);
            plan.write(write, "report what was counted");
        }
        for write in sync.old.iter().filter_map(Revision::deletion) {
            plan.write(write, "more history than revisionHistoryLimit");
        }
        plan.error = sync.error;
        let min_ready_s = sync.set.min_ready_s;
        if min_ready_s > 0 && ready != available {
            let pods = sync.pods.iter().map(|(_, pod)| &**pod);
            let next = pods::next_availability(pods, min_ready_s, cx.now);
            plan.requeue(next.unwrap_or_else(|| pods::seconds(min_ready_s)));
        }
        plan
    }

    fn resync(&mut self, view: &View, _now: Time, keys: &mut Keys<Key>) {
        for (id, _) in view.of::<StatefulSet>().iter() {
            keys.add(id);
        }
    }

    fn restart(&mut self) {
        *self = StatefulSetController::new(self.bounded);
    }
}

impl StatefulSetController {
    const SOURCE: &'static str = "statefulset-controller";

    /// A controller; `max_unavailable` is the feature gate `MaxUnavailableStatefulSet`, off in the
    /// reference version.
    pub fn new(max_unavailable: bool) -> Self {
        StatefulSetController {
            bounded: max_unavailable,
            ..StatefulSetController::default()
        }
    }

    /// `getStatefulSetRevisions`: the revision that the set is at, and that of its template, which is
    /// made or made the newest if need be; and the count of collisions of names.
    fn revisions(
        &self,
        set: &Arc<StatefulSet>,
        all: &[Revision],
        view: &View,
        plan: &mut Plan,
    ) -> (Revisions, i32) {
        let mut collisions = set.status.collisions.unwrap_or(0);
        let next = all.last().map_or(1, |r| r.row.revision + 1);
        let equal = all
            .iter()
            .rposition(|r| history::same(&r.row.template, &set.template));
        let update = match equal {
            Some(at) if at + 1 == all.len() => all[all.len() - 1].clone(),
            Some(at) => {
                let (revision, write) = all[at].renumbered(next);
                if let Some(write) = write {
                    plan.write(write, "the template is that of an old revision");
                }
                revision
            }
            None => loop {
                let hash = history::hash(&set.template, collisions);
                let label = history::HASH_LABEL;
                let new = history::new(&**set, &set.template, next, &hash, label);
                let taken = view.of::<ControllerRevision>();
                match taken.named(&set.meta.namespace, new.name()) {
                    None => {
                        let row = Row::ControllerRevision(new.row.clone());
                        plan.write(Write::Create(row), "the template is new");
                        break new;
                    }
                    Some((id, row)) if history::same(&row.template, &set.template) => {
                        let (id, row) = (Some(id), row.clone());
                        break Revision { id, row };
                    }
                    Some(_) => collisions += 1,
                }
            },
        };
        let mut named = all.iter();
        let current = named.find(|r| *r.name() == set.status.current_revision);
        let current = current.unwrap_or(&update).clone();
        (Revisions { current, update }, collisions)
    }
}

impl Sync {
    /// `recordPodEvent`, `recordClaimEvent`, and what counts for the status.
    fn answered(&mut self, write: &Write, reply: &Reply, events: &mut Vec<KubeEvent>) {
        let error = reply.as_ref().err().map(ToString::to_string);
        let error = error.as_deref();
        match (write, reply) {
            (Write::Create(Row::Pod(_)), Err(ApiError::AlreadyExists(_))) => {}
            (Write::Create(Row::Pod(row)), _) => {
                events.push(pod_event(&self.set, "Create", &row.meta.name, error));
            }
            (Write::Update(_, Row::Pod(row)), _) => {
                events.push(pod_event(&self.set, "Update", &row.meta.name, error));
            }
            (Write::Delete { uid: Some(uid), .. }, reply) => {
                let Some((name, for_update)) = self.notes.deletions.get(uid) else {
                    return;
                };
                let gone = matches!(reply, Ok(_) | Err(ApiError::NotFound(_)));
                self.status.current -= i32::from(gone && *for_update);
                let error = error.filter(|_| !gone);
                events.push(pod_event(&self.set, "Delete", name, error));
            }
            (Write::Create(Row::PersistentVolumeClaim(row)), reply) => {
                self.claim_answered(&row.meta.name, reply, events);
            }
            _ => {}
        }
    }

    /// `recordClaimEvent`; the pod's own event comes when all its claims are answered.
    fn claim_answered(&mut self, claim: &Text, reply: &Reply, events: &mut Vec<KubeEvent>) {
        let Some(pod) = self.notes.claims.get(claim) else {
            return;
        };
        let set = &self.set.meta.name;
        let mut tell = |reason, message, warning| {
            let source = StatefulSetController::SOURCE;
            events.push(pods::event(&*self.set, source, reason, message, warning));
        };
        let mut failure = None;
        match reply {
            Ok(_) => {
                let message =
                    format!("Create Claim {claim} Pod {pod} in StatefulSet {set} success");
                tell("SuccessfulCreate", message, false);
            }
            Err(error) => {
                failure = Some(format!("failed to create PVC {claim}: {error}"));
                if !matches!(error, ApiError::AlreadyExists(_)) {
                    let message = format!(
                        "Create Claim {claim} for Pod {pod} in StatefulSet {set} failed error: \
                         {error}"
                    );
                    tell("FailedCreate", message, true);
                }
            }
        }
        let Some(claiming) = self.notes.pods.get_mut(pod) else {
            return;
        };
        claiming.left -= 1;
        claiming.errors.extend(failure);
        if let (0, Some(verb), Some(error)) = (claiming.left, claiming.verb, claiming.error()) {
            events.push(pod_event(&self.set, verb, pod, Some(&error)));
        }
    }
}

/// `truncateHistory`: the oldest revisions beyond the limit, of those that no pod is of.
fn too_old(
    set: &StatefulSet,
    pods: &[(Id<Pod>, Arc<Pod>)],
    revisions: Vec<Revision>,
    between: &Revisions,
) -> Vec<Revision> {
    let live = |revision: &Revision| {
        let name = revision.name();
        name == between.current.name()
            || name == between.update.name()
            || pods
                .iter()
                .any(|(_, p)| identity::revision_of(p) == &**name)
    };
    let mut old: Vec<Revision> = revisions.into_iter().filter(|r| !live(r)).collect();
    let Ok(limit) = usize::try_from(set.history_limit) else {
        return Vec::new();
    };
    old.truncate(old.len().saturating_sub(limit));
    old
}

/// `updatePod`.
fn pod_updated(old: &Pod, pod: &Pod, view: &View, keys: &mut Keys<Key>) {
    let concerned = owner::updated::<StatefulSet>(&old.meta, &pod.meta, view);
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

#[cfg(test)]
mod tests;
