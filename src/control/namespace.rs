//! Namespace deletion: a terminating namespace is emptied, then let go.
//!
//! A port of `pkg/controller/namespace/namespace_controller.go` and
//! `pkg/controller/namespace/deletion/namespaced_resources_deleter.go`. Five seconds after the
//! deletion all pods of the namespace are deleted; only when none is left the rest follows
//! (`OrderedNamespaceDeletion`), and when that is gone, too, the namespace is finalized. What still
//! stands is looked at again after half of the time that it may take: the longest grace period of
//! its pods, or 15 s for objects that wait for a finalizer.
//!
//! Upstream asks the API server what is left. Here the view is asked, and what the server said to
//! have removed a moment ago is not counted although its watch has not told yet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::api::{Kind, KubeEvent, Namespace, Row};
use crate::client::outbox::Reply;
use crate::client::work_queue::BASE_DELAY;
use crate::client::{Controller, Keys, Outcome, Plan, Step, SyncContext};
use crate::engine::Time;
use crate::store::{Change, Id, ObjectId, Op, Patch, Propagation, View, Write};

/// `namespaceDeletionGracePeriod`: time for controllers that lag to stop creating.
const GRACE: Duration = Duration::from_secs(5);
/// `finalizerEstimateSeconds`.
const FINALIZER_ESTIMATE_S: u64 = 15;

/// The controller.
#[derive(Debug, Default)]
pub struct NamespaceController {
    /// What each sync under way was told is gone.
    removed: BTreeMap<Id<Namespace>, BTreeSet<ObjectId>>,
}

type Rows = Vec<(ObjectId, Row)>;

/// Everything in a namespace: pods, then the rest kind by kind.
fn content(view: &View, namespace: &str) -> (Rows, Rows) {
    let mut pods = Vec::new();
    let mut rest = Vec::new();
    for &kind in Kind::ALL {
        let rows = view.rows(kind).into_iter();
        let here = rows.filter(|(_, row)| row.meta().namespace == namespace);
        match kind {
            Kind::Pod => pods.extend(here),
            _ => rest.extend(here),
        }
    }
    (pods, rest)
}

/// `estimateGracefulTermination`: the longest grace period of a pod that runs, unless it is over.
fn estimate_s(pods: &[(ObjectId, Row)], namespace: &Namespace, now: Time) -> u64 {
    let grace = pods.iter().filter_map(|(_, row)| match row {
        Row::Pod(pod) if !pod.status.phase.terminal() => Some(u64::from(pod.spec.grace_s)),
        _ => None,
    });
    let estimate = grace.max().unwrap_or(0);
    let since = namespace.meta.deletion.map_or(now, |d| d.at);
    if now.since(since) >= Duration::from_secs(estimate) {
        0
    } else {
        estimate
    }
}

fn deletions(rows: &[(ObjectId, Row)], plan: &mut Plan, rule: &'static str) {
    let undeleted = rows.iter().filter(|(_, row)| !row.meta().deleting());
    let writes: Vec<Write> = undeleted
        .map(|(object, row)| Write::Delete {
            object: *object,
            uid: Some(row.meta().uid),
            grace_s: None,
            propagation: Propagation::Background,
        })
        .collect();
    if !writes.is_empty() {
        plan.steps.push(Step::Parallel { writes, rule });
    }
}

impl NamespaceController {
    fn terminating(key: Id<Namespace>, view: &View) -> Option<&std::sync::Arc<Namespace>> {
        let namespace = view.of::<Namespace>().get(key)?;
        (namespace.meta.deleting() && !namespace.finalizers.is_empty()).then_some(namespace)
    }

    /// `deleteAllContent` after its deletions: what is left, and when to look again.
    fn look_again(&self, left: &[(ObjectId, Row)], estimate_s: u64, plan: &mut Plan) {
        let waits = left
            .iter()
            .any(|(_, row)| !row.meta().finalizers.is_empty());
        let estimate_s = match estimate_s {
            0 if waits => FINALIZER_ESTIMATE_S,
            other => other,
        };
        if estimate_s > 0 {
            plan.requeue(Duration::from_secs(estimate_s / 2 + 1));
        } else {
            plan.error = Some("unexpected items still remain in namespace".into());
        }
    }
}

