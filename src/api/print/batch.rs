//! Jobs and CronJobs as JSON, and what a pod of an Indexed Job has of its own.

use serde_json::{Map, Value, json};

use super::object::{Clock, put};
use crate::api::batch::{COMPLETION_INDEX, JobStatus};
use crate::api::{CronJob, Kind, Pod, Uid};

/// Pods of an Indexed Job share the spec of its template; hostname and `JOB_COMPLETION_INDEX`
/// follow from the index (`pkg/controller/job :: addCompletionIndexEnvVariables`).
pub(super) fn completion_index(pod: &Pod, spec: &mut Map<String, Value>) {
    let owner = pod
        .meta
        .controller()
        .filter(|owner| owner.kind == Kind::Job);
    let index = pod.meta.annotations.get(COMPLETION_INDEX);
    let (Some(owner), Some(index)) = (owner, index) else {
        return;
    };
    let hostname = format!("{}-{index}", owner.name);
    spec.insert("hostname".to_owned(), json!(hostname));
    let variable = json!({
        "name": "JOB_COMPLETION_INDEX",
        "valueFrom": {"fieldRef": {
            "apiVersion": "v1",
            "fieldPath": format!("metadata.labels['{COMPLETION_INDEX}']"),
        }},
    });
    for list in ["initContainers", "containers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let env = container.as_object_mut().map(|c| c.entry("env"));
            let env = env.map(|env| env.or_insert(json!([])));
            let named = |v: &Value| v["name"] == "JOB_COMPLETION_INDEX";
            if let Some(env) = env.and_then(Value::as_array_mut)
                && !env.iter().any(named)
            {
                env.push(variable.clone());
            }
        }
    }
}

pub(super) fn job(status: &JobStatus, clock: Clock) -> Value {
    let mut map = Map::new();
    let conditions = status.conditions.iter().map(|c| {
        json!({
            "type": c.kind.as_str(),
            "status": c.status.name(),
            "lastProbeTime": clock.print(c.updated),
            "lastTransitionTime": clock.print(c.since),
            "reason": c.reason.as_str(),
            "message": c.message.as_str(),
        })
    });
    put(&mut map, "conditions", conditions.collect());
    for (key, at) in [
        ("startTime", status.start),
        ("completionTime", status.completion),
    ] {
        put(&mut map, key, at.map_or(Value::Null, |at| clock.print(at)));
    }
    for (key, count) in [
        ("active", status.active),
        ("succeeded", status.succeeded),
        ("failed", status.failed),
    ] {
        put(&mut map, key, json!(count));
    }
    for (key, count) in [("terminating", status.terminating), ("ready", status.ready)] {
        map.extend(count.map(|count| (key.to_owned(), json!(count))));
    }
    let completed = json!(status.completed_indexes.as_str());
    put(&mut map, "completedIndexes", completed);
    let failed = status.failed_indexes.as_ref();
    map.extend(failed.map(|failed| ("failedIndexes".to_owned(), json!(failed.as_str()))));
    let uids = |uids: &[Uid]| uids.iter().map(|uid| json!(uid.to_string())).collect();
    let mut uncounted = Map::new();
    put(
        &mut uncounted,
        "succeeded",
        uids(&status.uncounted_succeeded),
    );
    put(&mut uncounted, "failed", uids(&status.uncounted_failed));
    // An empty object as soon as the controller has looked at the Job.
    if status.ready.is_some() {
        map.insert("uncountedTerminatedPods".to_owned(), uncounted.into());
    }
    Value::Object(map)
}

pub(super) fn cron_job(cron: &CronJob, clock: Clock) -> Value {
    let status = &cron.status;
    let mut map = Map::new();
    let active = status.active.iter().map(|(name, uid)| {
        json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "namespace": cron.meta.namespace.as_str(),
            "name": name.as_str(),
            "uid": uid.to_string(),
        })
    });
    put(&mut map, "active", active.collect());
    for (key, at) in [
        ("lastScheduleTime", status.last_schedule),
        ("lastSuccessfulTime", status.last_successful),
    ] {
        put(&mut map, key, at.map_or(Value::Null, |at| clock.print(at)));
    }
    Value::Object(map)
}
