//! Verbs that wait: `delete --wait`, `rollout status`, `drain`.

use std::time::Duration;

use super::edit::Target;
use super::verb::DrainFlags;
use crate::api::pod::VolumeSource;
use crate::api::{Kind, Pod, Text};
use crate::store::{Id, ObjectId, Propagation, View, Write};

/// How often kubectl looks again (`drain` after a 429, waits by watch: a second is close enough).
pub const LOOK: Duration = Duration::from_secs(1);
/// `pkg/drain :: evictPods`: pause after a refused eviction.
pub const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// What is waited for.
#[derive(Clone, Debug, PartialEq)]
pub enum Wait {
    /// Nothing.
    Nothing,
    /// These are gone.
    Gone(Vec<Target>),
    /// The rollouts of these are done.
    RolledOut(Vec<Target>),
}

impl Wait {
    /// Whether it is over: kubectl's last lines, or its error; `None` to look again.
    pub fn look(&self, view: &View) -> Option<Result<Vec<String>, String>> {
        match self {
            Wait::Nothing => Some(Ok(Vec::new())),
            Wait::Gone(targets) => targets
                .iter()
                .all(|t| view.row(t.object).is_none())
                .then(|| Ok(Vec::new())),
            Wait::RolledOut(targets) => {
                let mut lines = Vec::new();
                for target in targets {
                    let Some(row) = view.row(target.object) else {
                        return Some(Err(format!("error: {} is gone", target.name)));
                    };
                    match super::rollout::status(&row) {
                        Ok((line, true)) => lines.push(line),
                        Ok((_, false)) => return None,
                        Err(error) => return Some(Err(format!("error: {error}"))),
                    }
                }
                Some(Ok(lines))
            }
        }
    }

    /// What was still missing when the time was over.
    pub fn missing(&self, view: &View) -> String {
        match self {
            Wait::Nothing => String::new(),
            Wait::Gone(targets) => {
                let left: Vec<&str> = targets
                    .iter()
                    .filter(|t| view.row(t.object).is_some())
                    .map(|t| t.name.as_str())
                    .collect();
                format!(
                    "error: timed out waiting for the condition on {}",
                    left.join(", ")
                )
            }
            Wait::RolledOut(_) => "error: timed out waiting for the condition".into(),
        }
    }
}

/// The pods that `drain` takes away from a node, after `pkg/drain/filters.go`.
///
/// # Errors
/// Why it refuses, in kubectl's words.
pub fn drained_pods(
    node: &Text,
    flags: &DrainFlags,
    view: &View,
) -> Result<Vec<(Id<Pod>, Text)>, String> {
    let mut pods = Vec::new();
    let mut errors: Vec<(String, Vec<String>)> = Vec::new();
    for (id, pod) in view.pods().on_node(node) {
        match judge(pod, flags, view) {
            Fate::Goes => pods.push((id, Text::from(pod.meta.full_name()))),
            Fate::Stays => {}
            Fate::Refuses(why) => match errors.iter_mut().find(|(w, _)| w == why) {
                Some((_, names)) => names.push(pod.meta.full_name()),
                None => errors.push((why.to_owned(), vec![pod.meta.full_name()])),
            },
        }
    }
    if errors.is_empty() {
        return Ok(pods);
    }
    let list: Vec<String> = errors
        .iter()
        .map(|(why, names)| format!("{why}: {}", names.join(", ")))
        .collect();
    Err(format!(
        "error: unable to drain node \"{node}\" due to error: {}, continuing command...",
        list.join(", ")
    ))
}

enum Fate {
    Goes,
    Stays,
    Refuses(&'static str),
}

/// The filters in upstream's order: daemon sets, mirror pods, local storage, unmanaged pods.
fn judge(pod: &Pod, flags: &DrainFlags, view: &View) -> Fate {
    let terminal = pod.status.phase.terminal();
    let controller = pod.meta.controller();
    if controller.is_some_and(|o| o.kind_name == "DaemonSet") && !terminal {
        return if flags.ignore_daemon_sets {
            Fate::Stays
        } else {
            Fate::Refuses(
                "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore)",
            )
        };
    }
    if pod.meta.annotations.contains("kubernetes.io/config.mirror") {
        return Fate::Stays;
    }
    let local = pod
        .spec
        .volumes
        .iter()
        .any(|v| matches!(v.source, VolumeSource::EmptyDir(_)));
    if local && !terminal && !flags.delete_emptydir {
        return Fate::Refuses(
            "cannot delete Pods with local storage (use --delete-emptydir-data to override)",
        );
    }
    let known = controller.is_some_and(|o| {
        o.kind == Kind::Inert || view.lookup(o.kind, &pod.meta.namespace, &o.name).is_some()
    });
    if !known && !terminal && !flags.force {
        return Fate::Refuses(
            "cannot delete Pods that declare no controller (use --force to override)",
        );
    }
    Fate::Goes
}

/// The write that takes one pod away: an eviction, or a deletion with `--disable-eviction`.
pub fn removal(pod: Id<Pod>, flags: &DrainFlags) -> Write {
    if flags.disable_eviction {
        Write::Delete {
            object: ObjectId::from(pod),
            uid: None,
            grace_s: flags.grace_s,
            propagation: Propagation::Background,
        }
    } else {
        Write::Evict {
            pod,
            grace_s: flags.grace_s,
        }
    }
}
