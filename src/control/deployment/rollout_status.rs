//! What `kubectl rollout status` says about a Deployment.

use super::progress::{PROGRESSING, TIMED_OUT};
use super::revision;
use crate::api::Deployment;

/// `staging/src/k8s.io/kubectl/pkg/polymorphichelpers/rollout_status.go ::
/// DeploymentStatusViewer.Status`: the line and whether the rollout is done, or why it failed.
/// `wanted` is the revision to wait for, 0 for whichever is newest.
pub fn rollout_status(deployment: &Deployment, wanted: i64) -> Result<(String, bool), String> {
    let name = &deployment.meta.name;
    if wanted > 0 {
        let running = revision::revision(&deployment.meta.annotations)
            .ok_or_else(|| format!("cannot get the revision of deployment \"{name}\""))?;
        if wanted != running {
            return Err(format!(
                "desired revision ({wanted}) is different from the running revision ({running})"
            ));
        }
    }
    let status = &deployment.status;
    if deployment.meta.generation > status.observed_generation {
        return Ok((
            "Waiting for deployment spec update to be observed...".into(),
            false,
        ));
    }
    let progressing = status.conditions.iter().find(|c| &*c.kind == PROGRESSING);
    if progressing.is_some_and(|c| &*c.reason == TIMED_OUT) {
        return Err(format!(
            "deployment \"{name}\" exceeded its progress deadline"
        ));
    }
    let (wanted, updated) = (deployment.replicas, status.updated);
    let waiting = if updated < wanted {
        format!("{updated} out of {wanted} new replicas have been updated")
    } else if status.replicas > updated {
        let old = status.replicas - updated;
        format!("{old} old replicas are pending termination")
    } else if status.available < updated {
        let available = status.available;
        format!("{available} of {updated} updated replicas are available")
    } else {
        return Ok((
            format!("deployment \"{name}\" successfully rolled out"),
            true,
        ));
    };
    let line = format!("Waiting for deployment \"{name}\" rollout to finish: {waiting}...");
    Ok((line, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Labels;
    use crate::api::pod_status::Truth;
    use crate::api::workload::WorkloadCondition;
    use crate::engine::Time;

    #[test]
    fn the_line_says_what_the_rollout_waits_for() {
        // observed generation, counts (all, updated, available) of 3 wanted, reason
        let waiting =
            |what: &str| format!("Waiting for deployment \"web\" rollout to finish: {what}...");
        let table = [
            (
                1,
                (3, 3, 3),
                "",
                "Waiting for deployment spec update to be observed...".into(),
            ),
            (
                2,
                (4, 2, 4),
                "",
                waiting("2 out of 3 new replicas have been updated"),
            ),
            (
                2,
                (4, 3, 4),
                "",
                waiting("1 old replicas are pending termination"),
            ),
            (
                2,
                (3, 3, 1),
                "",
                waiting("1 of 3 updated replicas are available"),
            ),
            (
                2,
                (3, 3, 3),
                "",
                "deployment \"web\" successfully rolled out".into(),
            ),
            (
                2,
                (3, 1, 3),
                TIMED_OUT,
                "deployment \"web\" exceeded its progress deadline".into(),
            ),
        ];
        for (observed, (all, updated, available), reason, expected) in table {
            let mut deployment = Deployment {
                replicas: 3,
                ..Deployment::default()
            };
            deployment.meta.name = "web".into();
            deployment.meta.generation = 2;
            deployment.meta.annotations = Labels::from_iter([(revision::REVISION, "4")]);
            let status = &mut deployment.status;
            status.observed_generation = observed;
            (status.replicas, status.updated, status.available) = (all, updated, available);
            status.conditions.push(WorkloadCondition {
                kind: PROGRESSING.into(),
                status: Truth::True,
                reason: reason.into(),
                message: "".into(),
                updated: Time::ZERO,
                since: Time::ZERO,
            });
            let line = rollout_status(&deployment, 0).map_or_else(|e| e, |(line, _)| line);
            assert_eq!(line, expected);
            let other = rollout_status(&deployment, 5).unwrap_err();
            assert_eq!(
                other,
                "desired revision (5) is different from the running revision (4)"
            );
        }
    }
}
