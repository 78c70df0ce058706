//! Jobs and CronJobs (`pkg/apis/batch/validation`).

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{
    CronJob, Job, JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule,
    SuccessPolicyRule,
};
use serde_json::{Value, json};

use crate::api::Labels;
use crate::api::cron::{self, Schedule};

use super::field::{At, Errors};
use super::job_selector::{generated_selector, selects, with_selector};
use super::meta::label_selector;
use super::names::{dns_label, dns_subdomain, label_key};
use super::pod::pod_template;
use super::workload::{mismatch, shown_selector, template_labels};

/// `ValidateJob`, without the metadata, with the labels and the selector that a Job gets.
pub fn job(object: &Job, at: &At<'_>, errors: &mut Errors) {
    let Some(spec) = &object.spec else {
        return;
    };
    let spec_at = at.field("spec");
    let generated;
    let spec = if spec.manual_selector == Some(true) {
        spec
    } else {
        generated = with_selector(object, spec);
        generated_selector(object, &generated, &spec_at, errors);
        &generated
    };
    job_spec(spec, &spec_at, errors);
    let selector_at = spec_at.field("selector");
    match &spec.selector {
        None => errors.required(&selector_at, ""),
        Some(selector) => label_selector(selector, &selector_at, errors),
    }
    // A selector that is not there selects nothing; one that does not parse is not asked.
    let labels: Labels = template_labels(&spec.template)
        .into_iter()
        .flatten()
        .collect();
    if !selects(spec.selector.as_ref(), &labels) {
        mismatch(&spec.template, &spec_at.field("template"), errors);
    }
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    if let Some(completions) = spec.completions.filter(|n| indexed && *n > 0) {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let last = format!("{name}-{}", completions - 1);
        if !dns_label(&last).is_empty() {
            let metadata = at.field("metadata");
            let detail = format!("will not able to create pod with invalid DNS label: {last}");
            errors.invalid(&metadata.field("name"), name, &detail);
        }
    }
}

/// `validateJobSpec`.
fn job_spec(spec: &JobSpec, at: &At<'_>, errors: &mut Errors) {
    for (field, value) in [
        ("parallelism", spec.parallelism.map(i64::from)),
        ("completions", spec.completions.map(i64::from)),
        ("activeDeadlineSeconds", spec.active_deadline_seconds),
        ("backoffLimit", spec.backoff_limit.map(i64::from)),
        (
            "ttlSecondsAfterFinished",
            spec.ttl_seconds_after_finished.map(i64::from),
        ),
        (
            "backoffLimitPerIndex",
            spec.backoff_limit_per_index.map(i64::from),
        ),
        ("maxFailedIndexes", spec.max_failed_indexes.map(i64::from)),
    ] {
        errors.non_negative(&at.field(field), value.unwrap_or(0));
    }
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        errors.required(
            &at.field("backoffLimitPerIndex"),
            "when maxFailedIndexes is specified",
        );
    }
    if let Some(manager) = &spec.managed_by {
        managed_by(manager, &at.field("managedBy"), errors);
    }
    completion_mode(spec, at, errors);
    failure_policy(spec, &at.field("podFailurePolicy"), errors);
    success_policy(spec, &at.field("successPolicy"), errors);
    let replacement = spec.pod_replacement_policy.as_deref().unwrap_or_default();
    let replacements: &[&str] = match spec.pod_failure_policy {
        Some(_) => &["Failed"],
        None => &["Failed", "TerminatingOrFailed"],
    };
    if spec.pod_replacement_policy.is_some() && !replacements.contains(&replacement) {
        errors.not_supported(&at.field("podReplacementPolicy"), replacement, replacements);
    }
    let template = at.field("template");
    pod_template(&spec.template, &template, errors);
    let pod = template.field("spec");
    let policy_at = pod.field("restartPolicy");
    let policy = spec
        .template
        .spec
        .as_ref()
        .and_then(|s| s.restart_policy.as_deref());
    match policy.unwrap_or_default() {
        "Always" | "" => errors.required(&policy_at, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if spec.pod_failure_policy.is_some() => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.invalid(&policy_at, "OnFailure", detail);
        }
        "OnFailure" | "Never" => {}
        other => errors.not_supported(&policy_at, other, &["OnFailure", "Never"]),
    }
}

/// `IsDomainPrefixedPath` and a length.
fn managed_by(manager: &str, at: &At<'_>, errors: &mut Errors) {
    match manager.split_once('/') {
        _ if manager.is_empty() => errors.required(at, ""),
        Some((host, path)) if !host.is_empty() && !path.is_empty() => {
            errors.invalid_each(at, host, dns_subdomain(host));
        }
        _ => {
            let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errors.invalid(at, manager, detail);
        }
    }
    if manager.len() > 63 {
        errors.too_long(at, 63);
    }
}

