//! An autoscaler and the pods of its target, and what a sync writes. Cases of
//! `pkg/controller/podautoscaler/horizontal_test.go`.

use serde_json::{Value, json};

use super::*;
use crate::api::Object;
use crate::api::autoscaling::{ContainerMetrics, PodMetrics};
use crate::api::decode::{DecodeContext, decode_json};
use crate::api::pod_status::{Phase, PodCondition, PodConditionKind};
use crate::client::Step;
use crate::engine::Draws;
use crate::store::{Cause, ObjectId, Receipt};

mod world;

use world::{World, autoscaler, check, cpu, deployment, qps, row};

const FOUND: &str = "ScalingActive=True/ValidMetricFound";

/// `TestScaleUp`, `TestEventCreated`.
#[test]
fn more_usage_brings_more_replicas() {
    // 1500 of 3000 are 50 %: 3 x 50/30 = 5.
    let mut world = World::new(&json!({"maxReplicas": 6}), 3, &[300, 500, 700]);
    check(
        &mut world,
        &format!(
            "scale deployments 5
            Normal SuccessfulRescale: New size: 5; reason: cpu resource utilization (percentage of \
             request) above target
            status 3/5 AbleToScale=True/SucceededRescale {FOUND} \
             ScalingLimited=False/DesiredWithinRange cpu=50%/500m"
        ),
    );
    assert_eq!(
        world.condition("AbleToScale"),
        "True SucceededRescale: the HPA controller was able to update the target scale to 5"
    );
    assert_eq!(
        world.condition("ScalingActive"),
        "True ValidMetricFound: the HPA was able to successfully calculate a replica count from \
         cpu resource utilization (percentage of request)"
    );
}

/// `TestTolerance`, `TestAvoidUnnecessaryUpdates`, `TestEventNotCreated`.
#[test]
fn within_the_tolerance_nothing_is_scaled_and_the_same_status_is_not_written_again() {
    let mut world = World::new(&json!({"metrics": [cpu(100)]}), 3, &[1010, 1030, 1020]);
    check(
        &mut world,
        &format!(
            "status 3/3 AbleToScale=True/ReadyForNewScale {FOUND} \
             ScalingLimited=False/DesiredWithinRange cpu=102%/1020m"
        ),
    );
    assert_eq!(world.sync(), [""; 0]);
}

/// `TestScaleDown`, `TestScaleDownStabilizeInitialSize`.
#[test]
fn fewer_replicas_wait_for_five_minutes_of_low_recommendations() {
    let spec = json!({"metrics": [cpu(50)]});
    let mut world = World::new(&spec, 5, &[100, 300, 500, 250, 250]);
    let mut syncs = Vec::new();
    while syncs.len() < 30 {
        let lines = world.sync();
        let scaled = lines.iter().any(|line| line.starts_with("scale"));
        syncs.push(lines);
        if scaled {
            break;
        }
        // Metrics are new every time.
        world.use_cpu(&[100, 300, 500, 250, 250]);
    }
    // The first sync recommends its own size, and that is 300 s old 20 syncs later; it counts until
    // it is older.
    assert_eq!(syncs.len(), 22);
    assert_eq!(
        world.condition("AbleToScale"),
        "True SucceededRescale: the HPA controller was able to update the target scale to 3"
    );
    assert!(syncs[0][0].contains("AbleToScale=True/ScaleDownStabilized"));
    assert_eq!(
        syncs[21][1],
        "Normal SuccessfulRescale: New size: 3; reason: All metrics below target"
    );
}

/// `TestScaleDownWithScalingRules`.
#[test]
fn a_behavior_without_a_window_scales_down_at_once_as_fast_as_its_policies_say() {
    let behavior = json!({"scaleDown": {"stabilizationWindowSeconds": 0, "policies": [
        {"type": "Pods", "value": 1, "periodSeconds": 30}]}});
    let spec = json!({"metrics": [cpu(50)], "behavior": behavior});
    let usage = [100, 100, 100, 100, 100];
    let mut world = World::new(&spec, 5, &usage);
    let syncs: Vec<(bool, String)> = (0..5)
        .map(|_| {
            let scaled = world.sync()[0].starts_with("scale deployments");
            let limited = world.condition("ScalingLimited");
            (
                scaled,
                limited.split(':').next().unwrap_or_default().to_owned(),
            )
        })
        .collect();
    // One pod in every 30 s, which are over when two syncs have passed; two is `minReplicas`.
    let expected = [
        (true, "True ScaleDownLimit"),
        (false, "True ScaleDownLimit"),
        (true, "True ScaleDownLimit"),
        (false, "True ScaleDownLimit"),
        (true, "True TooFewReplicas"),
    ];
    assert_eq!(
        syncs,
        expected.map(|(scaled, said)| (scaled, said.to_owned()))
    );
}

