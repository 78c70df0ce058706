//! Jobs and CronJobs.

use std::sync::Arc;

use k8s_openapi::api::batch::v1 as batch;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
use serde_json::Value;

use super::DecodeContext;
use super::affinity::label_selector;
use super::meta::{instant, labels, list, meta, some_text, text, uid};
use super::pod::template;
use super::pod_status::{condition_kind, truth};
use super::workload::spec_json;
use crate::api::batch::{
    Concurrency, CronJobStatus, FailureAction, FailureMatch, FailureRule, JOB_CONTROLLER, JobSpec,
    JobStatus, JobTemplate, SuccessRule,
};
use crate::api::defaults;
use crate::api::print::prune;
use crate::api::selector::LabelSelector;
use crate::api::workload::WorkloadCondition;
use crate::api::{CronJob, Job, Text, Uid};
use crate::engine::Time;

pub(super) fn job(source: &batch::Job, json: &Value, cx: &DecodeContext) -> Job {
    let status = source.status.as_ref();
    Job {
        meta: meta(&source.metadata, cx),
        spec: source
            .spec
            .as_ref()
            .map(|spec| job_spec(spec, spec_json(json)))
            .unwrap_or_default(),
        status: status.map(|s| job_status(s, cx)).unwrap_or_default(),
    }
}

fn job_spec(spec: &batch::JobSpec, source: Arc<Value>) -> JobSpec {
    let failure = spec.pod_failure_policy.as_ref();
    let success = spec.success_policy.as_ref();
    let selector = spec.selector.as_ref();
    JobSpec {
        parallelism: spec.parallelism.unwrap_or(1),
        completions: spec.completions,
        indexed: spec.completion_mode.as_deref() == Some("Indexed"),
        active_deadline_s: spec.active_deadline_seconds,
        backoff_limit: spec.backoff_limit.unwrap_or(6),
        backoff_limit_per_index: spec.backoff_limit_per_index,
        max_failed_indexes: spec.max_failed_indexes,
        failure_policy: failure.map(|p| p.rules.iter().filter_map(failure_rule).collect()),
        success_policy: success.map(|p| p.rules.iter().map(success_rule).collect()),
        suspend: spec.suspend.unwrap_or(false),
        ttl_s: spec.ttl_seconds_after_finished,
        replace_failed_only: spec.pod_replacement_policy.as_deref() == Some("Failed"),
        managed_by: some_text(&spec.managed_by).filter(|name| name != JOB_CONTROLLER),
        manual_selector: spec.manual_selector.unwrap_or(false),
        selector: selector.map_or_else(LabelSelector::nothing, label_selector),
        template: Arc::new(template(&spec.template, source.get("template"))),
        source,
    }
}

fn failure_rule(rule: &batch::PodFailurePolicyRule) -> Option<FailureRule> {
    let action = match rule.action.as_str() {
        "FailJob" => FailureAction::FailJob,
        "FailIndex" => FailureAction::FailIndex,
        "Ignore" => FailureAction::Ignore,
        "Count" => FailureAction::Count,
        _ => return None,
    };
    let when = match &rule.on_exit_codes {
        Some(codes) => FailureMatch::ExitCodes {
            container: some_text(&codes.container_name),
            not_in: codes.operator == "NotIn",
            codes: codes.values.clone(),
        },
        None => FailureMatch::Conditions(
            list(&rule.on_pod_conditions)
                .iter()
                .map(|c| (condition_kind(&c.type_), pattern_status(c)))
                .collect(),
        ),
    };
    Some(FailureRule { action, when })
}

fn pattern_status(
    pattern: &batch::PodFailurePolicyOnPodConditionsPattern,
) -> crate::api::pod_status::Truth {
    truth(pattern.status.as_deref().unwrap_or("True"))
}

fn success_rule(rule: &batch::SuccessPolicyRule) -> SuccessRule {
    SuccessRule {
        indexes: rule.succeeded_indexes.as_deref().map(Text::from),
        count: rule.succeeded_count,
    }
}

