//! How many pods run: creations and deletions of one sync.
//!
//! A port of `manageJob` of `pkg/controller/job/job_controller.go`.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::back_off::{finished, remaining};
use super::sync::{
    Asked, INDEX_FAILURES, INDEX_IGNORED, Row, Sync, all_failures_of_index, failures_of_index,
    ignored_of_index,
};
use super::{BATCH_PERIOD, completion_index, policy};
use crate::api::batch::{COMPLETION_INDEX, TRACKING_FINALIZER};
use crate::api::meta::recorded;
use crate::api::{OwnerRef, Pod, Text};
use crate::client::{Plan, Step};
use crate::control::owner::controller_ref;
use crate::control::pods;
use crate::control::replica_set::victims;
use crate::engine::Time;
use crate::store::Write;

/// `MaxPodCreateDeletePerSync`.
pub const MAX_PER_SYNC: usize = 500;
/// `names.MaxGeneratedNameLength`: 63 without the five random characters.
const LONGEST_PREFIX: usize = 58;

/// Plans creations or deletions; not both, deletions first.
pub fn manage(sync: &mut Sync, plan: &mut Plan, now: Time) {
    sync.managed = true;
    let spec = &sync.job.spec;
    let active = i32::try_from(sync.active.len()).unwrap_or(i32::MAX);
    if spec.suspend {
        let doomed = for_removal(sync, sync.active.len());
        sync.delete(&doomed, true, plan);
        return;
    }
    let wanted = match spec.completions {
        // Nobody starts another pod after the first success.
        None if sync.succeeded > 0 => active,
        None => spec.parallelism,
        Some(completions) => (completions - sync.succeeded).min(spec.parallelism).max(0),
    };
    let surplus = usize::try_from(active - wanted).unwrap_or(0);
    let mut doomed = for_removal(sync, surplus);
    doomed.truncate(MAX_PER_SYNC);
    if !doomed.is_empty() {
        sync.delete(&doomed, true, plan);
        return;
    }
    let leaving = match sync.replaces_failed_only() {
        true => sync.terminating,
        false => 0,
    };
    if let Ok(missing) = usize::try_from(wanted - leaving - active)
        && missing > 0
    {
        create(sync, missing.min(MAX_PER_SYNC), plan, now);
    }
}

fn create(sync: &mut Sync, missing: usize, plan: &mut Plan, now: Time) {
    let per_index = sync.job.spec.backoff_limit_per_index.is_some();
    let wait = match per_index {
        true => Duration::ZERO,
        false => sync.back_off.remaining(now),
    };
    if !wait.is_zero() {
        return wait_for(sync, wait, plan);
    }
    let writes: Vec<Write> = if sync.job.spec.indexed {
        let mut indexes = pending_indexes(sync, missing);
        if per_index {
            let wait = |index: &i32| wait_of_index(sync, *index, now);
            let waits: Vec<Duration> = indexes.iter().map(wait).collect();
            let least = waits.iter().min().copied().unwrap_or_default();
            if !least.is_zero() {
                return wait_for(sync, least, plan);
            }
            let mut waits = waits.iter();
            indexes.retain(|_| waits.next().is_none_or(Duration::is_zero));
        }
        let base = new_pod(sync);
        let pods = indexes.iter().map(|index| indexed(&base, *index, sync));
        pods.map(|pod| Write::Create(pod.into())).collect()
    } else {
        let pod = Arc::new(new_pod(sync));
        vec![Write::Create(crate::api::Row::Pod(pod)); missing]
    };
    if writes.is_empty() {
        return;
    }
    sync.asked = Asked {
        creates: true,
        total: writes.len(),
        ..Asked::default()
    };
    plan.steps.push(Step::SlowStart {
        writes,
        rule: "too few pods",
    });
}

/// `enqueueSyncJobWithDelay`.
fn wait_for(sync: &mut Sync, wait: Duration, plan: &mut Plan) {
    sync.waits = true;
    plan.requeue_anyway(wait.max(BATCH_PERIOD));
}

fn new_pod(sync: &Sync) -> Pod {
    let job = &sync.job;
    let owners: Arc<[OwnerRef]> = [controller_ref(job)].into();
    let mut pod = pods::from_template(&job.spec.template, &job.meta, &owners);
    // `appendJobCompletionFinalizerIfNotFound`.
    if !super::held(&pod) {
        let all = pod.meta.finalizers.iter().cloned();
        pod.meta.finalizers = all.chain([Text::from(TRACKING_FINALIZER)]).collect();
    }
    pod
}