fn completion_mode(spec: &JobSpec, at: &At<'_>, errors: &mut Errors) {
    const MOST: i32 = 100_000;
    let mode = spec.completion_mode.as_deref().unwrap_or("NonIndexed");
    let (parallelism, completions) = (spec.parallelism, spec.completions);
    let failed = spec.max_failed_indexes;
    let (parallelism_at, failed_at) = (at.field("parallelism"), at.field("maxFailedIndexes"));
    match mode {
        "NonIndexed" => {
            for (field, value) in [
                ("backoffLimitPerIndex", spec.backoff_limit_per_index),
                ("maxFailedIndexes", failed),
            ] {
                if let Some(value) = value {
                    errors.invalid(&at.field(field), &value, "requires indexed completion mode");
                }
            }
        }
        "Indexed" => {
            if completions.is_none() {
                errors.required(&at.field("completions"), "when completion mode is Indexed");
            }
            if let Some(n) = parallelism.filter(|n| *n > MOST) {
                let detail =
                    format!("must be less than or equal to {MOST} when completion mode is Indexed");
                errors.invalid(&parallelism_at, &n, &detail);
            }
            if let (Some(completions), Some(failed)) = (completions, failed)
                && failed > completions
            {
                let detail = "must be less than or equal to completions";
                errors.invalid(&failed_at, &failed, detail);
            }
            if let Some(n) = failed.filter(|n| *n > MOST) {
                let detail = format!("must be less than or equal to {MOST}");
                errors.invalid(&failed_at, &n, &detail);
            }
            let many = completions.is_some_and(|n| n > MOST);
            if many && spec.backoff_limit_per_index.is_some() {
                let rest = "must be less than or equal to 10000 when completions are above 100000 \
                            and used with backoff limit per index";
                match failed {
                    None => errors.required(
                        &failed_at,
                        "must be specified when completions is above 100000",
                    ),
                    Some(n) if n > 10_000 => errors.invalid(&failed_at, &n, rest),
                    Some(_) => {}
                }
                if let Some(n) = parallelism.filter(|n| *n > 10_000) {
                    errors.invalid(&parallelism_at, &n, rest);
                }
            }
        }
        other => {
            let all = ["NonIndexed", "Indexed"];
            errors.not_supported(&at.field("completionMode"), other, &all);
        }
    }
}

/// `validatePodFailurePolicy`.
fn failure_policy(spec: &JobSpec, at: &At<'_>, errors: &mut Errors) {
    let Some(policy) = &spec.pod_failure_policy else {
        return;
    };
    let at = at.field("rules");
    if policy.rules.len() > 20 {
        errors.too_many(&at, policy.rules.len(), 20);
    }
    let pod = spec.template.spec.clone().unwrap_or_default();
    let init = pod.init_containers.iter().flatten();
    let names: BTreeSet<&str> = pod
        .containers
        .iter()
        .chain(init)
        .map(|c| c.name.as_str())
        .collect();
    for (i, rule) in policy.rules.iter().enumerate() {
        failure_rule(spec, rule, &names, &at.item(i), errors);
    }
}

fn failure_rule(
    spec: &JobSpec,
    rule: &PodFailurePolicyRule,
    names: &BTreeSet<&str>,
    at: &At<'_>,
    errors: &mut Errors,
) {
    let action_at = at.field("action");
    let actions = ["Count", "FailIndex", "FailJob", "Ignore"];
    match rule.action.as_str() {
        "" => errors.required(&action_at, &format!("valid values: [{}]", quoted(&actions))),
        "FailIndex" if spec.backoff_limit_per_index.is_none() => {
            let detail = "requires the backoffLimitPerIndex to be set";
            errors.invalid(&action_at, "FailIndex", detail);
        }
        other if !actions.contains(&other) => errors.not_supported(&action_at, other, &actions),
        _ => {}
    }
    let conditions = rule.on_pod_conditions.as_deref().unwrap_or_default();
    if let Some(codes) = &rule.on_exit_codes {
        exit_codes(codes, names, &at.field("onExitCodes"), errors);
    }
    let conditions_at = at.field("onPodConditions");
    for (i, condition) in conditions.iter().enumerate() {
        let at = conditions_at.item(i);
        errors.invalid_each(
            &at.field("type"),
            &condition.type_,
            label_key(&condition.type_),
        );
        let all = ["False", "True", "Unknown"];
        match condition.status.as_deref().unwrap_or_default() {
            "" => {
                let detail = format!("valid values: [{}]", quoted(&all));
                errors.required(&at.field("status"), &detail);
            }
            status if !all.contains(&status) => {
                errors.not_supported(&at.field("status"), status, &all);
            }
            _ => {}
        }
    }
    match (rule.on_exit_codes.is_some(), conditions.is_empty()) {
        (true, false) => errors.invalid_rule(
            at,
            "specifying both OnExitCodes and OnPodConditions is not supported",
        ),
        (false, true) => errors.invalid_rule(
            at,
            "specifying one of OnExitCodes and OnPodConditions is required",
        ),
        _ => {}
    }
}

