//! Deployments, ReplicaSets, DaemonSets, ReplicationControllers (`pkg/apis/apps/validation`).

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    DaemonSet, DaemonSetUpdateStrategy, Deployment, DeploymentStrategy, ReplicaSet,
};
use k8s_openapi::api::core::v1::{PodTemplateSpec, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Map, Value, json};

use super::field::{At, Errors};
use super::meta::label_selector;
use super::names::percent;
use super::pod::pod_template;
use crate::api::Labels;
use crate::api::decode::selector_of;

/// What a selector says about a template.
pub(super) enum Selects {
    /// It does not parse.
    Malformed,
    /// It has no requirement.
    Everything,
    /// The template's labels satisfy it.
    Template,
    /// They do not.
    Other,
}

/// A selector in Go's order of fields.
pub(super) fn shown_selector(selector: &LabelSelector) -> Value {
    let mut map = Map::new();
    if let Some(labels) = selector.match_labels.as_ref().filter(|l| !l.is_empty()) {
        map.insert("matchLabels".to_owned(), json!(labels));
    }
    if let Some(list) = selector
        .match_expressions
        .as_ref()
        .filter(|l| !l.is_empty())
    {
        let shown = list.iter().map(|requirement| {
            let mut shown = json!({"key": requirement.key, "operator": requirement.operator});
            if let Some(values) = requirement.values.as_ref().filter(|v| !v.is_empty()) {
                shown["values"] = json!(values);
            }
            shown
        });
        map.insert("matchExpressions".to_owned(), shown.collect());
    }
    Value::Object(map)
}

pub(super) fn template_labels(template: &PodTemplateSpec) -> Option<&BTreeMap<String, String>> {
    template.metadata.as_ref()?.labels.as_ref()
}

/// Checks a selector and what it selects; `given` is whether one was written at all, and a missing
/// one selects nothing.
pub(super) fn selector(
    selector: &LabelSelector,
    given: bool,
    template: &PodTemplateSpec,
    at: &At<'_>,
    errors: &mut Errors,
) -> Selects {
    if !given {
        return Selects::Other;
    }
    let before = errors.len();
    label_selector(selector, at, errors);
    if errors.len() > before {
        return Selects::Malformed;
    }
    let selector = selector_of(selector);
    if selector.is_empty() {
        return Selects::Everything;
    }
    let labels: Labels = template_labels(template).into_iter().flatten().collect();
    if selector.matches(&labels) {
        Selects::Template
    } else {
        Selects::Other
    }
}

/// The complaint about labels that the selector does not match.
pub(super) fn mismatch(template: &PodTemplateSpec, at: &At<'_>, errors: &mut Errors) {
    let labels = json!(template_labels(template));
    let metadata = at.field("metadata");
    let detail = "`selector` does not match template `labels`";
    errors.invalid(&metadata.field("labels"), &labels, detail);
}

/// What controllers of running pods demand: `restartPolicy: Always`, no deadline.
pub(super) fn keeps_running(
    template: &PodTemplateSpec,
    kind: &str,
    at: &At<'_>,
    errors: &mut Errors,
) {
    let at = at.field("spec");
    let spec = template.spec.as_ref();
    let policy = spec
        .and_then(|s| s.restart_policy.as_deref())
        .unwrap_or_default();
    if policy != "Always" {
        errors.not_supported(&at.field("restartPolicy"), policy, &["Always"]);
    }
    if spec.is_some_and(|s| s.active_deadline_seconds.is_some()) {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.forbidden(&at.field("activeDeadlineSeconds"), &detail);
    }
}

/// `ValidateDeploymentSpec`.
pub fn deployment(object: &Deployment, selector_given: bool, at: &At<'_>, errors: &mut Errors) {
    let at = at.field("spec");
    let Some(spec) = &object.spec else {
        return;
    };
    let replicas = spec.replicas.unwrap_or(0);
    errors.non_negative(&at.field("replicas"), replicas.into());
    replicas_of(&spec.selector, selector_given, &spec.template, &at, errors);
    let default = DeploymentStrategy::default();
    let strategy = spec.strategy.as_ref().unwrap_or(&default);
    deployment_strategy(strategy, &at.field("strategy"), errors);
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    errors.non_negative(&at.field("minReadySeconds"), min_ready.into());
    let limit = spec.revision_history_limit.unwrap_or(0);
    errors.non_negative(&at.field("revisionHistoryLimit"), limit.into());
    if let Some(deadline) = spec.progress_deadline_seconds {
        let at = at.field("progressDeadlineSeconds");
        errors.non_negative(&at, deadline.into());
        if deadline <= min_ready {
            errors.invalid(&at, &deadline, "must be greater than minReadySeconds");
        }
    }
}

