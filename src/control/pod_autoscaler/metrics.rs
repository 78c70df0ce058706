//! What the metrics of an autoscaler ask for together (`computeReplicasForMetrics`).

use super::calculator::{Calculator, Proposal, Tolerances};
use super::scale::Scale;
use super::{Flags, Sync};
use crate::api::HorizontalPodAutoscaler;
use crate::api::autoscaling::{MetricSource, MetricSpec, MetricStatus};
use crate::api::quantity::{Format, Quantity};
use crate::api::quota::Amount;
use crate::client::{Plan, SyncContext};

/// What the custom metrics client says where nobody serves the API.
const NO_CUSTOM: &str = "unable to fetch metrics from custom metrics API: no custom metrics API \
                         (custom.metrics.k8s.io) registered";

/// The largest proposal, the metric that made it, and the state of all.
type Computed = (i32, String, Vec<MetricStatus>);

/// A metric that could not be had: the reason, the error as it is told, and as it is returned.
struct Failure {
    reason: &'static str,
    told: String,
    returned: String,
}

/// The largest number that a metric asks for. A metric that fails does not keep the others from
/// asking for more.
///
/// # Errors
/// When all metrics fail, or some do and the others ask for less: what is wrong with the first, and
/// the state of all.
pub(super) fn compute(
    sync: &mut Sync,
    scale: &Scale,
    flags: &Flags,
    cx: &SyncContext<'_>,
    plan: &mut Plan,
) -> Result<Computed, (String, Vec<MetricStatus>)> {
    let autoscaler = sync.autoscaler.clone();
    let pods = cx.view.pods().in_namespace(&autoscaler.meta.namespace);
    let calculator = Calculator {
        now: cx.now,
        flags,
        tolerances: tolerances(&autoscaler, flags),
        pods: pods
            .map(|(_, pod)| pod)
            .filter(|pod| scale.selector.matches(&pod.meta.labels))
            .collect(),
        metrics: cx.view.pod_metrics.as_deref(),
    };
    let (mut replicas, mut metric) = (0, String::new());
    let mut statuses = Vec::new();
    let (mut failed, mut first) = (0, None);
    for spec in &autoscaler.metrics {
        let namespace = autoscaler.meta.namespace.as_str();
        match one(&calculator, spec, scale.replicas, namespace) {
            Ok((proposal, name, status)) => {
                statuses.push(status);
                if replicas == 0 || proposal > replicas {
                    (replicas, metric) = (proposal, name);
                }
            }
            Err(failure) => {
                statuses.push(MetricStatus::default());
                plan.event(sync.event(failure.reason, failure.told.clone(), true));
                failed += 1;
                first.get_or_insert(failure);
            }
        }
    }
    let all = autoscaler.metrics.len();
    if let Some(first) = first
        && (failed >= all || replicas < scale.replicas)
    {
        let message = format!(
            "the HPA was unable to compute the replica count: {}",
            first.told
        );
        sync.set("ScalingActive", false, first.reason, message);
        let why = format!(
            "invalid metrics ({failed} invalid out of {all}), first error is: {}",
            first.returned
        );
        return Err((why, statuses));
    }
    let message =
        format!("the HPA was able to successfully calculate a replica count from {metric}");
    sync.set("ScalingActive", true, "ValidMetricFound", message);
    Ok((replicas, metric, statuses))
}

/// `tolerancesForHpa`.
fn tolerances(autoscaler: &HorizontalPodAutoscaler, flags: &Flags) -> Tolerances {
    let own =
        |tolerance: Option<Quantity>| tolerance.map_or(flags.tolerance, |t| t.nanos() as f64 / 1e9);
    let behavior = autoscaler.behavior.as_ref();
    Tolerances {
        down: own(behavior.and_then(|behavior| behavior.down.tolerance)),
        up: own(behavior.and_then(|behavior| behavior.up.tolerance)),
    }
}

/// `computeReplicasForMetric`.
fn one(
    calculator: &Calculator<'_>,
    spec: &MetricSpec,
    current: i32,
    namespace: &str,
) -> Result<(i32, String, MetricStatus), Failure> {
    match &spec.source {
        MetricSource::Resource(name) => {
            resource(calculator, spec, current, name, None).map_err(|told| Failure {
                reason: "FailedGetResourceMetric",
                returned: format!("failed to get {name} resource metric value: {told}"),
                told,
            })
        }
        MetricSource::Container { name, container } => {
            let found = resource(calculator, spec, current, name, Some(container));
            found.map_err(|told| Failure {
                reason: "FailedGetContainerResourceMetric",
                returned: format!("failed to get {container} container metric value: {told}"),
                told,
            })
        }
        MetricSource::Pods(name) => {
            let told = format!("unable to get metric {name}: {NO_CUSTOM}");
            Err(Failure {
                reason: "FailedGetPodsMetric",
                returned: format!("failed to get pods metric value: {told}"),
                told,
            })
        }
        MetricSource::Object { name, kind, object } => {
            let told =
                format!("unable to get metric {name}: {NO_CUSTOM} on {kind} {namespace}/{object}");
            let wrapped = match spec.value {
                true => told.clone(),
                false => format!("failed to get {name} object metric: {told}"),
            };
            Err(Failure {
                reason: "FailedGetObjectMetric",
                returned: format!("failed to get object metric value: {wrapped}"),
                told,
            })
        }
        MetricSource::External { name, selector } => {
            let told = format!(
                "unable to get external metric {namespace}/{name}/{selector}: unable to fetch \
                 metrics from external metrics API: the server could not find the requested \
                 resource (get {name}.external.metrics.k8s.io)"
            );
            let wrapped = match spec.average_milli {
                Some(_) => format!("failed to get {name} external metric: {told}"),
                None => format!("failed to get external metric {name}: {told}"),
            };
            Err(Failure {
                reason: "FailedGetExternalMetric",
                returned: format!("failed to get {name} external metric value: {wrapped}"),
                told,
            })
        }
    }
}

/// `computeStatusForResourceMetricGeneric`.
fn resource(
    calculator: &Calculator<'_>,
    spec: &MetricSpec,
    current: i32,
    name: &str,
    container: Option<&str>,
) -> Result<(i32, String, MetricStatus), String> {
    let status = |proposal: &Proposal, utilization: Option<i32>| MetricStatus {
        resource: Some(name.into()),
        container: container.map(Into::into),
        utilization,
        value: printed(name, proposal.raw),
    };
    if let Some(target) = spec.average_milli {
        let proposal = calculator
            .by_value(current, target, name, container)
            .map_err(|why| format!("failed to get {name} usage: {why}"))?;
        let status = status(&proposal, None);
        return Ok((proposal.replicas, format!("{name} resource"), status));
    }
    let Some(target) = spec.utilization else {
        let why = "invalid resource metric source: neither an average utilization target nor an \
                   average value (usage) target was set";
        return Err(why.to_owned());
    };
    let proposal = calculator
        .by_utilization(current, target, name, container)
        .map_err(|why| format!("failed to get {name} utilization: {why}"))?;
    let of = if container.is_some() {
        "container "
    } else {
        ""
    };
    let metric = format!("{name} {of}resource utilization (percentage of request)");
    let status = status(&proposal, Some(proposal.utilization));
    Ok((proposal.replicas, metric, status))
}

/// `buildQuantity`.
fn printed(resource: &str, milli: i64) -> Amount {
    Amount {
        quantity: Quantity::from_nanos(i128::from(milli) * 1_000_000),
        format: match resource {
            "memory" => Format::BinarySi,
            _ => Format::DecimalSi,
        },
    }
}
