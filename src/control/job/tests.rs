//! Syncs of Jobs as tables: what is there, what is asked for, what the status says then.
//!
//! The cases are those of `job_controller_test.go` that the recordings do not reach
//! (`TestControllerSyncJob`, `TestSyncJobWithJobPodFailurePolicy`, `TestSyncJobWithJobSuccessPolicy`,
//! `TestSyncJobWithJobBackoffLimitPerIndex`, `TestPodReplacementPolicy`).

mod life;

mod rules;

use serde_json::json;

use super::*;
use crate::api::decode::{DecodeContext, decode_json};
use crate::api::pod_status::{ContainerState, ContainerStatus, Phase, Terminated};
use crate::api::pod_status::{PodCondition, PodConditionKind, Truth};
use crate::api::{Row, Text};
use crate::client::Step;
use crate::control::owner::controller_ref;
use crate::engine::Draws;
use crate::store::{Cause, Patch, Propagation, Store};

/// A store with one Job, the fields of its spec as JSON, and pods as words: `R` runs and is ready,
/// `P` waits, `S` succeeded, `F` failed with code 1, `X` with 42, `T` runs and is being deleted; a
/// number after it is its completion index.
struct Table {
    store: Store,
    job: Id<Job>,
    draws: Draws,
}

const NOW: Time = Time::from_secs(100);

