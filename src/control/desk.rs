//! Test support: one controller at a desk of its own, with a store and a clock that stands still.
//!
//! Whatever the controller asks for is done at once and told back at once, and written down in
//! words; time passes only when a test says so. Everybody else (the scheduler, kubelets, users) is
//! the test.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::api::decode::{DecodeContext, decode_json};
use crate::api::pod_status::{Phase, PodCondition, PodConditionKind, Truth};
use crate::api::{Kind, Pod, Row};
use crate::client::runner::{Driven, Event, Runner};
use crate::client::{Budget, Controller, Outbox, Reply};
use crate::engine::{Draws, Time};
use crate::store::view::Tabled;
use crate::store::{
    ApiError, Cause, Change, Cursor, Id, ObjectId, Patch, Propagation, Store, View, Write,
};

/// A controller, its world, and what it did.
pub(super) struct Desk<C: Controller> {
    pub store: Store,
    pub now: Time,
    view: View,
    runner: Runner<C>,
    out: Outbox<Event>,
    timers: Vec<(Time, Event)>,
    log: Vec<String>,
    events: Vec<String>,
    words: Words,
    /// What the API server refuses.
    pub refuses: Option<fn(&Write) -> Option<ApiError>>,
}

/// How a test writes down what is asked for.
#[derive(Clone, Copy)]
pub(super) struct Words {
    /// A status; nothing is written when it is empty.
    pub status: fn(&Row) -> String,
    /// What an object is called, where its own name will not do.
    pub name: fn(&Row) -> Option<String>,
}

/// Names as they are (but not those of revisions, which are hashes), and no status.
pub(super) const PLAIN: Words = Words {
    status: |_| String::new(),
    name: |_| None,
};

/// What a test needs to know of a kind's name.
fn word(kind: Kind) -> String {
    match kind {
        Kind::PersistentVolumeClaim => "claim".into(),
        Kind::ControllerRevision => "revision".into(),
        Kind::EndpointSlice => "slice".into(),
        kind => kind.name().to_lowercase(),
    }
}

impl<C: Controller> Desk<C> {
    /// The controller among these objects, after its first syncs.
    pub fn new(controller: C, words: Words, objects: &[Value]) -> Self {
        let mut desk = Desk {
            store: Store::new(Draws::new(1)),
            now: Time::from_secs(100),
            view: View::default(),
            runner: Runner::with_budget(controller, Budget::per_second(10_000, 10_000)),
            out: Outbox::default(),
            timers: Vec::new(),
            log: Vec::new(),
            events: Vec::new(),
            words,
            refuses: None,
        };
        for object in objects {
            desk.put(object);
        }
        desk.start();
        desk
    }

    /// The process begins, or begins again after [`Desk::crash`].
    pub fn start(&mut self) {
        let view = self.store.view().clone();
        self.view = view.clone();
        let draws = Draws::new(1);
        self.runner.start(&view, self.now, &draws, &mut self.out);
        self.settle();
    }

    /// The process dies: it sees nothing until it is started again.
    pub fn crash(&mut self) {
        self.runner.restart();
        self.timers.clear();
        self.out = Outbox::default();
    }

    fn put(&mut self, object: &Value) {
        let row = decode_json(object, &DecodeContext::default());
        let row = row.expect("a valid object").row;
        let done = self.ask(&Write::Create(row));
        done.expect("created");
    }

    fn ask(&mut self, write: &Write) -> Reply {
        self.store.write(write, self.now, Cause::default())
    }

    /// Somebody creates an object.
    pub fn create(&mut self, object: &Value) {
        self.put(object);
        self.settle();
    }

    /// Somebody makes a request.
    pub fn write(&mut self, write: &Write) {
        self.ask(write).expect("a good request");
        self.settle();
    }

    /// Somebody changes an object as `kubectl patch --type merge` does.
    pub fn patch(&mut self, object: ObjectId, document: Value) {
        let kind = crate::api::patch::PatchKind::Merge;
        self.write(&Write::Patch {
            object,
            uid: None,
            patch: Patch::Document(kind, document.into()),
        });
    }

    /// Somebody deletes an object; a pod on a node stays for its grace period.
    pub fn delete(&mut self, object: ObjectId) {
        self.write(&Write::Delete {
            object,
            uid: None,
            grace_s: None,
            propagation: Propagation::Background,
        });
    }

    /// The object of this kind and name in the namespace `default`.
    pub fn find(&self, kind: Kind, name: &str) -> ObjectId {
        let namespace = if kind.namespaced() { "default" } else { "" };
        let found = self.store.view().lookup(kind, namespace, name);
        found.unwrap_or_else(|| panic!("no {kind:?} {name}"))
    }

    /// The only object of a kind.
    pub fn only<T: Tabled>(&self) -> (Id<T>, &Arc<T>) {
        let first = self.store.view().of::<T>().iter().next();
        first.expect("an object of the kind")
    }

