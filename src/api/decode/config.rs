//! ConfigMaps and Secrets.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1 as core;
use serde_json::Value;

use super::DecodeContext;
use super::meta::{meta, text};
use crate::api::{ConfigMap, Labels, Secret, Text};

/// The entries of the map under a field of the JSON (bytes stay in their base64 text).
fn entries(json: &Value, field: &str) -> Labels {
    let map = json.get(field).and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .map(|(key, value)| {
            (
                Text::from(key),
                Text::from(value.as_str().unwrap_or_default()),
            )
        })
        .collect()
}

pub(super) fn config_map(source: &core::ConfigMap, json: &Value, cx: &DecodeContext) -> ConfigMap {
    ConfigMap {
        meta: meta(&source.metadata, cx),
        data: entries(json, "data"),
        binary: entries(json, "binaryData"),
        immutable: source.immutable.unwrap_or(false),
    }
}

pub(super) fn secret(source: &core::Secret, json: &Value, cx: &DecodeContext) -> Secret {
    Secret {
        meta: meta(&source.metadata, cx),
        kind: text(&source.type_),
        data: entries(json, "data"),
        immutable: source.immutable.unwrap_or(false),
    }
}

/// `stringData` is write-only: it becomes `data` (`pkg/apis/core/v1/conversion.go`).
pub(super) fn merge_string_data(secret: &mut core::Secret) {
    if let Some(plain) = secret.string_data.take() {
        let data = secret.data.get_or_insert_default();
        for (key, value) in plain {
            data.insert(key, ByteString(value.into_bytes()));
        }
    }
}
