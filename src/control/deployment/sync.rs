//! One sync of a Deployment, up to the choice of what to do; `deployment_controller.go ::
//! syncDeployment` and the first half of `sync.go`.
//!
//! A sync works on copies: what it plans to write it also does to its copies, as upstream goes on
//! with the API server's answers. The plan ends where upstream would return an error.

use std::sync::Arc;

use serde_json::Value;

use super::progress::{PROGRESSING, condition, find, has_deadline, set_condition};
use super::revision::{self, HASH_LABEL, REVISION};
use super::rolling::new_size;
use super::{Creation, event};
use crate::api::meta::recorded;
use crate::api::pod_status::Truth;
use crate::api::selector::{Operator, Requirement};
use crate::api::workload::Strategy;
use crate::api::{Deployment, Meta, ReplicaSet, Row, Text};
use crate::client::{Plan, SyncContext};
use crate::control::owner::{Claims, controller_ref};
use crate::engine::Time;
use crate::store::{Id, View, Write};

/// A ReplicaSet as it will be once the plan was carried out.
#[derive(Debug)]
pub(super) struct Set {
    /// None while it is to be created.
    pub id: Option<Id<ReplicaSet>>,
    /// The copy.
    pub row: ReplicaSet,
}

/// The working state of one sync.
#[derive(Debug)]
pub(super) struct Sync<'a> {
    pub id: Id<Deployment>,
    pub deployment: Deployment,
    /// The claimed ReplicaSets, oldest first.
    pub sets: Vec<Set>,
    pub plan: Plan,
    pub view: &'a View,
    pub now: Time,
    creation: Option<Creation>,
}

impl<'a> Sync<'a> {
    /// `syncDeployment`.
    pub(super) fn run(
        id: Id<Deployment>,
        deployment: &Deployment,
        cx: &SyncContext<'a>,
    ) -> (Plan, Option<Creation>) {
        let mut sync = Sync {
            id,
            deployment: deployment.clone(),
            sets: Vec::new(),
            plan: Plan::none(),
            view: cx.view,
            now: cx.now,
            creation: None,
        };
        sync.decide();
        (sync.plan, sync.creation)
    }

    fn decide(&mut self) {
        if self.deployment.selector.is_empty() {
            self.refuse_everything();
            return;
        }
        self.claim();
        if self.deployment.meta.deleting() {
            let new = self.newest(false);
            self.sync_status(&self.all(new), new);
            return;
        }
        self.check_paused();
        if self.deployment.paused || self.resized() {
            self.sync_size();
            return;
        }
        match self.deployment.strategy {
            Strategy::Recreate => self.rollout_recreate(),
            Strategy::RollingUpdate { .. } => self.rollout_rolling(),
        }
    }

    /// A selector that matches everything is a mistake.
    fn refuse_everything(&mut self) {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        let told = event(&self.deployment, "SelectingAll", message.into(), true);
        self.plan.event(told);
        let generation = self.deployment.meta.generation;
        if self.deployment.status.observed_generation < generation {
            self.deployment.status.observed_generation = generation;
            let row = Row::Deployment(Arc::new(self.deployment.clone()));
            let write = Write::UpdateStatus(self.id.into(), row);
            self.plan.attempt(write, "report what was counted");
        }
    }

    /// `getReplicaSetsForDeployment`, oldest first.
    fn claim(&mut self) {
        let deployment = &self.deployment;
        let sets = self.view.of::<ReplicaSet>();
        let rows = sets.owned_by(deployment.meta.uid);
        let rows = rows.chain(sets.orphans(&deployment.meta.namespace));
        let claimed = Claims::of(deployment).claim(rows, &mut self.plan);
        self.sets = claimed
            .into_iter()
            .map(|(id, row)| Set {
                id: Some(id),
                row: ReplicaSet::clone(&row),
            })
            .collect();
        self.sets.sort_by_key(|set| age_key(&set.row));
    }

