//! PodDisruptionBudgets: how many pods may be disrupted now.
//!
//! A port of `pkg/controller/disruption/disruption.go :: trySync, updatePdbStatus`. Healthy pods are
//! counted against the size that their controllers want; percentages are rounded up, so that 67 % of
//! 3 allows none. An eviction that was granted counts as unhealthy until the pod is seen to go, or
//! for two minutes at the most.

pub mod stale;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::api::int_or_percent::IntOrPercent;
use crate::api::meta::recorded;
use crate::api::pod_status::Truth;
use crate::api::policy::PdbStatus;
use crate::api::workload::WorkloadCondition;
use crate::api::{
    Deployment, Kind, OwnerRef, Pod, PodDisruptionBudget, ReplicaSet, StatefulSet, Text, Uid,
};
use crate::client::work_queue::BASE_DELAY;
use crate::client::{Controller, Keys, Plan, SyncContext, Watches};
use crate::control::{owner, pods};
use crate::engine::Time;
use crate::store::{Change, Id, ObjectId, View, Write};

/// `DeletionTimeout`: a granted eviction that led to nothing is forgotten after this.
const DELETION_TIMEOUT: Duration = Duration::from_secs(120);

/// Who its KubeEvents are from.
const SOURCE: &str = "controllermanager";

/// The controller.
#[derive(Debug, Default)]
pub struct DisruptionController;

/// The size that the controller of a pod wants, by the controller that says so (`finders`).
///
/// # Errors
/// When nobody knows it.
fn scale(pod: &Pod, owner: &OwnerRef, view: &View) -> Result<(Uid, i32), String> {
    let namespace = &pod.meta.namespace;
    let found = match owner.kind {
        Kind::ReplicaSet => {
            let set = view.of::<ReplicaSet>().named(namespace, &owner.name);
            let set = set.filter(|(_, set)| set.meta.uid == owner.uid);
            set.map(|(_, set)| {
                // `getPodDeployment`; else its own scale.
                let deployment = owner::of::<Deployment>(&set.meta, view);
                let deployment = deployment.and_then(|id| view.of().get(id));
                deployment.map_or((set.meta.uid, set.replicas), |d: &Arc<Deployment>| {
                    (d.meta.uid, d.replicas)
                })
            })
        }
        Kind::StatefulSet => {
            let set = view.of::<StatefulSet>().named(namespace, &owner.name);
            let set = set.filter(|(_, set)| set.meta.uid == owner.uid);
            set.map(|(_, set)| (set.meta.uid, set.replicas))
        }
        // `getScaleController`: such things have no scale.
        Kind::DaemonSet | Kind::Job | Kind::Node => {
            let (plural, version) = (owner.kind.plural(), owner.kind.api_version());
            let group = version
                .split_once('/')
                .map(|(group, _)| format!(".{group}"));
            let group = group.unwrap_or_default();
            return Err(format!(
                "{plural}{group} does not implement the scale subresource"
            ));
        }
        _ => None,
    };
    found.ok_or_else(|| format!("found no controllers for pod \"{}\"", pod.meta.name))
}

/// `getExpectedScale`: the sizes that the pods' controllers want, each counted once; and whether
/// there are pods without any.
fn expected_scale(pods: &[&Pod], view: &View) -> Result<(i32, bool), String> {
    let mut sizes: BTreeMap<Uid, i32> = BTreeMap::new();
    let mut unmanaged = false;
    for pod in pods {
        match pod.meta.controller() {
            None => unmanaged = true,
            Some(owner) if sizes.contains_key(&owner.uid) => {}
            Some(owner) => {
                let (uid, size) = scale(pod, owner, view)?;
                sizes.insert(uid, size);
            }
        }
    }
    Ok((sizes.values().sum(), unmanaged))
}

/// What a budget counts by.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    /// Pods that should be there.
    expected: i32,
    /// How many of them must be healthy.
    desired: i32,
    /// Some have no controller, though a share of its size was asked for.
    unmanaged: bool,
}

/// `getExpectedPodCount`.
fn wanted(budget: &PodDisruptionBudget, pods: &[&Pod], view: &View) -> Result<Wanted, String> {
    let count = i32::try_from(pods.len()).unwrap_or(i32::MAX);
    let of = |expected, desired, unmanaged| Wanted {
        expected,
        desired,
        unmanaged,
    };
    Ok(match (budget.max_unavailable, budget.min_available) {
        (Some(most), _) => {
            let (expected, unmanaged) = expected_scale(pods, view)?;
            let desired = (expected - most.scaled(expected, true)).max(0);
            of(expected, desired, unmanaged)
        }
        (None, Some(IntOrPercent::Int(least))) => of(count, least, false),
        (None, Some(percent)) => {
            let (expected, unmanaged) = expected_scale(pods, view)?;
            of(expected, percent.scaled(expected, true), unmanaged)
        }
        (None, None) => of(0, 0, false),
    })
}

/// `failSafe`: what cannot be counted allows nothing, and says why.
fn fail_safe(
    key: Id<PodDisruptionBudget>,
    budget: &PodDisruptionBudget,
    why: &str,
    now: Time,
    plan: &mut Plan,
) {
    let mut new = budget.clone();
    new.status.disruptions_allowed = 0;
    let before = budget.status.conditions.iter();
    let mut before = before.filter(|c| c.kind == "DisruptionAllowed" && c.status == Truth::False);
    let since = before.next().map_or(now, |c| c.since);
    new.status.conditions = vec![WorkloadCondition {
        kind: "DisruptionAllowed".into(),
        status: Truth::False,
        reason: "SyncFailed".into(),
        message: why.into(),
        updated: since,
        since,
    }];
    if new.status != budget.status {
        let rule = "nobody knows how many pods there should be";
        plan.write(Write::UpdateStatus(key.into(), new.into()), rule);
    }
}

