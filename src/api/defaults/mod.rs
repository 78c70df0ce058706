//! The defaults that the API server fills in, kind by kind, on the generated types.
//!
//! Ports of `SetDefaults_*` in `pkg/apis/*/v1/defaults.go`, called in the order of
//! `zz_generated.defaults.go`: the object first, then what is inside it. Quantities are put in
//! their canonical form on the way, as a round trip through the server does. Nothing here reports
//! an error: what is wrong is left for [`super::validate`].

pub mod autoscaling;
pub mod batch;
pub mod core;
pub mod gates;
pub mod image;
pub mod policy;
pub mod rbac;
pub mod service;
pub mod storage;
pub mod webhook;
pub mod workload;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;

use super::quantity::{Format, Quantity};

/// Sets what is not there or empty.
pub(crate) fn text(field: &mut Option<String>, default: &str) {
    if field.as_deref().is_none_or(str::is_empty) {
        *field = Some(default.to_owned());
    }
}

/// Sets what is not there; upstream has a pointer, whose empty text is a value.
pub(crate) fn absent(field: &mut Option<String>, default: &str) {
    field.get_or_insert_with(|| default.to_owned());
}

/// One amount in canonical form.
pub(crate) fn amount(written: &mut Written) {
    if let Ok(canonical) = Quantity::canonical(&written.0) {
        written.0 = canonical;
    }
}

/// `SetDefaults_ResourceList`: amounts finer than a thousandth are rounded up.
pub(crate) fn resource_list(amounts: &mut Option<BTreeMap<String, Written>>) {
    for written in amounts.iter_mut().flat_map(BTreeMap::values_mut) {
        amount(written);
        let Ok(exact) = Quantity::parse(&written.0) else {
            continue;
        };
        let fine = exact.nanos() % 1_000_000;
        if fine != 0 {
            let away = if fine > 0 {
                1_000_000 - fine
            } else {
                -1_000_000 - fine
            };
            let rounded = Quantity::from_nanos(exact.nanos() + away);
            written.0 = rounded.print(Format::DecimalSi);
        }
    }
}
