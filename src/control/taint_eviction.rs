//! Taint eviction: pods leave nodes with NoExecute taints when their toleration ends.
//!
//! A port of `pkg/controller/tainteviction/taint_eviction.go` with its timed workers. Work is kept
//! per node: one key looks at every pod of a node, deletes those whose time has come, and asks to be
//! called again when the next one is due. A pod keeps the start of its clock while its node stays
//! tainted; without a matching toleration it goes at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::api::affinity::{Taint, TaintEffect, Toleration};
use crate::api::pod_status::{PodCondition, PodConditionKind, Truth};
use crate::api::{Kind, KubeEvent, Node, Pod, Text};
use crate::client::outbox::Reply;
use crate::client::{Controller, Keys, Plan, Step, SyncContext, Watches};
use crate::engine::Time;
use crate::store::{Change, Id, ObjectId, Op, Patch, Propagation, View, Write};

/// Eviction of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Starts its clock at `created`, fires at `due`.
    Scheduled { created: Time, due: Time },
    /// Was carried out; stays so that it is not done twice.
    Done,
}

/// The controller.
#[derive(Debug, Default)]
pub struct TaintEvictionController {
    work: BTreeMap<Id<Node>, BTreeMap<Id<Pod>, Work>>,
    /// Nodes with NoExecute taints: while there are none, pods that come and go concern nobody.
    tainted: BTreeSet<Id<Node>>,
}

/// `getMinTolerationTime`: the shortest of the tolerations in use; `None` is for ever.
fn min_toleration(used: &[&Toleration]) -> Option<Duration> {
    if used.is_empty() {
        return Some(Duration::ZERO);
    }
    used.iter()
        .filter_map(|t| t.seconds)
        .min()
        .map(|s| Duration::from_secs(u64::try_from(s).unwrap_or(0)))
}

/// `GetMatchingTolerations`: the tolerations in use, or `None` when a taint is not tolerated.
fn matching<'a>(taints: &[&Taint], tolerations: &'a [Toleration]) -> Option<Vec<&'a Toleration>> {
    taints
        .iter()
        .map(|taint| tolerations.iter().find(|t| t.tolerates(taint)))
        .collect()
}

fn no_execute(node: &Node) -> impl Iterator<Item = &Taint> {
    node.taints
        .iter()
        .filter(|t| t.effect == TaintEffect::NoExecute)
}

fn eviction_event(pod: &Pod, verb: &str) -> KubeEvent {
    KubeEvent {
        kind: Kind::Pod,
        namespace: pod.meta.namespace.clone(),
        name: pod.meta.name.clone(),
        uid: pod.meta.uid,
        reason: "TaintManagerEviction".into(),
        message: format!("{verb} Pod {}", pod.meta.full_name()).into(),
        warning: false,
        source: "taint-eviction-controller".into(),
    }
}

impl TaintEvictionController {
    /// `processPodOnNode`.
    fn consider(
        work: &mut BTreeMap<Id<Pod>, Work>,
        id: Id<Pod>,
        pod: &Pod,
        taints: &[&Taint],
        now: Time,
        plan: &mut Plan,
    ) {
        let mut cancel = |work: &mut BTreeMap<Id<Pod>, Work>| {
            if let Some(Work::Scheduled { .. }) = work.remove(&id) {
                plan.event(eviction_event(pod, "Cancelling deletion of"));
            }
        };
        let Some(used) = matching(taints, &pod.spec.tolerations) else {
            if work.get(&id) != Some(&Work::Done) {
                cancel(work);
                work.insert(
                    id,
                    Work::Scheduled {
                        created: now,
                        due: now,
                    },
                );
            }
            return;
        };
        let Some(tolerated) = min_toleration(&used) else {
            cancel(work);
            return;
        };
        let mut created = now;
        match work.get(&id) {
            Some(Work::Done) => return,
            Some(Work::Scheduled {
                created: before, ..
            }) => {
                created = *before;
                if created + tolerated < now + tolerated {
                    return;
                }
            }
            None => {}
        }
        work.insert(
            id,
            Work::Scheduled {
                created,
                due: created + tolerated,
            },
        );
    }