impl Controller for NamespaceController {
    type Key = Id<Namespace>;
    const NAME: &'static str = "namespace-controller";
    // `--concurrent-namespace-syncs`.
    const WORKERS: usize = 10;
    // `nsControllerRateLimiter`.
    const BACK_OFF: (Duration, Duration) = (BASE_DELAY, Duration::from_secs(60));

    fn keys(&mut self, change: &Change, _view: &View, _now: Time, keys: &mut Keys<Self::Key>) {
        let Some((_, Some(new))) = change.rows::<Namespace>() else {
            return;
        };
        let id = change.object.and_then(ObjectId::typed::<Namespace>);
        if let Some(id) = id.filter(|_| new.meta.deleting() && change.op != Op::Delete) {
            keys.add_after(id, GRACE);
        }
    }

    fn sync(&mut self, key: Self::Key, cx: &SyncContext<'_>) -> Plan {
        let mut plan = Plan::none();
        self.removed.insert(key, BTreeSet::new());
        let Some(namespace) = Self::terminating(key, cx.view) else {
            return plan;
        };
        let (pods, rest) = content(cx.view, &namespace.meta.name);
        if pods.is_empty() {
            deletions(&rest, &mut plan, "its namespace is being deleted");
        } else {
            deletions(
                &pods,
                &mut plan,
                "its namespace is being deleted, pods go first",
            );
        }
        plan
    }

    fn on_reply(
        &mut self,
        key: Self::Key,
        write: &Write,
        reply: &Reply,
        _cx: &SyncContext<'_>,
        _events: &mut Vec<KubeEvent>,
    ) {
        let (Write::Delete { object, .. }, Ok(receipt)) = (write, reply) else {
            return;
        };
        let gone = receipt.row.as_ref().is_some_and(|row| {
            let meta = row.meta();
            let grace = meta.deletion.is_some_and(|d| d.grace_s > 0);
            meta.finalizers.is_empty() && !grace
        });
        if gone {
            self.removed.entry(key).or_default().insert(*object);
        }
    }

    fn finish(&mut self, key: Self::Key, outcome: &Outcome, cx: &SyncContext<'_>) -> Plan {
        let mut plan = Plan::none();
        let removed = self.removed.remove(&key).unwrap_or_default();
        let Some(namespace) = Self::terminating(key, cx.view) else {
            return plan;
        };
        if outcome.error.is_some() {
            return plan;
        }
        let (mut pods, mut rest) = content(cx.view, &namespace.meta.name);
        let estimate = estimate_s(&pods, namespace, cx.now);
        let had_pods = !pods.is_empty();
        pods.retain(|(object, _)| !removed.contains(object));
        rest.retain(|(object, _)| !removed.contains(object));
        if !pods.is_empty() {
            self.look_again(&pods, estimate, &mut plan);
        } else if had_pods {
            // All of them went at once: on to the rest.
            plan.requeue(Duration::ZERO);
        } else if !rest.is_empty() {
            self.look_again(&rest, 0, &mut plan);
        } else {
            let write = Write::Patch {
                object: key.into(),
                uid: Some(namespace.meta.uid),
                patch: Patch::FinalizeNamespace,
            };
            plan.write(write, "the namespace is empty");
        }
        plan
    }

    fn resync(&mut self, view: &View, _now: Time, keys: &mut Keys<Self::Key>) {
        for (id, namespace) in view.of::<Namespace>().iter() {
            if namespace.meta.deleting() {
                keys.add_after(id, GRACE);
            }
        }
    }

    fn restart(&mut self) {
        self.removed.clear();
    }
}

#[cfg(test)]
mod tests {
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
        // Deleted at 1 s, looked at at 6 s; the pod has 30 s: again 30 / 2 + 1 = 16 s later.
        assert_eq!(world.run(10), "");
        let pod = world.store.view().pods().find("shop", "web");
        assert!(pod.expect("still there").1.meta.deleting());
        world.delete(Kind::Pod, "shop", "web").expect("killed");
        assert_eq!(
            world.run(60),
            "10 shop/web, 22 shop/map, 22 shop/widget, 22 shop"
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
}
