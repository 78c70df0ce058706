//! ResourceQuotas: what a namespace has used, counted anew.
//!
//! A port of `pkg/controller/resourcequota/resource_quota_controller.go` with
//! `resource_quota_monitor.go`. Admission charges what is created; this controller gives back: when
//! an object goes, when a pod ends, and every five minutes. It also writes the first status, without
//! which a quota limits nothing.

use std::time::Duration;

use crate::api::quota::{self, Amount, Amounts, ResourceQuota};
use crate::api::{Kind, Row};
use crate::client::{Controller, Keys, Plan, SyncContext, Watches};
use crate::engine::Time;
use crate::store::{Change, Id, ObjectId, Op, View, Write};

/// The controller.
#[derive(Debug, Default)]
pub struct ResourceQuotaController;

/// `CalculateUsage`: what the objects of the namespace count as, and 0 for what none does.
fn count(quota: &ResourceQuota, view: &View, now: Time) -> Amounts {
    let zero = |name: &crate::api::Text| (name.clone(), Amount::default());
    let mut used: Amounts = quota.hard.keys().map(zero).collect();
    let namespace = &quota.meta.namespace;
    // With scopes only pods and claims are counted.
    let scoped = !quota.scopes.is_empty();
    let other = |kind: &&Kind| match **kind {
        Kind::Pod => false,
        Kind::PersistentVolumeClaim => true,
        _ => !scoped,
    };
    for &kind in Kind::ALL.iter().filter(other) {
        for (_, row) in view.rows(kind) {
            if row.meta().namespace == *namespace && quota.matches(&quota.hard, &row) {
                quota::add(&mut used, &quota.charge(&quota.hard, &row, now));
            }
        }
    }
    for (_, pod) in view.pods().in_namespace(namespace) {
        let row = Row::Pod(pod.clone());
        if quota.matches(&quota.hard, &row) {
            quota::add(&mut used, &quota.charge(&quota.hard, &row, now));
        }
    }
    used
}

/// The quota with the status that it has after a count.
pub fn counted(quota: &ResourceQuota, view: &View, now: Time) -> ResourceQuota {
    let mut new = quota.clone();
    new.status.hard = Some(quota.hard.clone());
    new.status.used = count(quota, view, now);
    new
}

/// Whether this change may give something back.
fn replenishes(change: &Change, now: Time) -> bool {
    match (change.op, &change.old, &change.new) {
        (Op::Delete, ..) => true,
        (Op::Update, Some(old), Some(new)) => quota::replenishes(old, new, now),
        _ => false,
    }
}

impl Controller for ResourceQuotaController {
    type Key = Id<ResourceQuota>;
    const NAME: &'static str = "resourcequota-controller";
    // `--resource-quota-sync-period`.
    const RESYNC: Option<Duration> = Some(Duration::from_secs(300));
    const WATCHES: Watches =
        Watches::kind(Kind::ResourceQuota).and(Watches::EVERYTHING_WITH_QUOTAS);

    fn keys(&mut self, change: &Change, view: &View, now: Time, keys: &mut Keys<Self::Key>) {
        if let Some((old, Some(new))) = change.rows::<ResourceQuota>() {
            // `UpdateFunc`: only a new spec concerns it; the status is its own.
            let spec = old.is_none_or(|old| old.hard != new.hard || old.scopes != new.scopes);
            if spec && change.op != Op::Delete {
                keys.now
                    .extend(change.object.and_then(ObjectId::typed::<ResourceQuota>));
            }
        }
        let quotas = view.of::<ResourceQuota>();
        if quotas.is_empty() || !replenishes(change, now) {
            return;
        }
        if let Some(row) = &change.new {
            let here = quotas.in_namespace(&row.meta().namespace);
            keys.now.extend(here.map(|(id, _)| id));
        }
    }

    /// `syncResourceQuota`.
    fn sync(&mut self, key: Self::Key, cx: &SyncContext<'_>) -> Plan {
        let mut plan = Plan::none();
        let Some(quota) = cx.view.of::<ResourceQuota>().get(key) else {
            return plan;
        };
        let new = counted(quota, cx.view, cx.now);
        let same = |a: &Amounts, b: &Amounts| {
            let equal = |(name, amount): (&crate::api::Text, &Amount)| {
                b.get(name).is_some_and(|b| b.quantity == amount.quantity)
            };
            a.len() == b.len() && a.iter().all(equal)
        };
        let status = &quota.status;
        let hard = status.hard.as_ref();
        if hard.is_some_and(|hard| same(hard, &quota.hard)) && same(&status.used, &new.status.used)
        {
            return plan;
        }
        let write = Write::UpdateStatus(key.into(), new.into());
        plan.write(write, "the namespace's usage was counted");
        plan
    }

    fn resync(&mut self, view: &View, _now: Time, keys: &mut Keys<Self::Key>) {
        keys.now
            .extend(view.of::<ResourceQuota>().iter().map(|(id, _)| id));
    }

    fn restart(&mut self) {}
}

#[cfg(test)]
mod tests;