    /// Deletes the pods that are due, `addConditionAndDeletePod`.
    fn fire(work: &mut BTreeMap<Id<Pod>, Work>, cx: &SyncContext<'_>, plan: &mut Plan) {
        let mut conditions = Vec::new();
        let mut deletions = Vec::new();
        for (id, work) in work.iter_mut() {
            let Work::Scheduled { due, .. } = *work else {
                continue;
            };
            if due > cx.now {
                plan.requeue(due - cx.now);
                continue;
            }
            *work = Work::Done;
            let Some(pod) = cx.view.pods().get(*id) else {
                continue;
            };
            plan.event(eviction_event(pod, "Marking for deletion"));
            let condition = PodCondition {
                kind: PodConditionKind::DisruptionTarget,
                status: Truth::True,
                since: cx.now,
                reason: Some("DeletionByTaintManager".into()),
                message: Some("Taint manager: deleting due to NoExecute taint".into()),
                observed_generation: pod.meta.generation,
            };
            conditions.push(Write::Patch {
                object: (*id).into(),
                uid: Some(pod.meta.uid),
                patch: Patch::PodConditions {
                    conditions: vec![condition],
                    phase: None,
                    reason: None,
                },
            });
            deletions.push(Write::Delete {
                object: (*id).into(),
                uid: Some(pod.meta.uid),
                grace_s: None,
                propagation: Propagation::Background,
            });
        }
        for writes in [conditions, deletions] {
            if !writes.is_empty() {
                let rule = "the toleration of the node's NoExecute taint ended";
                plan.steps.push(Step::Parallel { writes, rule });
            }
        }
    }

    fn note(&mut self, id: Id<Node>, tainted: bool) {
        match tainted {
            true => self.tainted.insert(id),
            false => self.tainted.remove(&id),
        };
    }

    fn node_of(pod: &Pod, view: &View) -> Option<Id<Node>> {
        let name = pod.node_name.as_ref()?;
        view.nodes().named(&Text::default(), name).map(|(id, _)| id)
    }
}

impl Controller for TaintEvictionController {
    type Key = Id<Node>;
    const NAME: &'static str = "taint-eviction-controller";
    const WORKERS: usize = 8;
    const WATCHES: Watches = Watches::kind(Kind::Node).and(Watches::MOVED_PODS);

    fn keys(&mut self, change: &Change, view: &View, _now: Time, keys: &mut Keys<Id<Node>>) {
        match change.kind() {
            Kind::Node => {
                let Some((old, new)) = change.rows::<Node>() else {
                    return;
                };
                let Some(id) = change.object.and_then(ObjectId::typed::<Node>) else {
                    return;
                };
                let gone = change.op == Op::Delete;
                let tainted = new.is_some_and(|node| no_execute(node).next().is_some());
                self.note(id, tainted && !gone);
                // What is scheduled goes on when its node is gone.
                if gone {
                    return;
                }
                let taints = |node: Option<&Node>| -> Vec<Taint> {
                    node.map(|n| no_execute(n).cloned().collect())
                        .unwrap_or_default()
                };
                if taints(old) != taints(new) {
                    // Whoever was told to go and is still there is told again.
                    if let Some(work) = self.work.get_mut(&id) {
                        work.retain(|_, work| *work != Work::Done);
                    }
                    keys.add(id);
                }
            }
            Kind::Pod if self.tainted.is_empty() && self.work.is_empty() => {}
            Kind::Pod => {
                let Some((old, Some(new))) = change.rows::<Pod>() else {
                    return;
                };
                let moved = old.is_none_or(|old| {
                    let alike = Arc::ptr_eq(&old.spec, &new.spec)
                        || old.spec.tolerations == new.spec.tolerations;
                    old.node_name != new.node_name || !alike
                });
                let gone = change.op == Op::Delete && !self.work.is_empty();
                if !moved && !gone {
                    return;
                }
                let Some(node) = Self::node_of(new, view) else {
                    return;
                };
                let id = change.object.and_then(ObjectId::typed::<Pod>);
                if let (Some(work), Some(id)) = (self.work.get_mut(&node), id) {
                    match work.get(&id) {
                        Some(Work::Scheduled { .. }) if change.op == Op::Delete => {
                            work.remove(&id);
                            let event = eviction_event(new, "Cancelling deletion of");
                            keys.events.push(event);
                        }
                        Some(Work::Done) => drop(work.remove(&id)),
                        _ => {}
                    }
                }
                if change.op == Op::Delete {
                    return;
                }
                if self.tainted.contains(&node) {
                    keys.add(node);
                }
            }
            _ => {}
        }
    }

