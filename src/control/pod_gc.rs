//! Pod garbage collection: pods that nobody else will ever remove.
//!
//! A port of `pkg/controller/podgc/gc_controller.go`. Every 20 s: ended pods above the threshold,
//! terminating pods on nodes that are declared out of service, pods bound to nodes that do not
//! exist (after a quarantine of 40 s), and terminating pods that were never bound.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fixedbitset::FixedBitSet;

use crate::api::meta::recorded;
use crate::api::pod_status::{Phase, PodCondition, PodConditionKind, Truth};
use crate::api::{Node, Pod, Text};
use crate::client::plan::deletion;
use crate::client::{Controller, Keys, Link, Plan, Step, SyncContext, Watches};
use crate::engine::Time;
use crate::store::{ApiError, Change, Id, ObjectId, Op, Patch, View, Write};

/// `gcCheckPeriod`.
const PERIOD: Duration = Duration::from_secs(20);
/// `quarantineTime`.
const QUARANTINE: Duration = Duration::from_secs(40);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// A set of pods: most that ever were may be in it.
#[derive(Debug, Default)]
struct Marked {
    bits: FixedBitSet,
    count: usize,
}

impl Marked {
    fn mark(&mut self, id: Id<Pod>, wanted: bool) {
        if self.has(id) != wanted {
            self.bits.grow(id.index() + 1);
            self.bits.set(id.index(), wanted);
            self.count = if wanted {
                self.count + 1
            } else {
                self.count - 1
            };
        }
    }

    fn has(&self, id: Id<Pod>) -> bool {
        self.bits.contains(id.index())
    }

    /// In order of creation.
    fn iter(&self) -> impl Iterator<Item = Id<Pod>> {
        let numbers = self.bits.ones();
        numbers.map(|n| Id::new(u32::try_from(n).expect("ids are of 32 bits")))
    }

    fn all(&self) -> Vec<Id<Pod>> {
        match self.count {
            0 => Vec::new(),
            _ => self.iter().collect(),
        }
    }
}

/// The controller.
#[derive(Debug)]
pub struct PodGcController {
    /// `--terminated-pod-gc-threshold`; 0 keeps all.
    threshold: usize,
    /// Ended pods, those of them that were evicted, and terminating pods, as the informer tells, so
    /// that a pass need not read all.
    ended: Marked,
    evicted: Marked,
    terminating: Marked,
    /// Missing nodes with the end of their quarantine.
    quarantine: BTreeMap<Text, Time>,
    /// The rosters of nodes, and of nodes with pods, of which none was missing.
    complete: Option<(u64, u64)>,
}

/// `markFailedAndDeletePodWithCondition`: a pod that cannot be marked is not deleted.
fn removal(
    id: Id<Pod>,
    pod: &Pod,
    condition: Option<PodCondition>,
    rule: &'static str,
) -> Vec<Link> {
    let (object, uid) = (id.into(), Some(pod.meta.uid));
    let patch = Patch::PodConditions {
        conditions: condition.into_iter().collect(),
        phase: Some(Phase::Failed),
        reason: None,
    };
    let mark = Write::Patch { object, uid, patch };
    let delete = deletion(object, pod.meta.uid);
    let mark = (!pod.status.phase.terminal()).then_some((mark, rule));
    mark.into_iter().chain([(delete, rule)]).collect()
}

fn evicted(pod: &Pod) -> bool {
    pod.status.reason.as_ref().is_some_and(|r| r == "Evicted")
}

/// `byEvictionAndCreationTimestamp`: the first `count`, in order.
fn first(pods: Vec<(Id<Pod>, &Arc<Pod>)>, count: usize) -> Vec<(Id<Pod>, &Arc<Pod>)> {
    // Of tens of thousands each is read once, and its name only if it decides.
    let mut keyed: Vec<_> = pods
        .into_iter()
        .map(|(id, pod)| {
            let key = (!evicted(pod), recorded(pod.meta.created));
            (key, &pod.meta.name, id, pod)
        })
        .collect();
    keyed.sort_unstable_by(|a, b| (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2)));
    keyed.truncate(count);
    keyed.into_iter().map(|(_, _, id, pod)| (id, pod)).collect()
}