fn quoted(all: &[&str]) -> String {
    let quoted: Vec<_> = all.iter().map(|name| format!("\"{name}\"")).collect();
    quoted.join(" ")
}

fn exit_codes(
    codes: &PodFailurePolicyOnExitCodesRequirement,
    names: &BTreeSet<&str>,
    at: &At<'_>,
    errors: &mut Errors,
) {
    let all = ["In", "NotIn"];
    match codes.operator.as_str() {
        "" => {
            let detail = format!("valid values: [{}]", quoted(&all));
            errors.required(&at.field("operator"), &detail);
        }
        other if !all.contains(&other) => {
            errors.not_supported(&at.field("operator"), other, &all);
        }
        _ => {}
    }
    if let Some(name) = &codes.container_name
        && !names.contains(name.as_str())
    {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.invalid(&at.field("containerName"), name, detail);
    }
    let values_at = at.field("values");
    if codes.values.is_empty() {
        errors.invalid(
            &values_at,
            &json!(codes.values),
            "at least one value is required",
        );
    } else if codes.values.len() > 255 {
        errors.too_many(&values_at, codes.values.len(), 255);
    }
    let mut seen = BTreeSet::new();
    for (i, code) in codes.values.iter().enumerate() {
        let at = values_at.item(i);
        if codes.operator == "In" && *code == 0 {
            errors.invalid(&at, code, "must not be 0 for the In operator");
        }
        if !seen.insert(code) {
            errors.duplicate(&at, code);
        }
    }
    if codes.values.windows(2).any(|pair| pair[0] > pair[1]) {
        errors.invalid(&values_at, &json!(codes.values), "must be ordered");
    }
}

/// `validateSuccessPolicy`.
fn success_policy(spec: &JobSpec, at: &At<'_>, errors: &mut Errors) {
    let Some(policy) = &spec.success_policy else {
        return;
    };
    if spec.completion_mode.as_deref() != Some("Indexed") {
        let rules = policy.rules.iter().map(|rule| {
            json!({
                "SucceededIndexes": rule.succeeded_indexes,
                "SucceededCount": rule.succeeded_count,
            })
        });
        let rules = rules.collect::<Vec<Value>>();
        let shown = json!({"Rules": Some(rules).filter(|rules| !rules.is_empty())});
        errors.invalid(at, &shown, "requires indexed completion mode");
        return;
    }
    let at = at.field("rules");
    if policy.rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.required(&at, detail);
    }
    if policy.rules.len() > 20 {
        errors.too_many(&at, policy.rules.len(), 20);
    }
    for (i, rule) in policy.rules.iter().enumerate() {
        let at = at.item(i);
        if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
            let detail = "at least one of succeededCount or succeededIndexes must be specified";
            errors.required(&at, detail);
        }
        let total = succeeded_indexes(spec, rule, &at.field("succeededIndexes"), errors);
        if let Some(count) = rule.succeeded_count {
            let at = at.field("succeededCount");
            errors.non_negative(&at, count.into());
            let completions = spec.completions.unwrap_or(0);
            if count > completions {
                let detail = format!(
                    "must be less than or equal to {completions} (the number of specified \
                     completions)"
                );
                errors.invalid(&at, &count, &detail);
            }
            if let Some(total) = total.filter(|total| count > *total) {
                let detail = format!(
                    "must be less than or equal to {total} (the number of indexes in the \
                     specified succeededIndexes field)"
                );
                errors.invalid(&at, &count, &detail);
            }
        }
    }
}

/// How many indexes a rule lists; none when the list does not parse.
fn succeeded_indexes(
    spec: &JobSpec,
    rule: &SuccessPolicyRule,
    at: &At<'_>,
    errors: &mut Errors,
) -> Option<i32> {
    const LONGEST: usize = 64 << 10;
    let text = rule.succeeded_indexes.as_deref()?;
    if text.len() > LONGEST {
        errors.too_long(at, LONGEST);
    }
    match index_list(text, spec.completions.unwrap_or(0).into()) {
        Ok(total) => Some(i32::try_from(total).unwrap_or(i32::MAX)),
        Err(error) => {
            let detail = format!("error parsing succeededIndexes: {error}");
            errors.invalid(at, text, &detail);
            Some(0)
        }
    }
}

