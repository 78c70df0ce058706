//! One run: a scenario is built, driven, recorded, and closed.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::time::Duration;

use super::backing::Backing;
pub use super::backing::On;
use super::expect::{Expectations, threshold};
use crate::cluster::api_server::digest_change;
use crate::cluster::build::Refused;
use crate::cluster::dataplane::DataPlane;
use crate::cluster::{Cluster, Event, Note};
use crate::engine::drive::Limits;
use crate::engine::{
    Closing, Digest, Dispatched, Ended, Header as JournalHeader, Journal, Observer, Progress,
    Queue, Time, drive,
};
use crate::load::tally::{Cause, Tally};
use crate::record::requests::{FailureGroup, TrafficRecord, TrafficSecond};
use crate::record::{
    CheckRow, ComponentNote, EndpointsProgrammed, FaultNote, Header, Recorder, RunRecord, StepNote,
};
use crate::scenario::Scenario;
use crate::store::{Change, Cursor};

/// How a run is watched.
pub struct RunOptions<'a> {
    /// Asked every few thousand events with the time of the run and its end; true stops the run.
    pub stop: &'a mut dyn FnMut(Progress, Option<Time>) -> bool,
    /// Arguments that the replay line must repeat.
    pub arguments: Vec<String>,
}

/// Why a scenario cannot run.
#[derive(Debug)]
pub enum RunError {
    /// The API server refuses an initial object.
    Refused(Box<Refused>),
    /// An expectation does not compile, or the scheduler's configuration is not understood.
    Expectation(String),
    /// Something in a file that only this kind of run needs.
    Input(Box<crate::scenario::Diagnostic>),
    /// The host could not go on, or the journal belongs to another run.
    Host(String),
}

impl From<Box<Refused>> for RunError {
    fn from(refused: Box<Refused>) -> Self {
        RunError::Refused(refused)
    }
}

impl From<String> for RunError {
    fn from(message: String) -> Self {
        RunError::Expectation(message)
    }
}

/// What a run leaves behind.
pub struct Finished {
    /// Everything that a report is made of.
    pub record: RunRecord,
    /// The journal's bytes.
    pub journal: Vec<u8>,
}

/// Looks on beside the recorder: invariants, searches. Reads, never steers.
pub trait Watcher {
    /// Before the first event: to ask components to keep what they know.
    fn at_start(&mut self, _: &mut Cluster) {}
    /// Every change, in order.
    fn on_change(&mut self, change: &Change);
    /// After every event, once its changes were shown.
    fn after_event(&mut self, at: Time, world: &Cluster);
    /// The run is over.
    fn at_end(&mut self, at: Time, world: &Cluster);
}

/// Nobody looks on.
impl Watcher for () {
    fn on_change(&mut self, _: &Change) {}
    fn after_event(&mut self, _: Time, _: &Cluster) {}
    fn at_end(&mut self, _: Time, _: &Cluster) {}
}

/// Looks on: digests every event and change, and records.
struct Onlooker<'a> {
    watcher: &'a mut dyn Watcher,
    recorder: Recorder,
    digest: Digest,
    cursor: Cursor,
    notes: usize,
    /// Expectations, once the run's own time has begun.
    expect: Option<Expectations>,
}

impl Onlooker<'_> {
    fn catch_up(&mut self, world: &Cluster) {
        for note in &world.timeline.notes[self.notes..] {
            take_note(&mut self.recorder, world, note);
        }
        self.notes = world.timeline.notes.len();
        if self.cursor.0 == world.api.store.log().head() {
            return;
        }
        let Ok(changes) = world.api.store.log().since(self.cursor) else {
            unreachable!("the log keeps what was not observed yet");
        };
        for change in changes {
            digest_change(&mut self.digest, change, world.api.store.view());
            self.recorder.on_change(change);
            self.watcher.on_change(change);
            if let Some(expect) = &mut self.expect {
                expect.on_change(change);
            }
            self.cursor = Cursor(change.revision);
        }
    }
}

impl Observer<Cluster> for Onlooker<'_> {
    fn on_event(&mut self, time: Time, seq: u64, event: &Event) {
        (time, seq, event).hash(&mut self.digest);
    }

    fn after_event(&mut self, what: Dispatched, _: &Event, world: &Cluster) {
        self.catch_up(world);
        if let Some(expect) = &mut self.expect {
            expect.look(world.api.store.view(), what.time);
        }
        self.watcher.after_event(what.time, world);
    }
}