    /// The ReplicaSet of the current template, the oldest if there are several
    /// (`FindNewReplicaSet`).
    fn find_newest(&self) -> Option<usize> {
        let template = &self.deployment.template;
        let mut sets = self.sets.iter();
        sets.position(|set| revision::same_template(template, &set.row.template))
    }

    /// All others, oldest first (`FindOldReplicaSets`).
    pub(super) fn old(&self, new: Option<usize>) -> Vec<usize> {
        (0..self.sets.len()).filter(|i| Some(*i) != new).collect()
    }

    /// The old ones and the new one.
    pub(super) fn all(&self, new: Option<usize>) -> Vec<usize> {
        self.old(new).into_iter().chain(new).collect()
    }

    /// `FilterActiveReplicaSets`: those that have, or should have, pods.
    pub(super) fn active(&self, sets: &[usize]) -> Vec<usize> {
        let active = |i: &usize| self.sets[*i].row.replicas > 0;
        sets.iter().copied().filter(active).collect()
    }

    /// Plans to write the status (and the revision annotation) as it is now.
    pub(super) fn write_status(&mut self, rule: &'static str) {
        let row = Row::Deployment(Arc::new(self.deployment.clone()));
        self.plan
            .write(Write::UpdateStatus(self.id.into(), row), rule);
    }

    /// `getNewReplicaSet`: the ReplicaSet of the current template with its annotations up to date;
    /// created if need be and allowed.
    pub(super) fn newest(&mut self, create: bool) -> Option<usize> {
        let new = self.find_newest();
        let old = self.old(new);
        let sets = old.iter().map(|i| &self.sets[*i].row);
        let number = revision::max_revision(sets) + 1;
        match new {
            Some(at) => self.refresh(at, number),
            None if create => self.create(number),
            None => return None,
        }
        new.or(Some(self.sets.len() - 1))
    }

    /// The existing newest ReplicaSet: its annotations, then what the Deployment says about it.
    fn refresh(&mut self, at: usize, number: i64) {
        let set = &mut self.sets[at];
        let annotations = revision::newest_annotations(&self.deployment, &set.row, number, true);
        let min_ready_s = self.deployment.min_ready_s;
        if annotations.is_some() || set.row.min_ready_s != min_ready_s {
            if let Some(annotations) = annotations {
                set.row.meta.annotations = annotations;
            }
            if set.row.min_ready_s != min_ready_s {
                let mut source = Value::clone(&set.row.source);
                revision::set_path(&mut source, &["minReadySeconds"], min_ready_s.into());
                set.row.source = Arc::new(source);
                set.row.min_ready_s = min_ready_s;
            }
            self.write_set(at, "copy annotations and minReadySeconds");
        }
        let meta = &self.sets[at].row.meta;
        let (name, number) = (meta.name.clone(), meta.annotations.get(REVISION).cloned());
        let mut changed = self.record_revision(number.unwrap_or_default());
        let none_yet = find(&self.deployment.status, PROGRESSING).is_none();
        if has_deadline(&self.deployment) && none_yet {
            let message = format!("Found new replica set \"{name}\"");
            let reason = "FoundNewReplicaSet";
            let found = condition(PROGRESSING, Truth::True, reason, message, self.now);
            set_condition(&mut self.deployment.status, found);
            changed = true;
        }
        if changed {
            self.write_status("record the revision");
        }
    }

    /// `SetDeploymentRevision`.
    fn record_revision(&mut self, number: Text) -> bool {
        let annotations = &mut self.deployment.meta.annotations;
        if annotations.get(REVISION).map_or("", |n| n) == &*number {
            return false;
        }
        *annotations = annotations.with(REVISION, number);
        true
    }