/// The pod of an index. Hostname and `JOB_COMPLETION_INDEX` follow from the index and are laid over
/// the shared spec when the pod is printed.
fn indexed(base: &Pod, index: i32, sync: &Sync) -> Pod {
    let mut pod = base.clone();
    let meta = &mut pod.meta;
    let text = index.to_string();
    let suffix = format!("-{text}-");
    let room = LONGEST_PREFIX - suffix.len();
    let name = sync.job.meta.name.as_str();
    let name = name.get(..room).unwrap_or(name);
    meta.generate_name = format!("{name}{suffix}").into();
    meta.labels = meta.labels.with(COMPLETION_INDEX, text.as_str());
    meta.annotations = meta.annotations.with(COMPLETION_INDEX, text.as_str());
    if sync.job.spec.backoff_limit_per_index.is_some() {
        let (mut failures, mut ignored) = (0, 0);
        if let Some((_, last)) = sync.delayed.get(&index) {
            (failures, ignored) = (failures_of_index(last), ignored_of_index(last));
            match policy::judge(&sync.job.spec, last).counts {
                true => failures += 1,
                false => ignored += 1,
            }
        }
        let count = failures.to_string();
        meta.annotations = meta.annotations.with(INDEX_FAILURES, count);
        if ignored > 0 {
            meta.annotations = meta.annotations.with(INDEX_IGNORED, ignored.to_string());
        }
    }
    pod
}

/// `firstPendingIndexes`.
fn pending_indexes(sync: &Sync, count: usize) -> Vec<i32> {
    let indexes = |rows: &mut dyn Iterator<Item = &Row>| -> BTreeSet<i32> {
        rows.filter_map(|(_, pod)| completion_index(pod)).collect()
    };
    let mut taken = sync.completed.with(&indexes(&mut sync.active.iter()));
    if sync.replaces_failed_only() {
        let mut leaving = sync.pods.iter().filter(|(_, pod)| pods::terminating(pod));
        taken = taken.with(&indexes(&mut leaving));
    }
    if let Some(failed) = &sync.failed_indexes {
        taken = taken.merged(failed);
    }
    taken.gaps(count, sync.job.spec.completions.unwrap_or(0))
}

/// `getRemainingTimePerIndex`.
fn wait_of_index(sync: &Sync, index: i32, now: Time) -> Duration {
    let Some((_, last)) = sync.delayed.get(&index) else {
        return Duration::ZERO;
    };
    remaining(all_failures_of_index(last) + 1, finished(last), now)
}

/// `activePodsForRemoval`: pods without a valid index and all but one of each index, and as many
/// more as there are too many, the least far first.
fn for_removal(sync: &Sync, at_least: usize) -> Vec<Row> {
    let mut left = sync.active.clone();
    let mut doomed = Vec::new();
    if sync.job.spec.indexed {
        (doomed, left) = duplicates(sync, left);
    }
    let more = at_least.saturating_sub(doomed.len());
    if more > 0 {
        left.sort_by(|a, b| least_far(&a.1, &b.1));
        doomed.extend(left.into_iter().take(more));
    }
    doomed
}

/// `appendDuplicatedIndexPodsForRemoval`: (to remove, left).
fn duplicates(sync: &Sync, mut pods: Vec<Row>) -> (Vec<Row>, Vec<Row>) {
    let (mut doomed, mut left) = (Vec::new(), Vec::new());
    pods.sort_by_key(|(_, pod)| completion_index(pod));
    for same in pods.chunk_by(|a, b| completion_index(&a.1) == completion_index(&b.1)) {
        let mut same = same.to_vec();
        if sync.index(&same[0].1).is_some() {
            same.sort_by(|a, b| least_far(&a.1, &b.1));
            left.extend(same.pop());
        }
        doomed.extend(same);
    }
    (doomed, left)
}

/// `pkg/controller/controller_utils.go :: ActivePods.Less`: what has cost least so far goes first.
fn least_far(a: &Pod, b: &Pod) -> Ordering {
    let rank = |pod: &Pod| {
        let bound = pod.node_name.is_some();
        (bound, victims::phase(pod.status.phase), pod.status.ready())
    };
    // Younger ones first.
    let since = |pod: &Pod| Reverse(pods::ready_since(pod).unwrap_or(Time::ZERO));
    let created = |pod: &Pod| Reverse(recorded(pod.meta.created));
    rank(a)
        .cmp(&rank(b))
        .then_with(|| since(a).cmp(&since(b)))
        .then_with(|| victims::restarts(b).cmp(&victims::restarts(a)))
        .then_with(|| created(a).cmp(&created(b)))
}