fn take_note(recorder: &mut Recorder, world: &Cluster, note: &Note) {
    match note {
        Note::FaultBegan { at, fault, targets } | Note::FaultEnded { at, fault, targets } => {
            let Some(known) = world.fault(*fault) else {
                return;
            };
            recorder.on_fault(FaultNote {
                at: *at,
                name: known.name.clone(),
                action: known.action_name().into(),
                nodes: targets.nodes.clone(),
                pods: (targets.pods.iter())
                    .map(|p| format!("{}/{}", p.namespace, p.name).into())
                    .collect(),
                healed: matches!(note, Note::FaultEnded { .. }),
                candidates: targets.candidates,
                components: targets.components.clone(),
                detail: known.detail(),
            });
        }
        Note::Component {
            at,
            component,
            what,
            bad,
        } => recorder.on_component(ComponentNote {
            at: *at,
            component: component.clone(),
            what: what.clone(),
            bad: *bad,
        }),
        Note::StepBegan { at, step, text } => recorder.on_step(StepNote {
            at: *at,
            step: *step,
            text: text.clone(),
            result: None,
        }),
        Note::StepEnded {
            at,
            step,
            text,
            result,
            ..
        } => recorder.on_step(StepNote {
            at: *at,
            step: *step,
            text: text.clone(),
            result: Some(result.clone()),
        }),
        Note::Settled { .. } => {}
    }
}

/// Runs a scenario on the simulated backend.
///
/// # Errors
/// An initial object that the API server refuses, an expectation that does not compile.
pub fn run(scenario: &Scenario, options: &mut RunOptions<'_>) -> Result<Finished, RunError> {
    run_watched(scenario, options, &mut ())
}

/// As [`run()`], with somebody looking on.
///
/// # Errors
/// As [`run()`].
pub fn run_watched(
    scenario: &Scenario,
    options: &mut RunOptions<'_>,
    watcher: &mut dyn Watcher,
) -> Result<Finished, RunError> {
    run_on(scenario, options, On::Simulation, watcher)
}

/// Runs a scenario on a backend, with somebody looking on.
///
/// # Errors
/// An initial object that the API server refuses, an expectation that does not compile, a host on
/// which the run cannot go on.
pub fn run_on(
    scenario: &Scenario,
    options: &mut RunOptions<'_>,
    on: On<'_>,
    watcher: &mut dyn Watcher,
) -> Result<Finished, RunError> {
    crate::cluster::build::scheduler_config(scenario)?;
    let (mut cluster, mut queue) = Cluster::build_with(scenario, on.containers())?;
    watcher.at_start(&mut cluster);
    cluster.timeline.settling.impatient = on.sat_through();
    let mut journal = Journal::new(JournalHeader {
        scenario: scenario.digest,
        seed: scenario.seed,
        metadata: Vec::new(),
    });
    let name = on.name();
    let mut backing = Backing::new(on, &cluster, &scenario.cluster.latency, &mut journal);
    let mut onlooker = Onlooker {
        watcher,
        recorder: Recorder::new(),
        digest: Digest::new(),
        cursor: Cursor(0),
        notes: 0,
        expect: None,
    };
    onlooker.catch_up(&cluster);
    let mut stage = Stage {
        scenario,
        cluster: &mut cluster,
        queue: &mut queue,
        backing: &mut backing,
    };
    let (epoch, ended) = stage.play(scenario.duration, &mut onlooker, options)?;
    onlooker.watcher.at_end(queue.now(), &cluster);
    let mut degraded = backing.finish(ended)?;
    degraded.extend(unsettled(&cluster).filter(|_| name != "sim"));
    degraded.extend(cluster.pretended());
    cluster.data.finish();
    let digest = onlooker.digest.finish128();
    journal.close(Closing {
        at: queue.now(),
        dispatched: queue.popped(),
        digest,
    });
    let end = (epoch, queue.now(), queue.popped());
    let interrupted = ended == Ended::Stopped;
    let header = Header {
        backend: name.into(),
        digest: format!("{digest:032x}"),
        interrupted,
        degraded,
        nodes: u32::try_from(cluster.machines.len()).unwrap_or(u32::MAX),
        arguments: options.arguments.clone(),
        ..header(scenario, end)
    };
    let traffic = traffic_records(&cluster, scenario);
    let mut record = onlooker.recorder.finish(header, traffic);
    record.programmed = programmed(&mut cluster.data, queue.now());
    if let Some(expect) = onlooker.expect {
        record.checks = expect.finish(cluster.api.store.view(), queue.now(), interrupted);
    }
    record.checks.extend(failed_steps(&cluster));
    let mut judged = judged(scenario, &cluster);
    if interrupted {
        judged.iter_mut().for_each(leave_open);
    }
    record.checks.extend(judged);
    let journal = journal.encode().unwrap_or_default();
    Ok(Finished { record, journal })
}

