//! HorizontalPodAutoscalers (`pkg/apis/autoscaling/validation`).

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingRules, HorizontalPodAutoscaler, MetricIdentifier,
    MetricSpec, MetricTarget,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;

use super::field::{At, Errors};
use super::names::{dns_label, path_segment};
use super::resources::{amount, container_resource_name, non_negative};

/// `ValidateHorizontalPodAutoscaler`, without the metadata.
pub fn autoscaler(object: &HorizontalPodAutoscaler, at: &At<'_>, errors: &mut Errors) {
    let at = at.field("spec");
    let spec = &object.spec;
    let (least, most) = (spec.min_replicas, spec.max_replicas);
    let most_at = at.field("maxReplicas");
    if let Some(least) = least.filter(|n| *n < 1) {
        let detail = "must be greater than or equal to 1";
        errors.invalid(&at.field("minReplicas"), &least, detail);
    }
    if most == 0 {
        errors.required(&most_at, "must be set and greater than 0");
    } else if most < 0 {
        errors.invalid(&most_at, &most, "must be greater than or equal to 1");
    }
    if least.is_some_and(|least| most < least) {
        errors.invalid(
            &most_at,
            &most,
            "must be greater than or equal to `minReplicas`",
        );
    }
    reference(
        &spec.scale_target_ref,
        true,
        &at.field("scaleTargetRef"),
        errors,
    );
    let metrics_at = at.field("metrics");
    let metrics = spec.metrics.as_deref().unwrap_or_default();
    for (i, source) in metrics.iter().enumerate() {
        metric(source, &metrics_at.item(i), errors);
    }
    let elsewhere = metrics
        .iter()
        .any(|m| m.type_ == "Object" || m.type_ == "External");
    if least == Some(0) && !elsewhere {
        let detail = "must specify at least one Object or External metric to support scaling to \
                      zero replicas";
        errors.forbidden(&metrics_at, detail);
    }
    if let Some(behavior) = &spec.behavior {
        let at = at.field("behavior");
        for (field, rules) in [
            ("scaleUp", &behavior.scale_up),
            ("scaleDown", &behavior.scale_down),
        ] {
            if let Some(rules) = rules {
                scaling_rules(rules, &at.field(field), errors);
            }
        }
    }
}

/// `ValidateCrossVersionObjectReference`.
fn reference(
    target: &CrossVersionObjectReference,
    needs_group: bool,
    at: &At<'_>,
    errors: &mut Errors,
) {
    for (field, value) in [("kind", &target.kind), ("name", &target.name)] {
        if value.is_empty() {
            errors.required(&at.field(field), "");
        } else {
            errors.invalid_each(&at.field(field), value, path_segment(value));
        }
    }
    let version = target.api_version.as_deref().unwrap_or_default();
    let at = at.field("apiVersion");
    if version.matches('/').count() > 1 {
        let detail = format!("unexpected GroupVersion string: {version}");
        errors.invalid(&at, version, &detail);
    } else if needs_group
        && version
            .split_once('/')
            .is_none_or(|(group, _)| group.is_empty())
    {
        errors.invalid(&at, version, "apiVersion must specify API group");
    }
}

const METRIC_KINDS: [&str; 5] = [
    "ContainerResource",
    "External",
    "Object",
    "Pods",
    "Resource",
];

/// `validateMetricSpec`: one source, that of the type; the first one present is looked at.
fn metric(source: &MetricSpec, at: &At<'_>, errors: &mut Errors) {
    let kind = source.type_.as_str();
    if kind.is_empty() {
        errors.required(&at.field("type"), "must specify a metric source type");
    }
    let known = METRIC_KINDS.contains(&kind);
    if !known {
        errors.not_supported(&at.field("type"), kind, &METRIC_KINDS);
    }
    let present = [
        ("object", "Object", source.object.is_some()),
        ("external", "External", source.external.is_some()),
        ("pods", "Pods", source.pods.is_some()),
        ("resource", "Resource", source.resource.is_some()),
        (
            "containerResource",
            "ContainerResource",
            source.container_resource.is_some(),
        ),
    ];
    if let Some((field, ..)) = present.iter().find(|(.., there)| *there) {
        metric_source(source, field, &at.field(field), errors);
    }
    match present.iter().find(|(_, of, _)| *of == kind) {
        Some((field, _, false)) => {
            let detail = "must populate information for the given metric source";
            errors.required(&at.field(field), detail);
        }
        Some(_) => {}
        None => errors.not_supported(&at.field("type"), kind, &METRIC_KINDS),
    }
    if present.iter().filter(|(.., there)| *there).count() != 1 {
        for (field, ..) in present
            .iter()
            .filter(|(_, of, there)| *there && *of != kind)
        {
            errors.forbidden(
                &at.field(field),
                "must populate the given metric source only",
            );
        }
    }
}

