//! What a run did to each workload: requests that failed, pods that could answer, work that was held
//! up.

use std::collections::BTreeMap;

use super::guards::refusal;
use super::plan::{BEGIN, Run, traffic_name};
use super::survey::{Survey, Workload};
use crate::api::{Pod, Text};
use crate::cluster::Cluster;
use crate::engine::Time;
use crate::record::audit::{Grade, Outcome};
use crate::record::{PodLife, RunRecord, TrafficRecord};
use crate::store::Change;

/// One failure in 2,500 requests is the most that counts as none.
pub const NOTICED: u64 = 2_500;

/// Answers are slow from this on, in microseconds, and when they take [`SLOWER`] times as long as on
/// a calm day.
const SLOW_US: u64 = 100_000;
const SLOWER: u64 = 5;

/// Notes which workload each pod belongs to.
#[derive(Debug)]
pub struct Belonging<'s> {
    survey: &'s Survey,
    /// By `namespace/name`.
    pods: BTreeMap<String, usize>,
}

impl<'s> Belonging<'s> {
    /// Of these workloads' pods.
    pub fn new(survey: &'s Survey) -> Self {
        Belonging {
            survey,
            pods: BTreeMap::new(),
        }
    }
}

impl crate::check::Watcher for Belonging<'_> {
    fn on_change(&mut self, change: &Change) {
        let Some((None, Some(pod))) = change.rows::<Pod>() else {
            return;
        };
        let mut workloads = self.survey.workloads.iter();
        let owner = workloads.position(|w| {
            let own = match w.kind {
                "Pod" => pod.meta.name == w.name,
                _ => pod.meta.controller().is_some() && w.selector.matches(&pod.meta.labels),
            };
            pod.meta.namespace == w.namespace && own
        });
        if let Some(owner) = owner {
            self.pods.insert(pod.meta.full_name(), owner);
        }
    }

    fn after_event(&mut self, _: Time, _: &Cluster) {}

    fn at_end(&mut self, _: Time, _: &Cluster) {}
}

/// What is known of a calm day, to compare with: by workload, the 99th percentile and how many pods
/// answered.
pub type Calm<'c> = Option<&'c [Outcome]>;

/// How each workload fared in a run, in the order of the survey.
pub fn judge(record: &RunRecord, of: &Belonging<'_>, run: &Run, calm: Calm<'_>) -> Vec<Outcome> {
    let workloads = of.survey.workloads.iter().enumerate();
    workloads
        .map(|(number, workload)| {
            let pods: Vec<&PodLife> = (record.pods.iter())
                .filter(|pod| of.pods.get(&full(pod)) == Some(&number))
                .collect();
            let calm = calm.and_then(|calm| calm.get(number));
            one(record, workload, &pods, run, calm)
        })
        .collect()
}

fn full(pod: &PodLife) -> String {
    match pod.namespace.is_empty() {
        true => pod.name.to_string(),
        false => format!("{}/{}", pod.namespace, pod.name),
    }
}

fn one(
    record: &RunRecord,
    workload: &Workload,
    pods: &[&PodLife],
    run: &Run,
    calm: Option<&Outcome>,
) -> Outcome {
    let begin = record.header.begun + BEGIN;
    let end = record.header.begun + record.header.simulated;
    let serving = Serving::of(record, pods);
    // What goes at the very beginning of the bad day was there.
    let wanted = serving.at(Time::from_nanos(begin.as_nanos() - 1));
    if calm.is_some_and(|calm| calm.grade >= Grade::Failing) {
        // What is bad on a calm day has nothing to lose; the calm day tells why.
        return Outcome::default();
    }
    let mut outcome = Outcome {
        run: run.target.clone(),
        wanted,
        least: serving.least(begin, end),
        back_s: serving.back(begin, end, wanted),
        ..Outcome::default()
    };
    if wanted == 0 && calm.is_none() {
        outcome.grade = Grade::Down;
        outcome.down_s = end.since(begin).as_secs_f64();
        outcome.stuck = held_up(record, pods);
        outcome.webhook = refusal(record, workload);
        return outcome;
    }
    let traffic: Vec<&TrafficRecord> = (record.traffic.iter())
        .filter(|traffic| !traffic.internal && leads_to(&traffic.name, &traffic.to, workload))
        .collect();
    requests(&traffic, begin, &mut outcome);
    if traffic.is_empty() {
        outcome.down_s = serving.longest_without(begin, end);
    }
    outcome.stuck = match run.name {
        "drain" => drain_held_up(record, workload, pods),
        "rollout" => rollout_held_up(record, workload, pods),
        _ => String::new(),
    };
    outcome.grade = grade(&outcome, workload, wanted, calm);
    if outcome.grade == Grade::Short {
        outcome.stuck = waiting(record, pods).unwrap_or_default();
    }
    if outcome.grade >= Grade::Short {
        outcome.webhook = refusal(record, workload);
    }
    outcome
}

