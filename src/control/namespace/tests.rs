//! A namespace with content of several kinds, deleted.

use super::*;
use crate::api::{ConfigMap, Inert, Meta, Pod, PodSpec};
use crate::client::runner::{Driven, Runner};
use crate::client::{Outbox, Send};
use crate::engine::Draws;
use crate::store::{Cause, Cursor, Store};
use std::sync::Arc;

struct World {
    store: Store,
    view: View,
    controller: Runner<NamespaceController>,
    now: Time,
    log: Vec<String>,
    timers: Vec<(Time, crate::client::Event)>,
}

fn meta(namespace: &str, name: &str) -> Meta {
    Meta {
        namespace: namespace.into(),
        name: name.into(),
        ..Meta::default()
    }
}

/// `shop` with a bound pod of 30 s grace (if wanted), a ConfigMap and a foreign object, beside
/// `other` with a ConfigMap.
fn world(with_pod: bool) -> World {
    let mut world = World {
        store: Store::new(Draws::new(1)),
        view: View::default(),
        controller: Runner::new(NamespaceController::default()),
        now: Time::ZERO,
        log: Vec::new(),
        timers: Vec::new(),
    };
    for name in ["shop", "other", "default"] {
        let namespace = Namespace {
            meta: meta("", name),
            ..Namespace::default()
        };
        world.create(namespace.into());
    }
    for namespace in ["shop", "other"] {
        let map = ConfigMap {
            meta: meta(namespace, "map"),
            ..ConfigMap::default()
        };
        world.create(map.into());
    }
    let widget = Inert {
        meta: meta("shop", "widget"),
        kind: "Widget".into(),
        ..Inert::default()
    };
    world.create(widget.into());
    if with_pod {
        let spec = PodSpec {
            grace_s: 30,
            ..PodSpec::default()
        };
        let pod = Pod {
            meta: meta("shop", "web"),
            spec: Arc::new(spec),
            node_name: Some("n".into()),
            ..Pod::default()
        };
        world.create(pod.into());
    }
    world
}

impl World {
    fn create(&mut self, row: Row) {
        let reply = self.write(&Write::Create(row));
        assert!(reply.is_ok(), "{reply:?}");
    }

    fn write(&mut self, write: &Write) -> Reply {
        self.store.write(write, self.now, Cause::default())
    }

    fn delete(&mut self, kind: Kind, namespace: &str, name: &str) -> Reply {
        let object = self.store.view().lookup(kind, namespace, name);
        self.write(&Write::Delete {
            object: object.expect("it is there"),
            uid: None,
            grace_s: (kind == Kind::Pod).then_some(0),
            propagation: Propagation::Background,
        })
    }

    /// Runs up to this second; writes down what goes, and when.
    fn run(&mut self, until_s: u64) -> String {
        let draws = Draws::new(1);
        let mut out = Outbox::default();
        if self.now == Time::ZERO {
            let (view, now) = (self.view.clone(), self.now);
            self.controller.start(&view, now, &draws, &mut out);
        }
        loop {
            self.deliver(&draws, &mut out);
            self.timers.append(&mut out.timers);
            let sends: Vec<Send> = out.sends.drain(..).collect();
            for send in &sends {
                let reply = self.write(&send.write);
                let (view, now, token) = (&self.view, self.now, send.token);
                let controller = &mut self.controller;
                controller.on_reply(token, &reply, view, now, &draws, &mut out);
            }
            if !sends.is_empty() {
                continue;
            }
            self.timers.sort_by_key(|(at, _)| *at);
            match self.timers.first() {
                Some((at, _)) if *at <= Time::from_secs(until_s) => {}
                _ => break,
            }
            let (at, event) = self.timers.remove(0);
            self.now = self.now.max(at);
            let (view, now) = (&self.view, self.now);
            self.controller.on_event(event, view, now, &draws, &mut out);
        }
        self.now = Time::from_secs(until_s);
        std::mem::take(&mut self.log).join(", ")
    }

    fn deliver(&mut self, draws: &Draws, out: &mut Outbox<crate::client::Event>) {
        let since = self.store.log().since(Cursor(self.view.revision));
        let changes: Vec<Change> = since.expect("kept").cloned().collect();
        for change in changes {
            self.view.apply(&change);
            if let (Op::Delete, Some(row)) = (change.op, &change.new) {
                let second = change.time.as_nanos() / 1_000_000_000;
                self.log
                    .push(format!("{second} {}", row.meta().full_name()));
            }
            let (view, now) = (&self.view, self.now);
            self.controller.on_change(&change, view, now, draws, out);
        }
    }
}

#[test]
fn an_empty_grace_period_then_everything_goes_and_the_namespace_last() {
    let mut world = world(false);
    world.run(1);
    world.delete(Kind::Namespace, "", "shop").expect("deleted");
    assert_eq!(world.run(60), "6 shop/map, 6 shop/widget, 6 shop");
    assert_eq!(world.store.view().of::<ConfigMap>().len(), 1);
}