fn metric_source(source: &MetricSpec, field: &str, at: &At<'_>, errors: &mut Errors) {
    let target_at = at.field("target");
    match field {
        "object" => {
            if let Some(object) = &source.object {
                let described = &object.described_object;
                reference(described, false, &at.field("describedObject"), errors);
                identifier(&object.metric, &at.field("metric"), errors);
                target(&object.target, &target_at, errors);
                if object.target.value.is_none() && object.target.average_value.is_none() {
                    let detail = "must set either a target value or averageValue";
                    errors.required(&target_at.field("averageValue"), detail);
                }
            }
        }
        "external" => {
            if let Some(external) = &source.external {
                identifier(&external.metric, &at.field("metric"), errors);
                target(&external.target, &target_at, errors);
                match (&external.target.value, &external.target.average_value) {
                    (None, None) => errors.required(
                        &target_at.field("averageValue"),
                        "must set either a target value for metric or a per-pod target",
                    ),
                    (Some(_), Some(_)) => errors.forbidden(
                        &target_at.field("value"),
                        "may not set both a target value for metric and a per-pod target",
                    ),
                    _ => {}
                }
            }
        }
        "pods" => {
            if let Some(pods) = &source.pods {
                identifier(&pods.metric, &at.field("metric"), errors);
                target(&pods.target, &target_at, errors);
                if pods.target.average_value.is_none() {
                    let detail = "must specify a positive target averageValue";
                    errors.required(&target_at.field("averageValue"), detail);
                }
            }
        }
        "resource" => {
            if let Some(resource) = &source.resource {
                if resource.name.is_empty() {
                    errors.required(&at.field("name"), "must specify a resource name");
                }
                utilization(&resource.target, &target_at, errors);
            }
        }
        _ => {
            if let Some(resource) = &source.container_resource {
                if resource.name.is_empty() {
                    errors.required(&at.field("name"), "must specify a resource name");
                } else {
                    container_resource_name(&resource.name, &at.field("name"), errors);
                }
                let container = &resource.container;
                if container.is_empty() {
                    errors.required(&at.field("container"), "must specify a container");
                } else {
                    errors.invalid_each(&at.field("container"), container, dns_label(container));
                }
                utilization(&resource.target, &target_at, errors);
            }
        }
    }
}

/// The target of a resource metric: utilisation or an amount.
fn utilization(source: &MetricTarget, at: &At<'_>, errors: &mut Errors) {
    target(source, at, errors);
    match (source.average_utilization, &source.average_value) {
        (None, None) => errors.required(
            &at.field("averageUtilization"),
            "must set either a target raw value or a target utilization",
        ),
        (Some(_), Some(_)) => errors.forbidden(
            &at.field("averageValue"),
            "may not set both a target raw value and a target utilization",
        ),
        _ => {}
    }
}

/// `validateMetricTarget`.
fn target(target: &MetricTarget, at: &At<'_>, errors: &mut Errors) {
    let kind = target.type_.as_str();
    if kind.is_empty() {
        errors.required(&at.field("type"), "must specify a metric target type");
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        let detail = "must be either Utilization, Value, or AverageValue";
        errors.invalid(&at.field("type"), kind, detail);
    }
    let positive = |value: &Option<Written>, at: &At<'_>, errors: &mut Errors| {
        if let Some(value) = value
            && amount(value).nanos() <= 0
        {
            errors.invalid(at, &value.0, "must be positive");
        }
    };
    positive(&target.value, &at.field("value"), errors);
    positive(&target.average_value, &at.field("averageValue"), errors);
    if let Some(percent) = target.average_utilization.filter(|percent| *percent < 1) {
        errors.invalid(
            &at.field("averageUtilization"),
            &percent,
            "must be greater than 0",
        );
    }
}

fn identifier(metric: &MetricIdentifier, at: &At<'_>, errors: &mut Errors) {
    if metric.name.is_empty() {
        errors.required(&at.field("name"), "must specify a metric name");
    } else {
        errors.invalid_each(&at.field("name"), &metric.name, path_segment(&metric.name));
    }
}

/// `validateScalingRules`.
fn scaling_rules(rules: &HPAScalingRules, at: &At<'_>, errors: &mut Errors) {
    if let Some(window) = rules.stabilization_window_seconds {
        let at = at.field("stabilizationWindowSeconds");
        if window < 0 {
            errors.invalid(&at, &window, "must be greater than or equal to zero");
        }
        if window > 3600 {
            errors.invalid(&at, &window, "must be less than or equal to 3600");
        }
    }
    if let Some(policy) = &rules.select_policy
        && !matches!(policy.as_str(), "Max" | "Min" | "Disabled")
    {
        errors.not_supported(
            &at.field("selectPolicy"),
            policy,
            &["Disabled", "Max", "Min"],
        );
    }
    let policies_at = at.field("policies");
    let policies = rules.policies.as_deref().unwrap_or_default();
    if policies.is_empty() {
        errors.required(&policies_at, "must specify at least one Policy");
    }
    for (i, policy) in policies.iter().enumerate() {
        let at = policies_at.item(i);
        if !matches!(policy.type_.as_str(), "Pods" | "Percent") {
            errors.not_supported(&at.field("type"), &policy.type_, &["Percent", "Pods"]);
        }
        if policy.value <= 0 {
            errors.invalid(
                &at.field("value"),
                &policy.value,
                "must be greater than zero",
            );
        }
        let period_at = at.field("periodSeconds");
        if policy.period_seconds <= 0 {
            errors.invalid(
                &period_at,
                &policy.period_seconds,
                "must be greater than zero",
            );
        }
        if policy.period_seconds > 1800 {
            let detail = "must be less than or equal to 1800";
            errors.invalid(&period_at, &policy.period_seconds, detail);
        }
    }
    if let Some(tolerance) = &rules.tolerance {
        non_negative(tolerance, &at.field("tolerance"), errors);
    }
}
