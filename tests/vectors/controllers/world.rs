//! A small cluster: store, controllers, and stand-ins for scheduler and kubelet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rehearsal::api::patch::PatchKind;
use rehearsal::api::pod_status::{
    ContainerState, ContainerStatus, Phase, PodCondition, PodConditionKind, PodIp, Terminated,
    Truth,
};
use rehearsal::api::{Kind, Pod, PodStatus, Row, Shared, Text};
use rehearsal::client::{Driven, Event, Outbox, Reply, Runner, Send};
use rehearsal::control::cron_job::CronJobController;
use rehearsal::control::daemon_set::{DaemonSetController, nodes};
use rehearsal::control::deployment::DeploymentController;
use rehearsal::control::disruption::DisruptionController;
use rehearsal::control::endpoint_slice::EndpointSliceController;
use rehearsal::control::garbage_collector::GarbageCollector;
use rehearsal::control::job::orphans::JobOrphanController;
use rehearsal::control::job::{JobController, completion_index};
use rehearsal::control::node_lifecycle::{self, NodeLifecycleController};
use rehearsal::control::pod_gc::PodGcController;
use rehearsal::control::replica_set::ReplicaSetController;
use rehearsal::control::resource_quota::ResourceQuotaController;
use rehearsal::control::stateful_set::StatefulSetController;
use rehearsal::control::taint_eviction::TaintEvictionController;
use rehearsal::control::ttl_after_finished::TtlAfterFinishedController;
use rehearsal::engine::{Draws, Queue, Time};
use rehearsal::store::{
    ApiError, Cause, Change, Cursor, Id, ObjectId, Op, Patch, Propagation, Store, View, Write,
};
use serde_json::{Value, json};

use super::log::Log;
use super::objects;
use super::recorded::{self, Recorded};
use super::story::{LATE_S, owner};

/// From client to server, and back; and from server to informers.
const REQUEST: Duration = Duration::from_millis(3);
const REPLY: Duration = Duration::from_millis(2);
const WATCH: Duration = Duration::from_millis(3);
/// What the real scheduler took for a pod.
const SCHEDULE: Duration = Duration::from_millis(6);
/// A pod that the recording does not know goes to one of the ten nodes in turn.
const NODES: u32 = 10;

#[derive(Clone, Copy, Debug)]
pub enum Due {
    Begin,
    Step(usize),
    Deliver(u64),
    Control(usize, Event),
    Arrive(usize),
    Answer(usize),
    Bind(Id<Pod>),
    Run(Id<Pod>),
    Ready(Id<Pod>),
    Exit(Id<Pod>),
    Gone(Id<Pod>),
    /// Leases of nodes that are up are renewed.
    Renew,
}

pub struct World<'a> {
    pub(super) scenario: &'a Value,
    pub(super) store: Store,
    /// What the informers have seen, up to `told`.
    pub(super) view: View,
    controllers: Vec<Box<dyn Driven>>,
    pub(super) queue: Queue<Due>,
    draws: Draws,
    sends: Vec<(usize, Send)>,
    replies: Vec<Option<Reply>>,
    pub(super) log: Log,
    pub(super) logged: u64,
    pub(super) begin: Time,
    /// How late the stand-in kubelet reports that containers are ready or have ended.
    late: Duration,
    /// How much slower the Deployment controller's requests are than those of others.
    slow: Duration,
    /// When each Deployment's status was last written.
    reported: BTreeMap<ObjectId, Time>,
    started: u32,
    /// What the recording says of pods.
    recorded: Recorded<'a>,
    /// Which place among the started pods each has.
    nth: BTreeMap<Id<Pod>, u32>,
    /// Nodes whose kubelet does not run.
    pub(super) down: BTreeSet<String>,
}