fn some_instant(time: &Option<metav1::Time>, cx: &DecodeContext) -> Option<Time> {
    time.as_ref().map(|time| cx.time(time.0))
}

fn job_status(source: &batch::JobStatus, cx: &DecodeContext) -> JobStatus {
    let uncounted = source.uncounted_terminated_pods.as_ref();
    let uids = |uids: Option<&Option<Vec<String>>>| -> Vec<Uid> {
        let texts = uids.map(list).unwrap_or_default();
        texts.iter().map(|text| uid(text)).collect()
    };
    JobStatus {
        conditions: list(&source.conditions)
            .iter()
            .map(|c| WorkloadCondition {
                kind: c.type_.as_str().into(),
                status: truth(&c.status),
                reason: text(&c.reason),
                message: text(&c.message),
                updated: instant(&c.last_probe_time, cx),
                since: instant(&c.last_transition_time, cx),
            })
            .collect(),
        start: some_instant(&source.start_time, cx),
        completion: some_instant(&source.completion_time, cx),
        active: source.active.unwrap_or(0),
        succeeded: source.succeeded.unwrap_or(0),
        failed: source.failed.unwrap_or(0),
        terminating: source.terminating,
        ready: source.ready,
        completed_indexes: text(&source.completed_indexes),
        failed_indexes: source.failed_indexes.as_deref().map(Text::from),
        uncounted_succeeded: uids(uncounted.map(|u| &u.succeeded)),
        uncounted_failed: uids(uncounted.map(|u| &u.failed)),
    }
}

pub(super) fn cron_job(source: &batch::CronJob, json: &Value, cx: &DecodeContext) -> CronJob {
    let spec = &source.spec;
    let template = &spec.job_template;
    let metadata = template.metadata.as_ref();
    let status = source.status.as_ref();
    CronJob {
        meta: meta(&source.metadata, cx),
        schedule: spec.schedule.as_str().into(),
        time_zone: spec.time_zone.as_deref().map(Text::from),
        starting_deadline_s: spec.starting_deadline_seconds,
        concurrency: match spec.concurrency_policy.as_deref() {
            Some("Forbid") => Concurrency::Forbid,
            Some("Replace") => Concurrency::Replace,
            _ => Concurrency::Allow,
        },
        suspend: spec.suspend.unwrap_or(false),
        template: Arc::new(JobTemplate {
            labels: metadata.map(|m| labels(&m.labels)).unwrap_or_default(),
            annotations: metadata.map(|m| labels(&m.annotations)).unwrap_or_default(),
            spec: template_spec(template),
        }),
        successful_limit: spec.successful_jobs_history_limit,
        failed_limit: spec.failed_jobs_history_limit,
        source: spec_json(json),
        status: status.map(|s| cron_job_status(s, cx)).unwrap_or_default(),
    }
}

/// The spec of a Job made from a template, with the defaults that it gets when it is created.
fn template_spec(template: &batch::JobTemplateSpec) -> JobSpec {
    let mut job = batch::Job {
        spec: template.spec.clone(),
        ..batch::Job::default()
    };
    defaults::batch::job(&mut job);
    let mut json = serde_json::to_value(&job).unwrap_or_default();
    prune(&mut json, None);
    let spec = job.spec.as_ref();
    spec.map(|spec| job_spec(spec, spec_json(&json)))
        .unwrap_or_default()
}

fn cron_job_status(source: &batch::CronJobStatus, cx: &DecodeContext) -> CronJobStatus {
    let active = list(&source.active).iter();
    CronJobStatus {
        active: active
            .map(|r| (text(&r.name), uid(r.uid.as_deref().unwrap_or_default())))
            .collect(),
        last_schedule: some_instant(&source.last_schedule_time, cx),
        last_successful: some_instant(&source.last_successful_time, cx),
    }
}
