//! The eviction subresource: a deletion that budgets may refuse.
//!
//! A port of `pkg/registry/core/pod/storage/eviction.go`. A pod that has ended, waits or is being
//! deleted needs no budget; an unready one needs none when its application is healthy enough, or by
//! policy. Every other eviction takes one from `disruptionsAllowed`, and is written down in
//! `disruptedPods` until the disruption controller has seen the pod go. Reading, taking and deleting
//! are one step here, so upstream's retries of conflicts have no counterpart.

use std::sync::Arc;

use super::commit::{Commit, Store};
use super::table::Id;
use super::view::View;
use super::write::{ApiError, Propagation, Receipt};
use crate::api::pod_status::{Phase, PodCondition, PodConditionKind, Truth};
use crate::api::workload::WorkloadCondition;
use crate::api::{Pod, PodDisruptionBudget};
use crate::engine::Time;

/// `MaxDisruptedPodSize`.
const DISRUPTED_MAX: usize = 2000;

impl Store {
    /// `EvictionREST.Create`.
    pub(super) fn evict(
        &mut self,
        pod: Id<Pod>,
        grace_s: Option<u32>,
        at: Commit,
    ) -> Result<Receipt, ApiError> {
        let Some(row) = self.view().pods().get(pod).cloned() else {
            return Err(ApiError::NotFound(format!("pods #{} not found", pod.0)));
        };
        if !can_ignore_budgets(&row)
            && let Some((id, budget)) = needed_budget(self.view(), &row)?
        {
            let taken = take(&budget, &row, at.now)?;
            self.replace(id.into(), budget.into(), taken.into(), at);
        }
        // `addConditionAndDeletePod`.
        let mut marked = Pod::clone(&row);
        marked.status.set_condition(PodCondition {
            kind: PodConditionKind::DisruptionTarget,
            status: Truth::True,
            since: at.now,
            reason: Some("EvictionByEvictionAPI".into()),
            message: Some("Eviction API: evicting".into()),
            observed_generation: 0,
        });
        if marked.status != row.status {
            self.replace(pod.into(), row.into(), marked.into(), at);
        }
        self.delete(pod.into(), None, grace_s, Propagation::Background, at)
    }
}

/// `canIgnorePDB`.
fn can_ignore_budgets(pod: &Pod) -> bool {
    pod.status.phase.terminal() || pod.status.phase == Phase::Pending || pod.meta.deleting()
}

type Budget = (Id<PodDisruptionBudget>, Arc<PodDisruptionBudget>);

/// The budget that the eviction of this pod takes from, if it needs one.
fn needed_budget(view: &View, pod: &Pod) -> Result<Option<Budget>, ApiError> {
    let here = view.of::<PodDisruptionBudget>();
    let mut budgets = here
        .in_namespace(&pod.meta.namespace)
        .filter(|(_, b)| b.selector.matches(&pod.meta.labels));
    let Some((id, budget)) = budgets.next() else {
        return Ok(None);
    };
    if budgets.next().is_some() {
        return Err(ApiError::Internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does \
             not support."
                .into(),
        ));
    }
    let status = &budget.status;
    let healthy = status.current_healthy >= status.desired_healthy && status.desired_healthy > 0;
    let exempt = !pod.status.ready() && (budget.evict_unhealthy_always || healthy);
    Ok((!exempt).then(|| (id, budget.clone())))
}