#[test]
fn nothing_else_goes_before_the_last_pod() {
    let mut world = world(true);
    world.run(1);
    world.delete(Kind::Namespace, "", "shop").expect("deleted");
    // Deleted at 1 s, looked at at 6 s. The pod has 30 s, so the next look would be 30 / 2 + 1 = 16 s
    // later; but the conditions that were written at 6 s bring one 5 s later.
    assert_eq!(world.run(10), "");
    let pod = world.store.view().pods().find("shop", "web");
    assert!(pod.expect("still there").1.meta.deleting());
    world.delete(Kind::Pod, "shop", "web").expect("killed");
    assert_eq!(
        world.run(60),
        "10 shop/web, 11 shop/map, 11 shop/widget, 11 shop"
    );
}

#[test]
fn a_terminating_namespace_takes_nothing_new_and_a_missing_one_is_not_found() {
    let mut world = world(true);
    let create = |world: &mut World, namespace: &str| {
        let map = ConfigMap {
            meta: meta(namespace, "new"),
            ..ConfigMap::default()
        };
        let error = world
            .write(&Write::Create(map.into()))
            .expect_err("refused");
        format!("{} {error}", error.code())
    };
    assert_eq!(
        create(&mut world, "nowhere"),
        "404 namespaces \"nowhere\" not found"
    );
    world.run(1);
    world.delete(Kind::Namespace, "", "shop").expect("deleted");
    assert_eq!(
        create(&mut world, "shop"),
        "403 configmaps \"new\" is forbidden: unable to create new content in namespace shop \
         because it is being terminated"
    );
    let error = world.delete(Kind::Namespace, "", "default");
    let error = error.expect_err("immortal").to_string();
    assert_eq!(
        error,
        "namespaces \"default\" is forbidden: this namespace may not be deleted"
    );
}

/// The conditions of `shop`, in short: type, status and reason, with the message of those that hold.
fn conditions(world: &World) -> String {
    let found = world.store.view().of::<Namespace>().find("", "shop");
    let (_, shop) = found.expect("still there");
    let shown = shop.status.conditions.iter().map(|c| {
        let message = match c.status.name() {
            "True" => format!(": {}", c.message),
            _ => String::new(),
        };
        format!("{} {} {}{message}", c.kind, c.status.name(), c.reason)
    });
    shown.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_status_says_what_remains_and_who_holds_it() {
    let mut world = world(false);
    let map = ConfigMap {
        meta: Meta {
            finalizers: ["example.com/guard".into()].into(),
            ..meta("shop", "held")
        },
        ..ConfigMap::default()
    };
    world.create(map.into());
    world.run(1);
    world.delete(Kind::Namespace, "", "shop").expect("deleted");
    assert_eq!(world.run(7), "6 shop/map, 6 shop/widget");
    assert_eq!(
        conditions(&world),
        "NamespaceDeletionDiscoveryFailure False ResourcesDiscovered\n\
         NamespaceDeletionGroupVersionParsingFailure False ParsedGroupVersions\n\
         NamespaceDeletionContentFailure False ContentDeleted\n\
         NamespaceContentRemaining True SomeResourcesRemain: Some resources are remaining: \
         configmaps. has 1 resource instances\n\
         NamespaceFinalizersRemaining True SomeFinalizersRemain: Some content in the namespace \
         has finalizers remaining: example.com/guard in 1 resource instances"
    );
    let object = world.store.view().lookup(Kind::ConfigMap, "shop", "held");
    let write = Write::Patch {
        object: object.expect("held"),
        uid: None,
        patch: Patch::RemoveFinalizer("example.com/guard".into()),
    };
    world.write(&write).expect("let go");
    // The conditions of 6 s were a change: looked at again 5 s later.
    assert_eq!(world.run(60), "7 shop/held, 11 shop");
}

#[test]
fn pods_that_remain_are_not_counted_yet() {
    let mut world = world(true);
    world.run(1);
    world.delete(Kind::Namespace, "", "shop").expect("deleted");
    world.run(7);
    // Upstream returns before it counts while pods are left.
    assert!(
        conditions(&world).contains("NamespaceContentRemaining False ContentRemoved"),
        "{}",
        conditions(&world)
    );
}

#[test]
fn a_terminating_namespace_takes_no_events() {
    let mut world = world(true);
    let event = |namespace: &str| {
        Write::Emit(Arc::new(KubeEvent {
            kind: Kind::Pod,
            namespace: namespace.into(),
            name: "web".into(),
            uid: crate::api::Uid(1),
            reason: "Killing".into(),
            message: "Stopping container web".into(),
            warning: false,
            source: "kubelet".into(),
        }))
    };
    world.write(&event("shop")).expect("taken");
    world.delete(Kind::Namespace, "", "shop").expect("deleted");
    let error = world.write(&event("shop")).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "events \"web\" is forbidden: unable to create new content in namespace shop because it \
         is being terminated"
    );
    world
        .write(&event(""))
        .expect("about something without a namespace");
}