    /// Pods as they are: `name state, …`, where a state is `pending`, `running`, `ready`, `failed`,
    /// `succeeded`, `terminating` or `gone`.
    pub fn pods(&mut self, states: &str) {
        for text in states.split(", ") {
            let (name, state) = text.split_once(' ').expect("name state");
            let id: Id<Pod> = self.find(Kind::Pod, name).typed().expect("a pod");
            self.pod(id, state);
        }
        self.settle();
    }

    fn pod(&mut self, id: Id<Pod>, state: &str) {
        let pod = self.store.view().pods().get(id).expect("a pod").clone();
        if state == "gone" || state == "terminating" {
            let delete = Write::Delete {
                object: id.into(),
                uid: None,
                grace_s: (state == "gone").then_some(0),
                propagation: Propagation::Background,
            };
            self.ask(&delete).expect("deleted");
            return;
        }
        if pod.node_name.is_none() && state != "pending" {
            let bind = Write::Bind {
                pod: id,
                uid: pod.meta.uid,
                node: "n1".into(),
            };
            self.ask(&bind).expect("bound");
        }
        let mut status = pod.status.clone();
        status.phase = match state {
            "pending" => Phase::Pending,
            "failed" => Phase::Failed,
            "succeeded" => Phase::Succeeded,
            _ => Phase::Running,
        };
        status.set_condition(PodCondition {
            kind: PodConditionKind::Ready,
            status: Truth::from(state == "ready"),
            since: self.now,
            reason: None,
            message: None,
            observed_generation: 0,
        });
        let patch = Patch::PodStatus(status);
        let (object, uid) = (id.into(), None);
        self.ask(&Write::Patch { object, uid, patch })
            .expect("patched");
    }

    /// Time passes; what is due comes in its order.
    pub fn pass(&mut self, seconds: f64) {
        let until = self.now + Duration::from_secs_f64(seconds);
        while let Some(at) = self.timers.iter().map(|(at, _)| *at).min() {
            if at > until {
                break;
            }
            self.now = self.now.max(at);
            self.settle();
        }
        self.now = until;
        self.settle();
    }

    /// What the controller asked for since the last time, and how it was refused.
    pub fn log(&mut self) -> String {
        std::mem::take(&mut self.log).join(", ")
    }

    /// What it told since the last time.
    pub fn events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events)
    }

    fn settle(&mut self) {
        let draws = Draws::new(1);
        loop {
            self.deliver();
            self.timers.append(&mut self.out.timers);
            if !self.out.sends.is_empty() {
                let send = self.out.sends.remove(0);
                let reply = self.carry_out(&send.write);
                // The watch is faster than the answer: nothing has to be waited for.
                self.deliver();
                let (view, now) = (&self.view, self.now);
                self.runner
                    .on_reply(send.token, &reply, view, now, &draws, &mut self.out);
            } else if let Some(at) = self.timers.iter().position(|(at, _)| *at <= self.now) {
                let (_, event) = self.timers.remove(at);
                let (view, now) = (&self.view, self.now);
                self.runner
                    .on_event(event, view, now, &draws, &mut self.out);
            } else {
                return;
            }
        }
    }

    fn deliver(&mut self) {
        let since = self.store.log().since(Cursor(self.view.revision));
        let changes: Vec<Change> = since.expect("kept").cloned().collect();
        let draws = Draws::new(1);
        for change in changes {
            self.view.apply(&change);
            let (view, now) = (&self.view, self.now);
            self.runner
                .on_change(&change, view, now, &draws, &mut self.out);
        }
    }

    fn carry_out(&mut self, write: &Write) -> Reply {
        if let Write::Emit(event) = write {
            let kind = if event.warning { "warning " } else { "" };
            self.events
                .push(format!("{kind}{}: {}", event.reason, event.message));
            return self.ask(write);
        }
        let mut line = self.say(write);
        let refused = self.refuses.and_then(|refuses| refuses(write));
        let reply = match refused {
            Some(error) => Err(error),
            None => self.ask(write),
        };
        if let Err(error) = &reply {
            line = format!("{line} ({})", error.code());
        }
        if !line.is_empty() {
            self.log.push(line);
        }
        reply
    }

    fn say(&self, write: &Write) -> String {
        let of = |row: &Row| {
            let meta = row.meta();
            let own = || match (row.kind(), meta.name.is_empty()) {
                (Kind::ControllerRevision, _) => String::new(),
                (_, true) => format!("{}*", meta.generate_name),
                (_, false) => meta.name.to_string(),
            };
            let name = (self.words.name)(row).unwrap_or_else(own);
            format!("{} {name}", word(row.kind())).trim_end().to_owned()
        };
        let name = |object: &ObjectId| {
            let row = self.store.view().row(*object);
            row.map_or("?".into(), |row| of(&row))
        };
        match write {
            Write::Create(row) => format!("+{}", of(row)),
            Write::Update(object, _) => format!("~{}", name(object)),
            Write::UpdateStatus(_, row) => (self.words.status)(row),
            Write::Delete { object, .. } => format!("-{}", name(object)),
            Write::Patch { object, patch, .. } => {
                let patch = format!("{patch:?}");
                let what = patch.split(['(', ' ']).next().unwrap_or_default();
                format!("~{} {what}", name(object))
            }
            other => format!("{other:?}"),
        }
    }
}