/// `metav1.LabelSelector` as Go's `%v` prints it.
fn printed(selector: &Value) -> String {
    let labels = selector["matchLabels"].as_object();
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let mut labels: Vec<String> = (labels.into_iter().flatten())
        .map(|(key, value)| format!("{key}: {},", text(value)))
        .collect();
    labels.sort();
    let expressions = selector["matchExpressions"].as_array();
    let expressions: Vec<String> = (expressions.into_iter().flatten())
        .map(|e| {
            let values: Vec<String> = e["values"]
                .as_array()
                .into_iter()
                .flatten()
                .map(text)
                .collect();
            let (key, operator) = (text(&e["key"]), text(&e["operator"]));
            let values = values.join(" ");
            format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:\
         []LabelSelectorRequirement{{{}}},}}",
        labels.concat(),
        expressions.concat()
    )
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

/// Until when a pod whose eviction was granted is expected to go.
fn deadline(granted: Time) -> Time {
    recorded(granted) + DELETION_TIMEOUT
}

/// `buildDisruptedPodMap`: evictions that were granted and are still expected; asks to look again
/// when the first of them is over.
fn still_disrupted(
    budget: &PodDisruptionBudget,
    selected: &[&Pod],
    now: Time,
    plan: &mut Plan,
) -> Vec<(Text, Time)> {
    let mut still = Vec::new();
    for (name, granted) in &budget.status.disrupted {
        let pod = selected.iter().find(|pod| pod.meta.name == *name);
        let Some(pod) = pod.filter(|pod| !pod.meta.deleting()) else {
            continue;
        };
        let until = deadline(*granted);
        if until < now {
            // Upstream names the namespace twice.
            let namespace = &budget.meta.namespace;
            let message = format!(
                "Pod was expected by PDB {namespace}/{namespace} to be deleted but it wasn't"
            );
            plan.event(pods::event(*pod, SOURCE, "NotDeleted", message, true));
            continue;
        }
        plan.requeue(until.since(now).max(BASE_DELAY));
        still.push((name.clone(), *granted));
    }
    still
}

impl Controller for DisruptionController {
    type Key = Id<PodDisruptionBudget>;
    const NAME: &'static str = "disruption-controller";
    const WORKERS: usize = 1;
    const WATCHES: Watches =
        Watches::kind(Kind::PodDisruptionBudget).and(Watches::PODS_WITH_BUDGETS);

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
            // `getPdbForPod`: of several budgets the first, with a warning. Changes of size are not
            // watched: they are seen by the pods that come and go.
            Kind::Pod => {
                let Some((_, Some(pod))) = change.rows::<Pod>() else {
                    return;
                };
                let here = budgets.in_namespace(&pod.meta.namespace);
                let mut hit = here.filter(|(_, b)| b.selector.matches(&pod.meta.labels));
                let Some((id, first)) = hit.next() else {
                    return;
                };
                if hit.next().is_some() {
                    let message = format!(
                        "Pod \"{}\"/\"{}\" matches multiple PodDisruptionBudgets.  Chose \"{}\" \
                         arbitrarily.",
                        pod.meta.namespace, pod.meta.name, first.meta.name
                    );
                    let reason = "MultiplePodDisruptionBudgets";
                    let event = pods::event(pod, SOURCE, reason, message, true);
                    keys.events.push(event);
                }
                keys.add(id);
            }
            _ => {}
        }
    }

    fn sync(&mut self, key: Self::Key, cx: &SyncContext<'_>) -> Plan {
        let mut plan = Plan::none();
        let Some(budget) = cx.view.of::<PodDisruptionBudget>().get(key) else {
            return plan;
        };
        let selected: Vec<&Pod> = (cx.view.pods().in_namespace(&budget.meta.namespace))
            .filter(|(_, pod)| budget.selector.matches(&pod.meta.labels))
            .map(|(_, pod)| &**pod)
            .collect();
        let tell = |plan: &mut Plan, reason, message: String, warning| {
            plan.event(pods::event(&**budget, SOURCE, reason, message, warning));
        };
        if selected.is_empty() {
            tell(&mut plan, "NoPods", "No matching pods found".into(), false);
        }
        let Wanted {
            expected,
            desired,
            unmanaged,
        } = match wanted(budget, &selected, cx.view) {
            Ok(wanted) => wanted,
            Err(why) => {
                let message = format!("Failed to calculate the number of expected pods: {why}");
                tell(&mut plan, "CalculateExpectedPodCountFailed", message, true);
                fail_safe(key, budget, &why, cx.now, &mut plan);
                return plan;
            }
        };
        if unmanaged {
            let message = format!(
                "Pods selected by this PodDisruptionBudget (selector: {}) were found to be \
                 unmanaged. As a result, the status of the PDB cannot be calculated correctly, \
                 which may result in undefined behavior. To account for these pods please set \
                 \".spec.minAvailable\" field of the PDB to an integer value.",
                printed(&budget.source["selector"])
            );
            tell(&mut plan, "UnmanagedPods", message, true);
        }
        let disrupted = still_disrupted(budget, &selected, cx.now, &mut plan);
        let healthy = selected.iter().filter(|pod| {
            let mut going = disrupted.iter().filter(|(_, at)| deadline(*at) > cx.now);
            let going = going.any(|(name, _)| *name == pod.meta.name);
            !pod.meta.deleting() && !going && pod.status.ready()
        });
        let healthy = i32::try_from(healthy.count()).unwrap_or(i32::MAX);
        let allowed = if expected <= 0 {
            0
        } else {
            (healthy - desired).max(0)
        };
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
mod tests;
