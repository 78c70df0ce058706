//! Stories of a CronJob that begins 100 s after midnight and is due every minute.
//!
//! After `cronjob_controllerv2_test.go` (`TestControllerV2SyncCronJob`,
//! `TestControllerV2CleanupFinishedJobs`, `TestControllerV2JobAlreadyExistsButNotInActiveStatus`,
//! `TestControllerV2JobAlreadyExistsButDifferentOwner`, `TestControllerV2UpdateCronJob`) and
//! `utils_test.go`.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::control::desk::{Desk, PLAIN};
use crate::control::job::sync::condition;
use crate::store::Patch;

type World = Desk<CronJobController>;

fn world(spec: Value) -> World {
    let mut object = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick"},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}}}},
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    Desk::new(CronJobController::new(0), PLAIN, &[object])
}

impl World {
    /// At this second and a little: the queue looks a tenth of a second after each start.
    fn at(&mut self, second: u64) -> String {
        let target = Time::from_secs(second) + Duration::from_millis(500);
        self.pass(target.since(self.now).as_secs_f64());
        self.log()
    }

    /// The Job ends in this way.
    fn ends(&mut self, name: &str, how: &str) -> String {
        let object = self.find(Kind::Job, name);
        let id: Id<Job> = object.typed().expect("a Job");
        let mut job = Job::clone(self.store.view().of().get(id).expect("it is there"));
        let interim = match how {
            "Complete" => "SuccessCriteriaMet",
            _ => "FailureTarget",
        };
        let conditions = [interim, how].map(|kind| condition(kind, "", "", self.now));
        job.status.conditions.extend(conditions);
        job.status.start.get_or_insert(self.now);
        if how == "Complete" {
            job.status.completion = Some(self.now);
        }
        self.write(&Write::UpdateStatus(object, job.into()));
        self.log()
    }

    fn change(&mut self, spec: Value) -> String {
        let id = self.find(Kind::CronJob, "tick");
        self.patch(id, json!({ "spec": spec }));
        self.log()
    }

    fn cron(&self) -> Arc<CronJob> {
        let table = self.store.view().of::<CronJob>();
        table.iter().next().expect("it is there").1.clone()
    }

    fn active(&self) -> Vec<String> {
        let cron = self.cron();
        cron.status
            .active
            .iter()
            .map(|(name, _)| name.to_string())
            .collect()
    }
}

#[test]
fn a_job_is_made_at_every_start_and_named_after_it() {
    let mut world = world(json!({}));
    assert_eq!(world.at(119), "");
    assert_eq!(world.at(120), "+job tick-2");
    assert_eq!(world.events(), ["SuccessfulCreate: Created job tick-2"]);
    let rows = world.store.view().of::<Job>().iter();
    let made: Vec<String> = rows
        .map(|(_, job)| job.meta.annotations.get(SCHEDULED_AT).unwrap().to_string())
        .collect();
    assert_eq!(made, ["1970-01-01T00:02:00Z"]);
    assert_eq!(world.at(180), "+job tick-3");
    assert_eq!(world.active(), ["tick-2", "tick-3"]);
    world.ends("tick-2", "Complete");
    world.ends("tick-3", "Failed");
    assert_eq!(
        &world.events()[1..],
        [
            "SawCompletedJob: Saw completed job: tick-2, condition: Complete",
            "SawCompletedJob: Saw completed job: tick-3, condition: Failed",
        ]
    );
    assert!(world.active().is_empty());
    assert!(world.cron().status.last_successful.is_some());
}

#[test]
fn forbid_waits_for_the_job_before_and_then_makes_up_for_the_last_start() {
    let mut world = world(json!({"concurrencyPolicy": "Forbid"}));
    assert_eq!(world.at(120), "+job tick-2");
    world.events();
    assert_eq!(world.at(245), "");
    let told = world.events();
    let expected = "JobAlreadyActive: Not starting job because prior execution is running and \
                    concurrency policy is Forbid";
    assert!(
        told.iter().all(|t| t == expected) && !told.is_empty(),
        "{told:?}"
    );
    // the starts at 180 and 240 were missed: the last one is made
    assert_eq!(world.ends("tick-2", "Complete"), "+job tick-4");
    assert_eq!(world.at(300), "");
}

#[test]
fn a_start_that_is_too_late_is_not_made() {
    let mut world = world(json!({"concurrencyPolicy": "Forbid", "startingDeadlineSeconds": 10}));
    assert_eq!(world.at(120), "+job tick-2");
    assert_eq!(world.at(195), "");
    // 180 is more than ten seconds ago
    assert_eq!(world.ends("tick-2", "Complete"), "");
    assert_eq!(world.at(240), "+job tick-4");
}

