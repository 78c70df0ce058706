//! `metadata`, instants and the small values that all kinds share.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
use k8s_openapi::jiff::Timestamp;

use super::DecodeContext;
use crate::api::meta::Deletion;
use crate::api::{Kind, Labels, Meta, OwnerRef, Text, Uid};
use crate::engine::Time;

/// `metadata` as a row holds it. Uids of a cluster's own objects become stable numbers.
pub(super) fn meta(source: &metav1::ObjectMeta, cx: &DecodeContext) -> Meta {
    let deletion = source.deletion_timestamp.as_ref().map(|at| Deletion {
        at: cx.time(at.0),
        grace_s: count(source.deletion_grace_period_seconds.unwrap_or(0)),
    });
    Meta {
        namespace: text(&source.namespace),
        name: text(&source.name),
        generate_name: text(&source.generate_name),
        uid: source.uid.as_deref().map(uid).unwrap_or_default(),
        revision: text(&source.resource_version).parse().unwrap_or(0),
        generation: count(source.generation.unwrap_or(0)),
        labels: labels(&source.labels),
        annotations: labels(&source.annotations),
        owners: list(&source.owner_references).iter().map(owner).collect(),
        finalizers: texts(&source.finalizers).into(),
        created: instant(&source.creation_timestamp, cx),
        deletion,
    }
}

fn owner(source: &metav1::OwnerReference) -> OwnerRef {
    let kind = Kind::from_name(&source.kind)
        .filter(|kind| kind.api_version() == source.api_version)
        .unwrap_or(Kind::Inert);
    OwnerRef {
        kind,
        api_version: source.api_version.as_str().into(),
        kind_name: source.kind.as_str().into(),
        name: source.name.as_str().into(),
        uid: uid(&source.uid),
        controller: source.controller.unwrap_or(false),
        block_owner_deletion: source.block_owner_deletion.unwrap_or(false),
    }
}

/// The number behind a uid: that of our own printed form, else a hash of the text (FNV-1a) with
/// the highest of 48 bits set, far from the numbers that a store counts up from 1.
pub(crate) fn uid(text: &str) -> Uid {
    if text.is_empty() {
        return Uid::default();
    }
    if let Some(hex) = text.strip_prefix("00000000-0000-4000-8000-")
        && let Ok(number) = u64::from_str_radix(hex, 16)
    {
        return Uid(number);
    }
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Uid((hash & 0x7fff_ffff_ffff) | 0x8000_0000_0000)
}

/// An instant of an optional timestamp; the beginning of the run when there is none.
pub(super) fn instant(time: &Option<metav1::Time>, cx: &DecodeContext) -> Time {
    time.as_ref().map_or(Time::ZERO, |time| cx.time(time.0))
}

impl DecodeContext {
    /// The instant of the run at which this timestamp falls; the beginning for earlier ones.
    pub fn time(&self, timestamp: Timestamp) -> Time {
        let nanos = timestamp.as_nanosecond() - i128::from(self.epoch_s) * 1_000_000_000;
        Time::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }
}

pub(super) fn text(value: &Option<String>) -> Text {
    Text::from(value.as_deref().unwrap_or_default())
}

pub(super) fn some_text(value: &Option<String>) -> Option<Text> {
    value
        .as_deref()
        .filter(|text| !text.is_empty())
        .map(Text::from)
}

pub(super) fn texts(values: &Option<Vec<String>>) -> Vec<Text> {
    list(values).iter().map(Text::from).collect()
}

pub(super) fn labels(pairs: &Option<BTreeMap<String, String>>) -> Labels {
    pairs
        .iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect()
}

pub(super) fn list<T>(values: &Option<Vec<T>>) -> &[T] {
    values.as_deref().unwrap_or_default()
}

/// A count that the API holds in 64 signed bits.
pub(super) fn count(value: i64) -> u32 {
    u32::try_from(value.max(0)).unwrap_or(u32::MAX)
}

/// A count that the API holds in 32 signed bits.
pub(super) fn count32(value: Option<i32>) -> u32 {
    u32::try_from(value.unwrap_or(0)).unwrap_or(0)
}

/// A port number; validation has seen to the range where it matters.
pub(super) fn port(value: i32) -> u16 {
    u16::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_of_a_snapshot_become_stable_numbers_and_our_own_come_back() {
        let foreign = uid("5d1f8c3e-88ab-4a6c-9d0f-3c54f7f5b1a2");
        assert_eq!(foreign, uid("5d1f8c3e-88ab-4a6c-9d0f-3c54f7f5b1a2"));
        assert_ne!(foreign, uid("5d1f8c3e-88ab-4a6c-9d0f-3c54f7f5b1a3"));
        assert_eq!(uid(&foreign.to_string()), foreign);
        assert_eq!(uid(&Uid(17).to_string()), Uid(17));
        assert_eq!(uid(""), Uid(0));
    }
}
