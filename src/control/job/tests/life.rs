//! Jobs over time, at a desk: when pods are made, what a suspension does, when a Job is over.

use serde_json::{Value, json};

use super::super::JobController;
use super::*;
use crate::control::desk::{Desk, Words};

/// Counts, the start, and conditions of a Job.
fn status(row: &Row) -> String {
    let Row::Job(job) = row else {
        return String::new();
    };
    let status = &job.status;
    let count = |word: &str, n: i32| (n > 0).then(|| format!("{n} {word}"));
    let mut words: Vec<String> = [
        ("active", status.active),
        ("terminating", status.terminating.unwrap_or(0)),
        ("succeeded", status.succeeded),
        ("failed", status.failed),
    ]
    .into_iter()
    .filter_map(|(word, n)| count(word, n))
    .collect();
    words.extend(
        status
            .start
            .map(|at| format!("since {}", at.since(Time::ZERO).as_secs())),
    );
    let conditions = status.conditions.iter();
    words.extend(conditions.map(|c| format!("{}={}", c.kind, c.status.name())));
    format!("[{}]", words.join(" "))
}

/// Pods are called by their index, or by nothing.
fn name(row: &Row) -> Option<String> {
    let Row::Pod(pod) = row else { return None };
    Some(completion_index(pod).map_or(String::new(), |index| index.to_string()))
}

const JOB: Words = Words { status, name };