/// A goroutine for each pod.
fn together(pods: &[(Id<Pod>, &Arc<Pod>)], rule: &'static str, plan: &mut Plan) {
    if pods.is_empty() {
        return;
    }
    // Who has ended is not marked: of tens of thousands that did, deletions alone.
    let ended = pods.iter().all(|(_, pod)| pod.status.phase.terminal());
    plan.steps.push(if ended {
        let objects = pods.iter().map(|(id, pod)| ((*id).into(), pod.meta.uid));
        Step::Deletions {
            objects: objects.collect(),
            rule,
        }
    } else {
        let chains = pods.iter().map(|(id, pod)| removal(*id, pod, None, rule));
        Step::Chains(chains.collect())
    });
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
            ended: Marked::default(),
            evicted: Marked::default(),
            terminating: Marked::default(),
            quarantine: BTreeMap::new(),
            complete: None,
        }
    }

    fn note(&mut self, id: Id<Pod>, pod: &Pod, gone: bool) {
        let ended = !gone && pod.status.phase.terminal();
        self.ended.mark(id, ended);
        self.evicted.mark(id, ended && evicted(pod));
        self.terminating.mark(id, !gone && pod.meta.deleting());
    }

    /// `gcTerminated`: the oldest of those above the threshold, evicted ones first.
    fn ended(&self, view: &View, plan: &mut Plan) {
        let excess = self.ended.count.saturating_sub(self.threshold);
        if self.threshold == 0 || excess == 0 {
            return;
        }
        let row = |id| Some((id, view.pods().get(id)?));
        let mut pods: Vec<_> = self.evicted.iter().filter_map(row).collect();
        // Numbers are given in the order of creation. Of tens of thousands only those are read that
        // go, and whoever was created in the same second as the last of them.
        let others = self.ended.iter().filter(|id| !self.evicted.has(*id));
        let mut second = None;
        for (id, pod) in others.filter_map(row) {
            let created = Some(recorded(pod.meta.created));
            if pods.len() >= excess && created != second {
                break;
            }
            second = created;
            pods.push((id, pod));
        }
        let pods = first(pods, excess);
        let rule = "more ended pods than the garbage collection threshold";
        together(&pods, rule, plan);
    }

    /// `gcTerminating`.
    fn terminating(&self, view: &View, plan: &mut Plan) {
        let lost =
            |node: &Node| !node.ready() && node.taints.iter().any(|t| t.key == OUT_OF_SERVICE);
        let on_lost = |(_, pod): &(Id<Pod>, &Arc<Pod>)| {
            let bound = pod.node_name.as_ref();
            let node = bound.and_then(|name| view.nodes().named(&Text::default(), name));
            node.is_some_and(|(_, node)| lost(node))
        };
        let pods = self.terminating.all().into_iter();
        let pods = pods.filter_map(|id| Some((id, view.pods().get(id)?)));
        let pods = first(pods.filter(on_lost).collect(), usize::MAX);
        let rule = "terminating on a node that is out of service";
        together(&pods, rule, plan);
    }

    /// `gcUnscheduledTerminating`.
    fn never_bound(&self, view: &View, plan: &mut Plan) {
        for id in self.terminating.all() {
            let pod = view.pods().get(id).filter(|pod| pod.node_name.is_none());
            if let Some(pod) = pod {
                let rule = "terminating without ever having been bound";
                let chain = removal(id, pod, None, rule);
                plan.steps.push(Step::Chains(vec![chain]));
            }
        }
    }

    /// `gcOrphaned`.
    fn orphaned(&mut self, view: &View, now: Time, plan: &mut Plan) {
        let exists = |name: &Text| view.nodes().named(&Text::default(), name).is_some();
        let rosters = (view.nodes().roster(), view.pods().node_roster());
        if self.complete != Some(rosters) {
            let missing = view.pods().node_names(|name| !exists(name));
            self.complete = missing.is_empty().then_some(rosters);
            for name in missing {
                let end = self.quarantine.entry(name.clone());
                end.or_insert(now + QUARANTINE);
            }
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
                    observed_generation: pod.meta.generation,
                };
                let rule = "its node does not exist any more";
                let chain = removal(id, pod, Some(condition), rule);
                plan.steps.push(Step::Chains(vec![chain]));
            }
        }
    }
}