/// `TestTooFewReplicas`, `TestTooManyReplicas`, `TestMinReplicas`, `TestMaxReplicas`,
/// `TestUpscaleCap`, `TestZeroReplicas`.
#[test]
fn bounds_come_first() {
    // spec, replicas, usage -> the first two lines
    let above = "Current number of replicas above Spec.MaxReplicas";
    let below = "Current number of replicas below Spec.MinReplicas";
    let usage = "cpu resource utilization (percentage of request) above target";
    let least = json!({"minReplicas": 3, "metrics": [cpu(90)]});
    let cap = json!({"maxReplicas": 100, "metrics": [cpu(10)]});
    let table: [(Value, i32, &[u64], String, &str); 5] = [
        (json!({}), 1, &[100], format!("2 {below}"), "AbleToScale"),
        (json!({}), 12, &[100], format!("10 {above}"), "AbleToScale"),
        (
            json!({"maxReplicas": 5}),
            3,
            &[8000, 9500, 1000],
            format!("5 {usage}"),
            "TooManyReplicas",
        ),
        (least, 2, &[10, 95], format!("3 {below}"), "AbleToScale"),
        // 3 x 100/10 would be 30.
        (
            cap,
            3,
            &[1000, 1000, 1000],
            format!("6 {usage}"),
            "ScaleUpLimit",
        ),
    ];
    for (spec, replicas, usage, expected, said) in table {
        let mut world = World::new(&spec, replicas, usage);
        let lines = world.sync();
        let (n, why) = expected.split_once(' ').expect("two words");
        assert_eq!(lines[0], format!("scale deployments {n}"));
        let event = format!("Normal SuccessfulRescale: New size: {n}; reason: {why}");
        assert_eq!(lines[1], event);
        assert!(lines[2].contains(said), "{}", lines[2]);
    }
    let mut world = World::new(&json!({}), 0, &[]);
    check(
        &mut world,
        "status 0/0 AbleToScale=True/SucceededGetScale ScalingActive=False/ScalingDisabled",
    );
}

/// `TestConditionFailedGetMetrics`, `TestMissingReports`, `TestEmptyMetrics`: what a cluster without
/// adapters shows.
#[test]
fn metrics_that_cannot_be_had_are_told() {
    let custom = "unable to fetch metrics from custom metrics API: no custom metrics API \
                  (custom.metrics.k8s.io) registered";
    let selector = "&LabelSelector{MatchLabels:map[string]string{q: a,},MatchExpressions:\
                    []LabelSelectorRequirement{},}";
    let external = format!(
        "unable to get external metric default/qps/{selector}: unable to fetch metrics from \
         external metrics API: the server could not find the requested resource (get \
         qps.external.metrics.k8s.io)"
    );
    let object = format!("unable to get metric qps: {custom} on Service default/web");
    let pods = format!("unable to get metric qps: {custom}");
    // metric, reason, what is told, how the first error begins
    let table = [
        (
            qps("Pods"),
            "FailedGetPodsMetric",
            &pods,
            "failed to get pods metric value: ",
        ),
        (
            qps("Object"),
            "FailedGetObjectMetric",
            &object,
            "failed to get object metric value: ",
        ),
        (
            qps("External"),
            "FailedGetExternalMetric",
            &external,
            "failed to get qps external metric value: failed to get qps external metric: ",
        ),
    ];
    for (metric, reason, told, prefix) in table {
        let mut world = World::new(&json!({"metrics": [metric]}), 3, &[300, 500, 700]);
        check(
            &mut world,
            &format!(
                "Warning {reason}: {told}
                status 3/0 AbleToScale=True/SucceededGetScale ScalingActive=False/{reason} ?=-/0
                Warning FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1), first \
                 error is: {prefix}{told}"
            ),
        );
        let condition =
            format!("False {reason}: the HPA was unable to compute the replica count: {told}");
        assert_eq!(world.condition("ScalingActive"), condition);
    }
    let mut world = World::new(&json!({}), 3, &[]);
    let told = "failed to get cpu utilization: unable to get metrics for resource cpu: no metrics \
                returned from resource metrics API";
    check(
        &mut world,
        &format!(
            "Warning FailedGetResourceMetric: {told}
            status 3/0 AbleToScale=True/SucceededGetScale \
             ScalingActive=False/FailedGetResourceMetric ?=-/0
            Warning FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1), first error \
             is: failed to get cpu resource metric value: {told}"
        ),
    );
}

