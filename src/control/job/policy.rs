//! Which ends of pods end the Job: `podFailurePolicy` and `successPolicy`.
//!
//! Ports of `pkg/controller/job/pod_failure_policy.go` and `success_policy.go`.

use super::intervals::Intervals;
use crate::api::Pod;
use crate::api::batch::{FailureAction, FailureMatch, FailureRule, JobSpec, SuccessRule};
use crate::api::pod_status::{ContainerState, ContainerStatus};

/// What the first rule that fits says about a failed pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Why the Job fails, if it does.
    pub fail_job: Option<String>,
    /// Whether the failure counts towards the back-off limits.
    pub counts: bool,
    /// The rule's action; none when no rule fits.
    pub action: Option<FailureAction>,
}

/// `matchPodFailurePolicy`.
pub fn judge(spec: &JobSpec, pod: &Pod) -> Verdict {
    let verdict = |action, fail_job| Verdict {
        fail_job,
        counts: action != Some(FailureAction::Ignore),
        action,
    };
    let rules = spec.failure_policy.iter().flat_map(|rules| rules.iter());
    for (index, rule) in rules.enumerate() {
        let Some(what) = fits(rule, pod) else {
            continue;
        };
        let message = (rule.action == FailureAction::FailJob)
            .then(|| format!("{what} matching FailJob rule at index {index}"));
        return verdict(Some(rule.action), message);
    }
    verdict(None, None)
}

/// What of the pod a rule fits, in upstream's words.
fn fits(rule: &FailureRule, pod: &Pod) -> Option<String> {
    let status = &pod.status;
    let (namespace, name) = (&pod.meta.namespace, &pod.meta.name);
    match &rule.when {
        FailureMatch::ExitCodes {
            container,
            not_in,
            codes,
        } => {
            let all = status.containers.iter().chain(&status.init_containers);
            let mut ended = all.filter_map(|status| Some((status, exit_code(status)?)));
            let (container, code) = ended.find(|(status, code)| {
                let named = container.as_ref().is_none_or(|name| *name == status.name);
                named && *code != 0 && codes.contains(code) != *not_in
            })?;
            let container = &container.name;
            Some(format!(
                "Container {container} for pod {namespace}/{name} failed with exit code {code}"
            ))
        }
        FailureMatch::Conditions(patterns) => {
            let fits = |c: &&crate::api::pod_status::PodCondition| {
                let mut patterns = patterns.iter();
                patterns.any(|(kind, status)| *kind == c.kind && *status == c.status)
            };
            let kind = status.conditions.iter().find(fits)?.kind.name();
            Some(format!("Pod {namespace}/{name} has condition {kind}"))
        }
    }
}

fn exit_code(status: &ContainerStatus) -> Option<i32> {
    match &status.state {
        ContainerState::Terminated(end) => Some(end.exit_code),
        _ => None,
    }
}

/// `matchSuccessPolicy`: the message of the first rule that the succeeded indexes satisfy.
pub fn succeeded(spec: &JobSpec, completed: &Intervals) -> Option<String> {
    let rules = spec.success_policy.as_ref()?;
    if completed.is_empty() {
        return None;
    }
    let completions = spec.completions.unwrap_or(0);
    let met = |rule: &SuccessRule| match &rule.indexes {
        Some(indexes) => {
            let wanted = Intervals::parse(indexes, completions);
            let have = wanted.common(completed);
            let enough = rule.count.is_some_and(|count| have >= count);
            !wanted.is_empty() && (have == wanted.total() || enough)
        }
        None => rule.count.is_some_and(|count| completed.total() >= count),
    };
    let index = rules.iter().position(met)?;
    Some(format!("Matched rules at index {index}"))
}