/// `validateIndexesFormat`: `0,3-5,7`, strictly increasing, below `completions`.
fn index_list(text: &str, completions: i64) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let index = |text: &str| {
        let number = text.parse::<i64>();
        let number =
            number.map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
        match number >= completions {
            true => Err(format!("too large index: {text:?}")),
            false => Ok(number),
        }
    };
    let decreasing = |from, to| format!("non-increasing order, previous: {from}, current: {to}");
    let (mut total, mut last) = (0, None);
    for interval in text.split(',') {
        let parts: Vec<&str> = interval.split('-').collect();
        if parts.len() > 2 {
            return Err(format!(
                "the fragment {interval:?} violates the requirement that an index interval can \
                 have at most two parts separated by '-'"
            ));
        }
        let first = index(parts[0])?;
        let end = parts.get(1).map(|end| index(end)).transpose()?;
        if let Some(end) = end.filter(|end| first >= *end) {
            return Err(decreasing(first, end));
        }
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(decreasing(last, first));
        }
        let end = end.unwrap_or(first);
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

/// `ValidateCronJobCreate`, without the metadata.
pub fn cron_job(object: &CronJob, at: &At<'_>, errors: &mut Errors) {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    if name.len() > 52 {
        let metadata = at.field("metadata");
        errors.invalid(
            &metadata.field("name"),
            name,
            "must be no more than 52 characters",
        );
    }
    let spec = &object.spec;
    let at = at.field("spec");
    schedule(&spec.schedule, &at.field("schedule"), errors);
    if let Some(deadline) = spec.starting_deadline_seconds {
        errors.non_negative(&at.field("startingDeadlineSeconds"), deadline);
    }
    if let Some(zone) = &spec.time_zone {
        time_zone(zone, &at.field("timeZone"), errors);
    }
    let policies = ["Allow", "Forbid", "Replace"];
    match spec.concurrency_policy.as_deref().unwrap_or_default() {
        "" => errors.required(&at.field("concurrencyPolicy"), ""),
        other if !policies.contains(&other) => {
            errors.not_supported(&at.field("concurrencyPolicy"), other, &policies);
        }
        _ => {}
    }
    let template_at = at.field("jobTemplate");
    let job_at = template_at.field("spec");
    let job = spec.job_template.spec.clone().unwrap_or_default();
    job_spec(&job, &job_at, errors);
    if let Some(selector) = &job.selector {
        let detail = "`selector` will be auto-generated";
        errors.invalid(&job_at.field("selector"), &shown_selector(selector), detail);
    }
    if job.manual_selector == Some(true) {
        errors.not_supported(&job_at.field("manualSelector"), &true, &["nil", "false"]);
    }
    for (field, limit) in [
        (
            "successfulJobsHistoryLimit",
            spec.successful_jobs_history_limit,
        ),
        ("failedJobsHistoryLimit", spec.failed_jobs_history_limit),
    ] {
        errors.non_negative(&at.field(field), limit.unwrap_or(0).into());
    }
}

/// `validateScheduleFormat`.
fn schedule(schedule: &str, at: &At<'_>, errors: &mut Errors) {
    if schedule.is_empty() {
        errors.required(at, "");
        return;
    }
    if let Err(error) = Schedule::parse(schedule) {
        errors.invalid(at, schedule, &error.to_string());
    }
    if schedule.contains("TZ") {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.invalid(at, schedule, detail);
    }
}

/// `validateTimeZone`, with the bundled zone database.
fn time_zone(zone: &str, at: &At<'_>, errors: &mut Errors) {
    if zone.is_empty() {
        errors.invalid(at, zone, "timeZone must be nil or non-empty string");
        return;
    }
    let part = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
        part != "." && part != ".." && !part.starts_with('-') && part.chars().all(allowed)
    };
    if !zone.split('/').all(|p| part(p) && !p.is_empty()) {
        errors.invalid(at, zone, &format!("unknown time zone {zone}"));
        return;
    }
    if zone.eq_ignore_ascii_case("Local") {
        let detail = "timeZone must be an explicit time zone as defined in \
                      https://www.iana.org/time-zones";
        errors.invalid(at, zone, detail);
    }
    if let Err(error) = cron::zone(zone) {
        errors.invalid(at, zone, &error.to_string());
    }
}
