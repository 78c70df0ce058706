//! The ResourceQuota admission: a request is refused when it would exceed a quota, else charged.
//!
//! A port of `staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go ::
//! CheckRequest`. Usage goes up here, at once and by what is requested; it goes down only when the
//! quota controller counts anew.

use super::view::View;
use super::write::{ApiError, ObjectId, resource_name};
use crate::api::quota::{self, Amounts, ResourceQuota, pretty};
use crate::api::{Row, Text};
use crate::engine::Time;

fn forbidden(row: &Row, why: &str) -> ApiError {
    let what = match row {
        Row::Inert(inert) => format!("{} \"{}\"", inert.kind, inert.meta.name),
        _ => resource_name(row.kind(), row.meta()),
    };
    ApiError::Forbidden(format!("{what} is forbidden: {why}"))
}

/// The quotas as they are after this request: a creation (`old` is none) or an update.
pub(super) fn check(
    row: &Row,
    old: Option<&Row>,
    view: &View,
    now: Time,
) -> Result<Vec<(ObjectId, Row)>, ApiError> {
    let namespace = &row.meta().namespace;
    let quotas = view.of::<ResourceQuota>();
    if namespace.is_empty() || quotas.is_empty() {
        return Ok(Vec::new());
    }
    let mut charged = Vec::new();
    for (id, quota) in quotas.in_namespace(namespace) {
        // What was never counted limits nothing yet.
        let Some(hard) = &quota.status.hard else {
            continue;
        };
        // The request that creates a quota is not limited by itself.
        if !quota.matches(hard, row) || row.meta().uid == quota.meta.uid {
            continue;
        }
        let name = &quota.meta.name;
        quota
            .constraints(hard, row)
            .map_err(|why| forbidden(row, &format!("failed quota: {name}: {why}")))?;
        if let Some(names) = quota.uncounted(hard, row) {
            let why = format!("status unknown for quota: {name}, resources: {names}");
            return Err(forbidden(row, &why));
        }
        let mut delta = quota.charge(hard, row, now);
        if let Some(old) = old.filter(|old| quota.matches(hard, old)) {
            subtract(&mut delta, &quota.charge(hard, old, now));
        }
        delta.retain(|_, amount| amount.quantity.nanos() != 0);
        if delta.is_empty() {
            continue;
        }
        let mut used = quota.status.used.clone();
        quota::add(&mut used, &delta);
        let exceeded = |name: &Text| match (used.get(name), hard.get(name)) {
            (Some(used), Some(hard)) => used.quantity > hard.quantity,
            _ => false,
        };
        if delta.keys().any(exceeded) {
            let of = |amounts: &Amounts| {
                let over = amounts
                    .iter()
                    .filter(|(name, _)| delta.contains_key(*name) && exceeded(name));
                pretty(&over.map(|(n, a)| (n.clone(), *a)).collect())
            };
            let why = format!(
                "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
                of(&delta),
                of(&quota.status.used),
                of(hard)
            );
            return Err(forbidden(row, &why));
        }
        let mut new = ResourceQuota::clone(quota);
        new.status.used = used;
        charged.push((id.into(), new.into()));
    }
    Ok(charged)
}

/// `SubtractWithNonNegativeResult`.
fn subtract(from: &mut Amounts, amounts: &Amounts) {
    for (name, amount) in from.iter_mut() {
        let less = amounts.get(name).map_or(0, |a| a.quantity.nanos());
        let left = (amount.quantity.nanos() - less).max(0);
        amount.quantity = crate::api::quantity::Quantity::from_nanos(left);
    }
}