/// `checkAndDecrement`.
fn take(
    budget: &PodDisruptionBudget,
    pod: &Pod,
    now: Time,
) -> Result<PodDisruptionBudget, ApiError> {
    let (name, status) = (&budget.meta.name, &budget.status);
    let refused = |cause: String| ApiError::TooManyRequests {
        message: "Cannot evict pod as it would violate the pod's disruption budget.".into(),
        cause,
    };
    let forbidden = |why: &str| {
        let what = format!("poddisruptionbudget.policy \"{name}\" is forbidden: {why}");
        Err(ApiError::Forbidden(what))
    };
    if status.observed_generation < budget.meta.generation {
        return Err(refused(format!(
            "The disruption budget {name} is still being processed by the server."
        )));
    }
    if status.disruptions_allowed < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    if status.disrupted.len() > DISRUPTED_MAX {
        return forbidden(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        );
    }
    if status.disruptions_allowed == 0 {
        return Err(refused(why_none_allowed(budget)));
    }
    let mut new = budget.clone();
    let status = &mut new.status;
    status.disruptions_allowed -= 1;
    if status.disruptions_allowed == 0 {
        set_insufficient(status, now);
    }
    status
        .disrupted
        .retain(|(pod_name, _)| *pod_name != pod.meta.name);
    status.disrupted.push((pod.meta.name.clone(), now));
    Ok(new)
}

fn why_none_allowed(budget: &PodDisruptionBudget) -> String {
    let (name, status) = (&budget.meta.name, &budget.status);
    let mut conditions = status.conditions.iter();
    let told = conditions
        .find(|c| c.kind == "DisruptionAllowed")
        .filter(|c| c.status == Truth::False && !c.message.is_empty());
    match told {
        Some(c) if c.reason == "SyncFailed" => format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed \
             sync: {}",
            c.message
        ),
        _ if status.current_healthy <= status.desired_healthy => format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            status.desired_healthy, status.current_healthy
        ),
        Some(c) => format!(
            "The disruption budget {name} does not allow evicting pods currently ({}): {}",
            c.reason, c.message
        ),
        None => format!("The disruption budget {name} does not allow evicting pods currently"),
    }
}

