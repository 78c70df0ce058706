//! Pods with their usage, and what a target makes of them. Cases of
//! `pkg/controller/podautoscaler/replica_calculator_test.go`, whose initialization period is 2 min
//! and readiness delay 10 s; its pods are 3 min old and it samples over 1 min.

use super::*;
use crate::api::autoscaling::ContainerMetrics;
use crate::api::pod_status::PodCondition;
use crate::api::{Meta, PodSpec, PodStatus};

const NOW: Time = Time::from_secs(1000);

/// Pods in words: usage in thousandths, after `/` a request other than 1000, then letters: `u`
/// never ready, `h` started 30 s ago, `p` pending, `f` failed, `d` being deleted. `-` is a pod
/// without metrics.
fn pods(text: &str) -> (Vec<Arc<Pod>>, PodMetricsList) {
    let mut metrics = PodMetricsList::new();
    let one = |(n, word): (usize, &str)| {
        let name = Text::from(format!("web-{n}"));
        let flags = word.trim_start_matches(|c: char| c.is_ascii_digit() || "/-".contains(c));
        let numbers = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let (usage, request) = numbers.split_once('/').unwrap_or((numbers, "1000"));
        let started = Time::from_secs(if flags.contains('h') { 970 } else { 820 });
        let ready = PodCondition {
            kind: PodConditionKind::Ready,
            observed_generation: 0,
            status: Truth::from(!flags.contains('u')),
            since: started,
            reason: None,
            message: None,
        };
        let phase = match flags {
            _ if flags.contains('p') => Phase::Pending,
            _ if flags.contains('f') => Phase::Failed,
            _ => Phase::Running,
        };
        if let Ok(milli) = usage.parse::<u64>() {
            let container = ContainerMetrics {
                name: "c".into(),
                cpu_nanos: milli * 1_000_000,
                memory: milli,
            };
            let sample = PodMetrics {
                timestamp: NOW,
                window: Duration::from_secs(60),
                containers: vec![container],
            };
            metrics.insert(("default".into(), name.clone()), sample);
        }
        let request: i64 = request.parse().expect("a request");
        let container = Container {
            name: "c".into(),
            requests: Resources {
                cpu_milli: request,
                memory: request,
                named: 3,
                ..Resources::default()
            },
            ..Container::default()
        };
        Arc::new(Pod {
            meta: Meta {
                namespace: "default".into(),
                name,
                deletion: flags.contains('d').then_some(crate::api::meta::Deletion {
                    at: NOW,
                    grace_s: 30,
                }),
                ..Meta::default()
            },
            spec: Arc::new(PodSpec {
                containers: vec![container],
                ..PodSpec::default()
            }),
            node_name: Some("n".into()),
            status: PodStatus {
                phase,
                start_time: Some(started),
                conditions: [ready].into_iter().collect(),
                ..PodStatus::default()
            }
            .into(),
        })
    };
    let pods = text.split_whitespace().enumerate().map(one).collect();
    (pods, metrics)
}

fn flags() -> Flags {
    Flags {
        cpu_initialization_period: Duration::from_secs(120),
        initial_readiness_delay: Duration::from_secs(10),
        ..Flags::default()
    }
}