#[test]
fn replace_deletes_what_still_runs() {
    let mut world = world(json!({"concurrencyPolicy": "Replace"}));
    assert_eq!(world.at(120), "+job tick-2");
    assert_eq!(world.at(180), "-job tick-2, +job tick-3");
    assert_eq!(world.active(), ["tick-3"]);
    let told = world.events();
    assert!(told.contains(&"SuccessfulDelete: Deleted job tick-2".to_owned()));
}

#[test]
fn a_suspended_cron_job_takes_up_the_last_start_when_it_goes_on() {
    let mut world = world(json!({"suspend": true}));
    assert_eq!(world.at(310), "");
    assert_eq!(world.change(json!({"suspend": false})), "+job tick-5");
    world.change(json!({"suspend": true}));
    world.events();
    // 101 starts and more: a warning, and still one Job
    assert_eq!(world.at(60 * 110), "");
    assert_eq!(world.change(json!({"suspend": false})), "+job tick-110");
    let expected = "warning TooManyMissedTimes: too many missed start times. Set or decrease \
                    .spec.startingDeadlineSeconds or check clock skew";
    assert_eq!(world.events()[0], expected);
}

#[test]
fn the_history_keeps_as_many_ended_jobs_as_allowed() {
    let mut world = world(json!({"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0}));
    assert_eq!(world.at(120), "+job tick-2");
    assert_eq!(world.ends("tick-2", "Complete"), "");
    assert_eq!(world.at(180), "+job tick-3");
    assert_eq!(world.ends("tick-3", "Complete"), "-job tick-2");
    assert_eq!(world.at(240), "+job tick-4");
    assert_eq!(world.ends("tick-4", "Failed"), "-job tick-4");
}

#[test]
fn lost_and_foreign_jobs_are_told() {
    let mut world = world(json!({}));
    assert_eq!(world.at(120), "+job tick-2");
    world.events();
    let object = world.find(Kind::Job, "tick-2");
    world.delete(object);
    assert_eq!(
        world.events(),
        ["MissingJob: Active job went missing: tick-2"]
    );
    assert!(world.active().is_empty());
    // the start was made: it is not made again
    assert_eq!(world.log(), "");
    let mut job = Job::default();
    job.meta.namespace = "default".into();
    job.meta.name = "stray".into();
    job.meta.owners = [controller_ref(&*world.cron())].into();
    world.write(&Write::Create(job.into()));
    let told = "warning UnexpectedJob: Saw a job that the controller did not create or forgot: \
                stray";
    assert_eq!(world.events(), [told]);
}

/// `syncCronJob` asks the server for a Job by its name: who orphans the Jobs of a CronJob loses none.
#[test]
fn a_job_that_was_let_go_is_not_missing() {
    let mut world = world(json!({}));
    assert_eq!(world.at(120), "+job tick-2");
    world.events();
    let object = world.find(Kind::Job, "tick-2");
    world.write(&Write::Patch {
        object,
        uid: None,
        patch: Patch::Owners(Vec::new()),
    });
    assert!(world.events().is_empty());
    assert_eq!(world.active(), ["tick-2"]);
}

#[test]
fn a_name_that_is_taken_is_taken_up_if_the_job_is_ours() {
    // somebody else's Job has the name of the start at 120 s
    let mut world = world(json!({}));
    let mut job = Job::default();
    job.meta.namespace = "default".into();
    job.meta.name = "tick-2".into();
    world.write(&Write::Create(job.clone().into()));
    assert_eq!(world.at(120), "+job tick-2 (409)");
    assert!(world.active().is_empty());
    assert_eq!(world.at(180), "");
    // ours, made before a crash and not noted
    let mut world = super::tests::world(json!({}));
    job.meta.owners = [controller_ref(&*world.cron())].into();
    world.write(&Write::Create(job.into()));
    assert_eq!(world.at(120), "+job tick-2 (409)");
    assert_eq!(world.active(), ["tick-2"]);
    assert!(world.cron().status.last_schedule.is_some());
}

/// The new schedule counts from the next time it names; other changes are looked at at once.
#[test]
fn a_new_schedule_is_followed_from_its_next_time() {
    let mut world = world(json!({"schedule": "0 * * * *"}));
    assert_eq!(world.change(json!({"schedule": "*/2 * * * *"})), "");
    assert_eq!(world.at(121), "+job tick-2");
    assert_eq!(world.at(181), "");
    assert_eq!(world.change(json!({"timeZone": "Asia/Kolkata"})), "");
    // half an hour off, so even minutes are the same
    assert_eq!(world.at(241), "+job tick-4");
    let object = world.find(Kind::CronJob, "tick");
    world.write(&Write::Patch {
        object,
        uid: None,
        patch: Patch::Annotations(vec![("a".into(), Some("b".into()))]),
    });
    assert_eq!(world.log(), "");
}