/// `pdbhelper.UpdateDisruptionAllowedCondition` when nothing is allowed any more.
fn set_insufficient(status: &mut crate::api::policy::PdbStatus, now: Time) {
    let before = status
        .conditions
        .iter()
        .find(|c| c.kind == "DisruptionAllowed" && c.status == Truth::False);
    let since = before.map_or(now, |c| c.since);
    status.conditions = vec![WorkloadCondition {
        kind: "DisruptionAllowed".into(),
        status: Truth::False,
        reason: "InsufficientPods".into(),
        message: "".into(),
        updated: since,
        since,
    }];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::meta::Meta;
    use crate::api::selector::LabelSelector;
    use crate::api::{Labels, PodSpec};
    use crate::engine::Draws;
    use crate::store::{Cause, Patch, Write};

    fn meta(name: &str) -> Meta {
        Meta {
            namespace: "d".into(),
            name: name.into(),
            labels: Labels::from_iter([("app", "web")]),
            ..Meta::default()
        }
    }

    /// A budget with these numbers and one running pod.
    struct Case {
        allowed: i32,
        healthy: i32,
        desired: i32,
        observed: u32,
        always: bool,
        budgets: usize,
        ready: bool,
        phase: Phase,
    }

    const USUAL: Case = Case {
        allowed: 0,
        healthy: 2,
        desired: 2,
        observed: 1,
        always: false,
        budgets: 1,
        ready: true,
        phase: Phase::Running,
    };

    /// What the API server answers, and what the budget then allows.
    fn evict(case: Case) -> (String, i32) {
        let mut store = Store::new(Draws::new(1));
        let now = Time::from_secs(9);
        let mut write = |write: &Write| store.write(write, now, Cause::default());
        let labels = Labels::from_iter([("app", "web")]);
        for nth in 0..case.budgets {
            let mut budget = PodDisruptionBudget {
                meta: meta(&format!("pdb{nth}")),
                selector: LabelSelector::equals(labels.iter()),
                evict_unhealthy_always: case.always,
                ..PodDisruptionBudget::default()
            };
            budget.status.disruptions_allowed = case.allowed;
            budget.status.current_healthy = case.healthy;
            budget.status.desired_healthy = case.desired;
            budget.status.observed_generation = case.observed;
            write(&Write::Create(budget.into())).expect("created");
        }
        let spec = Arc::new(PodSpec {
            grace_s: 30,
            ..PodSpec::default()
        });
        let pod = Pod {
            meta: meta("web-1"),
            spec,
            node_name: Some("n".into()),
            ..Pod::default()
        };
        let pod = write(&Write::Create(pod.into())).expect("created");
        let object = pod.object.expect("a pod");
        let ready = PodCondition {
            kind: PodConditionKind::Ready,
            status: Truth::from(case.ready),
            since: now,
            reason: None,
            message: None,
            observed_generation: 0,
        };
        let patch = Patch::PodConditions {
            conditions: vec![ready],
            phase: Some(case.phase),
            reason: None,
        };
        write(&Write::Patch {
            object,
            uid: None,
            patch,
        })
        .expect("patched");
        let pod = object.typed::<Pod>().expect("a pod");
        let reply = write(&Write::Evict { pod, grace_s: None });
        let said = match reply {
            Ok(_) => {
                let row = store.view().pods().get(pod);
                let reason = row.and_then(|pod| {
                    let target = pod.status.condition(&PodConditionKind::DisruptionTarget);
                    target?.reason.clone()
                });
                reason.map_or("gone".into(), |r| r.to_string())
            }
            Err(ApiError::TooManyRequests { cause, .. }) => format!("429 {cause}"),
            Err(error) => format!("{} {error}", error.code()),
        };
        let left = store.view().of::<PodDisruptionBudget>().iter().next();
        (said, left.map_or(0, |(_, b)| b.status.disruptions_allowed))
    }

    /// After `pkg/registry/core/pod/storage/eviction_test.go :: TestEviction`.
    #[test]
    fn budgets_refuse_with_their_reason() {
        let evicted = ("EvictionByEvictionAPI".to_owned(), 0);
        assert_eq!(
            evict(Case {
                allowed: 1,
                ..USUAL
            }),
            evicted
        );
        let (said, _) = evict(USUAL);
        assert_eq!(
            said,
            "429 The disruption budget pdb0 needs 2 healthy pods and has 2 currently"
        );
        let (said, _) = evict(Case {
            healthy: 3,
            ..USUAL
        });
        assert_eq!(
            said,
            "429 The disruption budget pdb0 does not allow evicting pods currently"
        );
        let (said, left) = evict(Case {
            observed: 0,
            allowed: 1,
            ..USUAL
        });
        assert_eq!(
            said,
            "429 The disruption budget pdb0 is still being processed by the server."
        );
        assert_eq!(left, 1);
        let (said, _) = evict(Case {
            budgets: 2,
            ..USUAL
        });
        assert_eq!(
            said,
            "500 This pod has more than one PodDisruptionBudget, which the eviction subresource \
             does not support."
        );
        let (said, _) = evict(Case {
            allowed: -1,
            ..USUAL
        });
        assert_eq!(
            said,
            "403 poddisruptionbudget.policy \"pdb0\" is forbidden: pdb disruptions allowed is \
             negative"
        );
    }

    #[test]
    fn unready_and_ended_pods_take_nothing_from_the_budget() {
        let unready = Case {
            ready: false,
            ..USUAL
        };
        // healthy 2 ≥ desired 2: IfHealthyBudget lets it go
        assert_eq!(evict(unready).0, "EvictionByEvictionAPI");
        let below = Case {
            ready: false,
            healthy: 1,
            ..USUAL
        };
        assert!(evict(below).0.starts_with("429"));
        let always = Case {
            ready: false,
            healthy: 1,
            always: true,
            ..USUAL
        };
        assert_eq!(evict(always).0, "EvictionByEvictionAPI");
        // An ended pod goes at once: nothing is left to take a grace period.
        let ended = Case {
            phase: Phase::Failed,
            ..USUAL
        };
        assert_eq!(evict(ended).0, "gone");
    }
}
