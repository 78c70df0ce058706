//! Statuses of Jobs that the API server refuses, whoever writes them.
//!
//! `pkg/apis/batch/validation :: ValidateJobStatusUpdate` with the options that
//! `pkg/registry/batch/job/strategy.go :: getStatusValidationOptions` gives while the gate
//! `JobManagedBy` is on (since 1.32). The Job controller itself runs into one of them: while it
//! waits before it replaces a failed pod it reports no active pods, so as long as others are ready
//! it cannot write its status at all, and the failure is not counted before the wait is over.
//!
//! Not here: what is true of the types already (counts of both signs, uids twice in a list), and the
//! lists of indexes, which nobody but the controller writes.

use crate::api::Job;
use crate::api::batch::JobStatus;
use crate::api::pod_status::Truth;

/// Why the status of `new` may not follow that of `old`.
pub(in crate::store) fn check(old: &Job, new: &Job) -> Vec<String> {
    let mut causes = Vec::new();
    ends(&old.status, &new.status, &mut causes);
    times(old, new, &mut causes);
    counts(old, new, &mut causes);
    transitions(old, new, &mut causes);
    causes
}

fn holds(status: &JobStatus, kind: &str) -> bool {
    let condition = status.condition(kind);
    condition.is_some_and(|c| c.status == Truth::True)
}

fn over(status: &JobStatus) -> bool {
    status.finished().is_some()
}

fn conditions(causes: &mut Vec<String>, why: &str) {
    causes.push(format!("status.conditions: Invalid value: {why}"));
}

/// `validateJobStatus`: conditions that exclude or need each other.
fn ends(old: &JobStatus, new: &JobStatus, causes: &mut Vec<String>) {
    let has = |kind| holds(new, kind);
    let changed = |kind| holds(old, kind) != holds(new, kind);
    let (complete, failed) = (has("Complete"), has("Failed"));
    if (changed("Complete") || changed("Failed")) && complete && failed {
        conditions(
            causes,
            "cannot set Complete=True and Failed=true conditions",
        );
    }
    let ending = changed("Complete") || changed("FailureTarget");
    if ending && complete && has("FailureTarget") {
        conditions(
            causes,
            "cannot set Complete=True and FailureTarget=true conditions",
        );
    }
    let indexes = old.failed_indexes != new.failed_indexes;
    if (changed("Failed") || indexes) && failed && !has("FailureTarget") {
        conditions(
            causes,
            "cannot set Failed=True condition without the FailureTarget=true condition",
        );
    }
    let success = changed("Complete") || changed("SuccessCriteriaMet");
    if success && complete && !has("SuccessCriteriaMet") {
        conditions(
            causes,
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        );
    }
    if has("SuccessCriteriaMet") && failed {
        conditions(
            causes,
            "cannot set SuccessCriteriaMet=True and Failed=true conditions",
        );
    }
    if has("SuccessCriteriaMet") && has("FailureTarget") {
        conditions(
            causes,
            "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        );
    }
}

/// `validateJobStatus`: start and completion.
fn times(old: &Job, new: &Job, causes: &mut Vec<String>) {
    let (before, after) = (&old.status, &new.status);
    let started = before.start != after.start;
    let completed = before.completion != after.completion;
    let (was, is) = (holds(before, "Complete"), holds(after, "Complete"));
    if (was != is || completed) && after.completion.is_some() && !is {
        causes.push(
            "status.completionTime: Invalid value: cannot set completionTime when there is no \
             Complete=True condition"
                .into(),
        );
    }
    if (was != is || completed) && after.completion.is_none() && is {
        causes.push(
            "status.completionTime: Required value: completionTime is required for Complete jobs"
                .into(),
        );
    }
    if (started || completed)
        && after
            .start
            .zip(after.completion)
            .is_some_and(|(a, b)| b < a)
    {
        causes.push(
            "status.completionTime: Invalid value: must be equal to or after `startTime`".into(),
        );
    }
    let idle = new.spec.suspend && new.spec.completions == Some(0);
    let ended = over(before) != over(after) || started;
    if ended && !idle && after.start.is_none() && over(after) {
        causes.push(
            "status.startTime: Required value: startTime is required for finished job".into(),
        );
    }
}

/// `validateJobStatus`: counts that contradict each other.
fn counts(old: &Job, new: &Job, causes: &mut Vec<String>) {
    let (before, after) = (&old.status, &new.status);
    let ended = over(before) != over(after);
    let active = before.active != after.active;
    if (ended || active) && after.active > 0 && over(after) {
        causes.push(format!(
            "status.active: Invalid value: {}: active>0 is invalid for finished job",
            after.active
        ));
    }
    let noted = |s: &JobStatus| (s.uncounted_succeeded.clone(), s.uncounted_failed.clone());
    let left = !after.uncounted_succeeded.is_empty() || !after.uncounted_failed.is_empty();
    if (ended || noted(before) != noted(after)) && left && over(after) {
        causes.push(
            "status.uncountedTerminatedPods: Invalid value: must be empty for finished job".into(),
        );
    }
    let leaving = after.terminating.unwrap_or(0);
    if (ended || before.terminating != after.terminating) && leaving > 0 && over(after) {
        causes.push(format!(
            "status.terminating: Invalid value: {leaving}: terminating>0 is invalid for finished \
             job"
        ));
    }
    let ready = after.ready.unwrap_or(0);
    if (active || before.ready != after.ready) && ready > after.active {
        causes.push(format!(
            "status.ready: Invalid value: {ready}: cannot set more ready pods than active"
        ));
    }
}

/// `ValidateJobStatusUpdate`: what never goes back.
fn transitions(old: &Job, new: &Job, causes: &mut Vec<String>) {
    let (before, after) = (&old.status, &new.status);
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if holds(before, kind) && !holds(after, kind) {
            conditions(
                causes,
                &format!("cannot disable the terminal {kind}=True condition"),
            );
        }
    }
    if after.failed < before.failed {
        causes.push(format!(
            "status.failed: Invalid value: {}: cannot decrease the failed counter",
            after.failed
        ));
    }
    // An Indexed Job that is scaled by both numbers together can lose some that succeeded.
    let elastic = new.spec.indexed && new.spec.completions == Some(new.spec.parallelism);
    if !elastic && after.succeeded < before.succeeded {
        causes.push(format!(
            "status.succeeded: Invalid value: {}: cannot decrease the succeeded counter",
            after.succeeded
        ));
    }
    if after.completion.is_some()
        && before
            .completion
            .is_some_and(|t| Some(t) != after.completion)
    {
        causes.push("status.completionTime: Invalid value: field is immutable".into());
    }
    let suspended = |status: &JobStatus, truth| {
        let condition = status.condition("Suspended");
        condition.is_some_and(|c| c.status == truth)
    };
    let resuming = suspended(before, Truth::True) && suspended(after, Truth::False);
    if before.start.is_some() && before.start != after.start && !resuming && !new.spec.suspend {
        causes.push(
            "status.startTime: Invalid value: field is immutable for unsuspended job once set"
                .into(),
        );
    }
    if holds(before, "SuccessCriteriaMet") && !holds(after, "SuccessCriteriaMet") {
        conditions(
            causes,
            "cannot disable the SuccessCriteriaMet=True condition",
        );
    }
}
