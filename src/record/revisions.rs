//! Rollouts of StatefulSets and DaemonSets: how many pods there are of which revision.
//!
//! A Deployment shows its rollouts by the sizes of its ReplicaSets. These two kinds have none: what
//! is counted are pods by the label of their ControllerRevision, from a set's second revision on.
//! A rollout begins with a new template and is complete when the set reports so, as `kubectl rollout
//! status` judges it.

use std::collections::{BTreeMap, BTreeSet};

use super::causes::What;
use super::series::{ScaleStep, SpecChange};
use crate::api::stateful::{DaemonStrategy, StatefulStrategy};
use crate::api::{
    ControllerRevision, DaemonSet, Kind, Meta, Pod, PodTemplate, StatefulSet, Text, Uid,
};
use crate::engine::Time;
use crate::store::{Change, Op};

/// `apps.ControllerRevisionHashLabelKey`.
const REVISION_LABEL: &str = "controller-revision-hash";
/// What is said of a rollout that is complete.
pub const COMPLETE: &str = "RolloutComplete";

/// Pods of the sets by revision.
#[derive(Debug, Default)]
pub struct Revisions {
    /// By set and label of the revision.
    counts: BTreeMap<(Uid, Text), i32>,
    /// Name and number of a revision, by set and label.
    known: BTreeMap<(Uid, Text), (Text, i64)>,
    /// Sets that have had more than one revision.
    several: BTreeSet<Uid>,
    /// Sets whose rollout is not complete.
    open: BTreeSet<Uid>,
}

impl Revisions {
    /// A pod came, went or was labelled anew.
    pub fn on_pod(&mut self, change: &Change, steps: &mut Vec<ScaleStep>) {
        let Some((old, Some(new))) = change.rows::<Pod>() else {
            return;
        };
        let before = old.filter(|_| change.op == Op::Update).and_then(revision);
        let after = (change.op != Op::Delete).then(|| revision(new)).flatten();
        let before = match change.op {
            Op::Delete => revision(new),
            _ => before,
        };
        if before == after {
            return;
        }
        if let Some((owner, label)) = before {
            self.count(change.time, new, owner, label, -1, steps);
        }
        if let Some((owner, label)) = after {
            self.count(change.time, new, owner, label, 1, steps);
        }
    }

    fn count(
        &mut self,
        at: Time,
        pod: &Pod,
        owner: Uid,
        label: &Text,
        by: i32,
        steps: &mut Vec<ScaleStep>,
    ) {
        let key = (owner, label.clone());
        let count = self.counts.entry(key.clone()).or_default();
        let from = *count;
        *count += by;
        let to = *count;
        if !self.several.contains(&owner) {
            return;
        }
        let of = pod.meta.controller().map(|o| o.name.clone());
        let known = self.known.get(&key);
        let step = ScaleStep {
            at,
            namespace: pod.meta.namespace.clone(),
            deployment: of.unwrap_or_default(),
            replica_set: known.map_or_else(|| label.clone(), |(name, _)| name.clone()),
            revision: known.map_or_else(Text::default, |(_, n)| Text::from(n.to_string())),
            image: image(&pod.spec.containers),
            from,
            to,
        };
        // Several at one instant are one step.
        match steps.last_mut() {
            Some(last) if last.at == at && same_revision(last, &step) && last.to == from => {
                last.to = to;
            }
            _ => steps.push(step),
        }
    }

    /// A revision was made or renumbered.
    fn on_revision(&mut self, change: &Change) {
        let Some((_, Some(row))) = change.rows::<ControllerRevision>() else {
            return;
        };
        let Some(owner) = row.meta.controller().filter(|_| change.op != Op::Delete) else {
            return;
        };
        let known = (row.meta.name.clone(), row.revision);
        // Pods of a StatefulSet carry the name, those of a DaemonSet the hash.
        let label = row.meta.labels.get(REVISION_LABEL);
        let label = label.unwrap_or(&row.meta.name).clone();
        let already = (self.known.range((owner.uid, Text::default())..)).next();
        if already.is_some_and(|((uid, other), _)| *uid == owner.uid && *other != label) {
            self.several.insert(owner.uid);
        }
        self.known.insert((owner.uid, label), known);
    }