impl Controller for PodGcController {
    type Key = ();
    const NAME: &'static str = "pod-garbage-collector-controller";
    const WORKERS: usize = 1;
    const WATCHES: Watches = Watches::ENDING_PODS;

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
        self.never_bound(cx.view, &mut plan);
        plan.requeue(PERIOD);
        plan
    }

    /// Upstream reports the error and looks again at the next pass, without any back-off.
    fn forgives(&self, _write: &Write, _error: &ApiError) -> bool {
        true
    }

    fn ends_chain(&self, _write: &Write) -> bool {
        true
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
    use crate::api::Meta;
    use crate::api::affinity::{Taint, TaintEffect};
    use crate::engine::Draws;
    use crate::store::{Cause, Propagation, Store};

    /// Asks for a deletion with a grace period.
    fn delete(store: &mut Store, pod: Id<Pod>) {
        let delete = Write::Delete {
            object: pod.into(),
            uid: None,
            grace_s: Some(30),
            propagation: Propagation::Background,
        };
        store
            .write(&delete, Time::ZERO, Cause::default())
            .expect("deleted");
    }

    fn named(name: &str) -> Meta {
        Meta {
            name: name.into(),
            ..Meta::default()
        }
    }

    /// A pod on a node.
    fn on(name: &str, node: &str) -> Pod {
        Pod {
            meta: named(name),
            node_name: Some(node.into()),
            ..Pod::default()
        }
    }

    fn deletions(controller: &mut PodGcController, store: &Store, second: u64) -> Vec<String> {
        pass(controller, store, second, false)
    }

    /// The pods that a pass deletes, when marking them is refused or not.
    fn pass(
        controller: &mut PodGcController,
        store: &Store,
        second: u64,
        refuse: bool,
    ) -> Vec<String> {
        let draws = Draws::new(1);
        let cx = SyncContext {
            now: Time::from_secs(second),
            view: store.view(),
            draws: &draws,
        };
        let plan = controller.sync((), &cx);
        assert_eq!(plan.requeue_after, Some(PERIOD));
        let mut told = Vec::new();
        for step in plan.steps {
            let chains = match step {
                Step::Chains(chains) => chains,
                Step::Deletions { objects, rule } => {
                    let chain = |(object, uid)| vec![(deletion(object, uid), rule)];
                    objects.into_iter().map(chain).collect()
                }
                step => panic!("not a removal: {step:?}"),
            };
            for (write, _) in chains.into_iter().flatten() {
                let error = ApiError::Unreachable;
                assert!(controller.forgives(&write, &error), "a look would be late");
                if refuse && controller.ends_chain(&write) {
                    break;
                }
                if let Write::Delete { object, .. } = write {
                    let row = store.view().row(object).expect("it is there");
                    told.push(row.meta().name.to_string());
                }
            }
        }
        told
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
    fn those_that_are_too_many_are_the_first_of_all_in_order() {
        // Three in each second, with names that go against the order of creation.
        let mut store = Store::new(Draws::new(1));
        for n in 0..12u64 {
            let pod = Pod {
                meta: named(&format!("p{}", n * 7 % 12)),
                ..Pod::default()
            };
            let mut write = |write| {
                let now = Time::from_millis(n * 334);
                let done = store.write(&write, now, Cause::default());
                done.expect("written").object.expect("a pod")
            };
            let object = write(Write::Create(pod.into()));
            let patch = Patch::PodConditions {
                conditions: Vec::new(),
                phase: Some(Phase::Failed),
                reason: (n % 5 == 3).then(|| ("Evicted".into(), Text::default())),
            };
            let uid = None;
            write(Write::Patch { object, uid, patch });
        }
        let view = store.view();
        let all: Vec<_> = view.pods().iter().collect();
        let all: Vec<_> = first(all, usize::MAX)
            .into_iter()
            .map(|(_, pod)| pod.meta.name.to_string())
            .collect();
        assert_eq!(all[..3], ["p9", "p8", "p0"]);
        for threshold in 1..=12 {
            let mut controller = PodGcController::new(threshold);
            controller.resync(view, Time::ZERO, &mut Keys::default());
            let told = deletions(&mut controller, &store, 20);
            assert_eq!(told, all[..12 - threshold], "{threshold}");
        }
    }

    #[test]
    fn pods_of_a_missing_node_go_after_the_quarantine() {
        let node = Node {
            meta: named("here"),
            ..Node::default()
        };
        let rows = vec![node.into(), on("a", "here").into(), on("b", "gone").into()];
        let (mut controller, store) = started(rows, 0);
        assert!(deletions(&mut controller, &store, 0).is_empty());
        assert!(deletions(&mut controller, &store, 20).is_empty());
        // What cannot be marked is not deleted; it is looked at again by the clock, and its node's
        // quarantine begins anew.
        assert!(pass(&mut controller, &store, 40, true).is_empty());
        assert!(deletions(&mut controller, &store, 60).is_empty());
        assert_eq!(deletions(&mut controller, &store, 100), ["b"]);
    }

    #[test]
    fn a_node_that_goes_and_a_pod_that_comes_are_noticed_after_passes_that_found_all_there() {
        let node = |name: &str| Node {
            meta: named(name),
            ..Node::default()
        };
        let rows = vec![
            node("stays").into(),
            node("goes").into(),
            on("a", "stays").into(),
            on("b", "goes").into(),
        ];
        let (mut controller, mut store) = started(rows, 0);
        for second in [0, 20, 40] {
            assert!(deletions(&mut controller, &store, second).is_empty());
        }
        let write = |store: &mut Store, write: Write| {
            let written = store.write(&write, Time::ZERO, Cause::default());
            written.expect("a good write");
        };
        // A pod of a node that never was.
        write(&mut store, Write::Create(on("c", "nowhere").into()));
        assert!(deletions(&mut controller, &store, 60).is_empty());
        assert_eq!(deletions(&mut controller, &store, 100), ["c"]);
        let (c, _) = store.view().pods().find("", "c").expect("it is there");
        let delete = |object| Write::Delete {
            object,
            uid: None,
            grace_s: Some(0),
            propagation: Propagation::Background,
        };
        write(&mut store, delete(c.into()));
        for second in [160, 180] {
            assert!(deletions(&mut controller, &store, second).is_empty());
        }
        let (goes, _) = store.view().nodes().find("", "goes").expect("it is there");
        write(&mut store, delete(goes.into()));
        assert!(deletions(&mut controller, &store, 200).is_empty());
        assert_eq!(deletions(&mut controller, &store, 240), ["b"]);
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
        // After `gc_controller_test.go :: TestGCTerminated` ("evicted pods are deleted first").
        let (id, _) = store.view().pods().find("", "c").expect("the pod");
        let patch = Patch::PodConditions {
            conditions: Vec::new(),
            phase: Some(Phase::Failed),
            reason: Some(("Evicted".into(), Text::default())),
        };
        let (object, uid) = (id.into(), None);
        let write = Write::Patch { object, uid, patch };
        store
            .write(&write, Time::ZERO, Cause::default())
            .expect("patched");
        controller.resync(store.view(), Time::ZERO, &mut Keys::default());
        assert_eq!(deletions(&mut controller, &store, 40), ["c"]);
    }

    /// After `TestGCUnscheduledTerminating`.
    #[test]
    fn terminating_pods_that_were_never_bound_go_at_once() {
        let pod = |name: &str, node: Option<&str>| Pod {
            meta: named(name),
            node_name: node.map(Text::from),
            ..Pod::default()
        };
        let rows = vec![
            pod("waits", None).into(),
            pod("going", None).into(),
            pod("runs", Some("n")).into(),
        ];
        let (mut controller, mut store) = started(rows, 0);
        for name in ["going", "runs"] {
            let (id, pod) = store.view().pods().find("", name).expect("the pod");
            let mut held = Pod::clone(pod);
            held.meta.finalizers = [Text::from("example.com/held")].into();
            let write = Write::Update(id.into(), held.into());
            store
                .write(&write, Time::ZERO, Cause::default())
                .expect("held");
            delete(&mut store, id);
        }
        controller.resync(store.view(), Time::ZERO, &mut Keys::default());
        assert_eq!(deletions(&mut controller, &store, 20), ["going"]);
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
            delete(&mut store, id);
            controller.resync(store.view(), Time::ZERO, &mut Keys::default());
            assert_eq!(deletions(&mut controller, &store, 20), expected);
        }
    }
}
