//! PodDisruptionBudgets: how many pods may be disrupted now.
//!
//! A port of `pkg/controller/disruption/disruption.go :: trySync, updatePdbStatus`. Healthy pods are
//! counted against the size that their controllers want; percentages are rounded up, so that 67 % of
//! 3 allows none. An eviction that was granted counts as unhealthy until the pod is seen to go, or
//! for two minutes at the most.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::api::int_or_percent::IntOrPercent;
use crate::api::pod_status::Truth;
use crate::api::policy::PdbStatus;
use crate::api::workload::WorkloadCondition;
use crate::api::{
    Deployment, Kind, KubeEvent, Pod, PodDisruptionBudget, ReplicaSet, StatefulSet, Uid,
};
use crate::client::{Controller, Keys, Plan, SyncContext};
use crate::engine::Time;
use crate::store::{Change, Id, ObjectId, View, Write};

/// `DeletionTimeout`: a granted eviction that led to nothing is forgotten after this.
const DELETION_TIMEOUT: Duration = Duration::from_secs(120);

/// The controller.
#[derive(Debug, Default)]
pub struct DisruptionController;

/// `getExpectedScale`: the sizes that the pods' controllers want, each counted once.
///
/// # Errors
/// When nobody knows the size that a pod's controller wants.
fn expected_scale(pods: &[&Pod], view: &View) -> Result<i32, String> {
    let mut sizes: BTreeMap<Uid, i32> = BTreeMap::new();
    for pod in pods {
        let Some(owner) = pod.meta.controller() else {
            continue;
        };
        let namespace = &pod.meta.namespace;
        let unknown = || {
            Err(format!(
                "found no controllers for pod \"{}\"",
                pod.meta.name
            ))
        };
        let size = match owner.kind {
            Kind::ReplicaSet => {
                let Some((_, set)) = view.of::<ReplicaSet>().named(namespace, &owner.name) else {
                    return unknown();
                };
                let deployment = set.meta.controller().filter(|o| o.kind == Kind::Deployment);
                let named = deployment.and_then(|o| {
                    view.of::<Deployment>()
                        .named(namespace, &o.name)
                        .map(|(_, d)| (o.uid, d))
                });
                match named {
                    Some((uid, deployment)) => (uid, deployment.replicas),
                    None => (owner.uid, set.replicas),
                }
            }
            Kind::StatefulSet => match view.of::<StatefulSet>().named(namespace, &owner.name) {
                Some((_, set)) => (owner.uid, set.replicas),
                None => return unknown(),
            },
            // `getScaleController`: they exist and have no scale.
            Kind::DaemonSet | Kind::Job => {
                let group = owner
                    .kind
                    .api_version()
                    .split('/')
                    .next()
                    .unwrap_or_default();
                let plural = owner.kind.plural();
                return Err(format!(
                    "{plural}.{group} does not implement the scale subresource"
                ));
            }
            _ => return unknown(),
        };
        sizes.insert(size.0, size.1);
    }
    Ok(sizes.values().sum())
}

/// `getExpectedPodCount`: pods that should be there, and how many of them must be healthy.
fn wanted(budget: &PodDisruptionBudget, pods: &[&Pod], view: &View) -> Result<(i32, i32), String> {
    let count = i32::try_from(pods.len()).unwrap_or(i32::MAX);
    Ok(match (budget.max_unavailable, budget.min_available) {
        (Some(most), _) => {
            let expected = expected_scale(pods, view)?;
            (expected, (expected - most.scaled(expected, true)).max(0))
        }
        (None, Some(IntOrPercent::Int(least))) => (count, least),
        (None, Some(percent)) => {
            let expected = expected_scale(pods, view)?;
            (expected, percent.scaled(expected, true))
        }
        (None, None) => (count, 0),
    })
}

/// `failSafe`: what cannot be counted allows nothing, and says why.
fn fail_safe(
    key: Id<PodDisruptionBudget>,
    budget: &PodDisruptionBudget,
    why: &str,
    now: Time,
) -> Plan {
    let mut plan = Plan::none();
    let mut new = budget.clone();
    new.status.disruptions_allowed = 0;
    let before = budget.status.conditions.iter();
    let before = before.filter(|c| c.kind == "DisruptionAllowed");
    let same = before.clone().any(|c| c.status == Truth::False);
    let since = before.map(|c| c.since).next().filter(|_| same);
    let since = since.unwrap_or(now);
    new.status.conditions = vec![WorkloadCondition {
        kind: "DisruptionAllowed".into(),
        status: Truth::False,
        reason: "SyncFailed".into(),
        message: why.into(),
        updated: since,
        since,
    }];
    if new.status != budget.status {
        plan.event(KubeEvent {
            kind: Kind::PodDisruptionBudget,
            namespace: budget.meta.namespace.clone(),
            name: budget.meta.name.clone(),
            uid: budget.meta.uid,
            reason: "CalculateExpectedPodCountFailed".into(),
            message: format!("Failed to calculate the number of expected pods: {why}").into(),
            warning: true,
            source: "controllermanager".into(),
        });
        let rule = "nobody knows how many pods there should be";
        plan.write(Write::UpdateStatus(key.into(), new.into()), rule);
    }
    plan
}