/// What the pods wait for that are not ready, if there are any.
fn waiting(record: &RunRecord, pods: &[&PodLife]) -> Option<String> {
    let mut pods = pods.iter().copied();
    let pod = pods.find(|pod| pod.ready.is_none() && pod.gone.is_none())?;
    Some(held_up(record, &[pod]))
}

/// A rollout that has not come to its end, and what its pods wait for.
fn rollout_held_up(record: &RunRecord, workload: &Workload, pods: &[&PodLife]) -> String {
    let name = format!("{}/{}", workload.namespace, workload.name);
    let last = record.replicas.get(&name).and_then(|points| points.last());
    let done = last.is_none_or(|last| last.updated >= last.want && last.ready >= last.want);
    if done || workload.kind != "Deployment" {
        return String::new();
    }
    waiting(record, pods).unwrap_or_else(|| "not complete".to_owned())
}

/// Whether a Traffic goes to one of the workload's Services.
fn leads_to(name: &str, to: &str, workload: &Workload) -> bool {
    workload.services.iter().any(|(service, _)| {
        let target = to
            .rsplit('/')
            .next()
            .and_then(|last| last.split(':').next());
        name == traffic_name(&workload.namespace, service) || target == Some(service.as_str())
    })
}

/// Counts what ended after the bad day began.
fn requests(traffic: &[&TrafficRecord], begin: Time, outcome: &mut Outcome) {
    let mut causes: BTreeMap<&str, u64> = BTreeMap::new();
    for traffic in traffic {
        let mut tails: Vec<u64> = Vec::new();
        let mut dark: Option<Time> = None;
        for second in traffic.seconds.iter().filter(|s| s.at() >= begin) {
            let failed = second.failures();
            outcome.ended += u64::from(second.ok) + failed;
            outcome.failed += failed;
            if second.ok > 0 {
                tails.push(u64::from(second.p99_us));
                dark = None;
            } else if failed > 0 {
                let since = *dark.get_or_insert(second.at());
                let span = second.at().since(since).as_secs_f64() + 1.0;
                outcome.down_s = outcome.down_s.max(span);
            }
        }
        tails.sort_unstable();
        let nine_of_ten = tails.len() * 9 / 10;
        outcome.p99_us = outcome
            .p99_us
            .max(tails.get(nine_of_ten).copied().unwrap_or(0));
        for group in traffic.groups.iter().filter(|g| g.last >= begin) {
            *causes.entry(group.class.as_str()).or_default() += group.count;
        }
    }
    let mut failures: Vec<(String, u64)> = (causes.into_iter())
        .map(|(class, n)| (class.to_owned(), n))
        .collect();
    failures.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    outcome.failures = failures;
    // One second without answers is a gap between two requests.
    if outcome.down_s < 2.0 {
        outcome.down_s = 0.0;
    }
}

fn grade(outcome: &Outcome, workload: &Workload, wanted: u32, calm: Option<&Outcome>) -> Grade {
    let slow = calm.is_some_and(|calm| {
        outcome.p99_us > SLOW_US && outcome.p99_us > SLOWER * calm.p99_us.max(1)
    });
    let short = outcome.back_s.is_none() && workload.autoscaler.is_none() && wanted > 0;
    match () {
        () if outcome.down_s > 0.0 => Grade::Down,
        () if !outcome.stuck.is_empty() => Grade::Stuck,
        () if outcome.failed * NOTICED > outcome.ended => Grade::Failing,
        () if short && workload.kind != "DaemonSet" => Grade::Short,
        () if slow => Grade::Slow,
        () => Grade::Ok,
    }
}

/// Why pods never came up: the last warning about one of them.
fn held_up(record: &RunRecord, pods: &[&PodLife]) -> String {
    let Some(pod) = pods.iter().find(|pod| pod.gone.is_none()) else {
        return "none of its pods was ever created".to_owned();
    };
    let mut events = record.events.iter().rev();
    let last = events.find(|event| {
        let about = event.name == pod.name && event.namespace == pod.namespace;
        about && event.level == "Warning"
    });
    match last {
        Some(event) => format!("{}: {}", event.reason, event.message),
        None if !pod.reason.is_empty() => format!("{}: {}", pod.name, pod.reason),
        None => format!("{} is {} and never ready", pod.name, pod.phase),
    }
}

