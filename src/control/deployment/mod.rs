//! Deployments: from one version of a pod template to the next, without losing the service.
//!
//! A port of `pkg/controller/deployment`. A Deployment owns one ReplicaSet per version of its
//! template. A sync finds the one of the current version or creates it ([`sync`]), and then either
//! reacts to a change of size ([`scale`]) or goes on replacing pods ([`rolling`], [`recreate`]), and
//! reports ([`progress`]). Old ReplicaSets are kept as the history ([`revision`]).
//!
//! What it does not know: pods, except that some are left. It reads the counts that ReplicaSets
//! report, which is why a rollout advances by their reports and not by the pods themselves.
//!
//! The field `rollbackTo` of API versions that are no longer served is not ported.

pub mod sync;

pub mod scale;

pub mod rolling;

pub mod recreate;

pub mod progress;

pub mod revision;

pub mod rollout_status;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::owner::{self, resolve};
use crate::api::pod_status::Truth;
use crate::api::workload::Strategy;
use crate::api::{Deployment, Kind, KubeEvent, OwnerRef, Pod, ReplicaSet, Row, Text};
use crate::client::{Controller, Keys, Outcome, Plan, SyncContext, Watches};
use crate::engine::Time;
use crate::store::{ApiError, Change, Id, Op, View, Write};

type Key = Id<Deployment>;

/// The Deployment controller.
#[derive(Debug, Default)]
pub struct DeploymentController {
    creations: BTreeMap<Key, Creation>,
}

/// A ReplicaSet that a plan creates, to report on when that fails.
#[derive(Debug)]
pub(super) struct Creation {
    /// Which step of the plan.
    step: usize,
    name: Text,
    /// The Deployment as it was then.
    deployment: Deployment,
}

impl Controller for DeploymentController {
    type Key = Key;
    const NAME: &'static str = "deployment-controller";
    /// `deployment_controller.go :: maxRetries`.
    const MAX_RETRIES: Option<u32> = Some(15);
    const WATCHES: Watches = Watches::kind(Kind::Deployment)
        .and(Watches::kind(Kind::ReplicaSet))
        .and(Watches::PODS_OF_REPLICA_SETS);

    fn keys(&mut self, change: &Change, view: &View, _now: Time, keys: &mut Keys<Key>) {
        if let Some(id) = change.object.and_then(|o| o.typed::<Deployment>()) {
            keys.add(id);
        } else if let Some((old, new)) = change.rows::<ReplicaSet>() {
            match (change.op, old, new) {
                (Op::Create, _, Some(new)) => {
                    keys.now.extend(owner::added(&new.meta, view).all());
                }
                (Op::Update, Some(old), Some(new)) => {
                    let concerned = owner::updated(&old.meta, &new.meta, view);
                    keys.now.extend(concerned.all());
                }
                (Op::Delete, _, Some(last)) => keys.now.extend(owner::of(&last.meta, view)),
                _ => {}
            }
        } else if let (Op::Delete, Some((_, Some(last)))) = (change.op, change.rows::<Pod>()) {
            pod_deleted(last, view, keys);
        }
    }

    fn sync(&mut self, key: Key, cx: &SyncContext<'_>) -> Plan {
        self.creations.remove(&key);
        let Some(deployment) = cx.view.of::<Deployment>().get(key) else {
            return Plan::none();
        };
        let (plan, creation) = sync::Sync::run(key, deployment, cx);
        if let Some(creation) = creation {
            self.creations.insert(key, creation);
        }
        plan
    }

    /// The second half of `getNewReplicaSet`, when the ReplicaSet could not be created.
    fn finish(&mut self, key: Key, outcome: &Outcome, cx: &SyncContext<'_>) -> Plan {
        let mut plan = Plan::none();
        let (Some(creation), Some(error)) = (self.creations.remove(&key), &outcome.error) else {
            return plan;
        };
        if outcome.failed_step != Some(creation.step) {
            return plan;
        }
        if error.namespace_terminating() {
            return plan;
        }
        let mut new = creation.deployment;
        if let ApiError::AlreadyExists(_) = error {
            let sets = cx.view.of::<ReplicaSet>();
            let Some((_, set)) = sets.named(&new.meta.namespace, &creation.name) else {
                return plan;
            };
            let ours = set.meta.controller().is_some_and(|o| o.uid == new.meta.uid);
            if !(ours && revision::same_template(&new.template, &set.template)) {
                new.status.collisions = Some(new.status.collisions.unwrap_or(0) + 1);
                let row = Row::Deployment(Arc::new(new));
                plan.write(Write::UpdateStatus(key.into(), row), "hash collision");
            }
            return plan;
        }
        let reason = "ReplicaSetCreateError";
        let message = format!(
            "Failed to create new replica set \"{}\": {error}",
            creation.name
        );
        plan.event(event(&new, reason, message.clone(), true));
        if progress::has_deadline(&new) {
            let failed =
                progress::condition(progress::PROGRESSING, Truth::False, reason, message, cx.now);
            progress::set_condition(&mut new.status, failed);
            let row = Row::Deployment(Arc::new(new));
            plan.attempt(Write::UpdateStatus(key.into(), row), reason);
        }
        plan
    }

    fn resync(&mut self, view: &View, _now: Time, keys: &mut Keys<Key>) {
        for (id, _) in view.of::<Deployment>().iter() {
            keys.add(id);
        }
    }

    fn restart(&mut self) {
        *self = DeploymentController::default();
    }
}

/// `deletePod`: a Recreate Deployment goes on once its last pod is gone.
fn pod_deleted(pod: &Pod, view: &View, keys: &mut Keys<Key>) {
    let Some(id) = deployment_of(pod.meta.controller(), &pod.meta.namespace, view) else {
        return;
    };
    let Some(deployment) = view.of::<Deployment>().get(id) else {
        return;
    };
    if deployment.strategy != Strategy::Recreate {
        return;
    }
    let pods_left = view
        .of::<ReplicaSet>()
        .owned_by(deployment.meta.uid)
        .filter(|(_, set)| deployment.selector.matches(&set.meta.labels))
        .any(|(_, set)| view.pods().owned_by(set.meta.uid).next().is_some());
    if !pods_left {
        keys.add(id);
    }
}

fn deployment_of(owner: Option<&OwnerRef>, namespace: &Text, view: &View) -> Option<Key> {
    let set: Id<ReplicaSet> = resolve(view, namespace, owner?)?;
    owner::of(&view.of::<ReplicaSet>().get(set)?.meta, view)
}

/// An event about `deployment`.
fn event(deployment: &Deployment, reason: &str, message: String, warning: bool) -> KubeEvent {
    KubeEvent {
        kind: Kind::Deployment,
        namespace: deployment.meta.namespace.clone(),
        name: deployment.meta.name.clone(),
        uid: deployment.meta.uid,
        reason: reason.into(),
        message: message.into(),
        warning,
        source: DeploymentController::NAME.into(),
    }
}

#[cfg(test)]
mod tests;
