//! HorizontalPodAutoscalers (`pkg/apis/autoscaling/v2/defaults.go`).

use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec,
    MetricSpec, MetricTarget, ResourceMetricSource,
};

use super::amount;

/// `SetDefaults_HorizontalPodAutoscaler`.
pub fn autoscaler(object: &mut HorizontalPodAutoscaler) {
    let spec: &mut HorizontalPodAutoscalerSpec = &mut object.spec;
    spec.min_replicas.get_or_insert(1);
    if spec.metrics.as_ref().is_none_or(Vec::is_empty) {
        spec.metrics = Some(vec![MetricSpec {
            type_: "Resource".to_owned(),
            resource: Some(ResourceMetricSource {
                name: "cpu".to_owned(),
                target: MetricTarget {
                    type_: "Utilization".to_owned(),
                    average_utilization: Some(80),
                    ..MetricTarget::default()
                },
            }),
            ..MetricSpec::default()
        }]);
    }
    for metric in spec.metrics.iter_mut().flatten() {
        for target in targets(metric) {
            for value in [&mut target.value, &mut target.average_value]
                .into_iter()
                .flatten()
            {
                amount(value);
            }
        }
    }
    if let Some(behavior) = &mut spec.behavior {
        let up = [policy("Pods", 4), policy("Percent", 100)];
        rules(behavior.scale_up.get_or_insert_default(), &up, Some(0));
        let down = [policy("Percent", 100)];
        rules(behavior.scale_down.get_or_insert_default(), &down, None);
    }
}

fn targets(metric: &mut MetricSpec) -> impl Iterator<Item = &mut MetricTarget> {
    let targets = [
        metric.resource.as_mut().map(|m| &mut m.target),
        metric.container_resource.as_mut().map(|m| &mut m.target),
        metric.pods.as_mut().map(|m| &mut m.target),
        metric.object.as_mut().map(|m| &mut m.target),
        metric.external.as_mut().map(|m| &mut m.target),
    ];
    targets.into_iter().flatten()
}

fn policy(kind: &str, value: i32) -> HPAScalingPolicy {
    HPAScalingPolicy {
        type_: kind.to_owned(),
        value,
        period_seconds: 15,
    }
}

/// `GenerateHPAScaleUpRules` and `GenerateHPAScaleDownRules`.
fn rules(rules: &mut HPAScalingRules, policies: &[HPAScalingPolicy], window: Option<i32>) {
    rules.select_policy.get_or_insert_with(|| "Max".to_owned());
    if rules.stabilization_window_seconds.is_none() {
        rules.stabilization_window_seconds = window;
    }
    rules.policies.get_or_insert_with(|| policies.to_vec());
    if let Some(tolerance) = &mut rules.tolerance {
        amount(tolerance);
    }
}