    fn sync(&mut self, key: Id<Node>, cx: &SyncContext<'_>) -> Plan {
        let mut plan = Plan::none();
        let Some(node) = cx.view.nodes().get(key) else {
            if let Some(work) = self.work.get_mut(&key) {
                Self::fire(work, cx, &mut plan);
            }
            return plan;
        };
        let taints: Vec<&Taint> = no_execute(node).collect();
        let work = self.work.entry(key).or_default();
        if taints.is_empty() {
            for (id, work) in std::mem::take(work) {
                if let (Work::Scheduled { .. }, Some(pod)) = (work, cx.view.pods().get(id)) {
                    plan.event(eviction_event(pod, "Cancelling deletion of"));
                }
            }
            self.work.remove(&key);
            return plan;
        }
        for (id, pod) in cx.view.pods().on_node(&node.meta.name) {
            Self::consider(work, id, pod, &taints, cx.now, &mut plan);
        }
        Self::fire(work, cx, &mut plan);
        plan
    }

    fn on_reply(
        &mut self,
        key: Id<Node>,
        write: &Write,
        reply: &Reply,
        cx: &SyncContext<'_>,
        _events: &mut Vec<KubeEvent>,
    ) {
        let (Write::Patch { object, .. } | Write::Delete { object, .. }) = write else {
            return;
        };
        let Some(pod) = object.typed::<Pod>() else {
            return;
        };
        match reply {
            Ok(_) | Err(crate::store::ApiError::NotFound(_)) => {}
            Err(_) => {
                // Tried again by the requeue that a failed plan gets.
                let again = Work::Scheduled {
                    created: cx.now,
                    due: cx.now,
                };
                self.work.entry(key).or_default().insert(pod, again);
            }
        }
    }

    fn resync(&mut self, view: &View, _now: Time, keys: &mut Keys<Id<Node>>) {
        self.tainted.clear();
        for (id, node) in view.nodes().iter() {
            if no_execute(node).next().is_some() {
                self.tainted.insert(id);
                keys.add(id);
            }
        }
    }