/// Runs a scenario that begins `phase_ms` after a full second and whose kubelet reports what
/// containers do `late_ms` late, with a Deployment controller whose requests take `slow_ms` longer;
/// returns its log. `recorded` tells
/// where pods are bound and which pods the steps are about.
pub fn replay(
    scenario: &Value,
    recorded: &[Value],
    phase_ms: u64,
    (late_ms, slow_ms): (u64, u64),
) -> Result<Vec<Value>, String> {
    let begin = Time::from_millis(phase_ms);
    let epoch_s = recorded::epoch(recorded, phase_ms);
    let mut world = World {
        scenario,
        store: Store::new(Draws::new(1)),
        view: View::default(),
        controllers: controllers(scenario, epoch_s),
        queue: Queue::new(),
        draws: Draws::new(1),
        sends: Vec::new(),
        replies: Vec::new(),
        log: Log::new(epoch_s),
        late: Duration::from_millis(late_ms),
        slow: Duration::from_millis(slow_ms),
        reported: BTreeMap::new(),
        logged: 0,
        begin,
        started: 0,
        recorded: Recorded::of(recorded),
        nth: BTreeMap::new(),
        down: BTreeSet::new(),
    };
    world.machines(begin)?;
    world.queue.at(begin, Due::Begin);
    let steps = scenario["steps"].as_array().ok_or("there are no steps")?;
    for (i, step) in steps.iter().enumerate() {
        let at = begin + seconds(&step["at"]);
        world.queue.at(at, Due::Step(i));
    }
    let until = begin + seconds(&scenario["until"]);
    while let Some((now, _, due)) = world.queue.pop_due(until) {
        world.happen(due, now)?;
        world.note();
    }
    Ok(world.log.lines)
}

/// The controllers that a recording needs.
fn controllers(scenario: &Value, epoch_s: i64) -> Vec<Box<dyn Driven>> {
    let mut all: Vec<Box<dyn Driven>> = vec![
        Box::new(Runner::new(DeploymentController::default())),
        Box::new(Runner::new(ReplicaSetController::default())),
        Box::new(Runner::new(StatefulSetController::default())),
        Box::new(Runner::new(DaemonSetController::default())),
        Box::new(Runner::new(JobController::default())),
        Box::new(Runner::new(JobOrphanController)),
        Box::new(Runner::new(TtlAfterFinishedController)),
        Box::new(Runner::new(CronJobController::new(epoch_s))),
        Box::new(Runner::new(EndpointSliceController::default())),
        Box::new(Runner::new(DisruptionController)),
        Box::new(Runner::new(GarbageCollector::default())),
        Box::new(Runner::new(ResourceQuotaController)),
    ];
    if scenario.get("zones").is_some() {
        let flags = node_lifecycle::Flags::default();
        all.push(Box::new(Runner::new(NodeLifecycleController::new(flags))));
        all.push(Box::new(Runner::new(TaintEvictionController::default())));
        all.push(Box::new(Runner::new(PodGcController::default())));
    }
    all
}

fn seconds(json: &Value) -> Duration {
    Duration::from_millis((json.as_f64().unwrap_or(0.0) * 1000.0).round() as u64)
}