/// Selector and template of Deployments and ReplicaSets; both complain in the words of the former.
fn replicas_of(
    source: &LabelSelector,
    given: bool,
    template: &PodTemplateSpec,
    at: &At<'_>,
    errors: &mut Errors,
) {
    let (selector_at, template_at) = (at.field("selector"), at.field("template"));
    if !given {
        errors.required(&selector_at, "");
    }
    match selector(source, given, template, &selector_at, errors) {
        Selects::Malformed => {
            errors.invalid(
                &selector_at,
                &shown_selector(source),
                "invalid label selector",
            );
            return;
        }
        Selects::Everything => {
            let detail = "empty selector is invalid for deployment";
            errors.invalid(&selector_at, &shown_selector(source), detail);
        }
        Selects::Other => mismatch(template, &template_at, errors),
        Selects::Template => {}
    }
    pod_template(template, &template_at, errors);
    keeps_running(template, "ReplicaSet", &template_at, errors);
}

fn deployment_strategy(strategy: &DeploymentStrategy, at: &At<'_>, errors: &mut Errors) {
    let rolling_at = at.field("rollingUpdate");
    let rolling = strategy.rolling_update.as_ref();
    match strategy.type_.as_deref().unwrap_or_default() {
        "Recreate" => {
            if rolling.is_some() {
                let detail = "may not be specified when strategy `type` is 'Recreate'";
                errors.forbidden(&rolling_at, detail);
            }
        }
        "RollingUpdate" => {
            let zero = IntOrString::Int(0);
            let unavailable = rolling
                .and_then(|r| r.max_unavailable.as_ref())
                .unwrap_or(&zero);
            let surge = rolling.and_then(|r| r.max_surge.as_ref()).unwrap_or(&zero);
            let unavailable_at = rolling_at.field("maxUnavailable");
            int_or_percent(unavailable, &unavailable_at, errors);
            int_or_percent(surge, &rolling_at.field("maxSurge"), errors);
            if value(unavailable) == 0 && value(surge) == 0 {
                let detail = "may not be 0 when `maxSurge` is 0";
                errors.invalid(&unavailable_at, &json!(unavailable), detail);
            }
            at_most_all(unavailable, &unavailable_at, errors);
        }
        kind => {
            let zero = IntOrString::Int(0);
            let rolling = rolling.map(|r| {
                let unavailable = r.max_unavailable.as_ref().unwrap_or(&zero);
                let surge = r.max_surge.as_ref().unwrap_or(&zero);
                json!({"MaxUnavailable": unavailable, "MaxSurge": surge})
            });
            let shown = json!({"Type": kind, "RollingUpdate": rolling});
            errors.not_supported(at, &shown, &["Recreate", "RollingUpdate"]);
        }
    }
}

/// `ValidatePositiveIntOrPercent`.
pub(super) fn int_or_percent(value: &IntOrString, at: &At<'_>, errors: &mut Errors) {
    match value {
        IntOrString::Int(number) => errors.non_negative(at, (*number).into()),
        IntOrString::String(text) => errors.invalid_each(at, text, percent(text)),
    }
}

/// `IsNotMoreThan100Percent`.
pub(super) fn at_most_all(value: &IntOrString, at: &At<'_>, errors: &mut Errors) {
    if let IntOrString::String(text) = value
        && percent(text).is_none()
        && self::value(value) > 100
    {
        errors.invalid(at, text, "must not be greater than 100%");
    }
}

/// `getIntOrPercentValue`: text that is no percentage counts as a number if it is one.
pub(super) fn value(value: &IntOrString) -> i64 {
    match value {
        IntOrString::Int(number) => (*number).into(),
        IntOrString::String(text) => {
            let number = match percent(text) {
                None => text.trim_end_matches('%'),
                Some(_) => text,
            };
            number.parse().unwrap_or(0)
        }
    }
}