/// `TestScaleUpOneMetricInvalid`, `TestNoScaleDownOneMetricInvalid`.
#[test]
fn one_metric_that_fails_keeps_others_from_scaling_down_only() {
    let spec = json!({"metrics": [qps("Pods"), cpu(30)]});
    let mut world = World::new(&spec, 3, &[300, 500, 700]);
    let lines = world.sync();
    assert_eq!(lines[1], "scale deployments 5");
    assert!(lines[3].ends_with("?=-/0 cpu=50%/500m"), "{}", lines[3]);

    let spec = json!({"metrics": [qps("Pods"), cpu(50)]});
    let mut world = World::new(&spec, 5, &[100, 300, 500, 250, 250]);
    let lines = world.sync();
    assert!(lines[1].starts_with("status 5/0 "), "{}", lines[1]);
    assert!(
        lines[2].starts_with("Warning FailedComputeMetricsReplicas: invalid metrics (1 invalid")
    );
}

/// `TestConditionFailedGetScale`: targets that are not there, or have no scale.
#[test]
fn a_target_without_a_scale_is_told() {
    let target = |version: &str, kind: &str, name: &str| json!({"scaleTargetRef": {"apiVersion": version, "kind": kind, "name": name}});
    let table = [
        (
            target("apps/v1", "Deployment", "api"),
            "deployments.apps \"api\" not found",
        ),
        (
            target("apps/v1", "StatefulSet", "web"),
            "statefulsets.apps \"web\" not found",
        ),
        (
            target("extensions/v1beta1", "Deployment", "web"),
            "no matches for kind \"Deployment\" in group \"extensions\"",
        ),
        (
            target("apps/v1", "DaemonSet", "web"),
            "the server could not find the requested resource",
        ),
        (
            target("argoproj.io/v1alpha1", "Rollout", "web"),
            "no matches for kind \"Rollout\" in group \"argoproj.io\"",
        ),
    ];
    for (spec, why) in table {
        let mut world = World::new(&spec, 3, &[300, 500, 700]);
        check(
            &mut world,
            &format!(
                "Warning FailedGetScale: {why}
                status 0/0 AbleToScale=False/FailedGetScale"
            ),
        );
        assert_eq!(
            world.condition("AbleToScale"),
            format!(
                "False FailedGetScale: the HPA controller was unable to get the target's current \
                 scale: {why}"
            )
        );
    }
}

/// `TestConditionFailedUpdateScale`.
#[test]
fn a_scale_that_cannot_be_written_is_told() {
    let mut world = World::new(&json!({"maxReplicas": 5}), 8, &[]);
    world.refuses = Some(ApiError::Forbidden("no".into()));
    let why = ApiError::Forbidden("no".into()).to_string();
    check(
        &mut world,
        &format!(
            "scale deployments 5
            Warning FailedRescale: New size: 5; reason: Current number of replicas above \
             Spec.MaxReplicas; error: {why}
            status 8/0 AbleToScale=False/FailedUpdateScale"
        ),
    );
    // It is tried again in the next period.
    assert_eq!(world.sync()[0], "scale deployments 5");
}