    fn restart(&mut self) {
        self.work.clear();
        self.tainted.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::affinity::TolerationOperator;
    use crate::api::{Meta, PodSpec};
    use crate::engine::Draws;
    use crate::store::{Cause, Store};
    use std::sync::Arc;

    fn toleration(seconds: Option<i64>) -> Toleration {
        Toleration {
            key: "unreachable".into(),
            operator: TolerationOperator::Exists,
            value: Text::default(),
            effect: Some(TaintEffect::NoExecute),
            seconds,
        }
    }

    fn taint(key: &str) -> Taint {
        Taint {
            key: key.into(),
            value: Text::default(),
            effect: TaintEffect::NoExecute,
            added: None,
        }
    }

    /// Deletions at each second, while the node carries the taints of `taints(second)`.
    fn run(tolerations: Vec<Toleration>, taints: impl Fn(u64) -> Vec<&'static str>) -> Vec<u64> {
        let mut store = Store::new(Draws::new(1));
        let create = |store: &mut Store, row| {
            store
                .write(&Write::Create(row), Time::ZERO, Cause::default())
                .expect("created")
        };
        let named = |name: &str| Meta {
            name: name.into(),
            ..Meta::default()
        };
        let node = Node {
            meta: named("n"),
            ..Node::default()
        };
        let node_id = create(&mut store, node.into()).object.expect("a node");
        let spec = PodSpec {
            tolerations,
            ..PodSpec::default()
        };
        let pod = Pod {
            meta: named("p"),
            spec: Arc::new(spec),
            node_name: Some("n".into()),
            ..Pod::default()
        };
        create(&mut store, pod.into());
        let mut controller = TaintEvictionController::default();
        let draws = Draws::new(1);
        let mut deleted = Vec::new();
        let key = node_id.typed::<Node>().expect("a node");
        for second in 0..400 {
            let now = Time::from_secs(second);
            let remove = vec![taint("unreachable"), taint("not-ready")];
            let add = taints(second).into_iter().map(taint).collect();
            let patch = Patch::NodeTaints { add, remove };
            let write = Write::Patch {
                object: node_id,
                uid: None,
                patch,
            };
            store.write(&write, now, Cause::default()).expect("patched");
            let cx = SyncContext {
                now,
                view: store.view(),
                draws: &draws,
            };
            let plan = controller.sync(key, &cx);
            let deletes = plan.steps.iter().any(|step| match step {
                Step::Parallel { writes, .. } => {
                    writes.iter().any(|w| matches!(w, Write::Delete { .. }))
                }
                _ => false,
            });
            if deletes {
                deleted.push(second);
            }
        }
        deleted
    }

    #[test]
    fn a_pod_leaves_when_its_toleration_ends_and_only_once() {
        let from = |start| {
            move |s: u64| {
                if s >= start {
                    vec!["unreachable"]
                } else {
                    vec![]
                }
            }
        };
        assert_eq!(run(vec![toleration(Some(300))], from(50)), [350]);
        assert_eq!(run(vec![toleration(Some(30))], from(50)), [80]);
        assert!(run(vec![toleration(None)], from(50)).is_empty());
    }

    #[test]
    fn a_taint_that_goes_away_in_time_evicts_nobody_and_the_clock_starts_anew() {
        let flap = |s: u64| match s {
            50..200 | 250.. => vec!["unreachable"],
            _ => vec![],
        };
        // 50 + 300 is never reached; 250 + 100 is.
        assert!(run(vec![toleration(Some(300))], flap).is_empty());
        assert_eq!(run(vec![toleration(Some(140))], flap), [190, 390]);
    }

    #[test]
    fn without_a_toleration_a_pod_goes_at_once() {
        let tolerates = toleration(Some(100));
        assert_eq!(run(vec![tolerates], |_| vec!["not-ready"]), [0]);
    }

    /// After `taint_eviction_test.go :: TestCreatePod`, `TestDeletePod`, `TestUpdatePod`,
    /// `TestCreateNode`, `TestDeleteNode`, `TestUpdateNode`, `TestUpdateNodeWithMultipleTaints`: a
    /// node with a taint at 0 s, a pod that tolerates it for 60 s, something at 30 s, and what was
    /// asked for and told by 90 s.
    #[test]
    fn evictions_are_scheduled_cancelled_and_carried_out() {
        use crate::control::desk::{Desk, PLAIN};
        use serde_json::json;
        let marked = "TaintManagerEviction: Marking for deletion Pod default/p";
        let cancelled = "TaintManagerEviction: Cancelling deletion of Pod default/p";
        let gone = "~pod p PodConditions, -pod p";
        let table = [
            ("nothing", gone, vec![marked]),
            ("untaint", "", vec![cancelled]),
            ("pod deleted", "", vec![cancelled]),
            ("node deleted", gone, vec![marked]),
            // the clock of the first taint goes on
            ("second taint, tolerated for 10 s", gone, vec![marked]),
            // what was scheduled is cancelled, the pod goes at once
            ("second taint, not tolerated", gone, vec![cancelled, marked]),
        ];
        for (what, asked, told) in table {
            let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
                "spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}});
            let tolerates = |key: &str, seconds: i64| {
                json!({"key": key, "operator": "Exists", "effect": "NoExecute",
                    "tolerationSeconds": seconds})
            };
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
                "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "x"}],
                    "tolerations": [tolerates("a", 60), tolerates("b", 10)]}});
            let controller = TaintEvictionController::default();
            let mut desk = Desk::new(controller, PLAIN, &[node, pod]);
            desk.pass(30.0);
            assert_eq!(desk.log(), "", "{what}");
            let node = desk.find(Kind::Node, "n1");
            let mut add = |key: &str, remove: &[&str]| {
                let patch = Patch::NodeTaints {
                    add: (!key.is_empty()).then(|| taint(key)).into_iter().collect(),
                    remove: remove.iter().copied().map(taint).collect(),
                };
                let (object, uid) = (node, None);
                desk.write(&Write::Patch { object, uid, patch });
            };
            match what {
                "untaint" => add("", &["a"]),
                "second taint, tolerated for 10 s" => add("b", &[]),
                "second taint, not tolerated" => add("c", &[]),
                "pod deleted" => desk.pods("p gone"),
                "node deleted" => desk.delete(node),
                _ => {}
            }
            desk.pass(60.0);
            assert_eq!(
                (desk.log().as_str(), desk.events()),
                (asked, told.iter().map(|t| (*t).to_owned()).collect()),
                "{what}"
            );
        }
    }
}