impl Table {
    fn new(spec: serde_json::Value, pods: &str) -> Table {
        let mut object = json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"},
            "spec": {"template": {"spec": {
                "restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}],
            }}},
        });
        for (key, value) in spec.as_object().into_iter().flatten() {
            object["spec"][key] = value.clone();
        }
        let row = decode_json(&object, &DecodeContext::default()).unwrap().row;
        let mut table = Table {
            store: Store::new(Draws::new(1)),
            job: Id::new(0),
            draws: Draws::new(1),
        };
        table.write(Write::Create(row), Time::ZERO);
        for (nth, word) in pods.split_whitespace().enumerate() {
            table.pod(nth, word);
        }
        table
    }

    fn write(&mut self, write: Write, now: Time) -> crate::store::Receipt {
        self.store.write(&write, now, Cause::default()).unwrap()
    }

    fn job(&self) -> Arc<Job> {
        self.store.view().of::<Job>().get(self.job).unwrap().clone()
    }

    fn pod(&mut self, nth: usize, word: &str) {
        let (kind, index) = word.split_at(1);
        let job = self.job();
        let owners: Arc<[_]> = [controller_ref(&*job)].into();
        let mut pod = crate::control::pods::from_template(&job.spec.template, &job.meta, &owners);
        pod.meta.name = format!("job-{nth}").into();
        pod.meta.finalizers = [Text::from(TRACKING_FINALIZER)].into();
        if !index.is_empty() {
            pod.meta.annotations = pod.meta.annotations.with(COMPLETION_INDEX, index);
        }
        pod.node_name = Some("n".into());
        let mut status = pod.status.clone();
        let code = match kind {
            "S" => Some(0),
            "F" => Some(1),
            "X" => Some(42),
            _ => None,
        };
        status.phase = match (kind, code) {
            ("P", _) => Phase::Pending,
            (_, None) => Phase::Running,
            (_, Some(0)) => Phase::Succeeded,
            _ => Phase::Failed,
        };
        status.set_condition(PodCondition {
            kind: PodConditionKind::Ready,
            status: Truth::from(matches!(kind, "R" | "T")),
            since: Time::from_secs(50),
            reason: None,
            message: None,
            observed_generation: 0,
        });
        status.containers = (code.into_iter())
            .map(|exit_code| ContainerStatus {
                name: "c".into(),
                state: ContainerState::Terminated(Terminated {
                    exit_code,
                    finished: Time::from_secs(60),
                    ..Terminated::default()
                }),
                ..ContainerStatus::default()
            })
            .collect();
        let object = self
            .write(Write::Create(pod.into()), Time::ZERO)
            .object
            .unwrap();
        let patch = Patch::PodStatus(status);
        let uid = None;
        self.write(Write::Patch { object, uid, patch }, Time::ZERO);
        if kind == "T" {
            let delete = Write::Delete {
                object,
                uid: None,
                grace_s: None,
                propagation: Propagation::Background,
            };
            self.write(delete, Time::ZERO);
        }
    }

    /// One sync to its end: what was asked for, and the status after it.
    fn sync(&mut self) -> String {
        let mut controller = JobController::default();
        let (mut creates, mut deletes, mut released) = (0, 0, 0);
        let mut stage = 0;
        let mut plan = self.asked(|cx, key| controller.sync(key, cx));
        loop {
            for step in std::mem::take(&mut plan.steps) {
                let writes = match step {
                    Step::One { write, .. } => vec![write],
                    Step::SlowStart { writes, .. } | Step::Parallel { writes, .. } => writes,
                    Step::Chains(chains) => {
                        let links = chains.into_iter().flatten();
                        links.map(|(write, _)| write).collect()
                    }
                    Step::Deletions { objects, .. } => panic!("no job asks for {objects:?}"),
                    Step::Event(_) => Vec::new(),
                };
                for mut write in writes {
                    // A second write of a status builds on the answer to the first.
                    if let Write::UpdateStatus(_, row) = &mut write {
                        row.meta_mut().revision = self.job().meta.revision;
                    }
                    match &write {
                        Write::Create(_) => creates += 1,
                        Write::Delete { .. } => deletes += 1,
                        Write::Patch { .. } => released += 1,
                        _ => {}
                    }
                    let reply = self.store.write(&write, NOW, Cause::default());
                    self.asked(|cx, key| {
                        controller.on_reply(key, &write, &reply, cx, &mut Vec::new());
                    });
                }
            }
            if stage > 0 && !plan.more {
                break;
            }
            stage += 1;
            plan = self.asked(|cx, key| controller.finish(key, &Outcome::default(), cx));
        }
        format!("+{creates} -{deletes} free {released}: {}", self.status())
    }

    fn asked<T>(&self, ask: impl FnOnce(&SyncContext<'_>, Key) -> T) -> T {
        let cx = SyncContext {
            now: NOW,
            view: self.store.view(),
            draws: &self.draws,
        };
        ask(&cx, self.job)
    }

    fn status(&self) -> String {
        let job = self.job();
        let status = &job.status;
        let mut words = vec![format!(
            "active {} ready {} succeeded {} failed {}",
            status.active,
            status.ready.unwrap_or(0),
            status.succeeded,
            status.failed
        )];
        if !status.completed_indexes.is_empty() {
            words.push(format!("done {}", status.completed_indexes));
        }
        if let Some(failed) = status.failed_indexes.as_deref().filter(|f| !f.is_empty()) {
            words.push(format!("lost {failed}"));
        }
        let conditions = status.conditions.iter();
        words.extend(conditions.map(|c| format!("{}={} {}", c.kind, c.status.name(), c.reason)));
        words.join(", ")
    }
}

fn check(cases: &[(serde_json::Value, &str, &str)]) {
    for (spec, pods, expected) in cases {
        let got = Table::new(spec.clone(), pods).sync();
        assert_eq!(got, *expected, "{spec} with {pods:?}");
    }
}