/// A drain that failed while pods of the workload were left on its node, held by a budget.
fn drain_held_up(record: &RunRecord, workload: &Workload, pods: &[&PodLife]) -> String {
    let Some(budget) = &workload.budget else {
        return String::new();
    };
    for step in &record.steps {
        let Some(node) = step
            .text
            .strip_prefix("drain ")
            .and_then(|t| t.split(' ').next())
        else {
            continue;
        };
        let left = pods.iter().any(|pod| {
            let leaves = [pod.terminating, pod.gone];
            pod.node == node
                && pod.ready.is_some_and(|ready| ready < step.at)
                && leaves.iter().flatten().all(|at| *at > step.at)
        });
        if let (true, Some(Err(_))) = (left, &step.result) {
            return format!(
                "PodDisruptionBudget {} held up the drain of {node}",
                budget.name
            );
        }
    }
    String::new()
}

/// How many pods could answer, over time.
pub struct Serving {
    /// Changes: when, and by how many.
    pub steps: Vec<(Time, i32)>,
}

impl Serving {
    fn of(record: &RunRecord, pods: &[&PodLife]) -> Serving {
        let dead = |node: &Text| {
            let mut faults = record
                .faults
                .iter()
                .filter(|f| !f.healed && f.nodes.contains(node));
            faults
                .find(|f| f.action == "power-off")
                .map(|fault| fault.at)
        };
        let mut steps = Vec::new();
        for pod in pods {
            let mut marks: Vec<(Time, bool)> = Vec::new();
            marks.extend(pod.ready.map(|at| (at, true)));
            marks.extend(pod.ready_again.iter().map(|at| (*at, true)));
            marks.extend(pod.unready.iter().map(|at| (*at, false)));
            marks.extend(
                [pod.terminating, pod.gone]
                    .into_iter()
                    .flatten()
                    .map(|at| (at, false)),
            );
            marks.extend(dead(&pod.node).map(|at| (at, false)));
            marks.sort_unstable();
            let mut up = false;
            for (at, now) in marks {
                if up != now {
                    steps.push((at, if now { 1 } else { -1 }));
                    up = now;
                }
                // Nothing serves again on its way out.
                if pod.terminating.is_some_and(|end| at >= end) {
                    break;
                }
            }
        }
        steps.sort_unstable();
        Serving { steps }
    }

    pub fn at(&self, when: Time) -> u32 {
        let sum: i32 = self
            .steps
            .iter()
            .filter(|(at, _)| *at <= when)
            .map(|(_, by)| by)
            .sum();
        u32::try_from(sum).unwrap_or(0)
    }

    /// The numbers between two times: from when, and how many from then on.
    fn spans(&self, begin: Time, end: Time) -> Vec<(Time, u32)> {
        let mut spans = vec![(begin, self.at(begin))];
        for (at, _) in self
            .steps
            .iter()
            .filter(|(at, _)| *at > begin && *at <= end)
        {
            if spans.last().is_some_and(|(last, _)| last == at) {
                spans.pop();
            }
            spans.push((*at, self.at(*at)));
        }
        spans
    }

    pub fn least(&self, begin: Time, end: Time) -> u32 {
        let spans = self.spans(begin, end);
        spans.iter().map(|(_, n)| *n).min().unwrap_or(0)
    }

    pub fn longest_without(&self, begin: Time, end: Time) -> f64 {
        let spans = self.spans(begin, end);
        let ends = spans.iter().skip(1).map(|(at, _)| *at).chain([end]);
        let dark = spans.iter().zip(ends).filter(|((_, n), _)| *n == 0);
        dark.map(|((from, _), to)| to.since(*from).as_secs_f64())
            .fold(0.0, f64::max)
    }

    /// Seconds until there are as many as wanted again, for good.
    pub fn back(&self, begin: Time, end: Time, wanted: u32) -> Option<f64> {
        let spans = self.spans(begin, end);
        let (_, last) = spans.last()?;
        if *last < wanted {
            return None;
        }
        let short = spans.iter().rposition(|(_, n)| *n < wanted);
        Some(short.map_or(0.0, |at| spans[at + 1].0.since(begin).as_secs_f64()))
    }
}

/// How bad an outcome is: its grade, how long nobody answered, the share that failed.
pub fn badness(outcome: &Outcome) -> (Grade, u64, u64) {
    let share = outcome.failed.saturating_mul(1_000_000) / outcome.ended.max(1);
    (outcome.grade, (outcome.down_s * 1_000.0) as u64, share)
}

/// The worse of two outcomes of one trial.
pub fn worse(one: Outcome, other: Outcome) -> Outcome {
    match badness(&other) > badness(&one) {
        true => other,
        false => one,
    }
}