fn condition(status: &PdbStatus, allowed: i32, now: Time) -> Vec<WorkloadCondition> {
    let (truth, reason) = match allowed > 0 {
        true => (Truth::True, "SufficientPods"),
        false => (Truth::False, "InsufficientPods"),
    };
    let before = status
        .conditions
        .iter()
        .find(|c| c.kind == "DisruptionAllowed");
    let since = before
        .filter(|c| c.status == truth)
        .map_or(now, |c| c.since);
    vec![WorkloadCondition {
        kind: "DisruptionAllowed".into(),
        status: truth,
        reason: reason.into(),
        message: "".into(),
        updated: since,
        since,
    }]
}

impl Controller for DisruptionController {
    type Key = Id<PodDisruptionBudget>;
    const NAME: &'static str = "disruption-controller";

    fn keys(&mut self, change: &Change, view: &View, _now: Time, keys: &mut Keys<Self::Key>) {
        let budgets = view.of::<PodDisruptionBudget>();
        match change.kind() {
            Kind::PodDisruptionBudget => {
                keys.now.extend(
                    change
                        .object
                        .and_then(ObjectId::typed::<PodDisruptionBudget>),
                );
            }
            Kind::Pod => {
                let Some((old, new)) = change.rows::<Pod>() else {
                    return;
                };
                for pod in [old, new].into_iter().flatten() {
                    let here = budgets.in_namespace(&pod.meta.namespace);
                    let hit = here.filter(|(_, b)| b.selector.matches(&pod.meta.labels));
                    keys.now.extend(hit.map(|(id, _)| id));
                }
            }
            Kind::Deployment | Kind::ReplicaSet | Kind::StatefulSet => {
                if let Some(row) = &change.new {
                    let here = budgets.in_namespace(&row.meta().namespace);
                    keys.now.extend(here.map(|(id, _)| id));
                }
            }
            _ => {}
        }
    }

    fn sync(&mut self, key: Self::Key, cx: &SyncContext<'_>) -> Plan {
        let mut plan = Plan::none();
        let Some(budget) = cx.view.of::<PodDisruptionBudget>().get(key) else {
            return plan;
        };
        let pods: Vec<&Pod> = (cx.view.pods().in_namespace(&budget.meta.namespace))
            .filter(|(_, pod)| budget.selector.matches(&pod.meta.labels))
            .map(|(_, pod)| &**pod)
            .collect();
        let (expected, desired) = match wanted(budget, &pods, cx.view) {
            Ok(counts) => counts,
            Err(why) => return fail_safe(key, budget, &why, cx.now),
        };
        let still = |(name, granted): &(crate::api::Text, Time)| {
            let pod = pods.iter().find(|pod| pod.meta.name == *name);
            pod.is_some_and(|pod| !pod.meta.deleting()) && cx.now < *granted + DELETION_TIMEOUT
        };
        let disrupted: Vec<_> = budget
            .status
            .disrupted
            .iter()
            .filter(|entry| still(entry))
            .cloned()
            .collect();
        let healthy = pods.iter().filter(|pod| {
            let going = disrupted.iter().any(|(name, _)| *name == pod.meta.name);
            !pod.meta.deleting() && !going && pod.status.ready()
        });
        let healthy = i32::try_from(healthy.count()).unwrap_or(i32::MAX);
        let allowed = if expected <= 0 {
            0
        } else {
            (healthy - desired).max(0)
        };
        for (_, granted) in &disrupted {
            plan.requeue((*granted + DELETION_TIMEOUT).since(cx.now));
        }
        let status = PdbStatus {
            observed_generation: budget.meta.generation,
            disruptions_allowed: allowed,
            current_healthy: healthy,
            desired_healthy: desired,
            expected_pods: expected,
            disrupted,
            conditions: condition(&budget.status, allowed, cx.now),
        };
        if status != budget.status {
            let mut new = PodDisruptionBudget::clone(budget);
            new.status = status;
            plan.write(
                Write::UpdateStatus(key.into(), new.into()),
                "healthy pods were counted",
            );
        }
        plan
    }

    fn resync(&mut self, view: &View, _now: Time, keys: &mut Keys<Self::Key>) {
        keys.now
            .extend(view.of::<PodDisruptionBudget>().iter().map(|(id, _)| id));
    }