fn with<T>(text: &str, tolerances: (f64, f64), ask: impl FnOnce(Calculator<'_>) -> T) -> T {
    let (pods, metrics) = pods(text);
    ask(Calculator {
        now: NOW,
        flags: &flags(),
        tolerances: Tolerances {
            down: tolerances.0,
            up: tolerances.1,
        },
        pods: pods.iter().collect(),
        metrics: Some(&metrics),
    })
}

/// `replicas at utilization% of raw`, or the error.
fn answer(result: Result<Proposal, String>) -> String {
    match result {
        Ok(p) => format!("{} at {}% {}m", p.replicas, p.utilization, p.raw),
        Err(why) => why,
    }
}

fn utilization(text: &str, current: i32, target: i32) -> String {
    with(text, (0.1, 0.1), |calculator| {
        answer(calculator.by_utilization(current, target, "cpu", None))
    })
}

/// `TestReplicaCalcScaleUp*`, `TestReplicaCalcScaleDown*`, `TestReplicaCalcTolerance`,
/// `TestReplicaCalcMissingMetrics*`, `TestReplicaCalcDuringRollingUpdateWithMaxSurge`.
#[test]
fn a_target_in_percent_asks_for_replicas() {
    // (pods, current, target) -> answer
    let table = [
        // 1500 of 3000 are 50 %; 3 x 50/30 = 5.
        ("300 500 700", 3, 30, "5 at 50% 500m"),
        // The unready one counts as idle: 1200 of 3000 are 40 %, 3 x 40/30 = 4.
        ("300u 500 700", 3, 30, "4 at 60% 600m"),
        ("300h 500 700", 3, 30, "4 at 60% 600m"),
        // 40 % without the unready, 13 % with them: the direction would turn.
        ("400 500u 700u", 3, 30, "3 at 40% 400m"),
        ("400 500uh 700uh", 3, 30, "3 at 40% 400m"),
        ("500 700 -uf -uf", 2, 30, "4 at 60% 600m"),
        ("500 700 -ud -ud", 2, 30, "4 at 60% 600m"),
        // 1400 of 5000 are 28 %; 5 x 28/50 = 2.8.
        ("100 300 500 250 250", 5, 50, "3 at 28% 280m"),
        ("100 300 500 250u 250u", 5, 50, "2 at 30% 300m"),
        ("100 300 500 250h 250h", 5, 50, "2 at 30% 300m"),
        ("100 -up -up -up -up", 5, 50, "1 at 10% 100m"),
        ("100 300 500 250 250 -uf -uf", 5, 50, "3 at 28% 280m"),
        ("100 300 500 250 250 -ud -ud", 5, 50, "3 at 28% 280m"),
        // 3060 of 3000 are 102 %: within a tenth.
        ("1010/900 1030 1020/1100", 3, 100, "3 at 102% 1020m"),
        // 495 of 2000 are 24 %; with 1000 for the two missing 62 %: 4 x 0.62.
        ("400 95 - -", 4, 100, "3 at 24% 247m"),
        ("1000 -", 2, 100, "2 at 100% 1000m"),
        // 190 % alone, 95 % with the missing one idle.
        ("1900 -", 2, 100, "2 at 190% 1900m"),
        // 60 % alone, 80 % with the missing one busy: 1.6 of 2.
        ("600 -", 2, 100, "2 at 60% 600m"),
        ("100u 450 -", 3, 50, "3 at 45% 450m"),
        ("100h 450 -", 3, 50, "3 at 45% 450m"),
        // 200 % alone; 2000 of 3000 are 66 %: 3 x 66/50.
        ("100u 2000 -", 3, 50, "4 at 200% 2000m"),
        ("100uh 2000 -", 3, 50, "4 at 200% 2000m"),
        // 10 % alone; 1200 of 3000 are 40 %: 3 x 40/50.
        ("100u 100 100 -", 4, 50, "3 at 10% 100m"),
        // The missing one counts with the target: 300 % of 2000.
        ("200u 100 100/2000 -/2000", 4, 300, "2 at 6% 100m"),
        // A third pod surges, and its absence must not add a replica.
        ("100 100 -", 2, 50, "2 at 10% 100m"),
    ];
    for (pods, current, target, expected) in table {
        assert_eq!(utilization(pods, current, target), expected, "{pods}");
    }
}

/// `TestReplicaCalcConfigurableTolerance`.
#[test]
fn tolerances_up_and_down_differ() {
    let table = [
        ("909/900 1010 1111/1100", (0.0, 0.0), 100, "4 at 101% 1010m"),
        (
            "1890/900 1910 1900/1100",
            (0.1, 2.0),
            100,
            "3 at 190% 1900m",
        ),
        (
            "1100/900 1080 1090/1100",
            (2.0, 0.08),
            100,
            "4 at 109% 1090m",
        ),
        ("640/900 630 650/1100", (0.36, 0.1), 100, "3 at 64% 640m"),
        ("640/900 630 650/1100", (0.35, 0.1), 100, "2 at 64% 640m"),
    ];
    for (pods, tolerances, target, expected) in table {
        let got = with(pods, tolerances, |calculator| {
            answer(calculator.by_utilization(3, target, "cpu", None))
        });
        assert_eq!(got, expected, "{pods} {tolerances:?}");
    }
}

/// `TestReplicaCalcScaleUpCM*` and `TestReplicaCalcToleranceCM`, with memory: what is said of the
/// youth of pods is said of CPU only.
#[test]
fn a_target_in_amounts_asks_for_replicas() {
    let table = [
        ("20 10 30", 3, 15_000, "4 at 0% 20000m"),
        ("50 10 30uh", 3, 15_000, "6 at 0% 30000m"),
        ("50uh 15 30uh", 3, 15_000, "7 at 0% 31666m"),
        ("20 21 21", 3, 20_000, "3 at 0% 20666m"),
        // `TestPlainMetricReplicaCalcMissingMetricsNoChangeEq`.
        ("20 19 21 - -", 5, 20_000, "5 at 0% 20000m"),
        // `TestReplicaCalcDuringRollingUpdateWithMaxSurgeCM`.
        ("10 10 -", 2, 17_000, "2 at 0% 10000m"),
    ];
    for (pods, current, target, expected) in table {
        let got = with(pods, (0.1, 0.1), |calculator| {
            answer(calculator.by_value(current, target, "memory", None))
        });
        assert_eq!(got, expected, "{pods}");
    }
}

/// `TestReplicaCalcEmptyMetrics`, `TestReplicaCalcEmptyCPURequest`,
/// `TestCalculatePodRequestsFromContainers_NonExistentContainer`.
#[test]
fn what_is_not_known_is_an_error_in_upstreams_words() {
    let none =
        "unable to get metrics for resource cpu: no metrics returned from resource metrics API";
    assert_eq!(utilization("- - -", 4, 100), none);
    assert_eq!(utilization("", 1, 100), none);
    assert_eq!(utilization("300u", 1, 100), NO_METRICS);
    let missing = with("100", (0.1, 0.1), |calculator| {
        answer(calculator.by_utilization(1, 50, "cpu", Some("side")))
    });
    assert_eq!(missing, NO_METRICS);
    let unserved = with("100", (0.1, 0.1), |calculator| {
        let calculator = Calculator {
            metrics: None,
            ..calculator
        };
        answer(calculator.by_utilization(1, 50, "cpu", None))
    });
    assert_eq!(
        unserved,
        "unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: \
         the server could not find the requested resource (get pods.metrics.k8s.io)"
    );
}

fn container(name: &str, cpu: Option<i64>, sidecar: bool) -> Container {
    Container {
        name: name.into(),
        requests: Resources {
            cpu_milli: cpu.unwrap_or(0),
            named: u8::from(cpu.is_some()),
            ..Resources::default()
        },
        restart_always: sidecar,
        ..Container::default()
    }
}

/// `TestCalculateRequests`.
#[test]
fn requests_are_those_of_all_containers_that_go_on_running() {
    let pod = |app: Option<i64>, side: Option<i64>, whole: Option<i64>| {
        let (mut pods, _) = pods("100");
        let pod = Arc::make_mut(&mut pods[0]);
        let spec = Arc::make_mut(&mut pod.spec);
        spec.containers = vec![container("app", app, false)];
        spec.init_containers = vec![
            container("setup", Some(5000), false),
            container("side", side, true),
        ];
        if let Some(milli) = whole {
            let requests = serde_json::json!({"resources": {"requests": {"cpu": "1"}}});
            spec.source = Arc::new(requests);
            spec.requests = container("", Some(milli), false).requests;
        }
        pods
    };
    let ask = |pods: &[Arc<Pod>], container: Option<&str>| {
        let calculator = Calculator {
            now: NOW,
            flags: &flags(),
            tolerances: Tolerances { down: 0.1, up: 0.1 },
            pods: pods.iter().collect(),
            metrics: None,
        };
        match calculator.requests("cpu", container) {
            Ok(requests) => requests["web-0"].to_string(),
            Err(why) => why,
        }
    };
    let (both, one) = (pod(Some(100), Some(20), None), pod(Some(100), None, None));
    assert_eq!(ask(&both, None), "120");
    assert_eq!(ask(&both, Some("side")), "20");
    assert_eq!(
        ask(&one, None),
        "missing request for cpu in container side of Pod web-0"
    );
    // A metric of the container alone does not mind.
    assert_eq!(ask(&one, Some("app")), "100");
    assert_eq!(
        ask(&one, Some("setup")),
        "container setup not found in Pod web-0"
    );
    // What is requested for the whole pod counts, but not for a container.
    let whole = pod(Some(100), None, Some(1000));
    assert_eq!(ask(&whole, None), "1000");
    assert_eq!(ask(&whole, Some("app")), "100");
}

/// `TestGroupPods`: within the period a sample counts when all of it was taken since the pod is
/// ready.
#[test]
fn a_young_pod_counts_from_its_first_whole_sample() {
    // (started, ready since, ready, sample ends): in seconds before now, windows of 15 s
    let table = [
        (60, 20, true, 5, false),
        (60, 19, true, 5, true),
        (60, 40, false, 5, true),
        // After the period only those are left out that never were ready.
        (125, 120, false, 5, true),
        (125, 110, false, 5, false),
        (125, 1, true, 5, false),
    ];
    let (pods, _) = pods("100");
    let ago = |seconds: u64| Time::from_secs(1000 - seconds);
    for (started, since, ready, taken, young) in table {
        let mut pod = Pod::clone(&pods[0]);
        pod.status.start_time = Some(ago(started));
        pod.status.conditions[0].since = ago(since);
        pod.status.conditions[0].status = Truth::from(ready);
        let sample = Sample {
            timestamp: ago(taken),
            window: Duration::from_secs(15),
            value: 1,
        };
        let got = with("", (0.1, 0.1), |calculator| {
            calculator.too_young(&pod, &sample)
        });
        assert_eq!(got, young, "{started} {since} {ready}");
    }
}
