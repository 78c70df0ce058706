//! `kubectl rollout`: restart, pause, resume, undo, status and history of Deployments, StatefulSets
//! and DaemonSets.

use std::sync::Arc;

use serde_json::json;

use super::edit::{Action, Target, edited, patch};
use super::verb::Rollout;
use crate::api::print::to_json;
use crate::api::stateful::{DaemonStrategy, StatefulStrategy};
use crate::api::{DaemonSet, Deployment, PodTemplate, Row, StatefulSet};
use crate::control::deployment::rollout_status::rollout_status;
use crate::control::{deployment, history};
use crate::engine::Time;
use crate::store::{Patch, View, Write};

/// Where `kubectl apply --record` and authors note why a revision was made.
const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";

/// What a rollout verb does to one object.
///
/// # Errors
/// In kubectl's words.
pub(super) fn action(
    target: &Target,
    row: &Row,
    what: &Rollout,
    view: &View,
    now: Time,
) -> Result<Action, String> {
    let deployment = match row {
        Row::Deployment(deployment) => Some(deployment),
        Row::StatefulSet(_) | Row::DaemonSet(_) => None,
        _ => {
            let name = &target.name;
            return Err(format!("error: {name} has no rollouts in this model"));
        }
    };
    match (what, deployment) {
        (Rollout::Restart, Some(deployment)) if deployment.paused => {
            Err("error: can't restart paused deployment (run rollout resume first)".into())
        }
        (Rollout::Restart, _) => restart(target, row, now),
        (Rollout::Pause | Rollout::Resume, Some(deployment)) => {
            pause(target, deployment, *what == Rollout::Pause)
        }
        (Rollout::Pause, None) => Err("error: pausing is not supported".into()),
        (Rollout::Resume, None) => Err("error: resuming is not supported".into()),
        (Rollout::Undo(to), Some(deployment)) => undo_deployment(target, deployment, *to, view),
        (Rollout::Undo(to), None) => undo_set(target, row, *to, view),
        (Rollout::History, _) => Ok(Action::Say(listing(target, row, view))),
        (Rollout::Status(_), _) => Err("rollout status writes nothing".into()),
    }
}