    fn restart(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::meta::OwnerRef;
    use crate::api::pod_status::{PodCondition, PodConditionKind};
    use crate::api::selector::LabelSelector;
    use crate::api::{Labels, Meta};
    use crate::client::Step;
    use crate::engine::Draws;
    use crate::store::{Cause, Store};
    use std::sync::Arc;

    fn meta(name: &str) -> Meta {
        let labels: Labels = [("app", "web")].into_iter().collect();
        Meta {
            namespace: "d".into(),
            name: name.into(),
            labels,
            ..Meta::default()
        }
    }

    /// `disruptionsAllowed` of a budget over a ReplicaSet of `size` pods, `ready` of them ready.
    fn allowed(budget: PodDisruptionBudget, size: i32, ready: i32) -> i32 {
        let mut store = Store::new(Draws::new(1));
        let mut create = |row| {
            let receipt = store.write(&Write::Create(row), Time::ZERO, Cause::default());
            receipt.expect("created").row.expect("a row")
        };
        let set = create(
            ReplicaSet {
                meta: meta("web"),
                replicas: size,
                ..ReplicaSet::default()
            }
            .into(),
        );
        let owner = OwnerRef {
            kind: Kind::ReplicaSet,
            api_version: "apps/v1".into(),
            kind_name: "ReplicaSet".into(),
            name: "web".into(),
            uid: set.meta().uid,
            controller: true,
            block_owner_deletion: true,
        };
        for nth in 0..size {
            let mut pod = Pod {
                meta: meta(&format!("web-{nth}")),
                ..Pod::default()
            };
            pod.meta.owners = Arc::from([owner.clone()]);
            pod.status.set_condition(PodCondition {
                kind: PodConditionKind::Ready,
                status: Truth::from(nth < ready),
                since: Time::ZERO,
                reason: None,
                message: None,
                observed_generation: 0,
            });
            create(pod.into());
        }
        let labels: Labels = [("app", "web")].into_iter().collect();
        let selector = LabelSelector::equals(labels.iter());
        create(
            PodDisruptionBudget {
                meta: meta("web"),
                selector,
                ..budget
            }
            .into(),
        );
        let (key, _) = store.view().of().find("d", "web").expect("the budget");
        let draws = Draws::new(1);
        let cx = SyncContext {
            now: Time::ZERO,
            view: store.view(),
            draws: &draws,
        };
        let plan = DisruptionController.sync(key, &cx);
        let [
            Step::One {
                write: Write::UpdateStatus(_, row),
                ..
            },
        ] = plan.steps.as_slice()
        else {
            panic!("one status update: {plan:?}");
        };
        match row {
            crate::api::Row::PodDisruptionBudget(budget) => budget.status.disruptions_allowed,
            other => panic!("{other:?}"),
        }
    }

    fn min(value: IntOrPercent) -> PodDisruptionBudget {
        PodDisruptionBudget {
            min_available: Some(value),
            ..PodDisruptionBudget::default()
        }
    }

    #[test]
    fn percentages_are_rounded_up() {
        // ⌈67 % of 3⌉ = 3, ⌈50 % of 3⌉ = 2, ⌈34 % of 3⌉ = 2, ⌈80 % of 1⌉ = 1
        for (percent, size, expected) in [(67, 3, 0), (50, 3, 1), (34, 3, 1), (80, 1, 0)] {
            assert_eq!(
                allowed(min(IntOrPercent::Percent(percent)), size, size),
                expected
            );
        }
    }

    #[test]
    fn unready_pods_use_up_the_budget() {
        assert_eq!(allowed(min(IntOrPercent::Int(2)), 4, 4), 2);
        assert_eq!(allowed(min(IntOrPercent::Int(2)), 4, 2), 0);
        let most = PodDisruptionBudget {
            max_unavailable: Some(IntOrPercent::Int(1)),
            ..PodDisruptionBudget::default()
        };
        assert_eq!(allowed(most.clone(), 3, 3), 1);
        assert_eq!(allowed(most, 3, 2), 0);
    }

    #[test]
    fn pods_of_a_daemon_set_have_no_size_to_take_a_share_of() {
        let daemon = |name: &str| OwnerRef {
            kind: Kind::DaemonSet,
            api_version: "apps/v1".into(),
            kind_name: "DaemonSet".into(),
            name: name.into(),
            uid: crate::api::Uid(7),
            controller: true,
            block_owner_deletion: true,
        };
        let mut pod = Pod {
            meta: meta("agent-1"),
            ..Pod::default()
        };
        pod.meta.owners = Arc::from([daemon("agent")]);
        let view = View::default();
        let said = |budget: PodDisruptionBudget, pod: &Pod| wanted(&budget, &[pod], &view);
        let whole = min(IntOrPercent::Int(1));
        assert_eq!(said(whole, &pod), Ok((1, 1)));
        let share = min(IntOrPercent::Percent(50));
        assert_eq!(
            said(share.clone(), &pod),
            Err("daemonsets.apps does not implement the scale subresource".into())
        );
        pod.meta.owners = Arc::from([OwnerRef {
            kind: Kind::ReplicaSet,
            ..daemon("gone")
        }]);
        assert_eq!(
            said(share, &pod),
            Err("found no controllers for pod \"agent-1\"".into())
        );
    }
}