impl World<'_> {
    fn happen(&mut self, due: Due, now: Time) -> Result<(), String> {
        let mut out = Outbox::default();
        let mut who = 0;
        match due {
            Due::Begin => {
                for i in 0..self.controllers.len() {
                    let (view, draws) = (&self.view, &self.draws);
                    self.controllers[i].start(view, now, draws, &mut out);
                    self.take(i, &mut out);
                }
            }
            Due::Step(i) if self.scenario["steps"][i].get("nodes").is_some() => {
                self.switch(i, now)?;
            }
            Due::Step(i) => self.step(i, now)?,
            Due::Deliver(revision) => self.deliver(revision, now),
            Due::Control(i, event) => {
                who = i;
                self.controllers[i].on_event(event, &self.view, now, &self.draws, &mut out);
            }
            Due::Arrive(at) => {
                let (who, send) = &self.sends[at];
                let (write, cause) = (send.write.clone(), send.cause);
                let refused = self.refused(*who, &write, now);
                let reply = refused.map_or_else(|| self.store.write(&write, now, cause), Err);
                self.replies[at] = Some(reply);
                self.queue.after(REPLY, Due::Answer(at));
            }
            Due::Answer(at) => {
                who = self.sends[at].0;
                let reply = self.replies[at].take().ok_or("answered twice")?;
                let (token, draws) = (self.sends[at].1.token, &self.draws);
                self.controllers[who].on_reply(token, &reply, &self.view, now, draws, &mut out);
            }
            Due::Bind(pod) => self.bind(pod, now),
            Due::Run(pod) | Due::Ready(pod) | Due::Exit(pod) if self.lost(pod) => {}
            Due::Run(pod) => self.run(pod, now),
            Due::Ready(pod) => self.set_ready(pod, true, now),
            Due::Exit(pod) => self.exit(pod, now),
            Due::Renew => self.renew(now)?,
            Due::Gone(pod) if self.lost(pod) => {}
            Due::Gone(pod) => {
                let write = Write::Delete {
                    object: pod.into(),
                    uid: None,
                    grace_s: Some(0),
                    propagation: Propagation::Background,
                };
                drop(self.store.write(&write, now, Cause::default()));
            }
        }
        self.take(who, &mut out);
        Ok(())
    }

    /// A slow Deployment controller's second status of one sync is refused: after it has made a
    /// ReplicaSet it does not keep what the API server answers (`getNewReplicaSet`).
    fn refused(&mut self, who: usize, write: &Write, now: Time) -> Option<ApiError> {
        let Write::UpdateStatus(object, Row::Deployment(_)) = write else {
            return None;
        };
        let before = self.reported.insert(*object, now)?;
        let soon = now.since(before) < 3 * self.slow;
        let message = || "the object has been modified".into();
        (who == 0 && soon).then(|| ApiError::Conflict(message()))
    }

    fn take(&mut self, who: usize, out: &mut Outbox<Event>) {
        for (at, event) in out.timers.drain(..) {
            self.queue.at(at, Due::Control(who, event));
        }
        for send in out.sends.drain(..) {
            // The Deployment controller is the first.
            let slow = if who == 0 { self.slow } else { Duration::ZERO };
            let at = send.at + REQUEST + slow;
            self.queue.at(at, Due::Arrive(self.sends.len()));
            self.sends.push((who, send));
            self.replies.push(None);
        }
    }

    /// Writes down what was committed, and lets the informers know a little later.
    fn note(&mut self) {
        let head = self.store.log().head();
        if head == self.logged {
            return;
        }
        let changes = self.changes(self.logged, head);
        self.logged = head;
        for change in &changes {
            let at_s = change.time.since(self.begin).as_secs_f64();
            self.log.change(change, at_s);
        }
        self.queue.after(WATCH, Due::Deliver(head));
    }

    fn changes(&self, from: u64, to: u64) -> Vec<Change> {
        let Ok(all) = self.store.log().since(Cursor(from)) else {
            return Vec::new();
        };
        all.take_while(|c| c.revision <= to).cloned().collect()
    }

    fn deliver(&mut self, revision: u64, now: Time) {
        let mut out = Outbox::default();
        for change in self.changes(self.view.revision, revision) {
            self.view.apply(&change);
            for i in 0..self.controllers.len() {
                let (view, draws) = (&self.view, &self.draws);
                self.controllers[i].on_change(&change, view, now, draws, &mut out);
                self.take(i, &mut out);
            }
            self.stand_ins(&change);
        }
    }

    /// What scheduler and kubelet do about a pod.
    fn stand_ins(&mut self, change: &Change) {
        let Some((old, Some(new))) = change.rows::<Pod>() else {
            return;
        };
        let Some(id) = change.object.and_then(ObjectId::typed::<Pod>) else {
            return;
        };
        if change.op == Op::Create {
            let soon = self.queue.now() + SCHEDULE;
            self.recorded.created(id, &self.log.alias(&new.meta.name));
            let recorded = self.recorded.of_pod(id);
            let at = self.as_recorded(soon, recorded.bound_s);
            self.queue.at(at, Due::Bind(id));
        }
        let Some(old) = old else { return };
        if old.node_name.is_none() && new.node_name.is_some() {
            let recorded = self.recorded.of_pod(id);
            self.nth.insert(id, recorded.nth.unwrap_or(self.started));
            let rule = self.rule(id, new);
            let stagger = seconds(&rule["stagger"]) * self.started;
            self.started += 1;
            let start = self.queue.now() + or_one(&rule["start"]) + stagger;
            let at = self.as_recorded(start, recorded.ran_s);
            self.queue.at(at, Due::Run(id));
        }
        if !old.meta.deleting() && new.meta.deleting() && change.op != Op::Delete {
            let stop = or_one(&self.rule(id, new)["stop"]);
            self.queue.after(stop, Due::Gone(id));
        }
    }

    /// The first of the kubelet's rules that matches.
    fn rule(&self, id: Id<Pod>, pod: &Pod) -> Value {
        let image = pod.spec.containers.first().map(|c| c.image.to_string());
        let rules = self.scenario["kubelet"].as_array().into_iter().flatten();
        let mut matching = rules.filter(|rule| {
            let fits = &rule["match"];
            let (nth, index) = (self.nth.get(&id), completion_index(pod));
            let is = |key: &str, value: Value| fits[key].is_null() || fits[key] == value;
            is("image", json!(image)) && is("nth", json!(nth)) && is("index", json!(index))
        });
        matching.next().cloned().unwrap_or(json!({ "ready": 1 }))
    }

    /// The recorded time when it is near enough to the one by the rules.
    fn as_recorded(&self, rule: Time, recorded_s: Option<f64>) -> Time {
        let near = Duration::from_secs_f64(LATE_S);
        recorded_s
            .map(|at_s| self.begin + Duration::from_secs_f64(at_s))
            .filter(|at| at.since(rule) <= near && rule.since(*at) <= near)
            .map_or(rule, |at| at.max(self.queue.now()))
    }

    fn bind(&mut self, id: Id<Pod>, now: Time) {
        let Some(pod) = self.store.view().pods().get(id).cloned() else {
            return;
        };
        let other = format!("n{:02}", id.0 % NODES);
        let node = self.recorded.of_pod(id).node.unwrap_or(&other);
        // A daemon's pod goes to the node that it was made for.
        let node = nodes::target(&pod).map_or(node, |node| node);
        let write = Write::Bind {
            pod: id,
            uid: pod.meta.uid,
            node: node.into(),
        };
        drop(self.store.write(&write, now, Cause::default()));
    }

    fn run(&mut self, id: Id<Pod>, now: Time) {
        let Some(pod) = self.store.view().pods().get(id).cloned() else {
            return;
        };
        let mut status = pod.status.clone();
        status.phase = Phase::Running;
        // 10.0.0.0/8, by the number of the pod.
        status.ip = Some(PodIp(0x0a00_0001 + id.0));
        self.patch_status(id, status, now);
        self.set_ready(id, false, now);
        let rule = self.rule(id, &pod);
        if !rule["ready"].is_null() {
            let ready = seconds(&rule["ready"]) + self.late;
            self.queue.after(ready, Due::Ready(id));
        }
        if !rule["exit"].is_null() {
            let after = seconds(&rule["exit"]["after"]) + self.late;
            self.queue.after(after, Due::Exit(id));
        }
    }

    /// The pod's only container ends, unless the pod was told to before.
    fn exit(&mut self, id: Id<Pod>, now: Time) {
        let Some(pod) = self.store.view().pods().get(id).cloned() else {
            return;
        };
        if pod.meta.deleting() {
            return;
        }
        let code = self.rule(id, &pod)["exit"]["code"].as_i64().unwrap_or(0);
        let code = i32::try_from(code).unwrap_or(1);
        let mut status = pod.status.clone();
        status.phase = match code {
            0 => Phase::Succeeded,
            _ => Phase::Failed,
        };
        let end = Terminated {
            exit_code: code,
            finished: now,
            ..Terminated::default()
        };
        let ended = ContainerStatus {
            name: pod.spec.containers[0].name.clone(),
            state: ContainerState::Terminated(end),
            ..ContainerStatus::default()
        };
        status.containers = [ended].into_iter().collect();
        self.patch_status(id, status, now);
        self.set_ready(id, false, now);
    }

    fn set_ready(&mut self, id: Id<Pod>, ready: bool, now: Time) {
        let Some(pod) = self.store.view().pods().get(id) else {
            return;
        };
        let mut status = pod.status.clone();
        status.set_condition(PodCondition {
            kind: PodConditionKind::Ready,
            status: Truth::from(ready),
            since: now,
            reason: None,
            message: None,
            observed_generation: 0,
        });
        self.patch_status(id, status, now);
    }

    fn patch_status(&mut self, id: Id<Pod>, status: Shared<PodStatus>, now: Time) {
        let write = Write::Patch {
            object: id.into(),
            uid: None,
            patch: Patch::PodStatus(status),
        };
        drop(self.store.write(&write, now, Cause::default()));
    }

    /// One request of the scenario.
    fn step(&mut self, i: usize, now: Time) -> Result<(), String> {
        let step = &self.scenario["steps"][i];
        let op = step["op"].as_str().unwrap_or_default();
        let kind = step["kind"].as_str().unwrap_or_default();
        let name = step["name"].as_str().unwrap_or_default();
        let of_pod = matches!(op, "evict" | "annotate-pod" | "label-pod");
        if of_pod && self.recorded.step(i).pod.is_empty() {
            // There was no such pod, and nobody was asked.
            return Ok(());
        }
        if matches!(op, "scale" | "patch" | "delete") && self.find(kind, name).is_err() {
            self.missing(op, kind, name, now);
            return Ok(());
        }
        let write = match op {
            "apply" => Write::Create(objects::row(&step["object"])?),
            "scale" => {
                let to = step["replicas"]
                    .as_i64()
                    .and_then(|n| i32::try_from(n).ok());
                let patch = Patch::Replicas(to.ok_or("scale to what?")?);
                self.patch(self.find(kind, name)?, patch)
            }
            "patch" => {
                let object = self.find(kind, name)?;
                let row = self.store.view().row(object).ok_or("no such object")?;
                Write::Update(object, objects::patched(&row, &step["patch"])?)
            }
            "delete" => Write::Delete {
                object: self.find(kind, name)?,
                uid: None,
                grace_s: None,
                propagation: match (kind, &step["options"]["propagationPolicy"]) {
                    // `jobStrategy.DefaultGarbageCollectionPolicy`: as before there was one.
                    ("Job", Value::Null) => Propagation::Orphan,
                    (_, policy) => propagation(policy)?,
                },
            },
            "evict" => Write::Evict {
                pod: self.step_pod(i)?.typed::<Pod>().ok_or("not a pod")?,
                grace_s: None,
            },
            "annotate-pod" | "label-pod" => {
                let what = op
                    .trim_end_matches("-pod")
                    .replace("annotate", "annotation");
                let edits = json!({"metadata": {format!("{what}s"): step[format!("{what}s")]}});
                let patch = Patch::Document(PatchKind::Merge, edits.into());
                self.patch(self.step_pod(i)?, patch)
            }
            other => return Err(format!("{other} steps are not replayed")),
        };
        let reply = self.store.write(&write, now, Cause::default());
        let code = match (&write, &reply) {
            (_, Err(error)) => error.code(),
            (Write::Create(_) | Write::Evict { .. }, Ok(_)) => 201,
            _ => 200,
        };
        let message = reply.err().map(|e| e.to_string()).unwrap_or_default();
        let message = self.log.alias_all(&message);
        let at_s = now.since(self.begin).as_secs_f64();
        let line = [json!("Step"), json!(op), json!(code), json!(message)];
        self.log.push(at_s, &line);
        Ok(())
    }

    /// The answer about an object that is not there.
    fn missing(&mut self, op: &str, kind: &str, name: &str, now: Time) {
        let of = Kind::from_name(kind).unwrap_or_default();
        let group = of.api_version().split_once('/');
        let group = group.map_or(String::new(), |(group, _)| format!(".{group}"));
        let message = format!("{}{group} \"{name}\" not found", of.plural());
        let at_s = now.since(self.begin).as_secs_f64();
        let line = [json!("Step"), json!(op), json!(404), json!(message)];
        self.log.push(at_s, &line);
    }

    fn find(&self, kind: &str, name: &str) -> Result<ObjectId, String> {
        let kind = Kind::from_name(kind).ok_or_else(|| format!("no kind {kind}"))?;
        let found = self.store.view().lookup(kind, objects::NAMESPACE, name);
        found.ok_or_else(|| format!("{name} is not there"))
    }

    /// The pod that a step is about: the recorded one, or one like it if that is gone, because it was
    /// a victim here by the toss of a coin.
    fn step_pod(&self, i: usize) -> Result<ObjectId, String> {
        let step = self.recorded.step(i);
        let name = self.log.name(step.pod).unwrap_or(Text::from(step.pod));
        let recorded = self.find("Pod", &name);
        let like = |pod: &Pod| {
            let alias = self.log.alias(&pod.meta.name);
            let same = alias.contains('.') && owner(&alias) == owner(step.pod);
            same && pod.meta.deleting() == step.leaving
        };
        let mut others = self.store.view().pods().iter().filter(|(_, pod)| like(pod));
        recorded.or_else(|gone| others.next().map(|(id, _)| id.into()).ok_or(gone))
    }

    pub(super) fn patch(&self, object: ObjectId, patch: Patch) -> Write {
        Write::Patch {
            object,
            uid: None,
            patch,
        }
    }
}

fn propagation(json: &Value) -> Result<Propagation, String> {
    match json.as_str() {
        None | Some("Background") => Ok(Propagation::Background),
        Some("Foreground") => Ok(Propagation::Foreground),
        Some("Orphan") => Ok(Propagation::Orphan),
        Some(other) => Err(format!("no propagation policy {other}")),
    }
}

fn or_one(json: &Value) -> Duration {
    if json.is_null() {
        Duration::from_secs(1)
    } else {
        seconds(json)
    }
}