fn desk(spec: Value) -> Desk<JobController> {
    let mut object = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"},
        "spec": {"template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "c", "image": "x"}]}}}});
    for (key, value) in spec.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    Desk::new(JobController::default(), JOB, &[object])
}

/// The names of the pods that have not ended, oldest first.
fn going(desk: &Desk<JobController>) -> Vec<String> {
    let pods = desk.store.view().pods().iter();
    let going = pods.filter(|(_, pod)| !pod.status.phase.terminal() && !pod.meta.deleting());
    going.map(|(_, pod)| pod.meta.name.to_string()).collect()
}

fn become_(desk: &mut Desk<JobController>, state: &str) {
    let name = going(desk).remove(0);
    desk.pods(&format!("{name} {state}"));
}

fn change(desk: &mut Desk<JobController>, spec: Value) {
    let job = desk.find(Kind::Job, "job");
    desk.patch(job, json!({"spec": spec}));
}

/// After `job_controller_test.go :: TestJobBackoffReset`, `TestJobBackoff` and
/// `TestJobPodLookup`'s neighbours: how a pod ends each time, and after how many seconds there is
/// another one; each end is seen a second later.
#[test]
fn the_wait_for_another_pod_doubles_until_one_succeeds() {
    let table = [
        ("FFFF", "10 20 40 80"),
        // at most ten minutes
        ("FFFFFFFF", "10 20 40 80 160 320 600 600"),
        ("SS", "1 1"),
        // a success forgives
        ("FFSFF", "10 20 1 10 20"),
        // the limit of 9 is exceeded by the tenth failure
        ("FFFFFFFFFF", "10 20 40 80 160 320 600 600 600 Failed"),
        ("SSSS", "1 1 1 Complete"),
    ];
    for (ends, expected) in table {
        let mut desk = desk(json!({"completions": 4, "parallelism": 1, "backoffLimit": 9}));
        let mut waits = Vec::new();
        for end in ends.chars() {
            become_(&mut desk, if end == 'F' { "failed" } else { "succeeded" });
            let over = |desk: &Desk<JobController>| {
                let (_, job) = desk.only::<Job>();
                job.status.finished().map(|c| c.kind.to_string())
            };
            let mut seconds = 0;
            while going(&desk).is_empty() && over(&desk).is_none() && seconds < 1000 {
                desk.pass(1.0);
                seconds += 1;
            }
            waits.push(over(&desk).unwrap_or(seconds.to_string()));
        }
        assert_eq!(waits.join(" "), expected, "{ends}");
    }
}

/// After `TestSyncJobWhenSuspendedAndResumed`'s cases of `TestControllerSyncJob` and
/// `TestSyncJobUpdateRequeue`: what is done, and what is told.
#[test]
fn a_suspended_job_has_no_pods_and_its_deadline_begins_anew() {
    let spec = json!({"parallelism": 2, "completions": 2, "suspend": true,
        "activeDeadlineSeconds": 30});
    let mut desk = desk(spec);
    assert_eq!(desk.log(), "[Suspended=True]");
    desk.pass(100.0);
    change(&mut desk, json!({"suspend": false}));
    desk.pass(5.0);
    assert_eq!(
        desk.log(),
        "+pod, +pod, [2 active since 200 Suspended=False]"
    );
    change(&mut desk, json!({"suspend": true}));
    desk.pass(5.0);
    assert_eq!(
        desk.log(),
        "~pod RemoveFinalizer, ~pod RemoveFinalizer, -pod, -pod, [2 terminating Suspended=True], \
         [Suspended=True]"
    );
    desk.pass(100.0);
    assert_eq!(desk.log(), "");
    change(&mut desk, json!({"suspend": false}));
    desk.pass(29.0);
    assert_eq!(
        desk.log(),
        "+pod, +pod, [2 active since 310 Suspended=False]"
    );
    desk.pass(1.0);
    assert_eq!(
        desk.log(),
        "-pod, -pod, [2 terminating since 310 Suspended=False FailureTarget=True], \
         ~pod RemoveFinalizer, ~pod RemoveFinalizer, \
         [2 terminating 2 failed since 310 Suspended=False FailureTarget=True]"
    );
    desk.pass(2.0);
    assert_eq!(
        desk.log(),
        "[2 failed since 310 Suspended=False FailureTarget=True], \
         [2 failed since 310 Suspended=False FailureTarget=True Failed=True]"
    );
    let told = desk.events();
    let told: Vec<&str> = told
        .iter()
        .filter(|e| !e.contains(" pod: "))
        .map(String::as_str)
        .collect();
    assert_eq!(
        told,
        [
            "Suspended: Job suspended",
            "Resumed: Job resumed",
            "Suspended: Job suspended",
            "Resumed: Job resumed",
            "warning DeadlineExceeded: Job was active longer than specified deadline",
        ]
    );
}

/// After `TestElasticIndexedJob`: completions and parallelism that change together.
#[test]
fn an_indexed_job_grows_and_shrinks() {
    let size = |n: i32| json!({"completions": n, "parallelism": n});
    let mut spec = size(3);
    spec["completionMode"] = "Indexed".into();
    let mut desk = desk(spec);
    assert_eq!(desk.log(), "+pod 0, +pod 1, +pod 2, [3 active since 100]");
    change(&mut desk, size(2));
    assert_eq!(
        desk.log(),
        "~pod 2 RemoveFinalizer, -pod 2, [2 active 1 terminating since 100]"
    );
    desk.pass(2.0);
    change(&mut desk, size(4));
    desk.pass(2.0);
    assert_eq!(
        desk.log(),
        "[2 active since 100], +pod 2, +pod 3, [4 active since 100]"
    );
    // All indexes that are left have succeeded.
    become_(&mut desk, "succeeded");
    become_(&mut desk, "succeeded");
    change(&mut desk, size(2));
    desk.pass(5.0);
    let log = desk.log();
    let end = "[2 succeeded since 100 SuccessCriteriaMet=True Complete=True]";
    assert!(log.ends_with(end), "{log}");
}

/// After `TestSyncJobDeleted`, `TestSyncJobManagedBy` and `TestSyncJobWithJobPodReplacementPolicy`.
#[test]
fn pods_are_not_made_for_jobs_that_others_manage_or_before_their_time() {
    let mut managed = desk(json!({"managedBy": "example.com/own"}));
    managed.pass(100.0);
    assert_eq!(
        (managed.log(), going(&managed)),
        (String::new(), Vec::new())
    );
    // A deadline that is set later counts from the start.
    let mut late = desk(json!({}));
    late.pass(50.0);
    late.log();
    change(&mut late, json!({"activeDeadlineSeconds": 60}));
    late.pass(9.0);
    assert_eq!(late.log(), "");
    late.pass(1.0);
    assert!(
        late.log()
            .starts_with("-pod, [1 terminating since 100 FailureTarget=True]")
    );
    // Only failed pods are replaced: a terminating one has first to end.
    let mut patient = desk(json!({"podReplacementPolicy": "Failed"}));
    patient.log();
    let pod = going(&patient).remove(0);
    patient.pods(&format!("{pod} running, {pod} terminating"));
    patient.pass(300.0);
    assert_eq!(patient.log(), "[1 terminating since 100]");
    patient.pods(&format!("{pod} failed"));
    patient.pass(2.0);
    // It has not been ready for long, so that no back-off is left.
    assert_eq!(
        patient.log(),
        "+pod, [1 active since 100], ~pod RemoveFinalizer, [1 active 1 failed since 100]"
    );
}

/// After `TestTrackJobStatusAndRemoveFinalizers` and `TestSyncJobComplete`: what was noted before a
/// crash is counted after it, and a Job is over when its last pod is gone.
#[test]
fn nothing_is_counted_twice_and_nothing_is_forgotten() {
    let mut desk = desk(json!({"parallelism": 2, "completions": null}));
    desk.log();
    desk.crash();
    let job = desk.find(Kind::Job, "job");
    let (id, row) = desk.only::<Job>();
    assert_eq!(id, job.typed().expect("a Job"));
    let mut noted = Job::clone(row);
    noted.status.uncounted_failed = vec![Uid(1001), Uid(1002)];
    noted.status.uncounted_succeeded = Vec::new();
    desk.write(&Write::UpdateStatus(job, noted.into()));
    desk.start();
    assert_eq!(desk.log(), "[2 active 2 failed since 100]");
    // The first success keeps others from being made; the Job waits for those that go.
    let [first, second] = &going(&desk)[..] else {
        panic!("two pods");
    };
    desk.pods(&format!(
        "{first} running, {first} succeeded, {second} running"
    ));
    desk.pass(2.0);
    assert_eq!(
        desk.log(),
        "[1 active 2 failed since 100], ~pod RemoveFinalizer, \
         [1 active 1 succeeded 2 failed since 100]"
    );
    desk.pods(&format!("{second} terminating"));
    desk.pass(2.0);
    let log = desk.log();
    assert!(log.contains("1 terminating 1 succeeded"), "{log}");
    assert!(!log.contains("Complete=True"), "{log}");
    desk.pods(&format!("{second} gone"));
    desk.pass(2.0);
    let log = desk.log();
    assert!(log.contains("Complete=True"), "{log}");
}
