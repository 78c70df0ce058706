//! ResourceQuotas and LimitRanges.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;
use serde_json::Value;

use super::DecodeContext;
use super::meta::{list, meta};
use super::workload::spec_json;
use crate::api::Text;
use crate::api::quota::{
    Amount, Amounts, LimitItem, LimitRange, QuotaStatus, ResourceQuota, Scope,
};

fn amounts(source: &Option<BTreeMap<String, Written>>) -> Amounts {
    let all = source.iter().flatten();
    all.map(|(name, amount)| (Text::from(name), Amount::parse(&amount.0)))
        .collect()
}

pub(super) fn resource_quota(
    source: &core::ResourceQuota,
    json: &Value,
    cx: &DecodeContext,
) -> ResourceQuota {
    let spec = source.spec.as_ref();
    let status = source.status.as_ref();
    let mut scopes: Vec<Scope> = Vec::new();
    for name in spec.map_or(&[][..], |spec| list(&spec.scopes)) {
        scopes.push(Scope {
            name: name.into(),
            operator: "Exists".into(),
            values: Vec::new(),
        });
    }
    let selector = spec.and_then(|spec| spec.scope_selector.as_ref());
    for one in selector.map_or(&[][..], |s| list(&s.match_expressions)) {
        scopes.push(Scope {
            name: one.scope_name.as_str().into(),
            operator: one.operator.as_str().into(),
            values: list(&one.values).iter().map(Text::from).collect(),
        });
    }
    ResourceQuota {
        meta: meta(&source.metadata, cx),
        hard: spec.map(|spec| amounts(&spec.hard)).unwrap_or_default(),
        scopes,
        source: spec_json(json),
        status: QuotaStatus {
            hard: status
                .filter(|status| status.hard.is_some())
                .map(|status| amounts(&status.hard)),
            used: status.map(|s| amounts(&s.used)).unwrap_or_default(),
        },
    }
}

pub(super) fn limit_range(
    source: &core::LimitRange,
    json: &Value,
    cx: &DecodeContext,
) -> LimitRange {
    let items = source.spec.iter().flat_map(|spec| &spec.limits);
    LimitRange {
        meta: meta(&source.metadata, cx),
        limits: items
            .map(|item| LimitItem {
                kind: item.type_.as_str().into(),
                max: amounts(&item.max),
                min: amounts(&item.min),
                default: amounts(&item.default),
                default_request: amounts(&item.default_request),
                max_ratio: amounts(&item.max_limit_request_ratio),
            })
            .collect(),
        source: spec_json(json),
    }
}