#[test]
fn as_many_pods_run_as_parallelism_and_what_is_left_to_do_allow() {
    let five = |parallelism: i32| json!({"completions": 5, "parallelism": parallelism});
    let queue = json!({"parallelism": 2});
    check(&[
        (
            five(2),
            "",
            "+2 -0 free 0: active 2 ready 0 succeeded 0 failed 0",
        ),
        (
            five(0),
            "",
            "+0 -0 free 0: active 0 ready 0 succeeded 0 failed 0",
        ),
        (
            five(2),
            "R S",
            "+1 -0 free 1: active 2 ready 1 succeeded 1 failed 0",
        ),
        // one of five is left
        (
            five(3),
            "S S S S",
            "+1 -0 free 4: active 1 ready 0 succeeded 4 failed 0",
        ),
        // too many: the one that waits goes, freed before it is deleted
        (
            five(2),
            "R P R",
            "+0 -1 free 1: active 2 ready 2 succeeded 0 failed 0",
        ),
        // a work queue starts nobody after the first success
        (
            queue.clone(),
            "",
            "+2 -0 free 0: active 2 ready 0 succeeded 0 failed 0",
        ),
        (
            queue.clone(),
            "R S",
            "+0 -0 free 1: active 1 ready 1 succeeded 1 failed 0",
        ),
        (
            queue,
            "S S",
            "+0 -0 free 2: active 0 ready 0 succeeded 2 failed 0, \
             SuccessCriteriaMet=True CompletionsReached, Complete=True CompletionsReached",
        ),
        (
            json!({"completions": 3, "parallelism": 3, "suspend": true}),
            "R R S",
            "+0 -2 free 3: active 0 ready 0 succeeded 1 failed 0, Suspended=True JobSuspended",
        ),
    ]);
}

#[test]
fn a_job_fails_by_its_limits_and_its_policy() {
    let limit = |backoff: i32| json!({"completions": 5, "parallelism": 3, "backoffLimit": backoff});
    let policy = |action: &str| {
        json!({"completions": 5, "parallelism": 2, "podFailurePolicy": {"rules": [
            {"action": action, "onExitCodes": {"operator": "In", "values": [42]}}]}})
    };
    check(&[
        // the second failure exceeds the limit; the running pod counts as failed, too, and the Job
        // waits until it is gone
        (
            limit(1),
            "F F R",
            "+0 -1 free 3: active 0 ready 0 succeeded 0 failed 3, \
             FailureTarget=True BackoffLimitExceeded",
        ),
        // 10 s after the failure at 60 s have passed long ago
        (
            limit(3),
            "F R",
            "+2 -0 free 1: active 3 ready 1 succeeded 0 failed 1",
        ),
        (
            policy("FailJob"),
            "X S",
            "+0 -0 free 2: active 0 ready 0 succeeded 1 failed 1, \
             FailureTarget=True PodFailurePolicy, Failed=True PodFailurePolicy",
        ),
        (
            policy("Ignore"),
            "X R",
            "+1 -0 free 1: active 2 ready 1 succeeded 0 failed 0",
        ),
        (
            policy("Count"),
            "X R",
            "+1 -0 free 1: active 2 ready 1 succeeded 0 failed 1",
        ),
        // other codes are not the policy's business
        (
            policy("FailJob"),
            "F R",
            "+1 -0 free 1: active 2 ready 1 succeeded 0 failed 1",
        ),
    ]);
}

#[test]
fn a_pod_that_is_being_deleted_is_replaced_as_the_policy_says() {
    let with = |policy: &str| {
        json!({"completions": 2, "parallelism": 2,
        "podReplacementPolicy": policy})
    };
    check(&[
        (
            with("TerminatingOrFailed"),
            "R T",
            "+1 -0 free 1: active 2 ready 1 succeeded 0 failed 1",
        ),
        (
            with("Failed"),
            "R T",
            "+0 -0 free 0: active 1 ready 1 succeeded 0 failed 0",
        ),
    ]);
}

