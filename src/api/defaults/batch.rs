//! Jobs and CronJobs (`pkg/apis/batch/v1/defaults.go`).

use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, Job, JobSpec};

use super::core::pod_template;
use super::{absent, text};

/// `SetDefaults_Job`: an unlabelled Job takes the labels of its template.
pub fn job(object: &mut Job) {
    let spec: &mut JobSpec = object.spec.get_or_insert_default();
    if spec.completions.is_none() && spec.parallelism.is_none() {
        spec.completions = Some(1);
    }
    spec.parallelism.get_or_insert(1);
    let limit = if spec.backoff_limit_per_index.is_some() {
        i32::MAX
    } else {
        6
    };
    spec.backoff_limit.get_or_insert(limit);
    let labels = spec
        .template
        .metadata
        .as_ref()
        .and_then(|m| m.labels.clone());
    if labels.is_some() && object.metadata.labels.as_ref().is_none_or(|l| l.is_empty()) {
        object.metadata.labels = labels;
    }
    absent(&mut spec.completion_mode, "NonIndexed");
    spec.suspend.get_or_insert(false);
    let replacement = if spec.pod_failure_policy.is_some() {
        "Failed"
    } else {
        "TerminatingOrFailed"
    };
    absent(&mut spec.pod_replacement_policy, replacement);
    spec.manual_selector.get_or_insert(false);
    job_spec(spec);
}

/// What a Job and the template of a CronJob have in common.
fn job_spec(spec: &mut JobSpec) {
    let rules = spec.pod_failure_policy.iter_mut();
    for rule in rules.flat_map(|policy| policy.rules.iter_mut()) {
        for condition in rule.on_pod_conditions.iter_mut().flatten() {
            text(&mut condition.status, "True");
        }
    }
    pod_template(&mut spec.template);
}

/// `SetDefaults_CronJob`.
pub fn cron_job(object: &mut CronJob) {
    let spec: &mut CronJobSpec = &mut object.spec;
    text(&mut spec.concurrency_policy, "Allow");
    spec.suspend.get_or_insert(false);
    spec.successful_jobs_history_limit.get_or_insert(3);
    spec.failed_jobs_history_limit.get_or_insert(1);
    spec.job_template.metadata.get_or_insert_default();
    job_spec(spec.job_template.spec.get_or_insert_default());
}
