//! The scheduler against a real store: scripts of objects and times in, the lines of what happened
//! out. Requests take 1 ms, changes arrive after 1 ms, replies 2 ms after the request.

mod config;
mod cycles;
mod equal_pods;
mod hints;
mod lifecycle;
mod points;
mod ports;
mod preemption;
mod queueing;
mod search;
mod volumes;
mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::config::{CycleCost, SchedulerConfig};
use super::{Event, Scheduler, concerns};
use crate::api::decode::{DecodeContext, decode_json};
use crate::api::pod_status::{Phase, PodConditionKind};
use crate::api::{Pod, Row};
use crate::client::{Outbox, Reply};
use crate::engine::Time;
use crate::engine::draws::Draws;
use crate::store::{
    ApiError, Cause, Change, Cursor, Id, ObjectId, Op, Patch, Propagation, Store, View, Write,
};

const MS: u64 = 1_000_000;

enum Due {
    Own(Event),
    Request(u64, Box<Write>),
    Deliver,
    Reply(u64, Box<Reply>),
    Script(Box<Write>),
    Crash,
    Start,
}

/// A store, a scheduler, and everything that is due.
struct Machine {
    store: Store,
    view: View,
    cursor: Cursor,
    scheduler: Scheduler,
    due: BTreeMap<(u64, u64), Due>,
    seq: u64,
    lines: Vec<String>,
    /// Deleted pods on nodes are gone after so many ms.
    grace_ms: u64,
    /// So many bindings are refused.
    refuse_bindings: u32,
    /// Only what concerns the scheduler is told to it.
    sparing: bool,
}

impl Machine {
    fn new() -> Machine {
        let config = SchedulerConfig {
            cycle_cost: CycleCost {
                base: Duration::ZERO,
                per_node: Duration::ZERO,
            },
            ..SchedulerConfig::default()
        };
        Machine::with(config)
    }

    fn with(config: SchedulerConfig) -> Machine {
        let mut machine = Machine {
            store: Store::new(Draws::new(7)),
            view: View::default(),
            cursor: Cursor::default(),
            scheduler: Scheduler::new(config, Draws::new(7)),
            due: BTreeMap::new(),
            seq: 0,
            lines: Vec::new(),
            grace_ms: 1_000,
            refuse_bindings: 0,
            sparing: false,
        };
        machine.push(0, Due::Start);
        machine
    }

    fn push(&mut self, at_ns: u64, due: Due) {
        self.seq += 1;
        self.due.insert((at_ns, self.seq), due);
    }

    /// Creates an object at `ms`.
    fn create(&mut self, ms: u64, object: Value) {
        let decoded = decode_json(&object, &DecodeContext::default()).expect("a valid object");
        let write = Write::Create(decoded.row);
        self.push(ms * MS, Due::Script(Box::new(write)));
    }