fn restart(target: &Target, row: &Row, now: Time) -> Result<Action, String> {
    let json = to_json(row);
    let mut new = json.clone();
    if let Some(template) = new.pointer_mut("/spec/template") {
        let at = format!("t+{}", now.clock());
        template["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = json!(at);
    }
    edited(target, row, &json, &new, "restarted")
}

fn pause(target: &Target, deployment: &Deployment, pause: bool) -> Result<Action, String> {
    if deployment.paused == pause {
        let state = if pause {
            "already paused"
        } else {
            "not paused"
        };
        return Err(format!("error: {} is {state}", target.name));
    }
    let done = if pause { "paused" } else { "resumed" };
    let write = patch(target, Patch::Paused(pause));
    Ok(Action::Write(write, format!("{} {done}", target.name)))
}

fn undo_deployment(
    target: &Target,
    d: &Deployment,
    to: i64,
    view: &View,
) -> Result<Action, String> {
    let error = |e| format!("error: {e}");
    let old = deployment::revision::undo_target(d, view, to).map_err(error)?;
    match deployment::revision::undone(d, old).map_err(error)? {
        None => {
            let why = "skipped rollback (current template already matches revision)";
            Ok(Action::Say(format!("{} {why}", target.name)))
        }
        Some(new) => {
            let write = Write::Update(target.object, Row::Deployment(Arc::new(new)));
            Ok(Action::Write(write, format!("{} rolled back", target.name)))
        }
    }
}

/// The template of a StatefulSet or DaemonSet, and its revisions, lowest first.
fn revisions(row: &Row, view: &View) -> Option<(Arc<PodTemplate>, Vec<history::Revision>)> {
    match row {
        Row::StatefulSet(set) => Some((
            set.template.clone(),
            history::list(&set.meta, &set.selector, view),
        )),
        Row::DaemonSet(set) => Some((
            set.template.clone(),
            history::list(&set.meta, &set.selector, view),
        )),
        _ => None,
    }
}

fn undo_set(target: &Target, row: &Row, to: i64, view: &View) -> Result<Action, String> {
    let (template, all) = revisions(row, view).ok_or("error: rollback is not supported")?;
    let old = history::undo_target(all, to).map_err(|e| format!("error: {e}"))?;
    let old = old.row.template.clone();
    if history::same(&template, &old) {
        let why = format!("skipped rollback (current template already matches revision {to})");
        return Ok(Action::Say(format!("{} {why}", target.name)));
    }
    let new = match row {
        Row::StatefulSet(set) => StatefulSet {
            source: history::with_template(&set.source, &old),
            template: old,
            ..StatefulSet::clone(set)
        }
        .into(),
        Row::DaemonSet(set) => DaemonSet {
            source: history::with_template(&set.source, &old),
            template: old,
            ..DaemonSet::clone(set)
        }
        .into(),
        row => row.clone(),
    };
    let write = Write::Update(target.object, new);
    Ok(Action::Write(write, format!("{} rolled back", target.name)))
}

/// `kubectl rollout history`: revisions and why they were made;
/// `staging/src/k8s.io/kubectl/pkg/polymorphichelpers/history.go :: ViewHistory`.
fn listing(target: &Target, row: &Row, view: &View) -> String {
    let cause = |annotations: &crate::api::Labels| {
        let cause = annotations.get(CHANGE_CAUSE).map(ToString::to_string);
        cause.unwrap_or_else(|| "<none>".into())
    };
    let lines: Vec<(i64, String)> = match row {
        Row::Deployment(d) => deployment::revision::history(d, view)
            .into_iter()
            .map(|(number, _, set)| (number, cause(&set.meta.annotations)))
            .collect(),
        _ => revisions(row, view)
            .map(|(_, all)| all)
            .unwrap_or_default()
            .iter()
            .map(|r| (r.row.revision, cause(&r.row.meta.annotations)))
            .collect(),
    };
    let mut text = format!("{} \nREVISION  CHANGE-CAUSE", target.name);
    for (number, cause) in lines {
        text.push_str(&format!("\n{number:<10}{cause}"));
    }
    text
}

/// `kubectl rollout status`: the line and whether the rollout is done;
/// `staging/src/k8s.io/kubectl/pkg/polymorphichelpers/rollout_status.go`.
///
/// # Errors
/// Why it will never be done, in kubectl's words.
pub fn status(row: &Row) -> Result<(String, bool), String> {
    match row {
        Row::Deployment(deployment) => rollout_status(deployment, 0),
        Row::StatefulSet(set) => stateful_status(set),
        Row::DaemonSet(set) => daemon_status(set),
        row => {
            let kind = row.kind().name();
            Err(format!("no status viewer has been implemented for {kind}"))
        }
    }
}

fn only_for_rolling() -> String {
    "rollout status is only available for RollingUpdate strategy type".into()
}

/// `StatefulSetStatusViewer.Status`.
fn stateful_status(set: &StatefulSet) -> Result<(String, bool), String> {
    let status = &set.status;
    let StatefulStrategy::RollingUpdate(rolling) = set.strategy else {
        return Err(only_for_rolling());
    };
    let waiting = |what: String| Ok((what, false));
    if status.observed_generation == 0 || set.meta.generation > status.observed_generation {
        return waiting("Waiting for statefulset spec update to be observed...".into());
    }
    if status.ready < set.replicas {
        let missing = set.replicas - status.ready;
        return waiting(format!("Waiting for {missing} pods to be ready..."));
    }
    let updated = status.updated;
    if let Some(rolling) = rolling {
        let wanted = set.replicas - rolling.partition;
        if updated < wanted {
            return waiting(format!(
                "Waiting for partitioned roll out to finish: {updated} out of {wanted} new pods \
                 have been updated..."
            ));
        }
        let line =
            format!("partitioned roll out complete: {updated} new pods have been updated...");
        return Ok((line, true));
    }
    if status.update_revision != status.current_revision {
        let revision = &status.update_revision;
        return waiting(format!(
            "waiting for statefulset rolling update to complete {updated} pods at revision \
             {revision}..."
        ));
    }
    let (current, revision) = (status.current, &status.current_revision);
    let line =
        format!("statefulset rolling update complete {current} pods at revision {revision}...");
    Ok((line, true))
}

/// `DaemonSetStatusViewer.Status`.
fn daemon_status(set: &DaemonSet) -> Result<(String, bool), String> {
    let (name, status) = (&set.meta.name, &set.status);
    if set.strategy == DaemonStrategy::OnDelete {
        return Err(only_for_rolling());
    }
    if set.meta.generation > status.observed_generation {
        let line = "Waiting for daemon set spec update to be observed...";
        return Ok((line.into(), false));
    }
    let wanted = status.desired;
    let waiting = if status.updated < wanted {
        let updated = status.updated;
        format!("{updated} out of {wanted} new pods have been updated")
    } else if status.available < wanted {
        let available = status.available;
        format!("{available} of {wanted} updated pods are available")
    } else {
        return Ok((
            format!("daemon set \"{name}\" successfully rolled out"),
            true,
        ));
    };
    let line = format!("Waiting for daemon set \"{name}\" rollout to finish: {waiting}...");
    Ok((line, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::stateful::{DaemonSetStatus, StatefulRolling, StatefulSetStatus};

    fn said(status: Result<(String, bool), String>) -> String {
        match status {
            Ok((line, true)) => format!("done: {line}"),
            Ok((line, false)) => line,
            Err(error) => format!("error: {error}"),
        }
    }

    /// After `rollout_status_test.go :: TestStatefulSetStatusViewerStatus`.
    #[test]
    fn the_status_of_a_stateful_set_says_what_is_missing() {
        let partition = |partition| {
            StatefulStrategy::RollingUpdate(Some(StatefulRolling {
                partition,
                max_unavailable: None,
            }))
        };
        let plain = StatefulStrategy::RollingUpdate(None);
        let partial = "Waiting for partitioned roll out to finish: 1 out of 2 new pods have been \
                       updated...";
        // strategy, observed generation of 2, ready and updated of 3, current is the new revision
        let table = [
            (
                StatefulStrategy::OnDelete,
                (2, 3, 3, true),
                "error: rollout status is only available for RollingUpdate strategy type",
            ),
            (
                partition(0),
                (1, 3, 3, true),
                "Waiting for statefulset spec update to be observed...",
            ),
            (
                partition(0),
                (2, 1, 3, true),
                "Waiting for 2 pods to be ready...",
            ),
            (partition(1), (2, 3, 1, false), partial),
            (
                partition(1),
                (2, 3, 2, false),
                "done: partitioned roll out complete: 2 new pods have been updated...",
            ),
            (
                plain,
                (2, 3, 2, false),
                "waiting for statefulset rolling update to complete 2 pods at revision db-b...",
            ),
            (
                plain,
                (2, 3, 3, true),
                "done: statefulset rolling update complete 3 pods at revision db-b...",
            ),
        ];
        for (strategy, (observed, ready, updated, whole), expected) in table {
            let mut set = StatefulSet {
                replicas: 3,
                strategy,
                status: StatefulSetStatus {
                    observed_generation: observed,
                    ready,
                    updated,
                    current: 3,
                    current_revision: if whole { "db-b" } else { "db-a" }.into(),
                    update_revision: "db-b".into(),
                    ..StatefulSetStatus::default()
                },
                ..StatefulSet::default()
            };
            set.meta.generation = 2;
            assert_eq!(said(status(&set.into())), expected);
        }
    }

    #[test]
    fn the_status_of_a_daemon_set_says_what_is_missing() {
        let table = [
            (
                (0, 5, 5),
                "Waiting for daemon set spec update to be observed...",
            ),
            (
                (1, 4, 5),
                "Waiting for daemon set \"agent\" rollout to finish: 4 out of 5 new pods have \
                 been updated...",
            ),
            (
                (1, 5, 3),
                "Waiting for daemon set \"agent\" rollout to finish: 3 of 5 updated pods are \
                 available...",
            ),
            (
                (1, 5, 5),
                "done: daemon set \"agent\" successfully rolled out",
            ),
        ];
        for ((observed, updated, available), expected) in table {
            let mut set = DaemonSet {
                status: DaemonSetStatus {
                    observed_generation: observed,
                    desired: 5,
                    updated,
                    available,
                    ..DaemonSetStatus::default()
                },
                ..DaemonSet::default()
            };
            set.meta.name = "agent".into();
            set.meta.generation = 1;
            assert_eq!(said(status(&set.into())), expected);
        }
    }
}