    /// A new version: its ReplicaSet is created with as many pods as may be added at once.
    fn create(&mut self, number: i64) {
        let mut row = self.template_set();
        let old = self.old(None);
        let existing = old.iter().map(|i| self.sets[*i].row.replicas).sum();
        row.replicas = new_size(&self.deployment, existing, 0);
        let annotations = revision::newest_annotations(&self.deployment, &row, number, false);
        row.meta.annotations = annotations.unwrap_or_default();
        let (name, size) = (row.meta.name.clone(), row.replicas);
        self.creation = Some(Creation {
            step: self.plan.steps.len(),
            name: name.clone(),
            deployment: self.deployment.clone(),
        });
        let created = Row::ReplicaSet(Arc::new(row.clone()));
        self.plan.write(Write::Create(created), "a new version");
        self.sets.push(Set { id: None, row });
        if size > 0 {
            let message = format!("Scaled up replica set {name} from 0 to {size}");
            let told = event(&self.deployment, "ScalingReplicaSet", message, false);
            self.plan.event(told);
        }
        let mut changed = self.record_revision(number.to_string().into());
        if has_deadline(&self.deployment) {
            let message = format!("Created new replica set \"{name}\"");
            let reason = "NewReplicaSetCreated";
            let created = condition(PROGRESSING, Truth::True, reason, message, self.now);
            set_condition(&mut self.deployment.status, created);
            changed = true;
        }
        if changed {
            self.write_status("record the revision");
        }
    }

    /// The ReplicaSet of the current template, without pods and annotations.
    fn template_set(&self) -> ReplicaSet {
        let deployment = &self.deployment;
        let hash = revision::template_hash(&deployment.template, deployment.status.collisions);
        let template = revision::with_hash(&deployment.template, &hash);
        let mut selector = deployment.selector.clone();
        selector.requirements.push(Requirement {
            key: HASH_LABEL.into(),
            operator: Operator::In,
            values: vec![Text::from(&hash)],
        });
        ReplicaSet {
            meta: Meta {
                namespace: deployment.meta.namespace.clone(),
                name: set_name(&deployment.meta.name, &hash),
                labels: template.labels.clone(),
                owners: [controller_ref(deployment)].into(),
                created: self.now,
                ..Meta::default()
            },
            min_ready_s: deployment.min_ready_s,
            selector,
            source: Arc::new(set_source(deployment, &template.source, &hash)),
            template: Arc::new(template),
            ..ReplicaSet::default()
        }
    }

    /// Plans to write a ReplicaSet as its copy is now.
    pub(super) fn write_set(&mut self, at: usize, rule: &'static str) {
        let set = &self.sets[at];
        let Some(id) = set.id else {
            // Its id is known once it was created; the next sync sees it.
            self.plan.error = Some("the replica set is not there yet".into());
            return;
        };
        let row = Row::ReplicaSet(Arc::new(set.row.clone()));
        self.plan.write(Write::Update(id.into(), row), rule);
    }
}

/// `ReplicaSetsByCreationTimestamp`: whole seconds, then names.
pub(super) fn age_key(set: &ReplicaSet) -> (Time, Text) {
    (recorded(set.meta.created), set.meta.name.clone())
}

/// The spec of a new ReplicaSet as JSON.
fn set_source(deployment: &Deployment, template: &Value, hash: &str) -> Value {
    let mut selector = deployment
        .source
        .get("selector")
        .cloned()
        .unwrap_or_default();
    revision::set_path(&mut selector, &["matchLabels", HASH_LABEL], hash.into());
    serde_json::json!({
        "minReadySeconds": deployment.min_ready_s,
        "selector": selector,
        "template": template,
    })
}

/// `generateReplicaSetName`: cut so that the name stays a DNS subdomain of 253 characters.
fn set_name(deployment: &str, hash: &str) -> Text {
    let room = 253usize.saturating_sub(hash.len() + 1);
    let cut = match deployment.char_indices().nth(room) {
        Some((at, _)) if room > 0 => &deployment[..at],
        _ => deployment,
    };
    Text::from(format!("{cut}-{hash}"))
}
