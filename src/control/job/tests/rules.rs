//! `podFailurePolicy` and `successPolicy` alone.

use serde_json::{Value, json};

use super::super::intervals::Intervals;
use super::super::policy::{judge, succeeded};
use super::*;

/// A Job with these fields.
fn job(spec: Value) -> Job {
    Table::new(spec, "").job().as_ref().clone()
}

/// A pod whose containers ended with these codes, `-` for one that has not, the last one an init
/// container; and with these conditions.
fn ended(codes: &str, conditions: &str) -> Pod {
    let status = |name: &str, code: &str| ContainerStatus {
        name: name.into(),
        state: match code.parse() {
            Ok(exit_code) => ContainerState::Terminated(Terminated {
                exit_code,
                ..Terminated::default()
            }),
            Err(_) => ContainerState::default(),
        },
        ..ContainerStatus::default()
    };
    let mut pod = Pod::default();
    (pod.meta.namespace, pod.meta.name) = ("x".into(), "p".into());
    let codes: Vec<&str> = codes.split(' ').collect();
    for (name, code) in ["a", "b"].iter().zip(&codes) {
        pod.status.containers.push(status(name, code));
    }
    if let Some(code) = codes.get(2) {
        pod.status.init_containers.push(status("init", code));
    }
    for condition in conditions.split_whitespace() {
        let (kind, status) = condition.split_once('=').expect("kind=status");
        pod.status.set_condition(PodCondition {
            kind: match kind {
                "Ready" => PodConditionKind::Ready,
                "DisruptionTarget" => PodConditionKind::DisruptionTarget,
                other => PodConditionKind::Other(other.into()),
            },
            status: Truth::from(status == "True"),
            since: Time::ZERO,
            reason: None,
            message: None,
            observed_generation: 0,
        });
    }
    pod
}

/// After `pod_failure_policy_test.go :: TestMatchPodFailurePolicy`.
#[test]
fn the_first_rule_that_fits_says_what_a_failure_means() {
    let codes = |operator: &str, values: &[i32], container: Value| json!({"operator": operator, "values": values, "containerName": container});
    let on = |action: &str, codes: Value| json!({"action": action, "onExitCodes": codes});
    let when = |action: &str, conditions: &[(&str, &str)]| {
        let each = conditions
            .iter()
            .map(|(k, s)| json!({"type": k, "status": s}));
        json!({"action": action, "onPodConditions": each.collect::<Vec<_>>()})
    };
    let any = Value::Null;
    let fails =
        |what: &str, rule: usize| format!("FailJob: {what} matching FailJob rule at index {rule}");
    let code = |container: &str, code: i32| {
        format!("Container {container} for pod x/p failed with exit code {code}")
    };
    // rules, exit codes, conditions, verdict
    let table: Vec<(Vec<Value>, &str, &str, String)> = vec![
        (vec![], "1", "", "counts".into()),
        (
            vec![on("FailJob", codes("In", &[1, 42], any.clone()))],
            "42",
            "",
            fails(&code("a", 42), 0),
        ),
        (
            vec![on("FailJob", codes("In", &[1], any.clone()))],
            "42",
            "",
            "counts".into(),
        ),
        (
            vec![on("FailJob", codes("NotIn", &[1], any.clone()))],
            "42",
            "",
            fails(&code("a", 42), 0),
        ),
        // success is no failure code, whatever the operator
        (
            vec![on("FailJob", codes("NotIn", &[1], any.clone()))],
            "0",
            "",
            "counts".into(),
        ),
        // what still runs has no code
        (
            vec![on("FailJob", codes("NotIn", &[1], any.clone()))],
            "- 5",
            "",
            fails(&code("b", 5), 0),
        ),
        // another container's code is not asked for
        (
            vec![on("FailJob", codes("In", &[5], json!("b")))],
            "5 6",
            "",
            "counts".into(),
        ),
        (
            vec![on("FailJob", codes("In", &[6], json!("b")))],
            "5 6",
            "",
            fails(&code("b", 6), 0),
        ),
        // ordinary containers first, then init containers
        (
            vec![on("FailJob", codes("In", &[5, 7], any.clone()))],
            "0 0 7",
            "",
            fails(&code("init", 7), 0),
        ),
        (
            vec![on("FailJob", codes("In", &[5, 7], any.clone()))],
            "0 5 7",
            "",
            fails(&code("b", 5), 0),
        ),
        // the first rule wins
        (
            vec![
                on("Ignore", codes("In", &[2], any.clone())),
                on("FailJob", codes("In", &[2, 3], any.clone())),
            ],
            "2",
            "",
            "Ignore: does not count".into(),
        ),
        (
            vec![
                on("Ignore", codes("In", &[2], any.clone())),
                on("FailJob", codes("In", &[2, 3], any.clone())),
            ],
            "3",
            "",
            fails(&code("a", 3), 1),
        ),
        (
            vec![on("Count", codes("In", &[2], any.clone()))],
            "2",
            "",
            "Count: counts".into(),
        ),
        (
            vec![when("Ignore", &[("DisruptionTarget", "True")])],
            "137",
            "DisruptionTarget=True",
            "Ignore: does not count".into(),
        ),
        (
            vec![when("Ignore", &[("DisruptionTarget", "True")])],
            "137",
            "DisruptionTarget=False",
            "counts".into(),
        ),
        (
            vec![when(
                "FailJob",
                &[("ConfigIssue", "True"), ("DisruptionTarget", "True")],
            )],
            "137",
            "Ready=False DisruptionTarget=True",
            fails("Pod x/p has condition DisruptionTarget", 0),
        ),
        (
            vec![when("FailJob", &[("ConfigIssue", "False")])],
            "1",
            "ConfigIssue=False",
            fails("Pod x/p has condition ConfigIssue", 0),
        ),
        (
            vec![when("Count", &[("DisruptionTarget", "True")])],
            "1",
            "DisruptionTarget=True",
            "Count: counts".into(),
        ),
    ];
    for (rules, codes, conditions, expected) in table {
        let spec = match rules.is_empty() {
            true => json!({}),
            false => json!({"podFailurePolicy": {"rules": rules}}),
        };
        let mut job = job(json!({}));
        if !rules.is_empty() {
            job = decoded(&spec);
        }
        let verdict = judge(&job.spec, &ended(codes, conditions));
        let action = verdict
            .action
            .map(|a| format!("{a:?}: "))
            .unwrap_or_default();
        let rest = match (&verdict.fail_job, verdict.counts) {
            (Some(why), true) => why.as_str(),
            (None, true) => "counts",
            _ => "does not count",
        };
        assert_eq!(
            format!("{action}{rest}"),
            expected,
            "{rules:?} {codes} {conditions}"
        );
    }
}

