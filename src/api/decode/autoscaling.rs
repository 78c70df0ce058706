//! HorizontalPodAutoscalers.

use k8s_openapi::api::autoscaling::v2 as autoscaling;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
use serde_json::Value;

use super::DecodeContext;
use super::meta::{list, meta, text};
use super::pod_status::truth;
use super::workload::spec_json;
use crate::api::autoscaling::{
    AutoscalerStatus, Behavior, HorizontalPodAutoscaler, MetricSource, MetricSpec, MetricStatus,
    ScaleTarget, ScalingPolicy, ScalingRules, SelectPolicy,
};
use crate::api::quantity::Quantity;
use crate::api::quota::Amount;
use crate::api::workload::WorkloadCondition;

pub(super) fn autoscaler(
    source: &autoscaling::HorizontalPodAutoscaler,
    json: &Value,
    cx: &DecodeContext,
) -> HorizontalPodAutoscaler {
    let spec = &source.spec;
    let target = &spec.scale_target_ref;
    let behavior = spec.behavior.as_ref();
    HorizontalPodAutoscaler {
        meta: meta(&source.metadata, cx),
        target: ScaleTarget {
            api_version: text(&target.api_version),
            kind: target.kind.as_str().into(),
            name: target.name.as_str().into(),
        },
        min_replicas: spec.min_replicas.unwrap_or(1),
        max_replicas: spec.max_replicas,
        metrics: list(&spec.metrics).iter().filter_map(metric).collect(),
        behavior: behavior.map(|behavior| Behavior {
            up: rules(behavior.scale_up.as_ref()),
            down: rules(behavior.scale_down.as_ref()),
        }),
        source: spec_json(json),
        status: source
            .status
            .as_ref()
            .map(|status| self::status(status, cx))
            .unwrap_or_default(),
    }
}

fn metric(spec: &autoscaling::MetricSpec) -> Option<MetricSpec> {
    let (source, target) = match spec.type_.as_str() {
        "Resource" => {
            let of = spec.resource.as_ref()?;
            (MetricSource::Resource(of.name.as_str().into()), &of.target)
        }
        "ContainerResource" => {
            let of = spec.container_resource.as_ref()?;
            let source = MetricSource::Container {
                name: of.name.as_str().into(),
                container: of.container.as_str().into(),
            };
            (source, &of.target)
        }
        "Pods" => {
            let of = spec.pods.as_ref()?;
            let source = MetricSource::Pods(of.metric.name.as_str().into());
            (source, &of.target)
        }
        "Object" => {
            let of = spec.object.as_ref()?;
            let source = MetricSource::Object {
                name: of.metric.name.as_str().into(),
                kind: of.described_object.kind.as_str().into(),
                object: of.described_object.name.as_str().into(),
            };
            (source, &of.target)
        }
        _ => {
            let of = spec.external.as_ref()?;
            let selector = of.metric.selector.as_ref();
            let source = MetricSource::External {
                name: of.metric.name.as_str().into(),
                selector: selector.map_or("nil".into(), printed).into(),
            };
            (source, &of.target)
        }
    };
    Some(MetricSpec {
        source,
        utilization: target.average_utilization,
        average_milli: target
            .average_value
            .as_ref()
            .map(|value| quantity(value).milli_value()),
        value: target.type_ == "Value" && target.value.is_some(),
    })
}

fn quantity(written: &Written) -> Quantity {
    Quantity::parse(&written.0).unwrap_or_default()
}

/// A selector as Go prints a pointer to it (`%+v`).
fn printed(selector: &metav1::LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten();
    let labels: String = labels.map(|(k, v)| format!("{k}: {v},")).collect();
    let expressions = list(&selector.match_expressions).iter().map(|each| {
        format!(
            "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{}],}},",
            each.key,
            each.operator,
            list(&each.values).join(" ")
        )
    });
    let expressions: String = expressions.collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:\
         []LabelSelectorRequirement{{{expressions}}},}}"
    )
}

fn rules(source: Option<&autoscaling::HPAScalingRules>) -> ScalingRules {
    let policies = source.map_or(&[][..], |rules| list(&rules.policies)).iter();
    ScalingRules {
        window_s: source.and_then(|rules| rules.stabilization_window_seconds),
        select: match source.and_then(|rules| rules.select_policy.as_deref()) {
            Some("Min") => SelectPolicy::Min,
            Some("Disabled") => SelectPolicy::Disabled,
            _ => SelectPolicy::Max,
        },
        policies: policies
            .map(|policy| ScalingPolicy {
                percent: policy.type_ == "Percent",
                value: policy.value,
                period_s: policy.period_seconds,
            })
            .collect(),
        tolerance: source
            .and_then(|rules| rules.tolerance.as_ref())
            .map(quantity),
    }
}

fn status(
    source: &autoscaling::HorizontalPodAutoscalerStatus,
    cx: &DecodeContext,
) -> AutoscalerStatus {
    let condition = |condition: &autoscaling::HorizontalPodAutoscalerCondition| {
        let since = condition.last_transition_time.as_ref();
        let since = since.map_or(crate::engine::Time::ZERO, |time| cx.time(time.0));
        WorkloadCondition {
            kind: condition.type_.as_str().into(),
            status: truth(&condition.status),
            reason: text(&condition.reason),
            message: text(&condition.message),
            updated: since,
            since,
        }
    };
    AutoscalerStatus {
        current: source.current_replicas.unwrap_or(0),
        desired: source.desired_replicas,
        last_scale: source.last_scale_time.as_ref().map(|time| cx.time(time.0)),
        metrics: list(&source.current_metrics)
            .iter()
            .map(metric_status)
            .collect(),
        conditions: list(&source.conditions).iter().map(condition).collect(),
    }
}

fn metric_status(source: &autoscaling::MetricStatus) -> MetricStatus {
    let of = |name: &str, container: Option<&str>, value: &autoscaling::MetricValueStatus| {
        let average = value.average_value.as_ref();
        MetricStatus {
            resource: Some(name.into()),
            container: container.map(Into::into),
            utilization: value.average_utilization,
            value: average.map_or_else(Amount::default, |value| Amount::parse(&value.0)),
        }
    };
    match (&source.resource, &source.container_resource) {
        (Some(resource), _) => of(&resource.name, None, &resource.current),
        (None, Some(resource)) => of(&resource.name, Some(&resource.container), &resource.current),
        (None, None) => MetricStatus::default(),
    }
}
