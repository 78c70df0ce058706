//! `controllers.jsonl`: what a real control plane did, replayed against the controllers here.
//!
//! The controllers run against the store; scheduler and kubelet are stand-ins that follow the
//! recording ([`world`]). What both did is written as lines of the recording's format ([`log`]) and
//! compared ([`story`]).
//!
//! Tolerated, because the recording machine was not infinitely fast and several informers raced:
//! - times differ by up to half a second ([`story::TOLERANCE`]), and the recording may be late by
//!   up to a second ([`story::LATE_S`]): many recordings ran at once on two processors. So that this
//!   does not add up, the stand-ins bind and run a pod when the recording did, if that is within a
//!   second of when they would;
//! - counts and conditions are compared where nothing was recorded for half a second; on the way
//!   there the order in which they changed does not matter;
//! - KubeEvents are compared as a multiset, without scheduler and kubelet's; those about a creation
//!   that failed as a set, since its retries depend on what else wakes the controller;
//! - of pods that upstream tells apart only by a random uid, another one may be the victim: victims
//!   are compared by what the choice depends on;
//! - what is told about a CronJob counts once, however often it was told: a status that is seen late
//!   makes the controller say it again; and that a Job which it deleted itself went missing;
//! - the recording does not say at which fraction of a second it began, and the API keeps whole
//!   seconds: a case passes if it does for one of ten beginnings.

mod log;
mod machines;
mod objects;
mod recorded;
pub mod story;
pub mod world;

use serde_json::Value;

use super::support::{Case, Vectors};

/// Recordings of this project, of what the others do not reach: failures beside ready pods, deadlines,
/// waits per index, finalizers and limits in templates, adoption by what comes after, ….
pub const BRANCHES: Vectors = Vectors {
    name: "branches",
    ..VECTORS
};

/// How the file is compared.
pub const VECTORS: Vectors = Vectors {
    name: "controllers",
    id: Some("id"),
    fields: &["family", "id", "scenario", "log"],
    families: &[
        "adopt",
        "cronjob",
        "daemonset",
        "deadline",
        "delete",
        "endpoints",
        "history",
        "job",
        "orphan",
        "pause",
        "pdb",
        "proportional",
        "quota",
        "recreate",
        "rollout",
        "rollover",
        "statefulset",
        "victims",
    ],
    family,
    compare,
};

/// How much slower than others the Deployment controller may be: when the first counts of a new
/// ReplicaSet come before the sync after the one that made it, the reason of Progressing stays
/// `NewReplicaSetCreated` until a pod is available; else it becomes `ReplicaSetUpdated`. Upstream
/// this is a race of some hundredths of a second.
const SLOW_MS: [u64; 2] = [0, 10];

/// How late the stand-in kubelet may report that a container is ready or has ended: what of it a sync
/// of a Job saw that came within a few hundredths of a second, the recording does not say.
const LATE_ENDS_MS: [u64; 3] = [0, 15, 30];

fn family(case: &Case) -> String {
    case.text("family").unwrap_or_default().to_owned()
}

fn compare(case: &Case) -> Result<(), String> {
    let lines = |value: Option<&Value>| value.and_then(Value::as_array).cloned();
    let expected = lines(case.fields.get("log")).ok_or("the case has no log")?;
    let scenario = case.fields.get("scenario").ok_or("there is no scenario")?;
    let mut nearest: Option<story::Difference> = None;
    let ends = expected
        .iter()
        .any(|l| l[4] == "Succeeded" || l[4] == "Failed");
    let late = if ends { &LATE_ENDS_MS[..] } else { &[0] };
    let rolls = expected.iter().any(|l| l[1] == "Deployment");
    let slow = if rolls { &SLOW_MS[..] } else { &[0] };
    let speeds = slow
        .iter()
        .flat_map(|slow| late.iter().map(move |late| (*late, *slow)));
    let tries = speeds.flat_map(|speed| (0..10).map(move |tenth| (tenth * 100, speed)));
    for (phase_ms, speed) in tries {
        let got = world::replay(scenario, &expected, phase_ms, speed)?;
        match story::compare(&expected, &got) {
            Ok(()) => return Ok(()),
            Err(difference) => {
                if nearest.as_ref().is_none_or(|n| n.at_s < difference.at_s) {
                    nearest = Some(difference);
                }
            }
        }
    }
    Err(nearest.map(|n| n.to_string()).unwrap_or_default())
}