    /// A claim `data` whose class waits for its pod, and the volume of a pod that uses it.
    fn waiting_claim(&mut self) -> Value {
        self.create(
            0,
            json!({
                "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
                "metadata": {"name": "local"}, "provisioner": "example.com/disk",
                "volumeBindingMode": "WaitForFirstConsumer"
            }),
        );
        self.create(
            0,
            json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": "data", "namespace": "default"},
                "spec": {
                    "accessModes": ["ReadWriteOnce"], "storageClassName": "local",
                    "resources": {"requests": {"storage": "1Gi"}}
                }
            }),
        );
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}])
    }

    fn script(&mut self, ms: u64, write: Write) {
        self.push(ms * MS, Due::Script(Box::new(write)));
    }

    fn pod(&self, name: &str) -> (Id<Pod>, &Pod) {
        let found = self.store.view().pods().find("default", name);
        let (id, pod) = found.expect("the pod exists");
        (id, pod)
    }

    /// Runs until `ms` and returns what happened since the last call.
    fn run(&mut self, ms: u64) -> String {
        while let Some(entry) = self.due.first_entry() {
            let (at, _) = *entry.key();
            if at > ms * MS {
                break;
            }
            let due = entry.remove();
            self.step(Time::from_nanos(at), due);
        }
        std::mem::take(&mut self.lines).join("\n")
    }

    fn step(&mut self, now: Time, due: Due) {
        let mut out = Outbox::default();
        let at = now.as_nanos();
        match due {
            Due::Start => self.scheduler.start(&self.view, now, &mut out),
            Due::Crash => {
                self.scheduler.restart();
                self.push(at + MS, Due::Start);
            }
            Due::Own(event) => self.scheduler.on_event(event, &self.view, now, &mut out),
            Due::Script(write) => match self.commit(&write, now) {
                // Pods may be gone when a script is about to change them.
                Ok(_) | Err(ApiError::NotFound(_)) => {}
                Err(error) => panic!("the script is allowed to: {error}"),
            },
            Due::Request(token, write) => {
                let reply = self.commit(&write, now);
                self.push(at + MS, Due::Reply(token, Box::new(reply)));
            }
            Due::Reply(token, reply) => {
                let view = &self.view;
                self.scheduler.on_reply(token, &reply, view, now, &mut out);
            }
            Due::Deliver => {
                let changes = self.store.log().since(self.cursor).expect("no gap");
                let changes: Vec<Change> = changes.cloned().collect();
                for change in changes {
                    self.cursor = Cursor(change.revision);
                    self.view.apply(&change);
                    if self.sparing && spared(&change) {
                        continue;
                    }
                    let view = &self.view;
                    self.scheduler.on_change(&change, view, now, &mut out);
                }
            }
        }
        for (when, event) in out.timers {
            assert!(when >= now, "timers lie in the future");
            self.push(when.as_nanos(), Due::Own(event));
        }
        for send in out.sends {
            assert!(send.at >= now, "requests lie in the future");
            let write = Box::new(send.write);
            self.push(send.at.as_nanos() + MS, Due::Request(send.token, write));
        }
    }

    fn commit(&mut self, write: &Write, now: Time) -> Reply {
        if matches!(write, Write::Bind { .. }) && self.refuse_bindings > 0 {
            self.refuse_bindings -= 1;
            return Err(crate::store::ApiError::Unreachable);
        }
        let before = self.store.log().head();
        let reply = self.store.write(write, now, Cause::default());
        let news: Vec<Change> = match self.store.log().since(Cursor(before)) {
            Ok(news) => news.cloned().collect(),
            Err(_) => panic!("the log was cut"),
        };
        for change in &news {
            self.tell(change);
            self.kubelet(change, now);
        }
        if !news.is_empty() {
            self.push(now.as_nanos() + MS, Due::Deliver);
        }
        reply
    }

    /// One line per change worth telling.
    fn tell(&mut self, change: &Change) {
        let at = change.time.as_nanos() / MS;
        if let Some(event) = &change.event {
            let line = format!("{at:>6} {} {}: {}", event.name, event.reason, event.message);
            self.lines.push(line);
        }
        let Some((old, Some(new))) = change.rows::<Pod>() else {
            return;
        };
        let name = &new.meta.name;
        let mut say = |what: String| self.lines.push(format!("{at:>6} {name} {what}"));
        if change.op == Op::Delete {
            say("gone".into());
            return;
        }
        let Some(old) = old else {
            return;
        };
        if let (None, Some(node)) = (&old.node_name, &new.node_name) {
            say(format!("on {node}"));
        }
        if old.status.nominated_node != new.status.nominated_node {
            let node = new.status.nominated_node.clone().unwrap_or_default();
            say(format!("nominated to {node:?}"));
        }
        if !old.meta.deleting() && new.meta.deleting() {
            say("is being deleted".into());
        }
        for kind in [
            PodConditionKind::PodScheduled,
            PodConditionKind::DisruptionTarget,
        ] {
            let (before, after) = (old.status.condition(&kind), new.status.condition(&kind));
            if let Some(after) = after.filter(|c| before != Some(*c))
                && let Some(reason) = &after.reason
            {
                say(format!("{}={}: {reason}", kind.name(), after.status.name()));
            }
        }
    }

    /// Deleted pods on nodes disappear.
    fn kubelet(&mut self, change: &Change, now: Time) {
        let Some((Some(old), Some(new))) = change.rows::<Pod>() else {
            return;
        };
        if !old.meta.deleting() && new.meta.deleting() && change.op == Op::Update {
            let write = Write::Delete {
                object: change.object.expect("pods have ids"),
                uid: None,
                grace_s: Some(0),
                propagation: Propagation::Background,
            };
            let at = now.as_nanos() + self.grace_ms * MS;
            self.push(at, Due::Script(Box::new(write)));
        }
    }
}

/// Whether it is an update of a pod that does not concern the scheduler.
fn spared(change: &Change) -> bool {
    let rows = change.rows::<Pod>().filter(|_| change.op == Op::Update);
    matches!(rows, Some((Some(old), Some(new))) if !concerns(old, new))
}

/// A node with so many cores, 10 GiB and 110 pod slots.
fn node(name: &str, cpu: u32) -> Value {
    let amounts = json!({"cpu": cpu.to_string(), "memory": "10Gi", "pods": "110"});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"capacity": amounts, "allocatable": amounts}
    })
}

/// A pod that asks for so many milli-cpu.
fn pod(name: &str, cpu_milli: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {"containers": [{
            "name": "c", "image": "app:v1",
            "resources": {"requests": {"cpu": format!("{cpu_milli}m"), "memory": "100Mi"}}
        }]}
    })
}

/// The object with a field set, by JSON pointer (parents must exist).
fn set(mut object: Value, parent: &str, field: &str, value: Value) -> Value {
    object.pointer_mut(parent).expect("the parent exists")[field] = value;
    object
}

/// A view of these objects; pods that name a node are on it.
fn view_of(rows: Vec<Row>) -> View {
    let mut view = View::default();
    for (index, mut row) in rows.into_iter().enumerate() {
        if let Row::Pod(pod) = &mut row {
            let node = pod.spec.node_name.clone();
            std::sync::Arc::make_mut(pod).node_name = Some(node).filter(|n| !n.is_empty());
        }
        let index = u32::try_from(index).expect("few objects");
        let kind = row.kind();
        view.apply(&Change {
            revision: view.revision + 1,
            time: Time::ZERO,
            object: Some(ObjectId { kind, index }),
            op: Op::Create,
            old: None,
            new: Some(row),
            event: None,
            cause: Cause::default(),
            renewed: None,
        });
    }
    view
}

#[track_caller]
fn check(got: &str, expected: &str) {
    let expected: Vec<&str> = expected.lines().map(str::trim).collect();
    let got: Vec<&str> = got.lines().map(str::trim).collect();
    assert_eq!(got, expected, "\ngot:\n{}\n", got.join("\n"));
}
