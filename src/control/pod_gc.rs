//! Pod garbage collection: pods that nobody else will ever remove.
//!
//! A port of `pkg/controller/podgc/gc_controller.go`. Every 20 s: ended pods above the threshold,
//! terminating pods on nodes that are declared out of service, pods bound to nodes that do not
//! exist (after a quarantine of 40 s), and terminating pods that were never bound.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::api::pod_status::{Phase, PodCondition, PodConditionKind, Truth};
use crate::api::{Pod, Text};
use crate::client::{Controller, Keys, Plan, SyncContext};
use crate::engine::Time;
use crate::store::{Change, Id, ObjectId, Op, Patch, Propagation, View, Write};

/// `gcCheckPeriod`.
const PERIOD: Duration = Duration::from_secs(20);
/// `quarantineTime`.
const QUARANTINE: Duration = Duration::from_secs(40);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// The controller.
#[derive(Debug)]
pub struct PodGcController {
    /// `--terminated-pod-gc-threshold`; 0 keeps all.
    threshold: usize,
    /// Ended pods and terminating pods, as the informer tells, so that a pass need not read all.
    ended: BTreeSet<Id<Pod>>,
    terminating: BTreeSet<Id<Pod>>,
    /// Missing nodes with the end of their quarantine.
    quarantine: BTreeMap<Text, Time>,
}

impl Default for PodGcController {
    fn default() -> Self {
        PodGcController::new(12_500)
    }
}

impl PodGcController {
    /// With `--terminated-pod-gc-threshold`.
    pub fn new(threshold: usize) -> Self {
        PodGcController {
            threshold,
            ended: BTreeSet::new(),
            terminating: BTreeSet::new(),
            quarantine: BTreeMap::new(),
        }
    }

    fn note(&mut self, id: Id<Pod>, pod: &Pod, gone: bool) {
        let mark = |set: &mut BTreeSet<Id<Pod>>, yes: bool| {
            if yes {
                set.insert(id)
            } else {
                set.remove(&id)
            };
        };
        mark(&mut self.ended, !gone && pod.status.phase.terminal());
        mark(&mut self.terminating, !gone && pod.meta.deleting());
    }

    /// `gcTerminated`: the oldest of those above the threshold, evicted ones first.
    fn ended(&self, view: &View, plan: &mut Plan) {
        let excess = self.ended.len().saturating_sub(self.threshold);
        if self.threshold == 0 || excess == 0 {
            return;
        }
        let mut pods: Vec<_> = self
            .ended
            .iter()
            .filter_map(|id| Some((*id, view.pods().get(*id)?)))
            .collect();
        pods.sort_by_key(|(_, pod)| {
            let evicted = pod.status.reason.as_ref().is_some_and(|r| r == "Evicted");
            (!evicted, pod.meta.created, pod.meta.name.clone())
        });
        for (id, pod) in pods.into_iter().take(excess) {
            remove(
                id,
                pod,
                None,
                "more ended pods than the garbage collection threshold",
                plan,
            );
        }
    }

    /// `gcTerminating` and `gcUnscheduledTerminating`.
    fn terminating(&self, view: &View, plan: &mut Plan) {
        for id in &self.terminating {
            let Some(pod) = view.pods().get(*id) else {
                continue;
            };
            let Some(name) = &pod.node_name else {
                remove(
                    *id,
                    pod,
                    None,
                    "terminating without ever having been bound",
                    plan,
                );
                continue;
            };
            let Some((_, node)) = view.nodes().named(&Text::default(), name) else {
                continue;
            };
            if !node.ready() && node.taints.iter().any(|t| t.key == OUT_OF_SERVICE) {
                remove(
                    *id,
                    pod,
                    None,
                    "terminating on a node that is out of service",
                    plan,
                );
            }
        }
    }

    /// `gcOrphaned`.
    fn orphaned(&mut self, view: &View, now: Time, plan: &mut Plan) {
        let exists = |name: &Text| view.nodes().named(&Text::default(), name).is_some();
        for name in view.pods().node_names(|name| !exists(name)) {
            self.quarantine
                .entry(name.clone())
                .or_insert(now + QUARANTINE);
        }
        let over: Vec<Text> = (self.quarantine.iter())
            .filter(|(_, until)| **until <= now)
            .map(|(name, _)| name.clone())
            .collect();
        for name in over {
            self.quarantine.remove(&name);
            if exists(&name) {
                continue;
            }
            for (id, pod) in view.pods().on_node(&name) {
                let condition = PodCondition {
                    kind: PodConditionKind::DisruptionTarget,
                    status: Truth::True,
                    since: now,
                    reason: Some("DeletionByPodGC".into()),
                    message: Some("PodGC: node no longer exists".into()),
                };
                remove(
                    id,
                    pod,
                    Some(condition),
                    "its node does not exist any more",
                    plan,
                );
            }
        }
    }
}

/// `markFailedAndDeletePodWithCondition`.
fn remove(
    id: Id<Pod>,
    pod: &Arc<Pod>,
    condition: Option<PodCondition>,
    rule: &'static str,
    plan: &mut Plan,
) {
    let uid = Some(pod.meta.uid);
    if !pod.status.phase.terminal() {
        let patch = Patch::PodConditions {
            conditions: condition.into_iter().collect(),
            phase: Some(Phase::Failed),
            reason: None,
        };
        plan.write(
            Write::Patch {
                object: id.into(),
                uid,
                patch,
            },
            rule,
        );
    }
    let propagation = Propagation::Background;
    plan.write(
        Write::Delete {
            object: id.into(),
            uid,
            grace_s: Some(0),
            propagation,
        },
        rule,
    );
}

impl Controller for PodGcController {
    type Key = ();
    const NAME: &'static str = "pod-garbage-collector-controller";
    const WORKERS: usize = 1;