#[test]
fn an_indexed_job_runs_one_pod_for_each_index() {
    let indexed = |more: serde_json::Value| {
        let mut spec = json!({"completionMode": "Indexed", "completions": 4, "parallelism": 3});
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        spec
    };
    let plain = || indexed(json!({}));
    let limit = |limit: i32| indexed(json!({"backoffLimitPerIndex": limit}));
    let success = |rule: serde_json::Value| indexed(json!({"successPolicy": {"rules": [rule]}}));
    check(&[
        (
            plain(),
            "R0 S1",
            "+2 -0 free 1: active 3 ready 1 succeeded 1 failed 0, done 1",
        ),
        // two pods of one index, and one of an index that is not
        (
            plain(),
            "R0 R0 R1 R9",
            "+0 -2 free 2: active 2 ready 2 succeeded 0 failed 0",
        ),
        // the index may fail once: its last pod stays held until the next one has its count
        (
            limit(1),
            "F0 R1 R2",
            "+1 -0 free 0: active 3 ready 2 succeeded 0 failed 0",
        ),
        (
            limit(0),
            "F0 R1 R2",
            "+1 -0 free 1: active 3 ready 2 succeeded 0 failed 1, lost 0",
        ),
        (
            limit(0),
            "F0 S1 S2 S3",
            "+0 -0 free 4: active 0 ready 0 succeeded 3 failed 1, done 1-3, lost 0, \
             FailureTarget=True FailedIndexes, Failed=True FailedIndexes",
        ),
        (
            success(json!({"succeededIndexes": "0,2"})),
            "S0 R1 S2",
            "+0 -1 free 3: active 0 ready 0 succeeded 2 failed 0, done 0,2, \
             SuccessCriteriaMet=True SuccessPolicy",
        ),
        // more indexes have failed than may
        (
            indexed(json!({"backoffLimitPerIndex": 0, "maxFailedIndexes": 1})),
            "F0 F1 R2",
            "+0 -1 free 3: active 0 ready 0 succeeded 0 failed 3, lost 0,1, \
             FailureTarget=True MaxFailedIndexesExceeded",
        ),
        (
            indexed(json!({"backoffLimitPerIndex": 0, "maxFailedIndexes": 2})),
            "F0 F1 R2",
            "+1 -0 free 2: active 2 ready 1 succeeded 0 failed 2, lost 0,1",
        ),
        // a failure that fails its index at once, whatever the limit
        (
            indexed(
                json!({"backoffLimitPerIndex": 3, "podFailurePolicy": {"rules": [
                {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [42]}}]}}),
            ),
            "X0 F1 R2",
            "+2 -0 free 1: active 3 ready 1 succeeded 0 failed 1, lost 0",
        ),
        // a pod of an index that is going is waited for where only failed ones are replaced
        (
            indexed(json!({"podReplacementPolicy": "Failed"})),
            "T0 R1",
            "+1 -0 free 0: active 2 ready 1 succeeded 0 failed 0",
        ),
        (
            success(json!({"succeededIndexes": "0-3", "succeededCount": 3})),
            "S0 R1 S2",
            "+1 -0 free 2: active 2 ready 1 succeeded 2 failed 0, done 0,2",
        ),
    ]);
}

#[test]
fn the_replacement_of_an_index_carries_its_failures() {
    let spec = json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2,
        "backoffLimitPerIndex": 3});
    let mut table = Table::new(spec, "F0 R1");
    table.sync();
    let pods = table.store.view().pods().iter();
    let new: Vec<_> = pods
        .filter(|(_, pod)| pod.meta.name.starts_with("job-0-"))
        .collect();
    let [(_, pod)] = &new[..] else {
        panic!("one pod is created: {new:?}");
    };
    let annotation = |key: &str| pod.meta.annotations.get(key).map(Text::as_str);
    assert_eq!(annotation(sync::INDEX_FAILURES), Some("1"));
    assert_eq!(annotation(COMPLETION_INDEX), Some("0"));
    let printed = crate::api::print::to_json(&Row::Pod((*pod).clone()));
    assert_eq!(printed["spec"]["hostname"], "job-0");
    assert_eq!(
        printed["spec"]["containers"][0]["env"][0]["name"],
        "JOB_COMPLETION_INDEX"
    );
}