/// `TestConditionAmbiguousSelectorWhenFullSelectorOverlapBetweenHPAs`.
#[test]
fn two_autoscalers_of_the_same_pods_both_stand_still() {
    let mut world = World::new(&json!({}), 3, &[300, 500, 700]);
    world.put(1, row(&autoscaler("twin", &json!({}))));
    world.put(1, row(&deployment("twin", "web", 3)));
    // Nothing is known of the other's target before its first sync.
    assert_eq!(world.sync()[0], "scale deployments 5");
    let (view, draws) = (world.view.clone(), Draws::new(1));
    let cx = SyncContext {
        now: world.now,
        view: &view,
        draws: &draws,
    };
    world.controller.sync(Key::new(1), &cx);
    let told =
        "pods by selector app=web are controlled by multiple HPAs: [default/web default/twin]";
    let lines = world.sync();
    assert_eq!(lines[0], format!("Warning AmbiguousSelector: {told}"));
    assert_eq!(
        world.condition("ScalingActive"),
        format!("False AmbiguousSelector: {told}")
    );
    assert!(lines[2].ends_with(told));
}

/// `TestScaleUpContainer`, `TestBuildQuantity`.
#[test]
fn a_metric_of_containers_and_one_of_amounts() {
    let of = json!({"type": "ContainerResource", "containerResource": {"name": "cpu",
        "container": "c", "target": {"type": "Utilization", "averageUtilization": 30}}});
    let mut world = World::new(&json!({"metrics": [of]}), 3, &[300, 500, 700]);
    assert_eq!(
        world.sync()[1],
        "Normal SuccessfulRescale: New size: 5; reason: cpu container resource utilization \
         (percentage of request) above target"
    );
    let of = json!({"type": "Resource", "resource": {"name": "cpu", "target":
        {"type": "AverageValue", "averageValue": "300m"}}});
    let mut world = World::new(&json!({"metrics": [of]}), 3, &[300, 500, 700]);
    let lines = world.sync();
    let event = "Normal SuccessfulRescale: New size: 5; reason: cpu resource above target";
    assert_eq!(lines[1], event);
    assert!(lines[2].ends_with("cpu=-/500m"), "{}", lines[2]);
}

/// `TestHPARescaleWithSuccessfulConflictRetry` has no counterpart: the scale is patched. What the
/// process knew is gone with it.
#[test]
fn a_restart_forgets_recommendations() {
    let spec = json!({"metrics": [cpu(50)]});
    let usage = [100, 300, 500, 250, 250];
    let mut world = World::new(&spec, 5, &usage);
    for _ in 0..10 {
        world.sync();
    }
    world.controller.restart();
    let mut keys = Keys::default();
    let view = world.view.clone();
    world.controller.resync(&view, world.now, &mut keys);
    assert_eq!(keys.after.len(), 1);
    world.use_cpu(&usage);
    for _ in 0..21 {
        assert!(!world.sync().iter().any(|line| line.starts_with("scale")));
    }
    assert_eq!(world.sync()[0], "scale deployments 3");
}

/// The object as the API server prints it.
#[test]
fn an_autoscaler_prints_what_it_found() {
    let mut world = World::new(&json!({}), 3, &[300, 500, 700]);
    world.sync();
    let autoscaler = world.view.of::<HorizontalPodAutoscaler>().get(Id::new(0));
    let autoscaler = autoscaler.expect("an autoscaler").clone();
    let json = crate::api::print::to_json(&autoscaler.into_row());
    let status = &json["status"];
    assert_eq!(
        (&status["currentReplicas"], &status["desiredReplicas"]),
        (&json!(3), &json!(5))
    );
    assert_eq!(status["lastScaleTime"], "1970-01-01T00:16:40Z");
    assert_eq!(
        status["currentMetrics"],
        json!([{"type": "Resource", "resource": {"name": "cpu", "current": {
            "averageUtilization": 50, "averageValue": "500m"}}}])
    );
    // And reads it again.
    let Row::HorizontalPodAutoscaler(again) = row(&json) else {
        panic!("{json}")
    };
    assert_eq!(again.status.metrics.len(), 1);
    assert_eq!(again.status.metrics[0].value.to_string(), "500m");
    assert_eq!(
        crate::api::print::to_json(&again.into_row())["status"],
        *status
    );
}