/// `ValidateReplicaSetSpec`.
pub fn replica_set(object: &ReplicaSet, selector_given: bool, at: &At<'_>, errors: &mut Errors) {
    let at = at.field("spec");
    let Some(spec) = &object.spec else {
        return;
    };
    errors.non_negative(&at.field("replicas"), spec.replicas.unwrap_or(0).into());
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    errors.non_negative(&at.field("minReadySeconds"), min_ready.into());
    let template = spec.template.clone().unwrap_or_default();
    replicas_of(&spec.selector, selector_given, &template, &at, errors);
}

/// `ValidateDaemonSetSpec`.
pub fn daemon_set(object: &DaemonSet, selector_given: bool, at: &At<'_>, errors: &mut Errors) {
    let at = at.field("spec");
    let Some(spec) = &object.spec else {
        return;
    };
    let (selector_at, template_at) = (at.field("selector"), at.field("template"));
    match selector(
        &spec.selector,
        selector_given,
        &spec.template,
        &selector_at,
        errors,
    ) {
        Selects::Everything => {
            let detail = "empty selector is invalid for daemonset";
            errors.invalid(&selector_at, &shown_selector(&spec.selector), detail);
        }
        Selects::Other => mismatch(&spec.template, &template_at, errors),
        Selects::Malformed | Selects::Template => {}
    }
    pod_template(&spec.template, &template_at, errors);
    keeps_running(&spec.template, "DaemonSet", &template_at, errors);
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    errors.non_negative(&at.field("minReadySeconds"), min_ready.into());
    let default = DaemonSetUpdateStrategy::default();
    let strategy = spec.update_strategy.as_ref().unwrap_or(&default);
    daemon_set_strategy(strategy, &at.field("updateStrategy"), errors);
    let limit = spec.revision_history_limit.unwrap_or(0);
    errors.non_negative(&at.field("revisionHistoryLimit"), limit.into());
}

fn daemon_set_strategy(strategy: &DaemonSetUpdateStrategy, at: &At<'_>, errors: &mut Errors) {
    let zero = IntOrString::Int(0);
    let rolling = strategy.rolling_update.as_ref();
    let unavailable = rolling
        .and_then(|r| r.max_unavailable.as_ref())
        .unwrap_or(&zero);
    let surge = rolling.and_then(|r| r.max_surge.as_ref()).unwrap_or(&zero);
    match strategy.type_.as_deref().unwrap_or_default() {
        "OnDelete" => {}
        "RollingUpdate" => {
            let at = at.field("rollingUpdate");
            let (unavailable_at, surge_at) = (at.field("maxUnavailable"), at.field("maxSurge"));
            int_or_percent(unavailable, &unavailable_at, errors);
            int_or_percent(surge, &surge_at, errors);
            at_most_all(unavailable, &unavailable_at, errors);
            at_most_all(surge, &surge_at, errors);
            match (value(unavailable) != 0, value(surge) != 0) {
                (true, true) => {
                    let detail = "may not be set when maxUnavailable is non-zero";
                    errors.invalid(&surge_at, &json!(surge), detail);
                }
                (false, false) => {
                    errors.required(&unavailable_at, "cannot be 0 when maxSurge is 0");
                }
                _ => {}
            }
        }
        kind => {
            // Without a known type nothing fills the rolling update in; it prints its zeros.
            let rolling =
                rolling.map(|_| json!({"MaxUnavailable": unavailable, "MaxSurge": surge}));
            let shown = json!({"Type": kind, "RollingUpdate": rolling});
            errors.not_supported(at, &shown, &["RollingUpdate", "OnDelete"]);
        }
    }
}

/// `ValidateReplicationControllerSpec`.
pub fn replication_controller(object: &ReplicationController, at: &At<'_>, errors: &mut Errors) {
    let at = at.field("spec");
    let Some(spec) = &object.spec else {
        return;
    };
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    errors.non_negative(&at.field("minReadySeconds"), min_ready.into());
    let pairs = spec.selector.clone().unwrap_or_default();
    if pairs.is_empty() {
        errors.required(&at.field("selector"), "");
    }
    errors.non_negative(&at.field("replicas"), spec.replicas.unwrap_or(0).into());
    let at = at.field("template");
    let Some(template) = &spec.template else {
        errors.required(&at, "");
        return;
    };
    let labels = template_labels(template).cloned().unwrap_or_default();
    if pairs
        .iter()
        .any(|(key, value)| labels.get(key) != Some(value))
    {
        mismatch(template, &at, errors);
    }
    pod_template(template, &at, errors);
    keeps_running(template, "ReplicationController", &at, errors);
}