/// Of a Job with two containers and an init container, as the rules name them.
fn decoded(spec: &Value) -> Job {
    let mut object = json!({"apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "job", "namespace": "x"},
        "spec": {"template": {"spec": {"restartPolicy": "Never",
            "initContainers": [{"name": "init", "image": "x"}],
            "containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "x"}]}}}});
    for (key, value) in spec.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    let row = decode_json(&object, &DecodeContext::default()).unwrap().row;
    match row {
        Row::Job(job) => Job::clone(&job),
        other => panic!("a Job, not {other:?}"),
    }
}

/// After `success_policy_test.go :: TestMatchSuccessPolicy`.
#[test]
fn the_first_rule_that_enough_indexes_meet_ends_a_job_well() {
    let both =
        |indexes: &str, count: i32| json!({"succeededIndexes": indexes, "succeededCount": count});
    let these = |indexes: &str| json!({"succeededIndexes": indexes});
    let count = |count: i32| json!({"succeededCount": count});
    // rules, succeeded indexes of ten, the rule that is met
    let table: [(Vec<Value>, &str, Option<usize>); 11] = [
        (vec![count(1)], "", None),
        (vec![count(2)], "3", None),
        (vec![count(2)], "3,7", Some(0)),
        (vec![these("0-2,5")], "0-2", None),
        (vec![these("0-2,5")], "0-3,5-6", Some(0)),
        (vec![both("0-4", 3)], "0,1,7-9", None),
        (vec![both("0-4", 3)], "0,1,4", Some(0)),
        (vec![these("9"), count(3)], "0-2", Some(1)),
        (vec![these("0"), count(1)], "0", Some(0)),
        (vec![these("2-6")], "1-7", Some(0)),
        (vec![both("1,3,5", 2)], "3-5", Some(0)),
    ];
    for (rules, done, expected) in table {
        let job = decoded(&json!({"completionMode": "Indexed", "completions": 10,
            "parallelism": 10, "successPolicy": {"rules": rules}}));
        let met = succeeded(&job.spec, &Intervals::parse(done, 10));
        let expected = expected.map(|at| format!("Matched rules at index {at}"));
        assert_eq!(met, expected, "{rules:?} {done}");
    }
}
