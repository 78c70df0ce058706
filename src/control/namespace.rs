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

use crate::api::pod_status::Truth;
use crate::api::workload::WorkloadCondition;
use crate::api::{Kind, KubeEvent, Namespace, Row, Text};
use crate::client::outbox::Reply;
use crate::client::work_queue::BASE_DELAY;
use crate::client::{Controller, Keys, Outcome, Plan, Step, SyncContext, Watches};
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

/// What a look at a namespace found, for its conditions.
#[derive(Default)]
struct Left {
    /// Deletions that failed.
    failures: Vec<String>,
    /// How many objects of each resource are left (`configmaps.`, `deployments.apps`).
    resources: BTreeMap<String, usize>,
    /// How many of them wait for each finalizer.
    finalizers: BTreeMap<Text, usize>,
}

/// `configmaps.`: resource and group.
fn printed_resource(row: &Row) -> (String, String) {
    let (api_version, plural) = match row {
        Row::Inert(inert) => {
            let kind = inert.kind.to_ascii_lowercase();
            (inert.api_version.as_str(), format!("{kind}s"))
        }
        row => (row.kind().api_version(), row.kind().plural().to_owned()),
    };
    (api_version.to_owned(), plural)
}

/// `apps/v1, Resource=deployments`, as Go prints a GroupVersionResource.
fn resource_of(row: &Row) -> String {
    let (api_version, plural) = printed_resource(row);
    let slash = if api_version.contains('/') { "" } else { "/" };
    format!("{slash}{api_version}, Resource={plural}")
}

impl Left {
    fn of(rows: &[(ObjectId, Row)]) -> Left {
        let mut left = Left::default();
        for (_, row) in rows {
            let (api_version, plural) = printed_resource(row);
            let group = api_version.split_once('/').map_or("", |(group, _)| group);
            *left
                .resources
                .entry(format!("{plural}.{group}"))
                .or_default() += 1;
            for finalizer in row.meta().finalizers.iter() {
                *left.finalizers.entry(finalizer.clone()).or_default() += 1;
            }
        }
        left
    }

    /// Notes that items remain which nothing holds.
    fn fail(&mut self, plan: &Plan, namespace: &Namespace, resource: &str) {
        if let Some(error) = &plan.error {
            let name = &namespace.meta.name;
            self.failures
                .push(format!("{error}: {name} for gvr: {resource}"));
        }
    }

    /// Writes the conditions if they have changed (`status_condition_utils.go`). Discovery of
    /// resources never fails here.
    fn tell(mut self, key: Id<Namespace>, namespace: &Namespace, now: Time, plan: &mut Plan) {
        self.failures.sort_unstable();
        let listed = |all: Vec<String>| (!all.is_empty()).then(|| all.join(", "));
        let failed = listed(self.failures.clone()).map(|list| {
            let count = self.failures.len();
            format!("Failed to delete all resource types, {count} remaining: {list}")
        });
        let resources = self.resources.iter();
        let resources = resources.map(|(name, n)| format!("{name} has {n} resource instances"));
        let finalizers = self.finalizers.iter();
        let finalizers = finalizers.map(|(name, n)| format!("{name} in {n} resource instances"));
        let resources =
            listed(resources.collect()).map(|list| format!("Some resources are remaining: {list}"));
        let finalizers = listed(finalizers.collect())
            .map(|list| format!("Some content in the namespace has finalizers remaining: {list}"));
        let said = [None, None, failed, resources, finalizers];
        let old = &namespace.status.conditions;
        let new: Vec<WorkloadCondition> = CONDITIONS
            .iter()
            .zip(said)
            .map(|(known, message)| condition(known, message, old, now))
            .collect();
        if new != *old {
            let write = Write::Patch {
                object: key.into(),
                uid: Some(namespace.meta.uid),
                patch: Patch::NamespaceConditions(new),
            };
            plan.attempt(write, "how far the deletion is");
        }
    }
}

/// A condition: its type, its reason when it holds, and reason and message when it does not.
type Known = (&'static str, &'static str, &'static str, &'static str);

/// `conditionTypes`, `okReasons`, `okMessages`.
const CONDITIONS: [Known; 5] = [
    (
        "NamespaceDeletionDiscoveryFailure",
        "DiscoveryFailed",
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "GroupVersionParsingFailed",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeletionFailed",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    (
        "NamespaceContentRemaining",
        "SomeResourcesRemain",
        "ContentRemoved",
        "All content successfully removed",
    ),
    (
        "NamespaceFinalizersRemaining",
        "SomeFinalizersRemain",
        "ContentHasNoFinalizers",
        "All content-preserving finalizers finished",
    ),
];

/// `updateConditions`, for one: the transition is when its status changed.
fn condition(
    (kind, reason, ok_reason, ok_message): &Known,
    message: Option<String>,
    old: &[WorkloadCondition],
    now: Time,
) -> WorkloadCondition {
    let status = match message.is_some() {
        true => Truth::True,
        false => Truth::False,
    };
    let before = old.iter().find(|c| c.kind == *kind && c.status == status);
    let since = before.map_or(now, |c| c.since);
    let reason = if message.is_some() { reason } else { ok_reason };
    WorkloadCondition {
        kind: Text::from(*kind),
        status,
        reason: Text::from(*reason),
        message: message.map_or_else(|| Text::from(*ok_message), Text::from),
        updated: since,
        since,
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
    const WATCHES: Watches = Watches::kind(Kind::Namespace);

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
        if let Some(error) = &outcome.error {
            let left = Left {
                failures: vec![error.to_string()],
                ..Left::default()
            };
            left.tell(key, namespace, cx.now, &mut plan);
            return plan;
        }
        let (mut pods, mut rest) = content(cx.view, &namespace.meta.name);
        let estimate = estimate_s(&pods, namespace, cx.now);
        let had_pods = !pods.is_empty();
        pods.retain(|(object, _)| !removed.contains(object));
        rest.retain(|(object, _)| !removed.contains(object));
        if !pods.is_empty() {
            self.look_again(&pods, estimate, &mut plan);
            let mut left = Left::default();
            left.fail(&plan, namespace, "/v1, Resource=pods");
            left.tell(key, namespace, cx.now, &mut plan);
        } else if had_pods {
            // All of them went at once: on to the rest.
            plan.requeue(Duration::ZERO);
        } else if !rest.is_empty() {
            self.look_again(&rest, 0, &mut plan);
            let mut left = Left::of(&rest);
            left.fail(&plan, namespace, &resource_of(&rest[0].1));
            left.tell(key, namespace, cx.now, &mut plan);
        } else {
            Left::default().tell(key, namespace, cx.now, &mut plan);
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
mod tests;