/// A threshold counts requests that were not sent any more.
fn leave_open(threshold: &mut CheckRow) {
    (threshold.passed, threshold.open) = (false, true);
    threshold.detail.push_str(" when the run was interrupted");
}

/// How the thresholds of Traffics came out.
fn judged(scenario: &Scenario, cluster: &Cluster) -> Vec<CheckRow> {
    let thresholds = scenario.thresholds.iter();
    let judged = thresholds.filter_map(|each| {
        let mut tallies = cluster.data.tallies();
        let (_, tally) = tallies.find(|(name, _)| **name == each.traffic)?;
        Some(threshold::judge(each, tally))
    });
    judged.collect()
}

/// When proxies had programmed what, in order.
fn programmed(data: &mut DataPlane, end: Time) -> Vec<EndpointsProgrammed> {
    let mut found: Vec<_> = data
        .syncs(end)
        .into_iter()
        .filter_map(|(place, at, revision)| {
            let node = data.place_name(place.0)?.clone();
            Some(EndpointsProgrammed { at, node, revision })
        })
        .collect();
    found.sort_by(|a, b| (a.at, &a.node).cmp(&(b.at, &b.node)));
    found
}

/// What the report says of a run of this scenario; `end` is when its own time began, when it
/// ended, and after how many events.
fn header(scenario: &Scenario, (epoch, end, events): (Time, Time, u64)) -> Header {
    let counted = scenario.not_modelled.iter();
    Header {
        scenario: scenario.name.to_string(),
        file: scenario.file.clone(),
        seed: scenario.seed,
        kubernetes_version: scenario.version.to_string(),
        begun: epoch,
        simulated: end.since(epoch),
        events,
        workloads: workloads(scenario),
        not_modelled: counted.map(|(k, n)| (k.clone(), *n as u64)).collect(),
        ..Header::default()
    }
}

/// What was not ready when the run began.
fn unsettled(cluster: &Cluster) -> Option<String> {
    let missing = cluster.timeline.notes.iter().find_map(|note| match note {
        Note::Settled { missing, .. } if !missing.is_empty() => Some(missing.join(", ")),
        _ => None,
    });
    missing.map(|missing| format!("the run began without {missing}"))
}

struct Stage<'a, 'b> {
    scenario: &'a Scenario,
    cluster: &'a mut Cluster,
    queue: &'a mut Queue<Event>,
    backing: &'a mut Backing<'b>,
}

impl Stage<'_, '_> {
    fn drive(
        &mut self,
        until: Time,
        onlooker: &mut Onlooker<'_>,
        stop: &mut dyn FnMut(Progress) -> bool,
    ) -> Ended {
        let limits = Limits::until(until);
        drive(
            self.cluster,
            self.queue,
            self.backing.backend.as_mut(),
            &mut self.backing.tape,
            onlooker,
            limits,
            stop,
        )
    }

    /// First until the initial workloads serve, then for the scenario's duration.
    fn play(
        &mut self,
        duration: Duration,
        onlooker: &mut Onlooker<'_>,
        options: &mut RunOptions<'_>,
    ) -> Result<(Time, Ended), RunError> {
        let mut until = Time::ZERO;
        let epoch = loop {
            if let Some(epoch) = self.cluster.timeline.epoch {
                break epoch;
            }
            until += Duration::from_secs(1);
            let ended = self.drive(until, onlooker, &mut |p| (options.stop)(p, None));
            if ended != Ended::Until {
                return Ok((self.queue.now(), ended));
            }
            if let Some(why) = self.backing.backend.stuck() {
                return Err(RunError::Host(why));
            }
        };
        let end = epoch + duration;
        onlooker.expect = Some(Expectations::new(self.scenario, epoch, end)?);
        let ended = self.drive(end, onlooker, &mut |p| (options.stop)(p, Some(end)));
        Ok((epoch, ended))
    }
}