    /// A set or one of its revisions changed.
    pub fn on_change(&mut self, change: &Change, specs: &mut Vec<SpecChange>) -> Vec<What> {
        match change.kind() {
            Kind::ControllerRevision => self.on_revision(change),
            Kind::StatefulSet => {
                if let Some((Some(old), Some(new))) = change.rows::<StatefulSet>()
                    && change.op == Op::Update
                {
                    let begun = (old.template != new.template).then(|| stateful(change.time, new));
                    let begun = begun.flatten();
                    let complete = stateful_complete(new);
                    return self.follow(&new.meta, begun, complete, specs);
                }
            }
            Kind::DaemonSet => {
                if let Some((Some(old), Some(new))) = change.rows::<DaemonSet>()
                    && change.op == Op::Update
                {
                    let begun = (old.template != new.template).then(|| daemon(change.time, new));
                    let begun = begun.flatten();
                    let complete = daemon_complete(new);
                    return self.follow(&new.meta, begun, complete, specs);
                }
            }
            _ => {}
        }
        Vec::new()
    }

    fn follow(
        &mut self,
        meta: &Meta,
        begun: Option<SpecChange>,
        complete: bool,
        specs: &mut Vec<SpecChange>,
    ) -> Vec<What> {
        if let Some(spec) = begun {
            self.open.insert(meta.uid);
            specs.push(spec);
            return vec![What::DesiredChanged(meta.generation)];
        }
        if complete && self.open.remove(&meta.uid) {
            return vec![What::Progress(Text::from(COMPLETE))];
        }
        Vec::new()
    }
}

fn same_revision(a: &ScaleStep, b: &ScaleStep) -> bool {
    a.namespace == b.namespace && a.deployment == b.deployment && a.replica_set == b.replica_set
}

/// The set that a pod belongs to, and the label of its revision.
fn revision(pod: &Pod) -> Option<(Uid, &Text)> {
    let owner = pod.meta.controller()?;
    if !matches!(owner.kind, Kind::StatefulSet | Kind::DaemonSet) {
        return None;
    }
    Some((owner.uid, pod.meta.labels.get(REVISION_LABEL)?))
}

fn image(containers: &[crate::api::container::Container]) -> Text {
    containers
        .first()
        .map(|c| c.image.clone())
        .unwrap_or_default()
}

fn begins(at: Time, meta: &Meta, template: &PodTemplate, size: i32) -> SpecChange {
    SpecChange {
        at,
        deployment: meta.full_name(),
        generation: meta.generation,
        from: size,
        to: size,
        rollout: true,
        image: image(&template.spec.containers),
        ..SpecChange::default()
    }
}

/// The rollout that a new template of a StatefulSet begins, if others do not have to.
fn stateful(at: Time, set: &StatefulSet) -> Option<SpecChange> {
    let StatefulStrategy::RollingUpdate(rolling) = set.strategy else {
        return None;
    };
    let bound = rolling.and_then(|r| r.max_unavailable);
    Some(SpecChange {
        unavailable: bound.map_or(1, |b| b.scaled(set.replicas, false).max(1)),
        ..begins(at, &set.meta, &set.template, set.replicas)
    })
}

/// `StatefulSetStatusViewer.Status`.
fn stateful_complete(set: &StatefulSet) -> bool {
    let partition = match set.strategy {
        StatefulStrategy::RollingUpdate(Some(rolling)) => rolling.partition,
        _ => 0,
    };
    let status = &set.status;
    status.observed_generation >= set.meta.generation
        && status.ready >= set.replicas
        && status.updated >= set.replicas - partition
}

fn daemon(at: Time, set: &DaemonSet) -> Option<SpecChange> {
    let DaemonStrategy::RollingUpdate {
        max_surge,
        max_unavailable,
    } = set.strategy
    else {
        return None;
    };
    let desired = set.status.desired;
    Some(SpecChange {
        surge: max_surge.scaled(desired, true),
        unavailable: max_unavailable.scaled(desired, true),
        ..begins(at, &set.meta, &set.template, desired)
    })
}

/// `DaemonSetStatusViewer.Status`.
fn daemon_complete(set: &DaemonSet) -> bool {
    let status = &set.status;
    status.observed_generation >= set.meta.generation
        && status.updated >= status.desired
        && status.available >= status.desired
}