    fn keys(&mut self, change: &Change, _view: &View, _now: Time, _keys: &mut Keys<()>) {
        let id = change.object.and_then(ObjectId::typed::<Pod>);
        if let (Some(id), Some((_, Some(pod)))) = (id, change.rows::<Pod>()) {
            self.note(id, pod, change.op == Op::Delete);
        }
    }

    fn sync(&mut self, (): (), cx: &SyncContext<'_>) -> Plan {
        let mut plan = Plan::none();
        self.ended(cx.view, &mut plan);
        self.terminating(cx.view, &mut plan);
        self.orphaned(cx.view, cx.now, &mut plan);
        // One pod that cannot be removed must not keep the others: each write is on its own.
        for step in &mut plan.steps {
            if let crate::client::Step::One { optional, .. } = step {
                *optional = true;
            }
        }
        plan.requeue(PERIOD);
        plan
    }

    fn resync(&mut self, view: &View, _now: Time, keys: &mut Keys<()>) {
        for (id, pod) in view.pods().iter() {
            self.note(id, pod, false);
        }
        keys.add(());
    }

    fn restart(&mut self) {
        *self = PodGcController::new(self.threshold);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::affinity::{Taint, TaintEffect};
    use crate::api::{Meta, Node};
    use crate::client::Step;
    use crate::engine::Draws;
    use crate::store::{Cause, Store};

    fn named(name: &str) -> Meta {
        Meta {
            name: name.into(),
            ..Meta::default()
        }
    }

    fn deletions(controller: &mut PodGcController, store: &Store, second: u64) -> Vec<String> {
        let draws = Draws::new(1);
        let cx = SyncContext {
            now: Time::from_secs(second),
            view: store.view(),
            draws: &draws,
        };
        let plan = controller.sync((), &cx);
        let name = |object: &ObjectId| {
            store
                .view()
                .row(*object)
                .map(|r| r.meta().name.to_string())
                .unwrap_or_default()
        };
        plan.steps
            .iter()
            .filter_map(|step| match step {
                Step::One {
                    write:
                        Write::Delete {
                            object,
                            grace_s: Some(0),
                            ..
                        },
                    ..
                } => Some(name(object)),
                _ => None,
            })
            .collect()
    }

    fn started(rows: Vec<crate::api::Row>, threshold: usize) -> (PodGcController, Store) {
        let mut store = Store::new(Draws::new(1));
        for row in rows {
            store
                .write(&Write::Create(row), Time::ZERO, Cause::default())
                .expect("created");
        }
        let mut controller = PodGcController::new(threshold);
        controller.resync(store.view(), Time::ZERO, &mut Keys::default());
        (controller, store)
    }

    #[test]
    fn pods_of_a_missing_node_go_after_the_quarantine() {
        let on = |name: &str, node: &str| Pod {
            meta: named(name),
            node_name: Some(node.into()),
            ..Pod::default()
        };
        let node = Node {
            meta: named("here"),
            ..Node::default()
        };
        let rows = vec![node.into(), on("a", "here").into(), on("b", "gone").into()];
        let (mut controller, store) = started(rows, 0);
        assert!(deletions(&mut controller, &store, 0).is_empty());
        assert!(deletions(&mut controller, &store, 20).is_empty());
        assert_eq!(deletions(&mut controller, &store, 40), ["b"]);
    }

    #[test]
    fn ended_pods_above_the_threshold_go_oldest_first() {
        let pod = |name: &str, phase| {
            let mut pod = Pod {
                meta: named(name),
                ..Pod::default()
            };
            pod.status.phase = phase;
            pod
        };
        let rows = vec![
            pod("c", Phase::Pending).into(),
            pod("b", Phase::Pending).into(),
            pod("a", Phase::Pending).into(),
        ];
        let (mut controller, mut store) = started(rows, 2);
        assert!(deletions(&mut controller, &store, 0).is_empty());
        let ids: Vec<_> = store.view().pods().iter().map(|(id, _)| id).collect();
        for id in ids {
            let patch = Patch::PodConditions {
                conditions: Vec::new(),
                phase: Some(Phase::Succeeded),
                reason: None,
            };
            let write = Write::Patch {
                object: id.into(),
                uid: None,
                patch,
            };
            store
                .write(&write, Time::ZERO, Cause::default())
                .expect("patched");
        }
        controller.resync(store.view(), Time::ZERO, &mut Keys::default());
        // Equal times of creation: by name.
        assert_eq!(deletions(&mut controller, &store, 20), ["a"]);
    }

    #[test]
    fn terminating_pods_go_from_a_node_that_is_out_of_service() {
        let mut pod = Pod {
            meta: named("p"),
            node_name: Some("n".into()),
            ..Pod::default()
        };
        pod.status.phase = Phase::Running;
        let taint = Taint {
            key: OUT_OF_SERVICE.into(),
            value: "nodeshutdown".into(),
            effect: TaintEffect::NoExecute,
            added: None,
        };
        for (taints, expected) in [(vec![], vec![]), (vec![taint], vec!["p"])] {
            let node = Node {
                meta: named("n"),
                taints,
                ..Node::default()
            };
            let (mut controller, mut store) = started(vec![node.into(), pod.clone().into()], 0);
            let (id, _) = store.view().pods().find("", "p").expect("the pod");
            let delete = Write::Delete {
                object: id.into(),
                uid: None,
                grace_s: Some(30),
                propagation: Propagation::Background,
            };
            store
                .write(&delete, Time::ZERO, Cause::default())
                .expect("deleted");
            controller.resync(store.view(), Time::ZERO, &mut Keys::default());
            assert_eq!(deletions(&mut controller, &store, 20), expected);
        }
    }
}