fn workloads(scenario: &Scenario) -> u32 {
    use crate::api::Row;
    let is_workload = |row: &Row| {
        matches!(
            row,
            Row::Deployment(_)
                | Row::ReplicaSet(_)
                | Row::StatefulSet(_)
                | Row::DaemonSet(_)
                | Row::Job(_)
                | Row::CronJob(_)
                | Row::Pod(_)
        )
    };
    let count = scenario
        .objects
        .iter()
        .filter(|o| is_workload(&o.row))
        .count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Steps that failed and were not optional are failed checks.
fn failed_steps(cluster: &Cluster) -> Vec<CheckRow> {
    let epoch = cluster.timeline.epoch.unwrap_or(Time::ZERO);
    let failed = |note: &Note| match note {
        Note::StepEnded {
            at,
            text,
            result: Err(error),
            optional: false,
            ..
        } => Some(CheckRow {
            name: text.clone(),
            kind: "step".into(),
            passed: false,
            at_s: Some(at.since(epoch).as_secs_f64()),
            run_s: Some(at.since(epoch).as_secs_f64()),
            detail: error.clone(),
            open: false,
        }),
        _ => None,
    };
    cluster.timeline.notes.iter().filter_map(failed).collect()
}

/// The tallies of the data plane as plain rows.
fn traffic_records(cluster: &Cluster, scenario: &Scenario) -> Vec<TrafficRecord> {
    let users = cluster.data.tallies().map(|(name, tally)| {
        let traffic = scenario.traffic.iter().find(|t| t.name == *name);
        let to = traffic.map(|t| t.to.to_string()).unwrap_or_default();
        let client = traffic
            .map(|t| &t.client)
            .filter(|client| client.keep_alive);
        TrafficRecord {
            kept: client.map_or(0, |client| client.connections),
            ..traffic_record(cluster, tally, name.to_string(), to, false)
        }
    });
    let calls = cluster.data.call_tallies().map(|(caller, service, tally)| {
        traffic_record(
            cluster,
            tally,
            caller.to_string(),
            service.to_string(),
            true,
        )
    });
    users.chain(calls).collect()
}

fn traffic_record(
    cluster: &Cluster,
    tally: &Tally,
    name: String,
    to: String,
    internal: bool,
) -> TrafficRecord {
    let us = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
    let named = |counts: &[u64; Cause::ALL.len()]| -> BTreeMap<String, u64> {
        Cause::ALL
            .iter()
            .zip(counts)
            .filter(|(_, n)| **n > 0)
            .map(|(cause, n)| (cause.name().to_owned(), *n))
            .collect()
    };
    let second = |row: &crate::load::tally::Second| TrafficSecond {
        second: row.second,
        sent: row.sent,
        ok: row.ok,
        failed: Cause::ALL
            .iter()
            .zip(&row.failed)
            .filter(|(_, n)| **n > 0)
            .map(|(cause, n)| (cause.name().to_owned(), *n))
            .collect(),
        p50_us: row.p50_us,
        p90_us: row.p90_us,
        p99_us: row.p99_us,
        max_us: row.max_us,
    };
    const QUANTILES: [f64; 18] = [
        0.0, 0.1, 0.25, 0.5, 0.75, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995,
        0.9998, 0.9999, 1.0,
    ];
    TrafficRecord {
        name,
        to,
        internal,
        sent: tally.sent,
        ok: tally.ok,
        failed: tally.failed,
        in_flight: tally.in_flight(),
        failed_by: named(&tally.failed_by),
        p50_us: us(tally.latency(0.5)),
        p90_us: us(tally.latency(0.9)),
        p99_us: us(tally.latency(0.99)),
        max_us: us(tally.max_latency()),
        ok_p50_us: us(tally.ok_latency(0.5)),
        ok_p90_us: us(tally.ok_latency(0.9)),
        ok_p99_us: us(tally.ok_latency(0.99)),
        kept: 0,
        answered_by: (tally.answered_by().into_iter())
            .filter_map(|(pod, n)| {
                let (namespace, name) = cluster.pod_name(pod)?;
                Some((format!("{namespace}/{name}"), n))
            })
            .collect(),
        quantiles: QUANTILES
            .iter()
            .map(|q| (*q, us(tally.latency(*q))))
            .collect(),
        seconds: tally.rows().iter().map(second).collect(),
        groups: tally
            .groups()
            .into_iter()
            .map(|(f, g)| failure_group(cluster, f, g))
            .collect(),
    }
}

fn failure_group(
    cluster: &Cluster,
    failure: crate::load::tally::Failure,
    group: crate::load::tally::Group,
) -> FailureGroup {
    let pod = cluster.pod_name(failure.pod);
    let pod = pod.map(|(namespace, name)| format!("{namespace}/{name}").into());
    let node = cluster.data.place_name(failure.place).cloned();
    FailureGroup {
        cause: failure.cause.name().to_owned(),
        class: failure.class.name().to_owned(),
        pod: pod.unwrap_or_default(),
        node: node.unwrap_or_default(),
        count: group.count,
        first: group.first,
        last: group.last,
        dead: group.dead,
    }
}
